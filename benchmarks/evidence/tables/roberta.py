"""What RoBERTa changed, one thing at a time: masks, batches, sequences, tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grid
from cells import Blocks, Cell, Result, results
from encoders import LENGTH

TITLE = "2. RoBERTa's lesson"
TASKS = ("sst2-few", "sick", "conll2003-few")
RATE = 1.5e-3
"""What `bothways.pretrain` takes for Muon at this width; larger batches bear more, as the root of their size."""
TENTH = {"every": 9, "tokens": 8_600_000}
"""2.1 million of the corpus' tokens, read four times."""
ROWS = {
    "mlm": {},
    "four epochs, static masks": {**TENTH, "static_masks": 1},
    "four epochs, dynamic masks": TENTH,
    "batches of 256 sequences": {"batch_tokens": 256 * LENGTH, "learning_rate": 8**0.5 * RATE},
    "batches of 2,048 sequences": {"batch_tokens": 2048 * LENGTH, "learning_rate": 64**0.5 * RATE},
    "full sentences": {"sequences": "full-sentences"},
    "5 M tokens": {"tokens": 5_000_000},
    "20 M tokens": {"tokens": 20_000_000},
}
KNOWN = ("mlm+nsp",)
"""Rows of the first table that belong here too: pairs of segments; and at the end none."""

TEXT = f"""Liu et al. (2019) trained BERT longer, on more text, in larger batches, without sentence pairs and with
masks that change. Each row changes one thing against `mlm`: 10 million tokens, {2048 // LENGTH} sequences a step,
dynamic masks, blocks of running text. Static masks are drawn once and seen four times, over a tenth of the text, as
are the dynamic ones beside them (8.6 million tokens in all); in batches of 256 and 2,048 sequences the same tokens are
read as in `mlm`, in an eighth and a sixty-fourth of the steps, at rates that grow with the root of the batch. `mlm` is
trained as in the first table, once more, on the machine that trained the others here; `mlm+nsp` is the first table's.
Fine-tuning as above."""


def cells() -> Iterator[Cell]:
    """Pre-trainings and their fine-tunings."""
    return grid.cells(ROWS, TASKS)


def page(found: Mapping[str, Result]) -> Blocks:
    """The table, and the pairs that answer a question each."""
    borrowed = ("baselines", grid.NONE, *(f"{row}:" for row in KNOWN), *(f"pre-train: {row}" for row in KNOWN))
    first = results("objectives")
    every = {name: result for name, result in first.items() if name.startswith(borrowed)} | dict(found)
    questions = [
        ("dynamic masks instead of static ones", "four epochs, dynamic masks", "four epochs, static masks"),
        ("256 sequences instead of 32", "batches of 256 sequences", "mlm"),
        ("2,048 sequences instead of 256", "batches of 2,048 sequences", "batches of 256 sequences"),
        ("full sentences instead of pairs", "full sentences", "mlm+nsp"),
        ("10 million tokens instead of 5", "mlm", "5 M tokens"),
        ("20 million tokens instead of 10", "20 M tokens", "mlm"),
    ]
    rows = [*ROWS, *KNOWN, grid.NONE]
    table = grid.lines(every, rows, TASKS, "mlm", grid.accuracies)
    picture = grid.picture("roberta", every, rows, TASKS)
    return TEXT, table, grid.answers(every, questions, TASKS), picture
