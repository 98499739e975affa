"""A record cut at its gaps and thinned to the model's time step, and what values over intervals become by that."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.reading import checks, quality
from data_prep.reading.locations import Location, stem
from data_prep.reading.opening import format_of
from data_prep.reading.sources import Source
from data_prep.reading.timelines import Timeline
from data_prep.variables import (
    accumulation_hours,
    changes_every_step,
    is_accumulation,
    is_never_uniform,
    known,
    tells_orientation,
)

logger = logging.getLogger(__name__)

_ERA5_SUM_HOURS = 1.0
_TOLD = 5  # lines of the log about gaps, and about stretches too short


@dataclass(frozen=True, eq=False)
class RawSegment:
    """An unbroken stretch of the record at the model's time step.

    Attributes:
      name: The file it begins in.
      times: ``datetime64[ns]`` ``(time,)``, evenly spaced.
      first_row: Row of ``times[0]`` on the timelines.
      stride: Rows of the files per model step.
      timelines: By canonical name.
      grid: Of all fields.
      number: Of the stretch of the files that it is of, from 0: those that ``data.exclude`` cuts out of one share it.
    """

    name: str
    times: np.ndarray
    first_row: int
    stride: int
    timelines: Mapping[str, Timeline]
    grid: Grid
    number: int
    _last: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False)  # a sample, the index after it

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """One variable at times ``[start, stop)``: SI, float32 ``(time, latitude, longitude, level)``.

        Precipitation is summed over the model step, everything else taken at its end.

        Raises:
          DataError: a field repeats the one before it, is turned round against it, or is uniform where it is not.
        """
        values = self._read(name, start, stop)
        variable = self.timelines[name].variable
        if tells_orientation(name, variable.units):
            self._check_sequence(name, values, start)
        return values

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        first, last = (self.first_row + i * self.stride for i in (start, stop - 1))
        timeline = self.timelines[name]
        if is_accumulation(name) and self.stride > 1:
            # in canonical order, so that the last bit of the sum does not depend on that of the file
            raw = np.ascontiguousarray(timeline.read(first - self.stride + 1, last + 1))
            return np.sum(raw.reshape(stop - start, self.stride, *raw.shape[1:]), axis=1)
        return timeline.read(first, last + 1, self.stride)

    def _check_sequence(self, name: str, values: np.ndarray, start: int) -> None:
        """Compares fields with those before them; the one before the block is read again only out of order."""
        index, sample = self._last.get(name, (-1, None))
        before = sample if index == start else None
        if before is None and start > 0:
            before = quality.thin(self._read(name, start - 1, start))
        samples = quality.thin(values)
        stuck, mirrored = quality.compare(samples, before, self.grid)
        # both at once: another thread may be reading the next rows
        self._last[name] = start + values.shape[0], samples[-1:].copy()
        variable = self.timelines[name].variable
        stuck &= changes_every_step(name, variable.units)  # the sea may well stay as it is

        def channel(of_levels: np.ndarray) -> str:
            return f"{name}@{variable.levels[int(of_levels.argmax())]:g}" if variable.levels else name

        for row in np.flatnonzero(stuck.any(axis=1) | mirrored)[:1]:
            where, at = self.path_of(name, start + row), clock.text(self.times[start + row])
            if mirrored[row]:
                raise DataError(
                    f"{where}: {name} is turned north to south at {at} against the time before; 'emulator inspect' "
                    "lists all such times; mend them by data.repair: [flipped_latitudes]"
                )
            raise DataError(
                f"{where}: {channel(stuck[row])} at {at} repeats the field before it bit by bit; 'emulator inspect' "
                "lists all such times; leave them out by data.exclude"
            )
        if is_never_uniform(name, variable.units):
            uniform = quality.uniform(samples if before is None else np.concatenate([before, samples]))
            first = start if before is None else start - 1
            for row in np.flatnonzero((uniform[1:] != uniform[:-1]).any(axis=1))[:1]:
                level = uniform[1:][row] != uniform[:-1][row]
                index = first + row + int(uniform[row + 1][level].any())
                where, at = self.path_of(name, index), clock.text(self.times[index])
                raise DataError(
                    f"{where}: {channel(level)} at {at} {quality.UNIFORM} "
                    "'emulator inspect' lists all such times; leave them out by data.exclude"
                )

    def path_of(self, name: str, index: int) -> Location:
        """The file that holds a variable at ``times[index]``."""
        return next(self.files_of(name, index, index + 1))[0]

    def files_of(self, name: str, start: int, stop: int) -> Iterator[tuple[Location, slice]]:
        """The files that hold a variable at times ``[start, stop)``, and which of these each of them holds."""
        timeline = self.timelines[name]
        numbers = timeline.source_of[self.first_row + np.arange(start, stop) * self.stride]
        for run in np.split(np.arange(stop - start), np.flatnonzero(np.diff(numbers)) + 1):
            yield timeline.sources[int(numbers[run[0]])].path, slice(int(run[0]), int(run[-1]) + 1)


def cut_into_segments(
    timelines: Mapping[str, Timeline], timestep: np.timedelta64, grid: Grid
) -> tuple[RawSegment, ...]:
    """Cuts the record at its gaps and thins it to the model's time step."""
    reference = next(iter(timelines.values()))
    for timeline in timelines.values():
        checks.refuse_monthly(timeline.times, f"{timeline.sources[0].path}: {timeline.variable.name}")
        _refuse_other_times(timelines.values(), timeline, reference)
    times, where = reference.times, str(reference.sources[0].path)
    interval = checks.interval_of(times, where)
    if timestep < interval or timestep % interval != np.timedelta64(0, "ns"):
        raise DataError(
            f"{where}: data.timestep_hours {clock.hours(timestep):g} is no multiple of the files' interval, "
            f"{clock.hours(interval):g} h"
        )
    _check_alike(reference, interval)
    if checks.is_one_day_a_month(times):
        _refuse_means_by_hour(timelines, where)
    _warn_of_intervals(timelines, interval, timestep)
    stride = int(timestep // interval)
    sums = [name for name in timelines if is_accumulation(name)]
    for name in sums:
        check_accumulation(timelines[name], timestep, interval)
    breaks = np.flatnonzero(np.diff(times) != interval) + 1
    bounds = [0, *breaks.tolist(), times.size]
    out: list[RawSegment] = []
    gaps, short = [], []
    number, used = 0, False  # of the stretch of the files, and whether a segment is of it
    for first, last in pairwise(bounds):
        path = reference.sources[reference.source_of[first]].path
        if used and not _is_left_out(reference, times[first - 1], times[first], interval):
            number, used = number + 1, False
        if first:
            why = _why_not(reference, times[first - 1], times[first], interval)
            span = " and ".join(clock.text(t) for t in times[first - 1 : first + 1])
            gaps.append(f"{why} between {span}: a new segment begins")
        begin = _first_kept(times[first:last], timestep, stride, needs_history=bool(sums))
        kept = times[first:last][begin::stride]
        if kept.size < 2:
            short.append(f"{path}: the stretch at {clock.text(times[first])} holds less than two steps and is left out")
            continue
        name = stem(path)
        count = sum(s.name == name or s.name.startswith(f"{name}.") for s in out)
        name, used = f"{name}.{count}" if count else name, True
        out.append(RawSegment(name, kept, first + begin, stride, timelines, grid, number))
    _tell(gaps, logging.INFO)
    _tell(short, logging.WARNING)
    if not out:
        raise DataError(f"{where}: no stretch of data holds two consecutive steps of {clock.hours(timestep):g} h")
    return tuple(out)


def _refuse_other_times(timelines: Collection[Timeline], timeline: Timeline, reference: Timeline) -> None:
    """Refuses a variable that is not at the times of another, ``reference``; ``timelines`` are of all of them."""
    odd = np.setxor1d(timeline.times, reference.times)
    if odd.size == 0:
        return
    _refuse_another_name(timelines, (timeline, reference))
    lacking, having = (timeline, reference) if odd[0] in reference.times else (reference, timeline)
    holder = having.sources[having.source_of[np.searchsorted(having.times, odd[0])]]
    remedy = _how_to_share(odd.size, timeline, reference) or "add it, or leave these times out by data.exclude"
    raise DataError(
        f"{holder.path}: holds {having.variable.name} at {clock.text(odd[0])}, and no file holds "
        f"{lacking.variable.name} then ({odd.size} times differ); {remedy}"
    )


def _refuse_means_by_hour(timelines: Mapping[str, Timeline], where: str) -> None:
    """Refuses one day a month where a file says that it holds means; warns where none does."""
    if means := over_interval_names(timelines, "mean"):
        raise DataError(
            f"{where}: one day a month, and means by what it says of {', '.join(means)}: monthly means by hour of "
            "the day, which hold no weather; give it fields at instants, such as every six hours"
        )
    logger.warning("%s: one day a month; if these are monthly means by hour of the day, they hold no weather", where)


def _tell(lines: Sequence[str], level: int) -> None:
    """Logs lines alike: of many the first and the last."""
    if len(lines) > _TOLD:
        lines = [*lines[: _TOLD - 2], f"({len(lines) - _TOLD + 1} more like these)", lines[-1]]
    for line in lines:
        logger.log(level, "%s", line)


def _is_left_out(timeline: Timeline, before: np.datetime64, after: np.datetime64, interval: np.timedelta64) -> bool:
    """Whether the files hold all that lies between two times, and ``data.exclude`` leaves it out."""
    return bool(_count_left_out(timeline, before, after) == (after - before) // interval - 1)


def _count_left_out(timeline: Timeline, before: np.datetime64, after: np.datetime64) -> int:
    first, last = np.searchsorted(timeline.excluded, [before, after])
    return int(last - first)


def _why_not(timeline: Timeline, before: np.datetime64, after: np.datetime64, interval: np.timedelta64) -> str:
    """Why there is nothing between two times, for the log."""
    some = _count_left_out(timeline, before, after)
    if _is_left_out(timeline, before, after, interval):
        return f"{some} times left out by data.exclude"
    return f"no data, and {some} times left out by data.exclude," if some else "no data"


_OVER_INTERVALS: tuple[tuple[str, str, str], ...] = (
    (
        "sum",
        "sums",
        "only total_precipitation_6hr and the like are summed over the step of %s (of which all rain and snow may be "
        "the source); sum the others before, or leave them out",
    ),
    ("mean", "means", "for means over the step of %s take them before"),
    ("maximum", "maxima", "for maxima over the step of %s take them before"),
    ("minimum", "minima", "for minima over the step of %s take them before"),
)
"""What values may be over intervals, the same of several, and what is said where they are thinned."""


def _warn_of_intervals(timelines: Mapping[str, Timeline], interval: np.timedelta64, timestep: np.timedelta64) -> None:
    """Says what is lost of values over intervals: they are taken as instants, or thinned."""
    reference = next(iter(timelines.values()))
    times, where = reference.times, str(reference.sources[0].path)
    phase = (times - times.astype("datetime64[D]")) % interval
    means = over_interval_names(timelines, "mean")
    if (2 * phase == interval).all() and (means or phase[0] % np.timedelta64(1, "h")):
        at = f"{clock.text(times[0])[-5:]} every {clock.hours(interval):g} h"
        logger.warning(
            "%s: times in the middle of intervals (%s), as means have; they are taken as instants", where, at
        )
    elif means and timestep == interval:
        logger.warning("%s: %s: means over intervals, taken as instants at their times", where, ", ".join(means))
    stride = int(timestep // interval)
    for kind, several, remedy in _OVER_INTERVALS if stride > 1 else ():
        if lost := [name for name in over_interval_names(timelines, kind) if not is_accumulation(name)]:
            of, by = (f"{clock.hours(span):g} h" for span in (interval, timestep))
            message = f"%s: %s: {several} over %s, of which one of %d is taken; {remedy}"
            logger.warning(message, where, ", ".join(lost), of, stride, by)


def over_interval_names(timelines: Mapping[str, Timeline], kind: str) -> list[str]:
    """Names of the variables of which a file says that values are that over intervals, be it by their unit."""
    return [n for n, t in timelines.items() if any(s.fields[n].over_interval == kind for s in t.sources)]


def _how_to_share(differing: int, one: Timeline, other: Timeline) -> str:
    """What to do about variables at other intervals, or with no time in common as days told by noon and by midnight."""
    coarse, fine = sorted((one, other), key=lambda timeline: timeline.times.size)
    if coarse.times.size > 2 and np.isin(coarse.times, fine.times).all():
        long, short = (np.median(np.diff(t.times) / np.timedelta64(1, "h")) for t in (coarse, fine))
        if long > short:
            return (
                f"{coarse.variable.name} comes every {long:g} h and {fine.variable.name} every {short:g} h: thin the "
                "finer one before (rain summed)"
            )
    if differing < one.times.size + other.times.size or _on_one_clock(one, other):
        return ""
    first = " and ".join(f"{t.variable.name} {clock.text(t.times[0])}" for t in (one, other))
    return f"they share none (the first are {first}): shift the times of one, if both mean the same (cdo shifttime)"


def _on_one_clock(*timelines: Timeline) -> bool:
    """Whether the times of variables are whole intervals apart, of that which has the shortest."""
    steps = [np.diff(timeline.times).min() for timeline in timelines if timeline.times.size > 1]
    times = np.concatenate([timeline.times for timeline in timelines])
    return bool(steps) and not ((times - times[0]) % min(steps)).any()


def _refuse_another_name(all_of_them: Iterable[Timeline], odd: Sequence[Timeline]) -> None:
    """Refuses a variable that is there where another one is not, and may be the same: some files may call it otherwise.

    Raises:
      DataError: there is such a pair, one of them among the odd ones.
    """
    for one in odd:
        for other in all_of_them:
            if other is not one and _may_be_the_same(one, other):
                rare, usual = sorted((one, other), key=lambda timeline: timeline.times.size)
                path, more = rare.sources[0].path, len(rare.sources) - 1
                name, wanted = (t.sources[0].fields[t.variable.name].raw_name for t in (rare, usual))
                called = name if name == rare.variable.name else f"{rare.variable.name} ({name})"
                file = shlex.quote(str(path))
                rename = f"ncrename -v {name},{wanted} {file}" if format_of(path) == "NetCDF" else f"call it {wanted}"
                if more:
                    raise DataError(
                        f"{path} and {more} more: only these files hold {called}, and they lack {wanted}: is it the "
                        f"same under another name? {rename} and so on, or leave the files out"
                    )
                raise DataError(
                    f"{path}: only this file holds {called}, and it lacks {wanted}: is it the same under another name? "
                    f"{rename}, or leave the file out"
                )


def _may_be_the_same(one: Timeline, other: Timeline) -> bool:
    """Whether two variables, of which the program does not know both, are alike and fill each other's gaps."""
    a, b = one.variable, other.variable
    alike = a.units == b.units and a.levels == b.levels and None in (known(a.name), known(b.name))
    return alike and not np.isin(one.times, other.times).any() and _on_one_clock(one, other)


def _check_alike(timeline: Timeline, interval: np.timedelta64) -> None:
    """Refuses files at a longer interval than the record's: each of their times would be a stretch of its own."""
    times = timeline.times
    far = np.diff(times) != interval
    alone = np.append(far, True) & np.append(True, far)
    n_files = len(timeline.sources)
    held, lone = (np.bincount(rows, minlength=n_files) for rows in (timeline.source_of, timeline.source_of[alone]))
    held, lone = np.append(held, times.size), np.append(lone, alone.sum())  # all together, where each holds one time
    for number in np.flatnonzero((held > 2) & (2 * lone > held))[:1]:
        own = timeline.source_of == number if number < n_files else np.ones(times.size, bool)
        apart = clock.hours(np.median(np.diff(times[own & alone]).astype(np.int64)).astype("timedelta64[ns]"))
        coarse, fine = (timeline.sources[timeline.source_of[row]] for row in (np.argmax(own & alone), far.argmin()))
        raise DataError(
            f"{coarse.path}: most times are {apart:g} h apart, but {clock.hours(interval):g} h in {fine.path} at "
            f"{clock.text(times[far.argmin()])}; files that are read together need one interval: thin the finer "
            "ones before (rain summed), or leave some out"
        )


def _first_kept(times: np.ndarray, timestep: np.timedelta64, stride: int, *, needs_history: bool) -> int:
    """The row that thinning begins with: aligned to midnight, and late enough for a whole interval of accumulation."""
    phase = (times - times[0].astype("datetime64[D]")) % timestep
    earliest = stride - 1 if needs_history else 0
    candidates = np.flatnonzero(phase == phase.min())
    candidates = candidates[candidates >= earliest]
    return int(candidates[0]) if candidates.size else times.size


def check_accumulation(timeline: Timeline, timestep: np.timedelta64, interval: np.timedelta64) -> None:
    """A sum over the model step is made of sums over the files' interval; names and bounds must not say otherwise."""
    name, length = timeline.variable.name, clock.hours(interval)
    silent = []
    stops = np.cumsum(np.bincount(timeline.source_of, minlength=len(timeline.sources)))
    rows_of = np.split(np.argsort(timeline.source_of, kind="stable"), stops[:-1])
    for source, rows in zip(timeline.sources, rows_of, strict=True):
        raw_name = source.fields[name].raw_name
        stated = accumulation_hours(raw_name)
        if stated not in (None, length):
            raise DataError(
                f"{source.path}: {raw_name} holds sums over another interval than that of its times, "
                f"{length:g} h; name one that does as source of data.diagnostic.{name}"
            )
        if source.bounds is not None:
            _check_bounds(timeline, source, rows, interval)
        elif stated is None:
            silent.append(source)
    if silent and length > _ERA5_SUM_HOURS:
        logger.warning(
            "%s: %s: taken as sums over %g h, the interval of its times; ERA5's tp is a sum over 1 h: of that take all "
            "hours; if these are sums over %g h, call it total_precipitation_%ghr in the files",
            *(silent[0].path, silent[0].fields[name].raw_name, length, length, length),
        )
    if accumulation_hours(name) not in (None, clock.hours(timestep)):
        raise DataError(
            f"data.diagnostic.{name}: precipitation is summed over the model step of {clock.hours(timestep):g} h; "
            f"name it total_precipitation_{clock.hours(timestep):g}hr and give its name in the files as source"
        )


def _check_bounds(timeline: Timeline, source: Source, rows: np.ndarray, interval: np.timedelta64) -> None:
    """Refuses a file of which the bounds of a time say that its sum is not over the interval that ends there.

    ``rows`` are those of the timeline that the file holds.
    """
    assert source.bounds is not None
    first, last = source.bounds[timeline.row_of[rows]].T
    # on the calendars of climate models the interval before a day that they lack is longer
    length = (last - first == interval) | (first == timeline.times[rows - 1])
    for right, remedy in (
        (last == timeline.times[rows], "a sum belongs to the interval that ends at its time: set the time to that end"),
        (length, f"the times are {clock.hours(interval):g} h apart: take sums over that"),
    ):
        if not right.all():
            row = int(np.argmin(right))
            raise DataError(
                f"{source.path}: {source.fields[timeline.variable.name].raw_name} at "
                f"{clock.text(timeline.times[rows[row]])} runs from {clock.text(first[row])} to "
                f"{clock.text(last[row])} by the bounds of its time; {remedy}"
            )
