"""Answers to questions, found in texts of any length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answers import Answer, Candidate
from bothways.run.best_span import Spans
from bothways.run.engines.protocol import Output
from bothways.text.answer_windows import context_of, encode_questions, slices

if TYPE_CHECKING:
    from bothways.run.runner import Runner
    from bothways.text.encoded import Encoded

LONGEST_ANSWER = 30
"""Tokens of an answer where the model does not say otherwise, as Devlin et al. have it in their code."""
_BEYOND = 8  # candidates looked at past those asked for, since some read the same


@dataclass(frozen=True)
class Found:
    """What a model made of one question, before it is decided whether there is an answer.

    Attributes:
        candidates: The likeliest parts of the context, best first; their probabilities are among all parts.
        null: The score of "no answer".
    """

    candidates: tuple[Candidate, ...]
    null: float

    @property
    def doubt(self) -> float:
        """How far "no answer" scores above the best part: what a threshold is compared with."""
        return self.null - self.candidates[0].score if self.candidates else np.inf

    def without(self, threshold: float | None) -> float:
        """The probability that there is no answer: the sigmoid of how far the doubt is above the threshold.

        The threshold was fitted on questions of both kinds as the doubt at which saying "no answer" is as good as
        answering. So the probability is above one half just where "no answer" is said, and a higher threshold makes it
        lower. (Its share among all parts would not do: thousands of unlikely parts together outweigh it.) A model that
        always answers knows no such probability: it is 0.

        Args:
            threshold: As for `decide`.
        """
        if not self.candidates:
            return 1.0
        return 0.0 if threshold is None else float(np.exp(-np.logaddexp(0.0, threshold - self.doubt)))


def answer(model: Runner, questions: Sequence[str], contexts: Sequence[str], top: int, begin: int = 0) -> list[Answer]:
    """The answer to each question; as `Model.answer` says.

    Args:
        model: With an answering head.
        questions: The questions.
        contexts: Their texts.
        top: How many candidates to list.
        begin: The number of the first question, for messages.
    """
    check(model, top)
    if len(questions) != len(contexts):
        raise BothwaysError(f"{len(questions):,} questions and {len(contexts):,} texts do not go together")
    threshold = model.decoding.get("answer", {}).get("threshold")
    names = [f"question {begin + place}" for place in range(len(questions))]
    return [decide(found, threshold, top) for found in find(model, questions, contexts, top, names)]


def check(model: Runner, top: int) -> None:
    """Makes sure that a model can be asked.

    Raises:
        BothwaysError: It has no answering head, or no candidate is wanted.
    """
    if top < 1:
        raise BothwaysError(f"answer lists at least one candidate; top cannot be {top}")
    model.head("answer", "answer")


def decide(found: Found, threshold: float | None, top: int) -> Answer:
    """The answer, or that there is none: where "no answer" scores above the best part by more than a threshold.

    Args:
        found: What the model made of the question.
        threshold: None for a model that always answers.
        top: How many candidates to list; the answer is the first. "No answer" is among them unless the model always
            answers. The probability of a part is its share among all parts of what `Found.without` leaves.
    """
    none = found.without(threshold)
    listed = [replace(one, probability=one.probability * (1 - none)) for one in found.candidates]
    if not listed or (threshold is not None and found.doubt > threshold):
        listed.insert(0, Candidate("", -1, -1, none, found.null))
    elif threshold is not None:
        place = next((n for n, one in enumerate(listed) if one.probability < none), len(listed))
        listed.insert(max(1, place), Candidate("", -1, -1, none, found.null))
    best = listed[0]
    return Answer(best.text, best.start, best.end, best.probability, tuple(listed[:top]))


def find(
    model: Runner, questions: Sequence[str], contexts: Sequence[str], top: int = 1, names: Sequence[str] | None = None
) -> Iterator[Found]:
    """The best parts of each context, in the order of the questions; what is in memory is a slice of them.

    Args:
        model: With an answering head.
        questions: The questions.
        contexts: Their texts.
        top: How many candidates are wanted.
        names: Of the questions, for messages.

    Raises:
        BothwaysError: The model has no answering head, or a question is empty or too long.
    """
    model.head("answer", "answer")
    for place, question in enumerate(questions):
        if not question.strip():
            raise BothwaysError(f"{names[place] if names else f'question {place}'}: the question is empty")
    settings = model.decoding.get("answer", {})
    longest, stride = settings.get("longest_answer", LONGEST_ANSWER), settings.get("stride")
    for here in slices(questions, contexts):
        told = [f"question {place}" for place in range(here.start, here.stop)] if names is None else names[here]
        encoded = encode_questions(model.tokenizer, questions[here], contexts[here], model.max_length, stride, told)
        yield from _found(model, encoded, contexts[here], longest, top)


def _found(model: Runner, encoded: Encoded, contexts: Sequence[str], longest: int, top: int) -> list[Found]:
    parts = [context_of(encoded, sequence) for sequence in range(len(encoded))]
    ends = encoded.begins + [part.stop - part.start for part in parts]
    last = np.r_[np.flatnonzero(np.diff(encoded.texts)), len(encoded) - 1]  # the last window of each text
    spans = [Spans(int(ends[place]), longest) for place in last]
    for batch, logits in model.run(encoded, Output("answer")):
        for place, sequence in enumerate(batch.rows.tolist()):
            own = logits[batch.starts[place] : batch.starts[place + 1]]
            text = spans[int(encoded.texts[sequence])]
            text.add(int(encoded.begins[sequence]), own[parts[sequence]], float(own[0].sum()))
    offsets = _offsets(encoded, parts, ends, last)
    return [_candidates(of, at, context, top) for of, at, context in zip(spans, offsets, contexts, strict=True)]


def _offsets(encoded: Encoded, parts: list[slice], ends: np.ndarray, last: np.ndarray) -> list[np.ndarray]:
    """For each text ``(N, 2)`` the characters of its tokens, put together again from its windows."""
    assert encoded.offsets is not None
    whole = [np.zeros((int(ends[place]), 2), dtype=np.int32) for place in last]
    for sequence, part in enumerate(parts):
        begin = encoded.starts[sequence]
        own = encoded.offsets[begin + part.start : begin + part.stop]
        whole[int(encoded.texts[sequence])][encoded.begins[sequence] : ends[sequence]] = own
    return whole


def _candidates(spans: Spans, offsets: np.ndarray, context: str, top: int) -> Found:
    """The best spans as parts of the context, without the space around them; what reads the same is listed once."""
    best = spans.best(top + _BEYOND)
    found: dict[tuple[int, int], Candidate] = {}
    for span in best:
        start, end = int(offsets[span.first, 0]), int(offsets[span.last, 1])
        text = context[start:end]
        start += len(text) - len(text.lstrip())
        text = text.strip()
        if text:
            whole = Candidate(text, start, start + len(text), span.probability, span.score)
            found.setdefault((whole.start, whole.end), whole)
    return Found(tuple(list(found.values())[:top]), float(spans.null))
