"""The benchmarks of network and trainer run at their smallest: one table that names machine, ceiling and ratio."""

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.benchmarks import evaluate, forecast, load, prepare, train
from emulator.benchmarks.history import record, show
from emulator.benchmarks.measure import Run
from emulator.benchmarks.synthetic import synthetic_spec, synthetic_store
from emulator.benchmarks.table import Row, Table
from emulator.benchmarks.train import DEMO_NETWORK, _seconds_per_step, parse_model, take_model
from emulator.config import load_config, read_yaml
from emulator.hardware.machine import copy_rate, describe, matrix_rate
from emulator.models import forward_flops
from emulator.stepping.stepper import network_channels
from emulator.training.budget import AHEAD, Programs
from emulator.training.devices import Layout

ROOT = Path(__file__).parent.parent
TINY = "{kind: unet, patch: 2, width: 8, multipliers: [1], blocks: 1}"
SMALL = {
    "train": ["--rows", "8", "--levels", "1", "--batch", "2", "--seconds", "0.1", "--model", TINY],
    "start": ["--starts", "2", "--config", str(ROOT / "tests" / "tiny.yaml")],
    "evaluate": ["--inits", "3", "--leads", "4", "--workers", "1"],
    "load": ["--gigabytes", "0.01", "--batches", "1", "--batch", "2", "--seconds", "0.5"],
    "prepare": ["--gigabytes", "0.01", "--workers"],
    "forecast": ["--rows", "8", "--levels", "1", "--days", "1", "--members", "1", "2", "--model", TINY, "--physics"],
}


def parsed(name, words):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"emulator.benchmarks.{name}").add_arguments(parser)
    return parser.parse_args(words)


def run(name, words):
    (table,) = importlib.import_module(f"emulator.benchmarks.{name}").run(parsed(name, words))
    return str(table)


def test_what_goes_for_the_demos_network_is_it():
    demo = load_config(ROOT / "configs" / "demo.yaml").model.model_dump()
    free = demo | {"output_truncation": {}, "conserve": []}  # made-up data have other variables
    compared = read_yaml(ROOT / "configs" / "models" / "cpu" / "unet_filters.yaml")["model"]
    assert parse_model(DEMO_NETWORK).model_dump() == free
    later = {"advection": False, "interpolation": "linear", "vertical_motion": False, "column_width": 0}
    assert parse_model(str(compared)).model_dump() == free | later  # than the comparison


class _HereAndNow(ThreadPoolExecutor):
    """In place of processes, whose start would be most of the time."""

    def __init__(self, workers, *_, **__):
        super().__init__(workers)


@pytest.mark.parametrize("name", SMALL)
def test_each_prints_one_table_with_machine_ceiling_and_ratio(name, monkeypatch):
    for module in (name, "measure"):
        monkeypatch.setattr(f"emulator.benchmarks.{module}.ProcessPoolExecutor", _HereAndNow, raising=False)
    table = run(name, SMALL[name]).replace(",", "")
    lines = table.splitlines()
    assert lines[0].endswith(" on " + describe().replace(",", ""))
    assert lines[2].split() == ["measured", "unit", "ceiling", "ratio"]
    fields = [re.split(r"  +", line) for line in lines[3:]]
    found = [(float(f[1]) / float(f[3]), float(f[4])) for f in fields if len(f) == 6]
    assert found
    for expected, ratio in found:
        assert ratio == pytest.approx(expected, rel=0.01)
        assert 0 < ratio < 100


TABLE = Table("Title", "machine", [Row("a", 3.0, "GB/s", 12.0, "copy"), Row("b", 1234567.0, "1/s")])


