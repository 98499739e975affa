"""The report: one page that needs nothing else, tells what the scores tell, and works in a real browser."""

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from browser import browser, missing_programs
from small_experiment import in_pascal, make_experiment, with_made_up_scores, with_more_forecasters
from synthetic import STEP

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.cli import main
from emulator.evaluation.headline import make_headline
from emulator.evaluation.report import Provenance, write_report
from emulator.evaluation.report_fields import _coast, collect_fields
from emulator.evaluation.report_long_run import describe_long_run, pack_long_run
from emulator.evaluation.report_numbers import Shown, numbers
from emulator.evaluation.report_sources import find_fields, find_long_run, find_provenance
from emulator.evaluation.scores_reader import headline_variables, label_of, opponents, read_crossover, world_sentence
from emulator.evaluation.style import forecaster_label, variable_label
from emulator.evaluation.table import format_table

HEADLINE = ("geopotential@500", "2m_temperature")
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" $title"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small experiment in a nature run."""
    folder = tmp_path_factory.mktemp("report")
    found = make_experiment(folder, Grid.gaussian(16), HEADLINE, {"data_hash": HOSTILE})
    (folder / "config.yaml").write_text(f"name: tiny\nsimulate: {{members: 4}}\n# {HOSTILE}\n", encoding="utf-8")
    return replace(found, scores=with_made_up_scores(found.scores))


@pytest.fixture(scope="module")
def experiment(made):
    """Its folder, store and scores, and the fields of its report."""
    return made.folder, made.store, made.scores, collect_fields(made.scores, made.paths, made.store)


@pytest.fixture(scope="module")
def page(experiment):
    folder, _, scores, fields = experiment
    return write_report(scores, folder / "report.html", fields=fields, provenance=find_provenance(scores, folder))


class Reader(HTMLParser):
    """What a page consists of: tags with attributes, and the text of each element by its id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag):
        self._open = self._open[:-1]

    def handle_data(self, data):
        if self._open:
            self.text[self._open[-1]] = self.text.get(self._open[-1], "") + data


def data_of(page):
    """What the scripts of a page read."""
    return json.loads(gzip.decompress(base64.b64decode(Reader(page.read_text(encoding="utf-8")).text["data"])))


