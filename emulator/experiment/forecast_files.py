"""Where the forecasts of an experiment lie, and which of them a new network makes worthless.

    forecasts/NAME.nc            of everybody
    forecasts/training/NAME.nc   from which a correction is fitted
    forecasts/means/NAME.nc      means, ensembles and supermodels of several

What came before a forecast left physical bounds is ``NAME_stopped.nc`` in the same place.
"""

from __future__ import annotations

from pathlib import Path

from emulator.config import ExperimentConfig

NETWORK = "network"
"""Name of the experiment's network; those of what is made from its forecasts alone begin with it."""

ENSEMBLE = "_ensemble"
"""Ends the name of an ensemble from perturbed fields, behind that of the single forecaster."""

_FOLDER, _MEANS, _TRAINING = "forecasts", "means", "training"


def forecast_path(name: str, config: ExperimentConfig) -> Path:
    """The file of a forecaster of the experiment."""
    evaluate = config.evaluate
    several = name in evaluate.means | evaluate.ensembles or name.removesuffix(ENSEMBLE) in evaluate.supermodels
    within = _MEANS if several else ""
    return config.path / _FOLDER / within / f"{name}.nc"


def training_path(name: str, folder: Path) -> Path:
    """The file of a forecaster's training forecasts."""
    return folder / _FOLDER / _TRAINING / f"{name}.nc"


def is_of_network(path: Path) -> bool:
    """Whether a forecast file is the network's own, corrected or not, or made of several, of which it may be one."""
    return path.name.startswith(NETWORK) or path.parent.name == _MEANS


def files_of_network(folder: Path) -> list[Path]:
    """The forecast files that are there and ``is_of_network``, what is made from others first."""
    found = filter(is_of_network, (folder / _FOLDER).rglob("*.nc"))
    return sorted(found, key=lambda path: (path.parent.name != _MEANS, path.stem == NETWORK, path))
