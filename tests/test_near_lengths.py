"""Sequences of nearly equal length attended to at once: the same numbers as one by one, forward and backward."""

import itertools

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from bothways.batch import Rectangle
from bothways.model.parts.attend import attend, attend_one_by_one
from bothways.model.parts.near_lengths import Group, groups

HEADS, WIDTH = 3, 4


def plan_of(lengths):
    plan, start = [], 0
    for length, same in itertools.groupby(sorted(lengths)):
        plan.append(Rectangle(start, len(list(same)), length))
        start += plan[-1].tokens
    return tuple(plan)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 12), st.sampled_from([150, 200])), min_size=1, max_size=12), st.integers(0, 99)
)
def test_groups_attend_as_sequences_alone(lengths, seed):
    torch.manual_seed(seed)
    plan = plan_of(lengths)
    total = sum(lengths)
    qkv = [torch.randn(total, HEADS, WIDTH, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    starts = [0, *itertools.accumulate(sorted(lengths))]
    out, expected = attend(*qkv, plan), attend_one_by_one(*qkv, starts)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    for found, wanted in zip(
        torch.autograd.grad(out, qkv, weight), torch.autograd.grad(expected, qkv, weight), strict=True
    ):
        torch.testing.assert_close(found, wanted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=40))
def test_groups_cover_all_tokens_in_order(lengths):
    start = 0
    for piece in groups(plan_of(lengths), 12):
        assert piece.start == start
        start += piece.tokens
        if isinstance(piece, Group):
            assert torch.equal(piece.places[piece.real], torch.arange(piece.tokens)), "padding aside, tokens in order"
            assert bool((piece.mask.flatten()[piece.real] == 0).all())
            assert int((piece.mask == 0).sum()) == piece.tokens
    assert start == sum(lengths)


def test_short_texts_are_put_together_and_long_ones_are_not():
    assert len(groups(plan_of([5, 6, 7, 8, 9] * 4), 12)) == 1
    apart = plan_of([200] * 8 + [400])
    assert groups(apart, 12) == apart


def test_what_was_grouped_for_an_answer_serves_training():
    plan = plan_of([3, 4, 5])
    groups.cache_clear()
    with torch.inference_mode():
        attend(*torch.randn(3, 12, HEADS, WIDTH).unbind(0), plan)
    qkv = torch.randn(3, 12, HEADS, WIDTH, requires_grad=True)
    attend(*qkv.unbind(0), plan).sum().backward()
    assert qkv.grad is not None
