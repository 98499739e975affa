"""What the program writes is CF as the checker of the field sees it, and opens in CDO."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from cf_checker import complaints
from synthetic import ON_SIGMA, evaluation_rows, lead_times, make_store
from world_files import world

from data_prep.config import RegridConfig
from data_prep.grid import Grid
from data_prep.reading.regrid_file import regrid_file
from data_prep.spec import unit_attrs
from emulator.config import EvaluateConfig
from emulator.evaluation.scores import evaluate
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference

pytestmark = pytest.mark.filterwarnings("ignore:The ioos_sos checker:DeprecationWarning")


@pytest.fixture(scope="module", params=["pressure", "sigma"])
def written(request, tmp_path_factory):
    """Forecasts from many times, and from one along its valid time, with their scores."""
    folder = tmp_path_factory.mktemp("cf")
    store = make_store(days=12, **({"world": ON_SIGMA} if request.param == "sigma" else {}))
    rows, leads = evaluation_rows(store, 2), lead_times(2)
    paths = {}
    for name in ("persistence", "climatology"):
        paths[name] = folder / f"{name}.nc"
        reference = make_reference(name, store, leads)
        surface = store.surface_geopotential
        write_forecasts(reference, store.dataset(rows), leads, paths[name], surface_geopotential=surface)
    write_forecasts(
        make_reference("persistence", store, leads),
        store.dataset(rows[:1]),
        leads,
        folder / "one.nc",
        surface_geopotential=store.surface_geopotential,
        along_valid_time=True,
    )
    evaluate(paths, store, EvaluateConfig(bootstrap=50), folder / "scores.nc").close()
    return folder


@pytest.mark.parametrize("name", ["persistence.nc", "one.nc"])
def test_results_are_clean_under_the_cf_checker(written, name):
    assert complaints(written / name) == []


@pytest.mark.parametrize("written", ["sigma"], indirect=True)  # those of the other are alike, and it takes its time
def test_scores_are_clean_under_the_cf_checker(written):
    assert complaints(written / "scores.nc") == []


def test_regridded_files_are_clean_under_the_cf_checker(tmp_path):
    data = world().assign_attrs(Conventions="CF-1.11", title="weather")
    for name, field in data.data_vars.items():
        field.attrs |= unit_attrs(field.attrs["units"]) | {"long_name": name}
    data["level"].attrs |= {"standard_name": "air_pressure", "positive": "down"}
    data["temperature"].attrs["actual_range"] = np.array([1.0, 2.0], np.float32)
    data.to_netcdf(tmp_path / "a.nc")
    regrid_file(tmp_path / "a.nc", tmp_path / "b.nc", RegridConfig(grid="8x4"))
    assert complaints(tmp_path / "b.nc") == []


def test_one_forecast_opens_in_cdo_without_complaint(written):
    if shutil.which("cdo") is None:
        pytest.skip("cdo is not installed")
    done = subprocess.run(["cdo", "-s", "sinfo", str(written / "one.nc")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stderr == ""
    with xr.open_dataset(written / "one.nc") as data:
        assert "8 steps" in done.stdout and data.sizes["time"] == 8
        assert {"init_time", "lead_time"} <= set(data.coords)


def test_a_forecast_of_an_experiment_opens_in_cdo_by_the_lines_of_the_documentation(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/demo/forecasts").mkdir(parents=True)
    shutil.copy(written / "persistence.nc", "runs/demo/forecasts/network.nc")
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
    with xr.open_dataset("one.nc") as found, xr.open_dataset(written / "one.nc") as expected:
        np.testing.assert_array_equal(found["time"], expected["time"])
        np.testing.assert_array_equal(found["temperature"], expected["temperature"])
    if shutil.which("cdo") is not None:
        done = subprocess.run(["cdo", "-s", "sinfo", "one.nc"], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "") and "8 steps" in done.stdout


def test_nothing_that_moves_is_lost_along_the_valid_time(written):
    with xr.open_dataset(written / "one.nc") as one, xr.open_dataset(written / "persistence.nc") as many:
        for name in one.data_vars:
            expected = many[name].isel(init_time=0) if "init_time" in many[name].dims else many[name]
            np.testing.assert_array_equal(one[name], expected)
    assert Grid.from_arrays(one["latitude"], one["longitude"]).is_global
