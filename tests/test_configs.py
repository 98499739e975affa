"""The schema is strict, its messages help, and every config in the repository fits it."""

from pathlib import Path

import pytest

from data_prep.errors import ConfigError
from emulator.config import (
    RolloutStage,
    SimulateConfig,
    TrainConfig,
    load_config,
    parse_config,
    save_config,
    shipped_configs,
)

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))

MINIMAL = {
    "name": "tiny",
    "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [1]}}},
    "train": {"stages": [{"steps": 3}]},
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_in_the_repository_is_valid(path):
    config = load_config(path)
    assert config.name == path.stem


def test_no_day_is_kept_of_a_truth_that_has_not_settled():
    """From rest SPEEDY's winds take 100 days, its uppermost layer 300 (docs/beware.md); at 150 that is 2 K too warm."""
    truths = [config.simulate for path in CONFIGS if (config := load_config(path)).simulate is not None]
    assert len(truths) >= 4
    for truth in (*truths, SimulateConfig()):
        assert truth.develop_days + truth.spinup_days >= 150


def test_shipped_configs_are_those_of_the_repository():
    assert shipped_configs() == [p.stem for p in CONFIGS]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("modl.width=3", "modl: no such key; did you mean model?"),
        ("train.stages.²=3", "train.stages is a list of 1; '²' is no index of it"),
        ("train.stages[0].steps=3", "places in a list are keys like others; did you mean train.stages.0.steps?"),
        ("train.stages.0.stepz=3", "train.stages.0.stepz: no such key; did you mean train.stages.0.steps?"),
        ("data.prognostic.temperature.sorce=x", "did you mean data.prognostic.temperature.source?"),
        ("evaluate.physics=[{trunc: 21}]", "did you mean evaluate.physics.0.truncation?"),
        ("simulate.truncation=20", "simulate.truncation: input should be 21, 31, 42, 63 or 85, got 20"),
        ("train.batch_size='8'", "train.batch_size: input should be a valid integer, got '8'"),
        ("train.batch_size=0", "train.batch_size: input should be greater than 0, got 0"),
        ("train.batch_size=100000000000000000000", "train.batch_size: 100000000000000000000 is too many, 2147483647"),
        ("model.width=131073", "model.width: 131073 is too many, 131072 are the most"),
        ("model.multipliers=[1, 1025]", "model.multipliers.1: 1025 is too many, 1024 are the most"),
        ("train.accumulate=3", "train: accumulate 3 does not divide batch_size 16"),
        ("data.inputs=[]", "data.inputs: list should have at least 1 item"),
        (
            "data.split={train: [2013-01-01, 2012-01-01], validation: [a, b], test: [a, b]}",
            "train: 2013-01-01 is after 2012-01-01",
        ),
        (
            "data.split={train: [2013-01-01T03:00+02:00, 2012-12-31], validation: [a, b], test: [a, b]}",
            "train: 2013-01-01T03:00+02:00 is after 2012-12-31",  # with and without a zone
        ),
        ("data.split={train: [2013-01-01, 2014-01-01]}", "missing test, validation"),
        ("data.exclude=[[2013-01-01T00Z, now]]", "exclude: 'now' is no time; write it like 2001-01-31"),
        (
            "data.exclude=['2013-03-01', '2013-03-02']",
            "data.exclude.0: expected [from, to], such as [2001-01-03, 2001-01-05T06], got '2013-03-01' (and 1 more)",
        ),
        (
            "data.exclude=[[2013-03-01]]",
            "data.exclude.0: expected [from, to], such as [2001-01-03, 2001-01-05T06], got [",
        ),
        ("data.exclude=[[0001-01-01, 2001-01-01]]", "exclude: '0001-01-01' lies outside the years 1678 to 2261"),
        ("simulate.start=NaT", "simulate.start: 'NaT' is no time; write it like 2001-01-31 or 2001-01-31T06:00"),
        (
            "evaluate={lead_hours: 100, lead_step_hours: 24}",
            "lead_hours 100 is no multiple of lead_step_hours 24",
        ),
        (
            "evaluate={lead_hours: 12, lead_step_hours: 24}",
            "lead_hours 12 is no multiple of lead_step_hours 24",
        ),
        ("simulate.start=today", "simulate.start: 'today' is no time"),
        ("simulate={time_step_minutes: 25}", "simulate: time_step_minutes 25 does not divide the 360 minutes of"),
        ("simulate={output_truncation: 42}", "simulate: output_truncation 42 exceeds truncation 31"),
        (
            "model={kind: transfomer}",
            "model: kind should be unet, transformer, spectral or graph, got {'kind': 'transfomer'}",
        ),
        ("model.time_steps=[2, 4]", "model.time_steps: [2, 4] must begin with 1 and be ascending multiples"),
        ("model.time_steps=[1, 4, 6]", "model.time_steps: [1, 4, 6] must begin with 1 and be ascending multiples"),
        ("model.time_steps=[1, 4, 4]", "model.time_steps: [1, 4, 4] must begin with 1 and be ascending multiples"),
        ("model.time_steps=[]", "model.time_steps: [] must begin with 1 and be ascending multiples"),
        (
            "train.stages=[{steps: 1}, {steps: 1, time_steps: [1, 4]}]",
            "train.stages.1.time_steps: 4 is none of model.time_steps [1]",
        ),
        ("model={kind: graph, depht: 3}", "model.depht: no such key; did you mean model.depth?"),
        ("model={kind: graph, multipliers: [1]}", "model.multipliers: no such key"),
        ("model.widht=3", "model.widht: no such key; did you mean model.width?"),  # a U-Net where no kind is named
        ("model={kind: transformer, heads: 7}", "model: width 512 must be a multiple of 4 * heads (28)"),
        ("model={kind: transformer, window: [3, 4]}", "model: window [3, 4] must have even sides"),
        ("model={kind: spectral, truncation: 0}", "model.truncation: input should be greater than 0, got 0"),
        ("model.multipliers=[]", "model.multipliers: list should have at least 1 item"),
        ("model={kind: spectral, mlp_ratio: .inf}", "model.mlp_ratio: input should be a finite number, got inf"),
        ("train.input_noise=.inf", "train.input_noise: input should be a finite number, got inf"),
        ("data.timestep_hours=.inf", "data.timestep_hours: input should be a finite number, got inf"),
        ("data.timestep_hours=1e300", "data.timestep_hours: input should be less than or equal to 8784, got 1e+300"),
        ("data.prognostic.temperature.minimum=.nan", "temperature.minimum: input should be a finite number, got nan"),
        ("seed=4294967296", "seed: input should be less than 4294967296"),  # which JAX takes for 0
        ("name=../escape", "name: string should match pattern"),
        (
            "evaluate.regions={Alps: {latitude: [44, 48], longitude: [5, 15]}}",
            "a region is named in lower-case letters",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_its_dotted_path(tmp_path, override, expected):
    path = tmp_path / "tiny.yaml"
    save_config(parse_config(MINIMAL), path)
    with pytest.raises(ConfigError) as error:
        load_config(path, [override])
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_products_of_half_precision_are_of_the_network_that_has_them(tmp_path):
    path = tmp_path / "tiny.yaml"
    save_config(parse_config(MINIMAL), path)
    assert load_config(path, ["train.precision=bfloat16_products"]).train.precision == "bfloat16_products"
    with pytest.raises(ConfigError, match="bfloat16_products is of a U-Net's convolutions, not of graph; choose"):
        load_config(path, ["train.precision=bfloat16_products", "model={kind: graph}"])


def test_a_batch_size_that_no_stage_has_need_not_be_divided():
    config = TrainConfig(
        accumulate=3, stages=[RolloutStage(steps=1, batch_size=6), RolloutStage(steps=1, batch_size=3)]
    )
    assert config.batch_sizes == [6, 3]


def test_numbers_and_dates_are_read_as_people_write_them(tmp_path):
    path = tmp_path / "tiny.yaml"
    save_config(parse_config(MINIMAL), path)
    config = load_config(
        path, ["train.stages.0.learning_rate=1e-3", "simulate.start=1901-01-01", "train.weight_decay=5.e-2"]
    )
    assert config.train.stages[0].learning_rate == 1e-3
    assert config.train.weight_decay == 0.05
    assert config.simulate is not None
    assert config.simulate.start == "1901-01-01"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("name: tiny\ntrain: {batch_size: 2}\ntrain: {accumulate: 2}", "train"),
        ("name: tiny\nevaluate: {max_inits: 3, batch: 2, max_inits: 4}", "max_inits"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_and_not_the_first_of_them_forgotten(tmp_path, text, key):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"twice.yaml: not valid YAML: {key} is there twice.* line [23]"):
        load_config(path)


def test_keys_of_a_merge_may_be_replaced(tmp_path):
    path = tmp_path / "merged.yaml"
    save_config(parse_config(MINIMAL), path)
    merged = "[&first {steps: 3, warmup: 1}, {<<: *first, steps: 4}]"
    assert [s.steps for s in load_config(path, [f"train.stages={merged}"]).train.stages] == [3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "not valid YAML"),
        ("[1, 2]", "found a list"),
        ("just words", "found a single value"),
        ("a: b: c", "not valid YAML"),
        ("", "found nothing"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(tmp_path, text, said):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        load_config(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tiny", "2020", "1e3", "2020-01-01", "no"])
def test_a_saved_config_reads_back_equal(tmp_path, name):
    config = parse_config({**MINIMAL, "name": name})
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
