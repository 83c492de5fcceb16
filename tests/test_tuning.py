"""What fine-tuning does beside plain training: each regulariser against its own definition, and exact resuming."""

import math
import signal

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors
from bothways.learn.objectives.protocol import Forward, Together
from bothways.learn.stream import split_items
from bothways.learn.tally import count_items
from bothways.learn.tasks.classify import Classify
from bothways.learn.tuning import mixout
from bothways.learn.tuning.adversarial import Fgm, Sift, of_length
from bothways.learn.tuning.passes import disturbed
from bothways.learn.tuning.r_drop import RDrop
from bothways.learn.tuning.reinit import reinitialise
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.suited import suited_epochs, suited_length, suited_rate
from bothways.model.build import build_encoder, build_head
from bothways.model.families import families, family
from bothways.run.new import suited_start

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
        encoder = setting.modules["encoder"]
        guesses.append(setting.task.logits(setting.modules, Forward(encoder, item[0], encoder(item[0])), item[1]))
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


def mixed(share, seed=0):
    start = tiny.model(("mlm",)).encoder
    encoder = tiny.model(("mlm",)).encoder.train()
    mixout.mix(encoder, start, share)
    return start, encoder


def test_mixout_takes_the_bases_weights_at_the_asked_share_and_keeps_the_mean():
    start, encoder = mixed(0.3)
    layer, base_weight = encoder.stack.blocks[0].attention.query, start.stack.blocks[0].attention.query.weight.detach()
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(1.0)
    torch.manual_seed(0)
    drawn = torch.stack([layer.weight.detach() for _ in range(400)])
    same = torch.isclose(drawn, base_weight, atol=1e-6)
    assert same.float().mean() == pytest.approx(0.3, abs=0.005)
    torch.testing.assert_close(drawn[~same], (base_weight + 1 / 0.7).expand_as(drawn)[~same], rtol=0, atol=1e-4)
    torch.testing.assert_close(drawn.mean(0), base_weight + 1.0, rtol=0, atol=0.2)
    encoder.eval()
    assert torch.equal(layer.weight, layer.parametrizations.weight.original)


def test_mixout_is_undone_with_the_learned_weights_in_their_places():
    start, encoder = mixed(0.3)
    names = set(start.state_dict())
    with torch.no_grad():
        encoder.stack.blocks[0].feed_forward.inner.parametrizations.weight.original.fill_(2.0)
    mixout.unmix(encoder)
    assert set(encoder.state_dict()) == names
    assert (encoder.stack.blocks[0].feed_forward.inner.weight == 2.0).all()


def test_mixout_of_nothing_changes_nothing():
    _, encoder = mixed(0.0)
    assert not any(parametrize.is_parametrized(part) for part in encoder.modules())


def test_mixout_leaves_alone_what_begins_anew():
    start, encoder = tiny.model(("mlm",)).encoder, tiny.model(("mlm",)).encoder
    reinitialise(encoder, 1, seed=0)
    mixout.mix(encoder, start, 0.5)
    blocks = encoder.stack.blocks
    assert parametrize.is_parametrized(blocks[0].attention.query)
    assert not any(parametrize.is_parametrized(part) for part in blocks[-1].modules())


def test_the_last_layers_begin_anew_and_the_others_stay():
    before, after = tiny.model(("classify",), layers=3).encoder, tiny.model(("classify",), layers=3).encoder
    reinitialise(after, 2, seed=4)
    changed = {
        name.removeprefix("stack.blocks.")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(value, after.state_dict()[name])
    }
    assert changed == {"1", "2", "p"}  # two blocks and the pooler
    assert (after.stack.blocks[2].attention_norm.weight == 1).all()
    weight = after.stack.blocks[2].attention.query.weight
    assert float(weight.detach().std()) == pytest.approx(after.config.init_std, rel=0.1)
    other = tiny.model(("classify",), layers=3).encoder
    reinitialise(other, 2, seed=5)
    assert not torch.equal(other.stack.blocks[2].attention.query.weight, weight)


