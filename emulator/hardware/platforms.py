"""Arithmetic that is put in other words for a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import jax
from jaxtyping import Array

Result = TypeVar("Result")

_IS_FOR_OTHERS: ContextVar[bool] = ContextVar("is_for_others", default=False)


@contextmanager
def compiled_for_others() -> Iterator[None]:
    """What is traced meanwhile may be compiled for devices that JAX does not find here."""
    before = _IS_FOR_OTHERS.set(True)
    try:
        yield
    finally:
        _IS_FOR_OTHERS.reset(before)


def by_platform(*arrays: Array, cpu: Callable[..., Result], default: Callable[..., Result]) -> Result:
    """What ``cpu`` makes of the arrays on a CPU, and ``default`` on an accelerator: the same but for rounding.

    Where JAX finds no accelerator there is nothing to choose, and one way alone is traced: of both, and of their
    gradients, a network whose air is carried along took twice as long. See ``compiled_for_others``.
    """
    if jax.default_backend() == "cpu" and not _IS_FOR_OTHERS.get():
        return cpu(*arrays)
    chosen: Result = jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)
    return chosen
