"""Which way round the fields of a variable lie: in an unbroken stretch of time as most of them do, unless other
stretches say that most of them are turned.

Stretches are compared by the means of their samples, kept while the record is read once. Only stretches of one season
are, or such as hold all of it: the stratosphere's January looks like July in a mirror. In a region a jet may lie in the
north for two days and in the south for others, so there the others decide between halves of a stretch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data_prep.grid import Grid
from data_prep.reading import quality

_MONTHS = 12
_ALL_SEASONS = _MONTHS  # the season of stretches that hold all of them
_ALL_SEASONS_DAYS = 300.0
_MOST_ASKEW = 0.1  # how far from the equator the middle of both hemispheres may lie, of their span: by a row or two


@dataclass
class _Stretch:
    """An unbroken stretch of time.

    Attributes:
      first, last: Its ends.
      total: Sum of its samples, turned as the first of them lies, ``(latitude, longitude, level)``.
      turned: Which rows lie the other way round than the first, blocks of ``(row,)``.
    """

    first: np.datetime64
    last: np.datetime64
    total: np.ndarray
    turned: list[np.ndarray]

    @property
    def rows(self) -> int:
        """How many fields it has."""
        return sum(block.size for block in self.turned)

    @property
    def season(self) -> int:
        """The month of its middle from 0 on, or that it holds them all."""
        if (self.last - self.first) / np.timedelta64(1, "D") > _ALL_SEASONS_DAYS:
            return _ALL_SEASONS
        middle = self.first + (self.last - self.first) // 2
        return int(middle.astype("datetime64[M]").astype(np.int64)) % _MONTHS

    def mean(self) -> np.ndarray:
        """Of its samples, as most of them lie; NaN where one is missing."""
        most = self.total / self.rows
        return (most[::-1] if self.majority() > 0 else most).astype(np.float32)

    def majority(self) -> int:
        """Rows that lie the other way round than the first, less those that lie as it does."""
        return sum(2 * int(block.sum()) - block.size for block in self.turned)


@dataclass
class Orientation:
    """What tells it of one variable, gathered from block to block.

    Attributes:
      interval: Between its times where none is missing.
      grid: Of the fields.
    """

    interval: np.timedelta64
    grid: Grid
    _stretches: list[_Stretch] = field(default_factory=list)
    _anew: bool = True

    def begin_anew(self) -> None:
        """The next block does not go on where the last one ends."""
        self._anew = True

    def add(self, record: np.ndarray, start: int, samples: np.ndarray, mirrored: np.ndarray) -> None:
        """A block, as ``quality.scan`` hands it on, of rows from ``start`` on of a record at these times."""
        times = record[start : start + mirrored.size]
        last = times[:1] if self._anew else [self._stretches[-1].last]
        breaks = np.diff(np.concatenate([last, times])) > self.interval
        breaks[0] |= self._anew
        self._anew = False
        for rows in np.split(np.arange(times.size), np.flatnonzero(breaks)):
            if rows.size:
                self._extend(samples[rows], mirrored[rows], times[rows], begins=bool(breaks[rows[0]]))

    @np.errstate(over="ignore", invalid="ignore")  # of a fill value of 1e20 that is not declared
    def _extend(self, samples: np.ndarray, mirrored: np.ndarray, times: np.ndarray, *, begins: bool) -> None:
        changes = mirrored.copy()
        changes[0] &= not begins
        before = not begins and bool(self._stretches[-1].turned[-1][-1])
        turned = (np.cumsum(changes) + before) % 2 == 1
        total = samples[~turned].sum(axis=0, dtype=np.float64) + samples[turned, ::-1].sum(axis=0, dtype=np.float64)
        if begins:
            if self._stretches:
                self._stretches[-1].total = self._stretches[-1].total.astype(np.float32)  # it is kept to the end
            self._stretches.append(_Stretch(times[0], times[-1], total, [turned]))
            return
        stretch = self._stretches[-1]
        stretch.last, stretch.total = times[-1], stretch.total + total
        stretch.turned.append(turned)

    def judge(self, *, by_others: bool) -> tuple[np.ndarray, np.ndarray]:
        """Which rows lie the other way round, and of which nobody can tell, each ``(row,)``, in the order of adding.

        Args:
          by_others: Whether stretches are compared with others at all, as of fields that are like themselves in
            any year.
        """
        most = [stretch.majority() > 0 for stretch in self._stretches]
        tied = [stretch.majority() == 0 for stretch in self._stretches]
        unclear = tied
        if by_others:
            told = self._told_by_others(tied)
            most = [other ^ (told.get(number) is True) for number, other in enumerate(most)]
            unclear = [number in told and told[number] is None for number in range(len(most))]
        whole = [np.concatenate(stretch.turned) for stretch in self._stretches]
        flipped = [rows ^ other for rows, other in zip(whole, most, strict=True)]
        sizes = [rows.size for rows in whole]
        return np.concatenate([*flipped, np.empty(0, bool)]), np.repeat(np.array(unclear, bool), sizes)

    def _told_by_others(self, tied: Sequence[bool]) -> dict[int, bool | None]:
        """The stretches that are to be turned round as a whole, or ``None`` where that should be known and is not."""
        means = [stretch.mean() for stretch in self._stretches]
        told: dict[int, bool | None] = {}
        others = _Means()
        for stretch, mean, is_tied in zip(self._stretches, means, tied, strict=True):
            if not is_tied:
                others.add(mean, stretch, stretch.rows)
        changed = len(means) > 1 and self._is_of_both_hemispheres()
        while changed:
            changed = False
            for number, (stretch, mean) in enumerate(zip(self._stretches, means, strict=True)):
                if tied[number] or told.get(number, False) is not False:
                    continue
                others.add(mean, stretch, -stretch.rows)
                reference, rows = others.beside(mean, stretch)
                # the smaller part is wrong; of two halves nobody knows
                if rows >= stretch.rows and self._is_mirror(reference, mean):
                    told[number], changed = (None if rows == stretch.rows else True), True
                others.add(mean[::-1] if told.get(number) else mean, stretch, stretch.rows)
        for number, is_tied in enumerate(tied):
            if is_tied:
                reference, _ = others.beside(means[number], self._stretches[number])
                mirrored, alike = (self._is_mirror(reference, mean) for mean in (means[number], means[number][::-1]))
                told[number] = mirrored if mirrored or alike else None
        return told

    def _is_of_both_hemispheres(self) -> bool:
        south, north = self.grid.latitude[0], self.grid.latitude[-1]
        return abs(south + north) < _MOST_ASKEW * (north - south)

    def _is_mirror(self, reference: np.ndarray | None, mean: np.ndarray) -> bool:
        if reference is None:
            return False
        return bool(quality.stuck_and_mirrored(np.stack([reference, mean]), self.grid)[1][0])


class _Means:
    """Sums of means by season, from which that of some stretches is made."""

    def __init__(self) -> None:
        self._sums: dict[tuple[tuple[int, ...], int], tuple[np.ndarray, np.ndarray, int]] = {}

    def add(self, mean: np.ndarray, stretch: _Stretch, weight: int) -> None:
        """Adds a mean; a negative weight takes it away again."""
        key = mean.shape, stretch.season
        total, count, rows = self._sums.get(key, (np.zeros(mean.shape), np.zeros(mean.shape, np.int64), 0))
        there = np.isfinite(mean)
        self._sums[key] = total + weight * np.where(there, mean, 0.0), count + weight * there, rows + weight

    def beside(self, mean: np.ndarray, stretch: _Stretch) -> tuple[np.ndarray | None, int]:
        """The mean of what may be compared with a stretch, and of how many rows; ``None`` where there is none."""
        near = [(stretch.season + i) % _MONTHS for i in (-1, 0, 1)] if stretch.season < _MONTHS else [*range(_MONTHS)]
        found = [self._sums[key] for s in (*near, _ALL_SEASONS) if (key := (mean.shape, s)) in self._sums]
        rows = sum(n for _, _, n in found)
        if rows == 0:
            return None, 0
        total, count = (sum(part[i] for part in found) for i in (0, 1))
        return np.divide(total, count, out=np.full(mean.shape, np.nan), where=count > 0).astype(np.float32), rows
