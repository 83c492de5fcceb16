"""Texts longer than the model: what each policy keeps, and that nothing is lost silently."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Truncation, cut, longest_first

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NUMBERS = [str(number) for number in range(1000)]


@pytest.fixture(scope="module")
def numbers():
    """A tokenizer whose tokens are the numbers 0 .. 999, so that what is kept can be read."""
    return Tokenizer.from_vocabulary([*SPECIALS, *NUMBERS], Normalization())


@pytest.fixture(scope="module")
def theirs():
    from transformers import BertTokenizer

    return BertTokenizer({token: place for place, token in enumerate([*SPECIALS, *NUMBERS])})


def count_to(n, start=0):
    return " ".join(str(number) for number in range(start, start + n))


def read(encoded, place):
    """The numbers that a sequence holds, special tokens left out."""
    ids = encoded.sequence(place)
    return [int(token) - len(SPECIALS) for token in ids if token >= len(SPECIALS)]


def test_warn_cuts_the_end_and_says_once_how_much(numbers):
    texts = [count_to(5), count_to(30), count_to(20)]
    with pytest.warns(BothwaysWarning) as caught:
        encoded = numbers.encode(texts, max_length=12)
    assert len(caught) == 1
    for part in ("2 of 3 texts", "30 of 55 tokens", "12 tokens", "max length", "window", "head_tail", "error"):
        assert part in str(caught[0].message), part
    assert caught[0].filename == __file__
    assert encoded.truncation == Truncation(texts=2, tokens=30, all_texts=3, all_tokens=55)
    assert [read(encoded, place) for place in range(3)] == [list(range(5)), list(range(10)), list(range(10))]
    assert encoded.lengths.tolist() == [7, 12, 12]


def test_nothing_is_said_when_nothing_is_cut(numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = numbers.encode([count_to(10), count_to(3)], max_length=12)
        assert encoded.truncation == Truncation(0, 0, 2, 13)
        assert numbers.encode([count_to(900)]).lengths.tolist() == [902]


def test_head_cuts_without_a_warning_but_counts(numbers):
    encoded = numbers.encode([count_to(30)], max_length=12, truncation="head")
    assert read(encoded, 0) == list(range(10))
    assert encoded.truncation == Truncation(1, 20, 1, 30)


def test_error_names_the_first_text_its_length_and_the_policies(numbers):
    with pytest.raises(BothwaysError, match=r"text 1 has 30 tokens where 10 fit.*1 others here are.*window"):
        numbers.encode([count_to(10), count_to(30), count_to(11)], max_length=12, truncation="error")
    assert len(numbers.encode([count_to(10)], max_length=12, truncation="error")) == 1


def test_error_counts_texts_over_all_slices(numbers, monkeypatch):
    monkeypatch.setattr("bothways.text.tokenizer.SLICE_TEXTS", 2)
    with pytest.raises(BothwaysError, match="text 5 has 30 tokens"):
        numbers.encode(["1"] * 5 + [count_to(30)], max_length=12, truncation="error")


def test_head_tail_keeps_the_published_proportion(numbers):
    encoded = numbers.encode([count_to(900), count_to(510)], max_length=512, truncation="head_tail")
    assert read(encoded, 0) == list(range(128)) + list(range(900 - 382, 900))
    assert read(encoded, 1) == list(range(510))
    assert encoded.truncation == Truncation(1, 390, 2, 1410)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_head_tail_keeps_exactly_what_fits(length, room, other):
    first, second = np.array([length]), np.array([other])
    for pair in (None, second):
        kept = cut(first, pair, room, "head_tail")
        runs = kept.first.lengths.sum() + (0 if kept.second is None else kept.second.lengths.sum())
        total = length + (0 if pair is None else other)
        assert runs == min(total, room)
        assert kept.truncation.tokens == total - runs
        assert (kept.first.starts + kept.first.lengths).max() <= length


def test_longest_first_equals_transformers_id_by_id(numbers, theirs):
    lengths = [0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 20]
    texts = [count_to(a) for a in lengths for _ in lengths]
    pairs = [count_to(b, 500) for _ in lengths for b in lengths]
    for max_length in (4, 5, 6, 9, 10, 13, 16):
        encoded = numbers.encode(texts, pairs, max_length=max_length, truncation="head")
        wanted = theirs(texts, pairs, truncation=True, max_length=max_length)
        for place, ids in enumerate(wanted["input_ids"]):
            assert encoded.sequence(place).tolist() == ids, (texts[place], pairs[place], max_length)
            here = slice(encoded.starts[place], encoded.starts[place + 1])
            assert encoded.segment_ids[here].tolist() == wanted["token_type_ids"][place]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_longest_first_takes_token_after_token_from_the_longer_text(first, second, room):
    kept_first, kept_second = longest_first(np.array([first]), np.array([second]), room)
    a, b = first, second
    while a + b > room:
        if a > b or (a == b and first < second):
            a -= 1
        elif b > a or first > second:
            b -= 1
        else:
            a -= 1  # equal from the start: the odd token stays with the second
    assert (int(kept_first[0]), int(kept_second[0])) == (a, b)


@pytest.mark.parametrize("overlap", [None, 0, 1, 4, 7])
def test_windows_equal_the_overflow_of_transformers(numbers, theirs, overlap):
    lengths = [0, 1, 7, 8, 9, 10, 15, 16, 17, 40, 100]
    texts = [count_to(n) for n in lengths]
    stride = 2 if overlap is None else overlap  # a quarter of eight
    encoded = numbers.encode(texts, max_length=10, truncation="window", overlap=overlap, offsets=True)
    wanted = theirs(texts, truncation=True, max_length=10, stride=stride, return_overflowing_tokens=True)
    assert [encoded.sequence(place).tolist() for place in range(len(encoded))] == wanted["input_ids"]
    assert encoded.texts.tolist() == list(wanted["overflow_to_sample_mapping"])
    offsets = [pair for encoding in wanted.encodings for pair in encoding.offsets]
    assert [tuple(pair) for pair in encoded.offsets.tolist()] == offsets
    split = sum(length > 8 for length in lengths)
    assert encoded.truncation == Truncation(0, 0, len(texts), sum(lengths), split)


def test_windows_over_a_pair_equal_only_second_of_transformers(numbers, theirs):
    texts = [count_to(n, 500) for n in (0, 3, 5, 2)]
    pairs = [count_to(n) for n in (40, 40, 5, 9)]
    encoded = numbers.encode(texts, pairs, max_length=16, truncation="window", overlap=3)
    wanted = theirs(texts, pairs, truncation="only_second", max_length=16, stride=3, return_overflowing_tokens=True)
    assert [encoded.sequence(place).tolist() for place in range(len(encoded))] == wanted["input_ids"]
    assert encoded.texts.tolist() == list(wanted["overflow_to_sample_mapping"])
    assert encoded.segment_ids.tolist() == np.concatenate(wanted["token_type_ids"]).tolist()


@given(st.lists(st.integers(0, 90), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 19))
@settings(max_examples=100, deadline=None)
def test_windows_cover_every_token_and_share_the_overlap(lengths, room, overlap):
    overlap = min(overlap, room - 1)
    kept = cut(np.array(lengths), None, room, "window", overlap)
    assert sorted(set(kept.texts.tolist())) == list(range(len(lengths)))
    for place, length in enumerate(lengths):
        rows = np.flatnonzero(kept.texts == place)
        begins, sizes = kept.first.starts[rows, 0], kept.first.lengths[rows, 0]
        assert sizes.max() <= room
        seen = np.concatenate([np.arange(a, a + n) for a, n in zip(begins, sizes, strict=True)])
        assert sorted(set(seen.tolist())) == list(range(length))
        assert (begins[:-1] + sizes[:-1] - begins[1:] == overlap).all()


def test_a_first_text_that_leaves_no_room_for_windows_is_named(numbers):
    with pytest.raises(BothwaysError, match="pair 1 has 13 tokens"):
        numbers.encode(["1", count_to(13)], ["2", count_to(20)], max_length=16, truncation="window")
    short = numbers.encode([count_to(13)], [""], max_length=16, truncation="window")
    assert read(short, 0) == list(range(13))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": "windows"}, r"did you mean 'window'"),
        ({"max_length": 2}, "no room for text beside 2 special tokens"),
        ({"max_length": 10, "truncation": "window", "overlap": 8}, "overlap 8 should be"),
        ({"max_length": 10, "truncation": "window", "overlap": -1}, "overlap -1 should be"),
        ({"max_length": 10, "truncation": "window", "stride": 0}, "stride 0 should be .* say overlap=0"),
        ({"max_length": 10, "truncation": "window", "stride": -2}, "stride -2 should be"),
        ({"max_length": 10, "truncation": "window", "stride": 3, "overlap": 2}, "stride 3 and overlap 2"),
    ],
)
def test_wrong_options_are_refused(numbers, options, message):
    with pytest.raises(BothwaysError, match=message):
        numbers.encode(["1"], **options)


@pytest.mark.parametrize("policy", ["head", "head_tail", "window"])
@pytest.mark.parametrize("special_tokens", [True, False])
def test_no_sequence_is_longer_than_asked(numbers, policy, special_tokens):
    texts = [count_to(n) for n in range(0, 60, 7)]
    options = {"max_length": 11, "truncation": policy, "special_tokens": special_tokens}
    assert numbers.encode(["7 8 9"] * len(texts), texts, **options).lengths.max() == 11
    assert numbers.encode(texts, **options).lengths.max() == 11
