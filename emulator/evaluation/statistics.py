"""Additive statistics: area means of each single forecast, whose means over forecasts make every metric.

Means of these over initial times, chunks or workers combine exactly; roots and ratios come later, in
``metrics``.
Notation: f forecast, o truth, c climatology at valid time, f' = f - c, o' = o - c, A(.) area mean over a
  region. All sums are in float64 whatever the fields are.
"""

from __future__ import annotations

import numpy as np

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
"""What it gives of the truth alone: the same for all forecasters."""

ENSEMBLE_STATISTICS = ("crps_skill", "crps_spread", "ensemble_variance", "unbiased_mean_squared_error")
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
    "crps_skill": "area mean of the members' mean |X - o|",
    "crps_spread": "area mean of the sum over ordered pairs of |Xi - Xj| / (M (M - 1))",
    "ensemble_variance": "area mean of the variance over members, divisor M - 1",
    "unbiased_mean_squared_error": "area mean of (mean X - o)^2 - variance / M",
}


def area_means(field: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over each region.

    Args:
      field: ``(..., latitude, longitude)``.
      weights: ``(region, latitude, longitude)``, summing to one over each region.

    Returns:
      float64 ``(..., region)``.
    """
    lead = field.shape[:-2]
    flat = np.asarray(field, np.float64).reshape(-1, weights.shape[1] * weights.shape[2])
    return (flat @ weights.reshape(weights.shape[0], -1).T).reshape(*lead, weights.shape[0])


def deterministic_statistics(
    forecast: np.ndarray, truth: np.ndarray, climatology: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """All statistics of single forecasts.

    Args:
      forecast, truth, climatology: The same shape ``(..., latitude, longitude)``; climatology at valid time.
      weights: As ``area_means`` takes them.

    Returns:
      Each of ``FORECAST_STATISTICS`` and ``TRUTH_STATISTICS``, float64 ``(..., region)``. A correlation with
      an anomaly that is zero everywhere (the climatology as forecast) is NaN.
    """
    f = np.asarray(forecast, np.float64)
    o = np.asarray(truth, np.float64)
    c = np.asarray(climatology, np.float64)

    def mean(field: np.ndarray) -> np.ndarray:
        return area_means(field, weights)

    error = f - o
    out = {"error": mean(error), "squared_error": mean(error * error), "absolute_error": mean(np.abs(error, out=error))}
    fa, oa = f - c, o - c
    out["anomaly_product"] = mean(fa * oa)
    out["forecast_anomaly_squared"] = mean(fa * fa)
    out["truth_anomaly_squared"] = mean(oa * oa)
    out["forecast_anomaly_variance"] = out["forecast_anomaly_squared"] - mean(fa) ** 2
    out["truth_anomaly_variance"] = out["truth_anomaly_squared"] - mean(oa) ** 2
    norm = np.sqrt(out["forecast_anomaly_squared"] * out["truth_anomaly_squared"])
    out["anomaly_correlation"] = np.divide(out["anomaly_product"], norm, out=np.full_like(norm, np.nan), where=norm > 0)
    return out


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
    return {
        "crps_skill": area_means(np.abs(x - o).mean(axis=0), weights),
        "crps_spread": area_means(pairs, weights),
        "ensemble_variance": area_means(variance, weights),
        "unbiased_mean_squared_error": area_means(mean_error * mean_error - variance / m, weights),
    }
