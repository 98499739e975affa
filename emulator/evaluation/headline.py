"""The answer in a sentence: until when one forecaster beats another, honest also where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_prep.files.arrays import unbroken_runs
from emulator.evaluation.crossover import Crossover
from emulator.evaluation.forecaster_names import SIMPLE, is_physics, physics_form
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import (
    candidate,
    headline_variables,
    initial_times,
    is_mean,
    label_of,
    lead_hours,
    like_with_like,
    opponents,
    quoted_lead,
    read_crossover,
)
from emulator.evaluation.style import HOURS_BELOW, lead_text, limit_label, listed, variable_label

_WINS = ("crossover", "beyond the last lead")
_SIGNIFICANT = "rmse_difference_significant"


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

    Raw physics keeps its drift and its sharpness while a network learns the truth's climate and may blur: a win is
    claimed only where it holds against every physics baseline, raw, debiased and damped. So the sentence names the one
    that is beaten for the shortest time, and says so where the raw ones alone are beaten. Whoever among them is
    ahead of the candidate for a time is named, and so is the hardest of the simple references.

    Args:
      scores: As ``evaluate`` returns them or ``xarray.open_dataset`` reads them, with at least two forecasters.
    """
    name, variable = candidate(scores), headline_variables(scores)[0]
    references = opponents(scores)
    hardest, crossover = _hardest(scores, name, references, variable)
    outcomes = {r: read_crossover(scores, name, r, variable).outcome for r in references}
    scored = [r for r in references if outcomes[r] != "not scored"]
    sentence = describe(scores, name, hardest, variable, crossover)
    raw = [r for r in references if is_physics(r) and not physics_form(r)]
    if crossover.outcome not in _WINS and raw:
        easier, won = _hardest(scores, name, raw, variable)
        if won.outcome in _WINS:
            only = "" if any(physics_form(r) and outcomes[r] in _WINS for r in references) else "only "
            beaten = f"it beats {label_of(scores, easier)} {only}as it is, raw, {_until(scores, won)}"
            sentence = f"{sentence.removesuffix('.')}; {beaten}."
    details = [
        _difficulty(scores, scored, hardest),
        _losses(scores, name, scored, variable, crossover),
        _simple_references(scores, name, references, variable),
        _other_variables(scores, name, references),
        _both_damped(scores, name),
        _time_gain(scores, name, hardest, variable),
        _gap_closed(scores, name, hardest, variable),
        _everywhere(scores, name, references),
        _liveliness(scores, name, crossover),
    ]
    return Headline(sentence, tuple(text for text in details if text), hardest)


def hardest_opponent(scores: xr.Dataset) -> str:
    """``Headline.reference`` without the sentences: whom the candidate beats least in the first headline variable."""
    return _hardest(scores, candidate(scores), opponents(scores), headline_variables(scores)[0])[0]


def describe(scores: xr.Dataset, name: str, reference: str, variable: str, crossover: Crossover) -> str:
    """One crossover as a sentence, with its interval and where the winning begins; below two days in hours."""
    a, b, what = _subject(scores, name), label_of(scores, reference), variable_label(variable)
    last = lead_text(lead_hours(scores)[-1])
    match crossover.outcome:
        case "crossover" | "beyond the last lead":
            return f"{a} beats {b} in {what} {_until(scores, crossover)}."
        case "never better":
            return f"{a} is never better than {b} in {what} up to {last}."
        case "worse at first":
            return f"{a} is worse than {b} in {what} at first, and beyond doubt better at no lead up to {last}."
        case "not scored":
            return f"{a} was not compared with {b} in {what}: one of the two was not scored there."
        case _:
            return (
                f"Undecided: from {initial_times(scores)} it cannot be told whether "
                f"{a[0].lower() + a[1:] if a.startswith('The ') else a} ever beats {b} in {what}"
                f"{_worse_at_last(scores, name, reference, variable)}."
            )


