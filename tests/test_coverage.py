"""The validation in small: it must notice what it is for, and its page must be what it found."""

from typing import get_args

import numpy as np
import pytest
from scipy import stats

from emulator.evaluation.crossover import Crossover, Outcome
from emulator.studies import coverage
from emulator.studies.coverage import RIGHT, Case
from emulator.studies.simulated_pairs import Pair, noise_process

pytestmark = pytest.mark.slow
HOURS = np.arange(12.0, 241.0, 12.0)
TRIALS = 40


def at_least(share):
    """The fewest successes that ``TRIALS`` with this probability give in 999 of 1000 runs."""
    return stats.binom.ppf(0.001, TRIALS, share) / TRIALS


@pytest.fixture(scope="module")
def found():
    settings = pytest.MonkeyPatch()
    with settings.context() as patch:
        patch.setattr(coverage, "INITIAL_TIMES", (200,))
        patch.setattr(coverage, "HARDER", coverage.HARDER[1:4:2])
        yield coverage.validate(TRIALS, 200)


def test_the_noise_decorrelates_as_asked():
    for lag in (1, 4):
        r = noise_process(lag).autocorrelations(lag + 1)
        assert r[lag] == pytest.approx(np.exp(-1), abs=1e-3) and r[lag - 1] > np.exp(-1)


def test_simulated_errors_have_the_rmse_and_the_correlations_they_should():
    rng = np.random.default_rng(0)
    pair = Pair(HOURS, np.log(np.linspace(0.5, 1.5, 20)), 40, 1, trajectories=2, variables=2, regions=2)
    a, b = pair.squared_errors(150, rng)
    assert a.shape == (150, 2, 40, 40) and pair.trajectory.tolist() == [0] * 20 + [1] * 20
    ratio = np.sqrt(a.mean(axis=(0, 3)) / b.mean(axis=(0, 3)))
    np.testing.assert_allclose(ratio, np.broadcast_to(np.repeat(np.linspace(0.5, 1.5, 20), 2), (2, 40)), rtol=0.05)
    log = np.log(a)
    assert log.std(axis=(0, 3)) == pytest.approx(0.6, rel=0.05)

    def correlation(x, y):
        return np.corrcoef(x.ravel(), y.ravel())[0, 1]

    assert correlation(log[:, 0, 0], np.log(b)[:, 0, 0]) == pytest.approx(0.5, abs=0.05)
    assert correlation(log[:, 0, 0], log[:, 1, 0]) == pytest.approx(0.3, abs=0.05)
    assert correlation(log[:, 0, 0], log[:, 0, 1]) == pytest.approx(0.7, abs=0.05)
    assert correlation(log[:, 0, 0], log[:, 0, 2]) == pytest.approx(np.exp(-0.25), abs=0.05)
    assert correlation(log[:, 0, 0, 5:19], log[:, 0, 0, 6:20]) == pytest.approx(np.exp(-1), abs=0.05)
    assert correlation(log[:, 0, 0, 19], log[:, 0, 0, 20]) == pytest.approx(0.0, abs=0.2)  # another trajectory


def test_later_leads_stay_alike_for_longer_and_trajectories_differ_as_wholes():
    rng = np.random.default_rng(0)
    pair = Pair(HOURS, np.zeros(20), 200, 1, last_decorrelation=6)
    log = np.log(pair.squared_errors(20, rng)[0])[:, 0]
    log -= log.mean(axis=(0, 2))[:, None]
    for lead, lag in ((0, 1), (19, 6)):
        r = (log[:, lead, :-lag] * log[:, lead, lag:]).mean() / (log[:, lead] ** 2).mean()
        assert r == pytest.approx(np.exp(-1), abs=0.08), lead
    pair = Pair(HOURS, np.zeros(20), 400, 1, trajectories=40, common=0.3)
    means = np.log(pair.squared_errors(10, rng)[0])[:, 0].reshape(10, 20, 40, 10).mean(axis=-1)
    alike = Pair(HOURS, np.zeros(20), 400, 1, trajectories=40)
    without = np.log(alike.squared_errors(10, rng)[0])[:, 0].reshape(10, 20, 40, 10).mean(axis=-1)
    of_trajectories, by_chance = (x.var(axis=(0, 2)).mean() for x in (means, without))
    assert of_trajectories == pytest.approx(0.7 * by_chance + 0.3 * 0.36, rel=0.1)


def test_crossovers_are_covered_and_outcomes_right(found):
    assert len(found.crossings) == 4 * 3
    for case in found.crossings:
        assert case.shares["covered"] >= at_least(0.93), case.name
        assert sum(case.shares[o] for o in get_args(Outcome)) == pytest.approx(1)
    steep = [c for c in found.crossings if c.name == "steep"]
    assert all(c.shares["crossover"] >= at_least(0.99) for c in steep)
    for case in found.crossings + found.censored:
        assert case.shares["gain covered"] >= 0.92, case.name  # mean of twenty leads that vary alike
    for case in found.censored:
        if case.name.startswith("always"):
            assert sum(case.shares[o] for o in RIGHT[case.name]) >= at_least(0.95), case.name


