"""How long it takes from nothing to a network that beats physics, with the simulation of its data included.

    python scripts/time_to_beat.py CONFIG --set workdir=EMPTY_FOLDER

runs the experiment and reads the clock of its stages: simulating, preparing and training count, in wall time and with
all their compilation. What the judges need does not count, the forecasts and their scores. The verdict is the geometric
mean over the headline variables of the network's RMSE over a physics baseline's, five days ahead: below one, that
baseline is beaten. It is given for the baseline raw, debiased and damped, since a network learns the truth's climate
and raw physics does not. Every run appends a line to the record table, beaten or not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

from data_prep.errors import ConfigError, DataError
from emulator import __version__
from emulator.command import append_line, as_command, check_appendable, say
from emulator.config import ExperimentConfig, load_config
from emulator.evaluation.scores_reader import mean_ratios, opponents
from emulator.evaluation.style import forecaster_label
from emulator.experiment.initial_times import verified_leads
from emulator.experiment.running import run_stages, stage_seconds
from emulator.hardware.machine import cores, describe
from emulator.hardware.workers import open_executor
from emulator.studies.markdown import markdown_table

RECORDS = Path("docs/time_to_beat.jsonl")

_COUNTED = ("simulate", "prepare", "train")


@dataclass(frozen=True)
class Attempt:
    """One run against the clock.

    Attributes:
      config: Name of the experiment.
      minutes: Wall time by stage.
      ratios: By physics baseline, the network's RMSE over its own, geometric mean over the headline variables.
      lead_hours: At which lead.
      initial_times: How many the ratios rest on.
      machine, version, date: Where, with which program, and when.
      changed: What of the config was changed on the command line; not kept by the first attempts.
    """

    config: str
    minutes: dict[str, float]
    ratios: dict[str, float]
    lead_hours: float
    initial_times: int
    machine: str
    version: str
    date: str
    changed: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Forms of physics that it has not beaten; who was not held against the damped one lost to all."""
        judged = any(name.endswith("_damped") for name in self.ratios)
        return sum(not (judged and ratio < 1) for ratio in self.ratios.values())

    @property
    def total(self) -> float:
        """Minutes from nothing to the trained network."""
        return sum(self.minutes.values())


def attempt(config: ExperimentConfig, lead_hours: float, changed: Sequence[str] = (), workers: int = 1) -> Attempt:
    """Runs every stage that is not done yet, and judges.

    Args:
      config: An experiment with a nature run and a physics baseline.
      lead_hours: The lead at which physics is to be beaten.
      changed: What of the config was changed on the command line, for the record.
      workers: Processes that prepare and score.

    Raises:
      ConfigError: data or weights are taken from elsewhere, so it does not begin from nothing; or nothing would be
        there to beat, or not at that lead.
      UserError: a stage was stopped on its way, so its clock is wrong; or see ``run_stages``.
    """
    if config.reuse is not None:
        raise ConfigError("reuse: the clock counts from nothing, so nothing may be taken from another experiment")
    if config.train.start_from is not None:
        raise ConfigError(
            "train.start_from: the clock counts from nothing, so no network may begin with learned weights"
        )
    if config.simulate is None:
        raise ConfigError("simulate: the clock counts the simulation of the data, and there is none")
    if not config.evaluate.physics:
        raise ConfigError("evaluate.physics: names no baseline to beat")
    scored = config.evaluate
    if not 0 < lead_hours <= scored.lead_hours or _lead(lead_hours) not in verified_leads(scored):
        raise ConfigError(f"--hours {lead_hours:g}: would not be scored; set evaluate.lead_hours, or another --hours")
    with open_executor(workers) as processes:
        folder = run_stages(config, workers=processes)
    minutes = {name: stage_seconds(folder, name) / 60 for name in _COUNTED}
    with xr.open_dataset(folder / "scores.nc") as scores:
        ratios = ratios_to_physics(scores, lead_hours)
        count = int(scores.attrs["initial_times"])
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return Attempt(config.name, minutes, ratios, lead_hours, count, describe(), __version__, today, list(changed))


def _lead(hours: float) -> np.timedelta64:
    return np.timedelta64(round(hours * 3600), "s").astype("timedelta64[ns]")


def ratios_to_physics(scores: xr.Dataset, lead_hours: float) -> dict[str, float]:
    """The network's RMSE over each physics baseline's, geometric mean over the headline variables."""
    ratios = mean_ratios(scores).sel(lead_time=_lead(lead_hours))
    return {n: float(ratios.sel(forecaster=n)) for n in opponents(scores) if n.startswith("physics")}


def format_records(attempts: Sequence[Attempt]) -> str:
    """A Markdown table, the fastest that beat every form of physics first."""
    names = list(dict.fromkeys(n for a in attempts for n in a.ratios))
    head = [
        "experiment",
        "minutes (simulate + prepare + train)",
        "at",
        *(forecaster_label(n) for n in names),
        "machine",
    ]
    rows = []
    for a in sorted(attempts, key=lambda a: (a.lost, a.total)):
        parts = " + ".join(f"{m:.1f}" for m in a.minutes.values())
        ratios = [f"{a.ratios[n]:.2f}" if n in a.ratios else "" for n in names]
        when = f"{a.lead_hours / 24:g} d, {a.initial_times} starts"
        rows.append([a.config, f"{a.total:.1f} ({parts})", when, *ratios, f"{a.machine}, {a.date}"])
    return markdown_table(head, rows)


def read_records(path: Path) -> list[Attempt]:
    """All attempts of a record table.

    Raises:
      DataError: a line is none.
    """
    try:
        return [Attempt(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no table of records ({error})") from None


@as_command
def main(argv: Sequence[str]) -> None:
    """Runs one attempt from the command line and prints the table with it."""
    parser = argparse.ArgumentParser(prog="time_to_beat", description=__doc__.partition("\n")[0])
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped one")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override one config value")
    parser.add_argument("--hours", type=float, default=120.0, help="lead at which physics is to be beaten (120)")
    parser.add_argument("--workers", type=int, default=cores(), help=f"processes that prepare and score ({cores()})")
    parser.add_argument("--records", type=Path, default=RECORDS, help=f"the table, a line a run ({RECORDS})")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set)
    check_appendable(arguments.records, "--records")
    before = read_records(arguments.records) if arguments.records.exists() else []
    made = attempt(config, arguments.hours, arguments.set, arguments.workers)
    say(format_records([*before, made]))
    append_line(arguments.records, json.dumps(asdict(made)))
