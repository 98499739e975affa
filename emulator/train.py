"""Training, top to bottom: data, network, optimiser, one step, the loop, validation, the record.

    read the store -> for every stage: batches -> step -> now and then validate, save -> weights for forecasting

A run that was stopped goes on from its last checkpoint and ends bit for bit where it would have ended: the order of
batches is a function of seed and step, and everything else is in the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from optax.contrib import MuonDimensionNumbers, muon
from tensorboardX import SummaryWriter

from data_prep.errors import DataError
from data_prep.spec import Channel, StateSpec
from data_prep.store import Store, open_store
from emulator.checkpoint import DESCRIPTION, Checkpoints, read_description, write_description, write_weights
from emulator.config import ModelConfig, RolloutStage, TrainConfig
from emulator.loader import Batch, Windows, prefetch, read_batch
from emulator.losses import channel_weights, weighted_mse
from emulator.models.layers import count_parameters
from emulator.progress import track
from emulator.rollout import rollout
from emulator.stepper import Stepper, make_stepper

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 2 * 2**30
"""A store up to this size is read into memory once; random windows of a larger one are read from disk."""

_ADAM_BETAS = (0.9, 0.95)  # GraphCast's: a short second moment suits short schedules
_ADAM_UPDATE_RMS = 0.2  # of a typical Adam update over its learning rate
_MAX_HEADLINE = 6


class TrainState(NamedTuple):
    """Everything that changes while training. There is no randomness after initialisation.

    Attributes:
      step: Optimiser steps taken, int32.
      params: Weights.
      averaged: Exponential moving average of the weights: what validation and forecasts use.
      optimiser: State of the optimiser.
    """

    step: Int[Array, ""]
    params: nnx.State
    averaged: nnx.State
    optimiser: optax.OptState


class Norms(NamedTuple):
    """Scalars of one step."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    update_norm: Float[Array, ""]
    finite: Bool[Array, ""]


@dataclass(frozen=True)
class Task:
    """What the loss needs beside state and batch; a pytree, so that nothing large is compiled in as a constant."""

    stepper: Stepper
    latitude_weights: Float[Array, " lat"]
    channel_weights: Float[Array, " state"]
    rematerialise: bool = field(metadata={"static": True})


jax.tree_util.register_dataclass(Task)


