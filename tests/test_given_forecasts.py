"""What users hand over to be scored: packed, masked, another truth, of other programs."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from tiny_store import write_store

import emulator
from data_prep.config import RegridConfig
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.reading.regrid_file import regrid_file
from emulator.evaluation.forecast_file import wanted_inits
from emulator.evaluation.scores_reader import candidate, like_with_like, opponents
from emulator.forecasters.statistical import make_reference
from emulator.learned_from import LEARNED_FROM

GRID = Grid.from_arrays(np.arange(-60, 61, 15.0), np.arange(0, 360, 30.0))
OPTIONS = {"split": "validation", "bootstrap": 20, "references": ()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("given") / "store.zarr", GRID, n_times=40)


@pytest.fixture(scope="module")
def rows(store):
    (segment,) = [s for s in store.segments if s.split == "validation"]
    return np.arange(segment.start, segment.stop)


@pytest.fixture(scope="module")
def forecasts(store, rows):
    leads = np.arange(1, 4) * store.timestep
    return emulator.predict(make_reference("anomaly_persistence", store, leads), store.dataset(rows[:6]), days=0.75)


def of_others(forecasts):
    """As another program has them, temperature alone."""
    plain = forecasts[["temperature"]].drop_attrs(deep=False).drop_encoding()
    plain.attrs = {}
    return plain


def rmse(scores):
    return scores["rmse"].isel(forecaster=0, lead_time=0).sel(region="all").values


def test_what_was_packed_in_files_and_changed_since_is_scored_as_it_is(store, forecasts, tmp_path):
    warmer = of_others(forecasts) + 6
    places = []
    for i, part in enumerate((of_others(forecasts).isel(init_time=slice(3)), warmer.isel(init_time=slice(3, 6)))):
        low, high = float(part["temperature"].min()), float(part["temperature"].max())
        packing = {"dtype": "int16", "scale_factor": (high - low) / 65000, "add_offset": (high + low) / 2}
        part.to_netcdf(tmp_path / f"{i}.nc", encoding={"temperature": {**packing, "_FillValue": np.int16(-32768)}})
        places.append(tmp_path / f"{i}.nc")
    joined = xr.concat([xr.open_dataset(place, decode_timedelta=True) for place in places], "init_time")
    assert joined["temperature"].encoding["dtype"] == np.int16
    by_file, by_hand = (emulator.score({"a": given}, store, **OPTIONS) for given in (places, joined))
    np.testing.assert_allclose(rmse(by_hand), rmse(by_file), rtol=1e-5)
    assert joined["temperature"].encoding["dtype"] == np.int16  # the user's own


def test_what_a_mask_covers_may_be_missing_in_memory(store, rows, forecasts, tmp_path):
    there = xr.DataArray(
        np.ones(GRID.shape, bool), {"latitude": list(GRID.latitude), "longitude": list(GRID.longitude)}
    )
    there[:, 3:5] = False
    there.astype("i1").to_dataset(name="mask").to_netcdf(tmp_path / "mask.nc")
    with xr.set_options(keep_attrs=True):
        holed = forecasts.where(there)
        truth = store.dataset(rows)[list(store.spec.state_variables)].load().where(there)
    options = OPTIONS | {"mask": str(tmp_path / "mask.nc"), "references": ["persistence"]}
    whole = emulator.score({"a": forecasts}, store, **options)
    for given, other in ((holed, None), (forecasts, truth)):
        np.testing.assert_allclose(rmse(emulator.score({"a": given}, store, truth=other, **options)), rmse(whole))


def test_what_is_not_possible_in_memory_is_refused(store, forecasts):
    with pytest.raises(DataError, match="left physical bounds at lead 6 h: temperature"):
        emulator.score({"a": forecasts.assign(temperature=forecasts["temperature"] - 273.15)}, store, **OPTIONS)


def test_another_unit_than_the_truths_is_asked_after(store, forecasts):
    """Where no attribute tells: the forecaster is not to blame."""
    celsius = forecasts.assign(temperature=forecasts["temperature"] - 273.15)
    celsius["temperature"].attrs = {}
    with pytest.raises(DataError, match=r"^forecasts.other: .* possible are .*; is it in the unit of the truth\?$"):
        emulator.score({"other": celsius}, store, **OPTIONS)


def test_a_truth_without_times_or_with_rain_of_another_interval_is_refused(store, rows, forecasts, caplog):
    truth = store.dataset(rows)[list(store.spec.state_variables)].load()
    rain = "total_precipitation_6hr"

    def score(truth):
        return emulator.score({"a": forecasts}, store, truth=truth, **OPTIONS)

    with pytest.raises(DataError, match=r"truth: total_precipitation_6hr has no dimension of time"):
        score(truth.assign({rain: truth[rain].isel(time=0, drop=True)}))
    with pytest.raises(DataError, match=r"truth: its times are 3 h apart, the store's 6 h; take every such one"):
        score(
            truth.assign_coords(time=truth["time"].values[0] + np.arange(truth.sizes["time"]) * np.timedelta64(3, "h"))
        )
    nameless = truth.rename({rain: "tp"})
    score(nameless)
    assert "truth: tp is taken for sums over 6 h, the store's time step" in caplog.text
    for hours, fine in ((6, True), (1, False)):
        ends = nameless["time"].values
        bounds = np.stack([ends - np.timedelta64(hours, "h"), ends], axis=1)
        stated = nameless.assign(time_bnds=(("time", "bnds"), bounds))
        stated["time"].attrs["bounds"] = "time_bnds"
        if fine:
            score(stated)
        else:
            with pytest.raises(DataError, match=r"truth: tp at .* is no sum over the 6 h before; give such sums"):
                score(stated)


def test_an_attribute_of_ours_that_means_something_else_elsewhere_costs_nothing(store, forecasts, tmp_path):
    of_others(forecasts).assign_attrs({LEARNED_FROM: "x/y"}).to_netcdf(tmp_path / "theirs.nc")
    emulator.score({"a": tmp_path / "theirs.nc"}, store, **OPTIONS)


def test_values_outside_of_the_range_that_a_file_declares_are_missing(store, forecasts, tmp_path):
    theirs = of_others(forecasts).load()
    theirs["temperature"].attrs["valid_max"] = np.float32(350)
    theirs.to_netcdf(tmp_path / "sound.nc")
    theirs["temperature"][:, :, 0, 0, 0] = 390
    theirs.to_netcdf(tmp_path / "holed.nc")
    emulator.score({"a": tmp_path / "sound.nc"}, store, **OPTIONS)
    with pytest.raises(DataError, match=r"holed\.nc.* temperature.*(missing|NaN)"):
        emulator.score({"a": tmp_path / "holed.nc"}, store, **OPTIONS)


def test_regridding_leaves_initial_times_what_they_are(store, rows, tmp_path):
    inits = rows[:6]
    perfect = store.dataset(inits + 4)[["temperature"]].load()
    perfect = perfect.assign_coords(time=store.times[inits], prediction_timedelta=np.timedelta64(24, "h"))
    perfect["time"].attrs, perfect.attrs = {}, {}
    perfect.to_netcdf(tmp_path / "raw.nc")
    regrid_file(tmp_path / "raw.nc", tmp_path / "regridded.nc", RegridConfig(like=str(tmp_path / "raw.nc")))
    for name in ("raw", "regridded"):
        scores = emulator.score({"a": tmp_path / f"{name}.nc"}, store, **OPTIONS)
        assert scores["init_time"].values[0] == store.times[inits[0]]
        np.testing.assert_allclose(rmse(scores), 0, atol=1e-4)


def test_physics_is_the_opponent_wherever_it_stands(store, forecasts):
    given = {name: of_others(forecasts) + i for i, name in enumerate(("physics_ifs", "physics_ifs_damped", "mine"))}
    scores = emulator.score(given, store, **OPTIONS)
    assert candidate(scores) == "mine" and opponents(scores) == ["physics_ifs", "physics_ifs_damped"]
    del given["mine"]
    alone = emulator.score(given, store, **OPTIONS)
    assert candidate(alone) == "physics_ifs" and like_with_like(alone) == []


def test_what_says_that_it_is_a_mean_is_scored_with_a_warning(store, forecasts, caplog):
    daily, rain = of_others(forecasts), "total_precipitation_6hr"
    daily[rain] = forecasts[rain].drop_attrs().assign_attrs(units="m", cell_methods="time: sum")
    daily["temperature"].attrs["cell_methods"] = "time: mean (interval: 24 hours)"
    emulator.score({"daily": daily}, store, **OPTIONS)
    said = [r.getMessage() for r in caplog.records if "over an interval, as the file says" in r.getMessage()]
    assert len(said) == 1 and "temperature is the mean over an interval" in said[0]


def test_rain_summed_from_the_start_is_asked_about(store, rows, caplog):
    leads = np.arange(1, 9) * store.timestep
    truth = emulator.predict(make_reference("climatology", store, leads), store.dataset(rows[:3]), days=2)
    rain = [store.dataset(rows[i + 1 : i + 9])["total_precipitation_6hr"].values for i in range(3)]
    for values, asked in ((np.array(rain), False), (np.array(rain).cumsum(axis=1), True)):
        given = (
            truth[["total_precipitation_6hr"]]
            .drop_attrs(deep=False)
            .copy(data={"total_precipitation_6hr": values.astype(np.float32)})
        )
        caplog.clear()
        emulator.score({"other": given}, store, **OPTIONS | {"references": ("climatology",)})
        assert ("is each value the sum over the step that ends there? look at" in caplog.text) == asked


def test_the_initial_state_before_our_forecasts_is_left_out(store, forecasts):
    first = forecasts.isel(lead_time=[0]).assign_coords(lead_time=[np.timedelta64(0, "ns")])
    with_start = xr.concat([first, forecasts], "lead_time", data_vars="minimal", combine_attrs="override")
    assert set(with_start.attrs) == set(forecasts.attrs)
    options = OPTIONS | {"references": ("persistence",)}
    scores, again = (emulator.score({"a": given}, store, **options) for given in (forecasts, with_start))
    xr.testing.assert_allclose(scores["rmse"], again["rmse"])


@pytest.mark.parametrize(("held", "filled"), [((0, 3, 7, 10, 14), False), ((0, 3, 9, 12), True)])
def test_only_what_starts_at_regular_intervals_has_gaps(store, rows, held, filled):
    """Mondays and Thursdays are three and four days apart."""
    times = store.times[rows]
    asked = [SimpleNamespace(init_times=times[list(held)]), SimpleNamespace(init_times=times[:15])]
    found = wanted_inits(asked, np.array([store.timestep]), store, "validation")
    np.testing.assert_array_equal(found, times[[0, 3, 6, 9, 12]] if filled else times[list(held)])
