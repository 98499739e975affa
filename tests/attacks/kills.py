"""SIGKILL in the middle of every stage."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from attacks import toy
from attacks.experiment import BrokenError, Experiment, Moment, campaign
from attacks.small import experiments

WEIGHTS = {"simulate": 0.06, "prepare": 0.27, "train": 0.24, "forecast": 0.22, "evaluate": 0.21}
"""Share of the kills that a stage gets; the simulation compiles for long."""


def withstand(experiment: Experiment, moment: Moment) -> bool:
    """Kills a stage and runs it again; see ``campaign``."""
    killed = experiment.run(moment.stage, afresh=True, moment=moment)
    if killed.code not in (0, -signal.SIGKILL):
        raise BrokenError(f"{moment}: exit code {killed.code} before the kill\n{killed.log}")
    experiment.check_what_is_left(moment)
    experiment.go_on(moment)
    return killed.code != 0


def moments(experiment: Experiment, stage: str, count: int, rng: random.Random) -> Iterator[Moment]:
    """When to kill: once at every kind of write, a fifth of the kills at random times, the rest at any write."""
    at_random_times = max(1, count // 5)
    places = [rng.choice(numbers) for numbers in experiment.kinds(stage).values()]
    rng.shuffle(places)
    places = places[: count - at_random_times]
    places += [rng.randint(1, len(experiment.events[stage])) for _ in range(count - at_random_times - len(places))]
    yield from (Moment(stage, event) for event in places)
    yield from (Moment(stage, after=rng.uniform(0.02, 1.0) * experiment.seconds[stage]) for _ in range(at_random_times))


def attack(root: Path, count: int, seed: int, minutes: float, stages: Sequence[str] = toy.STAGES) -> bool:
    """The whole attack. Returns whether all was withstood."""
    rng = random.Random(seed)
    attacked = experiments(root, stages)
    chosen = [m for s in stages for m in moments(attacked[s], s, max(2, round(WEIGHTS[s] * count)), rng)]
    rng.shuffle(chosen)  # so that an attack that is cut short has been at every stage
    return campaign(attacked, chosen, withstand, minutes)
