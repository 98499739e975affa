"""What every network must do, as functions of its config: the tests of each model call these."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from emulator.models import build, forward_flops


def randomised(config, n_in, n_out, grid, dtype="float32", scale=0.3):
    """A network with all parameters random: a fresh one is zero, and zero is equivariant to anything."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(config, n_in, n_out, grid, nnx.Rngs(0), jnp.dtype(dtype))))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda p: scale * jnp.asarray(rng.standard_normal(p.shape), p.dtype), shapes)
    return graph, params


def compiled(graph):
    """``f(params, x)``, compiled."""
    return jax.jit(lambda params, x: nnx.merge(graph, params)(x))


def inputs(grid, n_in, batch=1, seed=0):
    return jax.random.normal(jax.random.key(seed), (batch, *grid.shape, n_in))


def assert_zero_before_training(config, grid):
    model = nnx.jit(build(config, 5, 3, grid, nnx.Rngs(0)))
    out = model(inputs(grid, 5, batch=2))
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, np.zeros((2, *grid.shape, 3), np.float32))


def assert_gradient_reaches_every_parameter(config, grid):
    graph, params = randomised(config, 3, 2, grid)
    x = inputs(grid, 3)
    gradient = jax.jit(jax.grad(lambda p: (nnx.merge(graph, p)(x) ** 2).sum()))(params)
    sizes = {jax.tree_util.keystr(k): float(jnp.abs(g).max()) for k, g in jax.tree_util.tree_leaves_with_path(gradient)}
    assert all(size > 0 for size in sizes.values()), [name for name, size in sizes.items() if not size > 0]


def assert_half_precision_is_near(config, grid, tolerance=0.05):
    graph, params = randomised(config, 3, 2, grid)
    half, _ = randomised(config, 3, 2, grid, "bfloat16")
    fresh = build(config, 3, 2, grid, nnx.Rngs(0), jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(nnx.state(fresh))} == {jnp.dtype("float32")}
    x = inputs(grid, 3)
    exact, rounded = compiled(graph)(params, x), compiled(half)(params, x)
    assert rounded.dtype == jnp.float32
    assert 1e-5 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < tolerance


def assert_turning_commutes(config, grid, columns, atol=1e-4):
    graph, params = randomised(config, 4, 3, grid)
    x = inputs(grid, 4)
    model = compiled(graph)
    turned, straight = model(params, jnp.roll(x, columns, axis=2)), model(params, x)
    assert float(jnp.abs(straight).max()) > 0.1
    np.testing.assert_allclose(turned, jnp.roll(straight, columns, axis=2), atol=atol)


def assert_overfits_one_batch(config, grid, steps=150, rate=1e-2):
    """Eight numbers a cell from eight others, by no rule but memory."""
    graph, params = nnx.split(build(config, 4, 2, grid, nnx.Rngs(0)))
    x, y = inputs(grid, 4, batch=2), inputs(grid, 2, batch=2, seed=1)
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(p):
        return jnp.mean((nnx.merge(graph, p)(x) - y) ** 2)

    @jax.jit
    def step(carry, _):
        p, state = carry
        value, gradient = jax.value_and_grad(loss)(p)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(p, updates), state), value

    _, losses = jax.lax.scan(step, (params, optimiser.init(params)), length=steps)
    assert float(losses[0]) > 0.9
    assert float(losses[-1]) < 0.05, f"loss {losses[-1]}"


def assert_counted_as_xla_counts(config, grid, tolerance):
    graph, params = nnx.split(nnx.eval_shape(lambda: build(config, 7, 5, grid, nnx.Rngs(0))))
    x = jax.ShapeDtypeStruct((1, *grid.shape, 7), jnp.float32)
    counted = compiled(graph).lower(params, x).compile().cost_analysis()["flops"]
    # XLA counts norms, activations and sums besides
    assert 1.0 <= counted / forward_flops(config, 7, 5, grid) < 1 + tolerance


def assert_compiles_once(config, grid):
    graph, params = randomised(config, 3, 2, grid)
    traces = []

    @jax.jit
    def model(params, x):
        traces.append(1)
        return nnx.merge(graph, params)(x)

    for seed in range(3):
        model(params, inputs(grid, 3, seed=seed))
    assert len(traces) == 1
