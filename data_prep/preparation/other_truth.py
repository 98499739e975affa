"""A store whose fields are those of another data set: another truth, with the climatology and split of the first."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError
from data_prep.preparation.store import Segment, Store, memory_store
from data_prep.reading.checks import check_values, fill_with_mean
from data_prep.reading.sources import Source, in_units, open_source
from data_prep.variables import accumulation_hours, is_accumulation

logger = logging.getLogger(__name__)


def with_truth(truth: xr.Dataset, store: Store) -> Store:
    """A store like this one with other fields, test data where it has none; its climatology stays that of training.

    Args:
      truth: Fields by time on the store's grid, in any order, names and units that are understood.
      store: Whose variables, split, statistics and climatology it has.

    Returns:
      A store in memory, of stretches ``truth_0``, ``truth_1``, ...

    Raises:
      DataError: the fields lack a variable, times or levels, are on another grid, or are not possible.
    """
    spec, state = store.spec, store.spec.state_variables
    source = open_source(truth, {name: (name,) for name in state}, spec.vertical)
    if missing := [name for name in state if name not in source.fields]:
        raise DataError(f"truth: missing {', '.join(missing)}; it holds {', '.join(source.contents)}")
    if not source.grid.matches(store.grid):
        raise DataError(f"truth: its grid is {source.grid.describe()}, the store's {store.grid.describe()}")
    for name, variable in state.items():
        source = in_units(source, name, variable.units, "the store's")
    if source.times.size == 0:
        raise DataError("truth: no time coordinate; give the times of its fields as a coordinate named time")
    _check_times(source, store)
    n = source.times.size
    values = np.concatenate([source.read(name, variable.levels, 0, n) for name, variable in state.items()], axis=-1)
    there = fill_with_mean(values)  # what is missing may be masked; whoever scores it says so where it is not
    whole = ~np.isnan(there).any(axis=(1, 2, 3))
    check_values(there[whole], spec.state_channels, spec, source.times[whole], "truth", "leave those times out")
    split = np.full(n, "test", object)
    for s in store.segments:
        split[(source.times >= s.first_time) & (source.times <= s.last_time)] = s.split
    breaks = (np.diff(source.times) != store.timestep) | (split[1:] != split[:-1])
    bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), n]
    segments = [
        Segment(f"truth_{i}", first, stop, split[first], source.times[first], source.times[stop - 1])
        for i, (first, stop) in enumerate(pairwise(bounds))
    ]
    return memory_store(
        spec=spec,
        grid=store.grid,
        timestep=store.timestep,
        statistics=store.statistics,
        climatology=store.climatology,
        forcing_table=store.forcing_builder.table,
        static=store.static,
        segments=segments,
        times=source.times,
        state=np.maximum(values, spec.state_minimum),
        persisted=np.zeros((n, *store.grid.shape, store.persisted.shape[-1]), np.float32),
    )


def _check_times(source: Source, store: Store) -> None:
    """Times are no closer than steps, every variable is there at all of them, and rain is summed over a step."""
    step, hours = store.timestep, clock.hours(store.timestep)
    apart = min([step, *np.diff(source.times)])
    if apart < step:
        raise DataError(
            f"truth: its times are {clock.hours(apart):g} h apart, the store's {hours:g} h; take every such one"
        )
    for name in store.spec.state_variables:
        field = source.fields[name]
        if field.extent != "time":
            raise DataError(f"truth: {field.raw_name} has no dimension of time")
        if not is_accumulation(name):
            if over := field.over_interval:
                logger.warning("truth: %s is the %s over an interval, taken as if at its end", field.raw_name, over)
            continue
        if source.bounds is not None:
            right = (source.bounds[:, 1] == source.times) & (source.bounds[:, 1] - source.bounds[:, 0] == step)
            if not right.all():
                at = clock.text(source.times[int(np.argmin(right))])
                raise DataError(
                    f"truth: {field.raw_name} at {at} is no sum over the {hours:g} h before; give such sums"
                )
        elif accumulation_hours(field.raw_name) is None:
            logger.warning("truth: %s is taken for sums over %g h, the store's time step", field.raw_name, hours)
