"""Few examples: balanced pairs that follow from the seed, a head that is solved, and an ordinary classifier saved."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn import few_shot, loop
from bothways.learn.few_shot import Contrast, Pairs, solved_head
from bothways.learn.objectives.protocol import Together
from bothways.learn.stream import Stream
from bothways.learn.tasks.classify import Classify

CHEAP = {"few_shot": True, "precision": "float32", "learning_rate": 1e-3, "report": False}
WORDS = ("river", "garden", "winter")


def rows(count=24, classes=3, seed=0):
    """Texts of random words that end in the word of their class."""
    texts = tiny.sentences(count, longest=5, seed=seed)
    return [{"text": f"{text} {WORDS[n % classes]}", "label": "abc"[n % classes]} for n, text in enumerate(texts)]


class Listed:
    """Encoded examples of given classes."""

    def __init__(self, classes):
        draw = np.random.default_rng(0)
        self.texts = [np.array([2, *draw.integers(5, 90, n % 5 + 1), 3]) for n in range(len(classes))]
        self.classes = classes

    def __len__(self):
        return len(self.classes)

    def sequence(self, epoch, number):
        return self.texts[number], np.zeros_like(self.texts[number]), self.classes[number]


@pytest.fixture(scope="module")
def base():
    return tiny.model(heads=("mlm",))


# -- pairs


def test_half_the_pairs_are_of_one_class_and_every_example_comes_first_equally_often():
    classes = [0] * 9 + [1] * 5 + [2] * 2
    pairs = Pairs(Listed(classes), seed=3)
    drawn = [pairs.pair(0, number) for number in range(len(pairs))]
    assert len(drawn) == 2 * 20 * len(classes)
    assert sum(same for *_, same in drawn) * 2 == len(drawn)
    assert all((classes[a] == classes[b]) == same for a, b, same in drawn)
    assert all(a != b for a, b, _ in drawn)
    assert set(Counter((a, same) for a, _, same in drawn).values()) == {20}
    met = {(a, b) for a, b, _ in drawn}
    assert len(met) > 0.6 * len(classes) * (len(classes) - 1)


def test_of_many_examples_those_come_first_in_a_later_epoch_that_did_not_before(monkeypatch):
    monkeypatch.setattr(few_shot, "_MOST", 40)
    pairs = Pairs(Listed([n // 10 for n in range(60)]), seed=0)
    first = [{pairs.pair(epoch, number)[0] for number in range(40)} for epoch in range(3)]
    assert [len(each) for each in first] == [20, 20, 20]
    assert set.union(*first) == set(range(60))
    assert len({n // 10 for n in first[0]}) > 2  # not the first classes alone


def test_pairs_are_a_function_of_seed_epoch_and_number():
    one, same, other = (Pairs(Listed([0, 0, 0, 1, 1, 1] * 3), seed=seed) for seed in (1, 1, 2))
    numbers = np.random.default_rng(0).permutation(len(one)).tolist()
    drawn = {number: one.pair(0, number) for number in numbers}
    assert drawn == {number: same.pair(0, number) for number in range(len(one))}
    assert drawn != {number: other.pair(0, number) for number in range(len(one))}
    assert drawn != {number: one.pair(1, number) for number in range(len(one))}


def test_a_run_draws_by_its_seed_which_examples_come_first():
    task, model = few_shot.FewShot(Classify()), tiny.model(heads=("classify",))
    data = task.read([row | {"label": {"a": "bad", "b": "fine", "c": "good"}[row["label"]]} for row in rows(24)])
    drawn = [task.examples(model, data, seed) for seed in (0, 1)]
    first = [[pairs.pair(0, number)[0] for number in range(24)] for pairs in drawn]
    assert first[0] != first[1]


def test_an_example_alone_in_its_class_is_its_own_partner():
    pairs = Pairs(Listed([0, 0, 0, 1]), seed=0)
    alone = [pairs.pair(0, number) for number in range(len(pairs)) if pairs.pair(0, number)[0] == 3]
    assert {(a, b) for a, b, same in alone if same} == {(3, 3)}
    assert {b for _, b, same in alone if not same} == {0, 1, 2}


# -- what is learned


def test_the_loss_is_the_squared_distance_of_cosines_computed_pair_by_pair():
    base = tiny.model(heads=("classify",))
    pairs = Pairs(Listed([0, 0, 1, 1, 2, 2]), seed=0)
    contrast = Contrast(base)
    stream = Stream(pairs, contrast.prepare, batch_size=16, micro_tokens=40, epochs=1)
    items = stream.next_step(0.0)
    assert len(items) > 1
    assert sum(contrast.count(targets) for _, targets in items) == 16
    model = torch.nn.ModuleDict({"encoder": base.encoder})
    found = sum(Together([contrast]).evaluate(model, item)["loss.contrast"] for item in items)

    def vector(number):
        output = base.encoder(make_batch([pairs.examples.texts[number]]))
        return output.sequence.double().mean(0)

    again = Stream(pairs, lambda batch, keys, examples, _: (batch, {"keys": keys}), batch_size=16, epochs=1)
    keys = {key for _, targets in again.next_step(0.0) for key in targets["keys"]}
    expected = 0.0
    with torch.no_grad():
        for key in keys:
            first, second, same = pairs.pair(*key)
            cosine = torch.nn.functional.cosine_similarity(vector(first), vector(second), dim=0)
            expected += float((cosine - float(same)) ** 2)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_solved_head_answers_as_the_regression_does(classes):
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    right = np.arange(30) % classes
    vectors = (draw.normal(size=(30, 6)) + 2 * draw.normal(size=(classes, 6))[right]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1).mean()
    weight, bias = solved_head(vectors, right, classes)
    logits = vectors @ weight.T + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = LogisticRegression(C=1.0, max_iter=1000).fit(vectors, right)
    assert np.allclose(shares, known.predict_proba(vectors), atol=1e-3)
    scaled, moved = solved_head(vectors * 7, right, classes)
    assert np.allclose(vectors * 7 @ scaled.T + moved, logits, atol=1e-2)


def test_a_class_that_does_not_occur_is_never_chosen():
    vectors = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    weight, bias = solved_head(vectors, np.array([0, 2] * 4), 3)
    assert set((vectors @ weight.T + bias).argmax(1)) <= {0, 2}


def test_pairs_are_drawn_apart_and_together_and_the_classifier_learns(base):
    found = bw.finetune("classify", base=base, train=rows(24), dev=rows(30, seed=1), batch_size=16, **CHEAP)
    losses = found.history.values("loss")
    assert losses[-1] < losses[0]
    assert found.history.steps == 24 * 40 // 16
    assert found.scores["accuracy"] > 0.8
    assert all(parameter.requires_grad for parameter in found.model.heads["classify"].parameters())


# -- what is saved


def test_what_is_saved_is_an_ordinary_classifier_that_answers_the_same(base, tmp_path):
    found = bw.finetune("classify", base=base, train=rows(), dev=rows(12), steps=5, out=tmp_path / "o", **CHEAP)
    opened = bw.load(tmp_path / "o", device="cpu")
    assert opened.task == "classify"
    head = opened.head_configs["classify"]
    assert (head.reads, head.hidden, head.labels) == ("mean", "none", ("a", "b", "c"))
    texts = tiny.sentences(20)
    assert np.array_equal(opened.class_probabilities(texts), found.model.class_probabilities(texts))
    assert bw.evaluate(tmp_path / "o", rows(12), device="cpu")["accuracy"] == found.scores["accuracy"]


def test_it_goes_on_where_it_was_stopped_and_repeats_by_its_seed(base, tmp_path, monkeypatch):
    given = {"base": base, "train": rows(), "dev": rows(12), "steps": 8, "evaluate_every": 2, **CHEAP}
    whole = bw.finetune("classify", **given)
    real, steps = loop._accumulate, []

    def accumulate(*arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "_accumulate", accumulate)
    with pytest.raises(KeyboardInterrupt):
        bw.finetune("classify", out=tmp_path / "o", **given)
    found = bw.finetune("classify", out=tmp_path / "o", **given)
    texts = tiny.sentences(9)
    assert np.array_equal(found.model.class_probabilities(texts), whole.model.class_probabilities(texts))
    other = bw.finetune("classify", seed=1, **given)
    assert not np.array_equal(other.model.class_probabilities(texts), whole.model.class_probabilities(texts))


def test_it_goes_with_seeds_and_folds(base):
    seeds = bw.finetune_seeds("classify", base=base, train=rows(), dev=rows(12), seeds=2, steps=2, **CHEAP)
    assert seeds.model.head_configs["classify"].reads == "mean"
    folds = bw.cross_validate("classify", base=base, train=rows(), folds=2, steps=2, **CHEAP)
    assert len(folds.rows) == 24


# -- mistakes


@pytest.mark.parametrize(
    ("task", "changes", "said"),
    [
        ("regress", {}, "does not suit regress: use classify"),
        ("classify", {"focal": 2.0}, "focal means nothing"),
        ("classify", {"teacher": "large"}, "teacher means nothing"),
        ("classify", {"hidden": "gelu"}, "hidden means nothing"),
        ("classify", {"reads": "pooled"}, "reads the mean"),
        ("classify", {"freeze": True}, "unfreeze the encoder"),
    ],
)
def test_what_does_not_suit_is_refused_in_one_sentence(base, task, changes, said):
    train = rows() if task == "classify" else [{"text": row["text"], "label": 0.5 * n} for n, row in enumerate(rows())]
    with pytest.raises(BothwaysError, match=said) as told:
        bw.finetune(task, base=base, train=train, **CHEAP | changes)
    assert "\n" not in str(told.value)


def test_with_nothing_else_to_learn_the_last_layer_begins_at_once(base):
    """Pairs have no head that could learn alone while the encoder still waits."""
    bw.finetune("classify", base=base, train=rows(), steps=2, batch_size=8, unfreeze=0.5, **CHEAP)
    pairs = [{"text_a": row["text"], "text_b": row["text"]} for row in rows()]
    made = bw.finetune("embed", base=base, train=pairs, steps=2, batch_size=8, unfreeze=0.5, report=False)
    learned, before = (each.encoder.stack.blocks[-1].feed_forward.inner.weight for each in (made.model, base))
    assert not torch.equal(learned, before)


def test_several_labels_and_pairs_of_texts_are_refused(base):
    several = [{"text": row["text"], "label": [row["label"], "x"]} for row in rows()]
    with pytest.raises(BothwaysError, match="several labels"):
        bw.finetune("classify", base=base, train=several, **CHEAP)
    pairs = [{"text_a": row["text"], "text_b": row["text"], "label": row["label"]} for row in rows()]
    with pytest.raises(BothwaysError, match="pairs of texts"):
        bw.finetune("classify", base=base, train=pairs, **CHEAP)
