"""What this machine can do: the ceilings that speed is measured against, and its memory."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from emulator.hardware.launcher import processes_here

logger = logging.getLogger(__name__)

_MATRIX_SIDE = {"cpu": 1024}
_MATRIX_SIDE_ACCELERATOR = 8192
_COPIED = {"cpu": 2**28}
_COPIED_ACCELERATOR = 2**31
_MEASURE_SECONDS = 0.3


AMPERE = 8.0
"""Compute capability of the first Nvidia GPUs that multiply bfloat16."""


def nvidia_capability() -> float | None:
    """Compute capability of the default device; ``None`` where that is no GPU of Nvidia's."""
    device = jax.devices()[0]
    is_nvidia = device.platform == "gpu" and "cuda" in device.client.platform_version
    return float(device.compute_capability) if is_nvidia else None


def describe() -> str:
    """The hardware in a few words, e.g. ``1 x NVIDIA H100`` or ``AMD EPYC, 2 cores``."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    shared = f", {len(devices)} devices" if len(devices) > 1 else ""
    return f"{_processor()}, {cores()} cores{shared}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def factors_of(precision: str) -> str:
    """What a network multiplies whose ``train.precision`` is called so: ``float32`` or ``bfloat16``."""
    return precision.removesuffix("_products")


def matrix_rate(precision: str, devices: Sequence[jax.Device] | None = None) -> float:
    """Measured rate of matrix products, operations a second of all devices of this process together.

    Every device multiplies large square matrices of noise at the same time (ones would draw less power, and so be
    faster); the best of some repetitions counts. Takes about a second, most of it compilation.

    Args:
      precision: Of the factors, ``float32`` or ``bfloat16``, sums being what the device makes of them, or
        ``bfloat16_products``, whose sums are float32.
      devices: Of this process; all when ``None``.
    """
    local = list(devices or jax.local_devices())
    side = _MATRIX_SIDE.get(local[0].platform, _MATRIX_SIDE_ACCELERATOR)
    mesh = Mesh(np.array(local), ("device",))
    split = NamedSharding(mesh, P("device"))
    dtype = factors_of(precision)
    sums = None if precision == dtype else jnp.dtype("float32")
    noise = jax.jit(partial(jax.random.normal, shape=(len(local) * side, side), dtype=dtype), out_shardings=split)
    factor = noise(jax.random.key(0))
    square = partial(jnp.matmul, preferred_element_type=sums)
    product = jax.jit(jax.shard_map(lambda a: square(a, a), mesh=mesh, in_specs=P("device"), out_specs=P("device")))
    return len(local) * 2.0 * side**3 / best_seconds(lambda: product(factor), seconds=_MEASURE_SECONDS)


def copy_rate() -> float:
    """Measured rate of a copy within a device's memory, bytes a second, read and write counted."""
    n_bytes = _COPIED.get(jax.default_backend(), _COPIED_ACCELERATOR)  # far more than caches hold
    if jax.default_backend() == "cpu":  # by NumPy: XLA would take fresh pages from the system for every result
        source, target = (np.ones(n_bytes // 4, np.float32) for _ in range(2))  # zeros would all be one page
        return 2.0 * n_bytes / best_seconds(lambda: np.copyto(target, source), seconds=_MEASURE_SECONDS)
    x = jnp.zeros(n_bytes // 4, jnp.float32)
    flip = jax.jit(jnp.negative)  # a plain copy would be aliased
    return 2.0 * n_bytes / best_seconds(lambda: flip(x), seconds=_MEASURE_SECONDS)


def best_seconds(work: Callable[[], Any], *, seconds: float) -> float:
    """Shortest time of some work on the devices, repeated for about so many seconds after one call that may compile."""
    jax.block_until_ready(work())
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        jax.block_until_ready(work())
        times.append(time.perf_counter() - start)
    return min(times)


def device_memory() -> tuple[int, int] | None:
    """Bytes that a device has for this program, and how many of them others leave it; ``None`` where nobody says.

    Of a CPU: the machine's or container's memory, shared evenly among the run's processes there and their devices.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats()
        if not stats or "bytes_limit" not in stats:
            return None
        limit = stats["bytes_limit"]  # what is in use of it is this program's own, which its account counts already
        return limit, limit
    known, sharing = host_memory(), jax.local_device_count() * processes_here(jax.process_count())
    return known and (known[0] // sharing, known[1] // sharing)


def host_memory() -> tuple[int, int] | None:
    """Bytes of memory of this machine, container or batch job, and how many are free; ``None`` where nobody says."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        total, free = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return None
    limit, room = _memory_limit()
    return min(total, limit), min(free, room)


def _memory_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> tuple[int, int]:
    """The least that containers and batch systems allow, and the least that is left of it.

    Of the control groups (version 1 and 2) of this process; what is in use there is counted without the cache of files,
    which makes way.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return sys.maxsize, sys.maxsize
    limits, rooms = [sys.maxsize], [sys.maxsize]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers == "":
            top, names = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        for place in (group, *group.parents[: len(group.parts) - len(top.parts)]):
            with suppress(OSError, ValueError):  # no such group seen from within a container, or no limit
                limits.append(int((place / names[0]).read_text(encoding="utf-8")))
                rooms.append(limits[-1])
                used = int((place / names[1]).read_text(encoding="utf-8"))
                cached = re.search(rf"^{names[2]} (\d+)$", (place / "memory.stat").read_text(encoding="utf-8"), re.M)
                rooms[-1] = max(0, limits[-1] - used + (int(cached[1]) if cached else 0))
    return min(limits), min(rooms)
