"""An ensemble of any forecaster: the same model from perturbed initial states, its runs batched as ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from data_prep.grid import Grid
from data_prep.spec import StateSpec, stack_channels, unstack_channels
from emulator.forecasters.base import Forecaster, attributes_of, realizations
from emulator.forecasters.perturbations import RandomFields


@dataclass(frozen=True, eq=False)
class EnsembleForecaster:
    """Members that differ by independent perturbations, so that any two of them are as unlike as any other two.

    Attributes:
      single: Who forecasts each member.
      members: How many, two at least.
      perturbations: Where perturbations come from.
      runs_at_once: At most so many forecasts go into one call of ``single``; a call takes whole forecasts, so where
        ``members`` exceed this, several calls run side by side, lead by lead.
    """

    single: Forecaster
    members: int
    perturbations: RandomFields
    runs_at_once: int

    @property
    def name(self) -> str:
        """The single forecaster's, with ``_ensemble`` behind it."""
        return f"{self.single.name}_ensemble"

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
        """See ``Forecaster.forecast``; blocks have the dimension ``realization``.

        Raises:
          DataError: an initial time finds no training states to perturb it with, or the single forecaster refuses.
          ForecastStoppedError: a member's forecast was stopped; the leads that all members reached have been yielded.
        """
        runs = self.initial_states(initial)
        n = runs.sizes["time"]
        calls = -(-n // self.runs_at_once)
        width = -(-n // calls)  # of equal width, so that a compiled forecaster compiles once; the last is filled up
        groups = [np.minimum(np.arange(i * width, (i + 1) * width), n - 1) for i in range(calls)]
        streams = [self.single.forecast(runs.isel(time=rows), lead_times) for rows in groups]
        for blocks in zip(*streams, strict=True):
            # who stopped has fewer leads, and tells why when asked again
            reached = min(block.sizes["lead_time"] for block in blocks)
            together = [block.isel(lead_time=slice(reached)) for block in blocks]
            yield self._joined(together, initial["time"].values)

    def attributes(self, initial: xr.Dataset) -> dict[str, Any]:
        """See ``Telling``; what the single forecaster says."""
        return attributes_of(self.single, initial)

    def initial_states(self, initial: xr.Dataset) -> xr.Dataset:
        """The members' initial states, along ``time``: all members of the first initial time, then of the next."""
        channels, spec = self.perturbations.channels, self.perturbations.store.spec
        minimum = spec.state_minimum[: len(channels)]
        states = []
        for time, state in zip(
            initial["time"].values, stack_channels(initial, channels, source=self.name), strict=True
        ):
            # What has a lower bound is perturbed no further than down to it, up as well as down: dry air stays as dry.
            room = np.maximum(state - minimum, 0.0)
            states.append(state + np.clip(self.perturbations.draw(time, self.members), -room, room))
        runs = initial.isel(time=np.repeat(np.arange(initial.sizes["time"]), self.members))
        coords = {"time": runs["time"].values}
        return runs.assign(unstack_channels(np.concatenate(states), spec, channels, self.grid, coords).data_vars)

    def _joined(self, blocks: list[xr.Dataset], times: np.ndarray) -> xr.Dataset:
        """Runs of all calls as ``(init_time, realization, ...)``."""
        shape, first = (times.size, self.members), blocks[0]
        data = {}
        for name, field in first.data_vars.items():
            values = np.concatenate([b[name].values for b in blocks])[: times.size * self.members]
            dims = ("init_time", "realization", *field.dims[1:])
            data[name] = (dims, values.reshape(*shape, *values.shape[1:]), field.attrs)
        coords = {str(name): c for name, c in first.coords.items() if "init_time" not in c.dims}
        return xr.Dataset(data, coords | {"init_time": times, "realization": realizations(self.members)})
