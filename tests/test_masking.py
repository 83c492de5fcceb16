"""What is masked: tokens, whole words and spans, how many of them, and what stands in their places."""

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
from bothways.learn.objectives import units
from bothways.learn.objectives.masking import BERT, ELECTRA, Masking, masking_of
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.objectives.units import LONGEST_SPAN, SPAN_LENGTHS
from bothways.text.spelling import Edges, Spelling
from bothways.text.tokenizer import Tokenizer
from shared import SHARED, needs_shared

CLS, SEP, MASK, SPECIAL, WHOLE, VOCABULARY = 2, 3, 4, 5, 300, 500
"""Tokens from SPECIAL on begin words, those from WHOLE on go on with the word before them."""
BEGINS = np.arange(VOCABULARY) < WHOLE
EDGES = Edges(BEGINS, np.arange(VOCABULARY) < SPECIAL)
UNITS = ("token", "word", "span")


def masking(unit="token", **changes):
    ordinary = np.arange(SPECIAL, VOCABULARY)
    return Masking(**{"mask_id": MASK, "ordinary": ordinary, "seed": 7, "unit": unit, "edges": EDGES, **changes})


def text(words, draw):
    """Words of one token to four, one in ten of up to twelve."""
    lengths = np.where(draw.random(words) < 0.1, draw.integers(5, 13, words), draw.integers(1, 5, words))
    tokens = draw.integers(WHOLE, VOCABULARY, lengths.sum())
    tokens[np.cumsum(lengths) - lengths] = draw.integers(SPECIAL, WHOLE, words)
    return np.concatenate(([CLS], tokens, [SEP]))


def batch_of(count, words=60, seed=0):
    draw = np.random.default_rng(seed)
    return make_batch([text(words, draw) for _ in range(count)])


def keys_of(batch, epoch=0):
    return [(epoch, int(row)) for row in batch.rows]


def applied(of, batch, epoch=0, progress=0.0):
    return of.apply(batch, keys_of(batch, epoch), progress)


def word_numbers(batch):
    """``(T,)`` the number of the word of each token, counted over the batch; special tokens have their own."""
    return np.cumsum(BEGINS[batch.token_ids])


def chosen_per_sequence(batch, places):
    return np.bincount(batch.sequence_of_token[places], minlength=batch.sequences)


# -- units


def test_words_begin_where_tokens_say_so_and_behind_special_tokens():
    sequence = [CLS, 9, 301, 302, 10, SEP, 303, 304, 11, SEP]
    batch = make_batch([sequence, [305, 9]])  # the second has no special tokens, and begins inside a word
    maskable = batch.token_ids >= SPECIAL
    found = units.words(batch, maskable, EDGES)
    assert found.starts.tolist() == [0, 1, 3, 6, 8, 10]
    assert found.lengths.tolist() == [1, 1, 3, 1, 2, 1]


def test_a_word_begins_behind_a_token_that_ends_one():
    ends = EDGES.ends.copy()
    ends[[9, 301]] = True
    batch = make_batch([[CLS, 9, 302, 301, 303, 304, SEP]])
    found = units.words(batch, batch.token_ids >= SPECIAL, Edges(BEGINS, ends))
    assert found.starts.tolist() == [1, 2, 4]
    assert found.lengths.tolist() == [1, 2, 2]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 40))
def test_units_hold_every_ordinary_token_once_and_words_are_whole(seed, count, words):
    batch = batch_of(count, words, seed)
    maskable = batch.token_ids >= SPECIAL
    chance = np.random.default_rng(seed).random(batch.tokens)
    whole = units.words(batch, maskable, EDGES)
    for found in (units.tokens(maskable), whole, units.spans(batch, whole, chance, 0.15)):
        covered = np.concatenate([np.arange(a, a + n) for a, n in zip(*found, strict=True)])
        assert np.array_equal(covered, np.flatnonzero(maskable))
    assert set(units.spans(batch, whole, chance, 0.15).starts) <= set(whole.starts)


def test_span_lengths_are_geometric_up_to_ten_words():
    """Over 200,000 spans, without those that a special token cut short; and 3.8 words in the mean, as in the paper."""
    shares = SPAN_LENGTHS
    assert np.allclose(shares[1:] / shares[:-1], 0.8)
    assert shares.sum() == pytest.approx(1)
    assert (shares * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.01)
    batch = batch_of(50, 16_000)
    whole = units.words(batch, batch.token_ids >= SPECIAL, EDGES)
    found = units.spans(batch, whole, np.random.default_rng(0).random(batch.tokens), 0.15)
    first = np.searchsorted(whole.starts, found.starts)
    lengths = np.diff(np.append(first, len(whole.starts)))
    cut = np.isin(batch.token_ids[found.starts + found.lengths], [SEP])
    lengths = lengths[~cut]
    assert len(lengths) > 200_000
    assert cut.sum() == 50
    histogram = np.bincount(lengths, minlength=LONGEST_SPAN + 1)
    assert len(histogram) == LONGEST_SPAN + 1
    assert histogram[0] == 0
    expected = SPAN_LENGTHS * len(lengths)
    assert (np.abs(histogram[1:] - expected) < 4 * np.sqrt(expected)).all()


