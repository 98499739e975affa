"""A field on one pressure surface is not taken for that of another, nor for one at the ground."""

import numpy as np
import pytest
import xarray as xr
from world_files import region

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading.initial import read_initial
from data_prep.reading.inputs import open_canonical
from data_prep.spec import StateSpec
from emulator.evaluation.external import open_external

DATA = region().isel(level=0, drop=True)[["temperature"]].rename(temperature="air")
CONFIG = DataConfig.model_validate({"inputs": ["x"], "prognostic": {"air": {}}, "split": {"segments": {"train": [0]}}})


def at(hectopascal, **attributes):
    return DATA.expand_dims(level=[hectopascal]).assign_coords(level=lambda d: d["level"].assign_attrs(attributes))


def at_scalar(hectopascal):
    return DATA.assign_coords(level=((), hectopascal, {"units": "hPa"}))


FORMS = {
    "none": DATA,
    "700": at(700.0, units="millibar"),
    "700 as scalar": at_scalar(700.0),
    "700 without unit": at(700.0),
    "850": at(850.0, units="hPa"),
    "10 without unit": at(10.0),
    "2 m": at(2.0, units="m"),
}


def spec_of(tmp_path, **files):
    paths = []
    for name, data in files.items():
        paths.append(tmp_path / f"{name}.nc")
        data.to_netcdf(paths[-1])
    inputs = open_canonical(paths, CONFIG)
    return inputs.spec, inputs.grid


@pytest.mark.parametrize(
    ("form", "pressure"),
    [("none", None), ("700", 700), ("700 as scalar", 700), ("700 without unit", 700), ("10 without unit", None),
     ("2 m", None)],
)  # fmt: skip
def test_the_surface_is_what_the_files_say(tmp_path, form, pressure):
    spec, _ = spec_of(tmp_path, a=FORMS[form])
    assert spec["air"].levels == () and spec["air"].pressure == pressure
    assert StateSpec.from_dict(spec.to_dict()) == spec
    assert ("pressure" in spec.to_dict()["variables"][0]) == (pressure is not None)


@pytest.mark.parametrize(("first", "second"), [("none", "700"), ("700", "none"), ("700", "850")])
def test_two_surfaces_do_not_make_one_record(tmp_path, first, second):
    halves = [FORMS[form].isel(time=part) for form, part in ((first, slice(60)), (second, slice(60, None)))]
    with pytest.raises(DataError, match=r"air lies at \d+ hPa, that of other files (on no pressure level|at \d+ hPa)"):
        spec_of(tmp_path, a=halves[0], b=halves[1])


@pytest.mark.parametrize(
    ("learned", "given", "fits"),
    [("none", "2 m", True), ("none", "700", False), ("700", "850", False), ("700", "700 as scalar", True),
     ("700", "none", True)],
)  # fmt: skip
def test_a_forecast_starts_from_the_surface_that_was_learned(tmp_path, learned, given, fits):
    spec, grid = spec_of(tmp_path, a=FORMS[learned])
    FORMS[given].to_netcdf(tmp_path / "initial.nc")
    if fits:
        found = read_initial(tmp_path / "initial.nc", spec, grid)
        np.testing.assert_array_equal(found["air"].squeeze(), DATA["air"][-1])
    else:
        with pytest.raises(DataError, match=r"initial.nc: air lies at \d+ hPa, the model's"):
            read_initial(tmp_path / "initial.nc", spec, grid)


@pytest.mark.parametrize(("form", "fits"), [("none", True), ("2 m", True), ("850", False)])
def test_another_centres_forecast_is_scored_on_the_surface_of_the_truth(tmp_path, form, fits):
    DATA.to_netcdf(tmp_path / "a.nc")
    config = CONFIG.model_copy(update={"inputs": [str(tmp_path / "a.nc")]})
    store = open_store(prepare(config, tmp_path / "store.zarr", tmp_path))
    leads = np.arange(1, 3) * np.timedelta64(6, "h")
    ahead = [FORMS[form].isel(time=slice(i, i + 10)).assign_coords(time=DATA["time"][:10]) for i in (1, 2)]
    forecast = xr.concat(ahead, xr.Variable("forecast_period", leads)).rename(time="forecast_reference_time")
    forecast.to_netcdf(tmp_path / "other.nc")
    if fits:
        found = open_external(tmp_path / "other.nc", store).read(["air"], np.arange(10), np.arange(2))
        np.testing.assert_array_equal(found["air"].squeeze()[:, 1], DATA["air"][2:12])
    else:
        with pytest.raises(DataError, match=r"other.nc: air lies at 850 hPa, the truth's on no"):
            open_external(tmp_path / "other.nc", store)


def test_a_surface_variable_from_a_level_is_told(tmp_path, caplog):
    at(850.0, units="hPa").to_netcdf(tmp_path / "a.nc")
    config = CONFIG.model_copy(
        update={"prognostic": {"2m_temperature": CONFIG.prognostic["air"].model_copy(update={"source": "air"})}}
    )
    open_canonical([tmp_path / "a.nc"], config)
    assert "2m_temperature is taken from air at 850 hPa" in caplog.text
