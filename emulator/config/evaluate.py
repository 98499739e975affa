"""The ``evaluate`` section: who forecasts from when, and what is scored."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_prep.config import Place, Section
from emulator.config.kinds import (
    Files,
    ForecasterName,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    RegionName,
)


class EnsembleOptions(Section):
    """An ensemble from perturbed initial fields, beside the single forecast from the fields as they are."""

    members: Positive = Field(1, description="Members of the ensemble; 1 is the single forecast alone")
    perturbation: PositiveFloat = Field(
        0.12, description="Size of the initial perturbations over the climatological standard deviation"
    )


class PhysicsBaseline(EnsembleOptions):
    """A SPEEDY forecast at one truncation, from the same initial fields as the network."""

    truncation: Literal[21, 31, 42, 63] = Field(21, description="Spectral truncation of the model")
    time_step_minutes: Positive | None = Field(
        None,
        description="Model time step, which divides that of the data; by default 30 to T31, 20 at T42, 15 above",
    )
    digital_filter_hours: NonNegativeFloat = Field(0.0, description="Digital-filter initialisation span; 0 is off")


class TwinConfig(EnsembleOptions):
    """The predictability limit of a nature run: the truth's own model from the fields that everybody gets."""

    members: Positive = Field(8, description="Members of the ensemble; 1 is the single forecast alone")
    restart_hours: list[Positive] = Field(
        [],
        description="Also as a forecaster that is started again from its own forecast on the data's grid every so many "
        "hours, as a network is at every step: what perfect equations reach in such steps",
    )


