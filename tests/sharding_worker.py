"""Trains on meshes of eight virtual devices, for tests: ``sharding_worker.py STORE`` prints what came of it as JSON."""

import json
import math
import sys
from pathlib import Path

import jax
import numpy as np
import optax

from data_prep.errors import ConfigError
from data_prep.preparation.store import open_store
from emulator.benchmarks.program import collectives
from emulator.benchmarks.synthetic import synthetic_store
from emulator.checkpoint import load_forecaster
from emulator.config import MeshConfig, RolloutStage, TrainConfig, TransformerConfig, UNetConfig
from emulator.forecasters import neural
from emulator.training.budget import Programs
from emulator.training.devices import WHOLE, Layout, windows_spec
from emulator.training.job import set_up
from emulator.training.loader import Shape
from emulator.training.on_devices import OnDevices, _gather
from emulator.training.train import train

MODEL = UNetConfig(patch=2, width=8, multipliers=[1, 2], blocks=1, column_width=6, time_steps=[1, 2])
STEPS = 4


def config(data, space, **changes):
    stage = RolloutStage(steps=STEPS, rollout=2, free_steps=1, learning_rate=1e-3, warmup=0)
    mesh = MeshConfig(data=data, space=space)
    settings = {"batch_size": 8, "stages": [stage], "validation_windows": 8, "validation_steps": 2, "input_noise": 0.1}
    return TrainConfig(mesh=mesh, **{**settings, **changes})


def trained(store, data, space):
    """Losses, weights and validation after a few steps on a mesh, and what its program communicates."""
    settings = config(data, space)
    job = set_up(settings, MODEL, store, 0)
    fresh = job.fresh._replace(params=jax.tree.map(lambda p: p + 0.02, job.fresh.params))  # away from zero
    state = job.layout.place(fresh, WHOLE)
    program = Programs(job.step, state, job.task, store, job.layout, settings).of(Shape(8, 2, 1))
    norms = []
    for step in range(STEPS):
        state, found = program(state, job.spans[0].windows.batch(step, job.layout), job.task)
        norms.append([float(found.loss), float(found.gradient_norm), float(found.update_norm)])
    skill = job.validation.run(state.averaged, job.task)
    held = OnDevices(store, job.layout)
    held.begin()
    held.wait()
    windows = job.spans[0].windows
    rows = jax.device_put(np.zeros((8, 3), np.int32), job.layout.sharding(windows_spec(1)))
    here, there = (windows.batch(0, job.layout, from_) for from_ in (None, held))
    return {
        "held": held.take(windows.rows(0)[:, None]) is not None,
        "of_held": [
            here.state.sharding.is_equivalent_to(there.state.sharding, 5),
            np.array_equal(*map(np.asarray, (here.state, there.state))),
        ],
        "of_gathering": collectives(_gather.lower(held._states, rows, job.layout).compile().as_text())["kinds"],
        "norms": norms,
        "terms": settings.batch_size * 2 * math.prod(store.grid.shape) * len(store.spec.state_channels),
        "params": _lists(state.params),
        "gradients": _lists(optax.tree.get(state.optimiser, "mu")),  # their running mean
        "rmse": skill.rmse.tolist(),
        "activity": skill.activity.tolist(),
        "collectives": collectives(program.as_text()),
    }


def _lists(tree):
    return [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(tree)]


def refusal(store, model, data, space, **changes):
    try:
        set_up(config(data, space, **changes), model, store, 0)
    except ConfigError as error:
        return str(error)
    return "accepted"


def advected(data):
    """Loss, norm of the gradient and communication of a network that is shown what the wind brings."""
    model = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1, advection=True)
    job = set_up(config(data, 1, optimiser="adamw"), model, synthetic_store(8, 1, n_times=30), 0)
    fresh = job.fresh._replace(params=jax.tree.map(lambda p: p + 0.02, job.fresh.params))
    batch, state = job.spans[0].windows.batch(0, job.layout), job.layout.place(fresh, WHOLE)
    program = job.step.lower(state, batch, job.task).compile()
    _, norms = program(state, batch, job.task)
    found = collectives(program.as_text())
    return {"norms": [float(norms.loss), float(norms.gradient_norm)], "kinds": list(found["kinds"])}


def shared_forecast(store, times):
    """A forecast from so many times, the same from each by itself, and how many devices it was made on."""
    used = []
    roll = neural._roll
    neural._roll = lambda *arguments: used.append(roll(*arguments)) or used[-1]
    folder = Path(sys.argv[2]).parent / "run"
    if not folder.exists():
        train(config(1, 1), MODEL, Path(sys.argv[1]), folder, 0, {"name": "test"})
    forecaster = load_forecaster(folder)
    leads = np.arange(1, 4) * store.timestep

    def values(rows):
        blocks = list(forecaster.forecast(store.dataset(rows), leads))
        return np.concatenate([block["temperature"].values for block in blocks], axis=1)

    together = values(list(range(times)))
    devices = len(used[0][0].sharding.device_set)
    alone = np.concatenate([values([row]) for row in range(times)])
    neural._roll = roll
    return {"values": together.ravel().tolist(), "one_by_one": alone.ravel().tolist(), "devices": devices}


def main() -> None:
    store = open_store(sys.argv[1], in_memory=True)
    out = {f"{d}x{s}": trained(store, d, s) for d, s in ((1, 1), (8, 1), (2, 4))}
    transformer = TransformerConfig(kind="transformer", patch=2, width=16, depth=1, heads=2)
    out["refusals"] = {
        "rows": refusal(store, UNetConfig(patch=2, width=8, multipliers=[1, 2], blocks=1), 1, 8),
        "batch": refusal(store, MODEL, 8, 1, batch_size=12),
        "parts": refusal(store, MODEL, 4, 1, accumulate=4),
        "devices": refusal(store, MODEL, 3, 3),
        "left_over": refusal(store, MODEL, -1, 3),
        "model": refusal(store, transformer, 1, 2),
    }
    out["advected"] = [advected(1), advected(8)]
    out["forecasts"] = {n: shared_forecast(store, n) for n in (8, 6, 1)}
    out["all_devices"] = list(Layout.of(MeshConfig()).mesh.shape.values())
    Path(sys.argv[2]).write_text(json.dumps(out))


if __name__ == "__main__":
    main()
