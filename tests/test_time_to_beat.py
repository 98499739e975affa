"""The clock from nothing to a network that beats physics: what is counted, what is refused, what is told."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import ConfigError, UserError
from emulator.config import parse_config
from emulator.experiment.running import stage_seconds
from emulator.studies import time_to_beat
from emulator.studies.time_to_beat import Attempt, format_records, main, ratios_to_physics

EXPERIMENT = {
    "name": "tiny",
    "simulate": {},
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 3}]},
    "evaluate": {"physics": [{}]},
}


def scores():
    """The network has half the error of T21 in one headline variable and 1.5 times it in the other, at five days."""
    rmse = {"network": (2.0, 6.0, 0.1), "physics_t21": (4.0, 4.0, 1.0), "physics_t21_damped": (2.0, 3.0, 1.0)}
    late = np.array(list(rmse.values()))[:, :, None, None]
    return xr.Dataset(
        {"rmse": (("forecaster", "variable", "lead_time", "region"), np.concatenate([0.1 * late, late], axis=2))},
        {
            "forecaster": list(rmse),
            "variable": ["geopotential@500", "temperature@850", "surface_pressure"],
            "lead_time": np.array([24, 120], "timedelta64[h]").astype("timedelta64[ns]"),
            "region": ["all"],
        },
        {"headline": "geopotential@500 temperature@850", "initial_times": 7},
    )


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A folder as a run leaves it; nothing is run."""
    record = {"fingerprint": "", "finished": True}
    seconds = {"simulate": 60.0, "prepare": 30.0, "train": 90.0, "forecast": 1000.0}
    (tmp_path / "stages.json").write_text(json.dumps({k: record | {"seconds": v} for k, v in seconds.items()}))
    scores().to_netcdf(tmp_path / "scores.nc")
    monkeypatch.setattr(time_to_beat, "run_stages", lambda config, **_: config.path)
    return tmp_path


def test_the_verdict_is_the_mean_over_headline_variables():
    ratios = ratios_to_physics(scores(), 120.0)
    assert ratios == pytest.approx({"physics_t21": np.sqrt(0.5 * 1.5), "physics_t21_damped": np.sqrt(1.0 * 2.0)})


@pytest.mark.parametrize(
    ("evaluate", "hours", "said"),
    [
        ({}, 120.0, "evaluate.physics: names no baseline to beat"),
        ({"physics": [{}], "lead_hours": 96}, 120.0, "--hours 120: would not be scored"),
        ({"physics": [{}]}, float("nan"), "--hours nan: would not be scored"),
        ({"physics": [{}]}, float("inf"), "--hours inf: would not be scored"),
        ({"physics": [{}]}, 1e300, r"--hours 1e\+300: would not be scored"),
    ],
)
def test_an_attempt_without_a_verdict_is_not_made(evaluate, hours, said, tmp_path, monkeypatch):
    monkeypatch.setattr(time_to_beat, "run_stages", lambda *_, **__: pytest.fail("there was work"))
    with pytest.raises(ConfigError, match=said):
        time_to_beat.attempt(parse_config({**EXPERIMENT, "evaluate": evaluate, "workdir": str(tmp_path)}), hours)


def test_simulation_preparation_and_training_count(finished):
    config = parse_config({**EXPERIMENT, "workdir": str(finished)})
    made = time_to_beat.attempt(config, 120.0)
    assert made.minutes == {"simulate": 1.0, "prepare": 0.5, "train": 1.5}
    assert made.total == 3.0
    assert made.initial_times == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reuse": "runs/other"}, "reuse: the clock counts from nothing"),
        ({"train": EXPERIMENT["train"] | {"start_from": "speedy_t31"}}, "train.start_from: the clock counts from"),
        ({"simulate": None}, "simulate: the clock counts the simulation of the data, and there is none"),
    ],
)
def test_an_attempt_that_takes_from_elsewhere_is_none(change, said, finished):
    with pytest.raises(UserError, match=said):
        time_to_beat.attempt(parse_config({**EXPERIMENT, "workdir": str(finished), **change}), 120.0)


def test_who_was_not_held_against_damped_physics_comes_last(finished):
    made = time_to_beat.attempt(parse_config({**EXPERIMENT, "workdir": str(finished)}), 120.0, ["seed=3"])
    assert made.lost == 1 and made.changed == ["seed=3"]
    raw_alone = replace(made, config="raw", ratios={"physics_t21": 0.5}, minutes={"train": 0.1})
    winner = replace(made, config="won", ratios={"physics_t21": 0.9, "physics_t21_damped": 0.99})
    rows = format_records([raw_alone, made, winner]).splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["won", "raw", "tiny"]


def test_a_stage_that_was_stopped_has_no_clock(finished):
    records = json.loads((finished / "stages.json").read_text())
    records["train"]["resumed"] = True
    (finished / "stages.json").write_text(json.dumps(records))
    with pytest.raises(UserError, match="'train' was stopped on its way"):
        stage_seconds(finished, "train")
    with pytest.raises(UserError, match="'plot' is not finished"):
        stage_seconds(finished, "plot")


def test_an_attempt_that_cannot_be_kept_is_not_made(finished, tmp_path, monkeypatch, capsys):
    config, folder = tmp_path / "tiny.yaml", tmp_path / "docs"
    config.write_text(json.dumps({**EXPERIMENT, "workdir": str(finished)}))
    words = [str(config), "--records", str(folder / "records.jsonl")]
    run = time_to_beat.run_stages
    monkeypatch.setattr(time_to_beat, "run_stages", lambda *_, **__: pytest.fail("there was work"))
    assert main(words) == 2
    assert f"--records {folder / 'records.jsonl'}: cannot be written" in capsys.readouterr().err
    folder.mkdir()
    (folder / "records.jsonl").write_text("{}")
    assert main(words) == 1  # a table that is none, which the new line would go into
    (folder / "records.jsonl").unlink()
    monkeypatch.setattr(time_to_beat, "run_stages", lambda config, **_: [folder.rmdir(), run(config)][1])
    assert main(words) == 1
    assert "| tiny | 3.0 (1.0 + 0.5 + 1.5) |" in capsys.readouterr().out


def test_attempts_collect_in_a_table_with_the_fastest_winner_first(finished, tmp_path, capsys):
    config, records = tmp_path / "tiny.yaml", tmp_path / "records.jsonl"
    config.write_text(json.dumps({**EXPERIMENT, "workdir": str(finished)}))
    for _ in range(2):
        assert main([str(config), "--records", str(records)]) == 0
    assert len(records.read_text().splitlines()) == 2
    assert "| tiny | 3.0 (1.0 + 0.5 + 1.5) | 5 d, 7 starts | 0.87 | 1.41 |" in capsys.readouterr().out

    def row(name, minutes, ratio):
        ratios = {"physics_t21": 0.9, "physics_t21_damped": ratio}
        return Attempt(name, {"train": minutes}, ratios, 120.0, 7, "two cores", "0", "2026-01-01")

    table = format_records(
        [row("slow", 9.0, 0.9), row("loser", 1.0, 1.1), row("fast", 2.0, 0.9), row("stopped", 1.5, np.nan)]
    )
    names = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert names == ["fast", "slow", "loser", "stopped"]
