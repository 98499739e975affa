"""The comparison of an experiment: who takes part, in which order, what a kill leaves, what scores are told."""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import Noisy, make_store

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.disk import discard
from data_prep.grid import Grid
from data_prep.preparation.climatology import Season
from emulator import checkpoint, speedy_facts
from emulator.config import EvaluateConfig, parse_config
from emulator.experiment import comparing, competitors, contest, forecast_files, stages
from emulator.experiment.contest import Contest
from emulator.experiment.initial_times import initial_indices, training_indices
from emulator.forecasters import physics_start
from emulator.forecasters.ensemble import EnsembleForecaster

ALL = [
    *("network", "network_ensemble", "physics_t21", "physics_t21_ensemble", "physics_t31"),
    *("network_debiased", "network_damped"),
    *("physics_t21_debiased", "physics_t21_damped", "physics_t31_debiased", "physics_t31_damped"),
    *("twin_t42", "twin_t42_ensemble", "twin_t42_restarted_12h"),
    *("persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology"),
]


def raw_config(tmp_path, **evaluate):
    return {
        "name": "x",
        "workdir": str(tmp_path),
        "simulate": {"truncation": 42},
        "data": {
            "inputs": ["a.nc"],
            "prognostic": {"temperature": {}},
            "split": {"segments": {"validation": [2], "test": [3]}},
        },
        "train": {"stages": [{"steps": 1}]},
        "evaluate": {
            **{"lead_hours": 24, "init_every_hours": 24, "bootstrap": 50, "correction_inits": 6, "batch": 4},
            "network": {"members": 3},
            "physics": [{"truncation": 21, "members": 2}, {"truncation": 31}],
            "twin": {"members": 4, "restart_hours": [12]},
            **evaluate,
        },
    }


def config_of(tmp_path, **evaluate):
    return parse_config(raw_config(tmp_path, **evaluate))


@pytest.fixture
def made(monkeypatch):
    """Stands in for network and physics by noisy truths; notes who was made, and keeps the store in memory."""
    store = make_store(Grid.gaussian(8), days=12)
    names: list[str] = []

    def noisy(name, level):
        names.append(name)
        return Noisy(store, name, level, 0.1)

    monkeypatch.setattr(contest, "open_store", lambda path: store)
    monkeypatch.setattr(checkpoint, "load_forecaster", lambda run: noisy("network", 0.05))
    monkeypatch.setattr(
        competitors, "_physics", lambda store, b: noisy(competitors.physics_name(b), 4.0 / b.truncation)
    )
    monkeypatch.setattr(competitors, "_twin", lambda config, store: noisy(competitors.twin_name(config), 0.02))
    monkeypatch.setattr(competitors, "check_store", lambda *given: None)  # SPEEDY has no grid as coarse
    return store, names


def test_everybody_takes_part_in_the_order_of_tables(made, tmp_path):
    store, names = made
    config = config_of(tmp_path, forecasts={"ifs": "elsewhere/ifs.zarr"})
    paths = comparing.forecast_paths(Contest(config, store))
    assert list(paths) == [*ALL, "ifs"]
    assert paths["ifs"] == Path("elsewhere/ifs.zarr")
    assert paths["physics_t21_damped"] == tmp_path / "forecasts" / "physics_t21_damped.nc"
    assert names == []  # nothing is built to find that out
    few = {"network": {"members": 1}, "physics": [{"truncation": 21}], "twin": None, "references": ["climatology"]}
    plain = config_of(tmp_path, correction_inits=0, **few)
    assert list(comparing.forecast_paths(Contest(plain, store))) == ["network", "physics_t21", "climatology"]
    without_members = config_of(tmp_path, twin={"members": 1})
    assert "twin_t42_ensemble" not in comparing.forecast_paths(Contest(without_members, store))


