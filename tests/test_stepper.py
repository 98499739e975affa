"""One model step: units, persistence at the start, lower bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_store import SPEC, write_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.loader import read_batch
from emulator.stepper import Normalizer, make_stepper

TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(8))


@pytest.fixture(scope="module")
def made(store):
    return make_stepper(TINY, SPEC, store.grid, store.statistics, store.static, precision="float32", seed=0)


@pytest.fixture(scope="module")
def batch(store):
    return jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 2))


def test_untrained_step_is_persistence_and_the_mean(store, made, batch):
    stepper, params = made
    state = jnp.asarray(batch.state[:, 0])
    after = stepper.advance(params, state, batch.forcing[:, 0])
    n = SPEC.n_prognostic
    np.testing.assert_array_equal(after[..., :n], state[..., :n])
    np.testing.assert_allclose(after[..., n:], jnp.broadcast_to(store.statistics.mean[n:], after[..., n:].shape))


def test_output_is_read_in_normalised_units(store, made, batch):
    """With a network that always answers 2: two standard deviations of the change, or of the value."""
    stepper, params = made
    shifted = jax.tree_util.tree_map_with_path(
        lambda path, p: p + 2.0 if "head" in jax.tree_util.keystr(path) and p.ndim == 1 else p, params
    )
    state = jnp.asarray(batch.state[:, 0])
    after = stepper.advance(shifted, state, batch.forcing[:, 0])
    s, n = store.statistics, SPEC.n_prognostic
    expected = np.where(np.arange(4) < n, state + 2 * s.tendency_std, s.mean + 2 * s.std)
    np.testing.assert_allclose(after, np.maximum(expected, SPEC.state_minimum), rtol=1e-6)


def test_diagnostic_channels_are_not_read(made, batch):
    stepper, params = made
    random = jax.tree.map(lambda p: p + 0.1, params)
    state = jnp.asarray(batch.state[:, 0])
    spoiled = state.at[..., SPEC.n_prognostic :].set(1e9)
    np.testing.assert_array_equal(
        stepper.advance(random, state, batch.forcing[:, 0]), stepper.advance(random, spoiled, batch.forcing[:, 0])
    )


def test_lower_bounds_hold(made, batch):
    stepper, params = made
    falling = jax.tree.map(lambda p: p - 50.0 if p.ndim == 1 else p, params)
    after = stepper.advance(falling, jnp.asarray(batch.state[:, 0]), batch.forcing[:, 0])
    assert float(after[..., 2:].min()) == 0.0
    assert float(after[..., :2].min()) < 200


def test_channel_without_spread_is_refused_by_name(store):
    std = store.statistics.tendency_std.copy()
    std[1] = 0
    with pytest.raises(DataError, match="of its change of temperature@850 is not positive"):
        Normalizer.of(dataclasses.replace(store.statistics, tendency_std=std), SPEC)
