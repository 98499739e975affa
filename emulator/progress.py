"""Progress with time left: a live bar in a terminal, plain lines everywhere else.

A log file never holds control characters: where standard error is no terminal, one line is logged every
``LINE_INTERVAL`` seconds, and one at the end.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

logger = logging.getLogger(__name__)

LINE_INTERVAL = 10.0
"""Seconds between lines where there is no terminal."""

_RECENT = 0.25, 60.0, 600.0
"""The time left goes by the pace of this share of the time spent, but of so many seconds at least, and at most: work
that has become heavier is noticed, and what held a run up an hour ago says nothing of the rest."""


class Tracker(Protocol):
    """Counts what is done."""

    def advance(self, n: int = 1, **info: object) -> None:
        """Counts ``n`` more as done; ``info`` is shown beside the bar (numbers with four digits)."""
        ...

    def once(self) -> AbstractContextManager[None]:
        """For what happens once, such as compiling: it says nothing of how long the rest will take."""
        ...


@contextmanager
def track(
    total: int, description: str, done: int = 0, *, work: Callable[[int], float] = float, shown: bool = True
) -> Iterator[Tracker]:
    """Shows progress while the block runs.

    Args:
      total: How many there are.
      description: What is counted, a word or two.
      done: How many an earlier, interrupted run has done already; they do not count for the time left.
      work: How much work so many are, in any unit, where one is not as much as another: for the time left.
      shown: Whether to show anything: of several processes one speaks.
    """
    pace = _Pace(total, done, work)
    if not shown:
        yield _Silence()
    elif sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[info]}"),
        )
        with Progress(*columns, console=_console(), redirect_stderr=True) as bar:
            yield _Bar(bar, bar.add_task(description, total=total, completed=done, left="", info=""), pace)
    else:
        lines = _Lines(description, pace)
        yield lines
        lines.finish()


@contextmanager
def track_blocks(description: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress of work that reports ``(blocks done, blocks in all)`` and knows nothing of this module."""
    with ExitStack() as stack:
        tracker: list[Tracker] = []

        def on_block(done: int, total: int) -> None:
            if not tracker:
                tracker.append(stack.enter_context(track(total, description, done - 1)))
            tracker[0].advance()

        yield on_block


def _console() -> Console:
    """The one that log lines are printed through, so that they land above the bar."""
    handlers = logging.getLogger("emulator").handlers
    return next((h.console for h in handlers if isinstance(h, RichHandler)), None) or Console(stderr=True)


class _Silence:
    def advance(self, n: int = 1, **info: object) -> None:
        pass

    def once(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Pace:
    """Counts, and knows from what was done how long the rest will take."""

    def __init__(self, total: int, done: int, work: Callable[[int], float]) -> None:
        self.total, self.done = total, done
        self.start = time.monotonic()
        self._first, self._work = done, work
        self._aside = 0.0  # seconds of what happens once
        self._marks = deque([(0.0, work(done))])  # seconds spent and work done, of ``_RECENT``

    @property
    def moved(self) -> bool:
        return self.done > self._first

    def left(self, now: float) -> str:
        """Nothing where nothing was done lately."""
        here = self._work(self.done)
        spent = now - self.start - self._aside
        share, least, most = _RECENT
        recent = min(max(share * spent, least), most)
        while len(self._marks) > 1 and self._marks[1][0] <= spent - recent:
            self._marks.popleft()
        then, there = self._marks[0]
        if spent - self._marks[-1][0] >= recent / 50:  # so there are never many
            self._marks.append((spent, here))
        if here == there:
            return ""
        return f"{duration((spent - then) / (here - there) * (self._work(self.total) - here))} left"

    @contextmanager
    def once(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._aside += time.monotonic() - start


class _Bar:
    def __init__(self, bar: Progress, task: TaskID, pace: _Pace) -> None:
        self._bar, self._task, self._pace = bar, task, pace

    def advance(self, n: int = 1, **info: object) -> None:
        self._pace.done += n
        self._bar.update(self._task, advance=n, left=self._pace.left(time.monotonic()))
        if info:
            self._bar.update(self._task, info=_format(info))

    def once(self) -> AbstractContextManager[None]:
        return self._pace.once()


class _Lines:
    def __init__(self, description: str, pace: _Pace) -> None:
        self._description, self._pace = description, pace
        self._last = pace.start
        self._info: dict[str, object] = {}

    def advance(self, n: int = 1, **info: object) -> None:
        self._pace.done += n
        self._info |= info
        now = time.monotonic()
        if now - self._last >= LINE_INTERVAL and self._pace.done < self._pace.total:
            self._last = now
            self._log(self._pace.left(now))

    def once(self) -> AbstractContextManager[None]:
        return self._pace.once()

    def finish(self) -> None:
        if self._pace.moved:
            self._log(f"took {duration(time.monotonic() - self._pace.start)}")

    def _log(self, when: str) -> None:
        info = f", {_format(self._info)}" if self._info else ""
        logger.info("%s: %d/%d, %s%s", self._description, self._pace.done, self._pace.total, when, info)


def _format(info: dict[str, object]) -> str:
    return " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in info.items())


def duration(seconds: float) -> str:
    """Of seconds: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
