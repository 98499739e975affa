"""One self-contained HTML page of a scores file: it needs no network and no other file to be read.

The words and tables are in the page itself; the pictures are drawn by the scripts of ``report_assets`` from
numbers that ride along in a block of JSON. Whatever comes from a file is escaped, the scripts write text only
as text, and the page's own security policy lets no other script run and nothing be loaded.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.files.disk import write_text
from emulator import __version__
from emulator.command import command_line
from emulator.evaluation.headline import make_headline
from emulator.evaluation.report_fields import Fields
from emulator.evaluation.report_long_run import describe_long_run, pack_long_run
from emulator.evaluation.report_numbers import Shown, numbers
from emulator.evaluation.scores_reader import (
    LEAD_HOURS,
    candidate,
    initial_times,
    label_of,
    lead_hours,
    opponents,
    places_of,
    world_sentence,
)
from emulator.evaluation.strata import Stratum, ratio_to_hardest, strata
from emulator.evaluation.style import lead_text, listed, number_text, variable_label

_SCRIPTS = (
    "data.js",
    "page.js",
    "chart.js",
    "crossovers.js",
    "scorecard.js",
    "curves.js",
    "spectra.js",
    "maps.js",
    "long_run.js",
    "cost.js",
    "main.js",
)
_UNKNOWN_WORLD = "The scores do not say what the truth is: in a nature run all of this holds in the model's world only."


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from.

    Attributes:
      config: The experiment's config as text; empty where it is not there.
      facts: More of what is known, by what it is.
    """

    config: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def write_report(
    scores: xr.Dataset,
    out: Path,
    *,
    fields: Fields | None = None,
    long_run: xr.Dataset | None = None,
    provenance: Provenance | None = None,
    without_fields: str = "No forecast files lie beside the scores.",
) -> Path:
    """Writes the page.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      out: The HTML file; it appears only when it is complete.
      fields: For maps.
      long_run: What a long run did, as ``measure_long_run`` returns it.
      provenance: What is known beside the scores.
      without_fields: Why there are no fields, as the page tells it.

    Returns:
      The file.

    Raises:
      DataError: the scores hold fewer than two forecasters.
      DiskError: the file cannot be written.
    """
    if scores.sizes["forecaster"] < 2:
        raise DataError("report: the scores hold one forecaster only; a comparison needs two")
    page = _page(scores, fields, long_run, provenance or Provenance(), without_fields)
    write_text(out, page)
    return out


