"""Every question has the same answer on the engine that users get as in plain torch."""

from __future__ import annotations

import pytest

import tiny
from bothways.run.folder import read_folder
from bothways.run.model import Model
from test_exported import QUESTIONS, TEXTS, model, near

__all__ = ["model"]
LONG = [" ".join(TEXTS), TEXTS[0]]
PAIRS = TEXTS[:9], TEXTS[9:18]
MORE = {
    "probabilities": lambda model: model.class_probabilities(TEXTS),
    "pairs": lambda model: model.classify(*PAIRS),
    "sparse vectors": lambda model: model.sparse_vectors(TEXTS).toarray(),
    "sparse terms": lambda model: model.sparse_terms(TEXTS, top=3),
    "no text to embed": lambda model: model.embed([]),
    "no text to classify": lambda model: model.classify([]),
    "no text to tag": lambda model: model.tag([]),
}
OF_SCORES = {
    "score": lambda model: model.score(TEXTS),
    "pairs": lambda model: model.score_pairs(*PAIRS),
    "rerank": lambda model: model.rerank("the river", TEXTS),
}
OF_TOKENS = {
    "token vectors": lambda model: model.token_vectors(TEXTS),
    "token vectors of a query": lambda model: model.token_vectors("the river", query=True),
    "no text": lambda model: model.token_vectors([]),
    "rerank": lambda model: model.rerank("the river", TEXTS),
}
OF_REPLACED = {"spot": lambda model: model.spot(TEXTS), "no text": lambda model: model.spot([])}
IN_WINDOWS = {
    "embed": lambda model: model.embed(LONG),
    "hidden": lambda model: model.hidden(LONG),
    "classify": lambda model: model.classify(LONG),
    "tag": lambda model: model.tag(LONG),
    "answer": lambda model: model.answer(["which river"] * 2, LONG),
    "sparse vectors": lambda model: model.sparse_vectors(LONG).toarray(),
}


def check(saved, ask, **how):
    """That both engines give one answer; returns it."""
    found, wanted = (ask(Model(saved, device="cpu", engine=engine, **how)) for engine in ("packed", "reference"))
    assert near(found, wanted), (found, wanted)
    return found


@pytest.mark.parametrize("ask", [*QUESTIONS.values(), *MORE.values()], ids=[*QUESTIONS, *MORE])
def test_a_model_of_many_heads_answers_alike(model, ask):
    check(model._saved, ask)


@pytest.mark.parametrize("ask", IN_WINDOWS.values(), ids=IN_WINDOWS)
def test_long_texts_are_read_in_windows_alike(model, ask):
    assert len(check(model._saved, lambda opened: opened.hidden(LONG), truncation="window")[0]) > 48
    check(model._saved, ask, truncation="window")


@pytest.mark.parametrize("ask", OF_SCORES.values(), ids=OF_SCORES)
def test_a_cross_encoder_answers_alike(tmp_path, ask):
    check(read_folder(tiny.ranker(tmp_path / "model", "classify", labels=("score",), problem="scores")), ask)


@pytest.mark.parametrize("ask", OF_TOKENS.values(), ids=OF_TOKENS)
def test_late_interaction_answers_alike(tmp_path, ask):
    check(read_folder(tiny.ranker(tmp_path / "model", "late", outputs=16, bias=False)), ask)


@pytest.mark.parametrize("ask", OF_REPLACED.values(), ids=OF_REPLACED)
def test_a_discriminator_answers_alike(ask):
    check(tiny.saved(["rtd"], name="electra"), ask)
