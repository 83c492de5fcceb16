"""What a corpus is like: as counted by hand, whole or from a sample; and repeated text is found wherever it stands."""

import math
from collections import Counter

import numpy as np
import pytest

import grammar
from bothways.learn import corpus_facts as module
from bothways.learn.corpus_facts import corpus_facts
from bothways.text.prepare import prepare

TOKENIZER = grammar.tokenizer(400)


def facts_of(texts, folder, tokenizer=TOKENIZER, **settings):
    return corpus_facts(prepare(texts, tokenizer, folder), **settings)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(grammar.documents(600, topics=30), TOKENIZER, tmp_path_factory.mktemp("facts") / "corpus")


def test_frequencies_are_those_counted_by_hand(corpus):
    facts = corpus_facts(corpus)
    counted = Counter(int(token) for number in range(corpus.documents) for token in corpus.document(number))
    shares = np.array([count for token, count in counted.items() if token not in TOKENIZER.special_ids])
    shares = shares / shares.sum()
    assert facts["unigram_loss"] == pytest.approx(-sum(share * math.log(share) for share in shares))
    assert facts["unigram_accuracy"] == pytest.approx(shares.max())
    assert facts["used"] == pytest.approx(len(counted) / (TOKENIZER.size - len(TOKENIZER.special_ids)))
    assert (facts["tokens"], facts["documents"], facts["sentences"]) == (
        corpus.tokens,
        corpus.documents,
        corpus.sentences,
    )
    assert facts["looked_at"] == corpus.tokens
    assert facts["document_tokens"] == corpus.tokens / corpus.documents
    assert facts["vocabulary"] == TOKENIZER.size
    assert (facts["unknown_share"], facts["tokens_per_word"]) == (0, 1)


def test_words_in_pieces_and_words_that_cannot_be_spelled(tmp_path):
    texts = grammar.documents(50)
    facts = facts_of(texts, tmp_path / "pieces", grammar.spelling_tokenizer())
    # a full stop is a word of its own
    plain = " ".join(texts).lower().replace(".", " .").split()
    tokens = sum(1 if set(word) - set(grammar.LETTERS + "aeo.") else len(word) for word in plain)
    assert facts["tokens_per_word"] == pytest.approx(tokens / len(plain))
    unknown = sum(1 for word in plain if set(word) - set(grammar.LETTERS + "aeo."))
    assert facts["unknown_share"] == pytest.approx(unknown / tokens)


@pytest.mark.parametrize("copies", [2, 5])
def test_documents_that_come_more_than_once_are_found(copies, tmp_path):
    texts = grammar.documents(300, topics=30)
    assert facts_of(texts, tmp_path / "once")["duplicate_share"] < 0.01
    draw = np.random.default_rng(1)
    again = [texts[place] for place in draw.permutation(np.repeat(np.arange(len(texts)), copies))]
    assert facts_of(again, tmp_path / "again")["duplicate_share"] > 0.99
    half = texts + texts[: len(texts) // 3]
    assert facts_of(half, tmp_path / "half")["duplicate_share"] == pytest.approx(0.5, abs=0.08)


def test_text_repeated_within_one_long_document_is_found(tmp_path):
    sentences = " ".join(grammar.documents(300, topics=30))
    assert facts_of([sentences], tmp_path / "once")["duplicate_share"] < 0.01
    odd = "The boda of gefo is in lema. " + sentences
    assert facts_of([f"{sentences} {odd}"], tmp_path / "twice")["duplicate_share"] > 0.98


def test_sentences_of_one_length_are_cut_into_blocks_too(tmp_path):
    draw = np.random.default_rng(0)
    words = [[grammar.word(number) for number in draw.choice(400, 6)] for _ in range(900)]
    sentences = [" ".join(chosen).capitalize() + "." for chosen in words]
    texts = [" ".join(sentences[at : at + 9]) for at in range(0, 900, 9)]
    assert facts_of(texts, tmp_path / "once")["duplicate_share"] < 0.01
    assert facts_of(texts + texts[50:], tmp_path / "again")["duplicate_share"] == pytest.approx(2 / 3, abs=0.05)


def test_a_sample_tells_what_the_whole_does(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_RUN", 1 << 10)
    texts = grammar.documents(3000, topics=30)
    corpus = prepare(texts + texts[:1000], TOKENIZER, tmp_path / "corpus", shard_tokens=10_000)
    whole, sample = corpus_facts(corpus), corpus_facts(corpus, most=corpus.tokens // 8)
    assert sample["looked_at"] <= corpus.tokens // 8 + 1024
    assert sample["unigram_loss"] == pytest.approx(whole["unigram_loss"], abs=0.1)
    assert sample["duplicate_share"] == pytest.approx(whole["duplicate_share"], abs=0.08)
    assert whole["duplicate_share"] == pytest.approx(0.5, abs=0.03)


def test_no_more_is_read_than_asked_for(corpus, monkeypatch):
    monkeypatch.setattr(module, "_RUN", 1 << 10)
    read = []
    whole = type(corpus).read
    monkeypatch.setattr(type(corpus), "read", lambda self, a, b: read.append(b - a) or whole(self, a, b))
    corpus_facts(corpus, most=2048)
    assert sum(read) < 3 * 2048
    assert max(read) <= 4096
