"""The climatology at valid time as a forecast: what is known without any initial field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.spec import StateSpec
from emulator.forecasters.lead_blocks import climatology_at_valid_time, lead_blocks


@dataclass(frozen=True)
class ClimatologyForecast:
    """The training climatology at valid time."""

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    climatology: Climatology
    name: str = "climatology"

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; only the times of ``initial`` are used."""
        times = initial["time"].values
        yield from lead_blocks(
            self, initial, lead_times, lambda block: climatology_at_valid_time(self.climatology, times, block)
        )
