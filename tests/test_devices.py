"""Many devices and many processes do what one does, and say to each other no more than they must."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import fast_compile
import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from tiny_store import write_store
from train_worker import MODEL

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from emulator.config import MeshConfig, RolloutStage, TrainConfig, UNetConfig
from emulator.hardware import launcher
from emulator.hardware.launcher import JAX_VARIABLES, processes_here
from emulator.training.devices import AXES, Layout, exit_code, failing_together, join_processes
from emulator.training.train import train

HERE = Path(__file__).parent
FAST_COMPILE = fast_compile.flags(0)
LIMIT_SECONDS = 300
"""A test that hangs fails; far above what a slow machine needs."""


def start(script, *arguments, environment):
    variables = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    variables |= {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), **environment}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    try:
        return process.communicate(timeout=LIMIT_SECONDS)[0]
    finally:
        process.kill()


# ---- eight devices


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    """What ``sharding_worker`` found on meshes of eight virtual devices."""
    folder = tmp_path_factory.mktemp("meshes")
    write_store(folder / "store.zarr", Grid.gaussian(16))
    environment = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=8 {FAST_COMPILE}",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),  # the training before forecasts is that of one device again
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    process = start("sharding_worker.py", folder / "store.zarr", folder / "out.json", environment=environment)
    output = finish(process)
    assert process.returncode == 0, output
    return json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize("mesh", ["8x1", "2x4"])
def test_eight_devices_learn_what_one_learns(meshes, mesh):
    """Gradients agree to the last digits, the loss as well as a sum of so many terms is known.

    Summed in any order in float32, n terms are known to a few u sqrt(n) with u = 2^-24 (Higham and Mary 2019,
    doi:10.1137/18M1226312). JAX 0.10.0 on a CPU makes use of that: on one device its loss is off by 8e-6 of itself.
    """
    one, many = meshes["1x1"], meshes[mesh]
    (loss_of_one, *norms_of_one), (loss, *norms) = np.transpose(one["norms"]), np.transpose(many["norms"])
    np.testing.assert_allclose(norms, norms_of_one, rtol=1e-6)
    np.testing.assert_allclose(loss, loss_of_one, rtol=4 * 2.0**-24 * one["terms"] ** 0.5)
    difference = np.concatenate(many["gradients"]) - np.concatenate(one["gradients"])
    assert np.linalg.norm(difference) < 1e-6 * np.linalg.norm(np.concatenate(one["gradients"]))
    for a, b in zip(one["params"], many["params"], strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)
    assert max(np.ptp(norms) for norms in np.transpose(one["norms"])) > 0.01  # it moved
    np.testing.assert_allclose(many["rmse"], one["rmse"], rtol=1e-5)
    np.testing.assert_allclose(many["activity"], one["activity"], rtol=1e-5)


def test_eight_devices_see_the_wind_that_one_sees(meshes):
    one, many = meshes["advected"]
    np.testing.assert_allclose(many["norms"], one["norms"], rtol=1e-4)
    assert many["kinds"] == ["all-reduce"]  # each looks upstream in its own states


@pytest.mark.parametrize("mesh", ["1x1", "8x1", "2x4"])
def test_devices_take_batches_out_of_what_they_hold(meshes, mesh):
    """Each its own windows and latitudes, without a word to the others."""
    assert meshes[mesh]["held"]
    assert meshes[mesh]["of_held"] == [True, True]
    assert meshes[mesh]["of_gathering"] == {}


def test_sharing_a_batch_costs_one_sum_of_gradients(meshes):
    found = meshes["8x1"]["collectives"]
    gradients = 4 * sum(map(len, meshes["8x1"]["params"]))
    assert set(found["kinds"]) == {"all-reduce"}
    assert gradients <= found["reduced_bytes"] <= gradients + 1024
    assert found["in_loops"] == []  # once a step, not once a model step


def test_sharing_latitudes_costs_rows_from_the_neighbours_and_one_sum_of_gradients(meshes):
    found = meshes["2x4"]["collectives"]
    gradients = 4 * sum(map(len, meshes["2x4"]["params"]))
    assert set(found["kinds"]) == {"all-reduce", "collective-permute"}
    assert gradients <= found["reduced_bytes"] <= gradients + 1024
    assert found["in_loops"] == ["collective-permute"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("rows", "16 rows cannot be split into 8 bands of whole cells of 4 rows"),
        ("batch", "12 windows cannot be shared evenly by 8 devices; choose a multiple of 8"),
        ("parts", "8 windows in 4 parts cannot be shared evenly by 4 devices; choose a multiple of 16"),
        ("devices", "data 3 x space 3 does not fit 8 devices"),
        ("left_over", "data -1 x space 3 does not fit 8 devices"),
        ("model", "this transformer needs all latitudes at once"),
    ],
)
def test_what_devices_cannot_share_is_refused_in_one_line(meshes, what, expected):
    message = meshes["refusals"][what]
    assert expected in message
    assert message.startswith("train.")
    assert "\n" not in message


def test_all_devices_share_the_batch_unless_told_otherwise(meshes):
    assert meshes["all_devices"] == [8, 1]


@pytest.mark.parametrize(
    ("grid", "remedy"),
    [
        (Grid.gaussian(12), "choose a divisor of 6"),
        (
            Grid.from_arrays(np.linspace(-90, 90, 13), np.arange(24) * 15.0),
            r"set it to 1, or bring the data to 12 rows without the poles \(data.regrid\)",
        ),
        (Grid.from_arrays(np.arange(13.0), np.arange(24.0)), "set it to 1"),
    ],
    ids=["gaussian", "pole rows", "region"],
)
def test_latitudes_that_cannot_be_split_are_refused_with_what_to_do(grid, remedy):
    layout = Layout(jax.sharding.AbstractMesh((1, 4), AXES))
    with pytest.raises(ConfigError, match=rf"rows cannot be split into 4 bands of whole cells of 2 rows; {remedy}$"):
        layout.check_latitudes(UNetConfig(patch=2, width=8, multipliers=[1], blocks=1), grid)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("UNAVAILABLE: failed to connect to all addresses", True),
        ("DEADLINE_EXCEEDED: Barrier timed out. Id: save:0", True),
        ("UNKNOWN: Gloo AllReduce failed: [pair.cc:534] Connection closed by peer [127.0.0.1]:4321", True),
        ("INTERNAL: NCCL operation async_err failed: remote process exited or there was a network error", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes", False),
        ("INVALID_ARGUMENT: Executable expected parameter 0 of size 4 but got buffer with incompatible size 8", False),
        ("INTERNAL: ptxas exited with non-zero error code 139", False),
        ("INTERNAL: NCCL operation ncclAllReduce failed: invalid usage", False),
    ],
)
def test_only_a_broken_connection_is_told_as_the_loss_of_a_process(monkeypatch, said, lost):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    expected = DataError if lost else jax.errors.JaxRuntimeError
    with pytest.raises(expected, match=re.escape(said)), failing_together():
        raise jax.errors.JaxRuntimeError(said)


# ---- two processes

CONFIG = TrainConfig(
    batch_size=4,
    stages=[RolloutStage(steps=10, warmup=2)],
    checkpoint_every=2,
    validate_every=10,
    validation_windows=4,
    validation_steps=2,
    log_every=1,
)


def start_two(store, run_dir, cache, *, config=CONFIG, slow_disk=None, **of_second):
    """Two processes on loopback; the second kills or interrupts itself when it reads a batch (``die_at=8``)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "XLA_FLAGS": FAST_COMPILE,
    }
    arguments = (store, run_dir, config.model_dump_json(), *(() if slow_disk is None else ("--slow-disk", slow_disk)))
    more = [f"--{name.replace('_', '-')}={value}" for name, value in of_second.items()]
    return [
        start("train_worker.py", *arguments, *more * i, environment=common | {"JAX_PROCESS_ID": str(i)})
        for i in range(2)
    ]


