"""One experiment, one folder: what each stage needs, makes, and whether it is already done.

Every stage is a function of the config, which says where its folder is. A stage that finished leaves a record with the
fingerprint of the config sections it depends on; the same stage with the same fingerprint is skipped, and one with
another fingerprint is refused rather than silently overwritten.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import DataError, UserError
from emulator.config import EvaluateConfig, ExperimentConfig, TrainConfig
from emulator.experiment.forecast_files import files_of_network
from emulator.experiment.records import Records, Stamps
from emulator.progress import track_blocks
from emulator.run_folder import DESCRIPTION, WEIGHTS, run_folder

if TYPE_CHECKING:
    from data_prep.reading.locations import Location

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A step of the way from nothing to a table.

    Attributes:
      name: What the user calls it.
      outputs: What it makes, relative to the experiment's folder.
      run: Does the work, on the workers if it can share it; must resume or start over by itself after a kill. The last
        of its arguments gives a warning of later stages, if there is one to give.
      depends: Config keys (dotted) that the result depends on, beside those of the stages before it.
      needs: Outputs of earlier stages without which it cannot start.
      check: Refuses what is there, if it was made with other values of keys that only a part of the result depends on.
      ready: Refuses, before an earlier result is discarded, what the work itself would refuse before it makes anything.
      outdated: Why a finished result is made again or completed all the same, or ``None``. Only for what costs little
        and can be made from what is at hand; the old result stays until the new one is whole.
      same_again: Whether it makes the same again when its result was removed, so that what was made from that may stay,
        and may be spared where another experiment has made it.
      take_parts: Takes what the experiment that is reused has made alike of the result, before the rest is made.
      meet: Waits for the processes that share the work until the first of them has discarded an earlier result.
      begun: Whether what is there, made with another config, is the beginning of what this one asks for.
      look_ahead: Refuses, before the work, what a later stage would refuse. Where not all are to follow it is a warning
        that ``run`` gives when it is a good time, for somebody waits for the work to begin.
      files: Those of others that the result is made of, by name, with what changes when they do; the record keeps them.
        Files alone: who has a URL may be far away, or down.
      replaces: Whether its outputs take the place of earlier ones when they are whole, when it is made anew too: these
        stay until then, and for good where the work is refused.
      content: A hash of its result in a folder, by which one that was made anew is known to be the same; ``None`` where
        nothing is known.
      told: Says what is to be known of a result that was made anew beside what was made from the one before.
      of_network: What a new training makes worthless of what is there, where the rest is worth keeping.
    """

    name: str
    outputs: tuple[str, ...]
    run: Callable[[ExperimentConfig, Executor | None, Callable[[], None]], None]
    depends: tuple[str, ...]
    needs: tuple[str, ...] = ()
    check: Callable[[ExperimentConfig], None] = lambda _: None
    ready: Callable[[ExperimentConfig], None] = lambda _: None
    outdated: Callable[[ExperimentConfig], str | None] = lambda _: None
    same_again: bool = False
    take_parts: Callable[[ExperimentConfig], None] = lambda _: None
    meet: Callable[[], None] = lambda: None
    begun: Callable[[ExperimentConfig], bool] = lambda _: False
    look_ahead: Callable[[ExperimentConfig], None] = lambda _: None
    files: Callable[[ExperimentConfig], Stamps | None] = lambda _: None
    replaces: bool = False
    content: Callable[[ExperimentConfig], str | None] = lambda _: None
    told: Callable[[ExperimentConfig], None] = lambda _: None
    of_network: Callable[[Path], list[Path]] | None = None


def _simulate(config: ExperimentConfig, _: Executor | None, warn: Callable[[], None]) -> None:
    from emulator.physics.nature_run import simulate

    assert config.simulate is not None
    warn()
    simulate(config.simulate, config.path / "nature", config.seed)


def _check_simulation(config: ExperimentConfig) -> None:
    from emulator.physics.nature_run import check

    assert config.simulate is not None
    check(config.simulate)


def _check_data_of_simulation(config: ExperimentConfig) -> None:
    """Refuses, before hours of simulation, data that the nature run will not hold.

    Raises:
      UserError: as the preparation of its files would.
    """
    from data_prep.preparation.pipeline import rehearse
    from emulator.physics.nature_run import write_blank

    if config.simulate is None or not all(map(is_of_nature, config.data.inputs)):
        return
    with tempfile.TemporaryDirectory() as folder:
        write_blank(config.simulate, Path(folder) / "nature")
        try:
            rehearse(config.data, Path(folder))
        except DataError as error:
            raise DataError(
                f"preparation would refuse what is to be simulated: {str(error).replace(folder, str(config.path))}"
            ) from None


