"""Training: it resumes bit for bit, it stops where it must, it says what it does."""

import copy
import errno
import gc
import json
import logging
import os
import shutil
import signal
import threading
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from small_training import CONFIG, MODEL
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tiny_store import SPEC, write_store

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.checkpoint import (
    load_forecaster,
    named_leaves,
    read_description,
    replace_leaves,
    write_description,
)
from emulator.config import EvaluateConfig, RolloutStage, TrainConfig
from emulator.hardware.garbage import search_put_off
from emulator.training.checkpoints import Checkpoints
from emulator.training.devices import WHOLE
from emulator.training.job import check, in_memory_limit, set_up
from emulator.training.loader import Shape, Windows, load_batch
from emulator.training.optimiser import learning_rate_schedule
from emulator.training.record import Clock, Record
from emulator.training.run_identity import another_run, claim
from emulator.training.stacks import Stacks
from emulator.training.start_from import _differing
from emulator.training.train import train
from emulator.training.train_step import Norms, loss_of
from emulator.training.validation import Validation
from emulator.training.watch import Watch


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "store.zarr"
    write_store(path, Grid.gaussian(8))
    return path


def run(store, run_dir, config=CONFIG):
    return train(config, MODEL, store, run_dir, 0, {"name": "test"})


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    return run(store, tmp_path_factory.mktemp("r") / "run")


def test_a_network_that_learned_before_goes_on_from_there(store, finished, tmp_path):
    start = {"start_from": str(finished.parent)}  # an experiment's folder means its run
    config = CONFIG.model_copy(update=start | {"stages": [RolloutStage(steps=1, learning_rate=1e-12, warmup=0)]})
    weights = [np.load(folder / "weights.npz") for folder in (finished, run(store, tmp_path / "next", config))]
    for name in weights[0].files:
        np.testing.assert_allclose(weights[1][name], weights[0][name], atol=1e-6)
    assert max(np.abs(weights[0][name]).max() for name in weights[0].files if "head" in name) > 1e-4


def test_a_run_goes_on_without_what_it_began_with(store, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "before")
    config = CONFIG.model_copy(update={"start_from": str(tmp_path / "before"), "stages": [RolloutStage(steps=1)]})
    run(store, tmp_path / "run", config)
    shutil.rmtree(tmp_path / "before")
    weights = (tmp_path / "run" / "weights.npz").read_bytes()
    run(store, tmp_path / "run", config)
    assert (tmp_path / "run" / "weights.npz").read_bytes() == weights


def test_a_network_says_when_its_data_were_of_and_those_of_the_one_it_began_with(store, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "before")
    data = open_store(store)
    own = [(s.first_time, s.last_time) for s in data.segments if s.split == "train"]
    description = read_description(tmp_path / "before")
    write_description(tmp_path / "before", description | {"learned_from": "1990-01-01/1991-01-01"})
    config = CONFIG.model_copy(update={"start_from": str(tmp_path / "before"), "stages": [RolloutStage(steps=1)]})
    for _ in range(2):  # and when it goes on, without what it began with
        run(store, tmp_path / "run", config)
        shutil.rmtree(tmp_path / "before", ignore_errors=True)
    network = load_forecaster(tmp_path / "run")
    assert network.learned_from == ((np.datetime64("1990-01-01"), np.datetime64("1991-01-01")), *own)
    said = network.attributes(data.dataset(np.array([0])))
    assert said["learned_data_hash"] == data.data_hash and said["learned_from"].startswith("1990-01-01T00:00/1991-")


def test_another_network_to_start_from_is_refused_by_name(store, finished, tmp_path):
    config = CONFIG.model_copy(update={"start_from": str(finished)})
    other = MODEL.model_copy(update={"width": 16})
    with pytest.raises(DataError, match=r"weights.npz: array .* has shape .*, expected"):
        train(config, other, store, tmp_path / "run", 0, {"name": "test"})
    with pytest.raises(DataError, match=r"networks/speedy_t31/weights.npz: array"):
        run(store, tmp_path / "run", CONFIG.model_copy(update={"start_from": "speedy_t31"}))
    with pytest.raises(DataError, match=r"no run folder \(run.json is missing\)"):
        run(store, tmp_path / "run", CONFIG.model_copy(update={"start_from": str(tmp_path)}))


