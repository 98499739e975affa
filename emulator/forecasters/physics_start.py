"""Whether SPEEDY can forecast from somebody's fields: said before hours of training, without the model itself."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np

from data_prep import clock
from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec
from data_prep.variables import UPPER_AIR
from emulator.speedy_facts import (
    LAYERS,
    NEAR_SURFACE_TEMPERATURE,
    YEARLY_BOUNDARY,
    default_time_step_minutes,
    precipitation_name,
    refuse_without_jcm,
    truncation_of,
)

logger = logging.getLogger(__name__)

SEA_LEVEL_PRESSURE = "mean_sea_level_pressure"
"""What SPEEDY tells beside its own fields where the data are on pressure levels."""

_LEVELS_SPAN = (100.0, 925.0)  # hPa
_FEWEST_LEVELS = 5


def check_store(name: str, store: Store, truncation: int, time_step_minutes: int | None = None) -> None:
    """``check_start`` of a prepared store, with the warnings of ``warn_of_start``."""
    warn_of_start(store.spec)
    check_start(name, truncation, store.spec, store.grid, store.timestep, store.surface_geopotential, time_step_minutes)


def check_start(
    name: str,
    truncation: int,
    spec: StateSpec,
    grid: Grid,
    timestep: np.timedelta64,
    surface_geopotential: np.ndarray | None = None,
    time_step_minutes: int | None = None,
) -> None:
    """Checks that SPEEDY can forecast what is asked for; the arguments are ``PhysicsForecaster``'s.

    Raises:
      ConfigError: jcm is not installed, or the model's time step does not divide the output interval.
      DataError: the model cannot start from such fields, or cannot forecast one of them or so often.
    """
    refuse_without_jcm()
    hours = _check_hours(name, timestep)
    _check_time_step(name, truncation, time_step_minutes, hours)
    truncation_of(grid)
    _check_variables(name, spec, hours)
    if spec.vertical == "sigma":
        levels = spec["temperature"].levels
        if (centres := LAYERS.get(len(levels))) is None:
            raise DataError(f"{name}: {len(levels)} sigma levels; SPEEDY has {min(LAYERS)} to {max(LAYERS)} layers")
        if not np.allclose(levels, centres, rtol=1e-4):
            raise DataError(f"{name}: sigma levels {list(levels)} are not the model's {list(centres)}")
        if surface_geopotential is None:
            raise DataError(
                f"{name}: sigma fields need the surface they stand on; add geopotential_at_surface to data.static"
            )


def warn_of_start(spec: StateSpec) -> None:
    """Says what SPEEDY does not get of the data, its sea, ice and soil being its own climatology, or has to make up."""
    _warn_of_boundary(spec)
    _warn_of_levels(spec)


@cache
def _warn_of_boundary(spec: StateSpec) -> None:
    """Says once that a network gets boundary fields that SPEEDY does not; a nature run's are SPEEDY's own."""
    real = spec.vertical != "sigma"
    others = [
        v.name for v in spec.with_role("forcing") if v.name in YEARLY_BOUNDARY and (real or v.known == "persisted")
    ]
    if others:
        logger.warning(
            "physics: SPEEDY does not get %s of the data, as a network does; it has the climatology packaged with it",
            ", ".join(others),
        )


@cache
def _warn_of_levels(spec: StateSpec) -> None:
    """Says once that SPEEDY has to make up what a network need not know."""
    levels = [level for v in spec.variables if v.name == "temperature" for level in v.levels]
    if spec.vertical == "pressure" and levels and (why := sparse_levels(levels)) is not None:
        logger.warning("physics: SPEEDY gets %s; to beat it from there means little", why)


def sparse_levels(levels: Sequence[float]) -> str | None:
    """Why pressure levels, in hPa, are no fair start for SPEEDY; ``None`` where they are one.

    Beyond the outermost levels fields are held constant. Of the start from 37 levels of ERA5 (2 January 1959, T21) that
    from 500, 700 and 850 hPa differs by 19 to 56 K in the four upper layers (RMS) and by 2.1 hPa in surface pressure;
    that from 100, 250, 500, 850 and 925 hPa by 22 K in the topmost, 4 K at most below, and by 0.8 hPa.
    """
    top, bottom = _LEVELS_SPAN
    if len(levels) >= _FEWEST_LEVELS and min(levels) <= top and max(levels) >= bottom:
        return None
    found = f"{len(levels)} level{'s' * (len(levels) != 1)}, {min(levels):g} to {max(levels):g} hPa"
    return f"no fair start from {found}: it needs at least {_FEWEST_LEVELS} that span {top:g} to {bottom:g} hPa"


def _check_hours(name: str, timestep: np.timedelta64) -> int:
    hours = clock.hours(timestep)
    if hours < 1 or hours != int(hours):
        raise DataError(
            f"{name}: the data's time step is {hours:g} h, SPEEDY forecasts at whole hours; choose them for "
            "data.timestep_hours, or leave it out of evaluate.physics"
        )
    return int(hours)


def _check_time_step(name: str, truncation: int, asked: int | None, hours: int) -> None:
    minutes = asked or default_time_step_minutes(truncation)
    if 60 * hours % minutes:
        fitting = next(m for m in range(min(minutes, 60 * hours), 0, -1) if 60 * hours % m == 0)
        raise ConfigError(
            f"{name}: time_step_minutes {minutes} does not divide the data's time step of {hours} h; {fitting} does"
        )


def variables_to_start(spec: StateSpec) -> set[str]:
    """Those of the state that the model starts from."""
    return {*UPPER_AIR, "surface_pressure" if spec.vertical == "sigma" else "geopotential"}


def _check_variables(name: str, spec: StateSpec, hours: int) -> None:
    needed = variables_to_start(spec)
    if lacking := needed - {v.name for v in spec.with_role("prognostic")}:
        raise DataError(f"{name}: cannot start without {', '.join(sorted(lacking))}")
    possible = {*needed, NEAR_SURFACE_TEMPERATURE, precipitation_name(hours)}
    if spec.vertical != "sigma":
        possible |= {SEA_LEVEL_PRESSURE}
    if impossible := {c.variable for c in spec.state_channels} - possible:
        raise DataError(
            f"{name}: cannot forecast {', '.join(sorted(impossible))} every {hours} h; "
            f"it forecasts {', '.join(sorted(possible))}"
        )
    if any(spec[other].levels != spec["temperature"].levels for other in needed - {"surface_pressure"}):
        raise DataError(f"{name}: the upper-air variables must all be on the same levels")
