"""What a run notes about itself is what a recount by hand gives, costs next to nothing, and survives a stop."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn import insight as module
from bothways.learn import pretrain as verb
from bothways.learn.insight import Classes, Groups, few, gradient_norms
from bothways.learn.objectives.protocol import Together
from bothways.learn.objectives.recipe import recipe
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.portions import divide
from bothways.learn.protocol import Evaluation
from bothways.learn.record import read_record
from bothways.learn.samples import Samples
from bothways.model.encoder import Encoder
from bothways.text.prepare import prepare
from bothways.text.shards import Corpus

CLOCK = ("seconds", "tokens_per_second", "waiting", "utilisation", "roof")
SETTINGS = {
    "steps": 9,
    "size": "tiny",
    "max_length": 32,
    "batch_tokens": 512,
    "evaluate_every": 3,
    "precision": "float32",
    "device": "cpu",
    "objective": "mlm",
    "learning_rate": 3e-3,
}


def documents(count=120, seed=0):
    """Texts of known words, some far more frequent than others, and of words that are spelled letter by letter."""
    draw = np.random.default_rng(seed)
    known = sorted(set(tiny.KNOWN.split()))
    weights = 1 / np.arange(1, len(known) + 1) ** 1.2
    for _ in range(count):
        found = draw.choice(known, size=60, p=weights / weights.sum()).tolist()
        for place in range(0, 60, 12):
            found[place] = str(draw.choice(["ox", "elk", "zebu", "okapi"]))  # of 2 to 5 tokens
        yield " ".join(found[:36]) + ".\n" + " ".join(found[36:]) + ".\n\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    (place / "text.txt").write_text("".join(documents()), encoding="utf-8")
    prepare(place / "text.txt", tiny.tokenizer(), place / "corpus")
    return Corpus.open(place / "corpus")


def train(corpus, out, **changes):
    return bw.pretrain(corpus, out=out, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(corpus, out)
    return out


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def of(out, event):
    return [line for line in log(out) if line["event"] == event]


def held_out(corpus, **changes):
    """The recipe of a run, and its held-out batches with their numbers."""
    plan = recipe(ObjectiveSettings(**{"objective": "mlm", "max_length": 32, **changes}), corpus)
    numbers = divide(len(plan.examples))[1]
    return plan, numbers, verb._held_items(plan, numbers, 16_384)


def test_the_log_has_its_lines_in_order(corpus, run):
    events = [(line["event"], line["step"]) for line in log(run)]
    measured = [(event, step) for step in (3, 6, 9) for event in ("evaluation", "insight")]
    assert events == [("run", 0), ("corpus", 0), *measured[:4], ("step", 9), *measured[4:]]
    begun, found = log(run)[:2]
    model = bw.load(run)
    assert begun["steps"] == 9
    assert sum(begun["parameters"].values()) == model.parameters
    assert begun["parameters"]["heads"] == sum(each.numel() for each in model.heads["mlm"].parameters())
    assert begun["held_out"] == len(held_out(corpus)[1])
    assert 0 < found["unigram_accuracy"] < 1
    assert 0 < found["unigram_loss"] < math.log(211)


def test_frequencies_and_lengths_of_words_are_those_of_a_recount_by_hand(corpus, run):
    model = bw.load(run, precision="float32", device="cpu")
    tokens, often = model.tokenizer.tokens, Counter(corpus.read(0, corpus.tokens).tolist())
    by_frequency, by_length = {}, {}
    for batch, targets in held_out(corpus)[2]:
        truth = batch.token_ids.copy()
        truth[targets["mlm.places"]] = targets["mlm.labels"]
        with torch.no_grad():
            hidden = model.encoder.eval()(batch).sequence
            logits = model.heads["mlm"].eval()(hidden, model.encoder.token_table)
        losses = -torch.log_softmax(logits, -1)
        for place in targets["mlm.places"].tolist():
            token = int(truth[place])
            first = last = place
            while tokens[truth[first]].startswith("##") and tokens[truth[first - 1]] not in tiny.SPECIALS:
                first -= 1
            while last + 1 < len(truth) and tokens[truth[last + 1]].startswith("##"):
                last += 1
            right, loss = int(logits[place].argmax()) == token, float(losses[place, token])
            for table, key in ((by_frequency, len(str(often[token]))), (by_length, min(4, last - first + 1))):
                row = table.setdefault(key, [0, 0, 0.0])
                row[0], row[1], row[2] = row[0] + 1, row[1] + right, row[2] + loss
    line = of(run, "insight")[-1]
    assert {row["from"] for row in line["word_length"]} == {1, 2, 3, 4}
    assert [row["from"] for row in line["word_length"]] == [1, 2, 3, 4]
    assert [row["to"] for row in line["word_length"]] == [2, 3, 4, None]
    assert all(row["to"] == 10 * max(row["from"], 1) for row in line["frequency"])
    assert len(line["frequency"]) >= 2
    for rows, expected, key in (
        (line["frequency"], by_frequency, lambda row: len(str(row["to"])) - 1),
        (line["word_length"], by_length, lambda row: row["from"]),
    ):
        assert {key(row): (row["count"], row["right"]) for row in rows} == {
            which: (count, right) for which, (count, right, _) in expected.items()
        }
        for row in rows:
            assert row["loss"] == pytest.approx(expected[key(row)][2], rel=1e-4)


def test_the_groups_add_up_to_the_evaluation(run):
    for line, measured in zip(of(run, "insight"), of(run, "evaluation"), strict=True):
        for table in (line["frequency"], line["word_length"]):
            count = sum(row["count"] for row in table)
            assert sum(row["right"] for row in table) / count == pytest.approx(measured["accuracy.mlm"])
            assert sum(row["loss"] for row in table) / count == pytest.approx(measured["loss.mlm"], rel=1e-5)


def test_the_samples_are_the_same_held_out_texts_each_time(corpus, run):
    lines = of(run, "insight")
    shown = [[(one["text"], [place["right"] for place in one["masked"]]) for one in line["samples"]] for line in lines]
    assert shown[0] == shown[1] == shown[2]
    assert lines[0]["samples"] != lines[2]["samples"], "but not what the model expects"
    plan, numbers, _ = held_out(corpus)
    assert len(shown[0]) == len(few(numbers)) >= 1
    whole = [corpus.tokenizer.decode(plan.examples.sequence(0, int(number))[0]) for number in numbers]
    for text, rights in shown[0]:
        assert 1 <= text.count("[MASK]") == len(rights) <= 4
        for right in rights:
            text = text.replace("[MASK]", right, 1)
        squeezed = text.replace(" ##", "").replace(" ", "")
        assert any(squeezed in one.replace(" ", "") for one in whole), text


def test_the_guesses_are_those_of_the_model(corpus, run):
    """The last line's, against the saved model on the whole sequences with every chosen token masked."""
    model = bw.load(run, precision="float32", device="cpu")
    plan, numbers, _ = held_out(corpus)
    expected = []
    for batch, targets in verb._held_items(plan, few(numbers), 16_384):
        ids = batch.token_ids.copy()
        ids[targets["mlm.places"]] = model.tokenizer.mask_id
        with torch.no_grad():
            hidden = model.encoder.eval()(batch.with_tokens(ids)).sequence
            shares = torch.softmax(model.heads["mlm"].eval()(hidden, model.encoder.token_table), -1)
        for start, end in zip(batch.starts[:-1], batch.starts[1:], strict=True):
            places = [place for place in targets["mlm.places"].tolist() if start <= place < end]
            expected.append([shares[place].topk(3) for place in places])
    for sample, places in zip(of(run, "insight")[-1]["samples"], expected, strict=True):
        for masked, best in zip(sample["masked"], places, strict=False):
            tokens = [model.tokenizer.tokens[token] for token in best.indices.tolist()]
            assert [token for token, _ in masked["guesses"]] == tokens
            assert [share for _, share in masked["guesses"]] == pytest.approx(best.values.tolist(), abs=1e-3)


