"""What a network's answer may not hold, whatever its weights: scales finer than the data's, changes of a global mean.

A network that works on patches or cells can put power at scales where the data have none, and what it puts there feeds
on itself from step to step. Fields of a spectral model have nothing beyond its truncation. Likewise the mass of the air
does not change, and a small error in its change adds up over a long run. Where a network learns departures from
climatology, it is the mean departure that stays: the climatology's own mean, with its course of the year, is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_prep.errors import ConfigError
from data_prep.grid import Grid
from data_prep.spec import StateSpec
from emulator.config import ModelConfig
from emulator.models.spherical_harmonics import SphericalHarmonics, check_truncation

Fields = Float[Array, "batch lat lon channel"]


@dataclass(frozen=True)
class Constraints:
    """Projects a network's answer onto what it may hold. Hashable, so it may be jit-static.

    Attributes:
      grid: Of the fields; global where there is any constraint.
      truncated: Channels and, for each, the highest degree and order of its spherical harmonics.
      conserved: Channels whose global mean stays.
    """

    grid: Grid
    truncated: tuple[tuple[int, int], ...] = ()
    conserved: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: ModelConfig, spec: StateSpec, grid: Grid) -> Constraints:
        """The constraints that a config asks for.

        Args:
          model: Its section.
          spec, grid: The state, and where.

        Raises:
          ConfigError: a variable is not of the state, or the grid is regional or too coarse.
        """
        degrees = model.output_truncation
        if (degrees or model.conserve) and not grid.is_global:
            key = "output_truncation" if degrees else "conserve"
            raise ConfigError(f"model.{key} needs a grid that covers the globe, found {grid.describe()}")
        names = [channel.variable for channel in spec.state_channels]
        _refuse_unknown(degrees, names, "output_truncation")
        _refuse_unknown(model.conserve, names[: spec.n_prognostic], "conserve")
        for name, degree in degrees.items():
            check_truncation(degree, *grid.shape, grid.describe(), f"model.output_truncation.{name}")
        return cls(
            grid,
            tuple((i, degrees[name]) for i, name in enumerate(names) if name in degrees),
            tuple(i for i, name in enumerate(names) if name in model.conserve),
        )

    def __call__(self, answer: Fields) -> Fields:
        """The answer with what it may hold, in float32; channels without a constraint as they are."""
        if self.truncated:
            answer = self._truncate(answer)
        if self.conserved:
            chosen = np.array(self.conserved)
            weights = jnp.asarray(self.grid.latitude_weights, jnp.float32)[:, None, None]
            means = (answer[..., chosen] * weights).mean(axis=(1, 2), keepdims=True) / weights.mean()
            answer += jnp.zeros((*means.shape[:-1], answer.shape[-1])).at[..., chosen].set(-means)
        return answer

    def _truncate(self, answer: Fields) -> Fields:
        channels, degrees = map(np.array, zip(*self.truncated, strict=True))
        harmonics = SphericalHarmonics.of(self.grid, int(degrees.max()))
        keep = np.arange(degrees.max() + 1)[:, None] <= degrees
        # slices and no indices, with which an accelerator goes over all fields once more
        cuts = _runs(np.isin(np.arange(answer.shape[-1]), channels))
        fine = jnp.concatenate([answer[..., part] for part, chosen in cuts if chosen], axis=-1)
        z = harmonics.analyse(fine) * jnp.asarray(keep, jnp.float32)[:, None, None]
        smooth, done, out = harmonics.synthesise(z), 0, []
        for part, chosen in cuts:
            n = part.stop - part.start
            out.append(smooth[..., done : done + n] if chosen else answer[..., part])
            done += n if chosen else 0
        return jnp.concatenate(out, axis=-1)


def _runs(mask: np.ndarray) -> list[tuple[slice, bool]]:
    """Slices of equal values, and the values."""
    ends = [0, *(np.flatnonzero(np.diff(mask)) + 1), mask.size]
    return [(slice(int(a), int(b)), bool(mask[a])) for a, b in pairwise(ends)]


def _refuse_unknown(asked: Iterable[str], names: list[str], key: str) -> None:
    unknown = sorted(set(asked) - set(names))
    if unknown:
        what = "prognostic variable" if key == "conserve" else "variable"
        known = ", ".join(dict.fromkeys(names))
        raise ConfigError(f"model.{key}: {unknown[0]} is no {what} of the state, which has {known}")
