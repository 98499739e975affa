"""Several networks as one forecaster: their mean or all their members, from Python and from the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tiny_store import TIMESTEP, write_store

import emulator
from data_prep.errors import ConfigError, DataError
from data_prep.files.netcdf_file import write_netcdf
from data_prep.grid import Grid
from emulator.cli import main
from emulator.config import RolloutStage, TrainConfig, UNetConfig, parse_config
from emulator.evaluation.scores_reader import opponents
from emulator.experiment import comparing, forecast_files
from emulator.experiment.competitors import competitors
from emulator.experiment.contest import Contest
from emulator.forecasters import neural
from emulator.forecasters.neural import OUTSIDE
from emulator.forecasters.several import differences
from emulator.learned_from import LEARNED_DATA, LEARNED_FROM, as_text
from emulator.training.train import train

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
TRAINING = TrainConfig(
    batch_size=4, stages=[RolloutStage(steps=3, learning_rate=1e-2)], validation_windows=2, validation_steps=2
)
LEADS = np.arange(1, 12) * TIMESTEP


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A store, and two networks that were trained on it from different seeds; the second steps by days as well."""
    folder = tmp_path_factory.mktemp("several")
    store = write_store(folder / "store.zarr", Grid.gaussian(8))
    for seed, model in enumerate((MODEL, MODEL.model_copy(update={"time_steps": [1, 4]}))):
        train(TRAINING, model, folder / "store.zarr", folder / str(seed), seed, {"name": "test"})
    return store, folder / "0", folder / "1"


@pytest.fixture(scope="module")
def networks(runs):
    return tuple(emulator.load_forecaster(run) for run in runs[1:])


@pytest.fixture(scope="module")
def alike(runs):
    """Folder of a network that differs from the first by its seed alone."""
    store, first, _ = runs
    train(TRAINING, MODEL, Path(store.path), first.parent / "2", 2, {"name": "test"})
    return first.parent / "2"


def joined(forecaster, initial, leads=LEADS):
    return xr.concat(list(forecaster.forecast(initial, leads)), "lead_time")


def test_mean_and_members_are_those_of_the_networks_whatever_blocks_they_come_in(runs, networks, monkeypatch):
    initial = runs[0].dataset([2, 30])
    alone = []
    for network, most in zip(networks, (8, 3), strict=True):
        monkeypatch.setattr(neural, "_BLOCK_STEPS", most)
        alone.append(joined(network, initial))
    first, second = alone
    assert float(np.abs(first["temperature"] - second["temperature"]).max()) > 0.01
    for leads in (LEADS, LEADS[3::4]):
        mean = joined(emulator.SeveralNetworks(networks), initial, leads)
        members = joined(emulator.SeveralNetworks(networks, "members"), initial, leads)
        assert set(mean.data_vars) == set(members.data_vars) == set(first.data_vars)
        assert members["temperature"].dims[:3] == ("init_time", "lead_time", "realization")
        np.testing.assert_array_equal(mean["lead_time"], leads)
        for name in first.data_vars:
            assert mean[name].attrs == members[name].attrs == first[name].attrs
            one, other = (f[name].sel(lead_time=leads).values for f in alone)
            np.testing.assert_allclose(mean[name].values, (one + other) / 2, rtol=1e-5, atol=1e-5)
            for number, own in enumerate((one, other)):
                np.testing.assert_allclose(members[name].isel(realization=number).values, own, rtol=1e-5, atol=1e-5)


def test_predict_takes_several_networks(runs, networks):
    first_row = runs[0].segments[-1].start
    initial = runs[0].dataset([first_row, first_row + 8])
    both = emulator.SeveralNetworks(list(networks))
    mean, *alone = (emulator.predict(forecaster, initial, days=1) for forecaster in (both, *networks))
    expected = (alone[0]["temperature"] + alone[1]["temperature"]) / 2
    np.testing.assert_allclose(mean["temperature"], expected, rtol=1e-6)
    xr.testing.assert_equal(mean["geopotential_at_surface"], alone[0]["geopotential_at_surface"])
    scores = emulator.score({"mean": mean, "one": alone[0]}, runs[0], split="validation", references=[], bootstrap=20)
    assert np.isfinite(scores["rmse"]).all()


