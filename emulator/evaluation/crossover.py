"""Up to which lead time one forecaster beats another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_prep.files.arrays import unbroken_runs
from emulator.evaluation.significance import Estimate, discovered
from emulator.evaluation.style import HOURS_BELOW, lead_text

Outcome = Literal["crossover", "beyond the last lead", "never better", "worse at first", "undecided", "not scored"]


@dataclass(frozen=True)
class Crossover:
    """The answer for one pair of forecasters, one variable, one score.

    Attributes:
      outcome: ``crossover`` where there is a number; ``beyond the last lead``: still ahead there; ``never
        better``: ahead at no lead, and significantly worse at one; ``worse at first``: significantly worse before it
        is ahead anywhere, and ahead later, but nowhere significantly; ``undecided``: the data do not say; ``not
        scored``: one of the two lacks the score.
      hours: Lead up to which it is ahead; infinite beyond the last lead, NaN without a winning interval.
      lower, upper: Interval of ``hours`` by test inversion. Every lead from ``start`` to ``lower`` is won
        significantly; ``lower`` is infinite where that holds up to the last. ``upper`` is infinite where no lead up
        to the last is lost again. Undecided, it is where the crossover may lie if there is one: from minus infinity
        to where the losing begins. NaN where never better or worse at first.
      start: Lead from which it is significantly better up to ``lower``, hours; it may have been so for a while before.
      from_first_lead: Whether that is the first lead.
    """

    outcome: Outcome
    hours: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")
    start: float = float("nan")
    from_first_lead: bool = False

    def describe(self) -> str:
        """``5.2 d [4.1, 6.0]``, below two days ``14 h [10, 18]`` or ``14 h [10 h, 2.3 d]``, or the outcome in words.

        Where it is significantly better only up to some lead before the last, that follows: ``beyond the last lead
        [8.5, ...]``, in days or as ``[36 h, ...]``; where only from a later lead than the first: ``(from 2.5 days)``.
        """
        from_later = np.isfinite(self.start) and not self.from_first_lead
        return self._until() + (f" (from {lead_text(self.start)})" if from_later else "")

    def _until(self) -> str:
        if self.outcome == "crossover":
            hours = self.hours
            return (f"{hours:.0f} h " if hours < HOURS_BELOW else f"{hours / 24:.1f} d ") + self.interval()
        if not np.isfinite(self.lower):
            return self.outcome
        sure = f"{self.lower:.0f} h" if self.lower < HOURS_BELOW else f"{self.lower / 24:.1f}"
        return f"{self.outcome} [{sure}, ...]"

    def interval(self) -> str:
        """That of ``hours`` in its unit, ``[4.1, 6.0]``; where it is hours and the end in days, ``[10 h, 2.3 d]``."""
        in_hours = self.hours < HOURS_BELOW
        if in_hours and HOURS_BELOW <= self.upper < np.inf:
            return f"[{self.lower:.0f} h, {self.upper / 24:.1f} d]"
        ends = (self.lower, self.upper)
        return f"[{', '.join('...' if np.isinf(x) else f'{x:.0f}' if in_hours else f'{x / 24:.1f}' for x in ends)}]"


def find_crossover(lead_hours: np.ndarray, difference: Estimate, confidence: float) -> Crossover:
    """Finds up to which lead a forecaster is ahead; as ``find_crossovers``, of one case ``(lead,)``."""
    columns = (difference.value, difference.lower, difference.upper, np.broadcast_to(difference.dof, lead_hours.shape))
    return find_crossovers(lead_hours, Estimate(*(x[:, None] for x in columns)), confidence)[0]


def find_crossovers(lead_hours: np.ndarray, difference: Estimate, confidence: float) -> list[Crossover]:
    """Finds up to which lead a forecaster is ahead, from its longest significant winning interval on.

    A winning interval is an unbroken run of leads whose pointwise intervals lie below zero, and which ``_are_sure``
    allows: pointwise intervals alone would find a win somewhere in a quarter of all comparisons of equals. The
    interval that lasts longest is taken, the earlier of two equal ones. The crossover is where the difference
    itself, linear between leads, reaches zero after it.

    The interval of that lead is by test inversion: it runs from the end of the winning interval, where the upper end
    reaches zero, to where the lower end reaches zero at the next loss (or to where a later win begins).

    Args:
      lead_hours: Ascending ``(lead,)``.
      difference: Score of A minus score of B ``(lead, case)`` with pointwise intervals, lower is better.
      confidence: Of those intervals.

    Returns:
      For each case the crossover, or its outcome in words; not scored where a difference is not finite (a score that
      does not exist).
    """
    value, lower, upper = difference.value, difference.lower, difference.upper
    scored = np.isfinite(value).all(axis=0)
    p = np.where(scored, difference.p(confidence), 1.0)  # of all cases at once, for a call takes longer than they do
    surely_won = _are_sure(p, value < 0, upper < 0, confidence)
    surely_lost = _are_sure(p, value > 0, lower > 0, confidence)
    return [
        _found(lead_hours, value[:, i], lower[:, i], upper[:, i], surely_won[:, i], surely_lost[:, i])
        if scored[i]
        else Crossover("not scored")
        for i in range(value.shape[1])
    ]


def _found(
    lead_hours: np.ndarray,
    value: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    surely_won: np.ndarray,
    surely_lost: np.ndarray,
) -> Crossover:
    """The crossover of one case, all by lead."""
    won, lost = upper < 0, lower > 0
    wins = [run for run in _runs(won) if surely_won[run].any()]
    if not wins:
        ahead, losses = np.flatnonzero(value < 0), np.flatnonzero(lost & surely_lost)
        if losses.size and (ahead.size == 0 or ahead[0] > losses[0]):
            return Crossover("worse at first" if ahead.size else "never better")
        lead = int(np.flatnonzero(lost)[0]) if lost.any() else -1
        end = float("inf") if lead < 0 else float(lead_hours[0]) if lead == 0 else _zero(lead_hours, lower, lead - 1)
        return Crossover("undecided", lower=float("-inf"), upper=end)
    win = max(wins, key=lambda run: lead_hours[run.stop - 1] - lead_hours[run.start])
    start = float(lead_hours[0]) if win.start == 0 else _zero(lead_hours, upper, win.start - 1)
    low = _zero(lead_hours, upper, win.stop - 1) if win.stop < lead_hours.size else float("inf")
    stretch = next(run for run in _runs(value < 0) if run.start <= win.start < run.stop)
    last_win = stretch.start + int(np.flatnonzero(won[stretch])[-1])
    high = float("inf")
    after = np.flatnonzero((won | lost)[last_win + 1 :])
    if after.size:
        i = last_win + 1 + int(after[0])
        high = _zero(lead_hours, lower if lost[i] else upper, i - 1)
    if stretch.stop == lead_hours.size:
        return Crossover("beyond the last lead", float("inf"), low, high, start, win.start == 0)
    return Crossover("crossover", _zero(lead_hours, value, stretch.stop - 1), low, high, start, win.start == 0)


def _are_sure(p: np.ndarray, on_this_side: np.ndarray, pointwise: np.ndarray, confidence: float) -> np.ndarray:
    """Which leads show that there is a win (or a loss) at all.

    Where there is none at any lead, the chance that one is shown is at most ``1 - confidence``. Half of it is for the
    first lead by itself, where a forecaster that is ahead for a time mostly begins to be; from there a run goes on, as
    in tests of a fixed sequence (Westfall and Krishen 2001, doi:10.1016/S0378-3758(01)00077-5). The other half is for
    all leads alike, under false-discovery control. Both are one-sided: among p-values of both sides clear losses at
    other leads would lend their significance to a chance win.

    Args:
      p: Two-sided p-values ``(lead, case)``.
      on_this_side: Where the difference is a win (or a loss).
      pointwise: Where it is one by its interval.
      confidence: One minus that chance.
    """
    sure = discovered(np.where(on_this_side, p / 2, 1 - p / 2), (1 + confidence) / 2, axis=0)
    sure[0] |= pointwise[0]
    return sure


def _runs(flags: np.ndarray) -> list[slice]:
    """The unbroken runs of true flags."""
    return [slice(int(run[0]), int(run[-1]) + 1) for run in unbroken_runs(np.flatnonzero(flags))]


def _zero(lead_hours: np.ndarray, curve: np.ndarray, i: int) -> float:
    """Where the line from lead ``i`` to the next passes zero or comes nearest; an end that is not finite is far off."""
    a, b = curve[i], curve[i + 1]
    if not np.isfinite(b):
        return float(lead_hours[i])
    if not np.isfinite(a) or a == b:
        return float(lead_hours[i + 1])
    share = np.clip(a / (a - b), 0.0, 1.0)  # the end of an interval need not pass zero where another begins
    return float(lead_hours[i] + (lead_hours[i + 1] - lead_hours[i]) * share)
