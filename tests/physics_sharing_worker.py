"""Runs SPEEDY on four virtual devices as accelerators do, and one by one; prints what came of it as JSON."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from emulator.benchmarks.program import collectives
from emulator.physics import ensemble, speedy

MEMBERS, TRUNCATION = 8, 21


def advanced(states, model):
    """Fields and states after two chunks, the devices that hold them, and what the program communicates."""
    found = ensemble.Ensemble(model, states, intervals=1, interval_hours=6, output_truncation=TRUNCATION)
    for _ in range(2):
        states, fields = found.advance(states)
    return {
        "fields": {name: np.asarray(field).ravel().tolist() for name, field in fields.items()},
        "devices": len(states.dynamics.vorticity.sharding.device_set),
    }


def main() -> None:
    model = speedy.SpeedyModel(TRUNCATION)
    states = speedy.replicate(model.at_rest(np.datetime64("1901-01-01")), MEMBERS)
    warmth = states.dynamics.temperature_variation
    noise = 0.1 * jax.random.normal(jax.random.key(0), warmth.shape)  # so that members differ
    states = states.replace(dynamics=states.dynamics.replace(temperature_variation=warmth + noise))
    one_by_one = advanced(states, model)
    ensemble.batch_width = lambda members: members
    compiled, compile_ = [], speedy._compile
    speedy._compile = lambda *arguments: compiled.append(compile_(*arguments)) or compiled[-1]
    together = advanced(states, model)
    out = {"one_by_one": one_by_one, "together": together, "collectives": collectives(compiled[0].as_text())}
    Path(sys.argv[1]).write_text(json.dumps(out))


if __name__ == "__main__":
    main()
