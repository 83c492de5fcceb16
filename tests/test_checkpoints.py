"""Weights of others come in whole or with every name told."""

import json
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run.folder import read_folder
from bothways.run.weights import listed
from same_outputs import assert_same_outputs


@pytest.fixture
def path(tmp_path):
    return tiny.folder(tmp_path / "model")


def rewrite(path, change):
    """Changes the tensors of a folder, a dictionary by published name."""
    tensors = load_file(path / "model.safetensors")
    save_file(change(tensors), path / "model.safetensors", metadata={"format": "pt"})
    (path / "bothways.json").unlink(missing_ok=True)
    return tensors


def rewrite_config(path, **changes):
    config = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


# -- what published checkpoints look like


def old_spelling(name):
    if "LayerNorm" not in name:
        return name
    return name.replace(".weight", ".gamma").replace(".bias", ".beta")


def test_old_spellings_mean_the_same(path):
    expected = read_folder(path)
    rewrite(path, lambda tensors: {old_spelling(name): value for name, value in tensors.items()})
    assert any(name.endswith(".gamma") for name in load_file(path / "model.safetensors"))
    found = read_folder(path)
    assert set(found.heads) == {"mlm", "nsp"}
    assert_same_outputs(found, expected)


def test_the_prefix_may_be_absent(path):
    expected = read_folder(path)
    rewrite(path, lambda tensors: {name.removeprefix("bert."): value for name, value in tensors.items()})
    assert_same_outputs(read_folder(path), expected)


def test_the_prefix_may_be_present_without_heads(tmp_path):
    path = tiny.folder(tmp_path / "model", heads=())
    assert not any(name.startswith("bert.") for name in load_file(path / "model.safetensors"))
    expected = read_folder(path)
    rewrite(path, lambda tensors: {f"bert.{name}": value for name, value in tensors.items()})
    assert_same_outputs(read_folder(path), expected)


def test_tied_tensors_may_be_repeated(path):
    expected = read_folder(path)
    repeated = {"weight": "bert.embeddings.word_embeddings.weight", "bias": "cls.predictions.bias"}
    rewrite(
        path,
        lambda t: t | {f"cls.predictions.decoder.{end}": t[name].clone() for end, name in repeated.items()},
    )
    found = read_folder(path)
    assert not str(found.report)
    assert_same_outputs(found, expected)


def test_a_tied_tensor_fills_the_place_of_the_one_it_repeats(path):
    expected = read_folder(path)

    def change(tensors):
        tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
        tensors["cls.predictions.decoder.weight"] = tensors.pop("bert.embeddings.word_embeddings.weight")
        return tensors

    rewrite(path, change)
    assert_same_outputs(read_folder(path), expected)


def test_a_table_that_should_be_tied_and_is_not_is_reported(path):
    def change(tensors):
        table = tensors["bert.embeddings.word_embeddings.weight"]
        return tensors | {"cls.predictions.decoder.weight": table + 1}

    rewrite(path, change)
    with pytest.warns(BothwaysWarning, match=r"not used: cls\.predictions\.decoder\.weight$"):
        read_folder(path)


def test_a_table_of_its_own_that_is_meant_so_leaves_no_head_that_would_be_wrong(path):
    def change(tensors):
        table = tensors["bert.embeddings.word_embeddings.weight"]
        return tensors | {"cls.predictions.decoder.weight": table.clone()}

    rewrite(path, change)
    rewrite_config(path, tie_word_embeddings=False)
    assert set(read_folder(path).heads) == {"mlm", "nsp"}  # the tables are alike
    rewrite(
        path,
        lambda tensors: tensors | {"cls.predictions.decoder.weight": tensors["cls.predictions.decoder.weight"] + 1},
    )
    with pytest.warns(BothwaysWarning, match=r"not used: cls\.predictions"):
        assert set(read_folder(path).heads) == {"nsp"}


def test_weights_in_whole_numbers_are_refused(path):
    rewrite(path, lambda tensors: {name: (100 * value).to(torch.int8) for name, value in tensors.items()})
    with pytest.raises(BothwaysError, match="are whole numbers: weights that another library quantized are not opened"):
        read_folder(path)


def test_counters_of_positions_are_dropped(path):
    expected = read_folder(path)
    rewrite(path, lambda tensors: tensors | {"bert.embeddings.position_ids": torch.arange(512)[None]})
    found = read_folder(path)
    assert found.report.dropped == ["bert.embeddings.position_ids"]
    assert_same_outputs(found, expected)


@pytest.mark.parametrize("also", ["architectures", "position_embedding_type"])
def test_configurations_of_2018_named_no_family(path, also):
    expected = read_folder(path)
    rewrite_config(path, **{"model_type": ..., also: ..., "pruned_heads": {}, "_num_labels": 2, "eos_token_ids": 0})
    assert_same_outputs(read_folder(path), expected)


