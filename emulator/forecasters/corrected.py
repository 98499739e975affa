"""Corrected forecasts: the files of a model, with what its training forecasts taught taken off. No second run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_prep.arrays import rows_at
from data_prep.climatology import Climatology
from data_prep.disk import reading
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec, stack_channels
from emulator.forecast_io import open_forecasts
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.correction import Correction
from emulator.forecasters.lead_blocks import climatology_at_valid_time, lead_blocks

_COST = (
    "seconds_per_simulated_day",
    "simulated_days_per_second",
    "cost_excludes_compilation",
    "forecasts_at_once",
    "hardware",
)


@dataclass(frozen=True, eq=False)
class CorrectedForecaster:
    """A model's written forecasts, debiased, or debiased and damped.

    Attributes:
      name, spec, grid, timestep: See ``Forecaster``.
      climatology: What is damped towards.
      raw: File of the model's forecasts as they are.
      correction: What its training forecasts taught.
      damped: Whether the anomaly is damped too.
    """

    name: str
    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    climatology: Climatology
    raw: Path
    correction: Correction
    damped: bool

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; only the times of ``initial`` are used.

        Raises:
          DataError: the file of raw forecasts lacks an initial time or a lead.
        """
        times = initial["time"].values.astype("datetime64[ns]")
        leads = check_lead_times(lead_times, self.timestep)
        starts, repeats = np.unique(times, return_inverse=True)
        with reading(self.raw), open_forecasts(self.raw) as file:
            rows = _rows(self.raw, file["init_time"].values.astype("datetime64[ns]"), starts, "initial time")
            columns = _rows(self.raw, file["lead_time"].values.astype("timedelta64[ns]"), leads, "lead")

            def fields(block: np.ndarray) -> np.ndarray:
                part = file.isel(init_time=rows, lead_time=columns[np.isin(leads, block)])
                states = stack_channels(part, self.spec.state_channels, source=str(self.raw))[repeats]
                at = self.correction.rows(block)
                states -= self.correction.mean_error[at]
                if not self.damped:
                    return states
                climate = climatology_at_valid_time(self.climatology, times, block)
                return climate + self.correction.damping[at][:, None, None, :] * (states - climate)

            yield from lead_blocks(fields, times, leads, self.spec, self.grid)

    def attributes(self) -> dict[str, object]:
        """Attributes of a file of these forecasts: the raw model's cost, and what was done to it."""
        with reading(self.raw), open_forecasts(self.raw) as file:
            cost = {key: file.attrs[key] for key in _COST if key in file.attrs}
        done = "mean error removed" + (", anomaly damped towards climatology" if self.damped else "")
        return cost | {
            "correction": f"{done}; fitted to {self.correction.forecasts} training forecasts",
            "corrected_from": self.raw.name,
        }


def _rows(path: Path, have: np.ndarray, wanted: np.ndarray, what: str) -> np.ndarray:
    rows, missing = rows_at(have, wanted)
    if missing.size:
        raise DataError(f"{path}: lacks the {what} {missing[0]}; make the forecasts again")
    return rows
