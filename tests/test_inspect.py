"""What files hold as the program sees it, and a section that reads them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from weather_files import GRID, SHARED, open_files, times_from, weather, write_members
from world_files import DIALECTS, canonical, world

from data_prep.config import DataConfig
from data_prep.errors import DataError
from data_prep.inspection.report import inspect_files
from data_prep.inspection.section import _split
from data_prep.preparation import pipeline
from data_prep.preparation.climatology import Climatology, Season, choose_kind
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import open_store
from data_prep.reading import quality, sources
from data_prep.reading.inputs import open_canonical
from emulator.cli import main
from emulator.config import load_config
from emulator.planning.possible import ChosenData

ROOT = Path(__file__).parents[1]


def pasted(text: str, folder: Path):
    """The printed section, pasted into a config."""
    section = text[text.index("\ndata:\n") :]
    path = folder / "pasted.yaml"
    path.write_text(f"name: pasted\ntrain: {{stages: [{{steps: 1}}]}}\n{section}\n")
    return load_config(path).data


@pytest.mark.parametrize("dialect", ["canonical", *DIALECTS])
def test_the_section_of_every_dialect_loads_and_names_what_is_there(dialect, tmp_path):
    path = (DIALECTS | {"canonical": canonical})[dialect](world(), tmp_path)
    report = inspect_files([path])
    assert report.refusal is None
    assert [f for f in report.findings if f.severity == "error"] == []
    data = pasted(report.text, tmp_path)
    assert data.vertical == "pressure" and data.timestep_hours == 6
    assert set(data.prognostic) == set(world().data_vars)
    assert "40 from 2001-01-01T00:00 to 2001-01-10T18:00, every 6 h" in report.text
    assert "12 x 8 global, latitude -70 to 70, longitude 0 to 330" in report.text


def test_the_section_prepares(tmp_path):
    path = canonical(world(times_from("2001-01-01", 400)), tmp_path)
    data = pasted(inspect_files([path]).text, tmp_path)
    store = open_store(prepare(data, tmp_path / "store.zarr", tmp_path))
    assert [s.split for s in store.segments] == ["train", "validation", "test"]
    assert store.times.size > 350


def test_members_and_their_boundary_prepare(tmp_path):
    write_members(tmp_path / "nature")
    paths = sorted((tmp_path / "nature").glob("*.nc"))
    report = inspect_files(paths)
    data = pasted(report.text, tmp_path)
    assert data.split.segments == {"validation": [1], "test": [2]}
    assert data.forcing["soil_temperature"].known == "climatological"
    assert data.forcing["sea_surface_temperature"].known == "persisted"
    assert set(data.static) == {"geopotential_at_surface"} and data.diagnostic["total_precipitation_6hr"].minimum == 0
    open_store(prepare(data, tmp_path / "store.zarr", tmp_path)).verify()


def test_ranges_units_and_missing_values_are_told(tmp_path):
    data = weather(times_from("2001-01-01", 12))
    data["surface_pressure"] = (data["surface_pressure"] / 100).assign_attrs(units="hPa")
    data["sea_surface_temperature"] = data["sea_surface_temperature"].where(data.latitude < 50)
    data["soil_moisture"] = data["temperature"].rename(level="depth").assign_attrs(units="1").drop_vars("depth")
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    row = next(line for line in report.text.splitlines() if line.startswith("  surface_pressure"))
    low, high = float(data["surface_pressure"].min()) * 100, float(data["surface_pressure"].max()) * 100
    assert row.split() == [
        "surface_pressure",
        "surface_pressure",
        "Pa",
        "-",
        f"{low:.5g}",
        f"{high:.5g}",
        "0.0%",
        "time",
    ]
    row = next(line for line in report.text.splitlines() if line.startswith("  sea_surface_temperature"))
    assert "25.0%" in row
    assert "left out: soil_moisture (2 levels along depth, neither pressure nor sigma)" in report.text
    section = yaml.safe_load(report.text[report.text.index("\ndata:\n") :])["data"]
    assert section["nan"] == "fill_mean" and section["forcing"] == {"sea_surface_temperature": {"known": "persisted"}}


def test_shares_intervals_and_the_first_defect_are_told_of_a_record_with_holes(tmp_path):
    """A quarter of the times is missing whole in half of the globe, and a day lies between two stretches."""
    data = weather(times_from("2001-01-01", 44)).isel(time=[*range(20), *range(24, 44)])
    data["sea_surface_temperature"][5:15, :4] = np.nan
    data["temperature"][30, 0, 0, 0], data["temperature"][12, 1, 2, 3] = np.nan, np.nan
    data["surface_pressure"][25, 0, 0] = np.nan
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    (file,) = report.to_json()["files"]
    missing = {v["name"]: v["missing"] for v in file["variables"]}
    assert missing["sea_surface_temperature"] == 0.25 * 4 / data.sizes["latitude"]
    assert missing["temperature"] == pytest.approx(2 / data["temperature"].size)
    (of_pressure,) = (v for v in file["variables"] if v["name"] == "surface_pressure")
    found = of_pressure["lowest"], of_pressure["highest"]
    assert found == pytest.approx([float(f(data["surface_pressure"])) for f in (np.nanmin, np.nanmax)])
    assert file["interval_hours"] == 6 and file["number_of_times"] == 40
    (gap,) = (f for f in report.findings if f.kind == "gap")
    assert (gap.first, gap.last, gap.count) == (*(data.time.values[19] + np.array([6, 24], "timedelta64[h]")), 4)
    errors = [(f.channel, f.first) for f in report.findings if f.severity == "error"]
    assert report.refusal is not None and len(errors) > 2
    assert f"the first of {len(errors)} defects: {errors[0][0]} at {str(errors[0][1])[:16]}: missing" in report.refusal


def test_what_one_file_alone_has_as_a_constant_is_kept_and_holes_of_a_mask_are_to_be_filled(tmp_path):
    """No snow in the first file, and a mask without values on one row."""
    data = weather(times_from("2001-01-01", 80))
    snow = data["surface_pressure"].drop_attrs() - data["surface_pressure"].min()
    data["snow"] = snow.where(data.time >= data.time[40], 0.0)
    data["mask"] = data["surface_pressure"][0].drop_attrs().where(data.latitude > data.latitude[0])
    data = data.drop_vars("sea_surface_temperature")
    for part in range(2):
        data.isel(time=slice(40 * part, 40 * part + 40)).to_netcdf(tmp_path / f"{part}.nc")
    section = inspect_files([tmp_path / "0.nc", tmp_path / "1.nc"]).section
    assert "snow" in section["prognostic"] and section["static"] == {"mask": {}}
    assert section["nan"] == "fill_mean"


def test_of_one_time_all_is_what_it_would_be_of_many(tmp_path):
    whole, one = (weather(times_from("2001-01-01", n)).drop_vars("total_precipitation_6hr") for n in (40, 1))
    for name, data in (("whole", whole), ("one", one)):
        data.to_netcdf(tmp_path / f"{name}.nc")
    sections = [inspect_files([tmp_path / f"{name}.nc"]).section for name in ("whole", "one")]
    for role in ("prognostic", "forcing"):
        assert sections[0][role].keys() == sections[1][role].keys(), role
    assert "static" not in sections[1]


def test_of_stretches_too_short_for_steps_of_six_hours_every_time_is_a_step(tmp_path):
    hour = np.timedelta64(1, "h").astype("timedelta64[ns]")
    for n_times, step in ((18, 1.0), (19, 6.0)):
        weather(times_from("2001-01-01", n_times, hour))[["surface_pressure"]].to_netcdf(tmp_path / f"{n_times}.nc")
        assert inspect_files([tmp_path / f"{n_times}.nc"]).section["timestep_hours"] == step


def test_the_gap_that_is_proposed_is_no_longer_than_that_of_the_record():
    """50 hours, which are 2.0833 days, between stretches of 39."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(1, "h")
    times = np.concatenate([times + part * np.timedelta64(89, "h") for part in range(3)])
    assert _split([], times, 6.0) == {"segments": {"validation": [1], "test": [2]}, "gap_days": 2.08}


