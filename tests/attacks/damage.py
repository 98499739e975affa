"""Bits flipped and ends cut off in a scores file and a forecast file, until something is read that was not written."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import xarray as xr

from attacks.flips import damage_files, sound, total


def attack(root: Path, count: int, seed: int) -> bool:
    """Damages each file so often; prints what came of it. Returns whether nothing wrong was read."""
    from small_experiment import make_experiment

    from data_prep.files.disk import reading
    from data_prep.grid import Grid
    from emulator.evaluation.forecast_file import ForecastFile
    from emulator.evaluation.scores_file import open_scores

    made = make_experiment(root / "made", Grid.gaussian(8), ("geopotential@500", "2m_temperature"), {"data_hash": "h"})
    forecast, scores = made.paths["network"], made.folder / "scores.nc"

    def read_forecast() -> object:
        file = ForecastFile.open(forecast, made.store)
        fields = file.read(file.variables, slice(None))
        return {name: _digest(values) for name, values in fields.variables.items()}

    def read_scores() -> object:
        with open_scores(scores) as opened, reading(scores):
            return {name: _digest(values) for name, values in opened.variables.items()}

    rng, is_sound = random.Random(seed), True
    for path, read in ((scores, read_scores), (forecast, read_forecast)):
        found = damage_files([path], read, path.name, count, rng)
        is_sound = sound(found) and is_sound
        print(f"{path.name}, {path.stat().st_size} bytes: {dict(total(found))}", flush=True)
    return is_sound


def _digest(variable: xr.Variable) -> str:
    values = variable.values
    content = repr(values.tolist()).encode() if values.dtype.kind in "OUS" else values.tobytes()
    return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + content).hexdigest()
