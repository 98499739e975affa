"""What every command takes, written from the parser into the page ``commands.md`` when the site is built."""

from __future__ import annotations

import argparse
from typing import Any

from emulator.parser import build_parser

MARK = "<!-- the commands, written from the parser -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the commands where the page has the mark."""
    if page.file.src_uri != "commands.md":
        return markdown
    before, mark, after = markdown.partition(MARK)
    if not mark:
        raise ValueError(f"commands.md: the line {MARK} is missing")
    return f"{before}{reference()}{after}"


def reference() -> str:
    """A heading, the usage and a table of the arguments for each command."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return "\n\n".join(_command(name, parser) for name, parser in commands.choices.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = [f"| {_spelling(a)} | {_escape(a.help or '')} |" for a in parser._actions if a.dest != "help"]
    table = ["| argument | what it does |", "| --- | --- |", *rows]
    return "\n".join([f"## `emulator {name}`", "", parser.description or "", "", f"`{usage}`", "", *table])


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = action.metavar or (("|".join(map(str, action.choices))) if action.choices else action.dest.upper())
    words = action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {value}"
    return f"`{words}`"  # within a code span a bar is no border of the table


def _escape(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|")
