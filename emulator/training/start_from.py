"""Weights that training begins with: those of another run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from data_prep import clock
from data_prep.errors import ConfigError
from data_prep.preparation.store import Store
from data_prep.spec import StateSpec
from emulator.checkpoint import read_description, read_weights, warn_if_half_trained
from emulator.config import ModelConfig, TrainConfig

logger = logging.getLogger(__name__)


def pretrained_weights(
    folder: Path, params: nnx.State, config: TrainConfig, model: ModelConfig, store: Store
) -> nnx.State:
    """The weights of another run, in the structure of ``params``; a warning where numbers meant something else there.

    Raises:
      ConfigError: that network takes other steps, so that weights of one length would be taken for another's.
      DataError: it has none, or is another network.
    """
    warn_if_half_trained(folder)
    weights = check_start(folder, params, model)
    if differing := _differing(read_description(folder), config, model, store):
        logger.warning("train.start_from: weights of %s are taken though %s", folder, "; ".join(differing))
    return weights


def check_start(folder: Path, params: nnx.State, model: ModelConfig) -> nnx.State:
    """The weights alone, refused as by ``pretrained_weights`` and nothing said."""
    steps = read_description(folder)["model"].get("time_steps", [1])
    if steps != model.time_steps:
        raise ConfigError(f"train.start_from: {folder} has model.time_steps {steps}, this config {model.time_steps}")
    return read_weights(folder, params)


def _differing(found: Mapping[str, Any], config: TrainConfig, model: ModelConfig, store: Store) -> list[str]:
    """What numbers meant something else in the run of that description."""
    out = []
    theirs = StateSpec.from_dict(found["spec"])
    for role in ("state", "forcing", "static"):
        names = [[c.name for c in getattr(spec, f"{role}_channels")] for spec in (theirs, store.spec)]
        if other := next(((a, b) for a, b in zip(*names, strict=False) if a != b), None):
            out.append(f"its {other[0]} stands where {other[1]} is here")
    hours = [found["timestep_seconds"] / 3600, clock.hours(store.timestep)]
    if hours[0] != hours[1]:
        out.append(f"its step is {hours[0]:g} h, and {hours[1]:g} h here")
    anomalies = bool(found["experiment"].get("train", {}).get("anomalies", False))
    if anomalies != config.anomalies:
        out.append(f"it learned {'anomalies' if anomalies else 'fields as they are'}, which is otherwise here")
    for key, field in type(model).model_fields.items():  # those without an effect on the shapes of weights
        before, here = found["model"].get(key, field.default), model.model_dump(mode="json")[key]
        if before != here:
            out.append(f"its model.{key} is {before}, and {here} here")
    return out
