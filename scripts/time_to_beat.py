"""Minutes from nothing to a network that beats physics; `--help` explains it."""

import sys

from emulator.hardware.large_pages import use_large_pages

if __name__ == "__main__":
    use_large_pages()
    from emulator.studies.time_to_beat import main

    sys.exit(main())
