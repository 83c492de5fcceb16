"""A corpus of a few sentences: too small to hold anything out it can be trained on all the same, but not for less."""

import json

import pytest

import bothways as bw
from bothways.errors import BothwaysError, BothwaysWarning

TEXTS = ["A short text. It has two sentences.", "Another one. With two more."] * 3
SETTINGS = {"size": "tiny", "steps": 2, "max_length": 32}


def test_without_held_out_examples_nothing_is_measured_and_the_model_is_saved(tmp_path):
    with pytest.warns(BothwaysWarning, match=r"makes 6 sequences, fewer than the 20 .* nothing will be measured"):
        run = bw.pretrain(TEXTS, **SETTINGS, batch_tokens=64, out=tmp_path / "run")
    assert run.history.steps == 2
    assert run.scores == {}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["results"]["steps"] == 2
    assert len(bw.load(tmp_path / "run").fill_mask("a short [MASK]")) == 5


def test_a_corpus_smaller_than_a_batch_is_refused_and_nothing_stands_in_the_way(tmp_path):
    """The sentence says how large a batch may be, and with one of that size the same call is well."""
    with pytest.raises(BothwaysError, match=r"6 sequences with [0-9]+ tokens .* the 4,096 of one batch") as refused:
        bw.pretrain(TEXTS, **SETTINGS, out=tmp_path / "run")
    most = int(str(refused.value).rpartition(" ")[2])
    assert not (tmp_path / "run").exists()
    with pytest.warns(BothwaysWarning, match="nothing will be measured"):
        run = bw.pretrain(TEXTS, **SETTINGS, batch_tokens=most, out=tmp_path / "run")
    assert run.history.steps == 2
