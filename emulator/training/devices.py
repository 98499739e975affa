"""How devices share the work: one code path from one CPU core to many hosts.

Devices form a mesh of two axes. Along ``data`` they share the windows of a batch, along ``space`` the latitudes of
every field; weights and optimiser state are whole on each. The network runs on every device by itself, on its windows
and its band of latitudes (``jax.shard_map``), and asks its neighbours for the rows beyond the band
(``emulator.models.halo``); gradients are summed once a step. A single device is a mesh of 1 x 1, where all of this
compiles to nothing.

Several processes are started with the same command each (``join_processes``): one an accelerator under a launcher, one
a host where three variables say who is who. Every process reads only the windows that its devices need; the first alone
writes files.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from emulator.config import MeshConfig, ModelConfig
from emulator.hardware.launcher import (
    JAX_VARIABLES,
    launched_several,
    named_processes,
    processes_here,
    tell_processes_here,
)
from emulator.hardware.machine import matrix_rate
from emulator.models import latitude_factor
from emulator.models.halo import LATITUDE_AXIS

logger = logging.getLogger(__name__)

Tree = TypeVar("Tree")

DATA_AXIS = "data"
AXES = (DATA_AXIS, LATITUDE_AXIS)

WHOLE = P()
"""On every device the same."""
WINDOWS = P(DATA_AXIS, None, LATITUDE_AXIS)
"""Arrays ``(batch, time, lat, ...)``; of ``(batch,)`` see ``windows_spec``."""
ROWS = P(LATITUDE_AXIS)
"""Arrays ``(lat, ...)``."""

HEARTBEAT_SECONDS = 30
"""A process that has said nothing for so long is given up."""

LEAVE_SECONDS = 30
"""A process that ends waits for the others for so long: one that failed must not leave them waiting for ever."""

MEET_SECONDS = 6 * 3600
"""A process waits for the others for so long where they have work to do; one that dies is noticed all the same."""

_BROKEN_CONNECTION = re.compile(
    r"^(unavailable|aborted|cancelled|deadline_exceeded):"
    r"|gloo|connection|broken pipe|socket|timed out|heartbeat|remote process|network error|unhandled system error",
    re.IGNORECASE,
)
"""What gRPC, Gloo (CPU) and NCCL (GPU) say when another process is gone; a status such as INTERNAL stands for all."""


def meet() -> None:
    """Waits for the other processes as long as they need.

    Whoever ends is waited for at exit for ``LEAVE_SECONDS`` alone, and then all are ended: also the first, which may
    still be writing. Devices take no part: some give up a collective that others do not join for a minute.
    """
    if jax.process_count() > 1:
        from orbax.checkpoint.multihost import sync_global_processes  # slow to import, and seldom needed

        everybody = set(range(jax.process_count()))  # named, or Orbax would have the devices wait
        sync_global_processes("met", timeout=MEET_SECONDS, processes=everybody)


def windows_spec(n_dimensions: int) -> P:
    """How an array of a batch lies that may have no more dimensions than that."""
    return P(*WINDOWS[:n_dimensions])


@dataclass(frozen=True)
class Layout:
    """The mesh of a run, and how arrays are put on it."""

    mesh: Mesh

    @classmethod
    def of(cls, config: MeshConfig) -> Layout:
        """The mesh that a config asks for; a single process may leave devices unused.

        Raises:
          ConfigError: there are not that many devices, or they cannot be divided.
        """
        devices = jax.devices()
        data = config.data if config.data > 0 else len(devices) // config.space
        wanted = data * config.space
        several = jax.process_count() > 1
        if not 0 < wanted <= len(devices) or (wanted < len(devices) and (several or config.data < 0)):
            raise ConfigError(
                f"train.mesh: data {config.data} x space {config.space} does not fit {len(devices)} devices"
                f"{f' of {jax.process_count()} processes' if several else ''}; choose factors of that number"
            )
        return cls(Mesh(np.array(devices[:wanted]).reshape(data, config.space), AXES))

    @property
    def data(self) -> int:
        """Devices that share a batch."""
        return self.mesh.shape[DATA_AXIS]

    @property
    def bands(self) -> int:
        """Devices that share the latitudes."""
        return self.mesh.shape[LATITUDE_AXIS]

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and talks to the user."""
        return jax.process_index() == 0

    def matrix_rate(self, precision: str) -> float:
        """Operations a second in matrix products of all devices of the mesh together, measured on those here."""
        return matrix_rate(precision, self.mesh.local_devices) * jax.process_count()

    def why_no_products(self) -> str | None:
        """Why ``train.precision: bfloat16_products`` gains nothing here, measured in a second or two; else ``None``."""
        if self.mesh.local_devices[0].platform != "cpu":
            return "bfloat16_products is for CPUs; here it is as slow as float32, bfloat16 is not"
        halves, singles = (self.matrix_rate(precision) / 1e9 for precision in ("bfloat16_products", "float32"))
        if halves > singles:
            return None
        return f"this CPU multiplies bfloat16 at {halves:.3g} GFLOP/s and float32 at {singles:.3g}: float32 is faster"

    def sharding(self, spec: P) -> NamedSharding:
        """Where the parts of an array lie."""
        return NamedSharding(self.mesh, spec)

    def check_batch(self, size: int, parts: int, key: str = "train.batch_size") -> None:
        """Refuses a batch, which the config has under that key, that the devices cannot share.

        Raises:
          ConfigError: ``size`` windows in ``parts`` parts cannot be divided among the data axis.
        """
        if size % (parts * self.data):
            parted = f" in {parts} parts" if parts > 1 else ""
            raise ConfigError(
                f"{key}: {size} windows{parted} cannot be shared evenly by {self.data} devices; "
                f"choose a multiple of {parts * self.data}, or set train.mesh.data"
            )

    def check_latitudes(self, model: ModelConfig, grid: Grid) -> None:
        """Refuses a network or grid that cannot be split into bands of latitude.

        Raises:
          ConfigError: the network needs all latitudes at once, or the rows cannot be divided.
        """
        if self.bands == 1:
            return
        cell = latitude_factor(model)
        if cell is None:
            global_keys = ("output_truncation", "conserve", "global_truncation", "advection")
            for_all = [f"model.{key}" for key in global_keys if getattr(model, key, None)]
            why = f"{' and '.join(for_all)} need" if for_all else f"this {model.kind} needs"
            raise ConfigError(f"train.mesh.space: {why} all latitudes at once; set it to 1")
        rows = grid.shape[0]
        if rows % (cell * self.bands):
            most = rows // cell if rows % cell == 0 else 1
            remedy = f"choose a divisor of {most}" if most > 1 else "set it to 1"
            if grid.is_global and np.isclose(np.abs(grid.latitude).max(), 90):
                remedy += f", or bring the data to {rows - 1} rows without the poles (data.regrid)"
            raise ConfigError(
                f"train.mesh.space: {rows} rows cannot be split into {self.bands} bands of whole cells of {cell} rows; "
                f"{remedy}"
            )

    def place(self, tree: Tree, specs: Any) -> Tree:
        """Puts a pytree that every process holds alike onto the mesh.

        Args:
          tree: Arrays.
          specs: A ``PartitionSpec`` for each leaf, in the same structure, or one for all.
        """
        each = jax.tree.map(lambda _: specs, tree) if isinstance(specs, P) else specs
        return jax.tree.map(lambda x, spec: _from_host(np.asarray(x), self.sharding(spec)), tree, each)

    def agree(self, tree: Tree) -> Tree:
        """The first process's values, as arrays on the host, in every process."""
        return multihost_utils.broadcast_one_to_all(tree) if jax.process_count() > 1 else tree

    def windows_here(self, n: int) -> np.ndarray:
        """Which of the ``n`` windows of a batch the devices of this process hold, ascending."""
        process = jax.process_index()
        held = [any(d.process_index == process for d in devices) for devices in self.mesh.devices]  # by data axis
        return np.flatnonzero(np.repeat(held, n // self.data))

    def place_windows(self, here: np.ndarray, windows: np.ndarray, n: int) -> jax.Array:
        """A batch on the mesh, of which this process has read its own part.

        Args:
          here: ``windows_here(n)``.
          windows: Those windows, ``(len(here), time, lat, ...)`` or ``(len(here),)``.
          n: Windows of the whole batch.
        """

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            start, stop, _ = index[0].indices(n)
            first = int(np.searchsorted(here, start))
            return windows[(slice(first, first + stop - start), *index[1:])]

        sharding = self.sharding(windows_spec(windows.ndim))
        return jax.make_array_from_callback((n, *windows.shape[1:]), sharding, part)


def _from_host(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def join_processes() -> int:
    """Joins this process with the others of its run, if there are any. To be called before JAX works.

    Under Slurm or Open MPI the environment says who the others are, and each takes the GPU of its number on its node.
    Elsewhere three variables do, and each takes all accelerators that it sees: ``JAX_COORDINATOR_ADDRESS`` (host:port
    of the first process), ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``. ``JAX_LOCAL_DEVICE_IDS`` names others.

    Returns:
      The number of this process; the first is 0.

    Raises:
      ConfigError: the variables are incomplete, or the others did not come.
      DataError: another process was lost meanwhile.
    """
    names, given = JAX_VARIABLES, named_processes()
    if not given and not launched_several():
        return 0
    who: dict[str, Any] = {}
    if given:
        if len(given) < len(names):
            missing = ", ".join(n for n in names if n not in given)
            raise ConfigError(f"several processes: {', '.join(given)} given, but not {missing}")
        try:
            count, number = (int(os.environ[n]) for n in names[1:])
        except ValueError:
            raise ConfigError(f"several processes: {names[1]} and {names[2]} must be whole numbers") from None
        who = {"coordinator_address": os.environ[names[0]], "num_processes": count, "process_id": number}
        who["cluster_detection_method"] = "deactivate"  # within a job, or it would take one GPU of its node
    try:
        jax.distributed.initialize(
            **who, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=LEAVE_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        remedy = "" if given else f"; {', '.join(names)} tell where the launcher does not"
        raise ConfigError(f"several processes: could not join the others ({_first_line(error)}){remedy}") from None
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if not given and "JAX_LOCAL_DEVICE_IDS" not in os.environ and len(seen) > processes_here(jax.process_count()):
        logger.warning(
            "several processes: a task takes one GPU, and this node has %d and fewer tasks; start a task for each",
            len(seen),
        )
    if given:  # and no launcher says where they are
        host = np.uint32(zlib.crc32(socket.gethostname().encode()))
        with failing_together():
            tell_processes_here(int(np.sum(multihost_utils.process_allgather(host) == host)))
    return jax.process_index()


@contextmanager
def failing_together() -> Iterator[None]:
    """Says in one line that another process is gone, where the runtime reports a broken connection.

    Whatever else goes wrong on a device or in the compiler, a lack of memory above all, is raised as it is.

    Raises:
      DataError: in place of the runtime's error, where there are several processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or not _BROKEN_CONNECTION.search(str(error)):
            raise
        raise DataError(
            f"process {jax.process_index()} of {jax.process_count()} lost another process of this run "
            f"({_first_line(error)}); start all of them again, without --redo: they go on from the last checkpoint"
        ) from error


def exit_code(code: int) -> int:
    """``code``, for one process; of several this one ends here and now.

    At an ordinary exit the runtime waits for all processes to say farewell. One that failed must not: the others may
    be gone already, and then it would be shot down with pages of text below the line that said what happened.
    """
    if code and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