def unpack(packed):
    kind = np.dtype({"f4": "<f4", "f2": "<f2", "u1": "u1"}[packed["type"]])
    first_bytes_first = np.frombuffer(base64.b64decode(packed["data"]), np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(first_bytes_first.T).view(kind).reshape(packed["shape"])


def by_variable_and_region(data, array):
    """``(..., variable, region, lead)`` of an array by places; NaN where the page does not hold it."""
    places = np.array(data["places"])
    taken = array[..., np.maximum(places, 0), :].astype(float)
    return np.where((places >= 0)[..., None], taken, np.nan)


def test_the_page_stands_alone(page):
    text = page.read_text(encoding="utf-8")
    assert len(text) < 6_000_000
    reader = Reader(text)
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img"), tag
        loaded = {k for k in attributes if k in ("src", "href", "srcset", "poster", "action", "data")}
        assert not loaded, f"{tag} loads {loaded}"
        assert not [k for k in attributes if k.startswith("on")], f"{tag} runs {attributes}"
    own = reader.text["script"] + reader.text["style"]
    assert not re.search(r"https?:|url\((?!#)|@import|fetch\(|XMLHttpRequest|import\(|innerHTML|outerHTML|eval\(", own)
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert [t for t, _ in reader.tags].count("h1") == 1


def test_the_page_says_first_what_the_scores_say(experiment, page):
    scores = experiment[2]
    found = read_crossover(scores, "network", "physics_t21", "geopotential@500")
    assert found.outcome == "crossover"
    reader = Reader(page.read_text(encoding="utf-8"))
    assert found.hours < 48  # told in hours
    until = f"{found.hours:.0f} hours [{found.lower:.0f}, {found.upper:.0f}]"
    assert reader.text["h1"] == f"The network beats Physics T21 in Z500 up to {until}."
    body = page.read_text(encoding="utf-8")
    assert body.index("<h1>") < body.index("This holds in the SPEEDY world") < body.index("<main>")
    assert "hardest of the 2 physics baselines" in body


def test_the_numbers_of_the_page_are_those_of_the_scores(experiment, page):
    scores, fields = experiment[2], experiment[3]
    data = data_of(page)
    names = [v["name"] for v in data["variables"]]
    assert names[:2] == list(HEADLINE) and sorted(names) == sorted(scores["variable"].values)
    axes = ("variable", "region", "lead_time")
    expected = scores.sel(variable=names)
    held = {key: by_variable_and_region(data, unpack(array)) for key, array in data["scores"].items()}
    percent = dict.fromkeys(("gap_closed", "gap_closed_lower", "gap_closed_upper"), 100.0)
    for key in ("rmse", "rmse_lower", "acc", "acc_upper", "bias", "activity", "fine_scale_ratio", *percent):
        values = expected[key].sel(reference="physics_t21") if key in percent else expected[key]
        values = values.transpose("forecaster", *axes) * percent.get(key, 1.0)
        np.testing.assert_allclose(held[key], values, rtol=1e-3, atol=1e-5, err_msg=key)
    gain = expected["time_gain_hours_lower"].sel(forecaster="network").transpose("reference", *axes)
    np.testing.assert_allclose(held["time_gain_hours_lower"], gain, rtol=1e-3)
    for key, at in (("extreme_low", 0.001), ("extreme_high", 0.999)):
        of_forecast, of_truth = (expected[f"{who}_quantile"].sel(quantile=at) for who in ("forecast", "truth"))
        ratio = (of_forecast / of_truth).transpose("forecaster", "variable", "lead_time")
        np.testing.assert_allclose(held[key][:, :, 0], ratio, rtol=1e-3)
        assert np.isnan(held[key][:, :, 1:]).all()  # the tails are of the whole grid
    pair = data["pairs"]["index"].index([0, 1])
    two = expected.sel(forecaster="network", reference="physics_t21").transpose(*axes, ...)
    for key, name in (
        ("ratio_lower", "rmse_ratio_lower"),
        ("ratio_upper", "rmse_ratio_upper"),
        ("significant", "rmse_difference_significant"),
        ("p_geer", "rmse_difference_p_geer"),
    ):
        array = by_variable_and_region(data, unpack(data["pairs"][key]))[pair]
        np.testing.assert_allclose(array, two[name], rtol=1e-3, atol=1e-6, err_msg=key)
    example = data["fields"]["example"]["variables"][0]
    z500 = fields.example["variables"]["geopotential@500"]
    np.testing.assert_array_equal(unpack(example["truth"]), z500["truth"])
    assert unpack(example["error"]).shape[:2] == (4, len(data["fields"]["example"]["hours"]))


def test_crossovers_and_costs_of_the_page_are_those_of_the_scores(experiment, page):
    scores, data = experiment[2], data_of(page)
    names, variables = scores["forecaster"].values.tolist(), [v["name"] for v in data["variables"]]
    held = {key: unpack(array) for key, array in data["crossovers"].items() if key != "outcomes"}
    words = [*data["crossovers"]["outcomes"], ""]
    for i, forecaster in enumerate(names):
        for j, reference in enumerate(names):
            for variable, region in (("geopotential@500", "all"), ("2m_temperature", "tropics")):
                place = data["places"][variables.index(variable)][scores["region"].values.tolist().index(region)]
                one = scores.sel(forecaster=forecaster, reference=reference, variable=variable, region=region)
                assert words[held["outcome"][i, j, place]] == one["crossover_outcome"].item()
                found = [held[key][i, j, place] for key in ("hours", "lower", "upper", "start")]
                wanted = [one[f"crossover_{key}"].item() for key in ("hours", "lower", "upper", "start")]
                np.testing.assert_allclose(found, wanted, rtol=1e-3)
    seconds = [np.nan if s is None else s for s in data["seconds_per_day"]]
    np.testing.assert_allclose(seconds, scores["seconds_per_simulated_day"])
    assert data["start"] == {"forecaster": names.index("network"), "reference": names.index("physics_t21")}
    assert data["hidden"] == []  # four are few enough to see


def test_maps_name_their_variables_and_forecasters_by_the_place_that_they_have_on_the_page(experiment):
    _, store, scores, fields = experiment
    order = [2, 0, 3, 1]
    shuffled = scores.isel(forecaster=order, reference=order)
    data = numbers(shuffled, Shown(HEADLINE[::-1], HEADLINE), "physics_t21", fields, None)
    names = shuffled["forecaster"].values.tolist()
    assert data["fields"]["variables"] == [1, 0] and len(fields.forecasters) == 4
    assert [names[i] for i in data["fields"]["forecasters"]] == list(fields.forecasters)
    np.testing.assert_allclose(data["fields"]["latitude"], np.round(store.grid.latitude, 2)[::-1])  # from the north


def test_numbers_are_in_the_units_of_the_labels(experiment, tmp_path):
    plain = experiment[2]
    in_pascal = plain.assign_coords(units=("variable", ["Pa"] * plain.sizes["variable"]))
    one, other = (data_of(write_report(s, tmp_path / "x.html")) for s in (plain, in_pascal))
    assert other["variables"][0]["unit"] == "hPa"
    for key, array in one["scores"].items():
        factor = 0.01 if key.split("_")[0] in ("rmse", "bias") else 1.0
        np.testing.assert_allclose(unpack(other["scores"][key]), factor * unpack(array), rtol=2e-3, atol=1e-5)


def test_a_page_that_would_be_too_large_names_what_it_leaves_out(experiment, tmp_path, monkeypatch):
    scores = experiment[2]
    sizes = []
    for most, left_out in (
        (10**9, None),
        (60_000, "the regions of T500, T850"),
        (1000, "T500, T850"),
    ):
        monkeypatch.setattr("emulator.evaluation.report_numbers._MOST_BYTES", most)
        out = write_report(scores, tmp_path / "x.html")
        text, data = out.read_text(encoding="utf-8"), data_of(out)
        sizes.append(len(text))
        if left_out is None:
            assert "Left out to keep" not in text
        else:
            assert f"Left out to keep the page small: {left_out}. The scores file holds them." in text
    assert sizes == sorted(sizes, reverse=True)
    assert [v["name"] for v in data["variables"]] == list(HEADLINE)


def test_a_scores_file_without_what_is_optional_still_makes_a_page(experiment, tmp_path):
    wanted = {"rmse", "acc", "bias", "activity", "rmse_lower", "rmse_upper", "rmse_ratio_lower", "rmse_ratio_upper"}
    scores = experiment[2]
    spare = [n for n in map(str, scores.data_vars) if n not in wanted and not n.startswith(("crossover", "sim", "sec"))]
    data = data_of(write_report(scores.drop_vars(spare), tmp_path / "x.html"))
    assert [m["name"] for m in data["metrics"]] == ["rmse", "acc", "bias", "activity"]
    assert sorted(data["pairs"]) == ["index", "ratio_lower", "ratio_upper"]


def test_maps_show_the_forecast_that_was_scored(experiment):
    _, store, scores, fields = experiment
    init = np.datetime64(fields.example["init"].removesuffix(" UTC").replace(" ", "T"))
    assert init in scores["init_time"].values
    row = int(np.flatnonzero(store.times == init)[0])
    name = HEADLINE[0]
    channel = [c.variable for c in store.spec.state_channels].index("geopotential")
    shown = fields.example["variables"][name]
    for i, hours in enumerate(fields.example["hours"]):
        truth = store.state[row + int(hours / 6)][::-1, :, channel]
        step = (shown["most"] - shown["least"]) / 254
        restored = shown["truth"][i] * step + shown["least"]
        assert np.abs(restored - truth).max() <= 0.51 * step  # extremes too, which lie beyond the colours
        assert shown["least"] < shown["low"] < shown["high"] < shown["most"]
        squared = scores["squared_error"].sel(
            forecaster="network", variable=name, region="all", init_time=init, lead_time=np.timedelta64(int(hours), "h")
        )
        assert shown["rmse"][0, i] == pytest.approx(float(squared) ** 0.5, rel=1e-5)


def test_maps_are_not_of_other_forecasts_than_were_scored(experiment, tmp_path):
    """Made again from fewer initial times they would be shown under the errors and the date of others."""
    folder, store, scores, fields = experiment
    paths = {}
    for name in fields.forecasters:
        paths[name] = tmp_path / f"{name}.nc"
        with xr.open_dataset(folder / "forecasts" / f"{name}.nc") as whole:
            whole.isel(init_time=slice(0, 2)).to_netcdf(paths[name])
    with pytest.raises(DataError, match=r"network.nc: its init_time \(2 from .* is not that of the scores \("):
        collect_fields(scores, paths, store)
    made = xr.DataArray(["another time"] * scores.sizes["forecaster"], dims="forecaster")
    whole = {name: folder / "forecasts" / f"{name}.nc" for name in fields.forecasters}
    with pytest.raises(DataError, match=r"network.nc: is another file than was scored; evaluate again"):
        collect_fields(scores.assign(forecast_history=made), whole, store)


def test_maps_leave_out_what_the_mask_did(experiment):
    folder, store, scores, fields = experiment
    verified = np.ones(store.grid.shape, np.int8)
    verified[:2, 3:] = 0
    paths = {name: folder / "forecasts" / f"{name}.nc" for name in fields.forecasters}
    shown = collect_fields(scores.assign(mask=(("latitude", "longitude"), verified)), paths, store)
    for group in (shown.example, shown.mean):
        for name in HEADLINE:
            holes = group["variables"][name]["error"] == 255
            assert (holes == (verified[::-1] == 0)).all()


def test_errors_beside_maps_are_those_of_the_scores(experiment):
    """Which a mask may have left points out of."""
    _, _, scores, fields = experiment
    init = [str(t)[:13] for t in scores["init_time"].values].index(fields.example["init"][:13].replace(" ", "T"))
    leads = np.asarray(fields.example["hours"]) * np.timedelta64(1, "h")
    squared = scores["squared_error"].sel(region="all", lead_time=leads, forecaster=list(fields.forecasters))
    for name in HEADLINE:
        wanted = np.sqrt(squared.isel(init_time=init).sel(variable=name).transpose("forecaster", "lead_time"))
        np.testing.assert_allclose(fields.example["variables"][name]["rmse"], wanted, rtol=1e-6)


def as_another_model(folder, out, names):
    """The network's forecasts in the form of WeatherBench-2, as other programs write them."""
    with xr.open_dataset(folder / "forecasts" / "network.nc") as whole:
        other = whole[names].rename(init_time="time", lead_time="prediction_timedelta").load()
    other.attrs = {}
    other.to_netcdf(out)


def test_maps_show_the_files_of_other_models_that_the_config_names(experiment, tmp_path, monkeypatch):
    folder, store, scores, _ = experiment
    names = ["network", "physics_t21", "persistence", "climatology", "theirs", "half", "remote", "gone"]
    more = with_more_forecasters(scores, names)
    history = more["forecast_history"].values.copy()
    history[4:] = ""
    more["forecast_history"] = ("forecaster", history)
    (tmp_path / "forecasts").mkdir()
    for name in ("network", "physics_t21", "climatology"):
        (tmp_path / "forecasts" / f"{name}.nc").write_bytes((folder / "forecasts" / f"{name}.nc").read_bytes())
    as_another_model(folder, tmp_path / "theirs.nc", ["geopotential", "2m_temperature"])
    as_another_model(folder, tmp_path / "half.nc", ["2m_temperature"])
    (tmp_path / "store.zarr").mkdir()
    monkeypatch.setattr("emulator.evaluation.report_sources.open_store", lambda _: store)
    more.attrs["data_hash"] = store.data_hash
    given = {name: f"{tmp_path}/{name}.nc" for name in ("theirs", "half", "gone")} | {"remote": "gs://b/r.zarr"}
    (tmp_path / "config.yaml").write_text(json.dumps({"evaluate": {"forecasts": given}}), encoding="utf-8")
    fields, why = find_fields(more, tmp_path)
    assert why == "" and fields.forecasters == ("network", "physics_t21", "theirs", "climatology")
    for shown in (fields.example, fields.mean):
        for variable in HEADLINE:  # they are the network's, written in another way
            mine, theirs = (shown["variables"][variable]["error"][i] for i in (0, 2))
            np.testing.assert_array_equal(mine, theirs)
    assert fields.without == {
        "half": f"{tmp_path}/half.nc: does not hold geopotential@500",
        "persistence": "its forecast file does not lie beside the scores",
        "remote": "maps are drawn of files of this machine, and gs://b/r.zarr is elsewhere",
        "gone": f"its file, {tmp_path}/gone.nc, is not there",
    }
    without = data_of(write_report(more, tmp_path / "page.html", fields=fields))["fields"]["without"]
    assert without[0] == "" and without[5].endswith("does not hold geopotential@500")


def test_maps_are_drawn_where_initial_times_were_left_out(experiment, tmp_path, monkeypatch):
    """Of a folder of files of another model, which lacks the first: then that is not a time of anybody's."""
    folder, store, scores, _ = experiment
    inits = scores["init_time"].values
    kept = with_more_forecasters(scores, ["network", "physics_t21", "theirs"]).isel(init_time=slice(1, None))
    kept = kept.drop_vars("forecast_history").assign_attrs(left_out="1 of them", data_hash=store.data_hash)
    (tmp_path / "forecasts").mkdir()
    for name in ("network", "physics_t21"):
        (tmp_path / "forecasts" / f"{name}.nc").write_bytes((folder / "forecasts" / f"{name}.nc").read_bytes())
    as_another_model(folder, tmp_path / "all.nc", ["geopotential", "2m_temperature"])
    (tmp_path / "theirs").mkdir()
    with xr.open_dataset(tmp_path / "all.nc") as whole:
        for i in range(1, inits.size):
            whole.isel(time=[i]).to_netcdf(tmp_path / "theirs" / f"{i}.nc")
    (tmp_path / "store.zarr").mkdir()
    monkeypatch.setattr("emulator.evaluation.report_sources.open_store", lambda _: store)
    for given in (str(tmp_path / "theirs"), [f"{tmp_path}/theirs/*.nc"]):
        (tmp_path / "config.yaml").write_text(json.dumps({"evaluate": {"forecasts": {"theirs": given}}}), "utf-8")
        fields, why = find_fields(kept, tmp_path)
        assert why == "" and fields.forecasters == ("network", "physics_t21", "theirs")
        for variable in HEADLINE:
            mine, theirs = (fields.example["variables"][variable]["error"][i] for i in (0, 2))
            np.testing.assert_array_equal(mine, theirs)
    fields, why = find_fields(kept.drop_attrs(deep=False).assign_attrs(scores.attrs), tmp_path)
    assert fields is None and "its init_time" in why


def test_where_there_is_no_room_for_maps_the_page_says_so(experiment):
    folder, store, scores, _ = experiment
    names = ["network", "physics_t21", "physics_t31", "climatology", "persistence"]
    paths = dict(zip(names, [*sorted((folder / "forecasts").glob("*.nc"))] * 2, strict=False))
    more = with_more_forecasters(scores, names).drop_vars("forecast_history")
    fields = collect_fields(more, paths | {"network": folder / "forecasts" / "network.nc"}, store)
    left = set(names) - set(fields.forecasters)
    assert fields.without == {left.pop(): "the page has room for those of 4 forecasters"}


def test_holes_of_a_forecast_are_holes_of_its_maps_alone(experiment, tmp_path):
    folder, store, scores, fields = experiment
    paths = {name: folder / "forecasts" / f"{name}.nc" for name in fields.forecasters}
    holed = fields.forecasters[1]
    whole = xr.load_dataset(paths[holed])
    for field in whole.data_vars.values():
        field[..., :3, :5] = np.nan
    whole.to_netcdf(tmp_path / "holed.nc")
    shown = collect_fields(scores, paths | {holed: tmp_path / "holed.nc"}, store)
    hole = np.zeros(store.grid.shape, bool)
    hole[-3:, :5] = True  # rows come from the north
    for group, before in ((shown.example, fields.example), (shown.mean, fields.mean)):
        for name in HEADLINE:
            error, complete = (g["variables"][name]["error"] for g in (group, before))
            assert ((error[1] == 255) == hole).all() and (error[[0, 2, 3]] < 255).all() and complete.max() < 255
    assert data_of(write_report(scores, tmp_path / "page.html", fields=shown))["fields"] is not None


def test_spectra_hold_the_variance(experiment, page):
    scores, data = experiment[2], data_of(page)
    truth, forecast = (unpack(data["spectra"][key]) for key in ("truth", "forecast"))
    at = [scores["lead_time"].values.tolist().index(h * 3600 * 10**9) for h in data["spectra"]["hours"]]
    assert data["spectra"]["hours"] == [6, 24, 48, 72] and truth.shape == (2, 4, 16) and forecast.shape == (4, 2, 4, 16)
    expected = scores["forecast_power"].sel(variable=list(HEADLINE)).isel(lead_time=at)
    np.testing.assert_allclose(forecast, expected.transpose("forecaster", "variable", ...), rtol=1e-6)
    network, blurred = forecast[0, 0, 1].sum(), forecast[3, 0, 1].sum()
    assert network == pytest.approx(truth[0, 1].sum(), rel=0.25)
    assert blurred < 0.2 * truth[0, 1].sum()  # the climatology has no weather


def test_errors_of_maps_are_forecast_less_truth(made, experiment):
    fields = experiment[3]
    channel = [c.name for c in made.store.spec.state_channels].index(HEADLINE[0])
    with xr.open_dataset(made.paths["network"]) as file:
        forecast = file["geopotential"].squeeze().values.astype(np.float64)
    times, steps = made.scores["init_time"].values, (made.scores["lead_time"].values // STEP).astype(int)
    truth = np.stack([made.store.state[np.flatnonzero(made.store.times == t)[0] + steps, ..., channel] for t in times])
    error, hours = forecast - truth, (6 * steps).tolist()
    init = [str(t)[:13] for t in times].index(fields.example["init"].removesuffix(" UTC").replace(" ", "T"))
    of_mean = error[:, [hours.index(24)]].mean(axis=0)
    of_example = error[init, [hours.index(h) for h in fields.example["hours"]]]
    assert fields.mean["hours"].tolist() == [24] and fields.mean["inits"] == times.size
    for group, wanted in ((fields.mean, of_mean), (fields.example, of_example)):
        held = group["variables"][HEADLINE[0]]
        largest = held["largest"][0]
        found = held["error"][0] * (2 * largest / 254) - largest
        assert np.abs(found - np.clip(wanted[:, ::-1], -largest, largest)).max() <= 0.51 * 2 * largest / 254


def test_nothing_from_a_file_becomes_markup(experiment, tmp_path):
    scores = experiment[2].copy()
    scores.attrs |= {"climatology": HOSTILE, HOSTILE: HOSTILE, "data_hash": HOSTILE}
    scores = scores.assign_coords(hardware=("forecaster", [HOSTILE] * 4))
    new = [HOSTILE, "physics_" + HOSTILE, "persistence", "climatology"]
    scores = scores.assign_coords(forecaster=new, reference=new)
    provenance = Provenance(HOSTILE, {"Experiment": HOSTILE, HOSTILE: HOSTILE})
    out = write_report(scores, tmp_path / "hostile.html", provenance=provenance, without_fields=HOSTILE)
    text = out.read_text(encoding="utf-8")
    reader = Reader(text)
    assert [t for t, _ in reader.tags].count("script") == 2
    assert not {t for t, _ in reader.tags} & {"img"}
    assert HOSTILE not in text and "<img" not in text and "<script>alert" not in text
    data = data_of(out)
    assert data["forecasters"][0]["name"] == HOSTILE
    assert reader.text["pre"] == HOSTILE and HOSTILE in reader.text["h1"] and HOSTILE in reader.text["dd"]


def test_scores_alone_make_a_page_that_says_what_is_missing(experiment, tmp_path, capsys):
    experiment[2].to_netcdf(tmp_path / "scores.nc")
    assert main(["report", str(tmp_path / "scores.nc")]) == 0
    assert "report.html" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No forecast files lie beside the scores. This report comes without maps." in text
    assert "This holds in the SPEEDY world" in text
    assert data_of(tmp_path / "report.html")["fields"] is None
    assert main(["plot", str(tmp_path / "scores.nc")]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plots", "report.html", "scores.nc"]
    assert (tmp_path / "plots" / "skill.png").is_file()


def test_a_store_that_is_not_the_scored_one_is_not_shown(experiment, tmp_path):
    folder, _, scores, _ = experiment
    assert find_fields(scores, tmp_path)[0] is None
    fields, why = find_fields(scores, folder)
    assert fields is None and "store.zarr" in why
    (tmp_path / "config.yaml").write_text("a: [", encoding="utf-8")
    assert find_provenance(scores, tmp_path) == Provenance("a: [", {})


def test_damage_beside_the_scores_costs_what_is_damaged_and_no_more(experiment, tmp_path, caplog):
    folder, _, scores, _ = experiment
    scores.to_netcdf(tmp_path / "scores.nc")
    (tmp_path / "forecasts").mkdir()
    for name in ("network", "climatology"):
        whole = (folder / "forecasts" / f"{name}.nc").read_bytes()
        (tmp_path / "forecasts" / f"{name}.nc").write_bytes(whole[: len(whole) // 2] if name == "network" else whole)
    run = made_up_long_run(scores.attrs["data_hash"])
    run.to_netcdf(tmp_path / "long_run.nc", encoding={"global_mean": {"fletcher32": True}})
    raw = bytearray((tmp_path / "long_run.nc").read_bytes())
    raw[raw.index(run["global_mean"].values.tobytes()[:16])] ^= 0x10
    (tmp_path / "long_run.nc").write_bytes(raw)
    (tmp_path / "stages.json").write_text('{"train": 3, "plot": {"seconds": 2.0}}', encoding="utf-8")
    (tmp_path / "forecasts" / "means").mkdir()  # of several, as the contest keeps them
    (tmp_path / "forecasts" / "climatology.nc").rename(tmp_path / "forecasts" / "means" / "climatology.nc")
    facts = find_provenance(scores, tmp_path).facts
    assert "Climatology" in facts["Forecasts"] and "Network" not in facts["Forecasts"]
    assert facts["Time the stages took"] == "plot 2 s"
    assert find_long_run(scores, tmp_path) is None
    assert [r.message.split(str(tmp_path))[1][:23] for r in caplog.records] == [
        "/forecasts/network.nc: ",
        "/long_run.nc: cannot be",
    ]
    assert main(["report", str(tmp_path / "scores.nc")]) == 0


def test_maps_of_more_variables_than_fit_show_the_last_lead(experiment, monkeypatch):
    """As 26 variables on 128 x 64 points of a config that names no headline."""
    folder, store, scores, fields = experiment
    monkeypatch.setattr("emulator.evaluation.report_fields._EXAMPLE_BYTES", 1000)
    paths = {name: folder / "forecasts" / f"{name}.nc" for name in fields.forecasters}
    assert collect_fields(scores, paths, store).example["hours"].tolist() == [96]


def test_a_file_that_is_no_scores_file_is_one_line(tmp_path, capsys, experiment):
    assert main(["report", str(tmp_path / "none.nc")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    damaged = tmp_path / "cut.nc"
    damaged.write_bytes((experiment[0] / "scores.nc").read_bytes()[:4000])
    assert main(["report", str(damaged)]) == 1
    assert "cut.nc: not a readable scores file" in (line := capsys.readouterr().err) and "evaluate again" in line
    with pytest.raises(DataError, match="one forecaster only"):
        write_report(experiment[2].isel(forecaster=[0], reference=[0]), tmp_path / "x.html")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"crossover_outcome": "never better"},
            "The network is never better than Physics T21 in Z500 up to 4 days.",
        ),
        (
            {"crossover_outcome": "worse at first"},
            "The network is worse than Physics T21 in Z500 at first, and beyond doubt better at no lead up to 4 days.",
        ),
        (
            {"crossover_outcome": "undecided", "rmse_difference_significant": 0},
            "Undecided: from 24 initial times it cannot be told whether the network ever beats Physics T21 in Z500.",
        ),
        (
            {"crossover_outcome": "beyond the last lead", "crossover_lower": 60.0, "crossover_start": 6.0},
            "The network beats Physics T21 in Z500 from the start to the last lead, 4 days, "
            "beyond doubt only up to 2.5 days.",
        ),
        (
            {"crossover_outcome": "beyond the last lead", "crossover_lower": 95.9, "crossover_start": 6.0},
            "The network beats Physics T21 in Z500 from the start to the last lead, 4 days, "
            "beyond doubt until shortly before it.",
        ),
        (
            {
                "crossover_outcome": "crossover",
                "crossover_hours": 72.0,
                "crossover_lower": 60.0,
                "crossover_upper": np.inf,
            }
            | {"crossover_start": 24.0},
            "The network beats Physics T21 in Z500 from 24 hours on up to 3.0 days [2.5, ...].",
        ),
    ],
)
def test_every_outcome_has_an_honest_sentence(experiment, change, sentence):
    scores = (
        experiment[2].sel(forecaster=["network", "physics_t21"], reference=["network", "physics_t21"]).copy(deep=True)
    )
    scores.attrs["initial_times"] = 24
    for key in ("hours", "lower", "upper", "start"):
        scores[f"crossover_{key}"][:] = np.nan
    scores["crossover_outcome"] = scores["crossover_outcome"].astype(object)
    for key, value in change.items():
        scores[key][:] = value
    assert make_headline(scores).sentence == sentence


def with_outcomes(scores, outcomes):
    """The scores, the network's crossovers replaced: hours, 0 for never better, None for not scored, by reference."""
    names = ["network", *outcomes]
    out = with_more_forecasters(scores, names).copy(deep=True)
    out["crossover_outcome"] = out["crossover_outcome"].astype(object)
    for name, hours in outcomes.items():
        place = {"forecaster": "network", "reference": name}
        words = {None: "not scored", 0: "never better"}.get(hours, "crossover")
        out["crossover_outcome"].loc[place] = words
        if hours == 0:
            out["rmse"].loc[{"forecaster": name}] = 0.0
        for key, value in (("hours", 0), ("lower", -6), ("upper", 6), ("start", 6.0 - (hours or 0))):
            out[f"crossover_{key}"].loc[place] = hours + value if hours else np.nan
    return out


@pytest.mark.parametrize(
    ("outcomes", "sentence", "details"),
    [
        (
            {"physics_t21": 72, "physics_t21_debiased": 60, "physics_t21_damped": 40, "twin_t31": 0},
            "The network beats Physics T21 damped in Z500 up to 40 hours [34, 46].",
            ["Physics T21 damped is the hardest of the 3 physics baselines"],
        ),
        (
            {"physics_t21": 72, "physics_t21_damped": 0, "physics_t21_ensemble": 0},
            "The network is never better than Physics T21 damped in Z500 up to 4 days; "
            "it beats Physics T21 only as it is, raw, up to 3.0 days [2.8, 3.2].",
            ["hardest of the 2 physics baselines", "No debiased physics was scored"],
        ),
        (
            {"physics_t21": 72, "physics_t21_debiased": 60, "physics_t21_damped": 0},
            "The network is never better than Physics T21 damped in Z500 up to 4 days; "
            "it beats Physics T21 as it is, raw, up to 3.0 days [2.8, 3.2].",  # and not only that
            [],
        ),
        (
            {"physics_t21": 72, "climatology": 24},
            "The network beats Physics T21 in Z500 up to 3.0 days [2.8, 3.2].",
            ["No debiased or damped physics was scored: it might be harder to beat."],
        ),
        (
            {"climatology": 72, "twin_t31": 0},
            "The network beats Climatology in Z500 up to 3.0 days [2.8, 3.2].",
            [],
        ),
        (  # who lacks the variable is no opponent in it
            {"climatology": 72, "hres": None},
            "The network beats Climatology in Z500 up to 3.0 days [2.8, 3.2].",
            ["it is better up to a crossover in 2, against"],
        ),
        (
            {"physics_t21": 72, "physics_t21_debiased": 80, "physics_t21_damped": None},
            "The network beats Physics T21 in Z500 up to 3.0 days [2.8, 3.2].",
            ["hardest of the 2 physics baselines", "No damped physics was scored"],
        ),
        (  # nor is the candidate's own ensemble one
            {"network_ensemble": 24, "climatology": 72},
            "The network beats Climatology in Z500 up to 3.0 days [2.8, 3.2].",
            [],
        ),
        (
            {"hres": None},
            "The network was not compared with hres in Z500: one of the two was not scored there.",
            ["it is not scored in 2, against hres"],
        ),
    ],
)
def test_a_win_is_claimed_only_against_the_hardest_physics(experiment, outcomes, sentence, details):
    headline = make_headline(with_outcomes(experiment[2], outcomes))
    assert headline.sentence == sentence
    for text in details:
        assert any(text in detail for detail in headline.details), headline.details


def test_of_opponents_that_are_all_beaten_the_hardest_is_named(experiment):
    names = ["network", "physics_t21", "physics_t21_debiased", "physics_t21_damped"]
    scores = with_more_forecasters(experiment[2], names).copy(deep=True)
    scores["crossover_outcome"] = scores["crossover_outcome"].astype(object)
    place = {"forecaster": "network"}
    scores["crossover_outcome"].loc[place] = "beyond the last lead"
    for key in ("hours", "lower", "upper"):
        scores[f"crossover_{key}"].loc[place] = np.inf
    scores["crossover_start"].loc[place] = 6.0
    for name, rmse in zip(names, (1.0, 4.0, 2.0, 3.0), strict=True):
        scores["rmse"].loc[{"forecaster": name}] = rmse
    assert make_headline(scores).reference == "physics_t21_debiased"
    late = {"forecaster": "physics_t21", "lead_time": scores["lead_time"][-1]}
    scores["rmse"].loc[late] = 1.5  # of many days the narrowest, and of the first ones the widest margin
    assert make_headline(scores).reference == "physics_t21"
    scores["crossover_lower"].loc[place | {"reference": "physics_t21_damped"}] = 36.0
    headline = make_headline(scores)
    assert headline.reference == "physics_t21_damped" and "beyond doubt only up to 36 hours" in headline.sentence


def test_who_is_ahead_for_a_time_is_the_hardest_or_named(experiment):
    """Of an opponent that is beaten late the win is short; of one that is lost to in between the loss is told."""
    names = ["network", "physics_t21", "physics_t21_damped", "physics_t31"]
    scores = with_more_forecasters(experiment[2], names).copy(deep=True)
    scores["crossover_outcome"] = scores["crossover_outcome"].astype(object)
    place = {"forecaster": "network"}
    scores["rmse_difference_significant"].loc[place] = 0
    ends = {"physics_t21": (6.0, 72.0), "physics_t21_damped": (60.0, np.inf), "physics_t31": (18.0, np.inf)}
    for name, (start, end) in ends.items():
        there = place | {"reference": name}
        scores["crossover_outcome"].loc[there] = "beyond the last lead" if np.isinf(end) else "crossover"
        for key, value in (("hours", end), ("lower", end), ("upper", end), ("start", start)):
            scores[f"crossover_{key}"].loc[there] = value
        scores["crossover_from_first_lead"].loc[there] = start == 6.0
    headline = make_headline(scores)
    assert headline.reference == "physics_t21_damped"
    assert (
        headline.sentence == "The network beats Physics T21 damped in Z500 from 2.5 days on to the last lead, 4 days."
    )
    in_all = "better to the last lead in 2 (2 of them from a later lead than the first), against the hardest"
    assert any(in_all in detail for detail in headline.details), headline.details
    assert not any("behind" in detail for detail in headline.details)
    lost = scores["lead_time"].isin(np.array([6, 12], "timedelta64[h]")).values
    worse = place | {"reference": "physics_t31", "variable": HEADLINE[0], "region": "all", "lead_time": lost}
    scores["rmse_difference_significant"].loc[worse] = 1
    scores["rmse_difference"].loc[worse] = 1.0
    told = "Before that it is beyond doubt behind Physics T31 at 6 hours to 12 hours."
    assert told in make_headline(scores).details
    late = worse | {"lead_time": np.timedelta64(48, "h")}
    scores["rmse_difference_significant"].loc[late] = 1
    scores["rmse_difference"].loc[late] = 1.0
    assert told.replace("12 hours.", "12 hours and 2 days.") in make_headline(scores).details
    early = worse | {"reference": "physics_t21_damped"}
    scores["rmse_difference_significant"].loc[early] = 1
    scores["rmse_difference"].loc[early] = 1.0
    told = "Before that it is beyond doubt behind Physics T21 damped at 6 hours to 12 hours, Physics T31 at 6 hours"
    assert any(detail.startswith(told) for detail in make_headline(scores).details)


def test_beside_physics_the_hardest_simple_reference_is_told(experiment):
    headline = make_headline(with_outcomes(experiment[2], {"physics_t21": 90, "persistence": 80, "climatology": 60}))
    told = "The network beats Climatology in Z500 up to 2.5 days [2.2, 2.8] (the hardest of the simple references)."
    assert told in headline.details
    alone = make_headline(with_outcomes(experiment[2], {"persistence": 80, "climatology": 60}))
    assert not any("simple references" in detail for detail in alone.details)


def test_blur_is_looked_for_at_the_leads_that_are_won(experiment):
    scores = with_outcomes(experiment[2], {"physics_t21": 60}).copy(deep=True)
    scores["activity"].loc[{"forecaster": "network"}] = 0.9
    for hours, value in ((48, 0.4), (96, 0.2)):
        at = {
            "forecaster": "network",
            "variable": HEADLINE[1],
            "region": "all",
            "lead_time": np.timedelta64(hours, "h"),
        }
        scores["activity"].loc[at] = value
    told = [detail for detail in make_headline(scores).details if detail.startswith("Lowest activity")]
    label = variable_label(HEADLINE[1])
    assert told[0].startswith(f"Lowest activity 0.40 ({label}, 2 days)") and "up to 2.5 days" in told[0]


def test_what_was_scored_as_the_mean_of_members_is_called_so(experiment):
    scores = with_outcomes(experiment[2], {"physics_t21": 72, "physics_ifs": 24, "hres": 60})
    assert opponents(scores) == ["physics_t21", "physics_ifs"]
    scores = scores.assign_coords(members=("forecaster", [1, 1, 50, 1]))
    assert opponents(scores) == ["physics_t21"]
    assert "Physics ifs, mean of 50" in format_table(scores)
    only = scores.sel(forecaster=["network", "physics_ifs"], reference=["network", "physics_ifs"])
    assert make_headline(only).sentence.startswith("The network beats Physics ifs, mean of 50 in Z500 up to 24 hours")
    assert opponents(only) == ["physics_ifs"]  # there is no other physics
    ensemble = with_more_forecasters(experiment[2], ["network", "network_ensemble"])
    ensemble = ensemble.assign_coords(members=("forecaster", [1, 4]))
    assert label_of(ensemble, "network_ensemble") == "Network ensemble mean of 4"
    both = only.assign_coords(members=("forecaster", [10, 50]))
    assert make_headline(both).sentence.startswith("Network, mean of 10 beats")


def test_without_a_headline_it_is_what_the_candidate_holds(experiment):
    scores = with_outcomes(experiment[2], {"physics_t21": 72}).copy(deep=True)
    del scores.attrs["headline"]
    first, second = scores["variable"].values[:2]
    assert headline_variables(scores)[:2] == [first, second]
    scores["rmse"].loc[{"forecaster": "network", "variable": first}] = np.nan
    assert headline_variables(scores)[0] == second


def test_where_all_others_are_made_of_the_candidate_they_are_the_opponents(experiment):
    scores = with_more_forecasters(experiment[2], ["network", "network_ensemble"])
    assert opponents(scores) == ["network_ensemble"] and make_headline(scores).sentence


def test_a_mean_that_the_network_is_in_is_no_opponent_of_it(experiment):
    names = ["network", "linear_pcs", "network_and_regression", "of_others"]
    scores = with_more_forecasters(experiment[2], names)
    means = "network_and_regression: linear_pcs network; of_others: linear_pcs climatology"
    for key in ("means", "ensembles", "supermodels"):
        assert opponents(scores.assign_attrs({key: means})) == ["linear_pcs", "of_others"]


def test_a_corrected_network_meets_physics_that_is_corrected_alike(experiment):
    names = ["network", "physics_t21", "physics_t21_debiased", "physics_t21_damped", "network_damped"]
    scores = with_more_forecasters(experiment[2], names).copy(deep=True)
    scores["crossover_outcome"] = scores["crossover_outcome"].astype(object)
    scores["crossover_outcome"].loc[{"forecaster": "network"}] = "never better"
    place = {"forecaster": "network_damped", "reference": "physics_t21_damped"}
    scores["crossover_outcome"].loc[place] = "beyond the last lead"
    for key in ("hours", "lower", "upper", "start"):
        scores[f"crossover_{key}"].loc[place] = np.nan
    details = make_headline(scores).details
    sentence = "Damped as physics is, by its own training forecasts, it is better to the last lead in 2"
    assert any(sentence in detail for detail in details), details
    assert "Network damped, Physics T21 damped" in format_table(scores)  # and no column for the debiased network
    assert "Network debiased" not in format_table(scores)
    without = scores.sel(forecaster=names[:-1], reference=names[:-1])
    assert not any("Damped as physics" in detail for detail in make_headline(without).details)
    assert "Like against like" not in format_table(without)


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        ((14, 9, np.inf), "Its error in Z500 at 4 days is that of Physics T21 14 hours earlier [9, ...]."),
        ((1.2, -3, 6), "Its error in Z500 at 4 days is that of Physics T21 1 hour earlier [-3, 6]."),
        ((0.2, -4, 6), "Its error in Z500 at 4 days is as large as that of Physics T21: 0 hours ahead [-4, 6]."),
        ((-3, -9, 2), "Its error in Z500 at 4 days is that of Physics T21 3 hours later [-2, 9]."),
        ((-3, -9, 0.2), "Its error in Z500 at 4 days is that of Physics T21 3 hours later [0, 9]."),
        (
            (np.inf, 80, np.inf),
            "Its error in Z500 at 4 days is smaller than that of Physics T21 at any lead from 6 hours to 4 days: it is "
            "more than 80 hours ahead.",
        ),
        ((-np.inf, -np.inf, 0.0), ""),  # no lead follows: there it says what the comparison does
    ],
)
def test_the_headline_tells_the_gain_and_the_gap(experiment, gain, sentence):
    scores = experiment[2].copy(deep=True)
    at = np.timedelta64(96, "h")
    place = {"forecaster": "network", "reference": "physics_t21", "variable": HEADLINE[0], "region": "all"}
    for key, values in (("time_gain_hours", gain), ("gap_closed", (0.45, 0.3, 0.6))):
        for end, value in zip(("", "_lower", "_upper"), values, strict=True):
            scores[key + end].loc[place | {"lead_time": at}] = value
    scores["better_everywhere"].loc[{k: v for k, v in place.items() if k != "variable"}] = 1
    details = " ".join(make_headline(scores).details)
    assert sentence in details and ("Its error" in details) == bool(sentence)
    assert (
        "At 4 days it closes 45 % [30, 60] of the gap from Physics T21 to the predictability limit (Climatology)."
        in details
    )
    assert "Beyond doubt better at every lead in every headline variable than Physics T21." in details
    for share, words in (
        ((0.45, -np.inf, np.inf), "45 % [..., ...]"),
        ((-0.004, -0.12, 0.11), "0 % [-12, 11]"),  # perhaps a tenth of it
        ((-0.05, -0.1, -0.01), "none"),
    ):
        for end, value in zip(("", "_lower", "_upper"), share, strict=True):
            scores[f"gap_closed{end}"].loc[place | {"lead_time": at}] = value
        assert any(f"it closes {words} of the gap" in detail for detail in make_headline(scores).details)


@pytest.mark.parametrize(
    ("upper", "sentence"),
    [
        (
            -7.0,
            "Its error in Z500 at 5 days is larger than that of Physics T21 at any lead from 5 to 8 days: it is more "
            "than 7 hours behind.",
        ),
        (0.0, "Its error in Z500 at 5 days is larger than that of Physics T21 at any lead from 5 to 8 days."),
    ],
)
def test_the_headline_says_against_which_leads_the_error_is_larger(experiment, upper, sentence):
    scores = experiment[2].copy(deep=True).assign_coords(lead_time=2 * experiment[2]["lead_time"])
    place = {"forecaster": "network", "reference": "physics_t21", "variable": HEADLINE[0], "region": "all"}
    place["lead_time"] = np.timedelta64(120, "h")
    for end, value in zip(("", "_lower", "_upper"), (-np.inf, -np.inf, upper), strict=True):
        scores[f"time_gain_hours{end}"].loc[place] = value
    assert sentence in make_headline(scores).details


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ([12, 72, 78, 84, 90, 96], "ever beats Physics T21 in Z500; from 3 days on it is significantly worse."),
        ([96], "ever beats Physics T21 in Z500; at the last lead, 4 days, it is significantly worse."),
        ([72, 78], "ever beats Physics T21 in Z500."),
    ],
)
def test_what_is_undecided_early_may_be_lost_late(experiment, lost, told):
    scores = with_more_forecasters(experiment[2], ["network", "physics_t21"]).copy(deep=True)
    scores["crossover_outcome"] = scores["crossover_outcome"].astype(object)
    scores["crossover_outcome"][:] = "undecided"
    scores["rmse_difference_significant"][:] = 1
    scores["rmse_difference"][:] = -1.0  # better, and so no loss
    scores["rmse_difference"].loc[{"lead_time": np.array(lost, "timedelta64[h]")}] = 1.0
    assert make_headline(scores).sentence.endswith(told)
    scores["rmse_difference_significant"][:] = 0
    assert make_headline(scores).sentence.endswith("ever beats Physics T21 in Z500.")