def test_a_step_that_no_stage_learns_is_refused(store, tmp_path):
    config = CONFIG.model_copy(update={"stages": [RolloutStage(steps=1, time_steps=[2])]})
    with pytest.raises(ConfigError, match=r"no stage learns the step of 1, which forecasts would take; name it in"):
        train(config, MODEL.model_copy(update={"time_steps": [1, 2]}), store, tmp_path / "run", 0, {"name": "test"})


def test_weights_of_one_step_are_not_taken_for_anothers(store, tmp_path, caplog):
    stages = [RolloutStage(steps=1), RolloutStage(steps=1, time_steps=[2])]
    steps = {n: MODEL.model_copy(update={"time_steps": [1, n]}) for n in (2, 3)}
    train(CONFIG.model_copy(update={"stages": stages}), steps[2], store, tmp_path / "first", 0, {"name": "test"})
    assert "the last stage leaves out steps of 1" in caplog.text
    config = CONFIG.model_copy(update={"start_from": str(tmp_path / "first"), "stages": [RolloutStage(steps=1)]})
    with pytest.raises(ConfigError, match=r"first has model.time_steps \[1, 2\], this config \[1, 3\]"):
        train(config, steps[3], store, tmp_path / "run", 0, {"name": "test"})


def test_a_fine_tuning_of_one_of_two_steps_goes_on_where_it_was_stopped(store, tmp_path, caplog):
    model = MODEL.model_copy(update={"time_steps": [1, 2]})
    config = CONFIG.model_copy(update={"stages": [RolloutStage(steps=1)]})
    train(config, model, store, tmp_path / "first", 0, {"name": "test"})
    stages = [RolloutStage(steps=1, time_steps=[2])]
    config = CONFIG.model_copy(update={"stages": stages, "start_from": str(tmp_path / "first")})
    for _ in range(2):
        train(config, model, store, tmp_path / "run", 0, {"name": "test"})
    assert "taken though" not in caplog.text


def test_weights_that_meant_something_else_are_taken_with_a_warning(store, finished):
    description, opened = read_description(finished), open_store(store)
    assert _differing(description, CONFIG, MODEL, opened) == []
    swapped = copy.deepcopy(description)
    swapped["spec"]["variables"] = [
        v | {"levels": [level + 50 for level in v["levels"]]} for v in swapped["spec"]["variables"]
    ]
    changed = swapped | {"timestep_seconds": 86400.0, "experiment": {"train": {"anomalies": True}}}
    first = opened.spec.state_channels[0]
    assert _differing(changed, CONFIG, MODEL.model_copy(update={"interpolation": "cubic"}), opened) == [
        f"its {first.variable}@{first.level + 50:g} stands where {first.name} is here",
        "its step is 24 h, and 6 h here",
        "it learned anomalies, which is otherwise here",
        "its model.interpolation is linear, and cubic here",
    ]


def last_checkpoint(run_dir):
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((run_dir / "checkpoints").resolve()) as manager:
        step = manager.latest_step()
        return step, manager.restore(step, args=ocp.args.StandardRestore())


def entries(run_dir, kind):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in lines if entry["kind"] == kind]


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(store, finished, tmp_path, monkeypatch, caplog):
    whole = Windows.batch

    def kill_while_making(self, step, layout, *held):
        if self.longest.steps == 1 and step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, step, layout, *held)

    monkeypatch.setattr(Windows, "batch", kill_while_making)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path)
    stopped_at, _ = last_checkpoint(tmp_path)
    assert 0 < stopped_at < 8
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    caplog.clear()
    run(store, tmp_path)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    (step_a, straight), (step_b, resumed) = last_checkpoint(finished), last_checkpoint(tmp_path)
    assert step_a == step_b == 8
    assert set(straight) == set(resumed)
    for name, array in straight.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)
    assert [e["loss"] for e in entries(finished, "train")] == [e["loss"] for e in entries(tmp_path, "train")]


