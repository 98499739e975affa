"""One experiment, one folder: what each stage needs, makes, and whether it is already done.

Every stage is a function of the config and the folder. A stage that finished leaves a record with the fingerprint of
the config sections it depends on; the same stage with the same fingerprint is skipped, and one with another
fingerprint is refused rather than silently overwritten.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.disk import discard, disk_in_one_line, link, remove, write_text
from data_prep.files.json_file import read_object
from emulator.config import EvaluateConfig, ExperimentConfig, TrainConfig, load_config, save_config
from emulator.experiment.forecast_files import files_of_network
from emulator.progress import duration, track_blocks
from emulator.run_folder import RECORDS

if TYPE_CHECKING:
    from data_prep.reading.locations import Location

logger = logging.getLogger(__name__)

_MOST_KEYS = 5  # named in a message

_Stamps: TypeAlias = list[list[int | str]]
"""Name of a file, then its ``locations.stamp``; hard links in another folder have the same."""


@dataclass(frozen=True)
class Stage:
    """A step of the way from nothing to a table.

    Attributes:
      name: What the user calls it.
      outputs: What it makes, relative to the experiment's folder.
      run: Does the work, on the workers if it can share it; must resume or start over by itself after a kill.
      depends: Config keys (dotted) that the result depends on, beside those of the stages before it.
      needs: Outputs of earlier stages without which it cannot start.
      check: Refuses what is there, if it was made with other values of keys that only a part of the result depends on.
      ready: Refuses, before anything is discarded or begun, what the work itself would refuse after a while.
      outdated: Why a finished result is made again or completed all the same, or ``None``. Only for what costs little
        and can be made from what is at hand; the old result stays until the new one is whole.
      same_again: Whether it makes the same again when its result was removed, so that what was made from that may stay,
        and may be spared where another experiment has made it.
      begun: Whether what is there, made with another config, is the beginning of what this one asks for.
      look_ahead: Refuses, before the work, what a later stage would refuse; asked only where all stages are to follow.
      files: Those of others that the result is made of, by name, with what changes when they do; the record keeps them.
        Files alone: who has a URL may be far away, or down.
      replaces: Whether its outputs take the place of earlier ones when they are whole: these stay until then, and for
        good where the work is refused.
      of_network: What a new training makes worthless of what is there, where the rest is worth keeping.
    """

    name: str
    outputs: tuple[str, ...]
    run: Callable[[ExperimentConfig, Path, Executor | None], None]
    depends: tuple[str, ...]
    needs: tuple[str, ...] = ()
    check: Callable[[ExperimentConfig, Path], None] = lambda *_: None
    ready: Callable[[ExperimentConfig, Path], None] = lambda *_: None
    outdated: Callable[[ExperimentConfig, Path], str | None] = lambda *_: None
    same_again: bool = False
    begun: Callable[[ExperimentConfig, Path], bool] = lambda *_: False
    look_ahead: Callable[[ExperimentConfig, Path], None] = lambda *_: None
    files: Callable[[ExperimentConfig, Path], _Stamps | None] = lambda *_: None
    replaces: bool = False
    of_network: Callable[[Path], list[Path]] | None = None


def _simulate(config: ExperimentConfig, folder: Path, _: Executor | None) -> None:
    from emulator.physics.nature_run import simulate

    assert config.simulate is not None
    simulate(config.simulate, folder / "nature", config.seed)


def _prepare(config: ExperimentConfig, folder: Path, workers: Executor | None) -> None:
    from data_prep.preparation.pipeline import prepare

    with track_blocks("prepare") as on_block:
        prepare(config.data, folder / "store.zarr", folder, on_block, workers)
    if (folder / "run" / "run.json").exists():
        _compare_data(folder)


def _data_files(config: ExperimentConfig, folder: Path) -> _Stamps:
    """What the data are made of; a nature run of one's own has a record of its own.

    Raises:
      DataError: a file is not there.
    """
    from data_prep.preparation.pipeline import find_inputs
    from data_prep.reading.locations import is_url

    data = config.data
    own = config.simulate is not None
    patterns = [i for i in data.inputs if not is_url(i) and not (own and _is_of_nature(i))]
    paths = list(find_inputs(patterns, folder))
    if data.lateral is not None:
        patterns = [i for i in data.lateral.inputs if not is_url(i)]
        paths += find_inputs(patterns, folder, "data.lateral.inputs")
    if data.regrid is not None and data.regrid.like is not None and not is_url(data.regrid.like):
        paths.append(Path(data.regrid.like))
    return _stamps(paths)


def _is_of_nature(pattern: str) -> bool:
    return pattern.startswith("{workdir}/nature/")


def _stamps(paths: Iterable[Location]) -> _Stamps:
    from data_prep.reading.locations import stamp

    return sorted([path.name, *stamp(path)] for path in paths if isinstance(path, Path))


def _compare_data(folder: Path) -> None:
    """Says so where a network that was kept has learned from other data than the new store holds."""
    from data_prep.preparation.store import read_manifest
    from emulator.checkpoint import read_description

    try:
        same = read_description(folder / "run")["data_hash"] == read_manifest(folder / "store.zarr")["data_hash"]
    except UserError as error:  # whoever needs the run will be told
        logger.warning("prepare: %s", error)
        return
    if same:
        logger.info("prepare: the data are those that %s was trained on", folder / "run")
    else:
        logger.warning(
            "prepare: %s was trained on other data (other input files, or other libraries), and is kept; "
            "'emulator train %s --redo' trains on these",
            folder / "run",
            folder / "config.yaml",
        )


def _older_store(_: ExperimentConfig, folder: Path) -> str | None:
    from data_prep.preparation.store import FORMAT_VERSION, older_version

    if (version := older_version(folder / "store.zarr")) is None:
        return None
    return f"store.zarr has format version {version}, this program reads {FORMAT_VERSION}"


def _check_comparison(config: ExperimentConfig, folder: Path) -> None:
    from emulator.experiment.contest import check_comparison

    check_comparison(config, folder)


def _train(config: ExperimentConfig, folder: Path, _: Executor | None) -> None:
    from emulator.training.train import train

    train(
        config.train,
        config.model,
        folder / "store.zarr",
        folder / "run",
        config.training_seed,
        config.model_dump(mode="json"),
    )


def _shorter_training(config: ExperimentConfig, folder: Path) -> bool:
    from emulator.training.train import is_beginning

    return is_beginning(folder / "run", config.train, config.model, config.training_seed)


def _forecast(config: ExperimentConfig, folder: Path, _: Executor | None) -> None:
    from emulator.experiment.contest import write_all_forecasts

    write_all_forecasts(config, folder)


def _check_forecasts(config: ExperimentConfig, folder: Path) -> None:
    from data_prep.preparation.store import open_store
    from emulator.experiment.competitors import check_options

    if (folder / "store.zarr").exists():
        check_options(config, folder, open_store(folder / "store.zarr"))


def _incomplete_forecasts(config: ExperimentConfig, folder: Path) -> str | None:
    from data_prep.preparation.store import open_store
    from emulator.experiment.competitors import what_is_lacking

    if not (folder / "store.zarr").exists():
        return None
    return what_is_lacking(config, folder, open_store(folder / "store.zarr"))


def _evaluate(config: ExperimentConfig, folder: Path, workers: Executor | None) -> None:
    from emulator.experiment.contest import score_all_forecasts

    score_all_forecasts(config, folder, workers)


def _check_scores(config: ExperimentConfig, folder: Path) -> None:
    from emulator.experiment.contest import check_scores

    check_scores(config, folder)


def _scored_files(config: ExperimentConfig, _: Path) -> _Stamps:
    """Forecasts of others and the mask, as far as they are there: what is gone was scored."""
    from data_prep.reading.locations import locate

    others = (*config.evaluate.forecasts.values(), *filter(None, [config.evaluate.mask]))
    return _stamps(path for path in map(locate, others) if isinstance(path, Path) and path.exists())


def _replaced_since_scored(config: ExperimentConfig, folder: Path) -> str | None:
    """Files of others that were replaced, by older ones perhaps."""
    record = _Records(folder / RECORDS).get("evaluate") or {}
    scored_at = (folder / "scores.nc").stat().st_mtime_ns  # all there is to go by in records of older versions
    for file in _scored_files(config, folder):
        if file not in record["files"] if "files" in record else int(file[-1]) > scored_at:
            return f"{file[0]} is another file than was scored"
    return None


def _plot(config: ExperimentConfig, folder: Path, _: Executor | None) -> None:
    from emulator.experiment.contest import plot_everything

    plot_everything(config, folder)


STAGES = (
    Stage("simulate", ("nature",), _simulate, ("seed", "simulate"), same_again=True),
    Stage("prepare", ("store.zarr",), _prepare, ("data",), outdated=_older_store, same_again=True, files=_data_files),
    Stage(
        "train",
        ("run",),
        _train,
        ("seed", "model", *(f"train.{key}" for key in TrainConfig.model_fields if key not in TrainConfig.HOW)),
        ("store.zarr",),
        begun=_shorter_training,
        look_ahead=_check_comparison,
    ),
    Stage(
        "forecast",
        ("forecasts",),
        _forecast,
        (),  # every file says itself what it depends on
        ("store.zarr", "run"),
        check=_check_forecasts,
        outdated=_incomplete_forecasts,
        of_network=files_of_network,
    ),
    Stage(
        "evaluate",
        ("scores.nc", "table.txt"),
        _evaluate,
        ("evaluate",),
        ("store.zarr", "forecasts"),
        ready=_check_scores,
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


def run_stages(
    config: ExperimentConfig, names: list[str] | None = None, *, redo: bool = False, workers: Executor | None = None
) -> Path:
    """Runs the named stages (all when ``None``), skipping what is done. Returns the experiment's folder.

    Args:
      config: The experiment.
      names: Stages to run; each needs the results of those before it.
      redo: Discard earlier results of these stages, and all made from them, instead of refusing or skipping; nothing
        is discarded where what a stage needs is refused.
      workers: For the stages that can share their work; this process does it all when left out.

    Raises:
      UserError: an earlier result is missing or belongs to another config, or another run holds the folder.
    """
    folder = config.path
    with disk_in_one_line(folder), _locked(folder):
        for left in folder.glob(".*.discarded"):  # by a kill
            remove(left)
        stages = applicable_stages(config)
        unknown = set(names or ()) - {s.name for s in stages}
        if unknown:
            raise UserError(f"{config.name} has no stage {', '.join(sorted(unknown))}: its config has no such section")
        for i, stage in enumerate(stages):
            if names is None or stage.name in names:
                title = f"[{i + 1}/{len(stages)}] {stage.name}"
                _run_stage(config, folder, stage, title, redo, workers, all_follow=names is None)
    return folder


def _run_stage(
    config: ExperimentConfig,
    folder: Path,
    stage: Stage,
    title: str,
    redo: bool,
    workers: Executor | None,
    all_follow: bool,
) -> None:
    records = _Records(folder / RECORDS)
    mark = fingerprint(config, stage)
    record = records.get(stage.name)
    stages = applicable_stages(config)
    if not redo and _done_before(config, folder, stage, mark, record):
        if (why := stage.outdated(config, folder)) is None:
            logger.info("%s: done before, skipped", title)
            _warn_of_changed_files(config, folder, stage, record)
            return
        logger.info("%s: %s; made now", title, why)
    if not redo and (taken := _taken(config, folder, stage, mark, title)) is not None:
        save_config(config, folder / "config.yaml")
        files = {"files": taken["files"]} if "files" in taken else {}
        records.set(stage.name, {"fingerprint": mark, "finished": True, "taken_from": config.reuse} | files)
        return
    of_nature = stage.name == "prepare" and any(map(_is_of_nature, config.data.inputs))
    for need in (*stage.needs, *("nature",) * of_nature):
        if not (folder / need).exists():
            raise UserError(f"{stage.name}: {folder / need} is missing; run the stages before it, or 'emulator run'")
        _check_finished(config, folder, stage, need, records)
    stage.ready(config, folder)
    logger.info("%s", title)
    if all_follow:
        stage.look_ahead(config, folder)
    stamps = stage.files(config, folder)  # before the work: what changes meanwhile is another file
    if redo and not stage.replaces:  # not earlier: what is refused must cost nothing
        _discard(folder, stages[stages.index(stage) :], records, because_of=stage)
    # of a stage that goes on where it was stopped, the seconds are those of the last part alone
    same = record is not None and record["fingerprint"] == mark
    resumes = record and not redo and (not record["finished"] if same else _any_there(folder, stage))
    resumed = {"resumed": True} if resumes else {}
    again = record is not None and not redo and not stage.same_again and (record["finished"] or "again" in record)
    again = again or (redo and stage.replaces)
    earlier = _Earlier.of(folder, stage, record) if stage.replaces and record is not None else None
    save_config(config, folder / "config.yaml")  # not earlier: that of what is refused made no result
    records.set(stage.name, {"fingerprint": mark, "finished": False} | ({"again": True} if again else {}))
    start = time.monotonic()
    try:
        stage.run(config, folder, workers)
    except BaseException:
        if earlier is not None:
            earlier.put_back(records)
        raise
    seconds = time.monotonic() - start
    if again:
        logger.info("%s: made again, so what was made from the one before is discarded", stage.name)
        _discard(folder, stages[stages.index(stage) + 1 :], records, because_of=stage)
    files = {} if stamps is None else {"files": stamps}
    records.set(stage.name, {"fingerprint": mark, "finished": True, "seconds": round(seconds, 1)} | resumed | files)
    logger.info("%s: finished in %s", title, duration(seconds))


@dataclass(frozen=True)
class _Earlier:
    """What a folder said of a stage's result before it was to be made anew."""

    folder: Path
    stage: Stage
    record: dict[str, Any]
    config: str | None
    outputs: list[tuple[int, int]]

    @classmethod
    def of(cls, folder: Path, stage: Stage, record: dict[str, Any]) -> _Earlier:
        config = folder / "config.yaml"
        text = config.read_text(encoding="utf-8") if config.is_file() else None
        return cls(folder, stage, record, text, cls._outputs(folder, stage))

    @staticmethod
    def _outputs(folder: Path, stage: Stage) -> list[tuple[int, int]]:
        there = ((folder / output).stat() for output in stage.outputs if (folder / output).exists())
        return [(status.st_ino, status.st_mtime_ns) for status in there]

    def put_back(self, records: _Records) -> None:
        """Says it again, unless an output is another one by now."""
        if self._outputs(self.folder, self.stage) == self.outputs:
            if self.config is not None:
                write_text(self.folder / "config.yaml", self.config)
            records.set(self.stage.name, self.record)


