"""What training minimises: squared error by area, by variable, in units of a normal change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_prep.errors import ConfigError
from data_prep.preparation.store import Store
from data_prep.spec import Channel, StateSpec
from emulator.config import TrainConfig
from emulator.config.kinds import LevelWeighting
from emulator.stepping.longer_steps import changes
from emulator.stepping.pytree import pytree
from emulator.training.geopotential_error import GEOPOTENTIAL, geopotential_channels, geopotential_matrix

_EXPONENT: Mapping[LevelWeighting, float] = {"equal": 0.0, "sqrt_pressure": 0.5, "pressure": 1.0}


@pytree
@dataclass(frozen=True)
class Objective:
    """The loss of a training; a pytree.

    It knows the state's channels and, behind them, those that are linear in a state and count too (``derived``).

    Attributes:
      latitude_weights: Area weight of each row, mean 1.
      weights: Weight of each channel in each stage of training, mean 1, ``(stage, channel)``.
      stage: Which stage it is; at first the last one, by whose weights validation goes.
      derived: The derived channels of a difference of two states: ``difference @ derived``, ``(state, derived)``.
      derived_unit: Unit of their errors for each of the network's steps, ``(time_step, derived)``.
    """

    latitude_weights: Float[Array, " lat"]
    weights: Float[Array, "stage channel"]
    stage: Int[Array, ""]
    derived: Float[Array, "state derived"]
    derived_unit: Float[Array, "time_step derived"]

    @classmethod
    def of(cls, config: TrainConfig, store: Store, mean: np.ndarray, time_steps: Sequence[int]) -> Objective:
        """The loss that a config asks for.

        Args:
          config: Weights of variables and levels.
          store: What is learned from; asked for changes over the time steps, should there be derived channels.
          mean: Of the state channels' fields, also where the store holds anomalies, ``(state,)``.
          time_steps: Of the network, in time steps of the store.

        Raises:
          ConfigError: a weight is that of no variable.
        """
        spec = store.spec
        weights, derived = weights_by_stage(config, spec)
        matrix = np.zeros((len(spec.state_channels), 0), np.float32)
        unit = np.zeros((len(time_steps), 0), np.float32)
        if derived:
            matrix = geopotential_matrix(spec, mean)
            unit = np.stack([changes(store, step, matrix).std.astype(np.float32) for step in time_steps])
        rows = np.asarray(store.grid.latitude_weights, np.float32)
        # Other ways onto a device than this compile a program for every shape.
        return cls(*jax.device_put((rows, weights, np.int32(len(weights) - 1), matrix, unit)))

    def channels(self, difference: Float[Array, "*any state"]) -> Float[Array, "*any channel"]:
        """A difference of two states with its derived channels, in their units."""
        if not self.derived.shape[1]:
            return difference
        derived = jnp.matmul(difference, self.derived, precision="highest")
        return jnp.concatenate([difference, derived], axis=-1)

    def units(self, state: Float[Array, "*batch state"], which: Int[Array, "*batch"]) -> Float[Array, "*batch channel"]:
        """Units of all channels: those of the state channels, and of the derived ones for steps of these lengths."""
        return jnp.concatenate([state, self.derived_unit[which]], axis=-1)

    def loss(
        self,
        forecast: Float[Array, "batch time lat lon state"],
        truth: Float[Array, "batch time lat lon state"],
        unit: Float[Array, "batch channel"],
    ) -> Float[Array, ""]:
        """Mean squared error over everything.

        Args:
          forecast, truth: States in physical units.
          unit: What an error of each channel is divided by, of ``units``: the standard deviation of its change over one
            step (of its value, if diagnostic), so that persistence scores about 1 after one step in every channel.

        Returns:
          mean over batch, time, lat, lon and channel of ``latitude_weights * weights * (error / unit)^2``.
        """
        error = self.channels(forecast - truth) / unit[:, None, None, None]
        return jnp.mean(self.latitude_weights[:, None, None] * self.weights[self.stage] * error**2)


def all_channels(spec: StateSpec, objective: Objective) -> tuple[Channel, ...]:
    """The channels that an objective knows: those of the state, and the derived ones that it has."""
    return (*spec.state_channels, *geopotential_channels(spec)[: objective.derived.shape[1]])


def weights_by_stage(config: TrainConfig, spec: StateSpec) -> tuple[np.ndarray, tuple[Channel, ...]]:
    """The weight of every channel in each stage, ``(stage, channel)``, and the derived channels among them.

    Raises:
      ConfigError: a weight is that of no variable.
    """
    named = [config.variable_weights if s.variable_weights is None else s.variable_weights for s in config.stages]
    keys = ["train." if s.variable_weights is None else f"train.stages.{i}." for i, s in enumerate(config.stages)]
    derived = derived_channels(spec, named)
    weights = [
        channel_weights(spec, each, config.level_weighting, derived, key=f"{key}variable_weights")
        for key, each in zip(keys, named, strict=True)
    ]
    return np.stack(weights), derived


def derived_channels(spec: StateSpec, weights: Sequence[Mapping[str, float]]) -> tuple[Channel, ...]:
    """The channels behind those of the state that some weights ask for."""
    return geopotential_channels(spec) if any(GEOPOTENTIAL in named for named in weights) else ()


def channel_weights(
    spec: StateSpec,
    variable_weights: Mapping[str, float],
    level_weighting: LevelWeighting = "equal",
    derived: Sequence[Channel] = (),
    *,
    key: str = "train.variable_weights",
) -> np.ndarray:
    """Weight of every channel in the loss, mean 1, float32 ``(channel,)``: those of the state, then the derived ones.

    Args:
      spec: The channels of the state.
      variable_weights: Weight of a variable; where it is not named 1, or none if it is derived.
      level_weighting: ``pressure`` weighs the levels of a variable in proportion to their pressure or sigma, hence to
        the density of the air there (Lam et al. 2023, doi:10.1126/science.adi2336), ``sqrt_pressure`` to the root of
        it; both leave the mean weight of the variable alone. ``equal`` weighs them alike.
      derived: Channels that count where their variable is named.
      key: Where the config has the weights, for the error.

    Raises:
      ConfigError: a name is no such variable.
    """
    channels = (*spec.state_channels, *derived)
    names = [c.variable for c in channels]
    unknown = sorted(set(variable_weights) - set(names))
    if unknown:
        possible = (*spec.state_channels, *geopotential_channels(spec))
        raise ConfigError(
            f"{key}: {', '.join(unknown)}: no such state variable; there are "
            f"{', '.join(dict.fromkeys(c.variable for c in possible))}"
        )
    unnamed = np.repeat([1.0, 0.0], [len(spec.state_channels), len(derived)])
    weights = np.array([variable_weights.get(name, least) for name, least in zip(names, unnamed, strict=True)])
    levels = np.array([1.0 if c.level is None else c.level for c in channels])
    by_level = levels ** _EXPONENT[level_weighting]
    mean_of = {name: np.mean(by_level[[n == name for n in names]]) for name in names}
    weights *= by_level / [mean_of[name] for name in names]
    return (weights / weights.mean()).astype(np.float32)
