"""What the commands that compare lower precision with float32 share: texts, labelled rows, and how like it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.files import shown

if TYPE_CHECKING:
    from bothways.run.model import Model


def texts_of(file: Path | None) -> list[str] | None:
    """The texts of a file that are not blank, read as every command reads them; None without one.

    Raises:
        BothwaysError: It holds none, or cannot be read.
    """
    if file is None:
        return None
    from bothways.use.predictions.shared import Wish, ask_texts

    read = (asked.inputs[0] for asked in ask_texts(str(file), Wish(), pairs=False))
    texts: list[str] = [text for text in read if text.strip()]
    if not texts:
        raise BothwaysError(f"{shown(file)} holds no text; give a table of texts, or a .txt with one a line")
    return texts


def metric_of(model: Model, labelled: str | None) -> Callable[[Model], float] | None:
    """The first metric of the model's task on labelled rows; None without them."""
    if labelled is None:
        return None
    from bothways.learn.evaluate import labelled_metric

    return labelled_metric(model, labelled)


def alike(check: Mapping[str, Any]) -> dict[str, str]:
    """What was compared, and how like it is, for people."""
    equal = {kind: found["equal"] for kind, found in check.items() if isinstance(found, dict) and "equal" in found}
    told = f"worst cosine of vectors {check['vector']['worst_cosine']:.6f}"
    told += "".join(f", {share:.1%} of {kind} equal" for kind, share in equal.items())
    return {"compared": f"{check['texts']} texts, {check['tokens']:,} tokens", "alike": told}
