"""Table, curves and maps: made from the scores file alone, saying what the scores say."""

from dataclasses import replace

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text
from small_experiment import in_pascal, make_experiment, with_made_up_scores, with_more_forecasters
from synthetic import ON_SIGMA, evaluation_rows, lead_times, make_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import grid_coords
from emulator.config import EvaluateConfig
from emulator.evaluation.figures import save
from emulator.evaluation.forecaster_names import is_physics, model_of, physics_form
from emulator.evaluation.maps import plot_maps
from emulator.evaluation.plots import activity_figure, gain_figure, plot_scores, skill_figure
from emulator.evaluation.plots_cost import cost_figure, cost_front
from emulator.evaluation.plots_long_run import long_run_figure
from emulator.evaluation.scores import evaluate
from emulator.evaluation.scores_reader import median_case, read_crossover
from emulator.evaluation.style import (
    default_lines,
    forecaster_label,
    lead_text,
    line_styles,
    number_text,
    region_label,
    shown_unit,
    variable_label,
)
from emulator.evaluation.summary import summarise
from emulator.evaluation.table import format_table
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference

HEADLINE = ("2m_temperature", "geopotential@500")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_experiment(tmp_path_factory.mktemp("plots"), Grid.gaussian(8), HEADLINE, {})
    return replace(made, scores=with_made_up_scores(made.scores))


def test_plots_come_from_the_scores_alone(world, tmp_path):
    scores = world.scores
    files = plot_scores(scores, tmp_path / "plots")
    pictures = ("skill", "activity", "cost", "gain")
    assert [f.name for f in files] == [f"{name}.{kind}" for name in pictures for kind in ("png", "pdf")]
    for file in files[::2]:
        image = matplotlib.image.imread(file)
        assert min(image.shape[:2]) > 250 and image[..., :3].std() > 0.02  # neither tiny nor blank
    assert sorted(p for p in (tmp_path / "plots").iterdir()) == sorted(files)


def test_pdfs_hold_text_in_fonts_of_their_own(world, tmp_path):
    figure = skill_figure(world.scores)
    written = save(figure, tmp_path / "skill")[1].read_bytes()
    assert written.startswith(b"%PDF")
    assert b"/FontFile2" in written and b"/Type3" not in written  # TrueType, embedded
    figure.texts.clear()
    for axes in figure.axes:
        axes.set_axis_off()
        axes.clear()
        axes.set_axis_off()
    figure.legends.clear()
    figure.suptitle("")
    assert b"/FontFile2" not in save(figure, tmp_path / "bare")[1].read_bytes()


def test_skill_figure_shows_every_forecaster_and_the_crossover(world):
    scores = world.scores
    figure = skill_figure(scores)
    panels = figure.axes
    assert [a.get_title("left") for a in panels] == ["Near-surface temperature", "Z500"]
    panel = panels[1]
    rmse = scores["rmse"].sel(variable="geopotential@500", region="all")
    curves = [line.get_ydata() for line in panel.lines]
    for name in scores["forecaster"].values:
        assert any(np.array_equal(c, rmse.sel(forecaster=name).values) for c in curves), name
    found = read_crossover(scores, "network", "physics_t21", "geopotential@500")
    assert found.outcome == "crossover"
    marks = [line for line in panel.lines if line.get_marker() == "D"]
    assert [float(m.get_xdata()[0]) for m in marks] == pytest.approx([found.hours / 24])
    (interval,) = (line.get_xdata() for line in panel.lines if line.get_linewidth() == 3)
    assert interval == pytest.approx([found.lower / 24, min(found.upper / 24, 3)])
    shaded = [area.get_datalim(panel.transData) for area in panel.collections]
    ends = [
        scores[f"rmse_{end}"].sel(forecaster="network", variable="geopotential@500", region="all")
        for end in ("lower", "upper")
    ]
    extent = [float(ends[0].min()), float(ends[1].max())]
    assert any([area.y0, area.y1] == pytest.approx(extent) for area in shaded)
    texts = [t.get_text() for t in panel.texts]
    assert f"vs Physics T21: {found.describe()}" in texts
    figure.draw_without_rendering()
    intervals = [line.get_window_extent() for line in panel.lines if line.get_linewidth() == 3]
    assert len(intervals) == 1  # and no words over it
    assert not any(words.get_window_extent().overlaps(box) for words in panel.texts for box in intervals)
    assert "vs Physics T31: beyond the last lead" in texts
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "Network",
        "Physics T21",
        "Physics T31",
        "Climatology",
    ]
    assert panel.get_ylabel() == "RMSE (m²/s²)"


