"""A forecaster left to itself for months or years: does it stay finite, and does its climate stay the truth's?

Beyond a few weeks no forecast has skill, but a good model still has weather: its global means stay within what the
truth does at that time of the year, its zonal means where the truth has them, its small scales as lively. All of it is
measured block by block as the forecaster goes, so a year of fields is never in memory and nothing is kept on disk.

The truth is known by the calendar: what its segments hold within ``POOL_DAYS`` of a day of the year. Where they hold
nothing on one side of it, nothing is said of that day.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.clock import CALENDAR_DAYS, day_of_year, seconds_of_day
from data_prep.errors import ConfigError, DataError
from data_prep.files.arrays import unbroken_runs
from data_prep.files.disk import replacing
from data_prep.files.netcdf_file import write_netcdf
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.spec import CONVENTIONS
from emulator import __version__
from emulator.bounds import ForecastStoppedError
from emulator.config import EvaluateConfig, LongRunConfig
from emulator.evaluation.encoding import encoding_of
from emulator.evaluation.fields import Planes, Verification, units_of
from emulator.evaluation.spectra import fine_scales, mean_power
from emulator.progress import track

logger = logging.getLogger(__name__)

WINDOW_DAYS = 30
"""Of run time, over which climate and spectra are averaged."""

POOL_DAYS = 15
"""On either side of a day of the year, from which the truth's range there is taken."""

STAY_DAYS = 10.0
"""A global mean has left the truth's range when it stays outside for so long: a day outside is weather."""

