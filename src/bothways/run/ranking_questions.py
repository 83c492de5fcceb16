"""What a model is asked about queries and the texts that may answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from bothways.run.answering import late, rerank, sparse
from bothways.run.answers import Ranked, as_list
from bothways.run.awaiting import Awaiting

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class RankingQuestions(Awaiting):
    """A model that runs, and puts texts in order."""

    @overload
    def rerank(self, query: str, texts: Sequence[str], top: int | None = None) -> list[Ranked]: ...  # type: ignore[overload-overlap]
    @overload
    def rerank(
        self, query: Sequence[str], texts: Sequence[Sequence[str]], top: int | None = None
    ) -> list[list[Ranked]]: ...
    def rerank(self, query: Any, texts: Any, top: int | None = None) -> Any:
        """Puts texts in the order in which they answer a query.

        Args:
            query: One query or several.
            texts: The texts to put in order; for several queries a list of such lists.
            top: How many are wanted; None for all.

        Returns:
            For one query its texts, best first, each with its place among those given and its score; for several
            queries a list of such lists.

        Raises:
            BothwaysError: The model does not compare queries with texts, or a query is empty.
        """
        alone = isinstance(query, str)
        found = rerank.rerank(self, [query] if alone else query, [texts] if alone else texts, top)
        return found[0] if alone else found

    def sparse_vectors(self, texts: str | Sequence[str], *, top: int | None = None) -> csr_array:
        """Texts as weights of the words of the vocabulary, most of them 0 (SPLADE, Formal et al. 2021).

        Args:
            texts: One text or several.
            top: How many words of each text are kept at most, the heaviest; None keeps all.

        Returns:
            ``(texts, V)`` float32, one row for a single text too; how well two texts go together is the product of
            their rows. The windows of a long text give each word the largest of their weights.

        Raises:
            BothwaysError: The model has no masked-token head.
        """
        return sparse.sparse_vectors(self, as_list(texts), top)

    @overload
    def sparse_terms(self, texts: str, top: int = 20) -> dict[str, float]: ...  # type: ignore[overload-overlap]
    @overload
    def sparse_terms(self, texts: Sequence[str], top: int = 20) -> list[dict[str, float]]: ...
    def sparse_terms(self, texts: Any, top: int = 20) -> Any:
        """The words that a text is found by, with their weights.

        Args:
            texts: One text or several.
            top: How many words at most.

        Returns:
            For one text its words as in the vocabulary, the heaviest first; for several a list of such dictionaries.

        Raises:
            BothwaysError: The model has no masked-token head.
        """
        found = sparse.sparse_terms(self, as_list(texts), top)
        return found[0] if isinstance(texts, str) else found

    @overload
    def token_vectors(self, texts: str, *, query: bool = False) -> np.ndarray: ...  # type: ignore[overload-overlap]
    @overload
    def token_vectors(self, texts: Sequence[str], *, query: bool = False) -> list[np.ndarray]: ...
    def token_vectors(self, texts: Any, *, query: bool = False) -> Any:
        """A vector for each token, for late interaction (ColBERT, Khattab and Zaharia 2020).

        Args:
            texts: One text or several.
            query: Whether they are queries, which are read otherwise: short, and filled up with mask tokens where that
                is how the model was trained. Punctuation in texts has no vector.

        Returns:
            ``(L, P)`` float32 of length 1 for one text, a list of them for several.

        Raises:
            BothwaysError: The model has no head for it.
        """
        found = late.token_vectors(self, as_list(texts), query)
        return found[0] if isinstance(texts, str) else found

    def maxsim(self, queries: Sequence[np.ndarray], texts: Sequence[np.ndarray]) -> np.ndarray:
        """How well texts answer queries: for each token of a query its best product with one of a text, summed.

        Args:
            queries: ``(L, P)`` each, as `token_vectors` gives them with ``query=True``.
            texts: ``(L, P)`` each.

        Returns:
            ``(queries, texts)`` float32.
        """
        return late.maxsim(queries, texts)
