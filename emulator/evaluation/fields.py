"""Truth, climatology and forecasts as comparable fields: one function for all of them.

Fields are handed on as planes, ``name@level`` to an array ``(..., latitude, longitude)``. Where the state is
on sigma levels all three go through the same ``derive`` (sigma to pressure, hydrostatic geopotential,
sea-level pressure), so a forecast is never compared with a truth that was made in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.files.arrays import rows_at
from data_prep.preparation.store import Segment, Store
from data_prep.spec import level_dim, unstack_channels
from data_prep.variables import SURFACE, WINDS, known
from data_prep.vertical import derive
from emulator.evaluation.forecast_file import ALL, ForecastFile, describe_time, describe_times

Planes = dict[str, np.ndarray]

_LEADING = ("realization", "init_time", "lead_time", "time")
_NONLINEAR = ("wind_speed",)
_INDEPENDENT = np.timedelta64(30, "D")  # between two stretches of a record that are taken for independent


@dataclass(frozen=True)
class Verification:
    """Fields at valid time for a set of initial times and leads.

    Attributes:
      store: The truth.
      init_times: ``datetime64[ns] (init_time,)``.
      lead_times: ``timedelta64[ns] (lead_time,)``.
      pressure_levels: hPa, to which fields on sigma levels are brought.
      derived: Which of ``KINEMATIC`` are made of the winds besides.
      mask: Points that are verified, bool ``(latitude, longitude)``; elsewhere NaN is allowed, and fields are zero.
      with_holes: Leave NaN and infinity as they are, for maps; scores would be meaningless.
    """

    store: Store
    init_times: np.ndarray
    lead_times: np.ndarray
    pressure_levels: Sequence[float]
    derived: Sequence[str] = ()
    mask: np.ndarray | None = None
    with_holes: bool = False

    @cached_property
    def rows(self) -> np.ndarray:
        """Row of the store at each valid time, int64 ``(init_time, lead_time)``.

        Raises:
          DataError: there is no truth at a valid time, or it lies in another segment than the initial time.
        """
        steps = self.lead_times // self.store.timestep
        if (self.lead_times % self.store.timestep != np.timedelta64(0, "ns")).any():
            raise DataError(
                f"evaluate: leads {describe_times(self.lead_times)} are no multiples of the store's time step"
            )
        if (steps < 0).any():
            raise DataError(f"evaluate: a lead lies before the initial time ({describe_times(self.lead_times)})")
        initial, absent = rows_at(self.store.times, self.init_times)
        if absent.size:
            raise DataError(f"evaluate: the store holds no truth at the initial time {absent[0]!s:.16}{self._which()}")
        valid = self.init_times[:, None] + self.lead_times
        _, absent = rows_at(self.store.times, np.unique(valid))
        if absent.size:
            start = self.init_times[(valid == absent[0]).any(axis=1).argmax()]
            raise DataError(
                f"evaluate: the store holds no truth at {absent[0]!s:.16}, for forecasts from {start!s:.16}"
                f"{self._which()}"
            )
        for row in initial.tolist():
            self.store.segment_of(row, row + int(steps[-1]) + 1)
        return initial[:, None] + steps

    def _which(self) -> str:
        """Which of the initial times have truth at all leads, for messages."""
        valid = np.concatenate([self.init_times[:, None], self.init_times[:, None] + self.lead_times], axis=1)
        held = self.init_times[np.isin(valid, self.store.times).all(axis=1)]
        if held.size == 0:
            return "; of no initial time does it hold all leads"
        ends = f"{held.min()!s:.16} to {held.max()!s:.16}"
        return f"; of {held.size} of {self.init_times.size} initial times it holds all leads ({ends}): give these alone"

    @cached_property
    def segments(self) -> list[Segment]:
        """The truth's segment of each initial time."""
        return [self.store.segment_of(row, row + 1) for row in self.rows[:, 0].tolist()]

    @cached_property
    def trajectories(self) -> list[str]:
        """Label of each initial time: alike in one stretch of weather, which a hole of some days does not end.

        What lies on its two sides is as correlated as if the days between were there.
        """
        label: dict[str, str] = {}
        before: Segment | None = None
        for segment in sorted(self.segments, key=lambda s: s.first_time):
            goes_on = before is not None and segment.first_time - before.last_time < _INDEPENDENT
            label.setdefault(segment.name, label[before.name] if before and goes_on else segment.name)
            before = segment
        return [label[segment.name] for segment in self.segments]

    def truth(self, rows: np.ndarray) -> Planes:
        """The truth at these rows of the store, planes ``(row, latitude, longitude)``."""
        return self.planes(self.store.dataset(rows)[[*self.store.spec.state_variables]], "truth", self.derived)

    def climatology(self, rows: np.ndarray) -> Planes:
        """The climatology at the times of these rows, likewise."""
        store, times = self.store, self.store.times[rows]
        climate = np.maximum(store.climatology.at(times), store.spec.state_minimum)  # as its forecast is
        expected = unstack_channels(climate, store.spec, store.spec.state_channels, store.grid, {"time": times})
        return self.planes(expected, "climatology", self.derived)

    def forecast(self, file: ForecastFile, inits: slice, leads: slice | np.ndarray = ALL) -> Planes:
        """A forecast's planes ``([realization,] init_time, lead_time, latitude, longitude)``.

        Args:
          file: Which.
          inits, leads: Positions of initial times and leads in the file.
        """
        fields = file.read(file.variables, inits, leads)
        lacks_winds = file.is_external and any(name not in fields for name in WINDS)
        derived = [name for name in self.derived if not lacks_winds and not cannot_hold(file, name)]
        return self.planes(fields, str(file.path), derived)

    def planes(self, dataset: xr.Dataset, source: str, derived: Sequence[str]) -> Planes:
        """What is verified of canonical fields, whoever made them; ``source`` is theirs, for messages."""
        on_sigma = self.store.spec.vertical == "sigma"
        if on_sigma and SURFACE not in dataset and not _is_on_pressure(dataset):
            surface = self.store.surface_geopotential  # a file without one stands on the truth's surface
            if surface is None:
                raise DataError(f"{source}: on sigma levels without {SURFACE}; name it under data.static")
            dataset = dataset.assign({SURFACE: (("latitude", "longitude"), surface)})
        planes = _planes_of(derive(dataset, self.pressure_levels if on_sigma else None, derived))
        for key in planes:
            if self.mask is not None:
                planes[key] = np.where(self.mask, planes[key], 0)
            if not self.with_holes and not np.isfinite(planes[key]).all():
                raise DataError(f"{source}: {key} holds NaN or infinity{self._holes(planes[key], dataset)}")
        return planes

    def _holes(self, plane: np.ndarray, dataset: xr.Dataset) -> str:
        """When a plane is not finite first, at how many points, and what can be done about it, for messages."""
        times = [dataset[d].values for d in _LEADING[1:] if d in dataset.dims]
        verified = np.ones(plane.shape[-2:], bool) if self.mask is None else self.mask
        shares = (~np.isfinite(plane)).sum(axis=(-2, -1)) / verified.sum()
        if shares.ndim > len(times):  # members
            shares = shares.max(axis=0)
        place = np.argwhere(shares > 0)[0]
        when = " at ".join(describe_time(axis[i]) for axis, i in zip(times, place, strict=True))
        share = shares[tuple(place)]
        remedy = "where the same points are always missing, evaluate.mask leaves them out"
        if share == 1:
            gone = "the whole field is missing: take that initial time out of the file"
            remedy = f"{gone} (evaluate.missing_inits: leave_out compares without it)" if len(times) > 1 else remedy
        elif self.mask is not None:
            remedy = "they lie where evaluate.mask says that forecasts are verified"
        of = "all" if share == 1 else f"{max(100 * share, 0.01):.2g} % of the"
        return f" at {of} points, first {'from ' * (len(times) > 1)}{when}; scores would be meaningless; {remedy}"


