"""What a step costs before it is run: arithmetic from the model, memory from the compiled program."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from data_prep.errors import ConfigError
from data_prep.preparation.store import Store
from emulator.config import ModelConfig, TrainConfig
from emulator.hardware.machine import device_memory
from emulator.models import forward_flops
from emulator.stepping.stepper import network_channels
from emulator.training.devices import Layout, windows_spec
from emulator.training.loader import Batch, Shape, batch_shapes, batches_ahead
from emulator.training.train_step import Task, TrainState
from emulator.training.validation import Validation

logger = logging.getLogger(__name__)

AHEAD = 2
"""Steps that the host may be ahead of the device."""

_GIB = 2**30
TIGHT = 0.9
_SHARE_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # the second is the older name
_USUAL_SHARE, _MOST_SHARE = "0.75", 0.95


def step_flops(model: ModelConfig, store: Store, batch_size: int, steps: int) -> int:
    """Operations of one optimiser step by the model's arithmetic: a forward pass and, twice as much, its gradient.

    What rematerialisation computes again is not counted: it is no use to the model, only a price for memory.
    """
    return 3 * batch_size * steps * forward_flops(model, *network_channels(model, store.spec), store.grid)


class Programs:
    """The compiled step for batches of any shape; each is compiled when first asked for."""

    def __init__(
        self,
        step: jax.stages.Wrapped,
        state: TrainState,
        task: Task,
        store: Store,
        layout: Layout,
        config: TrainConfig,
        options: Mapping[str, str | bool] | None = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
          step: Of ``train_step.make_train_step``.
          state, task: As the step will take them, on the devices; shapes may stand in place of arrays.
          store: Says the shapes of batches.
          layout: The devices.
          config: Says whether results must be the same to the bit.
          options: More of the compiler's.
        """
        self._step, self._task, self._store, self._layout = step, task, store, layout
        self._state = jax.tree.map(_shape_of, state)
        self._options: dict[str, str | bool] = dict(options or {})
        if config.deterministic and jax.default_backend() == "gpu":  # an option of that compiler alone
            self._options["xla_gpu_deterministic_ops"] = True
        self._compiled: dict[Shape, jax.stages.Compiled] = {}
        self.slowest = 0.0
        """Seconds of the slowest compilation so far, or of finding the program compiled."""

    def has(self, shape: Shape) -> bool:
        """Whether that step is compiled."""
        return shape in self._compiled

    def of(self, shape: Shape) -> jax.stages.Compiled:
        """The step for such batches."""
        if shape not in self._compiled:
            start = time.perf_counter()
            lowered = self._step.lower(self._state, self._batch(shape), self._task)
            self._compiled[shape] = lowered.compile(compiler_options=self._options or None)
            self.slowest = max(self.slowest, time.perf_counter() - start)
        return self._compiled[shape]

    def memory(self, shape: Shape) -> int:
        """Bytes that such a step needs on every device: by the compiler's account, and batches that wait their turn."""
        return _account(self.of(shape)) + self._waiting(shape)

    def validation_memory(self, validation: Validation, shape: Shape) -> int:
        """Bytes that validation needs on every device, beside the state and batches of such steps that wait."""
        shapes = self._batch(Shape(validation.rows.shape[1], validation.steps))
        program = validation.program(self._state.averaged, shapes, self._task)
        others = (self._state.params, self._state.optimiser)
        state = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(others))
        following = _bytes_on_device(shapes) * (len(validation.rows) > 1)
        return _account(program) + state + following + self._waiting(shape)

    def _waiting(self, shape: Shape) -> int:
        """Bytes on every device of batches that wait their turn: of steps to come, and of those just handed over."""
        ahead = batches_ahead(self._store, shape, self._layout)
        return (ahead + AHEAD) * _bytes_on_device(self._batch(shape))

    def traffic(self, shape: Shape) -> float:
        """Bytes that such a step reads and writes in every device's memory, by the compiler's account.

        It knows nothing of caches and counts the body of a loop once, so rollouts and batches in parts have more.
        """
        cost: Mapping[str, float] = self.of(shape).cost_analysis() or {}
        return cost.get("bytes accessed", math.nan)

    def _batch(self, shape: Shape) -> Any:
        """A batch of shapes in place of arrays."""
        shapes = batch_shapes(self._store, shape)
        arrays: list[Any] = [
            jax.ShapeDtypeStruct(s, dtype, sharding=self._layout.sharding(windows_spec(len(s))))
            for s, dtype in zip(shapes, (np.float32, np.float32, np.int32), strict=True)
        ]
        return Batch(*arrays)


