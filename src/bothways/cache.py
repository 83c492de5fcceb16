"""The user's cache folder: what may be thrown away at any time, and is made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``~/.cache/bothways``, or under ``XDG_CACHE_HOME``; made if it is not there.

    Raises:
        OSError: It cannot be made, or others may write to it, who then could have this user run what they like.
        RuntimeError: There is no home.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bothways"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and ((found := folder.stat()).st_uid != os.getuid() or found.st_mode & 0o022):
        raise PermissionError(f"others may write to {folder}")
    return folder
