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


def area_means(field: np.ndarray, weights: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """Weighted means of a field, or of the product of two, over each region.

    Args:
      field: ``(..., latitude, longitude)``.
      weights: ``(region, latitude, longitude)``, summing to one over each region.
      other: A second factor of the same shape; its product with ``field`` is never stored where weights allow.

    Returns:
      float64 ``(..., region)``.
    """
    x = np.asarray(field, np.float64)
    y = None if other is None else np.asarray(other, np.float64)
    bands = weights[..., 0]
    if (weights == bands[..., None]).all():  # whole circles of latitude: sum along them first
        circles = x.sum(axis=-1) if y is None else np.vecdot(x, y)
        return np.stack([np.vecdot(circles, band) for band in bands], axis=-1)
    product = x if y is None else x * y
    flat = product.reshape(*product.shape[:-2], -1)
    return np.stack([np.vecdot(flat, w.ravel()) for w in weights], axis=-1)


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

    error, fa, oa = f - o, f - c, o - c
    out = {
        "error": area_means(error, weights),
        "squared_error": area_means(error, weights, error),
        "absolute_error": area_means(np.abs(error), weights),
        "anomaly_product": area_means(fa, weights, oa),
        "forecast_anomaly_squared": area_means(fa, weights, fa),
        "truth_anomaly_squared": area_means(oa, weights, oa),
    }
    out["forecast_anomaly_variance"] = out["forecast_anomaly_squared"] - area_means(fa, weights) ** 2
    out["truth_anomaly_variance"] = out["truth_anomaly_squared"] - area_means(oa, weights) ** 2
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
