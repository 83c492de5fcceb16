"""``--threads``: how many processor threads the libraries below may use."""

from __future__ import annotations

import os
import sys

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def limit(threads: int | None) -> int | None:
    """Says so in the environment, which they read as they are imported; torch, if it is there already, is told."""
    if threads is not None:
        for name in VARIABLES:
            os.environ[name] = str(threads)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(threads)
    return threads
