"""Additive statistics: area means of each single forecast, whose means over forecasts make every metric.

Means of these over initial times, chunks or workers combine exactly; roots and ratios come later, in ``metrics``.
All sums are in float64 whatever the fields are.

Notation: f forecast, o truth, c climatology at valid time, f' = f - c, o' = o - c, A(.) area mean over a region.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, Self

import numpy as np

_ROUNDING = 1e-13

FORECAST_STATISTICS = (
    "squared_error",
    "error",
    "absolute_error",
    "anomaly_product",
    "anomaly_correlation",
    "forecast_anomaly_squared",
    "forecast_anomaly_variance",
)
"""What ``deterministic_statistics`` gives of a forecast, beside the truth's own."""

TRUTH_STATISTICS = ("truth_anomaly_squared", "truth_anomaly_variance")
"""What ``Observed.statistics`` gives of the truth alone: the same for all forecasters."""

ANOMALY_STATISTICS = (
    "anomaly_product",
    "anomaly_correlation",
    "forecast_anomaly_squared",
    "forecast_anomaly_variance",
    *TRUTH_STATISTICS,
)
"""Those that rest on the climatology."""

ENSEMBLE_STATISTICS = (
    "crps_skill",
    "crps_spread",
    "crps_spread_biased",
    "ensemble_variance",
    "unbiased_mean_squared_error",
    "energy_skill",
    "energy_spread",
    "energy_spread_neighbours",
)
"""What ``ensemble_statistics`` gives."""

LONG_NAMES = {
    "squared_error": "area mean of (f - o)^2",
    "error": "area mean of f - o",
    "absolute_error": "area mean of |f - o|",
    "anomaly_product": "area mean of f' o'",
    "anomaly_correlation": "A(f' o') / sqrt(A(f'^2) A(o'^2)) of each forecast",
    "forecast_anomaly_squared": "area mean of f'^2",
    "forecast_anomaly_variance": "A(f'^2) - A(f')^2",
    "truth_anomaly_squared": "area mean of o'^2",
    "truth_anomaly_variance": "A(o'^2) - A(o')^2",
    "forecast_fine_power": "zonal power in the upper half of the resolved wavenumbers, forecast",
    "truth_fine_power": "zonal power in the upper half of the resolved wavenumbers, truth",
    "seeps": "area mean of SEEPS over the points that are neither too dry nor too wet",
    "crps_skill": "area mean of the members' mean |X - o|",
    "crps_spread": "area mean of the sum over ordered pairs of |Xi - Xj| / (M (M - 1))",
    "crps_spread_biased": "area mean of the sum over ordered pairs of |Xi - Xj| / M^2",
    "energy_skill": "members' mean of sqrt(A((X - o)^2))",
    "energy_spread": "mean over pairs of different members of sqrt(A((Xi - Xj)^2))",
    "energy_spread_neighbours": "the same over the M - 1 pairs of neighbouring members only (WeatherBench-2)",
    "ensemble_variance": "area mean of the variance over members, divisor M - 1",
    "unbiased_mean_squared_error": "area mean of (mean X - o)^2 - variance / M",
}


