"""Makes the folder of a network that ships out of a finished experiment; `--help` explains it."""

import sys

from emulator.pretrained import main

if __name__ == "__main__":
    sys.exit(main())
