"""The same weather as the world's archives would write it: one generator for all dialects that must be read.

Values are multiples of powers of two, so that packing and changes of unit lose nothing and stores can be compared bit
by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr
from weather_files import times_from

from data_prep.config import DataConfig
from data_prep.grid import Grid
from data_prep.variables import GRAVITY

GRID = Grid.from_arrays(np.arange(-70, 71, 20), np.arange(0, 360, 30))
LEVELS = (500.0, 850.0)
TIMES = times_from("2001-01-01", 40)

# Canonical name -> (offset, quantum): values are offset + k * quantum with k within 16 bits.
QUANTA: dict[str, tuple[float, float]] = {
    "temperature": (256.0, 2.0**-7),
    "u_component_of_wind": (0.0, 2.0**-8),
    "v_component_of_wind": (0.0, 2.0**-8),
    "specific_humidity": (2.0**-7, 2.0**-22),
    "geopotential": (32768.0, 1.0),
    "2m_temperature": (272.0, 2.0**-7),
    "mean_sea_level_pressure": (98304.0, 0.25),
}
UNITS = {
    "temperature": "K",
    "u_component_of_wind": "m s-1",
    "v_component_of_wind": "m s-1",
    "specific_humidity": "kg kg-1",
    "geopotential": "m2 s-2",
    "2m_temperature": "K",
    "mean_sea_level_pressure": "Pa",
}
ON_LEVELS = tuple(QUANTA)[:5]


def world(times: np.ndarray = TIMES, grid: Grid = GRID, seed: int = 3) -> xr.Dataset:
    """Canonical weather with a slow evolution, a warm equator and unlike hemispheres, float32."""
    rng = np.random.default_rng(seed)
    latitude = np.radians(np.asarray(grid.latitude))[:, None]
    data: dict[str, Any] = {}
    standard = np.array([5000.0, 1500.0]) * GRAVITY
    for name, (offset, quantum) in QUANTA.items():
        levels = len(LEVELS) if name in ON_LEVELS else 1
        shape = (times.size, levels, *grid.shape)
        steps = rng.standard_normal(shape) * 0.3
        steps[0] = rng.standard_normal(shape[1:])
        weather = np.cumsum(steps, axis=0)
        profile = 6 * np.cos(latitude) ** 2 + 4 * np.sin(latitude) + weather
        k = np.clip(np.rint(profile * 300), -20000, 20000)
        values = offset + k * quantum
        if name == "geopotential":
            values = np.rint(standard[:, None, None] + k * quantum)
        values = values if name in ON_LEVELS else values[:, 0]
        dims = ("time", "level", "latitude", "longitude") if name in ON_LEVELS else ("time", "latitude", "longitude")
        data[name] = (dims, values.astype(np.float32), {"units": UNITS[name]})
    return xr.Dataset(
        data,
        {
            "time": times,
            "level": ("level", np.asarray(LEVELS), {"units": "hPa"}),
            "latitude": ("latitude", np.asarray(grid.latitude), {"units": "degrees_north"}),
            "longitude": ("longitude", np.asarray(grid.longitude), {"units": "degrees_east"}),
        },
    )


def world_config(inputs: list[str], **changes: Any) -> DataConfig:
    """One config for every dialect: it names no variable as a file does."""
    raw: dict[str, Any] = {
        "inputs": inputs,
        "vertical": "pressure",
        "prognostic": {name: {} for name in QUANTA},
        "split": {"segments": {"train": [0]}},
    }
    return DataConfig.model_validate({**raw, **changes})


REGION = Grid.from_arrays(np.arange(40, 46), np.arange(5, 14))


def region() -> xr.Dataset:
    """A month of two variables on 54 points."""
    return world(times_from("2001-01-01", 120), REGION)[["temperature", "mean_sea_level_pressure"]]


def region_section(inputs: list[str], temperature: str = "temperature") -> dict[str, Any]:
    """The ``data`` section for files of ``region``, in which temperature may have another name."""
    return {
        "inputs": inputs,
        "vertical": "pressure",
        "prognostic": {"temperature": {"source": temperature}, "mean_sea_level_pressure": {}},
        "computed": ["coordinates"],
        "split": {
            "train": ["2001-01-01", "2001-01-15"],
            "validation": ["2001-01-17", "2001-01-21"],
            "test": ["2001-01-23", "2001-01-31"],
            "gap_days": 1,
        },
    }


def packing(name: str, fill: float = -32767) -> dict[str, Any]:
    """Encoding that packs a variable into int16 without loss; geopotential differs too much between levels."""
    offset, quantum = QUANTA[name]
    if name == "geopotential":
        return {"dtype": "int32", "scale_factor": 1.0, "add_offset": 0.0, "_FillValue": -99999}
    return {"dtype": "int16", "scale_factor": quantum, "add_offset": offset, "_FillValue": np.int16(fill)}


def _scaled(data: xr.Dataset, name: str, factor: float, units: str, offset: float = 0.0) -> xr.DataArray:
    """A variable in another unit, in double precision: SI = factor * value + offset."""
    values = (data[name].astype(np.float64) - offset) / factor
    return values.assign_attrs(units=units)


def _heights(data: xr.Dataset, units: str = "m") -> xr.Dataset:
    return data.assign(geopotential=_scaled(data, "geopotential", GRAVITY, units))


def _north_first(data: xr.Dataset) -> xr.Dataset:
    return data.isel(latitude=slice(None, None, -1))


def _single_precision(data: xr.Dataset, *axes: str) -> xr.Dataset:
    return data.assign_coords({a: (a, data[a].values.astype(np.float32), data[a].attrs) for a in axes})


def _pascals(data: xr.Dataset, name: str, dtype: str = "float64") -> xr.Dataset:
    values = (data["level"].values * 100).astype(dtype)
    return data.assign_coords(level=("level", values, {"units": "Pa", "positive": "down"})).rename(level=name)


def _netcdf(data: xr.Dataset, folder: Path, encoding: Mapping[str, Any] | None = None, **options: Any) -> Path:
    path = folder / "data.nc"
    data.to_netcdf(path, encoding=dict(encoding or {}), **options)
    return path


def _zarr(data: xr.Dataset, folder: Path, **options: Any) -> Path:
    path = folder / "data.zarr"
    data.to_zarr(path, consolidated=options.pop("consolidated", False), **options)
    return path


_ERA_SHORT = {
    "temperature": "t",
    "u_component_of_wind": "u",
    "v_component_of_wind": "v",
    "specific_humidity": "q",
    "geopotential": "z",
    "2m_temperature": "t2m",
    "mean_sea_level_pressure": "msl",
}


def canonical(data: xr.Dataset, folder: Path) -> Path:
    """As this program writes."""
    return _netcdf(data, folder)


def classic_netcdf(data: xr.Dataset, folder: Path) -> Path:
    """NetCDF 3."""
    return _netcdf(data, folder, format="NETCDF3_CLASSIC")


def weatherbench2(data: xr.Dataset, folder: Path) -> Path:
    """Zarr 2, longitude before latitude, levels as bare integers."""
    out = data.transpose("time", "level", "longitude", "latitude")
    out = out.assign_coords(level=("level", np.asarray(LEVELS).astype("int64")))
    return _zarr(out, folder, zarr_format=2, consolidated=True)


def arco(data: xr.Dataset, folder: Path) -> Path:
    """Google's ARCO-ERA5: Zarr 2, north first, and times reserved that hold nothing yet."""
    step = TIMES[1] - TIMES[0]
    reserved = times_from(str(data["time"].values[0] - 8 * step)[:19], data.sizes["time"] + 8)
    out = _north_first(data).reindex(time=reserved)
    out.attrs = {"valid_time_start": "2001-01-01", "valid_time_stop": "2099-12-31"}
    out = out.assign_coords(level=("level", np.asarray(LEVELS).astype("int64")))
    return _zarr(out, folder, zarr_format=2, encoding={"time": {"units": "hours since 1900-01-01", "dtype": "int64"}})