def test_half_precision_is_read_as_float32(path):
    expected = read_folder(path)
    rewrite(path, lambda tensors: {name: value.bfloat16() for name, value in tensors.items()})
    found = read_folder(path)
    for name, value in found.encoder.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected.encoder.state_dict()[name].bfloat16().float())


def test_a_head_of_another_task_is_not_taken_for_ours(tmp_path):
    """Tagging calls its head "classifier" too."""
    path = tiny.folder(tmp_path / "model", heads=("classify",))
    (path / "bothways.json").unlink()
    assert read_folder(path).head_configs["classify"].labels == tiny.LABELS
    rewrite_config(path, architectures=["BertForTokenClassification"])
    assert read_folder(path).heads.keys() == {"tag"}
    rewrite_config(path, architectures=["BertForSomethingElse"])
    with pytest.warns(BothwaysWarning, match=r"not used: classifier\.bias, classifier\.weight"):
        assert not read_folder(path).heads


@pytest.mark.parametrize(
    ("stated", "meant"),
    [
        ("single_label_classification", "one"),
        ("multi_label_classification", "several"),
        ("regression", "scores"),
        (None, "one"),
    ],
)
def test_what_a_classifier_was_trained_for_is_read(tmp_path, stated, meant):
    path = tiny.folder(tmp_path / "model", heads=("classify",))
    (path / "bothways.json").unlink()
    rewrite_config(path, problem_type=stated)
    assert read_folder(path).head_configs["classify"].problem == meant
    rewrite_config(path, problem_type="ranking")
    with pytest.raises(BothwaysError, match="problem_type = 'ranking'; there are single_label_classification"):
        read_folder(path)


def test_labels_may_be_absent_but_not_in_disagreement(tmp_path):
    path = tiny.folder(tmp_path / "model", heads=("classify",))
    (path / "bothways.json").unlink()
    rewrite_config(path, id2label=..., classifier_dropout=None)
    assert read_folder(path).head_configs["classify"].labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert read_folder(path).head_configs["classify"].dropout == 0.1
    rewrite_config(path, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert read_folder(path).head_configs["classify"].labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    rewrite_config(path, id2label={"0": "yes", "1": "no"})
    with pytest.raises(BothwaysError, match="names the labels 0, 1, but the classifier has 3 classes"):
        read_folder(path)


# -- names told


def test_every_missing_tensor_is_named(path):
    gone = [
        *(f"bert.encoder.layer.{layer}.output.dense.bias" for layer in range(3)),
        "bert.encoder.layer.1.attention.self.key.weight",
        "cls.predictions.transform.dense.weight",
        "bert.embeddings.LayerNorm.bias",
    ]
    rewrite(path, lambda tensors: {name: value for name, value in tensors.items() if name not in gone})
    with pytest.warns(BothwaysWarning) as warned:
        saved = read_folder(path)
    assert len(saved.report.missing) == len(gone)
    for name in (
        "encoder.stack.blocks.0-2.feed_forward.output.bias",
        "encoder.stack.blocks.1.attention.key.weight",
        "mlm.dense.weight",
        "encoder.embeddings.norm.bias",
    ):
        assert name in str(warned[0].message).partition("missing (random now): ")[2]


def test_every_unexpected_tensor_is_named(path):
    extra = [f"qa_outputs.{place}.x" for place in (0, 1, 2, 5)] + [f"other_{place}" for place in range(20)]
    rewrite(path, lambda tensors: tensors | {name: torch.zeros(2) for name in extra})
    with pytest.warns(BothwaysWarning) as warned:
        saved = read_folder(path)
    assert sorted(saved.report.unexpected) == sorted(extra)
    told = str(warned[0].message)
    assert "qa_outputs.0-2,5.x" in told
    assert all(name in told for name in extra if name.startswith("other"))


def test_layers_beyond_the_configuration_are_named(path):
    rewrite_config(path, num_hidden_layers=2)
    with pytest.warns(BothwaysWarning, match=r"not used: .*encoder\.stack\.blocks\.2\.attention\.query\.weight"):
        read_folder(path)


def test_every_misshapen_tensor_is_named_with_both_shapes(path):
    rewrite_config(path, intermediate_size=97)
    with pytest.raises(BothwaysError) as caught:
        read_folder(path)
    told = str(caught.value)
    assert f"the tensors of {path} do not fit its configuration" in told
    assert "encoder.stack.blocks.0-2.feed_forward.inner.weight is 96 × 48, expected 97 × 48" in told
    assert "encoder.stack.blocks.0-2.feed_forward.inner.bias is 96, expected 97" in told
    assert "encoder.stack.blocks.0-2.feed_forward.output.weight is 48 × 96, expected 48 × 97" in told


def test_names_of_all_layers_are_told_as_one():
    assert listed(["a.0.x", "b", "a.1.x", "a.2.x", "a.7.x", "a.10.y"]) == "a.0-2,7.x, b, a.10.y"
    assert listed([]) == ""


# -- the files


def test_shards_are_read_through_their_index(path):
    expected = read_folder(path)
    tensors = load_file(path / "model.safetensors")
    names = [f"model-0000{part}-of-00003.safetensors" for part in (1, 2, 3)]
    places = {name: names[place % 3] for place, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name in tensors if places[name] == file}, path / file)
    (path / "model.safetensors").unlink()
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert_same_outputs(read_folder(path), expected)
    (path / names[1]).unlink()
    with pytest.raises(BothwaysError, match=f"{names[1]} is missing"):
        read_folder(path)
    for damaged in ("[]", "{}", "{"):
        index.write_text(damaged)
        with pytest.raises(BothwaysError, match=re.escape(str(index))):
            read_folder(path)


