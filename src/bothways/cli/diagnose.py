"""``bothways diagnose``: what may be wrong with a pre-training run."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import Json

EXAMPLES = ["bothways diagnose my-bert", "bothways diagnose quickstart/pretrained --json"]

_WIDTH = 100
"""Letters that a sentence takes at most."""


def diagnose(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a pre-training run, finished or not.")],
    json: Json = False,
) -> None:
    """Say how a pre-training run is doing: likely causes where it does badly, with their evidence and what to do."""
    import bothways as bw

    found = bw.diagnose(run)
    if json:
        output.as_json(found)
        return
    output.line(f"{found.run}: {found.verdict}; {found.why}.\n")
    output.facts({name: _number(value) for name, value in found.figures.items()})
    for number, finding in enumerate(found.findings, start=1):
        _show(number, finding)
    for sentence in found.missing:
        output.line("\n" + _wrapped(sentence))


def _show(number: int, finding: Any) -> None:
    output.line("\n" + _wrapped(f"{number}. {finding.what}"))
    output.line(_wrapped(f"   {finding.remedy}", 3) + "\n")
    rows = [(f"   {one.what}", str(one), f"({one.source})") for one in finding.evidence]
    output.table(("", "", ""), rows)


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def _wrapped(sentence: str, indent: int = 0) -> str:
    width = min(_WIDTH, output.room())
    return "\n".join(textwrap.wrap(sentence, width, subsequent_indent=" " * indent, replace_whitespace=False))