def test_a_run_that_was_stopped_notes_the_same_to_the_bit(corpus, run, tmp_path):
    """Also where the stop lies between a step that is logged and the next evaluation."""

    def stop(event):
        if event.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(corpus, tmp_path, callbacks=[stop])
    assert [line["step"] for line in of(tmp_path, "insight")] == [3]
    assert json.loads((tmp_path / "run.json").read_text())["results"] is None
    train(corpus, tmp_path)

    def without_clock(out):
        return [{name: value for name, value in line.items() if name not in CLOCK} for line in log(out)]

    assert without_clock(tmp_path) == without_clock(run)


def test_an_evaluation_makes_no_pass_more_than_before_and_the_samples_few_sequences(corpus, monkeypatch, tmp_path):
    passes = []
    forward = Encoder.forward

    def counted(self, batch, **options):
        passes.append((torch.is_grad_enabled(), len(batch.starts) - 1))
        return forward(self, batch, **options)

    monkeypatch.setattr(Encoder, "forward", counted)
    train(corpus, tmp_path, steps=1)
    _, numbers, items = held_out(corpus)
    evaluating = [sequences for learning, sequences in passes if not learning]
    assert evaluating[:-1] == [len(batch.starts) - 1 for batch, _ in items]
    assert evaluating[-1] == len(few(numbers)) <= max(1, len(numbers) // 16)


def test_the_vocabulary_is_scored_once_at_each_held_out_place(corpus, monkeypatch, tmp_path):
    from bothways.model.heads import mlm

    scored = []
    whole = mlm.vocabulary_guesses

    def counted(hidden, *rest):
        scored.append((torch.is_grad_enabled(), len(hidden)))
        return whole(hidden, *rest)

    monkeypatch.setattr(mlm, "vocabulary_guesses", counted)
    train(corpus, tmp_path, steps=1)
    _, _, items = held_out(corpus)
    assert [count for learning, count in scored if not learning] == [len(targets["mlm.places"]) for _, targets in items]


class Certain:
    """In the place of what is learned: is sure of a token that the place decides, and keeps what it was given."""

    def guess(self, model, item, places):
        self.item, self.places = item, places
        return 100.0 * torch.nn.functional.one_hot(torch.as_tensor(places) % 150, 150).float()


def test_excerpts_are_short_and_hide_every_chosen_token():
    tokenizer = tiny.tokenizer()
    draw = np.random.default_rng(0)
    words = [place for place, token in enumerate(tokenizer.tokens) if token.isalpha() and len(token) > 2]
    texts = [np.concatenate(([tokenizer.cls_id], draw.choice(words, 98), [tokenizer.sep_id])) for _ in range(4)]
    places = np.array([20, 30, 95, *range(150, 170), 201])  # far apart; dense; the first of a text; none
    batch = make_batch(texts)
    masked = batch.token_ids.copy()
    masked[places[::2]] = tokenizer.mask_id  # the others are left as they are, as a tenth is
    targets = {"mlm.places": places, "mlm.labels": batch.token_ids[places]}
    certain = Certain()
    shown = Samples([(batch.with_tokens(masked), targets)], tokenizer).guess(None, certain)
    assert certain.places.tolist() == [20, 30, 150, 151, 152, 153, 201]
    assert (certain.item[0].token_ids[places] == tokenizer.mask_id).all()
    whole = batch.token_ids.tolist()
    for sample, (begin, end), chosen in zip(
        shown, [(10, 42), (140, 154), (200, 232)], [[20, 30], [150, 151, 152, 153], [201]], strict=True
    ):
        ids = [tokenizer.mask_id if place in chosen else whole[place] for place in range(begin, end)]
        assert sample["text"] == tokenizer.decode(ids, special_tokens=True).replace("[CLS] ", "")
        assert [one["right"] for one in sample["masked"]] == [tokenizer.tokens[whole[place]] for place in chosen]
        assert [one["guesses"][0] for one in sample["masked"]] == [
            [tokenizer.tokens[place % 150], 1.0] for place in chosen
        ]


# -- gradients


def test_the_gradients_of_all_parts_make_up_the_whole(run):
    line, insight = of(run, "step")[-1], of(run, "insight")[-1]
    parts = {name.partition(".")[2]: value for name, value in line.items() if name.startswith("gradient_norm.")}
    assert list(parts) == ["embeddings", "layer 1", "layer 2", "heads"]
    assert math.sqrt(sum(value**2 for value in parts.values())) == pytest.approx(line["gradient_norm"], rel=1e-5)
    assert insight["gradient_norms"] == parts
    assert line["gradient_norm"] > 1, "measured before it was clipped"


def test_steps_that_are_evaluated_and_not_logged_are_looked_at_too(run):
    assert [line["step"] for line in of(run, "step")] == [9]
    assert all(len(line["gradient_norms"]) == 4 for line in of(run, "insight"))


@pytest.mark.parametrize(("family", "expected"), [("albert", ["layers 1 to 2"]), ("bert", ["layer 1", "layer 2"])])
def test_layers_that_share_a_block_are_one_part(family, expected):
    config = tiny.config(family, layers=2, **({"blocks": 1} if family == "albert" else {}))
    model = torch.nn.ModuleDict({"encoder": bw.Model.random(config, tiny.tokenizer()).encoder})
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    norms = gradient_norms(model)
    assert [part for part in norms if part.startswith("layer")] == expected
    whole = math.sqrt(sum(parameter.numel() for parameter in model.parameters()))
    assert math.sqrt(sum(norm**2 for norm in norms.values())) == pytest.approx(whole, rel=1e-5)


def test_a_model_without_gradients_has_no_norms():
    model = bw.Model.random(tiny.config(), tiny.tokenizer())
    assert gradient_norms(torch.nn.ModuleDict({"encoder": model.encoder})) == {}


# -- other objectives


def test_of_replaced_tokens_original_and_replaced_ones_are_told_apart(corpus, tmp_path):
    train(corpus, tmp_path, objective="rtd", steps=2, evaluate_every=1)
    line, measured = of(tmp_path, "insight")[-1], of(tmp_path, "evaluation")[-1]
    parts = line["original"], line["replaced"]
    assert parts[0]["count"] > parts[1]["count"] > 0
    assert sum(part["right"] for part in parts) / sum(part["count"] for part in parts) == pytest.approx(
        measured["accuracy.rtd"]
    )
    items = held_out(corpus, objective="rtd")[2]
    assert sum(part["count"] for part in parts) == sum(batch.tokens for batch, _ in items)
    guessed = sum(row["right"] for row in line["frequency"]) / sum(row["count"] for row in line["frequency"])
    assert guessed == pytest.approx(measured["accuracy.mlm"]), "of the generator"
    assert {"generator", "heads", "embeddings"} <= line["gradient_norms"].keys()
    assert of(tmp_path, "run")[0]["parameters"].keys() == {"encoder", "heads", "generator"}
    assert all(len(place["guesses"]) == 3 for one in line["samples"] for place in one["masked"])


def test_where_nothing_is_masked_only_gradients_are_noted(corpus, tmp_path):
    train(corpus, tmp_path, objective="nsp", steps=1)
    assert of(tmp_path, "insight")[0].keys() == {"event", "step", "gradient_norms"}


def test_byte_level_tokens_have_words_too(tmp_path):
    (tmp_path / "text.txt").write_text("".join(documents()), encoding="utf-8")
    tokenizer = bw.train_tokenizer(tmp_path / "text.txt", vocab_size=270, kind="bpe", out=tmp_path / "tokenizer")
    found = Classes.of(prepare(tmp_path / "text.txt", tokenizer, tmp_path / "corpus"))
    ids = tokenizer.encode(["the okapi"]).token_ids
    batch = make_batch([ids])
    pieces = len(tokenizer.encode([" okapi"], special_tokens=False).token_ids)
    targets = {"mlm.places": np.array([1, len(ids) - 2]), "mlm.labels": ids[[1, -2]]}
    first = len(ids) - 2 - pieces
    assert found.word_lengths((batch, targets)).tolist() == [min(first, 4) - 1, min(pieces, 4) - 1]


# -- small things


def test_groups_add_up_over_batches_of_other_groups():
    groups = Groups()
    groups.add(np.array([2, 0]), torch.tensor([1.0, 2.0]), torch.tensor([True, False]))
    groups.add(np.array([0, 3]), torch.tensor([4.0, 8.0]), torch.tensor([True, True]))
    groups.add(np.array([], dtype=np.int64), torch.empty(0), torch.empty(0, dtype=torch.bool))
    assert groups.table(np.array([2, 3, 4]), first=1) == [
        {"from": 1, "to": 2, "count": 2, "right": 1, "loss": 6.0},
        {"from": 3, "to": 4, "count": 1, "right": 1, "loss": 1.0},
        {"from": 4, "to": None, "count": 1, "right": 1, "loss": 8.0},
    ]


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (20, 1), (40, 2), (512, 5)])
def test_few_examples_are_shown_and_of_few_fewer(count, shown):
    numbers = few(np.arange(100, 100 + count))
    assert len(numbers) == len(set(numbers)) == shown
    assert set(numbers) <= set(range(100, 100 + count))


