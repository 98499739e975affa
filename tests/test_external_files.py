"""Forecasts of other programs in many files: they score as if all were in one, and what does not fit is named."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import Noisy, evaluation_rows, lead_times, make_store

import emulator
from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from emulator.config import EvaluateConfig, load_config
from emulator.evaluation.external_files import files_that_are_there, open_forecasts_at
from emulator.evaluation.scores import evaluate
from emulator.forecast_form import open_forecasts
from emulator.forecast_io import write_forecasts

LEADS = lead_times(1)
CONFIG = EvaluateConfig(bootstrap=50, forecasts={"other": "x"})


@pytest.fixture(scope="module")
def store():
    return make_store(Grid.gaussian(8), days=12)


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory):
    """``own.nc`` of the experiment, and the same forecasts in ``starts``, a file each as centres write them."""
    path = tmp_path_factory.mktemp("files")
    write_forecasts(Noisy(store, "own", 0.1, 0.1), store.dataset(evaluation_rows(store, 3)[:7]), LEADS, path / "own.nc")
    (path / "starts").mkdir()
    data = open_forecasts(path / "own.nc").load().drop_encoding()
    for i in range(data.sizes["init_time"]):
        of_one_start(data, i).to_netcdf(path / "starts" / f"f{i:02d}.nc")
    return path


def of_one_start(data, i):
    """Valid times along ``time``, north first, and the initial time as a scalar."""
    one = data.isel(init_time=i, latitude=slice(None, None, -1)).rename(lead_time="time")
    one = one.rename(init_time="forecast_reference_time").drop_attrs(deep=False)
    times = one["forecast_reference_time"].values + data["lead_time"].values
    return one.assign_coords(time=("time", times, {"standard_name": "time"}))


FORMS = {
    "a folder": lambda folder: folder / "starts",
    "a pattern": lambda folder: folder / "starts" / "f*.nc",
    "a list": lambda folder: tuple(sorted((folder / "starts").iterdir())[::-1]),
    "folder and file": lambda folder: (folder / "starts" / "f00.nc", folder / "starts"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_a_start_scores_bit_equal_to_one_file(folder, store, tmp_path, form):
    paths = {"own": folder / "own.nc", "other": FORMS[form](folder)}
    scores = evaluate(paths, store, CONFIG, tmp_path / "scores.nc").load()
    own, other = (scores.sel(forecaster=name) for name in ("own", "other"))
    for statistic in ("squared_error", "rmse", "acc"):
        np.testing.assert_array_equal(own[statistic], other[statistic])


def test_any_starts_and_leads_are_read_from_their_files(folder, store):
    found = pickle.loads(pickle.dumps(open_forecasts_at(folder / "starts", store)))  # as a worker gets it
    inits, leads = np.array([4, 0, 3]), np.array([2, 1])
    read = found.read(["temperature", "2m_temperature"], inits, leads)
    with open_forecasts(folder / "own.nc") as own:
        wanted = own.isel(init_time=inits, lead_time=leads).load()
    for name in read:
        assert read[name].dims == wanted[name].dims
        np.testing.assert_array_equal(read[name], wanted[name])
    np.testing.assert_array_equal(read["init_time"], wanted["init_time"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d, r"last.nc: holds the initial time 2009-\S+, which \S+f00.nc holds too; leave one of them out"),
        (
            lambda d: later(d).isel(time=slice(3)),
            r"last.nc: its leads \(3 from 6 h to 18 h\) are not those of \S+f00.nc \(4 from 6 h to 24 h\); files",
        ),
        (
            lambda d: later(d).drop_vars("2m_temperature"),
            r"last.nc: holds geopotential, temperature, but \S+f00.nc 2m_temperature, geopotential, temperature; files",
        ),
        (
            lambda d: later(d).isel(latitude=slice(1, None)),
            r"last.nc: its grid \(16 x 7 .*\) is not the truth's \(16 x 8 global",
        ),
        (
            lambda d: xr.concat([later(d)] * 2, "realization").assign_coords(realization=[0, 1]),
            r"last.nc: holds 2 members, but \S+f00.nc 1; files",
        ),
    ],
)
def test_a_file_that_is_not_like_the_others_is_refused_by_name(folder, store, tmp_path, change, expected):
    change(xr.load_dataset(folder / "starts" / "f00.nc")).to_netcdf(tmp_path / "last.nc")
    with pytest.raises(DataError, match=expected) as caught:
        open_forecasts_at((folder / "starts", tmp_path / "last.nc"), store)
    assert "\n" not in str(caught.value)


def later(data):
    """The same from another year."""
    span = np.timedelta64(365, "D")
    moved = data.assign_coords(forecast_reference_time=data["forecast_reference_time"] + span)
    return moved.assign_coords(time=("time", data["time"].values + span, data["time"].attrs))


def test_a_pattern_or_folder_without_files_is_refused(folder, store, tmp_path):
    with pytest.raises(DataError, match=r"no\*.nc: matches no file"):
        open_forecasts_at(tmp_path / "no*.nc", store)
    with pytest.raises(DataError, match=r"a folder without NetCDF, GRIB or Zarr in it"):
        open_forecasts_at((folder / "starts", tmp_path), store)
    found = files_that_are_there((tmp_path / "no*.nc", folder / "starts" / "f0[01].nc", tmp_path / "gone.nc"))
    assert [path.name for path in found] == ["f00.nc", "f01.nc"]


def test_python_scores_a_list_a_pattern_and_a_folder(folder, store):
    files = sorted((folder / "starts").iterdir())
    given = {"list": files, "texts": [*map(str, files)], "folder": folder / "starts", "pattern": f"{folder}/*/f*.nc"}
    rmse = emulator.score({"own": folder / "own.nc", **given}, store, references=[], bootstrap=50)["rmse"]
    for name in given:
        np.testing.assert_array_equal(rmse.sel(forecaster=name), rmse.sel(forecaster="own"))
    with pytest.raises(DataError, match="no forecast files; give at least one"):
        emulator.score({"none": []}, store)


def test_a_config_takes_a_list_of_files():
    tiny = Path(__file__).parent / "tiny.yaml"
    config = load_config(tiny, ["evaluate.forecasts.ifs=[a.nc, b/*.nc]"])
    assert config.evaluate.forecasts == {"ifs": ["a.nc", "b/*.nc"]}
    for wrong in ("3", "[]", "[1]"):
        with pytest.raises(
            ConfigError, match=r"evaluate.forecasts.ifs: expected a file, a folder, a pattern or a list"
        ):
            load_config(tiny, [f"evaluate.forecasts.ifs={wrong}"])


def test_impossible_values_of_many_files_are_warned_of_once(folder, store, tmp_path, caplog):
    for path in (folder / "starts").iterdir():
        data = xr.load_dataset(path)
        data["temperature"][:, :, 0, 0] = 900.0
        data.to_netcdf(tmp_path / path.name)
    found = open_forecasts_at(tmp_path, store)
    found.read(["temperature"], np.arange(found.init_times.size), np.arange(4))
    assert caplog.text.count("holds impossible values at some points") == 1
    assert f"{tmp_path}: temperature holds impossible" in caplog.text


def without(folder, rows):
    """The forecasts in one file as another program's, but for those of some initial times."""
    data = open_forecasts(folder / "own.nc").load().drop_encoding().drop_attrs(deep=False)
    return data.drop_isel(init_time=rows).rename(init_time="time", lead_time="step")


