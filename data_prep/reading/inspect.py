"""What files hold as this program sees them, what is wrong with them, and a ``data`` section that would read them.

Refusals are those of preparation, since the same functions open the files; quality control reads every field once, a
block at a time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
import yaml

from data_prep import clock
from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.reading import checks, quality
from data_prep.reading.inputs import Inputs, open_canonical
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location
from data_prep.reading.opening import format_of, open_to_release
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
from data_prep.reading.sources import FoundField, Source, open_source, warn_of_slow_chunks
from data_prep.reading.units import conversion, is_direction, is_flux, unit_of
from data_prep.spec import Vertical
from data_prep.variables import SURFACE, accumulation_hours, is_accumulation, is_never_uniform, known

_MOST_FINDINGS = 30
_MOST_VALUES_LISTED = 12
_GAP_DAYS = 10.0
_USUAL_STEP_HOURS = 6.0
_SPARSE = "NaN in some points as a rule, as below high ground; it cannot be predicted there, so the level is left out"
_NEVER_NEGATIVE = ("specific_humidity", "total_column_water_vapour", "total_cloud_cover", "wind_speed")
_NEAR_ZERO = 0.02  # of the largest value: what comes so near cannot be negative
_SHARES = (0.7, 0.15)  # of the record, for training and validation
# A climatology reaches a month beyond the season of its training data: of a record that is shorter than a year or so,
# less is held out, so that there is something to measure anomalies from.
_SEASON_REACH_DAYS = 29.0
_YEAR_KNOWN_DAYS = 306.0  # of a year: the rest is within reach from both sides


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


@dataclass(frozen=True)
class Report:
    """Some files.

    Attributes:
      text: For people; ends with the ``data`` section.
      section: The ``data`` section of a config.
      findings: All that is wrong, in the order of the files.
      refusal: Why preparation would refuse the files, ``None`` where it would not.
      files: Each of them.
      is_mendable: Whether that is for the defects among the findings alone.
    """

    text: str
    section: dict[str, Any]
    findings: tuple[Finding, ...]
    refusal: str | None
    files: tuple[FileReport, ...]
    is_mendable: bool

    def to_json(self) -> dict[str, Any]:
        """For machines: what ``text`` says; times in ISO 8601, values in SI units."""
        return {
            "files": [_file_json(file) for file in self.files],
            "findings": [_finding_json(finding) for finding in self.findings],
            "refusal": self.refusal,
            "data": self.section,
        }


def inspect_files(paths: Sequence[Location]) -> Report:
    """Looks at files together, as the inputs of one data set.

    Raises:
      DataError: one line on what makes a file unusable, as preparation would give it.
    """
    try:
        files = _look_at(_stacked(_surfaces_that_stay([_open(path) for path in paths])))
    except DataError as error:
        if len(paths) == 1:
            raise
        raise DataError(f"{error}; or leave this file out: files that are named together make one data set") from None
    files = _with_shared_times(_without_empty(files))
    section = _section(files)
    refusal, is_mendable = None, False
    try:
        inputs = _joined(used_files(files), files, section)
    except DataError as error:
        refusal = str(error)
    else:
        files = _judged_by_step(files, inputs) if inputs is not None else files
        missing = _missing_of_the_state(files, section)
        refusal, is_mendable = missing or _defects(files), missing is None
    findings = tuple(f for file in files for f in _findings(file))
    return Report(_text(files, section), section, findings, refusal, tuple(files), is_mendable)


@contextmanager
def few_words(least: int = logging.WARNING) -> Iterator[None]:
    """Keeps from the log what reading says below this level, such as a line for every gap: the report lists them."""
    logs = [logging.getLogger(f"data_prep.reading.{name}") for name in ("inputs", "sources")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(least)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _findings(file: FileReport) -> list[Finding]:
    """All of a file: of its time axis, then of its variables."""
    return [*file.findings, *(f for report in file.fields for f in report.findings)]


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
      files: Those that hold it, by number, in the order of time.
      times: Of each.
      summaries: What was seen of each.
      continues: Whether each goes on where the one before ends.
      end: The last one, what the variable is there, and ``quality.thin`` of its last row.
    """

    interval: np.timedelta64
    files: list[int] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    summaries: list[quality.Summary] = field(default_factory=list)
    continues: list[bool] = field(default_factory=list)
    end: tuple[Source, FoundField, np.ndarray] | None = None

    def before(self, source: Source, found: FoundField) -> np.ndarray | None:
        """A sample of the field that the first one of a file follows; ``None`` where it begins something new."""
        if self.end is None:
            return None
        last, as_found, sample = self.end
        alike = as_found.levels == found.levels and last.grid.matches(source.grid)
        step = source.times[0] - last.times[-1]
        return sample if alike and np.timedelta64(0, "ns") < step <= self.interval else None

    def flipped(self) -> Iterator[tuple[int, np.ndarray]]:
        """Files, and which of their rows lie the other way round than most of an unbroken stretch of time."""
        starts = np.cumsum([0, *(times.size for times in self.times)])
        breaks = np.flatnonzero(np.diff(np.concatenate(self.times)) > self.interval) + 1
        anew = starts[:-1][~np.array(self.continues)]
        rows = quality.flipped_rows(self._of_all("mirrored"), np.setdiff1d(np.union1d(breaks, anew), [0]))
        yield from zip(self.files, np.split(rows, starts[1:-1]), strict=True)

    def running(self, name: str) -> list[Finding]:
        """Whether sums of this name run up over several times, all files together."""
        rises, falls = self._of_all("rises"), self._of_all("falls")
        return quality.judge_sums(rises, falls, np.concatenate(self.times), self.interval, name)

    def _of_all(self, what: str) -> np.ndarray:
        return np.concatenate([getattr(summary, what) for summary in self.summaries])


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
    reports: dict[tuple[int, str], FieldReport] = {}
    for number in sorted(range(len(files)), key=lambda n: files[n].source.times[:1].tolist()):
        file = files[number]
        for found in file.fields:
            thread = followed[found.name] if found.extent == "time" else None
            before = thread.before(file.source, found) if thread is not None else None
            reports[number, found.name], summary, last = _look_at_field(file, found, before)
            if thread is not None:
                thread.files.append(number)
                thread.times.append(file.source.times)
                thread.summaries.append(summary)
                thread.continues.append(before is not None)
                thread.end = file.source, found, last
        file.source.release()
    for name, thread in followed.items():
        for number, rows in thread.flipped():
            report = reports[number, name]
            flips = quality.judge_flips(rows, files[number].source.times, name, report.found.to_si.units)
            reports[number, name] = replace(report, findings=(*report.findings, *flips))
        if is_accumulation(name):
            first = reports[thread.files[0], name]
            reports[thread.files[0], name] = replace(first, findings=(*first.findings, *thread.running(name)))
        for number, found_here in _uniform_files({n: reports[n, name] for n in thread.files}, files):
            report = reports[number, name]
            reports[number, name] = replace(report, findings=(*report.findings, *found_here))
    return [
        FileReport(
            file.source,
            file.vertical,
            tuple(reports[number, found.name] for found in file.fields),
            file.skipped,
            tuple(_time_findings(file.source)),
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
    if interval and hours is not None and hours != checks.hours(interval):
        return f"its sums overlap: they run over {hours:g} h, the times are {checks.hours(interval):g} h apart"
    return None


def _look_at_field(
    file: _Opened, found: FoundField, before: np.ndarray | None
) -> tuple[FieldReport, quality.Summary, np.ndarray]:
    """A variable of a file, what was seen of its rows, and ``quality.thin`` of the last one."""
    source = file.source
    n_rows = {"time": max(source.times.size, 1), "dayofyear": clock.CALENDAR_DAYS, "constant": 1}[found.extent]

    def read(start: int, stop: int) -> np.ndarray:
        return source.read(found.name, found.levels, start, stop)

    summary, last = quality.scan(read, n_rows, source.grid, len(found.levels), before)
    findings = quality.judge(
        summary,
        source.times if found.extent == "time" else np.empty(0, "datetime64[ns]"),
        found.name,
        found.to_si.units,
        found.levels,
        on_pressure=file.vertical == "pressure",
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
    report = FieldReport(found, low, high, missing, lacking, sparse, n_rows, unchanging, constant, tuple(findings))
    return report, summary, last


def _without_empty(files: Sequence[FileReport]) -> list[FileReport]:
    """Leaves out the variables that have no value in any of the files."""
    filled = {r.found.name for f in files for r in f.fields if np.isfinite(r.low)}
    out = []
    for file in files:
        empty = [(r.found.raw_name, "no point has a value") for r in file.fields if r.found.name not in filled]
        fields = tuple(r for r in file.fields if r.found.name in filled)
        out.append(replace(file, fields=fields, skipped=(*file.skipped, *empty)))
    return out


def _fixed(files: Sequence[FileReport]) -> set[str]:
    """Names of what has no time, or a single one beside a record of many: orography and masks of any one day."""
    times: dict[str, list[np.ndarray]] = {}
    for file in files:
        for report in file.fields:
            some = file.source.times if report.found.extent == "time" else file.source.times[:0]
            times.setdefault(report.found.name, []).append(some)
    count = {name: np.unique(np.concatenate(parts)).size for name, parts in times.items()}
    return {name for name, n in count.items() if n <= 1 < max(count.values())}


def used_files(files: Sequence[FileReport]) -> list[Location]:
    """All but those that hold nothing of use."""
    return [path for file in files if file.fields for path in file.source.paths]


def record_times(files: Sequence[FileReport]) -> np.ndarray:
    """All times of what moves, ascending."""
    fixed = _fixed(files)
    moving = [f.source.times for f in files if {r.found.name for r in f.fields if r.found.extent == "time"} - fixed]
    return np.unique(np.concatenate([np.empty(0, "datetime64[ns]"), *moving]))


def _with_shared_times(files: Sequence[FileReport]) -> list[FileReport]:
    """Finds the times of each file at which one before it holds the same variable."""
    fixed = _fixed(files)
    holders: dict[str, list[int]] = {}
    for number, file in enumerate(files):
        for name in {r.found.name for r in file.fields if r.found.extent == "time"} - fixed:
            holders.setdefault(name, []).append(number)
    shared: list[set[np.datetime64]] = [set() for _ in files]
    for numbers in set(map(tuple, holders.values())):
        times = np.concatenate([files[n].source.times for n in numbers])
        holder = np.repeat(numbers, [files[n].source.times.size for n in numbers])
        _, first, where = np.unique(times, return_index=True, return_inverse=True)
        for row in np.flatnonzero(holder != holder[first[where]]):
            shared[holder[row]].add(times[row])
    text = "is in a file before this one too"
    found = ([Finding("error", "duplicate", "time", t, t, 1, text) for t in sorted(some)] for some in shared)
    return [replace(file, findings=(*file.findings, *new)) for file, new in zip(files, found, strict=True)]


def _time_findings(source: Source) -> list[Finding]:
    """Times that occur twice, and gaps."""
    out: list[Finding] = []
    times, counts = np.unique(source.times, return_counts=True)
    for time in times[counts > 1]:
        out.append(Finding("error", "duplicate", "time", time, time, 1, "occurs twice"))
    if times.size > 1:
        steps = np.diff(times)
        interval = steps.min()
        for row in np.flatnonzero(steps > interval):
            lacking = int(steps[row] // interval) - 1
            first, last = times[row] + interval, times[row + 1] - interval
            out.append(
                Finding(
                    "warning", "gap", "time", first, last, lacking, f"{lacking} times missing; a new segment begins"
                )
            )
    return out


def _joined(paths: Sequence[Location], files: Sequence[FileReport], section: dict[str, Any]) -> Inputs | None:
    """The files as preparation opens them; ``None`` where they hold one time.

    Raises:
      DataError: what preparation would say of the files together.
    """
    if record_times(files).size < 2:
        return None
    with few_words():
        return open_canonical(paths, DataConfig.model_validate({**section, "repair": ["duplicates"]}))


def _judged_by_step(files: Sequence[FileReport], inputs: Inputs) -> list[FileReport]:
    """The files, errors of fields that no step reads as warnings: of others than sums, between the model's times."""
    if all(segment.stride == 1 for segment in inputs.segments):
        return list(files)
    read = np.unique(np.concatenate([segment.times for segment in inputs.segments]))
    text = f"; steps of {checks.hours(inputs.timestep):g} h leave it out"

    def judged(finding: Finding) -> Finding:
        if finding.severity != "error" or finding.first is None or is_accumulation(finding.channel):
            return finding
        if ((read >= finding.first) & (read <= finding.last)).any():
            return finding
        return replace(finding, severity="warning", text=finding.text + text)

    return [
        replace(file, fields=tuple(replace(r, findings=tuple(map(judged, r.findings))) for r in file.fields))
        for file in files
    ]


def _missing_of_the_state(files: Sequence[FileReport], section: dict[str, Any]) -> str | None:
    """What preparation would say of values that are missing where they are to be predicted."""
    for file in files:
        for report in file.fields:
            predicted = section["prognostic"].get(report.found.name)
            if predicted is None:
                continue
            if report.lacking or not set(report.sparse).isdisjoint(predicted.get("levels", report.found.levels)):
                what = f"{file.source.path}: {report.found.raw_name} is missing in {report.missing:.1%} of its points"
                if _lacking(_by_variable(files)[report.found.name]):
                    return f"{what}, and no other variable can be predicted; fill these, or cut out a region without"
                return f"{what}, in other files it is not; fill these, or leave its times out by data.exclude"
    return None


def _defects(files: Sequence[FileReport]) -> str | None:
    """What preparation would say of the defects of files that it can open."""
    errors = [(file.source.path, f) for file in files for f in _findings(file) if f.severity == "error"]
    if not errors:
        return None
    path, first = errors[0]
    at = f" at {clock.text(first.first)}" if first.first is not None else ""
    count = f"the first of {len(errors)} defects" if len(errors) > 1 else "a defect"
    remedy = {
        "duplicate": "data.repair: [duplicates] keeps the first of equal ones",
        "flipped latitudes": "data.repair: [flipped_latitudes] turns them back",
        "unit slip": "set the units attribute right, or data.repair: [unit_slips] converts them",
    }.get(first.kind, "mend the files, or leave the times out by data.exclude")
    return f"{path}: {count}: {first.channel}{at}: {first.kind}, {first.text}; {remedy}"


def _by_variable(files: Sequence[FileReport]) -> dict[str, list[FieldReport]]:
    """What the files say of each variable, by name."""
    out: dict[str, list[FieldReport]] = {}
    for report in (r for f in files for r in f.fields):
        out.setdefault(report.found.name, []).append(report)
    return out


def _lacking(reports: Sequence[FieldReport]) -> bool:
    """Whether points of a variable are missing as a rule, of all files together: a file alone may be damaged."""
    found = reports[0].found
    if not quality.is_part_of_state(found.name, found.to_si.units):
        return any(r.lacking for r in reports)
    return _mostly(reports, [r.lacking for r in reports])


def _mostly(reports: Sequence[FieldReport], holds: Sequence[bool]) -> bool:
    """Whether something holds of the files that have half of the rows or more."""
    return sum(r.n_rows if yes else -r.n_rows for r, yes in zip(reports, holds, strict=True)) >= 0


def _section(files: Sequence[FileReport]) -> dict[str, Any]:
    """A ``data`` section that reads these files: every variable in the role that suits it."""
    roles: dict[str, dict[str, Any]] = {"prognostic": {}, "diagnostic": {}, "forcing": {}, "static": {}}
    times, fixed = record_times(files), _fixed(files)
    timestep = _timestep_hours(times)
    meanings: dict[str, set[str]] = {}  # in one file z may be on levels, and in another at the surface
    for found in (r.found for f in files for r in f.fields):
        meanings.setdefault(found.raw_name, set()).add(found.name)
    holes = False
    for name, reports in _by_variable(files).items():
        found = reports[0].found
        entry = known(name)
        options: dict[str, Any] = {}
        asked = f"total_precipitation_{timestep:g}hr" if is_accumulation(name) else name
        raw_names = {r.found.raw_name for r in reports}
        if raw_names != {asked} and len(raw_names) == len(meanings[found.raw_name]) == 1:
            options["source"] = found.raw_name
        static = found.extent == "constant" or (found.extent == "time" and name in fixed)
        # of one time nobody knows what others hold
        telling = [r for r in reports if r.n_rows != 1 or static]
        constant = set.intersection(*(set(r.constant) for r in telling)) if telling else set()
        lacking, unchanging = _lacking(reports), all(r.unchanging for r in reports)
        varying = [level for level in found.levels if level not in constant]
        if constant and not varying:
            continue  # nothing to learn from
        whole = [level for level in varying if not _mostly(reports, [level in r.sparse for r in reports])]
        if len(whole or varying) < len(found.levels):
            options["levels"] = whole or varying
        if found.extent == "dayofyear":
            role, options["known"] = "forcing", "climatological"
        elif static:
            role = "static"
        elif not (lacking or unchanging) and any(_is_diagnosed(r.found) for r in reports):
            role = "diagnostic"
            if is_accumulation(name) or all(r.low >= 0 for r in reports):
                options["minimum"] = 0.0
        elif (entry is not None and entry.slow) or lacking or unchanging:
            role, options["known"] = "forcing", "persisted"
        else:
            role = "prognostic"
            if _is_never_negative(name, reports):
                options["minimum"] = 0.0
        if all(asked not in taken for taken in roles.values()):
            roles[role][asked] = options
            holes |= role in ("forcing", "static") and any(r.missing > 0 for r in reports)
    if not roles["prognostic"]:  # a config needs one, and files of one time or of constants alone have none
        others = [r for r in ("diagnostic", "forcing", "static") if roles[r]]
        if not others:
            why = "; ".join(dict.fromkeys(f"{name}: {reason}" for f in files for name, reason in f.skipped))
            what = f"left out are {why}" if why else "no field varies"
            raise DataError(f"{files[0].source.path}: nothing to learn from: {what}")
        role = others[0]
        name = next(iter(roles[role]))
        moved = roles[role].pop(name)
        roles["prognostic"][name] = {key: value for key, value in moved.items() if key in ("source", "minimum")}
    vertical = next((f.vertical for f in files if f.vertical is not None), None)
    return {
        "inputs": [str(path) for path in used_files(files)],
        **({"vertical": vertical} if vertical else {}),
        "timestep_hours": timestep,
        **{role: variables for role, variables in roles.items() if variables},
        **({"nan": "fill_mean"} if holes else {}),
        "split": _split(files, times, timestep),
    }


def _is_never_negative(name: str, reports: Sequence[FieldReport]) -> bool:
    """Whether values come near zero and cannot pass it: as far as the program knows, or, of surface fields that it does
    not know, as their values look."""
    entry = known(name)
    if entry is not None:
        return name in _NEVER_NEGATIVE
    least, most = min(r.low for r in reports), max(r.high for r in reports)
    return not reports[0].found.levels and 0 <= least <= _NEAR_ZERO * most


def _is_diagnosed(found: FoundField) -> bool:
    """Whether it belongs to an interval, or passes through a surface, and no state consists of it."""
    flux = is_flux(found.name, found.standard_name, found.to_si.units)
    return is_accumulation(found.name) or found.over_interval == "sum" or flux


def _timestep_hours(times: np.ndarray) -> float:
    """Six hours where the record's interval divides them and its stretches are long enough, else the interval."""
    if times.size < 2:
        return _USUAL_STEP_HOURS
    steps = np.diff(times)
    stretches = np.split(times, np.flatnonzero(steps > steps.min()) + 1)
    longest = max(checks.hours(s[-1] - s[0]) for s in stretches)
    divides = _days(_USUAL_STEP_HOURS / 24) % steps.min() == np.timedelta64(0, "ns")  # in whole nanoseconds
    return _USUAL_STEP_HOURS if divides and longest >= 3 * _USUAL_STEP_HOURS else checks.hours(steps.min())


def _split(files: Sequence[FileReport], times: np.ndarray, timestep: float) -> dict[str, Any]:
    """Whole segments where there are three or more alike, well apart; stretches of time otherwise."""
    if times.size < 8:
        return {"segments": {}}
    steps = np.diff(times)
    breaks = np.flatnonzero(steps > steps.min())
    lengths = np.diff([0, *(breaks + 1), times.size])
    if lengths.size >= 3 and lengths.min() > 0.5 * lengths.max():
        apart, long = steps[breaks[-2:]].min(), (lengths.min() - 1) * steps.min()
        if apart >= min(_days(_GAP_DAYS), long):  # a time or two that are missing part no forecasts
            gap = math.floor(apart / np.timedelta64(1, "D") * 100) / 100
            segments = {"validation": [int(lengths.size) - 2], "test": [int(lengths.size) - 1]}
            return {"segments": segments, **({"gap_days": gap} if gap < _GAP_DAYS else {})}
    days = float((times[-1] - times[0]) / np.timedelta64(1, "D"))
    gap = min(_GAP_DAYS, round(days / 25, 2))
    first, second = (times[int(share * (times.size - 1))] for share in (_SHARES[0], sum(_SHARES)))
    held_out = max(_SEASON_REACH_DAYS, days - _YEAR_KNOWN_DAYS)
    if (times[-1] - first) / np.timedelta64(1, "D") > held_out:
        gap = min(gap, round(held_out / 6, 2))
        first, second = (_next(times, times[-1] - _days(share * held_out)) for share in (1.0, 0.6))
    margin = _days(gap + timestep / 24)
    ends = {
        "train": (times[0], first),
        "validation": (_next(times, first + margin), second),
        "test": (_next(times, second + margin), times[-1]),
    }
    if any(a >= b for a, b in ends.values()):
        return {"segments": {}}
    return {**{name: [clock.text(t) for t in pair] for name, pair in ends.items()}, "gap_days": gap}


def _days(number: float) -> np.timedelta64:
    return np.timedelta64(int(number * 86400), "s")


def _next(times: np.ndarray, moment: np.datetime64) -> np.datetime64:
    return times[min(int(np.searchsorted(times, moment)), times.size - 1)]


def _text(files: Sequence[FileReport], section: dict[str, Any]) -> str:
    lines: list[str] = []
    for file in files:
        lines += [*_file_lines(file), ""]
    lines += _finding_lines([f for file in files for f in _findings(file)])
    return "\n".join([*lines, "", *_section_lines(section)])


def _file_json(file: FileReport) -> dict[str, Any]:
    source = file.source
    times = np.unique(source.times)
    variables = [
        {
            "name": report.found.name,
            "name_in_file": report.found.raw_name,
            "units": report.found.to_si.units,
            "levels": list(report.found.levels),
            "lowest": report.low,
            "highest": report.high,
            "missing": report.missing,
            "extent": report.found.extent,
        }
        for report in file.fields
    ]
    return {
        "path": str(source.path),
        "paths": [str(path) for path in source.paths],
        "format": format_of(source.path),
        "grid": {"global": source.grid.is_global, **source.grid.to_dict()},
        "times": [clock.text(t) for t in times[[0, -1]]] if times.size else [],
        "number_of_times": int(times.size),
        "interval_hours": checks.hours(np.diff(times).min()) if times.size > 1 else None,
        "vertical": file.vertical,
        "variables": variables,
        "left_out": dict(file.skipped),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    first, last = (None if t is None else clock.text(t) for t in (finding.first, finding.last))
    return asdict(finding) | {"first": first, "last": last}


def _file_lines(file: FileReport) -> list[str]:
    source = file.source
    more = f" and {len(source.paths) - 1} more with other levels" if len(source.paths) > 1 else ""
    lines = [f"{source.path}{more} ({format_of(source.path)})", f"  grid    {source.grid.describe()}"]
    times = np.unique(source.times)
    if times.size == 0:
        lines.append("  times   none")
    elif times.size == 1:
        lines.append(f"  times   {clock.text(times[0])} only: an initial condition")
    else:
        ends = " to ".join(clock.text(t) for t in times[[0, -1]])
        lines.append(f"  times   {times.size} from {ends}, every {checks.hours(np.diff(times).min()):g} h")
    if source.calendar:
        lines.append(f"  calendar {source.calendar}; these dates are the real calendar's")
    rows = [("variable", "in the file", "unit", "levels", "lowest", "highest", "NaN", "extent")]
    for report in file.fields:
        found = report.found
        rows.append(
            (
                found.name,
                found.raw_name,
                found.to_si.units if found.unit_given else f"{found.to_si.units} (not given)",
                _levels_text(found.levels, file.vertical),
                f"{report.low:.5g}",
                f"{report.high:.5g}",
                f"{report.missing:.1%}",
                found.extent,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"  left out: {name} ({reason})" for name, reason in file.skipped]
    return lines


def _levels_text(levels: Sequence[float], vertical: Vertical | None) -> str:
    if not levels:
        return "-"
    unit = " hPa" if vertical == "pressure" else ""
    if len(levels) > _MOST_VALUES_LISTED:
        return f"{len(levels)}: {levels[0]:g} to {levels[-1]:g}{unit}"
    return f"{len(levels)}: {' '.join(f'{x:g}' for x in levels)}{unit}"


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["quality: nothing found"]
    errors = sum(f.severity == "error" for f in findings)
    lines = [f"quality: {errors} errors, {len(findings) - errors} warnings"]
    for finding in sorted(findings, key=lambda f: f.severity)[:_MOST_FINDINGS]:
        ends = list(dict.fromkeys(clock.text(t) for t in (finding.first, finding.last) if t is not None))
        span = f" {' to '.join(ends)}" + (f" ({finding.count} times)" if finding.count > 1 else "") if ends else ""
        lines.append(f"  {finding.severity:7s}  {finding.kind}: {finding.channel}{span}: {finding.text}")
    if len(findings) > _MOST_FINDINGS:
        lines.append(f"  and {len(findings) - _MOST_FINDINGS} more")
    return lines


def _section_lines(section: dict[str, Any]) -> list[str]:
    """The section as YAML, one variable a line."""
    lines = ["data:"]
    for key, value in section.items():
        if key in ("prognostic", "diagnostic", "forcing", "static"):
            lines.append(f"  {key}:")
            lines += [f"    {flow(name)}: {flow(options)}" for name, options in value.items()]
        else:
            lines.append(f"  {key}: {flow(value)}")
    if section["split"] == {"segments": {}}:
        lines.append("  # too few times for validation and test data: all is training data; add files")
    return lines


def flow(value: Any) -> str:
    """A value as YAML on one line, names in any script as they are."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
