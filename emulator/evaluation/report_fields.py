"""The fields of a report: one forecast as it unfolds and mean errors, small enough for a web page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from data_prep.errors import DataError, printable
from data_prep.files.arrays import spread
from data_prep.preparation.store import Store
from data_prep.vertical import KINEMATIC
from emulator.config import EvaluateConfig
from emulator.evaluation.external_files import Places
from emulator.evaluation.fields import Planes, Verification, has_climatology, units_of
from emulator.evaluation.forecast_file import ForecastFile, describe_times, open_compared
from emulator.evaluation.headline import hardest_opponent
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import candidate, headline_variables, made_of, median_case, opponents, places_of
from emulator.evaluation.style import default_lines, shown_unit
from emulator.progress import track

_WIDEST = 128  # grid points along a circle that a map on a page can show
_EXAMPLE_BYTES = 720_000
_MEAN_LEADS = (24, 120, 240)
_MEAN_INITS = 24  # mean errors settle with a few dozen forecasts; reading all would take minutes
_MOST_FORECASTERS = 4
_MOST_REACH = 4.0  # times the range of colours that values of a map reach: an error beyond is shown as that large


@dataclass(frozen=True)
class Fields:
    """What the maps of a report show. Maps are uint8 on the thinned grid, rows from north to south; 255 is a hole.

    Attributes:
      forecasters: Whose fields these are; of an ensemble they are its mean's, as the scores are.
      variables: Which planes, headline variables.
      example: ``init`` (text), ``hours``, and for each variable ``truth`` (lead, row, column) from ``least`` to
        ``most``, ``error`` (forecaster, lead, row, column) up to ``largest`` (forecaster), ``rmse`` (forecaster, lead),
        and the range of colours: ``low`` and ``high`` of fields, ``reach`` of errors; all in shown units.
      mean: ``inits``, ``hours``, and for each variable ``error``, ``largest`` and ``reach``.
      shape: Rows and columns of a map.
      latitude, longitude: Of the rows and columns, degrees.
      coast: Lines of land's edge, each ``(point, 2)`` as column and row in fractions of the map.
      without: Why there are none of a forecaster that was scored, by its name.
    """

    forecasters: tuple[str, ...]
    variables: tuple[str, ...]
    example: dict[str, Any]
    mean: dict[str, Any]
    shape: tuple[int, int]
    latitude: np.ndarray
    longitude: np.ndarray
    coast: list[np.ndarray]
    without: Mapping[str, str] = field(default_factory=dict)


def collect_fields(
    scores: xr.Dataset,
    paths: Mapping[str, Path],
    store: Store,
    external: Mapping[str, Places] | None = None,
    without: Mapping[str, str] | None = None,
) -> Fields:
    """Reads what a report shows from the forecast files: some dozens of states of each, never all.

    Args:
      scores: The scores of these forecasts.
      paths: Forecast file of every forecaster to be shown, the candidate among them.
      store: The truth.
      external: Those that other programs wrote; one that cannot be shown costs its own maps alone.
      without: Of whom no file is known, and why.

    Raises:
      DataError: a file of ``paths`` does not fit the truth, the other files or the scores.
    """
    files, absent = _open_shown(scores, paths, store, external or {})
    view = _View(scores, files, store)
    for axis, held in (("init_time", view.first.init_times), ("lead_time", view.first.lead_times)):
        if not np.array_equal(scores[axis].values, held):
            found, scored = map(describe_times, (held, scores[axis].values))
            raise DataError(f"{view.first.path}: its {axis} ({found}) is not that of the scores ({scored})")
    inits = spread(view.first.init_times.size, _MEAN_INITS)
    with track(1 + inits.size, "forecasts read for the report") as progress:
        example = _example(view)
        progress.advance(1)
        mean = _means(view, inits, progress.advance)
    told = absent | dict(without or {})
    grid = view.shape, view.latitude, view.longitude
    return Fields(tuple(files), view.variables, example, mean, *grid, _coast(store), told)


def _open_shown(
    scores: xr.Dataset, paths: Mapping[str, Path], store: Store, external: Mapping[str, Places]
) -> tuple[dict[str, ForecastFile], dict[str, str]]:
    """The files of those who are shown, in order, and why others are not."""
    files: dict[str, ForecastFile] = {}
    absent: dict[str, str] = {}
    places: dict[str, Places] = {**external, **paths}
    first = {candidate(scores): places[candidate(scores)]}
    levels = _levels(_can_be_shown(scores))
    config = EvaluateConfig(forecasts=dict.fromkeys(external, ""), pressure_levels=levels, missing_inits="leave_out")
    for name in _ranked(scores, (*paths, *external), external):
        if len(files) == _MOST_FORECASTERS:
            absent[name] = f"the page has room for those of {_MOST_FORECASTERS} forecasters"
            continue
        try:
            opened, _ = open_compared(first | {name: places[name]}, store, config)
            file = opened[name].as_scored(scores)
            made = printable(str(file.attributes.get("history", "")))
            if "forecast_history" in scores and made != scores["forecast_history"].sel(forecaster=name):
                raise DataError(f"{file.path}: is another file than was scored; evaluate again")
            if name in external:
                one = slice(0, 1)
                held = _View(scores, {name: file}, store).verification(file.lead_times[:1]).forecast(file, one, one)
                if lacking := [v for v in _can_be_shown(scores) if v not in held]:
                    raise DataError(f"{file.path}: does not hold {', '.join(lacking)}")
        except DataError as error:
            if name not in external:
                raise
            absent[name] = str(error)
        else:
            files[name] = file
    return files, absent


def _can_be_shown(scores: xr.Dataset) -> tuple[str, ...]:
    """Headline variables that every file of the experiment can hold."""
    return tuple(filter(has_climatology, headline_variables(scores)))


def _levels(variables: Iterable[str]) -> list[float]:
    return sorted({float(v.partition("@")[2]) for v in variables if "@" in v})


@dataclass(frozen=True)
class _View:
    """What is looked at: whose forecasts, which variables, on which grid of a map.

    Attributes:
      scores: Of the forecasts.
      files: By forecaster.
      store: The truth.
    """

    scores: xr.Dataset
    files: Mapping[str, ForecastFile]
    store: Store

    @cached_property
    def first(self) -> ForecastFile:
        """All files have its initial times and leads."""
        return next(iter(self.files.values()))

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Headline variables that every one of the files can hold."""
        return _can_be_shown(self.scores)

    @cached_property
    def rivals(self) -> list[int]:
        """Which of the files are the candidate's and its opponents': their errors set the scale of colours.

        Not climatology's: they are as large as the weather's departures, beside which others' would be pale.
        """
        names = [n for n in (candidate(self.scores), *opponents(self.scores)) if n in self.files]
        return [list(self.files).index(n) for n in names if n != "climatology" or len(names) == 1]

    @cached_property
    def _mask(self) -> np.ndarray:
        """What was verified, bool ``(latitude, longitude)``."""
        verified = self.scores["mask"].values == 1 if "mask" in self.scores else True
        return np.broadcast_to(verified, self.store.grid.shape)

    def verification(self, leads: np.ndarray) -> Verification:
        """Truth and forecasts as comparable fields at these leads."""
        derived = [name for name in KINEMATIC if any(v.partition("@")[0] == name for v in self.variables)]
        return Verification(self.store, self.first.init_times, leads, _levels(self.variables), derived, with_holes=True)

    def reach(self, error: np.ndarray) -> float:
        """Size of the largest errors of the rivals, extremes apart; ``(forecaster, ..., latitude, longitude)``."""
        return _percentiles(np.abs(error[self.rivals][..., self._mask]), 99.5)[0] or 1.0

    def errors(self, error: np.ndarray) -> dict[str, Any]:
        """What maps of errors ``(forecaster, ..., latitude, longitude)`` hold: see ``Fields``."""
        thin = self.thinned(error)
        sizes = np.where(np.isfinite(thin), np.abs(thin), 0.0)
        reach = self.reach(error)
        largest = np.minimum(sizes.max(axis=tuple(range(1, thin.ndim))), _MOST_REACH * reach)
        steps = [_quantised(e, -most, most) for e, most in zip(thin, largest.tolist(), strict=True)]
        return {"error": np.stack(steps), "largest": largest, "reach": reach}

    @cached_property
    def _step(self) -> int:
        return max(1, -(-self.store.grid.shape[1] // _WIDEST))

    @cached_property
    def latitude(self) -> np.ndarray:
        """Of the rows of a map, from north to south."""
        return np.asarray(self.store.grid.latitude)[::-1][:: self._step]

    @cached_property
    def longitude(self) -> np.ndarray:
        """Of its columns."""
        return np.asarray(self.store.grid.longitude)[:: self._step]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a map."""
        return self.latitude.size, self.longitude.size

    def thinned(self, planes: np.ndarray) -> np.ndarray:
        """``(..., latitude, longitude)`` from south to north, to the rows and columns of the map, with its holes."""
        planes = np.where(self._mask, planes, np.nan)
        return planes[..., ::-1, :][..., :: self._step, :: self._step]


def _ranked(scores: xr.Dataset, held: tuple[str, ...], external: Collection[str]) -> list[str]:
    """The candidate, its hardest opponent, what the user named, then whom the curves show before all others."""
    names = scores["forecaster"].values.tolist()
    usual = [n for n in default_lines(names, candidate(scores)) if n not in made_of(candidate(scores))]
    asked = [n for n in names if n in external]
    ranked = dict.fromkeys([candidate(scores), hardest_opponent(scores), *asked, *usual, *names])
    return [n for n in ranked if n in held]


def _example(view: _View) -> dict[str, Any]:
    all_leads = view.first.lead_times
    plane_bytes = int(np.prod(view.shape)) * len(view.variables) * (1 + len(view.files))
    every = min(max(1, -(-all_leads.size * plane_bytes // _EXAMPLE_BYTES)), all_leads.size)
    columns = np.arange(every - 1, all_leads.size, every)
    leads = all_leads[columns]
    verification = view.verification(leads)
    init = median_case(view.scores)
    inits = slice(init, init + 1)
    observed = verification.truth(verification.rows[init])
    forecasts = [_single(verification.forecast(f, inits, columns), f) for f in view.files.values()]
    squared = view.scores["squared_error"].sel(forecaster=list(view.files), region=WHOLE)
    squared = squared.isel(init_time=init, lead_time=columns).transpose("variable", "forecaster", "lead_time")
    out = {}
    for variable in view.variables:
        factor = shown_unit(variable, units_of(variable, view.store)).factor
        truth = observed[variable] * factor
        error = np.stack([f[variable][0] for f in forecasts]) * factor - truth
        thin = view.thinned(truth)
        least, low, high, most = _percentiles(thin, 0.0, 0.5, 99.5, 100.0)  # of the truth, which blows up nowhere
        out[variable] = view.errors(error) | {
            "truth": _quantised(thin, least, most),
            "least": least,
            "most": most,
            "low": low,
            "high": high,
            "rmse": factor * np.sqrt(squared.sel(variable=variable).values),
        }
    start = np.datetime_as_string(view.first.init_times[init], "h").replace("T", " ") + " UTC"
    return {"init": start, "hours": leads / np.timedelta64(1, "h"), "variables": out}


def _means(view: _View, inits: np.ndarray, advance: Callable[[int], None]) -> dict[str, Any]:
    """Mean errors over these initial times at some leads."""
    hours = view.first.lead_times / np.timedelta64(1, "h")
    columns = places_of(_MEAN_LEADS, hours)
    verification = view.verification(view.first.lead_times[columns])
    errors = {v: np.zeros((len(view.files), columns.size, *view.store.grid.shape)) for v in view.variables}
    for init in inits.tolist():
        one = slice(init, init + 1)
        observed = verification.truth(verification.rows[init])
        for i, file in enumerate(view.files.values()):
            planes = _single(verification.forecast(file, one, columns), file)
            for v in view.variables:
                errors[v][i] += planes[v][0] - observed[v]
        advance(1)
    maps = {}
    for v in view.variables:
        maps[v] = view.errors(errors[v] * (shown_unit(v, units_of(v, view.store)).factor / inits.size))
    return {"inits": int(inits.size), "hours": hours[columns], "variables": maps}


def _single(planes: Planes, file: ForecastFile) -> Planes:
    """Of an ensemble its mean."""
    return {k: v.mean(axis=0) for k, v in planes.items()} if file.is_ensemble else planes


def _percentiles(values: np.ndarray, *which: float) -> list[float]:
    """Of what is finite; zeros where nothing is."""
    finite = values[np.isfinite(values)]
    return np.percentile(finite if finite.size else np.zeros(1), which).tolist()


def _quantised(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """To uint8, 0 at ``low`` and 254 at ``high``, so that the middle of a symmetric range is a value of its own.

    What is not finite is 255.
    """
    scaled = (values - low) / max(high - low, np.finfo(np.float64).tiny)
    steps = np.clip(np.round(254 * scaled), 0, 254)
    return np.where(np.isfinite(values), steps, 255).astype(np.uint8)


def _coast(store: Store) -> list[np.ndarray]:
    """Land's edge, where the store holds a land-sea mask, in fractions of the map from its north-west corner."""
    if store.land_share is None:
        return []
    land = store.land_share[::-1]
    contours = Figure().subplots().contour(land, levels=[0.5])
    return [(line + 0.5) / land.shape[::-1] for line in contours.allsegs[0] if len(line) > 1]
