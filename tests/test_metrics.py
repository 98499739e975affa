"""Statistics and metrics against WeatherBench-2's values, and against cases worked out by hand."""

import golden
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.evaluation.metrics import METRICS, computable
from emulator.evaluation.regions import GLOBAL_REGIONS, WHOLE, Region, default_regions, region_weights
from emulator.evaluation.statistics import area_means, deterministic_statistics, ensemble_statistics

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
    ("weatherbenchX", "crps_fair"): "crps_fair",
    ("weatherbenchX", "ensemble_spread"): "ensemble_spread",
    ("weatherbenchX", "unbiased_ensemble_mean_rmse"): "unbiased_ensemble_mean_rmse",
    ("weatherbenchX", "unbiased_spread_skill_ratio"): "spread_skill",
}


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
    statistics = deterministic_statistics(ensemble[0], truth, climatology, weights)
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
    means = mean_over_inits(ensemble_statistics(ensemble, truth, weights))
    for (library, name), ours in ENSEMBLE.items():
        every_region(library, name, METRICS[ours](means), grid, variable)
    for name, statistic in {
        "crps_skill": "crps_skill",
        "crps_spread": "crps_spread",
        "ensemble_variance": "ensemble_variance",
        "debiased_ensemble_mean_mse": "unbiased_mean_squared_error",
    }.items():
        every_region("weatherbench2", name, means[statistic], grid, variable)
    of_mean = mean_over_inits(deterministic_statistics(ensemble.mean(axis=0), truth, climatology, weights))
    every_region("weatherbench2", "ensemble_mean_mse", METRICS["mse"](of_mean), grid, variable)
    every_region("weatherbench2", "ensemble_mean_rmse", METRICS["rmse"](of_mean), grid, variable)
    every_region("weatherbenchX", "ensemble_mean_acc", METRICS["acc_pooled"](of_mean), grid, variable)


@golden.needs_golden
@pytest.mark.parametrize("grid", GRIDS)
def test_climatology_as_forecast(grid):
    for variable in golden.VARIABLES:
        _, truth, climatology = golden.fields(grid, variable)
        weights = region_weights(golden.grid_of(grid), REGIONS[:1])
        means = mean_over_inits(deterministic_statistics(climatology, truth, climatology, weights))
        wanted = golden.expected(grid, "weatherbench2")["climatology_forecast_mse"][variable]
        golden.assert_matches(METRICS["mse"](means)[:, 0], wanted)
        assert np.isnan(METRICS["acc"](means)).all()
        assert (METRICS["activity"](means) == 0).all()


@golden.needs_golden
def test_float32_fields_are_summed_in_float64():
    ensemble, truth, climatology = golden.fields("g1", "geopotential/500")
    weights = region_weights(golden.grid_of("g1"), REGIONS[:1])
    single = deterministic_statistics(
        ensemble[0].astype(np.float32), truth.astype(np.float32), climatology.astype(np.float32), weights
    )
    rmse = METRICS["rmse"](mean_over_inits(single))[:, 0]
    golden.assert_matches(rmse, golden.expected("g1", "weatherbench2")["rmse"]["geopotential/500"])


def test_statistics_combine_exactly_over_chunks():
    rng = np.random.default_rng(0)
    grid = Grid.gaussian(8)
    f, o, c = rng.normal(size=(3, 12, 3, *grid.shape))
    weights = region_weights(grid, GLOBAL_REGIONS)
    whole = deterministic_statistics(f, o, c, weights)
    parts = [deterministic_statistics(f[a:b], o[a:b], c[a:b], weights) for a, b in ((0, 5), (5, 6), (6, 12))]
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
        return METRICS["activity"](mean_over_inits(deterministic_statistics(forecast, truth, climatology, weights)))[0]

    assert activity(truth + 5.0) == pytest.approx(1.0, rel=1e-12)
    assert activity(0.6 * truth) == pytest.approx(0.6, rel=1e-12)


def test_a_regional_grid_has_one_region_and_extrapolated_edges():
    grid = Grid.from_arrays(np.arange(15.0, 76.0, 2.5), np.arange(200.0, 331.0, 2.5))
    assert [r.name for r in default_regions(grid)] == [WHOLE]
    weights = region_weights(grid, default_regions(grid))[0]
    assert weights.sum() == pytest.approx(1)
    cosine = np.cos(np.radians(grid.latitude))  # equal spacing: exact cell areas are proportional to the cosine
    np.testing.assert_allclose(weights.sum(axis=1), cosine / cosine.sum(), rtol=1e-12)


def test_region_across_greenwich_and_empty_region():
    grid = Grid.from_arrays(np.arange(-87.5, 90, 5.0), np.arange(0.0, 360.0, 5.0))
    europe = Region("europe", latitude=(35, 75), longitude=(347.5, 42.5))
    longitudes = np.asarray(grid.longitude)[europe.mask(grid).any(axis=0)]
    assert set(longitudes) == {350, 355, *range(0, 45, 5)}
    with pytest.raises(DataError, match="nowhere: no point"):
        region_weights(grid, [Region("nowhere", latitude=(1, 2))])


def test_metrics_ask_for_what_they_need():
    names = {m.name for m in computable(["squared_error", "error"])}
    assert names == {"mse", "rmse", "bias"}
