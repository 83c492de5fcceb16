"""Families at one body size and one budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import grid
from cells import Blocks, Cell, Result, Room, results
from encoders import BODY, MEASURED, memory

TITLE = "3. Families"
MEAN = {"reads": "mean", "hidden": "none"}
TASKS: dict[str, dict[str, Any]] = {"sst2-few": {"hidden": "none"}, "trec": MEAN, "sick": MEAN, "conll2003-few": {}}
"""Each with the classifier that all families get: their own differ in what they read."""
ROWS = {
    "mlm": {},
    "ALBERT": {"family": "albert", "objective": "mlm+sop", "body": {**BODY, "embeddings.width": "128"}},
    "DeBERTa": {"family": "deberta", "mask_decoder": "enhanced"},
    "ELECTRA": {"objective": "rtd", "mask_rate": 0.15},
    "ModernBERT": {"family": "modernbert"},
    "MPNet body": {"family": "mpnet", "mask_order": "at-once"},
    "MPNet": {"family": "mpnet"},
}
TOLD = {"mlm": "BERT"}
"""What a row is called on the page; in the tables of objectives it is that one."""

TEXT = f"""Bodies of 4 layers of 256, four heads and a feed-forward width of 1,024 in every family, each with its own
positions, norms, activation and objective, 10 million tokens, everything else as in the first table, trained on one
machine. BERT learns masked tokens alone, as do ModernBERT and MPNet's body, which guesses them in a permuted order as
MPNet; ALBERT's layers share their weights and its embeddings are 128 wide; DeBERTa has its enhanced mask decoder. All
but ModernBERT, whose rotations let no head begin so, begin with heads that look at neighbours. All are classified by
one linear layer over the mean of the tokens (in tags ModernBERT has a layer more). Tokens a second are in [the
benchmarks](../benchmarks/README.md), where nothing else runs; memory is the peak of a process that takes {MEASURED}
steps of the pre-training and does nothing else."""


def cells() -> Iterator[Cell]:
    """Pre-trainings and their fine-tunings, those of an untrained BERT, and the memory of all."""
    yield from grid.cells(ROWS, TASKS, untaught=["mlm"], simple=False)
    for row, settings in ROWS.items():
        yield Cell(f"memory: {row}", partial(_memory, row, settings))


def _memory(row: str, settings: Mapping[str, Any], room: Room) -> Result:
    return memory(room, f"{grid.slug(row)}-memory", **settings)


def page(found: Mapping[str, Result]) -> Blocks:
    """The table and its picture."""
    simple = {name: one for name, one in results("objectives").items() if name.startswith("baselines")}
    every = simple | {grid.renamed(name, TOLD): result for name, result in found.items()}
    rows = [*(TOLD.get(row, row) for row in ROWS), grid.NONE]
    for row in rows:
        if needed := every.get(f"memory: {row}"):
            every[f"pre-train: {row}"] = every.get(f"pre-train: {row}", {}) | needed
    table = grid.lines(every, rows, TASKS, "BERT", held_out)
    return TEXT, table, grid.picture("families", every, rows, TASKS)


def held_out(result: Result) -> str:
    """Accuracy on held-out text, size and memory."""
    size = f"{result['parameters'] / 1e6:.1f} M" if "parameters" in result else ""
    memory = f"{result['memory'] / 2**20:,.0f} MiB" if "memory" in result else ""
    return "; ".join(told for told in (grid.accuracies(result), size, memory) if told)
