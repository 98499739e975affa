"""The files of a data set as one record: variables joined by time, stretches without a gap, one state spec.

Files may hold all variables, or one each, or one stretch of time or some levels each; ``open_canonical`` looks at what
they hold.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from data_prep import clock
from data_prep.config import DataConfig, ForcingConfig, VariableConfig
from data_prep.errors import DataError
from data_prep.forcing import COMPUTED_FORCINGS, COORDINATE_VARIABLES
from data_prep.grid import Grid
from data_prep.lateral import lateral_variables
from data_prep.reading import checks, quality
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location, stem
from data_prep.reading.regridded import bring_to, regrid_sources
from data_prep.reading.slips import may_slip, slips_of
from data_prep.reading.sources import Extent, NothingAskedError, Source, in_units, open_source, warn_of_units
from data_prep.reading.units import Conversion
from data_prep.regrid import make_regridder
from data_prep.spec import Known, Role, StateSpec, Variable
from data_prep.variables import KNOWN, accumulation_hours, changes_every_step, is_accumulation, is_never_uniform, known

logger = logging.getLogger(__name__)

_ERA5_SUM_HOURS = 1.0


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
    """

    variable: Variable
    sources: tuple[Source, ...]
    times: np.ndarray
    source_of: np.ndarray
    row_of: np.ndarray
    mending: Mending
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
                values[there] = values[there].astype(np.float64) * slip.factor + slip.offset
        return values

    def _leave_all_but(self, wanted: set[int]) -> None:
        """Releases the files that reading has moved on from, so that memory does not grow with their number."""
        for number in self._open - wanted:
            self.sources[number].release()
        self._open.clear()
        self._open.update(wanted)


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
    """

    name: str
    times: np.ndarray
    first_row: int
    stride: int
    timelines: Mapping[str, Timeline]
    grid: Grid
    _last: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False)  # a sample, the index after it

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """One variable at times ``[start, stop)``: SI, float32 ``(time, latitude, longitude, level)``.

        Precipitation is summed over the model step, everything else taken at its end.

        Raises:
          DataError: a field repeats the one before it, is turned round against it, or is uniform where it is not.
        """
        values = self._read(name, start, stop)
        variable = self.timelines[name].variable
        if variable.role in ("prognostic", "diagnostic") and changes_every_step(name, variable.units):
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
        stuck, mirrored = quality.compare(values, before, self.grid)
        thinned = quality.thin(values)
        # both at once: another thread may be reading the next rows
        self._last[name] = start + values.shape[0], thinned[-1:].copy()
        variable = self.timelines[name].variable

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
            uniform = quality.uniform(thinned if before is None else np.concatenate([before, thinned]))
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


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that the config asked for, found, understood and not yet read.

    Attributes:
      spec: The state spec that follows from config and files.
      grid: The grid of all files.
      timestep: The model's time step.
      segments: Unbroken stretches, ascending in time.
      constants: Static variables of files: where each is read.
      tables: Climatological forcings: where each is read.
    """

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    segments: tuple[RawSegment, ...]
    constants: Mapping[str, Source]
    tables: Mapping[str, Source]

    def read_static(self) -> np.ndarray:
        """Static fields of files in the order of the spec, not yet clipped, ``(latitude, longitude, channel)``."""
        parts = [
            self.constants[v.name].read(v.name, v.levels)
            for v in self.spec.with_role("static")
            if v.name in self.constants
        ]
        return np.concatenate(parts, axis=-1)[0] if parts else np.empty((*self.grid.shape, 0), np.float32)

    def read_table(self) -> np.ndarray:
        """Climatological forcings by day of year, not yet clipped, ``(366, latitude, longitude, channel)``."""
        parts = [
            self.tables[v.name].read(v.name, v.levels, 0, clock.CALENDAR_DAYS)
            for v in self.spec.with_role("forcing")
            if v.known == "climatological"
        ]
        none = np.empty((clock.CALENDAR_DAYS, *self.grid.shape, 0), np.float32)
        return np.concatenate([none, *parts], axis=-1)


def mendings_of(timelines: Mapping[str, Timeline]) -> dict[str, Mending]:
    """What is mended, by variable; those of which nothing is are left out."""
    return {n: t.mending for n, t in timelines.items() if t.mending.slips or t.mending.flipped.any()}


