"""What is measured of work in processes of its own: seconds, and the most memory that one of them held."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from emulator.hardware.workers import use_one_thread


@dataclass(frozen=True)
class Run:
    """Seconds of one way, and the most memory that one of its processes held."""

    seconds: float
    memory_gib: float


def alone(function: Callable[..., Run], *arguments: object) -> Run:
    """What a function finds in a process of its own, whose memory nothing else has filled."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def timed(work: Callable[[Executor | None], object], workers: int, module: str) -> Run:
    """Does some work, to be called in a process of its own.

    Args:
      work: Takes the worker processes, ``None`` where there are none.
      workers: How many; 0 for this process alone.
      module: What they import before the clock starts: starting Python is not the work.
    """
    if not workers:
        start = time.perf_counter()
        work(None)
        return Run(time.perf_counter() - start, peak_gib())
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=use_one_thread) as pool:
        list(pool.map(_warm, [module] * workers))
        start = time.perf_counter()
        work(pool)
        seconds = time.perf_counter() - start
        return Run(seconds, max(peak_gib(), *pool.map(_warm, [module] * workers)))


def _warm(module: str) -> float:
    """Imports what a worker needs, and says how much memory it has held; so slow that every worker does it once."""
    import_module(module)
    time.sleep(1)
    return peak_gib()


def peak_gib() -> float:
    """The most memory that this process held, GiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss of a child begins with what its parent held
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
