"""Kinds of values that several sections have."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from data_prep.config import Place


def _files_or_none(given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """One mistake of what is neither text nor a list of texts, where a union would count one for each."""
    try:
        return handler(given)
    except ValidationError:
        raise ValueError(f"expected a file, a folder, a pattern or a list of these, got {given!r:.80}") from None


def _region_name(given: Any) -> Any:
    if isinstance(given, str) and not re.fullmatch(r"[a-z][a-z0-9_]*", given):
        raise ValueError(f"a region is named in lower-case letters, digits and _, such as great_plains, not {given!r}")
    return given


Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of larger ones JAX takes no notice beyond 32 bits
RegionName = Annotated[str, BeforeValidator(_region_name)]
ForecasterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Files = Annotated[Place | Annotated[list[Place], Field(min_length=1)], WrapValidator(_files_or_none)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "bfloat16_products"]
LevelWeighting = Literal["equal", "sqrt_pressure", "pressure"]
