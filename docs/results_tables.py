"""Prints tables of results in Markdown: ``python docs/results_tables.py SCORES [BASELINE [FORECASTER]]``.

With a baseline, such as ``physics_t31``, other baselines are left out. A forecaster, such as the mean of two networks,
takes the place of the network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from emulator.evaluation.forecaster_names import is_physics, physics_form
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import (
    candidate,
    headline_variables,
    like_with_like,
    mean_ratios,
    opponents,
    read_crossover,
)
from emulator.evaluation.strata import ratio_in, strata
from emulator.evaluation.style import forecaster_label, lead_text, shown_unit, variable_label
from emulator.studies.markdown import markdown_table

ERROR_HOURS = (6, 24, 72, 120, 240)
LATER_HOURS = (24, 72, 120, 240)
GAP_HOURS = (24, 72, 120)


def main() -> None:
    """One after the other, each below its heading."""
    path, baseline, forecaster = (*sys.argv[1:], "", "")[:3]
    scores = xr.open_dataset(path)
    names = [n for n in scores["forecaster"].values.tolist() if not is_physics(n) or n.startswith(baseline)]
    if forecaster:
        names = [forecaster, *(n for n in names if n != forecaster and not n.startswith(candidate(scores)))]
    scores = scores.sel(forecaster=names)
    for title, hours, table in (
        ("RMSE", ERROR_HOURS, errors(scores)),
        ("Ahead until", (), crossovers(scores)),
        ("Like against like", (), alike(scores)),
        ("Activity, then fine scales", LATER_HOURS, liveliness(scores)),
        ("Share of the gap closed", GAP_HOURS, gaps(scores)),
        ("Geometric mean of the ratios of RMSE", LATER_HOURS, means(scores)),
        ("The same by season and trajectory", LATER_HOURS, parts(scores)),
    ):
        leads = " / ".join(lead_text(lead / np.timedelta64(1, "h")) for lead in _scored(scores, hours))
        sys.stdout.write(f"{title}{leads and f' at {leads}'}\n\n{table}\n\n")


def errors(scores: xr.Dataset) -> str:
    """RMSE of the network, its opponents, the twin and climatology."""
    names = [candidate(scores), *opponents(scores), *_present(scores, "twin", "climatology")]
    rows = []
    for variable in headline_variables(scores):
        unit = shown_unit(variable, str(scores["units"].sel(variable=variable).item()))
        values = [unit.factor * _at(scores, "rmse", ERROR_HOURS, forecaster=name, variable=variable) for name in names]
        rows.append([f"{variable_label(variable)}, {unit.label}", *(_list(v, "{:.3g}") for v in values)])
    return _table(names, rows)


def crossovers(scores: xr.Dataset) -> str:
    """Until when the network is ahead of its opponents and of the statistical references."""
    names = [*opponents(scores), *_present(scores, "twin", "climatology", "damped_anomaly_persistence")]
    return _table(
        names,
        [
            [variable_label(v), *(read_crossover(scores, candidate(scores), name, v).describe() for name in names)]
            for v in headline_variables(scores)
        ],
    )


def alike(scores: xr.Dataset) -> str:
    """RMSE, then crossover, of the network and of physics where the same was made of both."""
    if not (pairs := like_with_like(scores)):
        return "(nobody was corrected as physics was)"
    heads, rows = [], {v: [variable_label(v)] for v in headline_variables(scores)}
    for own, other in pairs:
        heads += [f"{forecaster_label(own)} over {forecaster_label(other)}", "ahead until", "activity"]
        for variable, row in rows.items():
            rmse = [_at(scores, "rmse", LATER_HOURS, forecaster=name, variable=variable) for name in (own, other)]
            activity = _at(scores, "activity", LATER_HOURS, forecaster=own, variable=variable)
            until = read_crossover(scores, own, other, variable).describe()
            row += [_list(rmse[0] / rmse[1], "{:.2f}"), until, _list(activity, "{:.2f}")]
    return _lines(heads, list(rows.values()))


def liveliness(scores: xr.Dataset) -> str:
    """Activity, then the amplitude of the fine scales, of the network and of physics raw and damped."""
    names = [candidate(scores), *(n for n in opponents(scores) if physics_form(n) in ("", "damped"))]
    kinds = [(kind, name) for kind in ("activity", "fine_scale_ratio") for name in names]
    rows = []
    for variable in headline_variables(scores):
        cells = [_at(scores, kind, LATER_HOURS, forecaster=name, variable=variable) for kind, name in kinds]
        rows.append([variable_label(variable), *(_list(c, "{:.2f}") for c in cells)])
    return _table([name for _, name in kinds], rows)


def gaps(scores: xr.Dataset) -> str:
    """Share of the gap from each opponent to the truth's own model that the network closes, with its interval."""
    if "gap_closed" not in scores:
        return "(no twin was scored)"
    names = opponents(scores)
    rows = []
    for variable in headline_variables(scores):
        row = [variable_label(variable)]
        for name in names:
            which = {"forecaster": candidate(scores), "reference": name, "variable": variable}
            ends = [_at(scores, f"gap_closed{end}", GAP_HOURS, **which) for end in ("", "_lower", "_upper")]
            shares = 100 * np.stack(ends, axis=-1)  # (lead, end)
            row.append(" / ".join("{:.0f} % [{:.0f}, {:.0f}]".format(*share) for share in shares))
        rows.append(row)
    return _table(names, rows)


def means(scores: xr.Dataset) -> str:
    """RMSE of the network over that of the others, the mean over the headline variables."""
    names = [*opponents(scores), *_present(scores, "twin", "climatology")]
    ratios = mean_ratios(scores).sel(lead_time=_scored(scores, LATER_HOURS))
    return _table(names, [["all", *(_list(ratios.sel(forecaster=name).values, "{:.2f}") for name in names)]])


def parts(scores: xr.Dataset) -> str:
    """RMSE of the network over that of its opponents in parts of the initial times."""
    names, rows = opponents(scores), []
    for part in strata(scores):
        row = [f"{part.label} ({part.rows.size})"]
        for name in names:
            ratio = ratio_in(scores, part.rows, candidate(scores), name).sel(lead_time=_scored(scores, LATER_HOURS))
            row.append(_list(np.exp(np.log(ratio).mean("variable")).values, "{:.2f}"))
        rows.append(row)
    return _table(names, rows) if rows else "(they are of one season and one trajectory)"


def _present(scores: xr.Dataset, *prefixes: str) -> list[str]:
    """Forecasters whose name begins so, physics among them left out."""
    names = [n for n in scores["forecaster"].values.tolist() if not is_physics(n)]
    return [n for prefix in prefixes for n in names if n.startswith(prefix)]


def _at(scores: xr.Dataset, kind: str, hours: Iterable[int], **which: str) -> np.ndarray:
    return np.asarray(scores[kind].sel(region=WHOLE, **which).sel(lead_time=_scored(scores, hours)).values)


def _list(values: np.ndarray, form: str) -> str:
    return " / ".join(form.format(value) for value in values)


def _scored(scores: xr.Dataset, hours: Iterable[int]) -> list[np.timedelta64]:
    """Of some leads those that the file has."""
    leads = [np.timedelta64(h, "h") for h in hours]
    return [lead for lead in leads if lead in scores["lead_time"].values]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return _lines([forecaster_label(name) for name in names], rows)


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(["", *columns], rows)


if __name__ == "__main__":
    main()
