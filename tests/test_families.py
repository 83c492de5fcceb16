"""What every family promises. The list of families comes from the code, so none can be left out."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import AttentionConfig, EncoderConfig, RotaryAttentionConfig
from bothways.model.families import families, family
from bothways.model.families.names import template
from bothways.run.folder import Saved, is_published, read_folder, write_folder
from cases import case
from cases import lengths as family_lengths

FAMILIES = list(families())
THERE = [name for name, members in families().items() if members.is_published]
"""The families that `transformers` has; the others are compared with a reference in tests of their own."""
PUBLISHED = [(name, size) for name in THERE for size in family(name).sizes]
COMPOSITIONS = [(name, sorted(heads)) for name in THERE for heads in family(name).architectures]
OWN = [(name, sorted(family(name).heads)) for name in FAMILIES if name not in THERE]
TOLERANCE = 1e-5
BY_TOKEN = ("mlm", "rtd", "tag", "answer")
LOGITS = {"mlm": "prediction_logits", "nsp": "seq_relationship_logits", "sop": "sop_logits"}
"""What `transformers` calls the logits of a head that is not alone."""


def theirs_of(config, architecture, **settings):
    """The class of `transformers` with our configuration, every parameter random."""
    members = family(config.family)
    said = getattr(case(config.family), "SAID_OF_HEADS", {})
    published = transformers.AutoConfig.for_model(**members.to_hf(config), **said, **settings)
    made = getattr(transformers, architecture)._from_config(published, attn_implementation="eager")
    return tiny.randomise(made).eval()


def ours_of(config, heads, seed=3):
    """Our encoder and heads, every parameter random; a pooler where something reads it or the class has it."""
    configs = {kind: tiny.head(config.family, kind) for kind in heads}
    pooled = frozenset(heads) in getattr(case(config.family), "POOLED", ())
    if heads and not pooled and not any(head.needs_pooler for head in configs.values()):
        config = config.derive(pooler=None)
    modules = {kind: tiny.randomise(build_head(head, config), seed + 1) for kind, head in configs.items()}
    return Saved(
        encoder=tiny.randomise(build_encoder(config), seed).eval(), heads=modules, head_configs=configs, tokenizer=None
    )


def rectangle(config, lengths=None, seed=0):
    """Random tokens as `transformers` takes them: padded at the right, the second part of each row segment 1."""
    lengths = lengths or family_lengths(config.family)
    draw = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths))
    real = np.arange(shape[1]) < np.asarray(lengths)[:, None]
    second = np.arange(shape[1]) >= [[draw.integers(1, length + 1)] for length in lengths]
    if config.embeddings.segments < 2:
        second[:] = False
    tables = config.embeddings
    ids = draw.integers(0, tables.vocab_size - 1, shape)
    ids = np.where(real, ids + (ids >= tables.pad_id), tables.pad_id)  # any token but the one that pads
    return {"input_ids": ids, "attention_mask": real.astype(np.int64), "token_type_ids": (second & real).astype(int)}


@torch.no_grad()
def their_outputs(model, inputs, heads):
    known = inspect.signature(model.forward).parameters
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items() if name in known}
    if "question_lengths" in known:  # no question, so that no scores are taken off its tokens
        tensors["question_lengths"] = torch.zeros(len(inputs["input_ids"]), 1, dtype=torch.int64)
    if set(heads) == {"choose"}:  # one example, the rows are its choices
        out = model(**{name: value[None] for name, value in tensors.items()}, output_hidden_states=True)
        return out, {"choose": out.logits[0]}
    out = model(**tensors, output_hidden_states=True)
    if set(heads) == {"answer"}:
        return out, {"answer": torch.stack((out.start_logits, out.end_logits), -1)}
    return out, {kind: getattr(out, LOGITS[kind]) if len(heads) > 1 else out.logits for kind in heads}


@torch.no_grad()
def our_outputs(saved, batch):
    out = saved.encoder(batch, hidden=True)
    sources = {kind: (out.sequence, saved.encoder.token_table) if kind == "mlm" else (out,) for kind in saved.heads}
    return out, {kind: head.eval()(*sources[kind]) for kind, head in saved.heads.items()}


def assert_same(saved, theirs, inputs):
    """Every layer's hidden states, the pooled output and all logits agree at every real token."""
    batch = tiny.marked(pack(**inputs), saved)
    if batch.global_tokens is not None:
        inputs = inputs | {"global_attention_mask": unpack(batch.global_tokens, batch).astype(np.int64)}
    out, logits = our_outputs(saved, batch)
    expected, expected_logits = their_outputs(theirs, inputs, saved.heads)
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    assert len(out.hidden) == len(expected.hidden_states) == saved.encoder.config.layers + 1
    for ours, layer in zip(out.hidden, expected.hidden_states, strict=True):
        assert (unpack(ours, batch) - layer)[real].abs().max() < TOLERANCE
    rows = torch.from_numpy(batch.rows)
    if getattr(expected, "pooler_output", None) is not None:
        assert (out.pooled - expected.pooler_output[rows]).abs().max() < TOLERANCE
    for kind, values in logits.items():
        wanted = expected_logits[kind]
        by_token = kind in BY_TOKEN
        found = unpack(values, batch)[real] if by_token else values
        assert (found - (wanted[real] if by_token else wanted[rows])).abs().max() < TOLERANCE
        assert wanted.std() > 0.1, "the weights are too small for a difference to show"


