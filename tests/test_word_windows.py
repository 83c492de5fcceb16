"""Texts of words as tokens: no word is lost, each is decided once, where it is most central."""

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.text import word_windows
from bothways.text.train import train_tokenizer
from bothways.text.word_windows import encode_words
from bothways.text.words import joined, word_offsets

TOKENIZER = tiny.tokenizer()


def texts(count, longest, seed=0):
    """Texts of words of one to many tokens."""
    return [text.split() for text in tiny.sentences(count, seed=seed, longest=longest)]


def first_tokens(windows, tokenizer=TOKENIZER):
    return [tokenizer.tokens[token] for token in windows.encoded.token_ids[windows.places]]


@pytest.mark.parametrize(("max_length", "overlap"), [(None, None), (6, None), (12, 0), (12, 5), (30, 14), (40, 3)])
def test_each_word_is_decided_once_at_its_first_token(max_length, overlap):
    given = [*texts(40, 60), [], ["the"]]
    windows = encode_words(TOKENIZER, given, max_length, overlap)
    expected = [
        TOKENIZER.tokens[TOKENIZER.encode(word, special_tokens=False).token_ids[0]] for t in given for word in t
    ]
    assert first_tokens(windows) == expected
    assert np.diff(windows.edges).tolist() == [len(words) for words in given]
    text_of_word = np.repeat(np.arange(len(given)), np.diff(windows.edges))
    assert (windows.encoded.texts[windows.windows] == text_of_word).all()
    assert (np.diff(windows.windows) >= 0).all()
    if max_length is not None:
        assert windows.encoded.lengths.max() <= max_length
    every = np.concatenate([np.arange(windows.starts[n], windows.starts[n + 1]) for n in range(len(windows.encoded))])
    assert every.tolist() == list(range(len(expected)))


def test_short_texts_are_encoded_as_texts_are():
    given = texts(20, 12)
    windows = encode_words(TOKENIZER, given, 100)
    plain = TOKENIZER.encode([" ".join(words) for words in given])
    assert windows.encoded.token_ids.tolist() == plain.token_ids.tolist()
    assert windows.encoded.starts.tolist() == plain.starts.tolist()


def test_a_word_is_decided_by_the_window_whose_edges_are_farthest():
    """Recomputed from the windows themselves: where each word stands in every window that holds it."""
    words = ["the"] * 50  # a token a word
    windows = encode_words(TOKENIZER, [words], 12, 4)  # ten words a window, six further each time
    begins = [0, 6, 12, 18, 24, 30, 36, 42]
    assert windows.encoded.lengths.tolist() == [12] * 7 + [10]
    for word in range(50):
        edge = {
            number: min(word - begin if begin else 99, begin + 9 - word if begin + 10 < 50 else 99)
            for number, begin in enumerate(begins)
            if begin <= word < begin + 10
        }
        assert windows.windows[word] == max(edge, key=lambda number: (edge[number], -number))


def test_a_batch_finds_the_words_it_decides():
    windows = encode_words(TOKENIZER, texts(30, 50), 14)
    found = {}
    for batch in windows.encoded.batches(100):
        words, places = windows.decided(batch)
        found |= dict(zip(words.tolist(), batch.token_ids[places].tolist(), strict=True))
    assert [found[word] for word in range(len(windows.places))] == windows.encoded.token_ids[windows.places].tolist()


def test_words_that_leave_no_token_become_the_unknown_one():
    windows = encode_words(TOKENIZER, [["the", "\u200b\u00ad", "", "river"], ["\x00"], [" "]], 20)
    assert first_tokens(windows) == ["the", "[UNK]", "[UNK]", "river", "[UNK]", "[UNK]"]


def test_a_word_longer_than_a_window_keeps_its_beginning():
    windows = encode_words(TOKENIZER, [["the", "q" * 90, "red", "z" * 90, "town"]], 12)
    assert first_tokens(windows) == ["the", "q", "red", "z", "town"]
    assert windows.encoded.lengths.max() == 12


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_vocabularies_that_mark_beginnings_find_the_first_tokens_too(kind, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(tiny.sentences(300)))
    tokenizer = train_tokenizer(text, vocab_size=300, kind=kind, min_frequency=1)
    given = [["the", "old", "bridge", ",", "zzz", "stood"], ["1984"]]
    windows = encode_words(tokenizer, given, 200)
    text, offsets = joined(given[0])
    encoded = tokenizer.encode(text, offsets=True, special_tokens=False)
    ends = [0, *(end for _, end in offsets)]  # a space before a word may be a token, which is the word's first then
    first = [int(np.flatnonzero(encoded.offsets[:, 1] > before)[0]) for before in ends[:-1]]
    tokens = windows.encoded.token_ids[windows.places]
    assert tokens[:6].tolist() == encoded.token_ids[first].tolist()


def test_an_overlap_of_more_than_half_a_window_is_refused():
    with pytest.raises(BothwaysError, match="from 0 to half of the 10 tokens"):
        encode_words(TOKENIZER, [["the"]], 12, 6)
    with pytest.raises(BothwaysError, match="no room"):
        encode_words(TOKENIZER, [["the"]], 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, she said.", "Don ' t stop , she said ."),
        ("The U.N. paid $1,000.50 at 12:30.", "The U.N. paid $ 1,000.50 at 12:30 ."),
        ("北京 (Beijing)", "北 京 ( Beijing )"),
        ("नमस्ते  café\u0301\u00a0x", "नमस्ते café\u0301 x"),
        ("half \ud800 pair", "half \ud800 pair"),
        ("", ""),
    ],
)
def test_words_of_a_text_and_where_they_stand(text, words):
    assert [text[start:end] for start, end in word_offsets(text)] == words.split()


def test_words_by_white_space_alone():
    text = " Don't stop,\tshe said. "
    assert [text[start:end] for start, end in word_offsets(text, by_spaces=True)] == ["Don't", "stop,", "she", "said."]


def test_a_slice_at_a_time_gives_what_all_at_once_gives(monkeypatch):
    given = [*texts(30, 40), []]
    whole = encode_words(TOKENIZER, given, 14)
    monkeypatch.setattr(word_windows, "_SLICE", 7)
    sliced = encode_words(TOKENIZER, iter(given), 14)
    for name in ("edges", "places", "windows"):
        assert getattr(sliced, name).tolist() == getattr(whole, name).tolist()
    for name in ("token_ids", "starts", "texts"):
        assert getattr(sliced.encoded, name).tolist() == getattr(whole.encoded, name).tolist()
