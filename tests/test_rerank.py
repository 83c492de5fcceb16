"""Cross-encoders: learned from pairs or lists of texts, saved so that others give the same scores, asked for orders."""

import json

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn.stream import split_items
from bothways.learn.tasks.ranking.examples import drawn
from bothways.learn.tasks.ranking.judge import judge_binary, judge_order
from bothways.learn.tasks.ranking.losses import LOSSES
from bothways.learn.tasks.ranking.scores import ranking_scores
from bothways.learn.tasks.rerank import RERANK_LOSSES, Rerank
from learner_tasks import assert_resumes_exactly, gradients

WORDS = tiny.KNOWN.split()
SETTINGS = {"max_length": 32, "learning_rate": 3e-3, "dropout": 0.0, "report": False, "device": "cpu"}


def rows(count, seed=0):
    """Queries with three texts each; the one that speaks of music answers."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = draw.permutation([word for word in WORDS if word != "music"])
        texts = [" ".join(words[5 + 4 * place : 8 + 4 * place]) for place in range(3)]
        made.append({"query": " ".join(words[:4]), "positive": f"{texts[0]} music", "negatives": texts[1:]})
    return made


def one_by_one(given):
    """The same as rows of a query, a text and a label, all queries mixed."""
    flat = [
        {"query": row["query"], "text": text, "label": int(text == row["positive"])}
        for row in given
        for text in (row["positive"], *row["negatives"])
    ]
    return flat[::2] + flat[1::2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("rerank") / "run"
    settings = SETTINGS | {"report": True}
    base = tiny.model(["mlm"], max_length=64)
    return bw.finetune("rerank", base=base, train=rows(120), dev=rows(40, 1), epochs=4, out=out, **settings), out


@pytest.mark.parametrize("loss", RERANK_LOSSES)
def test_every_loss_learns_which_text_answers(loss):
    base = tiny.model(["mlm"], max_length=64)
    found = bw.finetune("rerank", base=base, train=rows(120), dev=rows(30, 1), epochs=4, loss=loss, **SETTINGS)
    row = rows(1, 2)[0]
    ranked = found.model.rerank(row["query"], [*row["negatives"], row["positive"]])
    assert ranked[0].place == 2
    assert ranked[0].text == row["positive"]
    if loss not in ("binary", "regression"):
        assert found.scores["ndcg@10"] > 0.95


def test_rows_of_one_query_are_one_example_whatever_their_form(tmp_path):
    path = tmp_path / "lists.jsonl"
    lists = [
        {"query": row["query"], "texts": [row["positive"], *row["negatives"]], "labels": [1, 0, 0]} for row in rows(5)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in lists))
    forms = [Rerank().read(source) for source in (rows(5), one_by_one(rows(5)), str(path))]
    for data in forms:
        assert len(data) == 5
        assert data.counts.tolist() == [3] * 5
        own = forms[0]
        assert {q: set(data.texts[s]) for q, s in zip(data.queries, data.slices(), strict=True)} == {
            q: set(own.texts[s]) for q, s in zip(own.queries, own.slices(), strict=True)
        }
    kept, held = Rerank().split(forms[1], 0.4, seed=0)
    assert not set(kept.queries) & set(held.queries)
    assert len(kept) + len(held) == 5


def test_the_scores_are_those_of_a_cross_encoder_both_ways(trained, tmp_path):
    theirs = pytest.importorskip("sentence_transformers").CrossEncoder
    found, out = trained
    texts = tiny.sentences(12, longest=60)  # some are longer than the model reads
    queries = tiny.sentences(12, seed=1, longest=8)
    with pytest.warns(BothwaysWarning, match="were cut"):
        ours = found.model.score_pairs(queries, texts)
    assert 0 < ours.min() < ours.max() < 1
    other = theirs(str(out / "model"), device="cpu")
    assert other.predict(list(zip(queries, texts, strict=True))) == pytest.approx(ours, abs=1e-5)
    other.save(str(tmp_path / "theirs"))
    back = bw.load(tmp_path / "theirs", truncation="head")
    assert back.score_pairs(queries, texts) == pytest.approx(ours, abs=1e-5)
    assert back.max_length == 32
    back.save(tmp_path / "again")
    assert theirs(str(tmp_path / "again"), device="cpu").predict([(queries[0], texts[0])])[0] == pytest.approx(
        ours[0], abs=1e-5
    )


@pytest.mark.parametrize(
    ("said", "sigmoid"),
    [
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"}}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
        ({}, False),
    ],
)
def test_older_folders_say_how_scores_are_told(trained, tmp_path, said, sigmoid):
    found, out = trained
    config = json.loads((out / "model" / "config.json").read_text())
    config = {key: value for key, value in config.items() if key != "sentence_transformers"}
    found.model.save(tmp_path / "old")
    (tmp_path / "old" / "bothways.json").unlink()
    (tmp_path / "old" / "config.json").write_text(json.dumps(config | said))
    old = bw.load(tmp_path / "old")
    told = found.model.score_pairs("the old house", "the music")
    raw = np.log(told / (1 - told))
    assert old.score_pairs("the old house", "the music") == pytest.approx(told if sigmoid else raw, abs=1e-5)


def test_an_unknown_activation_is_refused(trained, tmp_path):
    found, _ = trained
    found.model.save(tmp_path / "odd")
    (tmp_path / "odd" / "bothways.json").unlink()
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Tanh"}
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BothwaysError, match=r"Tanh.*Sigmoid and Identity are"):
        bw.load(tmp_path / "odd")


def test_texts_are_ranked_by_the_score_of_each_pair(trained):
    _, out = trained
    again = bw.load(out)
    assert again.task == "rerank"
    query, texts = "the old house", tiny.sentences(9, longest=8)
    scores = again.score_pairs([query] * 9, texts)
    ranked = again.rerank(query, texts)
    assert [each.place for each in ranked] == np.argsort(-scores, kind="stable").tolist()
    assert [each.score for each in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert again.rerank(query, texts, top=2) == ranked[:2]
    both = again.rerank([query, "music"], [texts, texts[:3]])
    assert [each.place for each in both[0]] == [each.place for each in ranked]
    assert len(both[1]) == 3
    assert again.rerank(query, []) == []


def test_a_run_is_judged_with_intervals_and_a_baseline(trained):
    found, out = trained
    assert found.scores["average_precision"] > 0.9
    assert found.judgement["metrics"] == ["average_precision", "f1", "accuracy"]
    assert "word overlap" in [each["name"] for each in found.judgement["contenders"]]
    assert (out / "report.html").is_file()
    again = bw.evaluate(out, one_by_one(rows(40, 1)))
    assert again["average_precision"] == pytest.approx(found.scores["average_precision"])


@pytest.mark.parametrize("loss", ["softmax", "lambda"])
def test_a_query_split_over_batches_gives_the_same_gradient(loss):
    base, task = tiny.model(["mlm"], max_length=64), Rerank(loss=loss)
    data = task.read(rows(6))
    model = bw.Model.random(base.config, base.tokenizer, task.heads(base, data), seed=1, device="cpu")
    model.max_length = 32
    for part in (model.encoder, *model.heads.values()):
        part.eval()
    learned = []
    for tokens in (10**9, 60):
        copy = model.copy()
        examples, objective = task.examples(copy, data), task.objective(copy, data)
        keys = [(0, number) for number in range(len(examples))]
        items = split_items(keys, [examples.sequence(*key) for key in keys], objective.prepare, tokens)
        learned.append(gradients(copy, objective, items))
    assert len(items) > 1
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_texts_beyond_the_list_size_are_drawn_anew_in_every_epoch():
    base = tiny.model(["classify"], max_length=64)
    many = [{"query": "old house", "positives": tiny.sentences(2), "negatives": tiny.sentences(20, seed=3)}]
    task = Rerank(loss="softmax", list_size=6)
    examples = task.examples(base, task.read(many))
    epochs = [examples.sequence(epoch, 0) for epoch in range(4)]
    assert all(len(ids) == 6 and relevance.sum() == 2 for ids, _, relevance in epochs)
    assert len({tuple(map(bytes, ids)) for ids, _, _ in epochs}) > 1
    again = examples.sequence(1, 0)
    assert all(np.array_equal(one, other) for one, other in zip(again[0], epochs[1][0], strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_lists_falls_where_better_texts_are_before_and_ignores_what_is_not_there(name):
    relevance = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
    there = torch.tensor([[True, True, True, False]])
    right, wrong = torch.tensor([[3.0, 1.0, -1.0, 9.0]]), torch.tensor([[-1.0, 1.0, 3.0, 9.0]])
    loss = LOSSES[name]
    assert loss(right, relevance, there) < loss(wrong, relevance, there)
    alone = loss(right[:, :3], relevance[:, :3], there[:, :3])
    torch.testing.assert_close(loss(right, relevance, there), alone)
    scores = right.clone().requires_grad_()
    loss(scores, relevance, there).sum().backward()
    assert scores.grad[0, 3] == 0
    assert torch.isfinite(scores.grad).all()


def test_ranking_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    relevance, scores = draw.integers(0, 3, 60).astype(float), draw.normal(size=60)
    slices = [slice(0, 25), slice(25, 40), slice(40, 60)]
    found = ranking_scores(relevance, scores, slices)
    for query, own in enumerate(slices):
        wanted = metrics.ndcg_score(relevance[None, own], scores[None, own], k=10)
        assert found["ndcg@10"][query] == pytest.approx(wanted)
        assert found["map"][query] == pytest.approx(metrics.average_precision_score(relevance[own] > 0, scores[own]))
    assert np.isnan(ranking_scores(np.zeros(3), np.arange(3.0), [slice(0, 3)])["mrr@10"][0])


def test_a_model_that_says_the_same_of_all_texts_ranks_them_by_chance():
    """Of rows with a column of answers those stand first; that must not be what is scored."""
    data = Rerank().read(rows(200))
    found = judge_order(data, np.zeros(600, np.float32)).scores
    assert found["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, abs=0.06)


def test_sure_probabilities_that_are_all_one_do_not_hide_a_wrong_order():
    data = Rerank().read(rows(4))
    raw = np.tile(np.float32([17, 25, 18]), 4)
    found = judge_binary(data, 1 / (1 + np.exp(-raw)), raw).scores
    assert found["mrr@10"] == pytest.approx(1 / 3)
    assert found["average_precision"] < 0.5


def test_the_texts_of_a_query_that_are_drawn_follow_the_seed():
    relevance, starts = np.float64([1, 0, 0, 0, 0, 0, 0, 0]), np.array([0, 8])
    taken = [drawn(relevance, starts, 3, 0, 0, seed).tolist() for seed in (0, 0, 1, 2)]
    assert taken[0] == taken[1]
    assert len({tuple(one) for one in taken}) > 1


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    assert_resumes_exactly(tmp_path, "rerank", rows(40), {"max_length": 32, "dropout": 0.1, "loss": "softmax"})


@pytest.mark.parametrize(
    ("settings", "given", "told"),
    [
        ({}, [{"query": "a", "text": "b", "label": 2.5}], "2.5 is neither 0 nor 1.*--loss regression"),
        ({"loss": "lambda"}, [{"query": "a", "text": "b", "label": -1}], "below 0.*grades from 0 up"),
        ({"loss": "bnary"}, [], "there is no loss 'bnary'.*'binary'"),
        ({}, [{"query": " ", "text": "b", "label": 1}], "there is no query"),
        ({}, [{"query": "a", "text": "b", "label": "good"}], "'good', which is no number"),
        ({}, [{"query": "a", "texts": ["b", "c"], "labels": [1]}], "2 texts but 1 labels"),
        ({}, [{"sentence": "a", "label": 1}], "ranking needs queries and texts"),
        ({}, [{"query": "a", "positive": "", "negative": "c"}], "'positive' should hold a text"),
    ],
)
def test_what_a_loss_cannot_learn_from_is_told(settings, given, told):
    with pytest.raises(BothwaysError, match=told):
        Rerank(**settings).read(given)


def test_what_cannot_be_compared_or_ranked_is_told():
    base = tiny.model(["mlm"])
    pairs = [{"query": f"q{n}", "text": "b", "label": n % 2} for n in range(20)]
    with pytest.raises(BothwaysError, match=r"no query of .* has two of different relevance.*--loss binary"):
        bw.finetune("rerank", base=base, train=pairs, dev=pairs, loss="softmax", **SETTINGS)
    with pytest.raises(BothwaysError, match=r"label 1 everywhere"):
        bw.finetune("rerank", base=base, train=pairs[1::2], dev=pairs, **SETTINGS)
    with pytest.raises(BothwaysError, match="'classify'"):
        base.rerank("a", ["b"])
    scorer = tiny.model(["classify"])
    with pytest.raises(BothwaysError, match="query 1 is empty"):
        scorer.rerank(" ", ["b"])
    with pytest.raises(BothwaysError, match="list of texts, not one text"):
        scorer.rerank("a", "b")


def test_pairs_and_lists_of_a_file_are_scored(trained, tmp_path):
    _, out = trained
    model = bw.load(out)
    bulk = pytest.importorskip("bothways.use.bulk")
    pairs = [{"query": row["query"], "text": row["negatives"][0], "id": n} for n, row in enumerate(rows(6))]
    bulk.predict(model, pairs, tmp_path / "pairs.jsonl", keep=True)
    said = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert [one["id"] for one in said] == list(range(6))
    wanted = model.score_pairs([row["query"] for row in pairs], [row["text"] for row in pairs])
    assert [one["prediction"] for one in said] == pytest.approx(wanted, abs=1e-5)
    lists = [{"query": row["query"], "texts": [*row["negatives"], row["positive"]]} for row in rows(6)]
    bulk.predict(model, lists, tmp_path / "lists.jsonl")
    said = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert all(one["places"][0] == 2 and one["prediction"][0].endswith("music") for one in said)
    assert all(one["scores"] == sorted(one["scores"], reverse=True) for one in said)
