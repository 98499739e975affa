"""How sure a score is: intervals and p-values from moving blocks of initial times.

Initial times close to each other see the same weather, so their scores are correlated and there are fewer
independent ones than there are numbers.

**Shape and size.** A moving-block bootstrap (``resampling``) gives the distribution of any score, however it
follows from means, and over the same draws of all forecasters, so that a paired difference is compared with
itself. Its quantiles have the right shape, but with few or correlated initial times too small a spread, and
normal tails where they should be Student's: alone, nominal 95 % intervals cover 75 % with 50 initial times of
which four count as one. So the length of an interval is that of Student's t about the standard error that
``slow_variations`` estimates, with that estimate's few degrees of freedom; resamples divide it between both sides.
Errors of scores that are no plain means follow by the jackknife.

``docs/significance.md`` shows, by simulation, what that reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import scipy  # whose parts are imported when they are used first: stats takes half a second

from emulator.evaluation.resampling import Resamples, block_length, resample
from emulator.evaluation.slow_variations import SlowVariations, fit

SEED = 0
"""Of the bootstrap: the same seed gives the same intervals."""

_ROUNDING = 1e-12  # of a score

ENDS = {"": "value", "_lower": "lower", "_upper": "upper"}
"""What a quantity's name is followed by in files, and which attribute of its ``Estimate`` is meant."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, elementwise; NaN where there is nothing to compare.

    Attributes:
      value, lower, upper: The number and the ends of its pointwise interval.
      dof: Degrees of freedom of Student's t whose tails the interval has, broadcast against ``value``.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    dof: np.ndarray | float = np.inf

    def map(self, increasing: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """The estimate of an increasing function of the number."""
        return Estimate(increasing(self.value), increasing(self.lower), increasing(self.upper), self.dof)

    def p(self, confidence: float) -> np.ndarray:
        """Two-sided p-values of the number being zero.

        The end of the interval that lies towards zero tells the scale, Student's t the tails: p is below
        1 - confidence exactly where the interval excludes zero, and 1 where it has no ends.

        Args:
          confidence: Of the interval.
        """
        value = self.value
        reach = np.where(value < 0, self.upper - value, value - self.lower)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = t_quantile(self.dof, confidence) * np.abs(value) / reach
        p = 2 * scipy.stats.t.sf(np.where(value == 0, 0.0, np.maximum(t, 0.0)), self.dof)
        return np.where(np.isnan(value), np.nan, p)


def t_quantile(dof: np.ndarray | float, confidence: float) -> np.ndarray:
    """Standard errors from a number to the ends of its interval, elementwise; dof are few different ones."""
    different, which = np.unique(dof, return_inverse=True)
    return scipy.stats.t.ppf((1 + confidence) / 2, different)[which].reshape(np.shape(dof))


def discovered(p: np.ndarray, confidence: float, axis: int | None = None) -> np.ndarray:
    """Which of many differences stay significant under false-discovery control (Benjamini and Hochberg 1995).

    Where nothing differs at all, the chance that any is called significant is at most 1 - confidence, however many
    are tested; that holds for tests that are independent or correlated as neighbouring leads are.

    Args:
      p: P-values; NaN is no test.
      confidence: One minus that chance.
      axis: Tests along it, which all have a p-value, are a family of their own; without it all are one.
    """
    if axis is not None:
        return scipy.stats.false_discovery_control(p, axis=axis, method="bh") <= 1 - confidence
    tested = np.isfinite(p)
    out = np.zeros(p.shape, dtype=bool)
    if tested.any():
        out[tested] = scipy.stats.false_discovery_control(p[tested], method="bh") <= 1 - confidence
    return out


@dataclass(frozen=True)
class Bootstrap:
    """Intervals for scores, and for whatever follows from scores, all cells at once.

    A cell is a combination such as lead and region. What is known of a score travels as ``rows``, ``(cell, row)``:
    the score, then without each initial time, then resampled. Any function of rows, also of several forecasters,
    applied elementwise, gives rows again: their difference, their ratio.

    Attributes:
      trajectory: Label of each initial time, in order ``(init_time,)``.
      count: Resamples.
      confidence: Two-sided, e.g. 0.95.
      seed: The same seed gives the same intervals.
    """

    trajectory: np.ndarray
    count: int
    confidence: float
    seed: int = SEED
    _drawn: dict[int, Resamples] = field(default_factory=dict, repr=False)

    @cached_property
    def slow(self) -> SlowVariations:
        """What standard errors are estimated from."""
        return SlowVariations.of(self.trajectory)

    def resamples(self, values: np.ndarray) -> Resamples:
        """Resamples in blocks as long as the autocorrelation of these values asks, ``(cell, init_time)``."""
        length = block_length(fit(values, self.trajectory).inflation, self.trajectory.size)
        if length not in self._drawn:
            self._drawn[length] = resample(self.trajectory, length, self.count, self.seed)
        return self._drawn[length]

    def interval(self, resamples: Resamples, rows: np.ndarray) -> Estimate:
        """The interval of a score from its rows ``(cell, row)``; without ends where these cannot tell it.

        That is where resamples lack the score, a root of what is negative, or are so few that they do not vary, or lie
        all on one side of it.
        """
        value, without_one, _ = resamples.split(rows)
        low, high = self._quantiles(resamples, rows)
        with np.errstate(invalid="ignore"):  # a score may not exist, or be infinite
            found = self.slow.standard_error((self.trajectory.size - 1) * (value[:, None] - without_one))
            length = 2 * found.error * t_quantile(found.dof, self.confidence)
            constant = length <= _ROUNDING * np.abs(value)  # known exactly
            factor = np.where(constant, 0.0, np.inf)
            np.divide(length, high - low, out=factor, where=(high > low) & ~constant)
            lower, upper = value + factor * (low - value), value + factor * (high - value)
            told = np.isfinite(factor) & (lower <= value) & (value <= upper)
        unknown = ~told & ~np.isnan(value)
        return Estimate(value, np.where(unknown, -np.inf, lower), np.where(unknown, np.inf, upper), found.dof)

    def _quantiles(self, resamples: Resamples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both quantiles of the resamples, linear between order statistics.

        NumPy sorts with vector instructions and selects without: sorting all is five times as fast as ``np.quantile``.
        """
        ordered = np.sort(resamples.split(rows)[2], axis=1)
        last = ordered.shape[1] - 1
        position = (1 - self.confidence) / 2 * last
        i, weight = int(position), position - int(position)
        low = (1 - weight) * ordered[:, i] + weight * ordered[:, min(i + 1, last)]
        high = (1 - weight) * ordered[:, last - i] + weight * ordered[:, max(last - i - 1, 0)]
        return low, high
