"""Questions beside their contexts: the question whole, the context in windows that lose none of its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.answer_places import Place
from bothways.text.encoded import SECOND, Encoded, room_beside
from bothways.text.tokenizer import Tokenizer

LONGEST = 512  # tokens of a window where the model sets no limit
_SLICE_CHARACTERS, _SLICE_QUESTIONS = 1_000_000, 1024
_LEAST = 4  # a window's text gets at least this part of it: a fourth


def slices(questions: Sequence[str], contexts: Sequence[str]) -> Iterator[slice]:
    """Cuts a list of questions so that no slice is large: what is worked on at a time is what memory is bounded by."""
    begin = size = 0
    for place, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        more = len(question) + len(context)
        if place > begin and (size + more > _SLICE_CHARACTERS or place - begin == _SLICE_QUESTIONS):
            yield slice(begin, place)
            begin, size = place, 0
        size += more
    if begin < len(questions):
        yield slice(begin, len(questions))


def encode_questions(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int | None = None,
    stride: int | None = None,
    names: Sequence[str] | None = None,
) -> Encoded:
    """Encodes pairs of question and context, as published models were trained: the question first.

    Args:
        tokenizer: What makes the tokens.
        questions: Q questions.
        contexts: The text of each, of any length.
        max_length: The most tokens of a window, special tokens and question counted.
        stride: Tokens from the beginning of a window to that of the next (Devlin et al. 2018 take 128 with windows of
            384); None: three quarters of what a window holds of the context.
        names: Of the questions, for messages.

    Returns:
        The windows with offsets. Every token of a context is in at least one of them.

    Raises:
        BothwaysError: A question leaves less than a fourth of a window for its context.
    """
    longest = max_length or LONGEST
    lengths = tokenizer.encode(questions, special_tokens=False).lengths
    room = room_beside(tokenizer.pair, longest) - lengths
    if len(room) and room.min() < max(1, longest // _LEAST):
        worst = int(room.argmin())
        name = f"question {worst}" if names is None else names[worst]
        raise BothwaysError(
            f"{name}: the question has {int(lengths[worst]):,} tokens, which leave too little of max_length "
            f"{longest:,} for its context; shorten it or raise max_length"
        )
    return tokenizer.encode(questions, contexts, max_length=longest, truncation="window", stride=stride, offsets=True)


def context_of(encoded: Encoded, sequence: int) -> slice:
    """Where the tokens of the context stand in a sequence: a run, since a window is one."""
    sources = encoded.sources[encoded.starts[sequence] : encoded.starts[sequence + 1]]
    found = np.flatnonzero(sources == SECOND)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def allowed_places(encoded: Encoded) -> np.ndarray:
    """``(T,)`` True where an answer may begin or end: tokens of a context, and the first of each sequence, "none"."""
    allowed = encoded.sources == SECOND
    allowed[encoded.starts[:-1]] = True
    return allowed


def tokens_of(offsets: np.ndarray, place: Place) -> tuple[int, int] | None:
    """The tokens that a part of a context falls into, the smallest run that holds it.

    Characters between tokens have none, such as accents that a tokenizer strips; only the ends of a window cut.

    Args:
        offsets: ``(N, 2)`` the characters of the context's tokens, or of a window of them.
        place: ``context[start:end]``.

    Returns:
        The first and the last, or None where a part of it lies outside them.
    """
    start, end = place
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    if first > last or (first == 0 and offsets[0, 0] > start):
        return None
    if last == len(offsets) - 1 and offsets[last, 1] < end:
        return None
    return first, last
