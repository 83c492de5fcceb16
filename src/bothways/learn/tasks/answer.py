"""Answers to questions, as parts of a text (Devlin et al. 2018, sections 4.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.squad_scores import Answered, answer_scores, best_threshold, score_answers
from bothways.learn.tasks.answering.data import NO_ANSWER, Questions, split_by_context
from bothways.learn.tasks.answering.excerpt import shown
from bothways.learn.tasks.answering.objective import LearnAnswers
from bothways.learn.tasks.answering.overlap import answer_words, nearest_words
from bothways.learn.tasks.answering.windows import AnswerWindows, Places
from bothways.learn.tasks.protocol import Examined, Judged
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.run.answering.answer import LONGEST_ANSWER, Found, decide, find
from bothways.run.answers import Answer
from bothways.run.model import Model
from bothways.text.question_files import name_of
from bothways.text.questions import read_questions


@dataclass(frozen=True, kw_only=True)
class AnswerQuestions:
    """Questions whose answers stand in a text, or do not.

    Attributes:
        stride: Tokens from the beginning of a window to that of the next, where a context is longer than one; None:
            three quarters of what a window holds of it.
        longest_answer: The most tokens of an answer.
        places: Which places of an answer are learned from: the ``"first"``, or ``"all"``, which suits answers that were
            only searched for.
        empty_windows: Share of the windows without the answer to their question that an epoch holds; questions that
            have no answer at all count in whole. Less than 1 suits long documents (Alberti et al. 2019).
    """

    stride: int | None = None
    longest_answer: int = LONGEST_ANSWER
    places: Places = "first"
    empty_windows: float = 1.0
    name = "answer"
    metrics = ("f1", "exact_match")

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride < 1:
            raise BothwaysError(f"stride must be at least 1 token, not {self.stride!r}")
        if self.longest_answer < 1:
            raise BothwaysError(f"longest_answer must be at least 1 token, not {self.longest_answer!r}")
        if self.places not in ("first", "all"):
            raise BothwaysError(f"places must be 'first' or 'all', not {self.places!r}")
        if not 0 <= self.empty_windows <= 1:
            raise BothwaysError(f"empty_windows must be a share from 0 to 1, not {self.empty_windows!r}")

    def read(self, source: Any) -> Questions:
        """Questions of any form that `read_questions` takes."""
        return source if isinstance(source, Questions) else Questions(read_questions(source), name_of(source))

    def split(self, data: Questions, share: float, seed: int) -> tuple[Questions, Questions]:
        """No context is on both sides."""
        return split_by_context(data, share, seed)

    def heads(self, start: Model, train: Questions) -> list[HeadConfig]:
        """One that scores beginnings and ends.

        Raises:
            BothwaysError: No question has an answer.
        """
        if train.unanswerable == len(train):
            raise BothwaysError(
                f"none of the {len(train):,} questions of {train.name} has an answer; nothing is learned"
            )
        return [family(start.config.family).head("answer")]

    def begin(self, model: Model, train: Questions) -> str:
        """Notes how answers are found; where questions without an answer are learned from, "no answer" may be one."""
        none = train.unanswerable
        model.decoding["answer"] = {
            "stride": self.stride,
            "longest_answer": self.longest_answer,
            "threshold": 0.0 if none else None,
        }
        return f"{none:,} questions without an answer" if none else "every question has an answer"

    def examples(self, model: Model, data: Questions, seed: int = 0) -> AnswerWindows:
        """A question with a window of its context each."""
        return AnswerWindows(model.tokenizer, data, model.max_length, self.stride, self.places)

    def numbers(self, examples: AnswerWindows, seed: int) -> np.ndarray | None:
        """All windows, or those that matter and a share of the others, drawn once."""
        if self.empty_windows == 1:
            return None
        has = np.isin(examples.questions, examples.questions[examples.answered])
        empty = has & ~examples.answered
        kept = generator("empty windows", seed).random(len(examples)) < self.empty_windows
        return np.flatnonzero(~empty | kept)

    def objective(self, model: Model, train: Questions, seed: int = 0) -> LearnAnswers:
        """Where answers begin and end."""
        return LearnAnswers(model.mark)

    def finish(self, model: Model, dev: Questions) -> str:
        """Fits the threshold above which "no answer" is said, by the F1 of the dev set, if that has such questions."""
        if not dev.unanswerable:
            return ""
        found = _found(model, dev)
        texts = [one.candidates[0].text if one.candidates else "" for one in found]
        credit = score_answers(texts, [row.answers for row in dev.rows], version=2)
        doubt = np.array([one.doubt for one in found])
        best = best_threshold(credit.f1, credit.answerable, doubt)
        model.decoding.setdefault("answer", {})["threshold"] = best.value
        said = int((doubt > best.value).sum())
        return (
            f'"no answer" is said where it scores {best.value:.2f} above the best answer or more: for {said:,} of '
            f"{len(dev):,} questions of {dev.name}"
        )

    def examine(self, model: Model, data: Questions) -> Examined:
        """Asks the model every question."""
        threshold = model.decoding.get("answer", {}).get("threshold")
        found = _found(model, data)
        return judge_answers(
            data, [decide(one, threshold, 1) for one in found], [one.without(threshold) for one in found]
        )

    def baselines(self, train: Questions, test: Questions) -> dict[str, Examined]:
        """The words nearest to the question's, and "no answer" always where that is right for some."""
        words = answer_words(row.answers[0] for row in train.rows if row.answers)
        near = [nearest_words(row.question, row.context, words) for row in test.rows]
        guesses = {"word overlap": [_part(row.context, *place) for row, place in zip(test.rows, near, strict=True)]}
        if test.unanswerable:
            guesses["no answer"] = [_part("", -1, -1)] * len(test)
        return {name: judge_answers(test, answers) for name, answers in guesses.items()}


