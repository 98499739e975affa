"""The fit of a climatology in the plainest way: in memory, one state after another."""

import numpy as np

from data_prep.clock import CALENDAR_DAYS
from data_prep.preparation.climatology import (
    WINDOW_DAYS,
    YEAR_DAYS,
    Climatology,
    Kind,
    Season,
    basis_of,
    basis_size,
    choose_kind,
    folded_day,
    hour_index,
    hours_of,
    normal_matrix,
    normal_sums,
    solve,
    triangle_sums,
    window_weights,
)


class ClimatologyFit:
    """Fits a climatology in memory, from training states handed over in blocks, in any order.

    Memory: the normal equations, ``(basis, latitude, longitude, state)`` in float64; for ``day_of_year_hour`` the sums
    by day and hour. Size does not depend on the number of states.
    """

    def __init__(self, times: np.ndarray, timestep: np.timedelta64, field_shape: tuple[int, ...]) -> None:
        """Prepares a fit.

        Args:
          times: All training times, ``datetime64[ns]``; they decide kind, hours and season.
          timestep: Interval between them.
          field_shape: ``(latitude, longitude, state)``.
        """
        self.kind: Kind = choose_kind(times, timestep)
        self.hours = hours_of(times)
        self.season = Season.of(times)
        self._by_day = self.kind == "day_of_year_hour"
        n_basis = basis_size(self.kind, self.hours.size)
        lead = (YEAR_DAYS, self.hours.size) if self._by_day else (n_basis,)
        self._sums = np.zeros((*lead, *field_shape))
        self._counts = np.zeros(lead if self._by_day else (n_basis, n_basis))

    def update(self, times: np.ndarray, states: np.ndarray) -> None:
        """Adds states: ``times`` of shape ``(time,)``, ``states`` of shape ``(time, latitude, longitude, state)``."""
        hour = hour_index(times, self.hours)
        if self._by_day:
            day = folded_day(times)
            np.add.at(self._counts, (day, hour), 1.0)
            for d, h, state in zip(day, hour, states, strict=True):
                self._sums[d, h] += state
            return
        basis = basis_of(self.kind, self.season, times, hour, self.hours.size)
        self._counts += normal_matrix(basis)
        self._sums += normal_sums(basis, states)

    def finish(self) -> Climatology:
        """The fitted climatology.

        Raises:
          DataError: the times seen do not determine it.
        """
        if not self._by_day:
            table = solve(self._counts, self._sums)
            return Climatology(self.kind, self.hours, self.season, table)
        table = np.empty((CALENDAR_DAYS, *self._sums.shape[1:]), np.float32)
        half = WINDOW_DAYS // 2
        around = np.arange(-half, YEAR_DAYS + half) % YEAR_DAYS
        weights = window_weights(self._counts)
        for h in range(self.hours.size):
            means = self._sums[:, h] / np.maximum(self._counts[:, h], 1)[:, None, None, None]
            table[:YEAR_DAYS, h] = triangle_sums(means[around]) / weights[:, h, None, None, None]
        table[YEAR_DAYS] = table[YEAR_DAYS - 1]
        return Climatology(self.kind, self.hours, self.season, table)
