"""Runs that learn replaced tokens: on real text, kept and continued, stopped and resumed, opened by others."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn.generator import trained_parts
from bothways.learn.objectives.recipe import recipe
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.stream import split_items
from bothways.text.prepare import prepare
from bothways.text.pydocs import python_documentation


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Some 90,000 characters of English."""
    standard = Path(sysconfig.get_path("stdlib"))
    documents = [list(python_documentation(folders=[standard / name])) for name in ("asyncio", "email")]
    text = [document for package in documents for document in package]
    return prepare(text, bw.train_tokenizer(text, vocab_size=600), tmp_path_factory.mktemp("corpus") / "corpus")


def narrow(name, tokenizer):
    """Two layers, narrow, for a vocabulary, with weights as large as the width asks for."""
    return tiny.config(name, layers=2, init_std=0.08).for_vocabulary(tokenizer.size, tokenizer.pad_id)


def run(corpus, out, name="electra", also=None, **changes):
    """50 steps from random weights; returns the result and the losses of all steps."""
    seen = []

    def watch(event):
        seen.append(event.values)
        return also and also(event)

    settings = {
        "objective": "rtd", "steps": 50, "batch_tokens": 512, "max_length": 16, "dropout": 0.0, "learning_rate": 2e-3,
        "device": "cpu", "precision": "float32", "evaluate_every": 10,
    }  # fmt: skip
    base = bw.Model.random(narrow(name, corpus.tokenizer), corpus.tokenizer)
    result = bw.pretrain(corpus, out=out, callbacks=[watch], **{"base": base} | settings | changes)
    return result, seen


@pytest.fixture(scope="module")
def electra(corpus, tmp_path_factory):
    """A run that keeps its generator."""
    out = tmp_path_factory.mktemp("electra")
    result, seen = run(corpus, out / "run", keep_generator=True)
    return out / "run", result, seen


def test_both_learn_on_real_text(electra, corpus):
    """Tokens are guessed better and better, and replaced ones told from others better than by their number."""
    out, result, seen = electra
    for name in ("loss.mlm", "loss.rtd", "loss"):
        losses = [values[name] for values in seen]
        assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.05, name
    assert seen[3]["loss"] == pytest.approx(seen[3]["loss.mlm"] + 50 * seen[3]["loss.rtd"], rel=1e-6)
    assert set(result.scores) == {"loss", "loss.mlm", "accuracy.mlm", "loss.rtd", "accuracy.rtd"}
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any({"loss.mlm", "loss.rtd", "accuracy.rtd"} <= line.keys() for line in log)


def replaced_shares(folder, corpus):
    """How likely each token of held-out text is replaced, for tokens that are and tokens that are not."""
    saved = bw.load(folder / "model", device="cpu")
    generator = bw.load(folder / "generator", device="cpu")
    model = nn.ModuleDict({"encoder": saved.encoder, **saved.heads, **trained_parts(generator)}).eval()
    plan = recipe(ObjectiveSettings(objective="rtd", max_length=16, seed=3), corpus)
    keys = [(5, place) for place in range(0, len(plan.examples), 7)]
    (item,) = split_items(keys, [plan.examples.sequence(*key) for key in keys], plan.finish, 10**9)
    with torch.no_grad():
        _, (batch, targets) = plan.together.before.rewrite(model, item)
        logits = model["rtd"](model["encoder"](batch))
    return logits.numpy(), targets["rtd.replaced"].numpy()


def test_the_discriminator_tells_replaced_tokens_above_chance(electra, corpus):
    """As ranks: a replaced token is found more suspicious than another in clearly more than half of the pairs."""
    logits, replaced = replaced_shares(electra[0], corpus)
    ranks = np.argsort(np.argsort(logits))
    count = replaced.sum()
    area = (ranks[replaced].sum() - count * (count - 1) / 2) / (count * (len(logits) - count))
    assert count > 100
    assert area > 0.6


