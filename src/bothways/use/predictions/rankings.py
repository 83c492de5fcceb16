"""Texts that may answer queries: a score each, or an order of a query's texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.rankings import Ranking, read_rankings
from bothways.text.rows import Rows, read_rows
from bothways.use.formats import Slice
from bothways.use.predictions.shared import Asked, Question, Wish, beside

if TYPE_CHECKING:
    from bothways.run.questions import Questions


def rerank(model: Questions, source: Any, wish: Wish) -> Question:
    """For rows of a query and a text the ``prediction``: a score, the more the better.

    For rows of a query and a list of texts the ``prediction`` is the list with the best first, and beside it their
    ``places`` in the row and their ``scores``.
    """
    table = read_rows(source)
    rankings = read_rankings(table, wish.text, wish.text_pair, labelled=False)
    first = next(rankings, None)
    listed = first is not None and first.listed

    def score(queries: list[str], texts: list[tuple[str, ...]]) -> Slice:
        return {"prediction": model.score_pairs(queries, [own[0] for own in texts])}

    def order(queries: list[str], texts: list[tuple[str, ...]]) -> Slice:
        ranked = model.rerank(queries, texts)
        return {
            "prediction": [[one.text for one in own] for own in ranked],
            "places": [[one.place for one in own] for own in ranked],
            "scores": [[one.score for one in own] for own in ranked],
        }

    asked = _asked(table, rankings if first is None else chain([first], rankings), wish.keep, listed)
    return Question(asked, order if listed else score, table=source)


def _asked(rows: Rows, rankings: Iterator[Ranking], keep: bool, listed: bool) -> Iterator[Asked]:
    for one in rankings:
        if one.listed != listed:
            kinds = ("a list of texts", "one text") if one.listed else ("one text", "a list of texts")
            raise BothwaysError(
                f"{one.where}: has {kinds[0]} where the first row has {kinds[1]}; give all rows one kind"
            )
        given = beside(rows, one.row, [], keep, one.where)
        asked = {"query": one.query} if listed else {"query": one.query, "text": one.texts[0]}
        yield Asked((one.query, one.texts), given if keep else asked, one.where)


late = sparse = rerank
