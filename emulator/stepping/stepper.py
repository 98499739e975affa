"""One model step: normalise, ask the network, add the tendency, come back to physical units. Pure and jit-safe.

The network sees the normalised prognostic state at initial time, the normalised forcing of the step (at valid time:
solar radiation there is the mean over the time step of the data that ends then, and boundary fields change little in a
step) and the normalised static fields. It gives, for prognostic channels, the change over the step in units of its
standard deviation, and for diagnostic channels, which have no earlier value to start from, the normalised value itself.

One network can take steps of several lengths (``time_steps``): it is told which by channels that are one for the step
that is asked for and zero for the others (as Nguyen et al. 2023, arXiv:2312.03876, condition on the interval). It can
also be shown what the wind would change in the step (``advection``), in the units of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.preparation.statistics import Statistics
from data_prep.spec import Channel, StateSpec
from emulator.config import ModelConfig
from emulator.hardware.machine import factors_of
from emulator.models import build
from emulator.stepping.advection import Advection
from emulator.stepping.constraints import Constraints
from emulator.stepping.pytree import pytree

State = Float[Array, "batch lat lon state"]
Forcing = Float[Array, "batch lat lon forcing"]
Which = Int[Array, " batch"]


@pytree
@dataclass(frozen=True)
class Normalizer:
    """What the network's numbers mean, as arrays; made from the training split's ``Statistics``.

    Attributes:
      mean, std: Of state channels, ``(state,)``, in their units.
      output_std: Unit of the network's output: of the change over each of its steps for prognostic, of the value for
        diagnostic channels, ``(time_step, state)``.
      minimum: Physical lower bound of state channels, ``-inf`` where there is none.
      forcing_mean, forcing_std: Of forcing channels, ``(forcing,)``.
    """

    mean: Float[Array, " state"]
    std: Float[Array, " state"]
    output_std: Float[Array, "time_step state"]
    minimum: Float[Array, " state"]
    forcing_mean: Float[Array, " forcing"]
    forcing_std: Float[Array, " forcing"]

    @classmethod
    def of(cls, statistics: Statistics, spec: StateSpec) -> Normalizer:
        """The normaliser of a state.

        Raises:
          DataError: a channel has no usable standard deviation; it is named.
        """
        n = spec.n_prognostic
        _refuse_bad_scale(statistics.std, spec.state_channels, "standard deviation")
        changes = statistics.tendency_std[None]
        if statistics.longer_tendency_std is not None:
            changes = np.concatenate([changes, statistics.longer_tendency_std])
        for change in changes:
            _refuse_bad_scale(change[:n], spec.state_channels[:n], "standard deviation of its change")
        _refuse_bad_scale(statistics.forcing_std, spec.forcing_channels, "standard deviation")
        values = np.broadcast_to(statistics.std[n:], (len(changes), len(spec.state_channels) - n))
        output_std = np.concatenate([changes[:, :n], values], axis=1)
        forcing = statistics.forcing_mean, statistics.forcing_std
        arrays = (statistics.mean, statistics.std, output_std, spec.state_minimum, *forcing)
        return cls(*(jnp.asarray(array, jnp.float32) for array in arrays))


def _refuse_bad_scale(values: np.ndarray, channels: tuple[Channel, ...], what: str) -> None:
    bad = [c.name for c, v in zip(channels, values, strict=True) if not (np.isfinite(v) and v > 0)]
    if bad:
        raise DataError(f"statistics: the {what} of {', '.join(bad)} is not positive; remove it from the config's data")


@runtime_checkable
class Stepping(Protocol):
    """Whatever advances a state by one model step: a ``Stepper``, or a ``SupermodelStepper`` of several."""

    @property
    def time_steps(self) -> tuple[int, ...]:
        """See ``Stepper``."""
        ...

    def advance(self, params: Any, state: State, forcing: Forcing, which: Which) -> State:
        """See ``Stepper``."""
        ...


@pytree
@dataclass(frozen=True)
class Stepper:
    """Advances a state by one model step. A pytree: arrays are data, the network's structure is static.

    Attributes:
      normalizer: What the network's numbers mean.
      static: Normalised static fields, ``(lat, lon, static)``.
      network: Structure of the network; its parameters come with every call.
      advection: What it is shown beside the fields, if so.
      n_prognostic: How many leading state channels are prognostic.
      constraints: What its answer is held to.
      time_steps: Lengths of the steps that the network can take, in time steps of the data, ascending from 1.
    """

    normalizer: Normalizer
    static: Float[Array, "lat lon static"]
    network: nnx.GraphDef[nnx.Module] = field(metadata={"static": True})
    advection: Advection | None
    n_prognostic: int = field(metadata={"static": True})
    constraints: Constraints = field(metadata={"static": True})
    time_steps: tuple[int, ...] = field(metadata={"static": True})

    def output(self, params: nnx.State, state: State, forcing: Forcing, which: Which) -> State:
        """The network's answer in its own units (see the module)."""
        scale, place = self.normalizer, state.shape[:-1]
        prognostic = ((state - scale.mean) / scale.std)[..., : self.n_prognostic]
        static = jnp.broadcast_to(self.static, (*place, self.static.shape[-1]))
        parts = [prognostic, (forcing - scale.forcing_mean) / scale.forcing_std, static]
        if self.advection is not None:
            carried = self.advection(state[..., : self.n_prognostic], which)
            carried /= self.unit(which)[..., self.advection.channels]
            parts.append(carried.clip(-self.advection.bounds, self.advection.bounds))
        if len(self.time_steps) > 1:
            asked = jax.nn.one_hot(which, len(self.time_steps), dtype=state.dtype)
            parts.append(jnp.broadcast_to(asked[:, None, None], (*place, len(self.time_steps))))
        answer = nnx.merge(self.network, params)(jnp.concatenate(parts, axis=-1))
        return self.constraints(answer)

    def unit(self, which: Which) -> Float[Array, "batch 1 1 state"]:
        """Unit of the network's answers, and of errors in the loss, for steps of these lengths."""
        return self.normalizer.output_std[which][:, None, None]

    def advance(self, params: nnx.State, state: State, forcing: Forcing, which: Which) -> State:
        """The state one step later.

        Args:
          params: Parameters of the network.
          state: In physical units; diagnostic channels are not read.
          forcing: At valid time, in physical units.
          which: Of ``time_steps``, by its place there: how long the step of each state is.

        Returns:
          Physical units, not below the physical lower bounds.
        """
        scale = self.normalizer
        change = self.output(params, state, forcing, which) * self.unit(which)
        is_prognostic = jnp.arange(state.shape[-1]) < self.n_prognostic
        return _held_above(jnp.where(is_prognostic, state, scale.mean) + change, scale.minimum)


