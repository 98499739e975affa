"""The folder of a small made-up experiment that has been evaluated: a store, forecast files, their scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from synthetic import Noisy, evaluation_rows, lead_times, make_store

from data_prep.grid import Grid
from data_prep.preparation.store import Store
from emulator.config import EvaluateConfig
from emulator.evaluation.scores import evaluate
from emulator.forecast_io import write_forecasts
from emulator.forecasters.statistical import make_reference


@dataclass(frozen=True)
class SmallExperiment:
    """What tests of pictures and pages look at; ``scores`` is as a reader finds it on disk."""

    folder: Path
    store: Store
    paths: dict[str, Path]
    scores: xr.Dataset
    config: EvaluateConfig


def make_experiment(folder: Path, grid: Grid, headline: Sequence[str], attributes: dict[str, str]) -> SmallExperiment:
    """Four forecasters over four days; the network wins early against T21, always against T31.

    Args:
      folder: Where the files go.
      grid: Of the made-up atmosphere.
      headline: Headline variables.
      attributes: Written into every forecast file.
    """
    store = make_store(grid, days=15)
    rows, leads = evaluation_rows(store, 4), lead_times(4)
    makers = {
        "network": Noisy(store, "network", 0.02, 0.25),
        "physics_t21": Noisy(store, "physics_t21", 0.3, 0.1, seed=1),
        "physics_t31": Noisy(store, "physics_t31", 2.0, 0.0, cap=2.0, seed=2),
        "climatology": make_reference("climatology", store, leads),
    }
    paths = {name: folder / "forecasts" / f"{name}.nc" for name in makers}
    for name, maker in makers.items():
        write_forecasts(maker, store.dataset(rows), leads, paths[name], batch=32, attributes=attributes)
    config = EvaluateConfig(bootstrap=200, headline=list(headline))
    evaluate(paths, store, config, folder / "scores.nc")
    return SmallExperiment(folder, store, paths, xr.load_dataset(folder / "scores.nc"), config)


def with_more_forecasters(scores: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The scores with as many forecasters as there are names: those there are, again and again under other names."""
    rows = np.arange(len(names)) % scores.sizes["forecaster"]
    more = scores.isel(forecaster=rows, reference=rows)
    return more.drop_encoding().assign_coords(forecaster=list(names), reference=list(names))


def with_made_up_scores(scores: xr.Dataset) -> xr.Dataset:
    """The scores with made-up numbers for all that a page can show beside errors and their differences."""
    rng = np.random.default_rng(5)
    pair = ("forecaster", "reference", "variable", "lead_time", "region")

    def random(dims: Sequence[str]) -> xr.DataArray:
        return xr.DataArray(rng.normal(size=[scores.sizes[d] for d in dims]), dims=dims)

    p = abs(random(pair)) % 1
    out = scores.assign(rmse_difference_significant=(p < 0.3).astype(np.int8), rmse_difference_p_geer=p)
    for name, middle in (
        ("time_gain_hours", 12 * random(pair)),
        ("gap_closed", random(pair)),
        ("acc", scores["acc"]),
        ("bias", scores["bias"]),
    ):
        ends = {"": 0.0, "_lower": -0.1, "_upper": 0.1}
        out = out.assign({f"{name}{end}": middle + by for end, by in ends.items()})
    quantile = xr.DataArray([0.001, 0.01, 0.99, 0.999], dims="quantile")
    of_truth = (quantile - 0.5) * (1 + abs(random(("variable", "lead_time"))))
    out = out.assign(forecast_quantile=of_truth * (1 + 0.1 * random(("forecaster",))), truth_quantile=of_truth)
    limit = scores["forecaster"].values[-1].item()
    out["better_everywhere"] = xr.zeros_like(out["rmse"].isel(variable=0, lead_time=0, drop=True)).expand_dims(
        reference=out["reference"]
    )
    return out.assign_coords(quantile=quantile).assign_attrs(truth="nature run SPEEDY T31", predictability_limit=limit)


def in_pascal(made: SmallExperiment) -> SmallExperiment:
    """The experiment as if all its variables were pressures, which are shown in hPa."""
    variables = tuple(replace(v, units="Pa") for v in made.store.spec.variables)
    store = replace(made.store, spec=replace(made.store.spec, variables=variables))
    units = ("variable", ["Pa"] * made.scores.sizes["variable"])
    return replace(made, store=store, scores=made.scores.assign_coords(units=units))
