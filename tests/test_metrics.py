"""Statistics and metrics against WeatherBench-2's values, and against cases worked out by hand."""

import golden
import numpy as np
import pytest

from data_prep.grid import Grid
from emulator.evaluation.metrics import METRICS, computable
from emulator.evaluation.regions import GLOBAL_REGIONS, Region, region_weights
from emulator.evaluation.statistics import Observed, area_means, deterministic_statistics, ensemble_statistics

GRIDS = ("g1", "g2")
REGIONS = (
    GLOBAL_REGIONS[0],
    GLOBAL_REGIONS[1],
    GLOBAL_REGIONS[2],
    Region("midlat_box", latitude=(30, 60), longitude=(210, 300)),
)
# ours -> the name in expected.json, by library
DETERMINISTIC = {
    ("weatherbench2", "mse"): "mse",
    ("weatherbench2", "rmse"): "rmse",
    ("weatherbench2", "mae"): "mae",
    ("weatherbench2", "bias"): "bias",
    ("weatherbench2", "acc"): "acc",
    ("weatherbenchX", "rmse"): "rmse",
    ("weatherbenchX", "acc"): "acc_pooled",
    ("weatherbenchX", "prediction_activity"): "prediction_activity",
}
ENSEMBLE = {
    ("weatherbench2", "crps_fair"): "crps_fair",
    ("weatherbench2", "ensemble_spread"): "ensemble_spread",
    ("weatherbench2", "energy_score"): "energy_score_neighbours",
    ("weatherbenchX", "crps_fair"): "crps_fair",
    ("weatherbenchX", "crps_biased"): "crps_biased",
    ("weatherbenchX", "ensemble_spread"): "ensemble_spread",
    ("weatherbenchX", "unbiased_ensemble_mean_rmse"): "unbiased_ensemble_mean_rmse",
    ("weatherbenchX", "unbiased_spread_skill_ratio"): "spread_skill",
}


def single_statistics(forecast, truth, climatology, weights):
    observed = Observed.of(truth, climatology, weights)
    return deterministic_statistics(forecast, observed, weights) | observed.statistics()


def mean_over_inits(statistics):
    return {name: value.mean(axis=0) for name, value in statistics.items()}


def every_region(library, name, score, grid, variable):
    """Compares the whole grid, and every box that the library gives this metric for."""
    values = golden.expected(grid, library)
    golden.assert_matches(score[:, 0], values[name][variable])
    for i, box in enumerate(golden.BOXES, start=1):
        if f"{name}@{box}" in values:
            golden.assert_matches(score[:, i], values[f"{name}@{box}"][variable])


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
def test_latitude_weights(grid):
    golden.assert_matches(
        golden.grid_of(grid).latitude_weights, golden.expected(grid, "weatherbench2")["latitude_weights"]
    )


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variable", golden.VARIABLES)
def test_deterministic_metrics(grid, variable):
    ensemble, truth, climatology = golden.fields(grid, variable)
    weights = region_weights(golden.grid_of(grid), REGIONS)
    statistics = single_statistics(ensemble[0], truth, climatology, weights)
    means = mean_over_inits(statistics)
    for (library, name), ours in DETERMINISTIC.items():
        every_region(library, name, METRICS[ours](means), grid, variable)
    wb2 = golden.expected(grid, "weatherbench2")
    golden.assert_matches(statistics["squared_error"][..., 0], wb2["mse_per_init"][variable])
    golden.assert_matches(statistics["error"][..., 0], wb2["bias_per_init"][variable])
    golden.assert_matches(statistics["anomaly_correlation"][..., 0], wb2["acc_per_init"][variable])
    sqrt_first = np.sqrt(statistics["squared_error"]).mean(axis=0)
    every_region("weatherbench2", "rmse_sqrt_before_time_mean", sqrt_first, grid, variable)


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variable", golden.VARIABLES)
def test_ensemble_metrics(grid, variable):
    ensemble, truth, climatology = golden.fields(grid, variable)
    weights = region_weights(golden.grid_of(grid), REGIONS)
    statistics = ensemble_statistics(ensemble, truth, weights)
    means = mean_over_inits(statistics)
    for (library, name), ours in ENSEMBLE.items():
        every_region(library, name, METRICS[ours](means), grid, variable)
    for name, statistic in {
        "crps_skill": "crps_skill",
        "crps_spread": "crps_spread",
        "ensemble_variance": "ensemble_variance",
        "debiased_ensemble_mean_mse": "unbiased_mean_squared_error",
        "energy_score_skill": "energy_skill",
        "energy_score_spread": "energy_spread_neighbours",
    }.items():
        every_region("weatherbench2", name, means[statistic], grid, variable)
    of_mean = single_statistics(ensemble.mean(axis=0), truth, climatology, weights)
    for name, root in {
        "ensemble_stddev_sqrt_before_time_mean": statistics["ensemble_variance"],
        "ensemble_mean_rmse_sqrt_before_time_mean": of_mean["squared_error"],
    }.items():
        every_region("weatherbench2", name, np.sqrt(root).mean(axis=0), grid, variable)
    of_mean = mean_over_inits(of_mean)
    every_region("weatherbench2", "ensemble_mean_mse", METRICS["mse"](of_mean), grid, variable)
    every_region("weatherbench2", "ensemble_mean_rmse", METRICS["rmse"](of_mean), grid, variable)
    every_region("weatherbenchX", "ensemble_mean_acc", METRICS["acc_pooled"](of_mean), grid, variable)


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("variable", golden.VARIABLES)
def test_unweighted_energy_scores(grid, variable):
    """WeatherBench-X sums over points without weights: ours with even weights, times the root of their number."""
    ensemble, truth, _ = golden.fields(grid, variable)
    points = truth[0, 0].size
    even = np.full((1, *truth.shape[-2:]), 1 / points)
    means = mean_over_inits(ensemble_statistics(ensemble, truth, even))
    skill, spread = (np.sqrt(points) * means[name][:, 0] for name in ("energy_skill", "energy_spread"))
    members = len(ensemble)
    wanted = golden.expected(grid, "weatherbenchX")
    golden.assert_matches(skill - spread / 2, wanted["energy_score_unweighted_fair"][variable])
    biased = spread * (members - 1) / members
    golden.assert_matches(skill - biased / 2, wanted["energy_score_unweighted_biased"][variable])


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
def test_climatology_as_forecast(grid):
    for variable in golden.VARIABLES:
        _, truth, climatology = golden.fields(grid, variable)
        weights = region_weights(golden.grid_of(grid), REGIONS[:1])
        means = mean_over_inits(single_statistics(climatology, truth, climatology, weights))
        wanted = golden.expected(grid, "weatherbench2")["climatology_forecast_mse"][variable]
        golden.assert_matches(METRICS["mse"](means)[:, 0], wanted)
        assert np.isnan(METRICS["acc"](means)).all()
        assert (METRICS["activity"](means) == 0).all()


