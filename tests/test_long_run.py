"""A forecaster left to itself: what is measured against worlds whose climate is known exactly."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import xarray as xr
from synthetic import ON_SIGMA, STEP, make_store, with_state

from data_prep.clock import seconds_of_day
from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.spec import unstack_channels
from emulator import checkpoint
from emulator.bounds import ForecastStoppedError
from emulator.config import EvaluateConfig, LongRunConfig, parse_config
from emulator.evaluation.fields import Verification
from emulator.evaluation.long_run import POOL_DAYS, Climate, long_run_leads, long_run_rows, measure_long_run
from emulator.evaluation.report_long_run import describe_long_run
from emulator.experiment import comparing, contest
from emulator.forecasters.persistence import Persistence
from emulator.run_folder import WEIGHTS

CONFIG = EvaluateConfig()
DAY = np.timedelta64(1, "D")


def unchanging(store, amplitude=1.0):
    """A state that depends on latitude and, by a fine wave, on longitude: ``(lat, lon, channel)``."""
    lat, lon = np.radians(store.grid.latitude)[:, None], np.radians(store.grid.longitude)[None, :]
    field = 20 * np.cos(lat) + amplitude * np.cos(6 * lon)
    return (250 + np.repeat(field[..., None], len(store.spec.state_channels), axis=-1)).astype(np.float32)


@pytest.fixture(scope="module")
def still_world():
    """40 days in which nothing ever happens."""
    store = make_store(Grid.gaussian(12), splits=("train", "test"))
    return with_state(store, np.repeat(unchanging(store)[None], store.times.size, axis=0))


def run_of(store, days, state_at, *, inits=2, every=24, block=3):
    """Blocks of runs whose state is ``state_at(init, day)``, and what ``measure_long_run`` needs beside them."""
    run = LongRunConfig(days=days, every_hours=every, initial_times=inits)
    rows, leads = long_run_rows(store, CONFIG, run), long_run_leads(store, run)
    times = store.times[rows]

    def blocks(i):
        for start in range(0, leads.size, block):
            some = leads[start : start + block]
            states = np.stack([[state_at(i, lead / DAY) for lead in some]])
            coords = {"init_time": times[[i]], "lead_time": some}
            yield unstack_channels(states, store.spec, store.spec.state_channels, store.grid, coords)

    return map(blocks, range(inits)), times, leads


def measure(store, tmp_path, runs, times, leads, config=CONFIG):
    measured = measure_long_run(runs, store, config, times, leads, tmp_path / "long_run.nc", forecaster="network")
    assert [p.name for p in tmp_path.iterdir()] == ["long_run.nc"]
    on_disk = xr.load_dataset(tmp_path / "long_run.nc")
    xr.testing.assert_equal(measured, on_disk)
    assert on_disk["lead_time"].dtype.kind == "m" and on_disk.attrs["forecaster"] == "network"
    return on_disk


def test_a_run_that_does_what_the_truth_does_has_no_bias(still_world, tmp_path):
    found = measure(still_world, tmp_path, *run_of(still_world, 12, lambda i, day: unchanging(still_world)))
    assert np.isinf(found["days_within"]).all() and np.isinf(found["days_finite"]).all()
    np.testing.assert_allclose(found["global_mean"], found["truth_mean"], rtol=1e-12)
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=1e-9)
    np.testing.assert_allclose(found["fine_scale_ratio"], 1, rtol=1e-6)
    weights = still_world.grid.latitude_weights / 12
    mean = weights @ (250 + 20 * np.cos(np.radians(still_world.grid.latitude)))
    np.testing.assert_allclose(found["global_mean"], mean, rtol=1e-6)


def test_a_truth_that_is_not_read_whole_is_read_at_all_hours_of_the_day(still_world, tmp_path, monkeypatch):
    """Every fourth state of four a day is of one hour: the course of the day would be taken for a bias."""

    def with_day(time):
        hour = (time - time.astype("datetime64[D]")) / np.timedelta64(1, "h")
        return unchanging(still_world) + np.float32(3 * np.cos(np.pi * hour / 12))

    world = with_state(still_world, np.stack([with_day(t) for t in still_world.times]))
    monkeypatch.setattr("emulator.evaluation.long_run._MOST_TRUTH", world.times.size // 4)
    start = world.times[long_run_rows(world, CONFIG, LongRunConfig(initial_times=1))[0]]

    def like_the_truth(i, day):
        return with_day(start + np.timedelta64(round(24 * day), "h"))

    found = measure(world, tmp_path, *run_of(world, 12, like_the_truth, inits=1, every=6))
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=0.1)


def test_drift_bias_and_blurring_are_measured_as_they_are(still_world, tmp_path):
    def drifting(i, day):
        """Two kelvin too warm from day 5 on in the first run; the second stays, but its waves are half as high."""
        return unchanging(still_world) + np.float32(2.0) * (day >= 5) if i == 0 else unchanging(still_world, 0.5)

    found = measure(still_world, tmp_path, *run_of(still_world, 18, drifting))
    np.testing.assert_array_equal(found["days_within"], [[4.0] * 4, [np.inf] * 4])
    np.testing.assert_allclose(found["zonal_bias"], 2.0 * 14 / 36, atol=1e-5)  # 14 of 36 states
    np.testing.assert_allclose(found["fine_scale_ratio"], np.sqrt((1 + 0.25) / 2), rtol=1e-5)
    excess = found["global_mean"].isel(init_time=0) - found["truth_mean"].isel(init_time=0)
    warm = np.where(found["lead_time"].values / DAY >= 5, 2.0, 0.0)
    np.testing.assert_allclose(excess.transpose("variable", "lead_time"), [warm] * 4, atol=1e-4)


def test_a_week_outside_is_weather(still_world, tmp_path):
    def astray(i, day):
        return unchanging(still_world) + np.float32(3.0) * (3 <= day < 10)

    found = measure(still_world, tmp_path, *run_of(still_world, 20, astray))
    assert np.isinf(found["days_within"]).all()


def test_ten_days_outside_without_a_break_are_no_weather_on_the_cold_side_either(still_world, tmp_path):
    """From day 3 to day 12 in the first run, a day less in the second."""

    def too_cold(i, day):
        return unchanging(still_world) - np.float32(3.0) * (3 <= day < 13 - i)

    found = measure(still_world, tmp_path, *run_of(still_world, 20, too_cold))
    np.testing.assert_array_equal(found["days_within"], [[2.0] * 4, [np.inf] * 4])


def test_the_climate_of_a_day_is_that_of_the_truth_within_so_many_days_also_across_new_year():
    """From 12 December to 20 January, a kelvin warmer and with higher waves every day."""
    store = make_store(Grid.gaussian(12), splits=("train",))
    shift = np.datetime64("2004-12-12", "ns") - store.times[0]
    day = np.arange(store.times.size) // 4
    state = np.stack([unchanging(store, 1 + 0.1 * d) + np.float32(d) for d in day])
    truth = with_state(replace(store, times=store.times + shift), state)
    verification = Verification(truth, truth.times[:1], np.array([DAY]), CONFIG.pressure_levels)
    climate = Climate.of(verification, ["2m_temperature"], np.zeros(1))
    weights = store.grid.latitude_weights / 12
    known = {366: 19, 1: 20, 10: 29}  # days of the year, and how many days of the record lie before them
    for number, behind in known.items():
        some = state[4 * max(behind - POOL_DAYS, 0) : 4 * (behind + POOL_DAYS) + 1 : 4, ..., 3].astype(np.float64)
        zonal = some.mean(axis=-1)
        mean, row = zonal @ weights, number - 1
        np.testing.assert_allclose(climate.zonal_mean[row, 0], zonal.mean(axis=0), rtol=1e-6)
        found = [getattr(climate, key)[row, 0] for key in ("mean", "lowest", "highest")]
        np.testing.assert_allclose(found, [mean.mean(), mean.min(), mean.max()], rtol=1e-6)
        height = (1 + 0.1 * np.arange(40))[max(behind - POOL_DAYS, 0) : behind + POOL_DAYS + 1]
        np.testing.assert_allclose(climate.fine_power[row, 0], (height**2 / 2).mean(), rtol=1e-4)


def test_windows_of_run_time_are_apart(still_world, tmp_path):
    steps = run_of(still_world, 40, lambda i, day: unchanging(still_world) + np.float32(day > 30), inits=1)
    found = measure(still_world, tmp_path, *steps)
    assert found["window"].values.tolist() == [0, 30]
    np.testing.assert_allclose(found["zonal_bias"].isel(variable=0), [[0.0] * 12, [1.0] * 12], atol=1e-5)


def test_where_the_calendar_of_the_truth_ends_nothing_is_said(still_world, tmp_path):
    """Forty days from 1 June: a run from 1 June leaves them on 10 July."""
    wild = run_of(still_world, 90, lambda i, day: unchanging(still_world) + np.float32(9.0) * (day > 40), inits=1)
    found = measure(still_world, tmp_path, *wild)
    known = np.isfinite(found["truth_mean"].isel(init_time=0, variable=0))
    assert known.values[:39].all() and not known.values[40:].any()
    assert np.isfinite(found["global_mean"]).all() and np.isinf(found["days_within"]).all()
    assert (
        np.isnan(found["zonal_bias"].isel(window=2)).all() and np.isnan(found["fine_scale_ratio"].isel(window=2)).all()
    )


def test_a_run_that_blows_up_is_a_result(still_world, tmp_path):
    def exploding(i, day):
        return unchanging(still_world) * np.float32(np.nan if i == 1 and day >= 7 else 1.0)

    found = measure(still_world, tmp_path, *run_of(still_world, 12, exploding))
    assert found["days_finite"].values.tolist() == [np.inf, 6.0]
    assert np.isinf(found["days_within"]).all()  # it ended, and had left nothing
    assert np.isnan(found["global_mean"].isel(init_time=1)[6:]).all()
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=1e-9)


def test_a_forecaster_that_gives_up_is_a_result_too(still_world, tmp_path):
    (first, second), times, leads = run_of(still_world, 12, lambda i, day: unchanging(still_world))

    def giving_up():
        yield next(first)
        raise ForecastStoppedError("network: the forecast is not finite any more at lead 96 h")

    found = measure(still_world, tmp_path, [giving_up(), second], times, leads)  # the other goes on
    assert found["days_finite"].values.tolist() == [3.0, np.inf] and np.isinf(found["days_within"]).all()
    assert found.attrs["ended"] == "network: the forecast is not finite any more at lead 96 h"
    assert describe_long_run(found)[:2] == (
        "Network was left to itself for 12 days from 2 initial times but 1 of them was stopped after day 3.",
        "No global mean leaves what the truth does at that time of the year for 10 days before the run ends.",
    )

    def never_starting():
        raise DataError("network: initial fields are on another grid")
        yield

    with pytest.raises(DataError, match="another grid"):
        measure_long_run(
            [never_starting()], still_world, CONFIG, times, leads, tmp_path / "none.nc", forecaster="network"
        )
    assert not (tmp_path / "none.nc").exists()


def test_nothing_counts_behind_a_state_that_is_not_finite(still_world, tmp_path):
    """In the same block or in a later one, as of a model that resets itself."""

    def recovering(i, day):
        return unchanging(still_world) + np.float32(
            np.nan if i == 1 and day == 7 else 50.0 if i == 1 and day > 7 else 0.0
        )

    found = measure(still_world, tmp_path, *run_of(still_world, 12, recovering))
    assert found["days_finite"].values.tolist() == [np.inf, 6.0]
    assert np.isnan(found["global_mean"].isel(init_time=1, lead_time=slice(6, None))).all()
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=1e-9)


def test_why_each_run_was_stopped_is_kept(still_world, tmp_path):
    _, times, leads = run_of(still_world, 12, lambda i, day: unchanging(still_world))

    def ended(why):
        raise ForecastStoppedError(why)
        yield

    found = measure(still_world, tmp_path, map(ended, ("network: too hot", "network: too cold")), times, leads)
    assert found.attrs["ended"] == "network: too hot; network: too cold"


@pytest.mark.parametrize("which", [0, 1])
def test_a_run_that_ends_at_once_is_a_result_whichever_it_is(still_world, tmp_path, which):
    runs, times, leads = run_of(still_world, 12, lambda i, day: unchanging(still_world))

    def ended():
        raise ForecastStoppedError("network: left physical bounds at lead 6 h")
        yield

    runs = [ended() if i == which else run for i, run in enumerate(runs)]
    found = measure(still_world, tmp_path, runs, times, leads)
    assert found["days_finite"].values.tolist() == [0.0 if i == which else np.inf for i in range(2)]
    assert found.attrs["ended"] == "network: left physical bounds at lead 6 h"
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=1e-9)


def test_another_member_of_the_truth_stays_in_its_range(tmp_path):
    """Weather alone is neither drift nor bias: a run that replays the test member."""
    store = make_store(Grid.gaussian(12), splits=("train", "train", "train", "test"))
    run = LongRunConfig(days=30, every_hours=24, initial_times=1)
    rows, leads = long_run_rows(store, CONFIG, run), long_run_leads(store, run)
    assert store.segment_of(int(rows[0]), int(rows[0]) + 1).split == "test"
    states = np.stack([store.state[rows[0] + int(lead // STEP)] for lead in leads])[None]
    coords = {"init_time": store.times[rows], "lead_time": leads}
    block = unstack_channels(states, store.spec, store.spec.state_channels, store.grid, coords)
    found = measure(store, tmp_path, [iter([block])], store.times[rows], leads)
    assert np.isinf(found["days_within"]).all()
    spread = np.array([3.0, 4.0, 400.0, 3.0])  # of the weather
    assert (abs(found["zonal_bias"]).max("latitude")[0].values[[0, 1, 3]] < spread[[0, 1, 3]]).all()
    np.testing.assert_allclose(found["fine_scale_ratio"], 1, rtol=0.2)


def test_sigma_states_are_seen_on_pressure_levels(tmp_path):
    store = make_store(Grid.gaussian(8), days=12, splits=("train", "test"), world=ON_SIGMA)
    config = EvaluateConfig(headline=["geopotential@500", "mean_sea_level_pressure"])
    run = LongRunConfig(days=3, every_hours=12, initial_times=1)
    rows, leads = long_run_rows(store, config, run), long_run_leads(store, run)
    coords = {"init_time": store.times[rows], "lead_time": leads}
    states = store.state[rows[0] + 2 : rows[0] + 2 * leads.size + 1 : 2][None]
    block = unstack_channels(states, store.spec, store.spec.state_channels, store.grid, coords)
    found = measure(store, tmp_path, [iter([block])], store.times[rows], leads, config)
    assert found["variable"].values.tolist() == config.headline
    assert found["units"].values.tolist() == ["m2 s-2", "Pa"]
    assert np.isfinite(found["zonal_bias"]).all()
    lacking = EvaluateConfig(headline=["vorticity@500"])
    with pytest.raises(DataError, match="lacks vorticity@500"):
        measure_long_run([iter([block])], store, lacking, store.times[rows], leads, tmp_path / "x.nc", forecaster="x")


def test_runs_are_spread_over_the_split():
    store = make_store(days=10)
    rows = long_run_rows(store, CONFIG, LongRunConfig(initial_times=4))
    assert [store.segment_of(int(r), int(r) + 1).name for r in rows] == ["member_002"] * 2 + ["member_003"] * 2
    with pytest.raises(DataError, match="holds 80 times, 81 are asked for"):
        long_run_rows(store, CONFIG, LongRunConfig(initial_times=81, every_hours=6))


@pytest.mark.parametrize(("every", "hours"), [(24, {6}), (48, {6}), (12, {6, 12})])
def test_runs_that_are_looked_at_at_one_hour_of_the_day_start_at_one(every, hours):
    """Else each would be held against the truth of the others' hours too."""
    whole = make_store(days=11, splits=("train", "test"))
    store = replace(whole, segments=(whole.segments[0], replace(whole.segments[1], start=whole.segments[1].start + 1)))
    rows = long_run_rows(store, CONFIG, LongRunConfig(initial_times=2, every_hours=every))
    assert set((seconds_of_day(store.times[rows]) / 3600).tolist()) == hours and rows.size == 2
    assert long_run_leads(store, LongRunConfig(days=2, every_hours=18))[-1] == np.timedelta64(36, "h")
    with pytest.raises(ConfigError, match="5 h is no multiple of the store's 6 h"):
        long_run_leads(store, LongRunConfig(every_hours=5))


