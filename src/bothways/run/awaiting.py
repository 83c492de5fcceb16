"""What a model is asked with ``await``: the questions of many callers are answered together (`bothways.run.waiting`).

From any number of tasks, threads and event loops. What goes wrong with a text is told to its caller alone; a caller
that is cancelled leaves the queue, and a batch that all its callers have left is not computed to its end. Where more is
asked than can be answered, callers wait before the queue, and what is cut of long texts is counted in `truncated`, not
warned of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bothways.run.runner import Runner


class Awaiting(Runner):
    """A model that runs, and is waited for."""

    async def aembed(
        self,
        texts: str | Sequence[str],
        pooling: str | None = None,
        *,
        normalize: bool | None = None,
        prompt: str | None = None,
        dims: int | None = None,
    ) -> np.ndarray:
        """As `embed`, for one text or several."""
        wish: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "prompt": prompt, "dims": dims}
        return await self._ask("embed", texts, None, **wish)

    async def aclassify(self, texts: Any, pairs: Any = None) -> Any:
        """As `classify`."""
        return await self._ask("classify", texts, pairs, two=True)

    async def ascore(self, texts: Any, pairs: Any = None) -> Any:
        """As `score`."""
        return await self._ask("score", texts, pairs, two=True)

    async def atag(self, texts: Any) -> Any:
        """As `tag`."""
        return await self._ask("tag", texts, None)

    async def aanswer(self, question: Any, context: Any, *, top: int = 1) -> Any:
        """As `answer`."""
        return await self._ask("answer", question, context, two=True, top=top)

    async def achoose(self, prompt: Any, choices: Any) -> Any:
        """As `choose`."""
        return await self._ask("choose", prompt, [choices] if isinstance(prompt, str) else choices, two=True)

    async def azero_shot(self, texts: Any, labels: Sequence[str], **options: Any) -> Any:
        """As `zero_shot`."""
        return await self._ask("zero_shot", texts, None, labels=list(labels), **options)

    async def afill_mask(self, texts: Any, top: int = 5) -> Any:
        """As `fill_mask`."""
        return await self._ask("fill_mask", texts, None, top=top)

    async def arerank(self, query: Any, texts: Any, top: int | None = None) -> Any:
        """As `rerank`."""
        return await self._ask("rerank", query, [texts] if isinstance(query, str) else texts, two=True, top=top)

    async def asparse_terms(self, texts: Any, top: int = 20) -> Any:
        """As `sparse_terms`."""
        return await self._ask("sparse_terms", texts, None, top=top)

    async def _ask(self, method: str, first: Any, second: Any, *, two: bool = False, **options: Any) -> Any:
        columns: list[list[Any] | None] = [_column(first)]
        if two:
            columns.append(None if second is None else _column(second))
        if self._turns.requests is None:
            from bothways.run.waiting import RequestQueue

            with self._turns.count:
                self._turns.requests = self._turns.requests or RequestQueue(self)
        found = await self._turns.requests.ask(method, *columns, **options)
        return found[0] if isinstance(first, str) else found


def _column(given: Any) -> list[Any]:
    """What is asked of one text or of several, whose own question says what each must be: words, or lists of texts."""
    return [given] if isinstance(given, str) else list(given)
