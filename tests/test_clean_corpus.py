"""Cleaning a corpus: what is left out and why, the same bytes whoever works, whatever kills it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from multiprocessing.connection import wait
from pathlib import Path

import pytest

import messy
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run.files import alone
from bothways.text.cleaning import copies, sift
from bothways.text.cleaning.grams import words_of
from bothways.text.cleaning.tidy import tidy
from bothways.text.documents import read_documents
from bothways.text.shards import Corpus
from bothways.use import clean, processes
from bothways.use.clean import clean_corpus
from bothways.use.corpus import prepare_corpus

for needed in ("rensa", "py3langid"):
    pytest.importorskip(needed)


def removed(done):
    return {row["name"]: row["documents"] for row in done.card["removed"] if row["documents"]}


def texts(done):
    return ["\n".join(document.paragraphs) for document in read_documents(done.text)]


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# -- what is done


def test_every_document_is_kept_or_counted_under_the_rule_that_left_it_out(tmp_path):
    good = messy.documents(6)
    source = [
        *good,
        "too short",
        "river ### bridge ### stone ### garden ### house ###",
        good[1],
        messy.perturbed(good[2], 1),
    ]
    done = clean_corpus(source, tmp_path / "out")
    assert texts(done) == good
    assert removed(done) == {"short": 1, "symbols": 1, "exact duplicate": 1, "near duplicate": 1}
    assert done.card["read"] == done.card["documents"] + sum(removed(done).values())
    sample = next(row for row in done.card["removed"] if row["name"] == "near duplicate")["samples"][0]
    assert good[2][:50] in sample["why"]


def test_a_rule_that_is_skipped_finds_nothing_and_the_closest_name_is_told_for_a_wrong_one(tmp_path):
    done = clean_corpus([*messy.documents(3), "too short"], tmp_path / "out", skip=["short"])
    assert "too short" in texts(done)
    with pytest.raises(BothwaysError, match="no rule 'shrt'; did you mean 'short'"):
        clean_corpus(messy.documents(3), tmp_path / "other", skip=["shrt"])


def test_lines_that_many_documents_share_are_taken_out_of_all_of_them(tmp_path):
    good = messy.documents(8)
    done = clean_corpus([f"{messy.MENU}\n{text}" for text in good], tmp_path / "out", shared_by=8)
    assert texts(done) == good
    assert done.card["lines"] == 8
    done = clean_corpus([f"{messy.MENU}\n{text}" for text in good], tmp_path / "kept", shared_by=9)
    assert texts(done)[0].startswith(messy.MENU)


def test_only_the_languages_asked_for_are_kept(tmp_path):
    german = (
        "Der Fluss trat im Frühling über die Ufer, und die alte Brücke stand noch viele Jahre in der kleinen Stadt."
    )
    done = clean_corpus([*messy.documents(3), german], tmp_path / "out", languages=["de"])
    assert texts(done) == [german]
    assert removed(done) == {"language": 3}
    with pytest.raises(BothwaysError, match="'xx' is no language"):
        clean_corpus([german], tmp_path / "other", languages=["xx"])


def test_documents_that_hold_an_evaluation_example_are_found_however_it_is_tokenized(tmp_path):
    good = messy.documents(4)
    first, second = good[1].split("\n")[2:4]
    words = f"{first} {second}".upper().replace(".", " .").split()
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"tokens": words, "tags": ["O"] * len(words)}) + '\n{"tokens": ["Brief", "one"]}\n')
    told = clean_corpus(good, tmp_path / "told", evaluation=[test])
    assert told.card["overlaps"][0] | {"samples": []} == {
        "name": "test.jsonl", "examples": 2, "short": 1, "found": 1, "samples": []
    }  # fmt: skip
    assert texts(told) == good
    left = clean_corpus(good, tmp_path / "left", evaluation=[test], decontaminate=True)
    assert texts(left) == [good[0], *good[2:]]
    assert removed(left) == {"evaluation": 1}


TAGGED = {
    "conllu": ("{n}\t{word}\tlemma\tNOUN\tX\t_\t0\troot\t_\t_", "# sent_id = {row}\n# text = a b c d e f g\n"),
    "conll": ("{word} X B-NP O", "# id {row}\n"),
    "testb": ("{word} O", ""),
}


@pytest.mark.parametrize("kind", TAGGED)
def test_examples_are_found_in_files_of_columns(tmp_path, kind):
    good = messy.documents(4)
    line, comment = TAGGED[kind]
    path = tmp_path / f"test.{kind}"
    blocks = []
    for row, text in enumerate([good[2].split("\n")[1], "Nothing of this stands in any of them"]):
        lines = [line.format(n=n, word=word) for n, word in enumerate(text.split(), start=1)]
        if kind == "conllu":
            lines.insert(1, "2-3\tdel" + 8 * "\t_")
        blocks.append(comment.format(row=row) + "\n".join(lines) + "\n")
    path.write_text("\n".join(blocks))
    done = clean_corpus(good, tmp_path / "out", evaluation=[path], overlap=10, decontaminate=True)
    assert removed(done) == {"evaluation": 1}
    assert (done.card["overlaps"][0]["examples"], done.card["overlaps"][0]["found"]) == (2, 1)


def test_every_evaluation_file_must_have_an_example_to_look_for(tmp_path):
    good = messy.documents(3)
    first, second = messy.write(tmp_path / "first.jsonl", good[:1]), tmp_path / "second.txt"
    second.write_text("two words\n\nand three more\n")
    with pytest.raises(BothwaysError, match=r"second.txt has no example of at least 6 words to look for; leave it out"):
        clean_corpus(good, tmp_path / "out", evaluation=[first, second])


def test_words_are_the_same_whatever_stands_beside_them_and_however_accents_are_written():
    assert words_of("在2008年北京，上iPhone网") == ["在", "2008", "年", "北", "京", "上", "iphone", "网"]
    assert words_of("हिन्दी में यह एक वाक्य है।") == ["हिन्दी", "में", "यह", "एक", "वाक्य", "है"]
    french = "L’été déjà, naïve."
    assert words_of(unicodedata.normalize("NFD", french)) == words_of(french) == ["l", "été", "déjà", "naïve"]
    assert words_of("ไทยsnake_case don't 3.5") == ["ไ", "ท", "ย", "snake", "case", "don", "t", "3", "5"]


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("Put a <form> around it. <b>Then</b> send it.", "Put a <form> around it. Then send it."),
        ("The <script> element comes first, <i>not</i> last.", "The <script> element comes first, not last."),
        ('<form action="/a" method="post">It has <b>no end</b>.', "It has no end."),
        ("<html><head><title>A</title><script>let a = 1;</script><body>B</body></html>", "A|B"),
        ("<head><title>A</title><script>let a = '<p>'</script></head>B", "B"),
        ("<FORM><p>A</FORM>B<nav>C</nav> and <nav> as a name", "B and <nav> as a name"),
        ("Where a <b it &amp; all behind it stays", "Where a <b it & all behind it stays"),
        ("<b>One</b> <!-- never closed > <i>two</i>", "One <!-- never closed > two"),
        ("<p>" + "a <b " * 50_000, "a <b " * 50_000),
        ("The <template> holds <style>p {a: b}</style>what is copied", "The <template> holds what is copied"),
    ],
)
def test_only_elements_that_are_closed_hide_what_stands_in_them(page, shown):
    assert tidy([page])[0] == [line.strip() for line in shown.split("|")]


def test_weights_are_shares_of_the_text_and_nothing_is_taken_twice(tmp_path):
    many = messy.write(tmp_path / "many.jsonl", messy.documents(300, seed=1))
    few = messy.write(tmp_path / "few.jsonl", messy.documents(50, seed=2))
    done = clean_corpus([many, few], tmp_path / "out", weights=[2, 1])
    shares = [row["share"] for row in done.card["sources"]]
    assert shares[1] == pytest.approx(1 / 3, abs=0.05)
    assert len(set(texts(done))) == len(texts(done))
    assert sum("few" in document["name"] for document in done.card["samples"]) < 8
    with pytest.raises(BothwaysError, match="3 weights for 2 sources"):
        clean_corpus([many, few], tmp_path / "other", weights=[1, 1, 1])


def test_a_source_of_which_nothing_is_left_does_not_take_the_others_with_it(tmp_path):
    many = messy.write(tmp_path / "many.jsonl", messy.documents(60, seed=1))
    few = messy.write(tmp_path / "few.jsonl", messy.documents(30, seed=2))
    copies = messy.write(tmp_path / "copies.jsonl", messy.documents(5, seed=1))
    with pytest.warns(BothwaysWarning, match="of source 3 nothing is left"):
        done = clean_corpus([many, few, copies], tmp_path / "out", weights=[1, 1, 1])
    shares = [row["share"] for row in done.card["sources"]]
    assert shares == [pytest.approx(0.5, abs=0.15), pytest.approx(0.5, abs=0.15), 0]
    assert removed(done)["exact duplicate"] == 5


def test_copies_are_found_alike_however_small_a_part_is_sorted_at_a_time(tmp_path, monkeypatch):
    good = messy.documents(60, seed=3)
    source = [*good, *(messy.perturbed(text, place) for place, text in enumerate(good)), *good[:20]]
    whole = clean_corpus(source, tmp_path / "whole")
    monkeypatch.setattr(copies, "AT_ONCE", 16)
    assert content(clean_corpus(source, tmp_path / "parts").text) == content(whole.text)
    assert removed(whole)["exact duplicate"] == 20
    assert removed(whole)["near duplicate"] >= 57


# -- the same bytes


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    good = messy.documents(200, seed=4)
    return messy.write(
        tmp_path_factory.mktemp("source") / "dump.jsonl", [*good, *good[:30], *(f"<p>{one}</p>" for one in good[50:60])]
    )


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
    return content(clean_corpus(source, tmp_path_factory.mktemp("expected") / "out").out)


def test_two_processes_make_the_bytes_that_one_makes(tmp_path, source, expected, monkeypatch):
    monkeypatch.setattr(clean, "_WINDOW", 256)
    assert content(clean_corpus(source, tmp_path / "out", workers=2).out) == expected


def test_a_killed_process_is_told_and_the_same_call_goes_on(tmp_path, source, expected, monkeypatch):
    monkeypatch.setattr(clean, "_WINDOW", 64)
    with monkeypatch.context() as patched:
        submit, asked = processes.Processes.submit, []

        def submit_and_kill(pool, *columns):
            asked.append(columns)
            if len(asked) == 3:  # all of them, so that nobody is left who could answer the third window
                for process in pool._pool._processes.values():
                    process.kill()
            return submit(pool, *columns)

        patched.setattr(processes.Processes, "submit", submit_and_kill)
        with pytest.raises(BothwaysError, match="a process was killed"):
            clean_corpus(source, tmp_path / "out", workers=2)
    for left in multiprocessing.active_children():
        assert wait([left.sentinel], 60)  # `is_alive` errs while the pool's own thread takes note of its end
    assert content(clean_corpus(source, tmp_path / "out", workers=2).out) == expected


def test_a_cluster_makes_the_bytes_that_one_process_makes(tmp_path, source, expected):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        assert content(clean_corpus(source, tmp_path / "out", workers=2, on="ray").out) == expected
    finally:
        ray.shutdown()


def test_after_kills_the_work_goes_on_and_the_bytes_are_the_same(tmp_path, source):
    done = subprocess.run(
        [sys.executable, messy.__file__, source, tmp_path, "0"], check=True, capture_output=True, text=True
    )
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert 0 < first < second < 240
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_kill_while_copies_are_left_out_loses_nothing(tmp_path, source, expected, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sift._Parts, "_end", killed)
        with pytest.raises(KeyboardInterrupt):
            clean_corpus(source, tmp_path / "out")
    longer = tmp_path / "longer.jsonl"
    longer.write_text(Path(source).read_text() + '{"text": "One more document that stands at the end."}\n')
    for other in (messy.documents(3), longer):
        with pytest.raises(BothwaysError, match="begun with another source"):
            clean_corpus(other, tmp_path / "out")
    assert content(clean_corpus(source, tmp_path / "out").out) == expected


def test_where_nothing_was_left_another_source_or_rule_is_taken(tmp_path):
    with pytest.raises(BothwaysError, match="nothing is left of 2 documents"):
        clean_corpus(["!?", "..."], tmp_path / "out")
    assert clean_corpus(messy.documents(3), tmp_path / "out").card["documents"] == 3


def test_the_same_call_again_finds_the_corpus_and_another_source_or_recipe_is_refused(tmp_path, source):
    out = tmp_path / "out"
    first = clean_corpus(source, out)
    before = (out / "card.json").stat().st_mtime_ns
    assert clean_corpus(source, out).card == first.card
    assert (out / "card.json").stat().st_mtime_ns == before
    with pytest.raises(BothwaysError, match=r"cleaned otherwise \(near was 0.8, is 0.7\)"):
        clean_corpus(source, out, near=0.7)
    with pytest.raises(BothwaysError, match="another source"):
        clean_corpus(messy.documents(3), out)
    assert clean_corpus(messy.documents(3), out, overwrite=True).card["documents"] == 3


# -- to tokens


def test_a_prepared_corpus_holds_the_cleaned_text_and_its_card_adds_up(tmp_path, source):
    done = prepare_corpus(source, tiny.tokenizer(), tmp_path / "out", any_language=True)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    cleaned = json.loads((tmp_path / "out" / "cleaned" / "card.json").read_text())
    opened = Corpus.open(tmp_path / "out")
    assert opened.fingerprint == done.corpus.fingerprint == card["fingerprint"]
    assert card["documents"] == cleaned["documents"] == opened.documents == 200
    assert card["words"] == cleaned["words"]
    assert card["tokens"] == opened.tokens
    assert sum(row["documents"] for row in card["lengths"]) == opened.documents
    page = (tmp_path / "out" / "card.html").read_text()
    assert "exact duplicate" in page
    assert "tokens a word" in page
    assert "http" not in page  # nothing is loaded from anywhere
    prepare_corpus(source, tiny.tokenizer(), tmp_path / "out", any_language=True)  # is there already


def test_as_it_is_every_document_is_taken(tmp_path):
    source = messy.write(tmp_path / "texts.jsonl", ["too short", "too short", *messy.documents(3)])
    done = prepare_corpus(source, tiny.tokenizer(), tmp_path / "out", clean=False, any_language=True)
    assert done.corpus.documents == 5
    assert "read" not in done.card


# -- mistakes


def test_a_corpus_in_another_language_than_the_vocabulary_is_refused_before_any_work(tmp_path):
    texts = ["Der Fluss überschwemmte im Frühling die Wiesen hinter der Brücke der kleinen Stadt."] * 20
    source = messy.write(tmp_path / "german.jsonl", texts)
    with pytest.raises(BothwaysError, match=r"the corpus is in 'de' .* vocabulary is one of 'en'"):
        prepare_corpus(source, tiny.tokenizer(clean_corpus.__doc__ + read_documents.__doc__), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_evaluation_file_in_the_corpus_folder_is_refused(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    messy.write(folder / "a.jsonl", messy.documents(3))
    test = messy.write(folder / "test.jsonl", messy.documents(1, seed=9))
    with pytest.raises(BothwaysError, match="lies in the corpus texts, so it would be trained on"):
        clean_corpus(folder, tmp_path / "out", evaluation=[test])
    assert not (tmp_path / "out").exists()


def test_a_page_or_a_binary_file_instead_of_text_is_told(tmp_path):
    page = tmp_path / "page.txt"
    page.write_text("<!DOCTYPE html>\n<html><body><p>Words</p></body></html>")
    with pytest.raises(BothwaysError, match=r"page.txt is an HTML page; extract its text first"):
        clean_corpus(page, tmp_path / "out")
    program = tmp_path / "program.txt"
    program.write_bytes(b"\x7fELF\x00\x01 words")
    with pytest.raises(BothwaysError, match="binary"):
        clean_corpus(program, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_in_one_folder_are_refused(tmp_path, source):
    out = tmp_path / "out"
    running = messy.job(source, out, 1.0)
    try:
        while not messy.read(out):
            time.sleep(0.01)
        with pytest.raises(BothwaysError, match="another run works in"):
            clean_corpus(source, out)
    finally:
        os.kill(running, signal.SIGKILL)
        os.waitpid(running, 0)


def test_when_nothing_is_left_the_reason_is_told(tmp_path):
    with pytest.raises(BothwaysError, match="nothing is left of 3 documents, 3 were left out as 'short'"):
        clean_corpus(["one", "two", "three"], tmp_path / "out")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(BothwaysError, match="holds something that is not a cleaned corpus"):
            clean_corpus(messy.documents(3), tmp_path, overwrite=overwrite)
    assert Path(tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("made_by", [clean_corpus, lambda *typed, **more: prepared(*typed, **more)])
def test_overwriting_throws_away_a_corpus_and_nothing_else(tmp_path, made_by):
    out = tmp_path / "out"
    made_by(messy.documents(3), out)
    made_by(messy.documents(4), out, overwrite=True)
    before = content(out)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(BothwaysError, match=r"out holds more than a corpus \(thesis.txt\), which is not thrown away"):
        made_by(messy.documents(5), out, overwrite=True)
    assert content(out) == before | {"thesis.txt": b"mine"}


def prepared(source, out, **more):
    return prepare_corpus(source, tiny.tokenizer(), out, any_language=True, **more)


def test_a_folder_with_the_names_of_a_corpus_is_none(tmp_path):
    (tmp_path / "index.json").write_text("[]")
    (tmp_path / "card.json").write_text('{"suit": "hearts"}')
    (tmp_path / "cleaned").mkdir()
    (tmp_path / "cleaned" / "mine.txt").write_text("mine")
    before = content(tmp_path)
    for verb in (clean_corpus, prepared):
        with pytest.raises(BothwaysError, match="holds something that is not a cleaned"):
            verb(messy.documents(3), tmp_path, overwrite=True)
    assert content(tmp_path) == before


def test_what_is_to_be_read_is_not_overwritten(tmp_path):
    out = tmp_path / "out"
    prepared(messy.documents(3), out)
    before = content(out)
    for verb, folder in ((clean_corpus, out / "cleaned"), (prepared, out)):
        with pytest.raises(BothwaysError, match="is to be read, and overwriting"):
            verb(out / "cleaned" / "text", folder, overwrite=True)
    assert content(out) == before


@pytest.mark.parametrize("made_by", [clean_corpus, lambda *typed, **more: prepared(*typed, **more)])
@pytest.mark.parametrize("kind", ["file", "files", "rows", "pipe"])
def test_a_corpus_stays_until_the_next_one_can_be_read(tmp_path, made_by, kind):
    out, source = tmp_path / "out", tmp_path / "rows.jsonl"
    made_by(messy.documents(3), out)
    before = content(out)
    table = [{"words": text, "year": 1990} for text in messy.documents(4)]
    source.write_text("".join(json.dumps(row) + "\n" for row in table))
    note = messy.write(tmp_path / "note.jsonl", messy.documents(1, seed=9))

    def given():
        if kind == "pipe":
            pipe = tmp_path / "pipe"
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            threading.Thread(target=pipe.write_bytes, args=(source.read_bytes(),), daemon=True).start()
            return pipe
        return {"file": source, "files": [note, source], "rows": iter(table)}[kind]

    with pytest.raises(BothwaysError, match=r"'txet'|it is not clear which column"):
        made_by(given(), out, overwrite=True, **({} if kind == "files" else {"text": "txet"}))
    assert content(out) == before
    if kind != "files":
        made_by(given(), out, overwrite=True, text="words")
        assert json.loads((out / "card.json").read_text())["documents"] == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": [1.0, 2.0]}, "2 weights for 1 sources"),
        ({"languages": ["xx"]}, "'xx' is no language"),
        ({"skip": ["shrt"]}, "no rule 'shrt'; did you mean 'short'"),
        ({"near": 2.0}, "near must be a similarity"),
        ({"shared_by": 1}, "shared_by must be 0, or 2 documents or more, not 1"),
        ({"evaluation": ["no-such-file.jsonl"]}, "no file no-such-file.jsonl"),
        ({"decontaminate": True}, "decontaminate needs the evaluation files"),
        ({"workers": 0}, "workers must be 1 or more, not 0"),
        ({"on": "moon"}, "not on 'moon'"),
        ({"shard_tokens": 0}, "shard_tokens is 0; give at least 1"),
        ({"clean": False, "weights": [1.0]}, "text that is taken as it is has no weights"),
    ],
)
def test_a_corpus_stays_where_an_option_is_wrong(tmp_path, wrong, said):
    out = tmp_path / "out"
    prepared(messy.documents(3), out)
    before = content(out)
    with pytest.raises(BothwaysError, match=said):
        prepared(messy.documents(4), out, overwrite=True, **wrong)
    assert content(out) == before


def test_two_preparations_of_one_folder_are_refused(tmp_path):
    with alone(tmp_path / "out"), pytest.raises(BothwaysError, match="another run works in"):
        prepared(messy.documents(3), tmp_path / "out", clean=False)
    assert not (tmp_path / "out").exists()
