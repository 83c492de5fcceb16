"""Exact match and F1 are those of SQuAD's official evaluation; the fitted threshold is the best there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.learn.squad_scores import answer_scores, best_threshold, normalized, score_answers


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The Panthers", "panthers"),
        ("  an   apple a day ", "apple day"),
        ("U.S.A.", "usa"),
        ("$1,000-2,000", "10002000"),  # punctuation goes before the words are parted
        ("the", ""),
        ("a-the", "athe"),  # so what was no word of its own before stays
        ("theory of a", "theory of"),
        ("“Über”–Mensch", "“über”–mensch"),  # only ASCII punctuation goes
        ("北京 the", "北京"),
        ("Ａ the\u00a0cat\n", "ａ cat"),  # any white space parts words, and a wide A is no article
        ("", ""),
    ],
)
def test_an_answer_is_normalised_as_in_the_official_script(text, left):
    assert normalized(text) == left


@pytest.mark.parametrize(
    ("guess", "right", "exact", "f1"),
    [
        ("Saint Bernadette Soubirous", ["Saint Bernadette Soubirous"], 1, 1),
        ("the Main Building.", ["The main building"], 1, 1),
        ("Bernadette", ["Saint Bernadette Soubirous"], 0, 0.5),
        ("1858", ["in 1858", "1858"], 1, 1),  # the right answer that suits best counts
        ("cat cat dog", ["cat dog dog"], 0, 2 / 3),  # words count as often as they occur
        ("a red fox", ["red fox jumped over"], 0, 2 * 1 * 0.5 / 1.5),
        ("nothing", ["something"], 0, 0),
        ("", ["something"], 0, 0),
        ("co operate", ["co-operate"], 0, 0),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_answers_score_as_in_both_official_scripts(guess, right, exact, f1, version):
    found = score_answers([guess], [right], version=version)
    assert found.exact[0] == exact
    assert found.f1[0] == pytest.approx(f1)


def test_the_versions_differ_where_nothing_is_left_of_an_answer():
    old, new = (score_answers(["the"], [["A"]], version=version) for version in (1, 2))
    assert (old.exact[0], old.f1[0]) == (1, 0)
    assert (new.exact[0], new.f1[0]) == (1, 1)
    both = score_answers(["", "the", "x"], [["", "!"], ["."], ["the", "x"]], version=2)
    assert both.f1.tolist() == [1, 1, 1]


def test_no_answer_is_right_where_there_is_none_and_wrong_elsewhere():
    found = score_answers(["", "x", "", "x y"], [[], [], ["x"], ["x"]], version=2)
    assert found.exact.tolist() == [1, 0, 0, 0]
    assert answer_scores(found) == {
        "f1": pytest.approx((1 + 2 / 3) / 4),
        "exact_match": 0.25,
        "has_answer_f1": pytest.approx(1 / 3),
        "has_answer_exact_match": 0.0,
        "no_answer_accuracy": 0.5,
    }
    some = answer_scores(found, np.array([0, 0, 1]))
    assert some["no_answer_accuracy"] == pytest.approx(2 / 3)
    assert np.isnan(some["has_answer_f1"])


def test_without_unanswerable_questions_there_are_two_scores_and_none_of_nothing():
    assert set(answer_scores(score_answers(["x"], [["x"]], version=1))) == {"f1", "exact_match"}
    with pytest.raises(BothwaysError, match="nothing to score"):
        answer_scores(score_answers([], [], version=1))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.integers(-4, 4)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=200)
def test_no_threshold_beats_the_one_that_is_fitted(rows):
    credit = np.array([value if has else 0.0 for value, has, _ in rows])
    answerable = np.array([has for _, has, _ in rows])
    doubt = np.array([float(value) for _, _, value in rows])

    def score(threshold):
        return float(np.where(doubt > threshold, ~answerable, credit).mean())

    found = best_threshold(credit, answerable, doubt)
    assert found.score == pytest.approx(score(found.value), abs=1e-9)
    assert found.score == pytest.approx(max(score(value) for value in np.arange(-5.25, 5.5, 0.5)), abs=1e-9)


def test_a_threshold_is_a_number_even_where_nothing_was_found():
    found = best_threshold(np.array([0.0, 1.0]), np.array([False, True]), np.array([np.inf, 1.0]))
    assert np.isfinite(found.value)
    assert found.score == 1
