"""Kinds of values that several sections have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of larger ones JAX takes no notice beyond 32 bits
RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ForecasterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "bfloat16_products"]
