"""Stopped or killed at any step and resumed, a run gives the same bits as one that was never stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import learner
from bothways.errors import BothwaysError
from bothways.learn import loop as loop_module
from bothways.learn.checkpoint import own_tensors
from bothways.model.parts.stack import Stack

CLOCK = ("seconds", "tokens_per_second", "waiting")


def start(out, *deaths, settings=None):
    command = [sys.executable, learner.__file__, str(out), *deaths]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LEARNER": json.dumps(settings or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return [int(line) for line in done.stdout.split()], done.stderr


def log(out):
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def saved(out):
    place = out / "checkpoint" / (out / "checkpoint" / "current").read_text()
    tensors = load_file(place / "weights.safetensors") | load_file(place / "optimizer.safetensors")
    [best] = map(load_file, (out / "best").iterdir())
    return tensors | {f"best/{name}": tensor for name, tensor in best.items()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    assert start(out)[0] == [0]
    return out


def test_killed_three_times_and_stopped_twice_a_run_gives_the_same_bits(whole, tmp_path):
    broken = tmp_path / "broken"
    calls = np.random.default_rng().integers(2, 24, 3)  # two a step: the middle of one of the next twelve steps
    deaths = [f"SIGKILL:{at}" for at in calls]
    codes, said = start(broken, *deaths, "SIGTERM:7", "SIGINT:5", "SIGKILL:0")
    assert codes == [-9, -9, -9, 0, -2, 0]
    assert log(broken) == log(whole), calls
    assert_same_bits(saved(broken), saved(whole))
    stops = [line for line in said.splitlines() if "Stopped after step" in line]
    assert len(stops) == 3  # SIGTERM's sentence, SIGINT's, and that of the KeyboardInterrupt that Python shows
    assert all("the same command continues it" in line for line in stops)


def test_another_clock_and_another_locale_change_nothing(whole, tmp_path, monkeypatch):
    broken = tmp_path / "gebrochen-é"
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "UTC", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert start(broken, "SIGKILL:33")[0] == [-9]
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert start(broken)[0] == [0]
    assert log(broken) == log(whole)
    assert_same_bits(saved(broken), saved(whole))


@pytest.fixture
def stopped(tmp_path):
    """A run that was asked to stop after step 17."""
    stop_after(tmp_path, 17)
    return tmp_path


def stop_after(out, step, **changes):
    model = learner.Network()

    def interrupt(event):
        if event.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=f"Stopped after step {step} of 60"):
        learner.run(out, model, callbacks=[interrupt], **changes)
    return model


def test_the_log_goes_on_in_the_middle_of_its_means(stopped):
    """Step 17 is no logged step; the means of steps 16 to 18 need what was summed before the stop."""
    model, history = learner.run(stopped)
    whole, expected = learner.run()
    assert [line["loss.next"] for line in history.training] == [line["loss.next"] for line in expected.training]
    assert_same_bits(own_tensors(model), own_tensors(whole))
    assert history.steps == 60
    assert history.stopped == "all steps taken"


def test_a_finished_run_is_not_trained_again(stopped, monkeypatch):
    model, history = learner.run(stopped)
    monkeypatch.setattr(loop_module, "_accumulate", None)
    again, same = learner.run(stopped)
    assert_same_bits(own_tensors(again), own_tensors(model))
    assert same.training == history.training


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 2e-2}, "learning_rate is 0.01 there and 0.02 here"),
        ({"steps": 61}, "steps is 60 there and 61 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"precision": "bf16"}, "precision is 'float32' there and 'bf16' here"),
    ],
)
def test_another_run_is_refused_by_the_setting_that_differs(stopped, changes, said):
    with pytest.raises(BothwaysError, match="holds another run") as error:
        learner.run(stopped, **changes)
    assert said in str(error.value)
    assert "--out or --overwrite" in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("steps", 2.5, "a whole number"),
        ("steps", float("inf"), "a whole number"),
        ("evaluate_every", float("inf"), "steps or a share"),
        ("seed", 0.5, "a whole number"),
    ],
)
def test_numbers_that_would_never_come_up_are_refused(setting, value, said):
    with pytest.raises(BothwaysError, match=f"{setting} must be {said}"):
        learner.run(None, **{setting: value})


def test_a_rate_that_was_lowered_once_is_forgotten_with_the_rate(stopped):
    state = stopped / "checkpoint" / (stopped / "checkpoint" / "current").read_text().strip() / "state.json"
    content = json.loads(state.read_text())
    content["loop"]["rate_share"] = 0.5
    state.write_text(json.dumps(content))
    rates = []
    learner.run(stopped, learning_rate=2e-2, force=True, callbacks=[lambda event: rates.append(event.values["rate"])])
    expected = []
    learner.run(None, learning_rate=2e-2, callbacks=[lambda event: expected.append(event.values["rate"])])
    assert rates == expected[-len(rates) :]


def test_how_often_is_saved_may_change(stopped):
    model, _ = learner.run(stopped, save_every=7)
    assert_same_bits(own_tensors(model), own_tensors(learner.run()[0]))


def test_another_model_is_refused_by_name(stopped):
    other = learner.Network()
    other.more = torch.nn.Linear(2, 2)
    with pytest.raises(BothwaysError, match=r"other tensors: more\.bias, more\.weight"):
        learner.run(stopped, other)


def test_a_second_signal_stops_at_once(tmp_path):
    class Impatient(learner.NextAndParity):
        def backward(self, model, item, totals):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("not reached")

    with pytest.raises(SystemExit) as stop:
        learner.run(tmp_path, objective=Impatient())
    assert stop.value.code == 143


def test_a_stop_without_a_folder_says_that_nothing_was_saved():
    def interrupt(event):
        import signal

        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        learner.run(callbacks=[interrupt])


def test_the_same_steps_follow_from_the_step_alone(tmp_path):
    """Whatever the callbacks draw from torch's, NumPy's or Python's generators changes nothing."""
    import random

    def draw(event):
        torch.rand(3), np.random.rand(2), random.random()  # noqa: NPY002

    assert_same_bits(own_tensors(learner.run(callbacks=[draw])[0]), own_tensors(learner.run()[0]))


def test_bf16_resumes_to_the_bit_too(tmp_path):
    stop_after(tmp_path, 22, precision="bf16")
    model, _ = learner.run(tmp_path, precision="bf16")
    assert_same_bits(own_tensors(model), own_tensors(learner.run(precision="bf16")[0]))


def test_the_folder_holds_no_pickle(stopped):
    kinds = {path.suffix for path in Path(stopped).rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jsonl", ""}


class Deep(learner.Network):
    """The network with its linear layer in a stack, which Muon looks for."""

    def __init__(self):
        super().__init__()
        self.stack = Stack([self.mix], [0])


def test_a_run_with_muon_resumes_to_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected, _ = learner.run(whole, Deep(), optimizer="muon")
    model = Deep()
    stop = [lambda event: event.step == 17 and signal.raise_signal(signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        learner.run(broken, model, callbacks=stop, optimizer="muon")
    found, _ = learner.run(broken, Deep(), optimizer="muon")
    assert_same_bits(own_tensors(found), own_tensors(expected))
    plain, _ = learner.run(None, Deep())
    assert not torch.equal(plain.mix.weight, expected.mix.weight)
