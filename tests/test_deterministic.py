"""Vectors to the bit, whatever else is asked; engines that share the cores of a process; pinned threads."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from bothways.run.engines.cores import Cores
from bothways.run.engines.packed import engine
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.protocol import Manner
from bothways.run.model import Model

TEXTS = tiny.sentences(64, seed=11, longest=60)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("engine", ["packed", "reference"])
@pytest.mark.filterwarnings("ignore:bf16 is slower")
def test_a_text_s_vector_is_the_same_to_the_bit_in_any_company(threads, engine, precision):
    saved = tiny.saved(("classify",))
    wanted = None
    for count in (1, 2):
        threads(count)
        model = Model(saved, engine=engine, precision=precision, manner=Manner(deterministic=True))
        for size in (1, 7, 64):
            order = np.random.default_rng(size).permutation(len(TEXTS))
            found = np.empty((64, model.config.width), np.float32)
            for first in range(0, 64, size):
                places = order[first : first + size]
                found[places] = model.embed([TEXTS[place] for place in places])
            wanted = found if wanted is None else wanted
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-5), ("bf16", 2e-2)])
@pytest.mark.filterwarnings("ignore:bf16 is slower")
def test_without_it_company_moves_vectors_by_no_more_than_is_stated(threads, precision, near):
    model = Model(tiny.saved(()), engine="packed", precision=precision)
    alone = np.stack([model.embed(text, normalize=True) for text in TEXTS])
    assert np.abs(model.embed(TEXTS, normalize=True) - alone).max() < near
    threads(2)
    assert np.abs(model.embed(TEXTS[::-1], normalize=True)[::-1] - alone).max() < near


def test_two_models_at_once_are_right_and_use_no_more_threads_than_one(threads, monkeypatch):
    threads(2)
    models = [Model(tiny.saved((), seed=seed), engine="packed") for seed in (0, 1)]
    wanted = [Model(model._saved, engine="reference").embed(TEXTS) for model in models]
    running, most, lock = [0], [0], threading.Lock()
    answer = PackedEngine._answer

    def counted(self, batch, output):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return answer(self, batch, output)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(PackedEngine, "_answer", counted)
    monkeypatch.setattr(engine, "_BATCH_BYTES", 64 * torch.float32.itemsize)
    found = [None, None]

    def work(place):
        found[place] = models[place].embed(TEXTS)

    at_once = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
    for one in at_once:
        one.start()
    for one in at_once:
        one.join()
    assert most[0] == 2
    for got, exact in zip(found, wanted, strict=True):
        assert np.abs(got - exact).max() < 1e-4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
def test_a_pinned_thread_has_a_core_of_its_own_while_it_computes(threads):
    cores, before = Cores(), os.sched_getaffinity(0)
    with cores.pinned(True):
        assert len(os.sched_getaffinity(0)) == 1
        with cores.pinned(False):
            assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    threads(2)
    pinned = Model(tiny.saved(()), engine="packed", manner=Manner(pinned=True))
    assert pinned.engine.describe()["pinned"]
    assert np.abs(pinned.embed(TEXTS * 40)[:64] - Model(pinned._saved).embed(TEXTS)).max() < 1e-4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning here")
def test_a_pinned_thread_keeps_to_the_cores_that_it_may_have_by_then():
    cores, before = Cores(), os.sched_getaffinity(0)
    for number in before:
        try:
            os.sched_setaffinity(0, {number})
            with cores.pinned(True):
                assert os.sched_getaffinity(0) == {number}
        finally:
            os.sched_setaffinity(0, before)


def test_what_is_said_of_threads_after_an_engine_was_made_holds(threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads(2)
    model = Model(tiny.saved(()), engine="packed")
    model.embed(TEXTS[0])
    for count in (1, 2):
        threads(count)
        model.embed(TEXTS * 40)
        assert torch.get_num_threads() == count


def test_a_thread_that_began_among_workers_has_afterwards_what_was_said(threads):
    model = Model(tiny.saved(()), engine="packed")
    threads(2)
    model.embed(TEXTS[0])
    began, go_on, counts = threading.Event(), threading.Event(), []

    def work():
        counts.append(torch.get_num_threads())
        began.set()
        assert go_on.wait(60)
        model.embed(TEXTS * 40)
        counts.append(torch.get_num_threads())

    threads(1)  # as a worker says of itself
    thread = threading.Thread(target=work)
    thread.start()
    assert began.wait(60)
    threads(2)
    go_on.set()
    thread.join()
    assert counts == [1, 2]


def said(code):
    """What a process prints, which is ended if it takes too long."""
    typed = [sys.executable, "-c", code]
    done = subprocess.run(typed, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKED = """
import os, signal, threading
import tiny
from bothways.run.engines.cores import CORES
from bothways.run.engines.protocol import Manner
from bothways.run.model import Model

model = Model(tiny.saved(()), engine="packed", manner=Manner(deterministic=True))
wanted, held = model.embed(["the river", "a stone"]), threading.Event()

def compute():
    turns = model._turns
    with turns.compute, turns.count, model._kept._lock, CORES.held(1, 1), CORES.starting:
        held.set()
        threading.Event().wait()

threading.Thread(target=compute, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if (model.embed(["the river", "a stone"]) == wanted).all() else 1)
print("child ended with", os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no children of this kind here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have():
    assert said(FORKED) == "child ended with 0\n"


UNBEGUN = """
import faulthandler, threading
import torch
import tiny
from bothways.run.model import Model

faulthandler.dump_traceback_later(30, exit=True)
torch.set_num_threads(2)
model, start, begun = Model(tiny.saved(()), engine="packed"), threading.Thread.start, []
model.embed("the river")

def fails(thread):
    begun.append(thread.name)
    if len(begun) == 2:
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = fails
try:
    model.embed(["the river is long and the garden is green"] * 2000)
except RuntimeError as error:
    print(error, torch.get_num_threads())
print(model.embed(["the river is long and the garden is green"] * 2000).shape[0], torch.get_num_threads())
"""


def test_where_a_thread_cannot_begin_it_is_told_and_the_next_call_goes_on():
    assert said(UNBEGUN) == "can't start new thread 2\n2000 2\n"
