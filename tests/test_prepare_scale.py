"""Preparation shared among real worker processes, one of which is killed, and killed itself, ends in the same bytes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from climatology_oracle import ClimatologyFit
from distributed import Client, LocalCluster
from tiny_store import SPEC
from weather_files import GRID, LEVELS, boundary, config, times_from, weather

from data_prep.errors import DataError, UserError
from data_prep.preparation import climatology_fit, pipeline, store, store_writer
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import Store, open_store
from data_prep.preparation.store_writer import StoreWriter
from emulator.cli import main

SPLIT = {
    "train": ["2001-01-01", "2001-02-20"],
    "validation": ["2001-02-21", "2001-02-25"],
    "test": ["2001-02-26", "2001-03-01"],
    "gap_days": 0.0,
}
ROWS_A_BLOCK = 8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of eight rows, one a chunk: 30 of them. Only this process cuts, so that workers need not know."""
    monkeypatch.setattr(pipeline, "_MAX_BLOCK_ROWS", ROWS_A_BLOCK)
    monkeypatch.setattr(store_writer, "_CHUNK_BYTES", 1)


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    weather(times_from("2001-01-01", 240)).to_netcdf(folder / "file.nc")
    boundary().to_netcdf(folder / "boundary.nc")
    return config([f"{folder}/*.nc"], split=SPLIT)


@pytest.fixture(scope="module")
def whole(section, tmp_path_factory) -> Store:
    """What one process makes, left alone."""
    out = tmp_path_factory.mktemp("whole") / "store.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_MAX_BLOCK_ROWS", ROWS_A_BLOCK)
        patch.setattr(store_writer, "_CHUNK_BYTES", 1)
        return open_store(prepare(section, out, out.parent))


def same(path: Path, whole: Store) -> None:
    """Equal to the last byte of every file, manifest included."""
    found = open_store(path)
    found.verify()
    assert found.data_hash == whole.data_hash
    assert whole.path is not None
    for file in whole.path.rglob("*"):
        if file.is_file():
            assert (path / file.relative_to(whole.path)).read_bytes() == file.read_bytes(), file


def test_a_process_pool_makes_the_same_bytes(section, whole, tmp_path):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        same(prepare(section, tmp_path / "store.zarr", tmp_path, executor=pool), whole)


def test_a_killed_process_ends_the_run_in_one_line_and_the_next_goes_on(section, whole, tmp_path):
    out = tmp_path / "store.zarr"
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:

        def kill_one(done, total):
            if done == 5:
                os.kill(next(iter(pool._processes)), signal.SIGKILL)

        with pytest.raises(UserError, match=r"store.zarr: a worker died .* run the same command again") as error:
            prepare(section, out, tmp_path, kill_one, pool)
    assert "\n" not in str(error.value) and not out.exists()
    seen = []
    same(prepare(section, out, tmp_path, lambda done, total: seen.append(done)), whole)
    assert len(seen) == 30 + 2  # blocks that were there count as done


