"""Opens a scores file and holds it to its form, so that tables, plots and reports need not doubt what it holds."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from data_prep.errors import DataError, how_to_run, one_line
from data_prep.reading.probe import probe
from emulator.evaluation.metrics import METRICS
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores import FORMAT_VERSION
from emulator.evaluation.significance import ENDS

_CELL = ("variable", "lead_time", "region")
_ALL = ("forecaster", *_CELL)
_PAIR = ("forecaster", "reference", *_CELL)
_CROSSING = ("forecaster", "reference", "variable", "region")
_POWER = ("variable", "lead_time", "wavenumber")
_TAIL = ("variable", "lead_time", "quantile")
_WITH_ENDS = {
    **dict.fromkeys(METRICS, _ALL),
    **dict.fromkeys(("rmse_difference", "rmse_ratio", "time_gain_hours", "gap_closed"), _PAIR),
}
_DIMS = {
    **{name + end: dims for name, dims in _WITH_ENDS.items() for end in ENDS},
    **dict.fromkeys(("rmse_difference_p", "rmse_difference_p_geer", "rmse_difference_significant"), _PAIR),
    **{f"crossover_{key}": _CROSSING for key in ("hours", "lower", "upper", "start", "outcome", "from_first_lead")},
    **dict.fromkeys(("seconds_per_simulated_day", "simulated_days_per_second"), ("forecaster",)),
    **dict.fromkeys(("hardware", "members", "forecast_history"), ("forecaster",)),
    "better_everywhere": ("forecaster", "reference", "region"),
    "forecast_power": ("forecaster", *_POWER),
    "truth_power": _POWER,
    "forecast_quantile": ("forecaster", *_TAIL),
    "truth_quantile": _TAIL,
    "units": ("variable",),
    "mask": ("latitude", "longitude"),
}
_NEEDED = (
    *(f"{name}{end}" for name in ("rmse", "acc", "activity") for end in ENDS),
    *(name for name, dims in _DIMS.items() if dims == _CROSSING),
    *("seconds_per_simulated_day", "simulated_days_per_second", "hardware", "units"),
)
_TOGETHER = (("forecast_power", "truth_power", "wavenumber"), ("forecast_quantile", "truth_quantile", "quantile"))
_NAMES = ("forecaster", "reference", "variable", "region")
_TEXTS = (*_NAMES, "hardware", "forecast_history", "units", "crossover_outcome")
_COUNTS = ("initial_times", "trajectories", "bootstrap")
_SHOWN = ("truth", "lateral_boundary", "predictability_limit", "climatology", "split", "data_hash", "headline")


def open_scores(path: Path) -> xr.Dataset:
    """The scores, loaded; the statistics of every initial time, of which there may be gigabytes, stay in the file.

    Raises:
      DataError: it cannot be read, is of another version, or is not what ``evaluate`` writes.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file; 'emulator run CONFIG' ends with one")
    if path.is_dir():
        raise DataError(f"{path}: a folder; the scores of an experiment are a file in it, {path / 'scores.nc'}")
    again = "evaluate again" + how_to_run("evaluate", Path(path).parent, options=" --redo")
    probe([path])
    with ExitStack() as opened:  # which closes the file unless all is well
        try:
            lazy = opened.enter_context(xr.open_dataset(path))
            scores = lazy.assign(lazy.drop_dims("init_time", errors="ignore").load().data_vars)
        except (OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
            raise DataError(f"{path}: not a readable scores file ({one_line(error)}); if it was one, {again}") from None
        if "rmse" not in scores:
            raise DataError(f"{path}: no scores file, it holds {', '.join(map(str, scores.data_vars))}")
        version = scores.attrs.get("format_version", 1)
        if not np.array_equal(version, FORMAT_VERSION):
            raise DataError(f"{path}: format version {version}, this program reads {FORMAT_VERSION}; {again}")
        if (wrong := _what_is_wrong(scores)) is not None:
            raise DataError(f"{path}: no sound scores file: {wrong}; {again}")
        scores.set_close(opened.pop_all().close)
    return scores


def _what_is_wrong(scores: xr.Dataset) -> str | None:
    """The first thing that is not as ``evaluate`` writes it."""
    needed = {*_NEEDED, *_NAMES, "lead_time"}
    for names in (*_TOGETHER, *([name + end for end in ENDS] for name in _WITH_ENDS)):
        needed |= set(names) if any(name in scores.variables for name in names) else set()
    if missing := sorted(needed - set(map(str, scores.variables))):
        return f"it lacks {', '.join(missing)}"
    for name, variable in scores.variables.items():
        if "init_time" in variable.dims:  # the statistics of every initial time, one of which is called as its mean
            continue
        dims = _DIMS.get(str(name), (name,) if name in scores.dims else variable.dims)
        if set(variable.dims) != set(dims):
            return f"{name} has the dimensions {', '.join(map(str, variable.dims))} and not {', '.join(map(str, dims))}"
        kinds = "OUT" if name in _TEXTS else "m" if name == "lead_time" else "fiub" if name in _DIMS else None
        if kinds is not None and variable.dtype.kind not in kinds:
            return f"{name} is of the type {variable.dtype}"
    for name in (name for name in _TEXTS if name in scores.variables):
        if not all(isinstance(text, str) and text.isprintable() for text in scores[name].values.ravel().tolist()):
            return f"{name} holds what cannot be printed"
    if "members" in scores.variables and not (scores["members"].values >= 1).all():
        return "members counts less than one"
    return _wrong_axis(scores) or _wrong_attribute(scores)


def _wrong_axis(scores: xr.Dataset) -> str | None:
    for name in _NAMES:
        if scores[name].size == 0 or not scores.indexes[name].is_unique or "" in scores[name].values:
            return f"{name} holds no names, or one of them twice"
    for name in ("lead_time", "quantile", "wavenumber"):
        if name in scores.variables:
            index = scores.indexes.get(name)
            if index is None or index.size == 0 or index.hasnans or not _ascends(index):
                return f"{name} is no axis that ascends"
    if set(scores["reference"].values) != set(scores["forecaster"].values):
        return "its references are not its forecasters"
    return None if WHOLE in scores["region"].values else f"the region {WHOLE} is missing"


def _ascends(index: pd.Index) -> bool:
    return index.is_unique and index.is_monotonic_increasing


def _wrong_attribute(scores: xr.Dataset) -> str | None:
    attributes = scores.attrs
    for name in _SHOWN:
        value = attributes.get(name, "")
        if not isinstance(value, str) or not value.isprintable():
            return f"its attribute {name} is no text that can be printed"
    for name, low, high in (*((name, 1, 2**53) for name in _COUNTS), ("confidence", 0, 1)):
        value = attributes.get(name)
        if not isinstance(value, (int, float, np.integer, np.floating)) or not low <= value <= high:
            return f"its attribute {name} is {value}"
    if missing := sorted({"climatology", "data_hash", "split"} - attributes.keys()):
        return f"it lacks the attributes {', '.join(missing)}"
    if unknown := sorted(set(attributes.get("headline", "").split()) - set(scores["variable"].values.tolist())):
        return f"its headline names {', '.join(unknown)}, which it lacks"
    limit = attributes.get("predictability_limit")
    known = limit is None or limit in scores["forecaster"].values
    return None if known else f"its attribute predictability_limit is {limit}, which is no forecaster"
