"""The program from Python: the lines of the README, and what they refuse."""

import errno
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import ON_SIGMA, World, evaluation_rows, make_store
from tiny_store import TIMESTEP, write_store
from weather_files import HOUR, times_from
from world_files import region, region_section

import emulator
from data_prep.config import DataConfig
from data_prep.errors import ConfigError, DataError
from data_prep.files.disk import DiskError
from data_prep.files.npz import read_arrays, write_arrays
from data_prep.grid import Grid
from data_prep.preparation.other_truth import with_truth
from data_prep.preparation.pipeline import prepare
from data_prep.reading import opening
from data_prep.reading.opening import format_of
from data_prep.spec import StateSpec, Variable
from emulator.cli import main
from emulator.config import EvaluateConfig, RolloutStage, TrainConfig, UNetConfig
from emulator.evaluation.scores import evaluate
from emulator.forecast import forecast_file, lead_times
from emulator.forecast_io import write_forecasts
from emulator.forecasters.persistence import Persistence
from emulator.forecasters.statistical import make_reference
from emulator.given_forecasts import _why_not_ours
from emulator.training.train import train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A file as its user has it, north first and under names of its own, its store, and a network trained on it."""
    folder = tmp_path_factory.mktemp("work")
    north_first = region().isel(latitude=slice(None, None, -1))
    data = north_first.rename(temperature="warmth", latitude="lat", longitude="lon")
    data.to_netcdf(folder / "mine.nc")
    section = region_section([str(folder / "mine.nc")], temperature="warmth")
    prepare(DataConfig.model_validate(section), folder / "store.zarr", folder)
    training = TrainConfig(batch_size=4, stages=[RolloutStage(steps=2)], validation_windows=2, validation_steps=2)
    model = UNetConfig(patch=1, width=8, multipliers=[1], blocks=1)
    train(training, model, folder / "store.zarr", folder / "run", 0, {"data": section})
    return folder


def test_from_files_to_a_plot_in_ten_lines(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = emulator.open_store(work / "store.zarr")
    network = emulator.load_forecaster(work / "run")
    initial = xr.open_dataset(work / "mine.nc").isel(time=slice(88, 112, 4))
    forecast = emulator.predict(network, initial, days=2)
    scores = emulator.score({"network": forecast}, store, headline=["temperature@850"])
    files = emulator.plot(scores, "plots")
    assert scores["rmse"].sel(variable="temperature@850", region="all").dims == ("forecaster", "lead_time")
    assert scores["forecaster"].values.tolist() == ["network", "persistence", "climatology"]
    assert np.isfinite(scores["rmse"]).all()
    assert forecast["temperature"].dims == ("init_time", "lead_time", "level", "latitude", "longitude")
    assert (tmp_path / "plots" / "skill.png") in [tmp_path / f for f in files]


def test_a_forecast_does_not_take_the_place_of_its_initial_fields(work):
    before = (work / "mine.nc").read_bytes()
    with pytest.raises(DataError, match=r"mine.nc: is the file with the initial fields; write the forecast to another"):
        forecast_file(work / "run", [work / "mine.nc"], work / "run" / ".." / "mine.nc", days=1)
    with pytest.raises(DataError, match=r"mine.nc: is a file of the driving data; write the forecast to another one"):
        forecast_file(work / "run", [work / "store.zarr"], work / "mine.nc", days=1, lateral=[str(work / "mine.nc")])
    assert (work / "mine.nc").read_bytes() == before


def test_a_forecast_is_that_of_the_command(work, tmp_path):
    forecast_file(work / "run", [work / "mine.nc"], tmp_path / "f.nc", days=1, time="2001-01-25T06")
    with xr.open_dataset(tmp_path / "f.nc") as file, xr.open_dataset(work / "mine.nc") as mine:
        made = emulator.predict(
            emulator.load_forecaster(work / "run"), mine.sel(time=["2001-01-25T06", "2001-01-26T00"]), days=1
        )
        for name in ("temperature", "mean_sea_level_pressure"):
            np.testing.assert_allclose(made[name].isel(init_time=0), file[name], rtol=1e-5)
    there = pd.Timestamp("2001-01-26T02", tz="+02:00")
    for times in (["2001-01-25T06", "2001-01-26T00"], [np.datetime64("2001-01-25T06"), there]):
        chosen = emulator.predict(emulator.load_forecaster(work / "run"), work / "mine.nc", days=1, times=times)
        xr.testing.assert_equal(chosen, made)
    store = emulator.open_store(work / "store.zarr")
    in_memory, in_file = (
        emulator.score({"network": f}, store, references=[], bootstrap=50)["rmse"]
        for f in (made.isel(init_time=[0]), tmp_path / "f.nc")
    )
    xr.testing.assert_allclose(in_memory, in_file)


def test_initial_fields_may_lie_in_several_files(work, tmp_path, capsys):
    """A variable each, over other times, as archives keep them; the last time that all have is the initial time."""
    parts = tmp_path / "parts"
    parts.mkdir()
    with xr.open_dataset(work / "mine.nc") as mine:
        mine[["warmth"]].isel(time=slice(0, -1)).to_netcdf(parts / "a.nc")
        mine.drop_vars("warmth").isel(time=slice(40, None)).to_netcdf(parts / "b.nc")
        mine[["warmth"]].isel(time=slice(0, 40)).to_netcdf(tmp_path / "early.nc")
        last = str(mine.time.values[-2])
    run, out = work / "run", tmp_path / "out.nc"
    forecast_file(run, [work / "mine.nc"], tmp_path / "whole.nc", days=1, time=last)
    for given in ([str(parts)], [str(parts / "b.nc"), str(tmp_path / "early.nc"), str(parts / "a.nc")]):
        assert main(["forecast", str(run), *given, "--days", "1", "--out", str(out)]) == 0
        with xr.open_dataset(out) as found, xr.open_dataset(tmp_path / "whole.nc") as wanted:
            xr.testing.assert_identical(found.drop_attrs(), wanted.drop_attrs())
    for given, said in (
        ([parts / "a.nc"], "a.nc: missing"),
        ([tmp_path / "early.nc", parts / "b.nc"], "early.nc and 1 more: no time at which all variables are there"),
    ):
        assert main(["forecast", str(run), *map(str, given), "--days", "1", "--out", str(out)]) == 1
        assert said in capsys.readouterr().err


def test_forecasts_in_memory_are_described_as_their_file_is(tmp_path):
    @dataclass(frozen=True)
    class OnASurface(Persistence):
        surface_geopotential: np.ndarray | None = None

    store = make_store(days=8)
    surface = np.ones(store.grid.shape, np.float32)
    forecaster = OnASurface(store.spec, store.grid, store.timestep, surface_geopotential=surface)
    initial, leads = store.dataset([0, 1]), np.arange(1, 5) * TIMESTEP
    write_forecasts(forecaster, initial, leads, tmp_path / "f.nc", surface_geopotential=surface)
    made = emulator.predict(forecaster, initial, days=1)
    with xr.open_dataset(tmp_path / "f.nc") as file:
        assert list(made.attrs) == list(file.attrs)
        own = ("history", "seconds_per_simulated_day", "simulated_days_per_second")  # of each run
        assert all(made.attrs[key] == file.attrs[key] for key in file.attrs if key not in own)
        xr.testing.assert_identical(made["geopotential_at_surface"], file["geopotential_at_surface"])


def test_a_file_is_opened_once_however_many_times_it_holds(tmp_path, monkeypatch):
    store, path, opened = make_store(days=4), tmp_path / "mine.nc", []
    store.dataset([0, 1, 2]).to_netcdf(path)
    monkeypatch.setattr(opening, "format_of", lambda path: opened.append(path) or format_of(path))
    persistence = Persistence(store.spec, store.grid, store.timestep)
    made = emulator.predict(persistence, path, days=0.25)
    assert made.sizes["init_time"] == 3
    assert opened == [path]
    folder = tmp_path / "by time"
    folder.mkdir()
    for name, rows in (("a", [0, 1]), ("b", [1, 2])):
        store.dataset(rows).to_netcdf(folder / f"{name}.nc")
    for several in (folder, [folder / "b.nc", str(folder / "a.nc")]):
        xr.testing.assert_identical(emulator.predict(persistence, several, days=0.25).drop_attrs(), made.drop_attrs())
    with pytest.raises(DataError, match=r"^\S*mine.nc: no time 2031"):
        emulator.predict(persistence, path, days=1, times=["2031-01-01"])


def test_scores_are_those_of_the_command(tmp_path):
    store = make_store(days=15)
    rows, leads = evaluation_rows(store, 4), np.arange(1, 5) * TIMESTEP
    made = {}
    for name in ("persistence", "climatology"):
        reference = make_reference(name, store, leads)
        write_forecasts(reference, store.dataset(rows), leads, tmp_path / f"{name}.nc")
        made[name] = emulator.predict(reference, store.dataset(rows), days=1)
    config = EvaluateConfig(bootstrap=100)
    wanted = evaluate({n: tmp_path / f"{n}.nc" for n in made}, store, config, tmp_path / "scores.nc")
    found = emulator.score(made, store, references=[], bootstrap=100)
    for name in ("rmse", "rmse_lower", "acc", "crossover_hours"):
        xr.testing.assert_allclose(found[name], wanted[name])
    # as files, and with the references made on the way
    from_file = emulator.score({"mine": tmp_path / "persistence.nc"}, store, bootstrap=100)
    np.testing.assert_allclose(
        from_file["rmse"].sel(forecaster="mine"), wanted["rmse"].sel(forecaster="persistence"), rtol=1e-6
    )
    np.testing.assert_allclose(
        from_file["rmse"].sel(forecaster="climatology"), wanted["rmse"].sel(forecaster="climatology"), rtol=1e-6
    )


@pytest.mark.parametrize("as_file", [False, True])
def test_our_dimensions_in_another_form_are_read_as_another_centres(as_file, tmp_path):
    """Whoever renames dimensions keeps Celsius, rows from the north, longitudes from -180, one member, any order."""
    store = make_store(days=15)
    initial = store.dataset(evaluation_rows(store, 4))
    made = emulator.predict(make_reference("persistence", store, TIMESTEP * np.arange(1, 3)), initial, days=0.5)
    celsius = made.copy(deep=True)
    for name in ("temperature", "2m_temperature"):
        celsius[name] = (celsius[name] - 273.15).assign_attrs(units="degC")
    west = made.assign_coords(longitude=(made["longitude"] + 180) % 360 - 180).sortby("longitude")
    wanted = emulator.score({"mine": made}, store, references=[], bootstrap=50)["rmse"]
    north = made.isel(latitude=slice(None, None, -1))
    upwards = made.isel(level=slice(None, None, -1), lead_time=slice(None, None, -1), init_time=slice(None, None, -1))
    hours = made.assign_coords(lead_time=[6, 12])
    renamed = made.rename(temperature="t")
    single = (made.expand_dims(realization=[0]), made.expand_dims(number=[0]))
    for i, theirs in enumerate((celsius, north, west, upwards, hours, renamed, *single)):
        path = tmp_path / f"{i}.nc"
        theirs.to_netcdf(path)
        found = emulator.score({"mine": path if as_file else theirs}, store, references=[], bootstrap=50)["rmse"]
        xr.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_what_another_centre_has_more_under_our_names_is_left_aside(tmp_path):
    store, leads = make_store(Grid.gaussian(8), days=15), TIMESTEP * np.arange(1, 5)
    made = emulator.predict(
        make_reference("persistence", store, leads), store.dataset(evaluation_rows(store, 4)), days=1
    )
    fewer = made.isel(init_time=slice(2, None), lead_time=slice(2))
    theirs = made.drop_attrs(deep=False)
    level = theirs["temperature"].isel(level=[1]).assign_coords(level=[925.0])
    more = xr.concat([theirs["temperature"], level], "level")
    theirs = theirs.drop_vars(["temperature", "level"]).assign(temperature=more)
    theirs.to_netcdf(tmp_path / "theirs.nc")
    copied = theirs.assign_attrs(made.attrs).isel(init_time=slice(2, None), lead_time=slice(2))
    forecasts = {"mine": fewer, "theirs": tmp_path / "theirs.nc", "data": theirs, "copied": copied}
    rmse = emulator.score(forecasts, store, references=[], bootstrap=50)["rmse"]
    for name in forecasts:
        np.testing.assert_array_equal(rmse.sel(forecaster=name), rmse.sel(forecaster="mine"))


def test_our_forecasts_are_scored_after_their_user_has_chosen_and_reckoned(tmp_path):
    store = make_store(Grid.gaussian(8), days=15)
    made = emulator.predict(
        make_reference("persistence", store, TIMESTEP * np.arange(1, 5)),
        store.dataset(evaluation_rows(store, 4)),
        days=1,
    )
    chosen = made.sel(lead_time=["6h", "12h"]).isel(init_time=slice(1, None))
    reckoned = (chosen * 1.0).drop_attrs()  # as older versions of xarray do by themselves
    scores = emulator.score({"chosen": chosen, "reckoned": reckoned}, store, references=[], bootstrap=50)
    assert scores.sizes["lead_time"] == 2 and scores.sizes["init_time"] == chosen.sizes["init_time"]
    np.testing.assert_array_equal(*(scores["rmse"].sel(forecaster=name) for name in ("chosen", "reckoned")))
    cost = scores["seconds_per_simulated_day"]  # what is no longer said to be ours is read as another centre's
    assert np.isfinite(cost.sel(forecaster="chosen")) and np.isnan(cost.sel(forecaster="reckoned"))


def test_an_initial_time_that_is_there_twice_is_named():
    store, leads = make_store(Grid.gaussian(8), days=15), TIMESTEP * np.arange(1, 3)
    made = emulator.predict(
        make_reference("persistence", store, leads), store.dataset(evaluation_rows(store, 2)[:2]), days=0.5
    )
    with pytest.raises(DataError, match=r"^forecasts\.mine: values of init_time occur twice; keep one of them"):
        emulator.score({"mine": made.isel(init_time=[0, 0, 1])}, store)


def test_a_zarr_store_in_our_form_is_scored_whatever_its_attributes(tmp_path):
    store = make_store(days=15)
    made = emulator.predict(
        make_reference("persistence", store, TIMESTEP * np.arange(1, 3)),
        store.dataset(evaluation_rows(store, 4)),
        days=0.5,
    )
    described = made.assign_attrs(null=None, yes=True, section={"a": 1})
    described["temperature"].attrs["null"] = None
    described.drop_encoding().to_zarr(tmp_path / "f.zarr", zarr_format=2, consolidated=True)
    with xr.open_zarr(tmp_path / "f.zarr", chunks=None) as opened:
        forecasts = {"made": made, "path": tmp_path / "f.zarr", "opened": opened}
        rmse = emulator.score(forecasts, store, references=[], bootstrap=50)["rmse"]
        assert "section" in opened.attrs
    for name in ("path", "opened"):
        np.testing.assert_array_equal(rmse.sel(forecaster=name), rmse.sel(forecaster="made"))


def test_a_file_that_was_opened_is_scored_like_the_file(tmp_path):
    store = make_store(days=12, world=ON_SIGMA)  # such files hold the pressure at the top beside the forecasts
    leads, path = np.arange(1, 5) * TIMESTEP, tmp_path / "f.nc"
    rows = evaluation_rows(store, 4)
    write_forecasts(
        make_reference("persistence", store, leads),
        store.dataset(rows),
        leads,
        path,
        surface_geopotential=store.surface_geopotential,
    )
    with xr.open_dataset(path) as opened:
        rmse = emulator.score({"opened": opened, "file": path}, store, references=[], bootstrap=50)["rmse"]
    np.testing.assert_array_equal(rmse.sel(forecaster="opened"), rmse.sel(forecaster="file"))


def test_references_start_where_another_centres_forecasts_do(tmp_path):
    """Which hold the analysis too, as lead zero: no reference forecasts that."""
    store = make_store(days=15)
    initial = store.dataset(evaluation_rows(store, 4))
    made = emulator.predict(make_reference("persistence", store, TIMESTEP * np.arange(1, 3)), initial, days=0.5)
    analysis = made.isel(lead_time=[0]).assign_coords(lead_time=np.zeros(1, "timedelta64[ns]"))
    theirs = xr.concat([analysis, made], "lead_time").rename(init_time="time", lead_time="prediction_timedelta")
    wanted = emulator.score({"mine": made}, store, bootstrap=50)["rmse"]
    found = emulator.score({"mine": theirs}, store, bootstrap=50)["rmse"]
    assert found["forecaster"].values.tolist() == ["mine", "persistence", "climatology"]
    xr.testing.assert_allclose(found, wanted)
    backwards = theirs.isel(prediction_timedelta=slice(None, None, -1))
    xr.testing.assert_allclose(emulator.score({"mine": backwards}, store, bootstrap=50)["rmse"], wanted)
    alone = emulator.score({"mine": theirs, "same": theirs}, store, bootstrap=50, references=[])["rmse"]
    xr.testing.assert_allclose(alone.sel(forecaster="same", drop=True), wanted.sel(forecaster="mine", drop=True))
    for references in (["persistence"], []):
        with pytest.raises(DataError, match=r"no lead is later than the initial time, so there is nothing to verify"):
            emulator.score({"mine": theirs.isel(prediction_timedelta=[0])}, store, references=references)
    days = theirs.assign_coords(prediction_timedelta=[0, 1, 6])  # of which six are no six hours
    with pytest.raises(
        DataError, match=r"mine: leads 1 from 1 h to 1 h are no multiples .*, 6 h; .*\(bare ones are hours\)"
    ):
        emulator.score({"mine": days}, store)


def test_names_are_the_forecasts_own_and_no_paths(tmp_path):
    store = make_store(days=8)
    made = emulator.predict(Persistence(store.spec, store.grid, store.timestep), store.dataset([100]), days=0.25)
    with pytest.raises(ConfigError, match=r"^score: forecasts.persistence: a reference has this name; choose another$"):
        emulator.score({"persistence": made}, store)
    outside = tmp_path / "outside"
    with pytest.raises(ConfigError, match=r"^score: forecasts.*outside.*should match pattern"):
        emulator.score({str(outside): made}, store, references=[])
    assert not outside.with_suffix(".nc").exists()
    with pytest.raises(ConfigError, match=r"^score: references.1: input should be 'persistence', .*got 'monkey'"):
        emulator.score({"mine": made}, store, references=["climatology", "monkey"])


def test_another_truth_takes_the_place_of_the_stores_own(work, tmp_path):
    store = emulator.open_store(work / "store.zarr")
    with xr.open_dataset(work / "mine.nc") as mine:
        truth = mine.rename(warmth="temperature").isel(time=slice(80, 120)).load()
        forecast = emulator.predict(emulator.load_forecaster(work / "run"), mine.isel(time=[90, 100]), days=1)
    own = emulator.score({"network": forecast}, store, references=[], bootstrap=50)
    same = emulator.score({"network": forecast}, store, truth=truth, references=[], bootstrap=50)
    xr.testing.assert_allclose(own["rmse"], same["rmse"])
    colder = truth.assign(temperature=truth["temperature"] - 100)
    other = emulator.score({"network": forecast}, store, truth=colder, references=[], bootstrap=50)
    assert float(other["bias"].sel(variable="temperature@850", region="all").mean()) == pytest.approx(100, abs=5)
    latitude, longitude = np.array(store.grid.latitude), np.array(store.grid.longitude)
    mask = (latitude > latitude[0])[:, None] * np.ones(longitude.size, int)
    coords = {"latitude": latitude, "longitude": longitude}
    xr.Dataset({"mask": (("latitude", "longitude"), mask)}, coords).to_netcdf(tmp_path / "mask.nc")
    rows = truth[next(d for d in truth["temperature"].dims if str(d).startswith("lat"))]
    holed = truth.assign(temperature=truth["temperature"].where(rows > rows.min()))
    options = {"references": [], "bootstrap": 50, "mask": str(tmp_path / "mask.nc")}
    masked = [emulator.score({"network": forecast}, store, truth=t, **options)["rmse"] for t in (truth, holed)]
    xr.testing.assert_allclose(*masked)
    options["references"] = ["persistence"]
    beside = emulator.score({"network": forecast}, store, truth=holed, **options)["rmse"]
    assert np.isfinite(beside.sel(forecaster="persistence", region="all")).all()
    freezing = truth.assign(temperature=truth["temperature"] - 273.15)
    with pytest.raises(DataError, match="truth: temperature"):
        emulator.score({"network": forecast}, store, truth=freezing, references=[])
    with pytest.raises(DataError, match="truth: missing temperature"):
        emulator.score({"network": forecast}, store, truth=truth.drop_vars("temperature"), references=[])
    with pytest.raises(DataError, match="truth: no time coordinate; give the times of its fields as a coordinate"):
        emulator.score({"network": forecast}, store, truth=truth.isel(time=0, drop=True), references=[])


def test_a_full_temporary_folder_is_named(monkeypatch):
    store = make_store(days=15)
    made = emulator.predict(
        Persistence(store.spec, store.grid, store.timestep), store.dataset(evaluation_rows(store, 4)), days=1
    )

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emulator.forecast_io.netCDF4.Dataset", full)
    with pytest.raises(DiskError, match=r"/emulator-\w+/mine.nc: cannot be written: .*full"):
        emulator.score({"mine": made}, store)


def test_a_season_without_a_climatology_is_refused_before_any_reference_forecasts(work, monkeypatch):
    store = emulator.open_store(work / "store.zarr")
    with xr.open_dataset(work / "mine.nc") as mine:
        truth = mine.rename(warmth="temperature").isel(time=slice(80, 120)).load()
        forecast = emulator.predict(emulator.load_forecaster(work / "run"), mine.isel(time=[90]), days=1)
    later = np.timedelta64(180, "D")
    truth = truth.assign_coords(time=truth["time"] + later)
    forecast = forecast.assign_coords(init_time=forecast["init_time"] + later)
    monkeypatch.setattr(emulator.api, "write_forecasts", never)
    for references in (["persistence"], []):
        with pytest.raises(DataError, match=r"climatology: no estimate at .* give the training split more of the year"):
            emulator.score({"network": forecast}, store, truth=truth, references=references)


def never(*_, **__):
    raise AssertionError("a reference has forecast")


def test_another_truth_of_training_times_is_no_test_data(work):
    store = emulator.open_store(work / "store.zarr")
    with xr.open_dataset(work / "mine.nc") as mine:
        truth = mine.rename(warmth="temperature").load()
        early = emulator.predict(emulator.load_forecaster(work / "run"), mine.isel(time=[10]), days=1)
    for given in ({}, {"truth": truth}):
        with pytest.raises(DataError, match=r"start in the train split, evaluate\.split is test"):
            emulator.score({"network": early}, store, references=[], **given)
    verified = with_truth(truth, store)
    for segment in store.segments:  # none reaches into another split
        first, last = np.searchsorted(verified.times, [segment.first_time, segment.last_time]).tolist()
        assert verified.segment_of(first, last + 1).split == segment.split


def test_another_truth_comes_in_the_stores_units():
    humid = World(StateSpec((Variable("r2", "prognostic", units="%"),)), np.array([50.0]), np.array([5.0]))
    store = make_store(days=3, splits=("train", "test"), world=humid)
    truth = store.dataset(np.arange(store.times.size))
    share = (truth["r2"] / 100).assign_attrs(units="1")
    np.testing.assert_allclose(with_truth(truth.assign(r2=share), store).state, store.state, rtol=1e-6)
    with pytest.raises(DataError, match=r"data set: r2 is in 'kg', the store's is in '%'; set its units attribute"):
        with_truth(truth.assign(r2=share.assign_attrs(units="kg")), store)


def test_another_truth_is_bounded_as_the_stores_is():
    store = make_store(Grid.gaussian(4), days=3, splits=("train", "test"), world=ON_SIGMA)
    truth = store.dataset(np.arange(store.times.size))
    lower = truth.assign(specific_humidity=(truth["specific_humidity"] - 0.002).assign_attrs(units="kg kg-1"))
    humidity = [c.variable == "specific_humidity" for c in store.spec.state_channels]
    wanted = np.maximum(store.state[..., humidity] - np.float32(0.002), 0)
    assert (wanted == 0).any() and (wanted > 0).any()
    np.testing.assert_allclose(with_truth(lower, store).state[..., humidity], wanted, atol=1e-9)


def test_what_is_fitted_is_fitted_to_the_stores_training_data_whatever_the_truth(tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8))
    start = store.segments[2].start
    truth = store.dataset(np.arange(start, start + 24)).drop_vars("sea_surface_temperature")
    persistence = make_reference("persistence", store, np.arange(1, 5) * TIMESTEP)
    forecast = emulator.predict(persistence, store.dataset([start, start + 4]), days=1)
    options = {"references": ["damped_anomaly_persistence"], "split": "validation", "bootstrap": 50}
    own, other = (emulator.score({"mine": forecast}, store, truth=t, **options) for t in (None, truth))
    assert other["seeps"].sel(variable="total_precipitation_6hr", region="all").notnull().all()
    for name in ("seeps", "rmse"):
        np.testing.assert_allclose(own[name].values, other[name].values)


def test_mistakes_are_one_line(work):
    network = emulator.load_forecaster(work / "run")
    with xr.open_dataset(work / "mine.nc") as mine:
        with pytest.raises(DataError, match="missing mean_sea_level_pressure"):
            emulator.predict(network, mine[["warmth"]].isel(time=[0]), days=1)
        with pytest.raises(DataError, match=r"times: one is missing \(None or NaT\)"):
            emulator.predict(network, mine, days=1, times=["2001-01-01T06", None])
        with pytest.raises(ConfigError, match=r"0\.3 days: expected a positive multiple"):
            emulator.predict(network, mine.isel(time=[0]), days=0.3)
        with pytest.raises(DataError, match="times: holds none; leave it out"):
            emulator.predict(network, mine, days=1, times=[])
        with pytest.raises(DataError, match="3 is no time; give a datetime64, or write it in ISO 8601"):
            emulator.predict(network, mine, days=1, times=3)
        with pytest.raises(DataError, match="times: 2001-01-01T06:00 is there twice"):
            emulator.predict(network, mine, days=1, times=["2001-01-01T06", *mine.time.values[:9]])
        with pytest.raises(ConfigError, match="days: 'three' is no number"):
            emulator.predict(network, mine, days="three")
        with pytest.raises(DataError, match=r"^a path or a data set is expected, not a DataArray; its to_dataset\(\)"):
            emulator.predict(network, mine["warmth"].isel(time=[0]), days=1)
        with pytest.raises(DataError, match=r"one data set or .* are expected; xarray.combine_by_coords makes one"):
            emulator.predict(network, [mine, mine], days=1)
        with pytest.raises(DataError, match=r"^no file with initial fields is named$"):
            emulator.predict(network, sorted(work.glob("*.grib")), days=1)
        late = emulator.predict(network, mine.isel(time=[119]), days=1)
    with pytest.raises(DataError, match="the path of a store is expected, not a NoneType"):
        emulator.open_store(None)
    with pytest.raises(DataError, match="the path of a run folder is expected, not a NoneType"):
        emulator.load_forecaster(None)
    with pytest.raises(DataError, match="a run folder is expected, not a list; SeveralNetworks makes one of several"):
        emulator.predict([network, network], work / "mine.nc", days=1)
    with pytest.raises(DataError, match=r"plot: no scores, as emulator\.score returns them: temperature"):
        emulator.plot(late, "pictures")
    store = emulator.open_store(work / "store.zarr")
    with pytest.raises(
        DataError, match=r"holds no truth at 2001-01-31T00:00, for forecasts from 2001-01-30T18:00; of no"
    ):
        emulator.score({"network": late}, store)
    both = xr.concat([emulator.predict(network, mine.isel(time=[100]), days=1), late], "init_time")
    with pytest.raises(
        DataError, match=r"of 1 of 2 initial times it holds all leads \(2001-01-26T00:00 to 2001-.*alone$"
    ):
        emulator.score({"network": both}, store)
    with pytest.raises(DataError, match="score: no forecasts; give them by name"):
        emulator.score({}, store)
    with pytest.raises(DataError, match="score: no forecasts; give them by name"):
        emulator.score(late, store)
    with pytest.raises(DataError, match="a path or a data set is expected, not a DataArray"):
        emulator.score({"network": late}, store, truth=late["temperature"])
    assert repr(network) == "NeuralForecaster(network: 3 channels on " + network.grid.describe() + ", steps of 6 h)"
    with pytest.raises(ConfigError, match=r"^score: headlines: no such key; did you mean headline\?$"):
        emulator.score({"network": late}, store, headlines=["temperature@850"])
    with pytest.raises(ConfigError, match=r"^score: init_every_hours: says what an experiment forecasts"):
        emulator.score({"network": late}, store, init_every_hours=12)


def test_what_lies_somewhere_may_be_named(work, tmp_path):
    with xr.open_dataset(work / "mine.nc") as mine:
        initial = mine.isel(time=[100]).load()
    made, again = (emulator.predict(n, initial, days=1) for n in (work, emulator.load_forecaster(work / "run")))
    xr.testing.assert_equal(made, again)
    store = work / "store.zarr"
    one, other = (emulator.score({"mine": made}, s, bootstrap=50) for s in (store, emulator.open_store(store)))
    xr.testing.assert_equal(one["rmse"], other["rmse"])
    one.to_netcdf(tmp_path / "scores.nc")
    assert emulator.plot(tmp_path / "scores.nc", tmp_path / "plots")
    with pytest.raises(DataError, match=r"nowhere.nc: no such file"):
        emulator.plot("nowhere.nc", tmp_path)
    later = made.assign_coords(init_time=made["init_time"] + np.timedelta64(6, "h"))
    told = r"^forecasts.late: its init times \(.*\) differ from those of forecasts.mine \("
    with pytest.raises(DataError, match=told):
        emulator.score({"mine": made, "late": later}, store)


def test_more_forecasts_than_memory_holds_are_refused_at_once(work, monkeypatch):
    network = emulator.load_forecaster(work / "run")
    monkeypatch.setattr("emulator.api.host_memory", lambda: (2**34, 10**6))
    with (
        xr.open_dataset(work / "mine.nc") as mine,
        pytest.raises(DataError, match=r"^120 forecasts of 40 leads take 0\.\d GB of memory, 0\.0 GB are free; choose"),
    ):
        emulator.predict(network, mine)


def test_why_our_own_forecasts_are_read_as_anothers_is_said(work, caplog):
    with xr.open_dataset(work / "mine.nc") as mine:
        made = emulator.predict(emulator.load_forecaster(work / "run"), mine.isel(time=[100, 101]), days=1)
    store = emulator.open_store(work / "store.zarr")
    changes = {
        "a dimension of mine": made.expand_dims("of mine"),
        "lead_time does not ascend": made.isel(lead_time=slice(None, None, -1)),
        "the truth has no warmth": made.rename(temperature="warmth"),
        "temperature is in degC": made.assign(temperature=made["temperature"].assign_attrs(units="degC")),
        "temperature is on other levels": made.assign_coords(level=made["level"] + 1),
    }
    for why, changed in changes.items():
        assert why in str(_why_not_ours(changed, store)), why
    assert _why_not_ours(made, store) is None
    with caplog.at_level("INFO"):
        turned = emulator.score({"mine": made.isel(lead_time=slice(None, None, -1))}, store, bootstrap=50)
    assert "mine: read as another centre's forecasts are: lead_time does not ascend" in caplog.text
    xr.testing.assert_allclose(turned["rmse"], emulator.score({"mine": made}, store, bootstrap=50)["rmse"])


@pytest.mark.parametrize("days", [0.3, 0.0, -1.0, float("nan"), float("inf")])
def test_a_forecast_takes_whole_steps(days):
    with pytest.raises(ConfigError, match=f"^{days:g} days: expected a positive multiple of the model's time step"):
        lead_times(TIMESTEP, days)


def test_a_forecast_ends_before_dates_do():
    with pytest.raises(ConfigError, match=r"^120000 days: expected at most 36525, a century"):
        lead_times(TIMESTEP, 120000)


def test_importing_costs_nothing_and_the_names_are_there():
    code = (
        "import sys, emulator; before = {'jax', 'xarray', 'numpy', 'pydantic'} & set(sys.modules);"
        "print(before, all(hasattr(emulator, name) for name in emulator.__all__))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.split() == ["set()", "True"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = emulator.nothing


def command_forecast(run: Path, source: Path, out: Path, capsys) -> tuple[int, list[str]]:
    """Two days from a time of the training. Returns the exit code and the lines of error."""
    code = main(["forecast", str(run), str(source), "--out", str(out), "--days", "2", "--time", "2001-01-10T06"])
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_a_forecast_that_leaves_physical_bounds_is_stopped_and_kept_up_to_there(work, tmp_path, capsys):
    """A network that warms 500 hPa by 40 K in every step of six hours, and the limit is 400 K."""
    run, out = tmp_path / "run", tmp_path / "f.nc"
    shutil.copytree(work / "run", run)
    weights = read_arrays(run / "weights.npz", "")
    weights["head/latent/bias/value"] = np.array([60, 0, 0], np.float32)  # in standard deviations of the tendency
    write_arrays(run / "weights.npz", weights)
    code, errors = command_forecast(run, work / "mine.nc", out, capsys)
    assert code == 1 and len(errors) == 1
    where = "the forecast from 2001-01-10T06:00 left physical bounds at lead 18 h: temperature@500 ranges from"
    assert where in errors[0] and "possible are 50 to 400" in errors[0]
    assert f"what came before is in {tmp_path / 'f_stopped.nc'}" in errors[0]
    assert sorted(p.name for p in tmp_path.glob("*.nc")) == ["f_stopped.nc"]
    with xr.open_dataset(tmp_path / "f_stopped.nc") as kept:
        assert where in kept.attrs["stopped"]
        hours = kept["lead_time"].values / np.timedelta64(1, "h")
        for name in ("temperature", "mean_sea_level_pressure"):
            there = np.isfinite(kept[name]).all([d for d in kept[name].dims if d != "time"])
            np.testing.assert_array_equal(there, hours < 18)
            assert not np.isfinite(kept[name][hours >= 18]).any()
        assert kept["temperature"].max() <= 400


def test_from_python_too_fields_that_training_never_saw_are_warned_of(work, caplog):
    network = emulator.load_forecaster(work / "run")
    with xr.open_dataset(work / "mine.nc") as mine:
        initial = mine.isel(time=[30])
        for warmer, warned in ((0, False), (40, True)):
            caplog.clear()
            emulator.predict(network, initial.assign(warmth=initial["warmth"] + warmer), days=1)
            assert ("outside of what the network has seen: temperature@500" in caplog.text) == warned


def test_fields_that_are_as_a_whole_far_from_all_that_training_saw_are_refused(work, tmp_path, capsys):
    """Such as a temperature in degrees Celsius that is said to be in K, under a name that the program does not know."""
    network = emulator.load_forecaster(work / "run")
    least, most = network.trained_on["mean_sea_level_pressure"]
    with xr.open_dataset(work / "mine.nc") as mine:
        pressure = mine["mean_sea_level_pressure"]
        lower = (pressure - float(pressure.max()) + least).assign_attrs(pressure.attrs)  # no value as training saw them
        for name, field in (("near", lower), ("far", lower - 1.1 * (most - least))):
            mine.assign(mean_sea_level_pressure=field.assign_attrs(pressure.attrs)).to_netcdf(tmp_path / f"{name}.nc")
    assert command_forecast(work / "run", tmp_path / "near.nc", tmp_path / "f.nc", capsys) == (0, [])
    code, lines = command_forecast(work / "run", tmp_path / "far.nc", tmp_path / "g.nc", capsys)
    assert code == 1 and len(lines) == 1 and not list(tmp_path.glob("g*"))
    words = rf"mean_sea_level_pressure at 2001-01-10T06:00 is .* Pa, and network was trained on {least:.6g} to .* unit"
    assert re.search(words, lines[0])
    with pytest.raises(DataError, match=words):
        emulator.predict(network, tmp_path / "far.nc", days=1, times="2001-01-10T06")


def test_one_value_everywhere_may_lie_anywhere(work):
    """As of a gas that becomes more from year to year."""
    network = emulator.load_forecaster(work / "run")
    with xr.open_dataset(work / "mine.nc") as mine:
        level = mine["mean_sea_level_pressure"].isel(time=[30]) * 0 + np.float32(101325)
        initial = mine.isel(time=[30]).assign(mean_sea_level_pressure=level.assign_attrs(units="Pa"))
    seen = dict(network.trained_on) | {"mean_sea_level_pressure": (9e4, 9.1e4)}
    emulator.predict(replace(network, trained_on=seen), initial, days=1)


def test_a_forecast_from_fields_that_training_never_saw_says_so(work, tmp_path, capsys):
    with xr.open_dataset(work / "mine.nc") as mine:
        mine.assign(warmth=mine["warmth"] + 40).to_netcdf(tmp_path / "warm.nc")
    said = []
    for source in (work / "mine.nc", tmp_path / "warm.nc"):
        assert command_forecast(work / "run", source, tmp_path / "f.nc", capsys) == (0, [])
        with xr.open_dataset(tmp_path / "f.nc") as made:
            said.append(made.attrs["outside_training_range"])
            in_memory = emulator.predict(
                emulator.load_forecaster(work / "run"), source, days=1, times=made["init_time"]
            )
        assert in_memory.attrs["outside_training_range"] == said[-1]
    assert said[0] == "none"
    assert [part.split()[0] for part in said[1].split("; ")] == ["temperature@500", "temperature@850"]
    assert "trained on" in said[1]


def test_rain_of_closer_times_is_summed_over_the_step_before_a_forecast(tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8))
    persistence = make_reference("persistence", store, np.arange(1, 3) * store.timestep)
    hourly = store.dataset(np.arange(12)).assign_coords(time=times_from("2001-03-01", 12, HOUR))
    hourly = hourly.rename(total_precipitation_6hr="total_precipitation")
    found = emulator.predict(persistence, hourly, days=0.25, times="2001-03-01T09")
    rain = hourly["total_precipitation"].values[4:10].sum(axis=0)
    np.testing.assert_allclose(found["total_precipitation_6hr"][0, 0], rain, rtol=1e-5)
    np.testing.assert_allclose(found["temperature"][0, 0], hourly["temperature"][9], rtol=1e-6)
