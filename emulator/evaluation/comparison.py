"""From additive statistics to what a forecaster asks: metrics with intervals, who is better, and until when."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import xarray as xr

from emulator.config import EvaluateConfig
from emulator.evaluation.crossover import find_crossover
from emulator.evaluation.metrics import METRICS, computable
from emulator.evaluation.significance import Bootstrap, Estimate

_CELL = ("variable", "lead_time", "region")


def compare(statistics: xr.Dataset, config: EvaluateConfig, seed: int) -> xr.Dataset:
    """Adds metrics, their intervals, paired differences and crossovers.

    Args:
      statistics: Additive statistics ``(forecaster, variable, lead_time, init_time, region)`` with the coordinate
        ``trajectory(init_time)``.
      config: Resamples and confidence.
      seed: Of the bootstrap.

    Returns:
      The statistics and all that follows from them; see ``docs/architecture.md``.
    """
    means = statistics.mean("init_time", skipna=False)
    scores = statistics.copy()
    for metric in computable(map(str, statistics.data_vars)):
        attrs = {"long_name": metric.long_name}
        scores[metric.name] = metric(means).transpose("forecaster", ...).assign_attrs(attrs)

    names = statistics["forecaster"].values.tolist()
    shape = tuple(statistics.sizes[d] for d in _CELL)
    squared = statistics["squared_error"].transpose("forecaster", "init_time", *_CELL).values
    squared = squared.reshape(len(names), statistics.sizes["init_time"], -1)
    bootstrap = Bootstrap(statistics["trajectory"].values, config.bootstrap, config.confidence, seed)
    rmse = METRICS["rmse"].formula

    intervals = [bootstrap.score(values, rmse) for values in squared]
    for end in ("lower", "upper"):
        stacked = np.stack([getattr(interval, end) for interval in intervals]).reshape(len(names), *shape)
        scores[f"rmse_{end}"] = (("forecaster", *_CELL), stacked, {"long_name": f"{end} end of the interval of rmse"})

    pair_dims = ("forecaster", "reference", *_CELL)
    compared = {
        f"rmse_{kind}{end}": np.full((len(names), len(names), int(np.prod(shape))), np.nan)
        for kind in ("difference", "ratio")
        for end in ("", "_lower", "_upper")
    }
    for a, b in combinations(range(len(names)), 2):
        difference, ratio = bootstrap.difference(squared[a], squared[b], rmse)
        for kind, found, flipped in (
            ("difference", difference, Estimate(-difference.value, -difference.upper, -difference.lower)),
            ("ratio", ratio, _inverse(ratio)),
        ):
            for place, estimate in (((a, b), found), ((b, a), flipped)):
                compared[f"rmse_{kind}"][place] = estimate.value
                compared[f"rmse_{kind}_lower"][place] = estimate.lower
                compared[f"rmse_{kind}_upper"][place] = estimate.upper
    scores = scores.assign_coords(reference=names)
    for name, array in compared.items():
        text = f"{name.replace('_', ' ')}, forecaster {'over' if 'ratio' in name else 'minus'} reference"
        scores[name] = (pair_dims, array.reshape(len(names), len(names), *shape), {"long_name": text})
    return _with_crossovers(scores, config.confidence)


def _with_crossovers(scores: xr.Dataset, confidence: float) -> xr.Dataset:
    """Adds the crossover of every forecaster with every other, by variable and region."""
    dims = ("forecaster", "reference", "variable", "region")
    shape = tuple(scores.sizes[d] for d in dims)
    hours = scores["lead_time"].values / np.timedelta64(1, "h")
    ends = [scores[f"rmse_difference{e}"].transpose(*dims, "lead_time").values for e in ("", "_lower", "_upper")]
    numbers = {key: np.full(shape, np.nan) for key in ("hours", "lower", "upper", "start")}
    outcome = np.full(shape, "", dtype=object)
    from_first = np.zeros(shape, np.int8)
    for place in np.ndindex(*shape):
        if place[0] == place[1]:
            continue
        found = find_crossover(hours, Estimate(*(e[place] for e in ends)), confidence)
        outcome[place], from_first[place] = found.outcome, found.from_first_lead
        for key, array in numbers.items():
            array[place] = getattr(found, key)
    texts = {
        "hours": "lead until which the forecaster beats the reference in RMSE (infinite: beyond the last lead), hours",
        "lower": "lower end of its interval, hours",
        "upper": "upper end of its interval (infinite: open), hours",
        "start": "lead from which it beats the reference, hours",
    }
    for key, array in numbers.items():
        scores[f"crossover_{key}"] = (dims, array, {"long_name": texts[key]})
    scores["crossover_outcome"] = (dims, outcome.astype(str), {"long_name": "the crossover in words"})
    scores["crossover_from_first_lead"] = (
        dims,
        from_first,
        {"long_name": "1 where the first lead is won"},
    )
    return scores


def _inverse(ratio: Estimate) -> Estimate:
    with np.errstate(divide="ignore"):
        return Estimate(1 / ratio.value, 1 / ratio.upper, 1 / ratio.lower)
