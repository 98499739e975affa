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
    """Weights of initial times in means: the mean itself, without each one, and over drawn blocks.

    Attributes:
      weights: Rows sum to one, float64 ``(row, init_time)``: the plain mean, then the ``init_time`` means that
        leave one out, then the resamples. (One initial time cannot be left out: its row is the mean.)
    """

    weights: np.ndarray

    @property
    def count(self) -> int:
        """How many resamples there are."""
        return self.weights.shape[0] - self.weights.shape[1] - 1

    def means(self, values: np.ndarray) -> np.ndarray:
        """Values ``(cell, init_time)`` to their means ``(cell, row)``."""
        return values @ self.weights.T

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(cell, row)`` of a score to the score itself, without each initial time, and resampled."""
        n = self.weights.shape[1]
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
    blocks = np.zeros((n, n))  # row: the block that starts at an initial time
    pool = []  # of rows to draw from, such that every initial time lies in as many of them: `length`
    for label in np.unique(trajectory):
        rows = np.flatnonzero(trajectory == label)
        for i in range(rows.size):
            blocks[rows[i], rows[(i + np.arange(min(length, rows.size))) % rows.size]] = 1.0
        pool.append(rows if rows.size > length else np.repeat(rows[0], length))
    entries = np.concatenate(pool)
    draws = -(-entries.size // length)  # as many as hold n initial times in the mean
    starts = entries[np.random.default_rng([seed, length]).integers(0, entries.size, size=(count, draws))]
    drawn = np.zeros((count, n))
    np.add.at(drawn, (np.arange(count)[:, None], starts), 1.0)
    drawn = drawn @ blocks
    without_one = 1.0 - np.eye(n) if n > 1 else np.ones((1, 1))
    weights = np.concatenate([np.ones((1, n)), without_one, drawn])
    return Resamples(weights / weights.sum(axis=1, keepdims=True))
