"""Fields made of winds: speed and relative vorticity. Arrays are ``(..., latitude, longitude)``, winds in m s-1."""

from __future__ import annotations

import numpy as np

from data_prep.grid import EARTH_RADIUS, Grid

_POLE_DEG = 90.0 - 1e-3


def wind_speed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Speed of the wind in m s-1, ``(..., latitude, longitude)``."""
    return np.sqrt(u * u + v * v)


def vorticity(u: np.ndarray, v: np.ndarray, grid: Grid) -> np.ndarray:
    """Relative vorticity in s-1 by second-order differences.

        1 / (a cos(lat)) (dv/dlon - d(u cos(lat))/dlat)

    Differences of a global grid reach over the pole to the opposite meridian, those of a regional one are one-sided at
    its ends. On a row at a pole it is the circulation around the next row over the area that this row encloses, or of
    a region that does not go round the globe, that of the next row.

    Args:
      u, v: Eastward and northward wind, ``(..., latitude, longitude)``.
      grid: Their grid.

    Returns:
      The shape and precision of ``u``.
    """
    latitude = np.asarray(grid.latitude)
    lat_rad, lon_rad = np.radians(latitude), np.radians(grid.longitude)
    cosine = np.cos(lat_rad)[:, None].astype(u.dtype)
    if grid.periodic:
        eastward = (np.roll(v, -1, -1) - np.roll(v, 1, -1)) / u.dtype.type(2 * (lon_rad[1] - lon_rad[0]))
    else:
        eastward = np.gradient(v, lon_rad, axis=-1)
    northward = _northward_difference(u * cosine, lat_rad, over_poles=grid.is_global and grid.shape[1] % 2 == 0)
    inner = np.abs(latitude) < _POLE_DEG
    scale = np.where(inner, 1 / (EARTH_RADIUS * np.where(inner, np.cos(lat_rad), 1.0)), 0.0)
    out = ((eastward - northward) * scale[:, None]).astype(u.dtype)
    for row, neighbour in ((0, 1), (-1, -2)):
        if not inner[row] and not grid.periodic:
            out[..., row, :] = out[..., neighbour, :]
        elif not inner[row]:
            # eastward flow turns with the Earth around the north pole, against it around the south pole
            sense = np.sign(latitude[row])
            sine = np.sin(lat_rad[neighbour] * sense)
            circulation = u[..., neighbour, :].mean(axis=-1) * np.cos(lat_rad[neighbour]) * sense
            out[..., row, :] = (circulation / (EARTH_RADIUS * (1 - sine)))[..., None]
    return out


def _northward_difference(field: np.ndarray, lat_rad: np.ndarray, *, over_poles: bool) -> np.ndarray:
    """Derivative along latitude of a field that is even over the poles, as ``u cos(lat)`` is: both factors turn."""
    if not over_poles:
        return np.gradient(field, lat_rad, axis=-2)
    opposite = np.roll(field, field.shape[-1] // 2, axis=-1)
    at_pole = np.pi / 2 - np.abs(lat_rad[[0, -1]]) < 1e-5  # its own reflection; a grid may have one such row, or two
    south, north = int(at_pole[0]), -1 - int(at_pole[1])
    extended = np.concatenate([opposite[..., [south], :], field, opposite[..., [north], :]], axis=-2)
    positions = np.concatenate([[-np.pi - lat_rad[south]], lat_rad, [np.pi - lat_rad[north]]])
    return np.gradient(extended, positions, axis=-2)[..., 1:-1, :]
