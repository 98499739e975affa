"""GRIB through cfgrib reads like NetCDF; without the extra, one line says how to get it."""

import numpy as np
import pytest
import xarray as xr
from weather_files import times_from
from world_files import GRID, LEVELS, world

from data_prep import errors
from data_prep.errors import DataError
from data_prep.inspection.report import inspect_files
from data_prep.reading import opening
from data_prep.reading.sources import open_source

TIMES = times_from("2001-01-01", 4)


FIELDS = [
    *(("temperature", 130, "isobaricInhPa", level) for level in LEVELS),
    *(("geopotential", 129, "isobaricInhPa", level) for level in LEVELS),
    ("2m_temperature", 167, "heightAboveGround", 2),
    ("mean_sea_level_pressure", 151, "meanSea", 0),
]


def write(data: xr.Dataset, path, fields=FIELDS, mode="wb") -> None:
    """Pressure levels, a field at 2 m and one at the sea, in one file, by eccodes' own packing of 24 bits."""
    eccodes = pytest.importorskip("eccodes")
    with path.open(mode) as file:
        for row, time in enumerate(data["time"].values):
            for name, parameter, kind, level in fields:
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                latitude, longitude = GRID.latitude, GRID.longitude
                keys = {
                    "Ni": len(longitude),
                    "Nj": len(latitude),
                    "latitudeOfFirstGridPointInDegrees": latitude[-1],
                    "latitudeOfLastGridPointInDegrees": latitude[0],
                    "longitudeOfFirstGridPointInDegrees": longitude[0],
                    "longitudeOfLastGridPointInDegrees": longitude[-1],
                    "iDirectionIncrementInDegrees": 30,
                    "jDirectionIncrementInDegrees": 20,
                    "dataDate": int(str(time)[:10].replace("-", "")),
                    "dataTime": int(str(time)[11:13]) * 100,
                    "paramId": parameter,
                    "typeOfLevel": kind,
                    "bitsPerValue": 24,
                }
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                if kind in ("isobaricInhPa", "heightAboveGround"):
                    eccodes.codes_set(message, "level", int(level))
                field = data[name].isel(time=row)
                field = field.sel(level=level) if "level" in field.dims else field
                eccodes.codes_set_values(message, field.values[::-1].astype(np.float64).ravel())
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)


@pytest.fixture
def grib(tmp_path):
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    path = tmp_path / "data.grib2"
    write(world(TIMES), path)
    return path


def test_all_kinds_of_level_of_one_file_are_read(grib):
    names = {n: (n,) for n in ("temperature", "geopotential", "2m_temperature", "mean_sea_level_pressure")}
    source = open_source(grib, names, "pressure")
    truth = world(TIMES)
    assert source.grid == GRID
    np.testing.assert_array_equal(source.times, TIMES)
    assert set(source.fields) == set(names)
    assert source.fields["temperature"].levels == LEVELS
    found = source.read("temperature", LEVELS, 1, 3)
    wanted = truth["temperature"][1:3].transpose("time", "latitude", "longitude", "level")
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    pressure = source.read("mean_sea_level_pressure", (), 0, 4)[..., 0]
    np.testing.assert_allclose(pressure, truth["mean_sea_level_pressure"], atol=0.05)


def test_variables_keep_levels_of_their_own(tmp_path):
    """Which cfgrib hands over under one name; and what is on one level alone has it as no dimension."""
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    data = world(TIMES).reindex(level=[300.0, 500.0, 850.0], method="nearest")
    data["geopotential"].loc[{"level": 300.0}] += 3e4
    numbers = {"temperature": 130, "geopotential": 129, "specific_humidity": 133}
    levels = {"temperature": (500.0, 850.0), "geopotential": (300.0, 850.0), "specific_humidity": (850.0,)}
    fields = [(name, numbers[name], "isobaricInhPa", level) for name, some in levels.items() for level in some]
    write(data, tmp_path / "data.grib2", fields)
    source = open_source(tmp_path / "data.grib2", {name: (name,) for name in levels}, "pressure")
    assert {name: found.levels for name, found in source.fields.items()} == levels
    for name, some in levels.items():
        wanted = data[name].sel(level=list(some)).transpose("time", "latitude", "longitude", "level")
        np.testing.assert_allclose(source.read(name, some, 0, 4), wanted, rtol=1e-6, atol=1e-6)


