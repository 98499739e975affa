"""Regridding between any two latitude-longitude grids: exact integrals, constants, bounds, poles, seams and gaps."""

from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.grid_names import parse_grid_name
from data_prep.regrid import make_regridder

METHODS = ("conservative", "bilinear")


def centres(rows: int, columns: int | None = None, start: float = 0.0) -> Grid:
    columns = columns or 2 * rows
    return Grid.from_arrays((np.arange(rows) + 0.5) * 180 / rows - 90, start + np.arange(columns) * 360 / columns)


def with_poles(rows: int, columns: int) -> Grid:
    return Grid.from_arrays(np.linspace(-90, 90, rows), np.arange(columns) * 360 / columns)


def uneven(increments: list[float]) -> np.ndarray:
    """Latitudes of a global grid at these relative distances; the first and last are those from the poles."""
    steps = np.array([0.3, *increments, 0.3])
    return -90 + np.cumsum(steps)[:-1] * 180 / steps.sum()


COLUMNS = st.sampled_from((3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 18, 20, 24))  # spacings that six decimals hold
STEPS = st.lists(st.floats(1.0, 3.0), min_size=1, max_size=8)
EVEN = st.one_of(
    st.integers(2, 12).map(Grid.gaussian),
    st.builds(centres, st.integers(2, 10), st.integers(3, 20)),
    st.builds(with_poles, st.integers(3, 11), st.integers(3, 20)),
)
UNEVEN = st.builds(
    lambda steps, columns, start: Grid.from_arrays(
        uneven(steps), start * 360 / columns + np.arange(columns) * 360 / columns
    ),
    STEPS,
    st.integers(3, 20),
    st.floats(0, 0.99),
)
GLOBAL = st.one_of(EVEN, UNEVEN)


@st.composite
def regions(draw) -> Grid:
    """Unevenly spaced, anywhere, across Greenwich too."""
    south, west = draw(st.floats(-75, -10)), draw(st.floats(0, 359.9))
    rows, columns = (np.cumsum([0.0, *draw(STEPS)]) for _ in range(2))
    return Grid.from_arrays(south + rows * draw(st.floats(0.5, 3)), west + columns * draw(st.floats(0.5, 10)))


ANY = st.one_of(GLOBAL, regions())


def field(grid: Grid, seed: int = 0, offset: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=grid.shape) + offset


def regrid(values: np.ndarray, source: Grid, target: Grid, method: str = "conservative", **options) -> np.ndarray:
    return make_regridder(source, target, method, **options)(values[..., None])[..., 0]


def overlaps_by_hand(source: Grid, target: Grid) -> np.ndarray:
    """Area that each pair of cells shares, one by one: ``(target lat, target lon, source lat, source lon)``."""
    lat = np.zeros((target.shape[0], source.shape[0]))
    lon = np.zeros((target.shape[1], source.shape[1]))
    for out, bounds in ((lat, "latitude_bounds"), (lon, "longitude_bounds")):
        ours, theirs = getattr(target, bounds), getattr(source, bounds)
        for i, j in np.ndindex(out.shape):
            for turn in range(-2, 3) if out is lon else (0,):
                low = max(ours[i], theirs[j] + 360 * turn)
                high = min(ours[i + 1], theirs[j + 1] + 360 * turn)
                if high > low and out is lat:
                    # sin b - sin a, in the form that loses nothing at the poles
                    a, b = np.radians([low, high])
                    out[i, j] += 2 * np.cos((a + b) / 2) * np.sin((b - a) / 2)
                elif high > low:
                    out[i, j] += high - low
    return np.einsum("ij,kl->ikjl", lat, lon)


