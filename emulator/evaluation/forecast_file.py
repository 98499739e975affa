"""Forecast files as the verification reads them: checked against the truth's grid and against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import level_dim
from data_prep.store import Store
from emulator.forecast_io import open_forecasts


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
                    f"{file.path}: its {axis.replace('_', ' ')} ({describe_times(ours)}) differ from those of "
                    f"{first.path.name} ({describe_times(theirs)}); all forecasters must share all of them: "
                    "make the forecasts again"
                )
    return files


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


def describe_times(values: np.ndarray) -> str:
    """How many times or leads, from when to when, for messages."""
    if values.size == 0:
        return "none"
    if values.dtype.kind == "m":
        hours = values / np.timedelta64(1, "h")
        return f"{values.size} from {hours[0]:g} to {hours[-1]:g} h"
    return f"{values.size} from {np.datetime_as_string(values[0], 'h')} to {np.datetime_as_string(values[-1], 'h')}"
