"""The numbers of a report, as the scripts of its page read them: arrays as text, with shape and type."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr

from emulator.evaluation.crossover import Outcome
from emulator.evaluation.report_fields import Fields
from emulator.evaluation.significance import Bootstrap, Estimate, discoveries
from emulator.evaluation.style import Unit, forecaster_label, line_styles, shown_unit, variable_label
from emulator.evaluation.table import candidate, headline_variables

_OUTCOMES: tuple[Outcome, ...] = ("crossover", "beyond the last lead", "never better", "undecided")
_LARGEST_HALF = 6e4


class _Metric(NamedTuple):
    """A score that the curves show; ``has_unit`` where it is in the unit of the variable."""

    name: str
    label: str
    has_unit: bool
    ideal: float
    text: str


_METRICS = (
    _Metric("rmse", "RMSE", True, 0.0, "root of the mean squared error; lower is better"),
    _Metric("acc", "Anomaly correlation", False, 1.0, "with the truth, about the climatology; 1 is perfect"),
    _Metric("bias", "Bias", True, 0.0, "mean error; 0 is perfect"),
    _Metric("activity", "Activity", False, 1.0, "size of anomalies over the truth's; below 1 is too smooth"),
    _Metric("fine_scale_ratio", "Fine-scale amplitude", False, 1.0, "over the truth's; below 1 is blurred"),
    _Metric("crps_fair", "CRPS (fair)", True, 0.0, "of an ensemble; lower is better"),
    _Metric("spread_skill", "Spread over skill", False, 1.0, "of an ensemble; 1 is reliable"),
)
_BOOTSTRAPPED = {"acc": "anomaly_correlation", "bias": "error"}  # means, whose intervals the scores file does not hold


def numbers(scores: xr.Dataset, reference: str, fields: Fields | None) -> dict[str, Any]:
    """All that the scripts draw.

    Args:
      scores: Of the variables to be shown, in their order.
      reference: Whom the candidate is compared with first.
      fields: For maps and spectra.

    Returns:
      What becomes JSON. Axes of arrays are forecaster or pair, variable, region, lead; values are in shown units.
    """
    names = scores["forecaster"].values.tolist()
    metrics = [m for m in _METRICS if m.name in scores]
    return {
        "forecasters": _forecasters(names),
        "variables": _variables(scores),
        "regions": [
            {"name": r, "label": "Whole grid" if r == "all" else r.replace("_", " ").capitalize()}
            for r in scores["region"].values.tolist()
        ],
        "hours": _hours(scores),
        "metrics": [m._asdict() for m in metrics],
        "scores": _tables(scores, metrics),
        "pairs": _pairs(scores),
        "crossovers": _crossovers(scores),
        "seconds_per_day": [_number(x) for x in scores["seconds_per_simulated_day"].values],
        "start": {"forecaster": names.index(candidate(scores)), "reference": names.index(reference)},
        "confidence": float(scores.attrs["confidence"]),
        "fields": None if fields is None else _packed_fields(fields, names, scores["variable"].values.tolist()),
    }


def _forecasters(names: Sequence[str]) -> list[dict[str, Any]]:
    dashes = {"-": "", "--": "6 4", ":": "1.5 3", "-.": "7 3 1.5 3"}
    return [
        {
            "name": name,
            "label": forecaster_label(name),
            "colour": colour,
            "dash": dashes[dash] if isinstance(dash, str) else " ".join(f"{x:g}" for x in dash[1]),
        }
        for name, (colour, dash) in line_styles(names).items()
    ]


def _variables(scores: xr.Dataset) -> list[dict[str, Any]]:
    headline = headline_variables(scores)
    return [
        {"name": name, "label": variable_label(name), "unit": unit.label, "headline": name in headline}
        for name, unit in _units(scores).items()
    ]


def _units(scores: xr.Dataset) -> dict[str, Unit]:
    names, units = scores["variable"].values.tolist(), scores["units"].values.tolist()
    return {name: shown_unit(name, si) for name, si in zip(names, units, strict=True)}


def _factors(scores: xr.Dataset) -> np.ndarray:
    """From SI to the unit in which a variable is shown, ``(variable,)``."""
    return np.array([unit.factor for unit in _units(scores).values()])


def _tables(scores: xr.Dataset, metrics: Sequence[_Metric]) -> dict[str, Any]:
    """Scores and their intervals; intervals of half precision, for they are many and uncertain anyway."""
    order = ("forecaster", "variable", "region", "lead_time")
    intervals = {f"rmse_{end}": scores[f"rmse_{end}"].transpose(*order).values for end in ("lower", "upper")}
    intervals |= _more_intervals(scores)
    out = {}
    for metric in metrics:
        factor = _factors(scores)[:, None, None] if metric.has_unit else 1.0
        out[metric.name] = _floats(scores[metric.name].transpose(*order).values * factor)
        for key in (f"{metric.name}_lower", f"{metric.name}_upper"):
            if key in intervals:
                out[key] = _halves(intervals[key] * factor)
    return out


def _more_intervals(scores: xr.Dataset) -> dict[str, np.ndarray]:
    """Intervals of the scores that are plain means, by the bootstrap of the scores file."""
    a = scores.attrs
    bootstrap = Bootstrap(scores["trajectory"].values, int(a["bootstrap"]), float(a["confidence"]), int(a["seed"]))
    cell = ("variable", "region", "lead_time")
    shape = tuple(scores.sizes[d] for d in cell)
    out = {}
    for metric, statistic in _BOOTSTRAPPED.items():
        if statistic not in scores:
            continue
        values = scores[statistic].transpose("forecaster", "init_time", *cell).values
        flat = values.reshape(*values.shape[:2], -1)
        lower, upper = np.full((2, flat.shape[0], flat.shape[2]), np.nan)
        for i, one in enumerate(flat):
            defined = np.flatnonzero(np.isfinite(one).all(axis=0))  # the climatology has no anomaly to correlate
            if defined.size:
                interval = bootstrap.score(one[:, defined], lambda mean: mean)
                lower[i, defined], upper[i, defined] = interval.lower, interval.upper
        for end, array in (("lower", lower), ("upper", upper)):
            out[f"{metric}_{end}"] = array.reshape(-1, *shape)
    return out


def _pairs(scores: xr.Dataset) -> dict[str, Any]:
    """Every pair of forecasters once: ratio intervals, and what is significant on a scorecard.

    The scorecard of a pair and a region is one family of tests: all its variables and leads.
    """
    order = ("forecaster", "reference", "variable", "region", "lead_time")
    ends = ("", "_lower", "_upper")
    difference = [scores[f"rmse_difference{e}"].transpose(*order).values for e in ends]
    ratio = [scores[f"rmse_ratio{e}"].transpose(*order).values for e in ends[1:]]
    pairs = list(combinations(range(scores.sizes["forecaster"]), 2))
    confidence = float(scores.attrs["confidence"])
    significant = np.zeros((len(pairs), *difference[0].shape[2:]), np.uint8)
    for k, pair in enumerate(pairs):
        for r in range(scores.sizes["region"]):
            cells = [d[pair][:, r] for d in difference]
            found = discoveries(Estimate(*(c.ravel() for c in cells)), confidence)
            significant[k, :, r] = found.reshape(cells[0].shape)
    return {
        "index": pairs,
        "ratio_lower": _halves(np.stack([ratio[0][p] for p in pairs])),
        "ratio_upper": _halves(np.stack([ratio[1][p] for p in pairs])),
        "significant": _bytes(significant),
    }


def _crossovers(scores: xr.Dataset) -> dict[str, Any]:
    order = ("forecaster", "reference", "variable", "region")
    words = scores["crossover_outcome"].transpose(*order).values
    outcome = np.full(words.shape, len(_OUTCOMES), np.uint8)
    for code, text in enumerate(_OUTCOMES):
        outcome[words == text] = code
    leads = {
        key: _floats(scores[f"crossover_{key}"].transpose(*order).values)
        for key in ("hours", "lower", "upper", "start")
    }
    return leads | {"outcome": _bytes(outcome), "outcomes": list(_OUTCOMES)}


def _packed_fields(fields: Fields, names: Sequence[str], variables: Sequence[str]) -> dict[str, Any]:
    example, mean, spectra = fields.example["variables"], fields.mean["variables"], fields.spectra
    return {
        "forecasters": [names.index(n) for n in fields.forecasters],
        "variables": [variables.index(v) for v in fields.variables],
        "shape": list(fields.shape),
        "latitude": np.round(fields.latitude, 2).tolist(),
        "longitude": np.round(fields.longitude, 2).tolist(),
        "coast": [np.round(line, 4).ravel().tolist() for line in fields.coast],
        "colours": {"field": _colours("viridis"), "error": _colours("RdBu_r")},
        "example": {
            "init": fields.example["init"],
            "hours": fields.example["hours"].tolist(),
            "variables": [
                {k: _packed(example[v][k]) for k in ("truth", "error", "low", "high", "reach", "rmse")}
                for v in fields.variables
            ],
        },
        "mean": {
            "inits": fields.mean["inits"],
            "hours": fields.mean["hours"].tolist(),
            "variables": [{k: _packed(mean[v][k]) for k in ("error", "reach")} for v in fields.variables],
        },
        "spectra": None
        if spectra is None
        else {
            "inits": spectra["inits"],
            "hours": spectra["hours"].tolist(),
            "variables": [
                {k: _packed(spectra["variables"][v][k]) for k in ("truth", "forecast")} for v in fields.variables
            ],
        },
    }


def _colours(name: str) -> dict[str, Any]:
    """255 colours as red, green, blue, in the order of the quantised fields."""
    return _bytes((mpl.colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255).round().astype(np.uint8))


def _packed(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return _bytes(value) if value.dtype == np.uint8 else _floats(value)


def _floats(array: np.ndarray) -> dict[str, Any]:
    return _encoded(array, "<f4", "f4")


def _halves(array: np.ndarray) -> dict[str, Any]:
    """Three digits are all that is shown: half precision where its range suffices."""
    largest = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return _encoded(array, "<f2", "f2") if largest < _LARGEST_HALF else _floats(array)


def _bytes(array: np.ndarray) -> dict[str, Any]:
    return _encoded(array, "u1", "u1")


def _encoded(array: np.ndarray, dtype: str, name: str) -> dict[str, Any]:
    """An array as text: little-endian bytes in base 64, with shape and type."""
    data = base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode()
    return {"type": name, "shape": list(array.shape), "data": data}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _hours(scores: xr.Dataset) -> list[float]:
    return (scores["lead_time"].values / np.timedelta64(1, "h")).round(6).tolist()
