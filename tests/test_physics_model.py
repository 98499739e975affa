"""The adapter on SPEEDY: conversions, truncation, surfaces, the clock, and the twin."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jcm")

import jax
import jax.numpy as jnp
from physics_fixtures import START, developed

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.vertical import (
    GAS_CONSTANT,
    LAPSE_RATE,
    MODEL_GRAVITY,
    sigma_geopotential,
    sigma_to_pressure,
    virtual_temperature,
)
from emulator.physics import transfer
from emulator.physics.ensemble import Ensemble
from emulator.physics.speedy import (
    PROGNOSTIC,
    UPPER_AIR,
    SpeedyModel,
    fields_of,
    filter_initial_shock,
    from_fields,
    held_fields,
    one_member,
    replicate,
)
from emulator.physics.surface import move_near_surface_temperature, move_to_surface
from emulator.speedy_facts import GAUSSIAN_ROWS, LAYERS, precipitation_name, truncation_of

pytestmark = pytest.mark.physics


def area_rms(difference: np.ndarray, grid: Grid) -> float:
    return float(np.sqrt((difference**2 * grid.latitude_weights[:, None]).mean()))


def last(fields: dict[str, np.ndarray], names: tuple[str, ...] = PROGNOSTIC) -> dict[str, np.ndarray]:
    """The last interval, ``(member, ...)``."""
    return {name: fields[name][:, -1] for name in names}


# --- grids and transforms -----------------------------------------------------------------------------------------


def test_grids_are_those_of_the_core():
    assert GAUSSIAN_ROWS.keys() >= {21, 31, 42, 63}
    for truncation, rows in GAUSSIAN_ROWS.items():
        assert transfer.gaussian_grid(truncation).matches(Grid.gaussian(rows))
        assert truncation_of(Grid.gaussian(rows)) == truncation
    with pytest.raises(DataError, match="expected a Gaussian grid"):
        truncation_of(Grid.from_arrays(np.linspace(-87.5, 87.5, 36), np.arange(72) * 5.0))


def test_layers_are_those_of_the_core():
    assert [*LAYERS] == [5, 6, 7, 8]
    for count, centres in LAYERS.items():
        assert SpeedyModel(21, count).sigma == centres


def test_winds_are_truncated_through_vorticity_and_divergence():
    """A rotational T31 wind stays rotational at T21: truncating its components as scalars would make divergence."""
    rng = np.random.default_rng(0)
    fine, coarse = 31, 21
    shape = transfer.spectral_grid(fine).modal_shape
    mask = np.asarray(transfer.spectral_grid(fine).mask)
    vorticity = transfer.spectral_grid(fine).clip_wavenumbers(jnp.asarray(rng.normal(size=(2, *shape)) * mask * 1e-6))
    vorticity = vorticity.at[..., 0, 0].set(0.0)
    u, v = transfer.winds_to_nodal(vorticity, jnp.zeros_like(vorticity), fine)
    out = transfer.regrid({"u_component_of_wind": u, "v_component_of_wind": v}, fine, coarse)
    rotation, divergence = transfer.winds_to_modal(out["u_component_of_wind"], out["v_component_of_wind"], coarse)
    assert float(jnp.abs(divergence).max()) < 1e-5 * float(jnp.abs(rotation).max())
    expected = transfer.resize(vorticity, fine, coarse)
    np.testing.assert_allclose(rotation, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    scalars = transfer.regrid({"a": u, "b": v}, fine, coarse)
    _, made = transfer.winds_to_modal(scalars["a"], scalars["b"], coarse)
    assert float(jnp.abs(made).max()) > 0.1 * float(jnp.abs(rotation).max())


def test_truncation_then_padding_is_the_truncation():
    rng = np.random.default_rng(1)
    field = jnp.asarray(rng.normal(size=(3, 48, 96)), jnp.float32)
    down = transfer.regrid({"temperature": field}, 31, 21)
    assert down["temperature"].shape == (3, 32, 64)
    there_and_back = transfer.regrid(transfer.regrid(down, 21, 31), 31, 21)
    np.testing.assert_allclose(there_and_back["temperature"], down["temperature"], atol=2e-4)


def test_a_truncation_keeps_total_wavenumbers_up_to_its_name_alone():
    shape = transfer.spectral_grid(31).modal_shape
    for total, kept in ((21, 1.0), (22, 0.0)):
        out = transfer.resize(jnp.zeros(shape).at[0, total].set(1.0), 31, 21)
        assert float(jnp.abs(out).sum()) == kept


def test_surface_pressure_is_truncated_as_its_logarithm_and_humidity_is_not_negative():
    rng = np.random.default_rng(3)
    noise = jnp.asarray(rng.normal(size=(1, 48, 96)), jnp.float32)
    out = transfer.regrid({"surface_pressure": jnp.exp(noise), "specific_humidity": noise, "other": noise}, 31, 21)
    np.testing.assert_allclose(out["surface_pressure"], jnp.exp(out["other"]), rtol=1e-4)
    np.testing.assert_array_equal(out["specific_humidity"], jnp.maximum(out["other"], 0.0))
    assert float(out["other"].min()) < 0


@pytest.mark.parametrize(("source", "target"), [(31, 21), (21, 31)])
def test_what_has_kinks_keeps_its_sign_and_on_a_coarser_grid_the_global_mean(source: int, target: int):
    rng = np.random.default_rng(2)
    a, b = transfer.gaussian_grid(source), transfer.gaussian_grid(target)
    rain = rng.exponential(size=(2, *a.shape)) * (rng.uniform(size=(2, *a.shape)) > 0.8)
    moved = transfer.with_kinks(rain, source, target)
    assert moved.shape == (2, *b.shape)
    assert moved.min() >= 0 and moved.max() <= rain.max()
    means = [(f * g.cell_areas).sum((-1, -2)) / g.cell_areas.sum() for f, g in ((rain, a), (moved, b))]
    np.testing.assert_allclose(*means, rtol=1e-5 if target < source else 0.02)
    np.testing.assert_allclose(transfer.with_kinks(np.ones(a.shape), source, target), 1.0, rtol=1e-6)


def test_what_has_kinks_comes_in_no_blocks_on_a_finer_grid():
    def smooth(grid):
        lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None]
        return np.sin(lat) + np.cos(lat) * np.cos(lon)

    coarse, fine = (smooth(transfer.gaussian_grid(t)) for t in (21, 31))
    assert np.abs(transfer.with_kinks(coarse, 21, 31) - fine).max() < 0.004  # constant in a cell: 0.05


def test_area_means_keep_the_digits_of_float32_on_every_device():
    field = jax.ShapeDtypeStruct((1, *transfer.gaussian_grid(31).shape), jnp.float32)
    program = jax.jit(transfer.with_kinks, static_argnums=(1, 2)).lower(field, 31, 21).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 2
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products), products


# --- the model and its surface ------------------------------------------------------------------------------------


def test_fields_go_into_the_state_and_come_back():
    run = developed()
    fields = last(run.fields)
    held = held_fields(fields, run.model, 21)
    assert held["temperature"].shape == (2, 8, 32, 64)
    np.testing.assert_allclose(held["temperature"], fields["temperature"], atol=2e-3)
    np.testing.assert_allclose(held["surface_pressure"], fields["surface_pressure"], rtol=2e-6)
    grid = run.grid
    # Of the winds the outermost total wavenumber is lost in going through vorticity and divergence.
    assert area_rms(held["u_component_of_wind"] - fields["u_component_of_wind"], grid) < 0.1


def test_geopotential_is_the_models_own():
    run = developed()
    state = one_member(run.model, run.states, 1).dynamics
    physics = run.model.parts.model.dycore.to_physics_state(state)
    theirs = np.swapaxes(np.asarray(physics.geopotential), -1, -2)
    fields = {name: np.asarray(field) for name, field in fields_of(run.model, state, 21).items()}
    virtual = virtual_temperature(fields["temperature"], fields["specific_humidity"])
    ours = sigma_geopotential(virtual, run.surface, np.asarray(run.model.sigma))
    np.testing.assert_allclose(ours, theirs, atol=8.0)  # of up to 3e5, in float32


def test_the_surface_is_the_cores_truncation_not_the_files_orography():
    run = developed()
    asked = 9.81 * np.swapaxes(np.asarray(run.model.parts.model.terrain.orog), -1, -2)
    assert area_rms(asked - run.surface, run.grid) > 400.0  # some 50 m
    fine = SpeedyModel(31).surface_geopotential_on(21)
    assert 500.0 < area_rms(fine - run.surface, run.grid) < 1000.0  # the trap: 50 to 100 m


def test_output_is_a_possible_atmosphere():
    fields = developed().fields
    assert fields["temperature"].shape == (2, 4, 8, 32, 64)
    assert set(fields) == {*PROGNOSTIC, precipitation_name(6), "2m_temperature"}
    rain = fields[precipitation_name(6)]
    assert rain.min() >= 0
    assert 0 < rain.max() < 0.05  # m; little in the first days from rest, when the air is still dry
    assert fields["specific_humidity"].min() >= 0
    assert 200 < fields["2m_temperature"].min() < fields["2m_temperature"].max() < 330


def test_members_differ_after_the_perturbation_and_only_then():
    run = developed()
    assert area_rms(run.fields["temperature"][0] - run.fields["temperature"][1], run.grid) > 1e-3
    twins = replicate(one_member(run.model, run.states, 0), 2)
    _, fields = run.ensemble.advance(twins)
    np.testing.assert_array_equal(fields["temperature"][0], fields["temperature"][1])


def test_each_initial_time_runs_with_its_own_date():
    run = developed()
    fields = {name: np.repeat(field[:1], 2, axis=0) for name, field in last(run.fields).items()}
    times = np.array(["1901-01-04", "1909-07-04"], dtype="datetime64[ns]")
    _, both = run.ensemble.advance(from_fields(run.model, fields, times, 21))
    one = {name: field[:1] for name, field in fields.items()}
    _, july = run.ensemble.advance(from_fields(run.model, one, times[1:], 21))
    np.testing.assert_allclose(both["temperature"][1], july["temperature"][0], atol=0.05)
    warming = (both["2m_temperature"][1] - both["2m_temperature"][0])[-1]
    northern = np.asarray(run.grid.latitude) > 40
    assert warming[northern].mean() > 5  # the surface of July under the air of January


def test_relabelled_years_have_the_same_seasons():
    run = developed()
    fields = {name: np.repeat(field[:1], 2, axis=0) for name, field in last(run.fields).items()}
    times = np.array([START, START + np.timedelta64(1461, "D")], dtype="datetime64[ns]")
    _, both = run.ensemble.advance(from_fields(run.model, fields, times, 21))
    np.testing.assert_array_equal(both["temperature"][0], both["temperature"][1])


# --- the twin -----------------------------------------------------------------------------------------------------


def test_the_truth_continued_from_its_full_run_state_is_bit_equal():
    run = developed()
    truth_states, truth = run.ensemble.advance(run.states)
    leaves, structure = jax.tree.flatten(run.states)
    restored = jax.tree.unflatten(structure, [jnp.asarray(np.asarray(leaf).copy()) for leaf in leaves])
    states, again = run.ensemble.advance(restored)
    for name in truth:
        np.testing.assert_array_equal(again[name], truth[name])
    jax.tree.map(np.testing.assert_array_equal, states, truth_states)


def test_the_truth_restarted_from_archived_untruncated_fields_stays_close():
    """What is lost: the outermost total wavenumber of the winds, and the physics' memory of its last radiation step."""
    run = developed()
    _, truth = run.ensemble.advance(run.states)
    times = np.repeat(np.datetime64(run.end, "ns"), 2)
    _, twin = run.ensemble.advance(from_fields(run.model, last(run.fields), times, 21))
    grid = run.grid
    for interval, wind, temperature, pressure in ((0, 0.03, 0.08, 2.5), (3, 0.13, 0.25, 8.0)):
        deviation = {name: area_rms(twin[name][:, interval] - truth[name][:, interval], grid) for name in truth}
        assert 0 < deviation["u_component_of_wind"] < wind
        assert deviation["temperature"] < temperature
        assert deviation["surface_pressure"] < pressure


