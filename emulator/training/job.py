"""What is trained on, and with what: all that there is before the first step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grain
import jax
import numpy as np
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Store, open_store
from emulator.anomalies import anomalies_of
from emulator.config import ModelConfig, TrainConfig
from emulator.hardware.launcher import processes_here
from emulator.hardware.machine import host_memory
from emulator.run_folder import run_folder
from emulator.stepping.constraints import Constraints
from emulator.stepping.longer_steps import with_longer_steps
from emulator.stepping.stepper import Stepper, advection_of, make_stepper
from emulator.training.arriving import Arriving
from emulator.training.budget import Programs, amount, check_memory, check_validation_memory, step_flops
from emulator.training.devices import Layout
from emulator.training.loader import Batch, Shape, Windows
from emulator.training.losses import Objective, weights_by_stage
from emulator.training.on_devices import OnDevices
from emulator.training.start_from import check_start, pretrained_weights
from emulator.training.train_step import Task, TrainState, make_train_step, unrolled
from emulator.training.validation import Validation

logger = logging.getLogger(__name__)

_IN_MEMORY_BYTES, _IN_MEMORY_SHARE, _AT_MOST = 2 * 2**30, 0.25, 0.5


@dataclass(frozen=True)
class StageSpan:
    """Steps ``[start, stop)`` of training, the windows they use, and what each of them computes.

    Attributes:
      start, stop: Of the whole training.
      windows: Of this stage.
      operations: Of a rollout of one model step, by ``budget.step_flops``.
    """

    start: int
    stop: int
    windows: Windows
    operations: int

    def batches(self, steps: range, layout: Layout, held: OnDevices | None = None) -> grain.DatasetIterator[Batch]:
        """The batches of steps of the whole training, in order."""
        return self.windows.batches((step - self.start for step in steps), layout, held)

    def shape(self, step: int) -> Shape:
        """Of that batch."""
        return self.windows.shape(step - self.start)

    def times(self, step: int) -> list[str]:
        """Initial times of that batch."""
        return [f"{t!s:.16}" for t in self.windows.times(step - self.start)]


@dataclass(frozen=True, eq=False)
class Job:
    """All that training needs, before its first step.

    Attributes:
      store: The data, as anomalies where the config says so; its statistics know all of the network's time steps.
      layout: The devices.
      task: What the loss is made of beside state and batch: stepper and objective, arrays on the devices.
      step: The optimiser step, ``(state, batch, task) -> (state, norms)``; ``Programs`` compiles it for each shape of
        batch.
      fresh: The state before the first step, on the host.
      validation: What is watched.
      spans: The stages laid end to end.
      unrolled: Lengths of rollouts that are compiled without a loop, by ``train_step.unrolled``.
    """

    store: Store
    layout: Layout
    task: Task
    step: jax.stages.Wrapped
    fresh: TrainState
    validation: Validation
    spans: tuple[StageSpan, ...]
    unrolled: frozenset[int]

    def heaviest(self, done: int = 0) -> set[Shape]:
        """Of the batches of the steps after ``done`` those that may need most memory.

        Of the batches that run in a loop, and of those that do not: those with most states in the loss, with most in
        all, and with most windows at once. A loop needs more memory, so a shorter rollout with one may need most.
        """
        shapes = {shape for span in self.spans if span.stop > done for shape in span.windows.shapes}
        without_loop = {shape for shape in shapes if shape.steps in self.unrolled}
        kinds = [kind for kind in (without_loop, shapes - without_loop) if kind]
        in_loss = {max(kind, key=lambda shape: (shape.windows * shape.steps, shape.free)) for kind in kinds}
        in_all = {
            max(kind, key=lambda shape: (shape.windows * (shape.steps + shape.free), shape.steps)) for kind in kinds
        }
        return in_loss | in_all | {max(kind) for kind in kinds}


def set_up(
    config: TrainConfig,
    model: ModelConfig,
    store: Store,
    seed: int,
    statistics: Statistics | None = None,
    *,
    begun: bool = False,
) -> Job:
    """Everything before the first step, nothing compiled; ``train`` says what it raises.

    Args:
      config, model, seed: As for ``train``.
      store: The data.
      statistics: What the network learns with, where that is known: for anomalies all training data are read else.
      begun: Whether the run has a state to go on from. What it began with is not read then: it may be gone.
    """
    layout = _fitting_layout(config, model, store, seed)  # refuses what does not fit, before much is read
    mean = store.statistics.mean
    if config.anomalies:
        store = anomalies_of(store, statistics)
    if statistics is not None:
        store = replace(store, statistics=statistics)
    else:
        store = with_longer_steps(store, model.time_steps[1:])
    stepper, params = _make_stepper(config, model, store, seed)
    if config.precision == "bfloat16_products" and (why := layout.why_no_products()):
        logger.warning("train.precision: %s", why)
    left_out = set(model.time_steps) - set(config.stages[-1].time_steps or model.time_steps)
    if left_out:
        steps = ", ".join(map(str, sorted(left_out)))
        logger.warning("train: the last stage leaves out steps of %s, which forecasts take and it makes worse", steps)
    if config.start_from is not None and not begun:
        params = pretrained_weights(run_folder(config.start_from), params, config, model, store)
    task = Task(stepper, Objective.of(config, store, mean, model.time_steps), config.rematerialise)
    validation = Validation.of(store, config, layout)
    return Job(
        store,
        layout,
        layout.place(task, task.specs()),
        make_train_step(config, layout, seed),
        TrainState.fresh(params, config),
        validation,
        plan(config, model, store, seed),
        unrolled(config, layout),
    )


def _make_stepper(config: TrainConfig, model: ModelConfig, store: Store, seed: int | None) -> tuple[Stepper, nnx.State]:
    fields = store.spec, store.grid, store.timestep, store.statistics, store.static
    return make_stepper(model, *fields, precision=config.precision, seed=seed)


def check(config: TrainConfig, model: ModelConfig, store: Store, seed: int) -> None:
    """Refuses what ``set_up`` would of a training from the beginning, while an earlier one's result is still there.

    Nothing is placed on devices, for which several processes would have to meet.
    """
    _fitting_layout(config, model, store, seed)
    if config.start_from is not None:
        store = with_longer_steps(store, model.time_steps[1:])
        _, shapes = _make_stepper(config, model, store, None)
        check_start(run_folder(config.start_from), shapes, model)


def _fitting_layout(config: TrainConfig, model: ModelConfig, store: Store, seed: int) -> Layout:
    """The devices, once it is known that grid, batches, stages, weights and validation fit them and the data."""
    layout = Layout.of(config.mesh)
    layout.check_latitudes(model, store.grid)
    for i, (stage, size) in enumerate(zip(config.stages, config.batch_sizes, strict=True)):
        key = "train.batch_size" if stage.batch_size is None else f"train.stages.{i}.batch_size"
        layout.check_batch(size, config.accumulate, key)
    learned = {step for stage in config.stages for step in stage.time_steps or model.time_steps}
    never = [step for step in model.time_steps if step not in learned]
    if never and config.start_from is None:
        raise ConfigError(
            f"model.time_steps: no stage learns the step of {never[0]}, which forecasts would take; name it in "
            "train.stages.N.time_steps"
        )
    Constraints.of(model, store.spec, store.grid)
    advection_of(model, store.spec, store.grid, [])
    weights_by_stage(config, store.spec)
    plan(config, model, store, seed)
    validation = Validation.of(store, config, layout)
    if config.anomalies:  # or the first validation would be refused, many steps later
        ends = np.concatenate([validation.rows, validation.rows + validation.steps])
        store.climatology.check_season(store.times[ends.ravel()])
    return layout


def plan(config: TrainConfig, model: ModelConfig, store: Store, seed: int) -> tuple[StageSpan, ...]:
    """The stages laid end to end.

    Raises:
      DataError: no training segment is long enough for a rollout.
    """
    spans: list[StageSpan] = []
    for number, (stage, size) in enumerate(zip(config.stages, config.batch_sizes, strict=True)):
        start = spans[-1].stop if spans else 0
        steps = tuple(model.time_steps)
        drawn = tuple(steps.index(s) for s in stage.time_steps or steps)
        shape = Shape(size, stage.rollout, stage.free_steps)
        starts = store.windows("train", (shape.free + shape.steps) * max(steps[i] for i in drawn) + 1)
        windows = Windows(store, starts, shape, (seed, number), stage.random_length, steps, drawn)
        spans.append(StageSpan(start, start + stage.steps, windows, step_flops(model, store, size, 1)))
    return tuple(spans)


def work(spans: Sequence[StageSpan], steps: int) -> float:
    """What so many optimiser steps from the beginning cost: windows times model steps."""
    per_step = [span.windows.longest.windows * span.windows.mean_model_steps for span in spans]
    return sum(each * max(min(steps, s.stop) - s.start, 0) for each, s in zip(per_step, spans, strict=True))


@dataclass(frozen=True)
class Needed:
    """What training needs of every device's memory, and what there is, in words.

    Attributes:
      shape: Of the batch that needs most.
      training, validation: The memory of either.
      n_bytes: Of whichever needs more.
    """

    shape: Shape
    training: str
    validation: str
    n_bytes: int


def look_ahead(job: Job, programs: Programs, shapes: Iterable[Shape], config: TrainConfig) -> Needed:
    """What such batches, and validation, will need.

    Raises:
      ConfigError: it does not fit into memory, which would else be met hours later.
    """
    shape = max(sorted(shapes), key=programs.memory)
    needed = programs.memory(shape), programs.validation_memory(job.validation, shape)
    training = check_memory(needed[0], shape, config, job.layout)
    return Needed(shape, training, check_validation_memory(needed[1], job.validation), max(needed))


def open_for_training(path: Path) -> Store:
    """The store; a small one is being read into memory."""
    store = open_store(path)
    n_bytes = 4 * sum(int(np.prod(a.shape)) for a in (store.state, store.persisted))
    if n_bytes > (limit := in_memory_limit()):
        logger.info("data of %s stay on disk: %s of memory are for them here", amount(n_bytes), amount(limit))
        return store
    return replace(store, state=Arriving(store.state), persisted=Arriving(store.persisted))


def in_memory_limit() -> int:
    """Bytes up to which a store is read into memory once; random windows of a larger one are read from disk.

    A quarter of what is free, or of little memory, or where accelerators have their own, up to a half of it; every
    process of this host reads its own.
    """
    known = host_memory()
    limit: float = _IN_MEMORY_BYTES
    if known:
        share = _IN_MEMORY_SHARE if jax.default_backend() == "cpu" else _AT_MOST
        limit = min(max(limit, share * known[1]), _AT_MOST * known[1])
    return int(limit / processes_here(jax.process_count()))
