"""The ``data`` section of a config: which files, which variables, how they are split."""

from __future__ import annotations

import os.path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from data_prep.grid_names import GRID_SYNTAX, parse_grid_name
from data_prep.iso_time import is_span

Computed = Literal[
    "toa_incident_solar_radiation",
    "daily_mean_toa_incident_solar_radiation",
    "day_progress",
    "year_progress",
    "coordinates",
]

Repair = Literal["duplicates", "flipped_latitudes", "unit_slips"]

RegridMethod = Literal["conservative", "bilinear"]
RegridNan = Literal["propagate", "ignore"]
RegridOutside = Literal["refuse", "nan"]
Place = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, a pattern or a URL; ``~`` is the home folder, as in a shell."""


class Section(BaseModel):
    """A part of the config: strict about keys and types, frozen; numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VariableConfig(Section):
    """How one canonical variable is read."""

    source: str | None = Field(None, description="Its name in the files; by default the canonical name")
    levels: list[float] | None = Field(
        None, description="Levels (hPa or sigma), top first; all that the files hold when left out"
    )
    minimum: float | None = Field(
        None, description="Physical lower bound, applied to truth, inputs and forecasts alike"
    )


class ForcingConfig(VariableConfig):
    """A forcing read from files."""

    known: Literal["climatological", "persisted"] = Field(
        "persisted",
        description="Its value at valid time: from a table by dayofyear in the files, or kept from initial time",
    )


class SplitConfig(Section):
    """Training, validation and test data: whole segments, or stretches of time."""

    segments: dict[Literal["train", "validation", "test"], list[int]] | None = Field(
        None,
        description="Whole segments (members) by number, from 0 in the order of time, whatever `exclude` leaves out of "
        "them; what is not named is training data",
    )
    train: list[str] | None = Field(None, description="First and last day, inclusive, ISO 8601")
    validation: list[str] | None = Field(None, description="Likewise; steers training")
    test: list[str] | None = Field(None, description="Likewise; seen by nothing but the final scores")
    gap_days: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Least distance in days between stretches of different splits"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        times = {"train": self.train, "validation": self.validation, "test": self.test}
        given = [name for name, value in times.items() if value is not None]
        if self.segments is not None and given:
            raise ValueError("give either segments or times, not both")
        if self.segments is None:
            if len(given) < 3:
                missing = ", ".join(sorted(set(times) - set(given)))
                raise ValueError(f"give segments, or all of train, validation and test; missing {missing}")
            for name, value in times.items():
                if value is None or len(value) != 2:
                    raise ValueError(f"{name} needs a first and a last day")
                _refuse_backwards(name, *value)
        return self


class RegridConfig(Section):
    """From the grids of the files to one grid; each file from its own."""

    grid: str | float | None = Field(None, description=f"The target by name: {GRID_SYNTAX}")
    like: Place | None = Field(None, description="The target as the grid of this file, which may be regional")
    method: RegridMethod = Field(
        "conservative",
        description="`conservative` keeps area means, for coarser targets and for rain; `bilinear` is for finer ones",
    )
    nan: RegridNan = Field(
        "propagate", description="NaN makes NaN of all that depends on it, or is ignored where enough is valid"
    )
    minimum_valid: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Share of a target cell that must be valid for nan: ignore"
    )
    outside: RegridOutside = Field(
        "refuse", description="A target that reaches beyond a file's grid is refused, or NaN there"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.grid is None) == (self.like is None):
            raise ValueError("give either grid or like: the target by name, or a file that is on it")
        if self.grid is not None:
            parse_grid_name(self.grid)
        if self.nan != "ignore" and self.minimum_valid != type(self).model_fields["minimum_valid"].default:
            raise ValueError("minimum_valid is for nan: ignore, and says nothing without")
        return self


class LateralConfig(Section):
    """Boundary values of a regional grid, from a driving data set that covers it."""

    inputs: list[Place] = Field(
        min_length=1, description="Files or globs as in data.inputs, on any grid that covers ours"
    )
    rim: Annotated[int, Field(gt=0)] = Field(2, description="Outer rows and columns in which its values are given")


def _two_dates(value: Any) -> Any:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"expected [from, to], such as [2001-01-03, 2001-01-05T06], got {value!r:.80}")
    return value


class DataConfig(Section):
    """From files to a prepared store."""

    inputs: list[Place] = Field(
        min_length=1,
        description="Files, folders of files or globs, NetCDF, GRIB or Zarr, or URLs of Zarr (gs://, s3://: extra "
        "cloud); {workdir} stands for the experiment's folder. Each file with a time axis that does not continue "
        "another one's is a segment of its own",
    )
    vertical: Literal["pressure", "sigma"] | None = Field(
        None, description="Vertical coordinate of variables with levels"
    )
    lateral: LateralConfig | None = Field(
        None, description="A driving data set whose values at valid time are forcings in the rim of a regional grid"
    )
    regrid: RegridConfig | None = Field(None, description="The grid to bring the files to; their own when left out")
    timestep_hours: Annotated[float, Field(gt=0, le=8784)] = Field(
        6.0, description="Model time step; a multiple of the files' interval"
    )
    prognostic: dict[str, VariableConfig] = Field(min_length=1, description="In and out of the network")
    diagnostic: dict[str, VariableConfig] = Field({}, description="Out only: rain, near-surface temperature")
    forcing: dict[str, ForcingConfig] = Field({}, description="In only, at valid time")
    static: dict[str, VariableConfig] = Field({}, description="In only, constant: orography, land-sea mask")
    computed: list[Computed] = Field(
        ["toa_incident_solar_radiation", "day_progress", "year_progress", "coordinates"],
        description="Forcings and static fields computed from time and place",
    )
    nan: Literal["refuse", "fill_mean"] = Field(
        "refuse", description="NaN in static and forcing fields; in the state it is always refused"
    )
    repair: list[Repair] = Field(
        [], description="Defects to mend instead of refusing them; `emulator inspect` finds and names them"
    )
    exclude: list[Annotated[list[str], Field(min_length=2, max_length=2), BeforeValidator(_two_dates)]] = Field(
        [], description="Stretches of time to leave out: first and last, inclusive, ISO 8601"
    )
    split: SplitConfig = Field(description="What is for training, what steers it, what tests it")

    @model_validator(mode="after")
    def _stretches(self) -> Self:
        for first, last in self.exclude:
            _refuse_backwards("exclude", first, last)
        return self


def _refuse_backwards(key: str, first: str, last: str) -> None:
    try:
        forwards = is_span(first, last)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if not forwards:
        raise ValueError(f"{key}: {first} is after {last}")
