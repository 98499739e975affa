"""The prepared store: reads, windows, hashes, and refusal of what is damaged."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from climatology_oracle import ClimatologyFit
from weather_files import GRID, HOUR, HOURS_6, LEVELS, times_from

from data_prep import clock
from data_prep.errors import DataError
from data_prep.forcing import COMPUTED_FORCINGS, COORDINATE_VARIABLES, ForcingBuilder, coordinate_fields
from data_prep.grid import Grid
from data_prep.preparation import store as store_module
from data_prep.preparation import store_writer
from data_prep.preparation.rows import StoredRows
from data_prep.preparation.statistics import Moments, Statistics, state_moments
from data_prep.preparation.store import Segment, Store, _reopen, data_hash_of, memory_store, open_store
from data_prep.preparation.store_writer import StoreWriter, chunk_rows
from data_prep.reading.locations import MANIFEST
from data_prep.spec import StateSpec, Variable, stack_channels
from emulator.benchmarks.synthetic import synthetic_store
from emulator.training.loader import read_batch

SPEC = StateSpec(
    (
        Variable("temperature", "prognostic", LEVELS, "K"),
        Variable("rain", "diagnostic", units="m"),
        Variable("sea_surface_temperature", "forcing", units="K", known="persisted"),
        *COMPUTED_FORCINGS["year_progress"],
        Variable("geopotential_at_surface", "static", units="m2 s-2"),
        *COORDINATE_VARIABLES,
    ),
    "pressure",
)
LENGTHS = (7, 5, 6)
SPLITS = ("train", "validation", "test")


def parts(seed: int = 0) -> dict:
    """All that a store of three segments is made of."""
    rng = np.random.default_rng(seed)
    times = np.concatenate([times_from(f"{2001 + 4 * i}-05-01", n) for i, n in enumerate(LENGTHS)])
    state = rng.standard_normal((times.size, *GRID.shape, 3)).astype(np.float32)
    persisted = rng.standard_normal((times.size, *GRID.shape, 1)).astype(np.float32)
    static = np.concatenate([rng.random((*GRID.shape, 1), np.float32), coordinate_fields(GRID)], axis=-1)
    stops = np.cumsum(LENGTHS).tolist()
    segments = [
        Segment(f"member_{i:03d}", stop - n, stop, split, times[stop - n], times[stop - 1])
        for i, (n, stop, split) in enumerate(zip(LENGTHS, stops, SPLITS, strict=True))
    ]
    table = np.empty((366, *GRID.shape, 0), np.float32)
    forcing = ForcingBuilder(GRID, SPEC, HOURS_6, table).at(times[:7], persisted[:7])
    pairs = (
        *state_moments(state[:7], GRID.latitude_weights),
        Moments.of(forcing, GRID.latitude_weights),
        Moments.of(static[None], GRID.latitude_weights),
    )
    fit = ClimatologyFit(times[:7], HOURS_6, state.shape[1:])
    fit.update(times[:7], state[:7])
    return {
        "spec": SPEC,
        "grid": GRID,
        "timestep": HOURS_6,
        "statistics": Statistics(*(x.astype(np.float32) for m in pairs for x in (m.mean, m.std))),
        "climatology": fit.finish(),
        "forcing_table": table,
        "static": static,
        "segments": segments,
        "times": times,
        "state": state,
        "persisted": persisted,
    }


def write(path: Path, of: dict) -> Path:
    writer = StoreWriter.create(path, of["spec"], of["grid"], of["times"])
    for start in (9, 0):  # any order
        writer.write(start, of["state"][start : start + 9], of["persisted"][start : start + 9])
    kept = ("spec", "grid", "timestep", "segments", "static", "statistics", "climatology")
    builder = ForcingBuilder(of["grid"], of["spec"], of["timestep"], of["forcing_table"])
    writer.finish(**{k: of[k] for k in kept}, forcing_builder=builder, config_hash="c")
    return path


@pytest.fixture(scope="module")
def made() -> dict:
    return parts()


@pytest.fixture(scope="module", params=["lazy", "in memory", "never on disk"])
def store(request, made, tmp_path_factory) -> Store:
    if request.param == "never on disk":
        return memory_store(**made)
    path = write(tmp_path_factory.mktemp("store") / "store.zarr", made)
    return open_store(path, in_memory=request.param == "in memory")


def test_what_is_written_is_read(store, made):
    np.testing.assert_array_equal(store.read_state(7, 12), made["state"][7:12])
    np.testing.assert_array_equal(store.take_persisted(np.arange(2, 4)), made["persisted"][2:4])
    np.testing.assert_array_equal(store.static, made["static"])
    np.testing.assert_array_equal(store.times, made["times"])
    np.testing.assert_array_equal(store.surface_geopotential, made["static"][..., 0])
    assert (store.spec, store.grid, store.timestep) == (SPEC, GRID, HOURS_6)
    assert store.segments == tuple(made["segments"])
    np.testing.assert_array_equal(store.statistics.tendency_std, made["statistics"].tendency_std)
    np.testing.assert_array_equal(store.climatology.at(store.times[:3]), made["climatology"].at(store.times[:3]))
    forcing = store.forcing_builder.at(store.times[3:5], made["persisted"][3])
    assert forcing.shape == (2, *GRID.shape, 3)
    store.verify()


def test_lazy_in_memory_and_never_on_disk_share_one_hash(store, made):
    assert store.data_hash == memory_store(**made).data_hash
    assert store.data_hash != memory_store(**parts(seed=1)).data_hash


def test_windows_never_cross_a_segment(store):
    assert store.windows("train", 3).tolist() == [0, 1, 2, 3, 4]
    assert store.windows("validation", 5).tolist() == [7]
    assert store.windows("test", 2).tolist() == [12, 13, 14, 15, 16]
    for start in store.windows("train", 3):
        assert store.segment_of(int(start), int(start) + 3).split == "train"
    with pytest.raises(DataError, match="no window of 8 times in the train split, whose longest segment has 7"):
        store.windows("train", 8)
    for start, stop in ((5, 9), (17, 19), (4, 4)):
        with pytest.raises(DataError, match="do not lie within one segment"):
            store.read_state(start, stop)


def test_fields_come_back_by_name(store, made):
    data = store.dataset([13, 2])
    assert data["temperature"].dims == ("time", "level", "latitude", "longitude")
    np.testing.assert_array_equal(data["time"], made["times"][[13, 2]])
    np.testing.assert_array_equal(data["temperature"].sel(level=850.0)[1], made["state"][2, ..., 1])
    np.testing.assert_array_equal(data["sea_surface_temperature"][0], made["persisted"][13, ..., 0])
    assert data["temperature"].attrs["units"] == "K"


def test_lazy_fields_are_the_same_and_read_when_they_are_loaded(store, monkeypatch):
    rows, read = [], type(store).take_states
    monkeypatch.setattr(type(store), "take_states", lambda self, wanted: rows.extend(wanted) or read(self, wanted))
    lazy = store.lazy_dataset([13, 2, 7])
    assert rows == []
    part = lazy.isel(time=[1, 2]).load()
    assert sorted(rows) == [2, 7]
    xr.testing.assert_identical(part, store.dataset([2, 7]))


def test_forcings_on_levels_of_their_own_leave_the_state_as_it_is(made):
    soil = Variable("soil_temperature", "forcing", LEVELS[:1], "K", known="persisted")
    ozone = Variable("ozone", "forcing", (600.0,), "kg kg-1", known="persisted")
    spec = StateSpec((*SPEC.variables, soil, ozone), "pressure")
    more = np.random.default_rng(1).standard_normal((*made["persisted"].shape[:-1], 2)).astype(np.float32)
    persisted = np.concatenate([made["persisted"], more], axis=-1)
    data = memory_store(**{**made, "spec": spec, "persisted": persisted}).dataset([13, 2])
    rows = [13, 2]
    np.testing.assert_array_equal(stack_channels(data, spec.state_channels), made["state"][rows])
    np.testing.assert_array_equal(stack_channels(data, spec.known_channels("persisted")), persisted[rows])
    assert data["temperature"].sizes["level"] == len(LEVELS)


def test_small_rows_share_a_chunk_and_large_ones_do_not():
    assert chunk_rows(SPEC, Grid.gaussian(32)) == 10
    assert chunk_rows(SPEC, Grid.gaussian(128)) == 1


class TestDamage:
    """A store that is not whole is refused in one line."""

    @pytest.fixture
    def path(self, made, tmp_path):
        return write(tmp_path / "store.zarr", made)

    def refuse(self, path, what):
        with pytest.raises(DataError, match=what) as error:
            open_store(path)
        assert "\n" not in str(error.value)

    def test_no_store(self, tmp_path):
        self.refuse(tmp_path, "no prepared store there")

    def test_rows_without_a_manifest_are_no_store(self, made, tmp_path):
        StoreWriter.create(tmp_path / "s.zarr", SPEC, GRID, made["times"])
        (tmp_path / "config.yaml").touch()  # of an experiment, whose stage takes the folder for finished
        self.refuse(tmp_path / "s.zarr", r"no prepared store there .* rm -r .*s.zarr && emulator prepare")

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda m: {**m, "format_version": 99}, "format version 99, this program reads 2"),
            (lambda m: {k: v for k, v in m.items() if k != "format_version"}, "format_version is missing"),
            (lambda m: {k: v for k, v in m.items() if k != "segments"}, "lacks 'segments'"),
            (lambda m: {**m, "segments": [{**m["segments"][0], "stop": 99}]}, "does not fit the time axis"),
            (lambda m: {**m, "segments": [{**m["segments"][0], "colour": 1}]}, "damaged"),
            (lambda m: {**m, "grid": Grid.gaussian(8).to_dict()}, "state has shape"),
            (lambda m: [], "damaged"),
        ],
    )
    def test_manifests(self, path, change, what):
        file = path / MANIFEST
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
        self.refuse(path, what)

    def test_half_a_manifest(self, path):
        file = path / MANIFEST
        file.write_text(file.read_text()[:100])
        self.refuse(path, "not valid JSON")

    @pytest.mark.filterwarnings("ignore:Object at std is not recognized")
    @pytest.mark.parametrize("missing", ["state", "statistics/std", "climatology", "digest"])
    def test_missing_arrays(self, path, missing):
        (path / missing / "zarr.json").unlink()
        self.refuse(path, "lacks" if missing != "statistics/std" else "lacks 'std'")

    def test_a_changed_value_is_found_with_its_time(self, path, made):
        StoreWriter(path).array("state")[8, 0, 0, 0] = 1e3
        with pytest.raises(DataError, match=f"row of {clock.text(made['times'][8])} is damaged"):
            open_store(path).verify()

    def test_a_changed_static_field_is_found(self, path):
        StoreWriter(path).array("static")[0, 0, 0] = 1e3
        with pytest.raises(DataError, match="contents hash to"):
            open_store(path)


class TestDamagedRows:
    """Whatever a disk does to a row, who reads it is told its time and is given nothing."""

    ROW = 8

    @pytest.fixture
    def path(self, made, tmp_path, monkeypatch):
        monkeypatch.setattr(store_writer, "_CHUNK_BYTES", 1)  # a row a chunk
        return write(tmp_path / "store.zarr", made)

    def harm(self, path: Path, array: str, how: str) -> None:
        chunk, other = (path / array / f"c.{row}.0.0.0" for row in (self.ROW, self.ROW + 1))
        raw = bytearray(chunk.read_bytes())
        if how == "lost":
            chunk.unlink()
        elif how == "another row":
            shutil.copy(other, chunk)
        elif how == "cut":
            chunk.write_bytes(raw[: len(raw) // 2])
        else:
            raw[{"bit of the data": -5, "bit in the middle": len(raw) // 2, "bit of the head": 5}[how]] ^= 0x10
            chunk.write_bytes(raw)

    @pytest.mark.parametrize("array", ["state", "persisted"])
    @pytest.mark.parametrize(
        "how", ["bit of the data", "bit in the middle", "bit of the head", "cut", "lost", "another row"]
    )
    def test_is_named_by_all_that_read_it_and_others_are_read(self, path, made, array, how):
        self.harm(path, array, how)
        named = f"row of {clock.text(made['times'][self.ROW])}"
        store = open_store(path)
        take = store.take_states if array == "state" else store.take_persisted
        for _ in range(2):  # not only the first time
            with pytest.raises(DataError, match=named) as error:
                take(np.arange(7, 10))
            assert "\n" not in str(error.value)
        np.testing.assert_array_equal(take(np.arange(9, 12)), made[array][9:12])
        with pytest.raises(DataError, match=named):
            store.dataset([2, self.ROW])
        with pytest.raises(DataError, match=named):
            store.verify()
        with pytest.raises(DataError, match=named):
            read_batch(store, np.array([9, 8]), 2)
        with pytest.raises(DataError, match=named):
            open_store(path, in_memory=True)

    def test_a_field_of_zeros_is_kept_and_no_missing_chunk(self, made, tmp_path):
        of = {**made, "state": np.zeros_like(made["state"])}
        store = open_store(write(tmp_path / "zeros.zarr", of))
        np.testing.assert_array_equal(store.read_state(0, 7), of["state"][:7])
        assert list((tmp_path / "zeros.zarr" / "state").glob("c.*"))
        store.verify()


def test_a_store_may_be_reached_by_a_way_up_and_a_strange_name(made, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = open_store(write(Path("../näch ste%20 'x'/store.zarr"), made))
    np.testing.assert_array_equal(store.read_state(0, 7), made["state"][:7])


def test_rows_on_disk_are_indexed_like_an_array_and_aligned(made, tmp_path):
    rows = StoredRows.open(write(tmp_path / "store.zarr", made) / "state")
    assert rows.shape == made["state"].shape
    for key in (3, -1, slice(2, 5), slice(15, 99), slice(None, None, 5), [4, 4, 1], np.array([[1, 2], [9, 0]])):
        np.testing.assert_array_equal(rows[key], made["state"][key])
        assert rows[key].ctypes.data % 64 == 0
    np.testing.assert_array_equal(rows.read(np.array([7, 2]), slice(1, 3)), made["state"][[7, 2], 1:3])
    assert rows[4:4].shape == (0, *made["state"].shape[1:])


class Elsewhere:
    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __getitem__(self, key):
        return self.values[key]


@pytest.mark.parametrize(("in_memory", "expected"), [(True, 3), (False, 7)])
def test_rows_in_memory_are_checked_once_and_those_on_disk_whenever_they_are_read(in_memory, expected, monkeypatch):
    made = synthetic_store(8, 1, n_times=4)
    store = made if in_memory else replace(made, state=Elsewhere(made.state))
    checked, checksum = [], store_module._checksum
    monkeypatch.setattr(store_module, "_checksum", lambda row: checked.append(row) or checksum(row))
    for rows in ([0, 1], [1, 0], [2, 1, 0]):
        store.take_states(np.array(rows))
    assert len(checked) == expected
    made.state[3] += 1
    with pytest.raises(DataError, match="is damaged"):
        store.take_states(np.array([0, 3]))


def test_everything_that_a_store_holds_is_in_its_hash():
    store = memory_store(**parts())
    spec = StateSpec((Variable("soil", "forcing", known="climatological"),))
    tables = [np.full((366, *GRID.shape, 1), x, np.float32) for x in (0, 1)]
    builders = [ForcingBuilder(GRID, spec, HOURS_6, table) for table in tables]
    warmer = replace(store.climatology, table=np.asarray(store.climatology.table) + 1)
    changes = {
        "spec": replace(store.spec, variables=store.spec.variables[::-1]),
        "grid": Grid.from_arrays(GRID.latitude, np.asarray(GRID.longitude) + 1),
        "timestep": store.timestep // 2,
        "segments": (replace(store.segments[0], split="test"), *store.segments[1:]),
        "times": store.times + HOUR,
        "static": store.static + 1,
        "statistics": replace(store.statistics, tendency_std=store.statistics.tendency_std * 2),
        "climatology": warmer,
        "forcing_builder": builders[0],
        "digests": store.digests[::-1],
    }
    hashes = {name: data_hash_of(replace(store, **{name: value})) for name, value in changes.items()}
    hashes |= {"": store.data_hash, "other table": data_hash_of(replace(store, forcing_builder=builders[1]))}
    assert len(set(hashes.values())) == len(hashes), hashes


def test_a_worker_does_not_read_a_store_that_was_prepared_anew_meanwhile(tmp_path):
    path = write(tmp_path / "store.zarr", parts())
    sent = pickle.dumps(open_store(path))  # our own bytes
    shutil.rmtree(path)
    write(path, parts(seed=1))
    _reopen.cache_clear()
    with pytest.raises(DataError, match=r"store.zarr: was prepared anew while it was in use; start again"):
        pickle.loads(sent)