def _discard(folder: Path, stages: Sequence[Stage], records: _Records, *, because_of: Stage) -> None:
    """Removes results, the last first: after a kill nothing is left of what was made from something removed."""
    for stage in reversed(stages):
        records.remove(stage.name)
        spares = because_of.name == "train" and stage.of_network
        for path in spares(folder) if spares else (folder / output for output in stage.outputs):
            discard(path)


def _check_finished(config: ExperimentConfig, folder: Path, stage: Stage, need: str, records: _Records) -> None:
    """A half-trained network must not be forecast with, scored, and taken for the trained one ever after.

    Raises:
      UserError: the stage that makes what is needed was stopped on its way, or belongs to another config.
    """
    maker = next((s for s in applicable_stages(config) if need in s.outputs), None)
    record = records.get(maker.name) if maker else None
    if maker is None or record is None:
        return
    shows_what_is_there = stage.name == "plot"  # forecasts of the command line that was scored, too
    if record["fingerprint"] != fingerprint(config, maker):
        keys = _differing_keys(config, folder, maker, record)
        if not (shows_what_is_there and all(key.startswith("evaluate.forecasts") for key in keys)):
            raise _made_with_another(folder, maker, keys)
    if not record["finished"]:
        raise UserError(
            f"{stage.name}: {folder / need} is not finished; run '{maker.name}' to its end, or 'emulator run'"
        )
    if not shows_what_is_there:
        maker.check(config, folder)


