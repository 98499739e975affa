"""The shipped config for WeatherBench-2, from a bucket with its schema to scores; times, steps and widths are fewer."""

import fsspec
import numpy as np
import pytest
import xarray as xr
from weather_files import times_from
from weatherbench_store import GRID, LEVELS, weatherbench_store

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.inspection.report import inspect_files
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from emulator.cli import main
from emulator.config import load_config

NAME = "1959-2023_01_10-6h-64x32_equiangular_conservative.zarr"
URL = f"memory://weatherbench2/datasets/era5/{NAME}"
TIMES = times_from("2017-12-25", 48)
SMALLER = {
    "data.inputs": f"[{URL}]",
    "data.split": "{train: [2017-12-25, 2017-12-30], validation: [2017-12-31, 2018-01-02], "
    "test: [2018-01-03, 2018-01-05], gap_days: 0}",
    "model": "{kind: unet, patch: 4, width: 8, multipliers: [1], blocks: 1}",
    "train.batch_size": "4",
    "train.stages": "[{steps: 4, warmup: 1}]",
    "train.optimiser": "adamw",  # compiles faster
    "train.precision": "float32",
    "train.validation_windows": "2",
    "train.validation_steps": "2",
    "evaluate.lead_hours": "12",
    "evaluate.bootstrap": "100",
}


@pytest.fixture(scope="module")
def truth():
    yield weatherbench_store(URL, TIMES)
    fsspec.filesystem("memory").rm("/weatherbench2", recursive=True)


@pytest.fixture(scope="module")
def folder(truth, tmp_path_factory):
    work = tmp_path_factory.mktemp("era5")
    words = [w for key, value in SMALLER.items() for w in ("--set", f"{key}={value}")]
    for stage in ("prepare", "train", "forecast", "evaluate"):
        assert main([stage, "era5_5p625", *words, "--set", f"workdir={work}"]) == 0, stage
    return work


def test_the_config_reads_the_public_store_and_splits_years_as_the_field_does():
    config = load_config("era5_5p625")
    assert config.data.inputs == [f"gs://weatherbench2/datasets/era5/{NAME}"]
    assert config.data.split.test == ["2020-01-01", "2021-01-10"]  # the year of WeatherBench-2's scores, and ten days


def test_inspect_understands_every_variable_of_the_store(truth):
    report = inspect_files([URL])
    assert report.refusal is None
    assert report.section["diagnostic"] == {"total_precipitation_6hr": {"minimum": 0.0}}
    assert "left out: total_precipitation_24hr (its sums overlap: they run over 24 h" in report.text
    assert not [name for role in ("prognostic", "forcing") for name in report.section[role] if name.startswith("toa")]
    config = load_config("era5_5p625").data
    assert set(config.prognostic) <= set(report.section["prognostic"])
    assert set(config.static) <= set(report.section["static"])


def test_rain_over_another_interval_is_refused_by_name(truth, tmp_path):
    raw = {**load_config("era5_5p625").data.model_dump(), "inputs": [URL], "split": {"segments": {}}}
    raw["diagnostic"] = {"total_precipitation_6hr": {"source": "total_precipitation_24hr"}}
    with pytest.raises(DataError, match=r"total_precipitation_24hr holds sums over another interval than .* 6 h"):
        prepare(DataConfig.model_validate(raw), tmp_path / "store.zarr", tmp_path)


def test_the_prepared_store_holds_what_the_bucket_holds(truth, folder):
    store = open_store(folder / "store.zarr")
    assert store.grid == GRID
    assert len(store.spec.state_channels) == 5 * 13 + 4 + 1
    assert store.spec["geopotential"].levels == tuple(map(float, LEVELS))
    np.testing.assert_array_equal(store.times, TIMES)
    found = store.dataset(range(TIMES.size))
    wanted = truth.transpose("time", "level", "latitude", "longitude")
    for name in ("geopotential", "specific_humidity", "2m_temperature"):
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    rain = wanted["total_precipitation_6hr"]
    assert float(rain.min()) < 0
    np.testing.assert_array_equal(found["total_precipitation_6hr"], np.maximum(rain, 0))
    sea = found["sea_surface_temperature"]
    assert np.isfinite(sea).all()
    np.testing.assert_array_equal(
        sea.where(wanted["sea_surface_temperature"].notnull()), wanted["sea_surface_temperature"]
    )
    number = [c.name for c in store.spec.forcing_channels].index("toa_incident_solar_radiation")
    sun = store.forcing_builder.at(TIMES[:1], store.take_persisted(np.array([0]))[0])[0, ..., number]
    mean = np.average(sun.mean(axis=-1), weights=GRID.latitude_weights)
    assert mean == pytest.approx(351, abs=5)  # W m-2 of the computed sun at perihelion, not J m-2 of the files


def test_scores_of_network_and_references_are_there(folder):
    scores = xr.load_dataset(folder / "scores.nc").sel(region="all")
    config = load_config("era5_5p625").evaluate
    rmse = scores["rmse"].sel(variable=config.headline)
    assert set(scores["forecaster"].values) == {"network", *config.references}
    for forecaster in ("network", "persistence", "climatology"):
        assert np.isfinite(rmse.sel(forecaster=forecaster)).all(), forecaster
