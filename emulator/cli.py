"""The ``emulator`` command. Parses words, calls the same functions that ``scripts/`` call, prints errors as one line.

Nothing heavy is imported before it is needed, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import ConfigError, DataError, UserError
from data_prep.grid_names import GRID_SYNTAX, parse_grid_name
from emulator import __version__
from emulator.compilation_cache import remember_compiled

if TYPE_CHECKING:
    from emulator.config import ExperimentConfig

_STAGES = {
    "simulate": "make the truth: a nature run of the SPEEDY model (needs the extra 'physics')",
    "prepare": "turn NetCDF or Zarr files into a prepared store",
    "train": "train the network on the prepared store; resumes where it was stopped",
    "evaluate": "score all forecasts against the truth: RMSE, ACC, bias, crossover lead time",
    "run": "every stage that is not done yet, from nothing to table and plots",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="emulator", description="Train, run and judge a neural weather emulator.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _STAGES.items():
        stage = commands.add_parser(name, help=text, description=_sentence(text) + ".")
        _add_config_arguments(stage)
        if name == "train":
            text = "say what training will cost in memory, arithmetic and time; train nothing"
            stage.add_argument("--dry-run", action="store_true", help=text)
        if name == "evaluate":
            _add_forecast_argument(stage)
        if name in ("prepare", "evaluate"):
            _add_worker_arguments(stage)
    text = "look at your files and write a complete experiment config for them and this machine"
    init = commands.add_parser("init", help=text, description=_sentence(text) + ".")
    init.add_argument("files", nargs="+", metavar="FILE", help="NetCDF, GRIB or Zarr; several make one data set")
    init.add_argument("--out", default="my_config.yaml", help="the config to be (default my_config.yaml)")
    init.add_argument(
        "--minutes", type=_minutes, default=5.0, help="that training may take on this machine (default 5)"
    )
    text = "say what files hold, what is wrong with them, and which data section of a config reads them"
    inspect = commands.add_parser("inspect", help=text, description=_sentence(text) + ".")
    inspect.add_argument("files", nargs="+", metavar="FILE", help="NetCDF, GRIB or Zarr; several make one data set")
    text = "forecast from any NetCDF file with a trained network, or all forecasts of an experiment"
    forecast = commands.add_parser(
        "forecast",
        help=text,
        description=_sentence(text)
        + ". Two forms: 'forecast RUN INPUT.nc --days 10 --out forecast.nc' and 'forecast CONFIG'.",
    )
    forecast.add_argument("run", metavar="RUN|CONFIG", help="a run folder (workdir/run), or a config")
    forecast.add_argument(
        "input", nargs="?", metavar="INPUT", help="NetCDF or Zarr with the model's variables on its grid"
    )
    forecast.add_argument("--days", type=float, default=10.0, help="length of the forecast (default 10)")
    forecast.add_argument("--time", help="initial time in INPUT, ISO 8601; the last one when left out")
    forecast.add_argument("--out", default="forecast.nc", help="output file (default forecast.nc)")
    _add_override_arguments(forecast)
    text = "plot skill against lead time and maps, of an experiment or of a scores file alone"
    plot = commands.add_parser("plot", help=text, description=_sentence(text) + ".")
    plot.add_argument("config", metavar="CONFIG|SCORES", help="a config, or a scores.nc")
    plot.add_argument("--out", help="folder of the pictures when SCORES is given; beside it when left out")
    _add_override_arguments(plot)
    text = "write one self-contained HTML page of a scores file: scorecard, curves, maps, cost, provenance"
    report = commands.add_parser("report", help=text, description=_sentence(text) + ".")
    report.add_argument("scores", metavar="SCORES", help="a scores.nc; maps come from the experiment it lies in")
    report.add_argument("--out", help="the HTML file; report.html beside SCORES when left out")
    _add_regrid(commands)
    text = "read a prepared store against its hashes; names the first time that is damaged"
    verify = commands.add_parser("verify", help=text, description=f"{_sentence(text)}. Exit code 1 if one is.")
    verify.add_argument("store", metavar="STORE", help="a store.zarr")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit code: 0 done, 1 a user's error, 2 a config's or usage error, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    _set_up_logging()
    remember_compiled()
    try:
        _dispatch(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one place that talks to the user about errors
        return _leave(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _leave(code: int) -> int:
    """The exit code; of several processes, one that failed ends here."""
    if "emulator.devices" not in sys.modules:
        return code
    from emulator.devices import exit_code

    return exit_code(code)


def _dispatch(arguments: argparse.Namespace) -> None:
    from emulator.config import load_config
    from emulator.stages import run_stages
    from emulator.workers import open_executor

    command = arguments.command
    if command == "init":
        from emulator.init import init

        print(init(arguments.files, Path(arguments.out), arguments.minutes))  # noqa: T201
        return
    if command == "inspect":
        _inspect(arguments.files)
        return
    if command == "forecast" and Path(arguments.run).is_dir():
        from emulator.forecast import forecast_file

        if arguments.input is None:
            raise ConfigError("forecast: a run folder needs an INPUT file: emulator forecast RUN INPUT.nc")
        forecast_file(
            Path(arguments.run),
            Path(arguments.input),
            Path(arguments.out),
            days=arguments.days,
            time=arguments.time,
        )
        return
    if command == "plot" and arguments.config.endswith(".nc"):
        from emulator.contest import plot_scores

        plot_scores(Path(arguments.config), Path(arguments.out) if arguments.out else None)
        return
    if command == "report":
        from emulator.contest import write_report

        page = write_report(Path(arguments.scores), Path(arguments.out) if arguments.out else None)
        print(f"Report: {page}")  # noqa: T201 - the result the user came for
        return
    if command == "regrid":
        _regrid(arguments)
        return
    if command == "verify":
        _verify(Path(arguments.store))
        return
    target = arguments.run if command == "forecast" else arguments.config
    if command == "forecast" and arguments.input is not None:
        raise ConfigError(f"forecast: {target} is no run folder; INPUT goes with a run folder such as runs/demo/run")
    # as JSON, which is YAML, so that no character of a path means anything
    files = [
        f"evaluate.forecasts.{name}={json.dumps(file, ensure_ascii=False)}"
        for name, file in getattr(arguments, "forecast", [])
    ]
    config = load_config(target, [*arguments.set, *files])
    if command == "train" and _train_otherwise(config, arguments):
        return
    with open_executor(getattr(arguments, "workers", 1), getattr(arguments, "scheduler", None)) as workers:
        folder = run_stages(config, None if command == "run" else [command], redo=arguments.redo, workers=workers)
    if command in ("run", "evaluate"):
        print((folder / "table.txt").read_text(encoding="utf-8"))  # noqa: T201 - the result the user came for
    if command in ("run", "plot"):
        pictures = sorted((folder / "plots").glob("*.png"))
        print(f"Plots: {folder / 'plots'} ({len(pictures)} pictures: {', '.join(p.name for p in pictures)})")  # noqa: T201
        print(f"Report: {folder / 'report.html'}")  # noqa: T201


def _train_otherwise(config: ExperimentConfig, arguments: argparse.Namespace) -> bool:
    """Does what a single process that really trains does not: a dry run, or working along with the first process."""
    from emulator.devices import join_processes
    from emulator.stages import follow_stage

    first = join_processes() == 0
    if arguments.dry_run:
        from emulator.dry_run import dry_run

        text = dry_run(config.train, config.model, config.path / "store.zarr", config.seed)
        if first:
            print(text)  # noqa: T201 - the result the user came for
        return True
    if not first:
        logging.getLogger("emulator").setLevel(logging.WARNING)
        follow_stage(config, "train", redo=arguments.redo)
    return not first


def _inspect(files: list[str]) -> None:
    from data_prep.inspect import inspect_files
    from data_prep.locations import locate

    report = inspect_files([locate(file) for file in files])
    print(report.text)  # noqa: T201 - the result the user came for
    if report.refusal is not None:
        raise DataError(report.refusal)


def _verify(path: Path) -> None:
    from data_prep.store import open_store
    from emulator.progress import track

    store = open_store(path)
    with track(store.times.size, "verified") as progress:
        store.verify(progress.advance)
    span = " to ".join(str(t)[:16] for t in (store.times.min(), store.times.max()))
    print(  # noqa: T201 - the result the user came for
        f"{path}: {store.times.size} rows from {span} in {len(store.segments)} segments match their hashes; so do "
        f"statistics, climatology, forcing tables, static fields and times (data hash {store.data_hash[:12]})"
    )


def _regrid(arguments: argparse.Namespace) -> None:
    from data_prep.config import RegridConfig
    from data_prep.regrid_file import regrid_file

    names = ("grid", "like", "method", "nan", "minimum_valid", "outside")
    out = Path(arguments.output)
    grid = regrid_file(Path(arguments.input), out, RegridConfig(**{name: getattr(arguments, name) for name in names}))
    print(f"{out}: {grid.describe()}")  # noqa: T201 - the result the user came for


def _add_regrid(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "bring a file to another latitude-longitude or Gaussian grid"
    regrid = commands.add_parser("regrid", help=text, description=_sentence(text) + ".")
    regrid.add_argument("input", metavar="IN", help="NetCDF, GRIB or Zarr")
    regrid.add_argument("output", metavar="OUT", help="the file to be: Zarr where it ends with .zarr, else NetCDF")
    target = regrid.add_mutually_exclusive_group(required=True)
    target.add_argument("--grid", type=_grid_name, help=GRID_SYNTAX)
    target.add_argument("--like", metavar="FILE", help="the grid of this file, which may be regional")
    regrid.add_argument(
        "--method",
        choices=("conservative", "bilinear"),
        default="conservative",
        help="keep area means (the default), or interpolate, for finer grids",
    )
    regrid.add_argument(
        "--nan",
        choices=("propagate", "ignore"),
        default="propagate",
        help="NaN makes NaN of all that depends on it (the default), or is ignored where enough is valid",
    )
    regrid.add_argument(
        "--minimum-valid",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="how much of a cell must be valid for '--nan ignore' (default 0.5)",
    )
    regrid.add_argument(
        "--outside",
        choices=("refuse", "nan"),
        default="refuse",
        help="what is done about a target that reaches beyond IN: refuse it (the default), or NaN there",
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes above 0")
    return minutes


def _grid_name(text: str) -> str:
    try:
        parse_grid_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share above 0, up to 1")
    return share


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped one (demo)")
    _add_override_arguments(parser)


def _add_forecast_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--forecast",
        action="append",
        default=[],
        type=_name_and_file,
        metavar="NAME=FILE",
        help="score this forecast file of another model too (NetCDF or Zarr, e.g. as WeatherBench-2 or ECMWF store "
        "them, on the truth's grid); may be repeated",
    )


def _add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="share the work among N processes")
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="share the work among the workers of this dask scheduler, e.g. tcp://host:8786, which see the same files",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 up")
    return int(text)


def _name_and_file(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not file:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FILE, the name in letters, digits, '_' and '-'")
    return name, file


def _add_override_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=v",
        help="override one config value; may be repeated",
    )
    parser.add_argument("--redo", action="store_true", help="discard an earlier result of this stage and make it again")


def _set_up_logging() -> None:
    """One line an event: rich and brief on a terminal, plain with a time stamp in a file."""
    # XLA and orbax speak through their own loggers; a user wants to see ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(show_path=False, show_level=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in ("emulator", "data_prep"):
        log = logging.getLogger(name)
        log.handlers = [handler]
        log.setLevel(logging.INFO)
        log.propagate = False


if __name__ == "__main__":
    raise SystemExit(main())
