"""The training loop: exact sums, an honest schedule, early stop, time budgets, and a guard that names the culprit."""

import math
import warnings

import pytest
import torch
from torch import nn

import learner
from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors
from bothways.learn.loop import Evaluation, LoopSettings, train
from bothways.learn.pace import fit
from bothways.learn.tally import count_items
from bothways.run.precision import resolve_precision


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def test_it_learns():
    _, history = learner.run(steps=400)
    assert history.values("loss")[-1] < 0.5 * history.values("loss")[0]
    assert history.evaluations[-1]["accuracy.parity"] > 0.95
    assert history.stopped == "all steps taken"
    assert history.steps == history.planned == 400


def test_accumulated_over_unequal_items_the_gradient_is_that_of_one_batch():
    """Items of 1 and 7 sequences, one of them without any prediction of one kind."""
    from bothways.batch import make_batch
    from bothways.learn.loop import _accumulate
    from bothways.learn.parallel import Alone

    items = [learner.make_item(1, sequences=1), learner.make_item(2, sequences=7), learner.make_item(3, sequences=2)]
    items[2][1]["places"] = items[2][1]["places"][:0]
    model, objective = learner.Network(dropout=0.0), learner.NextAndParity()
    _accumulate(Alone(model), objective, items, 0, resolve_precision("float32", "cpu"))
    apart = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    sequences, places, before = [], [], 0
    for batch, targets in items:
        sequences.append(batch.token_ids)
        places += [before + place for place in targets["places"]]
        before += batch.tokens
    model.zero_grad()
    joined = make_batch([torch.cat([torch.as_tensor(part) for part in sequences]).numpy()]), {"places": places}
    objective.backward(model, joined, {"next": len(places), "parity": before})
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(apart[name], parameter.grad, rtol=1e-5, atol=1e-7)


def test_a_step_without_predictions_changes_nothing_but_weight_decay():
    class Nothing(learner.Steps):
        def next_step(self, progress):
            items = super().next_step(progress)
            return [(batch.with_tokens(batch.token_ids[:0]), {"places": batch.starts[:0]}) for batch, _ in items]

    model = learner.Network()
    before = {name: tensor.clone() for name, tensor in own_tensors(model).items()}
    _, history = learner.run(model=model, stream=Nothing(), steps=3, weight_decay=0.0)
    assert same(before, own_tensors(model))
    assert set(history.values("loss")) == {0.0}


def test_logged_means_are_means_over_predictions_since_the_line_before():
    seen = []
    stream, objective = learner.Steps(), learner.NextAndParity()
    _, history = learner.run(stream=stream, callbacks=[lambda event: seen.append(event.values)], steps=6)
    stream.restore({"at": 0})
    counts = [count_items(objective, stream.next_step(0.0))["next"] for _ in range(3)]
    expected = sum(n * values["loss.next"] for n, values in zip(counts, seen[:3], strict=True)) / sum(counts)
    assert history.training[0]["loss.next"] == pytest.approx(expected, rel=1e-12)
    assert history.training[0]["step"] == 3
    assert history.training[1]["tokens"] > history.training[0]["tokens"]
    assert history.training[0]["epoch"] == pytest.approx(0.3)
    assert history.training[0]["loss"] == pytest.approx(
        history.training[0]["loss.next"] + history.training[0]["loss.parity"]
    )


def test_gradients_are_clipped_over_all_parameters_together(monkeypatch):
    """What the optimizer sees has length 1 at most, and the direction it had."""
    seen = []

    class Watched(torch.optim.AdamW):
        def step(self):
            grads = [parameter.grad.flatten() for group in self.param_groups for parameter in group["params"]]
            seen.append(torch.cat(grads).clone())
            super().step()

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    lengths = []
    learner.run(steps=1, clip=math.inf, callbacks=[lambda event: lengths.append(event.values["gradient_norm"])])
    learner.run(steps=1, clip=0.1)
    free, clipped = seen
    assert float(free.norm()) == pytest.approx(lengths[0], rel=1e-5)
    assert float(clipped.norm()) == pytest.approx(0.1, rel=1e-4)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm())


def test_the_rate_rises_for_a_tenth_and_falls_to_nearly_nothing():
    rates = []
    learner.run(steps=40, learning_rate=1.0e-3, callbacks=[lambda event: rates.append(event.values["rate"])])
    assert rates.index(max(rates)) == 4
    assert max(rates) == pytest.approx(1e-3)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert 0 < rates[0] < 2.1e-4
    assert 0 < rates[-1] < 3e-5


