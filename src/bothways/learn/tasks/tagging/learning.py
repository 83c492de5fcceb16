"""The training side of tagging: windows as examples, and the loss over the words that each window decides.

Shapes: T tokens, S windows, N words that they decide, C tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Forward, Loss, Targets, class_loss
from bothways.learn.tasks.guessing import Guessing
from bothways.model.heads.classify import TagHead
from bothways.model.heads.crf import Chains
from bothways.text.kept import Sequences
from bothways.text.word_windows import WordWindows


class TaggedWindow(NamedTuple):
    """One window of a text.

    Attributes:
        token_ids: ``(L,)``.
        segment_ids: ``(L,)``.
        places: ``(N,)`` the first token of each word that it decides.
        tags: ``(N,)`` their tags.
        begins: Whether the first of them is the text's first word.
        ends: Whether the last of them is the text's last word.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    places: np.ndarray
    tags: np.ndarray
    begins: bool
    ends: bool


class TagExamples:
    """Windows with the tags of the words that they decide, so that no word counts twice: what a `Stream` reads.

    Args:
        parts: Windows over some texts, then over the next ones, to the last.
        tags_W: ``(W,)`` the tag of each word.
        edges: ``(N + 1,)`` where each text's words begin; the last entry is W.
    """

    def __init__(self, parts: Iterable[WordWindows], tags_W: np.ndarray, edges: np.ndarray) -> None:
        self.tags, self.edges = tags_W, edges
        self._sequences = Sequences()
        texts = words = 0
        places, starts = [], []
        for part in parts:
            own = part.encoded
            self._sequences.append(own.token_ids, own.segment_ids, own.starts, own.texts + texts)
            places.append((part.places - own.starts[part.windows]).astype(np.int32))
            starts.append(part.starts[:-1] + words)
            texts, words = texts + len(part.edges) - 1, words + len(part.places)
        self._places, self._starts = np.concatenate(places), np.concatenate([*starts, [words]])

    def __len__(self) -> int:
        return len(self._sequences)

    def sequence(self, epoch: int, number: int) -> TaggedWindow:
        """One window; the same in every epoch."""
        first, last = self._starts[number], self._starts[number + 1]
        text = self._sequences.texts[number]
        ends = bool(first == self.edges[text]), bool(last == self.edges[text + 1])
        return TaggedWindow(*self._sequences[number], self._places[first:last], self.tags[first:last], *ends)


@dataclass(frozen=True)
class LearnTags(Guessing):
    """Cross-entropy of each word's tag at its first token, or with a CRF of each window's whole sequence of tags.

    Targets: ``tag.places`` ``(N,)`` in the batch, ``tag.labels`` ``(N,)``, ``tag.chains``.

    Attributes:
        crf: Whether there is one.
    """

    crf: bool
    name = "tag"

    @property
    def heads(self) -> tuple[str, ...]:
        """The tagger, and the CRF where there is one."""
        return ("tag", "crf") if self.crf else ("tag",)

    def targets(self, batch: TokenBatch, examples: list[Sequence[Any]]) -> Targets:
        """The words of a batch's windows, and their tags."""
        found = [TaggedWindow(*example) for example in examples]
        lengths = np.array([len(window.places) for window in found])
        places = np.concatenate([window.places for window in found]) + np.repeat(batch.starts[:-1], lengths)
        labels = np.concatenate([window.tags for window in found]).astype(np.int64)
        open_ends = (np.array([window.begins for window in found]), np.array([window.ends for window in found]))
        return {"tag.places": places, "tag.labels": labels, "tag.chains": Chains(lengths, *open_ends)}

    def count(self, targets: Targets) -> int:
        """N, the number of words."""
        return len(targets["tag.labels"])

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(N, C)``; with a CRF what it is given of each word."""
        states_TD = forward.output.sequence
        places = torch.from_numpy(targets["tag.places"]).to(states_TD.device)
        scores: Tensor = cast(TagHead, model["tag"]).scores(states_TD[places])
        return scores

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies, float32; ``hits`` counts words whose highest logit is the right tag's."""
        logits_NC = self.logits(model, forward, targets)
        alone = class_loss(logits_NC if not self.crf else logits_NC.detach(), targets["tag.labels"])
        if not self.crf:
            return alone
        labels_N = torch.from_numpy(targets["tag.labels"]).to(logits_NC.device)
        losses_S: Tensor = model["crf"](logits_NC, labels_N, targets["tag.chains"])
        return Loss(losses_S.sum(), alone.hits)
