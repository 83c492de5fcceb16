"""A prepared corpus: token ids in memory-mapped shards, with the boundaries of sentences and documents.

A corpus is a folder::

    index.json            what is in it: counts and, shard by shard, sizes and digests; written last
    tokens-00000.bin ...  token ids without special tokens, little-endian uint16 or uint32; documents stay whole
    sentences.bin         int64: where each sentence begins, counted in tokens over all shards, and the end
    documents.bin         int64: where each document begins, counted in sentences, and the end
    tokenizer/            the tokenizer that made the tokens

`prepare` (in `prepare.py`) writes it; `Corpus` reads it without ever holding it in memory.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.text.places import Place, place_of

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

FORMAT = "bothways corpus"
VERSION = 1
INDEX, UNFINISHED = "index.json", "unfinished.json"
SENTENCES, DOCUMENTS, TOKENIZER = "sentences.bin", "documents.bin", "tokenizer"
BOUNDARY = np.dtype("<i8")
TOKEN_TYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
OnCorrupt = Literal["stop", "skip"]
_MAPPED = 256  # shards kept mapped at once, well under the usual limit of 1,024 open files
_FETCHED = 64  # the same of an object store, where each takes room on the disk
_LOOKED_AT = 8  # shards of an object store that are looked through for what is said of the whole corpus
_WAYS = "copy the corpus again, or remove it and prepare it again"


class LeftOutError(BothwaysError):
    """What was asked for lies in a shard that is corrupt and, as was asked for too, left out."""


SHARDS = "tokens-*.bin"
"""Those that a folder holds."""


def shard_name(number: int) -> str:
    """The file that holds the tokens of a shard."""
    return f"tokens-{number:05d}.bin"


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """A short fingerprint of some bytes."""
    made = blake2b(digest_size=16)
    for part in parts:
        made.update(part)
    return made.hexdigest()


@dataclass(frozen=True)
class Shard:
    """What one shard holds.

    Attributes:
        tokens: Tokens in it.
        sentences: Sentences in it.
        documents: Documents in it.
        words: Words of its text, as white space separates them.
        characters: Characters of its text.
        unknown: Tokens that stand for what the vocabulary cannot spell.
        read: Documents of the source that were read for it; some may have held no token.
        source: The digest of the text of those documents.
        content: The digest of its tokens and boundaries.
    """

    tokens: int
    sentences: int
    documents: int
    words: int
    characters: int
    unknown: int
    read: int
    source: str
    content: str


@dataclass(frozen=True)
class Index:
    """What a corpus holds, or the finished part of one that is being prepared.

    Attributes:
        tokenizer: The fingerprint of the tokenizer.
        token_type: ``"uint16"`` or ``"uint32"``.
        shard_tokens: A shard ends with the first document that brings it to so many tokens.
        shards: The finished shards.
    """

    tokenizer: str
    token_type: str
    shard_tokens: int
    shards: tuple[Shard, ...] = field(default=())

    def total(self, name: str) -> int:
        """The sum over all shards of one of their figures, such as ``"tokens"``."""
        return sum(getattr(shard, name) for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Depends on the tokenizer and on every token and boundary, and on nothing else."""
        return digest(part.encode() for part in (self.tokenizer, *(shard.content for shard in self.shards)))

    def to_json(self) -> str:
        """The index as a file: totals for people first, then what the reader needs."""
        totals = {name: self.total(name) for name in _FIGURES}
        rates = {
            "fertility": round(totals["tokens"] / max(totals["words"], 1), 4),
            "unknown_rate": round(totals["unknown"] / max(totals["tokens"], 1), 6),
        }
        head = {"format": FORMAT, "version": VERSION, "fingerprint": self.fingerprint, **totals, **rates}
        return json.dumps({**head, **asdict(self)}, indent=1) + "\n"

    @staticmethod
    def read(path: Path) -> Index:
        """Reads an index.

        Raises:
            BothwaysError: The file is not the index of a corpus, or of a newer version.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise ValueError
            if found["version"] > VERSION:
                raise BothwaysError(f"{path} was written by a newer version of Bothways; upgrade to read it")
            names = [item.name for item in fields(Shard)]
            shards = tuple(Shard(*(shard[name] for name in names)) for shard in found["shards"])
            return Index(found["tokenizer"], found["token_type"], found["shard_tokens"], shards)
        except (ValueError, KeyError, TypeError):
            raise BothwaysError(f"{path} is not the index of a prepared corpus; give another folder") from None


_FIGURES = ("documents", "sentences", "tokens", "words", "characters", "unknown")


class Corpus:
    """A prepared corpus on disk. Sentences and documents are numbered from 0 over all shards.

    Attributes:
        folder: Where it lies.
        index: Its index: all figures, shard by shard.
        tokens: Tokens in all; special tokens are not stored.
        sentences: Sentences in all.
        documents: Documents in all.
        fingerprint: Depends on the tokenizer and on every token and boundary.
        sentence_starts: ``(sentences + 1,)`` int64, memory-mapped: sentence i covers the tokens
            ``sentence_starts[i]:sentence_starts[i + 1]``.
        document_starts: ``(documents + 1,)`` int64, memory-mapped: document d covers the sentences
            ``document_starts[d]:document_starts[d + 1]``.
    """

    def __init__(self, place: Place, index: Index, on_corrupt: OnCorrupt = "stop") -> None:
        self.folder: Any = Path(str(place)) if place.near else str(place)
        self.index = index
        self._place = place
        self.tokens, self.sentences = index.total("tokens"), index.total("sentences")
        self.documents, self.fingerprint = index.total("documents"), index.fingerprint
        self._shard_starts = np.cumsum([0, *(shard.tokens for shard in index.shards)])
        self._token_type, self._on_corrupt = TOKEN_TYPES[index.token_type], on_corrupt
        self._before = np.cumsum([(0, 0), *((shard.documents, shard.sentences) for shard in index.shards)], axis=0)
        self.sentence_starts = self._map(SENTENCES, BOUNDARY, self.sentences + 1)
        self.document_starts = self._map(DOCUMENTS, BOUNDARY, self.documents + 1)
        for number, shard in enumerate(index.shards if place.near and on_corrupt == "stop" else ()):
            self._check_size(shard_name(number), shard.tokens * self._token_type.itemsize)
        self._mapped: dict[int, np.ndarray] = {}
        self._locks: dict[int, Lock] = {}
        self._tokenizer: Tokenizer | None = None
        self._sound: set[int] = set()
        self._left_out: set[int] = set()

    @classmethod
    def open(cls, folder: str | Path, on_corrupt: OnCorrupt = "stop") -> Corpus:
        """Opens a prepared corpus; nothing is written, nothing is read but the index.

        Args:
            folder: Where it lies; also an address such as ``s3://bucket/corpus``.
            on_corrupt: What is done about a shard that is found, when it is first read, not to be what was prepared:
                ``"stop"`` says so, ``"skip"`` leaves it out.

        Raises:
            BothwaysError: There is no corpus, its preparation has not finished, or a file is missing or cut short.
        """
        if on_corrupt not in ("stop", "skip"):
            raise BothwaysError(f"on_corrupt must be stop or skip, not {on_corrupt!r}")
        place = place_of(folder)
        if place.size(INDEX) >= 0:
            with place.path(INDEX) as path:
                return cls(place, Index.read(path), on_corrupt)
        if place.size(UNFINISHED) >= 0:
            raise BothwaysError(f"the corpus in {place} is not finished; prepare it again with the same source and out")
        what = "is not a prepared corpus" if not place.near or Path(folder).is_dir() else "does not exist"
        raise BothwaysError(f"{place} {what}; prepare a corpus first: bothways corpus prepare")

    @classmethod
    def lies_in(cls, place: Any) -> bool:
        """Whether something names a prepared corpus: its folder, or its address in an object store."""
        return isinstance(place, str | Path) and place_of(place).size(INDEX) >= 0

    @property
    def near(self) -> bool:
        """Whether reading anywhere in it costs nothing; else shards are fetched, and few are kept."""
        return self._place.near

    @property
    def at_hand(self) -> int:
        """The first tokens, as many as can be looked through without fetching all shards."""
        return self.tokens if self.near else sum(shard.tokens for shard in self.index.shards[:_LOOKED_AT])

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens, loaded when first asked for."""
        if self._tokenizer is None:
            from bothways.text.tokenizer import Tokenizer

            with self._place.path(TOKENIZER) as path:
                self._tokenizer = Tokenizer.load(path)
        return self._tokenizer

    def read(self, a: int, b: int) -> np.ndarray:
        """The token ids ``a:b`` of the whole corpus, whichever shards they lie in.

        Returns:
            ``(b - a,)`` int64, a copy.

        Raises:
            IndexError: Not ``0 <= a <= b <= tokens``.
            BothwaysError: A shard is corrupt; `LeftOutError` if it is left out.
        """
        if not 0 <= a <= b <= self.tokens:
            raise IndexError(f"tokens {a}:{b} of a corpus of {self.tokens}")
        token_ids = np.empty(b - a, dtype=np.int64)
        at = a
        number = int(np.searchsorted(self._shard_starts, a, side="right")) - 1
        while at < b:
            begin, end = int(self._shard_starts[number]), min(b, int(self._shard_starts[number + 1]))
            token_ids[at - a : end - a] = self._shard(number)[at - begin : end - begin]
            at, number = end, number + 1
        return token_ids

    def readable(self, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """``(N,)`` whether the tokens ``begins:ends`` of each range lie in no shard that is left out."""
        firsts = np.searchsorted(self._shard_starts, begins, side="right") - 1
        lasts = np.searchsorted(self._shard_starts, ends)
        wanted = {number for span in set(zip(firsts.tolist(), lasts.tolist(), strict=True)) for number in range(*span)}
        left_out = np.zeros(len(self.index.shards) + 1, dtype=np.int64)
        left_out[[number + 1 for number in wanted if not self._is_sound(number)]] = 1
        before = np.cumsum(left_out)
        return before[lasts] == before[firsts]

    def _is_sound(self, number: int) -> bool:
        try:
            self._shard(number)
        except LeftOutError:
            return False
        return True

    def sentence(self, i: int) -> np.ndarray:
        """The token ids of sentence i."""
        return self.read(int(self.sentence_starts[i]), int(self.sentence_starts[i + 1]))

    def document(self, d: int) -> np.ndarray:
        """The token ids of document d."""
        first, last = self.document_starts[d], self.document_starts[d + 1]
        return self.read(int(self.sentence_starts[first]), int(self.sentence_starts[last]))

    def close(self) -> None:
        """Closes all files; the corpus cannot be read any more."""
        self._mapped.clear()
        self.sentence_starts = self.document_starts = np.empty(0, dtype=BOUNDARY)
        self.tokens = 0

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Corpus.open, (str(self._place), self._on_corrupt)  # a process that gets a copy maps the files itself

    def __repr__(self) -> str:
        return f"Corpus({str(self._place)!r}: {self.documents:,} documents, {self.tokens:,} tokens)"

    def _shard(self, number: int) -> np.ndarray:
        found = self._mapped.get(number)
        if found is None:
            with self._locks.setdefault(number, Lock()):  # threads that read ahead want other shards meanwhile
                found = self._mapped.get(number)
                if found is None:
                    found = self._opened(number)
            most = _MAPPED if self._place.near else _FETCHED
            while len(self._mapped) >= most:
                self._mapped.pop(next(iter(self._mapped)), None)
            self._mapped[number] = found
        return found

    def _opened(self, number: int) -> np.ndarray:
        """The tokens of a shard, mapped and compared, the first time, with what was prepared."""
        if number in self._left_out:
            raise LeftOutError(f"{self._place}/{shard_name(number)} is corrupt and left out")
        try:
            tokens = self._map(shard_name(number), self._token_type, self.index.shards[number].tokens)
            if number not in self._sound:
                self._check_content(number, tokens)
        except BothwaysError as error:
            if self._on_corrupt == "stop":
                raise
            self._left_out.add(number)
            what = str(error).partition(";")[0]
            warnings.warn(f"{what}; its examples are left out", BothwaysWarning, stacklevel=4)
            raise LeftOutError(f"{what}; it is left out") from None
        self._sound.add(number)
        return tokens

    def _check_content(self, number: int, tokens: np.ndarray) -> None:
        documents, sentences = self._before[number]
        shard = self.index.shards[number]
        sizes = np.diff(self.document_starts[documents : documents + shard.documents + 1])
        lengths = np.diff(self.sentence_starts[sentences : sentences + shard.sentences + 1])
        if digest(part.data for part in (tokens, lengths, sizes)) != shard.content:
            what = f"{self._place}/{shard_name(number)}, or its sentences' boundaries, are not what was prepared"
            raise BothwaysError(f"{what}; {_WAYS}, or leave such shards out: --on-corrupt skip")

    def _map(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        self._check_size(name, count * kind.itemsize)
        return self._place.map(name, kind, count)

    def _check_size(self, name: str, size: int) -> None:
        found = self._place.size(name)
        if found != size:
            what = "is missing" if found < 0 else f"has {found:,} bytes where its index says {size:,}"
            raise BothwaysError(f"{self._place}/{name} {what}; {_WAYS}")
