"""The state spec and the codec between named fields and channel tensors."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import Channel, StateSpec, Variable, level_dim, stack_channels, unstack_channels

GRID = Grid.gaussian(3)
LEVEL_SETS = st.lists(st.sampled_from([50.0, 250.0, 500.0, 700.0, 850.0, 1000.0]), unique=True, max_size=4)


@st.composite
def specs(draw):
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    roles = st.sampled_from(["prognostic", "diagnostic"])
    variables = tuple(Variable(n, draw(roles), tuple(sorted(draw(LEVEL_SETS)))) for n in names)
    return StateSpec(variables, "pressure")


@settings(deadline=None, max_examples=50)
@given(specs(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_fields_and_tensors_round_trip(spec, n_times, random):
    channels = spec.state_channels
    rng = np.random.default_rng(random.randrange(2**32))
    tensor = rng.standard_normal((n_times, *GRID.shape, len(channels))).astype(np.float32)
    times = np.datetime64("2000-01-01", "ns") + np.arange(n_times) * np.timedelta64(6, "h")
    fields = unstack_channels(tensor, spec, channels, GRID, {"time": times})
    assert not any(np.shares_memory(field.values, tensor) for field in fields.data_vars.values())
    shuffled = fields[random.sample(sorted(fields.data_vars), len(fields.data_vars))].transpose(..., "latitude")
    np.testing.assert_array_equal(stack_channels(shuffled, channels), tensor)
    for i, channel in enumerate(channels):
        field = fields[channel.variable]
        if channel.level is not None:
            field = field.sel({level_dim(field): channel.level})
        np.testing.assert_array_equal(field.values, tensor[..., i])


@settings(deadline=None)
@given(specs())
def test_specs_survive_json(spec):
    assert StateSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(StateSpec.from_dict(spec.to_dict())) == hash(spec)


def test_state_channels_are_prognostic_then_diagnostic():
    spec = StateSpec(
        (Variable("rain", "diagnostic"), Variable("t", "prognostic", (500.0, 850.0)), Variable("p", "prognostic")),
        "pressure",
    )
    assert [c.name for c in spec.state_channels] == ["t@500", "t@850", "p", "rain"]
    assert spec.n_prognostic == 3


def test_lower_bounds_follow_the_channels():
    spec = StateSpec(
        (Variable("q", "prognostic", (500.0, 850.0), minimum=0.0), Variable("p", "prognostic")), "pressure"
    )
    assert spec.state_minimum.tolist() == [0.0, 0.0, -np.inf]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Variable("t", "prognostic", (850.0, 500.0)), "top down"),
        (lambda: Variable("sst", "forcing"), "known"),
        (lambda: Variable("t", "prognostic", known="persisted"), "known"),
        (lambda: StateSpec((Variable("t", "prognostic", (500.0,)),)), "vertical"),
        (lambda: StateSpec((Variable("t", "prognostic"), Variable("t", "static"))), "named twice: t"),
    ],
)
def test_impossible_specs_are_refused(make, what):
    with pytest.raises(DataError, match=what):
        make()


def test_what_a_data_set_lacks_is_named():
    grid = {"latitude": list(GRID.latitude), "longitude": list(GRID.longitude)}
    field = xr.DataArray(np.zeros((1, *GRID.shape)), {"level": [500.0], **grid}, ("level", "latitude", "longitude"))
    data = xr.Dataset({"t": field, "p": field[0].drop_vars("level"), "x": field[0].expand_dims(month=2)})
    for channel, what in [
        (Channel("q", 500.0), "missing q; it holds t, p, x"),
        (Channel("t", 850.0), r"t lacks level 850; it has 500"),
        (Channel("p", 850.0), "p has no level dimension"),
        (Channel("t", None), "t has levels"),
        (Channel("x", None), "unexpected dimensions month"),
    ]:
        with pytest.raises(DataError, match=what):
            stack_channels(data, [channel])
