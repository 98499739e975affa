"""Writes the tables of ``commands.md``, ``config.md`` and ``data.md`` from the program: ``make reference``."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from data_prep.variables import KNOWN, PRECIPITATION
from emulator.config import ExperimentConfig
from emulator.parser import build_parser
from emulator.studies.markdown import markdown_table

_DOCS = Path(__file__).parent
_BEGIN, _END = "<!-- written by docs/reference.py -->", "<!-- /written -->"


def main() -> None:
    """Writes all pages."""
    os.environ["NO_COLOR"] = "1"  # argparse of Python 3.14 colours the usage
    for name in TABLES:
        (_DOCS / name).write_text(page(name), encoding="utf-8")


def page(name: str) -> str:
    """A page as it should be: what stands before and behind the marks is kept."""
    before, _, rest = (_DOCS / name).read_text(encoding="utf-8").partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"docs/{name}: the lines {_BEGIN} and {_END} are missing")
    return f"{before}{_BEGIN}\n\n{TABLES[name]()}\n\n{_END}{after}"


def _commands() -> str:
    """A heading, the usage and a table of the arguments for each command."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return "\n\n".join(_command(name, parser) for name, parser in commands.choices.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").replace(" [-h]", "").split())
    rows = [[_spelling(a), (a.help or "").replace("%%", "%")] for a in parser._actions if a.dest != "help"]
    table = markdown_table(["argument", "what it does"], rows)
    return f"## `emulator {name}`\n\n{parser.description}\n\n`{usage}`\n\n{table}"


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = action.metavar or (("|".join(map(str, action.choices))) if action.choices else action.dest.upper())
    return f"`{action.option_strings[-1]}`" if action.nargs == 0 else f"`{action.option_strings[-1]} {value}`"


def _keys() -> str:
    """A table for each section, in the order in which a config has them."""
    schema = ExperimentConfig.model_json_schema()
    found = _sections(schema)
    first = {name: path for path, name in reversed(found)}  # where the keys of a section that is used twice are listed
    parts = [_section(schema, first)]
    for path, name in found:
        if first[name] == path:
            section = schema["$defs"][name]
            about = section["description"].split("\n\n")[0].replace("``", "`")
            parts.append(f"## `{path}`\n\n{about}\n\n{_section(section, first)}")
    return "\n\n".join(parts)


def _sections(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Dotted path and definition of each section; ``N`` in a path is an index, ``NAME`` a name of the user's."""
    found: list[tuple[str, str]] = []

    def walk(path: str, field: dict[str, Any]) -> None:
        for suffix, name in _references(field):
            section = schema["$defs"][name]
            kind = section["properties"].get("kind", {}).get("const")
            found.append((f"{path}{suffix}" + (f" (kind: {kind})" if kind else ""), name))
            for key, inner in section["properties"].items():
                walk(f"{path}{suffix}.{key}", inner)

    for key, field in schema["properties"].items():
        walk(key, field)
    return found


def _references(field: dict[str, Any]) -> list[tuple[str, str]]:
    """Sections that a field holds, as (what to append to its path, name of the definition)."""
    if "$ref" in field:
        return [("", field["$ref"].rpartition("/")[2])]
    found = []
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        found += _references(choice)
    if "items" in field:
        found += [(f".N{suffix}", name) for suffix, name in _references(field["items"])]
    named = _by_name(field)
    if isinstance(named, dict):
        found += [(f".NAME{suffix}", name) for suffix, name in _references(named)]
    return found


def _by_name(field: dict[str, Any]) -> Any:
    """What an entry of a mapping must be."""
    return field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)


def _section(section: dict[str, Any], first: dict[str, str]) -> str:
    rows = []
    for key, field in section["properties"].items():
        required = key in section.get("required", ())
        about = "; ".join(filter(None, [field["description"], _below(field, first)]))
        rows.append([f"`{key}`", about, _type(field), "required" if required else _default(field)])
    return markdown_table(["key", "what it does", "type", "default"], rows)


def _below(field: dict[str, Any], first: dict[str, str]) -> str:
    """Links to where the keys of a field that is a section are listed."""
    paths = [first[name] for _, name in _references(field)]
    words = [path.rpartition(": ")[2].removesuffix(")") if len(paths) > 1 else "keys" for path in paths]
    return ", ".join(f"[{word}](#{_anchor(path)})" for word, path in zip(words, paths, strict=True))


def _anchor(path: str) -> str:
    """Of a heading, as code hosts and the site make it."""
    return re.sub(r"[^\w\- ]", "", path).lower().replace(" ", "-")


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "the section's defaults"
    default = field["default"]
    if default is None:
        return "none"
    if default in ("", {}, []):
        return "empty"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _type(field: dict[str, Any]) -> str:
    """What a value must be, in words."""
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"] if choice.get("type") != "null")
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return _list(field)
    if field["type"] == "object":
        names = ", ".join(f"`{name}`" for name in field.get("propertyNames", {}).get("enum", ()))
        return f"{_type(_by_name(field))} by name{f' ({names})' if names else ''}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    return words[field["type"]] + _bounds(field)


def _list(field: dict[str, Any]) -> str:
    items = field.get("items") or field["prefixItems"][0]
    size = field.get("minItems", 0)
    count = f"{size} " if size and size == field.get("maxItems") else ""
    least = f" (at least {size})" if size and not count else ""
    return f"list of {count}{_type(items).replace('list of', 'lists of')}{least}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _bounds(field: dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    parts = [f"{sign} {_number(field[key])}" for key, sign in signs.items() if key in field]
    return f" {', '.join(parts)}" if parts else ""


def _variables() -> str:
    """A row for each variable that the program knows."""
    rows = [
        [
            f"`{name}`",
            f"`{facts.units}`",
            ", ".join(f"`{word}`" for word in facts.spellings),
            f"`{facts.standard_name}`" if facts.standard_name else "",
            f"{facts.lowest:g} to {facts.highest:g}",
        ]
        for name, facts in {**KNOWN, "total_precipitation_6hr": PRECIPITATION}.items()
    ]
    return markdown_table(["name", "unit", "in files also", "CF standard name", "possible"], rows)


TABLES = {"commands.md": _commands, "config.md": _keys, "data.md": _variables}
"""What writes the tables of which page."""


if __name__ == "__main__":
    main()