# --- moving between surfaces --------------------------------------------------------------------------------------


def test_a_state_moved_to_another_surface_and_back_has_its_pressure_again():
    run = developed()
    fields = last(run.fields)
    sigma = np.asarray(run.model.sigma)
    own, other = run.surface, SpeedyModel(31).surface_geopotential_on(21)
    there = move_to_surface(fields, sigma, own, other)
    assert area_rms(there["surface_pressure"] - fields["surface_pressure"], run.grid) > 500.0
    back = move_to_surface(there, sigma, other, own)
    difference = back["surface_pressure"] - fields["surface_pressure"]
    assert area_rms(difference, run.grid) < 4.0
    # 0.1 hPa, but for some points where an inversion is lost on the way; the forecaster corrects for those too
    assert np.quantile(np.abs(difference), 0.99) < 10.0
    for name in UPPER_AIR:
        assert back[name].shape == fields[name].shape


@pytest.mark.parametrize("rise", [-1200.0, 0.0, 1200.0])
def test_a_column_of_the_standard_lapse_rate_moves_as_its_formula_says(rise):
    """Of moist air, whose virtual temperature falls by 6.5 K/km, over a surface that is so many metres higher."""
    sigma, humidity = np.linspace(0.02, 0.99, 60), np.full((60, 1, 1), 0.02)
    exponent = GAS_CONSTANT * LAPSE_RATE / MODEL_GRAVITY

    def virtual(pressure):
        return 300.0 * (pressure / 1e5) ** exponent

    moist = virtual_temperature(1.0, 0.02)
    column = virtual(1e5 * sigma)[:, None, None] / moist
    fields = {"temperature": column, "specific_humidity": humidity, "surface_pressure": np.full((1, 1), 1e5)}
    moved = move_to_surface(fields, sigma, np.zeros((1, 1)), np.full((1, 1), MODEL_GRAVITY * rise))
    pressure = 1e5 * ((300.0 - LAPSE_RATE * rise) / 300.0) ** (1 / exponent)
    assert moved["surface_pressure"][0, 0] == pytest.approx(pressure, abs=5.0)
    found = moved["temperature"][10:, 0, 0]  # the uppermost lie above the old column
    np.testing.assert_allclose(found, virtual(pressure * sigma)[10:] / moist, atol=0.1)
    np.testing.assert_allclose(move_near_surface_temperature(300.0, 0.0, MODEL_GRAVITY * rise), 300 - 0.0065 * rise)


