"""A complete experiment config for some files: what ``emulator init FILES...`` writes.

Nothing is guessed that can be looked up: variables, levels, grid and times are what ``inspect`` and preparation see,
the network is tried on the grid, and the physics baseline is asked whether it can start from such fields.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import ConfigError
from data_prep.files.disk import replacing
from data_prep.inspection.files import used_files
from data_prep.inspection.report import Report, few_words, inspect_files
from data_prep.reading.locations import find_files
from data_prep.reading.probe import probe
from emulator.config import parse_config
from emulator.config.yaml_text import parse_yaml
from emulator.planning.config_text import certainty, config_text
from emulator.planning.possible import ChosenData, Leads, Physics, has_little, physics_baselines
from emulator.planning.sizing import Machine, Plan, plan_by_trial, this_machine
from emulator.progress import duration


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
      DiskError: ``out`` cannot be written, which is known before the work.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another name with --out, or delete it")
    with replacing(out) as temporary:
        text, summary = _propose(places, out, minutes)
        temporary.write_text(text, encoding="utf-8")
    return summary


def _propose(places: Sequence[str | Path], out: Path, minutes: float) -> tuple[str, str]:
    """The text of the config, and what was decided."""
    paths = find_files(places)
    probe(paths)
    report = inspect_files(paths)
    with few_words(logging.ERROR):  # inspection has warned
        data = ChosenData.of(used_files(report.files), report)
    machine = this_machine()
    leads, physics = Leads.of(data), physics_baselines(data)
    hours = float(data.section["timestep_hours"])
    longest = round(leads.longest / hours) if has_little(data) else None
    plan = plan_by_trial(data.inputs.spec, data.inputs.grid, data.lengths["train"], machine, minutes, hours, longest)
    text = config_text(out, report, data, plan, leads, physics, machine, minutes)
    parse_config(parse_yaml(text), source=str(out))
    return text, _summary(out, report, data, plan, leads, physics, machine)


def _summary(
    out: Path, report: Report, data: ChosenData, plan: Plan, leads: Leads, physics: Physics, machine: Machine
) -> str:
    channels = len(data.inputs.spec.state_channels)
    counts = ", ".join(f"{split} {sum(n)}" for split, n in data.lengths.items())
    baselines, why = physics
    lines = [
        f"data     {channels} channel{'s' * (channels != 1)} on {data.inputs.grid.describe()}; times: {counts}",
        f"network  U-Net of width {plan.model.width}, {plan.parameters / 1e6:.2g} million parameters; "
        f"{plan.steps} steps, {duration(plan.seconds)} on {machine.description} ({certainty(plan, machine)})",
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
    return "\n".join([*lines, f"wrote    {out}; next: emulator run {shlex.quote(str(out))}"])
