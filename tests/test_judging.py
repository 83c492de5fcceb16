"""What a score is worth: intervals that hold the truth, calibration, groups, copies, labels that may be wrong."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest

from bothways.errors import BothwaysWarning
from bothways.learn.judging.bootstrap import (
    all_right,
    by_chance,
    differing_examples,
    interval,
    resample,
    suited_resamples,
)
from bothways.learn.judging.calibration import calibration, reliability, untempered
from bothways.learn.judging.compare import compared, mcnemar
from bothways.learn.judging.copies import find_copies, overlap_sentence, warn_of_overlap
from bothways.learn.judging.label_errors import suspected_errors
from bothways.learn.judging.marked import parts, shown
from bothways.learn.judging.strata import by_familiarity, by_length, known_words
from bothways.learn.metrics import classification_scores, confusion_counts, confusion_metrics
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.learn.tasks.protocol import Examined, Judged, Mark


def hits(right):
    """A judgement whose only metric is the share that is right."""
    right = np.asarray(right, dtype=float)
    rows = [Judged(f"text {place}", "a", "a" if hit else "b", hit) for place, hit in enumerate(right.tolist())]
    return Examined({"accuracy": right.mean()}, rows, lambda places: {"accuracy": right[places].mean()})


def texts(*given, labels=None, name="the list"):
    return LabelledTexts(list(given), None, list(labels or ["a"] * len(given)), name)


# -- intervals


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    held = 0
    for trial in range(120):
        right = draw.random(200) < 0.8
        low, high = interval(resample([hits(right)], ("accuracy",), resamples=200, seed=trial)[0, :, 0], right.mean())
        held += low <= 0.8 <= high
    assert 0.88 <= held / 120 <= 0.99


def test_an_interval_is_as_wide_as_theory_has_it_and_narrower_with_more_examples():
    right = np.arange(400) % 5 > 0
    low, high = interval(resample([hits(right)], ("accuracy",))[0, :, 0], 0.8)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 400), rel=0.1)
    few = interval(resample([hits(right[:40])], ("accuracy",))[0, :, 0], 0.8)
    assert few[1] - few[0] > 2 * (high - low)


def test_resamples_are_the_same_for_the_same_seed_and_shared_by_contenders():
    one, other = hits(np.arange(50) % 3 > 0), hits(np.arange(50) % 3 > 0)
    drawn = resample([one, other], ("accuracy",), resamples=50, seed=3)
    assert np.array_equal(drawn[0], drawn[1]), "equal answers never differ on the same resample"
    assert np.array_equal(drawn, resample([one, other], ("accuracy",), resamples=50, seed=3))
    assert not np.array_equal(drawn, resample([one, other], ("accuracy",), resamples=50, seed=4))
    assert suited_resamples(10_000) == 1000


def test_what_is_not_defined_on_a_resample_is_left_out():
    assert interval(np.array([np.nan, 1.0, 1.0, np.inf]), 1.0) == [1.0, 1.0]
    assert np.isnan(interval(np.array([np.nan]), 1.0)).all()
    assert by_chance(np.array([np.nan]), 0.1, 10) == 1.0


def chance_of(one, other):
    drawn = resample([one, other], ("accuracy",))[:, :, 0]
    differing = differing_examples(one, other, ("accuracy",))["accuracy"]
    return by_chance(drawn[1] - drawn[0], other.scores["accuracy"] - one.scores["accuracy"], differing)


@pytest.mark.parametrize(("examples", "better"), [(1, 1), (3, 3), (100, 4), (1000, 4), (50, 5)])
def test_few_examples_that_differ_are_never_beyond_what_coins_would_do(examples, better):
    """McNemar's exact test of so many examples that one alone has right."""
    found = chance_of(hits(np.arange(examples) >= better), hits(np.ones(examples)))
    assert 0.5 ** (better - 1) <= found < 0.5 ** (better - 1) + 0.1


def test_equal_models_seldom_differ_beyond_chance():
    draw, beyond = np.random.default_rng(0), 0
    for _ in range(150):
        right = np.ones((2, 60))
        right[draw.integers(0, 2, 6), np.arange(6)] = 0  # six examples that one of both has wrong
        beyond += chance_of(*map(hits, right)) < 0.05
    assert beyond <= 0.08 * 150


