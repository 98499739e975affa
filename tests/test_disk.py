"""Results are whole or not there, nothing is written through a link, and a disk's troubles are one line."""

import errno
import gc
import os

import pytest

from data_prep.disk import (
    DiskError,
    closing_once,
    disk_in_one_line,
    put_in_place,
    reading,
    remove,
    replacing,
    trouble,
    write_text,
)
from data_prep.errors import DataError


def test_what_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "result.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_planted_link_is_removed_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "result.txt"
    victim.write_text("precious")
    (tmp_path / ".result.txt.partial").symlink_to(victim)
    write_text(path, "mine")
    assert victim.read_text() == "precious" and path.read_text() == "mine"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "kept").touch()
    (tmp_path / "link").symlink_to(folder)
    remove(tmp_path / "link")
    assert (folder / "kept").exists() and not (tmp_path / "link").is_symlink()


def test_a_folder_takes_the_place_of_a_folder(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in tmp_path.rglob("*")] == ["old", "new"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EIO, "failed"), (errno.EACCES, "denied")],
)
def test_troubles_are_one_line_whoever_reports_them(number, text, tmp_path):
    line = rf"result: .*{text}.*then run the same command again"
    with pytest.raises(DiskError, match=line) as raised, replacing(tmp_path / "result"):
        raise OSError(number, os.strerror(number), "somewhere")
    assert "\n" not in str(raised.value)
    with pytest.raises(DiskError, match=text), disk_in_one_line("work"):
        raise ValueError(f"RESOURCE_EXHAUSTED: Error writing [{os.strerror(number)}]")
    with pytest.raises(DiskError, match=text), disk_in_one_line("work"):
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("a library's own") from error


def test_what_is_no_disks_fault_keeps_its_traceback():
    assert trouble(ValueError("a bug")) is None
    with pytest.raises(ValueError, match="a bug"), disk_in_one_line("work"):
        raise ValueError("a bug")


def test_damage_that_hdf5_finds_is_named(tmp_path):
    line = r"f.nc: cannot be read \(NetCDF: HDF error\); the file is damaged"
    with pytest.raises(DataError, match=line), reading(tmp_path / "f.nc"):
        raise RuntimeError("NetCDF: HDF error")


def test_a_file_that_cannot_be_flushed_is_neither_closed_nor_forgotten():
    """HDF5 would crash; ``test_attacks.py`` does it with a real one."""
    said = []

    class Full:
        def sync(self):
            raise RuntimeError("NetCDF: HDF error")

        def close(self):
            said.append("closed")

        def __del__(self):
            said.append("forgotten")

    with pytest.raises(RuntimeError, match="HDF error"), closing_once(Full()):
        pass
    gc.collect()
    assert said == []
