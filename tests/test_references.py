"""Persistence, anomaly persistence, damped anomaly persistence and climatology as forecasters; batches and cost."""

import time

import numpy as np
import pytest
from synthetic import MEMORY, SCALE, STEP, evaluation_rows, lead_times, make_store, with_state

from data_prep.errors import DataError
from data_prep.spec import StateSpec, Variable, stack_channels
from emulator.forecasters.base import Cost, check_lead_times, forecast_batches
from emulator.forecasters.lead_blocks import lead_blocks
from emulator.forecasters.persistence import DampedAnomalyPersistence, Persistence
from emulator.forecasters.statistical import make_reference

NAMES = ("persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology")


@pytest.fixture(scope="module")
def store():
    return make_store(days=30)


def run(forecaster, store, rows, leads, batch=8):
    """All forecasts as ``(init, lead, lat, lon, channel)``, and their times."""
    blocks = list(forecast_batches(forecaster, store.dataset(rows), leads, batch=batch))
    inits = np.unique(np.concatenate([b["init_time"].values for b in blocks]))
    out = np.full((inits.size, leads.size, *store.grid.shape, SCALE.size), np.nan, np.float32)
    for b in blocks:
        i, j = np.searchsorted(inits, b["init_time"].values), np.searchsorted(leads, b["lead_time"].values)
        out[np.ix_(i, j)] = stack_channels(b, store.spec.state_channels)
    return out


def test_references_are_what_their_names_say(store):
    rows, leads = evaluation_rows(store, 3), lead_times(3)
    found = {name: run(make_reference(name, store, leads), store, rows, leads) for name in NAMES}
    initial = np.stack([store.state[r] for r in rows])
    climate = np.stack([store.climatology.at(store.times[r] + leads) for r in rows])
    at_start = store.climatology.at(store.times[rows])
    np.testing.assert_array_equal(found["persistence"], np.repeat(initial[:, None], leads.size, 1))
    np.testing.assert_array_equal(found["climatology"], climate)
    np.testing.assert_allclose(found["anomaly_persistence"], climate + (initial - at_start)[:, None], rtol=1e-6)
    # the trend of the season moves the anomaly's base: persistence of the field lags behind it
    assert not np.allclose(found["anomaly_persistence"][:, -1], found["persistence"][:, -1], rtol=1e-5)
    # in a damped forecast the anomaly is a share of the initial one, the same everywhere
    anomaly = (found["damped_anomaly_persistence"] - climate)[0, 3, ..., 2]
    share = anomaly / (initial - at_start)[0, ..., 2]
    assert np.std(share) < 1e-2 and 0 < np.mean(share) < 1


def test_damping_is_the_autocorrelation_of_the_training_split():
    leads = lead_times(4)
    fitted = DampedAnomalyPersistence.fit(make_store(days=120, splits=("train", "train")), leads)
    wanted = MEMORY ** np.arange(1, leads.size + 1)
    assert np.abs(fitted.damping - wanted[:, None]).max() < 0.1
    assert np.abs(fitted.damping[0] - MEMORY).max() < 0.03
    assert (fitted.damping[0] > fitted.damping[-1]).all()


def test_damping_is_a_regression_by_area_and_neither_turns_the_anomaly_round_nor_lets_it_grow():
    store, leads = make_store(days=6, splits=("train", "test")), lead_times(1)
    part = store.segments[0]
    anomaly = store.state[: part.stop].astype(np.float64) - store.climatology.at(store.times[: part.stop])
    weights = store.grid.latitude_weights[:, None, None]
    last = part.stop - leads.size
    before = weights * anomaly[:last]
    expected = [
        (before * anomaly[k : last + k]).sum(axis=(0, 1, 2)) / (before * anomaly[:last]).sum(axis=(0, 1, 2))
        for k in range(1, leads.size + 1)
    ]
    np.testing.assert_allclose(DampedAnomalyPersistence.fit(store, leads).damping, np.clip(expected, 0, 1), rtol=1e-4)

    turns = (-1.02) ** np.arange(part.stop)  # from step to step, and grows
    climate = store.climatology.at(store.times)
    odd = np.concatenate([climate[: part.stop] + turns[:, None, None, None], climate[part.stop :]])
    fitted = DampedAnomalyPersistence.fit(with_state(store, odd.astype(np.float32)), leads)
    np.testing.assert_array_equal(fitted.damping, np.array([0, 1, 0, 1])[:, None] * np.ones(4))


