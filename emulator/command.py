"""What every command shares: how it logs, and that an error of the user is one line and an exit code."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType

from data_prep.errors import ConfigError, DataError, UserError, one_line
from data_prep.files.disk import DiskError, writing


def as_command(function: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str] | None], int]:
    """Of a function that takes the words of a command line, the command: it logs, and returns the exit code."""

    @wraps(function)
    def command(argv: Sequence[str] | None = None) -> int:
        set_up_logging()
        try:
            with interrupted_by_sigterm(), memory_in_one_line():
                function(sys.argv[1:] if argv is None else argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a command
            return error.exit_code
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)  # noqa: T201
            return 130
        return 0

    return command


def command_line() -> str:
    """What files say they were made by: ``emulator run x``, also where it was ``python -m emulator run x``."""
    program = Path(sys.argv[0])
    return shlex.join([program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]])


@contextmanager
def memory_in_one_line() -> Iterator[None]:
    """Turns a lack of memory, of the machine or of an accelerator, into one line.

    Raises:
      DataError: in place of the error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # JAX's errors are of the second kind
        if not isinstance(error, MemoryError) and not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        raise DataError(
            f"memory does not suffice ({one_line(error)}); end what else holds memory on this machine or device, or do "
            "less at once: training by train.accumulate or a smaller train.batch_size, forecasts by a smaller "
            "evaluate.batch, preparation and scores with fewer --workers"
        ) from None


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM a KeyboardInterrupt while the block runs, where nobody else has a use for it.

    A second one ends the process at once. Programs that are started, and workers that are spawned, do not inherit it.
    An interrupt that falls into a callback of the garbage collector (JAX has one), out of which Python lets nothing be
    raised, is sent again.
    """
    main = threading.current_thread() is threading.main_thread()  # to which alone Python delivers signals
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    def again() -> None:
        if signal.getsignal(signal.SIGTERM) is interrupt:
            os.kill(os.getpid(), signal.SIGTERM)

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, interrupt)
            threading.Timer(0.1, again).start()  # when the callback is over
        else:
            usual(unraisable)

    usual, sys.unraisablehook = sys.unraisablehook, lost
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.unraisablehook = usual


def say(text: str) -> None:
    """Writes what the user came for to standard output; what that cannot encode becomes question marks.

    A reader that is gone (``| head``) ends the process without a word, as it ends others.

    Raises:
      DiskError: it cannot be written.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201 - the one place
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at exit
        if isinstance(error, BrokenPipeError):
            raise SystemExit(128 + signal.SIGPIPE) from None
        raise DiskError(f"standard output: cannot be written: {one_line(error)}") from None


def check_appendable(path: Path, option: str) -> None:
    """Makes sure, before the work that it will tell of, that a line can be appended to a file.

    Raises:
      ConfigError: its folder is not there or may not be written, or it is a folder itself.
    """
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(
            f"{option} {path}: cannot be written from {Path.cwd()}; name a file in a folder that is there, "
            "or work in the root of a checkout"
        )


def append_line(path: Path, line: str) -> None:
    """Appends a line to a text file.

    Raises:
      DiskError: it cannot be written.
    """
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


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
