"""The network that ships does what its card says, and the check notices when it does not."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import DataError
from emulator import pretrained
from emulator.checkpoint import ARRAYS, load_forecaster, read_description, write_description
from emulator.cli import main
from emulator.pretrained import check, ship_run
from emulator.run_folder import WEIGHTS, run_folder

SHIPPED = run_folder("speedy_t31")


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(SHIPPED, tmp_path / "copy")


def test_the_shipped_network_has_the_errors_of_its_card():
    result = check(SHIPPED)
    assert result.agrees, result.text
    for word in ("Z500, m²/s²", "Physics T21 debiased", "Climatology", "12 initial times"):
        assert word in result.text


def test_the_shipped_network_is_better_than_climatology_at_day_three():
    errors = json.loads((SHIPPED / "card.json").read_text())["test"]["errors"]
    for name, values in errors["network"].items():
        assert values[1] < errors["climatology"][name][1], name


def keep_first_lead(folder):
    """Makes the sample and its card shorter: a day, not ten."""
    with xr.open_dataset(folder / "truth.nc") as truth:
        first = truth.isel(lead_time=[0]).load()
    first.to_netcdf(folder / "truth.nc")
    card = json.loads((folder / "card.json").read_text())
    for part in (card["sample"], card["test"]):
        part["errors"] = {who: {name: e[:1] for name, e in of.items()} for who, of in part["errors"].items()}
    (folder / "card.json").write_text(json.dumps(card | {"days": card["days"][:1]}))


@pytest.mark.slow
def test_other_weights_are_noticed(copy, capsys):
    keep_first_lead(copy)
    assert main(["check-pretrained", str(copy)]) == 0
    with np.load(copy / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    weights["head/latent/kernel/value"] = weights["head/latent/kernel/value"] * np.float16(0.9)
    np.savez_compressed(copy / "weights.npz", **weights)
    assert main(["check-pretrained", str(copy)]) == 1
    shown = capsys.readouterr()
    assert "NOT the card's numbers" in shown.out
    assert "error: check-pretrained:" in shown.err


def test_a_folder_without_a_card_is_one_line(tmp_path, capsys):
    assert main(["check-pretrained", str(tmp_path)]) == 1
    assert "card.json is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kept", "said"),
    [
        ("card.json", 0.5, "card.json: damaged, not valid JSON"),
        ("card.json", None, r"card.json: damaged \(KeyError"),
        ("truth.nc", 0.0, "truth.nc: cannot be read"),
        ("truth.nc", 0.5, "truth.nc: cannot be read"),
        ("truth.nc", None, "truth.nc: no such file; take the folder as it was shipped"),
        ("initial.nc", None, "initial.nc: no such file"),
    ],
)
def test_damage_to_what_it_is_checked_by_is_one_line(copy, monkeypatch, name, kept, said):
    monkeypatch.setattr(pretrained, "load_forecaster", lambda _: None)
    file = copy / name
    whole = file.read_bytes()
    file.unlink()
    if name == "card.json" and kept is None:
        monkeypatch.setattr(pretrained, "sample_errors", lambda _: {"geopotential@500": [1.0]})
        file.write_text("{}")
    elif kept is not None:
        file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=said):
        check(copy)


def test_a_card_of_other_leads_is_one_line(copy, monkeypatch):
    card = json.loads((copy / "card.json").read_text())
    errors = card["sample"]["errors"]["network"]
    monkeypatch.setattr(pretrained, "sample_errors", lambda _: {name: found[:-1] for name, found in errors.items()})
    with pytest.raises(DataError, match=r"card.json: damaged \(ValueError"):
        check(copy)


def test_it_forecasts_like_any_run_folder(tmp_path):
    out = tmp_path / "forecast.nc"
    arguments = ["forecast", "speedy_t31", str(SHIPPED / "initial.nc"), "--days", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert out.exists()


def test_it_goes_by_its_name_unless_a_run_folder_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load_forecaster("speedy_t31")
    shutil.copytree(SHIPPED, tmp_path / "speedy_t31" / "run")  # as an experiment of that name has it
    assert run_folder("speedy_t31").resolve() == tmp_path / "speedy_t31" / "run"
    load_forecaster(tmp_path / "speedy_t31")
    (tmp_path / "speedy_t31" / "run" / "weights.npz").unlink()
    with pytest.raises(DataError, match=r"speedy_t31/run/weights.npz"):
        load_forecaster("speedy_t31")
    assert main(["check-pretrained", "speedy_t32"]) == 1
    assert "speedy_t32: no shipped network" in capsys.readouterr().err


def test_damage_to_its_description_is_noticed(copy):
    file = copy / "run.json"
    file.write_text(file.read_text().replace('"timestep_seconds": 21600.0', '"timestep_seconds": 10800.0'))
    with pytest.raises(DataError, match="damaged, its contents do not match its hash"):
        load_forecaster(copy)


@pytest.fixture
def unpacked(copy):
    """A run folder as training leaves it, but for a small table."""
    with np.load(copy / ARRAYS) as arrays:
        kept = {name: arrays[name] for name in arrays.files if not name.startswith("forcing/packed/")}
    np.savez(copy / ARRAYS, **kept, **{"forcing/table": np.zeros((366, 2, 3, 1), np.float32)})
    return copy


def test_a_network_is_shipped_in_whole_files(unpacked, tmp_path, monkeypatch):
    save, out = np.savez_compressed, tmp_path / "out"
    out.mkdir()

    def killed(file, **arrays):
        save(file, **arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        ship_run(unpacked, out)
    assert not (out / WEIGHTS).exists()
    monkeypatch.undo()
    ship_run(unpacked, out)
    with np.load(out / WEIGHTS) as weights, np.load(out / ARRAYS) as arrays:
        assert all(array.dtype == np.float16 for array in weights.values()) and "forcing/packed/change" in arrays


def test_what_ships_multiplies_as_fast_as_any_processor_can(unpacked, tmp_path):
    for trained, shipped in {"bfloat16_products": "float32", "bfloat16": "bfloat16"}.items():
        write_description(unpacked, read_description(unpacked) | {"precision": trained})
        (out := tmp_path / trained).mkdir()
        ship_run(unpacked, out)
        assert read_description(out)["precision"] == shipped


def test_a_damaged_network_is_not_shipped(copy, tmp_path):
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"weights.npz: cannot be read .*; train again"):
        ship_run(copy, tmp_path / "out")


def test_nothing_that_ships_is_large_or_names_a_machine():
    files = sorted(SHIPPED.iterdir())
    assert {f.name for f in files} >= {"README.md", "run.json", "weights.npz", "arrays.npz", "initial.nc", "truth.nc"}
    assert sum(f.stat().st_size for f in files) < 13e6  # it is in every clone and every wheel
    assert json.loads((SHIPPED / "run.json").read_text())["experiment"]["workdir"] == ""
