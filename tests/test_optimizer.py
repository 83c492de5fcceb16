"""The optimizers' groups, steps and schedule."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.muon import Muon, orthogonal
from bothways.learn.optimizer import make_optimizer, parameter_groups, rate, set_rate
from bothways.model.parts.stack import Stack
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


def deep():
    """A network with two linear layers that lie in a stack, one of them frozen."""
    model = Network()
    model.stack = Stack([nn.Linear(16, 16), nn.Linear(16, 16).requires_grad_(False)], [0, 1])
    return model


def test_muon_gets_the_matrices_of_the_stack_and_adamw_the_rest():
    model = deep()
    optimizer = make_optimizer(model, settings(optimizer="muon"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]
    assert groups[0] == {"stack.blocks.0.weight"}
    assert set().union(*groups) == {name for name, value in model.named_parameters() if value.requires_grad}
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_step_of_muon_turns_the_matrix_by_nearly_orthogonal_amounts():
    """All singular values of the update are about the same, whatever those of the gradient are."""
    model = deep()
    optimizer = make_optimizer(model, settings(optimizer="muon", weight_decay=0.0))
    set_rate(optimizer, 0.1)
    weight = model.stack.blocks[0].weight
    before = weight.detach().clone()
    left, right = (torch.linalg.qr(torch.randn(16, 16)).Q for _ in range(2))
    gradient = left @ torch.diag(torch.linspace(1, 20, 16)) @ right
    weight.grad = gradient.clone()
    optimizer.step()
    update = torch.linalg.svdvals(before - weight.detach())
    assert update.max() / update.min() < 3
    assert (before - weight.detach()).square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.3)  # as AdamW's are
    optimizer.zero_grad()
    assert weight.grad is None


def matrices(*shapes):
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]


def test_muon_is_that_of_torch_and_goes_on_with_its_state():
    """Wide and tall matrices, several steps; torch multiplies in bf16, which turns small singular values otherwise."""
    shapes = (16, 64), (48, 16), (16, 28), (20, 48)
    theirs, ours = matrices(*shapes), matrices(*shapes)
    settled = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    expected = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settled)
    found = Muon([{"params": ours, "weight_decay": 0.1}], 0.05, 0.9)
    draw = torch.Generator().manual_seed(1)
    for step in range(4):
        for one, other in zip(theirs, ours, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        if step == 2:
            found.load_state_dict(deepcopy(expected.state_dict()))
        expected.step()
        found.step()
        for one, other, start in zip(theirs, ours, matrices(*shapes), strict=True):
            moved = (one - start).norm()
            assert (one - other).norm() < 0.03 * moved
            assert moved > 0.1


@pytest.mark.parametrize("shape", [(24, 48), (24, 96), (96, 24), (32, 32), (1, 8)])
def test_muon_turns_by_the_same_polynomial_whatever_the_shape(shape):
    """Written out on singular values in float64, small ones among them; by way of the Gram matrix or not."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values * torch.logspace(0, -3, len(values), dtype=torch.float64)
    turned = values / values.norm()
    for _ in range(5):
        turned = 3.4445 * turned - 4.7750 * turned**3 + 2.0315 * turned**5
    found = orthogonal((left @ torch.diag(values) @ right).float())
    torch.testing.assert_close(found.double(), left @ torch.diag(turned) @ right, atol=3e-4, rtol=0)


def test_without_a_stack_muon_is_adamw():
    optimizer = make_optimizer(Network(), settings(optimizer="muon"))
    assert [type(part) for part in optimizer._parts] == [torch.optim.AdamW]


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(BothwaysError, match=r"optimizer must be adamw or muon, not 'adam'; did you mean 'adamw'"):
        settings(optimizer="adam")
