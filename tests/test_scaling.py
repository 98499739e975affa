"""Points of the scaling curves: what they are made of, how data are thinned, the slope, the picture."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_store import write_store

from data_prep.clock import sample
from data_prep.errors import ConfigError, DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.config import parse_config, save_config
from emulator.studies import scaling
from emulator.studies.scaling import (
    curves,
    fit,
    frontier,
    main,
    measure,
    plot,
    read_points,
    tell,
    thinned,
    training_years,
)
from emulator.training.validation import Skill, Validation

EXPERIMENT = {
    "name": "tiny",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "model": {"kind": "unet", "width": 16, "multipliers": [1], "blocks": 1},
    "train": {
        "batch_size": 4,
        "optimiser": "muon",
        "ema_decay": 0.9,
        "stages": [{"steps": 5, "rollout": 2, "free_steps": 1, "learning_rate": 2e-2, "warmup": 1}],
        "validation_windows": 4,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling")
    write_store(folder / "store.zarr", Grid.gaussian(6), n_times=40)
    save_config(parse_config({**EXPERIMENT, "workdir": str(folder)}), folder / "tiny.yaml")
    return folder


@pytest.fixture(scope="module")
def points(folder):
    """A point of no worth, and one that learned."""
    file = folder / "points.jsonl"
    assert main(["measure", str(folder / "tiny.yaml"), "--steps", "1", "200", "--points", str(file)]) == 0
    return read_points(file)


def test_a_point_says_what_it_was_made_of(points):
    short, long = points
    assert (short.steps, long.steps, long.batch_size) == (1, 200, 4)
    assert (long.optimiser, long.learning_rate) == ("muon", 2e-2)
    assert long.operations == pytest.approx(200 * short.operations)
    assert long.parameters == short.parameters > 100
    assert long.years == pytest.approx(80 / 1461, abs=1e-3)
    assert long.seconds > 0
    assert long.recipe == {"ema_decay": 0.9, "warmup": 1}
    assert not {"rollout", "free_steps"} & set(long.recipe)  # points are of single steps, whose operations are counted


def test_a_point_of_before_a_key_of_the_model_is_read_with_what_it_stood_for(points, tmp_path):
    line = dataclasses.asdict(points[1])
    del line["model"]["time_steps"]
    (tmp_path / "old.jsonl").write_text(json.dumps(line))
    assert read_points(tmp_path / "old.jsonl") == [points[1]]
    (tmp_path / "none.jsonl").write_text('{"steps": 3}')
    with pytest.raises(DataError, match="no file of scaling points"):
        read_points(tmp_path / "none.jsonl")


def test_more_steps_have_a_lower_error(points):
    """Waves that travel steadily can be learned; what has seen one batch is about as good as persistence."""
    short, long = points
    assert long.score < 0.8 * short.score


def test_the_score_of_anomalies_is_over_the_error_of_climatology(folder, monkeypatch):
    """Of a forecast whose error is one everywhere three days ahead; climatology's is worked out here, from fields."""
    train = {**EXPERIMENT["train"], "anomalies": True}
    config = parse_config({**EXPERIMENT, "train": train, "workdir": str(folder)})
    errors, activity = np.repeat(np.arange(1, 13)[:, None] / 12, 4, axis=1), np.ones((12, 4))
    activity[-1] = [3.0, 7.0, 2.0, 100.0]  # the last is no prognostic channel
    monkeypatch.setattr(scaling, "_learn", lambda job, programs, state: (state, 1.0))
    monkeypatch.setattr(
        Validation, "run", lambda v, *_: Skill(1.0, errors, activity, v.store.timestep, v.store.spec.state_channels)
    )
    store = open_store(folder / "store.zarr")
    starts = store.windows("validation", 13)
    last = starts[sample(store.times[starts], 4)] + 12
    error = store.take_states(last) - store.climatology.at(store.times[last])
    climate = np.sqrt((store.grid.latitude_weights[:, None, None] * error**2).mean((0, 1, 2)))
    point = measure(config, 1, None, 0)
    assert point.score == pytest.approx(np.mean(1 / climate[:3]), rel=1e-4)
    assert point.activity == 3.0