def _made_with_another(folder: Path, stage: Stage, keys: Sequence[str]) -> UserError:
    named = f" ({', '.join(keys[:_MOST_KEYS])}{', ...' * (len(keys) > _MOST_KEYS)})" if keys else ""
    return UserError(
        f"{folder}: the result of '{stage.name}' was made with another config{named}; 'emulator {stage.name} CONFIG "
        f"--redo' discards it and what was made from it, another workdir with reuse={folder} keeps both"
    )


def _differing_keys(config: ExperimentConfig, folder: Path, stage: Stage, record: dict[str, Any]) -> list[str]:
    """The keys whose values are others; none where the config in the folder is not what the result was made with."""
    try:
        made_with = load_config(folder / "config.yaml")
    except UserError:
        return []
    if fingerprint(made_with, stage) != record["fingerprint"]:
        return []
    asked, made = (_by_dotted_key(decisive_values(c, stage)) for c in (config, made_with))
    return sorted(key for key in asked.keys() | made.keys() if asked.get(key) != made.get(key))


def _by_dotted_key(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        below = _by_dotted_key(value) if isinstance(value, Mapping) else {}
        out |= {f"{key}.{rest}": each for rest, each in below.items()} or {key: value}
    return out


def stage_seconds(folder: Path, name: str) -> float:
    """Wall time of a finished stage, compilation included.

    Raises:
      UserError: it is not finished, or was stopped on its way, so that nobody knows.
    """
    record = _Records(folder / RECORDS).get(name)
    if not record or not record["finished"] or "seconds" not in record:
        why = f"was taken from {record['taken_from']}" if record and "taken_from" in record else "is not finished"
        raise UserError(f"{folder}: stage '{name}' {why}")
    if "resumed" in record:
        raise UserError(f"{folder}: stage '{name}' was stopped on its way and has no clock; choose an empty workdir")
    return float(record["seconds"])


def follow_stage(config: ExperimentConfig, name: str, *, redo: bool = False) -> None:
    """Takes part in a stage that the first of several processes runs, which alone keeps lock and record.

    All of them see the same folder, and so refuse or skip alike.

    Args:
      config: The experiment.
      name: The stage; it must know how to share its work.
      redo: As given to the first process, which then discards the earlier result.

    Raises:
      UserError: as ``run_stages`` does.
    """
    folder, stage = config.path, stage_named(name)
    record = _Records(folder / RECORDS).get(name)
    if redo or not _done_before(config, folder, stage, fingerprint(config, stage), record):
        stage.run(config, folder, None)


def _done_before(
    config: ExperimentConfig, folder: Path, stage: Stage, mark: str, record: dict[str, Any] | None
) -> bool:
    other = record is not None and record["fingerprint"] != mark
    if record and other and (record["finished"] or _any_there(folder, stage)) and not stage.begun(config, folder):
        raise _made_with_another(folder, stage, _differing_keys(config, folder, stage, record))
    stage.check(config, folder)
    return bool(record and record["finished"] and not other and _all_there(folder, stage))


def _any_there(folder: Path, stage: Stage) -> bool:
    return any((folder / output).exists() for output in stage.outputs)


def _all_there(folder: Path, stage: Stage) -> bool:
    return all((folder / output).exists() for output in stage.outputs)


def _warn_of_changed_files(config: ExperimentConfig, folder: Path, stage: Stage, record: dict[str, Any] | None) -> None:
    """Of a result that costs too much to be made again unasked."""
    if (changed := _changed(config, folder, stage, record)) is not None:
        logger.warning(
            "%s: %s since this result was made, which is kept; 'emulator %s %s --redo' makes it of the files as they "
            "are, and discards what was made from it",
            stage.name,
            changed,
            stage.name,
            folder / "config.yaml",
        )


def _changed(config: ExperimentConfig, folder: Path, stage: Stage, record: dict[str, Any] | None) -> str | None:
    """In words, which files are others than those of a record; ``None`` where none are, or nothing is known of them.

    That is so of results of older versions, and where raw files have been put away: the result stands for them then.
    """
    if record is None or "files" not in record:
        return None
    try:
        now = stage.files(config, folder) or []
    except DataError:
        return None
    before, after = ({tuple(file) for file in files} for files in (record["files"], now))
    if before == after:
        return None
    names = sorted({str(name) for name, *_ in before ^ after})
    was, is_there = (names[0] in {name for name, *_ in files} for files in (before, after))
    how = ("is new" if not was else "has changed") if is_there else "is gone"
    return f"{names[0]} {how}" + (f" ({len(names) - 1} more differ)" if len(names) > 1 else "")


def _taken(config: ExperimentConfig, folder: Path, stage: Stage, mark: str, title: str) -> dict[str, Any] | None:
    """Links what the experiment that is reused has made of the same files with the same values; its record, if so."""
    if config.reuse is None or not stage.same_again:
        return None
    other = Path(config.reuse)
    if not (other / RECORDS).exists() or other.resolve() == folder.resolve():
        raise ConfigError(f"reuse: {other} is no folder of another experiment; with reuse=null all is made here")
    record = _Records(other / RECORDS).get(stage.name)
    alike = record is not None and record["finished"] and record["fingerprint"] == mark
    if not alike or not _all_there(other, stage) or stage.outdated(config, other) is not None:
        logger.info("%s: %s has none that this config would make", title, other)
        return None
    if (changed := _changed(config, folder, stage, record)) is not None:
        logger.info("%s: that of %s is of other files (%s), so it is made anew", title, other, changed)
        return None
    for output in stage.outputs:
        link(other / output, folder / output)
    logger.info("%s: taken from %s", title, other)
    return record


class _Records:
    """What finished, in one small JSON file that is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _load(self) -> dict[str, dict[str, Any]]:
        if not self._path.exists():
            return {}
        remedy = "delete it to let every stage check its results again"
        found = read_object(self._path, remedy)
        for name, record in found.items():
            if not _is_record(record):
                raise UserError(f"{self._path}: damaged, the record of {name} is not as it was written; {remedy}")
        return found

    def get(self, name: str) -> dict[str, Any] | None:
        return self._load().get(name)

    def set(self, name: str, record: dict[str, Any]) -> None:
        self._save(self._load() | {name: record})

    def remove(self, name: str) -> None:
        self._save({k: v for k, v in self._load().items() if k != name})

    def _save(self, records: dict[str, dict[str, Any]]) -> None:
        write_text(self._path, json.dumps(records, indent=2))


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("fingerprint"), str)
        and isinstance(record.get("finished"), bool)
        and isinstance(record.get("seconds", 0.0), int | float)
        and isinstance(files := record.get("files", []), list)
        and all(isinstance(file, list) and file and all(isinstance(x, int | str) for x in file) for file in files)
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run at a time in a folder. The lock dies with its process, so it cannot go stale; the file says whose."""
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another run is working in this folder ({file.readline(200).strip() or 'unknown'}); "
                "wait for it or choose another workdir"
            ) from None
        except OSError as error:  # a file system that locks nothing, as some of clusters
            logger.debug("%s: runs cannot be kept apart here (%s)", folder, error)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")
        file.truncate()
        file.flush()
        yield
