"""The whole config, and what its sections have to agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from data_prep.config import DataConfig, Place, Section
from data_prep.variables import WINDS
from emulator.config.evaluate import EvaluateConfig
from emulator.config.kinds import Seed
from emulator.config.model import ModelConfig, UNetConfig
from emulator.config.simulate import SimulateConfig
from emulator.config.train import TrainConfig


class ExperimentConfig(Section):
    """One experiment, one file, one folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")] = Field(
        description="Names the experiment in every output"
    )
    workdir: Place = Field("", description="Folder of all results; runs/NAME when empty")
    reuse: Place | None = Field(
        None,
        description="Folder of another experiment. Its nature run, store and forecasts of all but the network are "
        "taken, by hard links, where this config would make the same from the same files",
    )
    seed: Seed = Field(0, description="Random seed of truth, weights, batches and perturbations")
    simulate: SimulateConfig | None = Field(
        None, description="Makes the truth; leave out where `data.inputs` are your files"
    )
    data: DataConfig = Field(description="Which files and variables, and how they are split")
    model: ModelConfig = Field(default_factory=UNetConfig, description="Which network; a section of one `kind`")
    train: TrainConfig = Field(description="How the network learns")
    evaluate: EvaluateConfig = Field(
        default_factory=EvaluateConfig, description="Who forecasts from when, and what is scored"
    )

    @model_validator(mode="after")
    def _twin_of_a_nature_run(self) -> Self:
        if self.evaluate.twin is not None and self.simulate is None:
            raise ValueError("evaluate.twin: the truth is no nature run of this experiment (no simulate section)")
        return self

    @model_validator(mode="after")
    def _learns_steps_that_the_network_takes(self) -> Self:
        for i, stage in enumerate(self.train.stages):
            unknown = sorted(set(stage.time_steps or ()) - set(self.model.time_steps))
            if unknown:
                raise ValueError(
                    f"train.stages.{i}.time_steps: {unknown[0]} is none of model.time_steps {self.model.time_steps}"
                )
        return self

    @model_validator(mode="after")
    def _multiplies_what_the_network_can(self) -> Self:
        if self.train.precision == "bfloat16_products" and self.model.kind != "unet":
            raise ValueError(
                f"train.precision: bfloat16_products is of a U-Net's convolutions, not of {self.model.kind}; choose "
                "float32 or bfloat16"
            )
        return self

    @model_validator(mode="after")
    def _has_winds_that_carry(self) -> Self:
        if not self.model.advection:
            return self
        if lacking := [name for name in WINDS if name not in self.data.prognostic]:
            raise ValueError(f"model.advection: needs {' and '.join(lacking)} in data.prognostic")
        if self.model.vertical_motion and "surface_pressure" not in self.data.prognostic:
            raise ValueError("model.vertical_motion: needs surface_pressure in data.prognostic")
        if self.model.vertical_motion and self.data.vertical == "pressure":
            raise ValueError("model.vertical_motion: needs data on sigma levels, these are on levels of pressure")
        if self.train.anomalies:
            raise ValueError(
                "model.advection: nothing is carried by the winds' departures from climatology, which train.anomalies "
                "learns; leave one of the two out"
            )
        return self

    @property
    def training_seed(self) -> int:
        """Of weights and batches."""
        return self.seed if self.train.seed is None else self.train.seed

    @property
    def path(self) -> Path:
        """The experiment's folder."""
        return Path(self.workdir or f"runs/{self.name}")
