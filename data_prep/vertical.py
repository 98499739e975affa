"""The vertical: hydrostatics on sigma levels, sigma and pressure, what lies below ground, sea-level pressure.

One set of functions for truth and forecasts alike, so that a difference between two fields is never one between two
methods. Arrays have dims ``(..., level, latitude, longitude)``, surface fields ``(..., latitude, longitude)``; level
runs from the top down; pressures in Pa.

Between levels, temperature, wind and humidity are linear in the logarithm of pressure, and geopotential follows by
integrating that temperature: this is the trapezoidal rule by which dinosaur and other spectral cores integrate (Durran,
2010, Numerical Methods for Fluid Dynamics, section 8.6; Simmons and Burridge, 1981), so geopotential on sigma levels
is the core's own. Above the top level everything is constant, below the lowest one wind and humidity are. Below
ground, temperature follows a lapse rate of 6.5 K/km with the precautions of ECMWF's post-processing (Trenberth et
al., 1993, NCAR/TN-396, section 2.3; IFS documentation, part VI, section 5.3), and geopotential and sea-level pressure
are consistent with it. Virtual temperature is used throughout hydrostatics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.kinematics import vorticity, wind_speed
from data_prep.spec import VERTICAL_ATTRS, find_levels
from data_prep.variables import WINDS, known

if TYPE_CHECKING:
    import xarray as xr  # slow to import, and training does without it

MODEL_GRAVITY = 9.81
"""m s-2, as jcm has it: geopotential is exact, heights are not needed."""
GAS_CONSTANT = 287.04
"""Of dry air, J kg-1 K-1."""
GAS_CONSTANT_VAPOUR = 461.51
"""Of water vapour, J kg-1 K-1."""
LAPSE_RATE = 0.0065
"""K m-1, below ground."""

_ALPHA = LAPSE_RATE * GAS_CONSTANT / MODEL_GRAVITY  # d ln T / d ln p at that lapse rate
_WARM, _COLD = 290.5, 255.0  # K; limits of Trenberth et al. beyond which the lapse rate would mislead


def virtual_temperature(temperature: np.ndarray, specific_humidity: np.ndarray) -> np.ndarray:
    """Virtual temperature in K: what dry air of the same pressure and density would have."""
    return temperature * (1 + (GAS_CONSTANT_VAPOUR / GAS_CONSTANT - 1) * specific_humidity)


def sigma_geopotential(virtual: np.ndarray, surface_geopotential: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Geopotential (m2 s-2) on sigma levels, by the discretisation of the spectral core.

    The lowest layer is isothermal from its centre down; above it the trapezoidal rule in ``ln sigma``.

    Args:
      virtual: Virtual temperature (K), ``(..., level, latitude, longitude)``.
      surface_geopotential: ``(latitude, longitude)`` or with leading dims.
      sigma: Level centres, top first.
    """
    depth = np.diff(np.log(sigma))[:, None, None]
    lowest = surface_geopotential + GAS_CONSTANT * virtual[..., -1, :, :] * -np.log(sigma[-1])
    layers = GAS_CONSTANT * depth * (virtual[..., 1:, :, :] + virtual[..., :-1, :, :]) / 2
    above = np.flip(np.cumsum(np.flip(layers, axis=-3), axis=-3), axis=-3)
    return np.concatenate([lowest[..., None, :, :] + above, lowest[..., None, :, :]], axis=-3)


def surface_temperature(lowest: np.ndarray, lowest_sigma: float) -> np.ndarray:
    """Temperature (K) at the surface, carried down from the lowest level at the standard lapse rate."""
    return lowest * (1 + _ALPHA * (1 / lowest_sigma - 1))


def mean_sea_level_pressure(
    surface_pressure: np.ndarray,
    surface_geopotential: np.ndarray,
    lowest_virtual: np.ndarray,
    lowest_sigma: float,
) -> np.ndarray:
    """Pressure reduced to mean sea level (Pa), by the method of ECMWF (Trenberth et al., 1993).

    Args:
      surface_pressure: Pa, ``(..., latitude, longitude)``.
      surface_geopotential: m2 s-2.
      lowest_virtual: Virtual temperature (K) at the lowest sigma level.
      lowest_sigma: That level.
    """
    warmth, alpha = _reduction(surface_temperature(lowest_virtual, lowest_sigma), surface_geopotential)
    x = surface_geopotential / (GAS_CONSTANT * warmth)
    y = alpha * x
    return surface_pressure * np.exp(x * (1 - y / 2 + y**2 / 3))


