"""Rates: the schedules as pure functions, layer-wise decay, layers that begin to learn one by one; weight averages."""

import math
from itertools import pairwise

import pytest
import torch

import learner
import tiny
from bothways.errors import BothwaysError
from bothways.learn.average import Average
from bothways.learn.checkpoint import own_tensors
from bothways.learn.levels import levels
from bothways.learn.optimizer import make_optimizer, parameter_groups, rate, rate_scales, set_rate
from bothways.learn.tuning.unfreeze import thaw
from bothways.model.build import build_encoder
from bothways.model.families import families
from test_resume import assert_same_bits, start


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (7, 0), (5, 5), (1, 0), (1, 1)])
def test_all_schedules_warm_up_alike_and_begin_at_the_highest_rate(schedule, steps, warmup):
    rates = [rate(step, steps, warmup, schedule) for step in range(steps)]
    assert rates[:warmup] == pytest.approx([(step + 1) / (warmup + 1) for step in range(warmup)])
    assert all(0 < value <= 1 for value in rates)
    assert all(before >= after for before, after in pairwise(rates[warmup:]))
    if warmup < steps:
        assert rates[warmup] == 1


@pytest.mark.parametrize(("schedule", "half", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)])
def test_schedules_are_half_way_where_they_should_be_and_end_where_they_should(schedule, half, end):
    assert rate(60, 100, 20, schedule) == pytest.approx(half)
    assert rate(100, 100, 20, schedule) == pytest.approx(end, abs=1e-12)


def test_the_cosine_is_half_a_cosine():
    expected = [(1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)]
    assert [rate(step, 40, 0, "cosine") for step in range(40)] == pytest.approx(expected)


def test_a_run_has_the_schedule_that_its_settings_name():
    _, history = learner.run(schedule="constant", steps=12, warmup=0.25, log_every=1)
    assert history.values("rate") == pytest.approx([0.0025, 0.005, 0.0075, *[0.01] * 9])


def scaled(model, decay, head_rate=None):
    """The share of the rate that each parameter gets, by name."""
    optimizer = make_optimizer(model, learner.settings(layer_decay=decay, head_rate=head_rate))
    set_rate(optimizer, 1.0)
    shares = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: shares[id(parameter)] for name, parameter in model.named_parameters()}


def test_each_layer_has_its_share_of_the_rate_of_the_one_above():
    model = tiny.model(("classify",), layers=3)
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    for name, share in scaled(trained, 0.5).items():
        part = name.removeprefix("encoder.")
        level = 4 if part.startswith(("classify", "pooler")) else int(part.split(".")[2]) + 1 if "blocks" in part else 0
        assert share == 0.5 ** (4 - level), name


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_heads_have_their_own_rate_whatever_the_layers_have(decay):
    model = tiny.model(("classify",), layers=3)
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    usual = scaled(trained, decay)
    for name, share in scaled(trained, decay, 30.0).items():
        assert share == (30.0 if name.startswith("classify") else usual[name]), name


def test_a_block_that_all_layers_share_has_the_mean_of_their_shares():
    encoder = build_encoder(tiny.config("albert", layers=4))
    found = scaled(torch.nn.ModuleDict({"encoder": encoder}), 0.5)
    assert found["encoder.stack.blocks.0.attention.query.weight"] == (0.5 + 0.25 + 0.125 + 0.0625) / 4
    assert found["encoder.embeddings.projection.weight"] == 0.5**5


@pytest.mark.parametrize("name", families())
def test_every_parameter_of_every_family_is_at_some_level_once(name):
    encoder = build_encoder(tiny.config(name))
    placed = [parameter for part, _ in levels(encoder) for parameter in part.parameters()]
    assert len(placed) == len({id(parameter) for parameter in placed})
    assert {id(parameter) for parameter in placed} == {id(parameter) for parameter in encoder.parameters()}


def test_without_decay_there_are_the_two_usual_groups():
    groups = parameter_groups(tiny.model(("classify",)).encoder, 0.01)
    assert [(group["weight_decay"], group["scale"]) for group in groups] == [(0.01, 1.0), (0.0, 1.0)]
    assert rate_scales(tiny.model(("classify",)).encoder, 1.0) == {}


def test_muon_decays_by_layers_too():
    encoder = build_encoder(tiny.config("bert", layers=2))
    optimizer = make_optimizer(encoder, learner.settings(optimizer="muon", layer_decay=0.5))
    set_rate(optimizer, 1.0)
    muon = optimizer._parts[0]
    assert [group["lr"] for group in muon.param_groups] == [0.5, 0.25]
    encoder.stack.blocks[0].attention.query.weight.grad = torch.ones_like(
        encoder.stack.blocks[0].attention.query.weight
    )
    optimizer.step()


