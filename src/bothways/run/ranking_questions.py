"""What a model is asked about queries and the texts that may answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from bothways.run.answering import rerank
from bothways.run.answers import Ranked
from bothways.run.awaiting import Awaiting


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
