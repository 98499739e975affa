"""One small developed SPEEDY ensemble for all tests of physics: T21, one compiled graph of four six-hour intervals.

Compiling a graph takes some 20 s, so every test that runs the model asks for this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from data_prep.grid import Grid

INTERVALS, HOURS, TRUNCATION = 4, 6, 21
START = np.datetime64("1901-01-01")


@dataclass(frozen=True)
class Developed:
    """Two members after three days from rest: states, and the fields of the last day ``(member, interval, ...)``.

    ``grid`` and ``surface``, geopotential in m2 s-2, are the model's own.
    """

    model: Any
    grid: Grid
    surface: np.ndarray
    ensemble: Any
    states: Any
    fields: dict[str, np.ndarray]
    end: np.datetime64


@lru_cache
def developed() -> Developed:
    """Two days from rest, a small perturbation, one more day."""
    from emulator.physics.ensemble import Ensemble
    from emulator.physics.speedy import SpeedyModel, one_member, perturb_vorticity, replicate
    from emulator.physics.transfer import gaussian_grid

    model = SpeedyModel(TRUNCATION)
    states = replicate(model.at_rest(START), 1)
    ensemble = Ensemble(model, states, intervals=INTERVALS, interval_hours=HOURS, output_truncation=TRUNCATION)
    for _ in range(2):
        states, _ = ensemble.advance(states)
    states = perturb_vorticity(replicate(one_member(model, states, 0), 2), 0.02, seed=0)
    states, fields = ensemble.advance(states)
    surface = model.surface_geopotential_on(TRUNCATION)
    return Developed(
        model, gaussian_grid(TRUNCATION), surface, ensemble, states, fields, START + np.timedelta64(3, "D")
    )