def test_equals_are_seldom_called_different(found):
    most = stats.binom.ppf(0.999, TRIALS, 0.05) / TRIALS
    for case in found.censored:
        if case.name.startswith("equal"):
            assert case.shares["crossover"] + case.shares["beyond the last lead"] <= most
    for case in found.cards:
        assert case.shares["called"] <= most


def test_shares_of_a_gap_are_covered_where_there_is_one(found):
    assert len(found.gaps) == 2 * len(found.cards)
    for case in found.gaps:
        assert case.shares["there"] > 0.9 and case.shares["covered"] >= 0.9, case.name  # mean of leads that vary alike


def test_the_validation_notices_intervals_that_are_too_narrow(monkeypatch):
    """Half the standard error: coverage falls to two thirds, and a scorecard of equals is called different."""
    honest = coverage.rmse_difference

    def narrow(bootstrap, a, b):
        e = honest(bootstrap, a, b)
        return type(e)(e.value, (e.value + e.lower) / 2, (e.value + e.upper) / 2, e.dof)

    monkeypatch.setattr(coverage, "rmse_difference", narrow)
    monkeypatch.setattr(coverage, "INITIAL_TIMES", (100,))
    monkeypatch.setattr(coverage, "DECORRELATIONS", (1,))
    monkeypatch.setattr(coverage, "HARDER", ())
    found = coverage.validate(TRIALS, 200)
    assert np.mean([c.shares["covered"] for c in found.crossings]) < 0.85
    assert found.cards[0].shares["called"] > 0.15


def test_the_page_holds_the_tables_between_its_marks(found, tmp_path):
    page, picture = tmp_path / "significance.md", tmp_path / "significance.png"
    mark = coverage._MARK
    page.write_text(f"before\n{mark}\nold\n{mark}\nafter\n", encoding="utf-8")
    coverage.publish(found, page, picture)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{mark}\n") and text.endswith(f"{mark}\nafter\n") and "old" not in text
    assert f"{TRIALS} trials of each case" in text and "| 200 in 4 trajectories | 4 |" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.iterdir()) == [page, picture]


def test_coverage_of_decided_intervals_counts_those_alone():
    shares = {"covered": 0.96, "covered and decided": 0.45, "undecided": 0.5}
    assert Case("steep", None, shares).coverage_of_decided == pytest.approx(0.9)
    assert np.isnan(Case("steep", None, {**shares, "undecided": 1.0}).coverage_of_decided)


@pytest.mark.parametrize(
    ("outcome", "lower", "upper", "covered", "decided"),
    [
        ("crossover", 100.0, 130.0, 1, 1),
        ("crossover", 100.0, 116.0, 0, 0),
        ("crossover", 118.0, 130.0, 0, 0),
        ("beyond the last lead", 100.0, np.inf, 1, 1),
        ("undecided", 12.0, np.inf, 1, 0),
    ],
)
def test_an_interval_covers_the_crossover_that_lies_in_it_and_claims_it_where_it_decides(
    monkeypatch, outcome, lower, upper, covered, decided
):
    """Every pair crosses at 117 h."""
    made = Crossover(outcome, (lower + upper) / 2, lower, upper, 12.0, True)
    monkeypatch.setattr(coverage, "find_crossover", lambda *_: made)
    shares = coverage._crossovers(Pair(HOURS, 0.1 * (HOURS - 117) / 24, 30, 1), 2, 20, np.random.default_rng(0))
    assert (shares["covered"], shares["covered and decided"], shares[outcome]) == (covered, decided, 1)


def test_the_tables_tell_the_shares_in_percent():
    def case(name, **shares):
        return Case(name, Pair(HOURS, np.zeros(20), 50, 1), dict.fromkeys(get_args(Outcome), 0.0) | shares)

    gains = {"gain covered": 0.951, "gain covered least": 0.912}
    crossing = {"covered": 0.96, "covered and decided": 0.45, "undecided": 0.5}
    ends = {"always worse": {"never better": 0.5, "worse at first": 0.2, "undecided": 0.2, "crossover": 0.1}}
    ends["always better"] = {"beyond the last lead": 0.9, "undecided": 0.04, "crossover": 0.06}
    ends |= {name: {"crossover": 0.02, "beyond the last lead": 0.01} for name in ("equal", "equal, then worse")}
    found = coverage.Coverage(
        1000,
        [case(name, **crossing, **gains) for name in coverage.SLOPES],
        [case(name, **shares, **gains) for name, shares in ends.items()],
        [case("scorecard of equals", called=0.04, called_geer=0.07)],
        [case(name, covered=0.94, there=0.8) for name in coverage.GAPS],
    )
    rows = [line for line in coverage.tables(found).splitlines() if line.startswith("| 50 ")]
    head = "| 50 | 1 | "
    assert rows == [
        head + " | ".join(["96.0 (90.0 of 50)"] * 3) + " |",
        head + "70.0, 20.0, 10.0 | 90.0, 4.0, 6.0 | 3.0 | 3.0 |",
        head + " | ".join(["95.1 (91.2)"] * 5) + " |",
        head + "4.0 | 7.0 |",
        head + " | ".join(["94.0 (of 80)"] * 2) + " |",
    ]
    assert "a percentage near 95 or 5 is 0.7." in coverage.tables(found)
