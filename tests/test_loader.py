"""Order and contents of batches, and the workers that read them."""

import threading
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_store import write_store

from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.config import MeshConfig
from emulator.training import loader
from emulator.training.devices import Layout
from emulator.training.loader import Shape, Windows, batches_ahead, read_batch

LAYOUT = Layout.of(MeshConfig())


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(4))


def make(store, batch_size=4, steps=2, seed=(0,)):
    return Windows(store, store.windows("train", steps + 1), Shape(batch_size, steps), seed)


def test_an_epoch_holds_every_window_once_even_where_batches_straddle_epochs(store):
    windows = make(store, batch_size=5)
    n = windows.starts.size
    assert n == 2 * (24 - 2)
    rows = np.concatenate([windows.rows(step) for step in range(2 * n // 5 + 1)])
    for epoch in (rows[:n], rows[n : 2 * n]):
        np.testing.assert_array_equal(np.sort(epoch), windows.starts)
    assert (rows[:n] != rows[n : 2 * n]).any()


def test_order_depends_on_seed_and_step_alone(store):
    first, second = make(store), make(store)
    for step in (7, 2, 30):  # asked for in any order, as a resumed run does
        np.testing.assert_array_equal(first.rows(step), second.rows(step))
    assert (first.rows(0) != make(store, seed=(1,)).rows(0)).any()
    assert (make(store, seed=(1, 0)).rows(0) != make(store, seed=(1, 1)).rows(0)).any()  # of two stages


def test_windows_never_cross_segments(store):
    windows = make(store, steps=5)
    for start in windows.starts:
        assert store.segment_of(int(start), int(start) + 6).split == "train"


def test_batch_holds_truth_and_the_forcings_that_a_forecast_would_have(store):
    rows = np.array([3, 25])
    batch = read_batch(store, rows, 3)
    assert batch.state.shape == (2, 4, 4, 8, 4)
    assert batch.forcing.shape == (2, 3, 4, 8, 2)
    np.testing.assert_array_equal(batch.state[1], store.read_state(25, 29))
    for i, row in enumerate(rows):
        kept = store.take_persisted(np.array([row]))[0]
        expected = store.forcing_builder.at(store.times[row + 1 : row + 4], kept)
        np.testing.assert_array_equal(batch.forcing[i], expected)
        np.testing.assert_array_equal(batch.forcing[i, :, ..., 1], np.repeat(kept[None, ..., 0], 3, axis=0))


def test_behind_free_steps_a_batch_holds_the_truth_that_the_loss_counts_and_the_forcings_of_all(store):
    rows = np.array([3, 25])
    whole, batch = read_batch(store, rows, 5), read_batch(store, rows, 2, free=3)
    assert (whole.free, batch.free) == (0, 3)
    np.testing.assert_array_equal(batch.forcing, whole.forcing)
    np.testing.assert_array_equal(batch.state, whole.state[:, [0, 4, 5]])
    time_steps = {"which": np.array([0, 1]), "time_steps": (1, 2)}
    whole, batch = read_batch(store, rows, 3, **time_steps), read_batch(store, rows, 1, **time_steps, free=2)
    np.testing.assert_array_equal(batch.forcing, whole.forcing)
    np.testing.assert_array_equal(batch.state, whole.state[:, [0, 3]])


def test_times_are_those_of_the_rows(store):
    windows = make(store)
    np.testing.assert_array_equal(windows.times(3), store.times[windows.rows(3)])


@pytest.mark.parametrize("readers", [2, 8])
def test_batches_come_in_order_and_end(store, monkeypatch, readers):
    monkeypatch.setattr(loader, "_READERS", readers)
    windows = make(store, batch_size=5)
    steps = [3, 4, 5, 6]  # as a run that goes on at step 3 asks for them
    with closing(windows.batches(steps, LAYOUT)) as batches:
        found = list(batches)
    assert len(found) == 4
    for step, batch in zip(steps, found, strict=True):
        for got, wanted in zip(batch, read_batch(store, windows.rows(step), 2), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("readers", [2, 8])
def test_batches_are_read_side_by_side(store, monkeypatch, readers):
    monkeypatch.setattr(loader, "_READERS", readers)
    met = threading.Barrier(readers, timeout=20)  # no batch is ready before several are begun

    def together(self, step, layout, *held):
        met.wait()
        return step

    monkeypatch.setattr(Windows, "batch", together)
    with closing(make(store).batches(range(2 * readers), LAYOUT)) as batches:
        assert list(batches) == list(range(2 * readers))


def test_many_readers_are_for_small_batches(store, monkeypatch):
    """All batches that were read lie on the devices."""
    monkeypatch.setattr(loader, "_READERS", 8)
    one = 4 * 4 * (3 * 4 * 8 * 4 + 2 * 4 * 8 * 2 + 1)  # of four windows of two steps on 4 x 8 cells
    for room, ahead in ((0, 2), (5 * one, 5), (5 * one - 1, 4), (99 * one, 8)):
        monkeypatch.setattr(loader, "_AHEAD_BYTES", room)
        assert batches_ahead(store, Shape(4, 2), LAYOUT) == make(store).read_ahead(LAYOUT) == ahead


def test_no_more_batches_are_read_than_are_to_be_kept_ready(store, monkeypatch):
    begun = []
    monkeypatch.setattr(Windows, "batch", lambda self, step, layout, *_: begun.append(step) or step)
    windows = make(store)
    with closing(windows.batches(range(100), LAYOUT)) as batches:
        next(batches)
        time.sleep(0.2)
    assert sorted(begun) == list(range(1 + windows.read_ahead(LAYOUT)))


def test_what_a_worker_raises_is_raised_after_what_came_before(store, monkeypatch):
    def failing(self, step, layout, *held):
        if step == 2:
            raise OSError("disk gone")
        return step

    monkeypatch.setattr(Windows, "batch", failing)
    with closing(make(store).batches(range(5), LAYOUT)) as batches:
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(OSError, match="disk gone"):
            next(batches)


def test_no_worker_goes_on_once_closed(store):
    batches = make(store).batches(range(1000), LAYOUT)
    next(batches)
    batches.close()
    until = time.monotonic() + 20
    while [t for t in threading.enumerate() if t.name.startswith("grain")] and time.monotonic() < until:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name.startswith("grain")]


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_reads_its_own_windows_of_a_batch_alone(store, monkeypatch, process):
    mesh = SimpleNamespace(shape={"data": 2}, devices=np.array([[SimpleNamespace(process_index=i)] for i in (0, 1)]))
    windows, asked = make(store, batch_size=6), []
    take = type(store).take_states

    def note(self, rows):
        asked.extend(rows[:, 0].tolist())
        return take(self, rows)

    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(type(store), "take_states", note)
    monkeypatch.setattr(Layout, "place_windows", lambda self, here, part, n: part)
    batch = windows.batch(4, Layout(mesh))
    own = windows.rows(4)[3 * process : 3 * process + 3]
    assert asked == own.tolist()
    np.testing.assert_array_equal(batch.state, read_batch(store, own, 2).state)


def test_a_process_reads_its_windows_by_their_own_steps(store, monkeypatch):
    mesh = SimpleNamespace(shape={"data": 2}, devices=np.array([[SimpleNamespace(process_index=i)] for i in (0, 1)]))
    windows = replace(make(store, batch_size=6, steps=8), longest=Shape(6, 2), time_steps=(1, 4), drawn=(0, 1))
    which = windows.which(4)
    assert which[:3].tolist() != which[3:].tolist()  # or the test would show nothing
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(Layout, "place_windows", lambda self, here, part, n: part)
    batch = windows.batch(4, Layout(mesh))
    np.testing.assert_array_equal(batch.which, which[3:])
    for i, row in enumerate(windows.rows(4)[3:].tolist()):
        expected = store.take_states(row + np.arange(3) * (1, 4)[which[3 + i]])
        np.testing.assert_array_equal(batch.state[i], expected)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_device_takes_over_what_was_read(store, in_memory):
    if next(iter(jax.devices())).platform != "cpu":
        pytest.skip("only a CPU shares the host's memory")
    store = open_store(store.path, in_memory=in_memory)
    rows = np.array([3, 25, 4])
    state = store.take_states(rows[:, None] + np.arange(3))
    placed = LAYOUT.place_windows(np.arange(3), state, 3)
    assert placed.addressable_shards[0].data.unsafe_buffer_pointer() == state.ctypes.data
