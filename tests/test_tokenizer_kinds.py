"""Tokenizers of every kind: trained here, opened elsewhere, read back as plain words, and used by a model."""

import itertools
import json
import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.objectives.pairs import Pairs
from bothways.model.families import family
from bothways.run.answers import fill_in
from bothways.run.model import Model
from bothways.text.normalize import PlainNormalization
from bothways.text.prepare import prepare
from bothways.text.sentencepiece import unigram
from bothways.text.spelling import Reading
from bothways.text.tokenizer import Tokenizer
from bothways.text.train import SPECIALS, train_tokenizer
from bothways.text.unigram import _digamma, _lattice, _seeds, _words, expected, train_unigram
from bothways.text.word_counts import count_words
from shared import SHARED, needs_shared
from test_tokenizer import HARD, agree, random_texts

KINDS = list(SPECIALS)
TEXTS = [
    "The children were listening to the teacher, who was reading a book about the old house by the river.",
    "Café owners said: the naïve reader reads, re-reads and misreads everything in 1984 and 2024!",
    "Nobody listened. The reader's books lay unread; the houses stood empty, and it rained.",
    "我们在学校里读书。老师在学校里教书。",
    "Running, jumping, singing and dancing children danced through the houses of the old town.",
] * 3


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def trained(kind):
    return train_tokenizer(TEXTS, kind=kind, vocab_size=420)


# Training


def test_a_tokenizer_of_another_kind_is_replaced_where_that_is_wished(kind, trained, tmp_path):
    for before in KINDS:
        train_tokenizer(TEXTS, kind=before, vocab_size=400, out=tmp_path, overwrite=True)
    train_tokenizer(TEXTS, kind=kind, vocab_size=420, out=tmp_path, overwrite=True)
    assert Tokenizer.load(tmp_path).tokens == trained.tokens
    assert (tmp_path / "vocab.txt").exists() == (kind == "wordpiece")


def test_the_usual_special_tokens_come_first(kind, trained):
    assert tuple(trained.tokens[:5]) == SPECIALS[kind]
    assert set(trained.roles) == {"pad", "unk", "cls", "sep", "mask"}
    assert trained.special_ids == set(range(5))
    pair = trained.encode("the book", "the house")
    two = 0 if kind == "bpe" else 1
    assert pair.segment_ids.tolist() == [*np.where(pair.sources == 1, two, 0).tolist()[:-1], two]
    assert (pair.special.sum(), pair.token_ids[0]) == (4 if kind == "bpe" else 3, trained.cls_id)


def test_transformers_opens_what_was_trained_with_the_same_ids(kind, tmp_path):
    from transformers import AutoTokenizer

    for lowercase in (True, False):
        out = tmp_path / str(lowercase)
        ours = train_tokenizer(TEXTS, kind=kind, vocab_size=420, lowercase=lowercase, out=out)
        assert ours.lowercase is lowercase
        again = Tokenizer.load(out)
        assert (again.fingerprint, again.roles) == (ours.fingerprint, ours.roles)
        for model_type in ("bert", "roberta", "albert"):
            (out / "config.json").write_text(json.dumps({"model_type": model_type}))  # as in a model's folder
            theirs = AutoTokenizer.from_pretrained(out)
            agree(ours, theirs, HARD + random_texts(200))
            agree(ours, theirs, HARD, HARD[::-1])
        assert (theirs.mask_token_id, theirs.pad_token_id) == (ours.mask_id, ours.pad_id)


def test_the_same_words_give_the_same_vocabulary():
    """In another order, in another process."""
    program = (
        "import json, sys; from bothways.text.train import SPECIALS, train_tokenizer; texts = json.load(sys.stdin);"
        "print(*(train_tokenizer(texts, kind=kind, vocab_size=420).fingerprint for kind in SPECIALS))"
    )
    given = json.dumps(TEXTS[::-1])
    found = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [train_tokenizer(TEXTS, kind=kind, vocab_size=420).fingerprint for kind in KINDS]


def test_half_a_surrogate_pair_is_learned_from_as_the_encoder_reads_it(kind):
    halves, whole = ([*TEXTS, f"a reader{half}s book"] for half in ("\ud83d", "\ufffd"))
    made = train_tokenizer(halves, kind=kind, vocab_size=420)
    assert made.fingerprint == train_tokenizer(whole, kind=kind, vocab_size=420).fingerprint


