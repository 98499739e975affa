"""Data sets are written as xarray writes them, and a disk that has no room for them is an error and no crash."""

import os
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
import xarray as xr
from world_files import world

from data_prep.files.netcdf_file import write_netcdf


@pytest.fixture(scope="module")
def data():
    return world().isel(time=slice(0, 8))[["temperature", "2m_temperature"]]


@pytest.mark.parametrize("chunks", [None, {"time": 2}])
def test_what_is_written_is_what_xarray_writes(chunks, data, tmp_path):
    given = data if chunks is None else data.chunk(chunks)
    given.encoding["unlimited_dims"] = {"time", "gone"}
    encoding = {"temperature": {"zlib": True, "fletcher32": True, "dtype": "int16", "scale_factor": 0.01}}
    write_netcdf(given, tmp_path / "ours.nc", encoding=encoding)
    given.drop_encoding().to_netcdf(tmp_path / "xarrays.nc", encoding=encoding)
    with xr.open_dataset(tmp_path / "ours.nc") as ours, xr.open_dataset(tmp_path / "xarrays.nc") as xarrays:
        xr.testing.assert_identical(ours, xarrays)
        assert ours["temperature"].encoding["fletcher32"] and ours["temperature"].encoding["dtype"] == np.int16
        np.testing.assert_allclose(ours["temperature"], data["temperature"], atol=0.006)
    with netCDF4.Dataset(tmp_path / "ours.nc") as file:
        assert [name for name, dim in file.dimensions.items() if dim.isunlimited()] == ["time"]


def test_a_file_is_added_to(data, tmp_path):
    write_netcdf(data[["temperature"]], tmp_path / "a.nc")
    write_netcdf(data[["2m_temperature"]], tmp_path / "a.nc", mode="a")
    with xr.open_dataset(tmp_path / "a.nc") as both:
        xr.testing.assert_equal(both, data)


# Python keeps the bytecode of a late import even where the limit cut it short, and that module is broken from then on.
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
import xarray as xr
from data_prep.files.disk import DiskError, replacing
from data_prep.files.netcdf_file import write_netcdf

path, size = Path(sys.argv[1]), int(sys.argv[2])
data = xr.Dataset({name: ("x", np.random.default_rng(0).standard_normal(4000)) for name in "ab"})
data = data.chunk(x=500) if sys.argv[3] == "dask" else data
encoding = {name: {"zlib": True, "chunksizes": (500,)} for name in "ab"}  # kept in memory until the file is closed
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    with replacing(path) as temporary:
        write_netcdf(data, temporary, encoding=encoding)
except DiskError as error:
    print(error)
"""


@pytest.mark.parametrize("arrays", ["numpy", "dask"])
@pytest.mark.parametrize("size", [0, 20_000])
def test_a_file_that_may_not_grow_is_one_line_and_no_crash(size, arrays, tmp_path):
    """By the limit of a file's size, which fails writes in the middle as a full disk does."""
    path = tmp_path / "a.nc"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), **NO_BYTECODE}
    command = [sys.executable, "-c", PROGRAM, str(path), str(size), arrays]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: cannot be written: ") and done.stdout.count("\n") == 1
    assert "permission denied;" not in done.stdout
    assert list(tmp_path.iterdir()) == []
