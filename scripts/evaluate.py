"""The same as `emulator evaluate`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
