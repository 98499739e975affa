"""Sources seen on another grid: what preparation reads when the config asks for a target grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from data_prep.config import RegridConfig
from data_prep.grid import Grid
from data_prep.grid_names import parse_grid_name
from data_prep.reading.locations import Location, locate
from data_prep.reading.opening import open_lazily
from data_prep.reading.positions import grid_of
from data_prep.reading.recognise import find_axes, numeric_fields, on_own_axes
from data_prep.reading.sources import Source
from data_prep.regrid import Regridder, make_regridder

_READ_BYTES = 2**26
"""What is read of a file before it is regridded; a single row of one variable may be more."""

_SAME_MIDDLE_DEG = 1e-2


@dataclass(frozen=True, eq=False, kw_only=True)
class RegriddedSource(Source):
    """A file whose fields come out on ``grid``, which is the regridder's target."""

    _regridder: Regridder = field(repr=False)

    def read(self, name: str, levels: Sequence[float], start: int = 0, stop: int = 1, step: int = 1) -> np.ndarray:
        """Reads one variable like ``Source.read``, some rows of the file's own grid at a time."""
        rows, columns = self._regridder.source.shape
        at_once = step * max(1, _READ_BYTES // (4 * rows * columns * max(1, len(levels))))
        parts = []
        for first in range(start, max(stop, start + 1), at_once):
            values = super().read(name, levels, first, min(first + at_once, stop), step)
            # in canonical order, so that the last bit of a product does not depend on that of the file
            parts.append(self._regridder(np.ascontiguousarray(values)))
        return np.concatenate(parts)

    @property
    def mirrors_alike(self) -> bool:
        """Where both grids have one middle."""
        middles = [grid.latitude[0] + grid.latitude[-1] for grid in (self._regridder.source, self.grid)]
        return abs(middles[0] - middles[1]) < _SAME_MIDDLE_DEG


def regrid_sources(sources: Sequence[Source], config: RegridConfig) -> list[Source]:
    """The same files on the grid that the config asks for; those that are on it already are left as they are.

    Raises:
      DataError: the target reaches beyond a file, and the config refuses that; the file that the target is taken from
        cannot be read.
    """
    target = target_grid(config)
    return bring_to(sources, target, lambda source, where: regridder_for(source, target, config, where))


def bring_to(sources: Sequence[Source], target: Grid, make: Callable[[Grid, str], Regridder]) -> list[Source]:
    """The same files on one grid; those that are on it already are left as they are.

    Args:
      sources: The files.
      target: The grid.
      make: Makes the regridder from the grid of a file, whose name is for messages.
    """
    regridders: dict[Grid, Regridder] = {}
    out: list[Source] = []
    for source in sources:
        if source.grid.matches(target):
            out.append(source)
            continue
        if source.grid not in regridders:
            regridders[source.grid] = make(source.grid, str(source.path))
        own = {f.name: getattr(source, f.name) for f in fields(Source)}
        out.append(RegriddedSource(**own | {"grid": target}, _regridder=regridders[source.grid]))
    return out


def regridder_for(source: Grid, target: Grid, config: RegridConfig, where: str) -> Regridder:
    """The regridding between two grids by the method and policies of a config.

    Raises:
      DataError: the target reaches beyond the source, and the config refuses that.
    """
    return make_regridder(
        source,
        target,
        config.method,
        nan=config.nan,
        minimum_valid=config.minimum_valid,
        outside=config.outside,
        where=where,
    )


def target_grid(config: RegridConfig) -> Grid:
    """The grid that a config names.

    Raises:
      DataError: the file that it is taken from cannot be read, or is on no latitude-longitude grid.
    """
    if config.grid is not None:
        return Grid.named(parse_grid_name(config.grid))
    return grid_of_file(locate(str(config.like)))


def grid_of_file(path: Location) -> Grid:
    """The grid of a file's fields, or of its coordinates where it holds no fields.

    Raises:
      DataError: it cannot be read, or is on no latitude-longitude grid.
    """
    with open_lazily(path) as file:
        data = on_own_axes(file)
        names = list(numeric_fields(data))
        axes = find_axes(path, data[names] if names else data)
        return grid_of(path, data[axes.latitude], data[axes.longitude])[0]
