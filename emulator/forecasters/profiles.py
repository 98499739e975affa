"""What the training fields were like from south to north at each time of the year, so that turned fields are noticed.

In a file whose rows run the other way than its latitudes say every value is plausible: only the places are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from data_prep import clock
from data_prep.clock import CALENDAR_DAYS, day_of_year
from data_prep.preparation.store import Store, row_bytes

_MOST, _FEWEST = 128, 16
_MOST_BYTES = 2**30  # of states that are read for it, whenever training starts
_NEAREST, _WITHIN_DAYS = 8, 30
# In SPEEDY T63 sound fields of the test year lie within 2.8; those turned lie beyond 5 in temperature near the ground.
_FAR, _NEARER = 4.0, 3.0
_LEAST = 0.1  # of a channel's deviation, in rows that hardly vary: dry ones


@dataclass(frozen=True, eq=False)
class Profiles:
    """Zonal means of some training states.

    Attributes:
      values: SI units, ``float32 (state, lat, prognostic channel)``, south first.
      days: Their days of the year from 0, ``int (state,)``.
    """

    values: np.ndarray
    days: np.ndarray

    @classmethod
    def of(cls, store: Store) -> Self | None:
        """Of states spread over the training data; ``None`` where too few can be read in a moment."""
        rows = store.rows_of("train")
        rows = rows[clock.sample(store.times[rows], min(_MOST, _MOST_BYTES // row_bytes(store.spec, store.grid)))]
        if rows.size < _FEWEST:
            return None
        n = store.spec.n_prognostic
        out = [store.take_states(np.array([row]))[0, ..., :n].mean(1) for row in rows]  # one of them in memory
        return cls(np.array(out, np.float32), day_of_year(store.times[rows]))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self | None:
        """Inverse of ``to_arrays``; ``None`` of the runs that kept none."""
        return cls(arrays["values"], arrays["days"]) if arrays else None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays."""
        return {"values": self.values, "days": self.days}

    def turned(self, fields: np.ndarray, time: np.datetime64) -> np.ndarray:
        """Which channels look like the training fields of that season once north and south are exchanged, but not as
        they are.

        Args:
          fields: ``(lat, lon, prognostic channel)``, SI units.
          time: Of them.

        Returns:
          ``bool (channel,)``; false where both ways look alike, and all false in a season that was not trained on.
        """
        day = int(day_of_year(np.array([time]))[0])
        near = self._nearest(day)
        if self._distance(day).min() > _WITHIN_DAYS:
            return np.zeros(fields.shape[-1], bool)
        usual, given = self.values[near].mean(0), fields.mean(1)
        far, back = (_distance_of(p - usual, self._deviation) for p in (given, given[::-1]))
        return (far > _FAR) & (far > _NEARER * back)

    @cached_property
    def _deviation(self) -> np.ndarray:
        """Of a profile from those of its season, ``(lat, channel)``."""
        others = (self.values[self._nearest(day, i)].mean(0) for i, day in enumerate(self.days.tolist()))
        departures = [own - usual for own, usual in zip(self.values, others, strict=True)]
        by_row = np.sqrt(np.mean(np.square(departures), axis=0))
        return np.maximum(by_row, _LEAST * np.sqrt(np.mean(np.square(by_row), axis=0)))

    def _nearest(self, day: int, but: int | None = None) -> np.ndarray:
        distance = self._distance(day).astype(float)
        if but is not None:
            distance[but] = np.inf
        return np.argsort(distance, kind="stable")[:_NEAREST]

    def _distance(self, day: int) -> np.ndarray:
        apart = np.abs(self.days - day)
        return np.minimum(apart, CALENDAR_DAYS - apart)


def _distance_of(departures: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """RMS over the rows in units of the deviation, ``(channel,)``; 0 of a channel that does not vary."""
    varies = deviation > 0
    scaled = np.where(varies, departures / np.where(varies, deviation, 1.0), 0.0)
    return np.sqrt(np.square(scaled).mean(0))