def train(
    config: TrainConfig,
    model_config: ModelConfig,
    store_path: Path,
    run_dir: Path,
    seed: int,
    experiment: dict[str, Any],
) -> Path:
    """Trains a network, or goes on where an earlier call was stopped.

    Args:
      config: Stages, optimiser, intervals.
      model_config: Which network.
      store_path: A prepared store.
      run_dir: The run folder; see ``checkpoint``.
      seed: Of initial weights and of the order of the data.
      experiment: The resolved config, kept in the run folder for the reader.

    Returns:
      ``run_dir``, which ``checkpoint.load_forecaster`` reads.

    Raises:
      DataError: the store is unusable, the run folder belongs to another run, or the loss stopped being finite.
      ConfigError: the network does not fit the grid, or a weighted variable does not exist.
      KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    store = _open(store_path)
    run_dir.mkdir(parents=True, exist_ok=True)
    _claim(run_dir, config, model_config, store, seed, experiment)

    stepper, params = make_stepper(
        model_config,
        store.spec,
        store.grid,
        store.statistics,
        store.static,
        precision=config.precision,
        seed=seed,
    )
    task = Task(
        stepper,
        jnp.asarray(store.grid.latitude_weights, jnp.float32),
        jnp.asarray(channel_weights(store.spec, config.variable_weights)),
        config.rematerialise,
    )
    schedule = learning_rate_schedule(config.stages)
    optimiser = make_optimiser(config, schedule)
    step_once = make_train_step(optimiser, config.ema_decay)
    validation = Validation.of(store, config)
    spans = plan(config, store, seed)
    total = spans[-1].stop

    fresh = TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimiser.init(params))
    with closing(Checkpoints(run_dir)) as checkpoints:
        state = checkpoints.restore(fresh) or fresh
        done = int(state.step)
        logger.info(
            "train: %.2f million parameters, %d windows, %d steps%s",
            count_parameters(params) / 1e6,
            spans[0].windows.starts.size,
            total,
            f", going on from step {done}" if done else "",
        )

        def save(state: TrainState) -> None:
            checkpoints.save(int(state.step), state)
            write_weights(run_dir, state.averaged)

        with Record(run_dir, done) as record, _signals() as stop, track(total, "train", done) as progress:
            for span in spans:
                steps = range(max(span.start, done), span.stop)
                batches = prefetch(span.batch, steps)
                with closing(batches):
                    clock = Clock()
                    for step in steps:
                        with clock.waiting():
                            batch = next(batches)
                        state, norms = step_once(state, batch, task)
                        loss = float(norms.loss)  # waits for the device: a broken loss is seen at once
                        if not bool(norms.finite):
                            save(state)
                            raise DataError(_not_finite(run_dir, step, loss, norms, span))
                        progress.advance(1, loss=loss, rollout=span.windows.steps)
                        now = step + 1
                        if now % config.log_every == 0 or now == total:
                            record.step(now, norms, float(schedule(step)), span.windows, clock)
                        if now % config.validate_every == 0 or now == total:
                            record.validation(now, *validation.run(state.averaged, task), store.timestep)
                        if now % config.checkpoint_every == 0 or now == total or stop.is_set():
                            save(state)
                        if stop.is_set():
                            logger.info("train: stopped at step %d of %d, state saved", now, total)
                            raise KeyboardInterrupt
        save(state)  # again if a kill came between checkpoint and weights
    return run_dir


# ---- what is trained on, and in what order


@dataclass(frozen=True)
class StageSpan:
    """Steps ``[start, stop)`` of training, and the windows they use."""

    start: int
    stop: int
    windows: Windows

    def batch(self, step: int) -> Batch:
        """The batch of a step of the whole training."""
        return self.windows.batch(step - self.start)


def plan(config: TrainConfig, store: Store, seed: int) -> list[StageSpan]:
    """The stages laid end to end.

    Raises:
      DataError: no training segment is long enough for a rollout.
    """
    spans: list[StageSpan] = []
    for number, stage in enumerate(config.stages):
        start = spans[-1].stop if spans else 0
        windows = Windows(
            store,
            store.windows("train", stage.rollout + 1),
            steps=stage.rollout,
            batch_size=stage.batch_size or config.batch_size,
            seed=(seed, number),
        )
        spans.append(StageSpan(start, start + stage.steps, windows))
    return spans


def _open(path: Path) -> Store:
    store = open_store(path)
    n_bytes = 4 * sum(int(np.prod(a.shape)) for a in (store.state, store.persisted))
    return open_store(path, in_memory=True) if n_bytes <= IN_MEMORY_BYTES else store


def _claim(
    run_dir: Path, config: TrainConfig, model: ModelConfig, store: Store, seed: int, experiment: Mapping[str, Any]
) -> None:
    """Describes the run in its folder, or makes sure that the folder holds this very run.

    Raises:
      DataError: the folder holds another run.
    """
    decisive = {
        "train": config.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "data": store.data_hash,
        "seed": seed,
    }
    identity = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    if (run_dir / DESCRIPTION).exists() and read_description(run_dir)["identity"] != identity:
        raise DataError(
            f"{run_dir}: holds a run with another config, seed or data; remove it or choose another workdir"
        )
    write_description(
        run_dir, store, model, precision=config.precision, seed=seed, identity=identity, experiment=experiment
    )


# ---- one step


def learning_rate_schedule(stages: list[RolloutStage]) -> optax.Schedule:
    """Every stage warms up linearly and comes down along a cosine; warm-up takes at most half a stage."""
    schedules, ends = [], [0]
    for stage in stages:
        warmup = min(stage.warmup, stage.steps // 2)
        schedules.append(
            optax.warmup_cosine_decay_schedule(
                init_value=stage.learning_rate / (warmup + 1),
                peak_value=stage.learning_rate,
                warmup_steps=warmup,
                decay_steps=stage.steps,
                end_value=stage.learning_rate * stage.final_fraction,
            )
        )
        ends.append(ends[-1] + stage.steps)
    return optax.join_schedules(schedules, ends[1:-1])


def make_optimiser(config: TrainConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The config's optimiser behind global-norm clipping; weights decay, norms and biases (one-dimensional) do not.

    Muon (Jordan et al. 2024) orthogonalises the momentum of every kernel, taken as a matrix from all its inputs to its
    outputs; its updates have Adam's size (Liu et al. 2025, arXiv:2502.16982). One-dimensional arrays are left to Adam.
    """
    beta1, beta2 = _ADAM_BETAS
    if config.optimiser == "muon":
        update = muon(
            schedule,
            weight_decay=config.weight_decay,
            adam_b1=beta1,
            adam_b2=beta2,
            muon_weight_dimension_numbers=_kernels_as_matrices,
            consistent_rms=_ADAM_UPDATE_RMS,
        )
    else:
        decayed = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731 - optax wants a function
        update = optax.adamw(schedule, beta1, beta2, weight_decay=config.weight_decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _kernels_as_matrices(params: nnx.State) -> Any:
    """For every kernel ``(..., out)`` the axes that Muon sums over and keeps; ``None`` for what Adam gets."""
    return jax.tree.map(
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim > 1 else None, params
    )


def loss_of(params: nnx.State, batch: Batch, task: Task) -> Float[Array, ""]:
    """Loss of a rollout through all times of a batch."""
    truth, forcing = jnp.asarray(batch.state), jnp.asarray(batch.forcing)
    forecast = rollout(task.stepper, params, truth[:, 0], forcing, rematerialise=task.rematerialise)
    unit = task.stepper.normalizer.output_std
    return weighted_mse(forecast, truth[:, 1:], unit, task.latitude_weights, task.channel_weights)


def make_train_step(
    optimiser: optax.GradientTransformation, ema_decay: float
) -> Callable[[TrainState, Batch, Task], tuple[TrainState, Norms]]:
    """The compiled step. It takes over the state's buffers; a loss or gradient that is not finite changes nothing."""

    def train_step(state: TrainState, batch: Batch, task: Task) -> tuple[TrainState, Norms]:
        loss, gradient = jax.value_and_grad(loss_of)(state.params, batch, task)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        gradient_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        # warmed up, or the random start would stay in the average for the first thousand steps
        decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
        averaged = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.averaged, params)
        after = TrainState(state.step + 1, params, averaged, optimiser_state)
        kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        return kept, Norms(loss, gradient_norm, optax.tree.norm(updates), finite)

    return jax.jit(train_step, donate_argnums=0)


