"""Validation while training: rollouts from fixed initial times, their skill by lead, and how much they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_prep import clock
from data_prep.errors import ConfigError, DataError
from data_prep.preparation.store import Store
from data_prep.spec import Channel
from emulator.config import TrainConfig
from emulator.stepping.rollout import Bases, bases_of, hop, last_steps
from emulator.stepping.stepper import State
from emulator.training.devices import AXES, Layout
from emulator.training.geopotential_error import GEOPOTENTIAL
from emulator.training.loader import Batch, load_batch
from emulator.training.losses import all_channels
from emulator.training.stacks import Stacks
from emulator.training.train_step import Task, on_every_device

_MAX_HEADLINE = 6


@dataclass(frozen=True, eq=False)
class Skill:
    """Of forecasts from the validation times, by lead and channel.

    Attributes:
      loss: As in training, over all leads, in units of the network's shortest step.
      rmse: Area-weighted root mean square error in physical units, ``(steps, channel)``.
      activity: Root mean square change over the step that leads there, over that of the truth, ``(steps, channel)``.
        About one in a faithful forecast, lower in a smooth one; it grows before a forecast blows up.
      timestep: Between leads.
      channels: Of the loss: those of the state, and behind them the derived ones.
    """

    loss: float
    rmse: np.ndarray
    activity: np.ndarray
    timestep: np.timedelta64
    channels: tuple[Channel, ...]

    @property
    def lead_hours(self) -> list[float]:
        """Leads of the first axis."""
        hours = (np.arange(len(self.rmse)) + 1) * self.timestep / np.timedelta64(1, "h")
        return [float(h) for h in hours]

    def headline(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Values by lead of a few channels to watch, by name."""
        return {c.name: values[:, self.channels.index(c)] for c in headline_channels(self.channels)}


@dataclass(frozen=True, eq=False)
class Validation:
    """Rollouts from fixed initial times of the validation split.

    Attributes:
      store: The data.
      rows: First rows, ``(chunk, batch)``.
      steps: Model steps.
      layout: The devices.
    """

    store: Store
    rows: np.ndarray
    steps: int
    layout: Layout

    @classmethod
    def of(cls, store: Store, config: TrainConfig, layout: Layout) -> Validation:
        """Initial times spread over split and hours of the day, in chunks of one size that the devices can share.

        Raises:
          DataError: no validation segment is long enough.
          ConfigError: there are fewer initial times than devices to share them.
        """
        try:
            starts = store.windows("validation", config.validation_steps + 1)
        except DataError as error:
            raise DataError(f"train.validation_steps: {config.validation_steps}: {error}") from None
        n = min(config.validation_windows, starts.size)
        most = min(max(config.batch_sizes), n)
        sizes = [s for s in range(layout.data, most + 1, layout.data) if 2 * s > most - layout.data]
        size = max(sizes, key=lambda s: (n - n % s, s), default=0)  # of those not much smaller, which leaves least out
        if size == 0:
            raise ConfigError(
                f"train.validation_windows: {n} initial times cannot be shared by {layout.data} devices; choose at "
                f"least as many (the validation split has {starts.size}), or set train.mesh.data"
            )
        n -= n % size
        rows = starts[clock.sample(store.times[starts], n)]
        return cls(store, rows.reshape(-1, size), config.validation_steps, layout)

    def program(self, weights: Stacks, batch: Batch, task: Task) -> jax.stages.Compiled:
        """What ``run`` runs for each chunk; shapes may stand in place of arrays."""
        return _moments.lower(weights, batch, task, self.layout).compile()

    def run(self, weights: Stacks, task: Task, between: Callable[[], None] = lambda: None) -> Skill:
        """Skill of forecasts with these weights; ``between`` is called after every chunk, and may raise to end it."""
        chunks = []
        with ThreadPoolExecutor(1) as reader:  # the next chunk is read while the devices work on this one
            arriving = [reader.submit(self._batch, self.rows[0])]
            for rows in (*self.rows[1:], None):
                batch = arriving.pop().result()
                if rows is not None:
                    arriving.append(reader.submit(self._batch, rows))
                chunks.append(np.asarray(_moments(weights, batch, task, self.layout)))
                between()
        moments = np.mean(chunks, axis=0).swapaxes(0, 1)
        unit = np.asarray(task.objective.units(task.stepper.normalizer.output_std[0], jnp.int32(0)))
        by_channel = np.asarray(task.objective.weights[task.objective.stage])
        loss = float((by_channel * moments[0] / unit**2).mean())
        error, change, true_change = moments
        # a channel that does not change at all, as some at the start of a nature run, has no activity to compare
        moving = np.where(true_change > 0, true_change, np.inf)
        channels = all_channels(self.store.spec, task.objective)
        return Skill(loss, np.sqrt(error), np.sqrt(change / moving), self.store.timestep, channels)

    def _batch(self, rows: np.ndarray) -> Batch:
        return load_batch(self.store, rows, self.steps, self.layout)


@partial(jax.jit, static_argnames="layout")
def _moments(weights: Stacks, batch: Batch, task: Task, layout: Layout) -> Float[Array, "steps kind channel"]:
    """Mean squares by lead and channel: of the error, of the forecast's change over a step and of the truth's.

    Channels are those of the loss. They are taken where the steps are made, as in a forecast, never held as a whole.
    """

    def on_one(weights: Stacks, batch: Batch, task: Task) -> Float[Array, "steps kind channel"]:
        params, objective = weights.params, task.objective
        states, forcing = jnp.asarray(batch.state), jnp.asarray(batch.forcing)
        at = partial(jax.lax.dynamic_index_in_dim, axis=1, keepdims=False)

        def mean_square(x: State) -> Float[Array, " channel"]:
            by_row = objective.latitude_weights[:, None, None]
            return jnp.mean(by_row * objective.channels(x) ** 2, axis=(0, 1, 2))

        def step(
            bases: Bases, now: tuple[Int[Array, ""], Int[Array, ""]]
        ) -> tuple[Bases, Float[Array, "kind channel"]]:
            i, which = now
            later = hop(task.stepper, params, bases, at(forcing, i), which)
            before, after, truth_before, truth = bases[0], later[0], at(states, i), at(states, i + 1)
            return later, jnp.stack([mean_square(x) for x in (after - truth, after - before, truth - truth_before)])

        rows = np.arange(forcing.shape[1])
        by_step = jnp.asarray(rows), jnp.asarray(last_steps(rows + 1, task.stepper.time_steps))
        _, moments = jax.lax.scan(step, bases_of(task.stepper, states[:, 0]), by_step)
        return jax.lax.pmean(moments, AXES)

    return on_every_device(on_one, layout, weights, batch, task)


def headline_channels(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """A few channels to watch: each variable at its only or its middle level."""
    by_variable: dict[str, list[Channel]] = {}
    for channel in channels:
        by_variable.setdefault(channel.variable, []).append(channel)
    middle = [of_one[len(of_one) // 2] for of_one in by_variable.values()]
    return tuple(c for i, c in enumerate(middle) if i < _MAX_HEADLINE or c.variable == GEOPOTENTIAL)