# -- which are chosen


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_rate_holds_and_one_unit_at_most_lies_over_it(unit, rate):
    batch = batch_of(3000)
    places = applied(masking(unit, rate=rate), batch).places
    assert (np.diff(places) > 0).all(), "ascending, none twice"
    chosen = chosen_per_sequence(batch, places)
    wanted = np.rint(rate * (batch.lengths - 2))
    longest = {"token": 1, "word": 12, "span": 12 * LONGEST_SPAN}[unit]
    assert (chosen - wanted < longest).all()
    assert (wanted - chosen < longest).all()
    assert unit != "token" or (chosen == wanted).all()
    # Sequences are off by as much as an arc cuts units; in the mean, by nothing.
    error = (chosen - wanted).std() / np.sqrt(len(chosen))
    assert abs((chosen - wanted).mean()) <= 4 * error
    assert chosen.sum() / (batch.tokens - 2 * batch.sequences) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("unit", UNITS)
def test_every_token_is_chosen_alike_wherever_it_stands_and_however_long_its_word(unit):
    batch = batch_of(4000)
    places = applied(masking(unit), batch).places
    hit = np.zeros(batch.tokens, dtype=bool)
    hit[places] = True
    ordinary = batch.token_ids >= SPECIAL
    assert not hit[~ordinary].any()
    numbers = word_numbers(batch)
    length = np.bincount(numbers)[numbers]
    share = batch.positions / np.repeat(batch.lengths, batch.lengths)
    groups = [length == 1, length == 3, length > 8]
    groups += [(share >= begin) & (share < begin + 0.1) for begin in (0.0, 0.02, 0.45, 0.9)]
    per_unit = {"token": 1, "word": 8, "span": 40}[unit]  # tokens that are chosen together, at most about so many
    for group in groups:
        here = hit[group & ordinary]
        assert len(here) > 30_000
        assert abs(here.mean() - 0.15) < 4 * np.sqrt(0.15 * 0.85 * per_unit / len(here))


@pytest.mark.parametrize("unit", ["word", "span"])
def test_words_are_never_split(unit):
    batch = batch_of(300)
    found = applied(masking(unit), batch)
    hit = np.zeros(batch.tokens, dtype=bool)
    hit[found.places] = True
    per_word = np.bincount(word_numbers(batch), hit)
    size = np.bincount(word_numbers(batch))
    assert set(np.unique(per_word / np.maximum(size, 1))) == {0.0, 1.0}
    tokens = applied(masking("token"), batch)
    hit[:] = False
    hit[tokens.places] = True
    assert len(np.unique(np.bincount(word_numbers(batch), hit)[1:] / size[1:])) > 5, "as tokens alone would split them"


def test_spans_are_longer_than_words_by_chance_would_be():
    batch = batch_of(200, 200)

    def runs(unit):
        numbers = np.unique(word_numbers(batch)[applied(masking(unit), batch).places])
        return len(numbers) / (1 + (np.diff(numbers) > 1).sum())

    assert 1.1 < runs("word") < 1.3
    assert 3.8 < runs("span") < 5


def test_a_word_longer_than_all_that_may_be_masked_is_masked_sometimes():
    """Whole, with the probability of the rate: one time in seven."""
    batch = make_batch([[CLS, 9, *range(301, 341), SEP]])
    counts = [len(applied(masking("word"), batch, epoch).places) for epoch in range(2000)]
    assert set(counts) == {0, 41}
    assert np.mean(np.array(counts) > 0) == pytest.approx(6 / 41, abs=0.03)


def test_spans_of_short_sequences_are_short():
    """No longer than the words that the rate asks for: 3 of 20, and never none."""
    whole = make_batch([np.concatenate(([CLS], np.arange(SPECIAL, SPECIAL + n), [SEP])) for n in (4, 20)])
    counts = {0: set(), 1: set()}
    for epoch in range(300):
        chosen = chosen_per_sequence(whole, applied(masking("span"), whole, epoch).places)
        for row in whole.rows:
            counts[int(row)].add(int(chosen[row]))
    assert counts == {0: {1}, 1: {1, 2, 3, 4, 5}}


# -- what becomes of them


