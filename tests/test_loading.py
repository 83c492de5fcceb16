"""What cannot be loaded is refused in one sentence, in every family alike."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import test_families
import tiny
from bothways.cli import main
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.families import families, family
from bothways.run.folder import read_folder, write_folder
from bothways.run.model import Model

THERE = test_families.THERE


@pytest.fixture(params=families())
def name(request):
    return request.param


@pytest.fixture
def path(name, tmp_path):
    """A folder with the first head of the family's paper."""
    heads = family(name).objectives[:1]
    write_folder(test_families.ours_of(tiny.config(name), heads), tmp_path / "model")
    return tmp_path / "model"


def rewrite_config(path, change):
    """Changes the file that says what the encoder is: the published one, or ours for a family without one."""
    own = json.loads((path / "bothways.json").read_text())
    file = path / ("bothways.json" if "encoder" in own else "config.json")
    values = json.loads(file.read_text())
    change(values.get("encoder", values))
    file.write_text(json.dumps(values))


def rewrite_tensors(path, change):
    save_file(change(load_file(path / "model.safetensors")), path / "model.safetensors")


def refused(path, *told):
    with pytest.raises(BothwaysError) as caught:
        read_folder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for one in told:
        assert re.search(one, message), message
    return message


def test_an_unknown_architecture_is_refused_with_those_that_are_supported(path):
    values = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (path / "bothways.json").unlink()
    (path / "config.json").write_text(json.dumps(values))
    message = refused(path, "the model family 'gpt2' is not supported; supported are")
    assert all(known in message for known in families())
    del values["model_type"]
    (path / "config.json").write_text(json.dumps(values))
    refused(path, "config.json names no model_type, so its family is not known")


def test_tensors_of_another_shape_are_refused_with_both_shapes(path, name):
    width = tiny.config(name).feed_forward.width
    keys = ("intermediate_size", "hidden_dim", "feed_forward")

    def wider(values):
        key = next(key for key in keys if key in values)
        values[key] = {**values[key], "width": width + 8} if isinstance(values[key], dict) else width + 8

    rewrite_config(path, wider)
    refused(path, "do not fit its configuration", r"feed_forward\.inner\.weight is \d+ × 48, expected \d+ × 48")


def test_a_checkpoint_without_some_of_its_blocks_is_refused(path, name):
    blocks = max(tiny.config(name).schedule) + 1
    numbered = re.compile(rf"\.{blocks - 1}\.")
    rewrite_tensors(path, lambda tensors: {key: value for key, value in tensors.items() if not numbered.search(key)})
    if blocks == 1:
        # ALBERT's only block: its groups are numbered before its layers, so nothing of it is left
        refused(path, "no block of the encoder is among them")
    else:
        refused(path, f"it states {blocks} blocks, and there are no tensors for {blocks - 1}, counted from 0")


def test_tensors_with_names_of_nobody_are_refused(path):
    rewrite_tensors(path, lambda tensors: {f"transformer.h.{key}": value for key, value in tensors.items()})
    refused(path, "no block of the encoder is among them; the first is named 'transformer.h.")


@pytest.mark.parametrize("key", ["AutoModel", "AutoModelForMaskedLM"])
def test_a_model_that_code_of_its_own_computes_is_refused(key, tmp_path):
    """As MosaicBERT, whose config.json says bert."""
    write_folder(test_families.ours_of(tiny.config("bert"), ["mlm"]), tmp_path / "model")
    auto_map = {"AutoConfig": "configuration_bert.BertConfig", key: "bert_layers.BertForMaskedLM"}
    rewrite_config(tmp_path / "model", lambda values: values.update(auto_map=auto_map))
    refused(tmp_path / "model", r"code of its own computes the model \(auto_map: bert_layers\.BertForMaskedLM\)")


@pytest.mark.parametrize("other", ["distilbert", "mpnet", "modernbert"])
def test_tensors_of_another_family_are_refused(other, tmp_path):
    """Names differ, so nothing would be found and everything stay random."""
    config = tiny.config("bert")
    write_folder(test_families.ours_of(config, []), tmp_path / "model")
    members = family(other)
    (tmp_path / "model" / "config.json").write_text(json.dumps(members.to_hf(tiny.config(other))))
    refused(tmp_path / "model", "do not fit its configuration")


def test_a_head_of_an_unknown_class_is_reported_and_left_alone(path, name):
    if name not in THERE:
        pytest.skip("no class of transformers")
    (path / "bothways.json").unlink()
    extra = {"regressor.weight": torch.zeros(1, 48)}
    rewrite_tensors(path, lambda tensors: tensors | extra)
    rewrite_config_json(path, architectures=["BertForSomethingElse"])
    with pytest.warns(BothwaysWarning, match=r"not used: .*regressor\.weight"):
        saved = read_folder(path)
    assert "regressor" not in saved.heads


def rewrite_config_json(path, **changes):
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(values | changes))


def test_a_tokenizer_larger_than_the_table_is_refused(path):
    tokens = tiny.tokenizer(" ".join(f"{a}{b}" for a in "abcdefghijklmnop" for b in "qrstuvwxyzabcdefg"))
    assert tokens.size > 211
    tokens.save(path)
    refused(path, f"the tokenizer in .* has {tokens.size} tokens, but the model only 211")


def test_a_head_that_does_not_exist_is_refused(path, name):
    model = Model(read_folder(path), device="cpu", name="mine")
    with pytest.raises(
        BothwaysError, match=r"classify needs the head 'classify', which mine does not have \(its heads"
    ):
        model.classify("the dog")
    with pytest.raises(BothwaysError, match=r"kind cannot be 'clasify'.*did you mean 'classify'"):
        family(name).head("clasify")


def test_positions_beyond_the_table_are_refused(name):
    from bothways.batch import make_batch
    from bothways.model.build import build_encoder

    config = tiny.config(name).derive(max_length=9)
    with pytest.raises(BothwaysError, match="a sequence has 10 tokens, but this model takes at most 9"):
        build_encoder(config)(make_batch([list(range(10))]))


def test_the_heads_that_a_checkpoint_carries_are_told(path, name, capsys):
    assert main(["info", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["heads"] == list(family(name).objectives[:1])
    assert told["family"] == family(name).title