def test_text_is_streamed(kind):
    def stream():
        for place in range(3000):
            yield f"{TEXTS[place % len(TEXTS)]} {place % 97}"

    wanted = train_tokenizer(list(stream()), kind=kind, vocab_size=420)
    tracemalloc.start()
    made = train_tokenizer(stream(), kind=kind, vocab_size=420)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.fingerprint == wanted.fingerprint
    assert peak < 400_000, "the texts alone are more"


def test_lower_case_and_accents_are_settings(kind):
    def knows(text, **settings):
        tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=420, **settings)
        return tokenizer.decode(tokenizer.encode(text).token_ids)

    assert knows("Café") == "cafe"
    assert knows("Café", strip_accents=False) == "café"
    assert knows("Café", lowercase=False) == "Café"
    assert knows("Café", lowercase=False, strip_accents=True) == "Cafe"


def test_decoding_gives_the_text_back(kind, trained):
    for text in ("the children were listening to the teacher", "nobody reads books in 1984!"):
        assert trained.decode(trained.encode(text).token_ids) == text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "bpe", "vocab_size": 260}, "cannot hold 5 special tokens and the 256 bytes: ask for 261 or more"),
        ({"kind": "unigram", "vocab_size": 30}, "cannot hold 5 special tokens and an alphabet of .*: ask for"),
        ({"kind": "unigram", "special_tokens": ["<pad>", "[CLS]", "[SEP]"]}, r"has no \[UNK\]|has no <unk>"),
        ({"kind": "bpe", "special_tokens": ["<s>", "<s>"]}, "given twice"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(asked, message):
    with pytest.raises(BothwaysError, match=message):
        train_tokenizer(TEXTS, **asked)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_an_empty_corpus_is_told(kind, texts):
    with pytest.raises(BothwaysError, match=r"there is no word to train|holds no text"):
        train_tokenizer(texts, kind=kind)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_other_special_tokens_bring_their_template_and_reserved_ones_are_found(kind):
    bert = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[NAME]")
    made = train_tokenizer(TEXTS, kind=kind, vocab_size=420, special_tokens=bert)
    assert made.encode("the", "book").segment_ids.tolist()[-1] == 1
    assert 5 in made.encode("the [NAME] book").token_ids
    roberta = train_tokenizer(TEXTS, kind=kind, vocab_size=420, special_tokens=SPECIALS["bpe"])
    assert roberta.encode("the", "book").special.sum() == 4


# Unigram's arithmetic, by hand


def cuts(word, scores):
    """Every way to cut a word into pieces, with its probability."""
    for count in range(len(word)):
        for places in itertools.combinations(range(1, len(word)), count):
            pieces = [word[a:b] for a, b in itertools.pairwise((0, *places, len(word)))]
            if all(piece in scores for piece in pieces):
                yield pieces, math.exp(sum(scores[piece] for piece in pieces))


def test_expected_counts_are_those_of_all_cuts():
    counts = {"▁abab": 3, "▁ab": 5, "▁ba": 2, "▁aaab": 1, "▁b1a": 4}
    words, characters = _words(counts, 100)
    at_LN, pieces_P2, _ = _seeds(words, 50, 1)
    texts = ["".join(characters[letter] for letter in words.letters[a : a + n]) for a, n in pieces_P2.tolist()]
    assert {"▁ab", "ab"} <= set(texts)
    assert not any("1" in text and len(text) > 1 for text in texts)  # pieces are of one kind of characters
    draw = np.random.default_rng(0)
    scores_P = np.log(draw.dirichlet(np.ones(len(texts))))
    scores = dict(zip(texts, scores_P.tolist(), strict=True))
    wanted = dict.fromkeys(texts, 0.0)
    for word, count in counts.items():
        ways = list(cuts(word, scores))
        total = sum(chance for _, chance in ways)
        for pieces, chance in ways:
            for piece in pieces:
                wanted[piece] += count * chance / total
    found = expected(words, _lattice(words, at_LN), scores_P)
    assert found == pytest.approx([wanted[text] for text in texts])


def test_digamma_is_the_derivative_of_the_logarithm_of_gamma():
    values = np.array([0.5, 1.0, 1.7, 30.0, 1e6])
    assert _digamma(values) == pytest.approx(torch.digamma(torch.from_numpy(values)).numpy(), abs=1e-8)


def test_frequent_words_become_pieces_and_rare_ones_are_cut():
    counts = {"▁reading": 500, "▁reader": 300, "▁read": 400, "▁singing": 200, "▁sing": 100, "▁dering": 1, "▁zeader": 1}
    pieces = dict(train_unigram(counts, size=24, special_tokens=["<unk>"]))
    assert len(pieces) <= 23
    assert {"▁reading", "▁reader", "▁read"} <= pieces.keys()
    assert "▁zeader" not in pieces
    assert set("▁readingszo") - set("o") <= pieces.keys()  # every character stays
    assert sum(math.exp(score) for score in pieces.values()) == pytest.approx(1, abs=0.1)
    backend = unigram(list(pieces.items()), SPECIALS["unigram"], PlainNormalization())
    assert backend.encode("reading zeader", add_special_tokens=False).tokens[0] == "▁reading"


def test_long_stretches_without_spaces_are_learned_from_too():
    counts = {"▁" + "老师教书" * 60: 1, "▁学校": 3}
    pieces = dict(train_unigram(counts, size=40, special_tokens=["<unk>"]))
    assert any(len(piece) > 1 and "师" in piece for piece in pieces)


def test_a_rare_character_cuts_a_stretch_and_takes_nothing_else_with_it():
    counts = {"▁老师教书罕老师教书": 3, "罕师": 2, "▁罕": 1, "▁老师教书鼗": 2, "鼗": 1}
    words, characters = _words(counts, 5)
    text = "".join(characters[letter] for letter in words.letters)
    read = [text[a : a + n] for a, n in zip(words.starts, words.lengths, strict=True)]
    found = sorted(zip(read, words.counts.tolist(), strict=True))
    assert found == [("▁", 1), ("▁老师教书", 2), ("▁老师教书", 3), ("师", 2), ("老师教书", 3)]
    pieces = dict(train_unigram(counts, size=20, special_tokens=["<unk>"], alphabet_limit=5))
    assert any(len(piece) > 1 and "师" in piece for piece in pieces)
    assert not any(rare in piece for piece in pieces for rare in "罕鼗")


def test_only_the_most_frequent_words_are_kept():
    counted = count_words(["b b b a a c d"] * 2, most=2)
    assert counted == {"b": 6, "a": 4}


# Published byte-level BPE


def letters_of_bytes():
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize("name", ["Roberta", "Deberta"])
def test_vocabularies_with_merges_agree_with_transformers(name, tmp_path):
    import transformers

    specials = {"Roberta": SPECIALS["bpe"], "Deberta": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")}[name]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("c", "a"), ("Ġ", "ca"), ("Ġca", "t")]
    listed = [*specials, *letters_of_bytes(), *("".join(pair) for pair in merges)]
    vocabulary = {token: place for place, token in enumerate(listed)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n")
    ours = Tokenizer.load(tmp_path)
    theirs = getattr(transformers, f"{name}Tokenizer")(vocab=vocabulary, merges=merges)
    theirs.backend_tokenizer.add_special_tokens([_greedy(theirs.mask_token)])
    agree(ours, theirs, HARD + random_texts(300))
    cls, sep = ours.cls_id, ours.sep_id
    the, cat = ours.encode("the").token_ids[1], ours.vocabulary["Ġcat"]
    pair = ours.encode("the", " cat")
    if name == "Roberta":
        agree(ours, theirs, HARD, HARD[::-1])
        assert pair.token_ids.tolist() == [cls, the, sep, sep, cat, sep]
        assert not pair.segment_ids.any()
    else:  # the published one; its class in transformers 5 sets two [SEP] and one segment
        assert pair.token_ids.tolist() == [cls, the, sep, cat, sep]
        assert pair.segment_ids.tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(BothwaysError, match="byte-level BPE, which keeps capitals"):
        Tokenizer.load(tmp_path, lowercase=True)


def _greedy(mask):
    from tokenizers import AddedToken

    return AddedToken(mask, lstrip=True, normalized=False)


ADDED = {
    "numbers": ({"[E1]": 0, "@USER": 1}, {"extra_special_tokens": ["[E1]"]}),
    "options": (
        {},
        {
            "added_tokens_decoder": [("[E1]", False, True), ("@USER", True, False)],
            "extra_special_tokens": ["[E1]"],
        },
    ),
    "in the vocabulary": ({}, {"extra_special_tokens": ["the"]}),
}


@pytest.mark.parametrize("stated", ADDED)
@pytest.mark.parametrize("name", ["Bert", "Roberta"])
def test_tokens_added_to_a_vocabulary_agree_with_transformers(name, stated, tmp_path):
    import transformers

    numbers, config = ADDED[stated]
    if name == "Bert":
        listed = [*SPECIALS["wordpiece"], *"abcdefghijklmnopqrstuvwxyz[]@/1.", "the", "cat", "##at", "##s"]
        (tmp_path / "vocab.txt").write_text("\n".join(listed) + "\n")
    else:
        listed = [*SPECIALS["bpe"], *letters_of_bytes(), "th", "the"]
        (tmp_path / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(listed)}))
        (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    if numbers:
        (tmp_path / "added_tokens.json").write_text(json.dumps({text: len(listed) + n for text, n in numbers.items()}))
    options = {
        str(len(listed) + place): {"content": text, "normalized": normalized, "special": special, "lstrip": normalized}
        for place, (text, normalized, special) in enumerate(config.get("added_tokens_decoder", []))
    }
    said = {**config, "added_tokens_decoder": options} if options else dict(config)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    theirs = getattr(transformers, f"{name}Tokenizer").from_pretrained(tmp_path)
    said |= {"additional_special_tokens": said.pop("extra_special_tokens", [])}  # as they called it before
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    ours = Tokenizer.load(tmp_path)
    assert ours.size == len(theirs) == len(listed) + 2 * (stated != "in the vocabulary")
    assert ours.special_ids == set(theirs.all_special_ids)
    texts = ["the [E1] cat @USER", "x[E1]y @user [e1]", "THE cats [MASK]<mask>", "them", *random_texts(100)]
    agree(ours, theirs, texts)
    ours.save(tmp_path / "saved")
    agree(Tokenizer.load(tmp_path / "saved"), theirs, texts)


def test_added_tokens_with_other_numbers_are_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS["wordpiece"], "the"]))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[E1]": 9}))
    with pytest.raises(BothwaysError, match=r"makes \[E1\] number 6, but the files beside it say 9"):
        Tokenizer.load(tmp_path)


