"""Questions are read from every form they are published in, and every mistake is told with its place."""

import gzip
import json

import numpy as np
import pandas
import pytest

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.text.answer_places import find_aliases, find_place, place_at
from bothways.text.choices import read_choices
from bothways.text.questions import read_questions
from shared import SHARED, needs_shared

CONTEXT = "The stone bridge was built in 1858 by Ada Stone. It crosses the red river."


def row(**changes):
    answers = {"text": ["1858"], "answer_start": [30]}
    return {"id": "q1", "question": "When was it built?", "context": CONTEXT, "answers": answers, **changes}


def parts(found):
    """What is said to be right, as it stands in the context."""
    return [tuple(one.context[start:end] for start, end in one.places) for one in found]


def write(path, *lines):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# -- forms


def test_rows_of_any_table_are_read(tmp_path):
    squad = [row(), row(id="q2", answers={"text": [], "answer_start": []})]
    lines = write(tmp_path / "rows.jsonl", *squad)
    pandas.DataFrame(squad).to_parquet(tmp_path / "rows.parquet")
    table = "id,question,context,answer,answer_start\nq1,When?,Built in 1858.,1858,9\nq2,Who?,Built in 1858.,,\n"
    csv = write(tmp_path / "rows.csv", table)
    listed = [row(answers=[{"text": "1858", "answer_start": 30}]), row(id="q2", answers=[])]
    for source in (squad, lines, str(lines), tmp_path / "rows.parquet", csv, listed, [row(answers=["1858"]), squad[1]]):
        found = read_questions(source)
        assert [one.id for one in found] == ["q1", "q2"]
        assert parts(found) == [("1858",), ()]
        assert [one.answers for one in found] == [("1858",), ()]


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_files_are_read_on_one_line_or_many(tmp_path, indent):
    asked = [
        {"id": "a", "question": "Who?", "answers": [{"text": "Ada Stone", "answer_start": 38}] * 2},
        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "1858"}]},
    ]
    whole = {"version": "v2.0", "data": [{"title": "x", "paragraphs": [{"context": CONTEXT, "qas": asked}]}]}
    path = write(tmp_path / "dev.json", json.dumps(whole, indent=indent))
    for source in (path, whole):
        found = read_questions(source)
        assert parts(found) == [("Ada Stone", "Ada Stone"), ()]
        assert [one.id for one in found] == ["a", "b"]
    assert found[0].context is found[1].context, "a context is held once"
    assert "article 1, paragraph 1, question a" in found[0].where


def test_mrqa_lines_are_read_with_their_header_and_inclusive_spans(tmp_path):
    asked = {
        "qid": "m1", "question": "Which river?", "answers": ["red river"],
        "detected_answers": [{"text": "red river", "char_spans": [[64, 72]], "token_spans": [[14, 15]]}],
    }  # fmt: skip
    path = write(tmp_path / "x.jsonl.gz", {"header": {"dataset": "X"}}, {"id": "", "context": CONTEXT, "qas": [asked]})
    (found,) = read_questions(path)
    assert parts([found]) == [("red river",)]
    asked["detected_answers"][0]["char_spans"] = [[64, 7200]]
    with pytest.raises(BothwaysError, match=r"line 1, question m1: the span 64 to 7200 lies outside"):
        read_questions(write(tmp_path / "y.jsonl", {"context": CONTEXT, "qas": [asked]}))


def test_natural_questions_are_read_by_token(tmp_path):
    line = {
        "document_text": "<P> The stone bridge was built in 1858 . </P>", "question_text": "when was it built",
        "example_id": 7, "annotations": [{"short_answers": [{"start_token": 7, "end_token": 8}]}],
    }  # fmt: skip
    none = {**line, "annotations": [{"short_answers": [], "yes_no_answer": "NONE"}]}
    found = read_questions(write(tmp_path / "nq.jsonl.gz", line, none))
    assert parts(found) == [("1858",), ()]
    wrong = {**line, "annotations": [{"short_answers": [{"start_token": 9, "end_token": 99}]}]}
    with pytest.raises(BothwaysError, match=r"line 1: tokens 9 to 99 lie outside"):
        read_questions(write(tmp_path / "wrong.jsonl", wrong))


