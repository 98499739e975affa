"""The IOOS compliance checker, which sees CF as the field does."""

import json
import os
import subprocess
import sys

import pytest

KNOWN = (
    "should begin with a letter",  # ERA5's names of fields at a height begin with a digit, which CF advises against
    "not in the recommended order",  # a forecast has two times, CF's order knows one
)
SKIPPED = ["check_coordinate_variables_strict_monotonicity"]  # subtracts names, which are coordinates too, and crashes


def complaints(path) -> list[str]:
    """What the IOOS compliance checker says against a file; its tables come with it, nothing is downloaded.

    It works in a process of its own: beside ecCodes (extra 'grib') its libraries end a process with a double free.
    """
    pytest.importorskip("compliance_checker", reason="needs compliance-checker (extra 'dev')")
    done = subprocess.run([sys.executable, __file__, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [m for m in json.loads(done.stdout.splitlines()[-1]) if not any(text in m for text in KNOWN)]


def _check(path: str) -> list[str]:
    from compliance_checker.suite import CheckSuite

    suite = CheckSuite()
    suite.load_all_available_checkers()
    groups, failures = suite.run_all(suite.load_dataset(path), ["cf:1.11"], skip_checks=SKIPPED)["cf:1.11"]
    assert not failures
    return [m for group in groups for m in _failed(group)]


def _failed(result) -> list[str]:
    """Messages of what did not get all its points; others only say what was looked at."""
    if result.value[0] == result.value[1]:
        return []
    return [*(result.msgs or ()), *(m for child in result.children or () for m in _failed(child))]


if __name__ == "__main__":
    print(json.dumps(_check(sys.argv[1])), flush=True)
    os._exit(0)  # before libraries clean up
