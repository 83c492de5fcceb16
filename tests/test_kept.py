"""Texts without number: a list like any other, wherever its letters lie."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from bothways.errors import BothwaysError
from bothways.learn.tasks.classify import Classify
from bothways.learn.tasks.tag import Tag
from bothways.run.answering import parts
from bothways.text import kept
from bothways.text.kept import Joined, Sequences, Texts

LETTERS = st.text(st.characters(), max_size=20)  # halves of surrogate pairs among them


@pytest.fixture(params=["in memory", "on the disk"])
def place(request, monkeypatch):
    """Where letters lie: few bytes go to the disk at once, or none."""
    if request.param == "on the disk":
        monkeypatch.setattr(kept, "_IN_MEMORY", 50)
        monkeypatch.setattr(kept, "_PORTION", 20)
    return request.param


@pytest.mark.usefixtures("place")
@given(st.lists(LETTERS, max_size=30), st.data())
@settings(deadline=None, max_examples=50)
def test_texts_are_read_as_they_were_given(given_texts, data):
    texts = Texts(given_texts)
    assert (len(texts), list(texts), texts) == (len(given_texts), given_texts, given_texts)
    places = data.draw(st.lists(st.integers(0, len(given_texts) - 1), max_size=40)) if given_texts else []
    some = texts.take(places)
    assert list(some) == [given_texts[place] for place in places]
    assert [some[at] for at in range(-len(some), len(some))] == [given_texts[place] for place in places] * 2
    assert list(some.take(range(len(some))[::2])) == list(some)[::2] == list(some[::2])
    with pytest.raises(IndexError):
        some[len(some)]
    both = Joined(texts, texts)
    assert list(both) == [both[at] for at in range(len(both))] == [f"{text}\n{text}" for text in given_texts]


def test_many_texts_leave_memory_for_the_disk(monkeypatch):
    monkeypatch.setattr(kept, "_IN_MEMORY", 1000)
    monkeypatch.setattr(kept, "_PORTION", 1000)
    texts = Texts(f"text {number} of many" for number in range(2000))
    assert len(texts._blob) > 30_000
    assert len(texts._blob._tail) <= 1000
    assert texts[1999] == "text 1999 of many"


def test_a_full_disk_is_told_in_one_sentence(monkeypatch):
    class Full:
        def seek(self, place):
            pass

        def write(self, part):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_IN_MEMORY", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: Full())
    with pytest.raises(BothwaysError, match=r"No space left on device.*TMPDIR"):
        Texts(["more than ten bytes"])


@pytest.mark.usefixtures("place")
def test_sequences_are_those_that_were_encoded():
    tokenizer = tiny.tokenizer()
    texts, how = tiny.sentences(40), {"max_length": 24, "truncation": "window"}
    found = Sequences()
    for start in (0, 25):
        own = texts[start : start + 25]
        some = tokenizer.encode(["the red"] * len(own), own, **how)
        found.append(some.token_ids, some.segment_ids, some.starts, some.texts + start)
    whole = tokenizer.encode(["the red"] * 40, texts, **how)
    assert len(found) == len(whole) > len(texts)
    assert list(found.texts) == whole.texts.tolist()
    for number, (start, end) in enumerate(zip(whole.starts[:-1], whole.starts[1:], strict=True)):
        token_ids, segment_ids = found[number]
        assert token_ids.tolist() == whole.token_ids[start:end].tolist()
        assert segment_ids.tolist() == whole.segment_ids[start:end].tolist()


def test_what_is_learned_and_answered_does_not_depend_on_where_letters_lie(monkeypatch):
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(tiny.sentences(60))]
    tagged = [{"tokens": ["red", "river"], "tags": ["O", "B-X"]} for _ in range(9)]
    model = tiny.model(truncation="head")

    def everything():
        data = Classify().read(rows)
        _, dev = Classify().split(data, 0.3, 0)
        words = Tag().read(tagged).take([1, 3], "some")
        return data.describe(), dev.describe(), list(dev.inputs()), dev.place(3), words.describe()

    before, shares = everything(), model.class_probabilities([row["text"] for row in rows])
    monkeypatch.setattr(kept, "_IN_MEMORY", 100)
    monkeypatch.setattr(kept, "_PORTION", 64)
    monkeypatch.setattr(parts, "_TEXTS", 7)
    assert everything() == before
    assert np.allclose(model.class_probabilities(Classify().read(rows).texts), shares, atol=1e-6)
