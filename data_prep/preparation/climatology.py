"""The training climate at any time of the year: what anomalies are measured from, and the simplest forecast.

Four kinds, by what the training split can carry (``choose_kind``); each names itself in every report:

* ``day_of_year_hour``: from three training years on, a mean for each day of the year and hour of the day, smoothed over
  a 61-day window with triangular weights that wraps around the year; day 366 is day 365's. (WeatherBench-2's triangle
  is a day narrower on either side: it reaches zero at 30 days, this one at 31.)
* ``annual_harmonics``: where the training data cover the calendar without a hole of more than two months, a mean for
  each hour of the day and two harmonics of the year.
* ``annual_cycle``: for a quarter of the year or more, a mean for each hour of the day and one harmonic of the year,
  with which there is less to go astray in a hole.
* ``seasonal_trend``: for less, a mean for each hour of the day and a line over the calendar.

The trend runs over the calendar date, not over the years: the members of a nature run cover one season again and again
under years of their own, and a line through relabelled years would mean nothing. The position is the number of days
from the middle of the training season, unwrapped around it. To extrapolate is to guess. A line through a month or two
of weather says little of the next month, and nor does a harmonic through four: outside the season the estimate stays
as it is at its edge. The harmonic of half a year is followed for 30 days, that of something between for fewer. A date
further outside is an error.

Each kind is a linear model, fitted through its additive normal equations: memory does not grow with the record. Here
is the model; ``climatology_fit`` fits one of any size from a store's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np

from data_prep import clock
from data_prep.clock import CALENDAR_DAYS, day_of_year, seconds_of_day, year_fraction
from data_prep.errors import DataError
from data_prep.files.arrays import ArrayLike

Kind = Literal["day_of_year_hour", "annual_harmonics", "seasonal_trend", "annual_cycle"]  # stores have the number

WINDOW_DAYS = 61
"""Width of the smoothing window of ``day_of_year_hour``: the days that have a weight."""

BEYOND_SEASON_DAYS = 30.0
"""How far outside the training season a climatology may be followed."""

YEAR_DAYS = 365

_THREE_YEARS = 2.95  # three of 360 days, or with some days left out

_CIRCLE_DAYS = 365.25
_HOLE_DAYS = 30  # a longer stretch of the calendar without data is outside the training season
_REACHED_DAYS = 2 * BEYOND_SEASON_DAYS + 2  # a hole that is within reach from both sides, and a step or two
_CYCLE_DAYS = 90.0  # of a season that a cosine follows better than a line
_FOLLOWED_DAYS = (120.0, 180.0)  # of seasons whose cosine is not followed outside of them, and as far as is allowed


@dataclass(frozen=True)
class Season:
    """The part of the calendar that the training data cover, as an arc of the year.

    Positions are shares of the calendar year times 365.25 days, so that they run on smoothly through the end of every
    year, leap or not.

    Attributes:
      middle: Position of the arc's middle in days, in [0, 365.25).
      half_width: Half the length of the arc in days; half a year when it covers the year.
    """

    middle: float
    half_width: float

    @classmethod
    def of(cls, times: np.ndarray) -> Season:
        """The shortest arc that holds all times: what remains of the year beside its longest hole."""
        positions = np.unique(year_fraction(times) * _CIRCLE_DAYS)
        holes = np.diff(positions, append=positions[0] + _CIRCLE_DAYS)
        longest = int(holes.argmax())
        if holes[longest] <= _HOLE_DAYS:
            return cls(_CIRCLE_DAYS / 2, _CIRCLE_DAYS / 2)
        length = _CIRCLE_DAYS - float(holes[longest])
        first = float(positions[(longest + 1) % positions.size])
        return cls((first + length / 2) % _CIRCLE_DAYS, length / 2)

    @property
    def whole_year(self) -> bool:
        """Whether the data cover the year without a long hole."""
        return self.half_width >= _CIRCLE_DAYS / 2

    def position(self, times: np.ndarray) -> np.ndarray:
        """Days from the middle of the season, unwrapped around it: in [-182.625, 182.625)."""
        half_year = _CIRCLE_DAYS / 2
        return (year_fraction(times) * _CIRCLE_DAYS - self.middle + half_year) % _CIRCLE_DAYS - half_year

    def followed(self, times: np.ndarray) -> np.ndarray:
        """``position``, but no further out than the estimate is followed."""
        reach = self.half_width + np.interp(2 * self.half_width, _FOLLOWED_DAYS, (0.0, BEYOND_SEASON_DAYS))
        return np.clip(self.position(times), -reach, reach)


def choose_kind(times: np.ndarray, timestep: np.timedelta64) -> Kind:
    """The kind that these training times can carry; years are counted as data, wherever on the time axis they lie.

    A line cannot follow four months, nor one harmonic the year; two can, also where some weeks of it are missing.
    """
    season = Season.of(times)
    years = times.size * (timestep / np.timedelta64(1, "D")) / YEAR_DAYS
    if season.whole_year and years >= _THREE_YEARS:
        return "day_of_year_hour"
    if 2 * season.half_width >= _CIRCLE_DAYS - _REACHED_DAYS:
        return "annual_harmonics"
    return "annual_cycle" if 2 * season.half_width >= _CYCLE_DAYS else "seasonal_trend"


@dataclass(frozen=True, eq=False)
class Climatology:
    """Expected fields by date and hour.

    Attributes:
      kind: Which model; see the module.
      hours: Hours of the day (UTC) that it knows, ascending, float64 ``(hour,)``.
      season: Training season.
      table: Coefficients, float32. ``day_of_year_hour``: ``(366, hour, latitude, longitude, state)``; the others:
        ``(basis, latitude, longitude, state)``, the hours' means first. Where a table by day is too large for memory
        this is the store's own array, whose rows are read as they are asked for.
    """

    kind: Kind
    hours: np.ndarray
    season: Season
    table: ArrayLike = field(repr=False)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Expected states: float32, shape ``(time, latitude, longitude, state)``.

        Raises:
          DataError: there is no estimate at one of the times (an hour or a season that training data do not cover).
        """
        times = np.asarray(times, "datetime64[ns]")
        hour = self._hour_index(times)
        if self.kind == "day_of_year_hour":
            return self._rows(day_of_year(times) - 1, hour)
        self.check_season(times)
        basis = basis_of(self.kind, self.season, times, hour, self.hours.size)
        return np.tensordot(basis.astype(np.float32), np.asarray(self.table), axes=1)

    def _rows(self, day: np.ndarray, hour: np.ndarray) -> np.ndarray:
        if isinstance(self.table, np.ndarray):
            return self.table[day, hour]
        out = np.empty((day.size, *self.table.shape[2:]), np.float32)
        asked, where = np.unique(np.stack([day, hour]), axis=1, return_inverse=True)
        for i, (d, h) in enumerate(asked.T.tolist()):
            out[where.ravel() == i] = self.table[d, h]
        return out

    def _hour_index(self, times: np.ndarray) -> np.ndarray:
        found = hour_index(times, self.hours)
        unknown = np.abs(seconds_of_day(times) / 3600.0 - self.hours[found]) > 1e-6
        if unknown.any():
            raise DataError(
                f"climatology: no estimate at {clock.text(times[unknown][0])}; "
                f"training data hold the hours {', '.join(f'{h:g}' for h in self.hours)} UTC"
            )
        return found

    def check_season(self, times: np.ndarray) -> None:
        """Refuses times of a season that the training data did not cover.

        Raises:
          DataError: there is one.
        """
        if self.kind in ("day_of_year_hour", "annual_harmonics"):
            return
        beyond = np.abs(self.season.position(times)) > self.season.half_width + BEYOND_SEASON_DAYS
        if beyond.any():
            raise DataError(
                f"climatology: no estimate at {clock.text(times[beyond][0])}: training data cover "
                f"{2 * self.season.half_width:.0f} days of the year, and the date lies more than "
                f"{BEYOND_SEASON_DAYS:g} days outside; give the training split more of the year"
            )

    def to_arrays(self) -> dict[str, Any]:
        """All of it as arrays; ``from_arrays`` is the inverse."""
        return {
            "kind": np.array(get_args(Kind).index(self.kind)),
            "hours": self.hours,
            "season": np.array([self.season.middle, self.season.half_width]),
            "table": self.table,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Inverse of ``to_arrays``; the table is kept as it is.

        Raises:
          ValueError: the table's shape, which a file may declare as it likes, is not that of its kind and hours.
        """
        middle, half_width = (float(x) for x in arrays["season"])
        kind: Kind = get_args(Kind)[int(np.asarray(arrays["kind"]))]
        hours, table = np.asarray(arrays["hours"], np.float64), arrays["table"]
        by_day = kind == "day_of_year_hour"
        leading = (CALENDAR_DAYS, hours.size) if by_day else (basis_size(kind, hours.size),)
        if table.shape[:-3] != leading:
            raise ValueError(f"the climatology's table has shape {table.shape}, expected {leading} and fields")
        return cls(kind, hours, Season(middle, half_width), table)


def hours_of(times: np.ndarray) -> np.ndarray:
    """The hours of the day that occur, ascending, float64."""
    return np.unique(seconds_of_day(times)) / 3600.0


def hour_index(times: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Which of ``hours`` is the nearest to that of each time, ``(time,)``."""
    return np.abs(seconds_of_day(times)[:, None] / 3600.0 - hours).argmin(axis=1)


def folded_day(times: np.ndarray) -> np.ndarray:
    """Day of the year from 0, the last day of a leap year folded into that before it: below ``YEAR_DAYS``."""
    return np.minimum(day_of_year(times), YEAR_DAYS) - 1


def basis_size(kind: Kind, n_hours: int) -> int:
    """Functions that the linear kinds are made of."""
    return n_hours + {"day_of_year_hour": 0, "annual_harmonics": 4, "annual_cycle": 2, "seasonal_trend": 1}[kind]


def basis_of(kind: Kind, season: Season, times: np.ndarray, hour: np.ndarray, n_hours: int) -> np.ndarray:
    """Design matrix, float64 ``(time, basis)``: an indicator of each hour, then harmonics or the season's line."""
    indicators = (hour[:, None] == np.arange(n_hours)).astype(np.float64)
    if kind == "seasonal_trend":
        return np.concatenate([indicators, season.followed(times)[:, None] / max(season.half_width, 1.0)], axis=1)
    once = kind == "annual_cycle"
    share = (season.middle + season.followed(times)) / _CIRCLE_DAYS if once else year_fraction(times)
    angle = 2 * np.pi * share
    waves = (1,) if once else (1, 2)
    harmonics = [f(k * angle) for k in waves for f in (np.cos, np.sin)]
    return np.concatenate([indicators, np.stack(harmonics, axis=1)], axis=1)


def normal_matrix(basis: np.ndarray) -> np.ndarray:
    """Left side of the normal equations, ``(basis, basis)``; additive over times."""
    return np.einsum("tk,tl->kl", basis, basis)


def normal_sums(basis: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Right side of the normal equations, float64 ``(basis, latitude, longitude, state)``; additive over times.

    By NumPy's own loops, not by BLAS, whose last bits depend on its number of threads; by latitude, for the cache.
    """
    out = np.empty((basis.shape[1], *states.shape[1:]))
    for row in range(states.shape[1]):
        out[:, row] = np.einsum("tk,txc->kxc", basis, states[:, row].astype(np.float64))
    return out


def solve(matrix: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Coefficients of a linear kind from its normal equations, float32 in the shape of ``sums``.

    Raises:
      DataError: the times seen do not determine them.
    """
    if np.linalg.matrix_rank(matrix) < matrix.shape[0]:
        raise DataError("climatology: the training split has too few times to fit a trend; give it more than one day")
    return np.einsum("kl,lyxc->kyxc", np.linalg.inv(matrix), sums).astype(np.float32)


def triangle_sums(fields: np.ndarray) -> np.ndarray:
    """Sums over ``WINDOW_DAYS`` consecutive days under a triangle of height 1.

    A triangle is a box smoothed by a box, and running sums smooth by a box in two additions a day.

    Args:
      fields: Shape ``(day, ...)``; days without data are 0.

    Returns:
      Float64, for the days that have a whole window: ``WINDOW_DAYS - 1`` fewer.
    """
    half = WINDOW_DAYS // 2 + 1
    for _ in range(2):
        running = np.cumsum(fields, axis=0, dtype=np.float64)
        fields = running[half - 1 :]
        fields[1:] -= running[:-half].copy()
    return fields / half


def window_weights(counts: np.ndarray) -> np.ndarray:
    """What ``triangle_sums`` of daily means must be divided by, since days without data have no say.

    Means by day are taken first and smoothed with equal say, so that a year with more data does not tilt the season.

    Args:
      counts: States by day of the year and hour, ``(365, hour)``.

    Returns:
      Float64 ``(365, hour)``.

    Raises:
      DataError: a day has no data anywhere in its window.
    """
    half = WINDOW_DAYS // 2
    seen = (counts > 0).astype(np.float64)
    weights = triangle_sums(np.concatenate([seen[-half:], seen, seen[:half]]))
    empty = (weights < 1e-6).any(axis=1)
    if empty.any():
        day = int(np.flatnonzero(empty)[0]) + 1
        raise DataError(f"climatology: no training data within {half} days of day {day} of the year")
    return weights
