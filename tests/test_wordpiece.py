"""WordPiece training: equal to its definition, whatever the order of the words, and honest about what it cannot do."""

import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.text import word_counts as counting
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from bothways.text.train import fertility, train_tokenizer
from bothways.text.word_counts import count_words
from bothways.text.wordpiece import LONGEST_WORD, SCORES, SPECIAL_TOKENS, likelihood_gain, train_wordpiece

# ---- The definition, slowly: recount everything at every step ----


def spell(word):
    return [word[0], *("##" + character for character in word[1:])]


def runs_of_pairs(tokens):
    """The pairs of a word; a pair of equal tokens only where it does not overlap the one before."""
    taken_until = 0
    for i, (a, b) in enumerate(pairwise(tokens)):
        if a == b:
            if i < taken_until:
                continue
            taken_until = i + 2
        else:
            taken_until = 0
        yield a, b


def merge_in_word(tokens, pair, name):
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(name)
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def token_counts(words):
    counts = Counter()
    for tokens, count in words:
        for token in tokens:
            counts[token] += count
    return counts


def log_likelihood(words):
    counts = token_counts(words)
    total = counts.total()
    return math.fsum(n * math.log(n / total) for n in counts.values())


def by_definition(word_counts, *, size, special_tokens=SPECIAL_TOKENS, min_frequency=2, score="likelihood"):
    words = [(spell(word), count) for word, count in word_counts.items()]
    vocabulary = [*special_tokens, *sorted(token_counts(words))]
    while len(vocabulary) < size:
        tokens, pairs = token_counts(words), Counter()
        for spelt, count in words:
            for pair in runs_of_pairs(spelt):
                pairs[pair] += count
        ranked = []
        for (a, b), n in pairs.items():
            name = a + b[2:]
            if n < min_frequency or name in special_tokens or (name.startswith("##") and not a.startswith("##")):
                continue
            given = (np.array([x]) for x in (n, tokens[a], tokens[b], tokens.total(), a == b))
            ranked.append((-float(SCORES[score](*given)[0]), -n, a, b, name))
        if not ranked or (score == "likelihood" and min(ranked)[0] >= 0):
            break
        gain, _, a, b, name = min(ranked)
        before = log_likelihood(words)
        words = [(merge_in_word(spelt, (a, b), name), count) for spelt, count in words]
        if score == "likelihood":
            assert log_likelihood(words) - before == pytest.approx(-gain, rel=1e-6, abs=1e-6)
        vocabulary.append(name)
    return vocabulary


repetitive = st.text("ab", min_size=1, max_size=9)
mixed = st.text("abcd#é", min_size=1, max_size=7)
corpora = st.dictionaries(repetitive | mixed, st.integers(1, 40), min_size=1, max_size=25)


@settings(max_examples=250, deadline=None)
@given(corpora, st.integers(0, 30), st.integers(1, 4), st.sampled_from(sorted(SCORES)))
def test_training_equals_recounting_everything_at_every_step(words, merges, min_frequency, score):
    """And every step raises the log-likelihood by exactly its gain (checked inside the slow definition)."""
    alphabet = {token for word in words for token in spell(word)}
    asked = {"size": len(SPECIAL_TOKENS) + len(alphabet) + merges, "min_frequency": min_frequency, "score": score}
    vocabulary = train_wordpiece(words, **asked)
    assert vocabulary == by_definition(words, **asked)
    assert len(vocabulary) == len(set(vocabulary))


@pytest.mark.parametrize("score", sorted(SCORES))
def test_training_equals_recounting_on_english(score):
    words = count_words([re.__doc__, math.log1p.__doc__, random.__doc__, subprocess.__doc__])
    vocabulary = train_wordpiece(words, size=330, score=score)
    assert vocabulary == by_definition(words, size=330, score=score)
    assert len(vocabulary) == 330


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**7), st.booleans())
def test_the_gain_is_the_formula(n, more_a, more_b, others, same):
    a, b = (2 * n + more_a,) * 2 if same else (n + more_a, n + more_b)
    total = (a if same else a + b) + others

    def f(x):
        return x * math.log(x) if x else 0.0

    if same:
        terms = [f(n), f(a - 2 * n), -f(a), -f(total - n), f(total)]
    else:
        terms = [f(n), f(a - n), -f(a), f(b - n), -f(b), -f(total - n), f(total)]
    gain = likelihood_gain(np.array([n]), np.array([a]), np.array([b]), total, np.array([same]))
    assert gain[0] == pytest.approx(math.fsum(terms), rel=1e-6, abs=1e-14 * max(map(abs, terms)) + 1e-9)


def test_a_run_of_equal_letters_is_merged_from_the_left():
    """b ##a ##a ##a ##a holds the pair (##a, ##a) twice, not three times; then (##aa, ##aa) once."""
    vocabulary = train_wordpiece({"baaaa": 10, "caaaa": 10, "daaaa": 10}, size=13)
    assert vocabulary[len(SPECIAL_TOKENS) :] == ["##a", "b", "c", "d", "##aa", "##aaaa", "baaaa", "caaaa"]


