"""What drives the atmosphere from outside and is known at initial time: sun, clock, calendar, boundary tables.

Training and forecasting build forcings with this one class, so a network is trained on exactly what a forecast will
see: computed forcings from time and place, climatological ones from a table by day of year, persisted ones kept at
their initial value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from data_prep.clock import CALENDAR_DAYS, DAY_SECONDS, day_of_year, days_since_j2000, seconds_of_day, year_fraction
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.lateral import Rim
from data_prep.spec import Channel, StateSpec, Variable

SOLAR_CONSTANT = 1361.0
"""Total solar irradiance at one astronomical unit in W m-2 (Kopp and Lean 2011)."""


COMPUTED_FORCINGS: dict[str, tuple[Variable, ...]] = {
    "toa_incident_solar_radiation": (
        Variable(
            "toa_incident_solar_radiation",
            "forcing",
            units="W m-2",
            standard_name="toa_incoming_shortwave_flux",
            known="computed",
        ),
    ),
    "daily_mean_toa_incident_solar_radiation": (
        Variable(
            "daily_mean_toa_incident_solar_radiation",
            "forcing",
            units="W m-2",
            standard_name="toa_incoming_shortwave_flux",
            known="computed",
        ),
    ),
    "day_progress": (
        Variable("day_progress_sin", "forcing", known="computed"),
        Variable("day_progress_cos", "forcing", known="computed"),
    ),
    "year_progress": (
        Variable("year_progress_sin", "forcing", known="computed"),
        Variable("year_progress_cos", "forcing", known="computed"),
    ),
}
"""Forcing variables that each entry of the config's ``data.computed`` stands for."""

COORDINATE_VARIABLES = (
    Variable("sin_latitude", "static"),
    Variable("cos_latitude_sin_longitude", "static"),
    Variable("cos_latitude_cos_longitude", "static"),
)
"""Static variables of ``coordinates``: the point on the unit sphere, free of seams and poles."""