def test_all_files_are_written_once_and_scored(made, tmp_path, monkeypatch):
    store, names = made
    config = config_of(tmp_path)
    comparing.write_all_forecasts(config)
    folder = tmp_path / "forecasts"
    assert {p.stem for p in folder.glob("*.nc")} == set(ALL)
    assert sorted(p.stem for p in (folder / "training").iterdir()) == ["network", "physics_t21", "physics_t31"]
    files = {name: xr.open_dataset(folder / f"{name}.nc") for name in ALL}
    days = np.arange(11) * np.timedelta64(1, "D")  # of twelve, the last of which no forecast could end in
    once_a_day = np.concatenate([s.first_time + days for s in store.segments if s.split == "test"])
    for name, file in files.items():
        assert file.attrs["forecaster"] == name and file.attrs["data_hash"] == store.data_hash
        np.testing.assert_array_equal(file["init_time"], once_a_day)
        np.testing.assert_array_equal(file["lead_time"], np.array([6, 12, 18, 24], "timedelta64[h]"))
        assert ("realization" in file.dims) == name.endswith("ensemble")
    assert files["twin_t42_ensemble"].sizes["realization"] == 4
    assert files["network_ensemble"].sizes["realization"] == 3
    cost = "seconds_per_simulated_day"
    assert files["physics_t31_damped"].attrs[cost] == files["physics_t31"].attrs[cost]
    training = xr.open_dataset(folder / "training" / "physics_t21.nc")["init_time"].values
    assert training.size == 6 and training.max() < store.segments[2].first_time

    # what is there is kept: a kill costs the file that was being written, and no other
    (folder / "physics_t31_damped.nc").unlink()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.nc")}
    names.clear()
    comparing.write_all_forecasts(config)
    assert names == [] and (folder / "physics_t31_damped.nc").exists()  # not even the model is built again
    assert before == {p: p.stat().st_mtime_ns for p in before}

    # what comes from the network's forecasts is known as such, to be removed with it
    for path in forecast_files.files_of_network(tmp_path):
        discard(path)
    assert not list(folder.rglob("*network*"))
    forecasting = stages.stage_named("forecast")
    assert forecasting.outdated(config) is None  # no store, nothing to be made from
    (tmp_path / "store.zarr").mkdir()
    why = forecasting.outdated(config)
    assert why == "no forecasts of network, network_ensemble, network_debiased, network_damped"
    comparing.write_all_forecasts(config)
    assert names == ["network"] * 3 and forecasting.outdated(config) is None

    few = config_of(tmp_path, correction_inits=0, references=["persistence"])
    comparing.score_all_forecasts(few)
    scores = xr.load_dataset(tmp_path / "scores.nc")
    assert scores["forecaster"].values.tolist() == [name for name in ALL[:15] if "_d" not in name]
    assert scores.attrs["truth"] == "nature run SPEEDY T42"
    assert scores.attrs["predictability_limit"] == "twin_t42_ensemble"
    rmse = scores["rmse"].sel(variable="temperature@850", region="all").isel(lead_time=0)
    assert rmse.sel(forecaster="twin_t42") < rmse.sel(forecaster="physics_t31") < rmse.sel(forecaster="physics_t21")


@pytest.mark.parametrize(("most", "days"), [(None, range(11)), (3, [0, 5, 10])])
def test_starts_are_spread_over_the_split_as_far_as_forecasts_from_them_lie_in_it(most, days):
    store = make_store(Grid.gaussian(4), days=12, splits=("train", "test"))
    config = EvaluateConfig(lead_hours=24, init_every_hours=24, max_inits=most)
    test = store.segments[1]
    expected = test.first_time + np.array(days) * np.timedelta64(1, "D")
    np.testing.assert_array_equal(store.times[initial_indices(store, config)], expected)


def test_what_would_end_a_comparison_is_found_before_training(made, tmp_path, monkeypatch):
    store, names = made
    config = config_of(tmp_path, **SMALL, long_run={"days": 360})
    comparing.check_comparison(config)
    assert names == []  # SPEEDY is not built for it, and the network is not there yet
    with pytest.raises(ConfigError, match="7 h is no multiple of the store's 6 h"):
        comparing.check_comparison(config_of(tmp_path, **SMALL, long_run={"every_hours": 7}))
    anomalies = {**raw_config(tmp_path, **SMALL, long_run={"days": 360})}
    anomalies["train"] = {"stages": [{"steps": 1}], "anomalies": True}
    summer = dataclasses.replace(store.climatology, kind="seasonal_trend", season=Season(180.0, 60.0))
    monkeypatch.setattr(contest, "open_store", lambda path: dataclasses.replace(store, climatology=summer))
    comparing.check_comparison(config)  # the climatology drives nothing
    with pytest.raises(DataError, match="training data cover 120 days of the year"):
        comparing.check_comparison(parse_config(anomalies))
    one_member = make_store(Grid.gaussian(8), days=12, splits=("train", "test"))
    monkeypatch.setattr(contest, "open_store", lambda path: one_member)
    with pytest.raises(DataError, match="no two training states of the season and hour"):
        comparing.check_comparison(config_of(tmp_path, **{**SMALL, "network": {"members": 2}}))


