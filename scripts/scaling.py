"""What more parameters, data and compute buy; `--help` explains it."""

import sys

from emulator.hardware.large_pages import use_large_pages

if __name__ == "__main__":
    use_large_pages()
    from emulator.studies.scaling import main

    sys.exit(main())
