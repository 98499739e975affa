"""The same as `emulator simulate`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["simulate", *sys.argv[1:]]))
