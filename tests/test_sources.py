"""Any CF-like file gives the same canonical fields, or one clear line that says why not."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr
from tiny_store import write_store
from weather_files import GRID, HOUR, HOURS_6, LEVELS, SHARED, boundary, config, open_files, times_from, weather

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.inspection.report import inspect_files
from data_prep.reading.initial import initial_sources, read_initial
from data_prep.reading.inputs import open_canonical
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import find_inputs
from data_prep.reading.positions import grid_of, pick
from data_prep.reading.sources import open_source
from data_prep.reading.units import conversion
from data_prep.spec import StateSpec, Variable
from data_prep.variables import GRAVITY, is_accumulation
from emulator import forecast

TIMES = times_from("2001-01-30", 6)
NAMES = {"temperature": ("temperature", "t"), "surface_pressure": ("surface_pressure", "sp")}
SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", LEVELS, "K"),
        Variable("surface_pressure", "prognostic", units="Pa"),
        Variable("total_precipitation_6hr", "diagnostic", units="m", minimum=0.0),
        Variable("sea_surface_temperature", "forcing", units="K", known="persisted"),
    ),
    "pressure",
)


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / name).is_file(), reason=f"../shared/data/{name} is not here")


def cds(data: xr.Dataset) -> xr.Dataset:
    """As the Climate Data Store writes it: short names, valid_time, levels from the ground up, extra coordinates."""
    out = data.isel(level=slice(None, None, -1), latitude=slice(None, None, -1))
    out = out.rename(temperature="t", surface_pressure="sp", time="valid_time", level="pressure_level")
    return out.assign_coords(number=0, expver=("valid_time", ["0001"] * out.sizes["valid_time"]))


def old_grib(data: xr.Dataset) -> xr.Dataset:
    """Dimension names and units of old conversions: lat, lon, plev in Pa, degrees Celsius, hPa."""
    out = data.rename(latitude="g0_lat_2", longitude="g0_lon_3", level="plev")
    out = out.assign_coords(plev=("plev", data["level"].values * 100, {"units": "Pa"}))
    out["temperature"] = (out["temperature"] - 273.15).assign_attrs(units="degC")
    out["surface_pressure"] = (out["surface_pressure"] / 100).assign_attrs(units="millibars")
    return out


def western(data: xr.Dataset) -> xr.Dataset:
    """Longitudes from -180 to 180."""
    return data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude")


def beside(data: xr.Dataset, counted: bool) -> xr.Dataset:
    """Latitudes and longitudes along dimensions that count, or have no values at all."""
    out = data.rename(latitude="y", longitude="x")
    places = {"lat": ("y", data["latitude"].values), "lon": ("x", data["longitude"].values)}
    out = out.assign_coords(y=np.arange(GRID.shape[0]), x=np.arange(GRID.shape[1]))
    return out.assign_coords(places) if counted else out.drop_vars(["x", "y"]).assign(places)


def unnamed_axes(data: xr.Dataset) -> xr.Dataset:
    """Axes that only their CF attributes give away."""
    out = data.rename(latitude="j", longitude="i", time="when", level="k")
    out["when"].attrs["standard_name"] = "time"
    out["k"].attrs |= {"positive": "down", "axis": "Z", "standard_name": "air_pressure"}
    return out


FLAVOURS = {
    "canonical": lambda d: d,
    "cds": cds,
    "old_grib": old_grib,
    "western": western,
    "transposed": lambda d: d.transpose("longitude", "latitude", "level", "time"),
    "latitude descending": lambda d: d.isel(latitude=slice(None, None, -1)),
    "cf attributes": unnamed_axes,
    "lat(y), counted": partial(beside, counted=True),
    "lat(y)": partial(beside, counted=False),
    "dates": lambda d: d.rename(time="t"),  # as the Unified Model calls them
    "other dates": lambda d: d.convert_calendar("noleap", use_cftime=True).rename(time="day"),
    "numbered dates": lambda d: d.swap_dims(time="record").rename(time="date"),
    "length-1 dimension": lambda d: d.expand_dims(realization=1),
    "radians": lambda d: d.assign_coords(
        {n: (n, np.radians(d[n].values), {"units": "radian"}) for n in ("latitude", "longitude")}
    ),
    "scaled": lambda d: d.assign(surface_pressure=(d["surface_pressure"] / 1000).assign_attrs(units="kPa")),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_gives_the_same_fields(flavour, tmp_path):
    truth = weather(TIMES)
    path = tmp_path / "file.nc"
    FLAVOURS[flavour](truth).to_netcdf(path)
    source = open_source(path, NAMES, "pressure")
    assert source.grid.matches(GRID)
    np.testing.assert_array_equal(source.times, TIMES)
    assert source.fields["temperature"].levels == LEVELS
    found = source.read("temperature", (850.0,), 2, 5)
    assert found.shape == (3, *GRID.shape, 1)
    np.testing.assert_allclose(found[..., 0], truth["temperature"].sel(level=850.0)[2:5], rtol=1e-6)
    both = source.read("temperature", LEVELS, 0, 6, 3)
    wanted = truth["temperature"].isel(time=[0, 3]).transpose("time", "latitude", "longitude", "level")
    np.testing.assert_allclose(both, wanted, rtol=1e-6)
    pressure = source.read("surface_pressure", (), 0, 6)[..., 0]
    np.testing.assert_allclose(pressure, truth["surface_pressure"], rtol=1e-6)


def forecasts(data: xr.Dataset, leads: list[int], initial: slice) -> xr.Dataset:
    """As cfgrib gives forecasts that it does not squeeze: valid times over initial times and leads."""
    step = np.array(leads) * HOURS_6
    time = data["time"].values[initial] - step[0]
    valid = time[:, None] + step
    rows = {h: data.sel(time=valid[:, i]).assign_coords(time=time) for i, h in enumerate(leads)}
    out = xr.concat(list(rows.values()), xr.IndexVariable("step", step)).transpose("time", "step", ...)
    out["time"].attrs["standard_name"] = "forecast_reference_time"
    return out.assign_coords(valid_time=(("time", "step"), valid))


@pytest.mark.parametrize(
    ("leads", "initial"), [([1], slice(None)), ([1], slice(2, 3)), ([1, 2, 3], slice(2, 3))], ids=str
)
@pytest.mark.parametrize("cds_names", [False, True])
def test_valid_times_over_a_single_lead_or_initial_time_are_found(leads, initial, cds_names, tmp_path):
    data = forecasts(weather(TIMES), leads, initial)
    if cds_names:
        data = data.rename(time="forecast_reference_time", step="forecast_period").expand_dims(number=[0])
    data.to_netcdf(tmp_path / "file.nc")
    source = open_source(tmp_path / "file.nc", NAMES, "pressure")
    expected = TIMES[initial] if len(leads) == 1 else TIMES[2:5]
    np.testing.assert_array_equal(source.times, expected)
    wanted = weather(TIMES)["surface_pressure"].sel(time=expected)
    np.testing.assert_array_equal(source.read("surface_pressure", (), 0, expected.size)[..., 0], wanted)


def test_leads_of_forecasts_that_follow_each_other_become_one_axis_as_the_message_says(tmp_path):
    """As cfgrib gives ERA5's precipitation."""
    path, wanted = tmp_path / "file.nc", weather(TIMES)
    leads = forecasts(wanted, [1, 2], slice(0, 6, 2)).transpose("time", "step", ...).rename(temperature="t")
    leads.to_netcdf(path)
    with pytest.raises(DataError, match=r"valid times all differ, so make them one axis before \(xarray: ") as error:
        open_source(path, NAMES, "pressure")
    recipe = str(error.value).partition("(xarray: ")[2].removesuffix(")")
    eval(recipe, {"data": leads}).to_netcdf(tmp_path / "one.nc")
    source = open_source(tmp_path / "one.nc", NAMES, "pressure")
    np.testing.assert_array_equal(source.times, TIMES)
    np.testing.assert_allclose(source.read("temperature", (850.0,), 0, 6)[..., 0], wanted["temperature"].sel(level=850))
    np.testing.assert_array_equal(source.read("surface_pressure", (), 0, 6)[..., 0], wanted["surface_pressure"])