def _worse_at_last(scores: xr.Dataset, name: str, reference: str, variable: str) -> str:
    """From when on it is significantly worse, up to the last lead; empty where it is not so there."""
    if _SIGNIFICANT not in scores:
        return ""
    pair = scores.sel(forecaster=name, reference=reference, variable=variable, region=WHOLE)
    lost = ((pair[_SIGNIFICANT] == 1) & (pair["rmse_difference"] > 0)).values
    if not lost[-1]:
        return ""
    first = int(unbroken_runs(np.flatnonzero(lost))[-1][0])
    hours = lead_hours(scores)
    at = lead_text(hours[first])
    since = f"from {at} on" if first < hours.size - 1 else f"at the last lead, {at},"
    return f"; {since} it is significantly worse"


def _until(scores: xr.Dataset, won: Crossover) -> str:
    """From when until when, with the interval of the end: ``up to 5.2 days [4.1, 6.0]``."""
    hours = lead_hours(scores)
    since = f"from {lead_text(won.start)} on" if won.start > hours[0] + 1e-6 else ""
    if won.outcome == "beyond the last lead":
        last, sure = lead_text(hours[-1]), lead_text(won.lower) if np.isfinite(won.lower) else ""
        until = f"only up to {sure}" if sure != last else "until shortly before it"  # where both round to the same
        return f"{since or 'from the start'} to the last lead, {last}{sure and f', beyond doubt {until}'}"
    end = lead_text(won.hours) if won.hours < HOURS_BELOW else f"{won.hours / 24:.1f} days"
    return f"{since} up to {end} {won.interval()}".lstrip()


def _hardest(scores: xr.Dataset, name: str, references: Sequence[str], variable: str) -> tuple[str, Crossover]:
    """Who is beaten least; of those who lack the score nothing can be said.

    Of opponents beaten as long, the one whose win is sure for the shortest; then the one that comes nearest, at any
    lead.
    """
    last = float(lead_hours(scores)[-1])
    found = {r: read_crossover(scores, name, r, variable) for r in references}
    rmse = scores["rmse"].sel(variable=variable, region=WHOLE)
    nearest = (rmse.sel(forecaster=name) / rmse).max("lead_time").fillna(-np.inf)
    hardest = min(references, key=lambda r: (*_rank(found[r], last), -float(nearest.sel(forecaster=r))))
    return hardest, found[hardest]


def _rank(crossover: Crossover, last: float) -> tuple[int, float, float]:
    """Orders outcomes from the worst for the forecaster to the best; wins by how long they last, and are sure."""
    order = ("never better", "worse at first", "undecided", "crossover", "not scored")
    if crossover.outcome not in _WINS:
        return order.index(crossover.outcome), 0.0, 0.0
    start = 0.0 if crossover.from_first_lead else crossover.start
    ends = (np.inf if np.isnan(end) else end for end in (crossover.hours, crossover.lower))
    lasts, sure = (min(end, np.nextafter(last, np.inf)) - start for end in ends)
    return order.index("crossover"), lasts, sure


def _subject(scores: xr.Dataset, name: str) -> str:
    return "The network" if name == "network" and not is_mean(scores, name) else label_of(scores, name)


def _difficulty(scores: xr.Dataset, references: Sequence[str], hardest: str) -> str:
    """How hard the opponents make it, and which are missing."""
    if hardest not in references or not is_physics(hardest):
        return ""
    forms = {physics_form(r) for r in references}
    absent = [form for form in ("debiased", "damped") if form not in forms]
    missing = f" No {' or '.join(absent)} physics was scored: it might be harder to beat." if absent else ""
    count = sum(map(is_physics, references))
    if count == 1:
        return missing.lstrip()
    return (
        f"{label_of(scores, hardest)} is the hardest of the {count} physics baselines to beat in that "
        f"variable.{missing}"
    )


