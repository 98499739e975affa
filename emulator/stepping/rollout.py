"""Many model steps in one ``lax.scan``: steps of one length for training, of all lengths together for forecasts.

A network that takes steps of 1 and 4 rows forecasts row ``n`` by the longest step that divides ``n``: rows 4, 8, 12 by
fours, the rows between by ones from there (Bi et al. 2023, doi:10.1038/s41586-023-06185-3). Every row costs one step
whatever the lengths are, and its error has come through as few of them as there can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from emulator.stepping.stepper import Forcing, State, Stepping, Which

Bases: TypeAlias = Float[Array, "time_step batch lat lon state"]
"""For each length of step, the state that the next step of that length goes out from; the first is the newest."""


Params: TypeAlias = nnx.State | tuple[Any, ...]
"""Of one network, or of each of several that step together."""


class Relaxation(NamedTuple):
    """A decay of states towards some target, beside what the network does to them; a pytree.

    Attributes:
      rate: Share of the difference that a step of each length takes off.
      target: At the valid time of every step, physical units.
    """

    rate: Float[Array | np.ndarray, "time_step state"]
    target: Float[Array | np.ndarray, "batch time lat lon state"]


def rollout(
    stepper: Stepping,
    params: Params,
    initial: State,
    forcing: Float[Array, "batch time lat lon forcing"],
    which: Which,
    *,
    rematerialise: bool = False,
    unroll: bool = False,
) -> Float[Array, "batch time lat lon state"]:
    """States after 1, 2, ... steps, all of a window of one length.

    Args:
      stepper: One step.
      params: Parameters of its network, or networks.
      initial: State at initial time, physical units.
      forcing: At the valid time of every step, physical units; its time axis says how many steps.
      which: How long the steps of each window are, as ``Stepper.advance`` takes it.
      rematerialise: Recompute what happens within a step in the backward pass instead of keeping it: memory of the
        states plus one step instead of all steps, for up to a third more arithmetic (``recomputed``). Of the last step
        it is kept, for there it is needed at once.
      unroll: Compile every step apart instead of a loop; a single step is none in any case, which halves the time to
        trace it.
    """

    def step(state: State, forcing_now: Forcing) -> tuple[State, State]:
        state = stepper.advance(params, state, forcing_now, which)
        return state, state

    by_step = jnp.moveaxis(forcing, 1, 0)
    if len(by_step) == 1:
        states = step(initial, by_step[0])[1][None]
    elif rematerialise:
        state, early = jax.lax.scan(jax.checkpoint(step), initial, by_step[:-1], unroll=unroll)
        states = jnp.concatenate([early, step(state, by_step[-1])[1][None]])
    else:
        _, states = jax.lax.scan(step, initial, by_step, unroll=unroll)
    return jnp.moveaxis(states, 0, 1)


def last_of_rollout(
    stepper: Stepping, params: Params, initial: State, forcing: Float[Array, "batch time lat lon forcing"], which: Which
) -> State:
    """The last state of ``rollout``, without memory for those before it."""

    def step(state: State, forcing_now: Forcing) -> tuple[State, None]:
        return stepper.advance(params, state, forcing_now, which), None

    return jax.lax.scan(step, initial, jnp.moveaxis(forcing, 1, 0))[0]


def recomputed(steps: int) -> float:
    """Arithmetic of a training step over so many model steps with ``rematerialise``, over that without."""
    return (4 * steps - 1) / (3 * steps)


def trajectory(
    stepper: Stepping,
    params: Params,
    bases: Bases,
    forcing: Float[Array, "batch time lat lon forcing"],
    which: Int[Array, " time"],
    relaxation: Relaxation | None = None,
) -> tuple[Float[Array, "batch time lat lon state"], Bases]:
    """The states of a forecast at some rows, by steps of all lengths.

    Args:
      stepper: One step.
      params: Parameters of its network, or networks.
      bases: Of ``bases_of``, or as the rows before left them.
      forcing: At the valid time of every row, physical units.
      which: By which step each row is come to, as ``last_steps`` says of ``rows_on_the_way``.
      relaxation: What the states decay towards, if anything.

    Returns:
      The states, and the bases for the rows after them.
    """

    def row(bases: Bases, now: tuple[Forcing, Int[Array, ""], State | None]) -> tuple[Bases, State]:
        forcing_now, which_now, target = now
        rate = None if relaxation is None else jnp.asarray(relaxation.rate)[which_now]
        bases = hop(stepper, params, bases, forcing_now, which_now, rate, target)
        return bases, bases[0]

    target = None if relaxation is None else jnp.moveaxis(jnp.asarray(relaxation.target), 1, 0)
    bases, states = jax.lax.scan(row, bases, (jnp.moveaxis(forcing, 1, 0), which, target))
    return jnp.moveaxis(states, 0, 1), bases


def bases_of(stepper: Stepping, initial: State) -> Bases:
    """What a forecast from these states begins with."""
    return jnp.broadcast_to(initial, (len(stepper.time_steps), *initial.shape))


def hop(
    stepper: Stepping,
    params: Params,
    bases: Bases,
    forcing: Forcing,
    which: Int[Array, ""],
    rate: Float[Array, " state"] | None = None,
    target: State | None = None,
) -> Bases:
    """The bases at the next row of a forecast: steps of the length that led there, and of all shorter, go on from it.

    Arguments are those of ``trajectory``, of one row.
    """
    state = stepper.advance(params, bases[which], forcing, jnp.full(forcing.shape[0], which))
    if rate is not None and target is not None:
        state += rate * (target - state)
    place = jnp.arange(len(bases))[(..., *[None] * state.ndim)]
    return jnp.where(place <= which, state, bases)


def last_steps(rows: np.ndarray, time_steps: Sequence[int]) -> np.ndarray:
    """By which step, as its place in ``time_steps``, a forecast comes to each row: by the longest that divides it."""
    fits = np.asarray(rows)[:, None] % np.asarray(time_steps) == 0
    return np.asarray(len(time_steps) - 1 - fits[:, ::-1].argmax(axis=1), np.int32)


def rows_on_the_way(wanted: np.ndarray, time_steps: Sequence[int]) -> np.ndarray:
    """All rows that a forecast must make for the sake of some of them, ascending; row 0 is the initial state."""
    needed: set[int] = set()
    for row in np.asarray(wanted).tolist():
        while row > 0 and row not in needed:
            needed.add(row)
            row -= time_steps[int(last_steps(np.array([row]), time_steps)[0])]
    return np.array(sorted(needed), np.int64)
