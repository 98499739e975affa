"""``python -m attacks.netcdf_disk FOLDER [N]``: a file is written while the disk fails, from each of its writes on, or
from every Nth.
"""

import errno
import signal
import sys
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

from attacks import faults
from data_prep.files.disk import DiskError, closing_once, replacing
from data_prep.files.netcdf_file import write_netcdf

CLOSES = 3


def write(path: Path) -> int:
    """Head, middle and end as those of ``scores.nc``. Returns an exit code."""
    values = np.random.default_rng(0).standard_normal((2, 4000))
    packed = {"zlib": True, "fletcher32": True}
    try:
        with replacing(path) as temporary:
            write_netcdf(xr.Dataset(coords={"x": range(4000), "s": ["a", "b"]}), temporary)
            file = netCDF4.Dataset(temporary, "a")
            with closing_once(file):
                file.createVariable("middle", "f8", ("s", "x"), **packed)[:] = values
            end = xr.Dataset({"end": (("s", "x"), values)})
            write_netcdf(end, temporary, mode="a", encoding={"end": packed})
    except DiskError as error:
        print(error)
        return 1
    return 0


def is_withstood(end: faults.End, path: Path) -> bool:
    """Whether there is the whole file or one line that says why there is none."""
    if not end.refused:
        return end.code == 0 and path.exists()
    said = end.log.strip()
    one_line = said.startswith(f"{path}: cannot be written: ") and "\n" not in said and "permission denied;" not in said
    return end.code == 1 and one_line and not path.exists()


def main() -> int:
    """Prints what went wrong. Returns 0 where nothing did, but for a crash a close on a disk that fails.

    After the last flush netCDF writes a mark over the file's first bytes, for which a full disk has room; where a disk
    fails at that very write, netCDF crashes the process (docs/reliability.md).
    """
    root = Path(sys.argv[1])
    every = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    faults.preload(root)
    path, log = root / "work" / "a.nc", root / "log"
    path.parent.mkdir()
    events = faults.run_child(lambda: write(path), path.parent, log).events
    crashes, wrong = 0, 0
    for number, event in list(enumerate(events, 1))[::every]:
        for mode in (errno.ENOSPC, errno.EIO) if event.startswith(("create", "write", "truncate")) else ():
            path.unlink(missing_ok=True)
            end = faults.run_child(lambda: write(path), path.parent, log, event=number, mode=mode)
            if mode == errno.EIO and end.code == -signal.SIGSEGV and not path.exists():
                crashes += 1
            elif not is_withstood(end, path):
                wrong += 1
                print(f"event {number}, {event}, error {mode}: exit code {end.code} {end.log}")
    print(f"{len(events)} events, {wrong} wrong, {crashes} crashes")
    return 0 if wrong == 0 and crashes <= CLOSES else 1


if __name__ == "__main__":
    sys.exit(main())
