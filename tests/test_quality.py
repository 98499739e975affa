"""Every planted defect is found where it was planted; good records raise no alarm."""

from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from weather_files import HOURS_6, SHARED, times_from
from world_files import GRID, LEVELS, canonical, world, world_config

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.inspection.report import inspect_files
from data_prep.preparation import pipeline
from data_prep.preparation.blocks import open_recipe
from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import Store, open_store
from data_prep.reading import quality
from data_prep.reading.inputs import open_canonical
from data_prep.reading.orientation import Orientation
from data_prep.reading.slips import slip_of, standard_height
from data_prep.reading.units import Conversion

N = 40
AT = np.datetime64("2001-01-03T12:00", "ns")  # row 10
END = np.datetime64("2001-01-04T06:00", "ns")  # row 13


def planted(change) -> xr.Dataset:
    data = world(times_from("2001-01-01", N))
    change(data)
    return data


def flip(data: xr.Dataset) -> None:
    data["temperature"][10:14] = data["temperature"][10:14].values[:, :, ::-1]


def stick(data: xr.Dataset) -> None:
    data["temperature"][10:14, 1] = data["temperature"][9, 1].values


def lose(data: xr.Dataset) -> None:
    """As a chunk of a Zarr store that is not there reads."""
    data["u_component_of_wind"][10:14, 1] = 0


def celsius(data: xr.Dataset) -> None:
    data["temperature"][10:14] = data["temperature"][10:14] - np.float32(273.15)


def hectopascal(data: xr.Dataset) -> None:
    data["mean_sea_level_pressure"][10:14] = data["mean_sea_level_pressure"][10:14] / 100


def heights(data: xr.Dataset) -> None:
    data["geopotential"][10:14] = data["geopotential"][10:14] / np.float32(9.80665)


def sentinel(data: xr.Dataset) -> None:
    data["temperature"][10:14, 0, 2, 3] = -9999.0


def hole(data: xr.Dataset) -> None:
    data["temperature"][10:14, 0, 2, 3] = np.nan


DEFECTS = {
    "flipped latitudes": (flip, "temperature", "north and south are exchanged", "temperature is turned north to south"),
    "stuck": (stick, "temperature@850", "repeats the field before it", "temperature@850 .*repeats the field before it"),
    "uniform": (
        lose,
        "u_component_of_wind@850",
        "has one value everywhere, and not at other times",
        "u_component_of_wind@850 at .* has one value everywhere",
    ),
    "unit slip": (celsius, "temperature@500", "look like degrees Celsius", "look like degrees Celsius"),
    "unit slip of pressure": (hectopascal, "mean_sea_level_pressure", "look like hPa", "look like hPa"),
    "unit slip of heights": (
        heights,
        "geopotential@500",
        "look like m:",
        "usual at 500 hPa is 54.*look like m:",
    ),
    "impossible": (sentinel, "temperature@500", "set _FillValue", "ranges from -9999 .*missing value"),
    "missing": (hole, "temperature@500", "NaN or infinity in 1.0%", "has NaN or infinity in 1.0%"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_by_variable_and_time_and_refused(defect, tmp_path):
    change, channel, text, refusal = DEFECTS[defect]
    path = canonical(planted(change), tmp_path)
    report = inspect_files([path])
    hits = [f for f in report.findings if f.kind == " ".join(defect.split()[:2]) and f.channel == channel]
    assert [(f.severity, f.first, f.last, f.count) for f in hits] == [("error", AT, END, 4)]
    assert text in hits[0].text
    assert channel in report.text and "2001-01-03T12:00 to 2001-01-04T06:00 (4 times)" in report.text
    assert report.refusal is not None and "\n" not in report.refusal
    with pytest.raises(DataError, match=refusal) as error:
        prepare(world_config([str(path)]), tmp_path / "store.zarr", tmp_path)
    assert "2001-01-03T12:00" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "unusual"),
    [("theta", lambda t: t + 270, True), ("anomaly", lambda t: t - 260, True), ("other", lambda t: t, False)],
)
def test_what_the_program_does_not_know_may_lie_anywhere(name, change, unusual, tmp_path):
    """Potential temperatures and anomalies are in K too; only a fill value cannot be meant."""
    data = world(times_from("2001-01-01", N))[["temperature"]]
    data[name] = change(data["temperature"]).assign_attrs(units="K")
    path = canonical(data, tmp_path)
    report = inspect_files([path])
    assert report.refusal is None
    assert {(f.severity, f.kind) for f in report.findings} == ({("warning", "unusual")} if unusual else set())
    section = world_config([str(path)], prognostic={"temperature": {}, name: {}}, repair=["unit_slips"])
    store = open_store(prepare(section, tmp_path / "store.zarr", tmp_path))
    n = len(LEVELS)
    expected = np.moveaxis(data[name].values, 1, -1)[:10]
    np.testing.assert_allclose(store.read_state(0, 10)[..., n : 2 * n], expected, rtol=1e-6)
    data[name][10, 0, 2, 3] = -9999.0
    assert "-9999" in (inspect_files([canonical(data, tmp_path)]).refusal or "")


