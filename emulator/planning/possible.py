"""What some files make possible: which variables and levels, which leads, which physics."""

from __future__ import annotations

import glob
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from data_prep.clock import CALENDAR_DAYS, day_of_year
from data_prep.clock import text as time_text
from data_prep.config import DataConfig
from data_prep.errors import DataError, UserError, first_and_more, how_to_install
from data_prep.inspection.files import FieldReport, record_times
from data_prep.inspection.report import Report
from data_prep.preparation.splits import split_segments
from data_prep.preparation.store import SPLITS, Split
from data_prep.reading.inputs import Inputs, open_canonical
from data_prep.reading.locations import Location, is_url
from data_prep.reading.opening import open_lazily
from data_prep.variables import SURFACE, UPPER_AIR, is_accumulation
from emulator.forecasters.physics_start import check_start, sparse_levels

WEATHERBENCH_LEVELS = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 700.0, 850.0, 925.0, 1000.0)
_REPAIRS = {"duplicate": "duplicates", "flipped latitudes": "flipped_latitudes", "unit slip": "unit_slips"}
ROLES = {
    "prognostic": "In and out of the network: what it steps forward.",
    "diagnostic": "Out only: what a step makes, such as rain.",
    "forcing": "In only, at valid time: kept from the initial time (persisted), or a yearly table (climatological).",
    "static": "In only, constant.",
}
_LEAD_HOURS = {True: 240, False: 120}  # global, regional: what enters through the sides soon decides
_MOST_LEADS = 48
_INITIAL_TIMES = 120  # that intervals can be told from, at a bearable cost
_YEAR_COVERED = 0.8  # of the days of a year, for a climatology to be learned against
_MOST_LEFT_OUT = 0.05  # of the times, for their defects: beyond that the files are to be mended
_LITTLE_DATA_YEARS = 3.0  # of fewer, an input that tells dates apart would be learned by heart


@dataclass(frozen=True)
class ChosenData:
    """The data section, and what preparation will make of it.

    Attributes:
      section: Of the config.
      inputs: The files, joined.
      lengths: Times of each stretch of a split.
      training_times: All of them.
    """

    section: Mapping[str, Any]
    inputs: Inputs
    lengths: Mapping[Split, list[int]]
    training_times: np.ndarray

    @classmethod
    def of(cls, paths: Sequence[Location], report: Report) -> ChosenData:
        """From what inspection found; opens the files as preparation does.

        Raises:
          DataError: they are refused, or hold too few times for three splits.
        """
        section = report.section | _repairs(report)
        section |= {role: _chosen_levels(report, section[role]) for role in ROLES if role in section}
        n_times = record_times(report.files).size
        count = f"{n_times} time{'s' if n_times != 1 else ''}"
        few = f"{where_of(report)}: {count}, too few for training, validation and test data"
        if section["split"] == {"segments": {}}:
            raise DataError(f"{few}; add files")
        config = DataConfig.model_validate(section)
        inputs = open_canonical(paths, config)
        pieces = split_segments(inputs.segments, config.split)
        lengths = {split: [p.times.size for p in pieces if p.split == split] for split in SPLITS}
        for split in SPLITS:
            if max(lengths[split], default=0) < 2:
                raise DataError(
                    f"{few} at steps of {section['timestep_hours']:g} h ({split} would get none); add files"
                )
        training_times = np.concatenate([p.times for p in pieces if p.split == "train"])
        section["computed"] = _computed(training_times, section["timestep_hours"], report)
        section["inputs"] = _as_globs(paths)
        return cls(section, inputs, lengths, training_times)


