"""What each objective teaches an encoder of one size in the same number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import grid
from cells import Blocks, Cell, Result

TITLE = "1. Objectives"
TASKS = ("sst2-few", "conll2003-few", "sst2", "trec", "sick", "conll2003", "ud-ewt")
ROWS = {
    "mlm": {},
    "mlm, random start": {"attention_start": "random"},
    "mlm+nsp": {"objective": "mlm+nsp"},
    "mlm+sop": {"objective": "mlm+sop"},
    "mlm, whole words": {"mask_unit": "word"},
    "mlm, spans": {"mask_unit": "span"},
    "rtd": {"objective": "rtd", "mask_rate": 0.15},
}

TEXT = """BERT-mini (4 layers of 256, vocabulary 8,000) reads 10 million tokens of English Wikipedia and of novels, in
sequences of 64 tokens, 2,048 a step, 30 % masked (15 % where tokens are replaced), Muon, without dropout, its first
heads looking at neighbours from the start, but for one row: one pre-training a row. Each is then fine-tuned on five
tasks, three epochs, with three seeds, beside the same encoder untrained; and on 2,000 examples of SST-2 (the mean of
the tokens read) and of CoNLL-2003, four epochs. The last weights are scored on a split that nothing was chosen by; the
two tasks of 2,000 examples were added once it was seen that the others hardly tell encoders of this size apart, and
they weigh most in the means. Mean and deviation are of three seeds. p is of a sign-flip test over tasks and seeds,
which belong together in pairs: how likely chance is to part two encoders so far in fine-tuning; by task, with a mean
each, how likely other tasks are to say otherwise. Neither says how far two pre-trainings of the same kind lie apart,
of which there is one each. The untrained encoder has no heads that look at neighbours either."""

QUESTIONS = [
    ("first heads that look at neighbours", "mlm", "mlm, random start"),
    ("next sentence besides", "mlm+nsp", "mlm"),
    ("sentence order besides", "mlm+sop", "mlm"),
    ("sentence order instead of next sentence", "mlm+sop", "mlm+nsp"),
    ("whole words instead of tokens", "mlm, whole words", "mlm"),
    ("spans instead of tokens", "mlm, spans", "mlm"),
    ("replaced tokens instead of masked ones", "rtd", "mlm"),
]
"""Each a row against another."""


def cells() -> Iterator[Cell]:
    """Seven pre-trainings, and fine-tunings from all and from none."""
    return grid.cells(ROWS, TASKS, untaught=["mlm"])


def page(found: Mapping[str, Result]) -> Blocks:
    """The table and its picture."""
    rows = [*ROWS, grid.NONE]
    table = grid.lines(found, rows, TASKS, grid.NONE, grid.accuracies)
    return TEXT, table, grid.answers(found, QUESTIONS, TASKS), grid.picture("objectives", found, rows, TASKS)
