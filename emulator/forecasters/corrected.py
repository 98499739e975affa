"""Corrected forecasts: the file of a model, with what its training forecasts taught taken off. No second run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.spec import StateSpec
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.correction import Correction
from emulator.forecasters.lead_blocks import climatology_at_valid_time, lead_blocks
from emulator.forecasters.written import WrittenForecasts


@dataclass(frozen=True, eq=False)
class CorrectedForecaster:
    """A model's written forecasts, debiased, or debiased and damped.

    Attributes:
      name, grid, timestep: See ``Forecaster``.
      climatology: What is damped towards.
      raw: The model's forecasts as they are.
      correction: What its training forecasts taught.
      damped: Whether the anomaly is damped too.
    """

    name: str
    grid: Grid
    timestep: np.timedelta64
    climatology: Climatology
    raw: WrittenForecasts
    correction: Correction
    damped: bool

    @property
    def spec(self) -> StateSpec:
        """See ``Forecaster``."""
        return self.raw.spec

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; only the times of ``initial`` are used.

        Raises:
          DataError: the file of raw forecasts lacks an initial time or a lead.
        """
        times = initial["time"].values.astype("datetime64[ns]")
        leads = check_lead_times(lead_times, self.timestep)
        with self.raw.reader(times, leads) as raw_states:

            def fields(block: np.ndarray) -> np.ndarray:
                states = raw_states(block)
                at = self.correction.rows(block)
                states -= self.correction.mean_error[at]
                if not self.damped:
                    return states
                climate = climatology_at_valid_time(self.climatology, times, block)
                return climate + self.correction.damping[at][:, None, None, :] * (states - climate)

            yield from lead_blocks(self, initial, leads, fields)

    def attributes(self, initial: xr.Dataset) -> dict[str, object]:
        """See ``Telling``, of any initial fields: the raw model's cost, and what was done to it."""
        done = "mean error removed" + (", anomaly damped towards climatology" if self.damped else "")
        return (
            self.raw.cost()
            | self.raw.learned()
            | {
                "correction": f"{done}; fitted to {self.correction.forecasts} training forecasts",
                "corrected_from": self.raw.path.name,
            }
        )
