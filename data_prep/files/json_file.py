"""JSON objects from files that may be damaged or hostile, and what JSON can hold of others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import DataError


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The object that a file holds.

    Args:
      path: The file.
      remedy: What to do if it is damaged, for the message.

    Raises:
      DataError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:  # a nest too deep, a number too long
        raise DataError(f"{path}: damaged, not valid JSON ({error}); {remedy}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged, expected an object, found {type(found).__name__}; {remedy}")
    return found


def finite(value: Any) -> Any:
    """The same with ``None`` for NaN and infinity, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