def test_the_ratio_prefers_rare_pairs_and_likelihood_does_not():
    words = {"low": 50, "lower": 40, "newest": 60, "widest": 30, "qz": 2}
    likely, rare = (train_wordpiece(words, size=22, score=score) for score in ("likelihood", "ratio"))
    assert "qz" in rare
    assert "qz" not in likely


@given(corpora, st.randoms())
def test_the_order_of_the_words_does_not_matter(words, chance):
    items = list(words.items())
    chance.shuffle(items)
    assert train_wordpiece(dict(items), size=60) == train_wordpiece(words, size=60)


def test_another_hash_seed_gives_the_same_vocabulary():
    program = (
        "import bothways.progress, re, subprocess; bothways.progress.silent();"
        "from bothways.text.word_counts import count_words; from bothways.text.wordpiece import train_wordpiece;"
        "print(train_wordpiece(count_words([re.__doc__, subprocess.__doc__]), size=400))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


# ---- What is kept and what is left out ----


def test_special_tokens_come_first_then_the_alphabet_in_order_then_merges():
    vocabulary = train_wordpiece({"bab": 5, "cab": 3}, size=12, special_tokens=("[PAD]", "[UNK]"))
    assert vocabulary == ["[PAD]", "[UNK]", "##a", "##b", "b", "c", "##ab", "bab", "cab"]


def test_a_rare_pair_is_never_merged():
    assert train_wordpiece({"ab": 2, "cd": 3}, size=99, min_frequency=3)[len(SPECIAL_TOKENS) :] == [
        *("##b", "##d", "a", "c"),
        "cd",
    ]


def test_words_outside_the_alphabet_teach_nothing():
    words = {"ab": 10, "ba": 9, "abz": 8}
    with_limit = train_wordpiece(words, size=50, alphabet_limit=2)
    assert with_limit == train_wordpiece({"ab": 10, "ba": 9}, size=50)
    assert "##z" in train_wordpiece(words, size=50, alphabet_limit=3)


def test_equally_frequent_characters_leave_the_alphabet_in_a_fixed_order():
    kept = train_wordpiece({"d": 2, "c": 2, "b": 2, "a": 2}, size=50, alphabet_limit=2)
    assert kept[len(SPECIAL_TOKENS) :] == ["a", "b"]


def test_words_too_long_to_be_encoded_teach_nothing():
    words = {"abab": 10, "x" * LONGEST_WORD: 5}
    assert train_wordpiece({**words, "y" * (LONGEST_WORD + 1): 99}, size=30) == train_wordpiece(words, size=30)


def test_a_special_token_is_never_made_of_text():
    merged = train_wordpiece({"pad": 100}, size=50, special_tokens=("pad",))
    assert merged.count("pad") == 1
    assert merged.index("pad") == 0


def test_training_ends_when_no_merge_raises_the_likelihood(capsys):
    """Independent letters: nothing is gained by merging, so nothing is merged, and the progress line says why."""
    words = {a + b: 10 for a in "abcdefgh" for b in "abcdefgh"}
    assert len(train_wordpiece(words, size=1000)) == len(SPECIAL_TOKENS) + 16
    assert "no merge raises the likelihood, 1,000 asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"word_counts": {}}, "no word"),
        ({"word_counts": {"": 3, "a": 0}}, "no word"),
        ({"size": 8}, "ask for 9 or more"),
        ({"size": 0}, "size of a vocabulary must be 1 or more, not 0"),
        ({"min_frequency": 0}, "minimum frequency"),
        ({"alphabet_limit": 0}, "alphabet limit"),
        ({"alphabet_limit": 1}, "raise the alphabet limit"),
        ({"score": "likelyhood"}, "did you mean 'likelihood'"),
        ({"special_tokens": ("[PAD]", "[PAD]")}, r"'\[PAD\]' is given twice"),
        ({"special_tokens": ("",)}, "empty"),
        ({"special_tokens": ("b",)}, "'b' is also a character"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(changed, said):
    asked = {"word_counts": {"ab": 5, "ba": 5}, "size": 20} | changed
    with pytest.raises(BothwaysError, match=said):
        train_wordpiece(asked.pop("word_counts"), **asked)


# ---- Counting words ----

hard = st.lists(
    st.sampled_from(
        [
            *"abcXYZ,.!?$#+'-_ \t\n\r",
            *("\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\0", "\xad", "\ufffd", "\ufeff"),
            *("\u2028", "\u3000", "\u200b", "\u200d", "é", "e\u0301", "\u0301", "İ", "ẞ", "Σ", "ς", "中", "文", "か"),
            *("ｶﾞ", "👍🏽", "مرحبا", "שָׁ", "न्", "한", "ﬁ", "①", "—", "¿", "\U00020000"),
        ]
    )
    | st.characters(codec="utf-8"),
    max_size=30,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(hard, max_size=4),
    st.builds(
        Normalization,
        lowercase=st.booleans(),
        strip_accents=st.sampled_from([None, True, False]),
        chinese_characters=st.booleans(),
        clean_text=st.booleans(),
    ),
)
def test_counting_equals_normalising_and_splitting_the_whole_text(texts, normalization):
    expected = Counter(word for text in texts for word in normalization.words(text))
    assert count_words(texts, normalization) == expected


def test_counting_in_small_portions_changes_nothing(monkeypatch):
    texts = [re.__doc__, subprocess.__doc__, random.__doc__]
    whole = count_words(texts)
    monkeypatch.setattr(counting, "_WAITING_CHARACTERS", 100)
    assert count_words(iter(texts)) == whole


def test_normalisation_is_that_of_bert():
    assert Normalization().words("Crème  brûlée,\t中文!\x00") == ["creme", "brulee", ",", "中", "文", "!"]
    cased = Normalization(lowercase=False)
    assert cased.words("Crème Brûlée") == ["Crème", "Brûlée"]
    assert Normalization(strip_accents=False).words("CRÈME") == ["crème"]
    assert Normalization(chinese_characters=False).words("中文") == ["中文"]


def test_half_a_surrogate_pair_counts_as_the_encoder_reads_it():
    assert count_words(["fine not\ud800fine"]) == {"fine": 1, "notfine": 1}


def test_fertility_is_tokens_per_word():
    assert fertility(str.split, ["one two", "three"]) == 1.0
    assert fertility(lambda text: list(text.replace(" ", "")), ["ab cd", "ef"]) == 2.0
    with pytest.raises(BothwaysError, match="hold no word"):
        fertility(str.split, ["  "])


# ---- From text to a tokenizer ----

TEXTS = [re.__doc__, subprocess.__doc__, random.__doc__]


def test_a_trained_tokenizer_encodes_what_it_was_trained_on(tmp_path):
    tokenizer = train_tokenizer(TEXTS, vocab_size=600, out=tmp_path / "tokenizer")
    assert tokenizer.tokens == train_wordpiece(count_words(TEXTS), size=600)
    assert tokenizer.size == 600
    assert tokenizer.pad_id == 0
    encoded = tokenizer.encode(TEXTS)
    assert tokenizer.unk_id not in encoded.token_ids
    again = Tokenizer.load(tmp_path / "tokenizer")
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.encode(TEXTS).token_ids == encoded.token_ids).all()


def test_fertility_of_a_tokenizer_falls_as_its_vocabulary_grows():
    small, large = (train_tokenizer(TEXTS, vocab_size=size) for size in (200, 900))
    assert 1 <= fertility(large, TEXTS) < fertility(small, TEXTS)
    words = [word for text in TEXTS for word in Normalization().words(text)]
    pieces = sum(len(small.encode(word, special_tokens=False).token_ids) for word in words)
    assert fertility(small, TEXTS) == pytest.approx(pieces / len(words))


def test_the_settings_of_normalisation_reach_the_tokenizer(tmp_path):
    cased = train_tokenizer(["Crème Brûlée"] * 9, vocab_size=60, lowercase=False)
    assert "Crème" in cased.tokens
    assert cased.normalization == Normalization(lowercase=False)
    stripped = train_tokenizer(["Crème Brûlée"] * 9, vocab_size=60, lowercase=False, strip_accents=True)
    assert "Creme" in stripped.tokens


def test_reserved_tokens_are_found_in_text():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300, special_tokens=(*SPECIAL_TOKENS, "[ENTITY]"))
    assert tokenizer.tokens[5] == "[ENTITY]"
    encoded = tokenizer.encode("the [ENTITY] is", special_tokens=False)
    assert list(encoded.token_ids).count(5) == 1
    assert 5 in tokenizer.special_ids


