"""Many model steps in one ``lax.scan``: the same function in training and in forecasting."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from emulator.stepper import Forcing, State, Stepper


def rollout(
    stepper: Stepper,
    params: nnx.State,
    initial: State,
    forcing: Float[Array, "batch time lat lon forcing"],
    *,
    rematerialise: bool = False,
) -> Float[Array, "batch time lat lon state"]:
    """States after 1, 2, ... steps.

    Args:
      stepper: One step.
      params: Parameters of its network.
      initial: State at initial time, physical units.
      forcing: At the valid time of every step, physical units; its time axis says how many steps.
      rematerialise: Recompute what happens within a step in the backward pass instead of keeping it: memory of the
        states plus one step instead of all steps, for a third more arithmetic.
    """

    def step(state: State, forcing_now: Forcing) -> tuple[State, State]:
        state = stepper.advance(params, state, forcing_now)
        return state, state

    _, states = jax.lax.scan(jax.checkpoint(step) if rematerialise else step, initial, jnp.moveaxis(forcing, 1, 0))
    return jnp.moveaxis(states, 0, 1)
