"""Documents: every source gives the same documents, their boundaries are kept, and memory stays constant."""

import csv
import gzip
import io
import json
import tracemalloc

import datasets
import pandas
import polars
import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from bothways.errors import BothwaysError
from bothways.text import documents, files
from bothways.text.documents import Document, read_documents
from shared import SHARED, needs_shared

TEXTS = ["First paragraph.\nSecond — ünï.", 'Another document, with "quotes".', "第三\nlast"]
PARAGRAPHS = [text.split("\n") for text in TEXTS]


def paragraphs(source, **options):
    return [document.paragraphs for document in read_documents(source, **options)]


def write(path, column="text"):
    """Writes TEXTS into a file of the kind that its name says."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    buffer = io.StringIO(newline="")
    if name.endswith(".txt"):
        buffer.write("\n\n\n".join(TEXTS) + "\n\n")
    elif name.endswith(".jsonl"):
        buffer.write("".join(json.dumps({"id": n, column: text}) + "\n" for n, text in enumerate(TEXTS)))
    elif name.endswith("sv"):
        rows = csv.writer(buffer, delimiter="," if name.endswith(".csv") else "\t")
        rows.writerows([["id", column], *enumerate(TEXTS)])
    data = buffer.getvalue().encode()
    if name.endswith(".parquet"):
        stream = io.BytesIO()
        parquet.write_table(pyarrow.table({"id": list(range(len(TEXTS))), column: TEXTS}), stream)
        data = stream.getvalue()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compressed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_documents(kind, compressed, tmp_path):
    path = write(tmp_path / f"corpus.{kind}{compressed}")
    assert paragraphs(path) == PARAGRAPHS
    assert paragraphs(str(path)) == PARAGRAPHS
    assert paragraphs([str(path), path]) == PARAGRAPHS * 2


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_the_text_column_is_named_or_inferred_or_asked_for(kind, tmp_path):
    assert paragraphs(write(tmp_path / f"a.{kind}", "abstract")) == PARAGRAPHS
    path = write(tmp_path / f"b.{kind}", "Story")
    assert paragraphs(path, text="Story") == PARAGRAPHS
    assert paragraphs(path) == PARAGRAPHS  # only an id beside it
    with pytest.raises(BothwaysError, match=r"has no column 'story' \(columns: id, Story\); did you mean 'Story'"):
        paragraphs(path, text="story")
    two = tmp_path / "two.jsonl"
    two.write_text('{"left": "a", "right": "b"}\n')
    with pytest.raises(BothwaysError, match=r"not clear which column.*\(columns: left, right\).*--text"):
        paragraphs(two)


@pytest.mark.parametrize(
    "source",
    [
        TEXTS,
        tuple(TEXTS),
        [Document(part) for part in PARAGRAPHS],
        {"text": TEXTS},
        [{"text": text} for text in TEXTS],
        pandas.DataFrame({"id": [1, 2, 3], "text": TEXTS}),
        pandas.Series(TEXTS),
        polars.DataFrame({"text": TEXTS}),
        polars.LazyFrame({"text": TEXTS}),
        polars.Series(TEXTS),
        datasets.Dataset.from_dict({"text": TEXTS}),
        datasets.Dataset.from_dict({"text": TEXTS}).to_iterable_dataset(),
        pyarrow.table({"text": TEXTS}),
    ],
    ids=lambda source: f"{type(source).__module__.split('.')[0]}.{type(source).__name__}",
)
def test_every_python_source_gives_the_same_documents(source):
    assert paragraphs(source) == PARAGRAPHS


def test_iterators_are_read_as_they_come():
    seen = []

    def texts():
        for place, text in enumerate(TEXTS):
            seen.append(place)
            yield text

    documents = read_documents(texts())
    assert next(documents).paragraphs == PARAGRAPHS[0]
    assert len(seen) < len(TEXTS)
    assert [document.paragraphs for document in documents] == PARAGRAPHS[1:]
    assert paragraphs({"text": text} for text in TEXTS) == PARAGRAPHS


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_standard_input_is_text_or_json_lines(kind, monkeypatch, tmp_path):
    data = write(tmp_path / f"a.{kind}").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert paragraphs("-") == PARAGRAPHS


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv"])
def test_what_no_name_tells_is_a_table_where_a_column_is_named(kind, mark, monkeypatch, tmp_path):
    data = mark + write(tmp_path / f"a.{kind}", "Story").read_bytes()
    (tmp_path / "nameless").write_bytes(data)
    for source in ("-", tmp_path / "nameless"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert paragraphs(source, text="Story") == PARAGRAPHS
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(BothwaysError, match=r"has no column 'nosuch' \(columns: id, Story\)"):
            paragraphs(source, text="nosuch")


def test_a_byte_order_mark_hides_no_json_lines(monkeypatch, tmp_path):
    data = b"\xef\xbb\xbf\n" + write(tmp_path / "a.jsonl").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert paragraphs("-") == PARAGRAPHS


def test_a_column_of_plain_lines_is_refused(monkeypatch):
    for data in (b"The river is old.\n\nThe house is new.\n", b"First, some.\nThen more, and more, and more.\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(BothwaysError, match=r"standard input.*column") as caught:
            paragraphs("-", text="body")
        assert "\n" not in str(caught.value)


def test_a_folder_is_read_in_order_of_name(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.txt").write_text("b1\n\nb2")
    (tmp_path / "a.txt").write_text("a1")
    (tmp_path / "c.jsonl").write_text('{"text": "c1"}\n')
    (tmp_path / "empty.txt").write_text("")
    assert paragraphs(tmp_path) == [["a1"], ["b1"], ["b2"], ["c1"]]


def test_documents_say_where_they_came_from(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\none\ntwo\n\n\nthree\n")
    names = [document.name for document in read_documents(path)]
    assert names == [f"{path}, line 2", f"{path}, line 6"]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert [document.name for document in read_documents(path)] == [f"{path}, line 1", f"{path}, line 3"]


def test_blank_and_missing_texts_make_no_documents(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ""}\n{"text": null}\n{"text": " \\n "}\n{"text": "a\\r\\n\\r\\n b "}\n')
    assert paragraphs(path) == [["a", "b"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", " \n\n \n", "a.txt holds no text"),
        ("a.jsonl", '{"text": ""}\n', "a.jsonl holds no text"),
        ("a.jsonl", '{"text": "a"}\n{"text": 3}\n', r"a.jsonl, line 2: should be a string, not int 3"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', r"line 2: there is no 'text' \(columns: txt\)"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"\n', r"line 2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', r"line 2: should be a JSON object"),
        ("a.jsonl", '[{"text": "a"},\n', r"line 1: not JSON.*one object a line"),
        ("a.csv", "text,label\na,b,c\n", "line 2: has 3 fields where the header names 2"),
        ("a.parquet", "text", "is not a parquet file"),
        ("a.parquet", "PAR1text", "is not a parquet file that can be read"),
        ("a.txt", "PAR1", "is a parquet file"),
    ],
)
def test_bad_input_is_one_sentence(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(BothwaysError, match=message) as caught:
        paragraphs(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["fine", None], "text 2: should be a string, not NoneType"),
        ([], "holds no text"),
        (["no/such/file.txt"], "there is no file no/such/file.txt"),
        (3, "cannot be read from int"),
        ("a text, not a file", "there is no file"),
        (datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})}), "choose one of them: train"),
    ],
)
def test_what_is_no_source_is_refused(source, message):
    with pytest.raises(BothwaysError, match=message):
        paragraphs(source)


def test_texts_that_only_look_a_little_like_files_stay_texts():
    assert paragraphs(["See readme.txt", "and/or"]) == [["See readme.txt"], ["and/or"]]


def test_endless_lines_and_documents_come_in_parts_in_constant_memory(tmp_path, monkeypatch):
    for name in ("LONGEST_DOCUMENT", "LONGEST_PARAGRAPH"):
        monkeypatch.setattr(documents, name, getattr(documents, name) >> 4)
    monkeypatch.setattr(files, "BLOCK", files.BLOCK >> 4)
    one, many = tmp_path / "one.txt", tmp_path / "many.txt"
    one.write_text("word " * 400_000)  # 2 MB in one line
    many.write_text("a line of a document that never ends\n" * 50_000)  # 1.8 MB without a blank line
    for path, words in ((one, 400_000), (many, 400_000)):
        tracemalloc.start()
        counts = [sum(len(text.split()) for text in document.paragraphs) for document in read_documents(path)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(counts) == words
        assert len(counts) > 3
        assert peak < 1_800_000, "less than the text"
    assert sum(len(p.split()) for d in read_documents(["word " * 50_000]) for p in d.paragraphs) == 50_000


@needs_shared
def test_a_real_corpus_has_the_documents_it_should():
    valid = SHARED / "data" / "wikipedia-en-slice" / "valid.txt.gz"
    assert len(paragraphs(valid)) == 110