@pytest.mark.parametrize(
    ("jcm", "said"), [(None, "the physics model needs jcm"), (True, "a grid of 16 x 8 .* expected a Gaussian grid")]
)
def test_a_baseline_that_cannot_start_is_found_before_training(made, tmp_path, monkeypatch, jcm, said):
    monkeypatch.setattr(competitors, "check_store", physics_start.check_store)
    monkeypatch.setattr(speedy_facts, "find_spec", lambda name: jcm)
    with pytest.raises(DataError if jcm else ConfigError, match=said):
        comparing.check_comparison(config_of(tmp_path, **SMALL))


@pytest.mark.parametrize(
    ("reference", "rows", "said"),
    [
        ("damped_anomaly_persistence", 4, "0 training forecasts of 24 h .* spans 18 h; shorten evaluate.lead_hours"),
        ("linear_pcs", 11, "7 training forecasts of 24 h are too few, it needs 8, .* leave it out of evaluate.refer"),
        ("persistence", 4, "evaluate.correction_inits: no training segment holds a forecast of 24 h"),
        ("climatology", 5, None),
    ],
)
def test_training_data_shorter_than_a_forecast_are_found_before_training(
    made, tmp_path, monkeypatch, reference, rows, said
):
    store, names = made
    first = store.segments[0]
    short = dataclasses.replace(first, stop=first.start + rows, last_time=store.times[first.start + rows - 1])
    tests = tuple(s for s in store.segments if s.split == "test")
    monkeypatch.setattr(contest, "open_store", lambda path: dataclasses.replace(store, segments=(short, *tests)))
    config = config_of(tmp_path, **{**SMALL, "references": [reference]})
    if said is None:
        comparing.check_comparison(config)
        return
    with pytest.raises(DataError, match=said):
        comparing.check_comparison(config)
    assert names == []  # at no cost


def test_times_that_no_climatology_is_known_of_are_found_before_training(made, tmp_path, monkeypatch):
    store, names = made
    elsewhere = Season((Season.of(store.times).middle + 180) % 365.25, 60.0)
    climatology = dataclasses.replace(store.climatology, kind="seasonal_trend", season=elsewhere)
    monkeypatch.setattr(contest, "open_store", lambda path: dataclasses.replace(store, climatology=climatology))
    with pytest.raises(DataError, match="training data cover 120 days of the year"):
        comparing.check_comparison(config_of(tmp_path, **SMALL))
    assert names == []


def test_baselines_and_the_twin_are_checked_before_training_and_none_is_built(made, tmp_path, monkeypatch):
    _, names = made
    checked: list[tuple[str, int]] = []
    monkeypatch.setattr(
        competitors, "check_store", lambda name, store, truncation, _: checked.append((name, truncation))
    )
    comparing.check_comparison(config_of(tmp_path, **{**SMALL, "twin": {"members": 1}}))
    assert checked == [("physics_t21", 21), ("twin_t42", 42)]
    assert names == []


def test_a_twin_is_not_restarted_between_the_times_of_the_data(made, tmp_path):
    config = config_of(tmp_path, **{**SMALL, "twin": {"members": 1, "restart_hours": [12, 15]}})
    with pytest.raises(ConfigError, match=r"twin.restart_hours: 15 is no multiple of the data's step of 6 h"):
        comparing.check_comparison(config)


def test_a_mean_may_be_called_as_corrected_forecasts_are(made, tmp_path):
    """Nobody learns from training forecasts then, so their number asks for no training segment as long as one."""
    store, _ = made
    of = {**SMALL, "physics": [], "means": {"x_damped": ["network", "persistence"]}, "lead_hours": 24}
    train = [s for s in store.segments if s.split == "train"]
    store = dataclasses.replace(store, segments=tuple(s for s in store.segments if s not in train))
    assert competitors.bytes_to_write(Contest(config_of(tmp_path, **of), store)) > 0


def test_a_disk_too_small_for_all_forecasts_is_known_before(made, tmp_path, monkeypatch, caplog):
    store, _ = made
    config = config_of(tmp_path, ensembles={"each": ["network", "persistence", "climatology"]})
    planned = competitors.bytes_to_write(Contest(config, store))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=planned - 1))
    comparing.check_comparison(config)
    assert "forecasts will take 0 GB, 0 GB are free" in caplog.text and caplog.text.count("\n") == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=planned))
    comparing.write_all_forecasts(config)
    assert caplog.text.count("forecasts will take") == 1
    written = sum(path.stat().st_size for path in (tmp_path / "forecasts").rglob("*.nc"))
    assert 0.7 * written < planned < written  # small files are headers in good part
    assert competitors.bytes_to_write(Contest(config, store)) == 0


