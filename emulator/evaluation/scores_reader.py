"""What a scores file tells its readers: who is compared with whom, in which variables, at which leads and where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from emulator.evaluation.crossover import Crossover, Outcome
from emulator.evaluation.forecaster_names import SIMPLE, is_physics, is_twin, physics_form
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.significance import ENDS
from emulator.evaluation.style import Unit, forecaster_label, shown_unit

LEAD_HOURS = (6, 24, 48, 72, 120, 168, 240)
"""Leads of the table, as far as they were scored; where none of them was, others spread over all."""
_QUOTED_HOURS = 120


def headline_variables(scores: xr.Dataset) -> list[str]:
    """The variables to show: the config's headline, or all that were scored of the candidate."""
    chosen = str(scores.attrs.get("headline", "")).split()
    if chosen:
        return chosen
    every: list[str] = scores["variable"].values.tolist()
    scored = scores["rmse"].sel(forecaster=candidate(scores), region=WHOLE).notnull().any("lead_time")
    return [v for v in every if scored.sel(variable=v)] or every


def lead_hours(scores: xr.Dataset) -> np.ndarray:
    """Lead times in hours, free of what division leaves behind the sixth digit."""
    return (scores["lead_time"].values / np.timedelta64(1, "h")).round(6)


def lead_days(scores: xr.Dataset) -> np.ndarray:
    """Lead times of scores, or of a long run, in days."""
    return scores["lead_time"].values / np.timedelta64(1, "D")


def places_of(wanted: Sequence[int], hours: np.ndarray) -> np.ndarray:
    """Where these leads are among others, or the last of those where none of them is."""
    found = np.flatnonzero(np.isin(hours, wanted))
    return found if found.size else np.array([hours.size - 1])


def quoted_lead(scores: xr.Dataset) -> int:
    """Where one number is quoted: five days, late enough for blurring and early enough for skill, or before."""
    hours = lead_hours(scores)
    return int(np.flatnonzero(hours <= max(_QUOTED_HOURS, hours[0]))[-1])


