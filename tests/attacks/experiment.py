"""An experiment under attack: run once undisturbed, then a stage at a time with a fault in the middle of it.

Whatever the fault, nothing half-written may lie under a final name, and the stage that is run again must end, to the
last bit, as if nothing had happened.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks import faults, toy


class BrokenError(AssertionError):
    """The program did not withstand an attack."""


@dataclass(frozen=True)
class Moment:
    """A fault in a stage.

    Attributes:
      stage: Its name.
      event: Number of the change of a file at which it comes, from 1; 0 for a kill at a time.
      after: Seconds after which it comes.
      mode: ``faults.KILL`` or an ``errno``, for a fault at an event.
    """

    stage: str
    event: int = 0
    after: float | None = None
    mode: int = faults.KILL

    def __str__(self) -> str:
        what = "killed" if self.mode == faults.KILL else os.strerror(self.mode)
        return f"{self.stage}, {what} " + (f"at event {self.event}" if self.event else f"after {self.after:.3f} s")


class Experiment:
    """An experiment, run once undisturbed; the state of its folder before each stage is kept."""

    def __init__(
        self,
        root: Path,
        stages: Sequence[str] = toy.STAGES,
        config: Path = toy.CONFIG,
        nature: Path | None = None,
    ) -> None:
        """Runs it in a folder of our own, in a process in which JAX has not woken up.

        Args:
          root: The folder.
          stages: Which to run, in order.
          config: The experiment.
          nature: Folder of files that take the place of the stage ``simulate``.
        """
        self.config = config
        self.root, self.workdir = root, root / "work"
        self.log = root / "child.log"
        self.events: dict[str, tuple[str, ...]] = {}
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, str]] = {}
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "xla"))  # JAX reads it once, as it is imported
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        toy.import_everything()
        shutil.rmtree(self.workdir, ignore_errors=True)
        self.workdir.mkdir(parents=True)
        if nature is not None:
            shutil.copytree(nature, self.workdir / "nature")
        for stage in stages:
            toy.copy(self.workdir, self._before(stage))
            for _ in range(2):  # the second time the compiler has nothing to do, as in all that follow
                began = time.monotonic()
                end = self.run(stage, afresh=True)
                self.seconds[stage] = time.monotonic() - began
                if end.code != 0:
                    raise BrokenError(f"{stage}, undisturbed: exit code {end.code}\n{end.log}")
            self.events[stage] = end.events
            self.expected[stage] = self._results(stage)

    def run(self, stage: str, *, afresh: bool = False, moment: Moment | None = None) -> faults.End:
        """Runs a stage in a child, with a fault if there is a moment for it.

        Args:
          stage: Its name.
          afresh: From the folder as it was before the stage, not as it is.
          moment: When and how it fails.
        """
        if afresh:
            toy.copy(self._before(stage), self.workdir)
        work = lambda: toy.run_stage(stage, self.workdir, self.config)  # noqa: E731
        if moment is None:
            return faults.run_child(work, self.workdir, self.log)
        mode = moment.mode if moment.event else faults.COUNT
        return faults.run_child(work, self.workdir, self.log, event=moment.event, mode=mode, after=moment.after)

    def check_what_is_left(self, moment: Moment) -> None:
        """Looks at the folder after a fault.

        Raises:
          BrokenError: what lies under a final name is not what the undisturbed run left there.
        """
        try:
            left = toy.contents(self.workdir)
        except Exception as error:
            raise BrokenError(f"{moment}: half-written under a final name: {error}") from error
        passing = ("run/weights.npz",)  # of an earlier step, whole
        for name, digest in left.items():
            if not name.startswith(passing) and self.expected[moment.stage].get(name) != digest:
                raise BrokenError(f"{moment}: {name} lies under its final name and differs from the undisturbed run's")

    def go_on(self, moment: Moment) -> None:
        """Runs the stage again after a fault.

        Raises:
          BrokenError: it fails, or an array differs from the undisturbed run's.
        """
        again = self.run(moment.stage)
        if again.code != 0:
            raise BrokenError(f"{moment}: the second run ended with exit code {again.code}\n{again.log}")
        found, expected = self._results(moment.stage), self.expected[moment.stage]
        different = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        if different:
            raise BrokenError(f"{moment}: after the second run these differ: {', '.join(different[:5])}")

    def kinds(self, stage: str) -> dict[str, list[int]]:
        """Event numbers (from 1) of a stage by what is done to which kind of file.

        Numbers and random letters in names do not matter, nor which of the small arrays of a store it is.
        """
        out: dict[str, list[int]] = {}
        for number, event in enumerate(self.events[stage], 1):
            name = event.replace(str(self.workdir), "")
            name = re.sub(r"(statistics|climatology|forcing)/[a-z_]+", r"\1/#", name)
            if not name.startswith("mkdir"):  # a fault before a folder is made is one behind what came before
                out.setdefault(re.sub(r"[0-9a-f]{8,}|[0-9]+", "#", name), []).append(number)
        return out

    def _before(self, stage: str) -> Path:
        return self.root / "before" / stage

    def _results(self, stage: str) -> dict[str, str]:
        found = toy.contents(self.workdir)
        if stage == "train":
            found |= self._in_child(lambda: toy.checkpoint(self.workdir))
            found["metrics.jsonl"] = str(toy.metrics(self.workdir))
        return found

    def _in_child(self, function: Callable[[], dict[str, str]]) -> dict[str, str]:
        """Reads a checkpoint in a child, since that wakes JAX up."""
        out = self.root / "found"

        def work() -> int:
            out.write_text(repr(function()))
            return 0

        end = faults.run_child(work, self.workdir, self.log)
        if end.code != 0:
            raise BrokenError(end.log)
        return eval(out.read_text(), {"__builtins__": {}})


def campaign(
    experiments: Mapping[str, Experiment],
    moments: Sequence[Moment],
    withstand: Callable[[Experiment, Moment], bool],
    minutes: float = float("inf"),
) -> bool:
    """Goes through moments, with a line for what breaks and at the end a table on standard output.

    Args:
      experiments: What is attacked, by stage.
      moments: In the order in which they are taken.
      withstand: Attacks at one moment, returns whether the fault came before the stage was done, raises
        ``BrokenError`` where the program did not withstand it.
      minutes: After these no further moment is begun.

    Returns:
      Whether something was attacked and all was withstood.
    """
    planned, done, in_time, broken = (Counter[str]() for _ in range(4))
    planned.update(moment.stage for moment in moments)
    began = time.monotonic()
    for moment in moments:
        if time.monotonic() - began > 60 * minutes:
            break
        done[moment.stage] += 1
        try:
            in_time[moment.stage] += withstand(experiments[moment.stage], moment)
        except (BrokenError, TimeoutError) as error:
            broken[moment.stage] += 1
            print(f"BROKEN {error}", flush=True)
        print(f"{done.total()} of {planned.total()}: {moment}", flush=True)
    names = ("seconds", "writes", "kinds", "planned", "done", "in time", "broken")
    print(f"{'stage':10}", *(f"{name:>8}" for name in names))
    for stage in planned:
        counts = [n[stage] for n in (planned, done, in_time, broken)]
        attacked = experiments[stage]
        figures = (len(attacked.events[stage]), len(attacked.kinds(stage)), *counts)
        print(f"{stage:10} {attacked.seconds[stage]:8.1f}", *(f"{n:8}" for n in figures), flush=True)
    return done.total() > 0 and broken.total() == 0
