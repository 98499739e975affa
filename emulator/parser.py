"""The words of the ``emulator`` command: what can be asked for, and what help says of it. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, NoReturn, TypeAlias

from data_prep.grid_names import GRID_SYNTAX, parse_grid_name
from emulator import __version__
from emulator.command import say

EXIT_CODES = """exit codes:
  0    done; of inspect and verify: nothing is wrong
  1    files, data or the machine stand in the way: one line on standard error says what and what to do
       (or a traceback, which is a defect of this program: please report it)
  2    the command line or the config is wrong: one line says where
  130  interrupted (Ctrl-C, SIGTERM); the same command, without --redo, goes on from there where it works on a config

Results go to standard output, the log to standard error. --json makes the result one JSON document.
NO_COLOR turns colours off; where standard error is no terminal there are none, and no progress bars."""

_FILES_HELP = "NetCDF, GRIB or Zarr, or folders of them; several make one data set"
_REDO = "make this stage's result again, and discard what was made from the earlier one"
_REDO_ALL = "discard all earlier results, a simulated truth too, and begin anew"
_STAGES = {
    "simulate": "make the truth: a nature run of the SPEEDY model (needs the extra 'physics')",
    "prepare": "turn NetCDF, GRIB or Zarr files into a prepared store",
    "train": "train the network on the prepared store; resumes where it was stopped",
    "evaluate": "score all forecasts against the truth: RMSE, ACC, bias, crossover lead time",
    "run": "every stage that is not done yet, from nothing to table and plots",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="emulator",
        description="Train, run and judge a neural weather emulator.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    text = "write completion for a shell to standard output, to be put where the shell looks for it"
    parser.add_argument("--print-completion", action=_PrintCompletion, choices=("bash", "zsh", "tcsh"), help=text)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_init(commands)
    _add_inspect(commands)
    for name in ("run", "simulate", "prepare", "train"):
        _add_stage(commands, name)
    _add_forecast(commands)
    _add_stage(commands, "evaluate")
    _add_plot(commands)
    _add_report(commands)
    _add_regrid(commands)
    _add_verify(commands)
    _add_check_pretrained(commands)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_init(commands: _Commands) -> None:
    text = "look at your files and write a complete experiment config for them and this machine"
    init = commands.add_parser("init", help=text, description=_sentence(text) + ".")
    init.add_argument("files", nargs="+", metavar="FILE", help=_FILES_HELP)
    init.add_argument("--out", default="my_config.yaml", help="the config to write (default my_config.yaml)")
    init.add_argument(
        "--minutes", type=some_minutes, default=5.0, help="that training may take on this machine (default 5)"
    )


def _add_inspect(commands: _Commands) -> None:
    text = "say what files hold, what is wrong with them, and which data section of a config reads them"
    inspect = commands.add_parser("inspect", help=text, description=_sentence(text) + ".")
    inspect.add_argument("files", nargs="+", metavar="FILE", help=_FILES_HELP)
    _add_json(inspect, "what was found")


def _add_stage(commands: _Commands, name: str) -> None:
    text = _STAGES[name]
    stage = commands.add_parser(name, help=text, description=_sentence(text) + ".")
    _add_config_arguments(stage, _REDO_ALL if name == "run" else _REDO)
    if name == "train":
        text = "say what training will cost in memory, arithmetic and time; train nothing"
        stage.add_argument("--dry-run", action="store_true", help=text)
        _add_json(stage, "the result of --dry-run")
    if name in ("evaluate", "run"):
        _add_forecast_argument(stage)
        _add_json(stage, "the scores in short")
    if name in ("prepare", "evaluate", "run"):
        _add_worker_arguments(stage)


def _add_forecast(commands: _Commands) -> None:
    text = "forecast from any NetCDF, GRIB or Zarr with a trained network, or all forecasts of an experiment"
    forecast = commands.add_parser(
        "forecast",
        help=text,
        description=_sentence(text)
        + ". Two forms: 'forecast RUN INPUT.nc --days 10 --out forecast.nc' and 'forecast CONFIG'. A NAME that is both "
        "a network's and a config's, such as speedy_t31, means the network with INPUT and the config without.",
    )
    forecast.add_argument(
        "run", metavar="RUN|CONFIG", help="a run folder (or its experiment's) or speedy_t31, with INPUT; or a config"
    )
    forecast.add_argument(
        "input",
        nargs="*",
        metavar="INPUT",
        help="NetCDF, GRIB, Zarr, a URL or a folder of files, one or several, with the model's variables on its grid",
    )
    of_a_file = forecast.add_argument_group("with RUN and INPUT")
    of_a_file.add_argument("--days", type=float, help="length of the forecast (default 10)")
    of_a_file.add_argument("--time", help="initial time in INPUT, ISO 8601; the last that all have when left out")
    of_a_file.add_argument(
        "--lateral",
        nargs="+",
        metavar="FILE",
        help="lateral boundary values at valid times, where the network needs them",
    )
    of_a_file.add_argument(
        "--with",
        nargs="+",
        metavar="RUN",
        help="more networks for the same variables, grid and time step: the mean of all forecasts is written",
    )
    together = of_a_file.add_mutually_exclusive_group()
    text = "write the forecast of every network, along the dimension realization, in place of the mean"
    together.add_argument("--members", action="store_true", help=text)
    text = "write one forecast whose every step is the mean of all networks' steps, sharper at late leads than the mean"
    together.add_argument("--supermodel", action="store_true", help=text)
    of_a_file.add_argument("--out", help="output file, which is replaced (default forecast.nc, which is not)")
    _add_override_arguments(forecast.add_argument_group("with CONFIG"))


def _add_plot(commands: _Commands) -> None:
    text = "draw an experiment's pictures and write its report, or draw the curves of a scores file alone"
    plot = commands.add_parser("plot", help=text, description=_sentence(text) + ".")
    plot.add_argument("config", metavar="CONFIG|SCORES", help="a config, or a scores.nc")
    plot.add_argument("--out", help="folder of the pictures when SCORES is given; plots/ beside it when left out")
    _add_override_arguments(plot)


def _add_report(commands: _Commands) -> None:
    text = "write one self-contained HTML page of a scores file: scorecard, curves, maps, cost, provenance"
    report = commands.add_parser("report", help=text, description=_sentence(text) + ".")
    report.add_argument("scores", metavar="SCORES", help="a scores.nc; maps come from the experiment it lies in")
    report.add_argument("--out", help="the HTML file; report.html beside SCORES when left out")


def _add_verify(commands: _Commands) -> None:
    text = "read a prepared store against its hashes; names the first time that is damaged"
    verify = commands.add_parser("verify", help=text, description=f"{_sentence(text)}. Exit code 1 if one is.")
    verify.add_argument("store", metavar="STORE", help="a store.zarr")
    _add_json(verify, "what was read")


def _add_check_pretrained(commands: _Commands) -> None:
    text = "forecast with the network that ships and compare its errors with those of its card"
    description = f"{_sentence(text)}. Exit code 1 if they differ."
    shipped = commands.add_parser("check-pretrained", help=text, description=description)
    shipped.add_argument("folder", nargs="?", metavar="FOLDER", help="of the network; the packaged one when left out")


class _PrintCompletion(argparse.Action):
    """Prints a completion script, in which arguments that are files complete to files."""

    def __call__(self, parser: argparse.ArgumentParser, *values: Any) -> NoReturn:
        import shtab

        for command in (a for a in parser._actions if isinstance(a, argparse._SubParsersAction)):
            for action in (a for sub in command.choices.values() for a in sub._actions):
                where = str(action.metavar or action.dest).upper()
                if where in _FILES or where in _FOLDERS:
                    action.complete = shtab.FILE if where in _FILES else shtab.DIRECTORY  # shtab looks for it there
        say(shtab.complete(parser, values[1]))
        parser.exit()


_FILES = {"FILE", "CONFIG", "RUN|CONFIG", "INPUT", "CONFIG|SCORES", "SCORES", "IN", "OUT", "STORE"}
_FOLDERS = {"FOLDER", "RUN"}


def _add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"write {what} as one JSON document, for machines")


def _add_regrid(commands: _Commands) -> None:
    text = "bring a file to another latitude-longitude or Gaussian grid"
    regrid = commands.add_parser("regrid", help=text, description=_sentence(text) + ".")
    regrid.add_argument("input", metavar="IN", help="NetCDF, GRIB, Zarr or a URL")
    regrid.add_argument("output", metavar="OUT", help="the file to write: Zarr where it ends with .zarr, else NetCDF")
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


def some_minutes(text: str) -> float:
    """A number of minutes above 0, of a word.

    Raises:
      ArgumentTypeError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes above 0")
    return number


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


