"""What a forecast costs, and what error that buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from emulator.evaluation.figures import DPI, put_title
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import (
    headline_variables,
    label_of,
    lead_hours,
    quoted_lead,
    unit_of,
    world_sentence,
)
from emulator.evaluation.style import lead_text, line_styles, number_text, variable_label

_LEAST_DECADES = 0.65  # between the points at the ends of an axis of cost: of the equally dear nothing is to be read
_SIDES = 0.3  # of that room, left and right of them, for what is written there
_POINT = 60.0  # square points, of the area of a marker
_NAME_SIZE = 8
_NEAR, _FAR = 7.0, (18.0, 30.0, 43.0, 57.0, 72.0, 90.0)  # points, from a marker to its name
_DIAGONAL = 0.7
_SIDES_OF_A_POINT = (
    *((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)),
    *((x, y) for x in (_DIAGONAL, -_DIAGONAL) for y in (_DIAGONAL, -_DIAGONAL)),
)


@dataclass(frozen=True)
class _Place:
    """Where a name may stand beside a point.

    Attributes:
      offset: Of it, points to the right and up.
    """

    offset: tuple[float, float]

    @property
    def is_far(self) -> bool:
        """Whether it takes a line to see whose name it is."""
        return max(map(abs, self.offset)) > _NEAR

    @property
    def ha(self) -> str:
        """How the name is aligned there."""
        return ("center", "left", "right")[int(np.sign(self.offset[0]))]

    @property
    def va(self) -> str:
        """Likewise."""
        return ("center", "bottom", "top")[int(np.sign(self.offset[1]))]

    def box(self, at: np.ndarray, size: np.ndarray, scale: float) -> Bbox:
        """What a name of this size takes, beside a point at these pixels; ``scale`` are pixels of an offset's unit."""
        middle = at + scale * np.array(self.offset) + np.sign(self.offset) * size / 2
        return Bbox.from_extents(*(middle - size / 2), *(middle + size / 2))

    def leader(self, at: np.ndarray, scale: float) -> Path:
        """The line from the point to the name."""
        return Path([at, at + scale * np.array(self.offset)])


_PLACES = tuple(_Place((by * x, by * y)) for by in (_NEAR, *_FAR) for x, y in _SIDES_OF_A_POINT)  # the nearest first


def cost_figure(scores: xr.Dataset) -> Figure:
    """Simulated days a second of every forecaster, and error against cost with the front that nobody beats in both."""
    figure = Figure(figsize=(11.5, max(3.4, 0.9 + 0.38 * scores.sizes["forecaster"])), dpi=DPI, layout="constrained")
    speed, skill = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_speed(speed, scores)
    names, points, front = _draw_front(skill, scores)
    hardware = sorted(set(scores["hardware"].values.tolist()) - {"unknown"})
    title = "Cost of a forecast" + (f" on {'; '.join(hardware)}" if hardware else "")
    lines = put_title(figure, f"{title}\n{world_sentence(scores)}")
    figure.set_figheight(figure.get_figheight() + 0.18 * max(0, lines - 2))
    _name_points(skill, names, points, front)
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
    _cost_axis(axes, speed[known])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for i, value in enumerate(speed):
        if known[i]:
            axes.text(value, i, f"   {number_text(value)}", va="center")
        else:
            axes.text(0.02, i, "unknown", va="center", transform=axes.get_yaxis_transform())
    axes.set_xlabel("Simulated days a second")


