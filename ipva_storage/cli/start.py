"""The entry point: what is interrupted while it is still imported ends as anything else does."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the program, and run it."""
    try:
        from ipva_storage.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("ipva: interrupted; nothing was begun\n")
        sys.exit(2)
    run()
