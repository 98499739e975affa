"""What the environment says of the other processes of a run; imports nothing heavy."""

from __future__ import annotations

import os

JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
"""Who the others are, where no launcher says so."""


def named_processes() -> list[str]:
    """Those of ``JAX_VARIABLES`` that are given."""
    return [name for name in JAX_VARIABLES if os.environ.get(name)]


def launched_several() -> bool:
    """Whether Slurm or Open MPI started several."""
    return any(_number(name, 1) > 1 for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))


_told_here: list[int] = []


def tell_processes_here(count: int) -> None:
    """So many share this machine, as they have told each other."""
    _told_here[:] = [count]


def processes_here(count: int) -> int:
    """How many of ``count`` share this machine; all of them, where neither they nor the launcher said."""
    if _told_here:
        return _told_here[0]
    by_slurm = -(-_number("SLURM_STEP_NUM_TASKS", count) // _number("SLURM_STEP_NUM_NODES", 1))
    return max(1, min(count, _number("OMPI_COMM_WORLD_LOCAL_SIZE", by_slurm)))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else default
