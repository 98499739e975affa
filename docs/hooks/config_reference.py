"""The keys of a config, written from its schema into the page ``config.md`` when the site is built."""

from __future__ import annotations

import json
from typing import Any

from emulator.config import ExperimentConfig

MARK = "<!-- the keys, written from the schema -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the tables where the page has the mark."""
    if page.file.src_uri != "config.md":
        return markdown
    before, mark, after = markdown.partition(MARK)
    if not mark:
        raise ValueError(f"config.md: the line {MARK} is missing")
    return f"{before}{tables()}{after}"


def tables() -> str:
    """A heading and a table for each section, in the order in which a config has them."""
    schema = ExperimentConfig.model_json_schema()
    found = sections(schema)
    first = {name: path for path, name in reversed(found)}  # where the keys of a section that is used twice are listed
    parts = [_table(schema, first)]
    for path, name in found:
        if first[name] == path:
            section = schema["$defs"][name]
            heading = f"## `{path}` {{ #{_anchor(path)} }}"
            parts.append(f"{heading}\n\n{_about(section)}\n\n{_table(section, first)}")
    return "\n\n".join(parts)


def sections(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Dotted path and definition of each section; ``N`` in a path is an index, ``NAME`` a name of the user's."""
    found: list[tuple[str, str]] = []

    def walk(path: str, field: dict[str, Any]) -> None:
        for suffix, name in _references(field):
            section = schema["$defs"][name]
            kind = section["properties"].get("kind", {}).get("const")
            here = f"{path}{suffix}" + (f" (kind: {kind})" if kind else "")
            found.append((here, name))
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
    named = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
    if isinstance(named, dict):
        found += [(f".NAME{suffix}", name) for suffix, name in _references(named)]
    return found


def _table(section: dict[str, Any], first: dict[str, str]) -> str:
    required = section.get("required", ())
    rows = []
    for key, field in section["properties"].items():
        if key == "kind" and "const" in field:
            default = "required" if "default" not in field else f"`{field['default']}`"
        else:
            default = "required" if key in required else _default(field)
        about = " ".join([field.get("description", ""), _below(field, first)]).strip()
        rows.append(f"| `{key}` | {about} | {_type(field)} | {default} |")
    return "\n".join(["| key | what it does | type | default |", "| --- | --- | --- | --- |", *rows])


def _below(field: dict[str, Any], first: dict[str, str]) -> str:
    """Links to where the keys of a field that is a section are listed."""
    places = [_anchor(first[name]) for _, name in _references(field)]
    words = [place.rpartition(".")[2] if len(places) > 1 else "keys" for place in places]
    return ", ".join(f"[{word}](#{place})" for word, place in zip(words, places, strict=True))


def _anchor(path: str) -> str:
    return path.replace(" (kind: ", ".").removesuffix(")")


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if "default" not in field:
        return "the section's defaults"
    if default is None:
        return "none"
    if default in ("", {}, []):
        return "empty"
    return f"`{json.dumps(default)}`" if not isinstance(default, str) else f"`{default}`"


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
    kind = field["type"]
    if kind == "array":
        return _list(field)
    if kind == "object":
        inner = field.get("additionalProperties") or next(iter(field["patternProperties"].values()))
        names = field.get("propertyNames", {})
        keys = " (" + ", ".join(f"`{n}`" for n in names["enum"]) + ")" if "enum" in names else ""
        return f"{_type(inner)} by name{keys}"
    return {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}[
        kind
    ] + _bounds(field)


def _list(field: dict[str, Any]) -> str:
    items = field.get("items") or field["prefixItems"][0]
    size = field.get("minItems", 0)
    count = f"{size} " if size and size == field.get("maxItems") else ""
    least = f" (at least {size})" if size and not count else ""
    return f"list of {count}{_type(items).replace('list of', 'lists of')}{least}"


def _bounds(field: dict[str, Any]) -> str:
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    parts = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return f" {', '.join(parts)}" if parts else ""


def _about(section: dict[str, Any]) -> str:
    return section.get("description", "").strip().split("\n\n")[0].replace("``", "`")