def test_a_temperature_on_a_mast_is_neither_that_of_the_levels_nor_of_2_m(tmp_path):
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    data, fields = world(TIMES), [f for f in FIELDS if f[0] != "geopotential"]
    write(data, tmp_path / "data.grib2", fields)
    write(
        data.assign({"2m_temperature": data["2m_temperature"] - 9}),
        tmp_path / "mast.grib2",
        [("2m_temperature", 130, "heightAboveGround", 80)],
    )
    both = tmp_path / "both.grib2"
    both.write_bytes((tmp_path / "data.grib2").read_bytes() + (tmp_path / "mast.grib2").read_bytes())
    source = open_source(both, {n: (n,) for n in ("temperature", "2m_temperature")}, "pressure")
    found = source.read("temperature", LEVELS, 0, 4)
    np.testing.assert_allclose(
        found, data["temperature"].transpose("time", "latitude", "longitude", "level"), rtol=1e-6
    )
    np.testing.assert_allclose(source.read("2m_temperature", (), 0, 4)[..., 0], data["2m_temperature"], rtol=1e-6)


def test_inspect_tells_what_a_grib_file_holds(grib):
    report = inspect_files([grib])
    assert report.refusal is None
    assert set(report.section["prognostic"]) == {
        "temperature",
        "geopotential",
        "2m_temperature",
        "mean_sea_level_pressure",
    }
    assert f"{grib} (GRIB)" in report.text


def one_file_of(path, second: xr.Dataset, parameter: int) -> None:
    """Temperature at 2 m, and another variable at times of its own."""
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    (name,) = second.data_vars
    write(second, path, [(name, parameter, "surface", 0)])
    write(world(TIMES), path, [FIELDS[-2]], mode="ab")


@pytest.mark.parametrize(("parameter", "name"), [(172, "land_sea_mask"), (43, "slt")], ids=["known", "unknown"])
def test_what_is_of_a_single_time_beside_many_is_constant(parameter, name, tmp_path):
    mask = xr.where(world(TIMES[:1])[["2m_temperature"]] > 290, 1.0, 0.0).rename({"2m_temperature": name})
    one_file_of(tmp_path / "data.grib2", mask.assign_coords(time=times_from("1979-01-01", 1)), parameter)
    source = open_source(tmp_path / "data.grib2", {n: (n,) for n in ("2m_temperature", name)}, None)
    np.testing.assert_array_equal(source.times, TIMES)
    assert source.fields[name].extent == "constant" and source.fields["2m_temperature"].extent == "time"
    np.testing.assert_allclose(source.read(name, ())[..., 0], mask[name], atol=1e-6)


@pytest.mark.parametrize("rows", [[0], [1, 3]])
def test_variables_that_differ_in_their_times_are_refused(rows, tmp_path):
    pressure = world(TIMES).isel(time=rows)[["mean_sea_level_pressure"]].rename(mean_sea_level_pressure="sp")
    one_file_of(tmp_path / "data.grib2", pressure, 134)
    words = r"has other times or leads than .*; put it into a file of its own: grib_copy -w shortName=(sp|2t) IN OUT"
    with pytest.raises(DataError, match=rf"data\.grib2: (sp|t2m) {words}"):
        open_source(tmp_path / "data.grib2", {"2m_temperature": ("2m_temperature",)}, None)


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "data.grib"
    path.write_bytes(b"GRIB....")
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"GRIB needs the extra 'grib': pip install -e '.\[grib\]' in the checkout"):
        open_source(path, {"temperature": ("t",)}, "pressure")


def test_outside_of_a_checkout_the_command_names_the_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "data_prep" / "errors.py"))
    assert errors.how_to_install("grib").endswith("pip install 'weather_emulator-VERSION-py3-none-any.whl[grib]'")


def test_a_broken_grib_file_is_one_line(tmp_path):
    pytest.importorskip("cfgrib", reason="needs the extra 'grib'", exc_type=ImportError)
    path = tmp_path / "data.grib"
    path.write_bytes(b"GRIB" + bytes(200))
    with pytest.raises(DataError, match=r"data\.grib: .*") as error:
        open_source(path, {"temperature": ("t",)}, "pressure")
    assert "\n" not in str(error.value)
