"""A network and a training that fit the machine, the data and some minutes: what ``emulator init`` proposes.

A width is chosen by arithmetic, the model's operations over a share of the measured rate of matrix products; then a few
steps of that network are timed on made-up fields, and the width is chosen again. A CPU that multiplies bfloat16 faster
is tried with such products as well. Memory is that of the tensors that a backward pass keeps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.config.kinds import Precision
from emulator.hardware.machine import describe, device_memory, matrix_rate
from emulator.models import build, forward_flops
from emulator.models.layers import count_parameters
from emulator.models.spherical_harmonics import highest_truncation
from emulator.planning.step_trial import measured_seconds
from emulator.stepping.advection import obstacle_to_advection
from emulator.stepping.rollout import recomputed
from emulator.stepping.stepper import network_channels

OPTIMISER: Literal["muon"] = "muon"
MOST_PASSES = 40  # through the training data

_WIDTHS = (384, 256, 192, 128, 96, 64, 48, 32, 24, 16)
_WIDER = (1024, 768, 512)  # for accelerators, and long trainings: nobody has tried them
_WINDOWS = {True: 8, False: 16}  # of a step on every device, on a CPU or not
_WIDEST_FOR_FEW = 32
_FEW_WINDOWS = 500
_LEAST_STEPS = 600  # that a network should get: fewer of a wider one learn less
_LEAST_STEPS_OF_WIDER = 20_000
_MOST_STEPS = 40_000
_TOO_FEW_STEPS = 100  # of a first stage, which learns nothing to speak of in them
_LEAST_OF_LATER = 20  # steps of a later stage, which is left out with fewer
_FREE_STEP = 1 / 3  # of the arithmetic of a step in the loss
_LONGEST_CARRIED = 12.0  # hours of a step over which advection is proposed; nobody has tried longer ones
_MEMORY_SHARE = 0.5
_BATCHES, _BATCHES_SHARE = 5, 0.25  # on a device: one in work, two read ahead, two just handed over; of its memory
_SHARE_OF_RATE = {True: (0.6, 64), False: (0.25, 128)}  # on a CPU or not: of wide networks, the width that gets half
_STEP_SECONDS = {True: 0.05, False: 0.005}  # that every step costs, however small
_BLOCKS = 4  # of a network of one level
_COLUMN_WIDTH = 128  # of a network of columns, where patches are of several; see docs/what_helped.md
_REACH = 15.0  # degrees each way that a network should see: farther than weather travels in a step
_TRUNCATION = 4  # of the filters that see the whole globe besides; see docs/models.md
_LONGEST_TRIAL = 30.0  # seconds by arithmetic of a step that is tried all the same
_WORTH_IT = 0.9  # of the time of a step in float32: products of bfloat16 are taken for less


@dataclass(frozen=True)
class Machine:
    """What training runs on.

    Attributes:
      description: In words.
      devices: How many share a batch.
      on_cpu: Whether there is no accelerator.
      rate: Operations a second of all devices in matrix products, in ``precision``.
      memory: Bytes free on a device.
      load: Processes that wanted a core over the last minute, for each core; 0 where nobody says.
      halves: Whether it multiplies bfloat16 faster than float32, a CPU with sums in float32. Nvidia's before Ampere do
        not, nor do most CPUs.
    """

    description: str
    devices: int
    on_cpu: bool
    rate: float
    memory: int
    load: float = 0.0
    halves: bool = True

    @property
    def precision(self) -> Precision:
        """What its networks compute in, unless steps that were timed are faster in another."""
        return "bfloat16" if self.halves and not self.on_cpu else "float32"


def this_machine() -> Machine:
    """Measures this machine, which takes a second or two."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0
    on_cpu = jax.default_backend() == "cpu"
    known = device_memory()
    singles, halves = matrix_rate("float32"), matrix_rate("bfloat16_products" if on_cpu else "bfloat16")
    return Machine(
        description=describe(),
        devices=jax.device_count(),
        on_cpu=on_cpu,
        rate=singles if on_cpu else max(singles, halves),
        memory=known[1] if known else 8 * 2**30,
        load=load,
        halves=halves > singles,
    )


