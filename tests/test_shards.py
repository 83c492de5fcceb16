"""Prepared corpora: nothing lost, nothing changed by interruption, nothing half-written."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bothways.errors import BothwaysError
from bothways.text import prepare as preparing
from bothways.text import shard_writer
from bothways.text.documents import Document
from bothways.text.normalize import Normalization
from bothways.text.prepare import prepare
from bothways.text.sentences import split_sentences
from bothways.text.shards import Corpus
from bothways.text.tokenizer import Tokenizer

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "##s", "a", ".", "?"]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS], Normalization())


def text_of(documents: int, seed: int = 0) -> list[Document]:
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(documents):
        paragraphs = []
        for _ in range(int(chance.integers(1, 4))):
            sentences = [" ".join([*chance.choice(["The", "cats", "dog", "ran", "Mat", "xyz"], 6)]) for _ in range(3)]
            paragraphs.append("The " + ". The ".join(sentences) + "?")
        made.append(Document(paragraphs))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sentences_of(document: Document) -> list[str]:
    return [sentence for paragraph in document.paragraphs for sentence in split_sentences(paragraph)]


def check_equal(corpus: Corpus, documents: list[Document], tokenizer: Tokenizer) -> None:
    """Compares a corpus with encoding every sentence by itself."""
    expected = [[tokenizer.encode(text, special_tokens=False).token_ids for text in sentences_of(d)] for d in documents]
    expected = [[ids for ids in document if len(ids)] for document in expected]
    expected = [document for document in expected if document]
    assert corpus.documents == len(expected)
    assert corpus.sentences == sum(map(len, expected))
    place = 0
    for number, document in enumerate(expected):
        assert np.array_equal(corpus.document(number), np.concatenate(document))
        assert corpus.document_starts[number] == place
        for ids in document:
            assert np.array_equal(corpus.sentence(place), ids)
            place += 1
    assert corpus.document_starts[-1] == place == len(corpus.sentence_starts) - 1
    assert corpus.sentence_starts[-1] == corpus.tokens


def test_a_corpus_holds_every_sentence(tmp_path, tokenizer):
    documents = text_of(60)
    for shard_tokens in (1, 100, 10_000):
        out = tmp_path / str(shard_tokens)
        with prepare(documents, tokenizer, out, shard_tokens=shard_tokens) as corpus:
            check_equal(corpus, documents, tokenizer)
            assert len(corpus.index.shards) == {1: 60, 10_000: 1}.get(shard_tokens, len(corpus.index.shards))
            assert corpus.tokenizer.fingerprint == tokenizer.fingerprint


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from(["The cat. A dog?", "\u200b", "ran", "The mat sat. xyz."]), max_size=4), max_size=8
    ),
    st.integers(1, 20),
)
def test_documents_and_sentences_without_tokens_leave_no_trace(tmp_path, tokenizer, texts, shard_tokens):
    documents = [Document(paragraphs) for paragraphs in texts]
    out = tmp_path / "corpus"
    shutil.rmtree(out, ignore_errors=True)
    if not any(set(paragraphs) - {"\u200b"} for paragraphs in texts):
        with pytest.raises(BothwaysError, match="holds no"):
            prepare(documents, tokenizer, out, shard_tokens=shard_tokens)
        return
    check_equal(prepare(documents, tokenizer, out, shard_tokens=shard_tokens), documents, tokenizer)


def test_a_document_longer_than_a_batch_stays_whole(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(preparing, "_BATCH", 7)
    documents = [Document([p for d in text_of(40) for p in d.paragraphs]), *text_of(5, seed=1)]
    corpus = prepare(documents, tokenizer, tmp_path / "corpus", shard_tokens=50)
    check_equal(corpus, documents, tokenizer)


def test_any_stretch_can_be_read_over_shard_borders(tmp_path, tokenizer):
    corpus = prepare(text_of(30), tokenizer, tmp_path / "corpus", shard_tokens=40)
    assert len(corpus.index.shards) > 5
    whole = corpus.read(0, corpus.tokens)
    chance = np.random.default_rng(0)
    for a, b in np.sort(chance.integers(0, corpus.tokens + 1, (200, 2)), axis=1):
        assert np.array_equal(corpus.read(int(a), int(b)), whole[a:b])
    for a, b in ((-1, 3), (5, 4), (0, corpus.tokens + 1)):
        with pytest.raises(IndexError):
            corpus.read(a, b)


def test_the_index_counts_what_reports_show(tmp_path, tokenizer):
    prepare([Document(["The cat sat. Cats ran xyz."]), Document(["A dog?"])], tokenizer, tmp_path / "corpus")
    index = json.loads((tmp_path / "corpus" / "index.json").read_text())
    expected = {"documents": 2, "sentences": 3, "words": 8, "tokens": 12, "unknown": 1, "characters": 12 + 13 + 6}
    assert {name: index[name] for name in expected} == expected
    assert index["fertility"] == pytest.approx(12 / 8)
    assert index["unknown_rate"] == pytest.approx(1 / 12, abs=1e-6)


@pytest.mark.parametrize(("size", "kind", "width"), [(1 << 16, "uint16", 2), ((1 << 16) + 1, "uint32", 4)])
def test_tokens_take_no_more_bytes_than_the_vocabulary_needs(tmp_path, size, kind, width):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    names += [f"w{number}" for number in range(size - len(names) - 1)] + ["last"]
    large = Tokenizer.from_vocabulary(names, Normalization())
    corpus = prepare([Document(["the last cat"])], large, tmp_path / "corpus")
    assert corpus.index.token_type == kind
    assert (tmp_path / "corpus" / "tokens-00000.bin").stat().st_size == 3 * width
    assert list(corpus.read(0, 3)) == [names.index("the"), size - 1, names.index("cat")]


def test_the_fingerprint_follows_the_content(tmp_path, tokenizer):
    made = [prepare(text_of(9, seed), tokenizer, tmp_path / str(n)).fingerprint for n, seed in enumerate((0, 0, 1))]
    assert made[0] == made[1] != made[2]
    moved = [Document(["The cat.", "The dog."])], [Document(["The cat."]), Document(["The dog."])]
    assert len({prepare(source, tokenizer, tmp_path / f"m{n}").fingerprint for n, source in enumerate(moved)}) == 2


def test_a_corpus_stays_where_it_is_when_the_process_goes_elsewhere(tmp_path, tokenizer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(text_of(5), tokenizer, "corpus")
    corpus = Corpus.open("corpus")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(corpus.read(0, corpus.tokens)) == corpus.tokens


def test_a_corpus_can_be_read_where_nothing_can_be_written(tmp_path, tokenizer):
    folder = tmp_path / "corpus"
    tokens = prepare(text_of(5), tokenizer, folder).tokens
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = contents(folder)
        with Corpus.open(folder) as corpus:
            assert len(corpus.read(0, tokens)) == tokens
            assert corpus.tokenizer.size
            copy = pickle.loads(pickle.dumps(corpus))
            assert np.array_equal(copy.read(0, tokens), corpus.read(0, tokens))
        assert contents(folder) == before
    finally:
        folder.chmod(0o755)


def test_closing_lets_go_of_all_files(tmp_path, tokenizer):
    prepare(text_of(30), tokenizer, tmp_path / "corpus", shard_tokens=40)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    with Corpus.open(tmp_path / "corpus") as corpus:
        corpus.read(0, corpus.tokens)
        assert str(tmp_path) in maps.read_text()
    assert str(tmp_path) not in maps.read_text()


# Interruption

CHILD = """
import sys, time
from bothways.text import shard_writer
from bothways.text.documents import read_documents
from bothways.text.prepare import prepare
from bothways.text.tokenizer import Tokenizer
slow = shard_writer._sync
shard_writer._sync = lambda file: (slow(file), time.sleep(0.002))
print("go", flush=True)
prepare(sys.argv[1], Tokenizer.load(sys.argv[2]), sys.argv[3], shard_tokens=400)
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, tokenizer):
    source = tmp_path / "source.txt"
    source.write_text("\n\n".join("\n".join(document.paragraphs) for document in text_of(1500)))
    tokenizer.save(tmp_path / "tokenizer")
    prepare(source, tokenizer, tmp_path / "whole", shard_tokens=400)
    chance = np.random.default_rng(time.time_ns())
    out = tmp_path / "killed"
    kills, done = 0, []
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(source), str(tmp_path / "tokenizer"), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout.readline() == b"go\n"
        try:
            child.wait(timeout=float(chance.uniform(0.05, 0.5)) if kills < 5 else None)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        kills += 1
        states = [out / name for name in ("index.json", "unfinished.json") if (out / name).exists()]
        done.append(len(json.loads(states[0].read_text())["shards"]) if states else 0)
        if states == [out / "unfinished.json"]:
            with pytest.raises(BothwaysError, match="not finished"):
                Corpus.open(out)
    assert kills >= 2
    assert done == sorted(done)
    assert contents(out) == contents(tmp_path / "whole")


