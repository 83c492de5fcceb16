"""The files that fine-tuning learns from: as an argument, or with ``--train``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bothways.cli.options import data
from bothways.cli.reading import named_files
from bothways.errors import BothwaysError

Files = Annotated[list[str] | None, typer.Argument(metavar="TRAIN", help="Labelled files, or -.", show_default=False)]
Train = Annotated[list[str] | None, data("--train", "FILE", "The same as TRAIN; give it for each file.")]


def learned_from(task: str, given: dict[str, Any]) -> Any:
    """What was typed to learn from, or what a run learned from that is repeated.

    Args:
        task: Its name.
        given: All that was typed.

    Raises:
        BothwaysError: There is nothing, it is given in both ways, or a file is not there.
    """
    files, train = given["files"], given["train"]
    if files and train and given.get("again") is None:
        raise BothwaysError(f"{' '.join(files)} and --train {' '.join(train)}: give all files to learn from in one way")
    if not files and not train:
        raise BothwaysError(f"give a file to learn from: bothways finetune {task} TRAIN ...")
    return named_files(files or train)


def follows(task: str, out: Any) -> str:
    """What is typed next, to use what was learned."""
    return (
        f"bothways embed {out} FILE vectors.npy"
        if task == "embed"
        else f"bothways predict {out} FILE --out answers.jsonl"
    )
