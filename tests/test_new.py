"""New models: any size of any family, any setting, and compositions that no paper has."""

import json
import warnings

import numpy as np
import pytest
import torch
import transformers

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.model.compose import changed
from bothways.model.config import AttentionConfig, CausalAttentionConfig
from bothways.model.counts import parameter_count
from bothways.model.families import families, family
from bothways.run.folder import is_published
from cases import case

TEXTS = ["the dog barked at the cat", "the cat"]
KINDS = {
    "full": {},
    "causal": {},
    "buckets": {"attention.buckets": "8", "attention.max_distance": "16"},
    "disentangled": {"attention.max_distance": "16", "attention.buckets": "0"},
    "rotary": {"attention.windows": "0,2"},
    "windows": {"attention.windows": "3"},
    "sparse": {"attention.block": "2", "attention.random_blocks": "0"},
}
"""Every kind of attention there is, with settings of its own as they are typed."""


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocab") / "tok"
    tiny.tokenizer().save(folder)
    return folder


def narrow(name, **more):
    """Settings that make a family's smallest size small, by the names that are typed."""
    return {key.replace("__", "."): value for key, value in case(name).NARROW.items()} | more


def smallest(name):
    return min(family(name).sizes, key=lambda size: parameter_count(family(name).sizes[size]))


def answers(model):
    with torch.no_grad():
        return np.concatenate(model.hidden(TEXTS))


def test_there_is_a_case_for_every_kind_of_attention():
    assert KINDS.keys() == {kind.kind for kind in (AttentionConfig, *AttentionConfig.__subclasses__())}


@pytest.mark.parametrize("name", families())
def test_every_family_is_made_with_the_heads_of_its_paper(name, vocab, tmp_path):
    model = bw.new(name, smallest(name), vocab=vocab, settings=narrow(name), device="cpu")
    assert tuple(model.heads) == family(name).objectives
    assert model.config.embeddings.vocab_size == model.tokenizer.size
    assert model.config.embeddings.pad_id == model.tokenizer.pad_id
    sentence = model.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", device="cpu")
    assert again.config == model.config
    assert np.array_equal(answers(again), answers(model))
    assert ("bothways alone opens it" in sentence) == (not is_published(model.config))
    if name not in ("causal", "mpnet"):  # transformers has no causal twin, and an MPNet that pads with token 1 only
        assert is_published(model.config)


@pytest.mark.parametrize("name", families())
def test_every_family_can_share_its_blocks(name, vocab, tmp_path):
    model = bw.new(name, smallest(name), vocab=vocab, settings=narrow(name, blocks="1"), device="cpu")
    assert len(model.encoder.stack.blocks) == 1
    assert set(model.config.schedule) == {0}
    sentence = model.save(tmp_path / "model")
    assert np.array_equal(answers(bw.load(tmp_path / "model", device="cpu")), answers(model))
    assert ("no published class computes" in sentence) == (name != "albert")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert", "albert", "deberta", "longformer", "modernbert"])
def test_every_family_takes_every_kind_of_attention(name, kind, vocab, tmp_path):
    settings = {key: value for key, value in narrow(name).items() if key in ("width", "layers", "attention.heads")}
    settings |= {"feed_forward.width": 40, "attention.kind": kind, **KINDS[kind]}
    model = bw.new(name, smallest(name), vocab=vocab, settings=settings, heads=["mlm", "classify"], device="cpu")
    assert model.config.attention.kind == kind
    assert parameter_count(model.config) == sum(value.numel() for value in model.encoder.parameters())
    model.save(tmp_path / "model")
    again = bw.load(tmp_path / "model", device="cpu")
    assert again.config == model.config
    assert np.array_equal(answers(again), answers(model))
    assert again.classify(TEXTS) == model.classify(TEXTS)


def test_deberta_with_shared_blocks_is_smaller_and_learns(vocab, tmp_path):
    """The composition of the issue: built, saved, opened, and every parameter gets a gradient."""
    settings = narrow("deberta-v2", blocks=1)
    model = bw.new("deberta-v2", "v3-xsmall", vocab=vocab, settings=settings, heads=["mlm"], device="cpu")
    plain = bw.new("deberta-v2", "v3-xsmall", vocab=vocab, settings=narrow("deberta-v2"), heads=["mlm"], device="cpu")
    assert model.parameters < plain.parameters
    batch = next(model.tokenizer.encode(TEXTS).batches(64))
    output = model.encoder.train()(batch)
    loss, _ = model.heads["mlm"].loss(output.sequence, model.encoder.token_table, torch.arange(batch.tokens))
    loss.backward()
    assert all(value.grad is not None for value in model.encoder.parameters())


