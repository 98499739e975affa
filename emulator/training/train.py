"""Training, top to bottom: what is trained on, the loop, and what is looked at on the way.

    set up -> for every stage: batches -> step -> now and then validate, save -> weights for forecasting

A run that was stopped goes on from its last checkpoint and ends bit for bit where it would have ended: the order of
batches is a function of seed and step, and everything else is in the checkpoint. The host runs a little ahead of the
device: the scalars of a step are read when the device is already busy with the next ones.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import FrameType
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from data_prep.errors import ConfigError, DataError
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Store, open_store
from data_prep.spec import StateSpec
from emulator.anomalies import anomalies_of
from emulator.checkpoint import (
    CHECKPOINTS,
    Checkpoints,
    departs_alike,
    describe_run,
    read_description,
    read_statistics,
    read_weights,
    warn_if_half_trained,
)
from emulator.config import ModelConfig, TrainConfig
from emulator.hardware.launcher import processes_here
from emulator.hardware.machine import describe, host_memory
from emulator.learned_from import learned_periods
from emulator.models.layers import count_parameters
from emulator.progress import Tracker, track
from emulator.run_folder import DESCRIPTION, run_folder
from emulator.stepping.longer_steps import with_longer_steps
from emulator.stepping.stepper import make_stepper
from emulator.training.arriving import Arriving
from emulator.training.background import told_once
from emulator.training.budget import AHEAD, Programs, check_memory, check_validation_memory, step_flops
from emulator.training.devices import WHOLE, Layout, failing_together
from emulator.training.loader import Batch, Windows
from emulator.training.losses import Objective
from emulator.training.record import Clock, Record
from emulator.training.stability import GradientWatch, forecast_warning
from emulator.training.train_step import Norms, Task, TrainState, make_train_step, unrolled
from emulator.training.validation import Skill, Validation

logger = logging.getLogger(__name__)

_IN_MEMORY_BYTES, _IN_MEMORY_SHARE = 2 * 2**30, 0.25


def train(
    config: TrainConfig,
    model_config: ModelConfig,
    store_path: Path,
    run_dir: Path,
    seed: int,
    experiment: dict[str, Any],
) -> Path:
    """Trains a network, or goes on where an earlier call was stopped.

    With several processes (``devices.join_processes``) each calls this alike.

    Args:
      config: Stages, optimiser, intervals.
      model_config: Which network.
      store_path: A prepared store.
      run_dir: The run folder; see ``checkpoint``.
      seed: Of initial weights, of the order of the data, of noise.
      experiment: The resolved config, kept in the run folder for the reader.

    Returns:
      ``run_dir``, which ``checkpoint.load_forecaster`` reads.

    Raises:
      DataError: the store is unusable, the run folder belongs to another run, too many steps in a row had to be
        skipped, or another process was lost.
      ConfigError: the network does not fit the grid, the work does not fit the devices, or a weighted variable does
        not exist.
      KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    store = open_for_training(store_path)
    learned = _learned(run_dir, config, model_config, store, seed)
    job = set_up(config, model_config, store, seed, learned, begun=latest_step(run_dir) is not None)
    layout, total = job.layout, job.spans[-1].stop
    if layout.writes:
        run_dir.mkdir(parents=True, exist_ok=True)
        described = replace(store, statistics=job.store.statistics, forcing_builder=job.store.forcing_builder)
        _claim(run_dir, config, model_config, described, seed, experiment)

    with failing_together(), told_once(), closing(Checkpoints(run_dir)) as checkpoints:
        start = checkpoints.restore(job.fresh) or job.fresh
        if start.skipped >= config.max_skipped:  # it was given up, and is to be tried as often again
            start = start._replace(skipped=jnp.int32(0))
        layout.meet()  # the first has had more to do, and devices wait for each other for half a minute
        state = layout.place(layout.agree(start), WHOLE)
        done = int(state.step)
        programs = Programs(job.step, state, job.task, store, layout, config)
        logger.info(
            "train: %.2f million parameters, %d windows, %d steps%s",
            count_parameters(state.params) / 1e6,
            job.spans[0].windows.starts.size,
            total,
            f", going on from step {done}" if done else "",
        )

        def save(state: TrainState) -> None:
            checkpoints.save(int(state.step), state, state.averaged.params)

        def leave_together() -> None:
            checkpoints.finish()
            layout.meet()

        with (
            closing(Record(run_dir, done)) if layout.writes else nullcontext() as record,
            _stop_requests() as stop_wanted,
            track(total, "train", done, work=partial(work, job.spans), shown=layout.writes) as progress,
        ):
            watch = Watch(config, job, record, progress)
            for span in job.spans:
                steps = range(max(span.start, done), span.stop)
                with closing(span.batches(steps, layout)) as batches:
                    for step in steps:
                        with watch.clock.waiting():
                            batch = next(batches)
                        first, shape = step == done, span.shape(step)
                        with watch.clock.paused(), progress.once():
                            program = programs.of(*shape)  # compiled when a shape is new
                            if first:
                                check_memory(programs.memory(*shape), shape[1], shape[0], config, layout)
                                layout.meet()
                        state, norms = program(state, batch, job.task)
                        now, stop = step + 1, stop_wanted(step)
                        validate = now % config.validate_every == 0 or now == total
                        keep = now % config.checkpoint_every == 0 or now == total or stop
                        try:
                            watch.add(step, norms, span, catch_up=validate or keep or first)
                        except TooManySkippedError:
                            save(state)
                            leave_together()
                            raise
                        if first:  # what can wait comes behind it: whoever waits sees a first loss sooner
                            logger.info("train: first step done, loss %.4g", float(norms.loss))
                            if not stop:
                                with progress.once(), watch.clock.paused():
                                    needed = look_ahead(job, programs, job.heaviest(done), config)
                                what = f"rollouts need {needed.training}, validation {needed.validation}"
                                logger.info("train: %s; %s, %.3g TFLOP/s", what, describe(), watch.rate / 1e12)
                        with watch.clock.paused():
                            if stop:  # before all else: who stops a job may not wait for long
                                save(state)
                                checkpoints.finish()
                                logger.info("train: stopped at step %d of %d, state saved", now, total)
                            if validate:
                                watch.validated(now, job.validation.run(state.averaged, job.task))
                            if keep and not stop:
                                save(state)
                        if stop:
                            leave_together()
                            raise KeyboardInterrupt
        if done == total:
            save(state)  # a kill may have come between checkpoint and weights
        leave_together()
    return run_dir


