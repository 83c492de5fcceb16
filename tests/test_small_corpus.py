"""A corpus of a few sentences, too small to hold anything out, can be trained on all the same."""

import json

import bothways as bw

TEXTS = ["A short text. It has two sentences.", "Another one. With two more."] * 3


def test_without_held_out_examples_nothing_is_measured_and_the_model_is_saved(tmp_path):
    run = bw.pretrain(TEXTS, size="tiny", steps=2, max_length=32, out=tmp_path / "run")
    assert run.history.steps == 2
    assert run.scores == {}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["results"]["steps"] == 2
    assert len(bw.load(tmp_path / "run").fill_mask("a short [MASK]")) == 5
