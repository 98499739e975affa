"""Whether a verdict holds throughout: errors by season and by trajectory, from what a scores file holds of every start.

No intervals: a part of the initial times is a small sample, and of many parts one looks different by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import candidate, headline_variables, opponents

_SEASONS = ("December to February", "March to May", "June to August", "September to November")
_MANY = 12  # trajectories: more are not told one by one


@dataclass(frozen=True)
class Stratum:
    """A part of the initial times.

    Attributes:
      label: What they have in common, in words.
      rows: Their places, ``int64 (init_time,)``.
    """

    label: str
    rows: np.ndarray


def strata(scores: xr.Dataset) -> tuple[Stratum, ...]:
    """Seasons of the initial times, then trajectories by their first and last one; of either two or more, or none.

    None where the scores do not hold the errors of single forecasts.
    """
    if "squared_error" not in scores:
        return ()
    times = scores["init_time"].values
    season = times.astype("datetime64[M]").astype(np.int64) % 12
    of_season = (season + 1) % 12 // 3
    seasons = [Stratum(label, np.flatnonzero(of_season == i)) for i, label in enumerate(_SEASONS)]
    labels = scores["trajectory"].values
    parts = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels.tolist())]
    trajectories = [Stratum(f"{times[rows[0]]!s:.10} to {times[rows[-1]]!s:.10}", rows) for rows in parts]
    seasons = [s for s in seasons if s.rows.size]
    return (
        *(seasons if len(seasons) > 1 else ()),
        *(trajectories if 1 < len(trajectories) <= _MANY else ()),
    )


def ratio_in(scores: xr.Dataset, rows: np.ndarray, forecaster: str, reference: str) -> xr.DataArray:
    """RMSE over some initial times, one forecaster's over another's, of the headline variables over the whole grid.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      rows: Places of the initial times.
      forecaster, reference: Their names.

    Returns:
      Dims ``(variable, lead_time)``: below one where the forecaster is ahead, NaN where one of them was not scored.
    """
    mean = _mean_square(scores, rows)
    return (mean.sel(forecaster=forecaster, drop=True) / mean.sel(forecaster=reference, drop=True)) ** 0.5


def ratio_to_hardest(scores: xr.Dataset, rows: np.ndarray) -> xr.DataArray:
    """RMSE over some initial times, the candidate's over that of the opponent who errs least over all of them.

    Who that is may differ from lead to lead and from variable to variable, but not from part to part.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
      rows: Places of the initial times.

    Returns:
      Dims ``(variable, lead_time)``, of the variables in which the candidate and an opponent were scored.
    """
    rivals, name = opponents(scores), candidate(scores)
    whole, part = (_mean_square(scores, chosen) for chosen in (np.arange(scores.sizes["init_time"]), rows))
    best = whole.sel(forecaster=rivals).fillna(np.inf).argmin("forecaster")
    ratio = part.sel(forecaster=name, drop=True) / part.sel(forecaster=rivals).isel(forecaster=best)
    scored = whole.sel(forecaster=rivals).notnull().any("forecaster") & whole.sel(forecaster=name).notnull()
    return ratio.drop_vars("forecaster").where(scored).dropna("variable") ** 0.5


def _mean_square(scores: xr.Dataset, rows: np.ndarray) -> xr.DataArray:
    """Squared errors of the headline variables, mean over some initial times ``(forecaster, variable, lead_time)``."""
    squared = scores["squared_error"].sel(region=WHOLE, variable=headline_variables(scores)).isel(init_time=rows)
    return squared.mean("init_time", skipna=False).transpose("forecaster", "variable", "lead_time")
