"""Synthetic forecasters whose crossover and share of a gap are known, to test what is said of real ones.

The squared error of a forecaster at a lead is m(lead)^2 exp(2 s e - 2 s^2), whose mean is m^2: positive and skewed as
area means of squared errors are. The noise e is an autoregression of second order over initial times, correlated
over leads, variables and regions, and shared in part by the forecasters, which see the same weather.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from emulator.evaluation.slow_variations import Autoregression
from emulator.evaluation.time_gain import hours_ahead

_NOISE = 0.3  # s: standard deviation of the logarithm of a single forecast's error
_SHARED = 0.5  # of the noise's variance
_SECOND = 0.15  # the AR(2)'s second coefficient: a longer tail than an AR(1) has
_LEAD_HOURS_OF_CORRELATION = 48.0
_BETWEEN_VARIABLES, _BETWEEN_REGIONS = 0.3, 0.7
_SPIN_UP = 80


def noise_process(decorrelation: float) -> Autoregression:
    """The AR(2) whose autocorrelation has fallen to 1 / e at a lag of ``decorrelation`` initial times (whole)."""
    lag = round(decorrelation)
    low, high = 0.0, 1 - _SECOND - 1e-6
    for _ in range(60):
        middle = (low + high) / 2
        too_red = Autoregression(middle, _SECOND).autocorrelations(lag + 1)[lag] > np.exp(-1)
        low, high = (low, middle) if too_red else (middle, high)
    return Autoregression(low, _SECOND)


@dataclass(frozen=True)
class Pair:
    """Two forecasters.

    Attributes:
      lead_hours: Ascending ``(lead,)``.
      log_ratio: Logarithm of A's true RMSE over B's ``(lead,)``.
      initial_times: How many there are.
      decorrelation: Initial times at which the autocorrelation of the noise has fallen to 1 / e.
      last_decorrelation: The same at the last lead, where that is longer; it grows with the logarithm of the lead.
      trajectories: Independent stretches that they come in, of equal length.
      common: Share of the noise's variance that is one draw for a whole trajectory.
      limit: The true RMSE of a third forecaster over B's, where there is one.
      variables, regions: How many of each, all with the same ratio.
    """

    lead_hours: np.ndarray
    log_ratio: np.ndarray
    initial_times: int
    decorrelation: float
    trajectories: int = 1
    variables: int = 1
    regions: int = 1
    last_decorrelation: float | None = None
    common: float = 0.0
    limit: float | None = None

    @property
    def trajectory(self) -> np.ndarray:
        """Label of each initial time ``(init_time,)``."""
        return np.repeat(np.arange(self.trajectories), self.initial_times // self.trajectories)

    @property
    def growth(self) -> np.ndarray:
        """B's true RMSE ``(lead,)``."""
        return np.sqrt(self.lead_hours / self.lead_hours[-1])

    @property
    def time_gain(self) -> np.ndarray:
        """By how many hours A is truly ahead ``(lead,)``; infinite beyond the leads."""
        return hours_ahead(self.lead_hours, self.growth * np.exp(self.log_ratio), self.growth)

    def squared_errors(self, trials: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Draws those of A, of B, and of the limit if there is one, ``(trial, variable, lead x region, init_time)``."""
        means = [np.exp(self.log_ratio), np.ones(self.lead_hours.size)]
        means += [] if self.limit is None else [np.full(self.lead_hours.size, self.limit)]
        length = self.initial_times // self.trajectories
        cells = (self.variables, self.lead_hours.size, self.regions)
        sources = len(means) + 1  # the last is shared
        noise = rng.normal(size=(trials, sources, *cells, self.trajectories, length + _SPIN_UP))
        distance = np.abs(np.subtract.outer(self.lead_hours, self.lead_hours))
        for axis, correlation in (
            (2, _equal(self.variables, _BETWEEN_VARIABLES)),
            (3, np.exp(-distance / _LEAD_HOURS_OF_CORRELATION)),
            (4, _equal(self.regions, _BETWEEN_REGIONS)),
        ):
            root = np.linalg.cholesky(correlation)
            noise = np.moveaxis(np.tensordot(root, noise, axes=(1, axis)), 0, axis)
        whole = noise[..., :1].copy()
        last = self.last_decorrelation or self.decorrelation
        for lead, decorrelation in enumerate(np.geomspace(self.decorrelation, last, self.lead_hours.size)):
            process = noise_process(decorrelation)
            noise[:, :, :, lead] = lfilter(
                [np.sqrt(process.noise)], [1.0, -process.first, -process.second], noise[:, :, :, lead]
            )
        noise = np.sqrt(1 - self.common) * noise[..., _SPIN_UP:] + np.sqrt(self.common) * whole
        noise = noise.reshape(trials, sources, *cells, -1)
        errors = []
        for own, ratio in enumerate(means):
            e = np.sqrt(1 - _SHARED) * noise[:, own] + np.sqrt(_SHARED) * noise[:, -1]
            mean_square = ((self.growth * ratio) ** 2)[:, None, None]
            errors.append(mean_square * np.exp(2 * _NOISE * e - 2 * _NOISE**2))
        return [x.reshape(trials, self.variables, -1, self.initial_times) for x in errors]


def _equal(size: int, correlation: float) -> np.ndarray:
    return np.full((size, size), correlation) + (1 - correlation) * np.eye(size)
