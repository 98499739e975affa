"""Standard errors of means over initial times that are near each other, and how well they are known.

A mean over initial times varies as the lowest frequencies of the series do: its variance is the long-run
variance over n. That is estimated from the series' projections on a few slow oscillations, which are nearly
independent, so that the mean over its standard error follows Student's t with as many degrees of freedom as
there are oscillations (equal-weighted cosines, Müller 2007; their number 0.4 n^(2/3) is the rule of Lazarus,
Lewis, Stock and Watson 2018, doi:10.1080/07350015.2018.1506926). Sums of estimated autocorrelations are
cheaper by some power, but fall short where initial times are few and correlated, and say nothing of their
own uncertainty.

**Trajectories.** The slowest variations of several trajectories are the differences between their means:
these contrasts come first, then cosines within each trajectory by frequency. Where trajectories differ as wholes
more than their own slow variations explain (an F test), only the contrasts count.

**Correction.** With correlated initial times the spectrum falls from frequency zero to the frequencies used, so
that the estimate is too small. By how much follows from an autoregression of second order, the form
that Geer (2016, doi:10.3402/tellusa.v68.30229) found to suffice for forecast scores. It is fitted to the
autocorrelations pooled over all series at hand, for a single one is too short to tell, and those are freed of
the bias of short series. The same covariances give
Satterthwaite's degrees of freedom.

Initial times are taken to be evenly spaced within a trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy

_MOST_INFLATION = 0.25  # of a trajectory's times: with fewer than four independent ones, none can tell how many
# Of the F test. A false alarm costs most with two trajectories: it leaves a t of one degree of freedom.
_CLUSTER_LEVEL = 0.01


@dataclass(frozen=True)
class Autoregression:
    """x(t) = first x(t - 1) + second x(t - 2) + noise, stationary."""

    first: float
    second: float

    @classmethod
    def from_autocorrelations(cls, one: float, two: float) -> Autoregression:
        """Yule-Walker; correlations no stationary process can have are moved to the nearest at lag two."""
        one = min(max(one, -0.99), 0.99)
        two = min(max(two, 2 * one * one - 1 + 1e-3), 0.99)
        rest = 1 - one * one
        return cls(one * (1 - two) / rest, (two - one * one) / rest)

    @property
    def noise(self) -> float:
        """Variance of the noise over that of the process."""
        _, one, two = self.autocorrelations(3)
        return float(1 - self.first * one - self.second * two)

    @property
    def inflation(self) -> float:
        """Long-run variance over variance: how many initial times count as one independent one."""
        return self.noise / (1 - self.first - self.second) ** 2

    def autocorrelations(self, count: int) -> np.ndarray:
        """At lags 0 to ``count - 1``."""
        r = np.ones(max(count, 2))
        r[1] = self.first / (1 - self.second)
        for lag in range(2, count):
            r[lag] = self.first * r[lag - 1] + self.second * r[lag - 2]
        return r[:count]


def pooled_autocorrelations(series: np.ndarray, trajectory: np.ndarray) -> tuple[float, float]:
    """Autocorrelations at lags one and two, averaged over series.

    Args:
      series: ``(cell, init_time)``; what does not vary, or is not finite, is left out.
      trajectory: Label of each initial time, in order ``(init_time,)``; no pair reaches across two.

    Returns:
      Both lags; zero where there is no pair, or no series that varies.
    """
    departure = series - series.mean(axis=1, keepdims=True)
    variance = np.vecdot(departure, departure) / series.shape[1]
    varies = np.isfinite(variance) & (variance > 0)
    found = []
    for lag in (1, 2):
        same = trajectory[lag:] == trajectory[:-lag]
        if not same.any() or not varies.any():
            found.append(0.0)
            continue
        products = (departure[:, lag:] * departure[:, :-lag]) @ (same / same.sum())
        found.append(float((products[varies] / variance[varies]).mean()))
    return found[0], found[1]


def fit(series: np.ndarray, trajectory: np.ndarray) -> Autoregression:
    """The autoregression of pooled autocorrelations within trajectories, freed of their bias.

    The mean of a trajectory of m times takes its own variance, V / m of a single value's with the inflation V, out of
    every autocovariance; and a ratio of estimates falls short by 2 k r(k) / n at lag k (Kendall 1954,
    doi:10.1093/biomet/41.3-4.403). Both are put back, with the V that results. How trajectories differ as wholes is
    no matter of time, and plays no part.

    Args:
      series: ``(cell, init_time)``.
      trajectory: Label of each initial time, in order ``(init_time,)``.
    """
    n = series.shape[1]
    labels, member = np.unique(trajectory, return_inverse=True)
    belongs = member == np.arange(labels.size)[:, None]
    within = series - (series @ (belongs / belongs.sum(axis=1, keepdims=True)).T)[:, member]
    one, two = pooled_autocorrelations(within, trajectory)
    one, two = one * (1 + 2 / n), two * (1 + 4 / n)
    model = Autoregression.from_autocorrelations(one, two)
    for _ in range(20):  # a contraction but for hardly stationary series, where the bound holds
        taken = min(model.inflation * labels.size / n, _MOST_INFLATION)
        model = Autoregression.from_autocorrelations(one + taken * (1 - one), two + taken * (1 - two))
    return model


class StandardError(NamedTuple):
    """Of means, ``(cell,)``: ``error`` is infinite where there is nothing to estimate it from."""

    error: np.ndarray
    dof: np.ndarray


@dataclass(frozen=True)
class SlowVariations:
    """Orthonormal slow oscillations of a set of initial times, orthogonal to a constant.

    Attributes:
      trajectory: Label of each initial time, in order ``(init_time,)``.
      vectors: float64 ``(oscillation, init_time)``; contrasts between trajectories first.
      contrasts: How many of them those are.
    """

    trajectory: np.ndarray
    vectors: np.ndarray
    contrasts: int

    @classmethod
    def of(cls, trajectory: np.ndarray) -> SlowVariations:
        """As many as the module says for these initial times; none for a single one."""
        n = trajectory.size
        members = [np.flatnonzero(trajectory == label) for label in dict.fromkeys(trajectory.tolist())]
        indicators = np.stack([np.isin(np.arange(n), rows) for rows in members], axis=1).astype(float)
        indicators[:, 0] = 1.0
        contrasts = np.linalg.qr(indicators)[0][:, 1:].T
        wanted = min(max(round(0.4 * n ** (2 / 3)), 1), n - 1)
        waves = sorted((j / rows.size, k, j) for k, rows in enumerate(members) for j in range(1, rows.size))
        cosines = np.zeros((max(wanted - len(contrasts), 0), n))
        for vector, (frequency, k, _) in zip(cosines, waves, strict=False):
            size = members[k].size
            vector[members[k]] = np.sqrt(2 / size) * np.cos(np.pi * frequency * (np.arange(size) + 0.5))
        return cls(trajectory, np.concatenate([contrasts, cosines]), len(contrasts))

    def standard_error(self, series: np.ndarray) -> StandardError:
        """Standard errors of the means of series ``(cell, init_time)``, and their degrees of freedom."""
        return self.error_of_projections(series @ self.vectors.T, fit(series, self.trajectory))

    def error_of_projections(self, projections: np.ndarray, model: Autoregression) -> StandardError:
        """The same of series whose projections on the oscillations are known ``(cell, oscillation)``.

        Args:
          projections: Linear in the series, so those of a difference follow from those of both.
          model: Of how initial times are correlated.
        """
        cells = len(projections)
        if not len(self.vectors):
            return StandardError(np.full(cells, np.inf), np.ones(cells))
        covariance = self._covariance(model)
        squares = projections**2
        everything, clusters = slice(None), slice(self.contrasts)
        variance, dof = _combine(squares, covariance, everything)
        degrees = np.full(cells, dof)
        if 0 < self.contrasts < len(self.vectors):
            of_clusters, cluster_dof = _combine(squares, covariance, clusters)
            within, within_dof = _combine(squares, covariance, slice(self.contrasts, None))
            bound = scipy.stats.f.isf(_CLUSTER_LEVEL, cluster_dof, within_dof)
            differ = of_clusters > bound * within
            variance, degrees = np.where(differ, of_clusters, variance), np.where(differ, cluster_dof, degrees)
        return StandardError(np.sqrt(variance / self.trajectory.size), degrees)

    def _covariance(self, model: Autoregression) -> np.ndarray:
        """Covariance of the projections of a process, with the one on a constant first."""
        n = self.trajectory.size
        vectors = np.concatenate([np.full((1, n), n**-0.5), self.vectors])
        out = np.zeros((len(vectors), len(vectors)))
        for label in dict.fromkeys(self.trajectory.tolist()):
            part = vectors[:, self.trajectory == label]
            out += part @ scipy.linalg.matmul_toeplitz(model.autocorrelations(part.shape[1]), part.T)
        return out


def _combine(squares: np.ndarray, covariance: np.ndarray, which: slice) -> tuple[np.ndarray, float]:
    """Long-run variance from squared projections ``(cell, oscillation)``, corrected, with its degrees of freedom."""
    block = covariance[1:, 1:][which, which]
    seen = np.trace(block)
    missed = max(covariance[0, 0] * len(block) / seen, 1.0)
    return squares[:, which].mean(axis=1) * missed, float(seen**2 / (block**2).sum())
