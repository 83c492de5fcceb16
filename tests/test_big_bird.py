"""BigBird's sparse attention: against plain loops, against `transformers`, and packed against one by one.

`transformers` decides for a whole batch whether attention is sparse, and stays with full attention once it has changed
to it. So it is asked a sequence at a time, each time as a fresh model.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention

import tiny
from bothways.batch import make_batch, pack
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import AttentionConfig, SparseAttentionConfig
from bothways.model.families import family
from bothways.model.parts import sparse as module
from bothways.model.parts.attend import attend_one_by_one
from bothways.model.parts.sparse import Pattern, attend_by_blocks, random_blocks
from bothways.run.folder import Saved, read_folder, write_folder

MEMBERS = family("big_bird")
SMALL = {"attention__block": 4, "attention__random_blocks": 1}
LIMIT = (5 + 2 * 1) * 4
NO_DROPOUT = {"dropout": 0.0, "embeddings__dropout": 0.0, "attention__dropout": 0.0}
LENGTHS = [5, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 1, 32, 33, 34, 35, 61, 100]


# ---- the part alone


def by_loops(q, k, v, block, chosen, first):
    """Sparse attention of one sequence ``(L, H, K)``, token by token, as the paper describes it."""
    length, heads, width = q.shape
    last = (length - 1) // block
    out = torch.zeros_like(q)
    for head, i in itertools.product(range(heads), range(length)):
        own = i // block
        blocks = set(range(last + 1)) if own in (0, last) else {0, own - 1, own, own + 1, last}
        looked = [(j, first if j == 0 and own not in (0, last) else 1) for j in sorted(blocks)]
        if chosen is not None and own not in (0, last):
            looked += [(int(j), 1) for j in chosen[head, own - 1]]
        keys = [p for j, times in looked for _ in range(times) for p in range(j * block, min((j + 1) * block, length))]
        scores = torch.stack([q[i, head] @ k[p, head] for p in keys]) / math.sqrt(width)
        out[i, head] = torch.softmax(scores, 0) @ v[keys, head]
    return out


def random_qkv(sequences, length, heads=2, width=4):
    draw = torch.Generator().manual_seed(length)
    return [torch.randn(sequences * length, heads, width, generator=draw, requires_grad=True) for _ in range(3)]


CASES = [(34, 3, 1), (34, 3, 3), (35, 3, 2), (36, 3, 1), (36, 3, 3), (20, 4, 0), (9, 3, 0), (41, 1, 5)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("length", "block", "count"), CASES)
def test_gathered_blocks_equal_plain_loops(length, block, count, training, monkeypatch):
    """So do the gradients; also where the rectangle is split to bound memory."""
    qkv = random_qkv(2, length)
    blocks = -(-length // block)
    chosen = random_blocks(1, 2, 2, blocks, count) if training and count else None
    pattern = Pattern.of(blocks, chosen, first=1 if training else 1 + count)
    parts = zip(*(x.split(length) for x in qkv), strict=True)
    expected = torch.cat([by_loops(*part, block, chosen, pattern.first) for part in parts])
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), qkv)
    for most in (2**24, 1):
        monkeypatch.setattr(module, "_MOST_NUMBERS", most)
        found = attend_by_blocks(*qkv, length, block, pattern)
        assert (found - expected).abs().max() < 1e-6
        for ours, theirs in zip(torch.autograd.grad((found * weights).sum(), qkv), wanted, strict=True):
            assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(("length", "block", "count"), CASES)
def test_the_score_says_the_same_to_full_attention(length, block, count):
    """What attention weights are made with, where all of them are asked for."""
    q, k, v = random_qkv(2, length)
    blocks = -(-length // block)
    for pattern in (Pattern.of(blocks, first=1 + count), Pattern.of(blocks, random_blocks(0, 0, 2, blocks, count))):
        added = pattern.score(length, block, q)
        expected = attend_one_by_one(q, k, v, [0, length, 2 * length], score=lambda q, k, added=added: added)
        assert (attend_by_blocks(q, k, v, length, block, pattern) - expected).abs().max() < 1e-6


def test_random_blocks_depend_on_their_arguments_alone():
    drawn = random_blocks(0, 3, heads=4, blocks=16, count=3)
    random_blocks.cache_clear()
    assert np.array_equal(drawn, random_blocks(0, 3, 4, 16, 3))
    assert drawn.shape == (4, 14, 3)
    assert not np.array_equal(drawn, random_blocks(0, 2, 4, 16, 3)), "layers"
    assert not np.array_equal(drawn, random_blocks(1, 3, 4, 16, 3)), "seeds"
    assert not np.array_equal(drawn[0], drawn[1]), "heads"


@pytest.mark.parametrize("blocks", [8, 12, 64])
def test_random_blocks_are_distinct_far_and_all_possible(blocks):
    count = (blocks - 5) // 2 if blocks < 64 else 3
    drawn = random_blocks(0, 0, heads=1000, blocks=blocks, count=count)
    for own in range(1, blocks - 1):
        chosen = drawn[:, own - 1]
        assert all(len(set(row)) == count for row in chosen)
        assert set(chosen.ravel()) == set(range(1, blocks - 1)) - {own - 1, own, own + 1}


def test_the_cost_is_linear_in_the_length():
    def cost(length, block=8):
        q, k, v = (torch.randn(length, 2, 4) for _ in range(3))
        blocks = length // block
        with FlopCounterMode(display=False) as counter:
            attend_by_blocks(q, k, v, length, block, Pattern.of(blocks, random_blocks(0, 0, 2, blocks, 2)))
        return counter.get_total_flops()

    assert cost(4096) / cost(2048) == pytest.approx(2, rel=0.01)


def test_bf16_is_close():
    q, k, v = random_qkv(2, 61, width=16)
    pattern = Pattern.of(16, random_blocks(0, 0, 2, 16, 3))
    found = attend_by_blocks(*(x.bfloat16() for x in (q, k, v)), 61, 4, pattern)
    assert found.dtype == torch.bfloat16
    assert (found.float() - attend_by_blocks(q, k, v, 61, 4, pattern)).abs().max() < 0.02


# ---- against transformers, one sequence at a time


def theirs_of(config, state, architecture="BigBirdModel", **settings):
    """A fresh model of `transformers` with our weights."""
    published = transformers.AutoConfig.for_model(**MEMBERS.to_hf(config), **settings)
    made = getattr(transformers, architecture)._from_config(published, attn_implementation="eager").eval()
    missing = made.load_state_dict(state, strict=False).missing_keys
    assert not [name for name in missing if "decoder" not in name], missing
    return made


def ours_of(config, heads=()):
    """Our encoder, heads, and all their weights by published names."""
    encoder = tiny.randomise(build_encoder(config)).eval()
    modules = {kind: tiny.randomise(build_head(tiny.head("big_bird", kind), config), 1).eval() for kind in heads}
    table = MEMBERS.table(heads)
    parts = {"encoder": encoder, **modules}
    state = {
        table.published(f"{part}.{name}", bare=not heads): value
        for part, made in parts.items()
        for name, value in made.state_dict().items()
    }
    return encoder, modules, state


def text(length, seed=0):
    draw = np.random.default_rng(seed + length)
    ids = draw.integers(1, 211, (1, length))
    return {"input_ids": ids, "token_type_ids": (np.arange(length) >= length // 2).astype(int)[None]}


def tensors(inputs):
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


def small(**changes):
    return tiny.config("big_bird", **{**SMALL, **changes})


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        (SMALL, LENGTHS[1:]),
        ({"attention__block": 3, "attention__random_blocks": 3}, (33, 34, 35, 36, 50)),
        ({"attention__block": 16, "attention__random_blocks": 2}, (144, 145, 160, 300)),
        ({"attention__block": 64, "layers": 2}, (704, 705, 1000, 1024)),  # as published
    ],
)
@torch.no_grad()
def test_hidden_states_and_attention_weights_agree(changes, lengths):
    config = tiny.config("big_bird", **changes)
    encoder, _, state = ours_of(config)
    block, count = config.attention.block, config.attention.random_blocks
    for length in lengths:
        inputs = text(length)
        expected = theirs_of(config, state)(**tensors(inputs), output_hidden_states=True, output_attentions=True)
        found = encoder(pack(**inputs), hidden=True)
        for ours, theirs in zip(found.hidden, expected.hidden_states, strict=True):
            assert (ours - theirs[0, :length]).abs().max() < 1e-5, length
        assert (found.pooled - expected.pooler_output).abs().max() < 1e-5
        if length <= (5 + 2 * count) * block:
            continue  # having changed to full attention, they give no weights
        weights = encoder(pack(**inputs), attentions=True).attentions
        middle = slice(block, (length - 1) // block * block)
        for (ours,), theirs in zip(weights, expected.attentions, strict=True):
            theirs = theirs[0, :, :length, :length].clone()
            theirs[:, middle, :block] *= 1 + count  # they report one of the times that the first block counts
            assert (ours - theirs).abs().max() < 1e-5
            assert (ours.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "heads"), [(name, sorted(heads)) for heads, name in MEMBERS.architectures.items() if heads]
)
@torch.no_grad()
def test_heads_agree_above_the_threshold(architecture, heads):
    """With the activation of the blocks in every head, also where it is not the published one."""
    config = small(feed_forward__activation="relu")
    encoder, modules, state = ours_of(config, heads)
    for length in (LIMIT + 1, 44):
        inputs = text(length)
        settings = {"num_labels": 3} if {"classify", "tag"} & set(heads) else {}
        theirs = theirs_of(config, state, architecture, **settings)
        if heads == ["choose"]:
            logits = {"choose": theirs(**{name: value[None] for name, value in tensors(inputs).items()}).logits[0]}
        elif heads == ["answer"]:
            out = theirs(**tensors(inputs), question_lengths=torch.zeros(1, 1, dtype=torch.int64))
            logits = {"answer": torch.stack((out.start_logits, out.end_logits), -1)}
        else:
            out = theirs(**tensors(inputs))
            names = {"mlm": "prediction_logits", "nsp": "seq_relationship_logits"}
            logits = {kind: getattr(out, names[kind]) if len(heads) > 1 else out.logits for kind in heads}
        out = encoder(pack(**inputs))
        for kind, head in modules.items():
            found = head(out.sequence, encoder.token_table) if kind == "mlm" else head(out)
            assert (found.flatten() - logits[kind].flatten()).abs().max() < 1e-5, kind


@torch.no_grad()
def test_their_answers_lie_behind_the_question():
    """The published class takes a million off the question's tokens but the first; the scores are the same else."""
    config = small()
    encoder, modules, state = ours_of(config, ["answer"])
    inputs = text(40)
    inputs["input_ids"][inputs["input_ids"] == 66] = 65
    inputs["input_ids"][0, 11] = 66  # the separator behind the question
    out = theirs_of(config, state, "BigBirdForQuestionAnswering")(**tensors(inputs))
    found = modules["answer"](encoder(pack(**inputs)))
    difference = found - torch.stack((out.start_logits[0], out.end_logits[0]), -1)
    assert difference[1:12].sub(1e6).abs().max() < 1
    assert torch.cat((difference[:1], difference[12:])).abs().max() < 1e-5


