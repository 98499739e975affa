"""Evaluation from forecast files to the scores file: right numbers, right refusals, plain xarray."""

import dataclasses
import pickle
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import xarray as xr
from synthetic import ON_SIGMA, STEP, Noisy, World, evaluation_rows, lead_times, make_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from data_prep.preparation.store_writer import StoreWriter
from data_prep.spec import StateSpec, Variable
from emulator.config import EvaluateConfig
from emulator.evaluation.fields import Verification
from emulator.evaluation.maps import plot_maps
from emulator.evaluation.plots import plot_scores
from emulator.evaluation.report import write_report
from emulator.evaluation.report_fields import collect_fields
from emulator.evaluation.scores import check_config, evaluate
from emulator.evaluation.scores_file import open_scores
from emulator.evaluation.spectra import fine_scales, mean_power
from emulator.evaluation.table import format_table
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference

CONFIG = EvaluateConfig(bootstrap=300, headline=["geopotential@500", "2m_temperature"])
DAYS = 5


@pytest.fixture(scope="module")
def store():
    return make_store(days=30)


def write_all(store, folder, rows, leads):
    makers = {
        "network": Noisy(store, "network", 0.02, 0.2, blur=0.4),
        "physics_t21": Noisy(store, "physics_t21", 0.3, 0.1, seed=1),
        "persistence": make_reference("persistence", store, leads),
        "climatology": make_reference("climatology", store, leads),
    }
    for name, forecaster in makers.items():
        write_forecasts(forecaster, store.dataset(rows), leads, folder / f"{name}.nc", batch=16)
    return {name: folder / f"{name}.nc" for name in makers}


