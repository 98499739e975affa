"""The same as `emulator report`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
