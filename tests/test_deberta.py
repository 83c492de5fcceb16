"""DeBERTa: attention to distances, the convolution, old names, the discriminator's head, settings that are refused."""

import json
import math

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import tiny
from bothways.batch import make_batch, pack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import ConvolutionConfig, DisentangledAttentionConfig
from bothways.model.families import family
from bothways.model.parts import attend
from bothways.model.parts.convolution import Convolution
from bothways.model.parts.distances import row_of
from bothways.run.folder import Saved, is_published, read_folder, write_folder
from test_families import assert_same, our_outputs, rectangle, theirs_of

BOTH = ("deberta", "deberta-v2")
VARIANTS = {
    "as published": ("deberta", {"attention__max_distance": 512}),
    "clipped": ("deberta", {"attention__max_distance": 5}),
    "contents to distances": ("deberta", {"attention__position_to_content": False}),
    "distances to contents": ("deberta", {"attention__content_to_position": False}),
    "v3 as published": ("deberta-v2", {"attention__buckets": 256, "attention__max_distance": 512, "convolution": None}),
    "v2 without buckets": ("deberta-v2", {"attention__buckets": 0, "attention__max_distance": 30}),
    "v2 with odd buckets": ("deberta-v2", {"attention__buckets": 17, "attention__max_distance": 100}),
    "v2 projections of their own": ("deberta-v2", {"attention__share_projections": False}),
    "v2 contents to distances": ("deberta-v2", {"attention__position_to_content": False}),
    "v2 distances to contents": (
        "deberta-v2",
        {"attention__content_to_position": False, "attention__share_projections": False},
    ),
    "v2 table as it is": ("deberta-v2", {"attention__norm_table": False}),
    "v2 positions and segments": (
        "deberta-v2",
        {
            "embeddings__positions": 520, "embeddings__positions_added": True, "max_length": None,
            "embeddings__segments": 2, "attention__max_distance": 520,
        },
    ),
    "v2 wide convolution": ("deberta-v2", {"convolution": ConvolutionConfig(kernel=7, groups=4, activation="tanh")}),
}  # fmt: skip


def random_encoder(name, **changes):
    return tiny.randomise(build_encoder(tiny.config(name, **changes))).eval()


def ids(lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(1, 200, length) for length in lengths]


# -- attention


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_published_switch_gives_their_numbers(variant, tmp_path):
    name, changes = VARIANTS[variant]
    config = tiny.config(name, **changes)
    assert is_published(config)
    theirs = theirs_of(config, family(name).architectures[frozenset()])
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert saved.encoder.config == config
    assert not str(saved.report)
    assert_same(saved, theirs, rectangle(config, (40, 400, 1, 2, 399)))


@pytest.mark.parametrize("name", BOTH)
def test_gradients_are_theirs(name, tmp_path):
    """Of the sum over all real logits of a masked-token head, for every parameter there is."""
    config = tiny.config(name)
    theirs = theirs_of(config, family(name).architectures[frozenset({"mlm"})])
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    inputs = rectangle(config, (30, 9, 1, 30))
    batch = pack(**inputs)
    weights = torch.randn(211, generator=torch.Generator().manual_seed(0))
    parts = torch.nn.ModuleDict({"encoder": saved.encoder, **saved.heads}).eval()
    (saved.heads["mlm"](saved.encoder(batch).sequence, saved.encoder.token_table) * weights).sum().backward()
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    logits = theirs(**{key: torch.from_numpy(value) for key, value in inputs.items()}).logits[real]
    (logits * weights).sum().backward()
    table = family(name).table(["mlm"])
    expected = {key: value.grad for key, value in theirs.named_parameters()}
    found = {table.published(key): value.grad for key, value in parts.named_parameters()}
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        size = expected[key].abs().max()
        assert (gradient - expected[key]).abs().max() < 1e-4 * max(size, 1), key


def plain_weights(encoder, x_LD, layer):
    """The attention weights of one sequence, score by score, from the formula of the paper (equations 2 to 4)."""
    settings, attention = encoder.config.attention, encoder.stack.blocks[layer].attention
    width, heads = x_LD.shape[1], settings.heads
    size = width // heads
    table = encoder.scheme.table.weight
    if settings.norm_table:
        table = torch.nn.functional.layer_norm(
            table, (width,), encoder.scheme.norm.weight, encoder.scheme.norm.bias, 1e-7
        )
    if settings.fused:
        rows = attention.fused.weight.view(heads, 3, size, width)
        q, k = (x_LD @ rows[:, part].reshape(width, width).T for part in (0, 1))
        q = q + attention.query_bias
        table_k, table_q = attention.position_key(table), attention.position_query(table)
    else:
        q, k, table_k, table_q = (
            attention.query(x_LD),
            attention.key(x_LD),
            attention.key(table),
            attention.query(table),
        )
    half, far, middle = settings.buckets // 2, settings.max_distance, len(table) // 2
    weights = torch.zeros(heads, len(x_LD), len(x_LD))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x_LD)):
            for j in range(len(x_LD)):
                place = i - j
                if half and abs(place) > half:
                    steps = math.ceil(math.log(abs(place) / half) / math.log((far - 1) / half) * (half - 1))
                    place = math.copysign(half + steps, place)
                row = int(min(max(place + middle, 0), len(table) - 1))
                score = q[i, part] @ k[j, part] + q[i, part] @ table_k[row, part] + k[j, part] @ table_q[row, part]
                weights[head, i, j] = score / math.sqrt(3 * size)
    return weights.softmax(-1)


