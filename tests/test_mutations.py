"""Mutated configs, manifests, metadata and NetCDF files, a few of each; ``scripts/attack.py`` does thousands."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from attacks import mutations
from attacks.mutations import LOADED, REFUSED, attack_target, make_targets, outcome
from jax.experimental.compilation_cache import compilation_cache

from data_prep.errors import UserError

pytestmark = pytest.mark.slow
COUNT = 8


@pytest.fixture(scope="module", autouse=True)
def no_compilation_cache():
    """It is written where nothing hostile may write."""

    def switch(on: bool) -> None:
        jax.config.update("jax_enable_compilation_cache", on)
        compilation_cache.reset_cache()  # or JAX would look at the setting once in a process

    switch(False)
    yield
    switch(True)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return make_targets(tmp_path_factory.mktemp("mutations") / "small")


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_small_files_are_read_or_refused_in_a_line(targets):
    rng = random.Random(0)
    for target in targets:
        for file in target.files:
            assert outcome(lambda t=target, f=file: t.read(f), file.parent) == LOADED, file
        often = target.share >= 0.4 or "metadata" in target.name
        found = attack_target(target, 3 * COUNT if often else COUNT, rng)
        assert found.wrong == [], target.name
        assert found.outcomes[REFUSED] > 0, target.name


def test_what_must_not_be_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(mutations, "SECONDS", 1.0)
    monkeypatch.setattr(mutations, "PATIENCE", 3)

    def raises(error: Exception) -> None:
        raise error

    assert outcome(lambda: raises(ValueError("x")), tmp_path).startswith("TRACEBACK")
    assert outcome(lambda: raises(UserError("")), tmp_path).startswith("NOT A LINE")
    assert outcome(lambda: time.sleep(30), tmp_path).startswith("HANGS")
    assert outcome(lambda: sum(1 for _ in range(10**12)), tmp_path).startswith("HANGS")
    assert outcome(lambda: bytearray(3 * 2**30), tmp_path).startswith("MEMORY")
    assert outcome(lambda: (tmp_path / "x").write_text("x"), tmp_path) == LOADED
    assert outcome(lambda: (tmp_path.parent / "escaped").write_text("x"), tmp_path).startswith("WRITES open")
    assert outcome(lambda: os.system("true"), tmp_path).startswith("WRITES os.system")


def test_netcdf_files_are_read_or_refused_in_a_line(tmp_path):
    """In a process of its own: it forks, which one with JAX's threads must not."""
    program = f"""
import random, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from attacks.netcdf_mutations import attack_netcdf
found = attack_netcdf(Path({str(tmp_path / "netcdf")!r}), {COUNT}, random.Random(0))
print([what for what, _ in found.wrong])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
