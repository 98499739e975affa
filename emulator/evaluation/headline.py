"""The answer in a sentence: until when one forecaster beats another, honest also where it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from emulator.evaluation.crossover import Crossover
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.style import forecaster_label, is_physics, variable_label
from emulator.evaluation.table import candidate, headline_variables, opponents, read_crossover

_LIVELY_HOURS = 120  # where the liveliness is quoted: late enough for blurring to show, early enough for skill


@dataclass(frozen=True)
class Headline:
    """What a report says first.

    Attributes:
      sentence: The crossover in the first headline variable, against the hardest opponent.
      details: More sentences: the other variables, and what a low error may have cost.
      reference: That opponent.
    """

    sentence: str
    details: tuple[str, ...]
    reference: str


def make_headline(scores: xr.Dataset) -> Headline:
    """Puts the crossovers of a scores file into words.

    A win is claimed only where it holds against every physics baseline, so the sentence names the one that is
    beaten for the shortest time.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them, with at least two forecasters.
    """
    name, variable = candidate(scores), headline_variables(scores)[0]
    references = opponents(scores)
    found = {r: read_crossover(scores, name, r, variable) for r in references}
    hardest = min(references, key=lambda r: _rank(found[r]))
    sentence = describe(scores, name, hardest, variable, found[hardest])
    details = []
    if len(references) > 1:
        kind = "physics baselines" if is_physics(hardest) else "forecasters"
        details.append(
            f"{forecaster_label(hardest)} is the hardest of the {len(references)} {kind} to beat in that variable."
        )
    details += [text for text in (_other_variables(scores, name, hardest), _liveliness(scores, name)) if text]
    return Headline(sentence, tuple(details), hardest)


def describe(scores: xr.Dataset, name: str, reference: str, variable: str, crossover: Crossover) -> str:
    """One crossover as a sentence, with its interval in days and where the winning begins."""
    a, b, what = _subject(name), forecaster_label(reference), variable_label(variable)
    hours = scores["lead_time"].values / np.timedelta64(1, "h")
    last = f"{hours[-1] / 24:.3g} days"
    since = f" from {crossover.start / 24:.1f} days on" if crossover.start > hours[0] else ""
    match crossover.outcome:
        case "crossover":
            interval = crossover.describe().partition(" d ")[2]
            return f"{a} beats {b} in {what}{since} up to {crossover.hours / 24:.1f} days {interval}."
        case "beyond the last lead":
            sure = np.isfinite(crossover.lower)
            doubt = f", beyond doubt only up to {crossover.lower / 24:.1f} days" if sure else ""
            return f"{a} beats {b} in {what}{since or ' from the start'} to the last lead, {last}{doubt}."
        case "never better":
            return f"{a} is never better than {b} in {what} up to {last}."
        case _:
            count = scores.attrs["initial_times"]
            return (
                f"Undecided: from {count} initial times it cannot be told whether "
                f"{a[0].lower() + a[1:] if a.startswith('The ') else a} ever beats {b} in {what}."
            )


def _subject(name: str) -> str:
    return "The network" if name == "network" else forecaster_label(name)


def _rank(crossover: Crossover) -> tuple[int, float]:
    """Orders outcomes from the worst for the forecaster to the best."""
    order = ("never better", "undecided", "crossover", "beyond the last lead")
    hours = crossover.hours if np.isfinite(crossover.hours) else 0.0
    return order.index(crossover.outcome), hours


def _other_variables(scores: xr.Dataset, name: str, reference: str) -> str:
    variables = headline_variables(scores)
    outcomes = [read_crossover(scores, name, reference, v).outcome for v in variables]
    counts = {
        "better up to a crossover": outcomes.count("crossover"),
        "better to the last lead": outcomes.count("beyond the last lead"),
        "never better": outcomes.count("never better"),
        "undecided": outcomes.count("undecided"),
    }
    parts = [f"{text} in {count}" for text, count in counts.items() if count]
    return (
        f"Of the {len(variables)} headline variables it is {', '.join(parts)}, against {forecaster_label(reference)}."
    )


def _liveliness(scores: xr.Dataset, name: str) -> str:
    """The smallest activity and fine-scale ratio: a blurred forecast wins on RMSE."""
    hours = scores["lead_time"].values / np.timedelta64(1, "h")
    at = int(np.flatnonzero(hours <= max(_LIVELY_HOURS, hours[0]))[-1])
    parts = []
    for metric, text in (("activity", "activity"), ("fine_scale_ratio", "fine-scale amplitude")):
        if metric not in scores:
            continue
        values = scores[metric].sel(forecaster=name, region=WHOLE, variable=headline_variables(scores))
        column = values.isel(lead_time=at).values
        if np.isfinite(column).any():
            lowest = int(np.nanargmin(column))
            parts.append(f"{text} {column[lowest]:.2f} ({variable_label(headline_variables(scores)[lowest])})")
    if not parts:
        return ""
    return (
        f"Lowest {' and '.join(parts)} at {hours[at] / 24:.3g} days, where 1 is as lively as the truth: "
        "a blurred forecast would win on RMSE alone."
    )
