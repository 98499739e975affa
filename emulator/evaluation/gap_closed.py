"""The share of the gap between a baseline and the limit of predictability that a forecaster closes."""

from __future__ import annotations

import numpy as np

from emulator.evaluation.significance import Bootstrap, Estimate, t_quantile
from emulator.evaluation.slow_variations import fit

_LEAST_GAP = 0.1  # of the reference's RMSE, to be shared: of less, shares are of noise in the limit


def is_gap(difference_lower: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Where there is a gap to be closed, beyond doubt, and no crack; bool, as the arguments.

    Args:
      difference_lower: Lower end of the interval of the reference's RMSE minus the limit's.
      ratio: RMSE of the limit over that of the reference.
    """
    return (difference_lower > 0) & (ratio < 1 - _LEAST_GAP)


def gap_closed(a: np.ndarray, reference: np.ndarray, limit: np.ndarray, bootstrap: Bootstrap) -> Estimate:
    """(RMSE(reference) - RMSE(A)) / (RMSE(reference) - RMSE(limit)), with intervals by test inversion (Fieller 1954).

    A share s is in the interval where A's distance from the reference and s times the limit's do not differ
    significantly. The distribution of the ratio itself says too little where the gap is uncertain, by few or correlated
    initial times: of intervals from resampled ratios 85 to 93 % held the truth. RMSEs vary as their mean squares do,
    over twice the RMSE.

    Args:
      a, reference, limit: Squared errors ``(cell, init_time)``; the reference's mean is above the limit's.
      bootstrap: Knows the trajectories, and the confidence.

    Returns:
      ``(cell,)``; without ends where the gap could be none.
    """
    roots = [np.sqrt(e.mean(axis=1, keepdims=True)) for e in (a, reference, limit)]
    varying = [e / np.where(r == 0, 1.0, 2 * r) for e, r in zip((a, reference, limit), roots, strict=True)]
    mine, whole = varying[1] - varying[0], varying[1] - varying[2]
    gap = (roots[1] - roots[2])[:, 0]
    share = (roots[1] - roots[0])[:, 0] / gap
    model = fit(mine - share[:, None] * whole, bootstrap.trajectory)
    projected, of_gap = (x @ bootstrap.slow.vectors.T for x in (mine, whole))

    def variance(shares: np.ndarray) -> np.ndarray:
        rest = projected - shares[:, None] * of_gap
        return bootstrap.slow.error_of_projections(rest, model).error ** 2

    error, dof = bootstrap.slow.error_of_projections(projected - share[:, None] * of_gap, model)
    t = t_quantile(dof, bootstrap.confidence)
    with np.errstate(invalid="ignore"):
        step = np.where((error > 0) & np.isfinite(error), error / gap, 1.0)
        # a variance is a parabola: in steps u from the share, at + linear u + square u^2
        at, above, below = error**2, variance(share + step), variance(share - step)
        linear, square = (above - below) / 2, (above + below) / 2 - at
        # |u step gap| = t error(u), solved for u on both sides of 0
        open_ = (step * gap) ** 2 - t**2 * square
        middle = t**2 * linear / 2
        root = np.sqrt(np.maximum(middle**2 + open_ * t**2 * at, 0.0))
        known = (open_ > 0) & np.isfinite(error)
        low, high = ((middle + sign * root) / np.where(known, open_, 1.0) * step for sign in (-1, 1))
    return Estimate(share, np.where(known, share + low, -np.inf), np.where(known, share + high, np.inf), dof)
