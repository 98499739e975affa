"""The same as `emulator run`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
