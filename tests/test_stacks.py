import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from emulator.training.stacks import VECTORS, Stacks


def params():
    shapes = {"one": {"kernel": (3, 3, 4, 5), "scale": (7,)}, "two": {"kernel": (3, 3, 4, 5), "gain": ()}, "z": (4, 5)}
    count = iter(range(100))
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return nnx.State(
        jax.tree.map(lambda s: jnp.asarray(np.random.default_rng(next(count)).random(s)), shapes, is_leaf=is_shape)
    )


def test_kernels_of_one_shape_are_one_array_and_vectors_another():
    stacks = Stacks.of(params())
    assert {k: v.shape for k, v in stacks.arrays.items()} == {
        "3x3x4x5": (2, 3, 3, 4, 5),
        "4x5": (1, 4, 5),
        VECTORS: (8,),
    }


def test_parameters_come_back_as_they_were():
    before = params()
    for after in (Stacks.of(before).params, jax.jit(lambda p: Stacks.of(p))(before).params):
        assert jax.tree.structure(after) == jax.tree.structure(before)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_is_a_pytree_that_names_its_arrays():
    stacks = Stacks.of(params())
    paths = [jax.tree_util.keystr(p, simple=True) for p, _ in jax.tree_util.tree_leaves_with_path(stacks)]
    assert paths == ["3x3x4x5", "4x5", VECTORS]
    doubled = jax.tree.map(lambda a: 2 * a, stacks)
    np.testing.assert_array_equal(doubled.params["two"]["gain"], 2 * params()["two"]["gain"])
    assert jax.tree.structure(doubled) == jax.tree.structure(stacks)


def test_kernels_that_change_names_or_places_are_another_order():
    kernel = jnp.zeros((3, 3, 4, 5))
    orders = {
        Stacks.of(nnx.State(tree)).order
        for tree in ({"a": kernel, "b": kernel}, {"a": kernel, "c": kernel}, {"a": kernel, "b": kernel.T})
    }
    assert len(orders) == 3
    stacks = Stacks.of(params())
    assert Stacks.of(params()).order == stacks.order == jax.tree.map(lambda a: 2 * a, stacks).order


def test_gradients_go_through():
    stacks = Stacks.of(params())
    gradient = jax.grad(lambda s: jnp.sum(s.params["one"]["scale"] ** 2) + jnp.sum(s.params["z"]))(stacks)
    np.testing.assert_allclose(gradient.params["one"]["scale"], 2 * stacks.params["one"]["scale"])
    np.testing.assert_array_equal(gradient.params["z"], 1)
    np.testing.assert_array_equal(gradient.params["two"]["kernel"], 0)