def test_a_point_is_of_its_own_seed_and_of_the_averaged_weights(folder, monkeypatch):
    begun, scored = [], []

    def learn(job, programs, state):
        begun.append(jax.tree.leaves(state.params))
        return SimpleNamespace(params=state.params, averaged="the average"), 1.0

    def run(validation, params, _):
        scored.append(params)
        return Skill(1.0, np.ones((12, 4)), np.ones((12, 4)), validation.store.timestep, ())

    monkeypatch.setattr(scaling, "_learn", learn)
    monkeypatch.setattr(Validation, "run", run)
    config = parse_config({**EXPERIMENT, "workdir": str(folder)})
    assert [measure(config, 1, None, seed).seed for seed in (0, 7)] == [0, 7]
    assert any(not np.array_equal(a, b) for a, b in zip(*begun, strict=True))
    assert scored == ["the average"] * 2


def test_thinned_data_are_spread_over_all_there_are(tmp_path):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(4), n_times=300)
    half = thinned(store, training_years(store) / 2)
    assert training_years(half) == pytest.approx(training_years(store) / 2)
    starts = half.windows("train", 3)
    assert np.isin(starts, store.windows("train", 3)).all()
    days = (store.times[starts] - store.times[starts].min()) / np.timedelta64(1, "D")
    assert days[days < 100].max() > 60  # blocks from the whole of the first segment
    assert np.array_equal(half.windows("validation", 3), store.windows("validation", 3))
    with pytest.raises(ConfigError, match="--years 9: expected more than 0, at most"):
        thinned(store, 9.0)


def test_what_is_left_of_a_block_is_thinned_in_proportion_and_reaches_into_no_other_segment(tmp_path):
    """Blocks are of 120 times: of 305 there are two and 65 times, of 241 a single time is left that is no block."""
    for n_times, stops in ((305, [(0, 60), (120, 180), (240, 272)]), (241, [(0, 60), (120, 180)])):
        store = write_store(tmp_path / f"{n_times}.zarr", Grid.gaussian(4), n_times=n_times)
        half = thinned(store, training_years(store) / 2)
        first = [(s.start, s.stop) for s in half.segments if s.start < n_times]
        assert first == stops
        whole = {s.split: s for s in store.segments[1:]}
        assert all(s.start >= n_times for s in half.segments[len(stops) :]) and half.segments[-1] == whole["validation"]


def test_a_seed_that_nothing_can_be_drawn_from_is_refused(folder, capsys):
    words = [str(folder / "tiny.yaml"), "--steps", "2", "--seed", "-1", "--points", str(folder / "none.jsonl")]
    assert main(["measure", *words]) == 2
    assert "--seed -1: expected 0 or more" in capsys.readouterr().err


def test_a_point_that_takes_too_long_is_refused(folder, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "_MOST_SECONDS", 1e-6)
    file = folder / "none.jsonl"
    code = main(["measure", str(folder / "tiny.yaml"), "--steps", "9", "--points", str(file)])
    assert code == 2
    assert "--steps 9: would take" in capsys.readouterr().err
    assert not file.exists()


