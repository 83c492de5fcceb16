"""What is peculiar to Longformer: windows and global tokens, checked against the plainest code and the reference."""

import dataclasses

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch, mark_global, pack, unpack
from bothways.errors import BothwaysError
from bothways.learn.finetune import finetune
from bothways.model.build import build_encoder
from bothways.model.config import EncoderConfig, WindowAttentionConfig
from bothways.model.families import family
from bothways.model.parts import global_tokens, windowed
from bothways.run.folder import read_folder
from bothways.run.model import Model
from test_families import ours_of, rectangle, theirs_of

LONGFORMER = family("longformer")
LENGTHS = (17, 512, 1, 2, 511, 2, 300, 300)
SEP = 2


def mixed(seed=0, lengths=LENGTHS, share=0.02):
    """A batch in which some sequences have no global token, some one, some several."""
    draw = np.random.default_rng(seed)
    batch = make_batch([draw.integers(3, 200, length) for length in lengths])
    return dataclasses.replace(batch, global_tokens=draw.random(batch.tokens) < share)


def plainly(attention, x_TD, batch, layer=0):
    """Attention of one layer as the paper says it, token by token: outputs and weights of each sequence."""
    window = attention.windows[layer % len(attention.windows)]

    def heads(projection, x):
        return projection(x).unflatten(1, (attention.heads, -1)).transpose(0, 1)  # (H, L, K)

    outputs, weights = [], []
    for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True):
        x, chosen = x_TD[start:end], batch.global_tokens[start:end]
        q, k, v, wide_q, wide_k, wide_v = (
            heads(getattr(attention, name), x)
            for name in ("query", "key", "value", "global_query", "global_key", "global_value")
        )
        rows, shares = [], []
        for token in range(end - start):
            if chosen[token]:
                seen, own_q, own_k, own_v = range(end - start), wide_q, wide_k, wide_v
            else:
                seen = [other for other in range(end - start) if abs(other - token) <= window or chosen[other]]
                own_q, own_k, own_v = q, k, v
            scores = (own_q[:, token, None] * own_k[:, seen]).sum(-1) / own_q.shape[-1] ** 0.5
            share = torch.zeros(attention.heads, end - start)
            share[:, list(seen)] = scores.softmax(-1)
            shares.append(share)
            rows.append((share[:, :, None] * own_v).sum(1).flatten())
        outputs.append(torch.stack(rows))
        weights.append(torch.stack(shares, 1))
    return attention.output(torch.cat(outputs)), weights


def attention_of(window, seed=0):
    encoder = build_encoder(tiny.config("longformer", attention__windows=(window,), layers=1)).eval()
    return encoder, tiny.randomise(encoder.stack.blocks[0].attention, seed)


@pytest.mark.parametrize("window", [1, 8, 40, 600])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 1.0])
def test_attention_is_what_the_paper_says(window, share, monkeypatch):
    """Outputs, gradients of inputs and parameters, and weights; also when memory allows few scores at a time."""
    encoder, attention = attention_of(window)
    batch = mixed(lengths=(1, 2, 5, 5, 40, 130, 130), share=share)
    x_TD = torch.randn(batch.tokens, 48).requires_grad_()
    expected, weights = plainly(attention, x_TD, batch)
    aim = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * aim).sum(), [x_TD, *attention.parameters()], allow_unused=True)
    for most in (2**24, 3000):
        for module in (windowed, global_tokens):
            monkeypatch.setattr(module, "_MOST_SCORES", most)
        context = encoder.context(encoder.at_door(batch))
        found = attention(x_TD, context, 0)
        assert (found - expected).abs().max() < 1e-5
        gradients = torch.autograd.grad((found * aim).sum(), [x_TD, *attention.parameters()], allow_unused=True)
        for ours, theirs in zip(gradients, wanted, strict=True):
            zero = torch.zeros(())
            assert ((zero if ours is None else ours) - (zero if theirs is None else theirs)).abs().max() < 1e-3
    context = encoder.context(encoder.at_door(batch), attentions=True)
    assert (attention(x_TD, context, 0) - expected).abs().max() < 1e-5
    for ours, theirs in zip(context.weights(0), weights, strict=True):
        assert (ours - theirs).abs().max() < 1e-6
        assert (ours.sum(-1) - 1).abs().max() < 1e-6