def test_the_order_of_their_variables_is_their_own(networks):
    spec = networks[0].spec
    turned = replace(spec, variables=(spec.variables[1], spec.variables[0], *spec.variables[2:]))
    assert turned.state_channels != spec.state_channels
    assert differences(networks[0], turned, networks[0].grid, TIMESTEP) == []
    fewer = replace(spec, variables=spec.variables[1:])
    assert differences(networks[0], fewer, networks[0].grid, TIMESTEP) == ["variables"]
    milli = replace(spec, variables=(replace(spec.variables[0], units="mK"), *spec.variables[1:]))
    assert differences(networks[0], milli, networks[0].grid, TIMESTEP) == ["units"]
    dry = replace(spec, variables=tuple(v for v in spec.variables if v.name != "sea_surface_temperature"))
    assert differences(networks[0], dry, networks[0].grid, TIMESTEP) == ["persisted forcings"]
    assert differences(replace(networks[0], spec=dry), spec, networks[0].grid, TIMESTEP) == []


def test_grids_that_differ_by_the_rounding_of_files_are_one(runs, networks):
    first, second = networks
    moved = Grid.from_arrays(np.asarray(second.grid.latitude) + 3e-6, np.asarray(second.grid.longitude))
    other = replace(second, grid=moved)
    initial, leads = runs[0].dataset([2]), np.arange(1, 3) * TIMESTEP
    for how in ("mean", "members"):
        found, expected = (joined(emulator.SeveralNetworks((first, n), how), initial, leads) for n in (other, second))
        xr.testing.assert_identical(found, expected)


def test_of_a_training_that_did_not_come_to_its_end_it_is_said(runs, tmp_path, caplog):
    (tmp_path / "run").symlink_to(runs[1])
    for record, said in (({"finished": True}, False), ({"finished": False}, True), (None, False)):
        (tmp_path / "stages.json").write_text(json.dumps({"train": record}))
        caplog.clear()
        emulator.load_forecaster(tmp_path)
        assert ("its training has not come to its end" in caplog.text) is said


def test_what_any_of_them_has_not_seen_is_told(runs, networks):
    initial, (first, second) = runs[0].dataset([2]), networks
    cold, warm, unknown = {"temperature@500": (0, 1)}, {"a": (0, 1)}, {}

    def told(one, other):
        of = (replace(first, trained_on=one), replace(second, trained_on=other))
        return emulator.SeveralNetworks(of).attributes(initial)[OUTSIDE]

    assert told(warm, warm) == "none"
    assert told(warm, unknown) == "not known"
    assert told(warm, cold).startswith("temperature@500 ") and told(unknown, cold) == told(warm, cold)


def test_what_all_of_them_learned_from_is_told(runs, networks):
    initial, (first, second) = runs[0].dataset([2]), networks
    same = emulator.SeveralNetworks(networks).attributes(initial)
    assert same[LEARNED_DATA] == runs[0].data_hash and same[LEARNED_FROM] == as_text(first.learned_from)
    period = np.datetime64("1990-01-01", "ns"), np.datetime64("1991-01-01", "ns")
    other = replace(second, data_hash="another", learned_from=(period,))
    both = emulator.SeveralNetworks((first, other)).attributes(initial)
    assert both[LEARNED_DATA] == "several" and both[LEARNED_FROM] == as_text([period, *first.learned_from])


def test_one_that_becomes_unstable_stops_all_after_the_leads_that_it_reached(runs, networks, monkeypatch):
    first, second = networks
    roll = neural._roll

    def diverging(stepper, params, *rest):
        states, bases = roll(stepper, params, *rest)
        if params is second.params:
            states = np.array(states)
            states[:, 2:] = np.inf
        return states, bases

    monkeypatch.setattr(neural, "_roll", diverging)
    reached = []
    several = emulator.SeveralNetworks((first, replace(second, name="wild")))
    with pytest.raises(DataError, match=r"^wild: .* is not finite any more at lead 18 h"):
        for block in several.forecast(runs[0].dataset([2]), LEADS[:4]):
            reached.extend(block["lead_time"].values)
    np.testing.assert_array_equal(reached, LEADS[:2])


