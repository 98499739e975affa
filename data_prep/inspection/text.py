"""What was seen of files: for people, as lines, and for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import yaml

from data_prep import clock
from data_prep.errors import percent
from data_prep.inspection.files import FileReport, findings_of
from data_prep.reading.opening import format_of
from data_prep.reading.quality import Finding
from data_prep.spec import Vertical

_MOST_OF_A_KIND = 10  # or many of one would hide all others
_MOST_VALUES_LISTED = 12


def as_text(files: Sequence[FileReport], section: dict[str, Any]) -> str:
    """A report for people; ends with the ``data`` section."""
    lines: list[str] = []
    for file in files:
        lines += [*_file_lines(file), ""]
    lines += _finding_lines([f for file in files for f in findings_of(file)])
    return "\n".join([*lines, "", *_section_lines(section)])


def file_as_json(file: FileReport) -> dict[str, Any]:
    """A file for machines; times in ISO 8601, values in SI units."""
    source = file.source
    times = np.unique(source.times)
    variables = [
        {
            "name": report.found.name,
            "name_in_file": report.found.raw_name,
            "units": report.found.to_si.units,
            "levels": list(report.found.levels),
            "lowest": report.low,
            "highest": report.high,
            "missing": report.missing,
            "extent": report.found.extent,
        }
        for report in file.fields
    ]
    return {
        "path": str(source.path),
        "paths": [str(path) for path in source.paths],
        "format": format_of(source.path),
        "grid": {"global": source.grid.is_global, **source.grid.to_dict()},
        "times": [clock.text(t) for t in times[[0, -1]]] if times.size else [],
        "number_of_times": int(times.size),
        "interval_hours": clock.hours(np.diff(times).min()) if times.size > 1 else None,
        "vertical": file.vertical,
        "variables": variables,
        "left_out": dict(file.skipped),
    }


def finding_as_json(finding: Finding) -> dict[str, Any]:
    """A finding likewise."""
    first, last = (None if t is None else clock.text(t) for t in (finding.first, finding.last))
    return asdict(finding) | {"first": first, "last": last}


def _file_lines(file: FileReport) -> list[str]:
    source = file.source
    more = f" and {len(source.paths) - 1} more with other levels" if len(source.paths) > 1 else ""
    lines = [f"{source.path}{more} ({format_of(source.path)})", f"  grid    {source.grid.describe()}"]
    times = np.unique(source.times)
    if times.size == 0:
        lines.append("  times   none")
    elif times.size == 1:
        lines.append(f"  times   {clock.text(times[0])} only: an initial condition")
    else:
        ends = " to ".join(clock.text(t) for t in times[[0, -1]])
        lines.append(f"  times   {times.size} from {ends}, every {clock.hours(np.diff(times).min()):g} h")
    if source.calendar:
        lines.append(f"  calendar {source.calendar}; these dates are the real calendar's")
    rows = [("variable", "in the file", "unit", "levels", "lowest", "highest", "NaN", "extent")]
    for report in file.fields:
        found = report.found
        rows.append(
            (
                found.name,
                found.raw_name,
                found.to_si.units if found.unit_given else f"{found.to_si.units} (not given)",
                _levels_text(found.levels, file.vertical),
                f"{report.low:.5g}",
                f"{report.high:.5g}",
                percent(report.missing),
                found.extent,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"  left out: {name} ({reason})" for name, reason in file.skipped]
    return lines


def _levels_text(levels: Sequence[float], vertical: Vertical | None) -> str:
    if not levels:
        return "-"
    unit = " hPa" if vertical == "pressure" else ""
    if len(levels) > _MOST_VALUES_LISTED:
        return f"{len(levels)}: {levels[0]:g} to {levels[-1]:g}{unit}"
    return f"{len(levels)}: {' '.join(f'{x:g}' for x in levels)}{unit}"


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["quality: nothing found"]
    errors = sum(f.severity == "error" for f in findings)
    lines = [f"quality: {errors} errors, {len(findings) - errors} warnings"]
    alike = Counter(findings)  # of a gap in the times of every variable, each in a file of its own
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(alike, key=lambda f: f.severity):
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    for (severity, kind), some in kinds.items():
        for finding in some[:_MOST_OF_A_KIND]:
            ends = list(dict.fromkeys(clock.text(t) for t in (finding.first, finding.last) if t is not None))
            span = f" {' to '.join(ends)}" + (f" ({finding.count} times)" if finding.count > 1 else "") if ends else ""
            files = f" (in {alike[finding]} files)" if alike[finding] > 1 else ""
            lines.append(f"  {severity:7s}  {kind}: {finding.channel}{span}: {finding.text}{files}")
        if len(some) > _MOST_OF_A_KIND:
            lines.append(f"  {severity:7s}  {kind}: and {len(some) - _MOST_OF_A_KIND} more")
    return lines


def _section_lines(section: dict[str, Any]) -> list[str]:
    """The section as YAML, one variable a line."""
    lines = ["data:"]
    for key, value in section.items():
        if key in ("prognostic", "diagnostic", "forcing", "static"):
            lines.append(f"  {key}:")
            lines += [f"    {flow(name)}: {flow(options)}" for name, options in value.items()]
        else:
            lines.append(f"  {key}: {flow(value)}")
    if section["split"] == {"segments": {}}:
        lines.append("  # too few times for validation and test data: all is training data; add files")
    return lines


def flow(value: Any) -> str:
    """A value as YAML on one line, names in any script as they are."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
