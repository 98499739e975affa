"""Trains networks for the same time and compares them; `--help` explains it."""

import sys

from emulator.large_pages import use_large_pages

if __name__ == "__main__":
    use_large_pages()
    from emulator.model_comparison import main

    sys.exit(main())
