"""The table that an experiment ends with: error by lead, and until when the network wins."""

from __future__ import annotations

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from emulator.evaluation.crossover import Crossover, Outcome
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.style import forecaster_label, is_physics, shown_unit, variable_label

LEAD_HOURS = (6, 24, 48, 72, 120, 168, 240)
"""Leads of the table, as far as they were scored."""


def headline_variables(scores: xr.Dataset) -> list[str]:
    """The variables to show: the config's headline, or all."""
    return str(scores.attrs.get("headline", "")).split() or scores["variable"].values.tolist()


def candidate(scores: xr.Dataset) -> str:
    """Whose crossovers are told: the network; without one, the first forecaster."""
    names = scores["forecaster"].values.tolist()
    return "network" if "network" in names else names[0]


def opponents(scores: xr.Dataset) -> list[str]:
    """Whose crossovers the curves mark: every physics baseline's; without one, everybody else's."""
    names = [n for n in scores["forecaster"].values.tolist() if n != candidate(scores)]
    return [n for n in names if is_physics(n)] or names


def read_crossover(scores: xr.Dataset, forecaster: str, reference: str, variable: str) -> Crossover:
    """One crossover of a scores file, over the whole grid."""
    one = scores.sel(forecaster=forecaster, reference=reference, variable=variable, region=WHOLE)
    hours, lower, upper, start = (float(one[f"crossover_{key}"]) for key in ("hours", "lower", "upper", "start"))
    outcome: Outcome = one["crossover_outcome"].item()
    return Crossover(outcome, hours, lower, upper, start, bool(one["crossover_from_first_lead"]))


def format_table(scores: xr.Dataset, *, width: int = 160) -> str:
    """Plain text: for each headline variable a row per forecaster with RMSE by lead, and the crossovers below.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      width: Characters in a line.
    """
    console = Console(width=width, force_terminal=False, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(_error_table(scores))
        console.print(_crossover_table(scores))
        console.print(_cost_table(scores))
        console.print(_footnote(scores), soft_wrap=True)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _error_table(scores: xr.Dataset) -> Table:
    hours = (scores["lead_time"].values / np.timedelta64(1, "h")).round(6).tolist()
    leads = [h for h in LEAD_HOURS if h in hours]
    table = Table(title="RMSE by lead time")
    table.add_column("Variable")
    table.add_column("Forecaster")
    for h in leads:
        table.add_column(f"{h:g} h" if h < 24 else f"{h / 24:g} d", justify="right")
    rmse = scores["rmse"].sel(region=WHOLE)
    for variable in headline_variables(scores):
        unit = shown_unit(variable, str(scores["units"].sel(variable=variable).item()))
        for i, name in enumerate(scores["forecaster"].values.tolist()):
            values = rmse.sel(variable=variable, forecaster=name).values * unit.factor
            cells = [_number(values[hours.index(h)]) for h in leads]
            title = f"{variable_label(variable)} ({unit.label})" if unit.label else variable_label(variable)
            table.add_row(title if i == 0 else "", forecaster_label(name), *cells)
        table.add_section()
    return table


def _crossover_table(scores: xr.Dataset) -> Table:
    name = candidate(scores)
    share = f"{100 * scores.attrs['confidence']:g} %"
    table = Table(title=f"{forecaster_label(name)} beats in RMSE until [{share} interval]")
    table.add_column("Variable")
    references = [n for n in scores["forecaster"].values.tolist() if n != name]
    for reference in references:
        table.add_column(forecaster_label(reference))
    for variable in headline_variables(scores):
        found = [read_crossover(scores, name, reference, variable) for reference in references]
        table.add_row(variable_label(variable), *(_in_words(c) for c in found))
    return table


def _in_words(crossover: Crossover) -> str:
    from_start = np.isfinite(crossover.start) and not crossover.from_first_lead
    return crossover.describe() + (f" (from {crossover.start / 24:.1f} d)" if from_start else "")


def _cost_table(scores: xr.Dataset) -> Table:
    table = Table(title="Cost")
    for column in ("Forecaster", "Simulated days a second", "Hardware"):
        table.add_column(column, justify="right" if column.startswith("Sim") else "left")
    for name in scores["forecaster"].values.tolist():
        one = scores.sel(forecaster=name)
        table.add_row(
            forecaster_label(name), _number(float(one["simulated_days_per_second"])), str(one["hardware"].item())
        )
    return table


def _footnote(scores: xr.Dataset) -> str:
    a = scores.attrs
    return (
        f"{a['initial_times']} initial times in {a['trajectories']} {a['split']} trajectories; anomalies from the "
        f"climatology '{a['climatology']}' of the training split; {a['bootstrap']} block-bootstrap resamples."
    )


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
