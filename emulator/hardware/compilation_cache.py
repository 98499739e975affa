"""Compiled programs are kept in the user's cache folder, so that the next start need not compile.

JAX reads the variables that are set here when it is imported; this module imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from emulator.hardware.launcher import launched_several, named_processes


def remember_compiled() -> None:
    """Turns the cache on for this process and its children.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder, ``JAX_ENABLE_COMPILATION_CACHE=false`` turns it off. Several
    processes keep nothing unless a folder is named: the first alone writes, and where the others do not find what it
    wrote, they compile while it does not, and on GPUs wait for its share of that work, for up to a day. A folder that
    all see is not enough: nodes whose processors differ may look for the same program under different names.
    """
    if launched_several() or named_processes():
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody's home: a container's user without a name
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "weather-emulator" / "xla" / _processor()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # even small ones: a start has dozens


def _processor() -> str:
    """Names what CPU programs are compiled for: a home folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
