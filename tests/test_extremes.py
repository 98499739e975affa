"""Quantiles from histograms against those of the numbers themselves."""

import numpy as np
import pytest

from data_prep.grid import Grid
from emulator.evaluation.extremes import QUANTILES, Bins, scale_of


@pytest.mark.parametrize("sample", ["normal", "skewed"])
def test_quantiles_of_known_distributions(sample):
    rng = np.random.default_rng(0)
    shape = (400, 2, 16, 32)
    x = 7.0 * rng.normal(size=shape) if sample == "normal" else 1e-4 * (rng.exponential(size=shape) ** 2 - 2)
    x[:, 1] *= 2  # another distribution at the second lead
    bins = Bins(scale_of(np.mean(x**2)))
    even = np.full(shape[-2:], 1 / 512)
    counts = bins.count(x, even)
    assert counts.shape[0] == 2 and counts.sum(axis=1) == pytest.approx(400)
    found = bins.quantiles(counts, QUANTILES)
    for lead in range(2):
        np.testing.assert_allclose(found[lead], np.quantile(x[:, lead], QUANTILES), rtol=0.01, atol=0.004 * bins.scale)


def test_points_count_by_area_and_chunks_add_up():
    grid = Grid.gaussian(8)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 1, *grid.shape))
    x[:, :, 0] += 10.0  # the southernmost row
    weights = grid.latitude_weights[:, None] / np.prod(grid.shape) * np.ones(grid.shape)
    bins = Bins(1.0)
    whole = bins.count(x, weights)
    np.testing.assert_allclose(bins.count(x[:20], weights) + bins.count(x[20:], weights), whole, rtol=1e-12)
    share = weights[0].sum()
    low, high = bins.quantiles(whole, [1 - 1.2 * share, 1 - 0.5 * share])[0]
    assert low < 5 and high == pytest.approx(10.0, abs=0.1)


def test_what_cannot_be_ordered():
    bins = Bins(scale_of(0.0))
    assert np.isnan(bins.quantiles(np.zeros((3, 1024)), QUANTILES)).all()
    constant = bins.quantiles(bins.count(np.zeros((1, 1, 4, 8)), np.ones((4, 8))), QUANTILES)
    assert np.abs(constant).max() < 0.02
    far = bins.count(np.full((1, 1, 4, 8), 1e9), np.ones((4, 8)))
    assert far[0, -1] == 32  # beyond the last bin is in the last bin
