"""What a pre-training run notes about itself, so that its log alone can tell what is learned and what is not.

Beside steps and evaluations the log of a pre-training run has these lines (`bothways.learn.record` reads them):

    run      at its beginning: ``model``, ``parameters`` {encoder, heads}, ``steps`` to be taken, ``examples`` to learn
             from and ``held_out``
    corpus   at its beginning: `corpus_facts`
    insight  after each evaluation, as far as something guesses masked tokens:
             frequency       [{from, to, count, right, loss}], held-out masked places by how often their token stands in
                             the corpus: `from` times and more, less than `to`; `loss` is a sum
             word_length     the same by the tokens of the word that the place is in; the last has no `to`
             original        {count, right, loss}, of replaced-token detection: the tokens that stood there before,
             replaced        and those that the generator put there
             samples         [{text, masked: [{right, guesses: [[token, share]]}]}] (`Samples`)
             gradient_norms  {part: length}, of the step before the evaluation, before clipping

A line on a step has the lengths of the gradient too, as ``gradient_norm.PART``. All but the samples is read off passes
that are made anyway.

Shapes: M masked places, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.corpus_facts import corpus_facts, token_counts
from bothways.learn.objectives.protocol import Loss, Together, sums_of
from bothways.learn.objectives.units import words
from bothways.learn.parts import whole
from bothways.learn.processes import here
from bothways.learn.protocol import Item
from bothways.learn.samples import TEXTS, Samples
from bothways.learn.tally import evaluate_items
from bothways.model.parts.stack import Stack
from bothways.text.shards import Corpus

_COUNTED = 1 << 26
"""Tokens of the corpus that are counted, at most: half a second's worth."""
_FREQUENCIES = 10 ** np.arange(1, 13)
_LENGTHS = np.arange(2, 5)


