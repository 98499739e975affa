"""The network that ships does what its card says, and the check notices when it does not."""

import json
import shutil

import numpy as np
import pytest

from emulator.cli import main
from emulator.pretrained import DEFAULT, FOLDER, check

SHIPPED = FOLDER / DEFAULT


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


def test_other_weights_are_noticed(copy, capsys):
    with np.load(copy / "weights.npz") as file:
        weights = {name: file[name] for name in file.files}
    weights["head/kernel/value"] = weights["head/kernel/value"] * np.float16(0.9)
    np.savez_compressed(copy / "weights.npz", **weights)
    assert main(["check-pretrained", str(copy)]) == 1
    shown = capsys.readouterr()
    assert "NOT the card's numbers" in shown.out
    assert "error: check-pretrained:" in shown.err


def test_a_folder_without_a_card_is_one_line(tmp_path, capsys):
    assert main(["check-pretrained", str(tmp_path)]) == 1
    assert "card.json is missing" in capsys.readouterr().err


def test_it_forecasts_like_any_run_folder(tmp_path):
    out = tmp_path / "forecast.nc"
    arguments = ["forecast", str(SHIPPED), str(SHIPPED / "initial.nc"), "--days", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert out.exists()


def test_nothing_that_ships_is_large_or_names_a_machine():
    files = sorted(SHIPPED.iterdir())
    assert {f.name for f in files} >= {"README.md", "run.json", "weights.npz", "arrays.npz", "initial.nc", "truth.nc"}
    assert sum(f.stat().st_size for f in files) < 10e6  # it is in every clone and every wheel
    assert json.loads((SHIPPED / "run.json").read_text())["experiment"]["workdir"] == ""
