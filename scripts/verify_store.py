"""The same as `emulator verify`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
