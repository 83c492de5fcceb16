"""``python -m bothways`` is the command line."""

import sys

from bothways.cli import main

sys.exit(main())