def open_canonical(
    paths: Sequence[Location], config: DataConfig, mendings: Mapping[str, Mending] | None = None
) -> Inputs:
    """Opens the files of a data set lazily and joins them by variable and time.

    Args:
      paths: The files.
      config: What is asked of them.
      mendings: ``mendings_of`` the same, where it is known: the record is not read to find what to mend then.

    Raises:
      DataError: one line on what is missing, does not fit together, or cannot be read.
    """
    asked: dict[str, tuple[Role, VariableConfig]] = {}
    roles: tuple[tuple[Role, Mapping[str, VariableConfig]], ...] = (
        ("prognostic", config.prognostic),
        ("diagnostic", config.diagnostic),
        ("forcing", config.forcing),
        ("static", config.static),
    )
    for role, variables in roles:
        for name, variable in variables.items():
            if name in asked:
                raise DataError(f"data: {name} is named both as {asked[name][0]} and as {role}")
            asked[name] = (role, variable)
    names = {name: (variable.source or name,) for name, (_, variable) in asked.items()}
    sources = _opened(paths, names, config)
    warn_of_units(sources)
    if config.regrid is not None:
        sources = regrid_sources(sources, config.regrid)
    for source in sources[1:]:
        if not source.grid.matches(sources[0].grid):
            here, there = source.grid.describe(), sources[0].grid.describe()
            raise DataError(
                f"{source.path}: its grid is {here}, that of {sources[0].path} is {there}; "
                "name the grid to bring them to as data.regrid"
            )
    if how := sources[0].grid.unevenness:
        logger.warning("%s: %s; is a column missing?", sources[0].path, how)
    sources = stack_levels(_in_equal_units(sources))
    holders = {name: _holders(sources, name, role, variable) for name, (role, variable) in asked.items()}
    described = {name: _describe(name, role, variable, holders[name]) for name, (role, variable) in asked.items()}
    moving = [v for v in described.values() if v.role in ("prognostic", "diagnostic") or v.known == "persisted"]
    timelines = _timelines(moving, holders, config, mendings)
    return Inputs(
        spec=_spec(described, config),
        grid=sources[0].grid,
        timestep=_timestep(config),
        segments=_segments(timelines, _timestep(config), sources[0].grid),
        constants={v.name: holders[v.name][0] for v in described.values() if v.role == "static"},
        tables={v.name: holders[v.name][0] for v in described.values() if v.known == "climatological"},
    )


def open_onto(
    paths: Sequence[Location],
    config: DataConfig,
    spec: StateSpec,
    onto: Grid,
    mendings: Mapping[str, Mending] | None = None,
) -> dict[str, Timeline]:
    """The prognostic variables of other files, on a grid and in the units of a state; of any number of times.

    Args:
      paths: The files.
      config: What is asked of them; a variable may have its canonical name too where it names a source.
      spec: Of the state.
      onto: The grid to bring them to bilinearly, whatever the config says.
      mendings: As of ``open_canonical``.

    Raises:
      DataError: one line on what is missing, does not fit together, or cannot be read.
    """
    asked = config.prognostic
    names = {name: (variable.source or name, name) for name, variable in asked.items()}
    sources = _opened(paths, names, config)
    warn_of_units(sources)
    sources = bring_to(sources, onto, lambda grid, where: make_regridder(grid, onto, "bilinear", where=where))
    for number, source in enumerate(sources):
        for name in source.fields:
            sources[number] = in_units(sources[number], name, spec[name].units, "the region's")
    sources = stack_levels(sources)
    holders = {name: _holders(sources, name, "prognostic", variable) for name, variable in asked.items()}
    described = [_describe(name, "prognostic", variable, holders[name]) for name, variable in asked.items()]
    timelines = _timelines(described, holders, config, mendings)
    timestep = _timestep(config)
    for name, timeline in timelines.items():
        checks.refuse_monthly(timeline.times, f"{timeline.sources[0].path}: {name}")
        if is_accumulation(name):
            interval = min((timestep, *np.diff(timeline.times)))
            if interval < timestep:
                raise DataError(
                    f"{paths[0]} (data.lateral): {name} comes {timestep // interval} times in a model step; sum it "
                    f"over {config.timestep_hours:g} h before"
                )
            _check_accumulation(timeline, timestep, interval)
    means = _over_interval(timelines, "mean")
    if means:
        where = timelines[means[0]].sources[0].path
        logger.warning("%s: %s: means over intervals, taken as instants at their times", where, ", ".join(means))
    return timelines


