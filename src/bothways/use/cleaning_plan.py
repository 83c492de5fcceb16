"""What a corpus is cleaned from and how, checked before anything is written or thrown away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, need
from bothways.text.cleaning.evaluation import Evaluation, check_apart, read_evaluation
from bothways.text.cleaning.recipe import Recipe
from bothways.text.documents import Source, read_documents
from bothways.text.files import passes_once
from bothways.text.rows import are_files
from bothways.text.shards import digest


@dataclass(frozen=True)
class CleaningPlan:
    """A cleaning that can begin.

    Attributes:
        recipe: What is done to documents.
        sources: Those that are told apart.
        weights: Their shares of the text that results; None takes all of all.
        evaluation: Files that models are to be judged on.
        judged: What stands in them; None if there are none.
        where: None for here, ``"ray"`` for a cluster of Ray's.
        workers: How many processes.
    """

    recipe: Recipe
    sources: list[Source]
    weights: Sequence[float] | None
    evaluation: list[str | Path]
    judged: Evaluation | None
    where: str | None
    workers: int | None

    @property
    def reads(self) -> list[Any]:
        """All that is read."""
        return [*self.sources, *self.evaluation]

    @property
    def identity(self) -> dict[str, Any]:
        """What the cleaned text depends on but for the sources' own, as JSON would give it back."""
        judged = self.judged
        return self.recipe.identity() | {
            "weights": None if self.weights is None else [float(weight) for weight in self.weights],
            "evaluation": [] if judged is None else [Path(name).name for name in judged.files],
            "evaluation_digest": None if judged is None else digest(grams.tobytes() for grams in judged.grams.values()),
        }


def plan_cleaning(
    source: Source,
    *,
    weights: Sequence[float] | None = None,
    languages: Sequence[str] | None = None,
    skip: Sequence[str] | None = None,
    near: float | None = 0.8,
    shared_by: int = 20,
    evaluation: Sequence[str | Path] | None = None,
    overlap: int = 13,
    decontaminate: bool = False,
    workers: int | None = None,
    on: str | None = None,
) -> CleaningPlan:
    """What `bothways.clean_corpus` is to do, if all that it was given makes sense.

    Raises:
        BothwaysError: Something does not, or a package is missing.
    """
    need("jinja2", "corpus", "The data card")
    recipe = Recipe(
        languages=tuple(languages or ()),
        skip=tuple(skip or ()),
        near=near,
        shared_by=shared_by,
        overlap=overlap,
        decontaminate=decontaminate,
    )
    sources, evaluation = sources_of(source), list(evaluation or ())
    if decontaminate and not evaluation:
        raise BothwaysError("decontaminate needs the evaluation files whose text is to be left out; name them")
    if on not in (None, "ray"):
        raise BothwaysError(f"a corpus is cleaned here or on 'ray', not on {on!r}")
    if workers is not None and workers < 1:
        raise BothwaysError(f"workers must be 1 or more, not {workers}")
    check_apart(sources, evaluation)
    _check_weights(weights, sources)
    return CleaningPlan(recipe, sources, weights, evaluation, read_evaluation(evaluation, overlap), on, workers)


def sources_of(source: Source) -> list[Source]:
    """The sources that are told apart: the members of a list of files and folders, else the one."""
    return list(source) if isinstance(source, list | tuple) and are_files(source) else [source]


def begun(sources: Sequence[Source], text: str) -> list[Source]:
    """The same sources, of each of which the first document was read: what is wrong is told before any work.

    Args:
        sources: Those that are told apart.
        text: The column that holds the text.

    Raises:
        BothwaysError: As `read_documents` says.
    """
    return [_begun(one, text) for one in sources]


def _begun(source: Source, text: str) -> Source:
    documents = read_documents(source, text)
    first = next(documents)
    return source if reads_again(source) else chain([first], documents)


def reads_again(source: Source) -> bool:
    """Whether reading some of a source takes nothing from those who read after."""
    return isinstance(source, str | Path) and (Path(source).is_dir() or not passes_once(source))


def _check_weights(weights: Sequence[float] | None, sources: list[Source]) -> None:
    if weights is None:
        return
    if len(weights) != len(sources):
        raise BothwaysError(f"there are {len(weights)} weights for {len(sources)} sources; give one a source, in order")
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise BothwaysError(f"weights must be 0 or more and not all 0, not {list(weights)}")
