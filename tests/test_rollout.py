"""The scan equals a Python loop, recomputed or not, and so do its gradients; forecasts go by the longest steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_store import SPEC, write_store

from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.stepping.longer_steps import with_longer_steps
from emulator.stepping.rollout import Relaxation, bases_of, last_steps, recomputed, rollout, rows_on_the_way, trajectory
from emulator.stepping.stepper import make_stepper
from emulator.training.loader import read_batch

TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    store = write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(8))
    stepper, params = make_stepper(
        TINY, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=0
    )
    params = jax.tree.map(lambda p: p + 0.02, params)  # away from zero, so that states change
    return stepper, params, read_batch(store, np.array([0, 3]), 4)


def loop(stepper, params, initial, forcing, which):
    states, state = [], initial
    for i in range(forcing.shape[1]):
        state = stepper.advance(params, state, forcing[:, i], which)
        states.append(state)
    return jnp.stack(states, axis=1)


@pytest.mark.parametrize("rematerialise", [False, True])
def test_scan_equals_loop(parts, rematerialise):
    stepper, params, batch = parts
    initial, forcing, which = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing), jnp.asarray(batch.which)
    scanned = rollout(stepper, params, initial, forcing, which, rematerialise=rematerialise)
    looped = loop(stepper, params, initial, forcing, which)
    assert scanned.shape == (2, 4, 8, 16, 4)
    assert float(jnp.abs(looped[:, 1] - looped[:, 0]).max()) > 0.01
    np.testing.assert_allclose(scanned, looped, rtol=1e-6, atol=1e-6)


def test_gradients_of_scan_loop_and_recomputation_agree(parts):
    stepper, params, batch = parts
    initial, forcing, which = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing), jnp.asarray(batch.which)
    unit = stepper.unit(which)[:, None]

    def gradient(forecast):
        return jax.jit(jax.grad(lambda p: jnp.mean(((forecast(p) - batch.state[:, 1:]) / unit) ** 2)))(params)

    gradients = [
        gradient(lambda p: loop(stepper, p, initial, forcing, which)),
        gradient(lambda p: rollout(stepper, p, initial, forcing, which)),
        gradient(lambda p: rollout(stepper, p, initial, forcing, which, rematerialise=True)),
        gradient(lambda p: rollout(stepper, p, initial, forcing, which, unroll=True)),
    ]
    for other in gradients[1:]:
        for a, b in zip(jax.tree.leaves(gradients[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4 * float(jnp.abs(a).max()) + 1e-7)


@pytest.mark.parametrize("steps", [1, 2])
def test_what_is_computed_again_is_all_but_the_last_step(parts, steps):
    stepper, params, batch = parts
    initial, forcing, which = (
        jnp.asarray(batch.state[:, 0]),
        jnp.asarray(batch.forcing)[:, :steps],
        jnp.asarray(batch.which),
    )

    def flops(rematerialise):
        again = {"rematerialise": rematerialise, "unroll": True}
        gradient = jax.grad(lambda p: jnp.mean(rollout(stepper, p, initial, forcing, which, **again) ** 2))
        return jax.jit(gradient).lower(params).compile().cost_analysis()["flops"]

    assert 0.99 < flops(True) / flops(False) < 1.03 * recomputed(steps)  # some compilers find more to spare


@pytest.mark.parametrize("unroll", [False, True])
def test_an_unrolled_program_has_no_loop(parts, unroll):
    stepper, params, batch = parts
    initial, forcing, which = jnp.asarray(batch.state[:, 0]), jnp.asarray(batch.forcing), jnp.asarray(batch.which)
    program = jax.jit(lambda p: rollout(stepper, p, initial, forcing, which, unroll=unroll)).lower(params).as_text()
    assert ("stablehlo.while" in program) != unroll


# ---- forecasts by steps of several lengths


def test_a_row_is_come_to_by_the_longest_step_that_divides_it():
    steps = [1, 2, 8]
    assert last_steps(np.arange(1, 17), steps).tolist() == [0, 1, 0, 1, 0, 1, 0, 2] * 2
    assert last_steps(np.arange(1, 4), [1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("wanted", "steps", "expected"),
    [
        ([1, 2, 3, 4, 5], [1, 4], [1, 2, 3, 4, 5]),
        ([4, 8, 12], [1, 4], [4, 8, 12]),
        ([11], [1, 4], [4, 8, 9, 10, 11]),
        ([7], [1, 2, 4], [4, 6, 7]),
        ([3], [1], [1, 2, 3]),
    ],
)
def test_only_rows_on_the_way_are_made(wanted, steps, expected):
    assert rows_on_the_way(np.array(wanted), steps).tolist() == expected


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    store = with_longer_steps(write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(8)), [2, 4])
    model = TINY.model_copy(update={"time_steps": [1, 2, 4]})
    stepper, params = make_stepper(
        model, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=0
    )
    draws = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
    params = jax.tree.map(lambda p: p + 0.05 * jax.random.normal(next(draws), p.shape), params)
    return stepper, params, read_batch(store, np.array([0, 3]), 7)


def by_hand(stepper, params, batch, relax=lambda state, row, step: state):
    """Every row from the one that lies the longest step behind it that divides it."""
    states = {0: jnp.asarray(batch.state[:, 0])}
    for row in range(1, 8):
        step = max(s for s in stepper.time_steps if row % s == 0)
        which = jnp.full(2, stepper.time_steps.index(step))
        states[row] = relax(
            stepper.advance(params, states[row - step], jnp.asarray(batch.forcing[:, row - 1]), which), row, step
        )
    return jnp.stack([states[row] for row in range(1, 8)], axis=1)


@pytest.mark.parametrize("cuts", [[7], [3, 4], [1, 1, 5]])
def test_a_trajectory_goes_by_the_longest_steps_in_blocks_of_any_size(several, cuts):
    stepper, params, batch = several
    which = last_steps(np.arange(1, 8), stepper.time_steps)
    parts, bases = [], bases_of(stepper, jnp.asarray(batch.state[:, 0]))
    for stop in np.cumsum(cuts):
        now = slice(stop - cuts[len(parts)], stop)
        states, bases = trajectory(stepper, params, bases, jnp.asarray(batch.forcing[:, now]), jnp.asarray(which[now]))
        parts.append(states)
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), by_hand(stepper, params, batch), rtol=1e-5, atol=1e-5)


def test_rows_that_nobody_wants_can_be_left_out(several):
    stepper, params, batch = several
    rows = rows_on_the_way(np.array([4, 6]), stepper.time_steps)
    forcing, which = jnp.asarray(batch.forcing[:, rows - 1]), jnp.asarray(last_steps(rows, stepper.time_steps))
    states, _ = trajectory(stepper, params, bases_of(stepper, jnp.asarray(batch.state[:, 0])), forcing, which)
    np.testing.assert_allclose(states, by_hand(stepper, params, batch)[:, rows - 1], rtol=1e-5, atol=1e-5)


def test_a_relaxation_takes_off_what_belongs_to_the_length_of_the_step(several):
    stepper, params, batch = several
    rates = jnp.array([[0.1] * 4, [0.2] * 4, [0.3] * 4])
    target = jnp.asarray(batch.state[:, 1:])

    def relax(state, row, step):
        return state + rates[stepper.time_steps.index(step)] * (target[:, row - 1] - state)

    which = jnp.asarray(last_steps(np.arange(1, 8), stepper.time_steps))
    bases = bases_of(stepper, jnp.asarray(batch.state[:, 0]))
    states, _ = trajectory(stepper, params, bases, jnp.asarray(batch.forcing), which, Relaxation(rates, target))
    np.testing.assert_allclose(states, by_hand(stepper, params, batch, relax), rtol=1e-5, atol=1e-5)