def test_layers_begin_from_the_last_to_the_first_and_heads_at_once():
    encoder = tiny.model(("classify",), layers=3).encoder
    before_step = thaw(encoder, 0.5)

    def learning(progress):
        before_step(progress)
        parts = {"embeddings": encoder.embeddings, "pooler": encoder.pooler, **dict(enumerate(encoder.stack.blocks))}
        return {name for name, part in parts.items() if all(p.requires_grad for p in part.parameters())}

    assert learning(0.0) == {"pooler"}
    assert learning(0.12) == {"pooler"}
    assert learning(0.125) == {"pooler", 2}
    assert learning(0.37) == {"pooler", 2, 1}
    assert learning(0.375) == {"pooler", 2, 1, 0}
    assert learning(0.5) == {"pooler", 2, 1, 0, "embeddings"}
    assert learning(0.125) == {"pooler", 2}  # it follows from the progress alone
    assert not any(parameter.requires_grad for parameter in encoder.stack.blocks[0].parameters())


def test_a_shared_block_begins_with_the_last_of_its_layers():
    encoder = build_encoder(tiny.config("albert", layers=3))
    before_step = thaw(encoder, 1.0)
    before_step(0.25)
    assert all(parameter.requires_grad for parameter in encoder.stack.parameters())
    assert not any(parameter.requires_grad for parameter in encoder.embeddings.parameters())


def test_what_does_not_learn_does_not_begin_to():
    encoder = build_encoder(tiny.config("bert"))
    encoder.embeddings.requires_grad_(False)
    thaw(encoder, 0.5)(1.0)
    assert not any(parameter.requires_grad for parameter in encoder.embeddings.parameters())


def test_the_average_counts_each_step_less_the_longer_ago_it_was():
    """Written out: the weights after steps 1 to n count decay^(n-1), ..., decay, 1."""
    layer, decay = torch.nn.Linear(3, 2), 0.7
    average, seen = Average(layer, decay), []
    for step in range(1, 8):
        with torch.no_grad():
            layer.weight.normal_()
        seen.append(layer.weight.detach().clone())
        average.update(step)
        counts = torch.tensor([decay ** (step - 1 - place) for place in range(step)])
        expected = (torch.stack(seen) * counts[:, None, None]).sum(0) / counts.sum()
        torch.testing.assert_close(average.values["weight"], expected)
    own = layer.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(layer.weight, expected)
    assert torch.equal(layer.weight, own)


def test_the_average_is_what_is_measured_and_kept():
    weights = []
    model, history = learner.run(
        callbacks=[lambda event: weights.append(own_tensors(event.model)["mix.weight"].clone())], average=0.9
    )
    counts = torch.tensor([0.9 ** (59 - place) for place in range(60)])
    expected = (torch.stack(weights) * counts[:, None, None]).sum(0) / counts.sum()
    torch.testing.assert_close(model.mix.weight.detach(), expected)
    measured = learner.held_out(model.eval()).run()
    assert history.evaluations[-1]["loss"] == pytest.approx(measured["loss"])


def test_training_itself_does_not_depend_on_the_average():
    _, plain = learner.run()
    _, averaged = learner.run(average=0.9)
    assert plain.values("loss") == averaged.values("loss")
    assert plain.evaluations[-1]["loss"] != averaged.evaluations[-1]["loss"]


def test_the_best_weights_are_the_average_of_their_step(tmp_path):
    model, history = learner.run(tmp_path, metric="loss", average=0.9)
    assert history.best == pytest.approx(learner.held_out(model.eval()).run()["loss"])
    again, same = learner.run(tmp_path, metric="loss", average=0.9)  # a finished run yields them at once
    assert_same_bits(own_tensors(again), own_tensors(model))
    assert same.best == history.best


def test_a_run_with_an_average_that_is_stopped_goes_on_to_the_bit(tmp_path):
    import signal

    expected, _ = learner.run(average=0.95)
    stop = [lambda event: event.step == 17 and signal.raise_signal(signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        learner.run(tmp_path, average=0.95, callbacks=stop)
    found, _ = learner.run(tmp_path, average=0.95)
    assert_same_bits(own_tensors(found), own_tensors(expected))


def test_killed_with_an_average_and_cosine_a_run_gives_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    changes = {"average": 0.9, "schedule": "cosine"}
    learner.run(whole, metric="loss", save_every=4, **changes)
    assert start(broken, "SIGKILL:17", "SIGKILL:0", settings=changes)[0] == [-9, 0]
    for name in ("weights", "optimizer", "average"):
        (one,), (other,) = ((out / "checkpoint").glob(f"?/{name}.safetensors") for out in (whole, broken))
        assert one.read_bytes() == other.read_bytes(), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule": "cosin"}, "schedule must be linear or cosine or constant, not 'cosin'; did you mean 'cosine'"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0, at most 1, not 0.0"),
        ({"head_rate": 0.0}, "head_rate must be above 0, not 0.0"),
        ({"average": 1.0}, "average must be between 0 and 1, not 1.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, said):
    with pytest.raises(BothwaysError) as error:
        learner.settings(**changes)
    assert said in str(error.value)
