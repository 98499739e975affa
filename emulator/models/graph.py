"""A mesh graph network in the manner of Keisler (2022) and GraphCast (Lam et al. 2023); global grids only.

    embed -> messages grid to mesh -> messages on the mesh x depth -> messages mesh to grid -> head

The mesh is an icosphere with the edges of all its refinements. Two things are simpler than in those papers, for speed:
an edge has no state of its own, and the matrix after a message's activation is applied after the sum (it is linear), so
that all large products work on nodes and an edge costs a sum and an activation.

Nodes come first in arrays, ``(node, batch, channel)``: a message then gathers whole rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import GraphConfig
from emulator.models.icosphere import Icosphere
from emulator.models.layers import N_ZONAL, Head, Norm, check_constants, linear, refuse_regional, zonal_features

_NEIGHBOURS = 3  # mesh nodes a grid cell exchanges messages with: about the corners of the triangle it lies in
_N_EDGE_FEATURES = 4


@dataclass(frozen=True, eq=False)
class Edges:
    """Directed edges, ordered by receiver.

    Attributes:
      senders, receivers: Numbers of the nodes, ``(edge,)``.
      weights: Share of each message in what its receiver gets, float32 ``(edge,)``; they sum to 1 for a receiver.
      features: Where the sender lies as seen by the receiver: east, north, up and distance over the longest edge of the
        mesh, float32 ``(edge, 4)``.
      n_receivers: How many receivers there are.
    """

    senders: np.ndarray
    receivers: np.ndarray
    weights: np.ndarray
    features: np.ndarray
    n_receivers: int

    @classmethod
    def between(
        cls,
        senders: np.ndarray,
        receivers: np.ndarray,
        sender_points: np.ndarray,
        receiver_points: np.ndarray,
        unit: float,
        sender_weights: np.ndarray | None = None,
    ) -> Edges:
        """Edges with everything derived from the points of their ends.

        Args:
          senders, receivers: Numbers of the nodes, ``(edge,)`` in any order.
          sender_points, receiver_points: All senders and receivers on the unit sphere, ``(node, 3)``.
          unit: Unit of length of the features.
          sender_weights: How much each sender counts, ``(node,)``; all the same when left out.
        """
        order = np.lexsort((senders, receivers))
        senders, receivers = senders[order], receivers[order]
        up = receiver_points[receivers]
        longitude_rad = np.arctan2(up[:, 1], up[:, 0])  # a cell at a pole keeps the longitude it was made with
        east = np.stack([-np.sin(longitude_rad), np.cos(longitude_rad), np.zeros(len(up))], axis=1)
        apart = (sender_points[senders] - up) / unit
        axes = (east, np.cross(up, east), up)
        features = np.stack([*((apart * axis).sum(axis=1) for axis in axes), np.linalg.norm(apart, axis=1)], axis=1)
        weights = np.ones(len(order)) if sender_weights is None else sender_weights[senders]
        totals = np.bincount(receivers, weights, minlength=len(receiver_points))
        shares = weights / totals[receivers]
        return cls(
            senders, receivers, shares.astype(np.float32), features.astype(np.float32), n_receivers=len(receiver_points)
        )

    @property
    def n_edges(self) -> int:
        """How many edges there are."""
        return len(self.senders)


@dataclass(frozen=True, eq=False)
class MeshGraph:
    """The nodes of mesh and grid and the edges between them.

    Attributes:
      to_mesh: From every grid cell to the mesh nodes nearest to it; cells count by their area.
      within: On the mesh, in both directions.
      to_grid: From the nearest mesh nodes to every grid cell.
      mesh_features, grid_features: Where nodes and cells lie, ``(node, N_ZONAL)``.
    """

    to_mesh: Edges
    within: Edges
    to_grid: Edges
    mesh_features: np.ndarray
    grid_features: np.ndarray

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, grid: Grid, refinement: int) -> MeshGraph:
        """The graph of a grid.

        Raises:
          ConfigError: the grid is regional, the mesh so fine that some of its nodes are near no cell, or either so
            fine that the edges are too many for one program.
        """
        refuse_regional(grid, "graph")
        _check_size(math.prod(grid.shape), refinement, f"model.refinement: {refinement} on {grid.describe()}")
        from scipy.spatial import cKDTree  # slow to import, and other networks do without it

        mesh = Icosphere.of(refinement)
        lat, lon = (a.ravel() for a in np.meshgrid(*map(np.radians, (grid.latitude, grid.longitude)), indexing="ij"))
        cells = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
        _, nearest = cKDTree(mesh.vertices).query(cells, k=_NEIGHBOURS)
        cell, node = np.repeat(np.arange(len(cells)), _NEIGHBOURS), nearest.ravel()
        lonely = len(mesh.vertices) - np.unique(node).size
        if lonely:
            raise ConfigError(
                f"model.refinement: {refinement} makes a mesh of {len(mesh.vertices)} nodes, {lonely} of which are "
                f"near no cell of {grid.describe()}; choose a smaller one"
            )
        unit = mesh.longest_edge
        both_ways = np.concatenate([mesh.edges, mesh.edges[:, ::-1]])
        return cls(
            Edges.between(cell, node, cells, mesh.vertices, unit, grid.cell_areas.ravel()),
            Edges.between(both_ways[:, 0], both_ways[:, 1], mesh.vertices, mesh.vertices, unit),
            Edges.between(node, cell, mesh.vertices, cells, unit),
            zonal_features(mesh.vertices[:, 2]),
            zonal_features(cells[:, 2]),
        )


def _check_size(cells: int, refinement: int, what: str) -> None:
    edges = 2 * _NEIGHBOURS * cells + 2 * 30 * sum(4**r for r in range(refinement + 1))
    nodes = cells + 10 * 4**refinement + 2
    n_bytes = 4 * (edges * (3 + _N_EDGE_FEATURES) + nodes * N_ZONAL)
    check_constants(n_bytes, what, "choose a smaller one, a coarser grid (data.regrid), or model.kind unet")


class Messages(nnx.Module):
    """One round: receivers are changed by the mean of what their senders tell them.

    The mean of many messages is small beside the receiver's own state, so both are normalised before they are mixed.
    """

    def __init__(self, width: int, *, zero: bool, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        """Makes the parameters.

        Args:
          width: Channels of senders, messages and receivers.
          zero: Begin as nothing.
          dtype: Compute precision.
          rngs: Source of the initial parameters.
        """
        self.sender_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.receiver_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.send = linear(width, width, bias=False, dtype=dtype, rngs=rngs)
        self.receive = linear(width, width, bias=False, dtype=dtype, rngs=rngs)
        self.edge = linear(_N_EDGE_FEATURES, width, dtype=dtype, rngs=rngs)
        self.mean_norm = Norm(width, dtype=dtype, rngs=rngs)
        self.update = linear(2 * width, width, bias=False, dtype=dtype, rngs=rngs)
        self.out = linear(width, width, zero=zero, bias=False, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        senders: Float[Array, "sender batch channel"],
        receivers: Float[Array, "receiver batch channel"],
        edges: Edges,
    ) -> Float[Array, "receiver batch channel"]:
        """The receivers after the round."""
        before = self.receiver_norm(receivers)
        sent, received = self.send(self.sender_norm(senders)), self.receive(before)
        place = self.edge(jnp.asarray(edges.features))[:, None, :]
        senders_there, receivers_there = jnp.asarray(edges.senders), jnp.asarray(edges.receivers)
        # from single precision, in which their gradients are summed then
        sent = sent.astype(jnp.float32)[senders_there].astype(place.dtype)
        received = received.astype(jnp.float32).at[receivers_there].get(indices_are_sorted=True).astype(place.dtype)
        messages = nnx.silu(sent + received + place)
        mean = jax.ops.segment_sum(
            messages.astype(jnp.float32) * edges.weights[:, None, None],
            receivers_there,
            edges.n_receivers,
            indices_are_sorted=True,
        )
        both = jnp.concatenate([before, self.mean_norm(mean)], axis=-1)
        return receivers + self.out(nnx.silu(self.update(both)))


class GraphNetwork(nnx.Module):
    """The network: fields of ``n_in`` channels to fields of ``n_out`` channels on the same grid, zero at the start."""

    def __init__(
        self, config: GraphConfig, n_in: int, n_out: int, grid: Grid, *, dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        """Makes all parameters.

        Args:
          config: Refinement, width, depth.
          n_in, n_out: Channels.
          grid: The grid of the fields.
          dtype: Compute precision; parameters and output are float32.
          rngs: Source of the initial parameters.

        Raises:
          ConfigError: the grid is regional or too coarse for the mesh.
        """
        MeshGraph.of(grid, config.refinement)  # refuses what does not fit before training starts
        self.grid = grid
        self.refinement = config.refinement
        self.dtype = dtype
        width = config.width
        self.embed = linear(n_in, width, dtype=dtype, rngs=rngs)
        self.grid_place = linear(N_ZONAL, width, bias=False, dtype=dtype, rngs=rngs)
        self.mesh_place = linear(N_ZONAL, width, dtype=dtype, rngs=rngs)
        # The way to the mesh and back is no branch beside another way: at zero, neither end would learn from the other.
        self.encoder = Messages(width, zero=False, dtype=dtype, rngs=rngs)
        self.processor = nnx.List([Messages(width, zero=True, dtype=dtype, rngs=rngs) for _ in range(config.depth)])
        self.decoder = Messages(width, zero=False, dtype=dtype, rngs=rngs)
        self.head = Head(width, n_in, n_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "batch lat lon channel"]) -> Float[Array, "batch lat lon out"]:
        """Applies the network."""
        graph = MeshGraph.of(self.grid, self.refinement)
        batch, rows, columns, _ = x.shape
        cells = x.astype(self.dtype).reshape(batch, rows * columns, -1).swapaxes(0, 1)
        on_grid = self.embed(cells) + self.grid_place(jnp.asarray(graph.grid_features))[:, None]
        places = self.mesh_place(jnp.asarray(graph.mesh_features))[:, None]
        on_mesh = jnp.broadcast_to(places, (places.shape[0], batch, places.shape[2]))
        on_mesh = self.encoder(on_grid, on_mesh, graph.to_mesh)
        for messages in self.processor:
            on_mesh = messages(on_mesh, on_mesh, graph.within)
        on_grid = self.decoder(on_mesh, on_grid, graph.to_grid)
        return self.head(on_grid, cells).swapaxes(0, 1).reshape(batch, rows, columns, -1)


def matmul_flops(config: GraphConfig, n_in: int, n_out: int, grid: Grid) -> int:
    """Floating-point operations of all matrix products; see ``emulator.models.forward_flops``.

    Raises:
      ConfigError: the grid is regional or too coarse for the mesh.
    """
    graph = MeshGraph.of(grid, config.refinement)
    cells, nodes, width = math.prod(grid.shape), graph.within.n_receivers, config.width

    def messages(senders: int, receivers: int, edges: Edges) -> int:
        return (senders + 4 * receivers) * width**2 + edges.n_edges * _N_EDGE_FEATURES * width

    total = cells * (n_in * width + width * n_out + n_in * n_out) + (cells + nodes) * N_ZONAL * width
    total += messages(cells, nodes, graph.to_mesh) + messages(nodes, cells, graph.to_grid)
    return 2 * (total + config.depth * messages(nodes, nodes, graph.within))