@dataclass(frozen=True, eq=False)
class ForcingBuilder:
    """Builds forcing tensors for any times.

    Attributes:
      grid: Where.
      spec: Which forcing channels, and how each is known.
      timestep: Model step; solar radiation is the mean over the step that ends at a time.
      table: Climatological channels by day of year in raw units, float32 ``(366, latitude, longitude, channel)``.
      rim: Where lateral values are given; ``None`` where the spec has none.
    """

    grid: Grid
    spec: StateSpec
    timestep: np.timedelta64
    table: np.ndarray = field(repr=False)
    rim: Rim | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        expected = (CALENDAR_DAYS, *self.grid.shape, len(self.climatological_channels))
        if self.table.shape != expected:
            raise DataError(f"forcing table: shape {self.table.shape}, expected {expected}")
        unknown = [v.name for v in self.spec.with_role("forcing") if v.known == "computed" and v.name not in _COMPUTE]
        if unknown:
            raise DataError(f"forcing: no rule computes {', '.join(unknown)}; there are {', '.join(_COMPUTE)}")

    @cached_property
    def climatological_channels(self) -> tuple[Channel, ...]:
        """The table's channels in order."""
        return self.spec.known_channels("climatological")

    @cached_property
    def is_lateral(self) -> np.ndarray:
        """Which of ``spec.given_channels`` are lateral, bool ``(given,)``."""
        return np.array([self.spec[c.variable].known == "lateral" for c in self.spec.given_channels], bool)

    def at(self, times: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
        """Forcings at these times.

        Args:
          times: ``datetime64``, shape ``(time,)``; they need not be ordered.
          given: Persisted channels at initial time and lateral channels at valid time in raw units, shape
            ``(latitude, longitude, given)``, or one field a time, ``(time, latitude, longitude, given)``. May be left
            out where the spec has none.

        Returns:
          Raw units, float32, shape ``(time, latitude, longitude, forcing)`` in the order of ``spec.forcing_channels``.

        Raises:
          DataError: given fields are missing or have another shape.
        """
        times = np.asarray(times, "datetime64[ns]")
        given = self._given(times.size, given)
        out = np.empty((times.size, *self.grid.shape, len(self.spec.forcing_channels)), np.float32)
        days = day_of_year(times) - 1
        for i, channel in enumerate(self.spec.forcing_channels):
            known = self.spec[channel.variable].known
            if known == "computed":
                out[..., i] = _COMPUTE[channel.variable](self.grid, times, self.timestep)
            elif known == "climatological":
                out[..., i] = self.table[days, ..., self.climatological_channels.index(channel)]
            else:
                out[..., i] = given[..., self.spec.given_channels.index(channel)]
        return out

    def _given(self, n_times: int, given: np.ndarray | None) -> np.ndarray:
        """One field a time; lateral channels are the state's mean beyond the rim."""
        shape = (n_times, *self.grid.shape, len(self.spec.given_channels))
        if given is None:
            if names := ", ".join(c.name for c in self.spec.given_channels):
                raise DataError(f"forcing: the fields of {names} are needed")
            return np.empty(shape, np.float32)
        if given.shape not in (shape, shape[1:]):
            raise DataError(f"forcing: given fields have shape {given.shape}, expected {shape[1:]} or {shape}")
        if self.rim is not None:
            given = given.copy()
            given[..., self.is_lateral] = self.rim.fill(given[..., self.is_lateral])
        return np.broadcast_to(given, shape)

    def with_interior(self, mean: np.ndarray) -> ForcingBuilder:
        """The same, with the mean of the prognostic channels beyond the rim; as it is where there is none."""
        return self if self.rim is None else replace(self, rim=replace(self.rim, interior=mean))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Table and rim; grid, spec and time step are kept by whoever keeps this."""
        rim = {} if self.rim is None else {"rim_mask": self.rim.mask, "rim_interior": self.rim.interior}
        return {"table": self.table, **rim}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], grid: Grid, spec: StateSpec, timestep: np.timedelta64
    ) -> ForcingBuilder:
        """Inverse of ``to_arrays``."""
        rim = Rim(arrays["rim_mask"], arrays["rim_interior"]) if "rim_mask" in arrays else None
        return cls(grid, spec, timestep, np.asarray(arrays["table"], np.float32), rim)


def coordinate_fields(grid: Grid) -> np.ndarray:
    """The channels of ``COORDINATE_VARIABLES``: float32 ``(latitude, longitude, 3)``."""
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    fields = [np.broadcast_to(np.sin(lat), grid.shape), np.cos(lat) * np.sin(lon), np.cos(lat) * np.cos(lon)]
    return np.stack(fields, axis=-1).astype(np.float32)


def solar_radiation(grid: Grid, times: np.ndarray, timestep: np.timedelta64) -> np.ndarray:
    """Mean solar radiation on a horizontal surface at the top of the atmosphere over the step that ends at each time.

    Args:
      grid: Where.
      times: ``datetime64[ns]``, shape ``(time,)``.
      timestep: Length of the step.

    Returns:
      W m-2, float64, shape ``(time, latitude, longitude)``.
    """
    return _radiation(grid.latitude, grid.longitude, times, timestep)


def _radiation(
    latitude: Sequence[float], longitude: Sequence[float], times: np.ndarray, timestep: np.timedelta64
) -> np.ndarray:
    """As ``solar_radiation``, of degrees.

    ``S0 / r^2 * mean(max(0, sin(lat) sin(dec) + cos(lat) cos(dec) cos(h)))``: the hour angle ``h`` is integrated
    exactly over the step; declination, distance ``r`` and the equation of time are those of its middle, from the
    low-precision formulas of the Astronomical Almanac (declination good to 0.01 degrees between 1950 and 2050).
    """
    middle = times - timestep.astype("timedelta64[ns]") // 2
    declination_rad, distance_au, equation_of_time_rad = _sun(days_since_j2000(middle))
    lat = np.radians(latitude)
    along = np.sin(lat) * np.sin(declination_rad)[:, None]
    across = np.cos(lat) * np.cos(declination_rad)[:, None]
    # Hour angle of sunrise and sunset: 0 in polar night, pi under the midnight sun. At a pole `across` is some 1e-17.
    sunset = np.arccos(np.clip(-along / np.maximum(across, 1e-15), -1.0, 1.0))[..., None]
    a, b = along[..., None], across[..., None]
    full_day = 2 * (a * sunset + b * np.sin(sunset))

    def received(hour_angle: np.ndarray) -> np.ndarray:
        """Integral of the positive part from noon to this hour angle, any number of days on."""
        turns = np.round(hour_angle / (2 * np.pi))
        h = np.clip(hour_angle - 2 * np.pi * turns, -sunset, sunset)
        return turns * full_day + a * h + b * np.sin(h)

    end = 2 * np.pi * seconds_of_day(times)[:, None, None] / DAY_SECONDS - np.pi + np.radians(longitude)
    end = end + equation_of_time_rad[:, None, None]
    span = 2 * np.pi * (timestep / np.timedelta64(1, "D"))
    flux = SOLAR_CONSTANT / distance_au[:, None, None] ** 2 * (received(end) - received(end - span)) / span
    return np.maximum(flux, 0.0)  # differences of integrals leave -1e-13 at night


def _sun(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Declination (rad), distance (au), equation of time (rad) ``days`` after J2000 (Astronomical Almanac, C5)."""
    anomaly = np.radians(357.528 + 0.9856003 * days)
    mean_longitude = np.radians(280.460 + 0.9856474 * days)
    longitude = mean_longitude + np.radians(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.439 - 4e-7 * days)
    declination = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    right_ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    equation_of_time = (mean_longitude - right_ascension + np.pi) % (2 * np.pi) - np.pi
    distance = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return declination, distance, equation_of_time


def _local_day_angle(grid: Grid, times: np.ndarray) -> np.ndarray:
    """Mean local solar time as an angle from midnight, shape ``(time, 1, longitude)``."""
    return (2 * np.pi * seconds_of_day(times)[:, None] / DAY_SECONDS + np.radians(grid.longitude))[:, None, :]


def _year_angle(times: np.ndarray) -> np.ndarray:
    return 2 * np.pi * year_fraction(times)[:, None, None]


_COMPUTE: dict[str, Callable[[Grid, np.ndarray, np.timedelta64], np.ndarray]] = {
    "toa_incident_solar_radiation": solar_radiation,
    # for models whose sun does not rise and set, SPEEDY among them
    "daily_mean_toa_incident_solar_radiation": lambda grid, times, _: _radiation(  # all longitudes get the same
        grid.latitude, grid.longitude[:1], times, np.timedelta64(1, "D")
    ),
    "day_progress_sin": lambda grid, times, _: np.sin(_local_day_angle(grid, times)),
    "day_progress_cos": lambda grid, times, _: np.cos(_local_day_angle(grid, times)),
    "year_progress_sin": lambda grid, times, _: np.sin(_year_angle(times)),
    "year_progress_cos": lambda grid, times, _: np.cos(_year_angle(times)),
}
