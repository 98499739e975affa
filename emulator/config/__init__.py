"""The whole schema of an experiment: one YAML file, strict, shared by every stage.

Each section of the file is a module here. An unknown key, a wrong type or an impossible value is a ``ConfigError`` of
one line that gives the dotted path and, for an unknown key, the nearest valid one. ``--set a.b=v`` goes through the
same validator as the file.
"""

from emulator.config.evaluate import (
    Box,
    EnsembleOptions,
    EvaluateConfig,
    LongRunConfig,
    PhysicsBaseline,
    SpongeConfig,
    TwinConfig,
)
from emulator.config.experiment import ExperimentConfig
from emulator.config.files import load_config, parse_config, save_config, shipped_configs
from emulator.config.kinds import Precision
from emulator.config.mistakes import first_error
from emulator.config.model import GraphConfig, ModelConfig, SpectralConfig, TransformerConfig, UNetConfig
from emulator.config.simulate import SimulateConfig
from emulator.config.train import MeshConfig, RolloutStage, TrainConfig
from emulator.config.yaml_text import read_yaml

__all__ = [
    "Box",
    "EnsembleOptions",
    "EvaluateConfig",
    "ExperimentConfig",
    "GraphConfig",
    "LongRunConfig",
    "MeshConfig",
    "ModelConfig",
    "PhysicsBaseline",
    "Precision",
    "RolloutStage",
    "SimulateConfig",
    "SpectralConfig",
    "SpongeConfig",
    "TrainConfig",
    "TransformerConfig",
    "TwinConfig",
    "UNetConfig",
    "first_error",
    "load_config",
    "parse_config",
    "read_yaml",
    "save_config",
    "shipped_configs",
]