def test_a_course_with_more_stages_goes_on_from_a_shorter_one_bit_for_bit(store, finished, tmp_path):
    shorter = CONFIG.model_copy(update={"stages": CONFIG.stages[:1]})
    run(store, tmp_path, shorter)
    assert last_checkpoint(tmp_path)[0] == 5
    run(store, tmp_path)
    straight, longer = last_checkpoint(finished)[1], last_checkpoint(tmp_path)[1]
    for name, array in straight.items():
        np.testing.assert_array_equal(array, longer[name], err_msg=name)
    losses = {p: [e["loss"] for e in entries(p, "train")] for p in (finished, tmp_path)}
    assert losses[finished] == losses[tmp_path]
    with pytest.raises(DataError, match="another config, seed or data"):
        run(store, tmp_path, shorter)


def test_who_interrupts_the_last_validation_is_obeyed(store, finished, tmp_path, monkeypatch):
    whole, ran = Validation.run, []

    def interrupted(self, params, task, between):
        ran.append(self)
        if len(ran) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, params, task, between)

    monkeypatch.setattr(Validation, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path)
    assert last_checkpoint(tmp_path)[0] == 8 and len(entries(tmp_path, "validation")) == 1
    monkeypatch.undo()
    run(store, tmp_path)
    assert (tmp_path / "weights.npz").read_bytes() == (finished / "weights.npz").read_bytes()
    assert entries(tmp_path, "validation") == entries(finished, "validation")


def test_a_validation_between_two_checkpoints_does_not_keep_a_stop_waiting(store, tmp_path, monkeypatch):
    """A job may be killed half a minute after SIGTERM, and a validation may take longer."""
    config = CONFIG.model_copy(update={"checkpoint_every": 100, "validation_windows": 8, "batch_size": 4})
    whole, asked = Validation._batch, []

    def interrupted(self, rows):
        if not asked:  # a second signal would stop at once
            asked.append(rows)
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, rows)

    monkeypatch.setattr(Validation, "_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path, config)
    assert last_checkpoint(tmp_path)[0] == 4 and not entries(tmp_path, "validation")
    monkeypatch.undo()
    run(store, tmp_path, config)
    assert [entry["step"] for entry in entries(tmp_path, "validation")] == [4, 8]


def test_the_last_validation_is_made_up_for_if_a_kill_cut_it_short(store, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(line for line in lines if '"validation", "step": 8,' not in line))
    assert len(entries(tmp_path / "run", "validation")) == 1
    run(store, tmp_path / "run")
    assert entries(tmp_path / "run", "validation") == entries(finished, "validation")


def test_a_validation_half_way_is_made_up_for_if_a_kill_cut_it_short(store, finished, tmp_path):
    """Where the checkpoint of that step is still there: training goes on from it, and not from the beginning."""
    config = CONFIG.model_copy(update={"checkpoint_every": 4})
    folder = run(store, tmp_path / "run", config)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["4", "8"]
    shutil.rmtree(folder / "checkpoints" / "8")
    kept = entries(folder, "train")[:4]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in kept))
    run(store, folder, config)
    assert entries(folder, "validation") == entries(finished, "validation")
    assert entries(folder, "train")[:4] == kept  # which were not made again


def test_who_is_stopped_saves_and_does_no_more(store, tmp_path, monkeypatch):
    """A job that is sent SIGTERM may be killed half a minute later."""

    def too_late(*_):
        raise AssertionError("validated")

    before_the_first_step = "emulator.training.train.check_memory"
    monkeypatch.setattr(before_the_first_step, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(Validation, "run", too_late)
    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path, CONFIG.model_copy(update={"validate_every": 1}))
    assert last_checkpoint(tmp_path)[0] == 1


def run_until_killed(store, folder, monkeypatch, step):
    """A power cut when the checkpoint of a step is due; ``monkeypatch.undo`` has the power back."""

    def power_cut(self, now, state, weights):
        if now == step:
            raise SystemError("power cut")
        return save(self, now, state, weights)

    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", power_cut)
    with pytest.raises(SystemError):
        run(store, folder)


