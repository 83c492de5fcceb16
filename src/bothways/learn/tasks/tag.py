"""Tags of words: names in texts, parts of speech, chunks (Devlin et al. 2018, section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.tasks.judge import in_order
from bothways.learn.tasks.protocol import Examined
from bothways.learn.tasks.tagging.data import TaggedTexts, aligned, read_texts, split_texts
from bothways.learn.tasks.tagging.judge import METRICS, frequent_tags, judge_tags
from bothways.learn.tasks.tagging.learning import LearnTags, TagExamples
from bothways.model.config import HeadConfig
from bothways.model.families import family
from bothways.model.heads.crf import TagChain
from bothways.run.answering.tag import tag_decoding, tag_words, window_length
from bothways.run.model import Model
from bothways.text.encoded import gather_index, room_beside
from bothways.text.tag_schemes import allowed, check_scheme
from bothways.text.word_windows import check_overlap, encode_word_slices


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Words into tags. Long texts are read in overlapping windows, and nothing is cut.

    Attributes:
        text: The column of the words, or of the text whose parts are marked; None infers it.
        label: The column of the tags (``tags``, ``ner``, ``pos``, ``upos``, ...), or of marked parts; None infers it.
        crf: Whether neighbouring tags are learned too, by a conditional random field.
        scheme: How tags write spans: ``BIO``, ``IOB1``, ``BIOES``, ``BILOU``, or ``words`` for none; None infers it.
        align: What happens to marked parts that end inside words: ``"strict"`` refuses, ``"expand"`` widens them.
        overlap: Tokens that neighbouring windows share, at most half of one; None: a quarter.
    """

    text: str | None = None
    label: str | None = None
    crf: bool = False
    scheme: str | None = None
    align: str = "strict"
    overlap: int | None = None
    name = "tag"
    metrics = METRICS

    def __post_init__(self) -> None:
        check_scheme(self.scheme)
        check_overlap(None, self.overlap)
        if self.align not in ("strict", "expand"):
            raise BothwaysError(f"align must be 'strict' or 'expand', not {self.align!r}")

    def read(self, source: Any) -> TaggedTexts:
        """Words with tags: files of columns, or rows of lists or of texts with marked parts."""
        return read_texts(source, self.text, self.label, self.scheme, self.align)

    def split(self, data: TaggedTexts, share: float, seed: int) -> tuple[TaggedTexts, TaggedTexts]:
        """By chance, every tag staying in the first part."""
        return split_texts(data, share, seed)

    def heads(self, start: Model, train: TaggedTexts) -> list[HeadConfig]:
        """A tagger of the tags that occur, and those that their scheme has beside them; with `crf` a chain of them."""
        if len(np.unique(train.tags)) < 2:
            raise BothwaysError(
                f"{train.name} has the single tag {train.names[train.tags[0]]!r}; a tagger needs at least two (is the "
                "right column taken as label?)"
            )
        names = train.names if train.scheme != "words" else tuple(sorted(train.names))
        members = family(start.config.family)
        return [members.head(kind, labels=names) for kind in (("tag", "crf") if self.crf else ("tag",))]

    def begin(self, model: Model, train: TaggedTexts) -> str:
        """Says how tags were read, and lets a chain begin with how often they follow each other."""
        if model.max_length is not None:
            check_overlap(room_beside(model.tokenizer.single, model.max_length), self.overlap)
        model.truncation = "window"
        model.decoding["tag"] = {"scheme": train.scheme, "overlap": self.overlap, "by_spaces": train.by_spaces}
        labels = model.head_configs["tag"].labels
        if self.crf:
            chain = model.heads["crf"]
            assert isinstance(chain, TagChain)
            chain.constrain(*allowed(labels, train.scheme))
            chain.start_from(*_affinities(aligned(train, labels, train.scheme), len(labels)))
        kinds = labels if train.scheme == "words" else train.tag_set.kinds
        what = "tags" if train.scheme == "words" else "kinds"
        shown = f"{', '.join(kinds[:8])}{' ...' if len(kinds) > 8 else ''}"
        return f"{train.told}; {len(kinds)} {what}: {shown}"

    def check(self, model: Model, dev: TaggedTexts) -> None:
        """Makes sure that the model knows all tags of the dev set, before it is trained."""
        self._aligned(model, dev)

    def examples(self, model: Model, data: TaggedTexts, seed: int = 0) -> TagExamples:
        """One a text, or several windows of a long one, each with the words that it decides."""
        right = self._aligned(model, data)
        overlap = tag_decoding(model)["overlap"]
        parts = encode_word_slices(model.tokenizer, data.words(), window_length(model), overlap)
        return TagExamples(parts, right.tags, right.edges)

    def numbers(self, examples: TagExamples, seed: int) -> None:
        """Each once."""

    def objective(self, model: Model, train: TaggedTexts, seed: int = 0) -> LearnTags:
        """Cross-entropy of words, or of sequences of tags."""
        return LearnTags(model.mark, "crf" in model.heads)

    def finish(self, model: Model, dev: TaggedTexts) -> str:
        """Nothing."""
        return ""

    def examine(self, model: Model, data: TaggedTexts) -> Examined:
        """F1, precision and recall of spans, accuracy of words, each kind."""
        right = self._aligned(model, data)
        found = tag_words(model, data.words())
        return judge_tags(right, found.tags, found.probabilities)

    def pooled(self, data: TaggedTexts, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        words = [gather_index(data.edges[held], np.diff(data.edges)[held]) for held in places]
        guessed = in_order([np.asarray(part.guesses) for part in parts], words)
        shares = in_order([np.asarray(part.probabilities) for part in parts], words)
        return judge_tags(aligned(data, parts[0].labels, parts[0].scores["scheme"]), guessed, shares)

    def baselines(self, train: TaggedTexts, test: TaggedTexts) -> dict[str, Examined]:
        """The most frequent tag of each word."""
        return {"most frequent tag of the word": frequent_tags(train, test)}

    def _aligned(self, model: Model, data: TaggedTexts) -> TaggedTexts:
        return aligned(data, model.head_configs["tag"].labels, tag_decoding(model)["scheme"])


def _affinities(data: TaggedTexts, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much oftener than by chance each tag stands behind another, first and last: logarithms, smoothed.

    A chain that began with zeros would hardly learn in the few small steps of fine-tuning; added to the logarithms of
    what each word alone suggests, these are the logarithms of a hidden Markov model's probabilities.
    """
    tags = data.tags.astype(np.int64)
    inner = np.ones(len(tags), dtype=bool)
    inner[data.edges[:-1]] = False
    behind = np.flatnonzero(inner)
    pairs = np.bincount(tags[behind - 1] * count + tags[behind], minlength=count**2).reshape(count, count)
    share = np.bincount(tags, minlength=count) / len(tags)

    def oftener(seen: np.ndarray) -> np.ndarray:
        affinity: np.ndarray = np.log((seen + 1) / (seen.sum(-1, keepdims=True) * share + 1))
        return affinity

    begins, ends = (np.bincount(tags[places], minlength=count) for places in (data.edges[:-1], data.edges[1:] - 1))
    return oftener(pairs), oftener(begins), oftener(ends)
