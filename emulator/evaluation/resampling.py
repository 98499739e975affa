"""Moving blocks of initial times, drawn with replacement: resampled means of everything over the same draws.

Initial times come in trajectories (members of a nature run, stretches of a reanalysis). A block never crosses
from one trajectory into the next; within a trajectory blocks wrap around, and one no longer than a block is drawn as a
whole, as often as makes every initial time drawn equally often. A resample draws blocks from all trajectories together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Resamples:
    """Means over initial times: of all, without each one, and over drawn blocks.

    Attributes:
      drawn: Weights of initial times in the resamples, rows sum to one, float64 ``(resample, init_time)``.
    """

    drawn: np.ndarray

    @property
    def rows(self) -> int:
        """How many means there are."""
        return 1 + sum(self.drawn.shape)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Values ``(cell, init_time)`` to their means ``(cell, row)``.

        The plain one, then as many as initial times, each without one of them (of a single one: with it), then the
        resampled ones.
        """
        n = values.shape[1]
        mean = values.mean(axis=1, keepdims=True)
        without_one = mean + (mean - values) / max(n - 1, 1)
        return np.concatenate([mean, without_one, values @ self.drawn.T], axis=1)

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(cell, row)`` of a score to the score itself, without each initial time, and resampled."""
        n = self.drawn.shape[1]
        return rows[:, 0], rows[:, 1 : n + 1], rows[:, n + 1 :]


def block_length(inflation: float, n: int) -> int:
    """Block length of Wilks (1997, doi:10.1175/1520-0442(1997)010<0065:RHTFAF>2.0.CO;2).

    Solves L = (n - L + 1)^((2 / 3) (1 - 1 / V)), rounded up to two lengths an octave (1, 2, 3, 4, 6, 8, 12,
    ...), so that variables share resamples.

    Args:
      inflation: V, by how much autocorrelation inflates the variance of a mean.
      n: Initial times.
    """
    exponent = (2 / 3) * (1 - 1 / max(inflation, 1.0))
    length = 1.0
    for _ in range(50):  # the map is flat in L: halving the step converges in a few rounds
        length = (length + (n - length + 1) ** exponent) / 2
    octaves = np.arange(2 * int(np.log2(n)) + 4)
    ladder = np.unique(np.round(2.0 ** (octaves // 2) * np.where(octaves % 2, 1.5, 1.0)))
    return int(min(ladder[np.searchsorted(ladder, np.ceil(length - 1e-6))], n))


def resample(trajectory: np.ndarray, length: int, count: int, seed: int) -> Resamples:
    """Draws resamples; the same arguments give the same resamples.

    Args:
      trajectory: Label of each initial time, in order ``(init_time,)``.
      length: Initial times in a block; a shorter trajectory is one block.
      count: Resamples.
      seed: Of the random numbers.
    """
    n = trajectory.size
    members = [np.flatnonzero(trajectory == label) for label in np.unique(trajectory)]
    # first initial times of blocks to draw from, such that every initial time lies in as many of them: `length`
    entries = np.concatenate([rows if rows.size > length else np.repeat(rows[0], length) for rows in members])
    draws = -(-entries.size // length)  # as many as hold n initial times in the mean
    starts = entries[np.random.default_rng([seed, length]).integers(0, entries.size, size=(count, draws))]
    begun = np.zeros((count, n))  # how often a block begins at an initial time
    np.add.at(begun, (np.arange(count)[:, None], starts), 1.0)
    drawn = np.empty((count, n))
    for rows in members:
        width = min(length, rows.size)
        wrapped = np.concatenate([begun[:, rows[rows.size - width :]], begun[:, rows]], axis=1)
        sums = wrapped.cumsum(axis=1)
        drawn[:, rows] = sums[:, width:] - sums[:, : rows.size]
    return Resamples(drawn / drawn.sum(axis=1, keepdims=True))
