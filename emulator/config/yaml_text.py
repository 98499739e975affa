"""YAML as people write it, read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import ConfigError, one_line

_LARGEST_BYTES = 2**20
_MOST_NODES = 100_000  # what a file stands for when its aliases are written out


def read_yaml(file: Path) -> dict[str, Any]:
    """Keys and values of a YAML file, as people write them.

    Raises:
      ConfigError: there is no such file, or it holds something else.
    """
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{file}: larger than {_LARGEST_BYTES} bytes, which no config is; is it the right file?")
        raw = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {one_line(error)}") from None
    if not isinstance(raw, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(raw), "a single value")
        raise ConfigError(f"{file}: expected keys and values such as 'name: first', found {found}")
    return raw


def parse_yaml(text: str) -> Any:
    """What YAML stands for, as people write it.

    Raises:
      yaml.YAMLError: it is not valid.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        # of PyYAML, for tags that do not fit their values (!!int x), for a nest too deep
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def yaml_of(values: Mapping[str, Any]) -> str:
    """The text that ``parse_yaml`` takes for those values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as people write it: ``1e-3`` is a number, and a date stays the string that the schema asks for.

    Aliases may not stand for more than they are worth: a few lines of them can mean more values than memory holds. And
    no key may be there twice, which PyYAML takes for the second one alone: half of a config would be lost in silence.
    """

    def compose_document(self) -> yaml.Node | None:
        """The nodes of the file, once it is known how many they are, and that every key is there once."""
        node = super().compose_document()
        if node is not None:
            _count(node, {})
        return node


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """How many nodes one stands for; refuses keys that are there twice."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in counted:
        if isinstance(node, yaml.MappingNode):
            _refuse_twice([key for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        counted[id(node)] = None
        children = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        counted[id(node)] = 1 + sum(_count(child, counted) for child in children)
    total = counted[id(node)]
    if total is None:
        raise yaml.YAMLError(f"an alias within what it stands for, {str(node.start_mark).strip()}")
    if total > _MOST_NODES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES} values, {str(node.start_mark).strip()}")
    return total


def _refuse_twice(keys: Sequence[yaml.ScalarNode]) -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys:
        if (key.tag, key.value) in seen:
            raise yaml.YAMLError(f"{key.value} is there twice, {str(key.start_mark).strip()}")
        seen.add((key.tag, key.value))


class _Dumper(yaml.SafeDumper):
    """Quotes a string that ``_Loader`` would take for a number, such as an experiment's name ``1e3``."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_POWER_OF_TEN = (
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(*_POWER_OF_TEN)
_Dumper.add_implicit_resolver(*_POWER_OF_TEN)
