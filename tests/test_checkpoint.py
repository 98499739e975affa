"""The run folder is enough to forecast, and the forecaster does what its protocol says."""

import contextlib
import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from tiny_store import SPEC, TIMESTEP, write_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.statistics import Statistics
from data_prep.spec import stack_channels
from emulator import checkpoint
from emulator.checkpoint import load_forecaster, named_leaves, replace_leaves, write_description
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.forecasters import neural
from emulator.pretrained import ship_run
from emulator.stepping.rollout import trajectory
from emulator.stepping.sponge import Sponge
from emulator.training import checkpoints as states
from emulator.training.checkpoints import Checkpoints
from emulator.training.train import train

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
CONFIG = TrainConfig(
    batch_size=4, stages=[RolloutStage(steps=3, learning_rate=1e-2)], validation_windows=2, validation_steps=2
)
REGION = Grid.from_arrays(np.arange(15, 77.5, 2.5), np.arange(200, 332.5, 2.5))


@pytest.fixture(scope="module", params=[Grid.gaussian(8), REGION], ids=["globe", "region 25x53"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    store = write_store(folder / "store.zarr", request.param)
    train(CONFIG, MODEL, folder / "store.zarr", folder / "run", 0, {"name": "test"})
    (folder / "store.zarr").rename(folder / "gone")
    shutil.rmtree(folder / "run" / "checkpoints")
    return write_store(folder / "again.zarr", request.param), folder / "run", store.data_hash


def test_forecast_from_the_run_folder_alone_equals_single_steps(trained):
    store, run_dir, data_hash = trained
    forecaster = load_forecaster(run_dir)
    assert (forecaster.name, forecaster.grid, forecaster.spec) == ("network", store.grid, store.spec)
    assert forecaster.data_hash == data_hash
    np.testing.assert_array_equal(forecaster.surface_geopotential, store.surface_geopotential)
    rows = np.array([2, 30])
    initial = store.dataset(rows).drop_vars("total_precipitation_6hr")  # diagnostics are not needed
    leads = np.arange(1, 12) * TIMESTEP
    blocks = list(forecaster.forecast(initial, leads))
    assert len(blocks) > 1
    assert len({b.sizes["lead_time"] for b in blocks[:-1]}) == 1
    forecast = xr.concat(blocks, "lead_time")
    np.testing.assert_array_equal(forecast["lead_time"].values, leads)
    np.testing.assert_array_equal(forecast["init_time"].values, store.times[rows])
    assert forecast["temperature"].dims == ("init_time", "lead_time", "level", "latitude", "longitude")
    assert list(forecast.data_vars) == list(dict.fromkeys(c.variable for c in store.spec.state_channels))
    state = np.concatenate([store.read_state(r, r + 1) for r in rows])
    for i in range(11):
        kept = np.concatenate([store.take_persisted(np.array([r])) for r in rows])
        forcing = store.forcing_builder.at(store.times[rows] + leads[i], kept)
        arrays = jnp.asarray(state), jnp.asarray(forcing), jnp.zeros(2, int)
        state = np.asarray(forecaster.stepper.advance(forecaster.params, *arrays))
        found = stack_channels(forecast.isel(lead_time=i), store.spec.state_channels)
        np.testing.assert_allclose(found, state, rtol=1e-5, atol=1e-5)
    assert float(np.abs(state[..., :2] - store.read_state(2, 3)[..., :2]).max()) > 0.01


def test_leads_asked_for_are_the_ones_given(trained):
    store, run_dir, _ = trained
    forecaster = load_forecaster(run_dir)
    initial = store.dataset([0])
    leads = np.array([2, 5, 9, 10]) * TIMESTEP
    sparse = xr.concat(forecaster.forecast(initial, leads), "lead_time")
    dense = xr.concat(forecaster.forecast(initial, np.arange(1, 11) * TIMESTEP), "lead_time")
    np.testing.assert_array_equal(sparse["lead_time"].values, leads)
    xr.testing.assert_equal(sparse, dense.sel(lead_time=leads))


def test_a_network_of_several_steps_forecasts_by_the_longest_and_makes_no_more_than_it_must(tmp_path, monkeypatch):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8))
    model = MODEL.model_copy(update={"time_steps": [1, 4]})
    train(CONFIG, model, tmp_path / "store.zarr", tmp_path / "run", 0, {"name": "test"})
    forecaster, made = load_forecaster(tmp_path / "run"), []
    rolled = neural._roll

    def note(*arguments):
        made.append(np.asarray(arguments[4]).tolist())
        return rolled(*arguments)

    monkeypatch.setattr(neural, "_roll", note)
    initial = store.dataset(np.array([2, 30]))

    def forecast(rows):
        made.clear()
        return xr.concat(forecaster.forecast(initial, np.array(rows) * TIMESTEP), "lead_time")

    dense = forecast(range(1, 10))
    assert [which for block in made for which in block][:9] == [0, 0, 0, 1, 0, 0, 0, 1, 0]
    sparse = forecast([4, 8])
    assert made == [[1, 1]]
    xr.testing.assert_allclose(sparse, dense.sel(lead_time=np.array([4, 8]) * TIMESTEP), rtol=1e-6)
    state = jnp.asarray(np.concatenate([store.read_state(r, r + 1) for r in (2, 30)]))
    kept = np.concatenate([store.take_persisted(np.array([r])) for r in (2, 30)])
    forcing = store.forcing_builder.at(store.times[[2, 30]] + 4 * TIMESTEP, kept)
    by_one_step = forecaster.stepper.advance(forecaster.params, state, jnp.asarray(forcing), jnp.ones(2, int))
    found = stack_channels(dense.sel(lead_time=4 * TIMESTEP), store.spec.state_channels)
    np.testing.assert_allclose(found, by_one_step, rtol=1e-5, atol=1e-5)
    held = replace(forecaster, sponge=Sponge(np.full(4, 0.5, np.float32), store.climatology))
    relaxed = xr.concat(held.forecast(initial, np.array([4]) * TIMESTEP), "lead_time")
    climate = store.climatology.at(store.times[[2, 30]] + 4 * TIMESTEP)
    expected = found + (1 - 0.5**4) * (climate - found)
    np.testing.assert_allclose(
        stack_channels(relaxed.isel(lead_time=0), store.spec.state_channels), expected, rtol=1e-4, atol=1e-4
    )


