"""From a request to what its model is called with, a function a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.truncation import Truncation
from bothways.use.serve import wishes

if TYPE_CHECKING:
    from bothways.use.serve.offered import Offered

_LETTERS = 4  # of a token, about
_PORTION = 8192
"""Tokens of a request that are asked for together, about: after them, others have their turn."""


@dataclass
class Call:
    """What a model is called with.

    Attributes:
        method: Of the model; it is awaited.
        columns: Its arguments, each a list with an entry a text, or None.
        options: Its other arguments.
        read: The texts that it reads, and the second texts where it reads pairs, for counting.
        cut: Whether what is too long is cut, as the model's policy says; else it is read in windows.
        times: How often each text is read.
        whole: Whether it must be asked as a whole.
    """

    method: str
    columns: tuple[list[Any] | None, ...]
    read: tuple[list[str], list[str] | None]
    options: dict[str, Any] = field(default_factory=dict)
    cut: bool = True
    times: int = 1
    whole: bool = False

    def __post_init__(self) -> None:
        first = self.columns[0] or []
        for other in self.columns[1:]:
            if other is not None and len(other) != len(first):
                raise BothwaysError(f"two lists do not go together: {len(first):,} entries and {len(other):,}")

    @property
    def texts(self) -> int:
        """How many texts, or pairs, are read."""
        return len(self.read[0])

    def counted(self, offered: Offered) -> Truncation:
        """How many tokens its texts have, and what of them is cut."""
        model = offered.model
        limit = model.max_length if self.cut and model.truncation != "window" else None
        return model.tokenizer.encode(*self.read, max_length=limit, truncation="head").truncation

    def portions(self) -> Iterator[tuple[list[Any] | None, ...]]:
        """The columns in pieces that take about a second."""
        entries = len(self.columns[0] or [])
        begin = tokens = 0
        for place in range(entries):
            size = sum(_size(column[place]) for column in self.columns if column is not None)
            if tokens and tokens + size > _PORTION and not self.whole:
                yield self._slice(begin, place)
                begin, tokens = place, 0
            tokens += size
        if begin < entries:
            yield self._slice(begin, entries)

    def _slice(self, begin: int, end: int) -> tuple[list[Any] | None, ...]:
        return tuple(None if column is None else column[begin:end] for column in self.columns)


def _size(entry: Any) -> int:
    return len(entry) // _LETTERS + 2 if isinstance(entry, str) else sum(map(_size, entry))


def _listed(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def embed(wish: wishes.EmbedWish) -> Call:
    """Vectors."""
    texts = _listed(wish.texts)
    options = {"pooling": wish.pooling, "normalize": wish.normalize, "prompt": wish.prompt, "dims": wish.dims}
    return Call("aembed", (texts,), (texts, None), options)


def classify(wish: wishes.PairWish) -> Call:
    """Classes, with their probabilities."""
    return _pairs("aclassify", wish)


def score(wish: wishes.PairWish) -> Call:
    """Numbers, in the units that the model was trained on."""
    return _pairs("ascore", wish)


def _pairs(method: str, wish: wishes.PairWish) -> Call:
    texts, pairs = _listed(wish.texts), None if wish.pairs is None else _listed(wish.pairs)
    return Call(method, (texts, pairs), (texts, pairs))


def zero_shot(wish: wishes.ZeroShotWish) -> Call:
    """Classes that were never trained."""
    texts = _listed(wish.texts)
    options = {"labels": wish.labels, "template": wish.template, "several": wish.several}
    return Call("azero_shot", (texts,), (texts, None), options, times=len(wish.labels))


def tag(wish: wishes.TagWish) -> Call:
    """Tags of words, and the spans that they make."""
    texts: list[Any] = [wish.texts] if isinstance(wish.texts, str) else list(wish.texts)
    read = [text if isinstance(text, str) else " ".join(text) for text in texts]
    return Call("atag", (texts,), (read, None), cut=False)


def answer(wish: wishes.AnswerWish) -> Call:
    """Parts of texts that answer questions."""
    questions, contexts = _listed(wish.question), _listed(wish.context)
    if isinstance(wish.context, str):
        contexts *= len(questions)
    return Call("aanswer", (questions, contexts), (questions, contexts), {"top": wish.top}, cut=False)


def choose(wish: wishes.ChooseWish) -> Call:
    """Which of several texts goes best with a prompt."""
    prompts, choices = _listed(wish.prompt), list(wish.choices)
    if isinstance(wish.prompt, str):
        choices = [choices]  # type: ignore[list-item]
    if any(isinstance(each, str) for each in choices):
        raise BothwaysError("choices should be a list of choices for each prompt")
    call = Call("achoose", (prompts, choices), ([], None))
    pairs = [(prompt, choice) for prompt, own in zip(prompts, choices, strict=True) for choice in own]
    call.read = ([prompt for prompt, _ in pairs], [choice for _, choice in pairs])
    return call


def rerank(wish: wishes.RerankWish) -> Call:
    """Texts in the order in which they answer a query, best first."""
    read = ([wish.query] * len(wish.texts), wish.texts)
    return Call("arerank", ([wish.query], [wish.texts]), read, {"top": wish.top}, whole=True)


def fill(wish: wishes.TopWish) -> Call:
    """The likeliest words for masked places."""
    return _top("afill_mask", wish)


def sparse(wish: wishes.TopWish) -> Call:
    """The words that texts are found by, with their weights."""
    return _top("asparse_terms", wish)


def _top(method: str, wish: wishes.TopWish) -> Call:
    texts = _listed(wish.texts)
    return Call(method, (texts,), (texts, None), {"top": wish.top})


CALLS: dict[str, tuple[Callable[..., Call], type[wishes.Wish]]] = {
    "embed": (embed, wishes.EmbedWish),
    "classify": (classify, wishes.PairWish),
    "zero_shot": (zero_shot, wishes.ZeroShotWish),
    "score": (score, wishes.PairWish),
    "rerank": (rerank, wishes.RerankWish),
    "tag": (tag, wishes.TagWish),
    "answer": (answer, wishes.AnswerWish),
    "choose": (choose, wishes.ChooseWish),
    "fill": (fill, wishes.TopWish),
    "sparse": (sparse, wishes.TopWish),
}
"""For each question, of `bothways.use.serve.offered.QUESTIONS`, what makes the call and the form of its request."""