@pytest.fixture(scope="module")
def scored(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    paths = write_all(store, folder, evaluation_rows(store, DAYS), lead_times(DAYS))
    return evaluate(paths, store, CONFIG, folder / "scores.nc"), paths, folder / "scores.nc"


def test_scores_equal_a_calculation_by_hand(scored, store):
    scores, paths, _ = scored
    rows, leads = evaluation_rows(store, DAYS), lead_times(DAYS)
    forecast = xr.open_dataset(paths["physics_t21"])["temperature"].sel(level=850).values.astype(np.float64)
    steps = (leads // STEP).astype(int)
    truth = np.stack([store.state[r + steps][..., 1] for r in rows]).astype(np.float64)
    climate = np.stack([store.climatology.at(store.times[r] + leads)[..., 1] for r in rows]).astype(np.float64)
    w = store.grid.latitude_weights[:, None] / np.prod(store.grid.shape)

    def area(x):
        return (w * x).sum(axis=(-1, -2))

    mine = scores.sel(forecaster="physics_t21", variable="temperature@850", region="all")
    error = forecast - truth
    np.testing.assert_allclose(mine["rmse"], np.sqrt(area(error**2).mean(0)), rtol=1e-10)
    np.testing.assert_allclose(mine["bias"], area(error).mean(0), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(mine["mae"], area(np.abs(error)).mean(0), rtol=1e-10)
    fa, oa = forecast - climate, truth - climate
    correlation = area(fa * oa) / np.sqrt(area(fa**2) * area(oa**2))
    np.testing.assert_allclose(mine["acc"], correlation.mean(0), rtol=1e-10)
    of_both = [area(f**2).mean(0) - (area(f) ** 2).mean(0) for f in (fa, oa)]
    np.testing.assert_allclose(mine["activity"], np.sqrt(of_both[0] / of_both[1]), rtol=1e-8)
    power = [mean_power(field, store.grid).mean(axis=0) for field in (forecast, truth)]
    np.testing.assert_allclose(mine["forecast_power"], power[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mine["truth_power"], power[1], rtol=1e-4, atol=1e-6)
    of_both = [of_one[:, fine_scales(store.grid)].sum(axis=-1) for of_one in power]
    np.testing.assert_allclose(mine["fine_scale_ratio"], np.sqrt(of_both[0] / of_both[1]), rtol=1e-4)
    by_area = np.broadcast_to(w, fa[:, 0].shape).ravel()
    for kind, anomaly in (("forecast", fa), ("truth", oa)):
        for lead in (0, leads.size - 1):
            some, levels = anomaly[:, lead].ravel(), mine["quantile"].values
            expected = np.quantile(some, levels, weights=by_area, method="inverted_cdf")
            np.testing.assert_allclose(mine[f"{kind}_quantile"][lead], expected, atol=0.15 * some.std())
    np.testing.assert_allclose(mine["squared_error"].transpose("init_time", ...), area(error**2), rtol=1e-10)


def test_blocks_of_initial_times_change_nothing(store, tmp_path, monkeypatch):
    paths = write_all(store, tmp_path, evaluation_rows(store, DAYS)[::4], lead_times(DAYS))
    scores = evaluate(paths, store, CONFIG, tmp_path / "whole.nc")
    monkeypatch.setattr("emulator.evaluation.scoring._BLOCK_BYTES", 40_000)  # 8, 8 and 4 leads of one
    monkeypatch.setattr("emulator.evaluation.scoring._TRUTH_BYTES", 50_000)
    monkeypatch.setattr("emulator.evaluation.scoring._TASK_INITS", 5)
    again = evaluate(paths, store, CONFIG, tmp_path / "s.nc")
    for name in (
        "rmse",
        "acc",
        "activity",
        "forecast_power",
        "truth_quantile",
        "truth_power",
        "rmse_lower",
        "crossover_hours",
    ):
        np.testing.assert_allclose(again[name], scores[name], rtol=1e-10, atol=1e-12)


def test_the_file_is_what_was_returned_and_plain(scored):
    scores, _, path = scored
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = xr.load_dataset(path)
    xr.testing.assert_allclose(read, scores)
    assert read["lead_time"].dtype == np.dtype("timedelta64[ns]")
    assert read["variable"].values.tolist() == [
        "temperature@500",
        "temperature@850",
        "geopotential@500",
        "2m_temperature",
    ]
    assert read["units"].values.tolist() == ["K", "K", "m2 s-2", "K"]
    assert set(read["trajectory"].values.tolist()) == {"member_002", "member_003"}
    assert read.attrs["climatology"] == "seasonal_trend" and read.attrs["data_hash"]
    assert read["squared_error"].dims == ("forecaster", "variable", "lead_time", "init_time", "region")
    belts = ["all", "tropics", "northern_extratropics", "southern_extratropics"]
    assert read["region"].values.tolist() == [*belts, "europe", "north_america"]
    assert (read["simulated_days_per_second"] > 0).all()


def test_what_is_known_of_the_forecasters_shows(scored):
    scores = scored[0].sel(region="all")
    rmse = scores["rmse"]
    inside = (scores["rmse_lower"] <= rmse) & (rmse <= scores["rmse_upper"])
    assert inside.all()
    # climatology has no anomaly: neither activity nor correlation; persistence has the truth's
    assert (scores["activity"].sel(forecaster="climatology") == 0).all()
    assert scores["acc"].sel(forecaster="climatology").isnull().all()
    assert abs(scores["activity"].sel(forecaster="persistence").mean() - 1) < 0.1
    # a network with 0.02 + 0.2 per day against physics with 0.3 + 0.1 per day crosses at 2.8 days
    pair = scores.sel(forecaster="network", reference="physics_t21")
    assert (pair["crossover_outcome"] == "crossover").all()
    assert (pair["crossover_from_first_lead"] == 1).all()
    assert (abs(pair["crossover_hours"] / 24 - 2.8) < 0.4).all(), pair["crossover_hours"].values / 24
    assert (
        (pair["crossover_lower"] <= pair["crossover_hours"]) & (pair["crossover_hours"] <= pair["crossover_upper"])
    ).all()
    # the comparison the other way round is its mirror image
    mirror = scores.sel(forecaster="physics_t21", reference="network")
    np.testing.assert_allclose(mirror["rmse_difference"], -pair["rmse_difference"])
    np.testing.assert_allclose(mirror["rmse_difference_lower"], -pair["rmse_difference_upper"])
    np.testing.assert_allclose(mirror["rmse_ratio"] * pair["rmse_ratio"], 1.0)
    assert (scores.sel(forecaster="network", reference="network")["crossover_outcome"] == "").all()
    # fine scales are there on the whole grid alone
    assert scored[0]["fine_scale_ratio"].sel(region="tropics").isnull().all()
    assert (scores["fine_scale_ratio"].sel(forecaster=["network", "physics_t21"]) > 0).all()


def test_an_ensemble_is_scored_with_its_mean_and_as_an_ensemble(scored, store, tmp_path):
    _, paths, _ = scored
    single = xr.load_dataset(paths["network"])
    members = xr.concat([single, single + 1.0, single - 1.0], "realization").assign_attrs(single.attrs)
    members.transpose("init_time", "lead_time", "realization", ...).to_netcdf(tmp_path / "ensemble.nc")
    scores = evaluate({"network": paths["network"], "ens": tmp_path / "ensemble.nc"}, store, CONFIG, tmp_path / "s.nc")
    scores = scores.sel(region="all")
    np.testing.assert_allclose(*(scores["rmse"].sel(forecaster=n) for n in ("ens", "network")), rtol=1e-5)
    np.testing.assert_allclose(scores["ensemble_spread"].sel(forecaster="ens"), 1.0, rtol=1e-3)
    assert (scores["crps_fair"].sel(forecaster="ens") < scores["mae"].sel(forecaster="ens")).all()
    # fine scales in which members differ are not its mean's, whose error and activity stand beside them
    wave = 0.01 * np.cos(np.radians(fine_scales(store.grid).stop * single["longitude"]))
    members = xr.concat([single * (1 + wave), single * (1 - wave)], "realization").assign_attrs(single.attrs)
    members.transpose("init_time", "lead_time", "realization", ...).to_netcdf(tmp_path / "waves.nc")
    scores = evaluate({"network": paths["network"], "ens": tmp_path / "waves.nc"}, store, CONFIG, tmp_path / "w.nc")
    ens, network = (scores.sel(forecaster=n, region="all") for n in ("ens", "network"))
    np.testing.assert_allclose(ens["fine_scale_ratio"], network["fine_scale_ratio"], rtol=1e-3)
    assert (ens["forecast_power"].sum("wavenumber") > 1.01 * network["forecast_power"].sum("wavenumber")).all()
    assert scores["crps_fair"].sel(forecaster="network").isnull().all()


def refused(match, paths, store, tmp_path, config=CONFIG):
    with pytest.raises(DataError, match=match) as caught:
        evaluate(paths, store, config, tmp_path / "scores.nc")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*scores*"))


def test_a_hole_of_some_days_parts_no_trajectories(store):
    """What lies on its two sides is as alike as if there were none; two members are not."""
    member = store.segments[2]
    middle = (member.start + member.stop) // 2
    first = replace(member, stop=middle - 8, last_time=store.times[middle - 9])
    second = replace(member, name="after", start=middle, first_time=store.times[middle])
    holed = dataclasses.replace(store, segments=[*store.segments[:2], first, second, store.segments[3]])
    rows = np.array([first.start, first.start + 4, second.start, store.segments[3].start])
    verification = Verification(holed, store.times[rows], lead_times(1), ())
    assert [s.name for s in verification.segments] == ["member_002", "member_002", "after", "member_003"]
    assert verification.trajectories == ["member_002", "member_002", "member_002", "member_003"]


def test_refusals(scored, store, tmp_path):
    _, paths, _ = scored
    data = xr.load_dataset(paths["network"])

    def variant(name, changed):
        changed.to_netcdf(tmp_path / f"{name}.nc")
        return {"physics_t21": paths["physics_t21"], name: tmp_path / f"{name}.nc"}

    refused("init times .* differ", variant("fewer", data.isel(init_time=slice(1, None))), store, tmp_path)
    refused("lead times .* differ", variant("leads", data.isel(lead_time=slice(0, 8))), store, tmp_path)
    shifted = data.assign_coords(latitude=data["latitude"] + 0.5)
    refused("its grid .* is not the truth's", variant("shifted", shifted), store, tmp_path)
    refused("is on levels", variant("levels", data.assign_coords(level=[500.0, 700.0])), store, tmp_path)
    hole = data.copy(deep=True)
    hole["temperature"][3, 2, 0, 1, 1] = np.nan
    holes = (
        r"hole.nc: temperature@500 holds NaN or infinity at \S+ % of the points, first from {} at {} h; scores would"
    )
    when = str(data["init_time"].values[3])[:13]
    remedy = r" be meaningless; where the same points are always missing, evaluate.mask leaves them out$"
    refused(holes.format(when, 18) + remedy, variant("hole", hole), store, tmp_path)
    hole["temperature"][3, 2] = np.nan
    refused(
        rf"NaN or infinity at all points, first from {when} at 18 h; .*; the whole field is missing: take that "
        r"initial time out of the file \(evaluate.missing",
        variant("hole", hole),
        store,
        tmp_path,
    )
    refused("2m_temperature cannot be scored", variant("lacks", data.drop_vars("2m_temperature")), store, tmp_path)
    validation = CONFIG.model_copy(update={"split": "validation"})
    refused("start in the test split", {"network": paths["network"]}, store, tmp_path, validation)
    late = data.assign_coords(init_time=data["init_time"] + np.timedelta64(20, "D"))
    late.to_netcdf(tmp_path / "late.nc")
    refused("no truth", {"late": tmp_path / "late.nc"}, store, tmp_path)
    refused("no forecast files", {}, store, tmp_path)


def test_a_variable_that_one_lacks_is_scored_for_the_others_and_said(scored, store, tmp_path, caplog):
    _, paths, _ = scored
    xr.load_dataset(paths["network"]).drop_vars("temperature").to_netcdf(tmp_path / "network.nc")
    both = {"network": tmp_path / "network.nc", "physics_t21": paths["physics_t21"]}
    scores = evaluate(both, store, CONFIG, tmp_path / "scores.nc").sel(region="all")
    assert "forecasts of network lack temperature@500, temperature@850" in caplog.text
    rmse = scores["rmse"].sel(variable=["temperature@500", "temperature@850"])
    assert rmse.sel(forecaster="network").isnull().all() and (rmse.sel(forecaster="physics_t21") > 0).all()
    pair = scores.sel(forecaster="network", reference="physics_t21")
    assert pair["crossover_outcome"].values.tolist() == ["not scored", "not scored", "crossover", "crossover"]
    for name in ("forecast_power", "forecast_quantile"):
        absent = scores[name].sel(forecaster="network").isnull().all(["lead_time", scores[name].dims[-1]])
        assert absent.values.tolist() == [True, True, False, False], name


def test_truth_and_forecasts_on_sigma_go_through_one_function(tmp_path):
    store = make_store(Grid.gaussian(6), days=12, splits=("train", "test"), world=ON_SIGMA)
    rows, leads = evaluation_rows(store, 2), lead_times(2)
    steps = (leads // STEP).astype(int)
    perfect = xr.concat(
        [store.dataset(r + steps).rename(time="lead_time").assign_coords(lead_time=leads) for r in rows], "init_time"
    )
    perfect.assign_coords(init_time=store.times[rows]).to_netcdf(tmp_path / "perfect.nc")
    # the same state over another surface is another sea-level pressure: what the file says about its surface counts
    surface = store.surface_geopotential
    for name, height in (("low", surface), ("high", surface + 500.0)):
        reference = make_reference("climatology", store, leads)
        write_forecasts(reference, store.dataset(rows), leads, tmp_path / f"{name}.nc", surface_geopotential=height)
    config = CONFIG.model_copy(update={"headline": ["mean_sea_level_pressure", "geopotential@500"]})
    paths = {name: tmp_path / f"{name}.nc" for name in ("perfect", "low", "high")}
    scores = evaluate(paths, store, config, tmp_path / "scores.nc").sel(region="all")
    assert {"temperature@850", "geopotential@500", "mean_sea_level_pressure", "surface_pressure"} <= set(
        scores["variable"].values.tolist()
    )
    assert (scores["rmse"].sel(forecaster="perfect") == 0).all()
    assert (scores["forecast_anomaly_squared"].sel(forecaster="low") == 0).all()
    pressure = scores["bias"].sel(variable="mean_sea_level_pressure")
    np.testing.assert_allclose(pressure.sel(forecaster="high") - pressure.sel(forecaster="low"), 630, atol=60)
    assert scores["units"].sel(variable="mean_sea_level_pressure") == "Pa"
    bare = dataclasses.replace(store, spec=StateSpec(store.spec.with_role("prognostic"), "sigma"))
    refused("without geopotential_at_surface", {"perfect": paths["perfect"]}, bare, tmp_path / "none", config)


def test_regional_grid_without_spectra(tmp_path):
    grid = Grid.from_arrays(np.arange(15.0, 76.0, 7.5), np.arange(200.0, 331.0, 10.0))
    store = make_store(grid, days=20, splits=("train", "test"))
    rows, leads = evaluation_rows(store, 2), lead_times(2)
    paths = {}
    for name in ("persistence", "climatology"):
        paths[name] = tmp_path / f"{name}.nc"
        write_forecasts(make_reference(name, store, leads), store.dataset(rows), leads, paths[name])
    scores = evaluate(paths, store, CONFIG, tmp_path / "scores.nc")
    assert "fine_scale_ratio" not in scores and scores["region"].values.tolist() == ["all"]
    first = scores["rmse"].isel(lead_time=0)
    assert (first.sel(forecaster="persistence") < first.sel(forecaster="climatology")).all()


@pytest.mark.parametrize(("days", "warned"), [(2, False), (1, True)])
def test_a_gap_that_is_shorter_than_the_longest_lead_is_warned_of(store, days, warned, tmp_path, caplog):
    """Test data that begin so many days behind training data, and leads to 42 h."""
    train, test = store.segments[0], store.segments[2]
    later = dataclasses.replace(test, first_time=train.last_time + np.timedelta64(24 * days, "h"))
    later = dataclasses.replace(later, last_time=later.first_time + (len(test) - 1) * STEP)
    times = store.times.copy()
    times[test.start : test.stop] = later.first_time + np.arange(len(test)) * STEP
    near = dataclasses.replace(store, times=times, segments=(train, later), digests=np.empty((0, 0), np.uint8))
    leads = lead_times(2)[:7]
    write_forecasts(make_reference("persistence", near, leads), near.dataset([test.start]), leads, tmp_path / "f.nc")
    scores = evaluate({"persistence": tmp_path / "f.nc"}, near, CONFIG, tmp_path / "scores.nc")
    assert scores.attrs["gap_hours"] == 24 * days
    check_config(near, CONFIG, near.times[[test.start]], leads)  # a run asks before it trains and before it scores
    said = f"lies {24 * days} h from data for train, less than the longest lead (42 h)"
    assert caplog.text.count(said) == warned


def test_wind_speed_is_scored_without_a_climatology(tmp_path):
    """The speed of mean winds is not the mean speed: about it a forecast without any skill would correlate."""
    winds = tuple(Variable(f"{c}_component_of_wind", "prognostic", (850.0,), "m s-1") for c in "uv")
    world = World(StateSpec(winds, "pressure"), np.array([2, 0], np.float32), np.array([6, 6], np.float32))
    store = make_store(Grid.gaussian(8), days=15, splits=("train", "test"), world=world)
    rows, leads, paths = evaluation_rows(store, 2), lead_times(2), {}
    for name in ("anomaly_persistence", "persistence", "climatology", "damped_anomaly_persistence"):
        paths[name] = tmp_path / f"{name}.nc"
        write_forecasts(make_reference(name, store, leads), store.dataset(rows), leads, paths[name])
    config = EvaluateConfig(bootstrap=50, derived=["wind_speed", "vorticity"], headline=["wind_speed@850"])
    evaluate(paths, store, config, tmp_path / "scores.nc").close()
    scores = open_scores(tmp_path / "scores.nc")
    speed = scores.sel(variable="wind_speed@850")
    scored, unscored = ["anomaly_persistence", "persistence"], ["climatology", "damped_anomaly_persistence"]
    assert (speed["rmse"].sel(forecaster=scored, region="all") > 0).all()
    assert speed["rmse"].sel(forecaster=unscored).isnull().all()  # whose opposite winds have cancelled
    for name in ("acc", "acc_pooled", "activity", "prediction_activity", "forecast_quantile", "truth_quantile"):
        assert speed[name].isnull().all(), name
    others = config.model_copy(update={"forecasts": {"physics_ifs_damped": ""}})  # known by its name alone
    paths_of_others = {"network": paths["persistence"], "physics_ifs_damped": paths["persistence"]}
    theirs = evaluate(paths_of_others, store, others.model_copy(update={"headline": []}), tmp_path / "theirs.nc")
    damped = theirs["rmse"].sel(region="all", forecaster="physics_ifs_damped")
    assert damped.sel(variable="wind_speed@850").isnull().all() and damped.sel(variable="vorticity@850").notnull().all()
    of_vorticity = scores.sel(variable="vorticity@850", region="all")
    assert (of_vorticity["rmse"] > 0).all() and of_vorticity["acc"].sel(forecaster=scored).notnull().all()
    assert "Wind speed 850" in format_table(scores)
    assert plot_scores(scores, tmp_path / "plots")
    shown = {"persistence": paths["persistence"]}
    assert plot_maps(shown, store, config, "wind_speed@850", tmp_path / "map.png", scores).exists()
    fields = collect_fields(scores.assign_attrs(headline="wind_speed@850 vorticity@850"), paths, store)
    assert fields.variables == ("vorticity@850",)
    page = write_report(scores, tmp_path / "report.html", fields=collect_fields(scores, paths, store))
    assert "Wind speed 850" in page.read_text(encoding="utf-8")


def test_workers_give_the_same_scores(scored, store, tmp_path):
    """From a store on disk: each worker is sent its path and reads for itself."""
    scores, paths, _ = scored
    writer = StoreWriter.create(tmp_path / "store.zarr", store.spec, store.grid, store.times)
    writer.write(0, store.state, store.persisted)
    parts = {
        name: getattr(store, name)
        for name in ("spec", "grid", "timestep", "segments", "static", "statistics", "climatology", "forcing_builder")
    }
    writer.finish(**parts, config_hash="")
    on_disk = open_store(tmp_path / "store.zarr")
    assert len(pickle.dumps(on_disk)) < 1000 < len(pickle.dumps(store))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        again = evaluate(paths, on_disk, CONFIG, tmp_path / "scores.nc", executor=pool)
    for name, values in scores.data_vars.items():
        np.testing.assert_array_equal(again[name].values, values.values, err_msg=str(name))
    (tmp_path / "store.zarr" / "manifest.json").unlink()
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(DataError, match="a worker died"),
    ):
        evaluate(paths, on_disk, CONFIG, tmp_path / "scores.nc", executor=pool)


def test_a_worker_that_a_cluster_lost_is_one_line(scored, store, tmp_path):
    class KilledWorker(Exception):
        pass

    class Cluster(Executor):
        def submit(self, *_):
            future = Future()
            future.set_exception(KilledWorker("score-1: attempted on 4 workers"))
            return future

    with pytest.raises(DataError, match=r"^evaluate: a worker died"):
        evaluate(scored[1], store, CONFIG, tmp_path / "scores.nc", executor=Cluster())


def test_a_mask_takes_points_out_and_allows_holes_there(scored, store, tmp_path):
    scores, paths, _ = scored
    mask = np.ones(store.grid.shape)
    mask[:, 5] = 0
    coords = {"latitude": list(store.grid.latitude), "longitude": list(store.grid.longitude)}
    xr.Dataset({"mask": (("latitude", "longitude"), mask)}, coords).to_netcdf(tmp_path / "mask.nc")
    data = xr.load_dataset(paths["network"])
    spoilt = data.copy(deep=True)
    for name in spoilt.data_vars:
        spoilt[name][..., 5] = np.nan
    spoilt.to_netcdf(tmp_path / "spoilt.nc")
    config = CONFIG.model_copy(update={"mask": str(tmp_path / "mask.nc")})
    both = {"network": paths["network"], "spoilt": tmp_path / "spoilt.nc"}
    masked = evaluate(both, store, config, tmp_path / "scores.nc")
    assert "fine_scale_ratio" not in masked
    np.testing.assert_array_equal(masked["mask"], mask)
    for name in ("rmse", "bias", "acc", "activity", "forecast_quantile"):
        one, other = (masked[name].sel(forecaster=f).values for f in both)
        np.testing.assert_array_equal(one, other)
    change = masked["rmse"].sel(forecaster="network") / scores["rmse"].sel(forecaster="network") - 1
    assert 0 < np.abs(change).max() < 0.2


def test_distributions_tell_blur(scored, store):
    scores = scored[0]
    power = scores["forecast_power"] / scores["truth_power"]
    wave = scores["truth_power"].isel(lead_time=-1, variable=0).argmax("wavenumber").item()
    last = power.isel(lead_time=-1, wavenumber=wave).mean("variable")
    assert last.sel(forecaster="climatology") < 0.2 < 0.8 < last.sel(forecaster="persistence") < 1.25
    truth = scores["truth_power"].sel(variable="temperature@500")
    rows = evaluation_rows(store, DAYS) + 1
    field = np.stack([store.state[r][..., 0] for r in rows])
    np.testing.assert_allclose(truth.isel(lead_time=0), mean_power(field, store.grid).mean(axis=0), rtol=1e-5)
    reach = scores["forecast_quantile"] / scores["truth_quantile"]
    tails = reach.sel(quantile=[0.001, 0.999]).isel(lead_time=-1).mean(["variable", "quantile"])
    assert tails.sel(forecaster="climatology") < 0.05 and abs(tails.sel(forecaster="persistence") - 1) < 0.2
    anomaly = np.stack([store.state[r][..., 3] - store.climatology.at(store.times[r : r + 1])[0, ..., 3] for r in rows])
    weights = np.broadcast_to(store.grid.latitude_weights[:, None], anomaly.shape)
    order = np.argsort(anomaly, axis=None)
    cumulated = np.cumsum(weights.ravel()[order]) / weights.sum()
    wanted = anomaly.ravel()[order][np.searchsorted(cumulated, [0.01, 0.99])]
    found = scores["truth_quantile"].sel(variable="2m_temperature", quantile=[0.01, 0.99]).isel(lead_time=0)
    np.testing.assert_allclose(found, wanted, rtol=0.02)


def test_a_climatology_below_what_is_possible_has_no_anomaly_either(tmp_path):
    """Fitted harmonics may ask for less than no rain; anomalies are from what climatology forecasts."""
    store = make_store(days=12)
    (channel,) = (i for i, c in enumerate(store.spec.state_channels) if c.name == "2m_temperature")
    warm = np.float32(store.state[..., channel].min() - 1.0)
    variables = tuple(
        replace(v, minimum=float(warm)) if v.name == "2m_temperature" else v for v in store.spec.variables
    )
    table = np.array(store.climatology.table)
    table[0, : table.shape[1] // 2, :, channel] -= 100
    store = replace(
        store,
        spec=replace(store.spec, variables=variables),
        climatology=replace(store.climatology, table=table),
    )
    rows, leads = evaluation_rows(store, 3), lead_times(2)
    write_forecasts(
        make_reference("climatology", store, leads), store.dataset(rows), leads, tmp_path / "climatology.nc"
    )
    config = EvaluateConfig(bootstrap=20, headline=["2m_temperature"])
    scores = evaluate({"climatology": tmp_path / "climatology.nc"}, store, config, tmp_path / "scores.nc")
    found = scores.sel(variable="2m_temperature", region="all", forecaster="climatology")
    assert (found["activity"] == 0).all() and found["acc"].isnull().all()


def test_no_forecast_is_verified_beyond_the_end_of_its_segment(store):
    whole = store.segments[2]
    middle = (whole.start + whole.stop) // 2
    first = replace(whole, stop=middle, last_time=store.times[middle - 1])
    second = replace(whole, name="after", start=middle, first_time=store.times[middle])
    parted = replace(store, segments=(*store.segments[:2], first, second, store.segments[3]))
    with pytest.raises(DataError, match="do not lie within one segment"):
        _ = Verification(parted, store.times[[middle - 2]], lead_times(1), ()).rows


def test_a_hole_of_some_days_parts_no_long_trajectory():
    store = make_store(Grid.gaussian(4), days=45, splits=("train", "test"))
    whole = store.segments[1]
    first = replace(whole, stop=whole.stop - 16, last_time=store.times[whole.stop - 17])
    second = replace(whole, name="after", start=whole.stop - 8, first_time=store.times[whole.stop - 8])
    holed = replace(store, segments=(store.segments[0], first, second))
    verification = Verification(holed, store.times[[first.start, second.start]], lead_times(1), ())
    assert verification.trajectories == ["member_001", "member_001"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_gap_to_what_is_learned_from_later_begins_at_the_last_lead(store, split, tmp_path):
    far, moved, test = store.segments[1], store.segments[0], store.segments[2]
    times = store.times.copy()
    times[moved.start : moved.stop] = test.last_time + 3 * np.timedelta64(1, "D") + np.arange(len(moved)) * STEP
    ends = {"first_time": times[moved.start], "last_time": times[moved.stop - 1]}
    segments = (far, replace(moved, split=split, **ends), test)
    near = replace(store, times=times, segments=segments, digests=np.empty((0, 0), np.uint8))
    leads, rows = lead_times(2), [test.stop - 9]
    write_forecasts(make_reference("persistence", near, leads), near.dataset(rows), leads, tmp_path / "f.nc")
    assert evaluate({"persistence": tmp_path / "f.nc"}, near, CONFIG, tmp_path / "s.nc").attrs["gap_hours"] == 72


def test_spectra_and_quantiles_of_an_ensemble_are_those_of_all_its_members(scored, store, tmp_path):
    two = [xr.load_dataset(scored[1][name]) for name in ("network", "persistence")]
    for name, members in (("one", two), ("other", two[::-1])):
        both = xr.concat(members, "realization", combine_attrs="override").assign_attrs(two[0].attrs)
        both.transpose("init_time", "lead_time", "realization", ...).to_netcdf(tmp_path / f"{name}.nc")
    paths = {name: tmp_path / f"{name}.nc" for name in ("one", "other")}
    found = evaluate(paths, store, CONFIG, tmp_path / "scores.nc")
    mean = scored[0]["forecast_power"].sel(forecaster=["network", "persistence"]).mean("forecaster")
    np.testing.assert_allclose(found["forecast_power"].sel(forecaster="one"), mean, rtol=1e-5)
    np.testing.assert_allclose(*(found["forecast_quantile"].sel(forecaster=n) for n in paths), rtol=1e-6)