def test_examples_differ_for_a_metric_that_sees_more_than_guesses():
    right = [1, 1, 0, 1]

    def one(shares):
        found = hits(right)
        return Examined(found.scores, found.rows, lambda places: {"accuracy": 0.75, "area": np.mean(shares[places])})

    found = differing_examples(one(np.arange(4)), one(np.arange(4) + 0.5), ("accuracy", "area"))
    assert found == {"accuracy": 0, "area": 4}


def test_where_all_are_right_the_interval_is_that_of_so_many_successes():
    low, high = interval(np.ones(50), 1.0, right=all_right(np.ones(20)))
    assert (round(low, 4), high) == (0.8316, 1.0)
    assert all_right([1.0, 0.5]) == all_right([]) == 0


def test_an_interval_of_a_share_ends_at_one_and_that_of_a_distance_does_not():
    assert interval(np.array([0.7, 0.8, 1.0] * 200), 0.95)[1] == 1.0
    assert interval(np.array([0.7, 0.8, 1.2] * 200), 1.0)[1] > 1.2


def test_rare_classes_that_resamples_miss_do_not_move_the_interval():
    truth = np.concatenate([np.repeat([0, 1], 60), np.arange(2, 22)])
    guessed = np.where(truth < 2, truth, 0)  # rare classes are never found

    def metric(places):
        return confusion_metrics(confusion_counts(truth[places], guessed[places], 22))

    value = metric(np.arange(140))["macro_f1"]
    rows = [Judged("t", "a", "a", 1.0)] * 140
    values = resample([Examined({}, rows, metric, truth=truth)], ("macro_f1",))[0, :, 0]
    assert values.mean() > 1.3 * value, "most resamples hold fewer classes to fail in"
    low, high = interval(values, value)
    assert low < value < high
    assert (value - low) / (high - low) == pytest.approx(0.5, abs=0.15)


def test_a_confusion_gives_the_scores_of_its_examples():
    draw = np.random.default_rng(1)
    for classes in (2, 3, 9):
        right = draw.integers(0, classes, 300)
        guessed = np.where(draw.random(300) < 0.7, right, draw.integers(0, classes, 300))
        scores = classification_scores(right, guessed, [str(number) for number in range(classes)])
        figures = confusion_metrics(confusion_counts(right, guessed, classes))
        assert figures == pytest.approx({name: scores[name] for name in figures})


# -- comparing


def test_mcnemar_is_the_exact_binomial_test():
    for only_a, only_b in ((0, 0), (1, 0), (3, 9), (20, 5), (7, 7)):
        count, least = only_a + only_b, min(only_a, only_b)
        exact = min(1.0, 2 * sum(comb(count, k) for k in range(least + 1)) / 2**count)
        assert mcnemar(only_a, only_b) == pytest.approx(exact)


def test_a_model_does_not_differ_from_itself():
    one = hits(np.arange(90) % 4 > 0)
    told = compared(one, one, ("A", "B"), ("accuracy",), "the list")
    assert told["sentence"].startswith("There is no difference between A and B beyond chance")
    assert (told["beyond_chance"], told["p"]["accuracy"], told["mcnemar"]["p"]) == (False, 1.0, 1.0)
    assert told["flips"]["to_a"] == told["flips"]["to_b"] == {"count": 0, "shown": []}


def test_the_better_model_is_named_whichever_comes_first_and_its_gains_are_shown():
    worse, better = np.arange(200) % 2 > 0, np.arange(200) % 10 > 0
    for order in (1, -1):
        told = compared(*[hits(each) for each in (worse, better)][::order], ("A", "B"), ("accuracy",), "x", show=3)
        best, side = ("B", "to_b") if order == 1 else ("A", "to_a")
        assert told["sentence"].startswith(f"{best} is better by 0.400 (95% interval 0.3")
        assert told["beyond_chance"]
        assert told["flips"][side]["count"] == 80
        assert len(told["flips"][side]["shown"]) == 3
        assert told["flips"][side]["shown"][0]["other"] == "b"


def test_a_difference_that_a_few_examples_make_is_called_chance():
    one, other = np.ones(60), np.ones(60)
    one[:6], other[4:12] = 0, 0
    told = compared(hits(one), hits(other), ("A", "B"), ("accuracy",), "x")
    assert not told["beyond_chance"]
    assert told["mcnemar"] == {"only_a": 8 - 2, "only_b": 4, "p": pytest.approx(mcnemar(6, 4))}


