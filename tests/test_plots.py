"""Table, curves and maps: made from the scores file alone, saying what the scores say."""

import matplotlib.image
import numpy as np
import pytest
from small_experiment import make_experiment
from synthetic import ON_SIGMA, evaluation_rows, lead_times, make_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.config import EvaluateConfig
from emulator.evaluation.crossover import Crossover
from emulator.evaluation.maps import plot_maps
from emulator.evaluation.plots import activity_figure, cost_figure, plot_scores, skill_figure
from emulator.evaluation.style import forecaster_label, line_styles, shown_unit, variable_label
from emulator.evaluation.table import format_table, read_crossover
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference

HEADLINE = ("2m_temperature", "geopotential@500")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("plots"), Grid.gaussian(8), HEADLINE, {})


def test_plots_come_from_the_scores_alone(world, tmp_path):
    scores = world.scores
    files = plot_scores(scores, tmp_path / "plots")
    assert [f.name for f in files] == ["skill.png", "activity.png", "cost.png"]
    for file in files:
        image = matplotlib.image.imread(file)
        assert min(image.shape[:2]) > 250 and image[..., :3].std() > 0.02  # neither tiny nor blank
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["activity.png", "cost.png", "skill.png"]


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
    texts = [t.get_text() for t in panel.texts]
    assert f"vs Physics T21: {found.describe()}" in texts
    assert "vs Physics T31: beyond the last lead" in texts
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "Network",
        "Physics T21",
        "Physics T31",
        "Climatology",
    ]
    assert panel.get_ylabel() == "RMSE (m²/s²)"


def test_activity_and_cost_figures(world):
    scores = world.scores
    assert len(activity_figure(scores).axes) == 6  # two variables: correlation, activity, fine scales
    assert len(activity_figure(scores.drop_vars("fine_scale_ratio")).axes) == 4  # a regional grid has no spectra
    unknown = scores.copy()
    unknown["simulated_days_per_second"] = unknown["simulated_days_per_second"].where(
        unknown["forecaster"] != "physics_t21"
    )
    assert any("unknown" in t.get_text() for t in cost_figure(unknown).axes[0].texts)


def test_table_says_what_the_scores_say(world):
    scores = world.scores
    text = format_table(scores)
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 160
    day = scores["rmse"].sel(
        forecaster="network", variable="geopotential@500", region="all", lead_time=np.timedelta64(24, "h")
    )
    assert f"{float(day):.3g}" in text
    assert read_crossover(scores, "network", "physics_t21", "geopotential@500").describe() in text
    assert "beyond the last lead" in text
    assert "6 h" in text and "1 d" in text and "3 d" in text and "5 d" not in text
    assert "seasonal_trend" in text and "2 test trajectories" in text
    assert "T500" not in text  # not among the headline variables


def test_crossovers_in_words():
    assert Crossover("never better").describe() == "never better"
    assert Crossover("beyond the last lead", np.inf, 204.0, np.inf).describe() == "beyond the last lead [8.5, ...]"
    assert Crossover("crossover", 124.8, 98.4, 144.0).describe() == "5.2 d [4.1, 6.0]"


def test_labels_units_and_colours():
    assert [variable_label(v) for v in ("geopotential@500", "temperature@0.95", "u_component_of_wind@850")] == [
        "Z500",
        "T at sigma 0.95",
        "U850",
    ]
    assert forecaster_label("physics_t21") == "Physics T21"
    assert forecaster_label("damped_anomaly_persistence") == "Damped anomaly persistence"
    assert (shown_unit("mean_sea_level_pressure", "Pa").factor, shown_unit("x", "Pa").label) == (0.01, "hPa")
    assert shown_unit("specific_humidity@700", "kg kg-1").factor == 1000
    styles = line_styles(["network", "physics_t21", "physics_t31", "persistence", "climatology", "ifs"])
    assert len({c for c, _ in styles.values()}) == 6
    assert line_styles(["network", "persistence"])["persistence"] == styles["persistence"]


def test_maps(world, tmp_path):
    shown = {name: world.paths[name] for name in ("network", "physics_t21")}
    out = plot_maps(shown, world.store, world.config, "geopotential@500", tmp_path / "maps.png")
    assert matplotlib.image.imread(out)[..., :3].std() > 0.05
    with pytest.raises(DataError, match="does not hold vorticity"):
        plot_maps(shown, world.store, world.config, "vorticity", tmp_path / "no.png")
    with pytest.raises(DataError, match="none of the leads 1200 h"):
        plot_maps(shown, world.store, world.config, "2m_temperature", tmp_path / "no.png", lead_hours=(1200,))
    assert [p.name for p in tmp_path.iterdir()] == ["maps.png"]


def test_maps_of_derived_variables(tmp_path):
    store = make_store(Grid.gaussian(8), days=12, splits=("train", "test"), world=ON_SIGMA)
    rows, leads = evaluation_rows(store, 2), lead_times(2)
    path = tmp_path / "persistence.nc"
    write_forecasts(make_reference("persistence", store, leads), store.dataset(rows), leads, path)
    out = tmp_path / "maps.png"
    assert plot_maps({"persistence": path}, store, EvaluateConfig(), "mean_sea_level_pressure", out).exists()
