"""What a model is asked about texts as numbers: hidden states, vectors, and how alike they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from bothways.run import similarity, stream
from bothways.run.answering import vectors
from bothways.run.answers import as_list
from bothways.run.awaiting import Awaiting


class VectorQuestions(Awaiting):
    """A model that runs, and turns texts into numbers."""

    @overload
    def hidden(self, texts: str, layers: int | Sequence[int] | None = None) -> np.ndarray: ...  # type: ignore[overload-overlap]
    @overload
    def hidden(self, texts: Sequence[str], layers: int | Sequence[int] | None = None) -> list[np.ndarray]: ...
    def hidden(self, texts: Any, layers: int | Sequence[int] | None = None) -> Any:
        """The hidden state of each token, special tokens included.

        Args:
            texts: One text, or several.
            layers: The layer whose output is wanted, or several of them: 1 is the first, 0 stands for what goes into
                it, -1 for the last one, -2 for that before it. None takes the last.

        Returns:
            ``(L, D)`` float32 for one text, or ``(N, L, D)`` of N layers where several are named; a list of them in the
            order of the texts for several. Under the policy ``window`` a long text gives its windows one after another.

        Raises:
            BothwaysError: There is no such layer, or the model is exported and gives the last one alone.
        """
        found = vectors.hidden(self, as_list(texts), layers)
        return found[0] if isinstance(texts, str) else found

    @overload
    def embed(
        self,
        texts: Iterator[str],
        pooling: str | None = None,
        *,
        normalize: bool | None = None,
        prompt: str | None = None,
        dims: int | None = None,
    ) -> Iterator[np.ndarray]: ...
    @overload
    def embed(
        self,
        texts: str | Sequence[str],
        pooling: str | None = None,
        *,
        normalize: bool | None = None,
        prompt: str | None = None,
        dims: int | None = None,
    ) -> np.ndarray: ...
    def embed(
        self,
        texts: Any,
        pooling: str | None = None,
        *,
        normalize: bool | None = None,
        prompt: str | None = None,
        dims: int | None = None,
    ) -> np.ndarray | Iterator[np.ndarray]:
        """One vector a text.

        Args:
            texts: One text, several, or an iterator (a generator, an open file) of any number.
            pooling: ``"mean"``, ``"cls"``, ``"max"``, ``"mean_sqrt"``, ``"last"``, ``"weighted_mean"``,
                ``"attention"`` (`bothways.run.pooling.POOLINGS`), or several joined by ``+``; None takes what the model
                was trained with, else the mean. A model's dense layer reads the pooling that it was trained with; any
                other gives the pooled vectors as they are.
            normalize: Whether vectors are scaled to length 1; None takes what the model was trained with.
            prompt: What is put before each text: the name of one of the model's prompts, such as ``"query"``, or the
                text itself; ``""`` for nothing, None for the model's default.
            dims: How many of the first values are kept, before vectors are scaled: for models trained so that these
                alone do (Kusupati et al. 2022, "Matryoshka Representation Learning"). None keeps all.

        Returns:
            ``(E,)`` float32 for one text, ``(texts, E)`` for several. For an iterator an iterator of ``(E,)`` in the
            order of the texts: some thousands of them are in memory at a time, and tokens are made ahead by a thread.
            The windows of a long text are averaged, weighted by their tokens.

        Raises:
            BothwaysError: There is no such pooling or prompt, vectors have fewer values, or something is not a text.
        """
        wish = vectors.Wish(pooling, normalize, prompt, dims)
        if isinstance(texts, Iterator):
            vectors.check(self, wish)
            return stream.answers(self, lambda _, some: vectors.embed(self, some, wish), texts)
        found = vectors.embed(self, as_list(texts), wish)
        return found[0] if isinstance(texts, str) else found

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """How alike vectors are, by the model's own measure: each of the first with each of the second.

        Args:
            a: ``(N, E)`` or ``(E,)`` vectors that `embed` gave.
            b: ``(M, E)`` or ``(E,)`` others.

        Returns:
            ``(N, M)`` float32, more is more alike: cosines, dot products, or distances with a minus.

        Raises:
            BothwaysError: The vectors differ in width.
        """
        return similarity.similarity(a, b, self.sentence.similarity)

    @property
    def vector_width(self) -> int:
        """E, how many values a vector of `embed` has."""
        return vectors.width(self, self.sentence.pooling)
