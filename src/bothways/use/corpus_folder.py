"""The folder of a corpus: what in it is ours and may be thrown away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.files import RUNNING
from bothways.text.prepare import CLEANED
from bothways.text.shard_writer import PARTIAL
from bothways.text.shards import DOCUMENTS, FORMAT, INDEX, SENTENCES, TOKENIZER, UNFINISHED, shard_name

TEXT, CARD, PAGE, WORK = "text", "card.json", "card.html", ".cleaning"
_SHARDS = shard_name(0).replace("00000", "*")


def held(folder: Path) -> list[Path]:
    """What stands in a folder, but for our lock."""
    return sorted(entry for entry in folder.iterdir() if entry.name != RUNNING)


def throw_away(folder: Path, reads: Iterable[Any]) -> None:
    """Removes the corpus of a folder, cleaned, prepared or being made; nothing where there is none.

    Args:
        folder: It, which has to be there.
        reads: What the next one is made from; all but paths are passed over.

    Raises:
        BothwaysError: Something else stands there too, or what is to be read; nothing was removed.
    """
    ours = _ours(folder)
    if not ours:
        return
    if others := [entry.name for entry in held(folder) if entry not in ours]:
        raise BothwaysError(
            f"{folder} holds more than a corpus ({', '.join(others[:3])}), which is not thrown away; move it, or give "
            "another folder"
        )
    for one in reads:
        read = Path(one).resolve() if isinstance(one, str | Path) else None
        if read is not None and folder.resolve() in (read, *read.parents):
            raise BothwaysError(f"{one} is to be read, and overwriting {folder} would remove it; give another folder")
    for entry in ours:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _ours(folder: Path) -> set[Path]:
    """What in a folder is of a corpus."""
    names: set[str] = set()
    if (folder / WORK).is_dir() or "recipe" in _object(folder / CARD):
        names |= {WORK, TEXT, CARD, PAGE}
    if any(_object(folder / name).get("format") == FORMAT for name in (INDEX, UNFINISHED)):
        names |= {INDEX, UNFINISHED, SENTENCES, DOCUMENTS, TOKENIZER, CARD, PAGE}
        names |= {entry.name for pattern in (_SHARDS, f"*{PARTIAL}") for entry in folder.glob(pattern)}
    within = folder / CLEANED
    if within.is_dir() and set(held(within)) == _ours(within) != set():
        names.add(CLEANED)
    return {folder / name for name in names if (folder / name).exists()}


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
