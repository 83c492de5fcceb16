"""What a model is to be judged on must not stand in what it learns from: evaluation files, and where a text meets them.

A text overlaps with an example when they share a run of so many words (13, as Brown et al. 2020, appendix C), whatever
their case and punctuation. A shorter example counts where it stands as a whole; one of fewer than six words could stand
anywhere and is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.cleaning.grams import hashed, sequences, words_of
from bothways.text.conll import CONLLU, NUMBER
from bothways.text.documents import read_documents
from bothways.text.files import find_files, kind_of, shown
from bothways.text.rows import read_rows

SHORTEST = 6
"""Words of the shortest example that is looked for."""
_ROWS = ("jsonl", "csv", "tsv", "parquet")


@dataclass(frozen=True)
class Evaluation:
    """Runs of words of all evaluation files.

    Attributes:
        files: The files, in order.
        run: Words of a run.
        grams: For each length the sorted numbers of the runs: ``(G,)`` uint64.
    """

    files: tuple[str, ...]
    run: int
    grams: dict[int, np.ndarray]

    def hits(self, words_W: np.ndarray) -> list[tuple[int, int]]:
        """The runs that stand in a text, as (length, place among those of that length), each once.

        Args:
            words_W: ``(W,)`` the words of the text as numbers.
        """
        found = []
        for length, here in sequences(words_W, self.grams).items():
            known = self.grams[length]
            places = np.minimum(np.searchsorted(known, here), len(known) - 1)
            found += [(length, int(place)) for place in np.unique(places[known[places] == here])]
        return found


def read_evaluation(files: Sequence[str | Path], run: int) -> Evaluation | None:
    """Reads evaluation files: rows of any columns, tagged words, questions with contexts, or plain text.

    Args:
        files: Their paths; folders hold several.
        run: How many words in a row are an overlap.

    Returns:
        None where there are no files.

    Raises:
        BothwaysError: A file is missing or cannot be read, or has no example long enough to look for.
    """
    if not files:
        return None
    if run < SHORTEST:
        raise BothwaysError(f"an overlap of {run} words could be chance; give a run of at least {SHORTEST} words")
    paths = [path for given in files for path in find_files(given)]
    grams: dict[int, set[int]] = {}
    for path in paths:
        looked_for = False
        for _, text in examples(path):
            for length, numbers in runs_of(text, run).items():
                grams.setdefault(length, set()).update(numbers.tolist())
                looked_for = True
        if not looked_for:
            raise BothwaysError(
                f"{shown(path)} has no example of at least {SHORTEST} words to look for; leave it out, or give one "
                "example a row or paragraph"
            )
    kept = {length: np.array(sorted(numbers), np.uint64) for length, numbers in sorted(grams.items())}
    return Evaluation(tuple(map(shown, paths)), run, kept)


def check_apart(sources: Sequence[Any], files: Sequence[str | Path]) -> None:
    """Refuses an evaluation file that the corpus itself would be read from.

    Raises:
        BothwaysError: One lies in a folder of the corpus, or is one of its files.
    """
    folders = [Path(source).resolve() for source in sources if isinstance(source, str | Path) and str(source) != "-"]
    for given in files:
        path = Path(given).resolve()
        for folder in folders:
            if path == folder or folder in path.parents or path in folder.parents:
                raise BothwaysError(
                    f"the evaluation file {given} lies in the corpus {folder.name}, so it would be trained on; "
                    "move it out of there"
                )


def examples(path: str | Path) -> Iterator[tuple[int, str]]:
    """The texts of an evaluation file: ``(number of the row, text)``; a row with several texts gives each of them."""
    if kind_of(path) in _ROWS:
        for number, row in enumerate(read_rows(path), start=1):
            yield from ((number, text) for text in _texts(row))
    else:
        for number, document in enumerate(read_documents(path), start=1):
            words = _tagged_words(document.paragraphs)
            yield from ((number, text) for text in (document.paragraphs if words is None else [" ".join(words)]))


def runs_of(text: str, run: int) -> dict[int, np.ndarray]:
    """The numbers of a text's runs; of one with fewer words the number of the whole."""
    words_W = hashed(words_of(text))
    length = min(run, len(words_W))
    return sequences(words_W, [length]) if length >= SHORTEST else {}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a row, however deep; a list of words is a text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        if value and all(isinstance(inner, str) and " " not in inner for inner in value):
            yield " ".join(value)
        else:
            for inner in value:
                yield from _texts(inner)


def _tagged_words(lines: list[str]) -> list[str] | None:
    """The words of lines that each hold one with its tags, as CoNLL's files have them; None of lines of text."""
    mark = "\t" if "\t" in lines[-1] else None  # the last line is no comment
    rows = [line.split(mark) for line in lines]
    width = len(rows[-1])
    rows = [row for row in rows if len(row) == width or not row[0].startswith("#")]
    if any(len(row) != width for row in rows):
        return None
    if width == len(CONLLU) and all(re.fullmatch(NUMBER, row[0]) for row in rows):
        return [row[1] for row in rows if row[0].isdigit()]  # others are several words, or one that is not written
    return [row[0] for row in rows] if len(rows) > 1 and 2 <= width <= 10 else None
