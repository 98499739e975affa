"""Whether intervals cover and tests keep their level: on simulated pairs, where the truth is known.

``scripts/validate_significance.py`` runs it and writes what ``docs/significance.md`` shows.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from data_prep.files.disk import replacing
from emulator.evaluation import pairs
from emulator.evaluation.crossover import Outcome, find_crossover
from emulator.evaluation.gap_closed import gap_closed, is_gap
from emulator.evaluation.geer import geer_p
from emulator.evaluation.significance import Bootstrap, Estimate, discovered
from emulator.evaluation.time_gain import time_gain
from emulator.progress import track
from emulator.studies.markdown import markdown_table
from emulator.studies.simulated_pairs import Pair

CONFIDENCE = 0.95
INITIAL_TIMES = (24, 50, 100, 200, 400)
DECORRELATIONS = (1, 4)
HARDER: tuple[dict[str, Any], ...] = (
    *({"initial_times": n, "decorrelation": 1, "last_decorrelation": 6} for n in (100, 200)),
    *({"initial_times": 200, "decorrelation": d, "trajectories": 4} for d in DECORRELATIONS),
    *({"initial_times": 200, "decorrelation": 1, "trajectories": 4, "common": share} for share in (0.05, 0.2)),
)
"""Errors that stay alike for longer at later leads; and several trajectories, alike or not as wholes."""
SLOPES = {"shallow": 0.05, "medium": 0.1, "steep": 0.2}
"""How fast the logarithm of the ratio of RMSEs grows, a day."""

RIGHT: dict[str, tuple[Outcome, ...]] = {
    "always worse": ("never better", "worse at first"),  # ahead at a lead by chance
    "always better": ("beyond the last lead",),
}
"""Outcomes that are right where there is no crossing."""

_LEADS = np.arange(12.0, 241.0, 12.0)
_CROSSOVER = 117.0
_MARGIN = np.log(1.2)  # of who always wins
GAPS = {"wide gap": (0.8, 0.6), "gap of a fifth": (0.95, 0.8)}
"""True RMSE of a forecaster and of the limit, over that of the reference: half and a quarter of the gap is closed."""
_CARD_VARIABLES, _CARD_REGIONS = 8, 2
_BATCH = 25
_MARK = "<!-- written by scripts/validate_significance.py -->"


@dataclass(frozen=True)
class Case:
    """One line of a table.

    Attributes:
      name: What is simulated.
      pair: The forecasters.
      shares: What came out, as shares of the trials.
    """

    name: str
    pair: Pair
    shares: dict[str, float]

    @property
    def coverage_of_decided(self) -> float:
        """Of the intervals that come with a claim, NaN without any."""
        decided = 1 - self.shares["undecided"]
        return self.shares["covered and decided"] / decided if decided else float("nan")


@dataclass(frozen=True)
class Coverage:
    """All results.

    Attributes:
      trials: Of each case.
      crossings: Crossovers inside the range; shares ``covered``, ``covered and decided``, of the outcomes, and of the
        hours ahead.
      censored: Who always wins, always loses, is equal, or equal at first; shares of the outcomes, and likewise.
      cards: Scorecards of equals; shares ``called`` and ``called_geer``: where any cell was.
      gaps: Forecasters between a reference and the limit; of the cells, shares ``there``, where the gap is sure, and
        of those ``covered``.
    """

    trials: int
    crossings: list[Case]
    censored: list[Case]
    cards: list[Case]
    gaps: list[Case]


def validate(trials: int, resamples: int, initial_times: Sequence[int] = ()) -> Coverage:
    """Simulates all cases.

    Args:
      trials: Of each.
      resamples: Of each bootstrap.
      initial_times: Numbers of them, in place of the usual ones and of the harder cases.
    """
    crossings: list[Case] = []
    censored: list[Case] = []
    cards: list[Case] = []
    gaps: list[Case] = []
    settings = [
        {"initial_times": n, "decorrelation": d} for n in initial_times or INITIAL_TIMES for d in DECORRELATIONS
    ]
    settings += () if initial_times else HARDER
    with track(len(settings) * 10, "cases simulated") as progress:
        for number, setting in enumerate(settings):
            ratios = {name: slope * (_LEADS - _CROSSOVER) / 24 for name, slope in SLOPES.items()}
            ratios |= {"always worse": np.full(_LEADS.size, _MARGIN), "always better": np.full(_LEADS.size, -_MARGIN)}
            ratios |= {"equal": np.zeros(_LEADS.size), "equal, then worse": np.maximum(ratios["steep"], 0)}
            seeds = np.random.SeedSequence([0, number]).spawn(1 + len(ratios) + len(GAPS))
            draws = [np.random.default_rng(seed) for seed in seeds]
            for (name, ratio), rng in zip(ratios.items(), draws[1:], strict=False):
                pair = Pair(_LEADS, ratio, **setting)
                shares = _crossovers(pair, trials, resamples, rng)
                (crossings if name in SLOPES else censored).append(Case(name, pair, shares))
                progress.advance(1)
            card = Pair(_LEADS, ratios["equal"], **setting, variables=_CARD_VARIABLES, regions=_CARD_REGIONS)
            cards.append(Case("scorecard of equals", card, _scorecards(card, trials, resamples, draws[0])))
            progress.advance(1)
            for (name, (of_a, limit)), rng in zip(GAPS.items(), draws[1 + len(ratios) :], strict=True):
                pair = Pair(_LEADS, np.full(_LEADS.size, np.log(of_a)), **setting, limit=limit)
                gaps.append(Case(name, pair, _gaps(pair, trials, resamples, rng)))
                progress.advance(1)
    return Coverage(trials, crossings, censored, cards, gaps)


def rmse_difference(bootstrap: Bootstrap, a: np.ndarray, b: np.ndarray) -> Estimate:
    """RMSE of A minus that of B with its interval, from squared errors ``(cell, init_time)``."""
    resamples = bootstrap.resamples(np.concatenate([a, b]))
    return pairs.rmse_difference(bootstrap, resamples, resamples.means(a), resamples.means(b))


def _crossovers(pair: Pair, trials: int, resamples: int, rng: np.random.Generator) -> dict[str, float]:
    counts: Counter[str] = Counter()
    gain, gain_covered = pair.time_gain, np.zeros(pair.lead_hours.size)
    for bootstrap, (a, b) in _draws(pair, trials, resamples, rng):
        difference = rmse_difference(bootstrap, a[0], b[0])
        hours = time_gain(pair.lead_hours, a[0][:, None], b[0][:, None], bootstrap, difference)
        gain_covered += (hours.lower <= gain) & (gain <= hours.upper)
        found = find_crossover(pair.lead_hours, difference, CONFIDENCE)
        counts[found.outcome] += 1
        covered = found.lower <= _CROSSOVER <= found.upper
        counts["covered"] += covered
        counts["covered and decided"] += covered and found.outcome != "undecided"
    outcomes = (*get_args(Outcome), "covered", "covered and decided")
    of_gain = {"gain covered": gain_covered.mean() / trials, "gain covered least": gain_covered.min() / trials}
    return {name: counts[name] / trials for name in outcomes} | of_gain


def _scorecards(pair: Pair, trials: int, resamples: int, rng: np.random.Generator) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for bootstrap, (a, b) in _draws(pair, trials, resamples, rng):
        p, p_geer = [], []
        for of_a, of_b in zip(a, b, strict=True):  # a variable at a time, as scores are compared
            p.append(rmse_difference(bootstrap, of_a, of_b).p(CONFIDENCE))
            p_geer.append(geer_p(of_a, of_b, pair.trajectory))
        counts["called"] += bool(discovered(np.concatenate(p), CONFIDENCE).any())
        counts["called_geer"] += bool(discovered(np.concatenate(p_geer), CONFIDENCE).any())
    return {name: counts[name] / trials for name in ("called", "called_geer")}


def _gaps(pair: Pair, trials: int, resamples: int, rng: np.random.Generator) -> dict[str, float]:
    counts: Counter[str] = Counter()
    true = (1 - np.exp(pair.log_ratio[0])) / (1 - pair.limit) if pair.limit is not None else np.nan
    for bootstrap, errors in _draws(pair, trials, resamples, rng):
        a, reference, limit = (e[0] for e in errors)
        difference = rmse_difference(bootstrap, reference, limit)
        there = is_gap(difference.lower, np.sqrt(limit.mean(axis=1) / reference.mean(axis=1)))
        found = gap_closed(a[there], reference[there], limit[there], bootstrap)
        counts["there"] += int(there.sum())
        counts["covered"] += int(((found.lower <= true) & (true <= found.upper)).sum())
    cells = trials * pair.lead_hours.size
    return {"there": counts["there"] / cells, "covered": counts["covered"] / max(counts["there"], 1)}


def _draws(
    pair: Pair, trials: int, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Bootstrap, tuple[np.ndarray, ...]]]:
    """Trial by trial: a bootstrap, and squared errors ``(variable, cell, init_time)`` of all."""
    for start in range(0, trials, _BATCH):
        bootstrap = Bootstrap(pair.trajectory, resamples, CONFIDENCE, seed=start)
        errors = pair.squared_errors(min(_BATCH, trials - start), rng)
        for of_trial in zip(*errors, strict=True):
            yield bootstrap, of_trial


def tables(found: Coverage) -> str:
    """Markdown, of percentages."""
    error = 100 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / found.trials)
    size = _CARD_VARIABLES * _CARD_REGIONS * _LEADS.size
    names = (*SLOPES, "always better", "equal")

    def coverage(case: Case) -> str:
        decided = 1 - case.shares["undecided"]
        return f"{_percent(case.shares['covered'])} ({_percent(case.coverage_of_decided)} of {100 * decided:.0f})"

    def outcomes(case: Case) -> str:
        if case.name not in RIGHT:
            return _percent(case.shares["crossover"] + case.shares["beyond the last lead"])
        good, open_ = sum(case.shares[o] for o in RIGHT[case.name]), case.shares["undecided"]
        return f"{_percent(good)}, {_percent(open_)}, {_percent(abs(1 - good - open_))}"

    def gains(group: Sequence[Case]) -> list[str]:
        shares = {case.name: case.shares for case in group}
        return [f"{_percent(shares[n]['gain covered'])} ({_percent(shares[n]['gain covered least'])})" for n in names]

    parts = (
        f"{found.trials} trials of each case: the Monte Carlo error of a percentage near 95 or 5 is {error:.1f}.",
        "**Coverage of the crossover's 95 % interval**; in brackets its coverage where a winning interval is claimed, "
        "and in how many trials that is.",
        _table(map(str.capitalize, SLOPES), found.crossings, lambda group: map(coverage, group)),
        "**Outcomes where there is no crossing**: right, undecided and wrong; and how often a win is claimed where "
        f"both are equal, or equal up to {_CROSSOVER:.0f} h and steeply worse from there.",
        _table(
            (
                *("Always worse by 20 %", "Always better by 20 %"),
                *("Equal: win claimed", "Equal, then worse: win claimed"),
            ),
            found.censored,
            lambda group: map(outcomes, group),
        ),
        "**Coverage of the 95 % interval of hours ahead**, mean over the leads; in brackets the least of any lead.",
        _table(
            [name.capitalize().replace("better", "better by 20 %") for name in names],
            [*found.crossings, *found.censored],
            gains,
        ),
        f"**Scorecards of equals** ({_CARD_VARIABLES} variables, {_LEADS.size} leads, {_CARD_REGIONS} regions: {size} "
        "cells): share of trials in which any cell is called significant.",
        _table(
            ("False-discovery control", "The same with Geer's p-values"),
            found.cards,
            lambda group: [_percent(case.shares[key]) for case in group for key in ("called", "called_geer")],
        ),
        "**Coverage of the 95 % interval of the share of a gap** that is closed, where there is a gap beyond doubt; "
        "in brackets in how many of 100 cells there is. In a wide gap the limit has 60 % of the reference's error, and "
        "half of it is closed; in the other one 80 %, and a quarter of it is.",
        _table(
            map(str.capitalize, GAPS),
            found.gaps,
            lambda group: [f"{_percent(c.shares['covered'])} (of {100 * c.shares['there']:.0f})" for c in group],
        ),
    )
    return "\n\n".join(parts) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _table(columns: Iterable[str], cases: Sequence[Case], cells: Callable[[Sequence[Case]], Iterable[str]]) -> str:
    """A line for each setting, of whose cases ``cells`` makes what stands in the columns."""
    head = ("Initial times", "Decorrelation", *columns)
    return markdown_table(head, [(*setting, *cells(group)) for setting, group in _settings(cases).items()])


def figure(found: Coverage) -> Figure:
    """Coverage against initial times by slope, and false alarms."""
    picture = Figure(figsize=(9, 3.6), layout="constrained")
    coverage, alarms = picture.subplots(1, 2)
    colours, marks = dict(zip(SLOPES, ("#56B4E9", "#0072B2", "#D55E00"), strict=True)), {1: "-o", 4: "--s"}
    for decorrelation, mark in marks.items():
        red = f"decorrelation {decorrelation}"
        for name, colour in colours.items():
            chosen = [c for c in found.crossings if _is_single(c, decorrelation) and c.name == name]
            line = [100 * c.shares["covered"] for c in chosen]
            coverage.plot(INITIAL_TIMES, line, mark, color=colour, label=f"{name}, {red}")
        equal = [c for c in found.censored if _is_single(c, decorrelation) and c.name == "equal"]
        wins = [100 * (c.shares["crossover"] + c.shares["beyond the last lead"]) for c in equal]
        cards = [100 * c.shares["called"] for c in found.cards if _is_single(c, decorrelation)]
        alarms.plot(INITIAL_TIMES, wins, mark, color="#009E73", label=f"win claimed, {red}")
        alarms.plot(INITIAL_TIMES, cards, mark, color="#000000", label=f"any cell called, {red}")
    error = 100 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / found.trials)
    for axis, level, title in (
        (coverage, 95, "Coverage of the crossover's interval, %"),
        (alarms, 5, "False alarms where both are equal, %"),
    ):
        axis.axhspan(level - 2 * error, level + 2 * error, color="0.9", zorder=0)
        axis.axhline(level, color="0.5", linewidth=1, zorder=1)
        axis.set(title=title, xlabel="Initial times", xscale="log")
        axis.set_xticks(INITIAL_TIMES, [str(n) for n in INITIAL_TIMES])
        axis.minorticks_off()
        axis.legend(fontsize=7, frameon=False)
    coverage.set_ylim(80, 100)
    alarms.set_ylim(0, 12)
    return picture


def _is_single(case: Case, decorrelation: float) -> bool:
    pair = case.pair
    return pair.trajectories == 1 and pair.decorrelation == decorrelation and pair.last_decorrelation is None


def _settings(cases: Sequence[Case]) -> dict[tuple[str, str], list[Case]]:
    """Cases by initial times and decorrelation, in words."""
    out: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        pair = case.pair
        times = f"{pair.initial_times}" + (f" in {pair.trajectories} trajectories" if pair.trajectories > 1 else "")
        times += f", {100 * pair.common:.0f} % common" if pair.common else ""
        decorrelation = f"{pair.decorrelation:g}"
        decorrelation += f" to {pair.last_decorrelation:g}" if pair.last_decorrelation else ""
        out.setdefault((times, decorrelation), []).append(case)
    return out


def publish(found: Coverage, page: Path, picture: Path) -> None:
    """Puts the tables between the marks of a page, and the figure into a file; both replaced at once."""
    text = page.read_text(encoding="utf-8")
    before, _, after = text.split(_MARK)
    new = f"{before}{_MARK}\n{tables(found)}{_MARK}{after}"
    for path, write in (
        (page, lambda out: out.write_text(new, encoding="utf-8")),
        (picture, lambda out: figure(found).savefig(out, format="png", dpi=130)),
    ):
        with replacing(path) as temporary:
            write(temporary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/validate_significance.py``; writes into ``docs`` unless ``--quick``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000, help="of each case (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="40 trials of each case, and nothing is written")
    parser.add_argument(
        "--initial-times", type=int, nargs="+", default=[], help="other numbers of them; nothing is written"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of significance.md (default: docs)")
    options = parser.parse_args(arguments)
    page = options.docs / "significance.md"
    if (publishes := not options.quick and not options.initial_times) and not page.is_file():
        parser.error(f"--docs: {page} is missing")
    trials, resamples = (40, 200) if options.quick else (options.trials, 400)
    found = validate(trials, resamples, options.initial_times)
    Console(soft_wrap=True, markup=False).print(tables(found))
    if publishes:
        publish(found, page, options.docs / "images" / "significance.png")
    return 0
