"""Hostile files: nothing that they hold is run, written elsewhere, or believed before it fits into memory."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import yaml
from tiny_store import write_store
from world_files import world

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.disk import DiskError, write_text
from data_prep.files.npz import read_arrays, write_arrays
from data_prep.grid import Grid
from data_prep.inspection.report import inspect_files
from data_prep.preparation.store import open_store
from data_prep.reading import probe as probe_module
from data_prep.reading.probe import probe
from data_prep.reading.units import convertible
from emulator.cli import main
from emulator.config import load_config
from emulator.experiment.running import run_stages
from emulator.forecast_form import open_forecasts

ROOT = Path(__file__).parents[1]
SMALL = {"data": {"inputs": ["none.nc"], "vertical": "pressure", "prognostic": {"temperature": {}}}}


class Runs:
    """What a pickle of it does when it is loaded."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def config_file(folder: Path, **changes) -> Path:
    path = folder / "config.yaml"
    section = {**SMALL["data"], "split": {"segments": {"train": [0]}}}
    raw = {"name": "x", "data": section, "train": {"stages": [{"steps": 1}]}}
    path.write_text(yaml.safe_dump(raw | changes))
    return path


@pytest.mark.parametrize("name", ["..", ".", "../x", "/x", "a/../../x", "x\\..\\y", ".lock", "a\nb", "a\0b", ""])
def test_a_name_is_no_path(name, tmp_path):
    with pytest.raises(ConfigError, match="name: "):
        load_config(config_file(tmp_path, name=name))
    with pytest.raises(ConfigError, match=r"evaluate\.forecasts"):
        load_config(config_file(tmp_path, evaluate={"forecasts": {name: "file.nc"}}))


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".."])
def test_a_region_is_no_path(name, tmp_path):
    box = {"latitude": [0, 10], "longitude": [0, 10]}
    with pytest.raises(ConfigError, match=r"evaluate\.regions"):
        load_config(config_file(tmp_path, evaluate={"regions": {name: box}}))


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [VICTIM]",
        "!!python/object/new:os.mkdir [VICTIM]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object:os.system {}",
    ],
)
def test_yaml_runs_nothing(value, tmp_path):
    value = value.replace("VICTIM", str(tmp_path / "victim"))
    path = config_file(tmp_path)
    path.write_text(path.read_text() + f"seed: {value}\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_config(path)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(config_file(tmp_path), [f"seed={value}"])
    assert not (tmp_path / "victim").exists()


def test_yaml_that_means_more_than_memory_holds_is_refused(tmp_path):
    for first, more in (("[z]", "[{}]"), ("{k: 1}", "{{<<: [{}]}}")):
        lines = [f"x0: &x0 {first}"]
        lines += [f"x{i}: &x{i} {more.format(', '.join([f'*x{i - 1}'] * 9))}" for i in range(1, 30)]
        path = config_file(tmp_path)
        path.write_text(path.read_text() + "\n".join(lines) + "\n")
        with pytest.raises(ConfigError, match="aliases stand for more than 100000 values"):
            load_config(path)
    for text, said in (("&a [*a]", "alias within"), ("[" * 50_000, "recursion"), ("!!int x", "ValueError")):
        path.write_text(f"name: {text}\n")
        with pytest.raises(ConfigError, match=said):
            load_config(path)
    path.write_text("# " + "x" * 2**20)
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load_config(path)


def test_a_message_is_one_line_that_a_terminal_prints_as_it_is(tmp_path):
    path = config_file(tmp_path, **{"a\nb\x1b[2J": 1})
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    assert str(raised.value).isprintable() and "a b [2J: no such key" in str(raised.value)
    assert len(str(UserError("x" * 10**6))) < 2100 and str(UserError("\ud800")).encode() == b""


def test_an_output_is_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out.txt"
    out.symlink_to(victim)
    write_text(out, "mine")
    assert victim.read_text() == "precious" and out.read_text() == "mine" and not out.is_symlink()


def test_a_lock_is_not_opened_through_a_link(tmp_path):
    victim, workdir = tmp_path / "victim", tmp_path / "run"
    workdir.mkdir()
    victim.write_text("precious")
    (workdir / ".lock").symlink_to(victim)
    with pytest.raises(DiskError, match=r"\.lock: a symbolic link"):
        run_stages(load_config(config_file(tmp_path, workdir=str(workdir))), ["prepare"])
    assert victim.read_text() == "precious" and list(workdir.iterdir()) == [workdir / ".lock"]


def test_members_of_an_npz_are_names_and_not_paths(tmp_path):
    path = tmp_path / "work" / "arrays.npz"
    write_arrays(path, {"a": np.ones(3)})
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped.npy", content.getvalue())
        archive.writestr("/escaped.npy", content.getvalue())
    assert {"a", "../../escaped"} <= set(read_arrays(path, "make it again"))  # read into memory, unpacked nowhere
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["arrays.npz", "work"]


def test_npz_files_are_not_unpickled_and_not_blown_up(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "arrays.npz"
    np.savez(path, a=np.array([Runs(victim)], dtype=object))
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read_arrays(path, "make it again")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", pickle.dumps(Runs(victim)))
    with pytest.raises(DataError, match="make it again"):
        read_arrays(path, "make it again")
    np.savez_compressed(path, a=np.zeros(10**7))
    with pytest.raises(DataError, match="claims to hold 80000128 bytes"):
        read_arrays(path, "make it again")
    with zipfile.ZipFile(path, "w") as archive:  # a small file whose header declares a petabyte
        header = "{'descr': '<f8', 'fortran_order': False, 'shape': (125000000000000,), }".ljust(117) + "\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(DataError, match="make it again"):
        read_arrays(path, "make it again")
    assert not victim.exists()


def test_zarr_2_objects_are_not_unpickled(tmp_path):
    victim, place = tmp_path / "victim", tmp_path / "a.zarr"
    world().isel(time=slice(0, 8)).to_zarr(place, zarr_format=2, consolidated=False)
    file = place / "temperature" / ".zarray"
    metadata = json.loads(file.read_text())
    whole = {"dtype": "|O", "filters": [{"id": "pickle"}], "compressor": None, "chunks": metadata["shape"]}
    file.write_text(json.dumps(metadata | whole))
    chunks = file.parent / "0.0.0.0"
    chunks.write_bytes(pickle.dumps(np.array([Runs(victim)], dtype=object)))
    with pytest.raises(DataError, match=r"a\.zarr"):
        inspect_files([place])
    assert not victim.exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "store.zarr"
    write_store(path, Grid.gaussian(8), n_times=8)
    return path


@pytest.mark.parametrize("array", ["state", "time", "static", "digest", "climatology/table"])
def test_sizes_that_a_store_declares_are_not_believed(array, store, tmp_path):
    place = tmp_path / "store.zarr"
    shutil.copytree(store, place)
    file = place / array / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["shape"] = [10**12, *metadata["shape"][1:]]
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"store\.zarr: .*prepare the store again"):
        open_store(place)


@pytest.mark.parametrize("array", ["state", "persisted"])
def test_chunks_that_a_store_declares_are_not_believed(array, store, tmp_path):
    place = tmp_path / "store.zarr"
    shutil.copytree(store, place)
    file = place / array / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"][0] = 2**31
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=rf"{array} has chunks of .* larger than all of it.*prepare the store again"):
        open_store(place)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_sizes_that_a_zarr_input_declares_are_not_believed(zarr_format, tmp_path):
    place = tmp_path / "a.zarr"
    world().isel(time=slice(0, 8)).to_zarr(place, zarr_format=zarr_format, consolidated=False)
    for name in ("temperature", "time"):
        file = place / name / (".zarray" if zarr_format == 2 else "zarr.json")
        metadata = json.loads(file.read_text())
        metadata["shape"] = [10**13, *metadata["shape"][1:]]
        file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"a\.zarr"):
        inspect_files([place])