def test_a_cluster_goes_on_without_the_worker_that_was_killed(section, whole, tmp_path):
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client:
        pids = client.run(os.getpid)
        killed = []

        def kill_one(done, total):
            if done == 4:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        executor = client.get_executor(pure=False)
        same(prepare(section, tmp_path / "store.zarr", tmp_path, kill_one, executor), whole)
        assert len(killed) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_sigkill_at_random_moments(section, whole, tmp_path, seed):
    code = (
        "import json, sys, time; from pathlib import Path\n"
        "from data_prep.preparation import pipeline, store_writer; from data_prep.config import DataConfig\n"
        f"pipeline._MAX_BLOCK_ROWS, store_writer._CHUNK_BYTES = {ROWS_A_BLOCK}, 1\n"
        "section = DataConfig.model_validate(json.loads(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "pipeline.prepare(section, Path(sys.argv[2]), Path(), lambda *_: time.sleep(0.02))\n"
    )
    out = tmp_path / "store.zarr"
    arguments = [sys.executable, "-c", code, json.dumps(section.model_dump(mode="json")), str(out)]
    random, killed = np.random.default_rng(seed), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for _ in range(2):
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as child:
                assert child.stdout is not None
                assert child.stdout.readline().strip() == "ready"
                time.sleep(random.uniform(0.05, 1.2))
                child.send_signal(signal.SIGKILL)
            killed += child.returncode == -signal.SIGKILL
            assert not out.exists() or open_store(out).data_hash == whole.data_hash
    assert killed
    same(prepare(section, out, tmp_path), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store.zarr"]


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(section, whole, tmp_path, monkeypatch):
    out, write = tmp_path / "store.zarr", StoreWriter.write_rows

    def full(self, start, *arrays):
        if start >= 80:
            raise OSError(errno.ENOSPC, "No space left on device", "c/7/0/0")
        return write(self, start, *arrays)

    monkeypatch.setattr(StoreWriter, "write_rows", full)
    with pytest.raises(UserError, match=r"store.zarr: the disk is full; make room") as error:
        prepare(section, out, tmp_path)
    assert "\n" not in str(error.value) and not isinstance(error.value, DataError)
    written = []

    def note(self, start, *arrays):
        written.append(start)
        return write(self, start, *arrays)

    monkeypatch.setattr(StoreWriter, "write_rows", note)
    same(prepare(section, out, tmp_path), whole)
    assert min(written) == 80


def test_a_store_that_was_committed_but_not_tidied_up_after(section, whole, tmp_path):
    out = prepare(section, tmp_path / "store.zarr", tmp_path)
    partial = tmp_path / "store.zarr.partial"
    partial.mkdir()  # what a kill between the rename and the end leaves
    (partial / "plan.txt").write_text("anything")
    (partial / "blocks.jsonl").write_text("{}\n")
    same(prepare(section, out, tmp_path), whole)


class TestClimatology:
    """Fitted from a store's rows in parts, whatever the parts, it is what all states in memory give."""

    @pytest.mark.parametrize(
        ("years", "kind"), [(0.24, "seasonal_trend"), (1.3, "annual_harmonics"), (3.2, "day_of_year_hour")]
    )
    @pytest.mark.parametrize("cut", ["as it is", "small"])
    def test_equals_the_fit_in_memory(self, years, kind, cut, tmp_path, monkeypatch):
        if cut == "small":  # several groups of rows or days, several bands of latitude, rows in several reads
            monkeypatch.setattr(climatology_fit, "_SUM_BYTES", 2**13)
            monkeypatch.setattr(climatology_fit, "_TABLE_CHUNK_BYTES", 2**10)
            monkeypatch.setattr(climatology_fit, "_READ_BYTES", 2**13)
            monkeypatch.setattr(climatology_fit, "_GROUP_ROWS", 50)
        monkeypatch.setattr(store_writer, "_CHUNK_BYTES", 2**16)
        step = np.timedelta64(12, "h").astype("timedelta64[ns]")
        times = times_from("2000-03-01", int(years * 730), step)
        states = np.random.default_rng(0).normal(280, 10, (times.size, *GRID.shape, 4)).astype(np.float32)
        writer = StoreWriter.create(tmp_path / "s", SPEC, GRID, times)
        writer.write_rows(0, states, np.zeros((times.size, *GRID.shape, 1), np.float32))
        half = times.size // 2
        training = ((0, half), (half + 3, times.size))  # three rows of another split between
        fit = climatology_fit.StoreFit(tmp_path / "s", tmp_path / "scratch", training, step)
        ticks = []
        found = fit.run(None, lambda: ticks.append(1))
        assert (found.kind, len(ticks)) == (kind, fit.n_tasks)
        assert cut == "as it is" or fit.n_tasks > 3
        keep = np.r_[0:half, half + 3 : times.size]
        wanted = ClimatologyFit(times[keep], step, states.shape[1:])
        wanted.update(times[keep], states[keep])
        expected = wanted.finish()
        at = times[[0, 5, -1, 40, 5]]
        np.testing.assert_allclose(found.at(at), expected.at(at), rtol=2e-6)
        np.testing.assert_allclose(np.asarray(found.table[:]), expected.table, rtol=2e-6, atol=2e-3)

    def test_a_table_on_disk_is_read_by_row_and_hashes_alike(self, whole, tmp_path, monkeypatch):
        monkeypatch.setattr(store, "_TABLE_IN_MEMORY_BYTES", 0)
        lazy = open_store(whole.path)
        assert not isinstance(lazy.climatology.table, np.ndarray)
        lazy.verify()
        np.testing.assert_array_equal(lazy.climatology.at(whole.times[:9]), whole.climatology.at(whole.times[:9]))


class TestVerify:
    def test_a_whole_store(self, whole, capsys):
        assert main(["verify", str(whole.path)]) == 0
        said = capsys.readouterr().out
        assert "240 rows from 2001-01-01T00:00 to 2001-03-01T18:00 in 3 segments match their hashes" in said
        assert f"data hash {whole.data_hash[:12]}" in said

    def test_no_store(self, tmp_path, capsys):
        assert main(["verify", str(tmp_path)]) == 1
        assert "no prepared store there" in capsys.readouterr().err

    @pytest.mark.parametrize("how", ["flipped byte", "lost chunk", "cut chunk"])
    def test_damage_is_named_by_its_time(self, whole, tmp_path, capsys, how):
        out = Path(shutil.copytree(whole.path, tmp_path / "store.zarr"))
        chunk = out / "state" / "c.21.0.0.0"
        raw = bytearray(chunk.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        if how == "lost chunk":
            chunk.unlink()
        else:
            chunk.write_bytes(raw if how == "flipped byte" else raw[: len(raw) // 2])
        assert main(["verify", str(out)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
        assert f"the row of {whole.times[21]!s:.16} " in said


def test_a_near_constant_channel_is_refused_by_name_and_no_epsilon_hides_it(tmp_path):
    data = weather(times_from("2001-01-01", 240))
    rounding = 1 + 1e-8 * np.random.default_rng(0).standard_normal(data.surface_pressure.shape)
    data["surface_pressure"] = (data.surface_pressure.dims, (1e5 * rounding).astype(np.float32), {"units": "Pa"})
    data.to_netcdf(tmp_path / "file.nc")
    boundary().to_netcdf(tmp_path / "boundary.nc")
    with pytest.raises(DataError, match=r"constant in the training data: surface_pressure \(100000\)"):
        prepare(config([f"{tmp_path}/*.nc"], split=SPLIT), tmp_path / "store.zarr", tmp_path)


def test_a_channel_that_varies_in_space_alone_is_refused_by_name(tmp_path):
    data = weather(times_from("2001-01-01", 240))
    data["temperature"][:, 1] = data["temperature"][0, 1]
    data.to_netcdf(tmp_path / "file.nc")
    boundary().to_netcdf(tmp_path / "boundary.nc")
    with pytest.raises(DataError, match=f"temperature@{LEVELS[1]:g}"):
        prepare(config([f"{tmp_path}/*.nc"], split=SPLIT), tmp_path / "store.zarr", tmp_path)
