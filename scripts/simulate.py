"""The same as `emulator simulate`; `--help` explains it."""

import sys

from emulator.cli import start

if __name__ == "__main__":
    sys.exit(start("simulate"))
