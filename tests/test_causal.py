"""The causal twin: no position sees a later one, and it is what a decoder's mask makes of BERT."""

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder
from bothways.model.config import BucketAttentionConfig, CausalAttentionConfig
from bothways.model.families import bert, explanation, family
from bothways.run.files import read_json
from bothways.run.folder import is_published, read_folder, write_folder
from test_families import ours_of, rectangle

CAUSAL = family("causal")
LENGTHS = (17, 1, 200, 2, 17, 64)


def encoder_of(seed=0, **changes):
    return tiny.randomise(build_encoder(tiny.config("causal", **changes)), seed).eval()


# -- looking one way


@torch.no_grad()
@pytest.mark.parametrize("place", [1, 7, 59])
def test_no_position_sees_a_later_one(place):
    """A later token changes: every earlier output of every layer is the same bit for bit. BERT's are not."""
    batch = make_batch([np.arange(30), np.arange(60), np.arange(60)[::-1].copy()])
    ids = batch.token_ids.copy()
    changed = batch.starts[1] + place
    ids[changed] = 99
    earlier = np.arange(batch.tokens) < changed
    later = (np.arange(batch.tokens) >= changed) & (batch.sequence_of_token == 1)

    def layers(encoder):
        before, after = (encoder(one, hidden=True).hidden for one in (batch, batch.with_tokens(ids)))
        return [(a != b).any(dim=1).numpy() for a, b in zip(before, after, strict=True)]

    causal = encoder_of()
    full = build_encoder(tiny.config("bert").derive(pooler=None)).eval()
    full.load_state_dict(causal.state_dict())
    for felt in layers(causal):
        assert not (felt & earlier).any()
        assert not (felt & ~later).any()
    assert (layers(causal)[1] & later).sum() == 60 - place
    if place:
        assert (layers(full)[1] & earlier & (batch.sequence_of_token == 1)).sum() == place


def test_no_gradient_reaches_a_later_token():
    encoder = encoder_of()
    found = []
    encoder.embeddings.register_forward_hook(lambda *args: found.append(args[-1]) or args[-1].retain_grad())
    encoder(make_batch([np.arange(20)])).sequence[8].sin().sum().backward()
    felt = found[0].grad.abs().sum(dim=1) > 0
    assert felt.tolist() == [True] * 9 + [False] * 11


@torch.no_grad()
def test_weights_of_later_tokens_are_exactly_zero():
    batch = make_batch([np.arange(length) for length in LENGTHS])
    for layer in encoder_of()(batch, attentions=True).attentions:
        for weights in layer:
            assert not weights.triu(1).any()
            assert (weights.sum(-1) - 1).abs().max() < 1e-5
            assert (weights.diagonal(dim1=-2, dim2=-1) > 0).all()


# -- the reference: BERT as a decoder


def reference(config):
    settings = bert.FAMILY.to_hf(config) | {"is_decoder": True}
    settings.pop("model_type")
    made = transformers.BertConfig(**settings, attn_implementation="eager")
    theirs = tiny.randomise(transformers.BertModel(made, add_pooling_layer=False)).eval()
    encoder = build_encoder(config)
    names = bert.FAMILY.names
    encoder.load_state_dict({names.ours(k).removeprefix("encoder."): v for k, v in theirs.state_dict().items()})
    return encoder.eval(), theirs