def _not_finite(run_dir: Path, step: int, loss: float, norms: Norms, span: StageSpan) -> str:
    times = ", ".join(f"{t!s:.16}" for t in span.windows.times(step - span.start))
    norm = float(norms.gradient_norm)
    return (
        f"{run_dir}: loss {loss:g}, gradient norm {norm:g} at step {step + 1} with the batch from "
        f"{times}; the state before it is saved; check the data then, or lower learning_rate and train anew"
    )


# ---- validation


@dataclass(frozen=True)
class Validation:
    """Rollouts from fixed initial times of the validation split.

    Attributes:
      store: The data.
      rows: First rows, ``(chunk, batch)``.
      steps: Model steps.
    """

    store: Store
    rows: np.ndarray
    steps: int

    @classmethod
    def of(cls, store: Store, config: TrainConfig) -> Validation:
        """Initial times spread evenly over the split, in chunks of one size.

        Raises:
          DataError: no validation segment is long enough.
        """
        starts = store.windows("validation", config.validation_steps + 1)
        n = min(config.validation_windows, starts.size)
        size = min(config.batch_size, n)
        n -= n % size
        rows = starts[np.linspace(0, starts.size - 1, n).round().astype(np.int64)]
        return cls(store, rows.reshape(-1, size), config.validation_steps)

    def run(self, params: nnx.State, task: Task) -> tuple[float, dict[str, np.ndarray]]:
        """Score and errors of these weights.

        Returns:
          The loss over all leads, and the RMSE by lead of the headline channels in physical units.
        """
        batches = (read_batch(self.store, rows, self.steps) for rows in self.rows)
        squares = np.mean([np.asarray(_squared_error(params, batch, task)) for batch in batches], axis=0)
        unit = np.asarray(task.stepper.normalizer.output_std)
        loss = float((np.asarray(task.channel_weights) * squares / unit**2).mean())
        channels = self.store.spec.state_channels
        headline = headline_channels(self.store.spec)
        return loss, {c.name: np.sqrt(squares[:, channels.index(c)]) for c in headline}


