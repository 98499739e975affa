"""Forecast files of other programs: the same fields in any layout give the same scores; what does not fit is said."""

import dataclasses
import itertools
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import ON_SIGMA, Noisy, evaluation_rows, lead_times, make_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.reading.opening import open_lazily
from data_prep.variables import GRAVITY
from data_prep.vertical import derive
from emulator.cli import build_parser
from emulator.config import EvaluateConfig, load_config
from emulator.evaluation import external
from emulator.evaluation.external import _refuse_impossible, open_external
from emulator.evaluation.fields import Verification
from emulator.evaluation.forecast_file import open_compared
from emulator.evaluation.scores import evaluate
from emulator.experiment.comparing import forecast_paths
from emulator.experiment.contest import Contest
from emulator.forecast_form import open_forecasts
from emulator.forecast_io import write_forecasts
from emulator.forecasters.persistence import Persistence
from emulator.forecasters.statistical import make_reference

LEADS = lead_times(1)
CONFIG = EvaluateConfig(bootstrap=50, forecasts={"other": "x"})


@pytest.fixture(scope="module")
def store():
    return make_store(Grid.gaussian(8), days=12)


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory):
    """``own.nc`` of the experiment, and ``whole.nc``: the same model with more initial times and leads."""
    path = tmp_path_factory.mktemp("external")
    model = Noisy(store, "own", 0.1, 0.1)
    write_forecasts(model, store.dataset(evaluation_rows(store, 3)), LEADS, path / "own.nc")
    rows = np.arange(store.segments[2].start, store.segments[3].stop - 12)
    rows = rows[[store.segment_of(r, r + 1).stop >= r + 12 for r in rows.tolist()]]
    write_forecasts(model, store.dataset(rows), lead_times(2), path / "whole.nc")
    return path


def weatherbench(own, **renamed):
    """A forecast file of ours as WeatherBench-2 stores them: longitude before latitude, north to south."""
    data = open_forecasts(own).load()
    data = data.rename(init_time="time", lead_time="prediction_timedelta", **renamed)
    if "level_2" in data:  # variables on other levels are padded with what nobody asks for
        padded = data["geopotential"].rename(level_2="level").reindex(level=data["level"], fill_value=-1.0)
        data = data.drop_vars(["geopotential", "level_2"]).assign(geopotential=padded)
    data = data.isel(latitude=slice(None, None, -1)).transpose(
        "time", "prediction_timedelta", ..., "longitude", "latitude"
    )
    for name in data.data_vars:
        data[name].attrs = {}
    return data.assign_coords(level=data["level"].values.astype(int)).drop_encoding()


def hours(data):
    leads = data["prediction_timedelta"].values / np.timedelta64(1, "h")
    return data.assign_coords(prediction_timedelta=leads.astype(np.int64))


def ecmwf(own):
    """As cfgrib opens ECMWF's forecasts: short names, ``isobaricInhPa`` from the ground up, longitudes -180 to 180."""
    data = weatherbench(own).rename(prediction_timedelta="step", level="isobaricInhPa")
    data = data.rename({"temperature": "t", "geopotential": "gh", "2m_temperature": "t2m"})
    data["gh"] = data["gh"] / GRAVITY
    data["gh"].attrs = {"units": "gpm", "standard_name": "geopotential_height"}
    data["t"].attrs, data["t2m"].attrs = {"units": "K"}, {"units": "K"}
    data["isobaricInhPa"] = data["isobaricInhPa"].astype(float)
    data["isobaricInhPa"].attrs = {"units": "hPa", "standard_name": "air_pressure"}
    data = data.assign_coords(valid_time=data["time"] + data["step"], heightAboveGround=2.0, surface=0.0, number=0)
    longitude = (data["longitude"] + 180) % 360 - 180
    return data.assign_coords(longitude=longitude).sortby("longitude").isel(isobaricInhPa=slice(None, None, -1))


def opened(paths, store, name):
    """The files, of which the one of this name is another program's."""
    return open_compared(paths, store, EvaluateConfig(forecasts={name: "x"}))[0]


def scores_of(folder, store, other, out="scores.nc", config=CONFIG):
    return evaluate({"own": folder / "own.nc", "other": other}, store, config, other.parent / out)


