"""One model step: units, persistence at the start, lower bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_store import SPEC, write_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.stepping.longer_steps import with_longer_steps
from emulator.stepping.stepper import Normalizer, Stepper, make_stepper
from emulator.training.loader import read_batch

TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)

advance, output = jax.jit(Stepper.advance), jax.jit(Stepper.output)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(8))


@pytest.fixture(scope="module")
def made(store):
    return make_stepper(
        TINY, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=0
    )


@pytest.fixture(scope="module")
def batch(store):
    return jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 2))


def test_without_a_seed_there_are_shapes_for_the_same_network(store, made):
    stepper, params = made
    alike, shapes = make_stepper(
        TINY, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=None
    )
    assert jax.tree.structure((alike, shapes)) == jax.tree.structure((stepper, params))
    assert {type(p) for p in jax.tree.leaves(shapes)} == {jax.ShapeDtypeStruct}
    assert jax.tree.map(lambda p: (p.shape, p.dtype), shapes) == jax.tree.map(lambda p: (p.shape, p.dtype), params)


def test_untrained_step_is_persistence_and_the_mean(store, made, batch):
    stepper, params = made
    state = jnp.asarray(batch.state[:, 0])
    after = advance(stepper, params, state, batch.forcing[:, 0], batch.which)
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
    after = advance(stepper, shifted, state, batch.forcing[:, 0], batch.which)
    s, n = store.statistics, SPEC.n_prognostic
    expected = np.where(np.arange(4) < n, state + 2 * s.tendency_std, s.mean + 2 * s.std)
    np.testing.assert_allclose(after, np.maximum(expected, SPEC.state_minimum), rtol=1e-6)


def test_the_network_sees_all_fields_less_their_mean_over_their_deviation(store, made, batch, monkeypatch):
    stepper, params = made
    seen = []
    monkeypatch.setattr(nnx, "merge", lambda *_: lambda x: seen.append(x) or jnp.zeros((*x.shape[:-1], 4)))
    state, forcing, s = np.asarray(batch.state[:, 0]), np.asarray(batch.forcing[:, 0]), store.statistics
    stepper.output(params, jnp.asarray(state), jnp.asarray(forcing), batch.which)
    static = (store.static - s.static_mean) / s.static_std
    parts = [
        ((state - s.mean) / s.std)[..., : SPEC.n_prognostic],
        (forcing - s.forcing_mean) / s.forcing_std,
        np.broadcast_to(static, (2, *static.shape)),
    ]
    np.testing.assert_allclose(seen[0], np.concatenate(parts, axis=-1), rtol=1e-4, atol=1e-4)


def test_diagnostic_channels_are_not_read(made, batch):
    stepper, params = made
    random = jax.tree.map(lambda p: p + 0.1, params)
    state = jnp.asarray(batch.state[:, 0])
    spoiled = state.at[..., SPEC.n_prognostic :].set(1e9)
    np.testing.assert_array_equal(
        advance(stepper, random, state, batch.forcing[:, 0], batch.which),
        advance(stepper, random, spoiled, batch.forcing[:, 0], batch.which),
    )


@pytest.mark.parametrize("precision", ["bfloat16", "bfloat16_products"])
def test_a_step_of_less_precision_is_near_one_of_float32(store, made, batch, precision):
    exact, params = made
    rough, fresh = make_stepper(
        TINY, SPEC, store.grid, store.timestep, store.statistics, store.static, precision=precision, seed=0
    )
    assert jax.tree.map(lambda p: (p.shape, p.dtype), fresh) == jax.tree.map(lambda p: (p.shape, p.dtype), params)
    draws = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(draws), p.shape), params)
    state, n = jnp.asarray(batch.state[:, 0]), SPEC.n_prognostic
    changes = [
        (advance(stepper, params, state, batch.forcing[:, 0], batch.which) - state)[..., :n]
        for stepper in (exact, rough)
    ]
    assert changes[1].dtype == jnp.float32
    assert 0 < float(jnp.abs(changes[1] - changes[0]).max() / jnp.abs(changes[0]).max()) < 0.05


def test_lower_bounds_hold(made, batch):
    stepper, params = made
    falling = jax.tree.map(lambda p: p - 50.0 if p.ndim == 1 else p, params)
    after = advance(stepper, falling, jnp.asarray(batch.state[:, 0]), batch.forcing[:, 0], batch.which)
    assert float(after[..., 2:].min()) == 0.0
    assert float(after[..., :2].min()) < 200


def test_channel_without_spread_is_refused_by_name(store):
    std = store.statistics.tendency_std.copy()
    std[1] = 0
    with pytest.raises(DataError, match="of its change of temperature@850 is not positive"):
        Normalizer.of(dataclasses.replace(store.statistics, tendency_std=std), SPEC)


# ---- steps of several lengths


SEVERAL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, time_steps=[1, 4])


@pytest.fixture(scope="module")
def several(store):
    """A network of steps of one row and of four, away from zero."""
    longer = with_longer_steps(store, [4])
    stepper, params = make_stepper(
        SEVERAL, SPEC, store.grid, store.timestep, longer.statistics, store.static, precision="float32", seed=0
    )
    draws = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    return stepper, jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(draws), p.shape), params)


def test_each_window_goes_by_its_own_step(store, several, batch):
    stepper, params = several
    state, forcing = jnp.asarray(batch.state[:, 0]), batch.forcing[:, 0]

    def by(*which):
        return np.asarray(advance(stepper, params, state, forcing, jnp.array(which)))

    mixed, short, long = by(0, 1), by(0, 0), by(1, 1)
    np.testing.assert_array_equal(mixed[0], short[0])
    np.testing.assert_array_equal(mixed[1], long[1])
    answers = [np.asarray(output(stepper, params, state, forcing, jnp.full(2, i))) for i in (0, 1)]
    assert np.abs(answers[0] - answers[1]).max() > 0.01  # the network is told, and not only the unit is another one


def test_unit_is_that_of_the_change_over_the_step(store, several):
    stepper, _ = several
    n = SPEC.n_prognostic
    every = np.concatenate(
        [
            store.read_state(s.start, s.stop)[4:] - store.read_state(s.start, s.stop)[:-4]
            for s in store.segments
            if s.split == "train"
        ]
    )
    weights = store.grid.latitude_weights[:, None, None]
    mean = (weights * every).mean(axis=(0, 1, 2))
    std = np.sqrt((weights * (every - mean) ** 2).mean(axis=(0, 1, 2)))
    unit = np.asarray(stepper.unit(jnp.array([0, 1])))[:, 0, 0]
    np.testing.assert_allclose(unit[0, :n], store.statistics.tendency_std[:n], rtol=1e-6)
    np.testing.assert_allclose(unit[1, :n], std[:n], rtol=1e-4)
    np.testing.assert_array_equal(unit[:, n:], np.stack([store.statistics.std[n:]] * 2))


def test_statistics_must_know_the_steps(store):
    with pytest.raises(DataError, match="changes over 1 time steps, the network takes"):
        make_stepper(
            SEVERAL, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=0
        )


def test_what_is_held_at_its_bound_still_learns(made, batch):
    """Where no rain is forecast and some fell, the loss must be able to raise it."""
    stepper, params = made
    falling = jax.tree.map(lambda p: p - 50.0 if p.ndim == 1 else p, params)

    def rain(params):
        return advance(stepper, params, jnp.asarray(batch.state[:, 0]), batch.forcing[:, 0], batch.which)[..., 3].sum()

    value, slopes = jax.jit(jax.value_and_grad(rain))(falling)
    assert float(value) == 0.0
    assert max(float(jnp.abs(slope).max()) for slope in jax.tree.leaves(slopes)) > 0.0
