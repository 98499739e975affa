"""A complete experiment config for some files: what ``emulator init FILES...`` writes.

Nothing is guessed that can be looked up: variables, levels, grid and times are what ``inspect`` and preparation see,
the network is tried on the grid, and the physics baseline is asked whether it can start from such fields.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import math
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

from data_prep.clock import CALENDAR_DAYS, day_of_year
from data_prep.clock import text as time_text
from data_prep.config import DataConfig
from data_prep.errors import ConfigError, DataError, UserError, how_to_install, printable
from data_prep.files.disk import write_text
from data_prep.inspection.files import FieldReport, record_times, used_files
from data_prep.inspection.report import Report, few_words, inspect_files
from data_prep.inspection.text import flow
from data_prep.preparation.splits import split_segments
from data_prep.preparation.store import SPLITS, Split
from data_prep.reading.inputs import Inputs, open_canonical
from data_prep.reading.locations import Location, find_files, is_url
from data_prep.reading.opening import open_lazily
from data_prep.reading.probe import probe
from data_prep.variables import UPPER_AIR, is_accumulation
from emulator import __version__
from emulator.config import parse_config
from emulator.forecasters.statistical import LEARNED
from emulator.planning.sizing import MOST_PASSES, OPTIMISER, Machine, Plan, plan_by_trial, this_machine
from emulator.progress import duration

_WEATHERBENCH_LEVELS = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 600.0, 700.0, 850.0, 925.0, 1000.0)
_REPAIRS = {"duplicate": "duplicates", "flipped latitudes": "flipped_latitudes", "unit slip": "unit_slips"}
_ROLES = {
    "prognostic": "In and out of the network: what it steps forward.",
    "diagnostic": "Out only: what a step makes, such as rain.",
    "forcing": "In only, at valid time: kept from the initial time (persisted), or a yearly table (climatological).",
    "static": "In only, constant.",
}
_HEADLINE = (
    "geopotential@500",
    "temperature@850",
    "u_component_of_wind@850",
    "v_component_of_wind@850",
    "specific_humidity@700",
    "mean_sea_level_pressure",
    "2m_temperature",
)
_MOST_HEADLINES = 7
_LEAD_HOURS = {True: 240, False: 120}  # global, regional: what enters through the sides soon decides
_MOST_LEADS = 48
_INITIAL_TIMES = 120  # that intervals can be told from, at a bearable cost
_REGRESSION_VALUES = 20_000  # of a state
_FEW_STEPS = 20  # a validation costs as much
_BUSY = 1.5  # processes a core; a command like this one alone stays below it
_YEAR_COVERED = 0.8  # of the days of a year, for a climatology to be learned against
_MOST_LEFT_OUT = 0.05  # of the times, for their defects: beyond that the files are to be mended
_LITTLE_DATA_YEARS = 3.0  # of fewer, an input that tells dates apart would be learned by heart


def init(places: Sequence[str | Path], out: Path, minutes: float) -> str:
    """Looks at files and writes a config that ``emulator run`` takes as it is.

    Args:
      places: NetCDF, GRIB or Zarr, folders of these, or URLs of Zarr stores; together one data set.
      out: The config to be; its name is the experiment's.
      minutes: That training should take on this machine.

    Returns:
      What was decided, a few lines.

    Raises:
      ConfigError: ``out`` is there already.
      DataError: the files are refused by preparation, or hold too few times.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another name with --out, or delete it")
    paths = find_files(places)
    probe(paths)
    report = inspect_files(paths)
    with few_words(logging.ERROR):  # inspection has warned
        data = _Data.of(used_files(report.files), report)
    machine = this_machine()
    leads, physics = _Leads.of(data), _physics(data)
    hours = float(data.section["timestep_hours"])
    longest = round(leads.longest / hours) if _has_little(data) else None
    plan = plan_by_trial(data.inputs.spec, data.inputs.grid, data.lengths["train"], machine, minutes, hours, longest)
    text = _text(out, report, data, plan, leads, physics, machine, minutes)
    parse_config(yaml.safe_load(text), source=str(out))
    write_text(out, text)
    return _summary(out, report, data, plan, leads, physics, machine)


@dataclass(frozen=True)
class _Data:
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
    def of(cls, paths: Sequence[Location], report: Report) -> _Data:
        """From what inspection found; opens the files as preparation does.

        Raises:
          DataError: they are refused, or hold too few times for three splits.
        """
        section = report.section | _repairs(report)
        section |= {role: _chosen_levels(report, section[role]) for role in _ROLES if role in section}
        n_times = record_times(report.files).size
        count = f"{n_times} time{'s' if n_times != 1 else ''}"
        few = f"{_where(report)}: {count}, too few for training, validation and test data"
        if section["split"] == {"segments": {}}:
            raise DataError(f"{few}; add files")
        inputs = open_canonical(paths, DataConfig.model_validate(section))
        pieces = split_segments(inputs.segments, DataConfig.model_validate(section).split)
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
class _Leads:
    """Leads and initial times that fit the test data, in hours."""

    longest: int
    step: int
    every: int

    @classmethod
    def of(cls, data: _Data) -> _Leads:
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