def test_a_new_model_opens_in_transformers(vocab, tmp_path):
    model = bw.new("roberta", vocab=vocab, settings=narrow("roberta"), heads=["classify"], labels=["a", "b", "c"])
    sentence = model.save(tmp_path / "model")
    assert sentence == "transformers opens model as RobertaForSequenceClassification"
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert list(theirs.config.id2label.values()) == ["a", "b", "c"]


def test_the_same_seed_gives_the_same_weights(vocab):
    one, two, other = (bw.new("bert", "tiny", vocab=vocab, seed=seed, device="cpu") for seed in (0, 0, 1))
    assert torch.equal(one.encoder.token_table, two.encoder.token_table)
    assert not torch.equal(one.encoder.token_table, other.encoder.token_table)


def test_weights_suit_the_width_unless_their_deviation_is_set(vocab):
    tiny_bert = bw.new("bert", "tiny", vocab=vocab, device="cpu")
    assert tiny_bert.config.init_std == pytest.approx(0.02 * 6**0.5)
    assert bw.new("bert", "tiny", vocab=vocab, settings={"init_std": "0.5"}).config.init_std == 0.5


def test_positions_follow_the_padding_id_and_hold_texts_as_long_as_published(vocab):
    model = bw.new("roberta", vocab=vocab, settings=narrow("roberta"), device="cpu")
    assert model.config.embeddings.position_offset == model.tokenizer.pad_id + 1
    assert model.config.longest == family("roberta").size().longest


# -- settings


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ({"layers": "3"}, {"layers": 3}),
        ({"attention.heads": "8", "dropout": "0"}, {"attention__heads": 8, "dropout": 0.0}),
        ({"feed_forward.gated": "yes"}, {"feed_forward__gated": True}),
        ({"embeddings.vocab_size": "30_000"}, {"embeddings__vocab_size": 30_000}),
        ({"pooler": "none"}, {"pooler": None}),
        ({"feed_forward.activation": "relu"}, {"feed_forward__activation": "relu"}),
        ({"norm_eps": "1e-5", "norm": "pre"}, {"norm_eps": 1e-5, "norm": "pre"}),
        ({"width": "384"}, {"width": 384, "embeddings__width": 384}),
        ({"width": "384", "embeddings.width": 768}, {"width": 384}),
        ({"attention.kind": "causal"}, {"attention": CausalAttentionConfig(heads=12)}),
    ],
)
def test_typed_settings_mean_what_python_means(typed, meant):
    assert changed(family("bert").size(), typed) == family("bert").size().derive(**meant)


def test_a_part_that_is_not_there_is_made_and_windows_are_listed():
    config = changed(family("bert").size(), {"convolution.kernel": "3", "convolution.activation": "tanh"})
    assert (config.convolution.kernel, config.convolution.activation) == (3, "tanh")
    assert changed(config, {"convolution": "none"}).convolution is None
    config = changed(family("modernbert").size(), {"attention.windows": "0, 8,16"})
    assert config.attention.windows == (0, 8, 16)


