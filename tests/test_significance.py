"""The block bootstrap: trajectories, block lengths, determinism, and intervals that cover what they should."""

import numpy as np
import pytest

from emulator.evaluation.significance import (
    Bootstrap,
    Estimate,
    block_length,
    discoveries,
    resample,
    unseen_correlation,
    variance_inflation,
)


def identity(mean):
    return mean


def ar1(rng, n, cells, r, trajectories=1):
    """Unit-variance AR(1) series, independent between trajectories, ``(n, cells)``."""
    out = np.empty((trajectories, n // trajectories, cells))
    out[:, 0] = rng.normal(size=out[:, 0].shape)
    for t in range(1, out.shape[1]):
        out[:, t] = r * out[:, t - 1] + np.sqrt(1 - r * r) * rng.normal(size=out[:, 0].shape)
    return out.reshape(n, cells)


def test_blocks_stay_within_their_trajectory_and_use_every_time_equally():
    trajectory = np.repeat([0, 1, 2], [10, 10, 4])
    for start_row in range(24):
        one = resample(trajectory, length=6, count=1, seed=start_row)
        assert one.weights.sum() == pytest.approx(1)
    many = resample(trajectory, length=6, count=4000, seed=0)
    mean = many.weights.mean(axis=0)
    np.testing.assert_allclose(mean[:20], mean[0], rtol=0.15)
    # a block is a run within one trajectory, wrapping around: with a single draw no other trajectory is touched
    single = resample(
        np.repeat([0, 1], 5), length=10, count=200, seed=0
    )  # both trajectories are shorter than the block
    assert single.draws == 2
    assert {tuple(w) for w in np.round(single.weights[:, [0, 5]], 6).tolist()} == {(0.2, 0.0), (0.1, 0.1), (0.0, 0.2)}


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(0)
    values = ar1(rng, 40, 6, 0.5) ** 2
    trajectory = np.zeros(40, int)
    first, again, other = (Bootstrap(trajectory, 200, 0.95, seed).score(values, np.sqrt) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.lower, again.lower)
    assert (first.lower != other.lower).any()
    assert ((first.lower < first.value) & (first.value < first.upper)).all()


def test_variance_inflation_of_known_series():
    rng = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(4), 500)
    white = variance_inflation(ar1(rng, 2000, 50, 0.0, 4), trajectory)
    red = variance_inflation(ar1(rng, 2000, 50, 0.6, 4), trajectory)
    assert np.median(white) == pytest.approx(1.0, abs=0.05)
    assert np.median(red) == pytest.approx((1 + 0.6) / (1 - 0.6), rel=0.1)


def test_autocorrelation_is_not_taken_across_trajectories():
    rng = np.random.default_rng(0)
    series = ar1(rng, 200, 1, 0.9)
    # the same numbers, neighbours torn apart into trajectories of two: only lag 1 within pairs is left to see
    pairs = series.reshape(2, 100).T.reshape(200, 1)
    assert variance_inflation(series, np.zeros(200, int))[0] > 5
    assert variance_inflation(pairs, np.repeat(np.arange(100), 2))[0] < 2


def test_trajectories_that_differ_as_wholes_become_clusters():
    rng = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(12), 10)
    values = rng.normal(size=(12, 1))[trajectory] + 0.3 * rng.normal(size=(120, 1))
    assert np.isinf(variance_inflation(values, trajectory)).all()
    estimate = Bootstrap(trajectory, 2000, 0.95).score(values, identity)
    half_width = (estimate.upper - estimate.lower)[0] / 2
    of_clusters = values.reshape(12, 10).mean(axis=1).std(ddof=1) / np.sqrt(12) * 2.2  # t with 11 degrees of freedom
    assert half_width == pytest.approx(of_clusters, rel=0.15)


