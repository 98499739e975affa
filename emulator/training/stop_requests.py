"""Signals that ask a training to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

logger = logging.getLogger(__name__)


@contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Whether to stop after a step, because of SIGINT or SIGTERM; a second signal works at once.

    Several processes must stop after the same step, which the runtime settles when one of them is sent SIGTERM; it
    knows nothing of SIGINT, which is passed on as that.
    """
    several, wanted = jax.process_count() > 1, False
    stop_wanted = multihost_utils.reached_preemption_sync_point if several else lambda _: wanted
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to that alone
        yield stop_wanted
        return
    ours = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.getsignal(s) for s in ours}

    def give_back() -> None:
        for s, handler in before.items():
            signal.signal(s, handler)

    def request(number: int, _: FrameType | None) -> None:
        nonlocal wanted
        wanted = True
        give_back()
        logger.info("train: stopping after this step with the state saved; a second signal stops at once")
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    for s in before:
        signal.signal(s, request)
    try:
        yield stop_wanted
    finally:
        give_back()
    if wanted:  # after the last step had asked: what follows training must not begin
        raise KeyboardInterrupt
