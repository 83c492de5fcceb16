"""Queries look for their texts among those of the whole step, in memory that does not grow with the step.

Cross-entropy over the texts of all groups of a step, as `bothways.learn.vectors.losses.in_batch` has it for vectors:
equal texts, and texts of equal queries, never meet as negatives. What the encoder gives of a step that is too large for
one pass is made part by part (`bothways.learn.vectors.in_parts`).

Shapes: S texts in G groups, T their tokens, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Key, Loss, Targets
from bothways.learn.processes import here
from bothways.learn.protocol import Item
from bothways.learn.tasks.guessing import NEVER
from bothways.learn.utilisation import TRAINED, batch_work
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.gather import attend, gather, part_of
from bothways.learn.vectors.in_parts import LossesOf, Represent, backward_in_parts, evaluate_in_parts
from bothways.learn.vectors.losses.in_batch import never

STARTS, ORDER, IDS, GROUPS, PROGRESS = (f"match.{name}" for name in ("starts", "order", "ids", "groups", "progress"))


class Matcher(Protocol):
    """How texts are compared; one with further losses also names them: ``others``.

    Attributes:
        name: Of the loss in the log.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    def represent(self, model: nn.ModuleDict, batch: TokenBatch) -> Tensor:
        """A row a token ``(T, ...)``, or a row a text ``(S, ...)``, float32, in the order of the batch."""
        ...

    def scores(self, states: Tensor, batch: TokenBatch, asked: np.ndarray, candidates: np.ndarray) -> Tensor:
        """``(G, C)`` float32: how well each candidate answers.

        Args:
            states: What `represent` gave.
            batch: Of which.
            asked: ``(G,)`` the places of the queries among its sequences.
            candidates: ``(C,)`` those of the candidates.
        """
        ...

    def beside(self, states: Tensor, asked: np.ndarray, candidates: np.ndarray, progress: float) -> dict[str, Tensor]:
        """Further losses by name, means over the step."""
        ...


class LearnMatches:
    """In-batch negatives for any way of comparing texts, as the loop asks for it.

    Args:
        data: N groups: a query, a text that answers it, perhaps others that do not.
        matcher: How they are compared.
    """

    def __init__(self, data: VectorData, matcher: Matcher) -> None:
        self._data, self.matcher = data, matcher

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Says which texts of a batch form which groups, however they were put in order of length."""
        order = np.argsort(batch.rows)
        starts, texts, groups = [0], [], []
        while starts[-1] < len(order):
            at = order[starts[-1]]
            texts.append(examples[at][2])
            groups.append(keys[at][1])
            starts.append(starts[-1] + len(examples[at][2]))
        return batch, {
            STARTS: np.array(starts),
            ORDER: order,
            IDS: self._data.ids[np.concatenate(texts)],
            GROUPS: np.array(groups),
            PROGRESS: np.array(progress),
        }

    def counts(self, item: Item) -> dict[str, int]:
        """G, for each loss."""
        return dict.fromkeys(self._names, len(item[1][GROUPS]))

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.matcher.name, *getattr(self.matcher, "others", ()))

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of an item's products, as `bothways.learn.utilisation` counts them."""
        return TRAINED * batch_work(model["encoder"].config, item[0].plan)  # type: ignore[arg-type]

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters; in parts where it is too large for one pass."""
        device = next(model.parameters()).device
        return backward_in_parts(item, totals, *self._halves(model, item), device)

    def absent(self, device: torch.device) -> None:
        """What is done in a step of which this process has nothing: others wait for what it has."""
        attend(device)

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        return evaluate_in_parts(item, *self._halves(model, item))

    def _halves(self, model: nn.ModuleDict, item: Item) -> tuple[Represent, LossesOf]:
        """What a step is: from texts to rows, and from rows to losses."""
        return partial(self.matcher.represent, model), partial(self._losses, item=item)

    def _losses(self, states: Tensor, item: Item) -> dict[str, Loss]:
        states, batch, starts, order, ids = _of_all(states, item)
        progress, own = float(item[1][PROGRESS]), len(item[1][GROUPS])
        first = starts[:-1]
        others = np.setdiff1d(np.arange(len(ids)), np.concatenate([first, first + 1]))
        candidates = np.concatenate([first + 1, others])  # those that belong to the queries come first
        with torch.autocast(states.device.type, enabled=False):
            scores_GC = self.matcher.scores(states, batch, order[first], order[candidates])
            left_out = never(ids[first], ids[candidates], ids[first + 1])
            np.fill_diagonal(left_out, False)
            scores_GC = scores_GC.masked_fill(torch.from_numpy(left_out).to(scores_GC.device), NEVER)
            places = torch.arange(len(first), device=scores_GC.device)
            total = functional.cross_entropy(scores_GC, places, reduction="sum")
            hits = (scores_GC.detach().argmax(1) == places).sum(dtype=torch.float32)
            found = {self.matcher.name: Loss(total, hits)}
            for name, mean in self.matcher.beside(states, order[first], order[candidates], progress).items():
                found[name] = Loss(mean * len(first), None)
        return {name: part_of(loss, own, len(first)) for name, loss in found.items()}


def _of_all(states: Tensor, item: Item) -> tuple[Tensor, TokenBatch, np.ndarray, np.ndarray, np.ndarray]:
    """What all processes have: states, their batch, where groups begin, the places of texts in the batch, their ids."""
    batch, targets = item
    told = {"lengths": batch.lengths, "tokens": batch.token_ids, "sizes": np.diff(targets[STARTS])}
    states, every = gather(states, told | {"order": targets[ORDER], "ids": targets[IDS]})
    lengths, tokens, sizes, ids = (
        np.concatenate([each[name] for each in every]) for name in ("lengths", "tokens", "sizes", "ids")
    )
    before = np.cumsum([0, *(len(each["order"]) for each in every)])
    order = np.concatenate([each["order"] + begin for each, begin in zip(every, before, strict=False)])
    nothing = np.zeros_like(tokens)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    whole = batch if here().alone else TokenBatch(tokens, nothing, nothing, starts, np.arange(len(lengths)))
    return states, whole, np.concatenate(([0], np.cumsum(sizes))), order, ids
