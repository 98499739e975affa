"""One self-contained HTML page of a scores file: it needs no network and no other file to be read.

The words and tables are in the page itself; the pictures are drawn by the scripts of ``report_assets`` from
numbers that ride along in a block of JSON. Whatever comes from a file is escaped, the scripts write text only
as text, and the page's own security policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib import resources
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr

from data_prep.errors import DataError
from emulator import __version__
from emulator.evaluation.crossover import Outcome
from emulator.evaluation.headline import make_headline
from emulator.evaluation.report_fields import Fields
from emulator.evaluation.significance import Bootstrap, Estimate, discoveries
from emulator.evaluation.style import Unit, forecaster_label, line_styles, shown_unit, variable_label
from emulator.evaluation.table import candidate, headline_variables

_SCRIPTS = (
    "data.js",
    "page.js",
    "chart.js",
    "crossovers.js",
    "scorecard.js",
    "curves.js",
    "spectra.js",
    "maps.js",
    "cost.js",
    "main.js",
)
_OUTCOMES: tuple[Outcome, ...] = ("crossover", "beyond the last lead", "never better", "undecided")
_MOST_NUMBERS = 900_000  # of scores in a page; beyond it the page shows the headline variables alone
_LARGEST_HALF = 6e4

# What the curves show: name in the scores file, title, in the variable's unit, perfect value, what it says.
_METRICS = (
    ("rmse", "RMSE", True, 0.0, "root of the mean squared error; lower is better"),
    ("acc", "Anomaly correlation", False, 1.0, "with the truth, about the climatology; 1 is perfect"),
    ("bias", "Bias", True, 0.0, "mean error; 0 is perfect"),
    ("activity", "Activity", False, 1.0, "size of the anomalies over the truth's; below 1 the forecast is too smooth"),
    ("fine_scale_ratio", "Fine-scale amplitude", False, 1.0, "over the truth's; below 1 the forecast is blurred"),
    ("crps_fair", "CRPS (fair)", True, 0.0, "of an ensemble; lower is better"),
    ("spread_skill", "Spread over skill", False, 1.0, "of an ensemble; 1 is reliable"),
)
_BOOTSTRAPPED = {"acc": "anomaly_correlation", "bias": "error"}  # means, whose intervals the scores file does not hold


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    Attributes:
      is_nature_run: Whether the truth was simulated; ``None`` where nothing says so.
      config: The experiment's config as text; empty where it is not there.
      facts: More of what is known, by what it is.
    """

    is_nature_run: bool | None = None
    config: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def write_report(
    scores: xr.Dataset,
    out: Path,
    *,
    fields: Fields | None = None,
    provenance: Provenance | None = None,
    without_fields: str = "No forecast files lie beside the scores.",
) -> Path:
    """Writes the page.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      out: The HTML file; it appears only when it is complete.
      fields: For maps and spectra.
      provenance: What is known beside the scores.
      without_fields: Why there are no fields, as the page tells it.

    Returns:
      The file.

    Raises:
      DataError: the scores hold fewer than two forecasters, or the file cannot be written.
    """
    if scores.sizes["forecaster"] < 2:
        raise DataError("report: the scores hold one forecaster only; a comparison needs two")
    page = _page(scores, fields, provenance or Provenance(), without_fields)
    temporary = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        return temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); check free space and permissions") from None
    finally:
        temporary.unlink(missing_ok=True)


def _page(scores: xr.Dataset, fields: Fields | None, provenance: Provenance, without_fields: str) -> str:
    assets = resources.files("emulator.evaluation") / "report_assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    parts = "\n".join((assets / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}\n}})();'
    chosen = _chosen_variables(scores)
    headline = make_headline(scores)
    payload = _payload(scores.sel(variable=chosen), headline.reference, fields)
    name = escape(provenance.facts.get("Experiment", "Weather emulator"))
    template = Template((assets / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{name}: forecast report",
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}",
        style=style,
        script=script,
        data=_json(payload),
        experiment=name,
        headline=escape(headline.sentence),
        world=escape(_world(provenance)),
        details="".join(f"<li>{escape(text)}</li>" for text in headline.details),
        basis=escape(_basis(scores)),
        left_out=_left_out(scores, chosen),
        fields="" if fields is None else " hidden",
        without_fields=escape(f"{without_fields} This report comes without maps and spectra."),
        cost=_cost_rows(scores),
        hardware=escape(_hardware(scores)),
        facts=_facts(scores, provenance),
        config=escape(provenance.config),
        config_hidden="" if provenance.config else " hidden",
    )


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _world(provenance: Provenance) -> str:
    if provenance.is_nature_run:
        return (
            "This holds in the SPEEDY world: the truth is a simulation by that model (a nature run), "
            "not the observed atmosphere."
        )
    if provenance.is_nature_run is None:
        return "The scores do not say what the truth is: in a nature run all of this holds in the model's world only."
    return "The truth is the analysis that the experiment was given, not a simulation by a physics model."


