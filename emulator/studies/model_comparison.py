"""Which network learns most in the same time: each trained for as many minutes on one store, with a recipe of its own.

    python scripts/compare_models.py CONFIG --models unet.yaml transformer.yaml ... --minutes M

Every model file has a section ``model`` and, where its recipe differs from the experiment's, a section ``train`` whose
keys replace those of ``CONFIG``. First its pace is taken: a few steps of every stage, compilation left out. Then the
stages are stretched, in proportion, to the steps that fit into the minutes, so that the learning rate comes down
within them, and the network is trained as ``emulator train`` would. Compiling, validating and saving take no minutes.

All is kept below ``WORKDIR/comparison``; a comparison that was stopped goes on, and a model that is there is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import ConfigError, DataError
from data_prep.files.disk import write_text
from data_prep.files.json_file import read_object
from data_prep.preparation.store import Store, open_store
from emulator.command import as_command, say
from emulator.config import ExperimentConfig, ModelConfig, RolloutStage, TrainConfig, load_config, read_yaml
from emulator.hardware.machine import describe
from emulator.models import forward_flops, parameter_count
from emulator.parser import some_minutes
from emulator.stepping.stepper import network_channels
from emulator.studies.markdown import markdown_table
from emulator.training.job import plan
from emulator.training.record import METRICS
from emulator.training.train import train

logger = logging.getLogger(__name__)

_PACE_STEPS, _PACE_LOG_EVERY = 15, 5
_VALIDATIONS = 4
_HOW_THAT_TELLS = {"mesh", "rematerialise", "accumulate", "validation_windows", "validation_steps"}
"""Keys of how the work is done that decide here how far a network comes in its minutes, or what it is verified with."""


@dataclass(frozen=True)
class Entrant:
    """A network and its recipe.

    Attributes:
      name: Of its file, and of its folder.
      experiment: The experiment with this network's sections.
    """

    name: str
    experiment: ExperimentConfig

    @classmethod
    def of(cls, config: Path | str, file: Path, overrides: Sequence[str]) -> Entrant:
        """The entrant of a model file.

        Raises:
          ConfigError: the file has other sections than ``model`` and ``train``, or one of them is wrong.
        """
        sections = read_yaml(file)
        if set(sections) - {"train"} != {"model"} or not isinstance(sections.get("train", {}), dict):
            raise ConfigError(f"{file}: expected the sections model and train, found {', '.join(sections) or 'none'}")
        changes = {"model": sections["model"]} | {f"train.{k}": v for k, v in sections.get("train", {}).items()}
        try:
            experiment = load_config(config, [*overrides, *(f"{k}={json.dumps(v)}" for k, v in changes.items())])
        except ConfigError as error:
            raise ConfigError(f"{file} on {error}") from None
        return cls(file.stem, experiment)


@dataclass(frozen=True)
class Result:
    """How far an entrant came.

    Attributes:
      name: Of the entrant.
      parameters: Numbers it learns.
      gflops: Billions of operations of a forward pass of one sample.
      steps: Optimiser steps.
      minutes: What those steps took.
      rmse: Of the validation rollout at the end, by variable and lead in hours, physical units; infinite where
        the forecast broke down.
    """

    name: str
    parameters: int
    gflops: float
    steps: int
    minutes: float
    rmse: dict[str, dict[float, float]]


def compare(entrants: Sequence[Entrant], minutes: float, store_path: Path, folder: Path) -> list[Result]:
    """Trains every entrant for the same time.

    Args:
      entrants: Networks with different names.
      minutes: Of training steps, for each.
      store_path: The prepared store.
      folder: Where runs are kept, ``NAME/run`` each.

    Raises:
      DataError: the store is missing, or the folder holds a comparison over another time.
      ConfigError: a network does not fit the grid, or two have the same name.
    """
    names = [e.name for e in entrants]
    if len(set(names)) < len(names):
        raise ConfigError(f"--models: names must differ, got {', '.join(names)}")
    store = open_store(store_path)
    results = []
    for entrant in entrants:
        home = folder / entrant.name
        recipe = _recipe(entrant, minutes, store, home)
        logger.info("compare: %s, %d steps", entrant.name, sum(s.steps for s in recipe.stages))
        _train(entrant, recipe, store, home / "run")
        results.append(_result(entrant, store, home / "run"))
        jax.clear_caches()  # the next network shares no program with this one
    return results


def _recipe(entrant: Entrant, minutes: float, store: Store, home: Path) -> TrainConfig:
    """The entrant's recipe, stretched to the minutes; kept in a file, as a pace is never measured twice the same."""
    file = home / "recipe.json"
    asked = _asked(minutes, store.data_hash, entrant.experiment.train, entrant.experiment.model)
    if file.is_file():
        remedy = f"remove {home} to train it anew"
        kept = read_object(file, remedy)
        with suppress(KeyError, TypeError, ValidationError):  # keys of another version, which asked for something else
            if _asked_before(kept["asked"]) == asked:
                return TrainConfig.model_validate(kept["recipe"])
        raise DataError(f"{file}: made for other minutes, data, another network or recipe; {remedy}")
    recipe = stretch(entrant.experiment.train, _pace(entrant, store, home / "pace"), 60 * minutes)
    write_text(file, json.dumps({"asked": asked, "recipe": recipe.model_dump(mode="json")}))
    return recipe


