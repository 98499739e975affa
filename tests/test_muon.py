from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax.contrib import MuonDimensionNumbers, muon

from emulator.config import RolloutStage, TrainConfig
from emulator.training.muon import orthogonalised, scale_by_muon
from emulator.training.optimiser import make_optimiser
from emulator.training.stacks import VECTORS, Stacks

SHAPES = {"a": (3, 3, 8, 8), "b": (3, 3, 8, 8), "long": (40, 6), "wide": (6, 40), "square": (12, 12), "scale": (8,)}
RATE = optax.constant_schedule(1e-2)


def draw(rng, shapes=SHAPES):
    # singular values over three orders of magnitude
    return nnx.State(
        {
            k: jnp.asarray(rng.standard_normal(s) * 10.0 ** -np.linspace(0, 3, s[-1]), jnp.float32)
            for k, s in shapes.items()
        }
    )


def test_updates_are_those_of_optax():
    rng = np.random.default_rng(0)
    config = TrainConfig(optimiser="muon", stages=[RolloutStage(steps=1)], weight_decay=0.1)
    ours = make_optimiser(config, RATE)
    as_matrices = lambda ps: jax.tree.map(  # noqa: E731
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None, ps
    )
    theirs = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        muon(
            RATE,
            weight_decay=config.weight_decay,
            adam_b1=0.9,
            adam_b2=0.95,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=as_matrices,
        ),
    )
    params = draw(rng)
    our_state, their_state = ours.init(Stacks.of(params)), theirs.init(params)
    our_update, their_update = jax.jit(ours.update), jax.jit(theirs.update)
    for _ in range(3):
        gradient = draw(rng)
        moved, our_state = our_update(Stacks.of(gradient), our_state, Stacks.of(params))
        expected, their_state = their_update(gradient, their_state, params)
        for name in SHAPES:
            found, truth = np.asarray(moved.params[name]), np.asarray(expected[name])
            np.testing.assert_allclose(found, truth, rtol=0, atol=1e-4 * np.abs(truth).max(), err_msg=name)


@pytest.mark.parametrize("half_precision", [False, True])
@pytest.mark.parametrize("shape", [(200, 20), (20, 200), (50, 50)], ids=["long", "wide", "square"])
def test_singular_vectors_stay_and_singular_values_become_one(shape, half_precision):
    rng = np.random.default_rng(1)
    u, _, v = np.linalg.svd(rng.standard_normal((2, *shape)), full_matrices=False)
    values = np.geomspace(1, 0.05, min(shape))
    x = jnp.asarray((u * values) @ v, jnp.float32)
    out = orthogonalised(x, half_precision=half_precision)
    assert out.dtype == jnp.float32
    within = np.swapaxes(u, 1, 2) @ np.asarray(out) @ np.swapaxes(v, 1, 2)
    diagonal = np.diagonal(within, axis1=1, axis2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    rest = within - diagonal[..., None] * np.eye(min(shape))
    assert np.abs(rest).max() < (0.1 if half_precision else 1e-4)


@pytest.mark.parametrize("half_precision", [False, True])
def test_matrices_of_low_rank_and_of_nothing_do_not_blow_up(half_precision):
    rng = np.random.default_rng(2)
    low = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 40))
    x = jnp.asarray(np.stack([low, 1e-12 * low, np.ones((300, 40)), np.zeros((300, 40))]), jnp.float32)
    out = np.asarray(orthogonalised(x, half_precision=half_precision))
    assert np.linalg.svd(out, compute_uv=False).max() < 1.5
    np.testing.assert_array_equal(out[3], 0)


@pytest.mark.parametrize("half_precision", [False, True])
def test_products_are_as_fine_as_asked_for(half_precision):
    transformation = scale_by_muon(0.2, half_precision=half_precision)
    params = {"4x8": jnp.ones((3, 4, 8)), "40x8": jnp.ones((2, 40, 8))}
    program = str(jax.make_jaxpr(transformation.update)(params, transformation.init(params)))
    kind = "bf16" if half_precision else "f32"
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) > 20
    assert all(f":{kind}[" in line for line in products)
    updates, _ = transformation.update(params, transformation.init(params))
    assert {u.dtype for u in updates.values()} == {jnp.dtype("float32")}


def test_a_long_matrix_is_multiplied_twice():
    def long_factors(x):
        program = str(jax.make_jaxpr(lambda x: orthogonalised(x, half_precision=False))(x))
        return sum("dot_general" in line and "300" in line for line in program.splitlines())

    assert long_factors(jnp.ones((1, 300, 8))) <= 2


def test_an_update_has_the_size_asked_for():
    rng = np.random.default_rng(3)
    gradient = {"3x3x8x16": jnp.asarray(rng.standard_normal((2, 3, 3, 8, 16)), jnp.float32)}
    transformation = scale_by_muon(0.2, half_precision=False)
    updates, state = transformation.update(gradient, transformation.init(gradient))
    assert float(jnp.sqrt(jnp.mean(updates["3x3x8x16"] ** 2))) == pytest.approx(0.2, rel=0.2)
    assert int(state.updates) == 1


def test_vectors_are_left_to_adam():
    optimiser = make_optimiser(TrainConfig(optimiser="muon", stages=[RolloutStage(steps=1)]), RATE)
    stacks = Stacks.of(draw(np.random.default_rng(4)))
    state = optimiser.init(stacks)
    second_moments = optax.tree.get(state, "nu")
    assert [leaf.shape for leaf in jax.tree.leaves(second_moments)] == [stacks.arrays[VECTORS].shape]


def test_updates_of_adamw_are_those_of_optax_with_a_short_second_moment():
    config = TrainConfig(optimiser="adamw", stages=[RolloutStage(steps=1)])
    params, ours = draw(np.random.default_rng(5)), make_optimiser(config, RATE)
    matrices = partial(jax.tree.map, lambda x: x.ndim > 1)
    decayed = optax.adamw(RATE, 0.9, 0.95, weight_decay=config.weight_decay, mask=matrices)
    theirs = optax.chain(optax.clip_by_global_norm(config.clip_norm), decayed)
    our_state, their_state = ours.init(Stacks.of(params)), theirs.init(params)
    for seed in range(3):
        gradient = draw(np.random.default_rng(seed))
        moved, our_state = ours.update(Stacks.of(gradient), our_state, Stacks.of(params))
        expected, their_state = theirs.update(gradient, their_state, params)
        for name in SHAPES:
            np.testing.assert_allclose(moved.params[name], expected[name], rtol=1e-4, atol=1e-7)
