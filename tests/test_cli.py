"""The command line: exit codes and one-line errors."""

import gc
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_store import write_store
from world_files import canonical, world

import emulator
from data_prep.grid import Grid
from emulator import cli
from emulator.cli import build_parser, main
from emulator.command import as_command, command_line, say, set_up_logging
from emulator.hardware.compilation_cache import remember_compiled
from emulator.progress import track

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
        (["run", ""], 2, ".: a folder, expected a YAML file; configs that come with"),
        (["train", "."], 2, ".: a folder, expected a YAML file"),
        (["run", "/"], 2, "/: a folder, expected a YAML file"),
        (["forecast", str(ROOT / "tests")], 2, "tests: a folder, expected a YAML file"),
        (["forecast", str(ROOT / "emulator/networks/speedy_t31")], 2, "a run folder needs an INPUT file"),
        (["forecast", "no_such_run", "input.nc"], 2, "no run folder"),
        (["plot", "no_such_scores.nc"], 1, "no_such_scores.nc"),
        (["report", "."], 1, ".: a folder; the scores of an experiment are a file in it, scores.nc"),
        (["plot", "no_such_scores.nc", "--redo"], 2, "plot: --redo is for CONFIG"),
        (["plot", "demo", "--out", "pictures"], 2, "plot: --out goes with a scores file"),
        (["forecast", "demo", "--days", "3"], 2, "forecast: --days goes with a run folder"),
        (["forecast", "demo", "--days", "0"], 2, "forecast: --days goes with a run folder"),
        (["forecast", str(ROOT), "input.nc", "--set", "seed=1"], 2, "forecast: --set is for CONFIG"),
        (["forecast", "speedy_t31", "input.nc", "--days", "0.1"], 2, "0.1 days: expected a positive multiple"),
        (["forecast", "speedy_t31", "input.nc", "--out", "out.zarr"], 2, "out.zarr: forecasts are written as NetCDF"),
        (
            ["evaluate", "demo", "--forecast", "a=x.nc", "--forecast", "a=y.nc"],
            2,
            "--forecast a: the name is there twice",
        ),
        (["evaluate", "demo", "--forecast", "a=no_such.nc"], 1, "no_such.nc: no such file"),
        (["evaluate", "demo", "--forecast", "a=no_such_*.nc"], 1, "no_such_*.nc: matches no file"),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(capsys, arguments, code, expected):
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert error.count("\n") == 1


def run_command(*words, out, **more):
    command = [sys.executable, "-m", "emulator.cli", *map(str, words)]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False, **more)


def test_standard_output_may_be_full_or_gone_or_of_few_characters(tmp_path, monkeypatch):
    command = ("inspect", canonical(world(), tmp_path))
    with Path("/dev/full").open("w") as full:
        for options in ((), ("--json",)):
            done = run_command(*command, *options, out=full)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == (
                "error: standard output: cannot be written: [Errno 28] No space left on device"
            )
    read, write = os.pipe()
    os.close(read)
    gone = run_command(*command, out=write)
    os.close(write)
    assert gone.returncode == 141 and "Error" not in gone.stderr
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    say("┏━ 1 K")
    assert sys.stdout.buffer.getvalue() == b"?? 1 K\n"


def test_a_folder_of_a_configs_name_does_not_hide_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["forecast", "demo"]) == 1
    assert "forecast: runs/demo/store.zarr is missing" in capsys.readouterr().err


def test_a_forecast_without_a_name_replaces_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("forecast.nc").write_text("of yesterday", encoding="utf-8")
    assert main(["forecast", "speedy_t31", "input.nc"]) == 1
    assert "error: forecast.nc is there already; --out names another file" in capsys.readouterr().err
    assert Path("forecast.nc").read_text(encoding="utf-8") == "of yesterday"


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "scripts").glob("*.py")))
def test_every_script_is_a_door(script):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_help_comes_at_once():
    """Time of the processor, not of the clock: other work on the machine must not fail this."""
    code = (
        "import sys, time; from emulator.cli import build_parser; build_parser().format_help();"
        "print(time.process_time(), *({'jax', 'xarray', 'pydantic', 'numpy', 'rich', 'shtab'} & set(sys.modules)))"
    )
    seconds, *heavy = run(code).split()
    assert heavy == []
    assert float(seconds) < 0.5


def test_the_module_is_the_command_and_exit_codes_are_documented(capsys):
    done = subprocess.run([sys.executable, "-m", "emulator", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, emulator.__version__)
    text = build_parser().format_help()
    for code in ("0  ", "1  ", "2  ", "130"):
        assert f"\n  {code}" in text


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/venv/lib/emulator/__main__.py", "emulator run 'a b.yaml'"),  # as python -m emulator
        ("/usr/bin/emulator", "emulator run 'a b.yaml'"),
        ("scripts/run.py", "run.py run 'a b.yaml'"),
    ],
)
def test_files_say_by_which_command_they_were_made(monkeypatch, program, said):
    monkeypatch.setattr("sys.argv", [program, "run", "a b.yaml"])
    assert command_line() == said


