"""Learning with further passes, R-Drop and adversarial training: each against its own definition."""

import numpy as np
import pytest
import torch

import bothways as bw
import tiny
from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Together, encoded
from bothways.learn.stream import split_items
from bothways.learn.tally import count_items
from bothways.learn.tasks.classify import Classify
from bothways.learn.tuning.adversarial import Fgm, Sift, of_length
from bothways.learn.tuning.passes import disturbed
from bothways.learn.tuning.r_drop import RDrop
from bothways.model.build import build_encoder
from bothways.model.families import families

ROWS = [{"text": text, "label": ("even", "odd")[len(text) % 2]} for text in tiny.sentences(40, longest=12)]


class Setting:
    """A model that learns classes, its items and its plain objective."""

    def __init__(self, dropout=0.0, micro_tokens=10_000):
        torch.manual_seed(0)
        task = Classify()
        train = task.read(ROWS)
        start = tiny.model(("mlm",), **rates(dropout))
        heads = [head.derive(dropout=dropout) for head in task.heads(start, train)]
        self.model = bw.Model.random(start.config, start.tokenizer, heads, device="cpu")
        tiny.randomise(self.model.encoder, 1)
        tiny.randomise(self.model.heads["classify"], 2, spread=0.5)
        self.modules = torch.nn.ModuleDict({"encoder": self.model.encoder, **self.model.heads}).train()
        task.begin(self.model, train)
        examples = task.examples(self.model, train)
        self.task = task.objective(self.model, train)
        self.together = Together([self.task])
        keys = [(0, number) for number in range(len(examples))]
        found = [examples.sequence(*key) for key in keys]
        self.items = split_items(keys, found, self.task.prepare, micro_tokens)

    def gradient(self, objective, seed=3):
        """The gradient of a step by name, and the step's means by name."""
        self.modules.zero_grad()
        totals = count_items(objective, self.items)
        torch.manual_seed(seed)
        sums = [objective.backward(self.modules, item, totals) for item in self.items]
        means = {name: sum(each[name] for each in sums) / totals[name.split(".")[1]] for name in sums[0]}
        return {name: value.grad.clone() for name, value in self.modules.named_parameters()}, means

    def logits(self, item, by=None):
        """The guesses for an item, embeddings disturbed by something."""
        encoder = self.modules["encoder"]
        nothing = torch.zeros(item[0].tokens, encoder.config.embeddings.width)
        with disturbed(encoder, nothing if by is None else by):
            return self.task.logits(self.modules, Forward(encoder, item[0], encoder(item[0])), item[1])


def rates(dropout):
    return {"dropout": dropout, "attention__dropout": dropout, "embeddings__dropout": dropout}


def assert_close(found, expected, tolerance=1e-6):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=tolerance, msg=name)


REGULARISED = {
    "r_drop": lambda together: RDrop(together, 0.7),
    "fgm": lambda together: Fgm(together, 0.7, 2.0),
    "sift": lambda together: Sift(together, 0.7, 2.0),
}


@pytest.mark.parametrize("name", REGULARISED)
def test_the_gradient_of_a_step_does_not_depend_on_how_it_is_cut_into_batches(name):
    whole, cut = Setting(), Setting(micro_tokens=60)
    assert len(whole.items) == 1
    assert len(cut.items) > 4
    (one, said), (other, says) = (setting.gradient(REGULARISED[name](setting.together)) for setting in (whole, cut))
    assert_close(one, other)
    assert said == pytest.approx(says, rel=1e-4)


def test_without_dropout_r_drop_adds_exactly_nothing():
    setting = Setting()
    plain, said = setting.gradient(setting.together)
    found, says = setting.gradient(RDrop(setting.together, 5.0))
    assert says.pop("loss.r_drop") == 0.0
    assert says == said
    for name, value in plain.items():
        assert torch.equal(found[name], value), name


def test_with_dropout_r_drop_is_the_mean_of_two_passes_and_their_divergence():
    setting = Setting(dropout=0.2)
    objective = RDrop(setting.together, 0.7)
    _, said = setting.gradient(objective)
    assert said["loss.r_drop"] > 0
    (item,) = setting.items
    torch.manual_seed(3)
    guesses = []
    for _ in range(2):  # the head's dropout is drawn twice from the same place, for logits and for loss
        forward = Forward(setting.modules["encoder"], item[0], encoded(setting.modules, [setting.task], item))
        guesses.append(setting.task.logits(setting.modules, forward, item[1]))
    one, other = (torch.log_softmax(each, -1) for each in guesses)
    apart = ((one.exp() - other.exp()) * (one - other)).sum() / 2 / len(ROWS)
    assert said["loss.r_drop"] == pytest.approx(float(apart.detach()), rel=1e-5)
    labels = torch.from_numpy(item[1]["classify.labels"])
    both = [torch.nn.functional.cross_entropy(each, labels) for each in guesses]
    assert said["loss.classify"] == pytest.approx(float(sum(both).detach()) / 2, rel=1e-5)


def lengths(values, batch):
    return [float(values[begin:end].norm()) for begin, end in zip(batch.starts[:-1], batch.starts[1:], strict=True)]


def test_a_disturbance_is_as_long_as_asked_for_each_sequence_however_small_the_gradient():
    (item,) = Setting().items
    direction = (
        torch.randn(item[0].tokens, 8)
        * 10.0 ** torch.randint(-12, 1, (item[0].sequences,))[torch.from_numpy(item[0].sequence_of_token), None]
    )
    assert lengths(of_length(direction, item[0], 3.0), item[0]) == pytest.approx([3.0] * item[0].sequences, rel=1e-4)
    direction[item[0].starts[1] : item[0].starts[2]] = 0
    assert lengths(of_length(direction, item[0], 3.0), item[0])[1] == 0


