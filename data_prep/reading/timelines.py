"""One variable over all files that hold it: joined by time, mended where ``data.repair`` asks for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from data_prep import clock
from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.reading import checks, quality
from data_prep.reading.orientation import Orientation
from data_prep.reading.slips import may_slip, slips_of
from data_prep.reading.sources import Source
from data_prep.reading.units import Conversion
from data_prep.spec import Variable
from data_prep.variables import is_accumulation, is_never_uniform, tells_orientation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Mending:
    """What ``data.repair`` does to the rows of a variable.

    Attributes:
      flipped: Rows whose latitudes are to be turned round, ``(row,)``.
      slips: The units that rows are in by mistake.
      slip_of_row: Which of these each row is in, -1 for the right one, ``(row,)``.
    """

    flipped: np.ndarray
    slips: tuple[Conversion, ...]
    slip_of_row: np.ndarray

    @classmethod
    def none(cls, n_rows: int) -> Mending:
        """Nothing, of so many rows."""
        return cls(np.zeros(n_rows, bool), (), np.full(n_rows, -1, np.int8))


@dataclass(frozen=True, eq=False)
class Timeline:
    """One variable over all files that hold it.

    Attributes:
      variable: Its canonical description.
      sources: The files.
      times: All times, ascending and unique, ``(row,)``.
      source_of, row_of: For every row, which file and which row of it.
      mending: What is mended of them.
      excluded: Times that the files hold too and ``data.exclude`` leaves out, ascending.
    """

    variable: Variable
    sources: tuple[Source, ...]
    times: np.ndarray
    source_of: np.ndarray
    row_of: np.ndarray
    mending: Mending
    excluded: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[ns]"), repr=False)
    _open: set[int] = field(default_factory=set, repr=False)  # the files that the last read was of

    def read(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Rows ``start, start + step, ...`` below ``stop``: SI, float32 ``(row, latitude, longitude, level)``."""
        rows = np.arange(start, stop, step)
        strides = np.diff(self.row_of[rows])
        changes = np.flatnonzero((np.diff(self.source_of[rows]) != 0) | (strides != step)) + 1
        parts = []
        runs = np.split(rows, changes)
        self._leave_all_but({int(self.source_of[run[0]]) for run in runs})
        for run in runs:
            source = self.sources[int(self.source_of[run[0]])]
            first, last = int(self.row_of[run[0]]), int(self.row_of[run[-1]])
            parts.append(source.read(self.variable.name, self.variable.levels, first, last + 1, step))
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        turned, slipped = self.mending.flipped[rows], self.mending.slip_of_row[rows]
        if turned.any():
            values = values.copy()
            values[turned] = values[turned, ::-1]
        if (slipped >= 0).any():
            values = values.copy()
            for number, slip in enumerate(self.mending.slips):
                there = slipped == number
                values[there] = slip.apply(values[there])
        return values

    def _leave_all_but(self, wanted: set[int]) -> None:
        """Releases the files that reading has moved on from, so that memory does not grow with their number."""
        for number in self._open - wanted:
            self.sources[number].release()
        self._open.clear()
        self._open.update(wanted)


def mendings_of(timelines: Mapping[str, Timeline]) -> dict[str, Mending]:
    """What is mended, by variable; those of which nothing is are left out."""
    return {n: t.mending for n, t in timelines.items() if t.mending.slips or t.mending.flipped.any()}


def join_by_time(
    variables: Sequence[Variable],
    holders: Mapping[str, Sequence[Source]],
    config: DataConfig,
    mendings: Mapping[str, Mending] | None,
) -> dict[str, Timeline]:
    """What moves, mended as the config says."""
    timelines = {v.name: _timeline(v, holders[v.name], config) for v in variables}
    if mendings is None:
        _tell_of_excluded(list(timelines.values()), config)
        for timeline in timelines.values():
            _refuse_lost_chunks(timeline)
        return _mended(timelines, config, holders[variables[0].name][0].grid)
    return {n: replace(t, mending=mendings.get(n, t.mending)) for n, t in timelines.items()}


