"""Standard errors of autocorrelated means: against closed forms, brute force, and simulated coverage."""

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from emulator.evaluation.slow_variations import Autoregression, SlowVariations, fit, pooled_autocorrelations


def ar2(rng, shape, first, second, spin_up=200):
    """Stationary AR(2) series along the last axis."""
    noise = rng.normal(size=(*shape[:-1], shape[-1] + spin_up))
    return lfilter([1.0], [1.0, -first, -second], noise, axis=-1)[..., spin_up:]


def test_autoregression_knows_its_autocorrelations_and_inflation():
    model = Autoregression(0.6, 0.2)
    r = model.autocorrelations(400)
    np.testing.assert_allclose(r[2:], 0.6 * r[1:-1] + 0.2 * r[:-2])
    assert r[1] == pytest.approx(0.6 * r[0] + 0.2 * r[1])
    assert model.inflation == pytest.approx(2 * r.sum() - 1)
    assert Autoregression(0.5, 0.0).inflation == pytest.approx((1 + 0.5) / (1 - 0.5))
    again = Autoregression.from_autocorrelations(r[1], r[2])
    assert (again.first, again.second) == pytest.approx((0.6, 0.2))


@pytest.mark.parametrize(("one", "two"), [(1.0, 1.0), (0.9, -0.9), (-1.0, 1.0), (0.5, 0.99), (0.0, 0.0)])
def test_impossible_autocorrelations_give_a_stationary_process(one, two):
    model = Autoregression.from_autocorrelations(one, two)
    roots = np.roots([1.0, -model.first, -model.second])
    assert (np.abs(roots) < 1).all() and model.inflation > 0


def test_pooled_autocorrelations_do_not_reach_across_trajectories_nor_count_what_does_not_vary():
    series = np.array([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0], [3.0] * 6, [np.nan] * 6])
    assert pooled_autocorrelations(series, np.zeros(6, int)) == pytest.approx((-1.0, 1.0))
    # pairs that are equal within a trajectory and opposite across
    pairs = np.array([[1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0]])
    one, two = pooled_autocorrelations(pairs, np.repeat(np.arange(4), 2))
    assert (one, two) == pytest.approx((1.0, 0.0))
    assert pooled_autocorrelations(pairs, np.arange(8)) == (0.0, 0.0)


def test_the_fit_is_free_of_the_bias_of_short_series():
    rng = np.random.default_rng(0)
    series = ar2(rng, (4000, 60), 0.6, 0.15)
    truth = Autoregression(0.6, 0.15)
    raw = Autoregression.from_autocorrelations(*pooled_autocorrelations(series, np.zeros(60, int)))
    assert raw.inflation < 0.75 * truth.inflation
    assert fit(series, np.zeros(60, int)).inflation == pytest.approx(truth.inflation, rel=0.1)


def test_the_fit_puts_back_what_the_means_of_trajectories_take_and_knows_no_differences_between_them():
    rng, trajectory = np.random.default_rng(0), np.repeat([0, 1, 2], 20)
    series = ar2(rng, (4000, 3, 20), 0.4, 0.1).reshape(4000, 60)
    found = fit(series, trajectory)
    assert found.inflation == pytest.approx(Autoregression(0.4, 0.1).inflation, rel=0.05)
    moved = fit(series + np.array([-5.0, 0.0, 7.0])[trajectory], trajectory)
    assert (moved.first, moved.second) == pytest.approx((found.first, found.second))


def test_no_error_is_made_smaller_where_initial_times_alternate():
    series = ar2(np.random.default_rng(0), (50, 60), -0.5, 0.0)
    slow = SlowVariations.of(np.zeros(60, int))
    plain = np.sqrt(np.mean((series @ slow.vectors.T) ** 2, axis=1) / 60)
    np.testing.assert_allclose(slow.standard_error(series).error, plain)


