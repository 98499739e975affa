"""What an experiment compares: what is asked for, where it lies, and the data that all who forecast in it share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_prep.preparation.store import Store, open_store
from emulator.config import EvaluateConfig, ExperimentConfig
from emulator.experiment.forecast_files import forecast_path
from emulator.experiment.initial_times import initial_indices, verified_leads


@dataclass(frozen=True, eq=False)
class Contest:
    """The comparison of one experiment.

    Attributes:
      config: What is asked for.
      store: Its data.
    """

    config: ExperimentConfig
    store: Store

    @classmethod
    def of(cls, config: ExperimentConfig) -> Contest:
        """That of an experiment whose data are prepared.

        Raises:
          DataError: they are not, or are damaged.
        """
        return cls(config, open_store(config.path / "store.zarr"))

    @property
    def folder(self) -> Path:
        """The experiment's."""
        return self.config.path

    @property
    def evaluate(self) -> EvaluateConfig:
        """What the config says of the comparison."""
        return self.config.evaluate

    @cached_property
    def indices(self) -> np.ndarray:
        """See ``initial_indices``."""
        return initial_indices(self.store, self.evaluate)

    @cached_property
    def leads(self) -> np.ndarray:
        """See ``verified_leads``."""
        return verified_leads(self.evaluate)

    @property
    def init_times(self) -> np.ndarray:
        """From when everybody forecasts."""
        return self.store.times[self.indices]

    def path(self, name: str) -> Path:
        """The file of a forecaster's forecasts."""
        return forecast_path(name, self.config)