@pytest.mark.parametrize(("name", "heads"), COMPOSITIONS)
def test_their_weights_give_the_same_numbers_here(name, heads, tmp_path):
    config = tiny.config(name)
    settings = {"num_labels": 3} if {"classify", "tag"} & set(heads) else {}
    theirs = theirs_of(config, families()[name].architectures[frozenset(heads)], **settings)
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert set(saved.heads) == set(heads)
    assert not str(saved.report)
    assert_same(saved, theirs, rectangle(config))


@pytest.mark.parametrize(("name", "heads"), COMPOSITIONS)
def test_our_weights_give_the_same_numbers_there(name, heads, tmp_path):
    """Opened as a user opens them, by the class that our sentence names, with nothing missing and nothing left over."""
    members = families()[name]
    saved = ours_of(tiny.config(name), heads)
    sentence = write_folder(saved, tmp_path / "model")
    architecture = members.architectures[frozenset(heads)]
    assert sentence == f"transformers opens model as {architecture}"
    theirs, report = auto_class(architecture).from_pretrained(
        tmp_path / "model", output_loading_info=True, attn_implementation="eager"
    )
    assert type(theirs).__name__ == architecture
    assert not any(report.values()), report
    assert_same(saved, theirs.eval(), rectangle(saved.encoder.config))


def auto_class(architecture):
    task = architecture.partition("For")[2]
    return getattr(transformers, f"AutoModelFor{task}" if task else "AutoModel")


