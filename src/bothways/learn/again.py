"""A run that is asked for again once it is finished: what was asked is compared, and its result is read, not made."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.checkpoint import BestWeights
from bothways.learn.keeper import differences
from bothways.learn.processes import here
from bothways.learn.record import LOG, read_record
from bothways.learn.runs import read_run
from bothways.learn.state import History
from bothways.progress import say
from bothways.run.model import Model, load
from bothways.text.documents import Source
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer

_DATA = ("corpus", "tokenizer", "base", "teacher", "train", "dev")
"""What is told apart by what it holds, not by its name."""
_NO_EFFECT = (
    *("out", "resume", "force", "overwrite", "report", "tensorboard", "save_minutes", "device", "parallel"),
    *("micro_tokens", "gradient_checkpointing", "teacher_cache", "on_corrupt"),
)
"""Settings that change no number of a run."""


def finished_run(out: Path, command: str, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a finished run in a folder, if it is of the same command and settings.

    Args:
        out: The folder; it need not exist.
        command: What is to be run, as in ``run.json``.
        asked: All settings, as they were given.

    Returns:
        What ``run.json`` says; None where there is no such run, or not all that it left: `check_out` says what then.

    Raises:
        BothwaysError: It is a run of the same command with other settings; the sentence says which.
    """
    if not (out / "run.json").exists() or (out / "checkpoint" / "current").exists():
        return None
    there = read_run(out)
    ended = there.get("results") is not None and "asked" in there and "history" in there
    if there["command"] != command or not ended or not (out / "model").is_dir() or not (out / LOG).is_file():
        return None
    check_same(out, _compared(there["settings"] | there["asked"]), _compared(asked))
    return there


def check_same(out: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuses what differs from the finished run in a folder.

    Raises:
        BothwaysError: Something does; the sentence says what.
    """
    if changed := differences(there, json.loads(json.dumps(here, default=str))):
        raise _another_run(out, "; ".join(changed.values()))


def same_corpus(out: Path, corpus: Source | Corpus, tokenizer: Tokenizer | None, prepare: Callable[[], Corpus]) -> str:
    """The fingerprint of the corpus that a finished pre-training is asked for again with.

    Args:
        out: The run's folder. Raw text is compared with what was prepared there; nothing is made.
        corpus: A prepared corpus, or raw text.
        tokenizer: What was given to make its tokens.
        prepare: Yields the prepared corpus.

    Raises:
        BothwaysError: The text is not what was prepared in the folder.
    """
    there = Corpus.lies_in(out / "corpus") and (tokenizer is not None or (out / "tokenizer").is_dir())
    if there or isinstance(corpus, Corpus) or Corpus.lies_in(corpus):
        with suppress(BothwaysError):
            return prepare().fingerprint
    raise _another_run(out, "its corpus is another")


def as_it_was(out: Path, run: dict[str, Any], device: str | None) -> tuple[Model, History, dict[str, Any]]:
    """The model, the history and the scores of a finished run, and a sentence that there is nothing to do.

    Args:
        out: Its folder.
        run: Its record.
        device: Where the model is wanted.
    """
    if here().first:
        BestWeights(out).discard()  # which a kill may have left
    say(f"Finished already: nothing to do. The model lies in {out / 'model'}")
    scores = {name: value for name, value in run["results"].items() if name not in ("steps", "seconds")}
    return load(out / "model", device=device), History.read(run["history"], read_record(out).lines), scores


def _another_run(out: Path, how: str) -> BothwaysError:
    ways = "choose another --out or --overwrite"
    return BothwaysError(f"{out} holds another run, which is finished ({how}): {ways}")


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in (*_DATA, *_NO_EFFECT)}
