"""Arrays in one file: damage is found wherever it is, the list of the arrays included."""

import io
import os
import zipfile

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.files.npz import read_arrays, write_arrays

ARRAYS = {"weights": np.arange(8000, dtype=np.float32).reshape(80, 100), "count": np.arange(3)}


def _same(found):
    return found.keys() == ARRAYS.keys() and all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in ARRAYS.items()
    )


def test_no_flipped_bit_outside_of_the_numbers_goes_unnoticed(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    assert _same(read_arrays(path, "make it again"))
    places = [*range(200), *range(len(whole) - 400, len(whole))]  # headers; the list of what the archive holds
    with path.open("r+b", buffering=0) as file:  # a byte in place: a file that is emptied and filled takes far longer
        for place in places:
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([whole[place] ^ 1 << bit]), place)
                try:
                    found = read_arrays(path, "make it again")
                except DataError as error:
                    assert str(error).endswith("make it again") and "\n" not in str(error)
                else:
                    assert _same(found), f"bit {bit} of byte {place}"
            os.pwrite(file.fileno(), whole[place : place + 1], place)
    assert path.read_bytes() == whole


def test_a_shape_that_was_damaged_to_a_smaller_one_is_found(tmp_path):
    """NumPy stops reading where the shape says, short of the end at which the checksum would be compared."""
    path = tmp_path / "a.npz"
    write_arrays(path, {"long": np.arange(104_000)})
    path.write_bytes(path.read_bytes().replace(b"(104000,)", b"(100000,)"))
    with pytest.raises(DataError, match=r"long.npy does not match its checksum\); make it again"):
        read_arrays(path, "make it again")


def test_an_array_that_the_list_passes_over_is_missed(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02")
    second = whole.index(b"PK\x01\x02", entry + 1)
    whole[entry + 32 : entry + 34] = (whole.index(b"PK\x05\x06") - second).to_bytes(2, "little")  # a comment's length
    path.write_bytes(whole)
    with np.load(path) as file:
        assert file.files == ["weights"]
    with pytest.raises(DataError, match="its list of arrays is damaged"):
        read_arrays(path, "make it again")


@pytest.mark.parametrize(
    "header", ["{'descr': '<f4', 'shape': (", "{'descr': '<f4', , }", "9" * 100, "[" * 100, "{[]}"]
)
def test_a_hostile_header_with_a_sound_checksum_is_one_line(header, tmp_path):
    buffer = io.BytesIO()
    buffer.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode().ljust(117) + b"\n")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue() + bytes(400))
    with pytest.raises(DataError, match=r"cannot be read .*; make it again"):
        read_arrays(tmp_path / "a.npz", "make it again")