def area_means(field: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of a field over each region: one matrix product.

    Args:
      field: ``(..., latitude, longitude)``.
      weights: ``(region, latitude, longitude)``, summing to one over each region.

    Returns:
      float64 ``(..., region)``.
    """
    flat = np.asarray(field, np.float64).reshape(*field.shape[:-2], -1)
    return flat @ weights.reshape(weights.shape[0], -1).T


@dataclass(frozen=True)
class Observed:
    """What forecasts of one variable are verified against, and its own statistics, computed once for all forecasters.

    Attributes:
      truth: float64 ``(..., latitude, longitude)``.
      anomaly: Truth minus climatology at valid time.
      anomaly_mean, anomaly_squared: Area means of the anomaly and of its square, ``(..., region)``.
      power: Of the truth by wavenumber, ``(..., wavenumber)``, where circles of latitude are whole.
    """

    truth: np.ndarray
    anomaly: np.ndarray
    anomaly_mean: np.ndarray
    anomaly_squared: np.ndarray
    power: np.ndarray | None = None

    @classmethod
    def of(
        cls, truth: np.ndarray, climatology: np.ndarray, weights: np.ndarray, power: np.ndarray | None = None
    ) -> Self:
        """From truth and climatology at valid time, ``(..., latitude, longitude)``."""
        o = np.asarray(truth, np.float64)
        anomaly = o - climatology
        return cls(o, anomaly, area_means(anomaly, weights), area_means(anomaly * anomaly, weights), power)

    def __getitem__(self, index: np.ndarray | slice | tuple[slice, ...] | None) -> Self:
        """A part of it, along the first axes."""
        parts: list[Any] = [None if a is None else a[index] for a in self._arrays()]
        return type(self)(*parts)

    def joined_with(self, other: Self) -> Self:
        """Both, one after the other along the first axis."""
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        parts: list[Any] = [None if a is None else np.concatenate([a, b]) for a, b in pairs]
        return type(self)(*parts)

    def _arrays(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    def statistics(self) -> dict[str, np.ndarray]:
        """Each of ``TRUTH_STATISTICS``, ``(..., region)``."""
        variance = self.anomaly_squared - self.anomaly_mean**2
        return {
            "truth_anomaly_squared": self.anomaly_squared,
            "truth_anomaly_variance": np.where(variance > _ROUNDING * self.anomaly_squared, variance, 0.0),
        }


def deterministic_statistics(forecast: np.ndarray, observed: Observed, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All statistics of single forecasts.

    Moments of the forecast's anomaly follow from those of its error e, since f' = o' + e: so only e is looked at.

    Args:
      forecast: ``(..., latitude, longitude)``.
      observed: Of the same shape.
      weights: As ``area_means`` takes them.

    Returns:
      Each of ``FORECAST_STATISTICS``, float64 ``(..., region)``. A correlation with an anomaly that is zero everywhere
      (the climatology as forecast) is NaN.
    """
    error = np.subtract(forecast, observed.truth, dtype=np.float64)
    mean = area_means(error, weights)
    work = np.abs(error)
    absolute = area_means(work, weights)
    squared = area_means(np.multiply(error, error, out=work), weights)
    cross = area_means(np.multiply(error, observed.anomaly, out=work), weights)

    product = cross + observed.anomaly_squared
    size = squared + 2 * cross + observed.anomaly_squared
    rounding = _ROUNDING * (squared + observed.anomaly_squared)
    size = np.where(size > rounding, size, 0.0)  # the climatology as forecast: what is left is rounding
    variance = size - (mean + observed.anomaly_mean) ** 2
    norm = np.sqrt(size * observed.anomaly_squared)
    return {
        "squared_error": squared,
        "error": mean,
        "absolute_error": absolute,
        "anomaly_product": product,
        "anomaly_correlation": np.divide(product, norm, out=np.full_like(norm, np.nan), where=norm > 0),
        "forecast_anomaly_squared": size,
        "forecast_anomaly_variance": np.where(variance > rounding, variance, 0.0),
    }


def ensemble_statistics(ensemble: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of ensembles of at least two members.

    The sum over pairs is taken from the sorted members, sum_ij |Xi - Xj| = 2 sum_i (2 i - M - 1) X_(i): M log
    M instead of M^2 (Zamo and Naveau 2018, doi:10.1007/s11004-017-9709-7).

    Args:
      ensemble: ``(member, ..., latitude, longitude)``.
      truth: ``(..., latitude, longitude)``.
      weights: As ``area_means`` takes them.

    Returns:
      Each of ``ENSEMBLE_STATISTICS``, float64 ``(..., region)``.
    """
    x, o = np.asarray(ensemble, np.float64), np.asarray(truth, np.float64)
    m = x.shape[0]
    rank_weights = 2.0 * np.arange(1, m + 1) - m - 1
    pairs = 2.0 * np.tensordot(rank_weights, np.sort(x, axis=0), axes=1) / (m * (m - 1))
    variance = x.var(axis=0, ddof=1)
    mean_error = x.mean(axis=0) - o
    spread = area_means(pairs, weights)
    distances = {(i, j): np.sqrt(area_means((x[i] - x[j]) ** 2, weights)) for i, j in combinations(range(m), 2)}
    return {
        "crps_skill": area_means(np.abs(x - o).mean(axis=0), weights),
        "crps_spread": spread,
        "crps_spread_biased": spread * ((m - 1) / m),
        "ensemble_variance": area_means(variance, weights),
        "unbiased_mean_squared_error": area_means(mean_error * mean_error - variance / m, weights),
        "energy_skill": np.mean([np.sqrt(area_means((member - o) ** 2, weights)) for member in x], axis=0),
        "energy_spread": np.mean(list(distances.values()), axis=0),
        "energy_spread_neighbours": np.mean([distances[i, i + 1] for i in range(m - 1)], axis=0),
    }
