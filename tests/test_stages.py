"""Stages run in order, once, and never mix results of different configs."""

import dataclasses
import errno
import json
import os
import shutil

import pytest

from data_prep.errors import ConfigError, DataError, UserError
from emulator import cli
from emulator.config import parse_config
from emulator.experiment import records, running, stages

RAW = {
    "name": "tiny",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 3}]},
}


FORECASTS = ("forecasts/network.nc", "forecasts/climatology.nc", "forecasts/means/both.nc")


@pytest.fixture
def calls(monkeypatch):
    """Stages whose work is to note their name and to write their outputs."""
    made: list[str] = []

    def fake(stage):
        def run(config, workers, warn):
            warn()
            folder = config.path
            made.append(stage.name)
            if stage.name == "forecast":
                (folder / "forecasts" / "means").mkdir(parents=True, exist_ok=True)
            for output in FORECASTS if stage.name == "forecast" else stage.outputs:
                (folder / output).unlink(missing_ok=True)  # it is put in place of what is there
                (folder / output).write_text(stage.name)

        hooks = ("check", "ready", "outdated", "look_ahead", "files", "take_parts", "content", "told")
        nothing = dict.fromkeys(hooks, lambda *_: None)
        return dataclasses.replace(stage, run=run, **nothing)

    monkeypatch.setattr(stages, "STAGES", tuple(fake(s) for s in stages.STAGES))
    return made


def config(tmp_path, **changes):
    return parse_config({**RAW, "workdir": str(tmp_path / "work"), **changes})


def test_a_result_depends_on_what_differs_from_the_defaults(tmp_path):
    """So that a key which a later version adds, and whose default changes nothing, changes no fingerprint."""
    explicit = config(tmp_path, seed=0, model={"kind": "unet", "blocks": 2}, train={**RAW["train"], "clip_norm": 7.0})
    found = stages.decisive_values(explicit, stages.stage_named("forecast"))
    assert found == {
        "data": RAW["data"] | {"prognostic": {"temperature": {}}},
        "train.stages": [{"steps": 3}],
        "train.clip_norm": 7.0,
    }
    assert set(stages.decisive_values(config(tmp_path, seed=3), stages.stage_named("train"))) > {"seed", "data"}


ALL = ["prepare", "train", "forecast", "evaluate", "plot"]


def test_all_stages_in_order_and_only_once(tmp_path, calls):
    running.run_stages(config(tmp_path))
    assert calls == ALL  # no simulate section, nothing simulated
    running.run_stages(config(tmp_path))
    assert calls == ALL
    assert all(r["finished"] for r in json.loads((tmp_path / "work/stages.json").read_text()).values())


