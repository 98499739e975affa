"""A config as a file: read, changed by ``--set``, validated, kept beside its results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from data_prep.errors import ConfigError
from data_prep.files.disk import write_text
from emulator.config.experiment import ExperimentConfig
from emulator.config.mistakes import first_error
from emulator.config.yaml_text import parse_yaml, read_yaml, yaml_of


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Reads and validates a config.

    Args:
      path: A YAML file, or the name of one that ships with the package (``configs/demo.yaml`` or ``demo``).
      overrides: ``a.b=value`` strings; the value is parsed as YAML.

    Raises:
      ConfigError: one line with the dotted path of what is wrong.
    """
    file = _find(Path(path))
    raw = read_yaml(file)
    for override in overrides:
        _apply_override(raw, override)
    return parse_config(raw, source=str(file))


def parse_config(raw: dict[str, Any], source: str = "config") -> ExperimentConfig:
    """Validates a config given as nested dictionaries; see ``load_config``."""
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{source}: {first_error(error, ExperimentConfig)}") from None


def save_config(config: ExperimentConfig, path: Path) -> None:
    """Writes the resolved config, every default spelled out, beside a result."""
    write_text(path, yaml_of(config.model_dump(mode="json")))


def shipped_configs() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(p.stem for p in _shipped_dir().glob("*.yaml"))


def _shipped_dir() -> Path:
    installed = Path(str(resources.files("emulator"))) / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    shipped = _shipped_dir() / f"{path.stem}.yaml"
    if path.parent in (Path(), Path("configs")) and shipped.is_file():
        return shipped
    found = "a folder, expected a YAML file" if path.is_dir() else "no such file"
    raise ConfigError(f"{path}: {found}; configs that come with the package: {', '.join(shipped_configs())}")


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, e.g. --set train.batch_size=8")
    if "[" in key:
        meant = re.sub(r"\[(\w+)\]", r".\1", key)
        raise ConfigError(f"--set {override}: places in a list are keys like others; did you mean {meant}?")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None
    parts = key.split(".")
    node: Any = raw
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                raise ConfigError(
                    f"--set {override}: {'.'.join(parts[:i])} is a list of {len(node)}; {part!r} is no index of it"
                )
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
            if not last and node.get(part) is None:
                node[part] = {}
        else:
            raise ConfigError(f"--set {override}: {'.'.join(parts[:i])} is a value, not a section")
        if last:
            node[index] = value
        else:
            node = node[index]