# ---- what is trained on, and with what


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

    def batches(self, steps: range, layout: Layout) -> grain.DatasetIterator[Batch]:
        """The batches of steps of the whole training, in order."""
        return self.windows.batches((step - self.start for step in steps), layout)

    def shape(self, step: int) -> tuple[int, int]:
        """Windows and model steps of that batch."""
        return self.windows.batch_size, self.windows.length(step - self.start)

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

    def heaviest(self, done: int = 0) -> set[tuple[int, int]]:
        """Windows and model steps of those batches, of the steps after ``done``, that may need most memory.

        Of the batches that run in a loop, and of those that do not: those with most states, and those with most windows
        at once. A loop needs more memory, so a shorter rollout with one may need most.
        """
        shapes = {(s.windows.batch_size, n) for s in self.spans if s.stop > done for n in s.windows.lengths}
        without_loop = {shape for shape in shapes if shape[1] in self.unrolled}
        kinds = [kind for kind in (without_loop, shapes - without_loop) if kind]
        return {max(kind, key=math.prod) for kind in kinds} | {max(kind) for kind in kinds}


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
    layout = Layout.of(config.mesh)
    layout.check_latitudes(model, store.grid)
    for i, (stage, size) in enumerate(zip(config.stages, config.batch_sizes, strict=True)):
        key = "train.batch_size" if stage.batch_size is None else f"train.stages.{i}.batch_size"
        layout.check_batch(size, config.accumulate, key)
    plan(config, model, store, seed)  # this and the next refuse what does not fit, before much is read
    Validation.of(store, config, layout)
    mean = store.statistics.mean
    if config.anomalies:
        store = anomalies_of(store, statistics)
    if statistics is not None:
        store = replace(store, statistics=statistics)
    else:
        store = with_longer_steps(store, model.time_steps[1:])
    stepper, params = make_stepper(
        model, store.spec, store.grid, store.statistics, store.static, precision=config.precision, seed=seed
    )
    if config.precision == "bfloat16_products" and jax.default_backend() != "cpu":
        logger.warning("train.precision: bfloat16_products is for CPUs; here it is as slow as float32, bfloat16 is not")
    learned = {step for stage in config.stages for step in stage.time_steps or model.time_steps}
    never = [step for step in model.time_steps if step not in learned]
    if never and config.start_from is None:
        raise ConfigError(
            f"model.time_steps: no stage learns the step of {never[0]}, which forecasts would take; name it in "
            "train.stages.N.time_steps"
        )
    left_out = set(model.time_steps) - set(config.stages[-1].time_steps or model.time_steps)
    if left_out:
        steps = ", ".join(map(str, sorted(left_out)))
        logger.warning("train: the last stage leaves out steps of %s, which forecasts take and it makes worse", steps)
    if config.start_from is not None and not begun:
        params = _pretrained(run_folder(config.start_from), params, config, model, store)
    task = Task(stepper, Objective.of(config, store, mean, model.time_steps), config.rematerialise)
    validation = Validation.of(store, config, layout)
    if config.anomalies:  # or the first validation would be refused, many steps later
        ends = np.concatenate([validation.rows, validation.rows + validation.steps])
        store.climatology.check_season(store.times[ends.ravel()])
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