def norms(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [[line[k] for k in ("loss", "gradient_norm", "parameter_norm")] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_two_processes_survive_the_death_of_one_and_end_where_one_process_ends(tmp_path):
    store = tmp_path / "store.zarr"
    write_store(store, Grid.gaussian(8))

    first, second = start_two(store, tmp_path / "two", tmp_path / "xla", die_at=8)
    finish(second)
    died = time.monotonic()
    output = finish(first)
    assert time.monotonic() - died < 90  # not the runtime's five minutes
    assert first.returncode == 1, output
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, output
    assert re.search(
        r"process 0 of 2 lost another process of this run .*: they go on from the last checkpoint", errors[0]
    )
    saved = [int(p.name) for p in (tmp_path / "two" / "checkpoints").iterdir() if p.name.isdigit()]
    assert saved
    assert max(saved) < 10

    again = start_two(store, tmp_path / "two", tmp_path / "xla")
    outputs = [finish(process) for process in again]
    assert [process.returncode for process in again] == [0, 0], outputs
    assert f"going on from step {max(saved)}" in outputs[0]
    assert "validation at step" not in outputs[1]  # one of them speaks

    train(CONFIG, MODEL, store, tmp_path / "one", 0, {"name": "test"})
    np.testing.assert_allclose(norms(tmp_path / "two"), norms(tmp_path / "one"), rtol=1e-4)
    with np.load(tmp_path / "two" / "weights.npz") as two, np.load(tmp_path / "one" / "weights.npz") as one:
        assert set(two.files) == set(one.files)
        # all together: where a gradient is next to nothing, Adam makes a step of its rounding
        difference = sum(np.sum((two[name] - one[name]) ** 2) for name in one.files) ** 0.5
        assert difference < 1e-4 * sum(np.sum(one[name] ** 2) for name in one.files) ** 0.5


@pytest.mark.slow
def test_an_interrupt_stops_all_and_the_first_process_has_the_time_that_its_checkpoint_takes(tmp_path):
    store, endless = tmp_path / "store.zarr", 10**6
    write_store(store, Grid.gaussian(8))
    config = CONFIG.model_copy(
        update={"stages": [RolloutStage(steps=endless)], "checkpoint_every": endless, "validate_every": endless}
    )
    processes = start_two(store, tmp_path / "run", tmp_path / "xla", config=config, slow_disk=8, interrupt_at=3)
    outputs = [finish(process) for process in processes]
    assert [process.returncode for process in processes] == [130, 130], outputs
    stopped = {re.search(rf"stopped at step (\d+) of {endless}, state saved", output).group(1) for output in outputs}
    saved = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()}
    assert len(stopped) == 1 and stopped == saved
    assert (tmp_path / "run" / "weights.npz").is_file()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES given, but not JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID"),
        (
            {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"},
            "must be whole numbers",
        ),
        (
            {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"},
            "could not join the others",
        ),
    ],
)
def test_processes_that_are_told_nonsense_say_so(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=expected):
        join_processes()


@pytest.fixture
def initialized(monkeypatch):
    """What ``jax.distributed.initialize`` is called with, in an environment that says nothing yet."""
    for name in [n for n in os.environ if n.startswith(("JAX_", "SLURM_", "OMPI_", "CUDA_"))]:
        monkeypatch.delenv(name)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **how: calls.append(how))
    monkeypatch.setattr(launcher, "_told_here", [])
    return calls


