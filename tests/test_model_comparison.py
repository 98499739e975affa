"""Comparing networks over the same time: recipes that fill it, going on, one table; every kind fits the training."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny_store import SPEC, write_store

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.config import GraphConfig, RolloutStage, SpectralConfig, TrainConfig, TransformerConfig, save_config
from emulator.config import parse_config as parse
from emulator.studies import model_comparison
from emulator.studies.model_comparison import Entrant, Result, compare, main, stretch, table
from emulator.training.devices import WHOLE
from emulator.training.job import plan, set_up
from emulator.training.loader import Batch

MODEL_FILES = sorted((Path(__file__).parent.parent / "configs" / "models").rglob("*.yaml"))

EXPERIMENT = {
    "name": "tiny",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 30, "warmup": 3}, {"steps": 10, "rollout": 2}], "batch_size": 4},
}


@pytest.fixture
def folder(tmp_path):
    write_store(tmp_path / "store.zarr", Grid.gaussian(6), n_times=8)
    save_config(parse({**EXPERIMENT, "workdir": str(tmp_path)}), tmp_path / "tiny.yaml")
    (tmp_path / "narrow.yaml").write_text("model: {kind: unet, width: 4, multipliers: [1], blocks: 1}")
    (tmp_path / "mesh.yaml").write_text(
        "model: {kind: graph, width: 4, depth: 1, refinement: 0}\ntrain: {stages: [{steps: 5}], batch_size: 2}"
    )
    return tmp_path


@pytest.fixture
def training(monkeypatch):
    """A training that takes 0.5 s a model step, without taking it; keeps what was asked."""
    calls = []

    def train(config, model, store_path, run_dir, seed, experiment):
        run_dir.mkdir(parents=True, exist_ok=True)
        calls.append((run_dir.name, model.kind, config))
        entries, step, lengths = [], 0, []
        for span in plan(config, model, open_store(store_path), seed):
            for number in range(span.stop - span.start):
                step += 1
                lengths.append(span.windows.shape(number).model_steps)
                if step % config.log_every == 0:
                    seconds = 0.5 * sum(lengths[-config.log_every :]) / config.log_every
                    entries.append({"kind": "train", "step": step, "seconds_per_step": seconds})
        worse, loss = {"unet": (1.5, 1.0), "graph": (1.0, 2.0)}[model.kind]  # losses of their own
        rmse = {"temperature@500": [2.0 * worse, 4.0 * worse], "specific_humidity@850": [1e-3, 2e-3]}
        entries.append({"kind": "validation", "step": step, "loss": loss, "lead_hours": [6.0, 12.0], "rmse": rmse})
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))

    monkeypatch.setattr(model_comparison, "train", train)
    return calls


def test_stages_are_stretched_in_proportion_to_fill_the_time():
    config = TrainConfig(stages=[RolloutStage(steps=30), RolloutStage(steps=10, rollout=2)])
    recipe = stretch(config, [0.5, 1.0], 100.0)
    assert [s.steps for s in recipe.stages] == [120, 40]  # 60 s and 40 s
    assert recipe.stages[1].rollout == 2
    assert recipe.validate_every == recipe.checkpoint_every == 40  # four times in all
    assert [s.steps for s in stretch(config, [0.5, 1.0], 0.1).stages] == [1, 1]


def test_a_comparison_takes_paces_trains_and_tells(folder, training, capsys):
    arguments = [str(folder / "tiny.yaml"), "--models", str(folder / "narrow.yaml"), str(folder / "mesh.yaml")]
    assert main([*arguments, "--minutes", "2"]) == 0
    assert [(name, kind) for name, kind, _ in training] == [
        ("pace", "unet"),
        ("run", "unet"),
        ("pace", "graph"),
        ("run", "graph"),
    ]
    unet, mesh = training[1][2], training[3][2]
    # one could not be shared by several devices
    assert [c.validation_windows for _, _, c in training] == [unet.validation_windows] * 4
    assert [s.steps for s in unet.stages] == [144, 48]  # 72 s and 48 s
    assert (mesh.batch_size, [s.steps for s in mesh.stages]) == (2, [240])
    shown = capsys.readouterr().out
    assert shown.strip() == (folder / "comparison" / "table.md").read_text().strip()
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows] == ["model", "---", "mesh", "narrow"]  # the better one first
    assert "2/4" in rows[2] and "| 240 |" in rows[2] and "| 2.0 |" in rows[2]
    assert "| 1.000 |" in rows[2] and f"| {1.5**0.5:.3f} |" in rows[3]

    assert main([*arguments, "--minutes", "2"]) == 0  # goes on: nobody's pace is taken again
    assert [name for name, _, _ in training[4:]] == ["run", "run"]
    assert [c.stages for _, _, c in training[4:]] == [unet.stages, mesh.stages]


def test_the_pace_of_rollouts_of_random_length_is_that_of_their_mean(folder, training):
    stages = "train.stages=[{steps: 5}, {steps: 5, rollout: 4, random_length: true}]"
    entrant = Entrant.of(folder / "tiny.yaml", folder / "narrow.yaml", [stages])
    paces = model_comparison._pace(entrant, open_store(folder / "store.zarr"), folder / "pace")
    assert paces == pytest.approx([0.5, 0.5 * (1 + 2 + 3 + 4) / 4])


def test_the_pace_is_the_best_behind_the_first_steps(folder, monkeypatch):
    def train(config, model, store_path, run_dir, *_):
        run_dir.mkdir(parents=True)
        paces = {5: 0.1, 10: 0.5, 15: 0.7, 20: 0.2, 25: 0.9, 30: 0.8}  # of two stages; what came first is not counted
        entries = [{"kind": "train", "step": step, "seconds_per_step": pace} for step, pace in paces.items()]
        (run_dir / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))

    monkeypatch.setattr(model_comparison, "train", train)
    entrant = Entrant.of(folder / "tiny.yaml", folder / "narrow.yaml", ["train.stages=[{steps: 5}, {steps: 5}]"])
    assert model_comparison._pace(entrant, open_store(folder / "store.zarr"), folder / "pace") == [0.5, 0.8]


def test_a_result_is_of_the_last_validation(folder, training):
    entrant = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", [])
    compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")
    metrics = folder / "comparison" / "mesh" / "run" / "metrics.jsonl"
    *_, last = metrics.read_text().splitlines()
    metrics.write_text(last.replace("[2.0, 4.0]", "[8.0, 9.0]") + "\n" + metrics.read_text())
    result = model_comparison._result(entrant, open_store(folder / "store.zarr"), metrics.parent)
    assert result.rmse["temperature@500"] == {6.0: 2.0, 12.0: 4.0}


def test_what_was_made_of_other_data_or_at_another_speed_is_not_mixed_in(folder, training):
    write_store(folder / "other.zarr", Grid.gaussian(6), n_times=9)
    entrant = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", [])
    slower = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", ["train.rematerialise=true"])
    compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")
    for one, store in ((entrant, "other.zarr"), (slower, "store.zarr")):
        with pytest.raises(DataError, match="made for other minutes, data, another network or recipe"):
            compare([one], 2.0, folder / store, folder / "comparison")


def test_another_time_or_recipe_is_not_mixed_in(folder, training):
    entrant = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", [])
    compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")
    with pytest.raises(DataError, match=r"made for other minutes, data, another network or recipe; remove .*mesh"):
        compare([entrant], 3.0, folder / "store.zarr", folder / "comparison")
    (folder / "comparison" / "mesh" / "recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"recipe.json: damaged.*; remove .*mesh"):
        compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")


def test_what_an_earlier_or_later_version_made_is_known_again(folder, training):
    """It knew other keys: the values of those that it did not know are the defaults."""
    entrant = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", ["train.log_every=5"])
    again = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", ["train.log_every=10"])
    file = folder / "comparison" / "mesh" / "recipe.json"
    compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")
    kept = json.loads(file.read_text())
    sections = {"train": entrant.experiment.train, "model": entrant.experiment.model}
    for left_out in ([], ["input_noise", "max_skipped"]):
        full = {name: section.model_dump(mode="json") for name, section in sections.items()}
        full["train"] = {key: value for key, value in full["train"].items() if key not in left_out}
        file.write_text(json.dumps(kept | {"asked": kept["asked"] | full}))
        compare([again], 2.0, folder / "store.zarr", folder / "comparison")
    assert [name for name, _, _ in training] == ["pace", "run", "run", "run"]
    for changed in ({"train": full["train"] | {"key_of_tomorrow": 1}}, {"train": full["train"] | {"accumulate": 2}}):
        file.write_text(json.dumps(kept | {"asked": kept["asked"] | changed}))
        with pytest.raises(DataError, match="made for other minutes, data, another network or recipe"):
            compare([again], 2.0, folder / "store.zarr", folder / "comparison")


def test_what_is_wrong_is_one_line(folder, training, capsys):
    (folder / "typo.yaml").write_text("model: {kind: graph, widht: 4}")
    (folder / "other.yaml").write_text("model: {kind: graph}\ndata: {}")
    for files, expected in (
        (["typo.yaml"], "did you mean model.width?"),
        (["other.yaml"], "expected the sections model and train, found model, data"),
        (["mesh.yaml", "mesh.yaml"], "names must differ, got mesh, mesh"),
        (["absent.yaml"], "absent.yaml: cannot be read"),
    ):
        paths = [str(folder / f) for f in files]
        assert main([str(folder / "tiny.yaml"), "--models", *paths, "--minutes", "1"]) != 0
        assert expected in capsys.readouterr().err
    for wrong in ("0", "nan", "inf"):
        with pytest.raises(SystemExit):
            main([str(folder / "tiny.yaml"), "--models", str(folder / "mesh.yaml"), "--minutes", wrong])
        assert f"'{wrong}': expected a number of minutes above 0" in capsys.readouterr().err


def test_parameters_and_arithmetic_stand_in_the_table(folder, training):
    entrant = Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", [])
    (result,) = compare([entrant], 2.0, folder / "store.zarr", folder / "comparison")
    assert result.parameters > 100
    assert result.gflops > 0
    assert f"| {result.gflops:.2f} |" in table([result])


def test_a_network_whose_forecast_broke_down_is_last(folder, training):
    results = compare(
        [Entrant.of(folder / "tiny.yaml", folder / name, []) for name in ("mesh.yaml", "narrow.yaml")],
        2.0,
        folder / "store.zarr",
        folder / "comparison",
    )
    metrics = folder / "comparison" / "mesh" / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("[2.0, 4.0]", "[2.0, null]"))
    results[0] = model_comparison._result(
        Entrant.of(folder / "tiny.yaml", folder / "mesh.yaml", []), open_store(folder / "store.zarr"), metrics.parent
    )
    rows = table(results).splitlines()
    assert rows[2].startswith("| narrow") and "| inf |" in rows[3] and "2/inf" in rows[3]


def test_variables_that_one_recipe_alone_verifies_are_left_out_of_the_table():
    shared = {"temperature@500": {6.0: 2.0}}
    more = Result("more", 1, 1.0, 1, 1.0, shared | {"geopotential@500": {6.0: 90.0}})
    text = table([more, Result("less", 1, 1.0, 1, 1.0, {"temperature@500": {6.0: 3.0}})])
    assert "geopotential" not in text
    assert "| 1.000 | 2 |" in text and "| 1.500 | 3 |" in text


def test_the_error_of_the_table_is_of_the_leads_that_all_have():
    longer = Result("longer", 1, 1.0, 1, 1.0, {"temperature@500": {6.0: 2.0, 12.0: 90.0}})
    text = table([longer, Result("shorter", 1, 1.0, 1, 1.0, {"temperature@500": {6.0: 3.0}})])
    assert "temperature@500 at 6 h |" in text and "| 1.000 | 2 |" in text and "| 1.500 | 3 |" in text


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_model_files_of_the_repository_are_valid(path):
    assert Entrant.of("demo", path, []).experiment.model.kind in ("unet", "transformer", "spectral", "graph")


@pytest.mark.parametrize(
    "model",
    [
        TransformerConfig(kind="transformer", width=16, depth=2, heads=2),
        TransformerConfig(kind="transformer", width=16, depth=2, heads=2, attention="windowed", window=[2, 4]),
        SpectralConfig(kind="spectral", width=16, depth=2),
        GraphConfig(kind="graph", width=16, depth=2, refinement=1),
    ],
    ids=["global", "windowed", "spectral", "graph"],
)
def test_every_kind_fits_the_training_step(tmp_path, model):
    store = write_store(tmp_path / "store.zarr", Grid.gaussian(8), n_times=8)
    stages = [RolloutStage(steps=2, rollout=2)]
    config = TrainConfig(
        stages=stages, batch_size=2, optimiser="muon", precision="bfloat16", rematerialise=True, validation_steps=2
    )
    job = set_up(config, model, store, 0)
    state = job.layout.place(job.fresh, WHOLE)
    n_forcing = len(SPEC.forcing_channels)
    states, forcing = jnp.zeros((2, 3, 8, 16, len(SPEC.state_channels))), jnp.zeros((2, 2, 8, 16, n_forcing))
    batch = Batch(states, forcing, jnp.zeros(2, jnp.int32))
    after, norms = jax.eval_shape(job.step, state, batch, job.task)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert norms.loss.dtype == jnp.float32
