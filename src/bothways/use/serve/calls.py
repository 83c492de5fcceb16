"""From a request to what its model is called with, a function a question.

Each is made of a wish and the model, and makes nothing large: how much is read is known before it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.run.answering.zero_shot import sentences
from bothways.text.truncation import Truncation
from bothways.use.serve import wishes
from bothways.use.serve.read import Pairs, Read, check_together

if TYPE_CHECKING:
    from bothways.run.questions import Questions

LETTERS = 4
"""Of a token, about."""
_FILL, _TERM = 64, 24  # letters of a reply, about: beside the text of a filled mask, and of a word with its weight
_PORTION = 8192
"""Tokens of a request that are asked for together, about: after them, others have their turn."""


@dataclass
class Call:
    """What a model is called with.

    Attributes:
        method: Of the model; it is awaited.
        columns: Its arguments, each a list with an entry a text, or None.
        read: What it reads then.
        options: Its other arguments.
        cut: Whether what is too long is cut, as the model's policy says; else it is read in windows.
        reply: Letters of the reply, at most and about, where there may be many more than were read.
    """

    method: str
    columns: tuple[list[Any] | None, ...]
    read: Read
    options: dict[str, Any] = field(default_factory=dict)
    cut: bool = True
    reply: int = 0

    def counted(self, model: Questions) -> Truncation:
        """How many tokens are read, and what of them is cut."""
        limit = model.max_length if self.cut and model.truncation != "window" else None
        return self.read.counted(model.tokenizer, limit)

    def portions(self) -> Iterator[tuple[list[Any] | None, ...]]:
        """The columns in pieces that take about a second."""
        begin = tokens = 0
        for place, letters in enumerate(self.read.letters):
            size = letters // LETTERS + 2
            if tokens and tokens + size > _PORTION:
                yield self._slice(begin, place)
                begin, tokens = place, 0
            tokens += size
        if tokens:
            yield self._slice(begin, len(self.read.letters))

    def _slice(self, begin: int, end: int) -> tuple[list[Any] | None, ...]:
        return tuple(None if column is None else column[begin:end] for column in self.columns)


def _listed(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def embed(wish: wishes.EmbedWish, model: Questions) -> Call:
    """Vectors."""
    texts, before = _listed(wish.texts), model.sentence.prompt(wish.prompt)
    letters = [len(before) + len(text) for text in texts]
    read = Read(len(texts), letters, lambda: ([before + text for text in texts], None))
    options = {"pooling": wish.pooling, "normalize": wish.normalize, "prompt": wish.prompt, "dims": wish.dims}
    return Call("aembed", (texts,), read, options)


def classify(wish: wishes.PairWish, _: Questions) -> Call:
    """Classes, with their probabilities."""
    return _pairs("aclassify", wish)


def score(wish: wishes.PairWish, _: Questions) -> Call:
    """Numbers, in the units that the model was trained on."""
    return _pairs("ascore", wish)


def _pairs(method: str, wish: wishes.PairWish) -> Call:
    texts, pairs = _listed(wish.texts), None if wish.pairs is None else _listed(wish.pairs)
    return Call(method, (texts, pairs), Read.of(texts, pairs))


def zero_shot(wish: wishes.ZeroShotWish, _: Questions) -> Call:
    """Classes that were never trained."""
    texts, labels = _listed(wish.texts), wish.labels
    said = sum(map(len, labels)) + len(labels) * len(wish.template.replace("{}", ""))
    letters = [len(labels) * len(text) + said for text in texts]

    def make() -> Pairs:
        return [text for text in texts for _ in labels], sentences(labels, wish.template) * len(texts)

    options = {"labels": labels, "template": wish.template, "several": wish.several}
    return Call("azero_shot", (texts,), Read(len(texts) * len(labels), letters, make), options)


def tag(wish: wishes.TagWish, _: Questions) -> Call:
    """Tags of words, and the spans that they make."""
    texts: list[Any] = [wish.texts] if isinstance(wish.texts, str) else list(wish.texts)
    read = Read.of([text if isinstance(text, str) else " ".join(text) for text in texts])
    return Call("atag", (texts,), read, cut=False)


def answer(wish: wishes.AnswerWish, _: Questions) -> Call:
    """Parts of texts that answer questions."""
    questions, contexts = _listed(wish.question), _listed(wish.context)
    if isinstance(wish.context, str):
        contexts *= len(questions)
    read = Read.of(questions, contexts)
    reply = wish.top * sum(map(len, contexts))  # a part may be nearly all of its text
    return Call("aanswer", (questions, contexts), read, {"top": wish.top}, cut=False, reply=reply)


def choose(wish: wishes.ChooseWish, _: Questions) -> Call:
    """Which of several texts goes best with a prompt."""
    prompts, choices = _listed(wish.prompt), list(wish.choices)
    if isinstance(wish.prompt, str):
        if not all(isinstance(each, str) for each in choices):
            raise BothwaysError("choices should be a list of texts for a single prompt")
        choices = [choices]  # type: ignore[list-item]
    if any(isinstance(each, str) for each in choices):
        raise BothwaysError("choices should be a list of choices for each prompt")
    check_together(prompts, choices)
    pairs = [(prompt, choice) for prompt, own in zip(prompts, choices, strict=True) for choice in own]
    letters = [len(own) * len(prompt) + sum(map(len, own)) for prompt, own in zip(prompts, choices, strict=True)]
    read = Read(len(pairs), letters, lambda: ([prompt for prompt, _ in pairs], [choice for _, choice in pairs]))
    return Call("achoose", (prompts, choices), read)


def rerank(wish: wishes.RerankWish, _: Questions) -> Call:
    """Texts in the order in which they answer a query, best first."""
    query, texts = wish.query, wish.texts
    letters = len(texts) * len(query) + sum(map(len, texts))
    read = Read(len(texts), [letters], lambda: ([query] * len(texts), texts))
    return Call("arerank", ([query], [texts]), read, {"top": wish.top})


def fill(wish: wishes.FillWish, model: Questions) -> Call:
    """The likeliest words for masked places."""
    texts, mask = _listed(wish.texts), model.tokenizer.tokens[model.tokenizer.mask_id]
    reply = wish.top * sum(text.count(mask) * (len(text) + _FILL) for text in texts)
    return Call("afill_mask", (texts,), Read.of(texts), {"top": wish.top}, reply=reply)


def sparse(wish: wishes.SparseWish, _: Questions) -> Call:
    """The words that texts are found by, with their weights."""
    texts = _listed(wish.texts)
    return Call("asparse_terms", (texts,), Read.of(texts), {"top": wish.top}, reply=wish.top * len(texts) * _TERM)


CALLS: dict[str, tuple[Callable[..., Call], type[wishes.Wish]]] = {
    "embed": (embed, wishes.EmbedWish),
    "classify": (classify, wishes.PairWish),
    "zero_shot": (zero_shot, wishes.ZeroShotWish),
    "score": (score, wishes.PairWish),
    "rerank": (rerank, wishes.RerankWish),
    "tag": (tag, wishes.TagWish),
    "answer": (answer, wishes.AnswerWish),
    "choose": (choose, wishes.ChooseWish),
    "fill": (fill, wishes.FillWish),
    "sparse": (sparse, wishes.SparseWish),
}
"""For each question, of `bothways.use.serve.offered.QUESTIONS`, what makes the call and the form of its request."""