@pytest.mark.parametrize(
    ("signals", "code", "said"),
    [(["SIGINT"], 130, True), (["SIGTERM"], 130, True), (["SIGTERM", "SIGTERM"], -signal.SIGTERM, False)],
)
def test_whatever_interrupts_a_command_ends_it_alike(signals, code, said):
    """The second of two comes while the first is being obeyed, and works at once."""
    code_of = """
import os, signal, sys
from emulator import cli

def work(arguments):
    try:
        for name in sys.argv[1:2]:
            os.kill(os.getpid(), getattr(signal, name))
    finally:
        for name in sys.argv[2:]:
            os.kill(os.getpid(), getattr(signal, name))

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background turns off
cli._dispatch = work
sys.exit(cli.main(["verify", "store.zarr"]))
"""
    done = subprocess.run([sys.executable, "-c", code_of, *signals], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code
    assert done.stderr == ("stopped\n" if said else "")


def test_who_interrupts_a_redo_is_told_not_to_begin_anew(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("emulator.cli._dispatch", interrupted)
    assert main(["train", "demo", "--redo"]) == 130
    assert capsys.readouterr().err == "stopped; the same command without --redo goes on from here\n"
    assert main(["train", "demo"]) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    assert main(["forecast", "runs/demo/run", "fields.nc"]) == 130  # which begins anew
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_script_says_so_in_one_line(name, capsys):
    @as_command
    def script(_):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), getattr(signal, name))

    before = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert script([]) == 130
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert capsys.readouterr().err == "stopped\n"


def test_an_interrupt_within_a_callback_of_the_garbage_collector_is_not_lost(capsys):
    """JAX has such a callback, and one stop of preparing in twenty fell into it: Python let the work go on."""
    sent = []

    def callback(*_):
        if not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(1000):
                pass  # the handler is called here

    @as_command
    def script(_):
        gc.collect()
        time.sleep(10)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.callbacks.append(callback)
    try:
        assert script([]) == 130
    finally:
        gc.callbacks.remove(callback)
        signal.signal(signal.SIGTERM, before)
    assert sent and capsys.readouterr().err == "stopped\n"


def test_a_user_without_a_home_compiles_anew(monkeypatch):
    """As in a container that runs under a number alone."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    remember_compiled()
    assert os.environ == {}


@pytest.mark.parametrize("variables", [{"SLURM_STEP_NUM_TASKS": "2"}, {"JAX_COORDINATOR_ADDRESS": "node:1"}])
def test_several_processes_keep_compiled_programs_only_where_they_are_told(monkeypatch, variables):
    """The first alone would write; the others might not see it, and wait for what it does not do."""
    monkeypatch.setattr(os, "environ", dict(variables))
    remember_compiled()
    assert os.environ == variables


def allocate_too_much_by_numpy(_):
    np.empty(2**58)


def allocate_too_much_by_jax(_):
    jnp.zeros(2**46).block_until_ready()


@pytest.mark.parametrize("work", [allocate_too_much_by_numpy, allocate_too_much_by_jax])
def test_a_lack_of_memory_is_one_line(monkeypatch, capsys, work):
    monkeypatch.setattr(cli, "_dispatch", work)
    assert main(["verify", "store.zarr"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: memory does not suffice (")
    assert "a smaller train.batch_size" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_that_the_shell_takes(shell, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    assert stop.value.code == 0
    script = capsys.readouterr().out
    assert "--dry-run" in script and "inspect" in script and "_files" in script
    if shell == "zsh":
        assert re.search(r'"--with\[[^]]*\]:\w+:_files -/"', script), "run folders complete to folders"
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        assert subprocess.run([shell, "-n", str(tmp_path / "script")]).returncode == 0


def test_inspect_and_verify_for_machines(tmp_path, capsys):
    path = canonical(world(), tmp_path)
    assert main(["inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refusal"] is None and found["files"][0]["number_of_times"] == 40
    assert {v["name"] for v in found["files"][0]["variables"]} == set(world().data_vars)
    assert set(found["data"]["prognostic"]) == set(world().data_vars)

    data = world()
    data["temperature"][3] -= 273.15
    assert main(["inspect", str(canonical(data, tmp_path / "..")), "--json"]) == 1
    out, err = capsys.readouterr()
    assert "unit slip" in json.loads(out)["refusal"] and err.count("error: ") == 1

    assert main(["inspect", str(tmp_path / "absent.nc"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1

    write_store(tmp_path / "store.zarr", Grid.gaussian(4))
    assert main(["verify", str(tmp_path / "store.zarr"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intact"] is True
    chunk = next(
        p for p in sorted((tmp_path / "store.zarr" / "state").rglob("*")) if p.is_file() and p.name.startswith("c.")
    )
    chunk.write_bytes(b"damaged")
    assert main(["verify", str(tmp_path / "store.zarr"), "--json"]) == 1
    assert "store" in json.loads(capsys.readouterr().out)["error"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def own_logging():
    kept = {name: list(logging.getLogger(name).handlers) for name in ("emulator", "data_prep")}
    yield
    for name, handlers in kept.items():
        logging.getLogger(name).handlers = handlers


@pytest.mark.parametrize("colours", [True, False])
def test_no_color_is_heeded_on_a_terminal(monkeypatch, own_logging, colours):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    set_up_logging()
    logging.getLogger("emulator.x").info("12 windows in /a/path")
    with track(3, "work") as progress:
        progress.advance()
    text = terminal.getvalue()
    assert "12 windows" in text.replace("\x1b[0m", "").replace("\x1b[1;36m", "")
    assert ("\x1b[1;36m" in text or "\x1b[36m" in text or "\x1b[38;" in text) == colours


def test_no_control_characters_where_there_is_no_terminal(monkeypatch, own_logging):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr("emulator.progress.LINE_INTERVAL", 0.0)
    set_up_logging()
    with track(3, "work") as progress:
        for _ in range(3):
            progress.advance(loss=1.0)
    text = file.getvalue()
    assert "work: 3/3" in text
    assert all(c.isprintable() or c == "\n" for c in text)