@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 36, 61])
def test_training_agrees_with_the_same_random_blocks(length, monkeypatch):
    """Outputs and all gradients, `transformers` being given our random blocks."""

    def drawn(self, from_seq_length, from_block_size, num_heads, plan_num_rand_blocks, **_):
        chosen = random_blocks(0, self.seed, num_heads, from_seq_length // from_block_size, sum(plan_num_rand_blocks))
        return list(chosen.astype(np.int32))

    monkeypatch.setattr(BigBirdBlockSparseAttention, "_bigbird_block_rand_mask_with_head", drawn)
    config = small(**NO_DROPOUT, attention__random_blocks=3) if length == 61 else small(**NO_DROPOUT)
    encoder, _, state = ours_of(config)
    theirs = theirs_of(config, state).train()
    inputs = text(length)
    expected = theirs(**tensors(inputs)).last_hidden_state[0]
    encoder.train()
    found = encoder(pack(**inputs)).sequence
    assert (found - expected).abs().max() < 1e-5
    weights = torch.randn_like(found)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    wanted = {name: value.grad for name, value in theirs.named_parameters() if not name.startswith("pooler")}
    for name, value in encoder.named_parameters():
        if not name.startswith("pooler"):
            grad = wanted[MEMBERS.names.published(f"encoder.{name}", bare=True)]
            assert (value.grad - grad).abs().max() < 1e-4 * (1 + grad.abs().max()), name


# ---- packed


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_packed_equals_one_by_one(training):
    """Full and sparse sequences in one batch; attention weights asked for or not."""
    encoder = ours_of(small(**NO_DROPOUT))[0].train(training)
    rows = [text(length)["input_ids"][0] for length in LENGTHS]
    batch = make_batch(rows)
    packed = encoder(batch, attentions=True)
    assert (packed.sequence - encoder(batch).sequence).abs().max() < 1e-5
    for number, (a, b) in enumerate(itertools.pairwise(batch.starts)):
        alone = encoder(make_batch([rows[batch.rows[number]]]), attentions=True)
        assert (packed.sequence[a:b] - alone.sequence).abs().max() < 1e-5
        assert (packed.pooled[number] - alone.pooled[0]).abs().max() < 1e-5
        for layer, (expected,) in zip(packed.attentions, alone.attentions, strict=True):
            assert layer[number].shape == (4, b - a, b - a)
            assert (layer[number] - expected).abs().max() < 1e-5
            assert (layer[number].sum(-1) - 1).abs().max() < 1e-5


@torch.no_grad()
def test_the_switch_is_at_the_threshold_and_for_each_sequence():
    config = small()
    encoder = ours_of(config)[0]
    full = ours_of(config.derive(attention=AttentionConfig(heads=config.attention.heads)))[0]
    batch = make_batch([text(length)["input_ids"][0] for length in (LIMIT, LIMIT + 1)])
    ours, all_full = encoder(batch).sequence, full(batch).sequence
    assert torch.equal(ours[:LIMIT], all_full[:LIMIT])
    assert (ours[LIMIT:] - all_full[LIMIT:]).abs().amax(-1).min() > 1e-4, "every token of the longer one"


@torch.no_grad()
def test_ends_see_and_are_seen_by_all_and_the_middle_sees_little():
    encoder = ours_of(small())[0]
    (weights,) = encoder(pack(**text(100)), attentions=True).attentions[0]
    seen = weights > 0
    assert seen[:, :4].all()
    assert seen[:, 96:].all()
    assert seen[:, :, :4].all()
    assert seen[:, :, 96:].all()
    assert (seen[:, 8:92].sum(-1) == 5 * 4).all()
    encoder.train()
    (weights,) = encoder(pack(**text(100)), attentions=True).attentions[0]
    assert ((weights > 0)[:, 8:92].sum(-1) == 6 * 4).all()


# ---- in training


@torch.no_grad()
def test_random_blocks_matter_in_training_only_and_stay_the_same():
    config = small(**NO_DROPOUT)
    one, other = ours_of(config)[0], ours_of(config.derive(attention__seed=1))[0]
    batch = pack(**text(61))
    assert torch.equal(one(batch).sequence, other(batch).sequence)
    one.train()
    other.train()
    assert not torch.allclose(one(batch).sequence, other(batch).sequence, atol=1e-4)
    assert torch.equal(one(batch).sequence, one(batch).sequence), "the same in every step"


@torch.no_grad()
def test_embeddings_are_dropped_out_before_their_norm():
    config = small(embeddings__dropout=0.5)
    embeddings = build_encoder(config).embeddings.train()
    ids = torch.arange(40)
    x_TD = embeddings(ids, ids, torch.zeros_like(ids))
    assert x_TD.mean(-1).abs().max() < 1e-5
    assert (x_TD.var(-1, correction=0) - 1).abs().max() < 1e-3
    assert (embeddings(ids, ids, torch.zeros_like(ids)) != x_TD).any()


# ---- configurations


def test_full_attention_is_read_and_written():
    config = tiny.config("big_bird").derive(attention=AttentionConfig(heads=4))
    written = MEMBERS.to_hf(config)
    assert written["attention_type"] == "original_full"
    assert MEMBERS.from_hf(written) == config
    theirs = transformers.AutoConfig.for_model(**written).to_dict()
    assert theirs["block_size"] == 64, "they write it although it means nothing"
    assert MEMBERS.from_hf(theirs) == config
    assert MEMBERS.from_hf({"vocab_size": 50_358}) == MEMBERS.size("base")


@torch.no_grad()
def test_full_attention_agrees_in_long_texts():
    config = tiny.config("big_bird").derive(attention=AttentionConfig(heads=4))
    encoder, _, state = ours_of(config)
    inputs = text(100)
    expected = theirs_of(config, state)(**tensors(inputs), output_attentions=True)
    found = encoder(pack(**inputs), attentions=True)
    assert (found.sequence - expected.last_hidden_state[0]).abs().max() < 1e-5
    for (ours,), theirs in zip(found.attentions, expected.attentions, strict=True):
        assert (ours - theirs[0]).abs().max() < 1e-5


def test_parameters_are_those_of_the_published_models():
    with torch.device("meta"):
        for size, count in (("base", 127_468_800), ("large", 359_123_968)):
            made = build_encoder(MEMBERS.size(size))
            assert sum(value.numel() for value in made.parameters()) == count


@pytest.mark.parametrize(
    ("key", "value"),
    [("attention_type", "etc"), ("use_bias", False), ("rescale_embeddings", True), ("is_decoder", True)],
)
def test_what_is_not_computed_is_refused(key, value):
    with pytest.raises(BothwaysError, match=f"config.json says {key} = {value!r}, which is not supported"):
        MEMBERS.from_hf(MEMBERS.to_hf(MEMBERS.size()) | {key: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block": 0}, "block must be at least 1, not 0"),
        ({"random_blocks": -1}, "random_blocks must be at least 0, not -1"),
        ({"seed": -3}, "seed must be at least 0, not -3"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(BothwaysError, match=message):
        SparseAttentionConfig(heads=2, **settings)


def test_a_text_beyond_the_positions_is_refused():
    encoder = build_encoder(small(embeddings__positions=60))
    with pytest.raises(BothwaysError, match="a sequence has 61 tokens, but this model takes at most 60"):
        encoder(make_batch([np.ones(61, int)]))


@torch.no_grad()
def test_another_seed_is_a_composition_and_comes_back(tmp_path):
    """No published config.json can say it."""
    config = small(attention__seed=5, **NO_DROPOUT)
    encoder = ours_of(config)[0]
    assert "bothways alone opens it" in write_folder(
        Saved(encoder=encoder, heads={}, head_configs={}, tokenizer=None), tmp_path / "model"
    )
    again = read_folder(tmp_path / "model").encoder
    assert again.config == config
    batch = pack(**text(61))
    assert torch.equal(again.train()(batch).sequence, encoder.train()(batch).sequence)
