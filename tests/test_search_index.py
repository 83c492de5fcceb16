"""An index: what goes in, what is found, what is refused, and what a kill leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tiny
from bothways.cli import main
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run.sentence_folder import SentenceRecipe
from bothways.text.pymembers import python_members
from bothways.use.search.documents import read_entries
from bothways.use.search.duplicates import dedupe
from bothways.use.search.index import Index
from bothways.use.search.passages import Splitter
from bothways.use.search.picture import draw_map
from bothways.use.search.topics import cluster
from search_data import rows

HOW = {"passage_tokens": 24, "overlap": 6}


@pytest.fixture(scope="module")
def model():
    return tiny.model(())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny", ())


@pytest.fixture
def index(model, tmp_path):
    made = Index.make(tmp_path / "index", model, **HOW)
    made.add(rows())
    return made


def held(index):
    """All that an index holds, by document and place."""
    found = {}
    for some, vectors in index.store.vectors():
        for each, vector in zip(some, vectors, strict=True):
            assert (each.document, each.number) not in found
            found[each.document, each.number] = (each.text, each.metadata, each.digest, vector.round(5).tolist())
    return found


# -- what goes in


def test_a_long_document_is_cut_on_borders_of_sentences_and_neighbours_share_some():
    words = tiny.tokenizer()
    sentences = [f"The {word} was old and it was new again." for word in tiny.KNOWN.split()[:40]]
    splitter = Splitter(words, 40, 16)
    (cut,) = splitter.passages([" ".join(sentences)])
    assert len(cut) > 5
    for text, following in pairwise(cut):
        assert len(words.encode([text]).token_ids) <= 40
        inside = [sentence for sentence in sentences if sentence in text]
        assert " ".join(inside) == text
        assert following.startswith(inside[-1])
    assert {sentence for sentence in sentences if any(sentence in text for text in cut)} == set(sentences)


def test_what_is_short_stays_as_it_is_and_what_has_no_sentences_is_cut_all_the_same():
    words = tiny.tokenizer()
    splitter = Splitter(words, 20, 0)
    assert splitter.passages(["A  short\ntext.", "", " "], ["Title", "", ""]) == [["Title\nA  short\ntext."], [], []]
    (cut,) = splitter.passages(["river " * 100])
    assert " ".join(cut).split() == ["river"] * 100
    assert all(len(words.encode([text]).token_ids) <= 20 for text in cut)


def test_a_table_brings_ids_titles_texts_and_the_rest(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("doc_id,title,text,year\na,One,First text.,1990\nb,,Second text.,\n")
    first, second = read_entries([str(path)])
    assert (first.document, first.title, first.text) == ("a", "One", "First text.")
    assert first.metadata == {"title": "One", "year": "1990"}
    assert (second.document, second.title) == ("b", "")
    (tmp_path / "notes.txt").write_text("A note.\nIts end.\n\nAnother note.\n")
    notes = list(read_entries(tmp_path / "notes.txt"))
    assert [each.text for each in notes] == ["A note.\nIts end.", "Another note."]
    assert notes[1].metadata == {"source": f"{tmp_path / 'notes.txt'}, line 4"}
    assert len(list(read_entries(tmp_path / "notes.txt", lines=True))) == 4
    (tmp_path / "nameless").write_bytes(b"\xef\xbb\xbfid,body\nx,A note.\ny,Another.\n")
    told = [(each.document, each.text) for each in read_entries(tmp_path / "nameless", text="body")]
    assert told == [("x", "A note."), ("y", "Another.")]


def test_only_what_is_new_or_has_changed_is_computed_again(index, model):
    before = held(index)
    changed = rows()
    changed[3]["text"] = "a new text of the river"
    added = index.add([*changed, {"id": "more", "text": "one more"}])
    assert (added.new, added.changed, added.unchanged, added.passages) == (1, 1, 119, 2)
    now = held(index)
    assert now.keys() - before.keys() == {("more", 0)}
    assert {key for key in before if key in now and before[key] != now[key]} == {("n'3", 0)}
    alone = Index.make(None, model, **HOW)
    alone.add([*changed, {"id": "more", "text": "one more"}])
    assert held(alone) == now


def test_what_the_source_does_not_hold_goes_when_told_so(index):
    added = index.add(rows()[:50], prune=True)
    assert (added.deleted, index.held().documents) == (70, 50)


def test_names_that_others_have_added_meanwhile_stay(index, model):
    other = Index.open(index.place, model)
    index.add([{"id": "first", "text": "the river", "length": 7}])
    other.add([{"id": "second", "text": "the bridge", "stone": "old"}])
    assert [hit.document for hit in other.search("river", where="length = 7")] == ["first"]

    def source():
        now = other.store.settings()
        other.store.remember({**now, "fields": [*now["fields"], "late"]})
        yield {"id": "third", "text": "a letter", "color": "red"}

    index.add(source())
    wanted = ("year", "topic", "length", "stone", "late", "color")
    assert set(index.settings.fields) == set(Index.open(index.place, model).settings.fields) == set(wanted)


def test_documents_are_deleted_by_id_and_by_filter(index):
    assert index.delete(["n'5", "n'6"]) == 2
    assert index.delete(where="year = 1990") == 6
    assert index.held().documents == 112
    with pytest.raises(BothwaysError, match=r"there is no document \"n'5\".*nothing was deleted"):
        index.delete(["n'7", "n'5"])
    assert index.held().documents == 112


def test_empty_documents_are_left_out_and_told(index):
    with pytest.warns(
        BothwaysWarning, match="2 of 3 documents hold no text and were left out, the first at the list, row 2"
    ):
        added = index.add([{"id": "x", "text": "a text"}, {"id": "y", "text": " "}, {"id": "z", "text": None}])
    assert (added.empty, added.new) == (2, 1)


def test_prompts_stand_before_queries_and_documents():
    recipe = SentenceRecipe(stated=True, prompts={"query": "river stone ", "passage": "winter "})
    prompted, plain = tiny.model((), recipe=recipe), tiny.model(())
    index = Index.make(None, prompted, **HOW)
    index.add(["the old bridge"])
    ((_, vectors),) = index.store.vectors()
    wanted = plain.embed("winter the old bridge", normalize=True)
    np.testing.assert_allclose(vectors[0], wanted, atol=1e-5)
    (hit,) = index.search("the garden", by="meaning")
    assert hit.score == pytest.approx(float(wanted @ plain.embed("river stone the garden", normalize=True)), abs=1e-5)


# -- what is found


def test_a_text_finds_itself_by_meaning_by_words_and_by_both(index):
    for row in rows()[7:10]:
        for by in ("meaning", "words", "hybrid"):
            assert index.search(row["text"], by=by, top=1)[0].document == row["id"], by
    several = index.search([row["text"] for row in rows()[7:10]], top=4)
    assert [hits[0].document for hits in several] == [row["id"] for row in rows()[7:10]]
    assert all(len({hit.document for hit in hits}) == 4 for hits in several)


def test_hybrid_adds_up_the_places_of_both_sides(index):
    query = rows()[11]["text"]
    places = {
        by: {hit.document: n for n, hit in enumerate(index.search(query, by=by, top=100), 1)}
        for by in ("meaning", "words")
    }
    for hit in index.search(query, top=20):
        told = (hit.meaning, hit.words)
        assert told == tuple(places[by].get(hit.document) for by in ("meaning", "words"))
        assert hit.score == pytest.approx(sum(1 / (60 + place) for place in told if place))


def test_a_filter_holds_for_every_way(index):
    for by in ("meaning", "words", "hybrid"):
        hits = index.search("the river in winter", by=by, where="year >= 2000 and topic = new", top=50)
        assert hits
        assert all(float(hit.metadata["year"]) >= 2000 and hit.metadata["topic"] == "new" for hit in hits)


def test_a_reranker_orders_what_was_found(index, monkeypatch):
    class Judge:
        def rerank(self, query, texts, top=None):
            from collections import namedtuple

            ranked = namedtuple("Ranked", "place score text")
            order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
            return [ranked(place, -float(len(texts[place])), texts[place]) for place in order[:top]]

    hits = index.search("the river in winter", reranker=Judge(), top=5, depth=30)
    lengths = [len(hit.text) for hit in index.search("the river in winter", top=30, depth=30)]
    assert [len(hit.text) for hit in hits] == sorted(lengths)[:5]

    first = [hit.document for hit in index.search("the river in winter", top=30, depth=30)]
    second = [hit.document for hit in index.search("the river in winter", reranker=Judge(), top=30, depth=30)]
    both = index.search("the river in winter", reranker=Judge(), reranker_share=0.25, top=5, depth=30)
    wanted = {name: 0.75 / (61 + first.index(name)) + 0.25 / (61 + second.index(name)) for name in first}
    assert [hit.score for hit in both] == pytest.approx(sorted(wanted.values(), reverse=True)[:5])
    for share in (0, 1.5):
        with pytest.raises(BothwaysError, match="reranker_share should be above 0"):
            index.search("the river", reranker=Judge(), reranker_share=share)


# -- what is refused


def test_an_index_asks_only_the_model_that_made_it(index, model, tmp_path):
    other = tiny.model((), seed=3)
    for name, said in (("other", "another one, whose vectors do not compare"), (model.name, "when that was another")):
        other.name = name
        for wrong in (
            lambda: Index.make(index.place, other, **HOW),
            lambda: Index.open(index.place, other).search("river"),
        ):
            with pytest.raises(BothwaysError, match=said):
                wrong()
    with pytest.raises(BothwaysError, match="was made with vectors 'float32', not 'int8'"):
        Index.make(index.place, model, vectors="int8", **HOW)
    with pytest.raises(BothwaysError, match=r"which cannot be opened.*name it with --model"):
        Index.open(index.place).search("river")
    assert Index.open(index.place).search("river", by="words")
    assert Index.open(index.place, model).search("river")


def test_an_index_that_was_made_anew_by_another_model_is_noticed(index):
    Index.make(index.place, tiny.model((), seed=3), overwrite=True, **HOW).add(rows())
    with pytest.raises(BothwaysError, match="was made anew with another model"):
        index.search("river")


def test_an_index_that_another_model_made_anew_takes_nothing_from_the_first(index):
    anew = Index.make(index.place, tiny.model((), seed=3), overwrite=True, **HOW)
    anew.add(rows()[:50])
    with pytest.raises(BothwaysError, match="was made anew with another model"):
        index.add([{"id": "late", "text": "the river"}])
    assert anew.held().documents == 50


def test_an_index_that_is_damaged_can_be_made_anew(index, model):
    for each in Path(index.place).glob("about.lance/data/*"):
        each.write_bytes(b"")
    with pytest.raises(BothwaysError, match="cannot be used"):
        Index.make(index.place, model, **HOW)
    made, _ = Index.build(index.place, model, rows()[:5], overwrite=True, **HOW)
    assert made.held().documents == 5


def test_an_index_that_is_being_written_is_not_thrown_away(index, model):
    anew = {"overwrite": True, "dims": 8, **HOW}
    with index.store.writing(), pytest.raises(BothwaysError, match="another run is writing the index"):
        Index.build(index.place, model, rows()[:5], **anew)
    assert index.held().documents == 120
    made, _ = Index.build(index.place, model, rows()[:5], **anew)
    assert (made.held().documents, made.settings.dims) == (5, 8)


def test_what_makes_no_sense_is_one_sentence(index, model, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for told, wrong in {
        "a query should be a text": lambda: index.search("  "),
        "did you mean 'meaning'": lambda: index.search("x", by="meening"),
        "at least 1": lambda: index.search("x", top=0),
        "no document says 'yeer'": lambda: index.search("x", where="yeer = 3"),
        "stands twice": lambda: index.add([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]),
        "there is no id": lambda: index.add([{"id": None, "text": "x"}]),
        "holds no text": lambda: index.add([{"id": "q", "text": ""}]),
        "there is no index": lambda: Index.open(tmp_path / "none"),
        "is a file": lambda: Index.open(tmp_path / "file"),
        "is not an index": lambda: Index.make(tmp_path / "full", model),
        "cannot be stemmed": lambda: Index.make(tmp_path / "new", model, language="klingon"),
        "too short for a sentence": lambda: Index.make(tmp_path / "new", model, passage_tokens=4),
        "passages of 0 tokens hold no text": lambda: Index.make(tmp_path / "new", model, passage_tokens=0),
        "did you mean 'int8'": lambda: Index.make(tmp_path / "new", model, vectors="int4"),
        "name documents": lambda: index.delete(),
    }.items():
        with pytest.raises(BothwaysError, match=told):
            wrong()
    assert index.held().documents == 120


def test_a_query_that_is_too_long_is_told():
    index = Index.make(None, tiny.model((), max_length=24), **HOW)
    index.add(["the old bridge"])
    with pytest.warns(BothwaysWarning, match="1 of 1 queries are longer than the 24 tokens that the model reads"):
        assert index.search("the old bridge " * 30)


# -- what a kill leaves


def test_a_build_that_is_killed_three_times_loses_nothing_and_duplicates_nothing(folder, tmp_path):
    source, place = tmp_path / "rows.jsonl", tmp_path / "killed"
    table = [{"id": f"d{n}", "text": text} for n, text in enumerate(tiny.sentences(200, seed=2, longest=40))]
    source.write_text("".join(json.dumps(row) + "\n" for row in table))
    script = Path(__file__).parent / "killed_index.py"
    done = subprocess.run(
        [sys.executable, script, folder, source, place, "0"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    assert sorted(set(kills)) == kills
    whole = Index.make(None, str(folder), passage_tokens=16, overlap=4, engine="reference")
    whole.add(str(source))
    found, wanted = held(Index.open(place)), held(whole)
    assert found.keys() == wanted.keys()
    for key, (text, metadata, digest, vector) in wanted.items():
        assert found[key][:3] == (text, metadata, digest)
        np.testing.assert_allclose(found[key][3], vector, atol=1e-4)


# -- on the same vectors


def told_apart():
    """Texts of two kinds, so that any model's vectors fall into two."""
    draw = np.random.default_rng(3)
    kinds = (["river", "stone", "bridge", "town"], ["teacher", "book", "letter", "child"])
    return [{"id": f"{n % 2}-{n}", "text": " ".join(draw.choice(kinds[n % 2], 12))} for n in range(60)]


