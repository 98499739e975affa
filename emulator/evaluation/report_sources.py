"""What lies beside a scores file in the folder of its experiment, as far as a report can use it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import xarray as xr
import yaml

from data_prep.errors import DataError, UserError, one_line
from data_prep.files.json_file import read_object
from data_prep.preparation.store import open_store
from data_prep.reading.locations import is_url
from emulator.config.yaml_text import parse_yaml
from emulator.evaluation.external_files import Places, files_that_are_there, locate_all, shown
from emulator.evaluation.report import Provenance
from emulator.evaluation.report_fields import Fields, collect_fields
from emulator.evaluation.scores_reader import candidate
from emulator.evaluation.style import forecaster_label
from emulator.forecast_form import forecast_attributes
from emulator.run_folder import RECORDS

logger = logging.getLogger(__name__)


def find_fields(scores: xr.Dataset, folder: Path) -> tuple[Fields | None, str]:
    """Fields for the maps of a report, or why there are none.

    Scores stand alone: a store or forecasts that are missing, or are no longer those that were scored, cost the
    maps and nothing else.
    """
    names = scores["forecaster"].values.tolist()
    paths = _forecasts(names, folder)
    if candidate(scores) not in paths:
        return None, "No forecast files lie beside the scores."
    if not (folder / "store.zarr").exists():
        return None, "The truth (store.zarr) does not lie beside the scores."
    try:
        store = open_store(folder / "store.zarr")
        if store.data_hash != scores.attrs["data_hash"]:
            return None, "The store beside the scores holds other data than was scored."
        given = _given_forecasts(folder)
        external = {n: given[n] for n in names if n in given and n not in paths and _is_here(given[n])}
        without = {n: _why_without(n, given) for n in names if n not in (paths | external)}
        return collect_fields(scores, paths, store, external, without), ""
    except UserError as error:
        logger.warning("report: no maps: %s", error)
        return None, f"The forecast files beside the scores cannot be shown: {error}."


def find_long_run(scores: xr.Dataset, folder: Path) -> xr.Dataset | None:
    """The long run that lies beside a scores file, if it was measured against the same truth and can be read."""
    path = folder / "long_run.nc"
    if not path.exists():
        return None
    try:
        run = xr.load_dataset(path)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        logger.warning("report: no long run: %s: cannot be read (%s)", path, one_line(error))
        return None
    return run if run.attrs.get("data_hash") == scores.attrs["data_hash"] and "days_within" in run else None


def find_provenance(scores: xr.Dataset, folder: Path) -> Provenance:
    """Config, commands, versions and times of the experiment that a scores file lies in, as far as they can be read."""
    config, parsed = _read_config(folder)
    facts = {"Experiment": str(parsed["name"])} if "name" in parsed else {}
    simulation = _read_json(folder / "nature" / "simulate.json")
    if isinstance(versions := simulation.get("versions"), dict):
        facts["Truth simulated with"] = ", ".join(f"{k} {v}" for k, v in versions.items())
    facts |= _commands(folder, scores["forecaster"].values.tolist())
    stages = {k: v for k, v in _read_json(folder / RECORDS).items() if isinstance(v, dict)}
    seconds = {k: v["seconds"] for k, v in stages.items() if isinstance(v.get("seconds"), int | float)}
    if seconds:
        facts["Time the stages took"] = ", ".join(f"{k} {v:.0f} s" for k, v in seconds.items())
    return Provenance(config, facts)


def _forecasts(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """The forecast files that are there, those of several forecasters in a folder of their own."""
    places = [(name, folder / "forecasts" / within / f"{name}.nc") for name in names for within in ("", "means")]
    return {name: path for name, path in places if path.exists()}


def _given_forecasts(folder: Path) -> dict[str, Places]:
    """Where the files of other models lie, by the config of the experiment."""
    section = _read_config(folder)[1].get("evaluate")
    given = section.get("forecasts") if isinstance(section, dict) else None
    if not isinstance(given, dict):
        return {}
    return {str(name): locate_all([*map(str, v)] if isinstance(v, list) else str(v)) for name, v in given.items()}


def _is_elsewhere(places: Places) -> bool:
    return any(map(is_url, places if isinstance(places, tuple) else (places,)))


def _is_here(places: Places) -> bool:
    """Whether they are files of this machine that are there."""
    return not _is_elsewhere(places) and bool(files_that_are_there(places))


def _why_without(name: str, given: Mapping[str, Places]) -> str:
    if name not in given:
        return "its forecast file does not lie beside the scores"
    if _is_elsewhere(given[name]):
        return f"maps are drawn of files of this machine, and {shown(given[name])} is elsewhere"
    return f"its file, {shown(given[name])}, is not there"


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The config of an experiment as text and, as far as it can be read, as what it says."""
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "", {}
    try:
        parsed = parse_yaml(text)
    except yaml.YAMLError:
        parsed = None
    return text, parsed if isinstance(parsed, dict) else {}


def _commands(folder: Path, names: list[str]) -> dict[str, str]:
    """When and by which command each forecast file was written; a command that wrote several is told once."""
    wrote: dict[str, list[str]] = {}
    for name, path in _forecasts(names, folder).items():
        try:
            time, _, command = str(forecast_attributes(path).get("history", "")).partition(" ")
        except UserError as error:
            logger.warning("report: %s", error)
            continue
        wrote.setdefault(command or "unknown", []).append(f"{forecaster_label(name)} ({time or 'time unknown'})")
    title = "Forecasts" if len(wrote) == 1 else "Forecasts ({})"
    return {
        title.format(i): f"{command}: {', '.join(files)}" for i, (command, files) in enumerate(wrote.items(), start=1)
    }


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, for a report does without."""
    with suppress(DataError):
        return read_object(path, "")
    return {}
