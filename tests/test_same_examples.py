"""The same examples whatever the number of processes: each is a function of seed, epoch and number alone."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from bothways.learn.objectives.recipe import recipe
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.stream import Stream
from bothways.text.prepare import prepare
from bothways.text.shards import Corpus

SENTENCES = [f"{one.capitalize()}." for one in tiny.sentences(96, longest=12)]
DOCUMENTS = [" ".join(SENTENCES[begin : begin + 8]) for begin in range(0, 96, 8)]
KINDS = [
    {"objective": "mlm"},
    {"objective": "mlm", "mask_unit": "span", "sequences": "full-sentences"},
    {"objective": "mlm+nsp", "mask_unit": "word"},
    {"objective": "mlm", "mask_order": "permuted", "mask_rate": 0.3},
    {"objective": "mlm+sop", "mask_rate": 0.3},
    {"objective": "rtd"},
    {"objective": "rtd+sop", "mask_unit": "word"},
]
EPOCHS = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare(DOCUMENTS, tiny.tokenizer(), tmp_path_factory.mktemp("prepared") / "corpus")


def seen(corpus, kind, share=(0, 1), seed=5, order=5, batch_tokens=200, micro_tokens=10**6):
    """All examples of three epochs as one process of several makes them, by epoch and number.

    Args:
        corpus: What they are cut from.
        kind: What is learned.
        share: The process's number and how many there are: they take the numbers in turn.
        seed: Of the run.
        order: What the examples are shuffled by.
        batch_tokens: Of a step.
        micro_tokens: Of a batch.

    Returns:
        For each key the tokens that an encoder is given, and everything that is to be guessed of them.
    """
    plan = recipe(ObjectiveSettings(max_length=32, seed=seed, **kind), corpus)
    keys_of = []

    def finish(batch, keys, examples, progress):
        keys_of.append(keys)
        return plan.finish(batch, keys, examples, progress)

    numbers = np.arange(share[0], len(plan.examples), share[1])
    options = {"batch_tokens": batch_tokens, "micro_tokens": micro_tokens, "seed": order}
    stream = Stream(plan.examples, finish, numbers=numbers, epochs=EPOCHS, **options)
    found = {}
    while (items := stream.next_step(0.0)) is not None:
        for (batch, targets), keys in zip(items, keys_of, strict=True):
            assert targets.keys() >= {"mlm.places", "mlm.labels"}
            for row, key in enumerate(keys):
                assert key not in found
                found[key] = one_of(batch, targets, row)
        keys_of.clear()
    return found


def one_of(batch, targets, row):
    """What a batch and its targets hold of one sequence, as plain data."""
    begin, end = batch.starts[row : row + 2]
    first, last = np.searchsorted(targets["mlm.places"], (begin, end))
    parts = {"tokens": batch.token_ids[begin:end], "segments": batch.segment_ids[begin:end]}
    for name, values in targets.items():
        if name == "mlm.places":
            parts[name] = values[first:last] - begin
        elif name in ("mlm.labels", "mlm.turns", "rtd.draws"):
            parts[name] = values[first:last]
        elif name not in ("mlm.given", "mlm.guessing"):  # made of the others
            parts[name] = values[begin:end] if name == "rtd.originals" else values[row : row + 1]
    return {name: values.tolist() for name, values in parts.items()}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_processes_that_divide_the_numbers_make_what_one_makes(corpus, data):
    """Together all of it, each once, whatever steps, batches and orders each of them chooses."""
    kind = data.draw(st.sampled_from(KINDS))
    whole = seen(corpus, kind)
    assert len(whole) > 3 * EPOCHS
    processes = data.draw(st.integers(1, 4))
    together = {}
    for process in range(processes):
        own = {
            "order": data.draw(st.integers(0, 99)),
            "batch_tokens": data.draw(st.integers(1, 900)),
            "micro_tokens": data.draw(st.integers(1, 300)),
        }
        part = seen(corpus, kind, (process, processes), **own)
        assert not part.keys() & together.keys()
        together |= part
    assert together == whole


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["objective"])
def test_seed_and_epoch_change_what_is_made_of_a_number(kind, corpus):
    """Else the test above would hold of examples that are always the same."""
    whole, other = seen(corpus, kind), seen(corpus, kind, seed=6)
    numbers = {number for _, number in whole}
    assert sum(whole[0, number] == whole[1, number] for number in numbers) < len(numbers) / 4
    assert sum(whole[key] == other[key] for key in whole.keys() & other.keys()) < len(whole) / 4


ASKED = """
import json, sys
import test_same_examples as here

corpus, process, processes = here.Corpus.open(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
made = [here.seen(corpus, kind, (process, processes), order=process) for kind in here.KINDS]
print(json.dumps([sorted(found.items()) for found in made]))
"""


def test_two_processes_at_once_make_what_one_makes(corpus):
    """Real ones, that open the same corpus."""
    asked = [
        subprocess.Popen(
            [sys.executable, "-c", ASKED, str(corpus.folder), str(process), "2"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        for process in range(2)
    ]
    told = [json.loads(one.communicate()[0]) for one in asked]
    opened = Corpus.open(corpus.folder)
    for kind, *parts in zip(KINDS, *told, strict=True):
        together = {tuple(key): value for part in parts for key, value in part}
        assert len(together) == sum(map(len, parts))
        assert together == seen(opened, kind)
