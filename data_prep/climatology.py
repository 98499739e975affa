"""The training climate at any time of the year: what anomalies are measured from, and the simplest forecast.

Three kinds, by what the training split can carry (``choose_kind``); each names itself in every report:

* ``day_of_year_hour``: from three training years on, a mean for each day of the year and hour of the day, smoothed over
  a 61-day window with triangular weights that wraps around the year; day 366 is day 365's (as in WeatherBench-2).
* ``annual_harmonics``: from one year on, a mean for each hour of the day and two harmonics of the year.
* ``seasonal_trend``: below that, a mean for each hour of the day and a line over the calendar.

The trend runs over the calendar date, not over the years: the members of a nature run cover one season again and again
under years of their own, and a line through relabelled years would mean nothing. The position is the number of days
from the middle of the training season, unwrapped around it. Extrapolating a line is guessing, so a date more than 30
days outside the training season is an error.

Each kind is a linear model, fitted through its additive normal equations: memory does not grow with the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

import numpy as np

from data_prep.clock import day_of_year, seconds_of_day, year_fraction
from data_prep.errors import DataError

Kind = Literal["day_of_year_hour", "annual_harmonics", "seasonal_trend"]

WINDOW_DAYS = 61
"""Width of the smoothing window of ``day_of_year_hour`` (WeatherBench-2)."""

BEYOND_SEASON_DAYS = 30.0
"""How far outside the training season the trend of ``seasonal_trend`` may be followed."""

_YEAR_DAYS = 365
_CALENDAR_DAYS = 366
_CIRCLE_DAYS = 365.25
_HOLE_DAYS = 30  # a longer stretch of the calendar without data is outside the training season


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


def choose_kind(times: np.ndarray, timestep: np.timedelta64) -> Kind:
    """The kind that these training times can carry; years are counted as data, wherever on the time axis they lie."""
    season = Season.of(times)
    years = times.size * (timestep / np.timedelta64(1, "D")) / _YEAR_DAYS
    if not season.whole_year or years < 1:
        return "seasonal_trend"
    return "day_of_year_hour" if years >= 3 else "annual_harmonics"


@dataclass(frozen=True, eq=False)
class Climatology:
    """Expected fields by date and hour.

    Attributes:
      kind: Which model; see the module.
      hours: Hours of the day (UTC) that it knows, ascending, float64 ``(hour,)``.
      season: Training season.
      table: Coefficients, float32. ``day_of_year_hour``: ``(366, hour, latitude, longitude, state)``; the others:
        ``(basis, latitude, longitude, state)``, the hours' means first.
    """

    kind: Kind
    hours: np.ndarray
    season: Season
    table: np.ndarray = field(repr=False)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Expected states: float32, shape ``(time, latitude, longitude, state)``.

        Raises:
          DataError: there is no estimate at one of the times (an hour or a season that training data do not cover).
        """
        times = np.asarray(times, "datetime64[ns]")
        hour = self._hour_index(times)
        if self.kind == "day_of_year_hour":
            return np.asarray(self.table[day_of_year(times) - 1, hour])
        self._check_season(times)
        basis = _basis(self.kind, self.season, times, hour, self.hours.size)
        return np.tensordot(basis.astype(np.float32), self.table, axes=1)

    def _hour_index(self, times: np.ndarray) -> np.ndarray:
        hours = seconds_of_day(times) / 3600.0
        distance = np.abs(hours[:, None] - self.hours)
        unknown = distance.min(axis=1) > 1e-6
        if unknown.any():
            raise DataError(
                f"climatology: no estimate at {_text(times[unknown][0])}; "
                f"training data hold the hours {', '.join(f'{h:g}' for h in self.hours)} UTC"
            )
        return distance.argmin(axis=1)

    def _check_season(self, times: np.ndarray) -> None:
        if self.kind != "seasonal_trend":
            return
        beyond = np.abs(self.season.position(times)) > self.season.half_width + BEYOND_SEASON_DAYS
        if beyond.any():
            raise DataError(
                f"climatology: no estimate at {_text(times[beyond][0])}: training data cover "
                f"{2 * self.season.half_width:.0f} days of the year, and the date lies more than "
                f"{BEYOND_SEASON_DAYS:g} days outside; give the training split more of the year"
            )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays; ``from_arrays`` is the inverse."""
        return {
            "kind": np.array(get_args(Kind).index(self.kind)),
            "hours": self.hours,
            "season": np.array([self.season.middle, self.season.half_width]),
            "table": self.table,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of ``to_arrays``."""
        middle, half_width = (float(x) for x in arrays["season"])
        return cls(
            get_args(Kind)[int(arrays["kind"])],
            np.asarray(arrays["hours"], np.float64),
            Season(middle, half_width),
            np.asarray(arrays["table"], np.float32),
        )


