"""What every family promises of its encoder, whatever is compared with `transformers` elsewhere.

Each test runs with the narrow and with the odd configuration of a family (see `cases`): between them every setting has
two values, windows and blocks are so small that most sequences are longer, and the position tables are used to the end.
"""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import bothways.model
import tiny
from bothways.batch import make_batch, pack
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.families import explanation, families, family
from bothways.model.value import Config
from bothways.run.folder import read_folder
from cases import case
from test_families import BY_TOKEN, THERE, our_outputs, ours_of, rectangle, theirs_of

FAMILIES = list(families())
SAME, SAME_GRADIENT = 1e-5, 1e-4
"""Tolerances in float32: of outputs; of gradients as a share of the tensor's largest, or of 1 if that is smaller."""
BF16, BF16_GRADIENT = 0.02, 0.99
"""In bf16: the error of hidden states as a share of their spread; the least cosine of a tensor's gradients."""
CHEAP = 800
"""Tokens: longer than a window, and than what BigBird still gives full attention."""


@pytest.fixture(params=[(name, which) for name in FAMILIES for which in ("narrow", "odd")], ids="-".join)
def config(request):
    """Every family's narrow and its odd configuration."""
    name, which = request.param
    return tiny.config(name, **(case(name).ODD if which == "odd" else {}))


def texts_of(config, seed=0):
    """Random tokens with segments: a single one, the longest, and several of a length."""
    draw = np.random.default_rng(seed)
    longest = min(config.longest or CHEAP, CHEAP)
    lengths = (9, 1, longest, 2, 33, 9, longest - 1, 2, 60)
    tables = config.embeddings
    ids = [draw.integers(0, tables.vocab_size, length) for length in lengths]
    return ids, [np.sort(draw.integers(0, max(1, tables.segments), length)) for length in lengths]


def without_dropout(config):
    """The same configuration with every dropout at 0, that of its parts too."""
    changes = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            changes[field.name] = without_dropout(value)
        elif field.name.endswith("dropout"):
            changes[field.name] = 0.0
    return config.derive(**changes)


def by_text(saved, ids, segments, order):
    """For each text what the encoder and all heads say of it, packed in an order."""
    batch = tiny.marked(make_batch([ids[n] for n in order], [segments[n] for n in order]), saved)
    out, logits = our_outputs(saved, batch)
    found = [{} for _ in ids]
    for place, row in enumerate(batch.rows):
        tokens = slice(batch.starts[place], batch.starts[place + 1])
        said = {kind: value[tokens] if kind in BY_TOKEN else value[place] for kind, value in logits.items()}
        said |= {f"layer {n}": layer[tokens] for n, layer in enumerate(out.hidden)} | {"sequence": out.sequence[tokens]}
        found[order[row]] = said if out.pooled is None else said | {"pooled": out.pooled[place]}
    return found


def assert_close(found, expected):
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.keys() == wanted.keys()
        for what, value in ours.items():
            assert (value - wanted[what]).abs().max() < SAME, what


# ---- packed


def test_packed_is_one_by_one_in_any_order(config):
    """Hidden states of every layer, the pooled output and the answers of all heads."""
    saved = ours_of(config, families()[config.family].heads)
    ids, segments = texts_of(config)
    alone = [by_text(saved, [text], [own], [0])[0] for text, own in zip(ids, segments, strict=True)]
    order = list(range(len(ids)))
    assert_close(by_text(saved, ids, segments, order), alone)
    assert_close(by_text(saved, ids, segments, order[::-1]), alone)
    assert_close(by_text(saved, ids, segments, np.random.default_rng(1).permutation(order)), alone)


def test_gradients_of_packed_texts_are_the_sum_of_each_ones(config):
    """In training, where some families attend otherwise."""
    encoder = ours_of(without_dropout(config), []).encoder.train()
    ids, segments = texts_of(config)

    def gradients(*batches):
        encoder.zero_grad()
        for batch in batches:
            encoder(batch).sequence.sin().sum().backward()
        return {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}

    together = gradients(make_batch(ids, segments))
    alone = gradients(*(make_batch([text], [own]) for text, own in zip(ids, segments, strict=True)))
    assert together.keys() == alone.keys()
    for name, value in together.items():
        assert (value - alone[name]).abs().max() <= SAME_GRADIENT * max(1.0, alone[name].abs().max()), name


# ---- bf16


def test_bf16_stays_close(config):
    """Hidden states and gradients under autocast, weights in float32 as in training."""
    encoder = ours_of(without_dropout(config), []).encoder
    ids, segments = texts_of(config)
    batch = make_batch(ids, segments)

    weights = torch.randn(batch.tokens, config.width, generator=torch.Generator().manual_seed(0))

    def run(*, enabled):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = encoder(batch).sequence.float()
        (out * weights).sum().backward()
        return out.detach(), {name: value.grad for name, value in encoder.named_parameters() if value.grad is not None}

    (exact, expected), (rough, found) = run(enabled=False), run(enabled=True)
    assert 0 < (rough - exact).std() < BF16 * exact.std()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        if not name.endswith("key.bias"):  # which has no effect
            assert torch.cosine_similarity(gradient.flatten(), found[name].flatten(), dim=0) > BF16_GRADIENT, name


# ---- attention


