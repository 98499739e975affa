"""A command starts itself again with large pages, once, where the system leaves them to who asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.hardware import large_pages
from emulator.hardware.large_pages import use_large_pages


class Replaced(Exception):
    """The process is another one."""


@pytest.fixture
def linux(monkeypatch, tmp_path):
    """A machine where a new start helps, whatever this one is; without what looks for coverage or bugs here."""
    pages = tmp_path / "enabled"
    pages.write_text("always [madvise] never\n")
    monkeypatch.setattr(large_pages, "_PAGES", pages)
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36", raising=False)
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "emulator", "run", "x.yaml"])
    for name in ("GLIBC_TUNABLES", "EMULATOR_STARTED_AGAIN"):
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back
        monkeypatch.delenv(name)

    def execv(program, words):
        raise Replaced(program, words)

    monkeypatch.setattr(os, "execv", execv)
    return pages


def test_the_same_command_line_is_started_again(linux):
    with pytest.raises(Replaced) as replaced:
        use_large_pages()
    assert replaced.value.args == (sys.executable, [sys.executable, "-m", "emulator", "run", "x.yaml"])
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    use_large_pages()  # as the new process does: not again
    del os.environ["GLIBC_TUNABLES"]  # a loader in secure mode does so
    use_large_pages()


def test_what_else_was_set_stays(linux, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    with pytest.raises(Replaced):
        use_large_pages()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"


@pytest.mark.parametrize(
    "case", ["decided", "debugged", "always", "never", "no such kernel", "glibc 2.34", "musl 1.2", ""]
)
def test_nothing_happens_where_it_would_not_help(linux, monkeypatch, case):
    if case == "decided":
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    elif case == "debugged":
        monkeypatch.setattr(sys, "gettrace", lambda: print)
    elif case == "no such kernel":
        linux.unlink()
    elif case in ("always", "never"):
        linux.write_text("always madvise never".replace(case, f"[{case}]"))
    else:
        monkeypatch.setattr(os, "confstr", lambda _: case)
    use_large_pages()


def test_the_command_of_the_shell_has_them(tmp_path):
    """In earnest: its environment, as a script sees that is run in its place."""
    if not large_pages._on_request():
        pytest.skip("this system does not leave large pages to who asks")
    told = tmp_path / "told.py"
    told.write_text(
        "import os, sys\n"
        "from emulator import cli\n"
        "cli.main = lambda words: print(words, os.environ['GLIBC_TUNABLES'], os.getpid()) or 3\n"
        "sys.exit(cli.start('run'))\n"
    )
    free = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "EMULATOR_STARTED_AGAIN")}
    command = [sys.executable, str(told), "--set", "a b=1"]
    process = subprocess.Popen(
        command, env={**free, "PYTHONPATH": str(Path(__file__).parent.parent)}, stdout=subprocess.PIPE, text=True
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert out == f"['run', '--set', 'a b=1'] glibc.malloc.hugetlb=1 {process.pid}\n"
