"""Bulk jobs: whatever goes in and out, whatever happens in between, the same vectors in the same order."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zstandard
from pyarrow import parquet

import killed_jobs
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run import stream
from bothways.use import bulk
from bothways.use.amount import expected, rows_of
from bothways.use.draft import Draft, State
from bothways.use.job import _Reading
from bothways.use.predictions.shared import Asked

TEXTS = tiny.sentences(60, seed=5)


@pytest.fixture(scope="module")
def model():
    return tiny.model(())


@pytest.fixture(scope="module")
def right(model):
    return model.embed(TEXTS)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", 7)
    monkeypatch.setattr("bothways.text.rows.PEEKED", 3)


def vectors(path):
    """The vectors of a file or of a folder of shards, in order."""
    if path.is_dir():
        return np.concatenate([vectors(one) for one in sorted(path.iterdir())])
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".parquet":
        return np.array(parquet.read_table(path)["vector"].to_pylist(), dtype=np.float32)
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
    lines = raw.decode().splitlines()
    if ".jsonl" in path.suffixes:
        return np.array([json.loads(line)["vector"] for line in lines], dtype=np.float32)
    rows = csv.DictReader(lines, delimiter="\t" if ".tsv" in path.suffixes else ",")
    return np.array([json.loads(row["vector"]) for row in rows], dtype=np.float32)


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# -- what goes in


def as_jsonl(path):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))


def as_lines(path):
    path.write_text("\n".join(TEXTS) + "\n")


def as_npy(path):
    np.save(path, np.array(TEXTS))


def as_gzip(path):
    path.write_bytes(gzip.compress(("\n".join(TEXTS) + "\n").encode()))


def as_zstd(path):
    path.write_bytes(zstandard.compress(("text\n" + "\n".join(TEXTS) + "\n").encode()))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.jsonl", as_jsonl), ("a.txt", as_lines), ("a.npy", as_npy), ("a.txt.gz", as_gzip), ("a.csv.zst", as_zstd)],
)
def test_texts_of_every_kind_give_the_same_vectors(tmp_path, model, right, name, write):
    write(tmp_path / name)
    done = bulk.embed(model, tmp_path / name, tmp_path / "out.npy")
    assert done.texts == len(TEXTS)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, atol=1e-5)


@pytest.mark.parametrize("ending", ["txt", "npy", "csv"])
def test_a_folder_is_read_in_order_of_names(tmp_path, model, right, ending):
    (tmp_path / "in").mkdir()
    for number, begin in enumerate(range(0, len(TEXTS), 25)):
        path, some = tmp_path / "in" / f"{number}.{ending}", TEXTS[begin : begin + 25]
        if ending == "npy":
            np.save(path, np.array(some))
        else:
            path.write_text("\n".join(["text"] * (ending == "csv") + some) + "\n")
    bulk.embed(model, tmp_path / "in", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, atol=1e-5)


@pytest.mark.parametrize(("column", "named"), [("text", None), ("review", None), ("said", "said")])
def test_texts_beside_tables_are_rows_of_their_column(tmp_path, model, right, column, named):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(f"{column},score_\n" + "".join(f"{text},1\n" for text in TEXTS[:20]))
    (folder / "b.txt.gz").write_bytes(gzip.compress("\n".join(TEXTS[20:30]).encode()))
    np.save(folder / "c.npy", np.array(TEXTS[30:40]))
    (folder / "d.jsonl").write_text("".join(json.dumps({column: text, "score_": 1}) + "\n" for text in TEXTS[40:]))
    (folder / ".hidden").mkdir()
    np.save(folder / ".hidden" / "c.npy", np.array(["no"]))
    assert bulk.embed(model, folder, tmp_path / "out.npy", text=named).texts == len(TEXTS)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, atol=1e-5)
    assert rows_of(folder) == pytest.approx(len(TEXTS), abs=3)


def test_texts_beside_tables_of_pairs_are_told_not_left_out(tmp_path):
    from test_predict import model_for

    (tmp_path / "a.csv").write_text("premise,hypothesis\nthe river,the stone\n")
    (tmp_path / "b.txt").write_text("the river\n")
    with pytest.raises(BothwaysError, match=r"b\.txt, line 1: there is no text in the column 'hypothesis'"):
        bulk.predict(model_for("pairs"), tmp_path, tmp_path.with_name("out.csv"))


def test_a_blank_line_is_a_text_so_that_lines_and_vectors_keep_step(tmp_path, model):
    (tmp_path / "in.txt").write_text("the river\n\nthe stone\n")
    bulk.embed(model, tmp_path / "in.txt", tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model.embed(["the river", "", "the stone"]), atol=1e-5)


def test_lines_of_standard_input_are_texts_when_told_so(tmp_path, model, right, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    bulk.embed(model, "-", tmp_path / "out.npy", lines=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, atol=1e-5)


# -- what comes out


@pytest.mark.parametrize(
    "name", ["out.npy", "out.parquet", "out.jsonl", "out.jsonl.gz", "out.csv.zst", "out.tsv", "out"]
)
@pytest.mark.parametrize("shard_rows", [None, 10])
def test_vectors_are_the_same_in_files_and_shards_of_every_kind(tmp_path, model, right, name, shard_rows):
    out = tmp_path / name
    bulk.embed(model, TEXTS, out, shard_rows=shard_rows)
    np.testing.assert_allclose(vectors(out), right, atol=1e-5)
    assert out.is_dir() == (shard_rows is not None or name == "out")
    if shard_rows:
        assert len(list(out.iterdir())) == 6
        assert [len(vectors(path)) for path in sorted(out.iterdir())] == [10] * 6
    assert hidden(tmp_path) == []


def test_a_folder_of_shards_is_read_again_as_a_table(tmp_path, model, right):
    bulk.embed(model, TEXTS, tmp_path / "out", shard_rows=25)
    bulk.embed(model, tmp_path / "out", tmp_path / "again.npy")
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), right, atol=1e-5)


def test_a_folder_is_replaced_only_when_told_so(tmp_path, model):
    bulk.embed(model, TEXTS, tmp_path / "out", shard_rows=10)
    with pytest.raises(BothwaysError, match="there already"):
        bulk.embed(model, TEXTS[:5], tmp_path / "out", shard_rows=10)
    bulk.embed(model, TEXTS[:5], tmp_path / "out", shard_rows=10, overwrite=True)
    assert len(vectors(tmp_path / "out")) == 5
    (tmp_path / "empty").mkdir()
    bulk.embed(model, TEXTS, tmp_path / "empty")
    assert len(vectors(tmp_path / "empty")) == len(TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path, model):
    (tmp_path / "out.npy").mkdir()
    (tmp_path / "out").write_text("mine")
    for name, is_now in (("out.npy", "a folder"), ("out", "a file")):
        with pytest.raises(BothwaysError, match=f"{name} is {is_now}, which what is written now cannot replace"):
            bulk.embed(model, TEXTS[:5], tmp_path / name, overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_overwriting_replaces_shards_and_nothing_else(tmp_path, model):
    out = tmp_path / "out"
    bulk.embed(model, TEXTS, out, shard_rows=10)
    for name in (".state.json", ".lock"):  # as a kill right before the end leaves them
        (out / name).touch()
    bulk.embed(model, TEXTS[:5], out, overwrite=True)
    assert len(vectors(out)) == 5
    before = content(out)
    for name in ("thesis.txt", "part-1.npy", "part-00001"):
        (out / name).write_text("mine")
        with pytest.raises(BothwaysError, match=rf"out holds something else than shards \({name}\), which is not"):
            bulk.embed(model, TEXTS, out, overwrite=True)
        assert content(out) == before | {name: b"mine"}
        (out / name).unlink()
    (out / "part-00001.npy").mkdir()
    with pytest.raises(BothwaysError, match="holds something else than shards"):
        bulk.embed(model, TEXTS, out, overwrite=True)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("source", ["out", "out/part-00000.jsonl", ["out/part-00000.jsonl"]])
@pytest.mark.parametrize("job", [bulk.embed, bulk.predict])
def test_what_is_read_is_not_overwritten(tmp_path, model, monkeypatch, source, job):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    as_jsonl(Path("out/part-00000.jsonl"))
    before = content(Path("out"))
    with pytest.raises(BothwaysError, match=r"is to be read, and overwriting \S*out would remove it"):
        job(model, source, tmp_path / "out", overwrite=True)
    with pytest.raises(BothwaysError, match=r"is to be read, and overwriting \S*0\.jsonl would remove it"):
        job(model, "out/part-00000.jsonl", "out/part-00000.jsonl", overwrite=True)
    with pytest.raises(BothwaysError, match=r"0\.jsonl is to be read, and overwriting"):
        job(model, "out", "out/part-00000.jsonl", overwrite=True)
    assert content(Path("out")) == before


@pytest.mark.parametrize("out", ["", ".", "..", "inner/..", "/"])
def test_an_output_without_a_name_is_refused(tmp_path, model, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("inner").mkdir()
    with pytest.raises(BothwaysError, match="names nothing that could be written"):
        bulk.embed(model, TEXTS, out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


# -- windows and iterators


def test_an_iterator_gives_vectors_in_order_and_reads_no_further_than_some_windows(model, right):
    read = []
    found = model.embed(read.append(text) or text for text in TEXTS)
    assert read == []
    first = next(found)
    assert len(read) <= 7 * (stream.Threads.ahead + 1)
    np.testing.assert_allclose(np.stack([first, *found]), right, atol=1e-5)
    assert list(model.embed(iter([]))) == []


def test_an_iterator_that_is_left_leaves_no_thread(model):
    before = threading.active_count()
    found = model.embed(iter(TEXTS))
    next(found)
    found.close()
    assert threading.active_count() == before


LEFT = """
import tiny
from bothways.run import stream

