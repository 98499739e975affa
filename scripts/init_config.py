"""The same as `emulator init`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["init", *sys.argv[1:]]))
