"""Families at one body size and one budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import grid
from cells import Blocks, Cell, Result, Room, results
from encoders import BODY, MEASURED, memory

from tables.objectives import ROWS as FIRST

TITLE = "3. Families"
TASKS = ("sst2-few", "trec", "sick", "conll2003-few")
ROWS = {
    "ALBERT": {"family": "albert", "objective": "mlm+sop", "body": {**BODY, "embeddings.width": "128"}},
    "DeBERTa": {"family": "deberta"},
    "ModernBERT": {"family": "modernbert"},
    "MPNet body": {"family": "mpnet"},
}
KNOWN = {"mlm+nsp": "BERT", "mlm": "BERT without pairs", "rtd": "ELECTRA"}
"""Rows of the first table that are families."""

TEXT = f"""Bodies of 4 layers of 256, four heads and a feed-forward width of 1,024 in every family, each with its own
positions, norms, activation and objective, 10 million tokens, everything else as in the first table; ALBERT's layers
share their weights and its embeddings are 128 wide, MPNet's body learns masked tokens. Tokens a second are in
[the benchmarks](../benchmarks/README.md), where nothing else runs; memory is the peak of a process that takes
{MEASURED} steps of the pre-training and does nothing else."""


def cells() -> Iterator[Cell]:
    """Four pre-trainings and their fine-tunings, BERT's and ELECTRA's are the first table's; and the memory of all."""
    yield from grid.cells(ROWS, TASKS)
    for row, settings in ({KNOWN[row]: FIRST[row] for row in KNOWN} | ROWS).items():
        yield Cell(f"memory: {row}", partial(_memory, row, settings))


def _memory(row: str, settings: Mapping[str, Any], room: Room) -> Result:
    return memory(room, f"{grid.slug(row)}-memory", **settings)


def page(found: Mapping[str, Result]) -> Blocks:
    """The table and its picture."""
    first = results("objectives")
    every = {grid.renamed(name, KNOWN): result for name, result in first.items()} | dict(found)
    rows = [*KNOWN.values(), *ROWS, grid.NONE]
    for row in rows:
        needed = found.get(f"memory: {row}")
        if needed and (known := every.get(f"pre-train: {row}")):
            every[f"pre-train: {row}"] = known | needed
    table = grid.lines(every, rows, TASKS, "BERT", held_out)
    return TEXT, table, grid.picture("families", every, rows, TASKS)


def held_out(result: Result) -> str:
    """Accuracy on held-out text, size and memory."""
    memory = f"{result['memory'] / 2**20:,.0f} MiB" if "memory" in result else "–"
    return f"{grid.accuracies(result)}; {result['parameters'] / 1e6:.1f} M, {memory}"
