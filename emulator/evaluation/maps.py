"""Maps of one forecast beside the truth and the physics, with what each got wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.store import Store
from data_prep.reading.locations import Location
from emulator.config import EvaluateConfig
from emulator.evaluation.fields import Planes, Verification, units_of
from emulator.evaluation.figures import DPI, save, wrapped
from emulator.evaluation.forecast_file import open_compared
from emulator.evaluation.regions import read_mask
from emulator.evaluation.scores_reader import (
    candidate,
    headline_variables,
    label_of,
    lead_hours,
    median_case,
    median_lead,
    places_of,
    world_sentence,
)
from emulator.evaluation.style import Unit, forecaster_label, lead_text, number_text, shown_unit, variable_label

_LEAD_HOURS = (24, 72, 120)


def plot_maps(
    forecast_paths: Mapping[str, Location],
    store: Store,
    config: EvaluateConfig,
    variable: str,
    out: Path,
    scores: xr.Dataset,
) -> Path:
    """Draws truth, one of each forecaster's forecasts, and its difference from the truth, one column per lead: 24, 72
    and 120 h as far as they were forecast, or the last one where there is none of these.

    Args:
      forecast_paths: Forecasters of single forecasts to show, two or three of them, in order.
      store: The truth.
      config: Pressure levels, and the mask of what is verified and shown.
      variable: ``geopotential@500``.
      out: The PNG file; a PDF for papers is written beside it.
      scores: Of these forecasts: by them the case of median error is shown, the same as in the report, and they say
        what the truth is.

    Returns:
      ``out``.

    Raises:
      DataError: the variable is missing, or the forecasts are not from the initial times that were scored.
    """
    opened, _ = open_compared(forecast_paths, store, config)
    files = {name: file.as_scored(scores) for name, file in opened.items()}
    first = next(iter(files.values()))
    hours = first.lead_times / np.timedelta64(1, "h")
    columns = places_of(_LEAD_HOURS, hours)
    leads = first.lead_times[columns]
    mask = read_mask(Path(config.mask), store.grid) if config.mask else np.ones(store.grid.shape, bool)
    case = median_case(scores)
    if not np.array_equal(scores["init_time"].values, first.init_times):
        raise DataError(f"{first.path}: is not from the initial times that were scored; evaluate again")
    inits = slice(case, case + 1)
    verification = Verification(store, first.init_times[inits], leads, config.pressure_levels, config.derived, mask)
    truth = verification.truth(verification.rows[0])
    _require(truth, variable, "truth")
    unit = shown_unit(variable, units_of(variable, store))
    observed = np.where(mask, truth[variable] * unit.factor, np.nan)
    forecasts = {}
    for name, file in files.items():
        planes = verification.forecast(file, inits, columns)
        _require(planes, variable, str(file.path))
        forecasts[name] = np.where(mask, planes[variable][0] * unit.factor, np.nan)
    figure = _figure(observed, forecasts, hours[columns], store, unit)
    start = np.datetime_as_string(first.init_times[case], "h").replace("T", " ")
    title = wrapped(figure, f"{variable_label(variable)} from {start} UTC, {_why_this(scores)}", 12, "bold")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(wrapped(figure, world_sentence(scores), 8), x=0.01, ha="left", fontsize=8)
    save(figure, out.with_suffix(""))
    return out


def _why_this(scores: xr.Dataset) -> str:
    """Which of the initial times is shown."""
    whose, lead = label_of(scores, candidate(scores)), lead_text(lead_hours(scores)[median_lead(scores)])
    of = " over the headline variables" if len(headline_variables(scores)) > 1 else ""
    return f"of {scores.sizes['init_time']} starts the one of {whose}'s median error at {lead}{of}"


def _figure(
    truth: np.ndarray, forecasts: Mapping[str, np.ndarray], hours: np.ndarray, store: Store, unit: Unit
) -> Figure:
    grid = store.grid
    rows = 1 + 2 * len(forecasts)
    degrees_wide = grid.longitude_bounds[-1] - grid.longitude_bounds[0]
    aspect = float((grid.latitude_bounds[-1] - grid.latitude_bounds[0]) / degrees_wide)
    figure = Figure(figsize=(1.4 + 3.4 * len(hours), 0.6 + rows * (3.2 * aspect + 0.22)), dpi=DPI, layout="compressed")
    panels = figure.subplots(rows, len(hours), squeeze=False, sharex=True, sharey=True)
    everything = np.concatenate([truth, *forecasts.values()])
    low, high = np.nanpercentile(everything, [0.5, 99.5])
    errors = {name: field - truth for name, field in forecasts.items()}
    reach = float(np.nanpercentile(np.abs(np.concatenate(list(errors.values()))), 99.5)) or 1.0
    coast = store.land_share

    labels = ["Truth", *(forecaster_label(n) for n in forecasts)]
    fields = [truth, *forecasts.values()]
    for row, label, field in zip(panels, labels, fields, strict=False):
        for axes, plane in zip(row, field, strict=True):
            mesh = _draw(axes, grid, plane, coast, "viridis", low, high)
        row[0].set_ylabel(label)
    figure.colorbar(mesh, ax=panels[: len(fields)], label=unit.label, shrink=0.6, pad=0.01, extend="both")
    weights = grid.latitude_weights[:, None] * np.isfinite(truth[0])
    for row, (name, field) in zip(panels[len(fields) :], errors.items(), strict=True):
        for axes, plane in zip(row, field, strict=True):
            mesh = _draw(axes, grid, plane, coast, "RdBu_r", -reach, reach)
            rmse = float(np.sqrt(np.nansum(weights * plane**2) / weights.sum()))
            axes.text(
                0.99, 0.03, f"RMSE {number_text(rmse)}", transform=axes.transAxes, ha="right", fontsize=7,
                bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5},
            )  # fmt: skip
        row[0].set_ylabel(f"{forecaster_label(name)}\nminus truth")
    figure.colorbar(mesh, ax=panels[len(fields) :], label=unit.label, shrink=0.6, pad=0.01, extend="both")
    for axes, lead in zip(panels[0], hours, strict=True):
        axes.set_title(f"{lead:g} h" if lead < 24 else f"Day {lead / 24:g}", fontsize=10)
    return figure


def _draw(
    axes: Axes, grid: Grid, plane: np.ndarray, coast: np.ndarray | None, colours: str, low: float, high: float
) -> QuadMesh:
    mesh = axes.pcolormesh(
        grid.longitude_bounds, grid.latitude_bounds, plane, cmap=colours, vmin=low, vmax=high, rasterized=True
    )
    if coast is not None:
        axes.contour(grid.longitude, grid.latitude, coast, levels=[0.5], colors="black", linewidths=0.5)
    for axis, text in ((axes.xaxis, _longitude), (axes.yaxis, _latitude)):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 1.5, 3, 4.5, 6, 9, 10]))
        axis.set_major_formatter(FuncFormatter(text))
    axes.tick_params(labelsize=7, length=2)
    axes.set_aspect("equal")
    return mesh


def _longitude(degrees: float, _: int) -> str:
    east = (degrees + 180) % 360 - 180
    return f"{abs(east):g}°{'' if east in (0, -180) else 'E' if east > 0 else 'W'}"


def _latitude(degrees: float, _: int) -> str:
    return f"{abs(degrees):g}°{'N' if degrees > 0 else 'S' if degrees < 0 else ''}"


def _require(planes: Planes, variable: str, source: str) -> None:
    if variable not in planes:
        raise DataError(f"maps: {source} does not hold {variable}; it holds {', '.join(planes)}")
