"""The command line. A command parses its arguments, calls one function of the library, and prints."""

from bothways.cli.entry import main

__all__ = ["main"]
