"""Fields from one latitude-longitude or Gaussian grid to another: conservative or bilinear, global or regional.

Winds are regridded component by component, as scalars. East and north turn with longitude, so a mean over a cell loses
speed where wind crosses a pole: 0.04 % for cells of 5.6 degrees, but all of it where bilinear interpolation asks for
the pole itself, and half on the way there (``docs/regridding.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from scipy import sparse

from data_prep.config import RegridMethod, RegridNan, RegridOutside
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.regrid_weights import (
    SLACK,
    AxisWeights,
    bilinear_latitude,
    bilinear_longitude,
    conservative_latitude,
    conservative_longitude,
)

_WORK_BYTES = 2**24
"""What a call holds of the source field in double precision at a time."""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Regridder:
    """Takes fields from a source to a target grid; make it with ``make_regridder``.

    Attributes:
      source, target: The grids.
      nan: What NaN in the source does: ``propagate`` makes NaN of every target value that depends on one; ``ignore``
        takes the mean of the valid rest, where that is at least ``minimum_valid`` of the weight.
      minimum_valid: Least valid share, 0 to 1, for ``ignore``. What lies outside the source is not valid.
      latitude, longitude: Weights of each axis.
    """

    source: Grid
    target: Grid
    nan: RegridNan
    minimum_valid: float
    latitude: AxisWeights
    longitude: AxisWeights

    @cached_property
    def coverage(self) -> np.ndarray:
        """Share of each target cell that the source covers, ``(target latitude, target longitude)``."""
        return self.latitude.coverage[:, None] * self.longitude.coverage

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Regrids fields; sums are in double precision, memory beyond the result is that of some ten fields, or 150 MB.

        Args:
          values: ``(..., latitude, longitude, channel)`` on the source grid, ascending both ways.

        Returns:
          ``(..., latitude, longitude, channel)`` on the target grid, float32 for float32 and float64 for float64.
        """
        *lead, rows, columns, channels = values.shape
        if (rows, columns) != self.source.shape:
            raise ValueError(f"fields of shape {values.shape} do not end in {self.source.shape} and channels")
        blocks = values.reshape(prod(lead), rows, columns, channels)
        out = np.empty((blocks.shape[0], *self.target.shape, channels), np.result_type(values.dtype, np.float32))
        step = max(1, _WORK_BYTES // (8 * rows * columns))
        for block, result in zip(blocks, out, strict=True):
            for start in range(0, channels, step):
                part = slice(start, start + step)
                result[..., part] = self._regrid(block[..., part].astype(np.float64))
        return out.reshape(*lead, *self.target.shape, channels)

    def _regrid(self, fields: np.ndarray) -> np.ndarray:
        """Fields ``(latitude, longitude, channel)``, which are overwritten."""
        missing = np.isnan(fields)
        gaps = missing.any(axis=(0, 1))
        fields[missing] = 0.0
        out = self._apply(fields)
        means = self._means_of_valid(out[..., gaps], missing[..., gaps]) if gaps.any() else None
        out[~self._usable] = np.nan
        if means is not None:
            out[..., gaps] = means
        return out

    def _means_of_valid(self, sums: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """From fields that were summed with zeros where they are missing to those that the policy for NaN asks for."""
        valid = self._apply((~missing).astype(np.float64))
        if self.nan == "propagate":
            touching = self._apply(missing.astype(np.float64), touched=True) > 0
            keep = self._usable[..., None] & ~touching
        else:
            keep = valid * self.coverage[..., None] >= self.minimum_valid * (1 - _ROUNDING)
        valid[valid > 1 - 1e-14] = 1.0  # so that gaps elsewhere do not change the last digit
        return np.divide(sums, valid, out=np.full_like(sums, np.nan), where=keep)

    @cached_property
    def _usable(self) -> np.ndarray:
        """Which target cells have values where no source value is missing."""
        if self.nan == "ignore":
            return self.coverage >= self.minimum_valid * (1 - _ROUNDING)
        return _whole(self.latitude)[:, None] & _whole(self.longitude)

    def _apply(self, fields: np.ndarray, *, touched: bool = False) -> np.ndarray:
        """The linear map of both axes, or with ones for weights."""
        by_row, by_column = ((w.touched if touched else w.matrix) for w in (self.latitude, self.longitude))
        rows = _along_first(by_row, fields)
        if self.latitude.polar.any():
            polar = self.latitude.polar > SLACK if touched else self.latitude.polar
            rows += (polar @ fields[[0, -1]].mean(axis=1))[:, None, :]
        return _along_first(by_column, rows.swapaxes(0, 1)).swapaxes(0, 1)


def make_regridder(
    source: Grid,
    target: Grid,
    method: RegridMethod = "conservative",
    *,
    nan: RegridNan = "propagate",
    minimum_valid: float = 0.5,
    outside: RegridOutside = "refuse",
    where: str = "regrid",
) -> Regridder:
    """The regridding from one grid to another.

    Args:
      source, target: The grids.
      method: ``conservative`` keeps area integrals and fits fluxes, rain, and coarser targets; ``bilinear`` is smooth
        and fits finer ones.
      nan, minimum_valid: See ``Regridder``.
      outside: What is done about a target that reaches beyond the source: ``refuse``, or ``nan`` there.
      where: The file, for messages.

    Raises:
      DataError: the target reaches beyond the source and ``outside`` is ``refuse``; cells of the source overlap.
    """
    if method == "conservative":
        turn = source.longitude_bounds[-1] - source.longitude_bounds[0]
        if turn > 360.0 * (1 + _ROUNDING):
            raise DataError(
                f"{where}: longitudes from {source.longitude[0]:g} to {source.longitude[-1]:g} are spaced unevenly and "
                f"their cells span {turn:g} degrees, more than the circle; use the method bilinear"
            )
        axes = conservative_latitude(source, target), conservative_longitude(source, target)
    else:
        axes = bilinear_latitude(source, target), bilinear_longitude(source, target)
    if outside == "refuse":
        for name, weights, points in zip(
            ("latitude", "longitude"), axes, (target.latitude, target.longitude), strict=True
        ):
            beyond = np.flatnonzero(~_whole(weights))
            if beyond.size:
                cells = "cells" if method == "conservative" else "points"
                raise DataError(
                    f"{where}: the target grid ({target.describe()}) reaches beyond the file's {cells} "
                    f"({source.describe()}) at {name} {points[beyond[0]]:g}; "
                    "choose a target within them, or, for data.regrid and emulator regrid, the policy outside: nan "
                    "(--outside nan)"
                )
    return Regridder(source, target, nan, minimum_valid, *axes)


def _whole(weights: AxisWeights) -> np.ndarray:
    return weights.coverage >= 1 - SLACK


def _along_first(matrix: sparse.csr_array, values: np.ndarray) -> np.ndarray:
    """``matrix`` times the first axis of ``values`` ``(source, ...)``: ``(target, ...)``."""
    flat = np.ascontiguousarray(values).reshape(values.shape[0], -1)
    return np.asarray(matrix @ flat).reshape(matrix.shape[0], *values.shape[1:])
