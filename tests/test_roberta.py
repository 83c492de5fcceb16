"""What is true of RoBERTa, XLM-R and CamemBERT in particular."""

import gzip
import json

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.errors import BothwaysError
from bothways.learn.start import configuration, with_vocabulary
from bothways.model.build import build_encoder, build_head
from bothways.model.families import family
from bothways.run.folder import Saved, encoder_config, is_published, read_folder, write_folder
from bothways.run.model import Model
from bothways.text.tokenizer import Tokenizer
from shared import SHARED, needs_shared

NAMES = ("roberta", "xlm-roberta", "camembert")
TOLERANCE = 1e-5

# Liu et al. 2019, table of appendix A; Conneau et al. 2019, section 5.1; Martin et al. 2019, section 4.2; the model
# cards. Layers, width, heads, feed-forward, vocabulary, parameters of the encoder with its pooler
SIZES = {
    ("roberta", "base"): (12, 768, 12, 3072, 50_265, 124_645_632),
    ("roberta", "large"): (24, 1024, 16, 4096, 50_265, 355_359_744),
    ("roberta", "distil"): (6, 768, 12, 3072, 50_265, 82_118_400),
    ("xlm-roberta", "base"): (12, 768, 12, 3072, 250_002, 278_043_648),
    ("xlm-roberta", "large"): (24, 1024, 16, 4096, 250_002, 559_890_432),
    ("camembert", "base"): (12, 768, 12, 3072, 32_005, 110_621_952),
    ("camembert", "large"): (24, 1024, 16, 4096, 32_005, 336_661_504),
}


def random_model(name, heads=(), tokenizer=None, seed=3, **changes):
    """Random weights as a folder holds them, with a pooler."""
    config = tiny.config(name, **changes)
    configs = {kind: tiny.head(name, kind) for kind in heads}
    modules = {kind: tiny.randomise(build_head(head, config), seed + 1).eval() for kind, head in configs.items()}
    return Saved(
        encoder=tiny.randomise(build_encoder(config), seed).eval(),
        heads=modules,
        head_configs=configs,
        tokenizer=tokenizer,
    )


def theirs_of(config, kind="Model", **changes):
    """The class of `transformers` for a configuration, every parameter random."""
    members = family(config.family)
    architecture = members.architectures[frozenset()].removesuffix("Model") + kind
    settings = transformers.AutoConfig.for_model(**members.to_hf(config) | changes)
    return tiny.randomise(
        getattr(transformers, architecture)._from_config(settings, attn_implementation="eager")
    ).eval()


# -- configurations


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_sizes_are_the_published_ones(name, size):
    config = family(name).sizes[size]
    with torch.device("meta"):
        count = sum(value.numel() for value in build_encoder(config).parameters())
    resolved = config.layers, config.width, config.attention.heads, config.feed_forward.width
    assert (*resolved, config.embeddings.vocab_size, count) == SIZES[name, size]
    tables = config.embeddings
    assert (tables.positions, tables.segments, tables.pad_id, config.longest) == (514, 1, 1, 512)
    assert config.norm_eps == tables.norm_eps == 1e-5


def test_no_size_is_left_out():
    assert list(SIZES) == [(name, size) for name in NAMES for size in family(name).sizes]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pad_id", [0, 1, 7])