LAYOUTS = {
    "weatherbench.zarr": lambda own: weatherbench(own),
    "weatherbench.nc": lambda own: weatherbench(own),
    "hours.nc": lambda own: hours(weatherbench(own)),
    "hours.zarr": lambda own: hours(weatherbench(own)),
    "float32_hours.nc": lambda own: hours(weatherbench(own)).assign_coords(
        prediction_timedelta=lambda d: d["prediction_timedelta"].astype(np.float32).assign_attrs(units="hours")
    ),
    "nanoseconds.nc": lambda own: hours(weatherbench(own)).assign_coords(
        prediction_timedelta=weatherbench(own)["prediction_timedelta"].values.astype(np.int64)
    ),
    "lat_lon.nc": lambda own: weatherbench(own).rename(latitude="lat", longitude="lon"),
    "float32.nc": lambda own: weatherbench(own).assign_coords(
        latitude=weatherbench(own)["latitude"].astype(np.float32)
    ),
    "init_time.nc": lambda own: weatherbench(own).rename(time="init_time", prediction_timedelta="lead_time"),
    "hindcast.nc": lambda own: weatherbench(own).rename(
        time="forecast_reference_time", prediction_timedelta="forecast_period", level="pressure_level"
    ),
    "by_attribute.nc": lambda own: (
        weatherbench(own)
        .rename(time="start", prediction_timedelta="ahead")
        .assign_coords(
            start=lambda d: d["start"].assign_attrs(standard_name="forecast_reference_time"),
            ahead=lambda d: d["ahead"].assign_attrs(standard_name="forecast_period"),
        )
    ),
    "valid_time_too.nc": lambda own: (
        weatherbench(own)
        .rename(time="start", prediction_timedelta="step")
        .assign_coords(
            start=lambda d: d["start"].assign_attrs(standard_name="forecast_reference_time"),
            time=lambda d: d["start"] + d["step"],
        )
    ),
    "closed_circle.nc": lambda own: xr.concat(
        [weatherbench(own), weatherbench(own).isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude"
    ),
    "our_own.nc": lambda own: open_forecasts(own).load(),
}


def along_valid_time(data, **more):
    """One forecast along ``time``, the valid time, as CF names it, with its lead and nothing else beside it."""
    lead = data["lead_time"] / np.timedelta64(1, "h")
    one = data.isel(init_time=0, drop=True).rename(lead_time="time")
    times = (data["init_time"][0] + data["lead_time"]).values
    return one.assign_coords(
        time=("time", times, {"standard_name": "time"}),
        forecast_period=("time", lead.values, {"units": "hours", "standard_name": "forecast_period"}),
        **more,
    )


def at_valid_time(data):
    """All forecasts of one lead along ``time``, the valid time, with the lead as a scalar."""
    one = data.isel(lead_time=3, drop=True).rename(init_time="time")
    return one.assign_coords(
        time=("time", (data["init_time"] + data["lead_time"][3]).values, {"standard_name": "time"}),
        forecast_period=((), 24, {"units": "hours", "standard_name": "forecast_period"}),
    )


def without_lead(data, init="forecast_reference_time", dims=(), valid="time"):
    """The forecasts of one start as centres file them: valid times, and the initial time beside them."""
    one = along_valid_time(data).drop_vars("forecast_period")
    return one.rename(time=valid).assign_coords(
        {init: (dims, data["init_time"].values[:1].reshape([1] * len(dims))[()])}
    )


@pytest.mark.parametrize(
    ("form", "inits", "leads"),
    [
        (without_lead, [0], slice(None)),
        (lambda d: without_lead(d).reset_coords("forecast_reference_time"), [0], slice(None)),  # which no field names
        (lambda d: without_lead(d).drop_attrs(), [0], slice(None)),
        (lambda d: without_lead(d, valid="t"), [0], slice(None)),
        (
            lambda d: without_lead(d, "started").assign_coords(
                started=((), d["init_time"].values[0], {"standard_name": "forecast_reference_time"})
            ),
            [0],
            slice(None),
        ),
        (lambda d: without_lead(d).expand_dims("forecast_reference_time"), [0], slice(None)),
        (lambda d: without_lead(d).isel(time=3), [0], [3]),
        (
            lambda d: without_lead(d).assign_coords(
                forecast_reference_time=("time", np.repeat(d["init_time"].values[:1], d.sizes["lead_time"]))
            ),
            [0],
            slice(None),
        ),
        (
            lambda d: d.assign_coords(valid_time=d["init_time"] + d["lead_time"]).drop_vars("lead_time"),
            slice(None),
            slice(None),
        ),
        (along_valid_time, [0], slice(None)),
        (lambda d: along_valid_time(d, init_time=("time", d["init_time"].values[[0] * 8])), [0], slice(None)),
        (at_valid_time, slice(None), [3]),
        (lambda d: at_valid_time(d).isel(time=4), [4], [3]),
        (
            lambda d: (
                d.isel(lead_time=[3])
                .rename(init_time="time", lead_time="step")
                .assign_coords(time=at_valid_time(d)["time"])
            ),
            slice(None),
            [3],
        ),
        (
            lambda d: (
                d.isel(init_time=slice(8)).isel(lead_time=3, drop=True).assign_coords(lead=("init_time", [24] * 8))
            ),
            slice(8),
            [3],
        ),
    ],
)
def test_a_valid_time_is_not_taken_for_the_initial_time(folder, store, tmp_path, form, inits, leads):
    data = open_forecasts(folder / "whole.nc").load().drop_encoding()
    form(data).to_netcdf(tmp_path / "other.nc")
    found = open_external(tmp_path / "other.nc", store)
    wanted = data.isel(init_time=inits, lead_time=leads)
    np.testing.assert_array_equal(found.init_times, wanted["init_time"])
    np.testing.assert_array_equal(found.lead_times, wanted["lead_time"])
    read = found.read(["temperature"], np.arange(found.init_times.size), np.arange(found.lead_times.size))
    np.testing.assert_array_equal(read["temperature"], wanted["temperature"])


@pytest.mark.parametrize(
    ("change", "warned"),
    [({}, True), ({"long_name": "initial time of forecast"}, False), ({"standard_name": "time"}, False)],
)
def test_what_an_ambiguous_time_is_taken_for_is_said(folder, store, tmp_path, caplog, change, warned):
    data = at_valid_time(open_forecasts(folder / "whole.nc").load().drop_encoding())
    data["time"].attrs = change
    data.to_netcdf(tmp_path / "other.nc")
    found = open_external(tmp_path / "other.nc", store)
    ahead = data["time"].values - found.init_times
    assert (ahead == np.timedelta64(24 if "standard_name" in change else 0, "h")).all()
    assert ("time is taken for the initial time; if it is the valid time, give" in caplog.text) is warned


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout_scores_bit_equal_to_our_own_file(folder, store, tmp_path, name):
    """The file holds more initial times, leads and levels than are verified; they are passed over."""
    path = tmp_path / name
    data = LAYOUTS[name](folder / "whole.nc")
    if path.suffix == ".zarr":
        data.to_zarr(path, zarr_format=2, consolidated=True)
    else:
        data.to_netcdf(path)
    files = opened({"own": folder / "own.nc", "other": path}, store, "other")
    assert files["other"].is_external and not files["own"].is_external
    inits = slice(1, 5)
    verification = Verification(store, files["own"].init_times, LEADS, ())
    ours, theirs = (verification.forecast(files[name], inits) for name in ("own", "other"))
    assert set(ours) == set(theirs)
    for plane in ours:
        np.testing.assert_array_equal(ours[plane], theirs[plane])


def test_scores_of_a_weatherbench_store_are_bit_equal_and_its_cost_is_unknown(folder, store, tmp_path):
    weatherbench(folder / "whole.nc").drop_attrs().to_zarr(tmp_path / "other.zarr", zarr_format=2)
    scores = scores_of(folder, store, tmp_path / "other.zarr").load()
    own, other = (scores.sel(forecaster=name) for name in ("own", "other"))
    for statistic in ("squared_error", "rmse", "acc", "activity", "bias"):
        np.testing.assert_array_equal(own[statistic], other[statistic])
    assert np.isnan(other["seconds_per_simulated_day"]) and np.isfinite(own["seconds_per_simulated_day"])


def test_leads_before_the_initial_time_are_refused(store):
    """They would be verified against another trajectory, or against the end of the store."""
    with pytest.raises(DataError, match=r"a lead lies before the initial time .*-12 h"):
        _ = Verification(
            store, store.times[:1], np.array([-12, 12], "timedelta64[h]").astype("timedelta64[ns]"), ()
        ).rows


def test_ecmwf_layout_with_heights_in_geopotential_metres(folder, store, tmp_path):
    ecmwf(folder / "whole.nc").to_netcdf(tmp_path / "ifs.nc")
    files = opened({"own": folder / "own.nc", "ifs": tmp_path / "ifs.nc"}, store, "ifs")
    ours, theirs = (files[name].read(files["own"].variables, slice(0, 3)) for name in ("own", "ifs"))
    for name in ("temperature", "2m_temperature"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_allclose(ours["geopotential"], theirs["geopotential"], rtol=2e-7)
    assert not files["ifs"].is_ensemble


def test_a_store_at_a_url_is_scored_as_the_same_store_on_disk(folder, store, tmp_path):
    url = "memory://bucket/other.zarr"
    data = xr.load_dataset(folder / "whole.nc").rename(init_time="time", lead_time="prediction_timedelta")
    scores = []
    for place in (tmp_path / "other.zarr", url):
        data.to_zarr(str(place))
        config = load_config(Path(__file__).parent / "tiny.yaml", [f"evaluate.forecasts.other={place}"])
        given = forecast_paths(Contest(config, store))["other"]
        paths = {"own": folder / "own.nc", "other": given}
        scores.append(evaluate(paths, store, CONFIG, tmp_path / f"{len(scores)}.nc").load())
    assert given == url
    xr.testing.assert_equal(scores[0]["rmse"], scores[1]["rmse"])


def test_times_in_any_order_give_the_same_comparison(folder, store, tmp_path):
    """Where there are only files of others, the first tells the times: a comparison needs them in order."""
    data = weatherbench(folder / "whole.nc").isel(time=slice(0, 12))
    data.to_netcdf(tmp_path / "other.nc")
    shuffled = data.isel(time=np.random.default_rng(0).permutation(12), prediction_timedelta=slice(None, None, -1))
    shuffled.to_netcdf(tmp_path / "shuffled.nc")
    wanted, found = (
        evaluate({"other": tmp_path / f"{name}.nc"}, store, CONFIG, tmp_path / f"{name}_scores.nc").load()
        for name in ("other", "shuffled")
    )
    for name in ("rmse", "rmse_lower", "squared_error"):
        xr.testing.assert_allclose(found[name], wanted[name])


def test_one_initial_time_as_a_scalar(folder, store, tmp_path):
    own = open_forecasts(folder / "own.nc").isel(init_time=[2]).load()
    own.to_netcdf(tmp_path / "own.nc")
    ecmwf(tmp_path / "own.nc").isel(time=0, isobaricInhPa=[0]).to_netcdf(tmp_path / "one.nc")
    store = dataclasses.replace(store)
    with pytest.raises(DataError, match=r"one.nc: t lacks level 500 that is verified; it has 850"):
        open_external(tmp_path / "one.nc", store)
    ecmwf(tmp_path / "own.nc").isel(time=0).to_netcdf(tmp_path / "two.nc")
    files = opened({"own": tmp_path / "own.nc", "ifs": tmp_path / "two.nc"}, store, "ifs")
    ours, theirs = (f.read(["temperature", "2m_temperature"], slice(0, 1)) for f in files.values())
    assert theirs["temperature"].dims == ours["temperature"].dims
    np.testing.assert_array_equal(ours["temperature"], theirs["temperature"])


@pytest.mark.parametrize("dim", ["number", "realization", "member"])
def test_an_external_ensemble_is_scored_as_one(folder, store, tmp_path, dim):
    data = weatherbench(folder / "whole.nc")
    members = xr.concat([data, data + 1, data - 1], dim=dim).assign_coords({dim: [0, 1, 2]})
    members.to_netcdf(tmp_path / "ens.nc")
    scores = scores_of(folder, store, tmp_path / "ens.nc").load()
    assert np.isfinite(scores["crps_fair"].sel(forecaster="other", region="all")).all()
    rmse = scores["rmse"].sel(region="all")
    np.testing.assert_allclose(rmse.sel(forecaster="other"), rmse.sel(forecaster="own"), rtol=1e-4)  # of the mean


def test_what_an_external_file_lacks_is_nan_for_it_alone(folder, store, tmp_path, caplog):
    weatherbench(folder / "whole.nc").drop_vars("2m_temperature").to_netcdf(tmp_path / "other.nc")
    config = CONFIG.model_copy(update={"headline": ["2m_temperature", "temperature@850"]})
    scores = scores_of(folder, store, tmp_path / "other.nc", config=config).load()
    rmse = scores["rmse"].sel(region="all")
    assert np.isnan(rmse.sel(forecaster="other", variable="2m_temperature")).all()
    assert np.isfinite(rmse.sel(forecaster="own")).all()
    assert np.isfinite(rmse.sel(forecaster="other", variable="temperature@850")).all()


def test_pressure_levels_against_a_truth_on_sigma(tmp_path):
    """What the file has on pressure levels is compared with what is derived of the truth."""
    store = make_store(Grid.gaussian(8), days=8, world=ON_SIGMA)
    rows = evaluation_rows(store, 2)
    own = tmp_path / "own.nc"
    forecaster = Persistence(store.spec, store.grid, store.timestep)
    write_forecasts(forecaster, store.dataset(rows), LEADS, own, surface_geopotential=store.surface_geopotential)
    with open_forecasts(own) as data:
        derived = derive(data.load(), [300.0, 500.0, 850.0])
    data = derived.drop_vars(["surface_pressure", "geopotential_at_surface"], errors="ignore")
    data = data.rename(init_time="time", lead_time="prediction_timedelta", mean_sea_level_pressure="msl")
    data.drop_encoding().to_netcdf(tmp_path / "other.nc")
    config = EvaluateConfig(pressure_levels=[500.0, 850.0], bootstrap=50, forecasts={"other": "x"})
    scores = evaluate({"own": own, "other": tmp_path / "other.nc"}, store, config, tmp_path / "s.nc").load()
    squared = scores["squared_error"]
    for variable in ("geopotential@500", "temperature@850", "mean_sea_level_pressure"):
        ours, theirs = (squared.sel(forecaster=name, variable=variable) for name in ("own", "other"))
        np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(squared.sel(forecaster="other", variable="surface_pressure")).all()
    assert "geopotential@300" not in scores["variable"]
    missing = config.model_copy(update={"pressure_levels": [500.0, 700.0]})
    with pytest.raises(DataError, match=r"lacks level 700 that is verified; it has 300, 500, 850"):
        evaluate({"own": own, "other": tmp_path / "other.nc"}, store, missing, tmp_path / "s.nc")


def lagging(data):
    """Leads that get longer from initial time to initial time."""
    return data["prediction_timedelta"].values + np.arange(data.sizes["time"])[:, None] * np.timedelta64(6, "h")


def lagged(data, name="init_time"):
    """Forecasts of one valid time, the further back they begin the longer."""
    one, leads = data.isel(time=0, drop=True).rename(prediction_timedelta="lead"), data["prediction_timedelta"].values
    return one.assign_coords({name: ("lead", data["time"].values[0] - leads)})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda d: d.isel(time=slice(5, None)),
            r"lacks initial times of the comparison: 2009-06-01T00, .*it holds .*; evaluate.missing_inits: leave_out",
        ),
        (lambda d: d.isel(prediction_timedelta=[0, 1, 3]), r"lacks leads of the comparison: 18 h; it holds 3 from 6 h"),
        (lambda d: d.isel(level=[1]), r"temperature lacks level 500 that is verified; it has 850"),
        (
            lambda d: d.isel(latitude=slice(1, None)),
            r"its grid \(16 x 7 .*\) is not the truth's \(16 x 8 global.*; emulator regrid IN OUT --like",
        ),
        (lambda d: d.assign_coords(longitude=d["longitude"] + 1), r"its grid \(16 x 8 global.*longitude 1 to"),
        (lambda d: d[["temperature"]].rename(temperature="x"), r"holds none of temperature, .*; it holds x"),
        (lambda d: d.drop_attrs().rename(time="first"), r"no forecast reference time found among"),
        (
            lambda d: d.drop_attrs().rename(prediction_timedelta="second"),
            r"no forecast period found among .*; name it lead_time, or give the initial time the name forecast_ref",
        ),
        (
            lambda d: d.drop_vars("prediction_timedelta").assign_coords(
                init_time=("time", d["time"].values),
                valid_time=(("time", "prediction_timedelta"), d["time"].values[:, None] + lagging(d)),
            ),
            r"valid_time less init_time is no lead that all forecasts share; give leads a dimension of their own",
        ),
        (lambda d: d.expand_dims(scenario=[1, 2]), r"has the dimension scenario, unknown in forecast files"),
        (
            lambda d: d.assign_coords(level=[0.5, 0.85]),
            r"temperature is on sigma levels \(level\), the truth on pressure",
        ),
        (lambda d: xr.concat([d, d.isel(time=[0])], "time"), r"values of time occur twice"),
        (lambda d: d["2m_temperature"].assign_attrs(units="m").to_dataset(), r"unit 'm' of 2m_temperature cannot"),
        (
            lambda d: d.assign({"2m_temperature": d["2m_temperature"].isel(prediction_timedelta=0, drop=True)}),
            r"2m_temperature lacks the dimension prediction_timedelta, so it is no forecast; drop it",
        ),
        (lambda d: d.isel(prediction_timedelta=[]), r"prediction_timedelta is empty or lacks values"),
        (
            lagged,
            r"initial times \(init_time\) and leads \(lead\) both vary along lead; give each a dimension of its own",
        ),
        (
            lambda d: lagged(d, "time"),
            r"initial times \(time\) and leads \(lead\) both vary along lead; if time is the valid time, give it",
        ),
        (
            lambda d: d.assign_coords(valid_time=d["time"] + d["prediction_timedelta"] + np.timedelta64(6, "h")),
            r"valid_time is 2009-06-01T12:00 where time and prediction_timedelta make 2009-06-01T06:00; mend the one",
        ),
        (
            lambda d: d.isel(prediction_timedelta=3).assign_coords(valid_time=d["time"]),
            r"valid_time is 2009-06-01T00:00 where time and prediction_timedelta make 2009-06-02T00:00",
        ),
        (
            lambda d: d.assign_coords(level=["500hPa", "850hPa"]),
            r"level, the level axis of temperature, holds text such as '500hPa'; give it numbers",
        ),
        (
            lambda d: d.rename(temperature="t").assign_coords(level=["500hPa", "850hPa"]),
            r"level, the level axis of t, holds text such as '500hPa'; give it numbers",
        ),
        (
            lambda d: hours(d).assign_coords(prediction_timedelta=[6.0, np.nan, *np.arange(18.0, 49.0, 6.0)]),
            r"prediction_timedelta is empty or lacks values",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(folder, store, tmp_path, change, expected):
    path = tmp_path / "other.nc"
    change(weatherbench(folder / "whole.nc")).to_netcdf(path)
    with pytest.raises(DataError, match=expected) as caught:
        opened({"own": folder / "own.nc", "other": path}, store, "other")
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_forecasts_of_others_are_bounded_as_the_truth_is(tmp_path):
    store = make_store(Grid.gaussian(8), days=2, world=ON_SIGMA)
    data = store.dataset([0, 1]).rename(time="init_time").expand_dims(lead_time=LEADS, axis=1)
    data = data[["temperature", "specific_humidity"]].copy(deep=True)
    data["specific_humidity"] -= 0.002
    data.to_netcdf(tmp_path / "other.nc")
    found = open_external(tmp_path / "other.nc", store).read(list(data), np.arange(2), np.arange(4))
    assert (data["specific_humidity"] < 0).any() and (data["specific_humidity"] > 0).any()
    np.testing.assert_array_equal(found["specific_humidity"], np.maximum(data["specific_humidity"], 0))
    np.testing.assert_array_equal(found["temperature"], data["temperature"])


def as_forecasts(store, change, path):
    """Two initial times and leads of a store as a file of somebody else, without units, in which something is off."""
    data = store.dataset([0, 1]).rename(time="init_time").expand_dims(lead_time=LEADS[:2], axis=1).copy(deep=True)
    for field in data.values():
        field.attrs = {}
    change(data).to_netcdf(path)
    found = open_external(path, store)
    return data, found.read(list(found.fields), np.arange(2), np.arange(2))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda d: d.assign(temperature=d["temperature"] - 273.15),
            r"temperature at 500 hPa ranges from -\S+ to -\S+ K, possible are 50 to 400; these look like degrees C",
        ),
        (
            lambda d: d.assign(temperature=d["temperature"].assign_attrs(units="degC")),
            r"temperature at 500 hPa ranges from 5\S+ to 5\S+ K, possible are 50 to 400; set the units attribute",
        ),
        (
            lambda d: d.assign(geopotential=d["geopotential"] / GRAVITY),
            r"geopotential at 500 hPa ranges from 5\S+ to 5\S+ m2 s-2, usual is 5\d{4}; these look like m: set",
        ),
        (
            lambda d: d.assign({"2m_temperature": d["2m_temperature"].where(d["latitude"] > -70, -9999)}),
            r"2m_temperature ranges from -9999 to 2\S+ K, .*; this looks like a missing value that is not declared",
        ),
    ],
)
def test_another_unit_is_refused(tmp_path, change, expected):
    with pytest.raises(DataError, match=expected) as caught:
        as_forecasts(make_store(Grid.gaussian(8), days=2), change, tmp_path / "other.nc")
    assert str(caught.value).startswith(str(tmp_path / "other.nc")) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "factor", "expected"),
    [
        ("specific_humidity", 1e3, "kg kg-1, possible are -0.01 to 0.1; these look like g kg-1: set"),
        ("surface_pressure", 1e-2, "Pa, possible are 30000 to 120000; these look like hPa: set"),
    ],
)
def test_another_unit_on_sigma_levels_is_refused(tmp_path, name, factor, expected):
    store = make_store(Grid.gaussian(8), days=2, world=ON_SIGMA)
    with pytest.raises(DataError, match=rf"{name} ranges from \S+ to \S+ {expected}"):
        as_forecasts(store, lambda d: d.assign({name: d[name] * factor}), tmp_path / "other.nc")


