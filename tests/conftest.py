"""What holds for every test."""

import pytest

from bothways.progress import silent


@pytest.fixture(autouse=True)
def _progress_is_heard():
    """A command given `--quiet` silences its process, which here goes on to the next test."""
    silent(False)
    yield
    silent(False)
