"""Minutes from nothing to a network that beats physics; `--help` explains it."""

import sys

from emulator.time_to_beat import main

if __name__ == "__main__":
    sys.exit(main())
