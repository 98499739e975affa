"""The crossover lead: every outcome by hand, and its interval against simulated pairs with a known crossing."""

import numpy as np
import pytest
from scipy import stats
from test_significance import paired

from emulator.evaluation.crossover import find_crossover
from emulator.evaluation.significance import Bootstrap, Estimate

LEADS = np.arange(6.0, 61.0, 6.0)


def band(difference, half_width=1.0):
    d = np.asarray(difference, float)
    return find_crossover(LEADS[: d.size], Estimate(d, d - half_width, d + half_width), 0.95)


def test_a_plain_crossing_is_interpolated_with_its_interval():
    found = band([-4, -3, -2, -0.5, 0.5, 2, 3])
    assert found.outcome == "crossover" and found.from_first_lead
    assert found.start == 6
    assert found.hours == pytest.approx(27)  # half way from 24 to 30 h
    assert found.lower == pytest.approx(18 + 6 * 1 / 1.5)  # the upper end goes -1, +0.5 from 18 to 24 h
    assert found.upper == pytest.approx(30 + 6 * 0.5 / 1.5)  # the lower end goes -0.5, +1 from 30 to 36 h
    assert found.describe() == "27 h [22, 32]"


def test_an_interval_says_its_units_where_they_differ():
    found = band([-4, -2, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 3, 3])
    assert found.hours == pytest.approx(12 + 6 * 2 / 2.5) and found.upper == pytest.approx(48 + 6 * 0.1 / 2.1)
    assert found.describe() == "17 h [14 h, 2.0 d]"


def test_beyond_the_last_lead():
    found = band([-2, -2, -2, -3])
    assert (found.outcome, found.hours, found.lower, found.upper) == ("beyond the last lead", np.inf, np.inf, np.inf)
    assert found.describe() == "beyond the last lead"
    unsure = band([-2, -2, -2, -0.5])
    assert unsure.outcome == "beyond the last lead" and unsure.hours == np.inf
    assert 18 < unsure.lower < 24 and unsure.upper == np.inf


def test_of_two_wins_the_one_that_lasts_longer_counts_whatever_the_leads():
    leads = np.array([6.0, 12.0, 18.0, 24.0, 48.0, 72.0, 120.0, 240.0])
    d = np.array([-2.0, -2, -2, -2, 2, -2, -2, -2])
    found = find_crossover(leads, Estimate(d, d - 1, d + 1), 0.95)
    assert found.outcome == "beyond the last lead" and found.start == pytest.approx(48 + 24 * 3 / 4)
    assert not found.from_first_lead


def test_never_better():
    assert band([2, 3, 4]).outcome == "never better"
    late = band([0.5, 2, 4, 2, -0.5])  # ahead at the end, perhaps by chance, after having lost
    assert late.outcome == "worse at first" and np.isnan(late.hours) and not late.from_first_lead


def test_undecided():
    assert band([-0.5, 0.2, -0.3]).outcome == "undecided"
    assert band([0.0, 0.0, 0.0], 0.0).outcome == "undecided"  # a forecaster against itself
    early = band([-0.5, 0.5, 2, 3])  # perhaps better at first: not shown either way
    assert early.outcome == early.describe() == "undecided" and np.isnan(early.hours)
    assert early.lower == -np.inf and early.upper == pytest.approx(12 + 6 * 0.5 / 1.5)  # lost from there on
    assert band([-0.5, 0.2, -0.3]).upper == np.inf
    lacking = band([np.nan, -2, 2])
    assert lacking.outcome == lacking.describe() == "not scored" and np.isnan(lacking.hours)
    found = find_crossover(LEADS[:3], Estimate(np.array([-3.0, -2, 1]), np.full(3, -np.inf), np.full(3, np.inf)), 0.95)
    assert found.outcome == "undecided"  # too few blocks for any interval


