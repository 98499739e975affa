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
        return _text(self.title, self.machine, self.rows)


def _text(title: str, machine: str, rows: Sequence[Row]) -> str:
    """The table as text: title and machine above, one line a row."""
    cells = [("", "measured", "unit", "ceiling", "ratio", "")]
    for row in rows:
        ceiling, ratio = "", ""
        if row.ceiling is not None:
            ceiling, ratio = _number(row.ceiling), f"{row.value / row.ceiling:.3g}"
        cells.append((row.what, _number(row.value), row.unit, ceiling, ratio, row.against))
    widths = [max(len(line[i]) for line in cells) for i in range(6)]
    lines = []
    for what, value, unit, ceiling, ratio, against in cells:
        fields = (
            what.ljust(widths[0]),
            value.rjust(widths[1]),
            unit.ljust(widths[2]),
            ceiling.rjust(widths[3]),
            ratio.rjust(widths[4]),
            against,
        )
        lines.append("  ".join(fields).rstrip())
    return "\n".join([f"{title} on {machine}", "", *lines])


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1e5 else f"{value:,.0f}"