def _draw_front(axes: Axes, scores: xr.Dataset) -> tuple[list[tuple[str, str]], np.ndarray, np.ndarray]:
    """Error of the first headline variable at five days, or the last lead before, against seconds a simulated day.

    Returns:
      Label and colour of each point; the points, ``(point, 2)``; and the corners of the line of the front.
    """
    names, variable = scores["forecaster"].values.tolist(), headline_variables(scores)[0]
    unit = unit_of(scores, variable)
    lead = quoted_lead(scores)
    seconds = scores["seconds_per_simulated_day"].values
    errors = scores["rmse"].sel(variable=variable, region=WHOLE).isel(lead_time=lead).values * unit.factor
    known = np.isfinite(seconds) & np.isfinite(errors)
    colours = [c for c, _ in line_styles(names).values()]
    shown = np.flatnonzero(known).tolist()
    axes.scatter(seconds[known], errors[known], c=[colours[i] for i in shown], s=_POINT, zorder=3)
    _cost_axis(axes, seconds[known])
    axes.set_ylim(0, 1.2 * errors[known].max(initial=0.0) or 1.0)
    line = np.zeros((0, 2))
    if front := cost_front(seconds, errors):
        right, top = axes.get_xlim()[1], axes.get_ylim()[1]
        xs = np.repeat(np.append(seconds[front], right), 2)[:-1]
        line = np.stack([xs, np.concatenate([[top], np.repeat(errors[front], 2)])], axis=1)
        axes.plot(*line.T, color="#777777", lw=1, ls=(0, (4, 3)))
    axes.set_xlabel("Seconds a simulated day")
    title = f"RMSE of {variable_label(variable)} at {lead_text(lead_hours(scores)[lead])}{unit}"
    axes.set_title(title, loc="left", fontsize=9)
    labels = [(label_of(scores, names[i]), colours[i]) for i in shown]
    return labels, np.stack([seconds[known], errors[known]], axis=1), line


def _cost_axis(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic, with some room around the points; ticks at powers of ten or, of few, at two and five of them too."""
    axes.set_xscale("log")
    if values.size:
        low, high = np.log10([values.min(), values.max()])
        middle, room = (low + high) / 2, max(high - low, _LEAST_DECADES)
        low, high = middle - (0.5 + _SIDES) * room, middle + (0.5 + _SIDES) * room
        axes.set_xlim(10**low, 10**high)
        if np.floor(high) - np.ceil(low) < 1:  # fewer than two powers
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(LogFormatterMathtext(minor_thresholds=(np.inf, np.inf)))
            axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _name_points(axes: Axes, labels: Sequence[tuple[str, str]], points: np.ndarray, line: np.ndarray) -> None:
    """Writes a name beside each point where it covers no point, no other name and, if it can be, not the line.

    A name that has to be far from its point has a thin line to it. What is free is measured, so the panels must have
    their size: nothing that is written here moves them.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    scale = figure.dpi / 72  # pixels of a typographic point
    at, corners = map(axes.transData.transform, (points, line))
    half = scale * (np.sqrt(_POINT) / 2 + 1)
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in at]
    dashes = [Bbox.from_extents(*(np.minimum(a, b) - scale), *(np.maximum(a, b) + scale)) for a, b in pairwise(corners)]
    paper = axes.get_window_extent()
    leaders: list[Path] = []
    for i in np.argsort(points[:, 1], kind="stable").tolist():
        text, colour = labels[i]
        size = scale * _size_of(figure, text)
        others = taken[:i] + taken[i + 1 :]

        def badness(place: _Place, at: np.ndarray = at[i], size: np.ndarray = size, others: list[Bbox] = others) -> int:
            box, leader = place.box(at, size, scale), place.leader(at, scale)
            outside = box.x0 < paper.x0 or box.x1 > paper.x1 or box.y0 < paper.y0 or box.y1 > paper.y1
            over = sum(box.overlaps(other) for other in taken)
            crossed = sum(line.intersects_bbox(box) for line in leaders) + sum(map(leader.intersects_bbox, others))
            return 1000 * outside + 100 * over + 10 * crossed + sum(box.overlaps(dash) for dash in dashes)

        place = min(_PLACES, key=badness)  # of equals the first, which is the nearest
        taken.append(place.box(at[i], size, scale))
        if place.is_far:
            leaders.append(place.leader(at[i], scale))
        leader = {"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 0, "shrinkB": 4}
        name = axes.annotate(
            text,
            points[i],
            xytext=place.offset,
            textcoords="offset points",
            ha=place.ha,
            va=place.va,
            fontsize=_NAME_SIZE,
            color=[0.7 * part for part in to_rgb(colour)],  # of its point, but darker, for letters are thin
            arrowprops=leader if place.is_far else None,
        )
        name.set_in_layout(False)


def _size_of(figure: Figure, text: str) -> np.ndarray:
    """Width and height of a name, points."""
    name = figure.text(0, 0, text, fontsize=_NAME_SIZE)
    box = name.get_window_extent()
    name.remove()
    return 72 / figure.dpi * np.array([box.width, box.height])