def test_no_block_is_begun_before_it_is_asked_for(trained, monkeypatch):
    """Or its cost would be counted against nobody, and physics, which works ahead of nothing, would look dear."""
    store, run_dir, _ = trained
    begun = []
    rolled = neural._roll
    monkeypatch.setattr(neural, "_roll", lambda *a, **k: begun.append(len(begun)) or rolled(*a, **k))
    for number, _ in enumerate(load_forecaster(run_dir).forecast(store.dataset([0]), np.arange(1, 12) * TIMESTEP), 1):
        assert len(begun) == number
    assert len(begun) > 1


def test_bad_initial_fields_are_refused(trained):
    store, run_dir, _ = trained
    forecaster = load_forecaster(run_dir)
    initial, leads = store.dataset([0, 1]), np.array([1]) * TIMESTEP
    with pytest.raises(DataError, match=r"missing sea_surface_temperature"):
        next(forecaster.forecast(initial.drop_vars("sea_surface_temperature"), leads))
    with pytest.raises(DataError, match=r"initial fields are on .*; the network was trained on"):
        next(forecaster.forecast(initial.isel(latitude=slice(1, None)), leads))
    broken = initial.copy(deep=True)
    broken["temperature"][1, 1, 3, 4] = np.nan
    with pytest.raises(DataError, match=rf"temperature@850 at {store.times[1]!s:.16} holds NaN"):
        next(forecaster.forecast(broken, leads))