def test_a_kill_without_warning_loses_only_what_came_after_the_checkpoint(store, finished, tmp_path, monkeypatch):
    run_until_killed(store, tmp_path, monkeypatch, step=4)
    assert last_checkpoint(tmp_path)[0] == 2
    assert [e["step"] for e in entries(tmp_path, "train")] == [1, 2, 3, 4]
    monkeypatch.undo()
    run(store, tmp_path)
    assert [e["step"] for e in entries(tmp_path, "train")] == list(range(1, 9))
    for name, array in last_checkpoint(finished)[1].items():
        np.testing.assert_array_equal(array, last_checkpoint(tmp_path)[1][name], err_msg=name)


@pytest.fixture
def compiled():
    """How often each function was handed to the compiler, by its name; what is found compiled on disk counts too."""
    counts = Counter()

    def count(event, _, fun_name=None, **__):
        if event.endswith("jaxpr_to_mlir_module_duration"):
            counts[fun_name] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    yield counts
    jax.monitoring.unregister_event_duration_listener(count)


def test_a_step_is_compiled_once_for_each_size_and_length_of_batch(store, tmp_path, monkeypatch, compiled):
    run_until_killed(store, tmp_path, monkeypatch, step=6)
    assert compiled["jit(train_step)"] == 2
    monkeypatch.undo()
    assert last_checkpoint(tmp_path)[0] == 4  # in the first stage
    compiled.clear()
    run(store, tmp_path)
    assert compiled["jit(train_step)"] == 2
    assert compiled["jit(_moments)"] <= 1  # those of validation


def test_metrics_say_what_happened(finished):
    steps = entries(finished, "train")
    assert [e["step"] for e in steps] == list(range(1, 9))
    assert [e["rollout"] for e in steps] == [1] * 5 + [2] * 3
    for entry in steps:
        norms = [entry[key] for key in ("loss", "learning_rate", "gradient_norm", "update_norm", "parameter_norm")]
        assert np.isfinite(norms).all()
        assert 0 <= entry["data_wait_share"] <= 1
        assert 0 < entry["flops_utilisation"] < 1
    validations = entries(finished, "validation")
    assert [v["step"] for v in validations] == [4, 8]
    assert validations[0]["lead_hours"] == [6.0, 12.0, 18.0]
    assert set(validations[0]["rmse"]) == {"temperature@850", "specific_humidity@850", "total_precipitation_6hr"}
    assert 0.1 < validations[0]["rmse"]["temperature@850"][0] < 20  # kelvin
    assert list((finished / "tensorboard").iterdir())


@pytest.mark.parametrize(("refused", "steps_before"), [(1, 0), (3, 1)])
def test_memory_is_held_against_the_device_before_the_first_step_and_behind_it(
    store, tmp_path, monkeypatch, refused, steps_before
):
    """That of the first program before it runs, that of the longest rollout long before its stage."""

    def check(needed, shape, config, layout):
        assert needed > 0
        if shape.steps == refused:
            raise ConfigError("too much")
        return "enough"

    for module in ("train", "job"):
        monkeypatch.setattr(f"emulator.training.{module}.check_memory", check)
    stages = [RolloutStage(steps=5, warmup=2), RolloutStage(steps=3, rollout=3, batch_size=2)]
    with pytest.raises(ConfigError, match="too much"):
        run(store, tmp_path / "run", CONFIG.model_copy(update={"stages": stages}))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, steps_before + 1))


@pytest.mark.parametrize(
    ("free", "processes", "limit"),
    [(None, 1, 2), (None, 4, 0.5), (64, 1, 16), (64, 4, 4), (6, 1, 2), (4, 1, 2), (6, 4, 0.5), (0.5, 1, 0.25)],
)
def test_stores_are_read_into_a_quarter_of_the_free_memory_and_into_half_where_there_is_little(
    monkeypatch, free, processes, limit
):
    monkeypatch.setattr("emulator.training.job.host_memory", lambda: free and (2**40, int(free * 2**30)))
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    assert in_memory_limit() == limit * 2**30


