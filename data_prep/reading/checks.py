"""What is refused, in one line that says where: duplicates, irregular steps, NaN, impossible and constant values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep import clock
from data_prep.errors import DataError, percent
from data_prep.reading.slips import hint, impossible_and_unusual, slip_of, standard_height
from data_prep.spec import Channel, StateSpec
from data_prep.variables import GRAVITY, usual_range

_CONSTANT = 1e-6
"""A channel whose standard deviation is below this share of its mean does not vary, as far as float32 can tell."""

_PACKING = 1e-4  # of the range of a field: 16 bits round by a tenth of that


def check_time_axis(times: np.ndarray, where: str, *, admit_duplicates: bool) -> None:
    """Refuses times that run backwards or, unless they are admitted, repeat.

    Raises:
      DataError: names the first such time.
    """
    steps = np.diff(times)
    repeated = steps == np.timedelta64(0, "ns")
    if repeated.any() and not admit_duplicates:
        raise DataError(f"{where}: the time {clock.text(times[1:][repeated][0])} occurs twice; remove the duplicate")
    if (steps < np.timedelta64(0, "ns")).any():
        place = int(np.flatnonzero(steps < np.timedelta64(0, "ns"))[0])
        raise DataError(
            f"{where}: times run backwards from {clock.text(times[place])} to {clock.text(times[place + 1])}; "
            "sort the file by time"
        )


def refuse_monthly(times: np.ndarray, what: str) -> None:
    """Refuses a record with one field a month: means that no six-hourly model can learn from.

    Raises:
      DataError: the typical step has the length of a month.
    """
    if (days := _month(times)) is not None:
        raise DataError(
            f"{what} has monthly values, steps of some {days:g} days; a model of the weather needs fields some hours "
            "apart, such as six-hourly ones: leave it out, or make it a climatological forcing by day of year"
        )


def is_one_day_a_month(times: np.ndarray) -> bool:
    """Whether several hours of one day a month are there: a sample of the weather, or monthly means by hour."""
    days = np.unique(times.astype("datetime64[D]"))
    return days.size < times.size and _month(days) is not None


def _month(times: np.ndarray) -> float | None:
    """The typical step in days where it has the length of a month."""
    days = float(np.median(np.diff(times) / np.timedelta64(1, "D"))) if times.size > 1 else 0.0
    return days if 27.5 < days < 31.5 else None


def interval_of(times: np.ndarray, where: str) -> np.timedelta64:
    """The regular interval of an ascending time axis that may have gaps: its smallest step.

    Raises:
      DataError: a step is no multiple of the smallest one, or there is but one time.
    """
    if times.size < 2:
        raise DataError(f"{where}: one time only; a data set needs at least two")
    refuse_monthly(times, f"{where}: the record")
    steps = np.diff(times)
    interval = steps.min()
    irregular = steps % interval != np.timedelta64(0, "ns")
    if irregular.any():
        place = int(np.flatnonzero(irregular)[0])
        raise DataError(
            f"{where}: irregular time step: {clock.hours(steps[place]):g} h after {clock.text(times[place])}, "
            f"elsewhere {clock.hours(interval):g} h; resample the data to a regular interval"
        )
    return interval


def are_one_field(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two fields of one shape differ by no more than packing rounds."""
    finite = one[np.isfinite(one)]
    rounded = _PACKING * float(np.ptp(finite)) if finite.size else 0.0
    return np.allclose(one, other, rtol=1e-6, atol=rounded, equal_nan=True)


def check_values(
    values: np.ndarray,
    channels: Sequence[Channel],
    spec: StateSpec,
    times: np.ndarray,
    where: str,
    otherwise: str | None = None,
) -> None:
    """Refuses NaN, infinity and values that the variable cannot have.

    Args:
      values: SI, shape ``(time, latitude, longitude, channel)``.
      channels: What the last axis holds.
      spec: Gives units.
      times: ``datetime64`` of the rows; empty for constant fields.
      where: The file, for the message.
      otherwise: What to do about NaN but to fill it before; by default what a config can say.

    Raises:
      DataError: names variable, first time, range and, where one is likely, the unit that was meant.
    """
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))  # (time, channel); NaN propagates into both
    bad = ~(np.isfinite(low) & np.isfinite(high))
    if bad.any():
        row, i = np.argwhere(bad)[0]
        field = values[row, ..., i]
        share = 1 - np.isfinite(field).mean()
        # what fill_mean fills is NaN, from the rest of the field
        fillable = spec[channels[i].variable].role in ("forcing", "static") and share < 1 and not np.isinf(field).any()
        remedy = otherwise or ("set data.nan: fill_mean" if fillable else "leave those times out by data.exclude")
        if not times.size and not fillable:
            remedy = "leave the variable out of the config"
        raise DataError(
            f"{where}: {channels[i].name} has NaN or infinity in {percent(share)} of its points{_at(times, row)}; "
            f"fill them before, or {remedy}"
        )
    for i, channel in enumerate(channels):
        units = spec[channel.variable].units
        lowest, highest = usual_range(channel.variable, units)
        pressure = channel.level if spec.vertical == "pressure" else None
        impossible, _ = impossible_and_unusual(channel.variable, units, low[:, i], high[:, i])
        # Within what is possible, heights alone may look like another unit.
        suspect = np.arange(low.shape[0]) if channel.variable == "geopotential" else np.flatnonzero(impossible)
        for row in suspect.tolist():
            least, most = float(low[row, i]), float(high[row, i])
            if not impossible[row] and slip_of(channel.variable, units, pressure, least, most) is None:
                continue
            expected = f", possible are {lowest:g} to {highest:g}" if np.isfinite(highest) else ""
            if not impossible[row] and pressure is not None:
                expected = f", usual at {pressure:g} hPa is {GRAVITY * standard_height(pressure):.0f}"
            raise DataError(
                f"{where}: {channel.name} ranges from {least:g} to {most:g} {units}{_at(times, row)}"
                f"{expected}{hint(channel.variable, units, pressure, least, most)}"
            )


def check_varies(mean: np.ndarray, std: np.ndarray, channels: Sequence[Channel], what: str) -> None:
    """Refuses channels that are the same everywhere and always; there is no epsilon that would hide them.

    Raises:
      DataError: names them all.
    """
    constant = std <= _CONSTANT * np.abs(mean)
    if constant.any():
        names = ", ".join(
            f"{c.name} ({m:g})" for c, m, is_constant in zip(channels, mean, constant, strict=True) if is_constant
        )
        raise DataError(f"{what}: constant in the training data: {names}; leave it out of the config")


def fill_with_mean(values: np.ndarray) -> np.ndarray:
    """Fills NaN with the mean of the finite points of the same row and channel, so training and forecasts fill alike.

    Args:
      values: Shape ``(row, latitude, longitude, channel)``. A field without any finite point stays NaN.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    values, missing = np.ascontiguousarray(values), np.ascontiguousarray(missing)
    count = (~missing).sum(axis=(1, 2), keepdims=True)
    total = np.where(missing, 0.0, values.astype(np.float64)).sum(axis=(1, 2), keepdims=True)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return np.where(missing, mean, values).astype(np.float32)


def _at(times: np.ndarray, row: int) -> str:
    return f" at {clock.text(times[row])}" if times.size else ""
