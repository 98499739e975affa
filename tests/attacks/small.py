"""What is attacked: an experiment on 54 grid points, which takes seconds, and for ``simulate`` the tiny one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from world_files import region, region_section

from attacks import toy
from attacks.experiment import Experiment


def experiments(root: Path, stages: Sequence[str] = toy.STAGES) -> Mapping[str, Experiment]:
    """An undisturbed run of these stages, by stage."""
    out = {}
    if "simulate" in stages:
        out["simulate"] = Experiment(root / "tiny", ("simulate",))
    others = tuple(stage for stage in stages if stage != "simulate")
    return out | dict.fromkeys(others, small(root / "small", others)) if others else out


def small(root: Path, stages: Sequence[str]) -> Experiment:
    """The experiment on 54 grid points."""
    nature = root / "nature"
    shutil.rmtree(nature, ignore_errors=True)
    nature.mkdir(parents=True)
    region().to_netcdf(nature / "weather.nc")
    config = {
        "name": "attacked",
        "seed": 1,
        "data": region_section(["{workdir}/nature/*.nc"]),
        "model": {"kind": "unet", "patch": 1, "width": 8, "multipliers": [1], "blocks": 1},
        "train": {"batch_size": 4, "stages": [{"steps": 6}], "validation_steps": 2},
        "evaluate": {"lead_hours": 24, "references": ["persistence"], "headline": ["temperature@850"]},
    }
    file = root / "attacked.yaml"
    file.write_text(json.dumps(config))  # which is YAML
    return Experiment(root, stages, file, nature)