def _opened(paths: Sequence[Location], names: Mapping[str, Sequence[str]], config: DataConfig) -> list[Source]:
    twice = "duplicates" in config.repair or bool(config.exclude)  # what is left out may be there twice
    try:
        return [open_source(path, names, config.vertical, admit_duplicates=twice) for path in paths]
    except NothingAskedError as error:
        raise DataError(f"{error}; leave it out of data.inputs, or ask for what it holds") from None


def _timelines(
    variables: Sequence[Variable],
    holders: Mapping[str, Sequence[Source]],
    config: DataConfig,
    mendings: Mapping[str, Mending] | None,
) -> dict[str, Timeline]:
    """What moves, mended as the config says."""
    timelines = {v.name: _timeline(v, holders[v.name], config) for v in variables}
    if mendings is None:
        return _mended(timelines, config, holders[variables[0].name][0].grid)
    return {n: replace(t, mending=mendings.get(n, t.mending)) for n, t in timelines.items()}


def _in_equal_units(sources: Sequence[Source]) -> list[Source]:
    """The same files, each variable in the unit of the first that holds it.

    Raises:
      DataError: another one's cannot be turned into it.
    """
    first: dict[str, Source] = {}
    out = []
    for source in sources:
        alike = source
        for name, found in source.fields.items():
            holder = first.setdefault(name, source)
            theirs = holder.fields[name]
            if known(name) is None and found.unit_given != theirs.unit_given:
                silent, telling = (source, holder) if theirs.unit_given else (holder, source)
                raw_name, units = silent.fields[name].raw_name, telling.fields[name].to_si.units
                raise DataError(
                    f"{silent.path}: {raw_name} has no unit, that of {telling.path} is in {units!r}; "
                    "set its units attribute to what the values are in"
                )
            alike = in_units(alike, name, theirs.to_si.units, f"that of {holder.path}")
        out.append(alike)
    return out


def _timestep(config: DataConfig) -> np.timedelta64:
    return np.timedelta64(round(config.timestep_hours * 3600), "s").astype("timedelta64[ns]")


def _holders(sources: Sequence[Source], name: str, role: Role, variable: VariableConfig) -> list[Source]:
    """The files that hold the variable over the extent that its role needs."""
    there = [s for s in sources if name in s.fields]
    if not there:
        raw_name = variable.source or name
        where = str(sources[0].path) if len(sources) == 1 else f"{sources[0].path} and {len(sources) - 1} more"
        listed = ", ".join(dict.fromkeys(v for s in sources for v in s.contents))
        near = [] if known(name) else difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"{where}: missing {raw_name} ({role} {name}); the files hold {listed}{hint}")
    extents: tuple[Extent, ...] = ("time",)
    if role == "static":
        extents = ("constant", "time")
    elif isinstance(variable, ForcingConfig) and variable.known == "climatological":
        extents = ("dayofyear",)
    fitting = [s for extent in extents for s in there if s.fields[name].extent == extent]
    if not fitting:
        found = there[0].fields[name].extent
        hint = {
            "dayofyear": "; it is a yearly table: make it a forcing with known: climatological",
            "constant": "; it has no time: make it a static variable",
            "time": "; a climatological forcing needs a dimension dayofyear of 366: or make it known: persisted",
        }[found]
        raise DataError(f"{there[0].path}: {name} runs over {found}, as {role} it must run over {extents[0]}{hint}")
    if role == "static":
        _check_constant(fitting, name, variable.levels)
    if extents == ("dayofyear",):
        _check_table(fitting[0], name)
    return fitting


def _check_constant(sources: Sequence[Source], name: str, levels: Sequence[float] | None) -> None:
    """Refuses a field that changes in the first file, or is another one in a later file, where one at its end is read.

    Files that were packed one by one may differ by what that rounds.
    """
    found = sources[0].fields[name]
    levels = found.levels if levels is None else levels
    first = sources[0].read(name, levels)
    for source in sources:
        row = source.times.size - 1 if source.fields[name].extent == "time" else 0
        last = source.read(name, levels, row, row + 1)
        if source is sources[0] and not np.array_equal(first, last, equal_nan=True):
            raise DataError(f"{source.path}: {name} changes with time, so it is no static field; make it a forcing")
        if not checks.are_one_field(first, last):
            raise DataError(
                f"{source.path}: {name} differs from what {sources[0].path} holds, so it is no static field; remove "
                "the wrong one, or make it a forcing"
            )
        source.release()


