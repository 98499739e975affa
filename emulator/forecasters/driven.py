"""Regional networks with the lateral boundary values of a store, at valid time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.errors import DataError
from data_prep.preparation.store import Store
from emulator.forecasters.base import Forecaster
from emulator.forecasters.neural import NeuralForecaster
from emulator.forecasters.several import SeveralNetworks, networks_of


def all_driven_by(forecaster: Forecaster, store: Store) -> Forecaster:
    """A network with a store's lateral boundary values, or several, of which those get some that take some.

    Raises:
      DataError: none takes any, or as ``driven_by``.
    """
    if not any(network.takes_lateral for network in networks_of(forecaster)):
        raise DataError(f"lateral: {forecaster.name} takes no lateral boundary values; leave it out")
    driven = tuple(driven_by(n, store) if n.takes_lateral else n for n in networks_of(forecaster))
    return replace(forecaster, networks=driven) if isinstance(forecaster, SeveralNetworks) else driven[0]


def driven_by(network: NeuralForecaster, store: Store) -> NeuralForecaster:
    """A network that takes lateral boundary values with those of a store, in its own order of channels.

    Raises:
      DataError: the store's are of other variables or another grid, or its rim is narrower.
    """
    ours, theirs = ([c.name for c in spec.known_channels("lateral")] for spec in (network.spec, store.spec))
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
