"""Zonal energy spectra as WeatherBench-2 computes them."""

from __future__ import annotations

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid

RADIUS = 6367.5e3
"""WeatherBench-2's Earth radius in metres: the mean of 6357 and 6378 km, not the 6371 km used elsewhere here."""


def zonal_energy_spectrum(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Power along each circle of latitude by zonal wavenumber.

    The DFT along longitude is divided by the number of points; its squared modulus is doubled for every
    wavenumber above zero and multiplied by the length of the circle. On an even number of points the Nyquist
    wavenumber is doubled too although it has no conjugate partner: its entry is twice the field's power
    there, so the sum over wavenumbers is too large by half of that entry.

    Args:
      field: ``(..., latitude, longitude)``.
      grid: A grid whose longitudes go round the globe.

    Returns:
      float64 ``(..., latitude, longitude // 2 + 1)``, in metres times the field's unit squared.

    Raises:
      DataError: the grid does not go round the globe, where the numbers would mean nothing.
    """
    _require_circles(grid)
    power = np.abs(np.fft.rfft(np.asarray(field, np.float64), axis=-1) / grid.shape[1]) ** 2
    power[..., 1:] *= 2
    return power * circumference(grid)[:, None]


def zonal_frequency(grid: Grid) -> np.ndarray:
    """Wavenumber over the length of the circle, in cycles per metre, float64 ``(latitude, longitude // 2 + 1)``."""
    _require_circles(grid)
    return np.arange(grid.shape[1] // 2 + 1) / circumference(grid)[:, None]


def circumference(grid: Grid) -> np.ndarray:
    """Length of each circle of latitude in metres, ``(latitude,)``; at a pole some 1e-9 m, not exactly zero."""
    return 2 * np.pi * RADIUS * np.cos(np.radians(grid.latitude))


def resolved_wavenumber(grid: Grid) -> int:
    """The largest zonal wavenumber that a spectral model of this grid carries: a third of its points (21 on 64).

    The quadratic Gaussian grid of truncation T has at least 3 T + 1 points; what lies above holds no weather.
    """
    return (grid.shape[1] - 1) // 3


def mean_power(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Area-mean power along the circles by zonal wavenumber, from 1 up: how much variance each wavenumber holds.

    Like ``zonal_energy_spectrum`` over the length of the circle; the remarks on the Nyquist wavenumber hold too.

    Returns:
      float64 ``(..., longitude // 2)``, in the field's unit squared.
    """
    _require_circles(grid)
    departure = field - field.mean(axis=-1, keepdims=True)  # float32 stays float32: keep the large mean out of it
    coefficients = np.fft.rfft(departure, axis=-1)[..., 1:]
    power = coefficients.real**2 + coefficients.imag**2
    weights = grid.latitude_weights * (2 / grid.shape[0] / grid.shape[1] ** 2)
    return weights @ power.astype(np.float64)


def fine_scales(grid: Grid) -> slice:
    """The upper half of the resolved wavenumbers, M // 2 < wavenumber <= M, as entries of ``mean_power``."""
    top = resolved_wavenumber(grid)
    return slice(top // 2, top)


def _require_circles(grid: Grid) -> None:
    if not grid.periodic:
        raise DataError(f"spectrum: the grid does not go round the globe ({grid.describe()}); zonal spectra need that")