def _check_table(source: Source, name: str) -> None:
    found = source.fields[name]
    days = source.read(name, found.levels[:1], 0, clock.CALENDAR_DAYS + 1).shape[0]
    if days != clock.CALENDAR_DAYS:
        raise DataError(f"{source.path}: {name} has {days} days of the year, a table needs all {clock.CALENDAR_DAYS}")


def _describe(name: str, role: Role, variable: VariableConfig, holders: Sequence[Source]) -> Variable:
    found = holders[0].fields[name]
    levels = tuple(variable.levels) if variable.levels is not None else found.levels
    for source in holders:
        _check_split_by_level(source, holders[0], name)
        source.level_rows(name, levels)
    entry = known(name)
    how: Known | None = variable.known if isinstance(variable, ForcingConfig) else None
    standard_name = entry.standard_name if entry else ""
    return Variable(name, role, levels, found.to_si.units, standard_name, variable.minimum, how)


def _check_split_by_level(source: Source, first: Source, name: str) -> None:
    """Refuses files that hold other levels of a variable at other times: they are read as one at equal times alone."""
    ours, theirs = (s.fields[name].levels for s in (source, first))
    odd = np.setxor1d(source.times, first.times)
    if ours and theirs and odd.size and not {*ours} & {*theirs}:
        lacking, having = (source, first) if odd[0] in first.times else (first, source)
        there, here = (", ".join(f"{level:g}" for level in levels) for levels in (ours, theirs))
        raise DataError(
            f"{lacking.path}: no {clock.text(odd[0])}, {having.path} has it ({odd.size} times differ); files that hold "
            f"{name} at levels of their own ({here}; {there}) must hold the same times"
        )


def _spec(described: Mapping[str, Variable], config: DataConfig) -> StateSpec:
    computed = [v for entry in config.computed for v in COMPUTED_FORCINGS.get(entry, ())]
    if "coordinates" in config.computed:
        computed += COORDINATE_VARIABLES
    lateral = lateral_variables(v for v in described.values() if v.role == "prognostic") if config.lateral else ()
    return StateSpec(
        (*described.values(), *lateral, *computed),
        config.vertical if any(v.levels for v in described.values()) else None,
    )


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
        if not checks.are_one_field(one, other):
            there = "is there twice, and differs" if first is second else f"differs from what {first.path} holds"
            raise DataError(
                f"{second.path}: {at} {there}; take one of them out, or leave the time out by data.exclude (members of "
                "an ensemble are read one at a time)"
            )
        keep[row + 1] = False
    times, source_of, row_of = times[keep], source_of[keep], row_of[keep]
    return Timeline(variable, sources, times, source_of, row_of, Mending.none(times.size))


