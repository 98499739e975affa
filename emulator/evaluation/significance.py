"""How sure a score is: a moving-block bootstrap over initial times.

Initial times close to each other see the same weather, so their scores are correlated and there are fewer
independent ones than there are numbers. Blocks of consecutive initial times are resampled whole.

**Trajectories and blocks.** Initial times come in trajectories (members of a nature run, stretches of a
reanalysis). A block never crosses from one trajectory into the next; within a trajectory blocks wrap around,
so that every initial time is drawn equally often. A resample draws blocks from all trajectories together.
Their length follows from the autocorrelation of the scores about the mean over *all* trajectories. Where
trajectories differ as wholes, it does not die away within half a trajectory: then blocks are whole
trajectories, and what is resampled are the clusters. Where they differ no more than chance has it, short
blocks use the data to the full. That also serves one to three trajectories, which could not be resampled
whole (two give three distinct means): blocks within them carry the interval, and only if the trajectories
differ as wholes are two or three clusters left, which the correction below turns into a very wide interval.

**Few blocks.** The spread of a resampled mean falls short of the true one by sqrt(1 - 1/B) with B blocks, and
its quantiles are normal where they should be Student's. Deviations of the resamples are stretched by sqrt(B /
(B - 1)) t(B - 1) / z. Below two blocks there is no interval: it is infinite, and nothing is significant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, elementwise; NaN where there is nothing to compare."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def discoveries(estimate: Estimate, confidence: float) -> np.ndarray:
    """Which of many differences stay significant under false-discovery control (Benjamini and Hochberg 1995).

    Where nothing differs at all, the chance that any is called significant is 1 - confidence, however many
    are tested. The p-values are those of normal distributions that have the intervals given.

    Args:
      estimate: Differences with their pointwise intervals, ``(cell,)``; a cell that is NaN is no test.
      confidence: Of those intervals.

    Returns:
      bool ``(cell,)``.
    """
    value = estimate.value
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(value < 0, estimate.upper - value, value - estimate.lower)
        z = stats.norm.ppf((1 + confidence) / 2) * np.abs(value) / reach
    tested = np.isfinite(value)
    out = np.zeros(value.shape, dtype=bool)
    if tested.any():
        p = 2 * stats.norm.sf(np.nan_to_num(z[tested], nan=0.0, posinf=np.inf))
        out[tested] = stats.false_discovery_control(p, method="bh") <= 1 - confidence
    return out


@dataclass(frozen=True)
class Bootstrap:
    """Intervals for scores and for paired differences of scores, all cells at once.

    A cell is a combination of variable, lead and region. Each cell has the block length of its own
    autocorrelation; cells of one length share resamples, so a paired difference compares both forecasters
    over the same draws.

    Attributes:
      trajectory: Label of each initial time, in order ``(init_time,)``.
      count: Resamples.
      confidence: Two-sided, e.g. 0.95.
      seed: The same seed gives the same intervals.
    """

    trajectory: np.ndarray
    count: int
    confidence: float
    seed: int = 0
    _drawn: dict[int, Resamples] = field(default_factory=dict, repr=False)

    def score(self, values: np.ndarray, formula: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """Interval of ``formula(mean over initial times)``; values ``(init_time, cell)``, result ``(cell,)``."""
        out = _empty(values.shape[1])
        for group in self._groups(values):
            part = values[:, group.cells]
            group.fill(out, formula(part.mean(axis=0)), formula(group.resamples.means(part)))
        return out

    def difference(
        self, a: np.ndarray, b: np.ndarray, formula: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[Estimate, Estimate]:
        """Paired comparison of two forecasters over the same initial times.

        Args:
          a, b: Statistics ``(init_time, cell)``.
          formula: From their means to a score that is not negative.

        Returns:
          score(a) - score(b), and score(a) / score(b) (its interval is taken on the logarithm), each
          ``(cell,)``.
        """
        difference, ratio = _empty(a.shape[1]), _empty(a.shape[1])
        for group in self._groups(a - b):
            score_a, score_b = (formula(x[:, group.cells].mean(axis=0)) for x in (a, b))
            drawn_a, drawn_b = (formula(group.resamples.means(x[:, group.cells])) for x in (a, b))
            group.fill(difference, score_a - score_b, drawn_a - drawn_b)
            with np.errstate(divide="ignore", invalid="ignore"):
                group.fill(ratio, np.log(score_a / score_b), np.log(drawn_a / drawn_b))
        return difference, Estimate(np.exp(ratio.value), np.exp(ratio.lower), np.exp(ratio.upper))

    def _groups(self, values: np.ndarray) -> Iterator[_Group]:
        """The cells by block length."""
        inflation = variance_inflation(values, self.trajectory)
        lengths = block_length(inflation, values.shape[0])
        widen = unseen_correlation(inflation, lengths)
        for length in np.unique(lengths).tolist():
            if length not in self._drawn:
                self._drawn[length] = resample(self.trajectory, length, self.count, self.seed)
            cells = np.flatnonzero(lengths == length)
            yield _Group(self._drawn[length], cells, widen[cells], self.confidence)


@dataclass(frozen=True)
class _Group:
    """Cells that share a block length, and with it their resamples."""

    resamples: Resamples
    cells: np.ndarray
    widen: np.ndarray
    confidence: float

    def fill(self, out: Estimate, value: np.ndarray, drawn: np.ndarray) -> None:
        """Sets these cells: percentile intervals about the estimate, stretched as the module says."""
        out.value[self.cells] = value
        stretch = self.resamples.stretch(self.confidence) * self.widen
        if not np.isfinite(stretch).all():
            out.lower[self.cells] = np.where(np.isnan(value), np.nan, -np.inf)
            out.upper[self.cells] = np.where(np.isnan(value), np.nan, np.inf)
            return
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        out.lower[self.cells] = value + stretch * (low - value)
        out.upper[self.cells] = value + stretch * (high - value)


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of means over initial times.

    Attributes:
      weights: How much each initial time counts in each resample, rows sum to one, float64 ``(resample,
        init_time)``.
      blocks: How many blocks the initial times amount to.
      draws: How many blocks were drawn for a resample: ``blocks``, rounded up.
    """

    weights: np.ndarray
    blocks: float
    draws: int

    def means(self, values: np.ndarray) -> np.ndarray:
        """Resampled means: ``(init_time, cell)`` to ``(resample, cell)``."""
        return self.weights @ values

    def stretch(self, confidence: float) -> float:
        """Factor on deviations of the resamples: see the module; it also undoes the rounding up of ``draws``."""
        if self.blocks < 2:
            return float("inf")
        p = (1 + confidence) / 2
        student = stats.t.ppf(p, self.blocks - 1) / stats.norm.ppf(p)
        return float(np.sqrt(self.draws / (self.blocks - 1)) * student)


