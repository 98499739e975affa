"""The command line of ``scripts/attack.py``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from attacks import faults


def main() -> int:
    """Runs one attack. Returns 0 where the program withstood it."""
    parser = argparse.ArgumentParser(description="Attack the program and say what it withstood (docs/reliability.md).")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder when left out")
    attacks = parser.add_subparsers(dest="attack", required=True)
    kills = attacks.add_parser("kills", help="SIGKILL at many moments of every stage")
    kills.add_argument("--moments", type=int, default=240)
    disk = attacks.add_parser("disk", help="a disk that is full or fails, at every kind of write")
    for attack in (kills, disk):
        attack.add_argument("--seed", type=int, default=0)
        attack.add_argument("--stages", nargs="+", default=None)
        attack.add_argument("--minutes", type=float, default=float("inf"), help="begin no further moment after these")
    haul = attacks.add_parser("haul", help="forecasts in a loop and training with checkpoints, for an hour")
    haul.add_argument("--minutes", type=float, default=60.0)
    haul.add_argument("--part", help=argparse.SUPPRESS)
    mutations = attacks.add_parser("mutations", help="mutated configs, manifests, metadata and NetCDF files")
    mutations.add_argument("--count", type=int, default=10_000)
    mutations.add_argument("--seed", type=int, default=0)
    damage = attacks.add_parser("damage", help="bits flipped and ends cut off in scores and forecasts")
    damage.add_argument("--count", type=int, default=400)
    damage.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.folder or Path(temporary)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        if arguments.attack == "kills":
            faults.preload(root)
            from attacks import kills as attacked
            from attacks import toy

            stages = tuple(arguments.stages or toy.STAGES)
            return 0 if attacked.attack(root, arguments.moments, arguments.seed, arguments.minutes, stages) else 1
        if arguments.attack == "disk":
            faults.preload(root)
            from attacks import disk as attacked
            from attacks import toy

            stages = tuple(arguments.stages or toy.STAGES)
            return 0 if attacked.attack(root, arguments.seed, arguments.minutes, stages) else 1
        if arguments.attack == "mutations":
            from attacks import mutations as mutated

            return 0 if mutated.attack(root, arguments.count, arguments.seed) else 1
        if arguments.attack == "damage":
            from attacks import damage as attacked

            return 0 if attacked.attack(root, arguments.count, arguments.seed) else 1
        if arguments.attack == "haul":
            from attacks import haul as attacked

            if arguments.part is not None:
                {attacked.FORECASTS: attacked.forecast_forever, attacked.TRAINING: attacked.train_for_long}[
                    arguments.part
                ](root)
                return 0
            return 0 if attacked.attack(root, arguments.minutes) else 1
    return 0
