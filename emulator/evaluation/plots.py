"""Pictures of a scores file: skill against lead time, correlation and activity, cost. They need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.evaluation.regions import WHOLE
from emulator.evaluation.style import forecaster_label, line_styles, shown_unit, variable_label
from emulator.evaluation.table import candidate, headline_variables, opponents, read_crossover

_DPI = 150
_PANEL = (4.4, 3.2)
_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def plot_scores(scores: xr.Dataset, folder: Path) -> list[Path]:
    """Draws everything that a scores file holds.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      folder: Where the PNG files go.

    Returns:
      The files: ``skill.png``, ``activity.png``, ``cost.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        return [
            _save(skill_figure(scores), folder / "skill.png"),
            _save(activity_figure(scores), folder / "activity.png"),
            _save(cost_figure(scores), folder / "cost.png"),
        ]


def skill_figure(scores: xr.Dataset) -> Figure:
    """RMSE against lead for every headline variable, intervals shaded, crossovers with the physics marked."""
    variables = headline_variables(scores)
    figure, panels = _panels(len(variables))
    for axes, variable in zip(panels, variables, strict=True):
        _draw_rmse(axes, scores, variable)
    share = f"{100 * scores.attrs['confidence']:g} %"
    against = " and ".join(forecaster_label(r) for r in opponents(scores))
    _finish(
        figure,
        scores,
        f"Error against lead time ({scores.attrs['initial_times']} initial times, {share} intervals)\n"
        f"Diamonds: until when {forecaster_label(candidate(scores))} beats {against}",
    )
    return figure


def activity_figure(scores: xr.Dataset) -> Figure:
    """Anomaly correlation and activity: whether a low error was bought by blurring."""
    kinds = [("acc", "Anomaly correlation", None), ("activity", "Activity, forecast / truth", 1.0)]
    if "fine_scale_ratio" in scores:
        kinds.append(("fine_scale_ratio", "Fine-scale amplitude / truth", 1.0))
    variables = headline_variables(scores)
    figure = Figure(figsize=(_PANEL[0] * len(kinds), 0.8 + 2.4 * len(variables)), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(variables), len(kinds), squeeze=False, sharex=True)
    styles = line_styles(scores["forecaster"].values.tolist())
    days = _days(scores)
    for row, variable in zip(grid, variables, strict=True):
        for axes, (kind, title, level) in zip(row, kinds, strict=True):
            for name, (colour, dash) in styles.items():
                values = scores[kind].sel(variable=variable, forecaster=name, region=WHOLE).values
                axes.plot(days, values, color=colour, linestyle=dash, lw=1.6)
            if level is not None:
                axes.axhline(level, color="#aaaaaa", lw=0.8, zorder=0)
            axes.set_ylim(min(0.0, axes.get_ylim()[0]) if kind == "acc" else 0.0, None)
            axes.set_title(f"{variable_label(variable)}: {title}", loc="left", fontsize=9)
            _day_axis(axes, days)
    for axes in grid[-1]:
        axes.set_xlabel("Lead time (days)")
    _finish(figure, scores, "Does a low error come from blurring? A forecast as lively as the weather stays at 1")
    return figure


