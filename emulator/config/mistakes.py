"""A mistake in a config, in one line: where it is, what is wrong, and what was likely meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """What to mend first: the dotted key, and what is wrong with it or which key was likely meant.

    Args:
      error: Of ``model``.
      model: Whose keys were given.
    """
    first = error.errors()[0]
    path = _without_kind(first["loc"])
    dotted = ".".join(path)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, first["loc"][:-1])
        near = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.0)
        hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
        return f"{dotted}: no such key{hint}{more}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r:.80}"
    text = f"{message[0].lower()}{message[1:]}{shown}{more}"
    return f"{dotted}: {text}" if path else text  # what several sections together are wrong about names its own path


def _without_kind(loc: Sequence[str | int]) -> list[str]:
    """The path of an error as the file has it: pydantic puts the kind of a model between ``model`` and its keys."""
    path = [str(part) for part in loc]
    return ["model", *path[2:]] if path[:1] == ["model"] and len(path) > 1 else path


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Valid keys of the section at ``loc``, following lists, dictionaries, optionals and unions."""
    current: Any = model
    for part in loc:
        candidates = [m for m in _models_in(current) if isinstance(part, str) and part in m.model_fields]
        of_kind = [m for m in _models_in(current) if "kind" in m.model_fields and _is_kind(m, part)]
        if candidates:
            current = candidates[0].model_fields[str(part)].annotation
        elif of_kind:
            current = of_kind[0]
        # an index of a list, a key of a dictionary or a union tag: stay on the annotation, whose models are found below
    return [key for m in _models_in(current) for key in m.model_fields]


def _is_kind(model: type[BaseModel], kind: str | int) -> bool:
    return kind in get_args(model.model_fields["kind"].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
