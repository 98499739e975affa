"""A short attack in a process of its own, for tests: ``attack_worker.py FOLDER``.

The experiment has a grid of 54 points and needs no simulation; the long attacks are those of ``scripts/attack.py``.
"""

import errno
import json
import random
import sys
from pathlib import Path

import numpy as np
from attacks import disk, faults, kills
from attacks.experiment import Experiment, Moment, campaign
from weather_files import times_from
from world_files import world

from data_prep.grid import Grid

STAGES = ("prepare", "train", "forecast")


def make_experiment(root: Path) -> Experiment:
    nature = root / "nature"
    nature.mkdir()
    data = world(times_from("2001-01-01", 120), Grid.from_arrays(np.arange(40, 46), np.arange(5, 14)))
    data[["temperature", "mean_sea_level_pressure"]].to_netcdf(nature / "weather.nc")
    config = {
        "name": "attacked",
        "seed": 1,
        "data": {
            "inputs": ["{workdir}/nature/*.nc"],
            "vertical": "pressure",
            "prognostic": {"temperature": {}, "mean_sea_level_pressure": {}},
            "computed": ["coordinates"],
            "split": {
                "train": ["2001-01-01", "2001-01-15"],
                "validation": ["2001-01-17", "2001-01-21"],
                "test": ["2001-01-23", "2001-01-31"],
                "gap_days": 1,
            },
        },
        "model": {"kind": "unet", "patch": 1, "width": 8, "multipliers": [1], "blocks": 1},
        "train": {"batch_size": 4, "stages": [{"steps": 6}], "validation_steps": 2},
        "evaluate": {"lead_hours": 24, "references": ["persistence"], "headline": ["temperature@850"]},
    }
    file = root / "attacked.yaml"
    file.write_text(json.dumps(config))  # which is YAML
    return Experiment(root, STAGES, file, nature)


def main() -> int:
    root = Path(sys.argv[1])
    faults.preload(root)
    experiment = make_experiment(root)
    rng = random.Random(0)
    moments = []
    for stage in STAGES:
        writes = [n for kind, events in experiment.kinds(stage).items() if kind.startswith("write") for n in events]
        moments += [Moment(stage, rng.choice(writes), mode=mode) for mode in (faults.KILL, errno.ENOSPC, errno.EIO)]
    return 0 if campaign(experiment, moments, withstand) else 1


def withstand(experiment: Experiment, moment: Moment) -> bool:
    return (kills if moment.mode == faults.KILL else disk).withstand(experiment, moment)


if __name__ == "__main__":
    sys.exit(main())