def test_a_lead_without_valid_times_is_refused(tmp_path):
    data = forecasts(weather(TIMES), [1], slice(None)).drop_vars("valid_time")
    data.to_netcdf(tmp_path / "file.nc")
    with pytest.raises(DataError, match=r"holds a lead, step, and no valid_time.* add step to time .*drop step"):
        open_source(tmp_path / "file.nc", NAMES, "pressure")
    for valid in (
        data.assign_coords(step=data["step"] * 0),
        data.assign_coords(time=("time", TIMES, {"standard_name": "time"})),
    ):
        valid.to_netcdf(tmp_path / "file.nc")
        np.testing.assert_array_equal(open_source(tmp_path / "file.nc", NAMES, "pressure").times, valid["time"].values)


def test_zarr_reads_like_netcdf(tmp_path):
    truth = weather(TIMES)
    truth.to_zarr(tmp_path / "data.zarr", consolidated=False)
    found = open_source(tmp_path / "data.zarr", NAMES, "pressure").read("surface_pressure", (), 1, 2)
    np.testing.assert_array_equal(found[0, ..., 0], truth["surface_pressure"][1])


@pytest.mark.parametrize("declared", [False, True])
def test_zeros_are_values_unless_they_are_declared_missing(declared, tmp_path):
    """zarr-python 2 gives every array the fill value 0, also a longitude that begins there."""
    data = weather(TIMES)
    data["surface_pressure"][1, 2, 3] = 0.0
    zeros = {name: {"_FillValue": 0.0} for name in ("surface_pressure", "longitude")}
    data.to_zarr(tmp_path / "data.zarr", zarr_format=2, consolidated=False, encoding=zeros)
    if declared:
        zarr.open_group(str(tmp_path / "data.zarr"))["surface_pressure"].attrs["_FillValue"] = 0.0
    source = open_source(tmp_path / "data.zarr", NAMES, "pressure")
    found = source.read("surface_pressure", (), 0, 6)[..., 0]
    assert source.grid == GRID and np.isnan(found[1, 2, 3]) == declared
    np.testing.assert_array_equal(np.nan_to_num(found), data["surface_pressure"])


def raw_file(path: Path, values: np.ndarray, dtype: str, **attrs) -> Path:
    """A file whose values and attributes are as given, to the bit."""
    with netCDF4.Dataset(path, "w") as file:
        for name, axis in (("time", 6 * np.arange(values.shape[0])), *weather(TIMES).coords.items()):
            if name not in file.dimensions and name != "level":
                file.createDimension(name, len(axis))
                file.createVariable(name, "f8", (name,))[:] = np.asarray(axis)
        file["time"].units = "hours since 2001-01-30"
        file["latitude"].units, file["longitude"].units = "degrees_north", "degrees_east"
        variable = file.createVariable("x", dtype, ("time", "latitude", "longitude"))
        variable.set_auto_maskandscale(False)
        variable.setncatts(attrs)
        variable[:] = values
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_that_lacks_chunk_files_is_refused_unless_they_read_as_missing(version, tmp_path):
    """A band of a field that reads as zeros is not uniform, and a wind may be zero."""
    data = weather(TIMES)[["surface_pressure", "temperature"]]
    section = {"diagnostic": {}, "forcing": {}, "static": {}, "prognostic": {"surface_pressure": {}, "temperature": {}}}
    for fill in (None, np.nan):
        path = tmp_path / f"{fill}.zarr"
        encoding = {name: {"_FillValue": fill, "chunks": None} for name in data.data_vars}
        cut = data.chunk(time=2, latitude=2)
        cut.to_zarr(path, zarr_format=version, encoding=encoding, consolidated=False)
        open_canonical([path], config(["x"], **section))
        lost = "c/1/1/0" if version == 3 else "1.1.0"
        (path / "surface_pressure" / lost).unlink()
        # of format 3 some versions of xarray write NaN as what is missing, others zero
        if np.isnan(zarr.open_group(str(path))["surface_pressure"].fill_value or 0):
            open_canonical([path], config(["x"], **section))
            continue
        at = r"surface_pressure lacks 1 of its chunk files, the first at 2001-01-30T12:00, .*copy the store again"
        with pytest.raises(DataError, match=at):
            open_canonical([path], config(["x"], **section))
        open_canonical([path], config(["x"], **section, exclude=[["2001-01-30T12", "2001-01-30T18"]]))


@pytest.mark.parametrize("form", ["netcdf", "zarr"])
def test_a_missing_value_may_be_more_precise_than_the_values(form, tmp_path):
    values = np.full((6, *GRID.shape), 5, np.float32)
    values[0, 0, 1] = -99.9
    if form == "netcdf":
        path = raw_file(tmp_path / "a.nc", values, "f4", missing_value=np.float64(-99.9))
    else:
        data = weather(TIMES)[["surface_pressure"]].rename(surface_pressure="x").copy(data={"x": values})
        path = tmp_path / "a.zarr"
        data.to_zarr(path, zarr_format=2)
        zarr.open_group(str(path))["x"].attrs["missing_value"] = -99.9
    read = open_source(path, {"x": ("x",)}, None).read("x", (), 0, 2)
    assert np.isnan(read[0, 0, 1]).all() and np.isnan(read).sum() == 1


@pytest.mark.parametrize(
    ("dtype", "attrs", "invalid"),
    [
        ("f4", {"valid_range": np.array([0, 81], "f4")}, (90, -1)),
        ("f4", {"valid_range": np.array([0, 80.1])}, (90, -1)),
        ("f4", {"valid_min": np.float32(0)}, (-1,)),
        ("f4", {"valid_max": np.float32(80.1)}, (90,)),
        ("i2", {"valid_range": np.array([0, 801], "i2"), "scale_factor": 0.1, "add_offset": 0.0}, (90, -1)),
        ("i2", {"valid_range": np.array([0, 80.1]), "scale_factor": 0.1, "add_offset": 0.0}, (90, -1)),
        ("i2", {"valid_range": np.array([0, 80.1]), "scale_factor": np.float32(0.1)}, (90, -1)),
        ("i2", {"valid_min": np.int16(0), "scale_factor": np.float32(0.1)}, (-1,)),
        ("f4", {"valid_range": "0 to 80"}, ()),
        ("f4", {}, ()),
    ],
)
def test_values_outside_of_the_valid_range_of_a_file_are_missing(dtype, attrs, invalid, tmp_path, caplog):
    """Of packed values the type of the range tells in which units it is."""
    values = np.full((6, *GRID.shape), 20.0)
    values[:, 0, :4] = 0, 80.1, 90, -1
    path = raw_file(tmp_path / "a.nc", np.rint(10 * values) if dtype == "i2" and attrs else values, dtype, **attrs)
    source = open_source(path, {"x": ("x",)}, None)
    for _ in range(2):
        read = source.read("x", (), 0, 6)[..., 0]
    wanted = np.where(np.isin(values, invalid), np.nan, values)
    np.testing.assert_allclose(read, wanted, rtol=1e-6)
    assert [r.getMessage().count("x: values outside of the file's valid range") for r in caplog.records] == [1] * bool(
        invalid
    )


@pytest.mark.parametrize(
    ("name", "attrs", "start", "told"),
    [
        ("forecast_reference_time", {}, TIMES[0], True),
        ("started", {"standard_name": "forecast_reference_time"}, TIMES[1], True),
        ("forecast_reference_time", {}, TIMES[-1], False),
        ("started", {}, TIMES[0], False),
    ],
)
def test_files_of_a_forecast_are_told_of_once(name, attrs, start, told, tmp_path, caplog):
    """A file for each start looks like analyses, but for its scalar initial time."""
    for day in ("a", "b"):
        data = weather(TIMES).assign_coords({name: ((), start, attrs)})
        data.to_netcdf(tmp_path / f"{day}.nc")
        open_source(tmp_path / f"{day}.nc", {"temperature": ("temperature",)}, "pressure")
    assert [f"h after its {name}, so it is a forecast" in r.getMessage() for r in caplog.records] == [True] * told


