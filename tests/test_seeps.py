"""SEEPS: worked out by hand, and the properties that its authors ask for."""

import math

import numpy as np
import pytest
import xarray as xr
from synthetic import World, evaluation_rows, lead_times, make_store, with_state

from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec, Variable
from emulator.config import EvaluateConfig
from emulator.evaluation import seeps
from emulator.evaluation.scores import evaluate
from emulator.evaluation.seeps import RainClimate, dry_below_m
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference

MM = 1e-3
DRY_M = 0.25 * MM
RAIN = Variable("total_precipitation_6hr", "diagnostic", (), "m", minimum=0.0)
WET = World(
    StateSpec((Variable("temperature", "prognostic", (500.0,), "K"), RAIN), "pressure"),
    np.array([255, 1e-4], "f4"),
    np.array([3, 1e-3], "f4"),
)


def climate(dry_share=0.4, heavy_mm=5.0, shape=(1, 1)):
    return RainClimate(np.full(shape, dry_share), np.full(shape, heavy_mm * MM), DRY_M)


def test_penalties_by_hand():
    """p1 = 0.4: dry-light 1/(2 0.6), dry-heavy 4/(2 0.6), light-dry 1/(2 0.4), light-heavy 3/(2 0.6),
    heavy-dry (1/0.4 + 3/2.4)/2, heavy-light (3/2.4)/2; forecast first."""
    dry, light, heavy = 0.1 * MM, 1.0 * MM, 6.0 * MM
    wanted = {
        (dry, dry): 0.0, (dry, light): 1 / 1.2, (dry, heavy): 4 / 1.2,
        (light, dry): 1 / 0.8, (light, light): 0.0, (light, heavy): 3 / 1.2,
        (heavy, dry): (2.5 + 1.25) / 2, (heavy, light): 1.25 / 2, (heavy, heavy): 0.0,
    }  # fmt: skip
    for (forecast, truth), value in wanted.items():
        found = climate().score(np.full((1, 1), forecast), np.full((1, 1), truth))
        assert found[0, 0] == pytest.approx(value), (forecast, truth)
    edge = climate().score(np.full((1, 1), DRY_M), np.full((1, 1), DRY_M - 1e-9))
    assert edge[0, 0] == pytest.approx(wanted[light, dry])  # a quarter of a millimetre is no longer dry


def test_a_constant_forecast_scores_one_and_the_truth_zero():
    rng = np.random.default_rng(0)
    rain = np.where(rng.random((6000, 1, 2)) < [[0.3, 0.7]], 0.0, rng.exponential(4 * MM, size=(6000, 1, 2)) + DRY_M)
    own = RainClimate.of(rain, DRY_M)
    np.testing.assert_allclose(own.dry_share[0], [0.3, 0.7], atol=0.03)
    assert own.score(rain, rain).max() == 0
    for constant in (0.0, 0.5 * MM, 1.0):
        assert own.score(np.full_like(rain, constant), rain).mean(axis=0) == pytest.approx(1.0, abs=0.02)
    shuffled = rng.permutation(rain)
    assert own.score(shuffled, rain).mean() == pytest.approx(1.0, abs=0.05)


def test_too_dry_and_too_wet_places_are_masked():
    own = RainClimate(np.array([[0.05, 0.1, 0.85, 0.9]]), np.full((1, 4), 5 * MM), DRY_M)
    assert own.scored.tolist() == [[False, True, True, False]]
    wrong = own.score(np.zeros((1, 4)), np.full((1, 4), 9 * MM))
    assert (wrong[0, [0, 3]] == 0).all() and (wrong[0, [1, 2]] > 0).all()
    weights = np.array([[[0.25, 0.25, 0.25, 0.25]], [[1.0, 0.0, 0.0, 0.0]]])
    means = own.area_means(np.zeros((3, 1, 4)), np.full((3, 1, 4), 9 * MM), weights)
    np.testing.assert_allclose(means[:, 0], wrong[0, [1, 2]].mean())
    assert np.isnan(means[:, 1]).all()  # no point of this region is scored


def test_a_quarter_of_a_millimetre_is_no_longer_dry_in_the_climate_either():
    rain = np.array([0.0, np.nextafter(DRY_M, 0), DRY_M, 2 * DRY_M])[:, None, None]
    own = RainClimate.of(rain, DRY_M)
    assert own.dry_share[0, 0] == 0.5
    assert own.heavy_m[0, 0] == pytest.approx((1 + 2 / 3) * DRY_M)  # two thirds of the way between the two wet ones


def test_where_it_never_rains_nothing_is_heavy():
    own = RainClimate.of(np.zeros((10, 1, 1)), DRY_M)
    assert own.dry_share[0, 0] == 1 and own.heavy_m[0, 0] == np.inf and not own.scored[0, 0]


def test_shorter_sums_are_dry_below_less():
    for interval, mm in (("_6hr", 0.1), ("_12hr", 0.1), ("_24hr", 0.25), ("", 0.25)):
        assert dry_below_m(f"total_precipitation{interval}") == pytest.approx(mm * MM)


def test_the_climate_of_a_large_grid_is_that_of_as_many_fields_as_fit_into_memory(monkeypatch):
    store = make_store(days=12, world=WET)
    whole, read = RainClimate.fit(store, RAIN.name), []
    read_state = Store.read_state
    monkeypatch.setattr(Store, "read_state", lambda *arguments: read.append(arguments) or read_state(*arguments))
    monkeypatch.setattr(seeps, "_MOST_BYTES", 30 * 4 * math.prod(store.grid.shape))
    part = RainClimate.fit(store, RAIN.name)
    assert len(read) == 30
    assert 0.2 < whole.dry_share.mean() < 0.8 and abs(part.dry_share.mean() - whole.dry_share.mean()) < 0.1


def test_the_climate_of_rain_is_that_of_training_data_alone():
    store = make_store(Grid.gaussian(8), days=12, world=WET)
    dry = store.state.copy()
    dry[store.rows_of("test")] = 0
    ours, theirs = (RainClimate.fit(s, RAIN.name).dry_share for s in (store, with_state(store, dry)))
    np.testing.assert_array_equal(ours, theirs)


def test_seeps_is_of_the_forecast_against_the_truth(tmp_path):
    store = make_store(Grid.gaussian(8), days=12, world=WET)
    rows, leads = evaluation_rows(store, 1), lead_times(1)
    write_forecasts(make_reference("climatology", store, leads), store.dataset(rows), leads, tmp_path / "c.nc")
    scores = evaluate({"climatology": tmp_path / "c.nc"}, store, EvaluateConfig(bootstrap=20), tmp_path / "scores.nc")
    forecast = xr.open_dataset(tmp_path / "c.nc")[RAIN.name].values
    truth = np.stack([store.state[row + 1 : row + 5, ..., 1] for row in rows])
    weights = store.grid.latitude_weights[:, None] / np.prod(store.grid.shape) * np.ones((1, *store.grid.shape))
    wanted = RainClimate.fit(store, RAIN.name).area_means(forecast, truth, weights)[..., 0].mean(axis=0)
    found = scores["seeps"].sel(forecaster="climatology", variable=RAIN.name, region="all").mean("init_time")
    np.testing.assert_allclose(found, wanted)
