"""The program from Python, as short as its commands; ``import emulator`` exports all of it.

Files and data sets are read, forecast, scored and drawn by the functions that the commands use.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from pydantic import ValidationError

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.arrays import rows_at
from data_prep.files.netcdf_file import write_netcdf
from data_prep.preparation.store import Segment, Store, memory_store
from data_prep.reading.checks import check_values, fill_with_mean
from data_prep.reading.initial import initial_sources, initial_times, read_initial, released
from data_prep.reading.level_files import stack_levels
from data_prep.reading.locations import Location, find_files, locate
from data_prep.reading.opening import format_of, open_lazily
from data_prep.reading.probe import probe
from data_prep.reading.recognise import SIGNATURE
from data_prep.reading.sources import in_units, open_source
from data_prep.spec import level_dim
from data_prep.variables import SURFACE
from emulator.config import EvaluateConfig, first_error
from emulator.evaluation.external import open_external
from emulator.evaluation.forecast_file import describe_time, describe_times
from emulator.evaluation.plots import plot_scores
from emulator.evaluation.scores import evaluate
from emulator.forecast import lead_times
from emulator.forecast_form import AXES, open_forecasts
from emulator.forecast_io import ForecastWriter, describe_forecasts, surface_field
from emulator.forecasters.base import Cost, Forecaster, forecast_batches
from emulator.forecasters.driven import driven_by
from emulator.forecasters.neural import NeuralForecaster
from emulator.forecasters.several import SeveralNetworks
from emulator.forecasters.statistical import make_reference

_BATCH = 8  # initial times at once
_OF_SCORING = {"split", "headline", "pressure_levels", "derived", "regions", "mask", "bootstrap", "confidence"}


def predict(
    forecaster: Forecaster,
    initial: xr.Dataset | str | Path | Sequence[str | Path],
    *,
    days: float = 10.0,
    times: ArrayLike | None = None,
    lateral: Store | None = None,
) -> xr.Dataset:
    """Forecasts from some times of a data set, or from every one of them where ``times`` is ``None``.

    Args:
      forecaster: Such as ``load_forecaster`` gives, or ``SeveralNetworks`` makes of several.
      initial: Initial fields: any order of axes, names and units that ``emulator inspect`` understands, on the
        forecaster's grid; a data set, which may be lazy, or where it lies: a file (NetCDF, GRIB, Zarr, a URL), a folder
        or several files that hold the variables and times together, as ``emulator forecast`` takes them.
      days: Length of the forecasts, a multiple of the time step.
      times: Initial times in ``initial``: one or several, ``datetime64`` or ISO 8601.
      lateral: Holds the lateral boundary values of the valid times, for a network that was trained with some: the store
        that it was trained on, or one prepared by the same config from files of other times.

    Returns:
      All forecasts in SI units, in memory; dims ``(init_time, lead_time[, realization][, level], latitude,
      longitude)``.

    Raises:
      ConfigError: ``days`` is no multiple of the time step.
      DataError: one line on what ``initial`` or ``lateral`` lacks, or on ``times``.
      ForecastStoppedError: a forecast of a network left physical bounds; ``write_forecasts`` keeps what came before.
    """
    if lateral is not None:
        forecaster = _driven(forecaster, lateral)
    leads = lead_times(forecaster.timestep, days)
    names: Mapping[str, str] = {}
    fill_nan = False
    if network := _first_network(forecaster):
        names, fill_nan = network.sources, network.fill_nan
    spec, grid, timestep = forecaster.spec, forecaster.grid, forecaster.timestep
    files: Sequence[Location | xr.Dataset]
    if isinstance(initial, xr.Dataset):
        files = [initial]
    else:
        files = find_files([initial] if isinstance(initial, str | Path) else initial)
        probe(files)
    sources = stack_levels(initial_sources(files, spec, names))
    with released(sources):
        chosen = initial_times(sources, spec) if times is None else np.atleast_1d(np.asarray(times))
        if pd.isnull(chosen).any():
            raise DataError("times: one is missing (None or NaT)")
        if chosen.size == 0:
            raise DataError("times: holds none; leave it out to forecast from every time")
        fields = xr.concat(
            [read_initial(sources, spec, grid, time, names, fill_nan=fill_nan, timestep=timestep) for time in chosen],
            "time",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="exact",
        )
    if (twice := fields["time"].values[fields.indexes["time"].duplicated()]).size:
        raise DataError(f"times: {twice[0]!s:.16} is there twice; give every initial time once")
    return _run(forecaster, fields, leads)


def score(
    forecasts: Mapping[str, xr.Dataset | str | Path],
    store: Store,
    *,
    truth: xr.Dataset | None = None,
    references: Sequence[str] = ("persistence", "climatology"),
    **options: Any,
) -> xr.Dataset:
    """Scores forecasts against the truth as ``emulator evaluate`` does.

    Args:
      forecasts: By name: what ``predict`` returns, a forecast file, or another centre's forecasts on the same grid
        (docs/evaluation.md says which forms are understood). All must hold the same initial times and leads; another
        centre's may hold more. Where there are only such, the first tells the initial times and leads.
      store: The truth, and the training climatology that anomalies are measured from.
      truth: Verify against these fields instead of the store's own, such as an analysis of later times. Times of the
        store belong to the split that they have there, so training data are no test data; all others are test data.
      references: Statistical forecasts to score beside them, made from the same initial times.
      options: Keys of the config's ``evaluate`` section that say how to score: ``split``, ``headline``,
        ``pressure_levels``, ``derived``, ``regions``, ``mask``, ``bootstrap``, ``confidence``.

    Returns:
      Scores as in ``scores.nc`` (docs/architecture.md), in memory.

    Raises:
      DataError, ConfigError: one line on what does not fit together, on a name that is none or a reference's, or on a
        key of ``evaluate`` that says what an experiment forecasts.
    """
    if not forecasts:
        raise DataError("score: no forecasts; give them by name, such as {'network': predict(...)}")
    config = _section(options | {"forecasts": dict.fromkeys(forecasts, ""), "references": [*references]})
    if idle := options.keys() - _OF_SCORING:
        raise ConfigError(
            f"score: {min(idle)}: says what an experiment forecasts, and these forecasts are made; "
            f"understood here: {', '.join(sorted(_OF_SCORING))}"
        )
    for name in config.references:
        if name in forecasts:
            raise ConfigError(f"score: forecasts.{name}: a reference has this name; choose another")
    verified = store if truth is None else _against(truth, store)
    with TemporaryDirectory(prefix="emulator-") as temporary, _named_as_given(folder := Path(temporary)):
        paths = {n: _as_file(n, f, folder, store) for n, f in forecasts.items()}
        external = {n: str(path) for n, path in paths.items() if not _is_own_file(path, store)}
        config = config.model_copy(update={"forecasts": external})
        if config.references:
            init_times, leads = _times_to_refer_to(paths, external, verified)
            initial = verified.dataset(_rows(verified, init_times))
            for reference in config.references:
                made = _run(make_reference(reference, store, leads), initial, leads)
                paths[reference] = _as_file(reference, made, folder, store)
        with evaluate(paths, verified, config, folder / "scores.nc", training=store) as scores:
            return scores.load()


def plot(scores: xr.Dataset, folder: str | Path) -> list[Path]:
    """Draws skill curves, activity, cost and gain of scores as PNG and PDF.

    Args:
      scores: As ``score`` returns them or ``xarray.open_dataset`` reads a ``scores.nc``.
      folder: Where the files go; made if it is not there.

    Returns:
      The files.

    Raises:
      DiskError: they cannot be written.
    """
    return plot_scores(scores, Path(folder))


def _driven(forecaster: Forecaster, store: Store) -> Forecaster:
    """The network, or several of which some take lateral boundary values, with those of a store.

    Raises:
      DataError: none takes any, or the store's are not those that one takes.
    """
    if isinstance(forecaster, SeveralNetworks):
        takes = [network.forcing_builder.is_lateral.any() for network in forecaster.networks]
        if any(takes):
            pairs = zip(forecaster.networks, takes, strict=True)
            return replace(forecaster, networks=tuple(driven_by(n, store) if some else n for n, some in pairs))
        return _driven_network(forecaster.networks[0], store)
    return _driven_network(forecaster, store)


def _driven_network(forecaster: Forecaster, store: Store) -> NeuralForecaster:
    if not isinstance(forecaster, NeuralForecaster):
        raise DataError(f"lateral: {forecaster.name} takes no lateral boundary values; leave it out")
    return driven_by(forecaster, store)


def _first_network(forecaster: Forecaster) -> NeuralForecaster | None:
    if isinstance(forecaster, SeveralNetworks):
        return forecaster.networks[0]
    return forecaster if isinstance(forecaster, NeuralForecaster) else None


def _run(forecaster: Forecaster, initial: xr.Dataset, leads: np.ndarray) -> xr.Dataset:
    """All forecasts in memory, with the attributes that forecast files have."""
    cost = Cost()
    batches: dict[np.datetime64, list[xr.Dataset]] = {}
    for block in forecast_batches(forecaster, initial, leads, batch=_BATCH, cost=cost):
        batches.setdefault(block["init_time"].values[0], []).append(block)
    parts = [xr.concat(blocks, "lead_time", data_vars="minimal") for blocks in batches.values()]
    out = xr.concat(parts, "init_time", data_vars="minimal")
    network = _first_network(forecaster)
    surface = getattr(network or forecaster, "surface_geopotential", None)
    if surface is not None:
        out[SURFACE] = surface_field(surface)
    known = forecaster.attributes(initial) if isinstance(forecaster, NeuralForecaster | SeveralNetworks) else {}
    return out.assign_attrs(describe_forecasts(forecaster, cost, min(_BATCH, initial.sizes["time"])) | known)


@contextmanager
def _named_as_given(folder: Path) -> Iterator[None]:
    """What is said of a data set that was written into this folder has the name that the user gave it, and no path."""
    try:
        yield
    except UserError as error:
        named = re.sub(rf"{re.escape(str(folder))}/([\w-]+)\.nc", r"forecasts.\1", str(error))
        if named == str(error):
            raise
        raise type(error)(named) from None


def _as_file(name: str, forecast: xr.Dataset | str | Path, folder: Path, store: Store) -> Location:
    """Where a forecast lies; data sets are written first."""
    if not isinstance(forecast, xr.Dataset):
        return locate(forecast)
    path = folder / f"{name}.nc"
    forecast = _storable(forecast)
    if not _is_own(forecast, store):
        write_netcdf(forecast, path)
        return path
    constants = {SURFACE: forecast[SURFACE]} if SURFACE in forecast else {}
    with ForecastWriter(path, forecast["init_time"].values, forecast["lead_time"].values, constants) as writer:
        fields = [key for key, field in forecast.items() if {"init_time", "lead_time"} <= set(field.dims)]
        writer.write(forecast[fields].load())  # an opened file holds more: the pressure at the model's top
        writer.set_attributes({str(key): value for key, value in forecast.attrs.items()})
    return path


def _storable(forecast: xr.Dataset) -> xr.Dataset:
    """Without the attributes that Zarr holds and NetCDF cannot: null, true or false, sections."""
    out = forecast.copy()
    owners: list[Any] = [out, *out.variables.values()]
    for owner in owners:
        kinds = {k: np.asarray(v).dtype.kind for k, v in owner.attrs.items()}
        owner.attrs = {k: v for k, v in owner.attrs.items() if kinds[k] in "iufUS"}
    return out


def _is_own_file(path: Location, store: Store) -> bool:
    if not isinstance(path, Path) or (path.exists() and format_of(path) != "NetCDF"):
        return False  # unopened: that takes long of GRIB
    with open_lazily(path) as dataset:
        return _is_own(dataset, store)


def _is_own(forecast: xr.Dataset, store: Store) -> bool:
    """Whether we made them, in our form with all that its readers rely on: units, order, levels, spans, members.

    What is not is read as another centre's, whose units and order are made out, and what is not verified left aside.
    """
    if not forecast.attrs.keys() >= SIGNATURE:
        return False
    dims = set(map(str, forecast.dims))
    strange = {d for d in dims.difference(AXES) if not d.startswith("level")}
    if strange or not {"init_time", "lead_time", "latitude", "longitude"} <= dims or 0 in forecast.sizes.values():
        return False
    axes = [forecast.get_index(d) for d in dims - {"realization"}]
    ascending = all(axis.is_monotonic_increasing and axis.is_unique for axis in axes)
    lead = forecast["lead_time"]
    with_spans = lead.dtype.kind == "m" or "dtype" in lead.attrs  # by which xarray decodes them
    ours = {v.name: v for v in store.spec.with_role("prognostic", "diagnostic")}
    renamed = {n for n, f in forecast.items() if {"init_time", "lead_time"} <= {*f.dims}} - ours.keys()
    state = [v for name, v in ours.items() if name in forecast]
    in_si = all(forecast[v.name].attrs.get("units", v.units) == v.units for v in state)
    levels_fit = all(_has_levels(forecast[v.name], v.levels) for v in state if v.levels)
    one_member = forecast.sizes.get("realization") == 1
    in_order = ascending and bool(forecast["longitude"][0] >= 0)
    return in_order and with_spans and in_si and levels_fit and not (one_member or renamed)


def _has_levels(field: xr.DataArray, levels: Sequence[float]) -> bool:
    """Whether it lies on these levels, in this order."""
    dim = level_dim(field)
    found = np.empty(0) if dim is None else field[dim].values
    same = found.shape == (len(levels),) and found.dtype.kind in "fiu"
    return same and np.allclose(found, levels, rtol=1e-4, atol=0)


def _times_to_refer_to(
    paths: Mapping[str, Location], external: Container[str], store: Store
) -> tuple[np.ndarray, np.ndarray]:
    """Initial times and leads for references: of the first forecasts in our form, else of the first of another centre.

    Raises:
      DataError: a lead is none that the truth verifies, or all are the initial time.
    """
    own = next((path for name, path in paths.items() if name not in external), None)
    if own is not None:
        with open_forecasts(Path(own)) as file:
            return file["init_time"].values, file["lead_time"].values
    other = open_external(next(iter(paths.values())), store)
    steps = other.lead_times / store.timestep
    if (odd := other.lead_times[steps % 1 != 0]).size:
        raise DataError(
            f"{other.path}: leads {describe_times(odd)} are no multiples of the truth's time step, "
            f"{describe_time(store.timestep)}; leave them out, or give numbers their unit (bare ones are hours)"
        )
    leads = np.sort(other.lead_times[steps > 0])
    if leads.size == 0:
        raise DataError(f"{other.path}: no lead is later than the initial time; give references=[]")
    return np.sort(other.init_times), leads


def _section(options: Mapping[str, Any]) -> EvaluateConfig:
    try:
        return EvaluateConfig.model_validate(options)
    except ValidationError as error:
        raise ConfigError(f"score: {first_error(error, EvaluateConfig)}") from None


def _rows(store: Store, times: np.ndarray) -> np.ndarray:
    """Rows of the store at these times.

    Raises:
      DataError: it does not hold one of them.
    """
    rows, absent = rows_at(store.times, times)
    if absent.size:
        raise DataError(f"score: the truth holds no {absent[0]!s:.16}, an initial time of the forecasts")
    return rows


def _against(truth: xr.Dataset, store: Store) -> Store:
    """A store like this one with other fields, test data where it has none; its climatology stays that of training."""
    spec, state = store.spec, store.spec.with_role("prognostic", "diagnostic")
    source = open_source(truth, {v.name: (v.name,) for v in state}, spec.vertical)
    missing = [v.name for v in state if v.name not in source.fields]
    if missing:
        raise DataError(f"truth: missing {', '.join(missing)}; it holds {', '.join(source.contents)}")
    if not source.grid.matches(store.grid):
        raise DataError(f"truth: its grid is {source.grid.describe()}, the store's {store.grid.describe()}")
    for v in state:
        source = in_units(source, v.name, v.units, "the store's")
    if source.times.size == 0:
        raise DataError("truth: no time coordinate; give the times of its fields as a coordinate named time")
    n = source.times.size
    values = np.concatenate([source.read(v.name, v.levels, 0, n) for v in state], axis=-1)
    there = fill_with_mean(values)  # what is missing may be masked; whoever scores it says so where it is not
    whole = ~np.isnan(there).any(axis=(1, 2, 3))
    check_values(there[whole], spec.state_channels, spec, source.times[whole], "truth", "leave those times out")
    split = np.full(n, "test", object)
    for s in store.segments:
        split[(source.times >= s.first_time) & (source.times <= s.last_time)] = s.split
    breaks = (np.diff(source.times) != store.timestep) | (split[1:] != split[:-1])
    bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), n]
    segments = [
        Segment(f"truth_{i}", first, stop, split[first], source.times[first], source.times[stop - 1])
        for i, (first, stop) in enumerate(pairwise(bounds))
    ]
    return memory_store(
        spec=spec,
        grid=store.grid,
        timestep=store.timestep,
        statistics=store.statistics,
        climatology=store.climatology,
        forcing_table=store.forcing_builder.table,
        static=store.static,
        segments=segments,
        times=source.times,
        state=np.maximum(values, spec.state_minimum),
        persisted=np.zeros((n, *store.grid.shape, store.persisted.shape[-1]), np.float32),
    )
