"""Whole sentences in sequences, and neighbouring texts in either order: every token used, nothing split, 50/50."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.objectives import whole_sentences
from bothways.learn.objectives.blocks import Blocks
from bothways.learn.objectives.pairs import Pairs
from bothways.learn.objectives.recipe import recipe
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.objectives.whole_sentences import WholeSentences
from bothways.text.prepare import prepare
from test_examples import CLS, CORPORA, FIRST, SEP, TOKENIZER, Made, made, split

ROOM = 3  # the fewest tokens of a sequence: two special ones and a place


def sequences_of(corpus, length, across):
    examples = WholeSentences(corpus, length, TOKENIZER, across_documents=across)
    return [examples.sequence(0, number) for number in range(len(examples))]


# -- whole sentences


@settings(deadline=None, max_examples=200)
@given(CORPORA, st.integers(ROOM, 60), st.booleans())
def test_every_token_is_in_exactly_one_sequence_in_order(corpus, length, across):
    sequences = sequences_of(corpus, length, across)
    for ids, segments in sequences:
        assert 3 <= len(ids) <= length
        assert ids[0] == CLS
        assert ids[-1] == SEP
        assert not segments.any()
    tokens = np.concatenate([ids[1:-1] for ids, _ in sequences])
    assert np.array_equal(tokens[tokens >= FIRST], np.arange(FIRST, FIRST + corpus.tokens))


@settings(deadline=None, max_examples=200)
@given(CORPORA, st.integers(ROOM, 60), st.booleans())
def test_no_sentence_is_split_unless_it_is_too_long(corpus, length, across):
    starts = corpus.sentence_starts
    for ids, _ in sequences_of(corpus, length, across):
        tokens = ids[ids >= FIRST] - FIRST
        for border in (tokens[0], tokens[-1] + 1):
            if border not in starts:
                sentence = np.searchsorted(starts, border) - 1
                assert starts[sentence + 1] - starts[sentence] > length - 2
                assert (border - starts[sentence]) % (length - 2) == 0, "cut into full pieces"


@settings(deadline=None, max_examples=200)
@given(CORPORA, st.integers(ROOM, 60))
def test_separators_stand_between_documents_and_nowhere_else(corpus, length):
    for ids, _ in sequences_of(corpus, length, across=True):
        inner = ids[1:-1]
        own = corpus.document_of(inner[inner >= FIRST])
        expected = [
            part
            for number, document in enumerate(dict.fromkeys(own.tolist()))
            for part in ([SEP] * (number > 0) + inner[inner >= FIRST][own == document].tolist())
        ]
        assert inner.tolist() == expected


@settings(deadline=None, max_examples=100)
@given(CORPORA, st.integers(ROOM, 60))
def test_within_documents_none_is_crossed(corpus, length):
    for ids, _ in sequences_of(corpus, length, across=False):
        assert len(set(corpus.document_of(ids[1:-1]).tolist())) == 1


@settings(deadline=None, max_examples=100)
@given(CORPORA, st.integers(ROOM, 60), st.booleans())
def test_sequences_are_as_full_as_sentences_allow(corpus, length, across):
    """The next sentence, or the next piece of a long one, would not have fitted in."""
    sequences = [ids for ids, _ in sequences_of(corpus, length, across)]
    for ids, after in itertools.pairwise(sequences):
        last, begin = ids[-2] - FIRST, after[1] - FIRST
        border = corpus.document_of(np.array([last + FIRST]))[0] != corpus.document_of(np.array([begin + FIRST]))[0]
        if border and not across:
            continue
        sentence = np.searchsorted(corpus.sentence_starts, begin, side="right") - 1
        needed = min(corpus.sentence_starts[sentence + 1] - begin, length - 2)
        assert len(ids) + border + needed > length


@pytest.mark.parametrize("across", [True, False])
def test_how_many_sentences_are_looked_at_at_once_does_not_matter(across, monkeypatch):
    corpus = Made([*([int(n) for n in np.random.default_rng(d).integers(1, 90, 40)] for d in range(30)), [500, 1, 700]])
    whole = WholeSentences(corpus, 40, TOKENIZER, across_documents=across).starts
    for window in (1, 7, 300):
        monkeypatch.setattr(whole_sentences, "_WINDOW", window)
        assert np.array_equal(WholeSentences(corpus, 40, TOKENIZER, across_documents=across).starts, whole)


def test_sequences_have_room_for_something():
    for make in (Blocks, lambda *given: WholeSentences(*given, across_documents=True)):
        with pytest.raises(BothwaysError, match="no room beside 2 special tokens; give at least 3"):
            make(made(), 2, TOKENIZER)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("sequences", ["blocks", "full-sentences", "doc-sentences"])
def test_special_tokens_stand_as_the_tokenizer_sets_them(kind, sequences, tmp_path):
    """One text as `Tokenizer.encode` frames it, whichever the family."""
    texts = [f"{one.capitalize()}." for one in tiny.sentences(40)]
    tokenizer = bw.train_tokenizer(texts, vocab_size=330, kind=kind)
    corpus = prepare([" ".join(texts[:20]), " ".join(texts[20:])], tokenizer, tmp_path / "corpus")
    plan = recipe(ObjectiveSettings(objective="mlm", sequences=sequences, max_length=30), corpus)
    frame = tokenizer.encode("").token_ids.tolist()
    assert len(frame) == 2
    inner = []
    for number in range(len(plan.examples)):
        ids, segments = plan.examples.sequence(0, number)
        assert [ids[0], ids[-1]] == frame
        assert len(ids) <= 30
        assert not segments.any()
        inner += ids[1:-1].tolist()
    separators = inner.count(tokenizer.sep_id)
    assert separators <= 1
    assert [token for token in inner if token != tokenizer.sep_id] == corpus.read(0, corpus.tokens).tolist()


# -- sentence order


@pytest.fixture(scope="module")
def swapped():
    return Pairs(made(documents=300), 64, TOKENIZER, kind="swapped", seed=4)


@pytest.fixture(scope="module")
def many(swapped):
    return [swapped.sequence(epoch, anchor) for epoch in range(6) for anchor in range(len(swapped))]


def test_half_of_the_pairs_are_swapped(many):
    """Over N pairs within four standard deviations of one half."""
    labels = np.asarray([pair.label for pair in many])
    assert set(labels) == {0, 1}
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))


def test_both_texts_are_neighbours_in_one_document_and_the_label_says_their_order(swapped, many):
    touching = {0: 0, 1: 0}
    for pair in many:
        texts = split(pair)
        earlier, later = texts if pair.label == 0 else texts[::-1]
        assert earlier[-1] < later[0]
        for run in texts:
            assert (np.diff(run) == 1).all()
        assert len(set(swapped.corpus.document_of(np.concatenate(texts)).tolist())) == 1
        if len(pair.token_ids) < swapped.length:  # else tokens may have been cut in between
            assert later[0] == earlier[-1] + 1
            assert later[0] - FIRST in swapped.corpus.sentence_starts
            touching[pair.label] += 1
    assert min(touching.values()) > 500


def test_lengths_do_not_tell_the_order():
    """Full sequences of an odd number of tokens, whose halves cannot be equal."""
    pairs = Pairs(Made([[9] * 400] * 3), 64, TOKENIZER, kind="swapped", short_probability=0.0)
    longer = {0: [], 1: []}
    for epoch in range(60):
        for anchor in range(len(pairs)):
            pair = pairs.sequence(epoch, anchor)
            a, b = split(pair)
            longer[pair.label].append(len(a) > len(b))
    assert np.mean(longer[0]) == pytest.approx(np.mean(longer[1]), abs=0.05)


def test_one_document_is_enough_but_not_sentences_alone():
    assert len(Pairs(Made([[5, 5, 5]]), 64, TOKENIZER, kind="swapped")) == 1
    with pytest.raises(BothwaysError, match=r"sentence order prediction needs documents of two sentences or more"):
        Pairs(Made([[5], [5], [5]]), 64, TOKENIZER, kind="swapped")


# -- the same whoever asks

ASKED = """
import json
import test_sequences as here

