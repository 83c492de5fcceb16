"""The tokenizer: it agrees with transformers on any text, and never loses or invents anything silently."""

import gzip
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.text.normalize import Normalization
from bothways.text.tokenizer import Tokenizer
from shared import SHARED, needs_shared

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
WORDS = ["the", "cat", "sat", "on", "mat", "read", "##er", "both", "ways", "way", "##ing", ".", ",", "!", "'"]
SMALL = SPECIALS + LETTERS + ["##" + letter for letter in LETTERS] + WORDS + ["0", "1", "##0", "##1", "中", "文"]

HARD = [
    "",
    " \t\n\r ",
    "Hello, World!",
    "naïve café Ünïcödé Å \u0041\u030a",
    "e\u0301\u0323 combining, a\u0300\u0316\u0330 stacked",
    "👩‍👩‍👧‍👦 family 👍🏽 thumbs 🇫🇷 flag ☺️ #️⃣",
    "中文字符と日本語テキスト한국어 mixed 漢字",
    "zero\u200bwidth\u200c joi\u200dners \ufeff bom \u2060 word",
    "שלום עולם مرحبا بالعالم \u202eright to left\u202c",
    "control\x00\x01\x07\x1b\x7f chars \x85 \u2028 \u2029 \xa0 spaces \u3000",
    "x" * 5000,
    "é" * 5000,
    "中" * 300,
    "word" * 26 + " " + "b" * 100 + " " + "b" * 101,
    "[CLS] text with [MASK] and [SEP] inside [PAD][UNK]",
    "<s> text <mask> with </s> <pad> <unk>",
    "ﬁ ligature ½ ² ™ Ⅳ ㎏ İstanbul ǅ ß ẞ",
    "\ufffd \U0001f600\U0010fffd \ue000 private",
    "don't can't 'quoted' \u201ccurly\u201d -- dash—em",
    "https://example.org/a_b?c=d&e=%20 user@mail.com $3.14 1,000",
    "𝕄𝕒𝕥𝕙 𝔣𝔯𝔞𝔨 ａｂｃ ＡＢＣ １２３",
    "ไทยไม่มีช่องว่าง हिन्दी தமிழ் ខ្មែរ",
]


RANGES = [
    *[(32, 127), (0, 0x250), (0x300, 0x370), (0x590, 0x700), (0x900, 0xE80), (0x1E00, 0x2100), (0x2000, 0x2070)],
    *[(0x3000, 0x3100), (0x4E00, 0x9FFF), (0xF900, 0xFB50), (0xFE00, 0x10000), (0x1F300, 0x1FA00), (0, 0x110000)],
]


@pytest.fixture(scope="module")
def small():
    return Tokenizer.from_vocabulary(SMALL, Normalization())


def random_texts(count, seed=0):
    """Strings over the whole of Unicode, weighted to where tokenizers have rules."""
    draw = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        text = ""
        for begin, end in draw.choice(RANGES, int(draw.integers(0, 30))):
            text += chr(draw.integers(begin, end) if draw.random() < 0.6 else draw.integers(32, 127))
        texts.append("".join(letter for letter in text if not 0xD800 <= ord(letter) < 0xE000))
    return texts


def agree(ours, theirs, texts, pairs=None, **options):
    """Token ids, segments, offsets, words and special tokens are the same, sequence by sequence."""
    encoded = ours.encode(texts, pairs, offsets=True, truncation="head", **options)
    fast = ours.encode(texts, pairs, truncation="head", **options)
    wanted = theirs(
        texts,
        pairs,
        truncation="max_length" in options,
        max_length=options.get("max_length"),
        add_special_tokens=options.get("special_tokens", True),
        verbose=False,
    ).encodings
    assert len(wanted) == len(encoded) == len(texts)
    assert np.array_equal(fast.token_ids, encoded.token_ids)
    for place, want in enumerate(wanted):
        here = slice(encoded.starts[place], encoded.starts[place + 1])
        text = texts[place], pairs[place] if pairs else None
        assert encoded.token_ids[here].tolist() == want.ids, text
        assert encoded.segment_ids[here].tolist() == want.type_ids, text
        assert [tuple(pair) for pair in encoded.offsets[here].tolist()] == want.offsets, text
        assert encoded.word_ids[here].tolist() == [-1 if word is None else word for word in want.word_ids], text
        assert encoded.special[here].tolist() == [bool(mark) for mark in want.special_tokens_mask], text


