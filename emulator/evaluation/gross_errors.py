"""Forecasts of others that are so wrong from the start that the file, and not the model, is likely to be at fault."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from data_prep import clock
from emulator.evaluation.external_files import locate_all, shown
from emulator.evaluation.regions import WHOLE

logger = logging.getLogger(__name__)

_CLIMATOLOGY = "climatology"
_GROSS = 2.0  # times climatology's error: the states of two unrelated years are 1.4 times it apart


def warn_of_gross_errors(scores: xr.Dataset, given: Mapping[str, str | Sequence[str]]) -> None:
    """Asks whether unit, orientation and time are right where an error at the first lead is far above climatology's.

    Args:
      scores: Holds ``rmse (forecaster, variable, lead_time, region)``; nothing is said where climatology is not scored.
      given: The forecasts of others, by name, and where they lie: those of the experiment itself are never doubted.
    """
    if _CLIMATOLOGY in given or _CLIMATOLOGY not in scores["forecaster"].values:
        return
    first = scores["rmse"].sel(region=WHOLE).isel(lead_time=0)
    usual = first.sel(forecaster=_CLIMATOLOGY).values
    hours = clock.hours(scores["lead_time"].values[0])
    for name, files in given.items():
        error = first.sel(forecaster=name).values
        times = np.divide(error, usual, out=np.zeros_like(error), where=(usual > 0) & np.isfinite(error))
        worst = int(times.argmax())
        if times[worst] > _GROSS:
            logger.warning(
                "%s: its error in %s at %g h is %.3g times climatology's; is the unit, the orientation or the time "
                "right? look at %s",
                *(name, first["variable"].values[worst], hours, times[worst], shown(locate_all(files))),
            )
