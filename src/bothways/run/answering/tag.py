"""Tags of words: texts of any length in, a tag and its probability for each word out, and the spans they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answers import Tagged, TaggedSpan
from bothways.run.engines.protocol import Output
from bothways.run.numbers import softmax
from bothways.run.viterbi import Chain, best_paths, marginals
from bothways.text.tag_schemes import TagSet, allowed, find_spans, scheme_of
from bothways.text.word_windows import encode_words
from bothways.text.words import Offsets, joined, word_offsets

if TYPE_CHECKING:
    from bothways.run.runner import Runner

_SLICE = 50_000
"""Words at a time, so that memory does not grow with their number; a longer text is one slice."""
_WINDOW = 512
"""Tokens of a window where the model sets no limit."""


class WordTags(NamedTuple):
    """What a tagger says of W words in N texts.

    Attributes:
        edges: ``(N + 1,)`` where each text's words begin; the last entry is W.
        tags: ``(W,)`` the tag of each word; of a model trained here the best valid sequence of them.
        probabilities: ``(W, C)`` float32 the probability of each tag; with a CRF over all sequences.
    """

    edges: np.ndarray
    tags: np.ndarray
    probabilities: np.ndarray


def tag_decoding(model: Runner) -> dict[str, Any]:
    """How a model's tags are read.

    Returns:
        ``scheme`` of its tags, ``overlap`` of windows in tokens (None: a quarter), and whether white space alone parts
        ``words``: as it was trained, or told from its labels.
    """
    labels = model.head_configs["tag"].labels
    return {"scheme": scheme_of(labels), "overlap": None, "by_spaces": False} | model.decoding.get("tag", {})


def window_length(model: Runner) -> int:
    """Tokens of a window: the longest input, or a usual one where nothing sets a limit."""
    return model.max_length or _WINDOW


def tag_words(model: Runner, texts: Iterable[Sequence[str]]) -> WordTags:
    """Tags texts of words.

    Long texts are read in overlapping windows; the scores of each word are those of the window in which it is most
    central, and the best sequence is found for the whole text.

    Args:
        model: With a tagger.
        texts: N lists of words.

    Raises:
        BothwaysError: The model has no tagger.
    """
    model.head("tag", "tag")
    decoding = tag_decoding(model)
    windows = encode_words(model.tokenizer, texts, window_length(model), decoding["overlap"])
    labels = model.head_configs["tag"].labels
    emissions = np.empty((int(windows.edges[-1]), len(labels)), dtype=np.float32)
    for batch, scores in model.run(windows.encoded, Output("tag")):
        words, places = windows.decided(batch)
        emissions[words] = scores[places]
    lengths = np.diff(windows.edges)
    chain = _chain(model, decoding["scheme"])
    tags = emissions.argmax(1) if chain is None else best_paths(emissions, lengths, chain)
    if "crf" in model.head_configs:
        assert chain is not None
        return WordTags(windows.edges, tags, marginals(emissions, lengths, chain))
    return WordTags(windows.edges, tags, softmax(emissions))


def _chain(model: Runner, scheme: str) -> Chain | None:
    """What neighbouring tags add: a CRF's scores, or the scheme's constraints alone; None where there is nothing."""
    if "crf" in model.head_configs:
        crf = model.engine.tables("crf")
        return Chain(*(_forbidding(crf[f"allowed_{name}"], crf[name]) for name in ("follows", "begins", "ends")))
    if scheme == "words" or "tag" not in model.decoding:  # other libraries' taggers may write IOB1
        return None
    return Chain(*(_forbidding(here) for here in allowed(model.head_configs["tag"].labels, scheme)))


def _forbidding(may: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
    return np.where(may, np.float64(0) if scores is None else scores.astype(np.float64), -np.inf)


def tag(model: Runner, texts: Sequence[Any]) -> list[Tagged]:
    """Tags of texts, or of lists of words; as `Model.tag` says."""
    model.head("tag", "tag")
    by_spaces = tag_decoding(model)["by_spaces"]
    found: list[Tagged] = []
    for part in _slices(texts, by_spaces):
        found += _tagged(model, part)
    return found


def check_words(text: object, number: int) -> None:
    """Raises a BothwaysError where something is neither a text nor a list of words.

    Args:
        text: Anything.
        number: Its number among others.
    """
    words = isinstance(text, list | tuple) and all(isinstance(word, str) for word in text)
    if not words and not isinstance(text, str):
        raise BothwaysError(f"texts[{number}] is neither a text nor a list of words but {text!r:.40}")


def _slices(texts: Sequence[Any], by_spaces: bool) -> Iterator[list[tuple[str, Offsets]]]:
    part: list[tuple[str, Offsets]] = []
    count = 0
    for number, text in enumerate(texts):
        check_words(text, number)
        part.append((text, word_offsets(text, by_spaces=by_spaces)) if isinstance(text, str) else joined(text))
        count += len(part[-1][1])
        if count >= _SLICE:
            yield part
            part, count = [], 0
    yield part


def _tagged(model: Runner, part: Sequence[tuple[str, Offsets]]) -> list[Tagged]:
    words = [tuple(text[start:end] for start, end in offsets) for text, offsets in part]
    edges, tags, shares = tag_words(model, words)
    labels = model.head_configs["tag"].labels
    tag_set = TagSet(labels, plain=tag_decoding(model)["scheme"] == "words")
    spans = find_spans(tag_set, tags, edges)
    span_edges = np.searchsorted(spans.first, edges)
    own = shares[np.arange(len(tags)), tags]
    found = []
    for number, (text, offsets) in enumerate(part):
        begin, end = edges[number], edges[number + 1]
        marked = []
        for one in range(span_edges[number], span_edges[number + 1]):
            first, last = int(spans.first[one] - begin), int(spans.last[one] - begin)
            start, stop = offsets[first][0], offsets[last][1]
            sure = float(own[spans.first[one] : spans.last[one] + 1].mean())
            marked.append(TaggedSpan(tag_set.kinds[spans.kind[one]], start, stop, text[start:stop], sure, first, last))
        said = tuple(labels[place] for place in tags[begin:end])
        found.append(Tagged(words[number], tuple(offsets), said, tuple(own[begin:end].tolist()), tuple(marked)))
    return found
