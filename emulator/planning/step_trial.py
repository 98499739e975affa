"""How long an optimiser step takes on this machine: the step that training compiles, timed on made-up fields."""

from __future__ import annotations

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from data_prep.grid import Grid
from data_prep.preparation.statistics import Statistics
from data_prep.spec import StateSpec
from emulator.config import ModelConfig, TrainConfig
from emulator.stepping.stepper import make_stepper
from emulator.training.devices import WHOLE, Layout
from emulator.training.loader import Batch
from emulator.training.losses import Objective
from emulator.training.train_step import Task, TrainState, make_train_step

_LEAST, _SECONDS = 3, 1.0  # steps, and how long they are repeated


def measured_seconds(model: ModelConfig, spec: StateSpec, grid: Grid, config: TrainConfig) -> float:
    """Median wall time of a step of the config's first stage. Needs no store; compiles, which takes some seconds."""
    layout = Layout.of(config.mesh)
    step, fresh, task = made_up_task(model, spec, grid, config, layout)
    state = layout.place(fresh, WHOLE)
    task = layout.place(task, task.specs())
    n_state, n_forcing = len(spec.state_channels), len(spec.forcing_channels)
    batch = _made_up(config, (*grid.shape, n_state), (*grid.shape, n_forcing), layout)
    times: list[float] = []
    while len(times) < 2 + _LEAST or sum(times[2:]) < _SECONDS:
        start = time.perf_counter()
        state, norms = step(state, batch, task)
        jax.block_until_ready(norms)
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))  # the first one compiles, the second finds caches cold


def made_up_task(
    model: ModelConfig, spec: StateSpec, grid: Grid, config: TrainConfig, layout: Layout
) -> tuple[jax.stages.Wrapped, TrainState, Task]:
    """The step to be compiled, the state before the first one and its task on the host, of data of no kind at all."""
    n_state, n_forcing, n_static = map(len, (spec.state_channels, spec.forcing_channels, spec.static_channels))
    moments = [make(n, np.float32) for n in (n_state, n_state, n_forcing, n_static) for make in (np.zeros, np.ones)]
    static = np.zeros((*grid.shape, n_static), np.float32)
    statistics = Statistics(*moments)
    if len(model.time_steps) > 1:
        longer = np.ones((len(model.time_steps) - 1, n_state), np.float32)
        statistics = replace(statistics, longer_tendency_std=longer)
    hours = np.timedelta64(6, "h")  # or any other
    stepper, params = make_stepper(model, spec, grid, hours, statistics, static, precision=config.precision, seed=0)
    objective = Objective(
        jnp.asarray(grid.latitude_weights, jnp.float32),
        jnp.ones((len(config.stages), n_state)),
        jnp.int32(0),
        jnp.zeros((n_state, 0)),
        jnp.zeros((len(model.time_steps), 0)),
    )
    task = Task(stepper, objective, config.rematerialise)
    return make_train_step(config, layout, seed=0), TrainState.fresh(params, config), task


def _made_up(config: TrainConfig, state: tuple[int, ...], forcing: tuple[int, ...], layout: Layout) -> Batch:
    stage, n = config.stages[0], config.batch_sizes[0]
    draw = np.random.default_rng(0).standard_normal
    parts = [
        draw((times, *shape), np.float32) for times, shape in ((stage.rollout + 1, state), (stage.rollout, forcing))
    ]
    parts.append(np.zeros((), np.int32))  # all windows go by the same step
    here = layout.windows_here(n)
    return Batch(*(layout.place_windows(here, np.broadcast_to(p, (here.size, *p.shape)), n) for p in parts))
