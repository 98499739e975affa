"""Flipped bits and cut files: whatever is read again must be refused by name, or be what was written."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import UserError

Damage = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, rng: random.Random) -> bytes:
    """One bit is another."""
    changed, bit = bytearray(content), rng.randrange(8 * len(content))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: rng.randrange(len(content))]


def outcome(read: Callable[[], Any], expected: Any, named: str) -> str:
    """What comes of reading something damaged.

    Args:
      read: Reads all of it, in a form that can be compared.
      expected: What it reads when it is whole.
      named: What the refusal must name.

    Returns:
      ``refused``, ``unchanged`` (the damage is to nothing that means anything), or what went wrong.
    """
    try:
        found = read()
    except UserError as error:
        if "\n" in str(error) or named not in str(error):
            return f"REFUSED WITHOUT A NAME: {error}"
        return "refused"
    except Exception as error:  # noqa: BLE001 - the point of the attack
        return f"TRACEBACK {type(error).__name__}: {error}"
    return "unchanged" if found == expected else "WRONG, AND NOBODY SAID SO"


def damage_files(
    files: Sequence[Path], read: Callable[[], Any], named: str, count: int, rng: random.Random
) -> dict[str, Counter[str]]:
    """Damages files one after the other and reads them again; leaves them whole.

    Args:
      files: Chosen from by their size, each at least once.
      read: Reads all that they hold, in a form that can be compared.
      named: What a refusal must name.
      count: How often; every fourth time a file is cut, else a bit is flipped.
      rng: Chooses.

    Returns:
      How often each came of it, by the file's name.
    """
    expected = read()
    sizes = [path.stat().st_size for path in files]
    chosen = [*files, *rng.choices(files, weights=sizes, k=max(0, count - len(files)))]
    out: dict[str, Counter[str]] = {}
    for number, path in enumerate(chosen):
        content = path.read_bytes()
        damage: Damage = cut if number % 4 == 3 else flip
        if content:
            path.unlink()  # HDF5 knows files by their inode, and may still have the whole one in mind
            path.write_bytes(damage(content, rng))
            try:
                out.setdefault(path.name, Counter())[outcome(read, expected, named)] += 1
            finally:
                path.unlink()
                path.write_bytes(content)
    return out


def total(found: dict[str, Counter[str]]) -> Counter[str]:
    """Over all files."""
    return sum(found.values(), Counter())


def sound(found: dict[str, Counter[str]]) -> bool:
    """Whether nothing went wrong."""
    return set(total(found)) <= {"refused", "unchanged"}
