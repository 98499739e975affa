"""Corrected forecasts: bias found where there is one, nothing invented where there is none, damping out of sample."""

import dataclasses

import numpy as np
import pytest
from synthetic import ON_SIGMA, STEP, anomalies, evaluation_rows, lead_times, make_store, waves

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.spec import stack_channels, unstack_channels
from emulator.config import EvaluateConfig
from emulator.experiment.initial_times import initial_indices, training_indices
from emulator.forecast_form import open_forecasts
from emulator.forecast_io import write_forecasts
from emulator.forecasters.corrected import CorrectedForecaster
from emulator.forecasters.correction import Correction, FoldSums, area_product, estimate, fit_correction
from emulator.forecasters.written import WrittenForecasts

LEADS = lead_times(2, 12)
GRID = Grid.gaussian(12)
WEIGHTS = GRID.latitude_weights / GRID.latitude_weights.sum()


@pytest.fixture(scope="module")
def store():
    return make_store(GRID, days=40, splits=("train", "train", "train", "test", "test"))


@dataclasses.dataclass(frozen=True)
class Biased:
    """The truth with a mean error that grows with lead and lies on a few waves, and noise that differs each time."""

    store: object
    bias: float
    noise: float = 0.5
    name: str = "physics_t21"

    @property
    def spec(self):
        return self.store.spec

    @property
    def grid(self):
        return self.store.grid

    timestep = STEP

    def mean_error(self, lead):
        """``(latitude, longitude, channel)``: an offset, a wave and a mountain."""
        scale = np.abs(self.store.state[0]).std(axis=(0, 1))
        peak = np.zeros(self.grid.shape)
        peak[7, 5] = 3.0
        shape = 0.3 + waves(self.grid)[3] + peak
        return (self.bias * float(lead / LEADS[-1]) * shape[..., None] * scale).astype(np.float32)

    def forecast(self, initial, leads):
        rows = np.searchsorted(self.store.times, initial["time"].values)
        states = np.stack([[self.store.state[r + int(lead // STEP)] for lead in leads] for r in rows])
        for j, lead in enumerate(leads):
            states[:, j] += self.mean_error(lead)
            for i, r in enumerate(rows):
                scale = np.abs(self.store.state[0]).std(axis=(0, 1))
                rng = np.random.default_rng([int(r), j])
                states[i, j] += self.noise * anomalies(rng, 1, self.grid, scale.astype(np.float32))[0]
        coords = {"init_time": initial["time"].values, "lead_time": leads}
        yield unstack_channels(states, self.spec, self.spec.state_channels, self.grid, coords)


def contest(tmp_path, store, forecaster, training=24):
    """RMSE by lead and channel of the raw, the debiased and the damped forecasts on test data, files, correction."""
    config = EvaluateConfig(lead_hours=48, lead_step_hours=12, correction_inits=training)
    write_forecasts(forecaster, store.dataset(training_indices(store, config)), LEADS, tmp_path / "training.nc")
    rows = evaluation_rows(store, 2, every=8)
    write_forecasts(forecaster, store.dataset(rows), LEADS, tmp_path / "physics_t21.nc", attributes={"hardware": "abc"})
    correction = fit_correction(tmp_path / "training.nc", store)
    paths = {"raw": tmp_path / "physics_t21.nc"}
    for damped, word in ((False, "debiased"), (True, "damped")):
        name = f"physics_t21_{word}"
        corrected = CorrectedForecaster(
            name, GRID, STEP, store.climatology, WrittenForecasts(paths["raw"], store.spec), correction, damped
        )
        paths[word] = tmp_path / f"{name}.nc"
        initial = store.dataset(rows)
        told = corrected.attributes(initial)
        write_forecasts(corrected, initial, LEADS, paths[word], batch=5, attributes=told)
    truth = np.stack([[store.state[r + int(lead // STEP)] for lead in LEADS] for r in rows])

    def rmse(path):
        error = stack_channels(open_forecasts(path), store.spec.state_channels) - truth
        return np.sqrt(area_product(error, error, WEIGHTS).mean(axis=0))

    return {word: rmse(path) for word, path in paths.items()}, paths, correction


def test_a_bias_is_taken_off_and_damping_helps_more(store, tmp_path):
    model = Biased(store, 1.0, noise=0.3)
    found, _, correction = contest(tmp_path, store, model)
    assert (found["debiased"] < found["raw"]).all() and (found["debiased"][-1] < 0.75 * found["raw"][-1]).all()
    assert (found["damped"] < found["debiased"]).all()
    wanted = model.mean_error(LEADS[-1])
    left = correction.mean_error[-1] - wanted
    assert (area_product(left, left, WEIGHTS) < 0.1 * area_product(wanted, wanted, WEIGHTS)).all()
    # the mountain, one grid point wide, is found with the rest
    np.testing.assert_allclose(correction.mean_error[-1][7, 5], wanted[7, 5], rtol=0.25)


def test_where_there_is_no_bias_next_to_nothing_is_taken_off(store, tmp_path):
    """The mean of so few forecasts is noise; taken off as it is it would add its own size to the error."""
    found, _, correction = contest(tmp_path, store, Biased(store, 0.0), training=8)
    plain_mean = np.sqrt(1 + 1 / 8)  # what taking off the mean of eight would cost
    assert (found["debiased"] / found["raw"]).max() < plain_mean - 0.02
    assert np.mean(found["debiased"] / found["raw"]) < 1.01
    noise = found["raw"] / np.sqrt(8)
    taken = np.sqrt(area_product(correction.mean_error, correction.mean_error, WEIGHTS))
    assert np.mean(taken / noise) < 0.5


def test_shrinking_beats_the_plain_mean_for_any_size_of_bias():
    """Against the known mean error: the estimate is nearer to it than the mean of the same forecasts, on average."""
    rng = np.random.default_rng(5)
    shape, n = (1, *GRID.shape, 3), 16
    wave = 0.5 * waves(GRID)[1][None, ..., None]
    for size, gain in ((0.0, 0.5), (0.3, 0.9), (3.0, 1.0)):
        plain, shrunk = [], []
        for _ in range(12):
            noise = np.stack([anomalies(rng, 1, GRID, np.ones(3, np.float32)) for _ in range(n)])
            errors = size * wave + 2 * noise
            sums = FoldSums.zeros(8, 1, GRID.shape, 3)
            for i, error in enumerate(errors):
                sums.add(i // 2, error, np.zeros(shape), WEIGHTS)
            found, _ = estimate(sums, WEIGHTS)
            plain.append(area_product(*[errors.mean(axis=0) - size * wave] * 2, WEIGHTS))
            shrunk.append(area_product(*[found - size * wave] * 2, WEIGHTS))
        assert np.mean(shrunk) < gain * np.mean(plain)


def test_damping_is_the_regression_of_anomalies_that_the_other_folds_debias():
    """A mean error so large that every scale of it is kept: then the sums must give what the plain recipe gives."""
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(8, 2, *GRID.shape, 3))
    forecast = 0.7 * truth + rng.normal(size=truth.shape) + 1e4 * rng.normal(size=truth.shape[1:])
    sums, fold = FoldSums.zeros(4, 2, GRID.shape, 3), np.arange(8) // 2
    for g, f, o in zip(fold, forecast, truth, strict=True):
        sums.add(g, f, o, WEIGHTS)
    mean_error, damping = estimate(sums, WEIGHTS)
    np.testing.assert_allclose(mean_error, (forecast - truth).mean(axis=0), rtol=1e-3, atol=1.0)
    debiased = np.stack([f - (forecast - truth)[fold != g].mean(axis=0) for g, f in zip(fold, forecast, strict=True)])
    wanted = area_product(debiased, truth, WEIGHTS).sum(axis=0) / area_product(debiased, debiased, WEIGHTS).sum(axis=0)
    np.testing.assert_allclose(damping, wanted, rtol=2e-3)
    assert (np.abs(damping - 0.7 / (0.49 + 1 + 1 / 6 * 1.09)) < 0.05).all()


def test_a_single_forecast_teaches_no_bias():
    sums = FoldSums.zeros(1, 1, GRID.shape, 2)
    field = np.random.default_rng(0).normal(size=(1, *GRID.shape, 2))
    sums.add(0, 2 * field, field, WEIGHTS)
    mean_error, damping = estimate(sums, WEIGHTS)
    assert (mean_error == 0).all()
    np.testing.assert_allclose(damping, 0.5)


def test_fitting_in_small_blocks_of_leads_changes_nothing(store, tmp_path, monkeypatch):
    _, _, whole = contest(tmp_path, store, Biased(store, 0.5), training=9)
    monkeypatch.setattr("emulator.forecasters.correction._BLOCK_BYTES", 1)
    parts = fit_correction(tmp_path / "training.nc", store)
    np.testing.assert_allclose(parts.mean_error, whole.mean_error, atol=1e-4)
    np.testing.assert_allclose(parts.damping, whole.damping, atol=1e-5)
    assert whole.forecasts == 9


def test_corrected_files_are_files_like_any_other_at_the_cost_of_the_raw_model(store, tmp_path):
    _, paths, _ = contest(tmp_path, store, Biased(store, 0.5), training=6)
    raw, damped = (open_forecasts(paths[word]) for word in ("raw", "damped"))
    assert damped.attrs["forecaster"] == "physics_t21_damped" and damped.attrs["corrected_from"] == "physics_t21.nc"
    assert "6 training forecasts" in damped.attrs["correction"]
    for key in ("seconds_per_simulated_day", "simulated_days_per_second", "forecasts_at_once", "hardware"):
        assert damped.attrs[key] == raw.attrs[key]
    assert dict(raw.sizes) == dict(damped.sizes) and set(raw) == set(damped)
    for name in raw:
        assert raw[name].dims == damped[name].dims and raw[name].attrs == damped[name].attrs


def test_physical_bounds_hold_after_a_correction(tmp_path):
    store = make_store(GRID, days=12, world=ON_SIGMA)
    rows, leads = evaluation_rows(store, 1)[:3], lead_times(1)
    forecaster = Biased(store, 0.0, noise=0.0)
    write_forecasts(forecaster, store.dataset(rows), leads, tmp_path / "raw.nc")
    too_wet = np.full((leads.size, *GRID.shape, len(store.spec.state_channels)), 1e-2, np.float32)
    correction = Correction(leads, too_wet, np.ones((leads.size, too_wet.shape[-1]), np.float32), 1)
    raw = WrittenForecasts(tmp_path / "raw.nc", store.spec)
    corrected = CorrectedForecaster("x", GRID, STEP, store.climatology, raw, correction, damped=False)
    (block,) = corrected.forecast(store.dataset(rows), leads)
    assert float(block["specific_humidity"].min()) == 0.0
    with pytest.raises(DataError, match=r"raw.nc: lacks the initial time 2001-06-01T00:00; make"):
        next(corrected.forecast(store.dataset([0]), leads))
    with pytest.raises(DataError, match=r"raw.nc: lacks the lead 36 h; make"):
        next(corrected.forecast(store.dataset(rows), LEADS))


def test_each_lead_is_corrected_by_its_own_numbers_and_damped_towards_its_own_climatology(tmp_path):
    store = make_store(GRID, days=12)
    rows, channels = evaluation_rows(store, 2)[:2], len(store.spec.state_channels)
    write_forecasts(Biased(store, 0.0, noise=0.0), store.dataset(rows), LEADS, tmp_path / "raw.nc")
    raw = WrittenForecasts(tmp_path / "raw.nc", store.spec)
    numbers = np.arange(1.0, LEADS.size + 1, dtype=np.float32)
    mean_error = np.broadcast_to(numbers[:, None, None, None], (LEADS.size, *GRID.shape, channels))
    damping = np.repeat(numbers[:, None] / 10, channels, axis=1)
    correction = Correction(LEADS, mean_error, damping, 1)
    for damped in (False, True):
        corrected = CorrectedForecaster("x", GRID, STEP, store.climatology, raw, correction, damped)
        for i in (1, 3):
            (block,) = corrected.forecast(store.dataset(rows), LEADS[i : i + 1])
            expected = store.state[rows + int(LEADS[i] // STEP)] - numbers[i]
            if damped:
                climate = store.climatology.at(store.times[rows] + LEADS[i])
                expected = climate + numbers[i] / 10 * (expected - climate)
            found = stack_channels(block, store.spec.state_channels)[:, 0]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@dataclasses.dataclass(frozen=True)
class InTurns(Biased):
    """The truth and, in all channels alike, an error that the forecasts of neighbouring times share."""

    def forecast(self, initial, leads):
        signs = np.array([1, 1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, -1, -1, 1, 1])
        turn = np.searchsorted(self.store.times, initial["time"].values) // 8
        for block in super().forecast(initial, leads):
            error = block["init_time"].copy(data=100.0 * signs[turn])
            yield block.map(lambda v, error=error: (v + error).transpose(*v.dims).astype(np.float32), keep_attrs=True)


def test_an_error_that_neighbours_in_time_share_is_no_bias(store, tmp_path):
    leads = lead_times(1)[:1]
    model = InTurns(store, 0.0, noise=0.0)
    write_forecasts(model, store.dataset(np.arange(16) * 8), leads, tmp_path / "training.nc")
    assert np.abs(fit_correction(tmp_path / "training.nc", store).mean_error).max() < 1.0


def test_the_anomaly_that_is_damped_is_that_from_the_climatology_of_the_valid_time(store, tmp_path):
    """A single forecast, of twice the anomaly, five days ahead."""
    lead, row = lead_times(5)[-1:], 8
    climate = store.climatology.at(store.times[[row]] + lead)
    truth = store.state[[row + int(lead[0] // STEP)]]
    fields = (climate + 2 * (truth - climate))[None].astype(np.float32)
    coords = {"init_time": store.times[[row]], "lead_time": lead}

    class Doubled(Biased):
        def forecast(self, initial, leads):
            yield unstack_channels(fields, self.spec, self.spec.state_channels, self.grid, coords)

    write_forecasts(Doubled(store, 0.0), store.dataset([row]), lead, tmp_path / "training.nc")
    np.testing.assert_allclose(fit_correction(tmp_path / "training.nc", store).damping, 0.5, rtol=1e-3)


@pytest.mark.parametrize(("factor", "expected"), [(0.5, 1.0), (4.0, 0.25), (-1.0, 0.0)])
def test_an_anomaly_is_neither_amplified_nor_turned_round(factor, expected):
    field = np.random.default_rng(0).normal(size=(1, *GRID.shape, 2))
    sums = FoldSums.zeros(1, 1, GRID.shape, 2)
    sums.add(0, factor * field, field, WEIGHTS)
    np.testing.assert_allclose(estimate(sums, WEIGHTS)[1], expected)


def test_training_forecasts_are_spread_over_members_and_season_and_stay_in_training(store):
    config = EvaluateConfig(lead_hours=120, correction_inits=30)
    rows = training_indices(store, config)
    assert rows.size == 30 and np.unique(rows).size == 30
    member = [store.segment_of(r, r + 21).name for r in rows.tolist()]  # raises where a forecast leaves its segment
    assert {name: member.count(name) for name in member} == {"member_000": 10, "member_001": 10, "member_002": 10}
    # start hours are those of the test; the place in the season is not the same in every member
    assert set(store.times[rows].astype("datetime64[h]").astype(int) % 24) == {0}
    assert set(store.times[initial_indices(store, config)].astype("datetime64[h]").astype(int) % 24) == {0}
    days = (store.times[rows] - store.times[rows].astype("datetime64[Y]")) // np.timedelta64(1, "D")
    assert np.unique(days).size > 20


def test_no_training_forecast_is_made_twice_where_there_are_hardly_more_than_are_wanted(store):
    last = sum(s.split == "train" for s in store.segments) - 1
    for more in range(1, 20):
        length = 16 + more
        segments = tuple(
            dataclasses.replace(s, stop=s.start + 1 + 4 * length, split="train" if i == last else "test")
            for i, s in enumerate(store.segments)
        )
        few = dataclasses.replace(store, segments=segments)
        rows = training_indices(few, EvaluateConfig(lead_hours=24, correction_inits=16))
        assert rows.size == 16 and (np.diff(rows) > 0).all() and rows[-1] < segments[last].stop - 4


def test_too_short_training_data_say_what_to_do(store):
    config = EvaluateConfig(lead_hours=240)
    short = dataclasses.replace(
        store,
        segments=tuple(dataclasses.replace(s, stop=s.start + 9) if s.split == "train" else s for s in store.segments),
    )
    with pytest.raises(DataError, match=r"correction_inits: no training segment holds a forecast of 240 h"):
        training_indices(short, config)