def published(name, tmp_path_factory):
    """Our tokenizer and that of transformers for a folder of published files."""
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

    folder = SHARED / "tokenizers" / name
    if name == "xlm-roberta":
        path = tmp_path_factory.mktemp(name) / "tokenizer.json"
        path.write_bytes(gzip.decompress((folder / "tokenizer.json.gz").read_bytes()))
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(path))
        theirs.backend_tokenizer.no_truncation()
        theirs.backend_tokenizer.no_padding()
        return Tokenizer.load(path), theirs
    if name == "modernbert-base":
        return Tokenizer.load(folder), PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    if name in ("minilm-l6-v2", "mpnet"):
        return Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    if name == "roberta-base":
        return Tokenizer.load(folder), RobertaTokenizer.from_pretrained(folder)
    path = folder / "antiberty-vocab.txt" if name == "protein" else folder / "vocab.txt"
    ours = Tokenizer.load(path)
    return ours, BertTokenizer(str(path), do_lower_case=ours.normalization.lowercase)


NAMES = [
    *["bert-base-uncased", "bert-base-cased", "bert-base-chinese", "scibert-scivocab-uncased", "minilm-l6-v2"],
    *["mpnet", "roberta-base", "modernbert-base", "xlm-roberta", "rxn-smiles", "protein"],
]


@needs_shared
@pytest.mark.parametrize("name", NAMES)
def test_published_vocabularies_agree_with_transformers_on_hard_text(name, tmp_path_factory):
    ours, theirs = published(name, tmp_path_factory)
    texts = HARD + random_texts(10_000 if name.startswith("bert-base") else 2_000)
    agree(ours, theirs, texts)
    agree(ours, theirs, HARD, HARD[::-1])
    agree(ours, theirs, HARD, HARD[::-1], special_tokens=False)
    agree(ours, theirs, texts[:500], texts[500:1000], max_length=16)


def test_a_small_vocabulary_agrees_with_transformers(small):
    from transformers import BertTokenizer

    theirs = BertTokenizer({token: place for place, token in enumerate(SMALL)})
    texts = HARD + random_texts(1_000, seed=1)
    agree(small, theirs, texts)
    agree(small, theirs, texts, texts[::-1])
    agree(small, theirs, texts, special_tokens=False)


@needs_shared
@pytest.mark.parametrize(
    ("name", "lowercase"),
    [("bert-base-uncased", True), ("bert-base-cased", False), ("scibert-scivocab-uncased", True), ("protein", False)],
)
def test_lowercase_is_told_from_a_bare_vocabulary(name, lowercase, tmp_path_factory):
    assert published(name, tmp_path_factory)[0].normalization.lowercase is lowercase


def test_lowercase_given_wins(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SMALL), encoding="utf-8")
    assert Tokenizer.load(tmp_path / "vocab.txt").normalization.lowercase
    assert not Tokenizer.load(tmp_path / "vocab.txt", lowercase=False).normalization.lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "model_max_length": 64}')
    loaded = Tokenizer.load(tmp_path)
    assert not loaded.normalization.lowercase
    assert loaded.max_length == 64
    assert Tokenizer.load(tmp_path, lowercase=True).normalization.lowercase
    loaded.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved", lowercase=True).normalization.lowercase


