"""The whole way, from nothing to a table, and the forecast command on whatever a user hands it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from emulator.cli import main

pytest.importorskip("jcm")
pytestmark = pytest.mark.physics

CONFIG = Path(__file__).parent / "tiny.yaml"


@pytest.fixture
def folder(tiny_experiment):
    return tiny_experiment


@pytest.fixture
def initial(folder):
    """A state of the test member, as its file holds it."""
    return xr.open_dataset(folder / "nature" / "member_002.nc").isel(time=[4]).load()


def forecast(folder, tmp_path, source, *more):
    out = tmp_path / "forecast.nc"
    code = main(["forecast", str(folder / "run"), str(source), "--days", "1", "--out", str(out), *more])
    assert out.exists() == (code == 0)
    assert not list(tmp_path.glob(".*partial*"))
    return code, (xr.load_dataset(out) if code == 0 else None)


def test_every_stage_leaves_what_it_promises(folder, capsys):
    for name in ("nature/boundary.nc", "store.zarr/manifest.json", "run/run.json", "scores.nc", "plots/skill.png"):
        assert (folder / name).exists(), name
    table = (folder / "table.txt").read_text()
    for word in ("Z500", "Network", "Physics T21", "Persistence", "Climatology", "1 d", "until"):
        assert word in table
    assert all(r["finished"] for r in json.loads((folder / "stages.json").read_text()).values())
    capsys.readouterr()
    assert main(["run", str(CONFIG), "--set", f"workdir={folder}"]) == 0
    assert "Network" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, words",
    [
        ("data.static.lake_cover={}", "boundary.nc and 3 more: missing lake_cover (static lake_cover); the files hold"),
        ("data.timestep_hours=12", "total_precipitation_6hr"),
        ("data.split.segments.test=[3]", "there is no segment 3; there are 3: "),
    ],
)
def test_data_that_the_nature_run_will_not_hold_are_refused_before_it(tmp_path, capsys, change, words):
    folder = tmp_path / "work"
    assert main(["run", str(CONFIG), "--set", f"workdir={folder}", "--set", change]) != 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: preparation would refuse what is to be simulated: ") and words in said
    assert "/tmp" not in said.replace(str(folder), "") and not (folder / "nature").exists()


def test_all_forecasters_start_from_the_same_times(folder):
    files = sorted((folder / "forecasts").glob("*.nc"))
    assert {f.stem for f in files} == {
        *(f"{model}{form}" for model in ("network", "physics_t21") for form in ("", "_debiased", "_damped")),
        *("persistence", "anomaly_persistence", "climatology"),
    }
    times = [xr.open_dataset(f)["init_time"].values for f in files]
    assert all(np.array_equal(t, times[0]) for t in times)


def test_physics_that_is_its_own_truth_stays_close(folder):
    """SPEEDY T21 from fields of SPEEDY T21: what is left is the restart, far below persistence's error."""
    scores = xr.load_dataset(folder / "scores.nc").sel(variable="geopotential@500", region="all")
    rmse = scores["rmse"].sel(lead_time=np.timedelta64(24, "h"))
    assert float(rmse.sel(forecaster="physics_t21")) < 0.2 * float(rmse.sel(forecaster="persistence"))


def test_a_forecast_from_a_file_equals_the_experiments(folder, initial, tmp_path):
    initial.to_netcdf(tmp_path / "initial.nc")
    code, alone = forecast(folder, tmp_path, tmp_path / "initial.nc")
    assert code == 0
    together = xr.load_dataset(folder / "forecasts" / "network.nc").sel(init_time=initial["time"].values[0])
    np.testing.assert_allclose(alone["temperature"], together["temperature"], atol=1e-3)
    assert alone["temperature"].attrs["units"] == "K"
    assert alone["lead_time"].dtype.kind == "m" and alone["temperature"].dims[0] == "time"
    np.testing.assert_array_equal(alone["time"], alone["init_time"] + alone["lead_time"])


@pytest.mark.parametrize("name", ["latitude_descends", "longitude_from_minus_180", "levels_from_below", "transposed"])
def test_the_same_state_written_otherwise_gives_the_same_forecast(folder, initial, tmp_path, name):
    other = {
        "latitude_descends": lambda d: d.isel(latitude=slice(None, None, -1)),
        "longitude_from_minus_180": lambda d: d.assign_coords(longitude=(d["longitude"] + 180) % 360 - 180).sortby(
            "longitude"
        ),
        "levels_from_below": lambda d: d.isel(level=slice(None, None, -1)),
        "transposed": lambda d: d.transpose("longitude", "latitude", ...),
    }[name](initial)
    initial.to_netcdf(tmp_path / "plain.nc")
    other.to_netcdf(tmp_path / "other.nc")
    _, expected = forecast(folder, tmp_path, tmp_path / "plain.nc")
    code, found = forecast(folder, tmp_path, tmp_path / "other.nc")
    assert code == 0
    xr.testing.assert_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("variable", "missing specific_humidity"),
        ("level", "level 0.95"),
        ("grid", "grid"),
        ("nan", "NaN"),
        ("celsius", "temperature"),
        ("empty", "empty.nc"),
        ("text", "text.nc"),
        ("absent", "absent.nc"),
    ],
)
def test_a_bad_file_is_one_line(folder, initial, tmp_path, capsys, name, expected):
    path = tmp_path / f"{name}.nc"
    if name == "variable":
        initial.drop_vars("specific_humidity").to_netcdf(path)
    elif name == "level":
        initial.isel(level=slice(None, -1)).to_netcdf(path)
    elif name == "grid":
        initial.isel(latitude=slice(None, None, 2)).to_netcdf(path)
    elif name == "nan":
        initial["temperature"][0, 3, 4, 5] = np.nan
        initial.to_netcdf(path)
    elif name == "celsius":
        initial.assign(temperature=initial["temperature"] - 273.15).to_netcdf(path)
    elif name == "empty":
        path.touch()
    elif name == "text":
        path.write_text("this is no NetCDF file\n")
    code, _ = forecast(folder, tmp_path, path)
    error = capsys.readouterr().err
    assert code == 1
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in error


def test_days_that_are_no_multiple_of_the_step_are_refused(folder, initial, tmp_path, capsys):
    initial.to_netcdf(tmp_path / "initial.nc")
    assert main(["forecast", str(folder / "run"), str(tmp_path / "initial.nc"), "--days", "0.1"]) == 2
    assert "0.1 days" in capsys.readouterr().err


def test_a_run_folder_needs_nothing_else(folder, initial, tmp_path):
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(folder / "run", moved, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    initial.to_netcdf(tmp_path / "initial.nc")
    code = main(["forecast", str(moved), str(tmp_path / "initial.nc"), "--days", "1", "--out", str(tmp_path / "f.nc")])
    assert code == 0