def test_topics_are_told_by_the_words_that_set_them_apart(model):
    index = Index.make(None, model, **HOW)
    index.add(told_apart())
    found = cluster(index, topics=2)
    groups = [
        {name[0] for name, topic in zip(found.documents, found.numbers, strict=True) if topic == n} for n in (0, 1)
    ]
    assert sorted(map(sorted, groups)) == [["0"], ["1"]]
    for topic in found.topics:
        kind = (
            {"river", "stone", "bridge", "town"}
            if topic.examples[0][0] == "0"
            else {"teacher", "book", "letter", "child"}
        )
        assert set(topic.keywords) == kind
    assert (cluster(index, topics=2).numbers == found.numbers).all()


def test_equal_and_nearly_equal_texts_are_found_and_one_of_them_stays(model, tmp_path):
    index = Index.make(tmp_path / "index", model, **HOW)
    table = [row for row in rows(40) if len(row["text"].split()) > 8]
    same = [{**row, "id": f"z{row['id']}", "text": row["text"].upper()} for row in table[:5]]
    near = [{"id": "zz", "text": table[6]["text"] + " ."}]
    index.add([*table, *same, *near])
    found = dedupe(index, similarity=0.999)
    assert {twin.document: twin.kept for twin in found.twins}.items() >= {(row["id"], row["id"][1:]) for row in same}
    assert found.equal == 5
    loose = dedupe(index, similarity=0.9, delete=True)
    assert {"zz"} <= {twin.document for twin in loose.twins}
    assert index.held().documents == loose.documents - len(loose.twins)
    assert dedupe(index, similarity=0.9).twins == []


