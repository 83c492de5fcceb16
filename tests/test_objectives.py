"""What is learned from raw text: who is masked, how losses are summed, where gradients go."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import tiny
from bothways.batch import make_batch
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.nsp import NextSentence
from bothways.learn.objectives.protocol import Forward, Together, encoded
from bothways.learn.objectives.sop import SentenceOrder
from bothways.learn.stream import split_items
from bothways.model.heads import vocabulary_rows
from bothways.model.heads.vocabulary_loss import vocabulary_loss

SPECIAL, VOCABULARY, MASK = 5, 1000, 4
MASKING = Masking(mask_id=MASK, ordinary=np.arange(SPECIAL, VOCABULARY), seed=7)
MLM, NSP, SOP = MaskedTokens(MASKING), NextSentence(), SentenceOrder()


def texts(count, shortest=1, longest=40, seed=0):
    """Sequences as a tokenizer makes them: special tokens at both ends."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(shortest, longest + 1, count)
    return [np.concatenate(([2], draw.integers(SPECIAL, VOCABULARY, n), [3])) for n in lengths]


def masked(sequences, keys, masking=MASKING):
    """The masked tokens of each sequence, by key."""
    batch = make_batch(sequences)
    found, targets = MaskedTokens(masking).prepare(batch, [keys[row] for row in batch.rows], [], 0.0)
    parts = np.split(found.token_ids, batch.starts[1:-1])
    return {keys[row]: part.tolist() for row, part in zip(batch.rows, parts, strict=True)}, batch, found, targets


# -- masked tokens


def test_80_10_10_within_half_a_point():
    """Of more than 200,000 chosen tokens; a random token may by chance be the old one."""
    sequences = texts(2800, 509, 510)
    _, batch, found, targets = masked(sequences, [(0, place) for place in range(len(sequences))])
    places, labels = targets["mlm.places"], targets["mlm.labels"]
    assert len(places) > 200_000
    now = found.token_ids[places]
    assert np.array_equal(labels, batch.token_ids[places])
    assert abs((now == MASK).mean() - 0.8) < 0.005
    assert abs((now == labels).mean() - 0.1) < 0.005
    random = now[(now != MASK) & (now != labels)]
    assert abs(len(random) / len(places) - 0.1) < 0.005
    assert random.min() >= SPECIAL, "never a special token"
    share = np.bincount(random, minlength=VOCABULARY)[SPECIAL:] / len(random)
    assert abs(share.mean() - 1 / (VOCABULARY - SPECIAL)) < 1e-6
    assert share.max() < 4 / (VOCABULARY - SPECIAL), "every token alike"
    assert abs(len(places) / (batch.tokens - 2 * len(sequences)) - 0.15) < 0.005
    columns = batch.positions[places]
    assert abs(columns.mean() - 255.5) < 5, "the whole sequence alike"


def test_each_sequence_has_its_15_percent_and_at_least_one():
    sequences = texts(500)
    _, batch, _, targets = masked(sequences, [(0, place) for place in range(500)])
    chosen = np.bincount(batch.sequence_of_token[targets["mlm.places"]], minlength=500)
    ordinary = batch.lengths - 2
    assert (chosen >= 1).all()
    assert np.abs(chosen - np.maximum(1, 0.15 * ordinary)).max() <= 0.5
    assert (np.diff(targets["mlm.places"]) > 0).all(), "ascending, none twice"


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.99])
def test_other_rates_hold_too(rate):
    masking = Masking(mask_id=MASK, ordinary=MASKING.ordinary, rate=rate)
    sequences = texts(200, 200, 200)
    *_, targets = masked(sequences, [(0, place) for place in range(200)], masking)
    assert len(targets["mlm.places"]) == 200 * round(200 * rate)


def test_special_tokens_are_never_masked_and_others_never_touched():
    sequences = texts(300)
    _, batch, found, targets = masked(sequences, [(0, place) for place in range(300)])
    assert (batch.token_ids[targets["mlm.places"]] >= SPECIAL).all()
    untouched = np.ones(batch.tokens, dtype=bool)
    untouched[targets["mlm.places"]] = False
    assert np.array_equal(found.token_ids[untouched], batch.token_ids[untouched])
    assert np.array_equal(batch.token_ids, make_batch(sequences).token_ids), "the batch given stays as it was"


def test_a_sequence_of_special_tokens_alone_asks_nothing():
    _, _, found, targets = masked([np.array([2, 3]), np.array([2, 9, 3])], [(0, 0), (0, 1)])
    assert len(targets["mlm.places"]) == 1
    _, _, found, targets = masked([np.array([2, 3])], [(0, 0)])
    assert found.token_ids.tolist() == [2, 3]
    assert MLM.count(targets) == 0


