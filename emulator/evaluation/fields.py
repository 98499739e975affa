"""Truth, climatology and forecasts as comparable fields: one function for all of them.

Fields are handed on as planes, ``name@level`` to an array ``(..., latitude, longitude)``. Where the state is
on sigma levels all three go through the same ``derive`` (sigma to pressure, hydrostatic geopotential,
sea-level pressure), so a forecast is never compared with a truth that was made in another way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import level_dim, unstack_channels
from data_prep.store import Store
from data_prep.vertical import derive
from emulator.forecast_io import SURFACE, open_forecasts

Planes = dict[str, np.ndarray]


@dataclass(frozen=True)
class ForecastFile:
    """A forecast file whose grid and levels are those of the truth.

    It is opened for each read: an open NetCDF file keeps what it has decompressed, tens of megabytes a variable.

    Attributes:
      path: Where it lies.
      init_times: ``datetime64[ns] (init_time,)``.
      lead_times: ``timedelta64[ns] (lead_time,)``.
      variables: What it holds.
      is_ensemble: Whether it has members.
      attributes: Its global attributes.
    """

    path: Path
    init_times: np.ndarray
    lead_times: np.ndarray
    variables: tuple[str, ...]
    is_ensemble: bool
    attributes: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, store: Store) -> ForecastFile:
        """Reads what describes the file.

        Raises:
          DataError: it is no forecast file, or is on another grid or other levels than the truth.
        """
        with open_forecasts(path) as dataset:
            _check_grid(path, dataset, store)
            return cls(
                path,
                dataset["init_time"].values.astype("datetime64[ns]"),
                dataset["lead_time"].values.astype("timedelta64[ns]"),
                tuple(map(str, dataset.data_vars)),
                "realization" in dataset.dims,
                dataset.attrs,
            )

    def read(self, names: Sequence[str], inits: slice) -> xr.Dataset:
        """These variables from these initial times, loaded."""
        with open_forecasts(self.path) as dataset:
            return dataset[list(names)].isel(init_time=inits).load()


def open_all(paths: Mapping[str, Path], store: Store) -> dict[str, ForecastFile]:
    """Opens forecast files that are to be compared.

    Raises:
      DataError: a file does not fit the truth (see ``ForecastFile.open``), or has other initial times or leads than the
        first one: never an intersection.
    """
    files = {name: ForecastFile.open(path, store) for name, path in paths.items()}
    first = next(iter(files.values()))
    for file in files.values():
        for axis in ("init_times", "lead_times"):
            ours, theirs = getattr(file, axis), getattr(first, axis)
            if not np.array_equal(ours, theirs):
                raise DataError(
                    f"{file.path}: its {axis.replace('_', ' ')} ({_span(ours)}) differ from those of {first.path.name} "
                    f"({_span(theirs)}); all forecasters must share all of them: make the forecasts again"
                )
    return files


@dataclass(frozen=True)
class Verification:
    """Fields at valid time for a set of initial times and leads.

    Attributes:
      store: The truth.
      init_times: ``datetime64[ns] (init_time,)``.
      lead_times: ``timedelta64[ns] (lead_time,)``.
      pressure_levels: hPa, to which fields on sigma levels are brought.
    """

    store: Store
    init_times: np.ndarray
    lead_times: np.ndarray
    pressure_levels: Sequence[float]

    @cached_property
    def rows(self) -> np.ndarray:
        """Row of the store at each valid time, int64 ``(init_time, lead_time)``.

        Raises:
          DataError: there is no truth at a valid time, or it lies in another segment than the initial time.
        """
        steps = self.lead_times // self.store.timestep
        if (self.lead_times % self.store.timestep != np.timedelta64(0, "ns")).any():
            raise DataError(f"evaluate: leads {_span(self.lead_times)} are no multiples of the store's time step")
        order = np.argsort(self.store.times)
        at = np.searchsorted(self.store.times, self.init_times, sorter=order).clip(max=order.size - 1)
        initial = order[at]
        absent = self.store.times[initial] != self.init_times
        if absent.any():
            raise DataError(f"evaluate: the store holds no truth at the initial time {self.init_times[absent][0]}")
        for i, row in enumerate(initial.tolist()):
            self.store.segment_of(row, row + int(steps[-1]) + 1)
            if self.store.times[row + int(steps[-1])] != self.init_times[i] + self.lead_times[-1]:
                raise DataError(f"evaluate: the store's times are uneven after {self.init_times[i]}")
        return initial[:, None] + steps.astype(np.int64)[None, :]

    @cached_property
    def trajectories(self) -> list[str]:
        """Name of the truth's segment of each initial time."""
        return [self.store.segment_of(int(row), int(row) + 1).name for row in self.rows[:, 0]]

    @cached_property
    def splits(self) -> list[str]:
        """Split of each initial time."""
        return [self.store.segment_of(int(row), int(row) + 1).split for row in self.rows[:, 0]]

    def truth_and_climatology(self, inits: slice) -> tuple[Planes, Planes, np.ndarray]:
        """What some initial times are verified against; a valid time that several share is read once.

        Returns:
          Truth and climatology, planes ``(valid, latitude, longitude)``, and the index ``(init, lead)`` into
          ``valid``.
        """
        rows, index = np.unique(self.rows[inits], return_inverse=True)
        store = self.store
        names = [v.name for v in store.spec.with_role("prognostic", "diagnostic")]
        times = store.times[rows]
        expected = unstack_channels(
            store.climatology.at(times), store.spec, store.spec.state_channels, store.grid, {"time": times}
        )
        truth = self._planes(store.dataset(rows)[names], "truth")
        return truth, self._planes(expected, "climatology"), index.reshape(self.rows[inits].shape)

    def forecast(self, file: ForecastFile, inits: slice) -> Planes:
        """A forecast's planes ``([realization,] init_time, lead_time, latitude, longitude)``."""
        wanted = [*(v.name for v in self.store.spec.with_role("prognostic", "diagnostic")), SURFACE]
        return self._planes(file.read([n for n in wanted if n in file.variables], inits), str(file.path))

    def _planes(self, dataset: xr.Dataset, source: str) -> Planes:
        spec, surface = self.store.spec, self.store.surface_geopotential
        if spec.vertical == "sigma":
            if SURFACE not in dataset:  # a file without one stands on the truth's surface
                if surface is None:
                    raise DataError(f"{source}: on sigma levels without {SURFACE}; name it under data.static")
                dataset = dataset.assign({SURFACE: (("latitude", "longitude"), surface)})
            dataset = derive(dataset, tuple(self.pressure_levels))
        planes: Planes = {}
        for name, field in dataset.data_vars.items():
            if name == SURFACE:
                continue
            dim = level_dim(field)
            slices = [(str(name), field)] if dim is None else []
            slices += [] if dim is None else [(f"{name}@{float(v):g}", field.sel({dim: v})) for v in field[dim].values]
            for key, part in slices:
                lead = [d for d in ("realization", "init_time", "lead_time", "time") if d in part.dims]
                values = part.transpose(*lead, "latitude", "longitude").values
                if not np.isfinite(values).all():
                    raise DataError(f"{source}: {key} holds NaN or infinity; scores would be meaningless")
                planes[key] = values
        return planes


