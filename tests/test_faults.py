"""What goes wrong while a run trains costs time at most: it stops in a sentence, and goes on as if nothing had been."""

import errno
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import bothways as bw
import learner
import ranks
import tiny
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.learn import checkpoint as checkpoint_module
from bothways.learn import start as start_module
from bothways.learn.checkpoint import own_tensors
from bothways.learn.start import prepared_corpus
from bothways.run.files import alone
from bothways.text.shards import Corpus, LeftOutError
from test_resume import assert_same_bits, log


class IllAt(nn.Module):
    """Divides by zero in some calls of the training."""

    def __init__(self, *calls):
        super().__init__()
        self.calls, self.ill = 0, calls

    def forward(self, hidden):
        self.calls += self.training and hidden.requires_grad
        return hidden / 0 if self.calls in self.ill else hidden


def ill_network(*calls):
    model = learner.Network()
    model.mix = nn.Sequential(model.mix, IllAt(*calls))
    return model


def rates(history):
    return {line["step"]: line["rate"] for line in history.training}


def test_after_nan_a_run_goes_back_once_and_on_with_half_the_rate(tmp_path, capfd):
    """Two items a step: the 19th call is in step 10, which is looked at once more; step 8 was the last saved."""
    model, history = learner.run(tmp_path, ill_network(19, 20, 21, 22), save_every=4, log_every=1)
    _, well = learner.run(log_every=1)
    assert history.steps == 60
    assert [line["step"] for line in history.training] == list(range(1, 61))  # none is there twice
    assert all(torch.isfinite(tensor).all() for tensor in own_tensors(model).values())
    shares = [rates(history)[step] / rates(well)[step] for step in range(1, 61)]
    assert shares == pytest.approx([1.0] * 8 + [0.5] * 52)
    [line] = [line for line in log(tmp_path) if line["event"] == "rollback"]
    assert line["step"] == 8
    assert "step 10: " in line["why"]
    assert "mix.1" in line["why"]
    assert "back to step 8, and on with 50% of the learning rate, this once" in capfd.readouterr().err


def test_the_second_nan_ends_the_run_and_says_so(tmp_path):
    with pytest.raises(BothwaysError, match=r"step 9: .*the rate was lowered once already; lower the learning rate"):
        learner.run(tmp_path, ill_network(*range(19, 999)), save_every=4)


def test_without_a_folder_the_step_with_nan_is_left_out():
    model, history = learner.run(model=ill_network(19, 20, 21, 22))
    assert history.steps == 60
    assert all(torch.isfinite(tensor).all() for tensor in own_tensors(model).values())


def test_a_disk_that_fills_up_costs_no_more_than_the_steps_since_the_checkpoint(tmp_path, monkeypatch):
    whole, _ = learner.run(tmp_path / "whole", save_every=7)
    real, calls = checkpoint_module.save_file, []

    def fills_up(tensors, path):
        calls.append(path)
        if len(calls) > 5:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", fills_up)
    with pytest.raises(BothwaysError, match="because the disk is full; what was saved before is kept"):
        learner.run(tmp_path / "run", save_every=7)
    monkeypatch.setattr(checkpoint_module, "save_file", real)
    model, _ = learner.run(tmp_path / "run", save_every=7)
    assert_same_bits(own_tensors(model), own_tensors(whole))
    assert log(tmp_path / "run") == log(tmp_path / "whole")


def test_a_clock_that_is_set_back_changes_nothing(tmp_path, monkeypatch):
    clock = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    model, history = learner.run(tmp_path, save_minutes=1e-9)
    monkeypatch.undo()
    assert_same_bits(own_tensors(model), own_tensors(learner.run()[0]))
    assert history.seconds >= 0


def test_two_runs_in_one_folder_are_refused(tmp_path):
    out = tmp_path / "run"
    with (
        alone(out),
        pytest.raises(BothwaysError, match=r"another run works in .*run at this moment: wait for its end, or choose"),
    ):
        bw.pretrain(["some text"], out=out)
    assert not out.exists()  # nothing was left


def test_a_killed_run_keeps_nobody_out(tmp_path):
    program = (
        "import os, pathlib, sys\n"
        "from bothways.run.files import alone\n"
        "with alone(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")])
    assert killed.returncode == -9
    with alone(tmp_path / "run"):
        pass


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    with pytest.raises(BothwaysError, match=r"cannot be written .*: choose another --out"):
        bw.pretrain(["some text"], out="/proc/no-such-run")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(BothwaysError, match=r"is a file, not a folder: choose another --out"):
        bw.pretrain(["some text"], out=tmp_path / "file" / "run")


