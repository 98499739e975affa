"""Weights as training keeps them: kernels of one shape in one array, all vectors in another.

What an optimiser step does to weights is little arithmetic for each of many arrays: a network of a hundred kernels asks
an accelerator for thousands of small programs a step, each of which costs microseconds however little it does. Stacked
there is a tenth of them, and matrix products of an optimiser come in batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import DictKey, PyTreeDef, keystr
from jaxtyping import Array

VECTORS = "vectors"


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies: in which array, from where on, and of what shape."""

    stack: str
    start: int
    shape: tuple[int, ...]


@jax.tree_util.register_pytree_with_keys_class
class Stacks:
    """Parameters of a network, or whatever there is one of for each; a pytree of a few arrays.

    Attributes:
      arrays: By the shape of what they hold, e.g. ``3x3x96x96``: ``(how many, *shape)``; one-dimensional parameters end
        to end in ``vectors``.
      slots: For every parameter, where it lies.
      structure: Of the parameters.
    """

    def __init__(self, arrays: dict[str, Any], slots: tuple[Slot, ...], structure: PyTreeDef) -> None:
        self.arrays, self.slots, self.structure = arrays, slots, structure

    @classmethod
    def of(cls, params: nnx.State) -> Stacks:
        """The parameters, stacked; leaves may be traced."""
        leaves, structure = jax.tree.flatten(params)
        parts: dict[str, list[Array]] = {}
        slots = []
        for leaf in leaves:
            name = "x".join(map(str, leaf.shape)) if leaf.ndim > 1 else VECTORS
            held = parts.setdefault(name, [])
            slots.append(Slot(name, sum(map(len, held)) if name == VECTORS else len(held), leaf.shape))
            held.append(jnp.atleast_1d(leaf))
        arrays = {
            name: jnp.concatenate(held) if name == VECTORS else jnp.stack(held) for name, held in sorted(parts.items())
        }
        return cls(arrays, tuple(slots), structure)

    @property
    def params(self) -> nnx.State:
        """The parameters as the network takes them."""
        leaves = []
        for slot in self.slots:
            array = self.arrays[slot.stack]
            if slot.stack == VECTORS:
                n = math.prod(slot.shape)
                leaves.append(array[slot.start : slot.start + n].reshape(slot.shape))
            else:
                leaves.append(array[slot.start])
        return jax.tree.unflatten(self.structure, leaves)

    @property
    def order(self) -> str:
        """SHA-256 of which parameter lies where: two kernels of one shape that change places change no array's name."""
        slots, _ = jax.tree_util.tree_flatten_with_path(jax.tree.unflatten(self.structure, self.slots))
        places = [f"{keystr(path, simple=True, separator='/')} {s.stack} {s.start} {s.shape}" for path, s in slots]
        return hashlib.sha256("\n".join(places).encode()).hexdigest()

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[DictKey, Any], ...], Any]:
        """For JAX."""
        names = tuple(self.arrays)
        return tuple((DictKey(name), self.arrays[name]) for name in names), (names, self.slots, self.structure)

    @classmethod
    def tree_unflatten(cls, kept: Any, arrays: Iterable[Any]) -> Stacks:
        """For JAX."""
        names, slots, structure = kept
        return cls(dict(zip(names, arrays, strict=True)), slots, structure)