@pytest.mark.parametrize("as_url", [False, True])
def test_a_dimension_that_a_zarr_input_names_twice_is_refused(as_url, tmp_path):
    place = tmp_path / "a.zarr"
    world().isel(time=slice(0, 8)).to_zarr(place, zarr_format=3, consolidated=False)
    file = place / "mean_sea_level_pressure" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["dimension_names"], metadata["shape"] = ["time", "latitude", "latitude"], [8, 8, 8]
    file.write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=r"a\.zarr: .*mean_sea_level_pressure has a dimension twice"):
        inspect_files([f"file://{place}" if as_url else place])


def test_sizes_that_a_netcdf_file_declares_are_not_believed(tmp_path, capsys):
    path = tmp_path / "huge.nc"
    sizes = {"time": 10**9, "latitude": 10**6, "longitude": 10**6}
    with netCDF4.Dataset(path, "w") as file:
        for name, size in sizes.items():
            file.createDimension(name, size)
        for name, unit in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
            file.createVariable(name, "f8", (name,), chunksizes=(1000,)).units = unit
        file.createVariable("time", "f8", ("time",), chunksizes=(1000,)).units = "hours since 2001-01-01"
        variable = file.createVariable("temperature", "f4", tuple(sizes), chunksizes=(1, 100, 100))
        variable.units = "K"
    assert main(["inspect", str(path)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "huge.nc" in errors[0]
    with pytest.raises(DataError, match=r"huge\.nc"):
        open_forecasts(path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\x1b[2Jb"])
def test_a_manifest_names_no_place(name, store, tmp_path):
    """Whatever it calls variables and segments is a name that the arrays must fit; no file is opened by it."""
    place = tmp_path / "store.zarr"
    shutil.copytree(store, place)
    manifest = json.loads((place / "manifest.json").read_text())
    for renamed in (manifest["spec"]["variables"][0], manifest["segments"][0]):
        changed = json.loads(json.dumps(manifest))
        where = changed["spec"]["variables"] if "role" in renamed else changed["segments"]
        where[0]["name"] = name
        (place / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"store\.zarr"):
            open_store(place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store.zarr"]


def test_what_crashes_or_stops_the_netcdf_library_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    world().isel(time=slice(0, 2)).to_netcdf(path)
    probe([path, path])
    program = probe_module._PROGRAM
    monkeypatch.setattr("data_prep.reading.probe._SECONDS", 1.0)
    for end, said in (
        ("os.abort()", "crashes on it .SIGABRT"),
        ("sum(range(10**12))", "takes a processor more than 1 s"),
        ("import time; time.sleep(100)", "takes more than 3 s"),
    ):
        monkeypatch.setattr("data_prep.reading.probe._PATIENCE", 3.0 if "sleep" in end else 60.0)
        monkeypatch.setattr("data_prep.reading.probe._PROGRAM", program.replace("netCDF4.Dataset(path).close()", end))
        with pytest.raises(DataError, match=rf"a\.nc: .*{said}"):
            probe([path, path])


def test_a_module_beside_the_data_is_not_imported_by_the_probe(tmp_path):
    (tmp_path / "netCDF4.py").write_text("import os; os.mkdir('victim')\n")
    world().isel(time=slice(0, 2)).to_netcdf(tmp_path / "a.nc")
    program = "from pathlib import Path; from data_prep.reading.probe import probe; probe([Path('a.nc')])"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "victim").exists()


def test_a_unit_without_end_is_none():
    assert convertible("a" * 100_000, "K") is None and convertible("degC", "K") is not None