@jax.custom_jvp
def _held_above(fields: State, minimum: Float[Array, " state"]) -> State:
    """Not below ``minimum``; derivatives pass unheld, or no rain could be learned where none is forecast."""
    return jnp.maximum(fields, minimum)


_held_above.defjvps(lambda tangent, held, fields, minimum: tangent, None)


def network_channels(model: ModelConfig, spec: StateSpec) -> tuple[int, int]:
    """How many channels go into the network of a state, and how many come out."""
    n_steps = len(model.time_steps) if len(model.time_steps) > 1 else 0
    prognostic = spec.state_channels[: spec.n_prognostic]
    carried = len(prognostic) * model.advection + sum(c.level is not None for c in prognostic) * model.vertical_motion
    given = len(spec.forcing_channels) + len(spec.static_channels) + n_steps
    return len(prognostic) + carried + given, len(spec.state_channels)


def advection_of(model: ModelConfig, spec: StateSpec, grid: Grid, steps: Sequence[np.timedelta64]) -> Advection | None:
    """What the network is shown of what the wind brings, in steps of these lengths.

    Raises:
      ConfigError: the state does not hold what that follows from.
    """
    if not model.advection:
        return None
    return Advection.of(spec, grid, steps, cubic=model.interpolation == "cubic", vertical_motion=model.vertical_motion)


def make_stepper(
    model: ModelConfig,
    spec: StateSpec,
    grid: Grid,
    timestep: np.timedelta64,
    statistics: Statistics,
    static: np.ndarray,
    *,
    precision: str,
    seed: int | None,
) -> tuple[Stepper, nnx.State]:
    """A stepper and the initial parameters of its network, or what they are to be like.

    Args:
      model: Which network.
      spec, grid: What it forecasts, and where.
      timestep: Of the data.
      statistics: Of the training split, with the changes over all of the network's time steps.
      static: Static fields in raw units, ``(lat, lon, static)``.
      precision: Compute precision, as ``train.precision`` names it.
      seed: Of the initial parameters; ``None`` where others will take their place: nothing is compiled and drawn then,
        and ``jax.ShapeDtypeStruct`` stand for them.

    Raises:
      ConfigError: the network or a constraint on its answer does not fit the grid or the state.
      DataError: a channel cannot be normalised.
    """
    _refuse_bad_scale(statistics.static_std, spec.static_channels, "standard deviation")

    def initial() -> tuple[nnx.GraphDef[nnx.Module], nnx.State]:
        factors = factors_of(precision)
        dtype, rngs = factors if precision == factors else "float32", nnx.Rngs(seed or 0)
        channels = network_channels(model, spec)
        return nnx.split(build(model, *channels, grid, rngs, jnp.dtype(dtype), jnp.dtype(factors)))

    # Drawn by one program, which the next start finds compiled. It is waited for: where memory does not suffice, the
    # error must not travel into another program, on whose result XLA of a CPU would wait for ever.
    network, params = jax.eval_shape(initial) if seed is None else jax.block_until_ready(jax.jit(initial)())
    normal = (static - statistics.static_mean) / statistics.static_std
    constraints = Constraints.of(model, spec, grid)
    normalizer = Normalizer.of(statistics, spec)
    steps = tuple(model.time_steps)
    if len(normalizer.output_std) != len(steps):
        raise DataError(
            f"statistics: hold changes over {len(normalizer.output_std)} time steps, the network takes {steps}"
        )
    static_fields = jnp.asarray(normal, jnp.float32)
    lengths = [timestep * step for step in steps]
    advection = advection_of(model, spec, grid, lengths)
    return Stepper(normalizer, static_fields, network, advection, spec.n_prognostic, constraints, steps), params
