"""Errors by season and trajectory are those of the initial times that they name."""

import numpy as np
import pytest
import xarray as xr
from small_experiment import make_experiment, with_made_up_scores, with_more_forecasters

from data_prep.grid import Grid
from emulator.evaluation.report import write_report
from emulator.evaluation.strata import ratio_in, ratio_to_hardest, strata

HEADLINE = ("geopotential@500", "2m_temperature")


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    made = make_experiment(tmp_path_factory.mktemp("strata"), Grid.gaussian(16), HEADLINE, {})
    return with_made_up_scores(made.scores)


def moved(scores, times, trajectories):
    """The scores as if of other initial times."""
    count = len(times)
    some = scores.isel(init_time=np.arange(count) % scores.sizes["init_time"])
    times = np.array(times, "datetime64[ns]")
    return some.assign_coords(init_time=times, trajectory=("init_time", list(trajectories)))


def test_seasons_and_trajectories_part_the_initial_times(scores):
    times = ["2001-12-01", "2002-02-28T12", "2002-03-01", "2006-11-30T18", "2006-12-31", "2007-05-31"]
    found = {s.label: s.rows.tolist() for s in strata(moved(scores, times, "aaabbb"))}
    assert found == {
        "December to February": [0, 1, 4],
        "March to May": [2, 5],
        "September to November": [3],
        "2001-12-01 to 2002-03-01": [0, 1, 2],
        "2006-11-30 to 2007-05-31": [3, 4, 5],
    }


def test_one_season_and_one_trajectory_are_no_parts(scores):
    assert strata(moved(scores, ["2002-06-01", "2002-08-31"], "aa")) == ()


def test_of_many_trajectories_none_is_told_by_itself(scores):
    times = np.arange("2002-06-01", "2002-06-14", dtype="datetime64[D]")
    assert len(times) == 13
    assert strata(moved(scores, times, "abcdefghijklm")) == ()
    assert len(strata(moved(scores, times[:-1], "abcdefghijkl"))) == 12


def test_ratios_are_of_the_rmse_over_these_initial_times(scores):
    every = ratio_in(scores, np.arange(scores.sizes["init_time"]), "network", "physics_t21")
    expected = scores["rmse_ratio"].sel(forecaster="network", reference="physics_t21", region="all")
    np.testing.assert_allclose(every, expected.sel(variable=list(HEADLINE)), rtol=1e-6)
    squared = scores["squared_error"].sel(variable="2m_temperature", region="all").isel(init_time=[1, 3])
    rmse = np.sqrt(squared.mean("init_time"))
    some = ratio_in(scores, np.array([1, 3]), "network", "physics_t21").sel(variable="2m_temperature")
    np.testing.assert_allclose(some, rmse.sel(forecaster="network") / rmse.sel(forecaster="physics_t21"))
    assert not np.allclose(some, every.sel(variable="2m_temperature"))


def test_a_part_with_a_forecast_that_broke_down_has_no_ratio(scores):
    """Else who breaks down in the hard cases would be ahead in the others."""
    broken = scores.copy(deep=True)
    start = {"variable": "2m_temperature", "init_time": broken["init_time"][1], "lead_time": broken["lead_time"][0]}
    broken["squared_error"].loc[{"forecaster": "network", "region": "all", **start}] = np.nan
    with_it, without = (ratio_in(broken, np.array(rows), "network", "physics_t21") for rows in ([0, 1], [0, 2]))
    found = with_it.sel(variable="2m_temperature").isnull()
    assert found[0] and not found[1:].any() and not without.isnull().any()


def test_the_hardest_opponent_is_chosen_for_every_lead_and_variable_by_all_initial_times(scores):
    rivals = ["physics_t21", "physics_t21_damped"]
    both = with_more_forecasters(scores, ["network", *rivals]).copy(deep=True)
    squared = both["squared_error"]
    first = {"forecaster": both["forecaster"].values, "lead_time": both["lead_time"][0]}
    squared[:] = xr.DataArray([1.0, 5.0, 4.0], {"forecaster": both["forecaster"]})
    squared.loc[first] = xr.DataArray([1.0, 2.0, 3.0], {"forecaster": both["forecaster"]})
    squared.loc[{"forecaster": "physics_t21", "variable": "2m_temperature"}] = np.nan
    other_way = {"forecaster": "physics_t21", "variable": "geopotential@500", "init_time": both["init_time"][0]}
    squared.loc[other_way] *= 1.6  # of that one alone the other errs less at the first lead, of all it does not
    found = ratio_to_hardest(both, np.array([0]))
    np.testing.assert_allclose(found.sel(variable="geopotential@500")[:2] ** -2, [2 * 1.6, 4])
    np.testing.assert_allclose(found.sel(variable="2m_temperature")[:2] ** -2, [3, 4])
    squared.loc[{"forecaster": rivals, "variable": "2m_temperature"}] = np.nan
    assert ratio_to_hardest(both, np.array([0]))["variable"].values.tolist() == ["geopotential@500"]


def test_the_report_tells_them_where_there_are_any(scores, tmp_path):
    count = scores.sizes["init_time"]
    labels = ["a"] * (count // 2) + ["b"] * (count - count // 2)
    june = np.datetime64("2002-06-01") + np.arange(count) * np.timedelta64(1, "D")
    text = write_report(moved(scores, june, labels), tmp_path / "report.html").read_text(encoding="utf-8")
    rows = text[text.index('id="strata"') :].split("</table>")[0].split("<tr>")[2:]
    assert [row.split("</th>")[0].split(">")[1] for row in rows] == [
        "All",
        f"2002-06-01 to {june[count // 2 - 1]}",
        f"{june[count // 2]} to {june[-1]}",
    ]
    ratio = ratio_in(moved(scores, june, labels), np.arange(count // 2), "network", "physics_t21")
    first = np.exp(np.log(ratio.values[:, 0]).mean())
    assert f"<td>{first:.2f}<small>" in rows[1]
    text = write_report(moved(scores, june, "a" * count), tmp_path / "one.html").read_text(encoding="utf-8")
    assert '<section aria-labelledby="h-strata" hidden>' in text