def _where(report: Report) -> str:
    more = f" and {len(report.files) - 1} more" if len(report.files) > 1 else ""
    return f"{report.files[0].source.path}{more}"


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
        levels = options.get("levels", _reports_of(report, name, options)[-1].found.levels)
        if len(levels) > len(_WEATHERBENCH_LEVELS) and set(_WEATHERBENCH_LEVELS) <= set(levels):
            levels = _WEATHERBENCH_LEVELS
        on_pressure = report.section.get("vertical") == "pressure"
        out[name] = options | ({"levels": [_plain(x) for x in levels]} if len(levels) and on_pressure else {})
    return out


def _reports_of(report: Report, name: str, options: Mapping[str, Any]) -> list[FieldReport]:
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
    if _years(times, timestep) >= _LITTLE_DATA_YEARS and _share_of_year(times) >= _YEAR_COVERED:
        out.append("year_progress")
    return [*out, "coordinates"]


def _is_of_speedy(path: Location) -> bool:
    with open_lazily(path) as data:
        return "SPEEDY" in str(data.attrs.get("source", ""))


def _years(times: np.ndarray, timestep: float) -> float:
    return times.size * timestep / (24 * 365.25)


def _has_little(data: _Data) -> bool:
    """Whether there are years enough for a climatology, but not for a network to learn it too."""
    years = _years(data.training_times, float(data.section["timestep_hours"]))
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


_Physics: TypeAlias = tuple[list[dict[str, int]], str]
"""Baselines, and why (not)."""


def _physics(data: _Data) -> _Physics:
    """SPEEDY baselines that can start from these fields, and in words why (not)."""
    spec, grid = data.inputs.spec, data.inputs.grid
    if not grid.is_global:
        return [], "SPEEDY is a global model, the grid is regional"
    lacking = [name for name in UPPER_AIR if name not in data.section["prognostic"]]
    if lacking:
        return [], f"SPEEDY cannot start without {', '.join(lacking)}"
    if importlib.util.find_spec("jcm") is None:
        return [], f"the extra 'physics' is not installed ({how_to_install('physics')}), which runs SPEEDY"
    from emulator.forecasters.physics import PhysicsForecaster, sparse_levels

    surface = data.inputs.constants.get("geopotential_at_surface")
    standing_on = surface.read("geopotential_at_surface", ())[0, ..., 0] if surface else None
    truncation = 21 if grid.shape[0] <= 48 else 31
    try:
        PhysicsForecaster(truncation, spec, grid, data.inputs.timestep, standing_on)
    except UserError as error:
        return [], str(error).removeprefix("physics: ").removeprefix(f"physics_t{truncation}: ")
    if spec.vertical == "pressure" and (unfair := sparse_levels(spec["temperature"].levels)) is not None:
        return [], f"SPEEDY would have {unfair}"
    why = "SPEEDY, started from the same fields; also debiased and damped by its own errors"
    return [{"truncation": truncation}], why


# ---- the text


def _text(
    out: Path,
    report: Report,
    data: _Data,
    plan: Plan,
    leads: _Leads,
    physics: _Physics,
    machine: Machine,
    minutes: float,
) -> str:
    times = record_times(report.files)
    return "\n".join(
        [
            f"# Written by 'emulator init' {__version__}; change what you like, then: emulator run "
            + printable(_quoted(out)),
            f"# {printable(_where(report))}: {data.inputs.grid.describe()};",
            f"# {times.size} times from {time_text(times[0])} to {time_text(times[-1])}.",
            # quoted: names such as 2020 or 1e3 would else be numbers
            f'name: "{_name_of(out)}"  # results go to runs/{_name_of(out)}; "workdir: FOLDER" puts them elsewhere',
            "seed: 0",
            "",
            *_data_lines(report, data),
            "",
            *_model_lines(plan, machine),
            "",
            *_train_lines(data, plan, machine, minutes),
            "",
            *_evaluate_lines(data, leads, physics),
            "",
        ]
    )


