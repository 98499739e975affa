"""The ``simulate`` section: a nature run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_prep.config import Section
from data_prep.iso_time import parse_iso
from emulator.config.kinds import Positive, PositiveFloat


class SimulateConfig(Section):
    """The nature run: SPEEDY through jcm (extra ``physics``), written as CF NetCDF."""

    truncation: Literal[21, 31, 42, 63, 85] = Field(31, description="Spectral truncation of the truth")
    layers: Annotated[int, Field(ge=5, le=8)] = Field(8, description="Sigma layers")
    time_step_minutes: Positive | None = Field(
        None, description="Model time step, which divides `output_hours`; by default 30 to T31, 20 at T42, 15 above"
    )
    members: Positive = Field(4, description="Ensemble members, run in one vmap")
    start: str = Field("1901-01-01", description="Date of the start from rest, ISO 8601")
    develop_days: Positive = Field(
        240,
        description="Days from rest before the members are perturbed; with `spinup_days` 100 or more let winds settle, "
        "300 the stratosphere",
    )
    perturbation: PositiveFloat = Field(0.1, description="Relative noise on the vorticity of the developed state")
    spinup_days: Positive = Field(60, description="Days after the perturbation that are discarded; members part in 30")
    days: Positive = Field(90, description="Days kept, of every member")
    output_hours: Literal[1, 3, 6, 12, 24] = Field(6, description="Output interval")
    output_truncation: Literal[21, 31, 42, 63, 85] = Field(
        21, description="Gaussian grid and spectral truncation of the output"
    )
    chunk_days: Positive = Field(
        5,
        description="Days simulated and written at a time, of which `develop_days`, `spinup_days` and `days` are "
        "multiples; a killed run loses at most these",
    )

    @field_validator("start")
    @classmethod
    def _is_time(cls, start: str) -> str:
        parse_iso(start)
        return start

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.output_truncation > self.truncation:
            raise ValueError(f"output_truncation {self.output_truncation} exceeds truncation {self.truncation}")
        if self.time_step_minutes is not None and 60 * self.output_hours % self.time_step_minutes:
            raise ValueError(
                f"time_step_minutes {self.time_step_minutes} does not divide the {60 * self.output_hours} minutes of "
                f"output_hours {self.output_hours}"
            )
        for name in ("develop_days", "spinup_days", "days"):
            if getattr(self, name) % self.chunk_days:
                raise ValueError(f"{name} {getattr(self, name)} must be a multiple of chunk_days {self.chunk_days}")
        return self
