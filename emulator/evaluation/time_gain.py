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
from scipy import stats

from emulator.evaluation.significance import Bootstrap, Estimate
from emulator.evaluation.slow_variations import fit


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
    count = lead_hours.size
    here = np.arange(count).reshape(-1, *[1] * (error.ndim - 1))
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


def hours_ahead(lead_hours: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The gain of A over B at every lead, hours, from errors ``(lead, ...)``; infinite beyond the leads."""
    of_lead = lead_hours.reshape(-1, *[1] * (a.ndim - 1))
    gain = of_lead - lead_of_error(lead_hours, b, a)
    ahead = a < np.minimum.accumulate(b)
    behind = a > np.maximum.accumulate(b[::-1])[::-1]
    return np.where(ahead, np.inf, np.where(behind, -np.inf, gain))


def time_gain(lead_hours: np.ndarray, a: np.ndarray, b: np.ndarray, bootstrap: Bootstrap, same: Estimate) -> Estimate:
    """The gain of A over B at every lead, hours, with intervals by test inversion.

    The interval of s holds the leads around it at which B's error does not differ significantly from A's at t. So that
    of the gain leaves out zero exactly where the errors at t differ significantly. A test of errors at two leads takes
    its standard error from ``slow_variations``, as one at a single lead does, and is symmetric.

    Args:
      lead_hours: Ascending ``(lead,)``.
      a, b: Squared errors of both ``(lead, region, init_time)``.
      bootstrap: Knows the trajectories, and the confidence.
      same: RMSE of A minus that of B at the same lead ``(lead x region,)``.

    Returns:
      ``(lead x region,)``; NaN where an error is.
    """
    shape = leads, _ = a.shape[:2]
    with np.errstate(invalid="ignore"):
        squares = [x.mean(axis=-1) for x in (a, b)]
    known = np.isfinite(squares[0]) & np.isfinite(squares[1]).all(axis=0)
    mine, other = np.sqrt(squares)
    gain = hours_ahead(lead_hours, mine, other)
    ahead, behind = gain == np.inf, gain == -np.inf
    reached = lead_of_error(lead_hours, other, mine)
    lower, upper = _differences(a, b, bootstrap, np.abs(lead_hours[:, None, None] - reached).argmin(axis=0))
    diagonal = np.arange(leads)
    lower[diagonal, diagonal], upper[diagonal, diagonal] = same.lower.reshape(shape), same.upper.reshape(shape)
    ends = np.full((2, *shape), np.nan)
    for t, region in zip(*np.nonzero(known), strict=True):
        s = reached[t, region]
        first, last = int(np.searchsorted(lead_hours, s, "right")) - 1, int(np.searchsorted(lead_hours, s))
        if lower[t, t, region] <= 0 <= upper[t, t, region]:
            first, last = min(first, int(t)), max(last, int(t))
        latest = np.inf if behind[t, region] else _lost(lead_hours, upper[t, :, region], last)
        earliest = (
            -np.inf if ahead[t, region] else -_lost(-lead_hours[::-1], -lower[t, ::-1, region], leads - 1 - first)
        )
        ends[:, t, region] = lead_hours[t] - latest, lead_hours[t] - earliest
    return Estimate(np.where(known, gain, np.nan).ravel(), ends[0].ravel(), ends[1].ravel())


def _lost(lead_hours: np.ndarray, end: np.ndarray, start: int) -> float:
    """Where an end of an interval, from lead number ``start`` on, is first not above zero; infinite where nowhere."""
    there = np.flatnonzero(end[start:] <= 0)
    if there.size == 0:
        return np.inf
    i = start + int(there[0])
    if i == 0 or end[i - 1] <= 0 or not np.isfinite(end[i - 1]):
        return float(lead_hours[i])
    share = end[i - 1] / (end[i - 1] - end[i])
    return float(lead_hours[i - 1] + share * (lead_hours[i] - lead_hours[i - 1]))


def _differences(a: np.ndarray, b: np.ndarray, bootstrap: Bootstrap, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of RMSE(A) at every lead minus RMSE(B) at every lead ``(lead of A, lead of B, region)``.

    Args:
      a, b: Squared errors ``(lead, region, init_time)``.
      bootstrap: Knows the trajectories, and the confidence.
      near: For each lead of A the number of B's with about the same error ``(lead, region)``; how initial times are
        correlated is taken from these differences.
    """
    vectors, trajectory = bootstrap.slow.vectors, bootstrap.trajectory
    x, y = a.mean(axis=-1), b.mean(axis=-1)
    both = np.sqrt(x)[:, None] + np.sqrt(y)[None]
    both = np.where(both == 0, 1.0, both)
    both_there = np.take_along_axis(both, near[:, None], axis=1)[:, 0]
    alike = (a - np.take_along_axis(b, near[..., None], axis=0)) / both_there[..., None]
    projected = ((a @ vectors.T)[:, None] - (b @ vectors.T)[None]) / both[..., None]
    found = bootstrap.slow.error_of_projections(
        projected.reshape(both.size, len(vectors)), fit(alike.reshape(-1, trajectory.size), trajectory)
    )
    reach = (found.error * stats.t.ppf((1 + bootstrap.confidence) / 2, found.dof)).reshape(both.shape)
    difference = (x[:, None] - y[None]) / both
    return difference - reach, difference + reach
