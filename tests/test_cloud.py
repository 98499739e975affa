"""Zarr stores at URLs go through the same doors as files, and their names stay as the user wrote them."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from world_files import canonical, world, world_config

from data_prep.errors import DataError
from data_prep.inspection.report import inspect_files
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading.locations import find, is_url, locate, stamp, stem
from data_prep.reading.opening import open_lazily
from emulator.cli import main

URL = "memory://bucket/era/world.zarr"


@pytest.fixture(autouse=True)
def _empty_bucket():
    yield
    if fsspec.filesystem("memory").exists("/bucket"):
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.fixture(params=[2, 3])
def url(request):
    world().to_zarr(URL, zarr_format=request.param, consolidated=True)
    return URL


def test_a_store_at_a_url_is_prepared_as_the_same_data_from_a_file_is(url, tmp_path):
    from_url = open_store(prepare(world_config([url]), tmp_path / "a.zarr", tmp_path))
    file = str(canonical(world(), tmp_path))
    from_file = open_store(prepare(world_config([file]), tmp_path / "b.zarr", tmp_path))
    np.testing.assert_array_equal(from_url.read_state(0, 40), from_file.read_state(0, 40))
    np.testing.assert_array_equal(from_url.times, from_file.times)
    assert [s.name for s in from_url.segments] == ["world"]


def test_wild_cards_in_a_url(url):
    world().isel(time=slice(2)).to_zarr("memory://bucket/era/other.zarr")
    assert find("memory://bucket/era/*.zarr") == ["memory:///bucket/era/other.zarr", "memory:///bucket/era/world.zarr"]
    assert [open_lazily(found).sizes["time"] for found in find("memory://bucket/era/*.zarr")] == [2, 40]


def test_inspect_prints_a_section_with_the_url_in_it(url, capsys):
    report = inspect_files([locate(url)])
    assert report.refusal is None
    assert report.section["inputs"] == [url]
    assert main(["inspect", url]) == 0
    assert f"{url} (Zarr)" in capsys.readouterr().out


def test_a_url_is_regridded_and_forecast_from_as_it_is_written(url, tmp_path, capsys):
    assert main(["regrid", url, str(tmp_path / "coarse.nc"), "--grid", "6x3"]) == 0
    assert open_lazily(tmp_path / "coarse.nc").sizes["longitude"] == 6
    assert main(["forecast", "speedy_t31", url, "--out", str(tmp_path / "f.nc")]) == 1
    assert f"error: {url}: " in capsys.readouterr().err


def test_a_refusal_names_the_url(tmp_path):
    world().isel(time=[0, 0, 1]).to_zarr(URL)
    with pytest.raises(DataError, match=rf"^{URL}: the time 2001-01-01T00:00 occurs twice"):
        prepare(world_config([URL]), tmp_path / "a.zarr", tmp_path)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("memory://bucket/nothing.zarr", r"nothing.zarr: no Zarr store lies there"),
        ("memory://bucket/*.zarr", r"memory://bucket/\*.zarr matches no file"),
        ("nowhere://bucket/a.zarr", r"nowhere://bucket/a.zarr: needs the extra 'cloud'.*Protocol not known"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(bad, said, tmp_path):
    fsspec.filesystem("memory").mkdir("/bucket")
    with pytest.raises(DataError, match=said) as error:
        prepare(world_config([bad]), tmp_path / "a.zarr", tmp_path)
    assert "\n" not in str(error.value)


def test_a_service_that_cannot_be_opened_is_said_in_one_line():
    fsspec.filesystem("memory").pipe_file("/bucket/file.nc", b"CDF")
    with pytest.raises(DataError, match=r"file.nc: cannot be read as a Zarr store .* is it one, and public"):
        open_lazily("memory://bucket/file.nc")


def test_the_stamp_of_a_store_changes_with_its_metadata(url):
    before = stamp(url)
    assert stamp(url) == before
    zarr.open_group(url, mode="r+").attrs["history"] = "mended"
    zarr.consolidate_metadata(url)
    assert stamp(url) != before


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("gs://weatherbench2/datasets/era5/a.zarr", True),
        ("simplecache::s3://bucket/a.zarr", True),
        ("../data/a.nc", False),
        (r"C:\data\a.nc", False),
        ("a:b.nc", False),
    ],
)
def test_a_url_is_told_from_a_path_and_kept(text, remote):
    assert is_url(text) == remote
    assert str(locate(text)) == text
    assert isinstance(locate(text), str if remote else Path)
    assert stem("gs://weatherbench2/datasets/era5/a.zarr") == "a"
