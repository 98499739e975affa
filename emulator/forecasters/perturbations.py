"""Random-field perturbations of initial states (Magnusson et al., 2009, doi:10.1111/j.1600-0870.2008.00385.x).

The difference of two states of the same season from different trajectories has the balance and the spatial scales of
the weather itself, and needs no model. Scaled down and added, it makes a member. Members are drawn independently, as
the scores of ensembles take them to be: pairs of both signs, which would keep their mean at the state that everybody
gets, make the fair CRPS and the spread over skill of a perfect ensemble wrong. The mean of M members begins off by the
perturbations' size over sqrt(M).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep.clock import seconds_of_day, year_fraction
from data_prep.errors import DataError
from data_prep.preparation.store import Store
from data_prep.spec import Channel

_SEASON = 15 / 365.25  # either way, as a share of the year: the background is then the same, the weather another
_APART = np.timedelta64(60, "D")  # more than the season is wide: another year, and so another trajectory


@dataclass(frozen=True, eq=False)
class RandomFields:
    """Draws perturbations from the training states of a store.

    Attributes:
      store: Where the states come from.
      amplitude: Standard deviation of the perturbations over that of the weather in that season.
      seed: Draws depend on it, the initial time and the member's number alone, so they are the same in any batch and
        for any model.
    """

    store: Store
    amplitude: float
    seed: int

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What is perturbed: the prognostic channels."""
        return self.store.spec.state_channels[: self.store.spec.n_prognostic]

    @cached_property
    def training_rows(self) -> np.ndarray:
        """Rows of the training split on the store's time axis (members of a nature run lie years apart on it)."""
        return self.store.rows_of("train")

    def draw(self, time: np.datetime64, members: int) -> np.ndarray:
        """Perturbations of one initial time: ``amplitude`` times the difference of two states over the root of two.

        That difference varies as much as the states themselves do.

        Args:
          time: The initial time.
          members: How many to draw.

        Returns:
          float32 ``(member, latitude, longitude, prognostic channel)``.

        Raises:
          DataError: the training split holds no two independent states of that season and hour.
        """
        alike, times = self._alike(time), self.store.times
        number = int(np.asarray([time], "datetime64[ns]").view(np.uint64)[0])
        out = []
        for member in range(members):
            rng = np.random.default_rng([self.seed, number, member])
            first = int(rng.choice(alike))
            second = int(rng.choice(alike[np.abs(times[alike] - times[first]) >= _APART]))
            a, b = (self.store.read_state(row, row + 1)[0, ..., : len(self.channels)] for row in (first, second))
            out.append(np.float32(self.amplitude / np.sqrt(2.0)) * (a - b))
        return np.stack(out)

    def check(self, init_times: np.ndarray) -> None:
        """Whether there is something to draw from for all these initial times.

        Raises:
          DataError: as ``draw`` does.
        """
        for time in init_times:
            self._alike(time)

    def _alike(self, time: np.datetime64) -> np.ndarray:
        """Training rows of the season and hour of a time, such that each has another one that is independent of it."""
        one = np.asarray([time], "datetime64[ns]")
        times = self.store.times[self.training_rows]
        distance = np.abs((self._year_fraction - year_fraction(one) + 0.5) % 1.0 - 0.5)
        alike = np.flatnonzero((distance <= _SEASON) & (seconds_of_day(times) == seconds_of_day(one)))
        if alike.size:
            first, last = times[alike].min(), times[alike].max()
            alike = alike[(times[alike] - first >= _APART) | (last - times[alike] >= _APART)]
        if alike.size == 0:
            raise DataError(
                f"ensemble: no two training states of the season and hour of {np.datetime_as_string(one[0], 'h')} "
                "come from different trajectories or years; give the training split more of them, or set members 1"
            )
        return self.training_rows[alike]

    @cached_property
    def _year_fraction(self) -> np.ndarray:
        return year_fraction(self.store.times[self.training_rows])
