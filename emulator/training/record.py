"""What training writes down: ``metrics.jsonl``, TensorBoard events, and the clock behind their figures."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files.disk import write_text
from data_prep.files.json_file import finite
from emulator.training.train_step import Norms
from emulator.training.validation import Skill

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
_FLUSH_SECONDS = 30.0  # TensorBoard need not see a step sooner, and a flush waits for the disk


@dataclass(frozen=True)
class Pace:
    """How fast steps went since the last reading, validation and saving left out.

    Attributes:
      seconds_per_step: Wall time.
      samples_per_second: Windows.
      operations_per_second: By the model's arithmetic, of all devices together.
      data_wait_share: Share of the time that was spent waiting for a batch.
    """

    seconds_per_step: float
    samples_per_second: float
    operations_per_second: float
    data_wait_share: float


class Clock:
    """Takes the time of steps."""

    def __init__(self) -> None:
        """Starts now."""
        self._restart()

    def _restart(self) -> None:
        self._start, self._waited, self._paused = time.perf_counter(), 0.0, 0.0
        self._steps, self._samples, self._operations = 0, 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for a batch."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside out."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def count(self, samples: int, operations: float) -> None:
        """Counts a step."""
        self._steps += 1
        self._samples += samples
        self._operations += operations

    def read(self) -> Pace:
        """The pace since the last reading, from which the next one counts."""
        seconds = time.perf_counter() - self._start - self._paused
        steps = max(self._steps, 1)
        pace = Pace(seconds / steps, self._samples / seconds, self._operations / seconds, self._waited / seconds)
        self._restart()
        return pace


class _Board:
    """TensorBoard events, written by the thread that asks for it.

    TensorboardX's own ``SummaryWriter`` hands them to another thread through a queue of ten. Where a full disk ended
    that thread nobody would empty the queue, and training would wait for ever.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        """Begins a file; what others in the folder hold from ``purge_step`` on is not shown any more."""
        # slow to import, and the first step need not wait for it
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        folder.mkdir(parents=True, exist_ok=True)
        self._writer, self._event, self._summary = EventsWriter(str(folder / "events")), Event, scalar
        self._flushed = time.monotonic()
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars by name.

        Raises:
          OSError: the disk refuses.
        """
        for name, value in scalars.items():
            event = self._event(wall_time=time.time(), step=step, summary=self._summary(name, value))
            self._writer.write_event(event)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class Record:
    """``metrics.jsonl`` and TensorBoard events; entries beyond the step that a run goes on from are dropped.

    Attributes:
      validated: Whether that step's validation is among those that are kept.
    """

    def __init__(self, run_dir: Path, done: int) -> None:
        """Opens the first, and the second when there is something to write.

        Args:
          run_dir: The run folder.
          done: The step that training goes on from.
        """
        path = run_dir / METRICS
        kept = [line for line in _lines(path) if _step_of(line) <= done]
        self.validated = any(_step_of(line) == done and json.loads(line).get("kind") == "validation" for line in kept)
        write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")
        self._run_dir, self._done = run_dir, done

    @cached_property
    def _board(self) -> _Board:
        return _Board(self._run_dir / "tensorboard", purge_step=self._done + 1 if self._done else None)

    def close(self) -> None:
        """Closes both."""
        self._file.close()
        if "_board" in vars(self):
            self._board.close()

    def step(self, step: int, norms: Norms, **values: float) -> None:
        """Writes one training step: its norms and what else is known by name."""
        told = ("loss", "gradient_norm", "update_norm", "parameter_norm", "learning_rate")
        scalars = {name: float(getattr(norms, name)) for name in told} | values
        self._write({"kind": "train", "step": step, **scalars})
        self._board.write(step, {f"train/{name}": value for name, value in scalars.items()})

    def skipped(self, step: int, times: list[str]) -> None:
        """Writes that a step was skipped, and the initial times of its batch."""
        self._write({"kind": "skipped", "step": step, "times": times})

    def validation(self, step: int, skill: Skill) -> None:
        """Writes one validation, and logs a line."""
        hours = skill.lead_hours
        errors, activity = skill.headline(skill.rmse), skill.headline(skill.activity)
        entry = {"rmse": _rounded(errors), "activity": _rounded(activity)}
        self._write({"kind": "validation", "step": step, "loss": skill.loss, "lead_hours": hours, **entry})
        scalars = {"loss": skill.loss}
        for name, values in errors.items():
            scalars[f"{name}_{hours[0]:g}h"], scalars[f"{name}_{hours[-1]:g}h"] = values[0], values[-1]
            scalars[f"{name}_activity"] = activity[name][-1]
        self._board.write(step, {f"validation/{name}": value for name, value in scalars.items()})
        shown = ", ".join(f"{name} {values[0]:.3g}/{values[-1]:.3g}" for name, values in errors.items())
        leads = f"{hours[0]:g}/{hours[-1]:g} h"
        logger.info("validation at step %d: loss %.4g; RMSE at %s in SI units: %s", step, skill.loss, leads, shown)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(finite(entry), allow_nan=False) + "\n")
        self._file.flush()


def _rounded(values: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: [float(f"{v:.6g}") for v in series] for name, series in values.items()}


def _lines(path: Path) -> list[str]:
    """Whole lines of a file, none if there is no file; a kill may have cut the last one short."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _step_of(line: str) -> float:
    """The step of an entry; beyond all of what a power cut left in its place, which must not stop a training."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