def test_initial_fields_are_not_read_all_at_once(made, tmp_path, monkeypatch):
    store, _ = made
    monkeypatch.delattr(type(store), "dataset")
    config = config_of(tmp_path, twin=None)
    comparing.write_all_forecasts(config)
    assert (tmp_path / "forecasts" / "damped_anomaly_persistence.nc").exists()


def test_a_damaged_forecast_costs_the_maps_and_no_more(made, tmp_path, caplog):
    config = config_of(
        tmp_path, physics=[], twin=None, correction_inits=0, references=["climatology"], headline=["temperature@850"]
    )
    comparing.write_all_forecasts(config)
    comparing.score_all_forecasts(config)
    comparing.plot_everything(config)
    drawn = {"report.html", "plots/skill.png", "plots/maps_temperature850.png"}
    assert all((tmp_path / name).exists() for name in drawn)
    for name in drawn:
        (tmp_path / name).unlink()
    damaged = tmp_path / "forecasts" / "network.nc"
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    comparing.plot_everything(config)
    assert {name for name in drawn if not (tmp_path / name).exists()} == {"plots/maps_temperature850.png"}
    assert any(str(damaged) in r.message and r.message.startswith("plot: no maps") for r in caplog.records)


def test_an_ensemble_runs_no_more_at_once_than_batch(made, tmp_path):
    store, _ = made
    config = config_of(tmp_path)
    makers = competitors.competitors(Contest(config, store))
    for name, members, inits in (("twin_t42_ensemble", 4, 1), ("physics_t21_ensemble", 2, 2)):
        forecaster = makers[name].make()
        assert isinstance(forecaster, EnsembleForecaster) and forecaster.members == members
        assert comparing._initial_times_at_once(forecaster, 4) == inits
        assert forecaster.perturbations.amplitude == 0.12


def test_an_external_file_is_scored_beside_the_others(made, tmp_path):
    _, names = made
    small = {"physics": [], "twin": None, "references": ["persistence"]}
    comparing.write_all_forecasts(config_of(tmp_path, **small))
    shutil.copy(tmp_path / "forecasts" / "network.nc", tmp_path / "elsewhere.nc")
    config = config_of(tmp_path, **small, forecasts={"other": str(tmp_path / "elsewhere.nc")})
    names.clear()
    comparing.write_all_forecasts(config)
    assert names == []
    comparing.score_all_forecasts(config)
    rmse = xr.load_dataset(tmp_path / "scores.nc")["rmse"]
    np.testing.assert_array_equal(rmse.sel(forecaster="other"), rmse.sel(forecaster="network"))
    assert "predictability_limit" not in xr.load_dataset(tmp_path / "scores.nc").attrs
    with xr.open_dataset(tmp_path / "elsewhere.nc") as whole:
        whole.isel(lead_time=slice(1)).to_netcdf(tmp_path / "short.nc")
    other = config_of(tmp_path, **small, forecasts={"other": str(tmp_path / "short.nc")})
    for refusing in (comparing.write_all_forecasts, comparing.check_comparison, comparing.check_scores):
        with pytest.raises(DataError, match=r"short.nc: lacks leads of the comparison: 12 h"):
            refusing(other)


def test_initial_times_that_a_file_of_others_lacks_are_left_out_and_nobody_forecasts_anew(made, tmp_path):
    _, names = made
    small = {"physics": [], "twin": None, "references": ["persistence"]}
    comparing.write_all_forecasts(config_of(tmp_path, **small))
    (tmp_path / "starts").mkdir()
    with xr.open_dataset(tmp_path / "forecasts" / "network.nc") as whole:
        count = whole.sizes["init_time"]
        for i in range(1, count):
            whole.isel(init_time=[i]).drop_attrs(deep=False).to_netcdf(tmp_path / "starts" / f"{i}.nc")
    others = {"forecasts": {"other": f"{tmp_path}/starts/*.nc"}}
    names.clear()
    for refusing in (comparing.write_all_forecasts, comparing.check_comparison, comparing.check_scores):
        with pytest.raises(DataError, match=r"starts/\*.nc: lacks initial times .*; evaluate.missing_inits: leave_out"):
            refusing(config_of(tmp_path, **small, **others))
    names.clear()
    config = config_of(tmp_path, **small, **others, missing_inits="leave_out")
    stages.stage_named("forecast").check(config)
    comparing.write_all_forecasts(config)
    assert names == []
    comparing.check_comparison(config)
    comparing.check_scores(config)
    comparing.score_all_forecasts(config)
    scores = xr.load_dataset(tmp_path / "scores.nc")
    assert scores.sizes["init_time"] == count - 1 and scores.attrs["left_out"].startswith(f"1 of {count} initial times")
    np.testing.assert_array_equal(scores["rmse"].sel(forecaster="other"), scores["rmse"].sel(forecaster="network"))


