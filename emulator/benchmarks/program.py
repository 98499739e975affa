"""The training step as an accelerator would run it, compiled where there is none: its kernels, traffic and memory.

Nothing is run and nothing is timed. `h100` needs `pip install "jax[cuda12]"`, `v5e` needs `pip install libtpu`. The
step at best is worked out: every kernel costs an assumed launch, every operand and result passes through memory once
(caches are not counted), and the model's arithmetic takes what the data sheet says.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from data_prep.errors import ConfigError, one_line
from emulator.benchmarks import train
from emulator.benchmarks.table import Row, Table
from emulator.hardware.machine import factors_of
from emulator.hardware.platforms import compiled_for_others
from emulator.models.layers import count_parameters
from emulator.planning.step_trial import made_up_task
from emulator.stepping.rollout import recomputed
from emulator.training.budget import Programs, step_flops
from emulator.training.devices import AXES, WHOLE, Layout
from emulator.training.loader import Shape

H100_MATRIX_RATE = {"bfloat16": 989e12, "float32": 495e12}
"""Operations a second by its data sheet; float32 as TF32."""
H100_COPY_RATE = 3.35e12
"""Bytes a second by its data sheet, reads and writes together."""
LAUNCH_SECONDS = 2.5e-6
"""Of a kernel that has next to nothing to do: an assumption, for programs that XLA hands over as graphs."""

_H100 = """
gpu_device_info {
  core_count: 132 fpus_per_core: 128 threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  clock_rate_ghz: 1.98 memory_bandwidth: 3350000000000 l2_cache_size: 52428800 device_memory_size: 85000000000
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA" runtime_version { major: 12 minor: 9 } dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    train.add_arguments(parser)
    parser.add_argument("--for", dest="card", choices=("h100", "v5e"), default="h100", help="the accelerator (h100)")
    parser.add_argument("--sharing", type=int, default=1, help="devices that share a batch (1)")


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table."""
    model, config = train.take_model(arguments), train.training_of(arguments)
    shape = Shape(arguments.batch, arguments.rollout, arguments.free_steps)
    store = train.store_for(arguments, model)
    devices = _devices(arguments.card, arguments.sharing * arguments.bands)
    layout = Layout(Mesh(np.array(devices).reshape(arguments.sharing, arguments.bands), AXES))
    layout.check_batch(shape.windows, config.accumulate)
    layout.check_latitudes(model, store.grid)
    step, fresh, task = made_up_task(model, store.spec, store.grid, config, layout)
    state = _shapes(fresh, jax.tree.map(lambda _: WHOLE, fresh), layout)
    # XLA chooses among Triton's matrix products by trying them, which it cannot do here; without a trial some fail
    options = {"xla_gpu_enable_triton_gemm": False} if arguments.card == "h100" else None
    programs = Programs(step, state, _shapes(task, task.specs(), layout), store, layout, config, options)
    with compiled_for_others():
        text = programs.of(shape).as_text() or ""
    operations = step_flops(model, store, shape.windows, 1) * shape.model_steps / layout.mesh.size
    repeated = (recomputed(shape.steps) - 1) * shape.steps if config.rematerialise else 0.0
    again = 1 + repeated / shape.model_steps
    rows = _rows_of_h100(text, operations, again, shape.windows, config.precision) if arguments.card == "h100" else []
    rows = [
        Row(train.described(model, count_parameters(fresh.params), shape), operations / 1e9, "GFLOP"),
        Row("memory", programs.memory(shape) / 2**20, "MiB"),
        *rows,
        *(Row(f"{kind}s", count, "") for kind, count in collectives(text)["kinds"].items()),
    ]
    title = "Training step, compiled and not run,"
    return [Table(title, f"{layout.mesh.size} x {devices[0].device_kind}", rows)]


def _rows_of_h100(text: str, operations: float, again: float, batch: int, precision: str) -> list[Row]:
    found = list(kernels(text))
    launches = sum(k.times for k in found)
    others = sum(k.times * k.n_bytes for k in found if not k.is_product) / H100_COPY_RATE
    products = sum(k.times * k.n_bytes for k in found if k.is_product) / H100_COPY_RATE
    arithmetic = operations / H100_MATRIX_RATE[factors_of(precision)]
    seconds = launches * LAUNCH_SECONDS + others + max(products, again * arithmetic)
    by_part = Counter[str]()
    for kernel in found:
        by_part[kernel.part] += kernel.times
    return [
        Row("kernels", launches, ""),
        *(Row(f"  {part}", by_part[part], "") for part in ("forward", "backward", "optimiser")),
        Row("memory traffic of products", products * H100_COPY_RATE / 1e9, "GB"),
        Row("memory traffic of all else", others * H100_COPY_RATE / 1e9, "GB"),
        Row("step at best", 1e3 * seconds, "ms"),
        Row("windows at best", batch / seconds, "1/s", batch / arithmetic, f"{factors_of(precision)} matrix products"),
    ]


def _devices(card: str, n: int) -> list[Any]:
    """Accelerators to compile for.

    Raises:
      ConfigError: what compiles for them is not installed, or there are not so many of them in one machine.
    """
    jax.config.update("jax_platforms", "cpu")  # whoever has one still only wants it compiled
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or libtpu asks the network where it is
    try:
        if card == "h100":
            found = topologies.get_topology_desc("", "cuda", topology=f"1 x 1 x {n}", target_config=_H100).devices
        else:
            found = topologies.get_topology_desc("v5e:2x4", "tpu").devices
    except (RuntimeError, ValueError, ImportError) as error:
        needed = '"jax[cuda12]"' if card == "h100" else "libtpu"
        raise ConfigError(
            f"--for {card}: pip install {needed} brings what compiles for it ({one_line(error)})"
        ) from None
    if n > len(found):
        raise ConfigError(f"--for {card}: {n} devices asked for, of {len(found)}")
    return found[:n]


def _shapes(tree: Any, specs: Any, layout: Layout) -> Any:
    """Shapes in place of arrays, on devices that are not there."""

    def shape(array: Any, spec: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=layout.sharding(spec))

    return jax.tree.map(shape, tree, specs)


# ---- what is read from the text of a compiled program

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8, "c64": 8}
_NO_KERNEL = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "iota", "partition-id"}


@dataclass(frozen=True)
class Kernel:
    """One kernel of a GPU's program.

    Attributes:
      part: ``forward``, ``backward`` or ``optimiser``: the last is all that is not differentiated.
      is_product: Whether it multiplies matrices or convolves.
      n_bytes: Of its operands and results; of those that it takes a slice from or puts one into, of the slice.
      times: How often it runs.
    """

    part: str
    is_product: bool
    n_bytes: int
    times: int


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    kind: str
    operands: tuple[str, ...]
    attributes: str


def kernels(text: str) -> Iterator[Kernel]:
    """The kernels of a program that XLA compiled for a GPU, those of loops with their number of turns."""
    computations, entry = _computations(text)
    yield from _kernels_of(computations, entry, 1)


def _kernels_of(computations: Mapping[str, list[_Instruction]], name: str, times: int) -> Iterator[Kernel]:
    shapes = {i.name: i.shape for i in computations[name]}
    for each in computations[name]:
        if each.kind == "while":
            turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', each.attributes)
            body = _named("body", each.attributes)
            yield from _kernels_of(computations, body, times * (int(turns.group(1)) if turns else 1))
        elif each.kind in ("call", "conditional"):
            yield from _kernels_of(computations, _named("to_apply|calls|true_computation", each.attributes), times)
        elif each.kind not in _NO_KERNEL and not each.kind.endswith("-done"):
            inner = computations[_named("calls", each.attributes)] if each.kind == "fusion" else []
            source = re.search(r'op_name="([^"]*)"', each.attributes)
            path = source.group(1) if source else ""
            part = "backward" if "transpose(jvp" in path else "forward" if "jvp(" in path else "optimiser"
            is_product = re.search(r"conv|gemm|matmul", each.attributes.split("metadata")[0]) is not None
            yield Kernel(part, each.kind == "custom-call" and is_product, _traffic(each, shapes, inner), times)


def _traffic(each: _Instruction, shapes: Mapping[str, str], inner: list[_Instruction]) -> int:
    """Bytes that a kernel reads and writes."""
    read = {name: _n_bytes(shapes.get(name, "")) for name in each.operands}
    written = _n_bytes(each.shape)
    sizes = {i.name: _n_bytes(i.shape) for i in inner}
    for i in inner:
        if i.kind == "dynamic-update-slice":  # in place
            written += sizes[i.operands[1]] - sizes[i.name]
        if i.kind == "parameter":
            users = [u for u in inner if i.name in u.operands]
            kinds = {u.kind if u.operands[0] == i.name else "" for u in users}
            operand = each.operands[int(i.attributes)]
            if kinds == {"dynamic-update-slice"}:
                read[operand] = 0
            elif kinds == {"dynamic-slice"}:
                read[operand] = sum(sizes[u.name] for u in users)
    return sum(read.values()) + max(written, 0)


def _n_bytes(shape: str) -> int:
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(_SIZES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in arrays)


def _named(key: str, attributes: str) -> str:
    found = re.search(rf"(?:{key})=%?([\w.\-]+)", attributes)
    assert found is not None, attributes
    return found.group(1)


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """The instructions of every computation of a program, and the name of the first to run."""
    computations: dict[str, list[_Instruction]] = {}
    entry = name = ""
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = header.group(2)
            entry = name if header.group(1) else entry
            computations[name] = []
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", line):
            shape, rest = _closed(found.group(2), " ")
            kind, _, rest = rest.partition("(")
            inside, attributes = _closed(rest, ")")
            operands = tuple(re.findall(r"%([\w.\-]+)", inside))
            computations[name].append(
                _Instruction(found.group(1), shape, kind, operands, inside if kind == "parameter" else attributes)
            )
    return computations, entry


def _closed(text: str, end: str) -> tuple[str, str]:
    """What comes before the first ``end`` outside of brackets, and what comes after it."""
    depth = 0
    for i, character in enumerate(text):
        if character == end and depth == 0:
            return text[:i], text[i + 1 :]
        depth += (character in "([{") - (character in ")]}")
    return text, ""


def collectives(text: str) -> dict[str, Any]:
    """What the devices of a compiled program tell each other.

    Returns:
      ``kinds``: how many operations of each kind there are; ``reduced_bytes``: float32 that is all-reduced;
      ``in_loops``: kinds that are in a loop.
    """
    kinds: dict[str, int] = {}
    reduced, in_loops = 0, set()
    for computation in re.split(r"\n(?=\S)", text):
        for shapes, kind in re.findall(
            r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)"
            r"(?:-start)?\(",
            computation,
        ):
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind == "all-reduce":
                reduced += _n_bytes(" ".join(re.findall(r"f32\[.*?\]", shapes)))
            if not computation.startswith("ENTRY"):
                in_loops.add(kind)
    return {"kinds": kinds, "reduced_bytes": reduced, "in_loops": sorted(in_loops)}
