"""The twin: the truth's own model from the fields that everybody gets, nearer to the truth than a coarser model."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("jcm")

from physics_fixtures import HOURS, INTERVALS, developed

from data_prep.grid import Grid
from data_prep.spec import VERTICAL_ATTRS, Channel, StateSpec, Variable, grid_coords
from data_prep.variables import UPPER_AIR
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.physics import PhysicsForecaster
from emulator.physics import transfer
from emulator.physics.ensemble import Ensemble
from emulator.physics.speedy import PROGNOSTIC, SpeedyModel, from_fields
from emulator.physics.surface import move_to_surface

pytestmark = [pytest.mark.physics, pytest.mark.slow]

STEP = np.timedelta64(HOURS, "h")
LEADS = (np.arange(1, INTERVALS + 1) * HOURS).astype("timedelta64[h]").astype("timedelta64[ns]")


@dataclass(frozen=True)
class World:
    """A day of SPEEDY T31 seen on the T21 grid: initial fields, and the truth at ``LEADS``."""

    spec: StateSpec
    grid: Grid
    surface: np.ndarray
    initial: xr.Dataset
    truth: xr.Dataset

    def forecaster(self, truncation: int, name: str | None = None) -> PhysicsForecaster:
        return PhysicsForecaster(truncation, self.spec, self.grid, STEP, self.surface, name=name)


@pytest.fixture(scope="module")
def world() -> World:
    run, model = developed(), SpeedyModel(31)
    sigma = np.asarray(model.sigma)
    fields = transfer.regrid({name: run.fields[name][:1, -1] for name in PROGNOSTIC}, 21, 31)
    coarse_surface = run.model.surface_geopotential_on(31)
    fields = move_to_surface(
        {n: np.asarray(f) for n, f in fields.items()}, sigma, coarse_surface, model.surface_geopotential_on(31)
    )
    states = from_fields(model, fields, np.array([run.end]), 31)
    ensemble = Ensemble(model, states, intervals=INTERVALS, interval_hours=HOURS, output_truncation=31)
    states, spun_up = ensemble.advance(states)  # the scales that T21 cannot hold fill up
    _, future = ensemble.advance(states)
    upper = tuple(Variable(name, "prognostic", tuple(sigma)) for name in UPPER_AIR)
    level = ("level", sigma, VERTICAL_ATTRS["sigma"])
    time = np.array([run.end + np.timedelta64(1, "D")], "datetime64[ns]")

    def dataset(fields: dict[str, np.ndarray], lead: tuple[str, ...], coords: dict[str, np.ndarray]) -> xr.Dataset:
        seen = transfer.regrid({name: fields[name] for name in PROGNOSTIC}, 31, 21)
        dims = {n: (*lead, "level") if n in UPPER_AIR else lead for n in PROGNOSTIC}
        data = {n: ((*dims[n], "latitude", "longitude"), np.asarray(f)) for n, f in seen.items()}
        return xr.Dataset(data, coords={**coords, "level": level, **grid_coords(run.grid)})

    return World(
        StateSpec((*upper, Variable("surface_pressure", "prognostic")), "sigma"),
        run.grid,
        model.surface_geopotential_on(21),
        dataset({n: f[:, -1] for n, f in spun_up.items()}, ("time",), {"time": time}),
        dataset(future, ("init_time", "lead_time"), {"init_time": time, "lead_time": LEADS}),
    )


def rms(field: xr.DataArray, grid: Grid) -> np.ndarray:
    """By lead."""
    weights = xr.DataArray(grid.latitude_weights, dims="latitude")
    rest = [d for d in field.dims if d != "lead_time"]
    return np.sqrt((field**2 * weights).mean(rest)).values


def test_the_twin_beats_a_coarser_model_at_short_leads(world: World):
    """At 6 h the loss of the restart, which both share, is most of the error; from 12 h on the model is."""
    (twin,) = world.forecaster(31, "twin_t31").forecast(world.initial, LEADS)
    (coarse,) = world.forecaster(21).forecast(world.initial, LEADS)
    for name in ("temperature", "u_component_of_wind", "v_component_of_wind", "surface_pressure"):
        of_twin, of_coarse = (rms(f[name] - world.truth[name], world.grid) for f in (twin, coarse))
        assert of_twin[0] < 1.05 * of_coarse[0], (name, of_twin, of_coarse)
        assert (of_twin[1:] < 0.95 * of_coarse[1:]).all(), (name, of_twin, of_coarse)


def test_names_tell_the_twin_from_the_baseline_of_the_same_truncation(world: World):
    assert world.forecaster(31, "twin_t31").name == "twin_t31"
    assert world.forecaster(31).name == "physics_t31"


def test_members_of_a_physics_ensemble_part_and_lie_around_the_single_forecast(world: World):
    channels = world.spec.state_channels
    rng = np.random.default_rng(0)
    # Large scales alone, 0.3 K: what a difference of two states would be, without a nature run to take it from.
    lat, lon = np.radians(world.grid.latitude)[:, None], np.radians(world.grid.longitude)[None, :]
    pattern = 0.3 * np.cos(lat) ** 2 * np.cos(3 * lon + rng.uniform(0, 6))
    change = np.stack([pattern * (c.variable == "temperature") for c in channels], axis=-1).astype(np.float32)
    store = SimpleNamespace(spec=world.spec)
    fields = SimpleNamespace(channels=channels, store=store, draw=lambda time, members: np.stack([change, -change]))
    single = world.forecaster(21)
    ensemble = EnsembleForecaster(single, 2, fields, runs_at_once=2)
    (members,) = ensemble.forecast(world.initial, LEADS)
    (alone,) = single.forecast(world.initial, LEADS)
    assert ensemble.name == "physics_t21_ensemble"
    temperature = members["temperature"]
    spread = rms(temperature.isel(realization=0) - temperature.isel(realization=1), world.grid) / 2
    off_centre = rms(temperature.mean("realization") - alone["temperature"], world.grid)
    assert (spread > 0.05).all() and (off_centre < 0.3 * spread).all(), (spread, off_centre)
    assert Channel("temperature", world.spec["temperature"].levels[0]) in channels
