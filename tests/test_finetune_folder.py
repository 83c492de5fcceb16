"""What fine-tuning writes over is never what it reads."""

import pytest

import bothways as bw
import tiny
from bothways.errors import BothwaysError
from bothways.run.model import Model

ROWS = [{"text": text, "label": label} for text, label in [("the river", "a"), ("a stone", "b")] * 8]


def test_overwrite_never_removes_the_base(tmp_path):
    out = tmp_path / "run"
    base = Model.random(tiny.config(), tiny.tokenizer())
    given = {"train": ROWS, "dev": ROWS, "steps": 1, "max_length": 8, "report": False}
    bw.finetune("classify", base=base, out=out, **given)
    with pytest.raises(BothwaysError, match="run"):
        bw.finetune("classify", base=out, out=out, overwrite=True, **given)
    assert bw.load(out).labels == ("a", "b"), "nothing was thrown away"


def test_overwrite_never_removes_the_base_of_several_runs(tmp_path):
    out = tmp_path / "runs"
    base = Model.random(tiny.config(), tiny.tokenizer())
    given = {"train": ROWS, "dev": ROWS, "steps": 1, "max_length": 8, "report": False}
    bw.finetune_seeds("classify", base=base, out=out, seeds=2, **given)
    for own in (out, out / "seed-0"):
        with pytest.raises(BothwaysError, match="is what this run reads"):
            bw.finetune_seeds("classify", base=own, out=out, seeds=2, overwrite=True, **given)
    assert bw.load(out / "seed-0").labels == bw.load(out).labels == ("a", "b"), "nothing was thrown away"