def test_a_crossing_that_is_not_lost_again_has_an_open_interval():
    found = band([-3, -2, -0.5, 0.5, 0.6, 0.7])
    assert found.outcome == "crossover" and found.hours == pytest.approx(21)
    assert found.upper == np.inf and "..." in found.describe()


def test_a_late_start_is_quoted():
    found = band([2, 1.5, -2, -3, -2, 2, 2])
    assert found.outcome == "crossover" and not found.from_first_lead
    assert found.start == pytest.approx(12 + 6 * 2.5 / 3.5)  # the upper end goes 2.5, -1 from 12 to 18 h
    assert found.hours == pytest.approx(33) and found.describe().endswith("] (from 16 hours)")
    late = band([-0.5, -0.5, -0.5, -2, -2])  # ahead from the first lead, but that is sure only later
    assert late.outcome == "beyond the last lead" and not late.from_first_lead
    assert late.start == pytest.approx(18 + 6 * 0.5 / 1.5) and late.lower == np.inf
    assert late.describe() == "beyond the last lead (from 20 hours)"


def test_next_to_leads_of_unknown_intervals_a_win_reaches_no_further_than_it_is_known():
    d, width = np.array([-3.0, -3, -3, -3, -3]), np.array([np.inf, 1, 1, np.inf, np.inf])
    found = find_crossover(LEADS[:5], Estimate(d, d - width, d + width), 0.95)
    assert (found.start, found.lower, found.upper) == (LEADS[1], LEADS[2], np.inf)
    assert found.outcome == "beyond the last lead" and not found.from_first_lead


def test_every_lead_from_the_start_to_the_lower_end_is_won():
    found = band([-3, -3, -0.5, -0.5, -0.5, -0.5, -2, -0.5])  # a late win by itself does not lift the lower end
    assert found.outcome == "beyond the last lead" and found.from_first_lead
    assert found.lower == pytest.approx(12 + 6 * 2 / 2.5)
    found = band([-2, -0.5, -2, -2, -2, -0.5, 0.5, 2])  # the longer of two in one run
    assert found.start == pytest.approx(12 + 6 * 0.5 / 1.5) and found.lower == pytest.approx(30 + 6 * 1 / 1.5)
    assert found.hours == pytest.approx(39) and found.upper == pytest.approx(42 + 6 * 0.5 / 1.5)


def test_the_longest_significant_interval_counts_not_the_first():
    found = band([-2, 2, -2, -2, -2, 2, 2])
    assert found.start == pytest.approx(12 + 6 * 3 / 4) and found.hours == pytest.approx(33)
    # a long lead that is never significant is no winning interval
    found = band([-2, -2, 2, -0.5, -0.5, -0.5, -0.5, 2])
    assert found.hours == pytest.approx(15)
    # the interval ends where a later significant win begins, though no loss came between
    found = band([-2, -2, -2, 0.5, -2, 0.5])
    assert found.hours == pytest.approx(18 + 6 * 2 / 2.5)
    assert found.upper == pytest.approx(24 + 6 * 1.5 / 2.5)


