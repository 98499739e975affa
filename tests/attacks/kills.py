"""SIGKILL in the middle of every stage: what was begun must end, to the last bit, as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attacks import faults, toy

WEIGHTS = {"simulate": 0.06, "prepare": 0.27, "train": 0.24, "forecast": 0.22, "evaluate": 0.21}
"""Share of the kills that a stage gets; the simulation compiles for long."""


class BrokenError(AssertionError):
    """The program did not withstand an attack."""


class Experiment:
    """The toy experiment, run once undisturbed; the state of its folder before and after each stage is kept."""

    def __init__(self, root: Path) -> None:
        """Runs it in a folder of our own."""
        self.root, self.workdir = root, root / "work"
        self.log = root / "child.log"
        self.events: dict[str, tuple[str, ...]] = {}
        self.seconds: dict[str, float] = {}
        self.expected: dict[str, dict[str, str]] = {}
        shutil.rmtree(self.workdir, ignore_errors=True)
        self.workdir.mkdir(parents=True)
        for stage in toy.STAGES:
            toy.copy(self.workdir, self.before(stage))
            for _ in range(2):  # the second time the compiler has nothing to do, as in all that follow
                toy.copy(self.before(stage), self.workdir)
                began = time.monotonic()
                end = faults.run_child(lambda s=stage: toy.run_stage(s, self.workdir), self.workdir, self.log)
                self.seconds[stage] = time.monotonic() - began
                if end.code != 0:
                    raise BrokenError(f"{stage}, undisturbed: exit code {end.code}\n{end.log}")
            self.events[stage] = end.events
            self.expected[stage] = self.results(stage)

    def before(self, stage: str) -> Path:
        """The folder as it was before a stage."""
        return self.root / "before" / stage

    def results(self, stage: str) -> dict[str, str]:
        """What the folder holds after a stage."""
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

    def kill_and_go_on(self, stage: str, *, event: int = 0, after: float | None = None) -> bool:
        """Kills a stage at an event or after some seconds, and runs it again.

        Returns:
          Whether the kill came before the stage was done.

        Raises:
          BrokenError: a result lay half-written under its final name, the second run failed, or an array differs.
        """
        toy.copy(self.before(stage), self.workdir)
        mode = faults.KILL if event else faults.COUNT
        work = lambda: toy.run_stage(stage, self.workdir)  # noqa: E731
        killed = faults.run_child(work, self.workdir, self.log, event=event, mode=mode, after=after)
        where = f"{stage}, killed at event {event}" if event else f"{stage}, killed after {after:.3f} s"
        if killed.code not in (0, -signal.SIGKILL):
            raise BrokenError(f"{where}: exit code {killed.code} before the kill\n{killed.log}")
        try:
            left = toy.contents(self.workdir)
        except Exception as error:
            raise BrokenError(f"{where}: half-written under a final name: {error}") from error
        passing = ("run/weights.npz",)  # of an earlier step, whole
        for name, digest in left.items():
            if not name.startswith(passing) and self.expected[stage].get(name) != digest:
                raise BrokenError(f"{where}: {name} lies under its final name and differs from the undisturbed run's")
        again = faults.run_child(work, self.workdir, self.log)
        if again.code != 0:
            raise BrokenError(f"{where}: the second run ended with exit code {again.code}\n{again.log}")
        found, expected = self.results(stage), self.expected[stage]
        different = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
        if different:
            raise BrokenError(f"{where}: after the second run these differ: {', '.join(different[:5])}")
        return killed.code != 0


def kinds(events: tuple[str, ...], workdir: Path) -> dict[str, list[int]]:
    """Event numbers (from 1) by what is done to which kind of file.

    Numbers and random letters in names do not matter, nor which of the small arrays of a store it is.
    """
    out: dict[str, list[int]] = {}
    for number, event in enumerate(events, 1):
        name = re.sub(r"(statistics|climatology|forcing)/[a-z_]+", r"\1/#", event.replace(str(workdir), ""))
        if not name.startswith("mkdir"):  # a kill before a folder is made is one behind what came before
            out.setdefault(re.sub(r"[0-9a-f]{8,}|[0-9]+", "#", name), []).append(number)
    return out


def moments(
    events: tuple[str, ...], workdir: Path, seconds: float, count: int, rng: random.Random
) -> Iterator[dict[str, float]]:
    """When to kill: once at every kind of write, a fifth of the kills at random times, the rest at any write."""
    at_random_times = max(1, count // 5)
    places = [rng.choice(numbers) for numbers in kinds(events, workdir).values()]
    rng.shuffle(places)
    places = places[: count - at_random_times]
    places += [rng.randint(1, len(events)) for _ in range(count - at_random_times - len(places))]
    yield from ({"event": number} for number in sorted(places))
    yield from ({"after": rng.uniform(0.02, 1.0) * seconds} for _ in range(at_random_times))


def attack(root: Path, count: int, seed: int, stages: tuple[str, ...] = toy.STAGES) -> bool:
    """The whole attack, with a line a stage on standard output. Returns whether all was withstood."""
    rng = random.Random(seed)
    broken = 0
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "xla")  # of our own, and it keeps every program
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    toy.import_everything()
    experiment = Experiment(root)
    print(f"{'stage':10} {'seconds':>8} {'writes':>7} {'kinds':>6} {'moments':>8} {'killed':>7} {'broken':>7}")
    for stage in stages:
        events, seconds = experiment.events[stage], experiment.seconds[stage]
        chosen = list(moments(events, experiment.workdir, seconds, max(2, round(WEIGHTS[stage] * count)), rng))
        in_time = wrong = 0
        for moment in chosen:
            try:
                in_time += experiment.kill_and_go_on(stage, **moment)
            except (BrokenError, TimeoutError) as error:
                wrong += 1
                print(f"BROKEN {error}", flush=True)
        broken += wrong
        n_kinds = len(kinds(events, experiment.workdir))
        figures = f"{seconds:8.1f} {len(events):7} {n_kinds:6} {len(chosen):8} {in_time:7} {wrong:7}"
        print(f"{stage:10} {figures}", flush=True)
    return broken == 0