def _account(program: jax.stages.Compiled) -> int:
    """Bytes of arguments, results and all between, by the compiler's account; 0 of a backend that keeps none."""
    account = program.memory_analysis()
    if account is None:
        return 0
    return (
        account.argument_size_in_bytes
        + account.output_size_in_bytes
        - account.alias_size_in_bytes
        + account.temp_size_in_bytes
        + account.generated_code_size_in_bytes
    )


def _bytes_on_device(batch: Any) -> int:
    """Of a batch of shapes, the share of every device."""
    return sum(4 * math.prod(a.sharding.shard_shape(a.shape)) for a in batch)


def _shape_of(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def check_memory(needed: int, shape: Shape, config: TrainConfig, layout: Layout) -> str:
    """Compares what a rollout needs with what a device has.

    Args:
      needed: Bytes on every device.
      shape: Of that rollout.
      config, layout: Say what could still be done about it.

    Returns:
      Both, in words.

    Raises:
      ConfigError: it is more than the device has, with what to change.
    """
    remedies = ["train.rematerialise=true"] if shape.steps > 1 and not config.rematerialise else []
    parts = 2 * config.accumulate
    divided = not any(size % (parts * layout.data) for size in config.batch_sizes)
    remedies += [f"train.accumulate={parts}"] if divided else []
    remedies += ["a smaller batch_size", "a shorter rollout" if shape.steps > 1 else "a narrower network"]
    what = f"a rollout of {shape.steps} steps" if shape.steps > 1 else "a step"
    behind = f" behind {shape.free} free {'step' if shape.free == 1 else 'steps'}" if shape.free else ""
    return _held_against_device(needed, f"{what}{behind} with {shape.windows} windows", remedies)


def check_validation_memory(needed: int, validation: Validation) -> str:
    """As ``check_memory``, of validation."""
    what = f"validation of {validation.steps} steps with {validation.rows.shape[1]} windows at a time"
    return _held_against_device(needed, what, ["a smaller train.validation_steps", "fewer train.validation_windows"])


def _held_against_device(needed: int, what: str, remedies: list[str]) -> str:
    known = device_memory()
    if known is None:
        return f"{amount(needed)} a device (how much it has is not known)"
    total, free = known
    text = f"{amount(needed)} of {amount(total)} a device"
    if needed <= TIGHT * free:
        return text
    remedies = _larger_share(needed, total) + remedies
    problem = f"{what} needs {text}"
    remedy = f"try {', '.join(remedies[:-1])} or {remedies[-1]}"
    if needed > total:
        raise ConfigError(f"train: {problem}; {remedy}")
    logger.warning("train: %s, of which %s are free now; if it does not fit, %s", problem, amount(free), remedy)
    return text


def _larger_share(needed: int, total: int) -> list[str]:
    """The setting that lets JAX have more of a GPU than it takes by itself, where that would do."""
    if jax.default_backend() != "gpu":
        return []
    given = next((os.environ[name] for name in _SHARE_VARIABLES if os.environ.get(name)), _USUAL_SHARE)
    helps = float(given) < _MOST_SHARE and needed <= total / float(given) * _MOST_SHARE
    return [f"{_SHARE_VARIABLES[0]}={_MOST_SHARE} in the environment (JAX takes {given} of a GPU)"] * helps


def amount(n_bytes: int) -> str:
    """Bytes as people read them."""
    return f"{n_bytes / _GIB:.1f} GiB" if n_bytes >= _GIB / 10 else f"{n_bytes / 2**20:.1f} MiB"
