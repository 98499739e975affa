"""SPEEDY through jcm, behind arrays of our own layout: build, start from rest or from fields, advance an ensemble.

SPEEDY (Molteni, 2003, Clim. Dyn. 20, 175-191; convection, condensation, clouds, radiation, surface fluxes, vertical
diffusion) runs on dinosaur's spectral primitive equations. Orography, land-sea mask and monthly boundary fields come
from the T63 files packaged with jcm. Its insolation is a daily mean and its land temperature is prescribed: there is
no diurnal cycle, and fields that look hourly are not.

Two conventions that everything downstream rests on:
  * the surface that the model stands on is the dynamical core's own truncation of the orography (two total wavenumbers
    less than the state's), so it is read back from the core and never taken from the file;
  * surface pressure is truncated as its logarithm, the core's prognostic variable: that is exact within the model,
    and it follows a truncated surface where pressure itself would ring around mountains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax_datetime as jdt
import numpy as np
import xarray as xr
from dinosaur.primitive_equations import State
from dinosaur.time_integration import digital_filter_initialization, horizontal_diffusion_step_filter, imex_rk_sil3
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike
from jcm.data.bc.interpolate import upsample_forcings_ds
from jcm.forcing import ForcingData
from jcm.model import Model, RunState
from jcm.physics.speedy.speedy_coords import get_speedy_coords
from jcm.physics.speedy.speedy_terms import speedy_physics
from jcm.terrain import TerrainData, get_terrain

from data_prep.variables import UPPER_AIR
from emulator.physics import transfer
from emulator.speedy_facts import NEAR_SURFACE_TEMPERATURE, default_time_step_minutes, precipitation_name

REFERENCE_PRESSURE = 1.0e5
"""Pa; jcm's surface pressure is relative to it."""

PROGNOSTIC = (*UPPER_AIR, "surface_pressure")
"""What a gridpoint state consists of."""

_DIFFUSION_HOURS = 2.4  # as SPEEDY damps its shortest waves

Fields = dict[str, jax.Array]
"""By canonical name: ``(..., level, latitude, longitude)`` on sigma levels, or ``(..., latitude, longitude)``."""


@dataclass(frozen=True)
class SpeedyModel:
    """SPEEDY at one resolution. Hashable, so jit-static; equal models share their compiled and loaded parts.

    Attributes:
      truncation: Triangular spectral truncation (21, 31, 42, 63 or 85).
      layers: Sigma layers, 5 to 8; 8 are SPEEDY's own.
      time_step_minutes: Time step; ``None`` is ``default_time_step_minutes``.
    """

    truncation: int
    layers: int = 8
    time_step_minutes: int | None = None

    @property
    def step_minutes(self) -> int:
        """The time step in effect."""
        return self.time_step_minutes or default_time_step_minutes(self.truncation)

    @cached_property
    def sigma(self) -> tuple[float, ...]:
        """Sigma of the layer centres, top first, rounded to what is meant (0.2, not 0.19999999)."""
        with jax.ensure_compile_time_eval():
            coords = get_speedy_coords(layers=self.layers, spectral_truncation=self.truncation)
            return tuple(round(float(s), 6) for s in coords.vertical.centers)

    def surface_geopotential_on(self, truncation: int) -> np.ndarray:
        """Geopotential (m2 s-2) of the surface that the core stands on, float32 ``(lat, lon)``.

        Truncated to, or evaluated on, the grid of a truncation, which may be another than the model's.
        """
        primitive = self.parts.model.dycore.primitive
        gravity = float(primitive.physics_specs.gravity_acceleration)
        modal = transfer.resize(primitive.orography, self.truncation, truncation)
        return np.asarray(gravity * transfer.to_nodal(modal, truncation), np.float32)

    @property
    def parts(self) -> Parts:
        """The jcm objects behind this model, built once per process: of numbers, even where a trace asks first.

        A run that goes on after a kill does so: it learns the structure of its state from ``eval_shape``.
        """
        with jax.ensure_compile_time_eval():
            return _build(self.truncation, self.layers, self.step_minutes)

    def at_rest(self, start: np.datetime64) -> RunState:
        """Run state of an isothermal atmosphere at rest, one member, at a date."""
        model = self.parts.model
        state = RunState(model.initial_state(), model.initial_physics_carry(), model_time(start), jnp.int32(0))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), state)  # Python scalars to arrays


class Parts(NamedTuple):
    """What jcm needs to integrate: the model and its boundary fields (large: passed to jit, never captured)."""

    model: Model
    forcing: ForcingData


