"""A config for any files, which every stage takes as it is."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
import yaml
from weather_files import SHARED, times_from, weather
from world_files import REGION, canonical, region, world

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading.locations import GRIB_SUFFIXES, find_files
from data_prep.reading.quality import Finding
from data_prep.spec import StateSpec, Variable
from emulator.benchmarks.synthetic import synthetic_store
from emulator.cli import main
from emulator.config import RolloutStage, TrainConfig, UNetConfig, load_config
from emulator.experiment.initial_times import initial_indices
from emulator.models import forward_flops
from emulator.planning import config_text, init, possible, sizing
from emulator.planning.possible import Leads, _computed
from emulator.planning.sizing import Machine, plan_by_trial, plan_training
from emulator.planning.step_trial import measured_seconds
from emulator.stepping.rollout import recomputed
from emulator.stepping.stepper import network_channels
from emulator.training.budget import AHEAD
from emulator.training.devices import Layout
from emulator.training.job import plan
from emulator.training.loader import Shape, batch_shapes
from emulator.training.validation import Validation

MACHINE = Machine("two cores", devices=1, on_cpu=True, rate=1e11, memory=8 * 2**30, halves=False)


@pytest.fixture(autouse=True)
def by_arithmetic(monkeypatch):
    """Steps take what arithmetic says: to try them takes longer than all else that most of these tests do."""

    def seconds(model, spec, grid, config):
        return sizing._seconds_a_step(model, spec, grid, MACHINE, config.batch_size)

    monkeypatch.setattr(sizing, "measured_seconds", seconds)


def lines_of(error: str) -> list[str]:
    return [line for line in error.splitlines() if line.startswith("error: ")]


def made(tmp_path, *words: str) -> dict:
    """The config that init writes, checked by the schema."""
    out = tmp_path / "my_config.yaml"
    assert main(["init", *words, "--out", str(out), "--minutes", "0.01"]) == 0
    load_config(out)
    return yaml.safe_load(out.read_text(encoding="utf-8"))


def in_order(path, folder) -> None:
    """Prepares what a config asks for, and sets up training, validation and comparison without compiling any."""
    config = load_config(path)
    store = open_store(prepare(config.data, folder / "store.zarr", folder))
    assert initial_indices(store, config.evaluate).size >= 2
    assert all(span.windows.starts.size > 0 for span in plan(config.train, config.model, store, 0))
    assert Validation.of(store, config.train, Layout.of(config.train.mesh)).rows.size > 0


@pytest.mark.parametrize(
    "name",
    [
        "era5_cds_valid_time_2022.nc",
        "ncep_r1_air_temperature_2013_2014.nc",
        "ncep_r1_hgt1000_1960_int16.nc",
    ],
)
def test_real_files_get_a_config_that_all_stages_take(name, tmp_path):
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not here")
    raw = made(tmp_path, str(SHARED / name))
    assert raw["train"].get("anomalies", False) == ("air_temperature" in name)  # more than a year, less than ten
    in_order(tmp_path / "my_config.yaml", tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("era5_tl31_19590102T00.nc", "1 time, too few for training"), ("eraint_monthly_uvz.nc", "months are no instants")],
)
def test_real_files_of_too_few_times_are_refused_in_one_line(name, reason, tmp_path, capsys):
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not here")
    assert main(["init", str(SHARED / name), "--out", str(tmp_path / "c.yaml")]) == 1
    (line,) = lines_of(capsys.readouterr().err)
    assert name in line and reason in line
    assert not (tmp_path / "c.yaml").exists()


@pytest.mark.slow
def test_init_and_run_from_nothing_to_a_table(tmp_path, monkeypatch, capsys):
    """The whole way, in a folder and with files whose names have spaces and letters of several scripts."""
    tmp_path = tmp_path / "Wetter für 数据 [1]"
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sizing, "measured_seconds", measured_seconds)
    data = region()
    canonical(data, tmp_path).rename("Luft & Druck é.nc")
    assert main(["init", "Luft & Druck é.nc", "--minutes", "0.01", "--out", "mein Wetter é.yaml"]) == 0
    out = capsys.readouterr().out
    assert "next: emulator run 'mein Wetter é.yaml'" in out
    workdir = tmp_path / "Ergebnisse 1"
    short = "train.stages=[{steps: 20, learning_rate: 1e-2}]"  # docs/own_data.md has a run with all stages
    command = ["run", "mein Wetter é.yaml", "--set", f"workdir={workdir}", "--set", short]
    for slip, code, said in (
        ("evaluate.headline=[temprature@850]", 2, "temprature@850 is not verified; did you mean temperature@850?"),
        ("evaluate.lead_hours=960", 1, "no test segment holds a forecast of 960 h"),
    ):
        assert main([*command, "--set", slip]) == code
        assert said in capsys.readouterr().err and not (workdir / "run").exists()  # before training, not behind it
    assert main(command) == 0
    out, log = capsys.readouterr()
    assert "RMSE by lead time" in out and "Damped anomaly persistence" in out
    assert all(c.isprintable() or c == "\n" for c in log)
    assert main([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["forecaster"] == "network" and Path(results["files"]["report"]).is_file()
    assert len(results["variables"]["temperature@850"]["rmse"]["network"]) == len(results["lead_hours"])
    assert main(["verify", str(workdir / "store.zarr")]) == 0
    assert main(["report", str(workdir / "scores.nc"), "--out", "Bericht ü.html"]) == 0
    options = ["--days", "1", "--out", "Vorhersage ü.nc"]
    assert main(["forecast", str(workdir / "run"), "Luft & Druck é.nc", *options]) == 0
    capsys.readouterr()
    assert main(["train", *command[1:], "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] > 0
    assert Path("Bericht ü.html").is_file() and Path("Vorhersage ü.nc").is_file()


def test_what_init_writes_is_read_as_strictly_as_what_people_write(tmp_path, monkeypatch):
    written = init.config_text
    monkeypatch.setattr(init, "config_text", lambda *a: written(*a) + "\nname: another\n")
    canonical(region(), tmp_path)
    with pytest.raises(yaml.YAMLError, match="name is there twice"):
        init.init([tmp_path], tmp_path / "c.yaml", 0.01)
    assert not (tmp_path / "c.yaml").exists()


def test_a_file_for_each_month_becomes_one_pattern(tmp_path):
    folder = tmp_path / "a [folder]"
    folder.mkdir()
    data = world(times_from("2001-01-01", 160), REGION)
    for month in range(4):
        data.isel(time=slice(40 * month, 40 * month + 40)).to_netcdf(folder / f"{month}.nc")
    section = made(tmp_path, str(folder))["data"]
    assert len(section["inputs"]) == 1 and section["inputs"][0].endswith("/*.nc")
    assert find_files([folder]) == sorted(folder.glob("*.nc"))
    (tmp_path / "plain").mkdir()
    (folder / "0.nc").rename(tmp_path / "plain" / "0.nc")
    assert find_files([f"{tmp_path}/plain/*.nc"]) == [tmp_path / "plain" / "0.nc"]  # quoted, so no shell expanded it
    for empty, reason in ((tmp_path / "plain" / "no*.nc", "matches no file"), (tmp_path / "none", "a folder without")):
        (tmp_path / "none").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=reason):
            find_files([empty])
    for ending in GRIB_SUFFIXES:
        (tmp_path / "none" / f"a{ending}").touch()
    assert len(find_files([tmp_path / "none"])) == len(GRIB_SUFFIXES)
    (tmp_path / "plain" / "0.nc").rename(folder / "0.nc")
    in_order(tmp_path / "my_config.yaml", tmp_path)


def test_files_may_name_rain_differently(tmp_path, capsys):
    data = world(times_from("2001-01-01", 160), REGION)
    rain = abs(data["mean_sea_level_pressure"] - 1e5) / 1e7
    for name, rows in (("tp", slice(None, 80)), ("apcp", slice(80, None))):
        data.assign({name: rain.assign_attrs(units="m")}).isel(time=rows).to_netcdf(tmp_path / f"{name}.nc")
    names = [str(tmp_path / f"{name}.nc") for name in ("tp", "apcp")]
    assert made(tmp_path, *names)["data"]["diagnostic"] == {"total_precipitation_6hr": {"minimum": 0}}
    assert capsys.readouterr().err.count("tp: taken as sums over 6 h") == 1
    in_order(tmp_path / "my_config.yaml", tmp_path)


@pytest.mark.parametrize("days", [60, 240, 400])
def test_short_records_are_split_so_that_anomalies_can_be_measured(days, tmp_path):
    data = world(times_from("2001-01-01", days, np.timedelta64(24, "h").astype("timedelta64[ns]")), REGION)
    data[["mean_sea_level_pressure"]].to_netcdf(tmp_path / "a.nc")
    raw = made(tmp_path, str(tmp_path / "a.nc"))
    assert raw["evaluate"]["lead_hours"] <= 24 * raw["data"]["split"]["gap_days"]
    in_order(tmp_path / "my_config.yaml", tmp_path)
    store = open_store(tmp_path / "store.zarr")
    assert np.isfinite(store.climatology.at(store.times)).all()  # of what lies in another season there is none
    assert sum(s.stop - s.start for s in store.segments if s.split == "train") > 0.45 * days


def test_levels_are_those_of_weatherbench_where_there_are_more(tmp_path):
    levels = [50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 850, 925, 1000]
    data = world(times_from("2001-01-01", 60), REGION)[["temperature"]].isel(level=[0] * len(levels))
    data.assign_coords(level=("level", levels, {"units": "hPa"})).to_netcdf(tmp_path / "a.nc")
    chosen = made(tmp_path, str(tmp_path / "a.nc"))["data"]["prognostic"]["temperature"]["levels"]
    assert chosen == [x for x in levels if x not in (350, 450)]


def test_times_beyond_repair_are_left_out_and_said(tmp_path, capsys):
    """A day without values and a field that repeats; where too much is lost the files are to be mended."""
    data = world(times_from("2001-01-01", 160))
    data["temperature"][41, 0] = data["temperature"][40, 0]
    data["2m_temperature"][80:84, :3] = np.nan
    data.to_netcdf(tmp_path / "a.nc")
    raw = made(tmp_path, str(tmp_path / "a.nc"))
    assert raw["data"]["exclude"] == [["2001-01-11T06:00"] * 2, ["2001-01-21T00:00", "2001-01-21T18:00"]]
    assert "what is beyond repair is left out (exclude)" in capsys.readouterr().out
    store = open_store(prepare(DataConfig.model_validate(raw["data"]), tmp_path / "store.zarr", tmp_path))
    assert 0 < store.times.size <= 155
    data["2m_temperature"][80:100, :3] = np.nan
    data.to_netcdf(tmp_path / "b.nc")
    assert main(["init", str(tmp_path / "b.nc"), "--out", str(tmp_path / "b.yaml")]) == 1
    assert "leave the times out by data.exclude" in capsys.readouterr().err
    alone = data[["2m_temperature"]].where(data["longitude"] > data["longitude"][0])
    alone["2m_temperature"][7, 3, 4] = 900.0
    alone.to_netcdf(tmp_path / "c.nc")
    assert main(["init", str(tmp_path / "c.nc"), "--out", str(tmp_path / "c.yaml")]) == 1
    assert "no other variable can be predicted" in capsys.readouterr().err


def test_repairable_defects_are_repaired_and_said(tmp_path, capsys):
    data = world(times_from("2001-01-01", 120), REGION)
    xr.concat([data, data.isel(time=[-1])], "time").to_netcdf(tmp_path / "a.nc")
    assert made(tmp_path, str(tmp_path / "a.nc"))["data"]["repair"] == ["duplicates"]
    assert "repaired by duplicates" in capsys.readouterr().out
    in_order(tmp_path / "my_config.yaml", tmp_path)


def test_a_config_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("mine")
    path = canonical(world(), tmp_path)
    assert main(["init", str(path), "--out", str(tmp_path / "c.yaml")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "c.yaml").read_text() == "mine"


def test_where_nothing_can_be_written_nothing_is_looked_at(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(init, "inspect_files", lambda *_: pytest.fail("works for nothing"))
    path = canonical(world(), tmp_path)
    assert main(["init", str(path), "--out", str(tmp_path / "file/c.yaml")]) == 1
    assert f"{tmp_path / 'file'}" in capsys.readouterr().err


def test_a_line_break_in_a_name_does_not_end_a_comment(tmp_path):
    path = canonical(world(times_from("2001-01-01", 60), REGION), tmp_path).rename(tmp_path / "a\nb: c\x07.nc")
    assert made(tmp_path, str(path))["data"]["inputs"] == [str(path)]


@pytest.mark.parametrize("stem", ["2020", "1e3", "null"])
def test_a_file_may_be_called_like_a_number(tmp_path, stem):
    path, out = canonical(world(times_from("2001-01-01", 60), REGION), tmp_path), tmp_path / f"{stem}.yaml"
    assert main(["init", str(path), "--out", str(out), "--minutes", "0.01"]) == 0
    assert load_config(out).name == stem


def test_a_config_is_whole_or_not_there(tmp_path, monkeypatch):
    path, out = canonical(world(times_from("2001-01-01", 60), REGION), tmp_path), tmp_path / "c.yaml"
    write = Path.write_text

    def killed(file, text, **options):
        write(file, text[:100], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", killed)
    assert main(["init", str(path), "--out", str(out)]) == 130
    assert not out.exists()


def test_references_learn_from_stretches_as_long_as_a_forecast(tmp_path):
    """Of a record with a gap after every four times in its training part; or 'run' would refuse what init proposed."""
    data = region()
    rows = np.arange(data.sizes["time"])
    data.isel(time=(rows > 92) | (rows % 5 > 0)).to_netcdf(tmp_path / "a.nc")
    raw = made(tmp_path, str(tmp_path / "a.nc"))
    assert raw["evaluate"]["lead_hours"] == 24
    assert raw["evaluate"]["references"] == ["persistence", "anomaly_persistence", "climatology"]
    assert "No damped_anomaly_persistence or linear_pcs: too few" in (tmp_path / "my_config.yaml").read_text()


def test_physics_is_left_out_for_a_reason(tmp_path):
    path = canonical(world(times_from("2001-01-01", 60)), tmp_path)
    made(tmp_path, str(path))
    (line,) = [x for x in (tmp_path / "my_config.yaml").read_text().splitlines() if x.startswith("  physics:")]
    assert line.startswith("  physics: []  # ")
    assert "Gaussian grid" in line or "extra 'physics' is not installed" in line


@pytest.mark.physics
def test_physics_takes_part_where_it_can_start(tmp_path, capsys):
    pytest.importorskip("jcm")
    data = world(times_from("2001-01-01", 60), Grid.gaussian(32)).drop_vars("2m_temperature")
    data.to_netcdf(tmp_path / "few.nc")
    assert made(tmp_path, str(tmp_path / "few.nc"))["evaluate"]["physics"] == []
    assert "physics  no: SPEEDY would have no fair start from 2 levels, 500 to 850 hPa" in capsys.readouterr().out
    (tmp_path / "my_config.yaml").unlink()
    levels = np.array([100.0, 300.0, 500.0, 850.0, 925.0])
    data = data.reindex(level=levels, method="nearest").assign_coords(level=("level", levels, data["level"].attrs))
    data["geopotential"].data[...] += 7e4 * np.log([5.0, 5 / 3, 1.0, 1.0, 0.92])[:, None, None]
    data.to_netcdf(tmp_path / "a.nc")
    raw = made(tmp_path, str(tmp_path / "a.nc"))
    assert raw["evaluate"]["physics"] == [{"truncation": 21}]
    assert raw["data"]["prognostic"]["specific_humidity"]["minimum"] == 0


def spec(channels: int = 4) -> StateSpec:
    return StateSpec(tuple(Variable(f"v{i}", "prognostic") for i in range(channels)))


@pytest.mark.parametrize("shape", [(5, 5), (25, 53), (31, 60), (73, 144), (721, 1440)])
def test_a_network_is_found_for_every_grid(shape):
    rows, columns = shape
    is_global = columns > 53
    grid = Grid.from_arrays(
        np.linspace(-90, 90, rows) if is_global else np.linspace(0, 20, rows),
        np.arange(columns) * (360 / columns if is_global else 1.0),
    )
    found = plan_training(spec(), grid, [1000], MACHINE, 5)
    assert found.steps >= 1 and found.batch_size % found.accumulate == 0


def test_more_time_never_makes_a_smaller_network():
    grid = Grid.gaussian(32)
    plans = [plan_training(spec(40), grid, [4000], MACHINE, minutes) for minutes in (1, 5, 60, 600)]
    widths = [p.model.width for p in plans]
    assert widths == sorted(widths) and widths[-1] > widths[0]
    assert all(p.seconds <= 60 * m * 1.01 or p.model.width == 16 for p, m in zip(plans, (1, 5, 60, 600), strict=True))


def test_an_accelerator_gets_what_its_time_and_number_are_worth():
    grid, one = Grid.gaussian(32), Machine("a GPU", devices=1, on_cpu=False, rate=7e14, memory=60 * 2**30)
    short, long = (plan_training(spec(40), grid, [57_000], one, minutes) for minutes in (10, 960))
    assert long.model.width > short.model.width and long.longest_course and not short.longest_course
    eight = plan_training(spec(40), grid, [57_000], replace(one, devices=8, rate=8 * one.rate), 60)
    assert eight.batch_size == 8 * short.batch_size


def test_the_memory_of_a_step_is_that_of_the_tensors_it_keeps():
    model, grid = UNetConfig(patch=1, width=32, multipliers=[1], blocks=4), Grid.gaussian(32)
    full, half = (sizing._traced(model, spec(4), grid, precision).kept_bytes for precision in ("float32", "bfloat16"))
    field = 4 * 32 * 64 * 32  # of the width, in float32
    assert 8 * field < full < 60 * field and 0.4 * full < half < 0.7 * full


@pytest.mark.parametrize(
    ("minutes", "times", "few"), [(0.01, 4000, False), (1, 4000, False), (600, 100, True), (6000, 40_000, False)]
)
def test_data_are_few_where_the_passes_end_the_first_stage_and_not_where_time_does(minutes, times, few):
    found = plan_training(spec(), Grid.gaussian(32), [times], MACHINE, minutes)
    passes = found.stages[0].steps * found.batch_size / (times - 1)
    assert found.few_data == few == (abs(passes / sizing.MOST_PASSES - 1) < 0.01)


def test_the_time_of_training_follows_from_steps_that_were_timed(monkeypatch):
    """On a machine on which wide networks are ten times slower than arithmetic says, and narrow ones twice."""
    grid, state = Grid.gaussian(32), spec(40)
    by_arithmetic = plan_training(state, grid, [4000], MACHINE, 60)
    tried = []

    def slow(model, spec, grid, config):
        tried.append(model.width)
        slower = 10 if model.width >= by_arithmetic.model.width else 2
        return slower * sizing._seconds_a_step(model, spec, grid, MACHINE, config.batch_size)

    monkeypatch.setattr(sizing, "measured_seconds", slow)
    found = plan_by_trial(state, grid, [4000], MACHINE, 60)
    assert found.measured and not by_arithmetic.measured
    assert tried[0] == by_arithmetic.model.width > found.model.width and len(tried) == len(set(tried))
    steps = [s.steps * (s.rollout + s.free_steps / 3) for s in found.stages]
    needed = [n * slow(found.model, state, grid, config_of(s, found)) for n, s in zip(steps, found.stages, strict=True)]
    assert sum(needed) == pytest.approx(3600, rel=0.01)


@pytest.mark.parametrize(
    ("halves", "gain", "precision"),
    [(True, 0.6, "bfloat16_products"), (True, 0.95, "float32"), (False, 0.6, "float32")],
)
def test_products_of_bfloat16_are_proposed_where_a_step_was_timed_to_be_faster(monkeypatch, halves, gain, precision):
    grid, state = Grid.gaussian(32), spec(40)
    machine = replace(MACHINE, halves=halves)
    plain = plan_by_trial(state, grid, [4000], MACHINE, 60)
    tried = []

    def seconds(model, spec, grid, config):
        tried.append(config.precision)
        by_arithmetic = sizing._seconds_a_step(model, spec, grid, MACHINE, config.batch_size)
        return by_arithmetic * (gain if config.precision == "bfloat16_products" else 1.0)

    monkeypatch.setattr(sizing, "measured_seconds", seconds)
    found = plan_by_trial(state, grid, [4000], machine, 60)
    assert found.precision == precision and ("bfloat16_products" in tried) == halves
    steps = sum(s.steps * (s.rollout + s.free_steps / 3) for s in found.stages)
    by_arithmetic = sizing._seconds_a_step(found.model, state, grid, MACHINE, found.batch_size)
    assert steps * by_arithmetic * (gain if precision != "float32" else 1.0) == pytest.approx(3600, rel=0.01)
    larger = (found.model.width, found.steps) > (plain.model.width, plain.steps)
    assert larger == (precision != "float32")


def config_of(stage, found) -> TrainConfig:
    return TrainConfig(batch_size=stage.batch_size or found.batch_size, stages=[stage])


def test_a_network_too_large_to_be_tried_is_planned_by_arithmetic(monkeypatch):
    monkeypatch.setattr(sizing, "measured_seconds", lambda *_: pytest.fail("this would take minutes"))
    slow = Machine("an old one", devices=1, on_cpu=True, rate=1e8, memory=8 * 2**30)
    assert not plan_by_trial(spec(40), Grid.gaussian(64), [4000], slow, 60).measured


def test_the_step_that_is_timed_is_that_of_training():
    state = StateSpec(
        (
            Variable("a", "prognostic"),
            Variable("rain", "diagnostic", minimum=0.0),
            Variable("day_progress", "forcing", known="computed"),
            Variable("mask", "static"),
        )
    )
    model = UNetConfig(patch=1, width=16, multipliers=[1], blocks=1)
    config = TrainConfig(batch_size=4, accumulate=2, optimiser="muon", stages=[RolloutStage(steps=1)])
    assert 0 < measured_seconds(model, state, REGION, config) < 60


def test_little_data_get_rollouts_as_long_as_the_forecasts():
    grid = Grid.from_arrays(np.linspace(15, 75, 25), np.linspace(200, 330, 53))
    found = plan_training(spec(1), grid, [2000], MACHINE, 5, longest=20)
    assert [s.rollout for s in found.stages] == [1, 6, 20]
    assert found.seconds == pytest.approx(300, rel=0.05)
    short = plan_training(spec(1), grid, [8, 8], MACHINE, 5, longest=20)
    assert all(s.rollout < 8 for s in short.stages)


def test_rollouts_go_no_farther_than_the_forecasts_that_they_are_for():
    grid = Grid.from_arrays(np.linspace(15, 75, 25), np.linspace(200, 330, 53))
    for longest, rollouts in ((1, [1]), (5, [1, 5]), (6, [1, 6]), (9, [1, 6, 9])):
        found = plan_training(spec(1), grid, [2000], MACHINE, 5, 24, longest)
        assert [s.rollout for s in found.stages] == rollouts
        assert found.seconds == pytest.approx(300, rel=0.05)


def global_grid(degrees: float) -> Grid:
    return Grid.from_arrays(np.linspace(-90, 90, round(180 / degrees) + 1), np.arange(0, 360, degrees))


@pytest.mark.parametrize(("degrees", "gpus", "windows"), [(0.75, 3, 4000), (0.25, 1, 11), (0.25, 7, 400)])
def test_the_batches_of_all_stages_are_worked_off_in_the_same_parts(degrees, gpus, windows):
    machine = Machine("GPUs", devices=gpus, on_cpu=False, rate=1e14, memory=24 * 10**9)
    found = plan_training(spec(65), global_grid(degrees), [windows + 1], machine, 6000, longest=20)
    sizes = [stage.batch_size or found.batch_size for stage in found.stages]
    assert found.accumulate > 1 or found.rematerialise
    assert all(size % (found.accumulate * gpus) == 0 for size in sizes)
    TrainConfig(batch_size=found.batch_size, accumulate=found.accumulate, stages=list(found.stages))


@pytest.mark.parametrize(("degrees", "longest", "gib"), [(0.25, None, 60), (0.5, None, 18), (0.75, 20, 60)])
def test_batches_that_wait_leave_room_for_the_network(degrees, longest, gib):
    machine = Machine("a GPU", devices=1, on_cpu=False, rate=7e14, memory=gib * 2**30)
    found = plan_training(spec(85), global_grid(degrees), [4000], machine, 600, longest=longest)
    for stage in found.stages:
        states = (stage.batch_size or found.batch_size) * (1 + stage.rollout)
        n_bytes = 4 * 85 * states * math.prod(global_grid(degrees).shape)
        assert (1 + 2 + AHEAD) * n_bytes < 0.3 * machine.memory  # budget.Programs.memory counts as many


@pytest.mark.parametrize(("windows", "widest"), [(2900, 384), (14600, 1024)])
def test_networks_of_long_trainings_are_for_data_that_repay_one(windows, widest):
    machine = Machine("a GPU", devices=1, on_cpu=False, rate=7e14, memory=60 * 2**30)
    assert plan_training(spec(65), global_grid(5.625), [windows], machine, 60).model.width == widest


@pytest.mark.parametrize("degrees", [1, 0.25])
def test_too_few_steps_are_said_and_not_spent_on_rollouts(degrees):
    found = plan_training(spec(65), global_grid(degrees), [4000], MACHINE, 1, longest=20)
    assert [s.rollout for s in found.stages] == [1] and found.model.width == 16
    assert found.warning.startswith(f"{found.stages[0].steps} single steps are too few to learn from: take about ")
    minutes = int(found.warning.split("about ")[1].split()[0])
    longer = plan_training(spec(65), global_grid(degrees), [4000], MACHINE, minutes, longest=20)
    assert longer.warning == "" and [s.rollout for s in longer.stages] == [1, 6, 20]
    assert longer.stages[0].steps >= 199


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(20, "1 minute "), (60, "1 minute "), (61, "2 minutes "), (179, "3 minutes ")]
)
def test_minutes_that_are_asked_for_are_enough(seconds, minutes):
    found = replace(plan_training(spec(), Grid.gaussian(32), [4000], MACHINE, 5), enough=float(seconds))
    assert f"take about {minutes}(init --minutes)" in found.warning


def test_one_level_sees_far_enough_or_there_are_two():
    coarse, fine = Grid.gaussian(48), Grid.from_arrays(np.linspace(-90, 90, 721), np.arange(1440) / 4)
    region = Grid.from_arrays(np.arange(20, 70, 2.5), np.arange(200, 270, 2.5))
    found = [plan_training(spec(), grid, [4000], MACHINE, 5).model for grid in (coarse, fine, region)]
    assert [(m.multipliers, m.blocks) for m in found] == [([1], 4), ([1, 2], 1), ([1], 4)]
    assert [m.global_truncation for m in found] == [4, 0, 0]  # a region has no such harmonics


@pytest.mark.parametrize(("rows", "longest", "column_width"), [(48, None, 128), (48, 20, 0), (24, None, 0)])
def test_columns_have_a_network_where_data_are_ample_and_patches_hold_several(rows, longest, column_width):
    model = plan_training(spec(), Grid.gaussian(rows), [4000], MACHINE, 5, longest=longest).model
    assert model.column_width == column_width and (model.patch > 1) == (rows == 48)


def test_filters_are_no_finer_than_the_cells():
    model = plan_training(spec(), Grid.gaussian(4), [4000], MACHINE, 5).model
    assert model.global_truncation == 4 // model.patch - 2 == 2


@pytest.mark.parametrize(("hours", "free"), [(1, 3), (6, 3), (12, 1), (24, 1)])
def test_free_steps_and_the_one_in_the_loss_make_a_day(hours, free):
    found = plan_training(spec(), Grid.gaussian(32), [4000], MACHINE, 5, hours)
    assert [(s.rollout, s.free_steps) for s in found.stages] == [(1, 0), (1, free)]
    short = plan_training(spec(), Grid.gaussian(32), [2] * 400, MACHINE, 5, hours)  # no stretch holds two steps
    assert [s.free_steps for s in short.stages] == [0]
    assert found.seconds == pytest.approx(300, rel=0.05) and short.seconds == pytest.approx(300, rel=0.05)


def test_what_the_wind_brings_is_shown_where_it_blows_at_every_level_and_was_tried():
    winds = spec_of("u_component_of_wind", "v_component_of_wind", "temperature")
    lacking = spec_of("u_component_of_wind", "temperature")

    def shown(spec: StateSpec, hours: float = 6, longest: int | None = None) -> bool:
        return plan_training(spec, Grid.gaussian(32), [4000], MACHINE, 5, hours, longest).model.advection

    assert shown(winds) and shown(winds, 12)
    assert not shown(lacking) and not shown(spec()) and not shown(winds, 24) and not shown(winds, 6, longest=20)


def spec_of(*names: str) -> StateSpec:
    return StateSpec(tuple(Variable(name, "prognostic", (500.0, 850.0)) for name in names), "pressure")


def test_what_winds_bring_and_free_steps_are_in_the_config_of_whom_has_winds_and_time(tmp_path):
    canonical(world(times_from("2001-01-01", 120), REGION), tmp_path)
    out = tmp_path / "my_config.yaml"
    assert main(["init", str(tmp_path), "--out", str(out), "--minutes", "1"]) == 0
    config = load_config(out)
    assert config.model.advection
    assert [(s.rollout, s.free_steps) for s in config.train.stages] == [(1, 0), (1, 3)]
    in_order(out, tmp_path)


@pytest.mark.parametrize(
    ("backend", "rates", "precision"),
    [
        ("cpu", {"float32": 1e11, "bfloat16_products": 4e11}, "float32"),  # until a step was timed
        ("gpu", {"float32": 5e14, "bfloat16": 9e14}, "bfloat16"),
        ("gpu", {"float32": 8e12, "bfloat16": 3e12}, "float32"),  # as before Ampere
    ],
)
def test_a_machine_computes_in_what_it_multiplies_fastest(monkeypatch, backend, rates, precision):
    monkeypatch.setattr(sizing.jax, "default_backend", lambda: backend)
    monkeypatch.setattr(sizing, "matrix_rate", rates.__getitem__)
    machine = sizing.this_machine()
    assert (machine.precision, machine.rate) == (precision, rates[precision])
    assert machine.halves == (max(rates, key=rates.get) != "float32")


def test_a_machine_is_planned_for_by_what_it_has_free_and_how_busy_it_is(monkeypatch):
    monkeypatch.setattr(sizing, "matrix_rate", lambda _: 1e11)
    monkeypatch.setattr(sizing, "device_memory", lambda: (16 * 2**30, 5 * 2**30))
    monkeypatch.setattr(sizing.os, "getloadavg", lambda: (3.0, 99.0, 99.0), raising=False)
    monkeypatch.setattr(sizing.os, "cpu_count", lambda: 4)
    machine = sizing.this_machine()
    assert (machine.memory, machine.load) == (5 * 2**30, 0.75)


@pytest.mark.parametrize(("on_cpu", "width", "share", "always"), [(True, 64, 0.3, 0.05), (False, 128, 0.125, 0.005)])
def test_a_step_is_three_passes_at_half_of_the_widest_networks_share_of_the_rate(on_cpu, width, share, always):
    model, grid, state = UNetConfig(patch=1, width=width, multipliers=[1], blocks=1), Grid.gaussian(32), spec()
    once = forward_flops(model, *network_channels(model, state), grid)
    found = sizing._seconds_a_step(model, state, grid, replace(MACHINE, on_cpu=on_cpu), 8)
    assert found == pytest.approx(always + 8 * 3 * once / (share * 1e11))


def test_batches_take_the_bytes_of_those_that_are_read():
    store = synthetic_store(8, 2, 12)
    part = sizing._Part(rollout=2, free_steps=3, share=1.0, learning_rate=1e-3, batch=4)
    fields = batch_shapes(store, Shape(4, 2, 3))[:2]
    assert sizing._batch_bytes(part, store.spec, store.grid) == 4 * sum(math.prod(shape) for shape in fields)


def test_learning_rates_rise_over_a_fifteenth_of_a_stage_and_rollouts_have_half_a_batch():
    short, long = (plan_training(spec(1), Grid.gaussian(32), [4000], MACHINE, m, longest=20) for m in (5, 600))
    assert [s.warmup for s in short.stages] == [max(1, min(100, s.steps // 15)) for s in short.stages]
    assert max(s.warmup for s in short.stages) < 100 == long.stages[0].warmup
    for found in (short, long):
        assert (found.batch_size, [s.batch_size for s in found.stages]) == (8, [None, 4, 4])


def test_validation_and_averages_follow_the_steps_that_are_proposed(tmp_path):
    canonical(world(times_from("2001-01-01", 160), REGION), tmp_path)
    assert main(["init", str(tmp_path), "--out", str(tmp_path / "c.yaml"), "--minutes", "1"]) == 0
    train = load_config(tmp_path / "c.yaml").train
    steps = sum(stage.steps for stage in train.stages)
    assert 20 < steps < 3000 and train.ema_decay == 0.99 and train.validate_every == steps // 4
    section = yaml.safe_load((tmp_path / "c.yaml").read_text(encoding="utf-8"))["data"]["split"]
    first, last = (np.datetime64(t) for t in section["validation"])
    assert train.validation_steps == min(12, ((last - first) // np.timedelta64(6, "h")) // 2)


@pytest.mark.parametrize(("parts", "again"), [(1, False), (2, False), (2, True)])
def test_how_a_batch_fits_the_memory_is_in_the_config(parts, again):
    data = SimpleNamespace(
        lengths={"validation": [40]}, training_times=times_from("2001-01-01", 100), section={"timestep_hours": 6.0}
    )
    found = plan_training(spec(1), Grid.gaussian(32), [4000], MACHINE, 5)
    lines = config_text._train_lines(data, replace(found, accumulate=parts, rematerialise=again), MACHINE, 5)
    train = yaml.safe_load("\n".join(lines))["train"]
    assert (train.get("accumulate", 1), train.get("rematerialise", False)) == (parts, again)


@pytest.mark.parametrize(("steps", "seconds", "every"), [(6000, 600.0, 1200), (600, 6000.0, 200), (1000, 90.0, 1300)])
def test_the_state_is_saved_about_every_two_minutes_but_no_more_often_than_200_steps(steps, seconds, every):
    assert config_text._every_two_minutes(SimpleNamespace(steps=steps, seconds=seconds)) == every


def test_ranges_in_the_config_are_of_all_files(tmp_path):
    data = world(times_from("2001-01-01", 160), REGION)[["2m_temperature"]]
    data["2m_temperature"] = data["2m_temperature"].clip(270, 300)
    data["2m_temperature"][100, 2, 2], data["2m_temperature"][20, 2, 2] = 312.5, 258.5
    for number in range(2):
        data.isel(time=slice(80 * number, 80 * number + 80)).to_netcdf(tmp_path / f"{number}.nc")
    made(tmp_path, str(tmp_path / "0.nc"), str(tmp_path / "1.nc"))
    assert "  # K, 258.5 to 312.5\n" in (tmp_path / "my_config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("days", "every", "hours", "day", "year"),
    [
        (4 * 365, 1, 24, False, True),
        (4 * 365, 1, 6, True, True),
        (2 * 365, 1, 6, True, False),
        (9 * 365, 2, 6, True, False),
    ],
)
def test_dates_are_an_input_where_years_enough_cover_the_year(days, every, hours, day, year, tmp_path):
    """The last has nine years of which the second half is missing throughout: a climatology would be made up there."""
    times = times_from("2001-01-01", days * 24 // hours, np.timedelta64(hours, "h"))
    times = times[(times - times.astype("datetime64[Y]")) < np.timedelta64(366 // every, "D")]
    weather(times[:2]).to_netcdf(tmp_path / "a.nc")
    report = SimpleNamespace(files=[SimpleNamespace(source=SimpleNamespace(path=tmp_path / "a.nc"))])
    found = _computed(times, float(hours), report)
    assert (found[0] == "daily_mean_toa_incident_solar_radiation") == (not day) == ("day_progress" not in found)
    assert ("year_progress" in found) == year and found[-1] == "coordinates"


@pytest.mark.parametrize(("is_global", "longest"), [(True, 240), (False, 120)])
def test_leads_reach_ten_days_on_the_globe_and_five_in_a_region(is_global, longest):
    data = SimpleNamespace(
        section={"timestep_hours": 6.0, "split": {"train": [], "gap_days": 10.0}},
        lengths={"test": [2000]},
        inputs=SimpleNamespace(grid=SimpleNamespace(is_global=is_global)),
    )
    assert Leads.of(data).longest == longest
    assert Leads.of(SimpleNamespace(**vars(data) | {"lengths": {"test": [41]}})).longest == 120  # half of ten days


@pytest.mark.parametrize(
    ("times", "regression", "correction"), [(40, False, False), (799, False, True), (800, True, True)]
)
def test_what_learns_from_training_forecasts_is_proposed_where_there_are_enough(times, regression, correction):
    """Of ten days, which are 40 steps: the regression wants twenty times as many, a correction one more at least."""
    data = SimpleNamespace(
        lengths={"train": [times]},
        training_times=times_from("2001-01-01", times),
        section={"timestep_hours": 6.0, "prognostic": {}},
        inputs=SimpleNamespace(grid=Grid.gaussian(8), spec=spec(1)),
    )
    lines = config_text._evaluate_lines(data, Leads(240, 6, 24), ([{"truncation": 21}], "why"))
    evaluate = yaml.safe_load("\n".join(lines))["evaluate"]
    assert ("linear_pcs" in evaluate["references"]) == regression
    assert evaluate.get("correction_inits") == (None if correction else 0)


def test_times_are_left_out_up_to_a_twentieth(monkeypatch):
    times = times_from("2001-01-01", 60)
    monkeypatch.setattr(possible, "record_times", lambda _: times)
    for last, refused in ((9, False), (10, True)):  # three of 60 times, and four
        found = Finding("error", "missing", "t2m", times[7], times[last], last - 6, "NaN")
        report = SimpleNamespace(findings=[found], files=(), refusal="a defect", is_mendable=True)
        if refused:
            with pytest.raises(DataError, match="a defect"):
                possible._repairs(report)
        else:
            assert possible._repairs(report) == {"exclude": [["2001-01-02T18:00", "2001-01-03T06:00"]]}


def test_little_memory_is_lived_with():
    grid = Grid.gaussian(64)
    small = Machine("small", devices=1, on_cpu=False, rate=1e13, memory=2**28)
    found = plan_training(spec(70), grid, [4000], small, 10)
    assert found.accumulate > 1 or found.rematerialise


def test_what_is_computed_again_takes_its_time():
    small = Machine("small", devices=1, on_cpu=True, rate=1e11, memory=2**24)
    found = plan_training(spec(10), Grid.gaussian(32), [2000], small, 30, longest=20)
    assert found.rematerialise and found.stages[-1].rollout == 20
    spent = [
        stage.steps
        * recomputed(stage.rollout)
        * stage.rollout
        * sizing._seconds_a_step(found.model, spec(10), Grid.gaussian(32), small, stage.batch_size or found.batch_size)
        for stage in found.stages
    ]
    assert found.seconds == pytest.approx(sum(spent)) == pytest.approx(1800, rel=0.05)


@pytest.mark.parametrize("starts", [1400, 700, 2000])
def test_proposed_initial_times_come_at_all_hours_of_the_day_that_the_data_have(starts):
    split = {"train": [], "gap_days": 10.0}
    grid = SimpleNamespace(is_global=True)
    data = SimpleNamespace(
        section={"timestep_hours": 6.0, "split": split},
        lengths={"test": [starts + 40]},
        inputs=SimpleNamespace(grid=grid),
    )
    leads = Leads.of(data)
    assert leads.longest == 240
    assert {k * leads.every % 24 for k in range(24)} == {0, 6, 12, 18}


@pytest.mark.parametrize(("made_by", "sun"), [("SPEEDY T21", "daily_mean_"), ("IFS", "")])
def test_the_sun_of_speedy_does_not_rise_and_set(made_by, sun, tmp_path):
    times = times_from("2001-01-30", 6)
    weather(times).assign_attrs(source=made_by).to_netcdf(tmp_path / "a.nc")
    report = SimpleNamespace(files=[SimpleNamespace(source=SimpleNamespace(path=tmp_path / "a.nc"))])
    found = _computed(times, 6.0, report)
    assert found[0] == f"{sun}toa_incident_solar_radiation" and ("day_progress" in found) == (not sun)
