"""Training: steps of a network on noise, against the devices' own rates of matrix products and of copying."""

from __future__ import annotations

import argparse
import math
import time
from collections import deque
from typing import Any, get_args

import jax
import yaml
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import ConfigError, one_line
from data_prep.preparation.store import Store
from emulator.benchmarks.synthetic import synthetic_store, vertical_for
from emulator.benchmarks.table import Row, Table
from emulator.config import MeshConfig, ModelConfig, Precision, RolloutStage, TrainConfig, load_config
from emulator.hardware.machine import copy_rate, describe, factors_of
from emulator.models.layers import count_parameters
from emulator.training.budget import AHEAD, Programs
from emulator.training.devices import WHOLE
from emulator.training.job import set_up
from emulator.training.loader import Batch, Shape
from emulator.training.train_step import Norms, Task, TrainState

DEMO_NETWORK = (
    "{kind: unet, patch: 2, width: 64, multipliers: [1], blocks: 4, global_truncation: 4, advection: true, "
    "interpolation: cubic, vertical_motion: true, column_width: 128}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    add_model(parser)
    parser.add_argument("--levels", type=int, default=8, help="levels of the four upper-air variables (8)")
    parser.add_argument("--batch", type=int, help="windows a step (the config's, or 8)")
    parser.add_argument("--rollout", type=int, default=1, help="model steps of a window (1)")
    parser.add_argument("--free-steps", type=int, default=0, help="steps before these without a gradient (0)")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a batch (1)")
    parser.add_argument("--rematerialise", action="store_true", help="compute again instead of keeping")
    parser.add_argument("--optimiser", choices=("adamw", "muon"), help="(the config's, or adamw)")
    parser.add_argument("--bands", type=int, default=1, help="devices that share latitudes (1)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure (5)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which network, on which grid."""
    text = "model section of a config, as YAML, or a config that has one (the demo's network)"
    parser.add_argument("--model", default=DEMO_NETWORK, help=text)
    parser.add_argument("--rows", type=int, help="rows of the Gaussian grid (of the config's nature run, or 32)")
    parser.add_argument("--precision", choices=get_args(Precision), help="(the config's, or float32)")


def take_model(arguments: argparse.Namespace) -> ModelConfig:
    """The network; of a config, what was left out is the config's, too.

    Raises:
      ConfigError: it is neither a config nor a model section.
    """
    usual: dict[str, Any] = {"rows": 32, "batch": 8, "optimiser": "adamw", "precision": "float32"}
    if arguments.model.lstrip().startswith("{"):
        model = parse_model(arguments.model)
    else:
        config = load_config(arguments.model)
        model, train = config.model, config.train
        usual |= {"batch": train.batch_size, "optimiser": train.optimiser, "precision": train.precision}
        if config.simulate is not None:  # on a quadratic grid
            usual["rows"] = 2 * math.ceil((3 * config.simulate.output_truncation + 1) / 4)
    for name in usual.keys() & vars(arguments).keys():
        if getattr(arguments, name) is None:
            setattr(arguments, name, usual[name])
    return model


def parse_model(text: str) -> ModelConfig:
    """A model section.

    Raises:
      ConfigError: it is none.
    """
    try:
        return TypeAdapter(ModelConfig).validate_python(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"--model {text}: {one_line(error)}") from None


def training_of(arguments: argparse.Namespace) -> TrainConfig:
    """What these arguments ask for, a single step of it."""
    return TrainConfig(
        batch_size=arguments.batch,
        stages=[RolloutStage(steps=1, rollout=arguments.rollout, free_steps=arguments.free_steps)],
        accumulate=arguments.accumulate,
        rematerialise=arguments.rematerialise,
        optimiser=arguments.optimiser,
        precision=arguments.precision,
        mesh=MeshConfig(space=arguments.bands),
        validation_steps=1,
    )


def store_for(arguments: argparse.Namespace, model: ModelConfig) -> Store:
    """Made-up data, enough of them for a batch."""
    longest = (arguments.free_steps + arguments.rollout) * model.time_steps[-1]
    n_times = arguments.batch + longest + 8
    return synthetic_store(arguments.rows, arguments.levels, n_times, vertical_for(model))


def described(model: ModelConfig, parameters: int, shape: Shape) -> str:
    """What is measured, in a line of the table."""
    behind = f" behind {shape.free}" if shape.free else ""
    return f"{model.kind}, {parameters / 1e6:.3g} M parameters, {shape.windows} windows of {shape.steps} steps{behind}"


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table."""
    model, config = take_model(arguments), training_of(arguments)
    store = store_for(arguments, model)
    job = set_up(config, model, store, 0)
    state = job.layout.place(job.fresh, WHOLE)
    programs = Programs(job.step, state, job.task, store, job.layout, config)
    shape = job.spans[0].windows.longest
    program = programs.of(shape)
    batch = job.spans[0].windows.batch(0, job.layout)
    seconds = _seconds_per_step(program, state, batch, job.task, arguments.seconds)
    rate = job.layout.matrix_rate(arguments.precision)
    operations = job.spans[0].operations * shape.model_steps
    parameters = count_parameters(job.fresh.params)
    windows, factors = arguments.batch / seconds, factors_of(arguments.precision)
    rows = [
        Row(
            described(model, parameters, shape),
            operations / seconds / 1e9,
            "GFLOP/s",
            rate / 1e9,
            f"{factors} matrix products",
        ),
        Row("windows", windows, "1/s"),
        Row("step", seconds, "s"),
        Row("memory", programs.memory(shape) / 2**20, "MiB"),
    ]
    if shape.model_steps == arguments.accumulate == 1:  # the account of traffic counts loops once
        traffic, copied = programs.traffic(shape), copy_rate()
        bounds = {"arithmetic": operations / rate, "memory traffic": traffic / copied}
        bound = max(bounds, key=lambda name: bounds[name])
        rows[1] = Row("windows", windows, "1/s", arguments.batch / bounds[bound], f"roofline, bound by {bound}")
        rows.insert(1, Row("memory traffic of a device", traffic / seconds / 1e9, "GB/s", copied / 1e9, "copy"))
    return [Table("Training", describe(), rows)]


def _seconds_per_step(
    program: jax.stages.Compiled, state: TrainState, batch: Batch, task: Task, seconds: float
) -> float:
    """Of the best of three windows of steps, dispatched as training does it: the host waits for earlier norms only."""

    def take(n: int) -> float:
        nonlocal state
        norms: deque[Norms] = deque()
        start = time.perf_counter()
        for _ in range(n):
            state, latest = program(state, batch, task)
            norms.append(latest)
            if len(norms) > AHEAD:
                float(norms.popleft().loss)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / n

    take(1)  # finds caches cold
    n = max(2, round(seconds / _WINDOWS / take(1)))
    return min(take(n) for _ in range(_WINDOWS))


_WINDOWS = 3