def median_case(scores: xr.Dataset) -> int:
    """The initial time whose forecast is of median error: an example that is typical, not picked.

    The candidate's error at ``median_lead``, its square over the mean of all initial times, mean over the headline
    variables; of an even number the larger one of the two in the middle.
    """
    squared = scores["squared_error"].sel(
        forecaster=candidate(scores), region=WHOLE, variable=headline_variables(scores)
    )
    middle = squared.isel(lead_time=median_lead(scores))
    size = (middle / middle.mean("init_time")).mean("variable").values
    return int(np.argsort(size, kind="stable")[size.size // 2])


def median_lead(scores: xr.Dataset) -> int:
    """The lead, in the middle of all, by whose error an example is chosen."""
    return scores.sizes["lead_time"] // 2


def unit_of(scores: xr.Dataset, variable: str) -> Unit:
    """In which a variable of the scores, or of a long run, is shown."""
    return shown_unit(variable, str(scores["units"].sel(variable=variable).item()))


def candidate(scores: xr.Dataset) -> str:
    """Whose crossovers are told: the network; without one the first that is no baseline, or the first of all."""
    names: list[str] = scores["forecaster"].values.tolist()
    others = (n for n in names if not is_physics(n) and not is_twin(n) and n not in SIMPLE)
    return "network" if "network" in names else next(others, names[0])


def opponents(scores: xr.Dataset) -> list[str]:
    """Against whom a win is claimed: every physics baseline, raw, debiased and damped; without one, everybody else.

    The mean of a physics ensemble is shown but is no opponent: it costs many forecasts and blurs. (One that comes in a
    file of its own is, where there is no other physics.) The twin is none either: it is the limit; nor is what was made
    of the candidate itself, means, ensembles and supermodels with others included.
    Where nobody else was scored, they are all there is.
    """
    own = {candidate(scores), *made_of(candidate(scores))}
    for key in ("supermodels", "means", "ensembles"):  # means may be of supermodels
        pools = (text.partition(":") for text in str(scores.attrs.get(key, "")).split(";"))
        own |= {name.strip() for name, _, of in pools if own & set(of.split())}
    own |= {made for name in own for made in made_of(name)}
    names = [n for n in scores["forecaster"].values.tolist() if n not in own]
    physics = [n for n in names if is_physics(n) and physics_form(n) != "ensemble"]
    single = [n for n in physics if not is_mean(scores, n)] or physics
    others = [n for n in scores["forecaster"].values.tolist() if n != candidate(scores)]
    return single or [n for n in names if not is_twin(n)] or names or others


def is_mean(scores: xr.Dataset, name: str) -> bool:
    """Whether it was scored as the mean of an ensemble that its name says nothing of."""
    return _members(scores, name) > 1 and not name.endswith("_ensemble")


def label_of(scores: xr.Dataset, name: str) -> str:
    """A forecaster in words, with the number of members that it is the mean of."""
    members, label = _members(scores, name), forecaster_label(name)
    if members == 1:
        return label
    return f"{label}, mean of {members}" if is_mean(scores, name) else f"{label} of {members}"


def _members(scores: xr.Dataset, name: str) -> int:
    """One of a single forecast, and where earlier versions did not say."""
    return int(scores["members"].sel(forecaster=name)) if "members" in scores.coords else 1


def made_of(name: str) -> set[str]:
    """Names of a forecaster debiased, damped and as an ensemble, whether they were scored or not."""
    return {f"{name}_{form}" for form in ("debiased", "damped", "ensemble")}


def like_with_like(scores: xr.Dataset) -> list[tuple[str, str]]:
    """Pairs of candidate and physics of which the same was made: corrected by training forecasts, an ensemble's mean.

    The candidate as it is meets corrected physics at a disadvantage: damping takes error off anybody's late leads.
    """
    names = scores["forecaster"].values.tolist()
    pairs = [(f"{candidate(scores)}_{physics_form(n)}", n) for n in names if is_physics(n) and physics_form(n)]
    return [(own, other) for own, other in pairs if own in names and own != other]


def initial_times(scores: xr.Dataset) -> str:
    """How many there are, in words."""
    count = int(scores.attrs["initial_times"])
    return f"{count} initial time{'s' * (count != 1)}"


def world_sentence(scores: xr.Dataset) -> str:
    """Where all of it holds, by what truth, boundary and training data are; empty where the scores do not say."""
    known = ""
    if seen := scores.attrs.get("verified_on_training"):
        known = (
            f" Verified at times that its network learned from: {seen}. Unless those data were of another simulation, "
            "these are no scores of forecasts."
        )
    if boundary := scores.attrs.get("lateral_boundary"):
        known += (
            f" The network was given {boundary} in the rim of its region: unless that was a forecast made at initial "
            "time, this compares no forecasts."
        )
    truth = str(scores.attrs.get("truth", ""))
    if truth.startswith("nature run") or any(is_twin(n) for n in scores["forecaster"].values.tolist()):
        return (
            "This holds in the SPEEDY world: the truth is a simulation by that model (a nature run), "
            f"not the observed atmosphere.{known}"
        )
    world = ""
    if truth == "analysis":
        world = "The truth is taken to be an analysis of the observed atmosphere: its files name no simulation."
    if truth.startswith("simulation"):
        world = f"The truth is a {truth}: this holds in that model's world, not in the observed atmosphere."
    return f"{world}{known}".strip()


def read_crossover(scores: xr.Dataset, forecaster: str, reference: str, variable: str) -> Crossover:
    """One crossover of a scores file, over the whole grid."""
    one = scores.sel(forecaster=forecaster, reference=reference, variable=variable, region=WHOLE)
    hours, lower, upper, start = (float(one[f"crossover_{key}"]) for key in ("hours", "lower", "upper", "start"))
    outcome: Outcome = one["crossover_outcome"].item() or "not scored"  # against itself nothing is
    return Crossover(outcome, hours, lower, upper, start, bool(one["crossover_from_first_lead"]))


def with_gap_from(scores: xr.Dataset, reference: str) -> xr.Dataset:
    """``gap_closed`` from one of the references that there may be; left out where that leaves none."""
    ends = [f"gap_closed{end}" for end in ENDS]
    if "gap_closed" not in scores:
        return scores
    one = scores[ends].sel(reference=reference, drop=True)
    return scores.drop_vars(ends).assign(one if one["gap_closed"].notnull().any() else {})


def mean_ratios(scores: xr.Dataset) -> xr.DataArray:
    """The candidate's RMSE over that of every forecaster, geometric mean over the headline variables.

    Returns:
      Dims ``(forecaster, lead_time)``: below one where the candidate is ahead in the mean, NaN where a variable was
      not scored.
    """
    rmse = scores["rmse"].sel(region=WHOLE, variable=headline_variables(scores))
    ratio = rmse.sel(forecaster=candidate(scores), drop=True) / rmse
    return ratio.prod("variable", skipna=False) ** (1 / ratio.sizes["variable"])
