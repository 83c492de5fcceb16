"""Gradients that touch only used rows: the optimizer sees what it would see without them."""

import copy

import pytest
import torch
from torch import nn

from bothways.learn.used_rows import UsedRows

ROWS, WIDTH = 2**17, 16


class Scores(nn.Module):
    """A large table, looked up, and perhaps a product with it, as a tied head has."""

    def __init__(self, tied):
        super().__init__()
        self.tokens = nn.Embedding(ROWS, WIDTH, padding_idx=0)
        self.small = nn.Embedding(10, WIDTH)
        self.layer = nn.Linear(WIDTH, 1)
        self.tied = tied

    def forward(self, ids):
        x = self.tokens(ids) + self.small(ids % 10)
        out = self.layer(torch.tanh(x)).sum()
        return out + (x[:3] @ self.tokens.weight[:50].T).sum() if self.tied else out


def gradients(model, steps, tables=None):
    found = []
    for micro_batches in steps:
        model.zero_grad()
        for ids in micro_batches:
            model(ids).backward()
        if tables is not None:
            tables.gather()
        assert all(not parameter.grad.is_sparse for parameter in model.parameters())
        found.append([parameter.grad.clone() for parameter in model.parameters()])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_are_those_of_dense_lookups(tied):
    torch.manual_seed(0)
    plain = Scores(tied).double()
    other = copy.deepcopy(plain)
    steps = [[torch.randint(0, ROWS, (40,)) % high for high in (7, ROWS)] for _ in range(4)]
    expected = gradients(plain, steps)
    with UsedRows(other) as tables:
        assert other.tokens.sparse
        assert not other.small.sparse, "a small table is as fast dense"
        found = gradients(other, steps, tables)
    for one, two in zip(expected, found, strict=True):
        for dense, gathered in zip(one, two, strict=True):
            torch.testing.assert_close(gathered, dense)
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_afterwards_lookups_are_as_before():
    model = Scores(False)
    with UsedRows(model) as tables:
        gradients(model, [[torch.arange(5)]], tables)
    assert not model.tokens.sparse
    model(torch.arange(5)).backward()
    assert not model.tokens.weight.grad.is_sparse
    assert torch.count_nonzero(model.tokens.weight.grad.abs().sum(1)) == 4, "five rows, one of them padding"


def test_what_does_not_learn_stays_as_it_is():
    model = Scores(False)
    model.tokens.requires_grad_(False)
    with UsedRows(model) as tables:
        assert not model.tokens.sparse
        model(torch.arange(5)).backward()
        tables.gather()
    assert model.tokens.weight.grad is None