def _timeline(variable: Variable, holders: Sequence[Source], config: DataConfig) -> Timeline:
    sources = tuple(sorted(holders, key=lambda s: s.times[0]))
    times = np.concatenate([s.times for s in sources])
    source_of = np.repeat(np.arange(len(sources)), [s.times.size for s in sources])
    row_of = np.concatenate([np.arange(s.times.size) for s in sources])
    order = np.argsort(times, kind="stable")
    times, source_of, row_of = times[order], source_of[order], row_of[order]
    keep = np.ones(times.size, bool)
    for first, last in config.exclude:
        keep &= (times < clock.parse_instant(first)) | (times > clock.parse_last(last))
    if not keep.any():
        raise DataError(f"data.exclude leaves no time of {variable.name}; shorten it")
    excluded = np.unique(times[~keep])
    times, source_of, row_of = times[keep], source_of[keep], row_of[keep]
    keep = np.ones(times.size, bool)
    for row in np.flatnonzero(np.diff(times) == np.timedelta64(0, "ns")):
        first, second = (sources[source_of[row + i]] for i in (0, 1))
        at = f"{variable.name} at {clock.text(times[row])}"
        if "duplicates" not in config.repair:
            there = "there twice" if first is second else f"in {first.path} too"
            raise DataError(
                f"{second.path}: {at} is {there}; remove one of them, or keep the first of equal ones by "
                "data.repair: [duplicates]"
            )
        one, other = (
            s.read(variable.name, variable.levels, int(r), int(r) + 1)
            for s, r in zip((first, second), row_of[row : row + 2], strict=True)
        )
        for source in (first, second):
            source.release()  # or memory grows with the number of files that share a time
        if not checks.are_one_field(one, other):
            there = "is there twice, and differs" if first is second else f"differs from what {first.path} holds"
            raise DataError(
                f"{second.path}: {at} {there}; take one of them out, or leave the time out by data.exclude (members of "
                "an ensemble are read one at a time)"
            )
        keep[row + 1] = False
    times, source_of, row_of = times[keep], source_of[keep], row_of[keep]
    return Timeline(variable, sources, times, source_of, row_of, Mending.none(times.size), excluded)


def _tell_of_excluded(timelines: Sequence[Timeline], config: DataConfig) -> None:
    """Says how many times ``data.exclude`` leaves out, and warns of what leaves out none: a slip in a date, perhaps."""
    excluded = np.unique(np.concatenate([timeline.excluded for timeline in timelines]))
    for first, last in config.exclude:
        if not ((excluded >= clock.parse_instant(first)) & (excluded <= clock.parse_last(last))).any():
            logger.warning("data.exclude: %s to %s excludes nothing", first, last)
    if excluded.size:
        logger.info("data.exclude: %d times left out", excluded.size)


def _refuse_lost_chunks(timeline: Timeline) -> None:
    """Refuses copies of Zarr stores in which files are missing: of what is never uniform, some are no empty chunks."""
    variable = timeline.variable
    if not is_never_uniform(variable.name, variable.units):
        return
    for number, source in enumerate(timeline.sources):
        lost = source.lost_chunks(variable.name)
        rows = np.flatnonzero(timeline.source_of == number) if lost is not None else np.empty(0, np.int64)
        if lost is not None and (there := lost[1][timeline.row_of[rows]]).any():
            raise DataError(
                f"{source.path}: {source.fields[variable.name].raw_name} lacks {lost[0]} of its chunk files, the first "
                f"at {clock.text(timeline.times[rows[there]][0])}, which would read as zeros: copy the store again, or "
                "leave these times out by data.exclude"
            )


def _mended(timelines: Mapping[str, Timeline], config: DataConfig, grid: Grid) -> dict[str, Timeline]:
    """The timelines with what ``data.repair`` asks for."""
    out = dict(timelines)
    if "unit_slips" in config.repair:  # first: a field in another unit is like none before it, mirrored or not
        on_pressure = config.vertical == "pressure"
        out = {name: _converted(timeline, on_pressure=on_pressure) for name, timeline in out.items()}
    if "flipped_latitudes" in config.repair:
        telling = {n: _turned_back(t, grid) for n, t in out.items() if tells_orientation(n, t.variable.units)}
        out = {n: telling.get(n) or _turned_along(t, list(telling.values()), grid) for n, t in out.items()}
        for timeline in out.values():
            _warn_of_the_unturned(timeline, list(telling.values()))
    return out


