"""Mean and standard deviation of every channel, of states and of their one-step changes, from the training split only.

Moments are area-weighted (``Grid.latitude_weights``), so that a global mean is that of the sphere and rows near the
poles, which are many on a latitude-longitude grid, do not set the scale of the loss. They are accumulated in float64
block by block and combine in any order (Chan, Golub and LeVeque 1983: pairwise updating of mean and sum of squares), so
memory does not grow with the record. There is no epsilon: ``checks`` refuses a channel that does not vary, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Moments of the training split, float32 one value per channel, in the units of the fields.

    Attributes:
      mean, std: Of state channels, shape ``(state,)``.
      tendency_mean, tendency_std: Of the change over one model step, shape ``(state,)``; changes never cross a segment.
      forcing_mean, forcing_std: Of forcing channels at training times, shape ``(forcing,)``.
      static_mean, static_std: Of static channels over the grid, shape ``(static,)``.
    """

    mean: np.ndarray
    std: np.ndarray
    tendency_mean: np.ndarray
    tendency_std: np.ndarray
    forcing_mean: np.ndarray
    forcing_std: np.ndarray
    static_mean: np.ndarray
    static_std: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; ``from_arrays`` is the inverse."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of ``to_arrays``."""
        return cls(**{f.name: np.asarray(arrays[f.name], np.float32) for f in fields(cls)})


@dataclass(frozen=True)
class Moments:
    """Weighted count, mean and sum of squared departures of each channel, float64.

    Attributes:
      weight: Sum of the area weights seen, scalar.
      mean: Weighted mean, shape ``(channel,)``.
      squares: Weighted sum of squared departures from the mean, shape ``(channel,)``.
    """

    weight: float
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def empty(cls, n_channels: int) -> Self:
        """Moments of nothing: the neutral element of ``combine``."""
        return cls(0.0, np.zeros(n_channels), np.zeros(n_channels))

    @classmethod
    def of(cls, values: np.ndarray, latitude_weights: np.ndarray) -> Self:
        """Moments of a block.

        Args:
          values: Shape ``(..., latitude, longitude, channel)``, at least three dimensions.
          latitude_weights: Area weights with mean 1, shape ``(latitude,)``.
        """
        rows = values.reshape(-1, values.shape[-3] * values.shape[-2], values.shape[-1])
        if rows.shape[0] == 0:
            return cls.empty(values.shape[-1])
        weights = np.repeat(latitude_weights, values.shape[-2])
        weight = float(weights.sum())
        means, squares = np.empty((2, rows.shape[0], values.shape[-1]))
        for i, row in enumerate(rows):  # one field at a time stays in the cache
            data = row.astype(np.float64)
            means[i] = weights @ data / weight
            squares[i] = weights @ (data - means[i]) ** 2
        mean = means.mean(axis=0)
        between = weight * ((means - mean) ** 2).sum(axis=0)
        return cls(weight * rows.shape[0], mean, squares.sum(axis=0) + between)

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
        )

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation, shape ``(channel,)``."""
        return np.sqrt(self.squares / self.weight)


@dataclass
class StateMoments:
    """Running moments of states and of their one-step changes; feed it blocks in time order, segment by segment.

    Attributes:
      latitude_weights: Area weights with mean 1, shape ``(latitude,)``.
      state, tendency: What has been seen so far.
    """

    latitude_weights: np.ndarray
    state: Moments
    tendency: Moments

    @classmethod
    def empty(cls, n_channels: int, latitude_weights: np.ndarray) -> Self:
        """Nothing seen yet."""
        return cls(latitude_weights, Moments.empty(n_channels), Moments.empty(n_channels))

    def update(self, block: np.ndarray, previous: np.ndarray | None) -> None:
        """Adds consecutive states.

        Args:
          block: Shape ``(time, latitude, longitude, state)``.
          previous: The state one step before the block, shape ``(latitude, longitude, state)``; ``None`` where the
            block begins a segment, so that no change is taken across segments.
        """
        self.state = self.state.combine(Moments.of(block, self.latitude_weights))
        states = block if previous is None else np.concatenate([previous[None], block])
        changes = np.diff(states.astype(np.float64), axis=0)
        self.tendency = self.tendency.combine(Moments.of(changes, self.latitude_weights))
