"""Scores equal their definitions."""

import json
import math

import numpy as np
import pytest

from bothways.errors import BothwaysError
from bothways.learn.metrics import classification_scores, regression_scores

RIGHT = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
GUESS = [0, 0, 1, 2, 1, 1, 0, 2, 2, 1]


def test_scores_of_a_small_example_by_hand():
    scores = classification_scores(RIGHT, GUESS, ["a", "b", "c"])
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["confusion"] == [[2, 1, 1], [1, 2, 0], [0, 1, 2]]
    a = scores["classes"]["a"]
    assert (a["precision"], a["recall"], a["f1"], a["support"]) == pytest.approx((2 / 3, 1 / 2, 4 / 7, 4))
    assert scores["macro_f1"] == pytest.approx((4 / 7 + 4 / 7 + 2 / 3) / 3)
    assert scores["examples"] == 10


def test_mcc_of_two_classes_is_the_correlation():
    draw = np.random.default_rng(0)
    right = draw.integers(0, 2, 200)
    guess = np.where(draw.random(200) < 0.7, right, 1 - right)
    expected = np.corrcoef(right, guess)[0, 1]
    assert classification_scores(right, guess, ["no", "yes"])["mcc"] == pytest.approx(expected)


def test_a_constant_guess_has_no_correlation():
    scores = classification_scores([0, 1, 1], [1, 1, 1], ["no", "yes"])
    assert scores["mcc"] == 0
    assert scores["classes"]["no"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_a_class_that_does_not_occur_does_not_pull_the_mean_down():
    scores = classification_scores([0, 1], [0, 1], ["a", "b", "never"])
    assert scores["macro_f1"] == 1.0
    assert scores["classes"]["never"]["support"] == 0
    assert len(scores["confusion"]) == 3


def test_scores_are_plain_data():
    scores = classification_scores(np.array(RIGHT), np.array(GUESS), ("a", "b", "c"))
    assert json.loads(json.dumps(scores)) == scores
    assert not math.isnan(scores["mcc"])


@pytest.mark.parametrize(
    ("labels", "predictions", "said"),
    [
        ([], [], "nothing to score"),
        ([0, 1], [0], "2 labels but 1 predictions"),
        ([0, 3], [0, 1], "class 3 has no name"),
        ([0, -1], [0, 1], "class -1 has no name"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(labels, predictions, said):
    with pytest.raises(BothwaysError, match=said):
        classification_scores(labels, predictions, ["a", "b"])


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_correlations_do_not_depend_on_the_unit(size):
    right = np.array([1.0, 2.0, 4.0, 3.0]) * size
    assert regression_scores(right, right * 1.1 + size)["pearson"] == pytest.approx(1.0)
    assert regression_scores(right, np.full(4, size / 3))["pearson"] == 0.0
    assert regression_scores(right, right * 0)["pearson"] == 0.0
