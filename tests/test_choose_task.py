"""The right one of several texts is learned: the choices of one prompt are compared with each other and no others."""

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward
from bothways.learn.stream import Stream, split_items
from bothways.learn.tasks.choose import Choices, Choose
from bothways.text.choices import Choosing
from learner_tasks import assert_resumes_exactly, gradients, modules

WORDS = tiny.KNOWN.split()
SETTINGS = {"max_length": 32, "learning_rate": 3e-3, "dropout": 0.0, "report": False, "device": "cpu"}


def prompts(count, seed=0):
    """Two to four choices; the right one says a word of the prompt again."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = draw.permutation(WORDS)
        size, cut = int(draw.integers(2, 5)), int(draw.integers(3, 8))
        prompt, others = words[:cut], words[cut:]
        choices = [" ".join(draw.choice(others, draw.integers(1, 8))) for _ in range(size)]
        label = int(draw.integers(size))
        choices[label] = " ".join(prompt[: draw.integers(1, cut + 1)])
        rows.append(Choosing(" ".join(prompt), tuple(choices), label, f"row {number + 1}"))
    return Choices(rows, "prompts")


def learnable(count, seed=0):
    """The right choice is the one that speaks of music."""
    rows = []
    for row in prompts(count, seed).rows:
        choices = [choice.replace("music", "red") for choice in row.choices]
        choices[row.label] += " music"
        rows.append(Choosing(row.prompt, tuple(choices), row.label, row.where))
    return Choices(rows, "prompts")


def as_rows(data):
    return [{"prompt": row.prompt, "choices": list(row.choices), "label": row.label} for row in data.rows]


@pytest.fixture(scope="module")
def chooser():
    return tiny.model(["choose"], max_length=32)


def items(model, data, micro_tokens):
    examples, objective = Choose().examples(model, data), Choose().objective(model, data)
    keys = [(0, number) for number in range(len(examples))]
    return objective, split_items(keys, [examples.sequence(*key) for key in keys], objective.prepare, micro_tokens)


def test_packed_choices_score_as_prompt_by_prompt(chooser):
    data = prompts(12)
    objective, (item,) = items(chooser, data, 10**9)
    with torch.no_grad():
        forward = Forward(chooser.encoder, item[0], chooser.encoder(item[0]))
        logits = objective.logits(modules(chooser), forward, item[1])
        loss = objective.loss(modules(chooser), forward, item[1])
    alone = [chooser.choose(row.prompt, row.choices) for row in data.rows]
    together = chooser.choose([row.prompt for row in data.rows], [row.choices for row in data.rows])
    order = [next(n for n, row in enumerate(data.rows) if row is each) for each in _in_order(item, data)]
    for row, place in zip(torch.softmax(logits, -1), order, strict=True):
        shares = alone[place].probabilities
        assert row.tolist() == pytest.approx([*shares, *[0] * (len(row) - len(shares))], abs=1e-5)
    for one, other in zip(alone, together, strict=True):
        assert one.number == other.number
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    right = [one.probabilities[row.label] for one, row in zip(alone, data.rows, strict=True)]
    assert float(loss.total) == pytest.approx(-np.log(right).sum(), rel=1e-5)
    assert float(loss.hits) == sum(one.number == row.label for one, row in zip(alone, data.rows, strict=True))
    assert objective.count(item[1]) == 12


def _in_order(item, data):
    """The prompts in the order of the targets, told by what stands in their sequences."""
    batch, targets = item
    tokenizer = tiny.tokenizer()
    told = {tuple(tokenizer.encode([row.prompt], [row.choices[0]]).token_ids.tolist()): row for row in data.rows}
    for first in targets["choose.sequences"][:, 0]:
        yield told[tuple(batch.token_ids[batch.starts[first] : batch.starts[first + 1]].tolist())]


@pytest.mark.parametrize("micro_tokens", [1, 100])
def test_the_choices_of_a_prompt_stay_in_one_batch_and_gradients_are_the_same(chooser, micro_tokens):
    data, learned = prompts(10), []
    for tokens in (10**9, micro_tokens):
        model = chooser.copy()
        objective, found = items(model, data, tokens)
        sizes = [(targets["choose.sequences"] >= 0).sum(1).tolist() for _, targets in found]
        assert sorted(size for own in sizes for size in own) == sorted(len(row.choices) for row in data.rows)
        learned.append(gradients(model, objective, found))
    assert len(found) > 1
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_same_prompt_twice_in_a_step_is_two_guesses(chooser):
    data = prompts(3)
    examples, objective = Choose().examples(chooser, data), Choose().objective(chooser, data)
    numbers = np.array([1, 1, 1, 0])
    stream = Stream(examples, objective.prepare, numbers=numbers, batch_size=4, epochs=1, seed=0)
    (item,) = stream.next_step(0.0)
    assert objective.count(item[1]) == 4
    used = item[1]["choose.sequences"]
    assert sorted(used[used >= 0].tolist()) == list(range(item[0].sequences))


def test_two_passes_are_compared_over_the_choices_there_are(chooser):
    objective, (item,) = items(chooser, prompts(5), 10**9)
    with torch.no_grad():
        logits = objective.logits(
            modules(chooser), Forward(chooser.encoder, item[0], chooser.encoder(item[0])), item[1]
        )
    assert objective.distance(logits, logits, item[1]) == 0
    assert torch.isfinite(objective.distance(logits, logits + torch.randn(logits.shape), item[1]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("choose") / "run"
    base = tiny.model(["mlm"], max_length=64)
    return bw.finetune(
        "choose", base=base, train=as_rows(learnable(120)), dev=as_rows(learnable(40, 1)), epochs=4, out=out, **SETTINGS
    ), out


def test_a_model_learns_to_choose_and_is_saved_as_it_is(trained):
    found, out = trained
    assert found.scores["accuracy"] > 0.9
    assert 0.2 < found.scores["chance"] < 0.5
    again = bw.load(out)
    assert again.task == "choose"
    rows = prompts(20, 2).rows
    asked = [row.prompt for row in rows], [row.choices for row in rows]
    assert again.choose(*asked) == found.model.choose(*asked)
    first = again.choose(rows[0].prompt, rows[0].choices)
    assert first.text == rows[0].choices[first.number]
    assert sum(first.probabilities) == pytest.approx(1)
    assert bw.evaluate(again, as_rows(learnable(40, 1)))["accuracy"] == found.scores["accuracy"]


def test_transformers_opens_it_with_the_same_numbers(trained):
    transformers = pytest.importorskip("transformers")
    found, out = trained
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(out / "model").eval()
    prompt, choices = "the red stone", ["the old house", "a river and a bridge", "stone"]
    encoded = found.model.encode([prompt] * 3, choices)
    longest = int(encoded.lengths.max())
    ids, segments, mask = np.zeros((3, 3, longest), dtype=np.int64)
    for row in range(3):
        own = slice(encoded.starts[row], encoded.starts[row + 1])
        size = int(encoded.lengths[row])
        ids[row, :size], segments[row, :size], mask[row, :size] = encoded.token_ids[own], encoded.segment_ids[own], 1
    with torch.no_grad():
        logits = theirs(*(torch.from_numpy(each)[None] for each in (ids, mask, segments))).logits
    shares = found.model.choose(prompt, choices).probabilities
    assert torch.softmax(logits[0], -1).tolist() == pytest.approx(shares, abs=1e-5)


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    assert_resumes_exactly(tmp_path, "choose", as_rows(prompts(40)), {"max_length": 32, "dropout": 0.1})


def test_what_is_judged_and_its_baselines():
    data = prompts(40)
    found = Choose().baselines(data, data)
    assert found["word overlap"].scores["accuracy"] == 1, "the right one says the prompt's words"
    assert found["longest choice"].scores["accuracy"] < 1
    judged = found["longest choice"].rows[0]
    assert judged.guess == max(data.rows[0].choices, key=len)
    assert judged.truth == data.rows[0].choices[data.rows[0].label]
    assert found["word overlap"].resampled(np.array([0, 0]))["accuracy"] == 1


def test_what_cannot_be_chosen_from_is_told(chooser):
    with pytest.raises(BothwaysError, match="prompt 0 has fewer than two choices"):
        chooser.choose("red", ["stone"])
    with pytest.raises(BothwaysError, match="do not go together"):
        chooser.choose(["red", "old"], [["a", "b"]])
    windows = chooser.copy()
    windows.truncation = "window"
    with pytest.raises(BothwaysError, match="not read in windows"):
        windows.choose("red", ["stone", "river"])
    with pytest.raises(BothwaysError, match="'choose'"):
        tiny.model(["classify"]).choose("red", ["stone", "river"])
    assert chooser.choose([], []) == []