@pytest.fixture
def gaps(folder, tmp_path):
    """``own``, and two others that lack initial times: of one two, of the other one of these and another."""
    without(folder, [1, 3]).to_netcdf(tmp_path / "two.nc")
    without(folder, [3, 4]).to_netcdf(tmp_path / "others.nc")
    return {"own": folder / "own.nc", "two": tmp_path / "two.nc", "others": tmp_path / "others.nc"}


OF_GAPS = {"forecasts": {"two": "x", "others": "x"}, "bootstrap": 50}


def test_initial_times_that_one_lacks_are_left_out_for_everybody(folder, store, gaps, tmp_path, caplog):
    with pytest.raises(
        DataError, match=r"two.nc: lacks initial .*; evaluate.missing_inits: leave_out compares without"
    ):
        evaluate(gaps, store, EvaluateConfig(**OF_GAPS), tmp_path / "scores.nc")
    config = EvaluateConfig(**OF_GAPS, missing_inits="leave_out")
    scores = evaluate(gaps, store, config, tmp_path / "scores.nc").load()
    with open_forecasts(folder / "own.nc") as own:
        times = own["init_time"].values
    kept = np.delete(times, [1, 3, 4])
    np.testing.assert_array_equal(scores["init_time"], kept)
    hours = [str(time)[:13] for time in times]
    said = f"3 of {times.size} initial times: two lacks {hours[1]}, {hours[3]}; others lacks {hours[3]}, {hours[4]}"
    assert scores.attrs["left_out"] == said and scores.attrs["initial_times"] == kept.size
    assert caplog.text.count("3 of 7 initial times are left out for everybody") == 1