def test_texts_that_differ_beyond_their_first_passage_are_not_equal(model):
    index = Index.make(None, model, **HOW)
    long = " ".join(tiny.sentences(40, longest=12, seed=5))
    index.add(
        [{"id": n, "text": text} for n, text in (("a", f"{long} old"), ("b", f"{long} Old "), ("c", f"{long} river"))]
    )
    assert index.held().passages > 3
    found = dedupe(index, similarity=0.9)
    assert (len(found.twins), found.equal) == (2, 1)


def test_a_map_is_one_page_that_holds_every_text_and_no_script_of_theirs(model, tmp_path):
    index = Index.make(None, model)
    evil = "</script><script>alert(1)</script> \u2028 river"
    index.add([*told_apart(), {"id": "evil", "text": evil}])
    (tmp_path / "there.html").write_text("mine")
    for out, told in (("map.txt", "end in .html"), ("nodir/map.html", "there is no folder"), ("there.html", "exists")):
        with pytest.raises(BothwaysError, match=told):
            draw_map(None, tmp_path / out)  # nothing of it is looked at
    drawn = draw_map(index, tmp_path / "map.html", topics=2)
    page = (tmp_path / "map.html").read_text()
    assert drawn.documents == 61
    assert drawn.kept > 0.5
    assert page.count("<script") == 2
    assert "http" not in page.split("</style>")[1]
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert set(data["documents"]) == {row["id"] for row in told_apart()} | {"evil"}
    assert " ".join(evil.split()) in data["texts"]
    assert max(max(map(abs, point)) for point in data["points"]) == pytest.approx(1, abs=1e-3)


