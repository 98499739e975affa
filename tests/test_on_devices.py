"""Batches that devices take out of their own memory are those that the host sends, and so is what is learned."""

import logging
import threading
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from emulator.benchmarks.synthetic import synthetic_store
from emulator.checkpoint import load_forecaster
from emulator.config import MeshConfig, RolloutStage, TrainConfig, UNetConfig
from emulator.training import on_devices
from emulator.training.arriving import Arriving
from emulator.training.devices import Layout
from emulator.training.loader import load_batch
from emulator.training.on_devices import OnDevices
from emulator.training.train import train

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
LAYOUT = Layout.of(MeshConfig(data=1))


def late(store):
    """The same, but training data do not begin at the first row."""
    splits = zip(store.segments, ("validation", "train"), strict=True)
    return replace(store, segments=tuple(replace(segment, split=split) for segment, split in splits))


def filled(store, monkeypatch, pieces=3):
    monkeypatch.setattr(on_devices, "_PIECE_BYTES", store.state[:pieces].nbytes)
    held = OnDevices(store, LAYOUT)
    held.begin()
    held.wait()
    return held


def test_a_batch_from_there_is_the_batch_from_here(monkeypatch):
    store = late(synthetic_store(8, 1, n_times=10))
    held, rows = filled(store, monkeypatch), np.array([13, 10])
    here = load_batch(store, rows, 2, LAYOUT, np.array([0, 1], np.int32), (1, 2), 1)
    monkeypatch.setattr(type(store), "take_states", lambda *_: pytest.fail("the host read states"))
    there = load_batch(store, rows, 2, LAYOUT, np.array([0, 1], np.int32), (1, 2), 1, held)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim)


def test_until_all_of_it_is_there_and_after_it_is_given_back_the_host_reads(monkeypatch):
    store = synthetic_store(8, 1, n_times=10)
    held = OnDevices(store, LAYOUT)
    assert held.take(np.array([[0, 1]])) is None
    held = filled(store, monkeypatch)
    assert held.take(np.array([[0, 1]])) is not None
    held.close()
    assert held.take(np.array([[0, 1]])) is None


def test_who_gives_it_back_does_not_wait_for_files_that_are_being_read():
    store = synthetic_store(8, 1, n_times=10)
    reading = threading.Event()

    class Slow:
        shape = store.state.shape

        def __getitem__(self, key):
            reading.wait(60)
            return store.state[key]

    arriving = Arriving(Slow())
    held = OnDevices(replace(store, state=arriving), LAYOUT)
    held.begin()
    held.close()
    assert not arriving.wait(0)
    reading.set()


def test_what_cannot_be_read_stays_with_the_host(monkeypatch, caplog):
    store = synthetic_store(8, 1, n_times=10)
    store.state[4] += 1
    with caplog.at_level(logging.WARNING):
        held = filled(store, monkeypatch)
    assert held.take(np.array([[0, 1]])) is None
    assert "the data stay with the host" in caplog.text
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    ("platform", "processes", "beside", "begins"),
    [("gpu", 1, 0, True), ("gpu", 1, 1, False), ("gpu", 2, 0, False), ("cpu", 1, 0, False)],
)
def test_it_is_begun_where_accelerators_have_room_beside_training(platform, processes, beside, begins, monkeypatch):
    store = synthetic_store(8, 1, n_times=10)
    device = SimpleNamespace(platform=platform)
    held = OnDevices(store, SimpleNamespace(mesh=SimpleNamespace(local_devices=[device]), bands=1))
    monkeypatch.setattr(on_devices, "TIGHT", 0.5)
    monkeypatch.setattr(on_devices, "device_memory", lambda: (0, 2 * (held.n_bytes + 1000)))
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    begun = []
    monkeypatch.setattr(OnDevices, "begin", lambda self: begun.append(self))
    held.begin_beside(1000 + beside)
    assert bool(begun) == begins


def test_what_is_learned_is_the_same(tmp_path, monkeypatch):
    """From the second batch that is read behind the first step on; the first has come from the host."""
    store = synthetic_store(8, 1, n_times=20)
    monkeypatch.setattr("emulator.training.train.open_for_training", lambda _: store)
    stages = [RolloutStage(steps=12, rollout=1, learning_rate=1e-3)]
    config = TrainConfig(batch_size=4, stages=stages, validate_every=6, validation_windows=4, validation_steps=2)
    taken = []

    def begin_beside(self, needed):
        assert needed > 0
        self.begin()
        self.wait()
        take = self.take
        self.take = lambda rows: taken.append(rows) or take(rows)

    weights = []
    for name in ("here", "there"):
        train(config, MODEL, tmp_path, tmp_path / name, 0, {})
        weights.append(jax.tree.leaves(load_forecaster(tmp_path / name).params))
        monkeypatch.setattr(OnDevices, "begin_beside", begin_beside)
    assert len(taken) >= 4
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
