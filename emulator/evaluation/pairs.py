"""Every forecaster against every other in one variable: differences, p-values, crossovers, time gain, gap closed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import get_args

import numpy as np
import xarray as xr

from emulator.evaluation.crossover import Outcome, find_crossovers
from emulator.evaluation.forecaster_names import is_physics
from emulator.evaluation.gap_closed import gap_closed, is_gap
from emulator.evaluation.geer import geer_p
from emulator.evaluation.resampling import Resamples
from emulator.evaluation.significance import ENDS, Bootstrap, Estimate
from emulator.evaluation.time_gain import time_gain

_LONG_NAMES = {
    "rmse_difference": "rmse, forecaster minus reference",
    "rmse_ratio": "rmse, forecaster over reference",
    "time_gain_hours": "by how many hours the error of the forecaster comes later than the same of the reference "
    "(infinite: beyond the leads there are)",
    "gap_closed": "share of the gap in rmse from the reference to the predictability limit that the forecaster closes",
    "rmse_difference_p": "two-sided p-value of no difference in rmse, Student's t",
    "rmse_difference_p_geer": "the same from paired differences of the root of area-mean squared errors, "
    "standard error inflated as an AR(2) has it (Geer 2016)",
    "crossover_hours": "lead up to which the forecaster is ahead of the reference in RMSE (infinite: beyond the last "
    "lead), hours",
    "crossover_lower": "lower end of its interval: significantly ahead up to there (infinite: to the last lead), hours",
    "crossover_upper": "upper end of its interval (infinite: open), hours",
    "crossover_start": "lead from which it is significantly ahead, hours",
    "crossover_outcome": "the crossover in words",
    "crossover_from_first_lead": "1 where that is the first lead",
}


def compare_pairs(
    squared_error: np.ndarray,
    lead_hours: np.ndarray,
    names: list[str],
    limit: str | None,
    bootstrap: Bootstrap,
    resamples: Resamples,
) -> xr.Dataset:
    """All that is known of pairs, by RMSE.

    Args:
      squared_error: Area means ``(forecaster, lead, region, init_time)``.
      lead_hours: Ascending ``(lead,)``.
      names: Of the forecasters.
      limit: Whose error is the predictability limit.
      bootstrap, resamples: That intervals come from.

    Returns:
      ``rmse_difference``, ``rmse_ratio``, ``time_gain_hours`` (each with ``_lower`` and ``_upper``),
      ``rmse_difference_p``, ``rmse_difference_p_geer``, and, where there is a limit, ``gap_closed``, by ``(forecaster,
      reference, lead_time, region)``; crossovers by ``(forecaster, reference, region)``.
    """
    grid = squared_error.shape[1:3]
    errors = squared_error.reshape(len(names), -1, squared_error.shape[-1])
    squares = [resamples.means(e) for e in errors]
    quantities = ("rmse_difference", "rmse_ratio", "time_gain_hours", *(["gap_closed"] if limit is not None else []))
    table, crossovers = _Table(len(names), grid, quantities), _Crossovers(len(names), grid[1])
    for a, b in combinations(range(len(names)), 2):
        difference = rmse_difference(bootstrap, resamples, squares[a], squares[b])
        ratio = difference.map(partial(_ratio, np.sqrt(squares[a][:, 0]) + np.sqrt(squares[b][:, 0])))
        p, p_geer = difference.p(bootstrap.confidence), geer_p(errors[a], errors[b], bootstrap.trajectory)
        for place, d, r in (((a, b), difference, ratio), ((b, a), _negative(difference), _inverse(ratio))):
            mine, other = (squared_error[i] for i in place)
            table.put("rmse_difference", place, d)
            table.put("rmse_ratio", place, r)
            table.put("time_gain_hours", place, time_gain(lead_hours, mine, other, bootstrap, d))
            table.arrays["rmse_difference_p"][place] = p
            table.arrays["rmse_difference_p_geer"][place] = p_geer
            crossovers.put(place, lead_hours, d, bootstrap.confidence)
    if limit is not None:
        _put_gaps(table, errors, names, names.index(limit), bootstrap)
    return xr.Dataset(table.variables() | crossovers.variables())


def rmse_difference(bootstrap: Bootstrap, resamples: Resamples, a: np.ndarray, b: np.ndarray) -> Estimate:
    """RMSE of A minus that of B, as sure as the difference of their mean squares is.

    RMSE(A) - RMSE(B) = (MSE(A) - MSE(B)) / (RMSE(A) + RMSE(B)), and both vanish together; the sum is taken as known.
    Roots of resampled means would shrink whichever error came out large, and its spread with it: of equals they call
    significant one in seven too many where initial times are correlated.

    Args:
      bootstrap, resamples: That the interval comes from.
      a, b: Rows of the mean squared errors ``(cell, row)``.
    """
    both = np.sqrt(a[:, :1]) + np.sqrt(b[:, :1])
    return bootstrap.interval(resamples, (a - b) / np.where(both == 0, 1.0, both))


def _ratio(both: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """A over B from A - B, of which the sum is taken as known here too, so that both intervals say the same."""
    with np.errstate(divide="ignore", invalid="ignore"):  # without any error, or where an interval ends beyond all
        within = np.clip(difference, -both, both)
        return (both + within) / (both - within)


def _put_gaps(table: _Table, errors: np.ndarray, names: list[str], limit: int, bootstrap: Bootstrap) -> None:
    """The share closed of the gap that physics leaves to the limit."""
    for reference in (i for i, name in enumerate(names) if is_physics(name) and i != limit):
        there = is_gap(
            table.arrays["rmse_difference_lower"][reference, limit], table.arrays["rmse_ratio"][limit, reference]
        )
        for forecaster in range(len(names)):
            mine, other, least = (errors[i][there] for i in (forecaster, reference, limit))
            table.put("gap_closed", (forecaster, reference), gap_closed(mine, other, least, bootstrap), there)


class _Table:
    """Arrays by forecaster, reference and cell (lead, region); NaN where nothing was put."""

    def __init__(self, forecasters: int, grid: tuple[int, ...], quantities: Sequence[str]) -> None:
        names = [quantity + end for quantity in quantities for end in ENDS]
        shape = (forecasters, forecasters, int(np.prod(grid)))
        self.arrays = {name: np.full(shape, np.nan) for name in (*names, "rmse_difference_p", "rmse_difference_p_geer")}
        self._grid = grid

    def put(
        self, name: str, place: tuple[int, int], estimate: Estimate, cells: np.ndarray | slice = slice(None)
    ) -> None:
        for end, attribute in ENDS.items():
            self.arrays[name + end][place][cells] = getattr(estimate, attribute)

    def variables(self) -> dict[str, xr.Variable]:
        dims = ("forecaster", "reference", "lead_time", "region")
        return {
            name: xr.Variable(dims, array.reshape(*array.shape[:2], *self._grid), {"long_name": _long_name(name)})
            for name, array in self.arrays.items()
        }


class _Crossovers:
    """Crossovers by forecaster, reference and region."""

    def __init__(self, forecasters: int, regions: int) -> None:
        shape = (forecasters, forecasters, regions)
        self._arrays: dict[str, np.ndarray] = {
            key: np.full(shape, np.nan) for key in ("hours", "lower", "upper", "start")
        }
        self._arrays["outcome"] = np.full(shape, "", dtype=f"U{max(map(len, get_args(Outcome)))}")
        self._arrays["from_first_lead"] = np.zeros(shape, np.int8)

    def put(self, place: tuple[int, int], lead_hours: np.ndarray, difference: Estimate, confidence: float) -> None:
        by_lead = [
            np.broadcast_to(x, difference.value.shape).reshape(lead_hours.size, -1)
            for x in (difference.value, difference.lower, difference.upper, difference.dof)
        ]
        for region, found in enumerate(find_crossovers(lead_hours, Estimate(*by_lead), confidence)):
            for key, array in self._arrays.items():
                array[(*place, region)] = getattr(found, key)

    def variables(self) -> dict[str, xr.Variable]:
        dims = ("forecaster", "reference", "region")
        return {
            f"crossover_{key}": xr.Variable(dims, array, {"long_name": _long_name(f"crossover_{key}")})
            for key, array in self._arrays.items()
        }


def _long_name(name: str) -> str:
    if name in _LONG_NAMES:
        return _LONG_NAMES[name]
    quantity, _, end = name.rpartition("_")
    return f"{end} end of the interval of: {_LONG_NAMES[quantity]}"


def _negative(difference: Estimate) -> Estimate:
    return Estimate(-difference.value, -difference.upper, -difference.lower, difference.dof)


def _inverse(ratio: Estimate) -> Estimate:
    with np.errstate(divide="ignore"):
        return Estimate(1 / ratio.value, 1 / ratio.upper, 1 / ratio.lower, ratio.dof)
