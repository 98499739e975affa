"""What the wind brings is what lies upstream: round the globe, over the poles, as long as a step is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.errors import ConfigError
from data_prep.grid import EARTH_RADIUS, Grid
from data_prep.spec import StateSpec, Variable
from emulator.benchmarks.synthetic import synthetic_store
from emulator.config import ExperimentConfig, RolloutStage, TrainConfig, UNetConfig
from emulator.models import latitude_factor
from emulator.stepping import stepper
from emulator.stepping.advection import Advection, _one_by_one
from emulator.training.devices import WHOLE
from emulator.training.job import set_up

HOURS = np.timedelta64(6, "h")
WINDS = [Variable(f"{x}_component_of_wind", "prognostic", (500.0, 850.0), "m s-1") for x in "uv"]
SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", (500.0, 850.0), "K"),
        *WINDS,
        Variable("2m_temperature", "prognostic", (), "K"),
        Variable("total_precipitation_6hr", "diagnostic", (), "m"),
    ),
    "pressure",
)
T500, T850, U500, U850, V500, V850, T2M = range(7)
WITH_POLE_ROWS = Grid.from_arrays(np.linspace(-90, 90, 65), np.arange(128) * 360 / 128)
GRIDS = pytest.mark.parametrize("grid", [Grid.gaussian(64), WITH_POLE_ROWS], ids=["gaussian", "pole rows"])


bring = jax.jit(Advection.__call__)


def on_sphere(grid):
    """Unit vectors to the points, and those to the east and north there, ``(3, lat, lon)`` each."""
    lat, lon = np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")
    place = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    east = np.stack([-np.sin(lon), np.cos(lon), 0 * lon])
    return place, east, np.cross(place, east, axis=0)


def turned(vectors, axis, angle):
    """By Rodrigues."""
    axis = np.broadcast_to(np.asarray(axis, float)[:, None, None], vectors.shape)
    along = (axis * vectors).sum(axis=0) * axis
    return along + np.cos(angle) * (vectors - along) + np.sin(angle) * np.cross(axis, vectors, axis=0)


def pattern(place):
    x, y, z = place
    return 250 + 10 * x * y + 5 * z * x - 7 * y + 3 * z**2


@GRIDS
@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (0.6, 0, 0.8)], ids=["round", "over the poles", "askew"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_turning_atmosphere_brings_what_lies_upstream(grid, axis, which):
    """At 500 hPa, with 60 m/s at its equator; at 850 hPa, whose air goes with the surface, with a third of that."""
    place, east, north = on_sphere(grid)
    motion = np.cross(np.broadcast_to(np.asarray(axis, float)[:, None, None], place.shape), place, axis=0)
    u, v = ((motion * way).sum(axis=0) for way in (east, north))
    fields = np.zeros((1, *grid.shape, 7), np.float32)
    fields[0, ..., [T500, T850, T2M]] = pattern(place)
    for i, speed in ((0, 60.0), (1, 20.0)):
        fields[0, ..., U500 + i], fields[0, ..., V500 + i] = speed * u, speed * v
    carried = bring(Advection.of(SPEC, grid, [HOURS, 2 * HOURS]), jnp.asarray(fields), jnp.array([which]))[0]
    seconds = (1 + which) * 6 * 3600
    for channel, speed in ((T500, 60.0), (T850, 20.0), (T2M, 20.0)):
        expected = pattern(turned(place, axis, -speed * seconds / EARTH_RADIUS)) - pattern(place)
        np.testing.assert_allclose(carried[..., channel], expected, atol=0.03 * np.abs(expected).max() + 0.02)


@GRIDS
@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0)], ids=["round", "over the poles"])
def test_cubic_polynomials_find_fine_patterns_better(grid, axis):
    """Eight cells a wave, at 5 m/s and at 15, near the axis and far from it."""
    place, east, north = on_sphere(grid)
    motion = np.cross(np.broadcast_to(np.asarray(axis, float)[:, None, None], place.shape), place, axis=0)
    fields = np.zeros((1, *grid.shape, 7), np.float32)

    def waves(place):
        return 10 * np.sin(16 * place[0]) * np.cos(16 * place[1]) * np.sin(16 * place[2] + 1)

    fields[0, ..., [T500, T850, T2M]] = waves(place)
    for i, speed in ((0, 5.0), (1, 15.0)):
        for channel, way in ((U500, east), (V500, north)):
            fields[0, ..., channel + i] = speed * (motion * way).sum(axis=0)
    rms = {}
    for cubic in (False, True):
        carried = bring(Advection.of(SPEC, grid, [HOURS], cubic=cubic), jnp.asarray(fields), jnp.array([0]))[0]
        for channel, speed in ((T500, 5.0), (T850, 15.0)):
            expected = waves(turned(place, axis, -speed * 6 * 3600 / EARTH_RADIUS)) - waves(place)
            rms[cubic, channel] = np.sqrt(np.square(np.asarray(carried[..., channel]) - expected).mean())
            assert rms[cubic, channel] < (0.1 if cubic else 0.4) * expected.std()
    assert rms[True, T500] < 0.3 * rms[False, T500]
    assert rms[True, T850] < 0.3 * rms[False, T850]


@GRIDS
def test_a_wind_across_the_pole_is_the_same_wind_beyond_it(grid):
    place, east, north = on_sphere(grid)
    across = np.broadcast_to(np.array([30.0, 0, 0])[:, None, None], place.shape)
    fields = np.zeros((1, *grid.shape, 7), np.float32)
    for i in (0, 1):
        fields[0, ..., U500 + i], fields[0, ..., V500 + i] = ((across * way).sum(axis=0) for way in (east, north))
    carried = bring(Advection.of(SPEC, grid, [HOURS]), jnp.asarray(fields), jnp.array([0]))
    beside = np.abs(np.degrees(np.arcsin(place[2]))) > 80
    assert np.abs(np.asarray(carried)[0, beside, U500 : V850 + 1]).max() < 1  # of 30 m/s; the globe is round


@GRIDS
def test_a_wind_on_a_surface_is_carried_as_that_of_the_lowest_level(grid):
    """Alike if it blows alike, over the poles as well; what stands behind it in the state stays in its place."""
    at_10m = [Variable(f"10m_{x}_component_of_wind", "prognostic", (), "m s-1") for x in "uv"]
    spec = StateSpec((*SPEC.variables[:3], *at_10m, *SPEC.variables[3:]), "pressure")
    fields = np.random.default_rng(1).normal(0, 15, (1, *grid.shape, 9)).astype(np.float32)
    fields[..., 6:8] = fields[..., [U850, V850]]
    fields[..., 8] = fields[..., T850]
    carry = Advection.of(spec, grid, [HOURS], cubic=True)
    carried = np.asarray(bring(carry, jnp.asarray(fields), jnp.array([0])))
    np.testing.assert_array_equal(carry.channels, range(9))
    np.testing.assert_allclose(carried[..., 6:8], carried[..., [U850, V850]], atol=1e-4)
    np.testing.assert_allclose(carried[..., 8], carried[..., T850], atol=1e-4)
    bare = Advection.of(SPEC, grid, [HOURS], cubic=True)
    without = bring(bare, jnp.asarray(fields[..., [0, 1, 2, 3, 4, 5, 8]]), jnp.array([0]))
    np.testing.assert_allclose(carried[..., :6], without[..., :6], atol=1e-4)


def test_a_day_brings_what_lies_a_day_upstream():
    """At 80 m/s more than sixty degrees away along the equator, which is the way that the wind half way blows."""
    grid = Grid.gaussian(64)
    place, *_ = on_sphere(grid)
    tropics = np.abs(grid.latitude) < 5
    fields = np.zeros((1, *grid.shape, 7), np.float32)
    fields[0, ..., T500] = pattern(place)
    fields[0, ..., U500] = 80 * np.cos(np.radians(grid.latitude))[:, None]
    carry = Advection.of(SPEC, grid, [HOURS, 4 * HOURS], cubic=True)
    carried = bring(carry, jnp.asarray(fields), jnp.array([1]))[0, ..., T500]
    expected = pattern(turned(place, (0, 0, 1), -80 * 24 * 3600 / EARTH_RADIUS)) - pattern(place)
    np.testing.assert_allclose(carried[tropics], expected[tropics], atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("pole_to_pole", [False, True])
def test_slopes_at_the_sides_are_those_of_one_cell(pole_to_pole):
    latitude = np.linspace(-89, 89, 90) if pole_to_pole else np.arange(30.0, 41.0)
    grid = Grid.from_arrays(latitude, np.arange(300, 321.0))
    rising = 2 * np.asarray(grid.longitude) + 3 * np.asarray(grid.latitude)[:, None]
    carry = Advection.of(SPEC, grid, [HOURS])
    eastward, northward = (np.asarray(s)[0, ..., 0] for s in carry._slopes(jnp.asarray(rising[None, ..., None])))
    degree = np.radians(1) * EARTH_RADIUS
    np.testing.assert_allclose(northward * degree, 3, rtol=1e-3)
    np.testing.assert_allclose(eastward * degree * np.cos(np.radians(latitude))[:, None], 2, rtol=1e-3)


@pytest.mark.parametrize(
    "latitude",
    [Grid.gaussian(48).latitude, np.linspace(-90, 90, 65), np.array([30.0, 30.5, 33, 40, 41, 41.1, 55])],
    ids=["gaussian", "pole rows", "uneven"],
)
def test_a_latitude_is_found_among_the_rows(latitude):
    carry = Advection.of(SPEC, Grid.from_arrays(latitude, np.arange(128) * 360 / 128), [HOURS])
    rows = np.asarray(carry.latitude)
    asked = np.concatenate([np.random.default_rng(0).uniform(rows[0], rows[-1], 5000), rows]).astype(np.float32)
    np.testing.assert_allclose(carry._row(asked), np.interp(asked, rows, np.arange(rows.size)), atol=1e-4)


def test_states_one_by_one_are_states_together():
    """On a CPU a loop goes through them; what accelerators do is compared with it here."""
    grid = Grid.gaussian(16)
    states = np.random.default_rng(0).normal(0, 9, (3, *grid.shape, 7)).astype(np.float32)
    carry = Advection.of(SPEC, grid, [HOURS, 2 * HOURS], cubic=True)
    seconds = carry.seconds[np.array([1, 0, 1])]
    apart, _ = _one_by_one(carry._carry, jnp.asarray(states), seconds)
    together, nothing = carry._carry(jnp.asarray(states), seconds)
    np.testing.assert_allclose(apart, together, atol=2e-3)  # of 9 K, through coordinates in single precision
    assert nothing.shape[-1] == 0


@pytest.mark.parametrize("cubic", [False, True])
def test_calm_air_brings_nothing_and_a_region_keeps_what_it_knows(cubic):
    region = Grid.from_arrays(np.arange(30, 61.0), np.arange(300, 341.0))
    calm = np.random.default_rng(0).normal(280, 9, (2, *region.shape, 7)).astype(np.float32)
    calm[..., U500 : V850 + 1] = 0
    carry = Advection.of(SPEC, region, [HOURS], cubic=cubic)
    np.testing.assert_allclose(bring(carry, jnp.asarray(calm), jnp.array([0, 0])), 0, atol=3e-3)
    windy = np.full_like(calm, 80.0)
    windy[..., T500] = region.longitude
    carried = np.asarray(bring(carry, jnp.asarray(windy), jnp.array([0, 0]))[..., T500])
    np.testing.assert_allclose(carried[:, :, 0], 0, atol=3e-3)  # beyond the edge lies what is at the edge
    assert (carried[:, 20, 30:] < -20).all()
    for northward, edge in ((5.0, 0), (-5.0, -1)):
        blown = np.zeros_like(calm)
        blown[..., V500], blown[..., T500] = northward, np.array(region.latitude)[:, None]
        carried = np.asarray(bring(carry, jnp.asarray(blown), jnp.array([0, 0]))[..., T500])
        np.testing.assert_allclose(carried[:, edge], 0, atol=3e-3)


def test_winds_alone_are_carried_as_they_are_among_others():
    grid, fields = Grid.gaussian(8), np.random.default_rng(0).normal(0, 20, (1, 8, 16, 7)).astype(np.float32)
    alone = StateSpec(tuple(WINDS), "pressure")
    carried = bring(Advection.of(SPEC, grid, [HOURS]), jnp.asarray(fields), jnp.array([0]))
    found = bring(Advection.of(alone, grid, [HOURS]), jnp.asarray(fields[..., U500 : V850 + 1]), jnp.array([0]))
    np.testing.assert_allclose(found, carried[..., U500 : V850 + 1], atol=1e-4)


def test_winds_are_needed_where_anything_is_to_be_carried():
    lacking = StateSpec((*SPEC.variables[:2], Variable(WINDS[1].name, "prognostic", (850.0,), "m s-1")), "pressure")
    with pytest.raises(ConfigError, match=r"model\.advection: needs .* v_component_of_wind@500 is not among"):
        Advection.of(lacking, Grid.gaussian(8), [HOURS])
    with pytest.raises(ConfigError, match="at some level is not among"):
        Advection.of(StateSpec((SPEC.variables[3],)), Grid.gaussian(8), [HOURS])
    assert latitude_factor(UNetConfig(advection=True)) is None
    odd, uneven = np.arange(45) * 8.0, np.array([0.0, 1, 2, 4, 5, 6])
    with pytest.raises(ConfigError, match=r"needs an even number of longitudes, there are 45 \(data\.regrid\)"):
        Advection.of(SPEC, Grid.from_arrays(np.linspace(-85, 85, 18), odd), [HOURS])
    with pytest.raises(ConfigError, match="longitudes are 1 to 2 degrees apart"):
        Advection.of(SPEC, Grid.from_arrays(np.arange(5.0), uneven), [HOURS])


@pytest.mark.parametrize(
    ("prognostic", "anomalies", "expected"),
    [
        (["temperature", WINDS[0].name], False, "needs v_component_of_wind in data.prognostic"),
        (["temperature"], False, "needs u_component_of_wind and v_component_of_wind in"),
        ([WINDS[0].name, WINDS[1].name], False, r"model\.vertical_motion: needs surface_pressure in data\.prognostic"),
        ([WINDS[0].name, WINDS[1].name, "surface_pressure"], True, "departures from climatology"),
        ([WINDS[0].name, WINDS[1].name, "surface_pressure"], False, "needs data on sigma levels"),
    ],
)
def test_a_config_whose_winds_carry_nothing_is_refused_at_once(prognostic, anomalies, expected):
    data = {"inputs": ["a.nc"], "prognostic": {n: {} for n in prognostic}, "split": {"segments": {"train": [0]}}}
    data["vertical"] = "sigma" if anomalies else "pressure"
    train = {"stages": [{"steps": 1}], "anomalies": anomalies}
    model = {"advection": True, "vertical_motion": True}
    with pytest.raises(ValidationError, match=expected):
        ExperimentConfig.model_validate({"name": "x", "data": data, "model": model, "train": train})


def test_training_goes_through_it_in_calm_air_too():
    store = synthetic_store(16, 2, n_times=40)
    stages = [RolloutStage(steps=1, rollout=2)]
    config = TrainConfig(batch_size=4, stages=stages, validation_windows=2, validation_steps=2)
    job = set_up(config, UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, advection=True), store, 0)
    batch = job.spans[0].windows.batch(0, job.layout)
    for each in (batch, batch._replace(state=batch.state * 0)):
        _, norms = job.step(job.layout.place(job.fresh, WHOLE), each, job.task)
        assert norms.finite


@pytest.mark.parametrize("cubic", [False, True])
def test_slopes_are_those_at_the_point_however_fields_are_interpolated(cubic):
    grid = Grid.from_arrays(np.arange(30.0, 41.0), np.arange(300, 321.0))
    rising = np.asarray(grid.longitude) ** 2 + 3 * np.asarray(grid.latitude)[:, None] ** 2
    carry = Advection.of(SPEC, grid, [HOURS], cubic=cubic)
    _, northward = (np.asarray(s)[0, ..., 0] for s in carry._slopes(jnp.asarray(rising[None, ..., None])))
    degree = np.radians(1) * EARTH_RADIUS
    expected = np.broadcast_to(6 * np.asarray(grid.latitude)[1:-1, None], (9, 21))
    np.testing.assert_allclose(northward[1:-1] * degree, expected, rtol=2e-3)


def test_what_the_wind_brings_is_shown_in_units_of_the_change_over_its_step(monkeypatch):
    store, given = synthetic_store(16, 2, n_times=40), []
    config = TrainConfig(batch_size=2, stages=[RolloutStage(steps=1)], validation_windows=2, validation_steps=2)
    model = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, advection=True, time_steps=[1, 4])
    job = set_up(config, model, store, 0)
    now, n, which = job.task.stepper, job.task.stepper.n_prognostic, jnp.array([0, 1])
    n_state, n_forcing = len(store.spec.state_channels), len(store.spec.forcing_channels)
    monkeypatch.setattr(stepper.nnx, "merge", lambda *_: lambda x: given.append(x) or x[..., :n_state])
    state = jnp.asarray(store.take_states(np.array([3, 9])))
    now.output(job.fresh.params.params, state, jnp.zeros((2, *store.grid.shape, n_forcing)), which)
    unit = np.asarray(now.normalizer.output_std)[:, None, None, :n]
    assert np.abs(unit[1] / unit[0] - 1).min() > 0.1
    shown = np.asarray(given[0])[..., -2 - n : -2]
    expected = np.asarray(now.advection(state[..., :n], which))[..., now.advection.channels.argsort()] / unit
    np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-4)