def interrupted(out: Path, documents: list[Document], tokenizer: Tokenizer, after: int) -> None:
    """Prepares until so many documents have been read, then fails as a broken source would."""

    def source():
        yield from documents[:after]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        prepare(source(), tokenizer, out, shard_tokens=40)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(preparing, "_BATCH", 4)


@pytest.mark.usefixtures("small_batches")
def test_a_failing_source_leaves_only_finished_shards(tmp_path, tokenizer):
    documents = text_of(30)
    prepare(documents, tokenizer, tmp_path / "whole", shard_tokens=40)
    interrupted(tmp_path / "out", documents, tokenizer, after=20)
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert not [name for name in left if name.endswith(".partial")]
    assert "tokens-00003.bin" in left
    prepare(documents, tokenizer, tmp_path / "out", shard_tokens=40)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_batches")
def test_going_on_with_something_else_is_refused(tmp_path, tokenizer):
    documents = text_of(30)
    out = tmp_path / "out"
    interrupted(out, documents, tokenizer, after=20)
    before = contents(out)
    other = Tokenizer.from_vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "new"], Normalization())
    changed = [*documents[:3], Document(["The cat."]), *documents[4:]]
    for source, maker, shard_tokens, message in (
        (documents, other, 40, "another tokenizer"),
        (documents, tokenizer, 41, "shards of 40 tokens, not 41"),
        (changed, tokenizer, 40, "another source"),
        (documents[:2], tokenizer, 40, "another source"),
    ):
        with pytest.raises(BothwaysError, match=message):
            prepare(source, maker, out, shard_tokens=shard_tokens)
        assert contents(out) == before


