"""Where a variable that the program does not know lies, counted block by block and judged at the end of the record.

No single field of it is wrong: other fields of the record tell what is unusual, and what is in another unit.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.reading.locations import Location
from data_prep.reading.slips import LIKE_CELSIUS, impossible_and_unusual, is_mostly_kelvin, kelvin_and_celsius
from data_prep.variables import has_usual_range, known

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The times of one kind: how many, and the first of them, with its file, range and time."""

    count: int = 0
    first: str = ""

    def plus(self, later: Found) -> Found:
        """Both together."""
        return Found(self.count + later.count, self.first or later.first)


@dataclass(frozen=True)
class Tally:
    """The times of a variable: all of them, those that lie where kelvins or degrees Celsius do, and unusual ones."""

    rows: int = 0
    kelvin: int = 0
    celsius: Found = Found()
    unusual: Found = Found()

    @classmethod
    def of(cls, name: str, units: str, values: np.ndarray, times: np.ndarray, path: Location) -> Self:
        """Of rows of a file, SI ``(time, latitude, longitude, level)``."""
        low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
        kelvin, celsius = kelvin_and_celsius(units, low, high)
        _, unusual = impossible_and_unusual(name, units, low, high)

        def found(rows: np.ndarray) -> Found:
            if not rows.any():
                return Found()
            row = int(rows.argmax())
            ends = f"ranges from {low[row].min():g} to {high[row].max():g} {units}"
            return Found(int(rows.sum()), f"{path}: {name} {ends} at {clock.text(times[row])}")

        return cls(times.size, int(kelvin.sum()), found(celsius), found(np.any(unusual, axis=1)))

    def plus(self, later: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.rows + later.rows,
            self.kelvin + later.kelvin,
            self.celsius.plus(later.celsius),
            self.unusual.plus(later.unusual),
        )

    def to_json(self) -> list[Any]:
        """Plain values."""
        return [self.rows, self.kelvin, *([found.count, found.first] for found in (self.celsius, self.unusual))]

    @classmethod
    def from_json(cls, data: list[Any]) -> Self:
        """Inverse of ``to_json``."""
        rows, kelvin, celsius, unusual = data
        return cls(rows, kelvin, Found(*celsius), Found(*unusual))


def is_counted(name: str, units: str) -> bool:
    """Whether a variable is one that the program does not know, in a unit in which it knows what is usual."""
    return known(name) is None and has_usual_range(units)


def together(parts: Sequence[Mapping[str, Tally]]) -> dict[str, Tally]:
    """The tallies of consecutive stretches as one, by variable."""
    out: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            out[name] = out.get(name, Tally()).plus(tally)
    return out


def judge_record(tallies: Mapping[str, Tally]) -> None:
    """Warns of what is unusual, one line a variable.

    Raises:
      DataError: some times are in degrees Celsius, where most are in K.
    """
    for tally in tallies.values():
        if tally.celsius.count and is_mostly_kelvin(tally.kelvin, tally.rows):
            raise DataError(
                f"{tally.celsius.first} ({_times(tally.celsius.count)}), and most times lie where kelvins do"
                f"{LIKE_CELSIUS}, or convert them by data.repair: [unit_slips]"
            )
        if tally.unusual.count:
            logger.warning("%s, unusual in this unit (%s)", tally.unusual.first, _times(tally.unusual.count))


def _times(count: int) -> str:
    return f"{count} time{'s' if count != 1 else ''}"
