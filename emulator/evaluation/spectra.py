"""Zonal power spectra: as WeatherBench-2 computes them, but averaged over the latitudes."""

from __future__ import annotations

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid


def resolved_wavenumber(grid: Grid) -> int:
    """The largest zonal wavenumber that a spectral model of this grid carries: a third of its points (21 on 64).

    The quadratic Gaussian grid of truncation T has at least 3 T + 1 points; what lies above holds no weather.
    """
    return (grid.shape[1] - 1) // 3


def mean_power(field: np.ndarray, grid: Grid) -> np.ndarray:
    """Area-mean power along the circles by zonal wavenumber, from 1 up: how much variance each wavenumber holds.

    WeatherBench-2's zonal energy spectrum over the length of the circle. On an even number of points the Nyquist
    wavenumber is doubled as the others are although it has no conjugate partner: it counts twice.

    Args:
      field: ``(..., latitude, longitude)``.
      grid: A grid whose longitudes go round the globe.

    Returns:
      float64 ``(..., longitude // 2)``, in the field's unit squared.

    Raises:
      DataError: the grid does not go round the globe, where the numbers would mean nothing.
    """
    if not grid.periodic:
        raise DataError(f"spectrum: the grid does not go round the globe ({grid.describe()}); zonal spectra need that")
    departure = field - field.mean(axis=-1, keepdims=True)  # float32 stays float32: keep the large mean out of it
    coefficients = np.fft.rfft(departure, axis=-1)[..., 1:]
    power = coefficients.real**2 + coefficients.imag**2
    weights = grid.latitude_weights * (2 / grid.shape[0] / grid.shape[1] ** 2)
    return weights @ power.astype(np.float64)


def fine_scales(grid: Grid) -> slice:
    """The upper half of the resolved wavenumbers, M // 2 < wavenumber <= M, as entries of ``mean_power``."""
    top = resolved_wavenumber(grid)
    return slice(top // 2, top)