@dataclass(frozen=True)
class Leads:
    """Leads and initial times that fit the test data, in hours."""

    longest: int
    step: int
    every: int

    @classmethod
    def of(cls, data: ChosenData) -> Leads:
        """Half of the longest stretch of test data and the gap before it at most; starts at all hours of the day.

        Raises:
          DataError: the test data hold no forecast of whole hours.
        """
        timestep = float(data.section["timestep_hours"])
        whole = next((k for k in range(1, 61) if (k * timestep).is_integer()), None)  # verified leads are whole hours
        rows = data.lengths["test"]
        if whole is None or max(rows) - 1 < whole:
            raise DataError(f"{max(rows)} test times at steps of {timestep:g} h hold no lead of whole hours; add files")
        unit = round(whole * timestep)
        most = (max(rows) - 1) // whole // 2
        if "segments" not in data.section["split"]:
            most = min(most, int(24 * data.section["split"]["gap_days"] // unit))
        n = max(1, min(most, _LEAD_HOURS[data.inputs.grid.is_global] // unit))
        step = next(m for m in range(1, n + 1) if n // m <= _MOST_LEADS and (m == 1 or 24 % (m * unit) == 0 or m == n))
        starts = sum(max(0, r - n * whole) for r in rows) / whole
        every = max(1, math.ceil(starts / _INITIAL_TIMES))
        while unit < 24 and math.gcd(every * unit, 24) != math.gcd(unit, 24):
            every += 1
        return cls(n // step * step * unit, step * unit, every * unit)


def where_of(report: Report) -> str:
    """The files in a few words, for messages."""
    return first_and_more([file.source.path for file in report.files])


def _repairs(report: Report) -> dict[str, Any]:
    """Repairs, and stretches that are left out, where they are all that stands between the files and preparation.

    Raises:
      DataError: why preparation would refuse the files.
    """
    twice = {f.first for f in report.findings if f.kind == "duplicate"}
    errors = [
        f
        for f in report.findings
        if f.severity == "error" and not (f.kind == "stuck" and f.count == 1 and f.first in twice)
    ]
    repairs = sorted({_REPAIRS[f.kind] for f in errors if f.kind in _REPAIRS})
    beyond = [f for f in errors if f.kind not in _REPAIRS]
    spans = sorted({(f.first, f.last) for f in beyond if f.first is not None and f.last is not None})
    times = record_times(report.files)
    lost = np.full(times.size, any(f.first is None for f in beyond))
    for first, last in spans:
        lost |= (times >= first) & (times <= last)
    if report.refusal is not None and not (report.is_mendable and lost.sum() <= _MOST_LEFT_OUT * times.size):
        raise DataError(report.refusal)
    exclude = [[time_text(first), time_text(last)] for first, last in spans]
    return ({"repair": repairs} if repairs else {}) | ({"exclude": exclude} if exclude else {})


def _chosen_levels(report: Report, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables with their levels spelled out: WeatherBench's thirteen where the files hold more."""
    out = {}
    for name, options in variables.items():
        levels = options.get("levels", reports_of(report, name, options)[-1].found.levels)
        if len(levels) > len(WEATHERBENCH_LEVELS) and set(WEATHERBENCH_LEVELS) <= set(levels):
            levels = WEATHERBENCH_LEVELS
        on_pressure = report.section.get("vertical") == "pressure"
        out[name] = options | ({"levels": [_plain(x) for x in levels]} if len(levels) and on_pressure else {})
    return out


def reports_of(report: Report, name: str, options: Mapping[str, Any]) -> list[FieldReport]:
    """What was seen of a variable of the section in all files, which may each have another name for it."""
    wanted = options.get("source", name)
    fields = [f for file in report.files for f in file.fields]
    named = [f for f in fields if wanted in (f.found.raw_name, f.found.name)]
    return named or [f for f in fields if is_accumulation(name) and is_accumulation(f.found.name)]


def _plain(value: float) -> float:
    """A whole number without its decimal point, as people write it."""
    return int(value) if value.is_integer() else value


def _computed(times: np.ndarray, timestep: float, report: Report) -> list[str]:
    """What is known of any time and place and can be told apart in the training data."""
    # SPEEDY's sun shines as a daily mean, so there is no time of day to learn.
    simulated = any(_is_of_speedy(f.source.path) for f in report.files)
    daily = timestep % 24 == 0
    out = ["daily_mean_toa_incident_solar_radiation" if simulated or daily else "toa_incident_solar_radiation"]
    if not (simulated or daily):
        out.append("day_progress")
    if years_of(times, timestep) >= _LITTLE_DATA_YEARS and _share_of_year(times) >= _YEAR_COVERED:
        out.append("year_progress")
    return [*out, "coordinates"]


def _is_of_speedy(path: Location) -> bool:
    with open_lazily(path) as data:
        return "SPEEDY" in str(data.attrs.get("source", ""))


def years_of(times: np.ndarray, timestep: float) -> float:
    """How long times at steps of so many hours are together."""
    return times.size * timestep / (24 * 365.25)


def has_little(data: ChosenData) -> bool:
    """Whether there are years enough for a climatology, but not for a network to learn it too."""
    years = years_of(data.training_times, float(data.section["timestep_hours"]))
    return years < _LITTLE_DATA_YEARS and _share_of_year(data.training_times) >= _YEAR_COVERED


def _share_of_year(times: np.ndarray) -> float:
    return np.unique(day_of_year(times)).size / CALENDAR_DAYS


def _as_globs(paths: Sequence[Location]) -> list[str]:
    """The files as ``data.inputs`` names them: one pattern where it means just these."""
    files = [path for path in paths if isinstance(path, Path)]
    parents, suffixes = {p.parent for p in files}, {p.suffix for p in files}
    if len(files) == len(paths) > 3 and len(parents) == len(suffixes) == 1:
        parent, suffix = parents.pop(), suffixes.pop()
        if suffix and set(parent.glob(f"*{suffix}")) == set(files):
            return [str(Path(glob.escape(str(parent))) / f"*{suffix}")]
    return [str(path) if is_url(path) else glob.escape(str(path)) for path in paths]


Physics: TypeAlias = tuple[list[dict[str, int]], str]
"""Baselines, and why (not)."""


def physics_baselines(data: ChosenData) -> Physics:
    """SPEEDY baselines that can start from these fields, and in words why (not)."""
    spec, grid = data.inputs.spec, data.inputs.grid
    if not grid.is_global:
        return [], "SPEEDY is a global model, the grid is regional"
    lacking = [name for name in UPPER_AIR if name not in data.section["prognostic"]]
    if lacking:
        return [], f"SPEEDY cannot start without {', '.join(lacking)}"
    if importlib.util.find_spec("jcm") is None:
        return [], f"the extra 'physics' is not installed ({how_to_install('physics')}), which runs SPEEDY"
    surface = data.inputs.constants.get(SURFACE)
    standing_on = surface.read(SURFACE, ())[0, ..., 0] if surface else None
    truncation = 21 if grid.shape[0] <= 48 else 31
    name = f"physics_t{truncation}"
    try:
        check_start(name, truncation, spec, grid, data.inputs.timestep, standing_on)
    except UserError as error:
        return [], str(error).removeprefix("physics: ").removeprefix(f"{name}: ")
    if spec.vertical == "pressure" and (unfair := sparse_levels(spec["temperature"].levels)) is not None:
        return [], f"SPEEDY would have {unfair}"
    why = "SPEEDY, started from the same fields; also debiased and damped by its own errors"
    return [{"truncation": truncation}], why