@pytest.mark.parametrize("sizes", [(30,), (12, 12), (5, 14, 8), (1,) * 9, (2, 1)])
def test_slow_variations_are_orthonormal_and_blind_to_the_mean(sizes):
    trajectory = np.repeat(np.arange(len(sizes)), sizes)
    slow = SlowVariations.of(trajectory)
    n, count = trajectory.size, len(slow.vectors)
    assert count == max(len(sizes) - 1, round(0.4 * n ** (2 / 3)), 1) and slow.contrasts == len(sizes) - 1
    np.testing.assert_allclose(slow.vectors @ slow.vectors.T, np.eye(count), atol=1e-12)
    np.testing.assert_allclose(slow.vectors.sum(axis=1), 0.0, atol=1e-12)
    for vector in slow.vectors[: slow.contrasts]:
        assert all(np.ptp(vector[trajectory == t]) < 1e-12 for t in range(len(sizes)))
    for vector in slow.vectors[slow.contrasts :]:
        assert len(set(trajectory[np.abs(vector) > 1e-12].tolist())) == 1


def test_white_noise_in_closed_form():
    """Uncorrelated trajectories of single times: the ordinary standard error of a mean, n - 1 degrees of freedom."""
    values = np.random.default_rng(0).normal(size=(3, 9))
    found = SlowVariations.of(np.arange(9)).standard_error(values)
    np.testing.assert_allclose(found.error, values.std(axis=1, ddof=1) / 3)
    np.testing.assert_allclose(found.dof, 8)


def test_the_correction_makes_the_variance_exact():
    """Over many series of a known process the squared error has the variance of the mean for its mean."""
    rng = np.random.default_rng(0)
    for sizes in ((60,), (20, 20, 20)):
        series = np.concatenate([ar2(rng, (4000, size), 0.6, 0.15) for size in sizes], axis=1)
        slow = SlowVariations.of(np.repeat(np.arange(len(sizes)), sizes))
        squared = (slow.vectors @ series.T) ** 2
        error = slow.standard_error(series).error
        assert (squared.mean() / 60) < 0.85 * series.mean(axis=1).var()  # without it
        kept = error**2 < np.quantile(error**2, 0.999)
        assert (error**2)[kept].mean() == pytest.approx(series.mean(axis=1).var(), rel=0.15), sizes


def test_too_few_initial_times_tell_nothing():
    found = SlowVariations.of(np.zeros(1, int)).standard_error(np.array([[3.0]]))
    assert np.isinf(found.error).all()


def test_trajectories_that_differ_as_wholes_are_clusters():
    rng = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(4), 25)
    slow = SlowVariations.of(trajectory)
    # Standard deviation between trajectories over that within; where the two are equal the F test misses some.
    for share, close, most in ((10.0, 0.05, 0.09), (1.0, 0.2, 0.12)):
        values = share * rng.normal(size=(300, 4))[:, trajectory] + rng.normal(size=(300, 100))
        found = slow.standard_error(values)
        of_clusters = values.reshape(300, 4, 25).mean(axis=2).std(axis=1, ddof=1) / 2
        assert np.median(found.error / of_clusters) == pytest.approx(1.0, abs=close)
        assert np.median(found.dof) < 3.5
        p = 2 * stats.t.sf(np.abs(values.mean(axis=1)) / found.error, found.dof)
        assert (p < 0.05).mean() < most  # Monte Carlo error 0.013
    alike = slow.standard_error(rng.normal(size=(2000, 100)))
    assert (alike.dof == 3).mean() == pytest.approx(0.01, abs=0.01)  # the level of the F test


@pytest.mark.parametrize(
    ("n", "trajectories", "first", "second"),
    [(50, 1, 0.0, 0.0), (200, 1, 0.0, 0.0), (200, 1, 0.607, 0.15), (200, 4, 0.607, 0.15), (200, 2, 1.129, -0.3)],
)
def test_the_mean_over_its_error_is_students_t(n, trajectories, first, second):
    """At 5 % and far out at 0.1 %, in scorecards of 20 cells that are alike in their autocorrelation."""
    rng = np.random.default_rng(1)
    cards = 300
    series = ar2(rng, (cards, 20, trajectories, n // trajectories), first, second).reshape(cards, 20, n)
    slow = SlowVariations.of(np.repeat(np.arange(trajectories), n // trajectories))
    p = []
    for card in series:
        found = slow.standard_error(card)
        p.append(2 * stats.t.sf(np.abs(card.mean(axis=1)) / found.error, found.dof))
    assert 0.04 < (np.array(p) < 0.05).mean() < 0.065
    assert (np.array(p) < 0.001).mean() < 0.0025