@pytest.mark.parametrize(("name", "heads"), COMPOSITIONS + OWN)
def test_save_load_save_is_byte_equal(name, heads, tmp_path):
    write_folder(ours_of(tiny.config(name), heads), tmp_path / "one")
    write_folder(read_folder(tmp_path / "one"), tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.parametrize("name", [name for name in THERE if getattr(case(name), "ATTENTIONS", True)])
def test_attention_weights_agree(name):
    config = tiny.config(name)
    theirs = theirs_of(config, families()[name].architectures[frozenset()])
    saved = ours_of(config, [])
    state = {families()[name].names.ours(key): value for key, value in theirs.state_dict().items()}
    saved.encoder.load_state_dict({key.removeprefix("encoder."): state[key] for key in state if key})
    inputs = rectangle(config, (17, 1, 2, 40, 17))
    with torch.no_grad():
        known = inspect.signature(theirs.forward).parameters
        tensors = {key: torch.from_numpy(value) for key, value in inputs.items() if key in known}
        expected = theirs(**tensors, output_attentions=True).attentions
        batch = pack(**inputs)
        found = saved.encoder(batch, attentions=True).attentions
    assert len(found) == len(expected) == config.layers
    for ours, layer in zip(found, expected, strict=True):
        for row, length, weights in zip(batch.rows, batch.lengths, ours, strict=True):
            assert (weights - layer[row, :, :length, :length]).abs().max() < TOLERANCE
            assert (weights.sum(-1) - 1).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_gets_a_gradient(name):
    """Nothing dead was built."""
    members = families()[name]
    config = tiny.config(name)
    saved = ours_of(config, members.heads)
    parts = torch.nn.ModuleDict({"encoder": saved.encoder, **saved.heads}).train()
    segments = [np.repeat((0, 1), 8) * (config.embeddings.segments > 1), np.zeros(9, int)]
    batch = tiny.marked(make_batch([np.arange(16), np.arange(9)], segments), saved)
    out = saved.encoder(batch)
    for kind, head in saved.heads.items():
        logits = head(out.sequence, saved.encoder.token_table) if kind == "mlm" else head(out)
        logits = torch.stack((logits, -logits), -1) if logits.ndim == 1 else logits
        torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2).backward(retain_graph=True)
    for key, value in parts.named_parameters():
        assert value.grad is not None, key
        # softmax does not see what is added to all scores alike, so the bias of keys has no effect
        assert value.grad.abs().max() > 0 or key.endswith("key.bias"), key


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_that_are_asked_for_alone_are_what_they_are_among_all(name, layers):
    """Hidden states, the pooled output and every gradient; the rest of the last layer is not computed."""
    config = tiny.config(name, layers=layers)
    saved = ours_of(config, ())
    batch = tiny.marked(make_batch([np.arange(16), np.arange(9), np.arange(1)]), saved)
    places = np.union1d(batch.starts[:-1], [5, 12, 25])
    found = []
    for asked in (None, places):
        saved.encoder.zero_grad()
        out = saved.encoder(batch, places=asked)
        states, vectors = out.at(places), out.vectors("first")
        (states.square() * torch.arange(1.0, 7.0)[:, None]).sum().backward()
        gradients = {
            key: value.grad.clone() for key, value in saved.encoder.named_parameters() if value.grad is not None
        }
        found.append((out.sequence, states, vectors, out.pooled, gradients))
    (whole, *whole_read, whole_gradients), (some, *some_read, some_gradients) = found
    assert len(whole) == 26
    assert len(some) == 6
    for one, other in zip(whole_read, some_read, strict=True):
        assert (one is None and other is None) or (one - other).abs().max() < TOLERANCE
    assert set(whole_gradients) == set(some_gradients)
    for key, value in whole_gradients.items():
        assert (value - some_gradients[key]).abs().max() <= TOLERANCE * (1 + value.abs().max()), key


@pytest.mark.parametrize(("name", "heads"), COMPOSITIONS)
def test_names_are_read_and_written_alike(name, heads):
    """Ours to published and back is the identity, for every tensor, with the prefix and without it."""
    table = families()[name].table(heads)
    saved = ours_of(tiny.config(name, layers=12), heads)
    parts = {"encoder": saved.encoder, **saved.heads}
    ours = [f"{part}.{key}" for part, module in parts.items() for key in module.state_dict()]
    assert table.holds(ours)
    for bare in (True, False):
        published = [table.published(key, bare=bare) for key in ours]
        assert len(set(published)) == len(ours)
        assert [table.ours(key) for key in published] == ours


@pytest.mark.parametrize("name", FAMILIES)
def test_no_name_stands_for_nothing(name):
    """Every name in a family's tables is that of a tensor of one of its sizes or heads, usual settings or not."""
    members = families()[name]
    ours = set()
    with torch.device("meta"):
        for config in (*members.sizes.values(), tiny.config(name, **case(name).ODD)):
            encoder = build_encoder(config)
            ours |= {template(f"encoder.{key}")[0] for key in encoder.state_dict()}
            heads = {kind: build_head(tiny.head(name, kind), config) for kind in members.heads}
            ours |= {f"{kind}.{key}" for kind, head in heads.items() for key in head.state_dict()}
    named = set(members.table(members.heads).names.values())
    named |= {value for head in members.heads.values() for value in head.names.values()}
    assert named <= ours, "names that no module has"


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_published_sizes_have_the_published_parameters(name, size):
    """As many, and of the same shape under the same name, as `transformers` makes from our config.json."""
    members = families()[name]
    config = members.sizes[size]
    with torch.device("meta"):
        ours = build_encoder(config)
        theirs = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**members.to_hf(config)))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    expected = {key: value.shape for key, value in theirs.named_parameters()}
    found = {members.names.published(f"encoder.{k}", bare=True): v.shape for k, v in ours.named_parameters()}
    assert found == expected


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_config_json_says_the_same_there(name, size):
    """Every key that we write is one that `transformers` knows, and what it writes back means the same to us."""
    members = families()[name]
    config = members.sizes[size]
    written = members.to_hf(config)
    assert members.from_hf(written) == config
    theirs = transformers.AutoConfig.for_model(**written)
    fresh = type(theirs)().to_dict()
    model = inspect.getsource(inspect.getmodule(getattr(transformers, members.architectures[frozenset()])))
    assert not [key for key in written if key not in fresh and f'getattr(config, "{key}"' not in model]
    assert members.from_hf(theirs.to_dict()) == config
    assert EncoderConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("attention", [AttentionConfig, RotaryAttentionConfig], ids=["full", "rotary"])