@pytest.mark.parametrize(("hours", "told"), [((0, 6, 12), True), ((6, 6), False)])
def test_files_of_a_lead_each_are_told_of_as_a_forecast(hours, told, tmp_path, caplog):
    """One start for all; analyses that say so too have a start each."""
    for number, hour in enumerate(hours):
        valid = TIMES[0] + np.timedelta64(hour, "h") + np.timedelta64(0 if told else number, "D")
        start = TIMES[0] + np.timedelta64(0 if told else number, "D")
        data = weather(TIMES[:1]).assign_coords(time=[valid], forecast_reference_time=start)
        data.to_netcdf(tmp_path / f"{number}.nc")
        open_source(tmp_path / f"{number}.nc", {"temperature": ("temperature",)}, "pressure")
    assert ["so it is a forecast" in r.getMessage() for r in caplog.records] == [True] * told


def test_packed_integers_are_unpacked(tmp_path):
    truth = weather(TIMES)
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 260.0, "_FillValue": -32767}
    truth.to_netcdf(tmp_path / "packed.nc", encoding={"temperature": packing})
    found = open_source(tmp_path / "packed.nc", NAMES, "pressure").read("temperature", (500.0,), 0, 6)
    np.testing.assert_allclose(found[..., 0], truth["temperature"].sel(level=500.0), atol=0.0051)


def test_a_region_across_greenwich_stays_in_one_piece(tmp_path):
    grid = Grid.from_arrays([40, 45, 50], [350, 355, 360, 365])
    truth = weather(TIMES, grid)
    truth.assign_coords(longitude=[-10, -5, 0, 5]).to_netcdf(tmp_path / "west.nc")
    truth.assign_coords(longitude=[350, 355, 0, 5]).sortby("longitude").to_netcdf(tmp_path / "split.nc")
    for name in ("west.nc", "split.nc"):
        source = open_source(tmp_path / name, NAMES, "pressure")
        assert source.grid == grid
        np.testing.assert_array_equal(source.read("surface_pressure", ())[0, ..., 0], truth["surface_pressure"][0])


@pytest.mark.parametrize("start", [-360.0, -280.0, -90.0, 345.0])
def test_a_turn_may_begin_anywhere(start):
    longitude = np.arange(0.0, 360.0, 30.0)
    axes = [
        xr.DataArray(values, dims=name, name=name)
        for name, values in (("lat", np.array([-30.0, 30.0])), ("lon", longitude + start))
    ]
    grid, _, columns = grid_of(Path("file.nc"), *axes)
    assert grid.is_global
    np.testing.assert_array_equal(grid.longitude, np.sort((longitude + start) % 360))
    np.testing.assert_array_equal((longitude + start)[columns.rows] % 360, grid.longitude)


def test_a_single_level_is_dropped_from_a_surface_field(tmp_path):
    data = weather(TIMES)[["surface_pressure"]].expand_dims(height=[2.0], axis=1)
    data["height"].attrs = {"units": "m", "positive": "up", "axis": "Z", "standard_name": "height"}
    data.to_netcdf(tmp_path / "a.nc")
    assert open_source(tmp_path / "a.nc", NAMES, "pressure").read("surface_pressure", ()).shape == (1, *GRID.shape, 1)


def test_a_file_of_groups_is_told_how_to_be_read(tmp_path):
    weather(TIMES).to_netcdf(tmp_path / "a.nc", group="inner")
    with pytest.raises(DataError, match=r"lie in groups \(inner\), which are not read; ncks -G : -g inner IN OUT"):
        open_source(tmp_path / "a.nc", NAMES, "pressure")


def test_folders_that_are_no_files_are_told(tmp_path):
    write_store(tmp_path / "store.zarr", Grid.gaussian(8), n_times=28)
    with pytest.raises(DataError, match=r"store.zarr: holds prepared data, a tensor; files such as it was made of"):
        open_source(tmp_path / "store.zarr", NAMES, "pressure")
    with pytest.raises(DataError, match=r"a folder that is no Zarr store; one file is expected here"):
        open_source(tmp_path, NAMES, "pressure")