def _mended(timelines: Mapping[str, Timeline], config: DataConfig, grid: Grid) -> dict[str, Timeline]:
    """The timelines with what ``data.repair`` asks for."""
    out = dict(timelines)
    if "unit_slips" in config.repair:  # first: a field in another unit is like none before it, mirrored or not
        on_pressure = config.vertical == "pressure"
        out = {name: _converted(timeline, on_pressure=on_pressure) for name, timeline in out.items()}
    if "flipped_latitudes" in config.repair:
        out = {name: _turned_back(timeline, grid) for name, timeline in out.items()}
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
      DataError: a file is brought to a grid on which exchanged latitudes are no mirror image any more.
    """
    variable = timeline.variable
    if not changes_every_step(variable.name, variable.units) or timeline.times.size < 2:
        return timeline
    for source in timeline.sources:
        if not source.mirrors_alike:
            raise DataError(
                f"{source.path}: data.repair: flipped_latitudes cannot be found once the fields are on another part of "
                f"the globe ({grid.describe()}); 'emulator inspect' finds them in the files: leave them out by "
                "data.exclude"
            )
    summary, _ = quality.scan(timeline.read, timeline.times.size, grid, len(variable.levels))
    steps = np.diff(timeline.times)
    flipped = quality.flipped_rows(summary.mirrored, np.flatnonzero(steps != steps.min()) + 1)
    if flipped.any():
        span = clock.text(timeline.times[flipped][0])
        logger.warning("%s: %d times turned back north to south, from %s", variable.name, int(flipped.sum()), span)
    return replace(timeline, mending=replace(timeline.mending, flipped=flipped))


def _segments(timelines: Mapping[str, Timeline], timestep: np.timedelta64, grid: Grid) -> tuple[RawSegment, ...]:
    """Cuts the record at its gaps and thins it to the model's time step."""
    reference = next(iter(timelines.values()))
    for timeline in timelines.values():
        checks.refuse_monthly(timeline.times, f"{timeline.sources[0].path}: {timeline.variable.name}")
        odd = np.setxor1d(timeline.times, reference.times)
        if odd.size:
            lacking, having = (timeline, reference) if odd[0] in reference.times else (reference, timeline)
            holder = having.sources[having.source_of[np.searchsorted(having.times, odd[0])]]
            remedy = _how_to_share(odd.size, timeline, reference) or "add it, or leave these times out by data.exclude"
            raise DataError(
                f"{holder.path}: holds {having.variable.name} at {clock.text(odd[0])}, and no file holds "
                f"{lacking.variable.name} then ({odd.size} times differ); {remedy}"
            )
    times, where = reference.times, str(reference.sources[0].path)
    interval = checks.interval_of(times, where)
    if timestep < interval or timestep % interval != np.timedelta64(0, "ns"):
        raise DataError(
            f"{where}: data.timestep_hours {checks.hours(timestep):g} is no multiple of the files' interval, "
            f"{checks.hours(interval):g} h"
        )
    _check_alike(reference, interval)
    if checks.is_one_day_a_month(times):
        logger.warning(
            "%s: one day a month; if these are monthly means by hour of the day, they hold no weather", where
        )
    _warn_of_intervals(timelines, interval, timestep)
    stride = int(timestep // interval)
    sums = [name for name in timelines if is_accumulation(name)]
    for name in sums:
        _check_accumulation(timelines[name], timestep, interval)
    breaks = np.flatnonzero(np.diff(times) != interval) + 1
    bounds = [0, *breaks.tolist(), times.size]
    out: list[RawSegment] = []
    for first, last in pairwise(bounds):
        path = reference.sources[reference.source_of[first]].path
        if first:
            span = " and ".join(clock.text(t) for t in times[first - 1 : first + 1])
            logger.info("no data between %s: a new segment begins", span)
        begin = _first_kept(times[first:last], timestep, stride, needs_history=bool(sums))
        kept = times[first:last][begin::stride]
        if kept.size < 2:
            logger.warning(
                "%s: the stretch at %s holds less than two steps and is left out", path, clock.text(times[first])
            )
            continue
        name = stem(path)
        count = sum(s.name == name or s.name.startswith(f"{name}.") for s in out)
        out.append(RawSegment(f"{name}.{count}" if count else name, kept, first + begin, stride, timelines, grid))
    if not out:
        raise DataError(f"{where}: no stretch of data holds two consecutive steps of {checks.hours(timestep):g} h")
    return tuple(out)


_OVER_INTERVALS = (
    ("sum", "sums", "only total_precipitation is summed over the step of %s: sum the others before, or leave them out"),
    ("mean", "means", "for means over the step of %s take them before"),
    ("maximum", "maxima", "for maxima over the step of %s take them before"),
    ("minimum", "minima", "for minima over the step of %s take them before"),
)
"""What values may be over intervals, the same of several, and what is said where they are thinned."""


def _warn_of_intervals(timelines: Mapping[str, Timeline], interval: np.timedelta64, timestep: np.timedelta64) -> None:
    """Says what is lost of values that files say to be over intervals: they are taken as instants, or thinned."""
    reference = next(iter(timelines.values()))
    times, where = reference.times, str(reference.sources[0].path)
    phase = (times - times.astype("datetime64[D]")) % interval
    means = _over_interval(timelines, "mean")
    if (2 * phase == interval).all() and (means or phase[0] % np.timedelta64(1, "h")):
        at = f"{clock.text(times[0])[-5:]} every {checks.hours(interval):g} h"
        logger.warning(
            "%s: times in the middle of intervals (%s), as means have; they are taken as instants", where, at
        )
    elif means and timestep == interval:
        logger.warning("%s: %s: means over intervals, taken as instants at their times", where, ", ".join(means))
    stride = int(timestep // interval)
    for kind, several, remedy in _OVER_INTERVALS if stride > 1 else ():
        if lost := [name for name in _over_interval(timelines, kind) if not is_accumulation(name)]:
            of, by = (f"{checks.hours(span):g} h" for span in (interval, timestep))
            message = f"%s: %s: {several} over %s, of which one of %d is taken; {remedy}"
            logger.warning(message, where, ", ".join(lost), of, stride, by)


def _over_interval(timelines: Mapping[str, Timeline], kind: str) -> list[str]:
    """Names of the variables of which a file says that values are that over intervals."""
    return [n for n, t in timelines.items() if any(s.fields[n].over_interval == kind for s in t.sources)]


def _how_to_share(differing: int, *timelines: Timeline) -> str:
    """What to do about variables that have not one time in common, such as days told by noon and by midnight, if so."""
    if differing < sum(timeline.times.size for timeline in timelines):
        return ""
    first = " and ".join(f"{t.variable.name} {clock.text(t.times[0])}" for t in timelines)
    return f"they share none (the first are {first}): shift the times of one, if both mean the same (cdo shifttime)"


def _check_alike(timeline: Timeline, interval: np.timedelta64) -> None:
    """Refuses files at a longer interval than the record's: each of their times would be a stretch of its own."""
    times = timeline.times
    far = np.diff(times) != interval
    alone = np.append(far, True) & np.append(True, far)
    by_file = [timeline.source_of == number for number in range(len(timeline.sources))]
    for own in (*by_file, np.ones(times.size, bool)):  # all together, where each holds one time
        if own.sum() > 2 and alone[own].mean() > 0.5:
            apart = checks.hours(np.median(np.diff(times[own & alone]).astype(np.int64)).astype("timedelta64[ns]"))
            coarse, fine = (timeline.sources[timeline.source_of[row]] for row in (np.argmax(own & alone), far.argmin()))
            raise DataError(
                f"{coarse.path}: most times are {apart:g} h apart, but {checks.hours(interval):g} h in {fine.path} at "
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


def _check_accumulation(timeline: Timeline, timestep: np.timedelta64, interval: np.timedelta64) -> None:
    """A sum over the model step is made of sums over the files' interval; names and bounds must not say otherwise."""
    name, length = timeline.variable.name, checks.hours(interval)
    silent = []
    for number, source in enumerate(timeline.sources):
        raw_name = source.fields[name].raw_name
        stated = accumulation_hours(raw_name)
        if stated not in (None, length):
            raise DataError(
                f"{source.path}: {raw_name} holds sums over another interval than that of its times, "
                f"{length:g} h; name one that does as source of data.diagnostic.{name}"
            )
        if source.bounds is not None:
            _check_bounds(timeline, number, interval)
        elif stated is None:
            silent.append(source)
    if silent and length > _ERA5_SUM_HOURS:
        logger.warning(
            "%s: %s: taken as sums over %g h, the interval of its times; ERA5's tp is a sum over 1 h: of that take all "
            "hours; if these are sums over %g h, call it total_precipitation_%ghr in the files",
            *(silent[0].path, silent[0].fields[name].raw_name, length, length, length),
        )
    if accumulation_hours(name) not in (None, checks.hours(timestep)):
        raise DataError(
            f"data.diagnostic.{name}: precipitation is summed over the model step of {checks.hours(timestep):g} h; "
            f"name it total_precipitation_{checks.hours(timestep):g}hr and give its name in the files as source"
        )


def _check_bounds(timeline: Timeline, number: int, interval: np.timedelta64) -> None:
    """Refuses a file of which the bounds of a time say that its sum is not over the interval that ends there."""
    source, rows = timeline.sources[number], np.flatnonzero(timeline.source_of == number)
    assert source.bounds is not None
    first, last = source.bounds[timeline.row_of[rows]].T
    # on the calendars of climate models the interval before a day that they lack is longer
    length = (last - first == interval) | (first == timeline.times[rows - 1])
    for right, remedy in (
        (last == timeline.times[rows], "a sum belongs to the interval that ends at its time: set the time to that end"),
        (length, f"the times are {checks.hours(interval):g} h apart: take sums over that"),
    ):
        if not right.all():
            row = int(np.argmin(right))
            raise DataError(
                f"{source.path}: {source.fields[timeline.variable.name].raw_name} at "
                f"{clock.text(timeline.times[rows[row]])} runs from {clock.text(first[row])} to "
                f"{clock.text(last[row])} by the bounds of its time; {remedy}"
            )
