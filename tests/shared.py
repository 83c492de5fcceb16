"""Where the shared data lies, for the tests that use it, and small vocabularies for those that do not."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("BOTHWAYS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not beside this checkout")