def test_the_hardest_opponent_is_drawn_and_answered(world):
    names = ["network", "physics_t21", "physics_t21_debiased", "physics_t31", "physics_t31_debiased", "climatology"]
    scores = with_more_forecasters(world.scores, names).copy(deep=True)
    scores["crossover_outcome"].loc[{"forecaster": "network"}] = "undecided"
    scores["crossover_outcome"].loc[{"forecaster": "network", "reference": "physics_t31_debiased"}] = "never better"
    figure = skill_figure(scores)
    assert "Physics T31 debiased" in [t.get_text() for t in figure.legends[0].get_texts()]
    answers = [t.get_text().partition(":")[0] for t in figure.axes[0].texts]
    assert answers == ["vs Physics T31 debiased", "vs Physics T31", "vs Physics T21"]


@pytest.mark.parametrize("picture", [skill_figure, activity_figure, gain_figure])
@pytest.mark.parametrize("word", ["WWWWW MMMMM", "W" * 150, "iiii"])
def test_a_title_of_wide_letters_stays_on_the_paper(world, picture, word):
    """Letters are not alike: what is guessed from their number is cut off where they are wide."""
    scores = world.scores.assign_attrs(headline=HEADLINE[0], verified_on_training=" ".join([word] * 10))
    figure = picture(scores.drop_vars([n for n in scores if n.startswith("gap_closed")]))
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1
    assert figure.get_suptitle().replace("\n", "").replace(" ", "").count(word.replace(" ", "")) >= 10  # all of it
    assert title.y1 <= figure.bbox.y1 and title.y0 >= figure.axes[0].get_window_extent().y1


def test_the_skill_figure_says_who_is_ahead_or_not(world):
    assert (
        "\nDiamonds, and words at the foot: until when Network is ahead of Ph"
        in skill_figure(world.scores).get_suptitle()
    )
    told = skill_figure(nobody_decided(world.scores)).get_suptitle()
    assert "\nWords at the foot: until when Network is ahead of Ph" in told  # and no diamond is drawn
    alone = world.scores.sel(forecaster=["network"], reference=["network"])
    assert "ahead" not in skill_figure(alone).get_suptitle()


def nobody_decided(scores):
    scores = scores.copy(deep=True)
    scores["crossover_outcome"][:] = "undecided"
    for name in ("crossover_hours", "crossover_lower", "crossover_upper"):
        scores[name][:] = np.nan
    return scores


def test_without_physics_those_who_err_least_are_answered(world):
    names = ["network", "persistence", "damped_anomaly_persistence", "linear_pcs", "climatology"]
    scores = nobody_decided(with_more_forecasters(world.scores, names))
    for name, error in zip(names, (1, 5, 3, 2, 4), strict=True):
        scores["rmse"].loc[{"forecaster": name}] = error
    answers = [t.get_text().partition(":")[0] for t in skill_figure(scores).axes[0].texts]
    assert answers == ["vs Linear regression on PCs", "vs Damped anomaly persistence", "vs Climatology"]


@pytest.mark.parametrize("picture", [skill_figure, activity_figure, gain_figure])
def test_a_long_legend_and_title_take_nothing_from_the_panels(world, picture):
    names = ["network", "persistence", "climatology", *(f"network_of_seed_{i}" for i in range(12))]
    scores = nobody_decided(with_more_forecasters(world.scores, names))
    scores = scores.drop_vars([n for n in scores if n.startswith("gap_closed")])
    scores.attrs["headline"] = HEADLINE[0]
    figure = picture(scores)
    figure.draw_without_rendering()
    assert min(axes.get_window_extent().height for axes in figure.axes) > 1.3 * figure.dpi


def test_of_errors_that_are_all_zero_there_is_a_panel(world):
    panel = skill_figure(world.scores.assign(rmse=0 * world.scores["rmse"])).axes[0]
    assert panel.get_ylim()[1] == 1 and 0 in panel.get_yticks()


