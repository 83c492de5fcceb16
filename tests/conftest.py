"""What holds for every test."""

import os
from importlib.util import find_spec

import pytest

from bothways.progress import silent

# runs in this process are compared to the bit with runs in children, which have one thread
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _plain_torch_answers():
    """Most tests compare answers to the bit, before saving and after: what is opened runs in plain torch."""
    if find_spec("torch") is None:
        yield
        return
    from bothways.run.engines import choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(choice.FASTEST, "cpu", "reference")
        yield


@pytest.fixture
def fastest(monkeypatch):
    """What is opened runs as fast as it can, as it does for everybody."""
    from bothways.run.engines import choice

    monkeypatch.setitem(choice.FASTEST, "cpu", "packed")


@pytest.fixture(autouse=True)
def _nothing_was_compared_before(monkeypatch):
    """What one test found of bf16 is not known to the next, and no clock decides whether it is taken."""

    def nowhere():
        raise OSError("tests keep nothing here")

    if find_spec("torch") is not None:
        monkeypatch.setattr("bothways.run.compared.cache_folder", nowhere)
        monkeypatch.setattr("bothways.run.lower.gain", lambda model, engine: 2.0)


@pytest.fixture(autouse=True)
def _progress_is_heard():
    """A command given `--quiet` silences its process, which here goes on to the next test."""
    silent(False)
    yield
    silent(False)
