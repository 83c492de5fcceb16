"""Rows: every table reads alike, columns are found or asked for, and a bad row is named with its line."""

import csv
import io
import json
import os
import threading

import datasets
import numpy as np
import pandas
import polars
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bothways.errors import BothwaysError
from bothways.text.columns import Columns, infer_columns, read_examples
from bothways.text.question_files import read_objects
from bothways.text.rows import read_rows
from shared import SHARED, needs_shared

TEXTS = ['says "hello", twice', "two\nlines", "plain", "", "tab\there; 第三"]
LABELS = ["pos", "neg", "pos", "neg", "pos"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def write(path, rows=ROWS, **options):
    """Writes rows as the usual tools do."""
    if ".jsonl" in path.name:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif ".parquet" in path.name:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if ".tsv" in path.name else ",", **options)
            writer.writeheader()
            writer.writerows(rows)
    return path


def examples(source, *given_columns, **options):
    rows = read_rows(source)
    return [(e.text, e.text_pair, e.label) for e in read_examples(rows, infer_columns(rows, *given_columns, **options))]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_every_kind_of_file_gives_the_same_rows(name, tmp_path):
    rows = read_rows(write(tmp_path / name))
    assert rows.columns == ["text", "label"]
    assert list(rows) == ROWS
    assert list(rows) == ROWS, "a file can be read again"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_what_pandas_writes_is_read_back(name, tmp_path):
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / name, sep="\t" if name.endswith("tsv") else ",", index=False)
    assert list(read_rows(tmp_path / name)) == ROWS