class Insight:
    """Measures a model on held-out examples, and notes more than the means. An `Observer` of the loop.

    Args:
        model: The encoder under ``"encoder"``, heads under their kinds.
        together: What is learned.
        items: The held-out examples, as batches.
        corpus: The corpus.
        shown: A few of them again, whose texts are shown.
        facts: What the line on the run says besides its steps and parameters.
    """

    def __init__(
        self,
        model: nn.ModuleDict,
        together: Together,
        items: Sequence[Item],
        corpus: Corpus,
        shown: Sequence[Item],
        facts: Mapping[str, Any],
    ) -> None:
        self._model, self._together, self._items, self._corpus = model, together, items, corpus
        guesses = "accuracy.mlm" in together.measured
        self._samples = Samples(shown, corpus.tokenizer) if shown and guesses else None
        self._facts = dict(facts)
        self._classes = Classes.of(corpus)
        self._groups: dict[str, Groups] = {}
        self._gradient: tuple[int, dict[str, float]] = (-1, {})

    # -- the evaluation

    def measure(self) -> dict[str, float]:
        """The means over the held-out examples, as an `Evaluation` runs it."""
        self._groups = {}
        means = evaluate_items(self._model, self, self._items)
        self._groups = Groups.together(self._groups)
        return means

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the losses."""
        return self._together.weights

    def counts(self, item: Item) -> dict[str, int]:
        """As of what is learned."""
        return self._together.counts(item)

    def backward(self, model: Any, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """As of what is learned."""
        return self._together.backward(model, item, totals)

    def evaluate(self, model: Any, item: Item) -> dict[str, float]:
        """As of what is learned; each guess is noted on the way."""
        losses, seen = self._together.examine(model, item)
        for name, loss in losses.items():
            if loss.each is None:
                continue
            if name == "mlm":
                labels = item[1]["mlm.labels"]
                self._note("frequency", self._classes.powers(labels), loss)
                if (lengths := self._classes.word_lengths(item)) is not None:
                    self._note("word_length", lengths, loss)
            elif name == "rtd":
                self._note("replaced", torch.as_tensor(seen[1]["rtd.replaced"]).long().cpu().numpy(), loss)
        return sums_of(losses)

    def _note(self, name: str, groups: np.ndarray, loss: Loss) -> None:
        assert loss.each is not None
        self._groups.setdefault(name, Groups()).add(groups, *loss.each)

    # -- the observer

    def opening(self, steps: int) -> dict[str, dict[str, Any]]:
        """The lines with which the log begins."""
        sizes: dict[str, int] = {}
        for name, parameter in self._model.named_parameters():
            part = _part(name, self._model["encoder"].stack)  # type: ignore[arg-type]
            whole = part if part in ("heads", "generator") else "encoder"
            sizes[whole] = sizes.get(whole, 0) + parameter.numel()
        return {"run": {**self._facts, "parameters": sizes, "steps": steps}, "corpus": corpus_facts(self._corpus)}

    def gradients(self, step: int, model: nn.Module) -> dict[str, float]:
        """The length of the gradient of each part, for the line on the step."""
        norms = gradient_norms(cast(nn.ModuleDict, model))
        self._gradient = step, norms
        return {f"gradient_norm.{part}": norm for part, norm in norms.items()}

    def evaluated(self, step: int) -> dict[str, dict[str, Any]]:
        """The line that follows an evaluation."""
        line: dict[str, Any] = {}
        if found := self._groups.get("frequency"):
            line["frequency"] = found.table(_FREQUENCIES, first=0)
        if found := self._groups.get("word_length"):
            line["word_length"] = found.table(_LENGTHS, first=1)
        if found := self._groups.get("replaced"):
            line |= dict(zip(("original", "replaced"), found.rows(2), strict=True))
        if self._samples is not None:
            line["samples"] = self._samples.guess(self._model, self._together)
        if self._gradient[0] == step:
            line["gradient_norms"] = self._gradient[1]
        return {"insight": line}


def few(numbers: np.ndarray) -> np.ndarray:
    """Some of the held-out examples, spread evenly, to be shown: at most one in sixteen, but one."""
    count = min(TEXTS, len(numbers), max(1, len(numbers) // 16))
    return numbers[np.linspace(0, len(numbers) - 1, count).astype(np.int64)]


class Classes(NamedTuple):
    """How tokens are told apart.

    Attributes:
        frequencies: ``(V,)`` how often each stands in the corpus.
        ordinary: ``(V,)`` whether it is no special token.
        edges: Which tokens begin and end words; None where tokens do not say.
    """

    frequencies: np.ndarray
    ordinary: np.ndarray
    edges: Any

    @classmethod
    def of(cls, corpus: Corpus) -> Classes:
        """Those of a corpus. Of a very large one a part is counted, and the counts are those that it comes to."""
        tokenizer = corpus.tokenizer
        counts_V = token_counts(corpus, tokenizer.size, _COUNTED)
        ordinary_V = np.ones(tokenizer.size, dtype=bool)
        ordinary_V[list(tokenizer.special_ids)] = False
        try:
            edges = tokenizer.word_edges
        except BothwaysError:
            edges = None
        return cls(counts_V * (corpus.tokens / max(1, int(counts_V.sum()))), ordinary_V, edges)

    def powers(self, labels_M: np.ndarray) -> np.ndarray:
        """``(M,)`` how many powers of ten, from 10 on, each token reaches."""
        return np.digitize(self.frequencies[labels_M], _FREQUENCIES)

    def word_lengths(self, item: Item) -> np.ndarray | None:
        """``(M,)`` the tokens, less one, of the word that each masked place is in: at most 3."""
        if self.edges is None:
            return None
        batch, targets = item
        places_M = targets["mlm.places"]
        token_ids = np.asarray(batch.token_ids).copy()
        token_ids[places_M] = targets["mlm.labels"]
        found = words(batch.with_tokens(token_ids), self.ordinary[token_ids], self.edges)
        return np.digitize(found.lengths[np.searchsorted(found.starts, places_M, side="right") - 1], _LENGTHS)


class Groups:
    """Counts, right guesses and losses by group, added up."""

    def __init__(self) -> None:
        self._sums = np.zeros((3, 0))

    def add(self, groups: np.ndarray, losses: Tensor, right: Tensor) -> None:
        """Adds guesses.

        Args:
            groups: ``(M,)`` the group of each.
            losses: ``(M,)``.
            right: ``(M,)`` whether it is right.
        """
        size = int(groups.max(initial=-1)) + 1
        weights = (None, right.cpu().numpy(), losses.cpu().numpy())
        self._add(np.stack([np.bincount(groups, each, size) for each in weights]).astype(np.float64))

    @classmethod
    def together(cls, groups: Mapping[str, Groups]) -> dict[str, Groups]:
        """Groups by name, added up over all processes."""
        total: dict[str, Groups] = {}
        for part in here().gathered({name: own._sums.tolist() for name, own in groups.items()}):
            for name, sums in part.items():
                total.setdefault(name, cls())._add(np.asarray(sums))
        return total

    def _add(self, sums: np.ndarray) -> None:
        size = max(self._sums.shape[1], sums.shape[1])
        self._sums, before = np.zeros((3, size)), self._sums
        for each in (before, sums):
            self._sums[:, : each.shape[1]] += each

    def rows(self, size: int) -> list[dict[str, Any]]:
        """``count``, ``right`` and ``loss`` of the first groups."""
        sums = np.zeros((3, size))
        sums[:, : self._sums.shape[1]] = self._sums
        return [{"count": int(count), "right": int(right), "loss": float(loss)} for count, right, loss in sums.T]

    def table(self, edges: np.ndarray, *, first: int) -> list[dict[str, Any]]:
        """The rows of groups that hold anything, with what lies between the edges ``from`` and ``to``."""
        starts, ends = [first, *edges.tolist()], [*edges.tolist(), None]
        rows = [
            {"from": start, "to": end, **row}
            for start, end, row in zip(starts, ends, self.rows(len(starts)), strict=True)
        ]
        return [row for row in rows if row["count"]]


def gradient_norms(model: nn.ModuleDict) -> dict[str, float]:
    """The length of the gradient of each part: ``embeddings``, ``layer 1``, ..., ``heads``, and a ``generator``.

    Their squares add up to the square of the whole gradient's length.
    """
    stack: Stack = model["encoder"].stack  # type: ignore[assignment]
    parts: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            parts.setdefault(_part(name, stack), []).append(parameter.grad)
    if not parts:
        return {}
    norms = torch.stack([whole(nn.utils.get_total_norm(gradients)) for gradients in parts.values()])
    return dict(zip(parts, norms.tolist(), strict=True))


def _part(name: str, stack: Stack) -> str:
    """Where a parameter belongs; layers that share a block are one part."""
    module, _, inner = name.partition(".")
    if module != "encoder":
        return "generator" if module.startswith("generator") else "heads"
    if inner.startswith("pooler"):
        return "heads"
    if not inner.startswith("stack."):
        return "embeddings"
    _, kind, number, *_ = inner.split(".")
    last = len(stack.schedule) - 1
    block = int(number) if kind == "blocks" else stack.schedule[0 if kind == "convolution" else last]
    layers = [layer for layer, own in enumerate(stack.schedule, start=1) if own == block]
    return f"layer {layers[0]}" if len(layers) == 1 else f"layers {layers[0]} to {layers[-1]}"
