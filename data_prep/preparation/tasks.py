"""Independent tasks on whatever does the work: threads of this process, other processes, or a dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

THREADS = 2
"""Threads where there is no executor: one reads and decodes while the other converts, checks and compresses."""

_IN_FLIGHT = 256


def in_order(function: Callable[[Task], Result], tasks: Iterable[Task], executor: Executor | None) -> Iterator[Result]:
    """``function`` of every task, in the order of the tasks whatever the order in which workers finish them.

    A dask cluster gives the task of a lost worker to another one; a broken process pool raises ``BrokenExecutor``.
    When the caller stops early, or a task fails, what has begun is waited for: nothing writes once this has ended.

    Args:
      function: Defined in a module, so that other processes find it; a task that is run twice must do no harm.
      tasks: Small, and picklable where the executor needs it.
      executor: Who works; threads of this process where there is none.
    """
    if executor is None:
        with ThreadPoolExecutor(THREADS) as threads:
            yield from in_order(function, tasks, threads)
        return
    left = iter(tasks)
    waiting: deque[Future[Result]] = deque()
    try:
        waiting.extend(executor.submit(function, task) for task in islice(left, _IN_FLIGHT))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(executor.submit(function, task) for task in islice(left, 1))
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)


def lost_worker(error: Exception) -> bool:
    """Whether the error says that a process is gone; dask's own is known by name, since it may not be installed."""
    return isinstance(error, BrokenExecutor) or any(kind.__name__ == "KilledWorker" for kind in type(error).__mro__)