def _losses(scores: xr.Dataset, name: str, references: Sequence[str], variable: str, crossover: Crossover) -> str:
    """Who is beyond doubt ahead before the win that is claimed ends, also whom it beats later."""
    if crossover.outcome not in _WINS or _SIGNIFICANT not in scores:
        return ""
    hours = lead_hours(scores)
    pair = scores.sel(forecaster=name, variable=variable, region=WHOLE).isel(lead_time=hours <= crossover.hours)
    found = []
    for other in references:
        one = pair.sel(reference=other)
        lost = np.flatnonzero((one[_SIGNIFICANT] == 1) & (one["rmse_difference"] > 0))
        runs = unbroken_runs(lost)
        spans = [" to ".join(lead_text(hours[i]) for i in dict.fromkeys((run[0], run[-1]))) for run in runs]
        if spans:
            found.append(f"{label_of(scores, other)} at {listed(spans)}")
    return f"Before that it is beyond doubt behind {', '.join(found)}." if found else ""


def _simple_references(scores: xr.Dataset, name: str, references: Sequence[str], variable: str) -> str:
    """Beside physics: until when the hardest of persistence, climatology and regression is beaten."""
    simple = [r for r in scores["forecaster"].values.tolist() if r in SIMPLE and r not in (name, *references)]
    if not simple:
        return ""
    hardest, crossover = _hardest(scores, name, simple, variable)
    if crossover.outcome == "not scored":
        return ""
    which = " (the hardest of the simple references)" if len(simple) > 1 else ""
    return f"{describe(scores, name, hardest, variable, crossover).removesuffix('.')}{which}."


def _other_variables(scores: xr.Dataset, name: str, references: Sequence[str]) -> str:
    """How many headline variables are won, each against its own hardest opponent."""
    variables = headline_variables(scores)
    if len(variables) == 1:
        return ""
    whom = label_of(scores, references[0]) if len(references) == 1 else "the hardest opponent of each"
    return f"Of the {len(variables)} headline variables it is {_in_how_many(scores, name, references)}, against {whom}."


def _both_damped(scores: xr.Dataset, name: str) -> str:
    """How many headline variables are won where both sides are damped: post-processing helps a network as well."""
    own = f"{name}_damped"
    others = [other for mine, other in like_with_like(scores) if mine == own]
    if not others:
        return ""
    won = _in_how_many(scores, own, others)
    return f"Damped as physics is, by its own training forecasts, it is {won}, against damped physics."


def _in_how_many(scores: xr.Dataset, name: str, references: Sequence[str]) -> str:
    """``better to the last lead in 5, undecided in 2``: headline variables, each against its own hardest opponent."""
    found = [_hardest(scores, name, references, v)[1] for v in headline_variables(scores)]
    words = {"crossover": "better up to a crossover", "beyond the last lead": "better to the last lead"}
    parts = []
    for outcome in (*_WINS, "never better", "worse at first", "undecided", "not scored"):
        of_it = [c for c in found if c.outcome == outcome]
        late = sum(c.outcome in _WINS and not c.from_first_lead for c in of_it)
        since = f" ({late} of them from a later lead than the first)" if late else ""
        parts += [f"{words.get(outcome, outcome)} in {len(of_it)}{since}"] if of_it else []
    return ", ".join(parts)


def _time_gain(scores: xr.Dataset, name: str, reference: str, variable: str) -> str:
    """By how many hours the forecast is ahead of the opponent's."""
    if "time_gain_hours" not in scores:
        return ""
    at, hours = quoted_lead(scores), lead_hours(scores)
    one = scores.sel(forecaster=name, reference=reference, variable=variable, region=WHOLE).isel(lead_time=at)
    gain, lower, upper = (float(one[f"time_gain_hours{end}"]) for end in ("", "_lower", "_upper"))
    what = f"Its error in {variable_label(variable)} at {lead_text(hours[at])} is"
    whose = label_of(scores, reference)
    if np.isfinite(gain) and abs(gain) < 0.5:
        return f"{what} as large as that of {whose}: 0 hours ahead {_ends(lower, upper)}."
    if np.isfinite(gain):
        way = "earlier" if gain >= 0 else "later"
        interval = _ends(lower, upper) if gain >= 0 else _ends(-upper, -lower)
        unit = "hour" if f"{abs(gain):.0f}" == "1" else "hours"
        return f"{what} that of {whose} {abs(gain):.0f} {unit} {way} {interval}."
    if gain > 0 and np.isfinite(lower) and at > 0:  # of one lead the comparison would say what is known
        least = f": it is more than {lower:.0f} hours ahead" if lower >= 1 else ""
        return f"{what} smaller than that of {whose} at any lead {_span(hours[0], hours[at])}{least}."
    if gain < 0 and np.isfinite(upper) and at < hours.size - 1:
        least = f": it is more than {-upper:.0f} hours behind" if upper <= -1 else ""
        return f"{what} larger than that of {whose} at any lead {_span(hours[at], hours[-1])}{least}."
    return ""