@needs_shared
def test_a_compressed_tokenizer_json_is_read():
    ours = Tokenizer.load(SHARED / "tokenizers" / "xlm-roberta")
    assert ours.roles == {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 250_001}
    assert ours.encode("Hello world").token_ids.tolist() == [0, 35378, 8999, 2]


# What tokens read


def test_tokens_read_without_marks(kind, trained):
    assert trained.read(trained.vocabulary["the" if kind == "wordpiece" else "Ġthe" if kind == "bpe" else "▁the"]) == (
        Reading("the", False)
    )
    read = [trained.read(place) for place in range(trained.size)]
    assert not any(mark in one.text for one in read for mark in ("Ġ", "▁", "##"))
    assert read[trained.mask_id] == Reading(trained.tokens[trained.mask_id], False)
    text = "unreading houses, misreads"
    glued = [trained.read(token).glued for token in trained.encode(text).token_ids[1:-1]]
    words = trained.encode(text, offsets=True).word_ids[1:-1]
    if kind == "wordpiece":
        assert glued == [False, *(words[1:] == words[:-1]).tolist()]
    else:
        assert glued.count(False) == 3  # the words between spaces


def test_whole_words_are_told_for_every_kind(kind, trained):
    text = "unreading houses misreads"
    encoded = trained.encode([text], offsets=True)
    for word, wanted in enumerate(text.split()):
        mine = encoded.offsets[encoded.word_ids == word]
        assert text[mine[0, 0] : mine[-1, 1]].strip() == wanted


