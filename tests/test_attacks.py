"""Kills, full and failing disks and read-only folders: the short versions of the attacks in ``docs/reliability.md``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attacks.faults import compiler

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


def python(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, cwd=HERE.parent, check=False
    )


needs_faults = pytest.mark.skipif(
    compiler() is None or sys.platform != "linux",
    reason="writes are made to fail by a library that a C compiler makes and LD_PRELOAD loads",
)


@needs_faults
def test_kills_and_failing_disks_are_withstood(tmp_path):
    """Three stages, each killed once, with the disk full once and with the disk failing once."""
    done = python(HERE / "attack_worker.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9" in done.stdout and "BROKEN" not in done.stdout


@needs_faults
def test_a_netcdf_file_is_written_to_its_end_or_refused_in_a_line(tmp_path):
    done = python("-m", "attacks.netcdf_disk", tmp_path, 3)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def read_only(tmp_path):
    """A folder, and words before a command for which it is mounted read-only."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    before = ("unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder))
    if (
        shutil.which("unshare") is None
        or subprocess.run([*before, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("not permitted to mount a folder read-only (unshare --map-root-user --mount)")
    return folder, before


def test_a_read_only_folder_is_one_line(read_only):
    folder, before = read_only
    done = python("-m", "emulator", "prepare", HERE / "tiny.yaml", "--set", f"workdir={folder}", before=before)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert str(folder) in done.stderr and "the file system is read-only; choose another folder" in done.stderr
    assert [p.name for p in folder.iterdir()] == ["kept"]