def shares(of, batch):
    """The shares of [MASK], of other tokens and of the old ones, by whatever chance, among the chosen."""
    found = applied(of, batch)
    now = found.batch.token_ids[found.places]
    assert np.array_equal(batch.token_ids[found.places], found.labels)
    untouched = np.delete(found.batch.token_ids, found.places)
    assert np.array_equal(untouched, np.delete(batch.token_ids, found.places))
    return (now == MASK).mean(), ((now != MASK) & (now != found.labels)).mean(), (now == found.labels).mean()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("actions", [BERT, ELECTRA])
def test_actions_have_their_shares(unit, actions):
    batch = batch_of(2500, 200)
    masked, random, kept = shares(masking(unit, actions=actions), batch)
    assert masked == pytest.approx(actions.mask, abs=0.006)
    assert random == pytest.approx(actions.random, abs=0.006)
    assert kept == pytest.approx(actions.keep, abs=0.006)
    assert (actions.random == 0) == (random == 0)


def test_actions_are_decided_for_a_token_or_for_a_whole_span():
    """Neighbours within a span share their action; within a word, and in different spans, they do not."""
    batch = batch_of(2000, 100)
    agreements = {}
    for unit in UNITS:
        of = masking(unit)
        found = applied(of, batch)
        now = found.batch.token_ids[found.places]
        action = np.where(now == MASK, 0, np.where(now == found.labels, 2, 1))
        beside = np.diff(found.places) == 1
        within = beside & (~BEGINS[batch.token_ids[found.places[1:]]])  # the same word, so the same unit but for tokens
        agreements[unit] = (action[1:] == action[:-1])[within].mean()
        if unit == "span":
            random = now[action == 1]
            assert len(np.unique(random)) == VOCABULARY - SPECIAL, "each token of a span has a random one of its own"
    by_chance = 0.8**2 + 0.1**2 + 0.1**2
    assert agreements["token"] == pytest.approx(by_chance, abs=0.02)
    assert agreements["word"] == pytest.approx(by_chance, abs=0.02)
    assert agreements["span"] > 0.995, "but where a random token happens to be the old one"


def test_the_rate_goes_evenly_to_its_end():
    of = masking(rate=0.4, rate_end=0.1)
    batch = batch_of(400)
    ordinary = batch.tokens - 2 * batch.sequences
    for progress, rate in ((0.0, 0.4), (0.5, 0.25), (1.0, 0.1)):
        assert of.rate_at(progress) == pytest.approx(rate)
        assert len(applied(of, batch, progress=progress).places) / ordinary == pytest.approx(rate, abs=0.003)


# -- the same whoever asks


@pytest.mark.parametrize("unit", UNITS)
def test_an_example_is_masked_alike_in_any_batch_and_anew_in_each_epoch(unit):
    draw = np.random.default_rng(0)
    sequences = [text(int(draw.integers(1, 80)), draw) for _ in range(50)]
    of = masking(unit)

    def by_key(chosen, epoch=0):
        batch = make_batch([sequences[place] for place in chosen])
        found = of.apply(batch, [(epoch, chosen[row]) for row in batch.rows])
        parts = np.split(found.batch.token_ids, batch.starts[1:-1])
        return {chosen[row]: part.tolist() for row, part in zip(batch.rows, parts, strict=True)}

    together = by_key(range(50))
    assert by_key(range(49, -1, -1)) == together
    for place in (0, 17, 49):
        assert by_key([place])[place] == together[place]
    later = by_key(range(50), epoch=1)
    assert sum(later[place] == together[place] for place in range(50)) < 10


ASKED = """
import json, sys
import test_masking as here
from bothways.batch import make_batch

batch = here.batch_of(20)
found = {unit: here.applied(here.masking(unit), batch, 3) for unit in here.UNITS}
print(json.dumps({unit: [one.places.tolist(), one.batch.token_ids.tolist()] for unit, one in found.items()}))
"""


def test_another_process_makes_the_same_masks():
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, cwd=Path(__file__).parent, check=True
    )
    batch = batch_of(20)
    found = {unit: applied(masking(unit), batch, 3) for unit in UNITS}
    assert json.loads(done.stdout) == {
        unit: [one.places.tolist(), one.batch.token_ids.tolist()] for unit, one in found.items()
    }


# -- with tokenizers


def read_words(tokenizer, written):
    """The words of a text as masking sees them, without spaces that are tokens."""
    ids = tokenizer.encode(written).token_ids
    batch = make_batch([ids])
    maskable = ~np.isin(ids, list(tokenizer.special_ids))
    found = units.words(batch, maskable, tokenizer.word_edges)
    read = [tokenizer.decode(ids[a : a + n]).replace(" ", "").lower() for a, n in zip(*found, strict=True)]
    return [word for word in read if word]


