"""What is true of BERT in particular."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder
from bothways.model.families import family
from bothways.run.folder import encoder_config, read_folder

BERT = family("bert")

# Devlin et al. 2018, section 3, and the repository of Turc et al. 2019: layers, width, heads, feed-forward, vocabulary,
# and the parameters of the encoder with its pooler
SIZES = {
    "tiny": (2, 128, 2, 512, 30_522, 4_385_920),
    "mini": (4, 256, 4, 1024, 30_522, 11_170_560),
    "small": (4, 512, 8, 2048, 30_522, 28_763_648),
    "medium": (8, 512, 8, 2048, 30_522, 41_373_184),
    "base": (12, 768, 12, 3072, 30_522, 109_482_240),
    "large": (24, 1024, 16, 4096, 30_522, 335_141_888),
    "base-cased": (12, 768, 12, 3072, 28_996, 108_310_272),
    "large-cased": (24, 1024, 16, 4096, 28_996, 333_579_264),
    "base-chinese": (12, 768, 12, 3072, 21_128, 102_267_648),
    "base-multilingual-cased": (12, 768, 12, 3072, 119_547, 177_853_440),
}


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_the_published_ones(size):
    config = BERT.sizes[size]
    with torch.device("meta"):
        count = sum(value.numel() for value in build_encoder(config).parameters())
    resolved = config.layers, config.width, config.attention.heads, config.feed_forward.width
    assert (*resolved, config.embeddings.vocab_size, count) == SIZES[size]
    assert config.embeddings.width == config.width


def test_no_size_is_left_out():
    assert list(SIZES) == list(BERT.sizes)


def test_base_is_what_transformers_makes_without_being_told():
    assert BERT.from_hf(transformers.BertConfig().to_dict()) == BERT.size()


@torch.no_grad()
def test_every_length_from_1_to_512_agrees_with_transformers(tmp_path):
    """All lengths in one packed batch here, each length alone there."""
    torch.manual_seed(0)
    small = BERT.to_hf(tiny.config(width=32, embeddings__width=32, layers=2, feed_forward__width=64))
    theirs = transformers.BertModel(transformers.BertConfig(**small, attn_implementation="eager"))
    tiny.randomise(theirs).eval().save_pretrained(tmp_path)
    ours = read_folder(tmp_path).encoder
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, small["vocab_size"], length) for length in range(1, 513)]
    segments = [(np.arange(len(text)) >= draw.integers(1, len(text) + 1)).astype(int) for text in texts]
    batch = make_batch(texts, segments)
    out = ours(batch)
    assert batch.lengths.tolist() == list(range(1, 513))
    for place, (text, segment) in enumerate(zip(texts, segments, strict=True)):
        expected = theirs(torch.tensor(text)[None], token_type_ids=torch.tensor(segment)[None])
        found = out.sequence[batch.starts[place] : batch.starts[place + 1]]
        assert (found - expected.last_hidden_state[0]).abs().max() < 1e-5
        assert (out.pooled[place] - expected.pooler_output[0]).abs().max() < 1e-5


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "gelu_new"), ("hidden_act", "relu"), ("hidden_act", "silu")])
@torch.no_grad()
def test_other_activations_agree_with_transformers(key, value, tmp_path):
    settings = BERT.to_hf(tiny.config()) | {key: value, "layer_norm_eps": 1e-3}
    theirs = transformers.BertModel(transformers.BertConfig(**settings, attn_implementation="eager"))
    tiny.randomise(theirs).eval().save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert BERT.to_hf(saved.encoder.config)[key] == value
    ids = torch.arange(5, 40)
    found = saved.encoder(make_batch([ids.numpy()])).sequence
    assert (found - theirs(ids[None]).last_hidden_state[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("key", "value"),
    [("position_embedding_type", "relative_key"), ("hidden_act", "gelu_10"), ("is_decoder", True)],
)
def test_what_bert_does_not_compute_here_is_refused(key, value, tmp_path):
    settings = BERT.to_hf(BERT.size()) | {key: value}
    with pytest.raises(BothwaysError, match=f"{key} = .*{value}.* not supported"):
        BERT.from_hf(settings)


def test_a_config_of_the_wrong_kind_names_the_setting_and_the_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": "many"}')
    with pytest.raises(BothwaysError, match=f"cannot open {tmp_path}: vocab_size must be int, not 'many'"):
        encoder_config(tmp_path)


def test_weights_begin_as_bert_draws_them():
    """Normal with deviation 0.02, biases 0, norms 1, the padding row 0; the same from the same seed."""
    config = tiny.config(width=128, embeddings__width=128, embeddings__vocab_size=2000, embeddings__pad_id=3)
    torch.manual_seed(1)
    encoder = build_encoder(config)
    torch.manual_seed(1)
    again = build_encoder(config)
    for (name, value), other in zip(encoder.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(value, other)
        if name.endswith("bias"):
            assert not value.any(), name
        elif "norm" in name:
            assert (value == 1).all(), name
        else:
            assert abs(value.std() - 0.02) < 0.002, name
    assert not encoder.token_table[3].any()
    assert encoder.token_table[4].any()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (make_batch([np.zeros(513, int)]), "513 tokens, but this model takes at most 512"),
        (make_batch([[5, 211]]), "token id 211 is outside the model's table of 211"),
        (make_batch([[5, -1]]), "token id -1 is outside"),
        (make_batch([[5, 6]], [[0, 2]]), "segment id 2 is outside the model's table of 2"),
        (make_batch([[5, 6], []]), "a sequence has no tokens"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_at_the_door(batch, message):
    with pytest.raises(BothwaysError, match=message):
        build_encoder(tiny.config())(batch)


def test_an_empty_batch_gives_empty_outputs():
    out = build_encoder(tiny.config())(make_batch([]), hidden=True, attentions=True)
    assert out.sequence.shape == (0, 48)
    assert out.pooled.shape == (0, 48)
    assert [value.shape for value in out.hidden] == [(0, 48)] * 4
    assert out.attentions == [[], [], []]


def test_token_arrays_may_be_torch_or_numpy():
    encoder = build_encoder(tiny.config()).eval()
    batch = make_batch([[5, 6, 7], [8, 9]])
    arrays = {name: torch.from_numpy(getattr(batch, name)) for name in ("token_ids", "segment_ids", "positions")}
    assert torch.equal(encoder(batch).sequence, encoder(dataclasses.replace(batch, **arrays)).sequence)
