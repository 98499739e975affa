"""Which run a folder holds, and whether that is the one that is wanted or its beginning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Store
from emulator.checkpoint import describe_run, read_description, read_statistics
from emulator.config import ModelConfig, TrainConfig
from emulator.learned_from import learned_periods
from emulator.run_folder import DESCRIPTION, run_folder
from emulator.training.checkpoints import CHECKPOINTS


def learned_statistics(
    run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int
) -> Statistics | None:
    """The statistics that a run folder holds, if it is one of this run and they are sound; else they are made again."""
    if is_beginning(run_dir, config, model, seed) and read_description(run_dir)["data_hash"] == store.data_hash:
        with suppress(DataError):
            return read_statistics(run_dir)
    return None


def latest_step(run_dir: Path) -> int | None:
    """Step of the checkpoint to go on from, if there is one."""
    names = (path.name for path in (run_dir / CHECKPOINTS).glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=None)  # other names are half written


def claim(
    run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int, experiment: Mapping[str, Any]
) -> None:
    """Describes the run in its folder, once it is sure that the folder holds no other run than this, or its beginning.

    Raises:
      DataError: the folder holds another run.
    """
    if why := another_run(run_dir, config, model, store, seed):
        raise DataError(why)
    before = run_dir if (run_dir / DESCRIPTION).exists() else config.start_from and run_folder(config.start_from)
    describe_run(
        run_dir,
        store,
        model,
        precision=config.precision,
        seed=seed,
        identity=_identity(config, model, store.data_hash, seed),
        experiment=experiment,
        anomalies=config.anomalies,
        learned_before=learned_periods(read_description(before)) if before else (),
    )


def another_run(run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int) -> str | None:
    """Why a run folder cannot be gone on with, in a line; ``None`` where it holds this run, its beginning or nothing.

    Raises:
      DataError: the folder's description is damaged.
    """
    if not (run_dir / DESCRIPTION).exists():
        if any((run_dir / CHECKPOINTS).glob("*")):
            return f"{run_dir}: holds checkpoints, but no {DESCRIPTION} that says of which run; remove it"
        return None
    found = read_description(run_dir)
    if found["data_hash"] == store.data_hash and is_beginning(run_dir, config, model, seed):
        return None
    return f"{run_dir}: holds a run with another config, seed or data; remove it or choose another workdir"


def is_beginning(run_dir: Path, config: TrainConfig, model: ModelConfig, seed: int) -> bool:
    """Whether a run folder holds this run, or one that had only its first stages and can go on to the others.

    Raises:
      DataError: the folder's description is damaged.
    """
    if not (run_dir / DESCRIPTION).exists():
        return False
    found = read_description(run_dir)
    courses = (config.model_copy(update={"stages": config.stages[:n]}) for n in range(1, len(config.stages) + 1))
    return found["identity"] in {_identity(course, model, found["data_hash"], seed) for course in courses}


def _identity(config: TrainConfig, model: ModelConfig, data_hash: str, seed: int) -> str:
    """Hash of all that decides what the weights become; without defaults, as ``stages.decisive_values``."""
    decisive = {
        "train": config.model_dump(mode="json", exclude={*TrainConfig.HOW, "seed"}, exclude_defaults=True),
        "model": model.model_dump(mode="json", exclude_defaults=True),
        "data": data_hash,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
