"""Where a forecast leaves what is physically possible: looked at outside jit, so it can be stopped, named and kept.

Bounds are those that files are held to (``data_prep.variables``): wide enough for any weather, and left well before the
numbers overflow. Shares get more room: clouds are all or nothing at most places, where a sound forecast overshoots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.spec import Channel, StateSpec
from data_prep.variables import possible_range

_BEYOND = 1.0  # of a share


class ForecastStoppedError(DataError):
    """A forecast left physical bounds; what came before has been handed out."""


def first_departure(
    fields: np.ndarray,
    names: Sequence[str],
    bounds: Sequence[tuple[float, float]],
    times: np.ndarray,
    leads: np.ndarray,
) -> tuple[int, str] | None:
    """The first lead at which a forecast is not possible any more.

    Args:
      fields: Physical units, ``(init_time, lead_time, latitude, longitude, channel)``.
      names: Of the channels.
      bounds: Least and most value of each channel.
      times: Initial times, ``datetime64``.
      leads: ``timedelta64``.

    Returns:
      Its position on the lead axis, and in words what happened there; ``None`` where all is well.
    """
    return first_out_of_bounds(fields.min(axis=(2, 3)), fields.max(axis=(2, 3)), names, bounds, times, leads)


def first_out_of_bounds(
    low: np.ndarray,
    high: np.ndarray,
    names: Sequence[str],
    bounds: Sequence[tuple[float, float]],
    times: np.ndarray,
    leads: np.ndarray,
) -> tuple[int, str] | None:
    """``first_departure`` of fields of which least and most value are known, each ``(init_time, lead_time, channel)``.

    Where a field is not finite they are not either.
    """
    least, most = np.array(bounds).T
    bad = ~((low >= least) & (high <= most) & np.isfinite(low) & np.isfinite(high))
    if not bad.any():
        return None
    lead = int(bad.any(axis=(0, 2)).argmax())
    i, c = (int(n) for n in np.argwhere(bad[:, lead])[0])
    hours = clock.hours(leads[lead])
    where = f"the forecast from {times[i]!s:.16}"
    if not (np.isfinite(low[i, lead, c]) and np.isfinite(high[i, lead, c])):
        return lead, f"{where} is not finite any more at lead {hours:g} h in {names[c]}"
    return lead, (
        f"{where} left physical bounds at lead {hours:g} h: {names[c]} ranges from {low[i, lead, c]:g} to "
        f"{high[i, lead, c]:g}, possible are {least[c]:g} to {most[c]:g}"
    )


def bounds_of(channels: Sequence[Channel], spec: StateSpec) -> list[tuple[float, float]]:
    """Least and most possible value of each channel."""
    return [bounds(c.variable, spec[c.variable].units) for c in channels]


def bounds(name: str, units: str) -> tuple[float, float]:
    """Least and most possible value of a variable in a forecast."""
    low, high = possible_range(name, units)
    return (low - _BEYOND, high + _BEYOND) if units == "1" else (low, high)