@torch.no_grad()
def test_attention_weights_sum_to_one(config):
    """Also with global tokens, and asking for them changes nothing."""
    saved = ours_of(config, families()[config.family].heads)
    ids, segments = texts_of(config)
    for batch in (make_batch(ids, segments), tiny.marked(make_batch(ids, segments), saved)):
        plain, asked = saved.encoder(batch), saved.encoder(batch, attentions=True)
        assert (plain.sequence - asked.sequence).abs().max() < SAME
        assert len(asked.attentions) == config.layers
        for layer in asked.attentions:
            assert [tuple(weights.shape) for weights in layer] == [
                (config.attention.heads, length, length) for length in batch.lengths
            ]
            for weights in layer:
                assert weights.min() >= 0
                assert (weights.sum(-1) - 1).abs().max() < 1e-5


# ---- gradients


@pytest.mark.parametrize("name", THERE)
def test_gradients_are_those_of_transformers(name, tmp_path):
    """Of masked-token logits at the real tokens of a padded batch, for every parameter."""
    members = families()[name]
    config = tiny.config(name)
    theirs = theirs_of(config, members.architectures[frozenset({"mlm"})])
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    inputs = rectangle(config, (30, 9, 1, 30))
    weights = torch.randn(config.embeddings.vocab_size, generator=torch.Generator().manual_seed(0))
    parts = torch.nn.ModuleDict({"encoder": saved.encoder, **saved.heads}).eval()
    hidden = saved.encoder(pack(**inputs)).sequence
    (saved.heads["mlm"](hidden, saved.encoder.token_table) * weights).sum().backward()
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    known = inspect.signature(theirs.forward).parameters
    logits = theirs(**{key: torch.from_numpy(value) for key, value in inputs.items() if key in known}).logits[real]
    (logits * weights).sum().backward()
    table = members.table(["mlm"])
    found = {table.published(key): value.grad for key, value in parts.named_parameters()}
    compared = set()
    for key, value in theirs.named_parameters(remove_duplicate=False):  # the token table has two names there
        if key in found:
            compared.add(key)
            unused = torch.zeros_like(value)  # such as projections for global tokens where there are none
            ours, wanted = (unused if grad is None else grad for grad in (found[key], value.grad))
            assert (ours - wanted).abs().max() <= SAME_GRADIENT * max(1.0, wanted.abs().max()), key
    assert compared == found.keys()
    assert sum(grad is not None and grad.abs().max() > 0.1 for grad in found.values()) > len(found) / 2


# ---- configurations


def parts_of(config, path=""):
    """A configuration and those within it, by the prefix that `derive` knows them by."""
    yield path, config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            yield from parts_of(value, f"{path}{field.name}__")


def test_unknown_settings_are_refused_by_name(config):
    """By `derive` and from a file, in the encoder's configuration and in that of each of its parts."""
    for path, part in parts_of(config):
        real = dataclasses.fields(part)[-1].name
        said = rf"{type(part).__name__} has no setting '{real}x'; did you mean '{real}'"
        with pytest.raises(BothwaysError, match=re.escape(said)):
            config.derive(**{f"{path}{real}x": 1})
        values = config.to_dict()
        inner = values
        for name in path.split("__")[:-1]:
            inner = inner[name]
        inner[f"{real}x"] = 1
        with pytest.raises(BothwaysError, match=f"unknown key '{real}x'; did you mean '{real}'"):
            EncoderConfig.from_dict(values)


# ---- the files


def conditions(source):
    """Everything that a piece of code decides by."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.If() | ast.IfExp() | ast.While() | ast.Assert():
                yield node.test
            case ast.comprehension():
                yield from node.ifs
            case ast.match_case():
                yield from filter(None, (node.pattern, node.guard))
            case ast.Match():
                yield node.subject
            case ast.Compare() | ast.BoolOp():
                yield node


def families_in(source):
    """The families, or the word itself, that conditions in a piece of code name."""
    names = {spelling for name in FAMILIES for spelling in (name, name.replace("-", "_"))}
    words = "|".join(["family", *sorted(map(re.escape, names), key=len, reverse=True)])
    text = " ".join(ast.unparse(node) for node in conditions(source))
    return sorted(set(re.findall(rf"(?<![a-z])(?:{words})(?![a-z])", text, re.IGNORECASE)))


def test_encoder_and_parts_decide_nothing_by_a_familys_name():
    folder = Path(bothways.model.__file__).parent
    files = [folder / "encoder.py", *(folder / "parts").glob("*.py")]
    assert len(files) > 10
    for file in files:
        source = file.read_text()
        assert families_in(source) == [], file.name
        assert "bothways.model.families" not in source, file.name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if config.family == 'x': pass", ["family"]),
        ("x = 1 if name == 'deberta-v2' else 2", ["deberta-v2"]),
        ("y = [a for a in b if is_albert]", ["albert"]),
        ("match a:\n case 'bert' if b: pass", ["bert"]),
        ("x = kind == 'big_bird'", ["big_bird"]),
        ("'as in bert'\nif robertas: pass", []),
    ],
)
def test_such_a_decision_would_be_found(source, found):
    assert families_in(source) == found


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "bert"])
def test_a_family_file_says_how_it_differs_from_bert(name):
    assert family(name).title.lower() in explanation(name).lower()
    assert len(re.findall(r"^- ", explanation(name), re.MULTILINE)) >= 2