def test_the_range_of_initial_fields_is_found_without_a_copy_of_them_all(trained):
    store, run_dir, _ = trained
    initial = store.dataset(np.arange(70))
    warmest, hottest_sea = (
        float(initial["temperature"].isel(level=0).max()),
        float(initial["sea_surface_temperature"].max()),
    )
    forecaster = replace(
        load_forecaster(run_dir), trained_on={"temperature@500": (0.0, 250.0), "sea_surface_temperature": (0.0, 300.0)}
    )
    tracemalloc.start()
    said = forecaster.attributes(initial)["outside_training_range"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "temperature@500 " in said and f" to {warmest:.6g}, trained on 0 to 250" in said
    assert ("sea_surface_temperature" in said) == (hottest_sea > 300)
    assert peak < max(initial.nbytes / 2, 2**19)  # of the small grid, what the program itself needs


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_forecast_that_stops_being_finite_is_stopped_at_lead_and_variable(trained, monkeypatch, value):
    store, run_dir, _ = trained
    forecaster = load_forecaster(run_dir)

    def diverging(stepper, params, bases, forcing, which, _):
        states, bases = trajectory(stepper, params, bases, jnp.asarray(forcing), jnp.asarray(which))
        states = np.array(states)
        states[1, 2:, 0, 0, 2] = value
        return states, bases

    monkeypatch.setattr("emulator.forecasters.neural._roll", diverging)
    blocks = forecaster.forecast(store.dataset([0, 5]), np.arange(1, 5) * TIMESTEP)
    with pytest.raises(
        DataError, match=rf"from {store.times[5]!s:.16} is not finite any more at lead 18 h in specific_humidity@850"
    ):
        list(blocks)


def test_damaged_folders_are_refused_in_one_line(trained, tmp_path):
    _, run_dir, _ = trained
    with pytest.raises(DataError, match=r"no run folder \(run.json is missing\)"):
        load_forecaster(tmp_path)

    def damaged(name):
        copy = tmp_path / name
        shutil.copytree(run_dir, copy)
        return copy

    folder = damaged("cut")
    weights = folder / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(DataError, match=r"weights.npz: cannot be read .*; train again"):
        load_forecaster(folder)
    weights.unlink()
    with pytest.raises(DataError, match=r"cut/weights.npz: not there yet: .* first checkpoint"):
        load_forecaster(folder)
    folder = damaged("json")
    (folder / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run.json: damaged"):
        load_forecaster(folder)
    folder = damaged("other")
    description = json.loads((folder / "run.json").read_text())
    description["model"]["width"] = 16
    (folder / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"run.json: damaged, its contents do not match its hash"):
        load_forecaster(folder)
    del description["sha256"]
    (folder / "run.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"run.json: damaged, its contents do not match its hash"):
        load_forecaster(folder)
    write_description(folder, description)
    with pytest.raises(DataError, match=r"weights.npz: array .* has shape .*, expected"):
        load_forecaster(folder)


def test_a_run_that_ships_is_told_from_a_damaged_one(trained, tmp_path):
    ship_run(trained[1], tmp_path)
    load_forecaster(tmp_path)
    description = tmp_path / "run.json"
    description.write_text(description.read_text().replace('"timestep_seconds": ', '"timestep_seconds": 1'))
    with pytest.raises(DataError, match=r"run.json: damaged, its contents do not match its hash"):
        load_forecaster(tmp_path)


DATA = {
    "prognostic": {"temperature": {"source": "t"}, "specific_humidity": {"source": None}},
    "forcing": {"sea_surface_temperature": {"source": "sst"}},
    "diagnostic": {"total_precipitation_6hr": {"source": "tp"}},
    "nan": "fill_mean",
}


@pytest.mark.parametrize("kept", [True, False], ids=["now", "in older folders"])
def test_a_network_loads_whatever_another_version_has_in_its_data_section(trained, tmp_path, kept):
    """What they say of reading is kept beside it, and in older folders taken from it key by key."""
    copy = tmp_path / "run"
    shutil.copytree(trained[1], copy)
    description = checkpoint.read_description(copy)
    assert (description["sources"], description["fill_nan"]) == ({}, False)
    sources = {"temperature": "t", "sea_surface_temperature": "sst", "total_precipitation_6hr": "tp"}
    reading = {"sources": sources, "fill_nan": True}
    data = {"key_of_tomorrow": 1, **({} if kept else DATA)}
    others = {name: value for name, value in description.items() if name not in reading}
    write_description(copy, {**others, "experiment": {"data": data}, **(reading if kept else {})})
    network = load_forecaster(copy)
    assert (network.sources, network.fill_nan) == (sources, True)


def test_what_a_run_folder_says_of_reading_is_what_its_config_does(tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8), n_times=8)
    told = {"precision": "float32", "seed": 0, "identity": "i", "experiment": {"data": DATA}}
    checkpoint.describe_run(tmp_path / "run", store, MODEL, **told)
    description = checkpoint.read_description(tmp_path / "run")
    assert description["sources"] == {
        "temperature": "t",
        "sea_surface_temperature": "sst",
        "total_precipitation_6hr": "tp",
    }
    assert description["fill_nan"] is True


def test_a_network_is_loaded_without_drawing_one(trained, monkeypatch):
    monkeypatch.setattr("emulator.stepping.stepper.jax.jit", lambda *_, **__: pytest.fail("compiles"))
    load_forecaster(trained[1])


def test_leaves_take_the_places_of_shapes_and_of_nothing_else():
    shapes = {"a": jax.ShapeDtypeStruct((3,), jnp.bfloat16), "b": jax.ShapeDtypeStruct((), jnp.float32)}
    back = replace_leaves(shapes, {"a": np.arange(3.0), "b": np.float64(2)}, source="test")
    assert (back["a"].dtype, back["b"].dtype) == (jnp.bfloat16, np.float32)
    for arrays, wrong in (
        ({"a": np.zeros(2), "b": np.zeros(())}, r"test: array a has shape \(2,\), expected \(3,\)"),
        ({"a": np.zeros(3), "b": np.zeros(()), "c": np.zeros(1)}, "test: array c is unknown"),
    ):
        with pytest.raises(DataError, match=wrong):
            replace_leaves(shapes, arrays, source="test")


def test_leaves_go_there_and_back_by_name():
    tree = {"a": [np.arange(3.0, dtype=np.float32)], "b": np.float32(2)}
    arrays = named_leaves(tree)
    assert set(arrays) == {"a/0", "b"}
    back = replace_leaves(tree, {k: v + 1 for k, v in arrays.items()}, source="test")
    np.testing.assert_array_equal(back["a"][0], [1, 2, 3])
    assert type(back["a"][0]) is np.ndarray  # a second copy on a device might not fit
    with pytest.raises(DataError, match="array b is missing"):
        replace_leaves(tree, {"a/0": arrays["a/0"]}, source="test")


def test_hashes_are_taken_and_states_restored_without_copies_of_what_is_there(tmp_path):
    state = {"weights": np.ones((2, 2**20), np.float32)}
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.finish()
        tracemalloc.start()
        states._digest_of_leaves(state)
        checkpoints.restore(state)  # its arrays are TensorStore's, which are not counted
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < state["weights"].nbytes / 2


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.float32(2), np.zeros((0, 3)), np.ones(3, jnp.bfloat16), np.array(True)]
)
def test_a_hash_is_of_name_type_shape_and_bytes(array):
    told = f"a {array.dtype.name} {np.shape(array)}".encode() + np.ascontiguousarray(array).tobytes()
    assert states._digest_of_leaves({"a": array}) == hashlib.sha256(told).hexdigest()