def test_one_network_is_not_several(networks):
    for few in ((), (networks[0],)):
        with pytest.raises(DataError, match=f"several networks: {len(few)} given, expected two at least"):
            emulator.SeveralNetworks(few)
    with pytest.raises(DataError, match="several networks: 1 given"):
        emulator.SeveralNetworks(networks[0])
    with pytest.raises(DataError, match=r"^again: has the weights of network; name networks that differ"):
        emulator.SeveralNetworks((*networks[:2], replace(networks[0], name="again")))


def test_what_makes_no_several_networks_is_refused_at_once(networks):
    with pytest.raises(ConfigError, match="how is 'ensemble', expected mean, members, supermodel"):
        emulator.SeveralNetworks(networks, "ensemble", called="mine")
    with pytest.raises(DataError, match="several networks: 'runs/second' is none; load_forecaster gives one"):
        emulator.SeveralNetworks((networks[0], "runs/second"))


def test_networks_that_differ_are_refused_by_name(networks, tmp_path, capsys, runs):
    first, second = networks
    other = replace(second, name="other", grid=Grid.gaussian(12), timestep=2 * TIMESTEP)
    with pytest.raises(DataError, match=r"^other: has other grid and time step than network$"):
        emulator.SeveralNetworks((first, other))
    write_store(tmp_path / "store.zarr", Grid.gaussian(12))
    config = TrainConfig(batch_size=4, stages=[RolloutStage(steps=1)], validation_windows=2, validation_steps=2)
    train(config, MODEL, tmp_path / "store.zarr", tmp_path / "finer", 0, {"name": "test"})
    write_netcdf(runs[0].dataset([2]), tmp_path / "in.nc")
    command = ["forecast", str(runs[1]), str(tmp_path / "in.nc"), "--days", "1", "--out", str(tmp_path / "out.nc")]
    assert main([*command, "--with", str(tmp_path / "finer")]) == 1
    assert f"error: {tmp_path / 'finer'}: has other grid than {runs[1]}" in capsys.readouterr().err
    assert main([*command, "--with", str(tmp_path / "nowhere")]) == 1
    assert "nowhere: no run folder (run.json is missing)" in capsys.readouterr().err
    assert main([*command, "--members"]) == 2
    assert "--members: is of several networks; name the others by --with" in capsys.readouterr().err
    assert main([*command, "--supermodel"]) == 2
    assert "--supermodel: is of several networks" in capsys.readouterr().err
    assert main([*command, "--supermodel", "--with", str(runs[2])]) == 1
    assert f"error: {runs[2]}: has other lengths of steps than {runs[1]}; networks that" in capsys.readouterr().err
    assert main(["forecast", "demo", "--with", str(runs[1])]) == 2
    assert "--with goes with a run folder and INPUT" in capsys.readouterr().err
    assert not (tmp_path / "out.nc").exists()


