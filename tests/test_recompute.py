"""Gradient checkpointing: the same numbers to the bit, for less memory."""

import numpy as np
import pytest
import torch

import tiny
from bothways.batch import make_batch
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Together
from bothways.model.families import families
from bothways.model.parts.stack import recompute_layers
from bothways.run.precision import resolve_precision

DROPPING = {"dropout": 0.1, "attention__dropout": 0.1, "embeddings__dropout": 0.1}


def step(name, precision="float32", *, recompute, **changes):
    """Sums and gradients of a step of masked tokens with dropout."""
    saved = tiny.saved(("mlm",), name=name, **DROPPING | changes)
    model = torch.nn.ModuleDict({"encoder": saved.encoder, **saved.heads}).train()
    recompute_layers(model, recompute)
    together = Together([MaskedTokens(Masking.of(saved.tokenizer))])
    draw = np.random.default_rng(0)
    batch = make_batch([draw.integers(5, 60, size=length) for length in (7, 12, 12, 20)])
    one = together.objectives[0].prepare(batch, [(0, number) for number in range(4)], [], 0.0)
    torch.manual_seed(0)
    with resolve_precision(precision, "cpu").autocast():
        sums = together.backward(model, one, together.counts(one))
    return sums, {name: parameter.grad for name, parameter in model.named_parameters()}


def with_mlm():
    return [name for name, members in families().items() if "mlm" in members.heads]


@pytest.mark.parametrize("name", with_mlm())
def test_computed_again_layers_give_the_same_gradients_to_the_bit(name):
    sums, gradients = step(name, recompute=False)
    again, found = step(name, recompute=True)
    assert again == sums
    for parameter, gradient in gradients.items():
        assert (gradient is None and found[parameter] is None) or torch.equal(gradient, found[parameter]), parameter


@pytest.mark.parametrize("changes", [{}, {"blocks": 1}])
def test_in_bf16_and_with_shared_layers_too(changes):
    sums, gradients = step("bert", "bf16", recompute=False, **changes)
    again, found = step("bert", "bf16", recompute=True, **changes)
    assert again == sums
    assert all(torch.equal(gradient, found[name]) for name, gradient in gradients.items() if gradient is not None)


def test_dropout_is_on_in_these_tests():
    assert step("bert", recompute=False)[0] != step("bert", recompute=False, dropout=0.0)[0]


def kept(recompute, layers):
    """The bytes that a forward pass of an encoder keeps for its gradient."""
    saved = tiny.saved((), layers=layers, **DROPPING)
    recompute_layers(saved.encoder.train(), recompute)
    weights = {parameter.data_ptr() for parameter in saved.encoder.parameters()}
    seen = {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = saved.encoder(make_batch([[7] * 32] * 4))
    held = sum(seen.values())
    del output
    return held


def test_a_layer_more_keeps_little_more_than_its_input():
    a_layer, recomputed = (kept(how, 6) - kept(how, 4) for how in (False, True))
    assert 0 <= recomputed < a_layer / 4


def test_it_is_off_in_evaluation_and_where_attention_weights_are_asked_for():
    saved = tiny.saved(())
    recompute_layers(saved.encoder, True)
    batch = make_batch([[7] * 5] * 2)
    layers = saved.encoder.config.layers
    assert [len(layer) for layer in saved.encoder(batch, attentions=True).attentions] == [2] * layers
    output = saved.encoder.train()(batch, attentions=True)
    output.sequence.sum().backward()
    assert [len(layer) for layer in output.attentions] == [2] * layers
