"""Memory in large pages, on Linux: it takes a fifth to a quarter off a training step on a CPU.

XLA asks the system for a program's memory anew at every call. In pages of 4 KiB, that of a training step of the demo's
network (180 MiB) is 45,000 faults before a number is in it. The system has pages of 2 MiB for programs that ask, and
glibc asks, from 2.35 on, where a variable of the environment says so when a process starts: hence a new start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SETTING = "GLIBC_TUNABLES"
_TUNABLE = "glibc.malloc.hugetlb"
_STARTED_AGAIN = "EMULATOR_STARTED_AGAIN"
_LEAST_GLIBC = (2, 35)
_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
    """Starts this process again with large pages, where the system gives them to those who ask and nobody decided yet.

    Call it before anything is done or imported that takes long. ``GLIBC_TUNABLES=glibc.malloc.hugetlb=0`` decides
    against it; under a debugger, and on other systems, nothing happens.
    """
    said = os.environ.get(_SETTING, "")
    if _TUNABLE in said or _STARTED_AGAIN in os.environ or sys.gettrace() or not sys.executable or not _on_request():
        return
    os.environ[_STARTED_AGAIN] = "1"  # once, also where the loader drops the other one (a setuid program)
    os.environ[_SETTING] = ":".join(filter(None, [said, f"{_TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _on_request() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        recent = tuple(map(int, version.split(".")[:2])) >= _LEAST_GLIBC
        return name == "glibc" and recent and "[madvise]" in _PAGES.read_text(encoding="ascii")
    except (AttributeError, OSError, ValueError):  # no Linux, another libc, or a kernel without such pages
        return False