def test_saving_keeps_training_waiting_for_the_copy_alone(tmp_path, monkeypatch):
    go_on, digest = threading.Event(), states._digest_of_leaves
    monkeypatch.setattr(states, "_digest_of_leaves", lambda leaves: digest(leaves) if go_on.wait(60) else "late")
    array = np.full(4, 1.0, np.float32)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, {"weights": array}, {"weights": array})
        array[:] = 2.0  # as a donated buffer
        assert not (tmp_path / "weights.npz").exists()
        go_on.set()
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        np.testing.assert_array_equal(checkpoints.restore({"weights": array})["weights"], np.full(4, 1.0))
    with np.load(tmp_path / "weights.npz") as file:
        np.testing.assert_array_equal(file["weights"], np.full(4, 1.0))


@pytest.mark.parametrize("later", ["save", "close"])
def test_what_goes_wrong_in_the_background_is_raised_in_training(tmp_path, monkeypatch, later):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(states, "write_arrays", full)
    tree = {"weights": np.zeros(4, np.float32)}
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, tree, tree)
        with pytest.raises(OSError, match="No space left on device"):
            checkpoints.save(2, tree, tree) if later == "save" else checkpoints.close()


_KILLED_WHILE_SAVING = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from emulator.training.checkpoints import Checkpoints

folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(1, {"weights": np.full(4, 1.0, np.float32)})
checkpoints._being_written.result()

