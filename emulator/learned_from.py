"""When the data were of that a network learned from: in its run folder, in its forecasts, asked by the verification.

A network is scored on its own training data without anybody's wish where it comes from another experiment, of another
split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from data_prep.preparation.store import Store

LEARNED_FROM, LEARNED_DATA = "learned_from", "learned_data_hash"
"""Attributes of a network's forecasts: the periods, as ISO 8601 intervals, and the hash of the store."""

_HOLE = np.timedelta64(10, "D")
_UNKNOWN = "not known"

Period = tuple[np.datetime64, np.datetime64]
"""First and last time, inclusive."""


def training_periods(store: Store) -> list[Period]:
    """Of a store's training data; holes of less than ten days that no other split's data lie in are passed over."""
    out: list[Period] = []
    others = np.array([s.first_time for s in store.segments if s.split != "train"], "datetime64[ns]")
    for first, last in sorted((s.first_time, s.last_time) for s in store.segments if s.split == "train"):
        if out and first - out[-1][1] < _HOLE and not np.any((others > out[-1][1]) & (others < first)):
            out[-1] = out[-1][0], max(last, out[-1][1])
        else:
            out.append((first, last))
    return out


def learned_periods(description: Mapping[str, Any]) -> tuple[Period, ...]:
    """Of the description of a run folder; of an older one as the split of its config tells, or none."""
    if LEARNED_FROM in description:
        return _parse(description[LEARNED_FROM])
    split = description.get("experiment", {}).get("data", {}).get("split") or {}
    return _parse("/".join(split["train"])) if split.get("train") else ()


def as_text(periods: Iterable[Period]) -> str:
    """As attributes hold them: ``2001-01-01T00:00/2003-12-31T18:00, ...``."""
    each = sorted(set(periods))
    return ", ".join(f"{first!s:.16}/{last!s:.16}" for first, last in each) or _UNKNOWN


def among_learned(attributes: Mapping[str, Any], store: Store, firsts: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Which forecasts are verified at times that their network learned from.

    Args:
      attributes: Of their file.
      store: What they are verified against. Of a network that learned from this very store the periods of its
        training data count no more, which are kept apart already; those of weights that it began with do.
      firsts: Their first times, ``datetime64 (forecast,)``.
      lasts: Their last.

    Returns:
      ``bool (forecast,)``; false where nothing is known.
    """
    periods = set(_parse(str(attributes.get(LEARNED_FROM, _UNKNOWN))))
    if attributes.get(LEARNED_DATA) == store.data_hash:
        periods -= set(_parse(as_text(training_periods(store))))
    out = np.zeros(firsts.shape, bool)
    for first, last in periods:
        out |= (firsts <= last) & (lasts >= first)
    return out


def of_several(attributes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The attributes of what is made of several forecasts, some of networks perhaps, from those of their files."""
    learned = [found for found in attributes if LEARNED_FROM in found]
    if not learned:
        return {}
    hashes = {str(found.get(LEARNED_DATA, _UNKNOWN)) for found in learned}
    return {
        LEARNED_FROM: as_text(period for found in learned for period in _parse(str(found[LEARNED_FROM]))),
        LEARNED_DATA: hashes.pop() if len(hashes) == 1 else "several",
    }


def _parse(text: str) -> tuple[Period, ...]:
    """The periods of an attribute; none where another program means something else by it."""
    try:
        pairs = [part.split("/") for part in text.split(", ") if "/" in part]
        return tuple((np.datetime64(first, "ns"), np.datetime64(last, "ns")) for first, last in pairs)
    except ValueError:
        return ()