def zarr3(data: xr.Dataset, folder: Path) -> Path:
    """Zarr 3."""
    return _zarr(data, folder, zarr_format=3)


def cds_new(data: xr.Dataset, folder: Path) -> Path:
    """The Climate Data Store since 2024: valid_time, pressure_level from the ground up, number, expver."""
    out = _north_first(data).isel(level=slice(None, None, -1)).rename(_ERA_SHORT)
    out = out.rename(time="valid_time", level="pressure_level")
    out["t"].attrs |= {"units": "K", "standard_name": "air_temperature"}
    out["z"].attrs["units"] = "m**2 s**-2"
    out["q"].attrs["units"] = "kg kg**-1"
    out["valid_time"].attrs = {"standard_name": "time", "long_name": "time"}
    out = out.assign_coords(number=0, expver=("valid_time", ["0001"] * data.sizes["time"]))
    return _netcdf(out, folder, {"valid_time": {"units": "seconds since 1970-01-01", "dtype": "int64"}})


def cds_old(data: xr.Dataset, folder: Path) -> Path:
    """The Climate Data Store before: packed, and final and preliminary data along expver."""
    out = _north_first(data).rename(_ERA_SHORT)
    final = xr.DataArray(np.arange(data.sizes["time"]) < 30, dims="time")
    out = xr.concat([out.where(final), out.where(~final)], xr.IndexVariable("expver", [1, 5]))
    out = out.transpose("time", "expver", "level", "latitude", "longitude").astype(np.float64)
    out = _single_precision(out, "latitude", "longitude")
    out = out.assign_coords(level=("level", np.asarray(LEVELS).astype("int32"), {"units": "millibars"}))
    encoding = {short: packing(name) for name, short in _ERA_SHORT.items()}
    time = {"units": "hours since 1900-01-01 00:00:00.0", "calendar": "gregorian", "dtype": "int32"}
    return _netcdf(out, folder, encoding | {"time": time}, format="NETCDF3_64BIT")


