"""Dataclasses of arrays that JAX takes as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(cls: type[T]) -> type[T]:
    """Registers a dataclass as a pytree that holds anything in place of arrays; fields marked ``static`` are structure.

    JAX rebuilds pytrees of shapes, shardings and marks of its own, which a constructor that checks types would refuse.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass, as the decorator below it says
    static = tuple(f.name for f in fields if f.metadata.get("static"))
    data = tuple(f.name for f in fields if f.name not in static)

    def flatten(tree: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(tree, name) for name in data), tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, structure = flatten(tree)
        return tuple(zip(map(jax.tree_util.GetAttrKey, data), children, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], children: Iterable[Any]) -> T:
        tree = object.__new__(cls)
        for name, value in zip((*static, *data), (*structure, *children), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
