"""Pruning: texts whose tokens stay keep their vectors, layers and inner values go where they matter least."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

import bothways as bw
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.learn.compression.feed_forward import suited_width
from bothways.model.families import families
from bothways.text.train import train_tokenizer

TEXTS = tiny.sentences(60, seed=4)
FEW = ["the old river is red", "a small town"]
ELSEWHERE = ["zzz www 999 :;", "qqq unseen evening"]
FAMILIES = sorted(families())


def spelled(model, texts):
    encoded = model.tokenizer.encode(texts)
    return [[model.tokenizer.tokens[token] for token in encoded.sequence(place)] for place in range(len(texts))]


# -- the vocabulary


@pytest.mark.parametrize("name", FAMILIES)
def test_texts_whose_tokens_stay_keep_their_vectors_in_every_family(name):
    model = tiny.model(("mlm",) if name != "electra" else ("rtd",), name=name)
    found = bw.prune(model, FEW, vocabulary=True)
    assert found.after["tokens"] < 0.8 * found.before["tokens"]
    assert found.after["parameters"] < found.before["parameters"]
    np.testing.assert_allclose(found.model.embed(FEW), model.embed(FEW), atol=1e-6)
    assert found.alike["worst_cosine"] > 1 - 1e-6
    assert spelled(found.model, FEW) == spelled(model, FEW)
    assert model.tokenizer.size == found.before["tokens"]  # the other one stays as it was


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_every_kind_of_vocabulary_spells_what_it_was_pruned_on_as_before(kind, tmp_path):
    words = train_tokenizer([" ".join(TEXTS)] * 3, vocab_size=400, kind=kind)
    model = bw.new("bert", "tiny", vocab=words, heads=("mlm",))
    found = bw.prune(model, TEXTS[:10], vocabulary=True)
    assert found.after["tokens"] < found.before["tokens"]
    assert spelled(found.model, TEXTS[:10]) == spelled(model, TEXTS[:10])
    np.testing.assert_allclose(found.model.embed(TEXTS[:10]), model.embed(TEXTS[:10]), atol=1e-6)
    found.model.embed(ELSEWHERE)  # other texts are spelled with what is left
    if kind == "bpe":  # bytes stay, so that nothing is without a spelling
        assert spelled(found.model, ["Москва æ 日本"]) == spelled(model, ["Москва æ 日本"])
    found.model.save(tmp_path / "m")
    np.testing.assert_array_equal(bw.load(tmp_path / "m", engine="reference").embed(TEXTS), found.model.embed(TEXTS))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert theirs(TEXTS[:10])["input_ids"] == [
        found.model.tokenizer.encode([text]).token_ids.tolist() for text in TEXTS[:10]
    ]


def test_masked_words_are_filled_in_as_before_but_for_what_is_gone():
    model = tiny.model(("mlm",))
    found = bw.prune(model, FEW, vocabulary=True).model
    text = "the [MASK] river"
    before = {fill.token: fill.probability for fill in model.fill_mask(text, model.tokenizer.size)}
    after = {fill.token: fill.probability for fill in found.fill_mask(text, found.tokenizer.size)}
    assert set(after) < set(before)
    left = sum(before[token] for token in after)
    assert all(after[token] == pytest.approx(before[token] / left, rel=1e-3) for token in after)


def test_it_opens_elsewhere_with_the_same_numbers(tmp_path):
    model = tiny.model(("mlm",), name="roberta")
    found = bw.prune(model, FEW, vocabulary=True, layers=2, feed_forward=32).model
    found.save(tmp_path / "m")
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "m").eval()
    ids = found.tokenizer.encode(FEW[:1]).token_ids[None].astype(np.int64)
    with torch.no_grad():
        states = theirs(input_ids=torch.from_numpy(ids)).last_hidden_state[0].numpy()
    np.testing.assert_allclose(states, found.hidden(FEW[0]), atol=1e-5)


def test_rare_tokens_go_and_prompts_and_letters_stay():
    model = tiny.model(())
    model.sentence = model.sentence.__class__("mean", prompts={"query": "which garden: "})
    few = bw.prune(model, ["the the the the red"], vocabulary=True, fewest=2).model
    assert {"the", "garden", "which", "[MASK]", "r", "##e", "z"} <= set(few.tokenizer.tokens)
    assert not {"red", "river"} & set(few.tokenizer.tokens)
    one = bw.prune(model, ["the the the the red"], vocabulary=True, tokens=1).model
    assert "the" in one.tokenizer.tokens
    assert "red" not in one.tokenizer.tokens


# -- layers


def test_the_layer_that_does_nothing_goes_first():
    model = tiny.model(("classify",), layers=4)
    model.encoder.stack.blocks[2].load_state_dict(
        {
            name: torch.zeros_like(value) if "norm" not in name else value
            for name, value in model.encoder.stack.blocks[1].state_dict().items()
        }
    )
    found = bw.prune(model, TEXTS, layers=3)
    assert found.layers == [0, 1, 3]
    assert found.after["layers"] == 3
    assert "equal_decisions" in found.alike


@pytest.mark.parametrize("name", FAMILIES)
def test_some_layers_give_what_these_layers_compute(name):
    model = tiny.model((), name=name)
    layers = [0, model.config.layers - 1]
    found = bw.prune(model, TEXTS, layers=layers).model
    assert found.config.layers == 2
    assert not np.allclose(found.embed(TEXTS), model.embed(TEXTS), atol=1e-4) or model.config.blocks == 1
    if model.config.blocks is None:
        states = found.encoder.state_dict()
        for place, layer in enumerate(layers):
            for key, value in model.encoder.stack.blocks[layer].state_dict().items():
                torch.testing.assert_close(states[f"stack.blocks.{place}.{key}"], value)


# -- inner values


def test_values_that_add_nothing_go_without_loss():
    model = tiny.model((), seed=1)
    kept = model.config.feed_forward.width - 32
    with torch.no_grad():
        for block in model.encoder.stack.blocks:
            block.feed_forward.output.weight[:, 5:37] = 0
    found = bw.prune(model, TEXTS, feed_forward=kept)
    assert found.after["feed_forward"] == kept
    np.testing.assert_allclose(found.model.embed(TEXTS), model.embed(TEXTS), atol=2e-3)


@pytest.mark.parametrize("name", ["bert", "modernbert", "albert"])
def test_the_others_take_over_for_values_that_repeat_them(name):
    """Of two equal values either may go; without a new fit half of what they say would be lost."""
    model = tiny.model((), name=name)
    width = model.config.feed_forward.width
    with torch.no_grad():
        for block in model.encoder.stack.blocks:
            inner = block.feed_forward.inner
            for first in range(0, len(inner.weight), width):  # both halves of a gated layer
                inner.weight[first + width // 2 : first + width] = inner.weight[first : first + width // 2]
                if inner.bias is not None:
                    inner.bias[first + width // 2 : first + width] = inner.bias[first : first + width // 2]
    found = bw.prune(model, TEXTS, feed_forward=width // 2)
    assert found.alike["worst_cosine"] > 0.9999


def test_widths():
    assert suited_width(3072, 0.5) == 1536
    assert suited_width(3072, 0.7) % 32 == 0
    assert suited_width(100, 40) == 40
    with pytest.raises(BothwaysError, match="does not do where it is 96"):
        suited_width(96, 0.999)
    for wanted in (0, -1, 100, 0.01, 1.0, 1.5, 40.5, float("nan"), float("inf")):
        with pytest.raises(BothwaysError, match=r"a feed-forward width of .* does not do where it is 100"):
            suited_width(100, wanted)


# -- the command


def test_the_command_writes_and_says_what_it_cost(tmp_path, capsys):
    tiny.folder(tmp_path / "m", ("mlm",))
    (tmp_path / "texts.txt").write_text("\n".join(FEW))
    typed = ["prune", str(tmp_path / "m"), str(tmp_path / "out"), "--texts", str(tmp_path / "texts.txt")]
    assert main([*typed, "--vocabulary", "--layers", "1", "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["after"]["layers"] == 1
    assert said["after"]["tokens"] < said["before"]["tokens"]
    assert bw.load(tmp_path / "out").config.layers == 1
    assert main([*typed, "--vocabulary", "--overwrite", "--device", "cpu"]) == 0
    assert "cosine with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "say what is to be pruned"),
        (["--layers", "2", "--tokens", "5"], "ask for the vocabulary"),
        (["--layers", "9"], "has 3 layers, 0 to 2"),
        (["--layers", "1,0"], "in their order"),
        (["--layers", "many"], "neither a number of layers nor a list"),
        (["--feed-forward", "1.0e9"], "does not do where it is 96"),
        (["--vocabulary", "--texts", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_mistakes_are_one_sentence(asked, said, tmp_path, capsys):
    tiny.folder(tmp_path / "m", ("mlm",))
    (tmp_path / "texts.txt").write_text("\n".join(FEW))
    typed = ["prune", str(tmp_path / "m"), str(tmp_path / "out"), "--texts", str(tmp_path / "texts.txt")]
    assert main([*typed, *asked, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
