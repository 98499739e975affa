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

from emulator.evaluation.significance import Bootstrap, Estimate, t_quantile
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
    first, last = np.searchsorted(lead_hours, reached, "right") - 1, np.searchsorted(lead_hours, reached)
    level = (same.lower <= 0) & (same.upper >= 0)
    here, level = diagonal[:, None], level.reshape(shape)
    first, last = np.where(level, np.minimum(first, here), first), np.where(level, np.maximum(last, here), last)
    latest = np.where(behind, np.inf, _lost(lead_hours, upper, last))
    earliest = np.where(ahead, -np.inf, -_lost(-lead_hours[::-1], -lower[:, ::-1], leads - 1 - first))
    of_lead = lead_hours[:, None]
    return Estimate(*(np.where(known, x, np.nan).ravel() for x in (gain, of_lead - latest, of_lead - earliest)))


def _lost(lead_hours: np.ndarray, end: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Where an end of intervals, from some lead on, is first not above zero; infinite where nowhere.

    Args:
      lead_hours: ``(lead,)``.
      end: Of the intervals ``(case, lead, region)``.
      start: Number of the lead that each begins with ``(case, region)``.

    Returns:
      Hours ``(case, region)``, linear between leads.
    """
    lost = (end <= 0) & (np.arange(lead_hours.size)[:, None] >= start[:, None])
    i = lost.argmax(axis=1)
    before = np.maximum(i - 1, 0)
    above, at = (np.take_along_axis(end, rows[:, None], axis=1)[:, 0] for rows in (before, i))
    passes = (i > 0) & (above > 0) & np.isfinite(above)
    above, at = np.where(passes, above, 1.0), np.where(passes, at, 0.0)
    share = above / (above - at)
    hours = lead_hours[before] + share * (lead_hours[i] - lead_hours[before])
    return np.where(lost.any(axis=1), hours, np.inf)


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
    reach = (found.error * t_quantile(found.dof, bootstrap.confidence)).reshape(both.shape)
    difference = (x[:, None] - y[None]) / both
    return difference - reach, difference + reach
