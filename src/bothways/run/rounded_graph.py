"""OpenVINO computes a float32 graph in bf16 too: how like float32 that is, on real texts, looked at once."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from bothways.run.bound import Bound
from bothways.run.check import compare_engines, real_texts
from bothways.run.compared import keep, recall
from bothways.run.engines.rectangles import RectangleEngine
from bothways.run.runner import Runner


def rounded_check(model: Runner, rounding: RectangleEngine, exact: Callable[[], RectangleEngine]) -> dict[str, Any]:
    """Compares what an exported model gives when its products are rounded.

    Args:
        model: Its tokenizer and heads.
        rounding: Runs its graph in lower precision.
        exact: Makes what runs it in float32, if that is not known already.

    Returns:
        What `compare_engines` found, now or in a process before.
    """
    longest, heads = model.max_length, sorted(model.head_configs.items())
    depends_on = (rounding.graph, heads, model.sentence, model.tokenizer.fingerprint, longest, version(rounding.name))
    precision = f"{rounding.name}-{rounding.precision}"
    if (before := recall(precision, depends_on)) is not None:
        check: dict[str, Any] = before[0]["check"]
        return check
    check = compare_engines(model, exact(), rounding, real_texts(longest))
    keep(precision, depends_on, {"kept": [], "check": check}, Bound())
    return check