def era_interim(data: xr.Dataset, folder: Path) -> Path:
    """ERA-Interim from MARS: packed integers, longitudes from -180."""
    out = _north_first(data).rename(_ERA_SHORT)
    out = out.assign_coords(longitude=(out["longitude"] + 180) % 360 - 180).sortby("longitude")
    out = _single_precision(out, "latitude", "longitude")
    out = out.assign_coords(level=("level", np.asarray(LEVELS).astype("int32"), {"units": "millibars"}))
    encoding = {short: packing(name) for name, short in _ERA_SHORT.items()}
    return _netcdf(out, folder, encoding | {"time": {"units": "hours since 1900-01-01", "dtype": "int32"}})


_NCEP = {
    "temperature": "air",
    "u_component_of_wind": "uwnd",
    "v_component_of_wind": "vwnd",
    "specific_humidity": "shum",
    "geopotential": "hgt",
    "2m_temperature": "t2m",
    "mean_sea_level_pressure": "slp",
}


def _ncep(data: xr.Dataset) -> xr.Dataset:
    out = _heights(_north_first(data)).rename(_NCEP).rename(latitude="lat", longitude="lon")
    out["slp"].attrs["units"] = "Pascals"
    out["air"].attrs["units"] = "degK"
    out["uwnd"].attrs["units"] = out["vwnd"].attrs["units"] = "m/s"
    out["shum"] = _scaled(out, "shum", 1e-3, "grams/kg")
    out = _single_precision(out, "lat", "lon")
    return out.assign_coords(level=("level", np.float32(LEVELS), {"units": "millibar", "positive": "down"}))


def ncep_r1(data: xr.Dataset, folder: Path) -> Path:
    """NCEP/NCAR Reanalysis 1 as of today: hours since 1800, heights in m, humidity in g/kg."""
    return _netcdf(_ncep(data), folder, {"time": {"units": "hours since 1800-01-01 00:00:0.0", "dtype": "float64"}})


def ncep_r2(data: xr.Dataset, folder: Path) -> Path:
    """Reanalysis 2 and older files of Reanalysis 1: hours since the year one on the mixed calendar, packed."""
    encoding = {"air": packing("temperature", 32766), "uwnd": packing("u_component_of_wind", 32766)}
    time = {"units": "hours since 1-1-1 00:00:0.0", "calendar": "standard", "dtype": "float64"}
    return _netcdf(_ncep(data), folder, encoding | {"time": time})


