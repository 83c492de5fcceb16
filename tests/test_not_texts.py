"""What is no text is refused in a sentence by every question of a model."""

from __future__ import annotations

import stat

import pytest

import tiny
from bothways.errors import BothwaysError
from bothways.run.model import Model

HEADS = ("mlm", "nsp", "classify", "answer")
ASKED = {
    "embed": lambda model, wrong: model.embed(["river", wrong]),
    "classify": lambda model, wrong: model.classify(["river", wrong]),
    "class_probabilities": lambda model, wrong: model.class_probabilities(["river", wrong]),
    "pairs": lambda model, wrong: model.classify(["river", "stone"], ["river", wrong]),
    "question": lambda model, wrong: model.answer(["river", wrong], ["stone", "stone"]),
    "context": lambda model, wrong: model.answer(["river", "stone"], ["stone", wrong]),
    "fill_mask": lambda model, wrong: model.fill_mask(["[MASK] river", wrong]),
    "follows": lambda model, wrong: model.follows(["river", wrong], ["stone", "stone"]),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny.model(heads=HEADS)


@pytest.mark.parametrize("wrong", [None, float("nan"), 5, b"river"], ids=str)
@pytest.mark.parametrize("question", ASKED)
def test_a_list_that_holds_something_else_is_refused_with_its_place(model, question, wrong):
    with pytest.raises(BothwaysError, match=rf"texts\[1\] is not a string but {type(wrong).__name__}"):
        ASKED[question](model, wrong)


@pytest.mark.parametrize("wrong", [None, 5])
@pytest.mark.parametrize("question", ["embed", "classify", "class_probabilities", "fill_mask"])
def test_something_else_instead_of_texts_is_refused(model, question, wrong):
    with pytest.raises(BothwaysError, match=f"a text, or several, are wanted, not {type(wrong).__name__}"):
        getattr(model, question)(wrong)


def test_saved_weights_can_be_read_by_whom_other_files_can(model, tmp_path):
    model.save(tmp_path / "m")
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()}
    assert len(set(rights.values())) == 1, rights