def test_the_command_writes_the_mean_or_the_members(runs, networks, tmp_path, monkeypatch):
    store, *folders = runs
    initial = store.dataset([2])
    write_netcdf(initial, tmp_path / "in.nc")
    monkeypatch.chdir(tmp_path)
    command = ["forecast", str(folders[0]), "in.nc", "--days", "1", "--with", str(folders[1])]
    assert main([*command, "--out", "mean.nc"]) == 0
    assert main([*command, "--members", "--out", "members.nc"]) == 0
    mean, members = (xr.load_dataset(tmp_path / name) for name in ("mean.nc", "members.nc"))
    for file in (mean, members):
        assert file.attrs["networks"] == f"{folders[0]}, {folders[1]}" and file.attrs[OUTSIDE] == "not known"
    assert mean["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert members["temperature"].dims == ("time", "realization", "level", "latitude", "longitude")
    assert members["realization"].attrs["standard_name"] == "realization"
    assert main([*command, str(folders[0] / ".." / folders[0].name)]) == 2  # which the first is
    for number, network in enumerate(networks):
        own = emulator.predict(network, initial, days=1)["temperature"].isel(init_time=0)
        np.testing.assert_allclose(members["temperature"].isel(realization=number), own, rtol=1e-6)
    for name in mean.data_vars:
        if "realization" in members[name].dims:
            np.testing.assert_allclose(mean[name], members[name].mean("realization"), rtol=1e-5, atol=1e-5)


def test_every_step_of_a_supermodel_is_the_mean_of_all_networks_steps_from_there(runs, networks, alike):
    store, pair = runs[0], (networks[0], emulator.load_forecaster(alike))
    initial = store.dataset([2, 30])
    supermodel = joined(emulator.SeveralNetworks(pair, "supermodel"), initial)
    here = initial
    for number, lead in enumerate(LEADS[:4]):
        steps = [joined(network, here, LEADS[:1]).isel(lead_time=0) for network in pair]
        assert float(np.abs(steps[0]["temperature"] - steps[1]["temperature"]).max()) > 0.01
        expected = {name: (steps[0][name].values + steps[1][name].values) / 2 for name in steps[0].data_vars}
        for name, values in expected.items():
            found = supermodel[name].sel(lead_time=lead).values
            np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-5, err_msg=f"{name}, step {number + 1}")
        after = {name: here[name].copy(data=values) for name, values in expected.items() if name in here}
        assert set(after) >= {"temperature", "specific_humidity"}
        here = here.assign(after).assign_coords(time=here["time"] + TIMESTEP)
    apart = joined(emulator.SeveralNetworks(pair), initial)
    assert float(np.abs(apart - supermodel)["temperature"].isel(lead_time=-1).max()) > 0.01


def test_networks_that_share_too_little_do_not_step_together(networks, alike):
    first, second = networks[0], emulator.load_forecaster(alike)
    others = {
        "training data": replace(second, name="other", data_hash="0"),
        "lengths of steps": replace(networks[1], name="other"),
        "departures": replace(second, name="other", climatology=object()),
    }
    for what, other in others.items():
        emulator.SeveralNetworks((first, other))
        with pytest.raises(DataError, match=f"^other: has other {what} than network; networks that step together"):
            emulator.SeveralNetworks((first, other), "supermodel")


