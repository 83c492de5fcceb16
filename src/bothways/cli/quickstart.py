"""``bothways quickstart``: a BERT from raw text to a report, in a few minutes, with nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bothways.cli import output
from bothways.cli.options import From, Json, Out, Overwrite, Seed, Steps, Threads, training

EXAMPLES = [
    "bothways quickstart",
    "bothways quickstart --minutes 10 --out my-first-bert",
    "bothways quickstart --from my-first-bert/run.json --out again",
]


def quickstart(
    *,
    again: From = None,
    minutes: Annotated[float, training("--minutes", "MINUTES", "For the whole run.")] = 4.0,
    steps: Steps = None,
    seed: Seed = 0,
    threads: Threads = None,
    out: Out = Path("quickstart"),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a BERT from the documentation of your own Python: vocabulary, pre-training, a job, scores, a report."""
    from bothways.use.quickstart import quickstart as run

    result = run(minutes=minutes, steps=steps, out=out, seed=seed, overwrite=overwrite)
    if json:
        output.as_json(result)
        return
    rows = [(one["name"], one["accuracy"], one["macro_f1"], one["mcc"], one["seconds"]) for one in result.comparison]
    output.table(("", "accuracy", "macro-F1", "MCC", "seconds"), rows)
    output.line(
        f"\nIn {result.seconds:.0f} s, {result.steps:,} steps of pre-training. The whole story: {result.report}"
    )
    output.line(f'Next: bothways fill {result.out / "pretrained"} "Return the [MASK] of the list."')
