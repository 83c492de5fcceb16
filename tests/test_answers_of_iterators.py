"""Of an iterator of texts, what gives an answer a text gives an iterator, from a few windows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice, repeat

import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run import stream

TEXTS = tiny.sentences(30, seed=6)
OTHERS = tiny.sentences(30, seed=7)
WORDS = [text.split() for text in TEXTS]
WINDOW = 7


@pytest.fixture(scope="module")
def model():
    return tiny.model(("classify", "tag", "answer"))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer") / "model"
    return bw.load(tiny.ranker(folder, "classify", labels=("score",), problem="scores"), device="cpu")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", WINDOW)


QUESTIONS = [
    ("classify", TEXTS),
    ("classify", TEXTS, OTHERS),
    ("tag", TEXTS),
    ("tag", WORDS),
    ("answer", TEXTS, OTHERS),
]
PARTS = {"classify": ("label", "probabilities"), "tag": ("tags", "probabilities"), "answer": ("start", "probability")}


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_answers_are_those_of_the_list(model, question):
    name, *columns = question
    ask, (said, sure) = getattr(model, name), PARTS[name]
    for found in (ask(*map(iter, columns)), ask(iter(columns[0]), *columns[1:])):
        assert isinstance(found, Iterator)
        for one, right in zip(found, ask(*columns), strict=True):
            assert getattr(one, said) == getattr(right, said)
            assert getattr(one, sure) == pytest.approx(getattr(right, sure), abs=1e-5)
    assert list(ask(*(iter([]) for _ in columns))) == []


@pytest.mark.parametrize("others", [None, OTHERS])
def test_scores_come_one_by_one(scorer, others):
    found = scorer.score(iter(TEXTS), others)
    assert isinstance(found, Iterator)
    assert list(found) == pytest.approx(scorer.score(TEXTS, others).tolist(), abs=1e-5)


@pytest.mark.parametrize("name", ["classify", "tag", "answer"])
def test_texts_without_end_are_read_some_windows_ahead(model, name):
    read = []

    def texts():
        for number in count():
            read.append(number)
            yield f"the river {number % 10}"

    found = getattr(model, name)(texts(), *([repeat("a small stone")] if name == "answer" else []))
    assert read == []
    assert len(list(islice(found, 3 * WINDOW))) == 3 * WINDOW
    assert len(read) <= WINDOW * (3 + stream.Threads.ahead)
    found.close()


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("classify", (None,), r"texts\[16\] is not a string but NoneType"),
        ("classify", ("fine", 5), r"texts\[16\] is not a string but int"),
        ("tag", (["a", 3],), r"texts\[16\] is neither a text nor a list of words"),
        ("answer", (" ", "the river"), "question 16: the question is empty"),
        ("answer", ("river " * 500, "the river"), "question 16: the question has 500 tokens"),
        ("embed", ("river " * 600,), "text 16 has 600 tokens"),
        ("classify", ("river " * 600,), "text 16 has 600 tokens"),
    ],
)
def test_a_mistake_is_told_with_its_row_after_the_answers_before_it(model, monkeypatch, name, wrong, told):
    monkeypatch.setattr(model, "truncation", "error")
    right = ("the river", "a stone")[: len(wrong)]
    rows = [right] * 16 + [wrong] + [right] * 9
    got = []
    with pytest.raises(BothwaysError, match=told):
        got.extend(getattr(model, name)(*(iter(column) for column in zip(*rows, strict=True))))
    assert len(got) == 2 * WINDOW


def test_columns_of_unequal_length_are_told_where_one_ends(model):
    with pytest.raises(BothwaysError, match="ends after 15, and the other goes on"):
        list(model.classify(iter(TEXTS[:20]), iter(OTHERS[:15])))
    with pytest.raises(BothwaysError, match="ends after 1, and the other goes on"):
        list(model.answer(iter(TEXTS), "one text for all"))


def test_what_cannot_be_asked_is_refused_before_a_text_is_read(model, scorer):
    texts = iter(TEXTS)
    asked = [
        (lambda: scorer.classify(texts), "gives scores, not classes"),
        (lambda: model.score(texts), "gives classes, not scores"),
        (lambda: scorer.tag(texts), "tag needs the head 'tag'"),
        (lambda: scorer.answer(texts, texts), "answer needs the head 'answer'"),
        (lambda: model.answer(texts, texts, top=0), "top cannot be 0"),
    ]
    for ask, told in asked:
        with pytest.raises(BothwaysError, match=told):
            ask()
    assert next(texts) == TEXTS[0]


def test_what_is_cut_is_told_once():
    model = tiny.model(("classify",), max_length=16)
    with pytest.warns(BothwaysWarning, match="20 of 20 texts") as told:
        list(model.classify("the river " * 20 for _ in range(20)))
    assert len(told) == 1


def test_a_long_list_is_told_the_place_of_a_long_text(model, monkeypatch):
    """Lists are answered a part at a time; the place counts from the beginning of the list."""
    monkeypatch.setattr("bothways.run.answering.parts._TEXTS", 5)
    monkeypatch.setattr(model, "truncation", "error")
    with pytest.raises(BothwaysError, match="text 12 has 600 tokens"):
        model.classify([*["the river"] * 12, "river " * 600])
