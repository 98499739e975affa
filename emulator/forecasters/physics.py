"""The opponent: a SPEEDY forecast from the same initial fields that everybody gets.

A baseline is only worth beating if it was given a fair start and is judged on the truth's ground. The model stands on a
surface of its own, so from sigma levels the initial state is moved onto it and every output moved back (see
``emulator/physics/surface.py``); what is lost is what the model's truncation cannot hold. From pressure levels (a
reanalysis) surface pressure is where the geopotential is the model's surface, and output is interpolated back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Self

import jax
import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec, named_fields, stack_channels
from data_prep.variables import UPPER_AIR
from data_prep.vertical import (
    mean_sea_level_pressure,
    pressure_to_sigma,
    sigma_to_pressure,
    surface_pressure_from_geopotential,
    virtual_temperature,
)
from emulator.bounds import ForecastStoppedError
from emulator.forecasters.base import check_lead_times
from emulator.forecasters.physics_start import SEA_LEVEL_PRESSURE, check_start, variables_to_start, warn_of_start
from emulator.physics import transfer
from emulator.physics.ensemble import Ensemble, batch_width
from emulator.physics.speedy import (
    PROGNOSTIC,
    SpeedyModel,
    filter_initial_shock,
    from_fields,
    held_fields,
)
from emulator.physics.surface import move_near_surface_temperature, move_to_surface
from emulator.speedy_facts import NEAR_SURFACE_TEMPERATURE, truncation_of

Arrays = dict[str, np.ndarray]
"""Fields by canonical name: ``(..., level, latitude, longitude)`` or ``(..., latitude, longitude)``."""

_BLOCK_HOURS = 24
_CORRECTIONS = 2  # of what the way to the model's surface and back loses
_PRESSURE_LAYERS = 8  # SPEEDY's own number, where the data do not say


class PhysicsForecaster:
    """SPEEDY at one truncation as a ``Forecaster``.

    Attributes:
      name, spec, grid, timestep: See ``Forecaster``.
      model: The model that runs.
    """

    def __init__(
        self,
        truncation: int,
        spec: StateSpec,
        grid: Grid,
        timestep: np.timedelta64,
        surface_geopotential: np.ndarray | None = None,
        time_step_minutes: int | None = None,
        digital_filter_hours: float = 0.0,
        name: str | None = None,
    ) -> None:
        """Checks that the model can forecast what is asked for; what takes long is made when it is needed first.

        Args:
          truncation: Spectral truncation of the model; may be lower or higher than the grid's.
          spec: The state; its prognostic variables start the model. On sigma levels they must be the model's.
          grid: Grid of initial fields and forecasts: a Gaussian grid of one of SPEEDY's truncations.
          timestep: Output interval, whole hours.
          surface_geopotential: The truth's surface, m2 s-2, ``(latitude, longitude)``, on which sigma fields stand and
            near-surface temperature is told; from pressure levels the model's own where it is left out.
          time_step_minutes: Time step of the model, by default its own.
          digital_filter_hours: Span of the digital filter over the initial state; 0 is none.
          name: By default ``physics_t`` and the truncation.

        Raises:
          ConfigError: as ``check_start``.
          DataError: as ``check_start``.
        """
        self.name = name or f"physics_t{truncation}"
        self.spec, self.grid, self.timestep = spec, grid, timestep
        given = spec, grid, timestep, surface_geopotential, time_step_minutes
        check_start(self.name, truncation, *given)
        self._hours = int(clock.hours(timestep))
        self._filter_hours = digital_filter_hours
        self._target = truncation_of(grid)
        # The way in is on the finer of the two grids, so that the model's surface is there in full.
        self._work = max(self._target, truncation)
        levels = spec["temperature"].levels
        self._levels = np.asarray(levels)
        self.model = SpeedyModel(
            truncation, len(levels) if spec.vertical == "sigma" else _PRESSURE_LAYERS, time_step_minutes
        )
        self._sigma = np.asarray(self.model.sigma)
        self._surface = surface_geopotential
        self._ensembles: dict[tuple[int, int], Ensemble] = {}

    @cached_property
    def _own(self) -> np.ndarray:
        """The model's surface where it works."""
        return self.model.surface_geopotential_on(self._work)

    @cached_property
    def _truth(self) -> np.ndarray:
        """The truth's surface there, on which fields on sigma levels stand."""
        assert self._surface is not None  # the constructor refuses sigma levels without
        return self._to_work({"geopotential_at_surface": self._surface})["geopotential_at_surface"]

    # The way out is between both surfaces as the target truncation sees them, after truncation, as the truth was
    # truncated: of the truth's own model it then is the very way that the truth came.
    @cached_property
    def _own_seen(self) -> np.ndarray:
        return self.model.surface_geopotential_on(self._target)

    @cached_property
    def _truth_seen(self) -> np.ndarray:
        return self._own_seen if self._surface is None else self._surface

    @classmethod
    def for_store(
        cls,
        store: Store,
        truncation: int,
        time_step_minutes: int | None = None,
        digital_filter_hours: float = 0.0,
        name: str | None = None,
    ) -> Self:
        """The baseline of a prepared store: its state, its grid, its time step, its surface; see ``warn_of_start``."""
        warn_of_start(store.spec)
        return cls(
            truncation,
            store.spec,
            store.grid,
            store.timestep,
            store.surface_geopotential,
            time_step_minutes,
            digital_filter_hours,
            name,
        )

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        """See ``Forecaster``; each initial time runs with its own date, in blocks of a day of lead."""
        leads = check_lead_times(lead_times, self.timestep)
        times = initial["time"].values
        steps = leads // self.timestep
        block = min(int(steps[-1]), max(1, _BLOCK_HOURS // self._hours))
        states = from_fields(self.model, self.model_fields(initial), times, self._work)
        if self._filter_hours:
            states = filter_initial_shock(states, self.model, self._filter_hours)
        key = (batch_width(times.size), block)
        if key not in self._ensembles:
            self._ensembles[key] = Ensemble(
                self.model, states, intervals=block, interval_hours=self._hours, output_truncation=self._work
            )
        for first in range(0, int(steps[-1]), block):
            states, fields = self._ensembles[key].advance(states)
            self._check(fields, times)
            wanted = steps[(steps > first) & (steps <= first + block)]
            if wanted.size:
                kept = {name: field[:, wanted - first - 1] for name, field in fields.items()}
                coords = {"init_time": times, "lead_time": wanted * self.timestep.astype("timedelta64[ns]")}
                yield self._dataset(self.truth_fields(kept), coords)

    def model_fields(self, initial: xr.Dataset) -> Arrays:
        """The initial state on the model's surface and sigma levels, on the finer of the two grids, ``(time, ...)``.

        Going to the model's surface and levels and coming back loses a little to interpolation and truncation (0.3 hPa
        RMS in sea-level pressure from T31 to T21; 86 m2/s2 at 500 hPa from 13 pressure levels of SPEEDY's own truth).
        What is lost is put on top before going (van Cittert's iteration), so that the forecast at lead zero is the
        initial state, as far as truncation and layers allow.
        """
        fields = raised = self._arrays(initial)
        for _ in range(_CORRECTIONS):
            seen = self.truth_fields(self._held(self._onto_model(raised)))
            raised = {name: raised[name] + (fields[name] - seen[name]) for name in fields}
            raised["specific_humidity"] = np.maximum(raised["specific_humidity"], 0.0)
        return self._onto_model(raised)

    def truth_fields(self, fields: Mapping[str, np.ndarray]) -> Arrays:
        """Model output on the truth's surface or pressure levels, and on the target grid, truncated as the truth is.

        Args:
          fields: The ``PROGNOSTIC`` fields and any diagnostics of ``speedy.compile_advance`` on the finer grid.
        """
        state = {name: fields[name] for name in PROGNOSTIC}
        if self.spec.vertical == "sigma":
            seen = state if self._work == self._target else self._regrid(state, self._work, self._target)
            moved = move_to_surface(seen, self._sigma, self._own_seen, self._truth_seen)
            out = self._regrid(moved, self._target, self._target)
        else:
            out = self._regrid(self._on_pressure_levels(state), self._work, self._target)
        for name in fields.keys() - set(PROGNOSTIC):
            out[name] = np.asarray(transfer.with_kinks(fields[name], self._work, self._target))
            if name == NEAR_SURFACE_TEMPERATURE:
                out[name] = move_near_surface_temperature(out[name], self._own_seen, self._truth_seen)
        return out

    def _on_pressure_levels(self, state: Arrays) -> Arrays:
        pressure = state["surface_pressure"]
        others = [name for name in UPPER_AIR if name != "temperature"]
        geopotential, temperature, fields = sigma_to_pressure(
            state["temperature"],
            state["specific_humidity"],
            [state[name] for name in others],
            pressure,
            self._own,
            self._sigma,
            self._levels * 100.0,
        )
        lowest = virtual_temperature(state["temperature"][..., -1, :, :], state["specific_humidity"][..., -1, :, :])
        return {
            "geopotential": geopotential,
            "temperature": temperature,
            **dict(zip(others, fields, strict=True)),
            SEA_LEVEL_PRESSURE: mean_sea_level_pressure(pressure, self._own, lowest, float(self._sigma[-1])),
        }

    def _onto_model(self, fields: Arrays) -> Arrays:
        fields = self._to_work(fields)
        if self.spec.vertical == "sigma":
            return move_to_surface(fields, self._sigma, self._truth, self._own)
        pressures = self._levels * 100.0
        virtual = virtual_temperature(fields["temperature"], fields["specific_humidity"])
        pressure = surface_pressure_from_geopotential(fields["geopotential"], virtual, pressures, self._own)
        on_sigma = {n: pressure_to_sigma(fields[n], pressures, pressure, self._sigma) for n in UPPER_AIR}
        return {name: f.astype(np.float32) for name, f in {**on_sigma, "surface_pressure": pressure}.items()}

    def _held(self, fields: Arrays) -> Arrays:
        return self._numpy(held_fields(fields, self.model, self._work))

    def _to_work(self, fields: Arrays) -> Arrays:
        if self._target == self._work:
            return fields
        return self._regrid(fields, self._target, self._work)

    def _arrays(self, initial: xr.Dataset) -> Arrays:
        """The fields that start the model, ``(time, [level,] latitude, longitude)``; others are the model's to make."""
        out = {}
        for variable in (self.spec[name] for name in sorted(variables_to_start(self.spec))):
            stacked = stack_channels(initial, variable.channels, source=self.name)
            out[variable.name] = np.moveaxis(stacked, -1, 1) if variable.levels else stacked[..., 0]
        return out

    def _dataset(self, fields: Arrays, coords: Mapping[str, np.ndarray]) -> xr.Dataset:
        """Fields ``(init_time, lead_time[, level], latitude, longitude)`` by name, and none below its least value."""
        channels = self.spec.state_channels
        minimum = {c.variable: least for c, least in zip(channels, self.spec.state_minimum, strict=True)}
        held = {name: np.maximum(fields[name], least, dtype=np.float32) for name, least in minimum.items()}
        return named_fields(held, self.spec, channels, self.grid, coords)

    def _check(self, fields: Arrays, times: np.ndarray) -> None:
        finite = np.isfinite(fields["temperature"]).all(axis=(1, 2, 3, 4))
        if not finite.all():
            raise ForecastStoppedError(
                f"{self.name}: the forecast from {times[~finite][0]!s:.16} became unstable; "
                "set a shorter time_step_minutes for this baseline"
            )

    def _regrid(self, fields: Arrays, source: int, target: int) -> Arrays:
        return self._numpy(transfer.regrid(fields, source, target))

    @staticmethod
    def _numpy(fields: Mapping[str, jax.Array]) -> Arrays:
        return {name: np.asarray(field) for name, field in fields.items()}
