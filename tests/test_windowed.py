"""Attention within a window is masked full attention, at a linear cost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.batch import make_batch
from bothways.model.parts import windowed as module
from bothways.model.parts.attend import attend, attend_one_by_one
from bothways.model.parts.windowed import attend_window, attend_window_one_by_one

LENGTHS = [1, 7, 7, 2, 33, 300, 300, 700, 97]


def inputs(lengths=LENGTHS, heads=2, width=8, seed=0):
    batch = make_batch([np.zeros(length) for length in lengths])
    draw = torch.Generator().manual_seed(seed)
    return batch, [torch.randn(batch.tokens, heads, width, generator=draw).requires_grad_() for _ in range(3)]


def within(window):
    """The mask of a window, as a score of full attention."""

    def score(q, k):
        places = torch.arange(q.shape[2])
        far = (places[:, None] - places).abs() > window
        return torch.zeros(far.shape).masked_fill(far, -torch.inf)

    return score


def assert_same(found, expected, tensors, tolerance=1e-5):
    """Values and gradients for every input."""
    assert (found - expected).abs().max() < tolerance
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weights).sum(), tensors, retain_graph=True)
    theirs = torch.autograd.grad((expected * weights).sum(), tensors, retain_graph=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < tolerance


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=4), st.integers(1, 100), st.integers(0, 99))
def test_a_window_is_masked_full_attention(lengths, window, seed):
    batch, qkv = inputs([*lengths, lengths[0]], seed=seed)
    assert_same(attend_window(*qkv, batch.plan, window), attend(*qkv, batch.plan, score=within(window)), qkv)


@pytest.mark.parametrize("window", [1, 40, 128, 250])
@pytest.mark.parametrize("most", [2**24, 5000, 1])
def test_splitting_changes_nothing(window, most, monkeypatch):
    batch, qkv = inputs()
    expected = attend_one_by_one(*qkv, batch.starts, within(window))
    monkeypatch.setattr(module, "_MOST_SCORES", most)
    assert_same(attend_window(*qkv, batch.plan, window), expected, qkv)


@pytest.mark.parametrize("window", [0, 1, 5, 30])
def test_the_reference_is_masked_full_attention(window):
    batch, qkv = inputs([1, 7, 7, 33])
    found = attend_window_one_by_one(*qkv, batch.starts, window, scale=0.3)
    assert_same(found, attend_one_by_one(*qkv, batch.starts, within(window), scale=0.3), qkv)
    assert_same(attend_window(*qkv, batch.plan, window, scale=0.3), found, qkv)


def test_the_fused_kernel_equals_the_plain_one(monkeypatch):
    batch, qkv = inputs()
    expected = attend_window(*qkv, batch.plan, 20)
    monkeypatch.setattr(module, "prefers_fused", lambda q: True)
    assert_same(attend_window(*qkv, batch.plan, 20), expected, qkv)


def test_weights_are_those_that_are_used():
    batch, (q, k, v) = inputs()
    weights = []
    found = attend_window(q, k, v, batch.plan, 20, weights=weights)
    assert (found - attend_window(q, k, v, batch.plan, 20)).abs().max() < 1e-5
    assert [list(one.shape) for one in weights] == [[2, length, length] for length in batch.lengths]
    for start, one in zip(batch.starts[:-1], weights, strict=True):
        here = slice(start, start + one.shape[-1])
        places = torch.arange(one.shape[-1])
        assert (one.sum(-1) - 1).abs().max() < 1e-6
        assert not one[:, (places[:, None] - places).abs() > 20].any()
        assert (torch.einsum("hqp,phk->qhk", one, v[here]) - found[here]).abs().max() < 1e-5


def test_nothing_beyond_the_window_is_seen():
    """A key that changes changes the tokens at most a window away, of its own sequence."""
    batch, (q, k, v) = inputs([300, 300])
    before = attend_window(q, k, v, batch.plan, 20)
    with torch.no_grad():
        k[290], v[290] = 100.0, -50.0
    changed = (attend_window(q, k, v, batch.plan, 20) != before).any(-1).any(-1)
    assert changed.nonzero().flatten().tolist() == [*range(270, 300)]


def test_the_scores_are_linear_in_the_length(monkeypatch):
    """Twice as long, twice as many scores; and never more at once than allowed."""
    sizes = []
    dense = module._dense
    monkeypatch.setattr(module, "_dense", lambda q, k, *rest: sizes.append((q @ k.mT).numel()) or dense(q, k, *rest))
    monkeypatch.setattr(module, "_MOST_SCORES", 2 * 64 * 192 * 5)
    counts = []
    for length in (2048, 4096):
        sizes.clear()
        batch, qkv = inputs([length])
        attend_window(*qkv, batch.plan, 64)
        assert max(sizes) <= module._MOST_SCORES
        counts.append(sum(sizes))
    assert counts[1] == 2 * counts[0] == 2 * 4096 * 192


def test_weights_are_dropped_in_training():
    batch, qkv = inputs()
    torch.manual_seed(0)
    dropped = attend_window(*qkv, batch.plan, 20, dropout=0.5)
    assert not torch.allclose(dropped, attend_window(*qkv, batch.plan, 20))
    torch.manual_seed(0)
    assert torch.equal(dropped, attend_window(*qkv, batch.plan, 20, dropout=0.5))
    batch, (q, k, _) = inputs([4000])
    ones = torch.ones(4000, 2, 8)
    sums = attend_window(q, k, ones, batch.plan, 20, dropout=0.5)  # of the weights that are left, scaled up
    assert abs(sums.mean() - 1) < 0.05
    assert sums.std() > 0.05


def test_no_tokens_give_no_tokens():
    batch, qkv = inputs([])
    assert attend_window(*qkv, batch.plan, 5).shape == (0, 2, 8)


def test_half_precision_stays_near():
    batch, qkv = inputs()
    half = [x.detach().bfloat16() for x in qkv]
    found = attend_window(*half, batch.plan, 20)
    assert found.dtype == torch.bfloat16
    assert (found.float() - attend_window(*qkv, batch.plan, 20)).abs().max() < 0.05
