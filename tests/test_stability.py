"""Early warnings name the lead and the variable, and keep quiet where all is well."""

import numpy as np
import pytest
from tiny_store import SPEC, TIMESTEP

from emulator.training.stability import GradientWatch, forecast_warning
from emulator.training.validation import Skill


def skill(activity, rmse=1.0):
    activity = np.asarray(activity, float)
    return Skill(1.0, np.broadcast_to(rmse, activity.shape), activity, TIMESTEP, SPEC.state_channels)


def test_a_faithful_and_a_smooth_forecast_are_fine():
    assert forecast_warning(skill(np.ones((3, 4)))) is None
    assert forecast_warning(skill(np.full((3, 4), 0.1))) is None


@pytest.mark.parametrize(("channel", "at_last"), [(2, 40), (0, 1)], ids=["the same", "another"])
def test_the_channel_that_is_restless_first_is_named_with_its_lead(channel, at_last):
    """Whichever is most restless at the last lead."""
    activity = np.ones((3, 4))
    activity[1, 2], activity[2, channel] = 2.5, 40.0
    assert forecast_warning(skill(activity)) == (
        "forecasts are unstable from lead 12 h on: specific_humidity@850 changes 2.5 times as much in a step as the "
        f"truth, {at_last} times at 18 h"
    )


def test_an_error_that_is_not_finite_is_told_where_no_change_is_out_of_the_ordinary():
    rmse = np.ones((3, 4))
    rmse[1, 3] = np.nan
    found = forecast_warning(skill(np.ones((3, 4)), rmse))
    assert found == "forecasts are not finite from lead 12 h on, first in total_precipitation_6hr"


def test_what_is_not_finite_comes_first():
    activity = np.full((3, 4), 5.0)
    activity[2, 1] = np.inf
    assert forecast_warning(skill(activity)) == "forecasts are not finite from lead 18 h on, first in temperature@850"


def test_a_row_of_gradient_spikes_is_one_warning():
    watch = GradientWatch()
    assert not any(watch.warning(1.0 + 0.1 * (i % 3), 0) for i in range(30))
    assert watch.warning(25.0, 0) == "gradient norm 25, 23 times its median of late"
    assert watch.warning(30.0, 0) is None
    assert watch.warning(1.0, 0) is None
    assert watch.warning(25.0, 0) is not None


def test_gradients_of_long_ago_are_forgotten():
    watch = GradientWatch()
    assert not any(watch.warning(norm, 0) for norm in [100.0] * 200 + [1.0] * 100)
    assert watch.warning(25.0, 0) == "gradient norm 25, 25 times its median of late"


def test_a_few_first_steps_are_no_measure():
    watch = GradientWatch()
    assert [watch.warning(norm, 0) for norm in (0.01, 0.02, 50.0)] == [None, None, None]


def test_the_first_gradients_of_longer_rollouts_are_no_spikes():
    watch = GradientWatch()
    assert not any(watch.warning(1.0, 0) for _ in range(30))
    assert not any(watch.warning(25.0, 9000) for _ in range(30))
    assert watch.warning(500.0, 9000) == "gradient norm 500, 20 times its median of late"


def test_a_gradient_behind_nothing_but_zeros_is_no_spike():
    watch = GradientWatch()
    assert not any(watch.warning(norm, 0) for norm in [0.0] * 30 + [1.0])
