"""The whole schema of an experiment: one YAML file, strict, shared by every stage.

An unknown key, a wrong type or an impossible value is a ``ConfigError`` of one line that gives the dotted path and, for
an unknown key, the nearest valid one. ``--set a.b=v`` goes through the same validator as the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, get_args

import yaml
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from data_prep.config import DataConfig, Section
from data_prep.errors import ConfigError, one_line
from data_prep.files.disk import write_text
from data_prep.iso_time import parse_iso

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # of larger ones JAX takes no notice beyond 32 bits
RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ForecasterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16", "bfloat16_products"]


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

    @field_validator("time_steps")
    @classmethod
    def _each_divides_the_next(cls, steps: list[int]) -> list[int]:
        if steps[:1] != [1] or any(long <= short or long % short for short, long in pairwise(steps)):
            raise ValueError(f"{steps} must begin with 1 and be ascending multiples, each of the one before")
        return steps


class UNetConfig(NetworkConfig):
    """A U-Net that knows the sphere."""

    kind: Literal["unet"] = Field("unet", description="Which network; a U-Net where it is left out")
    patch: Positive = Field(2, description="Grid cells per side of a latent cell at the finest level")
    width: Positive = Field(96, description="Channels at the finest level")
    multipliers: Annotated[list[Positive], Field(min_length=1)] = Field(
        [1, 2], description="Width of each level over `width`; each level halves the grid"
    )
    blocks: Positive = Field(2, description="Residual blocks per level and direction")
    global_truncation: int = Field(
        0,
        ge=0,
        description="Global grids only: each block of the coarsest level follows a filter of spherical harmonics up to "
        "this degree, which sees the whole globe; 0: none",
    )


class TransformerConfig(NetworkConfig):
    """A plain transformer on patches."""

    kind: Literal["transformer"] = Field(description="Which network")
    patch: Positive = Field(2, description="Grid cells per side of a patch")
    width: Positive = Field(512, description="Channels of a token; multiples of 128 suit matrix units")
    depth: Positive = Field(8, description="Blocks of attention and MLP")
    heads: Positive = Field(8, description="Attention heads; width / heads should be 64 or 128")
    mlp_ratio: PositiveFloat = Field(
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
    width: Positive = Field(256, description="Channels of a grid cell")
    depth: Positive = Field(6, description="Blocks of spectral filter and MLP")
    mlp_ratio: PositiveFloat = Field(
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
    width: Positive = Field(256, description="Channels of a node")
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


class RolloutStage(Section):
    """One stage of training: so many steps over rollouts of so many model steps."""

    steps: Positive = Field(description="Optimiser steps")
    rollout: Positive = Field(1, description="Model steps unrolled in the loss")
    learning_rate: PositiveFloat = Field(1e-3, description="Peak learning rate")
    warmup: Annotated[int, Field(ge=0)] = Field(
        50, description="Linear warm-up steps, half of the stage at most, then a cosine to `final_fraction`"
    )
    final_fraction: Annotated[float, Field(ge=0, le=1)] = Field(0.02, description="Last learning rate over the peak")
    batch_size: Positive | None = Field(None, description="Overrides train.batch_size")
    variable_weights: dict[str, PositiveFloat] | None = Field(None, description="Overrides train.variable_weights")
    random_length: bool = Field(False, description="Draw the length of every batch's rollout from 1 to `rollout`")
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

    start_from: str | None = Field(
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
    level_weighting: Literal["equal", "sqrt_pressure", "pressure"] = Field(
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
        False, description="The same bits on every run on an accelerator too, for slower reductions; a CPU always is"
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
    networks: dict[ForecasterName, str] = Field(
        {},
        description="Run folders of other networks for the same variables and grid, by the name they get: they "
        "forecast beside the experiment's own",
    )
    physics: list[PhysicsBaseline] = Field(
        [], description="SPEEDY from the same fields; these must be on one of its Gaussian grids"
    )
    correction_inits: Annotated[int, Field(ge=0)] = Field(
        32,
        description="Training forecasts of each physics baseline, and then of the network as well, by which they are "
        "also debiased and damped; 0 leaves the corrected ones out",
    )
    twin: TwinConfig | None = Field(
        None, description="The truth's own model as a forecaster; needs a `simulate` section"
    )
    supermodels: dict[ForecasterName, Annotated[list[str], Field(min_length=2)]] = Field(
        {},
        description="Networks that take every step together, by the name they get, such as {pair: [network, second]}; "
        "they must have learned from the same data",
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
    forecasts: dict[ForecasterName, str] = Field(
        {},
        description="Forecast files of other models (NetCDF, GRIB or Zarr), by the name they get; one that begins "
        "`physics_` is a physics baseline, which claims are made against",
    )
    headline: list[str] = Field(
        [], description="Variables of the table and the plots, e.g. geopotential@500; all when empty"
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
    mask: str | None = Field(
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


class ExperimentConfig(Section):
    """One experiment, one file, one folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")] = Field(
        description="Names the experiment in every output"
    )
    workdir: str = Field("", description="Folder of all results; runs/NAME when empty")
    reuse: str | None = Field(
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

    @property
    def training_seed(self) -> int:
        """Of weights and batches."""
        return self.seed if self.train.seed is None else self.train.seed

    @property
    def path(self) -> Path:
        """The experiment's folder."""
        return Path(self.workdir or f"runs/{self.name}")


_LARGEST_BYTES = 2**20
_MOST_NODES = 100_000  # what a file stands for when its aliases are written out


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as people write it: ``1e-3`` is a number, and a date stays the string that the schema asks for.

    Aliases may not stand for more than they are worth: a few lines of them can mean more values than memory holds. And
    no key may be there twice, which PyYAML takes for the second one alone: half of a config would be lost in silence.
    """

    def compose_document(self) -> yaml.Node | None:
        """The nodes of the file, once it is known how many they are, and that every key is there once."""
        node = super().compose_document()
        if node is not None:
            _count(node, {})
        return node


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """How many nodes one stands for; refuses keys that are there twice."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counted:
        if isinstance(node, yaml.MappingNode):
            _refuse_twice([key for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        counted[id(node)] = None
        children = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        counted[id(node)] = 1 + sum(_count(child, counted) for child in children)
    total = counted[id(node)]
    if total is None:
        raise yaml.YAMLError(f"an alias within what it stands for, {str(node.start_mark).strip()}")
    if total > _MOST_NODES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES} values, {str(node.start_mark).strip()}")
    return total


def _refuse_twice(keys: Sequence[yaml.ScalarNode]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if (key.tag, key.value) in seen:
            raise yaml.YAMLError(f"{key.value} is there twice, {str(key.start_mark).strip()}")
        seen.add((key.tag, key.value))


class _Dumper(yaml.SafeDumper):
    """Quotes a string that ``_Loader`` would take for a number, such as an experiment's name ``1e3``."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_POWER_OF_TEN = (
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(*_POWER_OF_TEN)
_Dumper.add_implicit_resolver(*_POWER_OF_TEN)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Reads and validates a config.

    Args:
      path: A YAML file, or the name of one that ships with the package (``configs/demo.yaml`` or ``demo``).
      overrides: ``a.b=value`` strings; the value is parsed as YAML.

    Raises:
      ConfigError: one line with the dotted path of what is wrong.
    """
    file = _find(Path(path))
    raw = read_yaml(file)
    for override in overrides:
        _apply_override(raw, override)
    return parse_config(raw, source=str(file))


def read_yaml(file: Path) -> dict[str, Any]:
    """Keys and values of a YAML file, as people write them.

    Raises:
      ConfigError: there is no such file, or it holds something else.
    """
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{file}: larger than {_LARGEST_BYTES} bytes, which no config is; is it the right file?")
        raw = _parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {one_line(error)}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(raw).__name__}")
    return raw


def _parse(text: str) -> Any:
    """What YAML stands for.

    Raises:
      yaml.YAMLError: it is not valid.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        # of PyYAML, for tags that do not fit their values (!!int x), for a nest too deep
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def parse_config(raw: dict[str, Any], source: str = "config") -> ExperimentConfig:
    """Validates a config given as nested dictionaries; see ``load_config``."""
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_error(error, ExperimentConfig)}") from None


def save_config(config: ExperimentConfig, path: Path) -> None:
    """Writes the resolved config, every default spelled out, beside a result."""
    write_text(path, yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False))


def shipped_configs() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(p.stem for p in _shipped_dir().glob("*.yaml"))


def _shipped_dir() -> Path:
    installed = Path(str(resources.files("emulator"))) / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = _shipped_dir() / f"{path.stem}.yaml"
    if path.parent in (Path(), Path("configs")) and shipped.is_file():
        return shipped
    found = "a folder, expected a YAML file" if path.is_dir() else "no such file"
    raise ConfigError(f"{path}: {found}; configs that come with the package: {', '.join(shipped_configs())}")


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, e.g. --set train.batch_size=8")
    try:
        value = _parse(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None
    parts = key.split(".")
    node: Any = raw
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise ConfigError(
                    f"--set {override}: {'.'.join(parts[:i])} is a list of {len(node)}; {part!r} is no index of it"
                )
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
            if not last and node.get(part) is None:
                node[part] = {}
        else:
            raise ConfigError(f"--set {override}: {'.'.join(parts[:i])} is a value, not a section")
        if last:
            node[index] = value
        else:
            node = node[index]


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """What to mend first: the dotted key, and what is wrong with it or which key was likely meant.

    Args:
      error: Of ``model``.
      model: Whose keys were given.
    """
    first = error.errors()[0]
    path = _without_kind(first["loc"])
    dotted = ".".join(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.0)
        hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
        return f"{dotted}: no such key{hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r:.80}"
    text = f"{message[0].lower()}{message[1:]}{shown}{more}"
    return f"{dotted}: {text}" if path else text  # what several sections together are wrong about names its own path


def _without_kind(loc: Sequence[str | int]) -> list[str]:
    """The path of an error as the file has it: pydantic puts the kind of a model between ``model`` and its keys."""
    path = [str(part) for part in loc]
    return ["model", *path[2:]] if path[:1] == ["model"] and len(path) > 1 else path


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Valid keys of the section at ``loc``, following lists, dictionaries, optionals and unions."""
    current: Any = model
    for part in loc:
        candidates = [m for m in _models_in(current) if isinstance(part, str) and part in m.model_fields]
        of_kind = [m for m in _models_in(current) if "kind" in m.model_fields and _is_kind(m, part)]
        if candidates:
            current = candidates[0].model_fields[str(part)].annotation
        elif of_kind:
            current = of_kind[0]
        # an index of a list, a key of a dictionary or a union tag: stay on the annotation, whose models are found below
    return [key for m in _models_in(current) for key in m.model_fields]


def _is_kind(model: type[BaseModel], kind: str | int) -> bool:
    return kind in get_args(model.model_fields["kind"].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
