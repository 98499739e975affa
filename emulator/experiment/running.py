"""Runs the stages of an experiment: what is done is skipped, what was stopped goes on, what is of another config is
refused, and nothing is discarded before it is known that its successor can be made."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.disk import discard, disk_in_one_line, link, remove, write_text
from emulator.config import ExperimentConfig, load_config, save_config
from emulator.experiment.records import Record, Records, locked
from emulator.experiment.stages import Stage, applicable_stages, decisive_values, fingerprint, is_of_nature, stage_named
from emulator.progress import duration
from emulator.run_folder import run_folder

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
"""The resolved config, in the folder of an experiment."""

_MOST_KEYS = 5  # named in a message
_OF_GIVEN = ("evaluate.forecasts", "evaluate.missing_inits")  # keys that are about forecasts of others alone


def run_stages(
    config: ExperimentConfig, names: list[str] | None = None, *, redo: bool = False, workers: Executor | None = None
) -> Path:
    """Runs the named stages (all when ``None``), skipping what is done. Returns the experiment's folder.

    Args:
      config: The experiment.
      names: Stages to run; each needs the results of those before it.
      redo: Discard earlier results of these stages, and all made from them, instead of refusing or skipping; nothing
        is discarded where a stage refuses its work.
      workers: For the stages that can share their work; this process does it all when left out.

    Raises:
      UserError: an earlier result is missing or belongs to another config, or another run holds the folder.
    """
    folder = config.path
    if names is None or "train" in names:
        _refuse_own_weights(config)
    with disk_in_one_line(folder), locked(folder):
        for left in folder.glob(".*.discarded"):  # by a kill
            remove(left)
        stages = applicable_stages(config)
        unknown = set(names or ()) - {s.name for s in stages}
        if unknown:
            raise UserError(f"{config.name} has no stage {', '.join(sorted(unknown))}: its config has no such section")
        for i, stage in enumerate(stages):
            if names is None or stage.name in names:
                title = f"[{i + 1}/{len(stages)}] {stage.name}"
                _run_stage(config, stage, title, redo, workers, all_follow=names is None)
    return folder


def refuse_another_folder(config: ExperimentConfig, file: Path) -> None:
    """A config in the folder of an experiment is about that one: of a copy, ``--redo`` would discard the original's.

    Raises:
      ConfigError: its workdir is another folder: it was copied or moved, or a relative path starts elsewhere now.
    """
    folder = file.parent
    if file.name == CONFIG and Records(folder).exist and config.path.resolve() != folder.resolve():
        raise ConfigError(
            f"{file}: lies in the folder of an experiment, but its workdir is {config.path} (from {Path.cwd()}); say "
            f"which is meant, --set workdir={folder} or --set workdir={config.path}"
        )


def _refuse_own_weights(config: ExperimentConfig) -> None:
    """A training cannot begin with what it takes the place of.

    Raises:
      ConfigError: it is to.
    """
    start = config.train.start_from
    if start is not None and run_folder(start).resolve() == (config.path / "run").resolve():
        raise ConfigError(
            f"train.start_from: {start} is the network of this very experiment, which training replaces; choose "
            f"another workdir, with reuse={config.path}"
        )


def _run_stage(
    config: ExperimentConfig, stage: Stage, title: str, redo: bool, workers: Executor | None, all_follow: bool
) -> None:
    records = Records(config.path)
    record = records.get(stage.name)
    if not redo:
        if _done_before(config, stage, record):
            if (why := stage.outdated(config)) is None:
                logger.info("%s: done before, skipped", title)
                _warn_of_changed_files(config, stage, record)
                return
            logger.info("%s: %s; made now", title, why)
        if _take(config, stage, records, title):
            return
    _check_needs(config, stage, records)
    if redo:
        stage.ready(config)
    logger.info("%s", title)
    if all_follow:
        stage.look_ahead(config)
    warn = _nothing if all_follow else partial(_warn_of_later_stages, config, stage)
    seconds = _work(config, stage, records, redo, workers, warn)
    logger.info("%s: finished in %s", title, duration(seconds))


def _warn_of_later_stages(config: ExperimentConfig, stage: Stage) -> None:
    """Where none has been asked for, what one would refuse is a warning: until then the config may change."""
    try:
        stage.look_ahead(config)
    except UserError as error:
        logger.warning("%s: with this config a later stage will be refused: %s", stage.name, error)


def _nothing() -> None:
    """There is no warning to give."""


@dataclass(frozen=True)
class _Course:
    """What is done about the earlier result of a stage that is about to run.

    Attributes:
      discards_before: It goes before the work, with all that was made from it.
      discards_after: What was made from it goes after the work, when there is another.
      resumes: The work goes on where it was stopped, so its seconds will be those of the last part alone.
    """

    discards_before: bool
    discards_after: bool
    resumes: bool

    @classmethod
    def of(cls, stage: Stage, record: Record | None, mark: str, *, redo: bool, any_there: bool) -> _Course:
        """Of a stage with this record; ``mark`` is the fingerprint that the record will have."""
        if redo:
            return cls(discards_before=not stage.replaces, discards_after=stage.replaces, resumes=False)
        if record is None:
            return cls(discards_before=False, discards_after=False, resumes=False)
        is_another = "again" in record or (record["finished"] and not stage.same_again)
        begun = not record["finished"] if record["fingerprint"] == mark else any_there
        return cls(discards_before=False, discards_after=is_another, resumes=begun)


def _work(
    config: ExperimentConfig,
    stage: Stage,
    records: Records,
    redo: bool,
    workers: Executor | None,
    warn: Callable[[], None],
) -> float:
    """Has a stage run, and keeps the record: before, lest a beginning be taken for a result, and after. Its seconds."""
    folder, record, mark = config.path, records.get(stage.name), fingerprint(config, stage)
    course = _Course.of(stage, record, mark, redo=redo, any_there=_any_there(folder, stage))
    stages = applicable_stages(config)
    place = stages.index(stage)
    stamps = stage.files(config)  # before the work: what changes meanwhile is another file
    if course.discards_before:  # not earlier: what is refused must cost nothing
        _discard(folder, stages[place:], records, because_of=stage)
    earlier = None if course.discards_before else _Earlier.of(folder, stage, record)
    begun: Record = {"fingerprint": mark, "finished": False}
    if course.discards_after:
        begun["again"] = True
        begun |= _what_may_stay(config, stage, records)
    save_config(config, folder / CONFIG)  # not earlier: that of what is refused made no result
    records.set(stage.name, begun)
    start = time.monotonic()
    try:
        if redo:
            stage.meet()
        else:
            stage.take_parts(config)
        stage.run(config, workers, warn)
    except BaseException as error:
        was_begun = redo or record is None  # what is stopped, and not refused, goes on
        if earlier is not None and (isinstance(error, UserError) or not was_begun):
            earlier.put_back(records)
        raise
    seconds = time.monotonic() - start
    if not course.discards_after:
        stage.told(config)
    elif "content" in begun and stage.content(config) == begun["content"]:
        logger.info("%s: made again, and the same, so what was made from it is kept", stage.name)
        _spare(config, begun["spared"], records)
    else:
        logger.info("%s: made again, so what was made from the one before is discarded", stage.name)
        _discard(folder, stages[place + 1 :], records, because_of=stage)
    finished: Record = {"fingerprint": mark, "finished": True, "seconds": round(seconds, 1)}
    if course.resumes:
        finished["resumed"] = True
    if stamps is not None:
        finished["files"] = stamps
    records.set(stage.name, finished)
    return seconds


class _MayStay(TypedDict):
    """See ``Record``."""

    content: NotRequired[str]
    spared: NotRequired[list[str]]


def _what_may_stay(config: ExperimentConfig, stage: Stage, records: Records) -> _MayStay:
    """What the record says, while a result is made anew, of the one before and of what was made from it.

    Results of later stages are of this config where they were made with another one that differs in nothing but the
    sections of this stage.
    """
    record = records.get(stage.name)
    if record is not None and "again" in record:  # stopped on the way; the one before is gone, perhaps
        return {"content": record["content"], "spared": record["spared"]} if "content" in record else {}
    content = stage.content(config)
    if content is None:
        return {}
    try:
        made_with = load_config(config.path / CONFIG)
    except UserError:
        return {}
    like_this = made_with.model_copy(update={key: getattr(config, key) for key in stage.depends})
    later = applicable_stages(config)
    spared = [
        each.name
        for each in later[later.index(stage) + 1 :]
        if (made := records.get(each.name)) is not None
        and made["fingerprint"] == fingerprint(made_with, each)
        and fingerprint(like_this, each) == fingerprint(config, each)
    ]
    return {"content": content, "spared": spared}


def _spare(config: ExperimentConfig, names: Sequence[str], records: Records) -> None:
    """Says of results that they are of this config; the others stay as they are, and are refused where it asks."""
    for name in names:
        if (record := records.get(name)) is not None:
            records.set(name, {**record, "fingerprint": fingerprint(config, stage_named(name))})


@dataclass(frozen=True)
class _Earlier:
    """What a folder said of a stage's result, if there was one, before it was to be made anew."""

    folder: Path
    stage: Stage
    record: Record | None
    config: str | None
    outputs: list[tuple[int, int]]

    @classmethod
    def of(cls, folder: Path, stage: Stage, record: Record | None) -> _Earlier:
        config = folder / CONFIG
        text = config.read_text(encoding="utf-8") if config.is_file() else None
        return cls(folder, stage, record, text, cls._outputs(folder, stage))

    @staticmethod
    def _outputs(folder: Path, stage: Stage) -> list[tuple[int, int]]:
        there = ((folder / output).stat() for output in stage.outputs if (folder / output).exists())
        return [(status.st_ino, status.st_mtime_ns) for status in there]

    def put_back(self, records: Records) -> None:
        """Says it again, unless an output is another one by now."""
        if self._outputs(self.folder, self.stage) == self.outputs:
            if self.config is not None:
                write_text(self.folder / CONFIG, self.config)
            if self.record is None:
                records.remove(self.stage.name)
            else:
                records.set(self.stage.name, self.record)


