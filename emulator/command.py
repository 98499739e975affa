"""What every command shares: how it logs, and that an error of the user is one line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps

from data_prep.errors import UserError


def as_command(function: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str] | None], int]:
    """Of a function that takes the words of a command line, the command: it logs, and returns the exit code."""

    @wraps(function)
    def command(argv: Sequence[str] | None = None) -> int:
        set_up_logging()
        try:
            function(sys.argv[1:] if argv is None else argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a command
            return error.exit_code
        return 0

    return command


def set_up_logging() -> None:
    """One line an event: rich and brief on a terminal, plain with a time stamp in a file."""
    # XLA and orbax speak through their own loggers; a user wants to see ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        # rich heeds NO_COLOR by itself
        console = Console(stderr=True)
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S"
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # where Zarr leaves tracebacks of errors that it raises too
    for name in ("emulator", "data_prep"):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.setLevel(logging.INFO)
        log.propagate = False
