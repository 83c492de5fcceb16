"""An index: documents of any number in a store, asked by meaning, by words, or by both.

An index remembers the model that made its vectors, and asks no other. What is there already and has not changed is not
computed again, so a run that was killed goes on when the same is typed again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError, BothwaysWarning, closest
from bothways.run.errand import on_errand
from bothways.run.pooling import normalize
from bothways.use.identity import identity_of
from bothways.use.search.adding import Added, add_entries
from bothways.use.search.asking import DEPTH, WAYS, Wanted, answer
from bothways.use.search.documents import begun, read_entries
from bothways.use.search.filters import Filter, parse
from bothways.use.search.memory import MemoryStore
from bothways.use.search.settings import Settings, difference, other_model, settle
from bothways.use.search.store import Held, Store, make_store, open_store

if TYPE_CHECKING:
    from bothways.run.questions import Questions


class Index:
    """Documents that can be searched; made by `make`, opened by `open`.

    Attributes:
        place: Where it is, or None for one in memory.
        settings: What it remembers.
        store: What keeps its passages.
    """

    def __init__(
        self, place: str | None, store: Store, model: Questions | str | Path | None, how: Mapping[str, Any]
    ) -> None:
        self.place, self.store = place, store
        found = store.settings()
        self.settings = Settings(**{**found, "fields": tuple(found["fields"])})
        self._asked, self._how = model, dict(how)
        self._model: Questions | None = None

    @classmethod
    def make(
        cls,
        place: str | Path | None,
        model: Questions | str | Path,
        *,
        vectors: str = "float32",
        dims: int | None = None,
        passage_tokens: int | None = None,
        overlap: int = 32,
        language: str = "english",
        overwrite: bool = False,
        device: str | None = None,
        engine: str | None = None,
        precision: str = "float32",
    ) -> Index:
        """Makes an index, or opens it if there is one of the same settings.

        Args:
            place: A folder, ``s3://...``, ``postgresql://host/database#name``, or None for one in memory.
            model: What makes the vectors: a model, or what `bothways.load` opens.
            vectors: How they are kept: ``"float32"``, ``"int8"`` or ``"binary"`` (`bothways.use.search.codes`).
            dims: How many of their first values are kept, for models trained so that these alone do.
            passage_tokens: Longer documents are cut into passages of so many tokens, on borders of sentences; None for
                256, or what the model takes.
            overlap: Whole sentences of up to so many tokens stand in both of two neighbouring passages.
            language: Whose words are brought to their stems for search by words; ``"none"`` leaves them as they are.
            overwrite: Whether an index that is there is thrown away.
            device: As `bothways.load` takes it, for a model that is opened here; so are the next two.
            engine: What runs it.
            precision: What it multiplies in.

        Raises:
            BothwaysError: The place is something else or cannot be reached, an index of other settings is there, the
                one to throw away is being written, or a setting makes no sense.
        """
        store = None if place is None or overwrite else open_store(place)  # a server that is away says so at once
        how = {"device": device, "engine": engine, "precision": precision}
        loaded = _load(model, how)
        settings, shape = settle(loaded, vectors, dims, passage_tokens, overlap, language)
        plain = {**asdict(settings), "fields": []}
        if place is None:
            return cls(None, MemoryStore(shape, plain), loaded, how)
        if store is None:
            store = make_store(place, shape, plain, overwrite=overwrite)
        index = cls(str(place), store, loaded, how)
        if wrong := difference(index.place, (index.settings, store.shape), (settings, shape)):
            raise wrong
        return index

    @classmethod
    def build(
        cls,
        place: str | Path | None,
        model: Questions | str | Path,
        source: Any,
        *,
        id: str | None = None,
        text: str | None = None,
        title: str | None = None,
        lines: bool = False,
        prune: bool = False,
        **how: Any,
    ) -> tuple[Index, Added]:
        """Makes an index of documents; until the first of them is read nothing is made, and nothing is thrown away.

        Args:
            place: As for `make`, and so is `model`.
            model: What makes the vectors.
            source: As for `add`, and so are the next ones.
            id: The column of ids.
            text: The column of texts.
            title: The column of titles.
            lines: Whether each line of a file is a document.
            prune: Whether documents that this source does not hold are deleted.
            how: Anything else that `make` takes.

        Returns:
            The index, and what was added.

        Raises:
            BothwaysError: As for `make` and `add`.
        """
        entries = begun(read_entries(source, id=id, text=text, title=title, lines=lines))
        index = cls.make(place, model, **how)
        return index, add_entries(index, entries, source, prune)

    @classmethod
    def open(
        cls,
        place: str | Path,
        model: Questions | str | Path | None = None,
        *,
        device: str | None = None,
        engine: str | None = None,
        precision: str = "float32",
    ) -> Index:
        """Opens an index.

        Args:
            place: As for `make`.
            model: The model that made its vectors, if it is not where it was; opened when it is first needed.
            device: As for `make`; so are the next two.
            engine: What runs the model.
            precision: What it multiplies in.

        Raises:
            BothwaysError: There is no index, or it cannot be reached.
        """
        store = open_store(place)
        if store is None:
            raise BothwaysError(f"there is no index {place}; bothways index build makes one")
        return cls(str(place), store, model, {"device": device, "engine": engine, "precision": precision})

    @property
    def model(self) -> Questions:
        """The model that made its vectors.

        Raises:
            BothwaysError: It is not where it was, or it is another one.
        """
        if self._model is None:
            try:
                loaded = _load(self._asked or self.settings.model, self._how)
            except BothwaysError as error:
                if self._asked is not None:
                    raise
                made = f"the index {self.place} was made by the model {self.settings.model}"
                raise BothwaysError(f"{made}, which cannot be opened ({error}); name it with --model") from error
            if identity_of(loaded) != self.settings.identity:
                raise other_model(self.place, self.settings.model, loaded.name)
            self._model = loaded
        return self._model

    def add(
        self,
        source: Any,
        *,
        id: str | None = None,
        text: str | None = None,
        title: str | None = None,
        lines: bool = False,
        prune: bool = False,
    ) -> Added:
        """Adds documents; those of a known id are replaced if they have changed, and else left as they are.

        Args:
            source: As `bothways.use.search.documents.read_entries` takes it, and so are `id`, `text`, `title`, `lines`.
            id: The column of ids.
            text: The column of texts.
            title: The column of titles, which stand before every passage.
            lines: Whether each line of a file is a document.
            prune: Whether documents that this source does not hold are deleted.

        Raises:
            BothwaysError: A document cannot be read, two have one id, another run is writing, the index was made anew
                with another model, or the store cannot be reached; what was added before is kept.
        """
        entries = read_entries(source, id=id, text=text, title=title, lines=lines)
        return add_entries(self, entries, source, prune)

    def delete(self, documents: Sequence[str] | None = None, *, where: str | None = None) -> int:
        """Deletes documents.

        Args:
            documents: Their ids.
            where: A filter (`bothways.use.search.filters`); those that pass it are deleted too.

        Returns:
            How many.

        Raises:
            BothwaysError: Nothing is named, or an id is not there; then nothing is deleted.
        """
        if not documents and where is None:
            raise BothwaysError("name documents by their ids, or by a filter with --where")
        self.look()
        named, passing = list(documents or ()), self._filter(where)
        with self.store.writing():
            known = self.store.digests(named)
            if missing := [each for each in named if each not in known]:
                raise BothwaysError(f"there is no document {missing[0]!r} in {self.place}; nothing was deleted")
            gone = list(dict.fromkeys([*named, *(self.store.documents(passing) if passing else ())]))
            for begin in range(0, len(gone), 1000):
                some = gone[begin : begin + 1000]
                self.store.replace(some, [], np.zeros((0, self.store.shape.width), dtype=np.float32))
        return len(gone)

    def search(
        self,
        query: Any,
        *,
        top: int = 10,
        by: str = "hybrid",
        where: str | None = None,
        reranker: Any = None,
        reranker_share: float = 1.0,
        depth: int = DEPTH,
        exact: bool = False,
    ) -> Any:
        """Finds documents.

        Args:
            query: One or several.
            top: How many documents are wanted.
            by: ``"meaning"`` (vectors), ``"words"`` (BM25), or ``"hybrid"``: both, fused by their reciprocal ranks.
            where: A filter on the metadata, such as ``"year >= 2010 and topic = sport"``.
            reranker: A cross-encoder, or what `bothways.load` opens, that orders what was found anew.
            reranker_share: What its order counts beside the first one, above 0: 1 lets it decide alone; below,
                reciprocal ranks of both orders are added in these shares.
            depth: How many passages are found by meaning and by words each, and how many are reranked.
            exact: Whether all vectors are compared, where an approximate index would find them.

        Returns:
            For one query a list of hits, best first, each document once; for several a list of such lists.

        Raises:
            BothwaysError: There is no such way, the filter cannot be read, a query is empty, or the model is not the
                one that made the vectors.
        """
        queries = [query] if isinstance(query, str) else list(query)
        if by not in WAYS:
            raise BothwaysError(f"search goes by {', '.join(WAYS)}, not {by!r}{closest(by, WAYS)}")
        if top < 1 or depth < 1:
            raise BothwaysError(f"top and depth should be at least 1, not {top=} and {depth=}")
        if not 0 < reranker_share <= 1:
            raise BothwaysError(f"reranker_share should be above 0 and at most 1, not {reranker_share:g}")
        for each in queries:
            if not isinstance(each, str) or not each.strip():
                raise BothwaysError(f"a query should be a text with words in it, not {each!r}")
        self.look()
        judge = None if reranker is None else _load(reranker, self._how)
        wanted = Wanted(top, by, self._filter(where), judge, reranker_share, max(depth, top), exact)
        vectors = self._queries(queries) if by != "words" else [None] * len(queries)
        found = [answer(self.store, *each, wanted) for each in zip(queries, vectors, strict=True)]
        return found[0] if isinstance(query, str) else found

    def held(self) -> Held:
        """What it holds."""
        return self.store.held()

    def _queries(self, queries: list[str]) -> np.ndarray:
        """``(queries, E)`` float32."""
        with on_errand(None) as errand:
            found = self.model.embed(queries, prompt="query", dims=self.settings.dims)
        if errand.truncation.texts and self.model.max_length is not None:
            warnings.warn(
                f"{errand.truncation.texts} of {len(queries)} queries are longer than the {self.model.max_length:,} "
                f"tokens that the model reads: by meaning, {errand.truncation.tokens:,} tokens are not searched for",
                BothwaysWarning,
                stacklevel=3,
            )
        return normalize(found) if self.store.shape.similarity == "cosine" else found

    def embed(self, texts: list[str]) -> np.ndarray:
        """``(texts, E)`` float32: passages as the store keeps them."""
        found = self.model.embed(texts, prompt="document", dims=self.settings.dims)
        return normalize(found) if self.store.shape.similarity == "cosine" else found

    def look(self) -> None:
        """Reads anew what the index remembers: another process may have added to it, or made it anew.

        Raises:
            BothwaysError: It was made anew with another model.
        """
        found = self.store.settings()
        if found["identity"] != self.settings.identity:
            raise BothwaysError(f"the index {self.place} was made anew with another model meanwhile; open it again")
        self.settings = replace(self.settings, fields=tuple(found["fields"]))

    def _filter(self, where: str | None) -> Filter | None:
        return None if where is None else parse(where, self.settings.fields)


def _load(model: Questions | str | Path, how: Mapping[str, Any]) -> Any:
    if not isinstance(model, str | Path):
        return model
    from bothways.run.opening import load

    return load(model, **{name: value for name, value in how.items() if value is not None})
