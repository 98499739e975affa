"""Intervals and p-values: determinism, pairing, coverage, and what few initial times can say."""

import numpy as np
import pytest
from scipy import stats
from test_slow_variations import ar2

from emulator.evaluation.significance import Bootstrap, Estimate, discovered


def identity(mean):
    return mean


def score(bootstrap, values, formula=identity):
    """Interval of formula(mean); ``(init_time, cell)``."""
    resamples = bootstrap.resamples(values.T)
    return bootstrap.interval(resamples, formula(resamples.means(values.T)))


def paired(bootstrap, a, b, formula=np.sqrt):
    """Interval of formula(mean a) - formula(mean b); ``(cell, init_time)``."""
    resamples = bootstrap.resamples(np.concatenate([a, b]))
    return bootstrap.interval(resamples, formula(resamples.means(a)) - formula(resamples.means(b)))


def test_the_same_seed_gives_the_same_interval():
    values = 1 + np.random.default_rng(0).normal(size=(40, 6)) ** 2
    trajectory = np.zeros(40, int)
    first, again, other = (score(Bootstrap(trajectory, 200, 0.95, seed), values, np.sqrt) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.lower, again.lower)
    assert (first.lower != other.lower).any()
    assert ((first.lower < first.value) & (first.value < first.upper)).all()


def test_an_interval_is_as_long_as_students_t():
    """Times of their own: the textbook interval of a mean; resamples only divide its length."""
    values = np.exp(np.random.default_rng(0).normal(size=(9, 300)))
    found = score(Bootstrap(np.arange(9), 1000, 0.9), values)
    length = 2 * values.std(axis=0, ddof=1) / 3 * stats.t.ppf(0.95, 8)
    np.testing.assert_allclose(found.upper - found.lower, length)
    np.testing.assert_allclose(found.value, values.mean(axis=0))
    right = (found.upper - found.value) / length
    assert 0.5 < right.mean() < 0.65  # the longer side is that of the longer tail


def test_the_sides_of_an_interval_are_those_of_the_quantiles_of_the_resamples():
    values = np.exp(np.random.default_rng(0).normal(size=(12, 50)))
    bootstrap = Bootstrap(np.arange(12), 38, 0.9)  # both quantiles lie between order statistics
    resamples = bootstrap.resamples(values.T)
    drawn = resamples.split(resamples.means(values.T))[2]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=1)
    found = score(bootstrap, values)
    below = (found.value - found.lower) / (found.upper - found.lower)
    np.testing.assert_allclose(below, (found.value - low) / (high - low))


def test_resamples_are_in_blocks_where_the_values_are_correlated():
    rng, bootstrap = np.random.default_rng(0), Bootstrap(np.zeros(200, int), 300, 0.95)
    for first, least, most in ((-0.4, -0.1, 0.1), (0.9, 0.8, 1.0), (-0.4, -0.1, 0.1)):
        drawn = bootstrap.resamples(ar2(rng, (20, 200), first, 0.0)).drawn * 200 - 1
        assert least < (drawn[:, 1:] * drawn[:, :-1]).mean() / (drawn**2).mean() < most


def test_a_single_resample_shows_nothing():
    """It has no spread, which is not that of a score that is known exactly."""
    found = score(Bootstrap(np.zeros(20, int), 1, 0.95), 1 + np.random.default_rng(0).normal(size=(20, 3)))
    assert np.isneginf(found.lower).all() and np.isposinf(found.upper).all() and (found.p(0.95) == 1).all()


def test_a_score_that_resamples_lack_has_an_unknown_interval():
    """Spread over skill of a small ensemble: its unbiased error may come out negative, and its root as NaN."""
    squares = np.random.default_rng(0).normal(0.15, 0.3, size=(20, 1))
    bootstrap = Bootstrap(np.zeros(20, int), 200, 0.95)
    rows = bootstrap.resamples(squares.T).means(squares.T)
    assert rows[0, 0] > 0 and (rows < 0).mean() > 0.05
    with np.errstate(invalid="ignore"):
        found = score(bootstrap, squares, np.sqrt)
    assert found.value[0] > 0 and (found.lower[0], found.upper[0]) == (-np.inf, np.inf)


def test_scores_that_are_no_means_have_the_error_of_the_delta_method():
    squares = np.exp(0.3 * np.random.default_rng(0).normal(size=(400, 100)))
    found = score(Bootstrap(np.arange(400), 400, 0.95), squares, np.sqrt)
    error = squares.std(axis=0, ddof=1) / np.sqrt(400) / (2 * np.sqrt(squares.mean(axis=0)))
    np.testing.assert_allclose(found.upper - found.lower, 2 * error * stats.t.ppf(0.975, 399), rtol=0.01)


