"""The folder that the documentation is read in: a checkout whose ``demo`` is small, with files of a user beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import xarray as xr
from doc_blocks import ROOT
from test_era5 import SMALLER
from weather_files import times_from
from weatherbench_store import weatherbench_store

from emulator.cli import main
from emulator.config import load_config, save_config

_LARGE = 100_000


def make_checkout(folder: Path, tiny_experiment: Path) -> None:
    """Fills a folder.

    Args:
      folder: It must not exist.
      tiny_experiment: The folder of ``tests/tiny.yaml`` with every stage done, which passes for the demo's.
    """
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    tiny = (ROOT / "tests" / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "configs" / "demo.yaml").write_text(tiny.replace("name: tiny", "name: demo"), encoding="utf-8")
    demo = folder / "runs" / "demo"
    copy(tiny_experiment, demo)
    os.link(demo / "nature" / "member_002.nc", demo / "nature" / "member_005.nc")  # the demo's test member
    (folder / "my_files").mkdir()
    for month in ("2020-01", "2020-02"):
        _surface_weather(month).to_netcdf(folder / "my_files" / f"{month.replace('-', '_')}.nc")
    _globe().to_netcdf(folder / "global_2020.nc")
    with xr.open_dataset(demo / "forecasts" / "network.nc") as forecast:
        forecast.rename(init_time="time", lead_time="prediction_timedelta").to_netcdf(folder / "other_model.nc")
    _era5(folder)


def _era5(folder: Path) -> None:
    """WeatherBench-2's ERA5 for twelve days, an experiment that has learned from it, and an analysis in GFS's words."""
    file = folder / "era5_64x32.zarr"
    truth = weatherbench_store(str(file), times_from("2017-12-25", 48))
    overrides = [f"{key}={value}" for key, value in SMALLER.items()]
    config = load_config("era5_5p625", [*overrides, f"data.inputs=[{file.name}]"])
    save_config(config, folder / "configs" / "era5_5p625.yaml")
    save_config(config, folder / "runs" / "era5_5p625" / "config.yaml")
    with contextlib.chdir(folder):
        for stage in ("prepare", "train"):
            assert main([stage, "configs/era5_5p625.yaml"]) == 0
    west = truth.isel(time=[-1], longitude=[0]).assign_coords(longitude=[360.0])
    fine = xr.concat([truth.isel(time=[-1]), west], "longitude").interp(
        latitude=np.linspace(90, -90, 73), longitude=np.arange(0, 360, 2.5), kwargs={"fill_value": "extrapolate"}
    )
    short = {
        **{"geopotential": "z", "temperature": "t", "u_component_of_wind": "u", "v_component_of_wind": "v"},
        **{"specific_humidity": "q", "2m_temperature": "t2m", "10m_u_component_of_wind": "u10"},
        **{"10m_v_component_of_wind": "v10", "mean_sea_level_pressure": "prmsl"},
        **{"sea_surface_temperature": "sst", "sea_ice_cover": "siconc"},
    }
    out = fine[list(short)].rename(short | {"level": "isobaricInhPa"}).transpose("time", "isobaricInhPa", ...)
    out = out.transpose(..., "latitude", "longitude").astype(np.float32)
    out["isobaricInhPa"].attrs["units"] = "hPa"
    out.to_netcdf(folder / "gfs_analysis.nc")


def copy(source: Path, target: Path) -> None:
    """Copies a folder; large files are linked, for results are replaced and never changed."""

    def copy_file(old: str, new: str) -> object:
        return os.link(old, new) if Path(old).stat().st_size > _LARGE else shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=copy_file)


def _surface_weather(month: str) -> xr.Dataset:
    """A month of six-hourly weather over Europe as the Climate Data Store writes it: waves that travel eastwards."""
    first = np.datetime64(month)
    times = np.arange(first.astype("datetime64[h]"), (first + 1).astype("datetime64[h]"), 6)
    latitude, longitude = np.arange(60, 44, -1.0), np.arange(0, 20, 1.0)
    t = ((times - np.datetime64("2020-01-01T00")) / np.timedelta64(6, "h"))[:, None, None]
    lat, lon = np.radians(latitude)[:, None], np.radians(longitude)[None, :]
    rng = np.random.default_rng(int(first.astype(int)))
    phases = [np.sin(k * 9 * lon - 0.2 * k * t + 7 * k * lat) for k in (1, 2, 3)]
    noise = rng.standard_normal((3, *phases[0].shape)) * 0.2
    fields = {
        "t2m": (275 + 8 * phases[0] + 3 * np.sin(np.pi * t / 2) + noise[0], "K", "2 metre temperature"),
        "u10": (5 + 4 * phases[1] + noise[1], "m s**-1", "10 metre U wind component"),
        "msl": (101000 + 900 * phases[2] + 50 * noise[2], "Pa", "Mean sea level pressure"),
    }
    dims = ("valid_time", "latitude", "longitude")
    return xr.Dataset(
        {n: (dims, v.astype(np.float32), {"units": u, "long_name": long}) for n, (v, u, long) in fields.items()},
        {
            "valid_time": times.astype("datetime64[ns]"),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
        },
    )


def _globe() -> xr.Dataset:
    """Two fields at 2.5 degrees, poles included."""
    latitude, longitude = np.linspace(90, -90, 73), np.arange(0, 360, 2.5)
    field = 280 - 30 * np.sin(np.radians(latitude))[:, None] ** 2 + 5 * np.sin(np.radians(3 * longitude))[None, :]
    return xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), np.stack([field, field + 1]).astype(np.float32), {"units": "K"})},
        {
            "time": np.array(["2020-01-01T00", "2020-01-01T06"], "datetime64[ns]"),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
        },
    )
