"""The page of a training run: ``report.html`` in its folder. It is drawn at the run's end, and when it is asked for.

Of a fine-tuning run it says first what the model is worth (``metrics.json``), then how it was trained.

The pages themselves are made in `bothways.report` from plain data. No torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn.record import METRICS, ending, read_record
from bothways.paths import as_path
from bothways.report.judgement_page import judgement_page
from bothways.report.page import write_page
from bothways.report.run_page import run_page
from bothways.run.files import read_json

PAGE = "report.html"


def write_report(run: str | Path, out: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Draws the page of a run: finished, interrupted, or one that goes on at this moment.

    Args:
        run: The run's folder.
        out: The HTML file to write; None for ``report.html`` in the run's folder, which is the run's own and is
            replaced.
        overwrite: Whether a file at `out` is replaced.

    Returns:
        The file.

    Raises:
        BothwaysError: There is no run, it has logged nothing yet, its log is broken, or the file is there already or
            cannot be written.
    """
    record = read_record(run)
    path = record.folder / PAGE if out is None else as_path(out)
    if out is not None and path.exists() and not overwrite:
        raise BothwaysError(f"{path} exists already: choose another --out or --overwrite")
    if not path.absolute().parent.is_dir():
        raise BothwaysError(f"{path.parent} is no folder: choose another --out")
    ended = ending(record.run["history"]) if "history" in record.run else None
    page = run_page(str(record.folder), record.run, record.lines, ending=ended, made=_now())
    judgement = read_json(record.folder / METRICS) if (record.folder / METRICS).is_file() else {}
    if "contenders" in judgement:
        judged = judgement_page(judgement)
        page |= {name: judged[name] for name in ("facts", "judgement")} | {"results": None}
        page["summary"] = " ".join(filter(None, (judged["summary"], ended)))
    return write_page(path, page)


def write_judgement(folder: Path, judgement: Mapping[str, Any]) -> Path:
    """Writes the page of an evaluation beside its ``metrics.json``.

    Raises:
        BothwaysError: It cannot be written.
    """
    return write_page(folder / PAGE, judgement_page(judgement, made=_now()))


def _now() -> str:
    return datetime.now().astimezone().strftime("%d %B %Y, %H:%M")


def leave_report(run: Path) -> None:
    """Draws the page at the end of a run, which is not to fail because of it."""
    try:
        write_report(run)
    except BothwaysError as error:
        warnings.warn(f"{error}; the run itself is whole", BothwaysWarning, stacklevel=2)
