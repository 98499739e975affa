"""Mean and standard deviation of every channel, of states and of their one-step changes, from the training split only.

Moments are area-weighted (``Grid.latitude_weights``), so that a global mean is that of the sphere and rows near the
poles, which are many on a latitude-longitude grid, do not set the scale of the loss. They are accumulated in float64
field by field and combine in any order (Chan, Golub and LeVeque 1983: pairwise updating of mean and sum of squares), so
memory does not grow with the record and workers share it; combined in one order, they give one result to the last bit.
There is no epsilon: ``checks`` refuses a channel that does not vary, by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import reduce
from typing import Any, Self

import numpy as np

from data_prep.spec import StateSpec


@dataclass(frozen=True)
class Statistics:
    """Moments of the training split, float32 one value per channel, in the units of the fields.

    Attributes:
      mean, std: Of state channels, shape ``(state,)``.
      tendency_mean, tendency_std: Of the change over one model step, shape ``(state,)``; changes never cross a segment.
      forcing_mean, forcing_std: Of forcing channels at training times, shape ``(forcing,)``.
      static_mean, static_std: Of static channels over the grid, shape ``(static,)``.
      lowest, highest: Of state channels at training times, shape ``(state,)``; ``None`` in what was prepared before
        they were kept.
      forcing_lowest, forcing_highest: Of forcing channels, likewise.
      longer_tendency_std: Of the changes over longer steps that a network takes too, shape ``(longer, state)``; the
        trainer measures them, a store has none.
    """

    mean: np.ndarray
    std: np.ndarray
    tendency_mean: np.ndarray
    tendency_std: np.ndarray
    forcing_mean: np.ndarray
    forcing_std: np.ndarray
    static_mean: np.ndarray
    static_std: np.ndarray
    lowest: np.ndarray | None = None
    highest: np.ndarray | None = None
    forcing_lowest: np.ndarray | None = None
    forcing_highest: np.ndarray | None = None
    longer_tendency_std: np.ndarray | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; ``from_arrays`` is the inverse."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of ``to_arrays``."""
        names = [f.name for f in fields(cls) if f.default is MISSING or f.name in arrays]
        return cls(**{name: np.asarray(arrays[name], np.float32) for name in names})


@dataclass(frozen=True)
class Moments:
    """Weighted count, mean, sum of squared departures and range of each channel, float64.

    Attributes:
      weight: Sum of the area weights seen, scalar.
      mean: Weighted mean, shape ``(channel,)``.
      squares: Weighted sum of squared departures from the mean, shape ``(channel,)``.
      lowest, highest: Least and most value, shape ``(channel,)``.
    """

    weight: float
    mean: np.ndarray
    squares: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def empty(cls, n_channels: int) -> Self:
        """Moments of nothing: the neutral element of ``combine``."""
        zeros = np.zeros(n_channels)
        return cls(0.0, zeros, zeros, np.full(n_channels, np.inf), np.full(n_channels, -np.inf))

    @classmethod
    def of(cls, values: np.ndarray, latitude_weights: np.ndarray) -> Moments:
        """Moments of a block.

        Args:
          values: Shape ``(..., latitude, longitude, channel)``, at least three dimensions.
          latitude_weights: Area weights with mean 1, shape ``(latitude,)``.
        """
        found = sum_moments((_of_field(field, latitude_weights) for field in _fields(values)), values.shape[-1])
        return _with_range(found, values)

    def combine(self, other: Moments) -> Moments:
        """Moments of both samples together; associative and commutative up to rounding."""
        weight = self.weight + other.weight
        if weight == 0:
            return self
        delta = other.mean - self.mean
        share = other.weight / weight
        return Moments(
            weight,
            self.mean + delta * share,
            self.squares + other.squares + delta**2 * (self.weight * share),
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
        )

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, shape ``(channel,)``."""
        return np.sqrt(self.squares / self.weight)

    def to_json(self) -> list[Any]:
        """Plain numbers that give back every bit; ``from_json`` is the inverse."""
        return [self.weight, *(x.tolist() for x in (self.mean, self.squares, self.lowest, self.highest))]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        """Inverse of ``to_json``."""
        weight, *arrays = data
        return cls(float(weight), *(np.array(x, np.float64) for x in arrays))


def sum_moments(parts: Iterable[Moments], n_channels: int) -> Moments:
    """Moments of all samples together, combined in the order given, which makes the last bit reproducible."""
    return reduce(Moments.combine, parts, Moments.empty(n_channels))


def state_moments(states: np.ndarray, latitude_weights: np.ndarray) -> tuple[Moments, Moments]:
    """Moments of consecutive states and of their one-step changes.

    Args:
      states: Rows of one segment, ``(time, latitude, longitude, state)``.
      latitude_weights: Area weights with mean 1, ``(latitude,)``.

    Returns:
      Of states; of changes, whose range is not taken.
    """
    state = change = Moments.empty(states.shape[-1])
    before = None
    for field in _fields(states):
        state = state.combine(_of_field(field, latitude_weights))
        if before is not None:
            change = change.combine(_of_field(np.subtract(field, before, out=before), latitude_weights))
        before = field
    return _with_range(state, states), change


def _fields(values: np.ndarray) -> Iterator[np.ndarray]:
    """One field after the other in float64, so that what is computed of it stays in the cache."""
    for field in values.reshape(math.prod(values.shape[:-3]), *values.shape[-3:]):  # there may be no channel at all
        yield field.astype(np.float64)


def with_lateral_as_state(statistics: Statistics, spec: StateSpec) -> Statistics:
    """The same, lateral forcings with the moments of the prognostic channels: a number means what it means there."""
    lateral = [spec[c.variable].known == "lateral" for c in spec.forcing_channels]
    if not any(lateral):
        return statistics
    mean, std = statistics.forcing_mean.copy(), statistics.forcing_std.copy()
    mean[lateral], std[lateral] = statistics.mean[: spec.n_prognostic], statistics.std[: spec.n_prognostic]
    return replace(statistics, forcing_mean=mean, forcing_std=std)


def _of_field(field: np.ndarray, latitude_weights: np.ndarray) -> Moments:
    """Moments of a float64 field ``(latitude, longitude, channel)``, without its range.

    Sums by NumPy's own loops, not by BLAS, whose last bits depend on its number of threads: a store must not.
    """
    weight = float(latitude_weights.sum()) * field.shape[1]
    by_latitude = latitude_weights[:, None]
    mean = (by_latitude * np.einsum("yxc->yc", field)).sum(axis=0) / weight
    departure = field - mean
    squares = (by_latitude * np.einsum("yxc,yxc->yc", departure, departure)).sum(axis=0)
    return replace(Moments.empty(field.shape[-1]), weight=weight, mean=mean, squares=squares)


def _with_range(moments: Moments, values: np.ndarray) -> Moments:
    axes = tuple(range(values.ndim - 1))
    lowest, highest = values.min(axis=axes, initial=np.inf), values.max(axis=axes, initial=-np.inf)
    return replace(moments, lowest=lowest.astype(np.float64), highest=highest.astype(np.float64))