def test_what_is_no_field_is_left_out(tmp_path):
    data = weather(times_from("2001-01-01", 12))
    data["zonal_mean"] = data["surface_pressure"].mean("longitude", keep_attrs=True)
    data["time_bounds"] = (("time", "nv"), np.zeros((12, 2)))  # which no attribute says to be bounds
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.refusal is None
    assert "left out: zonal_mean (no field: it runs over time, latitude)" in report.text
    assert "left out: time_bounds (no field: it runs over time, nv)" in report.text
    assert set(report.section["prognostic"]) == {"temperature", "surface_pressure"}


@pytest.mark.parametrize("minutes", [5, 10, 20, 60])
def test_six_hours_are_the_step_of_finer_files(minutes, tmp_path):
    """A twelfth of an hour is no binary fraction."""
    step = np.timedelta64(minutes, "m").astype("timedelta64[ns]")
    times = times_from("2001-01-01", 20 * 60 // minutes, step)
    weather(times)[["surface_pressure"]].to_netcdf(tmp_path / "a.nc")
    assert inspect_files([tmp_path / "a.nc"]).section["timestep_hours"] == 6.0


def test_a_name_in_a_unit_that_it_cannot_have_costs_no_other_variable(tmp_path):
    data = weather(times_from("2001-01-01", 12))
    upward = {"units": "m s-1", "standard_name": "upward_air_velocity"}
    data["w"] = (data["temperature"] - 260).assign_attrs(upward)
    data["tp"] = data["total_precipitation_6hr"].assign_attrs(units="mm/day")
    data.drop_vars("total_precipitation_6hr").to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.refusal is None and report.section["prognostic"]["w"] == {}
    assert "left out: tp (unit 'mm/day' of total_precipitation cannot be turned into m; it is a rate" in report.text
    data[["w"]].assign_attrs().assign(w=data["w"].drop_attrs().assign_attrs(units="m s-1")).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(
        DataError, match=r"b.nc: no variable can be used: w \(unit 'm s-1' of vertical_velocity cannot be"
    ):
        inspect_files([tmp_path / "b.nc"])


def test_attributes_tell_what_a_short_name_is_not(tmp_path):
    """CAM's U10 is a speed, CMIP's ci a share of the time, and MERRA's U10M a component that says so."""
    data = weather(times_from("2001-01-01", 12))[["surface_pressure"]]
    wind = (data["surface_pressure"] / 1e4).assign_attrs(units="m/s")
    data["U10"] = wind.assign_attrs(long_name="10m wind speed")
    data["V10M"] = wind.assign_attrs(long_name="northward component of the wind speed")
    data["ci"] = (wind / 20).assign_attrs(units="1", standard_name="convection_time_fraction")
    data.to_netcdf(tmp_path / "a.nc")
    found = inspect_files([tmp_path / "a.nc"]).section["prognostic"]
    assert set(found) == {"surface_pressure", "U10", "10m_v_component_of_wind", "ci"}


def test_fields_without_a_time_that_differ_between_files_are_refused(tmp_path):
    """As one file a day with the date in its name; the same field in all of them is static."""
    data = weather(times_from("2001-01-01", 3))[["surface_pressure"]].reset_coords(drop=True)
    for row in range(3):
        data.isel(time=row).drop_vars("time").to_netcdf(tmp_path / f"{row}.nc")
        data.isel(time=0).drop_vars("time").to_netcdf(tmp_path / f"same_{row}.nc")
    refusal = inspect_files(sorted(tmp_path.glob("?.nc"))).refusal
    assert refusal is not None and "0.nc: surface_pressure has no time, and in other files it differs" in refusal
    assert inspect_files(sorted(tmp_path.glob("same*.nc"))).refusal is None


def test_numbers_of_model_levels_are_no_pressures(tmp_path, caplog):
    def looked_at(levels, **attrs):
        data = weather(times_from("2001-01-01", 12)).isel(level=[0, 1, 0]).assign_coords(level=levels)
        data["level"].attrs = attrs
        data.to_netcdf(tmp_path / "a.nc")
        return inspect_files([tmp_path / "a.nc"]).text

    for levels, units in (([51, 52, 53], ""), ([90, 100, 137], "level")):
        assert "left out: temperature (3 levels along level, neither pressure nor sigma)" in looked_at(
            levels, units=units
        )
    assert "left out" not in looked_at([90, 100, 137])
    assert "level has no unit, and its values, 90 to 137, are taken as hPa" in caplog.text
    caplog.clear()
    looked_at([300, 500, 850])
    assert caplog.text == ""


def test_hybrid_levels_in_hpa_are_no_pressure_levels(tmp_path):
    """As CESM writes them: over mountains they lie elsewhere."""
    data = weather(times_from("2001-01-01", 12)).rename(level="lev", temperature="T")
    data["lev"].attrs |= {
        "long_name": "hybrid level at midpoints (1000*(A+B))",
        "standard_name": "atmosphere_hybrid_sigma_pressure_coordinate",
    }
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert "left out: T (2 levels along lev, neither pressure nor sigma)" in report.text
    assert set(report.section["prognostic"]) == {"surface_pressure"}


def test_a_sea_alone_cannot_be_predicted_with_its_land_missing(tmp_path):
    data = weather(times_from("2001-01-01", 40))
    sea = (data["surface_pressure"] / 350.0).assign_attrs(units="K", standard_name="sea_surface_temperature")
    sea[:, :2] = np.nan
    sea.rename("sst").to_dataset().to_netcdf(tmp_path / "a.nc")
    refusal = inspect_files([tmp_path / "a.nc"]).refusal
    assert refusal is not None and "sst is missing in" in refusal and "no other variable" in refusal


def invariants(times: np.ndarray) -> xr.Dataset:
    """Orography, a mask and a kind of soil, as the Climate Data Store gives them: along time."""
    field = np.random.default_rng(0).random(GRID.shape)
    fields = np.broadcast_to(field, (times.size, *GRID.shape))
    units = {"z": "m**2 s**-2", "lsm": "(0 - 1)", "slt": "~"}
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {n: (dims, fields, {"units": u}) for n, u in units.items()}, weather(times).drop_vars("level").coords
    )


