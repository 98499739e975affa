"""The numbers of a report, as the scripts of its page read them: arrays as text, with shape and type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np
import xarray as xr

from data_prep.files.json_file import finite
from emulator.evaluation.crossover import Outcome
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.report_arrays import are_small, colours, floats, halves, octets, packed
from emulator.evaluation.report_fields import Fields
from emulator.evaluation.scores_reader import (
    LEAD_HOURS,
    candidate,
    headline_variables,
    label_of,
    lead_hours,
    places_of,
    with_gap_from,
)
from emulator.evaluation.significance import ENDS
from emulator.evaluation.style import (
    Unit,
    default_lines,
    limit_label,
    line_styles,
    region_label,
    shown_unit,
    variable_label,
)

_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_MOST_BYTES = 3_400_000  # of numbers before they are compressed, to half as many letters


@dataclass(frozen=True)
class _Metric:
    """A score that the curves show.

    Attributes:
      name: As in score files, or of a score that is made here.
      label: Its name on the page.
      text: What it is and what is good.
      ideal: Where a line is drawn.
      unit: Its own unit; that of the variable where ``in_variable_units``.
      in_variable_units: Whether it is in the unit of the variable.
    """

    name: str
    label: str
    text: str
    ideal: float
    unit: str = ""
    in_variable_units: bool = False


_TIME_GAIN = "time_gain_hours"
_METRICS = (
    _Metric("rmse", "RMSE", "root of the mean squared error; lower is better", 0.0, in_variable_units=True),
    _Metric("acc", "Anomaly correlation", "with the truth, about the climatology; 1 is perfect", 1.0),
    _Metric("bias", "Bias", "mean error; 0 is perfect", 0.0, in_variable_units=True),
    _Metric("activity", "Activity", "size of anomalies over the truth's; below 1 is too smooth", 1.0),
    _Metric("fine_scale_ratio", "Fine-scale amplitude", "over the truth's; below 1 is blurred", 1.0),
    _Metric(_TIME_GAIN, "Hours ahead", "by how much later {candidate} makes the error that the other makes", 0.0, "h"),
    _Metric("gap_closed", "Gap closed", "share of the way from the error of {baseline} to {limit}", 100.0, "%"),
    _Metric("extreme_low", "Low extremes", "", 1.0),
    _Metric("extreme_high", "High extremes", "", 1.0),
    _Metric("crps_fair", "CRPS (fair)", "of an ensemble; lower is better", 0.0, in_variable_units=True),
    _Metric("spread_skill", "Spread over skill", "of an ensemble; 1 is reliable", 1.0),
    _Metric("seeps", "SEEPS", "of precipitation: dry, light, heavy; 0 is perfect, 1 has no skill", 0.0),
)
_EXTREMES = {"extreme_low": 0, "extreme_high": -1}  # the outermost quantiles that the scores hold
_OF_TRUTH, _OF_ERRORS = ("truth", "least", "most", "low", "high"), ("error", "largest", "reach")
_SIGNIFICANT, _GEER = "rmse_difference_significant", "rmse_difference_p_geer"


@dataclass(frozen=True)
class Shown:
    """Which variables a page shows in which regions.

    Attributes:
      variables: In their order, headline variables first.
      everywhere: Those of them that are shown in every region; the others are shown on the whole grid alone.
    """

    variables: tuple[str, ...]
    everywhere: tuple[str, ...]

    @classmethod
    def of(cls, scores: xr.Dataset) -> Shown:
        """As much as fits into a page: all; else without the regions of other than headline variables; else those."""
        headline = headline_variables(scores)
        every = tuple(dict.fromkeys([*headline, *scores["variable"].values.tolist()]))
        n = scores.sizes["forecaster"]
        metrics = sum(m.name in scores for m in _METRICS)
        pair_bytes = n * (n - 1) // 2 * (7 if _GEER in scores else 5)
        a_row = scores.sizes["lead_time"] * (n * (2 + 6 * metrics) + pair_bytes)
        regions = scores.sizes["region"]
        extra = len(every) - len(headline)
        if a_row * regions * len(every) <= _MOST_BYTES:
            return cls(every, every)
        fits = a_row * (regions * len(headline) + extra) <= _MOST_BYTES
        return cls(every if fits else tuple(headline), tuple(headline))


@dataclass(frozen=True)
class _Places:
    """A variable in a region is a place: the one axis that arrays of a page have for the two.

    Attributes:
      variable, region: Indices of each place, ``(place,)``.
      table: Place of each variable and region, -1 where it is not shown, ``(variable, region)``.
    """

    variable: np.ndarray
    region: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, scores: xr.Dataset, shown: Shown) -> _Places:
        everywhere = np.isin(scores["variable"].values, shown.everywhere)[:, None]
        held = everywhere | (scores["region"].values == WHOLE)
        table = np.where(held, np.cumsum(held).reshape(held.shape) - 1, -1)
        variable, region = np.nonzero(held)
        return cls(variable, region, table)

    def __call__(self, array: xr.DataArray, *leading: str) -> np.ndarray:
        """``(*leading, place[, lead])`` of an array by variable, region and perhaps lead."""
        order = array.transpose(*leading, "variable", "region", ...).values
        return order[(slice(None),) * len(leading) + (self.variable, self.region)]


def numbers(
    scores: xr.Dataset, shown: Shown, reference: str, fields: Fields | None, long_run: dict[str, Any] | None
) -> dict[str, Any]:
    """All that the scripts draw.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      shown: Which variables, in their order.
      reference: Whom the candidate is compared with first.
      fields: For maps.
      long_run: Of the long run, as ``report_long_run`` packs it.

    Returns:
      What becomes JSON. Axes of arrays are forecaster or pair, place, lead; values are in shown units.
    """
    scores = scores.sel(variable=list(shown.variables))
    places = _Places.of(scores, shown)
    names = scores["forecaster"].values.tolist()
    name = candidate(scores)
    scores = with_gap_from(_with_extremes(scores), reference)
    metrics = [_filled_in(m, scores, reference) for m in _METRICS if m.name in scores]
    lines = default_lines(names, name, reference)
    return {
        "forecasters": _forecasters(scores),
        "variables": _variables(scores),
        "regions": _regions(scores),
        "places": places.table.tolist(),
        "hours": lead_hours(scores).tolist(),
        "metrics": [asdict(m) for m in metrics],
        "scores": _tables(scores, places, metrics),
        "pairs": _pairs(scores, places),
        "crossovers": _crossovers(scores, places),
        "seconds_per_day": finite(scores["seconds_per_simulated_day"].values.tolist()),
        "start": {"forecaster": names.index(name), "reference": names.index(reference)},
        "candidate": names.index(name),
        "hidden": [i for i, n in enumerate(names) if n not in lines],
        "confidence": float(scores.attrs["confidence"]),
        "fields": None if fields is None else _packed_fields(fields, names, scores["variable"].values.tolist()),
        "spectra": _spectra(scores),
        "long_run": long_run,
    }


def _with_extremes(scores: xr.Dataset) -> xr.Dataset:
    """Adds how far the tails of the forecasts' anomalies reach over the truth's, on the whole grid."""
    if "forecast_quantile" not in scores:
        return scores
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = scores["forecast_quantile"] / scores["truth_quantile"]
    whole = xr.DataArray(np.where(scores["region"] == WHOLE, 1.0, np.nan), dims="region")
    return scores.assign({name: ratio.isel(quantile=at, drop=True) * whole for name, at in _EXTREMES.items()})


def _filled_in(metric: _Metric, scores: xr.Dataset, baseline: str) -> _Metric:
    """The metric with names and shares of this scores file in its words."""
    if metric.name in _EXTREMES:
        share = 100 * float(scores["quantile"][_EXTREMES[metric.name]])
        text = f"the {share:g} % quantile of anomalies over the truth's; below 1 is too tame, and a mean error moves it"
        return replace(metric, text=text)
    limit = limit_label(str(scores.attrs.get("predictability_limit", "twin")))
    text = metric.text.replace("{candidate}", label_of(scores, candidate(scores)))
    return replace(metric, text=text.replace("{limit}", limit).replace("{baseline}", label_of(scores, baseline)))


def _forecasters(scores: xr.Dataset) -> list[dict[str, Any]]:
    """Names, labels and looks; dashes are in line widths, here of 1.4 pixels."""
    return [
        {
            "name": name,
            "label": label_of(scores, name),
            "colour": colour,
            "dash": "" if isinstance(dash, str) else " ".join(f"{1.4 * x:g}" for x in dash[1]),
        }
        for name, (colour, dash) in line_styles(scores["forecaster"].values.tolist()).items()
    ]


def _regions(scores: xr.Dataset) -> list[dict[str, str]]:
    """``text`` stands within a sentence, ``label`` alone."""
    texts = [(name, region_label(name)) for name in scores["region"].values.tolist()]
    return [{"name": name, "text": text, "label": text[:1].upper() + text[1:]} for name, text in texts]


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


def _tables(scores: xr.Dataset, places: _Places, metrics: Sequence[_Metric]) -> dict[str, Any]:
    """Scores and their intervals, ``(forecaster, place, lead)``.

    Ratios of RMSE are made on the page, so it is of single precision; of the others three digits are all that is shown.
    The time gain is the candidate's over each other forecaster.
    """
    factors = _factors(scores)[places.variable, None]
    out = {}
    for metric in metrics:
        factor = factors if metric.in_variable_units else 100.0 if metric.unit == "%" else 1.0
        for end in ENDS:
            if metric.name + end not in scores:
                continue
            array = scores[metric.name + end]
            if metric.name == _TIME_GAIN:
                array = array.sel(forecaster=candidate(scores), drop=True).rename(reference="forecaster")
            values = places(array, "forecaster") * factor
            exact = metric.name + end == "rmse" or (metric.in_variable_units and are_small(values))
            out[metric.name + end] = floats(values) if exact else halves(values)
    return out


def _pairs(scores: xr.Dataset, places: _Places) -> dict[str, Any]:
    """Every pair of forecasters once: ratio intervals, and what is significant on the pair's scorecard."""
    first, second = np.triu_indices(scores.sizes["forecaster"], k=1)

    def of_pairs(name: str) -> np.ndarray:
        return places(scores[name], "forecaster", "reference")[first, second]

    out: dict[str, Any] = {
        "index": np.stack([first, second], axis=1).tolist(),
        "ratio_lower": halves(of_pairs("rmse_ratio_lower")),
        "ratio_upper": halves(of_pairs("rmse_ratio_upper")),
    }
    if _SIGNIFICANT in scores:
        out["significant"] = octets(of_pairs(_SIGNIFICANT) == 1)
    if _GEER in scores:
        out["p_geer"] = halves(of_pairs(_GEER))
    return out