@golden.needs_golden
def test_float32_fields_are_summed_in_float64():
    ensemble, truth, climatology = golden.fields("g1", "geopotential/500")
    weights = region_weights(golden.grid_of("g1"), REGIONS[:1])
    single = single_statistics(
        ensemble[0].astype(np.float32), truth.astype(np.float32), climatology.astype(np.float32), weights
    )
    rmse = METRICS["rmse"](mean_over_inits(single))[:, 0]
    golden.assert_matches(rmse, golden.expected("g1", "weatherbench2")["rmse"]["geopotential/500"])


def test_statistics_combine_exactly_over_chunks():
    rng = np.random.default_rng(0)
    grid = Grid.gaussian(8)
    f, o, c = rng.normal(size=(3, 12, 3, *grid.shape))
    weights = region_weights(grid, GLOBAL_REGIONS)
    whole = single_statistics(f, o, c, weights)
    parts = [single_statistics(f[a:b], o[a:b], c[a:b], weights) for a, b in ((0, 5), (5, 6), (6, 12))]
    for name, value in whole.items():
        np.testing.assert_allclose(np.concatenate([p[name] for p in parts]), value, rtol=1e-12)


def test_crps_of_sorted_members_equals_the_pair_form_with_ties():
    rng = np.random.default_rng(1)
    grid = Grid.gaussian(4)
    x = rng.integers(0, 4, size=(7, 2, *grid.shape)).astype(float)
    o = rng.normal(size=(2, *grid.shape))
    weights = region_weights(grid, GLOBAL_REGIONS[:1])
    pairs = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (7 * 6)
    statistics = ensemble_statistics(x, o, weights)
    np.testing.assert_allclose(statistics["crps_spread"], area_means(pairs, weights), rtol=1e-12)
    assert (statistics["crps_skill"] > statistics["crps_spread"] / 2).all()


def test_activity_is_blind_to_bias_and_sees_blur():
    rng = np.random.default_rng(2)
    grid = Grid.gaussian(16)
    truth = rng.normal(size=(40, *grid.shape))
    climatology = np.zeros_like(truth)
    weights = region_weights(grid, GLOBAL_REGIONS[:1])

    def activity(forecast):
        return METRICS["activity"](mean_over_inits(single_statistics(forecast, truth, climatology, weights)))[0]

    assert activity(truth + 5.0) == pytest.approx(1.0, rel=1e-12)
    assert activity(0.6 * truth) == pytest.approx(0.6, rel=1e-12)


