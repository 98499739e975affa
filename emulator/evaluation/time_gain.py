"""Forecast-time gain: by how many hours one forecaster is ahead of another.

The gain of A over B at lead t is t - s, where s is the lead at which B's error first reaches what A's is at t: A's
forecast for t is as good as B's for s. It is positive where A is ahead.

Between leads errors are taken as linear. Before the first lead nothing is assumed: an error of zero at lead zero
would credit or blame whoever starts from a truncated or derived state. So the gain has two ends beyond which it is
not known:
  - A's error is below B's at the first lead: A is ahead by more than t - (first lead); the gain is infinite, its upper
    end too, and its lower end says how much is sure.
  - A's error is above B's at every lead: A is behind by more than (last lead) - t; minus infinity, likewise.
"""

from __future__ import annotations

import numpy as np

from emulator.evaluation.resampling import Resamples
from emulator.evaluation.significance import Bootstrap, Estimate, Stretch

_CASES = 1024  # at once: what fits into a processor's cache


def lead_of_error(lead_hours: np.ndarray, curve: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The lead at which a curve of errors first reaches each of some errors, linear between leads.

    Args:
      lead_hours: Ascending ``(lead,)``.
      curve: Errors by lead ``(lead, case)``.
      error: What is looked for ``(k, case)``.

    Returns:
      Hours ``(k, case)``: the first lead where the error is smaller than any of the curve, the last where it is larger.
    """
    if lead_hours.size == 1:
        return np.full(error.shape, lead_hours[0])
    out = np.empty(error.shape)
    for start in range(0, curve.shape[1], _CASES):
        part = slice(start, start + _CASES)
        out[:, part] = _lead_of_error(lead_hours, curve[:, part], error[:, part])
    return out


def _lead_of_error(lead_hours: np.ndarray, curve: np.ndarray, error: np.ndarray) -> np.ndarray:
    count, cases = curve.shape
    highest = np.maximum.accumulate(curve, axis=0)  # reached first: errors that fall again play no part
    # Counting the leads below each error beats any search: comparing floats is what processors are fastest at. What
    # single precision rounds does not show, for the line between leads has no steps.
    below = np.zeros(error.shape, np.int16)
    wanted = error.astype(np.float32)
    for one in highest.astype(np.float32):
        below += one < wanted
    rise = np.diff(highest, axis=0)
    slope = np.diff(lead_hours)[:, None] / np.where(rise > 0, rise, np.inf)
    segment = np.clip(below - 1, 0, count - 2).astype(np.intp)
    lead = lead_hours[segment]
    at = segment * cases + np.arange(cases)
    lead += np.maximum((error - highest.ravel()[at]) * slope.ravel()[at], 0.0)
    lead[below == count] = lead_hours[-1]
    return lead


def time_gain(
    lead_hours: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    bootstrap: Bootstrap,
    resamples: Resamples,
    stretch: Stretch,
) -> Estimate:
    """The gain of A over B at every lead, hours, with intervals from the resamples of both errors.

    The gain is censored at both ends, which makes its own spread useless as a measure: how much the resamples must
    be stretched is taken from the difference of the errors at the same lead, which varies alike.

    Args:
      lead_hours: Ascending ``(lead,)``.
      a, b: Rows of the errors of both ``(lead, region, row)``.
      bootstrap: That intervals come from.
      resamples: That the rows are of.
      stretch: Of the difference or log ratio of the errors, by cell ``(lead x region,)``.

    Returns:
      ``(lead x region,)``.
    """
    leads, regions, rows = a.shape
    reached = lead_of_error(lead_hours, b.reshape(leads, -1), a.reshape(leads, -1)).reshape(a.shape)
    gain = np.where(np.isfinite(a) & np.isfinite(b).all(axis=0), lead_hours[:, None, None] - reached, np.nan)
    found = bootstrap.interval(resamples, gain.reshape(-1, rows), stretch)
    most, least = (np.repeat(lead_hours - lead_hours[i], regions) for i in (0, -1))
    now_a, now_b = a[..., 0], b[..., 0]
    ahead = (now_a < now_b[:1]).ravel()
    behind = (now_a > now_b.max(axis=0)).ravel()
    value = np.where(ahead, np.inf, np.where(behind, -np.inf, found.value))
    return Estimate(
        np.where(np.isnan(found.value), np.nan, value),
        np.where((found.lower <= least) | behind, -np.inf, found.lower),
        np.where((found.upper >= most) | ahead, np.inf, found.upper),
        found.dof,
    )
