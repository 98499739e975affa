"""A regional network with the lateral boundary values of a store, at valid time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.errors import DataError
from data_prep.preparation.store import Store
from emulator.forecasters.neural import NeuralForecaster
from emulator.forecasters.several import SeveralNetworks


def driven_by(network: NeuralForecaster, store: Store) -> NeuralForecaster:
    """The network with a store's lateral boundary values, in its own order of channels.

    Raises:
      DataError: the network takes none, the store's are of other variables or another grid, or its rim is narrower.
    """
    ours, theirs = ([c.name for c in spec.known_channels("lateral")] for spec in (network.spec, store.spec))
    if not ours:
        raise DataError(f"lateral: {network.name} takes no lateral boundary values; leave it out")
    if {*ours} != {*theirs} or not network.grid.matches(store.grid):
        raise DataError(
            f"lateral: the store holds {', '.join(theirs) or 'no lateral boundary values'} on {store.grid.describe()}; "
            f"{network.name} takes {', '.join(ours)} on {network.grid.describe()}"
        )
    rim, held = network.forcing_builder.rim, store.forcing_builder.rim
    assert rim is not None and held is not None
    if (rim.mask & ~held.mask).any():
        raise DataError(
            f"lateral: the rim of the store (data.lateral.rim) is narrower than that which {network.name} was trained "
            "with; prepare the data with a rim as wide"
        )
    order = np.array([theirs.index(name) for name in ours])
    return replace(network, lateral=lambda times: store.lateral_at(times)[..., order])


def boundary_attribute(forecaster: NeuralForecaster | SeveralNetworks) -> dict[str, str]:
    """What the forecasts of networks say of lateral boundary values of a store, where one of them was given some."""
    networks = forecaster.networks if isinstance(forecaster, SeveralNetworks) else (forecaster,)
    given = any(network.lateral is not None for network in networks)
    return {"lateral_boundary": "the driving data set at valid time"} if given else {}
