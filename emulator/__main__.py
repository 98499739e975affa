"""``python -m emulator`` is the ``emulator`` command."""

from emulator.cli import start

raise SystemExit(start())
