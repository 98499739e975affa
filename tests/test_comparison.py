"""From statistics to scores: every name of the contract, each against a calculation of its own."""

import numpy as np
import pytest
import xarray as xr
from test_slow_variations import ar2

from data_prep.errors import DataError
from emulator.config import EvaluateConfig
from emulator.evaluation.comparison import compare
from emulator.evaluation.metrics import METRICS
from emulator.evaluation.scorecard import better_everywhere, significant_cells
from emulator.evaluation.significance import Bootstrap

CONFIG = EvaluateConfig(bootstrap=200)
HOURS = np.arange(6.0, 121.0, 12.0)
NAMES = ["network", "physics_t21", "physics_t42", "twin"]
N = 60


def make_statistics(attrs=None):
    """The network beats physics for ever in z, until 48 h in t; the twin beats all; physics_t42 is hardly worse."""
    rng = np.random.default_rng(0)
    growth = np.sqrt(HOURS)
    curves = {
        "network": np.stack([1.2 * growth, growth * np.exp(0.01 * (HOURS - 48)) * 1.5]),
        "physics_t21": np.stack([2.0 * growth, 1.5 * growth]),
        "physics_t42": np.stack([1.002 * growth, 1.002 * growth]),
        "twin": np.stack([growth, growth]),
    }
    rmse = np.stack([curves[n] for n in NAMES])[..., None, None]
    shape = (len(NAMES), 2, HOURS.size, 2, N)
    weather = 0.1 * ar2(rng, (N,), 0.3, 0.1)  # the same for all
    square = (rmse * np.exp(weather + 0.04 * ar2(rng, shape, 0.3, 0.1))) ** 2
    dims = ("forecaster", "variable", "lead_time", "region", "init_time")
    truth = 2 + rng.random(shape[1:])
    data = {
        "squared_error": (dims, square),
        "error": (dims, rng.normal(size=shape)),
        "anomaly_product": (dims, 0.8 * truth + 0.1 * rng.random(shape)),
        "forecast_anomaly_squared": (dims, truth + 0.1 * rng.random(shape)),
        "truth_anomaly_squared": (dims[1:], truth),
        "crps_skill": (dims, np.where(np.arange(4)[:, None, None, None, None] == 3, square, np.nan)),
        "crps_spread": (dims, np.where(np.arange(4)[:, None, None, None, None] == 3, 0.5 * square, np.nan)),
    }
    coords = {
        "forecaster": NAMES,
        "variable": ["z", "t"],
        "lead_time": (HOURS * 3.6e12).astype("timedelta64[ns]"),
        "region": ["all", "tropics"],
        "init_time": np.datetime64("2000-01-01", "ns") + np.arange(N) * np.timedelta64(1, "D"),
        "trajectory": ("init_time", np.repeat([0, 1], N // 2)),
    }
    found = xr.Dataset(data, coords, attrs if attrs is not None else {"predictability_limit": "twin", "headline": "z"})
    return found.transpose("forecaster", "variable", "lead_time", "init_time", "region")


@pytest.fixture(scope="module")
def statistics():
    return make_statistics()


@pytest.fixture(scope="module")
def scores(statistics):
    return compare(statistics, CONFIG)


def test_every_name_of_the_contract_is_there_with_its_dimensions(statistics, scores):
    cell = ("variable", "lead_time", "region")
    ends = ("", "_lower", "_upper")
    for metric in ("mse", "rmse", "bias", "acc_pooled", "crps_fair"):
        for end in ends:
            assert scores[metric + end].dims == ("forecaster", *cell)
    pair = ("forecaster", "reference", *cell)
    for name in ("rmse_difference", "rmse_ratio", "time_gain_hours", "gap_closed"):
        for end in ends:
            assert scores[name + end].dims == pair
    for name in ("rmse_difference_p", "rmse_difference_p_geer", "rmse_difference_significant"):
        assert scores[name].dims == pair
    for name in ("hours", "lower", "upper", "start", "outcome", "from_first_lead"):
        assert scores[f"crossover_{name}"].dims == ("forecaster", "reference", "variable", "region")
    assert scores["better_everywhere"].dims == ("forecaster", "reference", "region")
    assert scores["better_everywhere"].dtype == scores["rmse_difference_significant"].dtype == np.int8
    assert all("long_name" in scores[name].attrs for name in scores.data_vars if name not in statistics)
    xr.testing.assert_identical(scores[list(statistics.data_vars)], statistics)


def test_metrics_and_their_intervals_follow_from_formula_and_bootstrap(statistics, scores):
    one = statistics.sel(forecaster="network", variable="t").transpose("lead_time", "region", "init_time", ...)
    means = statistics.mean("init_time")
    for name in ("rmse", "bias", "acc_pooled"):
        expected = METRICS[name](means).transpose(*scores[name].dims)
        np.testing.assert_allclose(scores[name], expected)
    bootstrap = Bootstrap(statistics["trajectory"].values, 200, 0.95, 0)
    of_all = statistics["squared_error"].sel(variable="t").transpose("forecaster", "lead_time", "region", "init_time")
    resamples = bootstrap.resamples(of_all.values.reshape(-1, N))
    needs = [one[n].values.reshape(-1, N) for n in METRICS["acc_pooled"].needs]
    found = bootstrap.interval(resamples, METRICS["acc_pooled"].formula(*map(resamples.means, needs)))
    mine = scores.sel(forecaster="network", variable="t")
    np.testing.assert_allclose(mine["acc_pooled_lower"].values.ravel(), found.lower)
    np.testing.assert_allclose(mine["acc_pooled_upper"].values.ravel(), found.upper)
    # an ensemble's scores are there for ensembles alone
    crps = scores["crps_fair_upper"]
    assert np.isfinite(crps.sel(forecaster="twin")).all() and crps.drop_sel(forecaster="twin").isnull().all()


def test_pairs_are_mirror_images(scores):
    there, back = (scores.sel(forecaster=a, reference=b) for a, b in (NAMES[:2], NAMES[1::-1]))
    np.testing.assert_allclose(there["rmse_difference_lower"], -back["rmse_difference_upper"])
    np.testing.assert_allclose(there["rmse_ratio"] * back["rmse_ratio"], 1.0)
    for name in ("rmse_difference_p", "rmse_difference_p_geer", "rmse_difference_significant"):
        np.testing.assert_array_equal(there[name], back[name])
    sure = (there["rmse_difference_upper"] < 0) | (there["rmse_difference_lower"] > 0)
    np.testing.assert_array_equal(sure, there["rmse_difference_p"] < 0.05)
    surely_other = (there["rmse_ratio_upper"] < 1) | (there["rmse_ratio_lower"] > 1)
    np.testing.assert_array_equal(sure, surely_other)
    np.testing.assert_allclose(there["rmse_ratio_lower"] * back["rmse_ratio_upper"], 1.0)
    assert (there["rmse_difference_significant"] <= sure).all()
    itself = scores.sel(forecaster="twin", reference="twin")
    assert itself["rmse_difference"].isnull().all() and (itself["rmse_difference_significant"] == 0).all()
    assert (itself["crossover_outcome"] == "").all()


def test_crossover_and_time_gain_are_those_of_the_curves(scores):
    pair = scores.sel(forecaster="network", reference="physics_t21", region="all")
    assert pair["crossover_outcome"].values.tolist() == ["beyond the last lead", "crossover"]
    t = pair.sel(variable="t")
    assert abs(float(t["crossover_hours"]) - 48) < 6 and t["crossover_lower"] < 48 < t["crossover_upper"]
    # in z the error 1.2 sqrt(t) is that of 2 sqrt(s) at s = 0.36 t, once that is as late as the first lead
    late = HOURS * 0.36 > 8
    gain = pair.sel(variable="z")["time_gain_hours"].values
    np.testing.assert_allclose(gain[late], 0.64 * HOURS[late], rtol=0.08)
    assert gain[0] == np.inf


def test_gap_closed(scores):
    closed = scores["gap_closed"].sel(variable="z", region="all")
    by_hand = scores["rmse"].sel(variable="z", region="all")
    expected = (by_hand.sel(forecaster="physics_t21") - by_hand.sel(forecaster="network")) / (
        by_hand.sel(forecaster="physics_t21") - by_hand.sel(forecaster="twin")
    )
    network = closed.sel(forecaster="network", reference="physics_t21")
    np.testing.assert_allclose(network, expected)
    np.testing.assert_allclose(network, 0.8, atol=0.06)  # four standard errors
    sel = {"forecaster": "network", "reference": "physics_t21", "variable": "z", "region": "all"}
    lower, upper = (scores[f"gap_closed_{end}"].sel(sel) for end in ("lower", "upper"))
    assert ((lower < 0.8) & (upper > 0.8)).sum() >= 7 and (upper - lower < 0.1).all()
    # where the baseline is not surely worse than the limit there is no gap; twins and networks are no baselines
    doubtful = scores["rmse_difference_lower"].sel(forecaster="physics_t42", reference="twin", variable="z") <= 0
    assert doubtful.any()
    missing = scores["gap_closed"].sel(forecaster="network", reference="physics_t42", variable="z").isnull()
    ratio = scores["rmse_ratio"].sel(forecaster="twin", reference="physics_t42", variable="z")
    np.testing.assert_array_equal(missing, doubtful | (ratio >= 0.9))  # a gap too small to be shared
    assert scores["gap_closed"].sel(reference=["network", "twin"]).isnull().all()
    np.testing.assert_allclose(closed.sel(forecaster="twin", reference="physics_t21"), 1.0)


def test_there_is_a_gap_exactly_where_the_difference_from_the_limit_is_sure():
    rng, dims = np.random.default_rng(1), ("forecaster", "variable", "lead_time", "init_time", "region")
    weather = np.exp(0.5 * rng.normal(size=(1, 60, 5, 40, 1)))
    ratio = np.array([1, 1.1, 1]).reshape(-1, 1, 1, 1, 1)
    square = weather * ratio * np.exp(0.4 * rng.normal(size=(3, 60, 5, 40, 1)))
    coords = {
        "forecaster": ["network", "physics_t21", "twin"],
        "lead_time": np.arange(1, 6).astype("timedelta64[D]").astype("timedelta64[ns]"),
        "trajectory": ("init_time", np.zeros(40, int)),
        "variable": [f"v{i}" for i in range(60)],
        "region": ["all"],
    }
    found = compare(xr.Dataset({"squared_error": (dims, square)}, coords, {"predictability_limit": "twin"}), CONFIG)
    sure = found["rmse_difference_lower"].sel(forecaster="physics_t21", reference="twin") > 0
    shown = found["gap_closed"].sel(forecaster="network", reference="physics_t21").notnull()
    wide = found["rmse_ratio"].sel(forecaster="twin", reference="physics_t21") < 0.9  # of less, shares are of noise
    assert 30 < sure.sum() < 270 and 10 < (sure & wide).sum() < sure.sum()
    np.testing.assert_array_equal(shown, sure & wide)


def test_better_everywhere_is_an_intersection_over_headline_variables(statistics, scores):
    everywhere = scores["better_everywhere"].sel(region="all")
    assert everywhere.sel(forecaster="network", reference="physics_t21") == 1  # z alone is a headline variable
    assert everywhere.sel(forecaster="physics_t21", reference="network") == 0
    upper = scores["rmse_difference_upper"]
    assert better_everywhere(upper, []).sel(forecaster="network", reference="physics_t21", region="all") == 0
    assert better_everywhere(upper, []).sel(forecaster="twin", reference="physics_t21", region="all") == 1
    lacking = upper.where(upper["lead_time"] > upper["lead_time"][0])
    assert (better_everywhere(lacking, ["z"]) == 0).all()


def test_who_is_equal_is_not_better_everywhere():
    dims = ("forecaster", "reference", "variable", "lead_time", "region")
    upper = xr.DataArray(np.full((1, 1, 1, 3, 1), -1.0), dims=dims)
    assert (better_everywhere(upper, []) == 1).all()
    upper[..., 1, 0] = 0.0
    assert (better_everywhere(upper, []) == 0).all()


def test_each_pair_is_a_family_of_its_own():
    p = np.full((1, 2, 2, 5, 2), 1e-6)
    p[0, 1] = 0.5
    p[0, 1, 0, 0, 0] = 0.02  # which would do beside the first pair's
    found = significant_cells(
        xr.DataArray(p, dims=("forecaster", "reference", "variable", "lead_time", "region")), 0.95
    )
    assert found.sum(("variable", "lead_time", "region")).values.tolist() == [[20, 0]]


def test_a_scorecard_is_one_family_of_tests():
    p = np.full((1, 1, 2, 5, 2), 0.5)
    p[0, 0, 0, 0, 0] = 0.004  # significant among 10 cells, not among 20
    dims = ("forecaster", "reference", "variable", "lead_time", "region")
    card = xr.DataArray(p, dims=dims)
    assert significant_cells(card, 0.95).sum() == 0
    assert significant_cells(card.isel(region=[0]), 0.95).sum() == 1
    assert significant_cells(card.where(card["region"] == 0), 0.95).sum() == 1  # NaN is no test


def test_without_a_limit_there_is_no_gap_and_an_unknown_one_is_refused(statistics):
    few = statistics.isel(forecaster=[0, 1], lead_time=[0, 1], variable=[0])
    found = compare(few.assign_attrs(predictability_limit="network"), CONFIG)
    assert "gap_closed" in found
    few.attrs.pop("predictability_limit")
    assert "gap_closed" not in compare(few, CONFIG)
    with pytest.raises(DataError, match="predictability_limit is twin, but the forecasters are network, physics_t21"):
        compare(few.assign_attrs(predictability_limit="twin"), CONFIG)


def test_statistics_may_stay_in_their_file(statistics, scores, tmp_path):
    statistics.to_netcdf(tmp_path / "statistics.nc")
    with xr.open_dataset(tmp_path / "statistics.nc") as lazy:
        found = compare(lazy, CONFIG)
        assert not found["squared_error"].variable._in_memory
        for name in ("rmse_upper", "rmse_difference_p", "time_gain_hours_lower", "crossover_hours"):
            np.testing.assert_allclose(found[name], scores[name])


def test_one_forecaster_alone_has_metrics(statistics):
    few = statistics.isel(forecaster=[0]).drop_attrs()
    found = compare(few, CONFIG)
    assert np.isfinite(found["rmse_upper"]).all()
    assert "rmse_difference" in found and found["rmse_difference"].isnull().all()


def test_every_region_is_compared_by_itself(statistics):
    """In the second one who wins and who loses are exchanged."""
    few = statistics[["squared_error"]].sel(forecaster=NAMES[:2]).drop_attrs()
    turned = few["squared_error"].copy(deep=True)
    turned.loc[{"region": "tropics"}] = few["squared_error"].sel(region="tropics").values[::-1]
    few = few.assign(squared_error=turned)
    both = compare(few, CONFIG)
    for region, (winner, loser) in (("all", NAMES[:2]), ("tropics", NAMES[1::-1])):
        here, alone = both.sel(region=region), compare(few.sel(region=[region]), CONFIG).sel(region=region)
        for name in ("rmse", "rmse_difference", "rmse_ratio", "time_gain_hours", "crossover_hours"):
            np.testing.assert_allclose(here[name], alone[name], err_msg=name)
        np.testing.assert_array_equal(here["crossover_outcome"], alone["crossover_outcome"])
        outcome = here["crossover_outcome"].sel(variable="z")
        assert outcome.sel(forecaster=winner, reference=loser) == "beyond the last lead"
        assert outcome.sel(forecaster=loser, reference=winner) == "never better"


def test_of_a_single_initial_time_intervals_are_all_that_scores_can_be(statistics):
    found = compare(statistics.isel(init_time=[0]), CONFIG).sel(forecaster="network", reference="twin")
    for name, lowest, highest in (("rmse", 0, np.inf), ("rmse_ratio", 0, np.inf), ("acc_pooled", -1, 1)):
        assert (found[f"{name}_lower"] == lowest).all() and (found[f"{name}_upper"] == highest).all(), name
