"""Faults at a chosen write: ``faults.c`` compiled, preloaded into a process that runs the program, and told what to do.

One process imports the program once and forks a child for every attack, so that an attack costs what the stage costs.
It must not wake JAX up before: a fork of a process with a running backend hangs.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SOURCE = Path(__file__).with_name("faults.c")
LIBRARY = "EMULATOR_FAULTS"
COUNT, KILL = 0, -1


def compiler() -> str | None:
    """A C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


def compile_faults(folder: Path) -> Path:
    """The library, made in this folder."""
    library = folder / "faults.so"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"]
    subprocess.run([str(part) for part in command], check=True)
    return library


def preload(folder: Path) -> None:
    """Starts this process again with the library in it; returns in the second life."""
    if LIBRARY in os.environ:
        return
    library = str(compile_faults(folder))
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": library, LIBRARY: library})


@dataclass(frozen=True)
class End:
    """How a child ended.

    Attributes:
      code: Its exit code; negative for a signal, as in ``subprocess``.
      events: Changes of files below the watched folder, as ``operation path``; of children that were not killed at one.
      refused: How many of them failed because they were to fail.
      log: What it said on standard error.
    """

    code: int
    events: tuple[str, ...]
    refused: int
    log: str


def run_child(
    work: Callable[[], int],
    folder: Path,
    log: Path,
    *,
    event: int = 0,
    mode: int = COUNT,
    after: float | None = None,
    limit: float = 600.0,
) -> End:
    """Runs ``work`` in a forked child whose changes of files below ``folder`` are counted, and maybe fail.

    Args:
      work: Returns an exit code.
      folder: What is watched.
      log: File that standard output and error go to.
      event: Number of the event at which the fault begins, from 1.
      mode: ``COUNT``, ``KILL``, or the ``errno`` that writes return from the event on.
      after: Seconds after which the child is killed, whatever it does.
      limit: Seconds that it may take at all.

    Raises:
      TimeoutError: it hangs.
    """
    trace = log.with_suffix(".trace")
    trace.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _live(work, folder, log, trace, event, mode)
    began = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        passed = time.monotonic() - began
        if done:
            break
        if after is not None and passed >= after:
            os.kill(child, signal.SIGKILL)
        elif passed > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"no end within {limit:g} s; {log}")
        time.sleep(0.002)
    lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
    events = tuple(line for line in lines if not line.startswith("refused "))
    return End(os.waitstatus_to_exitcode(status), events, len(lines) - len(events), log.read_text(errors="replace"))


def _live(work: Callable[[], int], folder: Path, log: Path, trace: Path, event: int, mode: int) -> NoReturn:
    code = 70
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        library = ctypes.CDLL(os.environ[LIBRARY])
        library.faults_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int)
        if mode != KILL:
            library.faults_trace(os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        library.faults_arm(str(folder.resolve()).encode(), event, mode)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it is, the log shall hold it and the parent shall go on
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).exit(code)  # as a process ends: HDF5 closes what is open
