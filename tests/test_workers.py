"""Work shared among processes of this machine and of a dask cluster."""

import os
import signal
import subprocess
import sys

import pytest
from distributed import LocalCluster

from data_prep.errors import ConfigError, DataError
from emulator.hardware.workers import open_executor


def test_no_workers_no_executor():
    with open_executor() as executor:
        assert executor is None


def test_processes_of_this_machine():
    with open_executor(2) as executor:
        assert executor.submit(os.getpid).result() != os.getpid()


_KILLED = """
import os, signal
from emulator.hardware.workers import open_executor

if __name__ == "__main__":
    with open_executor(2) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    # the workers have its standard output too, which ends when the last of them does
    done = subprocess.run([sys.executable, script], env=environment, stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL and int(done.stdout) > 0


def test_a_dask_cluster():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        open_executor(scheduler=cluster.scheduler_address) as executor,
    ):
        found = {future.result() for future in [executor.submit(_pid_and, i) for i in range(20)]}
    assert len({pid for pid, _ in found}) == 2 and os.getpid() not in {pid for pid, _ in found}
    assert sorted(i for _, i in found) == list(range(20))


def _pid_and(i):
    return os.getpid(), i


def test_no_scheduler_there(monkeypatch):
    import emulator.hardware.workers as workers

    with pytest.raises(DataError, match=r"--scheduler tcp://127\.0\.0\.1:9: no dask scheduler answers"):
        monkeypatch.setattr(workers, "_SECONDS_TO_ANSWER", 1)
        with open_executor(scheduler="tcp://127.0.0.1:9"):
            pass
    with pytest.raises(DataError, match="no dask scheduler"), open_executor(scheduler="nonsense://x"):
        pass


def test_workers_here_and_of_a_cluster_are_not_asked_for_together():
    with (
        pytest.raises(ConfigError, match=r"--scheduler has its own; leave one of the two out"),
        open_executor(4, "tcp://127.0.0.1:9"),
    ):
        pass


def test_distributed_is_an_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[cluster\]"), open_executor(scheduler="tcp://x:1"):
        pass
