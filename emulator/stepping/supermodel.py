"""Several networks that take every step together: all step from the same state, and the mean of the steps is the next.

This is a weighted supermodel with equal weights (Schevenhoven and Carrassi 2022, doi:10.5194/gmd-15-3831-2022). What
the networks get wrong each in its own way cancels in part in every step, as it does in the mean of their forecasts. But
there is one trajectory, and none that have parted are averaged, so late leads are as sharp as a network's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from emulator.stepping.pytree import pytree
from emulator.stepping.stepper import Forcing, State, Stepping, Which


@pytree
@dataclass(frozen=True)
class SupermodelStepper:
    """Steps as a ``Stepper`` does, by the parameters of several networks; a pytree.

    Attributes:
      steppers: One of each network; all take the same time steps.
    """

    steppers: tuple[Stepping, ...]

    @property
    def time_steps(self) -> tuple[int, ...]:
        """See ``Stepper``."""
        return self.steppers[0].time_steps

    def advance(self, params: tuple[Any, ...], state: State, forcing: Forcing, which: Which) -> State:
        """See ``Stepper.advance``; ``params`` are those of every network."""
        pairs = zip(self.steppers, params, strict=True)
        return jnp.mean(jnp.stack([stepper.advance(own, state, forcing, which) for stepper, own in pairs]), axis=0)
