"""The command line. A command parses its arguments, calls one function of the library, and prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, as `bothways.cli.entry.main` says; Ctrl-C may also come while that is being imported."""
    try:
        from bothways.cli.entry import main as run

        return run(arguments)
    except KeyboardInterrupt:
        print("bothways: stopped", file=sys.stderr)
        return 130