def model_time(time: np.datetime64) -> jdt.Datetime:
    """jcm's exact clock of one date."""
    return jdt.Datetime.from_datetime64(np.asarray(time, "datetime64[s]"))


def compile_advance(
    model: SpeedyModel, states: RunState, *, intervals: int, interval_hours: int, output_truncation: int
) -> Any:
    """What runs an ensemble forward: the one graph behind nature runs and forecasts.

    It is compiled ahead of time for these states, so that its cost can be told from the compiler's, and once in a
    process, whoever asks.

    Args:
      model: The model.
      states: Run states with a leading member axis on every array (see ``replicate`` and ``from_fields``).
      intervals: Output intervals to run.
      interval_hours: Length of one.
      output_truncation: Grid and truncation of the output.

    Returns:
      A function ``states -> (states, fields)``: the states at the end, and the fields at the end of each interval on
      the output grid, ``(member, interval, ...)``: the prognostic fields (truncated spectrally, winds through vorticity
      and divergence, humidity clipped at zero), the precipitation accumulated over the interval (m, area means, never
      negative), and the near-surface temperature of the last time step (K, area means).
    """
    leaves, structure = jax.tree.flatten(states)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_shared_by(leaf)) for leaf in leaves)
    compiled = _compile(model, structure, shapes, intervals, interval_hours, output_truncation)
    return lambda states: compiled(states, model.parts.forcing)


def _shared_by(leaf: jax.Array) -> jax.sharding.Sharding | None:
    """How it lies on several devices; ``None`` where one holds it, be it what it may."""
    return leaf.sharding if leaf.sharding.num_devices > 1 else None


@lru_cache(maxsize=8)
def _compile(
    model: SpeedyModel,
    structure: Any,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    intervals: int,
    interval_hours: int,
    output_truncation: int,
) -> Any:
    states = jax.tree.unflatten(structure, shapes)
    settings = {"intervals": intervals, "interval_hours": interval_hours, "output_truncation": output_truncation}
    advance = partial(_advance, model=model, **settings)
    if isinstance(shapes[0].sharding, NamedSharding):
        # each device its own runs; left to itself XLA would send fields around in every step
        mesh, axes = shapes[0].sharding.mesh, _member_axes(model, states)
        runs = P(*mesh.axis_names)
        specs = jax.tree.map(lambda axis: P() if axis is None else runs, axes, is_leaf=lambda axis: axis is None)
        # what all runs share, such as the number of the step, is made alike everywhere, which cannot be proven here
        advance = jax.shard_map(advance, mesh=mesh, in_specs=(specs, P()), out_specs=(specs, runs), check_vma=False)
    return jax.jit(advance).lower(states, model.parts.forcing).compile()


def _advance(
    states: RunState,
    forcing: ForcingData,
    *,
    model: SpeedyModel,
    intervals: int,
    interval_hours: int,
    output_truncation: int,
) -> tuple[RunState, Fields]:
    jcm_model = model.parts.model
    days = interval_hours / 24

    def one_interval(state: RunState, _: None) -> tuple[RunState, Fields]:
        # Averaged mode gives the rain of the whole interval; the state itself is taken as a snapshot from what comes
        # back. The averages of everything else are never used, so the compiler drops them.
        state, averages = jcm_model.run_from_state_with_carry(
            state.dynamics,
            forcing,
            save_interval=days,
            total_time=days,
            output_averages=True,
            initial_physics_state=state.physics,
            initial_time=state.time,
            initial_step=state.step,
        )
        fields = fields_of(model, state.dynamics, output_truncation)
        rain = averages.physics["_convection"].precnv[0] + averages.physics["_condensation"].precls[0]  # g m-2 s-1
        fields[precipitation_name(interval_hours)] = _surface(
            rain * (1e-6 * 3600 * interval_hours), model, output_truncation
        )
        fields[NEAR_SURFACE_TEMPERATURE] = _surface(state.physics["_surface_flux"].t0, model, output_truncation)
        return state, fields

    def one_member(state: RunState) -> tuple[RunState, Fields]:
        return jax.lax.scan(one_interval, state, None, length=intervals)

    axes = _member_axes(model, states)
    return jax.vmap(one_member, in_axes=(axes,), out_axes=(axes, 0))(states)


def replicate(state: RunState, members: int) -> RunState:
    """The same state for every member.

    Fields and dates get a member axis. Step counters stay shared: all members are at the same step, and knowing it once
    lets the compiled code skip radiation on the steps between.
    """

    def repeat(leaf: jax.Array) -> jax.Array:
        return jnp.repeat(leaf[None], members, axis=0)

    repeated = jax.tree.map(lambda leaf: repeat(leaf) if jnp.ndim(leaf) else leaf, state)
    return repeated.replace(time=jax.tree.map(repeat, state.time))


