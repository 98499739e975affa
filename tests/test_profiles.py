"""Fields that are turned north to south: noticed by what the training fields of that season were like."""

import numpy as np
import pytest
from synthetic import make_store

from data_prep.clock import day_of_year
from data_prep.grid import Grid
from emulator.forecasters.profiles import Profiles

ROWS, COLUMNS, STATES = 12, 6, 60
TIMES = np.datetime64("2001-01-01", "ns") + np.arange(STATES) * np.timedelta64(6, "D")


def world(times, seed):
    """Warm in the summer hemisphere and warmer in the north; alike from south to north; uniform. ``(time, ...)``"""
    rng = np.random.default_rng(seed)
    latitude = np.linspace(-1, 1, ROWS)[:, None]
    summer = np.cos(2 * np.pi * (day_of_year(times) - 200) / 365)[:, None, None]
    noise = rng.standard_normal((times.size, ROWS, COLUMNS))
    first = 280 + 15 * latitude * summer + 5 * latitude + noise
    second = 10 * latitude**2 + rng.standard_normal((times.size, ROWS, COLUMNS))
    return np.stack([first, second, np.full_like(first, 3.0)], axis=-1)


@pytest.fixture(scope="module")
def profiles():
    return Profiles(world(TIMES, 0).mean(axis=2).astype(np.float32), day_of_year(TIMES))


def test_turned_fields_are_told_in_every_season_and_sound_ones_never(profiles):
    times = TIMES + np.timedelta64(366, "D")
    for time, fields in zip(times, world(times, 1), strict=True):
        assert not profiles.turned(fields, time).any()
        slope = abs(15 * np.cos(2 * np.pi * (day_of_year(np.array([time]))[0] - 200) / 365) + 5)
        assert profiles.turned(fields[::-1], time).tolist() == [slope > 2, False, False] or 1 < slope < 3


def test_the_winter_of_the_other_hemisphere_is_not_taken_for_turned(profiles):
    """Of a network that learned from northern summers alone, asked in January."""
    summer = np.abs(profiles.days - 200) < 40
    some = Profiles(profiles.values[summer], profiles.days[summer])
    january, july = np.datetime64("2002-01-15", "ns"), np.datetime64("2002-07-15", "ns")
    assert not some.turned(world(np.array([january]), 2)[0], january).any()
    assert some.turned(world(np.array([july]), 2)[0][::-1], july).tolist() == [True, False, False]


def test_the_end_of_a_year_is_near_the_beginning_of_the_next(profiles):
    """Of a network that learned from Decembers alone, asked in the first days of January."""
    december = profiles.days > 330
    some = Profiles(profiles.values[december], profiles.days[december])
    january = np.datetime64("2002-01-03", "ns")
    assert some.turned(world(np.array([january]), 2)[0][::-1], january).tolist() == [True, False, False]


def test_the_deviation_is_that_from_other_states():
    noise = np.random.default_rng(0).normal(size=(200, ROWS, 1))
    deviation = Profiles(noise, np.arange(200))._deviation
    assert np.sqrt(np.mean(deviation**2)) == pytest.approx(np.sqrt(1 + 1 / 8), rel=0.04)  # and of the mean of eight


def test_fields_that_are_strange_either_way_are_not_taken_for_turned(profiles):
    for time, fields in zip(TIMES, world(TIMES, 1), strict=True):
        for change in (-40.0, 40.0):
            assert not profiles.turned(fields + change, time).any()


def test_profiles_of_a_store_are_zonal_means_of_its_training_states():
    store = make_store(Grid.gaussian(6), days=12)
    found, n = Profiles.of(store), store.spec.n_prognostic
    np.testing.assert_allclose(found.values, store.state[store.rows_of("train"), ..., :n].mean(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(found.days, day_of_year(store.times[store.rows_of("train")]))


def test_plain_arrays_and_back(profiles):
    again = Profiles.from_arrays(profiles.to_arrays())
    assert np.array_equal(again.values, profiles.values) and np.array_equal(again.days, profiles.days)
    assert Profiles.from_arrays({}) is None