def paired_errors(rng, n, leads, r, trajectories):
    """AR(1) over initial times, correlated over leads, unit variance."""
    distance = np.abs(np.subtract.outer(np.arange(leads), np.arange(leads)))
    root = np.linalg.cholesky(np.exp(-distance / 4))
    out = np.empty((trajectories, n // trajectories, leads))
    out[:, 0] = rng.normal(size=(trajectories, leads)) @ root.T
    for t in range(1, out.shape[1]):
        out[:, t] = r * out[:, t - 1] + np.sqrt(1 - r * r) * rng.normal(size=(trajectories, leads)) @ root.T
    return out.reshape(n, leads)


@pytest.mark.parametrize(("r", "trajectories"), [(0.0, 1), (0.5, 2)])
def test_coverage_of_the_interval_on_simulated_pairs(r, trajectories):
    rng = np.random.default_rng(0)
    leads = np.arange(12.0, 241.0, 12.0)
    truth, n, trials = 100.0, 120, 150
    trajectory = np.repeat(np.arange(trajectories), n // trajectories)
    covered = decided = 0
    for trial in range(trials):
        error = paired_errors(rng, n, leads.size, r, trajectories)
        a, b = 5 + (leads - truth) / 100 + error, np.full_like(error, 5.0)
        d = paired(Bootstrap(trajectory, 200, 0.95, seed=trial), a.T, b.T)
        found = find_crossover(leads, d, 0.95)
        decided += found.outcome == "crossover"
        covered += found.outcome == "crossover" and found.lower <= truth <= found.upper
    assert decided >= 0.97 * trials
    assert 0.88 <= covered / trials <= 0.99, covered / trials


def test_equals_are_seldom_called_different():
    rng = np.random.default_rng(1)
    leads = np.arange(24.0, 241.0, 24.0)
    trials, called, pointwise = 600, 0, 0
    for trial in range(trials):
        a, b = 5 + paired_errors(rng, 80, leads.size, 0.3, 1), 5 + paired_errors(rng, 80, leads.size, 0.3, 1)
        d = paired(Bootstrap(np.zeros(80, int), 200, 0.95, seed=trial), a.T, b.T)
        pointwise += (d.upper < 0).any()
        called += find_crossover(leads, d, 0.95).outcome in ("crossover", "beyond the last lead")
    assert pointwise / trials > 0.1  # what looking at every lead by itself would have called a win
    assert called <= stats.binom.ppf(0.999, trials, 0.05)


def test_clear_losses_lend_no_significance_to_a_chance_win():
    later = [2, 4, 6, 8, 10, 12, 14, 16]
    found = band([-0.9, -1.02, *later])  # p is 0.046 at twelve hours, next to nothing later
    assert found.outcome == "undecided" and found.upper == pytest.approx(12 + 6 * 2.02 / 3.02)
    assert band([*later[:2], -1.02, *later[2:]]).outcome == "worse at first"
    assert band([-0.9, -1.5, *later]).outcome == "crossover"  # p is 0.003


def test_a_win_at_the_first_lead_needs_no_other():
    found = band([-1.02, 2, 4, 6, 8, 10, 12, 14, 16])
    assert found.outcome == "crossover" and found.lower == pytest.approx(6 + 6 * 0.02 / 3.02)
    assert band([1.02, *[-0.5] * 8]).outcome == "worse at first"
    assert band([0.98, *[-0.5] * 8]).outcome == "undecided"
    assert band([-1.02]).outcome == "beyond the last lead"


def test_a_clear_winner_and_a_clear_loser():
    rng = np.random.default_rng(2)
    error = paired_errors(rng, 60, 10, 0.3, 1)
    reference = np.full_like(error, 10.0)
    for shift, outcome in ((-2.0, "beyond the last lead"), (2.0, "never better")):
        d = paired(Bootstrap(np.zeros(60, int), 200, 0.95), (10 + shift + error).T, reference.T)
        assert find_crossover(LEADS, d, 0.95).outcome == outcome


def test_a_chance_win_among_clear_losses_is_held_to_half_the_error_of_one_side():
    """Of ten leads the smallest one-sided p is 0.0038: below a tenth of 5 %, above a tenth of 2.5 %."""
    found = band([-0.9, -1.36, 2, 4, 6, 8, 10, 12, 14, 16])
    assert found.outcome == "undecided"
    assert band([-0.9, -1.44, 2, 4, 6, 8, 10, 12, 14, 16]).outcome == "crossover"  # 0.0024


def test_a_chance_loss_is_no_proof_of_being_never_better():
    assert band([0.5, 1.02, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]).outcome == "undecided"
    assert band([0.5, 1.02, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, -0.5]).outcome == "undecided"
    assert band([0.5, 1.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]).outcome == "never better"