def test_credit_in_parts_has_no_mcnemar():
    rows = [Judged("t", "a", "b", 0.5)]
    found = Examined({"f1": 0.5}, rows, lambda places: {"f1": 0.5})
    assert compared(found, found, ("A", "B"), ("f1",), "x")["mcnemar"] is None


# -- calibration


def test_the_calibration_error_by_hand():
    # bins of a fifth: (0.6, 0.8] holds 0.7, 0.8 of which one is right; (0.8, 1] holds 0.9, 1.0, both right
    found = reliability(np.array([0.7, 0.8, 0.9, 1.0]), np.array([True, False, True, True]), bins=5)
    assert found["ece"] == pytest.approx((abs(0.75 - 0.5) * 2 + abs(0.95 - 1.0) * 2) / 4)
    assert [(one["from"], one["to"], one["count"], one["right"]) for one in found["bins"]] == [
        (pytest.approx(0.6), 0.8, 2, 0.5),
        (0.8, 1.0, 2, 1.0),
    ]


def test_a_temperature_is_taken_back_exactly_and_never_changes_the_likeliest():
    draw = np.random.default_rng(2)
    logits = 3 * draw.standard_normal((200, 4))

    def softmax(values):
        raised = np.exp(values - values.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    for temperature in (0.4, 2.5):
        cooled = softmax(logits / temperature)
        assert np.abs(untempered(cooled, temperature) - softmax(logits)).max() < 1e-9
        assert (untempered(cooled, temperature).argmax(1) == logits.argmax(1)).all()


def test_an_overconfident_model_is_better_calibrated_with_its_temperature():
    draw = np.random.default_rng(3)
    logits = 2 * draw.standard_normal((4000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (draw.random((4000, 1)) < shares.cumsum(1)).argmax(1)
    rows = [Judged("t", "a", "a", 1.0)] * 4000
    found = calibration(Examined({}, rows, lambda places: {}, ("a", "b", "c"), truth, shares), temperature=3.0)
    assert found["ece"] < 0.03, "drawn from these very probabilities"
    assert found["before"]["ece"] > 0.1, "three times the logits are far too sure"
    assert found["decisions"] == 4000


def test_confidence_stands_beside_credit_where_there_are_no_classes():
    rows = [Judged("t", "a", "b", 0.5, confidence=0.5), Judged("t", "a", "b", 1.0)]
    found = calibration(Examined({}, rows, lambda places: {}))
    assert (found["ece"], found["decisions"]) == (0.0, 1)
    assert calibration(Examined({}, rows[1:], lambda places: {})) is None


# -- groups


def test_groups_hold_every_example_once_and_show_where_a_model_fails():
    lengths = np.repeat(np.arange(1, 101), 2)
    groups = by_length(hits(lengths <= 60), "accuracy", lengths)
    assert sum(group["examples"] for group in groups) == 200
    assert all(first["to"] < second["from"] for first, second in pairwise(groups))
    assert (groups[0]["value"], groups[-1]["value"]) == (1.0, 0.0)
    assert all(group["low"] <= group["value"] <= group["high"] for group in groups)


def test_too_small_groups_are_joined_and_a_single_one_is_none():
    lengths = np.array([1] * 30 + [9] * 5)
    assert by_length(hits(np.ones(35)), "accuracy", lengths) == []
    assert by_length(hits(np.ones(4)), "accuracy", np.arange(4)) == []


def test_words_are_known_whatever_their_case():
    assert known_words(["The red RIVER", "", "blue, red!"], ["the river", "Red"]).tolist() == [1.0, 1.0, 0.5]
    shares = np.array([0.5] * 25 + [1.0] * 25)
    unknown, known = by_familiarity(hits(shares == 1.0), "accuracy", shares)
    assert (unknown["value"], unknown["to"], known["value"], known["from"]) == (0.0, 0.5, 1.0, 1.0)


# -- copies


def test_copies_are_found_whatever_their_spaces_and_case():
    train = texts("Good film", "bad  film", "bad film", "other", labels=["+", "-", "-", "+"])
    test = texts("good\tFILM", "new", "new ", "Bad film", labels=["+", "+", "+", "+"], name="test.csv")
    copies = find_copies(train, test)
    assert copies.overlap.tolist() == [0, 3]
    assert (copies.otherwise, copies.in_train, copies.in_test) == (1, 1, 1)
    assert copies.shown[1] == ("Bad film", "-", "+")
    with pytest.warns(BothwaysWarning, match=r"2 of the 4 examples of test.csv stand in the training data too"):
        warn_of_overlap(train, test)


def test_without_copies_nothing_is_said():
    copies = warn_of_overlap(texts("a", "b"), texts("ab"))
    assert overlap_sentence(copies, "x", 1) == ""


# -- labels that may be wrong


def test_swapped_labels_are_suspected_first():
    draw = np.random.default_rng(4)
    truth = draw.integers(0, 3, 300)
    shares = np.full((300, 3), 0.05) + 0.01 * draw.random((300, 3))
    shares[np.arange(300), truth] = 0.8
    shares /= shares.sum(1, keepdims=True)
    swapped = draw.choice(300, 12, replace=False)
    labels = truth.copy()
    labels[swapped] = (truth[swapped] + 1) % 3
    rows = [Judged("t", "a", "a", 1.0)] * 300
    found = suspected_errors(Examined({}, rows, lambda places: {}, ("a", "b", "c"), labels, shares))
    assert set(found) == set(swapped.tolist())
    margins = shares[found].max(1) - shares[found, labels[found]]
    assert margins.tolist() == sorted(margins, reverse=True)


def test_a_class_of_few_examples_makes_nothing_suspected_by_a_guess_below_a_half():
    shares = np.array([[0.6, 0.4], [0.6, 0.4], [0.55, 0.45]])
    labels = np.array([0, 0, 1])  # the mean of the second class is 0.45, of which nothing else has more
    rows = [Judged("t", "a", "a", 1.0)] * 3
    assert suspected_errors(Examined({}, rows, lambda places: {}, ("a", "b"), labels, shares)) == []
    shares[2] = [0.7, 0.3]
    assert suspected_errors(Examined({}, rows, lambda places: {}, ("a", "b"), labels, shares)) == [2]
    few = np.array([[0.4, 0.3, 0.3], [0.35, 0.34, 0.31]])
    assert suspected_errors(Examined({}, rows[:2], lambda places: {}, ("a", "b", "c"), np.array([0, 1]), few)) == []


def test_without_one_decision_an_example_confidence_and_doubt_decide():
    rows = [
        Judged("t", "a", "b", 0.0, 0.9, 0.15),
        Judged("t", "a", "b", 0.5, 0.95, 0.01),
        Judged("t", "a", "b", 0, 0.5),
    ]
    assert suspected_errors(Examined({}, rows, lambda places: {})) == [1, 0]


# -- marks


def test_parts_read_one_after_another_are_the_text():
    text = "Anna Lee lives in Paris now"
    right, guessed = (Mark(0, 8, "PER"), Mark(18, 23, "LOC")), (Mark(0, 4, "PER"), Mark(18, 23, "LOC"))
    found = parts(text, right, guessed)
    assert "".join(part["text"] for part in found) == text
    assert found[0] == {"text": "Anna", "right": ["PER"], "guessed": ["PER"]}
    assert found[1] == {"text": " Lee", "right": ["PER"]}
    assert found[3] == {"text": "Paris", "right": ["LOC"], "guessed": ["LOC"]}


def test_of_a_long_text_the_neighbourhood_of_what_differs_is_shown():
    text = "x" * 5000 + "WRONG" + "y" * 5000 + "RIGHT" + "z" * 5000
    both, wrong = Mark(10005, 10010, "A"), Mark(5000, 5005, "B")
    found = parts(text, (both,), (both, wrong))
    assert [part["text"] for part in found if "guessed" in part] == ["WRONG"]
    assert found[0]["gap"]
    assert found[-1] == {"text": "", "gap": True}
    assert sum(len(part["text"]) for part in found) < 300


def test_an_example_becomes_plain_data():
    told = shown(Judged("a text", "yes", "no", 0.0, 0.75))
    assert told == {
        "parts": [{"text": "a text"}],
        "truth": "yes",
        "guess": "no",
        "credit": 0.0,
        "confidence": 0.75,
        "doubt": None,
    }
    assert parts("", (), ()) == []
