"""The same as `emulator evaluate`; `--help` explains it."""

import sys

from emulator.cli import start

if __name__ == "__main__":
    sys.exit(start("evaluate"))
