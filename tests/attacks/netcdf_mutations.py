"""Mutated NetCDF files, inspected by children with limits on time and memory."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from attacks.flips import cut, flip
from attacks.mutations import LOADED, MEMORY_BYTES, PATIENCE, REFUSED, SECONDS, Found, splice

_HEADER_BYTES = 4096


def header(content: bytes, rng: random.Random) -> bytes:
    """Some bytes of the first part, where dimensions, types and offsets stand, are others."""
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 9)):
        at = rng.randrange(min(len(changed), _HEADER_BYTES))
        changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def words(content: bytes, rng: random.Random) -> bytes:
    """A word of four or eight bytes is zero, huge or negative."""
    changed, size = bytearray(content), rng.choice((4, 8))
    at = rng.randrange(0, max(1, min(len(changed), 8 * _HEADER_BYTES) - size), 4)
    changed[at : at + size] = rng.choice((b"\0", b"\x7f", b"\xff", b"\x80\0\0\0")) * size
    return bytes(changed[: len(content)])


def flips(content: bytes, rng: random.Random) -> bytes:
    """A dozen bits are others."""
    for _ in range(12):
        content = flip(content, rng)
    return content


MUTATIONS = (flip, flips, cut, header, header, words, splice)


def make_files(folder: Path) -> list[Path]:
    """Small files of every format that NetCDF has; one of old HDF5, without checksums in its own tables, too."""
    from world_files import world

    folder.mkdir(parents=True)
    data = world().isel(time=slice(0, 8))[["temperature", "2m_temperature"]]
    out = []
    for kind in ("NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4", "NETCDF4_CLASSIC"):
        data.to_netcdf(folder / f"{kind}.nc", format=kind, engine="netcdf4")
        out.append(folder / f"{kind}.nc")
    packed = {name: {"zlib": True, "shuffle": True, "fletcher32": True} for name in data.data_vars}
    data.to_netcdf(folder / "compressed.nc", engine="netcdf4", encoding=packed)
    out.append(folder / "compressed.nc")
    data.to_netcdf(folder / "old_hdf5.nc", engine="h5netcdf")
    return [*out, folder / "old_hdf5.nc"]


def inspect_in_child(path: Path) -> tuple[str, float]:
    """What ``emulator inspect`` makes of a file, and in how many seconds of processor time.

    A fork of this process, which has imported all there is to import, is limited in memory and killed when it is late.
    """
    log, began = path.with_name("output.txt"), time.monotonic()
    child = os.fork()
    if child == 0:
        _inspect_and_leave(path, log)
    status = 0
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > PATIENCE * SECONDS:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return f"HANGS for more than {PATIENCE * SECONDS:g} s", SECONDS
        time.sleep(0.002)
    seconds, code = usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return f"HANGS for more than {SECONDS:g} s", seconds
    if code < 0:
        return f"CRASH by {signal.Signals(-code).name}", seconds
    if usage.ru_maxrss * 1024 > MEMORY_BYTES:
        return "MEMORY", seconds
    return _verdict(code, log.read_text(errors="replace")), seconds


def _verdict(code: int, said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said or code not in (0, 1, 2) or len(errors) != (code != 0):
        return f"TRACEBACK exit code {code}: {' '.join(said.split())[-1500:]}"
    return LOADED if code == 0 else REFUSED


def _inspect_and_leave(path: Path, log: Path) -> None:
    import traceback

    from emulator.cli import main

    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))
        code = main(["inspect", str(path)])
    except BaseException:  # noqa: BLE001 - the point of the attack
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def attack_netcdf(folder: Path, count: int, rng: random.Random) -> Found:
    """Inspects so many mutated files."""
    import data_prep.inspection.report
    import data_prep.reading.probe  # noqa: F401 - so that no child need import it

    files = make_files(folder)
    for file in files:
        assert inspect_in_child(file)[0] == LOADED, file
    found = Found()
    mutated = folder / "mutated.nc"
    for number in range(count):
        content = rng.choice(MUTATIONS)(files[number % len(files)].read_bytes(), rng)
        mutated.write_bytes(content)
        what, seconds = inspect_in_child(mutated)
        found.add(what, content, seconds)
    return found
