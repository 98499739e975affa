"""Results are whole or not there, nothing is written through a link, and a disk's troubles are one line."""

import errno
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.errors import DataError, UserError
from data_prep.files.disk import (
    DiskError,
    closing_once,
    discard,
    disk_in_one_line,
    link,
    put_in_place,
    reading,
    remove,
    replacing,
    trouble,
    write_text,
)


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


@pytest.mark.parametrize("other_disk", [False, True])
def test_a_result_has_another_name_and_on_another_disk_a_copy(other_disk, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(self))

    if other_disk:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "folder/within").mkdir(parents=True)
    (tmp_path / "folder/within/part").write_text("a")
    (tmp_path / "file").write_text("b")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/older").touch()  # makes way
    link(tmp_path / "folder", tmp_path / "to")
    link(tmp_path / "file", tmp_path / "beside/file")
    assert [p.name for p in (tmp_path / "to").rglob("*")] == ["within", "part"]
    for path in ("to/within/part", "beside/file"):
        assert (tmp_path / path).stat().st_nlink == (1 if other_disk else 2)
    assert [(tmp_path / p).read_text() for p in ("to/within/part", "beside/file")] == ["a", "b"]
    remove(tmp_path / "to")
    assert (tmp_path / "folder/within/part").exists()
    with pytest.raises(UserError, match="gone: is being removed or replaced, so it cannot be taken"):
        link(tmp_path / "gone", tmp_path / "beside/file")
    assert (tmp_path / "beside/file").read_text() == "b"


def test_a_copy_that_somebody_kept_beside_a_result_stays(tmp_path):
    for name in ("store", "store.old", "store.bak", "store.replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    with replacing(tmp_path / "store", folder=True) as temporary:
        temporary.mkdir()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("precious")) == [
        f"store.{kept}/precious" for kept in ("bak", "old", "replaced")
    ]


def test_a_folder_never_makes_way_for_a_file(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "precious").touch()
    with pytest.raises(DiskError, match="results: cannot be written: a folder lies where a file is to be written"):
        write_text(results, "a table")
    (tmp_path / "new").touch()
    with pytest.raises(IsADirectoryError):
        put_in_place(tmp_path / "new", results)
    assert (results / "precious").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["new", "results"]


def test_a_folder_that_had_made_way_when_the_process_was_killed_comes_back(tmp_path):
    left = tmp_path / ".store.partial"
    for name in ("store", "store.replaced"):
        (left / name).mkdir(parents=True)
    (left / "store.replaced" / "old").touch()
    with pytest.raises(DiskError, match="full"), replacing(tmp_path / "store", folder=True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "store" / "old").exists() and list(tmp_path.iterdir()) == [tmp_path / "store"]


def test_a_second_process_that_writes_the_same_file_is_refused(tmp_path):
    """It would remove what the first has written, and the first would put in place what the second has half done."""
    path = tmp_path / "forecast.nc"
    write = f"write_text(Path({str(path)!r}), 'second')"
    second = f"from pathlib import Path; from data_prep.files.disk import write_text; {write}"
    with replacing(path) as temporary:
        temporary.write_text("first")
        ended = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True)
        assert ended.returncode != 0 and "another process is writing it; wait for that" in ended.stderr
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
    subprocess.run([sys.executable, "-c", second], check=True)
    assert path.read_text() == "second"


def test_a_folder_that_comes_and_goes_while_it_is_locked_is_tried_again(tmp_path, monkeypatch):
    path, hidden = tmp_path / "result", tmp_path / ".result.partial"
    opened, meanwhile = os.open, [lambda: None, hidden.touch]

    def open_(name, *rest, **options):
        if name == hidden and meanwhile:
            hidden.rmdir()
            meanwhile.pop()()
        return opened(name, *rest, **options)

    monkeypatch.setattr(os, "open", open_)
    write_text(path, "whole")
    assert not meanwhile and path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_comes_just_before_it_is_made_is_somebody_elses(tmp_path, monkeypatch):
    path, hidden = tmp_path / "result", tmp_path / ".result.partial"
    is_dir, answers = Path.is_dir, [False]
    with replacing(path) as temporary:
        temporary.write_text("first")
        monkeypatch.setattr(Path, "is_dir", lambda p: answers.pop() if p == hidden and answers else is_dir(p))
        with pytest.raises(UserError, match="another process is writing it"):
            write_text(path, "second")
    assert not answers and path.read_text() == "first"


def test_a_folder_that_never_stays_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(FileNotFoundError(errno.ENOENT, "gone")))
    with pytest.raises(DiskError, match="gone"):
        write_text(tmp_path / "result", "text")


def test_a_result_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append((tmp_path / "a").exists()))
    write_text(tmp_path / "a", "text")
    assert done == [False] and (tmp_path / "a").read_text() == "text"


def test_what_is_discarded_loses_its_name_first(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").touch()
    monkeypatch.setattr(shutil, "rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        discard(folder)
    assert not folder.exists() and list(tmp_path.iterdir()) == [tmp_path / ".run.discarded"]
    monkeypatch.undo()
    discard(folder)
    discard(folder)
    assert not list(tmp_path.iterdir())


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