def test_what_has_one_time_beside_a_record_is_static(tmp_path):
    """Orography and masks may be had of any one day, which is no time of the record."""
    weather(times_from("2001-01-01", 200)).to_netcdf(tmp_path / "a.nc")
    invariants(times_from("1979-01-01", 1)).to_netcdf(tmp_path / "invariants.nc")
    report = inspect_files([tmp_path / "a.nc", tmp_path / "invariants.nc"])
    assert report.refusal is None
    assert report.section["static"] == {
        "geopotential_at_surface": {"source": "z"},
        "land_sea_mask": {"source": "lsm"},
        "slt": {},
    }
    store = open_store(prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path))
    assert [s.split for s in store.segments] == ["train", "validation", "test"]
    assert str(store.times[0]) == "2001-01-01T00:00:00.000000000"


def test_one_name_may_mean_two_variables_in_two_files(tmp_path):
    """The Climate Data Store calls geopotential on levels z, and that of the surface too."""
    data = weather(times_from("2001-01-01", 200))
    heights = xr.DataArray([54000, 14000], {"level": data["level"]})
    data["z"] = (heights + 10 * (data["temperature"] - 260)).transpose(*data["temperature"].dims)
    data["z"].attrs["units"] = "m**2 s**-2"
    data.to_netcdf(tmp_path / "levels.nc")
    invariants(times_from("2001-01-01", 1))[["z"]].to_netcdf(tmp_path / "surface.nc")
    paths = [tmp_path / "surface.nc", tmp_path / "levels.nc"]
    report = inspect_files(paths)
    assert report.refusal is None
    assert report.section["prognostic"]["geopotential"] == {}
    assert report.section["static"] == {"geopotential_at_surface": {}}
    section = ChosenData.of(paths, report).section
    assert section["prognostic"]["geopotential"] == {"levels": [500, 850]}
    store = open_store(prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path))
    assert store.surface_geopotential is not None and store.surface_geopotential.max() < 1


def test_a_geopotential_that_changes_is_not_that_of_the_surface(tmp_path):
    """A single pressure level may come without a coordinate that says so."""
    data = weather(times_from("2001-01-01", 200))
    data["z"] = (54000 + 10 * (data["surface_pressure"] - 1e5)).assign_attrs(units="m**2 s**-2")
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.refusal is None and report.section["prognostic"]["z"] == {}
    assert "geopotential_at_surface" not in report.text
    store = open_store(prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path))
    assert store.surface_geopotential is None and store.spec["z"].role == "prognostic"


def packing(row: int) -> dict[str, float]:
    """Scale and offset of a file's own, as the old Climate Data Store chose them."""
    return {"scale_factor": 0.1 + 0.001 * row, "add_offset": 54000.0 + row, "_FillValue": -32767}


@pytest.mark.parametrize("changes", [True, False])
def test_a_geopotential_in_files_of_one_time_each_is_told_from_that_of_the_surface(changes, tmp_path):
    data = weather(times_from("2001-01-01", 40))
    high = (54000 + (data["surface_pressure"] - 1e5)).assign_attrs(units="m**2 s**-2", standard_name="geopotential")
    data["z"] = high if changes else high[0]
    for row in range(40):
        data.isel(time=[row]).to_netcdf(tmp_path / f"{row:02d}.nc", encoding={"z": {"dtype": "i2", **packing(row)}})
    report = inspect_files(sorted(tmp_path.glob("*.nc")))
    assert report.refusal is None
    assert ("z" in report.section["prognostic"]) == changes
    assert ("geopotential_at_surface" in report.text) != changes