def test_another_kind_of_attention_is_saved_and_comes_back(name, attention, tmp_path):
    """Published or not, as the family's config.json can say it."""
    config = tiny.config(name).derive(attention=attention(heads=4), pooler=None)
    config = family(name).with_dropout(config, 0.15)
    saved = ours_of(config, [])
    write_folder(saved, tmp_path / "model")
    again = read_folder(tmp_path / "model")
    assert again.encoder.config == config
    batch = make_batch([np.arange(5, 20)])
    assert torch.equal(again.encoder(batch).sequence, saved.encoder(batch).sequence)


@pytest.mark.parametrize("name", THERE)
def test_other_dropout_keeps_a_model_published(name):
    config = tiny.config(name)
    changed = family(name).with_dropout(config, 0.35)
    assert is_published(changed)
    assert changed != config


@pytest.mark.parametrize("name", FAMILIES)
def test_no_setting_is_lost_in_a_folder(name, tmp_path):
    """A model whose every setting is unusual comes back as it was."""
    config = tiny.config(name, **case(name).ODD)
    assert is_published(config) == family(name).is_published
    write_folder(ours_of(config, []), tmp_path / "model")
    assert read_folder(tmp_path / "model").encoder.config == config


@pytest.mark.parametrize("name", THERE)
def test_a_misspelt_key_is_refused_and_a_foreign_one_reported(name):
    members = families()[name]
    written = members.to_hf(members.size())
    key = next(key for key in written if "dropout" in key)
    with pytest.raises(BothwaysError, match=f"'{key}x'; did you mean '{key}'"):
        members.from_hf({f"{k}x" if k == key else k: v for k, v in written.items()})
    with pytest.warns(match="'owner_of_the_cat' that is not used"):
        assert members.from_hf({**written, "owner_of_the_cat": "me"}) == members.size()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_describes_itself(name):
    members = families()[name]
    assert members.name == name
    assert f"{members.title}" in members.paper
    assert str(members.year) > "2017"
    assert members.size() == members.sizes[members.default_size]
    assert all(config.family == name for config in members.sizes.values())
    assert set(itertools.chain(*members.architectures)) <= set(members.heads)
    assert frozenset() in members.architectures or not members.architectures
    with pytest.raises(BothwaysError, match=f"has no size 'gigantic'.*{members.default_size}"):
        members.size("gigantic")


def test_an_unknown_family_is_refused_with_the_closest():
    with pytest.raises(BothwaysError, match=r"'bart' is not supported; supported are bert.*; did you mean 'bert'"):
        family("bart")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_setting_matters_to_the_modules(name):
    """A configuration holds nothing that the encoder ignores: each changed setting changes its modules or output."""
    base = tiny.config(name)
    flat = dataclasses.asdict(base)
    assert set(flat) == {field.name for field in dataclasses.fields(EncoderConfig)}
    segments = np.repeat((0, 1), (8, 7)) if base.embeddings.segments > 1 else np.zeros(15, int)
    batch = make_batch([np.arange(5, 20)], [segments])

    def run(config):
        torch.manual_seed(0)
        encoder = build_encoder(config).train()
        torch.manual_seed(1)
        with torch.no_grad():
            return encoder(batch).sequence, sum(p.numel() for p in encoder.parameters())

    sequence, count = run(base)
    for key, value in case(name).MATTERS.items():
        other, other_count = run(base.derive(**{key: value}))
        assert count != other_count or not torch.equal(sequence, other), key