@pytest.mark.parametrize(("units", "factor"), [("g m-3", 1e-3), ("kg m-3", 1.0), ("m", None)])
def test_what_has_no_entry_is_compared_in_the_truths_unit(tmp_path, units, factor):
    store = make_store(Grid.gaussian(8), days=2)
    as_dust = {"name": "dust", "units": "kg m-3"}
    variables = (dataclasses.replace(v, **as_dust) if v.name == "2m_temperature" else v for v in store.spec.variables)
    store = dataclasses.replace(store, spec=dataclasses.replace(store.spec, variables=tuple(variables)))

    def in_their_unit(data):
        return data.assign(dust=data["dust"].assign_attrs(units=units))

    if factor is None:
        with pytest.raises(DataError, match=r"dust is in 'm', the truth's dust in 'kg m-3'; set its units attribute"):
            as_forecasts(store, in_their_unit, tmp_path / "other.nc")
        return
    data, found = as_forecasts(store, in_their_unit, tmp_path / "other.nc")
    np.testing.assert_allclose(found["dust"], factor * data["dust"], rtol=1e-6)


def test_rain_in_millimetres_is_refused_where_no_unit_says_so():
    rain = np.random.default_rng(0).gamma(0.3, 1e-3, size=(1, 1, 20, 40))
    name = "total_precipitation_6hr"
    _refuse_impossible("file: tp", name, "m", [None], rain)
    _refuse_impossible("file: tp", name, "m", [None], np.where(rain > 8e-3, 0.7, rain))  # where a model blows up
    with pytest.raises(DataError, match=r"file: tp ranges from \S+ to \S+ m; these look like mm: set the units"):
        _refuse_impossible("file: tp", name, "m", [None], 1000 * rain)


