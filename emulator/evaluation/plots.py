"""Pictures of a scores file: skill against lead time, what it was bought with, gains, cost. They need nothing else.

Each is written as PNG to look at and as PDF for papers, whose text is text in fonts that the file carries.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.files.disk import replacing
from emulator.evaluation.crossover import Crossover
from emulator.evaluation.headline import make_headline
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.style import (
    Unit,
    default_lines,
    forecaster_label,
    lead_text,
    limit_label,
    line_styles,
    model_of,
    number_text,
    variable_label,
)
from emulator.evaluation.table import (
    candidate,
    headline_variables,
    initial_times,
    label_of,
    lead_hours,
    opponents,
    quoted_lead,
    read_crossover,
    unit_of,
    with_gap_from,
    world_sentence,
)

_DPI = 150
_PANEL = (4.4, 3.2)
_LEAST_WIDTH = 6.6  # of a figure: titles and legends are sentences
_ROOM = 0.9  # for two lines of title and two of legend, inches
_RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, which journals accept and editors can edit; matplotlib's own Type 3 they refuse
}
_FORMATS = ("png", "pdf")
_HOURS_BELOW_DAYS = 3  # shorter forecasts have an axis in hours
_MOST_ANSWERS = 3  # crossovers told in a panel
_TRUTH_GREY = "#777777"


def plot_scores(scores: xr.Dataset, folder: Path) -> list[Path]:
    """Draws everything that a scores file holds.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      folder: Where the files go.

    Returns:
      The files, each picture as PNG and PDF: ``skill``, ``activity``, ``cost`` where a forecaster says its own, and
      ``gain`` where the scores hold it.
    """
    with mpl.rc_context(_RC):
        figures = {"skill": skill_figure(scores), "activity": activity_figure(scores)}
        if np.isfinite(scores["simulated_days_per_second"]).any():
            figures["cost"] = cost_figure(scores)
        if "time_gain_hours" in scores:
            figures["gain"] = gain_figure(scores)
        return [path for name, figure in figures.items() for path in save(figure, folder / name)]


def plot_long_run(run: xr.Dataset, folder: Path) -> list[Path]:
    """Draws a long run.

    Args:
      run: As ``measure_long_run`` returns it.
      folder: Where the files go.

    Returns:
      ``long_run`` as PNG and PDF.
    """
    with mpl.rc_context(_RC):
        return save(long_run_figure(run), folder / "long_run")


def skill_figure(scores: xr.Dataset) -> Figure:
    """RMSE against lead for every headline variable, intervals shaded, crossovers with the physics marked."""
    variables, names = headline_variables(scores), _shown(scores)
    figure, panels = _panels(len(variables))
    answered = _answered(scores)
    for axes, variable in zip(panels, variables, strict=True):
        _draw_rmse(axes, scores, variable, names, answered)
    share = f"{100 * scores.attrs['confidence']:g} %"
    title = f"Error against lead time ({initial_times(scores)}, {share} intervals)"
    name = candidate(scores)
    if any(read_crossover(scores, name, r, v).outcome == "crossover" for r in answered for v in variables):
        whom = ", ".join(label_of(scores, r) for r in answered)
        title += f"\nDiamonds: until when {label_of(scores, name)} is ahead of {whom}"
    _finish(figure, scores, names, title)
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
    title += "\nNo line: beyond the leads that were scored"
    if "gap_closed" in scores:
        baseline = make_headline(scores).reference
        scores = with_gap_from(scores, baseline)
        if "gap_closed" in scores:
            kinds.append(("gap_closed", "Share of the gap closed", 1.0))
            limit = limit_label(str(scores.attrs["predictability_limit"]))
            title += f"\nShare of the gap: 0 is {label_of(scores, baseline)} (in every row), 1 {limit}"
    return _grid(scores, kinds, title)


def long_run_figure(run: xr.Dataset) -> Figure:
    """Of every variable its global mean beside the truth's range, its zonal bias, and its fine scales."""
    variables = run["variable"].values.tolist()
    with_fine = np.isfinite(run["fine_scale_ratio"]).any()
    columns = 3 if with_fine else 2
    figure = Figure(figsize=(_PANEL[0] * columns, 0.8 + 2.2 * len(variables)), dpi=_DPI, layout="constrained")
    grid = figure.subplots(len(variables), columns, squeeze=False)
    colour = line_styles([run.attrs["forecaster"]])[run.attrs["forecaster"]][0]
    for row, variable in zip(grid, variables, strict=True):
        unit = unit_of(run, variable)
        one = run.sel(variable=variable)
        _draw_drift(row[0], one, unit, colour)
        _draw_zonal_bias(figure, row[1], one, unit)
        if with_fine:
            row[2].plot(_middles(run), one["fine_scale_ratio"].values, color=colour, marker="o", ms=4)
            row[2].axhline(1.0, color="#aaaaaa", lw=0.8, zorder=0)
            row[2].set_ylim(0, 1.1 * max(1.0, float(one["fine_scale_ratio"].max())))
            row[2].set_xlim(0, run["window"].values[-1] + run.attrs["window_days"])
            row[2].set_title("Fine-scale amplitude over truth's", loc="left", fontsize=9)
        row[0].set_title(f"{variable_label(variable)}: global mean", loc="left", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("Days")
    starts = np.datetime_as_string(run["init_time"].values, unit="D")
    handles: list[Any] = [
        mpl.lines.Line2D([], [], color=colour, ls=_run_dash(i), lw=1.4, label=f"from {start}")
        for i, start in enumerate(starts)
    ]
    handles.append(
        mpl.lines.Line2D([], [], color=_TRUTH_GREY, lw=0.8, label="the truth's mean at that time of the year")
    )
    handles.append(mpl.patches.Patch(color=_TRUTH_GREY, alpha=0.2, lw=0, label="and its range"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    held = f" but for a sponge ({run.attrs['sponge']})" if "sponge" in run.attrs else ""
    figure.suptitle(
        f"{forecaster_label(run.attrs['forecaster'])} left to itself{held}; bias and fine scales: mean of the runs",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _draw_drift(axes: Axes, one: xr.Dataset, unit: Unit, colour: str) -> None:
    days = one["lead_time"].values / np.timedelta64(1, "D")
    for i in range(one.sizes["init_time"]):
        here = one.isel(init_time=i)
        low, high, mean = (here[f"truth_{key}"].values * unit.factor for key in ("lowest", "highest", "mean"))
        axes.fill_between(days, low, high, color=_TRUTH_GREY, alpha=0.2, lw=0)
        axes.plot(days, mean, color=_TRUTH_GREY, lw=0.8)
        axes.plot(days, here["global_mean"].values * unit.factor, color=colour, lw=1.4, ls=_run_dash(i))
    axes.set_xlim(0, days[-1])
    axes.set_ylabel(unit.label)


def _run_dash(i: int) -> str:
    return ("-", "--", ":", "-.")[i % 4]


def _draw_zonal_bias(figure: Figure, axes: Axes, one: xr.Dataset, unit: Unit) -> None:
    bias = one["zonal_bias"].values * unit.factor
    known = np.abs(bias[np.isfinite(bias)])
    reach = float(known.max(initial=0.0)) or 1.0
    latitude = one["latitude"].values
    bounds = np.concatenate([[latitude[0]], (latitude[1:] + latitude[:-1]) / 2, [latitude[-1]]])
    edges = np.append(one["window"].values, one["window"].values[-1] + one.attrs["window_days"])
    mesh = axes.pcolormesh(edges, bounds, bias.T, cmap="RdBu_r", vmin=-reach, vmax=reach, rasterized=True)
    figure.colorbar(mesh, ax=axes, label=unit.label)
    axes.set_title("Zonal-mean bias", loc="left", fontsize=9)
    axes.set_ylabel("Latitude")


def _middles(run: xr.Dataset) -> np.ndarray:
    return run["window"].values + run.attrs["window_days"] / 2


def _grid(scores: xr.Dataset, kinds: Sequence[tuple[str, str, float | None]], title: str) -> Figure:
    """A row of panels a headline variable, a column a score, with a level to compare with; one score side by side."""
    variables, names = headline_variables(scores), _shown(scores)
    if len(kinds) == 1:
        figure, panels = _panels(len(variables))
        grid = np.array(panels)[:, None]
    else:
        size = max(_LEAST_WIDTH, _PANEL[0] * len(kinds)), _ROOM + 0.3 + 2.4 * len(variables)
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
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
            _lead_axis(axes, _days(scores))
    for axes in grid[-1] if len(kinds) > 1 else grid[:, 0]:
        axes.set_xlabel(_lead_axis_label(_days(scores)))
    _finish(figure, scores, [n for n in names if n in drawn], title)
    return figure


def _draw_score(axes: Axes, scores: xr.Dataset, variable: str, kind: str, names: Sequence[str]) -> set[str]:
    """One score of some forecasters; of a gain those of the candidate over the others, with intervals.

    Returns:
      Who has a line there.
    """
    here, days = scores.sel(variable=variable, region=WHOLE), _days(scores)
    factor = unit_of(scores, variable).factor if kind == "rmse" else 1.0
    styles = line_styles(scores["forecaster"].values.tolist())
    gain, highest = kind == "time_gain_hours", 0.0
    drawn: set[str] = set()
    for name in names:
        colour, dash = styles[name]
        one = here.sel(forecaster=candidate(scores), reference=name) if gain else here.sel(forecaster=name)
        values = one[kind].values * factor
        if gain or kind == "gap_closed":
            lower, upper = one[f"{kind}_lower"].values, one[f"{kind}_upper"].values
            if gain:  # open ends reach as far as the leads could tell
                hours = lead_hours(scores)
                lower, upper = np.maximum(lower, hours - hours[-1]), np.minimum(upper, hours - hours[0])
            known = np.isfinite(lower) & np.isfinite(upper)
            axes.fill_between(days, lower, upper, where=known, color=colour, alpha=0.14, lw=0)
        axes.plot(days, values, color=colour, linestyle=dash, lw=1.6, marker=_marker(days))
        if np.isfinite(values).sum() > 1 or days.size == 1:  # of a single lead of several there is no line to see
            drawn.add(name)
        highest = max(highest, float(np.nanmax(values, initial=0.0)))
    if kind == "gap_closed":
        axes.set_ylim(-0.5, 1.1)  # somebody is always far behind
    elif not gain:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]) if kind == "acc" else 0.0, None if highest else 1.0)
    return drawn


def cost_figure(scores: xr.Dataset) -> Figure:
    """Simulated days a second of every forecaster, and error against cost with the front that nobody beats in both."""
    figure = Figure(figsize=(11.5, max(3.4, 0.9 + 0.38 * scores.sizes["forecaster"])), dpi=_DPI, layout="constrained")
    speed, skill = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_speed(speed, scores)
    _draw_front(skill, scores)
    hardware = sorted(set(scores["hardware"].values.tolist()))
    world = world_sentence(scores)
    title = "Cost of a forecast on " + "; ".join(hardware)
    figure.suptitle(f"{title}\n{world}" if world else title, fontsize=10, x=0.01, ha="left")
    return figure


def cost_front(seconds: np.ndarray, errors: np.ndarray) -> list[int]:
    """Who is on the front of error against cost: nobody is both faster and better, nor one and as good in the other.

    Args:
      seconds, errors: ``(forecaster,)``; who has one that is not known takes no part.

    Returns:
      Indices by growing cost, and with it falling error.
    """
    front: list[int] = []
    for i in np.lexsort((errors, seconds)).tolist():
        known = np.isfinite(seconds[i]) and np.isfinite(errors[i])
        if known and (not front or errors[i] < errors[front[-1]]):
            front.append(i)
    return front


def _draw_speed(axes: Axes, scores: xr.Dataset) -> None:
    names = scores["forecaster"].values.tolist()
    styles = line_styles(names)
    speed = scores["simulated_days_per_second"].values
    known = np.isfinite(speed)
    colours = [styles[n][0] for n, k in zip(names, known, strict=True) if k]
    axes.scatter(speed[known], np.flatnonzero(known), c=colours, s=60, zorder=3)
    axes.set_yticks(range(len(names)), [label_of(scores, n) for n in names])
    axes.set_xscale("log")
    axes.set_ylim(len(names) - 0.5, -0.5)
    for i, value in enumerate(speed):
        if known[i]:
            axes.text(value, i, f"   {number_text(value)}", va="center")
        else:
            axes.text(0.02, i, "unknown", va="center", transform=axes.get_yaxis_transform())
    axes.margins(x=0.25)
    axes.set_xlabel("Simulated days a second")


def _draw_front(axes: Axes, scores: xr.Dataset) -> None:
    """Error of the first headline variable at five days, or the last lead before, against seconds a simulated day."""
    names, variable = scores["forecaster"].values.tolist(), headline_variables(scores)[0]
    unit = unit_of(scores, variable)
    lead = quoted_lead(scores)
    seconds = scores["seconds_per_simulated_day"].values
    errors = scores["rmse"].sel(variable=variable, region=WHOLE).isel(lead_time=lead).values * unit.factor
    known = np.isfinite(seconds) & np.isfinite(errors)
    colours = [c for (c, _), k in zip(line_styles(names).values(), known, strict=True) if k]
    axes.scatter(seconds[known], errors[known], c=colours, s=60, zorder=3)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.2 * errors[known].max(initial=0.0) or 1.0)
    axes.margins(x=0.25)
    front = cost_front(seconds, errors)
    if front:
        (low, high), top = axes.get_xlim(), axes.get_ylim()[1]
        corners = np.array([[seconds[i], errors[i]] for i in front])
        xs = np.repeat(np.append(corners[:, 0], high), 2)[:-1]
        axes.plot(xs, np.concatenate([[top], np.repeat(corners[:, 1], 2)]), color="#777777", lw=1, ls=(0, (4, 3)))
        room = min(0.5, 0.05 + 0.017 * len(label_of(scores, names[front[0]])))  # of the axis, for the leftmost name
        axes.set_xlim(low / (high / low) ** (room / (1 - room)), high)
        _name_points(axes, [(label_of(scores, names[i]), seconds[i], errors[i]) for i in front])
        own = names.index(candidate(scores))
        if known[own] and own not in front:  # which is above the front, where nothing else is named
            at = (seconds[own], errors[own])
            axes.annotate(
                label_of(scores, names[own]), at, xytext=(-6, 5), ha="right", textcoords="offset points", fontsize=8
            )
    axes.set_xlabel("Seconds a simulated day")
    title = f"RMSE of {variable_label(variable)} at {lead_text(lead_hours(scores)[lead])}{unit}"
    axes.set_title(title, loc="left", fontsize=9)


