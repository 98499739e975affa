"""The ``model`` section: one class for each network."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from data_prep.config import Section
from emulator.config.kinds import Channels, ChannelsOrNone, NonNegative, Positive, RatioOfChannels, TimesChannels


class NetworkConfig(Section):
    """What every network can have."""

    output_truncation: dict[str, Positive] = Field(
        {},
        description="Triangular truncation of the network's output, by variable, where the data have no finer scales, "
        "so that none can grow; global grids only (a spectral model's winds reach one degree or two beyond its "
        "truncation)",
    )
    conserve: list[str] = Field(
        [],
        description="Variables whose global mean no step changes (but where their `minimum` holds them up), such as "
        "surface_pressure; global grids only. With `train.anomalies` it is the mean departure from climatology that "
        "stays; climatology's own mean has a course of the year",
    )
    time_steps: list[Positive] = Field(
        [1],
        description="Steps that the network can take, in time steps of the data, e.g. [1, 4]: 1, then multiples of "
        "the one before. Forecasts take the longest that fits a lead, so errors add up less often",
    )
    advection: bool = Field(
        False,
        description="Show the network also what the wind would bring in a step: each prognostic field where its air "
        "comes from, less the field here. Needs both components of the wind at every level",
    )
    interpolation: Literal["linear", "cubic"] = Field(
        "linear",
        description="How `advection` finds fields between points: cubic errs less, and takes a fifth longer (on a CPU)",
    )
    vertical_motion: bool = Field(
        False,
        description="With `advection`, on sigma levels with surface_pressure: show it what rising and sinking would "
        "change besides, by vertical advection and the heat of compression",
    )

    @field_validator("time_steps")
    @classmethod
    def _each_divides_the_next(cls, steps: list[int]) -> list[int]:
        if steps[:1] != [1] or any(long <= short or long % short for short, long in pairwise(steps)):
            raise ValueError(f"{steps} must begin with 1 and be ascending multiples, each of the one before")
        return steps

    @field_validator("interpolation", "vertical_motion")
    @classmethod
    def _is_of_advection(cls, asked: str | bool, given: ValidationInfo) -> str | bool:
        if asked in ("cubic", True) and given.data.get("advection") is False:
            raise ValueError("needs model.advection")
        return asked


class UNetConfig(NetworkConfig):
    """A U-Net that knows the sphere."""

    kind: Literal["unet"] = Field("unet", description="Which network; a U-Net where it is left out")
    patch: Positive = Field(2, description="Grid cells per side of a latent cell at the finest level")
    width: Channels = Field(96, description="Channels at the finest level")
    multipliers: Annotated[list[TimesChannels], Field(min_length=1)] = Field(
        [1, 2], description="Width of each level over `width`; each level halves the grid"
    )
    blocks: Positive = Field(2, description="Residual blocks per level and direction")
    global_truncation: NonNegative = Field(
        0,
        description="Global grids only: each block of the coarsest level follows a filter of spherical harmonics up to "
        "this degree, which sees the whole globe; 0: none",
    )
    column_width: ChannelsOrNone = Field(
        0,
        description="Channels of a network that every column of the grid has by itself, behind the latent cells, which "
        "are patches of several columns; 0: none",
    )

    @property
    def coarsest_side(self) -> int:
        """Grid cells per side of a cell of the coarsest level."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class TransformerConfig(NetworkConfig):
    """A plain transformer on patches."""

    kind: Literal["transformer"] = Field(description="Which network")
    patch: Positive = Field(2, description="Grid cells per side of a patch")
    width: Channels = Field(512, description="Channels of a token; multiples of 128 suit matrix units")
    depth: Positive = Field(8, description="Blocks of attention and MLP")
    heads: Positive = Field(8, description="Attention heads; width / heads should be 64 or 128")
    mlp_ratio: RatioOfChannels = Field(
        3.0, description="Hidden channels of the gated MLP over width, rounded up to a multiple of 64"
    )
    attention: Literal["global", "windowed"] = Field(
        "global", description="Every patch sees every other, or those of its window (for larger grids)"
    )
    window: Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        [8, 16], description="Rows and columns of patches in a window, both even"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 * heads ({4 * self.heads})")
        if any(side % 2 for side in self.window):
            raise ValueError(f"window {self.window} must have even sides: every other block shifts it by half")
        return self


class SpectralConfig(NetworkConfig):
    """A neural operator in spherical harmonics; global grids only."""

    kind: Literal["spectral"] = Field(description="Which network")
    width: Channels = Field(256, description="Channels of a grid cell")
    depth: Positive = Field(6, description="Blocks of spectral filter and MLP")
    mlp_ratio: RatioOfChannels = Field(
        2.0, description="Hidden channels of the gated MLP over width, rounded up to a multiple of 64"
    )
    truncation: Positive | None = Field(
        None, description="Triangular truncation of the filters; by default two thirds of the rows (T21 on 32)"
    )


class GraphConfig(NetworkConfig):
    """A message-passing network on an icosahedral mesh; global grids only."""

    kind: Literal["graph"] = Field(description="Which network")
    refinement: Annotated[int, Field(ge=0, le=7)] = Field(
        3, description="Times the icosahedron is refined: 10 * 4^r + 2 nodes, spaced 63 / 2^r degrees"
    )
    width: Channels = Field(256, description="Channels of a node")
    depth: Positive = Field(8, description="Rounds of messages on the mesh")


def _kind(section: Any) -> Any:
    """Which model a section describes; a U-Net where it does not say."""
    return section.get("kind", "unet") if isinstance(section, dict) else getattr(section, "kind", None)


ModelConfig: TypeAlias = Annotated[
    Annotated[UNetConfig, Tag("unet")]
    | Annotated[TransformerConfig, Tag("transformer")]
    | Annotated[SpectralConfig, Tag("spectral")]
    | Annotated[GraphConfig, Tag("graph")],
    Discriminator(
        _kind,
        custom_error_type="model_kind",
        custom_error_message="kind should be unet, transformer, spectral or graph",
    ),
]