def test_settings_beside_a_tokenizer_json_count_as_in_transformers(small, tmp_path):
    from transformers import AutoTokenizer

    small.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    for changes in ({"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        agree(Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path), HARD)


@needs_shared
def test_special_tokens_are_found_in_bert_and_roberta_style(tmp_path_factory):
    wanted = {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103}
    assert published("bert-base-uncased", tmp_path_factory)[0].roles == wanted
    wanted = {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": 50264}
    assert published("roberta-base", tmp_path_factory)[0].roles == wanted
    wanted = {"pad": 1, "unk": 104, "cls": 0, "sep": 2, "mask": 30526}
    assert published("mpnet", tmp_path_factory)[0].roles == wanted
    assert Tokenizer.load(SHARED / "tokenizers/mpnet/vocab.txt").roles == wanted
    assert Tokenizer.load(SHARED / "tokenizers/mpnet/tokenizer.json").roles == wanted
    assert published("xlm-roberta", tmp_path_factory)[0].mask_id == 250001


@needs_shared
def test_modernbert_gives_the_published_ids():
    folder = SHARED / "tokenizers" / "modernbert-base"
    ours = Tokenizer.load(folder)
    for example in json.loads((folder / "expected_ids.json").read_text(encoding="utf-8")):
        assert ours.encode([example["text"]]).token_ids.tolist() == example["ids"]


def test_a_vocabulary_without_the_letter_a_or_an_unknown_token_still_has_its_template(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models

    backend = Backend(models.BPE(vocab={"[CLS]": 0, "[SEP]": 1, "Q": 2, "W": 3}, merges=[]))
    backend.add_special_tokens(["[CLS]", "[SEP]"])
    backend.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode("QaW").token_ids.tolist() == [0, 2, 3, 1]
    assert loaded.encode("Q", "W").segment_ids.tolist() == [0, 0, 0, 1, 1]


def test_saving_over_a_file_is_refused(small, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(BothwaysError, match="taken cannot be made"):
        small.save(tmp_path / "taken")


def test_an_absent_special_token_is_named():
    tokenizer = Tokenizer.from_vocabulary(SPECIALS[1:4] + LETTERS, Normalization())
    with pytest.raises(BothwaysError, match="no mask token"):
        _ = tokenizer.mask_id
    assert tokenizer.special_ids == {0, 1, 2}


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_saved_folder_opens_in_transformers_and_here_with_the_same_ids(lowercase, tmp_path):
    from transformers import AutoTokenizer

    made = Tokenizer.from_vocabulary(SMALL, Normalization(lowercase=lowercase), max_length=32)
    made.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 32
    assert (theirs.pad_token_id, theirs.mask_token_id) == (made.pad_id, made.mask_id)
    agree(made, theirs, HARD + random_texts(300, seed=2))
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == made.fingerprint
    assert again.max_length == 32
    again.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_saved_folder_opens_in_sentence_transformers(tmp_path):
    import torch
    from sentence_transformers.models import Transformer
    from transformers import BertConfig, BertModel

    made = Tokenizer.from_vocabulary(SMALL, Normalization(), max_length=32)
    made.save(tmp_path)
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=made.size, max_position_embeddings=32, **shape)).save_pretrained(tmp_path)
    theirs = Transformer(str(tmp_path)).tokenizer
    assert theirs(["the cat sat"])["input_ids"][0] == made.encode(["the cat sat"]).token_ids.tolist()


@pytest.mark.parametrize("normalization", [Normalization(clean_text=False), Normalization(strip_accents=False)])
def test_unusual_normalisation_survives_saving(normalization, tmp_path):
    from transformers import AutoTokenizer

    made = Tokenizer.from_vocabulary([*SMALL, "é", "##é"], normalization)
    made.save(tmp_path)
    assert Tokenizer.load(tmp_path).normalization == normalization
    agree(made, AutoTokenizer.from_pretrained(tmp_path), HARD)


@needs_shared
@pytest.mark.parametrize("name", ["minilm-l6-v2", "mpnet", "roberta-base", "modernbert-base"])
def test_a_published_tokenizer_survives_saving(name, tmp_path):
    from transformers import AutoTokenizer

    ours = Tokenizer.load(SHARED / "tokenizers" / name)
    ours.save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == ours.fingerprint
    assert Tokenizer.load(tmp_path).roles == ours.roles
    agree(ours, AutoTokenizer.from_pretrained(tmp_path), HARD, HARD[::-1])


@given(st.lists(st.text(alphabet="abcdefg zé.,'!\u0301中", max_size=20), max_size=6))
@settings(max_examples=60, deadline=None)
def test_offsets_slice_the_source_text(texts):
    tokenizer = Tokenizer.from_vocabulary(SMALL, Normalization())
    encoded = tokenizer.encode(texts, offsets=True)
    for place, text in enumerate(texts):
        here = slice(encoded.starts[place] + 1, encoded.starts[place + 1] - 1)
        end = 0
        for token, (a, b) in zip(encoded.token_ids[here], encoded.offsets[here], strict=True):
            written = tokenizer.tokens[token].removeprefix("##")
            assert end <= a < b <= len(text)
            end = b
            if written != "[UNK]":
                assert tokenizer.encode(text[a:b]).token_ids[1:-1].size == 1
                assert text[a].lower().replace("é", "e") == written[0]


def test_decoding_gives_simple_text_back(small):
    for text in ("the cat sat on the mat.", "reading both ways!", "reader, 10 cats"):
        assert small.decode(small.encode(text).token_ids) == text
    assert small.decode(small.encode("the cat").token_ids, special_tokens=True) == "[CLS] the cat [SEP]"


def test_the_same_text_encodes_alike_alone_and_among_others(small):
    texts = [text[:200] for text in HARD] * 3
    together = small.encode(texts, texts[::-1])
    for place in range(len(texts)):
        alone = small.encode(texts[place], texts[-1 - place])
        assert alone.token_ids.tolist() == together.sequence(place).tolist()


def test_long_lists_are_encoded_in_slices_with_the_same_result(small, monkeypatch):
    texts = [f"the cat sat on mat {place:b}" for place in range(50)]
    whole = small.encode(["mat cat"] * 50, texts, offsets=True, max_length=12, truncation="window")
    monkeypatch.setattr("bothways.text.tokenizer.SLICE_TEXTS", 7)
    monkeypatch.setattr("bothways.text.tokenizer.SLICE_CHARACTERS", 90)
    sliced = small.encode(["mat cat"] * 50, texts, offsets=True, max_length=12, truncation="window")
    for name in ("token_ids", "segment_ids", "starts", "texts", "offsets", "word_ids", "special"):
        assert np.array_equal(getattr(whole, name), getattr(sliced, name)), name
    assert whole.truncation == sliced.truncation


def test_batches_hold_every_sequence_once_within_the_budget(small):
    encoded = small.encode([text[:150] for text in HARD] * 5, ["the mat"] * len(HARD) * 5)
    batches = list(encoded.batches(300))
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(len(encoded)))
    for batch in batches:
        assert batch.tokens <= 300 or batch.sequences == 1
        assert (np.diff(batch.lengths) >= 0).all()
        for place, row in enumerate(batch.rows):
            here = slice(batch.starts[place], batch.starts[place + 1])
            there = slice(encoded.starts[row], encoded.starts[row + 1])
            assert np.array_equal(batch.token_ids[here], encoded.token_ids[there])
            assert np.array_equal(batch.segment_ids[here], encoded.segment_ids[there])
            assert batch.positions[here].tolist() == list(range(batch.lengths[place]))


def test_no_texts_make_no_sequences(small):
    encoded = small.encode([], offsets=True)
    assert len(encoded) == 0
    assert encoded.starts.tolist() == [0]
    assert encoded.offsets.shape == (0, 2)
    assert list(encoded.batches(100)) == []


@pytest.mark.parametrize("wrong", [None, float("nan"), 3, b"bytes", ["nested"]])
def test_what_is_not_a_string_is_named_with_its_place(small, wrong):
    with pytest.raises(BothwaysError, match=r"texts\[1\] is not a string"):
        small.encode(["fine", wrong])
    with pytest.raises(BothwaysError, match=r"pairs\[0\] is not a string"):
        small.encode(["fine"], [wrong])


def test_pairs_of_different_number_are_refused(small):
    with pytest.raises(BothwaysError, match="2 texts and 1 second texts"):
        small.encode(["a", "b"], ["c"])


def test_half_a_surrogate_pair_counts_as_one_character(small):
    encoded = small.encode(["the \ud83d cat"], offsets=True)
    assert small.decode(encoded.token_ids) == "the cat"
    assert encoded.offsets.tolist() == [[0, 0], [0, 3], [6, 9], [0, 0]]


def test_threads_share_a_tokenizer(small):
    texts = [text[:300] for text in HARD]
    wanted = {length: small.encode(texts, max_length=length, truncation="head").token_ids for length in range(3, 20)}
    wrong = []

    def work(length):
        for _ in range(20):
            found = small.encode(texts, max_length=length, truncation="head").token_ids
            if not np.array_equal(found, wanted[length]):
                wrong.append(length)

    threads = [threading.Thread(target=work, args=(length,)) for length in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_fingerprint_tells_what_encodes_differently(small):
    same = Tokenizer.from_vocabulary(SMALL, Normalization())
    assert same.fingerprint == small.fingerprint
    assert small.with_max_length(9).fingerprint == small.fingerprint
    others = [
        Tokenizer.from_vocabulary(SMALL, Normalization(lowercase=False)),
        Tokenizer.from_vocabulary(SMALL[:-1], Normalization()),
        Tokenizer.from_vocabulary([*SMALL[:-2], SMALL[-1], SMALL[-2]], Normalization()),
    ]
    assert len({small.fingerprint} | {other.fingerprint for other in others}) == 4


@needs_shared
def test_the_fingerprint_looks_past_how_the_same_tokenizer_was_written():
    vocabulary = Tokenizer.load(SHARED / "tokenizers/bert-base-uncased/vocab.txt")
    assert Tokenizer.load(SHARED / "tokenizers/minilm-l6-v2").fingerprint == vocabulary.fingerprint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no tokenizer"),
        ({"spiece.model": "x"}, "SentencePiece"),
        ({"vocab.txt": ""}, "is empty"),
        ({"vocab.txt": "one\ntwo\n"}, r"has no \[UNK\]"),
        ({"tokenizer.json": "{"}, "not a tokenizer.json"),
        ({"tokenizer.json": '{"a": 1}'}, "not a tokenizer.json"),
        (
            {"vocab.txt": "\n".join(SMALL), "config.json": '{"tokenizer_class": "BertJapaneseTokenizer"}'},
            r"BertJapaneseTokenizer reads its vocab\.txt, in a way of its own",
        ),
        (
            {"vocab.txt": "\n".join(SMALL), "tokenizer_config.json": '{"auto_map": {"AutoTokenizer": ["a.B", null]}}'},
            "in a way of its own",
        ),
        ({"vocab.txt": "\n".join(SMALL), "tokenizer_config.json": "[]"}, "should hold a JSON object"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "x y"}, "do not fit"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, r"has no <unk>|has no \[UNK\]"),
    ],
)
def test_what_is_not_a_tokenizer_is_refused_in_one_sentence(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(BothwaysError, match=message):
        Tokenizer.load(tmp_path)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "vocab.txt").write_text("x")
    with pytest.raises(BothwaysError, match=r"did you mean 'vocab\.txt'"):
        Tokenizer.load(tmp_path / "vocabs.txt")
    (tmp_path / "vocab.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(BothwaysError, match="not UTF-8"):
        Tokenizer.load(tmp_path / "vocab.txt")


def test_a_tokenizer_json_without_a_template_gets_that_of_bert(tmp_path, small):
    stored = json.loads(small.backend.to_str())
    stored["post_processor"] = None
    stored["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    stored["padding"] |= {"pad_type_id": 0, "pad_token": "[PAD]"}
    stored["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == small.fingerprint
    assert loaded.encode("the cat sat on the mat").lengths.tolist() == [8]