def test_the_steps_that_a_point_may_take_follow_from_the_pace_behind_the_first_one(monkeypatch):
    """A first step of 50 s, then 2 s each."""
    clock = [0.0]

    def program(state, batch, task):
        clock[0] += 2.0 if clock[0] else 50.0
        return state, 0.0

    span = SimpleNamespace(start=0, stop=100, shape=lambda _: None, batches=lambda steps, _: (None for _ in steps))
    monkeypatch.setattr(scaling, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    with pytest.raises(ConfigError, match="--steps 100: would take 200 s, a point may take 90; take at most 45"):
        scaling._learn(
            SimpleNamespace(spans=[span], layout=None, task=None), SimpleNamespace(of=lambda _: program), 0.0
        )


def test_forecasts_that_blew_up_make_no_point(folder, monkeypatch):
    lost = np.full((12, 4), np.nan)
    monkeypatch.setattr(scaling, "_learn", lambda job, programs, state: (state, 1.0))
    monkeypatch.setattr(
        Validation, "run", lambda v, *_: Skill(1.0, lost, lost, v.store.timestep, v.store.spec.state_channels)
    )
    with pytest.raises(DataError, match="--steps 3: forecasts with such a network are not finite 72 h ahead"):
        measure(parse_config({**EXPERIMENT, "workdir": str(folder)}), 3, None, 0)


@pytest.mark.parametrize("hours", [5, 120])
def test_steps_that_do_not_come_to_the_lead_make_no_point(folder, monkeypatch, hours):
    """Of 5 h they would come to 70 h, and of five days to none."""
    store = dataclasses.replace(open_store(folder / "store.zarr"), timestep=np.timedelta64(hours * 3600 * 10**9, "ns"))
    monkeypatch.setattr(scaling, "open_for_training", lambda _: store)
    with pytest.raises(DataError, match=f"steps of {hours} h do not come to the 72 h"):
        measure(parse_config({**EXPERIMENT, "workdir": str(folder)}), 1, None, 0)


def test_no_steps_make_no_point(capsys):
    with pytest.raises(SystemExit):
        main(["measure", "tiny.yaml", "--steps", "0"])
    assert "argument --steps: '0': expected a number from 1 up" in capsys.readouterr().err


def test_a_point_that_cannot_be_kept_is_not_made(folder, monkeypatch, capsys, points, tmp_path):
    words = ["measure", str(folder / "tiny.yaml"), "--steps", "9", "--points"]
    monkeypatch.setattr(scaling, "measure", lambda *_: pytest.fail("there was work"))
    for bad in (tmp_path / "docs" / "points.jsonl", tmp_path):
        assert main([*words, str(bad)]) == 2
        assert f"--points {bad}: cannot be written" in capsys.readouterr().err
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(scaling, "measure", lambda *_: [(tmp_path / "docs").rmdir(), points[0]][1])
    assert main([*words, str(tmp_path / "docs" / "points.jsonl")]) == 1
    out, log = capsys.readouterr()
    assert json.loads(out) == dataclasses.asdict(points[0]) and "cannot be written" in log


def test_the_slope_is_found_with_an_interval_that_holds_it():
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    exact = fit(x, 3 * x**-0.2)
    assert (exact.exponent, exact.factor) == pytest.approx((-0.2, 3.0))
    assert exact.upper - exact.lower < 1e-6
    noisy = fit(x, 3 * x**-0.2 * np.exp([0.02, -0.03, 0.01, 0.02, -0.02]))
    assert noisy.lower < -0.2 < noisy.upper
    assert fit([1.0, 2.0], [2.0, 1.0]).upper == np.inf
    with pytest.raises(DataError, match="two different places"):
        fit([1.0, 1.0], [2.0, 1.0])


def test_the_interval_covers_the_slope_as_often_as_it_says():
    rng, x = np.random.default_rng(0), np.geomspace(1, 100, 6)
    found = [fit(x, x**-0.1 * np.exp(0.05 * rng.standard_normal(6))) for _ in range(400)]
    assert 0.92 < np.mean([s.lower < -0.1 < s.upper for s in found]) < 0.98


def grid_of(point):
    """Networks of 1, 4 and 16 thousand weights trained for 100 to 400 steps, errors by power laws of both."""
    return [
        dataclasses.replace(
            point,
            model={**point.model, "width": width},
            parameters=1000 * width**2,
            steps=steps,
            operations=1e6 * width**2 * steps,
            score=2 * width**-0.2 * steps**-0.1,
        )
        for width in (1, 2, 4)
        for steps in (100, 200, 400)
    ]


def test_points_that_differ_in_one_thing_make_a_curve(points):
    grid = grid_of(points[1])
    by_size = list(curves(grid, "parameters"))
    assert [c.held for c in by_size] == [f"{n} steps, 0.055 years" for n in (100, 200, 400)]
    assert [c.slope.exponent for c in by_size] == pytest.approx([-0.1] * 3)
    by_steps = list(curves(grid, "operations of training"))
    assert [c.slope.exponent for c in by_steps] == pytest.approx([-0.1] * 3)
    assert by_steps[0].x == [1e8, 2e8, 4e8]
    assert not list(curves(grid, "simulated years"))
    strangers = [dataclasses.replace(p, data_hash=str(i)) for i, p in enumerate(grid)]
    assert not list(curves(strangers, "parameters"))


def test_a_curve_holds_all_but_one_thing(points):
    """Of three widths, years and numbers of steps each, with an error by a power of every one of them."""
    every = [
        dataclasses.replace(p, years=years, score=p.score * years**-0.3)
        for p in grid_of(points[1])
        for years in (1, 2, 4)
    ]
    for axis, exponent in (("parameters", -0.1), ("simulated years", -0.3), ("operations of training", -0.1)):
        found = list(curves(every, axis))
        assert [len(c.points) for c in found] == [3] * 9
        assert [c.slope.exponent for c in found] == pytest.approx([exponent] * 9)


def test_two_places_make_no_curve_however_many_seeds_they_have(points):
    two = [p for p in grid_of(points[1]) if p.model["width"] < 4]
    seeds = [dataclasses.replace(p, seed=seed) for p in two for seed in range(3)]
    assert not list(curves(two, "parameters")) and not list(curves(seeds, "parameters"))
    assert [len(c.points) for c in curves(seeds, "operations of training")] == [9, 9]


def test_of_equal_errors_the_cheapest_is_on_the_frontier_which_every_store_has_of_its_own(points):
    cheap, dear = (dataclasses.replace(points[1], operations=n, score=0.25) for n in (1e9, 3e9))
    other = dataclasses.replace(dear, data_hash="other", score=0.75)
    assert frontier([dear, cheap]) == [cheap]
    _, of_first, of_other = tell([cheap, dear, other]).split("\n\n")
    assert of_first.count("| 1.0e+09 |") == 1 and "3.0e+09" not in of_first
    assert of_other.count("| 3.0e+09 |") == 1 and of_other.endswith("| 0.750 |") and "1.0e+09" not in of_other


def test_the_frontier_is_what_nothing_cheaper_beats(points):
    grid = grid_of(points[1])
    best = frontier(grid)
    assert [p.score for p in best] == sorted((p.score for p in best), reverse=True)
    for p in grid:
        assert any(q.operations <= p.operations and q.score <= p.score for q in best)
    assert best[0].operations == 1e8 and best[-1].parameters == 16_000


def test_the_picture_and_the_tables_show_every_curve(points, folder, tmp_path, capsys):
    (tmp_path / "grid.jsonl").write_text("".join(json.dumps(dataclasses.asdict(p)) + "\n" for p in grid_of(points[1])))
    assert main(["plot", str(tmp_path / "scaling.png"), "--points", str(tmp_path / "grid.jsonl")]) == 0
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    assert "| parameters: 1e+03, 4e+03, 1.6e+04 | 400 steps, 0.055 years | 3 | -0.100 [-0.100, -0.100] |" in told
    assert told.count("| operations of training: ") == 3
    assert "| operations | parameters | width | steps | s | least error |" in told
    assert "| operations | parameters | steps | s | least error |" in tell(points)  # two points make no curve
    plot(points, tmp_path / "two.png")
    (tmp_path / "bad.jsonl").write_text(json.dumps({**dataclasses.asdict(points[0]), "colour": "red"}))
    assert main(["plot", str(tmp_path / "p.png"), "--points", str(tmp_path / "bad.jsonl")]) == 1
    assert "no file of scaling points" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1.0}, {"optimiser": "adamw"}, {"batch_size": 999}, {"recipe": {"weight_decay": 0.5}}],
    ids=str,
)
def test_no_curve_joins_points_of_other_recipes(points, change):
    grid = grid_of(points[1])
    for axis in ("parameters", "operations of training"):
        whole = [len(c.points) for c in curves(grid, axis)]
        assert whole and all(count == 3 for count in whole)
        mixed = [p if i % 2 else dataclasses.replace(p, **change) for i, p in enumerate(grid)]
        for curve in curves(mixed, axis):
            assert len({repr([getattr(p, key) for key in change]) for p in curve.points}) == 1
