"""The spectral operator: transforms against scipy and quadrature, filters on known waves, the duties of a model."""

import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx
from scipy.special import sph_harm_y

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import SpectralConfig
from emulator.models import build, forward_flops, latitude_factor
from emulator.models.spectral_filter import SpectralFilter
from emulator.models.spherical_harmonics import SphericalHarmonics, legendre_functions

TINY = SpectralConfig(kind="spectral", width=16, depth=2)
GLOBE = Grid.gaussian(8)
GRIDS = pytest.mark.parametrize(
    "grid",
    [
        Grid.gaussian(16),
        Grid.from_arrays(np.arange(-90 + 5.625, 90, 11.25), np.arange(32) * 11.25),
        Grid.from_arrays(np.linspace(-90, 90, 17), 3.0 + np.arange(36) * 10.0),
    ],
    ids=["gaussian", "cells", "pole rows"],
)


def test_legendre_functions_are_scipys():
    sines = np.array([-1.0, -0.7, -0.01, 0.3, 0.999, 1.0])
    ours = legendre_functions(40, sines)
    for m in (0, 1, 2, 17, 40):
        for degree in range(m, 41):
            theirs = np.sqrt(4 * np.pi) * (-1) ** m * sph_harm_y(degree, m, np.arccos(sines), 0.0).real
            np.testing.assert_allclose(ours[m, degree], theirs, atol=1e-11)


def test_legendre_functions_are_orthonormal_under_gauss_quadrature():
    nodes, weights = np.polynomial.legendre.leggauss(90)
    p = legendre_functions(85, nodes)
    for m in (0, 1, 40, 85):
        products = np.einsum("ky,ly,y->kl", p[m, m:], p[m, m:], weights / 2)
        np.testing.assert_allclose(products, np.eye(86 - m), atol=1e-11)


@GRIDS
@pytest.mark.parametrize("truncation", [10, 14])
def test_analysis_finds_what_was_synthesised(grid, truncation):
    harmonics = SphericalHarmonics.of(grid, truncation)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1, truncation + 1, truncation + 1, 2, 3)).astype(np.float32)
    degree, order = np.indices(z.shape[1:3])
    z[:, order > degree] = 0
    z[:, :, 0, 1] = 0  # there is no sine of order 0
    np.testing.assert_allclose(harmonics.analyse(harmonics.synthesise(jnp.asarray(z))), z, atol=3e-6)


@GRIDS
def test_a_single_harmonic_has_a_single_coefficient(grid):
    degree, order = 7, 3
    colatitude = np.radians(90 - np.asarray(grid.latitude))[:, None]
    longitude = np.radians(np.asarray(grid.longitude) - grid.longitude[0])
    wave = np.sqrt(4 * np.pi) * sph_harm_y(degree, order, colatitude, longitude)
    fields = np.sqrt(2) * np.stack([wave.real, wave.imag], axis=-1)[None]
    z = np.asarray(SphericalHarmonics.of(grid, 10).analyse(jnp.asarray(fields, jnp.float32)))
    expected = np.zeros_like(z)
    expected[0, degree, order] = -np.eye(2)  # cosine and sine, with scipy's sign (-1)^m
    np.testing.assert_allclose(z, expected, atol=3e-6)


def test_filters_scale_every_harmonic_of_a_degree_alike_and_turn_waves_by_a_quarter():
    grid = Grid.gaussian(16)
    harmonics = SphericalHarmonics.of(grid, 10)
    layer = SpectralFilter(1, 10, rngs=nnx.Rngs(0))
    gain = np.arange(1.0, 12.0)
    layer.kernel[...] = jnp.asarray(np.stack([gain, np.zeros(11)], axis=1)[..., None])
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None]
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon
    for harmonic, degree in ((x, 1), (y, 1), (z, 1), (x * y, 2), (x * z, 2), (3 * z**2 - 1, 2), (x * y * z, 3)):
        fields = jnp.asarray(harmonic, jnp.float32)[None, ..., None]
        np.testing.assert_allclose(layer(fields, harmonics), gain[degree] * fields, atol=3e-5)
    layer.kernel[...] = jnp.asarray(np.stack([np.zeros(11), gain], axis=1)[..., None])
    fields = jnp.asarray(x * z, jnp.float32)[None, ..., None]
    np.testing.assert_allclose(layer(fields, harmonics)[0, ..., 0], -gain[2] * y * z, atol=3e-5)


@pytest.fixture(scope="module")
def trial():
    return check.Trial(TINY.model_copy(update={"width": 32}), Grid.gaussian(6))


class TestDuties(check.Duties):
    """On ``trial``."""


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    check.check_half_precision_is_near(TINY, GLOBE)


def test_little_is_kept_in_float32_for_the_gradient_in_bfloat16():
    check.check_little_is_kept_in_float32(TINY, GLOBE)


def test_turning_the_globe_turns_the_output():
    check.check_turning_commutes(TINY, GLOBE, 3)


def test_counted_arithmetic_is_what_xla_counts():
    check.check_arithmetic_is_what_xla_counts(TINY.model_copy(update={"width": 128}), Grid.gaussian(16), tolerance=0.05)


def test_grids_that_do_not_fit_are_refused():
    region = Grid.from_arrays(np.arange(20, 60, 5), np.arange(200, 260, 5))
    with pytest.raises(ConfigError, match="spectral needs a grid that covers the globe, found 12 x 8 regional"):
        build(TINY, 3, 2, region, nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"truncation: 7, but .* resolves 6 at most"):
        build(TINY.model_copy(update={"truncation": 7}), 3, 2, GLOBE, nnx.Rngs(0))
    assert latitude_factor(TINY) is None


@pytest.mark.parametrize(("rows", "truncation"), [(16, 10), (32, 21), (64, 42)])
def test_of_itself_the_truncation_is_that_of_the_quadratic_grid(rows, truncation):
    """Of 3 T + 1 longitudes at least, as T21 has 64: what is finer would be aliased by products."""
    model = nnx.eval_shape(lambda: build(TINY, 3, 2, Grid.gaussian(rows), nnx.Rngs(0)))
    assert model.truncation == truncation and 3 * truncation + 1 <= 2 * rows < 3 * (truncation + 1) + 1


@pytest.mark.parametrize("truncation", [None, 304])
def test_bases_too_large_for_a_program_are_refused_before_they_are_made(truncation, monkeypatch):
    monkeypatch.setattr(SphericalHarmonics, "of", lambda *_: pytest.fail("would take a gigabyte"))
    fine = Grid.from_arrays(np.linspace(-90, 90, 721), np.arange(1440) / 4)
    config = TINY.model_copy(update={"truncation": truncation})
    reason = r"model.truncation: \d+ on .* needs \d+ MiB of constants in the program, 512 can be; choose 304 at most"
    if truncation is None:
        with pytest.raises(ConfigError, match=reason):
            build(config, 3, 2, fine, nnx.Rngs(0))
    else:
        assert forward_flops(config, 3, 2, fine) > 0
        with pytest.raises(ConfigError, match=reason):
            forward_flops(config.model_copy(update={"truncation": 305}), 3, 2, fine)