@pytest.mark.parametrize(("given", "said"), [("no*.nc", "matches no file"), (["x.nc", "no.nc"], "no.nc: no such file")])
def test_of_many_external_files_the_missing_one_is_named(made, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    Path("x.nc").touch()
    with pytest.raises(DataError, match=rf"evaluate.forecasts.ifs: .*{said}"):
        comparing.write_all_forecasts(config_of(tmp_path, forecasts={"ifs": given}))


def test_an_external_file_that_is_not_there_is_missed_before_any_forecast(made, tmp_path):
    _, names = made
    config = config_of(tmp_path, forecasts={"ifs": str(tmp_path / "no.zarr")})
    with pytest.raises(DataError, match=r"evaluate.forecasts.ifs: .*no.zarr: no such file"):
        comparing.write_all_forecasts(config)
    assert names == []


def test_an_external_file_cannot_take_a_name_of_the_experiment(made, tmp_path):
    store, _ = made
    config = config_of(tmp_path, forecasts={"network": "x.nc"})
    with pytest.raises(ConfigError, match=r"evaluate.forecasts.network: a forecaster of the experiment has this name"):
        comparing.forecast_paths(Contest(config, store))


@pytest.mark.parametrize("key", ["forecasts", "means"])
def test_the_names_of_physics_and_twin_are_for_models(made, tmp_path, key):
    store, _ = made
    for name in ("physics_ifs", "twin_ifs"):
        named = {name: "x.nc" if key == "forecasts" else ["network", "physics_t21"]}
        config = config_of(tmp_path, **{key: named})
        if (key, name) == ("forecasts", "physics_ifs"):
            assert comparing.forecast_paths(Contest(config, store))[name] == Path("x.nc")
            continue
        with pytest.raises(ConfigError, match=rf"evaluate.{key}.{name}: begins as SPEEDY's own"):
            comparing.forecast_paths(Contest(config, store))


def test_limit_and_truth_follow_from_the_config(tmp_path):
    limits = {4: "twin_t42_ensemble", 1: "twin_t42"}
    for members, name in limits.items():
        assert competitors.predictability_limit(config_of(tmp_path, twin={"members": members})) == name
    assert competitors.predictability_limit(config_of(tmp_path, twin=None)) is None
    assert competitors.truth_of(config_of(tmp_path)) == "nature run SPEEDY T42"


@pytest.mark.parametrize(
    ("attributes", "truth"),
    [
        ({}, "analysis"),
        ({"source": "SPEEDY T31 with 8 sigma layers through jcm 1, truncated to T21"}, "nature run SPEEDY T31"),
        ({"source_id": "MPI-ESM1-2-LR", "experiment_id": "historical"}, "simulation by MPI-ESM1-2-LR, historical"),
        ({"source_id": "CESM2", "mip_era": "CMIP6"}, "simulation by CESM2, an unknown experiment"),
        (None, "not known"),
    ],
)
def test_a_truth_from_files_is_what_they_say_it_is(tmp_path, monkeypatch, attributes, truth):
    monkeypatch.chdir(tmp_path)
    if attributes is not None:
        xr.Dataset(attrs=attributes).to_netcdf("a.nc")
    assert competitors.truth_of(parse_config({**raw_config(tmp_path, twin=None), "simulate": None})) == truth


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"physics": [{}, {}]}, r"physics: truncation 21 is there twice"),
        ({"forecasts": {"a b": "x"}}, r"evaluate.forecasts.a b"),
    ],
)
def test_configs_that_cannot_be_meant(tmp_path, change, expected):
    with pytest.raises(ConfigError, match=expected):
        config_of(tmp_path, **change)


def test_a_twin_needs_a_truth_of_ones_own(tmp_path):
    with pytest.raises(ConfigError, match=r"config: evaluate.twin: the truth is no nature run"):
        parse_config({**raw_config(tmp_path), "simulate": None})


def test_another_file_to_score_asks_for_no_new_forecasts(tmp_path):
    plain, more = config_of(tmp_path), config_of(tmp_path, forecasts={"ifs": "x.zarr"}, bootstrap=60)
    changed = {s.name for s in stages.STAGES if stages.fingerprint(plain, s) != stages.fingerprint(more, s)}
    assert changed == {"evaluate", "plot"}