def test_what_a_power_cut_left_in_the_record_does_not_stop_a_training(tmp_path):
    entries = [json.dumps({"kind": "train", "step": step}).encode() for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([entries[0], b"\0" * 9, b"\xff{", b"[]", *entries[1:], b""]))
    Record(tmp_path, 2).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"\n".join([*entries[:2], b""])


NORMS = Norms(*map(np.float32, (0.5, 1, 1, 1, True, 0, 1e-3)))


def events(folder) -> list[Event]:
    """All TensorBoard events of a folder: eight bytes of length and four of a checksum, the event, and four more."""
    found = []
    for path in sorted(folder.iterdir()):
        rest = path.read_bytes()
        while rest:
            end = 12 + int.from_bytes(rest[:8], "little")
            found.append(Event.FromString(rest[12:end]))
            rest = rest[end + 4 :]
    return found


def test_tensorboard_has_the_scalars_by_step_and_is_told_where_a_run_goes_on(tmp_path):
    record = Record(tmp_path, 4)
    record.step(5, NORMS, pace=2.0)
    record.close()
    version, start, *scalars = events(tmp_path / "tensorboard")
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    values = {e.summary.value[0].tag: e.summary.value[0].simple_value for e in scalars}
    assert values["train/loss"] == 0.5
    assert values["train/pace"] == 2.0
    assert {e.step for e in scalars} == {5}


