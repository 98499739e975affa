"""What a state holds: variables, levels and roles, and the one codec between named fields and channel tensors.

Names are ERA5's long names as WeatherBench-2 writes them (``temperature``, ...). Fields are SI.
Channels are found by (variable, level), never by position: ``StateSpec`` fixes the order once and everybody asks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from data_prep.errors import DataError
from data_prep.grid import Grid

if TYPE_CHECKING:
    import dask.array
    import xarray as xr  # both slow to import, and training does without them

Role = Literal["prognostic", "diagnostic", "forcing", "static"]
Vertical = Literal["pressure", "sigma"]
Known = Literal["computed", "climatological", "persisted", "lateral"]

VERTICAL_ATTRS: dict[Vertical, dict[str, str]] = {
    "pressure": {
        "standard_name": "air_pressure",
        "long_name": "pressure",
        "units": "hPa",
        "positive": "down",
        "axis": "Z",
    },
    "sigma": {
        "standard_name": "atmosphere_sigma_coordinate",
        "long_name": "pressure over surface pressure",
        "units": "1",
        "positive": "down",
        "axis": "Z",
    },
}

CONVENTIONS = "CF-1.11"
"""What every file that is written says of itself."""

CALENDAR_ATTRS = {"calendar": "proleptic_gregorian", "units_metadata": "leap_seconds: none"}
"""What CF wants to know of numbers that count time."""

PRESSURE_AT_TOP = "pressure_at_top"
"""The scalar, zero, that the formula of sigma levels names."""


def sigma_formula(axis: str) -> dict[str, str]:
    """How pressure follows from sigma levels, as attributes of their axis in a file with surface pressure."""
    terms = f"sigma: {axis} ps: surface_pressure ptop: {PRESSURE_AT_TOP}"
    return {"computed_standard_name": "air_pressure", "formula_terms": terms}


def unit_attrs(units: str) -> dict[str, str]:
    """The unit of a field as CF wants it: of a temperature also that it is one and no difference of two."""
    return {"units": units} | ({"units_metadata": "temperature: on_scale"} if units == "K" else {})


@dataclass(frozen=True)
class Variable:
    """One field of the state.

    Attributes:
      name: Canonical name.
      role: ``prognostic`` (in and out of the network), ``diagnostic`` (out only), ``forcing`` (in, at valid time) or
        ``static`` (in, constant).
      levels: Level values, top first (hPa or sigma); empty for a field on one surface.
      units: SI unit of the field.
      standard_name: CF standard name, empty where CF has none.
      minimum: Physical lower bound applied to truth, inputs and every forecaster alike (humidity, rain), or ``None``.
      known: For a forcing, how its value at valid time is known at initial time: ``computed`` from time and place,
        ``climatological`` (a table by day of year), ``persisted`` from the initial time, or ``lateral``: as a driving
        data set says, in the rim of a regional grid.
      pressure: hPa of the one pressure surface that a field without ``levels`` lies on, as all its files say; else
        ``None``.
    """

    name: str
    role: Role
    levels: tuple[float, ...] = ()
    units: str = "1"
    standard_name: str = ""
    minimum: float | None = None
    known: Known | None = None
    pressure: float | None = None

    def __post_init__(self) -> None:
        if (self.role == "forcing") != (self.known is not None):
            raise DataError(f"variable {self.name}: 'known' belongs to forcings and only to them (role {self.role})")
        if any(a >= b for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise DataError(f"variable {self.name}: levels must ascend from the top down, got {list(self.levels)}")

    @property
    def channels(self) -> tuple[Channel, ...]:
        """One for each level, or the one of a field on one surface."""
        return tuple(Channel(self.name, level) for level in (self.levels or (None,)))


@dataclass(frozen=True)
class Channel:
    """One two-dimensional slice of the state: a variable at a level (``None`` for a surface field)."""

    variable: str
    level: float | None

    @property
    def name(self) -> str:
        """``temperature@850`` or ``surface_pressure``."""
        return self.variable if self.level is None else f"{self.variable}@{self.level:g}"


@dataclass(frozen=True)
class StateSpec:
    """The variables of a state in their order, and the vertical coordinate that their levels belong to. Hashable.

    Three channel orders follow from it:
      * state: prognostic, then diagnostic channels (what the store's ``state`` array and the network's output hold);
      * forcing: forcing channels at valid time;
      * static: constant channels.
    """

    variables: tuple[Variable, ...]
    vertical: Vertical | None = None

    def __post_init__(self) -> None:
        names = [v.name for v in self.variables]
        duplicates = sorted({n for n in names if names.count(n) > 1})
        if duplicates:
            raise DataError(f"spec: variables named twice: {', '.join(duplicates)}")
        if self.vertical is None and any(v.levels for v in self.variables):
            raise DataError("spec: variables with levels need a vertical coordinate ('pressure' or 'sigma')")

    def with_role(self, *roles: Role) -> tuple[Variable, ...]:
        """The variables of these roles, role by role in the order asked, file order within a role."""
        return tuple(v for role in roles for v in self.variables if v.role == role)

    def channels(self, *roles: Role) -> tuple[Channel, ...]:
        """The channels of these roles in tensor order."""
        return tuple(channel for v in self.with_role(*roles) for channel in v.channels)

    @cached_property
    def state_variables(self) -> dict[str, Variable]:
        """Prognostic, then diagnostic variables, by name."""
        return {v.name: v for v in self.with_role("prognostic", "diagnostic")}

    @cached_property
    def state_channels(self) -> tuple[Channel, ...]:
        """Prognostic, then diagnostic channels: the last axis of every state tensor."""
        return self.channels("prognostic", "diagnostic")

    @cached_property
    def n_prognostic(self) -> int:
        """How many leading state channels are prognostic."""
        return len(self.channels("prognostic"))

    @cached_property
    def forcing_channels(self) -> tuple[Channel, ...]:
        """Forcing channels: the last axis of every forcing tensor."""
        return self.channels("forcing")

    def known_channels(self, *known: Known) -> tuple[Channel, ...]:
        """The forcing channels that are known in one of these ways, in tensor order."""
        return tuple(c for c in self.forcing_channels if self[c.variable].known in known)

    @cached_property
    def given_channels(self) -> tuple[Channel, ...]:
        """Persisted and lateral forcing channels, which cannot be computed: the last axis of ``Store.persisted``."""
        return self.known_channels("persisted", "lateral")

    @cached_property
    def static_channels(self) -> tuple[Channel, ...]:
        """Static channels: the last axis of the static tensor."""
        return self.channels("static")

    @cached_property
    def state_minimum(self) -> np.ndarray:
        """Lower bound per state channel, ``-inf`` where there is none, float32 ``(state,)``."""
        by_name = {v.name: v.minimum for v in self.variables}
        return np.array(
            [-np.inf if by_name[c.variable] is None else by_name[c.variable] for c in self.state_channels], np.float32
        )

    def __getitem__(self, name: str) -> Variable:
        for v in self.variables:
            if v.name == name:
                return v
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """JSON form; ``from_dict`` is its inverse."""
        variables = [asdict(v) for v in self.variables]
        for variable in variables:
            if variable["pressure"] is None:  # as it was before there was one: hashes are of this form
                del variable["pressure"]
        return {"vertical": self.vertical, "variables": variables}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StateSpec:
        """Inverse of ``to_dict``."""
        variables = tuple(Variable(**{**v, "levels": tuple(v["levels"])}) for v in data["variables"])
        return cls(variables, data["vertical"])


def stack_channels(dataset: xr.Dataset, channels: Iterable[Channel], *, source: str = "dataset") -> np.ndarray:
    """Named fields to one float32 tensor ``(..., latitude, longitude, channel)``.

    Leading dimensions are those of the data set beside level, ``latitude`` and ``longitude``, in the order
    ``init_time, realization, lead_time, time`` where present. Levels are selected by value (tolerance 1e-4 relative).

    Raises:
      DataError: a variable or a level is missing; the message lists what is missing and what there is.
    """
    channels = tuple(channels)
    missing = sorted({c.variable for c in channels} - set(map(str, dataset.data_vars)))
    if missing:
        raise DataError(
            f"{source}: missing {', '.join(missing)}; it holds {', '.join(map(str, dataset.data_vars)) or 'nothing'}"
        )
    order = [d for d in ("init_time", "realization", "lead_time", "time") if d in dataset.dims]
    planes: list[np.ndarray] = []
    for channel in channels:
        field = dataset[channel.variable]
        lead = [d for d in order if d in field.dims]
        dim = level_dim(field)
        if channel.level is not None:
            if dim is None:
                raise DataError(
                    f"{source}: {channel.variable} has no level dimension, level {channel.level:g} was asked for"
                )
            row = find_levels(f"{source}: {channel.variable}", field[dim].values, [channel.level])[0]
            field = field.isel({dim: row})
        elif dim is not None:
            raise DataError(f"{source}: {channel.variable} has levels, but a surface field was asked for")
        extra = [str(d) for d in field.dims if d not in (*lead, "latitude", "longitude")]
        if extra:
            raise DataError(f"{source}: {channel.variable} has unexpected dimensions {', '.join(extra)}")
        planes.append(np.asarray(field.transpose(*lead, "latitude", "longitude").values, dtype=np.float32))
    return np.stack(planes, axis=-1)


def unstack_channels(
    array: np.ndarray | dask.array.Array,
    spec: StateSpec,
    channels: tuple[Channel, ...],
    grid: Grid,
    coords: Mapping[str, Any],
) -> xr.Dataset:
    """Inverse of ``stack_channels``: tensor ``(*coords, latitude, longitude, channel)`` to named CF fields.

    Args:
      array: The tensor, which may be lazy; its leading axes are those of ``coords`` in their order.
      spec: Gives units, standard names and the vertical coordinate.
      channels: What the last axis holds.
      grid: Gives latitude and longitude.
      coords: Leading coordinates by name (``{"init_time": ..., "lead_time": ...}``); may be empty.

    Returns:
      Data set with dims ``(*coords[, level], latitude, longitude)``; variables on another set of levels than the first
      get an axis of their own, ``level_2``. Nothing in it shares memory with the tensor.
    """
    fields = {name: field.copy() for name, field in split_channels(array, channels).items()}
    return named_fields(fields, spec, channels, grid, coords)


def split_channels(array: Any, channels: tuple[Channel, ...]) -> dict[str, Any]:
    """A tensor ``(..., latitude, longitude, channel)`` by variable: ``(...[, level], latitude, longitude)``, as views.

    Takes arrays of NumPy, Dask and, within a compiled function, JAX. Channels of a variable stand together.
    """
    fields: dict[str, Any] = {}
    first = 0
    for name, of_variable in groupby(channels, key=lambda channel: channel.variable):
        levels = [channel.level for channel in of_variable]
        planes = np.moveaxis(array[..., first : first + len(levels)], -1, -3)
        fields[name] = planes[..., 0, :, :] if levels[0] is None else planes
        first += len(levels)
    return fields


def named_fields(
    fields: Mapping[str, Any], spec: StateSpec, channels: tuple[Channel, ...], grid: Grid, coords: Mapping[str, Any]
) -> xr.Dataset:
    """What ``unstack_channels`` returns, of what ``split_channels`` does."""
    import xarray as xr

    axes: dict[tuple[float, ...], str] = {}
    data: dict[str, Any] = {}
    for name, field in fields.items():
        variable = spec[name]
        attrs = unit_attrs(variable.units) | {"long_name": name.replace("_", " ")}
        if variable.standard_name:
            attrs["standard_name"] = variable.standard_name
        dims = ["latitude", "longitude"]
        if variable.levels:
            levels = tuple(float(c.level) for c in channels if c.variable == name and c.level is not None)
            dims.insert(0, axes.setdefault(levels, "level" if not axes else f"level_{len(axes) + 1}"))
        data[name] = ((*coords, *dims), field, attrs)
    level_attrs = VERTICAL_ATTRS[spec.vertical] if spec.vertical else {}
    of_levels = {dim: (dim, np.asarray(levels), level_attrs) for levels, dim in axes.items()}
    return xr.Dataset(data, coords={**coords, **grid_coords(grid), **of_levels})


def find_levels(what: str, have: Sequence[float] | np.ndarray, wanted: Sequence[float], why: str = "") -> list[int]:
    """Where levels lie among those that there are, to a ten-thousandth.

    Args:
      what: Has levels, for the message.
      have: In any order.
      wanted: Likewise.
      why: They are wanted, for the message.

    Raises:
      DataError: some are missing, or there twice.
    """
    hits = [np.flatnonzero(np.isclose(np.asarray(have, np.float64), level, rtol=1e-4, atol=0)) for level in wanted]
    missing = [f"{level:g}" for level, hit in zip(wanted, hits, strict=True) if hit.size != 1]
    if missing:
        there = ", ".join(f"{level:g}" for level in have) or "none"
        raise DataError(f"{what} lacks level {', '.join(missing)}{why}; it has {there}")
    return [int(hit[0]) for hit in hits]


def level_dim(field: xr.DataArray) -> str | None:
    """The vertical dimension of a canonical field: ``level``, or ``level_2`` where variables differ in their levels."""
    return next((str(d) for d in field.dims if str(d).startswith("level")), None)


def grid_coords(grid: Grid) -> dict[str, Any]:
    """CF latitude and longitude coordinates of a grid, float64 degrees."""
    return {
        "latitude": (
            "latitude",
            np.asarray(grid.latitude),
            {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north", "axis": "Y"},
        ),
        "longitude": (
            "longitude",
            np.asarray(grid.longitude),
            {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east", "axis": "X"},
        ),
    }
