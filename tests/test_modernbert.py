"""ModernBERT: its rotary positions and windows against plain references, its config.json in both spellings."""

import inspect
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import tiny
from bothways.batch import make_batch, pack, unpack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import AttentionConfig, RotaryAttentionConfig
from bothways.model.families import family
from bothways.model.parts.attend import attend
from bothways.model.parts.context import Context
from bothways.model.parts.rotary import RotaryAttention, RotaryScheme, turn
from bothways.run.files import read_json, write_json
from bothways.run.folder import encoder_config, is_published, read_folder, write_folder
from test_families import assert_same, ours_of, rectangle, theirs_of

MODERN = family("modernbert")
LENGTHS = (17, 1, 300, 2, 65, 64, 130, 17)
"""Shorter and longer than the published window of 64 to either side."""

# Warner et al. 2024, table 3: layers, width, heads, feed-forward, vocabulary; and the encoder's parameters
SIZES = {
    "base": (22, 768, 12, 1152, 50_368, 149_014_272),
    "large": (28, 1024, 16, 2624, 50_368, 394_781_696),
}

PUBLISHED_2024 = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 50281, "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0,
    "classifier_pooling": "mean", "cls_token_id": 50281, "decoder_bias": True, "deterministic_flash_attn": False,
    "embedding_dropout": 0.0, "eos_token_id": 50282, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
    "gradient_checkpointing": False, "hidden_activation": "gelu", "hidden_size": 768,
    "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 1152, "layer_norm_eps": 1e-05,
    "local_attention": 128, "local_rope_theta": 10000.0, "max_position_embeddings": 8192, "mlp_bias": False,
    "mlp_dropout": 0.0, "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05,
    "num_attention_heads": 12, "num_hidden_layers": 22, "pad_token_id": 50283, "position_embedding_type": "absolute",
    "sep_token_id": 50282, "tie_word_embeddings": True, "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0", "vocab_size": 50368,
}  # fmt: skip


def small(**changes):
    return tiny.config("modernbert", **changes)


def encoder_of(config, seed=0):
    return tiny.randomise(build_encoder(config), seed).eval()


def at_door(batch):
    """The batch as tensors."""
    return build_encoder(small()).at_door(batch)


# -- sizes and config.json


@pytest.mark.parametrize("size", MODERN.sizes)
def test_sizes_are_the_published_ones(size):
    config = MODERN.sizes[size]
    with torch.device("meta"):
        count = sum(value.numel() for value in build_encoder(config).parameters())
        head = sum(value.numel() for value in build_head(MODERN.head("mlm"), config).parameters())
    resolved = config.layers, config.width, config.attention.heads, config.feed_forward.width
    assert (*resolved, config.embeddings.vocab_size, count) == SIZES[size]
    assert round((count + head) / 1e6) == {"base": 150, "large": 396}[size]
    assert config.longest == 8192


def test_base_is_what_transformers_makes_without_being_told():
    assert MODERN.from_hf(transformers.ModernBertConfig().to_dict()) == MODERN.size()


def test_the_published_config_of_2024_is_read_without_a_word():
    large = {"hidden_size": 1024, "intermediate_size": 2624, "num_attention_heads": 16, "num_hidden_layers": 28}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert MODERN.from_hf(PUBLISHED_2024) == MODERN.sizes["base"]
        assert MODERN.from_hf(PUBLISHED_2024 | large) == MODERN.sizes["large"]