def test_what_is_saved_opens_elsewhere_and_says_the_same(electra, corpus):
    out, result, _ = electra
    assert {path.name for path in out.iterdir()} >= {"model", "generator", "run.json", "log.jsonl"}
    draw = np.random.default_rng(0)
    batch = make_batch([draw.integers(5, 200, length) for length in (9, 3, 14)])
    rows = [np.array(batch.token_ids[a:b]) for a, b in pairwise(batch.starts)]
    for folder, opener in (
        ("model", transformers.ElectraForPreTraining),
        ("generator", transformers.ElectraForMaskedLM),
    ):
        theirs, report = opener.from_pretrained(out / folder, output_loading_info=True)
        assert not any(report.values()), report
        ours = bw.load(out / folder, device="cpu")
        with torch.no_grad():
            output = ours.encoder.eval()(batch)
            if folder == "model":
                found = ours.heads["rtd"](output)
                trained = result.model.heads["rtd"].eval()(result.model.encoder.eval()(batch))
                assert torch.equal(found, trained)
            else:
                found = ours.heads["mlm"](output.sequence, ours.encoder.token_table)
            for row, (start, end) in enumerate(pairwise(batch.starts)):
                expected = theirs.eval()(torch.from_numpy(rows[row])[None]).logits[0]
                assert (found[start:end] - expected).abs().max() < 1e-4
    tables = (bw.load(out / folder, device="cpu").encoder.token_table for folder in ("model", "generator"))
    assert torch.equal(*tables), "shared to the end"


def test_a_run_continues_with_both(electra, corpus, tmp_path):
    """From the first step on the generator guesses as it had learnt to; another shape of it is refused."""
    out, _, seen = electra
    again, later = run(corpus, tmp_path / "again", base=out, steps=3)
    assert later[0]["loss.mlm"] < seen[0]["loss.mlm"] - 0.5
    assert not (tmp_path / "again" / "generator").exists()
    same, _ = run(corpus, tmp_path / "same", base=out / "model", steps=3)
    assert torch.equal(same.model.encoder.token_table, again.model.encoder.token_table)
    _, fresh = run(corpus, tmp_path / "alone", base=bw.load(out, device="cpu"), steps=3)
    assert fresh[0]["loss.mlm"] > later[0]["loss.mlm"] + 0.2, "a model without its folder begins with a random one"
    with pytest.raises(BothwaysError, match="generator_size asks for 2, 48 wide; leave it out to continue"):
        run(corpus, tmp_path / "other", base=out, steps=3, generator_size=1.0)


def test_another_vocabularys_generator_is_refused(electra, tmp_path):
    out = electra[0]
    other = bw.load(out / "generator", device="cpu")
    other._saved.tokenizer = tiny.tokenizer()
    (tmp_path / "run").mkdir()
    bw.load(out, device="cpu").save(tmp_path / "run" / "model")
    other.save(tmp_path / "run" / "generator")
    text = [" ".join(tiny.sentences(40, seed=place)) for place in range(20)]
    with pytest.raises(BothwaysError, match="has another vocabulary than its discriminator"):
        bw.pretrain(text, base=tmp_path / "run", out=tmp_path / "new", objective="rtd", steps=1, max_length=16)


