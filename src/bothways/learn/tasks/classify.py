"""Classification of texts and pairs of texts (Devlin et al. 2018, section 4.1).

Shapes: T tokens, S sequences, C classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.errors import BothwaysError, closest
from bothways.learn.metrics import classification_scores
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets, class_loss
from bothways.run.model import Model
from bothways.text.encoded import Encoded
from bothways.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelledTexts:
    """Texts or pairs of texts with the names of their classes.

    Attributes:
        texts: The texts.
        pairs: The second texts, or None.
        labels: The name of each text's class.
        name: Where they came from, for messages.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[str]
    name: str

    def __len__(self) -> int:
        return len(self.texts)

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of texts and labels, for the record of a run."""
        digest = hashlib.sha256()
        for text, pair, label in zip(self.texts, self.pairs or self.texts, self.labels, strict=True):
            digest.update("\0".join((text, pair, label, "")).encode("utf-8", "surrogatepass"))
        return {"name": self.name, "examples": len(self), "sha256": digest.hexdigest()}

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> LabelledTexts:
        """Some of them, in the order given."""
        return LabelledTexts(
            [self.texts[place] for place in places],
            None if self.pairs is None else [self.pairs[place] for place in places],
            [self.labels[place] for place in places],
            name,
        )


def class_names(data: LabelledTexts) -> tuple[str, ...]:
    """The classes of some texts, numbers in their order, then names in theirs.

    Raises:
        BothwaysError: There is only one class.
    """
    names = sorted(
        set(data.labels), key=lambda name: (not _is_number(name), float(name) if _is_number(name) else 0, name)
    )
    if len(names) < 2:
        raise BothwaysError(
            f"{data.name} has the single class {names[0]!r}; a classifier needs at least two (is the right column "
            "taken as label?)"
            if names
            else f"{data.name} holds no examples"
        )
    return tuple(names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def class_numbers(data: LabelledTexts, classes: Sequence[str]) -> np.ndarray:
    """``(N,)`` the number of each text's class.

    Raises:
        BothwaysError: A class is not among those the model knows.
    """
    number = {name: place for place, name in enumerate(classes)}
    for place, label in enumerate(data.labels):
        if label not in number:
            known = ", ".join(classes[:12])
            raise BothwaysError(
                f"{data.name}, example {place + 1}, has the label {label!r}, which was not seen in training"
                f"{closest(label, classes)}; known are {known}"
            )
    return np.fromiter((number[label] for label in data.labels), dtype=np.int64, count=len(data))


def stratified_split(data: LabelledTexts, share: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """Splits texts so that every class keeps its share on both sides; the same split for the same seed.

    Args:
        data: At least two texts.
        share: Of the second part.
        seed: Of the choice.
    """
    held: list[int] = []
    draw = generator("split", seed)
    for label in sorted(Counter(data.labels)):
        places = np.flatnonzero([own == label for own in data.labels])
        held += draw.permutation(places)[: round(share * len(places))].tolist()
    held = sorted(held) or [0]
    kept = np.setdiff1d(np.arange(len(data)), held)
    return data.take(kept, data.name), data.take(held, f"the part of {data.name} held out")


class ClassExamples:
    """Encoded texts with the numbers of their classes: what a `Stream` reads.

    Args:
        encoded: S sequences; the windows of one text share its class.
        classes: ``(texts,)`` the number of each text's class.
    """

    def __init__(self, encoded: Encoded, classes: np.ndarray) -> None:
        self.encoded = encoded
        self.classes = classes[encoded.texts]

    def __len__(self) -> int:
        return len(self.encoded)

    def sequence(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Token ids, segment ids and class of one sequence; the same in every epoch."""
        place = slice(self.encoded.starts[number], self.encoded.starts[number + 1])
        return self.encoded.token_ids[place], self.encoded.segment_ids[place], int(self.classes[number])


def encode(
    data: LabelledTexts, classes: Sequence[str], tokenizer: Tokenizer, max_length: int | None, truncation: str
) -> ClassExamples:
    """Turns labelled texts into examples.

    Raises:
        BothwaysError: A label is not known, or a text too long under the policy ``error``.
    """
    encoded = tokenizer.encode(data.texts, data.pairs, max_length=max_length, truncation=truncation)
    return ClassExamples(encoded, class_numbers(data, classes))


@dataclass(frozen=True)
class Classify:
    """The training side: cross-entropy over the classes; target ``classify.labels`` ``(S,)``.

    Attributes:
        mark: Marks the tokens of a batch that are global while a head is at work, as `Model.mark` does.
    """

    mark: Callable[[TokenBatch, str], TokenBatch]
    name = "classify"
    heads = ("classify",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Puts the classes of a batch's sequences beside it."""
        classes = np.array([example[2] for example in examples], dtype=np.int64)
        return self.mark(batch, self.name), {"classify.labels": classes}

    def count(self, targets: Targets) -> int:
        """S, the number of sequences."""
        return len(targets["classify.labels"])

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies, float32; ``hits`` counts right guesses."""
        return class_loss(model["classify"](forward.output), targets["classify.labels"])


def score(model: Model, data: LabelledTexts) -> dict[str, object]:
    """Accuracy, macro-F1, MCC, per-class scores and the confusion matrix of a model on labelled texts.

    Raises:
        BothwaysError: A label is not known to the model.
    """
    truth = class_numbers(data, model.labels)
    guessed = model.class_probabilities(data.texts, data.pairs).argmax(1)
    return classification_scores(truth, guessed, model.labels)