def test_an_experiment_leaves_its_network_to_itself_where_its_config_asks_for_it(tmp_path, monkeypatch):
    store = make_store(Grid.gaussian(8), days=12)
    network = Persistence(store.spec, store.grid, store.timestep, name="network")
    monkeypatch.setattr(contest, "open_store", lambda path: store)
    monkeypatch.setattr(checkpoint, "load_forecaster", lambda path: network)
    evaluate = {"lead_hours": 24, "init_every_hours": 48, "bootstrap": 50, "references": ["climatology"]}
    raw = {
        "name": "x",
        "workdir": str(tmp_path),
        "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [3]}}},
        "train": {"stages": [{"steps": 1}]},
        "evaluate": {**evaluate, "long_run": {"days": 20, "initial_times": 1}},
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / WEIGHTS).write_bytes(b"one")
    comparing.write_all_forecasts(parse_config(raw))
    comparing.score_all_forecasts(parse_config(raw))
    run = xr.load_dataset(tmp_path / "long_run.nc")
    assert run["lead_time"].size == 20 and np.isinf(run["days_finite"]).all()
    start = store.read_state(2 * 48, 2 * 48 + 1)[0, ..., 0]  # persistence keeps the first state of the test split
    mean = (store.grid.latitude_weights[:, None] * start).mean()
    np.testing.assert_allclose(run["global_mean"].sel(variable="temperature@500"), mean, rtol=1e-6)
    (tmp_path / "made.nc").hardlink_to(tmp_path / "long_run.nc")  # holds its inode, that no later file has the same
    comparing.score_all_forecasts(parse_config({**raw, "evaluate": raw["evaluate"] | {"bootstrap": 60}}))
    assert (tmp_path / "long_run.nc").samefile(tmp_path / "made.nc")  # scoring anew does not make it anew
    (tmp_path / "run" / WEIGHTS).write_bytes(b"another")
    comparing.score_all_forecasts(parse_config(raw))
    assert not (tmp_path / "long_run.nc").samefile(tmp_path / "made.nc")
    (tmp_path / "run" / WEIGHTS).write_bytes(b"a third")
    (tmp_path / "scores.nc").unlink()
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(comparing, "write_text", Mock(side_effect=KeyboardInterrupt))
        comparing.score_all_forecasts(parse_config(raw))
    assert (tmp_path / "scores.nc").exists()
    assert not (tmp_path / "long_run.nc").exists()  # or a report of these scores would show it as this network's
    comparing.score_all_forecasts(parse_config(raw))
    (tmp_path / "run" / WEIGHTS).unlink()  # of a folder that was copied in part
    with pytest.raises(DataError, match=rf"run/{WEIGHTS}: is missing; train again$"):
        comparing.score_all_forecasts(parse_config(raw))
    comparing.score_all_forecasts(parse_config({**raw, "evaluate": evaluate}))
    assert not (tmp_path / "long_run.nc").exists()  # what another config measured is not shown as this one's


def test_a_run_that_is_looked_at_once_a_day_is_held_against_that_hour_of_the_truth(still_world, tmp_path):
    def with_day(time):
        hour = float(seconds_of_day(np.array([time]))[0]) / 3600
        return unchanging(still_world) + np.float32(3 * np.cos(np.pi * hour / 12))

    world = with_state(still_world, np.stack([with_day(t) for t in still_world.times]))
    start = world.times[long_run_rows(world, CONFIG, LongRunConfig(initial_times=1))[0]]
    found = measure(world, tmp_path, *run_of(world, 12, lambda i, day: with_day(start + round(day) * DAY), inits=1))
    np.testing.assert_allclose(found["zonal_bias"], 0, atol=1e-4)