def test_the_counts_of_a_part_of_the_corpus_stand_for_the_whole(corpus, monkeypatch):
    whole = Classes.of(corpus).frequencies
    assert np.array_equal(whole, np.bincount(corpus.read(0, corpus.tokens), minlength=len(whole)))
    halved = module.token_counts
    monkeypatch.setattr(module, "token_counts", lambda *given: halved(*given) // 2)
    assert Classes.of(corpus).frequencies.sum() == pytest.approx(corpus.tokens)


def test_whoever_measures_and_whoever_looks_on_are_one(corpus):
    """What the loop asks of an observer, an insight has; what it measures is what is learned."""
    plan, _, items = held_out(corpus)
    model = bw.Model.random(
        tiny.config(embeddings__vocab_size=corpus.tokenizer.size), corpus.tokenizer, [tiny.head("bert", "mlm")]
    )
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads}).eval()
    found = module.Insight(trained, plan.together, items, corpus, [], {})
    assert isinstance(plan.together, Together)
    assert set(Evaluation(plan.together.measured, found.measure).run()) == set(plan.together.measured)
    assert "samples" not in found.evaluated(1)["insight"]
    assert "gradient_norms" not in found.evaluated(1)["insight"], "nobody has looked at this step's"


# -- reading it back


def test_a_record_is_what_was_written(run):
    record = read_record(run)
    assert record.lines == log(run)
    assert record.run["command"] == "pretrain"
    assert read_record(run / "run.json").lines == record.lines
    assert [line["step"] for line in record.of("insight")] == [3, 6, 9]


