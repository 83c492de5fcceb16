"""A step of replaced-token detection is that of transformers' two ELECTRA classes with the same weights, in float32."""

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

import tiny
from bothways.learn.generator import starting_generator, trained_parts
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.start import starting_model
from test_replaced_tokens import TOGETHER, items

NOT_DROPPED = {"dropout": 0.0, "attention__dropout": 0.0, "embeddings__dropout": 0.0}


def beginnings(tables):
    """Discriminator and generator as a run begins with them, but for larger weights."""
    config = tiny.config("electra", **NOT_DROPPED)
    settings = ObjectiveSettings(objective="rtd", generator_tables=tables, generator_size=0.5)
    discriminator = starting_model(None, config, ("rtd",), tiny.tokenizer(), 1, "cpu")
    generator = starting_generator(discriminator, settings, None, 0.0)
    trained = nn.ModuleDict({"encoder": discriminator.encoder, **discriminator.heads, **trained_parts(generator)})
    tiny.randomise(trained, 3)
    return discriminator, generator, trained


def theirs(models, folder, tables):
    """Their classes with the weights of ours; with the same tables where ours have."""
    for name, model in zip(("discriminator", "generator"), models, strict=True):
        model.save(folder / name)
    discriminator = transformers.ElectraForPreTraining.from_pretrained(folder / "discriminator")
    generator = transformers.ElectraForMaskedLM.from_pretrained(folder / "generator")
    if tables == "shared":
        generator.electra.embeddings = discriminator.electra.embeddings
        generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
    return discriminator, generator


def padded(values, batch, fill=0):
    """A rectangle, a row a sequence, from values of the batch's tokens."""
    return pad_sequence(torch.as_tensor(values).split(batch.lengths.tolist()), batch_first=True, padding_value=fill)


def their_step(discriminator, generator, item):
    """Both losses, means; and in the parameters the gradients of the one and 50 times the other."""
    batch, targets = item
    places = torch.from_numpy(targets["mlm.places"])
    labels, originals = torch.full((batch.tokens,), -100), torch.from_numpy(targets["rtd.originals"])
    labels[places] = torch.from_numpy(targets["mlm.labels"])
    real = padded(torch.ones(batch.tokens, dtype=torch.bool), batch)
    guessed = generator(padded(batch.token_ids, batch), real.long(), labels=padded(labels, batch, -100))
    ends = torch.softmax(guessed.logits[real][places].detach().double(), -1).cumsum(-1)
    tokens = originals.clone()
    tokens[places] = (ends <= torch.from_numpy(targets["rtd.draws"])[:, None]).sum(-1)
    replaced = (tokens != originals).long()
    assert 0.2 < replaced[places].double().mean() <= 1
    spotted = discriminator(padded(tokens, batch), real.long(), labels=padded(replaced, batch))
    (guessed.loss + 50 * spotted.loss).backward()
    return guessed.loss.item(), spotted.loss.item()


def under_their_names(model, folder):
    """Our gradients, by the names that parameters have in a saved model."""
    with torch.no_grad():
        for module in (model.encoder, *model.heads.values()):
            for parameter in module.parameters():
                parameter.copy_(parameter.grad)
    model.save(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("tables", ["shared", "own"])
def test_losses_and_gradients_are_those_of_transformers(tables, tmp_path):
    discriminator, generator, trained = beginnings(tables)
    pair = theirs((discriminator, generator), tmp_path, tables)
    (item,) = items(60)
    guessing, spotting = their_step(*pair, item)
    counts = TOGETHER.counts(item)
    sums = TOGETHER.backward(trained, item, counts)
    assert sums["loss.mlm"] / counts["mlm"] == pytest.approx(guessing, rel=1e-5)
    assert sums["loss.rtd"] / counts["rtd"] == pytest.approx(spotting, rel=1e-5)
    for ours, their in zip((discriminator, generator), pair, strict=True):
        found = under_their_names(ours, tmp_path / type(their).__name__)
        for name, parameter in their.named_parameters():
            expected = parameter.grad
            assert (found[name] - expected).abs().max() < 1e-4 * max(1, expected.abs().max()), name