def _asked(minutes: float, data_hash: str, recipe: TrainConfig, model: ModelConfig) -> dict[str, Any]:
    """All that decides a result; without defaults, so that a key that a later version adds makes no result another."""
    train = recipe.model_dump(mode="json", exclude=set(TrainConfig.HOW - _HOW_THAT_TELLS), exclude_defaults=True)
    network = model.model_dump(mode="json", exclude_defaults=True)
    return {"minutes": minutes, "data": data_hash, "train": train, "model": network}


def _asked_before(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says was asked, defaults or not, as this program asks it."""
    model = TypeAdapter[ModelConfig](ModelConfig).validate_python(kept["model"])
    return _asked(kept["minutes"], kept["data"], TrainConfig.model_validate(kept["train"]), model)


def _pace(entrant: Entrant, store: Store, run_dir: Path) -> list[float]:
    """Seconds a step of every stage, by training a few of each; of random lengths, a step of mean length."""
    if run_dir.exists():
        shutil.rmtree(run_dir)
    config = entrant.experiment.train
    stages = [_with_steps(stage, _PACE_STEPS) for stage in config.stages]
    never = 10 * _PACE_STEPS * len(stages)
    brief = config.model_copy(
        update={
            "stages": stages,
            "log_every": _PACE_LOG_EVERY,
            "validate_every": never,
            "checkpoint_every": never,
            "validation_steps": 1,  # of as many windows as ever: several devices may share them
        }
    )
    _train(entrant, brief, store, run_dir)
    paces, entries = [], _entries(run_dir, "train")
    for span in plan(brief, entrant.experiment.model, store, entrant.experiment.training_seed):
        windows = span.windows
        a_model_step: list[float] = []
        for entry in entries:
            end = entry["step"] - span.start
            if _PACE_LOG_EVERY < end <= _PACE_STEPS:  # the first is slower
                lengths = [windows.shape(step).model_steps for step in range(end - _PACE_LOG_EVERY, end)]
                a_model_step.append(entry["seconds_per_step"] / statistics.mean(lengths))
        # what else the machine does can only slow a step down
        paces.append(min(a_model_step) * windows.mean_model_steps)
    shutil.rmtree(run_dir)
    return paces


def stretch(config: TrainConfig, seconds_per_step: Sequence[float], seconds: float) -> TrainConfig:
    """The recipe with its stages stretched or cut, in proportion, to fill a time; validation comes a few times."""
    planned = sum(s.steps * pace for s, pace in zip(config.stages, seconds_per_step, strict=True))
    stages = [_with_steps(s, max(1, round(s.steps * seconds / planned))) for s in config.stages]
    often = max(1, sum(s.steps for s in stages) // _VALIDATIONS)
    return config.model_copy(update={"stages": stages, "validate_every": often, "checkpoint_every": often})


def _with_steps(stage: RolloutStage, steps: int) -> RolloutStage:
    return stage.model_copy(update={"steps": steps})


def _train(entrant: Entrant, recipe: TrainConfig, store: Store, run_dir: Path) -> None:
    assert store.path is not None
    experiment = entrant.experiment
    described = experiment.model_copy(update={"train": recipe}).model_dump(mode="json")
    train(recipe, experiment.model, store.path, run_dir, experiment.training_seed, described)


def _result(entrant: Entrant, store: Store, run_dir: Path) -> Result:
    model: ModelConfig = entrant.experiment.model
    channels = network_channels(model, store.spec)
    logged = _entries(run_dir, "train")
    before = [0, *(e["step"] for e in logged[:-1])]
    seconds = sum((e["step"] - start) * e["seconds_per_step"] for e, start in zip(logged, before, strict=True))
    last = _entries(run_dir, "validation")[-1]
    return Result(
        entrant.name,
        parameter_count(model, *channels, store.grid),
        forward_flops(model, *channels, store.grid) / 1e9,
        logged[-1]["step"],
        seconds / 60,
        {
            name: {h: math.inf if v is None else v for h, v in zip(last["lead_hours"], values, strict=True)}
            for name, values in last["rmse"].items()
        },
    )


def _entries(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Entries of one kind in ``metrics.jsonl``."""
    lines = (run_dir / METRICS).read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def table(results: Sequence[Result]) -> str:
    """A Markdown table of results, smallest error first, with the machine named.

    The error is a geometric mean over the variables and leads that all have, as a ratio to the best: losses do not
    compare where recipes weigh variables or levels differently.
    """
    # recipes may weigh, and so verify, variables that others do not
    variables = [v for v in results[0].rmse if all(v in r.rmse for r in results)]
    leads = sorted(set.intersection(*(set(r.rmse[v]) for r in results for v in variables)))
    errors = [statistics.geometric_mean(r.rmse[v][h] for v in variables for h in leads) for r in results]
    best = min(errors)
    shown = sorted({leads[0], leads[len(leads) // 2], leads[-1]})
    hours = "/".join(f"{h:g}" for h in shown)
    head = ["model", "parameters, M", "GFLOP a sample", "steps", "minutes", "error"]
    head += [f"{v} at {hours} h" for v in variables]
    rows = []
    for error, r in sorted(zip(errors, results, strict=True), key=lambda pair: pair[0]):
        figures = [f"{r.parameters / 1e6:.2f}", f"{r.gflops:.2f}", str(r.steps), f"{r.minutes:.1f}"]
        by_variable = ["/".join(f"{r.rmse[v][h]:.3g}" for h in shown) for v in variables]
        rows.append([r.name, *figures, f"{error / best:.3f}", *by_variable])
    legend = (
        "RMSE of the validation rollout in SI units; error: its geometric mean over variables and leads, the best as 1."
    )
    return "\n".join([markdown_table(head, rows), "", f"Machine: {describe()}. {legend}"]) + "\n"


@as_command
def main(argv: Sequence[str]) -> None:
    """Runs a comparison from the command line; the table it prints is kept as ``comparison/table.md``."""
    parser = argparse.ArgumentParser(prog="compare_models", description="Train networks for the same time and compare.")
    parser.add_argument("config", metavar="CONFIG", help="the experiment whose store and recipe are used")
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="YAML files with model and train")
    parser.add_argument("--minutes", type=some_minutes, required=True, help="training time of each network")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override one value of CONFIG")
    arguments = parser.parse_args(argv)
    workdir = load_config(arguments.config, arguments.set).path
    entrants = [Entrant.of(arguments.config, file, arguments.set) for file in arguments.models]
    text = table(compare(entrants, arguments.minutes, workdir / "store.zarr", workdir / "comparison"))
    write_text(workdir / "comparison" / "table.md", text)
    say(text)