def test_a_line_that_was_cut_is_left_out(run, tmp_path):
    whole = (run / "log.jsonl").read_bytes()
    (tmp_path / "log.jsonl").write_bytes(whole[:-20])
    assert read_record(tmp_path).lines == log(run)[:-1]
    assert read_record(tmp_path).run == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "holds no run, for it has no log.jsonl: give the folder that was its --out"),
        ("", "holds no step yet"),
        ('{"event": "run", "step": 0}\n', "holds no step yet"),
        ('{"event": "step", "st', "holds no step yet"),
        ('{"event": "step", "step": 1}\ndear diary\n', "line 2 is no line of a run's log"),
        ('{"event": "step"}\n', "line 1 is no line of a run's log"),
        ("[1]\n", "line 1 is no line of a run's log"),
    ],
)
def test_what_is_no_log_is_told_in_a_sentence(tmp_path, content, told):
    if content is not None:
        (tmp_path / "log.jsonl").write_text(content)
    with pytest.raises(BothwaysError, match=told):
        read_record(tmp_path)


def test_the_folder_that_was_probably_meant_is_named(run, tmp_path):
    for name in ("inner", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("")
    with pytest.raises(BothwaysError, match=r"did you mean \S*inner or \S*other$"):
        read_record(tmp_path)
    with pytest.raises(BothwaysError, match="does not exist"):
        read_record(tmp_path / "absent")
