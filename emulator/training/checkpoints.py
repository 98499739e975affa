"""The states of a training, from which it goes on: ``checkpoints/STEP/`` in the run folder.

Orbax keeps them: weights, averaged weights, optimiser state and step.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from data_prep.errors import DataError, one_line
from data_prep.files.disk import trouble
from data_prep.files.npz import write_arrays
from emulator.checkpoint import how_to_train, leaves_by_path, named_leaves, replace_leaves
from emulator.run_folder import WEIGHTS

logger = logging.getLogger(__name__)

STATE_VERSION = 2
"""Of the states; those of version 1 had an array for each kernel."""

CHECKPOINTS = "checkpoints"

Tree = TypeVar("Tree")


class _Manager(ocp.CheckpointManager):
    """Orbax's, which asks nobody whether the job is to end: the loop does, once a step and in all processes alike."""

    def reached_preemption(self, step: int) -> bool:
        """Never: what is to be saved, and when, the caller says."""
        return False


class Checkpoints:
    """The training states of a run, newest last; written in the background, each complete or not there.

    A state is written under a temporary name that is changed at the end, so a kill in the middle of a save leaves the
    one before it as it was. Of several processes the first alone reads and writes: every one of them holds all of it.

    Training waits for the copy to the host, and for a save that is still being written when the next one comes.
    """

    def __init__(self, run_dir: Path, order: str = "") -> None:
        """Opens the checkpoints of a run folder, making it if need be.

        Args:
          run_dir: The run folder.
          order: Of what lies in the states' arrays, where their names do not tell it: one of another is refused.
        """
        self._order = order
        self._manager: ocp.CheckpointManager | None = None
        self._weights = run_dir / WEIGHTS
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._being_written: Future[None] | None = None
        self._saves, self._waited = 0, 0.0
        if jax.process_index() == 0:
            several = jax.process_count() > 1
            processes = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0} if several else None)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2,
                create=not several,
                cleanup_tmp_directories=True,
                multiprocessing_options=processes,
            )
            folder = (run_dir / CHECKPOINTS).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            handler = ocp.StandardCheckpointHandler(multiprocessing_options=processes)  # named, or Orbax warns
            with _readable(folder, "delete the damaged one of its folders, and training goes on from the other"):
                self._manager = _Manager(folder, options=options, item_handlers=handler)

    def save(self, step: int, state: Any, weights: Any = None) -> None:
        """Saves a pytree of arrays under a step, if nothing is there, and then the weights that forecasts use.

        Both are copied first: training gives their buffers away with its next step. Hashes and files are made in the
        background; what goes wrong there is raised by the next call, or by ``close``.
        """
        if self._manager is None:
            return
        self.finish()
        start = time.perf_counter()
        copies = named_leaves(state), None if weights is None else named_leaves(weights)
        self._being_written = self._writer.submit(self._write, self._manager, step, *copies)
        self._saves, self._waited = self._saves + 1, self._waited + time.perf_counter() - start

    def _write(
        self,
        manager: ocp.CheckpointManager,
        step: int,
        leaves: dict[str, np.ndarray],
        weights: dict[str, np.ndarray] | None,
    ) -> None:
        if step not in manager.all_steps():
            facts = {"format_version": STATE_VERSION, "sha256": _digest_of_leaves(leaves), "order": self._order}
            manager.save(step, args=ocp.args.StandardSave(leaves), custom_metadata=facts)
            manager.wait_until_finished()
        if weights is not None:
            write_arrays(self._weights, weights)

    def finish(self) -> None:
        """Waits for what is being written, and raises what went wrong there."""
        if self._being_written is not None:
            start = time.perf_counter()
            written, self._being_written = self._being_written, None
            written.result()
            self._waited += time.perf_counter() - start

    def restore(self, template: Tree) -> Tree | None:
        """The newest state, in the structure of ``template``; ``None`` when nothing was saved.

        Raises:
          DataError: it does not fit the template, is damaged, or of another format version or order.
        """
        step = self._manager.latest_step() if self._manager is not None else None
        if self._manager is None or step is None:
            return None
        folder = self._manager.directory / str(step)
        remedy = f"delete {folder}, and training goes on from the checkpoint before it"
        with _readable(folder, remedy):
            facts = self._manager.metadata(step).custom_metadata or {}
        version = facts.get("format_version", STATE_VERSION)
        otherwise = f"{how_to_train(self._weights.parent)}, or go on with the program that began it"
        if version != STATE_VERSION:
            raise DataError(f"{folder}: format version {version}, this program reads {STATE_VERSION}; {otherwise}")
        if facts.get("order", self._order) != self._order:
            raise DataError(f"{folder}: its weights have other names or another order than this program's; {otherwise}")
        with _readable(folder, remedy):
            saved = self._manager.restore(step, args=ocp.args.StandardRestore(_shapes_by_path(template)))
            leaves = {name: np.asarray(array) for name, array in saved.items()}
        if facts.get("sha256") != _digest_of_leaves(leaves):
            raise DataError(f"{folder}: damaged, its arrays do not match their hash; {remedy}")
        return replace_leaves(template, leaves, source=str(folder))

    def close(self) -> None:
        """Waits for what is being written."""
        try:
            self.finish()
        finally:
            self._writer.shutdown()
            if self._manager is not None:
                self._manager.close()
        if self._saves:
            logger.info("checkpoints: training waited %.3g s for %d of them", self._waited, self._saves)


@contextmanager
def _readable(folder: Any, remedy: str) -> Iterator[None]:
    """Turns whatever Orbax, TensorStore and JSON say of damaged bytes into one line."""
    try:
        yield
    except Exception as error:
        if trouble(error):
            raise
        raise DataError(f"{folder}: cannot be read ({one_line(error)}); {remedy}") from None


def _shapes_by_path(tree: Any) -> dict[str, np.ndarray]:
    """Arrays that hold nothing, for Orbax: of ``jax.ShapeDtypeStruct`` it would make arrays on a device."""
    return {name: np.broadcast_to(np.empty((), a.dtype), a.shape) for name, a in leaves_by_path(tree).items()}


def _digest_of_leaves(leaves: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        array = np.ascontiguousarray(leaves[name])
        digest.update(f"{name} {array.dtype.name} {np.shape(leaves[name])}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # no copy of them
    return digest.hexdigest()
