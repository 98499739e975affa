"""What a step of training learns from and does: batches, noise, windows, skipping, averages and rates."""

from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_training import CONFIG, MODEL, setup_training
from tiny_store import write_store

from data_prep.grid import Grid
from data_prep.preparation.store import open_store
from emulator.config import MeshConfig, RolloutStage, UNetConfig
from emulator.stepping.stepper import Stepper
from emulator.training.devices import WHOLE, Layout
from emulator.training.job import set_up, work
from emulator.training.loader import Batch, Shape, Windows, load_batch
from emulator.training.optimiser import learning_rate_schedule, make_optimiser, scheduled_at
from emulator.training.train_step import averaging_decay, loss_of, with_noise


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "store.zarr"
    write_store(path, Grid.gaussian(8))
    return path


def test_one_batch_can_be_learned_by_heart(tmp_path):
    config = CONFIG.model_copy(
        update={
            "stages": [RolloutStage(steps=150, learning_rate=1e-2, warmup=5)],
            "weight_decay": 0.0,
            "optimiser": "adamw",
        }
    )
    model = UNetConfig(patch=1, width=16, multipliers=[1], blocks=1)
    job, state, batch = setup_training(tmp_path / "store.zarr", model, config)
    losses = []
    for _ in range(150):
        state, norms = job.step(state, batch, job.task)
        losses.append(float(norms.loss))
    assert 0.3 < losses[0] < 3  # persistence: about one
    assert losses[-1] < losses[0] / 10


