"""The nature run: what is in its files, that a killed run ends as an uninterrupted one, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("jcm")

from cf_checker import complaints
from physics_fixtures import developed

from data_prep.errors import ConfigError, DataError
from data_prep.spec import grid_coords
from emulator.config import SimulateConfig
from emulator.evaluation.fields import _INDEPENDENT
from emulator.physics import nature_run, speedy, transfer
from emulator.physics.boundary import boundary_dataset
from emulator.physics.nature_run import simulate, write_blank

pytestmark = pytest.mark.physics

CONFIG = SimulateConfig(
    truncation=21,
    members=2,
    start="1904-02-26",
    develop_days=1,
    perturbation=0.02,
    spinup_days=1,
    days=2,
    chunk_days=1,
    output_truncation=21,
)


@pytest.fixture(scope="module")
def nature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(CONFIG, tmp_path_factory.mktemp("nature"), seed=3)


def test_files_are_plain_cf_netcdf(nature: Path):
    assert sorted(p.name for p in nature.iterdir()) == [
        "boundary.nc",
        "member_000.nc",
        "member_001.nc",
        "simulate.json",
    ]
    with xr.open_dataset(nature / "member_001.nc") as member:
        assert member["temperature"].dims == ("time", "level", "latitude", "longitude")
        assert dict(member.sizes) == {"time": 9, "level": 8, "latitude": 32, "longitude": 64}
        # relabelled by four years, the start of the kept period included
        assert member["time"].values[0] == np.datetime64("1908-02-28T00")
        assert member["time"].values[-1] == np.datetime64("1908-03-01T00")
        assert member["level"].attrs["standard_name"] == "atmosphere_sigma_coordinate"
        assert member["total_precipitation_6hr"].attrs["units"] == "m"
        assert member.attrs["Conventions"] == "CF-1.11"
        for variable in member.data_vars.values():
            assert variable.attrs["units"]
        coords = grid_coords(transfer.gaussian_grid(21))
        np.testing.assert_array_equal(member["latitude"], coords["latitude"][1])
        assert np.isfinite(member["temperature"]).all()


def test_blank_files_are_those_of_the_run_but_for_values(nature: Path, tmp_path: Path):
    write_blank(CONFIG, tmp_path / "blank")
    assert sorted(p.name for p in (tmp_path / "blank").iterdir()) == sorted(p.name for p in nature.glob("*.nc"))
    for path in nature.glob("*.nc"):
        with xr.open_dataset(path) as made, xr.open_dataset(tmp_path / "blank" / path.name) as blank:
            assert blank.variables.keys() == made.variables.keys()
            for name in made.variables:
                assert blank[name].dims == made[name].dims and blank[name].shape == made[name].shape
                assert blank[name].attrs.get("units") == made[name].attrs.get("units")
            for name in blank.coords:
                np.testing.assert_array_equal(blank[name], made[name])


@pytest.mark.filterwarnings("ignore:The ioos_sos checker:DeprecationWarning")
@pytest.mark.parametrize("name", ["boundary.nc", "member_001.nc"])
def test_files_are_clean_under_the_cf_checker(nature: Path, name: str):
    assert complaints(nature / name) == []


def test_members_share_nothing_but_the_climate(nature: Path):
    with xr.open_dataset(nature / "member_000.nc") as a, xr.open_dataset(nature / "member_001.nc") as b:
        assert float(abs(a["temperature"].values - b["temperature"].values).max()) > 1e-2
        assert not np.intersect1d(a["time"], b["time"]).size


def test_the_record_says_what_it_was_and_what_it_cost(nature: Path):
    record = json.loads((nature / "simulate.json").read_text())
    assert record["config"] == CONFIG.model_dump(mode="json")
    assert record["seed"] == 3
    # one member while it develops, two for three days, one chunk of one day each
    assert record["cost"]["simulated_days"] in (1 + 2 * 3, 2 * 4)
    assert record["cost"]["simulated_days_per_second"] > 0


def test_a_killed_run_ends_as_an_uninterrupted_one(nature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed after a part was written and before the state was: the chunk is simulated and written again."""
    write = nature_run.write_arrays
    written: list[str] = []

    def killed(path: Path, arrays: dict[str, np.ndarray]) -> None:
        if arrays.get("done") == 3:
            raise KeyboardInterrupt
        write(path, arrays)

    def watched(path: Path, arrays: dict[str, np.ndarray]) -> None:
        written.append(path.name)
        write(path, arrays)

    monkeypatch.setattr(nature_run, "write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        simulate(CONFIG, tmp_path, seed=3)
    assert not list(tmp_path.glob("*.nc"))
    assert len(list((tmp_path / "parts").glob("chunk_*.npz"))) == 2
    monkeypatch.setattr(nature_run, "write_arrays", watched)
    speedy._build.cache_clear()  # the process that goes on has built nothing yet
    speedy._single_shapes.cache_clear()
    simulate(CONFIG, tmp_path, seed=3)
    assert [name for name in written if name.startswith("chunk")] == ["chunk_000003.npz", "chunk_000004.npz"]
    for name in ("member_000.nc", "member_001.nc", "boundary.nc"):
        with xr.open_dataset(tmp_path / name) as resumed, xr.open_dataset(nature / name) as whole:
            xr.testing.assert_equal(resumed, whole)


def test_parts_of_another_run_are_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nature_run, "_write_members", killed)
    short = CONFIG.model_copy(update={"days": 1})
    with pytest.raises(KeyboardInterrupt):
        simulate(short, tmp_path, seed=3)
    with pytest.raises(DataError, match="another config, seed or format"):
        simulate(short, tmp_path, seed=4)


