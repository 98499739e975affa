"""What a forecast costs, and what error that buys."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.evaluation.figures import DPI
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.style import lead_text, line_styles, number_text, variable_label
from emulator.evaluation.table import (
    candidate,
    headline_variables,
    label_of,
    lead_hours,
    quoted_lead,
    unit_of,
    world_sentence,
)


def cost_figure(scores: xr.Dataset) -> Figure:
    """Simulated days a second of every forecaster, and error against cost with the front that nobody beats in both."""
    figure = Figure(figsize=(11.5, max(3.4, 0.9 + 0.38 * scores.sizes["forecaster"])), dpi=DPI, layout="constrained")
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