def jra55_ncl(data: xr.Dataset, folder: Path) -> Path:
    """JRA-55 turned from GRIB 1 by NCL: numbered names of dimensions, times as text and numbers beside."""
    names = {
        "temperature": "TMP_GDS0_ISBL",
        "u_component_of_wind": "UGRD_GDS0_ISBL",
        "v_component_of_wind": "VGRD_GDS0_ISBL",
        "specific_humidity": "SPFH_GDS0_ISBL",
        "geopotential": "HGT_GDS0_ISBL",
        "2m_temperature": "TMP_GDS0_HTGL",
        "mean_sea_level_pressure": "PRMSL_GDS0_MSL",
    }
    out = _heights(_north_first(data), "gpm").rename(names)
    out = out.assign_coords(level=("level", np.asarray(LEVELS).astype("int32"), {"units": "hPa"}))
    out = out.rename(time="initial_time0_hours", level="lv_ISBL1", latitude="g0_lat_2", longitude="g0_lon_3")
    out = _single_precision(out, "g0_lat_2", "g0_lon_3")
    out["TMP_GDS0_HTGL"] = out["TMP_GDS0_HTGL"].expand_dims(lv_HTGL3=[2], axis=1)
    out["lv_HTGL3"].attrs = {"units": "m", "long_name": "specified height above ground"}
    text = [str(t)[:16].replace("T", " ") for t in data["time"].values]
    out["initial_time0"] = ("initial_time0_hours", text)
    out["initial_time0_encoded"] = ("initial_time0_hours", 2001010100.0 + np.arange(len(text)))
    time = {"units": "hours since 1800-01-01 00:00", "dtype": "float64"}
    return _netcdf(out, folder, {"initial_time0_hours": time})


def _gfs(data: xr.Dataset) -> xr.Dataset:
    names = {**_ERA_SHORT, "geopotential": "gh", "mean_sea_level_pressure": "prmsl"}
    out = _heights(_north_first(data), "gpm").isel(level=slice(None, None, -1)).rename(names)
    out = out.rename(level="isobaricInhPa")
    out["gh"].attrs["standard_name"] = "geopotential_height"
    return out


def gfs_analyses(data: xr.Dataset, folder: Path) -> Path:
    """GFS analyses through cfgrib: an initial time, a step of zero, a valid time."""
    out = _gfs(data).assign_coords(step=np.timedelta64(0, "ns"), valid_time=("time", data["time"].values))
    out["time"].attrs["standard_name"] = "forecast_reference_time"
    out["valid_time"].attrs["standard_name"] = "time"
    return _netcdf(out, folder)


def gfs_forecast(data: xr.Dataset, folder: Path) -> Path:
    """One GFS forecast through cfgrib: a scalar initial time, and steps that carry a valid time."""
    times = data["time"].values
    out = _gfs(data).rename(time="step")
    out = out.assign_coords(step=times - times[0], time=times[0], valid_time=("step", times))
    out["time"].attrs["standard_name"] = "forecast_reference_time"
    out["valid_time"].attrs["standard_name"] = "time"
    return _netcdf(out, folder)


def gfs_thredds(data: xr.Dataset, folder: Path) -> Path:
    """GFS from a THREDDS server: names that spell the kind of level out, isobaric surfaces in Pa."""
    names = {
        "temperature": "Temperature_isobaric",
        "u_component_of_wind": "u-component_of_wind_isobaric",
        "v_component_of_wind": "v-component_of_wind_isobaric",
        "specific_humidity": "Specific_humidity_isobaric",
        "geopotential": "Geopotential_height_isobaric",
        "2m_temperature": "Temperature_height_above_ground",
        "mean_sea_level_pressure": "Pressure_reduced_to_MSL_msl",
    }
    out = _pascals(_heights(_north_first(data), "gpm"), "isobaric3", "float32").rename(names)
    out = out.rename(time="time1", latitude="lat", longitude="lon")
    out["time1"].attrs = {"standard_name": "time", "long_name": "GRIB forecast or observation time"}
    name = "Temperature_height_above_ground"
    out[name] = out[name].expand_dims(height_above_ground=[2.0], axis=1)
    out["height_above_ground"].attrs = {"units": "m", "positive": "up"}
    return _netcdf(out, folder)


