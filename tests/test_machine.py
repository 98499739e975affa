"""What a machine says of its memory, as far as containers and batch systems limit it."""

import sys

import jax
import pytest

from emulator.hardware.machine import _memory_limit, device_memory, host_memory

GIB = 2**30


def limited(tmp_path, own: str, files: dict[str, str]) -> tuple[int, int]:
    """The limit and what is left of it, by ``/proc/self/cgroup`` and what lies in ``/sys/fs/cgroup``."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return _memory_limit(tmp_path / "groups", tmp_path / "own")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{4 * GIB}\n"}, 4 * GIB),
        ("0::/\n", {"memory.max": "max\n"}, sys.maxsize),
        ("0::/slurm/job_1/step_0\n", {"slurm/job_1/memory.max": f"{8 * GIB}\n", "memory.max": "max\n"}, 8 * GIB),
        ("0::/a/b\n", {"a/b/memory.max": f"{GIB}\n", "a/memory.max": f"{2 * GIB}\n"}, GIB),
        ("0::/seen/from/outside\n", {"memory.max": f"{GIB}\n"}, GIB),
        (
            "5:cpu,cpuacct:/x\n4:memory:/slurm/job_1\n1:name=systemd:/\n0::/\n",
            {"memory/slurm/job_1/memory.limit_in_bytes": f"{3 * GIB}\n", "cpu/x/memory.limit_in_bytes": "1\n"},
            3 * GIB,
        ),
        ("", {"memory.max": "1\n"}, sys.maxsize),
    ],
    ids=["container", "none", "batch job", "the least", "other namespace", "version 1", "in no group"],
)
def test_the_limit_is_that_of_the_control_groups(tmp_path, own, files, expected):
    assert limited(tmp_path, own, files) == (expected, expected)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/\n", ("memory.max", "memory.current", "memory.stat", "inactive_file")),
        (
            "4:memory:/job\n",
            (
                "memory/job/memory.limit_in_bytes",
                "memory/job/memory.usage_in_bytes",
                "memory/job/memory.stat",
                "total_inactive_file",
            ),
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_what_others_use_in_the_group_is_not_free_but_the_cache_of_files_is(tmp_path, own, files):
    *names, cache = files
    texts = (f"{16 * GIB}\n", f"{12 * GIB}\n", f"anon 1\n{cache} {3 * GIB}\nactive_file 7\n")
    assert limited(tmp_path, own, dict(zip(names, texts, strict=True))) == (16 * GIB, 7 * GIB)


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert _memory_limit(tmp_path, tmp_path / "absent") == (sys.maxsize, sys.maxsize)


def test_processes_of_a_run_on_one_machine_share_its_memory(monkeypatch):
    alone = device_memory()
    if alone is None or jax.default_backend() != "cpu":
        pytest.skip("this system does not say")
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert device_memory()[0] == pytest.approx(alone[0] / 4, rel=1e-6)


def test_no_more_is_free_than_there_is():
    if (memory := host_memory()) is None:
        pytest.skip("this system does not say")
    total, free = memory
    assert 0 < free <= total
