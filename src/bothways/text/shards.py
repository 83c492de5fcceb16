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
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.progress import progress

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


class LeftOutError(BothwaysError):
    """What was asked for lies in a shard that is corrupt and, as was asked for too, left out."""


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

    def __init__(self, folder: Path, index: Index, on_corrupt: OnCorrupt = "stop") -> None:
        self.folder, self.index = folder, index
        self.tokens, self.sentences = index.total("tokens"), index.total("sentences")
        self.documents, self.fingerprint = index.total("documents"), index.fingerprint
        self._shard_starts = np.cumsum([0, *(shard.tokens for shard in index.shards)])
        self._token_type, self._on_corrupt = TOKEN_TYPES[index.token_type], on_corrupt
        self.sentence_starts = self._map(SENTENCES, BOUNDARY, self.sentences + 1)
        self.document_starts = self._map(DOCUMENTS, BOUNDARY, self.documents + 1)
        self._mapped: dict[int, np.ndarray] = {}
        self._tokenizer: Tokenizer | None = None
        self._sound: set[int] = set()
        self._before = np.cumsum([(0, 0), *((shard.documents, shard.sentences) for shard in index.shards)], axis=0)
        self._left_out = np.zeros(len(index.shards), dtype=bool)
        if on_corrupt == "skip":
            self._leave_out_corrupt()
        else:
            for number, shard in enumerate(index.shards):
                self._check_size(shard_name(number), shard.tokens * self._token_type.itemsize)

    @classmethod
    def open(cls, folder: str | Path, on_corrupt: OnCorrupt = "stop") -> Corpus:
        """Opens a prepared corpus; nothing is written, nothing is read but the index.

        Args:
            folder: Where it lies.
            on_corrupt: What is done about shards that are not what was prepared. ``"stop"`` says so when one is first
                read. ``"skip"`` reads all of them now, and leaves the corrupt ones out.

        Raises:
            BothwaysError: There is no corpus, its preparation has not finished, or a file is missing or cut short.
        """
        if on_corrupt not in ("stop", "skip"):
            raise BothwaysError(f"on_corrupt must be stop or skip, not {on_corrupt!r}")
        path = Path(folder)
        if (path / INDEX).is_file():
            return cls(path, Index.read(path / INDEX), on_corrupt)
        if (path / UNFINISHED).is_file():
            raise BothwaysError(f"the corpus in {path} is not finished; prepare it again with the same source and out")
        what = "is not a prepared corpus" if path.is_dir() else "does not exist"
        raise BothwaysError(f"{path} {what}; prepare a corpus first: bothways corpus prepare")

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens, loaded when first asked for."""
        if self._tokenizer is None:
            from bothways.text.tokenizer import Tokenizer

            self._tokenizer = Tokenizer.load(self.folder / TOKENIZER)
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
        left_out = np.concatenate(([0], np.cumsum(self._left_out)))
        first = np.searchsorted(self._shard_starts, begins, side="right") - 1
        return left_out[np.searchsorted(self._shard_starts, ends)] == left_out[first]

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
        return Corpus.open, (self.folder, self._on_corrupt)  # a process that gets a copy maps the files itself

    def __repr__(self) -> str:
        return f"Corpus({str(self.folder)!r}: {self.documents:,} documents, {self.tokens:,} tokens)"

    def _shard(self, number: int) -> np.ndarray:
        if self._left_out[number]:
            raise LeftOutError(f"{self.folder / shard_name(number)} is corrupt and left out")
        if number not in self._mapped:
            while len(self._mapped) >= _MAPPED:
                self._mapped.pop(next(iter(self._mapped)))
            self._mapped[number] = self._map(shard_name(number), self._token_type, self.index.shards[number].tokens)
            self._check_content(number)
        return self._mapped[number]

    def _check_content(self, number: int) -> None:
        """Makes sure, once, that the tokens and boundaries of a mapped shard are those that were prepared."""
        if number in self._sound:
            return
        documents, sentences = self._before[number]
        shard = self.index.shards[number]
        sizes = np.diff(self.document_starts[documents : documents + shard.documents + 1])
        lengths = np.diff(self.sentence_starts[sentences : sentences + shard.sentences + 1])
        if digest(part.data for part in (self._mapped[number], lengths, sizes)) != shard.content:
            del self._mapped[number]
            raise BothwaysError(
                f"{self.folder / shard_name(number)} or its boundaries are not what was prepared; copy the corpus "
                "again, or remove it and prepare it again, or leave such shards out: --on-corrupt skip"
            )
        self._sound.add(number)

    def _leave_out_corrupt(self) -> None:
        """Reads every shard, and leaves those out that are not what was prepared."""
        with progress("Checking shards", total=len(self.index.shards), unit="shards") as job:
            for number, shard in enumerate(self.index.shards):
                try:
                    if shard.tokens:
                        self._shard(number)
                except BothwaysError as error:
                    self._left_out[number] = True
                    warnings.warn(f"{error.args[0].partition(';')[0]}; it is left out", BothwaysWarning, stacklevel=4)
                job.advance()
        if self._left_out.all():
            raise BothwaysError(f"no shard of the corpus in {self.folder} is what was prepared; copy it again")

    def _map(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        self._check_size(name, count * kind.itemsize)
        return np.asarray(np.memmap(self.folder / name, dtype=kind, mode="r", shape=(count,)))

    def _check_size(self, name: str, size: int) -> None:
        path = self.folder / name
        found = path.stat().st_size if path.is_file() else -1
        if found != size:
            what = "is missing" if found < 0 else f"has {found:,} bytes where its index says {size:,}"
            raise BothwaysError(f"{path} {what}; copy the corpus again, or remove it and prepare it again")