def _discard(folder: Path, stages: Sequence[Stage], records: Records, *, because_of: Stage) -> None:
    """Removes results, the last first: after a kill nothing is left of what was made from something removed."""
    for stage in reversed(stages):
        records.remove(stage.name)
        spares = because_of.name == "train" and stage.of_network
        for path in spares(folder) if spares else (folder / output for output in stage.outputs):
            discard(path)


def _check_needs(config: ExperimentConfig, stage: Stage, records: Records) -> None:
    of_nature = stage.name == "prepare" and any(map(is_of_nature, config.data.inputs))
    of_network = stage.name == "evaluate" and config.evaluate.long_run is not None  # which is run there
    for need in (*stage.needs, *("nature",) * of_nature, *("run",) * of_network):
        if not (config.path / need).exists():
            raise UserError(
                f"{stage.name}: {config.path / need} is missing; run the stages before it, or 'emulator run'"
            )
        _check_finished(config, stage, need, records)


def _check_finished(config: ExperimentConfig, stage: Stage, need: str, records: Records) -> None:
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
        keys = _differing_keys(config, maker, record)
        if not (shows_what_is_there and all(key.startswith(_OF_GIVEN) for key in keys)):
            raise _made_with_another(config, maker, keys)
    if not record["finished"]:
        raise UserError(
            f"{stage.name}: {config.path / need} is not finished; run '{maker.name}' to its end, or 'emulator run'"
        )
    if not shows_what_is_there:
        maker.check(config)


