"""Forecasts of others that are so wrong from the start that the file, and not the model, is likely to be at fault."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.variables import is_accumulation
from emulator.evaluation.external_files import locate_all, shown
from emulator.evaluation.regions import WHOLE

logger = logging.getLogger(__name__)

_CLIMATOLOGY = "climatology"
_OVER = ", and is each value the sum over the step that ends there"
_GROSS = 2.0  # times climatology's error: the states of two unrelated years are 1.4 times it apart


def warn_of_gross_errors(scores: xr.Dataset, given: Mapping[str, str | Sequence[str]]) -> None:
    """Asks whether unit, orientation and time are right where an error at the first lead is far above climatology's.

    Rain is asked about at all leads: summed from the start, it is right at the first one.

    Args:
      scores: Holds ``rmse (forecaster, variable, lead_time, region)``; nothing is said where climatology is not scored.
      given: The forecasts of others, by name, and where they lie: those of the experiment itself are never doubted.
    """
    if _CLIMATOLOGY in given or _CLIMATOLOGY not in scores["forecaster"].values:
        return
    rmse = scores["rmse"].sel(region=WHOLE).transpose("forecaster", "variable", "lead_time")
    usual = rmse.sel(forecaster=_CLIMATOLOGY).values
    variables = rmse["variable"].values.tolist()
    asked = np.zeros(usual.shape, bool)
    asked[:, 0] = True
    asked[[is_accumulation(variable) for variable in variables]] = True
    for name, files in given.items():
        error = rmse.sel(forecaster=name).values
        times = np.divide(error, usual, out=np.zeros_like(error), where=(usual > 0) & np.isfinite(error) & asked)
        worst, lead = map(int, np.unravel_index(times.argmax(), times.shape))
        if times[worst, lead] > _GROSS:
            variable, hours = variables[worst], clock.hours(rmse["lead_time"].values[lead])
            logger.warning(
                "%s: its error in %s at %g h is %.3g times climatology's; is the unit, the orientation or the time "
                "right%s? look at %s",
                *(name, variable, hours, times[worst, lead], _OVER * is_accumulation(variable)),
                shown(locate_all(files)),
            )