REFUSED = {
    "no such file": (None, "no such file"),
    "empty": (b"", "the file is empty"),
    "zip archive": (b"PK\x03\x04 and so on", "a zip archive, in which the Climate Data Store .*: unzip it"),
    "text": (b"latitude,longitude\n1,2\n", "cannot be read as a NetCDF file .*it does not begin as one"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "compressed as a whole by gzip: gunzip it"),
    "wrong variables": (
        lambda d: d[["sea_surface_temperature"]],
        "holds none of temperature or t, .*it holds sea_surf",
    ),
    "unknown unit": (lambda d: d.assign(temperature=d.temperature.assign_attrs(units="furlong")), "unit 'furlong'"),
    "months": (
        lambda d: d.rename(time="month").assign_coords(month=range(6)),
        "dimension month, and no time axis was found: months are no instants; give it fields",
    ),
    "ensemble": (lambda d: xr.concat([d, d], "member"), "ensemble dimension member of 2; choose one"),
    "stations": (lambda d: d.isel(latitude=0, drop=True), "no one-dimensional latitude axis"),
    "numbered": (lambda d: d.drop_vars("latitude"), "latitude has no coordinate values; add its degrees as a variable"),
    "uncounted": (lambda d: d.drop_vars("time"), "time has no coordinate values; add its instants as a variable time"),
    "levels without values": (
        lambda d: d.drop_vars("level"),
        "dimension level of temperature has no coordinate values, so its 2 levels",
    ),
    "zonal mean": (
        lambda d: d.assign(temperature=d.temperature.mean("longitude", keep_attrs=True)),
        "temperature is no field over latitude and longitude: it runs over time, level, latitude",
    ),
    "a time is missing": (
        lambda d: d.assign_coords(time=d.time.where(d.time != d.time[2])),
        "time has missing values; drop them",
    ),
    "times as numbers": (lambda d: d.assign_coords(time=range(6)), "no CF units .*: ncatted -a units,time,c,c,"),
    "times as text": (
        lambda d: d.assign_coords(time=[f"2001-02-0{i}" for i in range(1, 7)]),
        "are text such as 2001-02-01",
    ),
    "times as dates": (
        lambda d: d.assign_coords(time=("time", 20010101 + np.arange(6) / 4, {"units": "day as %Y%m%d.%f"})),
        "has the units 'day as %Y%m%d.%f', no CF ones .*; cdo -r copy IN OUT makes such",
    ),
    "duplicate": (lambda d: d.isel(time=[0, 1, 1, 2]), "time 2001-01-30T06:00 occurs twice"),
    "backwards": (lambda d: d.isel(time=[0, 2, 1]), "run backwards from 2001-01-30T12:00 to 2001-01-30T06:00"),
    "julian": (lambda d: d.convert_calendar("julian"), "calendar 'julian'; known are .*convert it"),
    "two-dimensional": (
        lambda d: (
            d.rename(latitude="y", longitude="x")
            .drop_vars(["y", "x"])
            .assign_coords(lat=(("y", "x"), np.zeros(GRID.shape)), lon=(("y", "x"), np.zeros(GRID.shape)))
        ),
        "latitude is two-dimensional .lat over y, x., so the grid is curvilinear or projected; interpolate",
    ),
    "projected": (
        lambda d: d.rename(latitude="y", longitude="x").assign_coords(
            y=("y", np.arange(4.0), {"units": "km", "standard_name": "projection_y_coordinate"}),
            x=("x", np.arange(8.0), {"units": "km", "standard_name": "projection_x_coordinate"}),
        ),
        r"the grid is projected or rotated .axes .*; interpolate the file",
    ),
    "counted": (
        lambda d: d.rename(latitude="y", longitude="x").assign_coords(y=np.arange(4), x=np.arange(8)),
        r"y counts points \(0 to 3\) and says nothing of latitude or longitude; give it its degrees",
    ),
    "scanned": (
        lambda d: d.rename(latitude="y", longitude="x").assign_coords(
            {n: (n, np.linspace(-0.1, 0.1, size), {"units": "rad"}) for n, size in (("y", 4), ("x", 8))}
        ),
        "y is in radians, as the angles of a scanner are",
    ),
    "rotated": (lambda d: d.rename(latitude="rlat", longitude="rlon"), "projected or rotated .*interpolate"),
    "unstructured": (
        lambda d: xr.Dataset(
            {"temperature": (("time", "cell"), np.ones((6, 5)))},
            {"time": TIMES, "lat": ("cell", np.arange(5.0)), "lon": ("cell", np.arange(5.0))},
        ),
        "lat runs along cell, an unstructured grid",
    ),
    "initial and lead times": (
        lambda d: d.expand_dims(step=np.arange(2)).assign_coords(step=[0, 6]),
        "lead-time dimension step beside time; choose",
    ),
    "a level twice": (lambda d: d.isel(level=[0, 1, 1]), "level holds a level twice, or none: 500, 850, 850; drop"),
    "a level that is none": (lambda d: d.assign_coords(level=[500.0, np.nan]), "level holds a level .* 500, nan;"),
    "initial times": (
        lambda d: d.rename(time="forecast_reference_time"),
        "has the dimension forecast_reference_time beside .* no time axis was found",
    ),
    "levels in the wrong unit": (
        lambda d: d.assign_coords(level=("level", [50000.0, 85000.0], {"units": "hPa"})),
        "level reaches 85000 hPa by its units 'hPa'",
    ),
    "years that do not fit": (
        lambda d: d.assign_coords(time=xr.date_range("0101-01-01", periods=6, calendar="noleap", use_cftime=True)),
        "runs from the year 101 to 101, outside 1678 to 2261; shift",
    ),
    "unlike meridians": (
        lambda d: xr.concat([d, d.isel(longitude=[1]).assign_coords(longitude=[360.0])], "longitude"),
        "differs between its first and its last meridian, which are the same place; drop the last",
    ),
    "sigma": (
        lambda d: d.assign_coords(level=("level", [0.5, 0.9], {"units": "1"})),
        "2 levels of kind sigma.*vertical is pressure",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(case, tmp_path):
    made, what = REFUSED[case]
    path = tmp_path / "file.nc"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        made(weather(TIMES)).to_netcdf(path)
    with pytest.raises(DataError, match=what) as error:
        open_source(path, NAMES, "pressure").read("temperature", LEVELS)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_open_files_cache_little(tmp_path):
    """Memory must not grow with the number of files: the library would keep 64 MiB for each of their variables."""
    before = netCDF4.get_chunk_cache()
    netCDF4.set_chunk_cache(2**26)
    try:
        weather(TIMES).to_netcdf(tmp_path / "file.nc")
        open_source(tmp_path / "file.nc", NAMES, "pressure")
        assert netCDF4.get_chunk_cache()[0] <= 2**24
    finally:
        netCDF4.set_chunk_cache(*before)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_files_that_reading_has_moved_on_from_are_closed_and_can_be_read_again(tmp_path):
    data = weather(times_from("2001-01-01", 24))
    for i in range(6):
        data.isel(time=slice(4 * i, 4 * i + 4)).to_netcdf(tmp_path / f"{i}.nc")
    boundary().to_netcdf(tmp_path / "boundary.nc")
    section = config([f"{tmp_path}/*.nc"], split={"segments": {"train": [0]}})
    inputs = open_canonical(find_inputs(section.inputs, tmp_path), section)
    timelines = inputs.segments[0].timelines
    for source in {id(s): s for timeline in timelines.values() for s in timeline.sources}.values():
        source.release()  # opened to see what they hold
    assert not open_files(tmp_path) - {"boundary.nc"}
    for start in range(0, 24, 6):  # no multiple of a file
        for name, timeline in timelines.items():
            expected = data[name].isel(time=slice(start, start + 6)).values
            expected = np.moveaxis(expected, 1, -1) if expected.ndim == 4 else expected[..., None]
            np.testing.assert_array_equal(timeline.read(start, start + 6), expected)
        touched = {f"{i}.nc" for i in range(start // 4, (start + 5) // 4 + 1)}
        assert open_files(tmp_path) - {"boundary.nc"} == touched
    timeline = timelines["surface_pressure"]
    np.testing.assert_array_equal(timeline.read(0, 2)[..., 0], data["surface_pressure"][:2])


def test_a_file_is_not_closed_while_another_thread_reads_it(tmp_path):
    data = weather(times_from("2001-01-01", 24))
    data.to_netcdf(tmp_path / "a.nc")
    source = open_source(tmp_path / "a.nc", NAMES, "pressure")
    expected = data["surface_pressure"].values.astype(np.float32)

    def read_and_release(worker):
        for row in range(200):
            np.testing.assert_array_equal(
                source.read("surface_pressure", (), row % 24, row % 24 + 1)[..., 0], expected[[row % 24]]
            )
            source.release()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read_and_release, range(4)))


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [4, 2, 0], [3], [1, 0, 2], [0, 0, 0], [2, 3, 1, 0], []])
@pytest.mark.parametrize("axis", [0, 1])
def test_picking_is_taking(rows, axis):
    values, rows = np.arange(30.0).reshape(5, 6), np.array(rows, int)
    found = pick(values, rows, axis)
    np.testing.assert_array_equal(found, np.take(values, rows, axis=axis))
    even = rows.size > 0 and len(set(np.diff(rows).tolist())) <= 1 and 0 not in np.diff(rows)
    assert np.shares_memory(found, values) == even


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "file.nc"
    weather(TIMES).to_netcdf(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(path, NAMES, "pressure").read("temperature", LEVELS, 0, 6)


@pytest.mark.parametrize(
    ("name", "units", "value", "si"),
    [
        ("temperature", "degC", 0.0, 273.15),
        ("2m_temperature", "Kelvin", 300.0, 300.0),
        ("surface_pressure", "hPa", 1013.25, 101325.0),
        ("total_precipitation_6hr", "mm", 5.0, 0.005),
        ("total_precipitation_24hr", "kg m-2", 5.0, 0.005),
        ("specific_humidity", "g/kg", 8.0, 0.008),
        ("geopotential", "gpm", 5500.0, 5500 * GRAVITY),
        ("u_component_of_wind", "knots", 10.0, 5.14444),
        ("sea_ice_cover", "%", 50.0, 0.5),
        ("land_sea_mask", "0/1", 0.5, 0.5),
        ("total_cloud_cover", "[0,1]", 0.5, 0.5),
        ("temperature", "K@273.15", 1.0, 274.15),
        ("temperature", "K @ 273.15", 1.0, 274.15),
        ("anything_of_yours", "degC", 1.0, 274.15),
        ("anything_of_yours", "parsec", 1.0, 1.0),
        *(
            ("temperature", unit, 300.0, 300.0)
            for unit in ("deg K", "degrees K", "degrees Kelvin", "degree_kelvin", "degK")
        ),
        *(
            ("temperature", unit, 0.0, 273.15)
            for unit in ("deg C", "degrees C", "degree_C", "deg_c", "Degrees Celsius")
        ),
        ("anything_of_yours", "degree_K", 300.0, 300.0),
    ],
)
def test_units_become_si(name, units, value, si):
    found = conversion(name, units, "here")
    assert found.factor * value + found.offset == pytest.approx(si, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("total_cloud_cover", "0-100"),
        ("total_cloud_cover", "0/7"),
        ("temperature", "K@300"),
        ("sea_ice_cover", "(0 - 100)"),
        ("specific_humidity", "10-3 kg/kg"),
    ],
)
def test_a_range_or_a_power_is_no_difference(name, units):
    """Which pint would work out: a factor of -100, and of 7."""
    with pytest.raises(DataError, match="cannot be turned into"):
        conversion(name, units, "here")


