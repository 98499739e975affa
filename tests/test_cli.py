"""The command line: exit codes and one-line errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from emulator.cli import build_parser, main

ROOT = Path(__file__).parent.parent


def test_help_of_every_command_explains_itself(capsys):
    for command in ("simulate", "prepare", "train", "forecast", "evaluate", "plot", "run"):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args([command, "--help"])
        assert stop.value.code == 0
        assert "--set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["run", "no_such_config"], 2, "no such file"),
        (["forecast", "no_such_run", "input.nc"], 2, "no run folder"),
        (["plot", "no_such_scores.nc"], 1, "no_such_scores.nc"),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(capsys, arguments, code, expected):
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "scripts").glob("*.py")))
def test_every_script_is_a_door(script):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
