"""Settings and the one experiment that every test may share."""

import fcntl
import gc
import logging
import os
from pathlib import Path

import fast_compile
import pytest

# Set before jax is imported anywhere: sharding is tested on virtual devices, and warnings of the C++ side stay quiet.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# For workers and other processes, which share the cores: threads of OpenBLAS would wait for each other by spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests compile the same small programs over and over: each is compiled once for all of them, and for the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# XLA_FLAGS=--xla_backend_optimization_level=3, as users have it, is respected, and is what the automatic check gives to
# one of its two lanes.
if "xla_backend_optimization_level" not in (given := os.environ.get("XLA_FLAGS", "")):
    os.environ["XLA_FLAGS"] = f"{given} {fast_compile.flags(1)}".strip()


# To trace a program makes many objects that stay: with the usual thresholds an eighth of it is the collector's work.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def fresh_loggers():
    """Our logs reach ``caplog`` also after a test that ran a command, which keeps them to itself."""
    for name in ("emulator", "data_prep"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [], True
        log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory):
    """The folder of ``tests/tiny.yaml`` with every stage done: a minute, once for all workers. For reading only."""
    pytest.importorskip("jcm")
    from emulator.cli import main

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / "tiny_experiment", shared / "tiny_experiment.done"
    with (shared / "tiny_experiment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second worker waits, and then leaves the folder to the first one's tests
        if not done.exists():
            assert main(["run", str(Path(__file__).parent / "tiny.yaml"), "--set", f"workdir={folder}"]) == 0
            done.touch()
    return folder