def test_what_is_impossible_at_some_points_or_missing_is_left_to_the_scores(tmp_path, caplog):
    """A model may overshoot and blow up: its errors say so. Under a mask there may be nothing."""
    store = make_store(Grid.gaussian(8), days=2, world=ON_SIGMA)
    north, south = (lambda d: d["latitude"] > 70), (lambda d: d["latitude"] < -70)

    def odd(d):
        humidity = xr.where(north(d) & (d["longitude"] < 90), 0.2, d["specific_humidity"] - 0.0005)
        return d.assign(
            specific_humidity=humidity, temperature=d["temperature"].where(~south(d), -3e5).where(~north(d))
        )

    data, found = as_forecasts(store, odd, tmp_path / "other.nc")
    np.testing.assert_array_equal(found["temperature"], odd(data)["temperature"])
    assert found["temperature"].min() == -3e5 and found["temperature"].isnull().any()
    assert found["specific_humidity"].max() == np.float32(0.2) and found["specific_humidity"].min() == 0
    said = [r.getMessage() for r in caplog.records if "holds impossible values at some points" in r.getMessage()]
    assert sorted(text.partition(" holds ")[0].rpartition(": ")[2] for text in said) == [
        "specific_humidity",
        "temperature",
    ]  # once each, of four fields


