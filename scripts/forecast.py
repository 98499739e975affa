"""The same as `emulator forecast`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["forecast", *sys.argv[1:]]))
