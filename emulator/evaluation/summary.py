"""Scores in short for machines: error by lead and crossovers of the headline variables, cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import xarray as xr

from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import candidate, headline_variables, lead_hours, read_crossover


def summarise(scores: xr.Dataset) -> dict[str, Any]:
    """What the table of an experiment says, in SI units and hours, as JSON takes it; NaN where there is nothing.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them.
    """
    names: list[str] = scores["forecaster"].values.tolist()
    subject = candidate(scores)
    others = [name for name in names if name != subject]
    rmse = scores["rmse"].sel(region=WHOLE)
    return {
        "truth": scores.attrs.get("truth"),
        "initial_times": int(scores.attrs["initial_times"]),
        "confidence": float(scores.attrs["confidence"]),
        "lead_hours": lead_hours(scores).tolist(),
        "forecaster": subject,
        "variables": {
            variable: {
                "units": str(scores["units"].sel(variable=variable).item()),
                "rmse": {name: rmse.sel(variable=variable, forecaster=name).values.tolist() for name in names},
                "beats_until": {name: asdict(read_crossover(scores, subject, name, variable)) for name in others},
            }
            for variable in headline_variables(scores)
        },
        "simulated_days_per_second": dict(zip(names, scores["simulated_days_per_second"].values.tolist(), strict=True)),
    }
