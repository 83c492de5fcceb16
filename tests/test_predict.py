"""File to file, every task: what a model says of each row is written beside it, in the order of the input."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from pyarrow import parquet

import tiny
from bothways.cli import main
from bothways.errors import BothwaysError
from bothways.run import stream
from bothways.run.model import Model
from bothways.text.rows import PEEKED, read_rows
from bothways.use import bulk

TEXTS = tiny.sentences(30, seed=3)
PAIRS = tiny.sentences(30, seed=4)
NAMES = ("B-PER", "I-PER", "O")


def model_for(task, *, labels=tiny.LABELS, head=None, **changes):
    """A random model for a task."""
    kind = head or {"pairs": "classify", "regress": "classify"}.get(task, task)
    saved = tiny.saved((kind,))
    own = {"problem": "scores", "labels": ("score",)} if task == "regress" else {"labels": labels}
    config = saved.head_configs[kind].derive(**(own if kind in ("classify", "tag") else {}) | changes)
    made = Model.random(saved.encoder.config, saved.tokenizer, [config])
    tiny.randomise(made.heads[kind], 1)
    made.encoder.load_state_dict(saved.encoder.state_dict(), strict=False)
    made.task = task
    return made


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """Answers come from several slices."""
    monkeypatch.setattr(stream, "WINDOW", 7)


# -- what is asked


def test_classes_stand_beside_their_texts(tmp_path):
    model = model_for("classify")
    bulk.predict(model, TEXTS, tmp_path / "out.jsonl")
    found = lines(tmp_path / "out.jsonl")
    assert [row["text"] for row in found] == TEXTS
    for row, right in zip(found, model.classify(TEXTS), strict=True):
        assert row["prediction"] == right.label
        assert row["probability"] == pytest.approx(right.probability, abs=1e-5)
        assert [row[f"p({label})"] for label in tiny.LABELS] == pytest.approx(
            list(right.probabilities.values()), abs=1e-5
        )


def test_several_classes_are_a_list_and_json_in_a_cell(tmp_path):
    model = model_for("classify", problem="several")
    model.decoding["classify"] = {"thresholds": dict.fromkeys(tiny.LABELS, 0.5)}
    right = [list(one.labels) for one in model.classify(TEXTS)]
    assert {len(labels) for labels in right} != {1}  # several, or none
    for suffix in ("jsonl", "parquet", "csv"):
        bulk.predict(model, TEXTS, tmp_path / f"out.{suffix}")
    assert [row["prediction"] for row in lines(tmp_path / "out.jsonl")] == right
    assert parquet.read_table(tmp_path / "out.parquet")["prediction"].to_pylist() == right
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [json.loads(row["prediction"]) for row in csv.DictReader(file)] == right


def test_pairs_are_read_in_both_columns(tmp_path):
    model = model_for("pairs")
    table = {"premise": TEXTS, "hypothesis": PAIRS}
    bulk.predict(model, table, tmp_path / "out.jsonl")
    found = lines(tmp_path / "out.jsonl")
    assert [(row["premise"], row["hypothesis"]) for row in found] == list(zip(TEXTS, PAIRS, strict=True))
    assert [row["prediction"] for row in found] == [one.label for one in model.classify(TEXTS, PAIRS)]


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_model_of_single_texts_reads_one_column_and_says_so(tmp_path, task, capsys):
    model = model_for(task)
    model.decoding["classify"] = {"inputs": "texts"}
    bulk.predict(model, {"text_a": TEXTS, "text_b": PAIRS}, tmp_path / "out.jsonl")
    found = [row["prediction"] for row in lines(tmp_path / "out.jsonl")]
    right = [one.label for one in model.classify(TEXTS)] if task == "classify" else model.score(TEXTS).tolist()
    assert found == right if task == "classify" else found == pytest.approx(right, abs=1e-5)
    assert "the column 'text_a' is read, and 'text_b' is not" in capsys.readouterr().err


def test_scores_are_numbers(tmp_path):
    model = model_for("regress")
    bulk.predict(model, {"text_a": TEXTS, "text_b": PAIRS}, tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    np.testing.assert_allclose(found["prediction"].to_numpy(), model.score(TEXTS, PAIRS), atol=1e-5)


def test_a_regression_of_another_library_is_asked_for_scores(tmp_path):
    model = model_for("regress")
    model.task = None
    bulk.predict(model, TEXTS, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl")[0]["prediction"] == pytest.approx(model.score(TEXTS[0]), abs=1e-5)


def test_words_of_texts_get_tags_and_spans_that_point_into_the_text(tmp_path):
    model = model_for("tag", labels=NAMES)
    bulk.predict(model, TEXTS, tmp_path / "out.jsonl")
    spans = 0
    for row, right in zip(lines(tmp_path / "out.jsonl"), model.tag(TEXTS), strict=True):
        assert (tuple(row["words"]), tuple(row["prediction"])) == (right.words, right.tags)
        assert row["words"] == [row["text"][a:b] for a, b in row["offsets"]]
        assert [row["text"][span["start"] : span["end"]] for span in row["spans"]] == [s.text for s in right.spans]
        spans += len(row["spans"])
    assert spans > 0


def test_a_file_of_columns_comes_back_with_a_tag_more(tmp_path):
    model = model_for("tag", labels=NAMES)
    sentences = [text.split() for text in TEXTS]
    told = [[("B-PER", "O")[len(word) % 2] for word in words] for words in sentences]
    blocks = ["".join(f"{a}\t{b}\n" for a, b in zip(*pair, strict=True)) for pair in zip(sentences, told, strict=True)]
    (tmp_path / "in.conll").write_text("\n".join(blocks), encoding="utf-8")
    bulk.predict(model, tmp_path / "in.conll", tmp_path / "out.conll", keep=True)
    found = [block.splitlines() for block in (tmp_path / "out.conll").read_text().split("\n\n") if block]
    for block, words, tags, right in zip(found, sentences, told, model.tag(sentences), strict=True):
        assert block == ["\t".join(cells) for cells in zip(words, tags, right.tags, strict=True)]


def test_words_without_tags_a_line_each_are_tagged_too(tmp_path):
    model = model_for("tag", labels=NAMES)
    (tmp_path / "in.txt").write_text("the\nriver\n\nstone\n", encoding="utf-8")
    bulk.predict(model, tmp_path / "in.txt", tmp_path / "out.conll", keep=True)
    (one, two), (three,) = (found.tags for found in model.tag([["the", "river"], ["stone"]]))
    assert (tmp_path / "out.conll").read_text() == f"the\t{one}\nriver\t{two}\n\nstone\t{three}\n\n"


def test_lists_of_words_with_other_lists_beside_them_become_columns(tmp_path):
    model = model_for("tag", labels=NAMES)
    rows = [{"id": 7, "tokens": ["the", "old", "bridge"], "pos": ["DT", "JJ", "NN"], "tags": ["O", "O", "O"]}]
    bulk.predict(model, rows, tmp_path / "out.conll", keep=True)
    tags = model.tag([rows[0]["tokens"]])[0].tags
    assert (tmp_path / "out.conll").read_text().splitlines()[1] == f"old\tJJ\tO\t{tags[1]}"


def squad(paragraphs):
    asked = [
        {"context": context, "qas": [{"id": name, "question": text} for name, text in questions]}
        for context, questions in paragraphs
    ]
    return {"version": "2.0", "data": [{"title": "x", "paragraphs": asked}]}


def test_questions_of_squad_are_answered_by_id_whether_or_not_their_answers_are_known(tmp_path):
    model = model_for("answer")
    contexts = ["the old bridge stood by the river", "a letter for the teacher and the child"]
    asked = [("a", "what stood by the river"), ("b", "who had it")], [("c", "what is it for")]
    (tmp_path / "in.json").write_text(json.dumps(squad(zip(contexts, asked, strict=True)), indent=1))
    bulk.predict(model, tmp_path / "in.json", tmp_path / "out.json")
    right = model.answer([asked[0][0][1], asked[0][1][1], asked[1][0][1]], [contexts[0], contexts[0], contexts[1]])
    assert json.loads((tmp_path / "out.json").read_text()) == {
        name: one.text for name, one in zip("abc", right, strict=True)
    }


def test_answers_point_into_their_contexts_and_candidates_are_listed_when_wished_for(tmp_path):
    model = model_for("answer")
    table = {"question": TEXTS, "context": PAIRS}
    bulk.predict(model, table, tmp_path / "out.jsonl", keep=True, top=3)
    for row, right in zip(lines(tmp_path / "out.jsonl"), model.answer(TEXTS, PAIRS, top=3), strict=True):
        assert row["prediction"] == right.text
        assert row["prediction"] == (row["context"][row["start"] : row["end"]] if row["start"] >= 0 else "")
        assert [one["text"] for one in row["candidates"]] == [one.text for one in right.candidates]


def test_a_choice_is_told_by_its_number_and_its_text(tmp_path):
    model = model_for("choose")
    rows = [
        {"prompt": TEXTS[place], "choices": [PAIRS[place], PAIRS[place + 1], TEXTS[place + 1]], "n": place}
        for place in range(20)
    ]
    bulk.predict(model, rows, tmp_path / "out.jsonl", keep=True)
    right = model.choose([row["prompt"] for row in rows], [row["choices"] for row in rows])
    for row, found, one in zip(rows, lines(tmp_path / "out.jsonl"), right, strict=True):
        assert found["n"] == row["n"]
        assert found["prediction"] == one.number
        assert found["choice"] == row["choices"][one.number]
        assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_classes_that_are_named_need_no_training(tmp_path):
    model = model_for("pairs", labels=("contradiction", "entailment", "neutral"))
    labels, template = ["river", "garden"], "It is about a {}."
    bulk.predict(model, TEXTS, tmp_path / "out.jsonl", labels=labels, template=template)
    for row, right in zip(
        lines(tmp_path / "out.jsonl"), model.zero_shot(TEXTS, labels, template=template), strict=True
    ):
        assert row["prediction"] == right.label
        assert row["p(garden)"] == pytest.approx(right.probabilities["garden"], abs=1e-5)


def test_named_classes_are_typed_between_commas(tmp_path, capsys):
    model = model_for("pairs", labels=("contradiction", "entailment", "neutral"))
    model.save(tmp_path / "model")
    write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    typed = ["--labels", "river, old house", "--several", "--template", "{} is here.", "--quiet"]
    assert main(["predict", str(tmp_path / "model"), str(tmp_path / "in.jsonl"), *typed]) == 0
    right = model.zero_shot(TEXTS, ["river", "old house"], template="{} is here.", several=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prediction"] for row in found] == [list(one.labels) for one in right]


# -- what stands beside


def test_all_columns_of_the_input_are_kept_when_asked(tmp_path):
    model = model_for("classify")
    rows = [{"n": place, "text": text, "note": None if place < 9 else "late"} for place, text in enumerate(TEXTS)]
    for suffix in ("jsonl", "parquet", "csv"):
        bulk.predict(model, rows, tmp_path / f"out.{suffix}", keep=True)
    kept = [{name: row[name] for name in ("n", "text", "note")} for row in lines(tmp_path / "out.jsonl")]
    assert kept == rows
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.column_names[:4] == ["n", "text", "note", "prediction"]
    assert table["note"].to_pylist() == [row["note"] for row in rows]  # empty in the whole first slice
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith(f"0,{TEXTS[0]},,")


def test_half_of_a_character_goes_through(tmp_path):
    model = model_for("classify")
    rows = [{"text": "the \ud83d river"}, {"text": "caf\u00e9 \u4e2d"}]
    for suffix in ("jsonl", "parquet", "csv"):
        bulk.predict(model, rows, tmp_path / f"out.{suffix}")
    assert [row["text"] for row in lines(tmp_path / "out.jsonl")] == [row["text"] for row in rows]
    whole = ["the \ufffd river", rows[1]["text"]]
    assert parquet.read_table(tmp_path / "out.parquet")["text"].to_pylist() == whole
    assert [row["text"] for row in read_rows(tmp_path / "out.csv")] == whole
    write(tmp_path / "in.jsonl", [{**row, "note": None if place else "\udc00"} for place, row in enumerate(rows)])
    for suffix in ("jsonl", "parquet", "csv"):
        bulk.predict(model, tmp_path / "in.jsonl", tmp_path / f"read.{suffix}", keep=True)
        assert [row["text"] for row in read_rows(tmp_path / f"read.{suffix}")] == whole


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_every_text_can_be_read_back_from_separated_values(tmp_path, suffix):
    texts = ["one\rtwo", "\r", "a\nb\r\tc", 'a "quoted"\r, one', "plain"]
    bulk.predict(model_for("classify"), texts, tmp_path / f"out.{suffix}")
    assert [row["text"] for row in read_rows(tmp_path / f"out.{suffix}")] == texts
    with (tmp_path / f"out.{suffix}").open(newline="", encoding="utf-8") as file:
        read = csv.DictReader(file, delimiter="\t" if suffix == "tsv" else ",", strict=True)
        assert [row["text"] for row in read] == texts
    assert (tmp_path / f"out.{suffix}").read_bytes().endswith(b"\n")
    assert b"\r\n" not in (tmp_path / f"out.{suffix}").read_bytes()


def test_words_with_tabs_and_line_ends_stay_on_their_line(tmp_path):
    model = model_for("tag", labels=NAMES)
    bulk.predict(model, [{"tokens": ["new\tyork", "red\r\nriver"]}], tmp_path / "out.conll")
    found = (tmp_path / "out.conll").read_text().split("\n")
    assert [line.split("\t")[0] for line in found] == ["new york", "red  river", "", ""]
    assert [line.count("\t") for line in found[:2]] == [1, 1]


LATE = {
    "classify": {"text": "the river"},
    "tag": {"tokens": ["the", "river"]},
    "answer": {"question": "who", "context": "the river"},
    "choose": {"prompt": "the", "choices": ["river", "stone"]},
    "rerank": {"query": "the", "text": "river"},
}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("task", LATE)
def test_a_column_that_comes_late_is_refused_and_not_left_out(tmp_path, task, suffix):
    model = model_for("regress" if task == "rerank" else task)
    model.task = task
    rows = [{**LATE[task], "n": place} for place in range(PEEKED + 5)]
    rows[PEEKED + 2]["note"] = "here"
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / (f"out.{suffix}" if task != "tag" else "out.jsonl")
    with pytest.raises(BothwaysError, match=r"in.jsonl, line 103: has a column 'note' that the first 100 rows do not"):
        bulk.predict(model, source, out, keep=True)
    assert not out.exists()
    assert bulk.predict(model, source, out, resume=False).texts == len(rows)


@pytest.mark.parametrize("task", ["classify", "zero-shot", "choose", "rerank", "embed"])
def test_a_text_that_is_too_long_is_told_by_its_place_in_the_file(tmp_path, task):
    long = "river " * 600
    if task == "choose":
        rows = [{"prompt": "the", "choices": ["river", "stone"]} for _ in range(40)]
        rows[33] = {"prompt": "the", "choices": ["river", "stone", long]}
    elif task == "rerank":
        rows = [{"query": "the", "texts": ["river", "stone", "house"]} for _ in range(40)]
        rows[33] = {"query": "the", "texts": ["river", long]}
    else:
        rows = [{"text": "the river"} for _ in range(40)]
        rows[33] = {"text": long}
    kinds = {"zero-shot": "pairs", "rerank": "regress", "embed": "classify"}
    model = model_for(kinds.get(task, task), labels=("contradiction", "entailment", "neutral"))
    model.task, model.truncation = "rerank" if task == "rerank" else model.task, "error"
    source = write(tmp_path / "in.jsonl", rows)
    labels = {"labels": ["river", "stone"]} if task == "zero-shot" else {}
    ask = bulk.embed if task == "embed" else bulk.predict
    with pytest.raises(BothwaysError, match=r"in\.jsonl, line 34 has 60\d tokens where \d+ fit.*28 rows are kept"):
        ask(model, source, tmp_path / "out.jsonl", **labels)


def test_long_texts_are_answered_fewer_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "LETTERS", 100)
    model, asked = model_for("classify"), []
    classify = model.classify
    monkeypatch.setattr(model, "classify", lambda texts, *more: asked.append(len(texts)) or classify(texts, *more))
    bulk.predict(model, iter(["x" * 60] * 4 + ["y"] * 9), tmp_path / "out.jsonl")
    assert sorted(asked) == [2, 2, 2, 7]


# -- mistakes


@pytest.mark.parametrize(
    ("task", "source", "out", "told"),
    [
        ("classify", ["fine", None], "out.jsonl", "row 2"),
        ("classify", [{"text": "fine"}, {"text": None}], "out.jsonl", "row 2: there is no text"),
        ("classify", [{"body": "x", "text": "y", "prediction": 1}], "out.jsonl", "'prediction'"),
        ("pairs", [{"text": "alone"}], "out.jsonl", "--text-pair"),
        ("tag", ["the river"], "out.csv", ".jsonl, .parquet or .conll"),
        ("tag", [{"tokens": ["a", 3]}], "out.jsonl", "row 1: the column 'tokens' should hold a text or a list"),
        ("answer", [{"question": " ", "context": "the river"}], "out.jsonl", "row 1: the question"),
        ("answer", [{"question": "who", "context": "the river"}], "out.json", "id"),
        ("answer", [{"question": "who", "story": "the river"}], "out.jsonl", "--context"),
        ("choose", [{"prompt": "the", "choices": ["river"]}], "out.jsonl", "two"),
        ("classify", [], "out.jsonl", "no rows"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, task, source, out, told):
    with pytest.raises(BothwaysError) as error:
        bulk.predict(model_for(task), source, tmp_path / out, keep=True)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'text\n"fine"\nr\xffver\n', "line 3: not UTF-8"),
        (b"", "empty"),
        (b"words,more\na,b\n", "--text"),
        (b'text\n"never closed\n', "quote"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_in_one_sentence(tmp_path, content, told):
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(BothwaysError) as error:
        bulk.predict(model_for("classify"), tmp_path / "in.csv", tmp_path / "out.csv")
    assert told in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_classes_are_named_each_once(tmp_path):
    model = model_for("pairs", labels=("contradiction", "entailment", "neutral"))
    with pytest.raises(BothwaysError, match="river"):
        bulk.predict(model, TEXTS, tmp_path / "out.jsonl", labels=["river", "river"])


def test_what_comes_late_in_a_column_of_parquet_is_kept(tmp_path, capsys):
    """Windows are of seven rows; what none of the first holds stands in the others."""
    given = {
        "fraction": lambda late: 2.5 if late else 1,
        "key": lambda late: {"a": 1, "b": "new"} if late else {"a": 1},
        "entries": lambda late: ["x"] if late else [],
        "nothing": lambda late: 7 if late else None,
    }
    mixed = {
        "number": lambda late: "007" if late else 7,
        "truth": lambda late: 5 if late else True,
        "large": lambda late: 0.5 if late else 2**53 + 1,
        "empty": lambda late: {},
        "within": lambda late: ["a", 1] if late else [True],
    }
    rows = [
        {"text": text, **{name: value(place > 16) for name, value in (given | mixed).items()}}
        for place, text in enumerate(TEXTS)
    ]
    bulk.predict(model_for("classify"), rows, tmp_path / "out.parquet", keep=True)
    found = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, kept in zip(rows, found, strict=True):
        assert kept["key"] == {"b": None} | row["key"]
        assert [kept[name] for name in given if name != "key"] == [row[name] for name in given if name != "key"]
        for name in mixed:
            told = kept[name]
            assert told == row[name] if isinstance(row[name], str) else json.loads(told) == row[name]
    assert "as text stand those of 'large', 'number', 'truth', 'within'" in capsys.readouterr().err


def test_a_column_of_tags_stays_one_where_a_row_has_none(tmp_path):
    """As many columns in every line, though a window holds no tags, or a row another number of them."""
    model = model_for("tag", labels=NAMES)
    rows = [{"tokens": ["the", "mill"], "pos": ["DT", "NN"], "id": [1]} for _ in range(20)]
    rows[3]["pos"] = None
    rows += [{"tokens": ["the", "old", "mill"], "pos": None, "id": [1]} for _ in range(90)]
    rows[105]["pos"] = ["DT"]
    bulk.predict(model, rows, tmp_path / "out.conll", keep=True)
    blocks = [block.splitlines() for block in (tmp_path / "out.conll").read_text().split("\n\n") if block]
    told = [[line.split("\t")[1:-1] for line in block] for block in blocks]
    assert told[2] == [["DT"], ["NN"]]
    assert told[3] == [["_"]] * 2
    assert told[50] == told[105] == [["_"]] * 3


def test_rows_of_two_kinds_are_told_by_their_place(tmp_path):
    with pytest.raises(
        BothwaysError, match=r"row 2: the column 'text' holds a list of words where the first row has a"
    ):
        bulk.predict(model_for("tag"), [{"text": "the mill"}, {"text": ["the", "mill"]}], tmp_path / "out.jsonl")
    rows = [{"query": "mill", "texts": "the river"}, {"query": "mill", "texts": ["the river", "a mill"]}]
    scorer = model_for("regress")
    scorer.task = "rerank"
    for given, told in ((rows, "a list of texts where"), (rows[::-1], "one text where")):
        with pytest.raises(BothwaysError, match=f"row 2: has {told}"):
            bulk.predict(scorer, given, tmp_path / "out.jsonl")


def test_cells_of_frames_are_kept_as_plain_data(tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    places = [list(range(2000)), [1, 2]]
    arrays = pandas.DataFrame({"text": TEXTS[:2], "places": [np.array(one) for one in places]})
    for frame in (arrays, polars.DataFrame({"text": TEXTS[:2], "places": places})):
        bulk.predict(model_for("classify"), frame, tmp_path / "out.jsonl", keep=True, overwrite=True)
        assert [row["places"] for row in lines(tmp_path / "out.jsonl")] == places


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path):
    rows = [{"text": TEXTS[0], "kept": {"a": [float("inf"), 1.5]}, "other": float("-inf")}]
    bulk.predict(model_for("classify"), rows, tmp_path / "out.jsonl", keep=True)
    (row,) = lines(tmp_path / "out.jsonl")
    assert (row["kept"], row["other"]) == ({"a": [None, 1.5]}, None)
