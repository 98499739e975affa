"""Forecast-time gain: by hand, at its censored ends, and against curves whose gain is known."""

import numpy as np
import pytest
from scipy import stats
from test_slow_variations import ar2

from emulator.evaluation.significance import Bootstrap
from emulator.evaluation.time_gain import _differences, lead_of_error, time_gain
from emulator.studies.coverage import rmse_difference

LEADS = np.arange(6.0, 61.0, 6.0)


def test_lead_of_error_against_interpolation_of_rising_curves():
    rng = np.random.default_rng(0)
    curve, error = (np.cumsum(rng.uniform(0.1, 1.0, size=(10, 2500)), axis=0) for _ in range(2))  # more than at once
    found = lead_of_error(LEADS, curve, error)
    expected = np.stack([np.interp(e, c, LEADS) for e, c in zip(error.T, curve.T, strict=True)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_error_is_looked_for_on_its_own_side():
    """Errors that rise and fall: before the lead where it is lower there, after it where it is higher."""
    curve = np.array([1.0, 3.0, 2.0, 3.0, 2.0])
    for error, expected in (
        ([0.5, 2.0, 1.5, 2.5, 1.0], [6, 9, 7.5, 21, 6]),  # ahead: the last lead before
        ([2.0, 3.5, 2.5, 3.5, 4.0], [9, 30, 21, 30, 30]),  # behind: the first after
        (curve, LEADS[:5]),
    ):
        found = lead_of_error(LEADS[:5], curve[:, None], np.array(error)[:, None])[:, 0]
        np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(lead_of_error(LEADS[:1], curve[:1, None], np.array([[0.5, 1.0, 2.0]])), 6.0)


def test_nobody_is_ahead_whose_error_is_larger():
    """By the hour of the day, or by chance where errors have saturated; and equals are neither ahead nor behind."""
    rng = np.random.default_rng(1)
    daily = np.sqrt(LEADS) * (1 + 0.2 * np.sin(2 * np.pi * LEADS / 24))
    saturated = 5 + 0.1 * rng.normal(size=LEADS.size)
    for curve in (daily, saturated):
        worse = gain_of(1.03 * curve, curve, noise=0.001)
        assert (worse.value < 0).all() and (worse.upper[:-1] < 0).all() and worse.upper[-1] == 0
        better = gain_of(curve, 1.03 * curve, noise=0.001)
        assert (better.value > 0).all() and (better.lower[1:] > 0).all() and better.lower[0] == 0
        equal = gain_of(curve, curve, noise=0.0)
        np.testing.assert_array_equal(equal.value, 0.0)


def gain_of(a, b, **how):
    """Gain of A over B with errors (lead,), paired noise; one region."""
    return gain_and_difference(a, b, **how)[0]


def gain_and_difference(a, b, n=60, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    factor = np.exp(noise * rng.normal(size=(1, n)))
    bootstrap = Bootstrap(np.zeros(n, int), 400, 0.95)
    own = [np.exp(0.3 * noise * rng.normal(size=(LEADS.size, n))) for _ in range(2)]
    squares = [(x[:, None] * factor * o) ** 2 for x, o in zip((a, b), own, strict=True)]
    difference = rmse_difference(bootstrap, *squares)
    return time_gain(LEADS, *(s[:, None] for s in squares), bootstrap, difference), difference


def test_the_gain_of_a_delayed_curve_is_the_delay():
    """A makes at t what B makes at t - 9 h, but for noise of a per cent."""
    found = gain_of(np.sqrt(LEADS - 4), np.sqrt(LEADS + 5))
    inside = LEADS >= 18  # earlier, B has not been scored at the lead in question
    np.testing.assert_allclose(found.value[inside], 9.0, atol=1.0)
    assert (found.lower[inside] < 9).all() and (found.upper[inside] > 9).all()
    assert (found.upper - found.lower)[LEADS >= 24].max() < 6
    mirrored = gain_of(np.sqrt(LEADS + 5), np.sqrt(LEADS - 4))
    np.testing.assert_allclose(mirrored.value[LEADS <= 48], -9.0, atol=1.0)


def test_beyond_the_leads_the_gain_is_infinite_and_one_end_says_what_is_sure():
    found = gain_of(np.full(LEADS.size, 1.0), 3.0 + 0.01 * LEADS)  # never as bad as B at its first lead
    assert (found.value == np.inf).all() and (found.upper == np.inf).all()
    np.testing.assert_allclose(found.lower, LEADS - 6)
    behind = gain_of(3.0 + 0.01 * LEADS, np.full(LEADS.size, 1.0))
    assert (behind.value == -np.inf).all() and (behind.lower == -np.inf).all()
    np.testing.assert_allclose(behind.upper, LEADS - 60)


def test_where_an_end_is_in_doubt_the_interval_is_open_there():
    """At the second lead A's error is about B's at the first: some resamples fall below it."""
    b = np.sqrt(LEADS)
    a = b.copy()
    a[1] = b[0] * 1.003
    found = gain_of(a, b)
    assert found.value[1] == pytest.approx(6, abs=0.5)
    assert found.upper[1] == np.inf and 4 < found.lower[1] <= 6


def test_of_a_single_initial_time_only_the_number_is_known():
    found = gain_of(np.sqrt(LEADS - 4), np.sqrt(LEADS + 5), n=1)
    assert np.isfinite(found.value).any()
    assert (found.lower == -np.inf).all() and (found.upper == np.inf).all()


def test_the_interval_leaves_out_zero_where_the_errors_at_the_lead_differ():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a, b = (np.sqrt(LEADS) * (1 + 0.1 * rng.normal(size=LEADS.size)) for _ in range(2))
        gain, difference = gain_and_difference(a, b, noise=0.5, seed=seed)
        assert ((gain.lower <= gain.value) & (gain.value <= gain.upper)).all()
        better, worse = difference.upper < 0, difference.lower > 0
        assert better.any() and worse.any() and not (better | worse).all()
        np.testing.assert_array_equal((gain.lower > 0)[1:-1], better[1:-1])
        np.testing.assert_array_equal((gain.upper < 0)[1:-1], worse[1:-1])


def test_errors_at_two_leads_are_compared_by_the_correlation_of_what_is_alike():
    """A has at one lead the weather that B has at the other: their difference there is white noise."""
    rng, n, regions = np.random.default_rng(0), 60, 40
    weather = 9 + 0.5 * ar2(rng, (2, regions, n), 0.9, 0.0)
    a, b = (w + 0.05 * rng.normal(size=w.shape) for w in (weather, weather[::-1]))
    bootstrap = Bootstrap(np.zeros(n, int), 10, 0.95)
    lower, upper = _differences(a, b, bootstrap, np.repeat([[1], [0]], regions, axis=1))
    for lead in (0, 1):
        mine, other = a[lead], b[1 - lead]
        x, y = (np.sqrt(square.mean(axis=-1)) for square in (mine, other))
        found = bootstrap.slow.standard_error((mine - other) / (x + y)[:, None])
        reach = found.error * stats.t.ppf(0.975, found.dof)
        np.testing.assert_allclose(upper[lead, 1 - lead] - (x - y), reach, rtol=0.05)
        np.testing.assert_allclose((x - y) - lower[lead, 1 - lead], reach, rtol=0.05)


def test_a_score_that_is_not_there_has_no_gain():
    b = np.sqrt(LEADS)
    found = gain_of(np.where(LEADS == 12, np.nan, b), b)
    assert np.isnan(found.value[1]) and np.isfinite(found.value[2])
    assert np.isnan(gain_of(b, np.where(LEADS == 12, np.nan, b)).value).all()
