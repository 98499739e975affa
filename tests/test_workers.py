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


_SIGNALLED = """
import os, signal
from emulator.hardware.workers import open_executor

if __name__ == "__main__":
    with open_executor(2) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        {signal}
"""


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("signal.signal(signal.SIGINT, lambda *_: os._exit(7)); os.killpg(0, signal.SIGINT)", 7),  # as Ctrl-C is
    ],
)
def test_workers_end_without_a_word_with_their_process(tmp_path, sent, code):
    script = tmp_path / "signalled.py"
    script.write_text(_SIGNALLED.format(signal=sent))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(  # the workers have its standard output too, which ends when the last of them does
        [sys.executable, script], env=environment, capture_output=True, timeout=60, check=False, start_new_session=True
    )
    assert done.returncode == code and int(done.stdout) > 0
    assert b"KeyboardInterrupt" not in done.stderr


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
