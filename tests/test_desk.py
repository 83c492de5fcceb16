"""What a server takes on: limits hold for all that is made of a request, from the first letter that is counted."""

from __future__ import annotations

import asyncio
import threading

import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.model.build import build_head
from bothways.model.config import HeadConfig
from bothways.run.model import Model
from bothways.use.serve import calls
from bothways.use.serve.desk import BusyError, Desk, Limits, TooMuchError
from bothways.use.serve.offered import Offer
from bothways.use.serve.wishes import (
    AnswerWish,
    ChooseWish,
    EmbedWish,
    FillWish,
    PairWish,
    RerankWish,
    SparseWish,
    TagWish,
    ZeroShotWish,
)

TEXTS = tiny.sentences(6, seed=5)
LONG = "the river ran past an old stone house " * 10
WISHES = {
    "embed": EmbedWish(texts=TEXTS, prompt="a query: "),
    "classify": PairWish(texts=TEXTS[:3], pairs=TEXTS[3:]),
    "zero_shot": ZeroShotWish(texts=TEXTS, labels=["water", "old towns", "zebra"], template="It says {}, no less."),
    "tag": TagWish(texts=[TEXTS[0].split(), ["red", "river"]]),
    "answer": AnswerWish(question=TEXTS[:3], context=LONG),
    "choose": ChooseWish(prompt=TEXTS[:2], choices=[TEXTS[2:4], TEXTS[3:]]),
    "rerank": RerankWish(query=TEXTS[0], texts=TEXTS[1:]),
    "fill": FillWish(texts=["a [MASK] river", "the [MASK] [MASK]"]),
    "sparse": SparseWish(texts=TEXTS),
}
"""A request for each question."""


@pytest.fixture(scope="module")
def model():
    """A model that can be asked nearly everything."""
    saved = tiny.saved(("tag", "answer", "choose", "mlm"))
    head = HeadConfig(kind="classify", reads="first", labels=("contradiction", "entailment"))
    saved.head_configs["classify"] = head
    saved.heads["classify"] = tiny.randomise(build_head(head, saved.encoder.config))
    made = Model(saved, device="cpu")
    made.decoding["sparse"] = {}
    made.max_length = 16
    made.truncation = "head"
    return made


def desk_of(model, **limits):
    return Desk(Offer({"all": model}), Limits(**limits), lambda _: None)


def asked(desk, question, wish):
    return asyncio.run(asyncio.wait_for(desk.answer(question, wish, None), 60))


@pytest.mark.parametrize("question", WISHES)
def test_how_much_is_read_is_known_before_it_is_there(model, question):
    call = calls.CALLS[question][0](WISHES[question], model)
    texts, pairs = call.read.make()
    assert call.read.texts == len(texts) == len(pairs or texts)
    assert sum(call.read.letters) == sum(map(len, texts)) + sum(map(len, pairs or []))
    assert len(call.read.letters) == len(call.columns[0])
    limit = model.max_length if call.cut else None
    assert call.counted(model) == model.tokenizer.encode(texts, pairs, max_length=limit, truncation="head").truncation


@pytest.mark.parametrize("question", ["embed", "classify", "zero_shot", "choose", "rerank"])
def test_what_is_counted_is_what_the_model_reads(model, question):
    before = model.truncated
    read = asked(desk_of(model), question, WISHES[question]).read
    assert model.truncated == before + read
    assert read.tokens > 0


