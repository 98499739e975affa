"""One optimiser step, from a batch to new weights: what is compiled.

noise on the initial state -> on every device: rollout, loss, gradient of its share -> one sum over devices
-> clip, update, average; or, where loss or gradient is not finite, nothing but the count
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from emulator.config import TrainConfig
from emulator.stepping.pytree import pytree
from emulator.stepping.rollout import last_of_rollout, rollout
from emulator.stepping.stepper import Stepper
from emulator.training.devices import AXES, ROWS, WHOLE, Layout, windows_spec
from emulator.training.loader import Batch
from emulator.training.losses import Objective
from emulator.training.optimiser import learning_rate_schedule, make_optimiser, scheduled_at
from emulator.training.stacks import Stacks

Result = TypeVar("Result")

UNROLLED = 12
"""Rollouts up to so many steps are compiled without a loop for a GPU, where a third of their time would go into copying
what the backward pass needs in and out of the loop's arrays. On a CPU that makes no difference, and TPUs take minutes
to compile it."""


class TrainState(NamedTuple):
    """Everything that changes while training; with the batches, which ``step`` names, all that decides its course.

    Attributes:
      step: Batches seen, int32.
      skipped: Of them in a row, up to now, that were skipped, int32.
      params: Weights.
      averaged: Exponential moving average of the weights: what validation and forecasts use.
      optimiser: State of the optimiser.
    """

    step: Int[Array, ""]
    skipped: Int[Array, ""]
    params: Stacks
    averaged: Stacks
    optimiser: optax.OptState

    @classmethod
    def fresh(cls, params: nnx.State, config: TrainConfig) -> TrainState:
        """The state before the first step, on the host: devices hold no second copy of what training takes over."""
        optimiser = make_optimiser(config, learning_rate_schedule(config.stages))

        def initial(params: nnx.State) -> tuple[Stacks, Stacks, optax.OptState]:
            stacks = Stacks.of(params)
            return stacks, jax.tree.map(jnp.copy, stacks), optimiser.init(stacks)

        # one program, which the next start finds compiled
        return cls(*jax.device_get((np.int32(0), np.int32(0), *jax.jit(initial)(params))))


class Norms(NamedTuple):
    """Scalars of one step; ``skipped`` as in the state after it. Norms are Euclidean, over all weights together.

    The learning rate is the one that was used; its schedule goes on while steps are skipped.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    update_norm: Float[Array, ""]
    parameter_norm: Float[Array, ""]
    finite: Bool[Array, ""]
    skipped: Int[Array, ""]
    learning_rate: Float[Array, ""]


@pytree
@dataclass(frozen=True)
class Task:
    """What the loss needs beside state and batch; a pytree, so that nothing large is compiled in as a constant."""

    stepper: Stepper
    objective: Objective
    rematerialise: bool = field(metadata={"static": True})

    def specs(self) -> Any:
        """How it lies on the mesh: a task of ``PartitionSpec`` that splits what has latitudes."""
        by_row = {id(self.objective.latitude_weights), id(self.stepper.static)}
        return jax.tree.map(lambda leaf: ROWS if id(leaf) in by_row else WHOLE, self)


def on_every_device(
    work: Callable[[Stacks, Batch, Task], Result], layout: Layout, stacks: Stacks, batch: Batch, task: Task
) -> Result:
    """``work(stacks, batch, task)`` on every device with its windows and its band of latitudes.

    What ``work`` returns must be the same on all of them: a sum or a mean over ``AXES``.
    """
    specs = (WHOLE, jax.tree.map(lambda array: windows_spec(array.ndim), batch), task.specs())
    return jax.shard_map(work, mesh=layout.mesh, in_specs=specs, out_specs=WHOLE)(stacks, batch, task)


def loss_of(params: nnx.State, batch: Batch, task: Task, *, unroll: bool = False) -> Float[Array, ""]:
    """Loss of a rollout through the last times of a batch; ``unroll`` as of ``rollout``.

    Before them the network takes ``batch.free`` steps by itself. No gradient goes through these: it learns what to do
    with a state of its own making, not to make another (Brandstetter et al. 2022, arXiv:2202.03376).
    """
    truth, forcing, which = (jnp.asarray(array) for array in batch)
    free, state = batch.free, truth[:, 0]
    if free:
        alone = last_of_rollout(task.stepper, jax.lax.stop_gradient(params), state, forcing[:, :free], which)
        state = jax.lax.stop_gradient(alone)
    forecast = rollout(
        task.stepper, params, state, forcing[:, free:], which, rematerialise=task.rematerialise, unroll=unroll
    )
    unit = task.objective.units(task.stepper.normalizer.output_std[which], which)
    return task.objective.loss(forecast, truth[:, 1:], unit)


def unrolled(config: TrainConfig, layout: Layout) -> frozenset[int]:
    """Lengths of rollouts that are compiled without a loop: of those lengths alone that a stage keeps to."""
    if layout.mesh.devices.flat[0].platform != "gpu":
        return frozenset()
    fixed = {stage.rollout for stage in config.stages if not stage.random_length}
    return frozenset(length for length in fixed if length <= UNROLLED)


