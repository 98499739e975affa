"""What a forecaster is, and how one is run over many initial times.

A forecaster turns initial fields into a stream of forecast blocks. It knows nothing of files, truth or
scores, so a network, a physics model and persistence are interchangeable everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec

if TYPE_CHECKING:
    import xarray as xr


class Forecaster(Protocol):
    """Makes forecasts of one state on one grid.

    Attributes:
      name: Short name, as in file names and legends (``network``, ``physics_t21``, ``persistence``).
      spec: The variables it forecasts: the prognostic and diagnostic ones.
      grid: The grid of its initial fields and of its forecasts.
      timestep: Its leads are multiples of this.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class
    @property
    def spec(self) -> StateSpec: ...  # noqa: D102
    @property
    def grid(self) -> Grid: ...  # noqa: D102
    @property
    def timestep(self) -> np.timedelta64: ...  # noqa: D102

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """Forecasts from every initial time at once.

        Args:
          initial: Canonical fields, dims ``(time, [level,] latitude, longitude)``.
          lead_times: ``timedelta64``, positive multiples of ``timestep``, ascending.

        Yields:
          Blocks with dims ``(init_time, lead_time[, realization][, level], latitude, longitude)``: all
          initial times, consecutive ascending leads; together they hold every lead once.
        """
        ...


@runtime_checkable
class Telling(Protocol):
    """A forecaster that has something to say of its forecasts, beside who made them and at what cost."""

    def attributes(self, initial: xr.Dataset) -> dict[str, Any]:
        """Global attributes of forecasts from these initial fields, which may be lazy."""
        ...


def attributes_of(forecaster: Forecaster, initial: xr.Dataset) -> dict[str, Any]:
    """What a forecaster has to say of forecasts from these fields; most have nothing."""
    return forecaster.attributes(initial) if isinstance(forecaster, Telling) else {}


@dataclass
class Cost:
    """How long forecasts took, without compilation where that can be told apart.

    Attributes:
      seconds: Wall time spent inside the forecaster.
      days: Simulated days of all forecasts together that this time bought.
      warm: Whether the time of the first call, which compiles, is left out.
    """

    seconds: float = 0.0
    days: float = 0.0
    warm: bool = False

    @property
    def seconds_per_simulated_day(self) -> float:
        """Wall seconds for one day of one forecast, when run in batches as it was."""
        return self.seconds / self.days if self.days else float("nan")

    @property
    def simulated_days_per_second(self) -> float:
        """The inverse of ``seconds_per_simulated_day``."""
        return self.days / self.seconds if self.seconds else float("nan")


def check_lead_times(lead_times: np.ndarray, timestep: np.timedelta64) -> np.ndarray:
    """Lead times as ``timedelta64[ns]``, refused unless they are positive, ascending multiples of the time step.

    Raises:
      DataError: they are not.
    """
    leads = np.asarray(lead_times).astype("timedelta64[ns]")
    step = np.timedelta64(timestep, "ns")
    zero = np.timedelta64(0, "ns")
    good = leads.ndim == 1 and leads.size > 0 and leads[0] > zero and (np.diff(leads) > zero).all()
    if not good or (leads % step != zero).any():
        raise DataError(
            f"lead times: expected positive, ascending multiples of {clock.hours(step):g} h, "
            f"found {(leads / np.timedelta64(1, 'h')).ravel()[:4].tolist()} ... h"
        )
    return leads


def realizations(count: int) -> tuple[str, np.ndarray, dict[str, str]]:
    """The coordinate that numbers the members of an ensemble from 0."""
    return "realization", np.arange(count), {"standard_name": "realization", "units": "1"}


def forecast_batches(
    forecaster: Forecaster, initial: xr.Dataset, lead_times: np.ndarray, *, batch: int, cost: Cost | None = None
) -> Iterator[xr.Dataset]:
    """Runs a forecaster over many initial times, a few at once, and times it.

    The last batch is filled up with copies of its last initial time, which are dropped again, so that every
    batch has one shape and a compiled forecaster compiles once.

    Args:
      forecaster: Who forecasts.
      initial: All initial fields, dims ``(time, ...)``; may be lazy, a batch is loaded at a time.
      lead_times: As ``Forecaster.forecast`` takes them.
      batch: Initial times at once.
      cost: Filled while the blocks are consumed. The first batch is left out when there are several, else the
        first block when there are several; with a single block everything counts and ``warm`` stays false.

    Yields:
      Blocks ``(init_time, lead_time, ...)``: batch by batch, and within a batch lead by lead.

    Raises:
      DataError: leads are no multiples of the time step, or reach beyond the year 2262.
    """
    leads = check_lead_times(lead_times, forecaster.timestep)
    latest = initial["time"].values.astype("datetime64[ns]").max()
    if latest.astype(np.int64) > np.iinfo(np.int64).max - leads[-1].astype(np.int64):
        raise DataError(f"forecasts from {latest!s:.16} reach beyond the year 2262, the last that times can hold")
    n = initial.sizes["time"]
    width = min(batch, n)
    cost = Cost() if cost is None else cost
    for start in range(0, n, width):
        taken = np.minimum(np.arange(start, start + width), n - 1)
        used = min(width, n - start)
        blocks = forecaster.forecast(initial.isel(time=taken).load(), leads)
        reached = np.timedelta64(0, "ns")
        while True:
            began = time.perf_counter()
            block = next(blocks, None)
            seconds = time.perf_counter() - began
            if block is None:
                break
            last = block["lead_time"].values[-1]
            days = width * float((last - reached) / np.timedelta64(1, "D"))
            reached = last
            _account(cost, seconds, days, first_batch=start == 0, several_batches=n > width)
            yield block.isel(init_time=slice(0, used)) if used < width else block


def _account(cost: Cost, seconds: float, days: float, *, first_batch: bool, several_batches: bool) -> None:
    """Adds one block; once a block is known to be warm, those that may hold compilation are forgotten."""
    warm = not first_batch if several_batches else cost.days > 0
    if warm and not cost.warm:
        cost.seconds, cost.days, cost.warm = 0.0, 0.0, True
    cost.seconds += seconds
    cost.days += days
