"""Attention in rectangles is the attention of each sequence alone; dropout drops what it says."""

import numpy as np
import pytest
import torch

from bothways.batch import make_batch
from bothways.model.parts import attend as module
from bothways.model.parts.attend import attend, attend_one_by_one
from bothways.model.parts.dropout import Dropout, drop

LENGTHS = [1, 7, 7, 2, 33, 7, 1, 64, 33]


def inputs(lengths=LENGTHS, heads=3, width=8, seed=0):
    batch = make_batch([np.zeros(length) for length in lengths])
    draw = torch.Generator().manual_seed(seed)
    return batch, [torch.randn(batch.tokens, heads, width, generator=draw) for _ in range(3)]


def by_distance(q, k):
    """A score that depends on length alone, like relative positions: ``(L, L)``."""
    places = torch.arange(q.shape[2])
    return -0.3 * (places[:, None] - places).abs()


def a_head_each(q, k):
    """A score for each head, the same for all sequences: ``(H, L, L)``."""
    return by_distance(q, k) * torch.arange(1, q.shape[1] + 1)[:, None, None]


def by_content(q, k):
    """A score that depends on what the tokens are: ``(N, H, L, L)``."""
    return torch.tanh(q.sum(-1)[..., :, None] - k.sum(-1)[..., None, :])


@pytest.mark.parametrize("score", [None, by_distance, a_head_each, by_content])
@pytest.mark.parametrize("most", [2**24, 5000, 1])
def test_rectangles_equal_one_by_one(score, most, monkeypatch):
    """Also when rectangles are split to bound memory, and for the gradients."""
    monkeypatch.setattr(module, "_MOST_SCORES", most)
    batch, (q, k, v) = inputs()
    tensors = [x.requires_grad_() for x in (q, k, v)]
    expected = attend_one_by_one(*tensors, batch.starts, score)
    found = attend(*tensors, batch.plan, score=score)
    assert (found - expected).abs().max() < 1e-6
    weights = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad((found * weights).sum(), tensors),
        torch.autograd.grad((expected * weights).sum(), tensors),
        strict=True,
    ):
        assert (ours - theirs).abs().max() < 1e-5


def test_one_by_one_is_softmax_of_scaled_products():
    """The reference itself, recomputed by hand for one sequence and one head."""
    q, k, v = (torch.randn(5, 1, 4) for _ in range(3))
    scores = (q[:, 0] @ k[:, 0].T / 2).exp()
    expected = (scores / scores.sum(1, keepdim=True)) @ v[:, 0]
    assert torch.allclose(attend_one_by_one(q, k, v, [0, 5])[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("most", [2**24, 1])
def test_the_fused_kernel_equals_the_reference(most, monkeypatch):
    monkeypatch.setattr(module, "prefers_fused", lambda q: True)
    monkeypatch.setattr(module, "_MOST_SCORES", most)
    batch, qkv = inputs()
    assert (attend(*qkv, batch.plan) - attend_one_by_one(*qkv, batch.starts)).abs().max() < 1e-6


def test_splitting_bounds_the_scores_and_loses_no_sequence(monkeypatch):
    monkeypatch.setattr(module, "_MOST_SCORES", 3 * 7 * 7 * 2)
    batch, _ = inputs()
    pieces = module.split(batch.plan, heads=3)
    assert all(p.sequences * 3 * p.length**2 <= module._MOST_SCORES or p.sequences == 1 for p in pieces)
    edges = [0, *np.cumsum([p.sequences * p.length for p in pieces])]
    assert [p.start for p in pieces] == edges[:-1]
    assert edges[-1] == batch.tokens


def test_a_sequence_sees_nothing_of_its_neighbours():
    batch, (q, k, v) = inputs()
    before = attend(q, k, v, batch.plan)
    here = slice(int(batch.starts[4]), int(batch.starts[5]))
    k[here], v[here] = 100.0, -50.0
    after = attend(q, k, v, batch.plan)
    same = torch.ones(batch.tokens, dtype=torch.bool)
    same[here] = False
    assert torch.equal(before[same], after[same])
    assert not torch.equal(before[~same], after[~same])


def test_no_tokens_give_no_tokens():
    batch, qkv = inputs([])
    assert attend(*qkv, batch.plan).shape == (0, 3, 8)


def test_attention_weights_are_dropped_in_training():
    batch, qkv = inputs()
    torch.manual_seed(0)
    dropped = attend(*qkv, batch.plan, dropout=0.5)
    assert not torch.allclose(dropped, attend(*qkv, batch.plan))
    torch.manual_seed(0)
    assert torch.equal(dropped, attend(*qkv, batch.plan, dropout=0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(dtype, rate):
    """Within five standard deviations over 400,000 values; the mean beside that as exactly as the type can say it."""
    torch.manual_seed(0)
    count = 400_000
    out = drop(torch.ones(count, dtype=dtype), rate)
    assert out.dtype == dtype
    kept = (out != 0).double().mean().item()
    deviation = (rate * (1 - rate) / count) ** 0.5
    assert abs(kept - (1 - rate)) < 5 * deviation + 2**-15
    precision = torch.finfo(dtype).eps
    least, most = out.unique().tolist()
    assert least == 0.0
    assert most == pytest.approx(1 / (1 - rate), rel=2**-13 + precision)
    assert abs(out.double().mean().item() - 1) < 5 * deviation / (1 - rate) + 2**-14 + precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_follows_torchs_seed(dtype):
    values = torch.randn(1000, 7).to(dtype)
    torch.manual_seed(3)
    first, second = drop(values, 0.3), drop(values, 0.3)
    torch.manual_seed(3)
    assert torch.equal(first, drop(values, 0.3))
    assert torch.equal(second, drop(values, 0.3))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_passes_where_values_passed(dtype):
    values = torch.randn(999).to(dtype).requires_grad_()
    out = drop(values, 0.4)
    out.sum().backward()
    assert torch.equal(out == 0, values.grad == 0)
    assert torch.equal(out, values * values.grad)


def test_dropped_places_do_not_depend_on_each_other():
    """Neighbours, which come out of one draw of 64 bits, are dropped together as often as chance has it."""
    torch.manual_seed(1)
    gone = (drop(torch.ones(400_000), 0.5) == 0).double()
    for distance in (1, 2, 3, 4, 5, 8):
        together = (gone[:-distance] * gone[distance:]).mean().item()
        assert abs(together - 0.25) < 0.005


def test_dropout_is_for_training_only_and_nothing_is_nothing():
    layer = Dropout(0.5)
    values = torch.randn(10)
    assert layer.eval()(values) is values
    assert (layer.train()(torch.ones(1000)) == 0).any()
    assert drop(values, 0.0) is values
    assert drop(torch.empty(0, 3), 0.5).shape == (0, 3)
    assert (drop(torch.ones(100_000), 0.999_999) == 0).float().mean() > 0.99