@pytest.mark.parametrize(
    ("before", "reading", "after", "spaced", "wanted"),
    [
        ("the ", Reading("cat", False), " sat", False, "the cat sat"),
        ("the ", Reading("s", True), " sat", False, "thes sat"),
        ("the ", Reading("cat", False), " sat", True, "the cat sat"),
        ("the", Reading("cat", False), " sat", True, "the cat sat"),
        ("", Reading("cat", False), " sat", True, "cat sat"),
        ("walk ", Reading("ing", True), " on", True, "walking on"),
    ],
)
def test_a_token_is_set_into_the_text(before, reading, after, spaced, wanted):
    assert fill_in(before, reading, after, spaced=spaced) == wanted


def made_model(tokenizer, name="bert", **changes):
    config = tiny.config(name, embeddings__vocab_size=tokenizer.size, embeddings__pad_id=tokenizer.pad_id, **changes)
    return Model.random(config, tokenizer, [tiny.head(name, "mlm")], device="cpu")


def test_filled_sentences_show_no_marks(kind, trained, tmp_path):
    model = made_model(trained)
    mask = trained.tokens[trained.mask_id]
    fills = model.fill_mask(f"The {mask} stood by the river.", top=trained.size)
    for fill in fills:
        assert fill.text.startswith("The")
        assert fill.text.endswith("stood by the river.")
        assert kind == "wordpiece" or not any(mark in fill.text + fill.token for mark in ("Ġ", "▁"))
    assert "The children stood by the river." in {fill.text for fill in fills}
    model.save(tmp_path / "model")
    assert bw.load(tmp_path / "model").fill_mask(f"The {mask} stood.") == model.fill_mask(f"The {mask} stood.")


