"""A store small enough to train on in a test: waves that travel eastwards, on any grid."""

from pathlib import Path

import numpy as np
from climatology_oracle import ClimatologyFit

from data_prep.forcing import COMPUTED_FORCINGS, COORDINATE_VARIABLES, ForcingBuilder, coordinate_fields
from data_prep.grid import Grid
from data_prep.preparation.statistics import Moments, Statistics
from data_prep.preparation.store import Segment, Store, open_store
from data_prep.preparation.store_writer import StoreWriter
from data_prep.spec import StateSpec, Variable

TIMESTEP = np.timedelta64(6, "h").astype("timedelta64[ns]")

SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", (500.0, 850.0), "K"),
        Variable("specific_humidity", "prognostic", (850.0,), "kg kg-1", minimum=0.0),
        Variable("total_precipitation_6hr", "diagnostic", (), "m", minimum=0.0),
        *COMPUTED_FORCINGS["toa_incident_solar_radiation"],
        Variable("sea_surface_temperature", "forcing", (), "K", known="persisted"),
        Variable("geopotential_at_surface", "static", (), "m2 s-2"),
        *COORDINATE_VARIABLES,
    ),
    "pressure",
)


def waves(grid: Grid, n_times: int, phase: float) -> np.ndarray:
    """States (time, lat, lon, 4) in physical units; each wave moves 20 degrees east a step."""
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    t = np.arange(n_times)[:, None, None]
    wave = [np.cos(lat) ** 2 * np.sin(k * (lon - np.radians(20) * t) + phase * k) for k in (1, 2, 3)]
    humidity = 0.008 * np.cos(lat) ** 2 * np.clip(0.5 + wave[2], 0, None)
    rain = 0.002 * np.clip(wave[2], 0, None)
    fields = [250 + 20 * np.sin(lat) + 8 * wave[0], 280 + 10 * wave[1] + 3 * wave[0], humidity, rain]
    return np.stack(np.broadcast_arrays(*fields), axis=-1).astype(np.float32)


def write_store(path: Path, grid: Grid, n_times: int = 24, bad_time: int | None = None) -> Store:
    """Two training segments and one of validation; ``bad_time`` puts NaN into that row."""
    splits = ("train", "train", "validation")
    first = [np.datetime64("2001-03-01T00", "ns") + i * np.timedelta64(1461, "D") for i in range(len(splits))]
    times = np.concatenate([f + np.arange(n_times) * TIMESTEP for f in first])
    state = np.concatenate([waves(grid, n_times, phase) for phase in (0.0, 1.0, 0.5)])
    rng = np.random.default_rng(0)
    persisted = (290 + rng.standard_normal((times.size, *grid.shape, 1))).astype(np.float32)
    static = np.concatenate(
        [1000 * np.cos(np.radians(grid.latitude))[:, None, None] * np.ones((*grid.shape, 1)), coordinate_fields(grid)],
        axis=-1,
    ).astype(np.float32)
    n_train = 2 * n_times
    change = np.diff(state[:n_train].reshape(2, n_times, *state.shape[1:]), axis=1)
    weights = grid.latitude_weights
    builder = ForcingBuilder(grid, SPEC, TIMESTEP, np.empty((366, *grid.shape, 0), np.float32))
    moments = {
        "": Moments.of(state[:n_train], weights),
        "tendency_": Moments.of(change, weights),
        "forcing_": Moments.of(builder.at(times[:n_train], persisted[:n_train]), weights),
        "static_": Moments.of(static, weights),
    }
    statistics = Statistics.from_arrays(
        {f"{name}{kind}": getattr(m, kind) for name, m in moments.items() for kind in ("mean", "std")}
    )
    fit = ClimatologyFit(times[:n_train], TIMESTEP, state.shape[1:])
    fit.update(times[:n_train], state[:n_train])
    if bad_time is not None:
        state[bad_time] = np.nan
    writer = StoreWriter.create(path, SPEC, grid, times)
    writer.write(0, state, persisted)
    segments = [
        Segment(f"member_{i}", i * n_times, (i + 1) * n_times, split, times[i * n_times], times[(i + 1) * n_times - 1])
        for i, split in enumerate(splits)
    ]
    writer.finish(
        spec=SPEC,
        grid=grid,
        timestep=TIMESTEP,
        segments=segments,
        static=static,
        statistics=statistics,
        climatology=fit.finish(),
        forcing_builder=builder,
        config_hash="test",
    )
    return open_store(path)