def test_how_many_forecasts_run_at_once_makes_no_score_another_one(tmp_path):
    one, all_at_once = config_of(tmp_path, batch=1), config_of(tmp_path, batch=100)
    assert all(stages.fingerprint(one, s) == stages.fingerprint(all_at_once, s) for s in stages.STAGES)


@pytest.fixture
def forecast_stage(made, tmp_path):
    """The stage beside a store that is there."""
    store, names = made
    (tmp_path / "store.zarr").mkdir()
    return stages.stage_named("forecast"), store, names


SMALL = {"network": {}, "physics": [{"truncation": 21}], "twin": None, "references": ["persistence"]}


def test_one_competitor_more_leaves_the_forecasts_of_the_others(forecast_stage, tmp_path):
    stage, _, names = forecast_stage
    comparing.write_all_forecasts(config_of(tmp_path, **SMALL))
    more = {**SMALL, "references": ["persistence", "climatology"], "means": {"both": ["network", "physics_t21"]}}
    more["physics"] = [{"truncation": 21, "members": 2}, {"truncation": 31}]
    config = config_of(tmp_path, **more)
    stage.check(config)
    missing = "physics_t21_ensemble, physics_t31, physics_t31_debiased, physics_t31_damped, climatology, both"
    assert stage.outdated(config) == f"no forecasts of {missing}"
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "forecasts").rglob("*.nc")}
    names.clear()
    comparing.write_all_forecasts(config)
    assert set(names) == {"physics_t21", "physics_t31"}  # of the former the ensemble
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert stage.outdated(config) is None
    comparing.score_all_forecasts(config)


def test_forecasts_of_others_are_taken_from_an_experiment_that_made_them_alike(forecast_stage, tmp_path):
    stage, store, names = forecast_stage
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    more = {**SMALL, "means": {"both": ["network", "physics_t21"]}}
    comparing.write_all_forecasts(config_of(tmp_path / "first", **more))
    names.clear()
    second = tmp_path / "second"
    config = config_of(second, **{**more, "references": ["persistence", "climatology"]})
    taking = config.model_copy(update={"reuse": str(tmp_path / "first")})
    # physics and persistence are there; to be written are the network, debiased and damped, climatology, the mean
    ours = Contest(config, store)
    written = 5 * ours.indices.size + training_indices(store, config.evaluate).size
    cells = ours.leads.size * len(store.spec.state_channels) * math.prod(store.grid.shape)
    assert competitors.bytes_to_write(Contest(taking, store)) == 4 * cells * written
    stage.take_parts(taking)
    stage.run(taking, None, lambda: None)
    assert set(names) == {"network"}
    same = {p.name for p in (second / "forecasts").rglob("*.nc") if p.stat().st_nlink == 2}
    assert same == {f"{n}.nc" for n in ("physics_t21", "physics_t21_debiased", "physics_t21_damped", "persistence")}
    names.clear()
    third = config_of(tmp_path / "third", **{**more, "correction_inits": 5})
    stage.take_parts(third.model_copy(update={"reuse": str(second)}))
    stage.run(third, None, lambda: None)
    assert (tmp_path / "third/forecasts/physics_t21.nc").samefile(second / "forecasts/physics_t21.nc")
    assert set(names) == {"network", "physics_t21"}  # which it is corrected by is another


@pytest.mark.parametrize(
    ("change", "file"),
    [
        ({"lead_hours": 48}, "network.nc"),
        ({"init_every_hours": 48}, "network.nc"),
        ({"physics": [{"truncation": 21, "time_step_minutes": 20}]}, "physics_t21.nc"),
        ({"physics": [{"truncation": 21, "members": 3}]}, "physics_t21_ensemble.nc"),
        ({"correction_inits": 5}, "network_debiased.nc"),
        ({"means": {"both": ["physics_t21", "persistence"]}}, "means/both.nc"),
    ],
)
def test_forecasts_that_were_made_with_other_options_are_refused(forecast_stage, tmp_path, change, file):
    stage, _, _ = forecast_stage
    plain = {**SMALL, "physics": [{"truncation": 21, "members": 2}], "means": {"both": ["network", "physics_t21"]}}
    comparing.write_all_forecasts(config_of(tmp_path, **plain))
    changed = config_of(tmp_path, **{**plain, **change})
    with pytest.raises(UserError, match=rf"forecasts/{file}: was made with other options \(.*; remove it to"):
        stage.check(changed)


