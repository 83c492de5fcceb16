"""Gradients of token tables that touch only the rows that were used.

A step uses a few hundred rows of tens of thousands. A dense gradient is allocated and filled with zeros anew in each
step, which on a processor takes longer than the matrix products of a batch of short texts. Here lookups give sparse
gradients; they are written into a dense one that is kept, and of which only the rows of the step before are cleared.
What the optimizer sees is the same. A table that a step uses in another way too, as a masked-token head multiplies with
all its rows, has a dense gradient already, and is left as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LARGE = 2**20
"""Values of a table for which it pays."""


class UsedRows:
    """The large tables of a model while it is trained; a context. It acts on sparse gradients alone.

    Args:
        model: Its lookups give sparse gradients until the context ends.
        on: Whether it is done at all: where several processes add up their gradients, it is not, nor on a GPU, which
            fills a table with zeros in no time and would have to be waited for to know which rows were used.
    """

    def __init__(self, model: nn.Module, on: bool = True) -> None:
        tables = [part for part in model.modules() if on and isinstance(part, nn.Embedding)]
        self._tables = [table for table in tables if _is_large(table) and not table.sparse]
        self._kept: dict[Tensor, Tensor] = {}
        self._rows: dict[Tensor, Tensor] = {}

    def __enter__(self) -> UsedRows:
        for table in self._tables:
            table.sparse = True
        return self

    def __exit__(self, *exception: object) -> None:
        for table in self._tables:
            table.sparse = False
            table.weight.grad = None

    def gather(self) -> None:
        """Makes dense gradients of the sparse ones, once those of a whole step are there."""
        for weight in dict.fromkeys(table.weight for table in self._tables):
            if weight.grad is not None and weight.grad.is_sparse:
                weight.grad = self._dense(weight, weight.grad)

    def _dense(self, weight: Tensor, sparse: Tensor) -> Tensor:
        kept = self._kept.get(weight)
        if kept is None:
            kept = self._kept[weight] = torch.zeros_like(weight)
        else:
            kept.index_fill_(0, self._rows[weight], 0.0)
        rows, place = torch.unique(sparse._indices()[0], return_inverse=True)
        summed = torch.ops.aten.embedding_dense_backward(sparse._values(), place, len(rows), -1, False)
        self._rows[weight] = rows
        return kept.index_copy_(0, rows, summed)


def _is_large(table: nn.Embedding) -> bool:
    weight = table._parameters.get("weight")  # a table that is computed from others is none
    return weight is not None and weight.requires_grad and weight.numel() >= _LARGE
