"""Arrays by name in one file: NumPy's ``.npz`` with nothing pickled.

Every array carries the CRC-32 of its bytes, shape and type included, which is compared before it is read.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data_prep.errors import DataError, one_line
from data_prep.files.disk import replacing

_MOST_COMPRESSED = 100  # what fields and weights never come near, and a decompression bomb exceeds
_END = struct.Struct("<4s4H2LH")  # what closes a zip archive without a comment
_DAMAGED = (
    *(OSError, EOFError, MemoryError, NotImplementedError, RuntimeError, zipfile.BadZipFile),
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError),  # NumPy parses the header as Python
)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Writes a file, whole or not at all."""
    write = np.savez_compressed if compressed else np.savez
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
    ):  # given a name, NumPy would add a suffix of its own
        write(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """All arrays of a file.

    Args:
      path: What ``write_arrays`` wrote.
      remedy: What to do if it is damaged, for the message.

    Raises:
      DataError: it is missing, damaged, or no file of this kind.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > _MOST_COMPRESSED * path.stat().st_size:
                raise ValueError(f"it claims to hold {claimed} bytes, more than {_MOST_COMPRESSED} times its size")
            if len(set(archive.namelist())) != _members(path):
                raise ValueError("its list of arrays is damaged")  # one may have been read as another's comment
            # NumPy stops where a shape says that an array ends, and so would not see that the shape is damaged
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} does not match its checksum")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{strange[0]} is no array")  # NumPy hands out bytes that it does not know as they are
        return arrays
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); {remedy}") from None


def _members(path: Path) -> int:
    """How many arrays the end of a file says that it has; ``zipfile`` does not look."""
    with path.open("rb") as file:
        file.seek(-_END.size, 2)
        count: int = _END.unpack(file.read())[4]
    return count