def test_a_mask_that_may_be_one_at_sea_is_nobodys(tmp_path):
    """OISST's lsmask is 1 at sea; a standard name says what is meant."""
    data = weather(times_from("2001-01-01", 200))
    data["lsmask"] = (
        (data["surface_pressure"][0] > 1e5).drop_attrs().astype("i1").assign_attrs(long_name="Land Sea Mask")
    )
    data.to_netcdf(tmp_path / "a.nc")
    assert inspect_files([tmp_path / "a.nc"]).section["static"] == {"lsmask": {}}
    data["lsmask"].attrs["standard_name"] = "land_binary_mask"
    data.to_netcdf(tmp_path / "b.nc")
    assert inspect_files([tmp_path / "b.nc"]).section["static"] == {"land_sea_mask": {"source": "lsmask"}}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_variables_of_one_meaning_both_are_told(order, tmp_path):
    data = weather(times_from("2001-01-01", 12))[["temperature", "surface_pressure"]]
    data["t"] = data["temperature"] + np.float32(1)
    data[list(data)[::order]].to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.section["prognostic"].keys() == {"temperature", "t", "surface_pressure"}
    assert report.refusal is None and "temperature" in report.section["prognostic"]
    low = {f.found.raw_name: f.low for f in report.files[0].fields}
    assert low["t"] == pytest.approx(low["temperature"] + 1)


def test_a_variable_may_have_another_name_in_another_file(tmp_path):
    data = weather(times_from("2001-01-01", 200))[["temperature", "surface_pressure"]]
    first, second = (data.isel(time=slice(i, i + 100)) for i in (0, 100))
    first.rename(temperature="t", surface_pressure="sp").to_netcdf(tmp_path / "a.nc")
    second.rename(temperature="ta", surface_pressure="sp").to_netcdf(tmp_path / "b.nc")
    report = inspect_files([tmp_path / "a.nc", tmp_path / "b.nc"])
    assert report.refusal is None
    assert report.section["prognostic"] == {"temperature": {}, "surface_pressure": {"source": "sp"}}
    prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path)


@pytest.mark.parametrize("n_with_holes", [100, 40])
def test_holes_in_some_files_are_seen_of_all_files_together(n_with_holes, tmp_path):
    """A variable with holes in most files is none to predict; where one file is damaged, that is refused."""
    data = weather(times_from("2001-01-01", 200))
    data["other"] = data["surface_pressure"].where((data.time < data.time[-n_with_holes]) | (data.latitude > 0))
    paths = [tmp_path / f"{name}.nc" for name in "ab"]
    data.isel(time=slice(None, -n_with_holes)).to_netcdf(paths[0])
    data.isel(time=slice(-n_with_holes, None)).to_netcdf(paths[1])
    report = inspect_files(paths)
    if n_with_holes == 100:
        assert report.refusal is None
        assert report.section["forcing"]["other"] == {"known": "persisted"} and report.section["nan"] == "fill_mean"
        prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path)
    else:
        assert report.refusal is not None
        assert "b.nc: other is missing in 50.0% of its points, in other files it is not; fill" in report.refusal


def test_a_scalar_level_is_a_level(tmp_path):
    data = weather(times_from("2001-01-01", 12)).sel(level=500.0)
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.section["vertical"] == "pressure" and report.files[0].fields[0].found.levels == (500.0,)
    assert open_canonical([tmp_path / "a.nc"], pasted(report.text, tmp_path)).spec["temperature"].levels == (500.0,)


def test_masks_may_be_true_and_false(tmp_path):
    data = weather(times_from("2001-01-01", 200))
    data["lsm"] = (data["surface_pressure"][0] > 1e5).drop_attrs()
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.section["static"] == {"land_sea_mask": {"source": "lsm"}}
    store = open_store(prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path))
    np.testing.assert_array_equal(store.static[..., 0], data["lsm"])


@pytest.mark.parametrize(
    ("name", "units", "low", "role", "minimum"),
    [
        ("pr", "kg m-2 s-1", 0.0, "diagnostic", 0.0),
        ("prate", "mm/day", 0.0, "diagnostic", 0.0),
        ("hfls", "W m-2", -20.0, "diagnostic", None),
        ("ssrd", "J m**-2", 0.0, "diagnostic", 0.0),
        ("ppt", "mm/day", 0.0, "diagnostic", 0.0),
        ("pre", "mm/6h", 0.0, "diagnostic", 0.0),
        ("rr", "mm", 0.0, "diagnostic", 0.0),
        ("PRECT", "m/s", 0.0, "diagnostic", 0.0),
        ("prcp", "mm", 0.0, "diagnostic", 0.0),
        ("acpcp", "kg/m^2", 0.0, "diagnostic", 0.0),
        ("ro", "m of water equivalent", 0.0, "diagnostic", 0.0),
        ("gust", "m s-1", 0.0, "prognostic", 0.0),
        ("swl", "m", -1.0, "prognostic", None),
        ("total_column_rain_water", "kg m-2", 0.0, "prognostic", 0.0),
        ("precipitable_water", "kg m-2", 0.0, "prognostic", 0.0),
        ("terrain_roughness", "m", 0.0, "prognostic", 0.0),
        ("vertical_integral_of_energy", "J m-2", -1.0, "prognostic", None),
        ("rain_fraction", "1", 0.0, "prognostic", 0.0),
        ("zenith_angle", "degrees", 0.0, "prognostic", 0.0),
        ("wind_dir", "degrees", 0.0, None, None),
        ("dd", "degree", 0.0, None, None),
    ],
)
def test_fluxes_are_diagnosed_and_directions_left_out(name, units, low, role, minimum, tmp_path):
    data = world()
    t = data["2m_temperature"]
    data[name] = (low + (t - t.min())).astype("f4").assign_attrs(units=units)
    report = inspect_files([canonical(data, tmp_path)])
    found = {
        r: s[name] for r, s in report.section.items() if r in ("prognostic", "diagnostic", "forcing") and name in s
    }
    assert found == ({} if role is None else {role: {} if minimum is None else {"minimum": minimum}})
    assert (f"left out: {name} (an angle" in report.text) == (role is None)


def test_heights_of_high_and_low_levels_have_no_lower_bound(tmp_path):
    """Whatever the lowest level holds in a short record."""
    data = world()
    data["geopotential"] = data["geopotential"] - data["geopotential"].min() + 10
    section = inspect_files([canonical(data, tmp_path)]).section["prognostic"]
    assert "minimum" not in section["geopotential"] and section["specific_humidity"]["minimum"] == 0.0


