"""Python's search for what nobody needs any more, put off while a program starts.

What a start makes stays: modules, traced programs. Python looks through all of it again and again nevertheless, which
was half a second of the five that a training takes to its first step in the demo.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_put_off = False


@contextmanager
def search_put_off() -> Iterator[None]:
    """Until ``search_again``, at the latest until the end; nothing happens where somebody has turned the search off."""
    global _put_off
    if gc.isenabled():
        gc.disable()
        _put_off = True
    try:
        yield
    finally:
        search_again()


def search_again() -> None:
    """From here on, if it was put off: work makes garbage."""
    global _put_off
    if _put_off:
        gc.enable()
        _put_off = False