def _page(
    scores: xr.Dataset,
    fields: Fields | None,
    long_run: xr.Dataset | None,
    provenance: Provenance,
    without_fields: str,
) -> str:
    assets = resources.files("emulator.evaluation") / "report_assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    code = "\n".join((assets / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(async () => {{\n{code}\n}})();'
    shown = Shown.of(scores)
    headline = make_headline(scores)
    rows = _strata(scores)
    packed_run = None if long_run is None else pack_long_run(long_run, shown.variables)
    payload = numbers(scores, shown, headline.reference, fields, packed_run)
    name = escape(provenance.facts.get("Experiment", "Weather emulator"))
    template = Template((assets / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{name}: forecast report",
        policy=f"default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}",
        style=style,
        script=script,
        data=_compressed_json(payload),
        experiment=name,
        headline=escape(headline.sentence),
        world=escape(world_sentence(scores) or _UNKNOWN_WORLD),
        details=_items(headline.details),
        strata=rows,
        strata_hidden="" if rows else " hidden",
        strata_of=escape(f"{label_of(scores, candidate(scores))} over that of {_hardest_of(scores)}"),
        long_run=_items(() if long_run is None else describe_long_run(long_run)),
        long_run_hidden=" hidden" if long_run is None else "",
        basis=escape(_basis(scores)),
        left_out=_left_out(scores, shown),
        fields="" if fields is None else " hidden",
        without_fields=escape(f"{without_fields} This report comes without maps."),
        cost=_cost_rows(scores),
        hardware=escape(_hardware(scores)),
        facts=_facts(scores, provenance),
        config=escape(provenance.config),
        config_hidden="" if provenance.config else " hidden",
    )


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _compressed_json(value: Any) -> str:
    """JSON through gzip and base 64: half the size, and no letter of it means anything to a parser of markup."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _basis(scores: xr.Dataset) -> str:
    a = scores.attrs
    many = "trajectory" if int(a["trajectories"]) == 1 else "trajectories"
    return (
        f"{initial_times(scores)} in {a['trajectories']} {a['split']} {many}; "
        f"{100 * float(a['confidence']):g} % intervals from {a['bootstrap']} block-bootstrap resamples; "
        f"anomalies from the climatology “{a['climatology']}”."
    )


def _left_out(scores: xr.Dataset, shown: Shown) -> str:
    missing = [variable_label(v) for v in scores["variable"].values.tolist() if v not in shown.variables]
    partly = [variable_label(v) for v in shown.variables if v not in shown.everywhere]
    parts = [", ".join(missing)] if missing else []
    parts += [f"the regions of {', '.join(partly)}"] if partly else []
    if not parts:
        return ""
    text = f"Left out to keep the page small: {'; '.join(parts)}. The scores file holds them."
    return f'<p class="note">{escape(text)}</p>'


def _strata(scores: xr.Dataset) -> str:
    """Head and rows of the table of ratios by season and trajectory; empty where there are no parts to tell apart."""
    if not (parts := strata(scores)):
        return ""
    hours = lead_hours(scores)
    leads = places_of(LEAD_HOURS, hours)
    heads = ["", "Initial times", *(lead_text(hours[i]) for i in leads)]
    rows = []
    for part in (Stratum("All", np.arange(scores.sizes["init_time"])), *parts):
        ratio = ratio_to_hardest(scores, part.rows)
        if not ratio.sizes["variable"]:
            return ""
        cells = [_mean_and_ends(of_variables) for of_variables in ratio.isel(lead_time=leads).values.T]
        rows.append(f'<tr><th scope="row">{part.label}</th><td>{part.rows.size}</td>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _hardest_of(scores: xr.Dataset) -> str:
    """The opponent, or how the hardest of several is chosen."""
    names = [label_of(scores, name) for name in opponents(scores)]
    if len(names) == 1:
        return names[0]
    return f"whichever of {listed(names)} errs least at that lead over all initial times"


def _mean_and_ends(ratios: np.ndarray) -> str:
    """A cell: geometric mean, lowest and highest."""
    ends = f"<small>{ratios.min():.2f} to {ratios.max():.2f}</small>" if ratios.size > 1 else ""
    return f"<td>{np.exp(np.log(ratios).mean()):.2f}{ends}</td>"


def _cost_rows(scores: xr.Dataset) -> str:
    def text(value: float) -> str:
        return number_text(value) if np.isfinite(value) else "unknown"

    rows = []
    for name in scores["forecaster"].values.tolist():
        one = scores.sel(forecaster=name)
        rows.append(
            f'<tr><th scope="row">{escape(label_of(scores, name))}</th>'
            f"<td>{text(float(one['simulated_days_per_second']))}</td>"
            f"<td>{text(float(one['seconds_per_simulated_day']))}</td></tr>"
        )
    return "".join(rows)


def _hardware(scores: xr.Dataset) -> str:
    """Who ran on what, told once for all that shared it."""
    users: dict[str, list[str]] = {}
    for name, hardware in zip(scores["forecaster"].values.tolist(), scores["hardware"].values.tolist(), strict=True):
        users.setdefault(hardware, []).append(label_of(scores, name))
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
        if k not in shown and v != ""
    }
    page = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} by version {__version__}: {command_line()}"
    facts = dict(provenance.facts) | facts | {"This page": page}
    return "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
