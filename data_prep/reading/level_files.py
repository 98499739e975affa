"""Files that hold one variable at the same times, each at levels of its own, seen as one file with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from data_prep.reading.locations import Location
from data_prep.reading.sources import FoundField, Source


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedSource(Source):
    """Several files as one, under the name of the first; every variable has the levels of all that hold it."""

    _parts: tuple[Source, ...] = field(repr=False)

    @property
    def paths(self) -> tuple[Location, ...]:
        """Where they lie."""
        return tuple(path for part in self._parts for path in part.paths)

    @property
    def mirrors_alike(self) -> bool:
        """Whether latitudes that are exchanged in any of the files come out exchanged."""
        return all(part.mirrors_alike for part in self._parts)

    def release(self) -> None:
        """Gives back what the library keeps of the open files."""
        for part in self._parts:
            part.release()

    def slow_chunks(self, name: str, rows: int) -> str | None:
        """What the first of the files to be slow says of itself."""
        return next(filter(None, (part.slow_chunks(name, rows) for part in self._with(name))), None)

    def n_rows(self, name: str) -> int:
        """Rows of a variable in the first file that holds it; the others have the same."""
        return self._with(name)[0].n_rows(name)

    def lost_chunks(self, name: str) -> tuple[int, np.ndarray] | None:
        """What the first of the files to lack some says of itself."""
        return next(filter(None, (part.lost_chunks(name) for part in self._with(name))), None)

    def read(self, name: str, levels: Sequence[float], start: int = 0, stop: int = 1, step: int = 1) -> np.ndarray:
        """Reads one variable like ``Source.read``, the levels of each file at once."""
        holders = self._with(name)
        if len(holders) == 1:
            return holders[0].read(name, levels, start, stop, step)
        wanted = [self.fields[name].levels[row] for row in self.level_rows(name, levels)]
        out: np.ndarray | None = None
        for part in holders:
            places = [i for i, level in enumerate(wanted) if level in part.fields[name].levels]
            if not places:
                continue
            values = part.read(name, [wanted[i] for i in places], start, stop, step)
            if out is None:
                out = np.empty((*values.shape[:-1], len(wanted)), values.dtype)
            out[..., places] = values
        assert out is not None  # level_rows has found all of them
        return out

    def _with(self, name: str) -> list[Source]:
        return [part for part in self._parts if name in part.fields]


def stack_levels(sources: Sequence[Source]) -> list[Source]:
    """The same files, those stacked that share their times and a variable of which each has other levels.

    What they share besides must be at other levels too: two files that both hold a surface field stay two.
    """
    stacks: list[list[Source]] = []
    alike: dict[bytes, list[list[Source]]] = {}  # stacks, by their times
    for source in sources:
        candidates = alike.setdefault(source.times.tobytes(), []) if source.times.size else []
        stack = next((s for s in candidates if _fits(source, s)), None)
        if stack is not None:
            stack.append(source)
            continue
        stacks.append([source])
        candidates.append(stacks[-1])
    return [stack[0] if len(stack) == 1 else _stacked(stack) for stack in stacks]


def _fits(source: Source, stack: Sequence[Source]) -> bool:
    shared = [
        (mine, other.fields[name]) for other in stack for name, mine in source.fields.items() if name in other.fields
    ]
    return bool(shared) and stack[0].grid.matches(source.grid) and all(_at_other_levels(a, b) for a, b in shared)


def _at_other_levels(one: FoundField, other: FoundField) -> bool:
    return bool(one.levels and other.levels) and one.extent == other.extent and not {*one.levels} & {*other.levels}


def _stacked(parts: Sequence[Source]) -> StackedSource:
    found: dict[str, FoundField] = {}
    for name in dict.fromkeys(name for part in parts for name in part.fields):
        held = [part.fields[name] for part in parts if name in part.fields]
        levels = tuple(sorted(level for each in held for level in each.levels))
        rows = tuple(range(len(levels))) or held[0].level_rows
        found[name] = held[0] if len(held) == 1 else replace(held[0], levels=levels, level_rows=rows)
    own = {f.name: getattr(parts[0], f.name) for f in fields(Source)}
    contents = tuple(dict.fromkeys(name for part in parts for name in part.contents))
    bounds = next((part.bounds for part in parts if part.bounds is not None), None)
    return StackedSource(**own | {"fields": found, "contents": contents, "bounds": bounds}, _parts=tuple(parts))