print(json.dumps(here.digests(reversed(range(40)))))
"""


def digests(numbers):
    """The sequences of every kind of examples, by kind and number."""
    corpus = made(30)
    kinds = {
        "blocks": Blocks(corpus, 64, TOKENIZER),
        "full": WholeSentences(corpus, 64, TOKENIZER, across_documents=True),
        "doc": WholeSentences(corpus, 64, TOKENIZER, across_documents=False),
        "random": Pairs(corpus, 64, TOKENIZER, seed=3),
        "swapped": Pairs(corpus, 64, TOKENIZER, kind="swapped", seed=3),
    }
    return {
        f"{kind} {number}": [np.asarray(part).tolist() for part in examples.sequence(2, number)]
        for number in numbers
        for kind, examples in kinds.items()
    }


def test_another_process_asking_in_another_order_makes_the_same_examples():
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, cwd=Path(__file__).parent, check=True
    )
    assert json.loads(done.stdout) == digests(range(40))


# -- put together by name


def corpus_of(tmp_path, documents, name="corpus"):
    return prepare(documents, tiny.tokenizer(), tmp_path / name)


@pytest.fixture
def corpus(tmp_path):
    return corpus_of(tmp_path, ["The red river. The old bridge. A book."] * 4)


@pytest.mark.parametrize("objective", ["sop", "mlm+sop"])
@pytest.mark.parametrize("sequences", ["full-sentences", "doc-sentences"])
def test_pairs_are_cut_in_their_own_way(objective, sequences, corpus):
    with pytest.raises(BothwaysError, match=f"pairs of texts, which cannot be {sequences}"):
        recipe(ObjectiveSettings(objective=objective, sequences=sequences, max_length=32), corpus)


def test_two_kinds_of_pairs_do_not_go_together(corpus):
    with pytest.raises(BothwaysError, match="nsp and sop want different pairs"):
        recipe(ObjectiveSettings(objective="nsp+sop", max_length=32), corpus)


def test_sentence_order_composes_with_masked_tokens(corpus):
    alone = recipe(ObjectiveSettings(objective="sop", max_length=32), corpus)
    assert alone.heads == ("sop",)
    assert alone.together.measured == ("loss", "loss.sop", "accuracy.sop")
    both = recipe(ObjectiveSettings(objective="mlm+sop", max_length=32), corpus)
    assert both.heads == ("mlm", "sop")
    keys = [(0, 0), (0, 1)]
    examples = [both.examples.sequence(*key) for key in keys]
    batch = make_batch([one.token_ids for one in examples], [one.segment_ids for one in examples])
    _, targets = both.finish(batch, [keys[row] for row in batch.rows], [examples[row] for row in batch.rows], 0.0)
    assert targets["sop.labels"].tolist() == [examples[row].label for row in batch.rows]
    assert len(targets["mlm.places"])


def test_documents_of_single_sentences_are_refused_by_name(tmp_path):
    lines = corpus_of(tmp_path, ["A red river.", "The old bridge."])
    for objective in ("nsp", "sop"):
        with pytest.raises(BothwaysError, match=r"documents of two sentences or more .* only where a document ends"):
            recipe(ObjectiveSettings(objective=objective, max_length=32), lines)
    single = corpus_of(tmp_path, ["A red river. The old bridge."], "single")
    with pytest.raises(BothwaysError, match=r"at least two documents .* separate documents by blank lines"):
        recipe(ObjectiveSettings(objective="nsp", max_length=32), single)
    assert len(recipe(ObjectiveSettings(objective="sop", max_length=32), single).examples) == 1