class Box(Section):
    """A box of latitudes and longitudes."""

    latitude: tuple[float, float] = Field((-90.0, 90.0), strict=False, description="South and north end, degrees")
    longitude: tuple[float, float] = Field(
        (0.0, 360.0), strict=False, description="West and east end, degrees east; west may exceed east"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not -90 <= self.latitude[0] < self.latitude[1] <= 90:
            raise ValueError(f"latitude: expected south and north end within [-90, 90], got {list(self.latitude)}")
        if not all(-180 <= x <= 360 for x in self.longitude):
            raise ValueError(f"longitude: expected west and east end within [-180, 360], got {list(self.longitude)}")
        return self


class SpongeConfig(Section):
    """What departs from the training climatology in the topmost levels decays."""

    levels: Positive = Field(description="How many levels, from the top")
    days: PositiveFloat = Field(description="Time in which a departure falls to 1/e, on top of what the network does")


class LongRunConfig(Section):
    """The network left to itself for months: its drift, its climate, its small scales."""

    days: Positive = Field(360, description="Length of the run; it may go on beyond the end of the data")
    every_hours: Positive = Field(24, description="Interval between the states that are looked at")
    initial_times: Positive = Field(2, description="Runs, from times spread over the split")
    sponge: SpongeConfig | None = Field(None, description="Damp the topmost levels; none when left out")

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if 24 * self.days < self.every_hours:
            raise ValueError(f"days {self.days} are less than one interval of every_hours {self.every_hours}")
        return self


class EvaluateConfig(Section):
    """Which initial times, leads and forecasters are compared."""

    HOW: ClassVar[frozenset[str]] = frozenset({"batch"})
    """Keys of how the work is done: no score depends on them."""

    split: Literal["validation", "test"] = Field("test", description="Which part of the data forecasts are verified on")
    lead_hours: Positive = Field(240, description="Longest lead time")
    lead_step_hours: Positive = Field(6, description="Interval between verified leads")
    init_every_hours: Positive = Field(24, description="Interval between initial times")
    max_inits: Positive | None = Field(None, description="At most so many initial times, spread evenly")
    references: list[
        Literal["persistence", "anomaly_persistence", "damped_anomaly_persistence", "linear_pcs", "climatology"]
    ] = Field(
        ["persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology"],
        description="Statistical references; linear_pcs, a regression on principal components, is for small grids",
    )
    network: EnsembleOptions = Field(
        default_factory=EnsembleOptions, description="An ensemble of the network, beside its single forecast"
    )
    networks: dict[ForecasterName, Place] = Field(
        {},
        description="Run folders of other networks for the same variables and grid, by the name they get: they "
        "forecast beside the experiment's own",
    )
    physics: list[PhysicsBaseline] = Field(
        [], description="SPEEDY from the same fields; these must be on one of its Gaussian grids"
    )
    correction_inits: NonNegative = Field(
        32,
        description="Training forecasts of each physics baseline, and then of the network as well, by which they are "
        "also debiased and damped; 0 leaves the corrected ones out",
    )
    corrected: list[str] = Field(
        [],
        description="Who is debiased and damped besides: those of `networks` and `supermodels`, by name; and network, "
        "which is wherever physics is",
    )
    twin: TwinConfig | None = Field(
        None, description="The truth's own model as a forecaster; needs a `simulate` section"
    )
    supermodels: dict[ForecasterName, Annotated[list[str], Field(min_length=2)]] = Field(
        {},
        description="Networks that take every step together, by the name they get, such as {pair: [network, second]}; "
        "they must have learned from the same data",
    )
    perturbed: dict[ForecasterName, EnsembleOptions] = Field(
        {},
        description="Ensembles of those of `networks` and `supermodels`, beside their single forecasts, by whose they "
        "are, such as {pair: {members: 8}}; `network` has that of the experiment's own",
    )
    means: dict[ForecasterName, Annotated[list[str], Field(min_length=2)]] = Field(
        {},
        description="Means of single forecasts that the experiment makes, by the name they get, such as "
        "{network_and_regression: [network, linear_pcs]}",
    )
    ensembles: dict[ForecasterName, Annotated[list[str], Field(min_length=2)]] = Field(
        {},
        description="Ensembles likewise, each of the single forecasts a member, such as {networks: [network, second]}; "
        "their spread is scored besides",
    )
    forecasts: dict[ForecasterName, Files] = Field(
        {},
        description="Forecast files of other models (NetCDF, GRIB or Zarr), by the name they get; a folder, a pattern "
        "or a list of files are joined along their initial times; a name that begins `physics_` is a physics baseline, "
        "which claims are made against",
    )
    missing_inits: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description="What becomes of initial times that a file of `forecasts` lacks: it is refused, or they are left "
        "out of the comparison, for everybody",
    )
    headline: list[str] = Field(
        [],
        description="Variables of the table and the plots, e.g. geopotential@500, of which the first is that of the "
        "report's first sentence; all when empty",
    )
    pressure_levels: list[PositiveFloat] = Field(
        [500.0, 700.0, 850.0], description="hPa, verified where the state is on sigma"
    )
    derived: list[Literal["wind_speed", "vorticity"]] = Field(
        [], description="Computed from the winds and verified too"
    )
    regions: dict[RegionName, Box] = Field(
        {}, description="More regions beside the belts, continents, land and sea, by the name they get"
    )
    mask: Place | None = Field(
        None, description="NetCDF file with mask(latitude, longitude), 1 where forecasts are verified"
    )
    batch: Positive = Field(8, description="Forecasts run at once: initial times, or members of ensembles")
    bootstrap: Annotated[int, Field(ge=20)] = Field(
        1000, description="Bootstrap resamples; with fewer than 20 equals are called different too often"
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="Coverage that intervals aim at")
    long_run: LongRunConfig | None = Field(
        None, description="The network left to itself for months; none when left out"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        truncations = [baseline.truncation for baseline in self.physics]
        twice = sorted({t for t in truncations if truncations.count(t) > 1})
        if twice:
            raise ValueError(f"physics: truncation {twice[0]} is there twice")
        return self

    @model_validator(mode="after")
    def _leads_end_where_they_should(self) -> Self:
        if self.lead_hours % self.lead_step_hours:
            raise ValueError(f"lead_hours {self.lead_hours} is no multiple of lead_step_hours {self.lead_step_hours}")
        return self