def seen_disturbances(objective, setting, monkeypatch):
    seen = []

    def watched(encoder, by):
        seen.append(by)
        return disturbed(encoder, by)

    monkeypatch.setattr("bothways.learn.tuning.adversarial.disturbed", watched)
    setting.gradient(objective)
    return seen


@pytest.mark.parametrize("kind", [Fgm, Sift])
def test_the_disturbance_has_the_size_asked_for_and_is_gone_afterwards(kind, monkeypatch):
    setting = Setting()
    before = setting.logits(setting.items[0]).detach()
    last = seen_disturbances(kind(setting.together, 1.0, 0.25), setting, monkeypatch)[-1]
    batch = setting.items[0][0]
    assert lengths(last, batch) == pytest.approx([0.25] * batch.sequences, rel=1e-4)
    norm = setting.modules["encoder"].embeddings.norm
    assert not norm._forward_hooks
    assert torch.equal(setting.logits(setting.items[0]), before)


def test_fgm_goes_where_the_loss_grows_and_learns_the_disturbed_text(monkeypatch):
    setting = Setting()
    objective = Fgm(setting.together, 0.7, 0.5)
    (item,) = setting.items
    labels = torch.from_numpy(item[1]["classify.labels"])
    by = torch.zeros(item[0].tokens, setting.model.config.embeddings.width, requires_grad=True)
    torch.nn.functional.cross_entropy(setting.logits(item, by), labels, reduction="sum").backward()
    expected = torch.cat(
        [
            0.5 * by.grad[begin:end] / by.grad[begin:end].norm()
            for begin, end in zip(item[0].starts[:-1], item[0].starts[1:], strict=True)
        ]
    )
    found, said = setting.gradient(objective)
    torch.testing.assert_close(seen_disturbances(objective, setting, monkeypatch)[-1], expected, rtol=1e-3, atol=1e-5)
    assert said["loss.adversarial"] > said["loss.classify"]
    setting.modules.zero_grad()
    losses = [torch.nn.functional.cross_entropy(setting.logits(item, way), labels) for way in (None, expected)]
    (losses[0] + 0.7 * losses[1]).backward()
    assert_close(found, {name: value.grad for name, value in setting.modules.named_parameters()}, 1e-5)


def test_sift_is_the_loss_plus_the_divergence_where_it_grows_fastest():
    """Written out with plain autograd; the gradient flows through both guesses."""
    setting = Setting()
    found, said = setting.gradient(Sift(setting.together, 0.7, 0.5), seed=11)
    (item,) = setting.items
    batch, encoder = item[0], setting.modules["encoder"]

    def divergence(one, other):
        one, other = torch.log_softmax(one, -1), torch.log_softmax(other, -1)
        return ((one.exp() * (one - other)).sum() + (other.exp() * (other - one)).sum()) / 2

    def normed(way):
        pieces = [way[begin:end] for begin, end in zip(batch.starts[:-1], batch.starts[1:], strict=True)]
        return torch.cat([0.5 * piece / piece.norm() for piece in pieces])

    torch.manual_seed(11)
    noise = generator("disturb", torch.initial_seed()).standard_normal(
        (batch.longest, encoder.config.embeddings.width), dtype="float32"
    )
    way = normed(torch.from_numpy(noise[batch.positions])).requires_grad_()
    (towards,) = torch.autograd.grad(divergence(setting.logits(item).detach(), setting.logits(item, way)), way)
    setting.modules.zero_grad()
    plain = setting.logits(item)
    labels = torch.from_numpy(item[1]["classify.labels"])
    apart = divergence(plain, setting.logits(item, normed(towards))) / len(ROWS)
    (torch.nn.functional.cross_entropy(plain, labels) + 0.7 * apart).backward()
    assert said["loss.adversarial"] == pytest.approx(float(apart.detach()), rel=1e-3)
    assert_close(found, {name: value.grad for name, value in setting.modules.named_parameters()}, 1e-5)


@pytest.mark.parametrize("kind", [Fgm, Sift])
def test_all_passes_have_the_same_dropout_so_that_only_the_disturbance_differs(kind):
    """With next to no disturbance the disturbed loss is the plain one, and the divergence is nothing."""
    setting = Setting(dropout=0.3)
    _, said = setting.gradient(kind(setting.together, 1.0, 1e-6))
    expected = said["loss.classify"] if kind is Fgm else 0.0
    assert said["loss.adversarial"] == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", families())
def test_the_embeddings_of_every_family_can_be_disturbed(name):
    encoder = build_encoder(tiny.config(name)).eval()
    (item,) = Setting().items
    batch = item[0].with_tokens(np.minimum(item[0].token_ids, 200))
    by = torch.randn(batch.tokens, encoder.config.embeddings.width)
    plain = encoder(batch).sequence
    with disturbed(encoder, by):
        moved = encoder(batch).sequence
    assert not torch.allclose(plain, moved)
    assert torch.equal(encoder(batch).sequence, plain)


@pytest.mark.parametrize("kind", [RDrop, Fgm])
def test_objectives_whose_guesses_cannot_be_compared_are_refused(kind):
    setting = Setting()
    arguments = (1.0,) if kind is RDrop else (1.0, 1.0)
    with pytest.raises(BothwaysError, match="compares the guesses of one task, which classify, classify does not"):
        kind(Together([setting.task, setting.task]), *arguments)
