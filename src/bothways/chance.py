"""Randomness as a pure function of what it is for.

Masks, pairs and orders must come out the same however many processes read the data and however often a run is
interrupted. So nothing here keeps a state: a generator is made from the numbers that name its use.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(purpose: str, *keys: int) -> np.random.Generator:
    """A random generator that depends only on its arguments.

    Args:
        purpose: What it is for ("mask", "order", ...), so that two uses of one example differ.
        keys: Non-negative integers, such as seed, epoch and example id.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([zlib.crc32(purpose.encode()), *keys])))


def derived_seed(purpose: str, *keys: int) -> int:
    """A seed below 2**63 that depends only on its arguments, for generators of other libraries."""
    return int(generator(purpose, *keys).integers(2**63))