def test_a_skipped_step_changes_nothing_but_the_counts(tmp_path):
    job, state, batch = setup_training(tmp_path / "store.zarr", MODEL, CONFIG)
    before = jax.tree.map(np.array, state)
    state, norms = job.step(state, batch._replace(state=batch.state * np.nan), job.task)
    assert not norms.finite
    unscheduled = (state.params, state.averaged, scheduled_at(jnp.int32(0), state.optimiser))
    for a, b in zip(jax.tree.leaves(before[2:]), jax.tree.leaves(unscheduled), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (int(state.step), int(state.skipped)) == (1, 1)
    state, norms = job.step(state, batch, job.task)
    assert norms.finite
    assert (int(state.step), int(state.skipped)) == (2, 0)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is(store, monkeypatch):
    def steep(params, batch, task, *, unroll):
        return sum(jnp.sqrt(jnp.sum((0.0 * p) ** 2)) for p in jax.tree.leaves(params))

    monkeypatch.setattr("emulator.training.train_step.loss_of", steep)
    job = set_up(CONFIG.model_copy(update={"optimiser": "adamw"}), MODEL, open_store(store), 0)
    batch = load_batch(job.store, np.array([1, 30]), 1, job.layout)
    state, norms = job.step(job.layout.place(job.fresh, WHOLE), batch, job.task)
    assert float(norms.loss) == 0.0 and not norms.finite and int(state.skipped) == 1
    for a, b in zip(jax.tree.leaves(job.fresh.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_average_of_weights_is_warmed_up(tmp_path):
    job, state, batch = setup_training(tmp_path / "store.zarr", MODEL, CONFIG.model_copy(update={"ema_decay": 0.15}))
    expected = {k: np.array(v) for k, v in enumerate(jax.tree.leaves(state.averaged))}
    for decay in (0.1, 0.15, 0.15):  # (1 + t) / (10 + t), at most the configured decay
        state, _ = job.step(state, batch, job.task)
        for k, p in enumerate(jax.tree.leaves(state.params)):
            expected[k] = decay * expected[k] + (1 - decay) * np.asarray(p)
    for k, a in enumerate(jax.tree.leaves(state.averaged)):
        np.testing.assert_allclose(a, expected[k], rtol=1e-5, atol=1e-7)


def test_every_stage_averages_anew():
    stages = [RolloutStage(steps=40), RolloutStage(steps=2000)]
    config = CONFIG.model_copy(update={"ema_decay": 0.99, "stages": stages})
    steps = (0, 8, 39, 40, 41, 2039)
    decays = [float(averaging_decay(config, jnp.int32(s))) for s in steps]
    np.testing.assert_allclose(decays, [1 / 10, 9 / 18, 40 / 49, 1 / 10, 2 / 11, 0.99], rtol=1e-6)


def gradient_step(path, batch_rows, **changes):
    """What Adam keeps of the gradient of one step, and its norms."""
    config = CONFIG.model_copy(update={"optimiser": "adamw", "stages": [RolloutStage(steps=2)], **changes})
    job = set_up(config, MODEL, open_store(path), 0)
    state = job.fresh._replace(params=jax.tree.map(lambda p: p + 0.02, job.fresh.params))  # away from zero
    batch = load_batch(job.store, batch_rows, 1, job.layout)
    state, norms = job.step(job.layout.place(state, WHOLE), batch, job.task)
    return jax.tree.leaves(state.optimiser), norms


def test_a_batch_in_parts_has_the_same_gradient(store):
    rows = np.array([1, 5, 9, 13])
    whole, norms = gradient_step(store, rows)
    for parts in (2, 4):
        leaves, others = gradient_step(store, rows, accumulate=parts)
        np.testing.assert_allclose(others[:3], norms[:3], rtol=1e-5)
        for a, b in zip(whole, leaves, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * float(np.abs(a).max()))


def test_noise_moves_the_initial_state_by_so_many_deviations_of_a_change_within_bounds(store):
    job = set_up(CONFIG, MODEL, open_store(store), 0)
    batch = load_batch(job.store, np.arange(16), 1, job.layout)
    stepper, n = job.task.stepper, job.task.stepper.n_prognostic
    noisy = with_noise(batch, stepper, 0.5, jax.random.key(1))
    moved = np.asarray(noisy.state - batch.state)
    np.testing.assert_array_equal(moved[:, 1:], 0)  # what is to be learned stays as it is
    np.testing.assert_array_equal(moved[:, 0, ..., n:], 0)
    free = (moved[:, 0, ..., :n] / np.asarray(stepper.normalizer.output_std[0, :n]))[..., :2]  # humidity is bounded
    np.testing.assert_allclose(free.std(axis=(0, 1, 2)), 0.5, rtol=0.05)
    np.testing.assert_allclose(free.mean(axis=(0, 1, 2)), 0, atol=0.05)
    assert float(noisy.state[..., 2].min()) == 0
    again = with_noise(batch, stepper, 0.5, jax.random.key(1))
    np.testing.assert_array_equal(noisy.state, again.state)


def test_noise_goes_by_the_step_of_each_window(store):
    job = set_up(CONFIG, MODEL, open_store(store), 0)
    stepper, unit = job.task.stepper, job.task.stepper.normalizer.output_std
    longer = replace(stepper.normalizer, output_std=jnp.concatenate([unit, 3 * unit]))
    stepper = replace(stepper, normalizer=longer, time_steps=(1, 4))
    batch = load_batch(job.store, np.array([1, 30]), 1, job.layout)
    state = jnp.zeros_like(batch.state).at[..., 2].set(1e6)  # far from the bound of humidity

    def moved(*which):
        noisy = with_noise(batch._replace(state=state, which=jnp.array(which)), stepper, 0.5, jax.random.key(1))
        return np.asarray(noisy.state)[:, 0, ..., :2]

    np.testing.assert_allclose(moved(0, 1), moved(0, 0) * np.array([1, 3])[:, None, None, None], rtol=1e-5)


def test_a_step_goes_by_noise_of_its_own_and_by_the_weights_of_its_stage(store):
    stages = [RolloutStage(steps=2, learning_rate=1e-12, variable_weights={"temperature": 9.0})]
    stages = [*stages, RolloutStage(steps=1, learning_rate=1e-12)]
    config = CONFIG.model_copy(update={"optimiser": "adamw", "stages": stages, "input_noise": 0.5})
    job = set_up(config, MODEL, open_store(store), 3)
    state, batch = job.layout.place(job.fresh, WHOLE), load_batch(job.store, np.array([1, 30]), 1, job.layout)
    losses = []
    for step, stage in enumerate((0, 0, 1)):
        state, norms = job.step(state, batch, job.task)
        task = replace(job.task, objective=replace(job.task.objective, stage=jnp.int32(stage)))
        key = jax.random.fold_in(jax.random.key(3), step)
        noisy = with_noise(batch, task.stepper, 0.5, key)
        losses.append(float(jax.jit(loss_of)(job.fresh.params.params, noisy, task)))
        assert float(norms.loss) == pytest.approx(losses[-1], rel=1e-4)
    assert min(abs(a / b - 1) for a, b in ((losses[0], losses[1]), (losses[1], losses[2]))) > 1e-3


def test_rollouts_of_random_length_use_all_lengths_and_depend_on_seed_and_step_alone(store):
    opened = open_store(store)
    windows = Windows(opened, opened.windows("train", 5), Shape(2, 4), (0, 0), random_length=True)
    lengths = [windows.shape(step).steps for step in range(200)]
    assert np.bincount(lengths, minlength=5)[1:].min() > 30
    assert lengths == [windows.shape(step).steps for step in range(200)]
    layout = Layout.of(MeshConfig())
    step = lengths.index(2)
    assert windows.batch(step, layout).state.shape[:2] == (2, 3)
    assert windows.batch(step, layout).forcing.shape[:2] == (2, 2)


def test_the_numbers_of_free_steps_and_of_those_in_the_loss_are_drawn_apart(store):
    opened = open_store(store)
    windows = Windows(opened, opened.windows("train", 5), Shape(2, 2, 2), (0, 0), random_length=True)
    drawn = Counter(windows.shape(step) for step in range(300))
    assert set(drawn) == set(windows.shapes)
    assert len(drawn) == 6
    assert min(drawn.values()) > 25
    assert windows.mean_model_steps == pytest.approx(1.5 + 1 / 3)
    always = replace(windows, random_length=False)
    assert (always.shapes, always.shape(7)) == ([Shape(2, 2, 2)], Shape(2, 2, 2))


def test_free_steps_are_taken_by_the_network_and_no_gradient_goes_through_them(tmp_path):
    job, state, _ = setup_training(tmp_path / "store.zarr", MODEL, CONFIG)
    draw = iter(jax.random.split(jax.random.key(0), 100))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(draw), p.shape), state.params.params)
    rows, task = np.array([1, 30]), job.task
    batch = load_batch(job.store, rows, 2, job.layout, free=3)
    now, advance = batch.state[:, 0], jax.jit(Stepper.advance)
    for step in range(3):
        now = advance(task.stepper, params, now, batch.forcing[:, step], batch.which)
    behind = Batch(batch.state.at[:, 0].set(now), batch.forcing[:, 3:], batch.which)
    graded = jax.jit(jax.value_and_grad(loss_of))
    loss, gradient = graded(params, batch, task)
    expected, of_gradient = graded(params, behind, task)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), gradient, of_gradient)
    from_truth = loss_of(params, load_batch(job.store, rows + 3, 2, job.layout), task)
    assert abs(from_truth / loss - 1) > 1e-2


