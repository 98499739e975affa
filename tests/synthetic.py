"""A small made-up atmosphere in a store in memory: waves with the memory of days, on a seasonal trend."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.climatology import ClimatologyFit
from data_prep.grid import Grid
from data_prep.spec import StateSpec, Variable, stack_channels, unstack_channels
from data_prep.statistics import Statistics
from data_prep.store import Segment, Store, memory_store

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


def waves(grid: Grid, count: int = 24) -> np.ndarray:
    """Smooth patterns of unit size ``(count, lat, lon)``."""
    rng = np.random.default_rng(0)
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    out = [np.cos(m * lon + p) * np.sin(j * lat + q) for m, j, p, q in rng.integers(1, 12, size=(count, 4))]
    return np.stack(out) / np.sqrt(count) * 2


def anomalies(rng: np.random.Generator, n: int, grid: Grid) -> np.ndarray:
    """AR(1) amplitudes on the waves, ``(n, lat, lon, channel)``."""
    patterns = waves(grid)
    amplitude = np.empty((n, patterns.shape[0], SCALE.size))
    amplitude[0] = rng.normal(size=amplitude[0].shape)
    for t in range(1, n):
        amplitude[t] = MEMORY * amplitude[t - 1] + np.sqrt(1 - MEMORY**2) * rng.normal(size=amplitude[0].shape)
    return (np.einsum("twc,wyx->tyxc", amplitude, patterns) * SCALE).astype(np.float32)


def make_store(grid: Grid | None = None, *, days: int = 40, splits=("train", "train", "test", "test")) -> Store:
    """One season, so many members; each has years of its own."""
    grid = grid or Grid.gaussian(12)
    rng = np.random.default_rng(1)
    n = 4 * days
    segments, times, states = [], [], []
    for k, split in enumerate(splits):
        start = np.datetime64("2001-06-01", "ns") + k * np.timedelta64(1461, "D")
        member = start + np.arange(n) * STEP
        trend = MEAN + np.linspace(0, 1, n, dtype=np.float32)[:, None, None, None] * SCALE / 2
        states.append(trend + anomalies(rng, n, grid))
        times.append(member)
        segments.append(Segment(f"member_{k:03d}", k * n, (k + 1) * n, split, member[0], member[-1]))
    state, time = np.concatenate(states).astype(np.float32), np.concatenate(times)
    train = np.concatenate([np.arange(s.start, s.stop) for s in segments if s.split == "train"])
    fit = ClimatologyFit(time[train], STEP, state.shape[1:])
    fit.update(time[train], state[train])
    ones, none = np.ones(SCALE.size, np.float32), np.zeros(0, np.float32)
    return memory_store(
        spec=SPEC,
        grid=grid,
        timestep=STEP,
        statistics=Statistics(ones, ones, ones, ones, none, none, none, none),
        climatology=fit.finish(),
        forcing_table=np.zeros((366, *grid.shape, 0), np.float32),
        static=np.zeros((*grid.shape, 0), np.float32),
        segments=segments,
        times=time,
        state=state,
        persisted=np.zeros((time.size, *grid.shape, 0), np.float32),
    )


@dataclass(frozen=True)
class Noisy:
    """Truth plus an error of (level + growth x days) times the size of the anomaly, at most ``cap``; blurred if asked."""

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