# Corpora and pre-training


def documents(count=40):
    draw = np.random.default_rng(0)
    words = " ".join(TEXTS[:3]).split()
    return [" ".join(" ".join(draw.choice(words, 6)).capitalize() + "." for _ in range(6)) for _ in range(count)]


def test_sentences_of_a_corpus_have_the_tokens_that_they_have_in_their_paragraph(kind, trained, tmp_path):
    texts = documents()
    corpus = prepare(texts, trained, tmp_path / "corpus")
    whole = trained.encode(texts, special_tokens=False).token_ids
    assert corpus.read(0, corpus.tokens).tolist() == whole.tolist()


@needs_shared
@pytest.mark.parametrize("name", ["roberta-base", "modernbert-base", "albert-base-v2", "bert-base-uncased"])
def test_published_tokenizers_see_sentences_as_in_their_paragraph(name, tmp_path):
    tokenizer = Tokenizer.load(SHARED / "tokenizers" / name)
    assert tokenizer.needs_space is name.startswith(("roberta", "modern"))
    texts = documents(5)
    corpus = prepare(texts, tokenizer, tmp_path / "corpus")
    whole = tokenizer.encode(texts, special_tokens=False).token_ids
    assert corpus.read(0, corpus.tokens).tolist() == whole.tolist()


def test_pairs_are_set_as_the_tokenizer_sets_them(kind, trained, tmp_path):
    pairs = Pairs(prepare(documents(), trained, tmp_path / "corpus"), 40, trained)
    for place in range(len(pairs)):
        pair = pairs.sequence(0, place)
        assert len(pair.token_ids) <= 40
        specials = np.flatnonzero(np.isin(pair.token_ids, [trained.cls_id, trained.sep_id]))
        middle = int(specials[1])
        assert specials.tolist()[:-1] == [0, middle, middle + 1] if kind == "bpe" else [0, middle]
        wanted = np.arange(len(pair.token_ids)) > middle
        assert pair.segment_ids.tolist() == (wanted * (kind != "bpe")).tolist()


def test_a_model_pretrains_with_a_tokenizer_of_any_kind(kind, tmp_path):
    (tmp_path / "texts.txt").write_text("\n\n".join(documents(120)))
    train_tokenizer(tmp_path / "texts.txt", kind=kind, vocab_size=420, out=tmp_path / "tokenizer")
    done = bw.pretrain(
        tmp_path / "texts.txt",
        tokenizer=tmp_path / "tokenizer",
        out=tmp_path / "run",
        size="tiny",
        steps=30,
        max_length=48,
        batch_tokens=512,
    )
    losses = [row["loss"] for row in done.history.training]
    assert losses[-1] < losses[0] - 0.3
    assert math.isfinite(done.scores["loss.mlm"])
    model = bw.load(tmp_path / "run")
    assert model.tokenizer.fingerprint == Tokenizer.load(tmp_path / "tokenizer").fingerprint
    assert model.config.embeddings.pad_id == model.tokenizer.pad_id


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "distilbert", "electra", "mpnet"])
def test_families_take_pairs_of_any_kind_of_tokenizer(name, trained):
    if family(name).sizes and "mlm" not in family(name).heads:
        pytest.skip("no masked-token head")
    model = made_model(trained, name)
    encoded = trained.encode(["the old house", "a book"], ["the river", "the town"])
    for batch in encoded.batches(100):
        with torch.no_grad():
            assert model.encoder(batch).sequence.isfinite().all()


# The command line


def test_the_command_line_trains_and_shows_every_kind(kind, tmp_path, capsys):
    from bothways.cli import main

    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    out = str(tmp_path / "tokenizer")
    assert (
        main(["tokenizer", "train", str(tmp_path / "texts.txt"), "--kind", kind, "--vocab-size", "420", "--out", out])
        == 0
    )
    capsys.readouterr()
    assert main(["tokenizer", "show", out, "the reader", "--pair", "unread books", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    figures, text = shown["vocabulary"], shown["texts"][0]
    assert figures["special_tokens"] == list(SPECIALS[kind])
    assert figures["lowercase"] is True
    assert not any(mark in word for word in figures["longest"] for mark in ("##", "Ġ", "▁"))
    assert "".join(text["covers"]).replace(" ", "") == "thereaderunreadbooks"
    assert main(["tokenizer", "show", out, "the reader", "--pair", "unread books"]) == 0