def _data_lines(report: Report, data: _Data) -> list[str]:
    section = data.section
    lines = ["data:", f"  inputs: {flow(section['inputs'])}"]
    if "vertical" in section:
        lines.append(f"  vertical: {section['vertical']}")
    lines.append(f"  timestep_hours: {section['timestep_hours']:g}  # of the model; a multiple of the files' interval")
    for role, comment in _ROLES.items():
        if role in section:
            lines += [f"  # {comment}", f"  {role}:"]
            for name, options in section[role].items():
                lines += [f"    {flow(name)}: {flow(options)}  # {_range(_reports_of(report, name, options))}"]
    skipped = [f"{name} ({reason})" for file in report.files for name, reason in file.skipped]
    lines += [f"  # left out: {printable(text)}" for text in skipped]
    most = max(len(f.found.levels) for file in report.files for f in file.fields)
    if most > len(_WEATHERBENCH_LEVELS) and section.get("vertical") == "pressure":
        lines.append(f"  # The files hold {most} levels; where these are 13, they are the ones of WeatherBench.")
    if "nan" in section:
        lines.append(f"  nan: {section['nan']}  # in forcing and static fields")
    if "repair" in section:
        lines.append(f"  repair: {flow(section['repair'])}  # defects that 'emulator inspect' lists")
    if "exclude" in section:
        lines.append(f"  exclude: {flow(section['exclude'])}  # likewise, beyond repair")
    lines.append("  # Known at any time and place.")
    if "year_progress" not in section["computed"]:
        years = _years(data.training_times, float(section["timestep_hours"]))
        length = f"{years:.2g} years" if years >= 1 else f"{max(1, round(365.25 * years))} days"
        lines[-1] += f" Without year_progress: in {length} of training data it would tell dates apart."
    lines.append(f"  computed: {flow(section['computed'])}")
    counts = ", ".join(f"{split} {sum(n)}" for split, n in data.lengths.items())
    lines += [f"  # Times of each: {counts}.", "  split:"]
    return [*lines, *(f"    {key}: {flow(value)}" for key, value in section["split"].items())]


def _range(reports: Sequence[FieldReport]) -> str:
    """Unit and values of a variable in all files."""
    low, high = min(r.low for r in reports), max(r.high for r in reports)
    missing = max(r.missing for r in reports)
    return f"{reports[0].found.to_si.units}, {low:.5g} to {high:.5g}" + (f", {missing:.1%} missing" if missing else "")


def _model_lines(plan: Plan, machine: Machine) -> list[str]:
    keys = ["patch", "width", "multipliers", "blocks", *["global_truncation"] * (plan.model.global_truncation > 0)]
    return [
        f"# {plan.parameters / 1e6:.2g} million parameters, for {machine.description}.",
        "# A U-Net takes any grid; docs/models.md has others.",
        "model:",
        f"  kind: {plan.model.kind}",
        *(f"  {key}: {flow(getattr(plan.model, key))}" for key in keys),
    ]