def test_an_unfinished_stage_is_run_again(tmp_path, calls, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    whole = stages.STAGES
    monkeypatch.setattr(
        stages, "STAGES", tuple(dataclasses.replace(s, run=killed) if s.name == "train" else s for s in whole)
    )
    with pytest.raises(KeyboardInterrupt):
        running.run_stages(config(tmp_path))
    monkeypatch.setattr(stages, "STAGES", whole)
    running.run_stages(config(tmp_path))
    assert calls == ALL


def test_a_changed_config_is_refused_until_redo(tmp_path, calls):
    running.run_stages(config(tmp_path))
    changed = config(tmp_path, train={"stages": [{"steps": 4}]})
    with pytest.raises(UserError, match=r"'train' was made with another config \(train.stages\); 'emulator train"):
        running.run_stages(changed)
    calls.clear()
    running.run_stages(changed, ["train"], redo=True)
    assert calls == ["train"]
    gone = ("scores.nc", "forecasts/network.nc", "forecasts/means/both.nc")  # made from the discarded weights
    assert not any((tmp_path / "work" / name).exists() for name in gone)
    assert (tmp_path / "work/forecasts/climatology.nc").exists()  # which was not
    running.run_stages(changed)
    assert calls == ["train", "forecast", "evaluate", "plot"]


def test_a_longer_training_goes_on_from_a_shorter_and_discards_what_was_made_from_it(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    begun = tuple(dataclasses.replace(s, begun=lambda *_: True) if s.name == "train" else s for s in stages.STAGES)
    monkeypatch.setattr(stages, "STAGES", begun)
    longer = config(tmp_path, train={"stages": [{"steps": 3}, {"steps": 4}]})
    calls.clear()
    running.run_stages(longer, ["train"])
    assert calls == ["train"]
    assert not (folder / "scores.nc").exists() and (folder / "forecasts/climatology.nc").exists()
    with pytest.raises(UserError, match="'train' was stopped on its way and has no clock"):
        running.stage_seconds(folder, "train")
    running.run_stages(longer)
    assert calls == ["train", "forecast", "evaluate", "plot"]


@pytest.mark.parametrize(("changes", "seed"), [({}, 5), ({"train": RAW["train"] | {"seed": 0}}, 0)])
def test_weights_have_the_seed_of_the_experiment_or_their_own(tmp_path, monkeypatch, changes, seed):
    asked = []
    monkeypatch.setattr(
        "emulator.training.train.train",
        lambda config, model, store, run_dir, seed, experiment, once_begun: asked.append(seed),
    )
    (train,) = (stage for stage in stages.STAGES if stage.name == "train")
    train.run(config(tmp_path, seed=5, **changes), None, lambda: None)
    assert asked == [seed]


def test_data_that_another_experiment_made_alike_are_taken_and_not_made_again(tmp_path, calls):
    first = running.run_stages(config(tmp_path))
    wider = {"model": {"kind": "unet", "width": 16}, "workdir": str(tmp_path / "wide"), "reuse": str(first)}
    (tmp_path / "wide" / "store.zarr.partial" / "store").mkdir(parents=True)  # by a kill, before it was to reuse any
    calls.clear()
    second = running.run_stages(config(tmp_path, **wider))
    assert calls == ["train", "forecast", "evaluate", "plot"]
    assert (second / "store.zarr").samefile(first / "store.zarr")
    assert not (second / "store.zarr.partial").exists()
    with pytest.raises(UserError, match=f"'prepare' was taken from {first}"):
        running.stage_seconds(second, "prepare")
    calls.clear()
    running.run_stages(config(tmp_path, **wider), ["prepare"], redo=True)  # makes its own, and leaves the other's
    assert calls == ["prepare"]
    assert not (second / "store.zarr").samefile(first / "store.zarr")


def test_data_that_another_experiment_made_otherwise_are_not_taken(tmp_path, calls, monkeypatch):
    first = running.run_stages(config(tmp_path), ["prepare"])
    other = {"workdir": str(tmp_path / "second"), "reuse": str(first)}
    running.run_stages(config(tmp_path, **other, data={**RAW["data"], "timestep_hours": 12}), ["prepare"])
    half = {"workdir": str(tmp_path / "third"), "reuse": str(tmp_path / "second")}
    whole = _stopping(monkeypatch, "prepare")
    with pytest.raises(KeyboardInterrupt):
        running.run_stages(config(tmp_path, workdir=str(tmp_path / "fourth")), ["prepare"])
    monkeypatch.setattr(stages, "STAGES", whole)
    running.run_stages(config(tmp_path, **half), ["prepare"])
    unfinished = {"workdir": str(tmp_path / "fifth"), "reuse": str(tmp_path / "fourth")}
    running.run_stages(config(tmp_path, **unfinished), ["prepare"])
    assert calls == ["prepare"] * 4


@pytest.mark.parametrize("reuse", ["nowhere", "work"])
def test_what_is_reused_must_be_another_experiment(reuse, tmp_path, calls):
    if reuse == "work":
        running.run_stages(config(tmp_path), ["prepare"])
        (tmp_path / "work/store.zarr").unlink()
    with pytest.raises(UserError, match=rf"^reuse: .*{reuse} is no folder of another experiment; with reuse=null"):
        running.run_stages(config(tmp_path, reuse=str(tmp_path / reuse)), ["prepare"])


def test_a_config_that_failed_before_anything_was_made_may_be_mended(tmp_path, calls, monkeypatch):
    def fail(*_):
        raise UserError("missing temprature")

    whole = stages.STAGES
    failing = tuple(dataclasses.replace(s, run=fail) if s.name == "prepare" else s for s in whole)
    monkeypatch.setattr(stages, "STAGES", failing)
    with pytest.raises(UserError, match="temprature"):
        running.run_stages(config(tmp_path, data={**RAW["data"], "prognostic": {"temprature": {}}}))
    monkeypatch.setattr(stages, "STAGES", whole)
    folder = running.run_stages(config(tmp_path))
    assert calls == ALL
    assert running.stage_seconds(folder, "prepare") >= 0  # its clock began with the mended config


def test_what_comes_last_is_looked_at_before_training(tmp_path, calls, monkeypatch, caplog):
    def refuse(config):
        raise UserError("evaluate.headline: nothing of that name")

    whole = stages.STAGES
    looking = tuple(dataclasses.replace(s, look_ahead=refuse) if s.name == "train" else s for s in whole)
    monkeypatch.setattr(stages, "STAGES", looking)
    with pytest.raises(UserError, match="nothing of that name"):
        running.run_stages(config(tmp_path))
    assert calls == ["prepare"]
    assert not caplog.records
    running.run_stages(config(tmp_path), ["train"])  # alone it needs no comparison
    assert calls == ["prepare", "train"]
    assert "train: with this config a later stage will be refused: evaluate.headline: nothing of" in caplog.text


def test_a_stage_without_what_it_needs_says_so(tmp_path, calls):
    with pytest.raises(UserError, match=r"train: .*store.zarr is missing"):
        running.run_stages(config(tmp_path), ["train"])
    with pytest.raises(UserError, match="has no stage simulate"):
        running.run_stages(config(tmp_path), ["simulate"])


def test_a_nature_run_that_is_not_there_is_asked_for(tmp_path, calls):
    data = {**RAW["data"], "inputs": ["{workdir}/nature/*.nc"]}
    with pytest.raises(UserError, match=r"^prepare: .*nature is missing; run the stages before it, or 'emulator run'"):
        running.run_stages(config(tmp_path, data=data, simulate={}), ["prepare"])
    assert calls == []
    running.run_stages(config(tmp_path, data=data, simulate={}), ["simulate", "prepare"])
    assert calls == ["simulate", "prepare"]


def _stopping(monkeypatch, name):
    """The stage of this name is stopped when half of its results are there."""

    def stopped(config, *_):
        folder = config.path
        if name == "forecast":
            (folder / "forecasts").mkdir()
        else:
            (folder / stages.stage_named(name).outputs[0]).write_text("half")
        raise KeyboardInterrupt

    whole = stages.STAGES
    half = tuple(dataclasses.replace(s, run=stopped) if s.name == name else s for s in whole)
    monkeypatch.setattr(stages, "STAGES", half)
    return whole


@pytest.mark.parametrize(("stopped", "after"), [("prepare", "train"), ("train", "forecast"), ("forecast", "evaluate")])
def test_what_was_stopped_on_its_way_is_not_built_upon(stopped, after, tmp_path, calls, monkeypatch):
    """Or a half-trained network's forecasts would be taken for the trained one's ever after."""
    whole = _stopping(monkeypatch, stopped)
    with pytest.raises(KeyboardInterrupt):
        running.run_stages(config(tmp_path))
    monkeypatch.setattr(stages, "STAGES", whole)
    line = rf"^{after}: .* is not finished; run '{stopped}' to its end, or 'emulator run'$"
    with pytest.raises(UserError, match=line):
        running.run_stages(config(tmp_path), [after])
    running.run_stages(config(tmp_path))
    assert calls == ALL


def test_what_was_made_with_another_config_is_not_built_upon(tmp_path, calls):
    running.run_stages(config(tmp_path), ["prepare", "train"])
    changed = config(tmp_path, train={"stages": [{"steps": 4}]})
    with pytest.raises(UserError, match="'train' was made with another config"):
        running.run_stages(changed, ["forecast"])
    assert calls == ["prepare", "train"]


def test_scores_with_a_file_of_the_command_line_are_plotted_without_naming_it_again(tmp_path, calls):
    folder = running.run_stages(config(tmp_path))
    beside = config(tmp_path, evaluate={"forecasts": {"other": "other.nc"}, "missing_inits": "leave_out"})
    running.run_stages(beside, ["evaluate"], redo=True)
    with pytest.raises(
        UserError, match=r"'evaluate' was made with another config \(evaluate.bootstrap, evaluate.forecasts"
    ):
        running.run_stages(config(tmp_path, evaluate={"bootstrap": 70}), ["plot"])
    running.run_stages(config(tmp_path), ["plot"])
    assert calls[-2:] == ["evaluate", "plot"] and (folder / "plots").exists()


def test_a_network_that_was_trained_anew_is_scored_anew(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    (folder / "run").unlink()
    whole = _stopping(monkeypatch, "train")
    with pytest.raises(KeyboardInterrupt):
        running.run_stages(config(tmp_path))
    assert (folder / "scores.nc").exists()  # until there is something better
    monkeypatch.setattr(stages, "STAGES", whole)
    calls.clear()
    running.run_stages(config(tmp_path))
    assert calls == ["train", "forecast", "evaluate", "plot"]
    (folder / "store.zarr").unlink()  # as the same files make the same store, nothing is done again
    calls.clear()
    running.run_stages(config(tmp_path))
    assert calls == ["prepare"]


@pytest.mark.parametrize("survived", range(1, 10))
def test_a_kill_while_results_are_discarded_leaves_none_of_what_is_gone(survived, tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    count, real = iter(range(1, 100)), running.discard

    def killed(path):
        if next(count) == survived:
            raise KeyboardInterrupt
        real(path)

    monkeypatch.setattr(running, "discard", killed)
    try:
        running.run_stages(config(tmp_path), ["train"], redo=True)
    except KeyboardInterrupt:
        monkeypatch.undo()
    order = ["run", "forecasts/network.nc", "forecasts/means/both.nc", "scores.nc", "plots"]
    there = [(folder / name).exists() for name in order]
    assert there == sorted(there, reverse=True), "something outlived what it was made from"


def test_a_command_that_is_refused_leaves_the_config_of_what_is_there(tmp_path, calls):
    folder = running.run_stages(config(tmp_path))
    before = (folder / "config.yaml").read_text()
    changed = config(tmp_path, train={"stages": [{"steps": 4}]}, evaluate={"bootstrap": 70})
    for names in (None, ["train"], ["evaluate"]):
        with pytest.raises(UserError, match="another config"):
            running.run_stages(changed, names)
    assert (folder / "config.yaml").read_text() == before
    running.run_stages(changed, ["train"], redo=True)
    assert "bootstrap: 70" in (folder / "config.yaml").read_text()


def test_a_redo_that_is_refused_discards_nothing(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    there = {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}
    otherwise = config(tmp_path, data={**RAW["data"], "split": {"segments": {"test": [2]}}})

    def refuse(config):
        raise UserError("evaluate.headline: nothing of that name")

    for name in ("train", "forecast", "evaluate"):
        with pytest.raises(UserError, match="'prepare' was made with another config"):
            running.run_stages(otherwise, [name], redo=True)
    with monkeypatch.context() as patch:
        looking = tuple(dataclasses.replace(s, look_ahead=refuse) for s in stages.STAGES)
        patch.setattr(stages, "STAGES", looking)
        with pytest.raises(UserError, match="nothing of that name"):
            running.run_stages(config(tmp_path), redo=True)
    with monkeypatch.context() as patch:
        readying = tuple(dataclasses.replace(s, ready=refuse) if s.name == "evaluate" else s for s in stages.STAGES)
        patch.setattr(stages, "STAGES", readying)
        with pytest.raises(UserError, match="nothing of that name"):
            running.run_stages(config(tmp_path), ["evaluate"], redo=True)
    assert {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()} == there
    (folder / "store.zarr").unlink()
    with pytest.raises(UserError, match=r"store.zarr is missing"):
        running.run_stages(config(tmp_path), ["train"], redo=True)
    assert (folder / "run").exists() and (folder / "scores.nc").exists()


def test_a_stage_that_is_refused_at_its_first_run_leaves_the_config_of_the_others(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path), ["prepare", "train", "forecast"])
    before = (folder / "config.yaml").read_text(), (folder / "stages.json").read_text()

    def refused(*_):
        raise UserError("no forecasts of network")

    broken = tuple(dataclasses.replace(s, run=refused) if s.name == "evaluate" else s for s in stages.STAGES)
    monkeypatch.setattr(stages, "STAGES", broken)
    with pytest.raises(UserError, match="no forecasts of network"):
        running.run_stages(config(tmp_path, evaluate={"bootstrap": 70}), ["evaluate"])
    assert before == ((folder / "config.yaml").read_text(), (folder / "stages.json").read_text())


@pytest.mark.parametrize("start", ["", "run", "run/../run"])
def test_a_training_that_is_to_begin_with_the_network_it_replaces_costs_nothing(tmp_path, calls, start):
    folder = running.run_stages(config(tmp_path))
    (folder / "run").unlink()
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")
    begun = config(tmp_path, train={**RAW["train"], "start_from": f"{folder}/{start}"})
    for names in (None, ["train"]):
        with pytest.raises(ConfigError, match=r"train.start_from: .* this very experiment.*; choose another workdir"):
            running.run_stages(begun, names, redo=True)
    assert (folder / "run" / "run.json").exists() and (folder / "scores.nc").exists()


def test_under_redo_processes_meet_when_the_earlier_network_is_gone(tmp_path, calls, monkeypatch):
    """Or one would read it while another removes it."""
    folder = running.run_stages(config(tmp_path))
    there: list[bool] = []
    meeting = [
        dataclasses.replace(s, meet=lambda: there.append((folder / "run").exists())) if s.name == "train" else s
        for s in stages.STAGES
    ]
    monkeypatch.setattr(stages, "STAGES", tuple(meeting))
    running.follow_stage(config(tmp_path), "train")
    assert there == [] and calls == ALL  # done before
    running.run_stages(config(tmp_path), ["train"], redo=True)
    assert there == [False]
    running.follow_stage(config(tmp_path), "train", redo=True)
    assert len(there) == 2 and calls == [*ALL, "train", "train"]


def test_a_redo_takes_no_part_from_another_experiment(tmp_path, calls, monkeypatch):
    taken: list[str] = []
    whole = [dataclasses.replace(s, take_parts=lambda *_, name=s.name: taken.append(name)) for s in stages.STAGES]
    monkeypatch.setattr(stages, "STAGES", tuple(whole))
    running.run_stages(config(tmp_path))
    assert taken == ALL
    running.run_stages(config(tmp_path), ["forecast"], redo=True)
    assert taken == ALL


def _as_it_is(monkeypatch, name, *attributes):
    """The stage of this name with what the fake one has not."""
    whole = stages.STAGES
    monkeypatch.undo()
    kept = {attribute: getattr(stages.stage_named(name), attribute) for attribute in attributes}
    monkeypatch.setattr(stages, "STAGES", tuple(dataclasses.replace(s, **kept) if s.name == name else s for s in whole))


def test_scores_stay_where_their_successors_are_refused(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))

    def files():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}

    before = files()
    assert {folder / "scores.nc", folder / "stages.json", folder / "config.yaml"} <= before.keys()

    def refuse(*_):
        raise DataError("other.nc: holds NaN")

    scoring = dataclasses.replace(stages.stage_named("evaluate"), run=refuse)
    monkeypatch.setattr(stages, "STAGES", tuple(scoring if s.name == "evaluate" else s for s in stages.STAGES))
    changed = config(tmp_path, evaluate={"bootstrap": 70})
    with pytest.raises(DataError, match="holds NaN"):
        running.run_stages(changed, ["evaluate"], redo=True)
    assert files() == before


def test_a_file_of_others_that_was_replaced_is_scored_again(tmp_path, calls, monkeypatch):
    others = tmp_path / "other.nc"
    others.touch()
    _as_it_is(monkeypatch, "evaluate", "files", "outdated")
    beside = config(tmp_path, evaluate={"forecasts": {"other": str(others), "url": "https://there/other.zarr"}})
    folder = running.run_stages(beside)
    calls.clear()
    running.run_stages(beside)
    assert calls == []
    scored = (folder / "scores.nc").stat().st_mtime
    for seconds in (1, -3600):  # a copy may keep the time of an older file
        os.utime(others, (scored + seconds, scored + seconds))
        running.run_stages(beside)
        assert calls == ["evaluate", "plot"]
        calls.clear()
    _forget_files(folder)
    running.run_stages(beside)
    assert calls == []
    os.utime(others)
    running.run_stages(beside)
    assert calls == ["evaluate", "plot"]
    calls.clear()
    others.unlink()
    running.run_stages(beside)  # what is gone was scored
    assert calls == []


def test_a_file_of_others_that_came_into_their_folder_is_scored_with_them(tmp_path, calls, monkeypatch):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "0.nc").touch()
    _as_it_is(monkeypatch, "evaluate", "files", "outdated")
    given = {"folder": str(tmp_path / "others"), "list": [f"{tmp_path}/others/*.nc"], "none": "no*.nc"}
    beside = config(tmp_path, evaluate={"forecasts": given})
    running.run_stages(beside)
    calls.clear()
    running.run_stages(beside)
    assert calls == []
    (tmp_path / "others" / "1.nc").touch()
    running.run_stages(beside)
    assert calls == ["evaluate", "plot"]


def _forget_files(folder):
    """The records as versions before wrote them."""
    found = json.loads((folder / "stages.json").read_text())
    older = {name: {k: v for k, v in record.items() if k != "files"} for name, record in found.items()}
    (folder / "stages.json").write_text(json.dumps(older))


@pytest.mark.parametrize("change", ["new", "changed", "gone", "none", "all gone", "older version"])
def test_inputs_that_changed_since_the_store_was_made_are_told_of(change, tmp_path, calls, monkeypatch, caplog):
    _as_it_is(monkeypatch, "prepare", "files")
    (tmp_path / "raw").mkdir()
    raw = [tmp_path / "raw" / f"0{i}.nc" for i in range(3)]
    for path in raw:
        path.write_text("1")
    growing = config(tmp_path, data={**RAW["data"], "inputs": [f"{tmp_path}/raw/*.nc", "https://there/x.zarr"]})
    folder = running.run_stages(growing)
    if change == "older version":
        _forget_files(folder)
    if change in ("new", "older version"):
        (tmp_path / "raw/03.nc").touch()
    if change == "changed":
        os.utime(raw[0], (1, 1))
    for path in {"gone": raw[2:], "all gone": raw}.get(change, ()):
        path.unlink()
    caplog.set_level("WARNING")
    running.run_stages(growing)
    assert calls == ALL  # nothing is made again unasked
    words = {"new": "03.nc is new since", "changed": "00.nc has changed since", "gone": "02.nc is gone since"}
    assert len(caplog.messages) == (change in words)
    assert words.get(change, "") in caplog.text and ("prepare" in caplog.text) == (change in words)
    if change == "new":
        running.run_stages(growing, redo=True)
        assert "03.nc" in (folder / "stages.json").read_text()
    if change == "all gone":
        with pytest.raises(UserError, match="matches no file"):
            running.run_stages(growing, ["prepare"], redo=True)
        assert (folder / "store.zarr").exists() and (folder / "run").exists()


@pytest.mark.parametrize("older", [False, True])
def test_a_store_of_other_files_is_not_taken(older, tmp_path, calls, monkeypatch):
    _as_it_is(monkeypatch, "prepare", "files")
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder in folders:
        (folder / "raw").mkdir(parents=True)
    (folders[0] / "raw/01.nc").write_text("1")
    (folders[1] / "raw/01.nc").hardlink_to(folders[0] / "raw/01.nc")
    (folders[2] / "raw/01.nc").write_text("another")
    data = {**RAW["data"], "inputs": ["{workdir}/raw/*.nc"]}
    running.run_stages(config(tmp_path, data=data, workdir=str(folders[0])), ["prepare"])
    if older:
        _forget_files(folders[0])
    for folder, made in ((folders[1], []), (folders[2], [] if older else ["prepare"])):
        calls.clear()
        running.run_stages(config(tmp_path, data=data, workdir=str(folder), reuse=str(folders[0])), ["prepare"])
        assert calls == made
        assert (folder / "store.zarr").samefile(folders[0] / "store.zarr") == (not made)


def test_a_file_system_that_locks_nothing_is_worked_on(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(records.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
    assert running.run_stages(config(tmp_path)).is_dir()


def test_two_runs_in_one_folder_are_refused(tmp_path, calls):
    (tmp_path / "work").mkdir()
    with (
        records.locked(tmp_path / "work"),
        pytest.raises(UserError, match="another run is working"),
    ):
        running.run_stages(config(tmp_path))


def _refusing(monkeypatch, name, error):
    """The stage of this name refuses its work. Returns the stages as they were."""

    def refuse(*_):
        raise error

    whole = stages.STAGES
    monkeypatch.setattr(
        stages, "STAGES", tuple(dataclasses.replace(s, run=refuse) if s.name == name else s for s in whole)
    )
    return whole


@pytest.mark.parametrize("error", [ConfigError("no such variable"), KeyboardInterrupt()])
def test_a_result_counts_as_before_where_a_change_of_it_is_refused(tmp_path, calls, monkeypatch, error):
    """Stages that cannot be learned, appended to a network; then the config as it was."""
    _as_it_is(monkeypatch, "train", "begun")
    folder = running.run_stages(config(tmp_path))
    before = {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}
    monkeypatch.setattr(stages, "STAGES", tuple(dataclasses.replace(s, begun=lambda *_: True) for s in stages.STAGES))
    _refusing(monkeypatch, "train", error)
    with pytest.raises(type(error)):
        running.run_stages(config(tmp_path, train={"stages": [{"steps": 3}, {"steps": 4}]}))
    assert {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()} == before
    calls.clear()
    running.run_stages(config(tmp_path))
    assert calls == []


def test_prepared_data_and_all_that_was_made_from_them_stay_where_new_ones_are_refused(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    before = {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}
    whole = _refusing(monkeypatch, "prepare", DataError("c.nc: holds NaN"))
    with pytest.raises(DataError, match="holds NaN"):
        running.run_stages(config(tmp_path), ["prepare"], redo=True)
    assert {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()} == before
    monkeypatch.setattr(stages, "STAGES", whole)
    _refusing(monkeypatch, "prepare", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        running.run_stages(config(tmp_path), ["prepare"], redo=True)
    assert (folder / "run").exists() and (folder / "scores.nc").exists()
    with pytest.raises(UserError, match=r"store.zarr is not finished; run 'prepare' to its end"):
        running.run_stages(config(tmp_path), ["train"], redo=True)
    monkeypatch.setattr(stages, "STAGES", whole)
    calls.clear()
    running.run_stages(config(tmp_path), ["prepare"])  # goes on with it
    assert calls == ["prepare"]
    assert not any((folder / name).exists() for name in ("run", "forecasts", "scores.nc", "plots"))


def _with_content(monkeypatch, made):
    """Data whose content is what was last put into the list."""
    prepare = stages.stage_named("prepare")

    def run(config, *others):
        prepare.run(config, *others)
        (config.path / "store.zarr").write_text(made[-1])

    def content(config):
        return (config.path / "store.zarr").read_text()

    with_content = dataclasses.replace(prepare, run=run, content=content)
    monkeypatch.setattr(stages, "STAGES", tuple(with_content if s.name == "prepare" else s for s in stages.STAGES))


def test_what_was_made_from_data_stays_where_they_are_prepared_anew_and_are_the_same(tmp_path, calls, monkeypatch):
    """Files that have moved cost a preparation, and no network."""
    made = ["data"]
    _with_content(monkeypatch, made)
    running.run_stages(config(tmp_path))
    moved = config(tmp_path, data=RAW["data"] | {"inputs": ["elsewhere/a.nc"]})
    with pytest.raises(UserError, match=r"data.inputs.*unless it comes out the same"):
        running.run_stages(moved)
    running.run_stages(moved, ["prepare"], redo=True)
    running.run_stages(moved)
    assert calls == [*ALL, "prepare"]
    made.append("other data")
    running.run_stages(moved, ["prepare"], redo=True)
    assert not (tmp_path / "work/run").exists()
    running.run_stages(moved)
    assert calls == [*ALL, "prepare", *ALL]


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_while_data_are_prepared_anew_changes_nothing_of_that(written, tmp_path, calls, monkeypatch):
    made = ["data"]
    _with_content(monkeypatch, made)
    running.run_stages(config(tmp_path))
    moved = config(tmp_path, data=RAW["data"] | {"inputs": ["elsewhere/a.nc"]})

    def killed(*_, **__):
        raise KeyboardInterrupt

    for wanted, stays in (("data", True), ("other data", False)):
        made.append(wanted)
        with monkeypatch.context() as patch:
            if written:
                patch.setattr(running, "_spare", killed)
                patch.setattr(running, "_discard", killed)
            else:
                of_another = dataclasses.replace(stages.stage_named("prepare"), run=killed)
                rest = (of_another if s.name == "prepare" else s for s in stages.STAGES)
                patch.setattr(stages, "STAGES", tuple(rest))
            with pytest.raises(KeyboardInterrupt):
                running.run_stages(moved, ["prepare"], redo=True)
        running.run_stages(moved, ["prepare"])
        assert (tmp_path / "work/run").exists() is stays
    running.run_stages(moved)
    assert calls[-4:] == ALL[1:]


def test_what_differs_in_more_than_the_data_is_refused_all_the_same(tmp_path, calls, monkeypatch):
    _with_content(monkeypatch, ["data"])
    running.run_stages(config(tmp_path))
    other = config(tmp_path, data=RAW["data"] | {"inputs": ["elsewhere/a.nc"]}, train={"stages": [{"steps": 4}]})
    running.run_stages(other, ["prepare"], redo=True)
    with pytest.raises(UserError, match="the result of 'train' was made with another config"):
        running.run_stages(other)


def test_what_training_would_refuse_is_refused_before_a_network_is_discarded(tmp_path, calls, monkeypatch):
    folder = running.run_stages(config(tmp_path))
    asked = []

    def refuse(train, model, store, seed):
        asked.append((train.seed, model.kind, store, seed))
        raise ConfigError("train.variable_weights: tmeperature: no such state variable")

    _as_it_is(monkeypatch, "train", "ready")
    monkeypatch.setattr("emulator.training.job.check", refuse)
    monkeypatch.setattr("data_prep.preparation.store.open_store", lambda path: path.name)
    with pytest.raises(ConfigError, match="tmeperature"):
        running.run_stages(config(tmp_path), ["train"], redo=True)
    assert asked == [(None, "unet", "store.zarr", 0)] and (folder / "run").exists()


def test_a_change_of_the_weights_that_training_began_with_is_told(tmp_path, calls, monkeypatch, caplog):
    _as_it_is(monkeypatch, "train", "files")
    weights = tmp_path / "before" / "weights.npz"
    weights.parent.mkdir()
    weights.write_text("1")
    fine = config(tmp_path, train={"stages": [{"steps": 3}], "start_from": str(weights.parent)})
    running.run_stages(fine)
    running.run_stages(fine)
    assert caplog.messages == []
    os.utime(weights, (1, 1))
    calls.clear()
    running.run_stages(fine)
    assert calls == [] and "train: weights.npz has changed since this result was made" in caplog.text
    caplog.clear()
    weights.unlink()  # the network knows what it began with
    running.run_stages(fine)
    assert calls == [] and caplog.messages == []


def test_the_seed_of_the_experiment_named_once_more_is_no_other_seed(tmp_path):
    train = stages.stage_named("train")
    marks = [
        stages.fingerprint(config(tmp_path, seed=5, train={**RAW["train"], **seed}), train)
        for seed in ({}, {"seed": 5}, {"seed": 6})
    ]
    assert marks[0] == marks[1] != marks[2]


def test_a_long_run_needs_the_network(tmp_path, calls):
    folder = running.run_stages(config(tmp_path, evaluate={"long_run": {"days": 30}}))
    (folder / "run").unlink()
    with pytest.raises(UserError, match=r"evaluate: .*run is missing"):
        running.run_stages(config(tmp_path, evaluate={"long_run": {"days": 30}}), ["evaluate"], redo=True)
    running.run_stages(config(tmp_path), ["evaluate"], redo=True)


def test_the_config_of_a_copied_folder_leaves_the_original_alone(tmp_path, calls, capsys):
    folder, copy = running.run_stages(config(tmp_path)), tmp_path / "copy"
    shutil.copytree(folder, copy)
    calls.clear()
    asked = ["prepare", str(copy / "config.yaml"), "--redo"]
    assert cli.main(asked) == 2
    assert f"but its workdir is {folder} (from " in capsys.readouterr().err
    assert cli.main([*asked, "--set", f"workdir={copy}"]) == 0
    assert calls == ["prepare"]
    assert (folder / "run").exists() and not (copy / "run").exists()
    assert cli.main(["prepare", str(copy / "config.yaml")]) == 0  # whose workdir is the copy now


def test_the_files_of_data_are_those_of_boundaries_and_grid_too(tmp_path):
    for name in ("a.nc", "driving.nc", "grid.nc"):
        (tmp_path / name).write_text(name)
    data = {
        **RAW["data"],
        "inputs": [str(tmp_path / "a.nc")],
        "lateral": {"inputs": [str(tmp_path / "driving.nc")]},
        "regrid": {"like": str(tmp_path / "grid.nc")},
    }
    found = stages._data_files(config(tmp_path, data=data))
    assert [file[0] for file in found] == ["a.nc", "driving.nc", "grid.nc"]


def test_another_mask_is_scored_again(tmp_path):
    (tmp_path / "mask.nc").write_text("1")
    found = stages._scored_files(config(tmp_path, evaluate={"mask": str(tmp_path / "mask.nc")}))
    assert [file[0] for file in found] == ["mask.nc"]


def test_a_nature_run_is_of_its_seed_whatever_seed_training_has(tmp_path):
    simulate = stages.stage_named("simulate")
    marks = [
        stages.fingerprint(config(tmp_path, simulate={}, seed=s, train={**RAW["train"], "seed": 3}), simulate)
        for s in (0, 1)
    ]
    assert marks[0] != marks[1]


def test_a_result_of_which_a_part_is_gone_is_made_again(tmp_path, calls):
    there = running.run_stages(config(tmp_path))
    (there / "table.txt").unlink()
    calls.clear()
    running.run_stages(config(tmp_path))
    assert calls == ["evaluate", "plot"]
    assert (there / "table.txt").exists()


def test_what_this_program_would_make_again_is_not_taken_from_another_experiment(tmp_path, calls, monkeypatch):
    """Such as a store in the format of an older version."""
    first = running.run_stages(config(tmp_path), ["prepare"])
    older = [
        dataclasses.replace(s, outdated=lambda c: "an older format" if c.path == first else None) for s in stages.STAGES
    ]
    monkeypatch.setattr(stages, "STAGES", tuple(older))
    second = {"workdir": str(tmp_path / "second"), "reuse": str(first)}
    folder = running.run_stages(config(tmp_path, **second), ["prepare"])
    assert calls == ["prepare"] * 2
    assert not (folder / "store.zarr").samefile(first / "store.zarr")


def test_a_file_that_changes_while_it_is_worked_on_has_changed(tmp_path, calls, monkeypatch, caplog):
    """Nobody knows whether its new contents were read."""
    _as_it_is(monkeypatch, "prepare", "files")
    raw = tmp_path / "a.nc"
    raw.write_text("1")
    prepare = stages.stage_named("prepare")

    def work(config, *others):
        prepare.run(config, *others)
        raw.write_text("of another length")

    working = tuple(dataclasses.replace(s, run=work) if s.name == "prepare" else s for s in stages.STAGES)
    monkeypatch.setattr(stages, "STAGES", working)
    asked = config(tmp_path, data={**RAW["data"], "inputs": [str(raw)]})
    running.run_stages(asked, ["prepare"])
    running.run_stages(asked, ["prepare"])
    assert "a.nc has changed since this result was made" in caplog.text