def judge_answers(data: Questions, answers: Sequence[Answer], none: Sequence[float] | None = None) -> Examined:
    """Answers beside what is right.

    Args:
        data: N questions.
        answers: What was answered.
        none: The probability that each has no answer, where a model said it.
    """
    version = 2 if data.unanswerable else 1
    credit = score_answers([one.text for one in answers], [row.answers for row in data.rows], version=version)
    rows = []
    for place, (row, answer) in enumerate(zip(data.rows, answers, strict=True)):
        said = [(answer.start, answer.end)] if answer.text else []
        text, truth_marks, guess_marks = shown(row.question, row.context, row.places, said)
        doubt = float("nan") if none is None else _doubt(row.answers, credit, place, answer, none[place])
        guess = answer.text or NO_ANSWER
        truth = row.answers[0] if row.answers else NO_ANSWER
        marks = tuple(truth_marks), tuple(guess_marks)
        rows.append(Judged(text, truth, guess, float(credit.f1[place]), answer.probability, doubt, *marks))
    scores: dict[str, Any] = {**answer_scores(credit), "examples": len(data), "without_answer": data.unanswerable}
    if data.unanswerable:
        kinds = (("with an answer", credit.answerable), ("without an answer", ~credit.answerable))
        scores["classes"] = {name: _means(credit, asked) for name, asked in kinds}
    return Examined(scores, rows, lambda places: answer_scores(credit, places))


def _means(credit: Answered, asked: np.ndarray) -> dict[str, Any]:
    """F1 and exact match of some questions, and how many they are."""
    values = {"f1": credit.f1[asked], "exact_match": credit.exact[asked]}
    return {name: float(each.mean()) if len(each) else None for name, each in values.items()} | {
        "support": int(asked.sum())
    }


def _doubt(right: tuple[str, ...], credit: Answered, place: int, answer: Answer, none: float) -> float:
    """The probability of what is right, as far as it is known: of the answer that was given, or of "no answer"."""
    if not right:
        return none
    return answer.probability if credit.exact[place] else float("nan")


def _part(context: str, start: int, end: int) -> Answer:
    text = context[start:end] if start >= 0 else ""
    return Answer(text, start, end, float("nan"), ())


def _found(model: Model, data: Questions) -> list[Found]:
    names = [row.where for row in data.rows]
    return list(find(model, data.questions, data.contexts, 1, names))
