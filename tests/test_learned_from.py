"""A network that is scored at times that it learned from: said, wherever it comes from."""

import dataclasses

import numpy as np
import pytest
from synthetic import Noisy, evaluation_rows, lead_times, make_store

from data_prep.preparation.store import Segment
from emulator.config import EvaluateConfig
from emulator.evaluation.scores import evaluate
from emulator.evaluation.table import format_table
from emulator.forecast_io import write_forecasts
from emulator.forecasters.corrected import CorrectedForecaster
from emulator.forecasters.correction import Correction
from emulator.forecasters.pooled import PooledForecaster
from emulator.forecasters.written import WrittenForecasts
from emulator.learned_from import LEARNED_DATA, LEARNED_FROM, among_learned, as_text, learned_periods, training_periods


def day(text):
    return np.datetime64(text, "ns")


def segment(split, first, last):
    return Segment("a", 0, 1, split, day(first), day(last))


def test_short_holes_are_passed_over_but_not_where_other_data_lie():
    store = dataclasses.replace(
        make_store(days=30),
        segments=(
            segment("train", "2001-01-01", "2001-02-01"),
            segment("train", "2001-02-05", "2001-03-01"),  # behind a hole
            segment("test", "2001-03-03", "2001-03-05"),
            segment("train", "2001-03-07", "2001-04-01"),
            segment("train", "2001-06-01", "2001-07-01"),
            segment("train", "2001-06-01", "2001-07-01"),  # another member
        ),
    )
    expected = [("2001-01-01", "2001-03-01"), ("2001-03-07", "2001-04-01"), ("2001-06-01", "2001-07-01")]
    assert training_periods(store) == [(day(a), day(b)) for a, b in expected]


def test_a_shorter_member_ends_no_period_of_a_longer_one():
    long, short = segment("train", "2001-01-01", "2001-03-01"), segment("train", "2001-01-05", "2001-01-10")
    validation = segment("validation", "2002-01-01", "2002-02-01")
    store = dataclasses.replace(make_store(days=2), segments=(long, short, validation))
    assert training_periods(store) == [(day("2001-01-01"), day("2001-03-01"))]


def test_forecasts_before_and_behind_what_was_learned_are_told_from_those_that_touch_it():
    store = make_store(days=2)
    said = {LEARNED_FROM: as_text([(day("2001-02-01"), day("2001-03-01"))]), LEARNED_DATA: "another"}
    spans = [
        ("2001-01-01", "2001-01-31"),
        ("2001-01-01", "2001-02-01"),
        ("2001-02-10", "2001-02-11"),
        ("2001-01-01", "2001-05-01"),
        ("2001-03-01", "2001-03-05"),
        ("2001-03-02", "2001-03-05"),
    ]
    firsts, lasts = (np.array([day(text) for text in ends]) for ends in zip(*spans, strict=True))
    assert among_learned(said, store, firsts, lasts).tolist() == [False, True, True, True, True, False]


def test_what_is_written_is_read_and_older_runs_tell_by_their_split():
    periods = ((day("2001-01-01"), day("2002-12-31T18:00")), (day("2005-01-01"), day("2006-01-01")))
    assert learned_periods({LEARNED_FROM: as_text(periods[::-1])}) == periods
    split = {"train": ["2001-01-01", "2002-12-31"]}
    assert learned_periods({"experiment": {"data": {"split": split}}}) == ((day("2001-01-01"), day("2002-12-31")),)
    assert learned_periods({"experiment": {"data": {"split": {"segments": {"test": [1]}}}}}) == ()
    assert learned_periods({LEARNED_FROM: as_text([])}) == ()


@pytest.mark.parametrize(("late", "said"), [(-9, 3), (-1, 2), (0, 1), (1, 0), (1, "own data"), (-9, "own and earlier")])
def test_forecasts_at_times_that_their_network_learned_from_are_told(late, said, tmp_path, caplog):
    """It learned from so many steps after the last verified time on; three forecasts start a step apart."""
    store, leads = make_store(days=30), lead_times(1)
    rows = evaluation_rows(store, 5)[0] + np.arange(3)
    first = store.times[rows[-1]] + leads[-1] + late * store.timestep
    marks = {LEARNED_FROM: as_text([(first, first + np.timedelta64(300, "D"))])}
    marks[LEARNED_DATA] = "another"
    if isinstance(said, str):  # a network of this store, the second one from weights of another
        own = as_text(training_periods(store))
        marks = {LEARNED_FROM: own if said == "own data" else f"{own}, {marks[LEARNED_FROM]}"}
        marks[LEARNED_DATA], said = store.data_hash, 3 * (said != "own data")
    write_forecasts(Noisy(store, "network", 0.1, 0.1), store.dataset(rows), leads, tmp_path / "f.nc", attributes=marks)
    config = EvaluateConfig(bootstrap=20, headline=["2m_temperature"])
    scores = evaluate({"network": tmp_path / "f.nc"}, store, config, tmp_path / "scores.nc")
    words = f"learned from: network ({said} of 3 forecasts)"
    assert ("verified_on_training" in scores.attrs) is bool(said)
    assert (words in " ".join(format_table(scores).split())) is (words in caplog.text) is bool(said)


def test_what_is_made_of_forecasts_has_learned_what_their_networks_have(tmp_path):
    store, leads = make_store(days=30), lead_times(1)
    rows = evaluation_rows(store, 3)
    periods = [as_text([(day(a), day(b))]) for a, b in (("2001-01-01", "2001-02-01"), ("2002-01-01", "2002-02-01"))]
    files = {}
    for name, marks in {
        "network": {LEARNED_FROM: periods[0], LEARNED_DATA: store.data_hash},
        "second": {LEARNED_FROM: periods[1], LEARNED_DATA: "another"},
        "physics_t21": {},
    }.items():
        path = tmp_path / f"{name}.nc"
        write_forecasts(Noisy(store, name, 0.1, 0.1), store.dataset(rows), leads, path, attributes=marks)
        files[name] = WrittenForecasts(path, store.spec)
    initial = store.dataset(rows)

    def pooled(*members):
        return PooledForecaster("pooled", store.grid, store.timestep, members).attributes(initial)

    both = pooled(files["physics_t21"], *files.values())
    assert (both[LEARNED_FROM], both[LEARNED_DATA]) == (", ".join(periods), "several")
    own = pooled(files["network"], files["physics_t21"])
    assert (own[LEARNED_FROM], own[LEARNED_DATA]) == (periods[0], store.data_hash)
    none = pooled(files["physics_t21"], files["physics_t21"])
    assert LEARNED_FROM not in none
    correction = Correction(leads, np.zeros((2, 1)), np.ones((2, 1)), 7)
    for name, file in files.items():
        corrected = CorrectedForecaster(name, store.grid, store.timestep, store.climatology, file, correction, False)
        assert corrected.attributes(initial).get(LEARNED_FROM) == {"network": periods[0], "second": periods[1]}.get(
            name
        )
