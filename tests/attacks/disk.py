"""A disk that is full or fails from a chosen write on, in every stage that writes results."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from attacks import toy
from attacks.experiment import BrokenError, Experiment, Moment, campaign
from attacks.small import experiments

NEED_ROOM = ("create", "write", "truncate")
"""Operations that a full disk refuses; it renames and removes."""


def withstand(experiment: Experiment, moment: Moment) -> bool:
    """Lets the disk fail, looks for the one line that says so, mends the disk and goes on; see ``campaign``."""
    failed = experiment.run(moment.stage, afresh=True, moment=moment)
    lines = failed.log.splitlines()
    expected = 1 if failed.refused else 0  # threads may have written a little less this time
    if failed.code != expected:
        raise BrokenError(f"{moment}: exit code {failed.code}, expected {expected}\n{failed.log}")
    errors = sum(line.startswith("error: ") for line in lines)
    if errors != expected or "Traceback" in failed.log:
        raise BrokenError(f"{moment}: expected one line of error and no traceback\n{failed.log}")
    experiment.check_what_is_left(moment)
    experiment.go_on(moment)
    return failed.refused > 0


def moments(experiment: Experiment, stage: str, rng: random.Random) -> Iterator[Moment]:
    """One moment for every kind of write, by turns a full disk and one that fails."""
    how = cycle((errno.ENOSPC, errno.EIO))
    for kind, events in experiment.kinds(stage).items():
        if kind.startswith(NEED_ROOM):
            yield Moment(stage, rng.choice(events), mode=next(how))


def attack(root: Path, seed: int, minutes: float, stages: Sequence[str] = toy.STAGES) -> bool:
    """The whole attack. Returns whether all was withstood."""
    rng = random.Random(seed)
    attacked = experiments(root, stages)
    chosen = [moment for stage in stages for moment in moments(attacked[stage], stage, rng)]
    rng.shuffle(chosen)  # so that an attack that is cut short has been at every stage
    return campaign(attacked, chosen, withstand, minutes)
