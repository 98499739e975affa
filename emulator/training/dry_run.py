"""What a training will cost, told without training: ``emulator train CONFIG --dry-run``."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import jax

from emulator.config import ModelConfig, TrainConfig
from emulator.hardware.machine import describe, factors_of
from emulator.models.layers import count_parameters
from emulator.progress import duration
from emulator.stepping.rollout import recomputed
from emulator.training.arriving import Arriving
from emulator.training.budget import AHEAD, Programs, amount
from emulator.training.devices import WHOLE
from emulator.training.job import Job, StageSpan, look_ahead, open_for_training, set_up
from emulator.training.on_devices import OnDevices
from emulator.training.run_identity import another_run, latest_step
from emulator.training.train_step import Norms, TrainState

_TIMED_STEPS = 4


@dataclass(frozen=True)
class StageCost:
    """What one stage costs.

    Attributes:
      steps: Of the optimiser.
      rollout, batch_size: The longest rollout, and windows a step.
      free_steps: Most that come before it.
      operations: A step by the model's arithmetic, recomputation included, on average over lengths.
      memory: Bytes on every device for the longest rollout.
      seconds: A step, measured, waiting for data included, on average over lengths.
      utilisation: Of the devices' rate of matrix products, recomputation not counted as use.
    """

    steps: int
    rollout: int
    batch_size: int
    operations: float
    memory: int
    seconds: float
    utilisation: float
    free_steps: int = 0


@dataclass(frozen=True)
class TrainingCost:
    """What a training costs.

    Attributes:
      network: Its kind.
      parameters: How many it has.
      devices: What it runs on, in words.
      sharing: Devices that share a batch, and those that share latitudes.
      ceiling: Operations a second in matrix products, measured.
      precision: Of these.
      memory, validation_memory: Of the stage that needs most, of validation, and of a device, in words.
      windows, rollout: Of the batch that needs most, and its model steps.
      stages: What each costs.
      validations, validation_seconds: How many there are, and what one takes.
      programs, compile_seconds: How many are compiled, one for each size of batch and length of rollout; and what the
        slowest took that was compiled here (little, where it was found compiled).
      done: Steps that the run folder has behind it.
      refused: Why training would not begin in that folder as it is, if so.
    """

    network: str
    parameters: int
    devices: str
    sharing: tuple[int, int]
    ceiling: float
    precision: str
    memory: str
    windows: int
    rollout: int
    stages: tuple[StageCost, ...]
    validations: int
    validation_memory: str
    validation_seconds: float
    programs: int
    compile_seconds: float
    done: int = 0
    refused: str | None = None

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def training_seconds(self) -> float:
        """Of all steps, validation not counted."""
        return sum(stage.steps * stage.seconds for stage in self.stages)

    @property
    def seconds_left(self) -> float:
        """Of the steps that are not done, validation not counted."""
        left, begin = 0.0, 0
        for stage in self.stages:
            left += (stage.steps - min(max(self.done - begin, 0), stage.steps)) * stage.seconds
            begin += stage.steps
        return left

    def to_json(self) -> dict[str, Any]:
        """For machines: SI units."""
        validating = self.validations * self.validation_seconds
        return asdict(self) | {"steps": self.steps, "seconds": self.training_seconds + validating}

    def text(self) -> str:
        """For people, a few lines."""

        def length(stage: StageCost) -> str:
            return f"{stage.free_steps}+{stage.rollout}" if stage.free_steps else str(stage.rollout)

        lines = [
            f"network      {self.network}, {self.parameters / 1e6:.3g} million parameters",
            f"devices      {self.devices}; {self.sharing[0]} share a batch, {self.sharing[1]} share latitudes",
            f"ceiling      {self.ceiling / 1e12:.3g} TFLOP/s in {factors_of(self.precision)} matrix products, measured",
            f"memory       {self.memory}, for {self.windows} windows of {self.rollout} steps",
            "",
            f"{'stage':>5} {'steps':>7} {'rollout':>7} {'windows':>7} {'GFLOP/step':>10} {'memory':>10} {'s/step':>8}"
            f" {'of ceiling':>10} {'time':>12}",
        ]
        for number, s in enumerate(self.stages, 1):
            lines.append(
                f"{number:>5} {s.steps:>7} {length(s):>7} {s.batch_size:>7} {s.operations / 1e9:>10.4g}"
                f" {amount(s.memory):>10} {s.seconds:>8.3g} {s.utilisation:>10.1%} {duration(s.steps * s.seconds):>12}"
            )
        training, validating = self.training_seconds, self.validations * self.validation_seconds
        lines += [
            "",
            f"time         {duration(training + validating)}: {self.steps} steps in {duration(training)}, "
            f"{self.validations} validations in {duration(validating)}",
            f"compiling    {self.programs} program{'s' * (self.programs > 1)} besides, one for each size of batch and "
            f"length of rollout; the slowest here took {duration(self.compile_seconds)}",
        ]
        if self.done:
            lines.append(
                f"done         {self.done} steps, by the run's last checkpoint; the others take "
                f"{duration(self.seconds_left)}"
            )
        if self.refused:
            lines.append(f"beware       train without --redo is refused; {self.refused}")
        lines.append("nothing was trained and nothing written")
        return "\n".join(lines)


def dry_run(
    config: TrainConfig,
    model: ModelConfig,
    store_path: Path,
    seed: int,
    run_dir: Path | None = None,
    *,
    redo: bool = False,
) -> TrainingCost:
    """Compiles every stage's longest rollout, takes the time of a few steps of it, and writes nothing.

    Args:
      config, model, store_path, seed: As for ``train``.
      run_dir: The run folder, which may hold a part of this training already, or another one: what a second network
        would cost is asked before the first is given up.
      redo: Whether what is there would be discarded.

    Raises:
      DataError, ConfigError: as ``train`` would; a rollout that does not fit into memory among them.
    """
    store = open_for_training(store_path)
    refused = done = None
    if run_dir is not None and not redo:
        refused = another_run(run_dir, config, model, store, seed)
        done = None if refused else latest_step(run_dir)
    job = set_up(config, model, store, seed, begun=done is not None)
    state = job.layout.place(job.fresh, WHOLE)
    programs = Programs(job.step, state, job.task, job.store, job.layout, config)
    longest = {span.windows.longest for span in job.spans}  # which are timed anyway
    for array in (store.state, store.persisted):
        if isinstance(array, Arriving):
            array.wait()  # as in all but the first steps of training; and the memory it takes is free no more
    needed = look_ahead(job, programs, job.heaviest() | longest, config)
    rate = job.layout.matrix_rate(config.precision)
    stages = []
    with closing(OnDevices(job.store, job.layout)) as held:
        held.begin_beside(needed.n_bytes)
        held.wait()
        for span in job.spans:
            state, cost = _measure(job, span, programs, state, config, rate, held)
            stages.append(cost)
    total = job.spans[-1].stop
    return TrainingCost(
        network=model.kind,
        parameters=count_parameters(job.fresh.params),
        devices=describe(),
        sharing=(job.layout.data, job.layout.bands),
        ceiling=rate,
        precision=config.precision,
        memory=needed.training,
        windows=needed.shape.windows,
        rollout=needed.shape.steps,
        stages=tuple(stages),
        validations=total // config.validate_every + bool(total % config.validate_every),
        validation_memory=needed.validation,
        validation_seconds=_seconds_of_validation(job, state),
        programs=len({shape for span in job.spans for shape in span.windows.shapes}),
        compile_seconds=programs.slowest,
        done=done or 0,
        refused=refused,
    )


def _measure(
    job: Job,
    span: StageSpan,
    programs: Programs,
    state: TrainState,
    config: TrainConfig,
    rate: float,
    held: OnDevices,
) -> tuple[TrainState, StageCost]:
    windows = span.windows
    program, shape = programs.of(windows.longest), windows.longest
    # Training waits for data at the pace of all readers together, which shows when what they had ready is used up and
    # each of them was waited for alike.
    ahead = windows.read_ahead(job.layout)
    before, timed = 1 + ahead, math.ceil(_TIMED_STEPS / ahead) * ahead
    longest = (step for step in count() if windows.shape(step) == shape)
    behind: deque[Norms] = deque()
    with closing(windows.batches(islice(longest, before + timed), job.layout, held)) as batches:
        for number, batch in enumerate(batches):
            if number == before:
                jax.block_until_ready(state)
                start = time.perf_counter()
            state, norms = program(state, batch, job.task)
            behind.append(norms)
            if len(behind) > AHEAD:
                jax.block_until_ready(behind.popleft())
        jax.block_until_ready(state)
        seconds = (time.perf_counter() - start) / timed
    operations = span.operations * shape.model_steps
    again = recomputed(shape.steps) if config.rematerialise else 1.0
    mean_length = windows.mean_model_steps / shape.model_steps
    cost = StageCost(
        steps=span.stop - span.start,
        rollout=shape.steps,
        free_steps=shape.free,
        batch_size=shape.windows,
        operations=mean_length * (operations + (again - 1) * span.operations * shape.steps),
        memory=programs.memory(shape),
        seconds=mean_length * seconds,
        utilisation=operations / seconds / rate,
    )
    return state, cost


def _seconds_of_validation(job: Job, state: TrainState) -> float:
    job.validation.run(state.averaged, job.task)  # compiles
    start = time.perf_counter()
    job.validation.run(state.averaged, job.task)
    return time.perf_counter() - start
