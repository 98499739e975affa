"""Winds as vectors of three components, so that none changes its meaning from place to place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from jaxtyping import Array, Float

Fields: TypeAlias = Float[Array, "batch lat lon level"]
OnLevels: TypeAlias = Float[Array, "batch lat lon level channel"]
"""By level the three components of the wind, and what goes with it."""
Vectors: TypeAlias = Sequence[Fields]
"""Three components: along the axes that leave the globe at 0 E, at 90 E and at the north pole."""


def dot(a: Vectors, b: Vectors) -> Fields:
    """Scalar products."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def components(on_levels: OnLevels) -> list[Array]:
    """The three of the wind."""
    return [on_levels[..., i] for i in range(3)]