def test_a_supermodel_takes_part_in_an_experiment(runs, networks, alike, tmp_path):
    store, first, longer = runs
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "run").symlink_to(first)
    (folder / "store.zarr").symlink_to(store.path)

    def config(**evaluate):
        data = {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"validation": [2]}}}
        asked = {
            **{"split": "validation", "lead_hours": 24, "init_every_hours": 24, "bootstrap": 20, "batch": 2},
            **{"references": ["persistence"], "networks": {"second": str(alike), "daily": str(longer)}},
            **evaluate,
        }
        return parse_config(
            {"name": "x", "data": data, "train": {"stages": [{"steps": 1}]}, "evaluate": asked, "workdir": str(folder)}
        )

    pair = ["network", "second"]
    whole = config(
        supermodels={"together": pair},
        means={"apart": pair, "all": ["together", "persistence"]},
        perturbed={"together": {"members": 3, "perturbation": 0.05}, "second": {"members": 2}},
        corrected=["together"],
        correction_inits=6,
    )
    comparing.check_comparison(whole)
    comparing.write_all_forecasts(whole)
    comparing.score_all_forecasts(whole)
    scores = xr.load_dataset(folder / "scores.nc")["rmse"].sel(region="all")
    first_lead, last = (scores.isel(lead_time=i).sel(forecaster=["together", "apart"]) for i in (0, -1))
    np.testing.assert_allclose(first_lead[0], first_lead[1], rtol=1e-4)
    assert (np.abs(last[0] - last[1]) > 1e-4 * last[0]).any()
    path = folder / "forecasts" / "means" / "together.nc"  # which a new network makes worthless
    with xr.open_dataset(path) as file:
        assert file.attrs["supermodel_of"] == "network, second" and file.attrs["forecaster"] == "together"
        assert file.attrs["seconds_per_simulated_day"] > 0
    assert path in forecast_files.files_of_network(folder)
    ensemble = path.with_name("together_ensemble.nc")
    assert ensemble in forecast_files.files_of_network(folder)
    with xr.open_dataset(ensemble) as members, xr.open_dataset(path) as single:
        assert members.sizes["realization"] == 3 and members.attrs["supermodel_of"] == "network, second"
        apart = np.abs(members["temperature"] - single["temperature"]).isel(lead_time=0).max(["latitude", "longitude"])
        assert (apart > 0.01).all()  # every member is a forecast of its own, and still of this weather
        assert float(apart.max()) < float(single["temperature"].std())
    assert (folder / "forecasts" / "second_ensemble.nc").exists()  # outlasts a new network
    for made in ("together_damped.nc", "../training/means/together.nc"):
        assert (path.parent / made).resolve() in forecast_files.files_of_network(folder)
    with xr.open_dataset(path.with_name("together_damped.nc")) as damped:
        assert "damped towards climatology; fitted to 6 training forecasts" in damped.attrs["correction"]
    assert not (folder / "forecasts" / "network_damped.nc").exists()  # there is no physics that would be
    late = xr.load_dataset(folder / "scores.nc").sel(region="all", variable="temperature@500").isel(lead_time=-1)
    raw, corrected = (late["activity"].sel(forecaster=f"together{form}").item() for form in ("", "_damped"))
    assert corrected < 0.9 * raw
    found = xr.load_dataset(folder / "scores.nc")
    members = found["members"].sel(forecaster=["together", "together_ensemble", "second_ensemble"])
    assert members.values.tolist() == [1, 3, 2]
    assert set(opponents(found)) == {"persistence", "second", "daily", "second_ensemble"}
    asked = config(corrected=["network"], references=[])
    assert {*competitors(Contest.of(asked))} == {"network", "network_debiased", "network_damped", "second", "daily"}
    for evaluate, said in (
        ({"supermodels": {"x": ["network", "persistence"]}}, "x: persistence: no network; there are network, second"),
        ({"supermodels": {"x": ["network", "network"]}}, "x: network is there twice"),
        ({"supermodels": {"second": pair}}, "second: a forecaster of the experiment has this name"),
        ({"supermodels": {"x": ["network", "daily"]}}, "x: daily: has other lengths of steps than network"),
        ({"perturbed": {"network": {}}}, " network: the ensemble of the experiment's own is evaluate.network"),
        ({"perturbed": {"x": {}}}, " x: is none of networks and supermodels; they are second, daily"),
        ({"corrected": ["persistence"]}, " persistence: is none of networks and supermodels; they are second, daily"),
        (
            {"supermodels": {"second_ensemble": pair}, "perturbed": {"second": {"members": 2}}},
            " second: there is another",
        ),
        ({"supermodels": {"second_damped": pair}, "corrected": ["second"]}, " second: there is another second_damped;"),
    ):
        with pytest.raises(ConfigError, match=f"^evaluate.{next(reversed(evaluate))}.{said}"):
            comparing.write_all_forecasts(config(**evaluate))
    with pytest.raises(ConfigError, match=r"^evaluate.supermodels.x: daily: has other lengths of steps than network"):
        comparing.check_comparison(config(supermodels={"x": ["network", "daily"]}))
    (folder / "store.zarr").unlink()
    write_store(folder / "store.zarr", Grid.gaussian(8), n_times=28)
    with pytest.raises(ConfigError, match=r"^evaluate.supermodels.x: second: has other training data than network"):
        comparing.check_comparison(config(supermodels={"x": pair}))
    both = {"second": str(alike), "third": str(first)}  # these share theirs
    comparing.check_comparison(config(supermodels={"x": ["second", "third"]}, networks=both))
