"""``bothways export``: a model as a graph that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import Adapter, Json, ModelSource, Overwrite, Threads, data, plain

EXAMPLES = [
    "bothways export my-classifier exported --to onnx",
    "bothways export my-embedder small --to onnx --precision int8 --worst-cosine 0.99",
    "bothways export my-tagger graph --to openvino",
]


def export(
    model: ModelSource,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that is made.")],
    to: Annotated[Literal["onnx", "openvino"], plain("--to", None, "What runs it: ONNX Runtime or OpenVINO.")] = "onnx",
    precision: Annotated[
        Literal["float32", "int8"], plain("--precision", None, "Of the weights; int8 for onnx only.")
    ] = "float32",
    texts: Annotated[
        Path | None, data("--texts", "FILE", "Texts, one a line, to compare with MODEL on; English ones of any length.")
    ] = None,
    worst_cosine: Annotated[
        float, plain("--worst-cosine", "COSINE", "What int8 must keep of every vector, of a model without heads.")
    ] = 0.999,
    equal_decisions: Annotated[
        float, plain("--equal-decisions", "SHARE", "Decisions of each head that int8 must not change.")
    ] = 0.995,
    adapter: Adapter = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a model as a graph that runs without torch: tokens in, vectors and the answers of all heads out."""
    import bothways as bw
    from bothways.errors import BothwaysError

    lines = None
    if texts is not None:
        lines = [line for line in texts.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if not lines:
            raise BothwaysError(f"{texts} holds no text; give a file with a text on each line")
    loaded = bw.load(model, device="cpu", adapter=adapter)
    made = loaded.export(
        out,
        to=to,
        precision=precision,
        texts=lines,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
        overwrite=overwrite,
    )
    figures = {"out": made.folder, "to": made.to, "precision": made.precision, "megabytes": made.megabytes}
    if json:
        output.as_json(figures | {"kept": made.kept, "check": made.check})
        return
    if precision == "int8":
        figures["in_float32"] = ", ".join(made.kept) or "no layer"
    vectors = made.check["vector"]["worst_cosine"]
    equal = {kind: alike["equal"] for kind, alike in made.check.items() if isinstance(alike, dict) and "equal" in alike}
    compared = f"worst cosine of vectors {vectors:.6f}"
    compared += "".join(f", {share:.1%} of {kind} equal" for kind, share in equal.items())
    said = {"compared": f"{made.check['texts']} texts, {made.check['tokens']:,} tokens", "alike": compared}
    output.facts(figures | said)
    output.line(f"\nNext: bothways embed {out} texts.jsonl vectors.npy")