def geopotential_below_ground(
    log_depth: np.ndarray, surface_geopotential: np.ndarray, surface_virtual: np.ndarray
) -> np.ndarray:
    """Geopotential (m2 s-2) at pressures higher than the surface's: the inverse of ``mean_sea_level_pressure``.

    Args:
      log_depth: Logarithm of pressure over surface pressure, positive.
      surface_geopotential: m2 s-2.
      surface_virtual: Virtual temperature (K) at the surface.
    """
    warmth, alpha = _reduction(surface_virtual, surface_geopotential)
    y = alpha * log_depth
    return surface_geopotential - GAS_CONSTANT * warmth * log_depth * (1 + y / 2 + y**2 / 6)


def temperature_below_ground(
    log_depth: np.ndarray, surface_geopotential: np.ndarray, surface_temperature: np.ndarray
) -> np.ndarray:
    """Temperature (K) at pressures higher than the surface's; under plateaus it does not run away (IFS, 5.3)."""
    height = surface_geopotential / MODEL_GRAVITY
    sea_level = surface_temperature + LAPSE_RATE * height
    capped = np.minimum(sea_level, 298.0)
    plateau = np.clip((height - 2000.0) / 500.0, 0.0, 1.0)
    sea_level = sea_level + plateau * (capped - sea_level)
    high = height > 2000.0
    divisor = np.where(high, surface_geopotential, 1.0)
    alpha = np.where(high, np.maximum(GAS_CONSTANT * (sea_level - surface_temperature) / divisor, 0.0), _ALPHA)
    y = alpha * log_depth
    return surface_temperature * (1 + y + y**2 / 2 + y**3 / 6)


