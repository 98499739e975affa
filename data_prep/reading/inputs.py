"""The files of a data set as one record: variables joined by time, stretches without a gap, one state spec.

Files may hold all variables, or one each, or one stretch of time or some levels each; ``open_canonical`` looks at what
they hold.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep import clock
from data_prep.config import DataConfig, ForcingConfig, VariableConfig
from data_prep.errors import DataError, first_and_more
from data_prep.forcing import COMPUTED_FORCINGS, COORDINATE_VARIABLES
from data_prep.grid import Grid
from data_prep.lateral import lateral_variables
from data_prep.reading import checks
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location
from data_prep.reading.regridded import bring_to, regrid_sources
from data_prep.reading.segments import RawSegment, check_accumulation, cut_into_segments, over_interval_names
from data_prep.reading.sources import Extent, NothingAskedError, Source, in_units, open_source, warn_of_units
from data_prep.reading.timelines import Mending, Timeline, join_by_time
from data_prep.regrid import make_regridder
from data_prep.spec import Known, Role, StateSpec, Variable
from data_prep.variables import KNOWN, is_accumulation, known

logger = logging.getLogger(__name__)

_TABLE_BYTES = 2**26  # of a yearly table, read at a time
_COMPARED_DAYS = (0, 91, 182, 274)


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
        variables = [v for v in self.spec.with_role("forcing") if v.known == "climatological"]
        stops = np.cumsum([0, *(len(v.channels) for v in variables)]).tolist()
        table = np.empty((clock.CALENDAR_DAYS, *self.grid.shape, stops[-1]), np.float32)
        for variable, first, last in zip(variables, stops, stops[1:], strict=False):
            source = self.tables[variable.name]
            # conversion takes several times what is read at once
            at_once = max(1, _TABLE_BYTES // (4 * self.grid.shape[0] * self.grid.shape[1] * (last - first)))
            for day in range(0, clock.CALENDAR_DAYS, at_once):
                stop = min(day + at_once, clock.CALENDAR_DAYS)
                table[day:stop, ..., first:last] = source.read(variable.name, variable.levels, day, stop)
            source.release()
        return table


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
    if mendings is None:  # else whoever found them has looked at these too
        _check_fixed(holders, asked)
        _warn_of_mixed_intervals(holders)
    described = {name: _describe(name, role, variable, holders[name]) for name, (role, variable) in asked.items()}
    moving = [v for v in described.values() if v.role in ("prognostic", "diagnostic") or v.known == "persisted"]
    timelines = join_by_time(moving, holders, config, mendings)
    return Inputs(
        spec=_spec(described, config),
        grid=sources[0].grid,
        timestep=_timestep(config),
        segments=cut_into_segments(timelines, _timestep(config), sources[0].grid),
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
    sources = _opened(paths, names, config, admit_forecasts=True)
    warn_of_units(sources)
    sources = bring_to(sources, onto, lambda grid, where: make_regridder(grid, onto, "bilinear", where=where))
    for number, source in enumerate(sources):
        for name in source.fields:
            source.refuse_another_surface(spec[name], "the region's")
            sources[number] = in_units(sources[number], name, spec[name].units, "the region's")
    sources = stack_levels(sources)
    holders = {name: _holders(sources, name, "prognostic", variable) for name, variable in asked.items()}
    described = [_describe(name, "prognostic", variable, holders[name]) for name, variable in asked.items()]
    timelines = join_by_time(described, holders, config, mendings)
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
            check_accumulation(timeline, timestep, interval)
    means = over_interval_names(timelines, "mean")
    if means:
        where = timelines[means[0]].sources[0].path
        logger.warning("%s: %s: means over intervals, taken as instants at their times", where, ", ".join(means))
    return timelines


def _opened(
    paths: Sequence[Location],
    names: Mapping[str, Sequence[str]],
    config: DataConfig,
    *,
    admit_forecasts: bool = False,
) -> list[Source]:
    twice = "duplicates" in config.repair or bool(config.exclude)  # what is left out may be there twice
    try:
        return [
            open_source(path, names, config.vertical, admit_duplicates=twice, admit_forecasts=admit_forecasts)
            for path in paths
        ]
    except NothingAskedError as error:
        raise DataError(f"{error}; leave it out of data.inputs, or ask for what it holds") from None


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
        where = first_and_more([source.path for source in sources])
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
            "constant": "; it has no time: make it a static variable, or give files their dates as a coordinate 'time'",
            "time": "; a climatological forcing needs a dimension dayofyear of 366: or make it known: persisted",
        }[found]
        raise DataError(f"{there[0].path}: {name} runs over {found}, as {role} it must run over {extents[0]}{hint}")
    return fitting


def _warn_of_mixed_intervals(holders: Mapping[str, Sequence[Source]]) -> None:
    """Says so where one file has instants of a variable and another one means, as far as they tell."""
    for name, sources in holders.items():
        kinds = [s.fields[name].over_interval or "sum" * is_accumulation(name) for s in sources]
        other = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), None)
        if other is not None:
            here, there = (f"a {kinds[i]} over intervals" if kinds[i] else "of instants" for i in (other, 0))
            logger.warning(
                "%s: %s is %s, that of %s %s, as the files say; they are taken alike",
                sources[other].path,
                name,
                here,
                sources[0].path,
                there,
            )


def _check_fixed(holders: Mapping[str, Sequence[Source]], asked: Mapping[str, tuple[Role, VariableConfig]]) -> None:
    """Refuses static fields and yearly tables that are none, or differ among the files."""
    for name, (role, variable) in asked.items():
        if role == "static":
            _check_constant(holders[name], name, variable.levels)
        elif isinstance(variable, ForcingConfig) and variable.known == "climatological":
            _check_table(holders[name], name, variable.levels)


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


def _check_table(sources: Sequence[Source], name: str, levels: Sequence[float] | None) -> None:
    """Refuses a table that lacks days, or is another one in a later file, of which some days are read."""
    levels = sources[0].fields[name].levels if levels is None else levels
    first: list[np.ndarray] = []
    for source in sources:
        if (days := source.n_rows(name)) != clock.CALENDAR_DAYS:
            raise DataError(
                f"{source.path}: {name} has {days} days of the year, a table needs all {clock.CALENDAR_DAYS}"
            )
        fields = [source.read(name, levels, day, day + 1) for day in _COMPARED_DAYS] if len(sources) > 1 else []
        source.release()
        first = first or fields
        if not all(map(checks.are_one_field, first, fields)):
            raise DataError(
                f"{source.path}: {name} differs from what {sources[0].path} holds; remove the wrong table, or make "
                "one of both"
            )


def _describe(name: str, role: Role, variable: VariableConfig, holders: Sequence[Source]) -> Variable:
    found = holders[0].fields[name]
    levels = tuple(variable.levels) if variable.levels is not None else found.levels
    for source in holders:
        _check_split_by_level(source, holders[0], name)
        source.level_rows(name, levels)
    entry = known(name)
    how: Known | None = variable.known if isinstance(variable, ForcingConfig) else None
    standard_name = entry.standard_name if entry else ""
    described = Variable(
        name, role, levels, found.to_si.units, standard_name, variable.minimum, how, _surface_of(holders, name)
    )
    for source in holders:
        source.refuse_another_surface(described, "that of other files")
    if entry and not entry.on_levels and described.pressure is not None:
        logger.warning("%s: %s is taken from %s at %g hPa", holders[0].path, name, found.raw_name, described.pressure)
    return described


def _surface_of(holders: Sequence[Source], name: str) -> float | None:
    """The pressure surface that a field lies on by all its files; ``None`` where one of them names none."""
    said = [source.fields[name].pressure for source in holders]
    return None if None in said else said[0]


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