def _pretrained(folder: Path, params: nnx.State, config: TrainConfig, model: ModelConfig, store: Store) -> nnx.State:
    """The weights of another run, in the structure of ``params``; a warning where numbers meant something else there.

    Raises:
      ConfigError: that network takes other steps, so that weights of one length would be taken for another's.
      DataError: it has none, or is another network.
    """
    warn_if_half_trained(folder)
    found = read_description(folder)
    steps = found["model"].get("time_steps", [1])
    if steps != model.time_steps:
        raise ConfigError(f"train.start_from: {folder} has model.time_steps {steps}, this config {model.time_steps}")
    params = read_weights(folder, params)
    if differing := _differing(found, config, store):
        logger.warning("train.start_from: weights of %s are taken though %s", folder, "; ".join(differing))
    return params


def _differing(found: Mapping[str, Any], config: TrainConfig, store: Store) -> list[str]:
    """What numbers meant something else in the run of that description."""
    out = []
    theirs = StateSpec.from_dict(found["spec"])
    for role in ("state", "forcing", "static"):
        names = [[c.name for c in getattr(spec, f"{role}_channels")] for spec in (theirs, store.spec)]
        if other := next(((a, b) for a, b in zip(*names, strict=False) if a != b), None):
            out.append(f"its {other[0]} stands where {other[1]} is here")
    hours = [found["timestep_seconds"] / 3600, float(store.timestep / np.timedelta64(1, "h"))]
    if hours[0] != hours[1]:
        out.append(f"its step is {hours[0]:g} h, and {hours[1]:g} h here")
    anomalies = bool(found["experiment"].get("train", {}).get("anomalies", False))
    if anomalies != config.anomalies:
        out.append(f"it learned {'anomalies' if anomalies else 'fields as they are'}, which is otherwise here")
    return out


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
        starts = store.windows("train", stage.rollout * max(steps[i] for i in drawn) + 1)
        windows = Windows(store, starts, stage.rollout, size, (seed, number), stage.random_length, steps, drawn)
        spans.append(StageSpan(start, start + stage.steps, windows, step_flops(model, store, size, 1)))
    return tuple(spans)


def work(spans: Sequence[StageSpan], steps: int) -> float:
    """What so many optimiser steps from the beginning cost: windows times model steps."""
    per_step = [w.batch_size * ((1 + w.steps) / 2 if w.random_length else w.steps) for w in (s.windows for s in spans)]
    return sum(each * max(min(steps, s.stop) - s.start, 0) for each, s in zip(per_step, spans, strict=True))


@dataclass(frozen=True)
class Needed:
    """What training needs of every device's memory, and what there is, in words.

    Attributes:
      windows, rollout: Of the batch that needs most, and its model steps.
      training, validation: The memory of either.
    """

    windows: int
    rollout: int
    training: str
    validation: str