@pytest.mark.parametrize("name", BOTH)
def test_attention_is_the_papers_formula(name):
    encoder = random_encoder(
        name, attention__max_distance=11, **({"attention__buckets": 6} if name != "deberta" else {})
    )
    batch = make_batch(ids((19, 4, 1)))
    with torch.no_grad():
        out = encoder(batch, hidden=True, attentions=True)
        for layer in range(3):
            for row, weights in enumerate(out.attentions[layer]):
                x_LD = out.hidden[layer][out.starts[row] : out.starts[row + 1]]
                assert (plain_weights(encoder, x_LD, layer) - weights).abs().max() < 1e-5


def test_distances_have_the_rows_of_the_published_models():
    """256 rows to either side: one each up to 128, then shared by logarithm, 511 the last but one, clipped beyond."""
    distance = torch.arange(-2000, 2001)
    row = row_of(distance, 512, 256, 512)
    near = distance.abs() <= 128
    assert torch.equal(row[near], distance[near] + 256)
    assert (row.diff() >= 0).all()
    assert (row.diff() <= 1).all()
    within = distance.abs() < 512
    assert torch.equal(row[within] - 256, 256 - row.flip(0)[within])
    assert row[distance == 511].item() == 511
    assert row[distance == 2000].item() == 511
    assert row[distance == -2000].item() == 0
    exact = [128 + math.ceil(math.log(d / 128) / math.log(511 / 128) * 127) for d in range(129, 511)]
    assert row[(distance > 128) & (distance < 511)].tolist() == [256 + bucket for bucket in exact]
    assert torch.equal(row_of(distance, 20, 0, 10), (distance + 10).clamp(0, 19))


@pytest.mark.parametrize("name", BOTH)
def test_a_text_is_encoded_the_same_alone_and_in_a_batch_and_in_pieces(name, monkeypatch):
    encoder = random_encoder(name)
    texts = ids((13, 1, 64, 13, 300, 2, 13, 64))
    batch = make_batch(texts)
    with torch.no_grad():
        together = encoder(batch).sequence
        monkeypatch.setattr(attend, "_MOST_SCORES", 2000)  # rectangles are split, most into single sequences
        pieces = encoder(batch).sequence
        for row, start, end in zip(batch.rows, batch.starts[:-1], batch.starts[1:], strict=True):
            alone = encoder(make_batch([texts[row]])).sequence
            assert (alone - together[start:end]).abs().max() < 1e-5
    assert (pieces - together).abs().max() < 1e-5


def test_what_no_paper_has_works_and_is_kept(tmp_path):
    """Disentangled attention in BERT, in shared blocks, with pre-norm, beside a convolution."""
    attention = DisentangledAttentionConfig(heads=4, buckets=8, max_distance=40, norm_table=True)
    changes = {"attention": attention, "blocks": 1, "norm": "pre", "convolution": ConvolutionConfig(kernel=3)}
    saved = Saved(encoder=random_encoder("bert", **changes), heads={}, head_configs={}, tokenizer=None)
    assert "bothways alone opens it" in write_folder(saved, tmp_path / "model")
    again = read_folder(tmp_path / "model").encoder
    batch = make_batch(ids((9, 30)))
    with torch.no_grad():
        assert torch.equal(again(batch).sequence, saved.encoder(batch).sequence)
    assert len(again.stack.blocks) == 1
    assert again.config == saved.encoder.config