@pytest.mark.parametrize(
    ("stated", "windows"),
    [
        ({"global_attn_every_n_layers": 2}, (0, 4)),
        ({"global_attn_every_n_layers": 5}, (0, 4, 4, 4, 4)),
        ({"global_attn_every_n_layers": 1}, (0,)),
        ({"layer_types": ["sliding_attention"] * 6}, (4,)),
        ({"layer_types": ["full_attention"] * 6}, (0,)),
        ({"layer_types": ["sliding_attention"] * 5 + ["full_attention"]}, (4, 4, 4, 4, 4, 0)),
        ({"local_attention": 13}, (0, 6, 6)),
        ({"global_rope_theta": 500.0, "local_rope_theta": 70}, (0, 4, 4)),
        ({"global_rope_theta": 500.0, "rope_parameters": {"full_attention": {"rope_theta": 9.0}}}, (0, 4, 4)),
        ({"rope_parameters": {"sliding_attention": {"rope_theta": 9.0, "rope_type": "default"}}}, (0, 4, 4)),
    ],
)
@torch.no_grad()
def test_every_spelling_of_layers_and_bases_means_what_it_means_there(stated, windows, tmp_path):
    plain = {
        key: value
        for key, value in MODERN.to_hf(small(layers=6)).items()
        if key not in ("layer_types", "rope_parameters")
    }
    settings = plain | {"local_attention": 8} | stated
    config = MODERN.from_hf(settings)
    assert config.attention.windows == windows
    assert MODERN.from_hf(MODERN.to_hf(config)) == config
    made = transformers.ModernBertConfig(**{key: value for key, value in settings.items() if key != "model_type"})
    theirs = transformers.ModernBertModel._from_config(made, attn_implementation="eager")
    tiny.randomise(theirs).eval().save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert saved.encoder.config == config
    assert_same(saved, theirs, rectangle(config, (30, 3, 77)))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"attention_bias": True}, "attention_bias = True, which is not supported; False is"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"norm_bias": True}, "norm_bias = True"),
        ({"classifier_bias": True}, "classifier_bias = True"),
        ({"decoder_bias": False}, "decoder_bias = False"),
        ({"classifier_activation": "relu"}, "classifier_activation = 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling = "),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters = .*yarn"),
        ({"rope_parameters": {"full_attention": {"factor": 2.0}}}, "rope_parameters = .*factor"),
        ({"rope_parameters": {"rope_theta": 3.0}}, "rope_parameters = .*rope_theta"),
        ({"layer_types": ["full_attention"]}, "layer_types = .* but there are 22 layers"),
        ({"layer_types": ["chunked_attention"] * 22}, "layer_types = .*chunked"),
        ({"local_attention": 1}, "local_attention = 1"),
        ({"global_rope_theta": None}, "global_rope_theta = null, which is not supported"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers = 0"),
        ({"num_attention_heads": 256}, "heads of 3 values cannot be turned"),
    ],
)
def test_what_is_not_computed_is_refused(stated, message):
    with pytest.raises(BothwaysError, match=message):
        MODERN.from_hf(PUBLISHED_2024 | stated)


@pytest.mark.parametrize(
    "said", [{"local_rope_theta": None}, {"rope_parameters": {"sliding_attention": {"rope_theta": None}}}]
)
def test_local_layers_without_a_base_have_that_of_the_others(said):
    """As the first `transformers` with ModernBERT computed it; those of today cannot open such a file."""
    found = MODERN.from_hf(PUBLISHED_2024 | {"global_rope_theta": 500.0} | said).attention
    assert (found.base, found.local_base) == (500.0, 500.0)


@pytest.mark.parametrize("windows", [(), (3, -1)])
def test_windows_that_are_none_are_refused(windows):
    with pytest.raises(BothwaysError, match="windows must be tokens to either side"):
        small(attention__windows=windows)


def test_longer_than_made_for_is_refused():
    encoder = encoder_of(small(max_length=9))
    encoder(make_batch([np.arange(9)]))
    with pytest.raises(BothwaysError, match="10 tokens, but this model takes at most 9"):
        encoder(make_batch([np.arange(10)]))


# -- rotary positions


def test_turning_equals_a_product_of_complex_numbers():
    draw = torch.Generator().manual_seed(0)
    batch = make_batch([np.arange(length) for length in (1, 40, 7)])
    context = Context.of(at_door(batch))
    scheme = RotaryScheme(8, (10_000.0, 50.0, 50.0))
    turns = scheme.prepare(context)
    assert list(turns) == [10_000.0, 50.0]
    assert not scheme.state_dict()
    x = torch.randn(batch.tokens, 3, 8, generator=draw, dtype=torch.float64)
    for base, (cos, sin) in turns.items():
        found = turn(x, cos, sin)
        for token, place in enumerate(batch.positions):
            for n in range(4):
                angle = np.exp(1j * float(place) / base ** (2 * n / 8))
                for head in range(3):
                    expected = complex(x[token, head, n], x[token, head, n + 4]) * angle
                    assert abs(complex(found[token, head, n], found[token, head, n + 4]) - expected) < 1e-5


def test_products_depend_on_distances_alone():
    q, k = torch.randn(2, 1, 1, 16, generator=torch.Generator().manual_seed(0)).expand(2, 50, 1, 16)
    context = Context.of(at_door(make_batch([np.arange(50)])))
    (cos, sin) = RotaryScheme(16, (1000.0,)).prepare(context)[1000.0]
    products = (turn(q, cos, sin)[:, 0] @ turn(k, cos, sin)[:, 0].T).numpy()
    for distance in range(-49, 50):
        diagonal = np.diagonal(products, distance)
        assert np.ptp(diagonal) < 1e-5
    assert products.std() > 0.1


def test_turned_values_keep_their_type_and_their_length():
    context = Context.of(at_door(make_batch([np.arange(50)])))
    (cos, sin) = RotaryScheme(16, (1000.0,)).prepare(context)[1000.0]
    x = torch.randn(50, 2, 3, 16, generator=torch.Generator().manual_seed(0))
    assert turn(x.bfloat16(), cos, sin).dtype == torch.bfloat16
    assert (turn(x, cos, sin).norm(dim=-1) - x.norm(dim=-1)).abs().max() < 1e-5


