"""Lateral boundary values: where, when and how a driving data set reaches a regional network."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import xarray as xr
import yaml
from weather_files import times_from

import emulator
from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.lateral import rim_mask
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.regrid import make_regridder
from emulator.anomalies import anomalies_of
from emulator.checkpoint import read_description, write_description
from emulator.cli import main
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.forecasters.driven import driven_by
from emulator.forecasters.statistical import make_reference
from emulator.pretrained import ship_run
from emulator.training.loader import read_batch
from emulator.training.train import train

REGION = Grid.from_arrays(np.arange(20.0, 61.0, 5.0), np.arange(200.0, 261.0, 5.0))
WORLD = Grid.gaussian(16)
TIMES = times_from("2001-01-01", 40)
RIM = rim_mask(REGION, 2)
SPLIT = {"train": ["2001-01-01", "2001-01-05"], "validation": ["2001-01-06", "2001-01-07"],
         "test": ["2001-01-08", "2001-01-10"], "gap_days": 0.0}  # fmt: skip


def waves(grid, times):
    """Temperature and pressure that travel, the same function of place and time on every grid."""
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    t = ((times - TIMES[0]) / np.timedelta64(6, "h"))[:, None, None]
    data = {
        "temperature": (260 + 10 * np.cos(lat) * np.sin(3 * lon - 0.3 * t), "K"),
        "surface_pressure": (1e5 + 800 * np.cos(lat) * np.sin(2 * lon - 0.4 * t), "Pa"),
        "sea_surface_temperature": (285 + np.cos(lat) * np.sin(lon + 0.1 * t), "K"),
    }
    return xr.Dataset(
        {k: (("time", "latitude", "longitude"), v.astype("f4"), {"units": u}) for k, (v, u) in data.items()},
        {"time": times, "latitude": np.asarray(grid.latitude), "longitude": np.asarray(grid.longitude)},
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    waves(REGION, TIMES).to_netcdf(folder / "region.nc")
    waves(WORLD, TIMES).drop_vars("sea_surface_temperature").to_netcdf(folder / "driving.nc")
    return folder


def section(files, region="region.nc", driving="driving.nc", **changes):
    raw = {
        "inputs": [str(files / region)],
        "prognostic": {"temperature": {}, "surface_pressure": {}},
        "forcing": {"sea_surface_temperature": {"known": "persisted"}},
        "lateral": {"inputs": [str(files / driving)], "rim": 2},
        "split": SPLIT,
    }
    return {**raw, **changes}


@pytest.fixture(scope="module")
def store(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return open_store(prepare(DataConfig.model_validate(section(files)), folder / "store.zarr", folder))


@pytest.fixture(scope="module")
def driving():
    """What the driving data set says on the regional grid, ``(time, lat, lon, 2)``."""
    data = waves(WORLD, TIMES)
    values = np.stack([data["temperature"], data["surface_pressure"]], axis=-1)
    return make_regridder(WORLD, REGION, "bilinear")(values)


def test_the_rim_is_the_outer_rows_and_columns():
    assert RIM.sum() == 9 * 13 - 5 * 9
    assert not RIM[2:-2, 2:-2].any()
    channel = Grid.from_arrays(np.arange(30.0, 61.0, 10.0), np.arange(0.0, 360.0, 30.0))
    np.testing.assert_array_equal(
        rim_mask(channel, 1), np.array([True, False, False, True])[:, None] * np.ones(12, bool)
    )


def test_lower_bounds_apply_in_the_rim_too(files, driving, tmp_path):
    given = section(files, prognostic={"temperature": {"minimum": 255.0}, "surface_pressure": {}})
    store = open_store(prepare(DataConfig.model_validate(given), tmp_path / "store.zarr", tmp_path))
    wanted = np.maximum(driving[:, RIM, 0], 255)
    assert (driving[:, RIM, 0] < 254).any()
    np.testing.assert_allclose(store.lateral_at(TIMES)[:, RIM, 0], wanted, rtol=1e-6)


def test_lower_bounds_hide_no_missing_values(files, tmp_path):
    data = waves(WORLD, TIMES).drop_vars("sea_surface_temperature")
    data["temperature"][5] = -9999.0
    data.to_netcdf(tmp_path / "driving.nc")
    config = section(files, driving=tmp_path / "driving.nc", prognostic={"temperature": {"minimum": 0.0}})
    with pytest.raises(DataError, match=r"driving.nc \(data.lateral\): temperature ranges from -9999"):
        prepare(DataConfig.model_validate(config), tmp_path / "store.zarr", tmp_path)


@pytest.mark.parametrize("method", ["mean", "point"])
def test_driving_means_and_units_taken_for_granted_are_told(method, files, tmp_path, caplog):
    data = waves(WORLD, TIMES).drop_vars("sea_surface_temperature")
    data["temperature"].attrs = {"cell_methods": f"time: {method}"}
    data.to_netcdf(tmp_path / "driving.nc")
    prepare(
        DataConfig.model_validate(section(files, driving=tmp_path / "driving.nc")), tmp_path / "store.zarr", tmp_path
    )
    assert "driving.nc: no units attribute, so values are taken to be in SI: temperature (K)" in caplog.text
    told = "driving.nc: temperature: means over intervals, taken as instants at their times" in caplog.text
    assert told == (method == "mean")


def test_a_global_grid_and_a_rim_without_interior_are_refused(files, tmp_path):
    waves(WORLD, TIMES).to_netcdf(tmp_path / "world.nc")
    config = section(files, lateral={"inputs": [str(files / "driving.nc")]}, inputs=[str(tmp_path / "world.nc")])
    with pytest.raises(DataError, match="a global grid has no sides"):
        prepare(DataConfig.model_validate(config), tmp_path / "store.zarr", tmp_path)
    with pytest.raises(DataError, match=r"data.lateral.rim: 5 leaves no interior"):
        rim_mask(REGION, 5)


def test_the_store_holds_driving_values_in_the_rim_and_the_state_as_it_was(files, store, driving, tmp_path):
    found = store.lateral_at(TIMES)
    np.testing.assert_allclose(found[:, RIM], driving[:, RIM], rtol=1e-6)
    assert not found[:, ~RIM].any()
    plain = section(files)
    del plain["lateral"]
    without = open_store(prepare(DataConfig.model_validate(plain), tmp_path / "store.zarr", tmp_path))
    np.testing.assert_array_equal(store.read_state(0, 20), without.read_state(0, 20))
    np.testing.assert_array_equal(store.statistics.mean, without.statistics.mean)
    store.verify()


def test_normalised_they_are_as_the_state_in_the_rim_and_zero_beyond(store, driving):
    names = [c.name for c in store.spec.forcing_channels]
    lateral = [names.index(f"lateral_{name}") for name in ("temperature", "surface_pressure")]
    statistics = store.statistics
    np.testing.assert_array_equal(statistics.forcing_mean[lateral], statistics.mean)
    np.testing.assert_array_equal(statistics.forcing_std[lateral], statistics.std)
    forcing = store.forcing_builder.at(TIMES[3:5], store.take_persisted(np.arange(3, 5)))[..., lateral]
    normal = (forcing - statistics.mean) / statistics.std
    assert not normal[:, ~RIM].any()
    np.testing.assert_allclose(normal[:, RIM], ((driving[3:5] - statistics.mean) / statistics.std)[:, RIM], atol=1e-4)


def test_a_batch_has_lateral_values_of_valid_time_and_persisted_ones_of_initial_time(store, driving):
    rows = np.array([2, 7])
    batch = read_batch(store, rows, 3)
    names = [c.name for c in store.spec.forcing_channels]
    for i, row in enumerate(rows):
        got = batch.forcing[i, ..., names.index("lateral_temperature")]
        np.testing.assert_allclose(got[:, RIM], driving[row + 1 : row + 4, ..., 0][:, RIM], rtol=1e-6)
        kept = batch.forcing[i, ..., names.index("sea_surface_temperature")]
        np.testing.assert_array_equal(kept, np.repeat(store.take_persisted(np.array([row]))[..., 0], 3, axis=0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.isel(time=[*range(9), *range(12, 40)]), r"no temperature at 2001-01-03T06:00 \(3 of 40"),
        (lambda d: d.isel(time=slice(0, 30)), r"no temperature at 2001-01-08T12:00 \(10 of 40"),
        (lambda d: d.sel(longitude=slice(0, 240)), r"driving.nc.* reaches beyond"),
        (lambda d: d.drop_vars("surface_pressure"), r"missing surface_pressure"),
        (lambda d: d.where(d.longitude != 213.75), r"driving.nc \(data.lateral\): temperature has NaN"),
    ],
)
def test_a_driving_data_set_that_lacks_something_is_refused_by_name(files, tmp_path, change, said):
    change(xr.load_dataset(files / "driving.nc")).to_netcdf(tmp_path / "driving.nc")
    config = section(files, lateral={"inputs": [str(tmp_path / "driving.nc")], "rim": 2})
    with pytest.raises(DataError, match=said) as error:
        prepare(DataConfig.model_validate(config), tmp_path / "store.zarr", tmp_path)
    assert "\n" not in str(error.value)


def test_a_driving_data_set_may_have_names_and_units_of_its_own(files, tmp_path):
    """The regional files have theirs, which a config names as source."""
    region, driving = (waves(grid, TIMES).rename(surface_pressure="extra") for grid in (REGION, WORLD))
    region["extra"].attrs["units"] = "hPa day-1"
    region.rename(temperature="T_MY").to_netcdf(tmp_path / "region.nc")
    driving["extra"] = (driving["extra"] / 24).assign_attrs(units="hPa / hour")
    driving.to_netcdf(tmp_path / "driving.nc")
    own = {"prognostic": {"temperature": {"source": "T_MY"}, "extra": {}}}
    stores = []
    for folder, changes in ((tmp_path, own), (files, {})):
        config = DataConfig.model_validate(section(folder, **changes))
        stores.append(open_store(prepare(config, tmp_path / f"{len(stores)}.zarr", tmp_path)))
    np.testing.assert_allclose(*(store.persisted[:] for store in stores), rtol=1e-5)


def test_driving_rain_at_times_closer_than_the_model_step_is_refused(files, tmp_path):
    closer = times_from("2001-01-01", 79, np.timedelta64(3, "h"))
    for name, grid, times in (("region.nc", REGION, TIMES), ("driving.nc", WORLD, closer)):
        data = waves(grid, times)
        rain = ((data["temperature"] - 240) * 1e-4).assign_attrs(units="m")
        data.assign(tp=rain).to_netcdf(tmp_path / name)
    config = section(tmp_path, prognostic={"temperature": {}, "total_precipitation_6hr": {"source": "tp"}})
    with pytest.raises(DataError, match=r"total_precipitation_6hr comes 2 times in a model step; sum it over 6 h"):
        prepare(DataConfig.model_validate(config), tmp_path / "store.zarr", tmp_path)


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """A network trained for a few steps, its forecasts and scores."""
    work = tmp_path_factory.mktemp("run")
    experiment = {
        "name": "region",
        "workdir": str(work),
        "data": section(files),
        "model": {"kind": "unet", "patch": 1, "width": 4, "multipliers": [1], "blocks": 1},
        "train": {"batch_size": 4, "stages": [{"steps": 4, "warmup": 1, "learning_rate": 1e-2}],
                  "validation_windows": 4, "validation_steps": 2},
        "evaluate": {"lead_hours": 24, "init_every_hours": 24, "bootstrap": 100, "references": ["persistence"]},
    }  # fmt: skip
    (work / "region.yaml").write_text(yaml.safe_dump(experiment))
    for stage in ("prepare", "train", "forecast", "evaluate"):
        assert main([stage, str(work / "region.yaml")]) == 0, stage
    return work


def test_files_and_scores_say_where_the_boundary_is_from(folder):
    network, persistence = (xr.load_dataset(folder / "forecasts" / f"{n}.nc") for n in ("network", "persistence"))
    assert network.attrs["lateral_boundary"] == "the driving data set at valid time"
    assert "lateral_boundary" not in persistence.attrs
    assert xr.load_dataset(folder / "scores.nc").attrs["lateral_boundary"] == "the driving data set at valid time"
    assert "this compares no forecasts" in " ".join((folder / "table.txt").read_text().split())


def test_a_network_that_ships_keeps_its_rim(folder, tmp_path):
    ship_run(folder / "run", tmp_path)
    ours, theirs = (emulator.load_forecaster(path).forcing_builder.rim for path in (folder / "run", tmp_path))
    np.testing.assert_array_equal(theirs.mask, RIM)
    np.testing.assert_array_equal(theirs.interior, ours.interior)


def test_a_store_gives_a_network_its_own_channels_and_no_narrower_rim(folder, files, store, tmp_path):
    network = emulator.load_forecaster(folder / "run")
    turned = section(files, prognostic={"surface_pressure": {}, "temperature": {}})
    other = open_store(prepare(DataConfig.model_validate(turned), tmp_path / "turned.zarr", tmp_path))
    wanted, found = (driven_by(network, s).lateral(TIMES[4:6]) for s in (store, other))
    np.testing.assert_array_equal(found, wanted)
    assert any(not np.array_equal(s.lateral_at(TIMES[4:6]), wanted) for s in (store, other))
    narrow = section(files, lateral={"inputs": [str(files / "driving.nc")], "rim": 1})
    store_of_one = open_store(prepare(DataConfig.model_validate(narrow), tmp_path / "narrow.zarr", tmp_path))
    with pytest.raises(DataError, match=r"rim of the store .* is narrower than that which network was trained with"):
        driven_by(network, store_of_one)


def test_departures_are_driven_by_departures(files, tmp_path):
    """Where the driving data are the truth, a network with anomalies sees in the rim what it sees in its state."""
    config = section(files, driving="region.nc")
    store = open_store(prepare(DataConfig.model_validate(config), tmp_path / "store.zarr", tmp_path))
    stages = [RolloutStage(steps=1, warmup=0)]
    training = TrainConfig(anomalies=True, batch_size=2, stages=stages, validation_windows=2, validation_steps=2)
    model = UNetConfig(patch=1, width=4, multipliers=[1], blocks=1)
    train(training, model, tmp_path / "store.zarr", tmp_path / "run", 0, {"name": "test"})
    network = driven_by(emulator.load_forecaster(tmp_path / "run"), store)
    seen = anomalies_of(store)
    lateral = [c.name.startswith("lateral_") for c in store.spec.forcing_channels]
    batch = read_batch(seen, np.array([3]), 2)
    normal = ((batch.forcing - seen.statistics.forcing_mean) / seen.statistics.forcing_std)[0, ..., lateral]
    state = np.moveaxis((batch.state[0, 1:] - seen.statistics.mean) / seen.statistics.std, -1, 0)
    np.testing.assert_allclose(normal[..., RIM], state[..., RIM], atol=1e-3)
    np.testing.assert_allclose(normal[..., ~RIM], 0, atol=1e-6)
    given = store.take_persisted(np.array([3]))[..., ~store.forcing_builder.is_lateral]
    np.testing.assert_allclose(network._forcings(TIMES[3:4], np.arange(1, 3), given), batch.forcing, atol=1e-3)


class TestForecastOfAFile:
    def forecast(self, folder, files, out, *more):
        time = str(xr.open_dataset(folder / "forecasts" / "network.nc")["init_time"].values[0])[:16]
        command = ["forecast", str(folder / "run"), str(files / "region.nc"), "--days", "1", "--time", time]
        return main([*command, "--out", str(out), *more])

    def test_equals_the_experiments(self, folder, files, tmp_path, monkeypatch):
        probed = []
        monkeypatch.setattr("emulator.forecast.probe", probed.extend)
        assert self.forecast(folder, files, tmp_path / "a.nc", "--lateral", str(files / "driving.nc")) == 0
        alone = xr.load_dataset(tmp_path / "a.nc")
        together = xr.load_dataset(folder / "forecasts" / "network.nc").isel(init_time=[0])
        np.testing.assert_allclose(alone["temperature"], together["temperature"][0], atol=1e-3)
        assert alone.attrs["lateral_boundary"].endswith("driving.nc")
        assert probed == [files / "region.nc", files / "driving.nc"]  # both may come from anybody

    def test_needs_of_its_config_the_rim_alone(self, folder, files, tmp_path, capsys):
        """The rest may be of another version's schema."""
        for name in ("run", "forecasts"):
            shutil.copytree(folder / name, tmp_path / name)
        description = read_description(tmp_path / "run")
        data = description["experiment"]["data"]
        for changes, code in (({"key_of_tomorrow": 1}, 0), ({"lateral": None}, 1)):
            write_description(tmp_path / "run", {**description, "experiment": {"data": {**data, **changes}}})
            assert self.forecast(tmp_path, files, tmp_path / "a.nc", "--lateral", str(files / "driving.nc")) == code
        assert "does not find in its data.lateral how to read --lateral" in capsys.readouterr().err

    def test_follows_the_driving_data_at_valid_time_and_not_before(self, folder, files, tmp_path):
        data = xr.load_dataset(files / "driving.nc")
        start = xr.open_dataset(folder / "forecasts" / "network.nc")["init_time"].values[0]
        changed = data.assign(temperature=data["temperature"] + 5 * (data["time"] == start + np.timedelta64(12, "h")))
        changed["temperature"].attrs = data["temperature"].attrs
        changed.astype("f4").to_netcdf(tmp_path / "driving.nc")
        for name, where in (("a", files), ("b", tmp_path)):
            assert self.forecast(folder, files, tmp_path / f"{name}.nc", "--lateral", str(where / "driving.nc")) == 0
        a, b = (xr.load_dataset(tmp_path / f"{name}.nc")["temperature"].values for name in "ab")
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1] != b[1]).any()

    def test_needs_no_driving_data_beyond_its_last_lead(self, folder, files, tmp_path):
        """Nine steps are made in blocks of five."""
        data = xr.load_dataset(files / "driving.nc")
        data.sel(time=slice("2001-01-08", "2001-01-10T06")).to_netcdf(tmp_path / "short.nc")
        more = ("--days", "2.25", "--lateral", str(tmp_path / "short.nc"))
        assert self.forecast(folder, files, tmp_path / "a.nc", *more) == 0

    def test_takes_a_file_of_its_only_valid_time(self, folder, files, tmp_path):
        start = xr.open_dataset(folder / "forecasts" / "network.nc")["init_time"].values[0]
        data = xr.load_dataset(files / "driving.nc")
        data.sel(time=[start + np.timedelta64(6, "h")]).to_netcdf(tmp_path / "one.nc")
        for name, driving in (("one", tmp_path / "one.nc"), ("all", files / "driving.nc")):
            more = ("--days", "0.25", "--lateral", str(driving))
            assert self.forecast(folder, files, tmp_path / f"f_{name}.nc", *more) == 0
        one, whole = (xr.load_dataset(tmp_path / f"f_{name}.nc")["temperature"] for name in ("one", "all"))
        np.testing.assert_array_equal(one, whole)

    def test_is_refused_without_the_driving_data(self, folder, files, tmp_path, capsys):
        assert self.forecast(folder, files, tmp_path / "a.nc") == 1
        assert "needs those of its valid times" in capsys.readouterr().err

    def test_is_refused_beyond_the_driving_data(self, folder, files, tmp_path, capsys):
        xr.load_dataset(files / "driving.nc").isel(time=slice(0, 20)).to_netcdf(tmp_path / "short.nc")
        assert self.forecast(folder, files, tmp_path / "a.nc", "--lateral", str(tmp_path / "short.nc")) == 1
        said = capsys.readouterr().err
        assert "at 2001-01-08T06:00 (4 of 4 times are missing" in said