@pytest.mark.parametrize(
    ("question", "wish", "letters"),
    [
        ("embed", EmbedWish(texts=["a"] * 10, prompt=LONG), 3810),
        ("zero_shot", ZeroShotWish(texts="a", labels=list("bcdefghijk"), template=LONG + "{}"), 3820),
        ("zero_shot", ZeroShotWish(texts=LONG, labels=list("bcdefghijk"), template="{}"), 3810),
        ("answer", AnswerWish(question=["what"] * 10, context=LONG), 3840),
        ("rerank", RerankWish(query=LONG, texts=["a"] * 10), 3810),
        ("choose", ChooseWish(prompt=LONG, choices=["a"] * 10), 3810),
    ],
)
def test_what_is_made_of_a_request_is_no_larger_than_a_request(model, monkeypatch, question, wish, letters):
    taken = desk_of(model, bytes=letters)
    assert asked(taken, question, wish).read.all_tokens > 500
    monkeypatch.setattr(calls.Call, "counted", lambda *_: pytest.fail("it was made"))
    with pytest.raises(TooMuchError, match=rf"^{letters:,} letters would be read, more than the {letters - 1:,} of a"):
        asked(desk_of(model, bytes=letters - 1), question, wish)


@pytest.mark.parametrize(
    ("question", "wish"),
    [
        ("fill", FillWish(texts="[MASK] " * 10, top=100)),
        ("answer", AnswerWish(question="what", context="river " * 100, top=100)),
        ("sparse", SparseWish(texts=["a", "b"], top=1000)),
    ],
)
def test_a_reply_is_no_larger_than_a_request_either(model, question, wish):
    with pytest.raises(TooMuchError, match=r"the reply might have [\d,]+ letters, more than the 40,000 of a request"):
        asked(desk_of(model, bytes=40_000), question, wish)
    few = wish.model_copy(update={"top": 3})
    assert asked(desk_of(model, bytes=40_000), question, few).results


def test_more_words_for_a_mask_than_anybody_reads_are_no_wish():
    with pytest.raises(ValueError, match="less than or equal to 100"):
        FillWish(texts="[MASK]", top=101)


def test_as_many_pairs_as_texts_and_classes_make_are_counted_as_texts(model):
    with pytest.raises(TooMuchError, match="18 texts are more than the 17 of a request"):
        asked(desk_of(model, texts=17), "zero_shot", WISHES["zero_shot"])
    assert asked(desk_of(model, texts=18), "zero_shot", WISHES["zero_shot"]).read.all_texts == 18


def test_a_template_without_a_place_is_told_before_anything_is_made(model):
    with pytest.raises(BothwaysError, match=r"should hold {} once"):
        asked(desk_of(model), "zero_shot", ZeroShotWish(texts="a", labels=["b", "c"], template="{}{}"))


def test_a_prompt_counts_where_a_request_is_cut_into_portions(model, monkeypatch):
    monkeypatch.setattr(calls, "_PORTION", 200)
    call = calls.embed(EmbedWish(texts=["a"] * 5, prompt=LONG), model)
    assert [len(texts) for (texts,) in call.portions()] == [2, 2, 1]


@pytest.fixture
def counting(monkeypatch):
    """Counting that waits; set once it has begun, and what lets it go on."""
    begun, go_on, counted = threading.Event(), threading.Event(), calls.Call.counted

    def slow(call, model):
        begun.set()
        assert go_on.wait(60)
        return counted(call, model)

    monkeypatch.setattr(calls.Call, "counted", slow)
    yield begun, go_on
    go_on.set()


def test_counting_takes_room(model, counting):
    begun, go_on = counting
    desk = desk_of(model, waiting=1000)

    async def run():
        first = asyncio.create_task(desk.answer("embed", EmbedWish(texts="river " * 1000), None))
        await asyncio.to_thread(begun.wait, 60)
        assert desk.waiting > 1000
        with pytest.raises(BusyError):
            await desk.answer("embed", EmbedWish(texts="a stone"), None)
        go_on.set()
        return await first

    assert asyncio.run(run()).read.all_tokens == 1000
    assert desk.waiting == 0


def test_counting_takes_time(model, counting):
    desk = desk_of(model, seconds=0.05)

    async def run():
        task = asyncio.create_task(desk.answer("embed", EmbedWish(texts="river " * 1000), None))
        await asyncio.wait({task}, timeout=30)
        counting[1].set()
        return task.exception()

    assert isinstance(asyncio.run(run()), TimeoutError)
    assert desk.waiting == 0