# -- as it is typed


def said(capsys, *arguments):
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_whole_of_it_as_it_is_typed(folder, tmp_path, capsys):
    source, place = tmp_path / "rows.jsonl", tmp_path / "index"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    status, out, err = said(capsys, "index", "build", place, "--model", folder, "--source", source)
    assert status == 0, err
    assert "120 documents read: 120 new" in out
    assert said(capsys, "index", "add", place, "--source", source)[1].startswith("120 documents read: 120 unchanged")
    query = rows()[8]["text"]
    status, out, _ = said(capsys, "search", place, query, "--top", 3, "--json")
    assert json.loads(out)[0]["document"] == "n'8"
    assert "n'8" in said(capsys, "search", place, query, "--where", "year = 1998")[1]
    assert said(capsys, "search", place, "x", "--where", "year")[0] == 2
    assert json.loads(said(capsys, "index", "info", place, "--json")[1])["documents"] == 120
    assert said(capsys, "index", "delete", place, "n'8")[1] == "1 document deleted\n"
    assert said(capsys, "cluster", place, "--topics", 3, "--out", tmp_path / "topics.csv", "--quiet")[0] == 0
    assert (tmp_path / "topics.csv").read_text().count("\n") == 120
    assert said(capsys, "dedupe", place, "--quiet")[0] == 0
    assert said(capsys, "map", place, tmp_path / "map.html", "--color", "topic", "--quiet")[0] == 0
    assert said(capsys, "index", "build", tmp_path / "x", "--model", folder)[2].count("\n") == 1