def test_attributes_tell_a_sum_and_an_angle(tmp_path):
    data = world()
    t = (data["2m_temperature"] - 200).astype("f4").drop_attrs()
    data["a"] = t.assign_attrs(units="kg", cell_methods="time: sum")
    data["b"] = t.assign_attrs(units="1", standard_name="wind_from_direction")
    data["c"] = t.assign_attrs(standard_name="precipitation_flux")
    report = inspect_files([canonical(data, tmp_path)])
    assert set(report.section["diagnostic"]) >= {"a", "c"} and "left out: b (an angle" in report.text


def test_extremes_of_a_day_are_not_the_field_itself(tmp_path):
    """Which standard name and height do not tell apart in CMIP's files."""
    data = world()[["2m_temperature"]]
    for name, method, add in (("tas", "mean", 0), ("tasmax", "maximum", 5), ("tasmin", "minimum", -5)):
        field = (data["2m_temperature"] + add).rename(name).assign_coords(height=2.0)
        field.attrs = {"units": "K", "standard_name": "air_temperature", "cell_methods": f"area: mean time: {method}"}
        field["height"].attrs = {"units": "m", "standard_name": "height"}
        field.to_dataset().to_netcdf(tmp_path / f"{name}.nc")
    report = inspect_files(sorted(tmp_path.glob("*.nc")))
    assert report.refusal is None and report.findings == ()
    assert report.section["prognostic"] == {"2m_temperature": {"source": "tas"}, "tasmax": {}, "tasmin": {}}


def test_a_file_with_nothing_of_use_is_left_aside(tmp_path):
    data = world()
    whole = canonical(data, tmp_path)
    only = tmp_path / "direction.nc"
    data["2m_temperature"].rename("wdir").assign_attrs(units="degree").to_dataset().to_netcdf(only)
    report = inspect_files([whole, only])
    assert report.refusal is None and report.section["inputs"] == [str(whole)]
    section = report.section | {"inputs": [str(whole), str(only)]}
    with pytest.raises(DataError, match=r"direction\.nc: holds none of"):  # it may be data under another name
        open_canonical([whole, only], DataConfig.model_validate(section))
    with pytest.raises(DataError, match="nothing to learn from: left out are wdir: an angle"):
        inspect_files([only])


def test_what_never_changes_is_not_stepped_forward(tmp_path):
    times = times_from("2001-01-01", 200)
    xr.merge([weather(times), invariants(times)[["slt"]]]).to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.section["forcing"]["slt"] == {"known": "persisted"}
    prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path)


def test_what_is_the_same_everywhere_or_has_no_value_is_left_out(tmp_path):
    data = weather(times_from("2001-01-01", 200))
    data["sea_surface_temperature"] *= np.nan
    data["land_sea_mask"] = xr.ones_like(data["surface_pressure"][0], dtype="float32").assign_attrs(units="1")
    for part in range(2):
        data.isel(time=slice(100 * part, 100 * part + 100)).to_netcdf(tmp_path / f"{part}.nc")
    report = inspect_files([tmp_path / "0.nc", tmp_path / "1.nc"])
    assert report.refusal is None and "left out: sea_surface_temperature (no point has a value)" in report.text
    assert not {"static", "forcing", "nan"} & set(report.section)
    prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path)


@pytest.mark.parametrize(
    ("name", "rows"), [("total_precipitation_6hr", [0]), ("sea_surface_temperature", [7]), ("temperature", [3])]
)
def test_fields_that_are_missing_at_some_times_are_refused_as_prepare_does(name, rows, tmp_path):
    data = weather(times_from("2001-01-01", 200))
    data[name][rows] = np.nan
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    at = str(data.time.values[rows[0]])[:16]
    assert report.refusal is not None and f"{name}" in report.refusal and f"at {at}: missing, NaN" in report.refusal
    section = pasted(report.text, tmp_path)
    with pytest.raises(DataError, match=f"{name}.* has NaN or infinity in 100.0% of its points at {at}") as error:
        prepare(section, tmp_path / "store.zarr", tmp_path)
    assert "fill_mean" not in str(error.value)
    without = section.model_copy(update={"exclude": [[at, at]]})  # in the role that it has without the defect
    store = open_store(prepare(without, tmp_path / "store.zarr", tmp_path))
    assert store.spec["temperature"].role == "prognostic"


@pytest.mark.parametrize(("name", "hour", "read"), [("t2m", 3, False), ("t2m", 6, True), ("tp", 3, True)])
def test_a_defect_that_no_step_reads_is_no_reason_to_refuse(name, hour, read, tmp_path):
    data = weather(times_from("2001-01-01", 24 * 20, np.timedelta64(1, "h")))
    data = data.rename(surface_pressure="t2m", total_precipitation_6hr="tp")
    data["t2m"] = (250 + data["t2m"] / 5e3).assign_attrs(units="K")
    data[name][24 + hour] = np.nan
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert (report.refusal is not None) == read
    assert [f.severity for f in report.findings] == ["error" if read else "warning"]
    assert read or report.findings[0].text.endswith("; steps of 6 h leave it out")
    if not read:
        prepare(pasted(report.text, tmp_path), tmp_path / "store.zarr", tmp_path)


def test_files_of_one_time_each_are_looked_at_together(tmp_path):
    data = weather(times_from("2001-01-01", 12))
    for row in range(12):
        data.isel(time=[row], latitude=slice(row == 5, None)).to_netcdf(tmp_path / f"{row:02d}.nc")
    report = inspect_files(sorted(tmp_path.glob("*.nc")))
    assert report.refusal is not None and "05.nc: its grid is 8 x 3 regional" in report.refusal