def test_a_finished_corpus_is_only_checked(tmp_path, tokenizer):
    documents = text_of(12)
    prepare(documents, tokenizer, tmp_path / "out", shard_tokens=40)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "unfinished.json").write_bytes(before["index.json"])  # a kill right before the end
    assert prepare(documents, tokenizer, tmp_path / "out", shard_tokens=40).documents == 12
    with pytest.raises(BothwaysError, match="another source"):
        prepare([*documents, Document(["The dog ran."])], tokenizer, tmp_path / "out", shard_tokens=40)
    assert contents(tmp_path / "out") == before


# What can be wrong with a folder


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, tokenizer):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BothwaysError, match="holds something that is not a corpus"):
        prepare(text_of(2), tokenizer, tmp_path)
    with pytest.raises(BothwaysError, match="is a file"):
        prepare(text_of(2), tokenizer, tmp_path / "notes.txt")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.json").write_text('{"format": "recipes"}')
    with pytest.raises(BothwaysError, match="not the index of a prepared corpus"):
        prepare(text_of(2), tokenizer, tmp_path / "other")
    assert contents(tmp_path) == {"notes.txt": b"mine", "other/index.json": b'{"format": "recipes"}'}


def test_what_is_no_corpus_is_said_to_be_none(tmp_path):
    with pytest.raises(BothwaysError, match="does not exist"):
        Corpus.open(tmp_path / "nothing")
    with pytest.raises(BothwaysError, match="is not a prepared corpus"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("name", ["tokens-00001.bin", "sentences.bin", "documents.bin"])
@pytest.mark.parametrize("how", ["cut", "missing"])
def test_an_incomplete_copy_is_noticed_when_opened(tmp_path, tokenizer, name, how):
    prepare(text_of(12), tokenizer, tmp_path / "out", shard_tokens=40)
    path = tmp_path / "out" / name
    if how == "cut":
        os.truncate(path, path.stat().st_size - 1)
    else:
        path.unlink()
    with pytest.raises(BothwaysError, match=f"{name} (has|is missing)"):
        Corpus.open(tmp_path / "out")


def test_a_full_disk_is_one_sentence_and_work_goes_on_later(tmp_path, tokenizer, monkeypatch, small_batches):
    documents = text_of(30)
    prepare(documents, tokenizer, tmp_path / "whole", shard_tokens=40)
    out = tmp_path / "out"
    written = shard_writer._append
    calls = []

    def full(path, boundaries):
        calls.append(path)
        written(path, boundaries)
        if len(calls) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shard_writer, "_append", full)
        with pytest.raises(BothwaysError, match="is full"):
            prepare(documents, tokenizer, out, shard_tokens=40)
    assert len(json.loads((out / "unfinished.json").read_text())["shards"]) == 3
    assert not list(out.glob("*.partial"))
    prepare(documents, tokenizer, out, shard_tokens=40)
    assert contents(out) == contents(tmp_path / "whole")


def test_room_is_looked_for_before_a_shard_is_begun(tmp_path, tokenizer, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    with pytest.raises(BothwaysError, match="needs 24 MB for the next shard and its disk has 5 MB left"):
        prepare(text_of(2), tokenizer, tmp_path / "out")
    assert not list((tmp_path / "out").glob("tokens-*"))


def test_memory_does_not_grow_with_the_text(tmp_path, tokenizer):
    """Four times the text makes hardly any difference to the largest size of the process."""
    paragraph = "\n".join("\n".join(document.paragraphs) for document in text_of(500)) + "\n\n"
    tokenizer.save(tmp_path / "tokenizer")
    code = CHILD.replace("shard_tokens=400", "shard_tokens=200_000") + "\nimport resource\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    sizes = []
    for times in (15, 60):
        source = tmp_path / f"{times}.txt"
        source.write_text(paragraph * times)
        command = [sys.executable, "-c", code, str(source), str(tmp_path / "tokenizer"), str(tmp_path / f"out{times}")]
        made = subprocess.run(command, capture_output=True, text=True, check=True)
        sizes.append(int(made.stdout.split()[-1]))
    assert sizes[1] - sizes[0] < 20_000  # kilobytes