def _prepare(config: ExperimentConfig, workers: Executor | None, _: Callable[[], None]) -> None:
    from data_prep.preparation.pipeline import prepare

    with track_blocks("prepare") as on_block:
        prepare(config.data, config.path / "store.zarr", config.path, on_block, workers)


def _data_files(config: ExperimentConfig) -> Stamps:
    """What the data are made of; a nature run of one's own has a record of its own.

    Raises:
      DataError: a file is not there.
    """
    from data_prep.reading.locations import find_inputs, is_url

    data = config.data
    own = config.simulate is not None
    patterns = [i for i in data.inputs if not is_url(i) and not (own and is_of_nature(i))]
    paths = list(find_inputs(patterns, config.path))
    if data.lateral is not None:
        patterns = [i for i in data.lateral.inputs if not is_url(i)]
        paths += find_inputs(patterns, config.path, "data.lateral.inputs")
    if data.regrid is not None and data.regrid.like is not None and not is_url(data.regrid.like):
        paths.append(Path(data.regrid.like))
    return _stamps(paths)


def is_of_nature(pattern: str) -> bool:
    """Whether an input is the nature run of the experiment itself."""
    return pattern.startswith("{workdir}/nature/")


def _stamps(paths: Iterable[Location]) -> Stamps:
    from data_prep.reading.locations import stamp

    return sorted([path.name, *stamp(path)] for path in paths if isinstance(path, Path))


def _data_hash(config: ExperimentConfig) -> str | None:
    from data_prep.preparation.store import read_manifest

    try:
        return str(read_manifest(config.path / "store.zarr")["data_hash"])
    except UserError:  # none, or one that is replaced because it cannot be read
        return None


def _compare_data(config: ExperimentConfig) -> None:
    """Says so where a network that is kept has learned from other data than the new store holds."""
    from emulator.checkpoint import read_description

    run = config.path / "run"
    if not (run / DESCRIPTION).exists():
        return
    try:
        same = read_description(run)["data_hash"] == _data_hash(config)
    except UserError as error:  # whoever needs the run will be told
        logger.warning("prepare: %s", error)
        return
    if same:
        logger.info("prepare: the data are those that %s was trained on", run)
    else:
        logger.warning(
            "prepare: %s was trained on other data (other input files, or other libraries), and is kept; "
            "'emulator train %s --redo' trains on these",
            run,
            config.path / "config.yaml",
        )


def _older_store(config: ExperimentConfig) -> str | None:
    from data_prep.preparation.store import FORMAT_VERSION, older_version

    if (version := older_version(config.path / "store.zarr")) is None:
        return None
    return f"store.zarr has format version {version}, this program reads {FORMAT_VERSION}"


def _check_comparison(config: ExperimentConfig) -> None:
    from emulator.experiment.comparing import check_comparison

    check_comparison(config)


def _train(config: ExperimentConfig, _: Executor | None, warn: Callable[[], None]) -> None:
    from emulator.training.train import train

    train(
        config.train,
        config.model,
        config.path / "store.zarr",
        config.path / "run",
        config.training_seed,
        config.model_dump(mode="json"),
        warn,
    )


def _meet_for_training() -> None:
    from emulator.training.devices import failing_together, meet

    with failing_together():
        meet()


def _check_training(config: ExperimentConfig) -> None:
    from data_prep.preparation.store import open_store
    from emulator.training.job import check

    check(config.train, config.model, open_store(config.path / "store.zarr"), config.training_seed)


def _first_weights(config: ExperimentConfig) -> Stamps | None:
    """Those of another run that training begins with; ``None`` where there are none, or they are gone."""
    weights = run_folder(config.train.start_from) / WEIGHTS if config.train.start_from is not None else None
    return _stamps([weights]) if weights is not None and weights.exists() else None


def _shorter_training(config: ExperimentConfig) -> bool:
    from emulator.training.run_identity import is_beginning

    return is_beginning(config.path / "run", config.train, config.model, config.training_seed)


def _forecast(config: ExperimentConfig, *_: object) -> None:
    from emulator.experiment.comparing import write_all_forecasts

    write_all_forecasts(config)


def _take_forecasts(config: ExperimentConfig) -> None:
    from emulator.experiment.comparing import discard_outdated
    from emulator.experiment.competitors import take_forecasts
    from emulator.experiment.contest import Contest

    contest = Contest.of(config)
    discard_outdated(contest)  # whose names would not be free
    take_forecasts(contest)


def _check_forecasters(config: ExperimentConfig) -> None:
    from emulator.experiment.comparing import check_forecasters

    check_forecasters(config)