def _crossovers(scores: xr.Dataset, places: _Places) -> dict[str, Any]:
    words = places(scores["crossover_outcome"], "forecaster", "reference")
    outcome = np.full(words.shape, len(_OUTCOMES), np.uint8)
    for code, text in enumerate(_OUTCOMES):
        outcome[words == text] = code
    leads = {
        key: halves(places(scores[f"crossover_{key}"], "forecaster", "reference"))
        for key in ("hours", "lower", "upper", "start")
    }
    return leads | {"outcome": octets(outcome), "outcomes": list(_OUTCOMES)}


def _packed_fields(fields: Fields, names: Sequence[str], variables: Sequence[str]) -> dict[str, Any]:
    example, mean = fields.example["variables"], fields.mean["variables"]
    return {
        "forecasters": [names.index(n) for n in fields.forecasters],
        "without": [fields.without.get(n, "") for n in names],
        "variables": [variables.index(v) for v in fields.variables],
        "shape": list(fields.shape),
        "latitude": np.round(fields.latitude, 2).tolist(),
        "longitude": np.round(fields.longitude, 2).tolist(),
        "coast": [np.round(line, 4).ravel().tolist() for line in fields.coast],
        "colours": {"field": colours("viridis"), "error": colours("RdBu_r")},
        "example": {
            "init": fields.example["init"],
            "hours": fields.example["hours"].tolist(),
            "variables": [
                {k: packed(example[v][k]) for k in (*_OF_TRUTH, *_OF_ERRORS, "rmse")} for v in fields.variables
            ],
        },
        "mean": {
            "inits": fields.mean["inits"],
            "hours": fields.mean["hours"].tolist(),
            "variables": [{k: packed(mean[v][k]) for k in _OF_ERRORS} for v in fields.variables],
        },
    }


def _spectra(scores: xr.Dataset) -> dict[str, Any] | None:
    """Power of the headline variables by zonal wavenumber at some leads; ``None`` where there are no whole circles."""
    if "forecast_power" not in scores:
        return None
    some = scores[["forecast_power", "truth_power"]].sel(variable=headline_variables(scores))
    some = some.isel(lead_time=places_of(LEAD_HOURS, lead_hours(scores)))
    squares = xr.DataArray(_factors(scores.sel(variable=headline_variables(scores))) ** 2, dims="variable")
    axes = ("variable", "lead_time", "wavenumber")
    return {
        "hours": lead_hours(some).tolist(),
        "inits": int(scores.attrs["initial_times"]),
        "truth": floats((some["truth_power"] * squares).transpose(*axes).values),
        "forecast": floats((some["forecast_power"] * squares).transpose("forecaster", *axes).values),
    }
