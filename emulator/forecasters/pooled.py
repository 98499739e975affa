"""Several forecasters' written forecasts as one: an ensemble, or its mean, in which errors that differ cancel in part.

As the means of several models in seasonal forecasting (Hagedorn et al. 2005, doi:10.1111/j.1600-0870.2005.00103.x),
with equal weights: there is nothing to be fitted. A mean is smoother than its members, and part of what it gains is
that: look at its activity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.lead_blocks import lead_blocks
from emulator.forecasters.written import WrittenForecasts
from emulator.learned_from import of_several


@dataclass(frozen=True, eq=False)
class PooledForecaster:
    """What lies in several files.

    Attributes:
      name, grid, timestep: See ``Forecaster``.
      members: Whose; two at least, of one spec.
      as_ensemble: Keep the forecast of each, along ``realization``, in place of their mean.
    """

    name: str
    grid: Grid
    timestep: np.timedelta64
    members: tuple[WrittenForecasts, ...]
    as_ensemble: bool = False

    @property
    def spec(self) -> StateSpec:
        """See ``Forecaster``."""
        return self.members[0].spec

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; only the times of ``initial`` are used.

        Raises:
          DataError: one of the files lacks an initial time or a lead.
        """
        times = initial["time"].values.astype("datetime64[ns]")
        leads = check_lead_times(lead_times, self.timestep)
        with ExitStack() as files:
            readers = [files.enter_context(member.reader(times, leads)) for member in self.members]

            def ensemble(block: np.ndarray) -> np.ndarray:
                return np.stack([states(block) for states in readers], axis=2)

            def mean(block: np.ndarray) -> np.ndarray:
                total = readers[0](block)
                for states in readers[1:]:
                    total += states(block)
                return total / np.float32(len(readers))

            if self.as_ensemble:
                yield from lead_blocks(self, initial, leads, ensemble, len(readers))
            else:
                yield from lead_blocks(self, initial, leads, mean)

    def attributes(self, initial: xr.Dataset) -> dict[str, object]:
        """See ``Telling``, of any initial fields: whose they are, what they cost together and learned from."""
        costs = [member.cost() for member in self.members]
        seconds = [float(str(cost["seconds_per_simulated_day"])) for cost in costs]
        learned = of_several(member.learned() for member in self.members)
        return (
            costs[0]
            | learned
            | {
                "seconds_per_simulated_day": sum(seconds),
                "simulated_days_per_second": 1.0 / sum(seconds),
                "ensemble_of" if self.as_ensemble else "mean_of": ", ".join(
                    member.path.stem for member in self.members
                ),
            }
        )
