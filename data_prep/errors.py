"""The one exception family that a user of the program is meant to read.

Everything a user can mend (a config, a file, a missing extra) raises one of these with a message of one
line; the command line prints that line and exits. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

_LONGEST = 2000
_LONGEST_QUOTED = 300


class UserError(Exception):
    """Something the user can mend. The message is one line that says what was found and what to do.

    It may quote what a hostile file holds, so line breaks, control characters (which a terminal would obey) and lone
    surrogates (which cannot be printed) become blanks, and what is very long is cut.
    """

    exit_code = 1

    def __str__(self) -> str:
        """The line."""
        line = printable(super().__str__()).strip()
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def printable(text: str) -> str:
    """Text in one line that can be shown: blanks for line breaks, control characters and lone surrogates."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(error: Exception) -> str:
    """What a library's error says, for quoting: in one line and not too long; its name where it says nothing."""
    return " ".join(str(error).split())[:_LONGEST_QUOTED] or type(error).__name__


def first_and_more(files: Sequence[object]) -> str:
    """Files in a few words: the first, and how many there are besides."""
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else str(files[0])


def percent(share: float) -> str:
    """A share for messages, to a tenth of a percent; what is little is not told as nothing, nor what is most as all."""
    if 0 < share < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def how_to_install(extra: str) -> str:
    """The command that adds an optional dependency, as this copy of the program was installed."""
    from_checkout = (Path(__file__).parents[1] / "pyproject.toml").is_file()
    if from_checkout:
        return f"pip install -e '.[{extra}]' in the checkout"
    return f"install the wheel again with the extra: pip install 'weather_emulator-VERSION-py3-none-any.whl[{extra}]'"


def how_to_run(stage: str, folder: Path, *, before: str = "", options: str = "") -> str:
    """A colon and the command of a stage, where ``folder`` is that of an experiment; else nothing."""
    config = folder / "config.yaml"
    return f": {before}emulator {stage} {shlex.quote(str(config))}{options}" if config.is_file() else ""


class ConfigError(UserError):
    """A config that cannot be used; the message begins with the dotted path of the offending key."""

    exit_code = 2


class DataError(UserError):
    """A file or data set that cannot be used; the message names the file, the variable and the place."""


class UnreadableError(DataError):
    """Fields that could not be read: the file is damaged, or a disk or a network failed, and the next try succeeds."""