@dataclass(frozen=True)
class Plan:
    """A network and its training.

    Attributes:
      model: The network.
      precision: What it computes in.
      parameters: How many it has.
      batch_size: Windows of a step.
      accumulate: Parts that a batch is worked off in.
      rematerialise: Whether model steps are computed again in the backward pass.
      stages: Of training.
      seconds: That all steps take.
      measured: Whether that follows from steps that were timed, or from arithmetic.
      few_data: Whether the first stage ends for its ``MOST_PASSES`` through the data, and not for the time.
      longest_course: Whether it ends because no longer one is proposed.
      enough: Seconds in which steps enough would fit, where these are too few to learn from.
    """

    model: UNetConfig
    precision: Precision
    parameters: int
    batch_size: int
    accumulate: int
    rematerialise: bool
    stages: tuple[RolloutStage, ...]
    seconds: float
    measured: bool = False
    few_data: bool = False
    longest_course: bool = False
    enough: float | None = None

    @property
    def warning(self) -> str:
        """What is wrong with it, if anything is."""
        if self.enough is None:
            return ""
        minutes = max(1, math.ceil(self.enough / 60))
        return (
            f"{self.stages[0].steps} single steps are too few to learn from: take about {minutes} "
            f"minute{'s' * (minutes > 1)} (init --minutes), or a coarser grid (data.regrid)"
        )

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)


def plan_by_trial(
    spec: StateSpec,
    grid: Grid,
    lengths: list[int],
    machine: Machine,
    minutes: float,
    hours: float = 6.0,
    longest: int | None = None,
) -> Plan:
    """As ``plan_training``, with steps that were timed on this very machine, which takes some seconds a width.

    Networks too large to be tried are planned by arithmetic.
    """

    def seconds(plan: Plan, precision: Precision) -> float:
        config = TrainConfig(
            batch_size=plan.batch_size,
            accumulate=plan.accumulate,
            rematerialise=plan.rematerialise,
            precision=precision,
            optimiser=OPTIMISER,
            stages=[RolloutStage(steps=1)],
        )
        return measured_seconds(plan.model, spec, grid, config)

    precision, products_untried = machine.precision, machine.halves and machine.on_cpu
    slowness: dict[int, float] = {}
    while True:
        plan = plan_training(spec, grid, lengths, machine, minutes, hours, longest, slowness)
        width = plan.model.width
        by_arithmetic = _seconds_a_step(plan.model, spec, grid, machine, plan.batch_size)
        if width not in slowness:
            if by_arithmetic > _LONGEST_TRIAL:
                return replace(plan, precision=precision)
            slowness[width] = seconds(plan, precision) / by_arithmetic
        elif products_untried:
            products_untried = False
            with_products = seconds(plan, "bfloat16_products") / by_arithmetic
            if with_products < _WORTH_IT * slowness[width]:
                precision, slowness = "bfloat16_products", {width: with_products}
        else:
            return replace(plan, precision=precision, measured=True)


