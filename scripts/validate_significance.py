"""Tests intervals and p-values on simulated forecasters; `--help` explains it."""

import sys

from emulator.studies.coverage import main

if __name__ == "__main__":
    sys.exit(main())