def test_processes_that_are_named_within_a_job_take_all_that_they_see(initialized, monkeypatch):
    for name, value in zip(JAX_VARIABLES, ("node:1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    join_processes()
    assert initialized[0]["cluster_detection_method"] == "deactivate"
    assert (initialized[0]["coordinator_address"], initialized[0]["process_id"]) == ("node:1", 1)


@pytest.mark.parametrize(
    ("tasks", "more", "said"), [(2, {}, True), (8, {}, False), (2, {"JAX_LOCAL_DEVICE_IDS": "0,1"}, False)]
)
def test_gpus_that_no_task_takes_are_told(initialized, monkeypatch, caplog, tasks, more, said):
    slurm = {"SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": "2", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    for name, value in (slurm | more).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax, "process_count", lambda: tasks)
    join_processes()
    assert ("this node has 4 and fewer tasks" in caplog.text) == said
    assert "cluster_detection_method" not in initialized[0]


@pytest.mark.parametrize(
    ("variables", "here"),
    [
        ({}, 8),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}, 4),
        ({"SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_NUM_NODES": "2"}, 4),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "much"}, 8),
    ],
)
def test_processes_of_one_machine_are_counted(initialized, monkeypatch, variables, here):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes_here(8) == here


def test_processes_that_are_named_tell_each_other_where_they_are(initialized, monkeypatch):
    for name, value in zip(JAX_VARIABLES, ("node:1", "4", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # of a job in which they were started by hand
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda host: np.array([host, host, host + 1, host + 1]))
    join_processes()
    assert processes_here(4) == 2


def test_devices_share_the_initial_times_of_forecasts(meshes):
    """Eight times by eight devices, six by six; each device computes its own and says nothing to the others."""
    for found in meshes["forecasts"].values():
        np.testing.assert_allclose(found["values"], found["one_by_one"], rtol=1e-5, atol=1e-5)
    assert {times: found["devices"] for times, found in meshes["forecasts"].items()} == {"8": 8, "6": 6, "1": 1}


@pytest.mark.slow
@pytest.mark.physics
def test_devices_share_the_members_of_physics(tmp_path):
    """As on accelerators, where a vmap holds all members; each device says nothing to the others."""
    pytest.importorskip("jcm")
    flags = f"--xla_force_host_platform_device_count=4 {FAST_COMPILE}"
    process = start("physics_sharing_worker.py", tmp_path / "out.json", environment={"XLA_FLAGS": flags})
    output = finish(process)
    assert process.returncode == 0, output
    found = json.loads((tmp_path / "out.json").read_text())
    alone, together = found["one_by_one"], found["together"]
    assert (alone["devices"], together["devices"], found["collectives"]["kinds"]) == (1, 4, {})
    for name, field in alone["fields"].items():
        np.testing.assert_allclose(together["fields"][name], field, rtol=1e-5, atol=1e-3 * np.std(field))
    members = np.reshape(alone["fields"]["temperature"], (8, -1))
    assert np.ptp(members, axis=0).max() > 1


def test_a_single_process_joins_nobody_and_ends_as_usual(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    join_processes()
    assert exit_code(1) == 1
    layout = Layout.of(MeshConfig())
    assert (layout.data, layout.bands, layout.writes) == (1, 1, True)
    np.testing.assert_array_equal(layout.windows_here(4), np.arange(4))
