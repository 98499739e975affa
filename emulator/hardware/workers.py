"""Where work that splits into parts is done: in this process, in several here, or on a dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from data_prep.errors import ConfigError, DataError, how_to_install

logger = logging.getLogger(__name__)

_SECONDS_TO_ANSWER = 20


def use_one_thread() -> None:
    """The workers are the threads: linear algebra that starts its own in each would have them wait for each other."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def open_executor(workers: int = 1, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Workers for the time of a ``with`` block.

    Args:
      workers: Processes on this machine.
      scheduler: Address of a dask scheduler, ``tcp://host:8786``, whose workers see the same files.

    Yields:
      An executor, or ``None`` where this process is to do the work itself.

    Raises:
      ConfigError: both are asked for, or dask.distributed is not installed.
      DataError: the scheduler does not answer.
    """
    if scheduler is not None and workers > 1:
        raise ConfigError("--workers: are of this machine, --scheduler has its own; leave one of the two out")
    if scheduler is not None:
        try:
            from distributed import Client
        except ImportError:
            raise ConfigError(f"--scheduler: needs dask.distributed; {how_to_install('cluster')}") from None
        try:
            # not the default client: xarray would take its locks from a cluster that may be gone
            client = Client(scheduler, timeout=_SECONDS_TO_ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:
            raise DataError(f"--scheduler {scheduler}: no dask scheduler answers there ({error})") from None
        with client:
            logger.info("working on %d dask workers", len(client.scheduler_info()["workers"]))
            yield client.get_executor()
    elif workers > 1:
        # spawned, not forked: a fork would copy the locks of JAX's and HDF5's threads
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin) as pool:
            yield pool
    else:
        yield None


def _begin() -> None:
    """What a worker of this machine does first."""
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too; it is the caller who ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool whose process was killed would wait for work for ever, and hold its memory."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
