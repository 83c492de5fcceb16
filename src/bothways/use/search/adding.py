"""How documents get into an index: read, cut, embedded and kept some thousands of passages at a time.

Each time the store takes what is new in one step. So a kill loses what was not kept yet and nothing else, and the same
call goes on after what is there: a document whose digest has not changed is passed over.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.progress import progress, say
from bothways.run.memory import give_back
from bothways.run.stream import Threads, in_order, warn_of
from bothways.text.truncation import Truncation
from bothways.use.amount import rows_of
from bothways.use.search.documents import Entry
from bothways.use.search.passages import Splitter
from bothways.use.search.store import Passage

if TYPE_CHECKING:
    from bothways.use.search.index import Index

PASSAGES = 2048
"""Passages that are kept at once."""
ENTRIES = 256
"""Documents that are looked up at once."""


@dataclass
class Added:
    """What was done.

    Attributes:
        documents: Documents read.
        new: Of these, those that were not there.
        changed: Those that were there and have changed.
        unchanged: Those that were there as they are.
        empty: Those without text, which are left out.
        copies: Those without an id of their own whose text stood before already.
        deleted: Documents that the source does not hold, with `prune`.
        passages: Passages embedded.
        seconds: How long it took.
    """

    documents: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    empty: int = 0
    copies: int = 0
    deleted: int = 0
    passages: int = 0
    seconds: float = 0.0
    first_empty: str = field(default="", repr=False)


class Part(NamedTuple):
    """What is kept at once.

    Attributes:
        gone: Documents that are there and are replaced, or hold no text any more.
        passages: The new passages.
    """

    gone: list[str]
    passages: list[Passage]


def add_entries(index: Index, entries: Iterator[Entry], source: Any, prune: bool) -> Added:
    """Adds documents; as `Index.add` says."""
    added, cut = Added(), Truncation()
    store, settings = index.store, index.settings
    model = index.model
    prompt = len(model.tokenizer.encode([model.sentence.prompt("document")], special_tokens=False).token_ids)
    splitter = Splitter(model.tokenizer, settings.passage_tokens - prompt, settings.overlap)
    with store.writing():
        index.look()
        reading = _Reading(index, splitter, added)
        total = rows_of(source) if isinstance(source, str) else None
        with _telling(index, added), progress("Indexing", total, "documents") as job:
            with Threads(lambda texts: index.embed(texts) if texts else None) as threads:
                for part, done in in_order(reading.parts(entries), threads, _texts):
                    vectors = np.zeros((0, store.shape.width)) if done.answers is None else done.answers
                    reading.remember()
                    if part.gone or part.passages:
                        store.replace(part.gone, part.passages, vectors)
                    added.passages += len(part.passages)
                    cut += done.truncation
                    give_back()
                    job.reach(added.documents, f"{added.passages:,} passages")
            if not added.documents - added.empty:
                raise BothwaysError("the source holds no text to index")
            if prune:
                added.deleted = _prune(index, reading.seen)
            store.tidy()
            added.seconds = job.seconds
    warn_of(cut, model)
    if added.empty:
        warnings.warn(
            f"{added.empty:,} of {added.documents:,} documents hold no text and were left out, the first at "
            f"{added.first_empty}",
            BothwaysWarning,
            stacklevel=3,
        )
    return added


def _texts(part: Part) -> tuple[list[str]]:
    return ([each.text for each in part.passages],)


class _Reading:
    """Documents as parts to keep.

    Attributes:
        seen: Hashes of the ids that were read.
    """

    def __init__(self, index: Index, splitter: Splitter, added: Added) -> None:
        self._index, self._splitter, self._added = index, splitter, added
        self._fields = dict.fromkeys(index.settings.fields)
        self.seen: set[int] = set()

    def remember(self) -> None:
        """Keeps the names in the metadata, for filters."""
        index = self._index
        if self._fields.keys() - set(index.settings.fields):
            now = index.store.settings()  # where nothing keeps a second writer away, it may have kept names too
            fields = list(dict.fromkeys([*now["fields"], *self._fields]))
            index.settings = replace(index.settings, fields=tuple(fields))
            index.store.remember({**now, "fields": fields})

    def parts(self, entries: Iterator[Entry]) -> Iterator[Part]:
        """What is new or has changed, in parts of whole documents and some thousand passages."""
        part = Part([], [])
        while some := list(islice(entries, ENTRIES)):
            fresh = self._fresh(some)
            cut = self._splitter.passages([each.text for each, _ in fresh], [each.title for each, _ in fresh])
            for (each, known), texts in zip(fresh, cut, strict=True):
                if known:
                    part.gone.append(each.document)
                digest = each.digest
                self._fields.update(dict.fromkeys(each.metadata))
                for place, text in enumerate(texts):
                    part.passages.append(Passage(each.document, place, text, each.metadata, digest))
                if len(part.passages) >= PASSAGES:
                    yield part
                    part = Part([], [])
        yield part

    def _fresh(self, entries: list[Entry]) -> list[tuple[Entry, bool]]:
        """Those that are not there as they are, and whether they are there at all."""
        wanted = [each for each in entries if self._counted(each)]
        known = self._index.store.digests([each.document for each in wanted])
        fresh = []
        for each in wanted:
            if known.get(each.document) == each.digest:
                self._added.unchanged += 1
            elif each.document in known:
                self._added.changed += 1
                fresh.append((each, True))
            elif each.text or each.title:
                self._added.new += 1
                fresh.append((each, False))
        return fresh

    def _counted(self, entry: Entry) -> bool:
        """Notes a document; false for one that is left out."""
        added = self._added
        added.documents += 1
        if not entry.text.strip() and not entry.title.strip():
            added.first_empty = added.first_empty or entry.where or entry.document
            added.empty += 1
        key = hash(entry.document)
        if key not in self.seen:
            self.seen.add(key)
            return True
        if entry.own:
            raise BothwaysError(
                f"{entry.where}: the id {entry.document!r} stands twice in the source; each document needs its own"
            )
        added.copies += 1
        return False


def _prune(index: Index, seen: set[int]) -> int:
    """Deletes documents that were not seen; how many."""
    gone = [each for each in index.store.documents() if hash(each) not in seen]
    for begin in range(0, len(gone), 1000):
        index.store.replace(gone[begin : begin + 1000], [], np.zeros((0, index.store.shape.width), dtype=np.float32))
    return len(gone)


@contextmanager
def _telling(index: Index, added: Added) -> Iterator[None]:
    """Says after whatever went wrong what is kept all the same."""
    try:
        yield
    except BaseException as error:
        if not added.passages:
            raise
        kept = f"{added.passages:,} passages are kept in {index.place}, and the same command goes on after them"
        if isinstance(error, BothwaysError) and "kept" not in str(error):
            raise BothwaysError(f"{error}; {kept}") from error
        if not isinstance(error, BothwaysError):
            say(kept)
        raise
