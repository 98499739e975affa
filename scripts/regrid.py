"""The same as `emulator regrid`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["regrid", *sys.argv[1:]]))
