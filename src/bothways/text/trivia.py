"""TriviaQA's questions (Joshi et al. 2017): answers by their names, and documents that may hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.files import open_text
from bothways.text.tables import Row

_LISTS = {"EntityPages": "wikipedia", "SearchResults": "web"}  # of documents, and the folder of evidence they lie in
_HELD = {"entity_pages": "wiki_context", "search_results": "search_context"}  # documents inside the row


def is_trivia(row: Row) -> bool:
    """Whether a row is a question of TriviaQA: as published, or with its documents in it."""
    answer = row.get("Answer", row.get("answer"))
    return isinstance(answer, Mapping) and any(name in answer for name in ("Aliases", "aliases"))


def asked(row: Row, where: str) -> tuple[str, list[str]]:
    """The question, and the names of its answer, the usual one first."""
    question = row.get("Question", row.get("question"))
    if not isinstance(question, str) or not question.strip():
        raise BothwaysError(f"{where}: the question is empty")
    answer = row.get("Answer", row.get("answer")) or {}
    names = [answer.get("Value", answer.get("value")), *listed(answer.get("Aliases", answer.get("aliases")))]
    return question, list(dict.fromkeys(str(name) for name in names if name and str(name).strip()))


def documents(row: Row, where: str, folder: Path | None) -> Iterator[str]:
    """The documents of a question: those in the row, and those in the folder of evidence.

    Args:
        row: The question.
        where: Its place, for messages.
        folder: Of the file it comes from.

    Raises:
        BothwaysError: The row names files, and there is no folder ``evidence`` beside or above the file of questions.
    """
    if isinstance(row.get("context"), str):
        yield row["context"]
    for group, name in _HELD.items():
        held = row.get(group) or {}
        texts = listed(held.get(name)) if isinstance(held, Mapping) else [one.get(name) for one in listed(held)]
        yield from (text for text in texts if isinstance(text, str) and text.strip())
    for group, kind in _LISTS.items():
        for page in row.get(group) or ():
            if not isinstance(page, Mapping) or "Filename" not in page:
                raise BothwaysError(f"{where}: {group} should name files ('Filename'), not {page!r:.60}")
            within = _evidence(folder, where) / kind
            path = within / str(page["Filename"])
            if within.resolve() not in path.resolve().parents:
                raise BothwaysError(f"{where}: {group} names {page['Filename']!r:.60}, which does not lie in {within}")
            with open_text(path) as lines:
                yield "\n".join(line for _, line in lines)


def _evidence(folder: Path | None, where: str) -> Path:
    for above in [] if folder is None else [folder, *folder.resolve().parents[:2]]:
        if (above / "evidence").is_dir():
            return above / "evidence"
    raise BothwaysError(f"{where}: its documents lie in a folder evidence/, which is not beside its file nor above it")


def listed(value: Any) -> list[Any]:
    """What a table holds where a list should be: a list, an array, or nothing."""
    return [] if value is None else value.tolist() if hasattr(value, "tolist") else list(value)
