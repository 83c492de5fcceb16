"""What is true of ALBERT in particular.

The last test needs RXNMapper's published weights, which are not installed with the others because that package asks for
an old `transformers`: ``pip install --no-deps rxnmapper==0.4.3``.
"""

import importlib.util
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.families import family
from bothways.run.describe import describe_model
from bothways.run.folder import Saved, encoder_config, read_folder, write_folder
from shared import SHARED, needs_shared

ALBERT = family("albert")

# Lan et al. 2019, tables 1 and 2: layers, width, heads, feed-forward; then the parameters of the encoder with its
# pooler, and those that the paper states in millions. The two disagree about xlarge and xxlarge.
SIZES = {
    "base": (12, 768, 12, 3072, 11_683_584, 12),
    "large": (24, 1024, 16, 4096, 17_683_968, 18),
    "xlarge": (24, 2048, 16, 8192, 58_724_864, 60),
    "xxlarge": (12, 4096, 64, 16_384, 222_595_584, 235),
}
COUNTED = {"base": 12, "large": 18, "xlarge": 59, "xxlarge": 223}


def written(config, heads=(), labels=tiny.LABELS, seed=3):
    """A random model as a folder holds it."""
    configs = {kind: tiny.head("albert", kind) for kind in heads}
    configs |= {kind: configs[kind].derive(labels=labels) for kind in configs if kind in ("classify", "tag")}
    modules = {kind: tiny.randomise(build_head(head, config), seed + 1).eval() for kind, head in configs.items()}
    return Saved(
        encoder=tiny.randomise(build_encoder(config), seed).eval(), heads=modules, head_configs=configs, tokenizer=None
    )


