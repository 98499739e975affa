"""The transformer: windows that go round the globe and over the poles, positions, attention, the duties of a model."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import model_checks as check
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from emulator.config import TransformerConfig
from emulator.models import build, halo, latitude_factor, transformer
from emulator.models.transformer import PatchLayout, Tokens, _cudnn_takes, attend, window_order

GLOBAL = TransformerConfig(kind="transformer", patch=2, width=16, depth=2, heads=2)
WINDOWED = GLOBAL.model_copy(update={"attention": "windowed", "window": [2, 4]})
BOTH = pytest.mark.parametrize("config", [GLOBAL, WINDOWED], ids=["global", "windowed"])
GLOBE = Grid.gaussian(8)
LONGITUDE = np.arange(16) * 22.5
BELT = Grid.from_arrays(np.arange(-35, 36, 10.0), LONGITUDE)  # round the globe, but without poles
REGION = Grid.from_arrays(np.arange(15, 77.5, 5), np.arange(200, 332.5, 5))


@pytest.fixture(scope="module", params=[GLOBAL, WINDOWED], ids=["global", "windowed"])
def trial(request):
    return check.Trial(request.param, GLOBE)


class TestDuties(check.Duties):
    """On ``trial``."""


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    check.check_half_precision_is_near(GLOBAL, GLOBE)


def test_little_is_kept_in_float32_for_the_gradient_in_bfloat16():
    check.check_little_is_kept_in_float32(GLOBAL, GLOBE)


@pytest.mark.parametrize(("config", "cells"), [(GLOBAL, 2), (WINDOWED, 8)], ids=["by a patch", "by a window"])
def test_turning_the_globe_turns_the_output(config, cells):
    check.check_turning_commutes(config, GLOBE, cells)


def test_latitudes_are_told_apart():
    out = check.randomised(GLOBAL, GLOBE)(jnp.zeros((1, 8, 16, 3)))
    rows = out.reshape(4, 2, 16, 2).mean(axis=(1, 2, 3))
    assert float(jnp.diff(jnp.sort(rows)).min()) > 1e-3


@BOTH
def test_counted_arithmetic_is_what_xla_counts(config):
    wide = config.model_copy(update={"width": 256, "heads": 4, "depth": 2, "window": [4, 8]})
    check.check_arithmetic_is_what_xla_counts(wide, Grid.gaussian(16), tolerance=0.05)


@pytest.mark.parametrize(
    ("config", "grid"),
    [(GLOBAL, REGION), (WINDOWED, REGION), (WINDOWED, Grid.from_arrays(np.linspace(-90, 90, 13), LONGITUDE))],
    ids=["global, region", "windowed, region", "windowed, pole rows"],
)
def test_grids_that_patches_and_windows_do_not_divide(config, grid):
    out = check.randomised(config, grid)(jnp.ones((1, *grid.shape, 3)))
    assert out.shape == (1, *grid.shape, 2)
    assert bool(jnp.isfinite(out).all())


def test_circle_that_windows_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"16 longitudes .* no multiple of 24"):
        build(WINDOWED.model_copy(update={"window": [2, 6]}), 3, 2, GLOBE, nnx.Rngs(0))


# ---- windows


@pytest.mark.parametrize("grid", [GLOBE, BELT, REGION], ids=["globe", "belt", "region"])
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_hold_what_their_plan_says_and_scatter_inverts(grid, shifted):
    tokens = Tokens.of(WINDOWED, grid)
    layout = PatchLayout.of(tokens, shifted, 4)
    numbers = jnp.arange(np.prod(tokens.shape), dtype=jnp.float32).reshape(1, *tokens.shape, 1)
    windows = layout.gather(numbers)
    np.testing.assert_array_equal(windows[0, ..., 0], window_order(tokens, shifted))
    np.testing.assert_array_equal(layout.scatter(windows), numbers)


def visible_pairs(grid, shifted):
    """Rows and columns of every query and of a key that it sees, (pair,) each."""
    tokens = Tokens.of(WINDOWED, grid)
    order = window_order(tokens, shifted)
    mask = PatchLayout.of(tokens, shifted, 4).mask
    together = np.ones((*order.shape, order.shape[-1]), bool) if mask is None else mask[:, :, 0]
    i, j, query, key = np.nonzero(together)
    (qr, qc), (kr, kc) = (np.divmod(order[i, j, t], tokens.shape[1]) for t in (query, key))
    return tokens, qr, qc, kr, kc


@pytest.mark.parametrize("shifted", [False, True])
def test_nobody_in_a_region_sees_beyond_a_window(shifted):
    _, query_row, query_column, key_row, key_column = visible_pairs(REGION, shifted)
    rows, columns = WINDOWED.window
    assert np.abs(query_row - key_row).max() == rows - 1
    assert np.abs(query_column - key_column).max() == columns - 1


def test_windows_of_a_belt_go_round_but_not_from_one_edge_to_the_other():
    tokens, query_row, query_column, key_row, key_column = visible_pairs(BELT, True)
    n_columns = tokens.shape[1]
    apart = (query_column - key_column) % n_columns
    assert np.abs(query_row - key_row).max() == WINDOWED.window[0] - 1
    assert set(np.minimum(apart, n_columns - apart)) == set(range(WINDOWED.window[1]))
    assert (np.abs(query_column - key_column) > WINDOWED.window[1]).any()


def test_shifted_windows_go_over_the_poles_to_the_opposite_meridian():
    tokens = Tokens.of(WINDOWED, Grid.gaussian(16))
    assert PatchLayout.of(tokens, True, 4).mask is None
    n_rows, n_columns = tokens.shape
    row, column = np.divmod(window_order(tokens, True)[-1], n_columns)  # the windows at the poles
    for rows_here, columns_here in zip(row, column, strict=True):
        assert set(rows_here) in ({0}, {n_rows - 1})
        assert {(c + n_columns // 2) % n_columns for c in columns_here} == set(columns_here)
    inner_row, _ = np.divmod(window_order(tokens, True)[:-1], n_columns)
    assert (np.ptp(inner_row, axis=-1) == 1).all()


def test_latitude_bands_that_exchange_rows_equal_the_whole_grid(monkeypatch):
    grid = Grid.gaussian(16)
    x = check.inputs(grid, batch=2)
    whole = check.randomised(WINDOWED, grid)(x)
    assert latitude_factor(WINDOWED) == 4
    assert latitude_factor(GLOBAL) is None
    monkeypatch.setattr(halo, "latitude_bands", lambda: 2)
    bands = x.reshape(2, 2, 8, 32, 3).swapaxes(0, 1)
    graph, shapes = check.structure(WINDOWED, grid)
    model = nnx.merge(graph, check.random_parameters(shapes))
    apart = check.fast_jit(jax.vmap(model, axis_name=halo.LATITUDE_AXIS))(bands)
    np.testing.assert_allclose(jnp.concatenate(list(apart), axis=1), whole, atol=1e-4)


# ---- positions and attention


def test_rotated_products_depend_on_differences_and_go_round():
    layout = PatchLayout.of(Tokens.of(GLOBAL, GLOBE), False, 8)  # 4 x 8 patches
    vectors = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    rotate = check.fast_jit(layout.rotate)
    turned = [np.asarray(rotate(jnp.tile(a, (1, 1, 1, 32, 1, 1)))).reshape(4, 8, 16) for a in vectors]
    product = np.einsum("rcd,sed->rcse", *turned)
    np.testing.assert_allclose(product, np.roll(product, (3, 3), axis=(1, 3)), atol=1e-4)
    np.testing.assert_allclose(product[1:, :, 1:], product[:-1, :, :-1], atol=1e-4)
    assert np.abs(product[0, 0, 0] - product[0, 0, 0, 0])[1:].min() > 1e-3  # every other column is elsewhere


def test_attention_is_softmax_of_products():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 3, 5, 2, 4)).astype(np.float32)
    mask = rng.random((3, 1, 5, 5)) < 0.7
    mask |= np.eye(5, dtype=bool)
    for seen in (None, mask):
        logits = np.einsum("bwqhd,bwkhd->bwhqk", q, k) / 2
        weights = np.exp(logits) * (1 if seen is None else seen)
        expected = np.einsum("bwhqk,bwkhd->bwqhd", weights / weights.sum(axis=-1, keepdims=True), v)
        found = check.fast_jit(attend)(*map(jnp.asarray, (q, k, v)), None if seen is None else jnp.asarray(seen))
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "version", "capability", "dtype", "size", "expected"),
    [
        ("cpu", "cpu", None, jnp.bfloat16, 64, False),
        ("tpu", "tpu", None, jnp.bfloat16, 64, False),
        ("gpu", "rocm 6", "gfx90a", jnp.bfloat16, 64, False),
        ("gpu", "PJRT C API cuda 12080", "9.0", jnp.bfloat16, 64, True),
        ("gpu", "PJRT C API cuda 12080", "9.0", jnp.float32, 64, False),
        ("gpu", "PJRT C API cuda 12080", "9.0", jnp.bfloat16, 256, False),
        ("gpu", "PJRT C API cuda 12080", "9.0", jnp.bfloat16, 20, False),
        ("gpu", "PJRT C API cuda 12080", "7.5", jnp.float16, 64, False),
    ],
)
def test_fused_kernel_is_asked_for_only_where_it_runs(
    monkeypatch, platform, version, capability, dtype, size, expected
):
    device = SimpleNamespace(
        platform=platform, client=SimpleNamespace(platform_version=version), compute_capability=capability
    )
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert _cudnn_takes(jnp.dtype(dtype), size) is expected


@pytest.mark.skipif(jax.version.__version_info__ < (0, 10, 2), reason="the lowest that the extra `cuda` takes")
def test_the_fused_kernel_and_its_gradient_fit_into_the_program_of_every_device(monkeypatch):
    """No GPU is at hand: the step is traced and lowered for one, inside of ``shard_map`` as training has it."""
    from jax._src.cudnn import fused_attention_stablehlo  # not public: where it moves, this test alone shall fail

    monkeypatch.setattr(transformer, "_cudnn_takes", lambda *_: True)
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91200)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda _: True)
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))

    def gradient(x):
        return jax.grad(lambda x: attend(x, x, x, None).astype(jnp.float32).sum())(x)

    split = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=P("data"), out_specs=P("data")))
    x = jax.ShapeDtypeStruct((2, 1, 8, 2, 16), jnp.bfloat16)
    program = split.trace(x).lower(lowering_platforms=("cuda",)).as_text()
    assert program.count("__cudnn$fmha") == 2  # there and back


def test_what_happens_in_a_window_is_seen_beyond_its_sides_after_the_next_block():
    grid = Grid.gaussian(16)
    model, x = check.randomised(WINDOWED, grid), check.inputs(grid)
    change = jnp.abs(model(x.at[0, 4, 2].add(100.0)) - model(x))[0].max(axis=-1)
    assert float(change[9, 2]) > 0 and float(change[4, 10]) > 0  # windows are of 4 x 8 cells
    assert float(change[12, 18]) == 0


def test_a_region_does_not_see_its_other_side_through_shifted_windows():
    model, x = check.randomised(WINDOWED, REGION), check.inputs(REGION)
    assert float(jnp.abs(model(x.at[:, 0].add(100.0)) - model(x))[:, -1].max()) == 0
    assert float(jnp.abs(model(x.at[:, :, 0].add(100.0)) - model(x))[:, :, -1].max()) == 0


def test_patches_that_change_places_change_what_others_see():
    model, x = check.randomised(GLOBAL, GLOBE), check.inputs(GLOBE)
    order = np.arange(16).reshape(8, 2)[[0, 2, 1, 3, 4, 5, 6, 7]].ravel()
    assert float(jnp.abs(model(x[:, :, order]) - model(x)[:, :, order]).max()) > 1e-3
