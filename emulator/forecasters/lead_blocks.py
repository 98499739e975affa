"""What the statistical references share: forecasts given as a formula of lead, made a few leads at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.preparation.climatology import Climatology
from data_prep.spec import unstack_channels
from emulator.forecasters.base import Forecaster, check_lead_times, realizations

if TYPE_CHECKING:
    import xarray as xr

_BLOCK_BYTES = 64 * 2**20


def lead_blocks(
    forecaster: Forecaster,
    initial: xr.Dataset,
    lead_times: np.ndarray,
    fields: Callable[[np.ndarray], np.ndarray],
    members: int = 0,
) -> Iterator[xr.Dataset]:
    """What ``Forecaster.forecast`` yields: blocks of at most some 64 MiB (at least one lead).

    Args:
      forecaster: Whose forecasts these are.
      initial, lead_times: As it was given them.
      fields: Leads ``(lead,)`` to states ``(init_time, lead[, member], latitude, longitude, state_channel)``; physical
        lower bounds are applied here.
      members: How many the states have, if they have that axis.
    """
    times, leads = initial["time"].values, check_lead_times(lead_times, forecaster.timestep)
    spec, grid = forecaster.spec, forecaster.grid
    per_lead = 4 * times.size * max(1, members) * np.prod(grid.shape) * len(spec.state_channels)
    step = max(1, int(_BLOCK_BYTES // per_lead))
    for start in range(0, leads.size, step):
        block = leads[start : start + step]
        states = np.maximum(fields(block), spec.state_minimum, dtype=np.float32)
        coords: dict[str, Any] = {"init_time": times, "lead_time": block}
        if members:
            coords["realization"] = realizations(members)
        yield unstack_channels(states, spec, spec.state_channels, grid, coords)


def climatology_at_valid_time(climatology: Climatology, times: np.ndarray, leads: np.ndarray) -> np.ndarray:
    """Climatology at initial time plus lead, ``(init_time, lead, latitude, longitude, state_channel)``.

    Times that several forecasts share are looked up once.
    """
    valid, inverse = np.unique(times[:, None] + leads[None, :], return_inverse=True)
    return climatology.at(valid)[inverse.reshape(times.size, leads.size)]