def gfs_nomads(data: xr.Dataset, folder: Path) -> Path:
    """GFS from a GrADS data server: days since the year one, millibar."""
    names = {
        "temperature": "tmpprs",
        "u_component_of_wind": "ugrdprs",
        "v_component_of_wind": "vgrdprs",
        "specific_humidity": "spfhprs",
        "geopotential": "hgtprs",
        "2m_temperature": "tmp2m",
        "mean_sea_level_pressure": "prmslmsl",
    }
    out = _heights(data).rename(names).rename(latitude="lat", longitude="lon", level="lev")
    out["lev"].attrs = {"units": "millibar"}
    return _netcdf(out, folder, {"time": {"units": "days since 1-1-1 00:00:0.0", "dtype": "float64"}})


def _cmip6(data: xr.Dataset) -> xr.Dataset:
    names = {
        "temperature": "ta",
        "u_component_of_wind": "ua",
        "v_component_of_wind": "va",
        "specific_humidity": "hus",
        "geopotential": "zg",
        "2m_temperature": "tas",
        "mean_sea_level_pressure": "psl",
    }
    out = _pascals(_heights(data).isel(level=slice(None, None, -1)), "plev").rename(names)
    out = out.rename(latitude="lat", longitude="lon").assign_coords(height=2.0)
    out["hus"].attrs["units"] = "1"
    out["height"].attrs = {"units": "m", "standard_name": "height", "axis": "Z", "positive": "up"}
    out["lat_bnds"] = (("lat", "bnds"), np.stack([out["lat"].values - 10, out["lat"].values + 10], axis=-1))
    out["lat"].attrs |= {"bounds": "lat_bnds", "standard_name": "latitude", "axis": "Y"}
    return out


def cmip6_noleap(data: xr.Dataset, folder: Path) -> Path:
    """A CMIP6 model without leap days."""
    out = _cmip6(data).convert_calendar("noleap")
    return _netcdf(out, folder, {"time": {"units": "days since 1850-01-01", "dtype": "float64"}})


def cmip6_360_day(data: xr.Dataset, folder: Path) -> Path:
    """A CMIP6 model whose years have 360 days."""
    hours = (data["time"].values - np.datetime64("2001-01-01", "ns")) / np.timedelta64(1, "h")
    times = [cftime.Datetime360Day(2001, 1, 1) + timedelta(hours=float(h)) for h in hours]
    out = _cmip6(data).assign_coords(time=("time", times))
    return _netcdf(out, folder, {"time": {"units": "days since 1850-01-01", "dtype": "float64"}})


def merra2(data: xr.Dataset, folder: Path) -> Path:
    """MERRA-2: capitals, minutes since the first time, longitudes from -180, a fill value of 1e15."""
    names = {
        "temperature": "T",
        "u_component_of_wind": "U",
        "v_component_of_wind": "V",
        "specific_humidity": "QV",
        "geopotential": "H",
        "2m_temperature": "T2M",
        "mean_sea_level_pressure": "SLP",
    }
    out = _heights(data).isel(level=slice(None, None, -1)).rename(names)
    out = out.assign_coords(longitude=(out["longitude"] + 180) % 360 - 180).sortby("longitude")
    out = out.rename(latitude="lat", longitude="lon", level="lev")
    out = out.assign_coords(lon=("lon", np.where(out["lon"] == 0, -1.79751e-13, out["lon"]), out["lon"].attrs))
    encoding = {name: {"_FillValue": 1e15} for name in names.values()}
    return _netcdf(out, folder, encoding | {"time": {"units": "minutes since 2001-01-01 00:00:00", "dtype": "int32"}})


def modified_julian_days(data: xr.Dataset, folder: Path) -> Path:
    """Days since 1858 in single precision, which holds six hours exactly and single hours not."""
    return _netcdf(data, folder, {"time": {"units": "days since 1858-11-17", "dtype": "float32"}})


