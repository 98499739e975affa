"""The same as `emulator prepare`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