def power_cut():
    while not [p for p in (folder / "checkpoints").iterdir() if p.name.startswith("2.")]:
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=power_cut, daemon=True).start()
checkpoints.save(2, {"weights": np.random.default_rng(0).standard_normal(2**26).astype(np.float32)})
time.sleep(60)
"""


def test_a_state_of_another_format_is_refused_before_it_is_read(tmp_path, monkeypatch):
    array = np.full(4, 1.0, np.float32)
    monkeypatch.setattr("emulator.training.checkpoints.STATE_VERSION", 1)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(1, {"of another time": array})
    monkeypatch.undo()
    with (
        contextlib.closing(Checkpoints(tmp_path)) as checkpoints,
        pytest.raises(
            DataError, match=r"format version 1, this program reads 2; train again.* or go on with the program"
        ),
    ):
        checkpoints.restore({"weights": array})


def test_weights_in_another_order_are_refused_and_those_of_a_program_that_kept_none_are_not(tmp_path, monkeypatch):
    """Kernels of one shape lie in one array: names and shapes are the same where two of them have changed places."""
    state = {"3x3x4x4": np.zeros((2, 3, 3, 4, 4), np.float32)}
    with contextlib.closing(Checkpoints(tmp_path, "first second")) as checkpoints:
        checkpoints.save(1, state)
    with contextlib.closing(Checkpoints(tmp_path, "first second")) as checkpoints:
        assert checkpoints.restore(state) is not None
    with (
        contextlib.closing(Checkpoints(tmp_path, "second first")) as checkpoints,
        pytest.raises(DataError, match=r"1: its weights have other names or another order .*; train again.* or go on"),
    ):
        checkpoints.restore(state)
    metadata = tmp_path / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
    kept = json.loads(metadata.read_text())
    del kept["custom_metadata"]["order"]
    metadata.write_text(json.dumps(kept))
    with contextlib.closing(Checkpoints(tmp_path, "second first")) as checkpoints:
        assert checkpoints.restore(state) is not None


def test_the_last_good_checkpoint_survives_a_kill_in_the_middle_of_a_save(tmp_path):
    command = [sys.executable, "-c", _KILLED_WHILE_SAVING, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    left = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert "2" not in left
    assert [name for name in left if name.startswith("2.")]  # killed in the middle, not before or after
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        restored = checkpoints.restore({"weights": np.zeros(4, np.float32)})
        np.testing.assert_array_equal(restored["weights"], np.full(4, 1.0))
        checkpoints.save(2, {"weights": np.full(4, 2.0, np.float32)})
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        restored = checkpoints.restore({"weights": np.zeros(4, np.float32)})
        np.testing.assert_array_equal(restored["weights"], np.full(4, 2.0))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"1", "2"}


def test_initial_fields_turned_north_to_south_are_told(trained):
    store, run_dir, _ = trained
    forecaster, rows = load_forecaster(run_dir), np.array([2, 30])
    profiles, initial = forecaster.profiles, store.dataset(rows)  # of noise, without a north and a south
    slope = xr.DataArray(
        np.linspace(-50, 50, len(store.grid.latitude)), {"latitude": initial["latitude"].values}, "latitude"
    )
    sloping = replace(profiles, values=profiles.values + slope.values[:, None].astype(np.float32))
    forecaster = replace(forecaster, profiles=sloping)
    sound = initial.assign({v.name: (v + slope).transpose(*v.dims) for v in initial.values() if "latitude" in v.dims})
    turned = sound.assign(temperature=sound["temperature"].copy(data=sound["temperature"].values[..., ::-1, :]))
    said = [forecaster.attributes(fields)["outside_training_range"] for fields in (sound, turned)]
    words = f"temperature@500 at {store.times[2]!s:.16} seems to be turned north to south"
    assert [words in text for text in said] == [False, True]


def test_a_network_knows_the_ranges_of_its_forcings_too():
    zeros, n = np.zeros(4, np.float32), np.zeros(2, np.float32)
    statistics = Statistics(zeros, zeros, zeros, zeros, n, n, n, n)
    low, high = np.arange(4.0), np.arange(4.0) + 10
    ranges = {"lowest": low, "highest": high, "forcing_lowest": low[:2] + 100, "forcing_highest": high[:2] + 100}
    found = checkpoint._trained_on(SPEC, replace(statistics, **ranges))
    assert found == {
        "temperature@500": (0, 10),
        "temperature@850": (1, 11),
        "specific_humidity@850": (2, 12),  # rain is no initial field
        "toa_incident_solar_radiation": (100, 110),
        "sea_surface_temperature": (101, 111),
    }
