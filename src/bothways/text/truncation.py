"""What happens to texts that are longer than the model: an explicit policy, never a silent cut.

Everything here is arithmetic on lengths. It says which runs of a text's tokens stay; `encoded` then gathers them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bothways.errors import BothwaysError, closest

POLICIES = ("warn", "error", "head", "head_tail", "window")
HEAD, WHOLE = 128, 510  # Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3.1


@dataclass(frozen=True)
class Truncation:
    """What was cut from a list of texts.

    Attributes:
        texts: Texts (or pairs) that lost tokens.
        tokens: Tokens that were lost.
        all_texts: Texts (or pairs) in all.
        all_tokens: Tokens in all before the cut, special tokens not counted.
        windowed: Texts (or pairs) that were read in several windows, and so lost nothing.
    """

    texts: int = 0
    tokens: int = 0
    all_texts: int = 0
    all_tokens: int = 0
    windowed: int = 0

    def __add__(self, other: Truncation) -> Truncation:
        return Truncation(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.all_texts + other.all_texts,
            self.all_tokens + other.all_tokens,
            self.windowed + other.windowed,
        )

    def sentence(self, max_length: int) -> str:
        """One sentence for the user: how much was cut, of how much, and what to do about it."""
        return (
            f"{self.texts:,} of {self.all_texts:,} texts are longer than {max_length:,} tokens and were cut: "
            f"{self.tokens:,} of {self.all_tokens:,} tokens are lost; where that matters, give a greater max "
            f"length if the model allows it, or the truncation window (nothing is lost), head_tail, head (cuts without "
            f"this warning) or error"
        )


class TooLongError(BothwaysError):
    """A text has more tokens than fit, and may not be cut.

    Args:
        place: Of the first such text.
        tokens: How many it has.
        room: How many fit.
        count: How many texts here are too long.

    Attributes:
        place: As given.
    """

    def __init__(self, place: int, tokens: int, room: int, count: int) -> None:
        self.place = place
        self._made_of = (place, tokens, room, count)
        super().__init__(self.told(f"text {place}"))

    def told(self, where: str, *, windows: bool = True) -> str:
        """The sentence, for who can say better where the text stands.

        Args:
            where: That.
            windows: Whether long texts may be read in windows there.
        """
        _, tokens, room, count = self._made_of
        more = f" (and {count - 1:,} others here are too long)" if count > 1 else ""
        ways = "warn, head, head_tail or window" if windows else "warn, head or head_tail"
        return (
            f"{where} has {tokens:,} tokens where {room:,} fit beside the special tokens{more}; shorten it, or give a "
            f"greater max length if the model allows it, or the truncation {ways}"
        )

    def behind(self, count: int) -> TooLongError:
        """The same where so many texts stand before those that were counted."""
        return TooLongError(self.place + count, *self._made_of[1:])

    def __reduce__(self) -> tuple[type[TooLongError], tuple[int, int, int, int]]:
        return TooLongError, self._made_of  # so that another process can say it


class Runs(NamedTuple):
    """Up to two runs of tokens for each of S sequences: ``(S, 2)`` first tokens and ``(S, 2)`` lengths."""

    starts: np.ndarray
    lengths: np.ndarray


class Cut(NamedTuple):
    """Which tokens stay.

    Attributes:
        texts: ``(S,)`` the text that each sequence comes from; more than one sequence a text under "window".
        first: The runs that stay of the first texts.
        second: The runs that stay of the second texts of pairs; None without pairs.
        truncation: What was lost.
    """

    texts: np.ndarray
    first: Runs
    second: Runs | None
    truncation: Truncation


def cut(
    first: np.ndarray,
    second: np.ndarray | None,
    room: int | None,
    policy: str,
    overlap: int | None = None,
    offset: int = 0,
    stride: int | None = None,
) -> Cut:
    """Decides which tokens stay.

    Args:
        first: ``(N,)`` tokens in each text, special tokens not counted.
        second: ``(N,)`` tokens in each second text, or None without pairs.
        room: The most tokens that a sequence may keep beside its special tokens; None means any number.
        policy: One of `POLICIES`. "warn" and "head" keep the beginning; a pair is shortened at its longer text first.
            "head_tail" keeps the beginning and the end in the proportion 128 : 382. "window" cuts the text (of a
            pair: its second text) into overlapping sequences.
        overlap: Tokens that neighbouring windows share; a quarter of the window when not given.
        offset: Added to the number of a text in error messages.
        stride: Tokens from the beginning of a window to that of the next, instead of `overlap`; windows always touch.

    Raises:
        TooLongError: A text is too long under "error".
        BothwaysError: Under "window" the first text of a pair leaves no room.
    """
    total = first if second is None else first + second
    whole = Truncation(0, 0, len(first), int(total.sum()))
    over = np.zeros(len(first), dtype=bool) if room is None else total > room
    if room is None or not over.any():
        texts = np.arange(len(first))
        return Cut(texts, _beginnings(first), None if second is None else _beginnings(second), whole)
    if policy == "error":
        raise TooLongError(int(np.argmax(over)) + offset, int(total[np.argmax(over)]), room, int(over.sum()))
    if policy == "window":
        return _windows(first, second, room, overlap, offset, stride, whole)
    kept_first, kept_second = longest_first(first, second, room)
    kept = kept_first if kept_second is None else kept_first + kept_second
    lost = Truncation(int(over.sum()), int((total - kept).sum()), whole.all_texts, whole.all_tokens)
    runs = _heads_and_tails if policy == "head_tail" else _heads
    last = None if second is None or kept_second is None else runs(second, kept_second)
    return Cut(np.arange(len(first)), runs(first, kept_first), last, lost)


def check_policy(policy: str) -> None:
    """Raises a BothwaysError when there is no such policy."""
    if policy not in POLICIES:
        message = f"truncation {policy!r} is not one of {', '.join(POLICIES)}{closest(str(policy), POLICIES)}"
        raise BothwaysError(message)


def longest_first(first: np.ndarray, second: np.ndarray | None, room: int) -> tuple[np.ndarray, np.ndarray | None]:
    """How many tokens each text of a pair keeps when the longer one is shortened first.

    Tokens leave the longer text until the pair fits; once both are equally long they share the room, and an odd token
    goes to the text that was longer (to the second when they were equal).

    Args:
        first: ``(N,)`` tokens in the first texts.
        second: ``(N,)`` tokens in the second texts, or None without pairs.
        room: The most tokens that a pair may keep.

    Returns:
        ``(N,)`` tokens kept of the first and of the second texts.
    """
    if second is None:
        return np.minimum(first, room), None
    short, long = np.minimum(first, second), np.maximum(first, second)
    kept_short = np.where(short + long > room, np.minimum(short, room // 2), short)
    kept_long = np.minimum(long, room - kept_short)
    swapped = first > second
    return np.where(swapped, kept_long, kept_short), np.where(swapped, kept_short, kept_long)


def _beginnings(lengths: np.ndarray) -> Runs:
    nothing = np.zeros_like(lengths)
    return Runs(np.stack((nothing, nothing), axis=1), np.stack((lengths, nothing), axis=1))


def _heads(lengths: np.ndarray, kept: np.ndarray) -> Runs:
    return _beginnings(kept)


def _heads_and_tails(lengths: np.ndarray, kept: np.ndarray) -> Runs:
    head = np.where(lengths > kept, np.rint(kept * HEAD / WHOLE).astype(np.int64), kept)
    tail = kept - head
    return Runs(np.stack((np.zeros_like(head), lengths - tail), axis=1), np.stack((head, tail), axis=1))


def _windows(
    first: np.ndarray,
    second: np.ndarray | None,
    room: int,
    overlap: int | None,
    offset: int,
    stride: int | None,
    whole: Truncation,
) -> Cut:
    rooms = np.full(len(first), room) if second is None else room - first
    lengths = first if second is None else second
    hopeless = (rooms < 1) & (lengths > rooms)
    if hopeless.any():
        place = int(np.argmax(hopeless))
        raise BothwaysError(
            f"the first text of pair {place + offset} has {int(first[place]):,} tokens and leaves no room for windows "
            f"over its second text; put the shorter text first or raise max_length"
        )
    rooms = np.maximum(rooms, 1)
    shared = np.minimum(rooms // 4 if overlap is None else overlap, rooms - 1)
    step = rooms - shared if stride is None else np.minimum(stride, rooms)
    count = 1 + np.maximum(0, -((rooms - lengths) // step))  # one more for each step, begun or whole, past the room
    whole = replace(whole, windowed=int((count > 1).sum()))
    texts = np.repeat(np.arange(len(first)), count)
    begin = (np.arange(len(texts)) - np.repeat(np.cumsum(count) - count, count)) * step[texts]
    length = np.minimum(rooms[texts], lengths[texts] - begin)
    nothing = np.zeros_like(begin)
    windows = Runs(np.stack((begin, nothing), axis=1), np.stack((length, nothing), axis=1))
    if second is None:
        return Cut(texts, windows, None, whole)
    return Cut(texts, _beginnings(first[texts]), windows, whole)