def test_an_unstable_member_is_named_with_its_date():
    fields = {name: field.copy() for name, field in developed().fields.items()}
    fields["temperature"][1, 2, 5, 7, 9] = np.nan
    with pytest.raises(DataError, match=r"member 1 became unstable before 1901-03-01T18"):
        nature_run._check(fields, np.datetime64("1901-03-01", "h"), 6)
    nature_run._check(developed().fields, np.datetime64("1901-03-01", "h"), 6)


@pytest.mark.parametrize("name", ["temperature", "u_component_of_wind", "v_component_of_wind"])
def test_what_no_member_can_reach_is_named(name: str):
    fields = {n: field.copy() for n, field in developed().fields.items()}
    fields[name][0, 1, 3] = 1e4
    with pytest.raises(DataError, match=rf"member 0 became unstable before 1901-03-01T12.*: {name} left"):
        nature_run._check(fields, np.datetime64("1901-03-01", "h"), 6)


def test_the_polar_night_is_no_instability():
    """SPEEDY's top layer falls below 120 K over the Antarctic in June."""
    fields = {name: field.copy() for name, field in developed().fields.items()}
    fields["temperature"][0, 0, 0, 0, 0] = 110.0
    nature_run._check(fields, np.datetime64("1901-06-01", "h"), 6)


@pytest.mark.parametrize("change", [{"start": "yesterday"}, {"members": 128}, {"members": 60}, {"start": "1500-01-01"}])
def test_dates_out_of_the_calendar_are_refused_before_anything_is_done(change: dict[str, object], tmp_path: Path):
    with pytest.raises(ConfigError, match=r"simulate\.start"):
        simulate(CONFIG.model_copy(update=change), tmp_path / "never", seed=0)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(("days", "years"), [(90, 4), (1429, 4), (1430, 8), (1461, 8), (3000, 12)])
def test_labels_of_members_are_a_month_apart(days: int, years: int):
    apart = nature_run.days_apart(CONFIG.model_copy(update={"days": days}))
    assert apart * 4 == years * 1461
    assert np.timedelta64(apart - days, "D") > _INDEPENDENT


def test_boundary_fields_are_what_the_physics_sees(nature: Path):
    from jcm.date import DateData

    from emulator.physics.speedy import model_time

    model = developed().model
    with xr.open_dataset(nature / "boundary.nc") as boundary:
        assert boundary["sea_surface_temperature"].dims == ("dayofyear", "latitude", "longitude")
        np.testing.assert_array_equal(boundary["dayofyear"], np.arange(1, 367))
        seen = model.parts.forcing.select(DateData.set_date(model_time(np.datetime64("1905-07-20"))))
        for name, field in (("sea_surface_temperature", "sea_surface_temperature"), ("snow_depth", "snowc_am")):
            expected = np.swapaxes(np.asarray(getattr(seen, field)), -1, -2)
            np.testing.assert_allclose(boundary[name].sel(dayofyear=201), expected, rtol=1e-6)
        surface = model.surface_geopotential_on(model.truncation)
        np.testing.assert_allclose(boundary["geopotential_at_surface"], surface, atol=1e-2)
        for variable in boundary.data_vars.values():
            assert np.isfinite(variable).all()
        assert boundary["land_sea_mask"].min() >= 0 and boundary["land_sea_mask"].max() == 1


def test_boundary_fields_are_coarsened_by_area_mean():
    from emulator.physics.speedy import SpeedyModel

    model = SpeedyModel(31)
    boundary = boundary_dataset(model, 21)
    fine, coarse = transfer.gaussian_grid(31), transfer.gaussian_grid(21)
    land = np.swapaxes(np.asarray(model.parts.model.terrain.fmask), -1, -2)
    means = [
        (f * g.cell_areas).sum() / g.cell_areas.sum()
        for f, g in ((land, fine), (boundary["land_sea_mask"].values, coarse))
    ]
    np.testing.assert_allclose(*means, rtol=1e-5)
    np.testing.assert_allclose(boundary["geopotential_at_surface"], model.surface_geopotential_on(21))


def test_a_new_process_knows_the_structure_of_a_state_that_another_left():
    """After a kill nothing has built the model yet; that its structure is asked for inside a trace must not matter."""
    code = "from emulator.physics.speedy import SpeedyModel, run_state_structure as s; print(s(SpeedyModel(21, 5)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "RunState" in done.stdout, done.stderr


def test_the_first_moment_that_is_kept_is_the_last_that_is_discarded(nature: Path):
    with xr.open_dataset(nature / "member_000.nc") as member:
        change = np.sqrt((member["temperature"].diff("time") ** 2).mean(["level", "latitude", "longitude"])).values
    assert change[0] < 1.3 * change[1]
