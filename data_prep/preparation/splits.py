"""Training, validation and test data: whole segments or stretches of time, never closer than the configured gap."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from data_prep import clock
from data_prep.config import SplitConfig
from data_prep.errors import DataError
from data_prep.preparation.store import SPLITS, Split
from data_prep.reading.segments import RawSegment

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of a raw segment that belongs to one split.

    Attributes:
      name: Of the segment, with the split where the segment was cut in time.
      split: Which.
      segment: Where it is read.
      start, stop: Half-open range of its times on the segment's axis.
    """

    name: str
    split: Split
    segment: RawSegment
    start: int
    stop: int

    @property
    def times(self) -> np.ndarray:
        """``datetime64[ns]`` ``(time,)``."""
        return self.segment.times[self.start : self.stop]


def split_segments(segments: Sequence[RawSegment], config: SplitConfig) -> tuple[Piece, ...]:
    """Assigns data to splits, ascending in time; what lies in no split is left out.

    Raises:
      DataError: a split is empty, names a segment that does not exist, or is closer to another one than ``gap_days``.
    """
    pieces = _by_segment(segments, config) if config.segments is not None else _by_time(segments, config)
    empty = [s for s in SPLITS if s not in {p.split for p in pieces} and (s == "train" or config.segments is None)]
    if empty:
        span = " to ".join(clock.text(t) for t in (segments[0].times[0], segments[-1].times[-1]))
        raise DataError(
            f"data.split: no data for {', '.join(empty)}; the files hold {span} in {len(segments)} segments"
        )
    for before, after in pairwise(pieces):
        distance = (after.times[0] - before.times[-1]) / np.timedelta64(1, "D")
        if before.split != after.split and distance < config.gap_days:
            raise DataError(
                f"data.split: {after.split} data begin {distance:g} days after {before.split} data end "
                f"({clock.text(before.times[-1])}), closer than gap_days {config.gap_days:g}; move one of them"
            )
    return pieces


def _by_segment(segments: Sequence[RawSegment], config: SplitConfig) -> tuple[Piece, ...]:
    assert config.segments is not None
    split_of: dict[int, Split] = {}
    names = list({s.number: s.name for s in reversed(segments)}.values())[::-1]
    for split, numbers in config.segments.items():
        for number in numbers:
            if not 0 <= number < len(names):
                raise DataError(
                    f"data.split.segments.{split}: there is no segment {number}; there are {len(names)}: "
                    f"{', '.join(names)}"
                )
            if number in split_of:
                raise DataError(f"data.split.segments: segment {number} is in both {split_of[number]} and {split}")
            split_of[number] = split
    return tuple(Piece(s.name, split_of.get(s.number, "train"), s, 0, s.times.size) for s in segments)


def _by_time(segments: Sequence[RawSegment], config: SplitConfig) -> tuple[Piece, ...]:
    spans: dict[Split, tuple[np.datetime64, np.datetime64]] = {}
    for split, days in zip(SPLITS, (config.train, config.validation, config.test), strict=True):
        assert days is not None  # the config holds all three where it holds no segments
        spans[split] = (clock.parse_instant(days[0]), clock.parse_last(days[1]) + np.timedelta64(1, "ns"))
    pieces = []
    for segment in segments:
        for split, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
            start, stop = np.searchsorted(segment.times, [first, last]).tolist()
            if stop - start >= 2:
                pieces.append(Piece(f"{segment.name}_{split}", split, segment, start, stop))
            elif stop > start:
                logger.warning("%s: a single step in the %s split is left out", segment.name, split)
    for split, others in combinations(SPLITS, 2):
        if spans[split][0] < spans[others][1] and spans[others][0] < spans[split][1]:
            raise DataError(f"data.split: {split} and {others} overlap in time")
    return tuple(pieces)
