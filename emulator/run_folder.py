"""Which run folder is meant: one of this machine, that of an experiment, or a network that ships with the package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from data_prep.errors import DataError
from data_prep.files.json_file import read_object

DESCRIPTION = "run.json"
"""What makes a folder a run folder."""

WEIGHTS = "weights.npz"
"""What the network has learned, in a run folder."""

RECORDS = "stages.json"
"""Which stages of an experiment came to their end, in its folder."""

SHIPPED = "speedy_t31"
"""The network that ships."""

_NETWORKS = Path(__file__).parent / "networks"


def run_folder(name: str | Path) -> Path:
    """A run folder by its path, that of its experiment, or the name of a network that ships.

    Returns:
      The folder; ``name`` as a path where it means none of these.
    """
    folder = Path(name)
    places = (folder, folder / "run", _NETWORKS / folder)
    return next((place for place in places if (place / DESCRIPTION).is_file()), folder)


def is_half_trained(folder: Path) -> bool:
    """Whether a run folder's experiment says that its training has not come to its end."""
    record: object = None
    with suppress(DataError):  # a network by itself has no experiment
        record = read_object(folder.parent / RECORDS, "").get("train")
    return isinstance(record, dict) and record.get("finished") is False
