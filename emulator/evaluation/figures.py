"""Panels, legends and axes of lead time that all pictures of scores share, and how a figure is written.

Each is written as PNG to look at and as PDF for papers, whose text is text in fonts that the file carries.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_prep.files.disk import replacing
from emulator.evaluation.scores_reader import label_of, world_sentence
from emulator.evaluation.style import line_styles

DPI = 150
PANEL = (4.4, 3.2)
LEAST_WIDTH = 6.6  # of a figure: titles and legends are sentences
_TITLE_SIZE = 10
_EDGE = 0.01  # of the width, left and right of a title
ROOM = 0.9  # for two lines of title and two of legend, inches
RC: dict[Any, Any] = {
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


def make_panels(n: int) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, two or three in a row."""
    columns = min(n, 3 if n != 4 else 2)
    rows = -(-n // columns)
    size = max(LEAST_WIDTH, PANEL[0] * columns), ROOM + PANEL[1] * rows
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for spare in grid[n:]:
        spare.remove()
    return figure, grid[:n]


def finish(figure: Figure, scores: xr.Dataset, names: Sequence[str], title: str) -> None:
    """One legend for all panels, below them, and the title, with the world that it holds in; panels keep their size."""
    styles = line_styles(scores["forecaster"].values.tolist())
    handles: Sequence[Any] = [
        mpl.lines.Line2D([], [], color=c, linestyle=d, lw=1.8, label=label_of(scores, n))
        for n, (c, d) in styles.items()
        if n in names
    ]
    rows = 0
    if handles:
        width = 0.62 + max(_width(figure, h.get_label(), RC["font.size"]) for h in handles)  # of an entry, inches
        columns = max(1, min(len(handles), int(figure.get_figwidth() / width)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        rows = -(-len(handles) // columns)
    lines = put_title(figure, f"{title}\n{world_sentence(scores)}")
    figure.set_figheight(figure.get_figheight() + max(0.0, 0.1 + 0.18 * lines + 0.19 * rows - ROOM))


def put_title(figure: Figure, text: str) -> int:
    """The title of a figure that holds sentences, in as many lines as it takes, which are returned."""
    title = wrapped(figure, text.strip("\n"), _TITLE_SIZE)
    figure.suptitle(title, fontsize=_TITLE_SIZE, x=_EDGE, ha="left")
    return len(title.split("\n"))


def wrapped(figure: Figure, text: str, size: float, weight: str = "normal") -> str:
    """Text with its lines broken so that each fits into the width of a figure, as it is drawn: letters are not alike.

    Args:
      figure: Where it will stand.
      text: Lines; each is broken by itself.
      size: Of the letters, in points.
      weight: ``bold`` where it is.
    """
    room = (1 - 2 * _EDGE) * figure.get_figwidth()

    def width(line: str) -> float:
        return _width(figure, line, size, weight)

    def fitting(name: str) -> int:
        return max(bisect_right(range(len(name)), room, key=lambda letters: width(name[:letters])) - 1, 1)

    lines = []
    for line in text.split("\n"):
        so_far = ""
        for word in line.split():
            longer = f"{so_far} {word}".lstrip()
            if so_far and width(longer) > room:
                lines.append(so_far)
                longer = word
            while width(longer) > room:  # a name without a space
                fits = fitting(longer)
                lines.append(longer[:fits])
                longer = longer[fits:]
            so_far = longer
        lines.append(so_far)
    return "\n".join(lines)


def _width(figure: Figure, text: str, size: float, weight: str = "normal") -> float:
    """Of a line of text, inches."""
    if not isinstance(figure.canvas, FigureCanvasAgg):
        FigureCanvasAgg(figure)  # keeps what it draws with; without it, every measurement makes that anew
    line = figure.text(0, 0, text, fontsize=size, fontweight=weight)
    width = line.get_window_extent().width / figure.dpi
    line.remove()
    return float(width)


def lead_axis(axes: Axes, days: np.ndarray) -> None:
    """Ticks at whole days or, of short forecasts, hours; ``days`` are ``lead_days``."""
    axes.set_xlim(0, days[-1])
    if days[-1] < _HOURS_BELOW_DAYS:
        step = next((s for s in (1, 3, 6) if 24 * days[-1] <= 8 * s), 12)
        hours = np.arange(0, 24 * days[-1] + 0.01, step)
        axes.set_xticks(hours / 24, [f"{h:g}" for h in hours])
    elif days[-1] <= 15:
        axes.set_xticks(np.arange(0, days[-1] + 0.01, 1 if days[-1] <= 10 else 2))


def marker_for(days: np.ndarray) -> str | None:
    """A single lead makes no line."""
    return "o" if days.size == 1 else None


def lead_axis_label(days: np.ndarray) -> str:
    """What an axis of ``lead_days`` is called."""
    return f"Lead time ({'hours' if days[-1] < _HOURS_BELOW_DAYS else 'days'})"


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes a figure as ``stem.png`` and ``stem.pdf``, each complete or not there; laid out once, for both."""
    out = []
    with mpl.rc_context(RC):
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # with an engine, also one that does nothing, matplotlib draws all twice
        for kind in _FORMATS:
            path = stem.with_name(f"{stem.name}.{kind}")
            with replacing(path) as temporary:
                figure.savefig(temporary, format=kind)
            out.append(path)
    return out