def look_ahead(job: Job, programs: Programs, shapes: Iterable[tuple[int, int]], config: TrainConfig) -> Needed:
    """What batches of so many windows and model steps, and validation, will need.

    Raises:
      ConfigError: it does not fit into memory, which would else be met hours later.
    """
    windows, rollout = max(sorted(shapes), key=lambda shape: programs.memory(*shape))
    training = check_memory(programs.memory(windows, rollout), rollout, windows, config, job.layout)
    needed = programs.validation_memory(job.validation, windows, rollout)
    return Needed(windows, rollout, training, check_validation_memory(needed, job.validation))


def open_for_training(path: Path) -> Store:
    """The store; a small one is being read into memory."""
    store = open_store(path)
    n_bytes = 4 * sum(int(np.prod(a.shape)) for a in (store.state, store.persisted))
    if n_bytes > in_memory_limit():
        return store
    return replace(store, state=Arriving(store.state), persisted=Arriving(store.persisted))


def in_memory_limit() -> int:
    """Bytes up to which a store is read into memory once; random windows of a larger one are read from disk."""
    known = host_memory()
    free = known[1] / processes_here(jax.process_count()) if known else 0.0
    return max(_IN_MEMORY_BYTES, int(_IN_MEMORY_SHARE * free))


def _learned(run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int) -> Statistics | None:
    """The statistics that a run folder holds, if it is one of this run and they are sound; else they are made again."""
    if is_beginning(run_dir, config, model, seed) and read_description(run_dir)["data_hash"] == store.data_hash:
        with suppress(DataError):
            return read_statistics(run_dir)
    return None


def latest_step(run_dir: Path) -> int | None:
    """Step of the checkpoint to go on from, if there is one."""
    names = (path.name for path in (run_dir / CHECKPOINTS).glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=None)  # other names are half written


def _claim(
    run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int, experiment: Mapping[str, Any]
) -> None:
    """Describes the run in its folder, once it is sure that the folder holds no other run than this, or its beginning.

    Raises:
      DataError: the folder holds another run.
    """
    if not (run_dir / DESCRIPTION).exists() and any((run_dir / CHECKPOINTS).glob("*")):
        raise DataError(f"{run_dir}: holds checkpoints, but no {DESCRIPTION} that says of which run; remove it")
    if (run_dir / DESCRIPTION).exists():
        found = read_description(run_dir)
        same_data = found["data_hash"] == store.data_hash and departs_alike(
            found, store.forcing_builder, anomalies=config.anomalies
        )
        if not (same_data and is_beginning(run_dir, config, model, seed)):
            raise DataError(
                f"{run_dir}: holds a run with another config, seed or data; remove it or choose another workdir"
            )
    before = run_dir if (run_dir / DESCRIPTION).exists() else config.start_from and run_folder(config.start_from)
    describe_run(
        run_dir,
        store,
        model,
        precision=config.precision,
        seed=seed,
        identity=_identity(config, model, store.data_hash, seed),
        experiment=experiment,
        anomalies=config.anomalies,
        learned_before=learned_periods(read_description(before)) if before else (),
    )


def is_beginning(run_dir: Path, config: TrainConfig, model: ModelConfig, seed: int) -> bool:
    """Whether a run folder holds this run, or one that had only its first stages and can go on to the others.

    Raises:
      DataError: the folder's description is damaged.
    """
    if not (run_dir / DESCRIPTION).exists():
        return False
    found = read_description(run_dir)
    courses = (config.model_copy(update={"stages": config.stages[:n]}) for n in range(1, len(config.stages) + 1))
    return found["identity"] in {_identity(course, model, found["data_hash"], seed) for course in courses}


