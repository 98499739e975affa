"""A small made-up atmosphere in a store in memory: waves with the memory of days, on a seasonal trend."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import xarray as xr
from climatology_oracle import ClimatologyFit

from data_prep.grid import Grid
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Segment, Store, memory_store
from data_prep.spec import StateSpec, Variable, stack_channels, unstack_channels

STEP = np.timedelta64(6, "h").astype("timedelta64[ns]")
MEMORY = 0.93  # of the anomaly over 6 h
SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", (500.0, 850.0), "K", "air_temperature"),
        Variable("geopotential", "prognostic", (500.0,), "m2 s-2", "geopotential"),
        Variable("2m_temperature", "diagnostic", (), "K", "air_temperature"),
    ),
    "pressure",
)
SCALE = np.array([3.0, 4.0, 400.0, 3.0], np.float32)  # of the anomaly, by channel
MEAN = np.array([255.0, 280.0, 54000.0, 285.0], np.float32)


def with_state(store: Store, state: np.ndarray) -> Store:
    """The store with other states, whose rows are compared with no hash."""
    return replace(store, state=state, digests=np.empty((0, 0), np.uint8))


@cache
def waves(grid: Grid, count: int = 24) -> np.ndarray:
    """Smooth patterns of unit size ``(count, lat, lon)``."""
    rng = np.random.default_rng(0)
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    out = [np.cos(m * lon + p) * np.sin(j * lat + q) for m, j, p, q in rng.integers(1, 12, size=(count, 4))]
    return np.stack(out) / np.sqrt(count) * 2


def anomalies(rng: np.random.Generator, n: int, grid: Grid, scale: np.ndarray = SCALE) -> np.ndarray:
    """AR(1) amplitudes on the waves, ``(n, lat, lon, channel)``."""
    patterns = waves(grid)
    amplitude = np.empty((n, patterns.shape[0], scale.size))
    amplitude[0] = rng.normal(size=amplitude[0].shape)
    for t in range(1, n):
        amplitude[t] = MEMORY * amplitude[t - 1] + np.sqrt(1 - MEMORY**2) * rng.normal(size=amplitude[0].shape)
    return (np.einsum("twc,wyx->tyxc", amplitude, patterns, optimize=True) * scale).astype(np.float32)


@dataclass(frozen=True)
class World:
    """What a made-up atmosphere holds."""

    spec: StateSpec
    mean: np.ndarray  # by state channel
    scale: np.ndarray  # of the anomaly


ON_PRESSURE = World(SPEC, MEAN, SCALE)
SIGMA = (0.2, 0.5, 0.8, 0.95)
ON_SIGMA = World(
    StateSpec(
        (
            Variable("temperature", "prognostic", SIGMA, "K"),
            Variable("specific_humidity", "prognostic", SIGMA, "kg kg-1", minimum=0.0),
            Variable("surface_pressure", "prognostic", (), "Pa"),
            Variable("geopotential_at_surface", "static", (), "m2 s-2"),
        ),
        "sigma",
    ),
    np.array([220, 250, 272, 284, 1e-4, 1e-3, 4e-3, 8e-3, 1e5], np.float32),
    np.array([2, 3, 3, 3, 1e-5, 1e-4, 1e-3, 1e-3, 600], np.float32),
)


def make_store(
    grid: Grid | None = None, *, days: int = 40, splits=("train", "train", "test", "test"), world: World = ON_PRESSURE
) -> Store:
    """One season, so many members; each has years of its own."""
    grid = grid or Grid.gaussian(12)
    rng = np.random.default_rng(1)
    n = 4 * days
    segments, times, states = [], [], []
    for k, split in enumerate(splits):
        start = np.datetime64("2001-06-01", "ns") + k * np.timedelta64(1461, "D")
        member = start + np.arange(n) * STEP
        trend = world.mean + np.linspace(0, 1, n, dtype=np.float32)[:, None, None, None] * world.scale / 2
        states.append(np.maximum(trend + anomalies(rng, n, grid, world.scale), world.spec.state_minimum))
        times.append(member)
        segments.append(Segment(f"member_{k:03d}", k * n, (k + 1) * n, split, member[0], member[-1]))
    state, time = np.concatenate(states).astype(np.float32), np.concatenate(times)
    train = np.concatenate([np.arange(s.start, s.stop) for s in segments if s.split == "train"])
    fit = ClimatologyFit(time[train], STEP, state.shape[1:])
    fit.update(time[train], state[train])
    ones, none = np.ones(world.scale.size, np.float32), np.zeros(0, np.float32)
    static = [1000.0 * np.abs(waves(grid)[0])] * len(world.spec.static_channels)
    return memory_store(
        spec=world.spec,
        grid=grid,
        timestep=STEP,
        statistics=Statistics(ones, ones, ones, ones, none, none, none, none),
        climatology=fit.finish(),
        forcing_table=np.zeros((366, *grid.shape, 0), np.float32),
        static=np.stack(static, -1).astype(np.float32) if static else np.zeros((*grid.shape, 0), np.float32),
        segments=segments,
        times=time,
        state=state,
        persisted=np.zeros((time.size, *grid.shape, 0), np.float32),
    )


@dataclass(frozen=True)
class Noisy:
    """Truth plus an error of (level + growth x days) times the size of the anomaly, capped; blurred if asked."""

    store: Store
    name: str
    level: float
    growth: float
    cap: float = 1.2
    blur: float = 0.0
    seed: int = 0

    @property
    def spec(self) -> StateSpec:
        return self.store.spec

    @property
    def grid(self) -> Grid:
        return self.store.grid

    @property
    def timestep(self) -> np.timedelta64:
        return self.store.timestep

    def forecast(self, initial: xr.Dataset, lead_times: np.ndarray) -> Iterator[xr.Dataset]:
        times = initial["time"].values
        rows = np.searchsorted(self.store.times, times)
        state = stack_channels(initial, self.spec.state_channels)
        for lead in lead_times:
            step, days = int(lead // STEP), float(lead / np.timedelta64(1, "D"))
            truth = np.stack([self.store.state[r + step] for r in rows])
            climate = self.store.climatology.at(times + lead)
            error = np.stack(
                [anomalies(np.random.default_rng([self.seed, int(r), step]), 1, self.grid)[0] for r in rows]
            )
            size = min(self.level + self.growth * days, self.cap)
            field = climate + (1 - self.blur * min(days / 10, 1)) * (truth - climate) + size * error
            assert state.shape == field.shape
            yield unstack_channels(
                field[:, None].astype(np.float32),
                self.spec,
                self.spec.state_channels,
                self.grid,
                {"init_time": times, "lead_time": np.array([lead])},
            )


def evaluation_rows(store: Store, days: int, every: int = 4) -> np.ndarray:
    return np.concatenate([np.arange(s.start, s.stop - 4 * days, every) for s in store.segments if s.split == "test"])


def lead_times(days: int, step_hours: int = 6) -> np.ndarray:
    return np.arange(step_hours, 24 * days + 1, step_hours).astype("timedelta64[h]").astype("timedelta64[ns]")
