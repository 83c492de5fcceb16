"""Sequences for pre-training: every token used, neighbours really neighbours, the same example at any time."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.learn.objectives.blocks import Blocks
from bothways.learn.objectives.pairs import IS_NEXT, IS_RANDOM, Pairs, _lay_anchors, _longest_first
from bothways.learn.portions import divide
from bothways.text import encoded
from bothways.text.documents import Document
from bothways.text.encoded import SPECIAL, Piece
from bothways.text.normalize import Normalization
from bothways.text.prepare import prepare
from bothways.text.tokenizer import Tokenizer

CLS, SEP, FIRST = 2, 3, 5


class Made:
    """A corpus in memory whose tokens are all different, so that each says where it stands."""

    folder = "made"

    def __init__(self, documents: list[list[int]]) -> None:
        """Takes for each document the lengths of its sentences."""
        lengths = [length for document in documents for length in document]
        self.sentence_starts = np.cumsum([0, *lengths])
        self.document_starts = np.cumsum([0, *map(len, documents)])
        self.tokens, self.sentences, self.documents = sum(lengths), len(lengths), len(documents)

    def read(self, a: int, b: int) -> np.ndarray:
        assert 0 <= a <= b <= self.tokens
        return np.arange(FIRST + a, FIRST + b)

    def document_of(self, tokens: np.ndarray) -> np.ndarray:
        sentences = np.searchsorted(self.sentence_starts, tokens - FIRST, side="right") - 1
        return np.searchsorted(self.document_starts, sentences, side="right") - 1


PAIR = (
    Piece(SPECIAL, CLS, 0),
    Piece(encoded.FIRST, -1, 0),
    Piece(SPECIAL, SEP, 0),
    Piece(encoded.SECOND, -1, 1),
    Piece(SPECIAL, SEP, 1),
)
SINGLE = PAIR[:3]
TOKENIZER = SimpleNamespace(sep_id=SEP, single=SINGLE, pair=PAIR)


def made(documents: int = 50, sentences: int = 30, longest: int = 25, seed: int = 0) -> Made:
    chance = np.random.default_rng(seed)
    return Made([chance.integers(1, longest, chance.integers(1, sentences)).tolist() for _ in range(documents)])


CORPORA = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=8), min_size=2, max_size=8).map(Made)


# Blocks


@given(CORPORA, st.integers(3, 40))
def test_blocks_across_documents_hold_every_token_once_and_are_full(corpus, length):
    blocks = Blocks(corpus, length, TOKENIZER)
    sequences = [blocks.sequence(0, block) for block in range(len(blocks))]
    assert all(len(ids) == length for ids, _ in sequences[:-1])
    assert 3 <= len(sequences[-1][0]) <= length
    stream = np.concatenate([ids[1:-1] for ids, _ in sequences])
    expected = np.concatenate(
        [part for d in range(corpus.documents) for part in (whole_document(corpus, d), [SEP])][:-1]
    )
    assert np.array_equal(stream, expected)
    assert all(ids[0] == CLS and ids[-1] == SEP and not segments.any() for ids, segments in sequences)


def whole_document(corpus: Made, d: int) -> np.ndarray:
    first, last = corpus.document_starts[d], corpus.document_starts[d + 1]
    return corpus.read(corpus.sentence_starts[first], corpus.sentence_starts[last])


@given(CORPORA, st.integers(3, 40))
def test_blocks_within_documents_never_cross_a_border(corpus, length):
    blocks = Blocks(corpus, length, TOKENIZER, across_documents=False)
    runs = [blocks.sequence(0, block)[0][1:-1] for block in range(len(blocks))]
    tokens = np.concatenate([np.empty(0, int), *runs])
    assert len(tokens) == len(set(tokens.tolist()))
    for run in runs:
        assert 0 < len(run) <= length - 2
        assert len(set(corpus.document_of(run).tolist())) == 1
        assert (np.diff(run) == 1).all()
    left_out = set(range(FIRST, FIRST + corpus.tokens)) - set(tokens.tolist())
    for d in range(corpus.documents):
        lost = left_out & set(whole_document(corpus, d).tolist())
        assert len(lost) < min(8, length - 2)


def test_blocks_have_room_for_something():
    with pytest.raises(BothwaysError, match="at least 3"):
        Blocks(made(), 2, TOKENIZER)


# Anchors


@given(CORPORA, st.integers(2, 60))
def test_anchors_cover_every_document_of_two_sentences(corpus, room):
    anchors = _lay_anchors(corpus, room)
    covered = np.zeros(corpus.sentences, dtype=int)
    for first, last in anchors:
        assert last - first >= 2
        owner = np.searchsorted(corpus.document_starts, [first, last - 1], side="right")
        assert owner[0] == owner[1]
        covered[first:last] += 1
        tokens = corpus.sentence_starts[last] - corpus.sentence_starts[first]
        ends_document = last in corpus.document_starts
        assert tokens >= room or ends_document
        longer_than_needed = corpus.sentence_starts[last - 1] - corpus.sentence_starts[first] >= room
        assert last - first == 2 or not longer_than_needed
    sizes = np.repeat(np.diff(corpus.document_starts), np.diff(corpus.document_starts))
    assert ((covered > 0) == (sizes >= 2)).all()


def test_anchors_do_not_depend_on_how_many_sentences_are_looked_at_at_once(monkeypatch):
    corpus = made(80)
    whole = _lay_anchors(corpus, 40)
    for window in (1, 7, 100):
        monkeypatch.setattr("bothways.learn.objectives.pairs._WINDOW", window)
        assert np.array_equal(_lay_anchors(corpus, 40), whole)


# Pairs


def split(pair):
    """The tokens of A and of B."""
    middle, end = np.flatnonzero(pair.token_ids == SEP)
    assert pair.token_ids[0] == CLS
    assert end == len(pair.token_ids) - 1
    assert pair.segment_ids.tolist() == [0] * (middle + 1) + [1] * (end - middle)
    return pair.token_ids[1:middle], pair.token_ids[middle + 1 : end]


@pytest.fixture(scope="module")
def pairs():
    return Pairs(made(documents=300), 64, TOKENIZER, seed=4)


@pytest.fixture(scope="module")
def many(pairs):
    return [pairs.sequence(epoch, anchor) for epoch in range(6) for anchor in range(len(pairs))]


def test_half_of_the_pairs_are_true(many):
    """Over N pairs the share of true ones lies within four standard deviations of one half."""
    labels = np.asarray([pair.label for pair in many])
    assert set(labels) == {IS_NEXT, IS_RANDOM}
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))


def test_true_pairs_are_neighbours_in_the_corpus(pairs, many):
    cut = 0
    for pair in many:
        a, b = split(pair)
        for run in (a, b):
            assert len(run)
            assert (np.diff(run) == 1).all()
        if pair.label == IS_NEXT:
            assert a[-1] < b[0]
            documents = pairs.corpus.document_of(np.concatenate((a, b)))
            assert len(set(documents.tolist())) == 1
            if b[0] != a[-1] + 1:  # tokens were cut in between, which only full sequences need
                cut += 1
                assert len(pair.token_ids) == pairs.length
            else:
                assert b[0] - FIRST in pairs.corpus.sentence_starts or len(pair.token_ids) == pairs.length
    assert 0 < cut < 0.5 * len(many)


def test_tokens_are_cut_from_front_and_back_alike(pairs, many):
    starts = pairs.corpus.sentence_starts + FIRST
    texts = [text for pair in many for text in split(pair)]
    front = np.asarray([text[0] not in starts for text in texts])
    back = np.asarray([text[-1] + 1 not in starts for text in texts])
    assert front.mean() > 0.1
    assert front.mean() == pytest.approx(back.mean(), rel=0.1)


def test_random_texts_come_from_another_document(pairs, many):
    heard = set()
    for pair in many:
        if pair.label == IS_RANDOM:
            a, b = split(pair)
            (here,), (there,) = (set(pairs.corpus.document_of(run).tolist()) for run in (a, b))
            assert here != there
            heard.add(there)
    assert len(heard) > 0.9 * pairs.corpus.documents


def test_no_text_that_is_held_out_comes_into_the_other_pairs_nor_theirs_into_it():
    corpus = made(documents=60)
    pairs = Pairs(corpus, 64, TOKENIZER, seed=4)
    train, held = divide(len(pairs))
    pairs.hold_out(held)
    assert len(set(corpus.document_of(corpus.sentence_starts[pairs.anchors[held, 0]] + FIRST).tolist())) > 1
    apart = np.zeros(corpus.tokens, dtype=bool)
    for first, last in pairs.anchors[held]:
        apart[corpus.sentence_starts[first] : corpus.sentence_starts[last]] = True
    labels = {}
    for name, numbers, side in (("train", train, False), ("held", held, True)):
        labels[name] = []
        for epoch in range(8):
            for number in numbers.tolist():
                pair = pairs.sequence(epoch, number)
                a, b = split(pair)
                labels[name].append(pair.label)
                if pair.label == IS_RANDOM:
                    assert (apart[b - FIRST] == side).all()
                    assert corpus.document_of(a)[0] != corpus.document_of(b)[0]
    for found in labels.values():
        assert np.mean(found) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(found)))
    again = Pairs(corpus, 64, TOKENIZER, seed=4)
    again.hold_out(held)
    for number in (int(held[1]), 7, int(held[0]), 3):
        assert np.array_equal(again.sequence(5, number).token_ids, pairs.sequence(5, number).token_ids)


def test_where_all_other_text_is_held_out_a_pair_stays_as_it_is():
    pairs = Pairs(Made([[9] * 30, [3, 4]]), 20, TOKENIZER)
    pairs.hold_out(np.array([len(pairs) - 1]))
    assert {pairs.sequence(epoch, 0).label for epoch in range(20)} == {IS_NEXT}
    assert {pairs.sequence(epoch, len(pairs) - 1).label for epoch in range(20)} == {IS_NEXT, IS_RANDOM}


def test_with_two_documents_the_random_text_is_from_the_other_one():
    corpus = Made([[3, 4, 5], [6, 2]])
    pairs = Pairs(corpus, 20, TOKENIZER)
    for epoch in range(50):
        for anchor in range(len(pairs)):
            a, b = (corpus.document_of(run)[0] for run in split(pairs.sequence(epoch, anchor)))
            assert (a != b) == pairs.sequence(epoch, anchor).label


@settings(deadline=None)
@given(CORPORA, st.integers(5, 50), st.integers(0, 3))
def test_no_pair_is_too_long_or_empty(corpus, length, epoch):
    if not len(_lay_anchors(corpus, length - 3)):
        return
    pairs = Pairs(corpus, length, TOKENIZER, short_probability=0.5)
    for anchor in range(len(pairs)):
        pair = pairs.sequence(epoch, anchor)
        assert len(pair.token_ids) == len(pair.segment_ids) <= length
        a, b = split(pair)
        assert len(a)
        assert len(b)


def test_an_example_is_the_same_whenever_it_is_asked_for(pairs):
    again = Pairs(pairs.corpus, 64, TOKENIZER, seed=4)
    ids = np.random.default_rng(0).permutation(len(pairs))[:200]
    first = {i: pairs.sequence(2, int(i)) for i in ids}
    for i in sorted(ids):
        other = again.sequence(2, int(i))
        assert np.array_equal(first[i].token_ids, other.token_ids)
        assert first[i].label == other.label


def test_epochs_and_seeds_make_other_examples(pairs):
    other = Pairs(pairs.corpus, 64, TOKENIZER, seed=5)
    for different in (lambda i: pairs.sequence(1, i), lambda i: other.sequence(0, i)):
        same = [np.array_equal(pairs.sequence(0, i).token_ids, different(i).token_ids) for i in range(300)]
        assert np.mean(same) < 0.2


def test_one_example_in_ten_is_short():
    corpus = Made([[5] * 200] * 20)
    lengths = {
        share: np.asarray([len(pairs.sequence(0, anchor).token_ids) for anchor in range(len(pairs))])
        for share, pairs in ((p, Pairs(corpus, 128, TOKENIZER, short_probability=p)) for p in (0.0, 0.1, 1.0))
    }
    assert (lengths[0.1] < 100).mean() == pytest.approx(
        (lengths[0.0] < 100).mean() * 0.9 + (lengths[1.0] < 100).mean() * 0.1, abs=0.05
    )
    assert (lengths[1.0] < 100).mean() > 0.6


def one_by_one(a: int, b: int, room: int) -> tuple[int, int]:
    while a + b > room:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    return a, b


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 60))
def test_the_longer_text_is_cut_first(a, b, room):
    assert _longest_first(a, b, room) == one_by_one(a, b, room)


@pytest.mark.parametrize(
    ("documents", "message"),
    [([[5, 5, 5]], "at least two documents and made has 1"), ([[5], [5], [5]], "two sentences or more")],
)
def test_a_corpus_without_neighbours_is_refused(documents, message):
    with pytest.raises(BothwaysError, match=message):
        Pairs(Made(documents), 64, TOKENIZER)


def test_pairs_have_room_for_something():
    with pytest.raises(BothwaysError, match="at least 5"):
        Pairs(made(), 4, TOKENIZER)


def test_examples_of_a_prepared_corpus(tmp_path):
    tokenizer = Tokenizer.from_vocabulary(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "ran", "sat", "."], Normalization()
    )
    documents = [Document(["The cat ran. The cat sat."] * 3), Document(["The dog sat. The dog ran."] * 3)]
    corpus = prepare(documents, tokenizer, tmp_path / "corpus", shard_tokens=5)
    pairs = Pairs(corpus, 16, tokenizer)
    for epoch in range(20):
        pair = pairs.sequence(epoch, 0)
        text = tokenizer.decode(pair.token_ids)
        assert ("cat" in text and "dog" in text) == (pair.label == IS_RANDOM)
    text = " ".join(tokenizer.decode(Blocks(corpus, 12, tokenizer).sequence(0, block)[0]) for block in range(5))
    assert text.count("cat") == 6