def test_a_file_that_changes_while_it_is_scored_is_refused(store, folder, tmp_path):
    path, data = tmp_path / "other.nc", weatherbench(folder / "whole.nc")
    data.to_netcdf(path)
    found = open_external(path, store)
    data.isel(prediction_timedelta=slice(4)).to_netcdf(path)
    with pytest.raises(DataError, match=r"other.nc: temperature has changed since the file was opened; score it again"):
        found.read(["temperature"], np.arange(2), np.arange(8))


def write_grib(store, path, warmer=0.0):
    """Forecasts of a day ahead and two from three initial times, all of them persistence."""
    eccodes = pytest.importorskip("eccodes")
    data = store.dataset([0, 1, 2]) + warmer
    fields = [("temperature", 130, "isobaricInhPa", 500), ("temperature", 130, "isobaricInhPa", 850)]
    fields += [("2m_temperature", 167, "heightAboveGround", 2)]
    with path.open("wb") as file:
        for row, step, (name, parameter, kind, level) in itertools.product(range(3), (24, 48), fields):
            message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
            time, (rows, columns) = str(data["time"].values[row]), store.grid.shape
            keys = {
                "Ni": columns,
                "Nj": rows,
                "latitudeOfFirstGridPointInDegrees": store.grid.latitude[-1],
                "latitudeOfLastGridPointInDegrees": store.grid.latitude[0],
                "longitudeOfLastGridPointInDegrees": store.grid.longitude[-1],
                "iDirectionIncrementInDegrees": 360 / columns,
                "jDirectionIncrementInDegrees": store.grid.latitude[1] - store.grid.latitude[0],
                "dataDate": int(time[:10].replace("-", "")),
                "dataTime": int(time[11:13]) * 100,
                "paramId": parameter,
                "typeOfLevel": kind,
                "level": level,
                "step": step,
                "bitsPerValue": 24,
            }
            for key, value in keys.items():
                eccodes.codes_set(message, key, value)
            field = data[name].isel(time=row)
            field = field.sel(level=level) if "level" in field.dims else field
            eccodes.codes_set_values(message, field.values[::-1].astype(np.float64).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    return data


def test_a_grib_file_is_indexed_once_until_it_changes(tmp_path, monkeypatch):
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    store, path, opened = (
        make_store(Grid.from_arrays(range(-60, 61, 30), range(0, 360, 45)), days=2),
        tmp_path / "f.grib",
        [],
    )
    monkeypatch.setattr(external, "open_lazily", lambda path: opened.append(path) or open_lazily(path))
    for warmer in (0.0, 5.0):
        data = write_grib(store, path, warmer)
        found = pickle.loads(pickle.dumps(open_external(path, store)))  # as a worker gets it
        for row in range(3):
            read = found.read(["temperature", "2m_temperature"], np.array([row]), np.arange(2))
            for name in read:
                np.testing.assert_allclose(read[name][0, 1], data[name][row], atol=1e-3)
    assert opened == [path, path]


def test_accumulations_from_the_start_are_not_taken_for_those_of_an_interval(tmp_path):
    from tiny_store import write_store

    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8))
    data = store.dataset([0, 1]).rename(time="init_time").expand_dims(lead_time=LEADS, axis=1)
    data = data.rename(total_precipitation_6hr="tp")[["temperature", "tp"]]
    data.to_netcdf(tmp_path / "other.nc")
    assert set(open_external(tmp_path / "other.nc", store).fields) == {"temperature"}
    data.rename(tp="total_precipitation_6hr").to_netcdf(tmp_path / "named.nc")
    assert set(open_external(tmp_path / "named.nc", store).fields) == {"temperature", "total_precipitation_6hr"}


