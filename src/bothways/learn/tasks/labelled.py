"""Labelled texts: what tasks over whole texts and pairs of texts learn from."""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.columns import Columns, Example, check_column, infer_columns, is_missing, read_examples
from bothways.text.kept import Joined, Texts
from bothways.text.markers import find_marking
from bothways.text.rows import Rows, read_rows

Label = str | tuple[str, ...] | float
_YES, _NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def digest(columns: Sequence[Iterable[str]]) -> str:
    """A hash of rows of texts."""
    found = hashlib.sha256()
    for row in zip(*columns, strict=True):
        found.update("\0".join((*row, "")).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


@dataclass(frozen=True)
class LabelledTexts:
    """Texts or pairs of texts with what is right for each.

    Attributes:
        texts: The texts.
        pairs: The second texts, or None.
        labels: For each text the name of its class, or the names of all that hold, or its score; all of one kind.
        name: Where they came from, for messages.
        where: Where each stands there, such as "train.csv, line 2"; empty where that is not known.
    """

    texts: Sequence[str]
    pairs: Sequence[str] | None
    labels: Sequence[Label]
    name: str
    where: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def several(self) -> bool:
        """Whether a text may have several labels, or none."""
        return len(self.labels) > 0 and isinstance(self.labels[0], tuple)

    def place(self, number: int) -> str:
        """Where an example stands, for messages."""
        return self.where[number] if self.where else f"{self.name}, example {number + 1}"

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of texts and labels, for the record of a run."""
        learned = [shown(label) if isinstance(label, str | tuple) else exact(label) for label in self.labels]
        found = digest((self.texts, self.pairs or self.texts, learned))
        return {"name": self.name, "examples": len(self), "sha256": found}

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> LabelledTexts:
        """Some of them, in the order given."""
        return LabelledTexts(
            _taken(self.texts, places),
            None if self.pairs is None else _taken(self.pairs, places),
            [self.labels[place] for place in places],
            name,
            _taken(self.where, places) if self.where else (),
        )

    @property
    def kind(self) -> str:
        """What a model is to read: ``"texts"`` or ``"pairs"``."""
        return "texts" if self.pairs is None else "pairs"

    def inputs(self) -> Sequence[str]:
        """Each text, or pair, as one text."""
        return self.texts if self.pairs is None else Joined(self.texts, self.pairs)

    def truths(self) -> list[str]:
        """The names of the classes, or the scores."""
        return [shown(label) for label in self.labels]

    def class_counts(self) -> dict[str, int]:
        """How many texts each class has; empty for scores."""
        sets = [label if isinstance(label, tuple) else (label,) for label in self.labels]
        return dict(Counter(name for names in sets for name in names if isinstance(name, str)))


def _taken(texts: Sequence[str], places: Sequence[int] | np.ndarray) -> Sequence[str]:
    return texts.take(places) if isinstance(texts, Texts) else [texts[place] for place in places]


def exact(number: float) -> str:
    """A number as text from which it can be read again."""
    short = f"{number:g}"
    kind = type(number) if isinstance(number, np.floating) else float
    return short if kind(short) == number else repr(float(number))


def shown(label: Label) -> str:
    """A label as people read it."""
    if isinstance(label, tuple):
        return ", ".join(label)
    return label if isinstance(label, str) else f"{label:g}"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rows are read; the tasks over texts have settings of these names, and explain them."""

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    label_columns: tuple[str, ...] | None = None
    label_separator: str | None = None
    problem: str | None = None
    markers: tuple[str, ...] | None = None


def read_labelled(source: Any, how: Reading) -> LabelledTexts:
    """Reads texts and the names of their classes into memory.

    Where a cell holds a list, or `label_separator` or `label_columns` are given, several labels may hold; `problem`
    decides otherwise.

    Raises:
        BothwaysError: A column is absent, or a row has no text, no label, or one that is none; the sentence says where.
    """
    if isinstance(source, LabelledTexts):
        return source
    rows = read_rows(source)
    columns = _columns(rows, how)
    names, separator = how.label_columns, how.label_separator

    def label(one: Example) -> Label:
        if names:
            return tuple(name for name in names if _holds(one.row.get(name), name, one.where))
        return _label(one.row.get(columns.label or ""), separator, columns.label, one.where)

    data = _collect(rows, columns, how.markers, label)
    if how.problem == "several" or (how.problem is None and _are_several(data)):
        return replace(data, labels=[each if isinstance(each, tuple) else (str(each),) for each in data.labels])
    if how.problem is None:
        _refuse_scores(data)
    return replace(data, labels=[_single(each, place) for each, place in zip(data.labels, data.where, strict=True)])


def read_scored(source: Any, how: Reading) -> LabelledTexts:
    """Reads texts and their scores into memory.

    Raises:
        BothwaysError: A column is absent, or a row has no text, or a score that is no number; the sentence says where.
    """
    if isinstance(source, LabelledTexts):
        return source
    rows = read_rows(source)
    columns = infer_columns(rows, how.text, how.text_pair, how.label)
    column = columns.label or ""
    return _collect(rows, columns, how.markers, lambda one: _score(one.row.get(column), column, one.where))


def _columns(rows: Rows, how: Reading) -> Columns:
    if not how.label_columns:
        return infer_columns(rows, how.text, how.text_pair, how.label)
    for name in how.label_columns:
        check_column(rows, name)
    rest = Rows([name for name in rows.columns if name not in how.label_columns], rows.name, rows.located)
    found = infer_columns(rest, how.text, how.text_pair, need_label=False)
    return Columns(found.text, found.text_pair)


def _collect(
    rows: Rows, columns: Columns, markers: tuple[str, ...] | None, label: Callable[[Example], Label]
) -> LabelledTexts:
    """The rows with their texts checked and marked, and what `label` makes of each."""
    marking = find_marking(rows.columns, markers, columns.text_pair is not None, rows.name)
    texts, pairs, where = Texts(), Texts(), Texts()
    labels = []
    for one in read_examples(rows, Columns(columns.text, columns.text_pair)):
        for column, text in ((columns.text, one.text), (columns.text_pair, one.text_pair)):
            if text is not None and not text.strip():
                raise BothwaysError(f"{one.where}: the text in the column {column!r} is empty; leave such rows out")
        first, second = marking.apply(one.row, (one.text, one.text_pair), one.where)
        texts.append(first)
        pairs.append(second or "")
        labels.append(label(one))
        where.append(one.where)
    return LabelledTexts(texts, pairs if columns.text_pair else None, labels, rows.name, where)


def _label(value: Any, separator: str | None, column: str | None, where: str) -> Label:
    """The content of a cell: a name, or several."""
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(dict.fromkeys(str(each).strip() for each in value))
    if separator is not None:
        parts = () if is_missing(value) else (part.strip() for part in str(value).split(separator))
        return tuple(dict.fromkeys(part for part in parts if part))
    if is_missing(value) or str(value).strip() == "":
        raise BothwaysError(f"{where}: there is no label in the column {column!r}")
    return sys.intern(str(value).strip())  # a million rows hold each name once


def _are_several(data: LabelledTexts) -> bool:
    """Whether cells hold lists; all of them or none."""
    lists = [isinstance(label, tuple) for label in data.labels]
    if any(lists) and not all(lists):
        odd = data.place(lists.index(not lists[0]))
        kinds = ("a single label", "a list of labels")
        raise BothwaysError(
            f"{odd} has {kinds[not lists[0]]} where the rows before have {kinds[lists[0]]}; write lists everywhere, or "
            "say --problem one or several (in Python problem=...)"
        )
    return bool(lists) and lists[0]


def _single(label: Label, where: str) -> str:
    if isinstance(label, tuple):
        if len(label) != 1:
            held = ", ".join(label) or "none"
            raise BothwaysError(f"{where} has {len(label)} labels ({held}) where one class is to be chosen")
        return label[0]
    return str(label)


def _refuse_scores(data: LabelledTexts) -> None:
    for place, label in enumerate(data.labels):
        number = _number(label) if isinstance(label, str) else None
        if number is not None and not number.is_integer():
            raise BothwaysError(
                f"{data.place(place)}: the label {label} is a number, not a class; did you mean finetune regress? (To "
                "take numbers as names of classes: --problem one, in Python problem='one')"
            )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _score(value: Any, column: str, where: str) -> float:
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        raise BothwaysError(f"{where}: there is no score in the column {column!r}")
    number = None if isinstance(value, bool) else _number(value)
    if number is None:
        raise BothwaysError(
            f"{where}: the score in the column {column!r} should be a number, not {value!r:.40}; finetune classify "
            "learns classes"
        )
    return number


def _holds(value: Any, column: str, where: str) -> bool:
    """Whether a cell says that its column's label holds."""
    said = str(value).strip().lower()
    if said not in (*_YES, *_NO):
        raise BothwaysError(f"{where}: the column {column!r} should say 0 or 1, not {value!r:.40}")
    return said in _YES
