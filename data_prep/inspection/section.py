"""A ``data`` section of a config that reads some files: every variable in the role that suits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep import clock
from data_prep.errors import DataError
from data_prep.inspection.files import (
    FieldReport,
    FileReport,
    by_variable,
    fixed_variables,
    is_lacking,
    mostly,
    record_times,
    used_files,
)
from data_prep.reading.sources import FoundField
from data_prep.reading.units import is_flux
from data_prep.variables import is_accumulation, known

_GAP_DAYS = 10.0
_USUAL_STEP_HOURS = 6.0
_NEVER_NEGATIVE = ("specific_humidity", "total_column_water_vapour", "total_cloud_cover", "wind_speed")
_NEAR_ZERO = 0.02  # of the largest value: what comes so near cannot be negative
_SHARES = (0.7, 0.15)  # of the record, for training and validation
# A climatology reaches a month beyond the season of its training data: of a record that is shorter than a year or so,
# less is held out, so that there is something to measure anomalies from.
_SEASON_REACH_DAYS = 29.0
_YEAR_KNOWN_DAYS = 306.0  # of a year: the rest is within reach from both sides


def suggest_section(files: Sequence[FileReport]) -> dict[str, Any]:
    """A ``data`` section that reads these files, as plain values.

    Raises:
      DataError: nothing in them varies.
    """
    roles: dict[str, dict[str, Any]] = {"prognostic": {}, "diagnostic": {}, "forcing": {}, "static": {}}
    times, fixed = record_times(files), fixed_variables(files)
    timestep = _timestep_hours(times)
    meanings: dict[str, set[str]] = {}  # in one file z may be on levels, and in another at the surface
    for found in (r.found for f in files for r in f.fields):
        meanings.setdefault(found.raw_name, set()).add(found.name)
    holes = False
    for name, reports in by_variable(files).items():
        found = reports[0].found
        options: dict[str, Any] = {}
        asked = f"total_precipitation_{timestep:g}hr" if is_accumulation(name) else name
        raw_names = {r.found.raw_name for r in reports}
        if raw_names != {asked} and len(raw_names) == len(meanings[found.raw_name]) == 1:
            options["source"] = found.raw_name
        static = found.extent == "constant" or (found.extent == "time" and name in fixed)
        # of one time nobody knows what others hold
        telling = [r for r in reports if r.n_rows != 1 or static]
        constant = set.intersection(*(set(r.constant) for r in telling)) if telling else set()
        varying = [level for level in found.levels if level not in constant]
        if constant and not varying:
            continue  # nothing to learn from
        whole = [level for level in varying if not mostly(reports, [level in r.sparse for r in reports])]
        if len(whole or varying) < len(found.levels):
            options["levels"] = whole or varying
        role, of_role = _role(name, reports, static)
        options |= of_role
        if all(asked not in taken for taken in roles.values()):
            roles[role][asked] = options
            holes |= role in ("forcing", "static") and any(r.missing > 0 for r in reports)
    if not roles["prognostic"]:  # a config needs one, and files of one time or of constants alone have none
        _make_one_prognostic(roles, files)
    vertical = next((f.vertical for f in files if f.vertical is not None), None)
    return {
        "inputs": [str(path) for path in used_files(files)],
        **({"vertical": vertical} if vertical else {}),
        "timestep_hours": timestep,
        **{role: variables for role, variables in roles.items() if variables},
        **({"nan": "fill_mean"} if holes else {}),
        "split": _split(files, times, timestep),
    }


def _role(name: str, reports: Sequence[FieldReport], static: bool) -> tuple[str, dict[str, Any]]:
    """The role that suits a variable, and what its section says because of it."""
    entry, never_negative = known(name), {"minimum": 0.0}
    if reports[0].found.extent == "dayofyear":
        return "forcing", {"known": "climatological"}
    if static:
        return "static", {}
    stays = is_lacking(reports) or all(r.unchanging for r in reports)
    if not stays and any(_is_diagnosed(r.found) for r in reports):
        is_positive = is_accumulation(name) or all(r.low >= 0 for r in reports)
        return "diagnostic", never_negative if is_positive else {}
    if (entry is not None and entry.slow) or stays:
        return "forcing", {"known": "persisted"}
    return "prognostic", never_negative if _is_never_negative(name, reports) else {}


def _make_one_prognostic(roles: dict[str, dict[str, Any]], files: Sequence[FileReport]) -> None:
    """Moves the first variable of another role there.

    Raises:
      DataError: there is none at all.
    """
    role = next((r for r in ("diagnostic", "forcing", "static") if roles[r]), None)
    if role is None:
        why = "; ".join(dict.fromkeys(f"{name}: {reason}" for f in files for name, reason in f.skipped))
        what = f"left out are {why}" if why else "no field varies"
        raise DataError(f"{files[0].source.path}: nothing to learn from: {what}")
    name = next(iter(roles[role]))
    moved = roles[role].pop(name)
    roles["prognostic"][name] = {key: value for key, value in moved.items() if key in ("source", "minimum")}


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
    longest = max(clock.hours(s[-1] - s[0]) for s in stretches)
    divides = _days(_USUAL_STEP_HOURS / 24) % steps.min() == np.timedelta64(0, "ns")  # in whole nanoseconds
    return _USUAL_STEP_HOURS if divides and longest >= 3 * _USUAL_STEP_HOURS else clock.hours(steps.min())


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
