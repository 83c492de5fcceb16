"""``python -m bothways`` is the command line."""

from bothways.cli import main

main()