def test_trivia_questions_are_read_with_the_documents_that_hold_an_alias(tmp_path):
    answer = {"Value": "Ada Stone", "Aliases": ["Ada Stone", "A. Stone", "STONE"]}
    whole = {"Data": [{"Question": "Who?", "QuestionId": "t1", "Answer": answer, "EntityPages": [{"Filename": "a.txt"}],
                       "SearchResults": [{"Filename": "b.txt"}]}]}  # fmt: skip
    for folder in ("qa", "evidence/wikipedia", "evidence/web"):
        (tmp_path / folder).mkdir(parents=True)
    path = write(tmp_path / "qa" / "train.json", json.dumps(whole, indent=1))
    (tmp_path / "evidence/wikipedia/a.txt").write_text("ada stone built\na stone bridge; keystones stay")
    (tmp_path / "evidence/web/b.txt").write_text("nobody knows")
    with pytest.warns(BothwaysWarning, match="1 of 2 documents"):
        (found,) = read_questions(path)
    assert parts([found]) == [("ada stone", "stone")]
    assert found.answers[0] == "Ada Stone"
    held = {"question": "Who?", "question_id": "t1", "answer": {"value": "Ada Stone", "aliases": ["Ada Stone"]},
            "entity_pages": {"wiki_context": [CONTEXT]}, "search_results": {"search_context": []}}  # fmt: skip
    assert parts(read_questions([held])) == [("Ada Stone",)]
    (tmp_path / "secret.txt").write_text("Ada Stone")
    for name in ("../../secret.txt", str(tmp_path / "secret.txt"), ".."):
        whole["Data"][0]["EntityPages"] = [{"Filename": name}]
        with pytest.raises(BothwaysError, match="does not lie in"):
            read_questions(write(tmp_path / "qa" / "sly.json", json.dumps(whole)))
    lonely = write(tmp_path / "lonely.json", json.dumps(whole))
    (tmp_path / "evidence").rename(tmp_path / "elsewhere")
    with pytest.raises(BothwaysError, match="evidence/"):
        read_questions(lonely)


# -- places


@pytest.mark.parametrize("off", [-9, -2, -1, 0, 1, 3, 9])
def test_a_beginning_that_is_a_little_off_is_repaired(off):
    assert place_at(CONTEXT, "Ada Stone", 38 + off) == (38, 47)


def test_white_space_of_an_answer_may_differ_from_that_of_its_context():
    context = "built by  Ada\n Stone , they say; Ada Stone"
    assert place_at(context, " Ada Stone ", 9) == (10, 20)
    assert find_place(context, "Ada  Stone") == (10, 20)
    assert place_at("x" * 100 + "Ada", "Ada", 3) is None, "but not from far away"
    assert place_at("11111", "1", 3) == (3, 4), "the nearest is meant"


def test_an_answer_without_a_place_is_found_as_a_word_first():
    assert find_place("keystones and stones, a stone", "stone") == (24, 29)
    assert find_place("keystones", "stone") == (3, 8)
    assert find_place("Stone", "stone") == (0, 5)
    assert find_place("北京是首都", "首都") == (3, 5)


def test_aliases_do_not_overlap_and_the_longer_is_taken():
    text = "New York City, new york; Yorkshire. C++ is fine"
    assert [text[a:b] for a, b in find_aliases(text, ["York", "New York", "new york city", "", "C++"])] == [
        "New York City", "new york", "C++"
    ]  # fmt: skip


# -- mistakes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"answers": {"text": ["1958"], "answer_start": [30]}},
            r"row 1, question q1: the answer '1958'.*'1858'.*nor any",
        ),
        ({"answers": {"text": ["red river"], "answer_start": [3]}}, r"row 1, question q1: .* it does at character 64"),
        ({"answers": ["a blue river"]}, r"row 1, question q1: the answer 'a blue river' is not found"),
        ({"answers": {"text": ["1858"], "answer_start": [1, 2]}}, r"question q1: has 1 answers but 2"),
        ({"answers": [""]}, r"question q1: an answer should be a text, not ''; where there is none"),
        ({"answers": [7]}, r"question q1: an answer should be a text, not 7"),
        ({"answers": {"text": ["1858"], "answer_start": ["x"]}}, r"answer_start should be a number"),
        ({"question": "  "}, r"row 1: the question is empty"),
        ({"context": ""}, r"row 1: the context is empty"),
        ({"question": 7}, r"row 1: the question is no text"),
        ({"detected_answers": [{"text": "x"}]}, r"q1: .char_spans. is missing"),
        ({"is_impossible": False, "answers": []}, r"q1: is_impossible is False, but there are no answers"),
    ],
)
def test_a_row_that_does_not_do_is_told_with_its_place(changes, said):
    with pytest.raises(BothwaysError, match=said):
        read_questions([row(**changes)])


