"""The truncation of a network's output: nothing beyond, all of it within, other channels as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y
from tiny_store import SPEC, write_store

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import UNetConfig
from emulator.loader import read_batch
from emulator.models import latitude_factor
from emulator.models.spherical_harmonics import SphericalHarmonics
from emulator.stepper import make_stepper
from emulator.truncation import Truncation

GLOBE = Grid.gaussian(16)
TINY = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)


def harmonic(degree, order):
    latitude, longitude = np.radians(GLOBE.latitude)[:, None], np.radians(GLOBE.longitude)
    return sph_harm_y(degree, order, np.pi / 2 - latitude, longitude).real


def test_every_channel_loses_what_is_beyond_its_own_degree():
    low, middle, high = harmonic(3, 2), harmonic(7, 1), harmonic(9, 9)
    fields = np.stack([low + middle + high, low + high, low + middle + high, high], -1)[None].astype(np.float32)
    kept = Truncation(GLOBE, (0, 2), (5, 8))(jnp.asarray(fields))
    expected = np.stack([low, low + high, low + middle, high], -1)[None]
    np.testing.assert_allclose(kept, expected, atol=2e-6)
    np.testing.assert_array_equal(kept[..., [1, 3]], fields[..., [1, 3]])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", GLOBE)


def stepper_of(store, **truncation):
    model = TINY.model_copy(update={"output_truncation": truncation})
    return make_stepper(model, SPEC, store.grid, store.statistics, store.static, precision="float32", seed=0)


def test_a_step_adds_nothing_beyond(store):
    batch = jax.tree.map(jnp.asarray, read_batch(store, np.array([0, 30]), 2))
    names = [channel.variable for channel in SPEC.state_channels]
    channel = names.index("temperature")
    fine = {}
    for name, truncation in (("free", {}), ("truncated", {"temperature": 6})):
        stepper, params = stepper_of(store, **truncation)
        random = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
        change = stepper.output(random, batch.state[:, 0], batch.forcing[:, 0])[..., channel]
        z = SphericalHarmonics.of(GLOBE, 14).analyse(change[..., None])
        fine[name] = float(jnp.square(z[:, 7:]).sum() / jnp.square(z).sum())
    assert fine["free"] > 1e-3
    assert fine["truncated"] < 1e-10


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ({"temperature": 15}, r"output_truncation.temperature: 15, .* resolves 14 at most"),
        ({"temprature": 5}, r"output_truncation.temprature: the state has no such variable; it has temperature"),
    ],
)
def test_what_cannot_be_is_refused(store, truncation, expected):
    with pytest.raises(ConfigError, match=expected):
        stepper_of(store, **truncation)


def test_regional_grids_are_refused():
    regional = Grid.from_arrays(np.arange(20.0, 52.0, 2.0), np.arange(0.0, 64.0, 2.0))
    with pytest.raises(ConfigError, match="covers the globe"):
        Truncation.of({"temperature": 5}, SPEC, regional)


def test_it_needs_all_latitudes_at_once():
    assert latitude_factor(TINY) == 2
    assert latitude_factor(TINY.model_copy(update={"output_truncation": {"temperature": 5}})) is None
