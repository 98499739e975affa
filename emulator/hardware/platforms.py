"""Arithmetic that is put in other words for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from jaxtyping import Array

Result = TypeVar("Result")


def by_platform(*arrays: Array, cpu: Callable[..., Result], default: Callable[..., Result]) -> Result:
    """What ``cpu`` makes of the arrays on a CPU, and ``default`` on an accelerator: the same but for rounding.

    Where JAX finds no accelerator there is nothing to choose, and one way alone is traced: of both, and of their
    gradients, a network whose air is carried along took twice as long.
    """
    if jax.default_backend() == "cpu":
        return cpu(*arrays)
    chosen: Result = jax.lax.platform_dependent(*arrays, cpu=cpu, default=default)
    return chosen