@settings(deadline=None, max_examples=60)
@given(GLOBAL, GLOBAL)
def test_conservative_regridding_keeps_the_integral(source, target):
    values = field(source, offset=0.0)
    out = regrid(values, source, target)
    before, after = (values * source.cell_areas).sum(), (out * target.cell_areas).sum()
    assert abs(after - before) <= 1e-12 * (abs(values) * source.cell_areas).sum()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (with_poles(121, 240), centres(32)),
        (with_poles(721, 1440), centres(32)),
        (Grid.gaussian(64), Grid.gaussian(32)),
        (Grid.gaussian(48), with_poles(121, 240)),
        (centres(32), Grid.gaussian(32)),
    ],
    ids=["1.5 to 5.625", "0.25 to 5.625", "T42 to T21", "T31 to 1.5", "5.625 to T21"],
)
def test_integrals_of_grids_in_use_are_kept_to_twelve_digits(source, target):
    values = field(source)
    out = regrid(values, source, target)
    assert (out * target.cell_areas).sum() == pytest.approx((values * source.cell_areas).sum(), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(regions(), GLOBAL)
def test_what_a_region_holds_arrives_on_the_globe_whole(source, target):
    values = field(source)
    regridder = make_regridder(source, target, nan="ignore", minimum_valid=1e-9, outside="nan")
    out = regridder(values[..., None])[..., 0]
    arrived = np.nansum(out * regridder.coverage * target.cell_areas)
    assert arrived == pytest.approx((values * source.cell_areas).sum(), rel=1e-6)  # cells below a billionth are NaN
    assert np.isnan(out[regridder.coverage == 0]).all()


@settings(deadline=None, max_examples=40)
@given(ANY, ANY)
def test_conservative_values_are_means_over_the_overlaps(source, target):
    values = field(source)
    out = regrid(values, source, target, nan="ignore", minimum_valid=0.01, outside="nan")
    areas = overlaps_by_hand(source, target)
    total = areas.sum(axis=(2, 3))
    whole = np.einsum(
        "i,j->ij", *(np.diff(x) for x in (np.sin(np.radians(target.latitude_bounds)), target.longitude_bounds))
    )
    sure = total > 0.0101 * whole
    assert np.isfinite(out[sure]).all()
    assert np.isnan(out[total < 0.0099 * whole]).all()
    expected = (areas * values).sum(axis=(2, 3))[sure] / total[sure]
    np.testing.assert_allclose(out[sure], expected, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(ANY, ANY, st.sampled_from(METHODS), st.floats(0.01, 1e5))
def test_constants_stay(source, target, method, constant):
    values = np.full(source.shape, constant)
    values[0, 0] = np.nan
    out = regrid(values, source, target, method, nan="ignore", minimum_valid=0.1, outside="nan")
    np.testing.assert_allclose(out[np.isfinite(out)], constant, rtol=1e-13)


@settings(deadline=None, max_examples=60)
@given(GLOBAL, ANY, st.sampled_from(METHODS))
def test_nothing_leaves_the_range_of_the_source(source, target, method):
    values = field(source)
    out = regrid(values, source, target, method)
    assert np.isfinite(out).all()
    assert out.min() >= values.min() - 1e-12
    assert out.max() <= values.max() + 1e-12


@settings(deadline=None, max_examples=40)
@given(COLUMNS, COLUMNS, st.integers(1, 20), st.sampled_from(METHODS))
def test_turning_the_globe_by_whole_cells_turns_the_result(n, m, turns, method):
    source, target = centres(5, n, start=1.7), centres(4, m)
    common = gcd(n, m)
    values = field(source)
    out = regrid(values, source, target, method)
    turned = regrid(np.roll(values, turns * n // common, axis=1), source, target, method)
    np.testing.assert_allclose(turned, np.roll(out, turns * m // common, axis=1), rtol=1e-11, atol=1e-11)


@settings(deadline=None, max_examples=40)
@given(ANY, st.sampled_from(METHODS))
def test_the_same_grid_gives_the_same_field_bit_by_bit(grid, method):
    values = field(grid)
    np.testing.assert_array_equal(regrid(values, grid, grid, method), values)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from((2, 3, 4, 5, 6, 8, 9, 10)), st.integers(2, 3), st.integers(2, 3))
def test_there_and_back_between_nested_grids(n, rows, columns):
    coarse = centres(n, 2 * n)
    # cells of the fine grid fill those of the coarse one; half a cell east, so do their columns
    fine = centres(n * rows, 2 * n * columns, start=(180 / (2 * n * columns)) - 90 / n + 360)
    fine = Grid.from_arrays(fine.latitude, np.sort(np.asarray(fine.longitude) % 360))
    values = field(coarse)
    there = regrid(values, coarse, fine)
    np.testing.assert_allclose(np.sort(np.unique(there.round(9))), np.sort(values.round(9).ravel()))
    np.testing.assert_allclose(regrid(there, fine, coarse), values, rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(EVEN, st.integers(2, 30))
def test_bilinear_is_exact_for_fields_linear_in_latitude(source, rows):
    lat = np.asarray(source.latitude)
    target = Grid.from_arrays(np.linspace(lat[0], lat[-1], rows), np.arange(7) * 360 / 7)
    values = np.broadcast_to((2 * lat - 5)[:, None], source.shape)
    out = regrid(values, source, target, "bilinear")
    np.testing.assert_allclose(
        out, np.broadcast_to((2 * np.asarray(target.latitude) - 5)[:, None], out.shape), atol=1e-10
    )


def test_bilinear_is_exact_for_products_of_linear_fields_across_greenwich():
    source = Grid.from_arrays(np.arange(30, 61, 5.0), np.arange(340, 391, 5.0))
    target = Grid.from_arrays(np.linspace(31, 59, 9), np.linspace(0, 29, 12))
    lat, lon = np.asarray(source.latitude), np.asarray(source.longitude)
    out = regrid(lat[:, None] * lon, source, target, "bilinear")
    np.testing.assert_allclose(out, np.outer(target.latitude, np.asarray(target.longitude) + 360), rtol=1e-12)


def test_a_point_that_rounding_puts_before_the_first_column_is_that_column():
    source = Grid.from_arrays(np.arange(30, 61, 5.0), np.arange(200, 251, 5.0))
    target = Grid.from_arrays(source.latitude, np.asarray(source.longitude) - 1e-6)
    values = field(source)
    np.testing.assert_allclose(regrid(values, source, target, "bilinear"), values, rtol=1e-5)


def test_bilinear_goes_on_across_the_seam():
    source = centres(4, 8)
    target = Grid.from_arrays(source.latitude, np.array([337.5, 348.75]))  # columns at 315 and 0
    values = field(source)
    out = regrid(values, source, target, "bilinear")
    np.testing.assert_allclose(out[:, 0], (values[:, 7] + values[:, 0]) / 2)
    np.testing.assert_allclose(out[:, 1], values[:, 7] / 4 + 3 * values[:, 0] / 4)


def test_between_the_outermost_row_and_the_pole_bilinear_goes_to_the_zonal_mean():
    source = centres(6)  # rows at 75 and below
    target = with_poles(13, 12)  # 90, 75, ...
    between = Grid.from_arrays(np.array([75.0, 80.0, 85.0]), source.longitude)
    values = field(source)
    out = regrid(values, source, target, "bilinear")
    np.testing.assert_allclose(out[-1], values[-1].mean())
    np.testing.assert_allclose(out[0], values[0].mean())
    rows = regrid(values, source, between, "bilinear")
    np.testing.assert_allclose(rows[1], 2 / 3 * values[-1] + 1 / 3 * values[-1].mean())
    values[-1, 0] = np.nan  # a pole that depends on it is NaN; or the mean of the others
    assert np.isnan(regrid(values, source, target, "bilinear")[-1]).all()
    filled = regrid(values, source, target, "bilinear", nan="ignore")
    np.testing.assert_allclose(filled[-1], values[-1, 1:].mean())


def test_a_row_on_the_pole_is_a_cap_of_half_a_spacing():
    source, target = with_poles(7, 4), centres(6, 4)  # bounds at 75; cells from 60 to 90
    values = np.zeros(source.shape)
    values[-1] = 1.0
    cap, cell = (1 - np.sin(np.radians(x)) for x in (75.0, 60.0))
    np.testing.assert_allclose(regrid(values, source, target)[-1], cap / cell)


def test_nan_reaches_just_what_depends_on_it():
    source, target = centres(6), centres(3)  # each target cell holds 2 rows and parts of 3 columns
    values = field(source)
    values[1, 0] = np.nan
    out = regrid(values, source, target)
    assert np.isnan(out).sum() == 1
    assert np.isnan(out[0, 0])
    np.testing.assert_array_equal(regrid(field(source), source, target)[1:], out[1:])
    # a column on the common edge of two cells belongs to both
    values = field(source)
    values[1, 1] = np.nan
    assert np.isnan(regrid(values, source, target)).sum() == 2
    # the sliver that rounding of coordinates leaves of a neighbour belongs to none
    other = field(source)
    other[1, 2] = np.nan
    shifted = Grid.from_arrays(source.latitude, np.arange(15.001, 360, 60))
    assert np.isnan(regrid(other, source, shifted)).sum() == 1
    # a point that bilinear interpolation takes over does not ask its neighbours
    values[:, 1::2] = np.nan
    same = Grid.from_arrays(source.latitude, np.asarray(source.longitude)[::2])
    assert np.isfinite(regrid(values, source, same, "bilinear")).all()
    near = Grid.from_arrays(same.latitude, np.asarray(same.longitude) + 0.01)  # of 30 degrees: as rounding of a file
    assert np.isfinite(regrid(values, source, near, "bilinear")).all()


@pytest.mark.parametrize(("minimum_valid", "kept"), [(0.5, True), (0.75, True), (0.76, False), (1.0, False)])
def test_ignored_nan_leaves_the_mean_of_the_rest_where_enough_is_valid(minimum_valid, kept):
    # one sector of 180 degrees over two bands of equal area, of which a quarter is missing
    source = Grid.from_arrays(np.array([-15.0, 15.0]), np.array([45.0, 135.0]))
    target = Grid.from_arrays(np.array([-30.0, 0.0, 30.0]), np.array([90.0, 270.0]))
    cell = (1, 0)
    values = np.array([[1.0, 2.0], [4.0, np.nan]])
    # the target's middle cell is -15 to 15, the inner half of both bands
    out = regrid(values, source, target, nan="ignore", minimum_valid=minimum_valid, outside="nan")
    assert np.isfinite(out[cell]) == kept
    if kept:
        assert out[cell] == pytest.approx(7 / 3)


@pytest.mark.parametrize(("minimum_valid", "kept"), [(0.25, True), (0.3, False), (0.5, False)])
def test_what_is_missing_and_what_lies_outside_are_both_not_valid(minimum_valid, kept):
    """A cell of which one half lies outside, and of the other half one half is missing."""
    source = Grid.from_arrays(np.array([-15.0, 15.0]), np.array([45.0, 135.0]))  # cells from 0 to 180 E
    target = Grid.from_arrays(np.array([-30.0, 0.0, 30.0]), np.array([0.0, 180.0]))  # cells from 90 W, from 90 E
    values = np.array([[1.0, 2.0], [np.nan, 3.0]])
    out = regrid(values, source, target, nan="ignore", minimum_valid=minimum_valid, outside="nan")
    assert np.isfinite(out[1, 0]) == kept
    if kept:
        assert out[1, 0] == pytest.approx(1.0)


def test_a_target_beyond_the_source_is_refused_or_nan():
    source = Grid.from_arrays(np.arange(15, 76, 2.5), np.arange(200, 331, 2.5))  # cells 13.75-76.25, 198.75-331.25
    inside = Grid.from_arrays(np.arange(16.25, 74, 5), np.arange(202.5, 328, 5))
    assert np.isfinite(regrid(field(source), source, inside)).all()
    with pytest.raises(DataError, match=r"air.nc: the target grid .* latitude -87.1875; .*--outside nan") as error:
        make_regridder(source, centres(32), where="air.nc")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="at longitude 350"):
        make_regridder(source, Grid.from_arrays([20.0, 30.0], [350.0, 360.0]))
    with pytest.raises(DataError, match="beyond the file's points"):
        make_regridder(source, Grid.from_arrays([14.0, 30.0], [210.0, 220.0]), "bilinear")
    over = Grid.from_arrays([14.0, 30.0, 76.5], [198.0, 210.0])
    out = regrid(field(source), source, over, "bilinear", outside="nan")
    assert np.isfinite(out).tolist() == [[False, False], [False, True], [False, False]]
    # a cell that is covered in part is not whole; how much is enough says the policy for NaN
    part = Grid.from_arrays([50.0, 60.0, 70.0], [210.0, 220.0])  # the last row's cells end at 75; then at 77.5
    high = Grid.from_arrays([52.5, 62.5, 72.5], [210.0, 220.0])
    assert np.isfinite(regrid(field(source), source, part, outside="nan")).all()
    assert np.isnan(regrid(field(source), source, high, outside="nan")).tolist() == [
        [False] * 2,
        [False] * 2,
        [True] * 2,
    ]
    assert np.isfinite(regrid(field(source), source, high, nan="ignore", outside="nan")).all()


def test_cells_that_overlap_round_the_globe_are_refused():
    longitude = np.delete(np.arange(0.0, 360.0, 5.0), 70)  # 350 is missing, so the last cell widens across 0 E
    source = Grid.from_arrays([0.0, 10.0], longitude)
    with pytest.raises(DataError, match="more than the circle"):
        make_regridder(source, Grid.from_arrays([2.0, 8.0], [10.0, 20.0]))
    make_regridder(source, Grid.from_arrays([2.0, 8.0], [10.0, 20.0]), "bilinear")


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_summed_in_double(method):
    source, target = with_poles(61, 120), centres(8)
    values = np.random.default_rng(0).normal(1e5, 1.0, (3, *source.shape, 5)).astype(np.float32)
    regridder = make_regridder(source, target, method)
    out = regridder(values)
    assert out.dtype == np.float32
    assert out.shape == (3, *target.shape, 5)
    np.testing.assert_array_equal(out, regridder(values.astype(np.float64)).astype(np.float32))
    assert regridder(values[:0]).shape == (0, *target.shape, 5)
    np.testing.assert_array_equal(out[1, ..., 2], regridder(values[1, ..., [2]].transpose(1, 2, 0))[..., 0])


def test_channels_are_worked_off_in_bounded_pieces(monkeypatch):
    source, target = centres(8), centres(3)
    values = np.random.default_rng(0).normal(size=(2, *source.shape, 7))
    values[1, 2, 3, 4] = np.nan
    whole = make_regridder(source, target)(values)
    monkeypatch.setattr("data_prep.regrid._WORK_BYTES", 8 * 8 * 16 * 2)
    np.testing.assert_array_equal(make_regridder(source, target)(values), whole)


@pytest.mark.physics
@pytest.mark.parametrize(
    ("source", "target"),
    [(with_poles(31, 60), centres(8)), (centres(8), Grid.gaussian(12))],
    ids=["6 degrees to 16x8", "16x8 to 24x12"],
)
def test_conservative_is_what_weatherbench2_means_by_it(source, target):
    """WeatherBench-2's overlap weights, as dinosaur (by the same authors) has them."""
    reference = pytest.importorskip("dinosaur.horizontal_interpolation")
    jax = pytest.importorskip("jax")
    ours = make_regridder(source, target)
    with jax.enable_x64(True):
        for name in ("latitude", "longitude"):
            points = [np.radians(getattr(grid, name)) for grid in (source, target)]
            expected = getattr(reference, f"conservative_{name}_weights")(*points)
            np.testing.assert_allclose(getattr(ours, name).matrix.toarray(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "shape", "first_rows"),
    [
        ("64x32", (32, 64), (-87.1875, -81.5625)),
        ("5.625", (32, 64), (-87.1875, -81.5625)),
        (5.625, (32, 64), (-87.1875, -81.5625)),
        ("2.8125", (64, 128), (-88.59375, -85.78125)),
        ("240 x 121", (121, 240), (-90.0, -88.5)),
        ("1.5", (121, 240), (-90.0, -88.5)),
        ("0.25", (721, 1440), (-90.0, -89.75)),
        ("360x180", (180, 360), (-89.5, -88.5)),
        ("1", (181, 360), (-90.0, -89.0)),
        ("gaussian 32", (32, 64), (-85.760587, -80.268779)),
        ("Gaussian48", (48, 96), (-87.159095, -83.478937)),
    ],
)
def test_grids_by_name(name, shape, first_rows):
    grid = Grid.named(parse_grid_name(name))
    assert grid.shape == shape
    assert grid.latitude[:2] == pytest.approx(first_rows, abs=1e-6)
    assert grid.longitude[0] == 0.0
    assert grid.is_global


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("64x31", "64 columns go with 32 rows, or 33 with the poles"),
        ("1.7", "1.7 degrees does not divide 180"),
        ("octahedral", "is no grid; write COLUMNSxROWS"),
        ("gaussian 1", "at least two"),
        ("0", "is no grid"),
        ("-1.5", "is no grid"),
        ("360", "does not divide 180"),
    ],
)
def test_what_names_no_grid_says_what_is_possible(name, expected):
    with pytest.raises(ValueError, match=expected):
        parse_grid_name(name)


def test_of_a_region_beside_the_pole_nothing_is_known_on_the_pole():
    """Its outer row is no circle, whose mean could be the pole's value, though its cells reach there."""
    source = Grid.from_arrays([65.0, 75.0, 85.0], [10.0, 20.0, 30.0])
    target = Grid.from_arrays([80.0, 88.0], [15.0, 25.0])
    assert source.latitude_bounds[-1] == 90.0
    found = make_regridder(source, target, "bilinear", outside="nan")(np.ones((*source.shape, 1)))[..., 0]
    assert np.isfinite(found).tolist() == [[True, True], [False, False]]
    with pytest.raises(DataError, match=r"reaches beyond the file's points .* at latitude 88"):
        make_regridder(source, target, "bilinear")
