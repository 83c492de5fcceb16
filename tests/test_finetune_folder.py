"""The folder of a fine-tuning: what it writes over is never what it reads; which weights it keeps."""

import json

import pytest
import torch

import bothways as bw
import tiny
from bothways.cli.entry import main
from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors
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


def test_the_last_weights_are_kept_where_the_metric_is_none_typed_or_not(tmp_path):
    """Accuracy is best at once, so that a run by it does not keep its last weights."""
    base, table = tiny.folder(tmp_path / "base", heads=()), tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = {"train": str(table), "dev": str(table), "steps": 4, "evaluate_every": 1, "max_length": 8}
    given |= {"report": False, "precision": "float32", "device": "cpu", "learning_rate": 1e-9}
    last = bw.finetune("classify", base=base, metric=None, out=tmp_path / "library", **given)
    assert (last.history.best, len(last.history.evaluations)) == (None, 4)
    options = f"--base {base} --dev {table} --steps 4 --evaluate-every 1 --max-length 8 --no-report --precision float32"
    typed = f"{table} {options} --device cpu --learning-rate 1e-9 --metric none"
    assert main(["finetune", "classify", *typed.split(), "--out", str(tmp_path / "typed"), "--quiet"]) == 0
    for run in ("library", "typed"):  # and what such a run leaves can be repeated
        again = tmp_path / f"{run}-again"
        assert main(f"finetune classify --from {tmp_path / run} --out {again} --quiet".split()) == 0
    best = bw.finetune("classify", base=base, metric="best", **given)
    assert best.history.best_step == 1
    tables = [own_tensors(one.model.encoder)["embeddings.tokens.weight"] for one in (best, last)]
    assert not torch.equal(*tables)
    for run in ("library-again", "typed", "typed-again"):
        kept = bw.load(tmp_path / run)
        for name, tensor in own_tensors(last.model.encoder).items():
            assert torch.equal(own_tensors(kept.encoder)[name], tensor), (run, name)
