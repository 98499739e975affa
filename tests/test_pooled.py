"""Means and ensembles of forecasts: what is in their files, who may be a member, and how they are scored."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray as xr
from synthetic import ON_SIGMA, Noisy, evaluation_rows, lead_times, make_store

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.grid import Grid
from emulator import checkpoint
from emulator.config import parse_config
from emulator.evaluation.forecast_file import ForecastFile
from emulator.experiment import comparing, contest
from emulator.experiment.competitors import check_options
from emulator.experiment.contest import Contest
from emulator.forecast_io import write_forecasts
from emulator.forecasters.persistence import Persistence
from emulator.forecasters.pooled import PooledForecaster
from emulator.forecasters.written import WrittenForecasts


def config_of(folder, **evaluate):
    data = {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [3]}}}
    evaluate = {
        **{"lead_hours": 24, "init_every_hours": 48, "bootstrap": 50, "references": ["persistence", "climatology"]},
        **evaluate,
    }
    train = {"stages": [{"steps": 1}]}
    return parse_config({"name": "x", "workdir": str(folder), "data": data, "train": train, "evaluate": evaluate})


@pytest.fixture
def store(monkeypatch):
    """Of an experiment whose network is a noisy truth."""
    store = make_store(Grid.gaussian(8), days=12)
    monkeypatch.setattr(contest, "open_store", lambda path: store)
    monkeypatch.setattr(checkpoint, "load_forecaster", lambda run: Noisy(store, "network", 0.05, 0.1))
    return store


@dataclass(frozen=True)
class Drying(Persistence):
    """Persistence with so much less humidity, which no bound stops."""

    less: float = 0.0

    def forecast(self, initial, lead_times):
        for block in super().forecast(initial, lead_times):
            humidity = block["specific_humidity"]
            yield block.assign(specific_humidity=humidity.copy(data=humidity.values - np.float32(self.less)))


def test_a_mean_is_the_arithmetic_one_within_bounds_and_costs_what_all_members_cost(tmp_path):
    store = make_store(Grid.gaussian(8), days=6, world=ON_SIGMA)  # whose humidity is never negative
    initial, leads = store.dataset(evaluation_rows(store, 2)), lead_times(1)
    members = []
    for name, less in (("one", 0.0), ("two", 0.001), ("three", 0.004)):
        path = tmp_path / f"{name}.nc"
        drying = Drying(store.spec, store.grid, store.timestep, name, less)
        write_forecasts(drying, initial, leads, path, batch=4)
        members.append(WrittenForecasts(path, store.spec))
    mean = PooledForecaster("all", store.grid, store.timestep, tuple(members))
    write_forecasts(mean, initial, leads, tmp_path / "all.nc", batch=3, attributes=mean.attributes(initial))
    files = [xr.load_dataset(member.path) for member in members]
    found = xr.load_dataset(tmp_path / "all.nc")
    for name in found.data_vars:
        arithmetic = np.mean([file[name] for file in files], axis=0, dtype=np.float64)
        least = 0.0 if name == "specific_humidity" else -np.inf
        assert name != "specific_humidity" or (arithmetic < 0).any()
        np.testing.assert_allclose(found[name], np.maximum(arithmetic, least), rtol=1e-6, atol=1e-9)
    seconds = sum(file.attrs["seconds_per_simulated_day"] for file in files)
    assert found.attrs["mean_of"] == "one, two, three"
    file = ForecastFile.open(tmp_path / "all.nc", store)
    assert not file.is_damped  # of winds of opposite directions, which cancel in a mean with climatology too
    assert replace(file, attributes={**file.attributes, "mean_of": "network, linear_pcs"}).is_damped
    assert found.attrs["seconds_per_simulated_day"] == pytest.approx(seconds)
    assert found.attrs["simulated_days_per_second"] == pytest.approx(1 / seconds)
    ensemble = replace(mean, as_ensemble=True)
    write_forecasts(ensemble, initial, leads, tmp_path / "each.nc", batch=3, attributes=ensemble.attributes(initial))
    each = xr.load_dataset(tmp_path / "each.nc")
    damped = {**file.attributes, "ensemble_of": "network, physics_t21_damped"}
    assert replace(file, attributes=damped).is_damped
    assert each.attrs["ensemble_of"] == "one, two, three" and "mean_of" not in each.attrs
    for name in filter(lambda name: "init_time" in found[name].dims, found.data_vars):
        assert each[name].dims == ("init_time", "lead_time", "realization", *found[name].dims[2:])
        for number, own in enumerate(files):
            least = 0.0 if name == "specific_humidity" else -np.inf
            np.testing.assert_array_equal(each[name].isel(realization=number), np.maximum(own[name], least))
    later = store.dataset(evaluation_rows(store, 2)[:1] + 1)
    with pytest.raises(DataError, match=r"one.nc: lacks the initial time .*; make the forecasts again"):
        next(mean.forecast(later, leads))


def test_what_lies_in_a_file_is_read_as_it_is_asked_for(tmp_path, monkeypatch):
    """Some of the leads, a lead at a time, and initial times in another order and more than once."""
    store = make_store(Grid.gaussian(8), days=6)
    rows, leads = evaluation_rows(store, 2)[:3], lead_times(1)
    write_forecasts(Noisy(store, "network", 0.1, 0.1), store.dataset(rows), leads, tmp_path / "network.nc")
    pooled = PooledForecaster(
        "all", store.grid, store.timestep, (WrittenForecasts(tmp_path / "network.nc", store.spec),) * 2
    )
    monkeypatch.setattr("emulator.forecasters.lead_blocks._BLOCK_BYTES", 1)
    order = [2, 0, 2]
    parts = list(pooled.forecast(store.dataset(rows[order]), leads[1:]))
    assert [part.sizes["lead_time"] for part in parts] == [1] * (leads.size - 1)
    found, whole = xr.concat(parts, "lead_time"), xr.load_dataset(tmp_path / "network.nc")
    for name in ("temperature", "2m_temperature"):
        expected = whole[name].isel(init_time=order, lead_time=slice(1, None))
        np.testing.assert_allclose(found[name].transpose(*expected.dims), expected, rtol=1e-6)


def test_a_mean_is_scored_as_a_forecaster_like_others(store, tmp_path):
    config = config_of(tmp_path, means={"both": ["network", "persistence"]})
    comparing.write_all_forecasts(config)
    assert (tmp_path / "forecasts" / "means" / "both.nc").exists()
    comparing.score_all_forecasts(config)
    scores = xr.load_dataset(tmp_path / "scores.nc")
    assert scores["forecaster"].values.tolist() == ["network", "persistence", "climatology", "both"]
    pair = scores.sel(forecaster="both", region="all")
    assert np.isfinite(pair["rmse"]).all()
    assert (pair["crossover_outcome"].sel(reference=["network", "persistence", "climatology"]) != "").all()
    cost = scores["seconds_per_simulated_day"]
    assert float(cost.sel(forecaster="both")) == pytest.approx(float(cost[:2].sum()))


def test_an_ensemble_of_forecasters_is_scored_like_one_and_has_the_error_of_their_mean(store, tmp_path):
    of = ["network", "persistence"]
    config = config_of(tmp_path, means={"both": of}, ensembles={"each": of})
    comparing.write_all_forecasts(config)
    comparing.score_all_forecasts(config)
    scores = xr.load_dataset(tmp_path / "scores.nc").sel(region="all")
    np.testing.assert_allclose(*(scores["rmse"].sel(forecaster=name) for name in ("both", "each")), rtol=1e-4)
    assert (scores["crps_biased"].sel(forecaster="each") < scores["mae"].sel(forecaster="both")).all()
    assert (scores["ensemble_spread"].sel(forecaster="each") > 0).all()
    again = config_of(tmp_path, ensembles={"both": of})
    with pytest.raises(UserError, match=r"means/both.nc: was made with other options"):
        check_options(Contest(again, store))


@pytest.mark.parametrize(
    ("evaluate", "expected"),
    [
        ({"ensembles": {"m": ["network", "monkey"]}}, r"ensembles.m: monkey: no single forecaster"),
        (
            {"means": {"m": ["network", "persistence"]}, "ensembles": {"m": ["network", "persistence"]}},
            r"ensembles.m: a forecaster of the experiment has this name",
        ),
        ({"means": {"m": ["network", "monkey"]}}, r"means.m: monkey: no single forecaster; there are network, physics"),
        (
            {"means": {"m": ["network", "persistence", "network"]}},
            r"means.m: network is there twice; all members weigh",
        ),
        ({"ensembles": {"m": ["network", "network"]}}, r"ensembles.m: network is there twice"),
        ({"means": {"m": ["network", "physics_t21_ensemble"]}}, r"means.m: physics_t21_ensemble: no single forecaster"),
        ({"means": {"m": ["network", "persistence"], "n": ["m", "network"]}}, r"means.n: m: no single forecaster"),
        ({"means": {"climatology": ["network", "persistence"]}}, r"means.climatology: a forecaster of the experiment"),
        (
            {"means": {"m": ["network", "persistence"]}, "forecasts": {"m": "x.nc"}},
            r"forecasts.m: a forecaster of the experiment has this name; choose another",
        ),
    ],
)
def test_what_is_no_mean_is_refused_by_its_key(store, tmp_path, evaluate, expected):
    config = config_of(tmp_path, physics=[{"truncation": 21, "members": 2}], **evaluate)
    with pytest.raises(ConfigError, match=f"^evaluate.{expected}"):
        comparing.forecast_paths(Contest(config, store))


def test_a_mean_of_one_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluate.means.m: list should have at least 2 items"):
        config_of(tmp_path, means={"m": ["network"]})