@pytest.mark.parametrize(
    ("name", "attrs", "offset"),
    [
        ("warming", {"units_metadata": "temperature: difference"}, 0.0),
        ("warming", {"units_metadata": "temperature: on_scale"}, 273.15),
        ("sst_anom", {}, 0.0),
        ("tdev", {"long_name": "Estimated error standard deviation"}, 0.0),
        ("terrain_temperature", {"long_name": "temperature of the terrain"}, 273.15),
    ],
)
def test_a_difference_of_temperatures_has_no_offset(name, attrs, offset):
    data = weather(TIMES)[["temperature"]].rename(temperature=name)
    data[name].attrs = {"units": "degC", **attrs}
    data[name].values[:] = 2.0
    source = open_source(data, {name: (name,)}, "pressure")
    np.testing.assert_allclose(source.read(name, LEVELS), 2.0 + offset)


@pytest.mark.parametrize(("top", "refused"), [(10000.0, True), (0.0, False)])
def test_sigma_beneath_a_model_top_is_refused(top, refused):
    """CF: p = ptop + sigma (ps - ptop)."""
    data = weather(TIMES).assign_coords(level=[0.5, 0.9])
    data["level"].attrs = {"units": "1", "formula_terms": "sigma: level ps: surface_pressure ptop: ptop"}
    data["ptop"] = xr.DataArray(top, attrs={"units": "Pa"})
    if refused:
        with pytest.raises(DataError, match=r"sigma beneath a model top at 10000 Pa \(ptop\)"):
            open_source(data, {"temperature": ("temperature",)}, "sigma")
    else:
        assert open_source(data, {"temperature": ("temperature",)}, "sigma").fields["temperature"].levels == (0.5, 0.9)


def test_a_file_of_bad_times_can_be_mended_under_its_name(tmp_path):
    """The library would keep it open."""
    data = weather(TIMES)
    data.to_netcdf(tmp_path / "a.nc")
    with netCDF4.Dataset(tmp_path / "a.nc", "a") as file:
        file["time"].units = "parsecs since yesterday"
    with pytest.raises(DataError, match="parsecs"):
        open_source(tmp_path / "a.nc", NAMES, "pressure")
    data.to_netcdf(tmp_path / "a.nc")
    assert open_source(tmp_path / "a.nc", NAMES, "pressure").times.size == TIMES.size


def test_latitudes_as_text_are_refused():
    data = weather(TIMES)
    data = data.assign_coords(latitude=[f"{x:g}N" for x in data["latitude"].values])
    with pytest.raises(DataError, match=r"latitude holds text such as '.*N'; give it numbers of degrees"):
        open_source(data, NAMES, "pressure")


@pytest.mark.parametrize("units", ["mm/day", "mm h-1", "m s-1", "kg m-2 s-1", "kg m-2 day-1"])
def test_a_rate_of_rain_is_called_a_rate(units):
    with pytest.raises(DataError, match="it is a rate: multiply it by the length of its interval") as error:
        conversion("total_precipitation_6hr", units, "here")
    assert "set its units" not in str(error.value)


@pytest.mark.parametrize(
    ("units", "factor"), [(("m3 m-3", "m**3 m**-3"), 1.0), (("%", "1"), 100.0), (("m", "s"), None)]
)
@pytest.mark.parametrize("stacked", [False, True])
def test_files_may_spell_the_unit_of_an_unknown_variable_differently(units, factor, stacked, tmp_path):
    """Files that follow each other, and files that hold a level each."""
    whole = weather(TIMES)["temperature"].rename("soil_moisture")
    parts = (whole.sel(level=[500.0]), whole.sel(level=[850.0])) if stacked else (whole[:3], whole[3:])
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for path, part, unit in zip(paths, parts, units, strict=True):
        part.assign_attrs(units=unit).to_netcdf(path)
    section = config(
        ["*.nc"], prognostic={"soil_moisture": {}}, diagnostic={}, forcing={}, static={}, split={"segments": {}}
    )
    if factor is None:
        with pytest.raises(DataError, match=r"b.nc: soil_moisture is in 's', that of .*a.nc is in 'm'; set its units"):
            open_canonical(paths, section)
        return
    inputs = open_canonical(paths, section)
    found = inputs.segments[0].read("soil_moisture", 0, 6)
    assert inputs.spec["soil_moisture"].units == units[0]
    wanted = (whole[-1, 1] if stacked else whole[-1, 0]) * factor
    np.testing.assert_allclose(found[-1, ..., 1 if stacked else 0], wanted, rtol=1e-6)


def test_times_in_months_are_refused_by_their_unit(tmp_path):
    data = weather(TIMES).assign_coords(time=("time", np.arange(6), {"units": "months since 2000-01-01"}))
    data.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a.nc: its times are counted in months, which are no fixed spans; count them"):
        open_source(tmp_path / "a.nc", NAMES, "pressure")


@pytest.mark.parametrize("missing", [0, 1])
def test_an_unknown_variable_has_a_unit_in_all_files_or_in_none(missing, tmp_path):
    """Or parts of a hundred would be mixed with shares."""
    whole = weather(TIMES)["temperature"].rename("soil_moisture")
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for i, (path, part) in enumerate(zip(paths, (whole[:3], whole[3:]), strict=True)):
        part.assign_attrs({"units": "1"}).to_netcdf(path) if i != missing else part.drop_attrs().to_netcdf(path)
    section = config(
        ["*.nc"], prognostic={"soil_moisture": {}}, diagnostic={}, forcing={}, static={}, split={"segments": {}}
    )
    with pytest.raises(DataError, match=rf"{paths[missing].name}: soil_moisture has no unit, that of .* is in '1'"):
        open_canonical(paths, section)


