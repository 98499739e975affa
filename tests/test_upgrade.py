"""Results of an older program: made again where that costs little, kept and refused with the command where not."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from weather_files import config as data_config
from weather_files import write_members

from data_prep.errors import DataError
from data_prep.preparation.store import FORMAT_VERSION, open_store
from data_prep.reading.locations import MANIFEST
from emulator.checkpoint import load_forecaster
from emulator.cli import main


def as_version_1(store: Path) -> None:
    """The store as format version 1 had it: without checksums beside the hashes of its rows."""
    manifest = json.loads((store / MANIFEST).read_text())
    (store / MANIFEST).write_text(json.dumps(manifest | {"format_version": 1}))
    group = zarr.open_group(store)
    group.create_array("digest", data=np.asarray(group["digest"][:])[:, :32], overwrite=True)


@pytest.fixture
def experiment(tmp_path):
    """The config of an experiment that was prepared, and its folder."""
    folder = tmp_path / "work"
    raw = {
        "name": "old",
        "workdir": str(folder),
        "data": data_config(write_members(tmp_path / "files")).model_dump(mode="json"),
        "model": {"kind": "unet", "patch": 1, "width": 8, "multipliers": [1], "blocks": 1},
        "train": {"batch_size": 2, "stages": [{"steps": 2, "warmup": 1}], "validate_every": 2, "validation_steps": 2},
    }
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert main(["prepare", str(path)]) == 0
    return path, folder


def test_training_on_an_older_store_names_the_command_that_mends_it(experiment, capsys):
    path, folder = experiment
    as_version_1(folder / "store.zarr")
    for words in (["train", str(path)], ["train", str(path), "--dry-run"], ["verify", str(folder / "store.zarr")]):
        assert main(words) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert "format version 1, this program reads 2; prepare the store again: " in said
    command = shlex.split(said.partition("again: ")[2])
    assert main(command[1:]) == 0
    assert "store.zarr has format version 1, this program reads 2; made now" in capsys.readouterr().err
    open_store(folder / "store.zarr").verify()


def test_what_was_trained_outlives_the_store(experiment, capsys):
    path, folder = experiment
    assert main(["train", str(path)]) == 0
    weights = (folder / "run" / "weights.npz").read_bytes()
    before = open_store(folder / "store.zarr").data_hash
    as_version_1(folder / "store.zarr")
    records = json.loads((folder / "stages.json").read_text())
    records["train"]["finished"] = False  # as if stopped on its way, at its last checkpoint
    (folder / "stages.json").write_text(json.dumps(records))
    capsys.readouterr()
    assert main(["prepare", str(path)]) == main(["train", str(path)]) == 0
    assert "the data are those that" in capsys.readouterr().err
    assert open_store(folder / "store.zarr").data_hash == before
    assert (folder / "run" / "weights.npz").read_bytes() == weights


def test_a_network_of_other_data_is_kept_and_named(experiment, capsys):
    path, folder = experiment
    assert main(["train", str(path)]) == 0
    as_version_1(folder / "store.zarr")
    write_members(path.parent / "files", n_times=28)
    capsys.readouterr()
    assert main(["prepare", str(path)]) == 0
    said = capsys.readouterr().err
    assert "was trained on other data" in said and f"emulator train {folder / 'config.yaml'} --redo" in said
    load_forecaster(folder / "run")


def test_an_older_store_stays_where_its_files_are_gone(experiment, capsys):
    path, folder = experiment
    as_version_1(folder / "store.zarr")
    for file in (path.parent / "files").iterdir():
        file.unlink()
    assert main(["prepare", str(path)]) == 1
    assert "matches no file" in capsys.readouterr().err.splitlines()[-1]
    assert (folder / "store.zarr" / MANIFEST).is_file()


@pytest.mark.parametrize("change", [{"format_version": FORMAT_VERSION + 1}, {"segments": 3}])
def test_a_newer_or_damaged_store_is_refused_with_the_command(experiment, capsys, change):
    path, folder = experiment
    store = folder / "store.zarr"
    (store / MANIFEST).write_text(json.dumps(json.loads((store / MANIFEST).read_text()) | change))
    assert main(["prepare", str(path)]) == 0  # finished; it is left as it is
    assert "done before, skipped" in capsys.readouterr().err
    with pytest.raises(DataError, match=f"store again: rm -r {store} && emulator prepare {folder}/config.yaml"):
        open_store(store)


def test_a_run_of_an_older_format_is_refused_with_the_command(experiment):
    path, folder = experiment
    assert main(["train", str(path)]) == 0
    file = folder / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 0}))
    with pytest.raises(DataError, match=f"version 0, .*; train again: emulator train {folder}/config.yaml --redo"):
        load_forecaster(folder / "run")
