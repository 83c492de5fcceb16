"""The tokenizer: from strings to token ids, with offsets, words and an explicit policy for long texts.

The work inside a text is done by the `tokenizers` library, on all processors. Truncation and the special tokens around
texts are done here on whole lists, so a `Tokenizer` never changes once it is made and may be shared between threads.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.text import published, roles
from bothways.text.encoded import SPECIAL, Encoded, Flat, Template, assemble, join
from bothways.text.kept import Joined, Texts
from bothways.text.saved import write_tokenizer
from bothways.text.spelling import Edges, Reading, Spelling
from bothways.text.truncation import Truncation, check_policy, cut

if TYPE_CHECKING:
    from bothways.text.normalize import Normalization

SLICE_TEXTS, SLICE_CHARACTERS = 4096, 1_000_000  # encoded at a time, so that memory is bounded by the result
_ALONE = 10_000  # characters of a text that is encoded while other threads of Python wait
NO_LENGTH = 10**9  # published settings write "no limit" as 10**30


class Tokenizer:
    """A tokenizer of any kind that is published as ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` or ``*.model``.

    Made by `load` or `from_vocabulary`; it never changes afterwards.

    Attributes:
        backend: The object of the `tokenizers` library.
        settings: What ``tokenizer_config.json`` says.
        roles: The id of each special token there is, by role: "pad", "unk", "cls", "sep", "mask".
        single: The template of one text.
        pair: The template of two texts.
        max_length: The most tokens a sequence may have according to the files; None when they do not say.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: dict[str, Any] | None = None) -> None:
        self.backend = backend
        self.settings = dict(settings or {})
        self.single: Template = roles.find_template(backend, pair=False)
        self.pair: Template = roles.find_template(backend, pair=True)
        self.roles = roles.find_roles(backend, self.settings, self.single)
        stated = self.settings.get("model_max_length")
        self.max_length: int | None = int(stated) if stated and stated < NO_LENGTH else None

    @classmethod
    def load(cls, source: str | Path, lowercase: bool | None = None) -> Tokenizer:
        """Loads a published tokenizer.

        Args:
            source: A folder with ``tokenizer.json``, ``vocab.txt``, ``vocab.json`` and ``merges.txt``, or a
                SentencePiece model (and, where present, ``tokenizer_config.json`` and ``special_tokens_map.json``); or
                a bare ``vocab.txt`` or ``tokenizer.json``. A SentencePiece model needs ``tokenizer_config.json`` or
                ``config.json`` beside it to say which family's it is.
            lowercase: Overrides what the files say. A bare ``vocab.txt`` without capitals is taken as lower-casing.

        Raises:
            BothwaysError: There is no tokenizer there, or it cannot be read.
        """
        return cls(*published.read_published(source, lowercase))

    @classmethod
    def from_vocabulary(
        cls, tokens: Sequence[str], normalization: Normalization, max_length: int | None = None
    ) -> Tokenizer:
        """A BERT WordPiece tokenizer around a vocabulary.

        Args:
            tokens: The vocabulary in the order of ids, with the special tokens ``[PAD] [UNK] [CLS] [SEP] [MASK]``.
            normalization: How text is normalised before it is split.
            max_length: The most tokens that a sequence may have, for the saved settings.

        Raises:
            BothwaysError: [UNK], [CLS] or [SEP] is absent, or a token stands twice.
        """
        if len(set(tokens)) != len(tokens):
            twice = Counter(tokens).most_common(1)[0][0]
            raise BothwaysError(f"the token {twice!r} stands twice in the vocabulary")
        backend = published.wordpiece(tokens, normalization, {}, "the vocabulary")
        return cls(backend, {"model_max_length": max_length} if max_length else {})

    def with_max_length(self, max_length: int | None) -> Tokenizer:
        """The same tokenizer with another `max_length` in its settings."""
        return Tokenizer(self.backend, {**self.settings, "model_max_length": max_length})

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The id of each token, added tokens included."""
        return self.backend.get_vocab(with_added_tokens=True)

    @cached_property
    def tokens(self) -> list[str]:
        """The token of each id; an empty string for an id that no token has."""
        tokens = [""] * self.size
        for token, place in self.vocabulary.items():
            tokens[place] = token
        return tokens

    @cached_property
    def size(self) -> int:
        """How many ids there are: the rows of an embedding table for this tokenizer."""
        return max(self.vocabulary.values()) + 1

    @property
    def pad_id(self) -> int:
        """The id of [PAD]."""
        return self._role("pad")

    @property
    def unk_id(self) -> int:
        """The id of [UNK]."""
        return self._role("unk")

    @property
    def cls_id(self) -> int:
        """The id of [CLS]."""
        return self._role("cls")

    @property
    def sep_id(self) -> int:
        """The id of [SEP]."""
        return self._role("sep")

    @property
    def mask_id(self) -> int:
        """The id of [MASK]."""
        return self._role("mask")

    def _role(self, role: str) -> int:
        if role not in self.roles:
            present = ", ".join(self.tokens[place] for place in self.roles.values()) or "none"
            raise BothwaysError(
                f"this tokenizer has no {role} token (its special tokens: {present}); take another tokenizer"
            )
        return self.roles[role]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of all special tokens, such as [CLS] and what the files mark as special."""
        added = self.backend.get_added_tokens_decoder()
        return frozenset(self.roles.values()) | {place for place, token in added.items() if token.special}

    @property
    def normalization(self) -> Normalization | None:
        """How BERT's normaliser is set; None when the tokenizer has another one."""
        return published.find_normalization(self.backend)

    @cached_property
    def lowercase(self) -> bool:
        """Whether letters become lower case."""
        normalizer = self.backend.normalizer
        return normalizer is not None and "A" not in normalizer.normalize_str("A")

    @cached_property
    def spelling(self) -> Spelling:
        """How its tokens are spelled: which mark shows that a word begins or goes on."""
        return Spelling.of(self.backend)

    def read(self, token_id: int) -> Reading:
        """The text that a token stands for, without marks such as "##", "Ġ" and "▁", and if it continues a word."""
        token = self.tokens[token_id]
        return Reading(token, False) if token_id in self.special_ids else self.spelling.read(token)

    @cached_property
    def word_edges(self) -> Edges:
        """Which tokens begin words and which end them; special tokens do both.

        Raises:
            BothwaysError: Its tokens do not say where words begin.
        """
        ordinary = [place for place, token in enumerate(self.tokens) if token and place not in self.special_ids]
        edges = Edges(np.ones(self.size, dtype=bool), np.ones(self.size, dtype=bool))
        for place in ordinary:
            edges.begins[place], edges.ends[place] = self.spelling.edges(self.tokens[place])
        marked = any(not self.spelling.read(self.tokens[place]).glued for place in ordinary)
        if not marked or not self.spelling.mark:
            raise BothwaysError(
                "the tokens of this tokenizer do not say where words begin; mask tokens instead of words or spans, or "
                "take a WordPiece, byte-level BPE or Unigram tokenizer"
            )
        return edges

    @cached_property
    def needs_space(self) -> bool:
        """Whether a text that follows another has to begin with its space to get the tokens that it gets in there.

        So it is with RoBERTa's, where the first word of a text has no space before it; other kinds do not tell.
        """
        inside, spaced, alone = (self.backend.encode(text, add_special_tokens=False).ids for text in ("a a", " a", "a"))
        return inside == alone + spaced != alone + alone

    @cached_property
    def fingerprint(self) -> str:
        """A hash (hex) of everything that token ids depend on: two tokenizers with the same one encode alike."""
        whole = json.loads(self.backend.to_str())
        if whole["model"]["type"] == "Unigram":  # the last digits of a score do not always survive saving
            whole["model"]["vocab"] = [(token, f"{score:.8g}") for token, score in whole["model"]["vocab"]]
        parts = [whole[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "model")]
        canonical = json.dumps([parts, self.single, self.pair, self.roles], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

    def encode(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: str = "warn",
        overlap: int | None = None,
        stride: int | None = None,
        offsets: bool = False,
        special_tokens: bool = True,
    ) -> Encoded:
        """Encodes texts or pairs of texts.

        Args:
            texts: The texts.
            pairs: Their second texts, as many.
            max_length: The most tokens of a sequence, special tokens counted; None for any length.
            truncation: What happens to longer texts: "warn" cuts the end and warns once a call, "head" cuts the end,
                "head_tail" keeps the beginning and the end (128 : 382), "window" makes overlapping sequences so that
                nothing is lost (of a pair, over its second text), "error" raises. Whatever is cut is counted in
                `Encoded.truncation`. Pairs are cut at their longer text first.
            overlap: Tokens that neighbouring windows share; a quarter of a window when not given.
            stride: Tokens from the beginning of a window to that of the next, instead of `overlap`.
            offsets: Whether the offsets and words of tokens are wanted.
            special_tokens: Whether [CLS] and [SEP] are added.

        Raises:
            BothwaysError: A text is not a string, texts and pairs differ in number, `max_length` leaves no room for
                text, there is no such policy, `overlap` or `stride` cannot be or both are given, or a text is too long
                under "error".
        """
        parts = self.encode_slices(
            texts,
            pairs,
            max_length=max_length,
            truncation=truncation,
            overlap=overlap,
            stride=stride,
            offsets=offsets,
            special_tokens=special_tokens,
        )
        encoded = join(list(parts))
        warn_of_cut(encoded.truncation, truncation, max_length)
        return encoded

    def encode_slices(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: str = "warn",
        overlap: int | None = None,
        stride: int | None = None,
        offsets: bool = False,
        special_tokens: bool = True,
    ) -> Iterator[Encoded]:
        """The same a few thousand texts at a time, for those who do not need all at once; nothing is warned of.

        The numbers in `Encoded.texts` begin anew in each part.
        """
        check_policy(truncation)
        firsts = _strings(texts, "texts")
        seconds = None if pairs is None else _strings(pairs, "pairs")
        if seconds is not None and len(seconds) != len(firsts):
            raise BothwaysError(f"{len(firsts):,} texts and {len(seconds):,} second texts do not make pairs")
        template = self.single if seconds is None else self.pair
        if not special_tokens:
            template = tuple(piece for piece in template if piece.source != SPECIAL)
        room = _room(template, max_length, overlap, stride)
        for begin, some, others in _slices(firsts, seconds):
            first = self._flat(some, offsets)
            second = None if others is None else self._flat(others, offsets)
            lengths = None if second is None else second.lengths
            kept = cut(first.lengths, lengths, room, truncation, overlap, begin, stride)
            yield assemble(template, first, second, kept)

    def _flat(self, texts: list[str], offsets: bool) -> Flat:
        run = self.backend.encode_batch if offsets else self.backend.encode_batch_fast
        try:
            if len(texts) == 1 and len(texts[0]) <= _ALONE:  # without waking other threads
                encodings = [self.backend.encode(texts[0], add_special_tokens=False)]
            else:
                encodings = run(texts, add_special_tokens=False)
        except TypeError:  # half of a surrogate pair has no UTF-8; one character stands for it, so offsets still hold
            encodings = run([re.sub("[\ud800-\udfff]", "\ufffd", text) for text in texts], add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32, count=total)
        if not offsets:
            return Flat(ids, lengths, None, None)
        ends = chain.from_iterable(chain.from_iterable(e.offsets for e in encodings))
        words = (-1 if word is None else word for e in encodings for word in e.word_ids)
        return Flat(
            ids,
            lengths,
            np.fromiter(ends, dtype=np.int32, count=2 * total).reshape(-1, 2),
            np.fromiter(words, dtype=np.int32, count=total),
        )

    def decode(self, ids: Iterable[int], special_tokens: bool = False) -> str:
        """The text of token ids, as well as it can be told.

        Args:
            ids: Token ids.
            special_tokens: Whether special tokens are written out too.
        """
        return self.backend.decode([int(token) for token in ids], skip_special_tokens=not special_tokens)

    def save(self, folder: str | Path) -> None:
        """Writes ``tokenizer.json``, ``tokenizer_config.json`` and, for WordPiece, ``vocab.txt``.

        The folder opens in `transformers` and `sentence-transformers`. Files appear whole or not at all.

        Raises:
            BothwaysError: The folder cannot be written to.
        """
        write_tokenizer(self, folder)


def warn_of_cut(cut: Truncation, policy: str, max_length: int | None) -> None:
    """Says how much was cut, where that is what is to happen to long texts."""
    if policy == "warn" and max_length is not None and cut.texts:
        warnings.warn(cut.sentence(max_length), BothwaysWarning, stacklevel=3)


def _strings(texts: str | Iterable[str], what: str) -> Sequence[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, Texts | Joined):  # are strings, and too many for a list
        return texts
    listed = list(texts)
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            shown = repr(text) if len(repr(text)) < 40 else repr(text)[:37] + "..."
            raise BothwaysError(f"{what}[{place}] is not a string but {type(text).__name__} {shown}")
    return listed


def _room(template: Template, max_length: int | None, overlap: int | None, stride: int | None) -> int | None:
    if stride is not None and stride < 1:
        raise BothwaysError(f"stride {stride} should be at least 1 token; for windows that share nothing say overlap=0")
    if stride is not None and overlap is not None:
        raise BothwaysError(f"stride {stride} and overlap {overlap} say the same thing twice: give one of them")
    if max_length is None:
        return None
    specials = sum(piece.source == SPECIAL for piece in template)
    room = max_length - specials
    if room < 1:
        raise BothwaysError(f"max_length {max_length} leaves no room for text beside {specials} special tokens")
    if overlap is not None and not 0 <= overlap < room:
        raise BothwaysError(f"overlap {overlap} should be at least 0 and less than the {room} tokens of a window")
    return room


def _slices(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[tuple[int, list[str], list[str] | None]]:
    """Cuts a list so that no slice is large in texts or characters; at least one slice, also of an empty list.

    Yields:
        The number of the first text, the texts, and their second texts.
    """
    begin, size = 0, 0
    some: list[str] = []
    others: list[str] = []
    for text, other in zip(texts, repeat("") if pairs is None else pairs, strict=pairs is not None):
        some.append(text)
        others.append(other)
        size += len(text) + len(other)
        if size >= SLICE_CHARACTERS or len(some) >= SLICE_TEXTS:
            yield begin, some, None if pairs is None else others
            begin, size, some, others = begin + len(some), 0, [], []
    if some or not begin:
        yield begin, some, None if pairs is None else others