def _add_config_arguments(parser: argparse.ArgumentParser, redo: str) -> None:
    text = "a YAML file, or the name of one that comes with the program, such as demo"
    parser.add_argument("config", metavar="CONFIG", help=text)
    _add_override_arguments(parser, redo)


def _add_forecast_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--forecast",
        action="append",
        default=[],
        type=_name_and_file,
        metavar="NAME=FILE",
        help="score this forecast file of another model too (NetCDF, GRIB or Zarr, also at a URL, e.g. as "
        "WeatherBench-2 or ECMWF store them, on the truth's grid), or a folder or quoted pattern of files, one for "
        "each start; one whose NAME begins with physics_ is an opponent as SPEEDY is; may be repeated",
    )


def _add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="share preparing and scoring among N processes"
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="share it among the workers of this dask scheduler, e.g. tcp://host:8786, which see the same files",
    )


def positive(text: str) -> int:
    """A whole number from 1 up, of a word.

    Raises:
      ArgumentTypeError: it is none.
    """
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 up")
    return int(text)


def _name_and_file(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not file:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=FILE, the name in letters, digits, '_' and '-'")
    return name, file


def _add_override_arguments(parser: argparse._ActionsContainer, redo: str = _REDO) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=v",
        help="override one config value; may be repeated",
    )
    parser.add_argument("--redo", action="store_true", help=redo)
