"""Many model steps in one ``lax.scan``: the same function in training and in forecasting."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from emulator.stepper import Forcing, State, Stepper


class Relaxation(NamedTuple):
    """A decay of states towards some target, beside what the network does to them; a pytree.

    Attributes:
      rate: Share of the difference that a step takes off.
      target: At the valid time of every step, physical units.
    """

    rate: Float[Array | np.ndarray, " state"]
    target: Float[Array | np.ndarray, "batch time lat lon state"]


def rollout(
    stepper: Stepper,
    params: nnx.State,
    initial: State,
    forcing: Float[Array, "batch time lat lon forcing"],
    *,
    relaxation: Relaxation | None = None,
    rematerialise: bool = False,
    unroll: bool = False,
) -> Float[Array, "batch time lat lon state"]:
    """States after 1, 2, ... steps.

    Args:
      stepper: One step.
      params: Parameters of its network.
      initial: State at initial time, physical units.
      forcing: At the valid time of every step, physical units; its time axis says how many steps.
      relaxation: What the states decay towards, if anything.
      rematerialise: Recompute what happens within a step in the backward pass instead of keeping it: memory of the
        states plus one step instead of all steps, for a third more arithmetic.
      unroll: Compile every step apart instead of a loop.
    """

    def step(state: State, now: tuple[Forcing, State | None]) -> tuple[State, State]:
        forcing_now, target_now = now
        state = stepper.advance(params, state, forcing_now)
        if relaxation is not None and target_now is not None:
            state += relaxation.rate * (target_now - state)
        return state, state

    target = None if relaxation is None else jnp.moveaxis(relaxation.target, 1, 0)
    by_step = (jnp.moveaxis(forcing, 1, 0), target)
    _, states = jax.lax.scan(jax.checkpoint(step) if rematerialise else step, initial, by_step, unroll=unroll)
    return jnp.moveaxis(states, 0, 1)