@pytest.mark.parametrize("name", BOTH)
def test_longer_texts_where_somebody_says_so(name, tmp_path):
    """Distances are clipped, so a longer input can be allowed, and `transformers` computes the same."""
    texts = ids((700, 3))
    with pytest.raises(BothwaysError, match="700 tokens, but this model takes at most 512"):
        random_encoder(name)(make_batch(texts))
    saved = Saved(encoder=random_encoder(name, max_length=2048), heads={}, head_configs={}, tokenizer=None)
    write_folder(saved, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (written["max_position_embeddings"], written["max_relative_positions"]) == (2048, 300)
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
    assert_same(saved, theirs, rectangle(saved.encoder.config, (700, 3)))


def test_in_bf16_it_stays_close():
    encoder, batch = random_encoder("deberta-v2"), make_batch(ids((40, 7, 100)))
    with torch.no_grad():
        exact = encoder(batch).sequence
        with torch.autocast("cpu", torch.bfloat16):
            close = encoder(batch).sequence.float()
    assert torch.nn.functional.cosine_similarity(exact, close).min() > 0.99


# -- convolution


@pytest.mark.parametrize(("kernel", "groups"), [(3, 1), (5, 2), (1, 1)])
def test_a_convolution_spans_neighbours_of_the_same_text_only(kernel, groups):
    made = tiny.randomise(Convolution(6, kernel, groups, "tanh", 1e-7, 0.1)).eval()
    batch = make_batch(ids((4, 1, 2, 4, 9)))
    x_TD = torch.randn(20, 6, requires_grad=True)
    found = made.neighbours(x_TD, batch.starts)
    weight, size = made.conv.weight, 6 // groups
    for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        for place in range(start, end):
            expected = made.conv.bias.clone()
            for step in range(kernel):
                other = place + step - kernel // 2
                if start <= other < end:
                    for group in range(groups):
                        part = slice(group * size, (group + 1) * size)
                        expected[part] = expected[part] + weight[part, :, step] @ x_TD[other, part]
            assert (found[place] - expected).abs().max() < 1e-6
        (gradient,) = torch.autograd.grad(found[start:end].sum(), x_TD, retain_graph=True)
        assert gradient[start:end].abs().sum(1).min() > 0
        assert gradient[:start].abs().sum() == gradient[end:].abs().sum() == 0


# -- heads and names


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("stated", [True, False])
def test_the_masked_token_head_loads_under_old_and_new_names(name, legacy, stated, tmp_path):
    config = tiny.config(name)
    architecture = family(name).architectures[frozenset({"mlm"})]
    published = transformers.AutoConfig.for_model(**family(name).to_hf(config) | {"legacy": legacy})
    theirs = tiny.randomise(getattr(transformers, architecture)(published)).eval()
    theirs.save_pretrained(tmp_path)
    if not stated:
        written = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in written.items() if k != "architectures"}))
    saved = read_folder(tmp_path)
    assert list(saved.heads) == ["mlm"]
    assert not str(saved.report)
    assert_same(saved, theirs, rectangle(config, (30, 5)))


MICROSOFT = {
    "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "hidden_size": 48, "initializer_range": 0.02, "intermediate_size": 96, "max_position_embeddings": 512,
    "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1, "position_biased_input": False,
    "num_attention_heads": 4, "num_hidden_layers": 3, "type_vocab_size": 0, "vocab_size": 211,
}  # fmt: skip


