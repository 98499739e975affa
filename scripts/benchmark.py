"""Measures what the parts of this program reach, against what the machine can do; `--help` explains it."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from emulator.benchmarks.history import record, show
from emulator.command import as_command
from emulator.hardware.large_pages import use_large_pages

HISTORY = Path(__file__).parent.parent / "benchmarks" / "history.jsonl"
NAMES = ("train", "start", "forecast", "load", "prepare", "evaluate", "program")


@as_command
def main(argv: Sequence[str]) -> None:
    """Runs one benchmark and prints its table."""
    name = argv[0] if argv and argv[0] in NAMES else None
    module = importlib.import_module(f"emulator.benchmarks.{name}") if name else None
    parser = argparse.ArgumentParser(prog="benchmark.py", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="|".join([*NAMES, "history"]))
    for each in NAMES:
        command = commands.add_parser(each)
        if module is not None and each == name:
            command.description = str(module.__doc__)
            module.add_arguments(command)
        text = "keep what was measured in benchmarks/history.jsonl, with a note on what else the machine did"
        command.add_argument("--record", metavar="NOTE", help=text)
    commands.add_parser("history", help="show what was recorded")
    arguments = parser.parse_args(argv)
    if arguments.name == "history":
        print(show(HISTORY))
        return
    assert module is not None  # the parser has seen to it
    tables = module.run(arguments)
    print("\n\n".join(map(str, tables)))
    if arguments.record:
        recording = argparse.ArgumentParser(add_help=False)
        recording.add_argument("--record")
        _, kept = recording.parse_known_args(argv)
        record(HISTORY, tables, kept, arguments.record)


if __name__ == "__main__":
    use_large_pages()
    sys.exit(main())
