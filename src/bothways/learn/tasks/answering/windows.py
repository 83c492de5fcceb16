"""Questions and windows of their contexts as training examples.

A window that holds an answer whole is to point at it; any other is to point at its first token, "no answer", which is
also what teaches the model to leave a window alone (Devlin et al. 2018, section 4.3; Alberti et al. 2019).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from bothways.learn.tasks.answering.data import Questions
from bothways.text.answer_windows import allowed_places, context_of, encode_questions, slices, tokens_of
from bothways.text.encoded import Encoded
from bothways.text.questions import Question
from bothways.text.tokenizer import Tokenizer

Places = Literal["first", "all"]


class Window(NamedTuple):
    """One example of L tokens.

    Attributes:
        token_ids: ``(L,)``.
        segment_ids: ``(L,)``.
        gold: ``(G, 2)`` the first and last token of each right answer; ``[[0, 0]]`` where there is none here.
        allowed: ``(L,)`` True where an answer may begin and end: the context's tokens and the first.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    gold: np.ndarray
    allowed: np.ndarray


class AnswerWindows:
    """The windows of questions over their contexts: what a `Stream` reads.

    Args:
        tokenizer: What makes the tokens.
        data: The questions.
        max_length: The most tokens of a window.
        stride: Tokens from the beginning of a window to that of the next, as `encode_questions` has it.
        places: Whether the first place of an answer is learned from, or all.

    Attributes:
        answered: ``(windows,)`` which of them hold an answer.
        questions: ``(windows,)`` the number of the question of each.
    """

    def __init__(
        self, tokenizer: Tokenizer, data: Questions, max_length: int | None, stride: int | None, places: Places
    ) -> None:
        questions, contexts = data.questions, data.contexts
        parts: list[tuple[np.ndarray, ...]] = []
        self._gold: list[tuple[tuple[int, int], ...]] = []
        for here in slices(questions, contexts):
            rows = data.rows[here]
            names = [row.where for row in rows]
            encoded = encode_questions(tokenizer, questions[here], contexts[here], max_length, stride, names)
            self._gold += _gold(encoded, rows, places)
            own = encoded.token_ids, encoded.segment_ids, allowed_places(encoded)
            parts.append((*own, encoded.lengths, encoded.texts + here.start))  # offsets are not kept: they are large
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        self._token_ids, self._segment_ids, self._allowed, lengths, self.questions = columns
        self._starts = np.concatenate(([0], np.cumsum(lengths)))
        self.answered = np.array([bool(gold) for gold in self._gold])

    def __len__(self) -> int:
        return len(self._gold)

    def sequence(self, epoch: int, number: int) -> Window:
        """One window; the same in every epoch."""
        place = slice(self._starts[number], self._starts[number + 1])
        gold = np.array(self._gold[number] or [(0, 0)], dtype=np.int64)
        return Window(self._token_ids[place], self._segment_ids[place], gold, self._allowed[place])


def _gold(encoded: Encoded, rows: list[Question], places: Places) -> list[tuple[tuple[int, int], ...]]:
    """For each window the tokens of the answers that it holds whole, counted from the window's first token."""
    assert encoded.offsets is not None
    found = []
    for sequence, question in enumerate(encoded.texts.tolist()):
        own = rows[question]
        wanted = own.places[:1] if places == "first" else tuple(dict.fromkeys(own.places))
        context = context_of(encoded, sequence)
        begin = encoded.starts[sequence] + context.start
        offsets = encoded.offsets[begin : begin + context.stop - context.start]
        spans = [tokens_of(offsets, place) for place in wanted] if wanted and len(offsets) else []
        found.append(tuple((context.start + one[0], context.start + one[1]) for one in spans if one is not None))
    return found
