"""What more parameters, data and compute buy; `--help` explains it."""

import sys

from emulator.scaling import main

if __name__ == "__main__":
    sys.exit(main())
