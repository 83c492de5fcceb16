"""MTEB runs a model as it is: local tasks, the same scores as with sentence-transformers."""

import numpy as np
import pytest

import bothways as bw
import tiny
from bothways.run.sentence_folder import SentenceRecipe

mteb = pytest.importorskip("mteb")

TEXTS = tiny.sentences(60, seed=8, longest=9)


def told(name, kind, main):
    """What MTEB wants to know of a task."""
    return mteb.TaskMetadata(
        name=name,
        type=kind,
        description="made here",
        dataset={"path": "here/here", "revision": "1"},
        modalities=["text"],
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main,
        reference=None,
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def similarity_task():
    """Pairs with scores."""
    datasets = pytest.importorskip("datasets")
    from mteb.abstasks.sts import AbsTaskSTS

    class Similarity(AbsTaskSTS):
        metadata = told("Similarity", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, **_):
            rows = {
                "sentence1": TEXTS[:30],
                "sentence2": TEXTS[30:],
                "score": np.random.default_rng(0).uniform(0, 5, 30).tolist(),
            }
            self.dataset = datasets.DatasetDict(test=datasets.Dataset.from_dict(rows))
            self.data_loaded = True

    return Similarity()


def test_a_local_task_gives_what_sentence_transformers_gives(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    recipe = SentenceRecipe("mean", True, stated=True, prompts={"STS": "the ", "query": "what is "})
    path = tiny.folder(tmp_path / "model", heads=(), recipe=recipe, max_length=40)
    task = similarity_task()
    found = [
        mteb.evaluate(model, [task], cache=None).task_results[0].get_score()
        for model in (bw.mteb_model(path), sentence_transformers.SentenceTransformer(str(path), device="cpu"))
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_texts_get_the_prompt_of_their_task_and_kind():
    prompts = {"query": "what ", "Retrieval-query": "the ", "Mine": "a "}
    model = tiny.model((), recipe=SentenceRecipe(stated=True, prompts=prompts))
    wrapped, plain = bw.mteb_model(model), tiny.model(())

    class Task:
        def __init__(self, name, type):
            self.name, self.type = name, type

    for task, kind, before in (
        (Task("Other", "STS"), "query", "what "),
        (Task("Other", "STS"), "document", ""),
        (Task("Other", "Retrieval"), "query", "the "),
        (Task("Mine", "STS"), None, "a "),
        (None, None, ""),
    ):
        found = wrapped.encode([{"text": ["river"]}, {"text": ["stone"]}], task_metadata=task, prompt_type=kind)
        assert np.array_equal(found, plain.embed([f"{before}river", f"{before}stone"]))
    assert wrapped.encode([]).shape == (0, 48)
    assert wrapped.similarity(found, found).shape == (2, 2)
    assert wrapped.similarity_pairwise(found, found) == pytest.approx([1, 1])
    assert wrapped.mteb_model_meta.embed_dim == 48
