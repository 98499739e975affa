"""Global grids by name: ``64x32``, ``gaussian 32``, ``1.5``. Imports nothing heavy: configs are checked by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

GRID_SYNTAX = (
    "COLUMNSxROWS (64x32 has its rows between the poles, 240x121 on them too), 'gaussian ROWS' (gaussian 32: 64 x 32), "
    "or the spacing in degrees (1.5: 240x121; 5.625, 2.8125, 1.40625 as WeatherBench has them: 64x32, 128x64, 256x128)"
)
"""How a grid is written, for schema, help and messages."""

Layout = Literal["gaussian", "centres", "poles"]


@dataclass(frozen=True)
class GridName:
    """A global grid by its counts.

    Attributes:
      columns: Longitudes, evenly spaced from 0 E.
      rows: Latitudes.
      layout: Where the rows lie: ``gaussian``; evenly spaced ``centres`` of equal bands, half a spacing off the poles;
        or evenly spaced from pole to pole (``poles``).
    """

    columns: int
    rows: int
    layout: Layout


def parse_grid_name(name: str | float) -> GridName:
    """Understands the name of a grid.

    Args:
      name: See ``GRID_SYNTAX``. A spacing of 360 degrees over a power of two gives centres of cells, as WeatherBench
        has them; any other one rows on the poles, as reanalyses have them (0.25, 1, 1.5, 2.5).

    Raises:
      ValueError: one line with what is possible.
    """
    text = str(name).strip().lower()
    if match := re.fullmatch(r"gaussian\s*(\d+)", text):
        rows = int(match[1])
        found = GridName(2 * rows, rows, "gaussian")
    elif match := re.fullmatch(r"(\d+)\s*x\s*(\d+)", text):
        found = _by_counts(int(match[1]), int(match[2]))
    elif re.fullmatch(r"\d*\.?\d+", text) and float(text) > 0:
        found = _by_spacing(float(text))
    else:
        raise ValueError(f"{name!r} is no grid; write {GRID_SYNTAX}")
    if found.rows < 2:
        raise ValueError(f"{name!r} has {found.rows} rows; a grid needs at least two")
    return found


def _by_counts(columns: int, rows: int) -> GridName:
    if 2 * rows == columns:
        return GridName(columns, rows, "centres")
    if 2 * (rows - 1) == columns:
        return GridName(columns, rows, "poles")
    raise ValueError(
        f"{columns}x{rows} has not the same spacing both ways: {columns} columns go with {columns // 2} rows, or "
        f"{columns // 2 + 1} with the poles; other grids are named by a file that is on them ('like')"
    )


def _by_spacing(degrees: float) -> GridName:
    bands = round(180.0 / degrees)
    if bands < 1 or abs(bands * degrees - 180.0) > 1e-6:
        raise ValueError(f"a spacing of {degrees:g} degrees does not divide 180; write {GRID_SYNTAX}")
    halved = bands & (bands - 1) == 0  # a power of two
    return GridName(2 * bands, bands, "centres") if halved else GridName(2 * bands, bands + 1, "poles")