def test_a_file_and_its_paragraphs_give_the_same_vocabulary(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("\n\n".join(TEXTS), encoding="utf-8")
    assert train_tokenizer(file, vocab_size=400).tokens == train_tokenizer(iter(TEXTS), vocab_size=400).tokens


def test_mistakes_in_training_are_told_before_the_text_is_read(tmp_path):
    def unread():
        raise AssertionError("the text was read")
        yield

    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "file").write_text("")
    for asked, said in [
        ({"kind": "word-piece"}, "no tokenizer of kind 'word-piece' to train, only wordpiece, bpe, unigram; did you"),
        ({"kind": "bpe", "score": "ratio"}, "score is a setting of wordpiece, not of bpe"),
        ({"kind": "unigram", "chinese_characters": False}, "a setting of wordpiece, not of unigram"),
        ({"kind": "bpe", "alphabet_limit": 9}, "a setting of wordpiece and unigram, not of bpe"),
        ({"score": "frequency"}, "unknown score 'frequency'"),
        ({"vocab_size": 0}, "must be 1 or more"),
        ({"special_tokens": ("[PAD]", "[CLS]", "[SEP]")}, "UNK"),
        ({"out": tmp_path}, "holds a tokenizer already"),
        ({"out": tmp_path, "overwrite": True}, r"more than a tokenizer \(file\)"),
        ({"out": tmp_path / "file"}, "is a file"),
    ]:
        with pytest.raises(BothwaysError, match=said):
            train_tokenizer(unread(), **asked)


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_an_empty_corpus_is_told(texts, tmp_path):
    with pytest.raises(BothwaysError, match="the source holds no text"):
        train_tokenizer(texts, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
