"""The rim of a regional grid, in which a driving data set says what comes in from outside.

A region's weather enters through its sides. A driving data set, global or of a larger region, is brought to the grid,
and its values at valid time are forcings in the outer rows and columns: one channel for each prognostic one, in the
same units and normalised alike. In the interior these channels hold the state's mean: zero to the network.

Whether the values may be had in a forecast depends on whose they are: a driving forecast's are known at initial time,
those of an analysis are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import Variable

_PREFIX = "lateral_"


@dataclass(frozen=True, eq=False)
class Rim:
    """Where lateral values are given, and what stands elsewhere.

    Attributes:
      mask: True in the rim, ``(latitude, longitude)``.
      interior: Mean of the state in every lateral channel, float32 ``(lateral,)``.
    """

    mask: np.ndarray
    interior: np.ndarray

    def fill(self, values: np.ndarray) -> np.ndarray:
        """The values in the rim, the mean in the interior: ``(..., latitude, longitude, lateral)``."""
        return np.where(self.mask[..., None], values, self.interior)


def rim_mask(grid: Grid, width: int) -> np.ndarray:
    """The outer rows and columns of a regional grid; where it closes the circle, rows alone: bool ``(lat, lon)``.

    Raises:
      DataError: the grid is global, or nothing but rim.
    """
    if grid.is_global:
        raise DataError("data.lateral: a global grid has no sides; take it out of the config")
    mask = np.ones(grid.shape, bool)
    mask[width:-width, slice(None) if grid.periodic else slice(width, -width)] = False
    if mask.all():
        raise DataError(f"data.lateral.rim: {width} leaves no interior on a grid of {grid.describe()}")
    return mask


def lateral_variables(variables: Iterable[Variable]) -> tuple[Variable, ...]:
    """The forcings that lateral values of these prognostic variables are."""
    return tuple(
        replace(v, name=f"{_PREFIX}{v.name}", role="forcing", standard_name="", known="lateral") for v in variables
    )
