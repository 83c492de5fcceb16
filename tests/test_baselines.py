"""The baselines are what their names say, and strong enough to be worth beating."""

import gzip
import json

import numpy as np
import pytest

from bothways.errors import BothwaysError
from bothways.learn.baselines import majority, tfidf_logistic
from shared import SHARED, needs_shared

GOOD, BAD = (
    ["a fine film", "truly good , fine", "good and fine fun"],
    ["a dull film", "dull and bad", "truly bad , dull"],
)


def test_the_majority_is_the_most_frequent_class_of_the_training_set():
    assert majority([2, 0, 2, 1], 3).tolist() == [2, 2, 2]
    assert majority([1, 0], 1).tolist() == [0]
    assert majority([1], 0).tolist() == []


def test_words_decide():
    guesses = tfidf_logistic([*GOOD, *BAD], [1, 1, 1, 0, 0, 0], ["fine fun", "so dull", "good"])
    assert guesses.tolist() == [1, 0, 1]


def test_pairs_of_words_decide_where_words_alone_cannot():
    texts = ["not good but bad", "not bad but good"] * 4
    labels = [0, 1] * 4
    assert tfidf_logistic(texts, labels, texts[:2]).tolist() == [0, 1]


def test_texts_without_words_get_the_majority():
    assert tfidf_logistic(["!", "?", "..."], [0, 1, 1], ["hello"]).tolist() == [1]
    assert tfidf_logistic([*GOOD, *BAD], [1, 1, 1, 0, 0, 0], []).tolist() == []


def test_one_letter_words_count():
    assert tfidf_logistic(["我", "你"] * 3, [0, 1] * 3, ["你"]).tolist() == [1]


def test_it_is_deterministic():
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in draw.integers(0, 50, 9)) for _ in range(60)]
    labels = draw.integers(0, 3, 60)
    assert (tfidf_logistic(texts, labels, texts) == tfidf_logistic(texts, labels, texts)).all()


@pytest.mark.parametrize(("labels", "said"), [([], "nothing to learn from"), ([1, 1, 1], "at least two")])
def test_training_data_that_teach_nothing_are_refused(labels, said):
    with pytest.raises(BothwaysError, match=said):
        tfidf_logistic(["a"] * len(labels), labels, ["b"])


@needs_shared
def test_on_film_reviews_it_is_well_above_chance():
    def read(name, count):
        with gzip.open(SHARED / "data" / "sst2" / f"{name}.jsonl.gz", "rt") as file:
            rows = [json.loads(line) for _, line in zip(range(count), file, strict=False)]
        label = next(key for key in rows[0] if key.startswith("label"))
        text = next(key for key in rows[0] if key in ("text", "sentence"))
        names = sorted({str(row[label]) for row in rows})
        return [row[text] for row in rows], [names.index(str(row[label])) for row in rows]

    texts, labels = read("train", 2000)
    dev_texts, dev_labels = read("dev", 872)
    accuracy = np.mean(tfidf_logistic(texts, labels, dev_texts) == dev_labels)
    assert accuracy > 0.68
    assert accuracy > np.mean(majority(labels, len(dev_labels)) == dev_labels) + 0.1
