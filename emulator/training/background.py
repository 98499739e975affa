"""Threads of other packages: what goes wrong in them is raised where it is waited for, and told there, once."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def told_once() -> Iterator[None]:
    """Keeps the threads that save checkpoints from printing tracebacks of what they raise again at the next save.

    On a full disk there would be pages of them before the one line that says so. They go to the debug log: the errors
    that Orbax logs, and what it and TensorStore leave to Python to print.
    """
    absl = logging.getLogger("absl")
    of_callbacks, of_threads = sys.unraisablehook, threading.excepthook

    def is_no_error(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    def tell_callback(told: Any) -> None:
        if "Event loop is closed" in str(told.exc_value):  # nobody waits any more for what TensorStore has to say
            logger.debug("in a callback: %s", told.exc_value)
        else:
            of_callbacks(told)

    absl.addFilter(is_no_error)
    sys.unraisablehook = tell_callback
    threading.excepthook = lambda told: logger.debug("in %s: %s", told.thread, told.exc_value)
    try:
        yield
    finally:
        absl.removeFilter(is_no_error)
        threading.excepthook = of_threads
    sys.unraisablehook = of_callbacks  # not after a failure, where callbacks come late
