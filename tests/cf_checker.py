"""The IOOS compliance checker, which sees CF as the field does."""

import pytest

KNOWN = (
    "should begin with a letter",  # ERA5's names of fields at a height begin with a digit, which CF advises against
    "not in the recommended order",  # a forecast has two times, CF's order knows one
)
SKIPPED = ["check_coordinate_variables_strict_monotonicity"]  # subtracts names, which are coordinates too, and crashes


def complaints(path) -> list[str]:
    """What the IOOS compliance checker says against a file; its tables come with it, nothing is downloaded."""
    checker = pytest.importorskip("compliance_checker.suite", reason="needs compliance-checker (extra 'dev')")
    suite = checker.CheckSuite()
    suite.load_all_available_checkers()
    data = suite.load_dataset(str(path))
    try:
        groups, failures = suite.run_all(data, ["cf:1.11"], skip_checks=SKIPPED)["cf:1.11"]
    finally:
        data.close()
    assert not failures
    failed = [m for group in groups for m in _failed(group)]
    return [m for m in failed if not any(text in m for text in KNOWN)]


def _failed(result) -> list[str]:
    """Messages of what did not get all its points; others only say what was looked at."""
    if result.value[0] == result.value[1]:
        return []
    return [*(result.msgs or ()), *(m for child in result.children or () for m in _failed(child))]
