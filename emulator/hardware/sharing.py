"""Runs that need nothing of each other, such as forecasts from several initial times, shared among devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Sharing:
    """The devices of this process that share some runs; with a single one nothing is moved."""

    _mesh: Mesh

    @classmethod
    def of(cls, runs: int) -> Self:
        """As many devices as can have equally many of so many runs."""
        devices = jax.local_devices()
        n = max(k for k in range(1, len(devices) + 1) if runs % k == 0)
        return cls(Mesh(np.array(devices[:n]), ("run",)))

    def hold(self, tree: Tree) -> Tree:
        """All of it on each."""
        return self._put(tree, P())

    def share(self, tree: Tree) -> Tree:
        """Its runs, the first axis of every leaf, among them."""
        return self._put(tree, P("run"))

    def _put(self, tree: Tree, spec: P) -> Tree:
        return jax.device_put(tree, NamedSharding(self._mesh, spec)) if self._mesh.size > 1 else tree
