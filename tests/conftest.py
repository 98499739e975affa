"""Settings and the one experiment that every test may share."""

import fcntl
import logging
import os
from pathlib import Path

import pytest

# Set before jax is imported anywhere: sharding is tested on virtual devices, and warnings of the C++ side stay quiet.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Tests compile the same small programs over and over: each is compiled once for all of them, and for the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


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
    folder = shared / "tiny_experiment"
    with (shared / "tiny_experiment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second worker waits, then finds every stage done
        assert main(["run", str(Path(__file__).parent / "tiny.yaml"), "--set", f"workdir={folder}"]) == 0
    return folder