def count(module):
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("version", ["", "-v1"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones(size, version):
    config = ALBERT.sizes[size + version]
    with torch.device("meta"):
        parameters = count(build_encoder(config))
    resolved = config.layers, config.width, config.attention.heads, config.feed_forward.width
    *published, stated = SIZES[size]
    assert [*resolved, parameters] == published
    assert round(parameters / 1e6) == COUNTED[size]
    assert COUNTED[size] == stated or size in ("xlarge", "xxlarge")
    assert (config.embeddings.vocab_size, config.embeddings.width) == (30_000, 128)
    assert config.schedule == (0,) * config.layers


def test_no_size_is_left_out():
    assert set(ALBERT.sizes) == {size + version for size in SIZES for version in ("", "-v1")}


def test_the_versions_differ_in_gelu_and_dropout():
    for size in SIZES:
        first, second = ALBERT.sizes[f"{size}-v1"], ALBERT.sizes[size]
        assert (first.feed_forward.activation, second.feed_forward.activation) == ("gelu", "gelu_tanh")
        rate = 0.0 if size == "xxlarge" else 0.1
        assert {first.dropout, first.attention.dropout, first.embeddings.dropout} == {rate}
        assert {second.dropout, second.attention.dropout, second.embeddings.dropout} == {0.0}
        changes = {"feed_forward__activation": "gelu_tanh", "dropout": 0.0}
        changes |= {"attention__dropout": 0.0, "embeddings__dropout": 0.0}
        assert first.derive(**changes) == second


def test_a_config_without_keys_means_what_it_means_to_transformers():
    """A key that is missing has the value of version 2's xxlarge."""
    assert ALBERT.from_hf({"model_type": "albert"}) == ALBERT.size("xxlarge")
    assert ALBERT.from_hf(transformers.AlbertConfig().to_dict()) == ALBERT.size("xxlarge")


@needs_shared
def test_a_published_config_json_is_read_without_complaint():
    published = json.loads((SHARED / "tokenizers" / "albert-base-v2" / "config.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ALBERT.from_hf(published) == ALBERT.size("base")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("inner_group_num", 2, "1 is"),
        ("net_structure_type", 1, "0 is"),
        ("gap_size", 3, "0 is"),
        ("num_memory_blocks", 2, "0 is"),
        ("down_scale_factor", 2, "1 is"),
        ("layers_to_keep", [0, 3], r"\[\] is"),
        ("position_embedding_type", "relative_key", "'absolute' is"),
        ("hidden_act", "mish", "there are gelu"),
    ],
)
def test_switches_that_mean_another_model_are_refused(key, value, wanted):
    with pytest.raises(BothwaysError, match=f"says {key} = .*, which is not supported; {wanted}"):
        ALBERT.from_hf(ALBERT.to_hf(ALBERT.size()) | {key: value})


@pytest.mark.parametrize("groups", [0, 13])
def test_groups_that_layers_cannot_have_are_refused(groups):
    with pytest.raises(BothwaysError, match=f"12 layers cannot be made of {groups} blocks; give 1 to 12"):
        ALBERT.from_hf(ALBERT.to_hf(ALBERT.size()) | {"num_hidden_groups": groups})


@pytest.mark.parametrize(("layers", "groups"), [(3, 1), (3, 3), (5, 2), (6, 3), (18, 14)])
@torch.no_grad()
def test_groups_are_scheduled_as_in_transformers(layers, groups, tmp_path):
    """Which block each layer applies, seen there by a hook; and the numbers, both where layers divide and not."""
    config = tiny.config("albert", layers=layers, blocks=groups)
    theirs = tiny.randomise(
        transformers.AlbertModel(transformers.AlbertConfig(**ALBERT.to_hf(config), attn_implementation="eager"))
    ).eval()
    applied = []
    for number, group in enumerate(theirs.encoder.albert_layer_groups):
        group.register_forward_hook(lambda *_, number=number: applied.append(number))
    ids = torch.arange(20)[None]
    expected = theirs(ids, token_type_ids=torch.zeros_like(ids)).last_hidden_state[0]
    assert config.schedule == tuple(applied)
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert saved.encoder.config == config
    batch = make_batch([np.arange(20)], [np.zeros(20, int)])
    assert (saved.encoder(batch).sequence - expected).abs().max() < 1e-5
    write_folder(saved, tmp_path / "ours")
    again = transformers.AlbertModel.from_pretrained(tmp_path / "ours", attn_implementation="eager")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in again.state_dict().items())


def test_every_schedule_is_that_of_transformers():
    """Its formula rounds a quotient of floats: 18 layers of 14 groups do not fall as whole numbers would have them."""
    for layers in range(1, 49):
        for groups in range(1, layers + 1):
            config = tiny.config("albert", layers=layers, blocks=groups)
            assert config.schedule == tuple(int(layer / (layers / groups)) for layer in range(layers))
            assert set(config.schedule) == set(range(groups))


def test_the_number_in_a_name_is_the_groups():
    ours = "encoder.stack.blocks.{}.feed_forward.inner.weight"
    for group in (0, 11):
        theirs = f"albert.encoder.albert_layer_groups.{group}.albert_layers.0.ffn.weight"
        assert ALBERT.names.published(ours.format(group)) == theirs
        assert ALBERT.names.ours(theirs) == ours.format(group)
    assert ALBERT.names.ours(theirs.replace("albert_layers.0", "albert_layers.1")) == "", "a second layer in a group"


def test_a_shared_block_is_there_once(tmp_path):
    """Counted, saved and stepped once, however many layers apply it."""
    few, many = (build_encoder(tiny.config("albert", layers=layers)) for layers in (3, 12))
    assert count(few) == count(many)
    assert list(few.state_dict()) == list(many.state_dict())
    assert len(list(many.stack.blocks)) == 1
    unshared = build_encoder(tiny.config("albert", layers=12, blocks=12))
    block = count(many.stack.blocks[0])
    assert count(unshared) == count(many) + 11 * block
    write_folder(written(tiny.config("albert", layers=12), ["mlm"]), tmp_path / "model")
    assert describe_model(tmp_path / "model")["encoder_parameters"] == count(many)


@torch.no_grad()
def test_the_encoder_equals_one_written_by_hand():
    """Tables normed, then projected up; the same block over and over; tanh GELU; the head at the tables' width."""
    saved = written(tiny.config("albert", layers=3), ["mlm", "sop"])
    own = {name: value.double().numpy() for name, value in saved.encoder.state_dict().items()}
    mlm = {name: value.double().numpy() for name, value in saved.heads["mlm"].state_dict().items()}
    ids, segments = np.array([5, 8, 13, 21, 34, 55]), np.array([0, 0, 0, 1, 1, 1])

    def linear(x, name, where=own):
        return x @ where[f"{name}.weight"].T + where[f"{name}.bias"]

    def norm(x, name, where=own):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * where[f"{name}.weight"] + where[f"{name}.bias"]

    def gelu(x):
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def attention(x):
        out = []
        for part in np.split(np.arange(48), 4):
            q, k, v = (linear(x, f"stack.blocks.0.attention.{what}")[:, part] for what in ("query", "key", "value"))
            scores = np.exp(q @ k.T / np.sqrt(12))
            out.append(scores / scores.sum(-1, keepdims=True) @ v)
        return linear(np.concatenate(out, -1), "stack.blocks.0.attention.output")

    x = own["embeddings.tokens.weight"][ids] + own["embeddings.positions.weight"][:6]
    x = linear(norm(x + own["embeddings.segments.weight"][segments], "embeddings.norm"), "embeddings.projection")
    for _ in range(3):
        x = norm(x + attention(x), "stack.blocks.0.attention_norm")
        inner = gelu(linear(x, "stack.blocks.0.feed_forward.inner"))
        x = norm(x + linear(inner, "stack.blocks.0.feed_forward.output"), "stack.blocks.0.feed_forward_norm")
    out = saved.encoder(make_batch([ids], [segments]))
    assert np.abs(out.sequence.numpy() - x).max() < 1e-5
    head = norm(gelu(linear(x, "dense", mlm)), "norm", mlm)
    assert head.shape == (6, 20)
    logits = saved.heads["mlm"](out.sequence, saved.encoder.token_table)
    assert np.abs(logits.numpy() - (head @ own["embeddings.tokens.weight"].T + mlm["bias"])).max() < 1e-5


@torch.no_grad()
def test_packed_is_one_by_one():
    encoder = written(tiny.config("albert")).encoder
    draw = np.random.default_rng(1)
    texts = [draw.integers(1, 211, length) for length in (7, 1, 64, 7, 33, 2, 512)]
    segments = [(np.arange(len(text)) > len(text) // 2).astype(int) for text in texts]
    batch = make_batch(texts, segments)
    out = encoder(batch)
    for place, row in enumerate(batch.rows):
        alone = encoder(make_batch([texts[row]], [segments[row]]))
        found = out.sequence[batch.starts[place] : batch.starts[place + 1]]
        assert (found - alone.sequence).abs().max() < 1e-5
        assert (out.pooled[place] - alone.pooled[0]).abs().max() < 1e-5


def test_gradients_equal_those_of_transformers(tmp_path):
    """Of both pre-training losses; the shared block gathers the gradients of all layers."""
    config = tiny.config("albert", layers=4)
    write_folder(written(config, ["mlm", "sop"]), tmp_path / "model")
    saved = read_folder(tmp_path / "model")
    theirs = transformers.AlbertForPreTraining.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    draw = np.random.default_rng(0)
    ids, labels = draw.integers(1, 211, (3, 16)), draw.integers(0, 211, (3, 16))
    order = np.array([0, 1, 1])
    theirs(
        torch.from_numpy(ids),
        token_type_ids=torch.zeros(3, 16, dtype=torch.long),
        labels=torch.from_numpy(labels),
        sentence_order_label=torch.from_numpy(order),
    ).loss.backward()
    batch = make_batch(list(ids), [np.zeros(16, int)] * 3)
    out = saved.encoder(batch)
    loss, _ = saved.heads["mlm"].loss(
        out.sequence, saved.encoder.token_table, torch.from_numpy(labels[batch.rows]).flatten()
    )
    two = saved.heads["sop"].eval()(out)
    (loss / labels.size + torch.nn.functional.cross_entropy(two, torch.from_numpy(order[batch.rows]))).backward()
    table = ALBERT.table(["mlm", "sop"])
    expected = {name: value.grad for name, value in theirs.named_parameters()}
    for part, module in {"encoder": saved.encoder, **saved.heads}.items():
        for name, value in module.named_parameters():
            assert (value.grad - expected[table.published(f"{part}.{name}")]).abs().max() < 1e-5, name


@torch.no_grad()
def test_tables_as_wide_as_the_encoder_are_projected_all_the_same(tmp_path):
    config = tiny.config("albert", embeddings__width=48)
    theirs = transformers.AlbertModel(transformers.AlbertConfig(**ALBERT.to_hf(config), attn_implementation="eager"))
    tiny.randomise(theirs).eval().save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert saved.encoder.embeddings.projection is not None
    ids = np.arange(9)
    found = saved.encoder(make_batch([ids], [np.zeros(9, int)])).sequence
    assert (found - theirs(torch.from_numpy(ids)[None]).last_hidden_state[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("setting", "value", "opens"), [("blocks", None, True), ("embeddings__always_projected", False, False)]
)
def test_other_compositions_are_published_where_config_json_can_say_them(setting, value, opens, tmp_path):
    """A block a layer can be said; tables as wide as the encoder that are not projected cannot."""
    saved = written(tiny.config("albert", embeddings__width=48, **{setting: value}))
    sentence = write_folder(saved, tmp_path / "model")
    assert ("transformers opens model as AlbertModel" in sentence) == opens
    again = read_folder(tmp_path / "model").encoder
    assert again.config.schedule == saved.encoder.config.schedule
    assert list(again.state_dict()) == list(saved.encoder.state_dict())
    assert all(torch.equal(found, saved.encoder.state_dict()[name]) for name, found in again.state_dict().items())


def test_heads_have_the_dropout_of_their_own_key(tmp_path):
    """Read from classifier_dropout_prob and written there; it acts before the linear layer, in training only."""
    config = tiny.config("albert")
    saved = written(config, ["mlm", "sop"])
    saved.head_configs["sop"] = saved.head_configs["sop"].derive(dropout=0.35)
    write_folder(saved, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    assert json.loads(path.read_text())["classifier_dropout_prob"] == 0.35
    (tmp_path / "model" / "bothways.json").unlink()  # as others would have written it
    assert read_folder(tmp_path / "model").head_configs["sop"].dropout == 0.35
    head = build_head(saved.head_configs["sop"].derive(dropout=0.5), config)
    out = saved.encoder(make_batch([np.arange(9)], [np.zeros(9, int)]))
    assert torch.equal(head.eval()(out), head(out))
    assert not torch.equal(head.train()(out), head.eval()(out))


def test_labels_of_another_head_leave_the_order_head_its_two_classes(tmp_path):
    """`transformers` makes the order head as large as the number of labels in config.json."""
    saved = written(tiny.config("albert"), ["mlm", "sop", "classify"])
    assert "AlbertForPreTraining; the head classify is known" in write_folder(saved, tmp_path / "model")
    theirs, report = transformers.AlbertForPreTraining.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values()), report
    assert theirs.sop_classifier.classifier.out_features == 2
    assert read_folder(tmp_path / "model").head_configs["classify"].labels == tiny.LABELS


def rxnmapper():
    """The folder of RXNMapper's weights, or None; the package itself is not imported."""
    found = importlib.util.find_spec("rxnmapper")
    return found and Path(found.origin).parent / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"


@pytest.mark.skipif(rxnmapper() is None, reason="rxnmapper, which carries the weights, is not installed")
@torch.no_grad()
def test_published_weights_know_a_reaction():
    """Each token of a reaction masked in turn: 53 of 54 are found again (Schwaller et al. 2021, their example)."""
    reaction = "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F"
    folder = rxnmapper()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved = read_folder(folder)
    assert (list(saved.heads), str(saved.report)) == (["mlm"], "")
    config = encoder_config(folder)
    assert (config.layers, config.blocks, config.width, config.embeddings.width) == (12, 1, 256, 128)
    vocabulary = (folder / "vocab.txt").read_text().split("\n")
    tokens = re.findall(r"\[[^]]+\]|Br|Cl|>>|.", reaction)
    ids = np.array([vocabulary.index(token) for token in ("[CLS]", *tokens, "[SEP]")])
    places = np.arange(1, len(ids) - 1)
    masked = np.where(np.arange(len(ids)) == places[:, None], vocabulary.index("[MASK]"), ids)
    batch = make_batch(list(masked), [np.zeros(len(ids), int)] * len(masked))
    sequence = saved.encoder(batch).sequence.unflatten(0, (len(masked), -1))
    there = torch.from_numpy(places[batch.rows])
    guesses = saved.heads["mlm"](sequence[torch.arange(len(masked)), there], saved.encoder.token_table).argmax(-1)
    assert len(tokens) == 54
    assert int((guesses == torch.from_numpy(ids)[there]).sum()) == 53
    theirs = transformers.AlbertModel.from_pretrained(folder, attn_implementation="eager").eval()
    expected = theirs(torch.from_numpy(masked), token_type_ids=torch.zeros(masked.shape, dtype=torch.long))
    assert (sequence - expected.last_hidden_state[batch.rows]).abs().max() < 1e-5