def variance_inflation(values: np.ndarray, trajectory: np.ndarray) -> np.ndarray:
    """By how much autocorrelation inflates the variance of a mean: 1 + 2 sum of the autocorrelations.

    Autocovariances are taken about the overall mean over pairs within a trajectory, and each autocorrelation
    is corrected for its bias of -(1 + 3 r) / n (Kendall 1954). The sum stops before the first lag that is not
    positive beyond its sampling error 1 / sqrt(n) (the initial positive sequence of Geyer 1992,
    doi:10.1214/ss/1177011137, made sparing).

    Args:
      values: Scores or score differences ``(init_time, cell)``.
      trajectory: Label of each initial time, in order ``(init_time,)``.

    Returns:
      ``(cell,)``, at least 1; infinite where the autocorrelation does not die away within half a trajectory.
    """
    n = values.shape[0]
    departure = values - values.mean(axis=0)
    variance = (departure**2).mean(axis=0)
    half = max(int((trajectory == t).sum()) for t in np.unique(trajectory)) // 2
    total = np.ones(values.shape[1])
    going = variance > 0
    for lag in range(1, half + 1):
        if not going.any():
            break
        same = trajectory[lag:] == trajectory[:-lag]
        covariance = (departure[lag:] * departure[:-lag])[same].mean(axis=0)
        r = np.divide(covariance, variance, out=np.zeros_like(covariance), where=going)
        r = np.minimum(r + (1 + 3 * r) / n, 1.0)
        going &= r > 1 / np.sqrt(same.sum())
        total += np.where(going, 2 * r, 0.0)
    return np.where(going & (half > 0), np.inf, total)