def _reduction(surface_virtual: np.ndarray, surface_geopotential: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface temperature and ``d ln T / d ln p`` for reductions: neither too hot deserts nor too cold ice sheets."""
    sea_level = surface_virtual + LAPSE_RATE / MODEL_GRAVITY * surface_geopotential
    hot = sea_level > _WARM
    warm_surface = surface_virtual > _WARM
    # The lapse rate that just reaches the limit at sea level. Where the limit is passed, the geopotential is positive.
    divisor = np.where(hot & ~warm_surface, surface_geopotential, 1.0)
    limited = GAS_CONSTANT * (_WARM - surface_virtual) / divisor
    alpha = np.where(hot, np.where(warm_surface, 0.0, limited), _ALPHA)
    warmth = np.where(hot & warm_surface, (_WARM + surface_virtual) / 2, surface_virtual)
    warmth = np.where(surface_virtual < _COLD, (_COLD + surface_virtual) / 2, warmth)
    return warmth, alpha


def interpolate(field: np.ndarray, knots: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation along the level axis; constant beyond the outer knots.

    Args:
      field: Values at the knots, ``(..., knot, latitude, longitude)``.
      knots: Ascending, the same for all columns, e.g. ``ln sigma``.
      positions: Where values are wanted, ``(..., position, latitude, longitude)``, e.g. ``ln (p / surface pressure)``.

    Returns:
      ``(..., position, latitude, longitude)``.
    """
    return _take(field, _locate(knots, positions))


class _Place(NamedTuple):
    """Where points lie between knots: index of the knot above, and weight of the knot below; within the knots."""

    above: np.ndarray
    weight: np.ndarray


def _locate(knots: np.ndarray, positions: np.ndarray) -> _Place:
    above = np.clip(np.searchsorted(knots, positions, side="right") - 1, 0, knots.size - 2)
    weight = (positions - knots[above]) / (knots[above + 1] - knots[above])
    return _Place(above, np.clip(weight, 0.0, 1.0).astype(positions.dtype))


def _take(field: np.ndarray, place: _Place) -> np.ndarray:
    upper = np.take_along_axis(field, place.above, axis=-3)
    lower = np.take_along_axis(field, place.above + 1, axis=-3)
    return upper + place.weight * (lower - upper)


def sigma_to_pressure(
    temperature: np.ndarray,
    specific_humidity: np.ndarray,
    others: Sequence[np.ndarray],
    surface_pressure: np.ndarray,
    surface_geopotential: np.ndarray,
    sigma: np.ndarray,
    pressures: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """From sigma levels to pressure levels.

    Args:
      temperature: K, ``(..., level, latitude, longitude)``.
      specific_humidity: kg kg-1, the same shape.
      others: More fields of that shape (humidity, winds), interpolated linearly in ``ln p``.
      surface_pressure: Pa, ``(..., latitude, longitude)``.
      surface_geopotential: m2 s-2, ``(latitude, longitude)``.
      sigma: Level centres, top first.
      pressures: Pa.

    Returns:
      Geopotential (m2 s-2), temperature (K) and the other fields on the pressure levels, top first as ``pressures``
      are.
    """
    knots = np.log(sigma).astype(temperature.dtype)
    depth = np.log(pressures[:, None, None] / surface_pressure[..., None, :, :]).astype(temperature.dtype)
    place = _locate(knots, depth)
    virtual = virtual_temperature(temperature, specific_humidity)
    # Integrating a temperature that is linear in ln p from the knot above: exact between levels, and right beyond the
    # outer ones, where temperature is constant.
    at = _take(virtual, place)
    knot_value = np.take_along_axis(virtual, place.above, axis=-3)
    knot_geopotential = np.take_along_axis(
        sigma_geopotential(virtual, surface_geopotential, sigma), place.above, axis=-3
    )
    inside = np.clip(depth, knots[0], knots[-1])
    beyond = depth - inside
    geopotential = (
        knot_geopotential
        - GAS_CONSTANT * (at + knot_value) / 2 * (inside - knots[place.above])
        - GAS_CONSTANT * at * beyond
    )
    lowest = float(sigma[-1])
    ground = surface_temperature(temperature[..., -1:, :, :], lowest)
    # Between the lowest level and the ground temperature goes on to its surface value.
    towards = np.clip(beyond / -np.log(lowest), 0.0, 1.0)
    warmth = _take(temperature, place)
    warmth = warmth + np.where(beyond > 0, towards, 0.0) * (ground - warmth)
    under = depth > 0
    below = np.where(under, depth, 0.0)
    warmth = np.where(under, temperature_below_ground(below, surface_geopotential, ground), warmth)
    ground_virtual = surface_temperature(virtual[..., -1:, :, :], lowest)
    geopotential = np.where(under, geopotential_below_ground(below, surface_geopotential, ground_virtual), geopotential)
    return geopotential, warmth, [_take(field, place) for field in others]


def surface_pressure_from_geopotential(
    geopotential: np.ndarray, virtual: np.ndarray, pressures: np.ndarray, surface_geopotential: np.ndarray
) -> np.ndarray:
    """Surface pressure (Pa) of a surface that stands in fields on pressure levels: where geopotential is the surface's.

    Args:
      geopotential: m2 s-2 on pressure levels, top first, ``(..., level, latitude, longitude)``.
      virtual: Virtual temperature (K), the same shape; used below the lowest level.
      pressures: Pa, ascending.
      surface_geopotential: m2 s-2, ``(latitude, longitude)``.
    """
    target = surface_geopotential[..., None, :, :]
    # ln p is nearly linear in geopotential between neighbouring levels.
    above = np.clip((geopotential > target).sum(axis=-3, keepdims=True) - 1, 0, pressures.size - 2)
    high, low = (np.take_along_axis(geopotential, above + i, axis=-3) for i in (0, 1))
    log_high, log_low = np.log(pressures)[above], np.log(pressures)[above + 1]
    inside = log_high + (log_low - log_high) * (high - target) / (high - low)
    below = np.log(pressures[-1]) + (geopotential[..., -1:, :, :] - target) / (GAS_CONSTANT * virtual[..., -1:, :, :])
    return np.exp(np.where(geopotential[..., -1:, :, :] > target, below, inside))[..., 0, :, :]


def pressure_to_sigma(
    field: np.ndarray, pressures: np.ndarray, surface_pressure: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """From pressure levels to sigma levels, linear in ``ln p``, constant beyond the outer levels.

    Args:
      field: ``(..., level, latitude, longitude)`` on pressure levels, top first.
      pressures: Pa, ascending.
      surface_pressure: Pa, ``(..., latitude, longitude)``.
      sigma: Level centres, top first.
    """
    positions = np.log(sigma[:, None, None] * surface_pressure[..., None, :, :])
    return interpolate(field, np.log(pressures), positions)


KINEMATIC = ("wind_speed", "vorticity")
"""What ``derive`` makes of the winds if asked to."""


def derive(
    dataset: xr.Dataset, pressure_levels_hpa: Sequence[float] | None, kinematic: Sequence[str] = ()
) -> xr.Dataset:
    """The variables that are verified: upper-air fields on pressure levels, sea-level pressure, surface fields.

    Args:
      dataset: Canonical fields with any leading dims, on sigma levels (then with ``temperature``,
        ``specific_humidity``, ``surface_pressure`` and ``geopotential_at_surface``) or on pressure levels.
      pressure_levels_hpa: Wanted levels in hPa; ``None`` takes pressure levels as they are.
      kinematic: Which of ``KINEMATIC`` to add, on the levels of the winds.

    Returns:
      From sigma levels: ``geopotential`` and all upper-air fields on ``level`` (hPa, top first),
      ``mean_sea_level_pressure`` and every surface field that came in. Geopotential and sea-level pressure are derived,
      also where they came in. From pressure levels: the wanted levels of what came in. Without levels: what came in.

    Raises:
      DataError: a field or a level is missing; the message says which, and what there is.
    """
    return _with_kinematics(_on_levels(dataset, pressure_levels_hpa), kinematic)


def _on_levels(dataset: xr.Dataset, pressure_levels_hpa: Sequence[float] | None) -> xr.Dataset:
    if "level" not in dataset.dims:
        return dataset
    levels = np.asarray(dataset["level"].values, dtype=np.float64)
    on_pressure = dataset["level"].attrs.get("standard_name") == "air_pressure" or levels.max() > 2.0
    if on_pressure and pressure_levels_hpa is None:
        return dataset
    wanted = sorted(float(p) for p in pressure_levels_hpa or ())
    if on_pressure:
        return dataset.isel(level=find_levels("the state on pressure levels", levels, wanted))
    needed = ("temperature", "specific_humidity", "surface_pressure", "geopotential_at_surface")
    missing = [name for name in needed if name not in dataset]
    if missing:
        raise DataError(
            f"pressure levels cannot be derived: the sigma fields lack {', '.join(missing)}; "
            f"there are {', '.join(map(str, dataset.data_vars))}"
        )
    if any(str(d).startswith("level_") for d in dataset.dims):
        raise DataError("pressure levels cannot be derived: the sigma fields are on different sets of levels")
    return _derive_from_sigma(dataset, levels, wanted)


def _with_kinematics(dataset: xr.Dataset, kinematic: Sequence[str]) -> xr.Dataset:
    if not kinematic:
        return dataset
    missing = [name for name in WINDS if name not in dataset]
    if missing:
        raise DataError(f"{', '.join(kinematic)} cannot be derived: the fields lack {', '.join(missing)}")
    u, v = (dataset[name].transpose(..., "latitude", "longitude") for name in WINDS)
    grid = Grid.from_arrays(dataset["latitude"], dataset["longitude"])
    made = {
        "wind_speed": lambda: wind_speed(u.values, v.values),
        "vorticity": lambda: vorticity(u.values, v.values, grid),
    }
    return dataset.assign({name: (u.dims, made[name](), _attrs(dataset, name)) for name in kinematic})


def _derive_from_sigma(dataset: xr.Dataset, sigma: np.ndarray, wanted: list[float]) -> xr.Dataset:
    upper = [str(n) for n, v in dataset.data_vars.items() if "level" in v.dims]
    horizontal = ("latitude", "longitude")
    lead = tuple(str(d) for d in dataset["temperature"].dims if d not in ("level", *horizontal))

    def values(name: str) -> np.ndarray:
        field = dataset[name]
        dims = (*(d for d in lead if d in field.dims), *(("level",) if "level" in field.dims else ()), *horizontal)
        array = np.asarray(field.transpose(*dims).values)
        return array.astype(np.float32, copy=False)

    surface_geopotential = values("geopotential_at_surface")
    surface_pressure = values("surface_pressure")
    temperature, humidity = values("temperature"), values("specific_humidity")
    others = [n for n in upper if n not in ("temperature", "geopotential")]
    geopotential, warmth, fields = sigma_to_pressure(
        temperature,
        humidity,
        [values(n) for n in others],
        surface_pressure,
        surface_geopotential,
        sigma,
        np.asarray(wanted) * 100.0,
    )
    lowest_virtual = virtual_temperature(temperature[..., -1, :, :], humidity[..., -1, :, :])
    sea_level = mean_sea_level_pressure(surface_pressure, surface_geopotential, lowest_virtual, float(sigma[-1]))
    on_pressure = {"geopotential": geopotential, "temperature": warmth, **dict(zip(others, fields, strict=True))}
    out = dataset.drop_dims("level")
    for name, array in on_pressure.items():
        out[name] = ((*lead, "level", *horizontal), array.astype(np.float32, copy=False), _attrs(dataset, name))
    out["mean_sea_level_pressure"] = (
        (*lead, *horizontal),
        sea_level.astype(np.float32, copy=False),
        _attrs(dataset, "mean_sea_level_pressure"),
    )
    return out.assign_coords(level=("level", np.asarray(wanted), VERTICAL_ATTRS["pressure"]))


def _attrs(dataset: xr.Dataset, name: str) -> dict[str, str]:
    if name in dataset:
        return dict(dataset[name].attrs)
    facts = known(name)
    assert facts is not None
    return {"units": facts.units, "standard_name": facts.standard_name, "long_name": name.replace("_", " ")}
