"""What the questions of `bulk.predict` have in common: rows that are asked, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.progress import say
from bothways.text.columns import Columns, infer_columns, is_missing, read_examples
from bothways.text.markers import find_marking
from bothways.text.rows import PEEKED, Rows
from bothways.text.tables import Row
from bothways.use.formats import Slice
from bothways.use.texts import read_texts

if TYPE_CHECKING:
    from bothways.run.questions import Questions

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Asked:
    """A row, as a model is asked about it.

    Attributes:
        inputs: What the model reads of it, such as a question and a context.
        beside: What stands beside the answer in the output, by column.
        where: Its place in the source, for messages; empty where nobody knows it.
    """

    inputs: tuple[Any, ...]
    beside: Mapping[str, Any]
    where: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked of every row of a source.

    Attributes:
        rows: The rows in their order, read as they are asked for.
        answer: From what is read of some rows, a list for each of `Asked.inputs`, to columns of answers.
        kinds: The endings of files that can hold the answers, and what of the columns each of them holds.
        table: The table that the rows stand in, where each of its rows is one: it tells how many there are.
    """

    rows: Iterator[Asked]
    answer: Callable[..., Slice]
    kinds: Mapping[str, Callable[[Slice], Slice]] = field(default_factory=lambda: dict.fromkeys(TABLES, dict))
    table: Any = None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a user said about a prediction; `bulk.predict` explains each."""

    text: str | None = None
    text_pair: str | None = None
    lines: bool = False
    question: str | None = None
    context: str | None = None
    prompt: str | None = None
    choices: str | None = None
    labels: tuple[str, ...] = ()
    template: str | None = None
    several: bool = False
    top: int = 1
    keep: bool = False


def beside(rows: Rows, row: Row, columns: Iterable[str], keep: bool, where: str) -> dict[str, Any]:
    """The columns of a row that stand beside its answer: some of them, or all to `keep`.

    Raises:
        BothwaysError: All are to be kept, and the row has one that was not there when the columns were told.
    """
    late = next((name for name in row if name not in rows.columns), None) if keep else None
    if late is not None:
        raise BothwaysError(
            f"{where}: has a column {late!r} that the first {PEEKED} rows do not have; give it to one of them too "
            "(null will do), or do not keep the other columns"
        )
    return {name: _plain(row.get(name)) for name in (rows.columns if keep else columns)}


def _plain(value: Any) -> Any:
    """A cell as plain data: frames hold lists as arrays or series."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    as_list = getattr(value, "tolist", None) or getattr(value, "to_list", None)
    if as_list is not None:
        return _plain(as_list())
    return None if is_missing(value) else value


def markers_of(model: Questions) -> Sequence[str] | None:
    """What was put around entities in the training of a classifier; None: nothing."""
    found: Sequence[str] | None = model.decoding.get("classify", {}).get("reading", {}).get("markers")
    return found


def reads_pairs(model: Questions) -> bool | None:
    """Whether a classifier, or a model of scores, was trained on pairs of texts; None where nobody noted it."""
    trained = model.decoding.get("classify", {}).get("inputs")
    return None if trained is None else trained == "pairs"


def ask_texts(
    source: Any, wish: Wish, *, pairs: bool | None = None, markers: Sequence[str] | None = None
) -> Iterator[Asked]:
    """Texts, or pairs of texts, as they are read.

    Args:
        source: A table, or texts without columns, as `read_texts` takes them.
        wish: Says which columns they are, if they are not found by their names, or that there are none.
        pairs: Whether second texts are needed (True), left alone (False), or taken where there are any (None).
        markers: What is put around entities, as in training.

    Raises:
        BothwaysError: A column is absent or unclear, or a row holds no text.
    """
    rows = read_texts(source, lines=True if wish.lines else None if wish.text is None else False, text=wish.text)
    found = infer_columns(rows, wish.text, wish.text_pair, need_label=False)
    if pairs and found.text_pair is None:
        raise BothwaysError(
            f"pairs of texts are asked for, but only one column of {rows.name} looks like a text ({found.text!r} of "
            f"{', '.join(rows.columns)}); name the second with --text-pair (in Python text_pair=...)"
        )
    if pairs is False and wish.text is None and found.text_pair is not None:
        say(f"of {rows.name} the column {found.text!r} is read, and {found.text_pair!r} is not")
    second = None if pairs is False else found.text_pair
    names = [found.text] if second is None else [found.text, second]
    marking = find_marking(rows.columns, markers, second is not None, rows.name)

    def read() -> Iterator[Asked]:
        for example in read_examples(rows, Columns(found.text, second)):
            texts = marking.apply(example.row, (example.text, example.text_pair), example.where)
            inputs = texts[:1] if second is None else texts
            where = example.where
            yield Asked(inputs, beside(rows, example.row, names, wish.keep, where), where)

    return read()


def together(part: Sequence[Asked], answers: Slice) -> Slice:
    """Some rows with their answers, as columns.

    Args:
        part: The rows.
        answers: What `Question.answer` made of them.

    Raises:
        BothwaysError: An answer would take the place of a column that is kept.
    """
    asked = {name: [row.beside[name] for row in part] for name in part[0].beside}
    taken = [name for name in answers if name in asked]
    if taken:
        raise BothwaysError(
            f"the input has a column {taken[0]!r}, which is the name of a column of answers; rename it, or do not keep "
            "the other columns"
        )
    return {**asked, **answers}
