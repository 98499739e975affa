"""The same as `emulator init`; `--help` explains it."""

import sys

from emulator.cli import start

if __name__ == "__main__":
    sys.exit(start("init"))
