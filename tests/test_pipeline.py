"""Raw files to the store: splits, gaps, sums, refusals, and a killed run that goes on where it was."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from weather_files import GRID, HOUR, HOURS_6, LEVELS, SHARED, boundary, config, times_from, weather, write_members

from data_prep.errors import DataError, UnreadableError
from data_prep.files import disk
from data_prep.inspection.report import inspect_files
from data_prep.preparation import pipeline
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.statistics import Moments
from data_prep.preparation.store import Store, open_store
from data_prep.preparation.store_writer import StoreWriter
from data_prep.reading.inputs import open_canonical
from data_prep.reading.locations import find_inputs
from emulator.config import load_config

BY_TIME = {
    "train": ["2001-01-01", "2001-01-10"],
    "validation": ["2001-01-15", "2001-01-20"],
    "test": ["2001-01-25", "2001-01-30"],
    "gap_days": 3,
}


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Five rows a block, one a chunk, so that a small record has many."""
    patch.setattr(pipeline, "_MAX_BLOCK_ROWS", 5)
    patch.setattr("data_prep.preparation.store_writer._CHUNK_BYTES", 1)


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("nature")
    return folder, write_members(folder)


@pytest.fixture(scope="module")
def whole(members, tmp_path_factory) -> Store:
    """The store of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "store.zarr"
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        return open_store(prepare(config(members[1]), out, out.parent))


def run(folder: Path, data: xr.Dataset, **changes) -> Store:
    """Prepares one file in time splits."""
    data.to_netcdf(folder / "file.nc")
    boundary().to_netcdf(folder / "boundary.nc")
    section = config(["{workdir}/file.nc", "{workdir}/boundary.nc"], **{"split": BY_TIME, **changes})
    return open_store(prepare(section, folder / "store.zarr", folder))


class TestMembers:
    def test_members_are_segments_and_splits(self, whole):
        assert [(s.name, s.split, len(s)) for s in whole.segments] == [
            ("member_000", "train", 24),
            ("member_001", "validation", 24),
            ("member_002", "test", 24),
        ]
        assert np.unique(whole.times).size == 72
        whole.verify()

    def test_values_are_those_of_the_files(self, whole, members):
        truth = xr.load_dataset(members[0] / "member_001.nc")
        state = whole.read_state(24 + 3, 24 + 6)
        np.testing.assert_array_equal(state[..., 1], truth["temperature"].sel(level=850)[3:6])
        np.testing.assert_array_equal(state[..., 2], truth["surface_pressure"][3:6])
        np.testing.assert_array_equal(state[..., 3], truth["total_precipitation_6hr"][3:6])
        np.testing.assert_array_equal(
            whole.take_persisted(np.array([27]))[0, ..., 0], truth["sea_surface_temperature"][3]
        )
        fixed = xr.load_dataset(members[0] / "boundary.nc")
        np.testing.assert_array_equal(whole.surface_geopotential, fixed["geopotential_at_surface"])
        forcing = whole.forcing_builder.at(whole.times[[5]], whole.take_persisted(np.array([5]))[0])
        names = [c.name for c in whole.spec.forcing_channels]
        day = int(xr.DataArray(whole.times[[5]], dims="time").dt.dayofyear[0])
        np.testing.assert_array_equal(
            forcing[0, ..., names.index("soil_temperature")], fixed["soil_temperature"].sel(dayofyear=day)
        )

    def test_the_spec_follows_config_and_files(self, whole):
        assert [c.name for c in whole.spec.state_channels] == [
            "temperature@500",
            "temperature@850",
            "surface_pressure",
            "total_precipitation_6hr",
        ]
        assert whole.spec["temperature"].levels == LEVELS
        assert whole.spec["temperature"].standard_name == "air_temperature"
        assert whole.spec["total_precipitation_6hr"].minimum == 0.0
        assert whole.spec.static_channels[0].name == "geopotential_at_surface"

    def test_statistics_and_climatology_are_of_the_training_member_only(self, whole):
        train = whole.read_state(0, 24)
        wanted = Moments.of(train, GRID.latitude_weights)
        np.testing.assert_allclose(whole.statistics.mean, wanted.mean, rtol=1e-6)
        np.testing.assert_allclose(whole.statistics.std, wanted.std, rtol=1e-6)
        changes = Moments.of(np.diff(train.astype(np.float64), axis=0), GRID.latitude_weights)
        np.testing.assert_allclose(whole.statistics.tendency_std, changes.std, rtol=1e-6)
        assert whole.climatology.kind == "seasonal_trend"
        expected = whole.climatology.at(whole.times[:24]).mean(axis=0)
        np.testing.assert_allclose(expected, train.mean(axis=0), rtol=1e-5, atol=1e-6)

    def test_statistics_of_forcings_static_fields_and_ranges_are_those_of_training(self, whole):
        rows, found = np.arange(24), whole.statistics
        state, forcing = (
            whole.read_state(0, 24),
            whole.forcing_builder.at(whole.times[rows], whole.take_persisted(rows)),
        )
        for name, values in (("forcing", forcing), ("static", whole.static[None])):
            wanted = Moments.of(values, GRID.latitude_weights)
            np.testing.assert_allclose(getattr(found, f"{name}_mean"), wanted.mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(getattr(found, f"{name}_std"), wanted.std, rtol=1e-5)
        for prefix, values in (("", state), ("forcing_", forcing)):
            np.testing.assert_array_equal(getattr(found, f"{prefix}lowest"), values.min(axis=(0, 1, 2)))
            np.testing.assert_array_equal(getattr(found, f"{prefix}highest"), values.max(axis=(0, 1, 2)))


class Killed(Exception):
    pass


class TestResuming:
    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch):
        small_blocks(monkeypatch)

    def test_an_interrupted_run_goes_on_and_gives_the_same_store(self, members, whole, tmp_path, monkeypatch):
        out = tmp_path / "store.zarr"

        def stop_after_seven(done, total):
            assert total == 15 + 1 + 1  # 72 rows to write; one group of training rows and one table to fit
            if done == 7:
                raise Killed

        with pytest.raises(Killed):
            prepare(config(members[1]), out, tmp_path, stop_after_seven)
        assert not out.exists()
        written = []
        write = StoreWriter.write_rows

        def note(self, start, *arrays):
            written.append(start)
            return write(self, start, *arrays)

        monkeypatch.setattr(StoreWriter, "write_rows", note)
        again = open_store(prepare(config(members[1]), out, tmp_path))
        assert sorted(written) == list(range(35, 72, 5))
        assert again.data_hash == whole.data_hash
        assert sorted(p.name for p in tmp_path.iterdir()) == ["store.zarr"]

    def test_what_a_power_cut_left_in_the_log_costs_its_own_block_alone(self, members, whole, tmp_path):
        out = tmp_path / "store.zarr"
        with pytest.raises(Killed):
            prepare(config(members[1]), out, tmp_path, self.stop)
        log = tmp_path / "store.zarr.partial" / "blocks.jsonl"
        log.write_bytes(log.read_bytes()[:-10] + b"\xff\x00\xfe")
        assert open_store(prepare(config(members[1]), out, tmp_path)).data_hash == whole.data_hash

    @pytest.mark.parametrize("damage", ["emptied", "removed", "swapped"])
    @pytest.mark.parametrize("rows_a_chunk", [1, 5])
    def test_what_a_power_cut_left_of_the_rows_costs_their_own_blocks_alone(
        self, damage, rows_a_chunk, members, whole, tmp_path, monkeypatch, caplog
    ):
        """The last block is a chunk that is not full."""
        monkeypatch.setattr("data_prep.preparation.pipeline.chunk_rows", lambda *_: rows_a_chunk)
        monkeypatch.setattr("data_prep.preparation.store_writer.chunk_rows", lambda *_: rows_a_chunk)
        out = tmp_path / "store.zarr"

        def stop_after_all(done, total):
            if done == 15:
                raise Killed

        with pytest.raises(Killed):
            prepare(config(members[1]), out, tmp_path, stop_after_all)
        folder = tmp_path / "store.zarr.partial" / "store" / "state"
        chunk, other = (folder / f"c.{row // rows_a_chunk}.0.0.0" for row in (71, 8))
        if damage == "emptied":
            chunk.write_bytes(b"")
        elif damage == "removed":
            chunk.unlink()
        else:
            chunk.write_bytes(other.read_bytes())
        written = []
        write = StoreWriter.write_rows
        monkeypatch.setattr(
            StoreWriter, "write_rows", lambda s, start, *x: (written.append(start), write(s, start, *x))[1]
        )
        caplog.set_level("INFO")
        assert open_store(prepare(config(members[1]), out, tmp_path)).data_hash == whole.data_hash
        assert written == [70]
        assert "reading back the 15 blocks" in caplog.text and "1 of them are damaged" in caplog.text

    @pytest.mark.parametrize("lost", ["zarr.json", "state/zarr.json", "time/zarr.json", "time/c/0", "digest/zarr.json"])
    @pytest.mark.parametrize("emptied", [True, False])
    def test_a_begun_store_that_lost_what_describes_it_is_begun_anew(self, lost, emptied, members, whole, tmp_path):
        out = tmp_path / "store.zarr"
        with pytest.raises(Killed):
            prepare(config(members[1]), out, tmp_path, self.stop)
        file = tmp_path / "store.zarr.partial" / "store" / lost
        file.write_bytes(b"") if emptied else file.unlink()
        assert open_store(prepare(config(members[1]), out, tmp_path)).data_hash == whole.data_hash

    def test_a_run_of_another_config_starts_afresh(self, members, tmp_path):
        out = tmp_path / "store.zarr"
        with pytest.raises(Killed):
            prepare(config(members[1]), out, tmp_path, self.stop)
        other = config(members[1], diagnostic={})
        store = open_store(prepare(other, out, tmp_path))
        store.verify()
        assert len(store.spec.state_channels) == 3

    def test_what_a_program_of_another_format_began_starts_afresh(self, members, whole, tmp_path, monkeypatch):
        out = tmp_path / "store.zarr"
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(pipeline, "FORMAT_VERSION", 1)
            prepare(config(members[1]), out, tmp_path, self.stop)
        said = []
        monkeypatch.setattr(pipeline.logger, "info", lambda text, *_: said.append(text))
        assert open_store(prepare(config(members[1]), out, tmp_path)).data_hash == whole.data_hash
        assert said and not any("resuming" in text for text in said)

    def test_another_file_to_take_the_grid_from_starts_afresh(self, members, tmp_path):
        region, like = weather(times_from("2001-01-01", 1)).isel(longitude=slice(0, 6)), tmp_path / "like.nc"
        region.to_netcdf(like)
        section = config(members[1], regrid={"like": str(like), "method": "bilinear"})
        with pytest.raises(Killed):
            prepare(section, tmp_path / "store.zarr", tmp_path, self.stop)
        region.assign_coords(longitude=region["longitude"] + 45).to_netcdf(like)
        store = open_store(prepare(section, tmp_path / "store.zarr", tmp_path))
        store.verify()
        np.testing.assert_array_equal(store.grid.longitude, region["longitude"] + 45)
        truth = xr.load_dataset(members[0] / "member_000.nc")["surface_pressure"].isel(longitude=slice(1, 7))
        np.testing.assert_allclose(store.read_state(0, 24)[..., 2], truth, rtol=1e-6)

    def test_a_store_that_is_in_place_is_not_made_again(self, members, whole, tmp_path, monkeypatch):
        """The run ended while it deleted the older one, which takes minutes of a large one."""
        out = prepare(config(members[1], diagnostic={}), tmp_path / "store.zarr", tmp_path)
        remove = disk.remove

        def kill(path):
            if path.name == "store.replaced" and path.exists():
                raise Killed
            remove(path)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(disk, "remove", kill)
            prepare(config(members[1]), out, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "_prepare", lambda *_: pytest.fail("all is there"))
            assert open_store(prepare(config(members[1]), out, tmp_path)).data_hash == whole.data_hash
        assert [p.name for p in tmp_path.iterdir()] == ["store.zarr"]
        prepare(config(members[1], diagnostic={}), out, tmp_path)  # another is made
        assert open_store(out).data_hash != whole.data_hash

    def test_what_no_store_can_replace_is_refused_before_the_work(self, members, tmp_path):
        (tmp_path / "big").mkdir()
        (tmp_path / "store.zarr").symlink_to("big", target_is_directory=True)
        with pytest.raises(DataError, match=r"store.zarr: is a link, whose place no store can take; remove it, or"):
            prepare(config(members[1]), tmp_path / "store.zarr", tmp_path)
        (tmp_path / "plain.zarr").touch()
        with pytest.raises(DataError, match=r"plain.zarr: is a file, whose"):
            prepare(config(members[1]), tmp_path / "plain.zarr", tmp_path)

    def test_why_nothing_is_taken_up_is_said(self, members, tmp_path, caplog):
        with pytest.raises(Killed):
            prepare(config(members[1]), tmp_path / "store.zarr", tmp_path, self.stop)
        with caplog.at_level(logging.INFO), pytest.raises(Killed):
            prepare(config(members[1], diagnostic={}), tmp_path / "store.zarr", tmp_path, self.stop)
        assert "what was begun is of another config, or of files that have changed since" in caplog.text

    def test_an_old_store_stays_until_the_new_one_is_whole(self, members, whole, tmp_path):
        out = prepare(config(members[1]), tmp_path / "store.zarr", tmp_path)
        with pytest.raises(Killed):
            prepare(config(members[1], diagnostic={}), out, tmp_path, self.stop)
        assert open_store(out).data_hash == whole.data_hash

    def test_sigkill(self, members, whole, tmp_path):
        section = config(members[1])
        code = (
            "import json, sys, time; from pathlib import Path\n"
            "from data_prep.preparation import pipeline, store_writer; from data_prep.config import DataConfig\n"
            "pipeline._MAX_BLOCK_ROWS, store_writer._CHUNK_BYTES = 5, 1\n"
            "hook = lambda done, total: (print(done, flush=True), time.sleep(0.2))\n"
            "section = DataConfig.model_validate(json.loads(sys.argv[1]))\n"
            "pipeline.prepare(section, Path(sys.argv[2]), Path(), hook)\n"
        )
        out = tmp_path / "store.zarr"
        arguments = [sys.executable, "-c", code, json.dumps(section.model_dump(mode="json")), str(out)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as child:
            assert child.stdout is not None
            while (line := child.stdout.readline().strip()) != "4":
                assert line, "the run ended before it could be killed"
            time.sleep(0.1)
            os.kill(child.pid, signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert not out.exists() and (tmp_path / "store.zarr.partial").exists()
        assert open_store(prepare(section, out, tmp_path)).data_hash == whole.data_hash

    @staticmethod
    def stop(done, total):
        raise Killed


def unreadable(*_):
    raise OSError("the server did not answer")


@pytest.mark.parametrize("begun_by", ["itself", "another config"])
def test_what_was_made_outlives_a_read_that_fails_and_a_refused_config(begun_by, members, tmp_path, monkeypatch):
    """Of a data set that comes over a network, hours of work."""
    small_blocks(monkeypatch)
    out, section = tmp_path / "store.zarr", config(members[1])
    if begun_by == "itself":
        with monkeypatch.context() as patch, pytest.raises(UnreadableError, match=r"cannot be read \(the server did"):

            def fail(done, _):
                if done == 7:
                    patch.setattr(xr.DataArray, "isel", unreadable)

            prepare(section, out, tmp_path, fail)
    else:
        with pytest.raises(Killed):
            prepare(section, out, tmp_path, TestResuming.stop)
        with pytest.raises(DataError, match="lacks level 700"):
            prepare(config(members[1], prognostic={"temperature": {"levels": [700.0]}}), out, tmp_path)
    said = []
    monkeypatch.setattr(pipeline.logger, "info", lambda text, *_: said.append(text))
    open_store(prepare(section, out, tmp_path)).verify()
    assert any("resuming" in text for text in said)


class TestSplitsInTime:
    def test_days_are_inclusive_and_what_lies_between_is_left_out(self, tmp_path):
        store = run(tmp_path, weather(times_from("2001-01-01", 4 * 30)))
        ends = [(s.split, str(s.first_time)[:13], str(s.last_time)[:13]) for s in store.segments]
        assert ends == [
            ("train", "2001-01-01T00", "2001-01-10T18"),
            ("validation", "2001-01-15T00", "2001-01-20T18"),
            ("test", "2001-01-25T00", "2001-01-30T18"),
        ]

    def test_a_gap_is_a_new_segment(self, tmp_path):
        times = times_from("2001-01-01", 4 * 30)
        store = run(tmp_path, weather(np.delete(times, slice(10, 14))))
        assert [(s.name, len(s)) for s in store.segments][:2] == [("file_train", 10), ("file.1_train", 26)]
        assert store.windows("train", 8).max() < 36 - 7
        np.testing.assert_array_equal(store.times[10], times[14])

    def test_what_is_left_out_of_a_segment_gives_no_other_its_number(self, tmp_path):
        """Or other winters would be tested than before, which a network that is kept has seen."""
        winters = np.concatenate([times_from(f"{year}-01-01", 4 * 10) for year in (2001, 2002, 2003, 2004)])
        segments = {"segments": {"validation": [2], "test": [3]}}
        given = {"split": segments, "exclude": [["2002-01-04", "2002-01-05"], ["2003-01-01T00", "2003-01-01T06"]]}
        store = run(tmp_path, weather(winters), **given)
        assert [(s.split, str(s.first_time)[:13], len(s)) for s in store.segments] == [
            ("train", "2001-01-01T00", 40),
            ("train", "2002-01-01T00", 12),
            ("train", "2002-01-06T00", 20),
            ("validation", "2003-01-01T12", 38),
            ("test", "2004-01-01T00", 40),
        ]

    @pytest.mark.parametrize("whole", [True, False])
    def test_files_at_two_intervals_are_refused_by_name(self, whole, tmp_path):
        """Each six-hourly time was a stretch of its own between hourly ones, and dropped."""
        data = weather(times_from("2001-01-01", 24 * 9, np.timedelta64(1, "h")))[["temperature", "surface_pressure"]]
        data.isel(time=slice(0, 48)).to_netcdf(tmp_path / "a.nc")
        later = data.isel(time=slice(48, None, 6))
        parts = [later] if whole else [later.isel(time=[i]) for i in range(later.time.size)]
        if not whole:
            data.isel(time=slice(0, 6)).to_netcdf(tmp_path / "a.nc")
        for i, part in enumerate(parts):
            part.to_netcdf(tmp_path / f"b{i:02d}.nc")
        said = r"b00.nc: most times are 6 h apart, but 1 h in .*a.nc at 2001-01-01T00:00; .* need one interval"
        report = inspect_files(sorted(tmp_path.glob("*.nc")))
        assert report.refusal is not None and re.search(said, report.refusal)
        section = config([f"{tmp_path}/*.nc"], split=BY_TIME, diagnostic={}, forcing={}, static={})
        with pytest.raises(DataError, match=said):
            prepare(section, tmp_path / "store.zarr", tmp_path)

    def test_files_of_one_variable_each_and_of_one_stretch_each_are_joined(self, tmp_path):
        truth = weather(times_from("2001-01-01", 4 * 30))
        names = ["temperature", "surface_pressure"]
        for k, part in enumerate((slice(0, 50), slice(50, None))):
            truth[names].isel(time=part).to_netcdf(tmp_path / f"state_{1 - k}.nc")  # sorted against time
        rest = truth.drop_vars(names)
        rest.isel(time=slice(None, None, 2)).to_netcdf(tmp_path / "even.nc")
        rest.isel(time=slice(1, None, 2)).to_netcdf(tmp_path / "odd.nc")
        boundary().to_netcdf(tmp_path / "boundary.nc")
        joined = open_store(prepare(config(["{workdir}/*.nc"], split=BY_TIME), tmp_path / "a.zarr", tmp_path))
        (tmp_path / "one").mkdir()
        single = run(tmp_path / "one", truth)
        assert [len(s) for s in joined.segments] == [len(s) for s in single.segments]
        np.testing.assert_array_equal(joined.read_state(0, 40), single.read_state(0, 40))
        np.testing.assert_array_equal(
            joined.take_persisted(np.arange(41, 60)), single.take_persisted(np.arange(41, 60))
        )

    @pytest.mark.parametrize(
        ("split", "what"),
        [
            ({**BY_TIME, "gap_days": 10}, r"validation data begin 4.25 days after train data end .*gap_days 10"),
            ({**BY_TIME, "test": ["2001-01-19", "2001-01-30"]}, "validation and test overlap"),
            ({**BY_TIME, "test": ["2002-01-19", "2002-01-30"]}, "no data for test; the files hold 2001-01-01T00:00 to"),
            ({"segments": {"test": [1]}}, "there is no segment 1; there are 1: file"),
            ({"segments": {"test": [0], "validation": [0]}}, "segment 0 is in both test and validation"),
            ({"segments": {"test": [0]}}, "no data for train"),
        ],
    )
    def test_impossible_splits_are_refused(self, split, what, tmp_path):
        with pytest.raises(DataError, match=what):
            run(tmp_path, weather(times_from("2001-01-01", 4 * 30)), split=split)
        assert not (tmp_path / "store.zarr.partial").exists()


def with_bounds(data: xr.Dataset, begin: int, end: int) -> xr.Dataset:
    """The file with CF bounds of its times, hours before and after them."""
    times = data["time"].values
    ends = [times + (np.timedelta64(h, "h") if times.dtype.kind == "M" else timedelta(hours=h)) for h in (begin, end)]
    data = data.assign(time_bnds=(("time", "bnds"), np.stack(ends, axis=1)))
    data["time"].attrs["bounds"] = "time_bnds"
    data["time"].encoding["units"] = "hours since 1900-01-01"
    return data


class TestThinning:
    def test_precipitation_is_summed_and_the_rest_subsampled(self, tmp_path):
        hourly = weather(times_from("2001-01-01T01", 24 * 30, np.timedelta64(1, "h")))
        store = run(
            tmp_path,
            hourly.rename(total_precipitation_6hr="tp"),
            diagnostic={"total_precipitation_6hr": {"source": "tp"}},
        )
        assert store.timestep == HOURS_6
        assert str(store.times[0]) == "2001-01-01T06:00:00.000000000"
        state = store.read_state(0, 3)
        rain = hourly["total_precipitation_6hr"].values
        for i in range(3):
            np.testing.assert_allclose(state[i, ..., 3], rain[6 * i : 6 * i + 6].sum(axis=0), rtol=1e-6)
            np.testing.assert_array_equal(state[i, ..., 2], hourly["surface_pressure"][6 * i + 5])

    @pytest.mark.parametrize(
        ("standard_name", "units", "scale"),
        [("precipitation_amount", "kg m-2", 1e3), ("lwe_thickness_of_precipitation_amount", "mm", 1e3)],
    )
    def test_precipitation_is_known_by_its_standard_name(self, standard_name, units, scale, tmp_path):
        hourly = weather(times_from("2001-01-01T01", 24 * 30, np.timedelta64(1, "h")))
        rain = hourly["total_precipitation_6hr"]
        named = (scale * rain).assign_attrs(units=units, standard_name=standard_name)
        store = run(tmp_path, hourly.drop_vars(rain.name).assign(tot_prec=named))
        np.testing.assert_allclose(store.read_state(0, 1)[0, ..., 3], rain[:6].sum("time"), rtol=1e-5)

    @pytest.mark.parametrize(
        ("attrs", "kind"),
        [
            ({"cell_methods": "area: mean time: sum"}, "sums"),
            ({"GRIB_stepType": "accum"}, "sums"),
            ({"cell_methods": "area: sum time: mean (interval: 1 h)"}, "means"),
            ({"GRIB_stepType": "avg"}, "means"),
            ({"cell_methods": "area: mean time: point"}, None),
        ],
    )
    def test_other_sums_and_means_are_taken_with_a_warning(self, attrs, kind, tmp_path, caplog):
        hourly = weather(times_from("2001-01-01T01", 24 * 30, np.timedelta64(1, "h")))
        hourly["ssrd"] = hourly["surface_pressure"].assign_attrs(attrs, units="J m-2")
        hourly = hourly.drop_vars("total_precipitation_6hr")
        run(tmp_path, hourly, prognostic={"temperature": {}, "ssrd": {}}, diagnostic={})
        told = [r.getMessage() for r in caplog.records if " over 1 h" in r.getMessage()]
        assert len(told) == bool(kind) and all(f"file.nc: ssrd: {kind} over 1 h, of" in line for line in told)

    def test_the_name_of_precipitation_tells_its_interval(self, tmp_path):
        with pytest.raises(DataError, match="name it total_precipitation_12hr"):
            run(tmp_path, weather(times_from("2001-01-01", 4 * 30)), timestep_hours=12.0)

    @pytest.mark.parametrize(
        ("start", "hours", "attrs", "told"),
        [
            ("00:30", 1, {}, "00:30 every 1 h"),
            ("01:30", 3, {}, "01:30 every 3 h"),
            ("03:00", 6, {}, None),
            ("03:00", 6, {"cell_methods": "time: mean"}, "03:00 every 6 h"),
            ("00:00", 1, {"cell_methods": "time: mean"}, None),
        ],
    )
    def test_times_in_the_middle_of_intervals_are_told(self, start, hours, attrs, told, tmp_path, caplog):
        data = weather(times_from(f"2001-01-01T{start}", 24 * 30 // hours, np.timedelta64(hours, "h")))
        data["temperature"].attrs |= attrs
        run(tmp_path, data.drop_vars("total_precipitation_6hr"), diagnostic={}, timestep_hours=float(hours))
        lines = {r.getMessage() for r in caplog.records if "middle of intervals" in r.getMessage()}
        assert len(lines) == bool(told) and all(
            f"file.nc: times in the middle of intervals ({told})" in x for x in lines
        )
        at_their_times = "file.nc: temperature: means over intervals, taken as instants at their times" in caplog.text
        assert at_their_times == (bool(attrs) and not told)

    @pytest.mark.parametrize("method", ["maximum", "minimum"])
    def test_extremes_over_less_than_the_step_are_told(self, method, tmp_path, caplog):
        data = weather(times_from("2001-01-01", 8 * 30, np.timedelta64(3, "h")))
        data["warmest"] = data["surface_pressure"].assign_attrs(units="Pa", cell_methods=f"time: {method}")
        state = {"temperature": {}, "surface_pressure": {}, "warmest": {}}
        run(tmp_path, data.drop_vars("total_precipitation_6hr"), prognostic=state, diagnostic={})
        plural = method.replace("um", "a")
        told = f"warmest: {plural} over 3 h, of which one of 2 is taken; for {plural} over the step of 6 h take them"
        assert told in caplog.text

    @pytest.mark.parametrize(
        ("name", "units", "told"),
        [("precip", "mm", True), ("ssrd", "J m**-2", True), ("swe", "mm", False), ("sshf", "W m-2", False)],
    )
    def test_amounts_over_less_than_the_step_are_told_by_their_unit(self, name, units, told, tmp_path, caplog):
        data = weather(times_from("2001-01-01", 8 * 30, np.timedelta64(3, "h")))
        data[name] = data["surface_pressure"].assign_attrs(units=units)
        state = {"temperature": {}, "surface_pressure": {}, name: {}}
        run(tmp_path, data.drop_vars("total_precipitation_6hr"), prognostic=state, diagnostic={})
        assert (f"{name}: sums over 3 h, of which one of 2 is taken; only total_precip" in caplog.text) == told

    @pytest.mark.parametrize(
        ("name", "hours", "told"),
        [("tp", 6, True), ("tp", 1, False), ("total_precipitation_6hr", 6, False), ("bounded", 6, False)],
    )
    def test_sums_over_an_interval_that_nobody_states_are_told(self, name, hours, told, tmp_path, caplog):
        data = weather(times_from("2001-01-01", 24 * 30 // hours, np.timedelta64(hours, "h")))
        data = data.rename(total_precipitation_6hr=name)
        if name == "bounded":
            data = with_bounds(data, -6, 0)
        run(tmp_path, data, diagnostic={"total_precipitation_6hr": {"source": name}})
        lines = {r.getMessage() for r in caplog.records if "taken as sums" in r.getMessage()}
        assert len(lines) == told
        assert all(
            "file.nc: tp: taken as sums over 6 h" in line and "ERA5's tp is a sum over 1 h" in line for line in lines
        )

    @pytest.mark.parametrize(
        ("begin", "end", "said"),
        [
            (0, 6, "from 2001-01-01T00:00 to 2001-01-01T06:00 by the bounds of its time; .* set the time to that end"),
            (-3, 3, "from .*; a sum belongs to the interval that ends at its time"),
            (-1, 0, "from 2000-12-31T23:00 to 2001-01-01T00:00 by .*; the times are 6 h apart: take sums over that"),
        ],
    )
    def test_sums_over_another_interval_by_their_bounds_are_refused(self, begin, end, said, tmp_path):
        data = with_bounds(weather(times_from("2001-01-01", 4 * 30)), begin, end)
        with pytest.raises(DataError, match=rf"file.nc: total_precipitation_6hr at 2001-01-01T00:00 runs {said}"):
            run(tmp_path, data)

    def test_bounds_are_seen_where_another_file_holds_other_levels(self, tmp_path):
        data = weather(times_from("2001-01-01", 4 * 30))
        data[["temperature"]].sel(level=[500.0]).to_netcdf(tmp_path / "a.nc")
        with_bounds(data.sel(level=[850.0]), 0, 6).to_netcdf(tmp_path / "b.nc")
        section = config([f"{tmp_path}/?.nc"], forcing={}, static={}, split=BY_TIME)
        with pytest.raises(
            DataError, match="total_precipitation_6hr at 2001-01-01T00:00 runs from 2001-01-01T00:00 to"
        ):
            prepare(section, tmp_path / "store.zarr", tmp_path)

    def test_the_calendar_of_a_climate_model_stretches_no_bounds(self, tmp_path):
        data = weather(times_from("2001-02-01", 4 * 30)).convert_calendar("noleap", use_cftime=True)
        data = with_bounds(data.assign_coords(time=[t.replace(year=2004) for t in data["time"].values]), -6, 0)
        split = {"train": ["2004-02-01", "2004-02-10"], "validation": ["2004-02-15", "2004-02-20"]}
        store = run(tmp_path, data, split={**split, "test": ["2004-02-25", "2004-03-02"], "gap_days": 3})
        assert np.datetime64("2004-03-01T00:00") in store.times

    def test_a_step_between_the_files_steps_is_refused(self, tmp_path):
        for hours in (9.0, 1e-4):
            with pytest.raises(DataError, match=r"timestep_hours [90] is no multiple of the files' interval, 6 h"):
                run(tmp_path, weather(times_from("2001-01-01", 4 * 30)), timestep_hours=hours)


def with_value(name: str, value: float, row: int = 70):
    def change(data: xr.Dataset) -> xr.Dataset:
        data[name][row, ..., 0, 0] = value
        return data

    return change


class TestRefusals:
    """Bad data leave neither a store nor half of one, and one line behind."""

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (with_value("temperature", np.nan), "file.nc: temperature@500 has NaN .* at 2001-01-18T12:00"),
            (with_value("temperature", 20.0), "file.nc: temperature@500 ranges from 20"),
            (with_value("sea_surface_temperature", np.nan), "sea_surface_temperature has NaN"),
            (lambda d: d.assign(surface_pressure=d.surface_pressure * 0 + 1e5), "constant .*: surface_pressure"),
            (lambda d: d.drop_vars("temperature"), "missing temperature .prognostic temperature"),
            (lambda d: d.drop_vars("total_precipitation_6hr"), "missing total_precipitation_6hr"),
            (lambda d: d.drop_vars("sea_surface_temperature"), "missing sea_surface_temperature"),
            (lambda d: d.isel(latitude=slice(1, None)), "boundary.nc: its grid is 8 x 4"),
            (
                lambda d: d.assign_coords(time=d.time + (d.time > d.time[50]) * np.timedelta64(1, "h")),
                "irregular time step: 7 h",
            ),
            (lambda d: d.assign(surface_pressure=d.surface_pressure[0]), "surface_pressure runs over constant"),
        ],
    )
    def test_of_files(self, change, what, tmp_path):
        with pytest.raises(DataError, match=what) as error:
            run(tmp_path, change(weather(times_from("2001-01-01", 4 * 30))))
        assert "\n" not in str(error.value)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["boundary.nc", "file.nc"]

    @pytest.mark.parametrize(
        ("changes", "what"),
        [
            (
                {"prognostic": {"temperature": {"levels": [500.0, 700.0]}}},
                "temperature lacks level 700; it has 500, 850",
            ),
            (
                {"static": {"surface_pressure": {}}, "prognostic": {"temperature": {}}},
                "no static field; make it a forcing",
            ),
            ({"static": {"temperature": {}}}, "named both as prognostic and as static"),
            ({"forcing": {"soil_temperature": {"known": "persisted"}}}, "known: climatological"),
            ({"forcing": {"sea_surface_temperature": {"known": "climatological"}}}, "dayofyear of 366"),
            ({"prognostic": {"temprature": {}}}, r"missing temprature .*; did you mean temperature\?"),
            ({"vertical": None}, "data.vertical is not set"),
            ({"vertical": "sigma"}, "levels of kind pressure .*data.vertical is sigma"),
        ],
    )
    def test_of_configs_that_do_not_fit_the_files(self, changes, what, tmp_path):
        with pytest.raises(DataError, match=what):
            run(tmp_path, weather(times_from("2001-01-01", 4 * 30)), **changes)

    @pytest.mark.parametrize(("change", "refused"), [(3e-5, False), (1e-2, True)])
    @pytest.mark.parametrize("along", ["nothing", "time"])
    def test_of_static_fields_that_differ_between_files(self, change, refused, along, tmp_path):
        """Each file may be packed in its own way."""
        for name, factor in (("a.nc", 1.0), ("b.nc", 1.0 + change)):
            data = boundary()
            surface = data["geopotential_at_surface"] * factor
            surface.attrs["units"] = "m2 s-2"
            if along == "time":
                surface = surface.expand_dims(time=times_from("1979-01-01" if name == "a.nc" else "1980-01-01", 2))
            data = surface.to_dataset(name="geopotential_at_surface").merge(data[["soil_temperature"]])
            data.to_netcdf(tmp_path / name)
        weather(times_from("2001-01-01", 4 * 30)).to_netcdf(tmp_path / "c.nc")
        section = config(["{workdir}/*.nc"], split=BY_TIME)
        if refused:
            with pytest.raises(DataError, match=r"b.nc: geopotential_at_surface differs from what .*a.nc holds"):
                prepare(section, tmp_path / "store.zarr", tmp_path)
        else:
            prepare(section, tmp_path / "store.zarr", tmp_path)

    @pytest.mark.parametrize("days", [np.roll(np.arange(1, 367), 180), np.arange(366), np.arange(366, 0, -1)])
    def test_of_tables_out_of_the_order_of_the_year(self, days, tmp_path):
        boundary().assign_coords(dayofyear=days).to_netcdf(tmp_path / "b.nc")
        weather(times_from("2001-01-01", 4 * 30)).to_netcdf(tmp_path / "c.nc")
        with pytest.raises(DataError, match=r"b.nc: dayofyear runs from .* number the days 1 to 366"):
            prepare(config(["{workdir}/*.nc"], split=BY_TIME), tmp_path / "store.zarr", tmp_path)

    def test_of_times_that_two_files_hold(self, tmp_path):
        weather(times_from("2001-01-01", 60)).to_netcdf(tmp_path / "a.nc")
        weather(times_from("2001-01-10", 60)).to_netcdf(tmp_path / "b.nc")
        boundary().to_netcdf(tmp_path / "c.nc")
        with pytest.raises(DataError, match=r"b.nc: temperature at 2001-01-10T00:00 is in .*a.nc too"):
            prepare(config(["{workdir}/*.nc"], split=BY_TIME), tmp_path / "store.zarr", tmp_path)

    def test_of_times_that_are_there_twice_but_for_those_that_are_left_out(self, tmp_path):
        data = weather(times_from("2001-01-01", 4 * 30))
        data["temperature"][44] += 1
        data.isel(time=slice(0, 43)).to_netcdf(tmp_path / "a.nc")
        other = data.isel(time=[42, 43, 43, *range(44, 120)])
        other["temperature"][0] += 1
        other.to_netcdf(tmp_path / "b.nc")
        boundary().to_netcdf(tmp_path / "c.nc")
        exclude = [["2001-01-11T12", "2001-01-11T18"]]
        section = config(["{workdir}/*.nc"], split=BY_TIME, exclude=exclude)
        open_store(prepare(section, tmp_path / "store.zarr", tmp_path)).verify()
        with pytest.raises(DataError, match=r"b.nc: temperature at 2001-01-11T18:00 is there twice; remove one"):
            prepare(section.model_copy(update={"exclude": [exclude[0][:1] * 2]}), tmp_path / "store.zarr", tmp_path)

    def test_of_a_glob_without_a_match(self, tmp_path):
        with pytest.raises(DataError, match=r"data.inputs: .*/nature/\*.nc matches no file"):
            find_inputs(["{workdir}/nature/*.nc"], tmp_path)

    @pytest.mark.parametrize("pattern", ["", "**data/*.nc"])
    def test_of_what_is_no_pattern(self, pattern, tmp_path):
        with pytest.raises(DataError, match="is no path or pattern of files"):
            find_inputs([pattern], tmp_path)

    def test_of_a_folder_without_data(self, tmp_path):
        (tmp_path / "readme.txt").touch()
        for pattern in ("{workdir}", "{workdir}/"):
            with pytest.raises(DataError, match=r"/test_of_\w+: a folder without NetCDF, GRIB or Zarr in it \(.nc,"):
                find_inputs([pattern], tmp_path)

    def test_of_no_file_in_a_folder_whose_name_looks_like_a_pattern(self, tmp_path):
        folder = tmp_path / "run [1]"
        folder.mkdir()
        (folder / "a.nc").touch()
        assert find_inputs(["{workdir}/*.nc"], folder) == (folder / "a.nc",)


def test_a_folder_stands_for_the_files_in_it(tmp_path, monkeypatch):
    (tmp_path / "years").mkdir()
    files = [tmp_path / "years" / name for name in ("1.nc", "2.GRIB")]
    for path in (*files, tmp_path / "years" / "read.me", tmp_path / "years" / "._1.nc"):
        path.touch()
    (tmp_path / "years" / "3.zarr").mkdir()
    (tmp_path / "a store").mkdir()
    (tmp_path / "a store" / "zarr.json").touch()
    inside = (*files, tmp_path / "years" / "3.zarr")
    for pattern in ("{workdir}/years", "{workdir}/years/", "{workdir}/y*"):
        assert find_inputs([pattern], tmp_path) == inside
    assert find_inputs(["{workdir}/*"], tmp_path) == (tmp_path / "a store", *inside)  # a store is one input
    monkeypatch.chdir(tmp_path / "years")
    assert find_inputs([".", "./", "1.nc"], tmp_path) == inside


def test_a_defect_is_told_with_the_file_that_holds_it(tmp_path):
    """A block of the store may be made of many files."""
    data = weather(times_from("2001-01-01", 40))
    data["surface_pressure"][30, 2, 2] = np.nan
    for day in range(10):
        data.isel(time=slice(4 * day, 4 * day + 4)).to_netcdf(tmp_path / f"day_{day}.nc")
    boundary().to_netcdf(tmp_path / "boundary.nc")
    section = config(["{workdir}/*.nc"], split={"segments": {}})
    with pytest.raises(DataError, match=r"day_7.nc: surface_pressure has NaN .* at 2001-01-08T12:00"):
        prepare(section, tmp_path / "store.zarr", tmp_path)


def test_nan_in_forcings_is_filled_where_the_config_says_so(tmp_path):
    data = with_value("sea_surface_temperature", np.nan, 0)(weather(times_from("2001-01-01", 4 * 30)))
    store = run(tmp_path, data, nan="fill_mean")
    filled = store.take_persisted(np.array([0]))[0, 0, 0, 0]
    assert filled == pytest.approx(float(data["sea_surface_temperature"][0].mean()), rel=1e-6)


def test_lower_bounds_apply_to_the_truth(tmp_path):
    data = weather(times_from("2001-01-01", 4 * 30))
    data["total_precipitation_6hr"] -= 1e-3
    assert run(tmp_path, data).read_state(0, 40)[..., 3].min() == 0.0


@pytest.mark.parametrize("name", ["total_precipitation_6hr", "sea_surface_temperature", "geopotential_at_surface"])
@pytest.mark.parametrize("value", [-32767.0, -np.inf])
def test_lower_bounds_hide_no_missing_values(name, value, tmp_path):
    data, fixed = weather(times_from("2001-01-01", 4 * 30)), boundary()
    (fixed if name in fixed else data)[name][..., 2, 2] = value
    data.to_netcdf(tmp_path / "file.nc")
    fixed.to_netcdf(tmp_path / "boundary.nc")
    section = config(
        ["{workdir}/*.nc"],
        split=BY_TIME,
        static={"geopotential_at_surface": {"minimum": 0.0}},
        forcing={"sea_surface_temperature": {"minimum": 0.0}},
    )
    with pytest.raises(DataError, match=rf"{name} (has NaN or infinity|ranges from -32767 .* missing value)"):
        prepare(section, tmp_path / "store.zarr", tmp_path)


def test_lower_bounds_apply_to_static_fields_and_yearly_tables(tmp_path):
    store = run(
        tmp_path,
        weather(times_from("2001-01-01", 4 * 30)),
        static={"geopotential_at_surface": {"minimum": 5e3}},
        forcing={"soil_temperature": {"known": "climatological", "minimum": 282.0}},
    )
    assert store.static[..., 0].min() == 5e3
    assert store.forcing_builder.table.min() == 282.0


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_the_regional_data_set_end_to_end(tmp_path):
    section = load_config("ncep_air").data
    section = section.model_copy(update={"inputs": [str(SHARED / "ncep_r1_air_temperature_2013_2014.nc")]})
    store = open_store(prepare(section, tmp_path / "store.zarr", tmp_path), in_memory=True)
    store.verify()
    assert [s.split for s in store.segments] == ["train", "validation", "test"]
    assert str(store.segments[2].first_time)[:10] == "2014-07-01" and str(store.times[-1])[:13] == "2014-12-31T18"
    assert not store.grid.is_global
    test = store.segments[2]
    error = store.read_state(test.start, test.stop) - store.climatology.at(store.times[test.start : test.stop])
    weights = store.grid.latitude_weights[:, None, None]
    # A simple climatology of the same file was measured at 3.33 K on its own split.
    assert np.sqrt((error**2 * weights).mean()) == pytest.approx(3.33, abs=0.15)
    steps = np.diff(store.read_state(test.start, test.stop), axis=0)
    assert np.sqrt((steps**2 * weights).mean()) == pytest.approx(2.26, abs=0.15)


def test_holes_in_constant_fields_are_refused_before_anything_is_written(tmp_path):
    weather(times_from("2001-01-01", 4 * 30)).to_netcdf(tmp_path / "file.nc")
    fixed = boundary()
    fixed["geopotential_at_surface"][0, 0] = np.nan
    fixed.to_netcdf(tmp_path / "boundary.nc")
    section = config(["{workdir}/file.nc", "{workdir}/boundary.nc"], split=BY_TIME)
    with pytest.raises(
        DataError, match=r"boundary.nc: geopotential_at_surface has NaN or infinity in 3.1% of its points;"
    ):
        prepare(section, tmp_path / "store.zarr", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boundary.nc", "file.nc"]
    filled = open_store(prepare(section.model_copy(update={"nan": "fill_mean"}), tmp_path / "store.zarr", tmp_path))
    assert filled.surface_geopotential is not None
    mean = float(fixed["geopotential_at_surface"].mean())
    assert filled.surface_geopotential[0, 0] == pytest.approx(mean, rel=1e-6)


def test_no_change_leads_into_a_training_segment_that_begins_with_a_block(tmp_path, monkeypatch):
    small_blocks(monkeypatch)
    section = config(write_members(tmp_path / "nature", n_times=20), split={"segments": {}})
    store = open_store(prepare(section, tmp_path / "store.zarr", tmp_path))
    states = [store.read_state(s.start, s.stop).astype(np.float64) for s in store.segments]
    wanted = Moments.of(np.concatenate([np.diff(s, axis=0) for s in states]), GRID.latitude_weights)
    np.testing.assert_allclose(store.statistics.tendency_std, wanted.std, rtol=1e-6)


def test_segments_of_two_splits_keep_the_gap_too(tmp_path):
    data = weather(np.delete(times_from("2001-01-01", 80), slice(40, 44)))
    with pytest.raises(DataError, match=r"test data begin 1.25 days after train data end .*gap_days 10"):
        run(tmp_path, data, split={"segments": {"test": [1]}})


@pytest.mark.parametrize(("begins", "first"), [(1, 6), (2, 12), (6, 12), (7, 12)])
def test_after_a_gap_rain_is_summed_once_the_files_hold_a_whole_step(begins, first, tmp_path):
    hourly = weather(times_from("2001-01-01T01", 72, HOUR)).rename(total_precipitation_6hr="tp")
    at = hourly["time"].values
    second = np.datetime64("2001-01-02") + begins * HOUR
    data = hourly.isel(time=(at <= np.datetime64("2001-01-01T18")) | (at >= second))
    data.to_netcdf(tmp_path / "a.nc")
    section = config(
        ["a.nc"],
        diagnostic={"total_precipitation_6hr": {"source": "tp"}},
        forcing={},
        static={},
        split={"segments": {}},
    )
    segment = open_canonical([tmp_path / "a.nc"], section).segments[1]
    assert segment.times[0] == np.datetime64("2001-01-02") + first * HOUR
    end = int(np.flatnonzero(at == segment.times[0])[0]) + 1
    wanted = hourly["tp"].values[end - 6 : end].sum(axis=0)
    np.testing.assert_allclose(segment.read("total_precipitation_6hr", 0, 1)[0, ..., 0], wanted, rtol=1e-6)


def test_bounds_of_every_file_are_seen_and_not_those_of_the_first_alone(tmp_path):
    data = weather(times_from("2001-01-01", 40))
    with_bounds(data.isel(time=slice(20)), -6, 0).to_netcdf(tmp_path / "a.nc")
    with_bounds(data.isel(time=slice(20, None)), -3, 0).to_netcdf(tmp_path / "b.nc")
    section = config(["x"], forcing={}, static={}, split={"segments": {}})
    with pytest.raises(DataError, match=r"b.nc: total_precipitation_6hr at 2001-01-06T00:00 runs from .*T21:00 to"):
        open_canonical([tmp_path / "a.nc", tmp_path / "b.nc"], section)