def texts():
    while True:
        yield "the red river"

stream.WINDOW = {window}
found = tiny.model(()).embed(texts())
next(found)
"""


@pytest.mark.parametrize("window", [7, 4096])
def test_a_program_may_end_while_vectors_are_half_read(window):
    away = {"PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parent, *sys.path]))}
    typed = [sys.executable, "-c", LEFT.format(window=window)]
    done = subprocess.run(typed, capture_output=True, text=True, env=os.environ | away, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_goes_wrong_in_an_iterator_comes_after_the_vectors_before_it(model, right):
    got = []
    with pytest.raises(BothwaysError, match=r"texts\[15\] is not a string but NoneType"):
        got.extend(model.embed(iter([*TEXTS[:15], None])))
    np.testing.assert_allclose(np.stack(got), right[:14], atol=1e-5)  # two windows of seven
    with pytest.raises(BothwaysError, match="pooling"):
        model.embed(iter(TEXTS), "sum")


def test_threads_that_ask_one_model_get_what_they_would_get_alone(model, right):
    found, failed = {}, []

    def ask(place):
        try:
            found[place] = model.embed(TEXTS[place::4])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    counted = model.truncated.all_texts
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed == []
    assert model.truncated.all_texts == counted + len(TEXTS)
    for place in range(4):
        np.testing.assert_allclose(found[place], right[place::4], atol=1e-5)


# -- cut and windowed texts


def test_what_is_cut_is_counted_for_each_policy_and_told_once(tmp_path):
    long = ["the river " * 40, "short", "the stone " * 50]
    model = tiny.model((), max_length=32)
    with pytest.warns(BothwaysWarning, match="2 of 3 texts") as told:
        done = bulk.embed(model, long, tmp_path / "warn.npy")
    assert len(told) == 1
    assert (done.truncation.texts, done.truncation.all_texts) == (2, 3)
    assert model.truncation == "warn"
    model.truncation = "head"
    assert bulk.embed(model, long, tmp_path / "head.npy").truncation.tokens == done.truncation.tokens
    model.truncation = "window"
    done = bulk.embed(model, long, tmp_path / "window.npy")
    assert (done.truncation.texts, done.truncation.windowed) == (0, 2)
    np.testing.assert_allclose(np.load(tmp_path / "window.npy"), model.embed(long), atol=1e-5)
    model.truncation = "error"
    with pytest.raises(BothwaysError, match="tokens where"):
        bulk.embed(model, long, tmp_path / "error.npy")
    model.truncation = "warn"
    with pytest.warns(BothwaysWarning, match="2 of 3 texts"):
        list(model.embed(iter(long)))


# -- stopped and gone on with


@pytest.fixture(scope="module")
def killing(tmp_path_factory):
    """A model and an input for jobs that are killed."""
    place = tmp_path_factory.mktemp("killing")
    tiny.folder(place / "model", ())
    texts = tiny.sentences(1000, seed=9)
    (place / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return place


def test_jobs_killed_three_times_make_the_same_bytes(killing, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "WINDOW", killed_jobs.WINDOW)
    model, source = str(killing / "model"), killing / "in.jsonl"
    typed = [sys.executable, killed_jobs.__file__, model, str(source), str(killing), "7"]
    done = subprocess.run(typed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 3
    assert 0 < rows[0] <= rows[1] <= rows[2] < 1000
    killed_jobs.job(model, source, tmp_path / killed_jobs.OUT)
    assert content(killing / killed_jobs.OUT) == content(tmp_path / killed_jobs.OUT)
    assert hidden(killing) == []


def content(path):
    return {one.name: one.read_bytes() for one in path.iterdir()} if path.is_dir() else path.read_bytes()


class Killed(BaseException):
    """Stands for a process that ends here."""


class Ending:
    """Lets the n-th call of what makes things last end with an error."""

    def __init__(self, monkeypatch, error, at):
        self.calls, self.at, self.error = 0, at, error
        for owner, name in ((os, "fsync"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, function):
        def call(*arguments, **more):
            self.calls += 1
            if self.calls == self.at:
                raise self.error
            return function(*arguments, **more)

        return call


ENDINGS = [("a.npy", None), ("a.parquet", 30), ("a.jsonl.gz", None)]


@pytest.mark.parametrize(
    ("name", "shard_rows", "error"),
    [*((*one, Killed()) for one in ENDINGS), (*ENDINGS[0], OSError(errno.ENOSPC, "No space left on device"))],
)
def test_a_job_that_ends_between_any_two_steps_goes_on_to_the_same_bytes(
    tmp_path, model, name, shard_rows, error, monkeypatch
):
    monkeypatch.setattr(stream, "WINDOW", 20)
    right, out = tmp_path / "right" / name, tmp_path / "out" / name
    right.parent.mkdir()
    out.parent.mkdir()
    bulk.embed(model, TEXTS, right, shard_rows=shard_rows)
    at, resumed = 0, set()
    while True:
        at += 1
        with monkeypatch.context() as patch:
            ending = Ending(patch, error, at)
            try:
                bulk.embed(model, TEXTS, out, shard_rows=shard_rows)
                assert ending.calls < at
                break  # there are no more steps
            except (Killed, BothwaysError) as ended:
                told = str(ended)
            assert isinstance(error, Killed) or "No space left" in told
            assert isinstance(error, Killed) or ("nothing was left" in told) == (hidden(out.parent) == [])
        there = out.exists()  # whole, and it may be that its remains lie about
        resumed.add(bulk.embed(model, TEXTS, out, shard_rows=shard_rows, overwrite=there).resumed)
        assert content(out) == content(right), at
        assert hidden(out.parent) == []
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    assert resumed == ({0, 20, 30, 50, 60} if shard_rows else {0, 20, 40, 60})


def interrupted(model, out, rows=21, **how):
    """Leaves a job that answered some rows, and says what was told of it."""

    def texts():
        yield from TEXTS[:rows]
        yield 7

    with pytest.raises(BothwaysError) as told:
        bulk.embed(model, texts(), out, **how)
    return str(told.value)


def test_after_a_bad_row_the_rows_before_it_are_kept_and_a_mended_input_goes_on(tmp_path, model, right):
    told = interrupted(model, tmp_path / "out.npy")
    assert "row 22" in told
    assert f"21 rows are kept in {tmp_path / '.out.npy.part'}, and the same command goes on after them" in told
    assert not (tmp_path / "out.npy").exists()
    done = bulk.embed(model, iter(TEXTS), tmp_path / "out.npy")
    assert (done.texts, done.resumed, done.truncation.all_texts) == (60, 21, 60)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), right, atol=1e-5)
    assert hidden(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pooling": "cls"}, "with pooling 'mean', not 'cls'"),
        ({"source": TEXTS[1:]}, "first 21 rows are not those"),
        ({"source": TEXTS[:9]}, "first 21 rows are not those"),
        ({"seed": 1}, "of another model"),
        ({"state": "{"}, "another version"),
        ({"draft": ""}, "is damaged"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told_and_begun_anew_only_when_told_so(tmp_path, model, change, told):
    out, work = tmp_path / "out.npy", tmp_path / ".out.npy.part"
    interrupted(model, out)
    asked = tiny.model((), seed=1) if "seed" in change else model
    source, how = change.get("source", TEXTS), {"pooling": change.get("pooling")}
    for name, file in (("state", ".state.json"), ("draft", "draft")):
        if name in change:
            (work / file).write_text(change[name])
    with pytest.raises(BothwaysError, match=told) as error:
        bulk.embed(asked, source, out, **how)
    assert "--no-resume begins anew" in str(error.value)
    assert work.exists()
    assert bulk.embed(asked, source, out, resume=False, **how).resumed == 0
    np.testing.assert_allclose(np.load(out), asked.embed(source, **how), atol=1e-5)


@pytest.mark.parametrize("others", [[*TEXTS[:9], "another"], TEXTS[1:9], TEXTS[:8], TEXTS[:10]])
def test_what_was_whole_but_had_no_name_yet_is_not_taken_for_other_rows(tmp_path, model, right, others, monkeypatch):
    out, remember = tmp_path / "out.npy", Draft._remember

    def ending(draft, state):
        remember(draft, state)
        if state.whole:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Draft, "_remember", ending)
        with pytest.raises(Killed):
            bulk.embed(model, TEXTS[:9], out)
    with pytest.raises(BothwaysError, match=r"the input has changed: it.* rows .*; --no-resume begins anew"):
        bulk.embed(model, others, out)
    assert bulk.embed(model, TEXTS[:9], out).resumed == 9
    np.testing.assert_allclose(np.load(out), right[:9], atol=1e-5)


def test_two_jobs_do_not_write_one_output(tmp_path, model):
    def texts():
        yield from TEXTS[:21]
        with pytest.raises(BothwaysError, match="another run is writing"):
            bulk.embed(model, TEXTS, tmp_path / "out.npy")
        yield from TEXTS[21:]

    assert bulk.embed(model, texts(), tmp_path / "out.npy").texts == 60


def test_ctrl_c_keeps_what_was_answered_and_says_so(tmp_path, model, capsys):
    def texts():
        yield from TEXTS[:35]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk.embed(model, texts(), tmp_path / "out.npy")
    told = capsys.readouterr().err
    assert "the same command goes on after them" in told
    assert bulk.embed(model, TEXTS, tmp_path / "out.npy").resumed in (7, 14, 21, 28, 35)


def test_predictions_go_on_too_with_all_that_stands_beside_them(tmp_path):
    from test_predict import model_for

    asked = model_for("classify")
    rows = [{"n": place, "text": text} for place, text in enumerate(TEXTS)]
    bulk.predict(asked, rows, tmp_path / "right.csv", keep=True)
    with pytest.raises(BothwaysError, match="21 rows are kept"):
        bulk.predict(asked, iter([*rows[:21], {"n": 0}]), tmp_path / "out.csv", keep=True)
    assert bulk.predict(asked, rows, tmp_path / "out.csv", keep=True).resumed == 21
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "right.csv").read_bytes()


# -- told before it begins


def test_the_size_of_the_output_is_told_before_it_is_written(tmp_path, model, capsys):
    bulk.embed(model, TEXTS, tmp_path / "out.npy")
    told = capsys.readouterr().err
    size = (tmp_path / "out.npy").stat().st_size
    said = float(told.split("60 rows, ")[1].split()[0]) * 1000
    assert abs(said - size) < 0.2 * size
    assert "tokens/s" in told
    assert "only" in expected(10**9, 10**9, tmp_path / "x.npy")


def test_rows_are_told_from_files_without_reading_them_all(tmp_path):
    lines = "".join(json.dumps({"text": "x" * 90}) + "\n" for _ in range(40_000))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "c.csv").write_text("text\na\nb\n")
    np.save(tmp_path / "d.npy", np.array(["a", "b", "c"]))
    parts = [line.encode() * 100 for line in ('{"text": "x"}\n', '{"text": "y"}\n', '{"text": "z"}\n')]
    (tmp_path / "e.jsonl.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    (tmp_path / "f.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, parts)))
    told = [rows_of(path) for path in sorted(tmp_path.iterdir())]
    assert told == pytest.approx([40_000, 40_000, 2, 3, 300, 300], rel=0.01)
    assert (rows_of("-"), rows_of(iter([])), rows_of([1, 2]), rows_of({"text": [1]})) == (None, None, 2, 1)


# -- mistakes


@pytest.mark.parametrize(
    ("out", "how", "told"),
    [
        ("out.xls", {}, ".npy, .jsonl, .parquet, .csv or .tsv"),
        ("out.npy.gz", {}, ".npy, .jsonl, .parquet, .csv or .tsv"),
        ("nowhere/out.npy", {}, "nowhere"),
        ("out.npy", {"shard_rows": 0}, "at least one row"),
        ("-", {"shard_rows": 9}, "no shards"),
        ("out.npy", {"workers": 2}, "--on ray"),
        ("out.npy", {"on": "spark"}, "'spark'"),
        ("out.npy", {"on": "ray", "workers": 0}, "at least one worker"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence(tmp_path, model, out, how, told):
    with pytest.raises(BothwaysError) as error:
        bulk.embed(model, TEXTS, out if out == "-" else tmp_path / out, **how)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.txt", b"fine\nr\xffver\n", "line 2: not UTF-8"),
        ("in.txt", b"", "empty"),
        ("in.npy", b"nothing", "not a NumPy file"),
        ("in.txt.gz", gzip.compress(b"the river\n" * 999, mtime=0)[:-20], "cut off"),
    ],
)
def test_an_input_that_cannot_be_read_is_one_sentence(tmp_path, model, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BothwaysError) as error:
        bulk.embed(model, tmp_path / name, tmp_path / "out.npy")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("array", [np.arange(3), np.array([["a"]]), np.array(["a", None], dtype=object)])
def test_an_array_of_anything_but_texts_is_refused(tmp_path, model, array):
    with pytest.raises(BothwaysError, match="array"):
        bulk.embed(model, array, tmp_path / "out.npy")


def test_a_text_of_half_a_million_characters_is_cut_or_read_in_windows(tmp_path):
    text = ("the old bridge by the river " * 20_000)[:500_000]
    model = tiny.model((), max_length=256, truncation="head")
    done = bulk.embed(model, ["short", text], tmp_path / "head.npy")
    assert done.tokens == 256 + 7
    model.truncation = "window"
    done = bulk.embed(model, ["short", text], tmp_path / "window.npy")
    assert done.truncation.windowed == 1
    assert done.tokens > 100_000
    assert np.isfinite(np.load(tmp_path / "window.npy")).all()


def test_windows_begin_small_and_are_the_same_wherever_a_run_goes_on(monkeypatch):
    monkeypatch.setattr(stream, "FIRST", 3)
    monkeypatch.setattr(stream, "WINDOW", 20)
    rows = [Asked((str(place),), {}) for place in range(70)]
    sizes = [len(part.rows) for part in _Reading(iter(rows), State({})).parts(None)]
    assert sizes == [3, 3, 6, 12, 20, 20, 6]
    digest = ""
    for rest, part in enumerate(list(_Reading(iter(rows), State({})).parts(None)), 1):
        digest, answered = part.digest, sum(sizes[:rest])
        state = State({}, rows=answered, digest=digest)
        assert [len(part.rows) for part in _Reading(iter(rows), state).parts(None)] == sizes[rest:]
