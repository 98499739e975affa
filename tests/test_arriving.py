"""An array that is read in the background is the array, and is damaged where the array is."""

import subprocess
import sys
import threading

import numpy as np
import pytest

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


def test_who_asks_waits_and_gets_the_values():
    source = Slow(VALUES)
    array = Arriving(source)
    assert array.shape == (6, 2)
    source.go.set()
    np.testing.assert_array_equal(array[2:4], VALUES[2:4])
    source.values = None  # all of them are in memory
    np.testing.assert_array_equal(array[:], VALUES)


def test_one_damaged_row_spoils_no_other():
    source = Slow(VALUES, damaged=[3])
    source.go.set()
    array = Arriving(source)
    np.testing.assert_array_equal(array[:3], VALUES[:3])
    with pytest.raises(OSError, match="damaged"):
        array[2:4]


def test_training_starts_without_what_it_does_not_need():
    needless = {"xarray", "pandas", "scipy", "matplotlib", "jcm"}
    code = f"import sys, emulator.training.train; print(*({needless} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