def make_train_step(config: TrainConfig, layout: Layout, seed: int) -> jax.stages.Wrapped:
    """The step, to be compiled: ``(state, batch, task) -> (state, norms)``, arrays on the layout's mesh.

    It takes over the state's buffers. A loss or gradient that is not finite changes nothing but the counts.

    Args:
      config: Stages, optimiser, averaging, noise and accumulation.
      layout: The devices.
      seed: Of the noise.
    """
    schedule = learning_rate_schedule(config.stages)
    optimiser = make_optimiser(config, schedule)
    without_loop = unrolled(config, layout)

    def loss_and_gradient(stacks: Stacks, batch: Batch, task: Task) -> tuple[Float[Array, ""], Stacks]:
        # Each device differentiates with respect to a copy of its own. Were the weights common, the sum over devices
        # would sit wherever they are used: in every step of a rollout, in every part of a batch.
        own = jax.lax.pcast(stacks.params, AXES, to="varying")
        loss, gradient = _by_parts(own, batch, task, config.accumulate, batch.state.shape[1] - 1 in without_loop)
        return jax.lax.pmean((loss, Stacks.of(gradient)), AXES)

    def train_step(state: TrainState, batch: Batch, task: Task) -> tuple[TrainState, Norms]:
        if config.input_noise:
            batch = with_noise(
                batch, task.stepper, config.input_noise, jax.random.fold_in(jax.random.key(seed), state.step)
            )
        now = replace(task, objective=replace(task.objective, stage=stage_of(config, state.step)))
        loss, gradient = on_every_device(loss_and_gradient, layout, state.params, batch, now)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = averaging_decay(config, state.step)
        averaged = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.averaged, params)
        gradient_norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        kept = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, averaged, optimiser_state),
            (state.params, state.averaged, state.optimiser),
        )
        after = TrainState(state.step + 1, jnp.where(finite, 0, state.skipped + 1), *kept)
        after = after._replace(optimiser=scheduled_at(after.step, after.optimiser))
        update_norm, parameter_norm = optax.tree.norm(updates), optax.tree.norm(after.params)
        rate = jnp.asarray(schedule(state.step))
        return after, Norms(loss, gradient_norm, update_norm, parameter_norm, finite, after.skipped, rate)

    return jax.jit(train_step, donate_argnums=0, out_shardings=layout.sharding(WHOLE))


def averaging_decay(config: TrainConfig, step: Int[Array, ""]) -> Float[Array, ""]:
    """What the averaged weights keep of themselves in a step: ``(1 + s) / (10 + s)``, at most ``ema_decay``.

    ``s`` counts from the beginning of the stage. So neither the random start nor an earlier stage, which asked for
    something else, stays in the average for the thousand steps that a decay of 0.999 remembers.
    """
    since = step - _starts(config)[stage_of(config, step)]
    return jnp.minimum(config.ema_decay, (1.0 + since) / (10.0 + since))


def stage_of(config: TrainConfig, step: Int[Array, ""]) -> Int[Array, ""]:
    """Which stage of the course a step belongs to."""
    return jnp.searchsorted(_starts(config), step, side="right") - 1


def _starts(config: TrainConfig) -> Int[Array, " stage"]:
    """First step of every stage."""
    return jnp.asarray(np.cumsum([0, *(stage.steps for stage in config.stages[:-1])]))


def _by_parts(
    params: nnx.State, batch: Batch, task: Task, parts: int, unroll: bool
) -> tuple[Float[Array, ""], nnx.State]:
    """Loss and gradient of a batch, worked off in so many equal parts."""
    value_and_grad = jax.value_and_grad(partial(loss_of, unroll=unroll))
    if parts == 1:
        return value_and_grad(params, batch, task)

    def add(total: tuple[Array, nnx.State], part: Batch) -> tuple[tuple[Array, nnx.State], None]:
        return jax.tree.map(jnp.add, total, value_and_grad(params, part, task)), None

    split = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), batch)
    nothing = (jnp.zeros(()), jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params))
    total, _ = jax.lax.scan(add, jax.lax.pcast(nothing, AXES, to="varying"), split)
    return jax.tree.map(lambda x: x / parts, total)


def with_noise(batch: Batch, stepper: Stepper, size: float, key: Array) -> Batch:
    """The batch with noise on the prognostic channels of its initial states, within their physical bounds.

    It is held to what the network's answer is held to, which could not undo any other.

    A network that is shown states a little off, as its own forecasts are, and the truth that follows, learns to come
    back (Sanchez-Gonzalez et al. 2020, arXiv:2002.09405). The numbers depend on step and place alone, not on the mesh.

    Args:
      batch: The windows.
      stepper: Knows the channels and their units.
      size: Standard deviation before constraints, in standard deviations of the change over a step of the window's
        length.
      key: Of the random numbers.
    """
    state = jnp.asarray(batch.state)
    n, scale = stepper.n_prognostic, stepper.normalizer
    unit = stepper.unit(jnp.asarray(batch.which))[..., :n]
    noise = jax.random.normal(key, (*state.shape[:1], *state.shape[2:4], n))
    others = jnp.zeros((*noise.shape[:-1], state.shape[-1] - n))
    noise = size * unit * stepper.constraints(jnp.concatenate([noise, others], axis=-1))[..., :n]
    noisy = jnp.maximum(state[:, 0, ..., :n] + noise, scale.minimum[:n])
    return batch._replace(state=state.at[:, 0, ..., :n].set(noisy))
