"""Trains networks for the same time and compares them; `--help` explains it."""

import sys

from emulator.ablation import main

if __name__ == "__main__":
    sys.exit(main())
