"""What rises and sinks changes fields as continuity and the first law say; where it does not follow it is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from synthetic import World, make_store

from data_prep.errors import ConfigError
from data_prep.grid import EARTH_RADIUS, Grid
from data_prep.spec import StateSpec, Variable
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.stepping import stepper
from emulator.stepping.advection import Advection
from emulator.stepping.stepper import network_channels
from emulator.stepping.vertical_motion import MOST_SHOWN
from emulator.training.devices import WHOLE
from emulator.training.job import set_up

N = 20
SIGMA = tuple((np.arange(N) + 0.5) / N)
SECOND = np.timedelta64(1, "s")  # so short that the air is still where it was
UPPER = {
    "u_component_of_wind": "m s-1",
    "v_component_of_wind": "m s-1",
    "temperature": "K",
    "specific_humidity": "kg kg-1",
}
SURFACE = Variable("surface_pressure", "prognostic", (), "Pa")
SPEC = StateSpec((SURFACE, *(Variable(n, "prognostic", SIGMA, unit) for n, unit in UPPER.items())), "sigma")
PRESSURE = 0
U, V, T, Q = (slice(1 + i * N, 1 + (i + 1) * N) for i in range(4))
WITH_POLE_ROWS = Grid.from_arrays(np.linspace(-90, 90, 65), np.arange(128) * 360 / 128)

show = jax.jit(Advection.__call__)


def shown(grid, fields, spec=SPEC):
    """What ``VerticalMotion`` says a second, ``(lat, lon, channel)`` in the order of the channels on levels."""
    advection = Advection.of(spec, grid, [SECOND], vertical_motion=True)
    found = show(advection, jnp.asarray(fields, jnp.float32)[None], jnp.array([0]))
    assert found.shape[-1] == advection.channels.size
    return np.asarray(found)[0, ..., fields.shape[-1] :]


def overturning(grid, speed=10.0):
    """Southward above and northward below, of no net divergence; and how fast air sinks through each level, 1/s.

    ``v = A cos(lat)`` diverges by ``-2 A sin(lat) / a``.
    """
    latitude = np.radians(grid.latitude)[:, None, None]
    aloft = np.where(np.arange(N) < N // 2, -1.0, 1.0)
    fields = np.zeros((*grid.shape, 1 + 4 * N))
    fields[..., PRESSURE] = 1e5
    fields[..., V] = speed * aloft * np.cos(latitude)
    through = np.minimum(SIGMA, 1 - np.array(SIGMA))  # integral of the part above
    return fields, 2 * speed / EARTH_RADIUS * np.sin(latitude) * -through


@pytest.mark.parametrize("grid", [Grid.gaussian(64), WITH_POLE_ROWS], ids=["gaussian", "pole rows"])
def test_what_sinks_brings_what_is_above(grid):
    fields, through = overturning(grid)
    fields[..., Q] = 2 + 3 * np.array(SIGMA)
    inner = slice(1, N - 1)
    found = shown(grid, fields)[..., 3 * N : 4 * N]
    rows = np.abs(grid.latitude) < 89
    expected = np.broadcast_to(-through * 3, found.shape)
    # at the ground and the top nothing goes through
    np.testing.assert_allclose(found[rows][..., inner], expected[rows][..., inner], atol=0.02 * np.abs(expected).max())
    assert np.isfinite(found).all()


def test_air_of_one_potential_temperature_keeps_it():
    """Compression warms what sinks by as much as what was above is colder."""
    grid = Grid.gaussian(32)
    fields, _ = overturning(grid)
    fields[..., T] = 300 * np.array(SIGMA) ** (2 / 7)
    kept = np.abs(shown(grid, fields)[..., 2 * N : 3 * N])
    fields[..., T] = 300.0
    warmed = np.abs(shown(grid, fields)[..., 2 * N : 3 * N])
    assert kept[..., 2:].max() < 0.02 * warmed.max()


@pytest.mark.parametrize("hours", [0, 6])
@pytest.mark.parametrize("way", ["eastward", "northward"])
def test_wind_below_that_blows_up_a_slope_of_pressure_compresses_the_air_there(way, hours):
    """Above it is calm: what blows together below lifts the air there, in sigma, by less than the slope alone would.

    Half way through six hours the air was one cell upstream, where that is what is looked up.
    """
    grid = Grid.gaussian(64)
    latitude, longitude = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)
    below = np.arange(N) >= N // 2
    fields = np.zeros((*grid.shape, 1 + 4 * N))
    fields[..., T] = 280.0
    cell = 2 * np.pi / 128
    speed = cell * EARTH_RADIUS / (3 * 3600) if way == "eastward" else 0.01
    if way == "eastward":  # of no divergence, like the other
        fields[..., U] = speed * np.cos(latitude)[..., None] * below
        fields[..., PRESSURE] = 1e5 * np.exp(0.05 * np.cos(latitude) * np.sin(longitude))
        rising = 0.05 * speed * np.cos(latitude) * np.cos(longitude - cell * (hours > 0)) / EARTH_RADIUS
    else:
        fields[..., V] = speed / np.cos(latitude)[..., None] * below
        fields[..., PRESSURE] = 1e5 * np.exp(0.05 * np.sin(latitude))
        rising = np.full(grid.shape, 0.05 * speed / EARTH_RADIUS)
    step = np.timedelta64(hours, "h") if hours else SECOND
    advection = Advection.of(SPEC, grid, [step], vertical_motion=True)
    found = np.asarray(show(advection, jnp.asarray(fields, jnp.float32)[None], jnp.array([0])))
    found = found[0, ..., 1 + 4 * N :][..., 2 * N : 3 * N] / (3600 * hours or 1)
    expected = np.where(below, 2 / 7 * 280 * 0.5 / np.array(SIGMA) * rising[..., None], 0.0)
    rows = np.abs(grid.latitude) < 20
    np.testing.assert_allclose(found[rows], expected[rows], atol=0.03 * np.abs(expected).max())


def test_winds_are_carried_up_and_down_as_vectors_and_there_is_an_input_for_each_field_on_levels():
    grid = Grid.gaussian(32)
    fields, through = overturning(grid)
    fields[..., U] = 40 * np.array(SIGMA)
    found = shown(grid, fields)[..., :N]
    inner, rows = slice(1, N - 1), np.abs(grid.latitude) < 80
    expected = np.broadcast_to(-through * 40, found.shape)
    np.testing.assert_allclose(found[rows][..., inner], expected[rows][..., inner], atol=0.02 * np.abs(expected).max())
    model = UNetConfig(advection=True, vertical_motion=True)
    assert network_channels(model, SPEC)[0] == 2 * (1 + 4 * N) + 4 * N


FEW = (0.2, 0.5, 0.8, 0.95)
WINDY = World(
    StateSpec((*(Variable(n, "prognostic", FEW, unit) for n, unit in UPPER.items()), SURFACE), "sigma"),
    np.array([20, 12, 6, 3, *[0] * 4, 220, 250, 272, 284, 1e-4, 1e-3, 4e-3, 8e-3, 1e5], np.float32),
    np.array([8, 6, 4, 3, 8, 6, 4, 3, 2, 3, 3, 3, 1e-5, 1e-4, 1e-3, 1e-3, 600], np.float32),
)


STAGE = RolloutStage(steps=30, rollout=2, warmup=2, learning_rate=1e-2)
CONFIG = TrainConfig(batch_size=2, stages=[STAGE], validation_windows=2, validation_steps=2)
MODEL = UNetConfig(
    patch=2, width=16, multipliers=[1], blocks=1, advection=True, interpolation="cubic", vertical_motion=True
)


def windy_store():
    store = make_store(Grid.gaussian(16), days=10, splits=("train", "validation"), world=WINDY)
    changes = {"tendency_mean": 0 * WINDY.mean, "tendency_std": WINDY.scale / 3}
    return replace(store, statistics=replace(store.statistics, mean=WINDY.mean, std=WINDY.scale, **changes))


def test_what_is_shown_of_vertical_motion_is_held_within_bounds_and_of_advection_is_not(monkeypatch):
    job = set_up(CONFIG, MODEL, windy_store(), 0)
    n, given = 4 * len(FEW), []
    monkeypatch.setattr(stepper.nnx, "merge", lambda *_: lambda x: given.append(x) or x[..., : WINDY.mean.size])

    @jax.jit
    def shown(state, batch):
        job.task.stepper.output(job.fresh.params.params, state, batch.forcing[:, 0], batch.which)
        return jnp.abs(given[-1][..., -2 * n - 1 :]).max(axis=(0, 1, 2))

    batch = job.spans[0].windows.batch(0, job.layout)
    wind = np.arange(WINDY.mean.size) < 2 * len(FEW)
    calm, stormy = (shown(batch.state[:, 0] * np.where(wind, factor, 1), batch) for factor in (1, 30))
    assert 0.1 < calm[-n:].min() < calm[-n:].max() <= stormy[-n:].max() == MOST_SHOWN
    assert stormy[:-n].max() > MOST_SHOWN


def test_a_batch_is_learned_with_gradients_through_it():
    job = set_up(CONFIG, MODEL, windy_store(), 0)
    batch, state = job.spans[0].windows.batch(0, job.layout), job.layout.place(job.fresh, WHOLE)
    losses = []
    for _ in range(30):
        state, norms = job.step(state, batch, job.task)
        assert norms.finite
        losses.append(float(norms.loss))
    assert min(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (StateSpec(SPEC.variables, "pressure"), "needs sigma levels"),
        (StateSpec(SPEC.variables[1:], "sigma"), "needs surface_pressure"),
        (
            StateSpec(
                (*SPEC.variables[:4], Variable("specific_humidity", "prognostic", SIGMA[5:], "kg kg-1")), "sigma"
            ),
            "on the same levels",
        ),
    ],
)
def test_where_it_does_not_follow_it_is_refused(spec, expected):
    with pytest.raises(ConfigError, match=rf"model\.vertical_motion: .*{expected}"):
        Advection.of(spec, Grid.gaussian(8), [SECOND], vertical_motion=True)
    with pytest.raises(ValidationError, match=r"needs model\.advection"):
        UNetConfig(vertical_motion=True)
    with pytest.raises(ValidationError, match=r"needs model\.advection"):
        UNetConfig(interpolation="cubic")
