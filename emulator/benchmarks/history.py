"""What benchmarks measured before: one line of JSON a table, kept in the repository, newest last."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from emulator import __version__
from emulator.benchmarks.table import Table
from emulator.command import append_line


def record(path: Path, tables: Sequence[Table], words: Sequence[str], note: str) -> None:
    """Adds tables to the history.

    Args:
      path: The file, made where there is none.
      tables: What was measured.
      words: The command line, by which runs are compared that measured the same.
      note: What else the machine did, for the reader.
    """
    facts = {
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "version": __version__,
        "commit": _commit(path.parent),
        "command": shlex.join(words),
        "note": note,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    for table in tables:
        append_line(path, json.dumps(facts | asdict(table), ensure_ascii=False))


def show(path: Path) -> str:
    """Every measurement with its value and its share of the ceiling over time, by command, machine and title."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines:
        return f"{path}: no history; --record NOTE adds to it"
    kept: dict[tuple[str, str, str], list[str]] = {}
    for entry in map(json.loads, lines):
        rows = kept.setdefault((entry["command"], entry["title"], entry["machine"]), [])
        when = f"{entry['time'][:10]} {entry['commit']}"
        for row in entry["rows"]:
            ratio = f", {row['value'] / row['ceiling']:.3g} of {row['against']}" if row["ceiling"] else ""
            rows.append(f"  {when}  {row['what']}: {row['value']:.4g} {row['unit']}{ratio}")
        rows.append(f"  {when}  ({entry['note']})")
    return "\n\n".join(
        "\n".join([f"{title} on {machine}: {command}", *rows]) for (command, title, machine), rows in kept.items()
    )


def _commit(folder: Path) -> str:
    """The commit that was measured, marked where files differ from it; ``unknown`` outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