def test_an_example_is_masked_alike_whoever_is_beside_it_and_anew_each_epoch():
    sequences = texts(60, 10)
    keys = [(0, place) for place in range(60)]
    together, *_ = masked(sequences, keys)
    for place in (0, 17, 59):
        alone, *_ = masked([sequences[place]], [keys[place]])
        assert alone[keys[place]] == together[keys[place]]
    backwards, *_ = masked(sequences[::-1], keys[::-1])
    assert backwards == together
    later, *_ = masked(sequences, [(1, place) for place in range(60)])
    same = [later[1, place] == together[0, place] for place in range(60)]
    assert sum(same) < 5
    other_seed, *_ = masked(sequences, keys, Masking(mask_id=MASK, ordinary=MASKING.ordinary, seed=8))
    assert sum(other_seed[key] == together[key] for key in keys) < 5


def test_the_objective_for_a_tokenizer_masks_all_but_its_special_tokens():
    tokenizer = tiny.tokenizer()
    masking = Masking.of(tokenizer, rate=0.2, seed=3)
    assert (masking.mask_id, masking.rate, masking.seed) == (tokenizer.mask_id, 0.2, 3)
    assert set(range(tokenizer.size)) - set(masking.ordinary.tolist()) == set(tokenizer.special_ids)


# -- the loss over the vocabulary


def chunked(hidden, table, bias, labels, scale=1.7):
    inputs = [x.detach().clone().requires_grad_() for x in (hidden, table, bias)]
    loss, hits = vocabulary_loss(*inputs, labels)
    return loss.detach(), hits, torch.autograd.grad(loss * scale, inputs)


def plain(hidden, table, bias, labels, scale=1.7):
    inputs = [x.detach().clone().requires_grad_() for x in (hidden, table, bias)]
    logits = functional.linear(*inputs)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    return loss.detach(), (logits.argmax(-1) == labels).sum(), torch.autograd.grad(loss * scale, inputs)


