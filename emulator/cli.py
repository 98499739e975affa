"""The ``emulator`` command. Calls the same functions that ``scripts/`` call, prints results, and errors as one line.

Nothing heavy is imported before it is needed, so ``--help`` answers at once. ``parser`` has the words.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.files.json_file import finite
from emulator.command import interrupted_by_sigterm, memory_in_one_line, say, set_up_logging
from emulator.hardware.compilation_cache import remember_compiled
from emulator.hardware.garbage import search_put_off
from emulator.hardware.large_pages import use_large_pages
from emulator.parser import build_parser

if TYPE_CHECKING:
    from emulator.config import ExperimentConfig


def start(*words: str) -> int:
    """``main`` of these words and those of the command line, as the only work of a process."""
    use_large_pages()
    return main([*words, *sys.argv[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Does what a command line says. Returns the exit code; ``parser.EXIT_CODES`` says what they mean."""
    arguments = build_parser().parse_args(argv)
    set_up_logging()
    remember_compiled()
    try:
        with interrupted_by_sigterm(), memory_in_one_line():
            _dispatch(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one place that talks to the user about errors
        if getattr(arguments, "json", False) and not isinstance(error, _ToldError):
            _print_json({"error": str(error), "exit_code": error.exit_code})
        return _leave(error.exit_code)
    except KeyboardInterrupt:
        print(_stopped(arguments), file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _stopped(arguments: argparse.Namespace) -> str:
    """What is said where a command was interrupted."""
    if not hasattr(arguments, "redo") or getattr(arguments, "input", None):
        return "stopped"
    command = "the same command without --redo" if arguments.redo else "the same command"
    return f"stopped; {command} goes on from here"


def _leave(code: int) -> int:
    """The exit code; of several processes, one that failed ends here."""
    if "emulator.training.devices" not in sys.modules:
        return code
    from emulator.training.devices import exit_code

    return exit_code(code)


def _dispatch(arguments: argparse.Namespace) -> None:
    of_files = {
        "init": _init,
        "inspect": _inspect,
        "report": _report,
        "regrid": _regrid,
        "verify": _verify,
        "check-pretrained": _check_pretrained,
    }
    command = arguments.command
    if command in of_files:
        of_files[command](arguments)
    elif command == "forecast" and (arguments.input or _is_run_folder(arguments.run)):
        _forecast_file(arguments)
    elif command == "plot" and arguments.config.endswith(".nc"):
        _plot_scores(arguments)
    else:
        with search_put_off() if command == "train" else nullcontext():
            _run_stages(arguments)


def _run_stages(arguments: argparse.Namespace) -> None:
    """What is asked of an experiment, by its config."""
    from emulator.config import load_config
    from emulator.experiment.running import refuse_another_folder, run_stages
    from emulator.hardware.workers import open_executor

    command = arguments.command
    target = arguments.run if command == "forecast" else arguments.config
    if command == "forecast":
        why = "goes with a run folder and INPUT; forecasts of an experiment are as 'evaluate' in its config says"
        _refuse_options(arguments, ("days", "time", "lateral", "with", "members", "supermodel", "out"), why)
    if command == "plot":
        _refuse_options(arguments, ("out",), "goes with a scores file; pictures of an experiment lie in its folder")
    given = getattr(arguments, "forecast", [])
    if twice := [name for name, count in Counter(name for name, _ in given).items() if count > 1]:
        raise ConfigError(
            f"{command}: --forecast {twice[0]}: the name is there twice; give every file a name of its own"
        )
    _refuse_missing_forecasts([file for _, file in given])
    # as JSON, which is YAML, so that no character of a path means anything
    files = [f"evaluate.forecasts.{name}={json.dumps(file, ensure_ascii=False)}" for name, file in given]
    config = load_config(target, [*arguments.set, *files])
    if not any(override.startswith(("workdir=", "name=")) for override in arguments.set):
        refuse_another_folder(config, Path(target))
    if command == "train" and _train_otherwise(config, arguments):
        return
    with open_executor(getattr(arguments, "workers", 1), getattr(arguments, "scheduler", None)) as workers:
        folder = run_stages(config, None if command == "run" else [command], redo=arguments.redo, workers=workers)
    if getattr(arguments, "json", False):
        from emulator.experiment.comparing import summarise_scores

        _print_json(summarise_scores(folder))
        return
    if command in ("run", "evaluate"):
        say((folder / "table.txt").read_text(encoding="utf-8"))
    if command in ("run", "plot"):
        pictures = sorted((folder / "plots").glob("*.png"))
        say(f"Plots: {folder / 'plots'} ({len(pictures)} pictures: {', '.join(p.name for p in pictures)})")
        say(f"Report: {folder / 'report.html'}")


def _refuse_missing_forecasts(files: Sequence[str]) -> None:
    """Before it is asked what else is scored in the folder: a slip of the pen is no other experiment."""
    if files:  # what they are located by takes a second to import
        from emulator.evaluation.external_files import locate_all, refuse_missing

        for file in files:
            refuse_missing(locate_all(file))


def _init(arguments: argparse.Namespace) -> None:
    from emulator.planning.init import init

    say(init(arguments.files, Path(arguments.out), arguments.minutes))


def _plot_scores(arguments: argparse.Namespace) -> None:
    from emulator.experiment.comparing import plot_scores

    _refuse_options(arguments, ("set", "redo"), "is for CONFIG; a scores file is drawn as it is")
    plot_scores(Path(arguments.config), Path(arguments.out) if arguments.out else None)


def _report(arguments: argparse.Namespace) -> None:
    from emulator.experiment.comparing import write_report

    page = write_report(Path(arguments.scores), Path(arguments.out) if arguments.out else None)
    say(f"Report: {page}")


def _is_run_folder(name: str) -> bool:
    """Of a name without INPUT, which may be that of a config and of any folder."""
    from emulator.run_folder import DESCRIPTION

    return (Path(name) / DESCRIPTION).is_file()


def _forecast_file(arguments: argparse.Namespace) -> None:
    from emulator.run_folder import SHIPPED, run_folder

    folder = run_folder(arguments.run)
    if not folder.is_dir():
        raise ConfigError(
            f"forecast: {folder} is no run folder; INPUT goes with one such as runs/demo/run, or with {SHIPPED}"
        )
    if not arguments.input:
        raise ConfigError("forecast: a run folder needs an INPUT file: emulator forecast RUN INPUT.nc")
    _refuse_options(arguments, ("set", "redo"), "is for CONFIG; a run folder is forecast from as it is")
    out = Path(arguments.out or "forecast.nc")
    if not arguments.out and out.exists():
        raise DataError(f"{out} is there already; --out names another file, or this one to replace it")
    from data_prep.reading.locations import find_files
    from emulator.forecast import forecast_file

    forecast_file(
        folder,
        find_files(arguments.input),
        out,
        days=10.0 if arguments.days is None else arguments.days,
        time=arguments.time,
        lateral=arguments.lateral or (),
        others=getattr(arguments, "with") or (),
        how="members" if arguments.members else "supermodel" if arguments.supermodel else "mean",
    )


def _refuse_options(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Of a command with two forms: what would be ignored in this one."""
    values = {name: getattr(arguments, name) for name in names}
    given = [f"--{name}" for name, value in values.items() if value is not None and value is not False and value != []]
    if given:
        raise ConfigError(f"{arguments.command}: {given[0]} {why}")


def _train_otherwise(config: ExperimentConfig, arguments: argparse.Namespace) -> bool:
    """Does what a single process that really trains does not: a dry run, or working along with the first process."""
    from emulator.experiment.running import follow_stage
    from emulator.training.devices import join_processes

    first = join_processes() == 0
    if arguments.dry_run:
        from emulator.training.dry_run import dry_run

        cost = dry_run(
            config.train,
            config.model,
            config.path / "store.zarr",
            config.training_seed,
            config.path / "run",
            redo=arguments.redo,
        )
        if first and arguments.json:
            _print_json(cost.to_json())
        elif first:
            say(cost.text())
        return True
    if arguments.json:
        raise ConfigError("train: --json goes with --dry-run; run/metrics.jsonl holds what a training reaches")
    if not first:
        logging.getLogger("emulator").setLevel(logging.WARNING)
        follow_stage(config, "train", redo=arguments.redo)
    return not first


class _ToldError(DataError):
    """An error that the JSON document on standard output tells already."""


def _print_json(document: dict[str, Any]) -> None:
    """The one document that ``--json`` asks for; what is not finite is ``null``."""
    text = json.dumps(finite(document), allow_nan=False, indent=2, default=lambda x: x.item())
    say(text)


def _inspect(arguments: argparse.Namespace) -> None:
    from data_prep.inspection.report import inspect_files
    from data_prep.reading.locations import find_files
    from data_prep.reading.probe import probe

    files = find_files(arguments.files)
    probe(files)
    report = inspect_files(files)
    if arguments.json:
        _print_json(report.to_json())
    else:
        say(report.text)
    if report.refusal is not None:
        raise _ToldError(report.refusal) if arguments.json else DataError(report.refusal)


def _verify(arguments: argparse.Namespace) -> None:
    from data_prep import clock
    from data_prep.preparation.store import open_store
    from emulator.progress import track

    path = Path(arguments.store)
    store = open_store(path)
    with track(store.times.size, "verified") as progress:
        store.verify(progress.advance)
    first, last = clock.text(store.times.min()), clock.text(store.times.max())
    if arguments.json:
        facts = {"rows": int(store.times.size), "segments": len(store.segments), "data_hash": store.data_hash}
        _print_json({"store": str(path), "intact": True, "first_time": first, "last_time": last, **facts})
        return
    say(
        f"{path}: {store.times.size} rows from {first} to {last} in {len(store.segments)} segments match their hashes; "
        "so do statistics, climatology, forcing tables, static fields and times "
        f"(data hash {store.data_hash[:12]})"
    )


def _check_pretrained(arguments: argparse.Namespace) -> None:
    from emulator.pretrained import INITIAL, check
    from emulator.run_folder import SHIPPED, run_folder

    name = arguments.folder or SHIPPED
    network = run_folder(name)
    result = check(network)
    say(result.text)
    if not result.agrees:
        raise DataError("check-pretrained: the errors are not those of the card; is the folder as it was shipped?")
    run, initial = (shlex.quote(str(path)) for path in (name, network / INITIAL))
    say(f"Forecast with it: emulator forecast {run} {initial} --days 10 --out forecast.nc")


def _regrid(arguments: argparse.Namespace) -> None:
    from pydantic import ValidationError

    from data_prep.config import RegridConfig
    from data_prep.reading.locations import locate
    from data_prep.reading.regrid_file import regrid_file
    from emulator.config import first_error

    names = ("grid", "like", "method", "nan", "minimum_valid", "outside")
    out = Path(arguments.output)
    try:
        config = RegridConfig(**{name: getattr(arguments, name) for name in names})
    except ValidationError as error:
        raise ConfigError(f"regrid: {first_error(error, RegridConfig)}") from None
    grid = regrid_file(locate(arguments.input), out, config)
    say(f"{out}: {grid.describe()}")


if __name__ == "__main__":
    raise SystemExit(start())