@torch.no_grad()
def test_positions_begin_after_the_padding_id(name, pad_id, tmp_path):
    """By hand and in `transformers`, whatever that id is."""
    config = tiny.config(name)
    theirs = theirs_of(config, pad_token_id=pad_id, max_position_embeddings=40)
    theirs.save_pretrained(tmp_path)
    ours = read_folder(tmp_path).encoder
    assert (ours.config.embeddings.position_offset, ours.config.longest) == (pad_id + 1, 40 - pad_id - 1)
    ids = 10 + np.arange(ours.config.longest)
    tables = ours.embeddings
    summed = tables.tokens.weight[ids] + tables.positions.weight[pad_id + 1 :] + tables.segments.weight[0]
    batch = make_batch([ids])
    assert torch.allclose(tables.norm(summed), ours(batch, hidden=True).hidden[0], atol=1e-6)
    expected = theirs(torch.from_numpy(ids)[None]).last_hidden_state[0]
    assert (ours(batch).sequence - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_longer_texts_than_the_table_are_refused(name):
    saved = random_model(name)
    saved.encoder(make_batch([np.full(512, 5)]))
    with pytest.raises(BothwaysError, match="a sequence has 513 tokens, but this model takes at most 512"):
        saved.encoder(make_batch([np.full(513, 5)]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("pad_token_id", None, "pad_token_id = null, but positions begin after that id"),
        ("is_decoder", True, "is_decoder = True, which is not supported; False is"),
        ("position_embedding_type", "relative_key", "position_embedding_type = 'relative_key', which is not supported"),
        ("hidden_act", "swish_7", "hidden_act = 'swish_7', which is not supported"),
        ("pad_token_id", 60_000_000, "pad_id 60000000 is outside the vocabulary"),
        ("max_position_embeddings", 2, "2 positions leave none for a token after the first 2 rows"),
    ],
)
def test_what_is_not_computed_here_is_refused(name, key, value, sentence, tmp_path):
    settings = family(name).to_hf(family(name).size()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BothwaysError, match=f"cannot open .*: .*{sentence}"):
        encoder_config(tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("segments", [1, 2])
@torch.no_grad()
def test_a_table_of_one_segment_is_constant_and_of_two_is_read(name, segments, tmp_path):
    """Unlike the published ones, a model made from the defaults of `transformers` has two segments."""
    theirs = theirs_of(tiny.config(name), type_vocab_size=segments)
    theirs.save_pretrained(tmp_path)
    ours = read_folder(tmp_path).encoder
    ids, second = torch.arange(10, 26), torch.arange(16) // 8
    alone = ours(make_batch([ids.numpy()])).sequence
    pair = ours(make_batch([ids.numpy()], [second.numpy()])).sequence
    assert torch.equal(alone, pair) == (segments == 1)
    expected = theirs(ids[None], token_type_ids=second[None] * (segments - 1)).last_hidden_state[0]
    assert (pair - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pad_id", [0, 1, 4])
def test_another_vocabulary_moves_the_positions_along(name, pad_id):
    """A vocabulary whose padding token is not 1 makes a model that `transformers` can open, for texts as long."""
    config = family(name).size().for_vocabulary(300, pad_id)
    tables = config.embeddings
    assert (tables.vocab_size, tables.pad_id, tables.position_offset, config.longest) == (300, pad_id, pad_id + 1, 512)
    assert is_published(config)
    assert family("bert").size().for_vocabulary(300, pad_id).embeddings.position_offset == 0


def test_pre_training_begins_with_a_model_that_others_can_open():
    """The tokenizer made here has its padding token at 0."""
    config = with_vocabulary(configuration(None, "roberta", "distil", 512, None), None, tiny.tokenizer())
    assert config.embeddings.position_offset == config.embeddings.pad_id + 1 == 1
    assert is_published(config)


# -- the packed batch


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_packed_is_one_by_one(name):
    saved = random_model(name, ("classify", "choose", "tag"))
    draw = np.random.default_rng(0)
    texts = [draw.integers(2, 200, length) for length in (9, 512, 1, 2, 33, 2, 9, 40)]
    batch = make_batch(texts)
    out = saved.encoder(batch)
    logits = {kind: head(out) for kind, head in saved.heads.items()}
    for place, row in enumerate(batch.rows):
        alone = saved.encoder(make_batch([texts[row]]))
        here = slice(batch.starts[place], batch.starts[place + 1])
        assert (out.sequence[here] - alone.sequence).abs().max() < TOLERANCE
        assert (logits["tag"][here] - saved.heads["tag"](alone)).abs().max() < TOLERANCE
        for kind in ("classify", "choose"):
            assert (logits[kind][place] - saved.heads[kind](alone)[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_padding_token_inside_a_text_is_a_token_like_any_other(name, tmp_path):
    """As in `transformers` when it is told the positions; left alone, it would not count that token."""
    theirs = theirs_of(tiny.config(name))
    theirs.save_pretrained(tmp_path)
    ours = read_folder(tmp_path).encoder
    ids = torch.tensor([[0, 31, 1, 32, 33, 2]])
    found = ours(make_batch(list(ids.numpy()))).sequence
    told = theirs(ids, position_ids=2 + torch.arange(6)[None]).last_hidden_state[0]
    left_alone = theirs(ids).last_hidden_state[0]
    assert (found - told).abs().max() < TOLERANCE
    assert (found - left_alone).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_padding_at_the_left_gives_the_same_numbers(name, tmp_path):
    theirs = theirs_of(tiny.config(name))
    theirs.save_pretrained(tmp_path)
    ids = torch.tensor([[1, 1, 1, 0, 31, 32, 2], [0, 33, 34, 35, 36, 37, 2]])
    mask = (ids != 1).long()
    batch = pack(ids, mask)
    expected = theirs(ids, attention_mask=mask).last_hidden_state
    found = unpack(read_folder(tmp_path).encoder(batch).sequence, batch)
    assert (found[0, :4] - expected[0, 3:]).abs().max() < TOLERANCE
    assert (found[1] - expected[1]).abs().max() < TOLERANCE


# -- heads


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["relu", "silu", "gelu_new"])
@torch.no_grad()
def test_the_masked_token_head_has_gelu_whatever_the_blocks_have(name, activation, tmp_path):
    theirs = theirs_of(tiny.config(name), "ForMaskedLM", hidden_act=activation)
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    ids = torch.arange(5, 40)
    sequence = saved.encoder(make_batch([ids.numpy()])).sequence
    found = saved.heads["mlm"](sequence, saved.encoder.token_table)
    assert (found - theirs(ids[None]).logits[0]).abs().max() < TOLERANCE


@torch.no_grad()
def test_the_classifier_is_two_layers_on_the_first_token():
    """Recomputed by hand: linear, tanh, linear; no pooled output is needed, and none is built for it."""
    saved = random_model("roberta", ["classify"], pooler=None)
    head = saved.heads["classify"]
    out = saved.encoder(make_batch([np.arange(5, 20), np.arange(30, 33)]))
    first = out.sequence[[0, 3]]
    hidden = torch.tanh(first @ head.hidden.weight.T + head.hidden.bias)
    assert torch.allclose(head(out), hidden @ head.output.weight.T + head.output.bias, atol=1e-6)
    assert out.pooled is None


def test_dropout_of_heads_comes_from_the_keys_that_transformers_reads(tmp_path):
    for kind, own in (
        ("ForSequenceClassification", True),
        ("ForTokenClassification", True),
        ("ForMultipleChoice", False),
    ):
        theirs = theirs_of(tiny.config("roberta"), kind, classifier_dropout=0.4, hidden_dropout_prob=0.3, num_labels=3)
        theirs.save_pretrained(tmp_path)
        (config,) = read_folder(tmp_path).head_configs.values()
        rate = next(module.p for name, module in theirs.named_modules() if name in ("dropout", "classifier.dropout"))
        assert config.dropout == rate == (0.4 if own else 0.3)


# -- tokenizers


@pytest.fixture(scope="module")
def roberta_tokenizer():
    return Tokenizer.load(SHARED / "tokenizers" / "roberta-base")


@pytest.fixture(scope="module")
def xlm_tokenizer(tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("xlm-roberta") / "tokenizer.json"
    unpacked.write_bytes(gzip.decompress((SHARED / "tokenizers" / "xlm-roberta" / "tokenizer.json.gz").read_bytes()))
    return Tokenizer.load(unpacked.parent)


@needs_shared
@pytest.mark.parametrize(
    ("which", "size", "mask", "first"),
    [("roberta_tokenizer", 50_265, 50_264, [31414, 232]), ("xlm_tokenizer", 250_002, 250_001, [35378, 8999])],
)
def test_published_tokenizers_make_roberta_pairs(which, size, mask, first, request):
    """``<s> A </s></s> B </s>``, all in segment 0, with the ids that the tokenizers' sources give."""
    tokenizer = request.getfixturevalue(which)
    roles = {"pad": 1, "unk": 3, "cls": 0, "sep": 2, "mask": mask}
    assert (tokenizer.size, tokenizer.roles) == (size, roles)
    assert tokenizer.encode("Hello world").token_ids.tolist() == [0, *first, 2]
    second = tokenizer.encode("Yes", special_tokens=False).token_ids.tolist()
    pair = tokenizer.encode(["Hello world"], ["Yes"])
    assert pair.token_ids.tolist() == [0, *first, 2, 2, *second, 2]
    assert not pair.segment_ids.any()
    cut = tokenizer.encode(["Hello world " * 50], ["Yes"], max_length=20, truncation="head").token_ids.tolist()
    assert (len(cut), cut[:3], cut[-len(second) - 3 :]) == (20, [0, *first], [2, 2, *second, 2])
    tables = family("roberta" if which == "roberta_tokenizer" else "xlm-roberta").size().embeddings
    assert (tables.vocab_size, tables.pad_id) == (tokenizer.size, tokenizer.pad_id)


@needs_shared
@pytest.mark.parametrize(("name", "which"), [("roberta", "roberta_tokenizer"), ("xlm-roberta", "xlm_tokenizer")])
@torch.no_grad()
def test_texts_and_pairs_give_the_same_answers_in_transformers(name, which, request, tmp_path):
    """From strings to classes: our folder opened there by the general classes, with its own tokenizer."""
    tokenizer = request.getfixturevalue(which)
    saved = random_model(name, ["classify"], tokenizer, embeddings__vocab_size=tokenizer.size, pooler=None)
    sentence = write_folder(saved, tmp_path / "model")
    assert sentence.endswith(family(name).architectures[frozenset({"classify"})])
    model = Model(read_folder(tmp_path / "model"), device="cpu", precision="float32", truncation="warn", name="random")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    split = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    firsts = ["Hello world", "", "naïve Café – 東京 🙂 don't (1,234.5)", "a  b\tc " * 20]
    seconds = ["Bonjour tout le monde.", "x", "co-operate", ""]
    for texts in ((firsts,), (firsts, seconds)):
        inputs = split(*texts, padding=True, return_tensors="pt")
        ours = tokenizer.encode(*texts)
        real = inputs["attention_mask"].bool()
        assert ours.token_ids.tolist() == inputs["input_ids"][real].tolist()
        expected = theirs(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.softmax(-1)
        assert np.abs(model.class_probabilities(*texts) - expected.numpy()).max() < TOLERANCE


@needs_shared
def test_a_mask_in_a_text_is_filled(roberta_tokenizer):
    """``<mask>`` takes the space before it, and a pair of them gives two lists."""
    size = roberta_tokenizer.size
    saved = random_model("roberta", ["mlm"], roberta_tokenizer, embeddings__vocab_size=size)
    model = Model(saved, device="cpu", precision="float32", truncation="warn", name="random")
    both = model.fill_mask("The <mask> barked at the <mask>.", top=3)
    assert [len(fills) for fills in both] == [3, 3]
    with pytest.raises(BothwaysError, match="the text has no <mask> to fill in"):
        model.fill_mask("The [MASK] barked.")
