"""Sparse vectors: learned so that what belongs together shares words, the same in sentence-transformers."""

import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Together
from bothways.learn.tasks.sparse import Sparse
from bothways.model.heads.sparse import WAYS, sparse_vectors
from bothways.use import bulk
from learner_tasks import assert_resumes_exactly, modules

WORDS = tiny.KNOWN.split()
SETTINGS = {"max_length": 32, "learning_rate": 3e-3, "dropout": 0.0, "report": False, "device": "cpu"}
SETTINGS |= {"precision": "float32"}


def rows(count, seed=0):
    """A text that answers has two words of its query; one that does not has none."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = draw.permutation(WORDS)
        texts = [" ".join([*words[:2], *words[6:10]]), " ".join(words[10:16])]
        made.append({"query": " ".join(words[:5]), "positive": texts[0], "negative": texts[1]})
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("sparse") / "run"
    base = tiny.model(["mlm"], max_length=64)
    return bw.finetune("sparse", base=base, train=rows(160), dev=rows(40, 1), epochs=5, out=out, **SETTINGS), out


def test_what_belongs_together_shares_words(trained):
    found, out = trained
    assert found.scores["mrr@10"] > 0.9
    again = bw.load(out)
    assert again.task == "sparse"
    row = rows(1, 2)[0]
    assert again.rerank(row["query"], [row["negative"], row["positive"]])[0].place == 1
    vectors = again.sparse_vectors([row["query"], row["positive"]])
    told = again.score_pairs(row["query"], row["positive"])
    assert told == pytest.approx(float((vectors[[0]] @ vectors[[1]].T).toarray()[0, 0]), rel=1e-5)


def test_sparseness_is_learned():
    base, words = tiny.model(["mlm"], max_length=64), []
    for weight in (0.0, 0.3):
        own = {"query_flops": weight, "document_flops": weight, "epochs": 5}
        words.append(bw.finetune("sparse", base=base, train=rows(120), dev=rows(30, 1), **own, **SETTINGS).scores)
    assert words[1]["words"] < 0.8 * words[0]["words"]


def test_the_vectors_are_those_of_a_sparse_encoder_both_ways(trained, tmp_path):
    theirs = pytest.importorskip("sentence_transformers").SparseEncoder
    found, out = trained
    texts = tiny.sentences(9, longest=20)
    ours = found.model.sparse_vectors(texts).toarray()
    other = theirs(str(out / "model"), device="cpu")
    assert other.encode(texts, convert_to_sparse_tensor=False).numpy() == pytest.approx(ours, abs=1e-5)
    other.save(str(tmp_path / "theirs"))
    assert bw.load(tmp_path / "theirs").sparse_vectors(texts).toarray() == pytest.approx(ours, abs=1e-5)


def test_threads_that_ask_at_once_leave_the_policy_as_it_was(trained, monkeypatch):
    model, both = bw.load(trained[1], device="cpu"), threading.Barrier(2, timeout=60)
    texts, encode = ["the river " * 100], model.encode

    def together(*asked, **options):
        both.wait()
        return encode(*asked, **options)

    monkeypatch.setattr(model, "encode", together)
    with warnings.catch_warnings(record=True) as said, ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("always")
        list(pool.map(model.sparse_vectors, [texts, texts]))
    assert model.truncation == "warn"
    assert sum("were cut" in str(one.message) for one in said) == 2
    assert model.truncated.texts == 2


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_that_of_their_pooling(way, trained):
    modules_of = pytest.importorskip("sentence_transformers.sparse_encoder.modules")
    from bothways.run.sparse_folder import _WAYS

    model = trained[0].model
    encoded = model.encode(tiny.sentences(4, longest=9))
    batch = encoded.batch(np.arange(4))
    with torch.no_grad():
        output = model.encoder(batch)
        found = sparse_vectors(model.heads["mlm"], output.sequence, model.encoder.token_table, output.starts, way)
        logits = model.heads["mlm"](output.sequence, model.encoder.token_table)
    pooling = modules_of.SpladePooling(*_WAYS[way])
    for row, (a, b) in enumerate(zip(batch.starts[:-1], batch.starts[1:], strict=True)):
        given = {"token_embeddings": logits[None, a:b].clone(), "attention_mask": torch.ones(1, b - a)}
        torch.testing.assert_close(found[row], pooling(given)["sentence_embedding"][0], atol=1e-5, rtol=1e-5)


def test_texts_that_a_sparse_encoder_reads_in_another_way_are_refused(trained, tmp_path):
    trained[0].model.save(tmp_path / "model")
    said = {"transformer_task": "fill-mask", "processing_kwargs": {"text": {"add_special_tokens": False}}}
    (tmp_path / "model" / "sentence_bert_config.json").write_text(json.dumps(said))
    with pytest.raises(BothwaysError, match="a add_special_tokens of its own for texts"):
        bw.load(tmp_path / "model")


def test_few_words_are_kept_the_heaviest(trained):
    model = trained[0].model
    whole, few = model.sparse_vectors("the old house"), model.sparse_vectors("the old house", top=5)
    assert few.nnz == 5
    assert sorted(few.data) == pytest.approx(sorted(whole.data)[-5:])
    terms = model.sparse_terms("the old house", 5)
    assert list(terms.values()) == sorted(terms.values(), reverse=True)
    assert set(terms) <= set(model.tokenizer.tokens)
    assert model.sparse_vectors([]).shape == (0, model.config.embeddings.vocab_size)


def test_a_step_in_parts_gives_the_gradient_of_one_pass():
    base, task = tiny.model(["mlm"], max_length=64), Sparse(query_flops=0.1, document_flops=0.1)
    data = task.read(rows(12))
    learned = []
    for budget in (10**9, 90):
        model = base.copy()
        model.encoder.eval()
        objective = task.objective(model, data)
        stream = task.stream(
            task.examples(model, data), objective.prepare, batch_size=12, micro_tokens=budget, epochs=1, seed=0
        )
        (item,) = stream.next_step(0.5)
        sums = objective.backward(modules(model), item, objective.counts(item))
        learned.append((sums, [each.grad for each in modules(model).parameters() if each.grad is not None]))
    assert not isinstance(objective, Together)
    assert learned[0][0] == pytest.approx(learned[1][0], rel=1e-4)
    for one, other in zip(learned[0][1], learned[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_a_run_that_was_interrupted_gives_the_same_weights(tmp_path):
    settings = {"max_length": 32, "dropout": 0.1}
    assert_resumes_exactly(tmp_path, "sparse", rows(40), settings, base=tiny.model(["mlm"], max_length=64))


def test_what_cannot_be_learned_is_told():
    pairs = [{"query": "a", "text": "b", "score": 0.5}] * 20
    with pytest.raises(BothwaysError, match=r"sparse needs pairs of texts that belong together.*with a score each"):
        Sparse().read(pairs)
    with pytest.raises(BothwaysError, match="the head that guesses masked words, and tiny has none"):
        bw.finetune("sparse", base=tiny.model(["classify"]), train=rows(20), **SETTINGS)
    with pytest.raises(BothwaysError, match=r"there is no way 'mx'.*'max'"):
        Sparse(way="mx")
    with pytest.raises(BothwaysError, match="sparse_vectors needs the head 'mlm'"):
        tiny.model(["classify"]).sparse_vectors("a")


def test_one_vector_a_text_is_made_only_where_it_is_asked_for(tmp_path):
    model = bw.finetune("sparse", base=tiny.model(["mlm"]), train=rows(20), **SETTINGS).model
    with pytest.raises(BothwaysError, match="was trained for sparse vectors, not for one vector a text; where"):
        bulk.embed(model, ["a river", "old"], tmp_path / "vectors.npy")
    assert bulk.embed(model, ["a river", "old"], tmp_path / "vectors.npy", pooling="mean").texts == 2
    with pytest.raises(BothwaysError, match="was trained for sparse vectors, which no exported model gives"):
        model.export(tmp_path / "exported")
