"""Hard negatives: for each pair of texts that belong together, texts of an own corpus that only look as if they did.

The nearest texts of the corpus, but not what is known to belong, and none so near that it may belong unbeknown: it must
be farther away than what does by a margin (Qu et al. 2021, "RocketQA", section 3.2, on false negatives; Moreira et al.
2024, "NV-Retriever", section 3, on margins relative to the positive). A cross-encoder may judge in place of the
vectors, as there.

Shapes: N pairs of a window, C texts of the corpus, E width of a vector, K candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.tasks.labelled import digest
from bothways.learn.vectors.data import FORMS, VectorData, read_vectors, text_ids
from bothways.progress import say
from bothways.text.columns import Columns as TextColumns
from bothways.text.columns import find_text, read_examples
from bothways.text.kept import Texts
from bothways.use import bulk
from bothways.use.formats import Slice
from bothways.use.identity import identity_of, settings_of
from bothways.use.job import BulkResult, How, run_job
from bothways.use.predictions.shared import Asked, Question
from bothways.use.target import find_target
from bothways.use.texts import read_texts

if TYPE_CHECKING:
    from bothways.run.questions import Questions
from bothways.run.similarity import nearest

KINDS = (".jsonl", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Which negatives are taken. A mistake raises a BothwaysError that names it.

    Attributes:
        top: How many for each pair, at most.
        among: Of how many of the nearest texts.
        skip: How many of the nearest are passed over first.
        margin: How much less like the first text than the second one a negative must be.
        relative: What share of the second text's likeness it may have at most, such as 0.95; None: any.
        draw: The ``"nearest"`` that do, or some of them by ``"chance"``.
        seed: Of the chance.
    """

    top: int = 5
    among: int = 100
    skip: int = 0
    margin: float = 0.0
    relative: float | None = None
    draw: Literal["nearest", "chance"] = "nearest"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("top", 1), ("among", 1), ("skip", 0)):
            if getattr(self, name) < least:
                raise BothwaysError(f"{name} must be {least} or more, not {getattr(self, name)!r}")
        if self.among < self.top:
            raise BothwaysError(f"{self.top} negatives cannot be found among {self.among} texts; give a higher --among")
        if self.relative is not None and not 0 < self.relative <= 1:
            raise BothwaysError(f"relative must be a share above 0, at most 1, not {self.relative!r}")
        if self.draw not in ("nearest", "chance"):
            raise BothwaysError(f"draw must be nearest or chance, not {self.draw!r}")


def mine(
    model: Questions,
    source: Any,
    out: str | Path,
    *,
    corpus: Any = None,
    reranker: Questions | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    corpus_text: str | None = None,
    top: int = 5,
    among: int = 100,
    skip: int = 0,
    margin: float = 0.0,
    relative: float | None = None,
    draw: Literal["nearest", "chance"] = "nearest",
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = True,
) -> BulkResult:
    """Finds hard negatives and writes rows that ``finetune embed`` and ``finetune rerank`` learn from.

    An interrupted call goes on where it was: vectors of the corpus that are made stay beside `out` until the end.

    Args:
        model: Whose vectors say what is near.
        source: Pairs of texts that belong together, as `finetune` takes them; of labelled ones those that say so.
        out: A ``.jsonl`` or ``.parquet`` file of rows ``anchor``, ``positive``, ``negatives`` (a list). Pairs for which
            none is found are left out.
        corpus: Where negatives come from: a table or texts; None: the second texts of `source`.
        reranker: A cross-encoder that judges candidates, and what belongs, in place of the vectors.
        text: The column of first texts; found by its name when not given, as are the next.
        text_pair: The column of second texts.
        corpus_text: The column of the corpus that holds texts.
        top: How many negatives a pair gets at most; this and the next are explained in `Mining`.
        among: Of how many of the nearest.
        skip: How many are passed over first.
        margin: How much less alike they must be than what belongs.
        relative: What share of its likeness they may have.
        draw: Which of those that do are taken.
        seed: Of the chance.
        overwrite: Whether an output that is there already is replaced.
        resume: Whether a job that was interrupted is gone on with.

    Raises:
        BothwaysError: The rows are no pairs, a column is absent, the corpus is too small, no pair has a
            negative, or `out` cannot be written.
    """
    how = Mining(top=top, among=among, skip=skip, margin=margin, relative=relative, draw=draw, seed=seed)
    target = find_target(out, KINDS, overwrite=overwrite, reads=[source, corpus])
    if target is None:
        raise BothwaysError("negatives are written to a file, not to standard output; name one that ends in .jsonl")
    if reranker is not None:
        reranker.score_pairs(["a"], ["a"])  # says now, not after the work, where it scores no pairs
    pairs = _pairs(read_vectors(source, text, text_pair))
    texts = _distinct(pairs, corpus, corpus_text)
    if len(texts) < 2:
        raise BothwaysError("the corpus holds fewer than two different texts, so there is nothing to choose from")
    kept = target.path.with_name(f".{target.path.name}.{_digest(model, texts)}.npy")
    if not kept.exists():
        bulk.embed(model, texts, kept, normalize=_by_cosine(model), prompt="document", resume=resume)
    miner = _Miner(model, texts, np.load(kept, mmap_mode="r"), pairs, reranker, how)
    settings = {
        "job": "mine",
        **how.__dict__,
        "corpus": kept.name,
        "reranker": None if reranker is None else identity_of(reranker),
        **settings_of(model),
    }
    question = Question(_asked(pairs), miner.answer, dict.fromkeys(KINDS, _with_negatives))
    result = run_job(model, question, out, settings, How(overwrite=overwrite, resume=resume))
    kept.unlink()
    if miner.without == result.texts:  # all of them, in this run
        target.path.unlink()
        raise BothwaysError(
            f"for none of {result.texts:,} pairs there is a negative that is far enough from what belongs; give a "
            "smaller margin, a larger relative share, or a corpus with more texts"
        )
    if miner.without:
        asked = result.texts - result.resumed
        say(f"{miner.without:,} of {asked:,} pairs are left out: no text is far enough from what belongs to them")
    return result


