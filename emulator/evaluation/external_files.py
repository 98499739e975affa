"""Other programs' forecasts in one file or in many: a pattern, a folder or a list of them, joined along initial times.

Centres write a file each time they start. Such files are one set of forecasts where they hold the same variables on
the same levels, the same leads and as many members, and no initial time twice; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError, first_and_more
from data_prep.files.arrays import rows_at
from data_prep.preparation.store import Store
from data_prep.reading.locations import Location, find, find_files, is_url, locate
from data_prep.spec import Vertical
from emulator.evaluation.external import ExternalField, ExternalForecasts, open_external

Places: TypeAlias = Location | tuple[Location, ...]
"""Where forecasts lie: a file, a URL, a folder or a pattern of files; or several of these."""


@dataclass(frozen=True, eq=False)
class JoinedForecasts:
    """Files of one program's forecasts from different initial times, seen as one; made by ``open_forecasts_at``.

    Attributes:
      path: What the user called them, for messages.
      parts: The files.
      init_times: All that they hold, ``datetime64[ns]``, file by file.
      lead_times: Those of each, ``timedelta64[ns]``, ascending.
      fields, vertical, members: As of each.
      attributes: Those that all share.
      part_of, row_of: For each initial time its file, and where it is there.
    """

    path: Location
    parts: tuple[ExternalForecasts, ...]
    init_times: np.ndarray
    lead_times: np.ndarray
    fields: Mapping[str, ExternalField]
    vertical: Vertical | None
    members: int
    attributes: Mapping[str, Any]
    part_of: np.ndarray
    row_of: np.ndarray

    @classmethod
    def of(cls, path: Location, parts: Sequence[ExternalForecasts]) -> JoinedForecasts:
        """Joins what was opened.

        Raises:
          DataError: two files hold one initial time, or do not hold the same of it.
        """
        first = parts[0]
        for part in parts[1:]:
            if what := _difference(part, first):
                raise DataError(f"{part.path}: {what}; files of one forecast must be alike: mend it, or leave it out")
        _refuse_twice(parts)
        sizes = [part.init_times.size for part in parts]
        shared = [key for key, value in first.attributes.items() if all(_says(p, key, value) for p in parts)]
        return cls(
            path=path,
            parts=tuple(replace(part, known_as=str(path)) for part in parts),
            init_times=np.concatenate([part.init_times for part in parts]),
            lead_times=np.sort(first.lead_times),
            fields=first.fields,
            vertical=first.vertical,
            members=first.members,
            attributes={key: first.attributes[key] for key in shared},
            part_of=np.repeat(np.arange(len(parts)), sizes),
            row_of=np.concatenate([np.arange(size) for size in sizes]),
        )

    def read(self, names: Sequence[str], inits: np.ndarray, leads: np.ndarray) -> xr.Dataset:
        """As ``ExternalForecasts.read``, of the files that hold these initial times."""
        wanted, blocks, order = self.lead_times[leads], [], []
        for number in dict.fromkeys(self.part_of[inits].tolist()):
            at = np.flatnonzero(self.part_of[inits] == number)
            part = self.parts[number]
            blocks.append(part.read(names, self.row_of[inits][at], rows_at(part.lead_times, wanted)[0]))
            order.append(at)
        if len(blocks) == 1:
            return blocks[0]
        joined = xr.concat(
            blocks, "init_time", data_vars="minimal", coords="minimal", compat="override", join="override"
        )
        return joined.isel(init_time=np.argsort(np.concatenate(order)))


External: TypeAlias = ExternalForecasts | JoinedForecasts


def locate_all(given: str | Path | Sequence[str | Path]) -> Places:
    """What a user wrote, as where it may lie."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        return locate(given)
    return tuple(map(locate, given))


def files_at(places: Places) -> tuple[Location, ...]:
    """The files that are meant; one that is named in full is taken without a look whether it is there.

    Raises:
      DataError: a pattern or a folder holds no file, or there are no places.
    """
    each = places if isinstance(places, tuple) else (places,)
    found: dict[Location, None] = {}
    for place in each:
        matching = find(place) if isinstance(place, str) and is_url(place) else find_files([place])
        if not matching:
            raise DataError(f"{place}: matches no file")
        found |= dict.fromkeys(matching)
    if not found:
        raise DataError("no forecast files; give at least one")
    return tuple(found)


def files_that_are_there(places: Places) -> list[Path]:
    """Those of this machine's disks among them, as far as they are there."""
    each = places if isinstance(places, tuple) else (places,)
    found: list[Location] = []
    for place in each:
        try:
            found += files_at(place)
        except DataError:  # a pattern that nothing matches any more
            continue
    return [path for path in found if isinstance(path, Path) and path.exists()]


def refuse_missing(places: Places) -> None:
    """Forecasts that are named must be there.

    Raises:
      DataError: a file of this machine's disks is not, or a pattern or a folder holds none.
    """
    for path in files_at(places):
        if isinstance(path, Path) and not path.exists():
            raise DataError(f"{path}: no such file")


def shown(places: Places) -> str:
    """What places are called in messages."""
    return first_and_more(places) if isinstance(places, tuple) else str(places)


def open_forecasts_at(places: Places, store: Store, pressure_levels: Sequence[float] = ()) -> External:
    """Opens another program's forecasts lazily, in one file or several (see ``open_external``).

    Raises:
      DataError: a file does not fit the truth, or they do not fit together; one line names the file.
    """
    parts = [open_external(path, store, pressure_levels) for path in files_at(places)]
    return parts[0] if len(parts) == 1 else JoinedForecasts.of(shown(places), parts)


def _difference(part: ExternalForecasts, first: ExternalForecasts) -> str | None:
    """What a file holds that the first of them does not hold likewise; ``None`` where they are alike."""
    if part.fields.keys() != first.fields.keys():
        return f"holds {', '.join(sorted(part.fields))}, but {first.path} {', '.join(sorted(first.fields))}"
    if not np.array_equal(np.sort(part.lead_times), np.sort(first.lead_times)):
        return f"its leads ({_leads(part)}) are not those of {first.path} ({_leads(first)})"
    if part.members != first.members:
        return f"holds {part.members or 1} members, but {first.path} {first.members or 1}"
    for name, field in first.fields.items():
        if (part.vertical, part.fields[name].levels) != (first.vertical, field.levels):
            return f"{name} is on other levels than in {first.path}"
    return None


def _leads(part: ExternalForecasts) -> str:
    hours = np.sort(part.lead_times)
    return f"{hours.size} from {clock.hours(hours[0]):g} h to {clock.hours(hours[-1]):g} h"


def _refuse_twice(parts: Sequence[ExternalForecasts]) -> None:
    holder: dict[np.datetime64, ExternalForecasts] = {}
    for part in parts:
        for time in part.init_times:
            if time in holder:
                raise DataError(
                    f"{part.path}: holds the initial time {clock.text(time)}, which {holder[time].path} holds too; "
                    "leave one of them out"
                )
            holder[time] = part


def _says(part: ExternalForecasts, key: str, value: Any) -> bool:
    return key in part.attributes and np.array_equal(part.attributes[key], value)
