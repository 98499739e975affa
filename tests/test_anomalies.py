"""A network that learns departures from climatology: what it sees, and that a forecast comes back to fields."""

import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from tiny_store import TIMESTEP, write_store

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from data_prep.spec import stack_channels
from emulator import anomalies
from emulator.anomalies import anomalies_of
from emulator.checkpoint import load_forecaster
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.forecasters.persistence import AnomalyPersistence
from emulator.forecasters.profiles import Profiles
from emulator.training.job import open_for_training, set_up
from emulator.training.train import train

CONFIG = TrainConfig(
    anomalies=True,
    batch_size=4,
    stages=[RolloutStage(steps=3, learning_rate=1e-2)],
    validation_windows=2,
    validation_steps=2,
)
MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
LEADS = np.arange(1, 7) * TIMESTEP


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    store = write_store(folder / "store.zarr", Grid.gaussian(8))
    train(CONFIG, MODEL, folder / "store.zarr", folder / "run", 0, {"name": "test"})
    return store, load_forecaster(folder / "run")


def states_of(forecaster, initial):
    forecast = xr.concat(forecaster.forecast(initial, LEADS), "lead_time")
    return stack_channels(forecast, forecaster.spec.state_channels)


def test_validation_data_without_a_climatology_are_refused_before_the_first_step(tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(6))
    rows = np.concatenate([np.arange(s.start, s.stop) for s in store.segments if s.split == "validation"])
    times = store.times.copy()
    times[rows] += np.timedelta64(180, "D")
    with pytest.raises(DataError, match=r"no estimate at .* the training split more of the year"):
        set_up(CONFIG, MODEL, replace(store, times=times), 0)


def never(*_):
    raise AssertionError("all training data are read")


def test_little_is_read_before_what_does_not_fit_is_refused(trained, monkeypatch):
    monkeypatch.setattr(anomalies, "_statistics", never)
    with pytest.raises(ConfigError, match=r"train.batch_size: 3 windows in 2 parts cannot be shared evenly"):
        set_up(CONFIG.model_copy(update={"batch_size": 3, "accumulate": 2}), MODEL, trained[0], 0)
    with pytest.raises(DataError, match="no window of 100 times in the train split"):
        set_up(CONFIG.model_copy(update={"stages": [RolloutStage(steps=3, rollout=99)]}), MODEL, trained[0], 0)


def test_a_training_that_goes_on_has_its_statistics_and_makes_them_again_where_they_are_damaged(
    trained, tmp_path, monkeypatch
):
    store, _ = trained
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    longer = CONFIG.model_copy(update={"stages": [*CONFIG.stages, RolloutStage(steps=2, learning_rate=1e-2)]})
    train(longer, MODEL, store.path, whole, 0, {"name": "test"})
    train(CONFIG, MODEL, store.path, stopped, 0, {"name": "test"})
    (stopped / "arrays.npz").write_bytes(b"damaged")
    with monkeypatch.context() as context, pytest.raises(AssertionError, match="all training data"):
        context.setattr(anomalies, "_statistics", never)
        train(longer, MODEL, store.path, stopped, 0, {"name": "test"})
    train(CONFIG, MODEL, store.path, stopped, 0, {"name": "test"})
    monkeypatch.setattr(anomalies, "_statistics", never)
    train(longer, MODEL, store.path, stopped, 0, {"name": "test"})
    assert (stopped / "weights.npz").read_bytes() == (whole / "weights.npz").read_bytes()


@pytest.mark.parametrize("rows", [5, 64])
def test_states_are_departures_and_statistics_theirs(trained, monkeypatch, rows):
    monkeypatch.setattr(anomalies, "_BLOCK_ROWS", rows)
    store, _ = trained
    anomaly = np.stack([store.read_state(a, a + 24) - store.climatology.at(store.times[a : a + 24]) for a in (0, 24)])
    weights = store.grid.latitude_weights[:, None, None]
    for opened in (store, open_store(store.path, in_memory=True)):
        seen = anomalies_of(opened)
        np.testing.assert_allclose(seen.read_state(24, 48), anomaly[1], atol=1e-6)
        found, change = seen.statistics, np.diff(anomaly, axis=1)
        mean = (weights * anomaly).mean((0, 1, 2, 3))
        np.testing.assert_allclose(found.mean / found.std, mean / found.std, atol=1e-4)
        for std, mean, values in (
            (found.std, found.mean, anomaly),
            (found.tendency_std, found.tendency_mean, change),
        ):
            np.testing.assert_allclose(std, np.sqrt((weights * (values - mean) ** 2).mean((0, 1, 2, 3))), rtol=1e-4)
        np.testing.assert_array_equal(found.forcing_std, store.statistics.forcing_std)