@pytest.mark.parametrize("name", families())
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_attention_keeps_what_all_kinds_have(name, kind):
    before = family(name).size().derive(attention__dropout=0.25)
    after = changed(before, {"attention.kind": kind, **KINDS[kind]})
    both = ("heads", "dropout", "bias")
    assert [getattr(after.attention, key) for key in both] == [getattr(before.attention, key) for key in both]
    assert after.derive(attention=before.attention) == before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"attention.hads": 3}, "there is no setting 'attention.hads'; did you mean 'attention.heads'?"),
        ({"layer": 3}, "there is no setting 'layer'; did you mean 'layers'?"),
        ({"layers.heads": 3}, "there is no setting 'layers.heads'"),
        ({"zzz": 3}, "there is no setting 'zzz'; there are .*layers.*attention.heads.*convolution.kernel"),
        ({"layers": "many"}, "layers must be a whole number, not 'many'"),
        ({"layers": 2.5}, "layers must be int, not 2.5"),
        ({"dropout": "much"}, "dropout must be a number, not 'much'"),
        ({"feed_forward.gated": "perhaps"}, "feed_forward.gated must be yes or no, not 'perhaps'"),
        ({"attention": 3}, "attention must be AttentionConfig, not 3"),
        ({"attention": "rotary"}, "attention is a part; set what it is made of, such as attention.heads"),
        ({"attention.kind": "rotry"}, "attention cannot be of the kind 'rotry'.*did you mean 'rotary'"),
        ({"attention.kind": "windows"}, "attention of this kind also needs attention.windows"),
        ({"convolution.groups": "2"}, "convolution of this kind also needs convolution.kernel"),
        ({"attention.heads": 5}, "the width 128 is not a multiple of the 5 heads"),
        ({"family": "albert"}, "family is not a setting"),
        ({"norm": "middle"}, "norm cannot be 'middle'; there are post, pre"),
        ({"embeddings.vocab_size": 9}, "embeddings.vocab_size is 9, but the tokenizer has"),
        ({"embeddings.pad_id": 3}, "embeddings.pad_id is 3, but the tokenizer's padding is 0"),
        ({"pooler": "none"}, "the head 'nsp' needs the pooled output"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(settings, told, vocab):
    with pytest.raises(BothwaysError, match=told):
        bw.new("bert", "tiny", vocab=vocab, settings=settings)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"family": "berd"}, "did you mean 'bert'"),
        ({"size": "huge"}, "BERT has no size 'huge'"),
        ({"heads": ["mlmm"]}, "kind cannot be 'mlmm'.*did you mean 'mlm'"),
        ({"labels": ["a", "b"]}, "labels are given, but no head with classes"),
        ({"vocab": "nowhere"}, "nowhere"),
    ],
)
def test_what_does_not_exist_is_one_sentence(arguments, told, vocab):
    with pytest.raises(BothwaysError, match=told):
        bw.new(**{"family": "bert", "size": "tiny", "vocab": vocab, **arguments})


# -- the command


@pytest.fixture
def said(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*typed):
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return main([str(one) for one in typed]), *capsys.readouterr()

    return run


def test_the_command_makes_a_folder_and_says_what_others_will_see(said, vocab):
    typed = ["--vocab", vocab, "--set", "layers=1", "--set", "attention.heads=4", "--heads", "mlm,classify"]
    status, out, err = said("new", "--size", "tiny", *typed, "--labels", "bad,good", "--out", "mine", "--json")
    assert (status, err) == (0, "")
    made = json.loads(out)
    model = bw.load("mine", device="cpu")
    assert made["parameters"] == model.parameters
    assert made["heads"] == ["mlm", "classify"]
    assert made["seen_by_others"].startswith("transformers opens mine as BertForMaskedLM; the head classify")
    assert (model.config.layers, model.config.attention.heads, model.labels) == (1, 4, ("bad", "good"))


def test_the_command_composes_what_no_paper_has(said, vocab):
    settings = ["--set", "convolution.kernel=3"]
    for key, value in narrow("deberta-v2").items():
        settings += ["--set", f"{key}={value}"] if key != "convolution" else []
    typed = ["--family", "deberta-v2", "--size", "v3-xsmall", "--vocab", vocab, *settings, "--set", "blocks=1"]
    status, out, _ = said("new", *typed, "--heads", "none", "--out", "mine")
    assert status == 0
    assert "mine is a composition that no published class computes: bothways alone opens it" in " ".join(out.split())
    assert said("info", "mine")[0] == 0
    assert bw.load("mine", device="cpu").embed(TEXTS).shape == (2, 48)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--set", "layers"], "--set takes NAME=VALUE, such as attention.heads=8, not 'layers'"),
        (["--set", "layer=3"], "did you mean 'layers'"),
        (["--family", "berd"], "did you mean 'bert'"),
        (["--heads", "clasify"], "did you mean 'classify'"),
    ],
)
def test_a_mistake_leaves_nothing_behind(said, vocab, tmp_path, typed, told):
    status, out, err = said("new", "--vocab", vocab, "--out", "mine", *typed)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "mine").exists()


def test_a_folder_is_replaced_only_when_told(said, vocab):
    typed = ["new", "--size", "tiny", "--vocab", vocab, "--out", "mine"]
    assert said(*typed)[0] == 0
    status, _, err = said(*typed)
    assert status == 2
    assert "exists already" in err
    assert said(*typed, "--overwrite")[0] == 0
