"""Measures what the parts of this program reach, against what the machine can do; `--help` explains it."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from data_prep.errors import UserError

FOLDER = Path(__file__).parent.parent / "emulator" / "benchmarks"
NAMES = [n for n in ("train", "forecast", "load", "prepare", "evaluate") if (FOLDER / f"{n}.py").exists()]


def main(argv: Sequence[str]) -> int:
    """Runs one benchmark and prints its table. Returns the exit code."""
    name = argv[0] if argv and argv[0] in NAMES else None
    module = importlib.import_module(f"emulator.benchmarks.{name}") if name else None
    parser = argparse.ArgumentParser(prog="benchmark.py", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="|".join(NAMES))
    for each in NAMES:
        command = commands.add_parser(each)
        if module is not None and each == name:
            command.description = str(module.__doc__)
            module.add_arguments(command)
    arguments = parser.parse_args(argv)
    assert module is not None  # the parser has seen to it
    try:
        print(module.run(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
