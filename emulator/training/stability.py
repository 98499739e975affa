"""Early warning: what shows, before a loss does, that training or its forecasts are about to blow up."""

from __future__ import annotations

from collections import deque

import numpy as np

from emulator.training.validation import Skill

_RESTLESS = 2.0
_SPIKE = 10.0
_REMEMBERED, _ENOUGH = 100, 20


def forecast_warning(skill: Skill) -> str | None:
    """What is wrong with validation forecasts, in one line; ``None`` where all is well.

    A channel that changes twice as much in a step as the truth does is on its way to blow up, often many leads before
    it stops being finite. The first lead at which that happens is named, and the worst channel there.
    """
    names, hours = [c.name for c in skill.channels], skill.lead_hours
    lost = ~(np.isfinite(skill.activity) & np.isfinite(skill.rmse))
    if lost.any():
        step, channel = np.argwhere(lost)[0]
        return f"forecasts are not finite from lead {hours[step]:g} h on, first in {names[channel]}"
    restless = (skill.activity > _RESTLESS).any(axis=1)
    if restless.any():
        step = int(restless.argmax())
        channel = int(skill.activity[step].argmax())
        return (
            f"forecasts are unstable from lead {hours[step]:g} h on: {names[channel]} changes "
            f"{skill.activity[step, channel]:.3g} times as much in a step as the truth, "
            f"{skill.activity[-1, channel]:.3g} times at {hours[-1]:g} h"
        )
    return None


class GradientWatch:
    """Tells when a gradient is far larger than those before it in its stage. One warning for a row of them."""

    def __init__(self) -> None:
        """Starts with no memory."""
        self._norms: deque[float] = deque(maxlen=_REMEMBERED)
        self._stage = 0
        self._warned = False

    def warning(self, norm: float, stage: int) -> str | None:
        """Takes the next finite gradient norm; a warning in one line if it begins a row of spikes.

        Args:
          norm: Of the gradient.
          stage: A number of the stage's own: gradients of longer rollouts are larger, which is no sign of anything.
        """
        if stage != self._stage:
            self._norms.clear()
            self._stage = stage
        median = float(np.median(self._norms)) if len(self._norms) >= _ENOUGH else np.inf
        spike = 0 < _SPIKE * median < norm
        new = spike and not self._warned
        self._warned = spike
        self._norms.append(norm)
        return f"gradient norm {norm:.3g}, {norm / median:.0f} times its median of late" if new else None
