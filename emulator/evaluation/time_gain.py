"""Forecast-time gain: by how many hours one forecaster is ahead of another.

The gain of A over B at lead t is t - s, where s is the lead at which B's error is what A's is at t: A's forecast for t
is as good as B's for s. Where A's error is the smaller one at t, s is the last such lead before t and the gain is
positive; where it is the larger one, s is the first such lead after t and the gain is negative. So errors that rise and
fall, by the hour of the day or by chance where they have saturated, make nobody ahead whose error is larger.

Between leads errors are taken as linear. Before the first lead nothing is assumed: an error of zero at lead zero
would credit or blame whoever starts from a truncated or derived state. So the gain has two ends beyond which it is
not known:
  - A's error at t is below all of B's up to t: A is ahead by more than t - (first lead); the gain is infinite, its
    upper end too, and its lower end says how much is sure.
  - A's error at t is above all of B's from t on: A is behind by more than (last lead) - t; minus infinity, likewise.
"""

from __future__ import annotations

import numpy as np

from emulator.evaluation.resampling import Resamples
from emulator.evaluation.significance import Bootstrap, Estimate, Stretch

_CASES = 1024  # at once: what fits into a processor's cache


def lead_of_error(lead_hours: np.ndarray, curve: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The lead at which a curve of errors has the error that another has at each lead, linear between leads.

    Args:
      lead_hours: Ascending ``(lead,)``.
      curve: Errors by lead ``(lead, case)``.
      error: What is looked for, by lead ``(lead, case)``: before that lead where it is below the curve there, after it
        where it is above.

    Returns:
      Hours ``(lead, case)``: the first lead where the curve was not as low before, the last where it is not as high
      after.
    """
    out = np.empty(error.shape)
    for start in range(0, curve.shape[1], _CASES):
        part = slice(start, start + _CASES)
        out[:, part] = _lead_of_error(lead_hours, curve[:, part], error[:, part])
    return out


def _lead_of_error(lead_hours: np.ndarray, curve: np.ndarray, error: np.ndarray) -> np.ndarray:
    count = lead_hours.size
    here = np.arange(count)[:, None]
    ahead, behind = error < curve, error > curve
    # the lead next to where the error is reached, on the far side of it
    reached = np.where(ahead, -1, np.where(behind, count, here)).astype(np.int16)
    for i in range(count - 1):  # the last one before
        later = slice(i + 1, count)
        np.copyto(reached[later], i, where=ahead[later] & (curve[i] <= error[later]))
    for i in range(count - 1, 0, -1):  # the first one after
        earlier = slice(0, i)
        np.copyto(reached[earlier], i, where=behind[earlier] & (curve[i] >= error[earlier]))
    inside = (reached >= 0) & (reached < count) & (reached != here)
    far = np.clip(reached, 0, count - 1)
    near = np.clip(np.where(ahead, far + 1, far - 1), 0, count - 1)  # towards the lead that was asked for
    at_far, at_near = (np.take_along_axis(curve, rows.astype(np.intp), axis=0) for rows in (far, near))
    rise = np.where(inside, at_near - at_far, 1.0)
    share = np.where(inside, (error - at_far) / np.where(rise == 0, 1.0, rise), 0.0)
    return lead_hours[far] + share * (lead_hours[near] - lead_hours[far])


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
    ahead = (now_a < np.minimum.accumulate(now_b)).ravel()
    behind = (now_a > np.maximum.accumulate(now_b[::-1])[::-1]).ravel()
    value = np.where(ahead, np.inf, np.where(behind, -np.inf, found.value))
    return Estimate(
        np.where(np.isnan(found.value), np.nan, value),
        np.where((found.lower <= least) | behind, -np.inf, found.lower),
        np.where((found.upper >= most) | ahead, np.inf, found.upper),
        found.dof,
    )