def _check_forecasts(config: ExperimentConfig) -> None:
    from emulator.experiment.competitors import check_options
    from emulator.experiment.contest import Contest

    if (config.path / "store.zarr").exists():
        check_options(Contest.of(config))


def _incomplete_forecasts(config: ExperimentConfig) -> str | None:
    from emulator.experiment.competitors import what_is_lacking
    from emulator.experiment.contest import Contest

    return what_is_lacking(Contest.of(config)) if (config.path / "store.zarr").exists() else None


def _evaluate(config: ExperimentConfig, workers: Executor | None, _: Callable[[], None]) -> None:
    from emulator.experiment.comparing import check_scores, score_all_forecasts

    check_scores(config)
    score_all_forecasts(config, workers)


def _scored_files(config: ExperimentConfig) -> Stamps:
    """Forecasts of others and the mask, as far as they are there: what is gone was scored."""
    from emulator.evaluation.external_files import files_that_are_there, locate_all

    others = (*config.evaluate.forecasts.values(), *filter(None, [config.evaluate.mask]))
    return _stamps(path for given in others for path in files_that_are_there(locate_all(given)))


def _replaced_since_scored(config: ExperimentConfig) -> str | None:
    """Files of others that were replaced, by older ones perhaps."""
    record = Records(config.path).get("evaluate")
    scored = None if record is None else record.get("files")
    scored_at = (config.path / "scores.nc").stat().st_mtime_ns  # all there is to go by in records of older versions
    for file in _scored_files(config):
        if file not in scored if scored is not None else int(file[-1]) > scored_at:
            return f"{file[0]} is another file than was scored"
    return None


def _plot(config: ExperimentConfig, *_: object) -> None:
    from emulator.experiment.comparing import plot_everything

    plot_everything(config)


STAGES = (
    Stage(
        "simulate",
        ("nature",),
        _simulate,
        ("seed", "simulate"),
        ready=_check_simulation,
        same_again=True,
        look_ahead=_check_data_of_simulation,
    ),
    Stage(
        "prepare",
        ("store.zarr",),
        _prepare,
        ("data",),
        outdated=_older_store,
        same_again=True,
        files=_data_files,
        replaces=True,
        content=_data_hash,
        told=_compare_data,
    ),
    Stage(
        "train",
        ("run",),
        _train,
        ("seed", "model", *(f"train.{key}" for key in TrainConfig.model_fields if key not in TrainConfig.HOW)),
        ("store.zarr",),
        ready=_check_training,
        meet=_meet_for_training,
        begun=_shorter_training,
        look_ahead=_check_comparison,
        files=_first_weights,
    ),
    Stage(
        "forecast",
        ("forecasts",),
        _forecast,
        (),  # every file says itself what it depends on
        ("store.zarr", "run"),
        check=_check_forecasts,
        ready=_check_forecasters,
        outdated=_incomplete_forecasts,
        take_parts=_take_forecasts,
        of_network=files_of_network,
    ),
    Stage(
        "evaluate",
        ("scores.nc", "table.txt"),
        _evaluate,
        ("evaluate",),
        ("store.zarr", "forecasts"),
        outdated=_replaced_since_scored,
        files=_scored_files,
        replaces=True,
    ),
    Stage("plot", ("plots", "report.html"), _plot, (), ("scores.nc",)),
)


def stage_named(name: str) -> Stage:
    """The stage of this name."""
    return next(s for s in STAGES if s.name == name)


def applicable_stages(config: ExperimentConfig) -> tuple[Stage, ...]:
    """The stages of this experiment in order; without a ``simulate`` section nothing is simulated."""
    return tuple(s for s in STAGES if s.name != "simulate" or config.simulate is not None)


def fingerprint(config: ExperimentConfig, stage: Stage) -> str:
    """Hash of all config values that this stage and those before it depend on."""
    values = json.dumps(decisive_values(config, stage), sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def decisive_values(config: ExperimentConfig, stage: Stage) -> dict[str, Any]:
    """The config values that this stage and those before it depend on, by key, but for those that are the default or
    say how the work is done.

    So a key that a later version adds makes no result another one.
    """
    how = {"evaluate": set(EvaluateConfig.HOW)}
    given = config.model_dump(mode="json", exclude_defaults=True, exclude=how)
    if config.train.seed == config.seed:  # the same as none
        given["train"] = {key: value for key, value in given["train"].items() if key != "seed"}
    found: dict[str, Any] = {}
    for s in applicable_stages(config):
        for key in s.depends:
            section, _, name = key.rpartition(".")
            values = given.get(section, {}) if section else given
            if name in values:
                found[key] = values[name]
        if s.name == stage.name:
            break
    return found