def _made_with_another(config: ExperimentConfig, stage: Stage, keys: Sequence[str]) -> UserError:
    folder, unless = config.path, "" if stage.content(config) is None else " unless it comes out the same"
    named = f" ({', '.join(keys[:_MOST_KEYS])}{', ...' * (len(keys) > _MOST_KEYS)})" if keys else ""
    return UserError(
        f"{folder}: the result of '{stage.name}' was made with another config{named}; 'emulator {stage.name} CONFIG "
        f"--redo' discards it and what was made from it{unless}, another workdir with reuse={folder} keeps both"
    )


def _differing_keys(config: ExperimentConfig, stage: Stage, record: Record) -> list[str]:
    """The keys whose values are others; none where the config in the folder is not what the result was made with."""
    try:
        made_with = load_config(config.path / CONFIG)
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
    record = Records(folder).get(name)
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
      redo: As given to the first process, which then discards the earlier result while the others wait.

    Raises:
      UserError: as ``run_stages`` does.
    """
    stage = stage_named(name)
    record = Records(config.path).get(name)
    if redo:
        stage.meet()
    if redo or not _done_before(config, stage, record):
        stage.run(config, None, _nothing)


def _done_before(config: ExperimentConfig, stage: Stage, record: Record | None) -> bool:
    """Whether its result is there, whole and of this config.

    Raises:
      UserError: it is of another config.
    """
    other = record is not None and record["fingerprint"] != fingerprint(config, stage)
    folder = config.path
    if record and other and (record["finished"] or _any_there(folder, stage)) and not stage.begun(config):
        raise _made_with_another(config, stage, _differing_keys(config, stage, record))
    stage.check(config)
    return bool(record and record["finished"] and not other and _all_there(folder, stage))


def _any_there(folder: Path, stage: Stage) -> bool:
    return any((folder / output).exists() for output in stage.outputs)


def _all_there(folder: Path, stage: Stage) -> bool:
    return all((folder / output).exists() for output in stage.outputs)


def _warn_of_changed_files(config: ExperimentConfig, stage: Stage, record: Record | None) -> None:
    """Of a result that costs too much to be made again unasked."""
    if (changed := _changed(config, stage, record)) is not None:
        logger.warning(
            "%s: %s since this result was made, which is kept; 'emulator %s %s --redo' makes it of the files as they "
            "are, and discards what was made from it unless it comes out the same",
            stage.name,
            changed,
            stage.name,
            config.path / CONFIG,
        )


def _changed(config: ExperimentConfig, stage: Stage, record: Record | None) -> str | None:
    """In words, which files are others than those of a record; ``None`` where none are, or nothing is known of them.

    That is so of results of older versions, and where raw files have been put away: the result stands for them then.
    """
    if record is None or "files" not in record:
        return None
    try:
        now = stage.files(config)
    except DataError:
        return None
    if now is None:
        return None
    before, after = ({tuple(file) for file in files} for files in (record["files"], now))
    if before == after:
        return None
    names = sorted({str(name) for name, *_ in before ^ after})
    was, is_there = (names[0] in {name for name, *_ in files} for files in (before, after))
    how = ("is new" if not was else "has changed") if is_there else "is gone"
    return f"{names[0]} {how}" + (f" ({len(names) - 1} more differ)" if len(names) > 1 else "")


def _take(config: ExperimentConfig, stage: Stage, records: Records, title: str) -> bool:
    """Links what the experiment that is reused has made of the same files with the same values, if it has."""
    if config.reuse is None or not stage.same_again:
        return False
    folder, other = config.path, Path(config.reuse)
    if not Records(other).exist or other.resolve() == folder.resolve():
        raise ConfigError(f"reuse: {other} is no folder of another experiment; with reuse=null all is made here")
    record, mark = Records(other).get(stage.name), fingerprint(config, stage)
    alike = record is not None and record["finished"] and record["fingerprint"] == mark
    there = config.model_copy(update={"workdir": str(other)})
    if record is None or not alike or not _all_there(other, stage) or stage.outdated(there) is not None:
        logger.info("%s: %s has none that this config would make", title, other)
        return False
    if (changed := _changed(config, stage, record)) is not None:
        logger.info("%s: that of %s is of other files (%s), so it is made anew", title, other, changed)
        return False
    for output in stage.outputs:
        link(other / output, folder / output)
        remove(folder / f"{output}.partial")  # where a store was begun
    logger.info("%s: taken from %s", title, other)
    save_config(config, folder / CONFIG)
    taken: Record = {"fingerprint": mark, "finished": True, "taken_from": config.reuse}
    if "files" in record:
        taken["files"] = record["files"]
    records.set(stage.name, taken)
    return True
