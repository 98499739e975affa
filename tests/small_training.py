"""The smallest training that has all of it, for the tests of its parts."""

import numpy as np
from tiny_store import write_store

from data_prep.grid import Grid
from emulator.config import RolloutStage, TrainConfig, UNetConfig
from emulator.training.devices import WHOLE
from emulator.training.job import set_up
from emulator.training.loader import load_batch

MODEL = UNetConfig(patch=2, width=8, multipliers=[1], blocks=1)


CONFIG = TrainConfig(
    optimiser="muon",  # holds Adam too, for one-dimensional arrays
    batch_size=4,
    stages=[RolloutStage(steps=5, warmup=2), RolloutStage(steps=3, rollout=2, batch_size=2)],
    checkpoint_every=2,
    validate_every=4,
    validation_windows=4,
    validation_steps=3,
    log_every=1,
)


def setup_training(path, model, config):
    """A job with Adam, which compiles faster, its state on the device, and a batch of two windows."""
    job = set_up(config.model_copy(update={"optimiser": "adamw"}), model, write_store(path, Grid.gaussian(8)), 0)
    batch = load_batch(job.store, np.array([1, 30]), 1, job.layout)
    return job, job.layout.place(job.fresh, WHOLE), batch