@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        ("id,body\na,the river\n", ["--text", "txet"], "has no column 'txet'"),
        ("", [], "is empty"),
        ("id,text\n", [], "holds no rows"),
        ("id,text\na,\nb, \n", [], "holds no text to index"),
    ],
)
def test_what_cannot_be_read_makes_no_index_and_throws_none_away(folder, tmp_path, capsys, content, options, told):
    source, wrong, place = tmp_path / "rows.jsonl", tmp_path / "wrong.csv", tmp_path / "index"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    wrong.write_text(content)
    build = ["index", "build", place, "--model", folder]
    status, _, err = said(capsys, *build, "--source", wrong, *options)
    assert (status, told in err) == (2, True)
    assert not place.exists()
    assert said(capsys, *build, "--source", source)[0] == 0
    status, _, err = said(capsys, *build, "--source", wrong, *options, "--overwrite", "--dims", 8)
    assert (status, told in err) == (2, True)
    assert json.loads(said(capsys, "index", "info", place, "--json")[1])["documents"] == 120


def test_the_first_document_of_an_iterator_is_not_lost(model):
    index, added = Index.build(None, model, iter(rows()), **HOW)
    assert (added.new, index.held().documents) == (120, 120)


def test_a_list_that_cannot_be_written_deletes_nothing(index, tmp_path, capsys):
    index.add([{"id": f"{row['id']}-again", "text": row["text"]} for row in rows()[:5]])
    twins = tmp_path / "twins"
    for command in (["dedupe", index.place, "--similarity", 0.999, "--delete"], ["cluster", index.place]):
        for out in (twins, "-"):
            status, _, err = said(capsys, *command, "--out", out)
            assert status == 2
            assert f"{out} should be a file that ends in one of .csv, .jsonl, .parquet, .tsv" in err
    assert index.held().documents == 125
    assert not twins.exists()


def test_the_list_is_written_before_anything_is_deleted(index, tmp_path, capsys, monkeypatch):
    index.add([{"id": f"{row['id']}-again", "text": row["text"]} for row in rows()[:5]])
    typed = ["dedupe", index.place, "--similarity", 0.999, "--delete", "--quiet", "--out", tmp_path / "twins.csv"]

    def full(*_, **__):
        raise BothwaysError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("bothways.use.search.whole.write_rows", full)
        assert said(capsys, *typed)[0] == 2
    assert index.held().documents == 125
    assert said(capsys, *typed)[1].splitlines()[0].endswith("documents were deleted, 5 with an equal text")
    listed = (tmp_path / "twins.csv").read_text().splitlines()[1:]
    assert index.held().documents == 125 - len(listed)


# -- the documentation of this Python


def test_functions_are_read_with_their_names_and_docstrings(tmp_path):
    package = tmp_path / "lib"
    package.mkdir()
    (package / "tool.py").write_text(
        '"""A tool."""\nraise SystemExit\ndef go(far, *, fast=True):\n    """Goes."""\ndef _hidden():\n    """No."""\n'
        'class Car:\n    """A car."""\n    def go(self):\n        """Drives."""\n    def stop(self): pass\n'
    )
    found = {each.name: each for each in python_members([package])}
    assert set(found) == {"tool", "tool.go", "tool.Car", "tool.Car.go"}
    assert (found["tool.go"].signature, found["tool.go"].docstring, found["tool.go"].kind) == (
        "(far, *, fast=True)",
        "Goes.",
        "function",
    )
