"""Persistence in three strengths: of the field, of its anomaly, and of a damped anomaly.

The field alone looks better at multiples of 24 h where there is a diurnal cycle, and worse as the season
moves on; the anomaly kept on a moving climatology has neither fault. The damped anomaly is the best mix of
that and the climatology alone, in the mean square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec, stack_channels
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.lead_blocks import climatology_at_valid_time, lead_blocks

_MAX_WINDOWS = 200  # more would not change the second decimal of a damping factor


def check_training_forecasts(name: str, store: Store, lead_times: np.ndarray, at_least: int = 1) -> None:
    """Refuses, before any work, what has too little to learn from.

    Args:
      name: Of the reference, for the message.
      store: Gives training data.
      lead_times: Leads that it is to be fitted for.
      at_least: As many training forecasts of the longest lead as it needs.

    Raises:
      DataError: there are fewer.
    """
    longest = check_lead_times(lead_times, store.timestep)[-1]
    rows = [len(s) for s in store.segments if s.split == "train"]
    found = sum(max(0, n - int(longest // store.timestep)) for n in rows)
    if found < at_least:
        hours = (max(rows, default=1) - 1) * clock.hours(store.timestep)
        raise DataError(
            f"{name}: {found} training forecasts of {clock.hours(longest):g} h are too few, it needs "
            f"{at_least}, and the longest training segment spans {hours:g} h; shorten evaluate.lead_hours or leave it "
            "out of evaluate.references"
        )


@dataclass(frozen=True)
class Persistence:
    """The initial field, unchanged."""

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    name: str = "persistence"

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``."""
        state = stack_channels(initial, self.spec.state_channels, source=self.name)
        yield from lead_blocks(self, initial, lead_times, lambda block: np.repeat(state[:, None], block.size, axis=1))


@dataclass(frozen=True)
class AnomalyPersistence:
    """The initial departure from climatology, kept on the climatology at valid time."""

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    climatology: Climatology
    name: str = "anomaly_persistence"

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``."""
        times = initial["time"].values
        anomaly = stack_channels(initial, self.spec.state_channels, source=self.name) - self.climatology.at(times)
        yield from lead_blocks(
            self,
            initial,
            lead_times,
            lambda block: climatology_at_valid_time(self.climatology, times, block) + anomaly[:, None],
        )


@dataclass(frozen=True)
class DampedAnomalyPersistence:
    """The initial departure from climatology, damped by lead and channel, on the climatology at valid time.

    Attributes:
      lead_times: Leads that were fitted, ``timedelta64[ns] (lead,)``.
      damping: Factor on the anomaly, ``(lead, state_channel)``, within [0, 1].
    """

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    climatology: Climatology
    lead_times: np.ndarray
    damping: np.ndarray
    name: str = "damped_anomaly_persistence"

    @classmethod
    def fit(cls, store: Store, lead_times: np.ndarray) -> DampedAnomalyPersistence:
        """Fits the damping on the training split.

        The factor is the regression of the anomaly at lead on the initial anomaly, with area weights, over
        windows spread over the split: sum w a(0) a(lead) / sum w a(0)^2. Clipped to [0, 1].

        Args:
          store: Gives training data and climatology.
          lead_times: Leads to fit, ``timedelta64``.

        Raises:
          DataError: no training segment is as long as the longest lead.
        """
        check_training_forecasts(cls.name, store, lead_times)
        leads = check_lead_times(lead_times, store.timestep)
        steps = leads // store.timestep
        starts = store.windows("train", int(steps[-1]) + 1)
        starts = starts[clock.sample(store.times[starts], _MAX_WINDOWS)]
        weights = store.grid.latitude_weights[:, None, None]
        n_channels = len(store.spec.state_channels)
        product, square = np.zeros((leads.size, n_channels)), np.zeros(n_channels)
        for start in starts.tolist():
            states = store.read_state(start, start + int(steps[-1]) + 1)[np.concatenate([[0], steps])]
            times = store.times[start] + np.concatenate([[np.timedelta64(0, "ns")], leads])
            anomaly = (states - store.climatology.at(times)).astype(np.float64)
            weighted = weights * anomaly[0]
            product += np.einsum("yxc,lyxc->lc", weighted, anomaly[1:], optimize=True)
            square += (weighted * anomaly[0]).sum((0, 1))
        damping = np.divide(product, square, out=np.zeros_like(product), where=square > 0)
        return cls(
            store.spec, store.grid, store.timestep, store.climatology, leads, np.clip(damping, 0, 1).astype(np.float32)
        )

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``; leads that were not fitted are a ``DataError``."""
        times = initial["time"].values
        anomaly = stack_channels(initial, self.spec.state_channels, source=self.name) - self.climatology.at(times)
        yield from lead_blocks(self, initial, lead_times, lambda block: self.states(times, anomaly, block))

    def states(self, times: np.ndarray, anomaly: np.ndarray, leads: np.ndarray) -> np.ndarray:
        """Forecasts from initial anomalies, ``(init_time, lead, latitude, longitude, state_channel)``.

        Raises:
          DataError: a lead was not fitted.
        """
        if not np.isin(leads, self.lead_times).all():
            raise DataError(f"{self.name}: asked for leads beyond those its damping was fitted for")
        factor = self.damping[np.searchsorted(self.lead_times, leads)][None, :, None, None, :]
        return climatology_at_valid_time(self.climatology, times, leads) + factor * anomaly[:, None]
