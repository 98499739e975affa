"""What the wind brings: every field at the place that the air comes from, as further input of a network.

Much of what changes in a step was elsewhere before. A network would have to make products of winds and gradients out of
convolutions to carry it along. Shown each field where its air was a step ago, less the field here, it need only learn
what happens on the way (semi-Lagrangian advection: Staniforth and Cote 1991,
doi:10.1175/1520-0493(1991)119<2206:SLISFA>2.0.CO;2).

Half way back the air had the wind that blows there (Ritchie 1987), which is interpolated linearly. Winds are carried as
vectors, at 10 m too. What air that rises or sinks would change (``vertical_motion``) is looked up half way, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_prep.errors import ConfigError
from data_prep.grid import EARTH_RADIUS, Grid
from data_prep.spec import Channel, StateSpec
from data_prep.variables import WINDS
from emulator.hardware.platforms import by_platform
from emulator.models.convolution import POLE_TOLERANCE_DEG, Boundary, pad_sphere
from emulator.stepping.pytree import pytree
from emulator.stepping.vectors import Fields, OnLevels, Vectors, components, dot
from emulator.stepping.vertical_motion import MOST_SHOWN, VerticalMotion


@pytree
@dataclass(frozen=True)
class Advection:
    """Carries the prognostic channels along with the winds among them. A pytree: arrays are data.

    Attributes:
      latitude: Of the rows with those beyond the edges, degrees.
      bins: Of latitude, as wide as each other and no wider than rows are apart: the last row that lies before each.
      longitude: Degrees.
      seconds: How long each of the network's steps is, ``(time_step,)``.
      places: Of every point of the grid and those beyond the edges: where it stands in the grid, row by row.
      periodic: Whether longitudes go round the globe.
      winds: The channels of both components by level.
      others: The other channels that go with each of them, those on levels first; the first wind fills up where they
        are fewer. Behind the channels of the state come the third components of the winds of ``surface_winds``.
      surface_winds: The channels of both components of each wind on a surface, such as that at 10 m.
      over_poles: Whether latitudes go on over the poles.
      cubic: Whether what is carried is interpolated by cubic polynomials (Lagrange), not linearly.
      vertical: What rising and sinking changes, if that is shown as well.
    """

    latitude: Float[Array, " padded_lat"]
    bins: Int[Array, " bin"]
    longitude: Float[Array, " lon"]
    seconds: Float[Array, " time_step"]
    places: Int[Array, "padded_lat padded_lon"]
    periodic: bool = field(metadata={"static": True})
    winds: tuple[tuple[int, ...], tuple[int, ...]] = field(metadata={"static": True})
    others: tuple[tuple[int, ...], ...] = field(metadata={"static": True})
    surface_winds: tuple[tuple[int, int], ...] = field(metadata={"static": True})
    over_poles: bool = field(metadata={"static": True})
    cubic: bool = field(metadata={"static": True})
    vertical: VerticalMotion | None

    @classmethod
    def of(
        cls,
        spec: StateSpec,
        grid: Grid,
        steps: Sequence[np.timedelta64],
        *,
        cubic: bool = False,
        vertical_motion: bool = False,
    ) -> Advection:
        """For the states of a spec on a grid, and steps of these lengths.

        Fields on one surface go with the wind of the lowest level.

        Raises:
          ConfigError: a level has no winds, air cannot be followed on the grid, or vertical motion does not follow from
            what the state holds.
        """
        if (obstacle := obstacle_to_advection(spec, grid)) is not None:
            raise ConfigError(f"model.advection: {obstacle}")
        channels = spec.state_channels[: spec.n_prognostic]
        levels = _levels(channels)
        eastward, northward = (tuple(channels.index(Channel(name, z)) for z in levels) for name in WINDS)
        by_level: list[list[int]] = [[] for _ in levels]
        on_levels = sorted(range(len(channels)), key=lambda i: channels[i].level is None)  # before those on a surface
        for i in on_levels:
            if channels[i].variable not in WINDS:
                level = channels[i].level
                by_level[-1 if level is None else levels.index(level)].append(i)
        surface_winds = _surface_winds(channels)
        by_level[-1] += range(len(channels), len(channels) + len(surface_winds))
        most = max(map(len, by_level))
        boundary = Boundary.of(grid)
        latitude = _padded(np.asarray(grid.latitude), boundary)
        longitude = np.asarray(grid.longitude, np.float32)
        seconds = np.array([step / np.timedelta64(1, "s") for step in steps], np.float32)
        return cls(
            jax.device_put(latitude.astype(np.float32)),  # other ways onto a device compile a program for every shape
            jax.device_put(_bins(latitude)),
            jax.device_put(longitude),
            jax.device_put(seconds),
            _padded_places(grid, boundary, 1 + cubic),
            boundary.periodic,
            (eastward, northward),
            tuple((*found, *[eastward[0]] * (most - len(found))) for found in by_level),
            surface_winds,
            boundary.pole_rows is not None,
            cubic,
            VerticalMotion.of(spec) if vertical_motion else None,
        )

    @property
    def channels(self) -> np.ndarray:
        """Of which prognostic channels a call returns what."""
        (eastward, northward), others = self.winds, np.array(self.others, int)
        everything = np.unique([*eastward, *northward, *others.ravel()])
        everything = everything[: everything.size - len(self.surface_winds)]
        if self.vertical is None:
            return everything
        return np.concatenate([everything, np.sort([*eastward, *northward, *others[:, : self.vertical.n].ravel()])])

    @property
    def bounds(self) -> np.ndarray:
        """What is shown of each of these channels at most, in standard deviations of its change over a step."""
        vertical = 0 if self.vertical is None else (2 + self.vertical.n) * len(self.others)
        return np.repeat(np.array([np.inf, MOST_SHOWN], np.float32), [self.channels.size - vertical, vertical])

    def __call__(
        self, fields: Float[Array, "batch lat lon channel"], which: Int[Array, " batch"]
    ) -> Float[Array, "batch lat lon shown"]:
        """What the wind would change in a step: fields where the air comes from, less fields here.

        With vertical motion that follows, for fields on levels: what rising and sinking on the way would change. No
        gradient goes through where that is, for it would be that of a linear interpolation, which jumps from cell to
        cell; through the fields there it does.

        Args:
          fields: The prognostic channels, physical units.
          which: How long the step of each state is, by its place in ``seconds``.
        """
        _, east, north = self._frame()
        # XLA would interpolate anew for every channel that is put in its place below. A loop over states keeps the two
        # apart: on a CPU that halves the time, on accelerators turns of a loop would wait for each other.
        found, passed = by_platform(
            fields, self.seconds[which], cpu=partial(_one_by_one, self._carry), default=self._carry
        )
        shown = [self._without_vectors(self._as_channels(found, east, north), east, north) - fields]
        if self.vertical is not None:
            shown.append(self._as_channels(passed, east, north))
        return jnp.concatenate(shown, axis=-1)

    def _carry(
        self, fields: Float[Array, "batch lat lon channel"], seconds: Float[Array, " batch"]
    ) -> tuple[OnLevels, OnLevels]:
        """Fields where the air comes from, and what rising and sinking would change, which is nothing without it."""
        seconds = seconds[:, None, None, None]
        half = seconds / 2 / EARTH_RADIUS
        here, east, north = self._frame()
        (eastward, northward), others = np.array(self.winds), np.array(self.others, int)
        wind = [fields[..., eastward] * e + fields[..., northward] * n for e, n in zip(east, north, strict=True)]
        together = jnp.concatenate([jnp.stack(wind, axis=-1), self._with_vectors(fields, east, north)[..., others]], -1)
        shown = together[..., :3]
        if self.vertical is not None:
            on_levels = together[..., : 3 + self.vertical.n]
            changes = self.vertical(on_levels, fields[..., self.vertical.surface_pressure], east, north, self._slopes)
            shown = jnp.concatenate([shown, seconds[..., None] * changes], axis=-1)

        half_way = _unit([x - half * w for x, w in zip(here, wind, strict=True)])
        passed = self._at(shown, half_way, east, _linear)
        wind = components(passed)
        angle = jnp.maximum(half * jnp.sqrt(dot(wind, wind)), 1e-6)
        chord = half * jnp.sin(angle) / angle  # the wind there is no tangent here
        half_way = _unit([x - chord * w for x, w in zip(here, wind, strict=True)])
        twice = 2 * dot(here, half_way)
        there = [twice * x - y for x, y in zip(half_way, here, strict=True)]
        return self._at(together, there, east, _cubic if self.cubic else _linear), passed[..., 3:]

    def _as_channels(self, on_levels: OnLevels, east: Vectors, north: Vectors) -> Float[Array, "batch lat lon channel"]:
        """Winds and what goes with them as channels, in the order of the state."""
        wind, n = components(on_levels), on_levels.shape[-1] - 3
        places = np.concatenate([*map(np.array, self.winds), np.array(self.others, int)[:, :n].ravel()])
        scalars = on_levels[..., 3:].reshape(*on_levels.shape[:3], -1)
        channels = jnp.concatenate([dot(wind, east), dot(wind, north), scalars], axis=-1)
        return channels[..., np.unique(places, return_index=True)[1]]

    def _with_vectors(self, fields: Float[Array, "batch lat lon channel"], east: Vectors, north: Vectors) -> Array:
        """Two components of each wind on a surface in the places of the two it had; the third behind all channels."""
        for u, v in self.surface_winds:
            x, y, z = (fields[..., [u]] * e + fields[..., [v]] * n for e, n in zip(east, north, strict=True))
            changed = fields.at[..., u].set(x[..., 0]).at[..., v].set(y[..., 0])
            fields = jnp.concatenate([changed, z], axis=-1)
        return fields

    def _without_vectors(self, fields: Array, east: Vectors, north: Vectors) -> Float[Array, "batch lat lon channel"]:
        """The channels of the state again."""
        n = fields.shape[-1] - len(self.surface_winds)
        for i, (u, v) in enumerate(self.surface_winds, n):
            vector = [fields[..., [channel]] for channel in (u, v, i)]
            fields = fields.at[..., u].set(dot(vector, east)[..., 0]).at[..., v].set(dot(vector, north)[..., 0])
        return fields[..., :n]

    def _slopes(
        self, fields: Float[Array, "batch lat lon field"]
    ) -> tuple[Float[Array, "batch lat lon field"], Float[Array, "batch lat lon field"]]:
        """Differences over two cells, eastward and northward, a metre; at a side over one, on a row at a pole none."""
        flat = fields.reshape(fields.shape[0], -1, fields.shape[-1])

        def beside(i: int, j: int) -> Array:
            (n_lat, n_lon), first = fields.shape[1:3], 1 + self.cubic
            return flat[:, self.places[first + i : first + i + n_lat, first + j : first + j + n_lon]]

        latitude, cells = jnp.radians(self.latitude), jnp.full(self.longitude.size, 2.0)
        if not self.over_poles:  # beyond a side lies what is at it
            latitude = jnp.concatenate([latitude[1:2], latitude[1:-1], latitude[-2:-1]])
        if not self.periodic:
            cells = cells.at[jnp.array([0, -1])].set(1.0)
        inner = jnp.abs(self.latitude[1:-1]) < 90 - POLE_TOLERANCE_DEG
        width = cells * jnp.radians(self.longitude[1] - self.longitude[0]) * jnp.cos(latitude[1:-1, None])
        height = (latitude[2:] - latitude[:-2])[:, None]
        a_cell = [jnp.where(inner[:, None], 1 / (EARTH_RADIUS * x), 0.0)[..., None] for x in (width, height)]
        return (beside(0, 1) - beside(0, -1)) * a_cell[0], (beside(1, 0) - beside(-1, 0)) * a_cell[1]

    def _frame(self) -> tuple[Vectors, Vectors, Vectors]:
        """To every point, and to the east and north there, ``(lat, lon, 1)`` or ``(lon, 1)`` each."""
        latitude, longitude = jnp.radians(self.latitude[1:-1])[:, None, None], jnp.radians(self.longitude)[:, None]
        sine, cosine = jnp.sin(latitude), jnp.cos(latitude)
        outward = jnp.cos(longitude), jnp.sin(longitude)
        east = [-outward[1], outward[0], jnp.zeros_like(longitude)]
        return [*(cosine * x for x in outward), sine], east, [*(-sine * x for x in outward), cosine]

    def _at(
        self, fields: OnLevels, there: Vectors, east: Vectors, weights: Callable[[Array], Mapping[int, Array]]
    ) -> OnLevels:
        """All channels of a level at the points of the level, by the points around that have weights."""
        row, column = (x + self.cubic for x in self._cell(there, east))
        n_rows, n_columns = self.places.shape
        south = jnp.floor(row).astype(jnp.int32).clip(int(self.cubic), n_rows - 2 - self.cubic)
        west = jnp.floor(column).astype(jnp.int32).clip(int(self.cubic), n_columns - 2 - self.cubic)
        batch, *_, n_levels, n = fields.shape
        flat = fields.reshape(batch, -1, n)
        take = jax.vmap(lambda state, place: jnp.take(state, place, axis=0, mode="clip"))  # each device its own states

        def beside(i: int, j: int) -> Array:
            place = n_levels * self.places[south + i, west + j] + jnp.arange(n_levels)
            return take(flat, place.reshape(batch, -1)).reshape(fields.shape)

        northward, eastward = weights((row - south)[..., None]), weights((column - west)[..., None])
        return _sum(a * _sum(b * beside(i, j) for j, b in eastward.items()) for i, a in northward.items())

    def _cell(self, there: Vectors, east: Vectors) -> tuple[Fields, Fields]:
        """Row and column in the padded grid of the points to which unit vectors go from those of ``_frame``."""
        x, y, z = (jax.lax.stop_gradient(component) for component in there)
        latitude = jnp.degrees(jnp.arcsin(jnp.clip(z, -1, 1)))
        row = self._row(latitude)
        if not self.over_poles:
            row = row.clip(1, self.latitude.size - 2)
        turn = jnp.degrees(jnp.arctan2(x * east[0] + y * east[1], x * east[1] - y * east[0]))
        n = self.longitude.size
        column = jnp.arange(n)[:, None] + turn / (self.longitude[1] - self.longitude[0])
        column = column % n if self.periodic else column.clip(0, n - 1)
        return row, column + 1

    def _row(self, latitude: Fields) -> Fields:
        """Where latitudes stand among the rows. ``jnp.interp`` would search them, in a loop."""
        first, last = self.latitude[0], self.latitude[-1]
        each = ((latitude - first) * (self.bins.size / (last - first))).astype(jnp.int32)
        row = jnp.take(self.bins, each, mode="clip")
        row += latitude >= jnp.take(self.latitude, row + 1)
        row = jnp.minimum(row, self.latitude.size - 2)
        south, north = (jnp.take(self.latitude, row + i) for i in (0, 1))
        return row + (latitude - south) / (north - south)


def _one_by_one(work: Callable[[Array, Array], tuple[Array, Array]], *batch: Array) -> tuple[Array, Array]:
    """What ``work`` makes of a batch, of which it is given one at a time."""
    made: tuple[Array, Array] = jax.lax.map(lambda each: work(*(x[None] for x in each)), batch)
    return made[0][:, 0], made[1][:, 0]


def obstacle_to_advection(spec: StateSpec, grid: Grid) -> str | None:
    """Why states of a spec cannot be carried along on a grid; ``None`` where they can."""
    channels = spec.state_channels[: spec.n_prognostic]
    levels = _levels(channels)
    lacking = next((c.name for c in (Channel(n, z) for z in levels for n in WINDS) if c not in channels), None)
    if lacking is not None or not levels:
        lacking = lacking or f"{' and '.join(WINDS)} at some level"
        return f"needs the winds at every level; {lacking} is not among data.prognostic"
    if grid.is_global and grid.shape[1] % 2:
        return f"the way over a pole needs an even number of longitudes, there are {grid.shape[1]} (data.regrid)"
    if grid.unevenness is not None:
        return f"{grid.unevenness} (data.regrid)"
    return None


def _surface_winds(channels: Sequence[Channel]) -> tuple[tuple[int, int], ...]:
    """Pairs of channels such as 10m_u_component_of_wind and 10m_v_component_of_wind."""
    east, north = WINDS
    on_surface = {c.name: i for i, c in enumerate(channels) if c.level is None}
    pairs = (
        (i, on_surface.get(name.removesuffix(east) + north)) for name, i in on_surface.items() if name.endswith(east)
    )
    return tuple((u, v) for u, v in pairs if v is not None)


def _levels(channels: Sequence[Channel]) -> list[float]:
    return sorted({c.level for c in channels if c.level is not None})


def _padded(latitude: np.ndarray, boundary: Boundary) -> np.ndarray:
    """Latitudes with one beyond either edge: the way goes on over a pole, or as far as before."""
    if boundary.pole_rows is None:
        south, north = 2 * latitude[0] - latitude[1], 2 * latitude[-1] - latitude[-2]
    else:
        first, last = boundary.pole_rows
        south, north = -180 - latitude[first], 180 - latitude[-1 - last]
    return np.concatenate([[south], latitude, [north]])


def _bins(latitude: np.ndarray) -> np.ndarray:
    """As ``Advection.bins``, of so many that each holds one row at most."""
    span = latitude[-1] - latitude[0]
    n = int(np.ceil(span / np.diff(latitude).min())) + 1
    starts = latitude[0] + span / n * np.arange(n)
    return np.asarray(np.searchsorted(latitude, starts, side="right") - 1, np.int32)


@partial(jax.jit, static_argnums=(0, 1, 2))  # or each of its operations would be loaded at the start of a training
def _padded_places(grid: Grid, boundary: Boundary, by: int) -> Int[Array, "padded_lat padded_lon"]:
    """Which point of the grid each of the grid repeats that goes on beyond its edges by so many rows and columns."""
    rows_columns = jnp.stack(jnp.indices(grid.shape, jnp.float32), axis=-1)
    padded = pad_sphere(rows_columns[None], (by, by), (by, by), boundary)[0]
    row, column = jnp.moveaxis(padded, -1, 0).astype(jnp.int32)
    return row * grid.shape[1] + column


def _linear(t: Array) -> dict[int, Array]:
    """Weights of the points around, by their place from the one before, a share ``t`` of the way to the next."""
    return {0: 1 - t, 1: t}


def _cubic(t: Array) -> dict[int, Array]:
    """The same of the polynomial through four points."""
    before, after, last = t + 1, t - 1, t - 2
    outer, inner = t * after / 6, before * last / 2
    return {-1: -outer * last, 0: inner * after, 1: -inner * t, 2: outer * before}


def _unit(vectors: Vectors) -> list[Array]:
    length = jnp.sqrt(dot(vectors, vectors))
    return [x / length for x in vectors]


def _sum(parts: Iterable[Array]) -> Array:
    return reduce(operator.add, parts)
