"""What is looked at while a network trains: losses, norms, pace, skill, and when to give up."""

from __future__ import annotations

import logging
from collections import deque
from functools import cached_property

from data_prep.errors import DataError
from emulator.config import TrainConfig
from emulator.progress import Tracker
from emulator.training.budget import AHEAD
from emulator.training.job import Job, StageSpan
from emulator.training.record import Clock, Record
from emulator.training.stability import GradientWatch, forecast_warning
from emulator.training.train_step import Norms
from emulator.training.validation import Skill

logger = logging.getLogger(__name__)


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
        now, shape, loss = step + 1, span.shape(step), float(norms.loss)
        self._progress.advance(1, loss=loss, rollout=shape.steps)
        self.clock.count(shape.windows, shape.model_steps * span.operations)
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
                rollout=shape.steps,
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
