"""Trains networks for the same time and compares them; `--help` explains it."""

import sys

from emulator.model_comparison import main

if __name__ == "__main__":
    sys.exit(main())
