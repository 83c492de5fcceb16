"""Forced on, a run decides again what had followed from its settings of before."""

import json

import pytest
import torch

import learner
from bothways.errors import BothwaysError
from bothways.learn import loop
from bothways.learn.checkpoint import own_tensors
from bothways.learn.keeper import _steps_in_all
from bothways.learn.state import LoopState

SCORES = {"accuracy": [0.2, 0.5, 0.3, 0.4, 0.4, 0.4], "mcc": [0.9, 0.9, 0.1, 0.0, 0.2, 0.0]}
"""What the evaluations after the steps 10, 20 ... 60 say."""


def run(out, model=None, *callbacks, **changes):
    """A run with the evaluations of `SCORES`, which goes on with any settings."""
    stream = learner.Steps()

    def measure():
        return {name: values[(stream.at - 1) // 10 % 6] for name, values in SCORES.items()}

    return loop.train(
        model or learner.Network(),
        learner.NextAndParity(),
        stream,
        learner.settings(**{"save_every": 5, **changes}),
        out=out,
        evaluate=loop.Evaluation(tuple(SCORES), measure),
        callbacks=callbacks,
        force=True,
    )


def break_off(out, step, **changes):
    """Leaves a run whose last checkpoint is at most five steps before `step`."""

    def stop(event):
        if event.step == step:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(out, None, stop, **changes)


def saved(out):
    place = out / "checkpoint" / (out / "checkpoint" / "current").read_text() / "state.json"
    return place, json.loads(place.read_text())


@pytest.mark.parametrize(
    ("changes", "best", "step"),
    [
        ({"metric": "mcc"}, 0.2, 50),
        ({"metric": "accuracy", "better": "lower"}, 0.3, 30),
        ({"metric": None}, None, None),
    ],
)
def test_the_best_so_far_is_forgotten_where_best_means_something_else(changes, best, step, tmp_path):
    """Else a run would end with the weights that had the best accuracy, at step 20, and call them those of best mcc."""
    break_off(tmp_path, 26, metric="accuracy")
    weights, model = {}, learner.Network()

    def keep(event):
        weights[event.step] = {name: tensor.clone() for name, tensor in own_tensors(event.model).items()}

    history = run(tmp_path, model, keep, **changes)
    assert (history.best, history.best_step) == (best, step)
    for name, tensor in own_tensors(model).items():
        assert torch.equal(tensor, weights[step or 60][name]), name


def test_a_run_that_ended_for_want_of_a_better_metric_goes_on_by_another(tmp_path):
    first = run(tmp_path, metric="mcc", patience=1)
    assert (first.steps, first.stopped) == (20, "no better metric")
    second = run(tmp_path, metric="accuracy", patience=1)
    assert (second.steps, second.best) == (50, 0.4)


def test_a_run_that_ended_for_want_of_a_better_metric_has_its_patience_again(tmp_path):
    assert run(tmp_path, metric="mcc", patience=2).steps == 30
    assert run(tmp_path, metric="mcc", patience=2, learning_rate=1e-4).steps == 50


def test_a_run_that_is_forced_on_is_the_forced_one_at_once(tmp_path):
    """Its best weights replace those of before, so the checkpoint must no longer tell of those."""
    break_off(tmp_path, 26, metric="accuracy")
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, None, raise_power_cut, metric="mcc")
    _, state = saved(tmp_path)
    assert (state["identity"]["metric"], state["loop"]["best"], state["loop"]["step"]) == ("mcc", None, 25)
    assert [line["event"] for line in map(json.loads, (tmp_path / "log.jsonl").open())].count("forced") == 1


def test_the_best_weights_are_not_those_of_steps_that_were_given_up(tmp_path, monkeypatch):
    """Step 20 did best and its weights were kept, but what goes on from step 15 never had them."""
    weights = {}

    def keep(event):
        weights[event.step] = {name: tensor.clone() for name, tensor in own_tensors(event.model).items()}
        if event.step == 26:
            raise_power_cut(event)

    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, None, keep, metric="accuracy", save_every=15)
    monkeypatch.setitem(SCORES, "accuracy", [0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    model = learner.Network()
    history = run(tmp_path, model, metric="accuracy", save_every=15, learning_rate=1e-3)
    assert (history.best, history.best_step) == (0.2, 10)
    for name, tensor in own_tensors(model).items():
        assert torch.equal(tensor, weights[10][name]), name
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["step-10.safetensors"]


def raise_power_cut(event):
    raise RuntimeError("power cut")


@pytest.fixture
def by_minutes(tmp_path, monkeypatch):
    """A run of one minute, for which 60 steps and evaluations every 10 were planned; 20 steps have taken 30 seconds."""
    monkeypatch.setattr(loop, "decide_pace", lambda *given: (60, 10))
    break_off(tmp_path, 21, steps=None, minutes=1.0)
    place, state = saved(tmp_path)
    state["loop"]["seconds"] = 30.0
    place.write_text(json.dumps(state))
    return tmp_path


def test_evaluations_of_a_run_by_minutes_come_as_often_as_is_forced(by_minutes):
    history = run(by_minutes, steps=None, minutes=1.0, evaluate_every=15)
    assert (history.steps, history.interval) == (60, 15)
    assert [line["step"] for line in history.evaluations] == [10, 20, 30, 45, 60]


def test_a_run_gets_the_steps_that_fit_into_other_minutes_at_its_pace(by_minutes):
    history = run(by_minutes, steps=None, minutes=0.75, evaluate_every=0.2)
    assert (history.steps, history.planned, history.interval) == (30, 30, 6)


def test_steps_come_from_whichever_ends_first():
    state = LoopState(steps=60, step=20, seconds=30.0)
    for given, steps in (
        ({"minutes": 2.0}, 80),
        ({"minutes": 2.0, "steps": 70}, 70),
        ({"minutes": 2.0, "steps": 90}, 80),
        ({"steps": 90}, 90),
    ):
        assert _steps_in_all(state, learner.settings(**{"steps": None, **given})) == steps
    untouched = LoopState(steps=60)
    assert _steps_in_all(untouched, learner.settings(steps=None, minutes=2.0)) == 0, "the loop has to try it out"


def test_an_end_that_lies_behind_is_refused(by_minutes):
    for given, told in (
        ({"minutes": 0.5}, r"has taken 0\.5 minutes already, which leaves no step of minutes=0\.5: give more"),
        ({"minutes": 1.0, "steps": 20}, "has taken 20 steps already, which leaves none of steps=20: give more"),
    ):
        with pytest.raises(BothwaysError, match=told):
            run(by_minutes, **{"steps": None, **given})