@pytest.fixture
def damaged(tmp_path):
    """A corpus of several shards, one byte of one of which has changed."""
    folder = ranks.corpus(tmp_path / "corpus").folder
    shard = folder / "tokens-00002.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    return folder


def test_a_corrupt_shard_is_named(damaged):
    corpus = Corpus.open(damaged)
    with pytest.raises(BothwaysError, match=r"tokens-00002\.bin, or its sentences' boundaries, are not what was prepa"):
        corpus.read(0, corpus.tokens)
    begin = sum(shard.tokens for shard in corpus.index.shards[:2])
    assert len(corpus.read(0, begin)) == begin  # all else can be read


def test_a_corrupt_shard_is_left_out_where_that_is_asked_for(damaged):
    corpus = Corpus.open(damaged, "skip")
    begin, end = (sum(shard.tokens for shard in corpus.index.shards[:n]) for n in (2, 3))
    with pytest.warns(BothwaysWarning, match=r"tokens-00002\.bin.*; its examples are left out"):
        found = corpus.readable(np.array([0, begin - 1, begin, end]), np.array([begin, begin + 1, end, end + 9]))
    assert found.tolist() == [True, False, False, True]
    with pytest.raises(LeftOutError):
        corpus.read(begin, begin + 1)


def test_training_stops_at_a_corrupt_shard_or_goes_on_without_it(damaged, tmp_path):
    given = ranks.settings(damaged, tmp_path / "run", steps=2)
    with pytest.raises(BothwaysError, match=r"tokens-00002\.bin.*leave such shards out: --on-corrupt skip"):
        bw.pretrain(given.pop("corpus"), **given)
    given["out"] = tmp_path / "second"
    with pytest.warns(BothwaysWarning, match=r"tokens-00002\.bin.*; its examples are left out"):
        trained = bw.pretrain(damaged, **given, on_corrupt="skip")
    assert math.isfinite(trained.scores["loss"])


@pytest.mark.parametrize("first", [True, False])
def test_a_corrupt_shard_of_a_corpus_of_the_run_is_left_out_too(first, tmp_path, monkeypatch):
    def prepared():
        return prepared_corpus(tiny.sentences(60), tmp_path, tiny.tokenizer(), 0, True, "text", on_corrupt="skip")

    shard = prepared().folder / "tokens-00000.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    if not first:  # of several processes
        monkeypatch.setattr(start_module, "here", lambda: SimpleNamespace(in_turn=lambda make, find: find()))
    with pytest.warns(BothwaysWarning, match=r"tokens-00000\.bin.*; its examples are left out"):
        assert not prepared().readable(np.array([0]), np.array([1])).any()


def stop_at(out, step, **changes):
    def stop(event):
        if event.step == step:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        learner.run(out, callbacks=[stop], save_every=step - 1, **changes)


def test_other_settings_are_refused_each_by_name(tmp_path):
    stop_at(tmp_path, 20)
    each = r"learning_rate is 0\.01 there and 0\.02 here; steps is 60 there and 80 here.*or --force to go on with them"
    with pytest.raises(BothwaysError, match=each):
        learner.run(tmp_path, learning_rate=0.02, steps=80)
    with pytest.raises(BothwaysError, match=r"--force does not help, for another seed would make the checkpoint mean"):
        forced(tmp_path, seed=1, steps=80)


def forced(out, **changes):
    from bothways.learn.loop import train

    model = learner.Network()
    evaluate = learner.held_out(model)
    objective, stream = learner.NextAndParity(), learner.Steps()
    return train(model, objective, stream, learner.settings(**changes), out=out, evaluate=evaluate, force=True)


def test_forced_a_run_goes_on_with_other_settings_and_says_so_in_its_log(tmp_path):
    stop_at(tmp_path, 20)
    history = forced(tmp_path, learning_rate=0.02, steps=80)
    assert history.steps == 80
    [line] = [line for line in log(tmp_path) if line["event"] == "forced"]
    assert line["step"] == 19
    assert set(line["changed"]) == {"learning_rate", "steps"}
    stop_at(tmp_path / "late", 30)
    with pytest.raises(BothwaysError, match=r"has taken 29 steps already, which leaves none of steps=10: give more"):
        forced(tmp_path / "late", steps=10)


def test_sigterm_without_a_folder_is_no_success():
    """Nothing was saved, so the exit code is that of a process that was ended."""
    program = "import learner, os\nlearner.run(callbacks=[lambda event: os.kill(os.getpid(), 15)])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(learner.__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
