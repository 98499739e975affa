"""A sponge layer: how fast what departs from climatology decays, where, and who may have one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from tiny_store import TIMESTEP, write_store

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from data_prep.preparation.climatology import Climatology, Season
from data_prep.spec import stack_channels
from emulator.checkpoint import load_forecaster
from emulator.config import RolloutStage, SpongeConfig, TrainConfig, UNetConfig, parse_config
from emulator.evaluation.report_long_run import describe_long_run
from emulator.experiment import comparing, contest
from emulator.experiment.competitors import Competitor
from emulator.run_folder import WEIGHTS
from emulator.stepping.sponge import Sponge
from emulator.training.train import train

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)
LEADS = np.arange(1, 13) * TIMESTEP
WHOLE_YEAR = Season(365.25 / 2, 365.25 / 2)


@pytest.fixture(scope="module", params=[False, True], ids=["fields", "anomalies"])
def silent(request, tmp_path_factory):
    """A store whose climatology covers the year, and a network that says nothing: its state persists."""
    folder = tmp_path_factory.mktemp("run")
    store = write_store(folder / "store.zarr", Grid.gaussian(8))
    config = TrainConfig(anomalies=request.param, batch_size=4, stages=[RolloutStage(steps=1)], validation_windows=2)
    train(config, MODEL, folder / "store.zarr", folder / "run", 0, {"name": "test"})
    forecaster = load_forecaster(folder / "run")
    expected = store.climatology.at(store.times[:1])[0]
    table = np.broadcast_to(expected, (366, 4, *expected.shape))
    climatology = Climatology("day_of_year_hour", np.array([0.0, 6.0, 12.0, 18.0]), WHOLE_YEAR, table)
    forecaster = replace(
        forecaster,
        params=jax.tree.map(jnp.zeros_like, forecaster.params),
        climatology=climatology if request.param else None,
    )
    return replace(store, climatology=climatology), forecaster, expected


def states_of(forecaster, initial):
    return stack_channels(xr.concat(forecaster.forecast(initial, LEADS), "lead_time"), forecaster.spec.state_channels)


def test_departures_of_the_topmost_levels_decay_and_nothing_else_changes(silent):
    store, forecaster, expected = silent
    initial = store.dataset([3, 30])
    held = replace(forecaster, sponge=Sponge.of(SpongeConfig(levels=1, days=2.0), store))
    free, found = states_of(forecaster, initial), states_of(held, initial)
    channels = store.spec.state_channels[: store.spec.n_prognostic]
    top = min(c.level for c in channels if c.level is not None)
    inside = [i for i, c in enumerate(channels) if c.level == top]
    assert inside and len(inside) < len(channels)
    shares = np.exp(-LEADS / TIMESTEP * 0.25 / 2.0)[:, None, None, None]
    np.testing.assert_allclose(
        (found - expected)[..., inside], shares * (free - expected)[..., inside], rtol=1e-3, atol=1e-3
    )
    outside = [i for i in range(free.shape[-1]) if i not in inside]
    np.testing.assert_array_equal(found[..., outside], free[..., outside])


def test_all_levels_may_be_held_but_not_more_and_not_with_half_a_year(silent):
    store, _, _ = silent
    channels = store.spec.state_channels
    n_levels = len({c.level for c in channels[: store.spec.n_prognostic] if c.level is not None})
    rate = Sponge.of(SpongeConfig(levels=n_levels, days=10.0), store).rate
    on_levels = [c.level is not None for c in channels[: store.spec.n_prognostic]]
    np.testing.assert_array_equal(rate[: store.spec.n_prognostic] > 0, on_levels)
    assert not rate[store.spec.n_prognostic :].any()
    with pytest.raises(ConfigError, match=f"{n_levels + 1} are asked for, the state has {n_levels}"):
        Sponge.of(SpongeConfig(levels=n_levels + 1, days=10.0), store)
    summer = replace(store, climatology=replace(store.climatology, season=Season(180.0, 60.0)))
    with pytest.raises(ConfigError, match="cover a part of the year"):
        Sponge.of(SpongeConfig(levels=1, days=10.0), summer)


def config_of(folder, **long_run):
    raw = {
        "name": "x",
        "workdir": str(folder),
        "data": {"inputs": ["a.nc"], "prognostic": {"temperature": {}}, "split": {"segments": {"test": [3]}}},
        "train": {"stages": [{"steps": 1}]},
        "evaluate": {
            "split": "validation",
            "lead_hours": 24,
            "headline": ["temperature@500"],
            "long_run": {"days": 10, "initial_times": 1, **long_run},
        },
    }
    return parse_config(raw)


def test_a_sponge_that_cannot_be_is_refused_before_anything_is_trained(silent, tmp_path, monkeypatch):
    store, _, _ = silent
    monkeypatch.setattr(contest, "open_store", lambda path: store)
    comparing.check_comparison(config_of(tmp_path, sponge={"levels": 2, "days": 2.0}))
    with pytest.raises(ConfigError, match=r"^evaluate\.long_run\.sponge\.levels: 9 are asked for"):
        comparing.check_comparison(config_of(tmp_path, sponge={"levels": 9, "days": 2.0}))


def test_the_long_run_of_an_experiment_has_it_and_says_so(silent, tmp_path, monkeypatch):
    store, forecaster, expected = silent
    monkeypatch.setattr(contest, "open_store", lambda path: store)
    monkeypatch.setattr(comparing, "competitors", lambda *_: {"network": Competitor(lambda: forecaster, {})})
    monkeypatch.setattr(comparing, "what_is_lacking", lambda *_: None)
    monkeypatch.setattr("emulator.evaluation.scores.evaluate", lambda *_, **__: xr.Dataset())
    monkeypatch.setattr("emulator.evaluation.table.format_table", lambda _: "")

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / WEIGHTS).write_bytes(b"")

    def measured(**more):
        comparing.score_all_forecasts(config_of(tmp_path, **more))
        return xr.load_dataset(tmp_path / "long_run.nc")

    free, held = measured(), measured(sponge={"levels": 1, "days": 2.0})
    target = (store.grid.latitude_weights[:, None] * expected[..., 0]).mean()
    share = np.exp(-np.arange(1, 11) / 2.0)
    np.testing.assert_allclose(
        held["global_mean"][0, :, 0] - target, share * (free["global_mean"][0, :, 0] - target), rtol=0.01, atol=1e-3
    )
    said = "A sponge took departures from climatology down (topmost levels: 1, days to 1/e: 2)."
    assert said in describe_long_run(held) and said not in describe_long_run(free)