class TestInitialConditions:
    """The forecast command's door."""

    def write(self, tmp_path, change=lambda d: d):
        path = tmp_path / "initial.nc"
        change(weather(TIMES)).to_netcdf(path)
        return path

    def test_the_last_time_by_default_or_the_one_that_is_asked_for(self, tmp_path):
        path, truth = self.write(tmp_path), weather(TIMES)
        found = read_initial(path, SPEC, GRID)
        assert found["time"].values == TIMES[-1]
        assert set(found.data_vars) == {v.name for v in SPEC.variables}
        assert found["temperature"].dims == ("time", "level", "latitude", "longitude")
        np.testing.assert_array_equal(found["temperature"][0], truth["temperature"][-1])
        second = read_initial(path, SPEC, GRID, "2001-01-30T06:00")
        np.testing.assert_array_equal(second["surface_pressure"][0], truth["surface_pressure"][1])

    def test_files_by_level_come_in_the_models_units(self, tmp_path):
        """Of a variable that the program does not know, which has the unit of its file."""
        data = weather(TIMES)[["temperature"]].rename(temperature="dust").assign_attrs()
        data["dust"].attrs = {"units": "m"}
        spec = StateSpec((Variable("dust", "prognostic", (500.0, 850.0), "m"),), "pressure")
        for level in (500.0, 850.0):
            part = data.sel(level=[level])
            (part * 1000).assign(dust=(part["dust"] * 1000).assign_attrs(units="mm")).to_netcdf(
                tmp_path / f"{level:g}.nc"
            )
        files = [tmp_path / "500.nc", tmp_path / "850.nc"]
        found = read_initial(stack_levels(initial_sources(files, spec)), spec, GRID)
        np.testing.assert_allclose(found["dust"][0], data["dust"].sel(level=[500.0, 850.0])[-1], rtol=1e-6)

    def test_units_that_are_taken_for_granted_are_told_once(self, tmp_path, caplog):
        path = self.write(tmp_path, lambda d: d.assign(surface_pressure=d["surface_pressure"].drop_attrs()))
        read_initial(path, SPEC, GRID)
        told = "initial.nc: no units attribute, so values are taken to be in SI: surface_pressure (Pa)"
        assert [r.getMessage().endswith(told) for r in caplog.records if "no units" in r.getMessage()] == [True]

    def test_files_that_differ_at_the_initial_time_are_refused_and_equal_ones_taken(self, tmp_path):
        path, other = self.write(tmp_path), tmp_path / "other.nc"
        weather(TIMES[3:]).to_netcdf(other)  # other weather
        for files in ([path, other], [other, path]):
            with pytest.raises(DataError, match=r"nc: temperature at 2001-01-31T06:00 differs from what .*nc holds"):
                read_initial(initial_sources(files, SPEC), SPEC, GRID)
        weather(TIMES).isel(time=slice(3, None)).to_netcdf(other)
        xr.testing.assert_identical(
            read_initial(initial_sources([path, other], SPEC), SPEC, GRID), read_initial(path, SPEC, GRID)
        )

    def test_a_table_by_day_is_read_at_the_day_and_a_state_has_a_time(self, tmp_path):
        table = boundary()["soil_temperature"].rename("sea_surface_temperature")
        data = weather(TIMES).drop_vars("sea_surface_temperature").assign(sea_surface_temperature=table)
        found = read_initial(data, SPEC, GRID)["sea_surface_temperature"]
        np.testing.assert_allclose(found[0], table[30], rtol=1e-6)  # 31 January
        still = weather(TIMES).assign(surface_pressure=lambda d: d["surface_pressure"][0].drop_vars("time"))
        with pytest.raises(DataError, match="surface_pressure has no time, beside fields that have; give it at the"):
            read_initial(still, SPEC, GRID)

    def test_rain_of_a_single_time_is_no_sum_over_the_step(self):
        one = weather(TIMES[:1]).rename(total_precipitation_6hr="tp")
        names = {"total_precipitation_6hr": "tp"}
        assert np.isnan(read_initial(one, SPEC, GRID, names=names, timestep=HOURS_6)["total_precipitation_6hr"]).all()
        named = read_initial(weather(TIMES[:1]), SPEC, GRID, timestep=HOURS_6)
        assert np.isfinite(named["total_precipitation_6hr"]).all()

    def test_own_forecasts_are_no_analyses_unless_given_alone(self, tmp_path, caplog):
        path, forecast = self.write(tmp_path), tmp_path / "forecast.nc"
        later = weather(TIMES + np.timedelta64(10, "D"))
        leads = ("time", TIMES - TIMES[0], {"standard_name": "forecast_period"})
        later.assign_coords(lead_time=leads).assign_attrs(forecaster="network", emulator_version="1").to_netcdf(
            forecast
        )
        found = read_initial(initial_sources([path, forecast], SPEC), SPEC, GRID)
        assert found["time"].values == TIMES[-1]
        assert (
            "forecast.nc: is a forecast of network; take it out of the analyses: the file is left aside" in caplog.text
        )
        assert read_initial(forecast, SPEC, GRID)["time"].values == later["time"].values[-1]
        assert "forecast.nc: is a forecast itself; this one goes on from there" in caplog.text
        with pytest.raises(DataError, match=r"forecast.nc: is a forecast of network"):
            open_canonical([path, forecast], config(["*.nc"]))

    def test_files_without_anything_for_the_network_are_left_aside(self, tmp_path, caplog):
        path, other = self.write(tmp_path), tmp_path / "other.nc"
        weather(TIMES)["temperature"].rename("dust").to_netcdf(other)
        found = read_initial(initial_sources([other, path], SPEC), SPEC, GRID)
        assert set(found.data_vars) == {v.name for v in SPEC.variables}
        assert "other.nc: holds none of" in caplog.text
        with pytest.raises(DataError, match=r"other\.nc: holds none of"):
            initial_sources([other], SPEC)

    @pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
    def test_another_calendar_is_told_of(self, calendar, tmp_path, caplog):
        path = self.write(
            tmp_path,
            lambda d: d.assign_coords(
                time=xr.date_range("2001-01-30", periods=TIMES.size, freq="6h", calendar=calendar, use_cftime=True)
            ),
        )
        read_initial(path, SPEC, GRID)
        said = f"initial.nc: is on the calendar {calendar}; dates here are the real calendar's"
        assert (said in caplog.text) == (calendar != "standard")
        assert (f"calendar {calendar}" in inspect_files([path]).text) == (calendar != "standard")

    def test_user_names_flipped_axes_and_a_scalar_time(self, tmp_path):
        path = self.write(tmp_path, lambda d: cds(d).isel(valid_time=2))
        names = {"temperature": "t", "surface_pressure": "sp"}
        found = read_initial(path, SPEC, GRID, names=names)
        np.testing.assert_allclose(found["temperature"][0], weather(TIMES)["temperature"][2], rtol=1e-6)

    @pytest.mark.parametrize(
        ("model", "file", "factor"), [("%", "1", 100.0), ("m3 m-3", "m**3 m**-3", 1.0), ("1e-3", "%", 10.0)]
    )
    def test_what_has_no_entry_comes_in_the_models_unit(self, model, file, factor, tmp_path):
        spec = replace(SPEC, variables=(*SPEC.variables, Variable("r2", "prognostic", units=model)))
        share = weather(TIMES)["surface_pressure"] / 2e5
        path = self.write(tmp_path, lambda d: d.assign(r2=share.assign_attrs(units=file)))
        found = read_initial(path, spec, GRID)["r2"]
        assert found.attrs["units"] == model
        np.testing.assert_allclose(found[0], factor * share[-1], rtol=1e-6)

    @pytest.mark.parametrize(("attrs", "what"), [({"units": "kg"}, "is in 'kg'"), ({}, "has no unit")])
    def test_a_unit_that_cannot_become_the_models_is_refused(self, attrs, what, tmp_path):
        spec = replace(SPEC, variables=(*SPEC.variables, Variable("r2", "prognostic", units="%")))
        path = self.write(
            tmp_path, lambda d: d.assign(r2=(d["surface_pressure"] / 2e5).drop_attrs().assign_attrs(attrs))
        )
        with pytest.raises(DataError, match=rf"initial.nc: r2 {what}, the model's is in '%'; set its units attribute"):
            read_initial(path, spec, GRID)

    def test_bounds_apply_to_inputs_too(self, tmp_path):
        path = self.write(tmp_path, lambda d: d.assign(total_precipitation_6hr=d.total_precipitation_6hr - 1e-3))
        assert float(read_initial(path, SPEC, GRID)["total_precipitation_6hr"].min()) == 0.0

    @pytest.mark.parametrize("value", [-32767.0, -np.inf])
    def test_bounds_hide_no_missing_values(self, value, tmp_path):
        def change(data):
            data["total_precipitation_6hr"][-1, 0, 0], data["total_precipitation_6hr"][-1, 1, 1] = value, np.nan
            return data

        with pytest.raises(DataError, match=r"total_precipitation_6hr (has NaN or infinity|ranges from -32767)"):
            read_initial(self.write(tmp_path, change), SPEC, GRID)

    @pytest.mark.parametrize("role", ["prognostic", "diagnostic"])
    @pytest.mark.parametrize(("begin", "end"), [(-6, 0), (-1, 0), (0, 6)])
    def test_bounds_say_whether_rain_belongs_to_the_step(self, role, begin, end):
        spec = replace(
            SPEC, variables=tuple(replace(v, role=role) if is_accumulation(v.name) else v for v in SPEC.variables)
        )
        bounds = np.stack([TIMES + np.timedelta64(hours, "h") for hours in (begin, end)], axis=1)
        data = weather(TIMES).assign(time_bnds=(("time", "bnds"), bounds))
        data["time"].attrs["bounds"] = "time_bnds"
        if role == "prognostic" and begin != -6:
            with pytest.raises(
                DataError, match=r"over the 6 h before 2001-01-31T06:00, which bounds of its times contra"
            ):
                read_initial(data, spec, GRID, timestep=HOURS_6)
            return
        found = read_initial(data, spec, GRID, timestep=HOURS_6)["total_precipitation_6hr"]
        assert bool(np.isfinite(found).all()) == (begin == -6)

    @pytest.mark.parametrize("role", ["prognostic", "diagnostic"])
    def test_rain_of_closer_times_is_summed_over_the_model_step(self, role, tmp_path):
        spec = replace(
            SPEC, variables=tuple(replace(v, role=role) if is_accumulation(v.name) else v for v in SPEC.variables)
        )
        hourly = weather(times_from("2001-01-30", 12, np.timedelta64(1, "h")))
        rain = hourly["total_precipitation_6hr"]
        path, read = tmp_path / "initial.nc", partial(read_initial, grid=GRID, timestep=HOURS_6)
        names = {"total_precipitation_6hr": "tp"}
        hourly.rename(total_precipitation_6hr="tp").to_netcdf(path)
        found = read(path, spec, time="2001-01-30T07:00", names=names)
        np.testing.assert_allclose(found["total_precipitation_6hr"][0], rain[2:8].sum("time"), rtol=1e-6)
        if role == "prognostic":
            with pytest.raises(DataError, match="tp is to be summed over the 6 times that lead to 2001-01-30T04:00"):
                read(path, spec, time="2001-01-30T04:00", names=names)
        else:
            found = read(path, spec, time="2001-01-30T04:00", names=names)
            assert np.isnan(found["total_precipitation_6hr"]).all()
        for hours in (4, 12):  # sums over the files' interval are none over the step
            apart = weather(times_from("2001-01-30", 6, np.timedelta64(hours, "h"))).rename(
                total_precipitation_6hr="tp"
            )
            if role == "prognostic":
                with pytest.raises(DataError, match=f"over 6 h, and its times are {hours} h apart; sum it before"):
                    read(apart, spec, names=names)
            else:
                assert np.isnan(read(apart, spec, names=names)["total_precipitation_6hr"]).all()
        hourly.to_netcdf(path)  # sums over six hours every hour
        np.testing.assert_array_equal(read(path, spec)["total_precipitation_6hr"][0], rain[-1])

    def test_diagnostics_may_be_absent(self, tmp_path):
        path = self.write(tmp_path, lambda d: d.drop_vars("total_precipitation_6hr"))
        assert "total_precipitation_6hr" not in read_initial(path, SPEC, GRID)

    def test_diagnostics_may_be_missing_at_the_initial_time(self, tmp_path):
        path = self.write(tmp_path, lambda d: d.assign(total_precipitation_6hr=d.total_precipitation_6hr * np.nan))
        assert np.isnan(read_initial(path, SPEC, GRID)["total_precipitation_6hr"]).all()

    def test_nan_in_forcings_is_filled_only_when_asked(self, tmp_path):
        path = self.write(
            tmp_path, lambda d: d.assign(sea_surface_temperature=d.sea_surface_temperature.where(d.latitude < 50))
        )
        with pytest.raises(DataError, match=r"sea_surface_temperature has NaN or infinity in 25.0%.*another time"):
            read_initial(path, SPEC, GRID)
        field = read_initial(path, SPEC, GRID, fill_nan=True)["sea_surface_temperature"][0]
        wanted = weather(TIMES)["sea_surface_temperature"][-1, :3].mean()
        np.testing.assert_allclose(field[3], float(wanted), rtol=1e-6)

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda d: d.drop_vars("surface_pressure"), "missing surface_pressure; it holds temperature, total_"),
            (lambda d: d.drop_vars("sea_surface_temperature"), "missing sea_surface_temperature"),
            (lambda d: d.isel(level=[0]), "temperature lacks level 850; it has 500"),
            (
                lambda d: d.isel(latitude=slice(1, None)),
                "its grid is 8 x 3 .*the model's 8 x 4.*; emulator regrid IN OUT --like FILE brings it there",
            ),
            (lambda d: d.where(d.latitude < 50), "temperature@500 has NaN or infinity in 25.0% of its points at 2001"),
            (lambda d: d.isel(time=0, drop=True), "no time coordinate"),
            (lambda d: d.isel(time=[]), "time axis is empty"),
            (lambda d: d.isel(latitude=[]), "latitude axis is empty"),
            (lambda d: d.isel(longitude=[]), "longitude axis is empty"),
            (lambda d: d.isel(level=[]), "level axis is empty"),
            (lambda d: d.isel(level=[]).assign_coords(level=("level", [])), "level axis is empty"),
            (
                lambda d: d.assign(temperature=(d.temperature - 273.15).assign_attrs(units="K")),
                "possible are 50 to 400; these look like degrees Celsius",
            ),
            (
                lambda d: d.assign(surface_pressure=(d.surface_pressure / 100).assign_attrs(units="Pa")),
                "surface_pressure ranges from .* these look like hPa",
            ),
        ],
    )
    def test_each_defect_has_its_line(self, change, what, tmp_path):
        path = self.write(tmp_path, change)
        with pytest.raises(DataError, match=what) as error:
            read_initial(path, SPEC, GRID)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_time_that_is_not_there(self, tmp_path):
        with pytest.raises(
            DataError, match=r"no time 1999-01-01; all is there at 6 times from 2001-01-30T00:00 to 2001-01-31T06:00"
        ):
            read_initial(self.write(tmp_path), SPEC, GRID, np.datetime64("1999-01-01"))
        with pytest.raises(DataError, match="'yesterday' is no time"):
            read_initial(self.write(tmp_path), SPEC, GRID, "yesterday")

    def test_a_variable_that_is_not_there_at_that_time_is_named(self, tmp_path):
        whole = xr.load_dataset(self.write(tmp_path))
        whole[["temperature"]].to_netcdf(tmp_path / "t.nc")
        whole.drop_vars("temperature").isel(time=slice(3)).to_netcdf(tmp_path / "rest.nc")
        opened = initial_sources([tmp_path / "t.nc", tmp_path / "rest.nc"], SPEC)
        late = TIMES[4]
        with pytest.raises(DataError, match=rf"t.nc and 1 more: no surface_pressure.* at {late}; all is there at 3"):
            read_initial(opened, SPEC, GRID, late)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4"])