def test_precision_bf16_computes_in_bf16_and_keeps_float32_weights():
    kinds = []

    class Watched(learner.Network):
        def forward(self, batch):
            hidden = super().forward(batch)
            kinds.append(self.mix(hidden.detach()).dtype)
            return hidden

    model, history = learner.run(model=Watched(), precision="bf16", steps=100)
    assert set(kinds) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    _, exact = learner.run(steps=100)
    assert history.values("loss")[-1] == pytest.approx(exact.values("loss")[-1], rel=0.1)


def test_evaluation_runs_without_dropout_and_gradient_and_training_goes_on_with_them():
    model, modes = learner.Network(), []

    def measure():
        modes.append((model.training, torch.is_grad_enabled()))
        return {"loss": 1.0}

    evaluation = Evaluation(("loss",), measure)
    train(
        model,
        learner.NextAndParity(),
        learner.Steps(),
        learner.settings(steps=10, evaluate_every=4),
        evaluate=evaluation,
    )
    assert modes == [(False, False)] * 3  # steps 4, 8 and the last
    assert model.training


def test_evaluations_come_at_a_share_of_the_run():
    _, history = learner.run(steps=20, evaluate_every=0.25)
    assert [line["step"] for line in history.evaluations] == [5, 10, 15, 20]


def sequence_of(values):
    values = iter(values)
    return Evaluation(("score", "loss"), lambda: {"score": next(values), "loss": 0.0})


def test_it_stops_early_and_ends_with_the_best_weights(tmp_path):
    for out in (None, tmp_path):
        model, kept = learner.Network(), {}

        def keep(event, kept=kept, model=model):
            kept[event.step] = {name: tensor.clone() for name, tensor in own_tensors(model).items()}

        history = train(
            model,
            learner.NextAndParity(),
            learner.Steps(),
            learner.settings(metric="score", patience=2, evaluate_every=5),
            out=out,
            evaluate=sequence_of([0.1, 0.5, 0.3, 0.5, 0.9]),
            callbacks=[keep],
        )
        assert history.stopped == "no better metric"
        assert (history.best, history.best_step, history.steps) == (0.5, 10, 20)
        assert same(own_tensors(model), kept[10])


def test_a_metric_named_loss_is_better_when_lower():
    assert learner.settings(metric="loss.next").improves(0.1, 0.2)
    assert not learner.settings(metric="accuracy").improves(0.1, 0.2)
    assert learner.settings(metric="accuracy", better="lower").improves(0.1, 0.2)
    assert not learner.settings(metric="loss").improves(math.nan, None)
    assert learner.settings(metric="accuracy").improves(0.1, None)


def test_an_unknown_metric_is_refused_before_the_first_step():
    def fail(event):
        raise AssertionError("a step was taken")

    with pytest.raises(
        BothwaysError, match=r"no metric 'acuracy.next'; measured are loss.*did you mean 'accuracy.next'"
    ):
        learner.run(metric="acuracy.next", callbacks=[fail])
    with pytest.raises(BothwaysError, match="needs an evaluation"):
        train(learner.Network(), learner.NextAndParity(), learner.Steps(), learner.settings(metric="loss"))


def test_a_callback_can_stop_the_run_in_good_order():
    _, history = learner.run(callbacks=[lambda event: event.step == 13 and event.stop()])
    assert (history.stopped, history.steps) == ("callback", 13)
    assert history.evaluations[-1]["step"] == 13


def test_the_end_of_the_data_ends_the_run(tmp_path):
    _, history = learner.run(tmp_path, stream=learner.Steps(length=25))
    assert (history.stopped, history.steps, history.planned) == ("no more data", 25, 60)
    assert history.evaluations[-1]["step"] == 25


def test_a_time_budget_becomes_a_number_of_steps_that_repeats_the_run():
    timed, history = learner.run(steps=None, minutes=0.006)
    assert history.steps == history.planned >= 3
    counted, again = learner.run(steps=history.steps)
    assert same(own_tensors(timed), own_tensors(counted))
    strip = [{**line, "seconds": 0, "tokens_per_second": 0, "waiting": 0} for line in history.training]
    assert strip == [{**line, "seconds": 0, "tokens_per_second": 0, "waiting": 0} for line in again.training]


