"""Linear regression on principal components: finds a linear law, finds none where none is, sees training only."""

import numpy as np
import pytest
from synthetic import STEP, anomalies, evaluation_rows, lead_times, make_store, with_state

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import stack_channels
from emulator.forecasters.linear_pcs import RIDGES, LinearPcs
from emulator.forecasters.statistical import make_reference

GRID = Grid.gaussian(6)
PERIOD = 16  # steps in which the travelling wave goes round


def world(law):
    """A store whose anomalies obey ``law(t, store)``; everything else is the made-up atmosphere's."""
    store = make_store(GRID, days=30)
    climate = store.climatology.at(store.times)
    return with_state(store, (climate + law(np.arange(store.times.size), store)).astype(np.float32))


def travelling(t, store):
    """A wave that goes round in four days and grows and fades at random, over weak noise of all scales."""
    rng = np.random.default_rng(3)
    phase = 2 * np.pi * t[:, None, None] / PERIOD
    size = np.exp(0.3 * np.sin(2 * np.pi * t / 77 + 1) * np.cos(2 * np.pi * t / 29))[:, None, None]
    wave = (
        size * np.cos(2 * np.radians(store.grid.longitude) - phase) * np.cos(np.radians(store.grid.latitude))[:, None]
    )
    return 3 * wave[..., None] + 0.3 * rng.normal(size=(t.size, *store.grid.shape, 4))


def noise(t, store):
    return anomalies(np.random.default_rng(5), t.size, store.grid)


def error(forecaster, store, leads):
    """Mean squared error over test forecasts by lead, in weighted units of each channel's spread."""
    rows = evaluation_rows(store, 5, every=3)
    blocks = [stack_channels(b, store.spec.state_channels) for b in forecaster.forecast(store.dataset(rows), leads)]
    truth = np.stack([store.state[r + 1 + np.arange(leads.size)] for r in rows])
    squares = store.grid.latitude_weights[:, None, None] * (np.concatenate(blocks, axis=1) - truth) ** 2
    return squares.mean(axis=(0, 2, 3))


@pytest.fixture(scope="module", autouse=True)
def few_components():
    """The made-up worlds are simple, and choosing among many sizes takes time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emulator.forecasters.linear_pcs.COMPONENTS", (5, 10, 20))
        yield


@pytest.fixture(scope="module")
def waves():
    return world(travelling)


def test_a_wave_that_travels_is_forecast(waves):
    """Persistence of any kind loses it after an eighth of its period; a linear map turns it on."""
    leads = lead_times(5)
    linear, damped = (
        error(make_reference(n, waves, leads), waves, leads) for n in ("linear_pcs", "damped_anomaly_persistence")
    )
    quarter = PERIOD // 4 - 1
    assert (linear[quarter] < 0.1 * damped[quarter]).all()
    assert (linear.mean(0) < 0.2 * damped.mean(0)).all()


def test_without_a_linear_law_it_is_damped_persistence():
    """Amplitudes that decay alike: damping is all there is to know, and cross-validation must find that out."""
    store, leads = world(noise), lead_times(5)
    linear, damped = (
        error(make_reference(n, store, leads), store, leads) for n in ("linear_pcs", "damped_anomaly_persistence")
    )
    assert (linear < 1.1 * damped).all()  # what choosing by a few weeks of data costs


def test_the_last_ridge_leaves_damped_persistence_alone(waves, monkeypatch):
    leads = lead_times(1)
    monkeypatch.setattr("emulator.forecasters.linear_pcs.RIDGES", RIDGES[-1:])
    fitted = LinearPcs.fit(waves, leads)
    assert (fitted.operators == 0).all()
    np.testing.assert_allclose(error(fitted, waves, leads), error(fitted.damped, waves, leads), rtol=1e-6)


def test_one_lead_is_the_regression_that_numpy_makes(waves):
    """With the weakest ridge and all PCs, channel by channel what ``lstsq`` finds for the residual."""
    leads = lead_times(1)[:1]
    fitted = LinearPcs.fit(waves, leads)
    k, ridge = int(fitted.components[0]), float(fitted.ridges[0])
    before, after = [], []
    for s in waves.segments:
        if s.split == "train":
            anomaly = waves.state[s.start : s.stop] - waves.climatology.at(waves.times[s.start : s.stop])
            flat = (fitted.weight * anomaly).reshape(len(s), -1).astype(np.float64)
            rest = fitted.weight * (anomaly[1:] - fitted.damped.damping[0] * anomaly[:-1])
            before.append((flat @ fitted.patterns.reshape(len(fitted.patterns), -1).T)[:-1])
            after.append(rest.reshape(len(s) - 1, -1) @ fitted.patterns.reshape(len(fitted.patterns), -1).T)
    x, y = np.concatenate(before)[:, :k], np.concatenate(after)
    strength = np.sqrt(ridge * np.mean(np.sum(x**2, axis=0)))
    wanted = np.linalg.lstsq(
        np.vstack([x, strength * np.eye(k)]), np.vstack([y, np.zeros((k, y.shape[1]))]), rcond=None
    )[0]
    np.testing.assert_allclose(fitted.operators[0, :k], wanted, atol=2e-3)
    assert (fitted.operators[0, k:] == 0).all()


def test_a_lead_does_not_depend_on_which_others_are_asked_for_nor_on_blocks(waves, monkeypatch):
    leads = lead_times(1)
    fitted, initial, channels = LinearPcs.fit(waves, leads), waves.dataset([250]), waves.spec.state_channels
    (block,) = fitted.forecast(initial, leads)
    (last,) = fitted.forecast(initial, leads[-1:])
    whole = stack_channels(block, channels)
    np.testing.assert_allclose(stack_channels(last, channels), whole[:, -1:], rtol=1e-6)
    monkeypatch.setattr("emulator.forecasters.lead_blocks._BLOCK_BYTES", 1)  # a lead a block, as of fine grids
    parts = [stack_channels(part, channels) for part in fitted.forecast(initial, leads)]
    assert len(parts) == leads.size
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-6)


def test_patterns_are_orthonormal_and_lead_with_the_wave(waves):
    fitted = LinearPcs.fit(waves, lead_times(1)[:1])
    flat = fitted.patterns.reshape(len(fitted.patterns), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-3)


def test_only_the_training_split_is_read(waves):
    spoiled = np.array(waves.state)
    for s in waves.segments:
        if s.split != "train":
            spoiled[s.start : s.stop] = 1e6
    leads = lead_times(2)
    a, b = LinearPcs.fit(waves, leads), LinearPcs.fit(with_state(waves, spoiled), leads)
    np.testing.assert_array_equal(a.operators, b.operators)


def test_refusals(waves):
    fitted = LinearPcs.fit(waves, lead_times(1))
    with pytest.raises(DataError, match="was fitted for"):
        next(fitted.forecast(waves.dataset([0]), lead_times(2)))
    with pytest.raises(DataError, match="6 training forecasts of 702 h are too few"):
        LinearPcs.fit(waves, np.array([117]) * STEP)