@pytest.mark.parametrize("unlimited", [(), ("time",)])
def test_a_file_that_is_cut_short_is_said_to_be(form, unlimited, tmp_path):
    """The library reads what is missing of NetCDF 3 as zeros."""
    path = tmp_path / "file.nc"
    weather(TIMES).to_netcdf(path, format=form, unlimited_dims=unlimited)
    assert open_source(path, NAMES, "pressure").times.size == 6
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        DataError, match=r"is cut short: \d+ bytes, and its .* copy it again|is it whole\? copy it again"
    ):
        open_source(path, NAMES, "pressure")


class TestRealFiles:
    """The world as it is."""

    @needs("ncep_r1_air_temperature_2013_2014.nc")
    def test_ncep_air_temperature(self):
        name = "air_temperature_sigma995"
        source = open_source(SHARED / "ncep_r1_air_temperature_2013_2014.nc", {name: ("air",)}, None)
        assert source.grid.shape == (25, 53)
        assert source.grid.latitude[0] == 15.0 and source.grid.latitude[-1] == 75.0
        assert source.times[[0, -1]].astype("datetime64[h]").astype(str).tolist() == ["2013-01-01T00", "2014-12-31T18"]
        first = source.read(name, ())[0, :, :, 0]
        assert first[0].mean() > first[-1].mean() + 30  # the south is warm

    @needs("ncep_r1_hgt1000_1960_int16.nc")
    @pytest.mark.parametrize(("vertical", "levels"), [("pressure", (1000.0,)), (None, ())])
    def test_packed_heights_since_the_year_one(self, vertical, levels):
        source = open_source(SHARED / "ncep_r1_hgt1000_1960_int16.nc", {"geopotential": ("hgt",)}, vertical)
        # The proleptic Gregorian calendar would say 3 January; the file means the mixed one, Julian until 1582.
        assert str(source.times[0].astype("datetime64[h]")) == "1960-01-01T00"
        assert source.grid.is_global and source.grid.shape == (73, 144)
        assert source.fields["geopotential"].levels == levels
        height = source.read("geopotential", levels, 0, 41) / GRAVITY
        assert -700 < height.min() < -200 and 300 < height.max() < 600

    @needs("era5_cds_valid_time_2022.nc")
    def test_era5_of_the_climate_data_store(self):
        names = {"temperature": ("t",), "u_component_of_wind": ("u",)}
        source = open_source(SHARED / "era5_cds_valid_time_2022.nc", names, "pressure")
        assert source.times.size == 40
        assert source.grid.longitude == (351.0, 351.25, 351.5, 351.75, 352.0)
        assert source.fields["temperature"].levels[0] == 1.0 and source.fields["temperature"].levels[-1] == 1000.0
        warm, cold = source.read("temperature", (250.0, 1000.0), 0, 40).mean(axis=(0, 1, 2))[::-1]
        assert warm > 280 > 240 > cold

    @needs("era5_tl31_19590102T00.nc")
    def test_an_era5_slice_as_initial_condition(self):
        spec = StateSpec(
            (
                Variable("temperature", "prognostic", LEVELS, "K"),
                Variable("sea_surface_temperature", "forcing", units="K", known="persisted"),
            ),
            "pressure",
        )
        found = read_initial(SHARED / "era5_tl31_19590102T00.nc", spec, Grid.gaussian(32), fill_nan=True)
        assert found["temperature"].shape == (1, 2, 32, 64)
        assert str(found["time"].values[0].astype("datetime64[h]")) == "1959-01-02T00"
        assert np.isfinite(found["sea_surface_temperature"]).all()

    @needs("eraint_monthly_uvz.nc")
    def test_monthly_means_without_a_time_are_refused(self):
        with pytest.raises(DataError, match=r"eraint_monthly_uvz\.nc: z has the dimension month, and no time axis was"):
            open_source(SHARED / "eraint_monthly_uvz.nc", {"geopotential": ("z",)}, "pressure")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_initial_fields_of_every_file_are_on_the_models_grid(order, tmp_path):
    """Another grid may have the same shape."""
    data, paths = weather(TIMES), [tmp_path / "a.nc", tmp_path / "b.nc"]
    data.drop_vars("sea_surface_temperature").to_netcdf(paths[0])
    sea = data[["sea_surface_temperature"]]
    sea.assign_coords(longitude=("longitude", sea["longitude"].values + 20, sea["longitude"].attrs)).to_netcdf(paths[1])
    with pytest.raises(DataError, match=r"b.nc: its grid is 8 x 4 .*longitude 20 to 335, the model's"):
        read_initial(initial_sources([paths[i] for i in order], SPEC), SPEC, GRID)


