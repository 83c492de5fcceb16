"""Which number is explained, for each thing that a model can be asked.

Shapes: N variants of a sequence, L its tokens, C what an engine gives for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.run.answering import vectors
from bothways.run.engines.protocol import Output
from bothways.use.explain.subject import Subject

if TYPE_CHECKING:
    from bothways.run.questions import Questions

LOG_ODDS = "log-odds"
Numbers = Callable[[Any, Any], Any]
"""From ``(N, C)`` or ``(N, L, C)`` to ``(N,)``; the second argument is the library of the first, NumPy or torch."""


@dataclass(frozen=True)
class Target:
    """A number.

    Attributes:
        output: What an engine is asked for.
        numbers: Makes the number of it.
        said: What it is, for people.
        told: As the model tells it.
        unit: As of `Explanation`.
    """

    output: Output
    numbers: Numbers
    said: str
    told: float
    unit: str


def targets(
    model: Questions, text: str, pair: str | None, label: str | None, at: str | None
) -> list[tuple[Subject, Target]]:
    """The number that suits a model, of a class, a score, an answer, a tag or a similarity, and what it is a number of.

    A similarity is one of each text, with the other as it is.

    Args:
        model: What is explained.
        text: The text.
        pair: The second text of a pair.
        label: The class or tag; None for the one that the model gives.
        at: A part of the text: the word whose tag is explained.

    Raises:
        BothwaysError: There is no such class, the model cannot be asked anything of a text, or a part is absent.
    """
    heads = model.head_configs
    if "late" in heads or "sparse" in model.decoding:
        raise BothwaysError(f"{model.name} compares texts word by word already; what it finds needs no explanation")
    classes = "tag" in heads or ("classify" in heads and heads["classify"].problem != "scores")
    if label is not None and not classes:
        raise BothwaysError(f"{model.name} gives no classes, so there is no {label!r} to explain; leave target out")
    if at is not None and ("tag" not in heads or "classify" in heads):
        raise BothwaysError(f"{model.name} does not tag words, so none is explained by itself; leave at out")
    if not {"classify", "tag", "answer"} & set(heads):
        return _similarities(model, text, pair)
    subject = Subject.of(model, text, pair)
    if "classify" in heads:
        scores = heads["classify"].problem == "scores"
        return [(subject, _score(model, subject) if scores else _class(model, subject, label))]
    return [(subject, _tag(model, subject, label, at) if "tag" in heads else _answer(model, subject))]


def _class(model: Questions, subject: Subject, label: str | None) -> Target:
    found = model.classify(*subject.texts)
    label = found.label if label is None else label
    number = _place(label, model.labels, "class")
    one = model.head_configs["classify"].problem == "one"
    cold = float(model.decoding.get("classify", {}).get("temperature", 1.0))
    return Target(
        Output("classify"),
        lambda values, lib: _log_odds(values / cold, number, lib) if one else values[:, number] / cold,
        label,
        found.probabilities[label],
        LOG_ODDS,
    )


def _score(model: Questions, subject: Subject) -> Target:
    mean, deviation = model.decoding.get("classify", {}).get("scale", (0.0, 1.0))
    told = model.score(*subject.texts)
    return Target(Output("classify"), lambda values, _: values[:, 0] * deviation + mean, "score", told, "score")


def _tag(model: Questions, subject: Subject, label: str | None, at: str | None) -> Target:
    text, labels = subject.texts[0], model.head_configs["tag"].labels
    if len(subject.texts) > 1:
        raise BothwaysError(f"{model.name} tags one text, not a pair; leave pair out")
    if at is None:
        raise BothwaysError("say which word's tag is to be explained: at, or --at WORD")
    begin = text.find(at)
    if begin < 0:
        raise BothwaysError(f"{at!r} does not stand in the text")
    found = model.tag(text)
    word = next((n for n, (start, end) in enumerate(found.offsets) if start <= begin < end), None)
    if word is None:
        raise BothwaysError(f"no word begins or goes on where {at!r} stands")
    token, label = subject.token_at(0, found.offsets[word][0]), found.tags[word] if label is None else label
    number = _place(label, labels, "tag")
    told = found.probabilities[word] if label == found.tags[word] else float("nan")
    said = f"{label} for {found.words[word]!r}"
    return Target(Output("tag"), lambda values, lib: _log_odds(values[:, token], number, lib), said, told, LOG_ODDS)


def _answer(model: Questions, subject: Subject) -> Target:
    if len(subject.texts) != 2:
        raise BothwaysError("an answer is explained for a question and a text: pair, or --pair TEXT")
    found = model.answer(*subject.texts)
    best = next((one for one in found.candidates if one.start >= 0), None)
    if best is None:
        raise BothwaysError("the text holds no answer that could be explained")
    first, last = subject.token_at(1, best.start), subject.token_at(1, best.end - 1)
    return Target(
        Output("answer"),
        lambda values, _: values[:, first, 0] + values[:, last, 1],
        best.text,
        best.probability,
        "score",
    )


def _similarities(model: Questions, text: str, pair: str | None) -> list[tuple[Subject, Target]]:
    if pair is None:
        raise BothwaysError(
            f"{model.name} makes vectors, so a similarity of two texts is explained: pair, or --pair TEXT"
        )
    output, _, before = vectors.check(model, vectors.Wish())
    pooled = vectors.embed(model, [text, pair], vectors.Wish(normalize=True))
    told = float(pooled[0] @ pooled[1])

    def against(other: np.ndarray) -> Numbers:
        def cosines(values: Any, lib: Any) -> Any:
            with_it = values @ (other if lib is np else lib.from_numpy(other).to(values.device))
            return with_it / lib.sqrt((values * values).sum(-1))

        return cosines

    return [
        (Subject.of(model, one, None, before), Target(output, against(other), "similarity", told, "cosine"))
        for one, other in ((text, pooled[1]), (pair, pooled[0]))
    ]


def _log_odds(values: Any, number: int, lib: Any) -> Any:
    """``(N,)`` the logarithm of a class's probability against all others', from ``(N, C)`` logits."""
    rest = values[:, [place for place in range(values.shape[1]) if place != number]]
    highest = lib.amax(rest, -1)
    return values[:, number] - highest - lib.log(lib.exp(rest - highest[:, None]).sum(-1))


def _place(label: str, labels: tuple[str, ...], what: str) -> int:
    if label not in labels:
        known = ", ".join(labels[:20])
        raise BothwaysError(f"there is no {what} {label!r}{closest(label, labels)}; there are {known}")
    return labels.index(label)
