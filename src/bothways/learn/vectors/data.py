"""Groups of texts that vectors are learned from: pairs, triplets, pairs with a score or a label, single texts.

What rows hold is told from their columns; `FORMS` lists what there is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, overload

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.tasks.labelled import digest, exact, shown
from bothways.text.columns import NUMBERING, Columns, check_column, find_text, infer_columns, is_missing
from bothways.text.encoded import gather_index
from bothways.text.kept import Texts
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Row

FORMS = {
    "texts": "single texts",
    "classes": "single texts with a class each",
    "pairs": "pairs of texts that belong together",
    "scored": "pairs of texts with a score each",
    "labelled": "pairs of texts with a label each",
    "triplets": "texts, each with one that belongs to it and others that do not",
}
YES = ("1", "1.0", "true", "yes", "entailment", "duplicate", "paraphrase", "same", "similar", "equivalent")
NO = (
    *("0", "0.0", "false", "no", "not_entailment", "not_duplicate", "not_paraphrase", "different", "not_equivalent"),
    *("neutral", "contradiction"),
)
"""What labels of pairs say that belong together, or do not."""
_NEGATIVES = re.compile(r"(hard_?)?negatives?_?\d*", re.IGNORECASE)
_PAIRS = (
    *(("query", "positive"), ("query", "positives"), ("question", "answer"), ("query", "answer"), ("text", "positive")),
    *(("source", "target"), ("source", "translation"), ("title", "abstract"), ("title", "body"), ("query", "text")),
)
"""Names of columns that hold pairs, beside those that all tasks know."""


@dataclass(frozen=True)
class VectorData:
    """N groups of texts, S in all: of a pair or triplet the second belongs to the first, the others do not.

    Attributes:
        form: A name in `FORMS`; it says how many texts a group has.
        texts: The texts, group by group.
        starts: ``(N + 1,)`` where each group begins among them.
        labels: For each group its score (a number), its label or its class (a name); empty for other forms.
        name: Where they came from, for messages.
        where: Where each group stands there; empty where that is not known.
    """

    form: str
    texts: Sequence[str]
    starts: np.ndarray
    labels: Sequence[Any]
    name: str
    where: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def place(self, number: int) -> str:
        """Where a group stands, for messages."""
        return self.where[number] if self.where else f"{self.name}, example {number + 1}"

    def group(self, number: int) -> list[str]:
        """The texts of a group."""
        return [self.texts[place] for place in range(self.starts[number], self.starts[number + 1])]

    @cached_property
    def ids(self) -> np.ndarray:
        """``(S,)`` int64: texts that differ by no more than case and white space have the same number."""
        return text_ids(self.texts)

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> VectorData:
        """Some groups, in the order given."""
        chosen = np.asarray(places, dtype=np.int64)
        lengths = np.diff(self.starts)[chosen]
        return VectorData(
            self.form,
            taken(self.texts, gather_index(self.starts[chosen], lengths)),
            np.concatenate(([0], np.cumsum(lengths))),
            [self.labels[place] for place in chosen] if len(self.labels) else (),
            name,
            taken(self.where, chosen) if self.where else (),
        )

    def describe(self) -> dict[str, object]:
        """Where they came from, what they are, how many, and a hash of all that is learned."""
        learned = [shown(label) if isinstance(label, str | tuple) else exact(label) for label in self.labels]
        found = digest((self.inputs(), learned or self.truths()))
        return {"name": self.name, "form": self.form, "examples": len(self), "sha256": found}

    def inputs(self) -> Sequence[str]:
        """Each group as one text, a line a text."""
        return Groups(self.texts, self.starts)

    def truths(self) -> list[str]:
        """Scores, labels or classes as text; nothing where there are none."""
        return [shown(label) for label in self.labels] if len(self.labels) else [""] * len(self)

    def class_counts(self) -> dict[str, int]:
        """How many groups each label or class has; empty for scores."""
        if self.form not in ("labelled", "classes"):
            return {}
        names, counts = np.unique(np.array(self.labels), return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def groups(self) -> list[str]:
        """What belongs together in cross-validation: all groups with the same first text."""
        return [str(number) for number in self.ids[self.starts[:-1]]]

    def scores(self) -> np.ndarray:
        """``(N,)`` float64 scores; of labels 1 for those that say yes, 0 for the others."""
        return self.flags().astype(np.float64) if self.form == "labelled" else np.array(self.labels, dtype=np.float64)

    def flags(self) -> np.ndarray:
        """``(N,)`` whether the texts of a pair belong together, as its label says.

        Raises:
            BothwaysError: A label does not say so.
        """
        said = {label: label.strip().lower().replace(" ", "_").replace("-", "_") for label in set(self.labels)}
        unknown = [label for label in self.labels if said[label] not in (*YES, *NO)]
        if unknown:
            number = list(self.labels).index(unknown[0])
            raise BothwaysError(
                f"{self.place(number)} has the label {unknown[0]!r}, which does not say whether two texts belong "
                "together: write 1 or 0"
            )
        return np.array([said[label] in YES for label in self.labels], dtype=bool)

    @cached_property
    def distinct(self) -> VectorData:
        """Every text once, by itself."""
        _, first = np.unique(self.ids, return_index=True)
        places = np.sort(first)
        where = [self.place(number) for number in np.searchsorted(self.starts, places, side="right") - 1]
        return VectorData(
            "texts", taken(self.texts, places), np.arange(len(places) + 1), (), self.name, where if self.where else ()
        )

    def prompted(self, first: str, others: str) -> VectorData:
        """The same groups with something put before the first text of each, and before the others."""
        if not first and not others:
            return self
        begins = np.zeros(len(self.texts), dtype=bool)
        begins[self.starts[:-1]] = True
        texts = Texts((first if begin else others) + text for begin, text in zip(begins, self.texts, strict=True))
        made = replace(self, texts=texts)
        made.__dict__["ids"] = self.ids  # which texts are equal does not depend on what stands before them
        return made


class Groups(Sequence[str]):
    """Groups of texts, each as one text; nothing is copied.

    Args:
        texts: S texts.
        starts: ``(N + 1,)`` where each group begins.
    """

    def __init__(self, texts: Sequence[str], starts: np.ndarray) -> None:
        self._texts, self._starts = texts, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        number = range(len(self))[place]
        return "\n".join(self._texts[each] for each in range(self._starts[number], self._starts[number + 1]))

    def __iter__(self) -> Iterator[str]:
        texts = iter(self._texts)
        return ("\n".join(next(texts) for _ in range(count)) for count in np.diff(self._starts))


def text_ids(texts: Iterable[str]) -> np.ndarray:
    """``(S,)`` int64: texts that differ by no more than case and white space have the same number."""
    plain = (" ".join(text.split()).casefold().encode("utf-8", "surrogatepass") for text in texts)
    return np.frombuffer(b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in plain), dtype=np.int64)


def taken(texts: Sequence[str], places: np.ndarray) -> Sequence[str]:
    """Some of the texts, in the order given."""
    return texts.take(places) if isinstance(texts, Texts) else [texts[place] for place in places]


def read_vectors(
    source: Any,
    text: str | None = None,
    text_pair: str | None = None,
    negatives: Sequence[str] | None = None,
    label: str | None = None,
) -> VectorData:
    """Reads groups of texts.

    A cell of the second column may hold a list, and so may the negatives: then each of the first makes a group.

    Args:
        source: What `read_rows` takes.
        text: The column of first texts; None tells it, and the others, from usual names.
        text_pair: The column of second texts.
        negatives: The columns of texts that do not belong to the first.
        label: The column of scores, labels or classes.

    Raises:
        BothwaysError: A column is absent, or a row has no text, no label, or a score that is none; it says where.
    """
    if isinstance(source, VectorData):
        return source
    rows = read_rows(source)
    columns, others = _columns(rows, text, text_pair, negatives, label)
    texts, where = Texts(), Texts()
    starts, labels = [0], []
    for place, row in rows.located():
        firsts = _texts(row, columns.text, place, most=1)
        seconds = [] if columns.text_pair is None else _texts(row, columns.text_pair, place)
        unlike = [one for name in others for one in _texts(row, name, place, least=0)]
        if others and not unlike:
            raise BothwaysError(f"{place}: there is no text in the column {others[0]!r}; leave such rows out")
        for second in seconds or [""]:
            group = [*firsts, *([second] if second else []), *unlike]
            for one in group:
                texts.append(one)
            starts.append(starts[-1] + len(group))
            where.append(place)
            if columns.label is not None:
                labels.append(_label(row, columns.label, place))
    form, told = _form(columns, bool(others), labels)
    return VectorData(form, texts, np.array(starts), told, rows.name, where)


def _columns(
    rows: Rows, text: str | None, text_pair: str | None, negatives: Sequence[str] | None, label: str | None
) -> tuple[Columns, list[str]]:
    """The columns of first and second texts and labels, and those of negatives."""
    for given in negatives or ():
        check_column(rows, given)
    others = list(negatives or (name for name in rows.columns if _NEGATIVES.fullmatch(name)))
    left = Rows([name for name in rows.columns if name not in others], rows.name, rows.located)
    if text is None and text_pair is None:
        lowered = {name.lower(): name for name in left.columns}
        known = [pair for pair in _PAIRS if pair[0] in lowered and pair[1] in lowered]
        unknown = [name for name in left.columns if name.lower() not in NUMBERING and name != label]
        if known:
            text, text_pair = lowered[known[0][0]], lowered[known[0][1]]
        elif others and len(unknown) == 2:
            text, text_pair = unknown
    try:
        found = infer_columns(left, text, text_pair, label, need_label=False)
    except BothwaysError:
        unknown = [name for name in left.columns if name.lower() not in NUMBERING and name != label]
        if text is not None or len(unknown) != 2:
            raise
        found = Columns(unknown[0], unknown[1], label)
    if found.text_pair is None and text is None and label is None and found.label is None:
        found = Columns(find_text(left))
        second = next((name for name in left.columns if name.lower() not in NUMBERING and name != found.text), None)
        if second is not None and len(left.columns) == 2:
            raise BothwaysError(
                f"{rows.name} has the columns {found.text} and {second}: if {second} holds what belongs to "
                f"{found.text}, say --text-pair {second} (in Python text_pair=...); if {found.text} stands alone, say "
                f"--text {found.text}; if {second} is a label, say --label {second}"
            )
    if others and found.text_pair is None:
        raise BothwaysError(
            f"{rows.name} has texts that do not belong to others ({', '.join(others)}) but no column of those that do; "
            "name it with --text-pair (in Python text_pair=...)"
        )
    return (Columns(found.text, found.text_pair) if others else found), others


def _texts(row: Row, column: str, where: str, least: int = 1, most: int | None = None) -> list[str]:
    """The text of a cell, or its texts."""
    value: Any = row.get(column)
    if hasattr(value, "tolist"):
        value = value.tolist()
    found: list[Any] = list(value) if isinstance(value, list | tuple) and most != 1 else [value]
    if least == 0:
        found = [one for one in found if not is_missing(one) and one != ""]
    for one in found:
        if is_missing(one) or (isinstance(one, str) and not one.strip()):
            raise BothwaysError(f"{where}: the text in the column {column!r} is empty; leave such rows out")
        if not isinstance(one, str):
            raise BothwaysError(
                f"{where}: the column {column!r} should hold text, not {type(one).__name__} {one!r:.40}"
            )
    if len(found) < least:
        raise BothwaysError(f"{where}: there is no text in the column {column!r}; leave such rows out")
    return found


def _label(row: Row, column: str, where: str) -> Any:
    value: Any = row.get(column)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise BothwaysError(f"{where}: there is no score or label in the column {column!r}")
    return value.strip() if isinstance(value, str) else value


def _form(columns: Columns, others: bool, labels: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """What the rows hold, and their labels as numbers or names."""
    if others:
        return "triplets", ()
    if columns.label is None:
        return ("texts" if columns.text_pair is None else "pairs"), ()
    if columns.text_pair is None:
        return "classes", [str(label) for label in labels]
    numbers = _numbers(labels)
    if numbers is None or set(numbers) <= {0.0, 1.0}:
        return "labelled", [f"{label:g}" for label in numbers] if numbers else [str(label) for label in labels]
    return "scored", numbers


def _numbers(labels: Iterable[Any]) -> list[float] | None:
    """Labels as numbers, if all of them are."""
    try:
        found = [float(label) for label in labels]
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() else None