def test_files_that_hold_no_questions_say_so(tmp_path):
    with pytest.raises(BothwaysError, match=r"line 1, question q1: has no answers \(keys: id, question, context\)"):
        read_questions(write(tmp_path / "a.jsonl", {key: row()[key] for key in ("id", "question", "context")}))
    with pytest.raises(BothwaysError, match="has no question"):
        read_questions(write(tmp_path / "b.jsonl", {"text": "x", "label": 1}))
    with pytest.raises(BothwaysError, match="not JSON"):
        read_questions(write(tmp_path / "c.json", '{"data": [', "oops"))
    with pytest.raises(BothwaysError, match="holds no questions"):
        read_questions(write(tmp_path / "d.jsonl", {"header": {}}))


@needs_shared
@pytest.mark.parametrize(
    "name", ["squad1/train_head", "squad2/dev", "squadshifts/new_wiki", "xquad/zh", "tydiqa-en/train"]
)
def test_published_questions_are_read_and_their_answers_stand_where_they_should(name):
    found = read_questions(SHARED / "data" / f"{name}.jsonl.gz")
    for one in found:
        assert ["".join(text.split()) for text in one.answers] == ["".join(text.split()) for text in parts([one])[0]]


# -- choices


def test_choices_are_read_as_swag_has_them_or_as_a_list():
    swag = {"sent1": "She opens the book.", "sent2": "She", "ending0": "reads.", "ending1": "flies.", "label": "1"}
    (found,) = read_choices([swag])
    assert (found.prompt, found.choices, found.label) == (
        "She opens the book.", ("She reads.", "She flies."), 1
    )  # fmt: skip
    for label in (2, "2", "C", "blue"):
        (found,) = read_choices([{"question": "Which?", "options": ["red", "green", "blue"], "answer": label}])
        assert (found.prompt, found.choices, found.label) == ("Which?", ("red", "green", "blue"), 2)
    table = pandas.DataFrame([{"premise": "x", "choice1": "a", "choice2": "b", "choice10": None, "label": 0}])
    assert next(read_choices(table)).choices == ("a", "b")
    sums = [{"prompt": "x", "choices": ["1", "2", "3"], "label": label} for label in (1, np.int64(1), 1.0, "B", "3")]
    assert [one.label for one in read_choices(sums)] == [1, 1, 1, 1, 2], "a number is a place, not a text"
    assert next(read_choices([{"prompt": "x", "choices": ["a", "b"]}], labelled=False)).label is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x", "choices": ["a"], "label": 0}, "row 1: has 1 choices; give at least two"),
        ({"prompt": "x", "choices": ["a", "b"], "label": 2}, "row 1: the label '2' is none of the 2 choices"),
        ({"prompt": "x", "choices": ["alpha", "beta"], "label": "betta"}, "did you mean 'beta'"),
        ({"prompt": "x", "choices": ["1", "2", "3"], "label": "1"}, "'1' may mean choice 0, whose text.* choice 1,"),
        ({"prompt": "x", "ending0": "a", "ending1": "", "ending2": "b", "label": 2}, "a choice should be a text"),
        ({"prompt": "x", "choices": "ab", "label": 0}, "row 1: choices should be a list of texts"),
        ({"prompt": "", "choices": ["a", "b"], "label": 0}, "row 1: the prompt should be a text"),
        ({"prompt": "x", "choices": ["a", " "], "label": 0}, "row 1: a choice should be a text"),
        ({"prompt": "x", "label": 0}, "has no column of choices"),
        ({"prompt": "x", "choices": ["a", "b"]}, "has no column of label"),
    ],
)
def test_choices_that_do_not_do_are_told_with_their_place(row, said):
    with pytest.raises(BothwaysError, match=said):
        list(read_choices([row]))