@pytest.fixture
def second(made, monkeypatch, tmp_path):
    """The folder of another network, which errs elsewhere than the experiment's own."""
    store, _ = made
    folder = tmp_path / "elsewhere" / "run"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "weights.npz").write_bytes(b"some")

    def load(run):
        return Noisy(store, "network", 0.05, 0.1, seed=int("elsewhere" in str(run)))

    monkeypatch.setattr(checkpoint, "load_forecaster", load)
    return folder.parent


def test_other_networks_forecast_beside_the_own_and_means_may_hold_them(forecast_stage, second, tmp_path):
    stage, _, _ = forecast_stage
    of = {**SMALL, "networks": {"second": str(second)}, "means": {"both": ["network", "second"]}}
    config = config_of(tmp_path, **of)
    comparing.check_comparison(config)
    comparing.write_all_forecasts(config)
    own, other, both = (
        xr.open_dataset(tmp_path / "forecasts" / f"{name}.nc").load() for name in ("network", "second", "means/both")
    )
    assert other.attrs["forecaster"] == "second" and both.attrs["mean_of"] == "network, second"
    assert not np.allclose(own["temperature"], other["temperature"])
    np.testing.assert_allclose(both["temperature"], (own["temperature"] + other["temperature"]) / 2, rtol=1e-6)
    comparing.score_all_forecasts(config)
    rmse = xr.load_dataset(tmp_path / "scores.nc")["rmse"].sel(region="all", variable="temperature@850")
    assert (rmse.sel(forecaster="both") < 0.9 * rmse.sel(forecaster=["network", "second"])).all()
    stage.check(config)
    (second / "run" / "weights.npz").write_bytes(b"others")
    with pytest.raises(UserError, match=r"forecasts/second.nc: was made with other options"):
        stage.check(config)


def test_a_network_that_has_gone_since_it_was_scored_costs_no_pictures(made, second, tmp_path):
    config = config_of(tmp_path, **SMALL, networks={"second": str(second)}, headline=["temperature@850"])
    comparing.write_all_forecasts(config)
    comparing.score_all_forecasts(config)
    discard(second)
    comparing.plot_everything(config)
    assert all((tmp_path / name).exists() for name in ("report.html", "plots/maps_temperature850.png"))


def test_a_network_that_cannot_take_part_is_named_before_the_training(made, second, tmp_path, monkeypatch):
    store, _ = made

    def refused(match, **networks):
        with pytest.raises(UserError, match=match):
            comparing.check_comparison(config_of(tmp_path, **SMALL, networks=networks))

    refused(r"evaluate.networks.network_2: begins as the experiment's own", network_2=str(second))
    refused(r"evaluate.networks.persistence: a forecaster of the experiment has this name", persistence=str(second))
    refused(r"evaluate.networks.x: .*nowhere: no trained network \(weights.npz is missing\)", x="nowhere")
    finer = make_store(Grid.gaussian(12), days=12)
    monkeypatch.setattr(checkpoint, "load_forecaster", lambda _: Noisy(finer, "network", 0.05, 0.1))
    refused(r"evaluate.networks.x: .*elsewhere: has other grid than the data", x=str(second))
    daily = dataclasses.replace(store, timestep=4 * store.timestep)
    monkeypatch.setattr(checkpoint, "load_forecaster", lambda _: Noisy(daily, "network", 0.05, 0.1))
    refused(r"has other time step than the data", x=str(second))


def test_training_forecasts_of_other_options_correct_nothing(forecast_stage, tmp_path):
    stage, _, _ = forecast_stage
    comparing.write_all_forecasts(config_of(tmp_path, **SMALL))
    for path in (tmp_path / "forecasts").glob("*d.nc"):  # corrected ones, as if a kill had come before them
        path.unlink()
    with pytest.raises(UserError, match=r"training/network.nc: was made with other options"):
        stage.check(config_of(tmp_path, **SMALL, correction_inits=5))


def test_forecasts_of_another_network_are_made_again_and_no_others(forecast_stage, tmp_path):
    stage, _, names = forecast_stage
    config = config_of(tmp_path, **SMALL, means={"both": ["network", "physics_t21"]})
    weights = tmp_path / "run" / "weights.npz"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    comparing.write_all_forecasts(config)
    assert stage.outdated(config) is None
    weights.write_bytes(b"another")  # a run folder that was copied here
    why = (
        "5 forecast files were made from other data or by another network"  # as it is, corrected, for that, in the mean
    )
    assert stage.outdated(config) == why
    names.clear()
    comparing.write_all_forecasts(config)
    assert {"network"} == set(names) and stage.outdated(config) is None


