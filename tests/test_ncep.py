"""A real regional data set through the same doors: no poles, latitude descending, another name for the field."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from emulator.cli import main

ROOT = Path(__file__).parent.parent
FILE = ROOT.parent / "shared" / "data" / "ncep_r1_air_temperature_2013_2014.nc"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="needs ../shared/data, which is not part of the project")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    work = tmp_path_factory.mktemp("ncep")
    training = [f"data.inputs=[{FILE}]", "train.stages=[{steps: 4}]", "train.validate_every=4"]
    scoring = ["evaluate.max_inits=40", "evaluate.bootstrap=100", "evaluate.lead_hours=72"]
    options = [word for value in (*training, *scoring, f"workdir={work}") for word in ("--set", value)]
    for stage in ("prepare", "train", "forecast", "evaluate"):
        assert main([stage, "ncep_air", *options]) == 0
    return work


def test_references_have_the_errors_that_others_measured(folder):
    scores = xr.load_dataset(folder / "scores.nc").sel(region="all", variable="air_temperature_sigma995")
    rmse = scores["rmse"].sel(lead_time=np.timedelta64(6, "h"))
    assert float(rmse.sel(forecaster="persistence")) == pytest.approx(2.26, abs=0.25)
    assert float(rmse.sel(forecaster="anomaly_persistence")) == pytest.approx(1.40, abs=0.25)
    assert float(rmse.sel(forecaster="climatology")) == pytest.approx(3.33, abs=0.4)


def test_the_linear_regression_is_a_stronger_reference_than_persistence(folder):
    rmse = xr.load_dataset(folder / "scores.nc")["rmse"].sel(region="all", variable="air_temperature_sigma995")
    for hours in (6, 24, 72):
        at = rmse.sel(lead_time=np.timedelta64(hours, "h"))
        assert float(at.sel(forecaster="linear_pcs")) < float(at.sel(forecaster="damped_anomaly_persistence"))


def test_a_network_that_has_hardly_begun_keeps_the_anomaly(folder):
    """Four steps of training: it starts from the persistence of the anomaly, not of the field."""
    rmse = xr.load_dataset(folder / "scores.nc")["rmse"].sel(region="all", variable="air_temperature_sigma995")
    first = rmse.sel(lead_time=np.timedelta64(6, "h"))
    kept, found = (float(first.sel(forecaster=name)) for name in ("anomaly_persistence", "network"))
    assert found == pytest.approx(kept, rel=0.1)
    assert kept < 0.8 * float(first.sel(forecaster="persistence"))


def test_the_raw_file_is_an_initial_condition(folder, tmp_path):
    out = tmp_path / "forecast.nc"
    options = ["--days", "1", "--time", "2014-08-01T06", "--out", str(out)]
    assert main(["forecast", str(folder / "run"), str(FILE), *options]) == 0
    forecast = xr.load_dataset(out)
    assert forecast["init_time"].values == np.datetime64("2014-08-01T06")
    assert forecast["air_temperature_sigma995"].shape == (4, 25, 53)
