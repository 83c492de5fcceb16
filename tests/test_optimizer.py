"""AdamW's groups and schedule."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from bothways.learn.optimizer import make_optimizer, parameter_groups, rate, set_rate
from learner import Network, settings


def test_biases_and_norms_do_not_decay_and_matrices_do():
    model = Network()
    decaying, constant = parameter_groups(model, 0.01)
    assert decaying["weight_decay"] == 0.01
    assert constant["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decaying["params"]} == {"table.weight", "mix.weight", "side.weight"}
    assert {names[id(p)] for p in constant["params"]} == {
        "mix.bias",
        "norm.weight",
        "norm.bias",
        "score.bias",
        "side.bias",
    }


def test_a_shared_parameter_is_trained_once():
    model = Network()
    assert model.score.weight is model.table.weight
    members = [id(parameter) for group in parameter_groups(model, 0.01) for parameter in group["params"]]
    assert len(members) == len(set(members)) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out():
    model = Network()
    model.table.weight.requires_grad_(False)
    members = [id(parameter) for group in parameter_groups(model, 0.01) for parameter in group["params"]]
    assert id(model.table.weight) not in members


def test_it_is_fused_where_there_is_a_kernel_and_works_where_there_is_none(monkeypatch):
    assert make_optimizer(Network(), settings()).defaults["fused"]
    plain = torch.optim.AdamW

    def without_kernel(groups, fused=None, **options):
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")
        return plain(groups, **options)

    monkeypatch.setattr(torch.optim, "AdamW", without_kernel)
    assert not make_optimizer(Network(), settings()).defaults["fused"]


def test_a_step_is_that_of_the_paper():
    """One AdamW step written out: m and v from zero, bias-corrected, decay decoupled."""
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(0.5), layer.bias.fill_(0.5)
    optimizer = make_optimizer(layer, settings(learning_rate=0.1, weight_decay=0.01, eps=1e-6))
    (layer.weight * 3 + layer.bias * 3).sum().backward()
    optimizer.step()
    step = 0.1 * 3 / (3 + 1e-6)
    assert layer.weight.item() == pytest.approx(0.5 * (1 - 0.1 * 0.01) - step)
    assert layer.bias.item() == pytest.approx(0.5 - step)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (7, 0), (5, 5), (1, 0), (1, 1), (3, 1)])
def test_the_rate_rises_evenly_then_falls_evenly(steps, warmup):
    rates = [rate(step, steps, warmup) for step in range(steps)]
    assert all(0 < value <= 1 for value in rates)
    rises = [b - a for a, b in pairwise(rates[:warmup])]
    falls = [a - b for a, b in pairwise(rates[warmup:])]
    assert rises == pytest.approx([1 / (warmup + 1)] * len(rises))
    assert falls == pytest.approx([1 / max(1, steps - warmup)] * len(falls))
    if warmup < steps:
        assert max(rates) == rates[warmup] == 1
        assert rate(steps, steps, warmup) == 0


def test_the_rate_is_set_on_all_groups():
    optimizer = make_optimizer(Network(), settings())
    set_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