# -- windows


@pytest.mark.parametrize("window", [1, 5, 64])
def test_a_local_layer_is_full_attention_with_a_mask(window, monkeypatch):
    """Outputs, gradients and weights of the linear-cost kernel, and of a score that takes far tokens out."""
    batch = at_door(make_batch([np.zeros(length) for length in LENGTHS]))
    part = tiny.randomise(RotaryAttention(32, 4, 0.0, False, 1000.0, 77.0, (0, window)), spread=0.3)
    scheme = RotaryScheme(8, (1000.0, 77.0))
    x = torch.randn(batch.tokens, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def masked(q, k, v, plan, window, **settings):
        def score(q_NHLK, k_NHLK):
            places = torch.arange(q_NHLK.shape[2])
            far = (places[:, None] - places).abs() > window
            return torch.zeros(far.shape).masked_fill(far, -torch.inf)

        return attend(q, k, v, plan, score=score, **settings)

    def run():
        context = Context.of(batch, layers=2)
        context = replace(context, prepared=scheme.prepare(context))
        out = part(x, context, 1)
        gradients = torch.autograd.grad(out.sin().sum(), [x, *part.parameters()])
        return out, gradients, context.weights(1)

    found = run()
    monkeypatch.setattr("bothways.model.parts.rotary.attend_window", masked)
    expected = run()
    assert (found[0] - expected[0]).abs().max() < 1e-5
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(found[2], expected[2], strict=True):
        assert (ours - theirs).abs().max() < 1e-6
        length = ours.shape[-1]
        places = torch.arange(length)
        assert not ours[:, (places[:, None] - places).abs() > window].any()


@torch.no_grad()
def test_a_local_layer_reads_the_window_and_nothing_else():
    """With local layers alone, a changed token is felt by so many layers' windows, and exactly there."""
    encoder = encoder_of(small(layers=3, attention__windows=(4,)))
    ids = np.arange(60)
    before = encoder(make_batch([ids])).sequence
    ids = ids.copy()
    ids[30] = 99
    felt = (encoder(make_batch([ids])).sequence != before).any(dim=1).nonzero().flatten().tolist()
    assert felt == list(range(30 - 12, 30 + 12 + 1))


@torch.no_grad()
def test_the_published_window_agrees_with_transformers(tmp_path):
    """128 tokens are 64 to either side; the bases are the published ones."""
    config = MODERN.size().derive(
        layers=4, width=48, embeddings__width=48, attention__heads=4, feed_forward__width=40,
        embeddings__vocab_size=211, embeddings__pad_id=0,
    )  # fmt: skip
    theirs = theirs_of(config, "ModernBertModel")
    theirs.save_pretrained(tmp_path)
    assert_same(read_folder(tmp_path), theirs, rectangle(config, LENGTHS))


# -- packed, gradients, bf16


def test_packed_equals_one_by_one():
    encoder = encoder_of(small(attention__windows=(0, 64, 64)))
    draw = np.random.default_rng(0)
    texts = [draw.integers(1, 200, length) for length in LENGTHS]
    batch = make_batch(texts)
    with torch.no_grad():
        together = encoder(batch).sequence
        for place, row in enumerate(batch.rows):
            a, b = batch.starts[place : place + 2]
            assert (together[a:b] - encoder(make_batch([texts[row]])).sequence).abs().max() < 1e-5


def test_every_gradient_equals_that_of_transformers():
    config = small()
    theirs = theirs_of(config, "ModernBertModel").train()
    encoder = build_encoder(config).train()
    names = MODERN.names
    encoder.load_state_dict({names.ours(k).removeprefix("encoder."): v for k, v in theirs.state_dict().items()})
    lengths = (5, 90, 1, 40)
    real = np.arange(90) < np.asarray(lengths)[:, None]
    ids = np.where(real, np.random.default_rng(0).integers(1, 200, real.shape), 0)
    batch = pack(ids, real)
    unpack(encoder(batch).sequence, batch).sin().sum().backward()
    expected = theirs(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(real).long())
    (expected.last_hidden_state.sin() * torch.from_numpy(real)[..., None]).sum().backward()
    wanted = {names.ours(k).removeprefix("encoder."): v.grad for k, v in theirs.named_parameters()}
    for name, value in encoder.named_parameters():
        assert torch.allclose(value.grad, wanted[name], rtol=1e-3, atol=2e-4), name


@torch.no_grad()
def test_in_bf16_it_stays_close():
    encoder = encoder_of(small())
    batch = make_batch([np.arange(200), np.arange(30)])
    exact = encoder(batch).sequence
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch).sequence.float()
    assert torch.cosine_similarity(rough, exact).min() > 0.999