def any_order(data: xr.Dataset, folder: Path) -> Path:
    """Dimensions the other way round."""
    return _netcdf(data.transpose("longitude", "latitude", "level", "time"), folder)


def repeated_meridian(data: xr.Dataset, folder: Path) -> Path:
    """The circle closed: 0 and 360 both there."""
    last = data.isel(longitude=[0]).assign_coords(longitude=[360.0])
    out = xr.concat([data, last], "longitude", data_vars="minimal")
    return _netcdf(out, folder)


def western(data: xr.Dataset, folder: Path) -> Path:
    """-180 to 180, both ends there."""
    out = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude")
    last = out.isel(longitude=[0]).assign_coords(longitude=[180.0])
    return _netcdf(xr.concat([out, last], "longitude", data_vars="minimal"), folder)


def starts_anywhere(data: xr.Dataset, folder: Path) -> Path:
    """From 90 to 420 degrees east."""
    out = data.roll(longitude=-3, roll_coords=True)
    longitude = out["longitude"].values
    return _netcdf(out.assign_coords(longitude=np.where(longitude < 90, longitude + 360, longitude)), folder)


def plain_axes(data: xr.Dataset, folder: Path) -> Path:
    """Axes named y, x and z, told by units alone."""
    out = data.rename(latitude="y", longitude="x", level="z")
    out["z"].attrs = {"units": "hPa", "positive": "down"}
    return _netcdf(out, folder)


def attributes_only(data: xr.Dataset, folder: Path) -> Path:
    """Names that say nothing; CF attributes that say everything."""
    standard_names = {
        "temperature": "air_temperature",
        "u_component_of_wind": "eastward_wind",
        "v_component_of_wind": "northward_wind",
        "specific_humidity": "specific_humidity",
        "geopotential": "geopotential_height",
        "2m_temperature": "air_temperature",
        "mean_sea_level_pressure": "air_pressure_at_mean_sea_level",
    }
    out = _heights(data)
    for name, standard_name in standard_names.items():
        out[name].attrs["standard_name"] = standard_name
    out = out.rename({name: f"v{i}" for i, name in enumerate(standard_names)})
    out = out.rename(latitude="j", longitude="i", time="when", level="k")
    out["when"].attrs = {"standard_name": "time", "axis": "T"}
    out["k"].attrs |= {"positive": "down", "standard_name": "air_pressure"}
    out["v5"] = out["v5"].assign_coords(h=((), 2.0, {"units": "m", "standard_name": "height"}))
    return _netcdf(out.assign_coords(h=((), 2.0, {"units": "m", "standard_name": "height"})), folder)


def other_units(data: xr.Dataset, folder: Path) -> Path:
    """Celsius, hPa, knots and g/kg, in double precision."""
    out = data.assign(
        temperature=_scaled(data, "temperature", 1.0, "degC", 273.15),
        mean_sea_level_pressure=_scaled(data, "mean_sea_level_pressure", 100.0, "hPa"),
        specific_humidity=_scaled(data, "specific_humidity", 1e-3, "g kg-1"),
        u_component_of_wind=_scaled(data, "u_component_of_wind", 1 / 3.6, "km h-1"),
        geopotential=_scaled(data, "geopotential", 10 * GRAVITY, "dam"),
    )
    return _netcdf(out, folder)


def one_member(data: xr.Dataset, folder: Path) -> Path:
    """A length-1 ensemble dimension."""
    return _netcdf(data.expand_dims(realization=1), folder)


DIALECTS: dict[str, Callable[[xr.Dataset, Path], Path]] = {
    function.__name__: function
    for function in (
        classic_netcdf,
        weatherbench2,
        arco,
        zarr3,
        cds_new,
        cds_old,
        era_interim,
        ncep_r1,
        ncep_r2,
        jra55_ncl,
        gfs_analyses,
        gfs_forecast,
        gfs_thredds,
        gfs_nomads,
        cmip6_noleap,
        cmip6_360_day,
        merra2,
        modified_julian_days,
        any_order,
        repeated_meridian,
        western,
        starts_anywhere,
        plain_axes,
        attributes_only,
        other_units,
        one_member,
    )
}
