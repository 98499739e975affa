"""A forecaster that is started again from its own forecasts."""

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import StateSpec, Variable, grid_coords
from emulator.forecasters.restarted import RestartedForecaster

STEP = np.timedelta64(6, "h").astype("timedelta64[ns]")
GRID = Grid.gaussian(4)
SPEC = StateSpec((Variable("a", "prognostic", (0.1, 0.9)), Variable("b", "prognostic")), "sigma")
TIMES = np.array(["2001-01-01", "2001-03-01T12", "2000-02-28"], "datetime64[ns]")


@dataclass(frozen=True)
class Accelerating:
    """Adds the square of the number of steps; notes from when it was asked; blocks of two leads."""

    asked: list
    name: str = "accelerating"
    spec: StateSpec = SPEC
    grid: Grid = GRID
    timestep: np.timedelta64 = STEP

    def forecast(self, initial, lead_times):
        self.asked.append(initial["time"].values)
        steps = xr.DataArray(lead_times / STEP, dims="lead_time", coords={"lead_time": lead_times})
        whole = (initial + steps**2).rename(time="init_time")
        for first in range(0, lead_times.size, 2):
            yield whole.isel(lead_time=slice(first, first + 2)).transpose("init_time", "lead_time", ...)


def initial_fields():
    rng = np.random.default_rng(0)
    shape = (TIMES.size, *GRID.shape)
    return xr.Dataset(
        {
            "a": (("time", "level", "latitude", "longitude"), rng.normal(size=(shape[0], 2, *shape[1:]))),
            "b": (("time", "latitude", "longitude"), rng.normal(size=shape)),
        },
        coords={"time": TIMES, "level": [0.1, 0.9], **grid_coords(GRID)},
    )


@pytest.mark.parametrize(
    ("every", "leads", "added"),
    [
        (1, [1, 2, 3], [1, 2, 3]),
        (3, [1, 2, 3, 4, 5, 6, 7], [1, 4, 9, 10, 13, 18, 19]),
        (3, [2, 7], [4, 19]),  # the ends of the pieces are not asked for
        (4, [1, 9, 10], [1, 33, 36]),  # nor anything in between
        (9, [2, 8], [4, 64]),
    ],
)
def test_every_piece_begins_at_the_end_of_the_one_before(every, leads, added):
    initial, asked = initial_fields(), []
    restarted = RestartedForecaster("again", Accelerating(asked), every * STEP)
    blocks = list(restarted.forecast(initial, np.array(leads) * STEP))
    found = xr.concat(blocks, "lead_time")
    assert (restarted.spec, restarted.grid, restarted.timestep) == (SPEC, GRID, STEP)
    np.testing.assert_array_equal(found["lead_time"], np.array(leads) * STEP)
    np.testing.assert_array_equal(found["init_time"], TIMES)
    np.testing.assert_array_equal(asked, [TIMES + begin * STEP for begin in range(0, leads[-1], every)])
    for name in ("a", "b"):
        assert found[name].dims[:2] == ("init_time", "lead_time")
        expected = initial[name].values[:, None] + np.reshape(added, (1, -1, *[1] * (initial[name].ndim - 1)))
        np.testing.assert_allclose(found[name].values, expected)


def test_leads_between_steps_are_refused():
    with pytest.raises(DataError, match="expected positive, ascending multiples of 6 h"):
        next(RestartedForecaster("again", Accelerating([]), STEP).forecast(initial_fields(), np.array([STEP / 2])))
