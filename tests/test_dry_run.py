"""A dry run tells the cost and trains nothing; memory is held against the device before training."""

import dataclasses
import logging
import re
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import yaml
from tiny_store import write_store

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.cli import main
from emulator.config import MeshConfig, RolloutStage, TrainConfig, UNetConfig, load_config
from emulator.hardware.machine import device_memory
from emulator.training import budget, loader
from emulator.training.budget import AHEAD, Programs, check_memory, check_validation_memory, step_flops
from emulator.training.devices import WHOLE, Layout
from emulator.training.dry_run import StageCost, TrainingCost, dry_run
from emulator.training.job import look_ahead, set_up
from emulator.training.loader import Shape, Windows
from emulator.training.on_devices import OnDevices
from emulator.training.train import train
from emulator.training.train_step import unrolled
from emulator.training.validation import Validation

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
GIB = 2**30
ONE = Layout.of(MeshConfig())


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment whose store is prepared: its config file and folder."""
    folder = tmp_path_factory.mktemp("experiment")
    write_store(folder / "store.zarr", Grid.gaussian(8))
    config = {
        "name": "test",
        "workdir": str(folder),
        "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
        "model": MODEL.model_dump(),
        "train": {
            "batch_size": 4,
            "stages": [
                {"steps": 50},
                {"steps": 10, "rollout": 3, "free_steps": 1, "batch_size": 2, "random_length": True},
            ],
            "validation_windows": 4,
            "validation_steps": 2,
        },
    }
    (folder / "experiment.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_dry_run_says_what_training_costs_and_writes_nothing(experiment, capsys):
    before = sorted(p.name for p in experiment.iterdir())
    assert main(["train", str(experiment / "experiment.yaml"), "--dry-run"]) == 0
    assert sorted(p.name for p in experiment.iterdir()) == before
    text = capsys.readouterr().out
    words = ("million parameters", "TFLOP/s in float32", "GiB a device", "60 steps in", "1 validations", "7 programs")
    for word in words:
        assert word in text
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d+ ", line)]
    assert [row[:4] for row in rows] == [["1", "50", "1", "4"], ["2", "10", "1+3", "2"]]
    store = open_store(experiment / "store.zarr")
    # a rollout of random length takes two of three steps on average, and half a free one for a third of one
    expected = [step_flops(MODEL, store, 4, 1), step_flops(MODEL, store, 2, 2) * (2 + 1 / 6) / 2]
    assert [float(row[4]) for row in rows] == pytest.approx([f / 1e9 for f in expected], rel=1e-3)
    assert all(float(row[7]) > 0 for row in rows)


def test_what_is_done_takes_no_time():
    stage = StageCost(steps=40, rollout=1, batch_size=4, operations=1e9, memory=1, seconds=2.0, utilisation=0.1)
    cost = TrainingCost(
        *("unet", 1, "a CPU", (1, 1), 1e9, "float32", "little", 4, 1, (stage, stage), 1, "little", 1.0, 1, 1.0),
        done=50,
    )
    assert cost.seconds_left == 60
    assert "done         50 steps, by the run's last checkpoint; the others take 60 s" in cost.text()


def test_a_dry_run_counts_what_is_done_and_says_what_training_would_refuse(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(Layout, "matrix_rate", lambda *_: 1e9)
    monkeypatch.setattr("emulator.training.dry_run._seconds_of_validation", lambda *_: 1.0)
    config = load_config(experiment / "experiment.yaml", ["train.stages=[{steps: 2}]"])
    other = config.train.model_copy(update={"weight_decay": 0.5})
    asked = config.model, experiment / "store.zarr", config.training_seed
    run_dir = tmp_path / "run"
    train(config.train, *asked[:2], run_dir, asked[2], {"name": "test"})

    def told(train_config, **how):
        cost = dry_run(train_config, *asked, run_dir, **how)
        return cost.done, cost.refused

    assert told(config.train) == (2, None)
    assert told(config.train, redo=True) == told(other, redo=True) == (0, None)
    done, refused = told(other)
    with pytest.raises(DataError) as error:
        train(other, *asked[:2], run_dir, asked[2], {"name": "test"})
    assert (done, refused) == (0, str(error.value))


def test_what_would_be_refused_is_said():
    stage = StageCost(steps=40, rollout=1, batch_size=4, operations=1e9, memory=1, seconds=2.0, utilisation=0.1)
    cost = TrainingCost(
        *("unet", 1, "a CPU", (1, 1), 1e9, "float32", "little", 4, 1, (stage,), 1, "little", 1.0, 1, 1.0),
        refused="run: holds another",
    )
    assert "beware       train without --redo is refused; run: holds another" in cost.text()


def test_time_of_a_step_has_reading_beside_it_as_in_training(experiment, monkeypatch):
    read = Windows.batch

    def slowly(self, step, layout, *held):
        time.sleep(1)  # long beside what a busy machine is late by, in which batches get ready
        return read(self, step, layout, *held)

    monkeypatch.setattr(loader, "_READERS", 4)
    monkeypatch.setattr(Windows, "batch", slowly)
    monkeypatch.setattr(Layout, "matrix_rate", lambda *_: 1e9)
    config = load_config(experiment / "experiment.yaml", ["train.stages=[{steps: 1}]"])
    (stage,) = dry_run(config.train, config.model, experiment / "store.zarr", 0).stages
    assert 0.08 < stage.seconds < 0.8  # four readers bring a batch every 0.25 s


def test_time_of_a_step_is_that_of_data_where_training_will_have_them(experiment, monkeypatch):
    """An accelerator takes batches out of its own memory; a CPU's is the host's, so it is made to here."""
    taken: list[bool] = []
    take = OnDevices.take

    def noted(self, rows):
        states = take(self, rows)
        taken.append(states is not None)
        return states

    monkeypatch.setattr(OnDevices, "begin_beside", lambda self, needed: self.begin())
    monkeypatch.setattr(OnDevices, "take", noted)
    monkeypatch.setattr(Layout, "matrix_rate", lambda *_: 1e9)
    config = load_config(experiment / "experiment.yaml")
    dry_run(config.train, config.model, experiment / "store.zarr", 0)
    assert taken and all(taken)


def test_batches_that_wait_are_counted(experiment, monkeypatch):
    store = open_store(experiment / "store.zarr")
    config = TrainConfig(batch_size=4, stages=[RolloutStage(steps=1)], validation_windows=4, validation_steps=2)
    job = set_up(config, MODEL, store, 0)
    programs = Programs(job.step, job.layout.place(job.fresh, WHOLE), job.task, store, job.layout, config)
    needed = []
    for readers in (2, 5):
        monkeypatch.setattr(loader, "_READERS", readers)
        needed.append(programs.memory(Shape(4, 1)))
    batch = sum(array.nbytes for array in job.spans[0].windows.batch(0, job.layout))
    assert needed[1] - needed[0] == 3 * batch
    monkeypatch.setattr(budget, "_account", lambda _: 0)
    assert programs.memory(Shape(4, 1)) == (5 + AHEAD) * batch


def test_what_is_given_back_in_place_is_counted_once():
    sizes = {"argument": 100, "output": 30, "alias": 20, "temp": 7, "generated_code": 1}
    account = SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})
    assert budget._account(SimpleNamespace(memory_analysis=lambda: account)) == 118
    assert budget._account(SimpleNamespace(memory_analysis=lambda: None)) == 0


def test_validation_counts_the_state_and_the_batches_that_wait_beside_it(experiment, monkeypatch):
    """With the program itself as nothing: what is averaged is its argument, the rest of the state is not."""
    store = open_store(experiment / "store.zarr")
    monkeypatch.setattr(budget, "_account", lambda _: 0)
    monkeypatch.setattr(loader, "_READERS", 2)
    monkeypatch.setattr(Validation, "program", lambda *_: None)

    def needed(windows):
        config = TrainConfig(
            batch_size=4, stages=[RolloutStage(steps=1)], validation_steps=2, validation_windows=windows
        )
        job = set_up(config, MODEL, store, 0)
        programs = Programs(job.step, job.layout.place(job.fresh, WHOLE), job.task, store, job.layout, config)
        state = sum(a.nbytes for a in jax.tree.leaves((job.fresh.params, job.fresh.optimiser)))
        batch = sum(array.nbytes for array in job.spans[0].windows.batch(0, job.layout))
        return job.validation.rows.shape, programs.validation_memory(job.validation, Shape(4, 1)), state + 4 * batch

    assert AHEAD == 2
    (one, at_once), few, least = needed(4)
    (two, as_many), many, _ = needed(8)
    assert (one, two, at_once, as_many) == (1, 2, 4, 4) and few == least
    n_state, n_forcing = len(store.spec.state_channels), len(store.spec.forcing_channels)
    of_a_batch = 4 * 4 * (3 * n_state + 2 * n_forcing) * 8 * 16
    assert of_a_batch <= many - few < 1.01 * of_a_batch  # the next one is read meanwhile


def test_memory_counts_the_rollout_and_shrinks_with_parts_and_recomputation(experiment):
    store = open_store(experiment / "store.zarr")

    def needed(steps, **changes):
        stages = [RolloutStage(steps=1, rollout=steps)]
        config = TrainConfig(batch_size=8, stages=stages, validation_windows=4, validation_steps=2, **changes)
        job = set_up(config, UNetConfig(patch=1, width=16, multipliers=[1], blocks=1), store, 0)
        state = job.layout.place(job.fresh, WHOLE)
        return Programs(job.step, state, job.task, store, job.layout, config).memory(Shape(8, steps))

    longest = needed(6)
    # what six steps leave for the gradient: at least five layers of 16 channels on 8 x 16 cells each, of 8 windows
    assert longest > 6 * 5 * 16 * 8 * 16 * 8 * 4
    assert needed(6, rematerialise=True) < 0.6 * longest
    assert needed(6, accumulate=8) < 0.6 * longest


def test_validation_holds_one_step_at_a_time_and_is_refused_where_it_cannot_fit(experiment, monkeypatch):
    store = open_store(experiment / "store.zarr")

    def needed(steps):
        config = TrainConfig(batch_size=4, stages=[RolloutStage(steps=1)], validation_steps=steps, validation_windows=4)
        job = set_up(config, MODEL, store, 0)
        state = job.layout.place(job.fresh, WHOLE)
        programs = Programs(job.step, state, job.task, store, job.layout, config)
        return job.validation, programs.validation_memory(job.validation, Shape(4, 1))

    (_, few), (validation, many) = needed(2), needed(8)
    n_channels = len(store.spec.state_channels) + len(store.spec.forcing_channels)
    truth = 6 * 4 * (4 * 8 * 16 * n_channels)  # of six steps more, for four windows
    assert 0 < many - few < 1.2 * truth
    monkeypatch.setattr(budget, "device_memory", lambda: (16 * GIB, 8 * GIB))
    with pytest.raises(ConfigError) as error:
        check_validation_memory(20 * GIB, validation)
    assert str(error.value) == (
        "train: validation of 8 steps with 4 windows at a time needs 20.0 GiB of 16.0 GiB a device; "
        "try a smaller train.validation_steps or fewer train.validation_windows"
    )


def test_the_stage_that_needs_most_memory_need_not_be_the_longest(experiment):
    store = open_store(experiment / "store.zarr")
    shapes = [(4, 1), (16, 2), (4, 10)]
    stages = [RolloutStage(steps=1, batch_size=size, rollout=rollout) for size, rollout in shapes]
    config = TrainConfig(stages=stages, rematerialise=True, validation_windows=4, validation_steps=2)
    job = set_up(config, UNetConfig(patch=1, width=16, multipliers=[1], blocks=1), store, 0)
    state = job.layout.place(job.fresh, WHOLE)
    programs = Programs(job.step, state, job.task, store, job.layout, config)
    assert job.heaviest() == {Shape(16, 2), Shape(4, 10)}
    needed = look_ahead(job, programs, job.heaviest(), config)
    assert needed.shape == Shape(16, 2)


def test_free_steps_may_need_more_memory_than_longer_rollouts(experiment):
    stages = [RolloutStage(steps=1, rollout=3), RolloutStage(steps=1, rollout=2, free_steps=6)]
    config = TrainConfig(batch_size=4, stages=stages, validation_windows=4, validation_steps=2)
    job = set_up(config, MODEL, open_store(experiment / "store.zarr"), 0)
    assert job.heaviest() == {Shape(4, 3), Shape(4, 2, 6)}


def test_the_loop_of_shorter_rollouts_may_need_more_than_the_longest_without_one(experiment):
    stages = [RolloutStage(steps=1, rollout=n, random_length=r) for n, r in ((12, False), (12, True), (4, False))]
    config = TrainConfig(batch_size=4, stages=stages, validation_windows=4, validation_steps=2)
    job = set_up(config, MODEL, open_store(experiment / "store.zarr"), 0)
    assert job.heaviest() == {Shape(4, 12)}  # a CPU loops over all
    gpu = SimpleNamespace(mesh=SimpleNamespace(devices=np.array([SimpleNamespace(platform="gpu")])))
    assert unrolled(config, gpu) == {4, 12}
    assert dataclasses.replace(job, unrolled=unrolled(config, gpu)).heaviest() == {Shape(4, 12), Shape(4, 11)}


@pytest.mark.parametrize("backend", ["cpu", "tpu", "gpu"])
def test_only_a_gpu_is_asked_for_the_same_bits_in_its_own_words(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = TrainConfig(stages=[RolloutStage(steps=1)], deterministic=True)
    options = Programs(None, None, None, None, ONE, config)._options
    assert options == ({"xla_gpu_deterministic_ops": True} if backend == "gpu" else {})


def test_a_rollout_that_cannot_fit_is_refused_with_remedies(monkeypatch, caplog):
    config = TrainConfig(stages=[RolloutStage(steps=1)])
    monkeypatch.setattr(budget, "device_memory", lambda: (16 * GIB, 8 * GIB))
    assert check_memory(4 * GIB, Shape(16, 12), config, ONE) == "4.0 GiB of 16.0 GiB a device"
    with caplog.at_level(logging.WARNING, "emulator"):
        check_memory(9 * GIB, Shape(16, 12), config, ONE)
    assert "of which 8.0 GiB are free now" in caplog.text
    caplog.clear()
    check_memory(int(7.1 * GIB), Shape(16, 12), config, ONE)
    assert caplog.text == ""
    check_memory(int(7.3 * GIB), Shape(16, 12), config, ONE)
    assert "needs 7.3 GiB" in caplog.text  # nine tenths of what is free: the account is no more exact than that
    with pytest.raises(ConfigError) as error:
        check_memory(20 * GIB, Shape(16, 12), config, ONE)
    assert str(error.value) == (
        "train: a rollout of 12 steps with 16 windows needs 20.0 GiB of 16.0 GiB a device; "
        "try train.rematerialise=true, train.accumulate=2, a smaller batch_size or a shorter rollout"
    )
    one = r"train: a step behind 3 free steps with 16 windows .*; try train.accumulate=2, .* or a narrower network"
    with pytest.raises(ConfigError, match=one):  # one step is held whole
        check_memory(20 * GIB, Shape(16, 1, 3), config, ONE)
    odd = TrainConfig(batch_size=6, accumulate=2, stages=[RolloutStage(steps=1)])
    with pytest.raises(ConfigError, match="; try a smaller batch_size or"):  # four parts do not divide it
        check_memory(20 * GIB, Shape(6, 1), odd, ONE)
    shared = SimpleNamespace(data=16)
    with pytest.raises(ConfigError, match="; try a smaller batch_size or"):  # 16 devices have one window each
        check_memory(20 * GIB, Shape(16, 1), config, shared)
    monkeypatch.setattr(budget, "device_memory", lambda: None)
    assert "not known" in check_memory(20 * GIB, Shape(16, 12), config, ONE)


def test_a_larger_share_of_a_gpu_is_named_where_it_would_do(monkeypatch):
    config = TrainConfig(stages=[RolloutStage(steps=1)], rematerialise=True)
    monkeypatch.setattr(budget, "device_memory", lambda: (60 * GIB, 60 * GIB))  # of 80
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in budget._SHARE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    more = r"; try XLA_CLIENT_MEM_FRACTION=0.95 in the environment \(JAX takes 0.75 of a GPU\), train.accumulate=2, "
    with pytest.raises(ConfigError, match=more):
        check_memory(75 * GIB, Shape(16, 12), config, ONE)
    with pytest.raises(ConfigError, match=r"; try train.accumulate=2, "):
        check_memory(77 * GIB, Shape(16, 12), config, ONE)  # more than 0.95 of all
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")
    with pytest.raises(ConfigError, match=r"; try train.accumulate=2, "):
        check_memory(61 * GIB, Shape(16, 12), config, ONE)


def test_the_memory_that_training_holds_on_an_accelerator_is_not_counted_against_it(monkeypatch, caplog):
    stats = {"bytes_limit": 16 * GIB, "bytes_in_use": 5 * GIB}
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    monkeypatch.setattr("jax.local_devices", lambda: [device])
    with caplog.at_level(logging.WARNING, "emulator"):
        text = check_memory(12 * GIB, Shape(16, 12), TrainConfig(stages=[RolloutStage(steps=1)]), ONE)
    assert (text, caplog.text) == ("12.0 GiB of 16.0 GiB a device", "")


def test_this_machine_knows_its_memory():
    known = device_memory()
    assert known is not None
    total, free = known
    assert GIB / 8 < free <= total < 2**50


def test_dry_run_without_a_store_says_what_to_do(experiment, tmp_path, capsys):
    code = main(["train", str(experiment / "experiment.yaml"), "--dry-run", "--set", f"workdir={tmp_path}"])
    assert code == 1
    assert "'emulator prepare CONFIG' makes it" in capsys.readouterr().err
