"""What students of half the layers keep of their teachers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import distil
import grid
from cells import Blocks, Cell, Result, Room, results
from encoders import BATCH, LENGTH, MASKED, TOKENS, corpus, encoder
from figures import NOTHING, markdown, spread
from probes import PROBES, SEEDS, probe

TITLE = "7. Distillation"
TASKS = ("sst2-few", "sick", "conll2003-few")
TEACHERS = ("BERT-mini", "MiniLM-L6")
SCRATCH = "from scratch"
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    SCRATCH: ("BERT-mini", {"objective": "mlm"}),
    "DistilBERT's": ("BERT-mini", {"objective": "mlm+distil"}),
    "TinyBERT's": ("BERT-mini", {"objective": "mlm+tinybert"}),
    "MiniLM's": ("MiniLM-L6", {"objective": "minilm"}),
}
ROWS = (*TEACHERS, *STUDENTS)

TEXT = """BERT-mini is trained as `mlm` in the first table, once more; its students have two of its four layers and
read 10 million tokens too: from every second layer of the teacher with DistilBERT's losses or TinyBERT's and AdamW, as
Bothways continues from published encoders; or from random weights with masked tokens alone and Muon, as it begins.
all-MiniLM-L6-v2 teaches a student of three layers MiniLM's relations; both are fine-tuned at a rate of 1e-4, all
others as above. In brackets what is kept of the teacher's mean, beside which stands what no pre-training keeps. Speed
is of the encoder in evaluation, student and teacher in turn."""


def cells() -> Iterator[Cell]:
    """Students, their sizes, and the fine-tunings of all."""
    for row in STUDENTS:
        yield Cell(f"train: {row}", partial(made, row))
    for row in ROWS:
        needs = (f"train: {row}",) if row in STUDENTS else ()
        yield Cell(f"{row}: size", partial(size, row), needs)
        for task in TASKS:
            for seed in SEEDS:
                yield Cell(f"{row}: {task}, seed {seed}", partial(tuned, row, task, seed), needs)


def teacher(row: str, room: Room) -> str:
    """The folder of a teacher."""
    return str(encoder(room, "mlm")) if row == "BERT-mini" else room.models["minilm"]


def folder(row: str, room: Room) -> str:
    """The folder of a row, made if it is not there."""
    import bothways as bw

    if row in TEACHERS:
        return teacher(row, room)
    by, settings = STUDENTS[row]
    options = {"batch_tokens": BATCH, "max_length": LENGTH, "dropout": 0.0, "steps": TOKENS // BATCH, **settings}
    text: Any = corpus(room) if by == "BERT-mini" else words_of(by, room)
    if "minilm" not in settings["objective"]:
        options["mask_rate"] = MASKED
    if settings["objective"] == "mlm":
        options |= {"base": distil.random_half(Path(teacher(by, room))), "optimizer": "muon"}
    else:
        options |= {"teacher": teacher(by, room), "size": "half"}
    return str(room.made(f"student-{grid.slug(row)}", lambda out: bw.pretrain(text, out=out, **options)))


def words_of(by: str, room: Room) -> Path:
    """The corpus in the words of another teacher."""
    import bothways as bw
    from bothways.text.prepare import prepare

    sources = [str(room.data / name / "train.txt.gz") for name in ("wikipedia-en-slice", "gutenberg-books")]
    cut = bw.load(teacher(by, room)).tokenizer
    return room.made(f"corpus-{by}", lambda out: prepare(sources, cut, out), sign="index.json")


def made(row: str, room: Room) -> Result:
    """Trains a student."""
    folder(row, room)
    return {}


def size(row: str, room: Room) -> Result:
    """Parameters, and how many times as fast as its teacher."""
    import bothways as bw

    by = row if row in TEACHERS else STUDENTS[row][0]
    loaded = [bw.load(one, precision="auto", truncation="window") for one in (folder(row, room), teacher(by, room))]
    layers = sum(value.numel() for value in loaded[0].encoder.stack.parameters())
    faster = 1.0 if row in TEACHERS else distil.speeds(*loaded)["times_teacher"]
    return {"in layers": layers, "parameters": loaded[0].parameters, "times": faster}


def tuned(row: str, task: str, seed: int, room: Room) -> Result:
    """One fine-tuning."""
    own = {"learning_rate": 1e-4} if (row if row in TEACHERS else STUDENTS[row][0]) == "MiniLM-L6" else {}
    return probe(room, task, folder(row, room), seed, **own)


def page(found: Mapping[str, Result]) -> Blocks:
    """The table and its picture."""
    body = []
    for row in ROWS:
        by = row if row in TEACHERS else STUDENTS[row][0]
        line = []
        for task in TASKS:
            own, theirs = grid.scores(found, row, task), grid.scores(found, by, task)
            line.append(spread(own) + (kept_of(own, theirs) if row != by else ""))
        known = found.get(f"{row}: size")
        told = (f"{known['in layers'] / 1e6:.1f} M", f"{known['times']:.2f}×") if known else (NOTHING, NOTHING)
        body.append([row if row in TEACHERS else f"{row} student of {by}", *told, *line])
    first = results("objectives")
    line = []
    for task in TASKS:
        own, theirs = grid.scores(first, grid.NONE, task), grid.scores(found, TEACHERS[0], task)
        line.append(spread(own) + kept_of(own, theirs))
    body.append([grid.NONE, NOTHING, "", *line])
    for name in dict.fromkeys(name for task in TASKS for name in first.get(f"baselines: {task}", {})):
        own = [first.get(f"baselines: {task}", {}).get(name) for task in TASKS]
        body.append([name, "", "", *(NOTHING if value is None else f"{value:.3f}" for value in own)])
    heads = ["", "in layers", "speed", *(PROBES[task].said for task in TASKS)]
    taught = {row: grid.compared(found, row, SCRATCH, TASKS) for row, (by, _) in STUDENTS.items() if by == TEACHERS[0]}
    said = "; ".join(f"{row} {told}" for row, told in taught.items() if told and row != SCRATCH)
    above = (
        f"Points above the same student from scratch, over {len(TASKS)} tasks and three seeds: {said}." if said else ""
    )
    return TEXT, markdown(heads, body), above, grid.picture("distillation", found, ROWS, TASKS)


def kept_of(own: Sequence[float], theirs: Sequence[float]) -> str:
    """What is kept of a teacher's mean, in brackets."""
    return f" ({sum(own) / len(own) / (sum(theirs) / len(theirs)):.0%})" if own and theirs else ""