@pytest.mark.parametrize(
    ("every", "evaluation", "steps", "interval"),
    [
        (None, 0.0, 100, 100),
        (None, 2.0, 80, 80),  # one evaluation at the end
        (0.1, 0.1, 90, 9),  # ten, which take a tenth of the time
        (0.1, 1.0, 80, 40),  # ten would take all of it, so two
        (0.1, 40.0, 50, 50),  # a single one takes more than all of it, and training half
        (10, 0.1, 90, 10),
        (10, 1.0, 80, 40),
        (1000, 1.0, 99, 1000),  # only at the end, which is soon
    ],
)
def test_ten_seconds_hold_so_many_steps_of_a_tenth_with_their_evaluations(every, evaluation, steps, interval):
    found = fit(10.0, 0.1, evaluation, learner.settings(steps=None, minutes=1, evaluate_every=every))
    assert found == (pytest.approx(steps, abs=1), pytest.approx(interval, abs=1))


def test_steps_and_minutes_together_end_with_whichever_is_first():
    assert learner.run(steps=5, minutes=10)[1].steps == 5


def test_a_time_budget_survives_an_interruption(tmp_path):
    def interrupt(event):
        if event.step == 5:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        learner.run(tmp_path, steps=None, minutes=0.006, save_every=2, callbacks=[interrupt])
    _, history = learner.run(tmp_path, steps=None, minutes=0.006, save_every=2)
    model, _ = learner.run(steps=history.steps)
    assert same(own_tensors(learner.run(tmp_path, steps=None, minutes=0.006, save_every=2)[0]), own_tensors(model))


class Exploding(nn.Module):
    """Divides by zero in the forward or the backward pass, from a step on."""

    def __init__(self, where):
        super().__init__()
        self.where, self.calls, self.armed_at = where, 0, 7

    def forward(self, hidden):
        self.calls += self.training and hidden.requires_grad
        if self.calls < self.armed_at:
            return hidden
        if self.where == "forward":
            return hidden / torch.zeros(())
        return hidden + torch.sqrt(hidden.detach() * 0 + 0 * hidden).sum()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("forward", r"step 4: the length of the gradient is nan; the first layer whose output is not finite is mix.1;"),
        ("backward", r"step 4: the length of the gradient is nan; .*but not the gradient of mix.0.bias"),
    ],
)
def test_the_guard_names_the_step_and_the_first_layer_and_keeps_the_checkpoint(tmp_path, where, said):
    model = learner.Network()
    model.mix = nn.Sequential(model.mix, Exploding(where))
    with pytest.raises(BothwaysError, match=said) as error:
        learner.run(tmp_path, model, save_every=3)
    assert "lower the learning rate (here" in str(error.value)
    assert "the checkpoint of step 3 is kept in" in str(error.value)
    assert all(torch.isfinite(tensor).all() for tensor in own_tensors(model).values())


def test_the_guard_names_weights_that_are_not_finite():
    model = learner.Network()
    with torch.no_grad():
        model.norm.weight[3] = math.inf
    with pytest.raises(BothwaysError, match=r"step 1: .* is norm \(its weight is not finite\)"):
        learner.run(model=model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": None}, "give steps or minutes"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"warmup": 0.1, "warmup_steps": 10}, "warmup and warmup_steps"),
        ({"save_every": 3, "save_minutes": 1.0}, "save_every and save_minutes"),
        ({"warmup": 10}, "warmup must be a share"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"clip": 0.0}, "clip must be above 0"),
        ({"precision": "bf61"}, "did you mean 'bf16'"),
        ({"patience": 3}, "give metric and evaluate_every"),
        ({"better": "lower"}, "give metric as well"),
        ({"evaluate_every": 2.5}, "evaluate_every must be steps or a share"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"seed": -1}, "seed"),
        ({"minutes": -1.0}, "minutes must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(changes, said):
    with pytest.raises(BothwaysError) as error:
        learner.settings(**changes)
    assert said in str(error.value)


def test_settings_refuse_names_they_do_not_know():
    with pytest.raises(TypeError):
        LoopSettings(learning_rate=1.0, steps=1, learningrate=2.0)


def test_a_frozen_model_is_refused():
    model = learner.Network().requires_grad_(False)
    with pytest.raises(BothwaysError, match="no parameter that may change"):
        learner.run(model=model)


def test_signal_handlers_are_put_back():
    import signal

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    learner.run(steps=2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_it_trains_outside_the_main_thread():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        assert pool.submit(learner.run, steps=3).result()[1].steps == 3


def test_nothing_is_said_twice_by_torch():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner.run(steps=3, precision="bf16")
