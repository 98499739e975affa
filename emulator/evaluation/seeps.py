"""SEEPS, the stable equitable error in probability space, for precipitation (Rodwell et al. 2010, QJRMS 136, 1344).

Rain is put into three categories that a place's own climate defines: dry, light and heavy, light being twice as
frequent as heavy. A penalty matrix makes any constant or random forecast score 1 and a perfect one 0, wherever it is.
Definitions as in WeatherBench-2: a sum over 24 h is dry below 0.25 mm, one over 6 h below 0.1 mm; points are masked
where the dry share lies outside 0.1 to 0.85.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from data_prep import clock
from data_prep.preparation.store import Store
from data_prep.variables import accumulation_hours
from emulator.evaluation.statistics import area_means

DRY_SHARES = (0.1, 0.85)
"""Climatological share of dry times within which a point is scored."""

_MOST_ROWS = 2000
_MOST_BYTES = 2**30  # that the rain of all of them takes


def dry_below_m(variable: str) -> float:
    """What is dry, in metres of water: 0.1 mm in less than 24 h, 0.25 mm in longer sums and where the name tells none.

    WeatherBench-2 has thresholds for 6 h and 24 h alone.
    """
    hours = accumulation_hours(variable)
    return 0.1e-3 if hours is not None and hours < 24 else 0.25e-3


@dataclass(frozen=True)
class RainClimate:
    """Where rain is dry, light and heavy.

    Attributes:
      dry_share: Share of dry times, ``(latitude, longitude)``.
      heavy_m: What two thirds of the wet times stay below, metres; infinite where it was never wet.
      dry_m: Below this it is dry, metres.
    """

    dry_share: np.ndarray
    heavy_m: np.ndarray
    dry_m: float

    @classmethod
    def of(cls, rain_m: np.ndarray, dry_m: float) -> Self:
        """From precipitation in metres, ``(time, latitude, longitude)``."""
        dry_share, heavy = np.ones(rain_m.shape[1:]), np.full(rain_m.shape[1:], np.inf)
        for i in range(rain_m.shape[1]):  # latitude by latitude: ordering takes several times the memory
            wet = rain_m[:, i] >= dry_m
            dry_share[i] = 1 - wet.mean(axis=0)
            somewhere = wet.any(axis=0)
            amounts = np.where(wet, rain_m[:, i], np.nan)[:, somewhere]
            heavy[i, somewhere] = np.nanquantile(amounts, 2 / 3, axis=0)
        return cls(dry_share, heavy, dry_m)

    @classmethod
    def fit(cls, store: Store, variable: str) -> Self:
        """From the training split, all seasons and hours together: days of the year would need decades."""
        rows = store.rows_of("train")
        most = min(_MOST_ROWS, max(1, _MOST_BYTES // (4 * math.prod(store.grid.shape))))
        rows = rows[clock.sample(store.times[rows], most)]
        channel = [c.variable for c in store.spec.state_channels].index(variable)
        rain_m = np.stack([store.read_state(row, row + 1)[0, ..., channel] for row in rows.tolist()])
        return cls.of(rain_m, dry_below_m(variable))

    @property
    def scored(self) -> np.ndarray:
        """Points that are scored, bool ``(latitude, longitude)``."""
        return (self.dry_share >= DRY_SHARES[0]) & (self.dry_share <= DRY_SHARES[1])

    def score(self, forecast_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
        """SEEPS of every point, ``(..., latitude, longitude)``, zero where it is masked.

        Args:
          forecast_m, truth_m: Precipitation in metres, the same shape.
        """
        p1 = np.where(self.scored, self.dry_share, 0.5)
        zero = np.zeros_like(p1)
        # penalty[forecast, truth]; Rodwell et al. (2010), equation 15, with light rain twice as frequent as heavy
        penalty = 0.5 * np.array(
            [
                [zero, 1 / (1 - p1), 4 / (1 - p1)],
                [1 / p1, zero, 3 / (1 - p1)],
                [1 / p1 + 3 / (2 + p1), 3 / (2 + p1), zero],
            ]
        )
        cells = penalty.reshape(9, *p1.shape)
        pair = 3 * self._category(forecast_m) + self._category(truth_m)
        out = np.zeros(forecast_m.shape)
        for i, value in enumerate(cells):
            out += np.where(pair == i, value, 0.0)
        return out * self.scored

    def area_means(self, forecast_m: np.ndarray, truth_m: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """SEEPS of each forecast over the scored points of each region, ``(..., region)``; NaN where there are none.

        Args:
          forecast_m, truth_m: Precipitation in metres, ``(..., latitude, longitude)``.
          weights: ``(region, latitude, longitude)``.
        """
        scored = weights * self.scored
        share = scored.sum(axis=(-1, -2))
        means = area_means(self.score(forecast_m, truth_m), scored)
        return np.divide(means, share, out=np.full_like(means, np.nan), where=share > 0)

    def _category(self, rain_m: np.ndarray) -> np.ndarray:
        wet, heavy = rain_m >= self.dry_m, rain_m >= np.maximum(self.heavy_m, self.dry_m)
        return wet.astype(np.int8) + heavy.astype(np.int8)
