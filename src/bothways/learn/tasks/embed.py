"""Sentence vectors: an encoder that puts texts which belong together near each other (Reimers and Gurevych 2019).

What is learned follows from the data and the losses (`bothways.learn.vectors.losses`), what is measured from the form
of the data (`bothways.learn.vectors.judge`). What is saved is a model of sentence vectors as `sentence-transformers`
opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError, need
from bothways.learn.stream import Stream
from bothways.learn.tasks.protocol import Examined
from bothways.learn.vectors.data import FORMS, VectorData, read_vectors
from bothways.learn.vectors.examples import Apart, GroupExamples, Packs, Steps
from bothways.learn.vectors.judge import METRICS, guesses_of, judged
from bothways.learn.vectors.lesson import LearnVectors, vector_width
from bothways.learn.vectors.losses import USUAL, loss_kind, make_losses, named_losses
from bothways.learn.vectors.losses.distances import Distance
from bothways.learn.vectors.losses.in_batch import InBatch
from bothways.learn.vectors.losses.mined import Mining
from bothways.learn.vectors.losses.softmax import classes_of
from bothways.learn.vectors.step import VectorLoss, refuse
from bothways.learn.vectors.teacher import taught_vectors
from bothways.model.config import HeadConfig
from bothways.model.families import family as family_of
from bothways.run.model import Model, load
from bothways.run.pooling import check_pooling, normalize
from bothways.run.sentence_folder import SentenceRecipe

_TAUGHT = ("distil", "parallel")
_LEVELS = 10


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Groups of texts to vectors.

    Attributes:
        text: The column of (first) texts; None infers it, and the others.
        text_pair: The column of second texts, which belong to the first, or are scored or labelled.
        negatives: Columns of texts that do not belong to the first.
        label: The column of scores, labels or classes.
        loss: What is learned, names of `bothways.learn.vectors.losses` joined by ``+``; None takes what suits the data.
        pooling: How tokens become a vector; None: as the base has it, else ``"mean"``.
        normalize: Whether vectors are scaled to length 1; None: as the base has it.
        dims: Further widths that the first values of a vector are to be good for (Matryoshka).
        scale: What similarities are multiplied by, for ``mnrl``, ``simcse``, ``cosent`` and ``angle``; None: 20.
        symmetric: Whether with ``mnrl`` the second text also looks for the first.
        false_negatives: Candidates nearer than the right one less this margin are left out of ``mnrl``.
        distance: What ``triplet``, ``mined``, ``contrastive`` and ``online`` measure: ``"cosine"``, ``"euclidean"`` or
            ``"manhattan"``.
        margin: How far apart is far enough for them; None: what suits.
        mining: Which triplets ``mined`` takes: ``"hard"``, ``"semi_hard"`` or ``"all"``.
        score_range: What scores go from and to, for ``cosine``; None: 0 to 1.
        deletion: Share of the tokens that ``tsdae`` deletes; None: 0.6.
        teacher: A model whose vectors are learned (``distil``, ``parallel``), or that tells false negatives.
        query_prompt: What is put before first texts of pairs and triplets, and kept as the model's prompt ``query``.
        document_prompt: What is put before the others, kept as ``document``.
    """

    text: str | None = None
    text_pair: str | None = None
    negatives: tuple[str, ...] | None = None
    label: str | None = None
    loss: str | None = None
    pooling: str | None = None
    normalize: bool | None = None
    dims: tuple[int, ...] | None = None
    scale: float | None = None
    symmetric: bool = False
    false_negatives: float | None = None
    distance: Distance | None = None
    margin: float | None = None
    mining: Mining | None = None
    score_range: tuple[float, float] | None = None
    deletion: float | None = None
    teacher: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    name = "embed"
    metrics = METRICS["pairs"]

    def __post_init__(self) -> None:
        for name in ("negatives", "dims", "score_range"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if value else None)
        if self.loss is not None:
            named_losses(self.loss)
        if self.pooling is not None:
            check_pooling(self.pooling)
        for name, kinds in (("distance", Distance), ("mining", Mining)):
            if getattr(self, name) not in (None, *get_args(kinds)):
                raise BothwaysError(f"{name} must be {' or '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        _check("scale", self.scale, self.scale is None or self.scale > 0, "above 0")
        _check("margin", self.margin, self.margin is None or self.margin > 0, "above 0")
        _check("deletion", self.deletion, self.deletion is None or 0 < self.deletion < 1, "a share between 0 and 1")
        _check("dims", self.dims, all(width >= 1 for width in self.dims or ()), "whole numbers of 1 or more")
        ends = self.score_range
        _check("score_range", ends, ends is None or (len(ends) == 2 and ends[0] < ends[1]), "a lower and a higher end")
        loss = self.loss
        if loss is not None and self.teacher is None and any(name in _TAUGHT for name in named_losses(loss)):
            raise BothwaysError(
                f"the loss {loss} learns from another model: name it with --teacher (in Python teacher=)"
            )

    def judged_on(self, data: VectorData) -> Embed:
        """The same task with the metrics of such data."""
        if data.form == "labelled":
            try:
                data.flags()
            except BothwaysError as error:
                raise BothwaysError(f"{error}, or measure on pairs with scores: --dev (in Python dev=...)") from None
        task = replace(self)
        object.__setattr__(task, "metrics", METRICS[data.form])
        return task

    def read(self, source: Any) -> VectorData:
        """Groups of texts, of any form."""
        return read_vectors(source, self.text, self.text_pair, self.negatives, self.label)

    def split(self, data: VectorData, share: float, seed: int) -> tuple[VectorData, VectorData]:
        """Groups by chance; those with the same first text stay on one side, labels and scores keep their shares."""
        names = data.ids[data.starts[:-1]] if data.form != "classes" else np.arange(len(data))
        _, groups = np.unique(names, return_inverse=True)
        mixed = generator("split", seed).permutation(groups.max() + 1)
        level = np.zeros(len(mixed), dtype=np.int64)
        level[groups] = _levels(data)
        order = mixed[np.argsort(level[mixed], kind="stable")]  # an even walk through all levels
        step = max(2, round(1 / share))
        held = np.isin(groups, order[step - 1 :: step] if len(order) >= step else order[-1:])
        kept, out = np.flatnonzero(~held), np.flatnonzero(held)
        return data.take(kept, data.name), data.take(out, f"the part of {data.name} held out")

    def heads(self, start: Model, train: VectorData) -> list[HeadConfig]:
        """The base's dense layer, where its vectors go through one."""
        dense = start.head_configs.get("dense")
        if dense is not None and self.pooling not in (None, start.sentence.pooling):
            raise BothwaysError(
                f"{start.name} has a dense layer behind its pooling {start.sentence.pooling!r}: leave pooling away"
            )
        return [] if dense is None else [dense]

    def carry(self, start: Model, model: Model) -> None:
        """The base's recipe and dense layer, with what is asked for."""
        old = start.sentence
        given = {"query": self.query_prompt, "document": self.document_prompt}
        prompts = {**old.prompts, **{name: text for name, text in given.items() if text is not None}}
        wanted = old.normalize if self.normalize is None else self.normalize
        pooling = self.pooling or old.pooling
        model.sentence = replace(old, pooling=pooling, normalize=wanted, stated=True, prompts=prompts)
        if "dense" in start.heads:
            model.heads["dense"].load_state_dict(start.heads["dense"].state_dict())
        width = vector_width(model)
        for dims in self.dims or ():
            if dims >= width:
                raise BothwaysError(f"dims are fewer than the {width} values of a vector, not {dims}")

    def begin(self, model: Model, train: VectorData) -> str:
        """Says the form of the data, and what is learned of them."""
        learned, names = self._learned(train), self._names(train)
        losses = self._losses(model, learned)
        asks = any(name in _TAUGHT for name in names) or self.false_negatives is not None
        if self.teacher is not None and not asks:
            raise BothwaysError(
                f"the loss {'+'.join(names)} asks no teacher: leave --teacher away, or give --false-negatives, for "
                "which it tells texts that are no negatives (in Python teacher=..., false_negatives=...)"
            )
        if "simcse" in names and not _drops(model):
            raise BothwaysError(
                "simcse tells a text from others by dropout, and the base has none: give --dropout 0.1 (in Python "
                "dropout=0.1)"
            )
        of = "" if learned is train else f", {len(learned):,} texts of them"
        return f"{FORMS[train.form]}{of}; learned: {' + '.join(loss.name for loss in losses)}"

    def examples(self, model: Model, data: VectorData, seed: int = 0) -> GroupExamples:
        """Encoded groups: texts twice for ``simcse``; for ``mined`` some of one class at a time, dealt by the seed."""
        learned, names = _prompted(model.sentence, self._learned(data)), self._names(data)
        if "mined" in names:
            _, classes = np.unique(np.array(learned.labels), return_inverse=True)
            return Packs(model, learned, classes, seed)
        return GroupExamples(model, learned, 2 if "simcse" in names else 1)

    def numbers(self, examples: GroupExamples, seed: int) -> None:
        """Each group once."""

    def stream(self, examples: GroupExamples, finish: Any, **settings: Any) -> Stream:
        """Steps that are never parted, and hold no text twice, where groups are compared with each other."""
        kinds = [loss_kind(name) for name in self._names(examples.data)]
        if any(issubclass(kind, InBatch) for kind in kinds):
            return Apart(examples, finish, **settings)
        return Steps(examples, finish, whole=any(kind.meets for kind in kinds), **settings)

    def objective(self, model: Model, train: VectorData, seed: int = 0) -> LearnVectors:
        """The losses over the vectors of a step."""
        learned = self._learned(train)
        taught = None
        if self.teacher is not None:
            names = self._names(train)
            width = vector_width(model) if any(name in _TAUGHT for name in names) else None
            taught = taught_vectors(load(self.teacher, precision="auto"), learned.texts, width)
        return LearnVectors(model, learned, self._losses(model, learned), self.dims or (), taught, seed)

    def finish(self, model: Model, dev: VectorData) -> str:
        """Nothing is fitted."""
        return ""

    def examine(self, model: Model, data: VectorData) -> Examined:
        """Compares vectors."""
        data = _prompted(model.sentence, data)
        return judged(data, guesses_of(data, lambda texts: normalize(model.embed(texts, prompt=""))))

    def pooled(self, data: VectorData, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        guesses = [guess for part in parts for guess in part.guesses or ()]
        order = np.argsort(np.concatenate(places))
        return judged(data, [guesses[place] for place in order])

    def baselines(self, train: VectorData, test: VectorData) -> dict[str, Examined]:
        """Vectors of words, weighted by TF-IDF."""
        need("sklearn", "torch", "A baseline")
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            words.fit(train.texts)
        except ValueError:
            raise BothwaysError(f"{train.name} holds no words") from None
        return {"TF-IDF": judged(test, guesses_of(test, words.transform))}

    def _names(self, data: VectorData) -> tuple[str, ...]:
        if self.loss is None and data.form == "labelled" and len(set(data.labels)) > 2:
            return ("softmax",)
        return named_losses(self.loss or USUAL[data.form])

    def _learned(self, data: VectorData) -> VectorData:
        """The data as the losses read them."""
        names = self._names(data)
        for name in names:
            kind = loss_kind(name)
            if data.form not in kind.forms and kind.forms != ("texts",):
                raise refuse(name, kind.needs, data)
        if loss_kind(names[0]).forms == ("texts",) and data.form != "texts":
            return data.distinct
        return data

    def _losses(self, model: Model, data: VectorData) -> list[VectorLoss]:
        """The losses with their settings, which their data suit."""
        names = self._names(data)
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        given["similarity"] = "dot" if model.sentence.similarity == "dot" else "cosine"
        if "softmax" in names:
            given["classes"] = classes_of(data)
        losses = make_losses(names, given)
        for loss in losses:
            loss.right(data)
        return losses


def _drops(model: Model) -> bool:
    """Whether the encoder reads a text differently each time in training."""
    return family_of(model.config.family).with_dropout(model.config, 0.0) != model.config


def _prompted(recipe: SentenceRecipe, data: VectorData) -> VectorData:
    """The texts with the prompts of queries and documents, or the default one where texts are of one kind."""
    if data.form in ("pairs", "triplets") and recipe.prompts:
        return data.prompted(recipe.prompt("query"), recipe.prompt("document"))
    return data.prompted(recipe.prompt(None), recipe.prompt(None))


def _levels(data: VectorData) -> np.ndarray:
    """``(N,)`` what is to be spread evenly: labels, classes, tenths of the scores."""
    if data.form == "scored":
        return np.searchsorted(np.quantile(data.scores(), np.linspace(0, 1, _LEVELS + 1)[1:-1]), data.scores())
    if data.form in ("labelled", "classes"):
        return np.unique(np.array(data.labels), return_inverse=True)[1]
    return np.zeros(len(data), dtype=np.int64)


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise BothwaysError(f"{name} must be {wanted}, not {value!r}")
