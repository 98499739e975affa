"""Hydrostatics and interpolation against atmospheres whose answers are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import DataError
from data_prep.spec import VERTICAL_ATTRS
from data_prep.vertical import (
    GAS_CONSTANT,
    LAPSE_RATE,
    MODEL_GRAVITY,
    derive,
    geopotential_below_ground,
    interpolate,
    mean_sea_level_pressure,
    pressure_to_sigma,
    sigma_geopotential,
    sigma_to_pressure,
    surface_pressure_from_geopotential,
    surface_temperature,
    temperature_below_ground,
    virtual_temperature,
)

SIGMA = np.array([0.025, 0.095, 0.2, 0.34, 0.51, 0.685, 0.835, 0.95])
FINE = (np.arange(400) + 0.5) / 400
SHAPE = (3, 5)  # latitudes, longitudes: unequal, so that a turned axis shows


def column(values: np.ndarray) -> np.ndarray:
    """One profile everywhere, ``(level, latitude, longitude)``."""
    return np.broadcast_to(values[:, None, None], (values.size, *SHAPE)).copy()


def standard_temperature(pressure: np.ndarray, sea_level: float = 288.15) -> np.ndarray:
    """Temperature of the atmosphere with a lapse rate of 6.5 K/km at these pressures."""
    return sea_level * (pressure / 101325.0) ** (GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY)


def standard_pressure(geopotential: np.ndarray) -> np.ndarray:
    return 101325.0 * (1 - LAPSE_RATE * geopotential / (MODEL_GRAVITY * 288.15)) ** (
        MODEL_GRAVITY / (GAS_CONSTANT * LAPSE_RATE)
    )


def test_isothermal_geopotential_is_exact():
    surface = np.linspace(0, 5000, 15).reshape(SHAPE)
    expected = surface - GAS_CONSTANT * 250.0 * np.log(SIGMA)[:, None, None]
    np.testing.assert_allclose(sigma_geopotential(column(np.full(8, 250.0)), surface, SIGMA), expected, rtol=1e-12)


def test_geopotential_of_a_temperature_linear_in_log_pressure_is_exact_above_the_lowest_level():
    x = np.log(SIGMA)
    virtual = 280 + 30 * x
    phi = sigma_geopotential(column(virtual), np.zeros(SHAPE), SIGMA)[:, 0, 0]
    integral = GAS_CONSTANT * (280 * x + 15 * x**2)
    np.testing.assert_allclose(phi - phi[-1], integral[-1] - integral, rtol=1e-12)


def test_on_a_sigma_level_pressure_fields_are_the_sigma_fields():
    rng = np.random.default_rng(0)
    temperature = column(200 + 90 * SIGMA) + rng.normal(size=(8, *SHAPE))
    humidity = column(0.01 * SIGMA**3)
    wind = rng.normal(size=(8, *SHAPE))
    surface = rng.uniform(0, 3e4, SHAPE)
    pressure = np.full(SHAPE, 9e4)
    phi, t, (u,) = sigma_to_pressure(temperature, humidity, [wind], pressure, surface, SIGMA, SIGMA * 9e4)
    np.testing.assert_allclose(t, temperature, rtol=1e-10)
    np.testing.assert_allclose(u, wind, rtol=1e-9, atol=1e-12)
    expected = sigma_geopotential(virtual_temperature(temperature, humidity), surface, SIGMA)
    np.testing.assert_allclose(phi, expected, rtol=1e-10)


def test_a_fine_standard_atmosphere_is_recovered_on_pressure_levels():
    surface = np.linspace(0, 1.5e4, 15).reshape(SHAPE)
    pressure = standard_pressure(surface)
    temperature = standard_temperature(FINE[:, None, None] * pressure)
    levels = np.array([3e4, 5e4, 7e4])
    dry = np.zeros_like(temperature)
    phi, t, _ = sigma_to_pressure(temperature, dry, [], pressure, surface, FINE, levels)
    np.testing.assert_allclose(t, column(standard_temperature(levels)), rtol=1e-5)
    exact = MODEL_GRAVITY * 288.15 / LAPSE_RATE * (1 - (levels / 101325) ** (GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY))
    np.testing.assert_allclose(phi, column(exact), atol=2.0)


def test_sea_level_pressure_of_a_standard_atmosphere_is_1013_hpa_at_every_height():
    surface = np.linspace(-500, 2.5e4, 15).reshape(SHAPE)
    pressure = standard_pressure(surface)
    lowest = standard_temperature(0.99 * pressure)
    reduced = mean_sea_level_pressure(pressure, surface, lowest, 0.99)
    np.testing.assert_allclose(reduced, 101325.0, rtol=4e-4)


def test_sea_level_pressure_at_sea_level_is_surface_pressure():
    pressure = np.linspace(9.8e4, 1.04e5, 15).reshape(SHAPE)
    np.testing.assert_array_equal(
        mean_sea_level_pressure(pressure, np.zeros(SHAPE), np.full(SHAPE, 300.0), 0.95), pressure
    )


def test_hot_and_cold_surfaces_are_reduced_with_the_precautions_of_trenberth():
    surface = np.full(SHAPE, 1.5e4)
    pressure = np.full(SHAPE, 8.5e4)

    def reduced(warmth: float) -> float:
        lowest = warmth / (1 + GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY * (1 / 0.95 - 1))
        return float(mean_sea_level_pressure(pressure, surface, np.full(SHAPE, lowest), 0.95)[0, 0])

    x = 1.5e4 / GAS_CONSTANT
    assert reduced(310.0) == pytest.approx(8.5e4 * np.exp(x / 300.25), rel=1e-6)  # isothermal, halfway to 290.5 K
    y = x / 247.5 * GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY
    assert reduced(240.0) == pytest.approx(8.5e4 * np.exp(x / 247.5 * (1 - y / 2 + y**2 / 3)), rel=1e-6)
    # in between, the lapse rate that reaches 290.5 K at sea level
    alpha = GAS_CONSTANT * (290.5 - 285.0) / 1.5e4
    z = alpha * x / 285.0
    assert reduced(285.0) == pytest.approx(8.5e4 * np.exp(x / 285.0 * (1 - z / 2 + z**2 / 3)), rel=1e-6)


def test_geopotential_below_ground_vanishes_at_the_reduced_pressure():
    surface = np.linspace(100, 2e4, 15).reshape(SHAPE)
    lowest = np.linspace(235, 310, 15).reshape(SHAPE)
    pressure = np.full(SHAPE, 9e4)
    reduced = mean_sea_level_pressure(pressure, surface, lowest, 0.95)
    phi = geopotential_below_ground(np.log(reduced / pressure), surface, surface_temperature(lowest, 0.95))
    np.testing.assert_allclose(phi, 0.0, atol=25.0)  # the two series are cut at different orders: 2.5 m of 2 km


def test_temperature_below_a_plateau_stays_below_298_k():
    surface = np.full(SHAPE, 4.5e4)
    at_sea_level = temperature_below_ground(np.full(SHAPE, np.log(1e5 / 5.8e4)), surface, np.full(SHAPE, 285.0))
    lapse = temperature_below_ground(np.full(SHAPE, np.log(1e5 / 5.8e4)), np.full(SHAPE, 1e4), np.full(SHAPE, 285.0))
    assert at_sea_level.max() < 299
    assert lapse.min() > 310


def test_below_ground_the_series_are_those_of_a_constant_lapse_rate():
    """Of temperature as a power of pressure, which integrates to a geopotential in closed form."""
    alpha = GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY
    depth, surface, ground = np.full(SHAPE, np.log(1e5 / 7.5e4)), np.full(SHAPE, 1e4), np.full(SHAPE, 270.0)
    warmth = temperature_below_ground(depth, surface, ground)
    np.testing.assert_allclose(warmth, 270.0 * np.exp(alpha * depth), rtol=1e-6)
    integral = GAS_CONSTANT * 270.0 / alpha * np.expm1(alpha * depth)
    np.testing.assert_allclose(geopotential_below_ground(depth, surface, ground), surface - integral, atol=0.5)


def test_between_low_ground_and_plateaus_the_limit_comes_in_gradually():
    """At 2250 m sea-level temperature is half way to the limit of 298 K (IFS documentation, part VI, 5.3)."""
    surface = np.full(SHAPE, 2250.0 * MODEL_GRAVITY)
    ground = np.full(SHAPE, 310.0 - LAPSE_RATE * 2250.0)
    alpha = GAS_CONSTANT * (304.0 - ground) / surface
    depth = np.full(SHAPE, 0.2)
    found = temperature_below_ground(depth, surface, ground)
    np.testing.assert_allclose(found, ground * np.exp(alpha * depth), rtol=1e-6)


def test_beyond_the_outer_levels_an_isothermal_atmosphere_keeps_its_geopotential():
    """Above the topmost level, and between the lowest one and the ground."""
    surface, pressure = np.linspace(0, 5000, 15).reshape(SHAPE), np.full(SHAPE, 9.9e4)
    levels = np.array([500.0, 5e4, 9.6e4, 9.8e4])
    temperature = column(np.full(8, 250.0))
    phi, _, _ = sigma_to_pressure(temperature, np.zeros_like(temperature), [], pressure, surface, SIGMA, levels)
    expected = surface - GAS_CONSTANT * 250.0 * np.log(levels / 9.9e4)[:, None, None]
    np.testing.assert_allclose(phi, expected, rtol=1e-9)


def test_at_and_below_the_ground_pressure_fields_are_those_of_the_ground():
    surface, pressure = np.linspace(100, 1.5e4, 15).reshape(SHAPE), np.full(SHAPE, 9e4)
    temperature, humidity = column(200 + 90 * SIGMA), column(0.01 * SIGMA**3)
    levels = np.array([9e4, 9.5e4, 1e5])
    phi, warmth, (moisture,) = sigma_to_pressure(temperature, humidity, [humidity], pressure, surface, SIGMA, levels)
    ground = surface_temperature(temperature[-1], 0.95)
    np.testing.assert_allclose(warmth[0], ground, rtol=1e-9)
    moist_ground = surface_temperature(virtual_temperature(temperature[-1], humidity[-1]), 0.95)
    for row in (1, 2):
        depth = np.full(SHAPE, np.log(levels[row] / 9e4))
        np.testing.assert_allclose(warmth[row], temperature_below_ground(depth, surface, ground))
        np.testing.assert_allclose(phi[row], geopotential_below_ground(depth, surface, moist_ground))
        np.testing.assert_allclose(moisture[row], humidity[-1])


def test_moist_air_is_as_light_as_warmer_dry_air():
    """A hundredth of vapour, of which the gas constant is 461.51 / 287.04 times that of dry air: 0.608 % of 300 K."""
    np.testing.assert_allclose(virtual_temperature(np.array(300.0), np.array(0.01)), 301.823, atol=1e-3)


def test_interpolation_is_linear_inside_and_constant_outside():
    knots = np.array([0.0, 1.0, 3.0])
    field = column(np.array([10.0, 20.0, 60.0]))
    positions = column(np.array([-1.0, 0.5, 1.0, 2.0, 3.0, 9.0]))
    np.testing.assert_allclose(interpolate(field, knots, positions)[:, 1, 2], [10, 15, 20, 40, 60, 60])


def test_surface_pressure_is_found_where_geopotential_is_the_surfaces():
    levels = np.array([1, 5, 10, 20, 30, 50, 70, *range(100, 1001, 25)]) * 100.0
    temperature = standard_temperature(levels)
    phi = MODEL_GRAVITY / LAPSE_RATE * (288.15 - temperature)
    surface = np.linspace(-300, 4e4, 15).reshape(SHAPE)  # the first lies below the lowest level
    found = surface_pressure_from_geopotential(column(phi), column(temperature), levels, surface)
    np.testing.assert_allclose(found, standard_pressure(surface), rtol=2e-4)


def test_pressure_to_sigma_and_back_keeps_a_profile_that_is_linear_in_log_pressure():
    levels = np.array([10, 100, 300, 500, 700, 850, 1000]) * 100.0
    field = 250 + 10 * np.log(levels / 1e5)
    surface_pressure = np.linspace(7e4, 9.9e4, 15).reshape(SHAPE)
    on_sigma = pressure_to_sigma(column(field), levels, surface_pressure, SIGMA)
    expected = 250 + 10 * np.log(SIGMA[:, None, None] * surface_pressure / 1e5)
    np.testing.assert_allclose(on_sigma, expected, rtol=1e-12)
    back = interpolate(on_sigma, np.log(SIGMA), np.log(column(np.array([3e4, 5e4])) / surface_pressure))
    np.testing.assert_allclose(back, column(field[2:4]), rtol=1e-12)


@pytest.fixture
def sigma_dataset() -> xr.Dataset:
    rng = np.random.default_rng(1)
    lead = {"init_time": 2, "lead_time": 3, "realization": 2}
    upper = (*lead, "level", "latitude", "longitude")
    flat = (*lead, "latitude", "longitude")
    shape = (2, 3, 2, 8, *SHAPE)
    level = ("level", SIGMA, VERTICAL_ATTRS["sigma"])
    temperature = 210 + 80 * SIGMA[:, None, None] + rng.normal(size=shape)
    return xr.Dataset(
        {
            "temperature": (upper, temperature.astype(np.float32)),
            "specific_humidity": (upper, rng.uniform(0, 0.01, shape).astype(np.float32)),
            "u_component_of_wind": (upper, rng.normal(size=shape).astype(np.float32)),
            "surface_pressure": (flat, rng.uniform(7e4, 1.03e5, shape[:3] + SHAPE).astype(np.float32)),
            "2m_temperature": (flat, rng.normal(280, 5, shape[:3] + SHAPE).astype(np.float32)),
            "geopotential_at_surface": (("latitude", "longitude"), rng.uniform(-300, 3e4, SHAPE).astype(np.float32)),
        },
        coords={"level": level, "latitude": [-30.0, 0.0, 30.0], "longitude": np.arange(5) * 72.0},
    )


def test_derive_treats_every_leading_index_alike(sigma_dataset):
    whole = derive(sigma_dataset, [850, 500])
    assert whole["temperature"].dims == ("init_time", "lead_time", "realization", "level", "latitude", "longitude")
    np.testing.assert_array_equal(whole["level"], [500.0, 850.0])
    assert whole["level"].attrs["units"] == "hPa"
    one = derive(sigma_dataset.isel(init_time=1, lead_time=2, realization=0), [500, 850])
    for name in ("geopotential", "temperature", "u_component_of_wind", "mean_sea_level_pressure"):
        np.testing.assert_allclose(whole[name].isel(init_time=1, lead_time=2, realization=0), one[name], rtol=1e-5)
        assert whole[name].dtype == np.float32
    xr.testing.assert_identical(whole["2m_temperature"], sigma_dataset["2m_temperature"])


def test_derive_gives_every_field_of_its_own_level(sigma_dataset):
    one = sigma_dataset.isel(init_time=1, lead_time=2, realization=0)
    found = derive(one, [850, 300])
    fields = [one[name].values for name in ("temperature", "specific_humidity", "surface_pressure")]
    temperature, humidity, pressure = fields
    surface = one["geopotential_at_surface"].values
    others = ["specific_humidity", "u_component_of_wind"]
    phi, warmth, rest = sigma_to_pressure(
        temperature, humidity, [one[n].values for n in others], pressure, surface, SIGMA, np.array([3e4, 8.5e4])
    )
    for name, expected in zip(("geopotential", "temperature", *others), (phi, warmth, *rest), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    reduced = mean_sea_level_pressure(pressure, surface, virtual_temperature(temperature[-1], humidity[-1]), SIGMA[-1])
    np.testing.assert_allclose(found["mean_sea_level_pressure"], reduced, rtol=1e-6)


def test_geopotential_that_sigma_files_hold_is_derived_all_the_same(sigma_dataset):
    """Interpolated, it would stay that of the lowest level below it and below the ground."""
    held = sigma_dataset.assign(geopotential=sigma_dataset["temperature"] * 100)
    xr.testing.assert_equal(derive(held, [500, 1000]), derive(sigma_dataset, [500, 1000]))


def test_derive_does_not_depend_on_the_order_of_dimensions(sigma_dataset):
    turned = sigma_dataset.transpose("longitude", "level", "latitude", ...)
    derived = derive(turned, [700])["geopotential"]
    expected = derive(sigma_dataset, [700])["geopotential"]
    np.testing.assert_allclose(derived.transpose(*expected.dims), expected, rtol=1e-6)


def test_derive_says_what_is_missing(sigma_dataset):
    with pytest.raises(DataError, match="lack specific_humidity, geopotential_at_surface"):
        derive(sigma_dataset.drop_vars(["specific_humidity", "geopotential_at_surface"]), [500])


def test_derive_selects_pressure_levels():
    dataset = xr.Dataset(
        {"geopotential": (("level", "latitude", "longitude"), np.arange(45.0).reshape(3, *SHAPE))},
        coords={"level": ("level", [300.0, 500.0, 850.0], VERTICAL_ATTRS["pressure"])},
    )
    np.testing.assert_array_equal(derive(dataset, [850, 500])["level"], [500, 850])
    np.testing.assert_array_equal(derive(dataset.drop_attrs(), [300])["level"], [300])  # no sigma is above one
    with pytest.raises(DataError, match=r"lacks level 700; it has 300, 500, 850"):
        derive(dataset, [500, 700])


def test_below_a_hot_plateau_temperature_does_not_fall():
    """Where the ground is warmer than the limit at sea level, 298 K, the lapse rate is none and not a negative one."""
    surface, ground = np.full(SHAPE, 3000.0 * MODEL_GRAVITY), np.full(SHAPE, 305.0)
    found = temperature_below_ground(np.full(SHAPE, 0.3), surface, ground)
    np.testing.assert_allclose(found, 305.0, rtol=1e-12)


def test_between_the_lowest_level_and_the_ground_temperature_goes_on_to_that_of_the_ground():
    """Linearly in the logarithm of pressure: a third of the way down it has a third of the difference."""
    temperature, pressure = column(200 + 90 * SIGMA), np.full(SHAPE, 9e4)
    share = np.array([0.25, 1 / 3, 0.9])
    levels = 9e4 * SIGMA[-1] ** (1 - share)
    dry = np.zeros_like(temperature)
    _, found, _ = sigma_to_pressure(temperature, dry, [], pressure, np.full(SHAPE, 1000.0), SIGMA, levels)
    lowest = temperature[-1]
    ground = surface_temperature(lowest, SIGMA[-1])
    np.testing.assert_allclose(found, lowest + share[:, None, None] * (ground - lowest), rtol=1e-9)
