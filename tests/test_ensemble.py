"""Ensembles from random-field perturbations: independent, of the right size and season, in bounded batches."""

import dataclasses

import numpy as np
import pytest
from synthetic import ON_SIGMA, lead_times, make_store, with_state

from data_prep.clock import seconds_of_day
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import stack_channels
from emulator.bounds import ForecastStoppedError
from emulator.forecast_form import open_forecasts
from emulator.forecast_io import write_forecasts
from emulator.forecasters.ensemble import EnsembleForecaster
from emulator.forecasters.persistence import Persistence
from emulator.forecasters.perturbations import RandomFields

GRID = Grid.gaussian(8)
LEADS = lead_times(1)


@pytest.fixture(scope="module")
def store():
    return make_store(GRID, days=40, world=ON_SIGMA)


class Counting(Persistence):
    """Persistence that notes how many forecasts each call makes."""

    widths: set[int] = set()  # noqa: RUF012 - shared on purpose, and emptied by each test

    def forecast(self, initial, lead_times):
        self.widths.add(initial.sizes["time"])
        yield from super().forecast(initial, lead_times)


def ensemble(store, members=4, runs_at_once=8, amplitude=0.12, seed=0):
    single = Counting(store.spec, store.grid, store.timestep, name="physics_t21")
    single.widths.clear()
    return EnsembleForecaster(single, members, RandomFields(store, amplitude, seed), runs_at_once)


def test_members_are_independent_about_the_state_that_everybody_gets(store):
    """Their perturbations do not cancel: no two go together, which is what fair scores rest on."""
    rows = [600, 481, 560]
    made = ensemble(store, members=5).initial_states(store.dataset(rows))
    states = stack_channels(made, store.spec.state_channels).reshape(3, 5, *GRID.shape, -1)
    assert (states >= store.spec.state_minimum).all()
    given = stack_channels(store.dataset(rows), store.spec.state_channels)
    difference = np.moveaxis(states - given[:, None], -1, 1).reshape(3, 9, 5, -1)
    for correlation in (np.corrcoef(of_channel) for of_init in difference for of_channel in of_init):
        assert np.abs(correlation[~np.eye(5, dtype=bool)]).max() < 0.95
    mean_square = (difference.mean(axis=2) ** 2).mean(axis=-1) / (difference**2).mean(axis=(2, 3))
    np.testing.assert_allclose(mean_square.mean(), 1 / 5, rtol=0.3)  # of pairs of both signs: 0
    np.testing.assert_array_equal(made["time"], np.repeat(store.times[rows], 5))


def test_dry_air_stays_as_dry(store):
    """A perturbation that would take humidity below its bound is cut on both sides."""
    dry = store.dataset([500]).load()
    dry["specific_humidity"] *= 0.05
    humidity = ensemble(store, members=40, amplitude=1.0).initial_states(dry)["specific_humidity"].values
    assert humidity.min() == 0.0 and (humidity <= 2 * dry["specific_humidity"].values * (1 + 1e-5)).all()
    np.testing.assert_allclose(humidity.mean(), dry["specific_humidity"].values.mean(), rtol=0.1)


def test_perturbations_are_as_large_as_the_config_says(store):
    drawn = np.concatenate([RandomFields(store, 0.12, 0).draw(store.times[r], 8) for r in range(400, 560, 16)])
    train = np.concatenate([store.read_state(s.start, s.stop) for s in store.segments if s.split == "train"])
    climate = train - store.climatology.at(store.times[: train.shape[0]])
    np.testing.assert_allclose(drawn.std(axis=(0, 1, 2)), 0.12 * climate.std(axis=(0, 1, 2)), rtol=0.15)


def test_differences_are_between_the_same_season_and_hour_of_different_trajectories(store):
    """States that spell out their row, so that a difference gives away its two states."""
    row = np.arange(store.times.size, dtype=np.float64)
    spelled = np.zeros((row.size, *GRID.shape, 9))
    spelled[..., 0], spelled[..., 1] = row[:, None, None], row[:, None, None] ** 2
    marked = with_state(store, spelled)
    time = store.times[500]
    for drawn in RandomFields(marked, np.sqrt(2.0), 3).draw(time, 20):
        difference, of_squares = drawn[0, 0, 0], drawn[0, 0, 1]
        total = of_squares / difference
        rows = np.rint([(total + difference) / 2, (total - difference) / 2]).astype(int)
        assert (rows < store.segments[2].start).all()  # of the training split
        assert store.segment_of(rows[0], rows[0] + 1) != store.segment_of(rows[1], rows[1] + 1)
        times = store.times[rows]
        assert (seconds_of_day(times) == seconds_of_day(np.array([time]))).all()
        days = [(t - t.astype("datetime64[Y]")) / np.timedelta64(1, "D") for t in (*times, time)]
        assert max(abs(d - days[2]) for d in days) < 16.5


