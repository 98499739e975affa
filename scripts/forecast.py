"""The same as `emulator forecast`; `--help` explains it."""

import sys

from emulator.cli import start

if __name__ == "__main__":
    sys.exit(start("forecast"))
