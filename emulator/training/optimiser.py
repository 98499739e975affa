"""Learning rate and optimiser.

Every stage warms up and comes down along a cosine. A schedule-free optimiser (Defazio et al. 2024, arXiv:2405.15682)
has no place beside it: it forecasts with the mean of all iterates since the start, weighted by the highest learning
rate so far, in which a short stage of rollouts at the end would hardly count.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
from jaxtyping import Array, Int

from emulator.config import RolloutStage, TrainConfig
from emulator.training.muon import scale_by_muon

_ADAM_BETAS = (0.9, 0.95)  # GraphCast's: a short second moment suits short schedules
_ADAM_UPDATE_RMS = 0.2  # of a typical Adam update over its learning rate


def learning_rate_schedule(stages: list[RolloutStage]) -> optax.Schedule:
    """Every stage warms up linearly and comes down along a cosine; warm-up takes at most half a stage."""
    schedules, ends = [], [0]
    for stage in stages:
        warmup = min(stage.warmup, stage.steps // 2)
        schedules.append(
            optax.warmup_cosine_decay_schedule(
                init_value=stage.learning_rate / (warmup + 1),
                peak_value=stage.learning_rate,
                warmup_steps=warmup,
                decay_steps=stage.steps,
                end_value=stage.learning_rate * stage.final_fraction,
            )
        )
        ends.append(ends[-1] + stage.steps)
    return optax.join_schedules(schedules, ends[1:-1])


def make_optimiser(config: TrainConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The config's optimiser behind global-norm clipping; weights decay, norms and biases (one-dimensional) do not.

    Muon (Jordan et al. 2024) orthogonalises the momentum of every kernel, taken as a matrix from all its inputs to its
    outputs; its updates have Adam's size (Liu et al. 2025, arXiv:2502.16982). One-dimensional arrays are left to Adam.
    Its matrix products take bfloat16 where the network's do: what is asked of them is only roughly orthogonal.
    """
    beta1, beta2 = _ADAM_BETAS
    if config.optimiser == "muon":
        kernels = optax.chain(
            scale_by_muon(_ADAM_UPDATE_RMS, half_precision=config.precision == "bfloat16"),
            optax.add_decayed_weights(config.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
        others = optax.nadam(schedule, beta1, beta2)
        labels = lambda params: jax.tree.map(lambda p: "kernels" if p.ndim > 1 else "others", params)  # noqa: E731
        update = optax.partition({"kernels": kernels, "others": others}, labels)
    else:
        decayed = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731 - optax wants a function
        update = optax.adamw(schedule, beta1, beta2, weight_decay=config.weight_decay, mask=decayed)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def scheduled_at(step: Int[Array, ""], state: optax.OptState) -> optax.OptState:
    """The state of an optimiser whose learning rate is that of a step, where steps before it were skipped too.

    So the rate goes by the stages, as rollouts and weights of the loss do; Adam's corrections go by its updates.
    """

    def is_schedule(path: Any, _: Any) -> bool:
        return getattr(path[-1], "tuple_name", "") == "ScaleByScheduleState"

    return optax.tree.set(state, is_schedule, count=step)