@pytest.mark.parametrize("rows", [N, 4, 10])
def test_a_part_in_celsius_of_what_the_program_does_not_know_is_a_slip(rows, tmp_path):
    """Whatever its name is: be it a part of a file, or whole files of a record in K."""
    data = world()[["temperature"]].rename(temperature="air_column")
    whole = data.copy(deep=True)
    data["air_column"][12:16] -= np.float32(273.15)
    paths = [tmp_path / f"{start:02d}.nc" for start in range(0, N, rows)]
    for path, start in zip(paths, range(0, N, rows), strict=True):
        data.isel(time=slice(start, start + rows)).to_netcdf(path)
    report = inspect_files(paths)
    found = [f for f in report.findings if f.channel == "air_column@500"]
    assert {(f.severity, f.kind) for f in found} == {("error", "unit slip")}
    assert found[0].first == data["time"].values[12]
    assert sum(f.count for f in found) == 4 and "look like degrees Celsius" in found[0].text
    assert report.refusal is not None and "data.repair: [unit_slips]" in report.refusal
    section = world_config(list(map(str, paths)), prognostic={"air_column": {}})
    holder = paths[12 // rows]
    told = rf"^{holder}: air_column ranges from .* K at 2001-01-04T00:00 \(4 times\), .*Celsius.*unit_slips"
    with pytest.raises(DataError, match=told) as error:
        prepare(section, tmp_path / "store.zarr", tmp_path)
    assert "\n" not in str(error.value) and not (tmp_path / "store.zarr.partial").exists()
    mended = section.model_copy(update={"repair": ["unit_slips"]})
    store = open_store(prepare(mended, tmp_path / "store.zarr", tmp_path))
    wanted = np.moveaxis(whole["air_column"].values, 1, -1)
    np.testing.assert_allclose(store.read_state(0, N), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t - 273.15,  # all of it: a difference perhaps
        lambda t: t.where(t.time < t.time[15], t - 273.15),  # more than half
        lambda t: t.where(t.time != t.time[3], 0.0),  # nothing is known then
        lambda t: t.where((t.time != t.time[3]) | (t.longitude < 100), 0.0),  # nor there
        lambda t: t.where(t.time != t.time[3], t - 373.15),  # colder than any temperature
    ],
)
def test_other_parts_of_what_the_program_does_not_know_are_unusual_alone(change, tmp_path, caplog):
    data = world()[["temperature"]].rename(temperature="other")
    data["other"] = change(data["other"]).transpose(*data["other"].dims).astype("f4").assign_attrs(units="K")
    path = canonical(data, tmp_path)
    assert {(f.severity, f.kind) for f in inspect_files([path]).findings} == {("warning", "unusual")}
    store = stored(path, prognostic={"other": {}}, repair=["unit_slips"])
    np.testing.assert_allclose(store.read_state(0, N), np.moveaxis(data["other"].values, 1, -1), rtol=1e-6)
    lines = [r.getMessage() for r in caplog.records if "unusual in this unit" in r.getMessage()]
    count = {"2001-01-01T00:00": (25, N), "2001-01-01T18:00": (1,), "2001-01-04T18:00": (25,)}
    assert len(lines) == 1 and lines[0].startswith(f"{path}: other ranges from ")
    assert any(f"K at {at}, unusual in this unit ({n} time" in lines[0] for at, some in count.items() for n in some)


@pytest.mark.parametrize(
    ("name", "units", "fill"),
    [
        ("swvl1", "m**3 m**-3", -9999.0),
        ("swvl1", "m**3 m**-3", 1e20),
        ("stl1", "degC", -9999.0),
        ("t2m", "degC", -999.0),
        ("ssrd", "J m**-2", 9.969209968386869e36),
        ("cape", "J kg-1", -9.99e8),
        ("relative_humidity", "%", 1e30),
        ("count", "1e3", -2147483647.0),
    ],
)
def test_fill_values_are_found_in_any_unit(name, units, fill, tmp_path):
    """Also where no range is known, and where a conversion has moved them."""
    data = world(times_from("2001-01-01", N))[["temperature"]]
    data[name] = ((data["temperature"].isel(level=0, drop=True) - 260) / 10).assign_attrs(units=units)
    data[name][10, 2, 3] = fill
    path = canonical(data, tmp_path)
    refusal = inspect_files([path]).refusal
    assert refusal is not None and "missing value that is not declared" in refusal
    section = world_config([str(path)], prognostic={"temperature": {}, name: {}})
    with pytest.raises(DataError, match=f"{name} ranges from .* missing value that is not declared"):
        prepare(section, tmp_path / "store.zarr", tmp_path)


@pytest.mark.parametrize("rows", [1, 14])
@pytest.mark.parametrize("defect", ["flipped latitudes", "stuck", "uniform"])
def test_defects_that_begin_with_a_file_are_found(defect, rows, tmp_path):
    """Of files of a time each no field has a neighbour in its own; of longer ones a whole one may be flipped."""
    data = world(times_from("2001-01-01", N))
    there = slice(14, 14 + rows)
    if defect == "stuck":
        data["temperature"][there, 1] = data["temperature"][13, 1].values
    elif defect == "uniform":
        data["temperature"][there, 1] = 250
    else:
        data["temperature"][there] = data["temperature"][there].values[:, :, ::-1]
    paths = []
    for start in range(0, N, rows):
        paths.append(tmp_path / f"{start:02d}.nc")
        data.isel(time=slice(start, start + rows)).to_netcdf(paths[-1])
    report = inspect_files(paths[::-1])
    hits = [f for f in report.findings if f.severity == "error"]
    assert {f.kind for f in hits} == {defect} and sum(f.count for f in hits) == rows
    assert hits[0].first == data["time"].values[14]
    assert report.refusal is not None and "14.nc" in report.refusal
    with pytest.raises(DataError, match=r"14\.nc: temperature.* at 2001-01-04T12:00"):
        prepare(world_config(list(map(str, paths))), tmp_path / "store.zarr", tmp_path)