def test_weights_are_dropped_in_training():
    """Of neighbours and of global tokens alike; where values are one, an output is the sum of the weights left."""
    encoder, attention = attention_of(8)
    batch = mixed(lengths=(300, 300, 300))
    context = encoder.context(encoder.at_door(batch))
    x_TD = torch.randn(batch.tokens, 48)
    with torch.no_grad():
        for projection in (attention.value, attention.global_value):
            projection.weight.zero_()
            projection.bias.fill_(1.0)
        attention.output.weight.copy_(torch.eye(48))
        attention.output.bias.zero_()
        assert (attention(x_TD, context, 0) - 1).abs().max() < 1e-5
        attention.dropout = 0.5
        sums_TD = attention.train()(x_TD, context, 0)
    for group in (sums_TD[batch.global_tokens], sums_TD[~batch.global_tokens]):
        assert abs(group.mean() - 1) < 0.1
        assert group.std() > 0.02


def test_the_fused_kernels_compute_the_same(monkeypatch):
    encoder, attention = attention_of(8)
    batch = encoder.at_door(mixed())
    x_TD = torch.randn(batch.tokens, 48)
    expected = attention(x_TD, encoder.context(batch), 0)
    monkeypatch.setattr(windowed, "prefers_fused", lambda q: True)
    monkeypatch.setattr(global_tokens, "prefers_fused", lambda q: True)
    assert (attention(x_TD, encoder.context(batch), 0) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("windows", [(8,), (2, 4, 16), (64,)])
@pytest.mark.parametrize("share", [0.0, 0.02])
def test_windows_of_each_layer_and_any_global_tokens_agree_with_the_reference(windows, share, tmp_path):
    config = tiny.config("longformer", attention__windows=windows)
    theirs = theirs_of(config, "LongformerModel")
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    assert saved.encoder.config == config
    inputs = rectangle(config)
    draw = np.random.default_rng(1)
    chosen = (draw.random(inputs["input_ids"].shape) < share) & (inputs["attention_mask"] == 1)
    batch = pack(**inputs, global_attention_mask=chosen)
    with torch.no_grad():
        expected = theirs(
            input_ids=torch.from_numpy(inputs["input_ids"]),
            attention_mask=torch.from_numpy(inputs["attention_mask"]),
            global_attention_mask=torch.from_numpy(chosen.astype(np.int64)),
            output_hidden_states=True,
        )
        found = saved.encoder(batch, hidden=True)
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    for ours, layer in zip(found.hidden, expected.hidden_states, strict=True):
        assert (unpack(ours, batch) - layer)[real].abs().max() < 1e-5
    assert (found.pooled - expected.pooler_output[torch.from_numpy(batch.rows)]).abs().max() < 1e-5


def test_gradients_agree_with_the_reference(tmp_path):
    config = tiny.config("longformer", dropout=0.0, attention__dropout=0.0, embeddings__dropout=0.0)
    theirs = theirs_of(config, "LongformerModel")
    theirs.save_pretrained(tmp_path)
    saved = read_folder(tmp_path)
    inputs = rectangle(config, (17, 100, 1, 130))
    inputs["global_attention_mask"] = np.zeros_like(inputs["input_ids"])
    inputs["global_attention_mask"][:, [0, 30]] = inputs["attention_mask"][:, [0, 30]]
    batch = pack(**inputs)
    real = torch.from_numpy(inputs["attention_mask"]).bool()
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    (theirs(**tensors).last_hidden_state[real] ** 3).mean().backward()
    (unpack(saved.encoder(batch).sequence, batch)[real] ** 3).mean().backward()
    gradients = {LONGFORMER.names.ours(key): value.grad for key, value in theirs.named_parameters()}
    for key, value in saved.encoder.named_parameters():
        expected = gradients[f"encoder.{key}"]
        if expected is not None and value.grad is not None:
            assert (value.grad - expected).abs().max() < 1e-5, key
        else:
            assert "pooler" in key


def test_attention_weights_are_those_of_the_reference(tmp_path):
    """There the weights of a window lie in a band, those towards and from global tokens beside it."""
    window = 8
    config = tiny.config("longformer", attention__windows=(window,))
    theirs = theirs_of(config, "LongformerModel")
    theirs.save_pretrained(tmp_path)
    encoder = read_folder(tmp_path).encoder
    ids = np.random.default_rng(0).integers(3, 200, (2, 64))
    places = [0, 20, 21]
    chosen = np.zeros_like(ids)
    chosen[:, places] = 1
    with torch.no_grad():
        out = theirs(torch.from_numpy(ids), global_attention_mask=torch.from_numpy(chosen), output_attentions=True)
        found = encoder(pack(ids, global_attention_mask=chosen), attentions=True).attentions
    for layer, (bands, wide) in enumerate(zip(out.attentions, out.global_attentions, strict=True)):
        expected = torch.zeros(2, 4, 64, 64)
        expected[..., places] = bands[..., : len(places)]
        for step in range(-window, window + 1):
            here = torch.arange(max(0, -step), min(64, 64 - step))
            expected[:, :, here, here + step] += bands[:, :, here, len(places) + window + step]
        expected[:, :, places] = wide[..., : len(places)].transpose(-1, -2)
        assert (torch.stack(found[layer]) - expected).abs().max() < 1e-5


def pairs(lengths, pad=1):
    """Pairs as RoBERTa's tokenizer makes them, ``<s> A </s></s> B </s>``, padded at the right."""
    draw = np.random.default_rng(0)
    rows = [
        [0, *draw.integers(3, 200, first), SEP, SEP, *draw.integers(3, 200, second), SEP] for first, second in lengths
    ]
    longest = max(map(len, rows))
    ids = np.array([row + [pad] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != pad).astype(np.int64), "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize("kind", ["classify", "answer", "choose"])
def test_heads_choose_their_global_tokens_as_the_reference_does(kind):
    """The reference marks them itself if it is not told: the first token, the question, the second text."""
    config = tiny.config("longformer", attention__windows=(4,))
    saved = ours_of(config, [kind])
    inputs = pairs([(5, 60), (30, 7), (1, 1), (5, 60)])
    architecture = LONGFORMER.architectures[frozenset({kind})]
    theirs = theirs_of(config, architecture, num_labels=3 if kind == "classify" else 2)
    table = LONGFORMER.table([kind])
    state = {table.published(f"encoder.{key}"): value for key, value in saved.encoder.state_dict().items()}
    state |= {table.published(f"{kind}.{key}"): value for key, value in saved.heads[kind].state_dict().items()}
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    tensors = {key: torch.from_numpy(inputs[key]) for key in ("input_ids", "attention_mask")}
    tensors = {key: value[None] if kind == "choose" else value for key, value in tensors.items()}
    batch = tiny.marked(pack(**inputs), saved)
    with torch.no_grad():
        expected = theirs(**tensors)
        found = saved.heads[kind].eval()(saved.encoder(batch))
    if kind == "answer":
        real = torch.from_numpy(inputs["attention_mask"]).bool()
        assert (
            unpack(found, batch)[real] - torch.stack((expected.start_logits, expected.end_logits), -1)[real]
        ).abs().max() < 1e-5
    else:
        wanted = expected.logits[0] if kind == "choose" else expected.logits
        assert (found - wanted[torch.from_numpy(batch.rows)]).abs().max() < 1e-5


def test_rules_mark_what_they_say():
    rows = [[0, 7, 8, SEP, SEP, 9, 9, SEP], [0, 7, SEP], [0, 7, 7], [0, SEP, 9, SEP, 9]]
    batch = make_batch(rows)

    def marked(rule):
        flags = mark_global(batch, rule, SEP).global_tokens
        by_row = dict(zip(batch.rows.tolist(), np.split(flags, batch.starts[1:-1]), strict=True))
        return [np.flatnonzero(by_row[row]).tolist() for row in range(len(rows))]

    assert mark_global(batch, "none") is batch
    assert marked("first") == [[0], [0], [0], [0]]
    assert marked("first_text") == [[0, 1, 2], [0, 1], [], [0]]
    assert marked("second_text") == [[5, 6, 7], [], [], [2, 3, 4]]
    with pytest.raises(BothwaysError, match="tokens of the first text are not known without a separator"):
        mark_global(batch, "first_text")


def test_packed_is_one_by_one():
    """A sequence's numbers do not depend on the others, nor on how many global tokens they have."""
    encoder = tiny.randomise(build_encoder(tiny.config("longformer", attention__windows=(3, 8, 20)))).eval()
    batch = mixed()
    with torch.no_grad():
        together = encoder(batch)
        for number, (start, end) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
            alone = make_batch([batch.token_ids[start:end]])
            alone = dataclasses.replace(alone, global_tokens=batch.global_tokens[start:end])
            out = encoder(alone)
            assert (out.sequence - together.sequence[start:end]).abs().max() < 1e-5
            assert (out.pooled - together.pooled[number]).abs().max() < 1e-5


def test_the_cost_is_linear_in_the_length():
    """Twice the tokens, twice the products, with a global token too; full attention needs four times as many scores."""
    from torch.utils.flop_counter import FlopCounterMode

    encoder = build_encoder(tiny.config("longformer", embeddings__positions=4098)).eval()
    counts = []
    for length in (1024, 2048, 4096):
        batch = mark_global(make_batch([np.arange(length) % 200]), "first")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            encoder(batch)
        counts.append(counter.get_total_flops())
    assert 1.9 < counts[1] / counts[0] < 2.1
    assert 1.95 < counts[2] / counts[1] < 2.05


def test_classifiers_work_and_learn_with_the_first_token_global():
    """Through `classify` and through fine-tuning alike, so that what was learned is what is used."""
    tokenizer = tiny.tokenizer()
    config = tiny.config("longformer", embeddings__vocab_size=tokenizer.size, layers=1)
    seen = []

    def watch(model):
        forward = model.encoder.forward
        model.encoder.forward = lambda batch, **rest: seen.append(batch) or forward(batch, **rest)

    head = tiny.head("longformer", "classify")
    model = Model.random(config, tokenizer, [head])
    watch(model)
    model.classify(["the red river", "a teacher"])
    model.embed("the red river")
    assert [None if one.global_tokens is None else one.global_tokens.sum() for one in seen] == [2, None]
    assert (seen[0].global_tokens == (seen[0].positions == 0)).all()
    rows = [{"text": text, "label": label} for text in tiny.sentences(12) for label in ("good", "bad")]
    before = Model.random(config, tokenizer)
    learned = finetune("classify", base=before, train=rows, dev=rows, steps=2, batch_size=8).model
    moved = learned.encoder.stack.blocks[0].attention.global_value.weight
    assert not torch.equal(moved, before.encoder.stack.blocks[0].attention.global_value.weight)
    assert learned.head_configs["classify"].global_tokens == "first"


def test_a_published_config_is_read():
    """As allenai published it, whole."""
    published = {
        "attention_mode": "longformer", "attention_probs_dropout_prob": 0.1, "attention_window": [512] * 12,
        "bos_token_id": 0, "eos_token_id": 2, "gradient_checkpointing": False, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "ignore_attention_mask": False, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 4098,
        "model_type": "longformer", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
        "sep_token_id": 2, "type_vocab_size": 1, "vocab_size": 50265,
    }  # fmt: skip
    config = LONGFORMER.from_hf(published)
    assert config == LONGFORMER.sizes["base-4096"]
    assert config.longest == 4096
    assert LONGFORMER.from_hf(published | {"attention_window": 512}) == config
    for key, value in {
        "attention_window": [512, 511] * 6, "attention_dilation": [1, 2] * 6, "attention_mode": "n2",
        "autoregressive": True, "ignore_attention_mask": True,
    }.items():  # fmt: skip
        with pytest.raises(BothwaysError, match=f"config.json says {key} = "):
            LONGFORMER.from_hf(published | {key: value})
    with pytest.raises(BothwaysError, match="12 layers cannot have 5 windows; give one, or one a layer"):
        LONGFORMER.from_hf(published | {"attention_window": [512, 64, 64, 64, 64]})


def test_the_published_sizes():
    """RoBERTa's parameters, longer positions, three projections a layer more."""
    for size, smaller in (("base-4096", "base"), ("large-4096", "large")):
        config = LONGFORMER.sizes[size]
        with torch.device("meta"):
            count, less = (
                sum(p.numel() for p in build_encoder(one).parameters())
                for one in (config, family("roberta").sizes[smaller])
            )
        width = config.width
        assert count - less == (4098 - 514) * width + config.layers * 3 * (width * width + width)


def test_windows_are_refused_that_make_no_sense():
    for windows in ((), (0,), (4, -1)):
        with pytest.raises(BothwaysError, match="windows must be at least 1 token to either side"):
            WindowAttentionConfig(heads=2, windows=windows)
    assert WindowAttentionConfig(heads=2, windows=(4, 4)) == WindowAttentionConfig(heads=2, windows=(4,))
    config = tiny.config("longformer", attention__windows=(4, 5, 6))
    assert EncoderConfig.from_dict(config.to_dict()) == config
    with pytest.raises(BothwaysError, match="2 layers cannot have 3 windows"):
        config.derive(layers=2)


def test_marks_that_do_not_fit_are_refused():
    encoder = build_encoder(tiny.config("longformer"))
    batch = make_batch([[3, 4, 5]])
    with pytest.raises(BothwaysError, match="global_tokens has 2 entries for 3 tokens; it needs one for each"):
        encoder(dataclasses.replace(batch, global_tokens=np.array([True, False])))


def test_bf16_stays_near():
    encoder = tiny.randomise(build_encoder(tiny.config("longformer"))).eval()
    batch = mixed()
    with torch.no_grad():
        exact = encoder(batch).sequence
        with torch.autocast("cpu", torch.bfloat16):
            near = encoder(batch).sequence.float()
    assert torch.nn.functional.cosine_similarity(exact, near).min() > 0.99
