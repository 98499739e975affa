"""Trains networks for the same time and compares them; `--help` explains it."""

import sys

from emulator.hardware.large_pages import use_large_pages

if __name__ == "__main__":
    use_large_pages()
    from emulator.studies.model_comparison import main

    sys.exit(main())
