"""Constraints on a network's answer: nothing beyond the truncation, global means kept, other channels as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y
from tiny_store import SPEC, write_store

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.models import latitude_factor
from emulator.models.spherical_harmonics import SphericalHarmonics
from emulator.stepping.constraints import Constraints
from emulator.stepping.stepper import Stepper, make_stepper
from emulator.training.loader import read_batch
from emulator.training.train_step import with_noise

GLOBE = Grid.gaussian(16)
TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)

advance, output = jax.jit(Stepper.advance), jax.jit(Stepper.output)


def harmonic(degree, order):
    latitude, longitude = np.radians(GLOBE.latitude)[:, None], np.radians(GLOBE.longitude)
    return sph_harm_y(degree, order, np.pi / 2 - latitude, longitude).real


def test_every_channel_loses_what_is_beyond_its_own_degree():
    low, middle, high = harmonic(3, 2), harmonic(7, 1), harmonic(9, 9)
    fields = np.stack([low + middle + high, low + high, low + middle + high, high], -1)[None].astype(np.float32)
    kept = Constraints(GLOBE, truncated=((0, 5), (2, 8)))(jnp.asarray(fields))
    expected = np.stack([low, low + high, low + middle, high], -1)[None]
    np.testing.assert_allclose(kept, expected, atol=2e-6)
    np.testing.assert_array_equal(kept[..., [1, 3]], fields[..., [1, 3]])


def test_a_channel_keeps_what_is_of_its_own_degree():
    at, beyond = harmonic(5, 2), harmonic(6, 2)
    kept = Constraints(GLOBE, truncated=((0, 5),))(jnp.asarray((at + beyond)[None, ..., None], jnp.float32))
    np.testing.assert_allclose(kept[0, ..., 0], at, atol=1e-5)


def test_the_truncation_keeps_the_digits_of_float32_on_every_device():
    fields = jax.ShapeDtypeStruct((1, *GLOBE.shape, 2), jnp.float32)
    program = jax.jit(Constraints(GLOBE, truncated=((0, 5),))).lower(fields).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 4
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", GLOBE)


def stepper_of(store, **constraints):
    model = TINY.model_copy(update=constraints)
    return make_stepper(
        model, SPEC, store.grid, store.timestep, store.statistics, store.static, precision="float32", seed=0
    )


def random(params):
    return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)


def test_a_step_adds_nothing_beyond(store):
    batch = jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 2))
    names = [channel.variable for channel in SPEC.state_channels]
    channel = names.index("temperature")
    fine = {}
    for name, truncation in (("free", {}), ("truncated", {"temperature": 6})):
        stepper, params = stepper_of(store, output_truncation=truncation)
        change = output(stepper, random(params), batch.state[:, 0], batch.forcing[:, 0], batch.which)[..., channel]
        z = SphericalHarmonics.of(GLOBE, 14).analyse(change[..., None])
        fine[name] = float(jnp.square(z[:, 7:]).sum() / jnp.square(z).sum())
    assert fine["free"] > 1e-3
    assert fine["truncated"] < 1e-10


def test_noise_on_the_initial_state_is_held_to_what_the_answer_is_held_to(store):
    batch = jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 1))
    stepper, _ = stepper_of(store, output_truncation={"temperature": 6}, conserve=["temperature"])
    noisy = with_noise(batch, stepper, 0.5, jax.random.key(0))
    moved = ((noisy.state - batch.state)[:, 0] / stepper.unit(batch.which))[..., :2]
    z = SphericalHarmonics.of(GLOBE, 14).analyse(moved)
    assert float(jnp.square(z[:, 7:]).sum() / jnp.square(z).sum()) < 1e-6  # kelvins of 280, in single precision
    assert float(jnp.square(z[:, 0]).sum() / jnp.square(z).sum()) < 1e-6
    assert float(moved.std()) > 0.1


def test_a_step_keeps_a_mean_that_is_conserved(store):
    batch = jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 2))
    state = batch.state[:, 0]
    drift = {}
    for name, conserve in (("free", []), ("conserved", ["temperature"])):
        stepper, params = stepper_of(store, conserve=conserve)
        change = advance(stepper, random(params), state, batch.forcing[:, 0], batch.which) - state
        drift[name] = np.abs(np.average(change, axis=1, weights=GLOBE.latitude_weights).mean(axis=1))
    assert drift["free"][:, :2].min() > 0.1
    assert drift["conserved"][:, :2].max() < 1e-4  # kelvins of 280, in single precision
    np.testing.assert_allclose(drift["conserved"][:, 2:], drift["free"][:, 2:])


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ({"output_truncation": {"temperature": 15}}, r"output_truncation.temperature: 15, .* resolves 14 at most"),
        ({"output_truncation": {"temprature": 5}}, r"temprature is no variable of the state, which has temperature, "),
        ({"conserve": ["total_precipitation_6hr"]}, r"total_precipitation_6hr is no prognostic variable of the state"),
    ],
)
def test_what_cannot_be_is_refused(store, constraints, expected):
    with pytest.raises(ConfigError, match=expected):
        stepper_of(store, **constraints)


@pytest.mark.parametrize("constraint", [{"output_truncation": {"temperature": 5}}, {"conserve": ["temperature"]}])
def test_what_needs_the_globe_says_so(constraint):
    regional = Grid.from_arrays(np.arange(20.0, 52.0, 2.0), np.arange(0.0, 64.0, 2.0))
    model = TINY.model_copy(update=constraint)
    with pytest.raises(ConfigError, match=f"model.{next(iter(constraint))} needs a grid that covers the globe"):
        Constraints.of(model, SPEC, regional)
    assert latitude_factor(TINY) == 2
    assert latitude_factor(model) is None  # devices cannot share the latitudes