def test_of_a_single_lead_there_are_points(world):
    scores = world.scores.isel(lead_time=[1])
    for figure in (skill_figure(scores), activity_figure(scores)):
        assert figure.legends
        for axes in figure.axes:
            assert not any("not scored" in text.get_text() for text in axes.texts)
            assert any(line.get_marker() == "o" and line.get_xdata().size == 1 for line in axes.lines)


def test_activity_and_cost_figures(world):
    scores = world.scores
    assert len(activity_figure(scores).axes) == 8  # two variables: error, correlation, activity, fine scales
    assert len(activity_figure(scores.drop_vars("fine_scale_ratio")).axes) == 6  # a regional grid has no spectra
    assert len(gain_figure(scores).axes) == 4  # hours ahead, and the share of the gap
    without = scores.assign(gap_closed=np.nan * scores["gap_closed"])  # no limit is known
    figure = gain_figure(without)
    figure.draw_without_rendering()
    one, other = (axes.get_position() for axes in figure.axes)
    assert one.y0 == pytest.approx(other.y0) and one.x1 < other.x0  # side by side
    gains = [line.get_ydata() for line in gain_figure(scores).axes[0].lines]
    shown = scores["time_gain_hours"].sel(
        forecaster="network", reference="physics_t21", variable="2m_temperature", region="all"
    )
    assert any(np.array_equal(line, shown) for line in gains)
    unknown = scores.copy()
    unknown["simulated_days_per_second"] = unknown["simulated_days_per_second"].where(
        unknown["forecaster"] != "physics_t21"
    )
    assert any("unknown" in t.get_text() for t in cost_figure(unknown).axes[0].texts)
    seconds = [1.0, 0.1, 0.5, np.nan]
    priced = scores.assign(seconds_per_simulated_day=("forecaster", seconds))
    told = [t.get_text() for t in cost_figure(priced).axes[1].texts]
    assert sorted(told) == [
        "Network",
        "Physics T21",
        "Physics T31",
    ]  # on the front or not; of one no cost is known
    speed = scores.assign(simulated_days_per_second=("forecaster", [10.0, np.nan, 0.5, 30.0]))
    offsets = cost_figure(speed).axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(offsets, [[10.0, 0], [0.5, 2], [30.0, 3]])  # a row each, whoever is known
    last = scores["rmse"].sel(variable=HEADLINE[0], region="all").isel(lead_time=-1).values  # day three is before five
    offsets = cost_figure(priced).axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(offsets, np.stack([seconds, last], axis=1)[:3])
    nobody = scores.assign(rmse=np.nan * scores["rmse"])
    assert not cost_figure(nobody).axes[1].texts