def problem(count, width=24, vocabulary=301):
    draw = torch.Generator().manual_seed(count)
    hidden, table, bias = (
        torch.randn(shape, generator=draw) for shape in [(count, width), (vocabulary, width), (vocabulary,)]
    )
    labels = torch.randint(vocabulary, (count,), generator=draw)
    labels[: count // 3] = (hidden @ table.T + bias).argmax(-1)[: count // 3]
    return hidden, table, bias, labels


@pytest.mark.parametrize("count", [0, 1, 31, 33, 200])
def test_the_vocabulary_loss_is_cross_entropy(count, monkeypatch):
    """Forward and backward, also where positions come in several chunks."""
    monkeypatch.setattr(vocabulary_rows, "_CHUNK", 64)
    given = problem(count)
    (loss, hits, gradients), (expected, expected_hits, expected_gradients) = chunked(*given), plain(*given)
    assert loss.dtype == hits.dtype == torch.float32
    assert torch.allclose(loss, expected, rtol=1e-6, atol=1e-5)
    assert int(hits) == int(expected_hits)
    assert int(hits) >= count // 3
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() < 1e-5 * max(1, theirs.abs().max()) if theirs.numel() else True


def test_the_vocabulary_loss_under_bf16_stays_close():
    """Within the 8 bits of bf16: the loss by 1 %, gradients in direction by 1e-3 and of the parameters' own type."""
    given = problem(300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, gradients = chunked(*given)
    expected, _, expected_gradients = plain(*given)
    assert loss.dtype == torch.float32
    assert abs(loss / expected - 1) < 0.01
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert ours.dtype == torch.float32
        assert functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_large_logits_do_not_overflow():
    hidden, table, bias, labels = problem(40)
    loss, _, gradients = chunked(hidden * 1e4, table, bias, labels)
    expected, _, _ = plain(hidden * 1e4, table, bias, labels)
    assert torch.isfinite(loss)
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert all(torch.isfinite(value).all() for value in gradients)


def test_without_gradients_the_loss_is_the_same():
    given = problem(70)
    with torch.no_grad():
        loss, hits = vocabulary_loss(*given)
    assert torch.allclose(loss, plain(*given)[0])
    assert not loss.requires_grad
    assert not hits.requires_grad


# -- objectives together


@pytest.fixture
def model():
    saved = tiny.saved(("mlm", "nsp"), embeddings__vocab_size=VOCABULARY)
    return nn.ModuleDict({"encoder": saved.encoder, **saved.heads})


TOGETHER = Together([MLM, NSP])


def finish(batch, keys, examples, progress, asked=NSP):
    batch, targets = MLM.prepare(batch, keys, examples, progress)
    batch, labels = asked.prepare(batch, keys, examples, progress)
    return batch, targets | labels


def items(count, micro_tokens, asked=NSP):
    sequences = texts(count, 3, 60)
    examples = [
        (ids, (np.arange(len(ids)) > len(ids) // 2).astype(int), place % 2) for place, ids in enumerate(sequences)
    ]
    return split_items([(0, place) for place in range(count)], examples, partial(finish, asked=asked), micro_tokens)


def step(model, found, together=TOGETHER):
    """One step as the loop takes it: all totals first, then every item's gradient."""
    model.zero_grad()
    counts = [together.counts(item) for item in found]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    sums = [together.backward(model, item, totals) for item in found]
    values = {name: sum(value[name] for value in sums) for name in sums[0]}
    return totals, values, {name: value.grad.clone() for name, value in model.named_parameters()}


def test_accumulation_over_unequal_items_is_exact(model):
    """The gradient of several items with shared totals equals that of one item that holds all."""
    totals, values, gradients = step(model, items(40, 10**9))
    parts = items(40, 150)
    assert len(parts) > 5
    assert len({item[0].tokens for item in parts}) > 2
    for found in (parts, parts[::-1]):
        other_totals, other_values, other_gradients = step(model, found)
        assert other_totals == totals
        for name, value in values.items():
            assert other_values[name] == pytest.approx(value, rel=1e-5)
        for name, gradient in gradients.items():
            assert (other_gradients[name] - gradient).abs().max() < 1e-6, name


@pytest.mark.parametrize(("family", "asked"), [("bert", NSP), ("albert", SOP)])
def test_the_gradient_is_that_of_the_sum_of_means(family, asked):
    """Recomputed plainly: full logits, mean cross-entropy of each objective, summed."""
    name = asked.name
    saved = tiny.saved(("mlm", name), name=family, embeddings__vocab_size=VOCABULARY)
    model = nn.ModuleDict({"encoder": saved.encoder, **saved.heads})
    (item,) = items(20, 10**9, asked)
    _, values, gradients = step(model, [item], Together([MLM, asked]))
    batch, targets = item
    model.zero_grad()
    out = model["encoder"](batch)
    places, labels = (torch.from_numpy(targets[f"mlm.{what}"]) for what in ("places", "labels"))
    full = model["mlm"](out.sequence, model["encoder"].token_table)
    pairs = model[name](out)
    right = torch.from_numpy(targets[f"{name}.labels"])
    losses = functional.cross_entropy(full[places], labels), functional.cross_entropy(pairs, right)
    sum(losses).backward()
    assert values["loss.mlm"] / len(places) == pytest.approx(losses[0].item(), rel=1e-5)
    assert values[f"loss.{name}"] / 20 == pytest.approx(losses[1].item(), rel=1e-5)
    assert values["hits.mlm"] == (full[places].argmax(-1) == labels).sum()
    assert values[f"hits.{name}"] == (pairs.argmax(-1) == right).sum()
    for parameter, value in model.named_parameters():
        assert (value.grad - gradients[parameter]).abs().max() < 1e-5, parameter


def test_the_last_layer_is_left_at_the_tokens_that_are_looked_at(model):
    (item,) = items(10, 10**9)
    masked = len(item[1]["mlm.places"])

    def tokens(*objectives):
        return len(encoded(model, objectives, item).sequence)

    assert (tokens(MLM), tokens(NSP), tokens(MLM, NSP)) == (masked, 10, masked + 10)
    model["nsp"].reads = "mean"
    assert tokens(MLM, NSP) == item[0].tokens


def test_counts_are_known_before_and_are_what_the_loss_used(model):
    """With all logits equal, each guess costs exactly ln of the number of choices."""
    with torch.no_grad():
        for part in (model["mlm"].norm.weight, model["mlm"].norm.bias, model["mlm"].bias):
            part.zero_()
        for part in model["nsp"].parameters():
            part.zero_()
    for item in items(30, 200):
        counts = TOGETHER.counts(item)
        sums = TOGETHER.evaluate(model, item)
        assert sums["loss.mlm"] == pytest.approx(counts["mlm"] * np.log(VOCABULARY), rel=1e-4)
        assert sums["loss.nsp"] == pytest.approx(counts["nsp"] * np.log(2), rel=1e-4)
        assert counts["nsp"] == item[0].sequences


def test_evaluating_gives_the_same_sums_and_no_gradient(model):
    found = items(12, 10**9)
    _, values, _ = step(model, found)
    model.zero_grad()
    assert TOGETHER.evaluate(model, found[0]) == pytest.approx(values, rel=1e-6)
    assert all(value.grad is None for value in model.parameters())


def test_every_parameter_learns(model):
    """Both objectives together reach all of the encoder and both heads."""
    _, _, gradients = step(model, items(40, 10**9))
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0 or name.endswith("key.bias"), name


def test_an_item_that_asks_nothing_adds_nothing(model):
    item = finish(make_batch([[2, 3]]), [(0, 0)], [([2, 3], [0, 0], 1)], 0.0)
    alone = Together([MLM])
    model.zero_grad()
    assert alone.counts(item) == {"mlm": 0}
    assert alone.backward(model, item, {"mlm": 0}) == {"loss.mlm": 0.0, "hits.mlm": 0.0}
    assert all(value.grad is None or not value.grad.any() for value in model.parameters())


def test_next_sentence_is_cross_entropy_over_pairs(model):
    """Label 0 is "follows"."""
    ((batch, targets),) = items(10, 10**9)
    out = model["encoder"](batch)
    loss, hits, _ = NSP.loss(model, Forward(model["encoder"], batch, out), targets)
    shares = model["nsp"](out).softmax(-1)
    by_hand = -sum(np.log(shares[place, label].item()) for place, label in enumerate(targets["nsp.labels"]))
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    assert hits == sum((shares[:, 1] > 0.5).int().numpy() == targets["nsp.labels"])
    assert NSP.count(targets) == 10
