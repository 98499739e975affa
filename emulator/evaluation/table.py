"""The table that an experiment ends with: error by lead, and until when the network wins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import (
    LEAD_HOURS,
    candidate,
    headline_variables,
    initial_times,
    label_of,
    lead_hours,
    like_with_like,
    read_crossover,
    unit_of,
    world_sentence,
)
from emulator.evaluation.style import variable_label

_WIDTH = 160  # characters in a line


def format_table(scores: xr.Dataset) -> str:
    """Plain text: for each headline variable a row per forecaster with RMSE by lead and the lead until it is beaten.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
    """
    console = Console(width=_WIDTH, force_terminal=False, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(_basis(scores), soft_wrap=True)
        console.print(_error_table(scores))
        if alike := like_with_like(scores):
            console.print(_alike_table(scores, alike))
        console.print(_cost_table(scores))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _error_table(scores: xr.Dataset) -> Table:
    hours = lead_hours(scores).tolist()
    leads = [h for h in LEAD_HOURS if h in hours] or hours[:: -(-len(hours) // len(LEAD_HOURS))]
    leads += hours[-1:] * (hours[-1] != leads[-1])
    name, share = candidate(scores), f"{100 * scores.attrs['confidence']:g} %"
    table = Table(
        title="RMSE by lead time, and until when it is beaten",
        caption="Ahead until: up to there its RMSE is lower, significantly so up to the lower end of the interval.",
    )
    table.add_column("Variable")
    table.add_column("Forecaster", no_wrap=True)
    for h in leads:
        table.add_column(f"{h:g} h" if h < 24 else f"{h / 24:g} d", justify="right")
    table.add_column(f"{label_of(scores, name)} is ahead until [{share} interval]")
    rmse = scores["rmse"].sel(region=WHOLE)
    for variable in headline_variables(scores):
        unit = unit_of(scores, variable)
        for i, other in enumerate(scores["forecaster"].values.tolist()):
            values = rmse.sel(variable=variable, forecaster=other).values * unit.factor
            cells = [_number(values[hours.index(h)]) for h in leads]
            title = f"{variable_label(variable)}{unit}"
            beaten = "" if other == name else read_crossover(scores, name, other, variable).describe()
            table.add_row(title if i == 0 else "", label_of(scores, other), *cells, beaten)
        table.add_section()
    return table


def _alike_table(scores: xr.Dataset, pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table(title="Like against like: until when the first is ahead of the second")
    table.add_column("Variable")
    for own, other in pairs:
        table.add_column(f"{label_of(scores, own)}, {label_of(scores, other)}")
    for variable in headline_variables(scores):
        cells = [read_crossover(scores, own, other, variable).describe() for own, other in pairs]
        table.add_row(variable_label(variable), *cells)
    return table


def _cost_table(scores: xr.Dataset) -> Table:
    table = Table(title="Cost")
    for column in ("Forecaster", "Simulated days a second", "Hardware"):
        table.add_column(column, justify="right" if column.startswith("Sim") else "left")
    for name in scores["forecaster"].values.tolist():
        one = scores.sel(forecaster=name)
        table.add_row(
            label_of(scores, name), _number(float(one["simulated_days_per_second"])), str(one["hardware"].item())
        )
    return table


def _basis(scores: xr.Dataset) -> str:
    """Which world the numbers are of, and what they rest on."""
    a, world = scores.attrs, world_sentence(scores)
    return (f"{world}\n" if world else "") + (
        f"{initial_times(scores)} in {a['trajectories']} {a['split']} "
        f"{'trajectory' if a['trajectories'] == 1 else 'trajectories'}; anomalies from the "
        f"climatology '{a['climatology']}' of the training split; {a['bootstrap']} block-bootstrap resamples."
    )


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:.0f}"