def test_p_values_agree_with_intervals_and_have_their_tails():
    value = np.array([1.0, -1.0, 0.0, np.nan, 2.0])
    lower, upper = value - np.array([1.0, 3.0, 1.0, 1.0, 1.0]), value + np.array([5.0, 1.0, 1.0, 1.0, 1.0])
    p = Estimate(value, lower, upper, np.full(5, 3.0)).p(0.95)
    np.testing.assert_allclose(p[:3], [0.05, 0.05, 1.0])  # the end towards zero is what counts
    assert np.isnan(p[3])
    assert p[4] == pytest.approx(2 * stats.t.sf(2 * stats.t.ppf(0.975, 3), 3))
    unknown = Estimate(np.ones(1), np.full(1, -np.inf), np.full(1, np.inf), 1.0)
    assert unknown.p(0.95)[0] == 1.0
    sure = Estimate(np.array([2.0, 0.0]), np.array([2.0, 0.0]), np.array([2.0, 0.0]))
    assert sure.p(0.95).tolist() == [0.0, 1.0]


def test_resamples_that_cannot_tell_the_interval_show_nothing():
    """Of few, which do not vary or lie all on one side of the score."""
    rng = np.random.default_rng(0)
    for count, n in ((1, 20), (2, 2), (3, 2), (3, 20)):
        values = rng.normal(size=(n, 200))
        found = score(Bootstrap(np.zeros(n, int), count, 0.95), values)
        assert (found.lower <= found.value).all() and (found.value <= found.upper).all()
        unknown = np.isinf(found.lower)
        assert unknown.any() and (np.isinf(found.upper) == unknown).all() and (found.p(0.95)[unknown] == 1).all()
        assert (found.upper > found.lower).all()


def test_discoveries():
    value = np.array([-5.0, -2.1, -2.0, 0.1, np.nan, 0.0])
    found = discovered(Estimate(value, value - 2, value + 2).p(0.95), 0.95)
    assert found.tolist() == [True, False, False, False, False, False]  # 2.1 alone would pass, among five it does not
    assert discovered(Estimate(value[1:2], value[1:2] - 2, value[1:2] + 2).p(0.95), 0.95).tolist() == [True]
    assert not discovered(Estimate(value, np.full(6, -np.inf), np.full(6, np.inf)).p(0.95), 0.95).any()
    # with one degree of freedom 2.5 times the half width is no longer far out among five
    assert not discovered(Estimate(value, value - 2, value + 2, np.full(6, 1.0)).p(0.95), 0.95).any()


def test_two_trajectories_that_disagree_decide_nothing():
    rng = np.random.default_rng(0)
    trajectory = np.repeat([0, 1], 20)
    values = np.where(trajectory == 0, -1.0, -0.4)[:, None] + 0.05 * rng.normal(size=(40, 1))
    estimate = score(Bootstrap(trajectory, 500, 0.95), values)
    assert estimate.lower[0] < -2 and estimate.upper[0] > 0.5  # two clusters: Student's t with one degree of freedom
    agreeing = values - np.array([-1.0, -0.4])[trajectory][:, None] - 0.7
    estimate = score(Bootstrap(trajectory, 500, 0.95), agreeing)
    assert -0.75 < estimate.lower[0] < estimate.upper[0] < -0.65


def test_a_single_initial_time_decides_nothing():
    estimate = score(Bootstrap(np.zeros(1, int), 100, 0.95), np.array([[-3.0]]))
    assert (estimate.value[0], estimate.lower[0], estimate.upper[0]) == (-3.0, -np.inf, np.inf)


def test_intervals_cover_the_truth_and_pairing_narrows_them():
    """A 95 % interval for the difference of two mean squared errors, 800 cells with errors of AR(2)."""
    rng = np.random.default_rng(0)
    for first, trajectories in ((0.0, 1), (0.45, 1), (0.45, 2)):
        shape = (800, trajectories, 120 // trajectories)
        common, a, b = (ar2(rng, shape, first, 0.1).reshape(800, 120) for _ in range(3))
        a, b = 9.0 + common + 0.5 * a, 9.3 + common + 0.5 * b
        bootstrap = Bootstrap(np.repeat(np.arange(trajectories), 120 // trajectories), 400, 0.95)
        found = paired(bootstrap, a, b, identity)
        covered = ((found.lower <= -0.3) & (found.upper >= -0.3)).mean()
        assert 0.93 <= covered <= 0.975, (first, trajectories, covered)  # Monte Carlo error 0.008
        unpaired = paired(bootstrap, a, b[:, ::-1], identity)
        assert (found.upper - found.lower).mean() < 0.7 * (unpaired.upper - unpaired.lower).mean()


def test_what_does_not_vary_is_known_and_what_is_not_there_stays_unknown():
    rng = np.random.default_rng(0)
    a = 1.0 + rng.random((2, 60))
    a[1] = np.nan
    bootstrap = Bootstrap(np.zeros(60, int), 300, 0.9)
    resamples = bootstrap.resamples(a)
    rows = np.log(np.sqrt(resamples.means(4 * a))) - np.log(np.sqrt(resamples.means(a)))
    ratio = bootstrap.interval(resamples, rows).map(np.exp)
    assert ratio.value[0] == pytest.approx(2) and ratio.lower[0] == pytest.approx(2) == ratio.upper[0]
    assert np.isnan([ratio.value[1], ratio.lower[1], ratio.upper[1]]).all()
