"""Order and contents of batches, and the thread that makes them."""

import threading

import numpy as np
import pytest
from tiny_store import write_store

from data_prep.grid import Grid
from emulator.loader import Windows, prefetch, read_batch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("s") / "store.zarr", Grid.gaussian(4))


def make(store, batch_size=4, steps=2, seed=(0,)):
    return Windows(store, store.windows("train", steps + 1), steps, batch_size, seed)


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
        kept = store.read_persisted(row, row + 1)[0]
        expected = store.forcing_builder.at(store.times[row + 1 : row + 4], kept)
        np.testing.assert_array_equal(batch.forcing[i], expected)
        np.testing.assert_array_equal(batch.forcing[i, :, ..., 1], np.repeat(kept[None, ..., 0], 3, axis=0))


def test_times_are_those_of_the_rows(store):
    windows = make(store)
    np.testing.assert_array_equal(windows.times(3), store.times[windows.rows(3)])


def test_prefetch_keeps_order_and_ends():
    assert [int(x) for x in prefetch(lambda i: np.int32(i * i), range(5))] == [0, 1, 4, 9, 16]


def test_prefetch_raises_what_its_thread_raised_after_what_came_before():
    def make_item(i):
        if i == 2:
            raise OSError("disk gone")
        return np.int32(i)

    items = prefetch(make_item, range(5))
    assert [int(next(items)), int(next(items))] == [0, 1]
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_prefetch_leaves_no_thread_when_closed_early():
    items = prefetch(lambda i: np.int32(i), range(1000))
    next(items)
    items.close()
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]