class TestFromPython:
    def test_a_store_gives_the_lateral_values_of_the_valid_times(self, folder, files):
        together = xr.load_dataset(folder / "forecasts" / "network.nc").isel(init_time=[0])
        with xr.open_dataset(files / "region.nc") as region:
            initial = region.sel(time=together["init_time"].values)
            network, store = emulator.load_forecaster(folder / "run"), open_store(folder / "store.zarr")
            alone = emulator.predict(network, initial, days=1, lateral=store)
            np.testing.assert_allclose(alone["temperature"], together["temperature"], atol=1e-3)
            known = together.attrs["lateral_boundary"]
            assert alone.attrs["lateral_boundary"] == known
            assert emulator.score({"mine": alone}, store, bootstrap=50).attrs["lateral_boundary"] == known
            with pytest.raises(
                DataError, match=r"needs those of its valid times: .*, or predict\(\.\.\., lateral=store\)$"
            ):
                emulator.predict(network, initial, days=1)

    def test_what_does_not_belong_together_is_refused(self, folder, files, store, tmp_path):
        plain = section(files)
        del plain["lateral"]
        without = open_store(prepare(DataConfig.model_validate(plain), tmp_path / "store.zarr", tmp_path))
        network, initial = emulator.load_forecaster(folder / "run"), xr.open_dataset(files / "region.nc")
        with pytest.raises(
            DataError, match=r"the store holds no lateral boundary values on .*; network takes lateral_"
        ):
            emulator.predict(network, initial, days=1, lateral=without)
        (tmp_path / "plain").mkdir()
        stages = [RolloutStage(steps=1, warmup=0)]
        training = TrainConfig(batch_size=2, stages=stages, validation_windows=2, validation_steps=2)
        model = UNetConfig(patch=1, width=4, multipliers=[1], blocks=1)
        train(training, model, tmp_path / "store.zarr", tmp_path / "plain" / "run", 0, {"name": "plain"})
        undriven = emulator.load_forecaster(tmp_path / "plain")
        last = initial.isel(time=[3])
        alone = [emulator.predict(network, last, days=1, lateral=store), emulator.predict(undriven, last, days=1)]
        for networks in ((network, undriven), (undriven, network)):  # each takes what it was trained with
            both = emulator.predict(emulator.SeveralNetworks(networks), last, days=1, lateral=store)
            mean = (alone[0]["temperature"] + alone[1]["temperature"]).values / 2
            np.testing.assert_allclose(both["temperature"].values, mean, atol=1e-3)
        with pytest.raises(DataError, match="takes no lateral boundary values; leave it out"):
            other = replace(undriven, params=jax.tree.map(lambda x: 1.01 * x, undriven.params))
            emulator.predict(emulator.SeveralNetworks((undriven, other)), last, days=1, lateral=store)
        command = ["forecast", str(tmp_path / "plain"), str(files / "region.nc"), "--days", "1", "--lateral"]
        assert main([*command, str(files / "driving.nc"), "--out", str(tmp_path / "x.nc")]) == 1
        time = str(last["time"].values[0])[:16]
        command += [str(files / "driving.nc"), "--time", time, "--with", str(folder / "run")]
        assert main([*command, "--out", str(tmp_path / "both.nc")]) == 0
        persistence = make_reference("persistence", store, np.array([np.timedelta64(6, "h")]))
        with pytest.raises(DataError, match="persistence takes no lateral boundary values"):
            emulator.predict(persistence, initial, days=1, lateral=store)


def test_a_forecast_of_this_program_drives_a_region_and_files_may_share_a_time(folder, files, tmp_path):
    def forecast(out, *lateral):
        arguments = [str(files / "region.nc"), "--time", "2001-01-03", "--days", "1", "--lateral", *map(str, lateral)]
        assert main(["forecast", str(folder / "run"), *arguments, "--out", str(out)]) == 0
        return xr.load_dataset(out)

    driving = xr.load_dataset(files / "driving.nc")
    parts = [tmp_path / "a.nc", tmp_path / "b.nc"]
    driving.isel(time=slice(0, 11)).to_netcdf(parts[0])
    driving.isel(time=slice(10, None)).to_netcdf(parts[1])
    first = forecast(tmp_path / "first.nc", files / "driving.nc")
    xr.testing.assert_equal(first, forecast(tmp_path / "parts.nc", *parts))
    again = forecast(tmp_path / "again.nc", tmp_path / "first.nc")
    assert np.isfinite(again["temperature"]).all() and not first.equals(again)
