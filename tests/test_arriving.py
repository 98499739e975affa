"""An array that is read in the background is the array, and is damaged where the array is."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from emulator.training import arriving
from emulator.training.arriving import Arriving


class Slow:
    shape = (6, 2)

    def __init__(self, values, damaged=()):
        self.values, self.damaged, self.go = values, damaged, threading.Event()

    def __getitem__(self, key):
        self.go.wait(10)
        if any(row in range(*key.indices(6)) for row in self.damaged):
            raise OSError("damaged")
        return self.values[key]


VALUES = np.arange(12.0).reshape(6, 2)


def test_who_asks_meanwhile_reads_for_himself_and_later_from_memory(monkeypatch):
    monkeypatch.setattr(arriving, "_PIECE_BYTES", 4 * 2 * 4)  # four rows and two
    source = Slow(VALUES)
    array = Arriving(source)
    assert array.shape == (6, 2)
    source.go.set()
    np.testing.assert_array_equal(array[2:4], VALUES[2:4])
    array.wait()
    source.values = None  # all of them are in memory
    np.testing.assert_array_equal(array[:], VALUES)
    np.testing.assert_array_equal(array[np.array([5, 0])], VALUES[[5, 0]])


def test_a_process_that_ends_does_not_wait_for_all_of_it():
    code = """
import time
from emulator.training import arriving
class Endless:
    shape = (10**6, 1)
    def __getitem__(self, key):
        time.sleep(0.01)
        return 0.0
arriving._PIECE_BYTES = 4
arriving.Arriving(Endless())
raise SystemExit("refused")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "refused\n")


def test_one_damaged_row_spoils_no_other():
    source = Slow(VALUES, damaged=[3])
    source.go.set()
    array = Arriving(source)
    np.testing.assert_array_equal(array[:3], VALUES[:3])
    with pytest.raises(OSError, match="damaged"):
        array[2:4]


def test_training_starts_without_what_it_does_not_need():
    needless = {"xarray", "pandas", "scipy", "matplotlib", "pint", "jcm"}
    code = f"import sys, emulator.training.train; print(*({needless} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
