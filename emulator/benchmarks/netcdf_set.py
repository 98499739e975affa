"""A made-up reanalysis in NetCDF, of any size, as the Climate Data Store packs it: what preparation is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from data_prep.config import DataConfig, SplitConfig, VariableConfig
from data_prep.grid import Grid
from data_prep.variables import GRAVITY, SURFACE
from emulator.benchmarks.synthetic import TIMESTEP, smooth_waves
from emulator.progress import track

LEVELS = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 700.0, 850.0, 925.0, 1000.0)
_FILES = 8
_PATTERNS = 24
_WRITE_ROWS = 64

# Mean, spread and unit of each variable; the first ones are on all levels.
_UPPER: Mapping[str, tuple[float, float, str]] = {
    "temperature": (250.0, 12.0, "K"),
    "geopotential": (1e5, 2e3, "m2 s-2"),
    "u_component_of_wind": (5.0, 10.0, "m s-1"),
    "v_component_of_wind": (0.0, 8.0, "m s-1"),
    "specific_humidity": (5e-3, 8e-4, "kg kg-1"),
}
_SINGLE: Mapping[str, tuple[float, float, str]] = {
    "2m_temperature": (285.0, 10.0, "K"),
    "mean_sea_level_pressure": (1.01e5, 900.0, "Pa"),
    "10m_u_component_of_wind": (1.0, 5.0, "m s-1"),
    "10m_v_component_of_wind": (0.0, 5.0, "m s-1"),
}
_GEOPOTENTIAL = GRAVITY * 7400.0 * np.log(1013.0 / np.array(LEVELS))

VARIABLES = {**_UPPER, **_SINGLE}
"""On ``LEVELS``, then the surface fields."""


@dataclass(frozen=True)
class NetcdfSet:
    """Files of consecutive times.

    Attributes:
      paths: The files, in order.
      n_times: Times in all.
      grid: Their grid.
    """

    paths: tuple[Path, ...]
    n_times: int
    grid: Grid

    @property
    def nbytes(self) -> int:
        """Bytes of all values as float32."""
        return self.n_times * row_bytes(self.grid)

    @property
    def config(self) -> DataConfig:
        """Prepares it: the first four fifths for training."""
        ends = [int(share * (self.n_times - 1)) for share in (0.8, 0.9, 1.0)]
        texts = _times(self.n_times).astype("datetime64[s]").astype(str).tolist()
        train, validation, test = (
            [texts[a], texts[b]] for a, b in zip((0, ends[0] + 1, ends[1] + 1), ends, strict=True)
        )
        return DataConfig(
            inputs=[str(path) for path in self.paths],
            vertical="pressure",
            prognostic={name: VariableConfig() for name in VARIABLES},
            static={SURFACE: VariableConfig()},
            split=SplitConfig(train=train, validation=validation, test=test, gap_days=0.0),
        )


def _times(count: int) -> np.ndarray:
    return np.datetime64("2001-01-01", "ns") + np.arange(count) * TIMESTEP


def row_bytes(grid: Grid) -> int:
    """Bytes of one time of all variables as float32."""
    return 4 * (len(LEVELS) * len(_UPPER) + len(_SINGLE)) * grid.shape[0] * grid.shape[1]


def write_netcdf_set(folder: Path, gigabytes: float) -> NetcdfSet:
    """Makes the files: 64 x 32 points, six-hourly, 69 fields a time, 16-bit integers with scale and offset, deflated.

    Args:
      folder: Where.
      gigabytes: Size of all values as float32.
    """
    grid = Grid.gaussian(32)
    n_times = max(40, round(gigabytes * 1e9 / row_bytes(grid)))
    paths = tuple(folder / f"era_{i}.nc" for i in range(_FILES))
    rng = np.random.default_rng(0)
    patterns = smooth_waves(rng, grid, _PATTERNS)
    with track(_FILES, "files made") as progress:
        for path, part in zip(paths, np.array_split(_times(n_times), _FILES), strict=True):
            _write(path, part, grid, patterns, rng)
            progress.advance(1)
    return NetcdfSet(paths, n_times, grid)


def _write(path: Path, times: np.ndarray, grid: Grid, patterns: np.ndarray, rng: np.random.Generator) -> None:
    with netCDF4.Dataset(path, "w") as file:
        coordinates = {
            "time": (times.astype("datetime64[h]").astype(np.int64), "hours since 1970-01-01"),
            "level": (np.array(LEVELS), "hPa"),
            "latitude": (np.asarray(grid.latitude), "degrees_north"),
            "longitude": (np.asarray(grid.longitude), "degrees_east"),
        }
        for name, (values, units) in coordinates.items():
            file.createDimension(name, values.size)
            variable = file.createVariable(name, values.dtype, (name,))
            variable.units = units
            variable[:] = values
        orography = file.createVariable(SURFACE, "f4", ("latitude", "longitude"))
        orography.units = "m2 s-2"
        orography[:] = 5e3 * (1 + patterns[0] / np.abs(patterns[0]).max())
        for name, (mean, spread, units) in VARIABLES.items():
            levels = (len(LEVELS),) if name in _UPPER else ()
            dims = ("time", *("level",) * len(levels), "latitude", "longitude")
            variable = file.createVariable(
                name, "i2", dims, zlib=True, complevel=1, shuffle=True, chunksizes=(1, *levels, *grid.shape)
            )
            variable.units = units
            heights = _GEOPOTENTIAL - mean if name == "geopotential" else np.zeros(1)
            largest = 8 * spread + np.abs(heights).max()
            variable.scale_factor, variable.add_offset = largest / 32000, mean
            variable.set_auto_maskandscale(False)
            for start in range(0, times.size, _WRITE_ROWS):
                rows = min(_WRITE_ROWS, times.size - start)
                amounts = rng.normal(size=(rows, *levels, _PATTERNS)).astype(np.float32)
                waves = np.asarray(np.tensordot(amounts, patterns, axes=1))
                noise = rng.normal(scale=0.01, size=waves.shape).astype(np.float32)
                field = spread * (waves + noise) + heights.reshape(-1, 1, 1).astype(np.float32)
                packed = np.round(field * (32000 / largest)).clip(-32000, 32000)
                variable[start : start + rows] = packed.astype(np.int16)
