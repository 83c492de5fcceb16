"""The training side of tasks over whole texts: encoded examples, and what a classifying head learns of them.

Shapes: S sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets
from bothways.learn.tasks.class_losses import loss_of_one, loss_of_several
from bothways.learn.tasks.distances import squared_distance, symmetric_bernoulli, symmetric_divergence
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.learn.tasks.taught import Taught
from bothways.run.model import Model
from bothways.text.kept import Sequences
from bothways.text.tokenizer import warn_of_cut
from bothways.text.truncation import TooLongError, Truncation


class ClassExamples:
    """Encoded texts with what is right for them: what a `Stream` reads.

    Args:
        encoded: S sequences; the windows of one text share what is right.
        classes: What is right for each text: ``(texts,)`` the number of its class, ``(texts, C)`` flags of labels, or
            ``(texts,)`` scores.
    """

    def __init__(self, encoded: Sequences, classes: np.ndarray) -> None:
        self.encoded, self.texts = encoded, np.array(encoded.texts, dtype=np.int64)
        self.classes = classes[self.texts]

    def __len__(self) -> int:
        return len(self.encoded)

    def sequence(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray, Any, int]:
        """Token ids, segment ids and class of one sequence, and the number of its text; the same in every epoch."""
        return *self.encoded[number], self.classes[number], int(self.texts[number])


def encoded_examples(model: Model, data: LabelledTexts, right: np.ndarray, symmetric: bool) -> ClassExamples:
    """Texts as a model reads them: one sequence each, or several where long ones are read in windows.

    Args:
        model: It says how long a sequence may be.
        data: N texts.
        right: ``(N, ...)`` what is right for each.
        symmetric: Whether pairs are also read in the other order.
    """
    kept, cut = Sequences(), Truncation()

    def encode(texts: Sequence[str], pairs: Sequence[str] | None) -> None:
        nonlocal cut
        parts = model.tokenizer.encode_slices(texts, pairs, max_length=model.max_length, truncation=model.truncation)
        try:
            for part in parts:
                kept.append(part.token_ids, part.segment_ids, part.starts, part.texts + cut.all_texts)
                cut += part.truncation
        except TooLongError as error:
            raise BothwaysError(error.told(data.place(error.place))) from None

    encode(data.texts, data.pairs)
    if symmetric and data.pairs is not None:
        encode(data.pairs, data.texts)
        right = np.concatenate([right, right])
    warn_of_cut(cut, model.truncation, model.max_length)
    return ClassExamples(kept, right)


@dataclass(frozen=True)
class LearnClasses:
    """What is learned by a head for whole sequences.

    Its targets are ``classify.labels``, ``(S,)`` or ``(S, C)``, and with a teacher ``classify.taught``, ``(S, C)``.

    Attributes:
        mark: Marks the tokens of a batch that are global while a head is at work, as `Model.mark` does.
        problem: As `HeadConfig` says it: cross-entropy, binary cross-entropy, or the squared difference.
        weights: ``(C,)`` what classes count; None: all alike.
        focal: Gamma of the focal loss.
        smoothing: Share of the target that is spread over all classes.
        taught: What a teacher says of the texts; None: there is none.
    """

    mark: Callable[[TokenBatch, str], TokenBatch]
    problem: Literal["one", "several", "scores"] = "one"
    weights: Tensor | None = None
    focal: float = 0.0
    smoothing: float = 0.0
    taught: Taught | None = None
    heads = ("classify",)
    hidden = False

    @property
    def name(self) -> str:
        """What its loss is called in the log."""
        return "regress" if self.problem == "scores" else "classify"

    @property
    def guesses(self) -> bool:
        """Whether there is a right and a wrong."""
        return self.problem != "scores"

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Puts what is right for a batch's sequences beside it."""
        kind = np.int64 if self.problem == "one" else np.float32
        targets: Targets = {"classify.labels": np.array([one[2] for one in examples], dtype=kind)}
        if self.taught is not None:
            targets["classify.taught"] = self.taught.of(np.array([one[3] for one in examples], dtype=np.int64))
        return self.mark(batch, "classify"), targets

    def count(self, targets: Targets) -> int:
        """S, the number of sequences."""
        return len(targets["classify.labels"])

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """Those that its head looks at."""
        return model["classify"].places(batch.starts)  # type: ignore[operator]

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(S, C)``."""
        scores: Tensor = model["classify"](forward.output)
        return scores

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """The symmetric divergence, or the squared difference of scores."""
        apart = {"one": symmetric_divergence, "several": symmetric_bernoulli, "scores": squared_distance}
        return apart[self.problem](one, other)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum over the sequences, float32; ``hits`` counts right guesses."""
        logits, right = self.logits(model, forward, targets), targets["classify.labels"]
        if self.problem == "scores":
            return Loss(squared_distance(logits[:, 0], torch.as_tensor(right, device=logits.device)), None)
        learn = loss_of_one if self.problem == "one" else loss_of_several
        found = learn(logits, right, weights_C=self.weights, focal=self.focal, smoothing=self.smoothing)
        return found if self.taught is None else self.taught.with_labels(found, logits, targets["classify.taught"])