def test_a_disk_that_refuses_events_stops_a_training_and_does_not_hold_it_up(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write():
        try:
            for step in range(1, 10):
                record.step(step, NORMS)
        except OSError as error:
            raised.append(error.errno)

    record, raised = Record(tmp_path, 0), []
    record.step(0, NORMS)
    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.write", refuse)
    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(60)
    assert not writing.is_alive()
    assert raised == [errno.ENOSPC]


def test_what_can_wait_comes_behind_the_first_step_of_a_start(store, finished, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    told: list[bool] = []

    def once_begun():
        told.append("first step done" in caplog.text and gc.isenabled())

    with search_put_off():
        train(CONFIG, MODEL, store, tmp_path, 0, {"name": "test"}, once_begun)
    assert told == [True]
    train(CONFIG, MODEL, store, finished, 0, {"name": "test"}, once_begun)  # there is nothing to begin
    assert told == [True]


def test_finished_run_is_left_alone(store, finished):
    before = {p: p.read_bytes() for p in [finished / "weights.npz", finished / "metrics.jsonl"]}
    run(store, finished)
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_goes_on_with_other_keys_of_how_the_work_is_done(store, finished):
    others = {"checkpoint_every": 7, "log_every": 3, "max_skipped": 2, "validation_windows": 2, "rematerialise": True}
    assert set(others) < TrainConfig.HOW
    run(store, finished, CONFIG.model_copy(update=others))


def test_folder_of_another_run_is_refused(store, finished):
    with pytest.raises(DataError, match="another config, seed or data"):
        run(store, finished, CONFIG.model_copy(update={"weight_decay": 0.5}))


def test_a_run_is_not_gone_on_with_by_a_program_that_orders_weights_otherwise(store, finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(Stacks, "order", "another")
    with pytest.raises(DataError, match="its weights have other names or another order than this program's"):
        run(store, tmp_path / "run")


def test_checkpoints_of_nobody_knows_which_run_are_not_trained_on(store, finished, tmp_path):
    """What a removal leaves that was stopped half way; they fit the network, and are of another config."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(DataError, match=r"holds checkpoints, but no run.json that says of which run; remove it"):
        run(store, tmp_path / "run", CONFIG.model_copy(update={"weight_decay": 0.5}))


def test_a_bad_batch_is_skipped_named_and_counted(tmp_path, caplog):
    path = tmp_path / "store.zarr"
    store = write_store(path, Grid.gaussian(8), bad_time=10)
    with caplog.at_level(logging.WARNING, "emulator"):
        run(path, tmp_path / "run")
    skipped = entries(tmp_path / "run", "skipped")
    windows = [
        Windows(store, store.windows("train", n + 1), Shape(size, n), (0, i))
        for i, (n, size) in enumerate([(1, 4), (2, 2)])
    ]
    rows = [windows[0].rows(s) if s < 5 else windows[1].rows(s - 5) for s in range(8)]
    bad = [s + 1 for s in range(8) if any(row <= 10 <= row + (1 if s < 5 else 2) for row in rows[s])]
    assert bad  # the test would show nothing
    assert [e["step"] for e in skipped] == bad
    assert [e["times"] for e in skipped] == [[f"{t!s:.16}" for t in store.times[rows[s - 1]]] for s in bad]
    assert sum("skipped: loss nan" in r.getMessage() for r in caplog.records) == len(bad)
    step, saved = last_checkpoint(tmp_path / "run")
    assert step == 8
    assert all(np.isfinite(np.asarray(a)).all() for a in saved.values())
    logged = entries(tmp_path / "run", "train")
    assert [e["loss"] is None for e in logged] == [s in bad for s in range(1, 9)]
    schedule = learning_rate_schedule(CONFIG.stages)
    np.testing.assert_allclose([e["learning_rate"] for e in logged], [float(schedule(s)) for s in range(8)], rtol=1e-6)
    counts = sorted(int(array) for name, array in saved.items() if name.endswith("count"))
    assert counts == [8 - len(bad), 8, 8]  # Adam's goes by its updates, the schedules by the stages


def spoil_batches(monkeypatch, first):
    """NaN in every batch from a step on."""
    whole = Windows.batch

    def spoiled(self, step, layout, *held):
        batch = whole(self, step, layout, *held)
        return batch._replace(state=batch.state * np.nan) if step >= first else batch

    monkeypatch.setattr(Windows, "batch", spoiled)


def test_too_many_skipped_in_a_row_stop_training_with_the_state_saved(tmp_path, store, monkeypatch):
    spoil_batches(monkeypatch, 2)
    config = CONFIG.model_copy(update={"max_skipped": 2, "stages": [RolloutStage(steps=12)]})
    with pytest.raises(DataError, match=r"2 steps in a row skipped; loss nan, .* at step \d with the batch") as error:
        run(store, tmp_path, config)
    opened = open_store(store)
    step, saved = last_checkpoint(tmp_path)
    assert 4 <= step < 8
    rows = Windows(opened, opened.windows("train", 2), Shape(4, 1), (0, 0)).rows(int(step) - 1)
    assert all(f"{t!s:.16}" in str(error.value) for t in opened.times[rows])
    assert saved["skipped"] >= 2
    assert all(np.isfinite(np.asarray(a)).all() for a in saved.values())
    assert [e["step"] for e in entries(tmp_path, "skipped")] == list(range(3, int(step) + 1))
    with pytest.raises(DataError, match="2 steps in a row skipped"):  # it is tried as often again
        run(store, tmp_path, config)
    assert last_checkpoint(tmp_path)[0] > step + 1


def test_a_training_whose_last_steps_were_skipped_does_not_count_as_whole(tmp_path, store, monkeypatch):
    spoil_batches(monkeypatch, 4)
    config = CONFIG.model_copy(update={"max_skipped": 4, "stages": [RolloutStage(steps=8)]})
    with pytest.raises(DataError, match="4 steps in a row skipped"):
        run(store, tmp_path, config)
    assert last_checkpoint(tmp_path)[0] == 8
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"the last 4 of 8 steps were skipped, .* times in .*metrics.jsonl"):
        run(store, tmp_path, config)


@pytest.mark.parametrize("what", [{"output_truncation": {"wind": 3}}, {"conserve": ["wind"]}, {"advection": True}])
def test_what_does_not_fit_the_state_is_refused_while_an_earlier_network_is_still_there(store, what):
    with pytest.raises(ConfigError, match=rf"model\.{next(iter(what))}"):
        check(CONFIG, MODEL.model_copy(update=what), open_store(store), 0)


def test_a_training_with_free_steps_resumes_to_the_bit_and_needs_windows_that_hold_them(store, tmp_path, monkeypatch):
    stages = [RolloutStage(steps=3), RolloutStage(steps=5, free_steps=1, random_length=True)]
    config = CONFIG.model_copy(update={"optimiser": "adamw", "stages": stages})
    whole = train(config, MODEL, store, tmp_path / "whole", 0, {"name": "test"})
    make = Windows.batch

    def kill_while_making(self, step, layout, *held):
        if self.longest.free and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return make(self, step, layout, *held)

    monkeypatch.setattr(Windows, "batch", kill_while_making)
    with pytest.raises(KeyboardInterrupt):
        train(config, MODEL, store, tmp_path / "parts", 0, {"name": "test"})
    monkeypatch.undo()
    parts = train(config, MODEL, store, tmp_path / "parts", 0, {"name": "test"})
    weights = [np.load(folder / "weights.npz") for folder in (whole, parts)]
    for name in weights[0].files:
        np.testing.assert_array_equal(weights[1][name], weights[0][name])
    long = config.model_copy(update={"stages": [RolloutStage(steps=1, rollout=1, free_steps=500)]})
    with pytest.raises(DataError, match="502"):
        train(long, MODEL, store, tmp_path / "long", 0, {"name": "test"})


def test_a_training_over_several_steps_resumes_to_the_bit_and_its_loss_is_in_units_of_each(store, tmp_path):
    model = MODEL.model_copy(update={"time_steps": [1, 4]})
    stages = [RolloutStage(steps=5, learning_rate=1e-2), RolloutStage(steps=1, rollout=2, time_steps=[4])]
    config = CONFIG.model_copy(update={"stages": stages, "checkpoint_every": 2, "input_noise": 0.1})
    whole = train(config, model, store, tmp_path / "whole", 0, {"name": "test"})
    shutil.copytree(whole, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "6")
    parts = train(config, model, store, tmp_path / "parts", 0, {"name": "test"})
    assert [entry["step"] for entry in entries(parts, "train")] == [1, 2, 3, 4, 5, 6]
    weights = [np.load(folder / "weights.npz") for folder in (whole, parts)]
    for name in weights[0].files:
        np.testing.assert_array_equal(weights[1][name], weights[0][name])
    job = set_up(config, model, open_store(store), 0)
    batch = load_batch(job.store, np.array([1, 30]), 1, job.layout, np.array([0, 1], np.int32), (1, 4))
    unit = np.asarray(job.task.stepper.unit(batch.which))
    weights = np.asarray(job.task.objective.weights[-1]) * job.store.grid.latitude_weights[:, None, None]
    mean = np.asarray(job.task.stepper.normalizer.mean)
    answer = np.where(np.arange(4) < SPEC.n_prognostic, np.asarray(batch.state[:, :1]), mean)
    error = (answer - np.asarray(batch.state[:, 1:])) / unit[:, None]
    expected = (weights * error**2).mean()
    np.testing.assert_allclose(jax.jit(loss_of)(job.fresh.params.params, batch, job.task), expected, rtol=1e-4)


def test_forecasts_and_validation_go_by_the_averaged_weights(store, finished):
    job = set_up(CONFIG, MODEL, open_store(store), 0)
    state = replace_leaves(job.fresh, last_checkpoint(finished)[1], source="test")
    with np.load(finished / "weights.npz") as kept:
        for name, array in named_leaves(state.averaged.params).items():
            np.testing.assert_array_equal(kept[name], array)
    averaged, last = (
        job.validation.run(job.layout.place(weights, WHOLE), job.task).loss
        for weights in (state.averaged, state.params)
    )
    assert abs(last / averaged - 1) > 1e-4
    assert entries(finished, "validation")[-1]["loss"] == pytest.approx(averaged, rel=1e-6)


def test_another_seed_begins_with_other_weights_and_learns_in_another_order(store):
    first, second = (set_up(CONFIG, MODEL, open_store(store), seed) for seed in (0, 1))
    drawn = zip(jax.tree.leaves(first.fresh.params), jax.tree.leaves(second.fresh.params), strict=True)
    assert any((a != b).mean() > 0.1 for a, b in drawn)
    assert (first.spans[0].windows.rows(0) != second.spans[0].windows.rows(0)).any()


@pytest.mark.parametrize(
    ("config", "model", "seed"),
    [
        (CONFIG, MODEL.model_copy(update={"conserve": ["temperature"]}), 0),  # whose weights have the same shapes
        (CONFIG, MODEL, 1),
        (CONFIG.model_copy(update={"input_noise": 0.1}), MODEL, 0),
        (
            CONFIG.model_copy(update={"stages": [RolloutStage(steps=5, learning_rate=7e-4), *CONFIG.stages[1:]]}),
            MODEL,
            0,
        ),
    ],
    ids=["model", "seed", "noise", "stage"],
)
def test_a_folder_of_another_network_seed_or_recipe_is_not_gone_on_with(config, model, seed, tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8), n_times=8)
    claim(tmp_path / "run", CONFIG, MODEL, store, 0, {"name": "test"})
    assert another_run(tmp_path / "run", CONFIG, MODEL, store, 0) is None
    assert "holds a run with another config, seed or data" in another_run(tmp_path / "run", config, model, store, seed)


def test_keys_of_how_the_work_is_done_are_those_that_change_no_weights_and_no_scores():
    """One more here, and results of another value would be taken for this one's."""
    validating = {"validate_every", "validation_windows", "validation_steps", "log_every"}
    assert {"mesh", "rematerialise", "accumulate", "checkpoint_every", "max_skipped"} | validating == TrainConfig.HOW
    assert {"batch"} == EvaluateConfig.HOW


@pytest.mark.parametrize("role", ["forcing", "static"])
def test_forcing_and_static_fields_that_stood_elsewhere_are_told(role, tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8), n_times=8)
    claim(tmp_path / "run", CONFIG, MODEL, store, 0, {"name": "test"})
    description = read_description(tmp_path / "run")
    places = [i for i, v in enumerate(description["spec"]["variables"]) if v["role"] == role][:2]
    variables = description["spec"]["variables"]
    first, second = (variables[i]["name"] for i in places)
    variables[places[0]], variables[places[1]] = variables[places[1]], variables[places[0]]
    assert _differing(description, CONFIG, MODEL, store) == [f"its {second} stands where {first} is here"]


class Ticking:
    """A clock that goes on when it is told to."""

    now = 0.0

    def perf_counter(self):
        return self.now


def test_the_pace_of_steps_leaves_validation_saving_and_compiling_out(monkeypatch):
    ticking = Ticking()
    monkeypatch.setattr("emulator.training.record.time", ticking)
    clock = Clock()
    for seconds in (100.0, 0.0):  # the second reading counts anew
        for _ in range(4):
            with clock.waiting():
                ticking.now += 1.0
            ticking.now += 2.0
            clock.count(8, 6e9)
        with clock.paused():
            ticking.now += seconds
        pace = clock.read()
        assert (pace.seconds_per_step, pace.samples_per_second) == (3.0, 32 / 12)
        assert (pace.operations_per_second, pace.data_wait_share) == (2e9, 1 / 3)


def test_free_steps_count_as_work_and_the_last_step_is_always_logged():
    shape, told = Shape(4, 2, 3), []
    span = SimpleNamespace(shape=lambda step: shape, operations=10.0, start=0, stop=7)
    layout = SimpleNamespace(matrix_rate=lambda precision: 1.0)
    job = SimpleNamespace(layout=layout, spans=[span])
    kept = SimpleNamespace(step=lambda now, norms, **values: told.append((now, values["rollout"])))
    watch = Watch(CONFIG.model_copy(update={"log_every": 5}), job, kept, SimpleNamespace(advance=lambda *_, **__: None))
    counted = []
    watch.clock.count = lambda samples, operations: counted.append((samples, operations))
    for step in range(7):
        watch.add(step, Norms(*map(np.float32, (0.5, 1, 1, 1, True, 0, 1e-3))), span, catch_up=True)
    assert told == [(5, 2), (7, 2)]
    assert counted == [(4, (2 + 3 / 3) * 10.0)] * 7
