"""The same as `emulator plot`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["plot", *sys.argv[1:]]))