def test_dropout_is_where_the_reference_has_it():
    """On attention's weights and output, and between the feed-forward layers; none after them."""
    theirs = theirs_of(small(attention__dropout=0.9), "ModernBertModel").train()
    assert theirs.layers[1].attn.out_drop.p == 0.9
    config = small(attention__dropout=0.9)
    part = tiny.randomise(build_encoder(config)).train().stack.blocks[1].attention
    batch = at_door(make_batch([np.arange(400) % 200]))
    context = Context.of(batch)
    scheme = RotaryScheme(12, (config.attention.base, config.attention.local_base))
    context = replace(context, prepared=scheme.prepare(context))
    out = part(torch.randn(400, 48), context, 1)
    assert 0.85 < (out == 0).float().mean() < 0.95


def test_other_dropout_is_one_that_config_json_can_say():
    config = MODERN.with_dropout(small(), 0.2)
    assert is_published(config)
    assert (config.attention.dropout, config.feed_forward.dropout, config.embeddings.dropout) == (0.2, 0.2, 0.2)
    assert MODERN.to_hf(config)["mlp_dropout"] == 0.2


# -- heads


@pytest.mark.parametrize("kind", ["classify", "choose"])
@pytest.mark.parametrize(("pooling", "reads"), [("cls", "first"), ("mean", "mean"), (None, "first")])
def test_heads_read_what_config_json_says(kind, pooling, reads, tmp_path):
    config = small()
    said = {} if pooling is None else {"classifier_pooling": pooling}
    settings = said | ({"num_labels": 3} if kind == "classify" else {}) | {"classifier_dropout": 0.3}
    made = transformers.AutoConfig.for_model(**MODERN.to_hf(config), **settings)
    opener = getattr(transformers, MODERN.architectures[frozenset({kind})])
    theirs = tiny.randomise(opener._from_config(made, attn_implementation="eager")).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    if pooling is None:
        stated = read_json(tmp_path / "theirs" / "config.json")
        stated.pop("classifier_pooling")
        write_json(tmp_path / "theirs" / "config.json", stated)
    saved = read_folder(tmp_path / "theirs")
    assert (saved.head_configs[kind].reads, saved.head_configs[kind].dropout) == (reads, 0.3)
    inputs = rectangle(config, (17, 1, 33, 2, 1, 5))
    assert_same(saved, theirs, inputs)
    assert write_folder(saved, tmp_path / "ours") == f"transformers opens ours as {opener.__name__}"
    again = opener.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert again.config.classifier_dropout == 0.3
    assert_same(saved, again, inputs)


def test_an_unknown_pooling_is_refused(tmp_path):
    write_folder(ours_of(small(), ["classify"]), tmp_path / "model")
    (tmp_path / "model" / "bothways.json").unlink()
    stated = read_json(tmp_path / "model" / "config.json")
    write_json(tmp_path / "model" / "config.json", stated | {"classifier_pooling": "max"})
    with pytest.raises(BothwaysError, match="classifier_pooling = 'max', which is not supported; there are cls, mean"):
        read_folder(tmp_path / "model")


# -- compositions


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("modernbert", {"attention": AttentionConfig(heads=4)}),
        ("modernbert", {"attention__bias": True, "norm_bias": True, "feed_forward__bias": True}),
        ("modernbert", {"blocks": 1}),
        ("modernbert", {"first_norm": True}),
        ("modernbert", {"max_length": None}),
        ("modernbert", {"attention__windows": (0, 3, 5)}),
        ("modernbert", {"pooler": "tanh"}),
        ("bert", {"attention": RotaryAttentionConfig(heads=4, windows=(0, 2)), "embeddings__positions": 0}),
        ("bert", {"norm": "pre", "first_norm": False}),
    ],
)
@torch.no_grad()
def test_compositions_come_back_bit_for_bit(name, changes, tmp_path):
    config = tiny.config(name).derive(**changes)
    assert not is_published(config)
    saved = ours_of(config, [])
    assert "bothways alone opens it" in write_folder(saved, tmp_path / "model")
    again = read_folder(tmp_path / "model")
    assert again.encoder.config == encoder_config(tmp_path / "model") == config
    batch = make_batch([np.arange(40), np.arange(3)])
    assert torch.equal(again.encoder(batch).sequence, saved.encoder(batch).sequence)


def test_a_shared_block_norms_at_every_layer_the_first_one_of_many_does_not():
    assert "stack.blocks.0.attention_norm.weight" not in build_encoder(small()).state_dict()
    assert "stack.blocks.0.attention_norm.weight" in build_encoder(small(blocks=1)).state_dict()
    assert "stack.blocks.0.attention_norm.weight" in build_encoder(small(first_norm=True)).state_dict()


def test_no_part_knows_the_family():
    assert "modern" not in inspect.getsource(inspect.getmodule(RotaryAttention)).lower()
