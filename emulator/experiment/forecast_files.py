"""Where the forecasts of an experiment lie, and which of them a new network makes worthless.

    forecasts/NAME.nc                of everybody
    forecasts/means/NAME.nc          means, ensembles and supermodels of several, and what is made of these
    forecasts/training/NAME.nc       from which a correction is fitted
    forecasts/training/means/NAME.nc likewise, of supermodels

What came before a forecast left physical bounds is ``NAME_stopped.nc`` in the same place.
"""

from __future__ import annotations

from pathlib import Path

from emulator.config import ExperimentConfig

NETWORK = "network"
"""Name of the experiment's network; those of what is made from its forecasts alone begin with it."""

DEBIASED, DAMPED, ENSEMBLE = "_debiased", "_damped", "_ensemble"
"""End the names of what is made of a single forecaster: corrected by its training forecasts, from perturbed fields."""
CORRECTED = (DEBIASED, DAMPED)

_FOLDER, _MEANS, _TRAINING = "forecasts", "means", "training"


def forecast_path(name: str, config: ExperimentConfig) -> Path:
    """The file of a forecaster of the experiment."""
    return config.path / _FOLDER / _within(name, config) / f"{name}.nc"


def training_path(name: str, config: ExperimentConfig) -> Path:
    """The file of a forecaster's training forecasts."""
    return config.path / _FOLDER / _TRAINING / _within(name, config) / f"{name}.nc"


def is_of_network(path: Path) -> bool:
    """Whether a forecast file is the network's own, corrected or not, or made of several, of which it may be one."""
    return path.name.startswith(NETWORK) or path.parent.name == _MEANS


def files_of_network(folder: Path) -> list[Path]:
    """The forecast files that are there and ``is_of_network``, what is made from others first."""
    found = filter(is_of_network, (folder / _FOLDER).rglob("*.nc"))
    return sorted(found, key=lambda path: (path.parent.name != _MEANS, path.stem == NETWORK, path))


def _within(name: str, config: ExperimentConfig) -> str:
    evaluate = config.evaluate
    made = {f"{of}{form}" for of in evaluate.supermodels for form in ("", *CORRECTED, ENSEMBLE)}
    return _MEANS if name in made or name in evaluate.means | evaluate.ensembles else ""