def test_what_rounding_leaves_of_an_anomaly_is_none():
    """Of a climatology whose last digits differ there is no correlation, of an even anomaly no activity."""
    rng = np.random.default_rng(4)
    grid = Grid.gaussian(16)
    climatology = 280 + 10 * rng.normal(size=(20, *grid.shape))
    truth = climatology + rng.normal(size=climatology.shape)
    weights = region_weights(grid, GLOBAL_REGIONS)
    found = single_statistics(climatology + 1e-13 * rng.normal(size=truth.shape), truth, climatology, weights)
    assert np.isnan(found["anomaly_correlation"]).all() and (found["forecast_anomaly_squared"] == 0).all()
    even = single_statistics(climatology + 7.0, climatology + 5.0, climatology, weights)
    assert (even["forecast_anomaly_variance"] == 0).all() and (even["truth_anomaly_variance"] == 0).all()


def test_a_blurred_forecast_lacks_fine_scales_and_pairs_count_half_in_the_energy_score():
    """Metrics that no library has; SEEPS is a mean already."""
    assert METRICS["seeps"]({"seeps": 0.25}) == 0.25
    assert METRICS["fine_scale_ratio"]({"forecast_fine_power": 1.0, "truth_fine_power": 4.0}) == 0.5
    assert METRICS["energy_score"]({"energy_skill": 5.0, "energy_spread": 4.0}) == 3.0


def test_statistics_of_an_ensemble_are_sums_over_its_members_and_pairs():
    """By their definitions, without the sorting; WeatherBench's values above are not everywhere to compare with."""
    rng, grid, m = np.random.default_rng(3), Grid.gaussian(4), 4
    x, o = rng.normal(size=(m, 2, *grid.shape)), rng.normal(size=(2, *grid.shape))
    weights = region_weights(grid, GLOBAL_REGIONS[:2])

    def area(field):
        return np.einsum("iyx,ryx->ir", field, weights)

    distance = np.array([[np.sqrt(area((a - b) ** 2)) for b in x] for a in x])
    variance = sum((member - x.mean(axis=0)) ** 2 for member in x) / (m - 1)
    spread = sum(area(np.abs(a - b)) for a in x for b in x)
    expected = {
        "crps_skill": sum(area(np.abs(member - o)) for member in x) / m,
        "crps_spread": spread / (m * (m - 1)),
        "crps_spread_biased": spread / m**2,
        "ensemble_variance": area(variance),
        "unbiased_mean_squared_error": area((x.mean(axis=0) - o) ** 2 - variance / m),
        "energy_skill": sum(np.sqrt(area((member - o) ** 2)) for member in x) / m,
        "energy_spread": distance.sum(axis=(0, 1)) / (m * (m - 1)),
        "energy_spread_neighbours": sum(distance[i, i + 1] for i in range(m - 1)) / (m - 1),
    }
    found = ensemble_statistics(x, o, weights)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


def test_metrics_ask_for_what_they_need():
    names = {m.name for m in computable(["squared_error", "error"])}
    assert names == {"mse", "rmse", "bias"}


def test_every_golden_value_has_a_test():
    """Names that are not compared above are told here, so that none is forgotten."""
    if not golden.FOLDER.is_dir():
        pytest.skip("../shared/golden is not here")
    elsewhere = {
        "latitude_weights", "zonal_energy_spectrum_forecast", "zonal_energy_spectrum_truth", "zonal_frequency_per_m",
        "mse_per_init", "bias_per_init", "acc_per_init", "rmse_sqrt_before_time_mean", "climatology_forecast_mse",
        "crps_skill", "crps_spread", "ensemble_variance", "debiased_ensemble_mean_mse", "energy_score_skill",
        "energy_score_spread", "ensemble_stddev_sqrt_before_time_mean", "ensemble_mean_rmse_sqrt_before_time_mean",
        "ensemble_mean_mse", "ensemble_mean_rmse", "ensemble_mean_acc", "energy_score_unweighted_fair",
        "energy_score_unweighted_biased",
        "crps_fair_sorted",  # the same number as crps_fair, which is computed from sorted members here
    }  # fmt: skip
    for library in ("weatherbench2", "weatherbenchX"):
        tabled = {name for (of, name) in (*DETERMINISTIC, *ENSEMBLE) if of == library}
        given = {name.partition("@")[0] for name in golden.expected("g1", library)}
        shared = {"mse", "mae", "bias", "crps_fair", "ensemble_spread"}  # one definition for both libraries
        assert given - tabled - elsewhere - shared == set(), library