class _Miner:
    """Answers windows of pairs.

    Attributes:
        without: How many pairs have no negatives so far.
    """

    def __init__(
        self,
        model: Questions,
        texts: Sequence[str],
        vectors_CE: np.ndarray,
        pairs: VectorData,
        reranker: Questions | None,
        how: Mining,
    ) -> None:
        self._model, self._texts, self._vectors_CE = model, texts, vectors_CE
        self._reranker, self._how, self.without = reranker, how, 0
        self._ids = text_ids(texts)
        self._belongs: dict[int, set[int]] = {}
        for begin in pairs.starts[:-1]:
            first, second = int(pairs.ids[begin]), int(pairs.ids[begin + 1])
            self._belongs.setdefault(first, {first}).add(second)

    def answer(self, firsts: list[str], seconds: list[str]) -> Slice:
        """The negatives of each pair."""
        scaled = _by_cosine(self._model)
        first_NE = self._model.embed(firsts, prompt="query", normalize=scaled)
        second_NE = self._model.embed(seconds, prompt="document", normalize=scaled)
        ids = [int(number) for number in text_ids(firsts)]
        known = max(len(self._belongs[number]) for number in ids)
        most = self._how.among + self._how.skip + known
        likeness_NK, places_NK = nearest(first_NE, self._vectors_CE, most, "dot")
        right_N = (first_NE * second_NE).sum(1)
        found = []
        for row, number in enumerate(ids):
            others = ~np.isin(self._ids[places_NK[row]], list(self._belongs[number]))
            places = places_NK[row][others][self._how.skip :][: self._how.among]
            likeness = likeness_NK[row][others][self._how.skip :][: self._how.among]
            right = float(right_N[row])
            if self._reranker is not None and len(places):
                asked = [seconds[row], *(self._texts[place] for place in places)]
                scores = np.asarray(self._reranker.score_pairs([firsts[row]] * len(asked), asked))
                right, order = float(scores[0]), np.argsort(-scores[1:], kind="stable")
                places, likeness = places[order], scores[1:][order]
            found.append([self._texts[place] for place in places[self._chosen(likeness, right, number)]])
        self.without += sum(not each for each in found)
        return {"negatives": found}

    def _chosen(self, likeness_K: np.ndarray, right: float, number: int) -> np.ndarray:
        """Which of the candidates are taken, nearest first."""
        how = self._how
        far = likeness_K <= right - how.margin
        if how.relative is not None:
            far &= likeness_K <= right - (1 - how.relative) * abs(right)
        places = np.flatnonzero(far)
        if how.draw == "chance" and len(places) > how.top:
            places = np.sort(generator("mine", how.seed, number % 2**63).choice(places, how.top, replace=False))
        return places[: how.top]


def _by_cosine(model: Questions) -> bool:
    return model.sentence.similarity != "dot"


def _pairs(data: VectorData) -> VectorData:
    """The pairs that belong together."""
    if data.form == "labelled":
        flags = data.flags()
        if not flags.any():
            raise BothwaysError(f"{data.name} has no pair whose label says that its texts belong together")
        return data.take(np.flatnonzero(flags), data.name)
    if data.form not in ("pairs", "triplets"):
        raise BothwaysError(
            f"negatives are found for {FORMS['pairs']}, but {data.name} holds {FORMS[data.form]}; name the columns "
            "with --text and --text-pair (in Python text=..., text_pair=...)"
        )
    return data


def _distinct(pairs: VectorData, corpus: Any, column: str | None) -> Texts:
    """The texts of the corpus, each once."""
    found, seen = Texts(), set()

    def add(text: str) -> None:
        number = int(text_ids([text])[0])
        if number not in seen and text.strip():
            seen.add(number)
            found.append(text)

    if corpus is None:
        for begin in pairs.starts[:-1]:
            add(pairs.texts[begin + 1])
        return found
    rows = read_texts(corpus, text=column)
    for example in read_examples(rows, TextColumns(column or find_text(rows))):
        add(example.text)
    return found


def _digest(model: Questions, texts: Sequence[str]) -> str:
    """What vectors of the corpus depend on, in letters for the name of a file."""
    return digest(([identity_of(model), str(model.max_length)], ["", ""]))[:8] + digest((texts,))[:8]


def _asked(pairs: VectorData) -> Iterator[Asked]:
    for begin in pairs.starts[:-1]:
        first, second = pairs.texts[begin], pairs.texts[begin + 1]
        yield Asked((first, second), {"anchor": first, "positive": second})


def _with_negatives(columns: Slice) -> Slice:
    """The rows that have any."""
    chosen = [place for place, each in enumerate(columns["negatives"]) if len(each)]
    return {name: [values[place] for place in chosen] for name, values in columns.items()}
