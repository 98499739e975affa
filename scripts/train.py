"""The same as `emulator train`; `--help` explains it."""

import sys

from emulator.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
