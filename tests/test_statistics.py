"""Streaming moments equal those of the whole."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.statistics import Moments, Statistics, state_moments, sum_moments
from data_prep.reading import checks
from data_prep.spec import Channel

GRID = Grid.gaussian(6)
WEIGHTS = GRID.latitude_weights


def fields(n: int, seed: int = 0, offset: float = 1e5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (offset + np.array([1.0, 30.0, 500.0]) * rng.standard_normal((n, *GRID.shape, 3))).astype(np.float32)


def reference(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = values.astype(np.float64)
    weights = np.broadcast_to(WEIGHTS[:, None], (data.shape[0], *GRID.shape))
    means = [np.average(data[..., c], weights=weights) for c in range(data.shape[-1])]
    variances = [np.average((data[..., c] - m) ** 2, weights=weights) for c, m in enumerate(means)]
    return np.array(means), np.sqrt(variances)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 20), max_size=5))
def test_any_cut_into_blocks_gives_the_moments_of_the_whole(cuts):
    data = fields(20)
    found = Moments.empty(3)
    for part in np.split(data, sorted(cuts)):
        found = found.combine(Moments.of(part, WEIGHTS))
    mean, std = reference(data)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(found.std, std, rtol=1e-10)


def test_a_large_offset_costs_no_accuracy():
    # The naive E[x^2] - E[x]^2 of float32 sums would lose everything here.
    data = fields(50, offset=1e6)
    np.testing.assert_allclose(Moments.of(data, WEIGHTS).std, reference(data)[1], rtol=1e-10)


def test_changes_are_those_of_consecutive_states_and_never_cross_segments():
    first, second = fields(9, seed=1), fields(7, seed=2) + 1000
    parts = [first[:4], first[4:], second]
    edge = first[3:5]
    states = sum_moments((state_moments(part, WEIGHTS)[0] for part in parts), 3)
    tendencies = sum_moments((state_moments(part, WEIGHTS)[1] for part in (*parts, edge)), 3)
    changes = np.concatenate([np.diff(x.astype(np.float64), axis=0) for x in (first, second)])
    mean, std = reference(changes)
    np.testing.assert_allclose(tendencies.mean, mean, atol=1e-9)
    np.testing.assert_allclose(tendencies.std, std, rtol=1e-10)
    np.testing.assert_allclose(states.mean, reference(np.concatenate([first, second]))[0], rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_parts_combine_in_any_order(order, seed):
    parts = [Moments.of(part, WEIGHTS) for part in np.split(fields(20, seed), [1, 2, 7, 7, 15])]
    found = sum_moments((parts[i] for i in order), 3)
    mean, std = reference(fields(20, seed))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(found.std, std, rtol=1e-10)


@pytest.mark.parametrize("offset", [-1e5, 1e5])
def test_ranges_are_those_of_all_states_whatever_parts_they_come_in(offset):
    values = fields(9, offset=offset)
    found = sum_moments((state_moments(part, WEIGHTS)[0] for part in np.split(values, [2, 7])), 3)
    np.testing.assert_array_equal(found.lowest, values.min(axis=(0, 1, 2)))
    np.testing.assert_array_equal(found.highest, values.max(axis=(0, 1, 2)))


def test_a_single_state_has_no_change():
    assert state_moments(fields(1), WEIGHTS)[1].weight == 0.0


def test_moments_survive_json_to_the_last_bit():
    moments = Moments.of(fields(3), WEIGHTS)
    again = Moments.from_json(json.loads(json.dumps(moments.to_json())))
    assert again.weight == moments.weight
    np.testing.assert_array_equal(again.mean, moments.mean)
    np.testing.assert_array_equal(again.squares, moments.squares)


def test_rows_weigh_by_their_area():
    values = np.zeros((1, *GRID.shape, 1))
    values[:, 0] = 1.0
    assert Moments.of(values, WEIGHTS).mean[0] == pytest.approx(WEIGHTS[0] / len(GRID.latitude))


def test_constant_channels_are_refused_by_name():
    values = fields(5)
    values[..., 1] = 273.15
    moments = Moments.of(values, WEIGHTS)
    channels = [Channel("a", None), Channel("t", 850.0), Channel("b", None)]
    with pytest.raises(DataError, match=r"constant in the training data: t@850 \(273.15\)"):
        checks.check_varies(moments.mean, moments.std, channels, "state")


def test_statistics_survive_their_arrays():
    arrays = {name: np.arange(i + 1, dtype=np.float32) for i, name in enumerate(Statistics.__dataclass_fields__)}
    again = Statistics.from_arrays(Statistics.from_arrays(arrays).to_arrays())
    for name, value in arrays.items():
        np.testing.assert_array_equal(getattr(again, name), value)
