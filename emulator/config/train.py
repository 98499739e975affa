"""The ``train`` section: how the network learns."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_prep.config import Place, Section
from emulator.config.kinds import (
    Fraction,
    LevelWeighting,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Precision,
    Seed,
)


class RolloutStage(Section):
    """One stage of training: so many steps over rollouts of so many model steps."""

    steps: Positive = Field(description="Optimiser steps")
    rollout: Positive = Field(1, description="Model steps unrolled in the loss")
    free_steps: NonNegative = Field(
        0,
        description="Model steps before those, which the network takes by itself and without a gradient, at a third of "
        "the cost: it learns to go on from its own forecasts (pushforward, Brandstetter et al. 2022)",
    )
    learning_rate: PositiveFloat = Field(1e-3, description="Peak learning rate")
    warmup: NonNegative = Field(
        50, description="Linear warm-up steps, half of the stage at most, then a cosine to `final_fraction`"
    )
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(0.02, description="Last learning rate over the peak")
    batch_size: Positive | None = Field(None, description="Overrides train.batch_size")
    variable_weights: dict[str, PositiveFloat] | None = Field(None, description="Overrides train.variable_weights")
    random_length: bool = Field(
        False, description="Draw for every batch how many steps: from 1 to `rollout`, and from 0 to `free_steps`"
    )
    time_steps: Annotated[list[Positive], Field(min_length=1)] | None = Field(
        None,
        description="Which of `model.time_steps` to learn; every window draws one of them (one named twice comes twice "
        "as often). All of them where left out",
    )


class MeshConfig(Section):
    """How devices share the work. One device is a mesh of 1 x 1."""

    data: Annotated[int, Field(ge=-1)] = Field(-1, description="Devices that share a batch; -1 takes all there are")
    space: Positive = Field(1, description="Devices that share the latitudes of every field")

    @model_validator(mode="after")
    def _some_devices(self) -> Self:
        if self.data == 0:
            raise ValueError("data must be -1 or positive")
        return self


class TrainConfig(Section):
    """Training: next-step prediction, then rollouts."""

    HOW: ClassVar[frozenset[str]] = frozenset(
        {
            *("mesh", "rematerialise", "accumulate", "checkpoint_every", "max_skipped"),
            *("validate_every", "validation_windows", "validation_steps", "log_every"),
        }
    )
    """Keys of how the work is done, not of what is learned: a training may go on with others."""

    start_from: Place | None = Field(
        None,
        description="Folder of a run or experiment, or name of a network that ships, whose weights training begins "
        "with: fine-tuning, or pretraining on other data. Network and number of channels must be the same; channels go "
        "by their order",
    )
    seed: Seed | None = Field(
        None,
        description="Random seed of weights and batches; the experiment's when left out. "
        "Another seed makes another network for the same truth",
    )
    batch_size: Positive = Field(16, description="Windows per optimiser step")
    accumulate: Positive = Field(
        1, description="Parts that a batch is computed in: memory of one part, the same gradient"
    )
    stages: list[RolloutStage] = Field(min_length=1, description="In order")
    optimiser: Literal["adamw", "muon"] = Field(
        "adamw", description="muon learns in fewer steps (learning rates of 5e-3 to 1e-2), adamw costs less a step"
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="Decoupled decay of kernels")
    clip_norm: PositiveFloat = Field(1.0, description="Gradient clipping by global norm")
    ema_decay: Fraction = Field(
        0.999, description="Decay of the averaged weights that forecasts use; warmed up from zero in every stage"
    )
    precision: Precision = Field(
        "float32",
        description="Compute precision; parameters stay float32. bfloat16 is for accelerators and slower on a CPU; "
        "bfloat16_products, of a U-Net, is for CPUs: convolutions multiply bfloat16 and sum in float32, all else is "
        "float32",
    )
    rematerialise: bool = Field(
        False, description="Recompute each model step in the backward pass: less memory, up to a third more arithmetic"
    )
    variable_weights: dict[str, PositiveFloat] = Field(
        {},
        description="Loss weight by variable; 1 where not named. On sigma levels `geopotential` may be named too: its "
        "error, which follows from those of temperature, humidity and surface pressure, then counts beside them",
    )
    level_weighting: LevelWeighting = Field(
        "equal",
        description="Loss weight of the levels of a variable: equal, or as pressure (or sigma) or as its root",
    )
    anomalies: bool = Field(
        False,
        description="Learn departures from the training climatology, which forecasts add again; helps with little data",
    )
    input_noise: NonNegativeFloat = Field(
        0.0, description="Noise on the initial state, in standard deviations of the change over a step"
    )
    max_skipped: Positive = Field(
        5,
        description="So many steps in a row that are skipped, for a loss or gradient that is not finite, end training",
    )
    deterministic: bool = Field(
        False,
        description="The same bits on every run on an accelerator too, for slower reductions (with `model.advection` "
        "and rollouts of several steps also minutes of compilation); a CPU always gives them",
    )
    mesh: MeshConfig = Field(default_factory=MeshConfig, description="How devices share the work")
    checkpoint_every: Positive = Field(200, description="Steps between checkpoints")
    validate_every: Positive = Field(200, description="Steps between validations")
    validation_windows: Positive = Field(32, description="Initial times of a validation rollout")
    validation_steps: Positive = Field(12, description="Model steps of a validation rollout")
    log_every: Positive = Field(20, description="Steps between entries of `metrics.jsonl` and TensorBoard")

    @model_validator(mode="after")
    def _parts_divide_batches(self) -> Self:
        for size in self.batch_sizes:
            if size % self.accumulate:
                raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {size}")
        return self

    @property
    def batch_sizes(self) -> list[int]:
        """Windows per optimiser step, of each stage."""
        return [stage.batch_size or self.batch_size for stage in self.stages]
