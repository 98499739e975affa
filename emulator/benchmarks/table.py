"""The one table that every benchmark prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
      what: What was measured, with its sizes.
      value, unit: What was reached.
      ceiling: The most that could be reached, in the same unit; ``None`` where there is no such thing.
      against: What the ceiling is.
    """

    what: str
    value: float
    unit: str
    ceiling: float | None = None
    against: str = ""


@dataclass(frozen=True)
class Table:
    """What a benchmark found.

    Attributes:
      title: What was measured.
      machine: On what.
      rows: The measurements.
    """

    title: str
    machine: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        cells = [("", "measured", "unit", "ceiling", "ratio", "")]
        for row in self.rows:
            ceiling, ratio = "", ""
            if row.ceiling is not None:
                ceiling, ratio = _number(row.ceiling), f"{row.value / row.ceiling:.3g}"
            cells.append((row.what, _number(row.value), row.unit, ceiling, ratio, row.against))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        pads = (str.ljust, str.rjust, str.ljust, str.rjust, str.rjust, str.ljust)
        fields = [[pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)] for line in cells]
        return "\n".join([f"{self.title} on {self.machine}", "", *("  ".join(line).rstrip() for line in fields)])


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1e5 else f"{value:,.0f}"
