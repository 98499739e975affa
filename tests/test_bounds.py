"""What a forecast may not leave: bounds by channel, and the first lead at which one is left."""

import numpy as np
import pytest

from data_prep.spec import StateSpec, Variable
from emulator.bounds import bounds_of, first_departure

SPEC = StateSpec(
    (Variable("2m_temperature", "prognostic", units="K"), Variable("total_cloud_cover", "prognostic", units="1"))
)
TIMES = np.array(["2001-01-01"], "datetime64[ns]")
LEADS = np.arange(1, 4) * np.timedelta64(6, "h")


def departure(**values):
    fields = np.full((1, 3, 2, 4, 2), 0.5)
    fields[..., 0] = 280.0
    for channel, value in values.items():
        fields[0, 1, 0, 2, ["temperature", "cloud"].index(channel)] = value
    bounds = bounds_of(SPEC.state_channels, SPEC)
    return first_departure(fields, ["2m_temperature", "total_cloud_cover"], bounds, TIMES, LEADS)


def test_the_lead_and_the_variable_are_named():
    lead, said = departure(temperature=500.0)
    assert lead == 1 and "at lead 12 h: 2m_temperature ranges from 280 to 500, possible are 50 to 400" in said
    assert "is not finite any more at lead 12 h in total_cloud_cover" in departure(cloud=np.nan)[1]
    assert departure() is None
    assert "2m_temperature ranges from 40 to 280" in departure(temperature=40.0)[1]


def test_shares_may_overshoot():
    """Where clouds are all or nothing at most places, a sound forecast does."""
    assert departure(cloud=1.08) is None and departure(cloud=-0.2) is None
    assert departure(cloud=3.0)[0] == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_not_possible_even_of_what_has_no_bounds(value):
    fields = np.ones((1, 3, 2, 4, 1))
    fields[0, 1, 0, 2] = value
    found = first_departure(fields, ["dust"], [(-np.inf, np.inf)], TIMES, LEADS)
    assert found is not None and found[0] == 1 and "is not finite any more at lead 12 h in dust" in found[1]