def test_forecasts_from_other_data_are_made_again(forecast_stage, tmp_path, monkeypatch):
    stage, store, names = forecast_stage
    config = config_of(tmp_path, **SMALL)
    comparing.write_all_forecasts(config)
    assert stage.outdated(config) is None
    others = dataclasses.replace(store, data_hash="others")
    monkeypatch.setattr(contest, "open_store", lambda path: others)
    assert stage.outdated(config) == "9 forecast files were made from other data or by another network"
    monkeypatch.setattr(contest, "open_store", lambda path: others)
    with pytest.raises(
        DataError, match=r"evaluate: 9 forecast files were made from other data or by .*; 'emulator forecast'"
    ):
        comparing.check_scores(config)
    names.clear()
    comparing.write_all_forecasts(config)
    assert {"network", "physics_t21"} == set(names)
    assert stage.outdated(config) is None


def test_every_ensemble_is_perturbed_as_its_own_section_says(made, tmp_path):
    store, _ = made
    config = config_of(tmp_path, network={"members": 3, "perturbation": 0.3}, twin={"members": 4, "perturbation": 0.05})
    makers = competitors.competitors(Contest(config, store))
    for name, amplitude in (("network", 0.3), ("physics_t21", 0.12), ("twin_t42", 0.05)):
        assert makers[f"{name}_ensemble"].make().perturbations.amplitude == amplitude


@pytest.mark.parametrize(
    ("change", "who"),
    [
        ({"split": "validation"}, "network"),
        ({"max_inits": 3}, "network"),
        ({"lead_step_hours": 12}, "network"),
        ({"lead_hours": 48}, "persistence"),
        ({"physics": [{"truncation": 21, "members": 2, "digital_filter_hours": 6}]}, "physics_t21"),
        ({"physics": [{"truncation": 21, "members": 2, "digital_filter_hours": 6}]}, "physics_t21_ensemble"),
        ({"physics": [{"truncation": 21, "members": 2, "digital_filter_hours": 6}]}, "physics_t21_damped"),
        ({"physics": [{"truncation": 21, "members": 2, "digital_filter_hours": 6}]}, "both"),
        ({"physics": [{"truncation": 21, "members": 2, "perturbation": 0.3}]}, "physics_t21_ensemble"),
        ({"seed": 5}, "physics_t21_ensemble"),
    ],
)
def test_forecasts_depend_on_all_that_they_were_made_with(made, tmp_path, change, who):
    """Or those of another split, filter or seed would be scored under the name of this one."""
    plain = {**SMALL, "physics": [{"truncation": 21, "members": 2}], "means": {"both": ["network", "physics_t21"]}}
    raws = [raw_config(tmp_path, **plain)]
    keys = {k: v for k, v in change.items() if k != "seed"}
    raws.append({**raw_config(tmp_path, **{**plain, **keys}), "seed": change.get("seed", 0)})
    asked = [competitors.competitors(Contest(parse_config(raw), made[0])) for raw in raws]
    assert asked[0][who].options != asked[1][who].options


@pytest.mark.parametrize(
    "change",
    [
        {"split": "validation"},
        {"headline": ["temperature@850"]},
        {"pressure_levels": [700.0]},
        {"long_run": {"days": 31}},
        {"long_run": {"days": 30, "sponge": {"levels": 1, "days": 2.0}}},
    ],
    ids=str,
)
def test_a_long_run_is_made_anew_where_it_would_be_another(made, tmp_path, change):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.npz").write_bytes(b"one")
    plain = {**SMALL, "long_run": {"days": 30}}
    marks = [
        comparing._marks_of_long_run(Contest(config_of(tmp_path, **asked), made[0]))
        for asked in (plain, {**plain, **change}, {**plain, "bootstrap": 60})
    ]
    assert marks[0] != marks[1]
    assert marks[0] == marks[2]


def test_forecasts_from_other_data_are_not_taken(made, tmp_path, monkeypatch):
    alone = {"network": {}, "physics": [], "twin": None, "references": ["persistence"], "correction_inits": 0}
    for name in ("first", "second", "third"):
        (tmp_path / name / "store.zarr").mkdir(parents=True)
    comparing.write_all_forecasts(config_of(tmp_path / "first", **alone))
    reuse = {"reuse": str(tmp_path / "first")}

    def taken(name):
        config = config_of(tmp_path / name, **alone).model_copy(update=reuse)
        stages.stage_named("forecast").take_parts(config)
        return [path.name for path in (tmp_path / name).rglob("*.nc")]

    assert taken("second") == ["persistence.nc"]
    monkeypatch.setattr(contest, "open_store", lambda path: dataclasses.replace(made[0], data_hash="others"))
    assert taken("third") == []
