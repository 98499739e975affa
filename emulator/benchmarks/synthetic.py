"""Made-up data for benchmarks: a store of noise, as speed does not depend on the weather, and waves that compress."""

from __future__ import annotations

import numpy as np

from data_prep.forcing import COMPUTED_FORCINGS, COORDINATE_VARIABLES, coordinate_fields
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology, Season, basis_size, hours_of
from data_prep.preparation.statistics import Statistics
from data_prep.preparation.store import Segment, Store, memory_store
from data_prep.spec import StateSpec, Variable, Vertical
from emulator.config import ModelConfig

TIMESTEP = np.timedelta64(6, "h").astype("timedelta64[ns]")


def synthetic_spec(levels: int, vertical: Vertical = "pressure") -> StateSpec:
    """Four variables on so many levels, two at the surface, sun, sea-surface temperature and orography."""
    lowest = 1000.0 if vertical == "pressure" else 1.0
    heights = tuple(lowest * (i + 1) / (levels + 1) for i in range(levels))
    return StateSpec(
        (
            *(Variable(name, "prognostic", heights, unit) for name, unit in _UPPER_AIR.items()),
            Variable("surface_pressure", "prognostic", (), "Pa"),
            Variable("2m_temperature", "prognostic", (), "K"),
            *COMPUTED_FORCINGS["toa_incident_solar_radiation"],
            Variable("sea_surface_temperature", "forcing", (), "K", known="persisted"),
            Variable("geopotential_at_surface", "static", (), "m2 s-2"),
            *COORDINATE_VARIABLES,
        ),
        vertical,
    )


_UPPER_AIR = {
    "temperature": "K",
    "u_component_of_wind": "m s-1",
    "v_component_of_wind": "m s-1",
    "specific_humidity": "kg kg-1",
}


def smooth_waves(rng: np.random.Generator, grid: Grid, count: int) -> np.ndarray:
    """Patterns that compress as weather does, ``(pattern, latitude, longitude)``, together of variance near 1."""
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    waves = rng.integers(1, 12, size=(count, 4))
    field = np.stack([np.cos(m * lon + p) * np.sin(j * lat + q) for m, j, p, q in waves])
    return (2 * field / np.sqrt(count)).astype(np.float32)


def vertical_for(model: ModelConfig) -> Vertical:
    """On which levels a network's data must lie."""
    return "sigma" if model.vertical_motion else "pressure"


def synthetic_store(rows: int, levels: int, n_times: int, vertical: Vertical = "pressure") -> Store:
    """A store of normal noise with unit statistics, but a surface pressure near 1000 hPa, on a Gaussian grid.

    Args:
      rows: Of the grid, which has twice as many columns.
      levels: Of the upper-air variables.
      n_times: Times of the training segment; the validation segment has as many.
      vertical: What the levels are of.
    """
    grid, spec = Grid.gaussian(rows), synthetic_spec(levels, vertical)
    rng = np.random.default_rng(0)
    n = len(spec.state_channels)
    start = np.datetime64("2001-01-01", "ns")
    times = start + np.arange(2 * n_times) * TIMESTEP
    state = rng.standard_normal((times.size, *grid.shape, n), np.float32)
    persisted = rng.standard_normal((times.size, *grid.shape, 1), np.float32)
    static = np.concatenate([np.ones((*grid.shape, 1)), coordinate_fields(grid)], axis=-1).astype(np.float32)
    counts = {
        "": n,
        "tendency_": n,
        "forcing_": len(spec.forcing_channels),
        "static_": len(spec.static_channels),
    }
    moments = {f"{kind}mean": np.zeros(count, np.float32) for kind, count in counts.items()}
    moments |= {f"{kind}std": np.ones(count, np.float32) for kind, count in counts.items()}
    hours = hours_of(times[:n_times])
    expected = np.zeros((basis_size("seasonal_trend", hours.size), *grid.shape, n), np.float32)
    pressure = [c.name for c in spec.state_channels].index("surface_pressure")
    for mean in (state, moments["mean"], expected[0]):  # what is divided by it stays finite
        mean[..., pressure] += 1e5
    segments = [
        Segment("learn", 0, n_times, "train", times[0], times[n_times - 1]),
        Segment("steer", n_times, 2 * n_times, "validation", times[n_times], times[-1]),
    ]
    return memory_store(
        spec=spec,
        grid=grid,
        timestep=TIMESTEP,
        statistics=Statistics.from_arrays(moments),
        climatology=Climatology("seasonal_trend", hours, Season.of(times), expected),
        forcing_table=np.empty((366, *grid.shape, 0), np.float32),
        static=static,
        segments=segments,
        times=times,
        state=state,
        persisted=persisted,
    )
