"""The toy experiment under attack: every stage in seconds, and what its results are, to the last bit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

CONFIG = Path(__file__).parent.parent / "tiny.yaml"
STAGES = ("simulate", "prepare", "train", "forecast", "evaluate")
MEASURED = ("seconds_per_simulated_day", "simulated_days_per_second", "hardware")
"""What runs differ in: times and costs."""


def overrides(workdir: Path) -> list[str]:
    """The tiny experiment without physics baselines, with a checkpoint every third step."""
    values = {
        "workdir": workdir,
        "evaluate.physics": "[]",
        "evaluate.bootstrap": 20,
        "evaluate.init_every_hours": 48,
        "train.checkpoint_every": 3,
        "train.validate_every": 3,  # so that kills fall between a checkpoint and its validation, too
        "train.validation_windows": 2,
    }
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def run_stage(stage: str, workdir: Path, config: Path = CONFIG) -> int:
    """Runs a stage as the command line does. Returns the exit code."""
    from emulator.cli import main

    return main([stage, str(config), *overrides(workdir)])


def import_everything() -> None:
    """What the stages import, without waking JAX up."""
    import tensorboardX  # noqa: F401

    import emulator.cli
    import emulator.evaluation.scores
    import emulator.evaluation.table
    import emulator.experiment.comparing

    if find_spec("jcm"):
        import emulator.physics.nature_run
    import emulator.training.train  # noqa: F401


def copy(source: Path, target: Path) -> None:
    """Puts a saved state of the folder in place, times of change included: they are part of what a store is made of."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    for path in target.rglob("*"):  # copytree keeps the times of files; those of folders are set last
        original = (source / path.relative_to(target)).stat()
        os.utime(path, ns=(original.st_atime_ns, original.st_mtime_ns))


def contents(workdir: Path) -> dict[str, Any]:
    """A digest of every result that lies under its final name, and of every array in it; times and costs left out.

    Whatever cannot be read raises: a file under a final name is whole.
    """
    out: dict[str, Any] = {}
    for path in sorted(workdir.rglob("*")):
        name = str(path.relative_to(workdir))
        if path.is_dir() or _is_temporary(path.relative_to(workdir)):
            continue
        if path.suffix == ".nc":
            out |= {f"{name}:{key}": value for key, value in _netcdf(path).items()}
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                out |= {f"{name}:{key}": _digest(arrays[key]) for key in arrays.files}
        elif path.name == "metrics.jsonl":
            pass  # grows line by line; what is in it is compared by ``metrics``
        elif path.name in ("stages.json", "simulate.json", "run.json"):
            json.loads(path.read_text())
        elif path.parts[len(workdir.parts)] not in ("run", "table.txt", ".lock"):
            out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """What training wrote down, times left out."""
    timed = ("seconds_per_step", "samples_per_second", "data_wait_share", "flops_utilisation")
    lines = (workdir / "run" / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def checkpoint(workdir: Path) -> dict[str, str]:
    """Digests of the arrays of the newest checkpoint."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((workdir / "run" / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
        arrays = manager.restore(step, args=ocp.args.StandardRestore())
    return {"step": str(step)} | {name: _digest(np.asarray(array)) for name, array in arrays.items()}


def _is_temporary(path: Path) -> bool:
    """Whether a name says that the file is not finished; half-written ones may have no other."""
    marks = (".partial", ".tmp")
    return any(
        part.endswith(marks) or (part.startswith(".") and part != ".lock") or part in ("parts", "checkpoints")
        for part in path.parts
    )


def _netcdf(path: Path) -> dict[str, str]:
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        return {name: _digest(v[...]) for name, v in file.variables.items() if name not in MEASURED}


def _digest(array: Any) -> str:
    values = np.asarray(array)
    if values.dtype.kind in "OSU":
        return hashlib.sha256(json.dumps(values.astype(str).tolist()).encode()).hexdigest()
    return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()).hexdigest()