class ClimatologyFit:
    """Fits a climatology from training states handed over in blocks, in any order.

    Memory: the normal equations, ``(basis, latitude, longitude, state)`` in float64; for ``day_of_year_hour`` the sums
    by day and hour. Size does not depend on the number of states.
    """

    def __init__(self, times: np.ndarray, timestep: np.timedelta64, field_shape: tuple[int, ...]) -> None:
        """Prepares a fit.

        Args:
          times: All training times, ``datetime64[ns]``; they decide kind, hours and season.
          timestep: Interval between them.
          field_shape: ``(latitude, longitude, state)``.
        """
        self.kind: Kind = choose_kind(times, timestep)
        self.hours = np.unique(seconds_of_day(times)) / 3600.0
        self.season = Season.of(times)
        n_basis = _basis_size(self.kind, self.hours.size)
        self._by_day = self.kind == "day_of_year_hour"
        lead = (_CALENDAR_DAYS, self.hours.size) if self._by_day else (n_basis,)
        # The sums of a table are of at most a few dozen states each: float32 carries them, and halves the memory.
        self._sums = np.zeros((*lead, *field_shape), np.float32 if self._by_day else np.float64)
        self._counts = np.zeros(lead if self._by_day else (n_basis, n_basis))

    def update(self, times: np.ndarray, states: np.ndarray) -> None:
        """Adds states: ``times`` of shape ``(time,)``, ``states`` of shape ``(time, latitude, longitude, state)``."""
        hour = np.abs(seconds_of_day(times)[:, None] / 3600.0 - self.hours).argmin(axis=1)
        if self._by_day:
            day = day_of_year(times) - 1
            np.add.at(self._counts, (day, hour), 1.0)
            for d, h, state in zip(day, hour, states, strict=True):
                self._sums[d, h] += state
            return
        basis = _basis(self.kind, self.season, times, hour, self.hours.size)
        self._counts += basis.T @ basis
        self._sums += np.tensordot(basis.T, states.astype(np.float64), axes=1)

    def finish(self) -> Climatology:
        """The fitted climatology.

        Raises:
          DataError: the times seen do not determine it.
        """
        if self._by_day:
            table = _smooth_over_year(self._sums, self._counts)
        else:
            if np.linalg.matrix_rank(self._counts) < self._counts.shape[0]:
                raise DataError(
                    "climatology: the training split has too few times to fit a trend; give it more than one day"
                )
            table = np.tensordot(np.linalg.inv(self._counts), self._sums, axes=1).astype(np.float32)
        return Climatology(self.kind, self.hours, self.season, table)


def _basis_size(kind: Kind, n_hours: int) -> int:
    return n_hours + {"day_of_year_hour": 0, "annual_harmonics": 4, "seasonal_trend": 1}[kind]


def _basis(kind: Kind, season: Season, times: np.ndarray, hour: np.ndarray, n_hours: int) -> np.ndarray:
    """Design matrix, float64 ``(time, basis)``: an indicator of each hour, then harmonics or the season's line."""
    indicators = (hour[:, None] == np.arange(n_hours)).astype(np.float64)
    if kind == "seasonal_trend":
        return np.concatenate([indicators, season.position(times)[:, None] / max(season.half_width, 1.0)], axis=1)
    angle = 2 * np.pi * year_fraction(times)
    harmonics = [f(k * angle) for k in (1, 2) for f in (np.cos, np.sin)]
    return np.concatenate([indicators, np.stack(harmonics, axis=1)], axis=1)


def _smooth_over_year(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Triangular means over ``WINDOW_DAYS`` around the year, float32 ``(366, hour, ...)``; day 366 repeats day 365.

    Means by day are taken first and smoothed with equal say, so that a year with more data does not tilt the season;
    29 February's own day (366 in leap years) is folded into day 365.
    """
    sums[364] += sums[365]
    counts[364] += counts[365]
    half = WINDOW_DAYS // 2
    offsets = np.arange(-half, half + 1)
    triangle = 1.0 - np.abs(offsets) / (half + 1)
    day = np.arange(_YEAR_DAYS)
    kernel = np.zeros((_YEAR_DAYS, _YEAR_DAYS))
    for offset, weight in zip(offsets, triangle, strict=True):
        kernel[day, (day + offset) % _YEAR_DAYS] += weight
    out = np.empty(sums.shape, np.float32)
    for h in range(sums.shape[1]):
        seen = counts[:_YEAR_DAYS, h] > 0
        weights = kernel * seen
        total = weights.sum(axis=1, keepdims=True)
        if (total == 0).any():
            empty = int(np.flatnonzero(total[:, 0] == 0)[0]) + 1
            raise DataError(f"climatology: no training data within {half} days of day {empty} of the year")
        scale = weights / total / np.maximum(counts[:_YEAR_DAYS, h], 1)
        out[:_YEAR_DAYS, h] = np.tensordot(scale.astype(np.float32), sums[:_YEAR_DAYS, h], axes=1)
    out[_YEAR_DAYS] = out[_YEAR_DAYS - 1]
    return out


def _text(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="m"))
