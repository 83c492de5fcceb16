"""Classification of texts and pairs of texts (Devlin et al. 2018, section 4.1).

Shapes: T tokens, S sequences, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.errors import BothwaysError, closest
from bothways.learn.baselines import majority, tfidf_logistic
from bothways.learn.metrics import classification_scores, confusion_counts, confusion_metrics
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets, class_loss
from bothways.learn.tasks.distances import symmetric_divergence
from bothways.learn.tasks.labelled import LabelledTexts, read_labelled
from bothways.learn.tasks.protocol import Examined, Judged
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.model import Model
from bothways.text.encoded import Encoded


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


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Texts, or pairs of texts, into classes.

    Attributes:
        text: The column of the text; None infers it.
        text_pair: The column of the second text, for pairs.
        label: The column of the class; None infers it.
        reads: What the classifier reads: the ``"pooled"`` output, the ``"first"`` token or the ``"mean"`` of all, which
            suits encoders that were pre-trained briefly; None: as the family has it.
        hidden: ``"none"`` for one linear layer, ``"gelu"`` for two with GELU and dropout; None: as the family has it.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    reads: str | None = None
    hidden: str | None = None
    name = "classify"
    metrics = ("macro_f1", "accuracy", "mcc")

    def __post_init__(self) -> None:
        if self.hidden not in (None, "none", "gelu"):
            raise BothwaysError(f"the classifier's hidden layer must be 'none' or 'gelu', not {self.hidden!r}")

    def read(self, source: Any) -> LabelledTexts:
        """Rows of a text, perhaps a second text, and a label."""
        return read_labelled(source, self.text, self.text_pair, self.label)

    def split(self, data: LabelledTexts, share: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
        """Every class keeps its share on both sides."""
        return stratified_split(data, share, seed)

    def heads(self, start: Model, train: LabelledTexts) -> list[HeadConfig]:
        """A classifier of the classes that occur."""
        head = family(start.config.family).head("classify", labels=class_names(train))
        shape = {"reads": self.reads, "hidden": self.hidden}
        return [head.derive(**{name: value for name, value in shape.items() if value is not None})]

    def begin(self, model: Model, train: LabelledTexts) -> str:
        """Says how many classes there are."""
        names = model.labels
        return f"{len(names)} classes: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"

    def examples(self, model: Model, data: LabelledTexts) -> ClassExamples:
        """One a text, or several where long ones are read in windows."""
        classes = class_numbers(data, model.labels)
        encoded = model.tokenizer.encode(
            data.texts, data.pairs, max_length=model.max_length, truncation=model.truncation
        )
        return ClassExamples(encoded, classes)

    def numbers(self, examples: ClassExamples, seed: int) -> None:
        """Each once."""

    def objective(self, model: Model, train: LabelledTexts) -> LearnClasses:
        """Cross-entropy."""
        return LearnClasses(model.mark)

    def finish(self, model: Model, dev: LabelledTexts) -> str:
        """Nothing."""
        return ""

    def examine(self, model: Model, data: LabelledTexts) -> Examined:
        """Accuracy, macro-F1, MCC, each class, confusion."""
        truth = class_numbers(data, model.labels)
        return judge_classes(data, truth, model.class_probabilities(data.texts, data.pairs), model.labels)

    def baselines(self, train: LabelledTexts, test: LabelledTexts) -> dict[str, Examined]:
        """The most frequent class, and TF-IDF with logistic regression."""
        names = class_names(train)
        learned, right = class_numbers(train, names), class_numbers(test, names)
        guesses = {
            "majority": majority(learned, len(test)),
            "TF-IDF + logistic regression": tfidf_logistic(train.inputs(), learned, test.inputs()),
        }
        every = np.eye(len(names), dtype=np.float32)
        return {name: judge_classes(test, right, every[guess], names) for name, guess in guesses.items()}


def judge_classes(
    data: LabelledTexts, truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]
) -> Examined:
    """Guesses of classes beside what is right.

    Args:
        data: N texts.
        truth: ``(N,)`` the number of the right class.
        probabilities: ``(N, C)``.
        labels: The names of the C classes.
    """
    guessed = probabilities.argmax(1)
    rows = [
        Judged(text, labels[right], labels[guess], float(right == guess), float(shares[guess]), float(shares[right]))
        for text, right, guess, shares in zip(data.inputs(), truth, guessed, probabilities, strict=True)
    ]

    def resampled(places: np.ndarray) -> dict[str, float]:
        return confusion_metrics(confusion_counts(truth[places], guessed[places], len(labels)))

    return Examined(classification_scores(truth, guessed, labels), rows, resampled, labels, truth, probabilities)


@dataclass(frozen=True)
class LearnClasses:
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

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(S, C)``."""
        scores: Tensor = model["classify"](forward.output)
        return scores

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """The symmetric divergence."""
        return symmetric_divergence(one, other)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies, float32; ``hits`` counts right guesses."""
        return class_loss(self.logits(model, forward, targets), targets["classify.labels"])
