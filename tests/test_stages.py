"""Stages run in order, once, and never mix results of different configs."""

import dataclasses
import json

import pytest

from data_prep.errors import UserError
from emulator import stages
from emulator.config import parse_config

RAW = {
    "name": "tiny",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 3}]},
}


@pytest.fixture
def calls(monkeypatch):
    """Stages whose work is to note their name and to write their outputs."""
    made: list[str] = []

    def fake(stage):
        def run(config, folder, workers):
            made.append(stage.name)
            for output in stage.outputs:
                (folder / output).write_text(stage.name)

        return dataclasses.replace(stage, run=run, look_ahead=lambda *_: None)

    monkeypatch.setattr(stages, "STAGES", tuple(fake(s) for s in stages.STAGES))
    return made


def config(tmp_path, **changes):
    return parse_config({**RAW, "workdir": str(tmp_path / "work"), **changes})


ALL = ["prepare", "train", "forecast", "evaluate", "plot"]


def test_all_stages_in_order_and_only_once(tmp_path, calls):
    stages.run_stages(config(tmp_path))
    assert calls == ALL  # no simulate section, nothing simulated
    stages.run_stages(config(tmp_path))
    assert calls == ALL
    assert all(r["finished"] for r in json.loads((tmp_path / "work/stages.json").read_text()).values())


def test_an_unfinished_stage_is_run_again(tmp_path, calls, monkeypatch):
    def killed(config, folder, workers):
        raise KeyboardInterrupt

    whole = stages.STAGES
    monkeypatch.setattr(
        stages, "STAGES", tuple(dataclasses.replace(s, run=killed) if s.name == "train" else s for s in whole)
    )
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(config(tmp_path))
    monkeypatch.setattr(stages, "STAGES", whole)
    stages.run_stages(config(tmp_path))
    assert calls == ALL


def test_a_changed_config_is_refused_until_redo(tmp_path, calls):
    stages.run_stages(config(tmp_path))
    changed = config(tmp_path, train={"stages": [{"steps": 4}]})
    with pytest.raises(UserError, match="'train' was made with another config"):
        stages.run_stages(changed)
    calls.clear()
    stages.run_stages(changed, ["train"], redo=True)
    assert calls == ["train"]
    assert not (tmp_path / "work/scores.nc").exists()  # made from the discarded weights
    stages.run_stages(changed)
    assert calls == ["train", "forecast", "evaluate", "plot"]


def test_a_config_that_failed_before_anything_was_made_may_be_mended(tmp_path, calls, monkeypatch):
    def fail(config, folder, workers):
        raise UserError("missing temprature")

    whole = stages.STAGES
    failing = tuple(dataclasses.replace(s, run=fail) if s.name == "prepare" else s for s in whole)
    monkeypatch.setattr(stages, "STAGES", failing)
    with pytest.raises(UserError, match="temprature"):
        stages.run_stages(config(tmp_path, data={**RAW["data"], "prognostic": {"temprature": {}}}))
    monkeypatch.setattr(stages, "STAGES", whole)
    folder = stages.run_stages(config(tmp_path))
    assert calls == ALL
    assert stages.stage_seconds(folder, "prepare") >= 0  # its clock began with the mended config


def test_what_comes_last_is_looked_at_before_training(tmp_path, calls, monkeypatch):
    def refuse(config, folder):
        raise UserError("evaluate.headline: nothing of that name")

    whole = stages.STAGES
    looking = tuple(dataclasses.replace(s, look_ahead=refuse) if s.name == "train" else s for s in whole)
    monkeypatch.setattr(stages, "STAGES", looking)
    with pytest.raises(UserError, match="nothing of that name"):
        stages.run_stages(config(tmp_path))
    assert calls == ["prepare"]
    stages.run_stages(config(tmp_path), ["train"])  # alone it asks for no comparison
    assert calls == ["prepare", "train"]


def test_a_stage_without_what_it_needs_says_so(tmp_path, calls):
    with pytest.raises(UserError, match=r"train: .*store.zarr is missing"):
        stages.run_stages(config(tmp_path), ["train"])
    with pytest.raises(UserError, match="has no stage simulate"):
        stages.run_stages(config(tmp_path), ["simulate"])


def test_a_nature_run_that_is_not_there_is_asked_for(tmp_path, calls):
    data = {**RAW["data"], "inputs": ["{workdir}/nature/*.nc"]}
    with pytest.raises(UserError, match=r"^prepare: .*nature is missing; run the stages before it, or 'emulator run'"):
        stages.run_stages(config(tmp_path, data=data, simulate={}), ["prepare"])
    assert calls == []
    stages.run_stages(config(tmp_path, data=data, simulate={}), ["simulate", "prepare"])
    assert calls == ["simulate", "prepare"]


def test_two_runs_in_one_folder_are_refused(tmp_path, calls):
    (tmp_path / "work").mkdir()
    with (
        stages._locked(tmp_path / "work"),
        pytest.raises(UserError, match="another run is working"),
    ):
        stages.run_stages(config(tmp_path))
