"""What every network must do: tests that each model takes over, and functions of its config that they call."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from emulator.models import build, forward_flops

N_IN, N_OUT = 3, 2

# These programs run for milliseconds: compiling them well would take longer than running them.
fast_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(grid, n_in=N_IN, batch=1, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((batch, *grid.shape, n_in)), jnp.float32)


def structure(config, grid, n_in=N_IN, n_out=N_OUT, dtype="float32"):
    """Graph and shapes of the parameters, without making them."""
    return nnx.split(nnx.eval_shape(lambda: build(config, n_in, n_out, grid, nnx.Rngs(0), jnp.dtype(dtype))))


def random_parameters(shapes, scale=0.3):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: scale * jnp.asarray(rng.standard_normal(p.shape), p.dtype), shapes)


def randomised(config, grid, dtype="float32"):
    """``f(x)`` of a network with all parameters random: a fresh one is zero, and zero is equivariant to anything."""
    return _randomised(config.model_dump_json(), type(config), grid, dtype)


@cache
def _randomised(config, section, grid, dtype):
    graph, shapes = structure(section.model_validate_json(config), grid, dtype=dtype)
    params = random_parameters(shapes)
    model = fast_jit(lambda params, x: nnx.merge(graph, params)(x))
    return lambda x: model(params, x)


class Trial:
    """A network, two samples to learn by heart, and one compiled step that serves all of a model's tests."""

    def __init__(self, config, grid, steps=120):
        self.x, self.y = inputs(grid, batch=2), inputs(grid, N_OUT, batch=2, seed=1)
        graph, self.shapes = structure(config, grid)
        self.steps = steps
        self.fresh = fast_jit(lambda: nnx.split(build(config, N_IN, N_OUT, grid, nnx.Rngs(0)))[1])()
        self.optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

        def loss(params):
            out = nnx.merge(graph, params)(self.x)
            return jnp.mean((out - self.y) ** 2), out

        @fast_jit
        def step(params, state):
            (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
            updates, state = self.optimiser.update(gradient, state)
            return optax.apply_updates(params, updates), state, value, out, gradient

        self.step = step

    def check_output_is_zero_before_training(self):
        *_, out, _ = self.step(self.fresh, self.optimiser.init(self.fresh))
        assert out.dtype == jnp.float32
        np.testing.assert_array_equal(out, jnp.zeros(self.y.shape))

    def check_gradient_reaches_every_parameter(self):
        params = random_parameters(self.shapes)
        *_, gradient = self.step(params, self.optimiser.init(params))
        sizes = {
            jax.tree_util.keystr(k): float(jnp.abs(g).max()) for k, g in jax.tree_util.tree_leaves_with_path(gradient)
        }
        assert len(sizes) > 5
        assert all(size > 0 for size in sizes.values()), [name for name, size in sizes.items() if not size > 0]

    def check_two_samples_are_learnt_by_heart(self):
        params, state = self.fresh, self.optimiser.init(self.fresh)
        losses = []
        for _ in range(self.steps):
            params, state, loss, *_ = self.step(params, state)
            losses.append(float(loss))
        np.testing.assert_allclose(losses[0], np.mean(np.square(self.y)), rtol=1e-5)
        assert losses[-1] < 0.05 * losses[0], losses[::20]


class Duties:
    """Tests of a module that has the fixture ``trial``."""

    def test_output_is_zero_before_training(self, trial):
        trial.check_output_is_zero_before_training()

    def test_gradient_reaches_every_parameter(self, trial):
        trial.check_gradient_reaches_every_parameter()

    def test_two_samples_are_learnt_by_heart(self, trial):
        trial.check_two_samples_are_learnt_by_heart()


def check_half_precision_is_near(config, grid, tolerance=0.05):
    x = inputs(grid)
    exact, rounded = randomised(config, grid)(x), randomised(config, grid, "bfloat16")(x)
    assert rounded.dtype == jnp.float32
    in_half_precision = rounded == rounded.astype(jnp.bfloat16)
    assert float(in_half_precision.mean()) < 0.1, "the output was rounded again"
    assert 1e-5 < float(jnp.abs(rounded - exact).max() / jnp.abs(exact).max()) < tolerance
    _, shapes = structure(config, grid, dtype="bfloat16")
    assert {p.dtype for p in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def check_little_is_kept_in_float32(config, grid):
    """Of what the forward pass in half precision leaves for the backward pass, parameters aside."""
    graph, params = structure(config, grid, dtype="bfloat16")
    x = jax.ShapeDtypeStruct((1, *grid.shape, N_IN), jnp.float32)
    back = jax.eval_shape(lambda p, x: jax.vjp(lambda p, x: nnx.merge(graph, p)(x), p, x)[1], params, x)
    shapes = {p.shape for p in jax.tree.leaves(params)}
    kept = [a for a in jax.tree.leaves(back) if a.shape not in shapes]
    in_float32 = sum(a.size * 4 for a in kept if a.dtype == jnp.float32)
    assert in_float32 < 0.3 * sum(a.size * a.dtype.itemsize for a in kept)


def check_turning_commutes(config, grid, columns, atol=1e-4):
    model, x = randomised(config, grid), inputs(grid)
    turned, straight = model(jnp.roll(x, columns, axis=2)), model(x)
    assert float(jnp.abs(straight).max()) > 0.1
    np.testing.assert_allclose(turned, jnp.roll(straight, columns, axis=2), atol=atol)


def check_arithmetic_is_what_xla_counts(config, grid, tolerance):
    graph, params = structure(config, grid, 7, 5)
    x = jax.ShapeDtypeStruct((1, *grid.shape, 7), jnp.float32)
    compiled = fast_jit(lambda params, x: nnx.merge(graph, params)(x)).lower(params, x).compile()
    # XLA counts norms, activations and sums besides
    assert 1.0 <= compiled.cost_analysis()["flops"] / forward_flops(config, 7, 5, grid) < 1 + tolerance
