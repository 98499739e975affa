"""Opens NetCDF files in a child first: on some damaged ones the C libraries crash, or loop for ever."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from data_prep.errors import DataError
from data_prep.reading.locations import Location
from data_prep.reading.opening import format_of

_SECONDS = 8.0  # of a processor: a busy machine is no damage
_PATIENCE = 300.0  # by the clock, for a disk that does not answer; starved on a sound disk, a child took over 60
_PROGRAM = """
import os, signal, sys, netCDF4
for path in sys.stdin.read().split("\\0"):
    signal.setitimer(signal.ITIMER_PROF, {seconds})  # its signal ends the process, whatever the library does
    try:
        netCDF4.Dataset(path).close()
    except Exception:
        pass  # who asked opens it again and says what is wrong
    os.write(1, b".")
"""


def probe(locations: Iterable[Location]) -> None:
    """Opens and closes each NetCDF file once, in one child for all of them (a fraction of a second).

    Raises:
      DataError: the child crashed on a file, or took more than eight seconds of a processor.
    """
    files = [p for p in locations if isinstance(p, Path) and p.is_file() and format_of(p) == "NetCDF"]
    if not files:
        return
    command = [sys.executable, "-P", "-c", _PROGRAM.format(seconds=_SECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it crashed before it had read them all
                child.stdin.write("\0".join(map(str, files)).encode(errors="surrogateescape"))
                child.stdin.close()
            for file in files:
                if not select.select([child.stdout], [], [], _PATIENCE)[0]:
                    raise DataError(
                        f"{file}: opening it takes more than {_PATIENCE:g} s: its disk or this machine is very slow; "
                        "copy it to another disk, or wait until other work is done"
                    )
                if not os.read(child.stdout.fileno(), 1):
                    _refuse_crash(file, child.wait())
                    return
        finally:
            child.kill()


def _refuse_crash(file: Path, code: int) -> None:
    if code == -signal.SIGPROF:
        raise DataError(f"{file}: opening it takes a processor more than {_SECONDS:g} s: it is damaged; make it again")
    if code < 0:
        raise DataError(f"{file}: the NetCDF library crashes on it ({signal.Signals(-code).name}); it is damaged")
