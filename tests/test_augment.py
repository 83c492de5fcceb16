"""Pairs of an own corpus are found by words, vectors or chance, scored once by a cross-encoder, and learned from."""

import json

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run import stream
from bothways.use.augment import augment


@pytest.fixture(scope="module")
def judge():
    scorer = tiny.saved(["classify"], max_length=32)
    scorer.head_configs["classify"] = tiny.head("bert", "classify").derive(labels=("no", "yes"))
    from bothways.model.build import build_head

    scorer.heads["classify"] = tiny.randomise(build_head(scorer.head_configs["classify"], scorer.encoder.config), 3)
    scorer.task, scorer.truncation = "pairs", "head"
    return bw.Model(scorer, device="cpu", name="judge")


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("by", ["words", "vectors", "both", "chance"])
def test_every_pair_is_scored_once_as_the_model_scores_it(judge, tmp_path, by):
    texts = [*dict.fromkeys(tiny.sentences(30, longest=12))]
    out = tmp_path / "scored.jsonl"
    vectors = tiny.model(["mlm"], max_length=32) if by in ("vectors", "both") else None
    augment(judge, [*texts, texts[0].upper(), texts[1]], out, by=by, vectors=vectors, top=2)
    found = lines_of(out)
    pairs = [frozenset((row["text"], row["text_pair"])) for row in found]
    assert len(pairs) == len(set(pairs))
    assert all(len(pair) == 2 and pair <= set(texts) for pair in pairs)
    wanted = judge.score_pairs([row["text"] for row in found], [row["text_pair"] for row in found])
    assert [row["score"] for row in found] == pytest.approx(wanted, abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scored.jsonl"]
    if by != "words":
        assert {text for pair in pairs for text in pair} == set(texts)


def test_texts_that_share_words_are_found(judge, tmp_path):
    texts = ["old stone bridge", "zebra quux", "stone bridge in winter", "music lesson", "music book"]
    augment(judge, texts, tmp_path / "scored.csv", top=1, language="none")
    found = {tuple(line.split(",")[:2]) for line in (tmp_path / "scored.csv").read_text().splitlines()[1:]}
    assert found == {("old stone bridge", "stone bridge in winter"), ("music lesson", "music book")}


def test_an_interrupted_job_goes_on_and_gives_the_same(judge, tmp_path, monkeypatch):
    texts = [*dict.fromkeys(tiny.sentences(40, longest=8))]
    monkeypatch.setattr(stream, "WINDOW", 20)
    augment(judge, texts, tmp_path / "whole.jsonl", top=3)
    asked, real = [], type(judge).score_pairs

    def stops(model, a, b):
        asked.append(len(a))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(model, a, b)

    monkeypatch.setattr(type(judge), "score_pairs", stops)
    with pytest.raises(KeyboardInterrupt):
        augment(judge, texts, tmp_path / "again.jsonl", top=3)
    monkeypatch.setattr(type(judge), "score_pairs", real)
    assert not (tmp_path / "again.jsonl").exists()
    augment(judge, texts, tmp_path / "again.jsonl", top=3)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_finetune_embed_learns_from_it(judge, tmp_path):
    augment(judge, tiny.sentences(40, longest=8), tmp_path / "scored.jsonl", top=2)
    base = tiny.model(["mlm"], max_length=32)
    found = bw.finetune(
        "embed", base=base, train=tmp_path / "scored.jsonl", loss="cosine", steps=2, max_length=32, report=False
    )
    assert np.isfinite(found.scores["spearman"])


def test_mistakes_are_told(judge, tmp_path):
    out = tmp_path / "scored.jsonl"
    with pytest.raises(BothwaysError, match="pairs by both need a model of sentence vectors"):
        augment(judge, ["a", "b"], out, by="both")
    with pytest.raises(BothwaysError, match="2 different texts, too few"):
        augment(judge, ["a", "b", "A"], out)
    with pytest.raises(BothwaysError, match="was not fine-tuned"):
        augment(tiny.model(["mlm"]), ["a", "b"], out)
    with pytest.raises(BothwaysError, match="'English' cannot be stemmed"):
        augment(judge, ["a b", "a c", "a d", "a e"], out, language="English")
    alone = ["one two", "three four", "five six", "seven eight"]
    with pytest.raises(BothwaysError, match="no pair is found by words among 4 texts"):
        augment(judge, alone, out, by="words", top=1)
    assert not list(tmp_path.iterdir())


def test_what_is_read_is_not_overwritten(judge, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text\n" + "".join(f"the mill {n}\n" for n in range(9)))
    with pytest.raises(BothwaysError, match="is to be read, and overwriting"):
        augment(judge, texts, texts, overwrite=True)
