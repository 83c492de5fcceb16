"""Spans are found, and counted, as the official script of the CoNLL shared tasks does."""

import numpy as np
import pytest

from bothways.learn.tasks.tagging.span_scores import count_spans
from bothways.text.tag_schemes import TagSet, find_spans

NAMES = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def counted(right, guessed, names=NAMES):
    """Texts are parted by ``|``."""
    rows = [[text.split() for text in side.split("|")] for side in (right, guessed)]
    edges = np.cumsum([0, *map(len, rows[0])])
    tags = [np.array([names.index(tag) for text in side for tag in text]) for side in rows]
    return count_spans(TagSet(names), *tags, edges)


def walked(tags):
    """Spans by the published rules, a word at a time: kind, first and last word."""
    found, open_span = [], None
    for place, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        before = tags[place - 1] if place else "O"
        before_letter, _, before_kind = before.partition("-")
        begins = letter != "O" and (letter == "B" or before_letter in ("O", "E") or before_kind != kind)
        if open_span is not None and (begins or letter == "O"):
            found.append((*open_span, place - 1))
            open_span = None
        if begins:
            open_span = (kind, place)
    return found


# right, guessed, precision, recall, F1, accuracy: counted by hand from the rules of conlleval
TRICKY = {
    "one of two": ("B-PER I-PER O B-LOC", "B-PER I-PER O O", 1, 1 / 2, 2 / 3, 3 / 4),
    "I- without B- begins a span": ("B-PER I-PER O", "I-PER I-PER O", 1, 1, 1, 2 / 3),
    "a change of kind begins a span": ("B-PER I-PER O", "B-PER I-LOC O", 0, 0, 0, 2 / 3),
    "neighbours are parted by B-": ("B-LOC B-LOC O", "B-LOC I-LOC O", 0, 0, 0, 2 / 3),
    "neighbours of other kinds need none": ("B-LOC B-PER", "I-LOC I-PER", 1, 1, 1, 0),
    "a text's end ends a span": ("O B-PER|I-PER O", "O B-PER|B-PER O", 1, 1, 1, 3 / 4),
    "right place, wrong kind": ("B-LOC I-LOC", "B-PER I-PER", 0, 0, 0, 0),
    "longer by a word": ("B-LOC I-LOC O O", "B-LOC I-LOC I-LOC O", 0, 0, 0, 3 / 4),
    "nothing there, something guessed": ("O O", "O B-LOC", 0, 0, 0, 1 / 2),
    "nothing there, nothing guessed": ("O O", "O O", 0, 0, 0, 1),
    "two guessed for one": ("B-PER I-PER I-PER O", "B-PER B-PER I-PER O", 0, 0, 0, 3 / 4),
    "one right beside one wrong": ("B-PER O B-LOC I-LOC", "B-PER O B-LOC O", 1 / 2, 1 / 2, 1 / 2, 3 / 4),
}


@pytest.mark.parametrize("name", TRICKY)
def test_tricky_sequences_are_scored_as_the_official_script_does(name):
    right, guessed, precision, recall, f1, accuracy = TRICKY[name]
    found = counted(right, guessed).metrics()
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(f1)
    assert found["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize("names", [NAMES, (*NAMES, "E-PER", "E-LOC")])
def test_spans_are_those_of_a_walk_word_by_word_whatever_the_sequence(names):
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 9, 400)
    edges = np.cumsum([0, *lengths])
    tags = draw.integers(0, len(names), edges[-1])
    tag_set = TagSet(names)
    spans = find_spans(tag_set, tags, edges)
    found = [
        (tag_set.kinds[kind], int(first), int(last))
        for kind, first, last in zip(spans.kind, spans.first, spans.last, strict=True)
    ]
    expected = [
        (kind, edges[row] + first, edges[row] + last)
        for row in range(len(lengths))
        for kind, first, last in walked([names[tag] for tag in tags[edges[row] : edges[row + 1]]])
    ]
    assert found == expected


def test_figures_of_all_texts_are_those_of_sets_of_spans():
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 9, 200)
    edges = np.cumsum([0, *lengths])
    right, guessed = draw.integers(0, len(NAMES), (2, edges[-1]))
    guessed = np.where(draw.random(edges[-1]) < 0.6, right, guessed)
    counts = count_spans(TagSet(NAMES), right, guessed, edges)

    def spans(tags, rows):
        return [
            (number, *span)
            for number, row in enumerate(rows)
            for span in walked([NAMES[tag] for tag in tags[edges[row] : edges[row + 1]]])
        ]

    for rows in (range(200), [3, 3, 3, 7, 199, 0], [5]):
        ours, theirs = set(spans(right, rows)), set(spans(guessed, rows))
        found = counts.metrics(np.array(rows))
        assert found["precision"] == pytest.approx(len(ours & theirs) / max(1, len(theirs)))
        assert found["recall"] == pytest.approx(len(ours & theirs) / max(1, len(ours)))
        assert found["f1"] == pytest.approx(2 * len(ours & theirs) / max(1, len(ours) + len(theirs)))
    assert counts.metrics() == counts.metrics(np.arange(200))
    whole = counts.by_kind()
    assert whole["PER"]["support"] == sum(kind == "PER" for _, kind, _, _ in spans(right, range(200)))
    assert counts.metrics()["macro_f1"] == pytest.approx(np.mean([one["f1"] for one in whole.values()]))
    alone = [counts.metrics(np.array([row]))["f1"] for row in range(200)]
    empty = [not spans(right, [row]) and not spans(guessed, [row]) for row in range(200)]
    assert counts.by_text() == pytest.approx(np.where(empty, 1.0, alone))