def cost_figure(scores: xr.Dataset) -> Figure:
    """Simulated days a second of every forecaster."""
    names = scores["forecaster"].values.tolist()
    styles = line_styles(names)
    speed = scores["simulated_days_per_second"].values
    figure = Figure(figsize=(6.5, 0.9 + 0.38 * len(names)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    known = np.isfinite(speed)
    colours = [styles[n][0] for n, k in zip(names, known, strict=True) if k]
    axes.scatter(speed[known], np.flatnonzero(known), c=colours, s=60, zorder=3)
    axes.set_yticks(range(len(names)), [forecaster_label(n) for n in names])
    axes.set_xscale("log")
    axes.set_ylim(len(names) - 0.5, -0.5)
    for i, value in enumerate(speed):
        text = f"   {value:,.3g}" if value < 1000 else f"   {value:,.0f}"
        axes.text(value if known[i] else axes.get_xlim()[0], i, text if known[i] else " unknown", va="center")
    axes.margins(x=0.2)
    axes.set_xlabel("Simulated days a second")
    hardware = sorted(set(scores["hardware"].values.tolist()))
    axes.set_title("Cost of a forecast on " + "; ".join(hardware), loc="left", fontsize=9)
    return figure


def _draw_rmse(axes: Axes, scores: xr.Dataset, variable: str) -> None:
    unit = shown_unit(variable, str(scores["units"].sel(variable=variable).item()))
    days = _days(scores)
    here = scores.sel(variable=variable, region=WHOLE)
    styles = line_styles(scores["forecaster"].values.tolist())
    for name, (colour, dash) in styles.items():
        one = here.sel(forecaster=name)
        rmse, lower, upper = (one[k].values * unit.factor for k in ("rmse", "rmse_lower", "rmse_upper"))
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            axes.fill_between(days, lower, upper, color=colour, alpha=0.16, lw=0)
        axes.plot(days, rmse, color=colour, linestyle=dash, lw=2.0 if name == candidate(scores) else 1.5)
    axes.set_ylim(0, 1.1 * float(here["rmse"].max()) * unit.factor)
    _day_axis(axes, days)
    axes.set_xlabel("Lead time (days)")
    axes.set_ylabel(f"RMSE ({unit.label})" if unit.label else "RMSE")
    axes.set_title(variable_label(variable), loc="left", fontweight="bold")
    for i, reference in enumerate(opponents(scores)):
        _mark_crossover(axes, scores, variable, reference, unit.factor, styles[reference][0], row=i)


def _mark_crossover(
    axes: Axes, scores: xr.Dataset, variable: str, reference: str, factor: float, colour: str, *, row: int
) -> None:
    """A diamond where the curves cross, its interval at the foot of the panel, and the answer in words."""
    name, days = candidate(scores), _days(scores)
    found = read_crossover(scores, name, reference, variable)
    foot = (0.05 + 0.075 * row, axes.get_xaxis_transform())
    if found.outcome == "crossover":
        curve = scores["rmse"].sel(forecaster=reference, variable=variable, region=WHOLE).values * factor
        at = found.hours / 24
        height = float(np.interp(at, days, curve))
        axes.plot([at], [height], marker="D", ms=6, mfc="white", mec=colour, mew=1.6, zorder=5)
        axes.plot([at, at], [0, height], color=colour, lw=0.8, ls=(0, (2, 2)), zorder=1)
        end = min(found.upper / 24, days[-1])
        axes.plot([found.lower / 24, end], [foot[0]] * 2, color=colour, lw=3, alpha=0.6, transform=foot[1])
        if not np.isfinite(found.upper):
            axes.plot([end], [foot[0]], marker=">", ms=5, color=colour, transform=foot[1], clip_on=False)
    text = f"vs {forecaster_label(reference)}: {found.describe()}"
    axes.text(0.99, foot[0], text, transform=axes.transAxes, ha="right", va="center", fontsize=7.5, color=colour)


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    columns = min(n, 3 if n != 4 else 2)
    rows = -(-n // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, 0.9 + _PANEL[1] * rows), dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[n:]:
        spare.remove()
    return figure, grid[:n]


def _finish(figure: Figure, scores: xr.Dataset, title: str) -> None:
    """One legend for all panels, below them, and the title."""
    styles = line_styles(scores["forecaster"].values.tolist())
    handles: Sequence[Any] = [
        mpl.lines.Line2D([], [], color=c, linestyle=d, lw=1.8, label=forecaster_label(n))
        for n, (c, d) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")


def _day_axis(axes: Axes, days: np.ndarray) -> None:
    axes.set_xlim(0, days[-1])
    if days[-1] <= 15:
        axes.set_xticks(np.arange(0, days[-1] + 0.01, 1 if days[-1] <= 10 else 2))


def _days(scores: xr.Dataset) -> np.ndarray:
    return scores["lead_time"].values / np.timedelta64(1, "D")


def _save(figure: Figure, path: Path) -> Path:
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(path)
    return path
