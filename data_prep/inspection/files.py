"""What each of some files holds as this program sees it, and what is wrong with it.

Refusals are those of preparation, since the same functions open the files; quality control reads every field once, a
block at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError
from data_prep.files.arrays import unbroken_runs
from data_prep.grid import Grid
from data_prep.reading import checks, quality
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location
from data_prep.reading.opening import open_to_release
from data_prep.reading.orientation import Orientation
from data_prep.reading.quality import Finding
from data_prep.reading.recognise import (
    canonical_name,
    find_axes,
    level_coordinate,
    numeric_fields,
    on_own_axes,
    scalar_pressure,
    vertical_kind,
    without_single_leads,
)
from data_prep.reading.slips import in_celsius
from data_prep.reading.sources import FoundField, Source, open_source, warn_of_slow_chunks
from data_prep.reading.units import conversion, is_direction, unit_of
from data_prep.spec import Vertical
from data_prep.variables import (
    SURFACE,
    accumulation_hours,
    is_accumulation,
    is_never_uniform,
    known,
    tells_orientation,
)

logger = logging.getLogger(__name__)

_MOST_REFUSED = 10  # files, after which no further one is opened
_SPARSE = "NaN in some points as a rule, as below high ground; it cannot be predicted there, so the level is left out"
_KEEP_ONE = "data.repair: [duplicates] keeps the first of equal ones"


@dataclass(frozen=True)
class FieldReport:
    """One variable of a file.

    Attributes:
      found: Where it is and what it is called.
      low, high: Range of its finite values in SI; NaN where there are none.
      missing: Share of points that are NaN.
      lacking: Whether points are missing as a rule, at all levels, so that it cannot be predicted.
      sparse: The levels at which they are, where it can be predicted at others: such as those below high ground.
      n_rows: At how many times, or days of the year, it was looked at.
      unchanging: Whether it repeats itself from the first time to the last.
      constant: Its levels that never and nowhere change; ``None`` stands for a surface field.
      findings: What is wrong with it.
    """

    found: FoundField
    low: float
    high: float
    missing: float
    lacking: bool
    sparse: tuple[float, ...]
    n_rows: int
    unchanging: bool
    constant: tuple[float | None, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class FileReport:
    """One file.

    Attributes:
      source: As preparation sees it.
      vertical: Kind of its levels, ``None`` where no variable has levels of pressure or sigma.
      fields: Its variables.
      skipped: Names of variables that no config can ask for, with the reason.
      findings: What is wrong with its time axis.
    """

    source: Source
    vertical: Vertical | None
    fields: tuple[FieldReport, ...]
    skipped: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]


def look_at_files(paths: Sequence[Location]) -> list[FileReport]:
    """Looks at files together, as the inputs of one data set: single levels are stacked, variables without a value left
    out, and times that an earlier file holds too are found.

    Raises:
      DataError: one line on what makes a file unusable, as preparation would give it; of several files that cannot be
        opened the log says so for each.
    """
    opened = _open_all(paths)
    try:
        files = _look_at(_stacked(_surfaces_that_stay(opened)))
    except DataError as error:
        raise _or_without_it(error, paths) from None
    return _with_gaps_between(_with_shared_times(_without_empty(files)))


def findings_of(file: FileReport) -> list[Finding]:
    """All of a file: of its time axis, then of its variables."""
    return [*file.findings, *(f for report in file.fields for f in report.findings)]


def used_files(files: Sequence[FileReport]) -> list[Location]:
    """All but those that hold nothing of use."""
    return [path for file in files if file.fields for path in file.source.paths]


def record_times(files: Sequence[FileReport]) -> np.ndarray:
    """All times of what moves, ascending."""
    fixed = fixed_variables(files)
    moving = [f.source.times for f in files if {r.found.name for r in f.fields if r.found.extent == "time"} - fixed]
    return np.unique(np.concatenate([np.empty(0, "datetime64[ns]"), *moving]))


def fixed_variables(files: Sequence[FileReport]) -> set[str]:
    """Names of what has no time, or a single one beside a record of many: orography and masks of any one day."""
    times: dict[str, list[np.ndarray]] = {}
    for file in files:
        for report in file.fields:
            some = file.source.times if report.found.extent == "time" else file.source.times[:0]
            times.setdefault(report.found.name, []).append(some)
    count = {name: np.unique(np.concatenate(parts)).size for name, parts in times.items()}
    return {name for name, n in count.items() if n <= 1 < max(count.values())}


def by_variable(files: Sequence[FileReport]) -> dict[str, list[FieldReport]]:
    """What the files say of each variable, by name."""
    out: dict[str, list[FieldReport]] = {}
    for report in (r for f in files for r in f.fields):
        out.setdefault(report.found.name, []).append(report)
    return out


def is_lacking(reports: Sequence[FieldReport]) -> bool:
    """Whether points of a variable are missing as a rule, of all files together: a file alone may be damaged."""
    found = reports[0].found
    if not quality.is_part_of_state(found.name, found.to_si.units):
        return any(r.lacking for r in reports)
    return mostly(reports, [r.lacking for r in reports])


def mostly(reports: Sequence[FieldReport], holds: Sequence[bool]) -> bool:
    """Whether something holds of the files that have half of the rows or more."""
    return sum(r.n_rows if yes else -r.n_rows for r, yes in zip(reports, holds, strict=True)) >= 0


@dataclass(frozen=True)
class _Opened:
    """A file of which the axes are known, and no field yet; attributes as of ``FileReport``."""

    source: Source
    vertical: Vertical | None
    fields: tuple[FoundField, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass
class _Followed:
    """A variable that runs over time, followed from file to file.

    Attributes:
      interval: Between its times.
      units: The SI unit that it is in.
      files: Those that hold it, by number, in the order of time.
      times: Of each.
      summaries: What was seen of each.
      orientation: Which way round its fields lie; ``None`` before the first file.
      end: The last one, what the variable is there, and ``quality.thin`` of its last row.
    """

    interval: np.timedelta64
    units: str = ""
    files: list[int] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    summaries: list[quality.Summary] = field(default_factory=list)
    orientation: Orientation | None = None
    end: tuple[Source, FoundField, np.ndarray] | None = None

    def scan(self, number: int, source: Source, found: FoundField) -> quality.Summary:
        """What is seen of the rows of the next file, which is kept."""
        before = self._before(source, found)
        orientation = self._oriented(source.grid, continues=before is not None) if source.times.size else None
        summary, last = _scan(source, found, before, orientation)
        self.units = self.units or found.to_si.units
        self.files.append(number)
        self.times.append(source.times)
        self.summaries.append(summary)
        self.end = source, found, last
        return summary

    def _before(self, source: Source, found: FoundField) -> np.ndarray | None:
        """A sample of the field that the first one of a file follows; ``None`` where it begins something new."""
        if self.end is None:
            return None
        last, as_found, sample = self.end
        alike = as_found.levels == found.levels and last.grid.matches(source.grid)
        step = source.times[0] - last.times[-1]
        return sample if alike and np.timedelta64(0, "ns") < step <= self.interval else None

    def _oriented(self, grid: Grid, *, continues: bool) -> Orientation:
        """What the orientation of a file's fields is added to."""
        if self.orientation is None:
            self.orientation = Orientation(self.interval, grid)
        if not continues:
            self.orientation.begin_anew()
        return self.orientation

    def flipped(self, name: str) -> Iterator[tuple[int, list[Finding]]]:
        """Files, and what is to be said of the rows of each that lie the other way round."""
        if self.orientation is None:
            return
        rows = self.orientation.judge(by_others=tells_orientation(name, self.units))
        parts = zip(*map(self._by_file, rows), strict=True)
        for number, times, (flipped, unclear) in zip(self.files, self.times, parts, strict=True):
            yield number, quality.judge_flips(flipped, unclear, times, name, self.units)

    def in_celsius(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """Files, and which rows of each are in degrees Celsius beside a record in K."""
        if len({summary.low.shape[1] for summary in self.summaries}) == 1:
            rows = in_celsius(name, self.units, self._of_all("low"), self._of_all("high"))
            yield from zip(self.files, self._by_file(rows), strict=True)

    def running(self, name: str) -> list[Finding]:
        """Whether sums of this name run up over several times, all files together."""
        rises, falls = self._of_all("rises"), self._of_all("falls")
        return quality.judge_sums(rises, falls, np.concatenate(self.times), self.interval, name)

    def _by_file(self, rows: np.ndarray) -> list[np.ndarray]:
        return np.split(rows, np.cumsum([times.size for times in self.times])[:-1])

    def _of_all(self, what: str) -> np.ndarray:
        return np.concatenate([getattr(summary, what) for summary in self.summaries])


def _open_all(paths: Sequence[Location]) -> list[_Opened]:
    """Opens each file and closes it again.

    Raises:
      DataError: one cannot be used, or several cannot, each of which the log names.
    """
    out: list[_Opened] = []
    refused: dict[Location, DataError] = {}
    for path in paths:
        try:
            out.append(_open(path))
        except DataError as error:
            refused[path] = error
            if len(refused) == _MOST_REFUSED:
                break
    if len(refused) == 1:
        raise _or_without_it(next(iter(refused.values())), paths) from None
    if refused:
        for why in refused.values():
            logger.error("%s", why)
        count = f"{len(refused)} files" + " or more" * (len(refused) == _MOST_REFUSED)
        raise DataError(
            f"{count} of {len(paths)} cannot be used, for what is said above of each: mend them, or leave them out: "
            f"{', '.join(map(str, refused))}"
        )
    return out


def _or_without_it(error: DataError, paths: Sequence[Location]) -> DataError:
    """What is wrong with a file, and that the others may do without it, if there are others."""
    if len(paths) == 1:
        return error
    return DataError(f"{error}; or leave this file out: files that are named together make one data set")


def _open(path: Location) -> _Opened:
    """Opens a file and closes it again, until its fields are looked at."""
    data, release = open_to_release(path)
    try:
        return _understood(path, without_single_leads(on_own_axes(data)))
    finally:
        release()


def _understood(path: Location, data: xr.Dataset) -> _Opened:
    """Finds axes and variables."""
    candidates = list(numeric_fields(data))
    axes = find_axes(path, data[candidates]) if candidates else None
    horizontal = {axes.latitude, axes.longitude} if axes is not None else set()
    vertical: Vertical | None = None
    names: dict[str, tuple[str, ...]] = {}
    skipped: list[tuple[str, str]] = []
    for raw_name in candidates:
        variable = data[raw_name]
        if not horizontal <= set(variable.dims):
            skipped.append((raw_name, f"no field: it runs over {', '.join(map(str, variable.dims))}"))
            continue
        axis = level_coordinate(variable)
        canonical = canonical_name(variable)
        entry = known(canonical or "")
        kind = vertical_kind(variable[axis])[0] if axis is not None and axis in variable.coords else None
        if axis is None and entry is not None and entry.on_levels and scalar_pressure(variable) is not None:
            kind = "pressure"
        try:
            conversion(canonical or raw_name, unit_of(variable), raw_name)
        except DataError as error:
            skipped.append((raw_name, str(error).removeprefix(f"{raw_name}: ")))
            continue
        if kind in ("pressure", "sigma") and (entry is not None or variable.sizes[axis] > 1):
            if vertical is not None and kind != vertical:
                skipped.append((raw_name, f"its levels are {kind}, those of other variables {vertical}"))
                continue
            vertical = "pressure" if kind == "pressure" else "sigma"
        elif axis is not None and variable.sizes[axis] > 1:
            skipped.append((raw_name, f"{variable.sizes[axis]} levels along {axis}, neither pressure nor sigma"))
            continue
        # two variables may be one in the program's eyes: whichever has its very name is it, another keeps its own
        taken = canonical in names or (canonical != raw_name and canonical in candidates)
        names[raw_name if canonical is None or taken else canonical] = (raw_name,)
    if not names:
        if skipped:
            raise DataError(f"{path}: no variable can be used: {', '.join(f'{n} ({why})' for n, why in skipped)}")
        listed = ", ".join(map(str, data.data_vars)) or "no variables"
        raise DataError(f"{path}: no fields over latitude and longitude; it holds {listed}")
    source = open_source(path, names, vertical, admit_duplicates=True)
    if names.get(SURFACE, (SURFACE,)) != (SURFACE,) and _changes(source, SURFACE):
        source = _without_surface(source, vertical)
    once = np.unique(source.times)
    interval = checks.interval_of(once, str(path)) if once.size > 1 else np.timedelta64(0, "ns")
    fields = []
    for found in source.fields.values():
        if (reason := _of_no_use(found, interval)) is not None:
            skipped.append((found.raw_name, reason))
        else:
            fields.append(found)
    source.release()
    return _Opened(source, vertical, tuple(fields), tuple(skipped))


def _without_surface(source: Source, vertical: Vertical | None) -> Source:
    """The file, its geopotential under its own name: of some pressure level, of which the file says nothing."""
    names = {f.raw_name if f.name == SURFACE else f.name: (f.raw_name,) for f in source.fields.values()}
    return open_source(source.path, names, vertical, admit_duplicates=True)


def _surfaces_that_stay(files: Sequence[_Opened]) -> list[_Opened]:
    """The same files; what each of them takes for the surface's geopotential is not if it differs among them."""
    first: np.ndarray | None = None
    for source in (file.source for file in files if _may_be_of_a_level(file.source)):
        field = source.read(SURFACE, ())
        source.release()
        first = field if first is None else first
        if field.shape == first.shape and not checks.are_one_field(first, field):
            return [_on_some_level(file) if _may_be_of_a_level(file.source) else file for file in files]
    return list(files)


def _may_be_of_a_level(source: Source) -> bool:
    found = source.fields.get(SURFACE)
    return found is not None and found.raw_name != SURFACE and found.extent == "time"


def _on_some_level(file: _Opened) -> _Opened:
    source, kept = _without_surface(file.source, file.vertical), {found.raw_name for found in file.fields}
    source.release()
    return replace(file, source=source, fields=tuple(f for f in source.fields.values() if f.raw_name in kept))


def _stacked(files: Sequence[_Opened]) -> list[_Opened]:
    """The same files, those that hold levels of their own as one."""
    of = {file.source.path: file for file in files}
    out = []
    for source in stack_levels([file.source for file in files]):
        parts = [of[path] for path in source.paths]
        names = {found.name for part in parts for found in part.fields}
        out.append(
            _Opened(
                source,
                next((part.vertical for part in parts if part.vertical is not None), None),
                tuple(found for name, found in source.fields.items() if name in names),
                tuple(dict.fromkeys(skipped for part in parts for skipped in part.skipped)),
            )
        )
    return out


def _look_at(files: Sequence[_Opened]) -> list[FileReport]:
    """Reads every field once, files in the order of time: what one ends with is handed on to the next."""
    warn_of_slow_chunks(
        (file.source, found.name, quality.rows_at_once(file.source.grid, len(found.levels)))
        for file in files
        for found in file.fields
    )
    followed = {name: _Followed(interval) for name, interval in _intervals(files).items()}
    summaries: dict[tuple[int, str], quality.Summary] = {}
    for number in sorted(range(len(files)), key=lambda n: files[n].source.times[:1].tolist()):
        file = files[number]
        for found in file.fields:
            if found.extent == "time":
                summary = followed[found.name].scan(number, file.source, found)
            else:
                summary, _ = _scan(file.source, found, None, None)
            summaries[number, found.name] = summary
        file.source.release()
    celsius = {(n, name): rows for name, thread in followed.items() for n, rows in thread.in_celsius(name)}
    reports = {
        (number, found.name): _judged(file, found, summaries[number, found.name], celsius.get((number, found.name)))
        for number, file in enumerate(files)
        for found in file.fields
    }

    def add(number: int, name: str, findings: Sequence[Finding]) -> None:
        report = reports[number, name]
        reports[number, name] = replace(report, findings=(*report.findings, *findings))

    for name, thread in followed.items():
        first = thread.files[0]
        for number, flips in thread.flipped(name):
            add(number, name, flips)
        if is_accumulation(name):
            add(first, name, thread.running(name))
        for number, lost in _uniform_files({n: reports[n, name] for n in thread.files}, files):
            add(number, name, lost)
    return [
        FileReport(
            file.source,
            file.vertical,
            tuple(reports[number, found.name] for found in file.fields),
            file.skipped,
            (*_grid_findings(file.source), *_time_findings(file.source)),
        )
        for number, file in enumerate(files)
    ]


def _uniform_files(reports: Mapping[int, FieldReport], files: Sequence[_Opened]) -> Iterator[tuple[int, list[Finding]]]:
    """The files in which a level of a variable has one value everywhere, and which others tell to be no constant."""
    varying = {level for r in reports.values() for level in (r.found.levels or (None,)) if level not in r.constant}
    for number, report in reports.items():
        found, times = report.found, files[number].source.times
        if is_never_uniform(found.name, found.to_si.units):
            lost = [level for level in report.constant if level in varying]
            channels = [found.name if level is None else f"{found.name}@{level:g}" for level in lost]
            ends = times[0], times[-1], times.size
            yield number, [Finding("error", "uniform", channel, *ends, quality.UNIFORM) for channel in channels]


def _intervals(files: Sequence[_Opened]) -> dict[str, np.timedelta64]:
    """The smallest step of each variable that runs over time, over all files; zero of a single time."""
    times: dict[str, list[np.ndarray]] = {}
    for file in files:
        for found in file.fields:
            if found.extent == "time":
                times.setdefault(found.name, []).append(file.source.times)
    steps = {name: np.diff(np.unique(np.concatenate(parts))) for name, parts in times.items()}
    return {name: some.min() if some.size else np.timedelta64(0, "ns") for name, some in steps.items()}


def _changes(source: Source, name: str) -> bool:
    """Whether the last field of a variable differs from the first."""
    found = source.fields[name]
    if found.extent != "time" or source.times.size < 2:
        return False
    first, last = (source.read(name, found.levels, row, row + 1) for row in (0, source.times.size - 1))
    return not np.array_equal(first, last, equal_nan=True)


def _of_no_use(found: FoundField, interval: np.timedelta64) -> str | None:
    """Why a section does without a variable that can be read; ``None`` where it does not."""
    raw_name = found.raw_name
    if is_direction(raw_name, found.standard_name, found.to_si.units):
        return "an angle: 359 and 1 degrees, which are neighbours, would be far apart; give its sine and cosine instead"
    if raw_name.startswith("toa_incident_solar_radiation"):
        return "the program computes the sun itself, for any time"
    hours = accumulation_hours(raw_name)
    if interval and hours is not None and hours != clock.hours(interval):
        return f"its sums overlap: they run over {hours:g} h, the times are {clock.hours(interval):g} h apart"
    return None


def _scan(
    source: Source, found: FoundField, before: np.ndarray | None, orientation: Orientation | None
) -> tuple[quality.Summary, np.ndarray]:
    """What is seen of the rows of a variable, and ``quality.thin`` of the last one; adds its orientation."""

    def read(start: int, stop: int) -> np.ndarray:
        return source.read(found.name, found.levels, start, stop)

    keep = None if orientation is None else partial(orientation.add, source.times)
    return quality.scan(read, source.n_rows(found.name), source.grid, len(found.levels), before, keep)


def _judged(file: _Opened, found: FoundField, summary: quality.Summary, celsius: np.ndarray | None) -> FieldReport:
    """A variable of a file, by what was seen of its rows; ``celsius`` as of ``quality.judge``."""
    source, n_rows = file.source, summary.low.shape[0]
    findings = quality.judge(
        summary,
        source.times if found.extent == "time" else np.empty(0, "datetime64[ns]"),
        found.name,
        found.to_si.units,
        found.levels,
        on_pressure=file.vertical == "pressure",
        celsius=celsius,
    )
    some = np.isfinite(summary.low).any()
    low, high = (float(np.nanmin(summary.low)), float(np.nanmax(summary.high))) if some else (np.nan, np.nan)
    missing = float(summary.missing.mean())
    by_rule = np.median(summary.missing, axis=0) > 0
    of_state = quality.is_part_of_state(found.name, found.to_si.units)
    lacking = bool(by_rule.all()) if of_state else missing > 0
    sparse = tuple(level for level, some in zip(found.levels, by_rule, strict=False) if some and not lacking)
    sparse = sparse if of_state else ()
    channels = {f"{found.name}@{level:g}" for level in sparse}
    findings = [f for f in findings if f.kind != "missing" or f.channel not in channels]
    findings += [Finding("warning", "missing", channel, None, None, n_rows, _SPARSE) for channel in sorted(channels)]
    unchanging, constant = quality.never_changes(summary), quality.constant_levels(summary, found.levels)
    return FieldReport(found, low, high, missing, lacking, sparse, n_rows, unchanging, constant, tuple(findings))


def _without_empty(files: Sequence[FileReport]) -> list[FileReport]:
    """Leaves out the variables that have no value in any of the files."""
    filled = {r.found.name for f in files for r in f.fields if np.isfinite(r.low)}
    out = []
    for file in files:
        empty = [(r.found.raw_name, "no point has a value") for r in file.fields if r.found.name not in filled]
        fields = tuple(r for r in file.fields if r.found.name in filled)
        out.append(replace(file, fields=fields, skipped=(*file.skipped, *empty)))
    return out


def _with_shared_times(files: Sequence[FileReport]) -> list[FileReport]:
    """Finds the times of each file at which one before it holds the same variable, at the same level."""
    fixed = fixed_variables(files)
    holders: dict[tuple[str, float | None], list[int]] = {}
    for number, file in enumerate(files):
        for found in (r.found for r in file.fields if r.found.extent == "time" and r.found.name not in fixed):
            for level in found.levels or (None,):
                holders.setdefault((found.name, level), []).append(number)
    shared: list[dict[np.datetime64, int]] = [{} for _ in files]  # the file before that holds it, by time
    for numbers in set(map(tuple, holders.values())):
        times = np.concatenate([files[n].source.times for n in numbers])
        holder = np.repeat(numbers, [files[n].source.times.size for n in numbers])
        _, first, where = np.unique(times, return_index=True, return_inverse=True)
        for row in np.flatnonzero(holder != holder[first[where]]):
            shared[holder[row]][times[row]] = int(holder[first[where[row]]])
    out = []
    for file, some in zip(files, shared, strict=True):
        own = np.unique(file.source.times) if some else file.source.times[:0]
        before = np.array([some.get(time, -1) for time in own], np.int64)
        new = [
            _twice(own, before == number, f"in {files[number].source.path} and {file.source.path}")
            for number in sorted(set(some.values()))
        ]
        out.append(replace(file, findings=(*file.findings, *(finding for found in new for finding in found))))
    return out


def _twice(times: np.ndarray, rows: np.ndarray, where: str) -> list[Finding]:
    """Unbroken runs of the times, ascending and unique, that are there more than once."""
    text = f"{where}; {_KEEP_ONE}"
    return [
        Finding("error", "duplicate", "time", times[run[0]], times[run[-1]], run.size, text)
        for run in unbroken_runs(np.flatnonzero(rows))
    ]


def _with_gaps_between(files: Sequence[FileReport]) -> list[FileReport]:
    """Finds the gaps of the record that lie between files, told of the file that goes on; each tells of its own."""
    times = record_times(files)
    steps = np.diff(times)
    if steps.size == 0:
        return list(files)
    numbers = np.repeat(np.arange(len(files)), [file.source.times.size for file in files])
    held, first = np.unique(np.concatenate([file.source.times for file in files]), return_index=True)
    spans = sorted((t.min(), t.max()) for file in files if (t := file.source.times).size)
    begins, ends = map(np.array, zip(*spans, strict=True))
    reach = np.maximum.accumulate(ends)[np.searchsorted(begins, times[:-1], side="right") - 1]  # of those begun so far
    new: list[list[Finding]] = [[] for _ in files]
    for row in np.flatnonzero((steps > steps.min()) & (reach < times[1:])):
        number = numbers[first[np.searchsorted(held, times[row + 1])]]
        new[number].append(_gap(times[row], times[row + 1], steps.min(), " between files"))
    return [replace(file, findings=(*file.findings, *gaps)) for file, gaps in zip(files, new, strict=True)]


def _gap(before: np.datetime64, after: np.datetime64, interval: np.timedelta64, where: str = "") -> Finding:
    lacking = max(int((after - before) // interval) - 1, 1)
    text = f"{lacking} times missing{where}; a new segment begins"
    return Finding("warning", "gap", "time", before + interval, after - interval, lacking, text)


def _grid_findings(source: Source) -> list[Finding]:
    if (how := source.grid.unevenness) is None:
        return []
    return [Finding("warning", "uneven grid", "grid", None, None, 1, f"{how}; is a column missing?")]


def _time_findings(source: Source) -> list[Finding]:
    """Times that occur twice, and gaps."""
    times, counts = np.unique(source.times, return_counts=True)
    out = _twice(times, counts > 1, f"occurs twice in {source.path}")
    if times.size > 1:
        steps = np.diff(times)
        interval = steps.min()
        for row in np.flatnonzero(steps > interval):
            out.append(_gap(times[row], times[row + 1], interval))
    return out
