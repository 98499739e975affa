"""The statistical references by name, as the config names them."""

from __future__ import annotations

import numpy as np

from data_prep.preparation.store import Store
from emulator.forecasters.base import Forecaster
from emulator.forecasters.climatology import ClimatologyForecast
from emulator.forecasters.linear_pcs import FOLDS, LinearPcs
from emulator.forecasters.persistence import (
    AnomalyPersistence,
    DampedAnomalyPersistence,
    Persistence,
    check_training_forecasts,
)

LEARNED = {"damped_anomaly_persistence": 1, "linear_pcs": FOLDS}
"""References that are fitted to training forecasts of the longest lead, and how many of these they need."""


def check_reference(name: str, store: Store, lead_times: np.ndarray) -> None:
    """Refuses what ``make_reference`` would.

    Raises:
      DataError: the training data are too few, or too short for the leads.
    """
    if name in LEARNED:
        check_training_forecasts(name, store, lead_times, LEARNED[name])


def make_reference(name: str, store: Store, lead_times: np.ndarray) -> Forecaster:
    """Builds a reference from the store's training split alone.

    Args:
      name: ``persistence``, ``anomaly_persistence``, ``damped_anomaly_persistence``, ``linear_pcs`` or ``climatology``.
      store: Gives spec, grid, climatology and, for what is fitted, training data.
      lead_times: Leads that will be asked for; damping and regressions are fitted for them.

    Raises:
      DataError: as ``check_reference``.
      ValueError: there is no such reference (configs are validated before).
    """
    basis = (store.spec, store.grid, store.timestep)
    match name:
        case "persistence":
            return Persistence(*basis)
        case "anomaly_persistence":
            return AnomalyPersistence(*basis, store.climatology)
        case "damped_anomaly_persistence":
            return DampedAnomalyPersistence.fit(store, lead_times)
        case "linear_pcs":
            return LinearPcs.fit(store, lead_times)
        case "climatology":
            return ClimatologyForecast(*basis, store.climatology)
    raise ValueError(f"no statistical reference is called {name!r}")