def test_levels_on_different_grids_are_no_stack(tmp_path):
    """Of the same shape: the second file's grid would never be looked at."""
    data = weather(TIMES)
    data.sel(level=[500.0]).to_netcdf(tmp_path / "a.nc")
    lower = data[["temperature"]].sel(level=[850.0])
    lower.isel(latitude=slice(None, None, -1)).assign_coords(longitude=lower["longitude"].values + 20).to_netcdf(
        tmp_path / "b.nc"
    )
    sources = stack_levels(initial_sources([tmp_path / "a.nc", tmp_path / "b.nc"], SPEC))
    assert len(sources) == 2
    with pytest.raises(DataError, match=r"b.nc: its grid is"):
        read_initial(sources, SPEC, GRID)


@pytest.mark.parametrize("role", ["prognostic", "diagnostic"])
def test_rain_is_not_summed_across_times_that_are_missing(role, tmp_path):
    variables = (replace(v, role=role) if v.role == "diagnostic" else v for v in SPEC.variables)
    spec = replace(SPEC, variables=tuple(variables))
    hourly = weather(times_from("2001-01-30", 20, HOUR)).rename(total_precipitation_6hr="tp")
    holed, names = hourly.isel(time=np.arange(20) != 16), {"total_precipitation_6hr": "tp"}
    for last, whole in (("2001-01-30T19:00", False), ("2001-01-30T15:00", True)):
        if role == "prognostic" and not whole:
            with pytest.raises(DataError, match=f"6 times that lead to {last}, and some are missing; add them"):
                read_initial(holed, spec, GRID, last, names, timestep=HOURS_6)
        else:
            found = read_initial(holed, spec, GRID, last, names, timestep=HOURS_6)["total_precipitation_6hr"]
            assert bool(np.isfinite(found).all()) == whole


def test_times_that_arco_era5_reserves_at_either_end_are_left_out_and_the_last_day_is_whole(tmp_path):
    data = weather(times_from("2001-01-30", 20))
    data.attrs = {"valid_time_start": "2001-01-31", "valid_time_stop": "2001-02-01"}
    data.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    source = open_source(tmp_path / "a.zarr", NAMES, "pressure")
    np.testing.assert_array_equal(source.times, data["time"].values[4:12])
    found = source.read("surface_pressure", (), 0, 8)[..., 0]
    np.testing.assert_array_equal(found, data["surface_pressure"].values[4:12])


def test_an_initial_time_with_a_zone_is_that_of_utc():
    eastern = datetime(2001, 1, 30, 8, tzinfo=timezone(timedelta(hours=2)))
    found = read_initial(weather(TIMES), SPEC, GRID, eastern)
    assert found["time"].values[0] == np.datetime64("2001-01-30T06")


def test_of_initial_fields_forcings_alone_are_filled():
    """A hole in the state is one, however the network's forcings were filled in training."""
    data = weather(TIMES)
    data["temperature"][-1, 0, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"temperature@500 has NaN or infinity in 3\.1% of its points"):
        read_initial(data, SPEC, GRID, fill_nan=True)


def test_the_command_reads_initial_fields_as_the_network_was_trained(tmp_path, monkeypatch):
    """Forcings are filled as they were, and rain is summed over the network's step."""
    hourly = weather(times_from("2001-01-30", 20, HOUR)).rename(total_precipitation_6hr="tp")
    hourly["sea_surface_temperature"][-1, 2, 3] = np.nan
    hourly.to_netcdf(tmp_path / "a.nc")
    seen = []
    network = SimpleNamespace(
        **{"spec": SPEC, "grid": GRID, "timestep": HOURS_6, "fill_nan": True},
        sources={"total_precipitation_6hr": "tp"},
        attributes=lambda initial: seen.append(initial) or 1 / 0,
    )
    monkeypatch.setattr(forecast, "load_forecaster", lambda _: network)
    with pytest.raises(ZeroDivisionError):
        forecast.forecast_file(tmp_path, [tmp_path / "a.nc"], tmp_path / "out.nc", days=1)
    np.testing.assert_allclose(seen[0]["total_precipitation_6hr"][0], hourly["tp"][14:20].sum("time"), rtol=1e-6)
    sea = hourly["sea_surface_temperature"][-1]
    np.testing.assert_allclose(seen[0]["sea_surface_temperature"][0], sea.fillna(sea.mean()), rtol=1e-6)


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_chunk_that_any_of_the_files_of_a_stack_lacks_is_told(lacking, tmp_path):
    paths = [tmp_path / "a.zarr", tmp_path / "b.zarr"]
    for path, level in zip(paths, (500.0, 850.0), strict=True):
        data = weather(TIMES)[["temperature"]].sel(level=[level])
        encoding = {"temperature": {"_FillValue": None, "chunks": None}}
        data.chunk(time=2).to_zarr(path, zarr_format=2, encoding=encoding, consolidated=False)
    section = config(["x"], prognostic={"temperature": {}}, diagnostic={}, forcing={}, static={})
    open_canonical(paths, section)
    (paths[lacking] / "temperature" / "1.0.0.0").unlink()
    with pytest.raises(DataError, match="temperature lacks 1 of its chunk files, the first at 2001-01-30T12:00"):
        open_canonical(paths, section)