def test_where_nothing_is_left_that_is_said(folder, store, tmp_path):
    without(folder, [0, 1, 2, 3]).to_netcdf(tmp_path / "late.nc")
    without(folder, [4, 5, 6]).to_netcdf(tmp_path / "early.nc")
    paths = {"own": folder / "own.nc", "two": tmp_path / "late.nc", "others": tmp_path / "early.nc"}
    with pytest.raises(
        DataError, match=r"no initial time is left that all hold, of 7 from .*: \S+late.nc holds 3 from"
    ):
        evaluate(paths, store, EvaluateConfig(**OF_GAPS, missing_inits="leave_out"), tmp_path / "scores.nc")


@pytest.mark.parametrize("references", [[], ["persistence"]])
@pytest.mark.parametrize("order", [("two", "others"), ("others", "two")])
def test_python_lacks_a_start_of_the_first_file_by_the_same_rule(store, folder, gaps, references, order, caplog):
    """The first file tells when forecasts begin, but for its gaps: what another holds there is missing from it."""
    given = {name: gaps[name] for name in order}
    options = {"references": references, "bootstrap": 50}
    with pytest.raises(DataError, match=r"(two|others).nc: lacks initial times .*; evaluate.missing_inits: leave_out"):
        emulator.score(given, store, **options)
    with open_forecasts(folder / "own.nc") as own:
        times = own["init_time"].values
    scores = emulator.score(given, store, missing_inits="leave_out", **options)
    np.testing.assert_array_equal(scores["init_time"], np.delete(times, [1, 3, 4]))
    assert f"two lacks {str(times[1])[:13]}" in scores.attrs["left_out"]
    assert "initial times are left out for everybody" in caplog.text


def test_what_others_hold_more_is_passed_over_with_a_word(store, folder, caplog, tmp_path):
    without(folder, [0, 6]).to_netcdf(tmp_path / "middle.nc")
    without(folder, [0, 2, 4, 6]).to_netcdf(tmp_path / "seldom.nc")
    caplog.set_level("INFO")
    for first, count in (("middle", 5), ("seldom", 3)):
        caplog.clear()
        given = {"first": tmp_path / f"{first}.nc", "whole": folder / "starts"}
        assert emulator.score(given, store, references=[], bootstrap=50).sizes["init_time"] == count
        assert f"whole: {count} of its 7 initial times are compared" in caplog.text


def test_starts_that_alternate_between_files_and_leads_in_another_order_stay_what_they_are(folder, store, tmp_path):
    (tmp_path / "starts").mkdir()
    with open_forecasts(folder / "own.nc") as own:
        data = own.load().drop_encoding().drop_attrs(deep=False).rename(init_time="time", lead_time="step")
    for i in (0, 1):
        part = data.isel(time=slice(i, None, 2), step=slice(None, None, 1 - 2 * i))
        part.to_netcdf(tmp_path / "starts" / f"{i}.nc")
    paths = {"own": folder / "own.nc", "other": tmp_path / "starts"}
    squared = evaluate(paths, store, CONFIG, tmp_path / "scores.nc")["squared_error"]
    np.testing.assert_array_equal(*(squared.sel(forecaster=name) for name in paths))