def perturb_vorticity(states: RunState, amplitude: float, seed: int) -> RunState:
    """Multiplies every vorticity coefficient by ``1 + amplitude * noise``, each member with a random key of its own."""
    vorticity = states.dynamics.vorticity
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(vorticity.shape[0]))
    noise = jax.vmap(lambda key: jax.random.normal(key, vorticity.shape[1:]))(keys)
    return states.replace(dynamics=states.dynamics.replace(vorticity=vorticity * (1 + amplitude * noise)))


def fields_of(model: SpeedyModel, state: State, output_truncation: int) -> Fields:
    """Canonical prognostic fields of one modal state on the grid of another truncation (see ``compile_advance``)."""
    to = output_truncation
    primitive = model.parts.model.dycore.primitive

    def modal(x: jax.Array) -> jax.Array:
        return transfer.resize(x, model.truncation, to)

    u, v = transfer.winds_to_nodal(modal(state.vorticity), modal(state.divergence), to)
    reference = jnp.asarray(primitive.reference_temperature)[:, None, None]
    return {
        "u_component_of_wind": u,
        "v_component_of_wind": v,
        "temperature": transfer.to_nodal(modal(state.temperature_variation), to) + reference,
        "specific_humidity": jnp.maximum(transfer.to_nodal(modal(state.tracers["specific_humidity"]), to), 0.0),
        "surface_pressure": REFERENCE_PRESSURE * jnp.exp(transfer.to_nodal(modal(state.log_surface_pressure), to)[0]),
    }


def modal_of(model: SpeedyModel, fields: Fields, truncation: int) -> State:
    """The modal state of canonical prognostic fields given on the grid of ``truncation``; inverse of ``fields_of``."""

    def modal(x: jax.Array) -> jax.Array:
        return transfer.resize(x, truncation, model.truncation)

    vorticity, divergence = transfer.winds_to_modal(
        fields["u_component_of_wind"], fields["v_component_of_wind"], truncation
    )
    primitive = model.parts.model.dycore.primitive
    reference = jnp.asarray(primitive.reference_temperature)[:, None, None]
    log_pressure = jnp.log(fields["surface_pressure"] / REFERENCE_PRESSURE)[None]
    return State(
        vorticity=modal(vorticity),
        divergence=modal(divergence),
        temperature_variation=modal(transfer.to_modal(fields["temperature"] - reference, truncation)),
        log_surface_pressure=modal(transfer.to_modal(log_pressure, truncation)),
        tracers={"specific_humidity": modal(transfer.to_modal(fields["specific_humidity"], truncation))},
        sim_time=jnp.float32(0),
    )


def from_fields(model: SpeedyModel, fields: Mapping[str, ArrayLike], times: np.ndarray, truncation: int) -> RunState:
    """Run states that start from gridpoint fields, one member per initial time, each with a date of its own.

    Args:
      model: The model.
      fields: The ``PROGNOSTIC`` fields on the Gaussian grid of ``truncation``, leading axis ``(time,)``, standing on
        the model's own surface (see ``surface.py``).
      times: Dates, datetime64 ``(time,)``.
      truncation: Grid of the fields.

    Returns:
      Run states with a leading member axis. Physics memory (radiation, last tendencies) starts empty.
    """
    carry = replicate(model.at_rest(times[0]), len(times)).physics
    seconds = np.asarray(times, "datetime64[s]").astype(np.int64)
    days, rest = np.divmod(seconds, 86400)
    clock = jdt.Datetime(jdt.Timedelta(days=jnp.asarray(days, jnp.int32), seconds=jnp.asarray(rest, jnp.int32)))
    dynamics = _states_from_fields({name: jnp.asarray(fields[name]) for name in PROGNOSTIC}, model, truncation)
    return RunState(dynamics, carry, clock, jnp.int32(0))


@partial(jax.jit, static_argnums=(1, 2))
def held_fields(fields: Mapping[str, jax.Array], model: SpeedyModel, truncation: int) -> Fields:
    """What the model can hold of gridpoint fields: into its spectral state and back to the same grid.

    Args:
      fields: The ``PROGNOSTIC`` fields on the Gaussian grid of ``truncation``, leading axis ``(time,)``.
      model: The model.
      truncation: Grid of the fields, in and out.
    """
    return jax.vmap(lambda one: fields_of(model, modal_of(model, one, truncation), truncation))(fields)