def test_it_is_bert_with_a_decoders_mask_and_so_are_its_gradients():
    config = tiny.config("causal")
    encoder, theirs = reference(config)
    inputs = rectangle(config, LENGTHS)
    batch = pack(**inputs)
    out = encoder(batch, hidden=True, attentions=True)
    expected = theirs(
        **{key: torch.from_numpy(value) for key, value in inputs.items()},
        output_hidden_states=True, output_attentions=True,
    )  # fmt: skip
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    for ours, layer in zip(out.hidden, expected.hidden_states, strict=True):
        assert (unpack(ours, batch) - layer)[real].abs().max() < 1e-5
    for ours, layer in zip(out.attentions, expected.attentions, strict=True):
        for row, length, weights in zip(batch.rows, batch.lengths, ours, strict=True):
            assert (weights - layer[row, :, :length, :length]).abs().max() < 1e-5
    unpack(out.sequence, batch).sin().sum().backward()
    (expected.last_hidden_state.sin() * real[..., None]).sum().backward()
    names = bert.FAMILY.names
    wanted = {names.ours(k).removeprefix("encoder."): v.grad for k, v in theirs.named_parameters()}
    wanted["embeddings.tokens.weight"][0] = 0  # the padding token's row, which is looked up there alone
    for name, value in encoder.named_parameters():
        assert torch.allclose(value.grad, wanted[name], rtol=1e-3, atol=2e-4), name


@torch.no_grad()
def test_packed_equals_one_by_one():
    encoder = encoder_of()
    texts = [np.random.default_rng(length).integers(1, 200, length) for length in LENGTHS]
    batch = make_batch(texts)
    together = encoder(batch).sequence
    for place, row in enumerate(batch.rows):
        a, b = batch.starts[place : place + 2]
        assert (together[a:b] - encoder(make_batch([texts[row]])).sequence).abs().max() < 1e-5


@torch.no_grad()
def test_in_bf16_it_stays_close():
    encoder, batch = encoder_of(), make_batch([np.arange(200), np.arange(30)])
    exact = encoder(batch).sequence
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch).sequence.float()
    assert torch.cosine_similarity(rough, exact).min() > 0.999


# -- a family without published checkpoints


@pytest.mark.parametrize("size", CAUSAL.sizes)
def test_a_size_has_the_parameters_of_berts_without_its_pooled_output(size):
    def count(config):
        with torch.device("meta"):
            return sum(value.numel() for value in build_encoder(config).parameters())

    assert count(CAUSAL.sizes[size]) == count(bert.SIZES[size].derive(pooler=None))
    assert CAUSAL.sizes[size].attention == CausalAttentionConfig(heads=bert.SIZES[size].attention.heads)


@torch.no_grad()
def test_its_folder_is_an_own_composition_with_every_head(tmp_path):
    saved = ours_of(tiny.config("causal"), CAUSAL.heads)
    assert not is_published(saved.encoder.config)
    assert "bothways alone opens it" in write_folder(saved, tmp_path / "twin")
    assert read_json(tmp_path / "twin" / "config.json")["model_type"] == "bothways-causal"
    again = read_folder(tmp_path / "twin")
    assert again.encoder.config == saved.encoder.config
    assert again.head_configs == saved.head_configs
    batch = make_batch([np.arange(40), np.arange(3)])
    assert torch.equal(again.encoder(batch).sequence, saved.encoder(batch).sequence)
    for kind, head in saved.heads.items():
        for name, value in head.state_dict().items():
            assert torch.equal(again.heads[kind].state_dict()[name], value)


def test_heads_for_whole_texts_do_not_read_the_first_token():
    for kind in ("nsp", "sop", "classify", "choose"):
        assert CAUSAL.head(kind).reads == "mean"


@pytest.mark.parametrize("translate", [CAUSAL.from_hf, CAUSAL.to_hf])
def test_there_is_no_published_form(translate):
    with pytest.raises(BothwaysError, match=r"has no published config\.json; bothways alone reads and writes"):
        translate({"model_type": "causal"})


def test_a_folder_that_claims_to_be_one_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "causal"}')
    with pytest.raises(BothwaysError, match=r"cannot open .*has no published config\.json"):
        read_folder(tmp_path)


def test_the_command_line_explains_it(capsys):
    assert main(["families", "causal"]) == 0
    assert "no token looks at a later one" in capsys.readouterr().out
    assert explanation("causal").startswith("The causal twin")


def test_another_kind_of_attention_in_its_place_is_a_composition_too(tmp_path):
    config = tiny.config("causal").derive(attention=BucketAttentionConfig(heads=4))
    write_folder(ours_of(config, []), tmp_path / "model")
    assert read_folder(tmp_path / "model").encoder.config == config
