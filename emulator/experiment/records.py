"""What an experiment's folder says of its stages, and whose it is at the moment."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired, TypeAlias, TypedDict

from data_prep.errors import UserError
from data_prep.files.disk import write_text
from data_prep.files.json_file import read_object
from emulator.run_folder import RECORDS

logger = logging.getLogger(__name__)

Stamps: TypeAlias = list[list[int | str]]
"""Name of a file, then its ``locations.stamp``; hard links in another folder have the same."""


class Record(TypedDict):
    """What a folder says of one stage.

    Attributes:
      fingerprint: Of the config that its result was made with.
      finished: Whether it came to its end.
      seconds: Wall time, of the last part alone where the stage was ``resumed``.
      again: Whether a finished result is being made anew, so that what was made from that must go when this is whole.
      content: Of the result that is being made anew: if it comes out the same, what was made from it may stay.
      spared: The later stages whose results are of this config then.
      taken_from: The folder of another experiment that the result was linked from.
      files: What the result is made of, beside what other stages made.
    """

    fingerprint: str
    finished: bool
    seconds: NotRequired[float]
    resumed: NotRequired[bool]
    again: NotRequired[bool]
    content: NotRequired[str]
    spared: NotRequired[list[str]]
    taken_from: NotRequired[str]
    files: NotRequired[Stamps]


class Records:
    """Of all stages of a folder, in one small JSON file that is replaced atomically.

    Raises:
      UserError: on asking, where the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORDS

    @property
    def exist(self) -> bool:
        """Whether an experiment was ever begun in the folder."""
        return self._path.exists()

    def _load(self) -> dict[str, Record]:
        if not self.exist:
            return {}
        remedy = "delete it to let every stage check its results again"
        found = read_object(self._path, remedy)
        for name, record in found.items():
            if not _is_record(record):
                raise UserError(f"{self._path}: damaged, the record of {name} is not as it was written; {remedy}")
        return found

    def get(self, name: str) -> Record | None:
        """What it says of a stage; ``None`` of one that was never begun, or whose result was discarded."""
        return self._load().get(name)

    def set(self, name: str, record: Record) -> None:
        """Says this of a stage from now on."""
        self._save(self._load() | {name: record})

    def remove(self, name: str) -> None:
        """Says no more of a stage."""
        self._save({k: v for k, v in self._load().items() if k != name})

    def _save(self, records: dict[str, Record]) -> None:
        write_text(self._path, json.dumps(records, indent=2))


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("fingerprint"), str)
        and isinstance(record.get("finished"), bool)
        and isinstance(record.get("seconds", 0.0), int | float)
        and isinstance(record.get("content", ""), str)
        and isinstance(spared := record.get("spared", []), list)
        and all(isinstance(name, str) for name in spared)
        and isinstance(files := record.get("files", []), list)
        and all(isinstance(file, list) and file and all(isinstance(x, int | str) for x in file) for file in files)
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One run at a time in a folder. The lock dies with its process, so it cannot go stale; the file says whose."""
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another run is working in this folder ({file.readline(200).strip() or 'unknown'}); "
                "wait for it or choose another workdir"
            ) from None
        except OSError as error:  # a file system that locks nothing, as some of clusters
            logger.debug("%s: runs cannot be kept apart here (%s)", folder, error)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")
        file.truncate()
        file.flush()
        yield
