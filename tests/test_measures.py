"""What vectors are worth: every measure agrees with others who compute it, and says what data it needs."""

import itertools
import json

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.measures.collection import read_collection
from bothways.learn.measures.evaluate import evaluate_vectors
from bothways.learn.measures.retrieval import measure_retrieval, retrieval_values
from bothways.run.model import load
from bothways.run.sentence_folder import SentenceRecipe
from bothways.run.similarity import SIMILARITIES, nearest, similarity

TEXTS = tiny.sentences(60, seed=3, longest=9)
PROMPTS = {"query": "what is ", "passage": "the "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recipe = SentenceRecipe("mean", True, stated=True, prompts=PROMPTS)
    return tiny.folder(tmp_path_factory.mktemp("m") / "model", heads=(), recipe=recipe, max_length=40)


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def collection(tmp_path):
    """40 documents, 12 queries, of which 10 are judged, one or two relevant documents each."""
    draw = np.random.default_rng(1)
    written(
        tmp_path / "c" / "corpus.jsonl",
        [
            {"_id": f"d{place}", "title": "a" if place % 2 else "", "text": text}
            for place, text in enumerate(TEXTS[:40])
        ],
    )
    written(tmp_path / "c" / "queries.jsonl", [{"_id": f"q{n}", "text": TEXTS[40 + n]} for n in range(12)])
    judged = [(f"q{n}", f"d{d}", 1 + int(n % 3 == 0)) for n in range(10) for d in draw.choice(40, 1 + n % 2, False)]
    (tmp_path / "c" / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judged)]
    (tmp_path / "c" / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "c"


def test_scored_pairs_give_the_correlations_that_others_compute(model, theirs):
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    scores = np.random.default_rng(0).random(30).tolist()
    rows = [{"text_a": a, "text_b": b, "score": s} for a, b, s in zip(TEXTS[:30], TEXTS[30:], scores, strict=True)]
    found = bw.evaluate(model, rows)
    same = evaluation.EmbeddingSimilarityEvaluator(TEXTS[:30], TEXTS[30:], scores, main_similarity="cosine")(theirs)
    assert (found["measure"], found["main"], found["examples"]) == ("sts", "spearman", 30)
    assert found["scores"]["spearman"] == pytest.approx(same["spearman_cosine"], abs=1e-4)
    assert found["scores"]["pearson"] == pytest.approx(same["pearson_cosine"], abs=1e-4)
    low, high = found["interval"]
    assert low < found["scores"]["spearman"] < high


def test_labelled_pairs_give_the_precision_that_others_compute(model, theirs):
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    labels = np.random.default_rng(0).integers(0, 2, 30).tolist()
    rows = [{"text_a": a, "text_b": b, "label": s} for a, b, s in zip(TEXTS[:30], TEXTS[30:], labels, strict=True)]
    found = evaluate_vectors(model, rows, "pairs")
    same = evaluation.BinaryClassificationEvaluator(
        TEXTS[:30], TEXTS[30:], labels, similarity_fn_names=["cosine"], write_csv=False
    )(theirs)
    assert found["scores"]["ap"] == pytest.approx(same["cosine_ap"], abs=1e-4)
    assert found["scores"]["f1"] == pytest.approx(same["cosine_f1"], abs=1e-4)
    assert found["scores"]["accuracy"] == pytest.approx(same["cosine_accuracy"], abs=1e-4)


def test_retrieval_gives_what_others_compute(model, theirs, collection):
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    found = bw.evaluate(model, str(collection))
    read = read_collection(collection)
    assert (found["measure"], found["examples"], found["documents"]) == ("retrieval", 10, 40)
    relevant = {query: set(documents) for query, documents in read.relevance.items()}
    corpus = dict(zip(read.document_ids, read.documents, strict=True))
    queries = dict(zip(read.query_ids, read.queries, strict=True))
    same = evaluation.InformationRetrievalEvaluator(
        queries,
        corpus,
        relevant,
        write_csv=False,
        map_at_k=[40],
        corpus_prompt=PROMPTS["passage"],
        query_prompt="what is ",
    )(theirs)
    for mine, other in (("map", "map@40"), ("mrr@10", "mrr@10"), ("recall@1", "recall@1"), ("recall@10", "recall@10")):
        assert found["scores"][mine] == pytest.approx(same[f"cosine_{other}"], abs=1e-4), mine


def test_a_query_does_not_find_itself(model, tmp_path):
    """Arguments that are looked for by others of the same corpus, as in ArguAna."""
    (tmp_path / "qrels").mkdir()
    for name, ids in (("corpus", range(4)), ("queries", range(2))):
        rows = [{"_id": str(n), "text": TEXTS[n]} for n in ids]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "qrels" / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n0\t2\t1\n1\t3\t1\n")
    vectors = {text: np.eye(4)[n] for n, text in enumerate(TEXTS[:4])}
    vectors[TEXTS[2]], vectors[TEXTS[3]] = np.array([0.9, 0, 0.1, 0]), np.array([0, 0.9, 0, 0.1])

    def measure():
        def embed(texts, _):
            return np.array([vectors[each] for each in texts])

        return measure_retrieval(embed, read_collection(tmp_path), "dot").scores

    assert measure()["recall@1"] == measure()["ndcg@10"] == 1.0
    path.write_text("query-id\tcorpus-id\tscore\n0\t0\t1\n1\t3\t1\n")  # it may be judged, though
    assert measure()["recall@1"] == 1.0
    for wrong in ("1.5", "inf", "nan", "good"):
        path.write_text(f"query-id\tcorpus-id\tscore\n0\t2\t{wrong}\n")
        with pytest.raises(BothwaysError, match="whole number as its score"):
            read_collection(tmp_path)


def test_ndcg_by_hand():
    """Gains as they are; the discount is the binary logarithm of the rank and one."""
    relevance = {"q": {"a": 2, "b": 1, "c": 0}, "other": {"a": 1}}
    values = retrieval_values(relevance, {"q": {"c": 0.9, "a": 0.5, "b": 0.1}})
    expected = (2 / np.log2(3) + 1 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert values["ndcg@10"] == pytest.approx([expected, 0.0])
    assert values["mrr@10"] == pytest.approx([0.5, 0.0])
    eleventh = {"q": {f"x{place}": 20.0 - place for place in range(10)} | {"a": 1.0}}
    assert retrieval_values({"q": {"a": 1}}, eleventh)["mrr@10"] == [0.0], "beyond the first ten nothing counts"


@pytest.mark.parametrize("likeness", SIMILARITIES)
def test_the_nearest_are_those_of_a_full_sort(monkeypatch, likeness):
    monkeypatch.setattr("bothways.run.similarity._COLUMNS", 7)
    monkeypatch.setattr("bothways.run.similarity._ROWS", 3)
    draw = np.random.default_rng(0)
    queries, documents = draw.normal(size=(8, 5)), draw.normal(size=(30, 5))
    whole = similarity(queries, documents, likeness)
    scores, places = nearest(queries, documents, 11, likeness)
    assert np.array_equal(places, np.argsort(-whole, axis=1)[:, :11])
    assert np.allclose(scores, np.take_along_axis(whole, places, 1))
    assert nearest(queries, documents, 99, likeness)[1].shape == (8, 30)
    assert nearest(queries[:0], documents, 4, likeness)[1].shape == (0, 4)
    alike = np.repeat(documents[:1], 30, axis=0)
    assert nearest(queries, alike, 40, likeness)[1].tolist() == [list(range(30))] * 8, "the first of equal ones first"
    few = np.tile(documents[:4], (8, 1))  # many tie where the last is taken
    wanted = np.argsort(-similarity(queries, few, likeness), axis=1, kind="stable")[:, :11]
    assert np.array_equal(nearest(queries, few, 11, likeness)[1], wanted)


def test_reranking_orders_each_querys_own_texts(model):
    rows = [{"query": TEXTS[0], "positive": [TEXTS[1]], "negative": [TEXTS[2], TEXTS[3]]}]
    rows += [{"query": TEXTS[4], "positive": [TEXTS[4]], "negative": [TEXTS[5]]}]
    found = evaluate_vectors(model, rows, "reranking")
    ranks = []
    for asked, right, *wrong in (TEXTS[:4], (TEXTS[4], TEXTS[4], TEXTS[5])):
        query, good, *bad = (model.embed(asked, prompt="query"), *model.embed([right, *wrong], prompt="document"))
        ranks.append(1 + sum(float(text @ query) > float(good @ query) for text in bad))
    assert found["scores"]["mrr@10"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found["texts"] == 5


def test_translations_find_each_other(model, theirs):
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    rows = [{"source": a, "target": b} for a, b in zip(TEXTS[:30], TEXTS[30:], strict=True)]
    found = evaluate_vectors(model, rows, "bitext")
    same = evaluation.TranslationEvaluator(TEXTS[:30], TEXTS[30:], write_csv=False)(theirs)
    assert found["scores"]["forward"] == pytest.approx(same["src2trg_accuracy"])
    assert found["scores"]["backward"] == pytest.approx(same["trg2src_accuracy"])
    again = [{"source": text, "target": text} for text in TEXTS[:10] * 2]
    assert evaluate_vectors(model, again, "bitext")["scores"]["accuracy"] == 1.0, (
        "a text that occurs twice is right twice"
    )


def test_clusters_of_texts_that_are_alike_are_their_classes(model):
    rows = [{"text": text, "label": name} for text, name in ((TEXTS[0], "a"), (TEXTS[1], "b")) for _ in range(8)]
    found = evaluate_vectors(model, rows, "clustering")
    assert found["scores"] == pytest.approx({"v_measure": 1.0, "ari": 1.0, "nmi": 1.0})
    assert found["classes"] == 2


def test_the_way_of_pooling_can_be_chosen_for_any_encoder(folder, tmp_path):
    raw = tiny.folder(tmp_path / "raw", heads=("mlm",))
    rows = [{"text_a": a, "text_b": b, "score": place} for place, (a, b) in enumerate(itertools.pairwise(TEXTS))]
    scores = {
        way: bw.evaluate(str(raw), rows, pooling=way, device="cpu")["scores"]["spearman"]
        for way in ("cls", "mean", "max")
    }
    assert len(set(scores.values())) == 3
    with pytest.raises(BothwaysError, match="was not fine-tuned for a task"):
        bw.evaluate(str(raw), rows, device="cpu")
    found = bw.evaluate(str(raw), rows, measure="sts", dims=7, device="cpu", out=tmp_path / "out")
    assert found["dims"] == 7
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["scores"] == found["scores"]
    assert "Spearman" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("rows", "asked", "message"),
    [
        (
            [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
            {"measure": "sts"},
            "sts needs pairs of texts with a score",
        ),
        ([{"source": "a", "target": "b"}], {"measure": "pairs"}, "pairs needs pairs of texts with a label"),
        ([{"source": "a", "target": "b"}], {"measure": "bitext"}, "at least two"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], {"measure": "clustering"}, "one class only"),
        ([{"source": "a", "target": "b"}], {"measure": "retrieval"}, "retrieval needs a folder with corpus.jsonl"),
        ([{"source": "a", "target": "b"}], {"measure": "retreival"}, "did you mean 'retrieval'"),
        ([{"source": "a", "target": "b"}], {"split": "test"}, "a split is chosen of a folder"),
        ([{"text": "a"}], {}, "of which nothing is measured"),
    ],
)
def test_data_that_does_not_do_is_one_sentence(model, rows, asked, message):
    with pytest.raises(BothwaysError, match=message):
        evaluate_vectors(model, rows, **asked)


def test_a_broken_collection_is_one_sentence(collection):
    with pytest.raises(BothwaysError, match="choose with --split test"):
        read_collection(collection, "dev")
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td99\t1\n")
    with pytest.raises(BothwaysError, match=r"names the document 'd99', which corpus\.jsonl does not hold"):
        read_collection(collection)
    (collection / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq99\td1\t1\n")
    with pytest.raises(BothwaysError, match=r"judges the query 'q99', which queries\.jsonl does not hold"):
        read_collection(collection)
    written(collection / "corpus.jsonl", [{"_id": "d1", "text": "a"}] * 2)
    with pytest.raises(BothwaysError, match=r"line 2|'d1' twice"):
        read_collection(collection)
    (collection / "queries.jsonl").unlink()
    with pytest.raises(BothwaysError, match="it has no queries file"):
        read_collection(collection)
