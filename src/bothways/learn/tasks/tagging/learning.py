"""The training side of tagging: windows as examples, and the loss over the words that each window decides.

Shapes: T tokens, S windows, N words that they decide, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        windows: Over all texts.
        tags_W: ``(W,)`` the tag of each word.
    """

    def __init__(self, windows: WordWindows, tags_W: np.ndarray) -> None:
        self.windows, self.tags = windows, tags_W

    def __len__(self) -> int:
        return len(self.windows.encoded)

    def sequence(self, epoch: int, number: int) -> TaggedWindow:
        """One window; the same in every epoch."""
        windows, encoded = self.windows, self.windows.encoded
        first, last = windows.starts[number], windows.starts[number + 1]
        text = encoded.texts[number]
        start, end = encoded.starts[number], encoded.starts[number + 1]
        return TaggedWindow(
            encoded.token_ids[start:end],
            encoded.segment_ids[start:end],
            windows.places[first:last] - start,
            self.tags[first:last],
            bool(first == windows.edges[text]),
            bool(last == windows.edges[text + 1]),
        )


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