def test_profiles_by_which_turned_fields_are_told_are_of_fields_and_not_of_departures(trained):
    store, network = trained
    np.testing.assert_array_equal(network.profiles.values, Profiles.of(store).values)
    assert 200 < network.profiles.values[..., 0].mean() < 320  # kelvin


def test_a_worker_is_sent_anomalies_and_no_fields(trained):
    seen = anomalies_of(open_for_training(trained[0].path))
    sent = pickle.loads(pickle.dumps(seen))  # our own bytes: how a pool of processes hands it on
    rows = np.arange(3, 6)
    np.testing.assert_array_equal(sent.take_states(rows), seen.take_states(rows))
    np.testing.assert_array_equal(sent.take_persisted(rows), trained[0].take_persisted(rows))
    assert len(pickle.dumps(seen)) < len(pickle.dumps(seen.climatology)) + 20_000  # no rows are sent along


def test_what_persists_is_compared_with_its_hash(trained):
    store = trained[0]
    persisted = store.persisted[:].copy()
    persisted[4] += 1
    damaged = anomalies_of(replace(store, persisted=persisted))
    damaged.take_persisted(np.array([3]))
    with pytest.raises(DataError, match="damaged"):
        damaged.take_persisted(np.array([3, 4]))


def test_a_network_that_says_nothing_keeps_the_anomaly(trained):
    store, forecaster = trained
    assert forecaster.spec == store.spec
    silent = replace(forecaster, params=jax.tree.map(jnp.zeros_like, forecaster.params))
    initial = store.dataset([3, 30])
    kept = AnomalyPersistence(store.spec, store.grid, store.timestep, store.climatology)
    n, unit = store.spec.n_prognostic, store.statistics.std
    np.testing.assert_allclose(
        states_of(silent, initial)[..., :n] / unit[:n], states_of(kept, initial)[..., :n] / unit[:n], atol=1e-3
    )
    climate = store.climatology.at(store.times[[3, 30]].repeat(LEADS.size) + np.tile(LEADS, 2))
    rain = np.maximum(climate[..., n].reshape(2, LEADS.size, *store.grid.shape), 0)  # a diagnostic: its mean is left
    np.testing.assert_allclose(states_of(silent, initial)[..., n], rain, atol=0.05 * unit[n])


def test_it_learned_something_and_bounds_hold_for_fields(trained):
    store, forecaster = trained
    initial = store.dataset([3])
    silent = replace(forecaster, params=jax.tree.map(jnp.zeros_like, forecaster.params))
    states = states_of(forecaster, initial)
    assert np.abs(states - states_of(silent, initial)).max() > 0.01
    assert (states >= store.spec.state_minimum).all()
    assert (states[..., store.spec.n_prognostic - 1] == 0).any()  # humidity would be below zero in places


def test_departures_are_what_is_learned_and_validated_and_their_changes_its_unit(trained):
    store, _ = trained
    job, seen = set_up(CONFIG, MODEL.model_copy(update={"time_steps": [1, 4]}), store, 0), anomalies_of(store)
    learned, validated = job.spans[0].windows, job.validation.rows[0]
    for rows, batch in (
        (learned.rows(0), learned.batch(0, job.layout)),
        (validated, job.validation._batch(validated)),
    ):
        np.testing.assert_allclose(batch.state[:, 0], seen.take_states(rows), atol=1e-5)
    change = np.stack([seen.read_state(a + 4, a + 24) - seen.read_state(a, a + 20) for a in (0, 24)])
    area = store.grid.latitude_weights[:, None, None]
    std = np.sqrt((area * (change - (area * change).mean((0, 1, 2, 3))) ** 2).mean((0, 1, 2, 3)))
    n = store.spec.n_prognostic
    np.testing.assert_allclose(job.task.stepper.normalizer.output_std[1, :n], std[:n], rtol=1e-3)
