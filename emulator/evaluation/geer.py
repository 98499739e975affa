"""A second opinion on a difference: the paired t-test of Geer (2016, Tellus A 68, 30229,
doi:10.3402/tellusa.v68.30229).

The standard error of the mean paired difference is inflated by k, the square root of the variance inflation of an
autoregression of second order with the autocorrelations found; the degrees of freedom stay n - 1. Where few initial
times are independent that is over-confident, as n - 1 says nothing of how uncertain k is: it is an opinion from
other assumptions, not the one that decides.
"""

from __future__ import annotations

import numpy as np
import scipy

from emulator.evaluation.slow_variations import Autoregression, pooled_autocorrelations


def geer_p(a: np.ndarray, b: np.ndarray, trajectory: np.ndarray) -> np.ndarray:
    """Two-sided p-values of equal errors.

    Compared is the root of the area-mean squared error of each single forecast, which is closer to normal than the
    square, as in the paper. (So the hypothesis is about the mean of roots, not the root of the mean.) Autocorrelations
    at lags one and two are pooled over all cells: those of a single one are too uncertain.

    Args:
      a, b: Area-mean squared errors of two forecasters ``(cell, init_time)``.
      trajectory: Label of each initial time, in order ``(init_time,)``; no autocorrelation is taken across.

    Returns:
      ``(cell,)``; NaN where an error is not finite or there are fewer than two initial times.
    """
    n = trajectory.size
    if n < 2:
        return np.full(a.shape[0], np.nan)
    difference = np.sqrt(a) - np.sqrt(b)
    inflation = Autoregression.from_autocorrelations(*pooled_autocorrelations(difference, trajectory)).inflation
    error = difference.std(axis=1, ddof=1) * np.sqrt(inflation / n)
    mean = difference.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, np.abs(mean) / error)
    return 2 * scipy.stats.t.sf(t, n - 1)