def test_files_that_do_not_go_on_where_others_end_are_not_compared(tmp_path):
    """Members of an ensemble may begin alike, on different days of one clock."""
    world(times_from("2001-01-01", N)).to_netcdf(tmp_path / "a.nc")
    again = world(times_from("2001-01-01", N)).isel(time=slice(None, None, -1), latitude=slice(None, None, -1))
    again = again.assign_coords(time=times_from("2001-03-01", N), latitude=again["latitude"].values[::-1])
    again.to_netcdf(tmp_path / "b.nc")
    report = inspect_files([tmp_path / "a.nc", tmp_path / "b.nc"])
    assert [f.kind for f in report.findings] == ["gap"] and report.refusal is None


@pytest.mark.parametrize(("begins", "kind"), [("2001-03-01", "gap"), ("2001-01-11", "stuck")])
def test_a_file_that_begins_as_one_long_before_ended_is_not_stuck(begins, kind, tmp_path):
    first, second = world(times_from("2001-01-01", N)), world(times_from(begins, N))
    second["temperature"][0] = first["temperature"][-1].values
    first.to_netcdf(tmp_path / "a.nc")
    second.to_netcdf(tmp_path / "b.nc")
    report = inspect_files([tmp_path / "a.nc", tmp_path / "b.nc"])
    assert {f.kind for f in report.findings} == {kind}


@pytest.mark.parametrize("first", [True, False])
def test_rain_clouds_and_humidity_may_be_absent_everywhere(first, tmp_path):
    data = world()[["temperature", "specific_humidity"]]
    data["total_cloud_cover"] = (data["temperature"][:, 0] / 1000).assign_attrs(units="1")
    data["prate"] = (data["temperature"][:, 0] / 1e9).assign_attrs(units="m s-1")
    dry = slice(0, 3) if first else slice(20, 23)
    for name in ("specific_humidity", "total_cloud_cover", "prate"):
        data[name][dry] = 0
    data.to_netcdf(tmp_path / "a.nc")
    report = inspect_files([tmp_path / "a.nc"])
    assert report.findings == () and report.refusal is None
    section = {role: report.section[role] for role in ("prognostic", "diagnostic") if role in report.section}
    stored(tmp_path / "a.nc", **section)


def test_a_record_that_begins_uniform_is_refused_where_it_is(tmp_path):
    data = world()
    data["temperature"][:3, 0] = 250
    with pytest.raises(DataError, match=r"temperature@500 at 2001-01-01T12:00 has one value everywhere"):
        stored(canonical(data, tmp_path))


