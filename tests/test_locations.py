"""What stands for the state of a file, a folder and a link."""

import pytest

from data_prep.errors import DataError
from data_prep.reading.locations import find, find_files, stamp
from emulator.config import load_config


def test_a_stamp_changes_with_what_a_folder_holds(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "part").write_text("one")
    before = stamp(tmp_path / "a.zarr")
    assert stamp(tmp_path / "a.zarr") == before
    (tmp_path / "a.zarr" / "part").write_text("three")
    assert stamp(tmp_path / "a.zarr") != before


def test_what_has_no_stamp_is_one_line_with_its_path(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.nc").symlink_to(tmp_path / "gone.nc")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "gone")
    for name, reason in (("empty", "an empty folder"), ("link.nc", "No such file"), ("folder", "No such file")):
        with pytest.raises(DataError, match=f"{name}: .*{reason}"):
            stamp(tmp_path / name)


def test_hidden_files_are_not_found_unless_they_are_named(tmp_path):
    """Such as macOS puts beside others on disks of other systems."""
    for name in ("a.nc", "._a.nc"):
        (tmp_path / name).touch()
    assert find(f"{tmp_path}/*.nc") == find_files([tmp_path]) == find_files([f"{tmp_path}/*.nc"]) == [tmp_path / "a.nc"]
    assert find(f"{tmp_path}/**/*.nc") == [tmp_path / "a.nc"]
    assert find(f"{tmp_path}/._*.nc") == find(f"{tmp_path}/._a.nc") == [tmp_path / "._a.nc"]
    assert [found.removeprefix("file://") for found in find(f"file://{tmp_path}/*.nc")] == [f"{tmp_path}/a.nc"]


def test_an_empty_path_is_not_the_current_folder():
    """As a shell makes it of a variable that is not set."""
    with pytest.raises(DataError, match="a path is empty"):
        find_files([""])


def test_a_tilde_is_the_home_folder_on_the_command_line_and_in_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.nc").touch()
    assert find_files(["~/a.nc"]) == find_files(["~/*.nc"]) == [tmp_path / "a.nc"]
    config = load_config("demo", ["workdir=~/runs", "data.inputs=[~/*.nc, gs://bucket/~/x.zarr]"])
    assert config.path == tmp_path / "runs"
    assert config.data.inputs == [f"{tmp_path}/*.nc", "gs://bucket/~/x.zarr"]
