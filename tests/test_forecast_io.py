"""Forecast files: readable without options, complete or absent, one-line errors."""

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import cf_xarray  # noqa: F401 - registers the accessor
import netCDF4
import numpy as np
import pytest
import xarray as xr
from synthetic import Noisy, evaluation_rows, lead_times, make_store
from weather_files import HOURS_6, times_from

from data_prep.errors import DataError, UserError
from data_prep.files.disk import DiskError
from data_prep.grid import Grid
from emulator.bounds import ForecastStoppedError
from emulator.forecast_form import open_forecasts
from emulator.forecast_io import ForecastWriter, write_forecasts
from emulator.forecasters.persistence import Persistence


@pytest.fixture(scope="module")
def store():
    return make_store(Grid.gaussian(8), days=12)


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("forecasts") / "noisy.nc"
    rows, leads = evaluation_rows(store, 3), lead_times(3)
    write_forecasts(
        Noisy(store, "noisy", 0.1, 0.1),
        store.dataset(rows),
        leads,
        path,
        batch=4,
        surface_geopotential=np.ones(store.grid.shape),
        attributes={"data_hash": store.data_hash},
    )
    return path, rows, leads


def test_plain_xarray_reads_it_without_a_warning(written, store):
    path, rows, leads = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_dataset(path)
        values = data.load()
    assert data["lead_time"].dtype == np.dtype("timedelta64[ns]")
    assert data["init_time"].dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(data["init_time"], store.times[rows])
    np.testing.assert_array_equal(data["lead_time"], leads)
    assert values["temperature"].dims == ("init_time", "lead_time", "level", "latitude", "longitude")
    assert values["temperature"].dtype == np.float32
    assert values["geopotential"].sizes["level_2"] == 1
    assert not any(v.isnull().any() for v in values.data_vars.values())


def test_values_land_where_their_times_say(written, store):
    path, rows, leads = written
    data = xr.open_dataset(path)
    forecaster = Noisy(store, "noisy", 0.1, 0.1)
    i, j = rows.size - 1, leads.size - 1
    block = next(forecaster.forecast(store.dataset(rows[[i]]), leads[[j]]))
    for name in block.data_vars:
        np.testing.assert_array_equal(data[name].isel(init_time=i, lead_time=j), block[name][0, 0])


def test_it_is_cf(written):
    path, _, _ = written
    data = xr.open_dataset(path)
    assert data.attrs["Conventions"] == "CF-1.11"
    assert data.cf["forecast_reference_time"].name == "init_time" and data.cf["forecast_period"].name == "lead_time"
    assert data["temperature"].cf["vertical"].attrs["units"] == "hPa"
    assert data["temperature"].attrs["standard_name"] == "air_temperature"
    assert data["geopotential_at_surface"].dims == ("latitude", "longitude")
    for key in ("title", "source", "forecaster", "history", "emulator_version", "hardware", "data_hash"):
        assert data.attrs[key]
    assert data.attrs["seconds_per_simulated_day"] * data.attrs["simulated_days_per_second"] == pytest.approx(1)
    with netCDF4.Dataset(path) as raw:
        assert raw["lead_time"].units == "hours" and raw["lead_time"][:4].tolist() == [6, 12, 18, 24]
        assert not raw["temperature"].filters()["zlib"]  # see the module: too slow for a fast forecaster


def test_interrupted_or_incomplete_leaves_nothing(store, tmp_path):
    rows, leads = np.arange(4), lead_times(1)
    block = next(Persistence(store.spec, store.grid, store.timestep).forecast(store.dataset(rows), leads))
    path = tmp_path / "out" / "f.nc"
    with pytest.raises(KeyboardInterrupt), ForecastWriter(path, store.times[rows], leads) as writer:
        writer.write(block)
        raise KeyboardInterrupt
    with pytest.raises(DataError, match="left out 4 of 16"), ForecastWriter(path, store.times[rows], leads) as writer:
        writer.write(block.isel(lead_time=slice(0, 3)))
    with pytest.raises(DataError, match="not asked for"), ForecastWriter(path, store.times[rows[:3]], leads) as writer:
        writer.write(block)
    with (
        pytest.raises(ForecastStoppedError, match=r"not finite any more at lead 12 h in temperature.*unstable"),
        ForecastWriter(path, store.times[rows], leads) as writer,
    ):
        writer.write(block.where(block["lead_time"] != leads[1]))
    with pytest.raises(DataError, match="the first held"), ForecastWriter(path, store.times[rows], leads) as writer:
        writer.write(block.isel(lead_time=[0]))
        writer.write(block.isel(lead_time=[1])[["temperature"]])
    assert list(path.parent.iterdir()) == []


