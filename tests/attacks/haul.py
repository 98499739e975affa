"""Hours of forecasts in a loop and of training with checkpoints: memory must stay flat, files and threads few."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FORECASTS, TRAINING = "forecasts", "training"
_WARM_SHARE = 0.25  # of the time, in which caches fill and compilers run
_MOST_GROWTH_MB_PER_HOUR = 30.0


def prepare(root: Path) -> None:
    """A small store, a trained run and a file to forecast from."""
    from tiny_store import write_store

    from data_prep.grid import Grid
    from emulator.config import RolloutStage, TrainConfig, UNetConfig
    from emulator.training.train import train

    store = write_store(root / "store.zarr", Grid.gaussian(16), n_times=60)
    config = TrainConfig(batch_size=4, stages=[RolloutStage(steps=4)], validation_windows=2, validation_steps=2)
    experiment = {"data": _DATA}
    train(config, UNetConfig(width=16, multipliers=[1], blocks=1), root / "store.zarr", root / "run", 0, experiment)
    store.dataset([0]).to_netcdf(root / "initial.nc")


_DATA = {
    "inputs": ["none"],
    "prognostic": {"temperature": {}, "specific_humidity": {}},
    "forcing": {"sea_surface_temperature": {"known": "persisted"}},
    "split": {"segments": {}},
}


def forecast_forever(root: Path) -> None:
    """Forecasts from the same file, again and again, counting in ``forecasts.count``."""
    from emulator.forecast import forecast_file

    done = 0
    while True:
        forecast_file(root / "run", [root / "initial.nc"], root / "forecast.nc", days=10)
        done += 1
        (root / f"{FORECASTS}.count").write_text(str(done))


def train_for_long(root: Path) -> None:
    """Trains with a checkpoint every 50 steps, until it is told to stop."""
    from emulator.config import RolloutStage, TrainConfig, UNetConfig
    from emulator.training.train import train

    stages = [RolloutStage(steps=10**7, learning_rate=1e-4)]
    config = TrainConfig(
        batch_size=4, stages=stages, validation_windows=2, validation_steps=2, checkpoint_every=50, validate_every=100
    )
    model = UNetConfig(width=16, multipliers=[1], blocks=1)
    try:
        train(config, model, root / "store.zarr", root / "long_run", 0, {"name": "haul"})
    except KeyboardInterrupt:
        return


def usage(process: int) -> tuple[float, int, int]:
    """Resident memory in MB, open files and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return (
        int(status["VmRSS"].split()[0]) / 1000,
        len(list(Path(f"/proc/{process}/fd").iterdir())),
        int(status["Threads"]),
    )


def verdict(name: str, rows: Sequence[tuple[float, float, int, int]]) -> bool:
    """Prints what became of memory, files and threads once warm. Returns whether they stayed flat."""
    minutes, memory, files, threads = (np.array(column, float) for column in zip(*rows, strict=True))
    warm = minutes >= _WARM_SHARE * minutes[-1]
    growth = float(np.polyfit(minutes[warm] / 60, memory[warm], 1)[0])
    first, last = np.array_split(np.flatnonzero(warm), 4)[0], np.array_split(np.flatnonzero(warm), 4)[-1]
    flat = (
        growth < _MOST_GROWTH_MB_PER_HOUR
        and files[last].mean() <= files[first].mean() + 2  # peaks depend on when one looks
        and threads[last].mean() <= threads[first].mean() + 2
    )
    print(
        f"{name}: {minutes[-1]:.0f} minutes; memory {memory[first].mean():.0f} to {memory[last].mean():.0f} MB "
        f"({growth:+.1f} MB an hour), open files {files[first].mean():.1f} to {files[last].mean():.1f}, "
        f"threads {threads[first].mean():.1f} to {threads[last].mean():.1f}: {'flat' if flat else 'GROWS'}"
    )
    return bool(flat)


def attack(root: Path, minutes: float, interval: float = 30.0) -> bool:
    """Both at once; a row every ``interval`` seconds in ``haul.csv``. Returns whether all is flat."""
    prepare(root)
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--folder", str(root), "haul", "--part"]
    processes = {}
    for name in (FORECASTS, TRAINING):
        log = (root / f"{name}.log").open("w")
        processes[name] = subprocess.Popen([*command, name], stdout=log, stderr=log)
    try:
        rows = _watch(root, processes, minutes, interval)
    finally:
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        for process in processes.values():
            process.wait(timeout=600)
    if rows is None:
        return False
    steps = (root / "long_run" / "metrics.jsonl").read_text().splitlines()[-1]
    print(f"{(root / f'{FORECASTS}.count').read_text()} forecasts of 10 days; training, last line: {steps[:60]} ...")
    withstood = [verdict(name, rows[name]) for name in processes]
    return all(withstood) and processes[TRAINING].returncode == 0


def _watch(
    root: Path, processes: Mapping[str, subprocess.Popen[bytes]], minutes: float, interval: float
) -> dict[str, list[tuple[float, float, int, int]]] | None:
    """What they used, until the time is up; nothing where one of them ended by itself."""
    rows: dict[str, list[tuple[float, float, int, int]]] = {name: [] for name in processes}
    began = time.monotonic()
    with (root / "haul.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["part", "minutes", "memory_MB", "open_files", "threads"])
        while (passed := time.monotonic() - began) < 60 * minutes:
            for name, process in processes.items():
                if process.poll() is not None:
                    print(f"{name} ended by itself with {process.returncode}; see {root / name}.log")
                    return None
                rows[name].append((passed / 60, *usage(process.pid)))
                table.writerow([name, *rows[name][-1]])
            file.flush()
            time.sleep(interval)
    return rows