def rain(hours: int, days: int = 12, *, by_day: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Showers that drift, in m over each interval ``(time, latitude, longitude)``, always or in the afternoon alone."""
    times = times_from("2001-06-01", days * 24 // hours, np.timedelta64(hours, "h"))
    phase = 2 * np.pi * np.arange(times.size)[:, None, None] * hours / 31
    place = np.arange(GRID.shape[0])[:, None] + 2 * np.arange(GRID.shape[1])
    showers = np.maximum(0, np.sin(phase + place) + np.sin(1.7 * phase - place)) * 1e-3
    afternoon = (times - times.astype("datetime64[D]")) == np.timedelta64(18, "h")
    return times, showers * afternoon[:, None, None] if by_day else showers


def run_up(times: np.ndarray, sums: np.ndarray, period: int) -> np.ndarray:
    """Sums since the last of the hours that begin anew, as ERA5-Land holds them."""
    out = sums.copy()
    for row in range(1, times.size):
        if (times[row - 1] - times[row - 1].astype("datetime64[D]")) % np.timedelta64(period, "h"):
            out[row] += out[row - 1]
    return out


@pytest.mark.parametrize(
    ("hours", "period", "by_day", "said"),
    [
        (1, 24, False, "falls at 01:00 alone"),
        (3, 12, False, "falls at 03:00 and 15:00 alone"),
        (6, 24, False, "falls at 06:00 alone"),
        (1, None, False, None),
        (6, None, False, None),
        (6, None, True, None),
    ],
)
def test_rain_that_runs_up_over_a_day_is_told(hours, period, by_day, said, tmp_path):
    times, sums = rain(hours, by_day=by_day)
    data = world(times).drop_vars("total_precipitation_6hr", errors="ignore")
    data["tp"] = (("time", "latitude", "longitude"), run_up(times, sums, period) if period else sums, {"units": "m"})
    data["tp"].encoding = {"dtype": "i2", "scale_factor": 1e-6, "_FillValue": -32767}
    paths = [tmp_path / f"{number}.nc" for number in range(12)]  # of a day each
    for path, part in zip(paths, np.split(np.arange(times.size), 12), strict=True):
        data.isel(time=part).to_netcdf(path)
    found = [f for f in inspect_files(paths).findings if f.kind == "running sums"]
    assert len(found) == bool(said)
    assert all(f.severity == "warning" and f.channel == "total_precipitation" and said in f.text for f in found)


def test_rain_that_never_falls_is_summed_from_the_start(tmp_path):
    times, sums = rain(6)
    data = world(times).drop_vars("total_precipitation_6hr", errors="ignore")
    data["tp"] = (("time", "latitude", "longitude"), np.cumsum(sums, axis=0), {"units": "m"})
    report = inspect_files([canonical(data, tmp_path)])
    assert [(f.severity, f.channel) for f in report.findings if f.kind == "running sums"] == [
        ("error", "total_precipitation")
    ]
    assert report.refusal is not None and "never falls: summed since the start of a run?" in report.refusal


def test_levels_with_holes_as_a_rule_are_left_out_and_the_others_predicted(tmp_path):
    """As of CMIP's levels below high ground, be the holes always the same or not."""
    data = world()
    data["temperature"][:, 1, 2:4, 3] = np.nan
    data["temperature"][::3, 1, 4, 4] = np.nan
    report = inspect_files([canonical(data, tmp_path)])
    kept, lost = (float(level) for level in LEVELS)
    assert report.section["prognostic"]["temperature"] == {"levels": [kept]}
    assert "levels" not in report.section["prognostic"]["u_component_of_wind"]
    assert [f.channel for f in report.findings] == [f"temperature@{lost:g}"] and report.refusal is None
    store = stored(tmp_path / "data.nc", prognostic=report.section["prognostic"])
    assert f"temperature@{kept:g}" in {c.name for c in store.spec.state_channels}


def test_heights_without_a_unit_are_metres(tmp_path):
    data = world()
    data["hgt"] = (data["geopotential"] / 9.80665).assign_attrs(units="m")
    data = data.drop_vars("geopotential")
    wanted = inspect_files([canonical(data, tmp_path)]).to_json()["files"][0]["variables"]
    del data["hgt"].attrs["units"]
    bare = inspect_files([canonical(data, tmp_path)])
    assert bare.to_json()["files"][0]["variables"] == wanted
    assert "m2 s-2 (not given)" in bare.text


@pytest.mark.parametrize("name", ["orog", "oro", "hgtsfc"])
def test_the_height_of_the_surface_without_a_unit_is_in_metres(name, tmp_path):
    data = world()[["temperature"]]
    data[name] = data["temperature"][0, 0].drop_vars(["time", "level"])
    data[name].attrs.clear()
    found = inspect_files([canonical(data, tmp_path)]).files[0].source.fields["geopotential_at_surface"]
    assert found.to_si == Conversion("m2 s-2", 9.80665)


@pytest.mark.parametrize("values", [4, 20, 1000])
def test_a_field_that_packing_left_a_few_values_may_repeat(values, tmp_path):
    """Of one scale factor for all levels the stratosphere's humidity gets a few steps."""
    data = world()
    low, high = float(data["specific_humidity"].min()), float(data["specific_humidity"].max())
    few = (data["specific_humidity"][0, 0] - low) / (high - low)
    data["specific_humidity"][4:6, 0] = low + (few * values).round() / values * (high - low)
    path = canonical(data, tmp_path)
    assert len([f for f in inspect_files([path]).findings if f.kind == "stuck"]) == (values == 1000)
    if values < 1000:
        stored(path)


def test_good_weather_raises_no_alarm(tmp_path):
    report = inspect_files([canonical(world(), tmp_path)])
    assert report.findings == () and report.refusal is None


def stored(path: Path, **changes) -> Store:
    return open_store(prepare(world_config([str(path)], **changes), path.parent / "store.zarr", path.parent))


@pytest.mark.parametrize(
    ("change", "repair", "tolerance"), [(flip, "flipped_latitudes", 0), (celsius, "unit_slips", 1e-4)]
)
def test_repairs_are_made_where_the_config_says_so(change, repair, tolerance, tmp_path):
    (tmp_path / "good").mkdir()
    good = stored(canonical(world(), tmp_path / "good")).read_state(0, N)
    mended = stored(canonical(planted(change), tmp_path), repair=[repair]).read_state(0, N)
    np.testing.assert_allclose(mended, good, rtol=0, atol=tolerance)


class Elsewhere(Executor):
    """Does each task as a process does that has opened nothing yet."""

    def submit(self, fn, /, *args, **kwargs):
        open_recipe.cache_clear()
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_workers_do_not_look_for_defects_again(tmp_path, monkeypatch):
    path, looks = canonical(planted(flip), tmp_path), []
    monkeypatch.setattr(pipeline, "_MAX_BLOCK_ROWS", 5)
    scan = quality.scan
    monkeypatch.setattr(quality, "scan", lambda *args: looks.append(args) or scan(*args))
    section = world_config([str(path)], prognostic={"temperature": {}}, repair=["flipped_latitudes", "unit_slips"])
    store = open_store(prepare(section, tmp_path / "store.zarr", tmp_path, executor=Elsewhere()))
    np.testing.assert_array_equal(store.dataset(range(N))["temperature"], world()["temperature"])
    assert len(looks) == 2  # one for each repair


def with_levels(data: xr.Dataset, name: str, factors: dict[float, float]) -> xr.Dataset:
    """The variable at these levels only, the lower of the world's times a factor."""
    levels = xr.DataArray(list(factors.values()), {"level": list(factors)})
    field = (data[name].sel(level=850, drop=True) * levels).transpose("time", "level", "latitude", "longitude")
    return data[[name]].drop_dims("level").assign({name: field.astype("float32").assign_attrs(data[name].attrs)})


@pytest.mark.parametrize("rows", [N, 1])
def test_a_slip_of_unit_is_one_of_all_levels_and_of_dry_times_too(rows, tmp_path):
    """Of humidity in g/kg the stratosphere looks like kg/kg, and so do times at which all of a dry place does."""
    good = with_levels(world(), "specific_humidity", {50.0: 2e-4, 1000.0: 1.0})
    good["specific_humidity"][5:9] /= xr.DataArray([20.0, 300.0, 300.0, 20.0], dims="time")
    good["specific_humidity"][20:, 1] /= 20
    bad = good.copy(deep=True)
    bad["specific_humidity"][:30] *= 1000  # the rest is in kg/kg, as of files that were joined
    for name, data in (("good", good), ("bad", bad)):
        (tmp_path / name).mkdir()
        data["level"].attrs["units"] = "hPa"
        for start in range(0, N, rows):
            data.isel(time=slice(start, start + rows)).to_netcdf(tmp_path / name / f"{start:02d}.nc")
    section = {"prognostic": {"specific_humidity": {}}}
    wanted = stored(tmp_path / "good" / "*.nc", **section).read_state(0, N)
    mended = stored(tmp_path / "bad" / "*.nc", **section, repair=["unit_slips"]).read_state(0, N)
    np.testing.assert_allclose(mended, wanted, rtol=1e-5)


def test_heights_near_the_ground_are_converted_with_those_above(tmp_path):
    """At 1000 hPa a height may be anything, so that level alone says nothing."""
    good = with_levels(world(), "geopotential", {500.0: 3.6, 1000.0: 0.05})
    for name, data in (("good", good), ("bad", good.assign(geopotential=good["geopotential"] / 9.80665))):
        (tmp_path / name).mkdir()
        data["level"].attrs["units"] = "hPa"
        data["geopotential"].attrs["units"] = "m2 s-2"
        data.to_netcdf(tmp_path / name / "file.nc")
    section = {"prognostic": {"geopotential": {}}}
    wanted = stored(tmp_path / "good" / "file.nc", **section).read_state(0, N)
    mended = stored(tmp_path / "bad" / "file.nc", **section, repair=["unit_slips"]).read_state(0, N)
    np.testing.assert_allclose(mended, wanted, rtol=1e-5)


def test_levels_in_two_units_are_refused(tmp_path):
    data = world()
    data["temperature"][10:14, 0] -= 273.15
    with pytest.raises(DataError, match=r"temperature@850 ranges from .* at 2001-01-03T12:00, possible are"):
        stored(canonical(data, tmp_path), repair=["unit_slips"])


def test_flipped_fields_are_not_turned_back_where_they_are_no_mirror_images(tmp_path):
    """Of a global file that a region is taken out of, a flipped field is the other hemisphere's."""
    (tmp_path / "good").mkdir()
    good, bad = canonical(world(), tmp_path / "good"), canonical(planted(flip), tmp_path)
    region = world().isel(latitude=slice(0, 5))
    region.to_netcdf(tmp_path / "region.nc")
    repair = ["flipped_latitudes"]
    with pytest.raises(DataError, match=r"flipped_latitudes cannot be found .*leave them out by data.exclude"):
        stored(bad, repair=repair, regrid={"like": str(tmp_path / "region.nc")})
    globe = {"grid": "16x8", "method": "bilinear"}
    whole = stored(good, regrid=globe).read_state(0, N)
    np.testing.assert_allclose(stored(bad, repair=repair, regrid=globe).read_state(0, N), whole, rtol=1e-6)


def test_excluded_stretches_begin_a_new_segment(tmp_path):
    path = canonical(planted(sentinel), tmp_path)
    store = stored(path, exclude=[["2001-01-03T12", "2001-01-04T06:00"]])
    assert [len(s) for s in store.segments] == [10, 26]
    assert AT not in store.times and END not in store.times
    with pytest.raises(DataError, match=r"data\.exclude leaves no time"):
        open_canonical([path], world_config([str(path)], exclude=[["2001-01-01", "2001-12-31"]]))


def test_what_is_excluded_is_told_and_so_is_what_excludes_nothing(tmp_path, caplog):
    path = canonical(world().isel(time=[*range(20), *range(22, 30), *range(31, N)]), tmp_path)
    caplog.set_level("INFO", "data_prep")
    exclude = [["2000-12-01", "2001-01-01"], ["2001-01-03T12", "2001-01-04T06"], ["2001-01-05T18", "2001-01-05T18"]]
    stored(path, exclude=[*exclude, ["2002-01-03", "2002-01-04"]])
    lines = [r.getMessage() for r in caplog.records if "data.exclude" in r.getMessage() or "no data" in r.getMessage()]
    assert lines == [
        "data.exclude: 2002-01-03 to 2002-01-04 excludes nothing",
        "data.exclude: 9 times left out",
        "4 times left out by data.exclude between 2001-01-03T06:00 and 2001-01-04T12:00: a new segment begins",
        "no data, and 1 times left out by data.exclude, between 2001-01-05T12:00 and 2001-01-06T12:00: a new segment "
        "begins",
        "no data between 2001-01-08T06:00 and 2001-01-08T18:00: a new segment begins",
    ]


def test_of_many_gaps_the_first_and_the_last_are_told(tmp_path, caplog):
    lacking = range(3, N - 3, 4)
    path = canonical(world().isel(time=[i for i in range(N) if i not in lacking]), tmp_path)
    caplog.set_level("INFO", "data_prep")
    assert len(stored(path).segments) == len(lacking) + 1 > 7
    lines = [r.getMessage() for r in caplog.records if "new segment" in r.getMessage() or "more like" in r.getMessage()]
    times = world()["time"].values.astype("datetime64[m]")
    gaps = [f"no data between {times[i - 1]} and {times[i + 1]}: a new segment begins" for i in lacking]
    assert lines == [*gaps[:3], f"({len(gaps) - 4} more like these)", gaps[-1]]


class TestDuplicates:
    def test_are_findings_and_refused_and_dropped_where_equal(self, tmp_path):
        data = world()
        path = canonical(data.isel(time=[*range(20), 19, *range(20, N)]), tmp_path)
        report = inspect_files([path])
        assert [(f.kind, f.first) for f in report.findings if f.kind == "duplicate"] == [
            ("duplicate", data["time"].values[19])
        ]
        assert report.refusal is not None and "occurs twice" in report.refusal
        with pytest.raises(DataError, match="2001-01-05T18:00 occurs twice"):
            stored(path)
        store = stored(path, repair=["duplicates"])
        np.testing.assert_array_equal(store.times, data["time"].values)
        np.testing.assert_array_equal(store.dataset(range(N))["temperature"], data["temperature"])

    def test_that_differ_by_what_packing_rounds_are_the_same(self, tmp_path):
        data = world()
        data["temperature"][19:21] = (
            data["temperature"][19].values + np.array([0, 1e-4], np.float32)[:, None, None, None]
        )
        twice = data.isel(time=[*range(20), 20, *range(21, N)]).assign_coords(
            time=data["time"].values[[*range(20), 19, *range(21, N)]]
        )
        for name in set(data.data_vars) - {"temperature"}:
            twice[name][20] = twice[name][19].values
        store = stored(canonical(twice, tmp_path), repair=["duplicates"])
        np.testing.assert_array_equal(store.dataset([19])["temperature"][0], data["temperature"][19])

    def test_that_differ_are_refused_all_the_same(self, tmp_path):
        data = world().isel(time=[*range(20), 19, *range(20, N)])
        data["temperature"][20] += 1
        with pytest.raises(DataError, match="temperature at 2001-01-05T18:00 is there twice, and differs; take one"):
            stored(canonical(data, tmp_path), repair=["duplicates"])


def test_gaps_are_warnings(tmp_path):
    path = canonical(world().isel(time=[*range(10), *range(14, N)]), tmp_path)
    report = inspect_files([path])
    assert [(f.severity, f.kind, f.first, f.last, f.count) for f in report.findings] == [("warning", "gap", AT, END, 4)]
    assert report.refusal is None


def test_levels_that_never_change_are_named_and_left_out_of_the_section(tmp_path):
    def flatten(data):
        data["specific_humidity"][:, 0] = 1e-6

    report = inspect_files([canonical(planted(flatten), tmp_path)])
    assert [(f.kind, f.channel) for f in report.findings] == [("constant", "specific_humidity")]
    assert report.section["prognostic"]["specific_humidity"]["levels"] == [850.0]


def test_fields_with_holes_and_without_any_value(tmp_path):
    def empty(data):
        data["temperature"][:] = np.nan
        data["2m_temperature"][:, 2:4, 3:5] = np.nan
        data["2m_temperature"][10:14] = data["2m_temperature"][10:14].values[:, ::-1]

    report = inspect_files([canonical(planted(empty), tmp_path)])
    found = {(f.kind, f.channel, f.count) for f in report.findings if f.severity == "error"}
    assert found == {("flipped latitudes", "2m_temperature", 4)}
    assert report.files[0].skipped == (("temperature", "no point has a value"),)


def test_orientation_is_that_of_most_times_and_starts_anew_after_a_gap():
    changes = np.zeros(20, bool)
    changes[[2, 11]] = True  # rows 0, 1 the one way, 2 to 10 the other, 11 to 19 the first again
    times, samples = times_from("2001-01-01", 20), np.zeros((20, 8, 4, 1), np.float32)
    for gap, flipped in ((0, range(2, 11)), (1, [0, 1])):
        orientation = Orientation(HOURS_6, GRID)
        record = times + np.where(np.arange(20) < 11, 0, gap) * HOURS_6
        for start in (0, 7):  # blocks do not matter
            part = slice(start, 7 if start == 0 else 20)
            orientation.add(record, start, samples[part], changes[part])
        rows, unclear = orientation.judge(by_others=True)
        assert np.flatnonzero(rows).tolist() == list(flipped) and not unclear.any()


def days_of_two(n: int) -> np.ndarray:
    """Samples of two days in every five."""
    days = np.datetime64("2001-01-01", "ns") + 5 * np.arange(n).astype("timedelta64[D]")
    return (days[:, None] + np.arange(8) * HOURS_6).ravel()


@pytest.mark.parametrize("rows", [slice(16, 20), slice(20, 24), slice(16, 24)], ids=["first", "second", "both"])
def test_stretches_tell_each_other_which_way_round_they_lie(rows, tmp_path):
    """Half of a stretch may be flipped, or all of it."""
    good = world(days_of_two(5))[["temperature", "2m_temperature"]]
    bad = good.copy(deep=True)
    for name in bad.data_vars:
        bad[name][rows] = bad[name][rows].isel(latitude=slice(None, None, -1)).values
    path = canonical(bad, tmp_path)
    found = [f for f in inspect_files([path]).findings if f.kind != "gap"]
    ends = good["time"].values[rows][[0, -1]].tolist()
    assert {(f.kind, f.first.item(), f.last.item()) for f in found} == {("flipped latitudes", *ends)}
    section = {"prognostic": {name: {} for name in good.data_vars}, "repair": ["flipped_latitudes"]}
    store = stored(path, **section, split={"segments": {"train": [0, 1, 2, 3, 4]}})
    np.testing.assert_array_equal(store.dataset(range(40))["temperature"], good["temperature"])


def test_half_of_a_lone_stretch_that_is_flipped_is_refused(tmp_path):
    data = world(times_from("2001-01-01", 8))[["temperature"]]
    data["temperature"][4:] = data["temperature"][4:].values[:, :, ::-1]
    path = canonical(data, tmp_path)
    report = inspect_files([path])
    assert [(f.kind, f.severity, f.count) for f in report.findings] == [("unclear latitudes", "error", 8)]
    assert report.refusal is not None and "leave the times out by data.exclude" in report.refusal
    with pytest.raises(DataError, match=r"temperature from 2001-01-01T00:00 to .* leave these times, .*data\.exclude"):
        stored(path, prognostic={"temperature": {}}, repair=["flipped_latitudes"])


def test_seasons_that_are_mirror_images_are_no_flips():
    """As January and July are in the stratosphere."""
    field = world(times_from("2001-01-01", 16))["temperature"].values[..., None][:, 0]
    field = np.concatenate([field[:8], field[8:, ::-1]])
    for second, flipped in (("2001-07-01", 0), ("2001-01-20", 8)):
        orientation = Orientation(HOURS_6, GRID)
        orientation.add(times_from("2001-01-01", 8), 0, field[:8], np.zeros(8, bool))
        orientation.begin_anew()
        orientation.add(times_from(second, 7), 0, field[8:15], np.zeros(7, bool))
        assert orientation.judge(by_others=True)[0].sum() == (7 if flipped else 0)


def test_in_a_region_others_decide_between_the_halves_of_a_stretch_alone():
    field = world(times_from("2001-01-01", 24))["temperature"].values[..., None][:, 0]
    halves = np.concatenate([field[16:20, ::-1], field[20:]])
    north = Grid.from_arrays(np.asarray(GRID.latitude) / 2 + 45, GRID.longitude)
    for grid, of_whole in ((GRID, 8), (north, 0)):
        for part, changes, found in ((field[16:, ::-1], [], of_whole), (halves, [4], 4)):
            orientation = Orientation(HOURS_6, grid)
            orientation.add(times_from("2001-01-01", 16), 0, field[:16], np.zeros(16, bool))
            orientation.add(times_from("2001-01-10", 8), 0, part, np.isin(np.arange(8), changes))
            flipped, unclear = orientation.judge(by_others=True)
            assert np.flatnonzero(flipped).tolist() == list(range(16, 16 + found)) and not unclear.any()


def with_sea_and_rain() -> xr.Dataset:
    """Weather over a sea that hardly moves, with showers that are never like those before."""
    data = world()[["temperature", "2m_temperature"]]
    sea = data["2m_temperature"][:1] + np.float32(1e-2) * np.arange(N, dtype=np.float32).reshape(-1, 1, 1)
    sea = xr.DataArray(sea.values, data["2m_temperature"].coords, data["2m_temperature"].dims, attrs={"units": "K"})
    data["sea_surface_temperature"] = sea.where(data["longitude"] > 100)
    showers = np.random.default_rng(0).gamma(0.3, 1e-3, sea.shape).astype("f4")
    data["total_precipitation_6hr"] = sea.copy(data=showers).assign_attrs(units="m")
    return data


SEA_AND_RAIN = {
    "prognostic": {"2m_temperature": {}},
    "diagnostic": {"total_precipitation_6hr": {}},
    "forcing": {"sea_surface_temperature": {"known": "persisted"}},
    "nan": "fill_mean",
}


def test_sea_and_rain_are_turned_back_with_the_rest_of_their_file(tmp_path):
    good = with_sea_and_rain()
    bad = good.copy(deep=True)
    for name in bad.data_vars:
        bad[name][10:14] = bad[name][10:14].isel(latitude=slice(None, None, -1)).values
    stores = []
    for name, data in (("good", good), ("bad", bad)):
        (tmp_path / name).mkdir()
        stores.append(stored(canonical(data, tmp_path / name), **SEA_AND_RAIN, repair=["flipped_latitudes"]))
    wanted, mended = stores
    np.testing.assert_array_equal(mended.read_state(0, N), wanted.read_state(0, N))
    np.testing.assert_array_equal(mended.take_persisted(np.arange(N)), wanted.take_persisted(np.arange(N)))


def test_what_is_left_while_others_of_its_file_are_turned_back_is_told(tmp_path, caplog):
    """A field that is as unlike the one before as its mirror image, and rain with it."""
    data = with_sea_and_rain()
    data["vertical_velocity"] = data["2m_temperature"].copy(data=np.random.default_rng(1).normal(size=(N, *GRID.shape)))
    data["vertical_velocity"].attrs["units"] = "Pa s-1"
    data["2m_temperature"][10:14] = data["2m_temperature"][10:14].values[:, ::-1]
    section = SEA_AND_RAIN | {"prognostic": {"2m_temperature": {}, "vertical_velocity": {}}, "forcing": {}}
    stored(canonical(data.drop_vars("sea_surface_temperature"), tmp_path), **section, repair=["flipped_latitudes"])
    told = [r.getMessage() for r in caplog.records if "while others of their file are turned back" in r.getMessage()]
    names = "vertical_velocity", "total_precipitation_6hr"
    assert [line.split(", while")[0] for line in told] == [
        f"{name}: 4 times are left as they are, from 2001-01-03T12:00" for name in names
    ]


def test_a_sea_that_is_flipped_is_refused_and_one_that_stays_is_not(tmp_path):
    data = with_sea_and_rain()
    data["sea_surface_temperature"][20:] = data["sea_surface_temperature"][20].values
    stored(canonical(data, tmp_path), **SEA_AND_RAIN)
    data["sea_surface_temperature"][10:14] = data["sea_surface_temperature"][10:14].values[:, ::-1]
    path = canonical(data, tmp_path)
    report = inspect_files([path])
    found = [(f.kind, f.severity, f.channel) for f in report.findings if f.kind == "flipped latitudes"]
    assert found == [("flipped latitudes", "error", "sea_surface_temperature")] and report.refusal is not None
    with pytest.raises(DataError, match="sea_surface_temperature is turned north to south at 2001-01-03T12:00"):
        stored(path, **SEA_AND_RAIN)


def test_blocks_do_not_matter(monkeypatch):
    data = planted(flip)["temperature"].transpose("time", "latitude", "longitude", "level").values
    whole, _ = quality.scan(lambda a, b: data[a:b], N, GRID, 2)
    monkeypatch.setattr(quality, "_BLOCK_BYTES", 3 * data[0].nbytes)
    pieces, _ = quality.scan(lambda a, b: data[a:b], N, GRID, 2)
    for name in ("low", "high", "missing", "stuck", "mirrored", "same", "rises", "falls"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))
    assert np.flatnonzero(whole.mirrored).tolist() == [10, 14]


