"""The mesh network: the icosphere's counts, edges and their geometry, and what every model must do."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import GraphConfig
from emulator.models import build, graph, latitude_factor
from emulator.models.graph import Edges, MeshGraph, Messages
from emulator.models.icosphere import Icosphere

TINY = GraphConfig(kind="graph", refinement=1, width=16, depth=2)
GLOBE = Grid.gaussian(12)


def finest_edges(mesh):
    return {tuple(sorted(e)) for a, b, c in mesh.faces.tolist() for e in ((a, b), (b, c), (c, a))}


@pytest.mark.parametrize("refinement", [0, 1, 3])
def test_the_mesh_is_a_refined_icosahedron(refinement):
    mesh = Icosphere.of(refinement)
    edges = finest_edges(mesh)
    assert len(mesh.vertices) == 10 * 4**refinement + 2
    assert len(mesh.faces) == 20 * 4**refinement
    assert len(edges) == 30 * 4**refinement
    assert len(mesh.vertices) - len(edges) + len(mesh.faces) == 2  # Euler
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1)
    degrees = np.bincount(np.array(sorted(edges)).ravel())
    assert sorted(set(degrees)) == ([5] if refinement == 0 else [5, 6])
    assert (degrees == 5).sum() == 12
    assert np.abs(mesh.vertices[:, 2]).max() < 1 - 1e-4  # none at a pole
    lengths = [np.linalg.norm(mesh.vertices[a] - mesh.vertices[b]) for a, b in edges]
    assert max(lengths) == pytest.approx(mesh.longest_edge)
    assert max(lengths) / min(lengths) < 1.25


def test_edges_of_all_refinements_are_there_once():
    mesh = Icosphere.of(3)
    assert len(mesh.edges) == 30 * (1 + 4 + 16 + 64) == len({tuple(sorted(e)) for e in mesh.edges.tolist()})
    assert finest_edges(mesh) < {tuple(e) for e in mesh.edges.tolist()}
    in_and_out = MeshGraph.of(Grid.gaussian(32), 3).within
    assert np.bincount(in_and_out.receivers).max() == 5 * 4  # a corner of the icosahedron, at four refinements
    assert np.bincount(in_and_out.receivers).min() == 6


@pytest.mark.parametrize(
    "grid", [Grid.gaussian(32), Grid.from_arrays(np.linspace(-90, 90, 37), np.arange(72) * 5.0)], ids=["T21", "poles"]
)
def test_everything_is_connected(grid):
    graph = MeshGraph.of(grid, 3)
    cells, nodes = np.prod(grid.shape), 642
    assert set(graph.to_mesh.senders) == set(range(cells)) == set(graph.to_grid.receivers)
    assert set(graph.to_mesh.receivers) == set(range(nodes)) == set(graph.within.receivers)
    assert (np.bincount(graph.to_grid.receivers) == 3).all()
    for edges in (graph.to_mesh, graph.within, graph.to_grid):
        assert (np.diff(edges.receivers) >= 0).all()  # sorted, as the sum over segments is told
        np.testing.assert_allclose(np.bincount(edges.receivers, edges.weights), 1, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(edges.features[:, :3], axis=1), edges.features[:, 3], rtol=1e-5)
        assert np.isfinite(edges.features).all()
    assert graph.within.features[:, 3].max() > 5  # the long edges
    assert graph.to_grid.features[:, 3].max() < 1.1  # a cell is told by nodes of its surroundings


def test_edges_see_their_sender_from_the_receiver():
    def point(lat, lon):
        lat, lon = np.radians(lat), np.radians(lon)
        return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    receivers = np.array([point(40, 170), point(-10, 30)])
    senders = np.array([point(40, 171), point(-10, 29), point(-9, 30)])
    edges = Edges.between(np.array([2, 0, 1]), np.array([1, 0, 1]), senders, receivers, np.radians(1.0))
    east, north, up, distance = edges.features.T
    assert edges.senders.tolist() == [0, 1, 2]
    np.testing.assert_allclose(east, [np.cos(np.radians(40)), -np.cos(np.radians(10)), 0], atol=1e-3)
    np.testing.assert_allclose(north, [0, 0, 1], atol=1e-2)
    np.testing.assert_allclose(up, [0, 0, 0], atol=1e-2)
    np.testing.assert_allclose(distance, np.hypot(east, north), atol=1e-3)


def test_large_cells_count_more_than_small_ones():
    grid = Grid.gaussian(32)
    edges = MeshGraph.of(grid, 2).to_mesh
    areas = grid.cell_areas.ravel()[edges.senders]
    totals = np.bincount(edges.receivers, areas)[edges.receivers]
    np.testing.assert_allclose(edges.weights, areas / totals, rtol=1e-5)


@pytest.fixture(scope="module")
def trial():
    return check.Trial(TINY.model_copy(update={"width": 32}), Grid.gaussian(6))


class TestDuties(check.Duties):
    """On ``trial``."""


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    check.check_half_precision_is_near(TINY, GLOBE)


def test_little_is_kept_in_float32_for_the_gradient_in_bfloat16():
    check.check_little_is_kept_in_float32(TINY, GLOBE)


def test_turning_by_a_third_turns_the_output():
    check.check_turning_commutes(TINY, GLOBE, 8)  # the mesh looks the same after 120 degrees, and so does the grid


def test_messages_go_far_but_no_further_than_edges_reach():
    model, x = check.randomised(TINY.model_copy(update={"depth": 1}), GLOBE), check.inputs(GLOBE)
    change = jnp.abs(model(x.at[0, 6, 0].add(100.0)) - model(x)).max(axis=(0, 3))
    assert float(change[6, 4]) > 0.0  # 60 degrees away, in one step on the mesh
    assert float(change[5, 12]) == 0.0  # the antipode


def test_counted_arithmetic_is_what_xla_counts():
    check.check_arithmetic_is_what_xla_counts(TINY.model_copy(update={"width": 256}), GLOBE, tolerance=0.05)


def test_samples_of_a_batch_do_not_mix():
    model, x = check.randomised(TINY, GLOBE), check.inputs(GLOBE, batch=3)
    np.testing.assert_allclose(model(x)[1:2], model(x[1:2]), atol=1e-4)


def test_grids_that_do_not_fit_are_refused():
    region = Grid.from_arrays(np.arange(20, 60, 5), np.arange(200, 260, 5))
    with pytest.raises(ConfigError, match="graph needs a grid that covers the globe"):
        build(TINY, 3, 2, region, nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"refinement: 3 makes a mesh of 642 nodes, \d+ of which are near no cell"):
        jax.eval_shape(lambda: build(TINY.model_copy(update={"refinement": 3}), 3, 2, GLOBE, nnx.Rngs(0)))
    assert latitude_factor(TINY) is None


def test_edges_too_many_for_a_program_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr(Icosphere, "of", lambda _: pytest.fail("would take a gigabyte"))
    fine = Grid.from_arrays(np.linspace(-90, 90, 1801), np.arange(3600) / 10)
    for refinement, grid in ((5, fine), (11, GLOBE)):
        with pytest.raises(ConfigError, match=rf"refinement: {refinement} on .* MiB of constants .* a coarser grid"):
            build(TINY.model_copy(update={"refinement": refinement}), 3, 2, grid, nnx.Rngs(0))


def test_the_size_of_the_constants_is_that_of_the_edges(monkeypatch):
    found = []
    monkeypatch.setattr(graph, "check_constants", lambda n_bytes, *_: found.append(n_bytes))
    made = MeshGraph.of(Grid.gaussian(10), 1)
    edges = [getattr(e, f.name) for e in (made.to_mesh, made.within, made.to_grid) for f in fields(e)]
    arrays = [a for a in (*edges, made.mesh_features, made.grid_features) if isinstance(a, np.ndarray)]
    assert found == [4 * sum(a.size for a in arrays)]  # as a device holds them: no number takes eight bytes


def test_receivers_get_the_weighted_mean_of_messages():
    """A sender that counts for nothing is not heard."""
    points = np.eye(3)
    edges = Edges.between(np.arange(3), np.zeros(3, int), points, points[:1], 1.0, np.array([1.0, 2.0, 0.0]))
    graph, shapes = nnx.split(nnx.eval_shape(lambda: Messages(4, zero=False, rngs=nnx.Rngs(0))))
    layer = nnx.merge(graph, check.random_parameters(shapes))
    senders, receivers = check.inputs(Grid.gaussian(4), 4)[0, 0, :3, None], jnp.ones((1, 1, 4))
    heard = layer(senders, receivers, edges)
    np.testing.assert_allclose(layer(senders.at[2].multiply(-9.0), receivers, edges), heard, atol=1e-6)
    assert float(jnp.abs(layer(senders.at[1].multiply(-9.0), receivers, edges) - heard).max()) > 1e-3
