"""A model that is started again from its own forecast, seen on the grid of the data, as a network is at every step.

What the grid does not hold is lost each time. Of the truth's own model this shows how far steps of that length lead by
themselves: its equations are perfect, and what its forecast lacks beside one that runs through is the state in between.
A network is not bound by it, for it may learn to answer with what is likely where the model answers with one of many
possible states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.forecasters.base import Forecaster, check_lead_times


@dataclass(frozen=True, eq=False)
class RestartedForecaster:
    """Forecasts of another forecaster, cut into pieces.

    Attributes:
      name: See ``Forecaster``.
      single: Who forecasts each piece.
      every: Length of a piece, a multiple of its ``timestep``.
    """

    name: str
    single: Forecaster
    every: np.timedelta64

    @property
    def spec(self) -> StateSpec:
        """See ``Forecaster``."""
        return self.single.spec

    @property
    def grid(self) -> Grid:
        """See ``Forecaster``."""
        return self.single.grid

    @property
    def timestep(self) -> np.timedelta64:
        """See ``Forecaster``."""
        return self.single.timestep

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``.

        Raises:
          DataError: the other refuses.
          ForecastStoppedError: it stops.
        """
        leads = check_lead_times(lead_times, self.timestep)
        times = initial["time"].values.astype("datetime64[ns]")
        every = self.every.astype("timedelta64[ns]")
        for begin in np.arange(0 * every, leads[-1], every):
            wanted = leads[(leads > begin) & (leads <= begin + every)] - begin
            for block in self.single.forecast(initial, np.union1d(wanted, every)):
                kept = block.isel(lead_time=np.isin(block["lead_time"].values, wanted))
                if kept.sizes["lead_time"]:
                    yield kept.assign_coords(init_time=times, lead_time=kept["lead_time"].values + begin)
            reached = block.isel(lead_time=-1, drop=True).rename(init_time="time")
            initial = reached.assign_coords(time=times + begin + every)