def plan_training(
    spec: StateSpec,
    grid: Grid,
    lengths: list[int],
    machine: Machine,
    minutes: float,
    hours: float = 6.0,
    longest: int | None = None,
    slowness: Mapping[int, float] = {},
) -> Plan:
    """The widest U-Net that gets steps enough in the time, and those steps.

    Args:
      spec: The state.
      grid: Its grid.
      lengths: Times of each stretch of training data.
      machine: Where it is trained.
      minutes: That training may take, compilation not counted.
      hours: Of a model step.
      longest: Of little data, the model steps of the longest forecast: rollouts go as far, which such data repay.
      slowness: What a step of some widths takes over what it takes by arithmetic; the nearest width counts.

    Raises:
      DataError: no stretch of training data holds a step.
      ConfigError: no U-Net fits the grid.
    """

    def step_seconds(model: UNetConfig, rollout: int, batch: int) -> float:
        near = min(slowness, key=lambda width: abs(math.log(width / model.width)), default=None)
        by_arithmetic = rollout * _seconds_a_step(model, spec, grid, machine, batch)
        return by_arithmetic * (1.0 if near is None else slowness[near])

    windows = sum(max(0, n - 1) for n in lengths)
    if windows < machine.devices:
        raise DataError(f"{windows} pairs of consecutive training times are too few; add files")
    recipe = _shared_out(_recipe_in_memory(spec, grid, lengths, machine, hours, longest))
    batch = recipe[0].batch
    ample = longest is None  # with little data, whose recipe has long rollouts, nobody has tried what follows from it
    carried = ample and hours <= _LONGEST_CARRIED and obstacle_to_advection(spec, grid) is None
    seconds = 60.0 * minutes
    passed = max(1, MOST_PASSES * windows // batch)
    most = min(_MOST_STEPS, passed)
    least = min(_LEAST_STEPS if longest is None else _LEAST_STEPS // 3, most)
    for width in (*_WIDER * (not machine.on_cpu), *_WIDTHS):
        if windows < _FEW_WINDOWS and width > _WIDEST_FOR_FEW:
            continue
        model = _fitting(width, spec, grid, machine, ample, carried)
        first = min(most, int(recipe[0].share * seconds / step_seconds(model, 1, batch)))
        if first >= (_LEAST_STEPS_OF_WIDER if width in _WIDER else least):
            break
    enough = least * step_seconds(model, 1, batch) / recipe[0].share if first < min(_TOO_FEW_STEPS, least) else None
    few_data = first >= passed == most
    longest_course = first >= most == _MOST_STEPS and not few_data

    accumulate, rematerialise = _parts(model, spec, grid, machine, recipe)

    def cost(part: _Part) -> float:
        again = recomputed(part.rollout) if rematerialise else 1.0
        return (again + _FREE_STEP * part.free_steps / part.rollout) * step_seconds(model, part.rollout, part.batch)

    def steps_of(recipe: list[_Part]) -> list[int]:
        times = [part.share * seconds / cost(part) for part in recipe]
        scale = min(1.0, most / max(times[0], 1.0))  # of the time that there is, what so many passes take
        return [max(1, int(scale * n)) for n in times]

    while (counts := steps_of(recipe))[-1] < _LEAST_OF_LATER and len(recipe) > 1:
        recipe = _shared_out(recipe[:-1])
        accumulate, rematerialise = _parts(model, spec, grid, machine, recipe)
    stages = tuple(part.stage(steps, batch) for part, steps in zip(recipe, counts, strict=True))
    spent = sum(n * cost(part) for part, n in zip(recipe, counts, strict=True))
    return Plan(
        model,
        machine.precision,
        _traced(model, spec, grid, machine.precision).parameters,
        batch,
        accumulate,
        rematerialise,
        stages,
        spent,
        few_data=few_data,
        longest_course=longest_course,
        enough=enough,
    )


def _free_steps(hours: float) -> int:
    """Those that make a day with the one in the loss; one at least, and three at most."""
    return min(3, max(1, round(24 / hours) - 1))


class _Part(NamedTuple):
    """A stage to be: model steps in the loss and before, share of the time, peak learning rate, windows of a step."""

    rollout: int
    free_steps: int
    share: float
    learning_rate: float
    batch: int

    @property
    def span(self) -> int:
        """Model steps of a window."""
        return self.free_steps + self.rollout

    def stage(self, steps: int, batch_size: int) -> RolloutStage:
        """So many steps of it, in a recipe of this ``batch_size``."""
        return RolloutStage(
            steps=steps,
            rollout=self.rollout,
            free_steps=self.free_steps,
            learning_rate=self.learning_rate,
            warmup=max(1, min(100, steps // 15)),
            batch_size=self.batch if self.batch != batch_size else None,
        )


def _shared_out(recipe: list[_Part]) -> list[_Part]:
    """The parts with shares that sum to one."""
    whole = sum(part.share for part in recipe)
    return [part._replace(share=part.share / whole) for part in recipe]


def _fitting(width: int, spec: StateSpec, grid: Grid, machine: Machine, ample: bool, carried: bool) -> UNetConfig:
    """A U-Net of this width that the grid takes: with the patch that suits its size if it can be.

    With ``ample`` data it has a network of columns behind its patches, and on a CPU one level where that sees far
    enough; with ``carried`` it is shown what the wind brings.
    """
    one_level = machine.on_cpu and ample  # at equal time better there than two, see docs/what_helped.md
    cells = math.prod(grid.shape)
    wanted = 1 if cells <= 2000 else 2 if cells <= 150_000 else 4
    spacing = float(np.ptp(grid.latitude)) / (grid.shape[0] - 1)
    refusal: ConfigError | None = None
    for patch in (p for p in (4, 2, 1) if p <= wanted):
        few = 1 if machine.on_cpu else 2
        far_enough = 2 * _BLOCKS * patch * spacing >= _REACH  # two convolutions a block, a patch each way
        has_more_to_see = min(grid.shape) >= 8 * patch  # at a coarser level
        finest = highest_truncation(grid.shape[0] // patch, grid.shape[1] // patch)
        truncation = max(0, min(_TRUNCATION, finest)) if grid.is_global else 0
        shapes = [([1], _BLOCKS, truncation)] * (one_level and far_enough)
        shapes += [([1, 2], few, 0)] * has_more_to_see + [([1], few, 0)]
        for multipliers, blocks, degrees in shapes:
            model = UNetConfig(
                patch=patch,
                width=width,
                multipliers=multipliers,
                blocks=blocks,
                global_truncation=degrees,
                column_width=_COLUMN_WIDTH if ample and patch > 1 else 0,
                advection=carried,
            )
            try:
                forward_flops(model, *network_channels(model, spec), grid)
            except ConfigError as error:
                refusal = error
            else:
                return model
    assert refusal is not None
    raise refusal


def _seconds_a_step(model: UNetConfig, spec: StateSpec, grid: Grid, machine: Machine, batch: int) -> float:
    """Of an optimiser step over one model step, estimated."""
    best, half = _SHARE_OF_RATE[machine.on_cpu]
    share = best * model.width / (model.width + half)
    operations = 3 * batch * forward_flops(model, *network_channels(model, spec), grid)
    return _STEP_SECONDS[machine.on_cpu] + operations / (share * machine.rate)


def _parts(model: UNetConfig, spec: StateSpec, grid: Grid, machine: Machine, recipe: list[_Part]) -> tuple[int, bool]:
    """In how many parts batches are worked off, and whether model steps are computed again, so that all stages fit."""
    kept = _traced(model, spec, grid, machine.precision).kept_bytes
    room = _MEMORY_SHARE * machine.memory
    shares = [part.batch // machine.devices for part in recipe]
    common = math.gcd(*shares)  # one number of parts is for the batches of all stages
    fitting = [(parts, False) for parts in range(1, common + 1) if common % parts == 0] + [(common, True)]
    for parts, again in fitting:
        steps = max(n * (1 if again else part.rollout) for n, part in zip(shares, recipe, strict=True))
        if steps / parts * kept <= room:
            return parts, again
    return fitting[-1]


def _recipe_in_memory(
    spec: StateSpec, grid: Grid, lengths: list[int], machine: Machine, hours: float, longest: int | None
) -> list[_Part]:
    """The recipe of the largest batches that may wait in memory, without the stages whose windows make no batch."""
    windows = sum(max(0, n - 1) for n in lengths)
    largest = int(math.log2(min(_WINDOWS[machine.on_cpu], windows // machine.devices)))
    for share in (2**n for n in range(largest, -1, -1)):  # powers of two have parts in common
        batch, half = share * machine.devices, max(1, share // 2) * machine.devices
        recipe = _recipe(batch, half, hours, longest)
        recipe = [p for p in recipe if p.span == 1 or sum(max(0, n - p.span) for n in lengths) >= p.batch]
        waiting = _BATCHES * max(_batch_bytes(part, spec, grid) for part in recipe) / machine.devices
        if waiting <= _BATCHES_SHARE * machine.memory:
            break
    return recipe


def _recipe(batch: int, half: int, hours: float, longest: int | None) -> list[_Part]:
    """Stages for ample data, or for little, by the windows of their batches; see ``plan_training``."""
    if longest is None:
        return [_Part(1, 0, 0.5, 1e-2, batch), _Part(1, _free_steps(hours), 0.5, 3e-3, batch)]
    far = min(20, longest)
    longer = [_Part(6, 0, 0.3, 3e-3, half)] * (far > 6) + [_Part(far, 0, 0.5, 1e-3, half)] * (far > 1)
    return [_Part(1, 0, 0.2, 5e-3, batch), *longer]


def _batch_bytes(part: _Part, spec: StateSpec, grid: Grid) -> int:
    """Of a batch of a stage, on all devices together."""
    fields = (1 + part.rollout) * len(spec.state_channels) + part.span * len(spec.forcing_channels)
    return 4 * part.batch * fields * math.prod(grid.shape)


class _Traced(NamedTuple):
    """What only tracing a network tells: its parameters, and the bytes that a backward pass keeps of a sample."""

    parameters: int
    kept_bytes: float


def _traced(model: UNetConfig, spec: StateSpec, grid: Grid, precision: Precision) -> _Traced:
    """Of a model step; a plan asks this many times of the same few networks, and each is traced once."""
    return _traced_once(model.model_dump_json(), *network_channels(model, spec), grid, precision)


@lru_cache(maxsize=64)
def _traced_once(model_as_json: str, n_in: int, n_out: int, grid: Grid, precision: Precision) -> _Traced:
    """What is kept are the network's tensors, and some fields around it. By JSON, for a config has no hash."""
    model = UNetConfig.model_validate_json(model_as_json)
    network = nnx.eval_shape(lambda: build(model, n_in, n_out, grid, nnx.Rngs(0), jnp.dtype(precision)))
    graph, params = nnx.split(network)

    def forward(params: nnx.State, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon state"]:
        return nnx.merge(graph, params)(x)

    x = jax.ShapeDtypeStruct((1, *grid.shape, n_in), jnp.float32)
    back = jax.eval_shape(lambda params, x: jax.vjp(forward, params, x)[1], params, x)
    of_network = {p.shape for p in jax.tree.leaves(params)}
    kept = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(back) if a.shape not in of_network)
    fields = 4 * 4 * math.prod(grid.shape) * (n_in + n_out)
    return _Traced(count_parameters(nnx.state(network, nnx.Param)), float(kept + fields))