@jax.jit
def _squared_error(params: nnx.State, batch: Batch, task: Task) -> Float[Array, "steps state"]:
    """Area-weighted mean squared error by lead and channel, in physical units."""
    truth = jnp.asarray(batch.state)
    forecast = rollout(task.stepper, params, truth[:, 0], jnp.asarray(batch.forcing))
    return jnp.mean(task.latitude_weights[:, None, None] * (forecast - truth[:, 1:]) ** 2, axis=(0, 2, 3))


def headline_channels(spec: StateSpec) -> tuple[Channel, ...]:
    """A few channels to watch: each variable at its only or its middle level."""
    by_variable: dict[str, list[Channel]] = {}
    for channel in spec.state_channels:
        by_variable.setdefault(channel.variable, []).append(channel)
    return tuple(channels[len(channels) // 2] for channels in by_variable.values())[:_MAX_HEADLINE]


# ---- the record, the clock, the signals


class Clock:
    """Seconds since the last reading, and how many of them were spent waiting for data."""

    def __init__(self) -> None:
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts a step, and the time inside as waiting."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start
        self._steps += 1

    def read(self) -> tuple[float, float]:
        """Seconds a step and share of waiting since the last reading."""
        now = time.perf_counter()
        seconds, waited, steps = now - self._start, self._waited, self._steps
        self._start, self._waited, self._steps = now, 0.0, 0
        return seconds / max(steps, 1), waited / seconds


class Record:
    """``metrics.jsonl`` and TensorBoard events; entries beyond the step that a run goes on from are dropped."""

    def __init__(self, run_dir: Path, done: int) -> None:
        """Opens both.

        Args:
          run_dir: The run folder.
          done: The step that training goes on from.
        """
        path = run_dir / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= done]
        temporary = path.with_suffix(".partial")
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=done + 1 if done else None)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._board.close()

    def step(self, step: int, norms: Norms, learning_rate: float, windows: Windows, clock: Clock) -> None:
        """Writes one training step."""
        seconds, waiting = clock.read()
        values = {
            "loss": float(norms.loss),
            "learning_rate": learning_rate,
            "gradient_norm": float(norms.gradient_norm),
            "update_norm": float(norms.update_norm),
            "seconds_per_step": seconds,
            "samples_per_second": windows.batch_size / seconds,
            "data_wait_share": waiting,
        }
        self._write({"kind": "train", "step": step, "rollout": windows.steps, **values})
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step)

    def validation(self, step: int, loss: float, rmse: Mapping[str, np.ndarray], timestep: np.timedelta64) -> None:
        """Writes one validation, and logs a line."""
        hours = [float(h) for h in (np.arange(len(next(iter(rmse.values())))) + 1) * timestep / np.timedelta64(1, "h")]
        errors = {name: [float(f"{v:.6g}") for v in values] for name, values in rmse.items()}
        self._write({"kind": "validation", "step": step, "loss": loss, "lead_hours": hours, "rmse": errors})
        self._board.add_scalar("validation/loss", loss, step)
        for name, values in errors.items():
            self._board.add_scalar(f"validation/{name}_{hours[0]:g}h", values[0], step)
            self._board.add_scalar(f"validation/{name}_{hours[-1]:g}h", values[-1], step)
        shown = ", ".join(f"{name} {values[0]:.3g}/{values[-1]:.3g}" for name, values in errors.items())
        logger.info("validation at step %d: loss %.4g; RMSE at %g/%g h: %s", step, loss, hours[0], hours[-1], shown)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _lines(path: Path) -> list[str]:
    """Whole lines of a file, none if there is no file; a kill may have cut the last one short."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into a request to stop after the step at hand; a second one works at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python delivers signals to the main thread alone
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: FrameType | None) -> None:
        stop.set()
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, request)
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
