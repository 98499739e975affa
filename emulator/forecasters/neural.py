"""The trained network as a forecaster: one compiled rollout, streamed block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_prep.clock import hours
from data_prep.errors import DataError
from data_prep.forcing import ForcingBuilder
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology
from data_prep.spec import Channel, StateSpec, named_fields, split_channels, stack_channels
from emulator.bounds import ForecastStoppedError, bounds_of, first_out_of_bounds
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.lead_blocks import climatology_at_valid_time
from emulator.forecasters.profiles import Profiles
from emulator.hardware.sharing import Sharing
from emulator.learned_from import LEARNED_DATA, LEARNED_FROM, Period, as_text
from emulator.stepping.rollout import Params, Relaxation, bases_of, last_steps, rows_on_the_way, trajectory
from emulator.stepping.sponge import Sponge
from emulator.stepping.stepper import Stepping

if TYPE_CHECKING:
    import xarray as xr

OUTSIDE, LATERAL = "outside_training_range", "lateral_boundary"
"""Attributes: where initial fields lie outside of what a network has seen, and which lateral values it was given."""

_BLOCK_BYTES = 64 * 2**20
_BLOCK_STEPS = 8

_roll = jax.jit(trajectory)


class _Block(NamedTuple):
    """Steps of a forecast as files hold them, made where the states are: on a GPU the host would take far longer.

    Attributes:
      fields: Physical units, by variable ``(init_time, lead_time[, level], latitude, longitude)``.
      low, high: Least and most value of each field, ``(init_time, lead_time, channel)``; NaN where it is not finite.
    """

    fields: dict[str, jax.Array]
    low: jax.Array
    high: jax.Array


@partial(jax.jit, static_argnames="channels")
def _fields(
    states: Float[Array, "batch time lat lon state"],
    climate: tuple[Float[Array, "batch time lat lon state"], Float[Array, " state"]] | None,
    *,
    channels: tuple[Channel, ...],
) -> _Block:
    """Fields of states; where these are departures from a climatology, with that and the least possible values."""
    finite = jnp.isfinite(states).all(axis=(2, 3))  # on a CPU, compiled extremes pass over NaN
    if climate is not None:
        states = jnp.maximum(states + climate[0], climate[1])
    low, high = (jnp.where(finite, of(states, axis=(2, 3)), jnp.nan) for of in (jnp.min, jnp.max))
    return _Block(split_channels(states, channels), low, high)


@dataclass(frozen=True, eq=False)
class NeuralForecaster:
    """A trained network; made by ``checkpoint.load_forecaster``.

    Attributes:
      spec, grid, timestep: As in ``Forecaster``.
      stepper, params: The network and how it steps; of several that step together, all of them.
      forcing_builder: Forcings at valid time.
      climatology: What the network's states are departures from; ``None`` where they are the fields themselves.
      surface_geopotential: What the truth stands on, m2 s-2 ``(lat, lon)``; ``None`` where the data did not say.
      data_hash: Of the store it was trained on.
      sources: Names in its training files, by canonical name, where they differ: what a user's file may call them.
      fill_nan: Whether NaN in forcings is filled, as training did.
      lateral: Lateral boundary values by valid time, ``(time,)`` to ``(time, lat, lon, lateral)``, for a network that
        was trained with them.
      sponge: What holds the topmost levels, if anything.
      trained_on: Least and most value of the prognostic channels and of the persisted forcings in the training data, by
        the channel's name; empty for networks of before these were kept.
      learned_from: When its training data were of, those of the weights that it began with included.
      profiles: What its training fields were like from south to north; ``None`` for networks of before these were kept.
    """

    spec: StateSpec
    grid: Grid
    timestep: np.timedelta64
    stepper: Stepping = field(repr=False)
    params: Params = field(repr=False)
    forcing_builder: ForcingBuilder = field(repr=False)
    climatology: Climatology | None = field(repr=False)
    surface_geopotential: np.ndarray | None = field(repr=False)
    data_hash: str
    trained_on: Mapping[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    learned_from: tuple[Period, ...] = field(default=(), repr=False)
    profiles: Profiles | None = field(default=None, repr=False)
    name: str = "network"
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    fill_nan: bool = False
    lateral: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    sponge: Sponge | None = field(default=None, repr=False)

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster.forecast``.

        ``initial`` needs the prognostic variables and the persisted forcings. All blocks hold equally many steps, so
        that the rollout compiles once; the last one is filled up with steps that are made and dropped. Fields may be
        read-only.

        Raises:
          DataError: the initial fields do not fit the network's variables or grid, hold NaN, or are in another unit.
          ForecastStoppedError: the forecast left physical bounds or is not finite any more; lead and variable are
            named, and the leads before have been yielded.
        """
        leads = check_lead_times(lead_times, self.timestep)
        times = initial["time"].values.astype("datetime64[ns]")
        state, persisted = self._initial_arrays(initial)
        self._refuse_other_units(state, persisted, times)
        if self.climatology is not None:
            state = state - self.climatology.at(times)
        wanted = leads // self.timestep
        channels = self.spec.state_channels
        names = tuple(dict.fromkeys(channel.variable for channel in channels))  # JAX sorts dictionaries
        for made, steps in self._blocks(times, state, persisted, wanted):
            low, high = (np.asarray(values)[:, : steps.size] for values in (made.low, made.high))
            stop = first_out_of_bounds(low, high, *self._bounds, times, steps * self.timestep)
            if stop is not None:
                steps = steps[: stop[0]]
            keep = np.flatnonzero(np.isin(steps, wanted))
            if keep.size:
                coords = {"init_time": times, "lead_time": steps[keep] * self.timestep}
                fields = {name: _leads_of(np.asarray(made.fields[name]), keep) for name in names}
                yield named_fields(fields, self.spec, channels, self.grid, coords)
            if stop is not None:
                raise ForecastStoppedError(f"{self.name}: {stop[1]}; train longer or over longer rollouts")

    def __repr__(self) -> str:
        """In a line."""
        channels = f"{len(self.spec.state_channels)} channels on {self.grid.describe()}"
        return f"NeuralForecaster({self.name}: {channels}, steps of {hours(self.timestep):g} h)"

    @property
    def takes_lateral(self) -> bool:
        """Whether it was trained with lateral boundary values."""
        return bool(self.forcing_builder.is_lateral.any())

    def _blocks(
        self, times: np.ndarray, state: np.ndarray, persisted: np.ndarray, wanted: np.ndarray
    ) -> Iterator[tuple[_Block, np.ndarray]]:
        """All blocks, and the time steps of the data after initial time that they are of.

        None is begun before it is asked for, so that whoever times a block times all of it. The last block may hold
        more than its steps.
        """
        rows = rows_on_the_way(wanted, self.stepper.time_steps)
        block = _even_block(rows.size, state.nbytes)
        among = Sharing.of(times.size)
        stepper, params = among.hold((self.stepper, self.params))
        bases = bases_of(stepper, jnp.asarray(among.share(state)))
        for first in range(0, rows.size, block):
            steps = rows[first : first + block]
            filled = np.pad(steps, (0, block - steps.size), mode="edge")
            forcing = among.share(self._forcings(times, filled, persisted))
            which = last_steps(filled, self.stepper.time_steps)
            states, bases = _roll(stepper, params, bases, forcing, which, self._relaxation(times, filled))
            climate = None
            if self.climatology is not None:
                valid = climatology_at_valid_time(self.climatology, times, filled * self.timestep)
                climate = among.share(valid), self.spec.state_minimum
            yield _fields(states, climate, channels=self.spec.state_channels), steps

    def _relaxation(self, times: np.ndarray, steps: np.ndarray) -> Relaxation | None:
        if self.sponge is None:
            return None
        rates = 1 - (1 - self.sponge.rate) ** np.asarray(self.stepper.time_steps, np.float32)[:, None]
        if self.climatology is not None:  # states are departures already
            shape = (times.size, steps.size, *self.grid.shape, len(self.spec.state_channels))
            return Relaxation(rates, np.zeros(shape, np.float32))
        return Relaxation(rates, climatology_at_valid_time(self.sponge.climatology, times, steps * self.timestep))

    def attributes(self, initial: xr.Dataset) -> dict[str, str]:
        """What is to be known of forecasts from these fields: where they lie outside of what the network has seen or
        seem to be turned north to south, when its training data were of, and whether it was given lateral boundaries.

        Args:
          initial: As ``forecast`` takes them; may be lazy.
        """
        n, channels = self.spec.n_prognostic, self._given_channels
        lowest, highest = [], []
        turned: dict[int, np.datetime64] = {}
        for i in range(initial.sizes["time"]):  # one at a time: all of them need not fit into memory
            state, persisted = self._initial_arrays(initial.isel(time=[i]).load())
            values = np.concatenate([state[..., :n], persisted], axis=-1)
            lowest.append(values.min(axis=(0, 1, 2)))
            highest.append(values.max(axis=(0, 1, 2)))
            if self.profiles is not None:
                time = initial["time"].values[i]
                of_this = np.flatnonzero(self.profiles.turned(state[0, ..., :n], time)).tolist()
                turned = dict.fromkeys(of_this, time) | turned
        found = [f"{channels[c].name} at {t!s:.16} seems to be turned north to south" for c, t in turned.items()]
        for channel, low, high in zip(channels, np.min(lowest, axis=0), np.max(highest, axis=0), strict=True):
            least, most = self.trained_on.get(channel.name, (-np.inf, np.inf))
            if low < least or high > most:
                found.append(f"{channel.name} {low:.6g} to {high:.6g}, trained on {least:.6g} to {most:.6g}")
        outside = "; ".join(found) or ("none" if self.trained_on else "not known")
        driven = {} if self.lateral is None else {LATERAL: "the driving data set at valid time"}
        return {OUTSIDE: outside, LEARNED_FROM: as_text(self.learned_from), LEARNED_DATA: self.data_hash} | driven

    @property
    def _given_channels(self) -> tuple[Channel, ...]:
        return (*self.spec.state_channels[: self.spec.n_prognostic], *self.spec.known_channels("persisted"))

    def _refuse_other_units(self, state: np.ndarray, persisted: np.ndarray, times: np.ndarray) -> None:
        """Refuses a field that lies outside of what training saw, as a whole, by more than the width of that.

        One value everywhere, such as a concentration that grows from year to year, may lie anywhere.
        """
        values = np.concatenate([state[..., : self.spec.n_prognostic], persisted], axis=-1)
        lowest, highest = values.min(axis=(1, 2)), values.max(axis=(1, 2))  # (init, channel)
        for c, channel in enumerate(self._given_channels):
            least, most = self.trained_on.get(channel.name, (np.nan, np.nan))
            low, high, width = lowest[:, c], highest[:, c], most - least
            for i in np.flatnonzero((low < high) & ((high < least - width) | (low > most + width)))[:1]:
                units = self.spec[channel.variable].units
                raise DataError(
                    f"initial fields: {channel.name} at {times[i]!s:.16} is {low[i]:.6g} to {high[i]:.6g} {units}, and "
                    f"{self.name} was trained on {least:.6g} to {most:.6g}: probably values in another unit; set the "
                    "units attribute of the file to what they are in"
                )

    @property
    def _bounds(self) -> tuple[list[str], list[tuple[float, float]]]:
        channels = self.spec.state_channels
        return [c.name for c in channels], bounds_of(channels, self.spec)

    def _initial_arrays(self, initial: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """State with empty diagnostic channels ``(init, lat, lon, state)``, and persisted forcings."""
        found = Grid.from_arrays(initial["latitude"].values, initial["longitude"].values)
        if not found.matches(self.grid):
            raise DataError(
                f"{self.name}: initial fields are on {found.describe()}; "
                f"the network was trained on {self.grid.describe()}"
            )
        kept = self.spec.known_channels("persisted")
        persisted = (
            self._read(initial, kept) if kept else np.empty((initial.sizes["time"], *self.grid.shape, 0), np.float32)
        )
        prognostic = self._read(initial, self.spec.state_channels[: self.spec.n_prognostic])
        n_diagnostic = len(self.spec.state_channels) - self.spec.n_prognostic
        state = np.pad(prognostic, ((0, 0), (0, 0), (0, 0), (0, n_diagnostic)))
        return np.maximum(state, self.spec.state_minimum), persisted

    def _read(self, initial: xr.Dataset, channels: tuple[Channel, ...]) -> np.ndarray:
        values = stack_channels(initial, channels, source="initial fields")
        bad = ~np.isfinite(values).all(axis=(1, 2))
        if bad.any():
            i, c = np.argwhere(bad)[0]
            raise DataError(
                f"initial fields: {channels[c].name} at {initial['time'].values[i]!s:.16} holds NaN or infinity"
            )
        return values

    def _forcings(self, times: np.ndarray, steps: np.ndarray, persisted: np.ndarray) -> np.ndarray:
        valid = times[:, None] + steps[None, :] * self.timestep
        given = np.repeat(persisted, steps.size, axis=0)
        if self.takes_lateral:
            if self.lateral is None:
                raise DataError(
                    f"{self.name}: was trained with lateral boundary values, so a forecast needs those of its valid "
                    "times: emulator forecast RUN INPUT.nc --lateral FILE..., or predict(..., lateral=store)"
                )
            lateral = self.lateral(valid.ravel())
            if self.climatology is not None:
                lateral = lateral - self.climatology.at(valid.ravel())[..., : self.spec.n_prognostic]
            given = np.concatenate([given, lateral], axis=-1)
        flat = self.forcing_builder.at(valid.ravel(), given)
        return flat.reshape(*valid.shape, *flat.shape[1:])


def _leads_of(field: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The field at these positions on the lead axis; no copy where they are the first ones."""
    return field[:, : keep.size] if keep[-1] + 1 == keep.size else field[:, keep]


def _even_block(steps: int, state_bytes: int) -> int:
    """Steps of a block: few enough for memory, and such that the blocks just cover ``steps``."""
    most = max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // state_bytes))
    return -(-steps // -(-steps // most))