def test_a_discriminator_as_published_loads_whole_and_stays_whole(tmp_path):
    """No class is named, positions lie in a table that no class reads, and of shared tables remains are left."""
    config = family("deberta-v2").from_hf(MICROSOFT)
    assert config == tiny.config("deberta-v2", attention__buckets=256, attention__max_distance=512, convolution=None)
    encoder = tiny.randomise(build_encoder(config.derive(embeddings__positions=512)))
    heads = {kind: tiny.randomise(build_head(tiny.head("deberta-v2", kind), config)) for kind in ("mlm", "rtd")}
    parts = {"encoder": encoder, **heads}
    table = family("deberta-v2").table(["mlm", "rtd"])
    tensors = {
        table.published(f"{a}.{b}"): value for a, part in parts.items() for b, value in part.state_dict().items()
    }
    assert "deberta.embeddings.position_embeddings.weight" in tensors
    assert "mask_predictions.classifier.weight" in tensors
    tensors["deberta.embeddings.word_embeddings._weight"] = torch.ones(211, 48)
    tensors["deberta.embeddings.position_ids"] = torch.arange(512)[None]
    save_file({name: value.clone() for name, value in tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(MICROSOFT))
    saved = read_folder(tmp_path)
    assert not str(saved.report)
    assert saved.report.dropped
    inputs = rectangle(config, (30, 5, 1))
    batch = pack(**inputs)
    expected = our_outputs(Saved(encoder=encoder.eval(), heads=heads, head_configs={}, tokenizer=None), batch)[1]
    assert all(torch.equal(value, expected[kind]) for kind, value in our_outputs(saved, batch)[1].items())

    sentence = write_folder(saved, tmp_path / "again")
    assert sentence == "transformers opens again as DebertaV2ForMaskedLM; the head rtd is known to bothways only"
    theirs, report = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(report.values())
    again = read_folder(tmp_path / "again")
    assert torch.equal(again.encoder.embeddings.positions.weight, encoder.embeddings.positions.weight)
    assert all(torch.equal(value, expected[kind]) for kind, value in our_outputs(again, batch)[1].items())
    del again.heads["rtd"]
    assert_same(again, theirs.eval(), inputs)


def test_the_head_of_the_first_code_is_read_too():
    table = family("deberta-v2").table(["rtd"])
    assert table.ours("mask_predictions.classifer.bias") == "rtd.output.bias"
    assert table.published("rtd.output.bias") == "mask_predictions.classifier.bias"


def test_the_discriminators_head_reads_each_token_with_the_first():
    config = tiny.config("deberta-v2")
    head = tiny.randomise(build_head(tiny.head("deberta-v2", "rtd"), config)).eval()
    out = random_encoder("deberta-v2")(make_batch(ids((7, 1, 12))))
    logits = head(out)
    for start, end in zip(out.starts[:-1], out.starts[1:], strict=True):
        for place in range(start, end):
            x = out.sequence[start] + out.sequence[place]
            x = (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-7) * head.norm.weight + head.norm.bias
            x = torch.nn.functional.gelu(head.dense.weight @ x + head.dense.bias)
            assert abs(head.output.weight[0] @ x + head.output.bias[0] - logits[place]) < 1e-5


@pytest.mark.parametrize(
    ("name", "kind"), [("deberta", "classify"), ("deberta-v2", "classify"), ("deberta-v2", "choose")]
)
def test_nothing_is_dropped_before_the_hidden_layer_of_a_head(name, kind):
    head = build_head(tiny.head(name, kind).derive(dropout=0.9), tiny.config(name)).train()
    out, seen = random_encoder(name)(make_batch(ids((7, 3)))), []
    head.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(out)
    assert torch.equal(seen[0], out.sequence[out.starts[:-1]])


def test_known_numbers_of_parameters():
    """86 million and 98 million in the token table for v3-base; the multilingual one has the same blocks."""
    sizes = family("deberta-v2").sizes
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in build_encoder(sizes[name]).parameters()) for name in sizes}
    assert counts["v3-base"] == 183_831_552
    assert counts["v3-base"] - 128_100 * 768 == 85_450_752
    assert counts["mdeberta-v3-base"] == counts["v3-base"] + (251_000 - 128_100) * 768


# -- what is not computed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"relative_attention": False}, "relative_attention = False"),
        ({"pos_att_type": "c2p|p2p"}, r"pos_att_type = \['c2p', 'p2p'\]"),
        ({"pos_att_type": None}, r"pos_att_type = \[\]"),
        ({"talking_head": True}, "talking_head = True"),
        ({"embedding_size": 24}, "embedding_size = 24, which is not supported; 48 is"),
        ({"pooler_hidden_size": 24}, "pooler_hidden_size = 24"),
        ({"pooler_hidden_act": "tanh"}, "pooler_hidden_act = 'tanh'"),
        ({"attention_head_size": 64}, "attention_head_size = 64, which is not supported; 12 is"),
        ({"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd"),
        ({"conv_kernel_size": 3, "conv_act": "softsign"}, "conv_act = 'softsign'"),
        ({"conv_kernel_size": 4}, "over 4 tokens has no middle"),
        ({"conv_kernel_size": 3, "conv_groups": 5}, "48 is not a multiple of the convolution's 5 groups"),
        ({"position_buckets": 1024}, "1024 buckets do not suit distances up to 512"),
    ],
)
def test_what_is_not_computed_is_refused(change, words):
    with pytest.raises(BothwaysError, match=words):
        family("deberta-v2").from_hf(MICROSOFT | change)


def test_a_setting_of_training_alone_is_reported():
    with pytest.warns(match="pooler_dropout = 0.4, which is not used here"):
        assert family("deberta-v2").from_hf(MICROSOFT | {"pooler_dropout": 0.4}) == family("deberta-v2").from_hf(
            MICROSOFT
        )


def test_attention_to_distances_needs_its_switch():
    """`transformers` leaves it off where the file does not say; so it is not taken for granted."""
    with pytest.raises(BothwaysError, match="relative_attention = False"):
        family("deberta").from_hf({key: value for key, value in MICROSOFT.items() if key != "relative_attention"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"content_to_position": False, "position_to_content": False}, "or both"),
        ({"fused": True, "share_projections": True}, "cannot be shared"),
        ({"buckets": 3}, "3 buckets do not suit"),
        ({"position_dropout": 1.0}, "position_dropout must be at least 0 and below 1"),
    ],
)
def test_impossible_attention_is_refused(settings, words):
    with pytest.raises(BothwaysError, match=words):
        DisentangledAttentionConfig(heads=4, **settings)
