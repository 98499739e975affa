"""A config as people read it: each choice with what it follows from."""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.clock import text as time_text
from data_prep.errors import percent, printable
from data_prep.inspection.files import FieldReport, record_times
from data_prep.inspection.report import Report
from data_prep.inspection.text import flow
from data_prep.variables import UPPER_AIR
from emulator import __version__
from emulator.forecasters.statistical import LEARNED
from emulator.planning.possible import (
    ROLES,
    WEATHERBENCH_LEVELS,
    ChosenData,
    Leads,
    Physics,
    has_little,
    reports_of,
    where_of,
    years_of,
)
from emulator.planning.sizing import MOST_PASSES, OPTIMISER, Machine, Plan
from emulator.progress import duration

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
_REGRESSION_VALUES = 20_000  # of a state
_FEW_STEPS = 20  # a validation costs as much
_PRODUCTS = "  # timed: faster here; where a CPU has no such instructions, take float32"
_BUSY = 1.5  # processes a core; a command like this one alone stays below it


def config_text(
    out: Path,
    report: Report,
    data: ChosenData,
    plan: Plan,
    leads: Leads,
    physics: Physics,
    machine: Machine,
    minutes: float,
) -> str:
    """The YAML that ``emulator init`` writes to ``out``; ``minutes`` of training were allowed."""
    times = record_times(report.files)
    return "\n".join(
        [
            f"# Written by 'emulator init' {__version__}; change what you like, then: emulator run "
            + printable(shlex.quote(str(out))),
            f"# {printable(where_of(report))}: {data.inputs.grid.describe()};",
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


def _data_lines(report: Report, data: ChosenData) -> list[str]:
    section = data.section
    lines = ["data:", f"  inputs: {flow(section['inputs'])}"]
    if "vertical" in section:
        lines.append(f"  vertical: {section['vertical']}")
    lines.append(f"  timestep_hours: {section['timestep_hours']:g}  # of the model; a multiple of the files' interval")
    for role, comment in ROLES.items():
        if role in section:
            lines += [f"  # {comment}", f"  {role}:"]
            for name, options in section[role].items():
                lines += [f"    {flow(name)}: {flow(options)}  # {_range(reports_of(report, name, options))}"]
    skipped = [f"{name} ({reason})" for file in report.files for name, reason in file.skipped]
    lines += [f"  # left out: {printable(text)}" for text in skipped]
    most = max(len(f.found.levels) for file in report.files for f in file.fields)
    if most > len(WEATHERBENCH_LEVELS) and section.get("vertical") == "pressure":
        lines.append(f"  # The files hold {most} levels; where these are 13, they are the ones of WeatherBench.")
    if "nan" in section:
        lines.append(f"  nan: {section['nan']}  # in forcing and static fields")
    if "repair" in section:
        lines.append(f"  repair: {flow(section['repair'])}  # defects that 'emulator inspect' lists")
    if "exclude" in section:
        lines.append(f"  exclude: {flow(section['exclude'])}  # likewise, beyond repair")
    lines.append("  # Known at any time and place.")
    if "year_progress" not in section["computed"]:
        years = years_of(data.training_times, float(section["timestep_hours"]))
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
    return f"{reports[0].found.to_si.units}, {low:.5g} to {high:.5g}" + (
        f", {percent(missing)} missing" if missing else ""
    )


def _model_lines(plan: Plan, machine: Machine) -> list[str]:
    keys = ["patch", "width", "multipliers", "blocks"]
    keys += [key for key in ("global_truncation", "column_width") if getattr(plan.model, key)]
    carried = "  advection: true  # shows what the wind brings: errors up to a tenth smaller in simulated weather"
    return [
        f"# {plan.parameters / 1e6:.2g} million parameters, for {machine.description}.",
        "# A U-Net takes any grid; docs/models.md has others.",
        "model:",
        f"  kind: {plan.model.kind}",
        *(f"  {key}: {flow(getattr(plan.model, key))}" for key in keys),
        *[carried] * plan.model.advection,
    ]


def _train_lines(data: ChosenData, plan: Plan, machine: Machine, minutes: float) -> list[str]:
    longest = max(stage.rollout for stage in plan.stages)
    steps = min(max(12, longest), max(1, (max(data.lengths["validation"]) - 1) // 2))
    interval = plan.steps // 4 if plan.steps >= _FEW_STEPS else plan.steps
    lines = [
        f"# {duration(plan.seconds)} of training, of {minutes:g} min allowed (init --minutes):",
        f"# {certainty(plan, machine)}.",
        *([f"# {plan.warning}."] * bool(plan.warning)),
        f"# More would not help: the first stage alone is {MOST_PASSES} passes through the data, which are few."
        if plan.few_data
        else "# That is the longest training that init proposes; add steps, or width, by hand."
        if plan.longest_course
        else "# More steps and a wider network learn more: init --minutes. Compiling and validation come on top.",
        "train:",
        *(["  anomalies: true  # with little data the course of day and year need not be learned"] * has_little(data)),
        f"  batch_size: {plan.batch_size}",
    ]
    if plan.accumulate > 1:
        lines.append(f"  accumulate: {plan.accumulate}  # the batch is worked off in parts that fit the memory")
    if plan.rematerialise:
        lines.append("  rematerialise: true  # less memory, up to a third more arithmetic")
    lines += [
        f"  optimiser: {OPTIMISER}",
        f"  ema_decay: {0.99 if plan.steps < 3000 else 0.999}",
        f"  precision: {plan.precision}{_PRODUCTS * (plan.precision == 'bfloat16_products')}",
        "  stages:",
    ]
    for stage in plan.stages:
        span = "free_steps" if stage.free_steps else "rollout"
        keys = ("steps", span, "learning_rate", "warmup", *(("batch_size",) if stage.batch_size else ()))
        shown = {key: getattr(stage, key) for key in keys}
        lines.append(f"    - {flow(shown)}")
    if not machine.on_cpu:  # where writing a large state may take longer than 200 steps
        lines.append(f"  checkpoint_every: {_every_two_minutes(plan)}")
    return [*lines, f"  validate_every: {interval}", f"  validation_steps: {steps}"]


def _every_two_minutes(plan: Plan) -> int:
    return max(200, round(120 * plan.steps / plan.seconds / 100) * 100)


def _evaluate_lines(data: ChosenData, leads: Leads, physics: Physics) -> list[str]:
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


def _references(data: ChosenData, lead_rows: int) -> list[str]:
    """All that the data can carry: the regression is for small states, and for training data that fill some seasons."""
    small = math.prod(data.inputs.grid.shape) * len(data.inputs.spec.state_channels) <= _REGRESSION_VALUES
    regression = ["linear_pcs"] if small and data.training_times.size >= 20 * lead_rows else []
    learned = ["damped_anomaly_persistence", *regression]
    forecasts = _training_forecasts(data, lead_rows)
    return ["persistence", "anomaly_persistence", *(r for r in learned if forecasts >= LEARNED[r]), "climatology"]


def _training_forecasts(data: ChosenData, lead_rows: int) -> int:
    return sum(max(0, n - lead_rows) for n in data.lengths["train"])


def _headline(data: ChosenData) -> list[str]:
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


def certainty(plan: Plan, machine: Machine) -> str:
    """What the time of training is worth."""
    if not plan.measured:
        return "by arithmetic: the network is too large to be tried"
    busy = machine.on_cpu and machine.load > _BUSY
    return "a step was timed" + (", while other work kept the machine busy: alone it takes less" if busy else "")


def _name_of(out: Path) -> str:
    """The file's name in letters that every output may carry."""
    plain = unicodedata.normalize("NFKD", out.stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.") or "experiment"