_MOST_TRUTH = 4000  # states; more would not sharpen a climate, and reading them would take longer than the run
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Climate:
    """The truth by day of the year, NaN where it is not known.

    Attributes:
      zonal_mean: ``(day, variable, latitude)``.
      mean, lowest, highest: Of global means, ``(day, variable)``.
      fine_power: Zonal power in the upper half of the resolved wavenumbers, ``(day, variable)``; NaN off the globe.
    """

    zonal_mean: np.ndarray
    mean: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    fine_power: np.ndarray

    @classmethod
    def of(cls, verification: Verification, variables: Sequence[str], seconds: np.ndarray) -> Self:
        """Reads the truth of all splits at these seconds of the day, some thousands of states at most."""
        store = verification.store
        rows = np.flatnonzero(np.isin(seconds_of_day(store.times), seconds))
        # Whole days, all hours of each: every fourth of six-hourly states would be of one hour of the day.
        nth_day = np.unique(store.times[rows].astype("datetime64[D]"), return_inverse=True)[1]
        rows = rows[nth_day % max(1, -(-rows.size // _MOST_TRUTH)) == 0]
        parts = []
        with track(rows.size, "states of the truth read for its climate") as progress:
            for start in range(0, rows.size, _ROWS_AT_ONCE):
                some = rows[start : start + _ROWS_AT_ONCE]
                parts.append(_Summary.of(verification.truth(some), variables, store.grid))
                progress.advance(some.size)
        days = day_of_year(store.times[rows])
        zonal, mean, power = (np.concatenate([getattr(p, key) for p in parts]) for key in ("zonal", "mean", "power"))
        by_day = [np.full((CALENDAR_DAYS, *values.shape[1:]), np.nan) for values in (zonal, mean, mean, mean, power)]
        out = cls(*by_day)
        for day in range(1, CALENDAR_DAYS + 1):
            offset = (days - day + CALENDAR_DAYS // 2) % CALENDAR_DAYS - CALENDAR_DAYS // 2
            near = np.abs(offset) <= POOL_DAYS
            if not (near & (offset <= 0)).any() or not (near & (offset >= 0)).any():
                continue
            out.zonal_mean[day - 1] = zonal[near].mean(axis=0)
            out.mean[day - 1] = mean[near].mean(axis=0)
            out.lowest[day - 1], out.highest[day - 1] = mean[near].min(axis=0), mean[near].max(axis=0)
            out.fine_power[day - 1] = power[near].mean(axis=0)
        return out


@dataclass(frozen=True)
class _Summary:
    """What is kept of some states.

    Attributes:
      zonal: Zonal means, ``(state, variable, latitude)``.
      mean: Area means, ``(state, variable)``.
      power: Fine-scale power, ``(state, variable)``; NaN off the globe.
      finite: Whether the whole state is, ``(state,)``.
    """

    zonal: np.ndarray
    mean: np.ndarray
    power: np.ndarray
    finite: np.ndarray

    @classmethod
    def of(cls, planes: Planes, variables: Sequence[str], grid: Grid) -> Self:
        """Of planes ``(state, latitude, longitude)``."""
        missing = [v for v in variables if v not in planes]
        if missing:
            raise DataError(f"evaluate.headline: a long run lacks {', '.join(missing)}; it holds {', '.join(planes)}")
        fields = np.stack([planes[v] for v in variables], axis=1).astype(np.float64)
        finite = np.asarray(np.isfinite(fields).all(axis=(1, 2, 3)))
        zonal = fields.mean(axis=-1)
        mean = zonal @ (grid.latitude_weights / grid.shape[0])
        power = np.full_like(mean, np.nan)
        if grid.periodic:
            power = mean_power(fields, grid)[..., fine_scales(grid)].sum(axis=-1)
        return cls(zonal, mean, power, finite)


def long_run_rows(store: Store, config: EvaluateConfig, run: LongRunConfig) -> np.ndarray:
    """Rows of the store that a long run starts from, spread evenly over the split; it may run beyond the data's end.

    Runs that are looked at once a day, or less often, all start at one hour, which is that of the truth they are held
    against.
    """
    rows = store.rows_of(config.split)
    if run.every_hours % 24 == 0:
        seconds = seconds_of_day(store.times[rows])
        rows = rows[seconds == seconds[:1]]
    if rows.size < run.initial_times:
        raise DataError(
            f"evaluate.long_run: the {config.split} split holds {rows.size} times, {run.initial_times} are asked for"
        )
    return rows[np.arange(run.initial_times) * rows.size // run.initial_times]


def long_run_leads(store: Store, run: LongRunConfig) -> np.ndarray:
    """Leads at which a long run is looked at, ``timedelta64[ns]``."""
    every = np.timedelta64(run.every_hours, "h").astype("timedelta64[ns]")
    if every % store.timestep != np.timedelta64(0, "ns"):
        raise ConfigError(
            f"evaluate.long_run.every_hours: {run.every_hours} h is no multiple of the store's "
            f"{clock.hours(store.timestep):g} h"
        )
    return every * np.arange(1, int(24 * run.days // run.every_hours) + 1)


def measure_long_run(
    runs: Iterable[Iterator[xr.Dataset]],
    store: Store,
    config: EvaluateConfig,
    init_times: np.ndarray,
    lead_times: np.ndarray,
    out: Path,
    *,
    forecaster: str,
    attributes: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Measures a long run while it goes, one initial time after the other, and writes ``long_run.nc``.

    A run that is not finite any more is a result, not an error, whether its blocks say so or the forecaster gives up;
    the others go on.

    Args:
      runs: For each initial time what ``Forecaster.forecast`` yields from it alone, over these leads.
      store: The truth.
      config: Which variables (``headline``, all when empty) on which pressure levels.
      init_times: ``datetime64[ns] (init_time,)``.
      lead_times: ``timedelta64[ns] (lead_time,)``, evenly spaced.
      out: The file; it appears only when it is complete.
      forecaster: Who runs, by name.
      attributes: What else is to be known of the runs; ``sponge``, where the topmost levels were held.

    Returns:
      As written: ``global_mean`` and the truth's ``truth_mean``, ``truth_lowest``, ``truth_highest`` by ``(init_time,
      lead_time, variable)``; ``zonal_bias`` by ``(window, variable, latitude)`` and ``fine_scale_ratio`` by ``(window,
      variable)``, means over initial times, the ratio NaN where the truth has no fine scales; ``days_within`` by
      ``(init_time, variable)``: until when a global mean is in the truth's range, infinite where it is not seen to
      leave it; ``days_finite`` by ``init_time``: when the run ended, infinite where it did not.

    Raises:
      DataError: the blocks lack a variable.
      DiskError: the file cannot be written.
    """
    levels, derived = tuple(config.pressure_levels), tuple(config.derived)
    verification = Verification(store, init_times, lead_times, levels, derived, with_holes=True)
    variables = list(config.headline) or list(verification.truth(np.arange(1)))
    run = _Accumulated.empty(verification, variables)
    ended: list[str] = []
    with track(run.valid.size, f"{forecaster} left to itself") as progress:
        for i, blocks in enumerate(runs):
            try:
                for block in blocks:
                    progress.advance(block.sizes["lead_time"])
                    if not run.add(i, block):
                        break
            except ForecastStoppedError as error:  # the forecaster itself stops where it leaves what is possible
                logger.warning("long run: %s", error)
                ended.append(str(error))
    measured = run.finish()
    measured.attrs |= {
        "Conventions": CONVENTIONS,
        "title": f"{forecaster} left to itself",
        "forecaster": forecaster,
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} measured",
        "emulator_version": __version__,
        "data_hash": store.data_hash,
        "window_days": WINDOW_DAYS,
        "pool_days": POOL_DAYS,
        "stay_days": STAY_DAYS,
        **(attributes or {}),
    } | ({"ended": "; ".join(ended)} if ended else {})
    measured = measured.assign_coords(units=("variable", [units_of(v, store) for v in variables]))
    with replacing(out) as temporary:
        write_netcdf(measured, temporary, encoding=encoding_of(measured))
    return measured


@dataclass(frozen=True)
class _Accumulated:
    """What has been measured so far; arrays are filled in place.

    Attributes:
      verification: Of which initial times and leads, and how fields become planes.
      variables: Names of planes.
      valid: Times, ``(init_time, lead_time)``.
      climate: The truth, by calendar.
      mean: Global means, NaN where there is none (yet), ``(init_time, lead_time, variable)``.
      bias: Sums of zonal means less the truth's, ``(window, variable, latitude)``.
      power, truth_power: Sums of fine-scale power, ``(window, variable)``.
      count: How many states these sums are of, ``(window,)``.
    """

    verification: Verification
    variables: Sequence[str]
    valid: np.ndarray
    climate: Climate
    mean: np.ndarray
    bias: np.ndarray
    power: np.ndarray
    truth_power: np.ndarray
    count: np.ndarray

    @classmethod
    def empty(cls, verification: Verification, variables: Sequence[str]) -> Self:
        valid = verification.init_times[:, None] + verification.lead_times
        climate = Climate.of(verification, variables, np.unique(seconds_of_day(valid.ravel())))
        windows = int(_window(_days(verification.lead_times)).max()) + 1
        n = len(variables)
        return cls(
            verification,
            variables,
            valid,
            climate,
            np.full((*valid.shape, n), np.nan),
            np.zeros((windows, n, verification.store.grid.shape[0])),
            np.zeros((windows, n)),
            np.zeros((windows, n)),
            np.zeros(windows, np.int64),
        )

    def add(self, i: int, block: xr.Dataset) -> bool:
        """Adds a block ``(1, lead_time, ...)`` of initial time ``i``. Returns whether all of it is finite."""
        verification = self.verification
        for lead in range(block.sizes["lead_time"]):
            one = block.isel(lead_time=lead).rename(init_time="time")
            at = int(np.flatnonzero(verification.lead_times == block["lead_time"].values[lead])[0])
            with np.errstate(all="ignore"):  # what is not finite any more is counted, not complained about
                planes = verification.planes(one, "long run", verification.derived)
                found = _Summary.of(planes, self.variables, verification.store.grid)
            if not found.finite[0]:
                return False
            self.mean[i, at] = found.mean[0]
            window = int(_window(_days(verification.lead_times[at])))
            day = int(day_of_year(self.valid[i, at : at + 1])[0]) - 1
            if np.isfinite(self.climate.mean[day]).all():
                self.bias[window] += found.zonal[0] - self.climate.zonal_mean[day]
                self.power[window] += found.power[0]
                self.truth_power[window] += self.climate.fine_power[day]
                self.count[window] += 1
        return True

    def finish(self) -> xr.Dataset:
        """Means and when the truth's range was left."""
        day = day_of_year(self.valid.ravel()).reshape(self.valid.shape) - 1
        truth = {key: getattr(self.climate, key)[day] for key in ("mean", "lowest", "highest")}
        lead_times = self.verification.lead_times
        days = _days(lead_times)
        there = np.isfinite(self.mean).all(axis=2)
        finite = np.where(there.all(axis=1), np.inf, [days[row].max(initial=0.0) for row in there])
        outside = (self.mean < truth["lowest"]) | (self.mean > truth["highest"])
        within = np.array([[_days_within(days, column) for column in run.T] for run in outside])
        with np.errstate(invalid="ignore", divide="ignore"):
            bias = self.bias / self.count[:, None, None]
            ratio = np.sqrt(np.where(self.truth_power > 0, self.power / self.truth_power, np.nan))
        by_time, by_window = ("init_time", "lead_time", "variable"), ("window", "variable")
        span = f"over {WINDOW_DAYS} days and all initial times"
        return xr.Dataset(
            {
                "global_mean": (by_time, self.mean, {"long_name": "area mean"}),
                **{
                    f"truth_{key}": (by_time, values, {"long_name": f"{key} area mean of the truth at that day"})
                    for key, values in truth.items()
                },
                "zonal_bias": (
                    (*by_window, "latitude"),
                    bias,
                    {"long_name": f"zonal mean less the truth's at the same days of the year, mean {span}"},
                ),
                "fine_scale_ratio": (
                    by_window,
                    ratio,
                    {"long_name": f"fine-scale amplitude over the truth's at the same days of the year, {span}"},
                ),
                "days_within": (
                    ("init_time", "variable"),
                    within,
                    {"long_name": f"day from which the area mean is outside the truth's range for {STAY_DAYS:g} days"},
                ),
                "days_finite": (("init_time",), finite, {"long_name": "last day on which all fields were finite"}),
            },
            coords={
                "init_time": ("init_time", self.verification.init_times),
                "lead_time": ("lead_time", lead_times, {"standard_name": "forecast_period"}),
                "variable": list(self.variables),
                "window": ("window", WINDOW_DAYS * np.arange(self.count.size), {"long_name": "first day, exclusive"}),
                "latitude": ("latitude", np.asarray(self.verification.store.grid.latitude), {"units": "degrees_north"}),
            },
        )


def _days_within(days: np.ndarray, outside: np.ndarray) -> float:
    """The day before the first ``STAY_DAYS`` outside without a break; infinite where there are none."""
    step = days[0]
    for run in unbroken_runs(np.flatnonzero(outside)):
        if days[run[-1]] - days[run[0]] + step >= STAY_DAYS:
            return float(days[run[0]] - step)
    return float("inf")


def _days(lead_times: np.ndarray) -> np.ndarray:
    return lead_times / np.timedelta64(1, "D")


def _window(days: np.ndarray) -> np.ndarray:
    """Which window a day of the run belongs to; day 30 ends the first."""
    return np.ceil(np.asarray(days) / WINDOW_DAYS - 1e-9).astype(np.int64) - 1