def test_layers_that_share_a_block_with_others_cannot_begin_anew():
    encoder = build_encoder(tiny.config("albert", layers=3))
    with pytest.raises(BothwaysError, match="the last 1 of the 3 layers share their weights with layers below"):
        reinitialise(encoder, 1, seed=0)
    reinitialise(encoder, 3, seed=0)
    with pytest.raises(BothwaysError, match="reinit_layers is 4, but this encoder has 3 layers"):
        reinitialise(encoder, 4, seed=0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"adversarial": "fmg"}, "adversarial must be sift or fgm, not 'fmg'; did you mean 'fgm'"),
        ({"mixout": 1.0}, "mixout must be a share from 0 to below 1, not 1.0"),
        ({"unfreeze": 0.0}, "unfreeze must be a share above 0, at most 1, not 0.0"),
        ({"reinit_layers": -1}, "reinit_layers must be 0 or more, not -1"),
        ({"r_drop": math.inf}, "r_drop must be 0 or more, not inf"),
        ({"lora": 0}, "lora must be a rank of 1 or more, not 0"),
        ({"freeze": True, "unfreeze": 0.5}, "freeze and unfreeze do not go together"),
        ({"freeze": True, "lora": 4}, "freeze and lora do not go together"),
        ({"lora": 4, "mixout": 0.1}, "lora and mixout do not go together"),
        ({"r_drop": 1.0, "adversarial": "fgm"}, "adversarial and r_drop do not go together"),
        ({"lora_alpha": 8.0}, "lora_alpha says how lora is done, and lora is not given"),
        ({"adversarial_size": 1.0}, "adversarial_size says how adversarial is done"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_sentence(given, said):
    with pytest.raises(BothwaysError) as error:
        TuningSettings(**given)
    assert said in str(error.value)


def test_what_suits_grows_with_few_examples_and_narrow_encoders():
    plain = TuningSettings()
    assert [suited_epochs(count) for count in (50, 499, 500, 2000, 10**6)] == [20, 20, 10, 3, 3]
    rates_of = [suited_rate(width, plain) for width in (128, 384, 768, 1024)]
    assert rates_of == sorted(rates_of, reverse=True)
    assert suited_rate(768, TuningSettings(lora=8)) == pytest.approx(3e-4)
    assert suited_rate(768, plain, 0.8) == pytest.approx(9e-5)
    assert suited_rate(768, TuningSettings(freeze=True)) == 1e-3


def finetuned(start, out=None, callbacks=(), **own):
    given = {"steps": 6, "batch_size": 8, "micro_tokens": 80, "metric": None, "report": False} | own
    fixed = {"device": "cpu", "precision": "float32", "dropout": 0.1, "seed": 2, "max_length": 32}
    return bw.finetune("classify", base=start, train=ROWS, out=out, callbacks=callbacks, **fixed, **given)


RECIPES = {
    "average": {"average": 0.8, "metric": "best", "evaluate_every": 2},
    "layer_decay": {"layer_decay": 0.7, "schedule": "cosine"},
    "unfreeze": {"unfreeze": 0.7},
    "reinit": {"reinit_layers": 1},
    "mixout": {"mixout": 0.3},
    "fgm": {"adversarial": "fgm"},
    "sift": {"adversarial": "sift"},
    "r_drop": {"r_drop": 1.0},
    "lora": {"lora": 3, "lora_dropout": 0.1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_stopped_and_continued_a_run_gives_the_same_bits(name, tmp_path):
    start = tiny.model(("mlm",), layers=2)
    whole = finetuned(start, **RECIPES[name])
    for step in (2, 5):
        stop = [lambda event, step=step: event.step == step and signal.raise_signal(signal.SIGINT)]
        with pytest.raises(KeyboardInterrupt):
            finetuned(start, tmp_path, callbacks=stop, **RECIPES[name])
    found = finetuned(start, tmp_path, **RECIPES[name])
    for part, other in (
        (whole.model.encoder, found.model.encoder),
        *zip(whole.model.heads.values(), found.model.heads.values(), strict=True),
    ):
        one, two = own_tensors(part), own_tensors(other)
        assert one.keys() == two.keys()
        assert all(torch.equal(value, two[key]) for key, value in one.items())
    saved = bw.load(tmp_path / "model", device="cpu")
    assert torch.equal(saved.encoder.token_table, found.model.encoder.token_table)
    if name != "layer_decay":
        plain = finetuned(
            start, **{key: RECIPES[name][key] for key in ("metric", "evaluate_every") if key in RECIPES[name]}
        )
        assert not all(
            torch.equal(value, dict(plain.model.encoder.named_parameters())[key])
            for key, value in found.model.encoder.named_parameters()
        )


def test_a_frozen_encoder_stays_to_the_bit_but_for_a_pooler_that_the_base_lacks():
    start = tiny.model(("mlm",), layers=2)
    assert start.encoder.pooler is None or "pooler" in dict(start.encoder.named_children())
    result = finetuned(start, freeze=True, steps=3)
    before = start.encoder.state_dict()
    for name, value in result.model.encoder.state_dict().items():
        if not name.startswith("pooler."):
            assert torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in result.model.encoder.parameters())


def test_the_run_says_what_was_chosen_and_why(capsys):
    finetuned(tiny.model(("mlm",), layers=2), steps=None, epochs=1, lora=3, average=0.9, layer_decay=0.5)
    finetuned(tiny.model(("mlm",), layers=2), steps=None, learning_rate=1e-4, patience=1, metric="best")
    said = " ".join(capsys.readouterr().err.split())
    assert "(1 epoch), learning rate 0.001 (which suits width" in said
    assert "linear schedule, 0.5 of it from layer to layer, weights averaged by 0.9, LoRA of rank 3" in said
    assert "parameters learn" in said
    assert "(20 epochs, which suits 36 examples), learning rate 0.0001, linear schedule, best weights by" in said


SENTENCES = tiny.sentences(24, seed=1, longest=8)
TASKS = {
    "classify": ({}, [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(SENTENCES)]),
    "several": (
        {},
        [{"text": text, "labels": [["a"], ["b"], ["a", "b"], []][n % 4]} for n, text in enumerate(SENTENCES)],
    ),
    "pairs": ({}, [{"text": t, "text_pair": SENTENCES[-n], "label": "ab"[n % 2]} for n, t in enumerate(SENTENCES)]),
    "regress": ({}, [{"text": text, "score": float(len(text))} for text in SENTENCES]),
    "tag": ({"crf": True}, [{"tokens": t.split(), "tags": ["B-X", *["O"] * t.count(" ")]} for t in SENTENCES]),
    "answer": (
        {},
        [
            {
                "id": str(number),
                "context": f"{text} bridge stone",
                "question": "which river",
                "answers": {"text": ["bridge"], "answer_start": [len(text) + 1]},
            }
            for number, text in enumerate(SENTENCES)
        ],
    ),
    "choose": ({}, [{"text": t, "choices": ["a river", "the stone"], "label": n % 2} for n, t in enumerate(SENTENCES)]),
}


@pytest.mark.parametrize("recipe", ["r_drop", "fgm", "sift"])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_regularised(name, recipe):
    own, rows = TASKS[name]
    task = "classify" if name == "several" else name
    start = tiny.model(("mlm",), layers=2)
    fixed = {"steps": 2, "batch_size": 8, "metric": None, "report": False, "max_length": 32, "dropout": 0.1}
    result = bw.finetune(
        task, base=start, train=rows, device="cpu", precision="float32", **fixed, **own, **RECIPES[recipe]
    )
    (further,) = (line for line in result.history.training[-1] if line in ("loss.r_drop", "loss.adversarial"))
    assert all(line[further] > 0 and math.isfinite(line["loss"]) for line in result.history.training)


@pytest.mark.parametrize("recipe", ["r_drop", "fgm", "sift", "mixout", "lora"])
def test_computing_layers_twice_changes_no_bit(recipe):
    start = tiny.model(("mlm",), layers=2)
    one, other = (
        finetuned(start, steps=2, gradient_checkpointing=twice, **RECIPES[recipe]).model for twice in (False, True)
    )
    for name, value in one.encoder.state_dict().items():
        assert torch.equal(value, other.encoder.state_dict()[name]), name


@pytest.mark.parametrize("name", families())
def test_in_bf16_the_gradient_of_every_family_points_the_way_of_float32(name):
    """So no family has to be kept from training in bf16."""
    config = family(name).with_dropout(tiny.config(name, layers=4), 0.0)
    head = tiny.head(name, "classify").derive(dropout=0.0)
    config = suited_start(config.derive(pooler="tanh" if head.needs_pooler else None))
    torch.manual_seed(0)
    trained = torch.nn.ModuleDict({"encoder": build_encoder(config), "classify": build_head(head, config)}).train()
    draw = np.random.default_rng(0)
    batch = make_batch([draw.integers(5, 200, length) for length in (60, 40, 33, 20, 8)])
    gradients = []
    for low in (False, True):
        trained.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = trained["classify"](trained["encoder"](batch))
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1])).backward()
        gradients.append(torch.cat([value.grad.flatten() for value in trained.parameters() if value.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


def test_answers_are_looked_for_in_longer_texts_as_far_as_the_base_takes_them():
    assert [suited_length(task, None) for task in ("classify", "tag", "answer")] == [128, 128, 384]
    assert [suited_length(task, 256) for task in ("classify", "answer")] == [128, 256]
    assert suited_length("pairs", 64) == 64
