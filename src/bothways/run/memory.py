"""Memory that tensors free is kept for the next ones, or given back.

The C library of Linux gives large blocks back to the system as they are freed, and the system clears every page of
such a block when it is asked for again. A training step allocates the same gigabyte over and over: on a processor that
costs about a fifth of its time. While `kept_memory` holds, freed blocks stay with the process.

Where batches are of ever other sizes, as in bulk and in fine-tuning, the blocks that they free leave holes that later
ones do not fit in, and the process grows by some hundred megabytes, or a gigabyte in training. So `give_back` is called
from time to time. Threads would leave such holes in a heap each: where many windows are answered, `one_heap` has them
share one.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
"""What glibc's ``mallopt`` calls its settings (malloc.h)."""
_KEPT = 2**31 - 1
_USUAL = {_MMAP_MAX: 65_536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
"""Where glibc's own settings arrive in a process that frees large blocks."""
_holders = 0


@contextmanager
def kept_memory(wanted: bool = True) -> Iterator[None]:
    """Keeps freed memory while the block runs, where there is such a setting; then gives it back.

    Args:
        wanted: Whether to; not where the tensors lie on another device.
    """
    global _holders
    library = _glibc() if wanted else None
    if library is None:
        yield
        return
    _holders += 1
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            for name, value in _USUAL.items():
                library.mallopt(name, value)
            library.malloc_trim(0)


def one_heap() -> None:
    """Lets threads that begin from now on allocate from the heap that all others use."""
    library = _glibc()
    if library is not None:
        library.mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Gives back to the system what is free now, wherever it lies; takes some hundredths of a second."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