def test_the_season_goes_on_across_new_year(store):
    """States that spell out their row, of 12 December to 20 January: of 1 January those before it are alike too."""
    shift = np.datetime64("2001-12-12", "ns") - store.times[0]
    spelled = np.zeros((store.times.size, *GRID.shape, 9))
    spelled[..., 0] = np.arange(store.times.size)[:, None, None]
    late = dataclasses.replace(with_state(store, spelled), times=store.times + shift)
    time = np.datetime64("2010-01-01T00", "ns")
    days_apart = RandomFields(late, np.sqrt(2.0), 0).draw(time, 60)[:, 0, 0, 0] % 160  # of members, 160 rows each
    within = np.minimum(days_apart, 160 - days_apart) / 4
    assert 15 < within.max() <= 30  # one of December and one of January


def test_draws_depend_on_seed_time_and_member_alone(store):
    one = ensemble(store).initial_states(store.dataset([500, 600]))
    other = ensemble(store).initial_states(store.dataset([600]))
    np.testing.assert_array_equal(one["temperature"][4:], other["temperature"])
    reseeded = ensemble(store, seed=1).initial_states(store.dataset([600]))
    assert not np.array_equal(other["temperature"], reseeded["temperature"])
    more = ensemble(store, members=8).initial_states(store.dataset([600]))
    np.testing.assert_array_equal(more["temperature"][:4], other["temperature"])


class Stopping(Persistence):
    """Persistence whose second call stops after two leads, as a network's does that leaves physical bounds."""

    calls = 0

    def forecast(self, initial, lead_times):
        Stopping.calls += 1
        stops = Stopping.calls == 2
        for block in super().forecast(initial, lead_times):
            yield block.isel(lead_time=slice(2)) if stops else block
            if stops:
                raise ForecastStoppedError("too hot")


def test_a_member_that_stops_in_one_call_stops_all_and_what_came_before_is_kept(store, tmp_path):
    single = Stopping(store.spec, store.grid, store.timestep, name="network")
    forecaster = EnsembleForecaster(single, 4, RandomFields(store, 0.12, 0), runs_at_once=2)
    with pytest.raises(ForecastStoppedError, match="too hot; what came before is in"):
        write_forecasts(forecaster, store.dataset([500]), lead_times(1), tmp_path / "f.nc")
    with open_forecasts(tmp_path / "f_stopped.nc") as kept:
        finite = np.isfinite(kept["temperature"]).all(["level", "latitude", "longitude"]).values
    np.testing.assert_array_equal(finite, [[[True] * 4] * 2 + [[False] * 4] * 2])  # by lead, then by member


@pytest.mark.parametrize(
    ("members", "at_once", "inits", "width"), [(4, 8, 2, 8), (6, 4, 1, 3), (10, 4, 1, 4), (2, 8, 3, 6), (3, 8, 2, 6)]
)
def test_runs_come_in_bounded_calls_and_go_where_they_belong(store, members, at_once, inits, width):
    rows = np.arange(480, 480 + 4 * inits, 4)
    forecaster = ensemble(store, members, at_once)
    (block,) = forecaster.forecast(store.dataset(rows), LEADS)
    assert forecaster.single.widths == {width} and width <= at_once
    assert block["temperature"].dims[:3] == ("init_time", "realization", "lead_time")
    expected = forecaster.initial_states(store.dataset(rows))["temperature"].values
    np.testing.assert_array_equal(
        block["temperature"][:, :, 1].values, expected.reshape(inits, members, *expected.shape[1:])
    )
    np.testing.assert_array_equal(block["init_time"], store.times[rows])
    np.testing.assert_array_equal(block["realization"], np.arange(members))


def test_it_is_written_like_any_forecast(store, tmp_path):
    forecaster = ensemble(store)
    write_forecasts(forecaster, store.dataset([480, 484, 488]), LEADS, tmp_path / "e.nc", batch=2)
    with open_forecasts(tmp_path / "e.nc") as data:
        assert data.attrs["forecaster"] == "physics_t21_ensemble"
        dims = ("init_time", "lead_time", "realization", "level", "latitude", "longitude")
        assert data["temperature"].dims == dims
        assert data["temperature"].attrs["units"] == "K"
        np.testing.assert_array_equal(data["init_time"], store.times[[480, 484, 488]])


def test_without_two_independent_states_it_says_what_to_do(store):
    alone = make_store(GRID, days=10, splits=("train", "test"))
    with pytest.raises(DataError, match="no two training states of the season and hour of 2005-06-01T00"):
        next(ensemble(alone).forecast(alone.dataset([40]), LEADS))
    for time in ("2009-12-01T00", "2009-06-15T03"):  # another season, another hour
        with pytest.raises(DataError, match=f"season and hour of {time}.*set members 1"):
            RandomFields(store, 0.1, 0).draw(np.datetime64(time, "ns"), 1)