@pytest.mark.parametrize(
    ("truth", "names", "start"),
    [
        ("nature run SPEEDY T42", ["network", "physics_t21"], "This holds in the SPEEDY world"),
        ("analysis", ["network", "physics_t21"], "The truth is taken to be an analysis of the observed"),
        ("simulation by M, historical", ["network"], "The truth is a simulation by M, historical"),
        (None, ["network", "twin_t31"], "This holds in the SPEEDY world"),
        (None, ["network", "physics_t21"], ""),
    ],
)
def test_scores_alone_say_in_which_world_they_hold(experiment, truth, names, start):
    scores = with_more_forecasters(experiment[2], names)
    scores.attrs.pop("truth")
    scores = scores.assign_attrs({} if truth is None else {"truth": truth})
    sentence = world_sentence(scores)
    assert sentence.startswith(start) and bool(sentence) == bool(start)
    assert sentence in format_table(scores)


needs_browser = pytest.mark.skipif(
    bool(missing_programs()), reason=f"{missing_programs()} not found: Debian's packages chromium and chromium-driver"
)


@pytest.fixture(scope="module")
def window(page, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as found:
        found.resize(1280, 900)
        found.open(page)
        yield found


CURVES = "return [...document.querySelectorAll('#curve path')].map((p) => p.getAttribute('d')).join()"
CARD = "return document.querySelector('#scorecard').innerHTML"
MAP = "return document.querySelector('#maps canvas').toDataURL()"


def text_of(window, selector):
    return window.run("return document.querySelector(arguments[0]).textContent", selector)


@needs_browser
def test_the_page_draws_without_a_complaint(window):
    assert window.complaints() == []
    drawn = window.run(
        """return ['crossovers', 'scorecard', 'curve', 'spectra', 'maps', 'cost']
           .map((id) => document.getElementById(id).childElementCount)"""
    )
    assert min(drawn) >= 1
    assert window.run("return document.querySelectorAll('#scorecard rect').length") == 4 * 16 + 1
    assert window.run("return document.querySelectorAll('#curve path[data-crossover]').length") == 1
    assert window.run("return document.querySelectorAll('#maps figure').length") == 5


@needs_browser
def test_a_chart_claims_no_more_than_was_scored(window, experiment, tmp_path):
    scores = experiment[2].copy(deep=True)
    place = {"forecaster": "network", "variable": HEADLINE[0], "region": "all"}
    for reference, outcome, start, lower in (
        ("physics_t21", "crossover", 60.0, 66.0),
        ("physics_t31", "beyond the last lead", 6.0, 78.0),
    ):
        values = {"outcome": outcome, "start": start, "lower": lower, "hours": 72.0, "upper": np.inf}
        for key, value in values.items():
            scores[f"crossover_{key}"].loc[place | {"reference": reference}] = value
    window.open(write_report(scores, tmp_path / "claims.html"))
    said = "return document.querySelector('#curve svg > text:last-of-type').textContent"
    window.choose("#controls label:nth-child(2) select", "Physics T21")
    assert window.run(said) == "Network beats Physics T21 from day 2.5 on up to 3.0 days [2.8, …]"
    window.choose("#controls label:nth-child(2) select", "Physics T31")
    assert window.run(said) == "Network beats Physics T31 to the last lead, beyond doubt only up to day 3.3"
    assert window.complaints() == []


@needs_browser
def test_choices_change_the_pictures(window, page):
    window.open(page)
    for selector, text, script in (
        ("#controls label:nth-child(3) select", "Near-surface temperature", CURVES),
        ("#controls label:nth-child(4) select", "Tropics", CARD),
        ("#controls label:nth-child(2) select", "Physics T31", CARD),
        ("#metric", "Bias", CURVES),
        ("#maps-view", "Mean error", MAP),
        ("#controls label:nth-child(4) select", "Whole grid", CURVES),
    ):
        before = window.run(script)
        window.choose(selector, text)
        assert window.run(script) != before, f"{text} changed nothing"
    assert "Bias of Near-surface temperature" in window.run(
        "return document.querySelector('#curve svg').getAttribute('aria-label')"
    )
    window.choose("#controls label:nth-child(1) select", "Physics T31")  # against itself: the two change places
    assert (
        window.run("return document.querySelector('#controls label:nth-child(2) select').selectedOptions[0].text")
        == "Network"
    )
    assert window.complaints() == []


@needs_browser
def test_pointer_and_keyboard_read_values_out(window, page):
    window.open(page)
    rmse = "return [...document.querySelectorAll('#curve-reading .value')].map((e) => e.textContent)"
    lead, values = text_of(window, "#curve-lead"), window.run(rmse)
    window.press("#curve svg", "\ue012\ue012")  # left arrow, twice
    assert text_of(window, "#curve-lead") != lead and window.run(rmse) != values
    lead = text_of(window, "#curve-lead")
    window.hover("#curve svg", 150, 0)
    assert text_of(window, "#curve-lead") != lead
    before = text_of(window, "#scorecard-readout")
    window.press("#scorecard svg", "\ue015")  # down arrow
    after = text_of(window, "#scorecard-readout")
    assert re.search(r"significant, p (= 0\.\d+|< 0\.001) by an inflated t-test", after)
    assert before.startswith("Z500") and after.startswith("Near-surface temperature")
    assert "Near-surface temperature" in text_of(window, "#curves-caption")
    curves = "return document.querySelectorAll('#curve path[data-forecaster]').length"
    assert window.run(curves) == 4
    window.click("#curve-reading label:nth-child(3)")
    assert window.run(curves) == 3
    before = window.run(MAP)
    window.press("#maps-controls input[type=range]", "\ue014")  # right arrow
    assert window.run(MAP) != before
    window.click(".play")
    lead = text_of(window, "#maps-controls .lead")
    window.run("return new Promise((done) => setTimeout(done, 900))")
    assert text_of(window, "#maps-controls .lead") != lead
    window.click(".play")
    unnamed = window.run(
        """return [...document.querySelectorAll('select, input, button, svg[tabindex], canvas[role]')]
           .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))
           .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    assert window.complaints() == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_without_scrolling_sideways(window, page, dark):
    window.resize(390, 844, mobile=True, dark=dark)
    window.open(page)
    assert window.run("return document.documentElement.scrollWidth") == 390
    wide = window.run(
        """return [...document.querySelectorAll('main *')]
           .filter((e) => e.getBoundingClientRect().right > 391).map((e) => e.tagName)"""
    )
    assert wide == []
    background = window.run("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (brightness < 60) == dark
    assert window.complaints() == []
    window.resize(1280, 900)


@needs_browser
def test_what_the_chart_says_of_long_names_stays_on_a_phone(window, experiment, tmp_path):
    names = ["network", "physics_t21", "physics_with_a_name_that_is_very_long_indeed", "climatology"]
    window.resize(390, 844, mobile=True)
    window.open(write_report(with_more_forecasters(experiment[2], names), tmp_path / "long.html"))
    window.choose("#controls label:nth-child(2) select", "Physics with a name that is very long indeed")
    texts = window.run(
        """return [...document.querySelectorAll('#curve text.strong')].map((t) =>
           [t.textContent, t.getBoundingClientRect().left, t.getBoundingClientRect().right])"""
    )
    assert "very long indeed" in " ".join(text for text, *_ in texts)
    assert len(texts) > 1
    assert all(left > 0 and right < 390 for _, left, right in texts), texts
    window.resize(1280, 900)


LINES = "return [...document.querySelectorAll('#curve path[data-forecaster]')].map((p) => p.dataset.forecaster)"


@needs_browser
def test_of_many_forecasters_one_chooses_the_lines(window, experiment, tmp_path):
    forms = [f"physics_t21{form}" for form in ("", "_debiased", "_damped", "_ensemble")]
    twins = ["twin_t31", "twin_t31_ensemble"]
    statistical = ["persistence", "anomaly_persistence", "damped_anomaly_persistence", "climatology"]
    names = ["network", *forms, *twins, *statistical, "ifs_with_a_name_that_is_very_long_indeed", "graphcast"]
    scores = with_more_forecasters(experiment[2], names).assign_attrs(predictability_limit="twin_t31_ensemble")
    page = write_report(scores, tmp_path / "many.html")
    window.open(page)
    usual = [n for n in names if n not in (forms[1], forms[3], twins[0], *statistical[1:3])]
    reference = window.run(
        "return document.querySelector('#controls label:nth-child(2) select').selectedOptions[0].text"
    )
    pair = {"network", next(n for n in names if forecaster_label(n) == reference)}
    assert set(window.run(LINES)) == {*usual, *pair}
    window.click(".choices button:nth-child(2)")
    assert len(window.run(LINES)) == len(names)
    window.click(".choices button:nth-child(3)")
    assert set(window.run(LINES)) == pair
    window.choose("#controls label:nth-child(2) select", "Anomaly persistence")  # who is compared is shown
    assert set(window.run(LINES)) == {*pair, "anomaly_persistence"}
    window.click(".choices button:nth-child(1)")
    assert {*usual, "anomaly_persistence"} <= set(window.run(LINES)) != set(names)
    window.choose("#metric", "Hours ahead")
    assert "over Persistence" in text_of(window, "#curve-reading")
    window.choose("#metric", "Gap closed")
    assert "to the predictability limit (Twin T31 ensemble mean)" in text_of(window, "#curves-caption")
    for width in (390, 1280):
        window.resize(width, 900, mobile=width == 390)
        window.open(page)
        assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.complaints() == []


@needs_browser
def test_the_front_holds_whom_nobody_beats_in_cost_and_error(window, experiment, tmp_path):
    scores = experiment[2].copy(deep=True)
    scores["seconds_per_simulated_day"][:] = [1.0, 0.1, 0.5, np.nan]
    for name, error in zip(scores["forecaster"].values, (1.0, 3.0, 4.0, 0.5), strict=True):
        scores["rmse"].loc[{"variable": HEADLINE[0], "forecaster": name}] = error
    window.open(write_report(scores, tmp_path / "cost.html"))
    assert window.run("return document.querySelector('#cost path').dataset.front") == "physics_t21 network"
    assert "their cost or error is unknown: Climatology." in text_of(window, "#cost-caption")
    scores["seconds_per_simulated_day"][:] = [3.0, 3.1, 2.9, np.nan]  # no power of ten is near
    window.open(write_report(scores, tmp_path / "near.html"))
    ticks = window.run("return [...document.querySelectorAll('#cost text')].map((t) => t.textContent)")
    assert {"2", "5"} <= set(ticks)
    assert text_of(window, "#cost-controls .lead").startswith("Day ")
    window.run(
        "const r = document.querySelector('#cost-controls input'); r.value = 0; r.dispatchEvent(new Event('input'))"
    )
    assert text_of(window, "#cost-controls .lead") == "6 h"


@needs_browser
def test_names_of_points_that_are_close_cover_nothing(window, experiment, tmp_path):
    names = ["network", "physics_t21", "damped_anomaly_persistence", "climatology", "second", "nets", "a_model"]
    scores = with_more_forecasters(experiment[2], names).copy(deep=True)
    scores["seconds_per_simulated_day"][:] = [1e-2, 1.1e-2, 3e-5, 3.1e-5, 0.9e-2, 1.3e-2, 2.9e-5]
    for name, error in zip(names, (4.4, 4.4, 4.0, 3.9, 4.1, 4.2, 4.05), strict=True):
        scores["rmse"].loc[{"forecaster": name}] = error
    window.open(write_report(scores, tmp_path / "close.html"))
    texts, dots, fills = window.run(
        """const names = [...document.querySelectorAll('#cost text.halo')];
           const box = (e) => {
             const r = e.getBoundingClientRect();
             return [e.textContent, r.left, r.right, r.top + 2, r.bottom - 2];
           };
           const fills = new Set(names.map((e) => getComputedStyle(e).fill));
           return [names.map(box), [...document.querySelectorAll('#cost circle')].map(box), fills.size];"""
    )
    assert sorted(t[0] for t in texts) == sorted(d[0] for d in dots) == sorted(map(forecaster_label, names))
    assert fills > 3  # of the colour of its point

    def overlap(a, b):
        return a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]

    assert not [(a[0], b[0]) for i, a in enumerate(texts) for b in [*texts[:i], *dots] if overlap(a, b)]


def made_up_long_run(data_hash):
    """Sixty days of which the truth covers forty; Z500 leaves its range in one run, the other ends early."""
    by_time, by_window = ("init_time", "lead_time", "variable"), ("window", "variable")
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(60) < 40, 1.0, np.nan)[None, :, None] * np.ones((2, 60, 2))
    return xr.Dataset(
        {
            "global_mean": (by_time, rng.normal(size=(2, 60, 2))),
            "truth_mean": (by_time, 0 * truth),
            "truth_lowest": (by_time, -2 * truth),
            "truth_highest": (by_time, 2 * truth),
            "zonal_bias": ((*by_window, "latitude"), rng.normal(size=(2, 2, 9))),
            "fine_scale_ratio": (by_window, [[0.9, 1.0], [0.8, np.nan]]),
            "days_within": (("init_time", "variable"), [[12.0, np.inf], [np.inf, np.inf]]),
            "days_finite": ("init_time", [np.inf, 55.0]),
        },
        coords={
            "init_time": np.array(["2001-06-01", "2001-06-11"], "datetime64[ns]"),
            "lead_time": np.arange(1, 61) * np.timedelta64(1, "D").astype("timedelta64[ns]"),
            "variable": list(HEADLINE),
            "units": ("variable", ["m2 s-2", "K"]),
            "window": [0, 30],
            "latitude": np.linspace(-80, 80, 9),
        },
        attrs={"forecaster": "network", "window_days": 30, "stay_days": 10.0, "data_hash": data_hash},
    )


def test_a_long_run_is_told_in_words(experiment, tmp_path):
    scores = experiment[2]
    assert find_long_run(scores, tmp_path) is None
    made_up_long_run(scores.attrs["data_hash"]).to_netcdf(tmp_path / "long_run.nc")
    run = find_long_run(scores, tmp_path)
    assert find_long_run(scores.assign_attrs(data_hash="other"), tmp_path) is None
    assert describe_long_run(run) == (
        "Network was left to itself for 60 days from 2 initial times but 1 of them was not finite after day 55.",
        "Global means leave what the truth does at that time of the year for 10 days: Z500 after 12 days.",
        "The others never leave what the truth does at that time of the year for 10 days before the run ends.",
        "The truth covers 67 % of these dates; of the rest nothing is said.",
        "Fine-scale amplitude in days 31 to 40 is 0.80 to 0.80 times the truth's, farthest off in Z500.",
    )
    brief = run.isel(lead_time=slice(0, 9), window=[0]).assign(days_finite=("init_time", [np.inf, 4.0]))
    assert describe_long_run(brief.assign(days_within=run["days_within"] + np.inf)) == (
        "Network was left to itself for 9 days from 2 initial times but 1 of them was not finite after day 4.",
        "That is too short to tell whether global means stay where the truth has them: 10 days outside count.",
        "Fine-scale amplitude in days 1 to 9 is 0.90 to 1.00 times the truth's, farthest off in Z500.",
    )
    stopped = run.assign(global_mean=run["global_mean"].where(run["lead_time"] <= np.timedelta64(35, "D")))
    assert describe_long_run(stopped)[-1].startswith("Fine-scale amplitude in days 31 to 35 is")
    body = write_report(scores, tmp_path / "run.html", long_run=run).read_text(encoding="utf-8")
    assert "Network was left to itself for 60 days" in body
    assert 'id="h-long-run"' in body and 'aria-labelledby="h-long-run" hidden' not in body
    without = write_report(scores, tmp_path / "run.html").read_text(encoding="utf-8")
    assert 'aria-labelledby="h-long-run" hidden' in without


def test_a_run_that_ends_early_does_not_make_the_others_short_and_large_and_small_ratios_are_as_far_off():
    run = made_up_long_run("").assign(days_finite=("init_time", [np.inf, 4.0]))
    run["fine_scale_ratio"][1] = [1.6, 0.5]
    told = " ".join(describe_long_run(run))
    assert "too short" not in told
    assert "is 0.50 to 1.60 times the truth's, farthest off in near-surface temperature" in told.replace("Near", "near")


def test_the_numbers_of_a_long_run_are_those_that_were_measured():
    run = made_up_long_run("").assign(truth_highest=5.0 + made_up_long_run("")["truth_highest"])
    packed = pack_long_run(run, [HEADLINE[1], "T500", HEADLINE[0]])
    assert packed["variables"] == [0, 2] and packed["windows"] == [0, 30]
    assert packed["days"][:2] == [1, 2] and packed["starts"] == ["2001-06-01 00", "2001-06-11 00"]
    for key in ("global_mean", "truth_mean", "truth_lowest", "truth_highest", "zonal_bias", "fine_scale_ratio"):
        found = unpack(packed[key])
        for row, variable in zip(found, HEADLINE[::-1], strict=True):
            np.testing.assert_allclose(row, run[key].sel(variable=variable), rtol=1e-6, err_msg=key)
    assert pack_long_run(run, ["T500"]) is None


@needs_browser
def test_a_long_run_is_shown_beside_the_truth(window, experiment, tmp_path):
    run = made_up_long_run(experiment[2].attrs["data_hash"])
    window.open(write_report(experiment[2], tmp_path / "run.html", long_run=run))
    assert window.run("return document.querySelectorAll('#long-run-zonal rect').length") == 18
    before = window.run("return document.querySelector('#long-run-means').innerHTML")
    window.choose("#controls label:nth-child(3) select", "Near-surface temperature")
    assert window.run("return document.querySelector('#long-run-means').innerHTML") != before
    window.choose("#controls label:nth-child(3) select", "T500")
    assert "Of T500 the long run kept nothing" in text_of(window, "#long-run-caption")
    assert window.complaints() == []


@needs_browser
def test_a_range_that_is_not_known_in_between_is_not_shaded_there(window, experiment, tmp_path):
    run = made_up_long_run(experiment[2].attrs["data_hash"])
    day = run["lead_time"] / np.timedelta64(1, "D")
    truth = {key: run[key].where((day < 10) | (day > 20)) for key in ("truth_mean", "truth_lowest", "truth_highest")}
    window.open(write_report(experiment[2], tmp_path / "run.html", long_run=run.assign(truth)))
    shaded = window.run("return document.querySelector('#long-run-means path').getAttribute('d')")
    assert shaded.count("M") == shaded.count("Z") == 2


@needs_browser
def test_hostile_names_stay_text_in_the_browser(window, experiment, tmp_path):
    names = [HOSTILE, "physics_" + HOSTILE, "persistence", "climatology"]
    scores = experiment[2].assign_coords(forecaster=names, reference=names)
    window.open(write_report(scores, tmp_path / "hostile.html"))
    assert window.complaints() == []
    assert window.run("return document.querySelectorAll('img').length") == 0
    assert "onerror" in window.run("return document.querySelector('#controls select').options[0].text")
    assert not window.run("return document.querySelector('#h-maps').closest('section').checkVisibility()")


def test_maps_spectra_and_long_runs_of_a_page_are_in_hectopascals(made):
    """As if all variables were pressures; those of the small experiment are shown in the units of its files."""
    both = made, in_pascal(made)
    one, other = (collect_fields(m.scores, m.paths, m.store) for m in both)
    for group in ("example", "mean"):
        ours, theirs = (getattr(fields, group)["variables"][HEADLINE[0]] for fields in (one, other))
        for key in ours.keys() & {"rmse", "least", "most", "largest", "reach"}:
            np.testing.assert_allclose(theirs[key], 0.01 * np.asarray(ours[key]), rtol=1e-5, err_msg=key)
    spectra = [numbers(m.scores, Shown.of(m.scores), "physics_t21", None, None)["spectra"] for m in both]
    for key in ("truth", "forecast"):
        np.testing.assert_allclose(unpack(spectra[1][key]), 1e-4 * unpack(spectra[0][key]), rtol=1e-5)
    run = made_up_long_run("")
    names = run["variable"].values.tolist()
    in_kelvin, in_pascals = (
        pack_long_run(run.assign_coords(units=("variable", [unit] * len(names))), names) for unit in ("K", "Pa")
    )
    for key in ("global_mean", "zonal_bias"):
        np.testing.assert_allclose(unpack(in_pascals[key]), 0.01 * unpack(in_kelvin[key]), rtol=1e-5)


def test_coasts_are_the_right_way_up():
    land = np.zeros((8, 16))
    land[6:, 3:9] = 1.0  # in the north
    (line,) = _coast(SimpleNamespace(land_share=land))
    assert (line[:, 1] < 0.3).all() and line[:, 0].max() < 0.6
