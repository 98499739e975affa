"""From additive statistics to what a forecaster asks: metrics with intervals, who is better, and until when.

Works on one variable at a time, so that statistics may stay in their file: of a lazily opened one, only what a
variable needs is read.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from emulator.config import EvaluateConfig
from emulator.evaluation.metrics import Metric, computable
from emulator.evaluation.pairs import compare_pairs
from emulator.evaluation.resampling import Resamples
from emulator.evaluation.scorecard import better_everywhere, significant_cells
from emulator.evaluation.significance import ENDS, Bootstrap
from emulator.progress import track


def compare(statistics: xr.Dataset, config: EvaluateConfig) -> xr.Dataset:
    """Adds metrics, their intervals, paired differences and crossovers.

    Args:
      statistics: Additive statistics ``(forecaster, variable, lead_time, init_time, region)`` with the coordinate
        ``trajectory(init_time)``; the truth's own without ``forecaster``. Attributes that are read, if there:
        ``headline`` (variables, separated by spaces) and ``predictability_limit`` (a forecaster).
      config: Resamples and confidence.

    Returns:
      The statistics and all that follows from them; see ``docs/architecture.md``.

    Raises:
      DataError: the predictability limit is not one of the forecasters.
    """
    names = statistics["forecaster"].values.tolist()
    limit = statistics.attrs.get("predictability_limit")
    if limit is not None and limit not in names:
        raise DataError(
            f"evaluate: attribute predictability_limit is {limit}, but the forecasters are {', '.join(names)}; "
            "name one of them"
        )
    metrics = computable(map(str, statistics.data_vars))
    needed = sorted({"squared_error"}.union(*(metric.needs for metric in metrics)))
    bootstrap = Bootstrap(statistics["trajectory"].values, config.bootstrap, config.confidence)
    hours = statistics["lead_time"].values / np.timedelta64(1, "h")
    parts = []
    n_variables = statistics.sizes["variable"]
    with track(n_variables, "variables compared") as progress:
        for i in range(n_variables):
            one = statistics[needed].isel(variable=i, drop=True).load()
            one = one.transpose("forecaster", "lead_time", "region", "init_time", missing_dims="ignore")
            squared = one["squared_error"].values
            resamples = bootstrap.resamples(squared.reshape(-1, squared.shape[-1]))
            pairs = compare_pairs(squared, hours, names, limit, bootstrap, resamples)
            parts.append(pairs.merge(_with_intervals(one, metrics, bootstrap, resamples)))
            progress.advance()
    axes = {d: statistics[d] for d in ("forecaster", "variable", "lead_time", "region")}
    found = xr.concat(parts, "variable").assign_coords(axes | {"reference": names})
    found["rmse_difference_significant"] = significant_cells(found["rmse_difference_p"], config.confidence)
    headline = str(statistics.attrs.get("headline", "")).split()
    found["better_everywhere"] = better_everywhere(found["rmse_difference_upper"], headline)
    first = [d for d in ("forecaster", "reference", "variable", "lead_time", "region") if d in found.dims]
    return statistics.assign(found.transpose(*first).data_vars).assign_coords(reference=names)


def _with_intervals(
    one: xr.Dataset, metrics: tuple[Metric, ...], bootstrap: Bootstrap, resamples: Resamples
) -> xr.Dataset:
    """Metrics of one variable with their intervals, by ``(forecaster, lead_time, region)``."""
    dims = ("forecaster", "lead_time", "region")
    shape = tuple(one.sizes[d] for d in dims)
    arrays = {metric.name + end: np.full(shape, np.nan) for metric in metrics for end in ENDS}
    of_truth = {name: _rows(x, resamples) for name, x in one.data_vars.items() if "forecaster" not in x.dims}
    for f in range(shape[0]):
        mine = {name: _rows(x[f], resamples) for name, x in one.data_vars.items() if "forecaster" in x.dims}
        for metric in metrics:
            rows = metric(of_truth | mine)
            there = np.isfinite(rows[:, 0])  # not every score exists of every forecaster in every region
            if not there.any():
                continue
            found = bootstrap.interval(resamples, rows[there])
            for end, attribute in ENDS.items():
                arrays[metric.name + end][f].reshape(-1)[there] = np.clip(getattr(found, attribute), *metric.bounds)
    long_names = {
        metric.name + end: f"{end[1:]} end of the interval of {metric.name}" if end else metric.long_name
        for metric in metrics
        for end in ENDS
    }
    return xr.Dataset({name: (dims, array, {"long_name": long_names[name]}) for name, array in arrays.items()})


def _rows(statistic: xr.DataArray, resamples: Resamples) -> np.ndarray:
    """Means of a statistic ``(lead_time, region, init_time)`` as ``(cell, row)``; NaN where it is not there."""
    values = statistic.values.reshape(-1, statistic.shape[-1])
    there = np.isfinite(values).all(axis=1)
    if there.all():
        return resamples.means(values)
    out = np.full((values.shape[0], resamples.rows), np.nan)
    out[there] = resamples.means(values[there])
    return out