def units_of(name: str, store: Store) -> str:
    """SI unit of a verified variable, by the name of its plane."""
    derived = {"geopotential": "m2 s-2", "mean_sea_level_pressure": "Pa"}
    variable = name.partition("@")[0]
    held = {v.name: v.units for v in store.spec.variables}
    return held.get(variable) or derived.get(variable, "1")


def _check_grid(path: Path, dataset: xr.Dataset, store: Store) -> None:
    grid = Grid.from_arrays(dataset["latitude"], dataset["longitude"])
    if not grid.matches(store.grid):
        raise DataError(f"{path}: its grid ({grid.describe()}) is not the truth's ({store.grid.describe()})")
    for variable in store.spec.with_role("prognostic", "diagnostic"):
        if variable.name not in dataset or not variable.levels:
            continue
        dim = level_dim(dataset[variable.name])
        levels = np.asarray(dataset[dim].values if dim else [], np.float64)
        if levels.shape != (len(variable.levels),) or not np.allclose(levels, variable.levels, rtol=1e-4, atol=0):
            raise DataError(
                f"{path}: {variable.name} is on levels {levels.tolist()}, the truth on {list(variable.levels)}"
            )


def _span(values: np.ndarray) -> str:
    if values.size == 0:
        return "none"
    if values.dtype.kind == "m":
        hours = values / np.timedelta64(1, "h")
        return f"{values.size} from {hours[0]:g} to {hours[-1]:g} h"
    return f"{values.size} from {np.datetime_as_string(values[0], 'h')} to {np.datetime_as_string(values[-1], 'h')}"