def block_length(inflation: np.ndarray, n: int) -> np.ndarray:
    """Block length of Wilks (1997, doi:10.1175/1520-0442(1997)010<0065:RHTFAF>2.0.CO;2).

    Solves L = (n - L + 1)^((2 / 3) (1 - 1 / V)) with the variance inflation V; ``n`` where V is infinite.
    Rounded up to two lengths an octave (1, 2, 3, 4, 6, 8, 12, ...), so that cells share resamples.

    Returns:
      int64, the shape of ``inflation``, between 1 and ``n``.
    """
    exponent = (2 / 3) * (1 - 1 / np.maximum(inflation, 1.0))
    length = np.ones_like(exponent)
    for _ in range(50):  # the map is flat in L: halving the step converges in a few rounds
        length = (length + (n - length + 1) ** exponent) / 2
    octaves = np.arange(2 * int(np.log2(n)) + 4)
    ladder = np.unique(np.round(2.0 ** (octaves // 2) * np.where(octaves % 2, 1.5, 1.0)))
    rounded = ladder[np.searchsorted(ladder, np.ceil(length - 1e-6))]
    return np.where(np.isinf(inflation), n, np.minimum(rounded, n)).astype(np.int64)


def unseen_correlation(inflation: np.ndarray, length: np.ndarray) -> np.ndarray:
    """By how much blocks of finite length understate a standard error, at least 1.

    Resampled means of blocks of length L have the variance inflation 1 + 2 sum_{k<L} (1 - k/L) r(k) instead
    of V. With the autocorrelation r^k that has the inflation V, r = (V - 1) / (V + 1), that is V - 2 r (1 -
    r^L) / (L (1 - r)^2).
    """
    v = np.where(np.isinf(inflation), 1.0, inflation)  # whole trajectories are resampled: nothing is cut
    r = (v - 1) / (v + 1)
    return np.sqrt(v / (v - 2 * r * (1 - r**length) / (length * (1 - r) ** 2)))


def resample(trajectory: np.ndarray, length: int, count: int, seed: int) -> Resamples:
    """Draws resamples; the same arguments give the same resamples.

    Args:
      trajectory: Label of each initial time, in order ``(init_time,)``.
      length: Initial times in a block; a shorter trajectory is one block.
      count: Resamples.
      seed: Of the random numbers.
    """
    n = trajectory.size
    blocks = np.zeros((n, n))  # row: the block that starts at an initial time; so each is drawn equally often
    for label in np.unique(trajectory):
        rows = np.flatnonzero(trajectory == label)
        for i in range(rows.size):
            blocks[rows[i], rows[(i + np.arange(min(length, rows.size))) % rows.size]] = 1.0
    amount = n / blocks.sum(axis=1).mean()
    draws = int(np.ceil(amount - 1e-9))
    starts = np.random.default_rng([seed, length]).integers(0, n, size=(count, draws))
    drawn = np.zeros((count, n))
    np.add.at(drawn, (np.arange(count)[:, None], starts), 1.0)
    weights = drawn @ blocks
    return Resamples(weights / weights.sum(axis=1, keepdims=True), amount, draws)


def _empty(n: int) -> Estimate:
    return Estimate(*(np.full(n, np.nan) for _ in range(3)))
