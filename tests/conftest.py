"""What holds for every test."""

import os
from importlib.util import find_spec

import pytest

from bothways.progress import silent

# runs in this process are compared to the bit with runs in children, which have one thread
os.environ.setdefault("OMP_NUM_THREADS", "1")

ENDING_WITH_A_PAGE = ("bothways.learn.pretrain", "bothways.learn.finetune")
LONGEST = ("processes", "export", "diagnose", "family_training", "docs", "exported", "processes_finetune", "teaching")
LONGEST += ("cli", "bulk", "several", "notebook", "again", "replaced_tokens_runs", "bench_embed", "light", "cluster")


def pytest_collection_modifyitems(items):
    """Files that take longest come first: a process that begins one at the end would let the others wait for it."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True, scope="session")
def _plain_torch_answers_and_pages_stay_empty():
    """What is opened runs in plain torch, as most tests compare answers to the bit, before saving and after.

    And the page at the end of a run is not drawn: it takes as long as training does here, and few tests look at it.
    """
    if find_spec("torch") is None:
        yield
        return
    from bothways.run.engines import choice

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(choice.FASTEST, "cpu", "reference")
        for module in ENDING_WITH_A_PAGE:
            patch.setattr(f"{module}.leave_report", lambda run: (run / "report.html").touch())
        yield


@pytest.fixture(scope="module")
def drawn():
    """The pages of runs are drawn, as they are for everybody."""
    from bothways.learn.report import leave_report

    with pytest.MonkeyPatch.context() as patch:
        for module in ENDING_WITH_A_PAGE:
            patch.setattr(f"{module}.leave_report", leave_report)
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