@pytest.mark.parametrize(("count", "said"), [(3, "3 files of 15 "), (12, "10 files or more of 15 ")])
def test_all_files_that_cannot_be_read_are_told_at_once(count, said, tmp_path, caplog, capsys):
    data = weather(times_from("2001-01-01", 15))
    for row in range(15):
        data.isel(time=[row]).to_netcdf(tmp_path / f"{row:02d}.nc")
    broken = [tmp_path / f"{row:02d}.nc" for row in range(1, 1 + count)]
    for number, path in enumerate(broken):
        path.write_bytes((b"", b"no NetCDF at all", path.read_bytes()[:2000])[number % 3])
    assert main(["inspect", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    for path in broken[:10]:
        assert sum(line.partition(" ")[2].startswith(f"{path}: ") for line in lines[:-1]) == 1
    assert len(lines) == 1 + min(count, 10) and lines[-1].startswith(f"error: {said}cannot be used")
    with pytest.raises(DataError, match=f"^{said}.*{broken[0]}, {broken[1]}"):
        inspect_files(sorted(tmp_path.glob("*.nc")))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_files_are_closed_once_they_were_looked_at(tmp_path, monkeypatch):
    """An open one keeps 16 MiB of decoded chunks for each of its variables."""
    data, scan, most = weather(times_from("2001-01-01", 12)), quality.scan, []
    for row in range(0, 12, 2):
        data.isel(time=slice(row, row + 2)).to_netcdf(tmp_path / f"{row:02d}.nc")

    def note(*args):
        out = scan(*args)
        most.append(len(open_files(tmp_path)))
        return out

    monkeypatch.setattr(quality, "scan", note)
    report = inspect_files(sorted(tmp_path.glob("*.nc")))
    assert report.findings == () and max(most) == 1
    monkeypatch.undo()
    assert not open_files(tmp_path)


@pytest.mark.parametrize("chunk", [1, 40])
def test_files_that_would_be_decompressed_over_and_over_are_told(chunk, tmp_path, monkeypatch, caplog):
    """Small limits stand for large fields: a few rows are read at a time, and less than a chunk is kept."""
    monkeypatch.setattr(sources, "CHUNK_CACHE_BYTES", 2**10)
    monkeypatch.setattr(quality, "_BLOCK_BYTES", 2**10)
    monkeypatch.setattr(pipeline, "_BLOCK_BYTES", 2**10)
    monkeypatch.setattr("data_prep.preparation.store_writer._CHUNK_BYTES", 1)
    data = weather(times_from("2001-01-01", 40))[["temperature"]]
    data.to_netcdf(tmp_path / "a.nc", encoding={"temperature": {"chunksizes": (chunk, 1, 4, 4), "zlib": True}})
    section = pasted(inspect_files([tmp_path / "a.nc"]).text, tmp_path)
    told = [r.getMessage() for r in caplog.records]
    prepare(section, tmp_path / "store.zarr", tmp_path)
    told_again = [r.getMessage() for r in caplog.records if "decompresses" in r.getMessage()][len(told) :]
    assert (len(told), len(told_again)) == ((1, 1) if chunk == 40 else (0, 0))
    for line in (*told, *told_again):
        assert "a.nc: temperature is stored in chunks of 40 times" in line
        assert "nccopy -c time/1,level/1,latitude/4,longitude/8 IN OUT" in line


@pytest.mark.parametrize("equal", [True, False])
def test_times_that_two_files_hold_are_found(equal, tmp_path):
    """Files of a month each often hold the first hour of the next month too."""
    data = weather(times_from("2001-01-01", 200))
    data.isel(time=slice(0, 101)).to_netcdf(tmp_path / "a.nc")
    later = data.isel(time=slice(100, 200))
    if not equal:
        later["temperature"][0] += 1
    later.to_netcdf(tmp_path / "b.nc")
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    report = inspect_files(paths)
    assert [(f.kind, f.first, f.count) for f in report.findings] == [("duplicate", data.time.values[100], 1)]
    assert report.refusal is not None
    if equal:
        assert report.refusal == (
            f"{paths[1]}: a defect: time at 2001-01-26T00:00: duplicate, in {paths[0]} and {paths[1]}; "
            "data.repair: [duplicates] keeps the first of equal ones"
        )
        section = DataConfig.model_validate(ChosenData.of(paths, report).section)
        assert section.repair == ["duplicates"]
        prepare(section, tmp_path / "store.zarr", tmp_path)
    else:
        assert "temperature at 2001-01-26T00:00 differs from what" in report.refusal


def test_a_copy_of_a_month_is_one_finding_and_hides_no_other(tmp_path):
    data = world(times_from("2001-01-01", 200))
    data["temperature"][150:154] = data["temperature"][150:154].values[:, :, ::-1]
    data["2m_temperature"][50:90:2, 3, 3] = np.nan  # twenty times, and none of them beside another
    paths = [tmp_path / f"{name}.nc" for name in "abcd"]
    for path, rows in zip(paths, (slice(0, 100), slice(100, 170), slice(170, 200), slice(105, 165)), strict=True):
        data.isel(time=rows).to_netcdf(path)
    report = inspect_files(paths)
    twice = [f for f in report.findings if f.kind == "duplicate"]
    assert [(f.first, f.last, f.count) for f in twice] == [(*data.time.values[[105, 164]], 60)]
    assert f"(60 times): in {paths[1]} and {paths[3]}; data.repair: [duplicates] keeps" in report.text
    lines = report.text.splitlines()
    assert sum("missing: 2m_temperature" in line for line in lines) == 10
    assert "  error    missing: and 10 more" in lines
    assert sum("flipped latitudes: temperature 2001-02-07T12:00 to 2001-02-08T06:00" in line for line in lines) == 1


@pytest.mark.parametrize("stride", [1, 3])
def test_times_that_a_file_holds_twice_are_told_run_by_run(stride, tmp_path):
    """And their fields, which repeat those before them, are not stuck."""
    data = world()
    path = canonical(data.isel(time=sorted([*range(40), *range(10, 22, stride)])), tmp_path)
    report = inspect_files([path])
    counts = [12] if stride == 1 else [1] * 4
    assert [(f.kind, f.count) for f in report.findings] == [("duplicate", count) for count in counts]
    assert report.findings[0].text.startswith(f"occurs twice in {path}; data.repair: [duplicates]")


@pytest.mark.parametrize(("missing", "whole"), [(1, False), (50, True)])
def test_stretches_are_split_whole_where_they_are_well_apart(missing, whole, tmp_path):
    """A time that is missing here and there keeps no forecast from running out of one split into the next."""
    times = times_from("2001-01-01", 300 + 2 * missing)
    rows = np.concatenate([np.arange(100) + part * (100 + missing) for part in range(3)])
    weather(times[rows]).to_netcdf(tmp_path / "a.nc")
    split = inspect_files([tmp_path / "a.nc"]).section["split"]
    if whole:
        assert split == {"segments": {"validation": [1], "test": [2]}}
    else:
        first, last = (np.datetime64(split[name][end]) for name, end in (("test", 0), ("validation", 1)))
        assert (first - last) / np.timedelta64(1, "D") >= split["gap_days"] > 2


def monthly(data: xr.Dataset) -> xr.Dataset:
    return data.isel(time=slice(0, 6)).assign_coords(time=np.arange("2001-01", "2001-07", dtype="datetime64[M]"))


def monthly_by_hour(data: xr.Dataset) -> xr.Dataset:
    """As the Climate Data Store has them: the hours of the first day of each month."""
    months = np.arange("2001-01", "2001-04", dtype="datetime64[M]").astype("datetime64[ns]")
    times = (months[:, None] + np.arange(0, 24, 6) * np.timedelta64(1, "h")).ravel()
    return data.isel(time=slice(0, times.size)).assign_coords(time=times)


def monthly_means_by_hour(data: xr.Dataset) -> xr.Dataset:
    """As the Climate Data Store has them now, which says so."""
    out = monthly_by_hour(data)
    for name in out.data_vars:
        out[name].attrs["GRIB_stepType"] = "avgua"
    return out


def irregular(data: xr.Dataset) -> xr.Dataset:
    return data.assign_coords(time=data.time + (data.time > data.time[5]) * np.timedelta64(1, "h"))


def expver(data: xr.Dataset) -> xr.Dataset:
    return xr.concat([data, data + 1], xr.IndexVariable("expver", [1, 5])).assign_attrs()


REFUSED = {
    "projected": (
        lambda d: d.rename(latitude="y", longitude="x").assign_coords(
            y=("y", np.arange(8.0), {"units": "km"}), x=("x", np.arange(12.0), {"units": "km"})
        ),
        ("projected", "interpolate"),
    ),
    "two-dimensional": (
        lambda d: (
            d.rename(latitude="j", longitude="i")
            .drop_vars(["j", "i"])
            .assign_coords(lat=(("j", "i"), np.zeros((8, 12))), lon=(("j", "i"), np.zeros((8, 12))))
        ),
        ("two-dimensional", "interpolate"),
    ),
    "months": (
        lambda d: d.isel(time=slice(0, 12)).rename(time="month").assign_coords(month=range(1, 13)),
        ("month", "no instants", "such as every six hours"),
    ),
    "ensemble": (lambda d: xr.concat([d, d], "number"), ("ensemble dimension number of 2", "choose one member")),
    "monthly": (monthly, ("monthly values", "six-hourly")),
    "monthly by hour": (monthly_means_by_hour, ("one day a month", "monthly means by hour", "such as every six hours")),
    "irregular": (irregular, ("irregular time step: 7 h after 2001-01-02T06:00", "resample")),
    "expver": (expver, ("conflicting values of expver 1 and 5 at 2001-01-01T00:00", "keep one expver")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inspect_and_prepare_refuse_alike(case, tmp_path, capsys):
    change, words = REFUSED[case]
    path = tmp_path / "file.nc"
    change(world()).to_netcdf(path)
    section = {
        "inputs": [str(path)],
        "vertical": "pressure",
        "prognostic": {"temperature": {}},
        "split": {"segments": {"train": [0]}},
    }
    config = tmp_path / "config.yaml"
    raw = {"name": "x", "workdir": str(tmp_path / "run"), "data": section, "train": {"stages": [{"steps": 1}]}}
    config.write_text(yaml.safe_dump(raw))
    lines = []
    for command in (["inspect", str(path)], ["prepare", str(config)]):
        assert main(command) != 0
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        lines += errors
    for line in lines:
        assert "file.nc" in line
        for word in words:
            assert word in line


def test_one_day_a_month_is_told(tmp_path, caplog):
    """It may be a sample of the weather, which can be learned from; nothing in the file says so."""
    path = canonical(monthly_by_hour(world()), tmp_path)
    section = {"vertical": "pressure", "prognostic": {"temperature": {}}, "split": {"segments": {"train": [0]}}}
    open_canonical([path], DataConfig.model_validate(section | {"inputs": [str(path)]}))
    assert "one day a month; if these are monthly means by hour of the day" in caplog.text


def test_a_defect_gives_the_report_and_an_exit_code(tmp_path, capsys):
    data = world()
    data["temperature"][3] -= 273.15
    path = canonical(data, tmp_path)
    assert main(["inspect", str(path)]) == 1
    found = capsys.readouterr()
    assert "\ndata:\n" in found.out and "unit slip: temperature@500 2001-01-01T18:00" in found.out
    assert "error: " in found.err and "unit_slips" in found.err


def test_the_script_is_the_same_command(tmp_path):
    path = canonical(world(), tmp_path)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "inspect_data.py"), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "quality: nothing found" in done.stdout


REAL = (
    "era5_cds_valid_time_2022.nc",
    "era5_tl31_19590102T00.nc",
    "ncep_r1_air_temperature_2013_2014.nc",
    "ncep_r1_hgt1000_1960_int16.nc",
)


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_and_their_section_loads(name, tmp_path):
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not here")
    report = inspect_files([SHARED / name])
    assert report.refusal is None
    assert all(f.severity == "warning" for f in report.findings)
    assert pasted(report.text, tmp_path).inputs == [str(SHARED / name)]


def test_monthly_means_without_times_are_refused(capsys):
    if not (SHARED / "eraint_monthly_uvz.nc").is_file():
        pytest.skip("../shared/data/eraint_monthly_uvz.nc is not here")
    assert main(["inspect", str(SHARED / "eraint_monthly_uvz.nc")]) == 1
    assert "months are no instants" in capsys.readouterr().err


def test_gaps_between_files_are_told_once_whatever_the_files_hold(tmp_path):
    """A month that was forgotten, of all variables, each of which has files of its own."""
    whole = world(times_from("2001-01-01", 120))
    for number, rows in enumerate((slice(0, 40), slice(80, 118))):
        part = whole.isel(time=[r for r in range(120)[rows] if r != 100])
        for name in part.data_vars:
            part[[name]].to_netcdf(tmp_path / f"{name}_{number}.nc")
    report = inspect_files(sorted(tmp_path.glob("*.nc")))
    lines = [line for line in report.text.splitlines() if "missing" in line and "gap" in line]
    assert len(lines) == 2
    between, within = sorted(lines)
    assert "2001-01-11T00:00 to 2001-01-20T18:00 (40 times): 40 times missing between files; a new" in between
    assert within.endswith(f"1 times missing; a new segment begins (in {len(whole.data_vars)} files)")
    assert report.refusal is None
    apart = inspect_files(sorted(tmp_path.glob("*_0.nc")))
    assert "quality: nothing found" in apart.text


def test_a_variable_that_one_file_lacks_is_missed_there(tmp_path):
    """Not in the first of its files, which is sound; and what is to be done is said."""
    whole = world(times_from("2001-01-01", 120))
    for month in range(3):
        part = whole.isel(time=slice(40 * month, 40 * month + 40))
        (part.drop_vars("mean_sea_level_pressure") if month == 1 else part).to_netcdf(tmp_path / f"{month}.nc")
    refusal = inspect_files(sorted(tmp_path.glob("*.nc"))).refusal
    assert refusal is not None
    assert refusal.startswith(f"{tmp_path / '1.nc'}: holds temperature at 2001-01-11T00:00, and no file holds mean_sea")
    assert refusal.endswith("then (40 times differ); add it, or leave these times out by data.exclude")


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("months", [[2], [1, 3]])
def test_a_variable_that_some_files_call_otherwise_is_told(months, beside, tmp_path):
    """Shifting the times of one would ruin the data."""
    whole = world(times_from("2001-01-01", 200))[["2m_temperature", *["mean_sea_level_pressure"] * beside]]
    paths = [tmp_path / f"{month} x.nc" for month in range(5)]
    for month, path in enumerate(paths):
        name = "t2m" if month in months else "air_2m"
        whole.isel(time=slice(40 * month, 40 * month + 40)).rename({"2m_temperature": name}).to_netcdf(path)
    odd = paths[months[0]]
    one = f"{odd}: only this file holds 2m_temperature (t2m), and it lacks air_2m: is it the same under another name?"
    two = f"{odd} and 1 more: only these files hold 2m_temperature (t2m), and they lack air_2m: is it the same under "
    one += f" ncrename -v t2m,air_2m '{odd}', or leave the file out"
    two += f"another name? ncrename -v t2m,air_2m '{odd}' and so on, or leave the files out"
    assert inspect_files(paths).refusal == (one if len(months) == 1 else two)
    for path in (paths[month] for month in months):
        with xr.open_dataset(path) as data:
            renamed = data.rename(t2m="air_2m").load()
        renamed.to_netcdf(path)
    assert inspect_files(paths).refusal is None


@pytest.mark.parametrize(
    ("name", "hours", "said"),
    [
        ("2m_temperature", 12, "shift the times of one, if both mean the same (cdo shifttime)"),
        ("skin", 12, "shift the times of one, if both mean the same (cdo shifttime)"),
        ("2m_temperature", 24 * 50, "add it, or leave these times out by data.exclude"),  # as two that are known
    ],
)
def test_times_are_to_be_shifted_only_where_they_are_no_times_of_the_other(name, hours, said, tmp_path):
    days = times_from("2001-01-01", 50, np.timedelta64(24, "h"))
    whole = world(days)[["mean_sea_level_pressure"]]
    whole.to_netcdf(tmp_path / "a.nc")
    other = world(days)[["2m_temperature"]].rename({"2m_temperature": name})
    if name == "skin":
        other["skin"].attrs = {"units": "Pa"}
    other.assign_coords(time=days + np.timedelta64(hours, "h")).to_netcdf(tmp_path / "b.nc")
    refusal = inspect_files([tmp_path / "a.nc", tmp_path / "b.nc"]).refusal
    assert refusal is not None and refusal.endswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda d: d.isel(longitude=[0, 1, 2, *range(4, 12)]),
            "longitudes go round the globe but for a gap of 60 degrees",
        ),
        (
            lambda d: d.assign_coords(longitude=np.where(np.arange(12) == 5, 157.0, np.arange(12) * 30.0)),
            "longitudes are 23 to 37 degrees apart, first beside 120",
        ),
        (lambda d: d.assign_coords(longitude=np.arange(12) * 30.0 + 1e-4 * (np.arange(12) % 2)), None),
        (lambda d: d.isel(longitude=slice(8)), None),
    ],
)
def test_a_column_that_is_missing_or_has_slipped_is_told(change, said, tmp_path, caplog):
    paths = [tmp_path / "a.nc", tmp_path / "b.nc"]
    for path, rows in zip(paths, (slice(0, 20), slice(20, 40)), strict=True):
        change(world().isel(time=rows)).to_netcdf(path)
    report = inspect_files(paths)
    lines = [line for line in report.text.splitlines() if "uneven grid" in line]
    whole = f"  warning  uneven grid: grid: {said}; is a column missing? (in 2 files)"
    assert lines == ([] if said is None else [whole])
    assert report.refusal is None
    caplog.clear()
    open_canonical(paths, DataConfig.model_validate(report.section))
    assert caplog.text.count("is a column missing?") == (0 if said is None else 1)


@pytest.mark.parametrize(
    ("days", "kind"),
    [(80, "seasonal_trend")]
    + [(days, "annual_cycle") for days in (120, 250, 330)]
    + [(days, "annual_harmonics") for days in (336, 365, 420, 478, 600)],
)
def test_the_split_that_is_proposed_leaves_a_climatology_that_follows_the_year(days, kind):
    """A line over ten months would pass by the weeks that are verified by the whole annual range."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    split = _split([], times, 6.0)
    train = times[(times >= np.datetime64(split["train"][0])) & (times <= np.datetime64(split["train"][1]))]
    assert choose_kind(train, np.timedelta64(6, "h")) == kind
    climatology = Climatology(kind, np.arange(4) * 6.0, Season.of(train), np.zeros((1, 1, 1, 1)))
    climatology.check_season(times)  # all that is held out is within reach