def _planes_of(dataset: xr.Dataset) -> Planes:
    """All but the surface, a level a plane: ``([realization,] [init_time, lead_time | time,] latitude, longitude)``."""
    planes: Planes = {}
    for name, field in dataset.drop_vars(SURFACE, errors="ignore").data_vars.items():
        dim = level_dim(field)
        lead = [d for d in _LEADING if d in field.dims]
        array = field.transpose(*([] if dim is None else [dim]), *lead, "latitude", "longitude").values
        keys = [str(name)] if dim is None else [f"{name}@{float(v):g}" for v in field[dim].values]
        planes |= dict(zip(keys, [array] if dim is None else array, strict=True))
    return planes


def _is_on_pressure(dataset: xr.Dataset) -> bool:
    return "level" in dataset.dims and dataset["level"].attrs.get("standard_name") == "air_pressure"


def has_climatology(name: str) -> bool:
    """Whether a plane has anomalies: not the speed of wind, which is not the climatological mean of winds' speed."""
    return name.partition("@")[0] not in _NONLINEAR


def cannot_hold(file: ForecastFile, name: str) -> bool:
    """Whether a plane is not scored of this file: no wind speed where winds of opposite directions have cancelled."""
    return file.is_damped and not has_climatology(name)


def units_of(name: str, store: Store) -> str:
    """SI unit of a verified variable, by the name of its plane."""
    variable = name.partition("@")[0]
    held = {v.name: v.units for v in store.spec.variables}
    facts = known(variable)
    return held.get(variable) or (facts.units if facts else "1")