def test_two_trajectories_that_disagree_decide_nothing():
    rng = np.random.default_rng(0)
    trajectory = np.repeat([0, 1], 20)
    values = np.where(trajectory == 0, -1.0, -0.4)[:, None] + 0.05 * rng.normal(size=(40, 1))
    estimate = Bootstrap(trajectory, 500, 0.95).score(values, identity)
    assert estimate.lower[0] < -2 and estimate.upper[0] > 0.5  # two clusters: Student's t with one degree of freedom
    agreeing = values - np.array([-1.0, -0.4])[trajectory][:, None] - 0.7
    estimate = Bootstrap(trajectory, 500, 0.95).score(agreeing, identity)
    assert -0.75 < estimate.lower[0] < estimate.upper[0] < -0.65


def test_a_single_initial_time_decides_nothing():
    estimate = Bootstrap(np.zeros(1, int), 100, 0.95).score(np.array([[-3.0]]), identity)
    assert (estimate.value[0], estimate.lower[0], estimate.upper[0]) == (-3.0, -np.inf, np.inf)


def test_discoveries():
    value = np.array([-5.0, -2.1, -2.0, 0.1, np.nan, 0.0])
    found = discoveries(Estimate(value, value - 2, value + 2), 0.95)
    assert found.tolist() == [True, False, False, False, False, False]  # 2.1 alone would pass, among five it does not
    assert discoveries(Estimate(value[1:2], value[1:2] - 2, value[1:2] + 2), 0.95).tolist() == [True]
    assert not discoveries(Estimate(value, np.full(6, -np.inf), np.full(6, np.inf)), 0.95).any()


def test_block_length_grows_with_inflation():
    lengths = block_length(np.array([1.0, 2.0, 4.0, 9.0, np.inf]), 100)
    assert lengths[0] == 1 and lengths[-1] == 100
    assert (np.diff(lengths) > 0).all()


def test_what_finite_blocks_miss():
    r, length = 0.6, 5
    v = (1 + r) / (1 - r)
    seen = 1 + 2 * sum((1 - k / length) * r**k for k in range(1, length))
    assert unseen_correlation(np.array([v]), np.array([length]))[0] == pytest.approx(np.sqrt(v / seen))
    assert unseen_correlation(np.array([1.0, np.inf]), np.array([1, 40])).tolist() == [1.0, 1.0]


def test_intervals_cover_the_truth():
    """Coverage of a 95 % interval for the difference of two mean squared errors, 400 cells with errors of AR(1)."""
    rng = np.random.default_rng(0)
    for r, trajectories, low in ((0.0, 1, 0.91), (0.5, 1, 0.89), (0.5, 2, 0.89)):
        common = ar1(rng, 96, 400, r, trajectories)
        a = 2.0 + common + 0.5 * ar1(rng, 96, 400, r, trajectories)
        b = 2.3 + common + 0.5 * ar1(rng, 96, 400, r, trajectories)
        trajectory = np.repeat(np.arange(trajectories), 96 // trajectories)
        difference, _ = Bootstrap(trajectory, 400, 0.95).difference(a, b, identity)
        covered = ((difference.lower <= -0.3) & (difference.upper >= -0.3)).mean()
        assert low <= covered <= 0.985, (r, trajectories, covered)
        width = (difference.upper - difference.lower).mean()
        unpaired, _ = Bootstrap(trajectory, 400, 0.95).difference(a, b[:, ::-1], identity)
        assert width < 0.7 * (unpaired.upper - unpaired.lower).mean()  # pairing removes what both share


def test_ratio_and_nan_cells():
    rng = np.random.default_rng(0)
    a = 1.0 + rng.random((60, 2))
    a[:, 1] = np.nan
    difference, ratio = Bootstrap(np.zeros(60, int), 300, 0.9).difference(4 * a, a, np.sqrt)
    assert ratio.value[0] == pytest.approx(2) and ratio.lower[0] == pytest.approx(2) == ratio.upper[0]
    assert difference.lower[0] > 0
    assert np.isnan(difference.value[1]) and np.isnan(ratio.upper[1])