@given(
    st.lists(
        st.tuples(st.text(st.sampled_from("ab\", \n\t';é"), max_size=8), st.sampled_from(["x", "y"])),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_fields_survive_csv(tmp_path_factory, pairs):
    rows = [{"text": text, "label": label} for text, label in pairs]
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", rows)
    assert list(read_rows(path)) == rows


def test_bare_quotes_in_a_tsv_are_characters(tmp_path):
    lines = ["sentence\tlabel", '" an open quote\t1', 'said "so" and\t0', 'closed"\t1', '"whole"\t0', "plain\t1"]
    (tmp_path / "glue.tsv").write_text("\n".join(lines) + "\n")
    found = [tuple(row.values()) for row in read_rows(tmp_path / "glue.tsv")]
    assert found == [('" an open quote', "1"), ('said "so" and', "0"), ('closed"', "1"), ("whole", "0"), ("plain", "1")]
    lines = ["label\tsentence", '1\t" an open quote', '0\tthe end"', '1\t"two', 'lines"', "0\tx"]
    (tmp_path / "glue.tsv").write_text("\n".join(lines) + "\n")
    found = [tuple(row.values()) for row in read_rows(tmp_path / "glue.tsv")]
    assert found == [("1", '" an open quote'), ("0", 'the end"'), ("1", "two\nlines"), ("0", "x")]


def test_halves_of_characters_in_json_become_whole_ones(tmp_path):
    lines = [
        r'{"text": "a \ud800 b", "more": ["\uD83D\uDE00", {"k\udfff": "\uDC00"}]}',
        r'{"text": "\\ud800 \ud83d\ude00"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = list(read_rows(tmp_path / "a.jsonl"))
    assert found[0] == {"text": "a \ufffd b", "more": ["\U0001f600", {"k\ufffd": "\ufffd"}]}
    assert found[1] == {"text": "\\ud800 \U0001f600"}
    (tmp_path / "b.json").write_text("[" + ",\n".join(lines) + "]")
    for name in ("a.jsonl", "b.json"):
        assert [row for _, row, _ in read_objects(tmp_path / name)] == found


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_other_separators_are_seen_in_the_header(mark, tmp_path):
    (tmp_path / "a.csv").write_text(f"text{mark}label\n\ngood, very{mark}pos\n")
    assert list(read_rows(tmp_path / "a.csv")) == [{"text": "good, very", "label": "pos"}]


@pytest.mark.parametrize(
    "source",
    [
        {"text": TEXTS, "label": LABELS},
        {"text": np.array(TEXTS), "label": pandas.Series(LABELS)},
        ROWS,
        list(zip(TEXTS, LABELS, strict=True)),
        pandas.DataFrame(ROWS, index=[5, 5, 7, 8, 9]),
        polars.DataFrame(ROWS),
        polars.LazyFrame(ROWS),
        pyarrow.Table.from_pylist(ROWS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
        datasets.Dataset.from_list(ROWS).class_encode_column("label"),
    ],
    ids=lambda source: f"{type(source).__module__.split('.')[0]}.{type(source).__name__}",
)
def test_every_python_source_gives_the_same_rows(source):
    rows = read_rows(source)
    assert rows.columns == ["text", "label"]
    assert list(rows) == ROWS
    assert list(rows) == ROWS


def test_an_iterator_is_read_once_as_it_comes():
    seen = []

    def stream():
        for place in range(1000):
            seen.append(place)
            yield f"text {place}", place % 2

    rows = read_rows(stream())
    assert rows.columns == ["text", "label"]
    assert len(seen) <= 100
    assert sum(1 for _ in rows) == 1000
    with pytest.raises(BothwaysError, match="only once"):
        list(rows)


def test_standard_input_is_told_by_its_first_line(monkeypatch, tmp_path):
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        data = write(tmp_path / name).read_bytes()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert list(read_rows("-")) == ROWS


@pytest.mark.parametrize("first", ["I love it", "It is so-so.", "one two"])
def test_plain_lines_are_texts_and_none_is_taken_for_a_header(monkeypatch, tmp_path, first):
    data = f'\n{first}\nIt is {{odd}}, "they" say\n\nThe last\n'.encode()
    (tmp_path / "plain.txt").write_bytes(data)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    for source in ("-", tmp_path / "plain.txt"):
        texts = [first, 'It is {odd}, "they" say', "The last"]
        assert list(read_rows(source)) == [{"text": text} for text in texts]


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = write(tmp_path / "a.csv").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert list(read_rows(pipe)) == ROWS
    writer.join()


def test_a_pipe_in_a_list_is_refused_before_anything_is_read(tmp_path):
    pipe, file = tmp_path / "pipe", write(tmp_path / "a.csv")
    os.mkfifo(pipe)
    for listed in ([pipe, pipe], [file, pipe], [pipe, file]):
        with pytest.raises(BothwaysError, match="pipe can be read only once, so it is read alone"):
            read_rows(listed)


def test_a_folder_is_one_table(tmp_path):
    write(tmp_path / "b.csv")
    write(tmp_path / "a.jsonl", ROWS[:2])
    (tmp_path / "readme.txt").write_text("not a table")
    assert list(read_rows(tmp_path)) == ROWS[:2] + ROWS
    assert list(read_rows([tmp_path / "a.jsonl", tmp_path / "b.csv"])) == ROWS[:2] + ROWS
    write(tmp_path / "c.jsonl", [{"other": "x"}])
    with pytest.raises(BothwaysError, match=r"c\.jsonl has the columns other where .*a\.jsonl has text, label"):
        read_rows(tmp_path)


INFERRED = [
    (["text", "label"], ("text", None, "label")),
    (["id", "Review", "Stars"], ("Review", None, "Stars")),
    (["sentence", "text", "labels", "score"], ("text", None, "labels")),
    (["text_a", "text_b", "score", "label"], ("text_a", "text_b", "label")),
    (["idx", "premise", "hypothesis", "label"], ("premise", "hypothesis", "label")),
    (["question1", "question2", "is_duplicate"], ("question1", "question2", "is_duplicate")),
    (["question", "sentence", "label"], ("question", "sentence", "label")),
    (["headline", "category"], ("headline", None, "category")),
    (["comment", "verdict"], ("comment", None, "verdict")),
    (["", "text", "verdict"], ("text", None, "verdict")),
]


@pytest.mark.parametrize(("names", "wanted"), INFERRED, ids=[" ".join(names) for names, _ in INFERRED])
def test_usual_columns_are_found(names, wanted):
    rows = read_rows([dict.fromkeys(names, "x")])
    assert infer_columns(rows) == Columns(*wanted)
    assert infer_columns(rows, need_label=False).text == wanted[0]


@pytest.mark.parametrize(
    "names", [["left", "right"], ["a", "b", "label"], ["text", "b", "c"], ["review", "body", "label"]]
)
def test_unclear_columns_are_asked_for(names):
    rows = read_rows([dict.fromkeys(names, "x")])
    with pytest.raises(BothwaysError, match=rf"not clear which column.*columns: {', '.join(names)}\).*--(text|label)"):
        infer_columns(rows)


def test_given_columns_win_and_absent_ones_are_named():
    rows = read_rows([{"text": "x", "summary": "y", "label": "l", "kind": "k"}])
    assert infer_columns(rows, text="summary", label="kind") == Columns("summary", None, "kind")
    assert infer_columns(rows, text="text", text_pair="summary") == Columns("text", "summary", "label")
    assert infer_columns(read_rows(["a", "b"]), need_label=False) == Columns("text", None, None)
    for option in ("text", "text_pair", "label"):
        with pytest.raises(
            BothwaysError, match=r"no column 'sumary' \(columns: text, summary, label, kind\); did you mean"
        ):
            infer_columns(rows, **{option: "sumary"})


def test_pairs_and_labels_arrive_as_examples():
    assert examples([("a", "b", 1), ("c", "d", 0)]) == [("a", "b", 1), ("c", "d", 0)]
    assert examples({"text": ["a"], "label": [" pos "]}) == [("a", None, "pos")]
    assert examples(pandas.DataFrame({"text": ["a"], "label": np.array([3])})) == [("a", None, 3)]
    assert examples(["a"], need_label=False) == [("a", None, None)]


BAD = [
    ("a.csv", "text,label\na,pos\nb,\n", r"a\.csv, line 3: there is no label in the column 'label'"),
    ("a.csv", 'text,label\n"a\nb",pos\n,neg\nx,\n', r"line 5: there is no label"),
    ("a.csv", "text,label\na,pos\nb\n", r"line 3: has 1 fields where the header names 2 columns \(text, label\)"),
    ("a.csv", 'text,label\na,pos\n"b,neg\nc,pos\n', r"line 3: not a CSV row .*quotes"),
    ("a.csv", "text,text\na,b\n", "two columns are called 'text'"),
    ("a.csv", "text,label\n", "holds no rows"),
    ("a.csv", "\n\n", "blank lines"),
    ("a.tsv", "text\tlabel\na\tb\tc\n", "line 2: has 3 fields"),
    ("a.tsv", "text\tlabel\na\tpos\nb\t\n", "line 3: there is no label"),
    ("a.tsv", 'text\tlabel\n"never closed\nb\tpos\n', "line 2: has 1 fields"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2: there is no label"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n', "line 2: there is no label"),
    ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": null, "label": 1}\n', "line 3: there is no text"),
    (
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n',
        "line 2: the column 'text' should hold text, not int 5",
    ),
    ("a.jsonl", '{"text": "a", "label": 1}\nnot json\n', "line 2: not JSON"),
    ("a.jsonl", '{"text": "a", "label": 1}\n"b"\n', "line 2: should be a JSON object"),
    (
        "a.jsonl",
        '[{"text": "a", "label": 1}]',
        "line 1: should be .*; a JSON array is not read, write one object",
    ),
    ("a.txt", '[{"text": "a", "label": 1}]', "line 1: should be .*; a JSON array is not read, write one object"),
    ("a.txt", '[\n{"text": "a", "label": 1}\n]', "line 1: not JSON .*; a JSON array is not read, write one"),
    ("a.jsonl", "[" * 100_000, "line 1: (the JSON is nested too deeply|not JSON)"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_a_bad_row_is_one_sentence_with_its_line(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BothwaysError, match=message) as caught:
        examples(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"text": ["a"], "label": []}, r"differ in length \(text 1, label 0\)"),
        ({"text": "a"}, "should hold a list a column, but 'text' is str"),
        ({}, "holds no rows"),
        ([], "holds no rows"),
        ([("a", "b", "c", "d")], "row 1: should be a dict, a text"),
        ([{"text": "a", "label": 1}, 7], "row 2: should be a dict, a text"),
        (pandas.DataFrame({"text": ["a", "b"], "label": ["x", None]}), "row 2: there is no label"),
        (pandas.DataFrame({"text": ["a", None], "label": ["x", "y"]}), "row 2: there is no text"),
        (pandas.DataFrame({"text": [], "label": []}), "holds no rows"),
        (pandas.DataFrame([["a", "b"]], columns=["text", "text"]), "the data frame: two columns are called 'text'"),
        (pyarrow.table([["a"], ["b"]], ["text", "text"]), "the data set: two columns are called 'text'"),
        (datasets.DatasetDict({"dev": datasets.Dataset.from_list(ROWS)}), "choose one of them: dev"),
        (5, "cannot be read from int"),
        ("missing.csv", "there is no file missing.csv"),
    ],
    ids=str,
)
def test_bad_python_sources_are_one_sentence(source, message):
    with pytest.raises(BothwaysError, match=message):
        examples(source)


def test_a_parquet_file_names_a_column_once(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table([["a"], ["b"]], ["text", "text"]), path)
    with pytest.raises(BothwaysError, match=r"a\.parquet: two columns are called 'text'; rename one of them"):
        examples(path, need_label=False)


def test_wide_parquet_reads_only_what_is_wanted(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"], "vector": [[1.0] * 8]}), path)
    assert [row for _, row in read_rows(path).located(["text"])] == [{"text": "a"}]


@needs_shared
@pytest.mark.parametrize(
    ("name", "columns", "count"),
    [
        ("sst2/dev", ("text", None, "label"), 872),
        ("mrpc/dev", ("text_a", "text_b", "label"), 408),
        ("sick/dev", ("text_a", "text_b", "label"), 500),
        ("stsb/dev", ("text_a", "text_b", "score"), 1500),
    ],
)
def test_real_tables_are_understood(name, columns, count):
    rows = read_rows(SHARED / "data" / f"{name}.jsonl.gz")
    assert infer_columns(rows) == Columns(*columns)
    assert sum(1 for _ in read_examples(rows, infer_columns(rows))) == count
