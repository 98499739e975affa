"""WeatherBench-2's ERA5 at 64 x 32 as its public bucket holds it, for as few times as a test needs.

Zarr 2 with consolidated metadata; dimensions ``(time, level, longitude, latitude)``, latitude from the south, 13 levels
as bare integers, hours since 1959 as integers, names and units as in
``1959-2023_01_10-6h-64x32_equiangular_conservative.zarr``: also many that a config does not ask for.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from data_prep.grid import Grid

LEVELS = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
GRID = Grid.from_arrays(np.arange(32) * 5.625 - 87.1875, np.arange(64) * 5.625)

# name: (mean, spread, units, standard name)
_UPPER = {
    "geopotential": (0.0, 800.0, "m**2 s**-2", "geopotential"),
    "temperature": (250.0, 12.0, "K", "air_temperature"),
    "u_component_of_wind": (5.0, 10.0, "m s**-1", "eastward_wind"),
    "v_component_of_wind": (0.0, 8.0, "m s**-1", "northward_wind"),
    "specific_humidity": (5e-3, 8e-4, "kg kg**-1", "specific_humidity"),
    "vertical_velocity": (0.0, 0.1, "Pa s**-1", "lagrangian_tendency_of_air_pressure"),
    "wind_speed": (12.0, 2.0, None, None),
    "potential_vorticity": (1e-6, 1e-7, None, None),
}
_SURFACE = {
    "2m_temperature": (285.0, 10.0, "K", None),
    "2m_dewpoint_temperature": (280.0, 8.0, "K", None),
    "10m_u_component_of_wind": (1.0, 4.0, "m s**-1", None),
    "10m_v_component_of_wind": (0.0, 4.0, "m s**-1", None),
    "10m_wind_speed": (6.0, 1.0, None, None),
    "mean_sea_level_pressure": (1.01e5, 900.0, "Pa", "air_pressure_at_mean_sea_level"),
    "surface_pressure": (9.7e4, 900.0, "Pa", "surface_air_pressure"),
    "sea_surface_temperature": (290.0, 5.0, "K", None),
    "sea_ice_cover": (0.5, 0.1, "(0 - 1)", "sea_ice_area_fraction"),
    "toa_incident_solar_radiation": (1.2e6, 2e5, "J m**-2", None),
    "toa_incident_solar_radiation_6hr": (7e6, 1e6, "J m**-2", None),
    "total_cloud_cover": (0.5, 0.1, "(0 - 1)", "cloud_area_fraction"),
    "total_column_water_vapour": (20.0, 4.0, "kg m**-2", None),
    "total_precipitation_6hr": (1e-4, 1e-3, "m", None),
    "total_precipitation_24hr": (4e-4, 4e-3, "m", None),
}
_STATIC = {
    "geopotential_at_surface": (4e3, 2e3, "m**2 s**-2"),
    "land_sea_mask": (0.5, 0.2, "(0 - 1)"),
    "lake_cover": (0.2, 0.05, "(0 - 1)"),
    "standard_deviation_of_orography": (100.0, 20.0, "m"),
}


def weatherbench_store(url: str, times: np.ndarray) -> xr.Dataset:
    """Writes the store and returns what it holds."""
    rng = np.random.default_rng(7)
    lat, lon = np.radians(GRID.latitude)[None, :], np.radians(GRID.longitude)[:, None]
    steps = np.arange(times.size)[:, None, None]

    def waves() -> np.ndarray:
        """Two waves that travel, (time, longitude, latitude), within 3, with noise."""
        field = np.zeros((times.size, 64, 32))
        for _ in range(2):
            k, phase, speed = rng.integers(1, 6), rng.uniform(0, 6), rng.uniform(0.1, 0.4)
            field += np.cos(k * lon + phase - speed * steps) * np.cos(lat + phase)
        return field + 0.05 * rng.standard_normal(field.shape)

    data = {}
    heights = 9.80665 * 7400.0 * np.log(1013.0 / np.array(LEVELS))
    for name, (mean, spread, units, standard_name) in _UPPER.items():
        field = np.stack([mean + spread * waves() for _ in LEVELS], axis=1)
        field += heights[:, None, None] if name == "geopotential" else 0.0
        data[name] = (
            ("time", "level", "longitude", "latitude"),
            field.astype(np.float32),
            _attrs(units, standard_name),
        )
    for name, (mean, spread, units, standard_name) in _SURFACE.items():
        field = mean + spread * waves()
        if name.startswith("total_precipitation"):
            field = np.maximum(field, -1e-9)  # as its conservative means have it
        if name.startswith("sea_"):
            field[:, 10:20, 10:20] = np.nan  # land
        data[name] = (("time", "longitude", "latitude"), field.astype(np.float32), _attrs(units, standard_name))
    for name, (mean, spread, units) in _STATIC.items():
        field = (mean + spread * np.clip(waves()[0], -2, 2)).astype(np.float32)
        data[name] = (("longitude", "latitude"), field, _attrs(units, None))
    out = xr.Dataset(
        data,
        {
            "time": times,
            "level": np.array(LEVELS, np.int64),
            "longitude": np.asarray(GRID.longitude),
            "latitude": np.asarray(GRID.latitude),
        },
    )
    encoding = {"time": {"units": "hours since 1959-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}}
    out.to_zarr(url, zarr_format=2, consolidated=True, encoding=encoding)
    return out


def _attrs(units: str | None, standard_name: str | None) -> dict[str, str]:
    return {k: v for k, v in (("units", units), ("standard_name", standard_name)) if v is not None}