def test_moving_keeps_the_air_where_it_is():
    """Temperature and wind at a pressure, and geopotential there, do not change with the surface below."""
    run = developed()
    fields = last(run.fields)
    sigma = np.asarray(run.model.sigma)
    own, other = run.surface, SpeedyModel(31).surface_geopotential_on(21)
    there = move_to_surface(fields, sigma, own, other)

    def at_500(f: dict[str, np.ndarray], surface: np.ndarray) -> tuple[np.ndarray, ...]:
        phi, t, (u,) = sigma_to_pressure(
            f["temperature"],
            f["specific_humidity"],
            [f["u_component_of_wind"]],
            f["surface_pressure"],
            surface,
            sigma,
            np.array([5e4]),
        )
        return phi, t, u

    grid = run.grid
    moved, still = at_500(there, other), at_500(fields, own)
    tolerance = (15.0, 0.2, 0.2)
    for a, b, limit in zip(moved, still, tolerance, strict=True):
        assert area_rms(a - b, grid) < limit
    unmoved = at_500(fields, other)
    assert area_rms(unmoved[0] - still[0], grid) > 500.0  # the trap


def test_the_digital_filter_takes_gravity_waves_out():
    """Divergence that is the same at all levels is carried by the fastest waves: it goes; vorticity stays."""
    run = developed()
    fields = last(run.fields)
    states = from_fields(run.model, fields, np.repeat(np.datetime64(run.end, "ns"), 2), 21)
    divergence = states.dynamics.divergence
    waves = jnp.arange(divergence.shape[-1])
    noise = 1e-6 * jax.random.normal(jax.random.key(0), (2, 1, *divergence.shape[2:])) * ((waves > 5) & (waves < 15))
    noise = jnp.broadcast_to(noise, divergence.shape) * transfer.spectral_grid(21).mask
    shaken = states.replace(dynamics=states.dynamics.replace(divergence=divergence + noise))
    calm, calmed = (filter_initial_shock(s, run.model, 6.0).dynamics for s in (states, shaken))

    def rms(x: jax.Array) -> float:
        return float(jnp.sqrt(jnp.mean(x**2)))

    assert rms(calmed.divergence - calm.divergence) < 0.3 * rms(noise)
    assert rms(calm.vorticity - states.dynamics.vorticity) < 0.3 * rms(states.dynamics.vorticity)


def test_the_rain_of_an_interval_is_the_sum_of_that_of_its_halves():
    run = developed()
    halves = Ensemble(run.model, run.states, intervals=2, interval_hours=3, output_truncation=21)
    fine, whole = (ensemble.advance(run.states)[1] for ensemble in (halves, run.ensemble))
    expected = fine[precipitation_name(3)].sum(axis=1)
    assert expected.max() > 1e-5
    np.testing.assert_allclose(whole[precipitation_name(6)][:, 0], expected, atol=1e-7)
