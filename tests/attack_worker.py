"""A short attack in a process of its own, for tests: ``attack_worker.py FOLDER``."""

import errno
import random
import sys
from pathlib import Path

from attacks import disk, faults, kills
from attacks.experiment import Experiment, Moment, campaign
from attacks.small import experiments

STAGES = ("prepare", "train", "forecast")


def main() -> int:
    root = Path(sys.argv[1])
    faults.preload(root)
    attacked = experiments(root, STAGES)
    rng = random.Random(0)
    moments = []
    for stage in STAGES:
        writes = [
            n for kind, events in attacked[stage].kinds(stage).items() if kind.startswith("write") for n in events
        ]
        moments += [Moment(stage, rng.choice(writes), mode=mode) for mode in (faults.KILL, errno.ENOSPC, errno.EIO)]
    return 0 if campaign(attacked, moments, withstand) else 1


def withstand(experiment: Experiment, moment: Moment) -> bool:
    return (kills if moment.mode == faults.KILL else disk).withstand(experiment, moment)


if __name__ == "__main__":
    sys.exit(main())
