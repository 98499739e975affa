"""How far the tails of forecasts reach: quantiles of anomalies, from histograms that add up over chunks.

A blurred forecast wins on RMSE and loses its extremes first. Anomalies of all grid points, by area, and of all initial
times are pooled; bins are even in asinh(anomaly / scale), so they are narrow where the bulk is and still cover whatever
a skewed variable does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

QUANTILES = (0.001, 0.01, 0.99, 0.999)
"""Those that score files hold."""

BIN_COUNT = 1024
"""Bins of a distribution."""

_REACH = 6.0  # asinh of the largest anomaly over its scale: some 200 scales


@dataclass(frozen=True)
class Bins:
    """Bins of a variable's anomalies.

    Attributes:
      scale: A typical size of them, in the variable's unit; positive.
    """

    scale: float

    def count(self, anomaly: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Weight that falls into each bin.

        Args:
          anomaly: ``(..., latitude, longitude)``; the last leading axis, lead, is kept, those before it are summed.
          weights: ``(latitude, longitude)``.

        Returns:
          float64 ``(lead, bin)``.
        """
        place = np.arcsinh(anomaly * (1.0 / self.scale))
        place += _REACH
        place *= BIN_COUNT / (2 * _REACH)
        index = np.clip(place, 0, BIN_COUNT - 1).astype(np.int32).reshape(-1, *anomaly.shape[-3:])
        leads = index.shape[1]
        index += BIN_COUNT * np.arange(leads, dtype=np.int32)[:, None, None]
        spread = np.broadcast_to(weights, index.shape)
        return np.bincount(index.ravel(), spread.ravel(), minlength=leads * BIN_COUNT).reshape(leads, BIN_COUNT)

    def quantiles(self, counts: np.ndarray, probabilities: Sequence[float]) -> np.ndarray:
        """Quantiles of what was counted, linear within a bin.

        Args:
          counts: ``(..., bin)``.
          probabilities: Each within [0, 1].

        Returns:
          ``(..., quantile)``, in the variable's unit; NaN where nothing was counted.
        """
        edges = self.scale * np.sinh(np.linspace(-_REACH, _REACH, BIN_COUNT + 1))
        flat = counts.reshape(-1, BIN_COUNT)
        out = np.full((flat.shape[0], len(probabilities)), np.nan)
        for row, count in zip(out, flat, strict=True):
            total = count.sum()
            if total > 0:
                filled = np.concatenate([[True], count > 0])  # flat stretches of the distribution say nothing
                below = np.concatenate([[0.0], np.cumsum(count)]) / total
                below = np.maximum.accumulate(below)
                # the lower edge of the first bin that holds anything bounds the distribution from below
                first = int(np.argmax(count > 0))
                filled[0], filled[first] = first == 0, True
                row[:] = np.interp(probabilities, below[filled], edges[filled])
        return out.reshape(*counts.shape[:-1], len(probabilities))


def scale_of(mean_square: float) -> float:
    """A scale for bins: the root of the mean square of some anomalies, or one where there are none."""
    size = float(np.sqrt(mean_square))
    return size if np.isfinite(size) and size > 0 else 1.0
