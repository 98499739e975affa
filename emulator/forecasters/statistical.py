"""The statistical references by name, as the config names them."""

from __future__ import annotations

import numpy as np

from data_prep.store import Store
from emulator.forecasters.base import Forecaster
from emulator.forecasters.climatology import ClimatologyForecast
from emulator.forecasters.linear_pcs import LinearPcs
from emulator.forecasters.persistence import AnomalyPersistence, DampedAnomalyPersistence, Persistence


def make_reference(name: str, store: Store, lead_times: np.ndarray) -> Forecaster:
    """Builds a reference from the store's training split alone.

    Args:
      name: ``persistence``, ``anomaly_persistence``, ``damped_anomaly_persistence``, ``linear_pcs`` or ``climatology``.
      store: Gives spec, grid, climatology and, for what is fitted, training data.
      lead_times: Leads that will be asked for; damping and regressions are fitted for them.

    Raises:
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