def test_rain_whose_name_says_no_interval_is_left_out_with_a_word(tmp_path, caplog):
    """The experiment may call it so; a forecast's may run from its start."""
    from tiny_store import write_store

    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8))
    data = store.dataset([0, 1]).rename(time="init_time").expand_dims(lead_time=LEADS, axis=1)
    named = {"total_precipitation_6hr": "total_precipitation"}
    data.rename(named)[["temperature", "total_precipitation"]].to_netcdf(tmp_path / "other.nc")
    variables = tuple(replace(v, name=named.get(v.name, v.name)) for v in store.spec.variables)
    renamed = replace(store, spec=replace(store.spec, variables=variables))
    assert set(open_external(tmp_path / "other.nc", renamed).fields) == {"temperature"}
    assert "other.nc: total_precipitation is left out" in caplog.text
    assert "call it total_precipitation_6hr there" in caplog.text


def test_a_block_reads_only_the_chunks_it_needs(folder, store, tmp_path):
    """A store of terabytes is read as far as it is asked for: here all other chunks are gone, and nobody notices."""
    path = tmp_path / "other.zarr"
    data = weatherbench(folder / "whole.nc")
    chunks = {"time": 1, "prediction_timedelta": 4, "level": 1, "longitude": 16, "latitude": 8}
    encoding = {"temperature": {"chunks": tuple(chunks.values())}}
    data[["temperature"]].to_zarr(path, zarr_format=2, encoding=encoding)
    files = opened({"own": folder / "own.nc", "other": path}, store, "other")
    wanted = data.sel(time=files["own"].init_times[2:4]).isel(prediction_timedelta=slice(0, 4))
    rows = [int(np.flatnonzero(data["time"].values == t)[0]) for t in files["own"].init_times[2:4]]
    for chunk in (path / "temperature").iterdir():
        parts = chunk.name.split(".")
        if parts[0].isdigit() and not (int(parts[0]) in rows and parts[1] == "0"):
            chunk.write_bytes(b"no such data")
    found = files["other"].read(["temperature"], slice(2, 4))
    expected = (
        wanted["temperature"].transpose(..., "level", "latitude", "longitude").isel(latitude=slice(None, None, -1))
    )
    np.testing.assert_array_equal(found["temperature"], expected)
    with pytest.raises(DataError, match=r"other.zarr: cannot be read"):
        files["other"].read(["temperature"], slice(0, 1))


