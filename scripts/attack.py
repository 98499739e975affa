"""Attack the program and say what it withstood; see docs/reliability.md."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]
from attacks.command import main  # noqa: E402 - it lies among the tests, with which it shares all of this

if __name__ == "__main__":
    sys.exit(main())