def _name_points(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Names of the front below and left of its points, where no part of it runs, and below the name before."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = 0.6 * 72 * figure.get_figheight() / axes.get_ylim()[1]  # typographic points of a unit of error
    lowest = math.inf
    for text, x, y in points:
        at = scale * y
        lowest = min(at - 11 if at > 15 else at + 5, lowest - 10)
        offset = (-6, lowest - at)
        axes.annotate(text, (x, y), xytext=offset, ha="right", textcoords="offset points", fontsize=8)


def _draw_rmse(axes: Axes, scores: xr.Dataset, variable: str, names: Sequence[str], answered: Sequence[str]) -> None:
    unit = unit_of(scores, variable)
    days = _days(scores)
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
        axes.plot(days, rmse, color=colour, linestyle=dash, lw=width, marker=_marker(days))
    # Room at the foot for the answers in words, which no curve may cross.
    top = 1.1 * float(here["rmse"].sel(forecaster=list(names)).max()) * unit.factor or 1.0
    axes.set_ylim(-(0.04 + 0.12 * len(answered)) * top, top)
    axes.set_yticks([t for t in axes.get_yticks() if 0 <= t <= top])
    _lead_axis(axes, days)
    axes.set_xlabel(_lead_axis_label(days))
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


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    columns = min(n, 3 if n != 4 else 2)
    rows = -(-n // columns)
    size = max(_LEAST_WIDTH, _PANEL[0] * columns), _ROOM + _PANEL[1] * rows
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[n:]:
        spare.remove()
    return figure, grid[:n]


def _shown(scores: xr.Dataset) -> list[str]:
    """Whose lines are drawn: with a dozen forecasters not all, but the hardest opponent always."""
    names = scores["forecaster"].values.tolist()
    return default_lines(names, candidate(scores), make_headline(scores).reference if len(names) > 1 else "")


def _answered(scores: xr.Dataset) -> list[str]:
    """A few of them whose crossovers are told: the hardest opponent, what is of its model, and who errs least."""
    if scores.sizes["forecaster"] == 1:
        return []
    hardest, shown = make_headline(scores).reference, _shown(scores)
    first = scores["rmse"].sel(variable=headline_variables(scores)[0], region=WHOLE).isel(lead_time=quoted_lead(scores))
    error = {r: float(first.sel(forecaster=r).fillna(np.inf)) for r in opponents(scores) if r in shown}
    return sorted(error, key=lambda r: (r != hardest, model_of(r) != model_of(hardest), error[r]))[:_MOST_ANSWERS]


def _finish(figure: Figure, scores: xr.Dataset, names: Sequence[str], title: str) -> None:
    """One legend for all panels, below them, and the title, with the world that it holds in; panels keep their size."""
    styles = line_styles(scores["forecaster"].values.tolist())
    handles: Sequence[Any] = [
        mpl.lines.Line2D([], [], color=c, linestyle=d, lw=1.8, label=label_of(scores, n))
        for n, (c, d) in styles.items()
        if n in names
    ]
    rows = 0
    if handles:
        width = 0.45 + 0.075 * max(len(h.get_label()) for h in handles)  # of an entry, inches
        columns = max(1, min(len(handles), int(figure.get_figwidth() / width)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        rows = -(-len(handles) // columns)
    world = world_sentence(scores)
    width = int(figure.get_figwidth() / 0.075)  # letters
    lines = [part for line in (*title.split("\n"), world) for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left")
    figure.set_figheight(figure.get_figheight() + max(0.0, 0.1 + 0.18 * len(lines) + 0.19 * rows - _ROOM))


def _lead_axis(axes: Axes, days: np.ndarray) -> None:
    axes.set_xlim(0, days[-1])
    if days[-1] < _HOURS_BELOW_DAYS:
        step = next((s for s in (1, 3, 6) if 24 * days[-1] <= 8 * s), 12)
        hours = np.arange(0, 24 * days[-1] + 0.01, step)
        axes.set_xticks(hours / 24, [f"{h:g}" for h in hours])
    elif days[-1] <= 15:
        axes.set_xticks(np.arange(0, days[-1] + 0.01, 1 if days[-1] <= 10 else 2))


def _marker(days: np.ndarray) -> str | None:
    """A single lead makes no line."""
    return "o" if days.size == 1 else None


def _lead_axis_label(days: np.ndarray) -> str:
    return f"Lead time ({'hours' if days[-1] < _HOURS_BELOW_DAYS else 'days'})"


def _days(scores: xr.Dataset) -> np.ndarray:
    return scores["lead_time"].values / np.timedelta64(1, "D")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes a figure as ``stem.png`` and ``stem.pdf``, each complete or not there; laid out once, for both."""
    out = []
    for kind in _FORMATS:
        path = stem.with_name(f"{stem.name}.{kind}")
        with replacing(path) as temporary, mpl.rc_context(_RC):
            figure.savefig(temporary, format=kind)
        figure.set_layout_engine("none")
        out.append(path)
    return out
