"""The scan equals a Python loop, with and without recomputation, and so do its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_store import SPEC, write_store

from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.loader import read_batch
from emulator.rollout import rollout
from emulator.stepper import make_stepper

TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    store = write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(8))
    stepper, params = make_stepper(TINY, SPEC, store.grid, store.statistics, store.static, precision="float32", seed=0)
    params = jax.tree.map(lambda p: p + 0.02, params)  # away from zero, so that states change
    return stepper, params, read_batch(store, np.array([0, 3]), 4)


def loop(stepper, params, initial, forcing):
    states, state = [], initial
    for i in range(forcing.shape[1]):
        state = stepper.advance(params, state, forcing[:, i])
        states.append(state)
    return jnp.stack(states, axis=1)


@pytest.mark.parametrize("rematerialise", [False, True])
def test_scan_equals_loop(parts, rematerialise):
    stepper, params, batch = parts
    initial, forcing = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing)
    scanned = rollout(stepper, params, initial, forcing, rematerialise=rematerialise)
    looped = loop(stepper, params, initial, forcing)
    assert scanned.shape == (2, 4, 8, 16, 4)
    assert float(jnp.abs(looped[:, 1] - looped[:, 0]).max()) > 0.01
    np.testing.assert_allclose(scanned, looped, rtol=1e-6, atol=1e-6)


def test_gradients_of_scan_loop_and_recomputation_agree(parts):
    stepper, params, batch = parts
    initial, forcing = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing)
    unit = stepper.normalizer.output_std

    def gradient(forecast):
        return jax.jit(jax.grad(lambda p: jnp.mean(((forecast(p) - batch.state[:, 1:]) / unit) ** 2)))(params)

    gradients = [
        gradient(lambda p: loop(stepper, p, initial, forcing)),
        gradient(lambda p: rollout(stepper, p, initial, forcing)),
        gradient(lambda p: rollout(stepper, p, initial, forcing, rematerialise=True)),
        gradient(lambda p: rollout(stepper, p, initial, forcing, unroll=True)),
    ]
    for other in gradients[1:]:
        for a, b in zip(jax.tree.leaves(gradients[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4 * float(jnp.abs(a).max()) + 1e-7)


@pytest.mark.parametrize("unroll", [False, True])
def test_an_unrolled_program_has_no_loop(parts, unroll):
    stepper, params, batch = parts
    initial, forcing = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing)
    program = jax.jit(lambda p: rollout(stepper, p, initial, forcing, unroll=unroll)).lower(params).as_text()
    assert ("stablehlo.while" in program) != unroll
