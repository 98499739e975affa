"""One process of a training run, for tests: ``train_worker.py STORE RUN_DIR CONFIG_JSON [options]``."""

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

from data_prep.errors import UserError
from emulator.config import TrainConfig, UNetConfig
from emulator.run_folder import WEIGHTS
from emulator.training import checkpoints, devices
from emulator.training.devices import exit_code, join_processes
from emulator.training.loader import Windows

MODEL = UNetConfig(patch=1, width=4, multipliers=[1], blocks=1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("config", type=TrainConfig.model_validate_json)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--interrupt-at", type=int)
    parser.add_argument("--slow-disk", type=float, help="seconds that weights take, twice what is waited at exit")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("emulator").setLevel(logging.INFO)
    if arguments.die_at is not None:
        at_batch(arguments.die_at, signal.SIGKILL)
    if arguments.interrupt_at is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background turns off
        at_batch(arguments.interrupt_at, signal.SIGINT)
    if arguments.slow_disk is not None:
        devices.LEAVE_SECONDS = round(arguments.slow_disk / 2)
        write = checkpoints.write_arrays

        def write_slowly(path, arrays):
            time.sleep(arguments.slow_disk if path.name == WEIGHTS else 0)
            write(path, arrays)

        checkpoints.write_arrays = write_slowly
    try:
        join_processes()
        from emulator.training.train import train

        train(arguments.config, MODEL, arguments.store, arguments.run_dir, 0, {"name": "test"})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error.exit_code)
    except KeyboardInterrupt:
        return 130
    return 0


def at_batch(number: int, sent: signal.Signals) -> None:
    """This process sends itself a signal when it reads the batch of that step."""
    whole = Windows.batch

    def batch(self, step, layout, *held):
        if step == number:
            os.kill(os.getpid(), sent)
        return whole(self, step, layout, *held)

    Windows.batch = batch


if __name__ == "__main__":
    sys.exit(main())
