"""Both files of pinned packages say the same, and the one for CI has a hash of each."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("constraints.txt", "constraints-hashed.txt")


def pinned(file: str) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / file).read_text(), flags=re.MULTILINE)
    return {plain(name): version for name, version in lines}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_both_files_pin_the_same_versions():
    versions, hashed = map(pinned, FILES)
    assert len(versions) > 100
    assert {name: hashed.get(name) for name in versions} == versions


def test_each_package_of_the_second_file_has_hashes():
    blocks = re.split(r"^(?=[A-Za-z0-9])", (ROOT / FILES[1]).read_text(), flags=re.MULTILINE)[1:]
    assert len(blocks) >= len(pinned(FILES[1]))
    for block in blocks:
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", block, flags=re.MULTILINE), block


def test_what_the_package_asks_for_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["physics"], *extras["dev"], *extras["docs"]]
    names = {plain(re.match(r"[A-Za-z0-9._-]+", word).group()) for word in asked}
    for file in FILES:
        assert names <= pinned(file).keys(), file


@pytest.mark.parametrize("file", FILES)
def test_no_file_says_where_packages_come_from(file):
    assert not re.search(r"://|--index|--find-links|--extra-index", (ROOT / file).read_text())
