"""What fine-tuning does beside plain training: weights mixed, begun anew and frozen, what suits, and exact resuming."""

import math
import signal

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

import bothways as bw
import tiny
from bothways.batch import make_batch
from bothways.errors import BothwaysError
from bothways.learn import loop
from bothways.learn.checkpoint import own_tensors
from bothways.learn.tuning import mixout
from bothways.learn.tuning.reinit import reinitialise
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.suited import suited_epochs, suited_head_rate, suited_length, suited_rate
from bothways.model.build import build_encoder, build_head
from bothways.model.config import HeadConfig
from bothways.model.families import families, family
from bothways.run.model import Model
from bothways.run.new import suited_start
from bothways.run.sentence_folder import SentenceRecipe

ROWS = [{"text": text, "label": ("even", "odd")[len(text) % 2]} for text in tiny.sentences(40, longest=12)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"evaluate_every": 0}, "evaluate_every must be above 0, not 0"),
        ({"evaluate_every": -2}, "evaluate_every must be above 0, not -2"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"batch_size": 0, "steps": 2}, "batch_size must be 1 or more, not 0"),
        ({"batch_size": -3}, "batch_size must be 1 or more, not -3"),
        ({"micro_tokens": 0}, "micro_tokens must be 1 or more, not 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_their_names(given, told):
    with pytest.raises(BothwaysError, match=told):
        bw.finetune("classify", base=tiny.model(("mlm",)), train=ROWS, device="cpu", **{"epochs": 1, **given})


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
    assert suited_rate(768, TuningSettings(lora=8)) == pytest.approx(1.8e-3)
    assert suited_rate(128, TuningSettings(lora=8)) == pytest.approx(3e-3)
    assert suited_rate(768, plain, 0.8) == pytest.approx(9e-5)
    assert suited_rate(768, TuningSettings(freeze=True)) == 1e-2
    assert suited_rate(768, TuningSettings(freeze=True), anew=False) == 1e-3
    assert suited_rate(768, TuningSettings(lora=8), anew=False) == pytest.approx(3e-4)


def test_a_head_that_begins_anew_learns_thirty_times_as_fast_but_not_above_its_highest_rate():
    plain = TuningSettings()
    assert suited_head_rate(2e-5, plain) == 30
    assert suited_head_rate(3e-4, plain) == pytest.approx(10)
    assert suited_head_rate(5e-3, plain) is None
    assert suited_head_rate(1e-4, TuningSettings(freeze=True)) is None
    assert suited_head_rate(1e-4, TuningSettings(lora=8)) is None


@pytest.mark.parametrize(
    ("given", "first"),
    [({}, 30.0), ({"head_rate": 2.0}, 2.0), ({"freeze": True}, 1.0), ({"few_shot": True, "steps": None}, 1.0)],
)
def test_a_run_has_the_heads_rate_that_suits_or_is_given(given, first, monkeypatch):
    made = []
    real = loop.make_optimizer
    monkeypatch.setattr(loop, "make_optimizer", lambda *args: made.append(real(*args)) or made[-1])
    finetuned(tiny.model(("mlm",), layers=2), learning_rate=1e-4, **given)
    scales = {group["scale"] for optimizer in made for group in optimizer.param_groups}
    assert scales == {1.0, first}


def finetuned(start, out=None, callbacks=(), **own):
    given = {"steps": 6, "batch_size": 8, "micro_tokens": 80, "metric": None, "report": False} | own
    fixed = {"device": "cpu", "precision": "float32", "dropout": 0.1, "seed": 2, "max_length": 32}
    return bw.finetune("classify", base=start, train=ROWS, out=out, callbacks=callbacks, **fixed | given)


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


@pytest.mark.parametrize("pooler", [True, False])
def test_a_frozen_encoder_stays_to_the_bit_but_for_a_pooler_that_the_base_lacks(pooler):
    start = tiny.model(("mlm",), layers=2)
    if not pooler:
        words = start.tokenizer
        start = Model.random(tiny.config(layers=2, embeddings__vocab_size=words.size), words, [HeadConfig(kind="mlm")])
    before = start.encoder.state_dict()
    assert any(name.startswith("pooler.") for name in before) == pooler
    result = finetuned(start, freeze=True, steps=3)
    after = result.model.encoder.state_dict()
    new = set() if pooler else {"pooler.dense.weight", "pooler.dense.bias"}
    assert after.keys() - before.keys() == new
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert all(parameter.requires_grad for parameter in result.model.encoder.parameters())


def test_the_run_says_what_was_chosen_and_why(capsys):
    finetuned(tiny.model(("mlm",), layers=2), steps=None, epochs=1, lora=3, average=0.9, layer_decay=0.5)
    finetuned(tiny.model(("mlm",), layers=2), steps=None, learning_rate=1e-4, patience=1, metric="best")
    said = " ".join(capsys.readouterr().err.split())
    assert "(1 epoch), learning rate 0.003 (which suits width" in said
    assert "linear schedule, 0.5 of it from layer to layer, weights averaged by 0.9, LoRA of rank 3" in said
    assert "parameters learn" in said
    assert (
        "(20 epochs, which suits 36 examples), learning rate 0.0001, linear schedule, 30 times that for the head, best"
        in said
    )


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


@pytest.mark.parametrize(
    ("recipe", "settings", "told"),
    [
        (SentenceRecipe("mean", stated=True), {}, True),
        (SentenceRecipe("mean", stated=True), {"reads": "pooled"}, False),
        (SentenceRecipe("mean", stated=True), {"reads": "mean"}, False),
        (SentenceRecipe("cls", stated=True), {}, False),
        (SentenceRecipe(), {}, False),
    ],
)
def test_that_a_base_was_trained_to_be_read_by_the_mean_is_told_unless_the_user_has_chosen(
    capsys, recipe, settings, told
):
    finetuned(tiny.model((), recipe=recipe), steps=1, **settings)
    assert ("--reads mean" in capsys.readouterr().err) is told


@pytest.mark.parametrize(
    ("learned", "settings", "told"), [(16, {}, True), (16, {"max_length": 24}, False), (128, {}, False)]
)
def test_that_a_base_has_not_learned_later_places_is_told(capsys, learned, settings, told):
    base = tiny.model(())
    base.max_length = learned
    finetuned(base, **{"max_length": None, "steps": 1} | settings)
    assert ("--max-length 16" in capsys.readouterr().err) is told
