"""``bothways mine``: near, not known to belong, and far enough from what does."""

import json

import numpy as np
import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.learn.vectors.data import read_vectors
from bothways.use import mine as mining
from bothways.use.mine import mine

TEXTS = list(dict.fromkeys(text for text in tiny.sentences(200, 1, 8) if len(text.split()) > 3))
PAIRS = [{"query": TEXTS[n], "text": TEXTS[20 + n]} for n in range(20)]
CORPUS = TEXTS[20:80]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_negatives_are_the_nearest_texts_of_the_corpus_that_do_not_belong(tmp_path):
    model = tiny.model(heads=())
    twice = [*PAIRS, {"query": PAIRS[0]["query"], "text": TEXTS[50]}]
    mine(model, twice, tmp_path / "out.jsonl", corpus=CORPUS, top=3, margin=-2.0)
    found = rows(tmp_path / "out.jsonl")
    likeness = model.similarity(model.embed([row["anchor"] for row in found]), model.embed(CORPUS))
    known = {TEXTS[20], TEXTS[50]}
    assert len(found) == 21
    for row, scores in zip(found, likeness, strict=True):
        own = known if row["anchor"] == PAIRS[0]["query"] else {row["positive"]}
        order = [CORPUS[place] for place in np.argsort(-scores) if CORPUS[place] not in own]
        assert row["negatives"] == order[:3]
    assert list(tmp_path.iterdir()) == [tmp_path / "out.jsonl"]


def test_negatives_stay_below_what_belongs_by_the_margin_and_pairs_without_any_are_left_out(tmp_path):
    model = tiny.model(heads=())
    mine(model, PAIRS, tmp_path / "out.jsonl", corpus=CORPUS, top=5, relative=0.99, margin=0.001)
    found = rows(tmp_path / "out.jsonl")
    assert 0 < len(found) < 20
    for row in found:
        asked, right, *others = model.embed([row["anchor"], row["positive"], *row["negatives"]])
        near = model.similarity(asked[None], np.stack([right, *others]))[0]
        assert (near[1:] <= 0.99 * near[0] + 1e-5).all()
        assert (near[1:] <= near[0] - 0.001 + 1e-5).all()


def test_where_no_pair_has_a_negative_that_is_told_and_nothing_is_left(tmp_path):
    with pytest.raises(BothwaysError, match="for none of 20 pairs there is a negative that is far enough"):
        mine(tiny.model(heads=()), PAIRS, tmp_path / "out.jsonl", corpus=CORPUS, margin=5.0)
    with pytest.raises(BothwaysError, match="score_pairs needs the head 'classify'"):
        mine(tiny.model(heads=()), PAIRS, tmp_path / "out.jsonl", corpus=CORPUS, reranker=tiny.model(heads=()))
    assert not list(tmp_path.iterdir())


def test_a_cross_encoder_judges_in_place_of_the_vectors(tmp_path):
    class Judge:
        def score_pairs(self, firsts, seconds):
            return np.array([float(len(text)) for text in seconds])

    class Known(Judge):
        """Named by the job without weights of its own."""

    monkey = pytest.MonkeyPatch()
    monkey.setattr(mining, "identity_of", lambda model: "judge" if isinstance(model, Judge) else "model")
    mine(tiny.model(heads=()), PAIRS, tmp_path / "out.jsonl", corpus=CORPUS, reranker=Known(), top=4, among=60)
    monkey.undo()
    for row in rows(tmp_path / "out.jsonl"):
        lengths = [len(text) for text in row["negatives"]]
        assert lengths == sorted(lengths, reverse=True)
        assert max(lengths) <= len(row["positive"])


def test_chance_follows_from_the_seed_and_skip_passes_the_nearest_over(tmp_path):
    model = tiny.model(heads=())
    found = []
    for name, settings in (("a", {"seed": 1}), ("b", {"seed": 1}), ("c", {"seed": 2})):
        out = tmp_path / f"{name}.jsonl"
        mine(model, PAIRS, out, corpus=CORPUS, top=2, margin=-2.0, among=20, draw="chance", **settings)
        found.append(rows(out))
    assert found[0] == found[1] != found[2]
    mine(model, PAIRS, tmp_path / "d.jsonl", corpus=CORPUS, top=4, margin=-2.0)
    mine(model, PAIRS, tmp_path / "e.jsonl", corpus=CORPUS, top=2, skip=2, margin=-2.0)
    for all_four, last_two in zip(rows(tmp_path / "d.jsonl"), rows(tmp_path / "e.jsonl"), strict=True):
        assert all_four["negatives"][2:] == last_two["negatives"]


def test_an_interrupted_search_goes_on_with_the_vectors_that_are_made(tmp_path, monkeypatch):
    model = tiny.model(heads=())
    mine(model, PAIRS, tmp_path / "whole.jsonl", corpus=CORPUS, margin=-2.0)
    answer = mining._Miner.answer
    monkeypatch.setattr(mining._Miner, "answer", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        mine(model, PAIRS, tmp_path / "cut.jsonl", corpus=CORPUS, margin=-2.0)
    monkeypatch.setattr(mining._Miner, "answer", answer)
    monkeypatch.setattr(mining.bulk, "embed", None)  # is not asked again
    mine(model, PAIRS, tmp_path / "cut.jsonl", corpus=CORPUS, margin=-2.0)
    assert rows(tmp_path / "cut.jsonl") == rows(tmp_path / "whole.jsonl")


def test_what_is_mined_is_what_training_reads(tmp_path):
    mine(tiny.model(heads=()), PAIRS, tmp_path / "out.parquet", top=2, margin=-2.0)
    data = read_vectors(tmp_path / "out.parquet")
    assert data.form == "triplets"
    assert np.diff(data.starts).tolist() == [4] * 20


@pytest.mark.parametrize(
    ("source", "settings", "told"),
    [
        ([{"text_a": "a", "text_b": "b", "score": 0.5}], {}, "holds pairs of texts with a score each"),
        (PAIRS, {"top": 0}, "top must be 1 or more"),
        (PAIRS, {"top": 9, "among": 3}, "cannot be found among 3"),
        (PAIRS, {"relative": 1.5}, "relative must be a share"),
        (PAIRS[:1], {}, "fewer than two different texts"),
    ],
)
def test_mistakes_are_one_sentence(source, settings, told, tmp_path):
    with pytest.raises(BothwaysError, match=told):
        mine(tiny.model(heads=()), source, tmp_path / "out.jsonl", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", ["pairs", "corpus"])
def test_what_is_read_is_not_overwritten(read, tmp_path):
    given = {name: tmp_path / f"{name}.jsonl" for name in ("pairs", "corpus")}
    for name, path in given.items():
        texts = PAIRS if name == "pairs" else [{"text": text} for text in tiny.sentences(20)]
        path.write_text("".join(json.dumps(one) + "\n" for one in texts))
    before = given[read].read_bytes()
    with pytest.raises(BothwaysError, match="is to be read, and overwriting"):
        mine(tiny.model(heads=()), given["pairs"], given[read], corpus=given["corpus"], overwrite=True)
    assert given[read].read_bytes() == before
