"""Forecasts that lie in a file already: what corrections and means are made of, without a second run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files.arrays import rows_at
from data_prep.files.disk import reading
from data_prep.spec import StateSpec, stack_channels
from emulator.forecast_form import forecast_attributes, open_forecasts
from emulator.learned_from import LEARNED_DATA, LEARNED_FROM

_COST = (
    "seconds_per_simulated_day",
    "simulated_days_per_second",
    "cost_excludes_compilation",
    "forecasts_at_once",
    "hardware",
)


@dataclass(frozen=True)
class WrittenForecasts:
    """The file of a single forecaster of an experiment.

    Attributes:
      path: The file.
      spec: What its states hold.
    """

    path: Path
    spec: StateSpec

    @contextmanager
    def reader(self, times: np.ndarray, leads: np.ndarray) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
        """Opens the file.

        Args:
          times: Initial times that will be read, ``datetime64[ns]``; repeats are allowed.
          leads: All leads that will be, ``timedelta64[ns]``.

        Yields:
          Some of the leads to states from all these times, ``(init_time, lead, latitude, longitude, state_channel)``.

        Raises:
          DataError: the file lacks one of them.
        """
        starts, repeats = np.unique(times, return_inverse=True)
        with reading(self.path), open_forecasts(self.path) as file:
            rows, absent = rows_at(file["init_time"].values.astype("datetime64[ns]"), starts)
            columns, beyond = rows_at(file["lead_time"].values.astype("timedelta64[ns]"), leads)
            missing = [f"initial time {time!s:.16}" for time in absent]
            missing += [f"lead {hours:g} h" for hours in beyond / np.timedelta64(1, "h")]
            if missing:
                raise DataError(f"{self.path}: lacks the {missing[0]}; make the forecasts again")

            def states(block: np.ndarray) -> np.ndarray:
                part = file.isel(init_time=rows, lead_time=columns[np.isin(leads, block)])
                return stack_channels(part, self.spec.state_channels, source=str(self.path))[repeats]

            yield states

    def cost(self) -> dict[str, object]:
        """What the forecasts cost, as the attributes of the file say it."""
        return self._attributes(*_COST)

    def learned(self) -> dict[str, object]:
        """What their network learned from, as the attributes of the file say it; empty where it is none's."""
        return self._attributes(LEARNED_FROM, LEARNED_DATA)

    def _attributes(self, *names: str) -> dict[str, object]:
        attributes = forecast_attributes(self.path)
        return {name: attributes[name] for name in names if name in attributes}
