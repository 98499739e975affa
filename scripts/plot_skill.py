"""The same as `emulator plot`; `--help` explains it."""

import sys

from emulator.cli import start

if __name__ == "__main__":
    sys.exit(start("plot"))
