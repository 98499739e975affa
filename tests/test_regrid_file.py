"""Files and data sets on another grid: the command, and preparation with ``data.regrid``."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from weather_files import open_files
from world_files import DIALECTS, LEVELS, ON_LEVELS, QUANTA, world

from data_prep.config import DataConfig, RegridConfig
from data_prep.errors import ConfigError, DataError
from data_prep.files.disk import DiskError
from data_prep.grid import Grid
from data_prep.grid_names import parse_grid_name
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading.opening import open_lazily
from data_prep.reading.regrid_file import blocks_of, regrid_file
from data_prep.reading.regridded import RegriddedSource, grid_of_file, regrid_sources
from data_prep.reading.sources import open_source
from data_prep.regrid import make_regridder
from emulator.cli import main
from emulator.config import load_config

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
FINE = Grid.named(parse_grid_name("24x12"))
COARSE = Grid.named(parse_grid_name("12x7"))
TIMES = np.datetime64("2001-01-01", "ns") + np.arange(9) * np.timedelta64(6, "h")


def weather(grid: Grid = FINE) -> xr.Dataset:
    """Temperature on two levels and a surface pressure, float32."""
    rng = np.random.default_rng(5)
    shape = (TIMES.size, 2, *grid.shape)
    coords = {
        "time": TIMES,
        "level": ("level", [500.0, 850.0], {"units": "hPa"}),
        "latitude": ("latitude", np.asarray(grid.latitude), {"units": "degrees_north"}),
        "longitude": ("longitude", np.asarray(grid.longitude), {"units": "degrees_east"}),
    }
    dims = tuple(coords)
    data = {
        "temperature": (dims, rng.normal(260, 9, shape).astype(np.float32), {"units": "K", "note": "kept"}),
        "surface_pressure": (
            ("time", "latitude", "longitude"),
            rng.normal(1e5, 900, (TIMES.size, *grid.shape)).astype(np.float32),
            {"units": "Pa"},
        ),
    }
    return xr.Dataset(data, coords, attrs={"title": "made up", "history": "2001 made"})


def by_hand(data: xr.Dataset, name: str, target: Grid = COARSE, **options) -> np.ndarray:
    source = Grid.from_arrays(data["latitude"], data["longitude"])
    values = data[name].transpose(..., "latitude", "longitude").values
    return make_regridder(source, target, **options)(values[..., None])[..., 0]


def write(data: xr.Dataset, path: Path, **options) -> Path:
    data.to_netcdf(path, **options)
    return path


def test_the_command_regrids_every_field_and_keeps_the_rest(tmp_path, capsys):
    data = weather()
    data["time_bounds"] = (("time", "bounds"), np.stack([TIMES, TIMES], axis=1))
    path = write(data, tmp_path / "in.nc")
    out = tmp_path / "new" / "out.nc"
    assert main(["regrid", str(path), str(out), "--grid", "12x7"]) == 0
    assert "12 x 7 global" in capsys.readouterr().out
    with xr.open_dataset(out) as result:
        for name in ("temperature", "surface_pressure"):
            np.testing.assert_array_equal(result[name], by_hand(data, name))
            assert result[name].dtype == np.float32
            assert result[name].dims == data[name].dims
            assert result[name].attrs == data[name].attrs
        assert Grid.from_arrays(result["latitude"], result["longitude"]) == COARSE
        assert result["latitude"].attrs["standard_name"] == "latitude"
        np.testing.assert_array_equal(result["time"], TIMES)
        assert result["level"].attrs == {"units": "hPa"}
        assert "time_bounds" in result
        assert result.attrs["title"] == "made up"
        first, second = result.attrs["history"].splitlines()
        assert "conservative regridding from 24 x 12 global" in first
        assert second == "2001 made"
    assert sorted(p.name for p in out.parent.iterdir()) == ["out.nc"]


def test_times_in_single_precision_are_written_as_they_were_meant(tmp_path):
    data = weather()
    data["time"] = TIMES[0] + np.arange(TIMES.size) * np.timedelta64(1, "h")
    encoding = {"time": {"units": "days since 1858-11-17", "dtype": "float32"}}
    regrid_file(write(data, tmp_path / "in.nc", encoding=encoding), tmp_path / "out.nc", RegridConfig(grid="12x7"))
    with xr.open_dataset(tmp_path / "in.nc") as given, xr.open_dataset(tmp_path / "out.nc") as result:
        assert (given["time"].values != data["time"].values).any()
        np.testing.assert_array_equal(result["time"], data["time"])
        assert result["time"].attrs["standard_name"] == "time"


def test_a_grid_beside_counted_axes_is_regridded_and_closed(tmp_path):
    data = weather()
    places = {"lat": ("y", data["latitude"].values), "lon": ("x", data["longitude"].values)}
    moved = data.rename(latitude="y", longitude="x").drop_vars(["y", "x"]).assign_coords(places)
    path = write(moved, tmp_path / "in.nc")
    assert regrid_file(path, tmp_path / "out.nc", RegridConfig(grid="12x7")) == COARSE
    assert grid_of_file(path) == Grid.from_arrays(data["latitude"], data["longitude"])
    assert "in.nc" not in open_files(tmp_path)
    with xr.open_dataset(tmp_path / "out.nc") as result:
        np.testing.assert_array_equal(result["temperature"], by_hand(data, "temperature"))


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_bounds_of_times_are_counted_as_the_times_are(calendar, tmp_path):
    """Daily means are stamped at noon: counted from their first, they and their bounds would be from two dates."""
    data = weather()
    days = xr.date_range("2001-01-01", periods=TIMES.size + 1, calendar=calendar)
    noon = xr.date_range("2001-01-01T12", periods=TIMES.size, calendar=calendar)
    data = data.assign_coords(time=("time", noon, {"bounds": "time_bnds"}))
    data["time_bnds"] = (("time", "bnds"), np.stack([days[:-1], days[1:]], axis=1))
    data["time"].encoding["units"] = "hours since 1850-01-01"
    regrid_file(write(data, tmp_path / "in.nc"), tmp_path / "out.nc", RegridConfig(grid="12x7"))
    with xr.open_dataset(tmp_path / "out.nc", decode_times=False) as raw:
        assert raw["time_bnds"].attrs.get("units", raw["time"].attrs["units"]) == raw["time"].attrs["units"]
        np.testing.assert_array_equal(raw["time_bnds"].mean("bnds"), raw["time"])
    with xr.open_dataset(tmp_path / "out.nc") as result:
        np.testing.assert_array_equal(result["time"], data["time"])
        np.testing.assert_array_equal(result["time_bnds"][:, 0], days[:-1])


def test_files_as_they_are_in_the_world(tmp_path):
    """North first, from 180 W with both ends, longitude before latitude, packed, other names."""
    data = weather()
    moved = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude")
    last = moved.isel(longitude=[0]).assign_coords(longitude=[180.0])
    moved = xr.concat([moved, last], "longitude", data_vars="minimal").isel(latitude=slice(None, None, -1))
    moved = moved.transpose("longitude", "latitude", "level", "time").rename(latitude="lat", longitude="lon")
    moved["lat_bnds"] = (("lat", "bnds"), np.zeros((12, 2)))
    moved["lat"].attrs["bounds"] = "lat_bnds"
    moved["flags"] = (("lat", "lon"), np.ones((12, 25), np.int8), {"flag_values": [0, 1]})
    moved["gw"] = ("lat", np.ones(12))
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 260.0, "_FillValue": -32767}
    path = write(moved, tmp_path / "in.nc", encoding={"temperature": packing})
    grid = regrid_file(path, tmp_path / "out.nc", RegridConfig(grid="12x7"))
    assert grid == COARSE
    with xr.open_dataset(tmp_path / "out.nc") as result:
        assert result["temperature"].dims == ("level", "time", "lat", "lon")
        found = result["temperature"].transpose("time", "level", "lat", "lon")
        np.testing.assert_allclose(found, by_hand(data, "temperature"), atol=0.0051)  # packing rounds to 0.01 K
        np.testing.assert_array_equal(result["surface_pressure"], by_hand(data, "surface_pressure"))
        assert set(result.data_vars) == {"temperature", "surface_pressure"}
        assert "bounds" not in result["lat"].attrs


NAMES = {name: (name,) for name in QUANTA}


def read_all(path: Path) -> dict[str, np.ndarray]:
    source = open_source(path, NAMES, "pressure")
    return {n: source.read(n, LEVELS if n in ON_LEVELS else (), 0, source.times.size) for n in source.fields}


@pytest.fixture(scope="module")
def on_coarse_grid(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("canonical")
    regrid_file(DIALECTS["zarr3"](world(), folder), folder / "out.nc", RegridConfig(grid="8x5"))
    return read_all(folder / "out.nc")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dialect", "suffix"),
    [(d, ".zarr" if d in ("arco", "cds_new", "cmip6_noleap", "jra55_ncl") else ".nc") for d in DIALECTS],
)
def test_every_dialect_is_regridded_in_its_own_words(dialect, suffix, on_coarse_grid, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = DIALECTS[dialect](world(), tmp_path)
    regrid_file(path, tmp_path / f"out{suffix}", RegridConfig(grid="8x5"))
    found = read_all(tmp_path / f"out{suffix}")
    assert set(found) == set(QUANTA)
    for name, values in on_coarse_grid.items():
        # a mean is taken in the file's unit and precision, so single precision is as far as they agree
        np.testing.assert_allclose(found[name], values, rtol=3e-7, atol=1e-6 * np.abs(values).max(), err_msg=name)


def test_forecasts_and_zarr_keep_their_dimensions(tmp_path):
    data = weather().rename(time="init_time").expand_dims(lead_time=np.arange(1, 4) * np.timedelta64(6, "h"), axis=1)
    data["init_time"].attrs["standard_name"] = "forecast_reference_time"
    data.to_zarr(tmp_path / "in.zarr", zarr_format=2, consolidated=True)
    regrid_file(tmp_path / "in.zarr", tmp_path / "out.zarr", RegridConfig(grid="12x7", method="bilinear"))
    with xr.open_zarr(tmp_path / "out.zarr") as result:
        assert result["temperature"].dims == ("init_time", "lead_time", "level", "latitude", "longitude")
        expected = by_hand(data, "temperature", method="bilinear")
        np.testing.assert_array_equal(result["temperature"], expected)
        np.testing.assert_array_equal(result["lead_time"], data["lead_time"])


def test_a_grid_without_coordinates_is_not_made_up(tmp_path):
    path = tmp_path / "numbered.nc"
    weather().drop_vars(["latitude", "longitude"]).to_netcdf(path)
    with pytest.raises(DataError, match=r"numbered.nc: the dimension latitude has no coordinate values"):
        grid_of_file(path)


def test_the_grid_of_another_file_and_the_policies(tmp_path, capsys):
    region = Grid.from_arrays(np.arange(20, 61, 10.0), np.arange(350, 391, 10.0))
    like = write(weather(region), tmp_path / "like.nc")
    path = write(weather(), tmp_path / "in.nc")
    assert main(["regrid", str(path), str(tmp_path / "region.nc"), "--like", str(like), "--method", "bilinear"]) == 0
    assert grid_of_file(tmp_path / "region.nc") == region
    capsys.readouterr()
    arguments = ["regrid", str(like), str(tmp_path / "globe.nc"), "--grid", "12x7"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "like.nc: the target grid (12 x 7 global" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "globe.nc").exists()
    assert main([*arguments, "--outside", "nan", "--minimum-valid", "0.9"]) == 2
    assert "minimum_valid is for nan: ignore" in capsys.readouterr().err
    assert main([*arguments, "--outside", "nan", "--nan", "ignore", "--minimum-valid", "0.9"]) == 0
    with xr.open_dataset(tmp_path / "globe.nc") as result:
        expected = by_hand(weather(region), "surface_pressure", outside="nan", nan="ignore", minimum_valid=0.9)
        np.testing.assert_array_equal(result["surface_pressure"], expected)
        assert 0 < np.isfinite(expected[0]).sum() < expected[0].size


def test_blocks_follow_chunks_and_give_what_one_piece_gives(tmp_path, monkeypatch):
    data = weather()
    chunks = {"temperature": {"chunksizes": (2, 1, 12, 24), "zlib": True}}
    path = write(data, tmp_path / "in.nc", encoding=chunks)
    monkeypatch.setattr("data_prep.reading.regrid_file._BLOCK_BYTES", 5 * 4 * 12 * 24)
    with open_lazily(path) as raw:
        sizes = [blocks_of(raw[name], ("latitude", "longitude")) for name in ("temperature", "surface_pressure")]
    assert [tuple(s.values()) for s in sizes] == [(2, 2, 12, 24), (5, 12, 24)]  # whole chunks that fit into five fields
    regrid_file(path, tmp_path / "out.nc", RegridConfig(grid="12x7"))
    with xr.open_dataset(tmp_path / "out.nc") as result:
        np.testing.assert_array_equal(result["temperature"], by_hand(data, "temperature"))


@pytest.mark.parametrize("name", ["results", "results.zarr"])
def test_a_folder_of_other_things_is_not_overwritten(name, tmp_path):
    path, out = write(weather(), tmp_path / "in.nc"), tmp_path / name
    out.mkdir()
    (out / "precious").touch()
    with pytest.raises(DataError, match=f"{name}: a folder that is no Zarr store lies there and is not overwritten"):
        regrid_file(path, out, RegridConfig(grid="12x7"))
    assert (out / "precious").exists() and len(list(tmp_path.iterdir())) == 2


def test_a_file_does_not_take_the_place_of_a_store(tmp_path):
    path, store = write(weather(), tmp_path / "in.nc"), tmp_path / "store"
    weather().to_zarr(store, zarr_format=2, consolidated=True)
    with pytest.raises(DiskError, match="store: cannot be written: a folder lies where a file is to be written"):
        regrid_file(path, store, RegridConfig(grid="12x7"))
    assert (store / ".zgroup").exists()


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(tmp_path):
    path = write(weather(), tmp_path / "in.nc")
    with pytest.raises(DataError, match="is the file to be read"):
        regrid_file(path, path, RegridConfig(grid="12x7"))
    flags = weather()["surface_pressure"].astype(np.int32).assign_attrs(flag_values=[1, 2])
    direction = weather()["surface_pressure"].assign_attrs(units="degrees", standard_name="wind_from_direction")
    write(xr.Dataset({"flags": flags, "dir": direction}), tmp_path / "none.nc")
    with pytest.raises(DataError, match=r"none.nc: holds no fields that can be regridded; it holds flags, dir"):
        regrid_file(tmp_path / "none.nc", tmp_path / "out.nc", RegridConfig(grid="12x7"))
    write(weather().isel(time=[]), tmp_path / "none.nc")
    with pytest.raises(DataError, match=r"none.nc: the time axis is empty"):
        regrid_file(tmp_path / "none.nc", tmp_path / "out.nc", RegridConfig(grid="12x7"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="a file lies where a folder is needed"):
        regrid_file(path, tmp_path / "file" / "out.nc", RegridConfig(grid="12x7"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "in.nc", "none.nc"]


def config(*inputs: Path, **changes) -> DataConfig:
    raw = {
        "inputs": [str(p) for p in inputs],
        "vertical": "pressure",
        "prognostic": {"temperature": {"levels": [500.0, 850.0]}, "surface_pressure": {}},
        "split": {"segments": {"train": [0]}},
    }
    return DataConfig.model_validate({**raw, **changes})


def test_preparation_brings_files_of_any_grid_to_the_one_asked_for(tmp_path):
    """Each variable in a file of its own, each file on a grid of its own."""
    fine, gaussian = weather(), weather(Grid.gaussian(10))
    paths = (
        write(fine[["temperature"]], tmp_path / "temperature.nc"),
        write(gaussian[["surface_pressure"]], tmp_path / "pressure.nc"),
    )
    with pytest.raises(DataError, match="name the grid to bring them to"):
        prepare(config(*paths), tmp_path / "refused.zarr", tmp_path)
    store = open_store(prepare(config(*paths, regrid={"grid": "12x7"}), tmp_path / "store.zarr", tmp_path))
    assert store.grid == COARSE
    state = store.read_state(0, TIMES.size)
    np.testing.assert_array_equal(state[..., :2], np.moveaxis(by_hand(fine, "temperature"), 1, -1))
    np.testing.assert_array_equal(state[..., 2], by_hand(gaussian, "surface_pressure"))


def test_rows_are_read_in_bounded_pieces_whatever_the_stride(tmp_path, monkeypatch):
    source = open_source(write(weather(), tmp_path / "in.nc"), {"temperature": ("temperature",)}, "pressure")
    on_target = regrid_sources([source], RegridConfig(grid="12x7"))[0]
    assert isinstance(on_target, RegriddedSource)
    assert regrid_sources([source], RegridConfig(grid="24x12")) == [source]
    whole = on_target.read("temperature", (850.0,), 1, 9, 3)
    np.testing.assert_array_equal(whole[..., 0], by_hand(weather(), "temperature")[1:9:3, 1])
    monkeypatch.setattr("data_prep.reading.regridded._READ_BYTES", 4 * 12 * 24 * 2)
    np.testing.assert_array_equal(on_target.read("temperature", (850.0,), 1, 9, 3), whole)
    assert on_target.read("temperature", (850.0,)).shape == (1, 7, 12, 1)
    sent = pickle.loads(pickle.dumps(on_target))  # as workers get it
    np.testing.assert_array_equal(sent.read("temperature", (850.0,), 1, 9, 3), whole)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", "data.regrid: give either grid or like"),
        ("{grid: 64x32, like: a.nc}", "data.regrid: give either grid or like"),
        ("{grid: 64x31}", "data.regrid: 64x31 has not the same spacing both ways"),
        ("{grid: 1.5, method: cubic}", "data.regrid.method: input should be 'conservative' or 'bilinear'"),
        ("{grid: 1.5, minimum_valid: 0}", "data.regrid.minimum_valid: input should be greater than 0"),
    ],
)
def test_a_config_says_what_is_wrong_with_its_target(section, expected):
    assert load_config("demo", ["data.regrid={grid: 5.625}"]).data.regrid == RegridConfig(grid=5.625)
    with pytest.raises(ConfigError) as error:
        load_config("demo", [f"data.regrid={section}"])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "variable", "low", "high"),
    [("ncep_r1_hgt1000_1960_int16.nc", "hgt", -700, 700), ("era5_tl31_19590102T00.nc", "temperature", 150, 330)],
)
def test_real_files(name, variable, low, high, tmp_path):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    regrid_file(path, tmp_path / "out.nc", RegridConfig(grid="64x32"))
    with open_lazily(path) as raw, open_lazily(tmp_path / "out.nc") as result:
        before, after = raw[variable].load(), result[variable].load()
        latitude = next(d for d in before.dims if str(d).startswith("lat"))
        longitude = next(d for d in before.dims if str(d).startswith("lon"))
        areas = [
            xr.DataArray(g.latitude_weights, dims=latitude, coords={latitude: np.asarray(g.latitude)})
            for g in (grid_of_file(path), grid_of_file(tmp_path / "out.nc"))
        ]
        means = []
        for values, weights in zip((before, after), areas, strict=True):
            rows = values.sortby(latitude).assign_coords({latitude: weights[latitude]})
            means.append(rows.astype(np.float64).weighted(weights).mean([latitude, longitude]).squeeze())
        np.testing.assert_allclose(means[1], means[0].transpose(*means[1].dims), rtol=1e-5)
        assert low < float(after.min()) < float(after.max()) < high
    names = {variable: (variable,)}
    before_times, times = (open_source(p, names, "pressure").times for p in (path, tmp_path / "out.nc"))
    np.testing.assert_array_equal(times, before_times)


def test_means_of_whole_numbers_are_told(tmp_path, caplog):
    data = weather().assign(soil=weather()["surface_pressure"].isel(time=0, drop=True).astype(np.int16))
    regrid_file(write(data, tmp_path / "in.nc"), tmp_path / "out.nc", RegridConfig(grid="12x7"))
    told = [r.getMessage() for r in caplog.records if "whole numbers" in r.getMessage()]
    assert len(told) == 1 and "soil" in told[0]


def test_what_a_file_calls_invalid_is_missing_when_it_is_regridded(tmp_path):
    data, options = weather(), RegridConfig(grid="12x7")
    data["surface_pressure"].attrs["valid_max"] = np.float32(1.2e5)
    data["surface_pressure"][0, 3, 4] = 9e5
    regrid_file(write(data, tmp_path / "in.nc"), tmp_path / "out.nc", options)
    holed = data.assign(surface_pressure=data["surface_pressure"].where(data["surface_pressure"] < 1.2e5))
    with xr.open_dataset(tmp_path / "out.nc") as result:
        np.testing.assert_array_equal(result["surface_pressure"], by_hand(holed, "surface_pressure"))
        assert result["surface_pressure"].isnull().any()