@partial(jax.jit, static_argnums=(1, 2))
def filter_initial_shock(states: RunState, model: SpeedyModel, hours: float) -> RunState:
    """Digital-filter initialisation (Lynch and Huang, 1992): takes gravity waves faster than ``hours`` out of states.

    The adiabatic core alone runs over half the span forward and backward; the filtered state is the weighted mean.
    """
    dycore = model.parts.model.dycore
    hour = 3600 / dycore.dt_seconds * dycore.dt_nondim
    span = hours * hour
    diffusion = horizontal_diffusion_step_filter(
        transfer.spectral_grid(model.truncation), dycore.dt_nondim, tau=_DIFFUSION_HOURS * hour, order=2
    )
    filtered = digital_filter_initialization(
        dycore.primitive, imex_rk_sil3, [diffusion], time_span=span, cutoff_period=span, dt=dycore.dt_nondim
    )
    axes = _member_axes(model, states).dynamics

    def one(state: State) -> State:
        return filtered(state).replace(sim_time=state.sim_time)

    return states.replace(dynamics=jax.vmap(one, in_axes=(axes,), out_axes=axes)(states.dynamics))


@partial(jax.jit, static_argnums=(1, 2))
def _states_from_fields(fields: Fields, model: SpeedyModel, truncation: int) -> State:
    states = jax.vmap(lambda one: modal_of(model, one, truncation))(fields)
    return states.replace(sim_time=jnp.float32(0))  # one clock for all, as in ``replicate``


def _surface(field: jax.Array, model: SpeedyModel, output_truncation: int) -> jax.Array:
    return transfer.with_kinks(jnp.swapaxes(field, -1, -2), model.truncation, output_truncation)


def map_members(model: SpeedyModel, function: Callable[..., jax.Array], *states: RunState) -> RunState:
    """Applies a function to the leaves that have a member axis; the others, shared by all members, are passed on."""

    def leaf(one: jax.ShapeDtypeStruct, *leaves: jax.Array) -> jax.Array:
        return function(*leaves) if jnp.ndim(leaves[0]) > len(one.shape) else leaves[0]

    return jax.tree.map(leaf, _single_shapes(model), *states)


def member_count(states: RunState) -> int:
    """How many members the run states hold."""
    return int(states.dynamics.vorticity.shape[0])


def one_member(model: SpeedyModel, states: RunState, member: int) -> RunState:
    """The run state of one member, without member axis; ``replicate`` is its inverse."""
    return map_members(model, lambda leaf: leaf[member], states)


def run_state_structure(model: SpeedyModel) -> jax.tree_util.PyTreeDef:
    """The pytree structure of run states, by which leaves read from a file become one again."""
    return jax.tree.structure(_single_shapes(model))


def _member_axes(model: SpeedyModel, states: RunState) -> RunState:
    """vmap axes: 0 where a leaf has one dimension more than a single run state's, else shared."""
    return jax.tree.map(lambda one, leaf: 0 if jnp.ndim(leaf) > len(one.shape) else None, _single_shapes(model), states)


@lru_cache
def _single_shapes(model: SpeedyModel) -> RunState:
    _ = model.parts  # jcm's constructors need numbers; a process that goes on with a run comes here first
    return jax.eval_shape(lambda: model.at_rest(np.datetime64("1901-01-01")))


@lru_cache(maxsize=4)
def _build(truncation: int, layers: int, step_minutes: int) -> Parts:
    coords = get_speedy_coords(layers=layers, spectral_truncation=truncation)
    files = resources.files("jcm.data.bc") / "t63"
    # SPEEDY has no sub-grid orographic drag, so only the mean orography and the mask are read:
    # ``TerrainData.from_file`` would derive drag statistics that nobody uses, slowly and with a warning.
    orography, land = get_terrain(terrain_file=str(files / "terrain.nc"), grid=coords.horizontal)
    terrain = TerrainData.from_coords(coords, orography=orography, fmask=land, lfluxland=True)
    with xr.open_dataset(str(files / "forcing.nc")) as source:
        months = source.load()
    # Interpolating twelve months in space before jcm makes days of them gives what ``ForcingData.from_file`` gives to
    # within rounding, thirty times faster.
    if (months.sizes["lon"], months.sizes["lat"]) != coords.horizontal.nodal_shape:
        months = upsample_forcings_ds(months, coords.horizontal)
    with warnings.catch_warnings():  # jcm's month arithmetic meets a pandas that will change
        warnings.filterwarnings("ignore", message=".*infer_freq", module="jcm")
        forcing = ForcingData.from_dataset(months, coords=coords, align_mode="wrap_year")
    model = Model(
        coords=coords, terrain=terrain, physics=speedy_physics(), start_time="1901-01-01", time_step=step_minutes
    )
    return Parts(model, forcing)