WRITTEN = "The unbelievable antidisestablishmentarians, in 1984: (oh!) went-away; naive works."
WORDS = ["the", "unbelievable", "antidisestablishmentarians", "in", "1984", "oh", "went", "away", "naive", "works"]


def check_words(tokenizer):
    """Words are whole, and punctuation is with none of them."""
    assert len(tokenizer.encode(WRITTEN).token_ids) > len(WORDS) + 8, "some are cut up"
    read = read_words(tokenizer, WRITTEN)
    assert [word for word in read if any(letter.isalnum() for letter in word)] == WORDS
    assert "".join(read) == WRITTEN.replace(" ", "").lower()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_are_found_with_tokenizers_of_every_kind(kind):
    texts = [f"{WRITTEN} ï é", *tiny.sentences(300)]
    check_words(bw.train_tokenizer(texts, vocab_size=350, kind=kind, strip_accents=False, min_frequency=4))


PUBLISHED = ("bert-base-uncased", "roberta-base", "modernbert-base", "albert-base-v2", "mpnet")


@needs_shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_words_are_found_with_published_tokenizers(name):
    check_words(Tokenizer.load(SHARED / "tokenizers" / name))


@needs_shared
def test_scripts_without_spaces_are_not_one_long_word():
    tokenizer = Tokenizer.load(SHARED / "tokenizers" / "xlm-roberta")
    check_words(tokenizer)
    for written in ("今天天气很好我们去公园散步吧", "วันนี้อากาศดีมากเราไปเดินเล่นกัน", "きょうはとても天気がいい"):
        ids = tokenizer.encode(written, special_tokens=False).token_ids
        assert len(read_words(tokenizer, written)) >= len(ids) - 2


@pytest.mark.parametrize(
    ("spelling", "token", "edges"),
    [
        (Spelling("spaces", "▁"), "▁the", (True, False)),
        (Spelling("spaces", "▁"), "ing", (False, False)),
        (Spelling("spaces", "▁"), "s.", (False, True)),
        (Spelling("spaces", "▁"), "天气", (True, True)),
        (Spelling("spaces", "▁"), "ि", (False, False)),  # a vowel sign belongs to its letter
        (Spelling("bytes", "Ġ"), "Ġ(", (True, True)),
        (Spelling("bytes", "Ġ"), "'t", (True, False)),
        (Spelling("bytes", "Ġ"), "Ã", (False, False)),  # the first byte of "é"
        (Spelling("continued", "##"), "##天", (False, False)),  # as marked by who segmented the words
        (Spelling("continued", "##"), "天", (True, False)),
    ],
)
def test_tokens_say_where_words_begin_and_end(spelling, token, edges):
    assert spelling.edges(token) == edges


def test_part_of_a_character_goes_on_with_its_word():
    tokenizer = bw.train_tokenizer([tiny.KNOWN], vocab_size=300, kind="bpe", strip_accents=False)
    assert read_words(tokenizer, "the naïve café") == ["the", "naïve", "café"]


def test_a_tokenizer_whose_tokens_do_not_say_is_refused():
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.WordLevel({"<unk>": 0, "a": 1, "<mask>": 2, "<s>": 3, "</s>": 4}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters = Tokenizer(backend)
    assert masking_of(ObjectiveSettings(), letters).unit == "token"
    for unit in ("word", "span"):
        with pytest.raises(BothwaysError, match="do not say where words begin"):
            masking_of(ObjectiveSettings(mask_unit=unit), letters)


def test_the_settings_make_the_masking():
    tokenizer = tiny.tokenizer()
    usual = masking_of(ObjectiveSettings(seed=5), tokenizer)
    assert (usual.rate, usual.rate_end, usual.actions, usual.unit, usual.seed) == (0.15, None, BERT, "token", 5)
    assert usual.mask_id == tokenizer.mask_id
    assert set(range(tokenizer.size)) - set(usual.ordinary.tolist()) == set(tokenizer.special_ids)
    assert masking_of(ObjectiveSettings(), tokenizer, ELECTRA, 0.25).rate == 0.25
    other = masking_of(ObjectiveSettings(mask_rate=0.3, mask_rate_end=0.1, mask_unit="span"), tokenizer, ELECTRA, 0.25)
    assert (other.rate, other.rate_end, other.actions, other.unit) == (0.3, 0.1, ELECTRA, "span")
    assert sum(ELECTRA) == sum(BERT) == 1


def test_static_masks_cannot_change_their_rate():
    with pytest.raises(BothwaysError, match="static masks are made once"):
        ObjectiveSettings(static_masks=10, mask_rate_end=0.3)