def test_windows_of_several_steps_are_drawn_alike_from_those_of_the_stage_and_depend_on_seed_and_step_alone(store):
    opened = open_store(store)
    model = MODEL.model_copy(update={"time_steps": [1, 2, 4]})
    stages = [
        RolloutStage(steps=90, rollout=2),
        RolloutStage(steps=90, rollout=1, time_steps=[4, 1, 4]),
        RolloutStage(steps=9, rollout=3),
    ]
    spans = set_up(CONFIG.model_copy(update={"stages": stages}), model, opened, 0).spans
    drawn = [np.concatenate([span.windows.which(step) for step in range(90)]) for span in spans]
    assert np.allclose(np.bincount(drawn[0], minlength=3) / drawn[0].size, 1 / 3, atol=0.1)
    assert np.allclose(np.bincount(drawn[1], minlength=3) / drawn[1].size, [1 / 3, 0, 2 / 3], atol=0.1)
    assert spans[0].windows.which(7).tolist() == spans[0].windows.which(7).tolist()
    batch = spans[0].windows.batch(7, Layout.of(MeshConfig()))
    for i, (row, which) in enumerate(zip(spans[0].windows.rows(7).tolist(), batch.which.tolist(), strict=True)):
        rows = row + np.array([0, 1, 2]) * model.time_steps[which]
        np.testing.assert_array_equal(batch.state[i], opened.take_states(rows))
        kept = opened.take_persisted(rows[:1])
        np.testing.assert_array_equal(batch.forcing[i], opened.forcing_builder.at(opened.times[rows[1:]], kept[0]))
    longest = {start % 24 + 3 * 4 for start in spans[2].windows.starts.tolist()}
    assert max(longest) == 23  # the longest window still ends within its segment of 24 rows


def test_schedule_warms_up_and_comes_down_in_every_stage():
    stages = [
        RolloutStage(steps=100, warmup=10, learning_rate=1e-3, final_fraction=0.1),
        RolloutStage(steps=20, warmup=50, learning_rate=2e-4, final_fraction=0.0),
    ]
    schedule = learning_rate_schedule(stages)
    rates = np.array([float(schedule(i)) for i in range(120)])
    assert rates[0] == pytest.approx(1e-3 / 11)
    assert rates[:100].argmax() == 10
    assert rates[10] == pytest.approx(1e-3)
    assert rates[99] == pytest.approx(1e-4, rel=0.01)
    assert rates[110] == rates[100:].max() == pytest.approx(2e-4)  # warm-up cut to half the stage
    assert rates[119] < 1e-5


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_weights_decay_but_norms_and_biases_do_not(name):
    config = CONFIG.model_copy(update={"optimiser": name, "weight_decay": 0.1})
    optimiser = make_optimiser(config, optax.constant_schedule(1.0))
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    updates, _ = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1)
    np.testing.assert_array_equal(updates["scale"], 0)


def test_devices_hold_no_second_copy_of_the_state(store):
    def on_devices():
        return sum(a.nbytes for a in jax.live_arrays())

    model = MODEL.model_copy(update={"width": 32})
    before = on_devices()
    job = set_up(CONFIG, model, open_store(store), 0)
    size = sum(a.nbytes for a in jax.tree.leaves(job.fresh))
    set_up_needs = on_devices() - before
    assert set_up_needs < 0.2 * size
    state = job.layout.place(job.fresh, WHOLE)
    assert on_devices() - before - set_up_needs == sum(a.nbytes for a in jax.tree.leaves(state)) == size


def test_what_steps_cost_is_windows_times_model_steps(store):
    stages = [RolloutStage(steps=5), RolloutStage(steps=4, rollout=3, batch_size=2, random_length=True)]
    spans = set_up(CONFIG.model_copy(update={"stages": stages}), MODEL, open_store(store), 0).spans
    assert [work(spans, n) for n in (0, 2, 5, 6, 9)] == [0, 8, 20, 24, 36]