def test_disentangled_tables_are_merged_when_saved(corpus, tmp_path):
    result, seen = run(corpus, tmp_path / "run", "deberta-v2", steps=40, keep_generator=True)
    loaded = bw.load(tmp_path / "run", device="cpu")
    generator = bw.load(tmp_path / "run" / "generator", device="cpu")
    assert "embeddings.tokens.weight" in loaded.encoder.state_dict()
    assert torch.equal(loaded.encoder.token_table, result.model.encoder.token_table)
    assert not torch.equal(loaded.encoder.token_table, generator.encoder.token_table), "each learnt for itself"
    assert generator.config.layers == 1
    assert generator.config.width == loaded.config.width
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "run" / "model").eval()
    ids = torch.arange(5, 15)
    with torch.no_grad():
        found = loaded.encoder.eval()(make_batch([ids.numpy()])).sequence
        assert (found - theirs(ids[None]).last_hidden_state[0]).abs().max() < 1e-4
    _, later = run(corpus, tmp_path / "again", base=tmp_path / "run", steps=2)
    assert later[0]["loss.mlm"] < seen[0]["loss.mlm"] - 0.4
    assert later[0]["loss.rtd"] < seen[0]["loss.rtd"] - 0.2
    still, _ = run(corpus, tmp_path / "still", base=tmp_path / "run", steps=1, learning_rate=1e-9)
    assert (still.model.encoder.token_table - loaded.encoder.token_table).abs().max() < 1e-5, "what it learnt is kept"


def test_pairs_go_with_replaced_tokens(corpus, tmp_path):
    result, _ = run(corpus, tmp_path / "run", objective="rtd+nsp", steps=3)
    assert {"loss.mlm", "loss.rtd", "loss.nsp"} <= result.scores.keys()
    assert set(result.model.heads) == {"rtd", "nsp"}


def test_the_weight_of_a_loss_can_be_set(corpus, tmp_path):
    _, seen = run(corpus, tmp_path / "run", steps=2, loss_weights={"rtd": 2, "mlm": 0.5})
    assert seen[0]["loss"] == pytest.approx(0.5 * seen[0]["loss.mlm"] + 2 * seen[0]["loss.rtd"], rel=1e-6)


# -- stopped and resumed

PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{here!r}]
import bothways as bw, test_replaced_tokens_runs as tests
from bothways.text.shards import Corpus

out, corpus = Path(sys.argv[1]), Corpus.open(sys.argv[2])
def train(folder, name, how, kill, steps=5):
    def die(event):
        if event.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    base = bw.Model.random(tests.narrow(name, corpus.tokenizer), corpus.tokenizer)
    bw.pretrain(
        corpus, out=folder, base=base, objective="rtd", steps=steps, batch_tokens=256, max_length=16, device="cpu",
        learning_rate=2e-3, precision="float32", save_minutes=1e-9, generator_tables=how, keep_generator=True,
        callbacks=[die],
    )
train(out / "first", "electra", "shared", 0, 1)  # what torch imports at a first step is then imported for all children
for name, how in (("electra", "shared"), ("deberta-v2", "disentangled")):
    for folder, kill in (("broken", 3), ("broken", 0), ("whole", 0)):
        child = os.fork()
        if not child:
            train(out / name / folder, name, how, kill)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_and_resumed_a_run_gives_the_same_bits(corpus, tmp_path):
    """Of both models, whether their tables are one tensor, or a sum."""
    command = [sys.executable, "-c", PROGRAM.format(here=str(Path(__file__).parent)), tmp_path, corpus.folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.split() == ["-9", "0", "0"] * 2, done.stderr
    for name in ("electra", "deberta-v2"):
        for folder in ("model", "generator"):
            broken, whole = (
                load_file(tmp_path / name / out / folder / "model.safetensors") for out in ("broken", "whole")
            )
            assert broken.keys() == whole.keys()
            for key, value in whole.items():
                assert torch.equal(value, broken[key]), (name, folder, key)
        logs = [(tmp_path / name / out / "log.jsonl").read_text().splitlines() for out in ("broken", "whole")]
        values = [[json.loads(line).get("loss.rtd") for line in log] for log in logs]
        assert values[0] == values[1]


def test_shared_tables_lie_in_the_checkpoint_once(corpus, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(corpus, tmp_path / "run", steps=5, also=lambda event: signal.raise_signal(signal.SIGINT))
    place = tmp_path / "run" / "checkpoint"
    names = load_file(place / (place / "current").read_text() / "weights.safetensors").keys()
    assert "encoder.embeddings.tokens.weight" in names
    assert not [name for name in names if name.startswith("generator.embeddings.") and "projection" not in name]