@pytest.mark.parametrize(
    ("change", "doubted"),
    [
        (lambda d: d, None),
        (lambda d: d.assign(temperature=d["temperature"] + 40), "temperature@500"),  # where climatology errs least
        (lambda d: d.assign({"2m_temperature": d["2m_temperature"] - 40}), "2m_temperature"),
    ],
)
def test_an_error_far_beyond_climatology_is_asked_about(folder, store, tmp_path, change, doubted, caplog):
    change(weatherbench(folder / "whole.nc")).to_netcdf(tmp_path / "other.nc")
    write_forecasts(
        make_reference("climatology", store, LEADS), store.dataset(evaluation_rows(store, 3)), LEADS, tmp_path / "c.nc"
    )
    write_forecasts(Noisy(store, "bad", 100.0, 0.0), store.dataset(evaluation_rows(store, 3)), LEADS, tmp_path / "b.nc")
    paths = {"own": tmp_path / "b.nc", "climatology": tmp_path / "c.nc", "other": tmp_path / "other.nc"}
    config = CONFIG.model_copy(update={"forecasts": {"other": [str(tmp_path / "other.nc")]}})
    evaluate(paths, store, config, tmp_path / "scores.nc")
    said = [r.getMessage() for r in caplog.records if "times climatology's" in r.getMessage()]
    assert len(said) == (doubted is not None)  # the experiment's own is never doubted, however bad
    if doubted is not None:
        found = rf"other: its error in {doubted} at 6 h is \S+ times climatology's; .* look at {tmp_path}/other.nc"
        assert re.fullmatch(found, said[0])
        caplog.clear()
        del paths["climatology"]
        evaluate(paths, store, config, tmp_path / "scores.nc")
        assert "climatology's" not in caplog.text


