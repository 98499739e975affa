"""Kinds of values that several sections have."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

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


def _at_most(most: int) -> AfterValidator:
    """Refuses what would end in an overflow of some library; no key is documented by a limit that nobody meets."""

    def check(given: float) -> float:
        if given > most:
            raise ValueError(f"{given} is too many, {most} are the most")
        return given

    return AfterValidator(check)


# XLA counts what is in a kernel of products of channels, in 64 bits.
_COUNTABLE, _CHANNELS, _TIMES_CHANNELS = _at_most(2**31 - 1), _at_most(2**17), _at_most(2**10)

Positive = Annotated[int, Field(gt=0), _COUNTABLE]
NonNegative = Annotated[int, Field(ge=0), _COUNTABLE]
PositiveFloat = Annotated[float, Field(gt=0)]
Channels = Annotated[int, Field(gt=0), _CHANNELS]
ChannelsOrNone = Annotated[int, Field(ge=0), _CHANNELS]
TimesChannels = Annotated[int, Field(gt=0), _TIMES_CHANNELS]
RatioOfChannels = Annotated[float, Field(gt=0), _TIMES_CHANNELS]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of larger ones JAX takes no notice beyond 32 bits
RegionName = Annotated[str, BeforeValidator(_region_name)]
ForecasterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Files = Annotated[Place | Annotated[list[Place], Field(min_length=1)], WrapValidator(_files_or_none)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "bfloat16_products"]
LevelWeighting = Literal["equal", "sqrt_pressure", "pressure"]