@pytest.mark.parametrize(
    "seconds", [[1.0, 0.1, 0.11, 0.01], [1e-3, 1.1e-3, 1e-4, 1.2e-3], [3e-5, 2.9e-5, 3.1e-5, 3.05e-5]]
)
@pytest.mark.parametrize("times", [1, 2])
def test_names_in_the_picture_of_costs_cover_nothing(world, seconds, times):
    names = ["network", "physics_t21", "damped_anomaly_persistence", "climatology", "a_model_of_others", "b", "c", "d"]
    scores = with_more_forecasters(world.scores, names[: 4 * times])
    seconds = np.concatenate([np.array(seconds) * 1.02**i for i in range(times)])
    rank = xr.DataArray(-np.log(seconds), dims="forecaster", coords={"forecaster": scores["forecaster"]})
    close = scores.assign(rmse=xr.zeros_like(scores["rmse"]) + 3 + 0.01 * rank)  # the slower, the better, by little
    figure = cost_figure(
        close.assign(seconds_per_simulated_day=rank * 0 + seconds, simulated_days_per_second=rank * 0 + 1 / seconds)
    )
    figure.draw_without_rendering()
    panel = figure.axes[1]
    boxes = [Text.get_window_extent(t) for t in panel.texts]
    assert [t.get_text() for t in panel.texts if t.xy[0] == seconds[2]] == ["Damped anomaly persistence"]
    assert len(boxes) == len(seconds)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = panel.transData.transform(panel.collections[0].get_offsets())
    assert not any(box.contains(*point) for box in boxes for point in points)
    inside = panel.get_window_extent()
    assert all(b.x0 >= inside.x0 and b.y0 >= inside.y0 and b.x1 <= inside.x1 for b in boxes)
    far = [t for t in panel.texts if np.hypot(*t.xyann) > 10]
    assert (far or times == 1) and all(t.arrow_patch is not None for t in far)  # a line says whose it is
    for axes in figure.axes:
        ticks = [t for t in axes.get_xticklabels(which="both") if t.get_text()]
        drawn = [
            t.get_window_extent() for t in ticks if axes.get_xlim()[0] <= t.get_position()[0] <= axes.get_xlim()[1]
        ]
        assert len(drawn) >= 2
        assert not any(a.overlaps(b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_picture_of_costs_names_the_hardware_that_is_known(world):
    own = ["a machine", "unknown", "a machine", "unknown"]
    scores = world.scores.assign_coords(hardware=("forecaster", own))
    assert cost_figure(scores).get_suptitle().startswith("Cost of a forecast on a machine\n")
    nothing = world.scores.assign_coords(hardware=("forecaster", ["unknown"] * 4))
    assert cost_figure(nothing).get_suptitle().startswith("Cost of a forecast\n")


def test_what_has_no_line_has_no_interval_either(world):
    """Beyond the leads there is nothing to stand in, and a shape without a line belongs to nobody."""
    scores = world.scores.sel(variable=[HEADLINE[0]]).copy(deep=True).assign_attrs(headline=HEADLINE[0])
    scores = scores.drop_vars([n for n in scores if n.startswith("gap_closed")])
    names, n = [f"time_gain_hours{end}" for end in ("", "_lower", "_upper")], scores.sizes["lead_time"]
    gain, lower, upper = (scores[name] for name in names)
    ahead = {"forecaster": "network", "region": "all", "variable": HEADLINE[0]}
    for array, value in zip((gain, lower, upper), (0.0, -3.0, 3.0), strict=True):
        array.loc[ahead] = value
    beyond = ahead | {"reference": "physics_t21"}
    gain.loc[beyond], lower.loc[beyond], upper.loc[beyond] = -np.inf, -np.inf, 2.0
    lone = ahead | {"reference": "climatology"}
    gain.loc[lone] = np.where(np.arange(n) % 2, np.inf, 1.0)  # points beside which there is no other
    partly = ahead | {"reference": "physics_t31"}
    gain.loc[partly] = np.where(np.arange(n) < 4, 1.0, np.inf)
    upper.loc[partly] = np.where(np.arange(n) < 2, 3.0, np.inf)
    figure = gain_figure(scores)
    axes = figure.axes[0]
    shown = [t.get_text() for t in figure.legends[0].get_texts()]
    assert shown == ["Network", "Physics T31"]
    colours = line_styles(scores["forecaster"].values.tolist())
    bands = [band for band in axes.collections if band.get_paths()]
    drawn = {matplotlib.colors.to_hex(band.get_facecolor()[0]).upper() for band in bands}
    assert drawn == {colours["network"][0].upper(), colours["physics_t31"][0].upper()}
    days = scores["lead_time"].values / np.timedelta64(1, "D")
    own = [b for b in bands if matplotlib.colors.to_hex(b.get_facecolor()[0]).upper() == colours["physics_t31"][0]]
    reach = {band.get_facecolor()[0][3]: band.get_datalim(axes.transData).x1 for band in own}
    assert reach[max(reach)] == pytest.approx(days[1])  # where both ends are known
    assert reach[min(reach)] == pytest.approx(days[3])  # where there is a line


def test_a_narrow_picture_keeps_its_title_inside(world):
    without = world.scores.drop_vars(["gap_closed", "gap_closed_lower", "gap_closed_upper"])
    figure = gain_figure(without.assign(time_gain_hours=np.nan * without["time_gain_hours"]))
    figure.draw_without_rendering()
    assert figure.get_suptitle().count("\n") >= 1
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1
    assert [t.get_text() for t in figure.axes[0].texts] == ["beyond the leads that were scored"]  # no empty panel


def test_nobody_on_the_front_is_beaten_in_both_and_everybody_else_is():
    rng = np.random.default_rng(0)
    seconds, errors = rng.integers(1, 9, size=(2, 40)).astype(float)
    seconds[3], errors[7] = np.nan, np.nan
    front = cost_front(seconds, errors)
    for i in range(40):
        as_good = (seconds <= seconds[i]) & (errors <= errors[i])
        beaten = (as_good & ((seconds < seconds[i]) | (errors < errors[i]))).any()
        if i in (3, 7) or beaten:
            assert i not in front
        else:  # of equals one is enough
            assert any(seconds[j] == seconds[i] and errors[j] == errors[i] for j in front)
    assert cost_front(np.array([np.nan]), np.array([1.0])) == []


def test_table_says_what_the_scores_say(world):
    scores = world.scores
    text = format_table(scores)
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 160
    day = scores["rmse"].sel(
        forecaster="network", variable="geopotential@500", region="all", lead_time=np.timedelta64(24, "h")
    )
    assert f"{float(day):#.3g}".rstrip(".") in text
    assert read_crossover(scores, "network", "physics_t21", "geopotential@500").describe() in text
    assert "beyond the last lead" in text
    assert "6 h" in text and "1 d" in text and "3 d" in text and " 5 d " not in text
    assert "seasonal_trend" in text and "2 test trajectories" in text
    until = scores.isel(lead_time=slice(-1))  # to a lead that is no usual one
    assert f" {until['lead_time'].values[-1] / np.timedelta64(1, 'D'):g} d" in format_table(until)
    assert "T500" not in text  # not among the headline variables


MANY = [
    "network",
    *(f"physics_t21{form}" for form in ("", "_debiased", "_damped", "_ensemble")),
    "physics_t31",
    "twin_t42",
    "twin_t42_ensemble",
    *("persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology"),
    *("network_debiased", "network_damped"),
    "IFS_HRES",
    "graphcast",
]


def test_without_physics_the_hardest_references_have_a_line():
    simple = [
        "network",
        "persistence",
        "anomaly_persistence",
        "damped_anomaly_persistence",
        "linear_pcs",
        "climatology",
    ]
    assert default_lines(simple, "network") == [n for n in simple if n != "anomaly_persistence"]


def test_a_dozen_forecasters_are_told_apart():
    styles = line_styles(MANY)
    assert len(set(map(str, styles.values()))) == len(MANY)
    assert len({styles[n][0] for n in MANY[1:5]}) == 1  # one model, one colour
    assert styles["physics_t31"][0] != styles["physics_t21"][0]
    assert line_styles(["network", "persistence"])["persistence"] == styles["persistence"]
    assert [forecaster_label(n) for n in MANY[2:8]] == [
        "Physics T21 debiased",
        "Physics T21 damped",
        "Physics T21 ensemble mean",
        "Physics T31",
        "Twin T42",
        "Twin T42 ensemble mean",
    ]
    assert len({styles[n][0] for n in ("network", "network_debiased", "network_damped")}) == 1
    solid = {styles[n][0] for n in MANY if styles[n][1] == "-"}
    assert not {"#D55E00", "#E69F00"} <= solid  # vermilion and orange, as lines alike, are as good as one
    crowd = [*(f"physics_t{n}" for n in (21, 31, 42)), "a", "b", "c", "d"]
    assert len(set(map(str, line_styles(crowd).values()))) == len(crowd)
    assert forecaster_label("network_damped") == "Network damped"
    assert forecaster_label("IFS_HRES") == "IFS HRES"
    assert forecaster_label("damped_anomaly_persistence") == "Damped anomaly persistence"
    assert forecaster_label("linear_pcs") == "Linear regression on PCs"


def test_a_physics_model_of_others_goes_by_its_name_too():
    names = ["physics_ifs", "physics_ifs_damped", "physics_IFS_HRES", "physics_debiased", "physics", "twin_t42"]
    assert list(map(is_physics, [*names, "physicist"])) == [True] * 5 + [False] * 2
    assert list(map(physics_form, names)) == ["", "damped", "", "debiased", "", ""]
    assert list(map(forecaster_label, names[:4])) == [
        *("Physics ifs", "Physics ifs damped", "Physics IFS HRES", "Physics debiased"),
    ]
    assert list(map(model_of, names[:3])) == ["physics_ifs", "physics_ifs", "physics_IFS_HRES"]


def test_more_models_than_a_family_has_colours_look_different():
    names = ["network", *(f"physics_{n}" for n in "abcde"), "physics_d_damped", "twin_t42", "twin_t63"]
    assert len(set(map(str, line_styles(names).values()))) == len(names)


def test_pictures_of_many_forecasters_show_the_usual_ones(world):
    usual = default_lines(MANY, "network")
    assert usual == [
        "network",
        "physics_t21",
        "physics_t21_damped",
        "physics_t31",
        "twin_t42_ensemble",
        "persistence",
        "climatology",
        "network_damped",
        "IFS_HRES",
        "graphcast",
    ]
    assert default_lines(MANY, "network", "physics_t21_debiased")[:4] == [
        "network",
        "physics_t21",
        "physics_t21_debiased",
        "physics_t21_damped",
    ]
    assert "twin_t42" in default_lines([n for n in MANY if n != "twin_t42_ensemble"], "network")
    figure = skill_figure(with_more_forecasters(world.scores, MANY))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [forecaster_label(n) for n in usual]
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1  # inside the paper


def test_labels_and_units():
    assert [variable_label(v) for v in ("geopotential@500", "temperature@0.95", "temperature@1")] == [
        "Z500",
        "T at sigma 0.95",
        "T1",  # hPa: no layer's centre is at sigma 1
    ]
    assert (shown_unit("mean_sea_level_pressure", "Pa").factor, shown_unit("x", "Pa").label) == (0.01, "hPa")
    assert shown_unit("specific_humidity@700", "kg kg-1").factor == 1000
    assert shown_unit("vorticity@850", "s-1").factor == 1e5
    assert [region_label(r) for r in ("all", "europe", "land", "my_box")] == ["whole grid", "Europe", "land", "my box"]
    assert [lead_text(h) for h in (6, 42, 48, 62.4, 240)] == ["6 hours", "42 hours", "2 days", "2.6 days", "10 days"]


def test_a_thousand_is_no_power_of_ten(world):
    assert [number_text(x) for x in (0.0123, 7.0, 999.4, 999.6, 12345.6)] == ["0.0123", "7", "999", "1,000", "12,346"]
    nearly = world.scores.assign(
        rmse=0 * world.scores["rmse"] + 999.6, simulated_days_per_second=("forecaster", [999.6] * 4)
    )
    assert "e+03" not in format_table(nearly)


def test_a_long_run_is_drawn_as_it_was_measured():
    days, latitude = np.arange(1, 61), np.linspace(-80, 80, 9)
    by_time, by_window = ("init_time", "lead_time", "variable"), ("window", "variable")
    rng = np.random.default_rng(0)
    run = xr.Dataset(
        {key: (by_time, rng.normal(size=(2, 60, 2))) for key in ("global_mean", "truth_mean")}
        | {"truth_lowest": (by_time, np.full((2, 60, 2), -3.0)), "truth_highest": (by_time, np.full((2, 60, 2), 3.0))}
        | {"zonal_bias": ((*by_window, "latitude"), rng.normal(size=(2, 2, 9)))}
        | {"fine_scale_ratio": (by_window, np.array([[0.9, 1.0], [0.8, np.nan]]))},
        coords={
            "init_time": np.array(["2000-01-01", "2000-07-01"], "datetime64[ns]"),
            "lead_time": days * np.timedelta64(1, "D").astype("timedelta64[ns]"),
            "variable": ["geopotential@500", "mean_sea_level_pressure"],
            "units": ("variable", ["m2 s-2", "Pa"]),
            "window": [0, 30],
            "latitude": latitude,
        },
        attrs={"forecaster": "network", "window_days": 30},
    )
    panels = long_run_figure(run).axes[:6]
    means = [line.get_ydata() for line in panels[3].lines]
    assert any(np.allclose(m, 0.01 * run["global_mean"].values[1, :, 1]) for m in means)  # hPa
    np.testing.assert_allclose(panels[1].collections[0].get_array(), run["zonal_bias"].values[:, 0].T)
    heights = panels[1].collections[0].get_coordinates()[..., 1]
    assert [heights[0, 0], heights[1, 0], heights[-1, 0]] == [-80, -70, 80]
    truth = [line.get_ydata() for line in panels[0].lines[::2]]  # and the run itself above
    np.testing.assert_allclose(truth, run["truth_mean"].values[..., 0])
    area = panels[0].collections[0].get_datalim(panels[0].transData)
    assert [area.y0, area.y1] == [-3, 3]
    assert panels[2].lines[0].get_xdata().tolist() == [15, 45] and panels[2].lines[0].get_ydata().tolist() == [0.9, 0.8]
    figure = long_run_figure(run)
    assert figure.get_suptitle().startswith("Network left to itself; bias")
    told = [t.get_text() for t in figure.legends[0].get_texts()]
    assert told == ["from 2000-01-01", "from 2000-07-01", "the truth's mean at that time of the year", "and its range"]
    held = long_run_figure(run.assign_attrs(sponge="2 levels, 20 days")).get_suptitle()
    assert held.startswith("Network left to itself but for a sponge (2 levels, 20 days); bias")
    without = run.assign(fine_scale_ratio=np.nan * run["fine_scale_ratio"])
    assert not any("Fine" in a.get_title("left") for a in long_run_figure(without).axes)


def test_maps(world, tmp_path):
    shown = {name: world.paths[name] for name in ("network", "physics_t21")}
    out = plot_maps(shown, world.store, world.config, "geopotential@500", tmp_path / "maps.png", world.scores)
    assert matplotlib.image.imread(out)[..., :3].std() > 0.05
    with pytest.raises(DataError, match="does not hold vorticity"):
        plot_maps(shown, world.store, world.config, "vorticity", tmp_path / "no.png", world.scores)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps.pdf", "maps.png"]


def test_maps_show_what_is_verified_and_its_error(world, tmp_path, monkeypatch):
    store = world.store
    keep = np.ones(store.grid.shape)
    keep[:, 3] = 0
    mask = xr.Dataset({"mask": (("latitude", "longitude"), keep)}, grid_coords(store.grid))
    mask.to_netcdf(tmp_path / "mask.nc")
    config = world.config.model_copy(update={"mask": str(tmp_path / "mask.nc")})
    with xr.open_dataset(world.paths["network"]) as file:
        file.load()
    file["geopotential"][..., 3] = np.nan  # a hole
    file.to_netcdf(tmp_path / "holed.nc")
    figures = []
    monkeypatch.setattr("emulator.evaluation.maps.save", lambda figure, _: figures.append(figure))
    whole = world.paths["network"]
    for path, how in ((whole, config), (tmp_path / "holed.nc", config), (whole, world.config)):
        plot_maps({"network": path}, store, how, "geopotential@500", tmp_path / "m.png", world.scores)
    said = [[text.get_text() for axes in figure.axes for text in axes.texts] for figure in figures]
    assert said[0] == said[1] != said[2]
    shown = [figures[i].axes[0].collections[0].get_array() for i in (0, 2)]
    assert np.isnan(np.ma.filled(shown[0], np.nan)[:, 3]).all() and np.isfinite(shown[1]).all()


def test_maps_are_of_the_median_case_and_say_so(world, tmp_path, monkeypatch):
    scores = world.scores.copy(deep=True)
    count = scores.sizes["init_time"]
    assert count > 2
    sizes = np.roll(np.arange(1.0, count + 1), 1)  # the first is the worst
    own = xr.DataArray(sizes, dims="init_time") * xr.ones_like(scores["squared_error"].sel(forecaster="network"))
    scores["squared_error"].loc[{"forecaster": "network"}] = own.transpose(
        *scores["squared_error"].sel(forecaster="network").dims
    )
    case = int(np.argsort(sizes)[count // 2])
    figures = []
    monkeypatch.setattr("emulator.evaluation.maps.save", lambda figure, _: figures.append(figure))
    shown, name = {"network": world.paths["network"]}, "geopotential@500"
    plot_maps(shown, world.store, world.config, name, tmp_path / "m.png", scores)
    told = figures[0].get_suptitle().replace("\n", " ")
    start = np.datetime_as_string(scores["init_time"].values[case], "h").replace("T", " ")
    lead = lead_text(float(scores["lead_time"].values[scores.sizes["lead_time"] // 2] / np.timedelta64(1, "h")))
    of = f"of {count} starts the one of Network's median error at {lead} over the headline variables"
    assert told == f"Z500 from {start} UTC, {of}"
    assert "SPEEDY" in figures[0].get_supxlabel()
    row = np.flatnonzero(world.store.times == scores["init_time"].values[case])[0] + 4  # a day later
    truth = world.store.dataset([row])["geopotential"].values.squeeze()
    np.testing.assert_allclose(figures[0].axes[0].collections[0].get_array(), truth)
    with pytest.raises(DataError, match="is not from the initial times that were scored"):
        plot_maps(shown, world.store, world.config, name, tmp_path / "m.png", scores.isel(init_time=slice(1, None)))


def test_maps_of_derived_variables(tmp_path):
    store = make_store(Grid.gaussian(8), days=12, splits=("train", "test"), world=ON_SIGMA)
    rows, leads = evaluation_rows(store, 2), lead_times(2)
    path = tmp_path / "persistence.nc"
    write_forecasts(make_reference("persistence", store, leads), store.dataset(rows), leads, path)
    config, paths, out = EvaluateConfig(bootstrap=50), {"persistence": path}, tmp_path / "maps.png"
    with evaluate(paths, store, config, tmp_path / "scores.nc") as scores:
        assert plot_maps(paths, store, config, "mean_sea_level_pressure", out, scores).exists()


def test_the_error_on_a_map_is_that_of_the_scores(world, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("emulator.evaluation.maps.save", lambda figure, _: figures.append(figure))
    shown, name, scores = {"network": world.paths["network"]}, "geopotential@500", world.scores
    plot_maps(shown, world.store, world.config, name, tmp_path / "m.png", scores)
    said = [text.get_text() for axes in figures[0].axes for text in axes.texts]
    squared = scores["squared_error"].sel(forecaster="network", variable=name, region="all")
    day = squared.isel(init_time=median_case(scores)).sel(lead_time=np.timedelta64(24, "h"))
    assert said[0] == f"RMSE {number_text(float(day) ** 0.5)}"


def test_every_headline_variable_has_a_say_in_the_median_case():
    errors = np.array([[1e4, 2e4, 3e4], [9.0, 1.0, 1.1]])
    dims = ("forecaster", "variable", "lead_time", "init_time", "region")
    scores = xr.Dataset(
        {"squared_error": (dims, errors[None, :, None, :, None])},
        {"forecaster": ["network"], "variable": ["z", "t"], "region": ["all"]},
        {"headline": "z t"},
    )
    assert median_case(scores) == 2


def test_pictures_and_the_table_are_in_hectopascals_throughout(world, tmp_path, monkeypatch):
    """As if all variables were pressures; those of the small experiment are shown in the units of its files."""
    other, name = in_pascal(world), "geopotential@500"
    rmse = world.scores["rmse"].sel(variable=name, region="all", forecaster="network")
    curves = [line.get_ydata() for line in skill_figure(other.scores).axes[1].lines]
    assert any(np.allclose(curve, 0.01 * rmse) for curve in curves if len(curve) == rmse.size)
    assert f"{0.01 * float(rmse.sel(lead_time=np.timedelta64(24, 'h'))):#.3g}".rstrip(".") in format_table(other.scores)
    points = [cost_figure(made.scores).axes[1].collections[0].get_offsets()[:, 1] for made in (world, other)]
    np.testing.assert_allclose(points[1], 0.01 * points[0])
    figures = []
    monkeypatch.setattr("emulator.evaluation.maps.save", lambda figure, _: figures.append(figure))
    for made in (world, other):
        plot_maps({"network": made.paths["network"]}, made.store, made.config, name, tmp_path / "m.png", made.scores)
    panels = [[axes.collections[0].get_array() for axes in figure.axes[:6]] for figure in figures]
    np.testing.assert_allclose(panels[1], 0.01 * np.array(panels[0]), rtol=1e-5, atol=1e-3)


def test_scores_in_short_are_those_of_the_whole_grid_and_of_the_candidate_against_the_others(tmp_path):
    scores = make_experiment(tmp_path, Grid.gaussian(8), HEADLINE, {}).scores
    found = summarise(scores)
    assert (found["forecaster"], found["initial_times"]) == ("network", scores.sizes["init_time"])
    assert list(found["variables"]) == list(HEADLINE)
    for variable, one in found["variables"].items():
        assert set(one["beats_until"]) == set(scores["forecaster"].values.tolist()) - {"network"}
        here = scores.sel(variable=variable, region="all")
        for name, rmse in one["rmse"].items():
            np.testing.assert_array_equal(rmse, here["rmse"].sel(forecaster=name))
        for name, until in one["beats_until"].items():
            pair = here.sel(forecaster="network", reference=name)
            assert until["outcome"] == pair["crossover_outcome"].item()
            np.testing.assert_array_equal(until["hours"], pair["crossover_hours"])
    outcomes = {n: u["outcome"] for n, u in found["variables"]["geopotential@500"]["beats_until"].items()}
    assert outcomes["physics_t31"] == "beyond the last lead"
