"""The one exception family that a user of the program is meant to read.

Everything a user can mend (a config, a file, a missing extra) raises one of these with a message of one
line; the command line prints that line and exits. Anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message is one line that says what was found and what to do."""

    exit_code = 1


class ConfigError(UserError):
    """A config that cannot be used; the message begins with the dotted path of the offending key."""

    exit_code = 2


class DataError(UserError):
    """A file or data set that cannot be used; the message names the file, the variable and the place."""