def test_a_forecast_that_is_impossible_at_once_says_so_and_leaves_nothing(store, tmp_path):
    hot = store.dataset(np.arange(4)).map(lambda field: field + 1000, keep_attrs=True)
    persistence = Persistence(store.spec, store.grid, store.timestep)
    with pytest.raises(ForecastStoppedError, match=r"bounds at lead 6 h: temperature ranges .* unstable$"):
        write_forecasts(persistence, hot, lead_times(1), tmp_path / "f.nc", batch=2)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_a_failed_rewrite(store, tmp_path):
    path = tmp_path / "f.nc"
    path.write_text("earlier")
    with pytest.raises(DataError), ForecastWriter(path, store.times[:1], lead_times(1)):
        pass
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_its_place_is_left_alone_and_said_before_the_first_step(store, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").touch()
    with pytest.raises(DiskError, match="a folder lies where a file is to be written; choose another name"):
        ForecastWriter(tmp_path / "results", store.times[:1], lead_times(1)).__enter__()
    assert (tmp_path / "results" / "precious").exists() and len(list(tmp_path.iterdir())) == 1


def test_two_writers_of_one_file_do_not_mix(store, tmp_path):
    rows, leads = np.arange(2), lead_times(1)
    block = next(Persistence(store.spec, store.grid, store.timestep).forecast(store.dataset(rows), leads))
    path = tmp_path / "f.nc"
    with ForecastWriter(path, store.times[rows], leads) as writer:
        writer.write(block.isel(init_time=[0]))
        with pytest.raises(UserError, match=r"f.nc: another process is writing it"):
            ForecastWriter(path, store.times[rows], leads).__enter__()
        writer.write(block.isel(init_time=[1]))
    np.testing.assert_array_equal(xr.load_dataset(path)["temperature"], block["temperature"])


def test_blocks_may_come_in_any_order_and_sub_hourly(store, tmp_path):
    rows = np.array([5, 3, 1])
    leads = np.array([20, 40, 60, 80], "timedelta64[m]").astype("timedelta64[ns]")
    fields = store.dataset(rows).rename(time="init_time").expand_dims(lead_time=leads, axis=1)
    path = tmp_path / "f.nc"
    with ForecastWriter(path, store.times[rows], leads) as writer:
        for i in (2, 0, 1):
            writer.write(fields.isel(init_time=[i], lead_time=slice(2, None)))
            writer.write(fields.isel(init_time=[i], lead_time=slice(0, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.load_dataset(path)
    np.testing.assert_array_equal(data["lead_time"], leads)
    xr.testing.assert_equal(data.drop_attrs()["temperature"], fields.drop_attrs()["temperature"])


def test_an_ensemble_keeps_its_members(store, tmp_path):
    leads = lead_times(1)
    block = next(Persistence(store.spec, store.grid, store.timestep).forecast(store.dataset([0, 1]), leads))
    members = xr.concat([block, block + 1], dim="realization").assign_coords(realization=[0, 1])
    with ForecastWriter(tmp_path / "f.nc", store.times[:2], leads) as writer:
        writer.write(members)
    data = open_forecasts(tmp_path / "f.nc")
    assert data["2m_temperature"].dims == ("init_time", "lead_time", "realization", "latitude", "longitude")
    np.testing.assert_allclose(data["2m_temperature"].isel(realization=1), members["2m_temperature"][1])


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """In a process of its own whose files may not grow beyond 100 kB, which fails as a full disk does."""
    code = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from data_prep.files.disk import DiskError
        from data_prep.grid import Grid
        from emulator.forecast_io import write_forecasts
        from synthetic import Noisy, lead_times, make_store
        store = make_store(Grid.gaussian(8), days=4)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_forecasts(Noisy(store, "noisy", 1, 1), store.dataset(range(8)), lead_times(2), Path(sys.argv[1]))
        except DiskError as error:
            print(error)
    """
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "f.nc")],
        capture_output=True,
        text=True,
        check=False,
        # no bytecode: of a late import the limit would leave half a file, which breaks that module from then on
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1 and "cannot be written" in lines[0], done.stdout + done.stderr
    assert "f.nc" in lines[0] and list(tmp_path.iterdir()) == []


def test_what_is_no_forecast_file(tmp_path):
    path = tmp_path / "x.nc"
    path.write_text("not netcdf")
    with pytest.raises(DataError, match="not a readable NetCDF"):
        open_forecasts(path)
    xr.Dataset({"t": ("time", [1.0])}).to_netcdf(tmp_path / "y.nc")
    with pytest.raises(DataError, match="lacks the dimensions init_time"):
        open_forecasts(tmp_path / "y.nc")


def test_shares_may_overshoot_in_files_as_in_networks(tmp_path):
    """Persistence of an anomaly adds it to a climatology that may be near one."""
    block = xr.Dataset(
        {"total_cloud_cover": (("init_time", "lead_time", "latitude", "longitude"), np.full((1, 2, 2, 3), 1.05))},
        {"init_time": [np.datetime64("2001-01-01", "ns")], "lead_time": np.array([6, 12], "m8[h]").astype("m8[ns]")},
    ).assign_coords(latitude=[0.0, 1.0], longitude=[0.0, 1.0, 2.0])
    block["total_cloud_cover"].attrs["units"] = "1"
    with ForecastWriter(tmp_path / "f.nc", block["init_time"].values, block["lead_time"].values) as writer:
        writer.write(block)
    with ForecastWriter(tmp_path / "f.nc", block["init_time"].values, block["lead_time"].values) as writer:
        with pytest.raises(ForecastStoppedError, match="ranges from 3 to 3"):
            writer.write(block + 1.95)
        writer.stop("unstable")
    with pytest.raises(DataError, match="an initial time is there twice"):
        ForecastWriter(tmp_path / "f.nc", block["init_time"].values.repeat(2), block["lead_time"].values)


def test_forecasts_end_before_times_do(store, tmp_path):
    initial = store.dataset([3]).assign_coords(time=[np.datetime64("2262-01-01", "ns")])
    leads = np.array([6, 24 * 120], "timedelta64[h]").astype("timedelta64[ns]")
    with pytest.raises(DataError, match="forecasts from 2262-01-01T00:00 reach beyond the year 2262"):
        write_forecasts(Persistence(store.spec, store.grid, store.timestep), initial, leads, tmp_path / "f.nc")


def test_an_initial_time_that_is_there_twice_is_no_second_sample(written, tmp_path):
    with xr.open_dataset(written[0]) as data:
        halves = [data.isel(init_time=[0, 1]), data.isel(init_time=[1, 2])]
        xr.concat(halves, "init_time", data_vars="minimal").to_netcdf(tmp_path / "joined.nc")
    with pytest.raises(DataError, match=r"joined.nc: no sound forecast file: its axis init_time holds a value twice"):
        open_forecasts(tmp_path / "joined.nc")


def unstable(*departures: tuple[str, int, int]) -> xr.Dataset:
    """Two forecasts of four leads that are impossible from these leads of these initial times on."""
    dims = ("init_time", "lead_time", "latitude", "longitude")
    names = {"2m_temperature": (280.0, "K"), "total_cloud_cover": (0.5, "1")}
    data = {name: (dims, np.full((2, 4, 2, 3), x, np.float32), {"units": u}) for name, (x, u) in names.items()}
    coords = {
        "init_time": times_from("2001-01-01", 2),
        "lead_time": np.arange(1, 5) * HOURS_6,
        "latitude": [0.0, 1.0],
        "longitude": [0.0, 1.0, 2.0],
    }
    block = xr.Dataset(data, coords)
    for name, row, lead in departures:
        block[name][row, lead:] = 1e4
    return block


@pytest.mark.parametrize("later", ["2m_temperature", "total_cloud_cover"])
def test_a_forecast_ends_where_the_first_of_its_variables_departs_in_whatever_order_they_come(later, tmp_path):
    sooner = ({"2m_temperature", "total_cloud_cover"} - {later}).pop()
    block = unstable((later, 0, 3), (sooner, 0, 1))
    with ForecastWriter(tmp_path / "f.nc", block["init_time"].values, block["lead_time"].values) as writer:
        with pytest.raises(ForecastStoppedError, match=f"at lead 12 h: {sooner}"):
            writer.write(block)
        kept = writer.stop("unstable")
    with xr.open_dataset(kept) as found:
        for name in block:
            np.testing.assert_array_equal(found[name][:, 0], block[name][:, 0])
            assert found[name][:, 1:].isnull().all()


def test_of_several_forecasts_all_that_was_not_reached_is_missing(tmp_path):
    block = unstable(("2m_temperature", 1, 2))
    with ForecastWriter(tmp_path / "f.nc", block["init_time"].values, block["lead_time"].values) as writer:
        writer.write(block.isel(init_time=[0]))
        with pytest.raises(ForecastStoppedError, match="from 2001-01-01T06:00 left physical bounds at lead 18 h"):
            writer.write(block.isel(init_time=[1]))
        kept = writer.stop("unstable")
    with xr.open_dataset(kept) as found:
        for name in block:
            missing = found[name].isnull().all(("latitude", "longitude")).values
            assert missing.tolist() == [[False] * 4, [False, False, True, True]]
            np.testing.assert_array_equal(found[name].values[~missing], block[name].values[~missing])