def test_small_boxes_are_not_searched_for_mirror_images():
    box = Grid.from_arrays(np.arange(40, 42, 0.25), np.arange(0, 2, 0.25))
    slope = np.linspace(-1, 1, 8)[None, :, None, None] * np.ones((1, 8, 8, 1))
    turned = np.concatenate([slope, -slope])
    assert not quality.stuck_and_mirrored(turned, box)[1].any()
    assert quality.stuck_and_mirrored(turned, GRID)[1].all()


@pytest.mark.parametrize(
    ("pressure", "height"), [(1013.25, 0.0), (850, 1457), (500, 5574), (226.32, 11000), (100, 16180)]
)
def test_standard_atmosphere(pressure, height):
    """Heights of the ISO 2533 tables."""
    assert standard_height(pressure) == pytest.approx(height, abs=2)


def test_heights_are_known_at_any_level_that_is_high_enough():
    assert slip_of("geopotential", "m2 s-2", 1000.0, -300.0, 300.0) is None
    assert slip_of("geopotential", "m2 s-2", 500.0, 47000.0, 58000.0) is None
    found = slip_of("geopotential", "m2 s-2", 10.0, 28000.0, 32000.0)
    assert found is not None and found.units == "m"


@pytest.mark.parametrize("name", ["ncep_r1_air_temperature_2013_2014.nc", "ncep_r1_hgt1000_1960_int16.nc"])
def test_real_records_raise_no_alarm(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"../shared/data/{name} is not here")
    report = inspect_files([SHARED / name])
    assert report.findings == () and report.refusal is None


@pytest.mark.parametrize("how", ["stuck", "flipped", "uniform"])
def test_a_block_is_compared_with_the_time_before_it_in_whatever_order_blocks_are_read(how, tmp_path):
    data = world(times_from("2001-01-01", 60))[["temperature"]]
    if how == "stuck":
        data["temperature"][41] = data["temperature"][40].values
    elif how == "flipped":
        data["temperature"][41:] = data["temperature"][41:].values[:, :, ::-1]
    else:
        data["temperature"][41:] = 250.0
    data.to_netcdf(tmp_path / "a.nc")
    segment = open_canonical([tmp_path / "a.nc"], world_config(["x"], prognostic={"temperature": {}})).segments[0]
    segment.read("temperature", 0, 20)
    said = {"stuck": "repeats the field before it", "flipped": "against the time before", "uniform": "has one value"}
    with pytest.raises(DataError, match=f"at 2001-01-11T06:00 {said[how]}"):
        segment.read("temperature", 41, 50)


def test_fields_without_any_value_are_missing_and_not_stuck():
    samples = np.full((3, 8, 8, 1), np.nan, np.float32)
    assert not quality.stuck_and_mirrored(samples, Grid.gaussian(8))[0].any()