def _train_lines(data: _Data, plan: Plan, machine: Machine, minutes: float) -> list[str]:
    longest = max(stage.rollout for stage in plan.stages)
    steps = min(max(12, longest), max(1, (max(data.lengths["validation"]) - 1) // 2))
    interval = plan.steps // 4 if plan.steps >= _FEW_STEPS else plan.steps
    lines = [
        f"# {duration(plan.seconds)} of training, of {minutes:g} min allowed (init --minutes):",
        f"# {_certainty(plan, machine)}.",
        *([f"# {plan.warning}."] * bool(plan.warning)),
        f"# More would not help: the first stage alone is {MOST_PASSES} passes through the data, which are few."
        if plan.few_data
        else "# That is the longest training that init proposes; add steps, or width, by hand."
        if plan.longest_course
        else "# More steps and a wider network learn more: init --minutes. Compiling and validation come on top.",
        "train:",
        *(["  anomalies: true  # with little data the course of day and year need not be learned"] * _has_little(data)),
        f"  batch_size: {plan.batch_size}",
    ]
    if plan.accumulate > 1:
        lines.append(f"  accumulate: {plan.accumulate}  # the batch is worked off in parts that fit the memory")
    if plan.rematerialise:
        lines.append("  rematerialise: true  # less memory, up to a third more arithmetic")
    lines += [
        f"  optimiser: {OPTIMISER}",
        f"  ema_decay: {0.99 if plan.steps < 3000 else 0.999}",
        f"  precision: {machine.precision}",
        "  stages:",
    ]
    for stage in plan.stages:
        keys = ("steps", "rollout", "learning_rate", "warmup", *(("batch_size",) if stage.batch_size else ()))
        shown = {key: getattr(stage, key) for key in keys}
        lines.append(f"    - {flow(shown)}")
    if not machine.on_cpu:  # where writing a large state may take longer than 200 steps
        lines.append(f"  checkpoint_every: {_every_two_minutes(plan)}")
    return [*lines, f"  validate_every: {interval}", f"  validation_steps: {steps}"]


def _every_two_minutes(plan: Plan) -> int:
    return max(200, round(120 * plan.steps / plan.seconds / 100) * 100)


def _evaluate_lines(data: _Data, leads: _Leads, physics: _Physics) -> list[str]:
    baselines, why = physics
    lead_rows = round(leads.longest / float(data.section["timestep_hours"]))
    lines = [
        "evaluate:",
        f"  lead_hours: {leads.longest}",
        f"  lead_step_hours: {leads.step}",
        f"  init_every_hours: {leads.every}",
        f"  references: {flow(_references(data, lead_rows))}",
        f"  physics: {flow(baselines)}  # {why}",
    ]
    if baselines and max(data.lengths["train"]) <= lead_rows:
        lines.append("  correction_inits: 0  # no training stretch is as long as a forecast, to learn corrections from")
    left_out = [name for name in LEARNED if _training_forecasts(data, lead_rows) < LEARNED[name]]
    if left_out:
        lines.append(f"  # No {' or '.join(left_out)}: too few training stretches are as long as a forecast.")
    headline = _headline(data)
    return [*lines, "  headline:  # of table and plots; all variables are scored", *(f"    - {v}" for v in headline)]


def _references(data: _Data, lead_rows: int) -> list[str]:
    """All that the data can carry: the regression is for small states, and for training data that fill some seasons."""
    small = math.prod(data.inputs.grid.shape) * len(data.inputs.spec.state_channels) <= _REGRESSION_VALUES
    regression = ["linear_pcs"] if small and data.training_times.size >= 20 * lead_rows else []
    learned = ["damped_anomaly_persistence", *regression]
    forecasts = _training_forecasts(data, lead_rows)
    return ["persistence", "anomaly_persistence", *(r for r in learned if forecasts >= LEARNED[r]), "climatology"]


def _training_forecasts(data: _Data, lead_rows: int) -> int:
    return sum(max(0, n - lead_rows) for n in data.lengths["train"])


def _headline(data: _Data) -> list[str]:
    """The usual variables as far as they are verified, else the middle level of each."""
    names = [c.name for c in data.inputs.spec.state_channels]
    if data.inputs.spec.vertical == "sigma":  # verified on pressure levels, which can be derived of these
        if set(UPPER_AIR) <= set(data.section["prognostic"]) and "surface_pressure" in names:
            return [v for v in _HEADLINE if v in names or v != "2m_temperature"]
        return []
    usual = [name for name in _HEADLINE if name in names]
    by_variable: dict[str, list[str]] = {}
    for name in names:
        by_variable.setdefault(name.partition("@")[0], []).append(name)
    others = [n[len(n) // 2] for v, n in by_variable.items() if v not in {u.partition("@")[0] for u in usual}]
    return [*usual, *others][:_MOST_HEADLINES]


def _summary(
    out: Path, report: Report, data: _Data, plan: Plan, leads: _Leads, physics: _Physics, machine: Machine
) -> str:
    channels = len(data.inputs.spec.state_channels)
    counts = ", ".join(f"{split} {sum(n)}" for split, n in data.lengths.items())
    baselines, why = physics
    lines = [
        f"data     {channels} channel{'s' * (channels != 1)} on {data.inputs.grid.describe()}; times: {counts}",
        f"network  U-Net of width {plan.model.width}, {plan.parameters / 1e6:.2g} million parameters; "
        f"{plan.steps} steps, {duration(plan.seconds)} on {machine.description} ({_certainty(plan, machine)})",
        *([f"beware   {plan.warning}"] * bool(plan.warning)),
        f"scores   leads to {leads.longest} h every {leads.step} h, initial times every {leads.every} h",
        f"physics  {'yes' if baselines else 'no'}: {why}",
    ]
    errors = sum(f.severity == "error" for f in report.findings)
    if report.findings:
        lines.append(
            f"quality  {errors} errors, {len(report.findings) - errors} warnings; 'emulator inspect' lists them"
            + (f"; repaired by {', '.join(data.section['repair'])}" if "repair" in data.section else "")
            + ("; what is beyond repair is left out (exclude)" if "exclude" in data.section else "")
        )
    return "\n".join([*lines, f"wrote    {out}; next: emulator run {_quoted(out)}"])


def _certainty(plan: Plan, machine: Machine) -> str:
    """What the time of training is worth."""
    if not plan.measured:
        return "by arithmetic: the network is too large to be tried"
    busy = machine.on_cpu and machine.load > _BUSY
    return "a step was timed" + (", while other work kept the machine busy: alone it takes less" if busy else "")


def _name_of(out: Path) -> str:
    """The file's name in letters that every output may carry."""
    plain = unicodedata.normalize("NFKD", out.stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.") or "experiment"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
