"""Metrics: functions of mean statistics. Names and definitions are WeatherBench-2's, or say whose they are.

A metric never sees a field. It takes the means of ``statistics`` over whatever forecasts it is to cover, so
it is right by construction over chunks, workers and bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Metric:
    """A score of many forecasts.

    Attributes:
      name: As in score files.
      long_name: Its formula; ``<.>`` is the mean over forecasts of area means.
      needs: Statistics whose means it takes.
      formula: From those means, in this order, to the score; elementwise, for NumPy and xarray alike.
      bounds: The least and the most that it can be; intervals end there.
    """

    name: str
    long_name: str
    needs: tuple[str, ...]
    formula: Callable[..., Any]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def __call__(self, means: Mapping[Any, Any]) -> Any:
        """The score, from mean statistics by name; NaN where it is zero over zero (no anomaly, no correlation)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.formula(*(means[n] for n in self.needs))


_NOT_NEGATIVE = (0.0, np.inf)
_CORRELATION = (-1.0, 1.0)

_ALL = (
    Metric("mse", "<(f - o)^2>, squared units", ("squared_error",), lambda se: se, _NOT_NEGATIVE),
    Metric("rmse", "sqrt(<(f - o)^2>)", ("squared_error",), np.sqrt, _NOT_NEGATIVE),
    Metric("mae", "<|f - o|>", ("absolute_error",), lambda ae: ae, _NOT_NEGATIVE),
    Metric("bias", "<f - o>", ("error",), lambda e: e),
    Metric(
        "acc",
        "mean over forecasts of A(f'o') / sqrt(A(f'^2) A(o'^2)), uncentred (WeatherBench-2)",
        ("anomaly_correlation",),
        lambda r: r,
        _CORRELATION,
    ),
    Metric(
        "acc_pooled",
        "<f'o'> / sqrt(<f'^2> <o'^2>), terms averaged first (WeatherBench-X)",
        ("anomaly_product", "forecast_anomaly_squared", "truth_anomaly_squared"),
        lambda fo, ff, oo: fo / np.sqrt(ff * oo),
        _CORRELATION,
    ),
    Metric(
        "activity",
        "sqrt of mean area-centred anomaly variance, forecast over truth",
        ("forecast_anomaly_variance", "truth_anomaly_variance"),
        lambda f, o: np.sqrt(f / o),
        _NOT_NEGATIVE,
    ),
    Metric(
        "prediction_activity",
        "sqrt(<f'^2>), uncentred (WeatherBench-X)",
        ("forecast_anomaly_squared",),
        np.sqrt,
        _NOT_NEGATIVE,
    ),
    Metric(
        "fine_scale_ratio",
        "sqrt of zonal power in the upper half of the resolved wavenumbers, forecast over truth",
        ("forecast_fine_power", "truth_fine_power"),
        lambda f, o: np.sqrt(f / o),
        _NOT_NEGATIVE,
    ),
    Metric(
        "crps_fair",
        "<|X - o|> - <|Xi - Xj|> / 2, pairs of different members",
        ("crps_skill", "crps_spread"),
        lambda skill, spread: skill - spread / 2,
    ),
    Metric(
        "crps_biased",
        "as crps_fair, with pairs of a member and itself (WeatherBench-X)",
        ("crps_skill", "crps_spread_biased"),
        lambda skill, spread: skill - spread / 2,
        _NOT_NEGATIVE,
    ),
    Metric(
        "energy_score",
        "<|X - o|> - <|Xi - Xj|> / 2, |.| the root of the area-mean square, pairs of different members",
        ("energy_skill", "energy_spread"),
        lambda skill, spread: skill - spread / 2,
    ),
    Metric(
        "energy_score_neighbours",
        "the same with pairs of neighbouring members only (WeatherBench-2; depends on their order)",
        ("energy_skill", "energy_spread_neighbours"),
        lambda skill, spread: skill - spread / 2,
    ),
    Metric("seeps", "<SEEPS> of precipitation, 0 is perfect, 1 has no skill", ("seeps",), lambda x: x, _NOT_NEGATIVE),
    Metric("ensemble_spread", "sqrt(<variance over members>)", ("ensemble_variance",), np.sqrt, _NOT_NEGATIVE),
    Metric(
        "unbiased_ensemble_mean_rmse",
        "sqrt(<(mean X - o)^2 - variance / M>)",
        ("unbiased_mean_squared_error",),
        np.sqrt,
        _NOT_NEGATIVE,
    ),
    Metric(
        "spread_skill",
        "sqrt(<variance> / <(mean X - o)^2 - variance / M>)",
        ("ensemble_variance", "unbiased_mean_squared_error"),
        lambda variance, mse: np.sqrt(variance / mse),
        _NOT_NEGATIVE,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def computable(statistics: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics that these statistics suffice for."""
    held = set(statistics)
    return tuple(metric for metric in _ALL if held.issuperset(metric.needs))
