"""Advancing many runs of one model: one vmap on accelerators, one thread a run on CPU, the same compiled graph."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jcm.model import RunState

from emulator.hardware.machine import cores
from emulator.hardware.sharing import Sharing
from emulator.physics.speedy import SpeedyModel, compile_advance, map_members, member_count


class Ensemble:
    """A compiled chunk of simulation for runs of one model.

    XLA on CPU gains nothing from batching SPEEDY and keeps little more than one core busy with it (measured at T31 on
    two cores: 1.0 simulated day a second in one vmap of any width, 1.9 with a thread for each core), while an
    accelerator is filled by the batch. So the width of the vmap follows the device, and several accelerators share the
    runs of a vmap; results of a run do not depend on its neighbours.
    """

    def __init__(
        self, model: SpeedyModel, states: RunState, *, intervals: int, interval_hours: int, output_truncation: int
    ) -> None:
        """Compiles the graph (``speedy.compile_advance``) for as many runs at once as suit the device.

        Args:
          model: The model.
          states: Run states of the shapes that will be advanced, leading member axis.
          intervals: Output intervals of a chunk.
          interval_hours: Length of one.
          output_truncation: Grid and truncation of the output.
        """
        self._model = model
        self._width = batch_width(member_count(states))
        self._among = Sharing.of(self._width)
        started = time.perf_counter()
        self._compiled = compile_advance(
            model,
            self._placed(self._select(states, slice(0, self._width))),
            intervals=intervals,
            interval_hours=interval_hours,
            output_truncation=output_truncation,
        )
        self.compile_seconds = time.perf_counter() - started

    def advance(self, states: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        """The states one chunk later, and the fields of its intervals ``(member, interval, ...)`` in host memory."""
        members = member_count(states)
        groups = [self._select(states, slice(i, i + self._width)) for i in range(0, members, self._width)]
        with ThreadPoolExecutor(max_workers=cores()) as pool:
            results = list(pool.map(self._run, groups))
        ends = [state for state, _ in results]
        fields = {name: np.concatenate([f[name] for _, f in results]) for name in results[0][1]}
        return map_members(self._model, lambda *leaves: jnp.concatenate(leaves), *ends), fields

    def _run(self, states: RunState) -> tuple[RunState, dict[str, np.ndarray]]:
        end, fields = self._compiled(self._placed(states))
        return end, {name: np.asarray(field) for name, field in fields.items()}

    def _placed(self, states: RunState) -> RunState:
        return map_members(self._model, self._among.share, self._among.hold(states))

    def _select(self, states: RunState, members: slice) -> RunState:
        return map_members(self._model, lambda leaf: leaf[members], states)


def batch_width(members: int) -> int:
    """How many runs go into one compiled call on the device at hand (see ``Ensemble``)."""
    return 1 if jax.default_backend() == "cpu" else members