def test_an_index_does_not_lead_out_of_the_folder(path):
    outside = path.parent / "outside.safetensors"
    (path / "model.safetensors").rename(outside)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../outside.safetensors"}}))
    with pytest.raises(BothwaysError, match=r"outside.safetensors is missing"):
        read_folder(path)


def to_bin(path, value=None):
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    torch.save(tensors if value is None else value, path / "pytorch_model.bin")


def test_an_old_bin_file_is_read_by_the_safe_loader(path):
    expected = read_folder(path)
    to_bin(path)
    assert_same_outputs(read_folder(path), expected)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("plain_pickle", [True, False])
def test_a_malicious_bin_file_is_refused_unexecuted(path, plain_pickle):
    target = path.parent / "executed"
    to_bin(path, {"bert.embeddings.word_embeddings.weight": Trap(target)})
    if plain_pickle:
        (path / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Trap(target)}))
    with pytest.raises(BothwaysError, match=r"pytorch_model.bin cannot be read by the safe loader"):
        read_folder(path)
    assert not target.exists()


def test_a_bin_file_of_something_else_is_refused(path):
    to_bin(path, [torch.zeros(3)])
    with pytest.raises(BothwaysError, match=r"pytorch_model.bin holds a list, not tensors by name"):
        read_folder(path)


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"no" * 99]
)
def test_damaged_weights_are_one_sentence(path, damage):
    file = path / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BothwaysError, match=f"{file} is damaged or not a safetensors file.*copy it again"):
        read_folder(path)


def test_what_is_absent_is_named(path):
    (path / "model.safetensors").unlink()
    with pytest.raises(BothwaysError, match=f"{path} holds no weights; expected model.safetensors"):
        read_folder(path)
    (path / "config.json").unlink()
    with pytest.raises(BothwaysError, match=f"{path} is not a model folder: it has no config.json"):
        read_folder(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "the model family 'llama' is not supported; supported are .*bert"),
        ({"model_type": ..., "architectures": ["GPT2LMHeadModel"]}, "config.json names no model_type"),
        ({"model_type": ..., "architectures": ..., "type_vocab_size": ...}, "config.json names no model_type"),
        ({"hidden_sizes": 48}, "unknown key 'hidden_sizes'; did you mean 'hidden_size'"),
        ({"vocab_size": ...}, "config.json lacks the key 'vocab_size'"),
        ({"vocab_size": 100}, "word_embeddings|tokens.weight is .* expected 100"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(path, changes, message):
    rewrite_config(path, **changes)
    with pytest.raises(BothwaysError, match=message) as caught:
        read_folder(path)
    assert str(path) in str(caught.value)


def test_a_damaged_config_is_one_sentence(path):
    for text in ("{", "[]", '"bert"'):
        (path / "config.json").write_text(text)
        with pytest.raises(BothwaysError, match=re.escape(str(path / "config.json"))):
            read_folder(path)


def test_our_own_file_damaged_is_one_sentence(path):
    for text, message in (("[]", "is not what bothways writes"), ('{"heads": [{"kind": "mlmm"}]}', "cannot be 'mlmm'")):
        (path / "bothways.json").write_text(text)
        with pytest.raises(BothwaysError, match=message):
            read_folder(path)


def test_a_head_on_a_pooled_output_that_is_absent_is_one_sentence(path):
    rewrite(path, lambda tensors: {name: value for name, value in tensors.items() if "pooler" not in name})
    with pytest.raises(BothwaysError, match="the head 'nsp' needs the pooled output, which this encoder does not have"):
        read_folder(path)


def test_a_foreign_key_is_only_reported(path):
    rewrite_config(path, our_own_note="made on a rainy day")
    with pytest.warns(BothwaysWarning, match="config.json has a key 'our_own_note' that is not used here"):
        read_folder(path)


def test_a_tokenizer_with_more_tokens_than_the_table_is_refused(path):
    (tokens := tiny.tokenizer(tiny.KNOWN + " extra words here")).save(path)
    rows = read_folder_rows(path)
    with pytest.raises(BothwaysError, match=f"the tokenizer in .* has {tokens.size} tokens, but the model only {rows}"):
        read_folder(path)


def read_folder_rows(path):
    return json.loads((path / "config.json").read_text())["vocab_size"]
