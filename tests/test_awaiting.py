"""Questions that are waited for: of many callers at once, answered together, each as if it were alone."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.run import waiting
from bothways.run.model import Model

TEXTS = tiny.sentences(40, seed=8)


@pytest.fixture
def model():
    return tiny.model(("classify", "tag"))


def asked_of(model, monkeypatch, name="embed"):
    """What the model is asked, call by call."""
    calls, asked = [], getattr(model, name)

    def watched(texts, *more, **options):
        calls.append(list(texts))
        return asked(texts, *more, **options)

    monkeypatch.setattr(model, name, watched)
    return calls


def together(*waited):
    async def run():
        return await asyncio.gather(*waited, return_exceptions=True)

    return asyncio.run(run())


def test_many_callers_get_what_each_would_get_alone_from_few_batches(model, monkeypatch):
    right = model.embed(TEXTS)
    monkeypatch.setattr(waiting, "WAIT", 0.2)
    calls = asked_of(model, monkeypatch)
    found = together(*(model.aembed(text) for text in TEXTS))
    np.testing.assert_allclose(np.stack(found), right, atol=1e-5)
    assert sum(map(len, calls)) == len(TEXTS)
    assert len(calls) <= 2


def test_a_batch_is_no_larger_than_the_engine_wants(model, monkeypatch):
    calls = asked_of(model, monkeypatch)
    monkeypatch.setattr(waiting, "WAIT", 0.05)
    tokens = model.engine.batch_tokens
    text = "river " * (tokens // 4)
    found = together(*(model.aembed(text) for _ in range(6)))
    assert all(isinstance(one, np.ndarray) for one in found)
    assert all(sum(map(waiting._tokens, call)) <= tokens for call in calls)
    assert len(calls) >= 2


def test_a_caller_alone_waits_for_nobody(model, monkeypatch):
    together(model.aembed(TEXTS[0]))
    monkeypatch.setattr(waiting, "WAIT", 3600.0)
    found = together(asyncio.wait_for(model.aembed(TEXTS[1]), 60))
    np.testing.assert_allclose(found[0], model.embed(TEXTS[1]), atol=1e-5)


def test_several_texts_one_text_and_none_come_back_as_they_were_asked(model):
    several, one, none = together(model.aembed(TEXTS[:3]), model.aembed(TEXTS[3]), model.aembed([]))
    np.testing.assert_allclose(several, model.embed(TEXTS[:3]), atol=1e-5)
    np.testing.assert_allclose(one, model.embed(TEXTS[3]), atol=1e-5)
    assert none.shape == (0, several.shape[1])


def test_different_questions_wait_in_one_queue(model):
    found = together(
        model.aclassify(TEXTS[0]),
        model.aembed(TEXTS[1], "cls"),
        model.aembed(TEXTS[1]),
        model.aclassify(TEXTS[2:4], TEXTS[4:6]),
        model.atag(TEXTS[6]),
    )
    assert found[0].label == model.classify(TEXTS[0]).label
    np.testing.assert_allclose(found[1], model.embed(TEXTS[1], "cls"), atol=1e-5)
    np.testing.assert_allclose(found[2], model.embed(TEXTS[1]), atol=1e-5)
    assert [one.label for one in found[3]] == [one.label for one in model.classify(TEXTS[2:4], TEXTS[4:6])]
    assert found[4].tags == model.tag(TEXTS[6]).tags


def test_what_goes_wrong_is_told_to_whom_it_concerns(model, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT", 0.1)
    found = together(model.aembed(TEXTS[0]), model.aembed(["fine", None]), model.aembed(TEXTS[1]), model.ascore("x"))
    np.testing.assert_allclose(found[0], model.embed(TEXTS[0]), atol=1e-5)
    np.testing.assert_allclose(found[2], model.embed(TEXTS[1]), atol=1e-5)
    assert isinstance(found[1], BothwaysError)
    assert str(found[1]).startswith("texts[1] is not a string")
    assert isinstance(found[3], BothwaysError)


def test_pairs_that_are_too_few_or_too_many_shift_nobody_s(model, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT", 0.1)
    few, right, many = together(
        model.aclassify(TEXTS[:2], TEXTS[2:3]),
        model.aclassify(TEXTS[3:4], TEXTS[4:5]),
        model.aclassify(TEXTS[5:6], TEXTS[6:8]),
    )
    assert isinstance(few, BothwaysError)
    assert isinstance(many, BothwaysError)
    (alone,) = model.classify(TEXTS[3:4], TEXTS[4:5])
    np.testing.assert_allclose(*(list(one.probabilities.values()) for one in (right[0], alone)), atol=1e-5)


def test_a_caller_that_is_cancelled_leaves_and_the_others_stay(model, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT", 0.1)
    calls = asked_of(model, monkeypatch)

    async def run():
        tasks = [asyncio.create_task(model.aembed(text)) for text in TEXTS[:3]]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    assert isinstance(found[1], asyncio.CancelledError)
    assert [text for call in calls for text in call] == [TEXTS[0], TEXTS[2]]
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(model.aembed(TEXTS[0]), 0))
    np.testing.assert_allclose(together(model.aembed(TEXTS[0]))[0], model.embed(TEXTS[0]), atol=1e-5)


def test_where_too_much_is_asked_callers_wait_before_the_queue_in_their_order(model, monkeypatch):
    monkeypatch.setattr(waiting, "BATCHES", 1)
    budget = model.engine.batch_tokens
    long = "river " * (budget // 2)
    most = []
    let_in = waiting.RequestQueue._let_in

    def watched(queue):
        let_in(queue)
        most.append(sum(request.tokens for request in queue._inside))

    monkeypatch.setattr(waiting.RequestQueue, "_let_in", watched)
    calls = asked_of(model, monkeypatch)
    texts = [f"{number} {long}" for number in range(8)]
    found = together(*(model.aembed(text) for text in texts))
    assert all(isinstance(one, np.ndarray) for one in found)
    assert max(most) <= budget
    assert [text for call in calls for text in call] == texts


def test_callers_in_many_threads_each_with_its_loop_are_answered(model):
    right, found = model.embed(TEXTS), {}

    def caller(place):
        found[place] = together(*(model.aembed(text) for text in TEXTS[place::4]))

    threads = [threading.Thread(target=caller, args=(place,)) for place in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for place in range(4):
        np.testing.assert_allclose(np.stack(found[place]), right[place::4], atol=1e-5)


def test_an_idle_queue_lets_its_thread_and_its_model_go(monkeypatch):
    monkeypatch.setattr(waiting, "_IDLE", 0.05)
    model = tiny.model(())
    for text in ("the river", "a stone"):  # the second one starts another thread
        np.testing.assert_allclose(together(model.aembed(text))[0], model.embed(text), atol=1e-5)
        while model._turns.requests._thread is not None:
            time.sleep(0.01)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).embed("a"), model.embed("a"), atol=1e-5)
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None


class Late(threading.Condition):
    """A lock whose waiting ends in vain just before somebody else has it.

    Attributes:
        ended: Set when waiting has ended.
        go_on: To be set when somebody else had the lock.
    """

    def __init__(self):
        super().__init__()
        self.ended, self.go_on = threading.Event(), threading.Event()

    def wait(self, timeout=None):
        if timeout != waiting._IDLE or self.ended.is_set():
            return super().wait(timeout)
        self.release()
        self.ended.set()
        assert self.go_on.wait(60)
        self.acquire()
        return False


def test_a_request_that_comes_just_when_the_thread_would_end_is_answered(model):
    right = model.embed(TEXTS[1])
    queue = model._turns.requests = waiting.RequestQueue(model)
    queue._changed = Late()

    async def run():
        await model.aembed(TEXTS[0])
        await asyncio.to_thread(queue._changed.ended.wait, 60)
        late = asyncio.create_task(model.aembed(TEXTS[1]))
        await asyncio.sleep(0)  # now it stands in the queue, whose thread lives
        queue._changed.go_on.set()
        return await asyncio.wait_for(late, 60)

    np.testing.assert_allclose(asyncio.run(run()), right, atol=1e-5)


def test_an_engine_that_cannot_be_made_is_told_to_all_who_wait():
    model = Model(tiny.saved(()), engine="gpu")
    for _ in range(2):  # and to those who ask again
        waited = (asyncio.wait_for(model.aembed(text), 60) for text in TEXTS[:3])
        for error in together(*waited):
            assert isinstance(error, BothwaysError)
            assert "the engine 'gpu' runs on a GPU, not on 'cpu'" in str(error)


class Held:
    """An engine of batches of one text, which computes when it is allowed to.

    Attributes:
        begun: Set when it has a batch.
        go_on: To be set when it may compute.
        batches: How many it computed.
    """

    name, precision, batch_tokens = "held", "float32", 1

    def __init__(self, engine):
        self._engine, self.batches = engine, 0
        self.begun, self.go_on = threading.Event(), threading.Event()

    def run(self, batches, output):
        for batch in batches:
            self.batches += 1
            self.begun.set()
            assert self.go_on.wait(60)
            yield from self._engine.run([batch], output)


@pytest.mark.parametrize("leaving", [1, 2])
def test_nothing_more_is_computed_once_all_of_a_batch_have_left(model, monkeypatch, leaving):
    monkeypatch.setattr(waiting, "WAIT", 0.1)
    engine = Held(model.engine)
    slow = model.on(engine)
    slow._turns.requests = queue = waiting.RequestQueue(slow)
    engine.threads = 4096  # so that both callers are answered together

    async def run():
        tasks = [asyncio.create_task(slow.aembed(TEXTS[place : place + 3])) for place in (0, 3)]
        await asyncio.to_thread(engine.begun.wait, 60)
        for task in tasks[:leaving]:
            task.cancel()
        found = await asyncio.gather(*tasks[:leaving], return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in found)
        engine.go_on.set()
        rest = await asyncio.gather(*tasks[leaving:])
        return rest, await slow.aembed(TEXTS[6])

    rest, after = asyncio.run(run())
    assert engine.batches == (1 if leaving == 2 else 6) + 1
    for vectors in rest:
        np.testing.assert_allclose(vectors, model.embed(TEXTS[3:6]), atol=1e-5)
    np.testing.assert_allclose(after, model.embed(TEXTS[6]), atol=1e-5)
    assert queue._batch == []
