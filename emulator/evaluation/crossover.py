"""Up to which lead time one forecaster beats another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emulator.evaluation.significance import Estimate, discoveries

_HOURS_BELOW = 48.0

Outcome = Literal["crossover", "beyond the last lead", "never better", "undecided"]


@dataclass(frozen=True)
class Crossover:
    """The answer for one pair of forecasters, one variable, one score.

    Attributes:
      outcome: ``crossover`` where there is a number; ``beyond the last lead``: still better there; ``never
        better``: significantly worse before it is better anywhere, and nowhere significantly better;
        ``undecided``: the data do not say.
      hours: Lead at which the winning interval ends; infinite beyond the last lead, NaN without a winning
        interval.
      lower, upper: Its interval by test inversion; ``upper`` is infinite where no lead up to the last is lost
        again. Undecided, it is where the crossover may lie if there is one: from minus infinity to where the losing
        begins. NaN where never better.
      start: Lead at which the winning interval begins, hours.
      from_first_lead: Whether the first lead is won significantly and belongs to the winning interval.
    """

    outcome: Outcome
    hours: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")
    start: float = float("nan")
    from_first_lead: bool = False

    def describe(self) -> str:
        """``5.2 d [4.1, 6.0]``, below two days ``14 h [10, 18]``, or the outcome in words.

        Where a win is sure only up to some lead before the last, that follows: ``beyond the last lead [8.5, ...]``,
        in days or as ``[36 h, ...]``.
        """
        if self.outcome == "crossover":
            in_hours = self.hours < _HOURS_BELOW
            number, *ends = (
                "..." if not np.isfinite(x) else f"{x:.0f}" if in_hours else f"{x / 24:.1f}"
                for x in (self.hours, self.lower, self.upper)
            )
            return f"{number} {'h' if in_hours else 'd'} [{', '.join(ends)}]"
        if not np.isfinite(self.lower):
            return self.outcome
        sure = f"{self.lower:.0f} h" if self.lower < _HOURS_BELOW else f"{self.lower / 24:.1f}"
        return f"{self.outcome} [{sure}, ...]"


def find_crossover(lead_hours: np.ndarray, difference: Estimate, confidence: float) -> Crossover:
    """Finds the end of the longest significant winning interval.

    A winning interval is an unbroken run of leads with a difference below zero. It is significant if one of
    its leads is under false-discovery control over the leads: pointwise intervals alone would find a win
    somewhere in a quarter of all comparisons of equals. Of these runs, the one with the most leads that are
    won pointwise is taken, the earlier of two equal ones. It ends where the difference, linear between leads,
    reaches zero.

    The interval of that end is by test inversion: every lead at which the pointwise paired interval contains
    zero could be it. It runs from where the upper end reaches zero after the last win, to where the lower end
    reaches zero at the next loss (or to where a later win begins).

    Args:
      lead_hours: Ascending ``(lead,)``.
      difference: Score of A minus score of B ``(lead,)`` with pointwise intervals, lower is better.
      confidence: Of those intervals.

    Returns:
      The crossover, or its outcome in words; undecided where a difference is not finite (a score that does
      not exist).
    """
    value, lower, upper = difference.value, difference.lower, difference.upper
    if not np.isfinite(value).all():
        return Crossover("undecided")
    sure = discoveries(difference, confidence)
    won, lost = upper < 0, lower > 0
    candidates = [run for run in _runs(value < 0) if (won & sure)[run].any()]
    if not candidates:
        ahead, losses = np.flatnonzero(value < 0), np.flatnonzero(lost & sure)
        if losses.size and (ahead.size == 0 or ahead[0] > losses[0]):
            return Crossover("never better")
        lead = int(np.flatnonzero(lost)[0]) if lost.any() else -1
        end = float("inf") if lead < 0 else float(lead_hours[0]) if lead == 0 else _zero(lead_hours, lower, lead - 1)
        return Crossover("undecided", lower=float("-inf"), upper=end)
    run = max(candidates, key=lambda r: int(won[r].sum()))
    first, last = run.start, run.stop - 1
    last_win = first + int(np.flatnonzero(won[run])[-1])
    start = float(lead_hours[0]) if first == 0 else _zero(lead_hours, value, first - 1)
    from_first = bool(first == 0 and won[0])
    low = _zero(lead_hours, upper, last_win) if last_win + 1 < lead_hours.size else float("inf")
    high = float("inf")
    after = np.flatnonzero((won | lost)[last_win + 1 :])
    if after.size:
        i = last_win + 1 + int(after[0])
        high = _zero(lead_hours, lower if lost[i] else upper, i - 1)
    if last == lead_hours.size - 1:
        return Crossover("beyond the last lead", float("inf"), low, high, start, from_first)
    return Crossover("crossover", _zero(lead_hours, value, last), low, high, start, from_first)


def _runs(flags: np.ndarray) -> list[slice]:
    """The unbroken runs of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _zero(lead_hours: np.ndarray, curve: np.ndarray, i: int) -> float:
    """Where the straight line from lead ``i`` to the next passes zero; the later lead where an end is not finite."""
    a, b = curve[i], curve[i + 1]
    if not np.isfinite(b):
        return float(lead_hours[i])
    if not np.isfinite(a) or a == b:
        return float(lead_hours[i + 1])
    return float(lead_hours[i] + (lead_hours[i + 1] - lead_hours[i]) * a / (a - b))