def test_the_command_line_adds_files_to_the_config(tmp_path):
    parsed = build_parser().parse_args(["evaluate", "demo", "--forecast", "ifs=a b/x: y.zarr", "--forecast", "gc=g.nc"])
    assert parsed.forecast == [("ifs", "a b/x: y.zarr"), ("gc", "g.nc")]
    for bad in ("ifs", "=x", "a.b=x", "ifs="):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["evaluate", "demo", "--forecast", bad])
    config = load_config("demo", ['evaluate.forecasts.ifs="a b/x: y.zarr"'])
    assert config.evaluate.forecasts == {"ifs": "a b/x: y.zarr"}


def test_a_file_of_others_on_sigma_levels_stands_on_its_own_surface(tmp_path):
    store = make_store(Grid.gaussian(8), days=8, world=ON_SIGMA)
    rows, leads, own = evaluation_rows(store, 2), lead_times(1), tmp_path / "own.nc"
    higher = store.surface_geopotential + 500
    forecaster = Persistence(store.spec, store.grid, store.timestep)
    write_forecasts(forecaster, store.dataset(rows), leads, own, surface_geopotential=higher)
    with open_forecasts(own) as data:
        theirs = data.load().drop_attrs(deep=False).rename(init_time="time", lead_time="step").drop_encoding()
    theirs.to_netcdf(tmp_path / "other.nc")
    config = EvaluateConfig(pressure_levels=[500.0], bootstrap=50, forecasts={"other": "x"})
    scores = evaluate({"own": own, "other": tmp_path / "other.nc"}, store, config, tmp_path / "s.nc")
    squared = scores["squared_error"].sel(variable="mean_sea_level_pressure")
    np.testing.assert_array_equal(squared.sel(forecaster="other"), squared.sel(forecaster="own"))