def _ends(lower: float, upper: float) -> str:
    """An interval in whole numbers, ``[-2, 8]``; dots where an end is open."""
    return f"[{', '.join(f'{x:z.0f}' if np.isfinite(x) else '...' for x in (lower, upper))}]"


def _span(first: float, last: float) -> str:
    """``from 5 to 20 days``, ``from 6 hours to 5 days``."""
    (number, unit), end = lead_text(first).split(), lead_text(last)
    return f"from {number}{'' if end.endswith(unit) else f' {unit}'} to {end}"


def _gap_closed(scores: xr.Dataset, name: str, reference: str, variable: str) -> str:
    """Its share of the gap from the hardest physics to the truth's own model."""
    if "gap_closed" not in scores:
        return ""
    at = quoted_lead(scores)
    one = scores.sel(forecaster=name, reference=reference, variable=variable, region=WHOLE).isel(lead_time=at)
    share, lower, upper = (100 * float(one[f"gap_closed{end}"]) for end in ("", "_lower", "_upper"))
    if not np.isfinite(share):
        return ""
    part = "none" if upper < 0 else f"{share:z.0f} % {_ends(lower, upper)}"
    gap = f"the gap from {label_of(scores, reference)} to {limit_label(str(scores.attrs['predictability_limit']))}"
    return f"At {lead_text(lead_hours(scores)[at])} it closes {part} of {gap}."


def _everywhere(scores: xr.Dataset, name: str, references: Sequence[str]) -> str:
    """Whom it beats beyond doubt at every lead in every headline variable."""
    if "better_everywhere" not in scores:
        return ""
    better = scores["better_everywhere"].sel(forecaster=name, region=WHOLE)
    beaten = [label_of(scores, r) for r in references if better.sel(reference=r) == 1]
    if not beaten:
        return ""
    return f"Beyond doubt better at every lead in every headline variable than {listed(beaten)}."


def _liveliness(scores: xr.Dataset, name: str, crossover: Crossover) -> str:
    """The smallest activity and fine-scale ratio up to where a win is claimed, else up to where numbers are quoted: a
    blurred forecast wins on RMSE."""
    hours, variables = lead_hours(scores), headline_variables(scores)
    won = crossover.outcome in _WINS
    until = crossover.hours if won else hours[quoted_lead(scores)]
    since = crossover.start if won and crossover.start <= until else hours[0]
    claimed = (hours >= since - 1e-6) & (hours <= max(until, hours[0]))
    parts = []
    for metric, text in (("activity", "activity"), ("fine_scale_ratio", "fine-scale amplitude")):
        if metric not in scores:
            continue
        values = scores[metric].sel(forecaster=name, region=WHOLE, variable=variables)
        some = np.where(claimed, values.transpose("variable", "lead_time").values, np.nan)
        if np.isfinite(some).any():
            row, lead = np.unravel_index(np.nanargmin(some), some.shape)
            parts.append(f"{text} {some[row, lead]:.2f} ({variable_label(variables[row])}, {lead_text(hours[lead])})")
    if not parts:
        return ""
    return (
        f"Lowest {' and '.join(parts)} up to {lead_text(min(until, hours[-1]))}, where 1 is as lively as the truth: "
        "a blurred forecast would win on RMSE alone."
    )
