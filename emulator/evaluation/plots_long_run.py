"""Pictures of a long run: its global means, its zonal bias, its fine scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emulator.evaluation.figures import DPI, PANEL, RC, save
from emulator.evaluation.scores_reader import lead_days, unit_of
from emulator.evaluation.style import Unit, forecaster_label, line_styles, variable_label

_TRUTH_GREY = "#777777"


def plot_long_run(run: xr.Dataset, folder: Path) -> list[Path]:
    """Draws a long run.

    Args:
      run: As ``measure_long_run`` returns it.
      folder: Where the files go.

    Returns:
      ``long_run`` as PNG and PDF.
    """
    with mpl.rc_context(RC):
        return save(long_run_figure(run), folder / "long_run")


def long_run_figure(run: xr.Dataset) -> Figure:
    """Of every variable its global mean beside the truth's range, its zonal bias, and its fine scales."""
    variables = run["variable"].values.tolist()
    with_fine = np.isfinite(run["fine_scale_ratio"]).any()
    columns = 3 if with_fine else 2
    figure = Figure(figsize=(PANEL[0] * columns, 0.8 + 2.2 * len(variables)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(variables), columns, squeeze=False)
    colour = line_styles([run.attrs["forecaster"]])[run.attrs["forecaster"]][0]
    for row, variable in zip(grid, variables, strict=True):
        unit = unit_of(run, variable)
        one = run.sel(variable=variable)
        _draw_drift(row[0], one, unit, colour)
        _draw_zonal_bias(figure, row[1], one, unit)
        if with_fine:
            row[2].plot(_middles(run), one["fine_scale_ratio"].values, color=colour, marker="o", ms=4)
            row[2].axhline(1.0, color="#aaaaaa", lw=0.8, zorder=0)
            row[2].set_ylim(0, 1.1 * max(1.0, float(one["fine_scale_ratio"].max())))
            row[2].set_xlim(0, run["window"].values[-1] + run.attrs["window_days"])
            row[2].set_title("Fine-scale amplitude over truth's", loc="left", fontsize=9)
        row[0].set_title(f"{variable_label(variable)}: global mean", loc="left", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("Days")
    starts = np.datetime_as_string(run["init_time"].values, unit="D")
    handles: list[Any] = [
        mpl.lines.Line2D([], [], color=colour, ls=_run_dash(i), lw=1.4, label=f"from {start}")
        for i, start in enumerate(starts)
    ]
    handles.append(
        mpl.lines.Line2D([], [], color=_TRUTH_GREY, lw=0.8, label="the truth's mean at that time of the year")
    )
    handles.append(mpl.patches.Patch(color=_TRUTH_GREY, alpha=0.2, lw=0, label="and its range"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    held = f" but for a sponge ({run.attrs['sponge']})" if "sponge" in run.attrs else ""
    figure.suptitle(
        f"{forecaster_label(run.attrs['forecaster'])} left to itself{held}; bias and fine scales: mean of the runs",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    return figure


def _draw_drift(axes: Axes, one: xr.Dataset, unit: Unit, colour: str) -> None:
    days = lead_days(one)
    for i in range(one.sizes["init_time"]):
        here = one.isel(init_time=i)
        low, high, mean = (here[f"truth_{key}"].values * unit.factor for key in ("lowest", "highest", "mean"))
        axes.fill_between(days, low, high, color=_TRUTH_GREY, alpha=0.2, lw=0)
        axes.plot(days, mean, color=_TRUTH_GREY, lw=0.8)
        axes.plot(days, here["global_mean"].values * unit.factor, color=colour, lw=1.4, ls=_run_dash(i))
    axes.set_xlim(0, days[-1])
    axes.set_ylabel(unit.label)


def _run_dash(i: int) -> str:
    return ("-", "--", ":", "-.")[i % 4]


def _draw_zonal_bias(figure: Figure, axes: Axes, one: xr.Dataset, unit: Unit) -> None:
    bias = one["zonal_bias"].values * unit.factor
    known = np.abs(bias[np.isfinite(bias)])
    reach = float(known.max(initial=0.0)) or 1.0
    latitude = one["latitude"].values
    bounds = np.concatenate([[latitude[0]], (latitude[1:] + latitude[:-1]) / 2, [latitude[-1]]])
    edges = np.append(one["window"].values, one["window"].values[-1] + one.attrs["window_days"])
    mesh = axes.pcolormesh(edges, bounds, bias.T, cmap="RdBu_r", vmin=-reach, vmax=reach, rasterized=True)
    figure.colorbar(mesh, ax=axes, label=unit.label)
    axes.set_title("Zonal-mean bias", loc="left", fontsize=9)
    axes.set_ylabel("Latitude")


def _middles(run: xr.Dataset) -> np.ndarray:
    return run["window"].values + run.attrs["window_days"] / 2
