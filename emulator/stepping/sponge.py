"""A sponge layer: what departs from climatology in the topmost levels of a forecast decays slowly.

Models of the atmosphere have one under their upper boundary, above which nothing holds the flow. A network has no more
to hold it: errors of its topmost levels that grow over weeks are not seen by a loss over days. Forecasts alone have
it: a network that was trained under a sponge would learn to undo it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from data_prep.errors import ConfigError
from data_prep.preparation.climatology import Climatology
from data_prep.preparation.store import Store
from emulator.config import SpongeConfig


@dataclass(frozen=True, eq=False)
class Sponge:
    """How fast departures from climatology decay, channel by channel.

    Attributes:
      rate: Share of the departure that a model step takes off, float32 ``(state,)``; 0 outside of the sponge.
      climatology: What the states decay towards.
    """

    rate: np.ndarray
    climatology: Climatology = field(repr=False)

    @classmethod
    def of(cls, config: SpongeConfig, store: Store) -> Self:
        """The sponge of forecasts whose training data the store holds.

        Raises:
          ConfigError: the state has no such number of levels, or the training data cover a part of the year only.
        """
        channels = store.spec.state_channels[: store.spec.n_prognostic]
        levels = sorted({c.level for c in channels if c.level is not None})  # pressure and sigma grow downwards
        if config.levels > len(levels):
            asked = f"{config.levels} are asked for, the state has {len(levels)}"
            raise ConfigError(f"evaluate.long_run.sponge.levels: {asked}")
        if not store.climatology.season.whole_year:
            why = "the training data cover a part of the year, so there is no climatology to go to"
            raise ConfigError(f"evaluate.long_run.sponge: {why}")
        rate = np.zeros(len(store.spec.state_channels), np.float32)
        within = [i for i, c in enumerate(channels) if c.level in levels[: config.levels]]
        rate[within] = -np.expm1(-(store.timestep / np.timedelta64(1, "D")) / config.days)
        return cls(rate, store.climatology)
