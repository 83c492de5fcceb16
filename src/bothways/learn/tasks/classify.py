"""Classification of texts and pairs of texts (Devlin et al. 2018, section 4.1): one class each, or several labels.

Shapes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bothways.errors import BothwaysError, closest
from bothways.learn.baselines import majority, tfidf_labels, tfidf_logistic
from bothways.learn.tasks.class_losses import check_smoothing, inverse_frequency
from bothways.learn.tasks.fitting import fit_temperature, fit_thresholds
from bothways.learn.tasks.judge import in_order, judge_classes, judge_several
from bothways.learn.tasks.labelled import LabelledTexts, Reading, read_labelled
from bothways.learn.tasks.labels import (
    balanced_numbers,
    class_flags,
    class_names,
    class_numbers,
    rarest,
    stratified_split,
)
from bothways.learn.tasks.learning import ClassExamples, LearnClasses, encoded_examples
from bothways.learn.tasks.protocol import Examined
from bothways.learn.tasks.taught import Taught, ask, check_taught
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.answering.classify import class_logits, tempered, thresholds
from bothways.run.model import Model
from bothways.run.opening import load
from bothways.text.markers import check_markers

TFIDF = "TF-IDF + logistic regression"


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Texts, or pairs of texts, into classes.

    Attributes:
        text: The column of the text; None infers it.
        text_pair: The column of the second text, for pairs.
        label: The column of the class; None infers it. Cells that hold lists say that a text may have several labels.
        label_separator: What stands between several labels in one cell, such as ``";"``.
        label_columns: Columns that say 0 or 1, a label each, instead of `label`.
        problem: ``"one"`` class for each text or ``"several"`` labels; None infers it from the cells.
        markers: What is put around entities, ``"<< >> [[ ]]"``, for relations between them: rows say in
            ``head_start``, ``head_end``, ``tail_start`` and ``tail_end`` where they are (`bothways.text.markers`).
        reads: What the classifier reads: the ``"pooled"`` output, the ``"first"`` token or the ``"mean"`` of all, which
            suits encoders that were pre-trained briefly; None: as the family has it.
        hidden: ``"none"`` for one linear layer, ``"gelu"`` for two with GELU and dropout; None: as the family has it.
        class_weights: What classes count in the loss: ``"auto"`` inversely to their frequency, or a weight by name; the
            weights are scaled to be 1 on average over the examples. Where several labels may hold, what a label that
            holds counts beside one that does not. None: all alike.
        focal: Gamma of the focal loss (Lin et al. 2017); 0: cross-entropy.
        sampler: ``"balanced"``: an epoch holds every class as often as the largest.
        label_smoothing: Share of the target that is spread over all classes.
        teacher: A classifier of the same classes, whose probabilities are learned beside the labels: a larger model.
        teacher_share: Of the loss that is the teacher's.
        temperature: By which the logits of both are divided before they are compared.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    label_separator: str | None = None
    label_columns: tuple[str, ...] | None = None
    problem: Literal["one", "several"] | None = None
    markers: tuple[str, ...] | None = None
    reads: str | None = None
    hidden: str | None = None
    class_weights: str | Mapping[str, float] | None = None
    focal: float = 0.0
    sampler: str | None = None
    label_smoothing: float = 0.0
    teacher: str | None = None
    teacher_share: float = 0.5
    temperature: float = 2.0
    symmetric = False
    name = "classify"
    metrics = ("macro_f1", "accuracy", "mcc")

    def __post_init__(self) -> None:
        check_head(self.reads, self.hidden)
        check_smoothing(self.label_smoothing)
        check_taught(self.teacher_share, self.temperature)
        _among("problem", self.problem, ("one", "several"))
        _among("sampler", self.sampler, ("balanced",))
        object.__setattr__(self, "markers", check_markers(self.markers))
        if self.label_columns is not None:
            object.__setattr__(self, "label_columns", tuple(self.label_columns))
        if not self.focal >= 0:
            raise BothwaysError(f"focal must be 0 or more, not {self.focal!r}")
        if isinstance(self.class_weights, str):
            _among("class_weights", self.class_weights, ("auto",))
        if self.class_weights is not None and self.sampler is not None:
            raise BothwaysError("class_weights and sampler both make rare classes count more: give one of them")
        chosen = [name for name in ("label", "label_columns") if getattr(self, name)]
        if len(chosen) > 1 or (self.label_columns and self.label_separator):
            raise BothwaysError("label_columns holds a label a column: give it without label and label_separator")

    def read(self, source: Any) -> LabelledTexts:
        """Rows of a text, perhaps a second text, and labels."""
        return read_labelled(source, self.reading())

    def reading(self) -> Reading:
        """Its settings that say how rows are read."""
        return Reading(**{name: getattr(self, name) for name in Reading.__dataclass_fields__})

    def split(self, data: LabelledTexts, share: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
        """Every class keeps its share on both sides."""
        return stratified_split(data, share, seed)

    def heads(self, start: Model, train: LabelledTexts) -> list[HeadConfig]:
        """A classifier of the classes that occur."""
        problem = "several" if train.several else "one"
        return [shaped_head(start, self.reads, self.hidden, labels=class_names(train), problem=problem)]

    def begin(self, model: Model, train: LabelledTexts) -> str:
        """Notes how rows are to be read again, and says what the labels are."""
        reading = {name: getattr(self, name) for name in ("label_separator", "label_columns", "problem", "markers")}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in reading.items()}
        noted = {name: value for name, value in plain.items() if value is not None}
        known: dict[str, Any] = {"inputs": train.kind, "reading": noted}
        if self.symmetric:
            known["symmetric"] = True
        names = model.labels
        listed = f"{', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        if not train.several:
            model.decoding["classify"] = known
            kind = "binary" if len(names) == 2 else f"one of {len(names)} classes"
            return f"{kind}: {listed}"
        model.decoding["classify"] = known | {"thresholds": None}  # none yet: those that suit the data are taken
        mean = np.mean([len(label) for label in train.labels if isinstance(label, tuple)])
        return f"several of {len(names)} labels may hold ({mean:.2g} a text): {listed}"

    def check(self, model: Model, dev: LabelledTexts) -> None:
        """Makes sure that the model knows all labels of the dev set, before it is trained."""
        _right(model, dev)

    def examples(self, model: Model, data: LabelledTexts, seed: int = 0) -> ClassExamples:
        """One a text, or several where long ones are read in windows."""
        return encoded_examples(model, data, _right(model, data), self.symmetric)

    def numbers(self, examples: ClassExamples, seed: int) -> np.ndarray | None:
        """Each once, or rare classes more often."""
        return None if self.sampler is None else balanced_numbers(rarest(examples.classes), seed)

    def objective(self, model: Model, train: LabelledTexts, seed: int = 0) -> LearnClasses:
        """Cross-entropy with its weights, and with what the teacher says."""
        problem, taught = model.head_configs["classify"].problem, None
        if self.teacher is not None:
            logits = ask(load(self.teacher, precision="auto"), train, model.labels)
            taught = Taught(logits, self.teacher_share, self.temperature, problem)
        return LearnClasses(model.mark, problem, self._weights(model, train), self.focal, self.label_smoothing, taught)

    def _weights(self, model: Model, train: LabelledTexts) -> Tensor | None:
        if self.class_weights is None:
            return None
        right, names = _right(model, train), model.labels
        counts = right.sum(0) if right.ndim == 2 else np.bincount(right, minlength=len(names))
        if isinstance(self.class_weights, str):
            if right.ndim == 2:  # as much weight on the texts with a label as on those without
                return torch.from_numpy((len(right) - counts) / np.maximum(counts, 1)).float().clamp_min(1e-3)
            return torch.from_numpy(inverse_frequency(counts))
        for name in self.class_weights:
            if name not in names:
                raise BothwaysError(f"class_weights names {name!r}, which is no class{closest(name, names)}")
        weights = np.array([self.class_weights.get(name, 1.0) for name in names], dtype=np.float64)
        if not (weights > 0).all():
            raise BothwaysError("class_weights must be above 0")
        scale = 1.0 if right.ndim == 2 else (weights * counts).sum() / counts.sum()
        return torch.from_numpy(weights / scale).float()

    def finish(self, model: Model, dev: LabelledTexts) -> str:
        """Fits the temperature and, where several labels may hold, their thresholds."""
        known = model.decoding["classify"]
        right, problem = _right(model, dev), model.head_configs["classify"].problem
        logits = class_logits(model, dev.texts, dev.pairs)
        known["temperature"] = fit_temperature(logits, right)
        said = f"temperature {known['temperature']:.2f} fitted on {dev.name}"
        if problem == "one":
            return said
        found = fit_thresholds(tempered(logits, problem, known["temperature"]), right)
        known["thresholds"] = dict(zip(model.labels, found.tolist(), strict=True))
        return f"{said}, and thresholds of labels from {found.min():.2f} to {found.max():.2f}"

    def examine(self, model: Model, data: LabelledTexts) -> Examined:
        """Macro-F1, accuracy, MCC, each class; confusion where one class holds.

        While thresholds are not fitted yet, in training, those that suit the data best are taken: so the best weights
        are not chosen by where one half happens to lie.
        """
        right, labels = _right(model, data), model.labels
        shares = model.class_probabilities(data.texts, data.pairs)
        if right.ndim == 1:
            return judge_classes(data, right, shares, labels)
        unfitted = model.decoding.get("classify", {}).get("thresholds", ...) is None
        chosen = fit_thresholds(shares, right).astype(np.float32) if unfitted else thresholds(model)
        return judge_several(data, right, shares, shares >= chosen, labels)

    def pooled(self, data: LabelledTexts, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        shares = [np.asarray(part.probabilities) for part in parts]
        if not data.several:
            labels = parts[0].labels
            return judge_classes(data, class_numbers(data, labels), in_order(shares, places), labels)
        names = class_names(data)
        held = [part[:, 1].reshape(-1, len(names)) for part in shares]
        given = in_order([np.asarray(part.guesses) for part in parts], places)
        return judge_several(data, class_flags(data, names), in_order(held, places), given, names)

    def baselines(self, train: LabelledTexts, test: LabelledTexts) -> dict[str, Examined]:
        """The most frequent class, or labels; and TF-IDF with logistic regression, a label at a time where several."""
        names = class_names(train)
        if train.several:
            learned, right = class_flags(train, names), class_flags(test, names)
            always = np.tile((learned.mean(0) >= 0.5).astype(np.float32), (len(test), 1))
            found = {"majority": always, TFIDF: tfidf_labels(train.inputs(), learned, test.inputs())}
            return {name: judge_several(test, right, shares, shares >= 0.5, names) for name, shares in found.items()}
        learned, right = class_numbers(train, names), class_numbers(test, names)
        guesses = {
            "majority": majority(learned, len(test)),
            TFIDF: tfidf_logistic(train.inputs(), learned, test.inputs()),
        }
        every = np.eye(len(names), dtype=np.float32)
        return {name: judge_classes(test, right, every[guess], names) for name, guess in guesses.items()}


def shaped_head(start: Model, reads: str | None, hidden: str | None, **settings: Any) -> HeadConfig:
    """A family's classifying head, with what it reads and its hidden layer where they are given."""
    head = family(start.config.family).head("classify", **settings)
    shape = {"reads": reads, "hidden": hidden}
    return head.derive(**{name: value for name, value in shape.items() if value is not None})


def check_head(reads: str | None, hidden: str | None) -> None:
    """Raises a BothwaysError where a classifying head cannot be so."""
    if hidden not in (None, "none", "gelu"):
        raise BothwaysError(f"the classifier's hidden layer must be 'none' or 'gelu', not {hidden!r}")
    _among("reads", reads, ("pooled", "first", "mean"))


def _among(name: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise BothwaysError(
            f"{name} must be {' or '.join(map(repr, known))}, not {value!r}{closest(str(value), known)}"
        )


def _right(model: Model, data: LabelledTexts) -> np.ndarray:
    """What is right, as the model's head has it: ``(N,)`` numbers of classes, or ``(N, C)`` flags of labels."""
    several = model.head_configs["classify"].problem == "several"
    return class_flags(data, model.labels) if several else class_numbers(data, model.labels)
