"""Pictures of a scores file: skill against lead time, what it was bought with, gains, cost. They need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.evaluation.crossover import Crossover
from emulator.evaluation.figures import (
    DPI,
    LEAST_WIDTH,
    PANEL,
    RC,
    ROOM,
    finish,
    lead_axis,
    lead_axis_label,
    make_panels,
    marker_for,
    save,
)
from emulator.evaluation.forecaster_names import model_of
from emulator.evaluation.headline import hardest_opponent
from emulator.evaluation.plots_cost import cost_figure
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import (
    candidate,
    headline_variables,
    initial_times,
    label_of,
    lead_days,
    lead_hours,
    opponents,
    quoted_lead,
    read_crossover,
    unit_of,
    with_gap_from,
)
from emulator.evaluation.style import default_lines, limit_label, line_styles, variable_label

_MOST_ANSWERS = 3  # crossovers told in a panel


def plot_scores(scores: xr.Dataset, folder: Path) -> list[Path]:
    """Draws everything that a scores file holds.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      folder: Where the files go.

    Returns:
      The files, each picture as PNG and PDF: ``skill``, ``activity``, ``cost`` where a forecaster says its own, and
      ``gain`` where the scores hold it.
    """
    with mpl.rc_context(RC):
        figures = {"skill": skill_figure(scores), "activity": activity_figure(scores)}
        if np.isfinite(scores["simulated_days_per_second"]).any():
            figures["cost"] = cost_figure(scores)
        if "time_gain_hours" in scores:
            figures["gain"] = gain_figure(scores)
        return [path for name, figure in figures.items() for path in save(figure, folder / name)]


def skill_figure(scores: xr.Dataset) -> Figure:
    """RMSE against lead for every headline variable, intervals shaded, crossovers with the physics marked."""
    variables, names = headline_variables(scores), _shown(scores)
    figure, panels = make_panels(len(variables))
    answered = _answered(scores)
    for axes, variable in zip(panels, variables, strict=True):
        _draw_rmse(axes, scores, variable, names, answered)
    share = f"{100 * scores.attrs['confidence']:g} %"
    title = f"Error against lead time ({initial_times(scores)}, {share} intervals)"
    name = candidate(scores)
    if answered:
        marked = any(read_crossover(scores, name, r, v).outcome == "crossover" for r in answered for v in variables)
        whom = ", ".join(label_of(scores, r) for r in answered)
        where = "Diamonds, and words at the foot" if marked else "Words at the foot"
        title += f"\n{where}: until when {label_of(scores, name)} is ahead of {whom}"
    finish(figure, scores, names, title)
    return figure


def activity_figure(scores: xr.Dataset) -> Figure:
    """RMSE with activity beside it: whether a low error was bought by blurring."""
    kinds = [("rmse", "RMSE", None), ("acc", "Anomaly correlation", None), ("activity", "Activity over truth's", 1.0)]
    if "fine_scale_ratio" in scores:
        kinds.append(("fine_scale_ratio", "Fine-scale amplitude over truth's", 1.0))
    return _grid(scores, kinds, "Does a low error come from blurring? A forecast as lively as the weather stays at 1")


def gain_figure(scores: xr.Dataset) -> Figure:
    """By how many hours the candidate is ahead of each other forecaster, and its share of the gap to the limit."""
    name = candidate(scores)
    kinds = [("time_gain_hours", f"Hours that {label_of(scores, name)} is ahead", 0.0)]
    title = f"How far ahead: by how much later {label_of(scores, name)} makes the error that each other makes"
    title += "\nNo line: beyond the leads that were scored. Paler: an interval with an open end"
    if "gap_closed" in scores:
        baseline = hardest_opponent(scores)
        scores = with_gap_from(scores, baseline)
        if "gap_closed" in scores:
            kinds.append(("gap_closed", "Share of the gap closed", 1.0))
            limit = limit_label(str(scores.attrs["predictability_limit"]))
            title += f"\nShare of the gap: 0 is {label_of(scores, baseline)} (in every row), 1 {limit}"
    return _grid(scores, kinds, title)


def _grid(scores: xr.Dataset, kinds: Sequence[tuple[str, str, float | None]], title: str) -> Figure:
    """A row of panels a headline variable, a column a score, with a level to compare with; one score side by side."""
    variables, names = headline_variables(scores), _shown(scores)
    if len(kinds) == 1:
        figure, panels = make_panels(len(variables))
        grid = np.array(panels)[:, None]
    else:
        size = max(LEAST_WIDTH, PANEL[0] * len(kinds)), ROOM + 0.3 + 2.4 * len(variables)
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        grid = figure.subplots(len(variables), len(kinds), squeeze=False, sharex=True)
    drawn: set[str] = set()
    for row, variable in zip(grid, variables, strict=True):
        for axes, (kind, words, level) in zip(row, kinds, strict=True):
            here = _draw_score(axes, scores, variable, kind, names)
            drawn |= here
            if not here:
                why = "beyond the leads that were scored" if kind == "time_gain_hours" else "not scored"
                axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)
                axes.set_yticks([])
            if level is not None:
                axes.axhline(level, color="#aaaaaa", lw=0.8, zorder=0)
            unit = unit_of(scores, variable) if kind == "rmse" else ""
            axes.set_title(f"{variable_label(variable)}: {words}{unit}", loc="left", fontsize=9)
            lead_axis(axes, lead_days(scores))
    for axes in grid[-1] if len(kinds) > 1 else grid[:, 0]:
        axes.set_xlabel(lead_axis_label(lead_days(scores)))
    finish(figure, scores, [n for n in names if n in drawn], title)
    return figure


def _draw_score(axes: Axes, scores: xr.Dataset, variable: str, kind: str, names: Sequence[str]) -> set[str]:
    """One score of some forecasters; of a gain those of the candidate over the others, with intervals.

    Returns:
      Who has a line there.
    """
    here, days = scores.sel(variable=variable, region=WHOLE), lead_days(scores)
    factor = unit_of(scores, variable).factor if kind == "rmse" else 1.0
    styles = line_styles(scores["forecaster"].values.tolist())
    gain, highest = kind == "time_gain_hours", 0.0
    hours = lead_hours(scores)
    reach = (hours - hours[-1], hours - hours[0]) if gain else None  # as far as the leads can tell
    drawn: set[str] = set()
    for name in names:
        colour, dash = styles[name]
        one = here.sel(forecaster=candidate(scores), reference=name) if gain else here.sel(forecaster=name)
        values = one[kind].values * factor
        if _has_a_line(values):
            drawn.add(name)
            if gain or kind == "gap_closed":
                _shade(axes, days, values, (one[f"{kind}_lower"].values, one[f"{kind}_upper"].values), reach, colour)
        axes.plot(days, values, color=colour, linestyle=dash, lw=1.6, marker=marker_for(days))
        highest = max(highest, float(np.nanmax(values, initial=0.0)))
    if kind == "gap_closed":
        axes.set_ylim(-0.5, 1.1)  # somebody is always far behind
    elif not gain:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]) if kind == "acc" else 0.0, None if highest else 1.0)
    return drawn


def _has_a_line(values: np.ndarray) -> bool:
    """Whether there is a line to see: of a single lead a point, of several two beside each other."""
    known = np.isfinite(values)
    return bool(known.any() if known.size == 1 else (known[1:] & known[:-1]).any())


def _shade(
    axes: Axes,
    days: np.ndarray,
    values: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    reach: tuple[np.ndarray, np.ndarray] | None,
    colour: str,
) -> None:
    """The interval of a line, where there is a line, no further than ``reach``; paler where an end of it is open."""
    closed = np.isfinite(values) & np.isfinite(ends[0]) & np.isfinite(ends[1])
    if reach is not None:
        ends = np.maximum(ends[0], reach[0]), np.minimum(ends[1], reach[1])
        known = np.isfinite(values) & np.isfinite(ends[0]) & np.isfinite(ends[1])
        axes.fill_between(days, *ends, where=known, color=colour, alpha=0.04, lw=0)
    axes.fill_between(days, *ends, where=closed, color=colour, alpha=0.12, lw=0)


def _draw_rmse(axes: Axes, scores: xr.Dataset, variable: str, names: Sequence[str], answered: Sequence[str]) -> None:
    unit = unit_of(scores, variable)
    days = lead_days(scores)
    here = scores.sel(variable=variable, region=WHOLE)
    styles = line_styles(scores["forecaster"].values.tolist())
    for name in names:
        colour, dash = styles[name]
        one = here.sel(forecaster=name)
        rmse, lower, upper = (one[k].values * unit.factor for k in ("rmse", "rmse_lower", "rmse_upper"))
        compared = name == candidate(scores) or name in answered  # shading of a dozen lines would hide them all
        if compared and np.isfinite(lower).all() and np.isfinite(upper).all():
            axes.fill_between(days, lower, upper, color=colour, alpha=0.16, lw=0)
        width = 2.0 if name == candidate(scores) else 1.5
        axes.plot(days, rmse, color=colour, linestyle=dash, lw=width, marker=marker_for(days))
    # Room at the foot for the answers in words, which no curve may cross.
    top = 1.1 * float(here["rmse"].sel(forecaster=list(names)).max()) * unit.factor or 1.0
    axes.set_ylim(-(0.04 + 0.12 * len(answered)) * top, top)
    axes.set_yticks([t for t in axes.get_yticks() if 0 <= t <= top])
    lead_axis(axes, days)
    axes.set_xlabel(lead_axis_label(days))
    axes.set_ylabel(f"RMSE{unit}")
    axes.set_title(variable_label(variable), loc="left", fontweight="bold")
    found = {r: read_crossover(scores, candidate(scores), r, variable) for r in answered}
    late = any(24 * days[-1] / 2 < f.hours < np.inf for f in found.values())
    for i, reference in enumerate(answered):
        curve = here["rmse"].sel(forecaster=reference).values * unit.factor
        words = f"vs {label_of(scores, reference)}: {found[reference].describe()}"
        _mark_crossover(axes, days, curve, found[reference], words, styles[reference][0], row=i, left=late)


def _mark_crossover(
    axes: Axes,
    days: np.ndarray,
    curve: np.ndarray,
    found: Crossover,
    words: str,
    colour: str,
    *,
    row: int,
    left: bool,
) -> None:
    """A diamond where the curves cross, its interval at the foot of the panel, and the answer in words above that."""
    foot = (0.025 + 0.085 * row, axes.get_xaxis_transform())
    if found.outcome == "crossover":
        at = found.hours / 24
        height = float(np.interp(at, days, curve))
        axes.plot([at], [height], marker="D", ms=6, mfc="white", mec=colour, mew=1.6, zorder=5)
        axes.plot([at, at], [axes.get_ylim()[0], height], color=colour, lw=0.8, ls=(0, (2, 2)), zorder=1)
        end = min(found.upper / 24, days[-1])
        axes.plot([found.lower / 24, end], [foot[0]] * 2, color=colour, lw=3, alpha=0.6, transform=foot[1])
        if not np.isfinite(found.upper):
            axes.plot([end], [foot[0]], marker=">", ms=5, color=colour, transform=foot[1], clip_on=False)
    axes.text(
        0.01 if left else 0.99,
        foot[0] + 0.042,
        words,
        transform=axes.transAxes,
        ha="left" if left else "right",
        va="center",
        fontsize=7.5,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},  # the dotted lines end behind it
    )


def _shown(scores: xr.Dataset) -> list[str]:
    """Whose lines are drawn: with a dozen forecasters not all, but the hardest opponent always."""
    names = scores["forecaster"].values.tolist()
    return default_lines(names, candidate(scores), hardest_opponent(scores) if len(names) > 1 else "")


def _answered(scores: xr.Dataset) -> list[str]:
    """A few of them whose crossovers are told: the hardest opponent, what is of its model, and who errs least."""
    if scores.sizes["forecaster"] == 1:
        return []
    hardest, shown = hardest_opponent(scores), _shown(scores)
    first = scores["rmse"].sel(variable=headline_variables(scores)[0], region=WHOLE).isel(lead_time=quoted_lead(scores))
    error = {r: float(first.sel(forecaster=r).fillna(np.inf)) for r in opponents(scores) if r in shown}
    return sorted(error, key=lambda r: (r != hardest, model_of(r) != model_of(hardest), error[r]))[:_MOST_ANSWERS]
