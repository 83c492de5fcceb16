"""Augmented SBERT: pairs of an own corpus, scored by a cross-encoder, for a bi-encoder to learn from.

Thakur, Reimers, Daxenberger and Gurevych 2021, "Augmented SBERT: Data Augmentation Method for Improving Bi-Encoders for
Pairwise Sentence Scoring Tasks", section 3: which pairs are scored matters; drawn by chance, nearly all are unlike, so
for each text those are taken that share its words (BM25), or are near as vectors.

Shapes: N texts, K others of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.tasks.labelled import digest
from bothways.learn.vectors.data import text_ids
from bothways.progress import progress
from bothways.run.similarity import nearest
from bothways.run.task import task_name
from bothways.text.columns import Columns, find_text, read_examples
from bothways.text.kept import Texts
from bothways.use import bulk
from bothways.use.formats import Slice
from bothways.use.identity import identity_of, settings_of
from bothways.use.job import BulkResult, How, run_job
from bothways.use.predictions.shared import TABLES, Asked, Question
from bothways.use.search.settings import check_language
from bothways.use.target import find_target
from bothways.use.texts import read_texts

if TYPE_CHECKING:
    from bothways.run.questions import Questions

By = Literal["words", "vectors", "both", "chance"]
_BLOCK = 256
"""Texts whose others are looked for at once."""


def augment(
    model: Questions,
    source: Any,
    out: str | Path,
    *,
    vectors: Questions | None = None,
    by: By = "words",
    top: int = 3,
    text: str | None = None,
    lines: bool = False,
    language: str = "english",
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = True,
) -> BulkResult:
    """Scores pairs of texts and writes rows ``text``, ``text_pair``, ``score`` that ``finetune embed`` learns from.

    Every pair is scored once, whichever of its texts found the other. An interrupted call goes on where it was.

    Args:
        model: A cross-encoder: it scores pairs.
        source: Texts: a table, or lines, as `read_texts` takes them; each counts once.
        out: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file.
        vectors: A model of sentence vectors, for pairs by ``vectors`` or ``both``.
        by: Which pairs are scored: those of texts that share ``"words"``, whose ``"vectors"`` are near, of ``"both"``
            kinds, or by ``"chance"``.
        top: How many others are looked for, for each text and kind.
        text: The column of texts; found by its name when not given.
        lines: Whether each line of a file is a text, whatever its name.
        language: Whose words are brought to their stems; ``"none"`` for none.
        seed: Of the chance.
        overwrite: Whether an output that is there already is replaced.
        resume: Whether a job that was interrupted is gone on with.

    Raises:
        BothwaysError: The model scores no pairs, there are too few texts, vectors are needed and not given, or `out`
            cannot be written.
    """
    if by not in ("words", "vectors", "both", "chance"):
        raise BothwaysError(f"by must be words, vectors, both or chance, not {by!r}")
    if top < 1:
        raise BothwaysError(f"top must be 1 or more, not {top!r}")
    if by in ("vectors", "both") and vectors is None:
        raise BothwaysError(f"pairs by {by} need a model of sentence vectors: name one with --vectors")
    check_language(language)
    task_name(model)
    model.score_pairs(["a"], ["a"])  # says now, not after the work, where it scores no pairs
    target = find_target(out, TABLES, overwrite=overwrite, reads=[source])
    if target is None:
        raise BothwaysError("pairs are written to a file, not to standard output; name one that ends in .jsonl")
    texts = _distinct(source, text, lines)
    if len(texts) <= top:
        raise BothwaysError(f"there are {len(texts):,} different texts, too few to find {top} others for each")
    given = [by, str(top), language, str(seed), "" if vectors is None else identity_of(vectors)]
    beside = target.path.with_name(f".{target.path.name}.{digest((given,))[:8]}{digest((texts,))[:8]}")
    others_NK = _kept(beside, texts, by, top, vectors, language, seed)
    if not (others_NK >= 0).any():
        beside.with_name(f"{beside.name}.npy").unlink()
        raise BothwaysError(f"no pair is found by {by} among {len(texts):,} texts; take another way, or more texts")
    settings = {"job": "augment", "pairs": beside.name, **settings_of(model)}

    def answer(firsts: list[str], seconds: list[str]) -> Slice:
        return {"score": model.score_pairs(firsts, seconds)}

    question = Question(_pairs(texts, others_NK), answer)
    result = run_job(model, question, out, settings, How(overwrite=overwrite, resume=resume))
    beside.with_name(f"{beside.name}.npy").unlink()
    return result


def _distinct(source: Any, column: str | None, lines: bool) -> Texts:
    """The texts, each once, without blank ones."""
    found, seen = Texts(), set()
    rows = read_texts(source, lines=True if lines else None, text=column)
    for example in read_examples(rows, Columns(column or find_text(rows))):
        number = int(text_ids([example.text])[0])
        if number not in seen and example.text.strip():
            seen.add(number)
            found.append(example.text)
    return found


def _kept(
    beside: Path, texts: Texts, by: By, top: int, vectors: Questions | None, language: str, seed: int
) -> np.ndarray:
    """``(N, K)`` int64, the others of each text, -1 where there are fewer; found once and kept beside the output."""
    path = beside.with_name(f"{beside.name}.npy")
    if not path.exists():
        kinds = []
        if by in ("words", "both"):
            kinds.append(_by_words(texts, top, language))
        if by in ("vectors", "both") and vectors is not None:
            made = beside.with_name(f"{beside.name}.vectors.npy")
            bulk.embed(vectors, texts, made, normalize=True)
            kinds.append(_by_vectors(np.load(made, mmap_mode="r"), top))
            made.unlink()
        if by == "chance":
            kinds.append(_by_chance(len(texts), top, seed))
        half = path.with_name(f"{path.name}.half.npy")
        np.save(half, np.concatenate(kinds, axis=1))
        half.replace(path)
    found: np.ndarray = np.load(path)
    return found


def _by_words(texts: Texts, top: int, language: str) -> np.ndarray:
    """The texts that share most words with each, by BM25; -1 where no more share any."""
    from bothways.use.search.memory import Words

    words = Words(texts, language)
    found = np.full((len(texts), top), -1, dtype=np.int64)
    with progress("Pairs that share words", len(texts), "texts") as bar:
        for place, text in enumerate(texts):
            scores = words.scores(text)
            scores[place] = 0
            best = np.argpartition(-scores, top - 1)[:top]
            best = best[np.lexsort((best, -scores[best]))]
            best = best[scores[best] > 0]
            found[place, : len(best)] = best
            bar.advance()
    return found


def _by_vectors(vectors_NE: np.ndarray, top: int) -> np.ndarray:
    found = np.empty((len(vectors_NE), top), dtype=np.int64)
    for begin in range(0, len(vectors_NE), _BLOCK):
        _, places = nearest(vectors_NE[begin : begin + _BLOCK], vectors_NE, top + 1, "dot")
        for row, own in enumerate(places, start=begin):
            found[row] = own[own != row][:top]
    return found


def _by_chance(count: int, top: int, seed: int) -> np.ndarray:
    drawn = [generator("augment", seed, place).choice(count - 1, top, replace=False) for place in range(count)]
    places = np.array(drawn, dtype=np.int64)
    return places + (places >= np.arange(count)[:, None])


def _pairs(texts: Sequence[str], others_NK: np.ndarray) -> Iterator[Asked]:
    """Each pair once: at the first of its texts that found the other."""
    for place, text in enumerate(texts):
        for other in dict.fromkeys(others_NK[place].tolist()):
            if other > place or (other >= 0 and place not in others_NK[other]):
                yield Asked((text, texts[other]), {"text": text, "text_pair": texts[other]})
