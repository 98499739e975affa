"""Geer's t-test: against the ordinary paired test and the inflation of a known process."""

import numpy as np
import pytest
from scipy import stats
from test_slow_variations import ar2

from emulator.evaluation.geer import geer_p
from emulator.evaluation.slow_variations import Autoregression, pooled_autocorrelations


def test_without_autocorrelation_it_is_the_paired_t_test():
    """Each time a trajectory of its own, so that there is no autocorrelation to find."""
    rng = np.random.default_rng(0)
    a, b = 5 + rng.normal(size=(2, 4, 30))
    expected = stats.ttest_rel(a, b, axis=1).pvalue
    np.testing.assert_allclose(geer_p(a**2, b**2, np.arange(30)), expected)


def test_the_standard_error_is_inflated_as_the_pooled_ar2_has_it():
    rng = np.random.default_rng(0)
    difference = 0.05 * ar2(rng, (40, 300), 0.6, 0.15)
    b = np.full_like(difference, 5.0)
    trajectory = np.zeros(300, int)
    k2 = Autoregression.from_autocorrelations(*pooled_autocorrelations(difference, trajectory)).inflation
    assert k2 == pytest.approx(Autoregression(0.6, 0.15).inflation, rel=0.2)
    t = difference.mean(axis=1) / (difference.std(axis=1, ddof=1) * np.sqrt(k2 / 300))
    np.testing.assert_allclose(geer_p((b + difference) ** 2, b**2, trajectory), 2 * stats.t.sf(np.abs(t), 299))


def test_what_cannot_be_tested():
    assert np.isnan(geer_p(np.ones((2, 1)), np.ones((2, 1)), np.zeros(1, int))).all()
    same = np.ones((1, 5))
    assert geer_p(same, same, np.zeros(5, int)) == 1.0
    assert geer_p(4 * same, same, np.zeros(5, int)) == 0.0
    assert np.isnan(geer_p(np.full((1, 5), np.nan), same, np.zeros(5, int)))