@pytest.mark.parametrize("name", NAMES)
def test_a_lead_does_not_depend_on_which_others_are_asked_for_nor_on_blocks(store, name, monkeypatch):
    leads, rows = lead_times(2), evaluation_rows(store, 2)[:3]
    reference = make_reference(name, store, leads)
    whole = run(reference, store, rows, leads)
    some = leads[[2, 5]]
    np.testing.assert_allclose(run(reference, store, rows, some), whole[:, [2, 5]], rtol=1e-6)
    monkeypatch.setattr("emulator.forecasters.lead_blocks._BLOCK_BYTES", 1)  # a lead a block, as of fine grids
    np.testing.assert_allclose(run(reference, store, rows, leads), whole, rtol=1e-6)


def test_damping_wins_against_both_its_limits(store):
    """In the training sample the fitted factor has the least squared error by construction."""
    leads = lead_times(2)
    rows = np.concatenate([np.arange(s.start, s.stop - 8, 4) for s in store.segments if s.split == "train"])
    truth = np.stack([[store.state[r + k + 1] for k in range(leads.size)] for r in rows])
    weights = store.grid.latitude_weights[:, None, None]

    def mse(name):
        error = run(make_reference(name, store, leads), store, rows, leads) - truth
        return (weights * error.astype(np.float64) ** 2).mean(axis=(0, 2, 3))

    damped = mse("damped_anomaly_persistence")
    assert (damped < mse("climatology")).all() and (damped <= mse("anomaly_persistence") * 1.005).all()


def test_refusals(store):
    with pytest.raises(DataError, match="positive, ascending multiples of 6 h"):
        check_lead_times(np.array([3, 6], "timedelta64[h]"), STEP)
    with pytest.raises(DataError, match="positive, ascending"):
        check_lead_times(np.array([0, 6], "timedelta64[h]"), STEP)
    with pytest.raises(DataError, match=r"damped_anomaly_persistence: 0 training forecasts of 960 h .* spans 714 h"):
        DampedAnomalyPersistence.fit(store, lead_times(40))
    fitted = DampedAnomalyPersistence.fit(store, lead_times(1))
    with pytest.raises(DataError, match="was fitted for"):
        next(fitted.forecast(store.dataset([0]), lead_times(2)))


def test_physical_bounds_hold_for_references_too(store):
    spec = StateSpec((Variable("specific_humidity", "prognostic", units="kg kg-1", minimum=0.0),))
    forecaster = Persistence(spec, store.grid, store.timestep)
    dry = lead_blocks(
        forecaster, store.dataset([0]), lead_times(1), lambda b: np.full((1, b.size, *store.grid.shape, 1), -1e-3)
    )
    block = next(dry)
    assert (block["specific_humidity"] == 0).all()
    assert block["specific_humidity"].dtype == np.float32


class Slow:
    """Persistence whose first call takes longer, as if it compiled."""

    name = "slow"

    def __init__(self, store):
        self.inner = Persistence(store.spec, store.grid, store.timestep)
        self.spec, self.grid, self.timestep = store.spec, store.grid, store.timestep
        self.calls, self.widths = 0, set()

    def forecast(self, initial, lead_times):
        self.widths.add(initial.sizes["time"])
        for block in self.inner.forecast(initial, lead_times):
            time.sleep(0.01 if self.calls else 0.3)
            self.calls += 1
            yield block


def test_batches_have_one_shape_and_compilation_costs_nothing(store):
    forecaster, cost = Slow(store), Cost()
    rows, leads = np.arange(10), lead_times(2)
    blocks = list(forecast_batches(forecaster, store.dataset(rows), leads, batch=4, cost=cost))
    assert [b.sizes["init_time"] for b in blocks] == [4, 4, 2]
    assert np.concatenate([b["init_time"].values for b in blocks]).tolist() == store.times[rows].tolist()
    assert forecaster.widths == {4}
    assert cost.warm and cost.days == pytest.approx(2 * 4 * 2)  # two batches of four for two days
    assert 0.02 <= cost.seconds < 0.2
    assert cost.seconds_per_simulated_day == pytest.approx(1 / cost.simulated_days_per_second)
    one = Cost()
    list(forecast_batches(Slow(store), store.dataset(rows), leads, batch=16, cost=one))
    assert not one.warm and one.seconds > 0.3  # a single block: nothing to tell compilation apart by


class LeadByLead(Slow):
    """The same, whose blocks hold a lead each."""

    def forecast(self, initial, lead_times):
        for block in super().forecast(initial, lead_times):
            for lead in range(lead_times.size):
                yield block.isel(lead_time=[lead])


@pytest.mark.parametrize(("batch", "days"), [(4, 2 * 4 * 2), (16, 10 * (2 - 0.25))])
def test_days_that_blocks_of_a_lead_buy_are_counted_once(store, batch, days):
    """Of several batches all but the first, which compiles; of a single one all but its first block."""
    cost, leads = Cost(), lead_times(2)
    list(forecast_batches(LeadByLead(store), store.dataset(np.arange(10)), leads, batch=batch, cost=cost))
    assert cost.warm and cost.days == pytest.approx(days)