def _converted(timeline: Timeline, *, on_pressure: bool) -> Timeline:
    """The timeline with fields in an evidently other unit brought to SI; reads it once to find them."""
    variable = timeline.variable
    if not may_slip(variable.name, variable.units):
        return timeline
    grid = timeline.sources[0].grid
    summary, _ = quality.scan(timeline.read, timeline.times.size, grid, len(variable.levels))
    levels = variable.levels if variable.levels and on_pressure else (None,) * summary.low.shape[1]
    found = slips_of(variable.name, variable.units, levels, summary.low, summary.high)
    slips = tuple(slip for slip in dict.fromkeys(found) if slip is not None)
    slip_of_row = np.array([-1 if slip is None else slips.index(slip) for slip in found], np.int8)
    return replace(timeline, mending=replace(timeline.mending, slips=slips, slip_of_row=slip_of_row))


def _turned_back(timeline: Timeline, grid: Grid) -> Timeline:
    """The timeline with the latitudes of its flipped fields turned back; reads it once to find them.

    Raises:
      DataError: a file is brought to a grid on which exchanged latitudes are no mirror image any more, or nobody can
        tell which half of a stretch is flipped.
    """
    if timeline.times.size < 2:
        return timeline
    flipped, unclear = _orientation(timeline, grid)
    if unclear.any():
        ends = timeline.times[unclear][[0, -1]]
        source = timeline.sources[timeline.source_of[int(unclear.argmax())]]
        span = " to ".join(map(clock.text, ends))
        raise DataError(
            f"{source.path}: {timeline.variable.name} from {span}: {quality.UNCLEAR}; leave these times, or the wrong "
            "ones, out by data.exclude"
        )
    return _turned(timeline, flipped)


def _turned_along(timeline: Timeline, telling: Sequence[Timeline], grid: Grid) -> Timeline:
    """The timeline turned back where all that tell it in the same file are, at the same time.

    Of what the program does not know, and which is alone in its file, its own fields tell; sums are left alone there.
    """
    there, turned = _turned_beside(timeline, telling)
    shared, flipped = there > 0, (turned == there) & (there > 0)
    if not is_accumulation(timeline.variable.name) and timeline.times.size > 1 and not shared.all():
        own, unclear = _orientation(timeline, grid)
        flipped |= ~shared & own & ~unclear
    return _turned(timeline, flipped)


def _turned_beside(timeline: Timeline, telling: Sequence[Timeline]) -> tuple[np.ndarray, np.ndarray]:
    """How many others are in the same file at the same time, and how many of these are turned back, each ``(row,)``."""
    there, turned = np.zeros(timeline.times.size, np.int64), np.zeros(timeline.times.size, np.int64)
    files = np.array([id(source) for source in timeline.sources])[timeline.source_of]
    for other in telling:
        rows = np.minimum(np.searchsorted(other.times, timeline.times), other.times.size - 1)
        theirs = np.array([id(source) for source in other.sources])[other.source_of[rows]]
        together = (other.times[rows] == timeline.times) & (theirs == files)
        there += together
        turned += together & other.mending.flipped[rows]
    return there, turned


def _warn_of_the_unturned(timeline: Timeline, telling: Sequence[Timeline]) -> None:
    """Says where a variable is left as it is and others of its file are not: it may change too fast to be found."""
    left = (_turned_beside(timeline, telling)[1] > 0) & ~timeline.mending.flipped
    if left.any():
        message = "%s: %d times are left as they are, from %s, while others of their file are turned back: look at them"
        logger.warning(message, timeline.variable.name, int(left.sum()), clock.text(timeline.times[left][0]))


def _orientation(timeline: Timeline, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """``Orientation.judge`` of a timeline."""
    variable, times = timeline.variable, timeline.times
    for source in timeline.sources:
        if not source.mirrors_alike:
            raise DataError(
                f"{source.path}: data.repair: flipped_latitudes cannot be found once the fields are on another part of "
                f"the globe ({grid.describe()}); 'emulator inspect' finds them in the files: leave them out by "
                "data.exclude"
            )
    orientation = Orientation(np.diff(times).min(), grid)
    keep = partial(orientation.add, times)
    quality.scan(timeline.read, times.size, grid, len(variable.levels), None, keep)
    return orientation.judge(by_others=tells_orientation(variable.name, variable.units))


def _turned(timeline: Timeline, flipped: np.ndarray) -> Timeline:
    """The timeline with these rows turned round."""
    if flipped.any():
        span = clock.text(timeline.times[flipped][0])
        name = timeline.variable.name
        logger.warning("%s: %d times turned back north to south, from %s", name, int(flipped.sum()), span)
    return replace(timeline, mending=replace(timeline.mending, flipped=flipped))