def test_what_is_recorded_is_shown(tmp_path):
    path = tmp_path / "benchmarks" / "history.jsonl"
    assert "no history" in show(path)
    record(path, [TABLE], ["load", "--gigabytes", "1"], "alone")
    record(path, [TABLE], ["load", "--gigabytes", "1"], "with others")
    text = show(path)
    assert text.count("Title on machine: load --gigabytes 1") == 1
    assert text.count("a: 3 GB/s, 0.25 of copy") == 2 and "(with others)" in text
    record(path, [replace(TABLE, machine="another")], ["load", "--gigabytes", "1"], "alone")
    assert show(path).count("Title on another: load --gigabytes 1") == 1


@pytest.mark.parametrize("note", [["--record", "1"], ["--record=while others worked"]])
def test_runs_are_compared_by_their_command_without_its_note(tmp_path, monkeypatch, note):
    spec = importlib.util.spec_from_file_location("benchmark_script", ROOT / "scripts" / "benchmark.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "HISTORY", tmp_path / "history.jsonl")
    monkeypatch.setattr("emulator.benchmarks.load.run", lambda arguments: [TABLE])
    assert script.main(["load", *note, "--gigabytes", "1"]) == 0
    assert "Title on machine: load --gigabytes 1\n" in show(tmp_path / "history.jsonl")


def test_a_ratio_is_what_was_measured_over_what_can_be_reached():
    assert str(TABLE).splitlines() == [
        "Title on machine",
        "",
        "    measured  unit  ceiling  ratio",
        "a          3  GB/s       12   0.25  copy",
        "b  1,234,567  1/s",
    ]


def test_rates_are_of_the_order_of_a_machine():
    assert 1e8 < matrix_rate("float32") < 1e16
    assert 1e8 < matrix_rate("bfloat16_products") < 1e16
    assert 1e7 < copy_rate() < 1e14


def test_the_ceiling_is_of_matrices_of_noise(monkeypatch):
    products = []
    monkeypatch.setattr("emulator.hardware.machine.best_seconds", lambda work, seconds: products.append(work()) or 1.0)
    side = round((matrix_rate("float32") / 2) ** (1 / 3))
    assert np.std(products[0]) == pytest.approx(side**0.5, rel=0.1)


def test_a_copy_reads_and_writes(monkeypatch):
    monkeypatch.setattr("emulator.hardware.machine._COPIED", {"cpu": 4000})
    monkeypatch.setattr("emulator.hardware.machine.best_seconds", lambda work, seconds: 0.5)
    assert copy_rate() == 2 * 4000 / 0.5


def rows_of(table):
    return {row.what: (row.value, row.ceiling) for row in table.rows}


def test_forecasts_are_counted_in_simulated_days_a_second(monkeypatch):
    """Whatever is forecast takes two seconds."""
    made = []

    def rollout(stepper, params, state, forcing, which):
        made.append((state.shape[0], forcing.shape[1]))
        return state[:, None]

    monkeypatch.setattr(forecast, "rollout", rollout)
    monkeypatch.setattr(forecast, "best_seconds", lambda work, seconds: [work(), 2.0][1])
    monkeypatch.setattr(forecast, "matrix_rate", lambda *_: 1e12)
    words = [*SMALL["forecast"][:4], "--days", "3", "--members", "2", "5", "--model", TINY, "--physics"]
    (table,) = forecast.run(parsed("forecast", words))
    assert made == [(2, 12), (5, 12)]
    found, model = rows_of(table), parse_model(TINY)
    flops = forward_flops(model, *network_channels(model, synthetic_spec(1)), Grid.gaussian(8))
    assert found["network, 2 at once, 12 steps"] == (3.0, pytest.approx(1e12 / (4 * flops)))
    assert found["network, 5 at once, 12 steps"][0] == 7.5
    assert found["network, latency of the smallest batch"] == (2.0, None)


def test_physics_is_counted_in_the_days_of_all_its_members(monkeypatch):
    ensemble = SimpleNamespace(Ensemble=lambda *_, **__: SimpleNamespace(advance=lambda states: (states, None)))
    speedy = SimpleNamespace(
        SpeedyModel=lambda _: SimpleNamespace(at_rest=lambda _: None), replicate=lambda states, _: states
    )
    monkeypatch.setitem(sys.modules, "emulator.physics.ensemble", ensemble)
    monkeypatch.setitem(sys.modules, "emulator.physics.speedy", speedy)
    monkeypatch.setattr(forecast, "best_seconds", lambda work, seconds: 4.0)
    assert forecast._physics_days(21, 6, 2) == 6 * 2 / 4.0


@pytest.mark.parametrize(("copied", "bound", "windows"), [(1e30, "arithmetic", 1e12), (1e-3, "memory traffic", 1e-3)])
def test_training_is_held_against_what_bounds_it(monkeypatch, copied, bound, windows):
    """A step of half a second for two windows."""
    monkeypatch.setattr(train, "_seconds_per_step", lambda *_: 0.5)
    monkeypatch.setattr(train, "copy_rate", lambda: copied)
    monkeypatch.setattr(Layout, "matrix_rate", lambda *_: 1e12)
    monkeypatch.setattr(Programs, "traffic", lambda *_: 10.0)
    (table,) = train.run(parsed("train", SMALL["train"]))
    found, model = rows_of(table), parse_model(TINY)
    forward = forward_flops(model, *network_channels(model, synthetic_spec(1)), Grid.gaussian(8))
    (_, (gflops, ceiling)), *_ = found.items()
    assert (gflops, ceiling) == (pytest.approx(3 * 2 * forward / 0.5 / 1e9), 1e3)
    assert found["windows"] == (4.0, pytest.approx(windows / (3 * forward) if copied > 1 else 2 * copied / 10.0))
    assert any(row.against == f"roofline, bound by {bound}" for row in table.rows)
    (longer,) = train.run(parsed("train", [*SMALL["train"], "--rollout", "2"]))
    assert longer.rows[0].value == pytest.approx(2 * gflops)


def test_a_step_is_that_of_the_best_of_three_windows(monkeypatch):
    """The first one finds caches cold, the second tells how many fill the time, and two windows are disturbed."""
    clock, taken = [0.0], []

    def program(state, batch, task):
        taken.append(9.0 if not taken else 3.0 if 11 < len(taken) <= 22 else 2.0 if len(taken) > 30 else 1.0)
        clock[0] += taken[-1]
        return state, SimpleNamespace(loss=0.0)

    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert _seconds_per_step(program, np.zeros(1), None, None, 30.0) == 1.0
    assert len(taken) == 2 + 3 * 10


def test_windows_of_all_batches_are_counted(monkeypatch):
    store = synthetic_store(rows=8, levels=1, n_times=8)
    monkeypatch.setattr(load, "write_netcdf_set", lambda *_: SimpleNamespace(config=None, paths=()))
    monkeypatch.setattr(load, "prepare", lambda *_: None)
    monkeypatch.setattr(load, "open_store", lambda *_, **__: store)
    monkeypatch.setattr(load, "_seconds", lambda *_: 0.5)
    monkeypatch.setattr(load, "_waiting", lambda *_: 1.0)
    (table,) = load.run(parsed("load", ["--batches", "3", "--batch", "2"]))
    assert [row.value for row in table.rows[:3]] == [12.0] * 3


def test_rates_of_preparing_and_scoring_are_of_all_values():
    runs = {"bare libraries, one loop": Run(4.0, 1.0), "bare libraries, 2 processes": Run(2.0, 1.0)}
    files = SimpleNamespace(nbytes=2e9, n_times=10, paths=())
    table = prepare._table(files, runs | {"prepare": Run(8.0, 3.0)})
    assert table.rows[2] == Row("prepare", 250.0, "MB/s", 1000.0, "bare libraries, 2 processes")
    assert rows_of(table)["prepare, peak memory of a process"] == (3.0, None)
    files = SimpleNamespace(values=6_000_000, shape=(3, 4, 5, 8, 16))
    table = evaluate._table(files, Run(0.5, 1.0), {"all": Run(2.0, 3.0)})
    assert rows_of(table) == {"all": (3.0, 12.0), "most memory of a process: all": (3.0, None)}
    assert "3 initial times x 4 leads x 5 channels x 16 x 8" in table.title


def test_the_ceiling_is_of_the_devices_in_use_alone(monkeypatch):
    monkeypatch.setattr("emulator.training.devices.matrix_rate", lambda dtype, devices: float(len(devices)))
    assert Layout(SimpleNamespace(local_devices=["first", "second"])).matrix_rate("float32") == 2.0


@pytest.mark.parametrize(
    ("platform", "halves", "said"),
    [
        ("cpu", 3e11, None),
        ("cpu", 1e11, "this CPU multiplies bfloat16 at 100 GFLOP/s and float32 at 200: float32 is faster"),
        ("gpu", 3e11, "bfloat16_products is for CPUs"),
    ],
)
def test_products_that_gain_nothing_are_told(monkeypatch, platform, halves, said):
    rates = {"float32": 2e11, "bfloat16_products": halves}
    monkeypatch.setattr("emulator.training.devices.matrix_rate", lambda precision, _: rates[precision])
    why = Layout(SimpleNamespace(local_devices=[SimpleNamespace(platform=platform)])).why_no_products()
    assert why is said if said is None else why.startswith(said)


def test_training_is_measured_two_steps_ahead_of_the_host():
    taken, read = [], []

    class Norms:
        def __init__(self, number):
            self.number = number

        @property
        def loss(self):
            read.append(taken[-1] - self.number)
            return 0.0

    def program(state, batch, task):
        taken.append(len(taken))
        return state, Norms(taken[-1])

    _seconds_per_step(program, np.zeros(1), None, None, 0.01)
    assert set(read) == {AHEAD}


@pytest.mark.parametrize(("steps", "shown"), [(1, True), (2, False)])
def test_training_has_a_roofline_where_traffic_is_counted_whole(steps, shown):
    words = [*SMALL["train"], "--rollout", str(steps)]
    assert ("roofline, bound by " in run("train", words)) == shown


def test_noise_has_the_shape_of_weather():
    store = synthetic_store(rows=8, levels=2, n_times=6)
    assert store.state.shape == (12, 8, 16, 4 * 2 + 2)
    assert [s.split for s in store.segments] == ["train", "validation"]
    np.testing.assert_allclose(np.std(store.state, axis=(0, 1, 2)), 1, rtol=0.05)
    np.testing.assert_allclose(np.mean(store.state, axis=(0, 1, 2)), store.statistics.mean, atol=0.1)


def test_the_network_of_a_config_is_measured_behind_free_steps_on_the_levels_it_needs(tmp_path):
    path, config = tmp_path / "small.yaml", read_yaml(ROOT / "tests" / "tiny.yaml")
    config["model"]["vertical_motion"] = True  # which is there for sigma levels alone
    config["train"]["optimiser"] = "muon"
    path.write_text(str(config))
    words = ["--levels", "2", "--seconds", "0.1", "--model", str(path)]
    arguments = parsed("train", [*words, "--precision", "bfloat16"])
    take_model(arguments)
    found = (arguments.rows, arguments.batch, arguments.optimiser, arguments.precision)
    assert found == (32, 4, "muon", "bfloat16")
    out = run("train", [*words, "--rows", "8", "--free-steps", "2"])
    assert re.search(r"unet, \S+ M parameters, 4 windows of 1 steps behind 2 ", out)
    assert "roofline" not in out  # the account of traffic counts loops once


def test_a_model_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"--model \{kind: cube\}: .*kind should be unet"):
        run("train", ["--model", "{kind: cube}"])


def test_the_script_lists_its_benchmarks():
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--help"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(name in out for name in SMALL)