def _basis(scores: xr.Dataset) -> str:
    a = scores.attrs
    many = "trajectory" if int(a["trajectories"]) == 1 else "trajectories"
    return (
        f"{a['initial_times']} initial times in {a['trajectories']} {a['split']} {many}; "
        f"{100 * float(a['confidence']):g} % intervals from {a['bootstrap']} block-bootstrap resamples; "
        f"anomalies from the climatology “{a['climatology']}”."
    )


def _chosen_variables(scores: xr.Dataset) -> list[str]:
    """Headline variables first, then the others where the page can hold them all."""
    n = scores.sizes["forecaster"]
    per_variable = scores.sizes["lead_time"] * scores.sizes["region"] * (13 * n + 5 * n * (n - 1) // 4)
    headline = headline_variables(scores)
    if per_variable * scores.sizes["variable"] > _MOST_NUMBERS:
        return headline
    return list(dict.fromkeys([*headline, *scores["variable"].values.tolist()]))


def _left_out(scores: xr.Dataset, chosen: Sequence[str]) -> str:
    missing = [variable_label(v) for v in scores["variable"].values.tolist() if v not in chosen]
    if not missing:
        return ""
    text = f"Left out to keep the page small: {', '.join(missing)}; the scores file holds them."
    return f'<p class="note">{escape(text)}</p>'


def _payload(scores: xr.Dataset, reference: str, fields: Fields | None) -> dict[str, Any]:
    """All that the scripts draw. Axes of arrays are forecaster or pair, variable, region, lead."""
    names = scores["forecaster"].values.tolist()
    metrics = [m for m in _METRICS if m[0] in scores]
    arrays = {m[0]: scores[m[0]] for m in metrics} | {f"rmse_{e}": scores[f"rmse_{e}"] for e in ("lower", "upper")}
    order = ("forecaster", "variable", "region", "lead_time")
    in_unit = {name for name, _, unit, *_ in _METRICS if unit}
    factors = _factors(scores)[:, None, None]
    tables = {
        key: _halves(
            array.transpose(*order).values
            * (factors if key.removesuffix("_lower").removesuffix("_upper") in in_unit else 1.0)
        )
        for key, array in arrays.items()
    }
    return {
        "forecasters": _forecasters(names),
        "variables": _variables(scores),
        "regions": [
            {"name": r, "label": "Whole grid" if r == "all" else r.replace("_", " ").capitalize()}
            for r in scores["region"].values.tolist()
        ],
        "hours": _hours(scores),
        "metrics": [dict(zip(("name", "label", "unit", "ideal", "text"), m, strict=True)) for m in metrics],
        "scores": tables | _more_intervals(scores),
        "pairs": _pairs(scores),
        "crossovers": _crossovers(scores),
        "cost": [
            {
                "speed": _number(scores["simulated_days_per_second"].values[i]),
                "seconds": _number(scores["seconds_per_simulated_day"].values[i]),
            }
            for i in range(len(names))
        ],
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


def _more_intervals(scores: xr.Dataset) -> dict[str, Any]:
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
            factors = _factors(scores)[:, None, None] if metric == "bias" else 1.0
            out[f"{metric}_{end}"] = _halves(array.reshape(-1, *shape) * factors)
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
    numbers = {
        key: _floats(scores[f"crossover_{key}"].transpose(*order).values)
        for key in ("hours", "lower", "upper", "start")
    }
    return numbers | {"outcome": _bytes(outcome), "outcomes": list(_OUTCOMES)}


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


def _cost_rows(scores: xr.Dataset) -> str:
    def text(value: float) -> str:
        return "unknown" if not np.isfinite(value) else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"

    rows = []
    for name in scores["forecaster"].values.tolist():
        one = scores.sel(forecaster=name)
        rows.append(
            f'<tr><th scope="row">{escape(forecaster_label(name))}</th>'
            f"<td>{text(float(one['simulated_days_per_second']))}</td>"
            f"<td>{text(float(one['seconds_per_simulated_day']))}</td></tr>"
        )
    return "".join(rows)


def _hardware(scores: xr.Dataset) -> str:
    """Who ran on what, told once for all that shared it."""
    users: dict[str, list[str]] = {}
    for name, hardware in zip(scores["forecaster"].values.tolist(), scores["hardware"].values.tolist(), strict=True):
        users.setdefault(hardware, []).append(forecaster_label(name))
    if len(users) == 1:
        return f"Hardware of all forecasts: {next(iter(users))}."
    return " ".join(f"{', '.join(who)}: {hardware}." for hardware, who in users.items())


def _facts(scores: xr.Dataset, provenance: Provenance) -> str:
    """Definition list: what the scores file says of itself, what lies beside it, and how this page came about."""
    titles = {
        "history": "Scored",
        "emulator_version": "Scored by version",
        "data_hash": "Data hash",
        "seed": "Seed of the bootstrap",
    }
    shown = {"Conventions", "title", "headline", "confidence", "initial_times", "trajectories", "split", "bootstrap"}
    facts = {
        titles.get(str(k), str(k).replace("_", " ").capitalize()): str(v)
        for k, v in scores.attrs.items()
        if k not in shown
    }
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    page = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} by version {__version__}: {command}"
    facts = dict(provenance.facts) | facts | {"This page": page}
    return "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
