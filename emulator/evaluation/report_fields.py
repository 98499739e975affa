"""The fields of a report: one forecast as it unfolds, mean errors and spectra, small enough for a web page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from data_prep.store import Store
from emulator.evaluation.fields import Planes, Verification, units_of
from emulator.evaluation.forecast_file import ForecastFile, open_all
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.spectra import circumference, zonal_energy_spectrum
from emulator.evaluation.style import shown_unit
from emulator.evaluation.table import candidate, headline_variables, opponents
from emulator.forecast_io import open_forecasts
from emulator.progress import track

_WIDEST = 128  # grid points along a circle that a map on a page can show
_EXAMPLE_BYTES = 1_500_000
_MEAN_LEADS = (24, 120, 240)
_MEAN_INITS = 24  # mean errors and spectra settle with a few dozen forecasts; reading all would take minutes
_INITS_AT_ONCE = 4
_MOST_FORECASTERS = 6


@dataclass(frozen=True)
class Fields:
    """What the maps and spectra of a report show. Maps are uint8 on the thinned grid, rows from north to south.

    Attributes:
      forecasters: Whose fields these are.
      variables: Which planes, headline variables.
      example: ``init`` (text), ``hours``, and for each variable ``truth``, ``error`` (forecaster, lead, row, column)
        with ``low``, ``high``, ``reach`` in shown units and ``rmse`` (forecaster, lead).
      mean: ``inits``, ``hours``, and for each variable ``error`` (forecaster, lead, row, column) with ``reach``.
      spectra: ``hours``, and for each variable ``truth`` (lead, wavenumber), ``forecast`` (forecaster, lead,
        wavenumber), in shown units squared; ``None`` off the globe.
      shape: Rows and columns of a map.
      latitude, longitude: Of the rows and columns, degrees.
      coast: Lines of land's edge, each ``(point, 2)`` as column and row in fractions of the map.
    """

    forecasters: tuple[str, ...]
    variables: tuple[str, ...]
    example: dict[str, Any]
    mean: dict[str, Any]
    spectra: dict[str, Any] | None
    shape: tuple[int, int]
    latitude: np.ndarray
    longitude: np.ndarray
    coast: list[np.ndarray]


def collect_fields(scores: xr.Dataset, paths: Mapping[str, Path], store: Store) -> Fields:
    """Reads what a report shows from the forecast files: some dozens of states of each, never all.

    Args:
      scores: The scores of these forecasts.
      paths: Forecast file of every forecaster to be shown.
      store: The truth.

    Raises:
      DataError: a file does not fit the truth or the other files.
    """
    names = _shown(scores, tuple(paths))
    files = open_all({name: paths[name] for name in names}, store)
    variables = tuple(headline_variables(scores))
    levels = sorted({float(v.partition("@")[2]) for v in variables if "@" in v})
    thinned = _Thinned(store, max(1, -(-store.grid.shape[1] // _WIDEST)))
    rivals = [names.index(n) for n in (candidate(scores), *opponents(scores)) if n in names]
    with track(1 + _count_means(next(iter(files.values()))), "forecasts read for the report") as progress:
        example = _example(scores, files, store, levels, variables, thinned, rivals)
        progress.advance(1)
        mean, spectra = _means(files, store, levels, variables, thinned, rivals, progress.advance)
    return Fields(
        names,
        variables,
        example,
        mean,
        spectra,
        thinned.shape,
        thinned.latitude,
        thinned.longitude,
        _coast(store),
    )


@dataclass(frozen=True)
class _SomeLeads(ForecastFile):
    """A forecast file of which only some leads are read."""

    columns: np.ndarray

    @classmethod
    def of(cls, file: ForecastFile, columns: np.ndarray) -> _SomeLeads:
        return cls(
            file.path,
            file.init_times,
            file.lead_times[columns],
            file.variables,
            file.is_ensemble,
            file.attributes,
            columns,
        )

    def read(self, names: Sequence[str], inits: slice) -> xr.Dataset:
        with open_forecasts(self.path) as dataset:
            return dataset[list(names)].isel(init_time=inits, lead_time=self.columns).load()


class _Thinned:
    """The grid of a map: every ``step``-th point, from north to south."""

    def __init__(self, store: Store, step: int) -> None:
        self._step = step
        self.latitude = np.asarray(store.grid.latitude)[::-1][::step]
        self.longitude = np.asarray(store.grid.longitude)[::step]
        self.shape = (self.latitude.size, self.longitude.size)

    def __call__(self, planes: np.ndarray) -> np.ndarray:
        """``(..., latitude, longitude)`` from south to north, to the rows and columns of the map."""
        return planes[..., ::-1, :][..., :: self._step, :: self._step]


def _shown(scores: xr.Dataset, held: tuple[str, ...]) -> tuple[str, ...]:
    """The candidate and its opponents before all others, as many as fit on a page."""
    names = scores["forecaster"].values.tolist()
    ranked = dict.fromkeys([candidate(scores), *opponents(scores), *names])
    return tuple([n for n in ranked if n in held][:_MOST_FORECASTERS])


def _example(
    scores: xr.Dataset,
    files: Mapping[str, ForecastFile],
    store: Store,
    levels: Sequence[float],
    variables: Sequence[str],
    thinned: _Thinned,
    rivals: Sequence[int],
) -> dict[str, Any]:
    first = next(iter(files.values()))
    plane_bytes = int(np.prod(thinned.shape)) * len(variables) * (1 + len(files))
    every = max(1, -(-first.lead_times.size * plane_bytes // _EXAMPLE_BYTES))
    columns = np.arange(every - 1, first.lead_times.size, every)
    some = {name: _SomeLeads.of(file, columns) for name, file in files.items()}
    leads = first.lead_times[columns]
    verification = Verification(store, first.init_times, leads, levels)
    init = _typical(scores)
    inits = slice(init, init + 1)
    observed, _, index = verification.truth_and_climatology(inits)
    forecasts = [_member(verification.forecast(file, inits), file) for file in some.values()]
    weights = store.grid.latitude_weights[:, None] / np.prod(store.grid.shape)
    out = {}
    for variable in variables:
        factor = shown_unit(variable, units_of(variable, store)).factor
        truth = observed[variable][index[0]] * factor
        error = np.stack([f[variable][0] for f in forecasts]) * factor - truth
        low, high = np.percentile(truth, [0.5, 99.5]).tolist()
        reach = _reach(error[rivals])
        out[variable] = {
            "truth": _quantised(thinned(truth), low, high),
            "error": _quantised(thinned(error), -reach, reach),
            "low": low,
            "high": high,
            "reach": reach,
            "rmse": np.sqrt((weights * error**2).sum((-2, -1))),
        }
    start = np.datetime_as_string(first.init_times[init], "h").replace("T", " ") + " UTC"
    return {"init": start, "hours": leads / np.timedelta64(1, "h"), "variables": out}


def _typical(scores: xr.Dataset) -> int:
    """The initial time whose forecast is of median error: an example that is typical, not picked."""
    squared = scores["squared_error"].sel(
        forecaster=candidate(scores), region=WHOLE, variable=headline_variables(scores)
    )
    middle = squared.isel(lead_time=squared.sizes["lead_time"] // 2)
    size = (middle / middle.mean("init_time")).mean("variable").values
    return int(np.argsort(size, kind="stable")[size.size // 2])


def _mean_inits(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, _MEAN_INITS)).round().astype(np.int64))


def _count_means(file: ForecastFile) -> int:
    return _mean_inits(file.init_times.size).size


def _means(
    files: Mapping[str, ForecastFile],
    store: Store,
    levels: Sequence[float],
    variables: Sequence[str],
    thinned: _Thinned,
    rivals: Sequence[int],
    advance: Any,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Mean errors and mean spectra over some initial times at some leads."""
    first = next(iter(files.values()))
    hours = first.lead_times / np.timedelta64(1, "h")
    columns = np.flatnonzero(np.isin(hours, _MEAN_LEADS))
    if columns.size == 0:
        columns = np.array([hours.size - 1])
    some = {name: _SomeLeads.of(file, columns) for name, file in files.items()}
    chosen = _mean_inits(first.init_times.size)
    errors = {v: np.zeros((len(files), columns.size, *store.grid.shape)) for v in variables}
    power_of_truth = {v: np.zeros((columns.size, store.grid.shape[1] // 2)) for v in variables}
    power = {v: np.zeros((len(files), *power_of_truth[v].shape)) for v in variables}
    verification = Verification(store, first.init_times, first.lead_times[columns], levels)
    for init in chosen.tolist():
        inits = slice(init, init + 1)
        observed, _, index = verification.truth_and_climatology(inits)
        for v in variables:
            if store.grid.periodic:
                power_of_truth[v] += _spectrum(observed[v][index[0]], store)
        for i, file in enumerate(some.values()):
            planes = verification.forecast(file, inits)
            single = _member(planes, file)
            for v in variables:
                mean = planes[v].mean(axis=0) if file.is_ensemble else planes[v]
                errors[v][i] += mean[0] - observed[v][index[0]]
                if store.grid.periodic:
                    power[v][i] += _spectrum(single[v][0], store)
        advance(1)
    maps, spectra = {}, {}
    for v in variables:
        factor = shown_unit(v, units_of(v, store)).factor
        error = errors[v] * (factor / chosen.size)
        reach = _reach(error[rivals])
        maps[v] = {"error": _quantised(thinned(error), -reach, reach), "reach": reach}
        scale = factor**2 / chosen.size
        spectra[v] = {"truth": power_of_truth[v] * scale, "forecast": power[v] * scale}
    shared = {"inits": int(chosen.size), "hours": hours[columns]}
    return shared | {"variables": maps}, (shared | {"variables": spectra}) if store.grid.periodic else None


def _spectrum(planes: np.ndarray, store: Store) -> np.ndarray:
    """Area-mean power by zonal wavenumber from 1 up, in the field's unit squared, ``(lead, wavenumber)``.

    The largest wavenumber, of which a grid holds only half, is left in as the highest entry.
    """
    per_circle = zonal_energy_spectrum(planes, store.grid) / circumference(store.grid)[:, None]
    weights = store.grid.latitude_weights / store.grid.shape[0]
    return np.einsum("...yk,y->...k", per_circle, weights)[..., 1:]


def _member(planes: Planes, file: ForecastFile) -> Planes:
    """Of an ensemble its first member: a mean is a blur."""
    return {k: v[0] for k, v in planes.items()} if file.is_ensemble else planes


def _reach(error: np.ndarray) -> float:
    return float(np.percentile(np.abs(error), 99.5)) or 1.0


def _quantised(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """To uint8, 0 at ``low`` and 254 at ``high``, so that the middle of a symmetric range is a value of its own."""
    scaled = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.clip(np.round(254 * scaled), 0, 254).astype(np.uint8)


def _coast(store: Store) -> list[np.ndarray]:
    """Land's edge, where the store holds a land-sea mask, in fractions of the map from its north-west corner."""
    names = [c.variable for c in store.spec.static_channels]
    if "land_sea_mask" not in names:
        return []
    land = store.static[::-1, :, names.index("land_sea_mask")]
    contours = Figure().subplots().contour(land, levels=[0.5])
    return [(line + 0.5) / land.shape[::-1] for line in contours.allsegs[0] if len(line) > 1]