def _identity(config: TrainConfig, model: ModelConfig, data_hash: str, seed: int) -> str:
    """Hash of all that decides what the weights become; without defaults, as ``stages.decisive_values``."""
    decisive = {
        "train": config.model_dump(mode="json", exclude={*TrainConfig.HOW, "seed"}, exclude_defaults=True),
        "model": model.model_dump(mode="json", exclude_defaults=True),
        "data": data_hash,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


# ---- what is looked at on the way


class TooManySkippedError(DataError):
    """So many steps in a row had a loss or gradient that is not finite that it is no accident."""


class Watch:
    """Reads what steps return, a little late, and says, writes and counts what is to be known of it."""

    def __init__(self, config: TrainConfig, job: Job, record: Record | None, progress: Tracker) -> None:
        """Begins to watch.

        Args:
          config: When to log, when to give up.
          job: What is trained.
          record: Where to write; ``None`` in a process that writes nothing.
          progress: Where to count.
        """
        self.clock = Clock()
        self._config, self._job, self._record, self._progress = config, job, record, progress
        self._behind: deque[tuple[int, Norms, StageSpan]] = deque()
        self._gradients = GradientWatch()

    @cached_property
    def rate(self) -> float:
        """Operations a second that all devices could do; first asked for while they have nothing else to do."""
        with self.clock.paused():
            return self._job.layout.matrix_rate(self._config.precision)

    def add(self, step: int, norms: Norms, span: StageSpan, *, catch_up: bool) -> None:
        """Takes the norms of a step that the device may still be working on, and looks at those of earlier ones.

        Args:
          step: Its number, from zero.
          norms: What it returned.
          span: The stage it belongs to.
          catch_up: Wait for it.

        Raises:
          TooManySkippedError: after ``max_skipped`` steps in a row; all that were taken have been looked at by then.
        """
        self._behind.append((step, norms, span))
        given_up = None
        while len(self._behind) > (0 if catch_up or given_up else AHEAD):
            given_up = self._look(*self._behind.popleft()) or given_up
        if given_up:
            raise TooManySkippedError(given_up)

    def _look(self, step: int, norms: Norms, span: StageSpan) -> str | None:
        """Returns why to give up, if so."""
        now, (size, length) = step + 1, span.shape(step)
        loss = float(norms.loss)
        self._progress.advance(1, loss=loss, rollout=length)
        self.clock.count(size, length * span.operations)
        given_up = None
        if not norms.finite:
            given_up = self._skipped(now, loss, float(norms.gradient_norm), int(norms.skipped), span.times(step))
        elif warning := self._gradients.warning(float(norms.gradient_norm), span.start):
            logger.warning("train: step %d: %s", now, warning)
        if self._record and (now % self._config.log_every == 0 or now == self._job.spans[-1].stop):
            pace = self.clock.read()
            self._record.step(
                now,
                norms,
                rollout=length,
                seconds_per_step=pace.seconds_per_step,
                samples_per_second=pace.samples_per_second,
                data_wait_share=pace.data_wait_share,
                flops_utilisation=pace.operations_per_second / self.rate,
            )
        return given_up

    def _skipped(self, now: int, loss: float, norm: float, in_a_row: int, times: list[str]) -> str | None:
        if self._record:
            self._record.skipped(now, times)
        what = f"loss {loss:g}, gradient norm {norm:g} at step {now} with the batch from {', '.join(times)}"
        logger.warning("train: skipped: %s", what)
        if in_a_row < self._config.max_skipped:
            return None
        return (
            f"train: {in_a_row} steps in a row skipped; {what}; the last good state is saved: check the data of "
            "these times, or lower learning_rate and train anew"
        )

    def validated(self, now: int, skill: Skill) -> None:
        """Takes the skill of the weights after so many steps."""
        if warning := forecast_warning(skill):
            logger.warning("validation at step %d: %s", now, warning)
        if self._record:
            self._record.validation(now, skill)


@contextmanager
def _stop_requests() -> Iterator[Callable[[int], bool]]:
    """Whether to stop after a step, because of SIGINT or SIGTERM; a second signal works at once.

    Several processes must stop after the same step, which the runtime settles when one of them is sent SIGTERM; it
    knows nothing of SIGINT, which is passed on as that.
    """
    several, wanted = jax.process_count() > 1, False
    stop_wanted = multihost_utils.reached_preemption_sync_point if several else lambda _: wanted
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to that alone
        yield stop_wanted
        return
    ours = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.getsignal(s) for s in ours}

    def give_back() -> None:
        for s, handler in before.items():
            signal.signal(s, handler)

    def request(number: int, _: FrameType | None) -> None:
        nonlocal wanted
        wanted = True
        give_back()
        logger.info("train: stopping after this step with the state saved; a second signal stops at once")
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    for s in before:
        signal.signal(s, request)
    try:
        yield stop_wanted
    finally:
        give_back()
    if wanted:  # after the last step had asked: what follows training must not begin
        raise KeyboardInterrupt
